/* test_audit_fuzz.c - random heaps against an oracle that knows what every word is, since it wrote it. */
#define _GNU_SOURCE
#include "route_host.h"

#include "audit/audit.h"

enum { N_ROUNDS = 60, N_BLOCKS = 300, N_ORDINARY = 8 };

typedef struct {
    uint64_t *words;
    size_t n_words;
    bool is_data, is_reached;
    uint8_t *kinds; /* one per word */
    int *leads_to;  /* likewise: index of a block, for kind INSIDE */
} node;

typedef enum { NUMBER, INSIDE, MODULE, DANGLING, N_KINDS } kind;

typedef struct { uint64_t relocations, findings, litter, scanned_bytes; } expected;

static node nodes[N_BLOCKS];
static void *ordinary[N_ORDINARY];

static void make_node(mh_arena *arena, node *n, uint64_t *seed)
{
    bool is_large = harness_below(seed, 10) == 0;
    n->words = mh_malloc(arena, 1 + harness_below(seed, is_large ? 50000 : 500));
    CHECK(n->words != NULL);
    n->n_words = mh_usable_size(n->words) / 8;
    n->kinds = calloc(n->n_words, 1);
    n->leads_to = calloc(n->n_words, sizeof *n->leads_to);
    n->is_reached = false;
    n->is_data = harness_below(seed, 5) == 0;
    if (n->is_data)
        CHECK(mhi_arena_mark_data(arena, n->words));
}

/* Words that count in blocks of any size, whatever stands beside them. */
static uint64_t make_word(const guest *g, node *n, size_t i, uint64_t *seed)
{
    const void *in_module[] = { (void *)g->malloc, (void *)g->free, g->number, g->table, g, g->literal };
    n->kinds[i] = harness_below(seed, 4) == 0 ? (uint8_t)harness_below(seed, N_KINDS) : NUMBER;
    switch ((kind)n->kinds[i]) {
    case INSIDE:
        n->leads_to[i] = (int)harness_below(seed, N_BLOCKS);
        node *to = &nodes[n->leads_to[i]];
        return (uint64_t)to->words + harness_below(seed, to->n_words * 8);
    case MODULE: return (uint64_t)in_module[harness_below(seed, 6)];
    case DANGLING: return (uint64_t)ordinary[harness_below(seed, N_ORDINARY)];
    default: return harness_below(seed, 2) == 0 ? harness_below(seed, 4096) : harness_random(seed) | 1ull << 63;
    }
}

static void expect(expected *e, node *n)
{
    if (n->is_reached)
        return;
    n->is_reached = true;
    e->litter--;
    if (n->is_data)
        return;
    e->scanned_bytes += n->n_words * 8;
    for (size_t i = 0; i < n->n_words; i++) {
        e->relocations += n->kinds[i] == MODULE;
        e->findings += n->kinds[i] == DANGLING;
        if (n->kinds[i] == INSIDE)
            expect(e, &nodes[n->leads_to[i]]);
    }
}

static void check_relocations(mh_arena *arena, const mhi_audit *audit)
{
    mhi_arena_layout layout;
    mhi_arena_read_layout(arena, &layout);
    for (uint64_t i = 0; i < audit->n_relocations; i++) {
        const mhi_relocation *r = &audit->relocations[i];
        CHECK(i == 0 || audit->relocations[i - 1].place < r->place);
        CHECK_EQUAL(*(uint64_t *)(layout.address + r->place), audit->modules[r->module].base + r->target);
    }
}

static void run_round(uint64_t *seed)
{
    const guest *g = load_guest();
    mh_error err;
    mh_arena *arena;
    mhi_audit audit;
    expected e = { .litter = N_BLOCKS };
    CHECK_OK(mh_arena_new(&arena, 1 << 30, &err), err);
    for (int i = 0; i < N_BLOCKS; i++)
        make_node(arena, &nodes[i], seed);
    for (int i = 0; i < N_BLOCKS; i++) /* few pointers into the arena lie in most blocks, so that some are litter */
        for (size_t j = 0; j < nodes[i].n_words; j++)
            nodes[i].words[j] = i % 8 == 0 || j < 8 ? make_word(g, &nodes[i], j, seed) : 0;
    uint64_t roots[2];
    for (int i = 0; i < 2; i++) {
        node *root = &nodes[harness_below(seed, N_BLOCKS)];
        roots[i] = (uint64_t)root->words + harness_below(seed, root->n_words * 8);
        expect(&e, root);
    }
    CHECK_OK(mhi_arena_seal(arena, &err), err);
    CHECK_OK(mhi_audit_run(&audit, arena, roots, 2, &err), err);
    CHECK_EQUAL(audit.summary.live_blocks, N_BLOCKS);
    CHECK_EQUAL(audit.summary.litter_blocks, e.litter);
    CHECK_EQUAL(audit.summary.scanned_bytes, e.scanned_bytes);
    CHECK_EQUAL(audit.summary.relocations, e.relocations);
    CHECK_EQUAL(audit.summary.findings, e.findings);
    check_relocations(arena, &audit);
    mhi_audit_release(&audit);
    mh_arena_delete(arena);
    for (int i = 0; i < N_BLOCKS; i++) {
        free(nodes[i].kinds);
        free(nodes[i].leads_to);
    }
}

TEST(random_heaps_are_judged_as_they_were_made)
{
    uint64_t seed = harness_seed();
    for (int i = 0; i < N_ORDINARY; i++)
        ordinary[i] = malloc(100);
    for (int i = 0; i < N_ROUNDS; i++)
        run_round(&seed);
    for (int i = 0; i < N_ORDINARY; i++)
        free(ordinary[i]);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }

/* test_audit.c - which words of an arena become relocations, which are findings, and which are nothing. */
#define _GNU_SOURCE
#include "route_host.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>

#include "audit/audit.h"

static mhi_audit audit; /* of the last run_audit; each test releases it */

static mh_arena *new_arena(void)
{
    mh_error err;
    mh_arena *arena;
    CHECK_OK(mh_arena_new(&arena, 1 << 30, &err), err);
    return arena;
}

/* A block all of whose words are zero. */
static uint64_t *new_block(mh_arena *arena, size_t size)
{
    uint64_t *block = mh_malloc(arena, size);
    CHECK(block != NULL);
    return memset(block, 0, mh_usable_size(block));
}

static void run_audit(mh_arena *arena, const void *root)
{
    mh_error err;
    uint64_t roots[] = { (uint64_t)root };
    CHECK_OK(mhi_arena_seal(arena, &err), err);
    CHECK_OK(mhi_audit_run(&audit, arena, roots, 1, &err), err);
    CHECK_EQUAL(audit.summary.relocations, audit.n_relocations);
}

static void finish(mh_arena *arena)
{
    mhi_audit_release(&audit);
    mh_arena_delete(arena);
}

/* Relocation i leads from `place` to `address` in the library of this name. */
static void check_relocation(mh_arena *arena, uint64_t i, const void *place, const void *address, const char *library)
{
    mhi_arena_layout layout;
    mhi_arena_read_layout(arena, &layout);
    CHECK(i < audit.n_relocations);
    const mhi_relocation *relocation = &audit.relocations[i];
    const mhi_module *module = &audit.modules[relocation->module];
    CHECK_EQUAL(relocation->place, (uint64_t)place - layout.address);
    CHECK_EQUAL(module->base + relocation->target, (uint64_t)address);
    CHECK(strstr(module->path, library) != NULL);
}

static void check_finding(uint32_t i, const void *place, const void *value, int target)
{
    CHECK(i < audit.n_findings);
    CHECK_EQUAL(audit.findings[i].block + audit.findings[i].offset, (uint64_t)place);
    CHECK_EQUAL(audit.findings[i].value, (uint64_t)value);
    CHECK_EQUAL(audit.findings[i].target, target);
}

TEST(pointers_into_modules_become_relocations_in_order)
{
    const guest *g = load_guest();
    mh_arena *arena = new_arena();
    uint64_t *block = new_block(arena, 64);
    const void *targets[] = { g, g->number, g->literal + 2, (void *)g->malloc, g->table };
    for (int i = 4; i >= 0; i--)
        block[i] = (uint64_t)targets[i];
    block[5] = (uint64_t)&audit; /* in the program itself */
    run_audit(arena, block);
    CHECK_EQUAL(audit.n_relocations, 6);
    CHECK_EQUAL(audit.summary.findings, 0);
    for (uint64_t i = 0; i < 5; i++)
        check_relocation(arena, i, &block[i], targets[i], "/libroute_guest.so");
    check_relocation(arena, 5, &block[5], &audit, "/test_audit");
    CHECK_EQUAL(audit.n_modules, 2);
    CHECK_EQUAL(audit.modules[0].n_relocations, 5);
    CHECK(audit.modules[0].build_id_bytes > 0 && audit.modules[0].size_bytes > 4096);
    finish(arena);
}

TEST(pointers_into_the_ordinary_heap_are_found_with_their_owner)
{
    const guest *g = load_guest();
    void *ordinary = malloc(100), *huge = malloc(64 << 20); /* the latter is a mapping of its own */
    mh_arena *arena = begin_routing();
    uint64_t *block = g->calloc(8, 8);
    block[3] = (uint64_t)ordinary;
    block[5] = (uint64_t)huge;
    end_routing(arena);
    run_audit(arena, block);
    CHECK_EQUAL(audit.summary.findings, 2);
    check_finding(0, &block[3], ordinary, MH_TARGET_HEAP);
    check_finding(1, &block[5], huge, MH_TARGET_HEAP);
    CHECK_EQUAL(audit.findings[0].offset, 24);
    CHECK_EQUAL(audit.findings[0].block_bytes, 64);
    CHECK(strstr(audit.findings[0].owner, "libroute_guest.so") != NULL);
    CHECK_EQUAL(audit.n_relocations, 0);
    finish(arena);
    free(ordinary);
    free(huge);
}

static pthread_barrier_t barrier;

static void *lend_stack(void *place)
{
    uint64_t local[2] = { 0 };
    *(void **)place = local;
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return NULL;
}

TEST(pointers_into_stacks_are_found)
{
    pthread_t thread;
    uint64_t local = 0;
    mh_arena *arena = new_arena();
    uint64_t *block = new_block(arena, 32);
    pthread_barrier_init(&barrier, NULL, 2);
    CHECK_EQUAL(pthread_create(&thread, NULL, lend_stack, &block[1]), 0);
    pthread_barrier_wait(&barrier);
    block[0] = (uint64_t)&local;
    run_audit(arena, block);
    pthread_barrier_wait(&barrier);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
#ifndef __SANITIZE_ADDRESS__ /* which may keep locals in mappings of its own */
    CHECK(strcmp(audit.findings[0].target_name, "[stack]") == 0);
    check_finding(0, &block[0], &local, MH_TARGET_STACK);
    check_finding(1, &block[1], (void *)block[1], MH_TARGET_STACK);
#endif
    CHECK_EQUAL(audit.summary.findings, 2);
    finish(arena);
}

TEST(pointers_into_other_mappings_and_arenas_are_found)
{
    mh_arena *arena = new_arena(), *other = new_arena();
    uint64_t *block = new_block(arena, 32);
    int fd = open("/proc/self/exe", O_RDONLY);
    void *mapped = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
    CHECK(mapped != MAP_FAILED);
    block[0] = (uint64_t)mapped;
    block[1] = (uint64_t)new_block(other, 100);
    run_audit(arena, block);
    CHECK_EQUAL(audit.summary.findings, 2);
    check_finding(0, &block[0], mapped, MH_TARGET_MAPPING);
    check_finding(1, &block[1], (void *)block[1], MH_TARGET_ARENA);
    CHECK(strstr(audit.findings[0].target_name, "/test_audit") != NULL);
    finish(arena);
    mh_arena_delete(other);
    munmap(mapped, 4096);
    close(fd);
}

TEST(what_no_root_leads_to_is_litter_and_not_judged)
{
    mh_arena *arena = new_arena();
    void *ordinary = malloc(100);
    uint64_t *root = new_block(arena, 64), *middle = new_block(arena, 64), *last = new_block(arena, 64),
             *litter = new_block(arena, 64);
    root[2] = (uint64_t)(middle + 3); /* an interior pointer */
    middle[7] = (uint64_t)last;
    last[0] = (uint64_t)root;
    litter[0] = (uint64_t)ordinary;
    litter[1] = (uint64_t)root;
    run_audit(arena, root + 5);
    CHECK_EQUAL(audit.summary.live_blocks, 4);
    CHECK_EQUAL(audit.summary.litter_blocks, 1);
    CHECK_EQUAL(audit.summary.scanned_bytes, 3 * 64);
    CHECK_EQUAL(audit.summary.findings, 0);
    finish(arena);
    free(ordinary);
}

TEST(data_blocks_are_not_read)
{
    mh_arena *arena = new_arena();
    void *ordinary = malloc(100);
    uint64_t *root = new_block(arena, 64), *data = new_block(arena, 1 << 16);
    root[0] = (uint64_t)data;
    data[0] = (uint64_t)ordinary;
    data[1] = (uint64_t)load_guest()->table;
    CHECK(mhi_arena_mark_data(arena, data));
    run_audit(arena, root);
    CHECK_EQUAL(audit.summary.findings + audit.n_relocations + audit.summary.litter_blocks, 0);
    CHECK_EQUAL(audit.summary.data_bytes, 1 << 16);
    CHECK_EQUAL(audit.summary.scanned_bytes, 64);
    finish(arena);
    free(ordinary);
}

TEST(numbers_and_dead_addresses_are_nothing)
{
    mh_arena *arena = new_arena();
    char *ordinary = malloc(100);
    uint64_t *block = new_block(arena, 128), *freed = new_block(arena, 64);
    uint64_t words[] = { 0,
                         1,
                         4095,
                         65536,
                         UINT64_MAX,
                         1ull << 47,
                         0x3ff0000000000000,
                         (uint64_t)freed,
                         (uint64_t)(ordinary + 1),
                         (uint64_t)load_guest()->table << 16,
                         0xffffffffff600000 /* vsyscall */ };
    memcpy(block, words, sizeof words);
    mh_free(freed);
    run_audit(arena, block);
    CHECK_EQUAL(audit.summary.findings + audit.n_relocations + audit.summary.litter_blocks, 0);
    finish(arena);
    free(ordinary);
}

TEST(what_the_last_user_of_a_block_left_is_no_pointer)
{
    const guest *g = load_guest();
    uint64_t *ordinary = malloc(100), **blocks;
    mh_arena *arena = begin_routing();
    blocks = g->malloc(64 * sizeof *blocks);
    /* of 16 bytes to 90 KB, resized so that also what is added comes from the one before */
    for (size_t i = 0; i < 64; i++) {
        size_t size = 16 + i * i * 23;
        uint64_t *used = g->malloc(size);
        for (size_t j = 0; j < g->malloc_usable_size(used) / 8; j++)
            used[j] = (uint64_t)ordinary;
        g->free(used);
        blocks[i] = i % 3 == 0   ? g->malloc(size - 8)
                    : i % 3 == 1 ? g->realloc(g->malloc(size / 2), size)
                                 : g->memalign(16, size);
    }
    end_routing(arena);
    run_audit(arena, blocks);
    CHECK_EQUAL(audit.summary.litter_blocks, 0);
    CHECK_EQUAL(audit.summary.findings, 0);
    finish(arena);
    free(ordinary);
}

TEST(findings_past_those_kept_are_counted)
{
    mh_arena *arena = new_arena();
    char *ordinary = malloc(100);
    uint64_t *block = new_block(arena, 1024);
    for (int i = 0; i < 100; i++)
        block[i] = (uint64_t)ordinary;
    run_audit(arena, block);
    CHECK_EQUAL(audit.summary.findings, 100);
    CHECK_EQUAL(audit.n_findings, MHI_FINDINGS_MAX);
    finish(arena);
    free(ordinary);
}

TEST(a_large_array_of_strings_is_relocated_even_where_they_share_tails)
{
    const guest *g = load_guest();
    mh_arena *arena = new_arena();
    uint64_t *block = new_block(arena, 1 << 16);
    for (int i = 0; i < 1 << 13; i++)
        /* the linker stores "tring" as the end of "string" */
        block[i] = (uint64_t)(i % 4 == 0 ? g->literal + 3 : g->literal);
    run_audit(arena, block);
    CHECK_EQUAL(audit.n_relocations, 1 << 13);
    finish(arena);
}

TEST(a_single_function_pointer_in_a_large_block_is_relocated)
{
    const guest *g = load_guest();
    mh_arena *arena = new_arena();
    uint64_t *block = new_block(arena, 1 << 16);
    block[1000] = (uint64_t)g->malloc;
    block[2000] = (uint64_t)g->number;
    run_audit(arena, block);
    CHECK_EQUAL(audit.n_relocations, 2);
    finish(arena);
}

/* The worst that numbers can do: pairs of 32-bit integers whose upper halves are those of a library's addresses, and
 * whose lower ones are any. Of 2 ** 20 such words, many point into the library, most of them at nothing that a pointer
 * would point at. */
TEST(integers_that_look_like_addresses_are_left_alone_in_large_blocks)
{
    const guest *g = load_guest();
    uint64_t seed = harness_seed();
    mh_arena *arena = new_arena();
    size_t n_words = 1 << 20;
    uint64_t *block = new_block(arena, n_words * 8);
    for (size_t i = 0; i < n_words; i++)
        block[i] = (uint64_t)g->number >> 32 << 32 | (uint32_t)harness_random(&seed);
    run_audit(arena, block);
    printf("of %zu words that share the upper half of a library's address, %llu were taken for pointers into modules "
           "and %llu for others\n",
           n_words, (unsigned long long)audit.n_relocations, (unsigned long long)audit.summary.findings);
    CHECK(audit.n_relocations + audit.summary.findings <= n_words / 10000);
    finish(arena);
}

static bool count_module(void *context, const mhi_module *module)
{
    int *n_found = context;
    bool is_ours = strstr(module->path, "/libroute_guest.so") != NULL || strstr(module->path, "/test_audit") != NULL;
    *n_found += is_ours && module->build_id_bytes == 20 && module->base % 4096 == 0;
    return true;
}

TEST(the_program_and_its_libraries_are_listed_with_their_build_ids)
{
    int n_found = 0;
    load_guest();
    mhi_modules_each(count_module, &n_found);
    CHECK_EQUAL(n_found, 2);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }

/* audit.c - marks the blocks that the roots lead to, and judges every word that points out of the arena.
 *
 * Marking is conservative: a word with the address of any byte of a live block keeps that block. Blocks that no pointer
 * leads to (caches of libraries, leaked blocks) are litter: they are saved, but a later run can't reach them, so their
 * pointers do not matter. For the same reason, a block whose only pointer is hidden (compressed, XORed, in a block
 * marked as data) is litter, and its pointers out of the arena are not relocated; mh_keep is for such blocks.
 */
#define _GNU_SOURCE
#include "audit/audit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/array.h"
#include "base/pages.h"
#include "error.h"
#include "audit/targets.h"
#include "route/route.h"
#include "sys/sys.h"

enum { LARGE_BLOCK = 4 << 10 /* bytes: from here on a word needs evidence, see targets.c; arbitrary */ };

typedef struct {
    uint64_t offset, word;
    mhi_target target;
    mhi_evidence evidence;
} candidate;

typedef struct {
    const mh_arena *arena;
    mhi_arena_layout layout;
    uint64_t data_start;
    mhi_targets targets;
    uint64_t *marks; /* one bit per 16 bytes of data: the live block that begins there was reached */
    size_t marks_bytes;
    mhi_block *pending; /* reached, not yet read */
    size_t n_pending, pending_capacity;
    candidate *candidates; /* of the block being read */
    size_t n_candidates, candidates_capacity;
    size_t n_against; /* words of this block that look like addresses but are none */
    uint64_t relocations_capacity;
    uint32_t *module_numbers; /* of targets.modules in the result, plus one; 0: not there yet */
    uint64_t n_reached;
    mhi_audit *audit;
    bool is_short; /* memory ran out: the result is invalid */
} auditor;

/* Room for one more item: the array, perhaps moved, or NULL with is_short set. */
static void *grow(auditor *a, void *items, uint64_t n_items, uint64_t *capacity, size_t item_bytes)
{
    void *larger = mhi_array_grow(items, n_items, capacity, item_bytes);
    a->is_short |= larger == NULL;
    return larger;
}

/* ---- Marking ---- */

static void reach(auditor *a, uint64_t address)
{
    mhi_block block;
    if (!mhi_arena_find_block(a->arena, address, &block))
        return;
    uint64_t bit = (block.address - a->data_start) / 16;
    if (a->marks[bit / 64] >> (bit % 64) & 1)
        return;
    a->marks[bit / 64] |= 1ull << (bit % 64);
    a->n_reached++;
    if (block.is_data)
        return;
    mhi_block *pending = grow(a, a->pending, a->n_pending, &a->pending_capacity, sizeof *pending);
    if (pending == NULL)
        return;
    a->pending = pending;
    a->pending[a->n_pending++] = block;
}

/* Index of a module in the result, which takes over the module's path. */
static uint32_t number_of(auditor *a, uint32_t i)
{
    mhi_audit *audit = a->audit;
    if (a->module_numbers[i] == 0) {
        mhi_module *module = &a->targets.modules[i].module;
        audit->modules[audit->n_modules++] = *module;
        module->path = NULL;
        a->module_numbers[i] = audit->n_modules;
    }
    return a->module_numbers[i] - 1;
}

static void consider(auditor *a, const mhi_block *block, uint64_t offset, uint64_t word)
{
    if (word - a->layout.address < a->layout.data_offset + a->layout.capacity_bytes)
        return; /* into the arena's own tables or free space, which a later run has at the same address */
    mhi_target target = mhi_targets_find(&a->targets, word);
    if (target.kind == MHI_TARGET_PROGRAM)
        number_of(a, target.module);
    if (target.kind == MHI_TARGET_PROGRAM || target.kind == MHI_TARGET_NONE)
        return;
    mhi_evidence evidence = mhi_targets_weigh(&a->targets, word, &target, block->size_bytes >= LARGE_BLOCK);
    if (evidence == MHI_NO_POINTER) {
        a->n_against++;
        return;
    }
    candidate *candidates = grow(a, a->candidates, a->n_candidates, &a->candidates_capacity, sizeof *candidates);
    if (candidates == NULL)
        return;
    a->candidates = candidates;
    a->candidates[a->n_candidates++] = (candidate){ offset, word, target, evidence };
}

/* ---- Judging ---- */

static void add_relocation(auditor *a, const mhi_block *block, const candidate *c)
{
    mhi_audit *audit = a->audit;
    mhi_relocation *relocations =
        grow(a, audit->relocations, audit->n_relocations, &a->relocations_capacity, sizeof *relocations);
    if (relocations == NULL)
        return;
    audit->relocations = relocations;
    uint32_t module = number_of(a, c->target.module);
    audit->relocations[audit->n_relocations++] = (mhi_relocation){
        .place = block->address + c->offset - a->layout.address,
        .target = c->word - audit->modules[module].base,
        .module = module,
    };
    audit->modules[module].n_relocations++;
}

static void add_finding(auditor *a, const mhi_block *block, const candidate *c)
{
    mhi_audit *audit = a->audit;
    audit->summary.findings++;
    if (audit->n_findings == MHI_FINDINGS_MAX)
        return;
    mh_finding *finding = &audit->findings[audit->n_findings++];
    *finding = (mh_finding){ .block = block->address,
                             .block_bytes = block->size_bytes,
                             .offset = c->offset,
                             .value = c->word,
                             .target = c->target.kind };
    const char *name = c->target.mapping->name;
    snprintf(finding->owner, sizeof finding->owner, "%s", mhi_route_owner_path(block->owner));
    snprintf(finding->target_name, sizeof finding->target_name, "%s%s", name[0] == '\0' ? "anonymous memory" : name,
             c->target.mapping->is_deleted ? " (deleted)" : "");
}

/* E2 of targets.c; in small blocks all words are certain. */
static void judge(auditor *a, const mhi_block *block)
{
    size_t n_weak = 0;
    for (size_t i = 0; i < a->n_candidates; i++)
        n_weak += a->candidates[i].evidence == MHI_WEAK;
    bool all_count = a->n_candidates - n_weak > n_weak + a->n_against;
    for (size_t i = 0; i < a->n_candidates; i++) {
        const candidate *c = &a->candidates[i];
        if (!all_count && c->evidence != MHI_CERTAIN)
            continue;
        if (c->target.kind == MHI_TARGET_MODULE)
            add_relocation(a, block, c);
        else
            add_finding(a, block, c);
    }
    a->n_candidates = a->n_against = 0;
}

static void read_block(auditor *a, const mhi_block *block)
{
    const uint64_t *words = (const uint64_t *)block->address;
    size_t n_words = block->size_bytes / sizeof *words;
    for (size_t i = 0; i < n_words; i++) {
        uint64_t word = words[i];
        if (!mhi_targets_may_contain(&a->targets, word))
            continue;
        if (word - a->data_start < a->layout.data_bytes)
            reach(a, word);
        else
            consider(a, block, i * sizeof *words, word);
    }
    a->audit->summary.scanned_bytes += block->size_bytes;
    judge(a, block);
}

/* ---- The run ---- */

static bool count_block(void *context, const mhi_block *block)
{
    auditor *a = context;
    a->audit->summary.live_blocks++;
    if (block->is_data)
        a->audit->summary.data_bytes += block->size_bytes;
    return true;
}

static int compare_relocations(const void *a, const void *b)
{
    uint64_t x = ((const mhi_relocation *)a)->place, y = ((const mhi_relocation *)b)->place;
    return x < y ? -1 : x > y;
}

static int prepare(auditor *a, mh_error *err)
{
    mhi_arena_read_layout(a->arena, &a->layout);
    a->data_start = a->layout.address + a->layout.data_offset;
    a->marks_bytes = a->layout.data_bytes / 16 / 8 + MHI_PAGE;
    int status = mhi_targets_read(&a->targets, err);
    if (status != MH_OK)
        return status;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE; /* accessed only where blocks begin */
    int result = mhi_sys_mmap((void **)&a->marks, NULL, a->marks_bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (result < 0)
        return mhi_fail_sys(err, result, "cannot map the audit's marks");
    a->module_numbers = calloc(a->targets.n_modules, sizeof *a->module_numbers);
    a->audit->modules = calloc(a->targets.n_modules, sizeof *a->audit->modules);
    a->audit->findings = calloc(MHI_FINDINGS_MAX, sizeof *a->audit->findings);
    a->is_short = a->module_numbers == NULL || a->audit->modules == NULL || a->audit->findings == NULL;
    return MH_OK;
}

static void run(auditor *a, const uint64_t *roots, size_t n_roots)
{
    mhi_audit *audit = a->audit;
    for (size_t i = 0; i < n_roots; i++)
        reach(a, roots[i]);
    while (a->n_pending > 0 && !a->is_short) {
        mhi_block block = a->pending[--a->n_pending];
        read_block(a, &block);
    }
    mhi_arena_each_block(a->arena, count_block, a);
    audit->summary.litter_blocks = audit->summary.live_blocks - a->n_reached;
    audit->summary.relocations = audit->n_relocations;
    if (audit->n_relocations > 0)
        qsort(audit->relocations, audit->n_relocations, sizeof *audit->relocations, compare_relocations);
}

static void release(auditor *a)
{
    if (a->marks != NULL)
        mhi_sys_munmap(a->marks, a->marks_bytes);
    free(a->pending);
    free(a->candidates);
    free(a->module_numbers);
    mhi_targets_release(&a->targets);
}

int mhi_audit_run(mhi_audit *audit, const mh_arena *arena, const uint64_t *roots, size_t n_roots, mh_error *err)
{
    *audit = (mhi_audit){ 0 };
    auditor a = { .arena = arena, .audit = audit, .targets = { .memory_fd = -1 } };
    int status = prepare(&a, err);
    if (status == MH_OK && !a.is_short)
        run(&a, roots, n_roots);
    if (status == MH_OK && a.is_short)
        status = mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "no memory to audit the arena");
    release(&a);
    if (status != MH_OK)
        mhi_audit_release(audit);
    return status;
}

void mhi_audit_release(mhi_audit *audit)
{
    for (uint32_t i = 0; i < audit->n_modules; i++)
        free(audit->modules[i].path);
    free(audit->modules);
    free(audit->relocations);
    free(audit->findings);
    *audit = (mhi_audit){ 0 };
}

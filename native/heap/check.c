/* check.c - mh_check: walks everything and proves the invariants, S1 to S4 of span.c and B1, B2 of slab.c.
 *
 * Blocks in caches are found by marking them in the live map with a value that no live block has, so that a block in
 * two caches, in a cache and free, or in none of the three states of B1 is detected. The marks are gone at the end.
 */
#include <errno.h>

#include "base/memory.h"
#include "error.h"
#include "heap/cache.h"

enum { IN_CACHE = MHI_BLOCK_DATA }; /* a data block without an owner */

typedef struct {
    const mh_arena *arena;
    mh_error *err;
    bool was_free; /* the previous span */
    uint64_t free_spans, live_small, live_large, large_bytes;
    uint64_t slabs[MHI_CLASSES], partial_slabs[MHI_CLASSES], free_blocks[MHI_CLASSES];
} walk;

#define BROKEN(w, ...) mhi_fail((w)->err, MH_ERR_CORRUPT, 0, __VA_ARGS__)

/* ---- Caches ---------------------------------------------------------------------------------------------------- */

static int mark_cached(walk *w, uint32_t c, const void *block)
{
    uint64_t offset = (uintptr_t)block - w->arena->data, start, size_bytes;
    if (offset >= (uint64_t)w->arena->n_pages * MHI_PAGE || !mhi_block_around(w->arena, offset, &start, &size_bytes) ||
        start != offset)
        return BROKEN(w, "cached %p is no block", block);
    if (size_bytes != mhi_classes[c].block_bytes ||
        mhi_entry_kind(mhi_load_entry(w->arena, offset / MHI_PAGE)) != MHI_SLAB)
        return BROKEN(w, "%p of %llu bytes is cached as one of %u", block, (unsigned long long)size_bytes,
                      mhi_classes[c].block_bytes);
    if (mhi_load_live(w->arena, offset) != 0)
        return BROKEN(w, "%p is in a cache and %s", block,
                      mhi_load_live(w->arena, offset) == IN_CACHE ? "in a cache" : "live");
    mhi_store_live((mh_arena *)w->arena, offset, IN_CACHE);
    return MH_OK;
}

static int mark_caches(walk *w)
{
    for (const mhi_cache *cache = mhi_caches; cache != NULL; cache = cache->next) {
        if (mhi_cache_arena(cache) != w->arena)
            continue;
        for (uint32_t c = 0; c < MHI_CLASSES; c++)
            for (uint32_t i = 0; i < cache->bins[c].n; i++) {
                int status = mark_cached(w, c, cache->blocks[cache->bins[c].first + i]);
                if (status != MH_OK)
                    return status;
            }
    }
    return MH_OK;
}

static void unmark_caches(mh_arena *arena)
{
    for (const mhi_cache *cache = mhi_caches; cache != NULL; cache = cache->next)
        for (uint32_t c = 0; c < MHI_CLASSES && mhi_cache_arena(cache) == arena; c++)
            for (uint32_t i = 0; i < cache->bins[c].n; i++) {
                uint64_t offset = (uintptr_t)cache->blocks[cache->bins[c].first + i] - arena->data;
                if (offset < mhi_limit(arena) && mhi_load_live(arena, offset) == IN_CACHE)
                    mhi_store_live(arena, offset, 0);
            }
}

/* ---- Spans ------------------------------------------------------------------------------------------------------ */

/* Live map bytes that are not 0 in a span; the walk counts those at block starts, and the two must agree. */
static uint64_t count_live_bytes(const mh_arena *arena, uint32_t page, uint32_t n_pages)
{
    uint64_t n = 0, from = (uint64_t)page * MHI_PAGE, to = from + (uint64_t)n_pages * MHI_PAGE;
    for (uint64_t offset = from; offset < to; offset += MHI_GRAIN)
        n += mhi_load_live(arena, offset) != 0;
    return n;
}

static int check_free(walk *w, uint32_t page, uint32_t n_pages)
{
    const mh_arena *arena = w->arena;
    uint32_t dirty_pages = arena->spans[page].dirty_pages;
    if (w->was_free)
        return BROKEN(w, "free span at page %u was not joined with the one before", page);
    if (mhi_load_entry(arena, page + n_pages - 1) != mhi_entry(MHI_FREE, n_pages))
        return BROKEN(w, "free span at page %u does not end with its length", page);
    if (dirty_pages > n_pages)
        return BROKEN(w, "free span at page %u has %u dirty pages of %u", page, dirty_pages, n_pages);
    if (dirty_pages == 0 &&
        !mhi_is_zero((void *)(arena->data + (uint64_t)page * MHI_PAGE), (uint64_t)n_pages * MHI_PAGE))
        return BROKEN(w, "free span at page %u is called zero and is not", page);
    if (count_live_bytes(arena, page, n_pages) != 0)
        return BROKEN(w, "free span at page %u has live blocks", page);
    w->free_spans++;
    return MH_OK;
}

static int check_large(walk *w, uint32_t page, uint32_t n_pages)
{
    for (uint32_t i = 1; i < n_pages; i++)
        if (mhi_load_entry(w->arena, page + i) != mhi_entry(MHI_INSIDE, i))
            return BROKEN(w, "page %u does not lead back to its large block at page %u", page + i, page);
    if (mhi_load_live(w->arena, (uint64_t)page * MHI_PAGE) == 0 || count_live_bytes(w->arena, page, n_pages) != 1)
        return BROKEN(w, "large block at page %u is not the one live block there", page);
    w->live_large++;
    w->large_bytes += (uint64_t)n_pages * MHI_PAGE;
    return MH_OK;
}

static int check_blocks(walk *w, uint32_t page, uint32_t c)
{
    const mh_arena *arena = w->arena;
    const mhi_class *class = &mhi_classes[c];
    const uint64_t *bits = mhi_slab_bits(&arena->spans[page]);
    uint64_t n_free = 0, n_marked = 0, offset = (uint64_t)page * MHI_PAGE;
    for (uint32_t i = 0; i < mhi_round_up(class->n_blocks, 64); i++, offset += class->block_bytes) {
        bool is_free = (bits[i / 64] >> i % 64 & 1) != 0;
        if (i >= class->n_blocks && is_free)
            return BROKEN(w, "slab at page %u has a free block behind its last", page);
        if (i >= class->n_blocks)
            continue;
        uint8_t live = mhi_load_live(arena, offset);
        if (is_free == (live != 0))
            return BROKEN(w, "block %u of the slab at page %u is %s", i, page,
                          !is_free           ? "in no state"
                          : live == IN_CACHE ? "free and in a cache"
                                             : "free and live");
        n_free += is_free;
        n_marked += live != 0;
        w->live_small += live != 0 && live != IN_CACHE;
    }
    if (n_free != arena->spans[page].n_free)
        return BROKEN(w, "slab at page %u has %llu free blocks and says %u", page, (unsigned long long)n_free,
                      arena->spans[page].n_free);
    if (n_marked != count_live_bytes(arena, page, class->n_pages))
        return BROKEN(w, "slab at page %u has a live mark inside a block", page);
    w->free_blocks[c] += n_free;
    w->partial_slabs[c] += n_free > 0;
    w->slabs[c]++;
    return MH_OK;
}

static int check_slab(walk *w, uint32_t page, uint32_t c)
{
    if (c >= MHI_CLASSES || page + mhi_classes[c].n_pages > w->arena->n_pages)
        return BROKEN(w, "slab at page %u: no such class, or past the end", page);
    for (uint32_t i = 0; i < mhi_classes[c].n_pages; i++)
        if (mhi_load_entry(w->arena, page + i) != mhi_entry(MHI_SLAB, mhi_slab_value(c, i)))
            return BROKEN(w, "page %u is not page %u of its slab", page + i, i);
    return check_blocks(w, page, c);
}

static int check_span(walk *w, uint32_t page)
{
    uint32_t entry = mhi_load_entry(w->arena, page), kind = mhi_entry_kind(entry), n_pages = mhi_entry_value(entry);
    if (kind == MHI_SLAB)
        return check_slab(w, page, mhi_entry_class(entry));
    if (kind == MHI_INSIDE || n_pages == 0 || n_pages > w->arena->n_pages - page)
        return BROKEN(w, "no span begins at page %u", page);
    return kind == MHI_FREE ? check_free(w, page, n_pages) : check_large(w, page, n_pages);
}

static int check_spans(walk *w)
{
    int status = MH_OK;
    for (uint32_t page = 0; page < w->arena->n_pages && status == MH_OK; page += mhi_span_pages(w->arena, page)) {
        status = check_span(w, page);
        w->was_free = mhi_entry_kind(mhi_load_entry(w->arena, page)) == MHI_FREE;
    }
    return status;
}

/* ---- Lists and sums ---------------------------------------------------------------------------------------------- */

static int check_list(walk *w, const char *what, uint32_t i, uint32_t head, uint32_t kind, uint64_t *length)
{
    const mh_arena *arena = w->arena;
    uint32_t before = MHI_NO_PAGE;
    for (uint32_t page = head; page != MHI_NO_PAGE; before = page, page = arena->spans[page].next) {
        if (page >= arena->n_pages || arena->spans[page].prev != before || ++*length > arena->n_pages)
            return BROKEN(w, "%s %u: its list is broken at page %u", what, i, page);
        uint32_t entry = mhi_load_entry(arena, page);
        bool belongs = mhi_entry_kind(entry) == kind &&
                       (kind == MHI_FREE ? mhi_bin_of(mhi_entry_value(entry)) == i
                                         : mhi_entry_class(entry) == i && mhi_entry_index(entry) == 0 &&
                                               arena->spans[page].n_free > 0);
        if (!belongs)
            return BROKEN(w, "%s %u: the span at page %u does not belong in its list", what, i, page);
    }
    return MH_OK;
}

static int check_bins(walk *w)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < MHI_BINS; i++) {
        if ((w->arena->bins[i] != MHI_NO_PAGE) != (w->arena->bin_bits[i / 64] >> i % 64 & 1))
            return BROKEN(w, "bin %u and its bit do not agree", i);
        int status = check_list(w, "bin", i, w->arena->bins[i], MHI_FREE, &n);
        if (status != MH_OK)
            return status;
    }
    return n == w->free_spans
               ? MH_OK
               : BROKEN(w, "%llu free spans, %llu in bins", (unsigned long long)w->free_spans, (unsigned long long)n);
}

static int check_classes(walk *w)
{
    for (uint32_t c = 0; c < MHI_CLASSES; c++) {
        const mhi_class_state *state = &w->arena->classes[c];
        uint64_t n = 0;
        int status = check_list(w, "class", c, state->partial, MHI_SLAB, &n);
        if (status != MH_OK)
            return status;
        if (n != w->partial_slabs[c] || state->n_slabs != w->slabs[c] || state->n_free != w->free_blocks[c])
            return BROKEN(w, "class %u counts %u slabs with %llu free blocks, there are %llu with %llu", c,
                          state->n_slabs, (unsigned long long)state->n_free, (unsigned long long)w->slabs[c],
                          (unsigned long long)w->free_blocks[c]);
    }
    return MH_OK;
}

static int check_sums(walk *w)
{
    const mh_arena *arena = w->arena;
    if ((uint64_t)arena->n_pages * MHI_PAGE > mhi_limit(arena))
        return BROKEN(w, "%u pages in %llu bytes", arena->n_pages, (unsigned long long)mhi_limit(arena));
    if (arena->large_blocks != w->live_large || arena->large_bytes != w->large_bytes)
        return BROKEN(w, "%llu large blocks are counted, there are %llu", (unsigned long long)arena->large_blocks,
                      (unsigned long long)w->live_large);
    return MH_OK;
}

int mh_check(mh_arena *arena, mh_error *err)
{
    walk w = { .arena = arena, .err = err };
    if (arena->live == NULL)
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "an attached arena has no lists to check");
    int saved_errno = errno, status = mhi_pause(arena, err);
    if (status == MH_OK)
        status = mark_caches(&w);
    if (status == MH_OK)
        status = check_spans(&w);
    if (status == MH_OK)
        status = check_bins(&w);
    if (status == MH_OK)
        status = check_classes(&w);
    if (status == MH_OK)
        status = check_sums(&w);
    unmark_caches(arena);
    mhi_resume(arena);
    errno = saved_errno;
    return status;
}

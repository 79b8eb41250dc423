/* blocks.c - finding blocks by address, visiting all, wiping the memory between them. */
#include <string.h>

#include "base/memory.h"
#include "error.h"
#include "heap/cache.h"

/* Free runs of at least so many pages become holes, shorter ones are overwritten with zeros. On ext4 a hole takes 80 us
 * whatever its length; zeros take 0.2 to 0.6 us a page to write and 2 us to reach the disk. */
enum { PUNCH_PAGES = 32 };

/* The bytes of an adopted arena's page table are hostile: every value is checked before it leads anywhere. */
bool mhi_block_around(const mh_arena *arena, uint64_t offset, uint64_t *start, uint64_t *size_bytes)
{
    uint64_t page = offset / MHI_PAGE, n_pages = mhi_limit(arena) / MHI_PAGE;
    uint32_t entry = mhi_load_entry(arena, page);
    if (mhi_entry_kind(entry) == MHI_SLAB) {
        uint32_t c = mhi_entry_class(entry), index = mhi_entry_index(entry);
        if (c >= MHI_CLASSES || index >= mhi_classes[c].n_pages || index > page ||
            page - index + mhi_classes[c].n_pages > n_pages)
            return false;
        uint64_t base = (page - index) * MHI_PAGE, block = mhi_block_index(&mhi_classes[c], offset - base);
        *start = base + block * mhi_classes[c].block_bytes;
        *size_bytes = mhi_classes[c].block_bytes;
        return block < mhi_classes[c].n_blocks;
    }
    uint64_t back = 0;
    if (mhi_entry_kind(entry) == MHI_INSIDE) {
        back = mhi_entry_value(entry);
        if (back > page)
            return false;
        entry = mhi_load_entry(arena, page - back);
    }
    uint64_t length = mhi_entry_value(entry);
    if (mhi_entry_kind(entry) != MHI_LARGE || length <= back || length > n_pages - (page - back))
        return false;
    *start = (page - back) * MHI_PAGE;
    *size_bytes = length * MHI_PAGE;
    return true;
}

bool mhi_arena_find_block(const mh_arena *arena, uint64_t address, mhi_block *block)
{
    uint64_t offset = address - arena->data, start, size_bytes;
    uint8_t owner = MHI_OWNER_OTHERS;
    *block = (mhi_block){ 0 };
    if (offset >= mhi_limit(arena) || !mhi_block_around(arena, offset, &start, &size_bytes))
        return false;
    if (arena->live != NULL)
        owner = mhi_load_live(arena, start);
    if (owner == 0)
        return false;
    *block = (mhi_block){ .address = arena->data + start,
                          .size_bytes = size_bytes,
                          .owner = owner & MHI_OWNER_MASK,
                          .is_data = (owner & MHI_BLOCK_DATA) != 0 };
    return true;
}

bool mhi_arena_mark_data(mh_arena *arena, const void *address)
{
    mhi_block block;
    if (arena->live == NULL || !mhi_arena_find_block(arena, (uintptr_t)address, &block))
        return false;
    atomic_fetch_or_explicit(&arena->live[(block.address - arena->data) / MHI_GRAIN], MHI_BLOCK_DATA,
                             memory_order_relaxed);
    return true;
}

uint32_t mhi_span_pages(const mh_arena *arena, uint32_t page)
{
    uint32_t entry = mhi_load_entry(arena, page);
    return mhi_entry_kind(entry) == MHI_SLAB ? mhi_classes[mhi_entry_class(entry)].n_pages : mhi_entry_value(entry);
}

static bool visit_block(const mh_arena *arena, uint64_t offset, uint64_t size_bytes,
                        bool (*visit)(void *context, const mhi_block *block), void *context)
{
    uint8_t owner = mhi_load_live(arena, offset);
    mhi_block block = { .address = arena->data + offset,
                        .size_bytes = size_bytes,
                        .owner = owner & MHI_OWNER_MASK,
                        .is_data = (owner & MHI_BLOCK_DATA) != 0 };
    return owner == 0 || visit(context, &block);
}

void mhi_blocks_each(const mh_arena *arena, bool (*visit)(void *context, const mhi_block *block), void *context)
{
    for (uint32_t page = 0; page < arena->n_pages; page += mhi_span_pages(arena, page)) {
        uint32_t entry = mhi_load_entry(arena, page);
        uint64_t offset = (uint64_t)page * MHI_PAGE;
        if (mhi_entry_kind(entry) == MHI_LARGE &&
            !visit_block(arena, offset, (uint64_t)mhi_entry_value(entry) * MHI_PAGE, visit, context))
            return;
        if (mhi_entry_kind(entry) != MHI_SLAB)
            continue;
        const mhi_class *class = &mhi_classes[mhi_entry_class(entry)];
        for (uint32_t i = 0; i < class->n_blocks; i++, offset += class->block_bytes)
            if (!visit_block(arena, offset, class->block_bytes, visit, context))
                return;
    }
}

void mhi_arena_each_block(const mh_arena *arena, bool (*visit)(void *context, const mhi_block *block), void *context)
{
    mhi_blocks_each(arena, visit, context);
}

static bool count_owner(void *context, const mhi_block *block)
{
    mhi_owner_count *count = (mhi_owner_count *)context + block->owner;
    count->blocks++;
    count->bytes += block->size_bytes;
    return true;
}

void mhi_arena_count_owners(mh_arena *arena, mhi_owner_count counts[MHI_OWNER_MASK + 1])
{
    memset(counts, 0, (MHI_OWNER_MASK + 1) * sizeof *counts);
    mhi_pause(arena, NULL);
    mhi_blocks_each(arena, count_owner, counts);
    mhi_resume(arena);
}

/* ---- Wiping ---------------------------------------------------------------------------------------------------- */

/* Reads before it writes: an untouched page of the file stays clean, and is not written to the disk. */
static void write_zeros(mh_arena *arena, uint64_t from, uint64_t to)
{
    for (uint64_t end; from < to; from = end) {
        end = mhi_min(to, mhi_round_up(from + 1, MHI_PAGE));
        if (!mhi_is_zero((char *)arena->data + from, end - from))
            memset((char *)arena->data + from, 0, end - from);
    }
}

static void wipe(mh_arena *arena, uint64_t from, uint64_t to)
{
    uint64_t first = mhi_round_up(from, MHI_PAGE), last = mhi_page_start(to);
    if (last < first + PUNCH_PAGES * MHI_PAGE) {
        write_zeros(arena, from, to);
        return;
    }
    write_zeros(arena, from, first);
    mhi_backing_punch(arena, first, last - first);
    write_zeros(arena, last, to);
}

typedef struct {
    mh_arena *arena;
    uint64_t done; /* offset up to which all is live or wiped */
} wiping;

static bool wipe_before(void *context, const mhi_block *block)
{
    wiping *w = context;
    uint64_t offset = block->address - w->arena->data;
    if (offset > w->done)
        wipe(w->arena, w->done, offset);
    w->done = offset + block->size_bytes;
    return true;
}

int mhi_arena_wipe_free(mh_arena *arena, mh_error *err)
{
    if (!mhi_is_sealed(arena) || arena->live == NULL)
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "only a sealed arena that this process filled can be wiped");
    wiping w = { .arena = arena };
    mhi_blocks_each(arena, wipe_before, &w);
    if (mhi_limit(arena) > w.done)
        wipe(arena, w.done, mhi_limit(arena));
    return MH_OK;
}

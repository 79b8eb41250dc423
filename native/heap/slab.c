/* slab.c - small blocks: slabs of equal blocks, and a bit per block that says it is free.
 *
 * B1  A block of a slab is in exactly one state: free (its bit is set), in one thread's cache, or live (its live map
 *     byte is not 0).
 * B2  A slab is in its class's partial list exactly if it has free blocks.
 *
 * Threads take and return blocks by the dozen, so that the lock of a class and the search for bits cost once for many
 * blocks.
 */
#include <assert.h>
#include <string.h>

#include "heap/heap.h"

/* Least number of blocks and of pages of a slab; arbitrary: few enough pages that a program with one block of each
 * class stays small, enough blocks that a slab is rarely made. */
enum { SLAB_BLOCKS_MIN = 8, SLAB_PAGES_MIN = 8 };
/* Limits of a thread's stock of one class: blocks, and bytes (but always room for 8 blocks, lest every call go to the
 * slabs). */
enum { CACHE_BLOCKS_MAX = 256, CACHE_BLOCKS_MIN = 8, CACHE_BYTES = 65536 };

mhi_class mhi_classes[MHI_CLASSES];

static uint32_t block_bytes_of(uint32_t c) { return c < 4 ? MHI_GRAIN * (c + 1) : (5 + (c & 3)) << ((c >> 2) + 3); }

/* The smallest number of pages that wastes at most a sixteenth at its end. */
static uint32_t slab_pages_of(uint32_t block_bytes)
{
    uint32_t n_pages =
        (uint32_t)mhi_max(mhi_round_up(SLAB_BLOCKS_MIN * block_bytes, MHI_PAGE) / MHI_PAGE, SLAB_PAGES_MIN);
    while (n_pages * MHI_PAGE % block_bytes > n_pages * MHI_PAGE / 16)
        n_pages++;
    return n_pages;
}

void mhi_slab_init_classes(void)
{
    uint32_t cache_first = 0;
    for (uint32_t c = 0; c < MHI_CLASSES; c++) {
        mhi_class *class = &mhi_classes[c];
        uint32_t bytes = block_bytes_of(c), n_pages = slab_pages_of(bytes), in_cache = CACHE_BYTES / bytes;
        *class = (mhi_class){
            .block_bytes = bytes, .n_pages = n_pages, .n_blocks = n_pages * MHI_PAGE / bytes, .cache_first = cache_first
        };
        class->reciprocal = ((1u << 31) + bytes / MHI_GRAIN - 1) / (bytes / MHI_GRAIN);
        class->cache_blocks = in_cache > CACHE_BLOCKS_MAX   ? CACHE_BLOCKS_MAX
                              : in_cache < CACHE_BLOCKS_MIN ? CACHE_BLOCKS_MIN
                                                            : in_cache;
        cache_first += class->cache_blocks;
    }
    assert(cache_first == MHI_CACHE_BLOCKS);
}

void mhi_slab_init(mh_arena *arena)
{
    for (int c = 0; c < MHI_CLASSES; c++) {
        pthread_mutex_init(&arena->classes[c].lock, NULL);
        arena->classes[c].partial = MHI_NO_PAGE;
    }
}

static bool add_slab(mh_arena *arena, uint32_t c)
{
    const mhi_class *class = &mhi_classes[c];
    mhi_class_state *state = &arena->classes[c];
    bool is_zero;
    uint32_t page = mhi_span_alloc(arena, class->n_pages, MHI_PAGE, MHI_SLAB, c, &is_zero);
    if (page == MHI_NO_PAGE)
        return false;
    uint64_t *bits = mhi_slab_bits(&arena->spans[page]);
    memset(bits, 0xff, class->n_blocks / 64 * 8);
    if (class->n_blocks % 64 != 0)
        bits[class->n_blocks / 64] = (1ull << class->n_blocks % 64) - 1;
    arena->spans[page].n_free = class->n_blocks;
    mhi_list_push(arena, &state->partial, page);
    state->n_slabs++;
    state->n_free += class->n_blocks;
    return true;
}

static void drop_slab(mh_arena *arena, uint32_t c, uint32_t page)
{
    mhi_list_remove(arena, &arena->classes[c].partial, page);
    arena->classes[c].n_slabs--;
    arena->classes[c].n_free -= mhi_classes[c].n_blocks;
    mhi_span_free(arena, page, mhi_classes[c].n_pages);
}

/* Up to n free blocks of one slab; returns how many. The lowest comes last: a cache hands out its last block first, and
 * rising addresses suit the hardware prefetcher and the kernel's fault handling. */
static uint32_t take_from(mh_arena *arena, uint32_t page, uint32_t block_bytes, void **blocks, uint32_t n)
{
    mhi_span *slab = &arena->spans[page];
    uint64_t *bits = mhi_slab_bits(slab);
    uintptr_t base = arena->data + (uint64_t)page * MHI_PAGE;
    uint32_t taken = 0, wanted = (uint32_t)mhi_min(n, slab->n_free);
    for (uint32_t word = 0; taken < wanted; word++) {
        uint64_t rest = bits[word];
        for (; rest != 0 && taken < wanted; rest &= rest - 1)
            blocks[wanted - ++taken] = (void *)(base + (word * 64 + (uint32_t)__builtin_ctzll(rest)) * block_bytes);
        bits[word] = rest;
    }
    slab->n_free -= taken;
    return taken;
}

uint32_t mhi_slab_take(mh_arena *arena, uint32_t size_class, void **blocks, uint32_t n)
{
    mhi_class_state *state = &arena->classes[size_class];
    uint32_t taken = 0;
    pthread_mutex_lock(&state->lock);
    while (taken < n && (state->partial != MHI_NO_PAGE || (taken == 0 && add_slab(arena, size_class)))) {
        uint32_t page = state->partial;
        taken += take_from(arena, page, mhi_classes[size_class].block_bytes, blocks + taken, n - taken);
        if (arena->spans[page].n_free == 0)
            mhi_list_remove(arena, &state->partial, page);
    }
    state->n_free -= taken;
    pthread_mutex_unlock(&state->lock);
    return taken;
}

static void give_one(mh_arena *arena, uint32_t c, uint64_t offset)
{
    const mhi_class *class = &mhi_classes[c];
    mhi_class_state *state = &arena->classes[c];
    uint32_t page = (uint32_t)(offset / MHI_PAGE) - mhi_entry_index(mhi_load_entry(arena, offset / MHI_PAGE));
    mhi_span *slab = &arena->spans[page];
    uint64_t index = mhi_block_index(class, offset - (uint64_t)page * MHI_PAGE);
    mhi_slab_bits(slab)[index / 64] |= 1ull << index % 64;
    state->n_free++;
    if (slab->n_free++ == 0)
        mhi_list_push(arena, &state->partial, page);
    /* An empty slab goes back to the pages if that leaves free blocks enough for a thread that now fills its cache. */
    if (slab->n_free == class->n_blocks && state->n_free >= class->n_blocks + class->cache_blocks)
        drop_slab(arena, c, page);
}

void mhi_slab_give(mh_arena *arena, uint32_t size_class, void *const *blocks, uint32_t n)
{
    pthread_mutex_lock(&arena->classes[size_class].lock);
    for (uint32_t i = 0; i < n; i++)
        give_one(arena, size_class, (uintptr_t)blocks[i] - arena->data);
    pthread_mutex_unlock(&arena->classes[size_class].lock);
}

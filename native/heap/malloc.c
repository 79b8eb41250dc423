/* malloc.c - the malloc family.
 *
 * In the common case malloc takes the top block of a bin of the thread's cache and marks it in the live map; free looks
 * the block up there, then its class in the page table, and puts it on top of a bin: no lock, no atomic
 * read-modify-write, no touch of the block. In all other cases the fast functions change nothing and tail-call the
 * general ones: so they need no stack frame and no saved registers.
 */
#include <errno.h>
#include <string.h>

#include "heap/cache.h"

static void *refuse(int code)
{
    errno = code;
    return NULL;
}

/* ---- Small blocks -------------------------------------------------------------------------------------------- */

static bool refill(mh_arena *arena, mhi_cache *cache, uint32_t size_class)
{
    mhi_bin *bin = &cache->bins[size_class];
    bin->n = (uint16_t)mhi_slab_take(arena, size_class, &cache->blocks[bin->first], bin->max / 2);
    return bin->n > 0;
}

/* Gives back the oldest half: the top is likely in the CPU's cache. */
static void flush(mh_arena *arena, mhi_cache *cache, uint32_t size_class)
{
    mhi_bin *bin = &cache->bins[size_class];
    void **blocks = &cache->blocks[bin->first];
    uint16_t n = bin->max / 2;
    mhi_slab_give(arena, size_class, blocks, n);
    memmove(blocks, blocks + n, (size_t)(bin->n - n) * sizeof *blocks);
    bin->n = (uint16_t)(bin->n - n);
}

/* The bin is not empty. */
static inline void *pop(mhi_cache *cache, mhi_bin *bin) { return cache->blocks[bin->first + --bin->n]; }
/* The bin is not full. */
static inline void push(mhi_cache *cache, mhi_bin *bin, void *block) { cache->blocks[bin->first + bin->n++] = block; }

/* The class whose blocks hold the size and all have the alignment; MHI_CLASSES: none. Slabs begin at a page. */
static uint32_t aligned_class(size_t align_bytes, size_t size_bytes)
{
    uint32_t c = MHI_CLASSES;
    if (align_bytes <= MHI_PAGE && size_bytes <= MHI_SMALL_MAX)
        for (c = mhi_class_of(mhi_max(size_bytes, align_bytes));
             c < MHI_CLASSES && mhi_classes[c].block_bytes % align_bytes != 0;)
            c++;
    return c;
}

/* ---- Large blocks -------------------------------------------------------------------------------------------- */

static uint64_t pages_of(size_t size_bytes) { return size_bytes == 0 ? 1 : (size_bytes - 1) / MHI_PAGE + 1; }

static void *take_large(mh_arena *arena, size_t align_bytes, size_t size_bytes, bool *is_zero)
{
    uint32_t page = mhi_span_alloc(arena, pages_of(size_bytes), align_bytes, MHI_LARGE, 0, is_zero);
    return page == MHI_NO_PAGE ? NULL : (void *)(arena->data + (uint64_t)page * MHI_PAGE);
}

static void give_large(mh_arena *arena, uint64_t page, uint32_t n_pages)
{
    int saved_errno = errno; /* free must preserve errno */
    mhi_span_free(arena, (uint32_t)page, n_pages);
    errno = saved_errno;
}

/* ---- The family ---------------------------------------------------------------------------------------------- */

/* align_bytes is a power of two. Sizes beyond PTRDIFF_MAX are refused with all others beyond MHI_CAPACITY_MAX, by
 * mhi_span_alloc. */
static void *allocate(mh_arena *arena, size_t align_bytes, size_t size_bytes, uint8_t owner, bool *is_zero)
{
    mhi_cache *cache = mhi_enter(arena);
    if (cache == NULL)
        return refuse(ENOMEM);
    void *block = NULL;
    uint32_t c = aligned_class(align_bytes, size_bytes);
    if (c == MHI_CLASSES)
        block = take_large(arena, align_bytes, size_bytes, is_zero);
    else if (cache->bins[c].n > 0 || refill(arena, cache, c))
        block = pop(cache, &cache->bins[c]);
    if (block != NULL)
        mhi_store_live(arena, (uintptr_t)block - arena->data, owner);
    mhi_leave(arena, cache);
    return block == NULL ? refuse(ENOMEM) : block;
}

__attribute__((noinline)) static void *malloc_slowly(mh_arena *arena, size_t size_bytes, uint8_t owner)
{
    bool is_zero;
    return allocate(arena, MHI_GRAIN, size_bytes, owner, &is_zero);
}

static inline void *malloc_quickly(mh_arena *arena, size_t size_bytes, uint8_t owner)
{
    mhi_cache *cache = mhi_thread_cache;
    if (__builtin_expect(
            mhi_cache_arena(cache) != arena || size_bytes > MHI_SMALL_MAX || !mhi_enter_quickly(arena, cache), 0))
        return malloc_slowly(arena, size_bytes, owner);
    mhi_bin *bin = &cache->bins[mhi_class_of(size_bytes)];
    if (__builtin_expect(bin->n == 0, 0))
        return malloc_slowly(arena, size_bytes, owner);
    void *block = pop(cache, bin);
    atomic_store_explicit(&cache->live[((uintptr_t)block - cache->data) / MHI_GRAIN], owner, memory_order_relaxed);
    mhi_leave_quickly(cache);
    return block;
}

void *mhi_arena_malloc(mh_arena *arena, size_t size_bytes, uint8_t owner)
{
    return malloc_quickly(arena, size_bytes, owner);
}

void *mhi_arena_calloc(mh_arena *arena, size_t size_bytes, uint8_t owner)
{
    bool is_zero = false;
    if (size_bytes > MHI_SMALL_MAX) {
        void *block = allocate(arena, MHI_GRAIN, size_bytes, owner, &is_zero);
        return block == NULL || is_zero ? block : memset(block, 0, pages_of(size_bytes) * MHI_PAGE);
    }
    void *block = malloc_quickly(arena, size_bytes, owner);
    return block == NULL ? NULL : memset(block, 0, mhi_classes[mhi_class_of(size_bytes)].block_bytes);
}

void *mhi_arena_memalign(mh_arena *arena, size_t align_bytes, size_t size_bytes, uint8_t owner)
{
    bool is_zero;
    if (align_bytes == 0 || (align_bytes & (align_bytes - 1)) != 0)
        return refuse(EINVAL);
    return allocate(arena, align_bytes, size_bytes, owner, &is_zero);
}

/* The live map byte of what should be the start of a block, 0 for any other address. */
static inline uint8_t owner_of(const mh_arena *arena, uint64_t offset)
{
    return offset < mhi_limit(arena) && offset % MHI_GRAIN == 0 ? mhi_load_live(arena, offset) : 0;
}

static void free_inside(mh_arena *arena, mhi_cache *cache, void *block)
{
    uint64_t offset = (uintptr_t)block - arena->data;
    if (owner_of(arena, offset) == 0)
        return;
    uint32_t entry = mhi_load_entry(arena, offset / MHI_PAGE), c = mhi_entry_class(entry);
    mhi_store_live(arena, offset, 0);
    if (mhi_entry_kind(entry) != MHI_SLAB) {
        give_large(arena, offset / MHI_PAGE, mhi_entry_value(entry));
        return;
    }
    if (cache->bins[c].n == cache->bins[c].max)
        flush(arena, cache, c);
    push(cache, &cache->bins[c], block);
}

__attribute__((noinline)) static void free_slowly(void *block)
{
    mh_arena *arena = mhi_arena_around(block);
    mhi_cache *cache = arena == NULL ? NULL : mhi_enter(arena);
    if (cache == NULL)
        return;
    free_inside(arena, cache, block);
    mhi_leave(arena, cache);
}

/* Whether the live block can hold size_bytes in place. A block that shrinks to less than half moves, unless it stays
 * large: then the pages behind it become free at once. */
static bool resize_in_place(mh_arena *arena, uint64_t offset, size_t size_bytes)
{
    uint32_t entry = mhi_load_entry(arena, offset / MHI_PAGE);
    if (mhi_entry_kind(entry) == MHI_SLAB) {
        uint32_t block_bytes = mhi_classes[mhi_entry_class(entry)].block_bytes;
        return size_bytes <= block_bytes && size_bytes >= block_bytes / 2;
    }
    uint64_t n_pages = pages_of(size_bytes), old_pages = mhi_entry_value(entry);
    if (n_pages == old_pages)
        return true;
    if (size_bytes <= MHI_SMALL_MAX && n_pages < old_pages / 2)
        return false;
    return mhi_span_resize(arena, (uint32_t)(offset / MHI_PAGE), n_pages);
}

static void *move(mh_arena *arena, void *block, size_t size_bytes, uint8_t owner)
{
    void *moved = mhi_arena_malloc(arena, size_bytes, owner);
    if (moved != NULL) {
        memcpy(moved, block, mhi_min(size_bytes, mh_usable_size(block)));
        free_slowly(block);
    }
    return moved;
}

void *mhi_arena_realloc(mh_arena *arena, void *block, size_t size_bytes, uint8_t owner)
{
    if (block == NULL)
        return mhi_arena_malloc(arena, size_bytes, owner);
    mhi_cache *cache = mhi_enter(arena);
    if (cache == NULL)
        return refuse(ENOMEM);
    uint64_t offset = (uintptr_t)block - arena->data;
    uint8_t old_owner = owner_of(arena, offset);
    bool in_place = old_owner != 0 && size_bytes != 0 && resize_in_place(arena, offset, size_bytes);
    owner |= old_owner & MHI_BLOCK_DATA;
    if (in_place)
        mhi_store_live(arena, offset, owner);
    mhi_leave(arena, cache);
    if (in_place)
        return block;
    if (old_owner == 0)
        return refuse(EINVAL);
    if (size_bytes == 0) { /* as glibc does */
        free_slowly(block);
        return NULL;
    }
    return move(arena, block, size_bytes, owner);
}

void *mh_malloc(mh_arena *arena, size_t size_bytes) { return malloc_quickly(arena, size_bytes, MHI_OWNER_EXPLICIT); }

void *mh_calloc(mh_arena *arena, size_t n_items, size_t item_bytes)
{
    size_t size_bytes;
    if (__builtin_mul_overflow(n_items, item_bytes, &size_bytes))
        return refuse(ENOMEM);
    return mhi_arena_calloc(arena, size_bytes, MHI_OWNER_EXPLICIT);
}

void *mh_aligned_alloc(mh_arena *arena, size_t align_bytes, size_t size_bytes)
{
    return mhi_arena_memalign(arena, align_bytes, size_bytes, MHI_OWNER_EXPLICIT);
}

void *mh_realloc(mh_arena *arena, void *block, size_t size_bytes)
{
    return mhi_arena_realloc(arena, block, size_bytes, MHI_OWNER_EXPLICIT);
}

void *mh_reallocarray(mh_arena *arena, void *block, size_t n_items, size_t item_bytes)
{
    size_t size_bytes;
    if (__builtin_mul_overflow(n_items, item_bytes, &size_bytes))
        return refuse(ENOMEM);
    return mhi_arena_realloc(arena, block, size_bytes, MHI_OWNER_EXPLICIT);
}

/* Most blocks are of the arena that the thread used last: then a subtraction replaces mh_arena_of. */
void mh_free(void *block)
{
    mhi_cache *cache = mhi_thread_cache;
    uint64_t offset = (uintptr_t)block - cache->data, grain = offset / MHI_GRAIN;
    if (__builtin_expect(offset >= cache->limit_bytes || offset % MHI_GRAIN != 0 ||
                             !mhi_enter_quickly(mhi_cache_arena(cache), cache),
                         0))
        return free_slowly(block);
    if (__builtin_expect(atomic_load_explicit(&cache->live[grain], memory_order_relaxed) == 0, 0))
        return free_slowly(block);
    uint32_t entry = atomic_load_explicit(&cache->table[offset / MHI_PAGE], memory_order_relaxed);
    if (__builtin_expect(mhi_entry_kind(entry) != MHI_SLAB, 0))
        return free_slowly(block);
    mhi_bin *bin = &cache->bins[mhi_entry_class(entry)];
    if (__builtin_expect(bin->n == bin->max, 0))
        return free_slowly(block);
    atomic_store_explicit(&cache->live[grain], 0, memory_order_relaxed);
    push(cache, bin, block);
    mhi_leave_quickly(cache);
}

/* Usable size of the live block that begins at this offset. */
static inline size_t size_of(const mh_arena *arena, uint64_t offset)
{
    uint32_t entry = mhi_load_entry(arena, offset / MHI_PAGE);
    return mhi_entry_kind(entry) == MHI_SLAB ? mhi_classes[mhi_entry_class(entry)].block_bytes
                                             : (size_t)mhi_entry_value(entry) * MHI_PAGE;
}

size_t mh_usable_size(const void *block)
{
    mh_arena *arena = mhi_arena_around(block);
    uint64_t offset = arena == NULL ? 0 : (uintptr_t)block - arena->data, start, size_bytes;
    if (arena == NULL || offset >= mhi_limit(arena))
        return 0;
    if (arena->live != NULL)
        return owner_of(arena, offset) != 0 ? size_of(arena, offset) : 0;
    return mhi_block_around(arena, offset, &start, &size_bytes) && start == offset ? size_bytes : 0;
}

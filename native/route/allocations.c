/* allocations.c - the replacements of malloc and its family in routed libraries.
 *
 * R1  Allocations go to the arena while there is one with room, else to the real function.
 * R2  free, realloc and malloc_usable_size recognise a block by its address, whatever made it: arena blocks go to the
 *     arena that holds them, all others to the real function. These replacements stay for good, so blocks may cross the
 *     boundary in both directions.
 * R3  realloc within a transaction leaves the block in the arena, even if it began as an ordinary one: the library is
 *     about to store the result in a structure, and a snapshot must be complete. Outside of a transaction, the block
 *     ends up in ordinary memory.
 * R4  Blocks are zeroed to their very end, except data blocks, which the audit does not read. Otherwise stale words of
 *     the memory's last user, which the new one never writes, would count as pointers at the audit and refuse a good
 *     commit. (Exception: beyond the first megabyte by which realloc extends a block, since growing a large one would
 *     cost as much as filling it.)
 * R5  PyMem_RawMalloc and its family are malloc under another name to libraries that use the interpreter's (numpy does
 *     so for elements of arrays), and are routed like it. A block of the arena may then be freed or resized by the
 *     interpreter itself, whose PyMem_RawFree ends in free, and PyMem_RawRealloc in realloc, which recognise it (R2).
 *     This holds for the interpreter's own allocator, also under tracemalloc, which ignores blocks that it never saw.
 *     It does not hold for the debugging allocator, which checks its own bytes around each block, and perhaps not for
 *     one that an embedding program sets. Under these, this family is not replaced.
 */
#define _GNU_SOURCE
#include "route/allocations.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "base/pages.h"
#include "route/calls.h"

_Atomic(mh_arena *) mhi_route_target;
atomic_int mhi_route_rechecks;

mhi_allocations mhi_real = {
    .malloc = malloc,
    .calloc = calloc,
    .realloc = realloc,
    .reallocarray = reallocarray,
    .memalign = memalign,
    .posix_memalign = posix_memalign,
    .aligned_alloc = aligned_alloc,
    .valloc = valloc,
    .pvalloc = pvalloc,
    .free = free,
    .malloc_usable_size = malloc_usable_size,
};

static inline mh_arena *target(void)
{
    mh_arena *arena = atomic_load_explicit(&mhi_route_target, memory_order_acquire);
    if (__builtin_expect(atomic_load_explicit(&mhi_route_rechecks, memory_order_relaxed) > 0, 0))
        mhi_route_recheck();
    return arena;
}

/* The owner byte of an aligned block. A block of at least a page, aligned at least like a vector register, is meant for
 * vector loads of numbers (tensors, audio, images). Structures of pointers have no use for such alignment, and
 * over-aligned C++ objects come through operator new, which does not pass here. The upper bound excludes aligned slabs
 * of allocators, which hold pointers. The lower bound is 32, a vector register: malloc aligns to 16 anyway, so a
 * request for 16 shows nothing. */
static uint8_t aligned_owner(uint8_t owner, size_t align_bytes, size_t size_bytes)
{
    bool is_data = align_bytes >= 32 && align_bytes <= 2 << 20 && size_bytes >= MHI_PAGE;
    return is_data ? owner | MHI_BLOCK_DATA : owner;
}

enum {
    TAIL_MAX = 1 << 20 /* see R4 */,
    SMALL_MAX = 32 << 10 /* larger aligned blocks are left as they are: nearly all are buffers */
};

/* A block as R4 demands; NULL: no arena, or it is full. */
static inline void *take(mh_arena *arena, size_t size, uint8_t owner)
{
    if (arena == NULL)
        return NULL;
    return owner & MHI_BLOCK_DATA ? mhi_arena_malloc(arena, size, owner) : mhi_arena_calloc(arena, size, owner);
}

void *mhi_routed_malloc(size_t size, uint8_t owner)
{
    void *block = take(target(), size, owner);
    return block != NULL ? block : mhi_real.malloc(size);
}

void *mhi_routed_calloc(size_t n_items, size_t item_size, uint8_t owner)
{
    mh_arena *arena = target();
    size_t size;
    if (arena == NULL || __builtin_mul_overflow(n_items, item_size, &size))
        return mhi_real.calloc(n_items, item_size);
    void *block = owner & MHI_BLOCK_DATA ? mhi_arena_calloc(arena, size, owner) : take(arena, size, owner);
    return block != NULL ? block : mhi_real.calloc(n_items, item_size);
}

void mhi_routed_free(void *block)
{
    if (mhi_in_region(block))
        mh_free(block);
    else
        mhi_real.free(block);
}

size_t mhi_routed_malloc_usable_size(void *block)
{
    return mhi_in_region(block) ? mh_usable_size(block) : mhi_real.malloc_usable_size(block);
}

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

/* Moves an arena block to the present destination of allocations. A pointer to no live block is refused: its size is
 * unknown. */
static void *move_arena_block(void *block, size_t size, uint8_t owner)
{
    size_t old_size = mh_usable_size(block);
    void *moved = old_size == 0 ? NULL : mhi_routed_malloc(size, owner);
    if (moved == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    memcpy(moved, block, smaller(old_size, size));
    mh_free(block);
    return moved;
}

/* Resizes a block within the arena that allocations go to; NULL if it is full. */
static void *resize(mh_arena *arena, void *block, size_t size, uint8_t owner)
{
    size_t old_size = mh_usable_size(block);
    char *resized = mhi_arena_realloc(arena, block, size, owner);
    size_t new_size = resized == NULL || owner & MHI_BLOCK_DATA ? 0 : mh_usable_size(resized);
    if (new_size > old_size)
        memset(resized + old_size, 0, smaller(new_size - old_size, TAIL_MAX));
    return resized;
}

static void *realloc_arena_block(void *block, size_t size, uint8_t owner)
{
    mh_arena *arena = target();
    if (size == 0) { /* as glibc does */
        mh_free(block);
        return NULL;
    }
    void *grown = arena != NULL && mh_arena_of(block) == arena ? resize(arena, block, size, owner) : NULL;
    return grown != NULL ? grown : move_arena_block(block, size, owner);
}

void *mhi_routed_realloc(void *block, size_t size, uint8_t owner)
{
    if (block == NULL)
        return mhi_routed_malloc(size, owner);
    if (mhi_in_region(block))
        return realloc_arena_block(block, size, owner);
    void *moved = size == 0 ? NULL : take(target(), size, owner);
    if (moved == NULL)
        return mhi_real.realloc(block, size);
    memcpy(moved, block, smaller(mhi_real.malloc_usable_size(block), size));
    mhi_real.free(block);
    return moved;
}

void *mhi_routed_reallocarray(void *block, size_t n_items, size_t item_size, uint8_t owner)
{
    size_t size;
    if (__builtin_mul_overflow(n_items, item_size, &size)) {
        errno = ENOMEM;
        return NULL;
    }
    return mhi_routed_realloc(block, size, owner);
}

void *mhi_kept_realloc(void *block, size_t size)
{
    if (!mhi_in_region(block))
        return mhi_real.realloc(block, size);
    size_t old_size = mh_usable_size(block);
    void *moved = size == 0 || old_size == 0 ? NULL : mhi_real.malloc(size);
    if (moved != NULL)
        memcpy(moved, block, smaller(old_size, size));
    if (moved != NULL || size == 0)
        mh_free(block);
    return moved;
}

void *mhi_kept_reallocarray(void *block, size_t n_items, size_t item_size)
{
    size_t size;
    if (!__builtin_mul_overflow(n_items, item_size, &size))
        return mhi_kept_realloc(block, size);
    errno = ENOMEM;
    return NULL;
}

static bool is_power_of_two(size_t n) { return n != 0 && (n & (n - 1)) == 0; }

/* NULL: the arena is absent, full, or can't align so; the real function then decides. */
static void *arena_memalign(size_t align, size_t size, uint8_t owner)
{
    mh_arena *arena = target();
    if (arena == NULL || !is_power_of_two(align))
        return NULL;
    if (align <= _Alignof(max_align_t))
        return take(arena, size, owner);
    void *block = mhi_arena_memalign(arena, align, size, owner);
    return block == NULL || owner & MHI_BLOCK_DATA || size > SMALL_MAX ? block
                                                                       : memset(block, 0, mh_usable_size(block));
}

void *mhi_routed_memalign(size_t align, size_t size, uint8_t owner)
{
    void *block = arena_memalign(align, size, aligned_owner(owner, align, size));
    return block != NULL ? block : mhi_real.memalign(align, size);
}

void *mhi_routed_aligned_alloc(size_t align, size_t size, uint8_t owner)
{
    void *block = arena_memalign(align, size, aligned_owner(owner, align, size));
    return block != NULL ? block : mhi_real.aligned_alloc(align, size);
}

int mhi_routed_posix_memalign(void **out, size_t align, size_t size, uint8_t owner)
{
    int saved_errno = errno; /* posix_memalign leaves errno alone */
    void *block = align < sizeof(void *) ? NULL : arena_memalign(align, size, aligned_owner(owner, align, size));
    errno = saved_errno;
    if (block == NULL)
        return mhi_real.posix_memalign(out, align, size);
    *out = block;
    return 0;
}

void *mhi_routed_valloc(size_t size, uint8_t owner)
{
    void *block = arena_memalign(MHI_PAGE, size, owner);
    return block != NULL ? block : mhi_real.valloc(size);
}

void *mhi_routed_pvalloc(size_t size, uint8_t owner)
{
    size_t pages;
    bool fits = !__builtin_add_overflow(size, MHI_PAGE - 1, &pages);
    void *block = fits ? arena_memalign(MHI_PAGE, mhi_page_start(pages), owner) : NULL;
    return block != NULL ? block : mhi_real.pvalloc(size);
}

/* On failure, the operators call libstdc++'s, which throw as they should. These in turn call malloc through a patched
 * slot. */
void *mhi_routed_new(size_t size, uint8_t owner)
{
    void *block = take(target(), size, owner);
    return block != NULL ? block : mhi_real.new(size);
}

void *mhi_routed_new_nothrow(size_t size, const void *tag, uint8_t owner)
{
    void *block = take(target(), size, owner);
    return block != NULL ? block : mhi_real.new_nothrow(size, tag);
}

void *mhi_routed_new_aligned(size_t size, size_t align, uint8_t owner)
{
    void *block = arena_memalign(align, size, owner);
    return block != NULL ? block : mhi_real.new_aligned(size, align);
}

void *mhi_routed_new_aligned_nothrow(size_t size, size_t align, const void *tag, uint8_t owner)
{
    void *block = arena_memalign(align, size, owner);
    return block != NULL ? block : mhi_real.new_aligned_nothrow(size, align, tag);
}

/* ---- PyMem_Raw*: R5. As in CPython, size 0 never gives NULL, and does not free. ---- */

void *mhi_routed_raw_malloc(size_t size, uint8_t owner)
{
    void *block = take(target(), size, owner);
    return block != NULL ? block : mhi_real.raw_malloc(size);
}

void *mhi_routed_raw_calloc(size_t n_items, size_t item_size, uint8_t owner)
{
    mh_arena *arena = target();
    size_t size;
    bool fits = arena != NULL && !__builtin_mul_overflow(n_items, item_size, &size);
    void *block = fits ? mhi_arena_calloc(arena, size, owner) : NULL;
    return block != NULL ? block : mhi_real.raw_calloc(n_items, item_size);
}

void mhi_routed_raw_free(void *block)
{
    if (mhi_in_region(block))
        mh_free(block);
    else
        mhi_real.raw_free(block);
}

/* Moves an arena block to the ordinary heap. */
static void *leave_arena(void *block, size_t size)
{
    size_t old_size = mh_usable_size(block);
    void *moved = old_size == 0 ? NULL : mhi_real.raw_malloc(size);
    if (moved != NULL) {
        memcpy(moved, block, smaller(old_size, size));
        mh_free(block);
    }
    return moved;
}

void *mhi_routed_raw_realloc(void *block, size_t size, uint8_t owner)
{
    if (block == NULL)
        return mhi_routed_raw_malloc(size, owner);
    mh_arena *arena = target();
    size += size == 0;
    if (mhi_in_region(block)) {
        void *resized = arena != NULL ? realloc_arena_block(block, size, owner) : NULL;
        return resized != NULL ? resized : leave_arena(block, size);
    }
    void *moved = take(arena, size, owner);
    if (moved == NULL)
        return mhi_real.raw_realloc(block, size);
    memcpy(moved, block, smaller(mhi_real.malloc_usable_size(block), size)); /* R5: the new block is from malloc */
    mhi_real.raw_free(block);
    return moved;
}

/* Whether the functions are the interpreter's own: they have no context, unlike those of the debugging allocator and
 * tracemalloc. */
bool mhi_raw_is_plain(void)
{
    struct { void *context, *functions[4]; } allocator = { 0 }; /* PyMemAllocatorEx */
    void (*read)(int, void *) = (void (*)(int, void *))mhi_real_dlsym(RTLD_DEFAULT, "PyMem_GetAllocator");
    Dl_info interpreter, functions;
    if (read == NULL)
        return false;
    read(0 /* PYMEM_DOMAIN_RAW */, &allocator);
    return allocator.context == NULL && dladdr((void *)read, &interpreter) != 0 &&
           dladdr(allocator.functions[0], &functions) != 0 && interpreter.dli_fbase == functions.dli_fbase;
}

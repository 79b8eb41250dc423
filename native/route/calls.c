/* calls.c - what malloc and its family do in libraries that are routed.
 *
 * R1  Allocations go to the arena while there is one, else, and when it is full, to the real function.
 * R2  free, realloc and malloc_usable_size know a block by its address, whoever made it and whenever: arena blocks go
 *     to the arena that holds them, all others to the real function. These replacements stay for good, so blocks may
 *     cross the boundary in both directions.
 * R3  realloc within a transaction leaves the block in the arena, even if it began as an ordinary one: the library is
 *     about to store the result in a structure, and a snapshot must be complete. Outside of one it leaves it in
 *     ordinary memory.
 * R4  Blocks come zeroed to their very end, unless they are data, which nobody reads for pointers: what the last user
 *     of the memory left in words that the next one never writes would count as pointers at the audit, and refuse a
 *     good commit. (Not so past the first megabyte by which realloc extends a block: growing a large one would cost as
 *     much as filling it.)
 * R5  PyMem_RawMalloc and its family are malloc under another name to libraries that use the interpreter's (numpy does
 *     so for elements of arrays), and are routed like it. A block of the arena may then be freed or resized by the
 *     interpreter itself, whose PyMem_RawFree ends in free, and PyMem_RawRealloc in realloc, and these know it (R2).
 *     That they end there is true of the interpreter's own allocator, also under tracemalloc, which forgets what it
 *     never saw; but not of the debugging one, which looks for what it writes around each of its blocks, nor maybe of
 *     another that an embedding program sets. Where one of these is at work, nothing of this family is replaced.
 */
#define _GNU_SOURCE
#include "route/calls.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "base/pages.h"
#include "route/asks.h"
#include "route/entropy.h"
#include "route/files.h"
#include "route/reads.h"
#include "sys/sys.h"

_Atomic(mh_arena *) mhi_route_target;
atomic_int mhi_route_rechecks;

/* The functions themselves. Until routing begins our own bindings will do; it then looks up better ones: in a program
 * that is not position- independent our binding may be a PLT entry of the program, which leads through a slot that is
 * about to be patched. Operators new are known only once some libstdc++ is loaded, PyMem_Raw* only where there is an
 * interpreter, and neither is replaced before. */
static struct {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void *(*reallocarray)(void *, size_t, size_t);
    void *(*memalign)(size_t, size_t);
    int (*posix_memalign)(void **, size_t, size_t);
    void *(*aligned_alloc)(size_t, size_t);
    void *(*valloc)(size_t);
    void *(*pvalloc)(size_t);
    void (*free)(void *);
    size_t (*malloc_usable_size)(void *);
    void *(*new)(size_t);
    void *(*new_nothrow)(size_t, const void *);
    void *(*new_aligned)(size_t, size_t);
    void *(*new_aligned_nothrow)(size_t, size_t, const void *);
    void *(*raw_malloc)(size_t);
    void *(*raw_calloc)(size_t, size_t);
    void *(*raw_realloc)(void *, size_t);
    void (*raw_free)(void *);
} real = { malloc,
           calloc,
           realloc,
           reallocarray,
           memalign,
           posix_memalign,
           aligned_alloc,
           valloc,
           pvalloc,
           free,
           malloc_usable_size,
           NULL,
           NULL,
           NULL,
           NULL,
           NULL,
           NULL,
           NULL,
           NULL };

/* For stubs.S of arch. */
void *(*mhi_real_dlopen)(const char *, int) = dlopen;
void *(*mhi_real_dlmopen)(Lmid_t, const char *, int) = dlmopen;
void *(*mhi_real_dlsym)(void *, const char *) = dlsym;
void *(*mhi_real_dlvsym)(void *, const char *, const char *) = dlvsym;

static inline mh_arena *target(void)
{
    mh_arena *arena = atomic_load_explicit(&mhi_route_target, memory_order_acquire);
    if (__builtin_expect(atomic_load_explicit(&mhi_route_rechecks, memory_order_relaxed) > 0, 0))
        mhi_route_recheck();
    return arena;
}

/* The owner byte of an aligned block. Whoever asks C for at least a page at the alignment of a vector register or more
 * wants it for vector loads of numbers (tensors, audio, images): structures full of pointers have no use for it, and
 * C++ objects that are over-aligned come through operator new, which does not pass here. The upper bound leaves out
 * aligned slabs of allocators, which are made of pointers. 32 is a vector register: 16 is what malloc gives anyway, so
 * asking for it says nothing. */
static uint8_t aligned_owner(uint8_t owner, size_t align_bytes, size_t size_bytes)
{
    bool is_data = align_bytes >= 32 && align_bytes <= 2 << 20 && size_bytes >= MHI_PAGE;
    return is_data ? owner | MHI_BLOCK_DATA : owner;
}

enum {
    TAIL_MAX = 1 << 20 /* see R4 */,
    SMALL_MAX = 32 << 10 /* larger aligned blocks are left as they are: nearly all are buffers */
};

/* A block as R4 has it, or NULL: no arena, or it is full. */
static inline void *take(mh_arena *arena, size_t size, uint8_t owner)
{
    if (arena == NULL)
        return NULL;
    return owner & MHI_BLOCK_DATA ? mhi_arena_malloc(arena, size, owner) : mhi_arena_calloc(arena, size, owner);
}

void *mhi_routed_malloc(size_t size, uint8_t owner)
{
    void *block = take(target(), size, owner);
    return block != NULL ? block : real.malloc(size);
}

void *mhi_routed_calloc(size_t n_items, size_t item_size, uint8_t owner)
{
    mh_arena *arena = target();
    size_t size;
    if (arena == NULL || __builtin_mul_overflow(n_items, item_size, &size))
        return real.calloc(n_items, item_size);
    void *block = owner & MHI_BLOCK_DATA ? mhi_arena_calloc(arena, size, owner) : take(arena, size, owner);
    return block != NULL ? block : real.calloc(n_items, item_size);
}

void mhi_routed_free(void *block)
{
    if (mhi_in_region(block))
        mh_free(block);
    else
        real.free(block);
}

size_t mhi_routed_malloc_usable_size(void *block)
{
    return mhi_in_region(block) ? mh_usable_size(block) : real.malloc_usable_size(block);
}

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

/* Moves an arena block to where allocations go now. A pointer that is no live block's has no size to copy, and may be
 * anything: refused. */
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

/* Within the arena that allocations go to; NULL if it is full. */
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
    if (size == 0) { /* as glibc does it */
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
        return real.realloc(block, size);
    memcpy(moved, block, smaller(real.malloc_usable_size(block), size));
    real.free(block);
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

/* For the interpreter: its blocks stay ordinary, but it may be handed one of the arena. */
static void *kept_realloc(void *block, size_t size)
{
    if (!mhi_in_region(block))
        return real.realloc(block, size);
    size_t old_size = mh_usable_size(block);
    void *moved = size == 0 || old_size == 0 ? NULL : real.malloc(size);
    if (moved != NULL)
        memcpy(moved, block, smaller(old_size, size));
    if (moved != NULL || size == 0)
        mh_free(block);
    return moved;
}

static void *kept_reallocarray(void *block, size_t n_items, size_t item_size)
{
    size_t size;
    if (!__builtin_mul_overflow(n_items, item_size, &size))
        return kept_realloc(block, size);
    errno = ENOMEM;
    return NULL;
}

static bool is_power_of_two(size_t n) { return n != 0 && (n & (n - 1)) == 0; }

/* NULL: not now, not there, or not with this alignment; the real function then has the last word. */
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
    return block != NULL ? block : real.memalign(align, size);
}

void *mhi_routed_aligned_alloc(size_t align, size_t size, uint8_t owner)
{
    void *block = arena_memalign(align, size, aligned_owner(owner, align, size));
    return block != NULL ? block : real.aligned_alloc(align, size);
}

int mhi_routed_posix_memalign(void **out, size_t align, size_t size, uint8_t owner)
{
    int saved_errno = errno; /* which posix_memalign does not touch */
    void *block = align < sizeof(void *) ? NULL : arena_memalign(align, size, aligned_owner(owner, align, size));
    errno = saved_errno;
    if (block == NULL)
        return real.posix_memalign(out, align, size);
    *out = block;
    return 0;
}

void *mhi_routed_valloc(size_t size, uint8_t owner)
{
    void *block = arena_memalign(MHI_PAGE, size, owner);
    return block != NULL ? block : real.valloc(size);
}

void *mhi_routed_pvalloc(size_t size, uint8_t owner)
{
    size_t pages;
    bool fits = !__builtin_add_overflow(size, MHI_PAGE - 1, &pages);
    void *block = fits ? arena_memalign(MHI_PAGE, mhi_page_start(pages), owner) : NULL;
    return block != NULL ? block : real.pvalloc(size);
}

/* The operators fall through to libstdc++'s, which throw as they should. Those in turn call malloc through a slot that
 * is patched too. */
void *mhi_routed_new(size_t size, uint8_t owner)
{
    void *block = take(target(), size, owner);
    return block != NULL ? block : real.new(size);
}

void *mhi_routed_new_nothrow(size_t size, const void *tag, uint8_t owner)
{
    void *block = take(target(), size, owner);
    return block != NULL ? block : real.new_nothrow(size, tag);
}

void *mhi_routed_new_aligned(size_t size, size_t align, uint8_t owner)
{
    void *block = arena_memalign(align, size, owner);
    return block != NULL ? block : real.new_aligned(size, align);
}

void *mhi_routed_new_aligned_nothrow(size_t size, size_t align, const void *tag, uint8_t owner)
{
    void *block = arena_memalign(align, size, owner);
    return block != NULL ? block : real.new_aligned_nothrow(size, align, tag);
}

/* ---- PyMem_Raw*: R5. As these, never NULL for size 0, and that size does not free. ---- */

void *mhi_routed_raw_malloc(size_t size, uint8_t owner)
{
    void *block = take(target(), size, owner);
    return block != NULL ? block : real.raw_malloc(size);
}

void *mhi_routed_raw_calloc(size_t n_items, size_t item_size, uint8_t owner)
{
    mh_arena *arena = target();
    size_t size;
    bool fits = arena != NULL && !__builtin_mul_overflow(n_items, item_size, &size);
    void *block = fits ? mhi_arena_calloc(arena, size, owner) : NULL;
    return block != NULL ? block : real.raw_calloc(n_items, item_size);
}

void mhi_routed_raw_free(void *block)
{
    if (mhi_in_region(block))
        mh_free(block);
    else
        real.raw_free(block);
}

/* An arena block that leaves for the ordinary heap. */
static void *leave_arena(void *block, size_t size)
{
    size_t old_size = mh_usable_size(block);
    void *moved = old_size == 0 ? NULL : real.raw_malloc(size);
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
        return real.raw_realloc(block, size);
    memcpy(moved, block, smaller(real.malloc_usable_size(block), size)); /* R5: it is one of malloc's */
    real.raw_free(block);
    return moved;
}

/* The interpreter's own functions, and without a context, which the debugging ones and tracemalloc's have. */
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

typedef void (*function)(void);
void mhi_routed_dlopen(void);
void mhi_routed_dlmopen(void);
void mhi_routed_dlsym(void);
void mhi_routed_dlvsym(void);

#define STUB(name, column, member) { name, MHI_ALLOCATES, column, NULL, NULL, (function *)(member) }
#define KEPT(name, column, kept, member) { name, MHI_ALLOCATES, column, NULL, (function)(kept), (function *)(member) }
#define BOTH(name, plain, member) \
    { name, MHI_ALLOCATES, MHI_NO_STUB, (function)(plain), (function)(plain), (function *)(member) }
#define LINK(name, plain, member) \
    { name, MHI_LINKS, MHI_NO_STUB, (function)(plain), (function)(plain), (function *)(member) }
#define FILES(name, plain, member) \
    { name, MHI_OPENS, MHI_NO_STUB, (function)(plain), (function)(plain), (function *)(member) }
#define ASKS(name, plain) { name, MHI_ASKS, MHI_NO_STUB, (function)(plain), (function)(plain), NULL }
/* of the interpreter, Python code knows more */
#define LIBRARY_ASKS(name, plain) { name, MHI_ASKS, MHI_NO_STUB, (function)(plain), NULL, NULL }
#define DRAWS(name, plain, member) \
    { name, MHI_DRAWS, MHI_NO_STUB, (function)(plain), (function)(plain), (function *)(member) }
#define RAW(name, column, plain, member) { name, MHI_RAW, column, (function)(plain), NULL, (function *)(member) }
#define CXX(name, column, member) { name, MHI_OPERATOR, column, NULL, NULL, (function *)(member) }

const mhi_call mhi_calls[] = {
    RAW("PyMem_RawCalloc", MHI_STUB_RAW_CALLOC, NULL, &real.raw_calloc),
    RAW("PyMem_RawFree", MHI_NO_STUB, mhi_routed_raw_free, &real.raw_free),
    RAW("PyMem_RawMalloc", MHI_STUB_RAW_MALLOC, NULL, &real.raw_malloc),
    RAW("PyMem_RawRealloc", MHI_STUB_RAW_REALLOC, NULL, &real.raw_realloc),
    CXX("_Znam", MHI_STUB_NEW, NULL),
    CXX("_ZnamRKSt9nothrow_t", MHI_STUB_NEW_NOTHROW, NULL),
    CXX("_ZnamSt11align_val_t", MHI_STUB_NEW_ALIGNED, NULL),
    CXX("_ZnamSt11align_val_tRKSt9nothrow_t", MHI_STUB_NEW_ALIGNED_NOTHROW, NULL),
    CXX("_Znwm", MHI_STUB_NEW, &real.new),
    CXX("_ZnwmRKSt9nothrow_t", MHI_STUB_NEW_NOTHROW, &real.new_nothrow),
    CXX("_ZnwmSt11align_val_t", MHI_STUB_NEW_ALIGNED, &real.new_aligned),
    CXX("_ZnwmSt11align_val_tRKSt9nothrow_t", MHI_STUB_NEW_ALIGNED_NOTHROW, &real.new_aligned_nothrow),
    ASKS("__fxstatat", mhi_routed_fxstatat),
    ASKS("__fxstatat64", mhi_routed_fxstatat),
    ASKS("__getcwd_chk", mhi_routed_getcwd_chk),
    ASKS("__gethostname_chk", mhi_routed_gethostname_chk),
    ASKS("__lxstat", mhi_routed_lxstat),
    ASKS("__lxstat64", mhi_routed_lxstat),
    FILES("__open64_2", mhi_routed_open_2, NULL),
    FILES("__open_2", mhi_routed_open_2, NULL),
    FILES("__openat64_2", mhi_routed_openat_2, NULL),
    FILES("__openat_2", mhi_routed_openat_2, NULL),
    ASKS("__poll_chk", mhi_routed_poll_chk),
    ASKS("__pread64_chk", mhi_routed_pread_chk),
    ASKS("__pread_chk", mhi_routed_pread_chk),
    ASKS("__read_chk", mhi_routed_read_chk),
    ASKS("__readlink_chk", mhi_routed_readlink_chk),
    ASKS("__readlinkat_chk", mhi_routed_readlinkat_chk),
    ASKS("__realpath_chk", mhi_routed_realpath_chk),
    ASKS("__xstat", mhi_routed_xstat),
    ASKS("__xstat64", mhi_routed_xstat),
    ASKS("access", mhi_routed_access),
    STUB("aligned_alloc", MHI_STUB_ALIGNED_ALLOC, &real.aligned_alloc),
    DRAWS("arc4random", mhi_routed_arc4random, &mhi_real_arc4random),
    DRAWS("arc4random_buf", mhi_routed_arc4random_buf, &mhi_real_arc4random_buf),
    DRAWS("arc4random_uniform", mhi_routed_arc4random_uniform, &mhi_real_arc4random_uniform),
    STUB("calloc", MHI_STUB_CALLOC, &real.calloc),
    BOTH("cfree", mhi_routed_free, NULL),
    LINK("dlmopen", mhi_routed_dlmopen, &mhi_real_dlmopen),
    LINK("dlopen", mhi_routed_dlopen, &mhi_real_dlopen),
    LINK("dlsym", mhi_routed_dlsym, &mhi_real_dlsym),
    LINK("dlvsym", mhi_routed_dlvsym, &mhi_real_dlvsym),
    ASKS("eaccess", mhi_routed_euidaccess),
    ASKS("epoll_ctl", mhi_routed_epoll_ctl),
    ASKS("euidaccess", mhi_routed_euidaccess),
    ASKS("faccessat", mhi_routed_faccessat),
    LIBRARY_ASKS("fdopendir", mhi_routed_fdopendir),
    FILES("fopen", mhi_routed_fopen, &mhi_real_fopen),
    FILES("fopen64", mhi_routed_fopen, NULL),
    BOTH("free", mhi_routed_free, &real.free),
    FILES("freopen", mhi_routed_freopen, &mhi_real_freopen),
    FILES("freopen64", mhi_routed_freopen, NULL),
    ASKS("fstatat", mhi_routed_fstatat),
    ASKS("fstatat64", mhi_routed_fstatat),
    ASKS("get_current_dir_name", mhi_routed_get_current_dir_name),
    DRAWS("getauxval", mhi_routed_getauxval, &mhi_real_getauxval),
    ASKS("getcwd", mhi_routed_getcwd),
    ASKS("getegid", mhi_routed_getegid),
    DRAWS("getentropy", mhi_routed_getentropy, &mhi_real_getentropy),
    LIBRARY_ASKS("getenv", mhi_routed_getenv),
    ASKS("geteuid", mhi_routed_geteuid),
    ASKS("getgid", mhi_routed_getgid),
    ASKS("getgroups", mhi_routed_getgroups),
    ASKS("gethostname", mhi_routed_gethostname),
    ASKS("getpwnam", mhi_routed_getpwnam),
    ASKS("getpwnam_r", mhi_routed_getpwnam_r),
    ASKS("getpwuid", mhi_routed_getpwuid),
    ASKS("getpwuid_r", mhi_routed_getpwuid_r),
    DRAWS("getrandom", mhi_routed_getrandom, &mhi_real_getrandom),
    ASKS("getuid", mhi_routed_getuid),
    ASKS("glob", mhi_routed_glob),
    ASKS("glob64", mhi_routed_glob),
    ASKS("ioctl", mhi_routed_ioctl),
    ASKS("isatty", mhi_routed_isatty),
    ASKS("localtime", mhi_routed_localtime),
    ASKS("localtime_r", mhi_routed_localtime_r),
    ASKS("lstat", mhi_routed_lstat),
    ASKS("lstat64", mhi_routed_lstat),
    STUB("malloc", MHI_STUB_MALLOC, &real.malloc),
    BOTH("malloc_usable_size", mhi_routed_malloc_usable_size, &real.malloc_usable_size),
    STUB("memalign", MHI_STUB_MEMALIGN, &real.memalign),
    ASKS("mktime", mhi_routed_mktime),
    FILES("open", mhi_routed_open, &mhi_real_open),
    FILES("open64", mhi_routed_open, NULL),
    FILES("openat", mhi_routed_openat, &mhi_real_openat),
    FILES("openat64", mhi_routed_openat, NULL),
    LIBRARY_ASKS("opendir", mhi_routed_opendir),
    ASKS("poll", mhi_routed_poll),
    STUB("posix_memalign", MHI_STUB_POSIX_MEMALIGN, &real.posix_memalign),
    ASKS("ppoll", mhi_routed_ppoll),
    ASKS("pread", mhi_routed_pread),
    ASKS("pread64", mhi_routed_pread),
    ASKS("preadv", mhi_routed_preadv),
    ASKS("preadv64", mhi_routed_preadv),
    ASKS("pselect", mhi_routed_pselect),
    STUB("pvalloc", MHI_STUB_PVALLOC, &real.pvalloc),
    ASKS("read", mhi_routed_read),
    ASKS("readlink", mhi_routed_readlink),
    ASKS("readlinkat", mhi_routed_readlinkat),
    ASKS("readv", mhi_routed_readv),
    KEPT("realloc", MHI_STUB_REALLOC, kept_realloc, &real.realloc),
    KEPT("reallocarray", MHI_STUB_REALLOCARRAY, kept_reallocarray, &real.reallocarray),
    ASKS("realpath", mhi_routed_realpath),
    LIBRARY_ASKS("scandir", mhi_routed_scandir),
    LIBRARY_ASKS("scandir64", mhi_routed_scandir),
    LIBRARY_ASKS("secure_getenv", mhi_routed_secure_getenv),
    ASKS("select", mhi_routed_select),
    ASKS("stat", mhi_routed_stat),
    ASKS("stat64", mhi_routed_stat),
    ASKS("statx", mhi_routed_statx),
    DRAWS("syscall", mhi_routed_syscall, &mhi_real_syscall),
    ASKS("tcgetattr", mhi_routed_tcgetattr),
    ASKS("tzset", mhi_routed_tzset),
    ASKS("uname", mhi_routed_uname),
    STUB("valloc", MHI_STUB_VALLOC, &real.valloc),
};
_Static_assert(sizeof mhi_calls / sizeof *mhi_calls == MHI_N_CALLS, "each call has a place in the tables of route.c");

static int compare_name(const void *name, const void *call) { return strcmp(name, ((const mhi_call *)call)->name); }

/* Tells nearly all other names at once: a C++ library binds thousands of them. */
static bool may_be_call(const char *name)
{
    if (name[0] == '_')
        return (name[1] == 'Z' && name[2] == 'n') || name[1] == '_';
    return strchr("acdefgilmoprstuv", name[0]) != NULL || (name[0] == 'P' && name[1] == 'y' && name[2] == 'M');
}

int mhi_call_lookup(const char *name)
{
    if (!may_be_call(name))
        return -1;
    const mhi_call *call = bsearch(name, mhi_calls, MHI_N_CALLS, sizeof *mhi_calls, compare_name);
    return call == NULL ? -1 : (int)(call - mhi_calls);
}

uint64_t mhi_call_stub(int call, uint8_t owner)
{
    const mhi_call *entry = &mhi_calls[call];
    if (entry->stub == MHI_NO_STUB)
        return (uint64_t)entry->plain;
    return (uint64_t)mhi_route_stubs + (uint64_t)owner * MHI_STUB_ROW_BYTES + (uint64_t)entry->stub * MHI_STUB_BYTES;
}

/* calls.c - the replaced functions by name, with their replacements: one table. */
#define _GNU_SOURCE
#include "route/calls.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "arch/arch.h"
#include "route/allocations.h"
#include "route/asks.h"
#include "route/entropy.h"
#include "route/files.h"
#include "route/reads.h"
#include "route/streams.h"

/* Used by stubs.S of arch. */
void *(*mhi_real_dlopen)(const char *, int) = dlopen;
void *(*mhi_real_dlmopen)(Lmid_t, const char *, int) = dlmopen;
void *(*mhi_real_dlsym)(void *, const char *) = dlsym;
void *(*mhi_real_dlvsym)(void *, const char *, const char *) = dlvsym;

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
/* not in the interpreter: its questions are noted in Python, which knows more */
#define LIBRARY_ASKS(name, plain) { name, MHI_ASKS, MHI_NO_STUB, (function)(plain), NULL, NULL }
#define DRAWS(name, plain, member) \
    { name, MHI_DRAWS, MHI_NO_STUB, (function)(plain), (function)(plain), (function *)(member) }
#define RAW(name, column, plain, member) { name, MHI_RAW, column, (function)(plain), NULL, (function *)(member) }
#define CXX(name, column, member) { name, MHI_OPERATOR, column, NULL, NULL, (function *)(member) }

const mhi_call mhi_calls[] = {
    RAW("PyMem_RawCalloc", MHI_STUB_RAW_CALLOC, NULL, &mhi_real.raw_calloc),
    RAW("PyMem_RawFree", MHI_NO_STUB, mhi_routed_raw_free, &mhi_real.raw_free),
    RAW("PyMem_RawMalloc", MHI_STUB_RAW_MALLOC, NULL, &mhi_real.raw_malloc),
    RAW("PyMem_RawRealloc", MHI_STUB_RAW_REALLOC, NULL, &mhi_real.raw_realloc),
    CXX("_Znam", MHI_STUB_NEW, NULL),
    CXX("_ZnamRKSt9nothrow_t", MHI_STUB_NEW_NOTHROW, NULL),
    CXX("_ZnamSt11align_val_t", MHI_STUB_NEW_ALIGNED, NULL),
    CXX("_ZnamSt11align_val_tRKSt9nothrow_t", MHI_STUB_NEW_ALIGNED_NOTHROW, NULL),
    CXX("_Znwm", MHI_STUB_NEW, &mhi_real.new),
    CXX("_ZnwmRKSt9nothrow_t", MHI_STUB_NEW_NOTHROW, &mhi_real.new_nothrow),
    CXX("_ZnwmSt11align_val_t", MHI_STUB_NEW_ALIGNED, &mhi_real.new_aligned),
    CXX("_ZnwmSt11align_val_tRKSt9nothrow_t", MHI_STUB_NEW_ALIGNED_NOTHROW, &mhi_real.new_aligned_nothrow),
    ASKS("__fxstat", mhi_routed_fxstat),
    ASKS("__fxstat64", mhi_routed_fxstat),
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
    STUB("aligned_alloc", MHI_STUB_ALIGNED_ALLOC, &mhi_real.aligned_alloc),
    DRAWS("arc4random", mhi_routed_arc4random, &mhi_real_arc4random),
    DRAWS("arc4random_buf", mhi_routed_arc4random_buf, &mhi_real_arc4random_buf),
    DRAWS("arc4random_uniform", mhi_routed_arc4random_uniform, &mhi_real_arc4random_uniform),
    STUB("calloc", MHI_STUB_CALLOC, &mhi_real.calloc),
    BOTH("cfree", mhi_routed_free, NULL),
    ASKS("clearenv", mhi_routed_clearenv),
    LINK("dlmopen", mhi_routed_dlmopen, &mhi_real_dlmopen),
    LINK("dlopen", mhi_routed_dlopen, &mhi_real_dlopen),
    LINK("dlsym", mhi_routed_dlsym, &mhi_real_dlsym),
    LINK("dlvsym", mhi_routed_dlvsym, &mhi_real_dlvsym),
    ASKS("eaccess", mhi_routed_euidaccess),
    ASKS("epoll_ctl", mhi_routed_epoll_ctl),
    ASKS("euidaccess", mhi_routed_euidaccess),
    ASKS("faccessat", mhi_routed_faccessat),
    ASKS("fcntl", mhi_routed_fcntl),
    ASKS("fcntl64", mhi_routed_fcntl),
    LIBRARY_ASKS("fdopendir", mhi_routed_fdopendir),
    FILES("fopen", mhi_routed_fopen, &mhi_real_fopen),
    FILES("fopen64", mhi_routed_fopen, NULL),
    BOTH("free", mhi_routed_free, &mhi_real.free),
    FILES("freopen", mhi_routed_freopen, &mhi_real_freopen),
    FILES("freopen64", mhi_routed_freopen, NULL),
    ASKS("fstat", mhi_routed_fstat),
    ASKS("fstat64", mhi_routed_fstat),
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
    ASKS("lseek", mhi_routed_lseek),
    ASKS("lseek64", mhi_routed_lseek),
    ASKS("lstat", mhi_routed_lstat),
    ASKS("lstat64", mhi_routed_lstat),
    STUB("malloc", MHI_STUB_MALLOC, &mhi_real.malloc),
    BOTH("malloc_usable_size", mhi_routed_malloc_usable_size, &mhi_real.malloc_usable_size),
    STUB("memalign", MHI_STUB_MEMALIGN, &mhi_real.memalign),
    ASKS("mktime", mhi_routed_mktime),
    FILES("open", mhi_routed_open, &mhi_real_open),
    FILES("open64", mhi_routed_open, NULL),
    FILES("openat", mhi_routed_openat, &mhi_real_openat),
    FILES("openat64", mhi_routed_openat, NULL),
    LIBRARY_ASKS("opendir", mhi_routed_opendir),
    ASKS("poll", mhi_routed_poll),
    STUB("posix_memalign", MHI_STUB_POSIX_MEMALIGN, &mhi_real.posix_memalign),
    ASKS("ppoll", mhi_routed_ppoll),
    ASKS("pread", mhi_routed_pread),
    ASKS("pread64", mhi_routed_pread),
    ASKS("preadv", mhi_routed_preadv),
    ASKS("preadv64", mhi_routed_preadv),
    ASKS("pselect", mhi_routed_pselect),
    ASKS("putenv", mhi_routed_putenv),
    STUB("pvalloc", MHI_STUB_PVALLOC, &mhi_real.pvalloc),
    ASKS("read", mhi_routed_read),
    ASKS("readlink", mhi_routed_readlink),
    ASKS("readlinkat", mhi_routed_readlinkat),
    ASKS("readv", mhi_routed_readv),
    KEPT("realloc", MHI_STUB_REALLOC, mhi_kept_realloc, &mhi_real.realloc),
    KEPT("reallocarray", MHI_STUB_REALLOCARRAY, mhi_kept_reallocarray, &mhi_real.reallocarray),
    ASKS("realpath", mhi_routed_realpath),
    LIBRARY_ASKS("scandir", mhi_routed_scandir),
    LIBRARY_ASKS("scandir64", mhi_routed_scandir),
    LIBRARY_ASKS("secure_getenv", mhi_routed_secure_getenv),
    ASKS("select", mhi_routed_select),
    ASKS("setenv", mhi_routed_setenv),
    ASKS("stat", mhi_routed_stat),
    ASKS("stat64", mhi_routed_stat),
    ASKS("statx", mhi_routed_statx),
    DRAWS("syscall", mhi_routed_syscall, &mhi_real_syscall),
    ASKS("tcgetattr", mhi_routed_tcgetattr),
    ASKS("ttyname", mhi_routed_ttyname),
    ASKS("ttyname_r", mhi_routed_ttyname_r),
    ASKS("tzset", mhi_routed_tzset),
    ASKS("uname", mhi_routed_uname),
    ASKS("unsetenv", mhi_routed_unsetenv),
    STUB("valloc", MHI_STUB_VALLOC, &mhi_real.valloc),
};
_Static_assert(sizeof mhi_calls / sizeof *mhi_calls == MHI_N_CALLS, "each call has a place in the tables of route.c");

static int compare_name(const void *name, const void *call) { return strcmp(name, ((const mhi_call *)call)->name); }

/* A quick test that excludes nearly all other names: a C++ library binds thousands. */
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

/* sys_fault.c - one wrapper per system call, made by the linker's --wrap. */
#define _GNU_SOURCE
#include "sys_fault.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "sys/sys.h"

/* Result, name, parameters, arguments. A name that is missing here or in fault_link_args does not link. */
#define SYS_FAULT_CALLS(X)                                                                                          \
    X(int, munmap, (void *at, size_t n), (at, n))                                                                   \
    X(int, mprotect, (void *at, size_t n, int prot), (at, n, prot))                                                 \
    X(int, madvise, (void *at, size_t n, int advice), (at, n, advice))                                              \
    X(int, membarrier_register, (void), ())                                                                         \
    X(int, membarrier, (void), ())                                                                                  \
    X(int, open, (const char *path, int flags, mode_t mode), (path, flags, mode))                                   \
    X(int, openat, (int dir, const char *name, int flags, mode_t mode), (dir, name, flags, mode))                   \
    X(int, fstat, (int fd, struct stat *out), (fd, out))                                                            \
    X(int, stat, (const char *path, struct stat *out), (path, out))                                                 \
    X(int, lstat, (const char *path, struct stat *out), (path, out))                                                \
    X(int, flock, (int fd, int operation), (fd, operation))                                                         \
    X(int, fallocate, (int fd, int mode, uint64_t off, uint64_t n), (fd, mode, off, n))                             \
    X(int, ftruncate, (int fd, uint64_t n), (fd, n))                                                                \
    X(int, fsync, (int fd), (fd))                                                                                   \
    X(int, sync_range, (int fd, uint64_t off, uint64_t n), (fd, off, n))                                            \
    X(int, start_sync, (int fd, uint64_t off, uint64_t n), (fd, off, n))                                            \
    X(int, link_fd, (int fd, int dir, const char *name), (fd, dir, name))                                           \
    X(int, renameat, (int dir, const char *from, const char *to), (dir, from, to))                                  \
    X(int, rename_with, (int dir, const char *from, const char *to, unsigned flags), (dir, from, to, flags))        \
    X(int, unlinkat, (int dir, const char *name), (dir, name))                                                      \
    X(int, fchmod, (int fd, mode_t mode), (fd, mode))                                                               \
    X(int64_t, seek_data, (int fd, uint64_t off), (fd, off))                                                        \
    X(int64_t, seek_hole, (int fd, uint64_t off), (fd, off))                                                        \
    X(ssize_t, pread, (int fd, void *to, size_t n, uint64_t off), (fd, to, n, off))                                 \
    X(ssize_t, pwrite, (int fd, const void *from, size_t n, uint64_t off), (fd, from, n, off))                      \
    X(ssize_t, read, (int fd, void *to, size_t n), (fd, to, n))                                                     \
    X(ssize_t, read_directory, (int fd, void *to, size_t n), (fd, to, n))                                           \
    X(int, is_same_open, (int fd, int other), (fd, other))                                                          \
    X(int, has_children, (void), ())                                                                                \
    X(int, shadow_stack, (uint64_t *features), (features))                                                          \
    X(int, thread_read, (mhi_sys_thread * thread), (thread))                                                        \
    X(int, fork, (void), ())                                                                                        \
    X(int, random, (void *to, size_t n), (to, n))                                                                   \
    X(ssize_t, readlink, (const char *path, char *to, size_t n), (path, to, n))                                     \
    X(int, realpath, (const char *path, char *to, size_t n), (path, to, n))                                         \
    X(int, signal_thread, (int thread, int signal, void *value), (thread, signal, value))                           \
    X(int, action_catch, (int signal, mhi_sys_handler *handler, mhi_sys_action *before), (signal, handler, before)) \
    X(int, event, (uint64_t count, bool is_semaphore), (count, is_semaphore))                                       \
    X(int, epoll, (void), ())                                                                                       \
    X(int, epoll_add, (int set, int fd, uint32_t events, uint64_t data), (set, fd, events, data))                   \
    X(int, pipe, (int ends[2]), (ends))                                                                             \
    X(int, socket_pair, (int type, int ends[2]), (type, ends))                                                      \
    X(int, set_flags, (int fd, uint32_t flags), (fd, flags))                                                        \
    X(int, dup_as, (int fd, int other, bool is_cloexec), (fd, other, is_cloexec))                                   \
    X(int64_t, unread, (int fd), (fd))                                                                              \
    X(int64_t, peek_pipe, (int fd, void *to, size_t n), (fd, to, n))                                                \
    X(int64_t, peek_socket, (int fd, void *to, size_t n), (fd, to, n))                                              \
    X(int, write_all, (int fd, const void *from, size_t n), (fd, from, n))                                          \
    X(int, unix_peer, (uint64_t inode, uint64_t *peer, int *shut), (inode, peer, shut))

static atomic_uint_fast64_t calls;
static atomic_uint_fast64_t armed; /* 0: none */
static atomic_int armed_code;
static atomic_bool sticky, struck;
static char selection[512] = " "; /* names between blanks; " ": all */

static void arm(uint64_t n, int code, bool and_later)
{
    armed = 0;
    calls = 0;
    struck = false;
    sticky = and_later;
    armed_code = code;
    armed = n;
}

void sys_fault_arm(uint64_t n, int code) { arm(n, code, false); }
void sys_fault_arm_from(uint64_t n, int code) { arm(n, code, true); }
void sys_fault_disarm(void) { armed = 0; }
uint64_t sys_fault_calls(void) { return calls; }
bool sys_fault_struck(void) { return struck; }

void sys_fault_select(const char *names)
{
    if (snprintf(selection, sizeof selection, names == NULL ? " " : " %s ", names) >= (int)sizeof selection)
        abort();
}

/* 0, or the negative errno to fail with. `name` stands between blanks. */
static int strike(const char *name)
{
    if (selection[1] != '\0' && strstr(selection, name) == NULL)
        return 0;
    uint64_t call = ++calls, target = armed;
    if (target == 0 || (sticky ? call < target : call != target))
        return 0;
    if (armed_code == SYS_FAULT_KILL)
        raise(SIGKILL);
    struck = true;
    return -armed_code;
}

#define SYS_FAULT_WRAP(result, name, parameters, arguments)        \
    result __real_mhi_sys_##name parameters;                       \
    result __wrap_mhi_sys_##name parameters;                       \
    result __wrap_mhi_sys_##name parameters                        \
    {                                                              \
        int code = strike(" " #name " ");                          \
        return code != 0 ? code : __real_mhi_sys_##name arguments; \
    }
SYS_FAULT_CALLS(SYS_FAULT_WRAP)

static atomic_bool is_old_kernel;

void sys_fault_be_old(bool is_old) { is_old_kernel = is_old; }

int __real_mhi_sys_mmap(void **out, void *at, size_t n, int prot, int flags, int fd, uint64_t off);
int __wrap_mhi_sys_mmap(void **out, void *at, size_t n, int prot, int flags, int fd, uint64_t off);
int __wrap_mhi_sys_mmap(void **out, void *at, size_t n, int prot, int flags, int fd, uint64_t off)
{
    int code = strike(" mmap ");
    if (is_old_kernel)
        flags &= ~MAP_FIXED_NOREPLACE;
    return code != 0 ? code : __real_mhi_sys_mmap(out, at, n, prot, flags, fd, off);
}

static atomic_bool is_early;

void sys_fault_be_early(bool is) { is_early = is; }

int __real_mhi_sys_clock_ns(int clock, int64_t *ns);
int __wrap_mhi_sys_clock_ns(int clock, int64_t *ns);
int __wrap_mhi_sys_clock_ns(int clock, int64_t *ns)
{
    int result = __real_mhi_sys_clock_ns(clock, ns);
    *ns = is_early ? 0 : *ns;
    return result;
}

int __real_mhi_sys_close(int fd);
int __wrap_mhi_sys_close(int fd);
int __wrap_mhi_sys_close(int fd)
{
    int code = strike(" close "), result = __real_mhi_sys_close(fd);
    return code != 0 ? code : result;
}

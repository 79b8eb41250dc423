/* sys_raw.c - the system calls of sys.h that the launcher makes, without a C library. */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "sys/raw.h"
#include "sys/sys.h"

static uint64_t page_size;
static bool is_secure;

/* Copied, since the kernel's stack will be unmapped. */
void mhi_raw_begin(const uint64_t *auxv)
{
    for (; auxv[0] != AT_NULL; auxv += 2) {
        if (auxv[0] == AT_PAGESZ)
            page_size = auxv[1];
        if (auxv[0] == AT_SECURE)
            is_secure = auxv[1] != 0;
    }
}

uint64_t mhi_raw_clock_ns(void)
{
    struct timespec now = { 0 };
    mhi_raw_2(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* No signal handler is installed here, so nothing is ever interrupted. */

int mhi_sys_mmap(void **out, void *address, size_t size, int prot, int flags, int fd, uint64_t offset)
{
    long result = mhi_raw_6(SYS_mmap, (long)address, (long)size, prot, flags, fd, (long)offset);
    *out = result < 0 ? NULL : (void *)result;
    return result < 0 ? (int)result : 0;
}

int mhi_sys_munmap(void *address, size_t size) { return (int)mhi_raw_2(SYS_munmap, (long)address, (long)size); }
int mhi_sys_mprotect(void *address, size_t size, int prot)
{
    return (int)mhi_raw_3(SYS_mprotect, (long)address, (long)size, prot);
}
int mhi_sys_madvise(void *address, size_t size, int advice)
{
    return (int)mhi_raw_3(SYS_madvise, (long)address, (long)size, advice);
}
long mhi_sys_page_size(void) { return (long)page_size; }

int mhi_sys_open(const char *path, int flags, mode_t mode)
{
    int fd = (int)mhi_raw_4(SYS_openat, AT_FDCWD, (long)path, flags | O_CLOEXEC, mode);
    if (fd < 0 || fd > STDERR_FILENO)
        return fd;
    int other = (int)mhi_raw_3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    mhi_sys_close(fd);
    return other;
}

int mhi_sys_close(int fd) { return (int)mhi_raw_1(SYS_close, fd); }

static int examine(const char *path, struct stat *out, int flags)
{
    return (int)mhi_raw_4(SYS_newfstatat, AT_FDCWD, (long)path, (long)out, flags);
}

int mhi_sys_fstat(int fd, struct stat *out) { return (int)mhi_raw_2(SYS_fstat, fd, (long)out); }
int mhi_sys_status_flags(int fd) { return (int)mhi_raw_2(SYS_fcntl, fd, F_GETFL); }
int mhi_sys_descriptor_flags(int fd) { return (int)mhi_raw_2(SYS_fcntl, fd, F_GETFD); }
int64_t mhi_sys_position(int fd) { return mhi_raw_3(SYS_lseek, fd, 0, SEEK_CUR); }
int mhi_sys_stat(const char *path, struct stat *out) { return examine(path, out, 0); }
int mhi_sys_lstat(const char *path, struct stat *out) { return examine(path, out, AT_SYMLINK_NOFOLLOW); }

ssize_t mhi_sys_pread(int fd, void *buffer, size_t size, uint64_t offset)
{
    return mhi_raw_4(SYS_pread64, fd, (long)buffer, (long)size, (long)offset);
}

ssize_t mhi_sys_read_directory(int fd, void *entries, size_t size)
{
    return mhi_raw_3(SYS_getdents64, fd, (long)entries, (long)size);
}

bool mhi_sys_is_terminal(int fd)
{
    /* no smaller than the kernel's struct termios */
    struct {
        uint32_t modes[4];
        uint8_t line, characters[31];
    } settings;
    return mhi_raw_3(SYS_ioctl, fd, TCGETS, (long)&settings) == 0;
}

int mhi_sys_terminal_size(int fd, uint32_t *columns, uint32_t *rows)
{
    struct winsize size = { 0 };
    long result = mhi_raw_3(SYS_ioctl, fd, TIOCGWINSZ, (long)&size);
    *columns = size.ws_col;
    *rows = size.ws_row;
    return (int)result;
}

int mhi_sys_host(char name[MHI_SYS_HOST_BYTES])
{
    struct utsname found = { 0 };
    long result = mhi_raw_1(SYS_uname, (long)&found);
    memcpy(name, &found, MHI_SYS_HOST_BYTES);
    return (int)result;
}

uid_t mhi_sys_uid(void) { return (uid_t)mhi_raw_0(SYS_getuid); }
int mhi_sys_set_accessed(int fd, int64_t ns)
{
    const struct timespec times[] = { { ns / 1000000000, ns % 1000000000 }, { 0, UTIME_OMIT } };
    return (int)mhi_raw_4(SYS_utimensat, fd, 0, (long)times, 0);
}

int64_t mhi_sys_wall_clock_ns(void)
{
    struct timespec now = { 0 };
    mhi_raw_2(SYS_clock_gettime, CLOCK_REALTIME, (long)&now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

uid_t mhi_sys_euid(void) { return (uid_t)mhi_raw_0(SYS_geteuid); }

int mhi_sys_groups(gid_t *groups, int n)
{
    groups[0] = (gid_t)mhi_raw_0(SYS_getgid);
    groups[1] = (gid_t)mhi_raw_0(SYS_getegid);
    int more = (int)mhi_raw_2(SYS_getgroups, n - 2, (long)(groups + 2));
    return more < 0 ? more : more + 2;
}

int mhi_sys_access(const char *path, int mode) { return (int)mhi_raw_3(SYS_faccessat, AT_FDCWD, (long)path, mode); }
bool mhi_sys_secure_exec(void) { return is_secure; }

ssize_t mhi_sys_readlink(const char *path, char *buffer, size_t size)
{
    long length = mhi_raw_4(SYS_readlinkat, AT_FDCWD, (long)path, (long)buffer, (long)size);
    if (length >= 0 && (size_t)length >= size)
        return -ENAMETOOLONG;
    if (length >= 0)
        buffer[length] = '\0';
    return length;
}

/* The kernel resolves the path, and tells the result. */
int mhi_sys_realpath(const char *path, char *buffer, size_t size)
{
    char self[64];
    int fd = mhi_sys_open(path, O_PATH, 0);
    if (fd < 0)
        return fd;
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    ssize_t length = mhi_sys_readlink(self, buffer, size);
    mhi_sys_close(fd);
    return length < 0 ? (int)length : 0;
}

int mhi_sys_action_read(int signal, mhi_sys_action *action)
{
    return (int)mhi_raw_4(SYS_rt_sigaction, signal, 0, (long)action, sizeof action->mask);
}

int mhi_sys_execve(const char *path, char *const *argv, char *const *envp)
{
    return (int)mhi_raw_3(SYS_execve, (long)path, (long)argv, (long)envp);
}

/* The errors that opening and mapping a file may return. */
const char *mhi_sys_error_text(int code)
{
    switch (code) {
    case EPERM: return "Operation not permitted";
    case ENOENT: return "No such file or directory";
    case E2BIG: return "Argument list too long";
    case ENOEXEC: return "Exec format error";
    case EIO: return "Input/output error";
    case EBADF: return "Bad file descriptor";
    case ENOMEM: return "Cannot allocate memory";
    case EACCES: return "Permission denied";
    case ENOTDIR: return "Not a directory";
    case EINVAL: return "Invalid argument";
    case ENFILE: return "Too many open files in system";
    case EMFILE: return "Too many open files";
    case ENXIO: return "No such device or address";
    case ENAMETOOLONG: return "File name too long";
    case ENOSYS: return "Function not implemented";
    case ELOOP: return "Too many levels of symbolic links";
    case ENODATA: return "No data available";
    case ESTALE: return "Stale file handle";
    default: return "unexpected error";
    }
}

const char *mhi_sys_libc_version(void) { return NULL; }

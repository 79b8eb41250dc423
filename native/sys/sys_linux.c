/* sys_linux.c - the system calls, on Linux. */
#define _GNU_SOURCE
#include "sys/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <limits.h>
#include <linux/kcmp.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Repeats a call that a signal interrupted, then turns errno into the result. */
#define RETRY(call)                              \
    ({                                           \
        long result_;                            \
        do                                       \
            result_ = (long)(call);              \
        while (result_ == -1 && errno == EINTR); \
        result_ == -1 ? -(long)errno : result_;  \
    })

int mhi_sys_mmap(void **out, void *address, size_t size, int prot, int flags, int fd, uint64_t offset)
{
    void *mapped = mmap(address, size, prot, flags, fd, (off_t)offset);
    *out = mapped == MAP_FAILED ? NULL : mapped;
    return mapped == MAP_FAILED ? -errno : 0;
}

int mhi_sys_munmap(void *address, size_t size) { return munmap(address, size) == 0 ? 0 : -errno; }
int mhi_sys_mprotect(void *address, size_t size, int prot) { return mprotect(address, size, prot) == 0 ? 0 : -errno; }
int mhi_sys_madvise(void *address, size_t size, int advice) { return (int)RETRY(madvise(address, size, advice)); }

static int membarrier(int command) { return (int)RETRY(syscall(SYS_membarrier, command, 0, 0)); }
int mhi_sys_membarrier_register(void) { return membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED); }
int mhi_sys_membarrier(void) { return membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED); }

long mhi_sys_page_size(void) { return sysconf(_SC_PAGESIZE); }

int mhi_sys_open(const char *path, int flags, mode_t mode) { return mhi_sys_openat(AT_FDCWD, path, flags, mode); }

/* Gives a descriptor another number if it has that of a standard stream. */
static int above_streams(int fd)
{
    if (fd < 0 || fd > STDERR_FILENO)
        return fd;
    int other = (int)RETRY(fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
    close(fd);
    return other;
}

int mhi_sys_openat(int directory, const char *name, int flags, mode_t mode)
{
    return above_streams((int)RETRY(openat(directory, name, flags | O_CLOEXEC, mode)));
}

/* Not repeated: Linux has closed the descriptor even when it reports an interruption. */
int mhi_sys_close(int fd) { return close(fd) == 0 || errno == EINTR ? 0 : -errno; }
int mhi_sys_dup_to(int fd, int other) { return dup2(fd, other) < 0 ? -errno : 0; }

int mhi_sys_fstat(int fd, struct stat *out) { return fstat(fd, out) == 0 ? 0 : -errno; }
int mhi_sys_status_flags(int fd) { return (int)RETRY(fcntl(fd, F_GETFL)); }
int mhi_sys_descriptor_flags(int fd) { return (int)RETRY(fcntl(fd, F_GETFD)); }
int64_t mhi_sys_position(int fd) { return RETRY(lseek(fd, 0, SEEK_CUR)); }
int mhi_sys_stat(const char *path, struct stat *out) { return stat(path, out) == 0 ? 0 : -errno; }
int mhi_sys_lstat(const char *path, struct stat *out) { return lstat(path, out) == 0 ? 0 : -errno; }
int mhi_sys_flock(int fd, int operation) { return (int)RETRY(flock(fd, operation)); }

/* Whether a file would exceed RLIMIT_FSIZE: then the kernel would send SIGXFSZ, which by default ends the process. */
static bool exceeds_file_limit(uint64_t end)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && end > limit.rlim_cur;
}

int mhi_sys_fallocate(int fd, int mode, uint64_t offset, uint64_t size)
{
    if (mode == 0 && exceeds_file_limit(offset + size))
        return -EFBIG;
    return (int)RETRY(fallocate(fd, mode, (off_t)offset, (off_t)size));
}

int mhi_sys_ftruncate(int fd, uint64_t size)
{
    struct stat now;
    if (exceeds_file_limit(size) && (fstat(fd, &now) != 0 || size > (uint64_t)now.st_size))
        return -EFBIG;
    return (int)RETRY(ftruncate(fd, (off_t)size));
}

int mhi_sys_free_bytes(int fd, uint64_t *bytes)
{
    struct statvfs found;
    *bytes = 0;
    if (fstatvfs(fd, &found) != 0)
        return -errno;
    *bytes = (uint64_t)found.f_bavail * found.f_frsize;
    return found.f_blocks == 0 ? -ENODATA : 0;
}

int mhi_sys_fsync(int fd) { return (int)RETRY(fsync(fd)); }

int mhi_sys_sync_range(int fd, uint64_t offset, uint64_t size)
{
    unsigned flags = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    return (int)RETRY(sync_file_range(fd, (off_t)offset, (off_t)size, flags));
}

int mhi_sys_start_sync(int fd, uint64_t offset, uint64_t size)
{
    return (int)RETRY(sync_file_range(fd, (off_t)offset, (off_t)size, SYNC_FILE_RANGE_WRITE));
}

int mhi_sys_link_fd(int fd, int directory, const char *name)
{
    char source[64];
    snprintf(source, sizeof source, "/proc/self/fd/%d", fd);
    return linkat(AT_FDCWD, source, directory, name, AT_SYMLINK_FOLLOW) == 0 ? 0 : -errno;
}

int mhi_sys_renameat(int directory, const char *from, const char *to)
{
    return renameat(directory, from, directory, to) == 0 ? 0 : -errno;
}

int mhi_sys_rename_with(int directory, const char *from, const char *to, unsigned flags)
{
    return renameat2(directory, from, directory, to, flags) == 0 ? 0 : -errno;
}

int mhi_sys_unlinkat(int directory, const char *name) { return unlinkat(directory, name, 0) == 0 ? 0 : -errno; }
int mhi_sys_mkdir(const char *path, mode_t mode) { return mkdir(path, mode) == 0 ? 0 : -errno; }
int mhi_sys_symlinkat(const char *target, int directory, const char *name)
{
    return symlinkat(target, directory, name) == 0 ? 0 : -errno;
}
int mhi_sys_fchmod(int fd, mode_t mode) { return (int)RETRY(fchmod(fd, mode)); }

int mhi_sys_set_accessed(int fd, int64_t ns)
{
    const struct timespec times[] = { { ns / 1000000000, ns % 1000000000 }, { 0, UTIME_OMIT } };
    return (int)RETRY(futimens(fd, times));
}

int64_t mhi_sys_seek_data(int fd, uint64_t offset) { return RETRY(lseek(fd, (off_t)offset, SEEK_DATA)); }
int64_t mhi_sys_seek_hole(int fd, uint64_t offset) { return RETRY(lseek(fd, (off_t)offset, SEEK_HOLE)); }

ssize_t mhi_sys_pread(int fd, void *buffer, size_t size, uint64_t offset)
{
    return RETRY(pread(fd, buffer, size, (off_t)offset));
}

/* Not the C library's pwrite: in a process with threads, that function marks its thread as cancellable, and a process
 * that writes itself out would have the mark in the image. */
ssize_t mhi_sys_pwrite(int fd, const void *buffer, size_t size, uint64_t offset)
{
    if (exceeds_file_limit(offset + size))
        return -EFBIG;
    return RETRY(syscall(SYS_pwrite64, fd, buffer, size, offset));
}

ssize_t mhi_sys_read(int fd, void *buffer, size_t size) { return RETRY(read(fd, buffer, size)); }
ssize_t mhi_sys_read_directory(int fd, void *entries, size_t size)
{
    return RETRY(syscall(SYS_getdents64, fd, entries, size));
}

int mhi_sys_is_same_open(int fd, int other)
{
    pid_t self = getpid();
    long order = RETRY(syscall(SYS_kcmp, self, self, KCMP_FILE, fd, other));
    return order < 0 ? (int)order : order == 0;
}

int mhi_sys_socket_option(int fd, int option)
{
    int value;
    return getsockopt(fd, SOL_SOCKET, option, &value, &(socklen_t){ sizeof value }) == 0 ? value : -errno;
}

int mhi_sys_socket_peer(int fd, void *address, size_t size)
{
    return getpeername(fd, address, &(socklen_t){ (socklen_t)size }) == 0 ? 0 : -errno;
}

uid_t mhi_sys_euid(void) { return geteuid(); }

int mhi_sys_groups(gid_t *groups, int n)
{
    groups[0] = getgid();
    groups[1] = getegid();
    int more = getgroups(n - 2, groups + 2);
    return more < 0 ? -errno : more + 2;
}

int mhi_sys_access(const char *path, int mode) { return access(path, mode) < 0 ? -errno : 0; }
bool mhi_sys_secure_exec(void) { return getauxval(AT_SECURE) != 0; }

int64_t mhi_sys_wall_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int mhi_sys_random(void *buffer, size_t size)
{
    long got = RETRY(getrandom(buffer, size, 0));
    return got < 0 ? (int)got : (size_t)got == size ? 0 : -EIO;
}

ssize_t mhi_sys_readlink(const char *path, char *buffer, size_t size)
{
    long length = RETRY(readlink(path, buffer, size));
    if (length < 0)
        return length;
    if ((size_t)length >= size)
        return -ENAMETOOLONG;
    buffer[length] = '\0';
    return length;
}

int mhi_sys_realpath(const char *path, char *buffer, size_t size)
{
    char resolved[PATH_MAX];
    if (realpath(path, resolved) == NULL)
        return -errno;
    if (strlen(resolved) >= size)
        return -ENAMETOOLONG;
    strcpy(buffer, resolved);
    return 0;
}

int mhi_sys_process_id(void) { return (int)getpid(); }

const char *mhi_sys_error_text(int code)
{
    const char *text = strerrordesc_np(code);
    return text == NULL ? "unknown error" : text;
}

const char *mhi_sys_libc_version(void) { return gnu_get_libc_version(); }
int mhi_sys_thread_id(void) { return (int)syscall(SYS_gettid); }
void mhi_sys_yield(void) { sched_yield(); }

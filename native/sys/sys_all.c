/* sys_all.c - operations of several calls: reading and writing a whole range, a text of /proc, ignored signals. */
#include "sys/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>

int mhi_sys_pread_all(int fd, void *buffer, size_t size, uint64_t offset)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = mhi_sys_pread(fd, (char *)buffer + done, size - done, offset + done);
        if (n < 0)
            return (int)n;
        if (n == 0)
            return -ENODATA;
        done += (size_t)n;
    }
    return 0;
}

int mhi_sys_pwrite_all(int fd, const void *buffer, size_t size, uint64_t offset)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = mhi_sys_pwrite(fd, (const char *)buffer + done, size - done, offset + done);
        if (n < 0)
            return (int)n;
        if (n == 0)
            return -ENOSPC; /* a full device without an errno writes 0 bytes */
        done += (size_t)n;
    }
    return 0;
}

int mhi_sys_read_text(const char *path, char *text, size_t size)
{
    int fd = mhi_sys_open(path, O_RDONLY, 0);
    if (fd < 0)
        return fd;
    ssize_t length = mhi_sys_read(fd, text, size - 1);
    mhi_sys_close(fd);
    if (length < 0)
        return (int)length;
    text[length] = '\0';
    return 0;
}

/* No program is started with a real-time signal ignored, and reading those takes as long as finding a snapshot. */
enum { FIRST_REAL_TIME = 32 };

uint64_t mhi_sys_ignored_signals(void)
{
    uint64_t ignored = 0;
    for (int signal = 1; signal < FIRST_REAL_TIME; signal++) {
        mhi_sys_action action;
        if (mhi_sys_action_read(signal, &action) == 0 && action.handler == (uintptr_t)SIG_IGN)
            ignored |= 1ull << (signal - 1);
    }
    return ignored;
}

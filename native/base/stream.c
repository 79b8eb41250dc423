/* stream.c - see stream.h. */
#define _GNU_SOURCE
#include "base/stream.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "sys/sys.h"

bool mhi_stream_is_open(int fd)
{
    int flags = mhi_sys_descriptor_flags(fd);
    return flags >= 0 && !(flags & FD_CLOEXEC);
}

mhi_stream mhi_stream_look(int fd)
{
    struct stat found;
    if (!mhi_stream_is_open(fd) || mhi_sys_fstat(fd, &found) < 0)
        return (mhi_stream){ .position = MHI_NO_POSITION };
    int64_t position = mhi_sys_position(fd);
    bool is_device = S_ISCHR(found.st_mode) || S_ISBLK(found.st_mode), is_terminal = mhi_sys_is_terminal(fd);
    return (mhi_stream){
        .type = found.st_mode & S_IFMT,
        .flags = (uint32_t)mhi_sys_status_flags(fd) & (O_ACCMODE | O_APPEND | O_NONBLOCK),
        .device = is_device && !is_terminal ? found.st_rdev : 0,
        .position = position < 0 ? MHI_NO_POSITION : (uint64_t)position,
        .bytes = S_ISREG(found.st_mode) ? (uint64_t)found.st_size : 0,
        .is_terminal = is_terminal,
    };
}

uint32_t mhi_streams_open(void)
{
    uint32_t open = 0;
    for (int fd = 0; fd < MHI_STREAMS; fd++)
        open |= (uint32_t)mhi_stream_is_open(fd) << fd;
    return open;
}

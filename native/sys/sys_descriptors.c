/* sys_descriptors.c - descriptors of no file: how they are made, and what is in them. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "sys/sys.h"

static int result_of(long result) { return result < 0 ? -errno : (int)result; }

/* ---- making ---- */

int mhi_sys_event(uint64_t count, bool is_semaphore)
{
    int fd = result_of(eventfd(0, EFD_CLOEXEC | (is_semaphore ? EFD_SEMAPHORE : 0)));
    if (fd < 0 || count == 0 || write(fd, &count, sizeof count) == sizeof count)
        return fd;
    int result = -errno;
    close(fd);
    return result;
}

int mhi_sys_epoll(void) { return result_of(epoll_create1(EPOLL_CLOEXEC)); }

int mhi_sys_epoll_add(int set, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event event = { .events = events, .data.u64 = data };
    return result_of(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
}

int mhi_sys_timer_make(const mhi_sys_timer *timer)
{
    const struct itimerspec time = { .it_value = { timer->value_s, timer->value_ns },
                                     .it_interval = { timer->interval_s, timer->interval_ns } };
    int fd = result_of(timerfd_create(timer->clock, TFD_CLOEXEC));
    /* the kernel tells what is left, also of a timer that was set to a point in time */
    if (fd < 0 || timerfd_settime(fd, (int)timer->flags & TFD_TIMER_CANCEL_ON_SET, &time, NULL) == 0)
        return fd;
    int result = -errno;
    close(fd);
    return result;
}

int mhi_sys_signals(uint64_t mask) { return result_of(syscall(SYS_signalfd4, -1, &mask, sizeof mask, SFD_CLOEXEC)); }

int mhi_sys_pipe(int ends[2]) { return result_of(pipe2(ends, O_CLOEXEC)); }
int mhi_sys_socket_pair(int type, int ends[2]) { return result_of(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends)); }
int mhi_sys_shut(int fd, int how) { return result_of(shutdown(fd, how)); }
int mhi_sys_set_flags(int fd, uint32_t flags) { return result_of(fcntl(fd, F_SETFL, (int)flags)); }
int mhi_sys_dup_as(int fd, int other, bool is_cloexec)
{
    return result_of(dup3(fd, other, is_cloexec ? O_CLOEXEC : 0));
}

/* ---- content ---- */

int64_t mhi_sys_unread(int fd)
{
    int bytes = 0;
    return ioctl(fd, FIONREAD, &bytes) == 0 ? bytes : -errno;
}

int mhi_sys_pipe_capacity(int fd) { return result_of(fcntl(fd, F_GETPIPE_SZ)); }

int mhi_sys_set_pipe_capacity(int fd, uint64_t bytes)
{
    return mhi_sys_pipe_capacity(fd) == (int)bytes ? 0 : result_of(fcntl(fd, F_SETPIPE_SZ, (int)bytes));
}

int64_t mhi_sys_peek_pipe(int fd, void *buffer, size_t size)
{
    int copy[2], result = mhi_sys_pipe(copy);
    if (result < 0)
        return result;
    ssize_t n = mhi_sys_set_pipe_capacity(copy[1], (uint64_t)mhi_sys_pipe_capacity(fd));
    if (n >= 0)
        n = tee(fd, copy[1], size, SPLICE_F_NONBLOCK);
    int error = n < 0 ? -errno : 0;
    if (n > 0) {
        n = mhi_sys_read(copy[0], buffer, (size_t)n);
        error = (int)n;
    }
    close(copy[0]);
    close(copy[1]);
    return error < 0 ? error : n;
}

int64_t mhi_sys_peek_socket(int fd, void *buffer, size_t size)
{
    char ancillary[CMSG_SPACE(sizeof(int))]; /* descriptors or credentials on their way can't be copied */
    struct iovec part = { buffer, size };
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = ancillary, .msg_controllen = sizeof ancillary
    };
    ssize_t n = recvmsg(fd, &message, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    struct cmsghdr *found = n < 0 ? NULL : CMSG_FIRSTHDR(&message);
    if (found != NULL && found->cmsg_level == SOL_SOCKET && found->cmsg_type == SCM_RIGHTS)
        close(*(int *)CMSG_DATA(found));
    return n < 0 ? -errno : found != NULL || (message.msg_flags & MSG_CTRUNC) ? -EOPNOTSUPP : n;
}

int mhi_sys_write_all(int fd, const void *buffer, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = write(fd, (const char *)buffer + done, size - done);
        if (n < 0 && errno != EINTR)
            return -errno;
        done += n < 0 ? 0 : (size_t)n;
    }
    return 0;
}

/* ---- sockets ---- */

bool mhi_sys_is_nameless_socket(int fd)
{
    struct sockaddr_un name;
    socklen_t size = sizeof name;
    return getsockname(fd, (struct sockaddr *)&name, &size) == 0 && size <= sizeof name.sun_family;
}

typedef struct {
    struct nlmsghdr header;
    struct unix_diag_req body;
} peer_request;

static int read_peer(const struct nlmsghdr *header, size_t size, uint64_t *peer, int *shut)
{
    *peer = 0;
    *shut = 0;
    if (!NLMSG_OK(header, size))
        return -ENODATA;
    if (header->nlmsg_type == NLMSG_ERROR)
        return ((const struct nlmsgerr *)NLMSG_DATA(header))->error;
    const struct unix_diag_msg *body = NLMSG_DATA(header);
    const struct rtattr *each = (const struct rtattr *)(body + 1);
    for (size_t left = header->nlmsg_len - NLMSG_LENGTH(sizeof *body); RTA_OK(each, left);
         each = RTA_NEXT(each, left)) {
        if (each->rta_type == UNIX_DIAG_PEER)
            *peer = *(const uint32_t *)RTA_DATA(each);
        if (each->rta_type == UNIX_DIAG_SHUTDOWN)
            *shut = *(const uint8_t *)RTA_DATA(each);
    }
    return *peer == 0 ? -ENOTCONN : 0;
}

int mhi_sys_unix_peer(uint64_t inode, uint64_t *peer, int *shut)
{
    _Alignas(struct nlmsghdr) char answer[1024];
    const peer_request request = {
        .header = { .nlmsg_len = sizeof request, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST },
        .body = { .sdiag_family = AF_UNIX,
                  .udiag_states = UINT32_MAX,
                  .udiag_ino = (uint32_t)inode,
                  .udiag_show = UDIAG_SHOW_PEER,
                  .udiag_cookie = { UINT32_MAX, UINT32_MAX } },
    };
    int fd = result_of(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
    if (fd < 0)
        return fd;
    int result = result_of(send(fd, &request, sizeof request, 0));
    if (result >= 0)
        result = result_of(recv(fd, answer, sizeof answer, 0));
    close(fd);
    return result < 0 ? result : read_peer((const struct nlmsghdr *)answer, (size_t)result, peer, shut);
}

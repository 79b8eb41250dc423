/* reads.c - see reads.h. */
#define _GNU_SOURCE
#include "route/reads.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/identity.h"
#include "route/questions.h"

enum { HANDED_MAX = 64 }; /* descriptors with which the process was started; of more, the first count */

typedef enum { NOTHING, STANDARD_INPUT, HANDED, NAMED_PIPE, TERMINAL } source;

static const char *const subjects[] = { NULL, "standard input",
                                        "a file, pipe or socket that the process was started with", "a named pipe",
                                        "a terminal" };

static struct stat handed[HANDED_MAX]; /* st_mode 0: not open */
static bool had_buffer;                /* C's standard input had a buffer at the begin */
static atomic_int first;               /* source */

void mhi_reads_begin(bool is_first_instruction)
{
    int saved_errno = errno;
    for (int fd = 0; fd < HANDED_MAX; fd++) {
        /* close-on-exec: the interpreter's own, as it reads a .pth file, also by the number of a closed stream */
        bool is_considered = (fd <= STDERR_FILENO || is_first_instruction) && (fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0;
        if (!is_considered || fstat(fd, &handed[fd]) < 0)
            handed[fd] = (struct stat){ 0 };
    }
    had_buffer = __fbufsize(stdin) > 0;
    atomic_store(&first, NOTHING);
    errno = saved_errno;
}

/* By linux/major.h: virtual consoles, serial lines, /dev/tty and pseudo-terminals. */
static bool is_terminal(const struct stat *found)
{
    unsigned number = major(found->st_rdev);
    return S_ISCHR(found->st_mode) &&
           (number == 4 || (number == 5 && minor(found->st_rdev) < 2) || (number >= 136 && number <= 143));
}

static bool is_handed(int fd, const struct stat *found, int as)
{
    bool is_device = S_ISCHR(found->st_mode) && !is_terminal(found); /* any code opens /dev/null */
    return handed[as].st_mode != 0 && mhi_is_same_file(mhi_file_id_of(&handed[as]), mhi_file_id_of(found)) &&
           (!is_device || fd == as);
}

static source source_of(int fd)
{
    struct stat found;
    struct statfs system;
    if (fstat(fd, &found) < 0 || S_ISDIR(found.st_mode))
        return NOTHING;
    if (is_handed(fd, &found, STDIN_FILENO))
        return STANDARD_INPUT;
    for (int as = STDIN_FILENO + 1; as < HANDED_MAX; as++)
        if (is_handed(fd, &found, as))
            return HANDED;
    /* other pipes are the process's own */
    if (S_ISFIFO(found.st_mode) && fstatfs(fd, &system) == 0 && system.f_type != PIPEFS_MAGIC)
        return NAMED_PIPE;
    return is_terminal(&found) ? TERMINAL : NOTHING;
}

void mhi_see_read(int fd)
{
    int saved_errno = errno, none = NOTHING;
    if (mhi_questions_are_noted() && atomic_load_explicit(&first, memory_order_relaxed) == NOTHING)
        atomic_compare_exchange_strong(&first, &none, source_of(fd));
    errno = saved_errno;
}

const char *mhi_reads_what(void)
{
    source found = (source)atomic_load(&first); /* `first` holds nothing but sources */
    return subjects[found == NOTHING && !had_buffer && __fbufsize(stdin) > 0 ? STANDARD_INPUT : found];
}

ssize_t mhi_routed_read(int fd, void *buffer, size_t size) { return mhi_see_read(fd), read(fd, buffer, size); }
ssize_t mhi_routed_read_chk(int fd, void *buffer, size_t size, size_t room)
{
    return size > room ? (abort(), -1) : mhi_routed_read(fd, buffer, size);
}
ssize_t mhi_routed_pread(int fd, void *buffer, size_t size, off_t offset)
{
    return mhi_see_read(fd), pread(fd, buffer, size, offset);
}
ssize_t mhi_routed_readv(int fd, const struct iovec *pieces, int n) { return mhi_see_read(fd), readv(fd, pieces, n); }
ssize_t mhi_routed_preadv(int fd, const struct iovec *pieces, int n, off_t offset)
{
    return mhi_see_read(fd), preadv(fd, pieces, n, offset);
}

ssize_t mhi_routed_pread_chk(int fd, void *buffer, size_t size, off_t offset, size_t room)
{
    return size > room ? (abort(), -1) : mhi_routed_pread(fd, buffer, size, offset);
}

static void see_set(int n, const fd_set *readable)
{
    for (int fd = 0; readable != NULL && fd < n && fd < FD_SETSIZE; fd++)
        if (FD_ISSET(fd, readable))
            mhi_see_read(fd);
}

static void see_waited(const struct pollfd *waited, nfds_t n)
{
    for (nfds_t i = 0; i < n; i++)
        if (waited[i].events & (POLLIN | POLLRDNORM))
            mhi_see_read(waited[i].fd);
}

int mhi_routed_select(int n, fd_set *readable, fd_set *writable, fd_set *exceptional, struct timeval *timeout)
{
    return see_set(n, readable), select(n, readable, writable, exceptional, timeout);
}

int mhi_routed_pselect(int n, fd_set *readable, fd_set *writable, fd_set *exceptional, const struct timespec *timeout,
                       const sigset_t *mask)
{
    return see_set(n, readable), pselect(n, readable, writable, exceptional, timeout, mask);
}

int mhi_routed_poll(struct pollfd *waited, nfds_t n, int timeout_ms)
{
    return see_waited(waited, n), poll(waited, n, timeout_ms);
}

int mhi_routed_poll_chk(struct pollfd *waited, nfds_t n, int timeout_ms, size_t room)
{
    return n > room / sizeof *waited ? (abort(), -1) : mhi_routed_poll(waited, n, timeout_ms);
}

int mhi_routed_ppoll(struct pollfd *waited, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
    return see_waited(waited, n), ppoll(waited, n, timeout, mask);
}

int mhi_routed_epoll_ctl(int set, int operation, int fd, struct epoll_event *event)
{
    if (operation != EPOLL_CTL_DEL && event != NULL && event->events & (EPOLLIN | EPOLLRDNORM))
        mhi_see_read(fd);
    return epoll_ctl(set, operation, fd, event);
}

/* reads.h - what is read from where every run has something of its own: standard input, a pipe, a terminal, a
 * descriptor that was handed over.
 *
 * No later run can be asked whether it would read the same, and what was read is gone: a process that has read from
 * there can't be committed.
 */
#ifndef MHI_ROUTE_READS_H
#define MHI_ROUTE_READS_H
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Notes what the process was handed: standard streams, and, where nothing of the program has run yet, everything that
 * is open. */
void mhi_reads_begin(bool is_first_instruction);
/* Notes it if this descriptor, which is about to be read, leads there. */
void mhi_see_read(int fd);
/* What was read from first, as the subject of a sentence; or NULL. Sees what C's standard input has in its buffer, too.
 * */
const char *mhi_reads_what(void);

/* Whether there is something to read is an answer, too. */
int mhi_routed_select(int n, fd_set *readable, fd_set *writable, fd_set *exceptional, struct timeval *timeout);
int mhi_routed_pselect(int n, fd_set *readable, fd_set *writable, fd_set *exceptional, const struct timespec *timeout,
                       const sigset_t *mask);
int mhi_routed_poll(struct pollfd *waited, nfds_t n, int timeout_ms);
int mhi_routed_poll_chk(struct pollfd *waited, nfds_t n, int timeout_ms, size_t room);
int mhi_routed_ppoll(struct pollfd *waited, nfds_t n, const struct timespec *timeout, const sigset_t *mask);
int mhi_routed_epoll_ctl(int set, int operation, int fd, struct epoll_event *event);

ssize_t mhi_routed_read(int fd, void *buffer, size_t size);
ssize_t mhi_routed_read_chk(int fd, void *buffer, size_t size, size_t room);
ssize_t mhi_routed_pread(int fd, void *buffer, size_t size, off_t offset);
ssize_t mhi_routed_pread_chk(int fd, void *buffer, size_t size, off_t offset, size_t room);
ssize_t mhi_routed_readv(int fd, const struct iovec *pieces, int n);
ssize_t mhi_routed_preadv(int fd, const struct iovec *pieces, int n, off_t offset);

#endif

/* reads.h - notes reads from sources whose content differs in every run: standard input, a pipe, a terminal, an
 * inherited descriptor.
 *
 * A later run can't tell whether it would read the same bytes, and bytes that were read are gone: a process that has
 * read from such a source can't be committed.
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

/* Records the inherited descriptors: the standard streams and, if no code of the program has run yet, all that are
 * open. */
void mhi_reads_begin(bool is_first_instruction);
/* Notes a read that is about to happen, if the descriptor leads to such a source. */
void mhi_see_read(int fd);
/* The first source that was read, as the subject of a sentence; or NULL. Also notices a filled buffer of C's standard
 * input. */
const char *mhi_reads_what(void);

/* Waiting for input counts as a read: whether there is some differs in every run, too. */
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

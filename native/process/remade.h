/* remade.h - descriptors that lead nowhere outside this process: epoll sets, eventfds, timerfds, signalfds, pipes and
 * socket pairs with both ends here. Each resumed process makes them anew, with what was in them.
 *
 *     mhi_remade_forget, mhi_remade_consider    while the descriptors are listed
 *     mhi_remade_join                           when all are listed
 *     mhi_remade_take                           while nobody else runs: their states
 *     mhi_remade_make                           in a resumed process
 */
#ifndef MHI_REMADE_H
#define MHI_REMADE_H
#include <sys/stat.h>

#include "magicheap.h"

enum { MHI_REMADE_MAX = 1024 }; /* arbitrary */

void mhi_remade_forget(void);
/* Whether the descriptor is of a kind that may be remade; `target`: its link in /proc/self/fd. `flags`: O_*. */
bool mhi_remade_consider(int fd, const struct stat *status, const char *target, uint32_t flags);
/* Finds the ends that belong together, and calls `take` for each considered descriptor. Returns its first result that
 * is not 0, or 0. */
int mhi_remade_join(int (*take)(void *context, int fd), void *context);
/* Whether a considered descriptor will be remade: nothing outside this process is at its other end. */
bool mhi_remade_is_inner(int fd);
bool mhi_remade_are_there(void); /* any that was considered */
/* In a resumed process: whether this descriptor is still one that mhi_remade_make has made. */
bool mhi_remade_is_made(int fd, const struct stat *status);
/* Keeps the states of all inner descriptors in this process's memory, where its image has them. Allocates nothing and
 * takes no lock. MH_ERR_UNSUPPORTED names one whose state can't be told. */
int mhi_remade_take(mh_error *err);
/* In a resumed process, where /dev/null is open at their numbers. */
int mhi_remade_make(mh_error *err);

#endif

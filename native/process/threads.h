/* threads.h - the other threads of this process, as an image carries them.
 *
 *     mhi_threads_stop      in the committing process: all of them stand still
 *     (the process is copied, and the copy written)
 *     mhi_threads_go        in the committing process: they go on
 *     mhi_threads_revive    in a resumed process: they are there again, and stand still
 *     mhi_threads_go        there: they go on
 */
#ifndef MHI_THREADS_H
#define MHI_THREADS_H
#include "magicheap.h"
#include "process/obstacles.h"

enum { MHI_THREADS_MAX = 1024 }; /* arbitrary; a server has some hundreds */

/* Returns when no other thread runs, and each has left its state where a copy of this process finds it.
 * MH_ERR_UNSUPPORTED names threads that can't be stopped or revived, with their libraries as far as `known` has them;
 * then all go on. */
int mhi_threads_stop(const mhi_known_threads *known, mh_error *err);
void mhi_threads_go(void);
/* In a copy of the process that stopped its threads: makes them anew. They stand still until mhi_threads_go. If it
 * fails, some may be there, and stand still: the process must end or execute a program. MH_ERR_STALE: a new snapshot
 * will do. */
int mhi_threads_revive(mh_error *err);

/* While they stand still: the thread that holds a lock in this memory which knows its owner by the thread's id, as
 * recursive and error-checking mutexes do (T4); or another word of memory that looks like one. 0: there is none. */
int mhi_threads_owner(const void *memory, size_t size_bytes);
const char *mhi_threads_name(int thread); /* of one that stands still, or did not stop; "": of no other */

#endif

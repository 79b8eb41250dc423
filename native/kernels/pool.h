/* pool.h - distributes a loop over the pool's threads. */
#ifndef MK_POOL_H
#define MK_POOL_H
#include "llama_kernels.h"

/* mk_pool_new with exactly the requested number of threads, even beyond the CPUs: for tests of the pool itself. */
int mki_pool_new(mk_pool **pool, int32_t n_threads);

/* Does items first .. last-1 of a job. May run on any thread, several at once, in any order. */
typedef void mki_task(void *arg, int32_t first, int32_t last);

/* Calls `task` until every item of 0 .. n_items-1 has been done exactly once; returns when all are. The caller works
 * too. pool may be NULL. A second thread that comes while the pool is busy does its whole job itself. */
void mki_pool_run(mk_pool *pool, int32_t n_items, mki_task *task, void *arg);
#endif

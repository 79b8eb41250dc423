/* pool.c - a few persistent threads that take chunks of one job at a time.
 *
 * A job is finished when all its items are, not when all workers have reported: a worker that waits for a CPU delays
 * the job only if it has taken a chunk, and in a child of fork(), which has no workers, the caller does everything.
 *
 *   ticket = (job number, items not yet taken)     the caller opens a job by storing (number + 1, all)
 *
 * A worker reads the ticket and, if items are left, the job; then it takes the last few items by compare-and-swap from
 * the ticket it read. It takes its share of the rest, so that chunks are large at first and small in the end, when
 * threads would otherwise wait for each other (guided self-scheduling, Polychronopoulos & Kuck 1987). Large chunks of a
 * matrix are also long sequential reads, which the hardware prefetcher follows best.
 *   P1. If the swap succeeds, the worker has read that very job: until then the job had items left, and the caller
 *       writes the next job only after every item of this one is done. If the swap fails, the worker discards what it
 *       read.
 *   P2. No thread sleeps through an event: a sleeper announces itself, then the kernel compares the word it waits on; a
 *       thread that changes the word then looks for sleepers. (Both orders are sequentially consistent.)
 */
#include "pool.h"
#include "relax.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    SPINS = 1000, /* spins of about 15 to 50 ns each: just longer than the gap between two jobs of a token */
};

struct mk_pool {
    _Atomic uint64_t ticket; /* job number << 32 | items not yet taken */
    _Atomic(mki_task *) task;
    _Atomic(void *) arg;
    _Atomic uint32_t n_undone; /* items of the job that are not done; the caller sleeps on it */
    _Atomic uint32_t n_posted; /* jobs opened, and the end; workers sleep on it */
    _Atomic int32_t workers_asleep, caller_asleep;
    _Atomic bool busy, stopping;
    int32_t n_threads; /* the caller and n_threads - 1 workers */
    pid_t pid;         /* the process whose workers these are */
    pthread_t workers[];
};

static void futex_wait(_Atomic uint32_t *word, uint32_t seen)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int n)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

/* Returns when *word is no longer `seen`, or sometimes before. */
static void wait_for_change(_Atomic uint32_t *word, uint32_t seen, _Atomic int32_t *asleep)
{
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(word, memory_order_acquire) != seen)
            return;
        mki_relax();
    }
    atomic_fetch_add(asleep, 1);
    futex_wait(word, seen);
    atomic_fetch_sub(asleep, 1);
}

/* Takes chunks of the open job until none is left. */
static void work(mk_pool *pool)
{
    uint64_t ticket = atomic_load(&pool->ticket);
    for (uint32_t left; (left = (uint32_t)ticket) > 0;) {
        mki_task *task = atomic_load_explicit(&pool->task, memory_order_relaxed);
        void *arg = atomic_load_explicit(&pool->arg, memory_order_relaxed);
        uint32_t share = left / (uint32_t)pool->n_threads, n = share > 0 ? share : 1;
        if (!atomic_compare_exchange_strong(&pool->ticket, &ticket, ticket - n))
            continue; /* the failed swap has loaded the present ticket */
        task(arg, (int32_t)(left - n), (int32_t)left);
        if (atomic_fetch_sub(&pool->n_undone, n) == n && atomic_load(&pool->caller_asleep))
            futex_wake(&pool->n_undone, 1);
        ticket -= n;
    }
}

static void *worker(void *arg)
{
    mk_pool *pool = arg;
    uint32_t seen = 0;
    while (!atomic_load(&pool->stopping)) {
        wait_for_change(&pool->n_posted, seen, &pool->workers_asleep);
        seen = atomic_load(&pool->n_posted);
        work(pool);
    }
    return NULL;
}

static void announce(mk_pool *pool)
{
    atomic_fetch_add(&pool->n_posted, 1);
    if (atomic_load(&pool->workers_asleep))
        futex_wake(&pool->n_posted, INT_MAX);
}

void mki_pool_run(mk_pool *pool, int32_t n_items, mki_task *task, void *arg)
{
    if (n_items <= 1 || !pool || pool->n_threads == 1 || atomic_exchange(&pool->busy, true)) {
        if (n_items > 0)
            task(arg, 0, n_items);
        return;
    }
    uint32_t all = (uint32_t)n_items;
    atomic_store_explicit(&pool->task, task, memory_order_relaxed);
    atomic_store_explicit(&pool->arg, arg, memory_order_relaxed);
    atomic_store_explicit(&pool->n_undone, all, memory_order_relaxed);
    atomic_store(&pool->ticket, ((atomic_load(&pool->ticket) >> 32) + 1) << 32 | all);
    announce(pool);
    work(pool);
    for (uint32_t n; (n = atomic_load(&pool->n_undone)) > 0;)
        wait_for_change(&pool->n_undone, n, &pool->caller_asleep);
    atomic_store(&pool->busy, false);
}

/* Starts workers until n_threads - 1 run; signals are left to the threads of the program. */
static int start_workers(mk_pool *pool, int32_t n_threads)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = 0;
    while (!failed && pool->n_threads < n_threads) {
        failed = pthread_create(&pool->workers[pool->n_threads - 1], NULL, worker, pool);
        pool->n_threads += !failed;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed ? MK_ERR_MEMORY : MK_OK;
}

int mki_pool_new(mk_pool **pool, int32_t n_threads)
{
    if (!pool)
        return MK_ERR_ARGUMENT;
    *pool = NULL;
    if (n_threads < 1 || n_threads > MK_POOL_THREADS_MAX)
        return MK_ERR_ARGUMENT;
    mk_pool *p = calloc(1, sizeof *p + (size_t)(n_threads - 1) * sizeof *p->workers);
    if (!p)
        return MK_ERR_MEMORY;
    p->n_threads = 1;
    p->pid = getpid();
    if (start_workers(p, n_threads)) {
        mk_pool_free(p);
        return MK_ERR_MEMORY;
    }
    *pool = p;
    return MK_OK;
}

int mk_pool_new(mk_pool **pool, int32_t n_threads)
{
    int32_t n_cpus = n_threads > 1 ? mk_cpu_count() : 1;
    return mki_pool_new(pool, n_threads > n_cpus && n_threads <= MK_POOL_THREADS_MAX ? n_cpus : n_threads);
}

void mk_pool_free(mk_pool *pool)
{
    if (!pool)
        return;
    if (pool->pid == getpid()) { /* a child of fork() has no workers to wait for */
        atomic_store(&pool->stopping, true);
        announce(pool);
        for (int32_t i = 0; i < pool->n_threads - 1; i++)
            pthread_join(pool->workers[i], NULL);
    }
    free(pool);
}

int32_t mk_pool_threads(const mk_pool *pool) { return pool ? pool->n_threads : 1; }

/* replay.c - replays one trace and prints nanoseconds per call and the peak of resident memory in KiB.
 *
 *     replay_arena TRACE THREADS    the functions of magicheap, on an arena
 *     replay_malloc TRACE THREADS   those of the process: glibc's, or what LD_PRELOAD names
 *     replay_routed TRACE THREADS   those of the process inside a transaction, as its users get them: routed, into an
 *     arena on a file
 *
 * The same text three times, with the calls written in directly. Blocks are touched, since untouched memory is free for
 * everyone: the first word, and one byte of every page.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

#include "trace.h"

#if defined REPLAY_ARENA || defined REPLAY_ROUTED
#include "magicheap.h"
#endif
#ifdef REPLAY_ARENA
static mh_arena *arena;
#define ALLOCATE(size) mh_malloc(arena, size)
#define RESIZE(block, size) mh_realloc(arena, block, size)
#define FREE(block) mh_free(block)
#else
#define ALLOCATE(size) malloc(size)
#define RESIZE(block, size) realloc(block, size)
#define FREE(block) free(block)
#endif

enum { THREADS_MAX = 64, PAGE = 4096 };

typedef struct {
    trace t;
    int id;
    double seconds;
} worker;

static char **tables[THREADS_MAX]; /* slots; handed on from thread to thread */
static int n_threads;
static pthread_barrier_t barrier;

static inline void touch(char *block, size_t from, size_t size_bytes)
{
    if (block == NULL)
        exit(3);
    memcpy(block, &size_bytes, size_bytes < 8 ? size_bytes : 8);
    for (size_t i = from; i < size_bytes; i += PAGE)
        block[i] = 1;
}

static void replay(const trace *t, char **slots)
{
    for (size_t i = 0; i < t->n_ops; i++) {
        op o = t->ops[i];
        switch (o.kind) {
        case OP_REPLACE:
            FREE(slots[o.slot]);
            /* fall through */
        case OP_ALLOCATE:
            slots[o.slot] = ALLOCATE(o.size_bytes);
            touch(slots[o.slot], PAGE, o.size_bytes);
            break;
        case OP_FREE:
            FREE(slots[o.slot]);
            slots[o.slot] = NULL;
            break;
        case OP_RESIZE:
            slots[o.slot] = RESIZE(slots[o.slot], o.size_bytes);
            touch(slots[o.slot], o.size_bytes - 1, o.size_bytes);
            break;
        }
    }
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void *work(void *context)
{
    worker *w = context;
    pthread_barrier_wait(&barrier);
    double start = now();
    for (int pass = 0; pass < w->t.n_passes; pass++) {
        replay(&w->t, tables[(w->id + pass) % n_threads]);
        if (n_threads > 1)
            pthread_barrier_wait(&barrier);
    }
    w->seconds = now() - start;
    return NULL;
}

static double run(worker *workers)
{
    pthread_t threads[THREADS_MAX];
    double seconds = 0;
    pthread_barrier_init(&barrier, NULL, (unsigned)n_threads);
    for (int i = 1; i < n_threads; i++)
        if (pthread_create(&threads[i], NULL, work, &workers[i]) != 0)
            exit(1);
    work(&workers[0]); /* one thread: the main one, as in most programs */
    for (int i = 1; i < n_threads; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < n_threads; i++)
        seconds += workers[i].seconds / n_threads;
    return seconds;
}

int main(int argc, char **argv)
{
    static worker workers[THREADS_MAX];
    double n_calls = 0;
    if (argc != 3 || (n_threads = atoi(argv[2])) < 1 || n_threads > THREADS_MAX) {
        fprintf(stderr, "usage: %s TRACE THREADS\n", argv[0]);
        return 2;
    }
    for (int i = 0; i < n_threads; i++) {
        workers[i] = (worker){ .t = trace_make(argv[1], (uint64_t)i + 1), .id = i };
        n_calls += (double)workers[i].t.n_ops * workers[i].t.n_passes;
    }
    /* by mmap: the traces come from the allocator that is measured, the tables need not */
    for (int i = 0; i < n_threads; i++)
        tables[i] = mmap(NULL, workers[0].t.n_slots * sizeof **tables, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
#ifdef REPLAY_ARENA
    if (mh_arena_new(&arena, 0, NULL) != MH_OK)
        return 1;
#endif
#ifdef REPLAY_ROUTED
    mh_transaction *tx; /* backed by a file in the working directory, as a user's is; never committed */
    if (mh_open(&tx, "replay.dat", NULL, NULL) != MH_OK || mh_begin(tx, NULL) != MH_OK)
        return 1;
#endif
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    double seconds = run(workers);
    getrusage(RUSAGE_SELF, &after);
#ifdef REPLAY_ROUTED
    mh_abandon(tx);
    mh_close(tx);
#endif
    printf("%.3f %ld\n", seconds * 1e9 / n_calls * n_threads, after.ru_maxrss - before.ru_maxrss);
    return 0;
}

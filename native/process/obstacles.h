/* obstacles.h - what a process snapshot can't carry, by name: found before the fork, while there is somebody to tell.
 * */
#ifndef MHI_OBSTACLES_H
#define MHI_OBSTACLES_H
#include "base/maps.h"
#include "magicheap.h"

/* Obstacles of one sort, told in one sentence as far as it goes: "descriptor 4 is a pipe, descriptor 5 is a pipe and 7
 * more". */
typedef struct {
    unsigned n, n_told;
    size_t used;
    char text[360]; /* leaves room for the rest of the sentence in mh_error.detail */
} mhi_obstacles;

__attribute__((format(printf, 2, 3))) void mhi_obstacles_add(mhi_obstacles *found, const char *format, ...);
/* MH_OK if there are none, else MH_ERR_UNSUPPORTED with the sentence and, behind a colon, what to do. */
int mhi_obstacles_end(const mhi_obstacles *found, const char *remedy, mh_error *err);

/* Before the fork, of the calling process: raised privileges, a /proc that tells too little, a shadow stack, living
 * children, and memory that other processes or devices share. MH_ERR_UNSUPPORTED names what it is. */
int mhi_obstacles_check(mh_error *err);

/* arbitrary: a pool of 128 processors, and another; a name that is told */
enum { MHI_KNOWN_THREADS = 256, MHI_LIBRARY_BYTES = 64 };

/* What mh_know_thread has said. */
typedef struct {
    int thread;
    uint64_t n_switches;             /* 0: it may not be lost */
    char library[MHI_LIBRARY_BYTES]; /* cut to fit */
} mhi_known_thread;

typedef struct {
    size_t n;
    mhi_known_thread items[MHI_KNOWN_THREADS];
} mhi_known_threads;

/* After all other handlers that fork calls before it forks, some of which end threads, and again before those that it
 * calls afterwards: MH_ERR_UNSUPPORTED names the other threads that are alive, which a fork would lose, or has. Those
 * that may be lost are let through if they have rested ever since, so that they hold no lock and have no work.
 * Allocates nothing and takes no lock. */
int mhi_threads_check(const mhi_known_threads *known, mh_error *err);

/* The launcher's own memory, which no image has. */
bool mhi_is_of_launcher(const mhi_mapping *mapping);
/* Whether a writable shared mapping can be made anew in each later run: shared anonymous memory and semaphores without
 * a name, as multiprocessing makes for its locks. They are there to be shared with processes that this one forks, and
 * mhi_obstacles_check has found that there are none. It needs its bytes, and to be shared with what the later run
 * forks: MAP_SHARED | MAP_ANONYMOUS. */
bool mhi_is_fresh_shared(const mhi_mapping *mapping);

/* probe.c: those of mh_process_probe's assumptions that may hold for one process and not for another. */
int mhi_machine_check(mh_error *err);

#endif

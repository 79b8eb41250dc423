/* obstacles.h - what a process snapshot can't carry, by name: found before the fork, while it can still be reported. */
#ifndef MHI_OBSTACLES_H
#define MHI_OBSTACLES_H
#include "base/maps.h"
#include "magicheap.h"

/* Obstacles of one sort, listed in one sentence as far as there is room: "descriptor 4 is a pipe, descriptor 5 is a
 * pipe and 7 more". */
typedef struct {
    unsigned n, n_told;
    size_t used;
    char text[360]; /* leaves room for the rest of the sentence in mh_error.detail */
} mhi_obstacles;

__attribute__((format(printf, 2, 3))) void mhi_obstacles_add(mhi_obstacles *found, const char *format, ...);
/* MH_OK if there are none, else MH_ERR_UNSUPPORTED with the sentence and, behind a colon, the remedy. */
int mhi_obstacles_end(const mhi_obstacles *found, const char *remedy, mh_error *err);

/* Before the fork, checks the calling process for raised privileges, a /proc that shows too little, a shadow stack,
 * living children, and memory shared with other processes or devices. MH_ERR_UNSUPPORTED names the obstacle. */
int mhi_obstacles_check(mh_error *err);

/* both arbitrary: two pools of 128 threads; a thread's name with its library's in a message */
enum { MHI_KNOWN_THREADS = 256, MHI_OWNER_BYTES = 96 };

/* A thread that mh_know_thread has declared. */
typedef struct {
    int thread;
    char text[MHI_OWNER_BYTES]; /* cut to fit */
} mhi_known_thread;

typedef struct {
    size_t n;
    mhi_known_thread items[MHI_KNOWN_THREADS];
} mhi_known_threads;

/* This thread's id in /proc: it differs from gettid if /proc is that of another pid namespace. */
int mhi_own_number(void);
const char *mhi_known_text(const mhi_known_threads *known, int thread); /* "": unknown */

/* Called after all other prepare handlers, some of which end threads, and again before the other parent handlers.
 * MH_ERR_UNSUPPORTED names the other living threads, which the fork loses: one that began after the caller had decided
 * for a fork. Allocates nothing and takes no lock. */
int mhi_threads_check(const mhi_known_threads *known, mh_error *err);

/* Whether a mapping lies in the launcher's region, which no image has. */
bool mhi_is_of_launcher(const mhi_mapping *mapping);
/* Whether a writable shared mapping can be made anew in each later run: shared anonymous memory and semaphores without
 * a name, as multiprocessing makes for its locks. Such memory is for sharing with forked children, and
 * mhi_obstacles_check has found that there are none. The later run needs its bytes, and shares it with its own
 * children: MAP_SHARED | MAP_ANONYMOUS. */
bool mhi_is_fresh_shared(const mhi_mapping *mapping);

/* probe.c: those assumptions of mh_process_probe that may hold for one process and not for another. */
int mhi_machine_check(mh_error *err);

#endif

/* threads.c - stops the other threads of this process, and revives them in a copy of it.
 *
 *     a thread                        the committing thread                a resumed process
 *     signal handler
 *       notes the thread's state
 *       saves its registers
 *       waits             <---------  all wait: the process is copied
 *     handler returns     <---------  lets them go                         clones each thread, which
 *                                                                            sets the kernel's part of its state,
 *                                                                            restores the registers,
 *                                                                            waits in the handler until all may go
 *                                                                          handler returns
 *
 * What a thread had in its registers, vectors included, its signal mask and its signal stack lie in the frame that the
 * kernel made for the handler, and the return from the handler restores them: so they need no place in the file format.
 *
 * T1  The signal is one of those that the C library keeps for itself, and leaves out when a thread blocks "all"
 *     signals: allocators' background threads and workers that want no signals are stopped, too. Whoever blocks even
 *     these can't be stopped: the wait has a deadline, after which all go on, and the commit is refused.
 * T2  Between two listings of /proc that show nobody new, every thread stands still, and so nobody could have begun
 *     one. A thread that is ending is waited for: the kernel has then cleared the word that pthread_join waits for.
 * T3  A wait that the signal interrupted is made again, with the same arguments, by the thread that goes on and by its
 *     copy: EINTR, which the kernel returns even with SA_RESTART from a wait with a timeout, is nothing that programs
 *     expect without a signal of their own. A wait until a point in time is moved by the time between commit and
 *     resume: the rest of the wait is what a plain run would have before it. A wait for a length of time begins again
 *     in full: the kernel does not tell what is left of it.
 * T4  The ids of threads change, as that of the process does. The C library keeps a thread's id in one place, which the
 *     kernel fills in before clone returns (CLONE_PARENT_SETTID). A lock that is held, and knows its owner by that id,
 *     could not be given back: memory is searched for such locks, and what looks like one prevents the commit. The
 *     search decides nothing else.
 * T5  A revived thread begins on its own stack, below the frame that it continues.
 * T6  What a thread keeps of the clock itself is as it was: a point in time that it will wait for has most often
 *     passed. After a boot, which sets CLOCK_MONOTONIC back, it may be far ahead: then the snapshot is stale.
 */
#define _GNU_SOURCE
#include "process/threads.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "arch/arch.h"
#include "base/proc_dirs.h"
#include "error.h"
#include "sys/sys.h"

enum {
    STOP = 33,                /* SIGSETXID of glibc (T1): it has a handler for it while threads change their user */
    DEADLINE_NS = 1000000000, /* for all to stop, which takes microseconds; arbitrary */
    LOOK_MS = 1,              /* between two looks at threads that might have ended meanwhile */
    NAME_BYTES = 16,          /* TASK_COMM_LEN */
    CPU_WORDS = 16,           /* of an affinity that differs from the process's */
};

typedef struct {
    int id;
    char name[NAME_BYTES]; /* in the kernel */
    bool has_parked;       /* the handler has filled in the rest */
    int result;            /* 0, or -errno: the state could not be read */
    mhi_waiting call;      /* that it waited in; number: NO_CALL if it ran */
    bool waits_again;
    mhi_registers registers;
    uint64_t handle; /* pthread_t */
    mhi_sys_thread state;
    bool has_cpus;
    uint64_t cpus[CPU_WORDS];
} parked;

enum { NO_CALL = UINT32_MAX };

/* All of this is in the image, as it was when everybody stood still. */
static parked threads[MHI_THREADS_MAX];
static size_t n_threads;
static _Atomic uint32_t n_parked, may_go;
static mhi_sys_action before; /* the C library's */
static bool is_caught;
static uint64_t own_cpus[CPU_WORDS];
static int64_t stopped_ns[2]; /* when, by CLOCK_REALTIME and CLOCK_MONOTONIC */

/* ---- in the thread ---- */

static void note(parked *own, void *context)
{
    own->waits_again = own->call.number != NO_CALL && mhi_arch_call_again(context, &own->call);
    own->result = mhi_sys_thread_read(&own->state);
    own->handle = (uint64_t)pthread_self();
    if (own->result == 0 && mhi_sys_cpus(own->cpus, sizeof own->cpus) == 0)
        own->has_cpus = memcmp(own->cpus, own_cpus, sizeof own_cpus) != 0;
}

static void wait_to_go(void)
{
    while (atomic_load(&may_go) == 0)
        mhi_sys_sleep_on(&may_go, 0, -1);
    atomic_fetch_sub(&n_parked, 1);
}

static bool is_own(const siginfo_t *info)
{
    const parked *its = info->si_value.sival_ptr;
    return info->si_code == SI_QUEUE && info->si_pid == mhi_sys_process_id() && its >= threads &&
           its < threads + MHI_THREADS_MAX;
}

static void park(int signal, siginfo_t *info, void *context)
{
    int saved = errno;
    parked *own = info->si_value.sival_ptr;
    if (!is_own(info)) { /* of the C library */
        if (before.handler != (uintptr_t)SIG_DFL && before.handler != (uintptr_t)SIG_IGN)
            ((mhi_sys_handler *)before.handler)(signal, info, context);       // NOLINT(performance-no-int-to-ptr)
    } else if (atomic_load(&may_go) == 0 && own->id == mhi_sys_thread_id()) { /* else of a stop that was given up */
        note(own, context);
        own->has_parked = true;
        if (mhi_registers_save(&own->registers) == 0) {
            atomic_fetch_add(&n_parked, 1);
            mhi_sys_wake(&n_parked);
        }
        wait_to_go();
    }
    errno = saved;
}

/* ---- stopping ---- */

static parked *find(int thread)
{
    for (size_t i = 0; i < n_threads; i++)
        if (threads[i].id == thread)
            return &threads[i];
    return NULL;
}

static void read_name(int thread, char name[NAME_BYTES])
{
    char path[48];
    snprintf(path, sizeof path, "/proc/self/task/%d/comm", thread);
    if (mhi_sys_read_text(path, name, NAME_BYTES) < 0)
        name[0] = '\0';
    name[strcspn(name, "\n")] = '\0';
}

const char *mhi_threads_name(int thread)
{
    const parked *its = find(thread);
    return its == NULL ? "" : its->name;
}

/* The system call that the thread waits in, by /proc. */
static void read_call(int thread, mhi_waiting *call)
{
    char path[48], text[512];
    unsigned long long number, a[6], stack, code;
    call->number = NO_CALL;
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", thread);
    if (mhi_sys_read_text(path, text, sizeof text) < 0 ||
        sscanf(text, "%llu %llx %llx %llx %llx %llx %llx %llx %llx", &number, &a[0], &a[1], &a[2], &a[3], &a[4], &a[5],
               &stack, &code) != 9)
        return;
    *call = (mhi_waiting){ .number = number, .stack = stack, .code = code };
    for (size_t i = 0; i < sizeof a / sizeof *a; i++)
        call->arguments[i] = a[i];
}

typedef struct {
    int own;
    size_t n_new;
} round_of_stops;

static int stop_one(void *context, int reader, int thread)
{
    (void)reader;
    round_of_stops *round = context;
    if (thread == round->own || find(thread) != NULL)
        return 0;
    if (n_threads == MHI_THREADS_MAX)
        return -E2BIG;
    parked *its = &threads[n_threads];
    *its = (parked){ .id = thread };
    read_name(thread, its->name);
    read_call(thread, &its->call);
    n_threads++;
    int result = mhi_sys_signal_thread(thread, STOP, its);
    if (result == -ESRCH) {
        n_threads--;
        return 0;
    }
    round->n_new++;
    return result;
}

/* Forgets threads that have ended instead. */
static void drop_ended(void)
{
    for (size_t i = 0; i < n_threads; i++)
        if (!threads[i].has_parked && threads[i].id != 0 && !mhi_sys_has_thread(threads[i].id))
            threads[i].id = 0; /* its place stays: the signal's value points to it */
}

static bool all_stand(void)
{
    bool all = true;
    for (size_t i = 0; i < n_threads; i++)
        all &= threads[i].has_parked || threads[i].id == 0;
    return all;
}

static int64_t now_ns(void)
{
    int64_t ns = 0;
    mhi_sys_clock_ns(CLOCK_MONOTONIC, &ns);
    return ns;
}

static int wait_for_all(int64_t deadline_ns)
{
    for (uint32_t seen = atomic_load(&n_parked); !all_stand(); seen = atomic_load(&n_parked)) {
        if (now_ns() > deadline_ns)
            return -ETIMEDOUT;
        mhi_sys_sleep_on(&n_parked, seen, LOOK_MS);
        drop_ended();
    }
    return 0;
}

static void tell(mhi_obstacles *found, const mhi_known_threads *known, const parked *its, const char *why)
{
    const char *text = mhi_known_text(known, its->id);
    mhi_obstacles_add(found, "the thread %s %s", *text != '\0' ? text : its->name, why);
}

/* MH_ERR_UNSUPPORTED names those that did not stop, or whose state is unknown. */
static int refuse(const mhi_known_threads *known, mh_error *err)
{
    mhi_obstacles found = { 0 };
    for (size_t i = 0; i < n_threads; i++) {
        const parked *its = &threads[i];
        if (its->id != 0 && !its->has_parked)
            tell(&found, known, its, "can't be stopped, since it blocks all signals");
        else if (its->id != 0 && its->result != 0)
            tell(&found, known, its, "was not made by the C library");
    }
    return mhi_obstacles_end(&found, "a later run would lose it; end it in the body, or start it after the with", err);
}

static int stop_all(void)
{
    round_of_stops round = { .own = mhi_sys_thread_id() };
    int64_t deadline_ns = now_ns() + DEADLINE_NS;
    int result = is_caught ? 0 : mhi_sys_action_catch(STOP, park, &before);
    is_caught |= result == 0;
    do {
        round.n_new = 0;
        if (result == 0)
            result = mhi_each_number("/proc/self/task", stop_one, &round);
        if (result == 0)
            result = wait_for_all(deadline_ns);
    } while (result == 0 && round.n_new > 0); /* T2 */
    return result;
}

int mhi_threads_stop(const mhi_known_threads *known, mh_error *err)
{
    for (int64_t end_ns = now_ns() + DEADLINE_NS; atomic_load(&n_parked) != 0 && now_ns() < end_ns;)
        mhi_sys_yield(); /* those of the last time are about to leave */
    n_threads = 0;
    atomic_store(&n_parked, 0);
    atomic_store(&may_go, 0);
    memset(own_cpus, 0, sizeof own_cpus);
    mhi_sys_cpus(own_cpus, sizeof own_cpus);
    /* where /proc is that of another pid namespace, it has other ids */
    int result = mhi_own_number() == mhi_sys_thread_id() ? stop_all() : -EXDEV, status = MH_OK;
    if (result == 0 || result == -ETIMEDOUT)
        status = refuse(known, err);
    if (result == -EXDEV)
        status = mhi_fail(err, MH_ERR_UNSUPPORTED, 0,
                          "/proc is of another pid namespace, and does not tell the other "
                          "threads of this process");
    else if (result == -E2BIG)
        status = mhi_fail(err, MH_ERR_UNSUPPORTED, 0, "the process has more than %d threads", MHI_THREADS_MAX);
    else if (result < 0 && status == MH_OK)
        status = mhi_fail_sys(err, result, "cannot stop the other threads");
    mhi_sys_clock_ns(CLOCK_REALTIME, &stopped_ns[CLOCK_REALTIME]);
    mhi_sys_clock_ns(CLOCK_MONOTONIC, &stopped_ns[CLOCK_MONOTONIC]);
    if (status != MH_OK)
        mhi_threads_go();
    return status;
}

void mhi_threads_go(void)
{
    atomic_store(&may_go, 1);
    mhi_sys_wake(&may_go);
}

/* ---- locks ---- */

/* The beginning of pthread_mutex_t in glibc, on every CPU with 64 bits. */
typedef struct {
    int32_t word;
    uint32_t count;
    int32_t owner;
    uint32_t n_users;
    int32_t kind;
    int16_t n_spins, elision;
    uint64_t links[2]; /* of the list of robust ones; else 0 */
} lock;

/* Of glibc's kinds (nptl/pthreadP.h). */
enum {
    TYPE = 3,
    RECURSIVE = 1,
    ERRORCHECK = 2,
    ROBUST_OR_PI = 0x30,
    OTHER_BITS = 0x3c0,  /* with a ceiling of priority, shared, with or without elision */
    TID = 0x3fffffff,    /* FUTEX_TID_MASK */
    TIMES_MAX = 1 << 16, /* that a thread has taken it, and threads that wait for it; arbitrary */
};

static bool is_held(const lock *its)
{
    int32_t type = its->kind & TYPE;
    bool is_known = (its->kind & ~(TYPE | ROBUST_OR_PI | OTHER_BITS)) == 0, is_taken = its->word == 1 || its->word == 2;
    if (its->kind & ROBUST_OR_PI) /* the kernel knows the owner, too */
        return is_known && (its->word & TID) == its->owner && its->n_users <= TIMES_MAX;
    /* a number of Python's that is such an id is followed by another object, which has its type there */
    bool is_linked = its->links[0] != 0 || its->links[1] != 0;
    bool has_counts = its->n_users > 0 && its->n_users <= TIMES_MAX && its->count <= TIMES_MAX;
    return is_known && is_taken && !is_linked && has_counts &&
           ((type == RECURSIVE && its->count > 0) || type == ERRORCHECK);
}

int mhi_threads_owner(const void *memory, size_t size_bytes)
{
    const char *end = (const char *)memory + size_bytes;
    int least = mhi_sys_thread_id(), most = least;
    for (size_t i = 0; i < n_threads; i++) {
        least = threads[i].id != 0 && threads[i].id < least ? threads[i].id : least;
        most = threads[i].id > most ? threads[i].id : most;
    }
    for (const char *at = memory; at + sizeof(lock) <= end; at += sizeof(uint64_t)) {
        const lock *its = (const lock *)at;
        if (its->owner >= least && its->owner <= most && find(its->owner) != NULL && is_held(its))
            return its->owner;
    }
    return 0;
}

/* ---- reviving ---- */

/* The point in time that this thread waits for, and its clock; NULL: none (T3). */
static struct timespec *awaited(const parked *its, int *clock)
{
    const mhi_waiting *call = &its->call;
    if (!its->waits_again)
        return NULL;
    if (call->number == SYS_clock_nanosleep && (call->arguments[1] & TIMER_ABSTIME)) {
        *clock = (int)call->arguments[0];
        return (struct timespec *)call->arguments[2]; // NOLINT(performance-no-int-to-ptr)
    }
    int operation = (int)call->arguments[1] & FUTEX_CMD_MASK;
    bool is_until = operation == FUTEX_WAIT_BITSET || operation == FUTEX_LOCK_PI || operation == FUTEX_WAIT_REQUEUE_PI;
    if (call->number == SYS_futex && is_until) {
        bool is_real = operation == FUTEX_LOCK_PI || (call->arguments[1] & FUTEX_CLOCK_REALTIME);
        *clock = is_real ? CLOCK_REALTIME : CLOCK_MONOTONIC;
        return (struct timespec *)call->arguments[3]; // NOLINT(performance-no-int-to-ptr)
    }
    return NULL;
}

static bool is_moved(size_t n, const struct timespec *until)
{
    int clock;
    for (size_t i = 0; i < n; i++)
        if (threads[i].id != 0 && awaited(&threads[i], &clock) == until)
            return true;
    return false;
}

static void move(struct timespec *until, int64_t by_ns)
{
    enum { SECOND_NS = 1000000000 };
    int64_t ns = until->tv_nsec + by_ns % SECOND_NS;
    until->tv_sec += by_ns / SECOND_NS + (ns >= SECOND_NS) - (ns < 0);
    until->tv_nsec = ns + (ns < 0 ? SECOND_NS : 0) - (ns >= SECOND_NS ? SECOND_NS : 0);
}

/* Two threads may wait by one variable. */
static void move_waits(void)
{
    int64_t past_ns[2] = { 0 };
    for (int clock = CLOCK_REALTIME; clock <= CLOCK_MONOTONIC; clock++)
        if (mhi_sys_clock_ns(clock, &past_ns[clock]) == 0)
            past_ns[clock] -= stopped_ns[clock];
    for (size_t i = 0; i < n_threads; i++) {
        int clock = -1;
        struct timespec *until = threads[i].id == 0 ? NULL : awaited(&threads[i], &clock);
        if (until != NULL && (clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC) && !is_moved(i, until))
            move(until, past_ns[clock]);
    }
}

static void begin(void *argument)
{
    const parked *own = argument;
    if (mhi_sys_thread_restore(&own->state, own->has_cpus ? own->cpus : NULL, sizeof own->cpus) < 0)
        mhi_sys_exit(127);
    mhi_registers_go(&own->registers, 1);
}

int mh_thread_id(uint64_t thread)
{
    for (size_t i = 0; i < n_threads; i++)
        if (threads[i].id != 0 && threads[i].handle == thread)
            return threads[i].id;
    return 0;
}

/* T6 */
static bool is_another_boot(void)
{
    int64_t now;
    return mhi_sys_clock_ns(CLOCK_MONOTONIC, &now) == 0 && now < stopped_ns[CLOCK_MONOTONIC];
}

int mhi_threads_revive(mh_error *err)
{
    if (is_another_boot())
        return mhi_fail(err, MH_ERR_STALE, 0,
                        "this machine was started after the snapshot was made, whose threads go by its clock");
    move_waits();
    for (size_t i = 0; i < n_threads; i++) {
        if (threads[i].id == 0)
            continue;
        uint64_t stack = mhi_registers_stack(&threads[i].registers) - MHI_RED_ZONE; /* T5 */
        int result = mhi_sys_thread_begin(&threads[i].state, (void *)stack, begin, &threads[i]);
        if (result < 0)
            return mhi_fail_sys(err, result, "a thread of the snapshot can't be made again");
        threads[i].id = result;
    }
    return MH_OK;
}

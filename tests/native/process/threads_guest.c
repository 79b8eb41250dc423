/* threads_guest.c - a program that commits itself with all its threads: threads_guest CASE SNAPSHOT LAUNCHER [argument]
 *
 * The first run prepares what the case is about, commits, and goes on as later runs do: it prints "cold: " and why it
 * was. A later run is resumed, checks what it finds, and prints "resumed"; its exit status is the argument. Built
 * without sanitizers: their shadow of the address space would be part of the process.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "magicheap.h"

enum { MANY = 64, MS = 1000 };

static pthread_t thread;
static _Atomic int n_begun, n_interrupted;
static __thread int own;

static void begin(pthread_t *made, void *(*run)(void *), void *argument)
{
    int before = atomic_load(&n_begun);
    CHECK(pthread_create(made, NULL, run, argument) == 0);
    while (atomic_load(&n_begun) == before)
        sched_yield();
    usleep(5 * MS); /* most often, it waits by now */
}

static void *end_of(pthread_t ended)
{
    void *result;
    CHECK(pthread_join(ended, &result) == 0);
    return result;
}

static void has_begun(void)
{
    own = 7;
    atomic_fetch_add(&n_begun, 1);
}

/* A wait that ends with EINTR would be seen by the program. */
static void *result_of(long result)
{
    if (result < 0 && errno == EINTR)
        atomic_fetch_add(&n_interrupted, 1);
    CHECK(own == 7);
    return (void *)result;
}

/* ---- waiting threads ---- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static int work;

static void *wait_for_work(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&mutex);
    has_begun();
    while (!work)
        pthread_cond_wait(&condition, &mutex);
    pthread_mutex_unlock(&mutex);
    return result_of(5);
}

static void prepare_condition(void) { begin(&thread, wait_for_work, NULL); }

static void check_condition(void)
{
    pthread_mutex_lock(&mutex);
    work = 1;
    pthread_cond_broadcast(&condition);
    pthread_mutex_unlock(&mutex);
    CHECK((long)end_of(thread) == 5);
}

static void *hold(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&mutex);
    has_begun();
    while (!*(volatile int *)&work)
        continue;
    pthread_mutex_unlock(&mutex);
    return result_of(5);
}

static void prepare_lock(void) { begin(&thread, hold, NULL); }

static void check_lock(void)
{
    CHECK(pthread_mutex_trylock(&mutex) == EBUSY);
    *(volatile int *)&work = 1;
    CHECK(pthread_mutex_lock(&mutex) == 0 && (long)end_of(thread) == 5);
}

static int ends[2], set;
static sem_t semaphore;

static void *read_pipe(void *unused)
{
    char byte = 0;
    (void)unused;
    has_begun();
    return result_of(read(ends[0], &byte, 1) == 1 ? byte : -1);
}

static void prepare_pipe(void)
{
    CHECK(pipe(ends) == 0);
    begin(&thread, read_pipe, NULL);
}

static void check_pipe(void) { CHECK(write(ends[1], "A", 1) == 1 && (long)end_of(thread) == 'A'); }

static void *wait_for_events(void *timeout)
{
    struct epoll_event found = { 0 };
    has_begun();
    return result_of(epoll_wait(set, &found, 1, (int)(intptr_t)timeout) == 1 ? found.data.fd : -1);
}

static void prepare_epoll(void)
{
    CHECK(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0 && (set = epoll_create1(0)) >= 0);
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, ends[0], &(struct epoll_event){ .events = EPOLLIN, .data.fd = 77 }) == 0);
    begin(&thread, wait_for_events, (void *)(intptr_t)100000);
}

static void check_epoll(void)
{
    CHECK(write(ends[1], "A", 1) == 1 && (long)end_of(thread) == 77);
    CHECK((fcntl(set, F_GETFD) & FD_CLOEXEC) == 0 && (fcntl(ends[0], F_GETFD) & FD_CLOEXEC));
    CHECK(fcntl(ends[0], F_GETFL) & O_NONBLOCK);
}

static struct timespec until; /* also seen by the check */

static void *sleep_until(void *unused)
{
    (void)unused;
    has_begun();
    errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    return result_of(errno == 0 ? 5 : -1);
}

static void prepare_sleep(void)
{
    CHECK(clock_gettime(CLOCK_MONOTONIC, &until) == 0);
    until.tv_nsec += 300 * MS * MS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    begin(&thread, sleep_until, NULL);
}

/* The rest of the time is still to come. */
static void check_sleep(void)
{
    struct timespec now;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    CHECK(now.tv_sec < until.tv_sec || (now.tv_sec == until.tv_sec && now.tv_nsec < until.tv_nsec));
    CHECK(pthread_tryjoin_np(thread, NULL) == EBUSY && (long)end_of(thread) == 5);
}

static void *wait_for_post(void *unused)
{
    struct timespec far = { 0 };
    (void)unused;
    CHECK(clock_gettime(CLOCK_REALTIME, &far) == 0);
    far.tv_sec += 100;
    has_begun();
    return result_of(sem_timedwait(&semaphore, &far) == 0 ? 5 : -1);
}

static void prepare_semaphore(void)
{
    CHECK(sem_init(&semaphore, 0, 0) == 0);
    begin(&thread, wait_for_post, NULL);
}

static void check_semaphore(void) { CHECK(sem_post(&semaphore) == 0 && (long)end_of(thread) == 5); }

/* ---- busy threads ---- */

/* The lanes stay in registers all the time; each counts by another step. */
#define COMPUTE(name, lanes, of_target)                                \
    of_target static void *name(void *unused)                          \
    {                                                                  \
        typedef double vector __attribute__((vector_size(8 * lanes))); \
        vector x = { 0 }, step = { 0 };                                \
        double n = 0;                                                  \
        (void)unused;                                                  \
        for (int i = 0; i < lanes; i++)                                \
            step[i] = i + 1;                                           \
        has_begun();                                                   \
        while (!*(volatile int *)&work) {                              \
            x = x + step;                                              \
            n++;                                                       \
            __asm__ volatile("" : "+x"(x), "+x"(step), "+x"(n));       \
        }                                                              \
        for (int i = 0; i < lanes; i++)                                \
            CHECK(x[i] == n * (i + 1));                                \
        return result_of(5);                                           \
    }

COMPUTE(compute_two, 2, )
COMPUTE(compute_eight, 8, __attribute__((target("avx512f"))))

static void *compute(void *unused)
{
    return __builtin_cpu_supports("avx512f") ? compute_eight(unused) : compute_two(unused);
}

static void prepare_vectors(void) { begin(&thread, compute, NULL); }

static void check_vectors(void)
{
    usleep(5 * MS);
    *(volatile int *)&work = 1;
    CHECK((long)end_of(thread) == 5);
}

static pthread_t many[MANY];

static void prepare_many(void)
{
    for (int i = 0; i < MANY; i++)
        begin(&many[i], i % 8 == 0 ? compute : wait_for_work, NULL);
}

static void check_many(void)
{
    pthread_mutex_lock(&mutex);
    work = 1;
    pthread_cond_broadcast(&condition);
    pthread_mutex_unlock(&mutex);
    for (int i = 0; i < MANY; i++)
        CHECK((long)end_of(many[i]) == 5);
}

static _Atomic long n_born;

static void *do_nothing(void *unused) { return unused; }

static void *spawn(void *unused)
{
    has_begun();
    while (!*(volatile int *)&work) {
        pthread_t made;
        CHECK(pthread_create(&made, NULL, do_nothing, unused) == 0 && pthread_join(made, NULL) == 0);
        atomic_fetch_add(&n_born, 1);
    }
    return result_of(5);
}

static void prepare_spawning(void)
{
    for (int i = 0; i < 4; i++)
        begin(&many[i], spawn, NULL);
}

static void check_spawning(void)
{
    for (long before = atomic_load(&n_born); atomic_load(&n_born) < before + 100;)
        sched_yield();
    *(volatile int *)&work = 1;
    for (int i = 0; i < 4; i++)
        CHECK((long)end_of(many[i]) == 5);
}

/* ---- what the kernel keeps of a thread ---- */

static char signal_stack[64 << 10];
static volatile int n_handled, was_on_stack;

static void handle(int number)
{
    char here;
    n_handled += number == SIGUSR1;
    was_on_stack = &here >= signal_stack && &here < signal_stack + sizeof signal_stack;
}

static void *keep_state(void *unused)
{
    sigset_t mask;
    stack_t stack = { .ss_sp = signal_stack, .ss_size = sizeof signal_stack }, found;
    cpu_set_t cpus, now;
    char name[16];
    (void)unused;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    CHECK(pthread_sigmask(SIG_SETMASK, &mask, NULL) == 0 && sigaltstack(&stack, NULL) == 0);
    CHECK(sched_getaffinity(0, sizeof cpus, &cpus) == 0);
    for (size_t cpu = 0, n = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &cpus) && n++ > 0)
            CPU_CLR(cpu, &cpus); /* the first one stays */
    CHECK(sched_setaffinity(0, sizeof cpus, &cpus) == 0 && prctl(PR_SET_NAME, "of its own") == 0);
    own = 7;
    wait_for_work(NULL);
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &mask) == 0 && sigismember(&mask, SIGUSR2) == 1 &&
          sigismember(&mask, SIGTERM) == 0 && sigismember(&mask, SIGUSR1) == 0);
    CHECK(sigaltstack(NULL, &found) == 0 && found.ss_sp == signal_stack);
    CHECK(sched_getaffinity(0, sizeof now, &now) == 0 && CPU_EQUAL(&cpus, &now));
    CHECK(prctl(PR_GET_NAME, name) == 0 && strcmp(name, "of its own") == 0);
    CHECK(sched_getcpu() >= 0);
    return result_of(5);
}

static void prepare_state(void)
{
    struct sigaction action = { .sa_handler = handle, .sa_flags = SA_ONSTACK | SA_RESTART };
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    begin(&thread, keep_state, NULL);
}

static void check_state(void)
{
    CHECK(pthread_kill(thread, SIGUSR1) == 0);
    while (n_handled == 0)
        sched_yield();
    CHECK(was_on_stack);
    check_condition();
}

/* ---- what is refused ---- */

static void *block_all(void *unused)
{
    const uint64_t all = ~(uint64_t)0;
    CHECK(prctl(PR_SET_NAME, "deaf") == 0);
    CHECK(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof all) == 0);
    has_begun();
    pause();
    return unused;
}

static void prepare_deaf(void)
{
    begin(&many[0], wait_for_work, NULL);
    begin(&thread, block_all, NULL);
}

static pthread_mutex_t recursive;

static void *hold_recursive(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&recursive);
    has_begun();
    while (!*(volatile int *)&work)
        usleep(MS);
    return result_of(pthread_mutex_unlock(&recursive));
}

static void prepare_recursive(void)
{
    pthread_mutexattr_t kind;
    CHECK(pthread_mutexattr_init(&kind) == 0 && pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_RECURSIVE) == 0);
    CHECK(pthread_mutex_init(&recursive, &kind) == 0);
    begin(&thread, hold_recursive, NULL);
}

static void check_nothing(void) {}

/* ---- descriptors ---- */

static int event, timer, signals, pair[2], copy, outer;

static void prepare_inner(void)
{
    sigset_t mask;
    struct itimerspec time = { .it_value = { 0, 200 * MS * MS }, .it_interval = { 5, 0 } };
    CHECK((event = eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK)) >= 0);
    CHECK((timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)) >= 0 && timerfd_settime(timer, 0, &time, NULL) == 0);
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    CHECK(sigprocmask(SIG_BLOCK, &mask, NULL) == 0 && (signals = signalfd(-1, &mask, SFD_NONBLOCK)) >= 0);
    CHECK(pipe2(ends, 0) == 0 && fcntl(ends[1], F_SETPIPE_SZ, 1 << 18) > 0 && write(ends[1], "in the pipe", 11) == 11);
    CHECK((copy = fcntl(ends[0], F_DUPFD_CLOEXEC, 40)) >= 40);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    CHECK(write(pair[0], "to ", 3) == 3 && write(pair[0], "the second", 10) == 10 &&
          write(pair[1], "to the first", 12) == 12);
    CHECK((set = epoll_create1(0)) >= 0 && (outer = epoll_create1(EPOLL_CLOEXEC)) >= 0);
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, pair[1], &(struct epoll_event){ .events = EPOLLIN, .data.u64 = 1ull << 40 }) ==
          0);
    CHECK(epoll_ctl(outer, EPOLL_CTL_ADD, set, &(struct epoll_event){ .events = EPOLLIN, .data.u64 = 5 }) == 0);
}

static void check_inner(void)
{
    uint64_t number = 0;
    char text[128] = "";
    struct epoll_event found;
    CHECK(epoll_wait(outer, &found, 1, 0) == 1 && found.data.u64 == 5);
    CHECK(epoll_wait(set, &found, 1, 0) == 1 && found.data.u64 == 1ull << 40);
    CHECK(read(event, &number, 8) == 8 && number == 1 && read(event, &number, 8) == 8 && read(event, &number, 8) == 8);
    CHECK(read(event, &number, 8) < 0 && errno == EAGAIN);
    CHECK(read(timer, &number, 8) < 0 && errno == EAGAIN);
    usleep(300 * MS);
    CHECK(read(timer, &number, 8) == 8 && number == 1);
    CHECK(kill(getpid(), SIGUSR2) == 0 && read(signals, &(struct signalfd_siginfo){ 0 }, 128) == 128);
    CHECK(read(ends[0], text, 6) == 6 && read(copy, text + 6, 60) == 5 && strcmp(text, "in the pipe") == 0);
    CHECK(fcntl(ends[1], F_GETPIPE_SZ) == 1 << 18 && (fcntl(copy, F_GETFD) & FD_CLOEXEC));
    CHECK(read(pair[1], text, 60) == 13 && memcmp(text, "to the second", 13) == 0);
    CHECK(read(pair[0], text, 60) == 12 && memcmp(text, "to the first", 12) == 0);
    CHECK(close(pair[0]) == 0 && read(pair[1], text, 60) == 0 && close(ends[1]) == 0 && read(copy, text, 60) == 0);
}

/* ---- */

static const struct {
    const char *name;
    void (*prepare)(void), (*check)(void);
} cases[] = {
    { "condition", prepare_condition, check_condition },
    { "lock", prepare_lock, check_lock },
    { "pipe", prepare_pipe, check_pipe },
    { "epoll", prepare_epoll, check_epoll },
    { "sleep", prepare_sleep, check_sleep },
    { "semaphore", prepare_semaphore, check_semaphore },
    { "vectors", prepare_vectors, check_vectors },
    { "many", prepare_many, check_many },
    { "spawning", prepare_spawning, check_spawning },
    { "state", prepare_state, check_state },
    { "deaf", prepare_deaf, check_nothing },
    { "recursive", prepare_recursive, check_nothing },
    { "inner", prepare_inner, check_inner },
};

static int report(const mh_error *err)
{
    printf("refused: %s\n", err->detail);
    return 3;
}

int main(int argc, char **argv)
{
    mh_transaction *tx;
    mh_error err;
    mh_resumed resumed;
    size_t i = 0;
    CHECK(argc >= 4);
    while (i < sizeof cases / sizeof *cases && strcmp(cases[i].name, argv[1]) != 0)
        i++;
    CHECK(i < sizeof cases / sizeof *cases);
    if (getenv("MAGICHEAP_COLD") != NULL) {
        fprintf(stderr, "the launcher went cold: %s\n", getenv("MAGICHEAP_COLD"));
        return 4;
    }
    char program[4096] = "";
    CHECK(readlink("/proc/self/exe", program, sizeof program - 1) > 0);
    const mh_options options = { .process = true, .program = program, .environment = (const char *const *)environ };
    CHECK_OK(mh_open(&tx, argv[2], &options, &err), err);
    if (mh_is_resumable(tx)) {
        mh_resume(tx, argv[3], (const char *const *)argv, 0, (const char *const *)environ, &err);
        return report(&err);
    }
    CHECK_OK(mh_begin(tx, &err), err);
    cases[i].prepare();
    CHECK_OK(mh_arm(tx, &err), err);
    int child;
    if (mh_copy(tx, &child, &err) != MH_OK)
        return report(&err);
    if (child != 0) {
        if (mh_commit_child(tx, child, &err) != MH_OK)
            return report(&err);
        cases[i].check(); /* here, they go on alike */
        CHECK(n_interrupted == 0);
        printf("cold: %s\n", mh_reason(tx));
        mh_close(tx);
        return 0;
    }
    CHECK(mh_read_resumed(&resumed) && strcmp(resumed.argv[1], cases[i].name) == 0);
    CHECK_OK(mh_revive(&err), err);
    mh_release_signals();
    cases[i].check();
    CHECK(n_interrupted == 0);
    puts("resumed");
    return resumed.argc > 4 ? atoi(resumed.argv[4]) : 0;
}

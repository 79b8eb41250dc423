/* process_guest.c - a program that commits itself, to be resumed: process_guest CASE SNAPSHOT LAUNCHER [argument]
 *
 * The first run prepares what the case is about, commits, and prints "cold: " and why it was; a later run is resumed,
 * checks what it finds, and prints "resumed"; its exit status is the argument. Built without sanitizers: their shadow
 * of the address space would be part of the process.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <xmmintrin.h>

#include "harness.h"
#include "magicheap.h"

enum { PAGE = 4096, MIB = 1 << 20 };

static const char *argument, *launcher; /* of this run: the path of the snapshot, and what resumes it */
static char program[4096];

static void *map(size_t bytes, int prot, int flags, int fd)
{
    void *memory = mmap(NULL, bytes, prot, flags, fd, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

/* ---- memory ---- */

static int data = 1, bss;
static const char *text = "as it was linked";
static __thread int thread_data = 7, thread_bss;
static char *heap, *large;
static double rounded;

static void prepare_memory(void)
{
    data = 2, bss = 3, thread_data = 8, thread_bss = 9;
    text = "changed";
    heap = strdup("on the heap");
    large = malloc(8 * MIB);
    memset(large, 5, 8 * MIB);
    _MM_SET_ROUNDING_MODE(_MM_ROUND_UP);
    volatile double one = 1, three = 3;
    rounded = one / three;
}

static void check_memory(void)
{
    CHECK(data == 2 && bss == 3 && thread_data == 8 && thread_bss == 9);
    CHECK(strcmp(text, "changed") == 0 && strcmp(heap, "on the heap") == 0);
    for (size_t i = 0; i < 8 * MIB; i++)
        CHECK(large[i] == 5);
    volatile double one = 1, three = 3;
    CHECK(_MM_GET_ROUNDING_MODE() == _MM_ROUND_UP && one / three == rounded);
    free(heap);
    free(large);
}

/* Many small blocks from brk, before and after. */
enum { BLOCKS = 20000, BLOCK = 500 };
static char *blocks[2 * BLOCKS];

static void fill_blocks(int from, int to)
{
    for (int i = from; i < to; i++) {
        blocks[i] = malloc(BLOCK);
        CHECK(blocks[i] != NULL);
        memset(blocks[i], i % 251, BLOCK);
    }
}

static void prepare_growth(void) { fill_blocks(0, BLOCKS); }

static void check_growth(void)
{
    fill_blocks(BLOCKS, 2 * BLOCKS);
    for (int i = 0; i < 2 * BLOCKS; i++)
        for (int k = 0; k < BLOCK; k++)
            CHECK(blocks[i][k] == (char)(i % 251));
    for (int i = 0; i < 2 * BLOCKS; i++)
        free(blocks[i]);
    char *end = sbrk(PAGE);
    CHECK(end == (void *)-1 || (*end = 1) == 1); /* none, or memory that is there */
}

/* Memory in every state: hidden, read-only, executable, of a file and changed, of a file that is gone, told to be left
 * out. */
static char *hidden, *read_only, *code, *of_file, *of_gone, *not_dumped, *wiped, *untouched;

static int open_file(const char *name, size_t bytes)
{
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    char *contents = malloc(bytes);
    CHECK(fd >= 0 && contents != NULL);
    memset(contents, 'f', bytes);
    CHECK(write(fd, contents, bytes) == (ssize_t)bytes);
    free(contents);
    return fd;
}

static void prepare_states(void)
{
    static const unsigned char return_42[] = { 0xb8, 42, 0, 0, 0, 0xc3 }; /* mov $42, %eax; ret */
    char path[4096];
    int prot = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS;
    hidden = map(2 * PAGE, prot, flags, -1);
    read_only = map(PAGE, prot, flags, -1);
    code = map(PAGE, prot, flags, -1);
    not_dumped = map(PAGE, prot, flags, -1);
    wiped = map(PAGE, prot, flags, -1);
    untouched = map(1000 * (size_t)MIB, prot, flags | MAP_NORESERVE, -1);
    hidden[0] = read_only[0] = not_dumped[0] = wiped[0] = untouched[700 * (size_t)MIB] = 'm';
    memcpy(code, return_42, sizeof return_42);
    CHECK(mprotect(hidden, PAGE, PROT_NONE) == 0 && mprotect(read_only, PAGE, PROT_READ) == 0);
    CHECK(mprotect(code, PAGE, PROT_READ | PROT_EXEC) == 0);
    CHECK(madvise(not_dumped, PAGE, MADV_DONTDUMP) == 0 && madvise(wiped, PAGE, MADV_WIPEONFORK) == 0);
    snprintf(path, sizeof path, "%s.file", argument);
    int fd = open_file(path, 100 * PAGE + 10);
    of_file = map(200 * PAGE, prot, MAP_PRIVATE, fd); /* half of it behind the end */
    of_file[50 * PAGE] = of_file[100 * PAGE + 11] = 'm';
    CHECK(close(fd) == 0);
    snprintf(path, sizeof path, "%s.gone", argument);
    fd = open_file(path, 40 * PAGE);
    of_gone = map(40 * PAGE, prot, MAP_PRIVATE, fd);
    of_gone[20 * PAGE] = 'm';
    CHECK(close(fd) == 0 && unlink(path) == 0);
}

static void check_states(void)
{
    CHECK(mprotect(hidden, PAGE, PROT_READ) == 0 && hidden[0] == 'm' && hidden[PAGE] == 0);
    CHECK(read_only[0] == 'm' && ((int (*)(void))(uintptr_t)code)() == 42);
    CHECK(of_file[0] == 'f' && of_file[50 * PAGE] == 'm' && of_file[99 * PAGE] == 'f' && of_file[100 * PAGE] == 'f');
    CHECK(of_file[100 * PAGE + 10] == 0 && of_file[100 * PAGE + 11] == 'm');
    CHECK(of_gone[0] == 'f' && of_gone[20 * PAGE] == 'm' && of_gone[39 * PAGE] == 'f');
    CHECK(not_dumped[0] == 0 && wiped[0] == 0);
    CHECK(untouched[700 * (size_t)MIB] == 'm' && untouched[0] == 0 && untouched[999 * (size_t)MIB] == 0);
}

/* Guards, as the C library puts below the stacks of threads: beside memory that was written, in the midst of it, and in
 * what is left out. */
enum { GUARD_INSTALL = 102 /* MADV_GUARD_INSTALL */, GUARDED_PAGES = 12 };
static char *guarded, *guarded_secret, *guarded_file;
static bool has_guards, has_file_guard;

static void prepare_guards(void)
{
    int prot = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS;
    char path[4096];
    guarded = map(GUARDED_PAGES * PAGE, prot, flags, -1);
    guarded_secret = map(3 * PAGE, prot, flags, -1);
    has_guards =
        madvise(guarded + 4 * PAGE, 2 * PAGE, GUARD_INSTALL) == 0 && madvise(guarded, PAGE, GUARD_INSTALL) == 0;
    guarded[3 * PAGE] = guarded[6 * PAGE] = guarded[11 * PAGE] = 'm';
    CHECK(!has_guards || madvise(guarded + 9 * PAGE, PAGE, GUARD_INSTALL) == 0);
    guarded_secret[0] = 'm';
    CHECK(madvise(guarded_secret, 3 * PAGE, MADV_DONTDUMP) == 0);
    CHECK(!has_guards || madvise(guarded_secret + PAGE, PAGE, GUARD_INSTALL) == 0);
    snprintf(path, sizeof path, "%s.file", argument);
    int fd = open_file(path, 8 * PAGE);
    guarded_file = map(8 * PAGE, prot, MAP_PRIVATE, fd);
    guarded_file[0] = 'm';
    has_file_guard = madvise(guarded_file + 4 * PAGE, PAGE, GUARD_INSTALL) == 0; /* since 6.15 */
    CHECK(close(fd) == 0);
}

/* Whether the kernel can read it for us, which is no signal where we can't. */
static bool is_readable(int pipe_end, const char *address) { return write(pipe_end, address, 1) == 1; }

static void check_guards(void)
{
    int ends[2];
    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    for (int i = 0; i < GUARDED_PAGES; i++)
        CHECK(is_readable(ends[1], guarded + i * PAGE) == !(has_guards && (i == 0 || i == 4 || i == 5 || i == 9)));
    CHECK(guarded[3 * PAGE] == 'm' && guarded[6 * PAGE] == 'm' && guarded[11 * PAGE] == 'm' && guarded[2 * PAGE] == 0);
    CHECK(guarded_secret[0] == 0 && is_readable(ends[1], guarded_secret + PAGE) == !has_guards &&
          is_readable(ends[1], guarded_secret + 2 * PAGE));
    CHECK(is_readable(ends[1], guarded_file + 4 * PAGE) == !has_file_guard);
    CHECK(guarded_file[0] == 'm' && guarded_file[3 * PAGE] == 'f' && guarded_file[7 * PAGE] == 'f');
    CHECK(close(ends[0]) == 0 && close(ends[1]) == 0);
}

/* Shared with what this process forks. */
static int *shared;
static sem_t *semaphore;

static void prepare_shared(void)
{
    char name[64];
    shared = map(PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
    *shared = 20;
    snprintf(name, sizeof name, "/magicheap-guest-%d", getpid());
    semaphore = sem_open(name, O_CREAT | O_EXCL, 0600, 0);
    CHECK(semaphore != SEM_FAILED && sem_unlink(name) == 0);
}

static void check_shared(void)
{
    CHECK(*shared == 20);
    pid_t child = fork();
    if (child == 0) {
        ++*shared;
        _exit(sem_post(semaphore));
    }
    int status;
    CHECK(sem_wait(semaphore) == 0 && waitpid(child, &status, 0) == child && status == 0);
    CHECK(*shared == 21);
}

/* ---- stack ---- */

static void nothing(void) {}

__attribute__((noinline)) static size_t descend(size_t bytes)
{
    volatile char frame[4000];
    frame[0] = (char)bytes;
    size_t below = bytes < sizeof frame ? 0 : descend(bytes - sizeof frame);
    return below + (size_t)(frame[0] == (char)bytes);
}

/* Most of what RLIMIT_STACK of this run allows. */
static void check_stack(void)
{
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_STACK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY);
    CHECK(descend(limit.rlim_cur / 10 * 9) > limit.rlim_cur / 10 * 9 / 4100);
}

static sigjmp_buf overflow_point;
static volatile sig_atomic_t n_usr1, on_alternate;

static void take_usr1(int signal) { n_usr1 += signal == SIGUSR1; }

static void take_overflow(int signal)
{
    char here;
    stack_t stack;
    on_alternate = signal == SIGSEGV && sigaltstack(NULL, &stack) == 0 && &here >= (char *)stack.ss_sp &&
                   &here < (char *)stack.ss_sp + stack.ss_size;
    siglongjmp(overflow_point, 1);
}

static void prepare_signals(void)
{
    static char alternate[64 << 10];
    sigset_t blocked;
    CHECK(sigaltstack(&(stack_t){ .ss_sp = alternate, .ss_size = sizeof alternate }, NULL) == 0);
    CHECK(sigaction(SIGUSR1, &(struct sigaction){ .sa_handler = take_usr1, .sa_flags = SA_RESTART }, NULL) == 0);
    CHECK(sigaction(SIGSEGV, &(struct sigaction){ .sa_handler = take_overflow, .sa_flags = SA_ONSTACK }, NULL) == 0);
    CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR && sigemptyset(&blocked) == 0 && sigaddset(&blocked, SIGUSR2) == 0);
    CHECK(sigprocmask(SIG_BLOCK, &blocked, NULL) == 0);
}

static void check_signals(void)
{
    struct sigaction action;
    sigset_t blocked, pending;
    CHECK(raise(SIGUSR1) == 0 && n_usr1 == 1);
    CHECK(sigaction(SIGUSR1, NULL, &action) == 0 && action.sa_flags & SA_RESTART && action.sa_handler == take_usr1);
    CHECK(sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_IGN);
    CHECK(sigprocmask(SIG_BLOCK, NULL, &blocked) == 0 && sigismember(&blocked, SIGUSR2) == 1 &&
          sigismember(&blocked, SIGTERM) == 0);
    CHECK(raise(SIGUSR2) == 0 && sigpending(&pending) == 0 && sigismember(&pending, SIGUSR2) == 1);
    if (sigsetjmp(overflow_point, 1) == 0)
        descend(SIZE_MAX);
    CHECK(on_alternate);
}

/* ---- descriptors ---- */

enum { READING = 20, APPENDING, LISTING, NOTHING };

static void open_at(int fd, const char *path, int flags)
{
    int opened = open(path, flags);
    CHECK(opened >= 0 && dup3(opened, fd, flags & O_CLOEXEC) == fd && close(opened) == 0);
}

static void prepare_descriptors(void)
{
    char path[4096];
    snprintf(path, sizeof path, "%s.open", argument);
    CHECK(close(open_file(path, 1000)) == 0);
    open_at(READING, path, O_RDONLY | O_CLOEXEC);
    CHECK(lseek(READING, 333, SEEK_SET) == 333);
    snprintf(path, sizeof path, "%s.log", argument); /* which there was before this process */
    open_at(APPENDING, path, O_WRONLY | O_APPEND);
    open_at(LISTING, "/", O_RDONLY | O_DIRECTORY);
    open_at(NOTHING, "/dev/null", O_RDWR);
}

static void check_descriptors(void)
{
    struct stat status;
    CHECK(lseek(READING, 0, SEEK_CUR) == 333 && fcntl(READING, F_GETFD) == FD_CLOEXEC &&
          (fcntl(READING, F_GETFL) & O_ACCMODE) == O_RDONLY);
    CHECK(fcntl(APPENDING, F_GETFL) == (O_WRONLY | O_APPEND | 0100000 /* O_LARGEFILE, which the kernel adds */) &&
          fcntl(APPENDING, F_GETFD) == 0);
    CHECK(fstat(APPENDING, &status) == 0);
    off_t before = status.st_size;
    CHECK(write(APPENDING, "more", 4) == 4 && fstat(APPENDING, &status) == 0 && status.st_size == before + 4);
    DIR *listing = fdopendir(LISTING);
    CHECK(listing != NULL && readdir(listing) != NULL && closedir(listing) == 0);
    CHECK(write(NOTHING, "x", 1) == 1);
}

/* ---- threads, libraries, children ---- */

static pthread_mutex_t mutex;
static int n_threads;

static void *count_thread(void *context)
{
    CHECK(thread_data == 7 && thread_bss == 0); /* as it was linked, not as the main thread has it */
    thread_bss = *(int *)context;
    CHECK(pthread_mutex_lock(&mutex) == 0);
    n_threads++;
    CHECK(pthread_mutex_unlock(&mutex) == 0);
    free(malloc(1000));
    return (void *)(intptr_t)thread_bss;
}

static void run_threads(void)
{
    enum { THREADS = 16 };
    pthread_t threads[THREADS];
    int numbers[THREADS];
    n_threads = 0;
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        CHECK(pthread_create(&threads[i], NULL, count_thread, &numbers[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *result;
        CHECK(pthread_join(threads[i], &result) == 0 && (intptr_t)result == i);
    }
    CHECK(n_threads == THREADS);
}

static pid_t committing;

static void prepare_threads(void)
{
    pthread_mutexattr_t attributes;
    CHECK(pthread_mutexattr_init(&attributes) == 0 &&
          pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK) == 0);
    CHECK(pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0 &&
          pthread_mutex_init(&mutex, &attributes) == 0);
    committing = getpid();
    run_threads();
}

static void check_threads(void)
{
    CHECK(getpid() != committing && gettid() == getpid());
    CHECK(pthread_mutex_lock(&mutex) == 0 && pthread_mutex_lock(&mutex) == EDEADLK); /* the C library knows our id */
    CHECK(pthread_mutex_unlock(&mutex) == 0);
    run_threads();
    pthread_attr_t attributes;
    void *stack;
    size_t bytes;
    CHECK(pthread_getattr_np(pthread_self(), &attributes) == 0 &&
          pthread_attr_getstack(&attributes, &stack, &bytes) == 0);
    CHECK((char *)&bytes > (char *)stack && (char *)&bytes < (char *)stack + bytes);
    CHECK(pthread_kill(pthread_self(), 0) == 0);
}

static int *forking_prepared;

static void prepare_libraries(void)
{
    void *library = dlopen(getenv("FORKING"), RTLD_NOW);
    CHECK(library != NULL && (forking_prepared = dlsym(library, "forking_prepared")) != NULL);
}

static void check_libraries(void)
{
    CHECK(*forking_prepared == 1); /* by the fork that committed */
    void *library = dlopen("libm.so.6", RTLD_NOW | RTLD_LOCAL);
    CHECK(library != NULL);
    double (*root)(double) = (double (*)(double))dlsym(library, "sqrt");
    CHECK(root != NULL && root(4) == 2 && dlclose(library) == 0);
    pid_t child = fork();
    if (child == 0)
        _exit(*forking_prepared != 2);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void check_children(void)
{
    pid_t child;
    int status;
    CHECK(posix_spawn(&child, "/bin/sh", NULL, NULL, (char *[]){ "sh", "-c", "exit 5", NULL }, environ) == 0);
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 5);
    FILE *pipe = popen("echo $GUEST_VARIABLE", "r");
    char line[64];
    CHECK(pipe != NULL && fgets(line, sizeof line, pipe) != NULL && strcmp(line, "of this run\n") == 0 &&
          pclose(pipe) == 0);
}

/* Each run, and each call, is later than the one before: the vdso reads the clocks. */
static struct timespec last;

static void prepare_clocks(void) { CHECK(clock_gettime(CLOCK_MONOTONIC, &last) == 0); }

static void check_clocks(void)
{
    for (int i = 0; i < 1000; i++) {
        struct timespec now;
        CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
        CHECK(now.tv_sec > last.tv_sec || (now.tv_sec == last.tv_sec && now.tv_nsec >= last.tv_nsec));
        last = now;
    }
    CHECK(time(NULL) > 1700000000 && sched_getcpu() >= 0);
}

/* ---- a layer: the resumed process commits in its turn, and is resumed from there ---- */

static char *base, *added;

static int report(const char *what, const mh_error *err)
{
    fprintf(stderr, "%s: %s\n", what, err->detail);
    return 3;
}

static void prepare_layers(void)
{
    base = malloc(32 * MIB);
    memset(base, 'b', 32 * MIB);
}

static void check_layers(void)
{
    char path[4096];
    mh_transaction *tx;
    mh_error err;
    mh_resumed resumed;
    snprintf(path, sizeof path, "%s.layer", argument);
    CHECK(mh_read_resumed(&resumed));
    const mh_options options = { .process = true,
                                 .program = program,
                                 .environment = (const char *const *)resumed.envp };
    CHECK_OK(mh_open(&tx, path, &options, &err), err);
    if (mh_is_resumable(tx)) {
        mh_resume(tx, launcher, (const char *const *)resumed.argv, 0, (const char *const *)resumed.envp, &err);
        exit(report("resume of the layer", &err));
    }
    CHECK_OK(mh_begin(tx, &err), err);
    added = malloc(MIB);
    memset(added, 'a', MIB);
    base[7] = 'x';
    CHECK_OK(mh_arm(tx, &err), err);
    pid_t child = fork();
    if (child != 0) {
        CHECK_OK(mh_commit_child(tx, child, &err), err);
        mh_close(tx);
        return;
    }
    CHECK(mh_read_resumed(&resumed) && strcmp(resumed.path, path) == 0 && environ == resumed.envp);
    for (size_t i = 0; i < 32 * MIB; i++)
        CHECK(base[i] == (i == 7 ? 'x' : 'b'));
    for (size_t i = 0; i < MIB; i++)
        CHECK(added[i] == 'a');
    puts("layer");
    exit(0);
}

/* ---- the rehearsal ---- */

enum { N_TOUCHED = 100 };

static _Alignas(PAGE) char touched[N_TOUCHED][2][PAGE]; /* every other page */

static void prepare_rehearsal(void) { memset(touched, 1, sizeof touched); }

static void touch(void)
{
    for (int i = 0; i < N_TOUCHED; i++)
        touched[i][0][5] = 'x';
}

/* What only the child of the commit does. */
static void rehearse(const char *name)
{
    puts("a rehearsal was heard");
    fflush(stdout);
    touch();
    if (strcmp(name, "rehearsal that dies") == 0)
        abort();
    if (strcmp(name, "rehearsal that hangs") == 0)
        pause();
    mh_rehearsed(NULL);
}

static bool is_copied(int pagemap, const void *page)
{
    uint64_t entry;
    CHECK(pread(pagemap, &entry, sizeof entry, (off_t)((uintptr_t)page / PAGE * sizeof entry)) == sizeof entry);
    return entry >> 63 && !(entry >> 61 & 1); /* present, and not the file's */
}

/* Where the kernel can copy them in one call, the launcher had it do so. */
static void check_rehearsal(void)
{
    struct iovec first = { touched[0][0], PAGE };
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    bool was_copied[N_TOUCHED][2];
    for (int i = 0; i < 2 * N_TOUCHED; i++)
        was_copied[i / 2][i % 2] = is_copied(pagemap, touched[i / 2][i % 2]);
    bool is_possible = syscall(SYS_process_madvise, -10001 /* PIDFD_SELF */, &first, 1, MADV_POPULATE_WRITE, 0) == PAGE;
    for (int i = 0; i < N_TOUCHED; i++)
        CHECK(was_copied[i][0] == is_possible && !was_copied[i][1] && touched[i][0][5] == 1);
    close(pagemap);
}

/* ---- */

static const struct {
    const char *name;
    void (*prepare)(void), (*check)(void);
} cases[] = {
    { "memory", prepare_memory, check_memory },
    { "growth", prepare_growth, check_growth },
    { "guards", prepare_guards, check_guards },
    { "states", prepare_states, check_states },
    { "shared", prepare_shared, check_shared },
    { "stack", nothing, check_stack },
    { "signals", prepare_signals, check_signals },
    { "descriptors", prepare_descriptors, check_descriptors },
    { "threads", prepare_threads, check_threads },
    { "libraries", prepare_libraries, check_libraries },
    { "children", nothing, check_children },
    { "clocks", prepare_clocks, check_clocks },
    { "layers", prepare_layers, check_layers },
    { "rehearsal", prepare_rehearsal, check_rehearsal },
    { "rehearsal that dies", prepare_rehearsal, nothing },
    { "rehearsal that hangs", prepare_rehearsal, nothing },
};

static int n_before, n_prepared, n_child; /* runs of the handlers that were registered before the library's */

static void count_prepare(void) { n_prepared++; }
static void count_child(void) { n_child++; }

__attribute__((constructor(101))) static void register_early(void)
{
    n_before += pthread_atfork(count_prepare, NULL, count_child) == 0;
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
    argument = argv[2];
    launcher = argv[3];
    CHECK(readlink("/proc/self/exe", program, sizeof program - 1) > 0);
    const mh_options options = { .process = true, .program = program, .environment = (const char *const *)environ };
    if (mh_open(&tx, argv[2], &options, &err) != MH_OK)
        return report("open", &err);
    if (mh_is_resumable(tx)) {
        mh_resume(tx, launcher, (const char *const *)argv, 0, (const char *const *)environ, &err);
        return report("resume", &err);
    }
    if (mh_begin(tx, &err) != MH_OK)
        return report("begin", &err);
    cases[i].prepare();
    if (mh_arm(tx, &err) != MH_OK)
        return report("arm", &err);
    bool rehearses = strncmp(argv[1], "rehearsal", 9) == 0;
    if (rehearses)
        mh_rehearse(tx);
    pid_t child = fork();
    if (child != 0) {
        int status = mh_commit_child(tx, child, &err);
        if (status != MH_OK)
            return report("commit", &err);
        printf("cold: %s\n", mh_reason(tx));
        mh_close(tx);
        return 0;
    }
    if (rehearses && !mh_read_resumed(&resumed))
        rehearse(argv[1]);
    CHECK(mh_read_resumed(&resumed) && resumed.argc >= 4 && strcmp(resumed.argv[1], cases[i].name) == 0);
    CHECK(environ == resumed.envp && n_before == 1 && n_prepared == 1 && n_child == 1);
    argument = resumed.argv[2];
    launcher = resumed.argv[3];
    cases[i].check();
    puts("resumed");
    return resumed.argc > 4 ? atoi(resumed.argv[4]) : 0;
}

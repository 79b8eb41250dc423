/* test_process_fault.c - looking for obstacles with any system call failing: nothing that was there is overlooked.
 *
 * A call that fails must either be an error or make no difference; and it leaves no descriptor open and no memory
 * behind.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "base/maps.h"
#include "base/pages.h"
#include "error.h"
#include "format.h"
#include "process/descriptors.h"
#include "process/obstacles.h"
#include "process/remade.h"
#include "process/threads.h"
#include "sys_fault.h"
#include "test_snapshot.h"

/* A child that waits to be killed, at the latest by our end. */
static pid_t fork_idle(void)
{
    pid_t parent = getpid(), child = fork();
    CHECK(child >= 0);
    if (child == 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (child == 0 && getppid() == parent)
        pause();
    if (child == 0)
        _exit(1);
    return child;
}

static int next_descriptor(void)
{
    int fd = dup(0);
    CHECK(fd >= 0 && close(fd) == 0);
    return fd;
}

/* Runs `look` with each of its calls failing; `finds` is what it returns when none does. */
static void fail_each_call(int (*look)(mh_error *err), int finds)
{
    static const int codes[] = { EIO, ENOMEM, EACCES, EMFILE };
    mh_error err = { 0 };
    int free_descriptor = next_descriptor();
    sys_fault_select(NULL);
    sys_fault_arm(0, 0);
    CHECK_EQUAL(look(&err), finds);
    uint64_t n_calls = sys_fault_calls();
    CHECK(n_calls > 2);
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        for (uint64_t n = 1; n <= n_calls; n++) {
            err = (mh_error){ 0 };
            sys_fault_arm(n, codes[i]);
            int status = look(&err);
            sys_fault_disarm();
            if (status != finds && (status >= 0 || err.status != status || strlen(err.detail) < 10))
                harness_fail(__FILE__, __LINE__, err.detail);
            CHECK_EQUAL(next_descriptor(), free_descriptor);
        }
}

/* ---- descriptors ---- */

static int collect_two(mh_error *err)
{
    mhi_descriptors found;
    int status = mhi_descriptors_collect(&found, &(mhi_descriptors_known){ 0 }, err);
    CHECK_EQUAL(found.n_items, status == MH_OK ? 2 : 0);
    for (size_t i = 0; i < found.n_items; i++)
        CHECK(found.items[i].path[0] == '/' && found.items[i].id.inode != 0 && found.items[i].offset == 3);
    mhi_descriptors_release(&found);
    return status;
}

static void collect_files(void *context)
{
    write_file(context, "text", 4);
    int first = open(context, O_RDONLY), second = open(context, O_RDONLY | O_CLOEXEC);
    CHECK(lseek(first, 3, SEEK_SET) == 3 && lseek(second, 3, SEEK_SET) == 3);
    fail_each_call(collect_two, MH_OK);
}

TEST(file_is_never_forgotten) { IN_CHILD(collect_files, (void *)scratch("two")); }

static int collect_none(mh_error *err)
{
    mhi_descriptors found;
    int status = mhi_descriptors_collect(&found, &(mhi_descriptors_known){ 0 }, err);
    CHECK(found.items == NULL && found.n_items == 0);
    return status;
}

static void collect_pipe(void *context)
{
    (void)context;
    int ends[2];
    CHECK(pipe(ends) == 0 && close(ends[1]) == 0);
    fail_each_call(collect_none, MH_ERR_UNSUPPORTED);
}

TEST(pipe_is_never_forgotten) { IN_CHILD(collect_pipe, NULL); }

/* ---- descriptors that are made anew ---- */

static int inner[6]; /* both ends of a pipe and of two sockets, an epoll set, an eventfd */

static void open_inner(void)
{
    CHECK(pipe(inner) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, inner + 2) == 0);
    CHECK((inner[4] = epoll_create1(0)) >= 0 && (inner[5] = eventfd(7, 0)) >= 0);
    CHECK(write(inner[1], "pipe", 4) == 4 && write(inner[2], "socket", 6) == 6);
    CHECK(epoll_ctl(inner[4], EPOLL_CTL_ADD, inner[3], &(struct epoll_event){ .events = EPOLLIN, .data.fd = 9 }) == 0);
}

static int collect_inner(mh_error *err)
{
    mhi_descriptors found;
    int status = mhi_descriptors_collect(&found, &(mhi_descriptors_known){ 0 }, err);
    for (size_t i = 0; i < found.n_items; i++)
        CHECK(found.items[i].is_held);
    CHECK_EQUAL(found.n_items, status == MH_OK ? 6 : 0);
    mhi_descriptors_release(&found);
    return status;
}

static void collect_each(void *context)
{
    (void)context;
    open_inner();
    fail_each_call(collect_inner, MH_OK);
}

TEST(inner_descriptor_is_never_forgotten) { IN_CHILD(collect_each, NULL); }

/* Whether or not it succeeds, the process still has what it had. */
static void check_inner(void)
{
    char text[16];
    struct epoll_event event;
    uint64_t count = 0;
    CHECK(read(inner[0], text, 16) == 4 && memcmp(text, "pipe", 4) == 0);
    CHECK(epoll_wait(inner[4], &event, 1, 0) == 1 && event.data.fd == 9);
    CHECK(read(inner[3], text, 16) == 6 && memcmp(text, "socket", 6) == 0);
    CHECK(read(inner[5], &count, sizeof count) == sizeof count && count == 7);
}

static void take_each(void *context)
{
    mh_error err;
    (void)context;
    open_inner();
    CHECK_OK(collect_inner(&err), err);
    fail_each_call(mhi_remade_take, MH_OK);
    check_inner();
}

TEST(taking_the_state_of_descriptors_changes_nothing) { IN_CHILD(take_each, NULL); }

static void be_resumed(void *context)
{
    mh_error err;
    (void)context;
    int null = open("/dev/null", O_RDWR);
    for (size_t i = 0; i < sizeof inner / sizeof *inner; i++)
        CHECK(dup2(null, inner[i]) == inner[i]);
    fail_each_call(mhi_remade_make, MH_OK);
    CHECK_OK(mhi_remade_make(&err), err);
    check_inner();
}

static void take_and_make(void *context)
{
    mh_error err;
    open_inner();
    CHECK_OK(collect_inner(&err), err);
    CHECK_OK(mhi_remade_take(&err), err);
    be_resumed(context);
}

TEST(making_descriptors_anew_fails_or_makes_all) { IN_CHILD(take_and_make, NULL); }

static int remember(mh_error *err)
{
    (void)err;
    mhi_descriptors_remember();
    return MH_OK;
}

TEST(remembering_fails_quietly) { fail_each_call(remember, MH_OK); }

/* ---- obstacles ---- */

static int check_threads(mh_error *err)
{
    static const mhi_known_threads nothing_known;
    return mhi_threads_check(&nothing_known, err);
}

TEST(process_without_obstacles_stays_so_or_cannot_tell)
{
    fail_each_call(mhi_obstacles_check, MH_OK);
    fail_each_call(check_threads, MH_OK);
}

TEST(child_is_never_overlooked)
{
    pid_t child = fork_idle();
    fail_each_call(mhi_obstacles_check, MH_ERR_UNSUPPORTED);
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
}

TEST(shared_memory_is_never_overlooked)
{
    int fd = open(scratch("shared"), O_RDWR | O_CREAT, 0600);
    CHECK(fd >= 0 && ftruncate(fd, 4096) == 0);
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(memory != MAP_FAILED && close(fd) == 0);
    fail_each_call(mhi_obstacles_check, MH_ERR_UNSUPPORTED);
    CHECK(munmap(memory, 4096) == 0);
}

static void *wait_twice(void *barrier)
{
    pthread_barrier_wait(barrier);
    pthread_barrier_wait(barrier);
    return NULL;
}

static _Atomic long n_steps;
static _Atomic bool is_over;

static void *step(void *unused)
{
    while (!is_over)
        n_steps++;
    return unused;
}

static const mhi_known_threads nobody;

static int stop_and_go(mh_error *err)
{
    int status = mhi_threads_stop(&nobody, err);
    if (status == MH_OK) {
        long before = n_steps;
        usleep(2000);
        CHECK_EQUAL(n_steps, before);
        mhi_threads_go();
    }
    for (long before = n_steps; n_steps == before;)
        sched_yield();
    return status;
}

TEST(threads_stand_still_or_go_on)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, step, NULL) == 0);
    fail_each_call(stop_and_go, MH_OK);
    is_over = true;
    CHECK(pthread_join(thread, NULL) == 0);
}

TEST(threads_are_not_revived_after_another_boot)
{
    mh_error err;
    CHECK_OK(mhi_threads_stop(&nobody, &err), err);
    sys_fault_be_early(true);
    CHECK_EQUAL(mhi_threads_revive(&err), MH_ERR_STALE);
    sys_fault_be_early(false);
    mhi_threads_go();
}

TEST(thread_is_never_overlooked)
{
    pthread_t thread;
    pthread_barrier_t barrier;
    CHECK(pthread_barrier_init(&barrier, NULL, 2) == 0 && pthread_create(&thread, NULL, wait_twice, &barrier) == 0);
    pthread_barrier_wait(&barrier);
    fail_each_call(check_threads, MH_ERR_UNSUPPORTED);
    pthread_barrier_wait(&barrier);
    CHECK(pthread_join(thread, NULL) == 0);
}

/* ---- mapped files ---- */

static int identify_mapped(mh_error *err)
{
    static mhi_mappings mappings;
    void *page = (void *)MHI_LAUNCHER_START;
    const char *path = scratch("mapped");
    struct stat status;
    mhi_file_id file = { 0 };
    CHECK(stat(path, &status) == 0);
    int result = mhi_mapping_of_path(&file, path, page, &mappings);
    munmap(page, MHI_PAGE); /* what only a munmap that failed leaves mapped */
    if (result < 0)
        return mhi_fail_sys(err, result, "the file is not found");
    return file.inode == status.st_ino ? MH_OK : 1;
}

TEST(file_that_a_mapping_shows_is_told_or_not_but_never_another)
{
    write_file(scratch("mapped"), "text", 4);
    fail_each_call(identify_mapped, MH_OK);
}

/* ---- probes ---- */

static int probe_all(mh_error *err)
{
    const char *name;
    int status, worst = MH_OK;
    mh_error each;
    for (uint32_t i = 0; (status = mh_process_probe(i, &name, &each)) != MH_ERR_ARGUMENT; i++)
        if (status != MH_OK) {
            worst = status;
            *err = each;
        }
    return worst;
}

TEST(probe_that_fails_says_so) { fail_each_call(probe_all, MH_OK); }

int main(int argc, char **argv)
{
    for (int fd = 3; fd < 1024; fd++) /* what the test's own runner left open would be in each case */
        close(fd);
    return harness_main(argc, argv);
}

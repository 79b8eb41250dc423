/* test_process_commit_fault.c - the commit of a process with any system call failing, and with a kill -9 before any of
 * them, in the process or in the child that writes it: the file is the old snapshot or the new one, whole, or there is
 * none if there was none.
 *
 * Built without sanitizers: their shadow of the address space would be part of the process.
 */
#define _GNU_SOURCE
#include <sys/prctl.h>
#include <sys/wait.h>

#include "snapshot/image.h"
#include "sys_fault.h"
#include "test_snapshot.h"

enum { COMMITTED = 0, REFUSED = 10, IN_PLACE = 11 /* but perhaps not after a loss of power */ }; /* exit statuses */

typedef struct {
    const char *path;
    uint64_t n; /* which call fails */
    int code;   /* errno or SYS_FAULT_KILL */
    /* calls count from there, in this process alone; else from mh_arm, in this process and in its child */
    bool is_behind_fork;
} attempt;

static void tell_calls(uint64_t n_calls) { write_file(scratch("calls"), &n_calls, sizeof n_calls); }

static int commit(mh_transaction *tx, const attempt *a, mh_error *err)
{
    sys_fault_arm(a->is_behind_fork ? 0 : a->n, a->code);
    int status = mh_arm(tx, err);
    if (status != MH_OK)
        return status;
    pid_t child = fork();
    CHECK(child > 0); /* nobody resumes it */
    if (a->is_behind_fork)
        sys_fault_arm(a->n, a->code);
    return mh_commit_child(tx, child, err);
}

static void run_commit(void *context)
{
    const attempt *a = context;
    mh_transaction *tx;
    mh_error err = { 0 };
    CHECK_OK(mh_open(&tx, a->path, &(mh_options){ .process = true, .ignore_snapshot = true }, &err), err);
    CHECK_OK(mh_begin(tx, &err), err);
    int status = commit(tx, a, &err);
    sys_fault_disarm();
    tell_calls(sys_fault_calls());
    mh_abandon(tx);
    mh_close(tx);
    if (status != MH_OK && (err.status != status || strlen(err.detail) < 10))
        harness_fail(__FILE__, __LINE__, err.detail);
    _exit(status == MH_OK ? COMMITTED : strstr(err.detail, "is in place") != NULL ? IN_PLACE : REFUSED);
}

/* hd_checksum of the snapshot at `path`, all of whose bytes are sound; 0: there is none. */
static uint64_t sound_snapshot(const char *path)
{
    struct mh_image *image;
    mh_error err;
    if (!exists(path))
        return 0;
    CHECK_OK(mhi_image_open(&image, path, true, &err), err);
    CHECK_OK(mh_image_verify(image, &err), err);
    uint64_t checksum = image->header.hd_checksum;
    mh_image_close(image);
    return checksum;
}

static uint64_t count_calls(attempt *a)
{
    a->n = 0;
    IN_CHILD(run_commit, a);
    size_t size;
    uint64_t *told = (uint64_t *)read_file(scratch("calls"), &size), n_calls = *told;
    free(told);
    CHECK(size == sizeof n_calls && n_calls > 20);
    return n_calls;
}

/* The child of a commit that was killed is killed, too, but holds the lock until it has ended. */
static void wait_for_orphans(void)
{
    while (waitpid(-1, NULL, 0) > 0)
        ;
}

/* Returns how many attempts left what there was. The child of the commit may make more calls than this process: they
 * end where one that is to fail never comes. */
static uint64_t fail_each_call(attempt a, bool is_first)
{
    uint64_t n_calls = count_calls(&a), n_kept = 0;
    int status = -1;
    for (a.n = 1; a.n <= n_calls || status != 0; a.n++) {
        if (is_first)
            CHECK(unlink(a.path) == 0 || errno == ENOENT);
        uint64_t before = sound_snapshot(a.path);
        status = wait_for_child(run_commit, &a);
        wait_for_orphans();
        uint64_t after = sound_snapshot(a.path);
        CHECK(after != 0 || before == 0);
        if (WIFSIGNALED(status))
            CHECK(a.code == SYS_FAULT_KILL && WTERMSIG(status) == SIGKILL);
        else if (WEXITSTATUS(status) == REFUSED)
            CHECK(after == before);
        else
            CHECK((WEXITSTATUS(status) == COMMITTED || WEXITSTATUS(status) == IN_PLACE) && after != before);
        n_kept += after == before;
    }
    return n_kept;
}

TEST(killed_before_any_call_it_leaves_the_old_snapshot_or_the_new)
{
    CHECK(fail_each_call((attempt){ .path = scratch("x"), .code = SYS_FAULT_KILL }, false) > 20);
    CHECK(fail_each_call((attempt){ .path = scratch("x"), .code = SYS_FAULT_KILL, .is_behind_fork = true }, false) >
          20);
}

TEST(killed_before_any_call_the_first_time_it_leaves_none_or_a_whole_one)
{
    CHECK(fail_each_call((attempt){ .path = scratch("x"), .code = SYS_FAULT_KILL, .is_behind_fork = true }, true) > 20);
}

TEST(a_call_that_fails_leaves_the_old_snapshot)
{
    CHECK(fail_each_call((attempt){ .path = scratch("x"), .code = EIO }, false) > 20);
    CHECK(fail_each_call((attempt){ .path = scratch("x"), .code = ENOSPC, .is_behind_fork = true }, false) > 20);
}

static void give_up(void *path)
{
    enum { ORDINARY = 7 };
    mh_transaction *tx;
    mh_error err;
    int how;
    CHECK_OK(mh_open(&tx, path, &(mh_options){ .process = true, .ignore_snapshot = true }, &err), err);
    CHECK_OK(mh_begin(tx, &err), err);
    CHECK_OK(mh_arm(tx, &err), err);
    mh_abandon(tx);
    pid_t child = fork();
    if (child == 0)
        _exit(ORDINARY);
    CHECK(waitpid(child, &how, 0) == child && WIFEXITED(how));
    CHECK_EQUAL(WEXITSTATUS(how), ORDINARY);
    mh_close(tx);
}

TEST(a_commit_that_is_given_up_leaves_the_next_fork_an_ordinary_one) { IN_CHILD(give_up, (void *)scratch("given_up")); }

int main(int argc, char **argv)
{
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* orphans become this process's children */
    for (int fd = 3; fd < 1024; fd++) /* what the test's own runner left open would be in each case */
        close(fd);
    return harness_main(argc, argv);
}

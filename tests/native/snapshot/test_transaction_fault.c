/* test_transaction_fault.c - a commit, and an attach, cut short at every system call in turn: by an error, or by
 * SIGKILL.
 *
 * Whatever fails: the old snapshot or the new one is there, the program keeps its heap, nothing is left open, and the
 * next run commits as if nothing had happened.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <sys/mman.h>

#include "sys_fault.h"
#include "test_snapshot.h"

enum { OLD = 1, NEW = 2 };

/* All that are wrapped but unlinkat: as long as files can be removed, none is left behind. */
#define ALL_BUT_UNLINK                                                                                                \
    "mmap munmap mprotect madvise membarrier_register membarrier open openat close fstat stat lstat flock fallocate " \
    "ftruncate "                                                                                                      \
    "fsync sync_range start_sync link_fd renameat rename_with fchmod seek_data seek_hole pread pwrite read random "   \
    "readlink realpath"

typedef struct {
    const char *path, *selection;
    uint64_t n; /* the call that fails; 0: none */
    int code;
    bool goes_on; /* every later one fails too */
    bool must_commit;
    uint64_t *calls; /* shared: how many there were */
} fault;

static int open_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    int n = 0;
    while (readdir(directory) != NULL)
        n++;
    closedir(directory);
    return n;
}

static void arm(const fault *given)
{
    sys_fault_select(given->selection);
    if (given->goes_on)
        sys_fault_arm_from(given->n, given->code);
    else
        sys_fault_arm(given->n, given->code);
}

static uint64_t *shared_counter(void)
{
    static uint64_t *counter;
    if (counter == NULL)
        counter = mmap(NULL, sizeof *counter, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(counter != MAP_FAILED);
    return counter;
}

static void faulty_commit(void *context)
{
    const fault *given = context;
    mh_transaction *tx;
    mh_error err;
    CHECK_OK(mh_open(&tx, given->path, &(mh_options){ .ignore_snapshot = true }, &err), err);
    int descriptors = open_descriptors();
    arm(given);
    int begun = mh_begin(tx, &err), committed = 1;
    list *root = NULL;
    if (begun == MH_OK) {
        root = build_list(mh_transaction_arena(tx), NEW, 50);
        mh_set_root(tx, root, NULL);
        if (root != NULL)
            committed = mh_commit(tx, &err);
        else
            mh_abandon(tx);
    } else
        CHECK(mh_transaction_arena(tx) == NULL && mh_commit(tx, &err) == begun);
    *given->calls = sys_fault_calls();
    bool struck = sys_fault_struck();
    sys_fault_disarm();

    CHECK(!given->must_commit || committed == MH_OK);
    CHECK(struck || committed == MH_OK);
    if (begun != MH_OK || committed < 0)
        CHECK((begun != MH_OK ? begun : committed) == err.status && err.status < 0 && strlen(err.detail) > 10);
    if (root != NULL) {
        CHECK(is_list(root, NEW));
        memset(root->first->text, 1, root->first->text_bytes); /* a store into it is no signal either */
    }
    mh_close(tx);
    CHECK_EQUAL(open_descriptors(), descriptors);
}

static void attach_old_or_new(void *context)
{
    mh_error err;
    mh_transaction *tx;
    CHECK_OK(mh_open(&tx, context, NULL, &err), err);
    if (!mh_was_committed(tx))
        harness_fail(__FILE__, __LINE__, mh_reason(tx));
    CHECK(is_list(mh_root(tx), OLD) || is_list(mh_root(tx), NEW));
    mh_close(tx);
}

static uint64_t count_calls(const char *path, const char *selection)
{
    fault none = { path, selection, 0, EIO, false, true, shared_counter() };
    IN_CHILD(faulty_commit, &none);
    return *none.calls;
}

static void fail_each_call(const char *name, const char *selection, int code, bool goes_on)
{
    const char *path = make_snapshot(name, OLD);
    char lock[PATH_MAX + 8], temporary[PATH_MAX + 16];
    snprintf(lock, sizeof lock, "%s.lock", path);
    snprintf(temporary, sizeof temporary, "%s.uncommitted", path);
    uint64_t n_calls = count_calls(path, selection);
    CHECK(n_calls > 0);
    for (uint64_t n = 1; n <= n_calls; n++) {
        fault each = { path, selection, n, code, goes_on, false, shared_counter() };
        IN_CHILD(faulty_commit, &each);
        IN_CHILD(attach_old_or_new, (void *)path);
        CHECK(strcmp(selection, "unlinkat") == 0 || !exists(temporary));
    }
    CHECK_EQUAL(strcmp(make_snapshot(name, OLD), path), 0);
    CHECK_WARM(path, OLD);
    CHECK(!exists(lock) && !exists(temporary));
}

TEST(commit_cut_short_leaves_the_old_snapshot_and_the_program_unharmed)
{
    fail_each_call("io.dat", ALL_BUT_UNLINK, EIO, false);
    fail_each_call("space.dat", ALL_BUT_UNLINK, ENOSPC, false);
}

TEST(disk_that_stays_full_leaves_the_old_snapshot)
{
    fail_each_call("full.dat", "fallocate ftruncate pwrite fsync sync_range link_fd renameat rename_with openat",
                   ENOSPC, true);
}

TEST(files_that_cannot_be_removed_are_the_next_runs_business)
{
    fail_each_call("unlink.dat", "unlinkat", EIO, false);
    fail_each_call("unlinks.dat", "unlinkat", EIO, true);
}

TEST(machine_without_memory_leaves_the_old_snapshot)
{
    fail_each_call("memory.dat", "mmap mprotect madvise membarrier", ENOMEM, true);
}

TEST(file_system_without_nameless_files_commits_under_a_temporary_name)
{
    fault named = { make_snapshot("named.dat", OLD), "openat", 2, EOPNOTSUPP, false, true, shared_counter() };
    IN_CHILD(faulty_commit, &named);
    CHECK_WARM(named.path, NEW);
    CHECK(!exists(scratch("named.dat.uncommitted")));
}

TEST(arena_that_the_file_could_not_back_is_written_at_commit)
{
    fault unbacked = { make_snapshot("unbacked.dat", OLD), "fallocate", 1, EOPNOTSUPP, false, true, shared_counter() };
    IN_CHILD(faulty_commit, &unbacked);
    CHECK_WARM(unbacked.path, NEW);
}

TEST(progress_is_not_worth_a_failure)
{
    fault silent = { make_snapshot("silent.dat", OLD), "sync_range", 1, ENOSYS, true, true, shared_counter() };
    IN_CHILD(faulty_commit, &silent);
    CHECK_WARM(silent.path, NEW);
}

TEST(killed_at_any_system_call_leaves_the_old_snapshot_or_the_new_one_S1)
{
    fault each = { make_snapshot("killed.dat", OLD), NULL, 0, SYS_FAULT_KILL, false, true, shared_counter() };
    IN_CHILD(faulty_commit, &each);
    uint64_t n_calls = *each.calls;
    CHECK(n_calls > 20);
    CHECK_EQUAL(strcmp(make_snapshot("killed.dat", OLD), each.path), 0);
    for (each.n = 1; each.n <= n_calls; each.n++) {
        CHECK_EQUAL(wait_for_child(faulty_commit, &each), SIGKILL);
        IN_CHILD(attach_old_or_new, (void *)each.path);
    }
    CHECK_EQUAL(strcmp(make_snapshot("killed.dat", OLD), each.path), 0);
    CHECK_WARM(each.path, OLD);
    CHECK(!exists(scratch("killed.dat.uncommitted")) && !exists(scratch("killed.dat.lock")));
}

static void faulty_attach(void *context)
{
    const fault *given = context;
    mh_transaction *tx;
    mh_error err;
    int descriptors = open_descriptors();
    arm(given);
    int status = mh_open(&tx, given->path, NULL, &err);
    *given->calls = sys_fault_calls();
    sys_fault_disarm();
    if (status == MH_OK) {
        CHECK(mh_was_committed(tx) ? is_list(mh_root(tx), OLD)
                                   : mh_reason_status(tx) < 0 && strlen(mh_reason(tx)) > 10);
        bool was_warm = mh_was_committed(tx);
        mh_close(tx);
        CHECK_EQUAL(open_descriptors(), descriptors);
        if (was_warm)
            return;
    } else
        CHECK(tx == NULL && status == err.status);
    CHECK_OK(mh_open(&tx, given->path, NULL, &err), err);
    CHECK(mh_was_committed(tx) && is_list(mh_root(tx), OLD)); /* so nothing of the first try stayed mapped */
    mh_close(tx);
}

TEST(attach_cut_short_is_a_cold_run_that_leaves_nothing_mapped)
{
    fault each = { make_snapshot("attach.dat", OLD), NULL, 0, EIO, false, false, shared_counter() };
    IN_CHILD(faulty_attach, &each);
    uint64_t n_calls = *each.calls;
    CHECK(n_calls > 10);
    for (each.n = 1; each.n <= n_calls; each.n++)
        IN_CHILD(faulty_attach, &each);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }

/* test_snapshot_machine.c - machines that can't: a limit, a full disk, a read-only one, no address space; and the
 * probes that say so.
 *
 * Disks are small tmpfs mounts in a mount namespace of a child. Where that is not permitted (to others than root) the
 * two cases that need one say so; test_transaction_fault.c makes the same claims of a kernel that only pretends.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "test_snapshot.h"

static mh_transaction *open_at(const char *path)
{
    mh_transaction *tx;
    mh_error err;
    CHECK_OK(mh_open(&tx, path, NULL, &err), err);
    CHECK(!mh_was_committed(tx));
    return tx;
}

/* A commit of 40 MB that must fail for want of space, and leave the program its heap. */
static void commit_without_space(const char *path)
{
    mh_error err;
    mh_transaction *tx = open_at(path);
    CHECK_OK(mh_begin(tx, &err), err);
    list *root = build_list(mh_transaction_arena(tx), 1, 100000);
    CHECK_OK(mh_set_root(tx, root, &err), err);
    CHECK_EQUAL(mh_commit(tx, &err), MH_ERR_NOSPACE);
    CHECK(strstr(err.detail, path) != NULL);
    CHECK(is_list(root, 1));
    mh_close(tx);
    CHECK(!exists(path));
}

static void commit_over_limit(void *context)
{
    struct rlimit limit = { 10 << 20, 10 << 20 };
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0); /* its signal, SIGXFSZ, would kill this child */
    commit_without_space(context);
}

TEST(file_size_limit_is_no_space_and_no_signal)
{
    IN_CHILD(commit_over_limit, (void *)scratch("limit.dat"));
    CHECK(!exists(scratch("limit.dat.uncommitted")));
}

static void commit_at_tight_limit(void *context)
{
    mh_error err;
    struct rlimit limit = { 0, RLIM_INFINITY };
    mh_transaction *tx = open_at(context);
    CHECK_OK(mh_begin(tx, &err), err);
    CHECK_OK(mh_set_root(tx, build_list(mh_transaction_arena(tx), 1, 100), &err), err);
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0); /* only now: the arena has its file */
    CHECK_EQUAL(mh_commit(tx, &err), MH_ERR_NOSPACE);
    CHECK(is_list(mh_root(tx), 1));
    mh_close(tx);
}

TEST(limit_that_appears_before_the_commit_is_no_signal_either)
{
    IN_CHILD(commit_at_tight_limit, (void *)scratch("tight.dat"));
}

/* ---- small disks ---- */

static bool mount_disk(const char *where, const char *options)
{
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", where, "tmpfs", 0, options) != 0) {
        fprintf(stderr, "    %s: mounts are not permitted here\n", harness_current->name);
        return false;
    }
    CHECK(chmod(where, 0700) == 0);
    return true;
}

static void commit_on_small_disk(void *context)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/full.dat", (char *)context);
    if (mount_disk(context, "size=16m"))
        commit_without_space(path);
}

TEST(full_disk_is_an_error_and_no_signal)
{
    CHECK(mkdir(scratch("small"), 0700) == 0);
    IN_CHILD(commit_on_small_disk, (void *)scratch("small"));
}

static void begin_on_read_only_disk(void *context)
{
    char path[PATH_MAX];
    mh_error err;
    snprintf(path, sizeof path, "%s/never.dat", (char *)context);
    if (!mount_disk(context, "size=16m") || mount("none", context, NULL, MS_REMOUNT | MS_RDONLY, NULL) != 0)
        return;
    mh_transaction *tx = open_at(path);
    CHECK_EQUAL(mh_begin(tx, &err), MH_ERR_SYSTEM);
    CHECK(err.sys_errno == EROFS && strstr(err.detail, "Read-only file system") != NULL);
    CHECK(mh_transaction_arena(tx) == NULL);
    mh_close(tx);
}

TEST(read_only_directory_leaves_the_program_on_the_ordinary_heap)
{
    CHECK(mkdir(scratch("readonly"), 0700) == 0);
    IN_CHILD(begin_on_read_only_disk, (void *)scratch("readonly"));
}

TEST(directory_that_does_not_exist_is_said_at_begin)
{
    mh_error err;
    mh_transaction *tx = open_at(scratch("no/such/place.dat"));
    CHECK_EQUAL(mh_reason_status(tx), MH_OK);
    CHECK_EQUAL(mh_begin(tx, &err), MH_ERR_SYSTEM);
    CHECK_EQUAL(err.sys_errno, ENOENT);
    mh_close(tx);
}

/* ---- address space ---- */

static void begin_refused(const char *path, uint64_t capacity_bytes, int status)
{
    mh_error err;
    mh_transaction *tx;
    CHECK_OK(mh_open(&tx, path, &(mh_options){ .capacity_bytes = capacity_bytes }, &err), err);
    CHECK_EQUAL(mh_begin(tx, &err), status);
    CHECK(strlen(err.detail) > 10 && mh_transaction_arena(tx) == NULL);
    CHECK_EQUAL(mh_commit(tx, NULL), status);
    mh_close(tx);
    CHECK(!exists(scratch("space.dat.lock")));
}

static void run_without_address_space(void *context)
{
    begin_refused(context, 1ull << 52, MH_ERR_ARGUMENT);
    void *all = mmap((void *)MHI_REGION_START, MHI_REGION_END - MHI_REGION_START, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(all == (void *)MHI_REGION_START);
    begin_refused(context, 0, MH_ERR_BUSY);
}

TEST(address_space_that_is_refused_leaves_the_program_on_the_ordinary_heap)
{
    IN_CHILD(run_without_address_space, (void *)scratch("space.dat"));
}

static void occupy_then_open(void *context)
{
    const char *path = context;
    mh_error err;
    mh_image *image;
    mh_image_info info;
    CHECK_OK(mh_image_open(&image, path, &err), err);
    mh_image_read_info(image, &info);
    mh_image_close(image);
    char *taken = mmap((void *)(info.address + (1 << 20)), 4096, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(taken != MAP_FAILED);
    *taken = 7;
    mh_transaction *tx = open_at(path);
    CHECK_EQUAL(mh_reason_status(tx), MH_ERR_BUSY);
    CHECK(*taken == 7);
    CHECK_OK(mh_begin(tx, &err), err); /* elsewhere: a cold run can still commit */
    CHECK_OK(mh_set_root(tx, build_list(mh_transaction_arena(tx), 2, 10), &err), err);
    CHECK_OK(mh_commit(tx, &err), err);
    mh_close(tx);
}

TEST(address_range_that_is_taken_is_busy_and_left_alone)
{
    const char *path = make_snapshot("taken.dat", 1);
    IN_CHILD(occupy_then_open, (void *)path);
    CHECK_WARM(path, 2);
}

/* ---- probes ---- */

TEST(every_probe_holds_here_or_says_why_not)
{
    const char *name;
    mh_error err;
    uint32_t n = 0;
    for (; mh_probe(n, &name, scratch(""), &err) != MH_ERR_ARGUMENT; n++) {
        CHECK(name != NULL && strlen(name) > 3);
        CHECK_OK(mh_probe(n, &name, scratch(""), &err), err);
    }
    CHECK(name == NULL && n >= 10);
}

TEST(probes_leave_nothing_in_the_directory)
{
    const char *name, *directory = scratch("probed");
    CHECK(mkdir(directory, 0700) == 0);
    for (uint32_t i = 0; mh_probe(i, &name, directory, NULL) != MH_ERR_ARGUMENT; i++)
        continue;
    CHECK(rmdir(directory) == 0); /* which only an empty one lets happen */
}

TEST(probe_names_the_directory_that_is_at_fault)
{
    const char *name, *directory = scratch("open to all");
    mh_error err;
    bool found = false;
    CHECK(mkdir(directory, 0777) == 0 && chmod(directory, 0777) == 0);
    for (uint32_t i = 0; mh_probe(i, &name, directory, &err) != MH_ERR_ARGUMENT; i++)
        found |= mh_probe(i, &name, directory, &err) == MH_ERR_UNTRUSTED && strstr(err.detail, directory) != NULL;
    CHECK(found);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }

/* test_snapshot_foreign.c - nothing that is not a snapshot is replaced or removed, under any of a writer's three names.
 *
 * Linked so that a file can be put in the way just before the snapshot takes its name.
 */
#define _GNU_SOURCE
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include "sys/sys.h"
#include "test_snapshot.h"

static const char precious[] = "precious,data\n";

static const char *intruder; /* a path where, just before the first rename, a foreign file appears */
static bool cannot_exchange; /* as a file system without the flags of renameat2 */

int __real_mhi_sys_rename_with(int directory, const char *from, const char *to, unsigned flags);
int __wrap_mhi_sys_rename_with(int directory, const char *from, const char *to, unsigned flags);
int __wrap_mhi_sys_rename_with(int directory, const char *from, const char *to, unsigned flags)
{
    if (intruder != NULL) {
        unlink(intruder);
        write_file(intruder, precious, sizeof precious - 1);
        intruder = NULL;
    }
    return cannot_exchange ? -EINVAL : __real_mhi_sys_rename_with(directory, from, to, flags);
}

static void check_precious(const char *path)
{
    size_t size;
    char *bytes = read_file(path, &size);
    CHECK(size == sizeof precious - 1 && memcmp(bytes, precious, size) == 0);
    free(bytes);
}

/* ---- before the body ---- */

static void begin_refused(void *context)
{
    const expected *given = context;
    for (int is_process = 0; is_process <= 1; is_process++) {
        mh_error err;
        mh_transaction *tx;
        CHECK_OK(mh_open(&tx, given->path, &(mh_options){ .process = is_process }, &err), err);
        CHECK_EQUAL(mh_begin(tx, &err), MH_ERR_FORMAT);
        if (strstr(err.detail, given->reason) == NULL ||
            strstr(err.detail, ": choose another path, or remove it") == NULL)
            harness_fail(__FILE__, __LINE__, err.detail);
        mh_close(tx);
    }
}

#define CHECK_REFUSED(path_, reason_) IN_CHILD(begin_refused, (&(expected){ .path = (path_), .reason = (reason_) }))

TEST(what_is_no_snapshot_is_refused_by_name_before_the_body)
{
    write_file(scratch("data.csv"), precious, sizeof precious - 1);
    write_file(scratch("zeros"), (char[4096]){ 0 }, 4096);
    write_file(scratch("empty"), "", 0);
    CHECK(symlink("empty", scratch("to-empty")) == 0);
    CHECK(mkfifo(scratch("fifo"), 0600) == 0 && mkdir(scratch("folder"), 0700) == 0);
    CHECK(symlink("data.csv", scratch("link")) == 0 && symlink("nowhere", scratch("dangling")) == 0);
    CHECK_REFUSED(scratch("data.csv"), "data.csv is a file of another kind and no snapshot");
    CHECK_REFUSED(scratch("zeros"), "a file of another kind");
    CHECK_REFUSED(scratch("to-empty"), "a file of another kind");
    CHECK_REFUSED(scratch("fifo"), "a FIFO");
    CHECK_REFUSED(scratch("folder"), "a directory");
    CHECK_REFUSED(scratch("link"), "a file of another kind");
    CHECK_REFUSED(scratch("dangling"), "a symbolic link that leads nowhere");
    check_precious(scratch("data.csv"));
    CHECK(!exists(scratch("nowhere")));
}

TEST(sockets_and_devices_are_refused)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    CHECK((size_t)snprintf(address.sun_path, sizeof address.sun_path, "%s", scratch("socket")) <
          sizeof address.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(fd >= 0 && bind(fd, (const struct sockaddr *)&address, sizeof address) == 0 && close(fd) == 0);
    CHECK_REFUSED(scratch("socket"), "a socket");
    if (mknod(scratch("null"), S_IFCHR | 0600, makedev(1, 3)) == 0)
        CHECK_REFUSED(scratch("null"), "a device");
}

TEST(snapshots_of_other_formats_and_damaged_ones_are_ours_to_replace)
{
    const char *path = scratch("old.dat");
    static const char *const starts[] = { "\x89MH\r\n\x1a\n\0\x01\0\0\0rest", "\x89MH\r\n\x1a\n", "\x89MH", "\x89" };
    static const size_t sizes[] = { 16, 8, 3, 1 };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        write_file(path, starts[i], sizes[i]);
        CHECK_WARM(make_snapshot("old.dat", i + 1), i + 1);
    }
}

TEST(empty_file_holds_nothing_and_is_filled)
{
    write_file(scratch("reserved"), "", 0);
    CHECK_WARM(make_snapshot("reserved", 2), 2);
}

/* ---- at the publication ---- */

typedef struct {
    const char *path;
    bool is_put_before, is_put_at_rename, lacks_flags;
} race;

static void commit_in_the_way(void *context)
{
    const race *given = context;
    mh_error err;
    mh_transaction *tx;
    CHECK_OK(mh_open(&tx, given->path, &(mh_options){ .ignore_snapshot = true }, &err), err);
    CHECK_OK(mh_begin(tx, &err), err);
    list *root = build_list(mh_transaction_arena(tx), 1, 50);
    CHECK_OK(mh_set_root(tx, root, &err), err);
    if (given->is_put_before) {
        unlink(given->path);
        write_file(given->path, precious, sizeof precious - 1);
    }
    intruder = given->is_put_at_rename ? given->path : NULL;
    cannot_exchange = given->lacks_flags;
    CHECK_EQUAL(mh_commit(tx, &err), MH_ERR_FORMAT);
    CHECK(strstr(err.detail, "is a file of another kind and no snapshot") != NULL && is_list(root, 1));
    mh_close(tx);
}

static void check_race(const char *name, bool stands, race given)
{
    given.path = stands ? make_snapshot(name, 1) : scratch(name);
    char other[PATH_MAX + 16];
    IN_CHILD(commit_in_the_way, &given);
    check_precious(given.path);
    snprintf(other, sizeof other, "%s.uncommitted", given.path);
    CHECK(!exists(other));
    snprintf(other, sizeof other, "%s.lock", given.path);
    CHECK(!exists(other));
}

TEST(file_that_comes_while_the_body_runs_is_not_replaced)
{
    check_race("a.dat", false, (race){ .is_put_before = true });
    check_race("b.dat", true, (race){ .is_put_before = true });
}

TEST(file_that_comes_at_the_very_last_moment_is_not_replaced)
{
    check_race("c.dat", false, (race){ .is_put_at_rename = true });
    check_race("d.dat", true, (race){ .is_put_at_rename = true });
    check_race("e.dat", false, (race){ .is_put_at_rename = true, .lacks_flags = true });
    check_race("f.dat", true, (race){ .is_put_at_rename = true, .lacks_flags = true });
}

static void commit_without_flags(void *context)
{
    run given = { .path = context, .seed = 5, .n_nodes = 50 };
    cannot_exchange = true;
    commit_run(&given);
}

TEST(file_system_without_exchange_takes_snapshots_all_the_same)
{
    const char *path = scratch("plain.dat");
    for (int i = 0; i < 2; i++) {
        IN_CHILD(commit_without_flags, (void *)path);
        CHECK_WARM(path, 5);
    }
    CHECK(!exists(scratch("plain.dat.uncommitted")) && !exists(scratch("plain.dat.lock")));
}

/* ---- the other two names ---- */

TEST(foreign_files_under_the_names_of_lock_and_new_file_stay)
{
    write_file(scratch("poetry.lock"), precious, sizeof precious - 1);
    CHECK_REFUSED(scratch("poetry"), "poetry.lock, by which runs wait for each other, is no lock of ours");
    check_precious(scratch("poetry.lock"));
    write_file(scratch("x.uncommitted"), precious, sizeof precious - 1);
    CHECK_REFUSED(scratch("x"), "x.uncommitted, which the snapshot is called for a moment, is no file of ours");
    check_precious(scratch("x.uncommitted"));
    CHECK(mkfifo(scratch("y.lock"), 0600) == 0);
    CHECK_REFUSED(scratch("y"), "y.lock");
    CHECK(exists(scratch("y.lock")) && !exists(scratch("poetry")) && !exists(scratch("x")) &&
          !exists(scratch("x.lock")));
}

TEST(empty_lock_of_another_program_is_used_and_stays)
{
    write_file(scratch("shared.dat.lock"), "", 0);
    CHECK_WARM(make_snapshot("shared.dat", 3), 3);
    CHECK(exists(scratch("shared.dat.lock")));
}

int main(int argc, char **argv) { return harness_main(argc, argv); }

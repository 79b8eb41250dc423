/* test_snapshot_trust.c - what somebody else could have put there is not taken, and nothing is put where somebody else
 * could.
 *
 * Linked so that the answers of mhi_sys_euid and mhi_sys_secure_exec can be others than this process's.
 */
#define _GNU_SOURCE
#include "sys/sys.h"
#include "test_snapshot.h"

static bool pretend_secure, pretend_other_user;

uid_t __wrap_mhi_sys_euid(void);
uid_t __wrap_mhi_sys_euid(void) { return geteuid() + pretend_other_user; }
bool __wrap_mhi_sys_secure_exec(void);
bool __wrap_mhi_sys_secure_exec(void) { return pretend_secure; }

TEST(file_that_others_can_write_is_not_taken)
{
    const char *path = make_snapshot("mode.dat", 1);
    const mode_t refused[] = { 0620, 0602, 0666, 0777 }, taken[] = { 0600, 0644, 0400, 0755 };
    for (size_t i = 0; i < 4; i++) {
        CHECK(chmod(path, refused[i]) == 0);
        CHECK_COLD(path, MH_ERR_UNTRUSTED, "so others can write it");
        CHECK(chmod(path, taken[i]) == 0);
        CHECK_WARM(path, 1);
    }
}

TEST(file_of_another_user_is_not_taken)
{
    const char *path = make_snapshot("owner.dat", 1);
    if (geteuid() == 0) /* root's files are everybody's to take, so it must be another one's */
        CHECK(chown(path, 65534, 65534) == 0);
    else
        pretend_other_user = true;
    CHECK_COLD(path, MH_ERR_UNTRUSTED, "belongs to user");
    pretend_other_user = false;
    CHECK(geteuid() != 0 || chown(path, 0, 0) == 0);
    CHECK_WARM(path, 1);
}

TEST(roots_file_is_taken_by_everybody)
{
    const char *path = make_snapshot("root.dat", 1);
    pretend_other_user = geteuid() == 0;
    CHECK_WARM(path, 1);
    pretend_other_user = false;
}

TEST(symbolic_link_is_not_followed_but_replaced)
{
    const char *target = make_snapshot("target.dat", 1), *path = scratch("link.dat");
    CHECK(symlink(target, path) == 0);
    CHECK_COLD(path, MH_ERR_UNTRUSTED, "is a symbolic link");
    CHECK_EQUAL(strcmp(make_snapshot("link.dat", 2), path), 0);
    CHECK_WARM(path, 2);
    CHECK_WARM(target, 1);
}

TEST(lock_that_is_a_symbolic_link_is_not_followed)
{
    const char *victim = scratch("victim"), *path = scratch("locked.dat");
    mh_error err;
    mh_transaction *tx;
    CHECK(symlink(victim, scratch("locked.dat.lock")) == 0);
    CHECK_OK(mh_open(&tx, path, NULL, &err), err);
    CHECK_EQUAL(mh_begin(tx, &err), MH_ERR_FORMAT);
    CHECK(!exists(victim));
    mh_close(tx);
}

TEST(what_is_no_regular_file_is_not_taken)
{
    CHECK(mkfifo(scratch("fifo.dat"), 0600) == 0 && mkdir(scratch("directory.dat"), 0700) == 0);
    CHECK_COLD(scratch("fifo.dat"), MH_ERR_UNTRUSTED, "is not a regular file");
    CHECK_COLD(scratch("directory.dat"), MH_ERR_UNTRUSTED, "is not a regular file");
}

static void begin_refused(const char *path, const char *reason)
{
    mh_error err;
    mh_transaction *tx;
    CHECK_OK(mh_open(&tx, path, NULL, &err), err);
    CHECK_EQUAL(mh_begin(tx, &err), MH_ERR_UNTRUSTED);
    CHECK(strstr(err.detail, reason) != NULL && mh_transaction_arena(tx) == NULL);
    mh_close(tx);
}

TEST(directory_that_anybody_can_change_is_refused_anywhere_on_the_way)
{
    CHECK(mkdir(scratch("open"), 0700) == 0 && mkdir(scratch("open/inner"), 0700) == 0);
    const char *path = make_snapshot("open/inner/any.dat", 1);
    CHECK(chmod(scratch("open"), 0777) == 0);
    CHECK_COLD(path, MH_ERR_UNTRUSTED, "has mode 0777, so anybody could exchange");
    begin_refused(path, "anybody could exchange");
    CHECK(chmod(scratch("open"), 01777) == 0);
    CHECK_WARM(path, 1); /* sticky, as /tmp is */
    CHECK(chmod(scratch("open"), 0775) == 0);
    CHECK_WARM(path, 1); /* user-private groups */
    CHECK(chmod(scratch("open"), 0700) == 0 && chmod(scratch("open/inner"), 0707) == 0);
    CHECK_COLD(path, MH_ERR_UNTRUSTED, "inner has mode 0707");
    CHECK(chmod(scratch("open/inner"), 0700) == 0);
    CHECK_WARM(path, 1);
}

TEST(linked_directory_is_judged_by_where_it_leads)
{
    CHECK(mkdir(scratch("public"), 0777) == 0 && chmod(scratch("public"), 0777) == 0);
    CHECK(symlink(scratch("public"), scratch("private")) == 0);
    begin_refused(scratch("private/any.dat"), "public has mode 0777");
}

TEST(program_with_raised_privileges_takes_and_makes_none)
{
    const char *path = make_snapshot("secure.dat", 1);
    pretend_secure = true;
    CHECK_COLD(path, MH_ERR_UNTRUSTED, "AT_SECURE");
    begin_refused(path, "AT_SECURE");
    mh_image *image;
    mh_error err;
    CHECK_OK(mh_image_open(&image, path, &err), err); /* to look is allowed */
    CHECK_EQUAL(mh_image_check_inputs(image, NULL, &err), MH_ERR_UNTRUSTED);
    mh_image_close(image);
    pretend_secure = false;
    CHECK_WARM(path, 1);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }

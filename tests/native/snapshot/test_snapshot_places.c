/* test_snapshot_places.c - where the user's cache directory is, whoever the user is, and that it is made for nobody
 * else.
 *
 * Linked so that the answer of mhi_sys_euid can be another than this process's.
 */
#define _GNU_SOURCE
#include "snapshot/places.h"
#include "sys/sys.h"
#include "test_snapshot.h"

static bool pretend_other_user;

uid_t __wrap_mhi_sys_euid(void);
uid_t __wrap_mhi_sys_euid(void) { return pretend_other_user ? geteuid() + 1 : geteuid(); }

/* ---- the list of users ---- */

static const char *home_in(const char *users, uid_t user)
{
    static char home[PATH_MAX];
    write_file(scratch("passwd"), users, strlen(users));
    return mhi_home_of(home, scratch("passwd"), user) == 0 ? home : "";
}

TEST(home_is_that_of_the_first_line_of_the_user)
{
    static const char users[] = "root:x:0:0:root:/root:/bin/sh\nno:x:7:7::relative:/bin/sh\none:x:7:7:One,,,:/home/"
                                "one:/bin/sh\ntwo:x:7:7::/two:\n";
    CHECK(strcmp(home_in(users, 0), "/root") == 0);
    CHECK(strcmp(home_in(users, 7), "/home/one") == 0);
    CHECK(strcmp(home_in(users, 8), "") == 0);
    CHECK(mhi_home_of((char[PATH_MAX]){ 0 }, scratch("no such list"), 0) == -ENOENT);
}

TEST(lines_that_are_none_are_passed_over)
{
    static const char *const lines[] = { "",
                                         "root",
                                         "root:x:0",
                                         "root:x::0:root:/wrong:",
                                         "root:x:0x0:0:root:/wrong:",
                                         "root:x:-0:0:root:/wrong:",
                                         "root:x: 0:0:root:/wrong:",
                                         "root:x:4294967296:0:root:/wrong:",
                                         "root:x:18446744073709551616:0:root:/wrong:",
                                         "+::::::",
                                         "root:x:0:0:root:/wrong",
                                         "#root:x:1:0:root:/wrong:",
                                         "root:x:0:0:root::/bin/sh" };
    char users[512];
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        snprintf(users, sizeof users, "%s\nroot:x:0:0:root:/right:/bin/sh\n", lines[i]);
        CHECK(strcmp(home_in(users, 0), "/right") == 0);
        CHECK(strcmp(home_in(lines[i], 0), "") == 0); /* nor a line without an end */
    }
}

TEST(lines_of_any_length_are_read)
{
    enum { LONG = 3 * PATH_MAX };
    char *users = malloc(LONG + 200);
    /* so that each field is cut by the end of a piece once */
    for (size_t length = PATH_MAX - 30; length < PATH_MAX + 30; length++) {
        memset(users, 'x', length);
        strcpy(users + length, ":x:1:1::/one:\ntwo:x:22:2:Two:/home/two:/bin/sh\n");
        CHECK(strcmp(home_in(users, 22), "/home/two") == 0);
    }
    strcpy(users, "root:x:0:0::/");
    memset(users + 13, 'x', LONG);
    strcpy(users + 13 + LONG, ":/bin/sh\nroot:x:0:0::/root:\n");
    CHECK(strcmp(home_in(users, 0), "/root") == 0);
    free(users);
}

/* ---- the directory ---- */

TEST(user_without_home_has_the_one_of_the_list)
{
    static char *const none[] = { "XDG_CACHE_HOME=", "HOME=h", "XHOME=/h", NULL };
    static char *const tilde[] = { "HOME=~", NULL }, *const empty[] = { "HOME=", NULL };
    char path[PATH_MAX], home[PATH_MAX], wanted[PATH_MAX + 20];
    mh_error err;
    bool is_listed = mhi_home_of(home, "/etc/passwd", geteuid()) == 0;
    snprintf(wanted, sizeof wanted, "%s/.cache/magicheap", home);
    for (int i = 0; i < 3; i++) {
        int status = mhi_cache_directory(path, i == 0 ? none : i == 1 ? tilde : empty, &err);
        CHECK_EQUAL(status, is_listed ? MH_OK : MH_ERR_UNSUPPORTED);
        CHECK(!is_listed || strcmp(path, wanted) == 0);
    }
}

static bool is_there(const char *name)
{
    struct stat found;
    return lstat(scratch(name), &found) == 0;
}

static const char *own_directory(const char *name)
{
    CHECK(mkdir(scratch(name), 0755) == 0);
    return scratch(name);
}

TEST(directories_are_made_for_the_user_alone)
{
    struct stat found;
    mh_error err;
    own_directory("home");
    CHECK_OK(mhi_make_directories(scratch("home/.cache/magicheap"), &err), err);
    CHECK(stat(scratch("home/.cache"), &found) == 0 && (found.st_mode & 07777) == 0700);
    CHECK_OK(mhi_make_directories(scratch("home/.cache/magicheap"), &err), err);
    CHECK_OK(mhi_make_directories(scratch("home//.cache//deeper/commands/"), &err), err);
    CHECK(is_there("home/.cache/deeper/commands"));
    CHECK_EQUAL(mhi_make_directories("relative/path", &err), MH_ERR_ARGUMENT);
    write_file(scratch("home/file"), "", 0);
    CHECK_EQUAL(mhi_make_directories(scratch("home/file/x"), &err), MH_ERR_SYSTEM);
}

TEST(nothing_is_made_in_the_home_of_another_user)
{
    mh_error err;
    own_directory("theirs");
    own_directory("theirs/.cache");
    if (geteuid() == 0)
        CHECK(chown(scratch("theirs"), 65534, 65534) == 0 && chown(scratch("theirs/.cache"), 65534, 65534) == 0);
    pretend_other_user = geteuid() != 0;
    CHECK_EQUAL(mhi_make_directories(scratch("theirs/.cache/magicheap"), &err), MH_ERR_UNTRUSTED);
    CHECK(strstr(err.detail, "belongs to user") != NULL);
    CHECK_EQUAL(mhi_make_directories(scratch("theirs/other/magicheap"), &err), MH_ERR_UNTRUSTED);
    pretend_other_user = false;
    CHECK(!is_there("theirs/.cache/magicheap") && !is_there("theirs/other"));
}

TEST(home_behind_a_link_is_judged_where_it_is)
{
    mh_error err;
    char link[PATH_MAX];
    own_directory("far");
    strcpy(link, scratch("near"));
    CHECK(symlink(scratch("far"), link) == 0);
    CHECK_OK(mhi_make_directories(scratch("near/.cache/magicheap"), &err), err);
    CHECK(is_there("far/.cache/magicheap"));
    setenv("XDG_CACHE_HOME", scratch("near/.cache"), 1);
    CHECK_OK(mh_link_command("one", "/first.dat", &err), err);
    CHECK(chmod(scratch("far"), 0777) == 0);
    CHECK_EQUAL(mh_link_command("one", "/first.dat", &err), MH_ERR_UNTRUSTED);
}

TEST(home_that_is_not_there_is_not_made)
{
    mh_error err;
    unsetenv("XDG_CACHE_HOME");
    setenv("HOME", scratch("nonexistent"), 1);
    CHECK_EQUAL(mh_make_cache_directory(&err), MH_ERR_SYSTEM);
    CHECK(strstr(err.detail, "the user's home") != NULL);
    CHECK_EQUAL(mh_link_command("one", "/first.dat", &err), MH_ERR_SYSTEM);
    CHECK(!is_there("nonexistent"));
    setenv("HOME", own_directory("existent"), 1);
    CHECK_OK(mh_make_cache_directory(&err), err);
    CHECK_OK(mh_link_command("one", "/first.dat", &err), err);
    CHECK(is_there("existent/.cache/magicheap/commands"));
}

int main(int argc, char **argv) { return harness_main(argc, argv); }

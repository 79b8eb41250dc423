/* asks.c - questions without opening a file: the real function, then a note of the question.
 *
 * The C library's own calls inside itself are not seen. So for realpath and getpwuid, the inputs of their result are
 * noted instead: the path with its links, and the list of users.
 */
#define _GNU_SOURCE
#include "route/asks.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "route/questions.h"
#include "route/streams.h"

static const char users[] = "/etc/passwd";

static bool is_absent(int error) { return error == ENOENT || error == ENOTDIR; }

/* ---- paths ---- */

/* `result` and errno are the real function's. */
static int seen(int result, int directory, const char *path, const struct stat *found, bool is_of_link)
{
    int error = errno;
    if (mhi_questions_are_noted() && path != NULL && *path != '\0' && (result == 0 || is_absent(error))) {
        bool is_link = result == 0 && is_of_link && S_ISLNK(found->st_mode);
        mhi_question_note_path(is_link ? MHI_ASKED_LINK : MHI_ASKED_PATH, directory, path,
                               result == 0 ? found : &(struct stat){ 0 }, 0);
    }
    errno = error;
    return result;
}

/* Notes a path for functions that return less than stat. */
static void see(int directory, const char *path)
{
    int error = errno;
    struct stat found;
    if (mhi_questions_are_noted() && path != NULL)
        seen(fstatat(directory, path, &found, 0), directory, path, &found, false);
    errno = error;
}

int mhi_routed_stat(const char *path, struct stat *found)
{
    return seen(stat(path, found), AT_FDCWD, path, found, false);
}
int mhi_routed_lstat(const char *path, struct stat *found)
{
    return seen(lstat(path, found), AT_FDCWD, path, found, true);
}

/* Whether such a call is an fstat. */
static bool names_descriptor(const char *path, int flags)
{
    return flags & AT_EMPTY_PATH && (path == NULL || *path == '\0');
}

int mhi_routed_fstatat(int directory, const char *path, struct stat *found, int flags)
{
    if (names_descriptor(path, flags))
        mhi_see_status(directory);
    return seen(fstatat(directory, path, found, flags), directory, path, found, flags & AT_SYMLINK_NOFOLLOW);
}

int mhi_routed_statx(int directory, const char *path, int flags, unsigned mask, struct statx *found)
{
    int result = statx(directory, path, flags, mask, found);
    if (names_descriptor(path, flags))
        mhi_see_status(directory);
    struct stat same;
    int error = errno;
    if (mhi_questions_are_noted() && path != NULL && *path != '\0')
        seen(fstatat(directory, path, &same, flags & AT_SYMLINK_NOFOLLOW), directory, path, &same,
             flags & AT_SYMLINK_NOFOLLOW);
    errno = error;
    return result;
}

int mhi_routed_xstat(int version, const char *path, struct stat *found)
{
    return (void)version, mhi_routed_stat(path, found);
}
int mhi_routed_lxstat(int version, const char *path, struct stat *found)
{
    return (void)version, mhi_routed_lstat(path, found);
}

int mhi_routed_fxstatat(int version, int directory, const char *path, struct stat *found, int flags)
{
    return (void)version, mhi_routed_fstatat(directory, path, found, flags);
}

/* A missing file has no rights. */
static void see_rights(int directory, const char *path, int mode)
{
    static const int rights[] = { R_OK, W_OK, X_OK };
    int error = errno;
    uint64_t granted = 0;
    if (mode != F_OK && mhi_questions_are_noted() && path != NULL && faccessat(directory, path, F_OK, 0) == 0) {
        for (size_t i = 0; i < sizeof rights / sizeof *rights; i++)
            granted |= faccessat(directory, path, rights[i], 0) == 0 ? (uint64_t)rights[i] : 0;
        mhi_question_note_rights(directory, path, granted);
    }
    errno = error;
}

int mhi_routed_access(const char *path, int mode)
{
    int result = access(path, mode);
    see(AT_FDCWD, path);
    see_rights(AT_FDCWD, path, mode);
    return result;
}

int mhi_routed_euidaccess(const char *path, int mode)
{
    int result = euidaccess(path, mode);
    see(AT_FDCWD, path);
    see_rights(AT_FDCWD, path, mode);
    return result;
}

int mhi_routed_faccessat(int directory, const char *path, int mode, int flags)
{
    int result = faccessat(directory, path, mode, flags);
    see(directory, path);
    see_rights(directory, path, mode);
    return result;
}

static ssize_t read_link(ssize_t length, int directory, const char *path)
{
    int error = errno;
    if (length >= 0)
        mhi_question_note_path(MHI_ASKED_LINK, directory, path, NULL, 0);
    else
        see(directory, path);
    errno = error;
    return length;
}

ssize_t mhi_routed_readlink(const char *path, char *target, size_t size)
{
    return read_link(readlink(path, target, size), AT_FDCWD, path);
}

ssize_t mhi_routed_readlinkat(int directory, const char *path, char *target, size_t size)
{
    ssize_t length = readlinkat(directory, path, target, size);
    return *path == '\0' ? length : read_link(length, directory, path);
}

/* The checked twins, which compilers call where they know the buffer's size. */

ssize_t mhi_routed_readlink_chk(const char *path, char *target, size_t size, size_t room)
{
    return size > room ? (abort(), -1) : mhi_routed_readlink(path, target, size);
}

ssize_t mhi_routed_readlinkat_chk(int directory, const char *path, char *target, size_t size, size_t room)
{
    return size > room ? (abort(), -1) : mhi_routed_readlinkat(directory, path, target, size);
}

/* Notes each symbolic link among the path's prefixes, and those on the way to its target. */
static void see_links(const char *path, int n_left)
{
    char part[PATH_MAX], target[PATH_MAX];
    size_t length = strlen(path);
    struct stat found;
    for (size_t end = 1; n_left > 0 && length < sizeof part && end <= length; end++) {
        if (path[end] != '/' && path[end] != '\0')
            continue;
        memcpy(part, path, end);
        part[end] = '\0';
        if (lstat(part, &found) < 0 || !S_ISLNK(found.st_mode))
            continue;
        mhi_question_note_path(MHI_ASKED_LINK, AT_FDCWD, part, NULL, 0);
        char *slash = strrchr(part, '/');
        size_t base = slash == NULL ? 0 : (size_t)(slash - part) + 1;
        ssize_t n = readlink(part, target, sizeof target - 1);
        if (n <= 0)
            continue;
        target[n] = '\0';
        if (*target != '/' && base + (size_t)n < sizeof part) {
            memmove(target + base, target, (size_t)n + 1);
            memcpy(target, part, base);
        }
        see_links(target, n_left - 1);
    }
}

char *mhi_routed_realpath(const char *path, char *resolved)
{
    char *result = realpath(path, resolved);
    int error = errno;
    see(AT_FDCWD, path);
    if (mhi_questions_are_noted() && path != NULL)
        see_links(path, 8); /* depth of links in links: the kernel follows 40, on less stack */
    errno = error;
    return result;
}

char *mhi_routed_realpath_chk(const char *path, char *resolved, size_t room)
{
    return room < PATH_MAX ? (abort(), NULL) : mhi_routed_realpath(path, resolved);
}

static void see_listing(const char *path, bool is_there)
{
    int error = errno;
    struct stat found;
    if (!mhi_questions_are_noted())
        return;
    if (is_there && stat(path, &found) == 0)
        mhi_question_note_path(MHI_ASKED_LISTING, AT_FDCWD, path, &found, 0);
    else
        see(AT_FDCWD, path);
    errno = error;
}

DIR *mhi_routed_opendir(const char *path)
{
    DIR *directory = opendir(path);
    see_listing(path, directory != NULL);
    return directory;
}

int mhi_routed_scandir(const char *path, struct dirent ***names, int (*filter)(const struct dirent *),
                       int (*compare)(const struct dirent **, const struct dirent **))
{
    int n = scandir(path, names, filter, compare);
    see_listing(path, n >= 0);
    return n;
}

DIR *mhi_routed_fdopendir(int fd)
{
    char link[64];
    DIR *directory = fdopendir(fd);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int error = errno;
    char path[PATH_MAX];
    ssize_t length = mhi_questions_are_noted() ? readlink(link, path, sizeof path - 1) : -1;
    if (length > 0 && directory != NULL) {
        path[length] = '\0';
        see_listing(path, true);
    }
    errno = error;
    return directory;
}

static void close_directory(void *directory) { closedir(directory); }

/* Gives glob our own functions, which note the directories that it reads. */
int mhi_routed_glob(const char *pattern, int flags, int (*failed)(const char *, int), glob_t *found)
{
    if (!mhi_questions_are_noted() || flags & GLOB_ALTDIRFUNC)
        return glob(pattern, flags, failed, found);
    found->gl_closedir = close_directory;
    found->gl_readdir = (struct dirent * (*)(void *)) readdir;
    found->gl_opendir = (void *(*)(const char *))mhi_routed_opendir;
    found->gl_lstat = mhi_routed_lstat;
    found->gl_stat = mhi_routed_stat;
    int result = glob(pattern, flags | GLOB_ALTDIRFUNC, failed, found);
    found->gl_flags &= ~GLOB_ALTDIRFUNC;
    return result;
}

/* ---- the environment and the working directory ---- */

char *mhi_routed_getenv(const char *name)
{
    mhi_question_note(MHI_ASKED_VARIABLE, name, NULL, 0);
    return getenv(name);
}

char *mhi_routed_secure_getenv(const char *name)
{
    mhi_question_note(MHI_ASKED_VARIABLE, name, NULL, 0);
    return secure_getenv(name);
}

/* The C library refuses other names. */
static bool is_name(const char *name) { return name != NULL && *name != '\0' && strchr(name, '=') == NULL; }

int mhi_routed_setenv(const char *name, const char *value, int is_replaced)
{
    if (is_name(name) && !is_replaced)
        mhi_question_note(MHI_ASKED_VARIABLE, name, NULL, 0);
    if (is_name(name) && (is_replaced || getenv(name) == NULL))
        mhi_question_note(MHI_SET_VARIABLE, name, NULL, 0);
    return setenv(name, value, is_replaced);
}

int mhi_routed_putenv(char *entry)
{
    char name[PATH_MAX];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(entry, "="), entry);
    if (is_name(name))
        mhi_question_note(MHI_SET_VARIABLE, name, NULL, 0);
    return putenv(entry);
}

int mhi_routed_unsetenv(const char *name)
{
    if (is_name(name))
        mhi_question_note(MHI_SET_VARIABLE, name, NULL, 0);
    return unsetenv(name);
}

int mhi_routed_clearenv(void)
{
    mhi_question_note(MHI_SET_VARIABLE, "", NULL, 0);
    return clearenv();
}

char *mhi_routed_getcwd(char *path, size_t size)
{
    mhi_question_note(MHI_ASKED_PLACE, "", NULL, 0);
    return getcwd(path, size);
}

char *mhi_routed_getcwd_chk(char *path, size_t size, size_t room)
{
    return size > room ? (abort(), NULL) : mhi_routed_getcwd(path, size);
}

char *mhi_routed_get_current_dir_name(void)
{
    mhi_question_note(MHI_ASKED_PLACE, "", NULL, 0);
    mhi_question_note(MHI_ASKED_VARIABLE, "PWD", NULL, 0);
    return get_current_dir_name();
}

/* ---- the time zone ---- */

/* As the C library finds the zone: TZ, if it names a file in TZDIR; else the machine's file. */
void mhi_note_zone(void)
{
    char path[PATH_MAX];
    if (!mhi_questions_are_noted())
        return;
    const char *zone = getenv("TZ"), *directory = getenv("TZDIR");
    mhi_question_note(MHI_ASKED_VARIABLE, "TZ", NULL, 0);
    if (zone != NULL && *zone == ':')
        zone++;
    bool is_named = zone != NULL && *zone != '\0' && *zone != '/';
    if (is_named)
        mhi_question_note(MHI_ASKED_VARIABLE, "TZDIR", NULL, 0);
    if (directory == NULL || *directory == '\0')
        directory = "/usr/share/zoneinfo";
    int length = is_named ? snprintf(path, sizeof path, "%s/%s", directory, zone)
                          : snprintf(path, sizeof path, "%s", zone == NULL ? "/etc/localtime" : zone);
    if (length > 0 && length < (int)sizeof path)
        see(AT_FDCWD, path);
}

struct tm *mhi_routed_localtime(const time_t *time) { return mhi_note_zone(), localtime(time); }
struct tm *mhi_routed_localtime_r(const time_t *time, struct tm *parts)
{
    return mhi_note_zone(), localtime_r(time, parts);
}
time_t mhi_routed_mktime(struct tm *parts) { return mhi_note_zone(), mktime(parts); }
void mhi_routed_tzset(void) { mhi_note_zone(), tzset(); }

/* ---- host and user ---- */

/* OpenBLAS reads only the kernel's version, in every program that imports numpy. Which members other callers read is
 * unknown. */
static bool asks_for_kernel(const void *caller)
{
    Dl_info info;
    return dladdr(caller, &info) != 0 && info.dli_fname != NULL && strstr(info.dli_fname, "openblas") != NULL;
}

int mhi_routed_uname(struct utsname *name)
{
    if (mhi_questions_are_noted())
        mhi_question_note(asks_for_kernel(__builtin_return_address(0)) ? MHI_ASKED_KERNEL : MHI_ASKED_HOST, "", NULL,
                          0);
    return uname(name);
}

int mhi_routed_gethostname(char *name, size_t size)
{
    mhi_question_note(MHI_ASKED_HOST, "", NULL, 0);
    return gethostname(name, size);
}

int mhi_routed_gethostname_chk(char *name, size_t size, size_t room)
{
    return size > room ? (abort(), -1) : mhi_routed_gethostname(name, size);
}

static void see_user(void) { mhi_question_note(MHI_ASKED_USER, "", NULL, 0); }

uid_t mhi_routed_getuid(void) { return see_user(), getuid(); }
uid_t mhi_routed_geteuid(void) { return see_user(), geteuid(); }
gid_t mhi_routed_getgid(void) { return see_user(), getgid(); }
gid_t mhi_routed_getegid(void) { return see_user(), getegid(); }

int mhi_routed_getgroups(int n, gid_t *groups) { return see_user(), getgroups(n, groups); }

struct passwd *mhi_routed_getpwuid(uid_t uid) { return see(AT_FDCWD, users), getpwuid(uid); }
struct passwd *mhi_routed_getpwnam(const char *name) { return see(AT_FDCWD, users), getpwnam(name); }

int mhi_routed_getpwuid_r(uid_t uid, struct passwd *entry, char *text, size_t size, struct passwd **found)
{
    return see(AT_FDCWD, users), getpwuid_r(uid, entry, text, size, found);
}

int mhi_routed_getpwnam_r(const char *name, struct passwd *entry, char *text, size_t size, struct passwd **found)
{
    return see(AT_FDCWD, users), getpwnam_r(name, entry, text, size, found);
}

/* route_asks.c - what is asked without opening a file: the real function, then a note of the question.
 *
 * The C library's own calls inside itself are not seen. So what realpath walks through and what getpwuid reads are noted as their outcome
 * depends on them: the path that was asked, and the list of users.
 */
#define _GNU_SOURCE
#include "heap/route_asks.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "heap/questions.h"

static const char users[] = "/etc/passwd";

static bool is_absent(int error) { return error == ENOENT || error == ENOTDIR; }

/* ---- paths ---- */

/* `result` and errno are the real function's. */
static int seen(int result, int directory, const char *path, const struct stat *found, bool is_of_link)
{
    int error = errno;
    if (mhi_questions_are_noted() && path != NULL && *path != '\0' && (result == 0 || is_absent(error))) {
        bool is_link = result == 0 && is_of_link && S_ISLNK(found->st_mode);
        mhi_question_note_path(is_link ? MHI_ASKED_LINK : MHI_ASKED_PATH, directory, path, result == 0 ? found : &(struct stat){ 0 }, 0);
    }
    errno = error;
    return result;
}

/* Of functions that tell less than stat. */
static void see(int directory, const char *path)
{
    int error = errno;
    struct stat found;
    if (mhi_questions_are_noted() && path != NULL)
        seen(fstatat(directory, path, &found, 0), directory, path, &found, false);
    errno = error;
}

int mhi_routed_stat(const char *path, struct stat *found) { return seen(stat(path, found), AT_FDCWD, path, found, false); }
int mhi_routed_lstat(const char *path, struct stat *found) { return seen(lstat(path, found), AT_FDCWD, path, found, true); }

int mhi_routed_fstatat(int directory, const char *path, struct stat *found, int flags)
{
    return seen(fstatat(directory, path, found, flags), directory, path, found, flags & AT_SYMLINK_NOFOLLOW);
}

int mhi_routed_statx(int directory, const char *path, int flags, unsigned mask, struct statx *found)
{
    int result = statx(directory, path, flags, mask, found);
    struct stat same;
    int error = errno;
    if (mhi_questions_are_noted() && path != NULL && *path != '\0')
        seen(fstatat(directory, path, &same, flags & AT_SYMLINK_NOFOLLOW), directory, path, &same, flags & AT_SYMLINK_NOFOLLOW);
    errno = error;
    return result;
}

int mhi_routed_xstat(int version, const char *path, struct stat *found) { return (void)version, mhi_routed_stat(path, found); }
int mhi_routed_lxstat(int version, const char *path, struct stat *found) { return (void)version, mhi_routed_lstat(path, found); }

int mhi_routed_fxstatat(int version, int directory, const char *path, struct stat *found, int flags)
{
    return (void)version, mhi_routed_fstatat(directory, path, found, flags);
}

int mhi_routed_access(const char *path, int mode)
{
    int result = access(path, mode);
    see(AT_FDCWD, path);
    return result;
}

int mhi_routed_euidaccess(const char *path, int mode)
{
    int result = euidaccess(path, mode);
    see(AT_FDCWD, path);
    return result;
}

int mhi_routed_faccessat(int directory, const char *path, int mode, int flags)
{
    int result = faccessat(directory, path, mode, flags);
    see(directory, path);
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

ssize_t mhi_routed_readlink(const char *path, char *target, size_t size) { return read_link(readlink(path, target, size), AT_FDCWD, path); }

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

char *mhi_routed_realpath(const char *path, char *resolved)
{
    char *result = realpath(path, resolved);
    see(AT_FDCWD, path);
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

/* ---- the environment, and the place ---- */

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

char *mhi_routed_getcwd(char *path, size_t size)
{
    mhi_question_note(MHI_ASKED_PLACE, "", NULL, 0);
    return getcwd(path, size);
}

char *mhi_routed_getcwd_chk(char *path, size_t size, size_t room) { return size > room ? (abort(), NULL) : mhi_routed_getcwd(path, size); }

char *mhi_routed_get_current_dir_name(void)
{
    mhi_question_note(MHI_ASKED_PLACE, "", NULL, 0);
    mhi_question_note(MHI_ASKED_VARIABLE, "PWD", NULL, 0);
    return get_current_dir_name();
}

/* ---- terminals ---- */

static void see_terminal(mhi_asked kind, int fd)
{
    static const char *const numbers[] = { "0", "1", "2" };
    if (fd >= 0 && fd <= 2)
        mhi_question_note(kind, numbers[fd], NULL, 0);
}

int mhi_routed_isatty(int fd)
{
    see_terminal(MHI_ASKED_TERMINAL, fd);
    return isatty(fd);
}

int mhi_routed_ioctl(int fd, unsigned long request, ...)
{
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *); /* there is at most one, of the size of a pointer or less */
    va_end(arguments);
    if (request == TIOCGWINSZ)
        see_terminal(MHI_ASKED_SIZE, fd);
    else if (request == TCGETS)
        see_terminal(MHI_ASKED_TERMINAL, fd);
    return ioctl(fd, request, argument);
}

int mhi_routed_tcgetattr(int fd, struct termios *settings)
{
    see_terminal(MHI_ASKED_TERMINAL, fd);
    return tcgetattr(fd, settings);
}

/* ---- host and user ---- */

/* OpenBLAS compares the kernel's version, in every program that imports numpy; what others read of the structure nobody can see. */
static bool asks_for_kernel(const void *caller)
{
    Dl_info info;
    return dladdr(caller, &info) != 0 && info.dli_fname != NULL && strstr(info.dli_fname, "openblas") != NULL;
}

int mhi_routed_uname(struct utsname *name)
{
    if (mhi_questions_are_noted())
        mhi_question_note(asks_for_kernel(__builtin_return_address(0)) ? MHI_ASKED_KERNEL : MHI_ASKED_HOST, "", NULL, 0);
    return uname(name);
}

int mhi_routed_gethostname(char *name, size_t size)
{
    mhi_question_note(MHI_ASKED_HOST, "", NULL, 0);
    return gethostname(name, size);
}

int mhi_routed_gethostname_chk(char *name, size_t size, size_t room) { return size > room ? (abort(), -1) : mhi_routed_gethostname(name, size); }

static void see_user(void) { mhi_question_note(MHI_ASKED_USER, "", NULL, 0); }

uid_t mhi_routed_getuid(void) { return see_user(), getuid(); }
uid_t mhi_routed_geteuid(void) { return see_user(), geteuid(); }
gid_t mhi_routed_getgid(void) { return see_user(), getgid(); }
gid_t mhi_routed_getegid(void) { return see_user(), getegid(); }

/* The C library looks at TZ whenever it tells local times, and where it isn't set at a file. */
static void see_time_zone(void)
{
    mhi_question_note(MHI_ASKED_VARIABLE, "TZ", NULL, 0);
    see(AT_FDCWD, "/etc/localtime");
}

struct tm *mhi_routed_localtime(const time_t *time) { return see_time_zone(), localtime(time); }
struct tm *mhi_routed_localtime_r(const time_t *time, struct tm *found) { return see_time_zone(), localtime_r(time, found); }
time_t mhi_routed_mktime(struct tm *time) { return see_time_zone(), mktime(time); }

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

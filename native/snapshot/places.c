/* places.c - finds the user's cache directory, and makes it; and the interpreter that commands were installed for. */
#define _GNU_SOURCE
#include "snapshot/places.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "error.h"
#include "snapshot/inputs.h"
#include "snapshot/trust.h"
#include "sys/sys.h"

/* ---- the list of users ---- */

enum {
    FIELD_USER = 2,
    FIELD_HOME = 5,           /* of passwd(5), from 0 */
    LIST_BYTES_MAX = 1 << 24, /* users behind these bytes are not found; arbitrary */
};

/* A line as far as the line was read: name:password:user:group:text:home:shell */
typedef struct {
    unsigned field;
    uint64_t user; /* NO_USER: no number, or too large */
    bool has_digits;
    size_t length; /* of the home */
    char *home;    /* PATH_MAX bytes */
} line;

#define NO_USER UINT64_MAX

static void take_byte(line *at, char byte)
{
    if (byte == ':') {
        at->field++;
    } else if (at->field == FIELD_USER) {
        bool is_digit = byte >= '0' && byte <= '9';
        at->user = is_digit && at->user <= UINT32_MAX ? 10 * at->user + (uint64_t)(byte - '0') : NO_USER;
        at->has_digits = true;
    } else if (at->field == FIELD_HOME && at->length < PATH_MAX) {
        at->home[at->length++] = byte;
    }
}

static bool ends_well(const line *at, uid_t user)
{
    return at->field > FIELD_HOME && at->has_digits && at->user == user && at->length > 0 && at->length < PATH_MAX &&
           at->home[0] == '/' && memchr(at->home, '\0', at->length) == NULL;
}

static int find_home(char *home, int list, uid_t user)
{
    line at = { .home = home };
    for (uint64_t offset = 0; offset < LIST_BYTES_MAX;) {
        char text[4 << 10];
        ssize_t size = mhi_sys_pread(list, text, sizeof text, offset);
        if (size < 0)
            return (int)size;
        for (ssize_t i = 0; i < size; i++) {
            if (text[i] != '\n') {
                take_byte(&at, text[i]);
                continue;
            }
            if (ends_well(&at, user)) {
                home[at.length] = '\0';
                return 0;
            }
            at = (line){ .home = home };
        }
        if (size == 0)
            break;
        offset += (uint64_t)size;
    }
    return -ENOENT;
}

int mhi_home_of(char *home, const char *list, uid_t user)
{
    int fd = mhi_sys_open(list, O_RDONLY | O_NONBLOCK, 0);
    int result = fd < 0 ? fd : find_home(home, fd, user);
    if (fd >= 0)
        mhi_sys_close(fd);
    return result;
}

/* ---- the directory ---- */

static bool is_absolute(const char *path) { return path != NULL && *path == '/'; }

/* The user's home, into a buffer of PATH_MAX bytes; false: nobody names one. */
static bool find_user_home(char *home, char *const *environment)
{
    const char *given = mhi_environment_get(environment, "HOME");
    if (!is_absolute(given))
        return mhi_home_of(home, "/etc/passwd", mhi_sys_euid()) == 0;
    return snprintf(home, PATH_MAX, "%s", given) < PATH_MAX;
}

int mhi_cache_directory(char *path, char *const *environment, mh_error *err)
{
    char home[PATH_MAX];
    const char *cache = mhi_environment_get(environment, "XDG_CACHE_HOME");
    bool is_given = is_absolute(cache);
    if (!is_given && !find_user_home(home, environment))
        return mhi_fail(err, MH_ERR_UNSUPPORTED, 0,
                        "neither XDG_CACHE_HOME, HOME nor /etc/passwd names a directory for the user's snapshots");
    int length = snprintf(path, PATH_MAX, "%s%s/magicheap", is_given ? cache : home, is_given ? "" : "/.cache");
    return length < PATH_MAX
               ? MH_OK
               : mhi_fail(err, MH_ERR_UNSUPPORTED, 0, "the path of the user's cache directory is too long");
}

int mh_cache_directory(char *path, uint64_t size, mh_error *err)
{
    char found[PATH_MAX];
    if (size < sizeof found)
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "a path takes %d bytes", PATH_MAX);
    int status = mhi_cache_directory(found, environ, err);
    strcpy(path, status == MH_OK ? found : "");
    return status;
}

/* Shortens a path to the part that exists; "" is the root. */
static int find_existing(char *path, mh_error *err)
{
    struct stat found;
    int result;
    while ((result = mhi_sys_stat(*path == '\0' ? "/" : path, &found)) == -ENOENT && *path != '\0')
        *strrchr(path, '/') = '\0';
    return result < 0 ? mhi_fail_sys(err, result, "cannot examine the directory %s", path) : MH_OK;
}

/* `path` exists up to `done`. */
static int make_rest(char *path, size_t done, mh_error *err)
{
    int result = 0;
    for (char *slash = path + done; *slash != '\0' && (result == 0 || result == -EEXIST);) {
        slash += 1 + strcspn(slash + 1, "/");
        char was = *slash;
        *slash = '\0';
        result = mhi_sys_mkdir(path, 0700);
        if (result < 0 && result != -EEXIST)
            mhi_fail_sys(err, result, "cannot make the directory %s", path);
        *slash = was;
    }
    return result < 0 && result != -EEXIST ? MH_ERR_SYSTEM : MH_OK;
}

int mhi_make_directories(const char *path, mh_error *err)
{
    char existing[PATH_MAX], real[PATH_MAX], made[PATH_MAX];
    if (!is_absolute(path) || strlen(path) >= PATH_MAX)
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "'%s' is no absolute path of a directory", path);
    strcpy(existing, path);
    int status = find_existing(existing, err);
    if (status != MH_OK || strlen(existing) == strlen(path))
        return status;
    int result = mhi_sys_realpath(*existing == '\0' ? "/" : existing, real, sizeof real - sizeof "/x");
    if (result < 0)
        return mhi_fail_sys(err, result, "cannot resolve %s", existing);
    status = mhi_trust_directories(strcat(real, "/x"), err);
    return status == MH_OK ? make_rest(strcpy(made, path), strlen(existing), err) : status;
}

static int check_home(mh_error *err)
{
    char home[PATH_MAX];
    struct stat found;
    if (is_absolute(mhi_environment_get(environ, "XDG_CACHE_HOME")) || !find_user_home(home, environ))
        return MH_OK;
    int result = mhi_sys_stat(home, &found);
    return result < 0 ? mhi_fail_sys(err, result, "the user's home %s can't be used", home) : MH_OK;
}

int mhi_make_cache_directory(const char *below, mh_error *err)
{
    char path[PATH_MAX];
    int status = mhi_cache_directory(path, environ, err);
    if (status == MH_OK)
        status = check_home(err);
    if (status == MH_OK && strlen(path) + strlen(below) >= sizeof path)
        status = mhi_fail(err, MH_ERR_UNSUPPORTED, 0, "the path of the user's cache directory is too long");
    return status == MH_OK ? mhi_make_directories(strcat(path, below), err) : status;
}

int mh_make_cache_directory(mh_error *err) { return mhi_make_cache_directory("", err); }

/* ---- the interpreter ---- */

enum { LINES_BYTES = PATH_MAX + 64 };

/* Keeps the text up to `end`, if that is a path; else nothing. */
static void keep_path(char *path, const char *text, const char *end)
{
    size_t length = strcspn(text, end);
    if (*text != '/' || length >= PATH_MAX || text[length] == '\0')
        return;
    memcpy(path, text, length);
    path[length] = '\0';
}

/* `#!path`; or, where the path is too long for that or has a space in it, `#!/bin/sh`, and then `'''exec' "path" ...`.
 * */
static void read_lines(char *path, const char *text)
{
    static const char shell[] = "#!/bin/sh\n'''exec' ";
    if (strncmp(text, shell, sizeof shell - 1) == 0) {
        text += sizeof shell - 1;
        keep_path(path, text + (*text == '"'), *text == '"' ? "\"" : " ");
    } else if (strncmp(text, "#!", 2) == 0) {
        keep_path(path, text + 2, " \n");
    }
}

void mhi_read_interpreter(char *path, const char *directory)
{
    char text[LINES_BYTES + 1];
    int length = snprintf(path, PATH_MAX, "%s/magicheap", directory);
    int fd = *directory != '/' || length >= PATH_MAX ? -1 : mhi_sys_open(path, O_RDONLY | O_NONBLOCK, 0);
    *path = '\0';
    if (fd < 0)
        return;
    ssize_t size = mhi_sys_pread(fd, text, LINES_BYTES, 0);
    mhi_sys_close(fd);
    text[size < 0 ? 0 : size] = '\0';
    read_lines(path, text);
}

int mh_read_interpreter(char *path, uint64_t size, const char *directory)
{
    char found[PATH_MAX];
    if (size < sizeof found)
        return MH_ERR_ARGUMENT;
    mhi_read_interpreter(found, directory);
    strcpy(path, found);
    return MH_OK;
}

/* trust.c - refuses snapshots that another user could have put in place.
 *
 * Directories are judged as sshd judges those of authorized_keys, along the real path: if no other user can rename any
 * of its components, the path leads to the same file in our check and in our open. Two rules are wider than sshd's: a
 * sticky directory may be world-writable (in /tmp only the owner of an entry can rename it), and a group-writable one
 * is taken (with user-private groups every directory is): a member who renames a file there still can't make one that
 * is ours or root's.
 */
#define _GNU_SOURCE
#include "snapshot/trust.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "error.h"
#include "sys/sys.h"

/* `path` split at its last slash; false if the path has no last name, or is too long. */
static bool split(const char *path, char *directory, const char **name)
{
    const char *slash = strrchr(path, '/');
    *name = slash == NULL ? path : slash + 1;
    size_t length = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
    if (strlen(path) >= PATH_MAX || **name == '\0' || strcmp(*name, ".") == 0 || strcmp(*name, "..") == 0)
        return false;
    memcpy(directory, slash == NULL ? "." : path, slash == NULL ? 1 : length);
    directory[slash == NULL ? 1 : length] = '\0';
    return true;
}

int mhi_path_resolve(char **absolute, const char *path, mh_error *err)
{
    *absolute = NULL;
    char directory[PATH_MAX], real[PATH_MAX];
    const char *name;
    if (!split(path, directory, &name))
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "'%s' is not the path of a file", path);

    if (mhi_sys_realpath(directory, real, sizeof real) != 0) {
        int result = *path == '/' ? 0 : mhi_sys_realpath(".", real, sizeof real);
        if (result < 0)
            return mhi_fail_sys(err, result, "cannot tell the working directory");
        if (*path == '/')
            real[0] = '\0';
        name = path + (*path == '/');
    }
    size_t length = strcmp(real, "/") == 0 ? 0 : strlen(real);
    char *joined = malloc(length + strlen(name) + 2);
    if (joined == NULL)
        return mhi_fail(err, MH_ERR_SYSTEM, 0, "out of memory");
    memcpy(joined, real, length);
    joined[length] = '/';
    strcpy(joined + length + 1, name);
    *absolute = joined;
    return MH_OK;
}

int mhi_trust_process(mh_error *err)
{
    if (mhi_sys_secure_exec())
        return mhi_fail(
            err, MH_ERR_UNTRUSTED, 0,
            "this program runs with privileges its caller lacks (AT_SECURE): it takes and makes no snapshots");
    return MH_OK;
}

static bool is_ours(const struct stat *status) { return status->st_uid == 0 || status->st_uid == mhi_sys_euid(); }

int mhi_trust_file(const char *path, const struct stat *file, mh_error *err)
{
    if (!S_ISREG(file->st_mode))
        return mhi_fail(err, MH_ERR_UNTRUSTED, 0, "%s is not a regular file", path);
    if (!is_ours(file))
        return mhi_fail(err, MH_ERR_UNTRUSTED, 0,
                        "%s belongs to user %u, not to user %u or root: delete it or choose another path", path,
                        file->st_uid, mhi_sys_euid());
    if (file->st_mode & (S_IWGRP | S_IWOTH))
        return mhi_fail(err, MH_ERR_UNTRUSTED, 0,
                        "%s has mode %04o, so others can write it: chmod go-w it, or delete it", path,
                        file->st_mode & 07777);
    return MH_OK;
}

/* Judges the target of a link that only root or we could have made, from the root on. */
static int trust_target(const char *link, mh_error *err)
{
    char real[PATH_MAX];
    int result = mhi_sys_realpath(link, real, sizeof real - sizeof "/x");
    if (result < 0)
        return mhi_fail_sys(err, result, "cannot resolve the link %s", link);
    return mhi_trust_directories(strcat(real, "/x"), err);
}

static int trust_directory(const char *path, mh_error *err)
{
    struct stat status;
    int result = mhi_sys_lstat(path, &status);
    if (result < 0)
        return mhi_fail_sys(err, result, "cannot examine the directory %s", path);
    if (!is_ours(&status))
        return mhi_fail(err, MH_ERR_UNTRUSTED, 0,
                        "the directory %s belongs to user %u, who could exchange what is in it", path, status.st_uid);
    if (S_ISLNK(status.st_mode))
        return trust_target(path, err);
    if ((status.st_mode & S_IWOTH) && !(status.st_mode & S_ISVTX))
        return mhi_fail(err, MH_ERR_UNTRUSTED, 0,
                        "the directory %s has mode %04o, so anybody could exchange what is in it: chmod o-w it", path,
                        status.st_mode & 07777);
    return MH_OK;
}

int mhi_trust_directories(const char *absolute, mh_error *err)
{
    char path[PATH_MAX];
    mhi_path_directory(absolute, path);
    for (;;) {
        int status = trust_directory(path, err);
        if (status != MH_OK || strcmp(path, "/") == 0)
            return status;
        char *slash = strrchr(path, '/');
        slash[slash == path] = '\0';
    }
}

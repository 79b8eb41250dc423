/* writer.c - the lock, the new file, and its exchange with the old one.
 *
 * W1  No foreign file is replaced or removed, under any of the three names (foreign.c). The names are examined before
 *     the body runs, and again when the snapshot takes its name. If the name was free, the kernel itself refuses to
 *     replace a file. If not, the two files are exchanged, and exchanged back if the old one turns out to be no
 *     snapshot.
 * W2  Where the file system can't exchange, we look just before the rename; a file that appears in between is lost.
 *
 * Why a separate lock file: every commit replaces the snapshot, so a lock on it would be a lock on a file without a
 * name. The holder removes the lock file at the end. That is safe only because each run that gets the lock checks that
 * the locked file still has the name: if not, the previous holder has removed it, and another run may hold its
 * successor.
 */
#define _GNU_SOURCE
#include "snapshot/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#include "base/identity.h"
#include "base/text.h"
#include "error.h"
#include "snapshot/foreign.h"
#include "snapshot/trust.h"
#include "sys/sys.h"

enum { MODE = 0600, LOCK_TRIES = 16 }; /* each try is lost to another run that came and went; arbitrary */

/* The text in our lock files, which tells them from another program's lock of the same name. */
static const char lock_text[] = "magicheap: a run is making the snapshot beside this file\n";

static int prepare(mhi_writer *writer, const char *absolute, mh_error *err)
{
    static const char lock_suffix[] = ".lock", temporary_suffix[] = ".uncommitted";
    size_t length = strlen(absolute), lock_at = length + 1, temporary_at = lock_at + length + sizeof lock_suffix;
    *writer = (mhi_writer){ .directory = -1, .lock = -1, .fd = -1 };
    char *text = malloc(temporary_at + length + sizeof temporary_suffix);
    if (text == NULL)
        return mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "out of memory");
    writer->path = strcpy(text, absolute);
    writer->lock_path = strcat(strcpy(text + lock_at, absolute), lock_suffix);
    writer->temporary = strcat(strcpy(text + temporary_at, absolute), temporary_suffix);

    char directory[PATH_MAX];
    mhi_path_directory(absolute, directory);
    writer->directory = mhi_sys_open(directory, O_RDONLY | O_DIRECTORY, 0);
    return writer->directory < 0 ? mhi_fail_sys(err, writer->directory, "cannot open the directory %s", directory)
                                 : MH_OK;
}

/* Makes a lock file, which has its text before it gets its name. -EEXIST: there is one. */
static int make_lock(mhi_writer *writer)
{
    const char *name = mhi_path_name(writer->lock_path);
    int fd = mhi_sys_openat(writer->directory, ".", O_RDWR | O_TMPFILE, MODE), result = fd;
    if (fd >= 0 && (result = mhi_sys_pwrite_all(fd, lock_text, sizeof lock_text - 1, 0)) == 0 &&
        (result = mhi_sys_link_fd(fd, writer->directory, name)) == 0)
        return fd;
    if (fd >= 0)
        mhi_sys_close(fd);
    if (result == -EEXIST)
        return result;
    fd = mhi_sys_openat(writer->directory, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, MODE);
    if (fd >= 0)
        mhi_sys_pwrite_all(fd, lock_text, sizeof lock_text - 1, 0); /* on failure the empty lock file stays behind */
    return fd;
}

/* Opens the lock file. Any regular file can be locked, but our lock is never a device, or a file with another
 * content. */
static int open_lock(mhi_writer *writer, bool *is_ours)
{
    char text[sizeof lock_text];
    struct stat found;
    *is_ours = false;
    int fd = mhi_sys_lstat(writer->lock_path, &found);
    if (fd == 0)
        fd = S_ISREG(found.st_mode) ? mhi_sys_openat(writer->directory, mhi_path_name(writer->lock_path),
                                                     O_RDWR | O_NOFOLLOW | O_NONBLOCK, 0)
                                    : -EEXIST;
    if (fd < 0)
        return fd;
    ssize_t size = mhi_sys_pread(fd, text, sizeof text, 0);
    *is_ours = size == sizeof lock_text - 1 && memcmp(text, lock_text, (size_t)size) == 0;
    if (size == 0 || *is_ours)
        return fd;
    mhi_sys_close(fd);
    return size < 0 ? (int)size : -EEXIST;
}

/* Whether the lock's name leads to the file that is locked. */
static int is_named(const mhi_writer *writer, int fd)
{
    struct stat locked, named;
    int result = mhi_sys_fstat(fd, &locked);
    if (result == 0)
        result = mhi_sys_lstat(writer->lock_path, &named);
    return result < 0 ? result : mhi_is_same_file(mhi_file_id_of(&named), mhi_file_id_of(&locked));
}

/* 1: locked, 0: lost a race, so try again; -errno; -EEXIST: something foreign has the name. */
static int try_lock(mhi_writer *writer)
{
    bool is_ours = true;
    int fd = make_lock(writer);
    if (fd == -EEXIST && (fd = open_lock(writer, &is_ours)) == -ENOENT)
        return 0;
    if (fd < 0)
        return fd;
    int result = mhi_sys_flock(fd, LOCK_EX | LOCK_NB);
    if (result == 0)
        result = is_named(writer, fd);
    if (result == 1) {
        writer->lock = fd;
        writer->is_lock_ours = is_ours;
        return 1;
    }
    mhi_sys_close(fd);
    return result == -ENOENT ? 0 : result;
}

static int take_lock(mhi_writer *writer, mh_error *err)
{
    int result = 0;
    for (int i = 0; i < LOCK_TRIES && result == 0; i++)
        result = try_lock(writer);
    if (result == 1)
        return MH_OK;
    if (result == 0 || result == -EWOULDBLOCK) /* result 0: every try lost a race */
        return mhi_fail(err, MH_ERR_BUSY, EWOULDBLOCK, "another run is making it at this moment (it holds %s)",
                        writer->lock_path);
    if (result == -EEXIST)
        return mhi_fail(err, MH_ERR_FORMAT, EEXIST,
                        "%s, by which runs wait for each other, is no lock of ours: choose another path, or remove it",
                        writer->lock_path);
    return mhi_fail_sys(err, result, "cannot lock %s", writer->lock_path);
}

/* Whether the file system lacks nameless files. The error then depends on its age and kind (open(2), O_TMPFILE). */
static bool lacks_nameless_files(int result)
{
    return result == -EOPNOTSUPP || result == -EISDIR || result == -ENOENT || result == -EINVAL;
}

/* Removes the file of a dead writer; a living one would hold the lock. */
static int remove_rest(mhi_writer *writer, mh_error *err)
{
    struct stat found;
    int result = mhi_sys_lstat(writer->temporary, &found);
    if (result == 0 && !mhi_foreign_is_rest(writer->temporary))
        return mhi_fail(
            err, MH_ERR_FORMAT, EEXIST,
            "%s, which the snapshot is called for a moment, is no file of ours: choose another path, or remove it",
            writer->temporary);
    if (result == 0)
        result = mhi_sys_unlinkat(writer->directory, mhi_path_name(writer->temporary));
    return result < 0 && result != -ENOENT
               ? mhi_fail_sys(err, result, "cannot remove %s, which an earlier run left", writer->temporary)
               : MH_OK;
}

static int make_file(mhi_writer *writer, mh_error *err)
{
    const char *name = mhi_path_name(writer->temporary);
    int status = remove_rest(writer, err);
    if (status != MH_OK)
        return status;
    writer->is_named = false;
    writer->fd = mhi_sys_openat(writer->directory, ".", O_RDWR | O_TMPFILE, MODE);
    if (lacks_nameless_files(writer->fd)) {
        writer->fd = mhi_sys_openat(writer->directory, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, MODE);
        writer->is_named = writer->fd >= 0;
    }
    if (writer->fd < 0)
        return mhi_fail_sys(err, writer->fd, "cannot make a file beside %s", writer->path);
    int result = mhi_sys_fchmod(writer->fd, MODE); /* independent of the umask */
    return result < 0 ? mhi_fail_sys(err, result, "cannot set the mode of the file that is to become %s", writer->path)
                      : MH_OK;
}

static void drop_file(mhi_writer *writer)
{
    if (writer->is_named)
        mhi_sys_unlinkat(writer->directory, mhi_path_name(writer->temporary));
    writer->is_named = false;
    if (writer->fd >= 0)
        mhi_sys_close(writer->fd);
    writer->fd = -1;
}

int mhi_writer_open(mhi_writer *writer, const char *absolute, mh_error *err)
{
    bool stands;
    int status = prepare(writer, absolute, err);
    if (status == MH_OK)
        /* PATH is checked whichever variant is written: a mistaken path is mistaken for all */
        status = mhi_foreign_refuse(writer->path, &stands, err);
    if (status == MH_OK)
        status = mhi_writer_aim(writer, absolute, err);
    if (status == MH_OK)
        status = take_lock(writer, err);
    if (status == MH_OK)
        status = make_file(writer, err);
    if (status != MH_OK)
        mhi_writer_close(writer);
    return status;
}

int mhi_writer_aim(mhi_writer *writer, const char *absolute, mh_error *err)
{
    char *target = malloc(strlen(absolute) + 1);
    if (target == NULL)
        return mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "out of memory");
    free(writer->target);
    writer->target = strcpy(target, absolute);
    return MH_OK;
}

int mhi_writer_restart(mhi_writer *writer, mh_error *err)
{
    drop_file(writer);
    int status = make_file(writer, err);
    if (status != MH_OK)
        drop_file(writer);
    return status;
}

static bool lacks_flags(int result) { return result == -EINVAL || result == -ENOSYS || result == -EOPNOTSUPP; }

/* Takes a free name. -EEXIST: the name is not free. */
static int take_name(mhi_writer *writer)
{
    const char *from = mhi_path_name(writer->temporary), *to = mhi_path_name(writer->target);
    int result = mhi_sys_rename_with(writer->directory, from, to, RENAME_NOREPLACE);
    if (!lacks_flags(result))
        return result;
    result = mhi_sys_link_fd(writer->fd, writer->directory, to); /* a link never replaces a file */
    return result == 0 ? mhi_sys_unlinkat(writer->directory, from) : result;
}

static int refuse_found(const mhi_writer *writer, mh_error *err)
{
    bool stands;
    int status = mhi_foreign_refuse(writer->target, &stands, err);
    return status != MH_OK ? status
                           : mhi_fail(err, MH_ERR_BUSY, 0, "%s changes while it is being replaced", writer->target);
}

/* Takes the name of the old snapshot, which gets the temporary name until it is removed. */
static int replace(mhi_writer *writer, mh_error *err)
{
    const char *from = mhi_path_name(writer->temporary), *to = mhi_path_name(writer->target), *kind;
    int result = mhi_sys_rename_with(writer->directory, from, to, RENAME_EXCHANGE);
    if (lacks_flags(result)) { /* W2 */
        bool stands;
        int status = mhi_foreign_refuse(writer->target, &stands, err);
        if (status != MH_OK)
            return status;
        result = mhi_sys_renameat(writer->directory, from, to);
    } else if (result == 0 && mhi_foreign_look(writer->temporary, &kind) != MHI_STANDS_OURS) {
        result = mhi_sys_rename_with(writer->directory, from, to, RENAME_EXCHANGE);
        if (result == 0)
            return refuse_found(writer, err);
        writer->is_named = false; /* a foreign file, which must not be removed */
        return mhi_fail_sys(err, result, "%s has the name of what was at %s, and can't be given back",
                            writer->temporary, writer->target);
    } else if (result == 0) {
        mhi_sys_fsync(writer->directory); /* before the old snapshot is removed */
        mhi_sys_unlinkat(writer->directory, from);
    }
    return result < 0 ? mhi_fail_sys(err, result, "cannot rename %s to %s", writer->temporary, writer->target) : MH_OK;
}

int mhi_writer_publish(mhi_writer *writer, mh_error *err)
{
    bool stands;
    int status = mhi_foreign_refuse(writer->target, &stands, err);
    if (status != MH_OK)
        return status;
    int result =
        writer->is_named ? 0 : mhi_sys_link_fd(writer->fd, writer->directory, mhi_path_name(writer->temporary));
    if (result < 0)
        return mhi_fail_sys(err, result, "cannot give the new snapshot the name %s", writer->temporary);
    writer->is_named = true;
    if (stands)
        status = replace(writer, err);
    else if ((result = take_name(writer)) < 0)
        status = result == -EEXIST
                     ? refuse_found(writer, err)
                     : mhi_fail_sys(err, result, "cannot rename %s to %s", writer->temporary, writer->target);
    if (status != MH_OK)
        return status;
    writer->is_named = false;
    result = mhi_sys_fsync(writer->directory);
    return result < 0
               ? mhi_fail_sys(err, result, "%s is in place, but its directory can't be made durable", writer->target)
               : MH_OK;
}

void mhi_writer_forget(mhi_writer *writer)
{
    if (writer->path == NULL)
        return;
    int fds[] = { writer->fd, writer->lock, writer->directory };
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            mhi_sys_close(fds[i]);
    free(writer->target);
    free(writer->path);
    *writer = (mhi_writer){ .directory = -1, .lock = -1, .fd = -1 };
}

void mhi_writer_disown(mhi_writer *writer) { *writer = (mhi_writer){ .directory = -1, .lock = -1, .fd = -1 }; }

void mhi_writer_close(mhi_writer *writer)
{
    if (writer->path == NULL)
        return;
    drop_file(writer);
    if (writer->lock >= 0) {
        if (writer->is_lock_ours && is_named(writer, writer->lock) == 1)
            mhi_sys_unlinkat(writer->directory, mhi_path_name(writer->lock_path));
        mhi_sys_flock(writer->lock, LOCK_UN); /* a forked child may hold the descriptor for longer than we live */
    }
    mhi_writer_forget(writer);
}

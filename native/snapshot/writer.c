/* writer.c - lock, new file, and the exchange of the two files.
 *
 * Why a lock file of its own: the snapshot is replaced by every commit, so a lock on it would be a lock on a file that is no longer
 * there. The lock file goes away with its holder, which is safe only if everybody who got the lock looks whether the file that
 * was locked still has the name: if not, the holder before has removed it, and somebody else may hold its successor.
 */
#define _GNU_SOURCE
#include "snapshot/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#include "error.h"
#include "snapshot/trust.h"
#include "sys/sys.h"

enum { MODE = 0600, LOCK_TRIES = 16 }; /* each try is lost to another run that came and went; arbitrary */

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
    return writer->directory < 0 ? mhi_fail_sys(err, writer->directory, "cannot open the directory %s", directory) : MH_OK;
}

/* 1: locked, 0: lost a race, try again, -errno. */
static int try_lock(mhi_writer *writer)
{
    int fd = mhi_sys_openat(writer->directory, mhi_path_name(writer->lock_path), O_RDWR | O_CREAT | O_NOFOLLOW, MODE);
    if (fd < 0)
        return fd;
    struct stat locked, named;
    int result = mhi_sys_flock(fd, LOCK_EX | LOCK_NB);
    if (result == 0)
        result = mhi_sys_fstat(fd, &locked);
    if (result == 0) {
        result = mhi_sys_lstat(writer->lock_path, &named);
        if (result == 0 && named.st_ino == locked.st_ino && named.st_dev == locked.st_dev) {
            writer->lock = fd;
            return 1;
        }
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
    if (result == 0 || result == -EWOULDBLOCK)
        return mhi_fail(err, MH_ERR_BUSY, 0, "another run is making %s at this moment (it holds %s)", writer->path, writer->lock_path);
    return mhi_fail_sys(err, result, "cannot lock %s", writer->lock_path);
}

/* Does the file system lack nameless files? What it answers then depends on its age and kind (open(2), O_TMPFILE). */
static bool lacks_nameless_files(int result)
{
    return result == -EOPNOTSUPP || result == -EISDIR || result == -ENOENT || result == -EINVAL;
}

static int make_file(mhi_writer *writer, mh_error *err)
{
    const char *name = mhi_path_name(writer->temporary);
    int result = mhi_sys_unlinkat(writer->directory, name); /* a dead writer's: a living one would hold the lock */
    if (result < 0 && result != -ENOENT)
        return mhi_fail_sys(err, result, "cannot remove %s, which an earlier run left", writer->temporary);
    writer->is_named = false;
    writer->fd = mhi_sys_openat(writer->directory, ".", O_RDWR | O_TMPFILE, MODE);
    if (lacks_nameless_files(writer->fd)) {
        writer->fd = mhi_sys_openat(writer->directory, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, MODE);
        writer->is_named = writer->fd >= 0;
    }
    if (writer->fd < 0)
        return mhi_fail_sys(err, writer->fd, "cannot make a file beside %s", writer->path);
    result = mhi_sys_fchmod(writer->fd, MODE); /* whatever the umask took away */
    return result < 0 ? mhi_fail_sys(err, result, "cannot set the mode of the file that is to become %s", writer->path) : MH_OK;
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
    int status = prepare(writer, absolute, err);
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

int mhi_writer_publish(mhi_writer *writer, mh_error *err)
{
    const char *temporary = mhi_path_name(writer->temporary);
    int result = writer->is_named ? 0 : mhi_sys_link_fd(writer->fd, writer->directory, temporary);
    if (result < 0)
        return mhi_fail_sys(err, result, "cannot give the new snapshot the name %s", writer->temporary);
    writer->is_named = true;
    result = mhi_sys_renameat(writer->directory, temporary, mhi_path_name(writer->target));
    if (result < 0)
        return mhi_fail_sys(err, result, "cannot rename %s to %s", writer->temporary, writer->target);
    writer->is_named = false;
    result = mhi_sys_fsync(writer->directory);
    return result < 0 ? mhi_fail_sys(err, result, "%s is in place, but its directory can't be made durable", writer->target) : MH_OK;
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
        mhi_sys_unlinkat(writer->directory, mhi_path_name(writer->lock_path));
        mhi_sys_flock(writer->lock, LOCK_UN); /* a forked child may hold the descriptor for longer than we live */
    }
    mhi_writer_forget(writer);
}

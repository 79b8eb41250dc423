/* reopen.c - opens the files that the committing process had open, at the same descriptor numbers and offsets.
 *
 * A number that is already open was inherited from our parent. A failure leaves no file open: a run that goes cold
 * after all inherits none.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/identity.h"
#include "error.h"
#include "launcher/launcher.h"
#include "sys/raw.h"
#include "sys/sys.h"

static int check_identity(int fd, const mhi_file_descriptor *was, const char *path, mh_error *err)
{
    struct stat is;
    int result = mhi_sys_fstat(fd, &is);
    if (result < 0)
        return mhi_fail_sys(err, result, "cannot examine %s", path);
    if (!mhi_is_same_open_id((mhi_open_id){ was->ds_inode, was->ds_device }, &is))
        return mhi_fail(err, MH_ERR_STALE, 0, "%s, which was open at the commit, has been replaced", path);
    if (!S_ISCHR(is.st_mode) && !S_ISBLK(is.st_mode) && !S_ISREG(is.st_mode) && !S_ISDIR(is.st_mode))
        return mhi_fail(err, MH_ERR_STALE, 0, "%s, which was open at the commit, is no file", path);
    return MH_OK;
}

/* Restores flags, offset and number of a descriptor. */
static int place(int fd, const mhi_file_descriptor *was)
{
    long result = mhi_raw_3(SYS_fcntl, fd, F_SETFL, (long)was->ds_flags);
    if (result >= 0 && was->ds_device == 0 && !(was->ds_flags & O_DIRECTORY))
        result = mhi_raw_3(SYS_lseek, fd, (long)was->ds_offset, SEEK_SET);
    if (result >= 0 && fd != (int)was->ds_fd)
        result = mhi_raw_3(SYS_dup3, fd, was->ds_fd, O_CLOEXEC);
    return result < 0 ? (int)result : 0;
}

static int reopen(const struct mh_image *image, const mhi_file_descriptor *was, mh_error *err)
{
    const char *path = mhi_image_string(image, was->ds_name);
    if (mhi_raw_3(SYS_fcntl, was->ds_fd, F_GETFD, 0) >= 0)
        return mhi_fail(err, MH_ERR_BUSY, 0, "descriptor %u is taken, which was %s at the commit", was->ds_fd, path);
    /* opening a FIFO would wait for its other end */
    int fd = mhi_sys_open(path, (int)was->ds_flags | O_NONBLOCK | O_NOCTTY, 0);
    if (fd < 0) /* always stale: here ENOENT is about a file of the program, not about the snapshot */
        return mhi_fail(err, MH_ERR_STALE, -fd, "%s, which was open at the commit, can't be opened again: %s", path,
                        mhi_sys_error_text(-fd));
    int status = check_identity(fd, was, path, err);
    int result = status == MH_OK ? place(fd, was) : 0;
    if (fd != (int)was->ds_fd || status != MH_OK || result < 0)
        mhi_sys_close(fd);
    return result < 0 ? mhi_fail_sys(err, result, "cannot give %s the descriptor %u", path, was->ds_fd) : status;
}

static void close_first(const struct mh_image *image, uint64_t n)
{
    while (n-- > 0)
        mhi_sys_close((int)mhi_image_descriptors(image)[n].ds_fd);
}

/* Moves the snapshot's own descriptor if its number is needed. The descriptors are sorted. */
static int evade(struct mh_image *image, mh_error *err)
{
    uint32_t last = mhi_image_descriptors(image)[mhi_image_n_descriptors(image) - 1].ds_fd;
    long moved = mhi_raw_3(SYS_fcntl, image->fd, F_DUPFD_CLOEXEC, (long)last + 1);
    if (moved < 0)
        return mhi_fail_sys(err, (int)moved, "no descriptor above %u for the snapshot", last);
    mhi_sys_close(image->fd);
    image->fd = (int)moved;
    return MH_OK;
}

int mhi_reopen(struct mh_image *image, mh_error *err)
{
    int status = mhi_image_n_descriptors(image) == 0 ? MH_OK : evade(image, err);
    for (uint64_t i = 0; i < mhi_image_n_descriptors(image) && status == MH_OK; i++) {
        status = reopen(image, &mhi_image_descriptors(image)[i], err);
        if (status != MH_OK)
            close_first(image, i);
    }
    for (uint64_t i = 0; i < mhi_image_n_descriptors(image) && status == MH_OK; i++)
        if (!mhi_image_descriptors(image)[i].ds_is_cloexec)
            mhi_raw_3(SYS_fcntl, mhi_image_descriptors(image)[i].ds_fd, F_SETFD, 0);
    return status;
}

void mhi_reopen_undo(const struct mh_image *image) { close_first(image, mhi_image_n_descriptors(image)); }

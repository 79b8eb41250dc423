/* foreign.c - examines the file that stands where one of ours is to go.
 *
 * A path may be mistaken: for a table, a model, a device. So a file is replaced only if it begins with MHI_MAGIC, which
 * all formats have had. A file that was cut inside the magic counts as ours, since no other program writes one. An
 * empty file counts too: nothing is lost with it, and mkstemp makes one to reserve a name. A file of zeros does not:
 * disk images begin with zeros. A link counts only if it leads to a snapshot. Only regular files are opened, since
 * opening a device or a FIFO can have side effects.
 */
#define _GNU_SOURCE
#include "snapshot/foreign.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "error.h"
#include "format.h"
#include "snapshot/image.h"
#include "sys/sys.h"

enum { MAGIC_BYTES = 8 };

static const char *kind_of(const struct stat *found)
{
    switch (found->st_mode & S_IFMT) {
    case S_IFDIR: return "a directory";
    case S_IFIFO: return "a FIFO";
    case S_IFCHR:
    case S_IFBLK: return "a device";
    case S_IFSOCK: return "a socket";
    default: return "a file of another kind";
    }
}

/* The first bytes of a regular file, at most MAGIC_BYTES; how many, or -errno. */
static ssize_t read_start(const char *path, uint8_t start[MAGIC_BYTES], struct stat *found)
{
    int fd = mhi_look(path, 0);
    if (fd < 0)
        return fd;
    ssize_t size = mhi_sys_fstat(fd, found);
    if (size == 0 && S_ISREG(found->st_mode)) /* it was regular a moment ago */
        size = mhi_sys_pread(fd, start, MAGIC_BYTES, 0);
    mhi_sys_close(fd);
    return size;
}

int mhi_foreign_look(const char *path, const char **kind)
{
    struct stat found;
    uint8_t start[MAGIC_BYTES];
    *kind = "";
    int result = mhi_sys_lstat(path, &found);
    bool is_link = result == 0 && S_ISLNK(found.st_mode);
    if (result == -ENOENT)
        return MHI_STANDS_NOTHING;
    if (is_link && (result = mhi_sys_stat(path, &found)) < 0) {
        *kind = "a symbolic link that leads nowhere";
        return MHI_STANDS_FOREIGN;
    }
    if (result < 0)
        return result;
    ssize_t size = S_ISREG(found.st_mode) ? read_start(path, start, &found) : 0;
    if (size < 0)
        return size == -ENOENT ? MHI_STANDS_NOTHING : (int)size;
    if (S_ISREG(found.st_mode) && memcmp(start, MHI_MAGIC, (size_t)size) == 0 && (size > 0 || !is_link))
        return MHI_STANDS_OURS;
    *kind = kind_of(&found);
    return MHI_STANDS_FOREIGN;
}

int mhi_foreign_refuse(const char *path, bool *stands, mh_error *err)
{
    const char *kind;
    int found = mhi_foreign_look(path, &kind);
    *stands = found == MHI_STANDS_OURS;
    if (found < 0)
        return mhi_fail_sys(err, found, "cannot tell whether %s is a snapshot", path);
    if (found == MHI_STANDS_FOREIGN)
        return mhi_fail(err, MH_ERR_FORMAT, 0,
                        "%s is %s and no snapshot, so it is not replaced: choose another path, or remove it", path,
                        kind);
    return MH_OK;
}

/* A file that had a name before its data was durable may lose all data in a power failure: then it is empty, or
 * zero. */
bool mhi_foreign_is_rest(const char *path)
{
    struct stat found;
    uint8_t start[MAGIC_BYTES], zeros[MAGIC_BYTES] = { 0 };
    if (mhi_sys_lstat(path, &found) < 0 || !S_ISREG(found.st_mode))
        return false;
    ssize_t size = read_start(path, start, &found);
    return size >= 0 && (memcmp(start, MHI_MAGIC, (size_t)size) == 0 || memcmp(start, zeros, (size_t)size) == 0);
}

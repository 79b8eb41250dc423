/* identity.h - identity and state of files by stat: the one place where these are compared.
 *
 * I1  Two files that exist at the same time are the same if device and inode are equal.
 * I2  A file is unwritten since it was recorded if inode, size and mtime are unchanged. The device is not compared: its
 *     number changes from boot to boot and from container to container.
 * I3  A file is in the same state if the ctime is unchanged, too. The ctime distinguishes files that `touch -r` makes
 *     alike, and two file systems of one making; but a new link, or our own change of the access time, changes it.
 * For a file in another state, snapshot/identity.h compares the content.
 */
#ifndef MHI_FILE_IDENTITY_H
#define MHI_FILE_IDENTITY_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

typedef struct { uint64_t inode, device; } mhi_file_id;

typedef struct {
    mhi_file_id id;
    uint64_t bytes;
    int64_t mtime_ns, ctime_ns;
} mhi_file_state;

static inline mhi_file_id mhi_file_id_of(const struct stat *found)
{
    return (mhi_file_id){ found->st_ino, found->st_dev };
}

static inline mhi_file_state mhi_file_state_of(const struct stat *found)
{
    return (mhi_file_state){ .id = mhi_file_id_of(found),
                             .bytes = (uint64_t)found->st_size,
                             .mtime_ns = (int64_t)found->st_mtim.tv_sec * 1000000000 + found->st_mtim.tv_nsec,
                             .ctime_ns = (int64_t)found->st_ctim.tv_sec * 1000000000 + found->st_ctim.tv_nsec };
}

/* I1 */
static inline bool mhi_is_same_file(mhi_file_id one, mhi_file_id other)
{
    return one.inode == other.inode && one.device == other.device;
}

/* I2 */
static inline bool mhi_is_unwritten(const mhi_file_state *was, const mhi_file_state *is)
{
    return was->id.inode == is->id.inode && was->bytes == is->bytes && was->mtime_ns == is->mtime_ns;
}

/* I3; the size of a directory is not compared. */
static inline bool mhi_is_same_state(const mhi_file_state *was, const mhi_file_state *is, bool is_file)
{
    return was->id.inode == is->id.inode && was->mtime_ns == is->mtime_ns && was->ctime_ns == is->ctime_ns &&
           (!is_file || was->bytes == is->bytes);
}

#endif

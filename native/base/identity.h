/* identity.h - identity and state of files by stat: the one place where these are compared.
 *
 * I1  Two files that exist at the same time are the same if device and inode are equal.
 * I2  A file is unwritten since it was recorded if inode, size and mtime are unchanged. The device is not compared: its
 *     number changes from boot to boot and from container to container.
 * I3  A file is in the same state if the ctime is unchanged, too. The ctime distinguishes files that `touch -r` makes
 *     alike, and two file systems of one making; but a new link, or our own change of the access time, changes it.
 * I4  What a descriptor leads to is the same in a later process if the inode is, or of a common device, as /dev/null,
 *     which each container has anew, the device's own number. Its path is compared, too.
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

/* Whether an entry of a directory may be the file. An entry has no device: this may refuse a file, not find one. */
static inline bool mhi_may_be_entry(mhi_file_id file, uint64_t entry_inode) { return file.inode == entry_inode; }

/* Whether a descriptor may still be of the file that an epoll set watches, of which the kernel tells the inode. */
static inline bool mhi_may_be_watched(const struct stat *found, uint64_t inode) { return found->st_ino == inode; }

/* I1 as a number, to be kept with other numbers: never 0, and equal for the same file. */
static inline int64_t mhi_file_mark(const struct stat *found)
{
    const uint64_t spread = 0x9e3779b97f4a7c15u; /* 2^64 divided by the golden ratio, odd: distinct stay distinct */
    return (int64_t)((found->st_dev * spread ^ found->st_ino) * spread | 1);
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

/* I4: of a common device the number, of any other file the inode; the other one is 0. */
typedef struct { uint64_t inode, number; } mhi_open_id;

static inline mhi_open_id mhi_open_id_of(const struct stat *found, bool is_common_device)
{
    return is_common_device ? (mhi_open_id){ .number = found->st_rdev } : (mhi_open_id){ .inode = found->st_ino };
}

/* I4 */
static inline bool mhi_is_same_open_id(mhi_open_id was, const struct stat *is)
{
    return !S_ISBLK(is->st_mode) && (was.inode == 0 || was.inode == is->st_ino) &&
           (S_ISCHR(is->st_mode) ? is->st_rdev : 0) == was.number;
}

#endif

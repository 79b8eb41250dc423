/* identity.c - see identity.h. */
#define _GNU_SOURCE
#include "snapshot/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "base/identity.h"
#include "error.h"
#include "snapshot/image.h"
#include "snapshot/inputs.h"
#include "sys/sys.h"

/* Twice the largest timer tick, 10 ms: a file system stamps files with the time of the last tick. For one that keeps
 * whole seconds, or two of them as FAT does, the same margin, and a second more for a clock that is set in between. */
#define YOUNG_NS 20000000ll
#define YOUNG_COARSE_NS 3000000000ll

mhi_file_input mhi_file_identity(int kind, const struct stat *found)
{
    mhi_file_state state = mhi_file_state_of(found);
    return (mhi_file_input){
        .in_kind = (uint32_t)kind,
        .in_bytes = state.bytes,
        .in_inode = state.id.inode,
        .in_device = state.id.device,
        .in_mtime_ns = state.mtime_ns,
        .in_ctime_ns = state.ctime_ns,
    };
}

static mhi_file_state state_of(const mhi_file_input *entry)
{
    return (mhi_file_state){
        { entry->in_inode, entry->in_device }, entry->in_bytes, entry->in_mtime_ns, entry->in_ctime_ns
    };
}

void mhi_identity_forget_young(mhi_file_input *entry, int64_t now_ns)
{
    bool is_coarse = entry->in_ctime_ns % 1000000000 == 0;
    int64_t young_ns = now_ns - (is_coarse ? YOUNG_COARSE_NS : YOUNG_NS);
    if (entry->in_ctime_ns > young_ns || entry->in_mtime_ns > young_ns)
        entry->in_ctime_ns = MHI_TIME_UNKNOWN;
}

bool mhi_is_same_input(const mhi_file_input *was, const mhi_file_input *is)
{
    bool is_file = was->in_kind == MH_INPUT_FILE || was->in_kind == MH_INPUT_LIBRARY;
    mhi_file_state before = state_of(was), now = state_of(is);
    return was->in_ctime_ns != MHI_TIME_UNKNOWN && mhi_is_same_state(&before, &now, is_file);
}

bool mhi_is_unwritten_input(const mhi_file_input *was, const mhi_file_input *is)
{
    mhi_file_state before = state_of(was), now = state_of(is);
    return mhi_is_unwritten(&before, &now);
}

/* Whether the file is a snapshot, as the parent of a layer is: a snapshot is identified by its header, which holds the
 * checksums of all else. */
static int is_snapshot(int fd, uint64_t size)
{
    char magic[sizeof MHI_MAGIC];
    int result = size < MHI_HEADER_BYTES ? 0 : mhi_sys_pread_all(fd, magic, sizeof magic, 0);
    return result < 0 ? result : size >= MHI_HEADER_BYTES && memcmp(magic, MHI_MAGIC, sizeof magic) == 0;
}

int mhi_file_digest(int fd, uint64_t size, uint64_t *digest)
{
    int result = is_snapshot(fd, size);
    if (result >= 0)
        result = mhi_checksum_file(fd, 0, result == 1 ? MHI_HEADER_BYTES : size, digest);
    *digest |= *digest == 0;
    return result;
}

/* False also if the content can't be read. */
static bool has_content(const mhi_file_input *was, int fd)
{
    uint64_t digest;
    if (was->in_build_id_bytes > 0)
        return mhi_open_file_has_build_id(fd, was->in_build_id, was->in_build_id_bytes) == 1;
    return was->in_digest != 0 && mhi_file_digest(fd, was->in_bytes, &digest) == 0 && digest == was->in_digest;
}

/* Compares by stat: 1: the same file; 0: the content must decide; or an error with its sentence. */
static int compare(const mhi_file_input *was, const struct stat *found, const char *path, mh_error *err)
{
    if (was->in_mtime_ns == MHI_MTIME_UNKNOWN)
        return mhi_fail(err, MH_ERR_STALE, 0, "%s had changed before the snapshot was made", path);
    mhi_file_input is = mhi_file_identity((int)was->in_kind, found);
    if (mhi_is_same_input(was, &is))
        return 1;
    if (!S_ISREG(found->st_mode))
        return mhi_fail(err, MH_ERR_STALE, 0, "%s has changed: it is no regular file", path);
    if (is.in_bytes != was->in_bytes)
        return mhi_fail(err, MH_ERR_STALE, 0, "%s has changed (size: %" PRIu64 " bytes, it was %" PRIu64 ")", path,
                        is.in_bytes, was->in_bytes);
    return 0;
}

int mhi_identity_check_open(const mhi_file_input *was, int fd, const char *path, mh_error *err)
{
    struct stat found;
    int result = mhi_sys_fstat(fd, &found);
    if (result < 0)
        return mhi_fail_sys(err, result, "cannot examine %s", path);
    result = compare(was, &found, path, err);
    if (result == 0 && !has_content(was, fd))
        return mhi_fail(err, MH_ERR_STALE, 0, "%s has changed (content)", path);
    return result < 0 ? result : MH_OK;
}

int mhi_identity_check(const mhi_file_input *was, const char *path, mh_error *err)
{
    struct stat found;
    int result = mhi_sys_stat(path, &found);
    if (result == -ENOENT)
        return mhi_fail(err, MH_ERR_STALE, ENOENT, "%s no longer exists", path);
    if (result < 0)
        return mhi_fail(err, MH_ERR_STALE, -result, "%s cannot be examined: %s", path, mhi_sys_error_text(-result));
    result = compare(was, &found, path, err);
    if (result != 0)
        return result < 0 ? result : MH_OK;
    int fd = mhi_look(path, 0);
    if (fd < 0)
        return mhi_fail(err, MH_ERR_STALE, -fd, "%s cannot be read: %s", path, mhi_sys_error_text(-fd));
    int status = mhi_identity_check_open(was, fd, path, err);
    mhi_sys_close(fd);
    return status;
}

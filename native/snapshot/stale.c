/* stale.c - compares the recorded inputs with what is there, and says in one sentence what has changed.
 *
 * A file is the same while its size, mtime and inode are: writing it in place changes the mtime, replacing it the inode, and
 * both usually the size. The device is recorded but not compared, since its number changes from boot to boot and from
 * container to container (git's index leaves it out for the same reason).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "error.h"
#include "snapshot/cpu.h"
#include "snapshot/image.h"
#include "snapshot/inputs.h"
#include "snapshot/key.h"
#include "sys/sys.h"

mhi_file_input mhi_file_identity(int kind, const struct stat *found)
{
    return (mhi_file_input){
        .in_kind = (uint32_t)kind,
        .in_bytes = (uint64_t)found->st_size,
        .in_inode = found->st_ino,
        .in_device = found->st_dev,
        .in_mtime_ns = (int64_t)found->st_mtim.tv_sec * 1000000000 + found->st_mtim.tv_nsec,
    };
}

static int check_file(const mhi_file_input *was, const char *path, mh_error *err)
{
    struct stat found;
    int result = mhi_sys_stat(path, &found);
    if (result == -ENOENT)
        return mhi_fail(err, MH_ERR_STALE, ENOENT, "%s no longer exists", path);
    if (result < 0)
        return mhi_fail(err, MH_ERR_STALE, -result, "%s cannot be examined: %s", path, mhi_sys_error_text(-result));
    mhi_file_input is = mhi_file_identity((int)was->in_kind, &found);
    if (was->in_mtime_ns == MHI_MTIME_UNKNOWN)
        return mhi_fail(err, MH_ERR_STALE, 0, "%s had changed before the snapshot was made", path);
    if (is.in_bytes != was->in_bytes)
        return mhi_fail(err, MH_ERR_STALE, 0, "%s has changed (size: %" PRIu64 " bytes, it was %" PRIu64 ")", path, is.in_bytes,
                        was->in_bytes);
    if (is.in_mtime_ns != was->in_mtime_ns)
        return mhi_fail(err, MH_ERR_STALE, 0, "%s has changed (mtime)", path);
    if (is.in_inode != was->in_inode)
        return mhi_fail(err, MH_ERR_STALE, 0, "%s has been replaced (inode)", path);
    return MH_OK;
}

static int check_cpu(const mhi_file_input *was, const char *features, mh_error *err)
{
    char has[MHI_CPU_TEXT_BYTES];
    uint32_t xsave_bytes = mhi_cpu_features(has);
    int length;
    const char *missing = strcmp(features, has) == 0 ? NULL : mhi_cpu_missing(features, has, &length); /* usually; the search is quadratic */
    if (missing != NULL)
        return mhi_fail(err, MH_ERR_STALE, 0, "this CPU lacks %.*s, which the snapshot was made with", length, missing);
    if (xsave_bytes != was->in_bytes)
        return mhi_fail(err, MH_ERR_STALE, 0, "the CPU's XSAVE area has %u bytes, the snapshot was made with %" PRIu64,
                        xsave_bytes, was->in_bytes);
    return MH_OK;
}

static int check_system(const mhi_file_input *was, const char *name, const char *text, mh_error *err)
{
    const char *libc = mhi_sys_libc_version(); /* the launcher has none, and compares the file as every other library's */
    if (strcmp(name, MHI_SYSTEM_LIBC) == 0 && libc != NULL && strcmp(text, libc) != 0)
        return mhi_fail(err, MH_ERR_STALE, 0, "the C library is glibc %s, the snapshot was made with %s", libc, text);
    if (strcmp(name, MHI_SYSTEM_PAGE) == 0 && was->in_bytes != (uint64_t)mhi_sys_page_size())
        return mhi_fail(err, MH_ERR_STALE, 0, "the page size is %ld, the snapshot was made with %" PRIu64, mhi_sys_page_size(),
                        was->in_bytes);
    return MH_OK;
}

/* What tells runs apart, whatever the files are: first, since it costs no look at a file. */
static int check_run(const struct mh_image *image, const char *key, const char *const *env, char *const *environment, mh_error *err)
{
    int status = mhi_environment_check(image, env, environment, err); /* before the key, which holds what Python made of it */
    for (uint64_t i = 0; i < image->n_inputs && status == MH_OK; i++)
        if (image->inputs[i].in_kind == MH_INPUT_KEY && key != NULL)
            status = mhi_key_check(mhi_image_string(image, image->inputs[i].in_text), key, err);
    return status;
}

static int check_world(const struct mh_image *image, mh_error *err)
{
    int status = MH_OK;
    for (uint64_t i = 0; i < image->n_inputs && status == MH_OK; i++) {
        const mhi_file_input *input = &image->inputs[i];
        const char *name = mhi_image_string(image, input->in_name), *text = mhi_image_string(image, input->in_text);
        switch (input->in_kind) {
        case MH_INPUT_FILE:
        case MH_INPUT_LIBRARY: status = check_file(input, name, err); break;
        case MH_INPUT_CPU: status = check_cpu(input, text, err); break;
        case MH_INPUT_SYSTEM: status = check_system(input, name, text, err); break;
        }
    }
    return status;
}

int mhi_inputs_check(const struct mh_image *image, const char *key, const char *const *env, char *const *environment, bool *is_variant,
                     mh_error *err)
{
    int status = check_run(image, key, env, environment, err);
    *is_variant = status == MH_ERR_STALE;
    return status == MH_OK ? check_world(image, err) : status;
}

bool mhi_inputs_are_gone(const struct mh_image *image)
{
    bool is_gone = false;
    for (uint64_t i = 0; i < image->n_inputs && !is_gone; i++) {
        const mhi_file_input *input = &image->inputs[i];
        mh_error err;
        if (input->in_kind == MH_INPUT_FILE || input->in_kind == MH_INPUT_LIBRARY)
            is_gone = check_file(input, mhi_image_string(image, input->in_name), &err) != MH_OK && (err.sys_errno == 0 || err.sys_errno == ENOENT);
    }
    return is_gone;
}

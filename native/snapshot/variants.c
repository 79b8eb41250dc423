/* variants.c - names of variants, and the choice among several reasons: shared by launcher and library. */
#include "snapshot/variants.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "error.h"

bool mhi_variant_path(char path[PATH_MAX], const char *first, int i)
{
    int length = i == 0 ? snprintf(path, PATH_MAX, "%s", first) : snprintf(path, PATH_MAX, "%s.v%d", first, i);
    return length < PATH_MAX;
}

bool mhi_is_variant_path(const char *path, const char *first)
{
    size_t length = strlen(first);
    if (strncmp(path, first, length) != 0)
        return false;
    const char *rest = path + length;
    return *rest == '\0' ||
           (rest[0] == '.' && rest[1] == 'v' && rest[2] > '0' && rest[2] < '0' + MHI_VARIANTS && rest[3] == '\0');
}

int mhi_variant_rank(int number, const mh_error *err, bool is_variant)
{
    if (err->status == MH_ERR_STALE)
        return is_variant ? MHI_OTHER_VARIANT : MHI_GONE_STALE;
    bool is_absent =
        err->status == MH_ERR_SYSTEM && (err->sys_errno == ENOENT || (number > 0 && err->sys_errno == ENAMETOOLONG));
    /* a foreign file has the name of a variant by chance */
    bool is_foreign = err->status == MH_ERR_FORMAT && number > 0;
    return is_absent || is_foreign ? MHI_ABSENT : MHI_UNSOUND;
}

void mhi_nearest_add(mhi_nearest *nearest, int rank, int64_t used_s, const mh_error *err)
{
    if (rank < nearest->rank || rank == MHI_ABSENT || (rank == nearest->rank && used_s <= nearest->used_s))
        return;
    *nearest = (mhi_nearest){ rank, used_s, *err };
}

int mhi_nearest_tell(const mhi_nearest *nearest, const char *path, mh_error *err)
{
    if (nearest->rank == MHI_ABSENT)
        return mhi_fail(err, MH_ERR_SYSTEM, ENOENT, "there is no snapshot %s", path);
    if (nearest->rank == MHI_OTHER_VARIANT)
        return mhi_fail(err, MH_ERR_STALE, 0, "no variant of %s answers: %s", path, nearest->err.detail);
    if (err != NULL)
        *err = nearest->err;
    return nearest->err.status;
}

/* tables.h - the tables that only the snapshot of a process has, in an open image.
 *
 * native/process, which makes such snapshots, and the launcher, which resumes them, share these tables and their check.
 */
#ifndef MHI_RESUMABLE_TABLES_H
#define MHI_RESUMABLE_TABLES_H
#include "format.h"
#include "snapshot/image.h"
#include "snapshot/kind.h"

/* check.c */
extern const mhi_file_kind mhi_file_kind_process;

/* Each NULL in the image of another kind. */
static inline const mhi_file_process *mhi_image_process(const struct mh_image *image)
{
    return mhi_image_own(image, MHI_TABLE_PROCESS)->entries;
}

static inline const mhi_file_descriptor *mhi_image_descriptors(const struct mh_image *image)
{
    return mhi_image_own(image, MHI_TABLE_DESCRIPTORS)->entries;
}

static inline const mhi_file_signal *mhi_image_signals(const struct mh_image *image)
{
    return mhi_image_own(image, MHI_TABLE_SIGNALS)->entries;
}

static inline const mhi_file_touched *mhi_image_touched(const struct mh_image *image)
{
    return mhi_image_own(image, MHI_TABLE_TOUCHED)->entries;
}

/* The number of entries; 0 in the image of another kind. */
static inline uint64_t mhi_image_n_descriptors(const struct mh_image *image)
{
    return mhi_image_own(image, MHI_TABLE_DESCRIPTORS)->n;
}

static inline uint64_t mhi_image_n_signals(const struct mh_image *image)
{
    return mhi_image_own(image, MHI_TABLE_SIGNALS)->n;
}

static inline uint64_t mhi_image_n_touched(const struct mh_image *image)
{
    return mhi_image_own(image, MHI_TABLE_TOUCHED)->n;
}

#endif

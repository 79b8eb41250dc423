/* image.h - header and tables of a snapshot file, in memory and checked. */
#ifndef MHI_IMAGE_H
#define MHI_IMAGE_H
#include <sys/stat.h>

#include "format.h"
#include "magicheap.h"

typedef struct {
    const void *entries; /* NULL: the file has no such table */
    uint64_t n;
} mhi_own_table;

struct mh_image {
    char *path; /* absolute */
    int fd;
    struct stat status; /* of fd when it was opened */
    mhi_file_header header;
    uint8_t *tables; /* a copy of all tables; the pointers below lead into it */
    uint64_t tables_bytes;
    const mhi_file_segment *segments;
    const mhi_file_input *inputs;
    const mhi_file_module *modules;
    const mhi_file_relocation *relocations;
    const char *strings;
    uint64_t n_segments, n_inputs, n_modules, n_relocations, strings_bytes;
    const struct mhi_file_kind *kind;
    /* the tables that only this kind has, which stand behind the others */
    mhi_own_table own[MHI_TABLES_MAX - MHI_TABLES_OF_HEAP];
};

static inline const mhi_own_table *mhi_image_own(const struct mh_image *image, int table)
{
    return &image->own[table - MHI_TABLES_OF_HEAP - 1];
}

/* mh_image_open, for every kind. With `trusted_only`, a file that another user could have put there is MH_ERR_UNTRUSTED
 * before a byte of it is read. */
int mhi_image_open(struct mh_image **image, const char *absolute, bool trusted_only, mh_error *err);
/* The same in two steps, since most tables matter only if a run takes the file. The first step reads header, inputs,
 * strings and the kind's own tables, which is all that mhi_inputs_check needs. If the second step fails, the caller
 * still has to close the image. */
int mhi_image_open_front(struct mh_image **image, const char *absolute, bool trusted_only, mh_error *err);
int mhi_image_complete(struct mh_image *image, mh_error *err);
/* Opens a file for reading without changing its access time where possible: that time tells when a run last took the
 * snapshot, so inspection must not set it. */
int mhi_image_look(const char *path);
/* Opens a file for reading; the access time stays if the file is ours. */
int mhi_look(const char *path, int flags);
/* Records in the access time that a run takes the snapshot; to the minute, which is exact enough and spares most runs a
 * write. */
void mhi_image_stamp(const struct mh_image *image);

static inline const char *mhi_image_string(const struct mh_image *image, uint64_t offset)
{
    return image->strings + offset;
}

static inline bool mhi_is_string(const struct mh_image *image, uint64_t offset)
{
    return offset < image->strings_bytes;
}

/* MH_ERR_FORMAT if the image is not of this kind. */
int mhi_image_expect(const struct mh_image *image, const struct mhi_file_kind *kind, mh_error *err);

/* The checksum of a range of a file, read in pieces. Returns 0 or -errno; -ENODATA when the file ends first. */
int mhi_checksum_file(int fd, uint64_t offset, uint64_t size, uint64_t *checksum);

/* check.c: NULL, or the defect as the end of a sentence. Checks every field of the header but magic, version, kind,
 * size and checksum. */
const char *mhi_check_header(const mhi_file_header *header, const struct mhi_file_kind *kind);
/* check.c: the places of the tables. Afterwards the tables can be read. */
const char *mhi_check_directory(const struct mh_image *image);
/* check.c: inputs, strings, and the kind's own tables as far as check_front needs; sets the pointers to these
 * tables. */
const char *mhi_check_front(struct mh_image *image);
/* check.c: everything else. Afterwards every name, index and range can be used. */
const char *mhi_check_tables(struct mh_image *image);

#endif

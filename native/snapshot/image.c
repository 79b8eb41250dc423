/* image.c - opens a snapshot: copies header and tables into memory, checks them, and only then hands them out.
 *
 * They are copied, because a mapping could change between check and use, and a truncation would raise a signal. The
 * size that the header states is compared with the file's before anything else is read, so a truncated file is found
 * here.
 */
#define _GNU_SOURCE
#include "snapshot/image.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "snapshot/checksum.h"
#include "snapshot/kind.h"
#include "snapshot/trust.h"
#include "sys/sys.h"

/* bytes read at once: few enough pages to touch at each start, and the checksum finds them in the CPU's cache */
enum { PIECE_BYTES = 1 << 16 };
enum { STAMP_SECONDS = 60 };

int mhi_look(const char *path, int flags)
{
    int looking = O_RDONLY | O_NONBLOCK | O_NOCTTY | flags; /* O_NONBLOCK: opening a FIFO would wait for a writer */
    int fd = mhi_sys_open(path, looking | O_NOATIME, 0);
    return fd == -EPERM ? mhi_sys_open(path, looking, 0) : fd; /* O_NOATIME is for the owner only */
}

int mhi_image_look(const char *path) { return mhi_look(path, O_NOFOLLOW); }

static int open_file(struct mh_image *image, bool trusted_only, mh_error *err)
{
    if (trusted_only) {
        int status = mhi_trust_directories(image->path, err);
        if (status != MH_OK)
            return status;
    }
    image->fd = mhi_image_look(image->path);
    if (image->fd == -ELOOP)
        return mhi_fail(err, MH_ERR_UNTRUSTED, ELOOP, "%s is a symbolic link, which is not followed", image->path);
    if (image->fd < 0)
        return mhi_fail_sys(err, image->fd, "cannot open %s", image->path);
    int result = mhi_sys_fstat(image->fd, &image->status);
    if (result < 0)
        return mhi_fail_sys(err, result, "cannot examine %s", image->path);
    if (trusted_only)
        return mhi_trust_file(image->path, &image->status, err);
    if (!S_ISREG(image->status.st_mode))
        return mhi_fail(err, MH_ERR_FORMAT, 0, "%s is not a regular file", image->path);
    return MH_OK;
}

static int corrupt(const struct mh_image *image, const char *wrong, mh_error *err)
{
    return mhi_fail(err, MH_ERR_CORRUPT, 0, "%s is damaged: %s", image->path, wrong);
}

static const mhi_file_kind *find_kind(uint32_t number)
{
    for (int i = 0; i < MHI_N_KINDS; i++)
        if (mhi_file_kinds[i]->number == number)
            return mhi_file_kinds[i];
    return NULL;
}

static int read_header(struct mh_image *image, mh_error *err)
{
    mhi_file_header *header = &image->header;
    uint64_t size = (uint64_t)image->status.st_size;
    int result = mhi_sys_pread_all(image->fd, header, size < sizeof *header ? size : sizeof *header, 0);
    if (result < 0)
        return mhi_fail_sys(err, result, "cannot read %s", image->path);
    static const mhi_file_header zeros;
    if (size >= sizeof *header && memcmp(header, &zeros, sizeof zeros) == 0)
        return mhi_fail(err, MH_ERR_FORMAT, 0, "%s is no snapshot, or an incomplete one: its first page is zero",
                        image->path);
    if (memcmp(header->hd_magic, MHI_MAGIC, sizeof header->hd_magic) != 0)
        return mhi_fail(err, MH_ERR_FORMAT, 0, "%s is not a snapshot: it does not begin as one", image->path);
    if (size < sizeof *header)
        return corrupt(image, "it ends inside its header", err);
    if (header->hd_version != MHI_FORMAT_VERSION)
        return mhi_fail(err, MH_ERR_FORMAT, 0, "%s has format %" PRIu32 ", this build reads %d", image->path,
                        header->hd_version, MHI_FORMAT_VERSION);
    if (mhi_checksum(header, offsetof(mhi_file_header, hd_checksum)) != header->hd_checksum)
        return corrupt(image, "the checksum of its header does not match", err);
    if (header->hd_file_bytes != size)
        return mhi_fail(err, MH_ERR_CORRUPT, 0, "%s is damaged: it has %" PRIu64 " bytes and should have %" PRIu64,
                        image->path, size, header->hd_file_bytes);
    image->kind = find_kind(header->hd_kind);
    if (image->kind == NULL)
        return mhi_fail(err, MH_ERR_FORMAT, 0,
                        "%s is a snapshot of kind %" PRIu32 ", this build reads kinds %" PRIu32 " and %" PRIu32,
                        image->path, header->hd_kind, mhi_file_kinds[0]->number, mhi_file_kinds[1]->number);
    const char *wrong = mhi_check_header(header, image->kind);
    return wrong == NULL ? MH_OK : corrupt(image, wrong, err);
}

static int check_tables_place(struct mh_image *image, mh_error *err)
{
    uint64_t start = image->header.hd_tables[0].tb_offset;
    if (start >= image->header.hd_file_bytes || image->header.hd_file_bytes - start > MHI_TABLES_BYTES_MAX ||
        start % 8 != 0)
        return corrupt(image, "its tables lie outside the file, or are too large", err);
    image->tables_bytes = image->header.hd_file_bytes - start;
    const char *wrong = mhi_check_directory(image);
    return wrong == NULL ? MH_OK : corrupt(image, wrong, err);
}

/* Reads from table `first` up to table `behind`, or to the end of the file. */
static int read_tables(struct mh_image *image, int first, int behind, mh_error *err)
{
    const mhi_file_header *header = &image->header;
    uint64_t start = header->hd_tables[first - 1].tb_offset;
    uint64_t end = behind > MHI_TABLES_MAX || (uint32_t)behind > header->hd_n_tables
                       ? header->hd_file_bytes
                       : header->hd_tables[behind - 1].tb_offset;
    int result = end == start ? 0
                              : mhi_sys_pread_all(image->fd, image->tables + (start - header->hd_tables[0].tb_offset),
                                                  end - start, start);
    return result < 0 ? mhi_fail_sys(err, result, "cannot read the tables of %s", image->path) : MH_OK;
}

static int read_front(struct mh_image *image, mh_error *err)
{
    int status = check_tables_place(image, err);
    if (status != MH_OK)
        return status;
    image->tables = malloc(image->tables_bytes);
    if (image->tables == NULL)
        return mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "no memory for the tables of %s", image->path);
    status = read_tables(image, MHI_TABLE_INPUTS, MHI_TABLE_MODULES, err);
    if (status == MH_OK)
        status = read_tables(image, MHI_TABLE_STRINGS, MHI_TABLES_MAX + 1, err);
    const char *wrong = status == MH_OK ? mhi_check_front(image) : NULL;
    return wrong == NULL ? status : corrupt(image, wrong, err);
}

int mhi_image_complete(struct mh_image *image, mh_error *err)
{
    int status = read_tables(image, MHI_TABLE_SEGMENTS, MHI_TABLE_INPUTS, err);
    if (status == MH_OK)
        status = read_tables(image, MHI_TABLE_MODULES, MHI_TABLE_STRINGS, err);
    const char *wrong = status == MH_OK ? mhi_check_tables(image) : NULL;
    return wrong == NULL ? status : corrupt(image, wrong, err);
}

int mhi_image_open_front(struct mh_image **opened, const char *absolute, bool trusted_only, mh_error *err)
{
    *opened = NULL;
    size_t size = strlen(absolute) + 1;
    struct mh_image *image = calloc(1, sizeof *image);
    char *path = malloc(size);
    if (image == NULL || path == NULL) {
        free(image);
        free(path);
        return mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "out of memory");
    }
    image->path = memcpy(path, absolute, size);
    image->fd = -1;
    int status = open_file(image, trusted_only, err);
    if (status == MH_OK)
        status = read_header(image, err);
    if (status == MH_OK)
        status = read_front(image, err);
    if (status != MH_OK) {
        mh_image_close(image);
        return status;
    }
    *opened = image;
    return MH_OK;
}

int mhi_image_open(struct mh_image **opened, const char *absolute, bool trusted_only, mh_error *err)
{
    struct mh_image *image;
    *opened = NULL;
    int status = mhi_image_open_front(&image, absolute, trusted_only, err);
    if (status != MH_OK)
        return status;
    status = mhi_image_complete(image, err);
    if (status != MH_OK) {
        mh_image_close(image);
        return status;
    }
    *opened = image;
    return MH_OK;
}

void mhi_image_stamp(const struct mh_image *image)
{
    int64_t now_ns = mhi_sys_wall_clock_ns(), was_s = image->status.st_atim.tv_sec;
    if (now_ns / 1000000000 - was_s >= STAMP_SECONDS || was_s > now_ns / 1000000000)
        /* fails on a read-only file system, or for root's file: then the time of use stays unknown */
        mhi_sys_set_accessed(image->fd, now_ns);
}

int mhi_image_expect(const struct mh_image *image, const mhi_file_kind *kind, mh_error *err)
{
    if (image->kind != kind)
        return mhi_fail(err, MH_ERR_FORMAT, 0, "%s is the snapshot of a %s, not of a %s", image->path,
                        image->kind->name, kind->name);
    return MH_OK;
}

int mh_image_open(mh_image **image, const char *path, mh_error *err)
{
    *image = NULL;
    char *absolute;
    int status = path == NULL ? mhi_fail(err, MH_ERR_ARGUMENT, 0, "no path") : mhi_path_resolve(&absolute, path, err);
    if (status != MH_OK)
        return status;
    status = mhi_image_open(image, absolute, false, err);
    free(absolute);
    return status;
}

void mh_image_close(mh_image *image)
{
    if (image == NULL)
        return;
    if (image->fd >= 0)
        mhi_sys_close(image->fd);
    free(image->tables);
    free(image->path);
    free(image);
}

int mhi_checksum_file(int fd, uint64_t offset, uint64_t size, uint64_t *checksum)
{
    _Static_assert(PIECE_BYTES % MHI_STRIPE == 0, "whole stripes, then an end");
    uint8_t *piece = malloc(size < PIECE_BYTES ? size + 1 : PIECE_BYTES);
    if (piece == NULL)
        return -ENOMEM;
    mhi_checksum_state state;
    mhi_checksum_begin(&state, MHI_CHECKSUM_SEED);
    int result = 0;
    for (; size > PIECE_BYTES && result == 0; offset += PIECE_BYTES, size -= PIECE_BYTES) {
        result = mhi_sys_pread_all(fd, piece, PIECE_BYTES, offset);
        mhi_checksum_stripes(&state, piece, PIECE_BYTES);
    }
    if (result == 0)
        result = mhi_sys_pread_all(fd, piece, size, offset);
    *checksum = result == 0 ? mhi_checksum_end(&state, piece, size) : 0;
    free(piece);
    return result;
}

int mh_image_verify(const mh_image *image, mh_error *err)
{
    for (uint64_t i = 0; i < image->n_segments; i++) {
        const mhi_file_segment *segment = &image->segments[i];
        uint64_t checksum;
        if (segment->sg_kind == MH_SEGMENT_FILE || segment->sg_kind == MH_SEGMENT_ZERO)
            continue; /* the segment is not in this file */
        int result = mhi_checksum_file(image->fd, segment->sg_offset, segment->sg_bytes, &checksum);
        if (result < 0)
            return mhi_fail_sys(err, result, "cannot read segment %" PRIu64 " of %s", i, image->path);
        if (checksum != segment->sg_checksum)
            return mhi_fail(err, MH_ERR_CORRUPT, 0,
                            "%s is damaged: segment %" PRIu64 " has checksum %016" PRIx64 ", it was %016" PRIx64,
                            image->path, i, checksum, segment->sg_checksum);
    }
    return MH_OK;
}

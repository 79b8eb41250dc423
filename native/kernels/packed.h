/* packed.h - how the weights of a matrix lie in memory: the layout the kernels read, made once, at load.
 *
 * Sixteen rows are a strip: one lane of a wide vector each, so that a multiplication needs no sum across lanes. The
 * last strip of a matrix is filled up with rows of zeros, which keep stale memory out of a file; their products are not
 * stored.
 *
 * Float types: a strip is (cols, 16) values.
 * Block types: a group is 16 rows x 32 columns. Scales are interleaved with their values: one 64-byte line of scales,
 * then the one (Q4_1) or two (Q4_0, Q8_0) groups that it serves. So a strip is one sequential stream, which the
 * hardware prefetcher follows. With one token the speed is that of memory; all scales first reached two thirds of it.
 *
 *   scales   [d, or d and m][16] halves of a group; half a line of zeros behind the last of an odd number of groups
 *            with d alone
 *   4 bit    [group][4][64] byte 4r + i of line j: of row r, column 4j + i in its low half and 16 + 4j + i in its high
 *            half
 *   8 bit    [group][8][64] byte 4r + i of line j: of row r, column 4j + i
 *
 *   Q4_0  value = d * (q - 8)      Q4_1  value = d * q + m      Q8_0  value = d * (q - 128), q = the file's + 128
 *
 * q is unsigned, since some integer dot products need one unsigned operand. Four columns lie together because these
 * instructions add the products of four neighbouring bytes. Halves stay halves: they are memory traffic, and their
 * conversion is one instruction for 16 rows.
 */
#ifndef MK_PACKED_H
#define MK_PACKED_H
#include "llama_kernels.h"

enum {
    MKI_STRIP = 16, /* rows */
    MKI_BLOCK = 32, /* columns that share a scale, in every block type */
    MKI_LINE = 64,  /* bytes that are loaded at once for 16 rows */
};

/* Whether a type consists of blocks with scales. */
static inline bool mki_is_block_type(int32_t type) { return type == MK_Q4_0 || type == MK_Q4_1 || type == MK_Q8_0; }
static inline int mki_n_scales(int32_t type) { return type == MK_Q4_1 ? 2 : 1; }
static inline int mki_n_lines(int32_t type) { return type == MK_Q8_0 ? 8 : 4; }

/* Groups whose scales share a line. */
static inline int mki_n_sharing(int32_t type) { return MKI_LINE / (mki_n_scales(type) * MKI_STRIP * 2); }

/* Bytes from the scales of one line to those of the next. */
static inline int64_t mki_line_step(int32_t type) { return MKI_LINE * (1 + mki_n_sharing(type) * mki_n_lines(type)); }

/* Scales and lines of group g, from the first byte of a strip. */
static inline int64_t mki_scales_at(int32_t type, int64_t g)
{
    return g / mki_n_sharing(type) * mki_line_step(type) + g % mki_n_sharing(type) * mki_n_scales(type) * MKI_STRIP * 2;
}

static inline int64_t mki_lines_at(int32_t type, int64_t g)
{
    return g / mki_n_sharing(type) * mki_line_step(type) + MKI_LINE * (1 + g % mki_n_sharing(type) * mki_n_lines(type));
}

/* Bytes of a strip, a multiple of 32; `type` is one that a matrix may have and cols a multiple of its block. */
static inline int64_t mki_strip_bytes(int32_t type, int32_t cols)
{
    if (!mki_is_block_type(type))
        return (int64_t)cols * MKI_STRIP * (type == MK_F32 ? 4 : 2);
    return mki_lines_at(type, cols / MKI_BLOCK - 1) + mki_n_lines(type) * MKI_LINE;
}

static inline int32_t mki_n_strips(const mk_tensor *w) { return w->rows / MKI_STRIP + (w->rows % MKI_STRIP != 0); }

/* Some strips of a matrix, one behind the other. */
typedef struct {
    int32_t type;
    int32_t cols;
    int32_t n_rows; /* rows of the matrix in these strips: 16 a strip, or fewer in the matrix's last strip */
    const char *data;
} mki_strips;

static inline mki_strips mki_strips_of(const mk_tensor *w, int32_t first, int32_t n)
{
    int32_t left = w->rows - first * MKI_STRIP;
    return (mki_strips){ w->type, w->cols, left < n * MKI_STRIP ? left : n * MKI_STRIP,
                         (const char *)w->data + first * mki_strip_bytes(w->type, w->cols) };
}
#endif

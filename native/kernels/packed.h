/* packed.h - how the weights of a matrix lie in memory: the layout the kernels read, made once, at load.
 *
 * Sixteen rows are a strip: one lane of a wide vector each, so that a multiplication needs no sum across lanes. The last
 * strip of a matrix is filled up with rows of zeros, which keep stale memory out of a file; their products nobody stores.
 *
 * Float types: a strip is (cols, 16) values.
 * Block types: a group is 16 rows x 32 columns. A strip holds first the scales of all its groups, then their values:
 *
 *   scales   [group][d, or d and m][16] halves, the whole padded to a cache line
 *   4 bit    [group][4][64] byte 4r + i of line j: of row r, column 4j + i in its low half and 16 + 4j + i in its high half
 *   8 bit    [group][8][64] byte 4r + i of line j: of row r, column 4j + i
 *
 *   Q4_0  value = d * (q - 8)      Q4_1  value = d * q + m      Q8_0  value = d * (q - 128), q = the file's + 128
 *
 * q is unsigned, as the integer dot products of x86 want one of their operands. Four columns lie together because they
 * add the products of four neighbouring bytes. Halves stay halves: they are memory traffic, and their conversion is one
 * instruction for 16 rows.
 */
#ifndef MK_PACKED_H
#define MK_PACKED_H
#include "llama_kernels.h"

enum {
    MKI_STRIP = 16, /* rows */
    MKI_BLOCK = 32, /* columns that share a scale, in every block type */
    MKI_LINE = 64,  /* bytes that a vector of 16 rows takes at once */
};

/* Of block types. */
static inline bool mki_is_block_type(int32_t type) { return type == MK_Q4_0 || type == MK_Q4_1 || type == MK_Q8_0; }
static inline int mki_n_scales(int32_t type) { return type == MK_Q4_1 ? 2 : 1; }
static inline int mki_n_lines(int32_t type) { return type == MK_Q8_0 ? 8 : 4; }

static inline int64_t mki_scales_bytes(int32_t type, int32_t cols)
{
    int64_t n = (int64_t)(cols / MKI_BLOCK) * mki_n_scales(type) * MKI_STRIP * 2;
    return (n + MKI_LINE - 1) & ~(int64_t)(MKI_LINE - 1);
}

/* Bytes of a strip, a multiple of 32; `type` is one that a matrix may have and cols a multiple of its block. */
static inline int64_t mki_strip_bytes(int32_t type, int32_t cols)
{
    if (!mki_is_block_type(type))
        return (int64_t)cols * MKI_STRIP * (type == MK_F32 ? 4 : 2);
    return mki_scales_bytes(type, cols) + (int64_t)(cols / MKI_BLOCK) * mki_n_lines(type) * MKI_LINE;
}

static inline int32_t mki_n_strips(const mk_tensor *w) { return w->rows / MKI_STRIP + (w->rows % MKI_STRIP != 0); }

/* One strip of a matrix. */
typedef struct {
    int32_t type;
    int32_t cols;
    int32_t n_rows; /* that the matrix has: 16, or fewer in the last strip */
    const char *data;
} mki_strip;

static inline mki_strip mki_strip_of(const mk_tensor *w, int32_t i)
{
    int32_t left = w->rows - i * MKI_STRIP;
    return (mki_strip){w->type, w->cols, left < MKI_STRIP ? left : MKI_STRIP,
                       (const char *)w->data + i * mki_strip_bytes(w->type, w->cols)};
}
#endif

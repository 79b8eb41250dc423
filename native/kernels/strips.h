/* strips.h - strips of weights times vectors: where the time goes, written once (strips_kernels.h) over the lanes of
 * each instruction set (lanes_*.h).
 *
 * What every implementation keeps, and tests/native/kernels/test_kernels_strips.c holds it to:
 *   1. All give the same bits: integer sums are exact, and float operations are the same in the same order.
 *   2. A product does not depend on the vectors computed beside it. This is why a prompt may be cut anywhere, and work
 *      shared among any number of threads, without changing one bit of a logit.
 *   3. Nothing outside the given lengths is read or written; rows that fill up a strip are multiplied, never stored.
 */
#ifndef MK_STRIPS_H
#define MK_STRIPS_H
#include "packed.h"

/* 32 activations as 8-bit integers: x = d * q. What weights with a zero or a minimum need of their sum is kept with
 * them.
 *
 * Transformers have a few channels a hundred times as large as their neighbours, which would be rounded to nothing
 * beside them: SmolLM2's logits move by 7 % then. Where one value stands out, what rounding left over is kept in a
 * second block, x = d * q + rest.d * rest.q, which makes it 16 bits for those blocks alone (one in twenty; 3 %). */
typedef struct {
    int8_t q[MKI_BLOCK];
    float d;      /* largest magnitude / 127; NaN if one of them is not finite, and q is 0 then */
    float sum;    /* of what block and rest stand for */
    int32_t bias; /* -8 times the sum of q: where an integer sum begins when a weight of 8 means 0 */
    int32_t has_rest;
} mki_q8;

/* n rows of rounded activations, each `stride` blocks after the one before; rests, where they are, at the same index.
 * */
typedef struct {
    const mki_q8 *blocks, *rests;
    int64_t stride;
    int32_t n;
} mki_q8_rows;

/* n vectors of float32, each `stride` floats after the one before. */
typedef struct {
    const float *data;
    int64_t stride;
    int32_t n;
} mki_rows;

typedef struct {
    /* x of n_blocks * 32 floats; a block whose largest magnitude is below 127 * FLT_MIN becomes zero. */
    void (*quantize)(const float *x, int32_t n_blocks, mki_q8 *blocks, mki_q8 *rests);
    /* out[v * out_stride + r] = row r of w . x[v], for a block type. */
    void (*multiply_blocks)(mki_strips w, mki_q8_rows x, float *out, int64_t out_stride);
    /* The same of one strip of a float type and float vectors; added to out if `add`. */
    void (*multiply_floats)(mki_strips w, mki_rows x, bool add, float *out, int64_t out_stride);
    /* Columns first .. first + n of one strip of a block type as a strip of F32; both multiples of a block. */
    void (*expand)(mki_strips w, int32_t first, int32_t n, float *out);
} mki_strip_ops;

extern const mki_strip_ops mki_strips_scalar;
#endif

/* ops.h - the loops where the time goes, written once per instruction set behind one table.
 *
 * What every implementation keeps, and tests/c/test_kernels_ops.c holds it to:
 *   1. dequantize gives the same bits everywhere.
 *   2. Each output of add_dots is summed in an order that depends on n alone, never on how many
 *      other outputs are computed beside it. This is why a prompt may be cut anywhere, and work shared among any
 *      number of threads, without changing one bit of a logit.
 *   3. Nothing outside the given lengths is read or written, whatever the alignment.
 *
 * Packed layouts and quantised activations have their place here: another type, another operation.
 */
#ifndef MK_OPS_H
#define MK_OPS_H
#include "attention.h"
#include "stages.h"

#include <stdint.h>

/* n vectors of float32, each `stride` floats after the one before. */
typedef struct {
    const float *data;
    int64_t stride;
    int32_t n;
} mki_rows;

/* n rows of a weight as stored, each row_bytes after the one before. */
typedef struct {
    int32_t type;
    const void *data;
    int64_t row_bytes;
    int32_t n;
} mki_stored;

typedef struct {
    const char *name;
    /* n values from the start of `row`, a multiple of the type's block. */
    void (*dequantize)(int32_t type, const void *row, int32_t n, float *out);
    /* out[v * out_stride + r] += w[r] . x[v], over n columns. */
    void (*add_dots)(mki_rows w, mki_rows x, int32_t n, float *out, int64_t out_stride);
    /* add_dots of rows of a block type and one vector, to the same bits as by way of dequantize, but without storing
     * the expanded rows; NULL where that would gain nothing. */
    void (*add_block_dots)(mki_stored w, const float *x, int32_t n, float *out);
    const mki_attention_ops *attention;
    const mki_stage_ops *stages;
} mki_ops;

extern const mki_ops mki_ops_scalar;
extern const mki_ops mki_ops_avx2; /* defined on every x86-64 build, callable where isa.c says so */

/* The table this process uses. */
const mki_ops *mki_ops_current(void);
#endif

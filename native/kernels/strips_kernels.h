/* strips_kernels.h - the operations of strips.h, in terms of the lanes of one instruction set; included by
 * strips_<isa>.c.
 *
 * A lanes_<isa>.h defines, for 16 rows side by side,
 *   floats, ints    one value of each row;  bytes  four of each row;  fours  four bytes of a vector, for every row
 *   sums            running sums of products of bytes, to be read by sums_end
 *   STRIPS, TILE    strips and vectors multiplied at once: as many as there are registers for their sums
 * A tile loads each line of weights once for all its vectors, and each four bytes of a vector once for all its strips.
 */
#include "halves.h"
#include "strips.h"

#include <float.h>
#include <string.h>

/* Groups of a tile's strips that serve all vectors before the next ones are touched: 18 or 20 KiB of weights stay in
 * first-level cache, of Q8_0 34. Sums wait in memory meanwhile, to the same bits. */
enum { GROUPS_AT_ONCE = 32 };

/* ---- Activations ---- */

/* A value stands out when it is more than ten times the mean magnitude of its block: 127 > 10 * sum / 32. Arbitrary; at
 * 6 a third of the blocks had rests, at 20 hardly any. */
enum { LEAST_SUM = 127 * MKI_BLOCK / 10 };

/* added to a float it leaves the nearest integer, ties to even, in its low bits */
static const float magic = 0x1.8p23f;

/* q = x * inverse, rounded; returns the sum of magnitudes. bias is filled in. */
INLINE int32_t round_block(const float *x, float inverse, mki_q8 *out)
{
    int32_t q[MKI_BLOCK], total = 0, magnitude = 0;
    for (int i = 0; i < MKI_BLOCK; i++) {
        float shifted = x[i] * inverse + magic;
        memcpy(q + i, &shifted, sizeof *q);
        q[i] -= 0x4b400000;
    }
    for (int i = 0; i < MKI_BLOCK; i++) {
        out->q[i] = (int8_t)q[i];
        total += q[i];
        magnitude += q[i] < 0 ? -q[i] : q[i];
    }
    out->bias = -8 * total;
    return magnitude;
}

/* What rounding x to `block` left over, at most half of its step. Returns the rest's contribution to the block's
 * sum. */
static float round_rest(const float *x, const mki_q8 *block, mki_q8 *rest)
{
    float left[MKI_BLOCK];
    for (int i = 0; i < MKI_BLOCK; i++)
        left[i] = x[i] - block->d * (float)block->q[i];
    rest->d = block->d / 254;
    round_block(left, rest->d > 0 ? 1 / rest->d : 0, rest);
    return rest->d * (float)(rest->bias / -8);
}

static void quantize_block(const float *x, mki_q8 *block, mki_q8 *rest)
{
    static const float nothing[MKI_BLOCK];
    uint32_t most = 0, bits;
    for (int i = 0; i < MKI_BLOCK; i++) { /* as integers, so that a NaN is the largest of all */
        memcpy(&bits, x + i, sizeof bits);
        bits &= 0x7fffffff;
        most = bits > most ? bits : most;
    }
    float largest;
    memcpy(&largest, &most, sizeof largest);
    bool is_finite = largest <= FLT_MAX;
    float d = largest / 127 < FLT_MIN ? 0 : largest / 127;
    block->d = is_finite ? d : NAN;
    int32_t magnitude = round_block(is_finite ? x : nothing, is_finite && d > 0 ? 127 / largest : 0, block);
    block->sum = block->d * (float)(block->bias / -8);
    block->has_rest = magnitude > 0 && magnitude < LEAST_SUM;
    if (block->has_rest)
        block->sum += round_rest(x, block, rest);
}

static void quantize(const float *x, int32_t n_blocks, mki_q8 *blocks, mki_q8 *rests)
{
    for (int32_t i = 0; i < n_blocks; i++)
        quantize_block(x + (int64_t)i * MKI_BLOCK, blocks + i, rests + i);
}

/* ---- Block types ---- */

/* Rows of strip s. */
INLINE int rows_of(mki_strips w, int s)
{
    int left = w.n_rows - s * MKI_STRIP;
    return left < MKI_STRIP ? left : MKI_STRIP;
}

INLINE int32_t bias_of(const int type, const mki_q8 *x)
{
    return type == MK_Q4_0 ? x->bias : type == MK_Q8_0 ? 16 * x->bias : 0;
}

/* The integer products of the weights' group g and the blocks at x. All sizes are constants at each call. */
INLINE void sum_group(const int type, const int n_strips, const char *strip, int64_t strip_bytes, int32_t g,
                      const mki_q8 *x, int64_t stride, const int n, sums total[STRIPS][TILE])
{
    const int bits = type == MK_Q8_0 ? 8 : 4;
    const uint8_t *at = (const uint8_t *)strip + mki_lines_at(type, g);
    for (int v = 0; v < n; v++)
        for (int s = 0; s < n_strips; s++)
            total[s][v] = sums_begin(bias_of(type, x + v * stride));
#pragma GCC unroll 8
    for (int j = 0; j < mki_n_lines(type); j++) {
        bytes first[STRIPS], second[STRIPS];
        for (int s = 0; s < n_strips; s++) {
            bytes line = load_bytes(at + s * strip_bytes + j * MKI_LINE);
            first[s] = bits == 4 ? low_halves(line) : line;
            second[s] = high_halves(line);
        }
#pragma GCC unroll 8
        for (int v = 0; v < n; v++) {
            fours four = load_fours(x[v * stride].q + 4 * j);
            for (int s = 0; s < n_strips; s++)
                total[s][v] = sums_add(bits, total[s][v], first[s], four);
            if (bits == 8)
                continue;
            four = load_fours(x[v * stride].q + 16 + 4 * j);
            for (int s = 0; s < n_strips; s++)
                total[s][v] = sums_add(bits, total[s][v], second[s], four);
        }
    }
}

/* Adds group g of the blocks at x to the products. */
INLINE void add_group(const int type, const int n_strips, const char *strip, int64_t strip_bytes, int32_t g,
                      const mki_q8 *x, int64_t stride, const int n, floats product[STRIPS][TILE])
{
    sums total[STRIPS][TILE];
    sum_group(type, n_strips, strip, strip_bytes, g, x, stride, n, total);
#pragma GCC unroll 8
    for (int s = 0; s < n_strips; s++) {
        const uint16_t *scales = (const uint16_t *)(strip + s * strip_bytes + mki_scales_at(type, g));
        floats d = load_halves(scales), m = type == MK_Q4_1 ? load_halves(scales + MKI_STRIP) : d;
#pragma GCC unroll 8
        for (int v = 0; v < n; v++) {
            const mki_q8 *own = x + v * stride;
            ints sum = sums_end(type == MK_Q8_0 ? 8 : 4, total[s][v], bias_of(type, own));
            if (type == MK_Q4_1)
                product[s][v] = multiply_add(m, splat(own->sum), product[s][v]);
            product[s][v] = multiply_add(to_floats(sum), multiply(d, splat(own->d)), product[s][v]);
        }
    }
}

INLINE floats add_rest_as(const int type, const char *strip, int32_t g, const mki_q8 *rest, floats product)
{
    sums total[STRIPS][TILE];
    sum_group(type, 1, strip, 0, g, rest, 0, 1, total);
    floats d = load_halves((const uint16_t *)(strip + mki_scales_at(type, g)));
    ints sum = sums_end(type == MK_Q8_0 ? 8 : 4, total[0][0], bias_of(type, rest));
    return multiply_add(to_floats(sum), multiply(d, splat(rest->d)), product);
}

/* Adds to a product what one vector's rest contributes in group g; not inlined, for it is rare: of four vectors side by
 * side one or two have a rest, in one group of nine. */
__attribute__((noinline)) static floats add_rest(int type, const char *strip, int32_t g, const mki_q8 *rest,
                                                 floats product)
{
    switch (type) {
    case MK_Q4_0: return add_rest_as(MK_Q4_0, strip, g, rest, product);
    case MK_Q4_1: return add_rest_as(MK_Q4_1, strip, g, rest, product);
    default: return add_rest_as(MK_Q8_0, strip, g, rest, product);
    }
}

/* Groups first .. last-1 of n_strips strips times n vectors, added to out if there are groups before them. */
INLINE void multiply_tile(const int type, const int n_strips, mki_strips w, int32_t first, int32_t last,
                          const mki_q8 *block, const mki_q8 *rest, int64_t stride, const int n, float *out,
                          int64_t out_stride)
{
    const int64_t strip_bytes = mki_strip_bytes(type, w.cols);
    floats product[STRIPS][TILE];
    for (int s = 0; s < n_strips; s++)
        for (int v = 0; v < n; v++)
            product[s][v] = first > 0 ? load(out + v * out_stride + s * MKI_STRIP, rows_of(w, s)) : zeros();
    for (int32_t g = first; g < last; g++) {
        int32_t has_rest = 0;
        add_group(type, n_strips, w.data, strip_bytes, g, block + g, stride, n, product);
        for (int v = 0; v < n; v++)
            has_rest |= block[v * stride + g].has_rest;
        if (!has_rest)
            continue;
#pragma GCC unroll 8
        for (int v = 0; v < n; v++)
            if (block[v * stride + g].has_rest)
                for (int s = 0; s < n_strips; s++)
                    product[s][v] = add_rest(type, w.data + s * strip_bytes, g, rest + v * stride + g, product[s][v]);
    }
    for (int s = 0; s < n_strips; s++)
        for (int v = 0; v < n; v++)
            store(out + v * out_stride + s * MKI_STRIP, product[s][v], rows_of(w, s));
}

/* The same with all vectors, a tile of them at a time. */
INLINE void multiply_tiles(const int type, const int n_strips, mki_strips w, int32_t first, int32_t last, mki_q8_rows x,
                           float *out, int64_t out_stride)
{
    for (int32_t v = 0, n; v < x.n; v += n) {
        const mki_q8 *block = x.blocks + v * x.stride, *rest = x.rests + v * x.stride;
        float *to = out + v * out_stride;
        n = x.n - v >= TILE ? TILE : x.n - v >= 2 ? 2 : 1;
        if (n == TILE)
            multiply_tile(type, n_strips, w, first, last, block, rest, x.stride, TILE, to, out_stride);
        else if (n == 2)
            multiply_tile(type, n_strips, w, first, last, block, rest, x.stride, 2, to, out_stride);
        else
            multiply_tile(type, n_strips, w, first, last, block, rest, x.stride, 1, to, out_stride);
    }
}

/* One vector takes one strip at a time, from front to back. */
INLINE void multiply_type(const int type, mki_strips w, mki_q8_rows x, float *out, int64_t out_stride)
{
    const int32_t n_groups = w.cols / MKI_BLOCK, step = x.n == 1 ? n_groups : GROUPS_AT_ONCE;
    while (w.n_rows > 0) {
        bool is_full = x.n > 1 && w.n_rows > (STRIPS - 1) * MKI_STRIP;
        int n_strips = is_full ? STRIPS : 1;
        for (int32_t g = 0; g < n_groups; g += step) {
            int32_t last = n_groups - g < step ? n_groups : g + step;
            if (is_full)
                multiply_tiles(type, STRIPS, w, g, last, x, out, out_stride);
            else
                multiply_tiles(type, 1, w, g, last, x, out, out_stride);
        }
        w.n_rows -= n_strips * MKI_STRIP;
        w.data += n_strips * mki_strip_bytes(type, w.cols);
        out += n_strips * MKI_STRIP;
    }
}

static void multiply_blocks(mki_strips w, mki_q8_rows x, float *out, int64_t out_stride)
{
    switch (w.type) {
    case MK_Q4_0: multiply_type(MK_Q4_0, w, x, out, out_stride); break;
    case MK_Q4_1: multiply_type(MK_Q4_1, w, x, out, out_stride); break;
    case MK_Q8_0: multiply_type(MK_Q8_0, w, x, out, out_stride); break;
    }
}

static void expand(mki_strips w, int32_t first, int32_t n, float *out)
{
    bool has_halves = w.type != MK_Q8_0;
    int zero = w.type == MK_Q4_0 ? 8 : w.type == MK_Q8_0 ? 128 : 0;
    for (int32_t g = first / MKI_BLOCK; g < (first + n) / MKI_BLOCK; g++, out += MKI_BLOCK * MKI_STRIP) {
        const uint16_t *scales = (const uint16_t *)(w.data + mki_scales_at(w.type, g));
        const uint8_t *lines = (const uint8_t *)w.data + mki_lines_at(w.type, g);
        floats d = load_halves(scales), m = w.type == MK_Q4_1 ? load_halves(scales + MKI_STRIP) : zeros();
        for (int j = 0; j < mki_n_lines(w.type); j++) {
            bytes line = load_bytes(lines + j * MKI_LINE);
            for (int i = 0; i < 4; i++) {
                ints q = byte_of(has_halves ? low_halves(line) : line, i);
                store(out + (4 * j + i) * MKI_STRIP, multiply_add(d, to_floats(less(q, zero)), m), MKI_STRIP);
                q = byte_of(high_halves(line), i);
                if (has_halves)
                    store(out + (16 + 4 * j + i) * MKI_STRIP, multiply_add(d, to_floats(less(q, zero)), m), MKI_STRIP);
            }
        }
    }
}

/* ---- Float types ---- */

INLINE floats load_column(const int type, const char *strip, int64_t col)
{
    switch (type) {
    case MK_F16: return load_halves((const uint16_t *)strip + col * MKI_STRIP);
    case MK_BF16: return load_bfloats((const uint16_t *)strip + col * MKI_STRIP);
    default: return load((const float *)strip + col * MKI_STRIP, MKI_STRIP);
    }
}

INLINE void multiply_float_tile(const int type, mki_strips w, const float *x, int64_t stride, const int n, bool add,
                                float *out, int64_t out_stride)
{
    floats product[TILE];
    for (int v = 0; v < n; v++)
        product[v] = add ? load(out + v * out_stride, w.n_rows) : zeros();
    for (int32_t col = 0; col < w.cols; col++) {
        floats column = load_column(type, w.data, col);
#pragma GCC unroll 8
        for (int v = 0; v < n; v++)
            product[v] = multiply_add(column, splat(x[v * stride + col]), product[v]);
    }
    for (int v = 0; v < n; v++)
        store(out + v * out_stride, product[v], w.n_rows);
}

INLINE void multiply_float_type(const int type, mki_strips w, mki_rows x, bool add, float *out, int64_t out_stride)
{
    int32_t v = 0;
    for (; v + TILE <= x.n; v += TILE)
        multiply_float_tile(type, w, x.data + v * x.stride, x.stride, TILE, add, out + v * out_stride, out_stride);
    for (; v < x.n; v++)
        multiply_float_tile(type, w, x.data + v * x.stride, x.stride, 1, add, out + v * out_stride, out_stride);
}

static void multiply_floats(mki_strips w, mki_rows x, bool add, float *out, int64_t out_stride)
{
    switch (w.type) {
    case MK_F32: multiply_float_type(MK_F32, w, x, add, out, out_stride); break;
    case MK_F16: multiply_float_type(MK_F16, w, x, add, out, out_stride); break;
    case MK_BF16: multiply_float_type(MK_BF16, w, x, add, out, out_stride); break;
    }
}

#define STRIP_OPS \
    { .quantize = quantize, .multiply_blocks = multiply_blocks, .multiply_floats = multiply_floats, .expand = expand }

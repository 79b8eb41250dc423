/* strips_kernels.h - the operations of strips.h, in terms of the lanes of one instruction set; included by strips_<isa>.c.
 *
 * A lanes_<isa>.h defines, for 16 rows side by side,
 *   floats, ints    one value of each row;  bytes  four of each row
 *   sums            running sums of products of bytes, to be read by sums_end
 *   TILE            vectors multiplied at once: as many as there are registers for their sums
 * A tile loads each line of weights once and multiplies it by all its vectors, whose four bytes are broadcast.
 */
#include "halves.h"
#include "strips.h"

#include <float.h>
#include <string.h>

/* Of prefetching, when there is one vector and memory sets the pace: 15 of the 24 GB/s that a plain read gets became 20, by
 * this distance (2 KiB: 16) and by way of the second-level cache (to the first: 16). */
enum { BYTES_AHEAD = 16384, SECOND_LEVEL = 2 };

/* ---- Activations ---- */

/* A value stands out when it is more than ten times the mean magnitude of its block: 127 > 10 * sum / 32. Arbitrary; at 6 a
 * third of the blocks had rests, at 20 hardly any. */
enum { LEAST_SUM = 127 * MKI_BLOCK / 10 };

static const float magic = 0x1.8p23f; /* added to a float it leaves the nearest integer, ties to even, in its low bits */

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

/* What rounding x to `block` left over, at most half of its step. Returns what that adds to the block's sum. */
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
    int32_t magnitude = round_block(is_finite ? x : nothing, is_finite && d > 0 ? 1 / d : 0, block);
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

INLINE int32_t bias_of(const int type, const mki_q8 *x)
{
    return type == MK_Q4_0 ? x->bias : type == MK_Q8_0 ? 16 * x->bias : 0;
}

/* Adds a group's integer products. `at` is the first of its lines, x the block of the tile's first vector. */
INLINE void add_group(const int type, const uint8_t *at, const mki_q8 *x, int64_t stride, const int n, sums *total)
{
    const int bits = type == MK_Q8_0 ? 8 : 4;
#pragma GCC unroll 8
    for (int j = 0; j < mki_n_lines(type); j++) {
        bytes line = load_bytes(at + j * MKI_LINE), first = bits == 4 ? low_halves(line) : line, second = high_halves(line);
#pragma GCC unroll 8
        for (int v = 0; v < n; v++) {
            total[v] = sums_add(bits, total[v], first, x[v * stride].q + 4 * j);
            if (bits == 4)
                total[v] = sums_add(bits, total[v], second, x[v * stride].q + 16 + 4 * j);
        }
    }
}

/* Adds to a product what one vector's rest contributes in a group; not inlined, for it is rare. */
__attribute__((noinline)) static floats add_rest(const uint8_t *at, int type, floats d, const mki_q8 *rest, floats product)
{
    const int bits = type == MK_Q8_0 ? 8 : 4;
    sums total = sums_begin(bias_of(type, rest));
    if (bits == 8)
        add_group(MK_Q8_0, at, rest, 0, 1, &total);
    else
        add_group(MK_Q4_0, at, rest, 0, 1, &total);
    ints sum = bits == 8 ? sums_end(8, total, bias_of(type, rest)) : sums_end(4, total, bias_of(type, rest));
    return multiply_add(to_floats(sum), multiply(d, splat(rest->d)), product);
}

/* One strip times n vectors from v on; type and n are constants at each call. */
INLINE void multiply_tile(const int type, mki_strip w, mki_q8_rows x, int32_t v0, const int n, float *out, int64_t out_stride)
{
    const uint16_t *scales = (const uint16_t *)w.data;
    const uint8_t *at = (const uint8_t *)w.data + mki_scales_bytes(type, w.cols);
    const char *ahead = w.data + BYTES_AHEAD; /* goes through scales and lines alike, of this strip and those that follow it */
    const mki_q8 *block = x.blocks + v0 * x.stride, *rest = x.rests + v0 * x.stride;
    floats product[TILE];
    for (int v = 0; v < n; v++)
        product[v] = zeros();
    for (int32_t g = 0; g < w.cols / MKI_BLOCK; g++, block++, rest++) {
        sums total[TILE];
        int32_t has_rest = 0;
        if (n == 1) {
            for (int j = 0; j <= mki_n_lines(type); j++)
                __builtin_prefetch(ahead + j * MKI_LINE, 0, SECOND_LEVEL);
            ahead += mki_n_lines(type) * MKI_LINE + mki_n_scales(type) * MKI_STRIP * 2;
        }
        for (int v = 0; v < n; v++)
            total[v] = sums_begin(bias_of(type, block + v * x.stride));
        add_group(type, at, block, x.stride, n, total);
        floats d = load_halves(scales), m = type == MK_Q4_1 ? load_halves(scales + MKI_STRIP) : d;
#pragma GCC unroll 8
        for (int v = 0; v < n; v++) {
            const mki_q8 *own = block + v * x.stride;
            ints sum = sums_end(type == MK_Q8_0 ? 8 : 4, total[v], bias_of(type, own));
            if (type == MK_Q4_1)
                product[v] = multiply_add(m, splat(own->sum), product[v]);
            product[v] = multiply_add(to_floats(sum), multiply(d, splat(own->d)), product[v]);
            has_rest |= own->has_rest;
        }
        if (has_rest)
#pragma GCC unroll 8
            for (int v = 0; v < n; v++)
                if (block[v * x.stride].has_rest)
                    product[v] = add_rest(at, type, d, rest + v * x.stride, product[v]);
        scales += mki_n_scales(type) * MKI_STRIP;
        at += mki_n_lines(type) * MKI_LINE;
    }
    for (int v = 0; v < n; v++)
        store(out + v * out_stride, product[v], w.n_rows);
}

INLINE void multiply_type(const int type, mki_strip w, mki_q8_rows x, float *out, int64_t out_stride)
{
    int32_t v = 0;
    for (; v + TILE <= x.n; v += TILE)
        multiply_tile(type, w, x, v, TILE, out + v * out_stride, out_stride);
    if (TILE > 4 && v + 4 <= x.n) {
        multiply_tile(type, w, x, v, 4, out + v * out_stride, out_stride);
        v += 4;
    }
    if (TILE > 2 && v + 2 <= x.n) {
        multiply_tile(type, w, x, v, 2, out + v * out_stride, out_stride);
        v += 2;
    }
    for (; v < x.n; v++)
        multiply_tile(type, w, x, v, 1, out + v * out_stride, out_stride);
}

static void multiply_blocks(mki_strip w, mki_q8_rows x, float *out, int64_t out_stride)
{
    switch (w.type) {
    case MK_Q4_0: multiply_type(MK_Q4_0, w, x, out, out_stride); break;
    case MK_Q4_1: multiply_type(MK_Q4_1, w, x, out, out_stride); break;
    case MK_Q8_0: multiply_type(MK_Q8_0, w, x, out, out_stride); break;
    }
}

static void expand(mki_strip w, int32_t first, int32_t n, float *out)
{
    bool has_halves = w.type != MK_Q8_0;
    int zero = w.type == MK_Q4_0 ? 8 : w.type == MK_Q8_0 ? 128 : 0;
    const uint8_t *lines = (const uint8_t *)w.data + mki_scales_bytes(w.type, w.cols);
    for (int32_t g = first / MKI_BLOCK; g < (first + n) / MKI_BLOCK; g++, out += MKI_BLOCK * MKI_STRIP) {
        const uint16_t *scales = (const uint16_t *)w.data + (int64_t)g * mki_n_scales(w.type) * MKI_STRIP;
        floats d = load_halves(scales), m = w.type == MK_Q4_1 ? load_halves(scales + MKI_STRIP) : zeros();
        for (int j = 0; j < mki_n_lines(w.type); j++) {
            bytes line = load_bytes(lines + ((int64_t)g * mki_n_lines(w.type) + j) * MKI_LINE);
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

INLINE void multiply_float_tile(const int type, mki_strip w, const float *x, int64_t stride, const int n, bool add, float *out,
                                int64_t out_stride)
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

INLINE void multiply_float_type(const int type, mki_strip w, mki_rows x, bool add, float *out, int64_t out_stride)
{
    int32_t v = 0;
    for (; v + TILE <= x.n; v += TILE)
        multiply_float_tile(type, w, x.data + v * x.stride, x.stride, TILE, add, out + v * out_stride, out_stride);
    for (; v < x.n; v++)
        multiply_float_tile(type, w, x.data + v * x.stride, x.stride, 1, add, out + v * out_stride, out_stride);
}

static void multiply_floats(mki_strip w, mki_rows x, bool add, float *out, int64_t out_stride)
{
    switch (w.type) {
    case MK_F32: multiply_float_type(MK_F32, w, x, add, out, out_stride); break;
    case MK_F16: multiply_float_type(MK_F16, w, x, add, out, out_stride); break;
    case MK_BF16: multiply_float_type(MK_BF16, w, x, add, out, out_stride); break;
    }
}

#define STRIP_OPS {.quantize = quantize, .multiply_blocks = multiply_blocks, \
                   .multiply_floats = multiply_floats, .expand = expand}

/* ops_avx2.c - the operations for AVX2, FMA and F16C; compiled with those flags and called only where CPUID has them.
 *
 * A dot product is eight running sums, one per lane, added up once at its end. Four rows by up to three vectors go
 * together: twelve sums, three vectors and one weight fill the sixteen registers, and each load feeds three or four
 * multiplications. A sum sees the same operations in the same order whatever tile it is computed in.
 */
#include "blocks.h"
#include "ops.h"

#include <immintrin.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

enum { TILE_ROWS = 4, TILE_VECTORS = 3 };

INLINE __m256 load_u8(__m128i bytes) { return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)); }
INLINE __m256 load_i8(__m128i bytes) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)); }

/* The 4-bit values of a block, in order. */
INLINE __m256i load_nibbles(const uint8_t *q)
{
    __m128i bytes = _mm_loadu_si128((const __m128i *)q);
    __m256i both = _mm256_set_m128i(_mm_srli_epi16(bytes, 4), bytes);
    return _mm256_and_si256(both, _mm256_set1_epi8(15));
}

INLINE __m128i quarter(__m256i bytes, int k)
{
    __m128i lane = k < 2 ? _mm256_castsi256_si128(bytes) : _mm256_extracti128_si256(bytes, 1);
    return k % 2 ? _mm_srli_si128(lane, 8) : lane;
}

INLINE __m256 half(uint16_t bits) { return _mm256_set1_ps(_cvtsh_ss(bits)); }

/* The 32 values of block i of a row; `type` is a constant at each call. */
INLINE void expand(const int type, const void *row, int64_t i, __m256 out[4])
{
    if (type == MK_Q4_0) {
        const mki_q4_0 *block = (const mki_q4_0 *)row + i;
        __m256i q = _mm256_sub_epi8(load_nibbles(block->q), _mm256_set1_epi8(8));
        for (int k = 0; k < 4; k++)
            out[k] = _mm256_mul_ps(half(block->d), load_i8(quarter(q, k)));
    } else if (type == MK_Q4_1) {
        const mki_q4_1 *block = (const mki_q4_1 *)row + i;
        __m256i q = load_nibbles(block->q);
        for (int k = 0; k < 4; k++)
            out[k] = _mm256_fmadd_ps(half(block->d), load_u8(quarter(q, k)), half(block->m));
    } else {
        const mki_q8_0 *block = (const mki_q8_0 *)row + i;
        for (int k = 0; k < 4; k++)
            out[k] = _mm256_mul_ps(half(block->d), load_i8(_mm_loadl_epi64((const __m128i *)(block->q + 8 * k))));
    }
}

INLINE void dequantize_blocks(const int type, const void *row, int32_t n, float *out)
{
    for (int32_t i = 0; i < n / MKI_BLOCK; i++) {
        __m256 values[4];
        expand(type, row, i, values);
        for (int k = 0; k < 4; k++)
            _mm256_storeu_ps(out + MKI_BLOCK * i + 8 * k, values[k]);
    }
}

static void dequantize_f16(const uint16_t *in, int32_t n, float *out)
{
    int32_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(in + i))));
    for (; i < n; i++)
        out[i] = _cvtsh_ss(in[i]);
}

static void dequantize_bf16(const uint16_t *in, int32_t n, float *out)
{
    for (int32_t i = 0; i < n; i++) {
        uint32_t wide = (uint32_t)in[i] << 16;
        memcpy(out + i, &wide, sizeof wide);
    }
}

static void dequantize(int32_t type, const void *row, int32_t n, float *out)
{
    switch (type) {
    case MK_F32: memcpy(out, row, (size_t)n * sizeof *out); break;
    case MK_F16: dequantize_f16(row, n, out); break;
    case MK_BF16: dequantize_bf16(row, n, out); break;
    case MK_Q4_0: dequantize_blocks(MK_Q4_0, row, n, out); break;
    case MK_Q4_1: dequantize_blocks(MK_Q4_1, row, n, out); break;
    case MK_Q8_0: dequantize_blocks(MK_Q8_0, row, n, out); break;
    }
}

/* All ones in the first n lanes of eight. */
INLINE __m256i first_lanes(int32_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* Adds the lanes of each row's sum to out, for the first n_rows of a tile. */
INLINE void add_totals(const __m256 sum[TILE_ROWS], int32_t n_rows, float *out)
{
    __m256 pairs = _mm256_hadd_ps(_mm256_hadd_ps(sum[0], sum[1]), _mm256_hadd_ps(sum[2], sum[3]));
    float total[TILE_ROWS];
    _mm_storeu_ps(total, _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1)));
    for (int r = 0; r < TILE_ROWS && r < n_rows; r++)
        out[r] += total[r];
}

/* One tile; rows past w.n repeat the last one and their sums are dropped. n_vectors is a constant at each call. */
INLINE void add_tile(mki_rows w, const float *x, int64_t x_stride, const int n_vectors, int32_t n, float *out,
                     int64_t out_stride)
{
    __m256 sum[TILE_VECTORS][TILE_ROWS], xs[TILE_VECTORS];
    const float *rows[TILE_ROWS];
    for (int r = 0; r < TILE_ROWS; r++)
        rows[r] = w.data + (r < w.n ? r : w.n - 1) * w.stride;
    for (int v = 0; v < n_vectors; v++)
        for (int r = 0; r < TILE_ROWS; r++)
            sum[v][r] = _mm256_setzero_ps();

    int32_t i = 0;
    for (; i + 8 <= n; i += 8) {
        for (int v = 0; v < n_vectors; v++)
            xs[v] = _mm256_loadu_ps(x + v * x_stride + i);
        for (int r = 0; r < TILE_ROWS; r++)
            for (int v = 0; v < n_vectors; v++)
                sum[v][r] = _mm256_fmadd_ps(_mm256_loadu_ps(rows[r] + i), xs[v], sum[v][r]);
    }
    if (i < n) {
        __m256i mask = first_lanes(n - i);
        for (int v = 0; v < n_vectors; v++)
            xs[v] = _mm256_maskload_ps(x + v * x_stride + i, mask);
        for (int r = 0; r < TILE_ROWS; r++)
            for (int v = 0; v < n_vectors; v++)
                sum[v][r] = _mm256_fmadd_ps(_mm256_maskload_ps(rows[r] + i, mask), xs[v], sum[v][r]);
    }

    for (int v = 0; v < n_vectors; v++)
        add_totals(sum[v], w.n, out + v * out_stride);
}

static void add_dots(mki_rows w, mki_rows x, int32_t n, float *out, int64_t out_stride)
{
    for (int32_t r = 0; r < w.n; r += TILE_ROWS) {
        mki_rows tile = {w.data + r * w.stride, w.stride, w.n - r};
        int32_t v = 0;
        for (; v + 3 <= x.n; v += 3)
            add_tile(tile, x.data + v * x.stride, x.stride, 3, n, out + v * out_stride + r, out_stride);
        if (x.n - v == 2)
            add_tile(tile, x.data + v * x.stride, x.stride, 2, n, out + v * out_stride + r, out_stride);
        if (x.n - v == 1)
            add_tile(tile, x.data + v * x.stride, x.stride, 1, n, out + v * out_stride + r, out_stride);
    }
}

/* Weights go from memory through the registers into the sums, in add_tile's order. */
INLINE void add_block_tile(const int type, mki_stored w, const float *x, int32_t n, float *out)
{
    __m256 sum[TILE_ROWS];
    const char *rows[TILE_ROWS];
    for (int r = 0; r < TILE_ROWS; r++) {
        rows[r] = (const char *)w.data + (r < w.n ? r : w.n - 1) * w.row_bytes;
        sum[r] = _mm256_setzero_ps();
    }
    for (int32_t i = 0; i < n / MKI_BLOCK; i++)
        for (int r = 0; r < TILE_ROWS; r++) {
            __m256 values[4];
            expand(type, rows[r], i, values);
            for (int k = 0; k < 4; k++)
                sum[r] = _mm256_fmadd_ps(values[k], _mm256_loadu_ps(x + MKI_BLOCK * i + 8 * k), sum[r]);
        }
    add_totals(sum, w.n, out);
}

static void add_block_dots(mki_stored w, const float *x, int32_t n, float *out)
{
    for (; w.n > 0; w.n -= TILE_ROWS, w.data = (const char *)w.data + TILE_ROWS * w.row_bytes, out += TILE_ROWS) {
        switch (w.type) {
        case MK_Q4_0: add_block_tile(MK_Q4_0, w, x, n, out); break;
        case MK_Q4_1: add_block_tile(MK_Q4_1, w, x, n, out); break;
        case MK_Q8_0: add_block_tile(MK_Q8_0, w, x, n, out); break;
        }
    }
}

const mki_ops mki_ops_avx2 = {
    .name = "avx2",
    .dequantize = dequantize,
    .add_dots = add_dots,
    .add_block_dots = add_block_dots,
    .attention = &mki_attention_ops_avx2,
    .stages = &mki_stage_ops_avx2,
};

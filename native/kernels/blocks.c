/* blocks.c - rows of files: their size, their conversion to float32, and that of float32 to blocks, bit for bit as in
 * ggml's reference (ggml-quants.c, *_ref).
 *
 * Compiled without contraction: ggml's rounding of Q4_0 changes when a multiplication and an addition are fused.
 */
#include "blocks.h"
#include "halves.h"
#include "packed.h"

/* ---- Sizes ---- */

static int64_t blocks_bytes(int64_t cols, int64_t values, int64_t size_bytes)
{
    int64_t total;
    return cols % values || __builtin_mul_overflow(cols / values, size_bytes, &total) ? 0 : total;
}

int64_t mk_row_bytes(int32_t type, int64_t cols)
{
    if (cols <= 0)
        return 0;
    switch (type) {
    case MK_F32: return blocks_bytes(cols, 1, 4);
    case MK_F16:
    case MK_BF16: return blocks_bytes(cols, 1, 2);
    case MK_Q4_0: return blocks_bytes(cols, MKI_BLOCK, sizeof(mki_q4_0));
    case MK_Q4_1: return blocks_bytes(cols, MKI_BLOCK, sizeof(mki_q4_1));
    case MK_Q8_0: return blocks_bytes(cols, MKI_BLOCK, sizeof(mki_q8_0));
    case MK_Q4_K: return blocks_bytes(cols, MKI_SUPER, sizeof(mki_q4_k));
    case MK_Q5_K: return blocks_bytes(cols, MKI_SUPER, sizeof(mki_q5_k));
    case MK_Q6_K: return blocks_bytes(cols, MKI_SUPER, sizeof(mki_q6_k));
    }
    return 0;
}

/* ---- Reading ---- */

static void read_q4_0(const mki_q4_0 *block, float *out)
{
    float d = mki_from_half(block->d);
    for (int i = 0; i < 16; i++) {
        out[i] = d * (float)((block->q[i] & 15) - 8);
        out[i + 16] = d * (float)((block->q[i] >> 4) - 8);
    }
}

static void read_q4_1(const mki_q4_1 *block, float *out)
{
    float d = mki_from_half(block->d), m = mki_from_half(block->m);
    for (int i = 0; i < 16; i++) {
        out[i] = d * (float)(block->q[i] & 15) + m;
        out[i + 16] = d * (float)(block->q[i] >> 4) + m;
    }
}

static void read_q8_0(const mki_q8_0 *block, float *out)
{
    float d = mki_from_half(block->d);
    for (int i = 0; i < MKI_BLOCK; i++)
        out[i] = d * (float)block->q[i];
}

/* The 6-bit scale and min of group g of 8: the first four lie whole in bytes, the others in what is left of them. */
static void scale_and_min(const uint8_t scales[12], int g, int *scale, int *min)
{
    if (g < 4) {
        *scale = scales[g] & 63;
        *min = scales[g + 4] & 63;
    } else {
        *scale = (scales[g + 4] & 15) | (scales[g - 4] >> 6) << 4;
        *min = (scales[g + 4] >> 4) | (scales[g] >> 6) << 4;
    }
}

static void read_q4_k(const mki_q4_k *block, float *out)
{
    for (int g = 0; g < 8; g++) {
        int scale, min;
        scale_and_min(block->scales, g, &scale, &min);
        float d = mki_from_half(block->d) * (float)scale, m = mki_from_half(block->dmin) * (float)min;
        for (int i = 0; i < 32; i++)
            out[32 * g + i] = d * (float)(block->q[g / 2][i] >> 4 * (g % 2) & 15) - m;
    }
}

static void read_q5_k(const mki_q5_k *block, float *out)
{
    for (int g = 0; g < 8; g++) {
        int scale, min;
        scale_and_min(block->scales, g, &scale, &min);
        float d = mki_from_half(block->d) * (float)scale, m = mki_from_half(block->dmin) * (float)min;
        for (int i = 0; i < 32; i++) {
            int q = (block->q[g / 2][i] >> 4 * (g % 2) & 15) | (block->high[i] >> g & 1) << 4;
            out[32 * g + i] = d * (float)q - m;
        }
    }
}

static void read_q6_k(const mki_q6_k *block, float *out)
{
    float d = mki_from_half(block->d);
    for (int g = 0; g < 8; g++)
        for (int i = 0; i < 32; i++) {
            int n = g / 4, k = g % 4;
            int q = (block->low[n][k % 2][i] >> 4 * (k / 2) & 15) | (block->high[n][i] >> 2 * k & 3) << 4;
            out[32 * g + i] = d * (float)block->scales[2 * g + i / 16] * (float)(q - 32);
        }
}

void mki_read_row(int32_t type, const void *row, int32_t cols, float *out)
{
    int32_t step = type == MK_Q4_K || type == MK_Q5_K || type == MK_Q6_K ? MKI_SUPER
                   : mki_is_block_type(type)                             ? MKI_BLOCK
                                                                         : 1;
    for (int32_t i = 0, n = cols / step; i < n; i++, out += step)
        switch (type) {
        case MK_F32: memcpy(out, (const float *)row + i, sizeof *out); break;
        case MK_F16: *out = mki_from_half(((const uint16_t *)row)[i]); break;
        case MK_BF16: *out = mki_from_bfloat(((const uint16_t *)row)[i]); break;
        case MK_Q4_0: read_q4_0((const mki_q4_0 *)row + i, out); break;
        case MK_Q4_1: read_q4_1((const mki_q4_1 *)row + i, out); break;
        case MK_Q8_0: read_q8_0((const mki_q8_0 *)row + i, out); break;
        case MK_Q4_K: read_q4_k((const mki_q4_k *)row + i, out); break;
        case MK_Q5_K: read_q5_k((const mki_q5_k *)row + i, out); break;
        case MK_Q6_K: read_q6_k((const mki_q6_k *)row + i, out); break;
        }
}

bool mki_regroup_q4_k(const mki_q4_k *row, int32_t cols, mki_q4_1 *out)
{
    for (int32_t i = 0; i < cols / MKI_BLOCK; i++, out++) {
        const mki_q4_k *block = row + i / 8;
        const uint8_t *q = block->q[i % 8 / 2];
        int scale, min, shift = 4 * (i % 2);
        scale_and_min(block->scales, i % 8, &scale, &min);
        out->d = mki_to_half(mki_from_half(block->d) * (float)scale);
        out->m = mki_to_half(-mki_from_half(block->dmin) * (float)min);
        for (int k = 0; k < 16; k++)
            out->q[k] = (uint8_t)((q[k] >> shift & 15) | (q[k + 16] >> shift & 15) << 4);
        if (!isfinite(mki_from_half(out->d)) || !isfinite(mki_from_half(out->m)))
            return false;
    }
    return true;
}

/* ---- Quantising ---- */

static bool is_finite(const float *x)
{
    for (int i = 0; i < MKI_BLOCK; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

static float inverse(float d) { return d != 0 ? 1 / d : 0; }

/* Truncates to a value of 4 bits. Clamped before the conversion, which is undefined outside the type's range. */
static uint8_t nibble(float value) { return (uint8_t)(value > 0 ? value < 15 ? value : 15 : 0); }

static void quantize_q4_0(const float *x, mki_q4_0 *block)
{
    float extreme = 0; /* the value of largest magnitude, with its sign: it becomes -8 */
    for (int i = 0; i < MKI_BLOCK; i++)
        if (fabsf(x[i]) > fabsf(extreme))
            extreme = x[i];
    float d = extreme / -8, scale = inverse(d);
    block->d = mki_to_half(d);
    for (int i = 0; i < 16; i++)
        block->q[i] = (uint8_t)(nibble(x[i] * scale + 8.5f) | nibble(x[i + 16] * scale + 8.5f) << 4);
}

static void quantize_q4_1(const float *x, mki_q4_1 *block)
{
    float least = x[0], most = x[0];
    for (int i = 1; i < MKI_BLOCK; i++) {
        least = x[i] < least ? x[i] : least;
        most = x[i] > most ? x[i] : most;
    }
    float d = (most - least) / 15, scale = inverse(d);
    block->d = mki_to_half(d);
    block->m = mki_to_half(least);
    for (int i = 0; i < 16; i++)
        block->q[i] =
            (uint8_t)(nibble((x[i] - least) * scale + 0.5f) | nibble((x[i + 16] - least) * scale + 0.5f) << 4);
}

static void quantize_q8_0(const float *x, mki_q8_0 *block)
{
    float most = 0;
    for (int i = 0; i < MKI_BLOCK; i++)
        most = fmaxf(most, fabsf(x[i]));
    float d = most / 127, scale = inverse(d);
    block->d = mki_to_half(d);
    for (int i = 0; i < MKI_BLOCK; i++)
        block->q[i] = (int8_t)fmaxf(-128, fminf(127, roundf(x[i] * scale)));
}

/* d, and m where there is one, begin every block. */
static bool has_finite_scales(int32_t type, const void *block)
{
    uint16_t scales[2];
    memcpy(scales, block, sizeof scales);
    return isfinite(mki_from_half(scales[0])) && (mki_n_scales(type) == 1 || isfinite(mki_from_half(scales[1])));
}

bool mki_quantize_row(int32_t type, const float *x, int32_t cols, void *row)
{
    for (int32_t i = 0; i < cols / MKI_BLOCK; i++, x += MKI_BLOCK) {
        if (!is_finite(x))
            return false;
        if (type == MK_Q4_0)
            quantize_q4_0(x, (mki_q4_0 *)row + i);
        else if (type == MK_Q4_1)
            quantize_q4_1(x, (mki_q4_1 *)row + i);
        else
            quantize_q8_0(x, (mki_q8_0 *)row + i);
        if (!has_finite_scales(type, (const char *)row + i * mk_row_bytes(type, MKI_BLOCK)))
            return false;
    }
    return true;
}

/* ops_scalar.c - the operations in plain C: the judge of the others, and what runs where nothing better does. */
#include "blocks.h"
#include "ops.h"

#include <string.h>

enum { LANES = 8 }; /* partial sums of a dot product: enough for the compiler to use whatever vectors it has */

static float half(uint16_t bits)
{
    _Float16 value;
    memcpy(&value, &bits, sizeof value);
    return (float)value;
}

static float bfloat(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

static void dequantize_q4_0(const mki_q4_0 *block, float *out)
{
    float d = half(block->d);
    for (int i = 0; i < 16; i++) {
        out[i] = d * (float)((block->q[i] & 15) - 8);
        out[i + 16] = d * (float)((block->q[i] >> 4) - 8);
    }
}

static void dequantize_q4_1(const mki_q4_1 *block, float *out)
{
    float d = half(block->d), m = half(block->m);
    for (int i = 0; i < 16; i++) {
        out[i] = d * (float)(block->q[i] & 15) + m;
        out[i + 16] = d * (float)(block->q[i] >> 4) + m;
    }
}

static void dequantize_q8_0(const mki_q8_0 *block, float *out)
{
    float d = half(block->d);
    for (int i = 0; i < MKI_BLOCK; i++)
        out[i] = d * (float)block->q[i];
}

static void dequantize(int32_t type, const void *row, int32_t n, float *out)
{
    switch (type) {
    case MK_F32:
        memcpy(out, row, (size_t)n * sizeof *out);
        break;
    case MK_F16:
        for (int32_t i = 0; i < n; i++)
            out[i] = half(((const uint16_t *)row)[i]);
        break;
    case MK_BF16:
        for (int32_t i = 0; i < n; i++)
            out[i] = bfloat(((const uint16_t *)row)[i]);
        break;
    case MK_Q4_0:
        for (int32_t i = 0; i < n; i += MKI_BLOCK)
            dequantize_q4_0((const mki_q4_0 *)row + i / MKI_BLOCK, out + i);
        break;
    case MK_Q4_1:
        for (int32_t i = 0; i < n; i += MKI_BLOCK)
            dequantize_q4_1((const mki_q4_1 *)row + i / MKI_BLOCK, out + i);
        break;
    case MK_Q8_0:
        for (int32_t i = 0; i < n; i += MKI_BLOCK)
            dequantize_q8_0((const mki_q8_0 *)row + i / MKI_BLOCK, out + i);
        break;
    }
}

static float dot(const float *w, const float *x, int32_t n)
{
    float lane[LANES] = {0};
    int32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int32_t j = 0; j < LANES; j++)
            lane[j] += w[i + j] * x[i + j];
    for (int32_t j = 0; i + j < n; j++)
        lane[j] += w[i + j] * x[i + j];
    return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

static void add_dots(mki_rows w, mki_rows x, int32_t n, float *out, int64_t out_stride)
{
    for (int32_t v = 0; v < x.n; v++)
        for (int32_t r = 0; r < w.n; r++)
            out[v * out_stride + r] += dot(w.data + r * w.stride, x.data + v * x.stride, n);
}

const mki_ops mki_ops_scalar = {
    .name = "scalar",
    .dequantize = dequantize,
    .add_dots = add_dots,
    .attention = &mki_attention_ops_scalar,
    .stages = &mki_stage_ops_scalar,
};

/* quantize.c - float32 to and from the storage types, bit for bit as ggml's reference (ggml-quants.c, *_ref).
 *
 * Compiled without contraction: ggml's rounding of Q4_0 changes when a multiplication and an addition are fused.
 */
#include "blocks.h"
#include "llama_kernels.h"
#include "ops.h"

#include <math.h>
#include <string.h>

static uint16_t to_half(float value)
{
    _Float16 half = (_Float16)value;
    uint16_t bits;
    memcpy(&bits, &half, sizeof bits);
    return bits;
}

/* Round to nearest, ties to even; a NaN stays one and becomes quiet. */
static uint16_t to_bfloat(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (isnan(value))
        return (uint16_t)(bits >> 16 | 64);
    return (uint16_t)((bits + (0x7fff + (bits >> 16 & 1))) >> 16);
}

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
    block->d = to_half(d);
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
    block->d = to_half(d);
    block->m = to_half(least);
    for (int i = 0; i < 16; i++)
        block->q[i] = (uint8_t)(nibble((x[i] - least) * scale + 0.5f) | nibble((x[i + 16] - least) * scale + 0.5f) << 4);
}

static void quantize_q8_0(const float *x, mki_q8_0 *block)
{
    float most = 0;
    for (int i = 0; i < MKI_BLOCK; i++)
        most = fmaxf(most, fabsf(x[i]));
    float d = most / 127, scale = inverse(d);
    block->d = to_half(d);
    for (int i = 0; i < MKI_BLOCK; i++)
        block->q[i] = (int8_t)fmaxf(-128, fminf(127, roundf(x[i] * scale)));
}

static int quantize_row(int32_t type, const float *x, int32_t n, void *row)
{
    switch (type) {
    case MK_F32:
        memcpy(row, x, (size_t)n * sizeof *x);
        return MK_OK;
    case MK_F16:
        for (int32_t i = 0; i < n; i++)
            ((uint16_t *)row)[i] = to_half(x[i]);
        return MK_OK;
    case MK_BF16:
        for (int32_t i = 0; i < n; i++)
            ((uint16_t *)row)[i] = to_bfloat(x[i]);
        return MK_OK;
    }
    for (int32_t i = 0; i < n / MKI_BLOCK; i++, x += MKI_BLOCK) {
        if (!is_finite(x))
            return MK_ERR_ARGUMENT;
        if (type == MK_Q4_0)
            quantize_q4_0(x, (mki_q4_0 *)row + i);
        else if (type == MK_Q4_1)
            quantize_q4_1(x, (mki_q4_1 *)row + i);
        else
            quantize_q8_0(x, (mki_q8_0 *)row + i);
    }
    return MK_OK;
}

int mk_quantize(mk_tensor *tensor, const float *in, int32_t first_row, int32_t n_rows)
{
    int64_t row_bytes = tensor ? mk_row_bytes(tensor->type, tensor->cols) : 0;
    if (!row_bytes || !tensor->data || !in || first_row < 0 || n_rows < 0 || n_rows > tensor->rows - first_row)
        return MK_ERR_ARGUMENT;
    int status = MK_OK;
    for (int32_t r = 0; !status && r < n_rows; r++)
        status = quantize_row(tensor->type, in + (int64_t)r * tensor->cols, tensor->cols,
                              (char *)tensor->data + (first_row + r) * row_bytes);
    return status;
}

int mk_dequantize_row(const mk_tensor *tensor, int32_t row, float *out)
{
    int64_t row_bytes = tensor ? mk_row_bytes(tensor->type, tensor->cols) : 0;
    if (!row_bytes || !tensor->data || !out || row < 0 || row >= tensor->rows)
        return MK_ERR_ARGUMENT;
    mki_ops_current()->dequantize(tensor->type, (const char *)tensor->data + row * row_bytes, tensor->cols, out);
    return MK_OK;
}

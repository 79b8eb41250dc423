/* pack.c - packs a file's rows into strips (packed.h), and unpacks one row. */
#include "blocks.h"
#include "halves.h"
#include "packed.h"

#include <stdlib.h>

int32_t mk_packed_type(int32_t type)
{
    switch (type) {
    case MK_Q4_K: return MK_Q4_1;
    case MK_Q5_K:
    case MK_Q6_K: return MK_Q8_0;
    }
    return type;
}

static bool is_float_type(int32_t type) { return type == MK_F32 || type == MK_F16 || type == MK_BF16; }

static bool may_pack(int32_t to, int32_t from) { return to == mk_packed_type(from) || is_float_type(from); }

/* ---- One row into its lane; `strip` is the strip's first byte ---- */

static bool all_finite(const float *x, int32_t n)
{
    uint32_t carries = 0; /* one into the sign, where an exponent is full */
    for (int32_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        carries |= (bits & 0x7fffffff) + 0x00800000;
    }
    return !(carries >> 31);
}

static bool is_finite_half(uint16_t half) { return (half & 0x7c00) != 0x7c00; }

/* False if a value is not finite, or becomes infinite. */
static bool place_floats(int32_t type, const float *x, int32_t cols, char *strip, int lane)
{
    bool is_finite = all_finite(x, cols);
    for (int64_t i = 0, at = lane; i < cols; i++, at += MKI_STRIP)
        switch (type) {
        case MK_F32: ((float *)strip)[at] = x[i]; break;
        case MK_F16: is_finite &= is_finite_half(((uint16_t *)strip)[at] = mki_to_half(x[i])); break;
        case MK_BF16: ((uint16_t *)strip)[at] = mki_to_bfloat(x[i]); break;
        }
    return is_finite;
}

static uint16_t *scales_at(int32_t type, char *strip, int64_t g)
{
    return (uint16_t *)(strip + mki_scales_at(type, g));
}

static uint8_t *lines_at(int32_t type, char *strip, int64_t g) { return (uint8_t *)strip + mki_lines_at(type, g); }

/* False if a scale is not finite. */
static bool place_blocks(int32_t type, const void *row, int32_t cols, char *strip, int lane)
{
    for (int32_t g = 0; g < cols / MKI_BLOCK; g++) {
        const mki_q4_0 *q4_0 = (const mki_q4_0 *)row + g;
        const mki_q4_1 *q4_1 = (const mki_q4_1 *)row + g;
        const mki_q8_0 *q8_0 = (const mki_q8_0 *)row + g;
        const uint8_t *q = type == MK_Q4_0 ? q4_0->q : type == MK_Q4_1 ? q4_1->q : (const uint8_t *)q8_0->q;
        uint32_t sign = type == MK_Q8_0 ? 0x80808080 : 0; /* from -128 .. 127 to 0 .. 255 */
        uint16_t *scales = scales_at(type, strip, g);
        uint8_t *lines = lines_at(type, strip, g);
        scales[lane] = type == MK_Q4_0 ? q4_0->d : type == MK_Q4_1 ? q4_1->d : q8_0->d;
        if (type == MK_Q4_1)
            scales[MKI_STRIP + lane] = q4_1->m;
        if (!is_finite_half(scales[lane]) || (type == MK_Q4_1 && !is_finite_half(q4_1->m)))
            return false;
        for (int j = 0; j < mki_n_lines(type); j++) {
            uint32_t four;
            memcpy(&four, q + 4 * j, sizeof four);
            four ^= sign;
            memcpy(lines + j * MKI_LINE + 4 * lane, &four, sizeof four);
        }
    }
    return true;
}

/* ---- Rows ---- */

/* Buffers of a row on its way: as floats, and as blocks of the tensor's type. */
typedef struct {
    float *floats;
    void *blocks;
} scratch;

/* False if a value is not finite, or the tensor's type could not hold it. */
static bool place_row(const mk_tensor *t, int32_t row, int32_t from, const void *in, scratch s)
{
    char *strip = (char *)t->data + row / MKI_STRIP * mki_strip_bytes(t->type, t->cols);
    int lane = row % MKI_STRIP;
    if (from == t->type && mki_is_block_type(from))
        return place_blocks(from, in, t->cols, strip, lane);
    if (from == MK_Q4_K)
        return mki_regroup_q4_k(in, t->cols, s.blocks) && place_blocks(t->type, s.blocks, t->cols, strip, lane);
    mki_read_row(from, in, t->cols, s.floats);
    if (!mki_is_block_type(t->type))
        return place_floats(t->type, s.floats, t->cols, strip, lane);
    return mki_quantize_row(t->type, s.floats, t->cols, s.blocks) &&
           place_blocks(t->type, s.blocks, t->cols, strip, lane);
}

static bool has_rows(const mk_tensor *t, int32_t first, int32_t n)
{
    return t && t->data && mk_row_bytes(t->type, t->cols) && mk_packed_type(t->type) == t->type && first >= 0 &&
           n >= 0 && n <= t->rows && first <= t->rows - n;
}

int mk_pack(mk_tensor *tensor, int32_t type, const void *in, int32_t first_row, int32_t n_rows)
{
    int64_t row_bytes = has_rows(tensor, first_row, n_rows) ? mk_row_bytes(type, tensor->cols) : 0;
    if (!row_bytes || !in || !may_pack(tensor->type, type))
        return MK_ERR_ARGUMENT;
    scratch s = { malloc((size_t)tensor->cols * sizeof *s.floats),
                  malloc((size_t)mk_row_bytes(tensor->type, tensor->cols)) };
    int status = s.floats && s.blocks ? MK_OK : MK_ERR_MEMORY;
    for (int32_t r = 0; status == MK_OK && r < n_rows; r++)
        if (!place_row(tensor, first_row + r, type, (const char *)in + r * row_bytes, s))
            status = MK_ERR_VALUE;
    free(s.floats);
    free(s.blocks);
    return status;
}

int mk_read_floats(int32_t type, const void *in, int32_t n, float *out)
{
    if (!mk_row_bytes(type, n) || !in || !out)
        return MK_ERR_ARGUMENT;
    mki_read_row(type, in, n, out);
    return MK_OK;
}

/* ---- And back ---- */

static float value_at(const mk_tensor *t, char *strip, int lane, int32_t col)
{
    int64_t at = (int64_t)col * MKI_STRIP + lane;
    switch (t->type) {
    case MK_F32: return ((float *)strip)[at];
    case MK_F16: return mki_from_half(((uint16_t *)strip)[at]);
    case MK_BF16: return mki_from_bfloat(((uint16_t *)strip)[at]);
    }
    int g = col / MKI_BLOCK, i = col % MKI_BLOCK;
    const uint16_t *scales = scales_at(t->type, strip, g);
    const uint8_t *lines = lines_at(t->type, strip, g);
    float d = mki_from_half(scales[lane]);
    if (t->type == MK_Q8_0)
        return d * (float)(lines[i / 4 * MKI_LINE + 4 * lane + i % 4] - 128);
    int q = lines[i % 16 / 4 * MKI_LINE + 4 * lane + i % 4] >> (i < 16 ? 0 : 4) & 15;
    return t->type == MK_Q4_0 ? d * (float)(q - 8) : d * (float)q + mki_from_half(scales[MKI_STRIP + lane]);
}

int mk_dequantize_row(const mk_tensor *tensor, int32_t row, float *out)
{
    if (!has_rows(tensor, row, 1) || !out)
        return MK_ERR_ARGUMENT;
    char *strip = (char *)tensor->data + row / MKI_STRIP * mki_strip_bytes(tensor->type, tensor->cols);
    for (int32_t col = 0; col < tensor->cols; col++)
        out[col] = value_at(tensor, strip, row % MKI_STRIP, col);
    return MK_OK;
}

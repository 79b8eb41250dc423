/* attention_cache.h - keys and values on their way into the cache: for attention.c alone. */
#ifndef MK_ATTENTION_CACHE_H
#define MK_ATTENTION_CACHE_H
#include "attention.h"
#include "halves.h"
#include "vector.h"

#include <float.h>

enum { LARGEST = 32767 }; /* 16-bit integer, norm of a rounded vector, and sum of a chunk's rounded weights */

/* added to a float it leaves the nearest integer, ties to even, in its low bits */
static const float MAGIC = 0x1.8p23f;

INLINE int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }

/* A multiple of `unit` that is at least n. */
INLINE int32_t round_up(int32_t n, int32_t unit) { return (n + unit - 1) / unit * unit; }

/* Keys of a chunk; its values are half a strip further on. */
INLINE char *keys_of(const mki_cache *c, int32_t chunk, int32_t kv_head)
{
    return c->strips + ((int64_t)chunk * c->n_kv_heads + kv_head) * c->strip_bytes;
}

INLINE char *values_of(const mki_cache *c, int32_t chunk, int32_t kv_head)
{
    return keys_of(c, chunk, kv_head) + c->strip_bytes / 2;
}

/* Some dimensions of a chunk's keys or values, I16 or Q8_0. */
typedef struct {
    int32_t type;
    int32_t first, n, width; /* dimensions: the first one, how many are used, and how many there are */
    char *scales, *q;
} block;

/* The block of a strip's half that dimension `first` begins. */
INLINE block block_of(const mki_cache *c, char *half, int32_t first)
{
    int64_t left = mki_cache_width(c->head_dim) - first, dims = mki_cache_block_dims(c->type);
    char *at = half + mki_cache_blocks_bytes(c->type, first);
    return (block){ .type = c->type,
                    .first = first,
                    .n = least(c->head_dim - first, (int32_t)dims),
                    .width = (int32_t)(left < dims ? left : dims),
                    .scales = at,
                    .q = at + MKI_CHUNK * mki_cache_scale_bytes(c->type) };
}

/* q = x * inverse, rounded, for a multiple of 16 of numbers below 2^15; other numbers become arbitrary 16 bits. */
INLINE void round_by(const float *x, int32_t n, float inverse, int16_t *q)
{
    for (int32_t i = 0; i < n; i += 16)
        for (int j = 0; j < 16; j++) {
            float shifted = x[i + j] * inverse + MAGIC;
            uint32_t bits;
            memcpy(&bits, &shifted, sizeof bits);
            q[i + j] = (int16_t)bits;
        }
}

/* n <= 256 numbers as integers, zeros behind them up to a multiple of 16; returns their scale. A number or a sum of
 * squares that is not finite makes the scale infinite or NaN, and its product with q NaN. */
INLINE float round_vector(const float *x, int32_t n, int16_t *q)
{
    _Alignas(64) float padded[MKI_DIMS_I16];
    int32_t n_padded = round_up(n, 16);
    memcpy(padded, x, (size_t)n * sizeof *x);
    for (int32_t i = n; i < n_padded; i++)
        padded[i] = 0;
    float squares = sum_of_squares(padded, n_padded), norm = sqrtf(squares);
    round_by(padded, n_padded, squares >= FLT_MIN ? (float)LARGEST / norm : 0, q);
    return norm / (float)LARGEST;
}

/* Clamps to the range of halves; NaN stays. */
INLINE uint16_t to_half(float x)
{
    const float largest = 65504;
    return mki_to_half(x > largest ? largest : x < -largest ? -largest : x);
}

/* n <= 32 numbers as integers up to 127, and zeros up to a multiple of 16; returns their scale as a half, which is NaN
 * if one of them is. */
INLINE uint16_t round_to_bytes(const float *x, int32_t n, int16_t *q)
{
    float largest = 0;
    for (int32_t i = 0; i < n && !isnan(largest); i++)
        largest = fabsf(x[i]) <= largest ? largest : fabsf(x[i]);
    uint16_t half = to_half(largest / 127);
    float d = mki_from_half(half), inverse = d > 0 ? 1 / d : 0;
    for (int32_t i = 0; i < round_up(n, 16); i++) {
        float scaled = i < n ? x[i] * inverse : 0;
        q[i] = (int16_t)rintf(scaled < -127 ? -127 : scaled < 127 ? scaled : 127);
    }
    return half;
}

/* Rounds the values of lane `position` of a block, and stores their scale there. */
INLINE void round_into(const block *b, int32_t position, const float *x, int16_t *q)
{
    if (b->type == MK_I16)
        ((float *)b->scales)[position] = round_vector(x, b->n, q);
    else
        ((uint16_t *)b->scales)[position] = round_to_bytes(x, b->n, q);
}

INLINE void store_number(const block *b, int64_t at, int16_t q)
{
    if (b->type == MK_I16)
        ((int16_t *)b->q)[at] = q;
    else
        ((int8_t *)b->q)[at] = (int8_t)q;
}

INLINE void remember_key(const block *b, int32_t position, const float *x)
{
    int16_t q[MKI_DIMS_I16];
    round_into(b, position, x, q);
    for (int32_t i = 0; i < round_up(b->n, 2); i++)
        store_number(b, (i / 2 * MKI_CHUNK + position) * 2 + i % 2, q[i]);
}

INLINE void remember_value(const block *b, int32_t position, const float *x)
{
    int16_t q[MKI_DIMS_I16];
    round_into(b, position, x, q);
    for (int32_t i = 0; i < b->n; i++)
        store_number(b, (position / 2 * b->width + i) * 2 + position % 2, q[i]);
}

INLINE void remember_floats(const mki_cache *c, float *keys, float *values, int32_t position, const float *key,
                            const float *value)
{
    for (int64_t i = 0; i < c->head_dim; i++)
        keys[i * MKI_CHUNK + position] = key[i];
    memcpy(values + position * mki_cache_width(c->head_dim), value, (size_t)c->head_dim * sizeof *value);
}

static void remember(const mki_cache *c, int32_t position, int32_t kv_head, const float *key, const float *value)
{
    char *keys = keys_of(c, position / MKI_CHUNK, kv_head), *values = values_of(c, position / MKI_CHUNK, kv_head);
    position %= MKI_CHUNK;
    if (c->type == MK_F32) {
        remember_floats(c, (float *)keys, (float *)values, position, key, value);
        return;
    }
    for (int32_t first = 0; first < c->head_dim; first += mki_cache_block_dims(c->type)) {
        block k = block_of(c, keys, first), v = block_of(c, values, first);
        remember_key(&k, position, key + first);
        remember_value(&v, position, value + first);
    }
}

/* The block's scales, those of the first n positions at least; the memory `ahead` bytes behind them is prefetched into
 * second-level cache. */
INLINE void load_scales(const block *b, int32_t n, int64_t ahead, float *scales)
{
    for (int64_t line = 0; ahead && line < n * mki_cache_scale_bytes(b->type); line += 64)
        __builtin_prefetch(b->scales + ahead + line, 0, 2);
    if (b->type == MK_I16)
        memcpy(scales, b->scales, MKI_CHUNK * sizeof *scales);
    else
        for (int32_t i = 0; i < MKI_CHUNK; i += LANES)
            store(scales + i, load_halves((const uint16_t *)b->scales + i));
}
#endif

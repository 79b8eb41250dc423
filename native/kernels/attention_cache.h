/* attention_cache.h - values into the cache and, as float32, out of it: for attention.c alone. */
#ifndef MK_ATTENTION_CACHE_H
#define MK_ATTENTION_CACHE_H
#include "attention.h"
#include "blocks.h"
#include "halves.h"
#include "packed.h"
#include "vector.h"

typedef struct {
    uint16_t d[MKI_STRIP];
    int8_t q[MKI_BLOCK][MKI_STRIP];
} q8_keys;

_Static_assert(sizeof(q8_keys) == MKI_STRIP * sizeof(mki_q8_0), "keys take what values take");

/* Keys of the strip that holds `position`. */
INLINE char *strip_of(const mki_cache *c, int32_t position, int32_t kv_head)
{
    int64_t chunk = position / MKI_CHUNK, strip = position % MKI_CHUNK / MKI_STRIP;
    return c->strips + ((chunk * c->n_kv_heads + kv_head) * (MKI_CHUNK / MKI_STRIP) + strip) * c->strip_bytes;
}

INLINE char *value_at(const mki_cache *c, int32_t position, int32_t kv_head)
{
    int64_t half = c->strip_bytes / 2;
    return strip_of(c, position, kv_head) + half + position % MKI_STRIP * (half / MKI_STRIP);
}

/* ---- into the cache ---- */

/* What is beyond the range of halves becomes their largest; NaN stays. */
INLINE uint16_t to_half(float x)
{
    const float largest = 65504;
    return mki_to_half(x > largest ? largest : x < -largest ? -largest : x);
}

/* n <= 32 values as a block, the rest of it zeros. A NaN makes the block's scale one. */
INLINE void to_block(const float *x, int32_t n, mki_q8_0 *block)
{
    float largest = 0;
    for (int32_t i = 0; i < n && !isnan(largest); i++)
        largest = fabsf(x[i]) <= largest ? largest : fabsf(x[i]);
    block->d = to_half(largest / 127);
    float d = mki_from_half(block->d), scale = d > 0 ? 1 / d : 0;
    for (int32_t i = 0; i < MKI_BLOCK; i++) {
        float q = i < n ? x[i] * scale : 0;
        block->q[i] = (int8_t)rintf(q < -127 ? -127 : q < 127 ? q : 127);
    }
}

INLINE void remember_q8_0(const float *key, const float *value, int32_t n, int32_t lane, q8_keys *keys, mki_q8_0 *values)
{
    for (int32_t i = 0; i < n; i += MKI_BLOCK, keys++, values++) {
        mki_q8_0 block;
        to_block(key + i, n - i < MKI_BLOCK ? n - i : MKI_BLOCK, &block);
        keys->d[lane] = block.d;
        for (int j = 0; j < MKI_BLOCK; j++)
            keys->q[j][lane] = block.q[j];
        to_block(value + i, n - i < MKI_BLOCK ? n - i : MKI_BLOCK, values);
    }
}

static void remember(const mki_cache *c, int32_t position, int32_t kv_head, const float *key, const float *value)
{
    int32_t lane = position % MKI_STRIP;
    char *keys = strip_of(c, position, kv_head);
    char *values = value_at(c, position, kv_head);
    switch (c->type) {
    case MK_F32:
        for (int32_t i = 0; i < c->head_dim; i++)
            ((float *)keys)[i * MKI_STRIP + lane] = key[i];
        memcpy(values, value, (size_t)c->head_dim * sizeof *value);
        break;
    case MK_F16:
        for (int32_t i = 0; i < c->head_dim; i++) {
            ((uint16_t *)keys)[i * MKI_STRIP + lane] = to_half(key[i]);
            ((uint16_t *)values)[i] = to_half(value[i]);
        }
        break;
    case MK_Q8_0:
        remember_q8_0(key, value, c->head_dim, lane, (q8_keys *)keys, (mki_q8_0 *)values);
        break;
    }
}

/* ---- out of the cache ----
 *
 * Q8_0 comes this way even for a single token, whose positions may lie in memory: what is `ahead` bytes further on is
 * called into second-level cache. */

INLINE void expand_halves(const uint16_t *in, int32_t n, float *out)
{
    for (int32_t i = 0; i < n; i += LANES)
        store(out + i, load_halves(in + i));
}

/* out[i][0 .. 15] = dimension first + i of a strip's 16 keys; rows are MKI_CHUNK floats apart. first is a multiple of 32. */
INLINE void expand_keys(int32_t type, const char *keys, int64_t ahead, int32_t first, int32_t n, float *out)
{
    const q8_keys *block = (const q8_keys *)keys + first / MKI_BLOCK;
    float d[MKI_STRIP];
    switch (type) {
    case MK_F32:
        for (int64_t i = 0; i < n; i++)
            memcpy(out + i * MKI_CHUNK, (const float *)keys + (first + i) * MKI_STRIP, MKI_STRIP * sizeof *out);
        break;
    case MK_F16:
        for (int64_t i = 0; i < n; i++)
            expand_halves((const uint16_t *)keys + (first + i) * MKI_STRIP, MKI_STRIP, out + i * MKI_CHUNK);
        break;
    case MK_Q8_0:
        for (int32_t at = 0; at < n; at += MKI_BLOCK, block++) {
            for (size_t line = 0; line < sizeof *block; line += 64)
                __builtin_prefetch((const char *)block + ahead + line, 0, 2);
            expand_halves(block->d, MKI_STRIP, d);
            for (int32_t i = 0; i < MKI_BLOCK && at + i < n; i++)
                for (int j = 0; j < MKI_STRIP; j += LANES)
                    store(out + (at + i) * MKI_CHUNK + j, load(d + j) * load_bytes(block->q[i] + j));
        }
        break;
    }
}

/* out = the n dimensions of a value from `first` on, and what fills the last block of 32. first is a multiple of it. */
INLINE void expand_value(int32_t type, const char *value, int64_t ahead, int32_t first, int32_t n, float *out)
{
    const mki_q8_0 *block = (const mki_q8_0 *)value + first / MKI_BLOCK;
    switch (type) {
    case MK_F32:
        memcpy(out, (const float *)value + first, (size_t)n * sizeof *out);
        break;
    case MK_F16:
        expand_halves((const uint16_t *)value + first, n, out);
        break;
    case MK_Q8_0:
        for (int32_t at = 0; at < n; at += MKI_BLOCK, block++) {
            float d = mki_from_half(block->d);
            __builtin_prefetch((const char *)block + ahead, 0, 2);
            for (int i = 0; i < MKI_BLOCK; i += LANES)
                store(out + at + i, d * load_bytes(block->q + i));
        }
        break;
    }
}
#endif

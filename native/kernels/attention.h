/* attention.h - softmax(q k / sqrt(head_dim)) v over a KV cache that is laid out for it.
 *
 *   cache of a layer = [chunk of 64 positions][kv head] strip
 *   strip            = keys, values
 *
 *   F32         keys [width][64]                                         values [64][width]
 *   I16, Q8_0   keys [block]{ scale[64]; q[dims of block / 2][64][2] }   values [block]{ scale[64]; q[32][dims of
 *               block][2] }
 *
 *   I16    value = scale * q, scale a float, q of 16 bits, blocks of 256 dimensions, or all that are left
 *   Q8_0   value = scale * q, scale a half,  q of 8 bits,  blocks of 32
 *
 * Keys are stored transposed: one vector register holds one dimension, or a pair of dimensions, of several positions,
 * so scores need no horizontal sum. A vector of values holds several dimensions of one position, or of a pair of
 * positions. CPUs multiply 16-bit integers in pairs. width is head_dim rounded up to 32. Positions not stored yet, and
 * dimensions from head_dim on, hold arbitrary bytes and are never used.
 *
 * Integers are multiplied with integers: queries are rounded to 16 bits like keys, and weights under the values' scales
 * are rounded, too. Such sums are exact, and twice as fast as sums of floats. No sum overflows: a vector of a key or
 * query is rounded to a Euclidean norm of 2^15, which bounds their product by Cauchy and Schwarz. Values are rounded in
 * the same way, and the weights of a chunk sum up to 2^15. Rounding moves a vector of 256 dimensions by at most 2^-12
 * of its norm, of 64 by 2^-13; halves would by 2^-11.
 *
 * Positions are taken in chunks of 64. Each chunk's softmax has its own peak, and chunks are merged in ascending order
 * (Milakov & Gimelshein 2018): the result of a query depends only on itself and the positions before it, not on where
 * the prompt was cut or which thread did a chunk. I16 and Q8_0 give the same bits on every instruction set.
 */
#ifndef MK_ATTENTION_H
#define MK_ATTENTION_H
#include "packed.h"

enum {
    MKI_CHUNK = 64,
    MKI_DIMS_I16 = 256, /* dimensions that share a scale; a multiple of 32; hardly any model has larger heads */
    MKI_QUERIES = 48,   /* queries that share a chunk in first-level cache: 16 KiB of keys and values, 6 of queries */
};

/* One layer's cache. */
typedef struct {
    int32_t type; /* MK_F32, MK_I16, MK_Q8_0 */
    int32_t head_dim, n_kv_heads;
    int64_t strip_bytes;
    char *strips;
} mki_cache;

/* The largest score of some positions, and the sum over them of exp((score - peak) / sqrt(head_dim)); of no positions:
 * -infinity, 0. Always kept beside a row of head_dim weighted sums of the values. */
typedef struct { float peak, total; } mki_softmax;

/* A batch of queries, whose keys and values are in the cache. Query heads share the kv heads in equal groups. */
typedef struct {
    mki_cache cache;
    const float *q; /* (n_tokens, n_heads * head_dim) */
    float *out;     /* same shape; also the sums into which a query's chunks are merged */
    int32_t start;  /* position of the first token */
    int32_t n_heads;
} mki_attention;

typedef struct {
    /* Stores one kv head's key and value (head_dim) of a position. I16: a block with a value that is not finite, or
     * with a norm beyond 2^64, becomes NaN; one with a norm below 2^-63 becomes zero. Q8_0: values are clamped to 127
     * times the largest half; a NaN makes its block NaN. With both types, a query that is not finite gets NaN. */
    void (*remember)(const mki_cache *cache, int32_t position, int32_t kv_head, const float *key, const float *value);
    /* Writes rows first .. last-1 of `out`. The rows of a kv head are counted token by token, head by head of its
     * group. */
    void (*attend)(const mki_attention *a, int32_t kv_head, int32_t first, int32_t last);
    /* For a batch of one token, one chunk of its positions: the rows of a kv head's group in (n_heads) and (n_heads,
     * head_dim), to be merged. Gives the same bits as attend, with more threads. */
    void (*attend_chunk)(const mki_attention *a, int32_t kv_head, int32_t chunk, mki_softmax *softmax, float *sums);
    /* Writes the row of one token from all its chunks, (n_chunks, n_heads) and (n_chunks, n_heads, head_dim). */
    void (*merge)(const mki_attention *a, int32_t n_chunks, const mki_softmax *softmax, const float *sums);
} mki_attention_ops;

extern const mki_attention_ops mki_attention_ops_portable;

/* ---- the layout, in numbers; none overflows for any head_dim ---- */

static inline int64_t mki_cache_q_bytes(int32_t type) { return type == MK_F32 ? 4 : type == MK_I16 ? 2 : 1; }
static inline int64_t mki_cache_scale_bytes(int32_t type) { return type == MK_F32 ? 0 : type == MK_I16 ? 4 : 2; }
static inline int32_t mki_cache_block_dims(int32_t type) { return type == MK_Q8_0 ? MKI_BLOCK : MKI_DIMS_I16; }

/* Bytes of the blocks of n dimensions, of keys or of values. */
static inline int64_t mki_cache_blocks_bytes(int32_t type, int64_t n)
{
    int64_t n_blocks = (n + mki_cache_block_dims(type) - 1) / mki_cache_block_dims(type);
    return MKI_CHUNK * (n_blocks * mki_cache_scale_bytes(type) + n * mki_cache_q_bytes(type));
}

static inline int64_t mki_cache_width(int32_t head_dim)
{
    return ((int64_t)head_dim + MKI_BLOCK - 1) / MKI_BLOCK * MKI_BLOCK;
}

static inline int64_t mki_cache_strip_bytes(int32_t type, int32_t head_dim)
{
    return 2 * mki_cache_blocks_bytes(type, mki_cache_width(head_dim));
}
#endif

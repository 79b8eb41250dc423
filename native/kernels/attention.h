/* attention.h - softmax(q k / sqrt(head_dim)) v over a KV cache that is laid out for it.
 *
 *   cache of a layer = [chunk of 64 positions][kv head][strip of 16 positions]{ keys, values }
 *
 *   F32, F16   keys [width][16]                                 values [16][width]
 *   Q8_0       keys [width / 32]{ half d[16]; int8 q[32][16] }  values [16][width / 32]{ half d; int8 q[32] }
 *
 * A vector of keys so is one dimension of 16 positions, and scores need no sum across lanes. width is head_dim rounded up
 * to a block. Positions not stored yet, and dimensions from head_dim on, hold anything and are never used.
 *
 * Positions are taken in chunks of 64. Each chunk's softmax has its own peak, and chunks are merged in ascending order
 * (Milakov & Gimelshein 2018): what a query gets depends on nothing but itself and the positions before it, wherever its
 * prompt was cut and whoever did which chunk.
 */
#ifndef MK_ATTENTION_H
#define MK_ATTENTION_H
#include "packed.h"

enum {
    MKI_CHUNK = 4 * MKI_STRIP,
    MKI_QUERIES = 48, /* that share a chunk expanded to float32: 12 KiB of scores beside 16 of keys or values */
};

/* One layer's cache. */
typedef struct {
    int32_t type; /* MK_F32, MK_F16, MK_Q8_0 */
    int32_t head_dim, n_kv_heads;
    int64_t strip_bytes; /* of one kv head: keys, then as much for values */
    char *strips;
} mki_cache;

/* The largest score of some positions, and the sum over them of exp((score - peak) / sqrt(head_dim)); none: -infinity, 0.
 * It goes with a row of head_dim sums, of the values under the same weights. */
typedef struct { float peak, total; } mki_softmax;

/* A batch of queries, whose keys and values are in the cache. Query heads share the kv heads in equal groups. */
typedef struct {
    mki_cache cache;
    const float *q;   /* (n_tokens, n_heads * head_dim) */
    float *out;       /* same shape; also the sums that a query's chunks are merged into */
    int32_t start;    /* position of the first token */
    int32_t n_heads;
} mki_attention;

typedef struct {
    /* Stores one kv head's key and value (head_dim) of a position. F16: what is beyond its range becomes its largest. */
    void (*remember)(const mki_cache *cache, int32_t position, int32_t kv_head, const float *key, const float *value);
    /* Writes rows first .. last-1 of `out`. Those of a kv head are counted token by token, head by head of its group. */
    void (*attend)(const mki_attention *a, int32_t kv_head, int32_t first, int32_t last);
    /* For a batch of one token, one chunk of its positions: the rows of a kv head's group in (n_heads) and
     * (n_heads, head_dim), to be merged. Gives the same bits as attend, by more hands. */
    void (*attend_chunk)(const mki_attention *a, int32_t kv_head, int32_t chunk, mki_softmax *softmax, float *sums);
    /* Writes the row of one token from all its chunks, (n_chunks, n_heads) and (n_chunks, n_heads, head_dim). */
    void (*merge)(const mki_attention *a, int32_t n_chunks, const mki_softmax *softmax, const float *sums);
} mki_attention_ops;

extern const mki_attention_ops mki_attention_ops_scalar, mki_attention_ops_avx2, mki_attention_ops_avx512;

/* What strip_bytes is. Overflows for no head_dim. */
int64_t mki_cache_strip_bytes(int32_t type, int32_t head_dim);
#endif

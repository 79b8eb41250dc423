/* attention.c - attention over the cache, compiled once per instruction set.
 *
 * Scores and sums are the same thing, small matrix products, done in tiles of registers straight from the cache: of
 * pairs of integers, or of floats. As many queries as a tile has rows go through a chunk together, so that the scores
 * between its keys and its values stay in first-level cache.
 */
#include "attention_cache.h"
#include "exp2.h"

enum { AHEAD = 2 }; /* chunks: of 1, 2 and 3, 2 measures best */

/* Scores of the positions of a chunk, or sums of some dimensions. */
typedef float row[MKI_CHUNK] __attribute__((aligned(64)));
typedef int32_t sums_row[MKI_CHUNK] __attribute__((aligned(64)));

static const mki_softmax NOTHING = { -INFINITY, 0 };

/* Consecutive queries of one kv head, by token and then by head. So their lengths ascend. */
typedef struct {
    const mki_attention *a;
    int32_t kv_head, n;
    /* bytes: distance to the part of the cache that is needed next, for prefetching; 0: it is near anyway */
    int64_t ahead;
    int32_t length[MKI_QUERIES]; /* positions that each query sees */
    const float *q[MKI_QUERIES];
    float *out[MKI_QUERIES];
    mki_softmax softmax[MKI_QUERIES];
    int32_t first_rounded;                                                    /* dimension; -1: none */
    float scale[MKI_QUERIES];                                                 /* scales of the rounded dimensions */
    int16_t rounded[MKI_QUERIES * MKI_DIMS_I16] __attribute__((aligned(64))); /* rows follow each other without gaps */
} queries;

/* Begins queries first .. last-1 of a kv head, rows of (n_tokens, n_heads * head_dim), which have seen no position
 * yet. */
static void begin(queries *s, const mki_attention *a, int32_t kv_head, int32_t first, int32_t last, float *out)
{
    int32_t group = a->n_heads / a->cache.n_kv_heads;
    s->a = a;
    s->kv_head = kv_head;
    s->n = last - first;
    s->ahead = 0;
    s->first_rounded = -1;
    for (int32_t i = 0; i < s->n; i++) {
        int64_t token = (first + i) / group, at = token * a->n_heads + kv_head * group + (first + i) % group;
        s->length[i] = a->start + (int32_t)token + 1;
        s->q[i] = a->q + at * a->cache.head_dim;
        s->out[i] = out + at * a->cache.head_dim;
        s->softmax[i] = NOTHING;
        memset(s->out[i], 0, (size_t)a->cache.head_dim * sizeof *out);
    }
}

/* How many positions of a chunk query i sees. */
static int32_t n_seen(const queries *s, int32_t i, int32_t chunk)
{
    return least(s->length[i] - chunk * MKI_CHUNK, MKI_CHUNK);
}

/* Weights are 2^(score * this). */
static float scale_of(const mki_attention *a) { return 0x1.715476p0f / sqrtf((float)a->cache.head_dim); }

/* ---- products of floats ---- */

/* Rows of floats, each `stride` after the one before. */
typedef struct {
    const float *at;
    int64_t stride;
} float_matrix;

/* out[r] = sum over i < n of factor[r][i] * b[i], added to out[r] if `more`, for some vectors of a row. Each sum runs
 * in ascending order of i, whatever is computed beside it. */
INLINE void multiply_float_tile(const int rows, const int vectors, const float *const *factor, int32_t n,
                                float_matrix b, bool more, float *out)
{
    vector sum[TILE_ROWS][TILE_VECTORS];
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < vectors; j++)
            sum[r][j] = more ? load(out + r * MKI_CHUNK + j * LANES) : (vector){ 0 };
    for (int32_t i = 0; i < n; i++, b.at += b.stride) {
        vector part[TILE_VECTORS];
        for (int j = 0; j < vectors; j++)
            part[j] = load(b.at + j * LANES);
        for (int r = 0; r < rows; r++)
            for (int j = 0; j < vectors; j++)
                sum[r][j] = multiply_add(broadcast(factor[r][i]), part[j], sum[r][j]);
    }
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < vectors; j++)
            store(out + r * MKI_CHUNK + j * LANES, sum[r][j]);
}

/* The first n_columns, and the rest of the last vector. */
INLINE void multiply_float_rows(const int rows, const float *const *factor, int32_t n, float_matrix b,
                                int32_t n_columns, bool more, row *out)
{
    int32_t column = 0;
    for (; column + TILE_VECTORS * LANES <= n_columns; column += TILE_VECTORS * LANES)
        multiply_float_tile(rows, TILE_VECTORS, factor, n, (float_matrix){ b.at + column, b.stride }, more,
                            &out[0][column]);
    for (; column < n_columns; column += LANES)
        multiply_float_tile(rows, 1, factor, n, (float_matrix){ b.at + column, b.stride }, more, &out[0][column]);
}

static void multiply_floats(int32_t n_rows, const float *const *factor, int32_t n, float_matrix b, int32_t n_columns,
                            bool more, row *out)
{
    int32_t r = 0;
    for (; r + TILE_ROWS <= n_rows; r += TILE_ROWS)
        multiply_float_rows(TILE_ROWS, factor + r, n, b, n_columns, more, out + r);
    for (; r < n_rows; r++)
        multiply_float_rows(1, factor + r, n, b, n_columns, more, out + r);
}

/* ---- products of integers ---- */

/* Rows of pairs of integers. If ahead is not 0, the memory that many bytes behind each number in use is prefetched into
 * second-level cache; a prefetch of unmapped memory has no effect. */
typedef struct {
    const char *at;
    int64_t row_bytes, ahead;
    const float *scales; /* of the columns; NULL: 1 */
    bool is_bytes;
} pair_matrix;

/* Rows of integers, each with its scale. */
typedef struct {
    const int16_t *q[TILE_ROWS];
    float scale[TILE_ROWS];
} factors;

INLINE pairs load_some(const bool is_bytes, const char *at)
{
    return is_bytes ? load_bytes((const int8_t *)at) : load_pairs(at);
}

/* sums[r] = sum over i < n of q[r][2i] * b[i][..][0] + q[r][2i + 1] * b[i][..][1], for some vectors of a row. */
INLINE void multiply_pair_tile(const int rows, const int vectors, const bool is_bytes, const int16_t *const *q,
                               int32_t n, const pair_matrix *b, int32_t column, int32_t *sums)
{
    const int pair_bytes = is_bytes ? 2 : 4;
    const char *at = b->at + column * pair_bytes;
    pairs sum[TILE_ROWS][TILE_VECTORS] = { 0 };
    for (int32_t i = 0; i < n; i++, at += b->row_bytes) {
        pairs factor[TILE_ROWS];
        for (int next = 0; b->ahead && next < vectors * LANES * pair_bytes; next += 64)
            __builtin_prefetch(at + b->ahead + next, 0, 2);
        for (int r = 0; r < rows; r++)
            factor[r] = broadcast_pair(q[r] + 2 * i);
        for (int j = 0; j < vectors; j++) {
            pairs part = load_some(is_bytes, at + j * LANES * pair_bytes);
            for (int r = 0; r < rows; r++)
                sum[r][j] = add_products(sum[r][j], part, factor[r]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < vectors; j++)
            store_pairs(sums + r * MKI_CHUNK + j * LANES, sum[r][j]);
}

/* The first n_columns, and the rest of the last vector. */
INLINE void multiply_pair_rows(const int rows, const bool is_bytes, const int16_t *const *q, int32_t n,
                               const pair_matrix *b, int32_t n_columns, sums_row *sums)
{
    int32_t column = 0;
    for (; column + TILE_VECTORS * LANES <= n_columns; column += TILE_VECTORS * LANES)
        multiply_pair_tile(rows, TILE_VECTORS, is_bytes, q, n, b, column, &sums[0][column]);
    for (; column < n_columns; column += LANES)
        multiply_pair_tile(rows, 1, is_bytes, q, n, b, column, &sums[0][column]);
}

INLINE void multiply_pairs_as(const bool is_bytes, int32_t n_rows, const int16_t *const *q, int32_t n,
                              const pair_matrix *b, int32_t n_columns, sums_row *sums)
{
    const int half = TILE_ROWS / 2;
    int32_t r = 0;
    for (; r + TILE_ROWS <= n_rows; r += TILE_ROWS)
        multiply_pair_rows(TILE_ROWS, is_bytes, q + r, n, b, n_columns, sums + r);
    for (; r + half <= n_rows; r += half)
        multiply_pair_rows(half, is_bytes, q + r, n, b, n_columns, sums + r);
    for (; r < n_rows; r++)
        multiply_pair_rows(1, is_bytes, q + r, n, b, n_columns, sums + r);
}

/* Not inlined, or the compiler keeps the sums in memory. */
static __attribute__((noinline)) void sum_pairs(int32_t n_rows, const int16_t *const *q, int32_t n,
                                                const pair_matrix *b, int32_t n_columns, sums_row *sums)
{
    if (b->is_bytes)
        multiply_pairs_as(true, n_rows, q, n, b, n_columns, sums);
    else
        multiply_pairs_as(false, n_rows, q, n, b, n_columns, sums);
}

/* out = the product's first n_columns under all scales, and what is left of a vector; added to out if `more`. */
static void multiply_pairs(int32_t n_rows, const factors *f, int32_t n, const pair_matrix *b, int32_t n_columns,
                           bool more, row *out)
{
    sums_row sums[TILE_ROWS];
    sum_pairs(n_rows, f->q, n, b, n_columns, sums);
    for (int32_t r = 0; r < n_rows; r++)
        for (int32_t column = 0; column < n_columns; column += LANES) {
            vector scale = b->scales ? load(b->scales + column) : broadcast(1);
            vector before = more ? load(out[r] + column) : (vector){ 0 };
            store(out[r] + column, before + to_floats(load_pairs(sums[r] + column)) * f->scale[r] * scale);
        }
}

/* A block's rows of n pairs. */
static pair_matrix pairs_of(const queries *s, const block *b, int64_t n)
{
    return (pair_matrix){ b->q, n * 2 * mki_cache_q_bytes(b->type), s->ahead, NULL, b->type == MK_Q8_0 };
}

/* ---- one chunk, for as many queries as a tile has rows, each of which sees some of it ---- */

/* Rounds the dimensions that share a scale with `first`, of all queries, unless they were the last ones rounded. */
static void round_queries(queries *s, int32_t first)
{
    int32_t from = first / MKI_DIMS_I16 * MKI_DIMS_I16, n = least(s->a->cache.head_dim - from, MKI_DIMS_I16);
    if (from == s->first_rounded)
        return;
    s->first_rounded = from;
    for (int32_t i = 0; i < s->n; i++)
        s->scale[i] = round_vector(s->q[i] + from, n, s->rounded + i * round_up(n, 16));
}

/* Where dimension `first` of a rounded query is. */
static const int16_t *rounded(const queries *s, int32_t i, int32_t first)
{
    int32_t n = least(s->a->cache.head_dim - s->first_rounded, MKI_DIMS_I16);
    return s->rounded + i * round_up(n, 16) + first - s->first_rounded;
}

/* scores[k] = q[i + k] . k of the chunk's positions that one of the queries sees, in whole vectors. */
static void score_pairs(queries *s, int32_t i, int32_t n, int32_t chunk, row *scores)
{
    const mki_cache *cache = &s->a->cache;
    int32_t n_positions = round_up(n_seen(s, i + n - 1, chunk), 16);
    for (int32_t first = 0; first < cache->head_dim; first += mki_cache_block_dims(cache->type)) {
        block b = block_of(cache, keys_of(cache, chunk, s->kv_head), first);
        pair_matrix keys = pairs_of(s, &b, MKI_CHUNK);
        factors f;
        row scales;
        round_queries(s, first);
        for (int32_t k = 0; k < n; k++) {
            f.q[k] = rounded(s, i + k, first);
            f.scale[k] = s->scale[i + k];
        }
        load_scales(&b, n_positions, s->ahead, scales);
        keys.scales = scales;
        multiply_pairs(n, &f, (b.n + 1) / 2, &keys, n_positions, first > 0, scores);
    }
}

static void score_floats(const queries *s, int32_t i, int32_t n, int32_t chunk, row *scores)
{
    const mki_cache *cache = &s->a->cache;
    float_matrix keys = { (const float *)keys_of(cache, chunk, s->kv_head), MKI_CHUNK };
    multiply_floats(n, s->q + i, cache->head_dim, keys, n_seen(s, i + n - 1, chunk), false, scores);
}

static float peak_of(const float *x)
{
    _Alignas(64) float top[16];
    for (int j = 0; j < 16; j += LANES)
        store(top + j, larger(larger(load(x + j), load(x + 16 + j)), larger(load(x + 32 + j), load(x + 48 + j))));
    return peak_of_lanes(top);
}

static float total_of(const float *x)
{
    _Alignas(64) float sum[16];
    for (int j = 0; j < 16; j += LANES)
        store(sum + j, (load(x + j) + load(x + 16 + j)) + (load(x + 32 + j) + load(x + 48 + j)));
    return total_of_lanes(sum);
}

/* x[n ..] = value */
static void fill(float *x, int32_t n, float value)
{
    if (n == MKI_CHUNK)
        return;
    for (int32_t p = 0; p < MKI_CHUNK; p++)
        x[p] = p < n ? x[p] : value;
}

/* Turns scores into weights. */
static void weigh(float *scores, float peak, float scale)
{
    for (int at = 0; at < MKI_CHUNK; at += TILE_VECTORS * LANES) {
        vector x[TILE_VECTORS];
        for (int j = 0; j < TILE_VECTORS; j++)
            x[j] = (load(scores + at + j * LANES) - peak) * scale;
        mki_exp2(x, TILE_VECTORS);
        for (int j = 0; j < TILE_VECTORS; j++)
            store(scores + at + j * LANES, x[j]);
    }
}

/* The factors of two softmaxes' sums under the larger peak. */
typedef struct { float before, chunk; } worth;

static worth merge_softmax(mki_softmax *into, mki_softmax chunk, float scale)
{
    float higher = (chunk.peak - into->peak) * scale;
    vector shrink = broadcast(-fabsf(higher));
    mki_exp2(&shrink, 1);
    worth w = { higher > 0 ? shrink[0] : 1, higher > 0 ? 1 : shrink[0] };
    into->peak = higher > 0 ? chunk.peak : into->peak;
    into->total = into->total * w.before + chunk.total * w.chunk;
    return w;
}

static void merge_sums(float *into, const float *sums, int32_t n, worth w)
{
    for (int32_t i = 0; i < n; i++)
        into[i] = into[i] * w.before + sums[i] * w.chunk;
}

/* Weights, under the values' scales, as integers; zeros where a query does not see the value. Theirs is NaN if a scale
 * is. */
static void round_weights(const queries *s, int32_t i, int32_t n, int32_t chunk, const row *weights,
                          const float *scales, int16_t (*q)[MKI_CHUNK], factors *f)
{
    row scaled[TILE_ROWS];
    for (int32_t k = 0; k < n; k++) {
        for (int32_t p = 0; p < MKI_CHUNK; p++)
            scaled[k][p] = weights[k][p] * scales[p];
        fill(scaled[k], n_seen(s, i + k, chunk), 0);
        f->scale[k] = total_of(scaled[k]) / (float)LARGEST;
        f->q[k] = q[k];
    }
    for (int32_t k = 0; k < n; k++)
        round_by(scaled[k], MKI_CHUNK, f->scale[k] >= FLT_MIN ? 1 / f->scale[k] : 0, q[k]);
}

static void add_pairs(const queries *s, int32_t i, int32_t n, int32_t chunk, const row *scores, const worth *worths)
{
    const mki_cache *cache = &s->a->cache;
    int32_t n_positions = n_seen(s, i + n - 1, chunk);
    for (int32_t first = 0; first < cache->head_dim; first += mki_cache_block_dims(cache->type)) {
        block b = block_of(cache, values_of(cache, chunk, s->kv_head), first);
        pair_matrix values = pairs_of(s, &b, b.width);
        int16_t q[TILE_ROWS][MKI_CHUNK] __attribute__((aligned(64)));
        factors f;
        row scales, sums[TILE_ROWS];
        load_scales(&b, n_positions, s->ahead, scales);
        round_weights(s, i, n, chunk, scores, scales, q, &f);
        for (int32_t dim = 0; dim < b.n;
             dim += MKI_CHUNK, values.at += MKI_CHUNK * 2 * mki_cache_q_bytes(cache->type)) {
            int32_t n_dims = least(b.n - dim, MKI_CHUNK);
            multiply_pairs(n, &f, (n_positions + 1) / 2, &values, n_dims, false, sums);
            for (int32_t k = 0; k < n; k++)
                merge_sums(s->out[i + k] + first + dim, sums[k], n_dims, worths[k]);
        }
    }
}

/* Adds a value only to the sums of queries that see it: a weight of zero times NaN is NaN. */
static void add_floats(const queries *s, int32_t i, int32_t n, int32_t chunk, const row *scores, const worth *worths)
{
    const mki_cache *cache = &s->a->cache;
    int64_t stride = mki_cache_width(cache->head_dim);
    const float *values = (const float *)values_of(cache, chunk, s->kv_head), *weights[TILE_ROWS];
    int32_t common = n_seen(s, i, chunk);
    row sums[TILE_ROWS];
    for (int32_t dim = 0; dim < cache->head_dim; dim += MKI_CHUNK) {
        int32_t n_dims = least(cache->head_dim - dim, MKI_CHUNK);
        for (int32_t k = 0; k < n; k++)
            weights[k] = scores[k];
        multiply_floats(n, weights, common, (float_matrix){ values + dim, stride }, n_dims, false, sums);
        for (int32_t k = 0; k < n; k++) {
            const float *rest = scores[k] + common;
            float_matrix behind = { values + dim + common * stride, stride };
            multiply_floats(1, &rest, n_seen(s, i + k, chunk) - common, behind, n_dims, true, sums + k);
            merge_sums(s->out[i + k] + dim, sums[k], n_dims, worths[k]);
        }
    }
}

static void add_chunk(queries *s, int32_t i, int32_t n, int32_t chunk)
{
    bool is_float = s->a->cache.type == MK_F32;
    float scale = scale_of(s->a);
    row scores[TILE_ROWS];
    mki_softmax softmax[TILE_ROWS];
    worth worths[TILE_ROWS];
    if (is_float)
        score_floats(s, i, n, chunk, scores);
    else
        score_pairs(s, i, n, chunk, scores);
    for (int32_t k = 0; k < n; k++) {
        fill(scores[k], n_seen(s, i + k, chunk), -INFINITY);
        softmax[k].peak = peak_of(scores[k]);
    }
    for (int32_t k = 0; k < n; k++)
        weigh(scores[k], softmax[k].peak, scale);
    for (int32_t k = 0; k < n; k++)
        softmax[k].total = total_of(scores[k]);
    for (int32_t k = 0; k < n; k++)
        worths[k] = merge_softmax(&s->softmax[i + k], softmax[k], scale);
    if (is_float)
        add_floats(s, i, n, chunk, scores, worths);
    else
        add_pairs(s, i, n, chunk, scores, worths);
}

/* ---- all queries and chunks ---- */

static void divide(float *sums, int32_t n, float total)
{
    for (int32_t i = 0; i < n; i++)
        sums[i] /= total;
}

/* Adds a chunk to the queries from `first` on. */
static void add_chunk_to(queries *s, int32_t first, int32_t chunk)
{
    for (int32_t i = first; i < s->n; i += TILE_ROWS)
        add_chunk(s, i, least(s->n - i, TILE_ROWS), chunk);
}

static void attend_together(const mki_attention *a, int32_t kv_head, int32_t first, int32_t last)
{
    queries s;
    begin(&s, a, kv_head, first, last, a->out);
    if (s.length[0] == s.length[s.n - 1])
        s.ahead = a->cache.n_kv_heads * a->cache.strip_bytes;
    for (int32_t i = 0, chunk = 0; i < s.n; chunk++) {
        add_chunk_to(&s, i, chunk);
        while (i < s.n && n_seen(&s, i, chunk + 1) <= 0)
            i++;
    }
    for (int32_t i = 0; i < s.n; i++)
        divide(s.out[i], a->cache.head_dim, s.softmax[i].total);
}

static void attend(const mki_attention *a, int32_t kv_head, int32_t first, int32_t last)
{
    for (int32_t i = first; i < last; i += MKI_QUERIES)
        attend_together(a, kv_head, i, least(i + MKI_QUERIES, last));
}

static void attend_chunk(const mki_attention *a, int32_t kv_head, int32_t chunk, mki_softmax *softmax, float *sums)
{
    int32_t group = a->n_heads / a->cache.n_kv_heads;
    queries s;
    for (int32_t i = 0; i < group; i += s.n) {
        begin(&s, a, kv_head, i, least(i + MKI_QUERIES, group), sums);
        s.ahead = AHEAD * a->cache.strip_bytes;
        add_chunk_to(&s, 0, chunk);
        memcpy(softmax + kv_head * group + i, s.softmax, (size_t)s.n * sizeof *softmax);
    }
}

static void merge(const mki_attention *a, int32_t n_chunks, const mki_softmax *softmax, const float *sums)
{
    int32_t n = a->cache.head_dim;
    for (int64_t head = 0; head < a->n_heads; head++) {
        float *out = a->out + head * n;
        mki_softmax all = NOTHING;
        memset(out, 0, (size_t)n * sizeof *out);
        for (int64_t at = head, c = 0; c < n_chunks; c++, at += a->n_heads)
            merge_sums(out, sums + at * n, n, merge_softmax(&all, softmax[at], scale_of(a)));
        divide(out, n, all.total);
    }
}

const mki_attention_ops MKI_ISA(mki_attention_ops) = {
    .remember = remember,
    .attend = attend,
    .attend_chunk = attend_chunk,
    .merge = merge,
};

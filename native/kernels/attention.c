/* attention.c - attention over the cache, compiled once per instruction set.
 *
 * A chunk's keys and values are expanded to float32 in first-level cache, 64 dimensions at a time, and serve all the
 * queries at hand. Scores and sums then are the same thing, small matrix products, done in tiles of registers. The queries
 * of a single token read halves as they are instead, to the same bits.
 */
#include "attention_cache.h"
#include "exp.h"

enum {
    QUERIES = MKI_QUERIES,
    BLOCK_DIMS = MKI_CHUNK, /* dimensions expanded together: keys and values then are blocks of one shape */
    TILE_VECTORS = 4,       /* of a row of a tile */
    STRIPS = MKI_CHUNK / MKI_STRIP,
    AHEAD = 2 * STRIPS,     /* strips: of 1, 2 and 3 chunks, 2 measures best */
};

/* Keys (dimensions, positions), values (positions, dimensions), scores (queries, positions) or sums (queries, dimensions). */
typedef float row[MKI_CHUNK] __attribute__((aligned(64)));

static const mki_softmax NOTHING = {-INFINITY, 0};

static int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }

/* Consecutive queries of one kv head, by token and then by head. Lengths so ascend. */
typedef struct {
    const mki_attention *a;
    int32_t kv_head, n;
    int32_t length[QUERIES]; /* positions it sees */
    const float *q[QUERIES];
    float *out[QUERIES];
    mki_softmax softmax[QUERIES];
} queries;

/* Queries first .. last-1 of a kv head, rows in the shape of (n_tokens, n_heads * head_dim), nothing seen so far. */
static void begin(queries *s, const mki_attention *a, int32_t kv_head, int32_t first, int32_t last, float *out)
{
    int32_t group = a->n_heads / a->cache.n_kv_heads;
    s->a = a;
    s->kv_head = kv_head;
    s->n = last - first;
    for (int32_t i = 0; i < s->n; i++) {
        int64_t token = (first + i) / group, row = token * a->n_heads + kv_head * group + (first + i) % group;
        s->length[i] = a->start + (int32_t)token + 1;
        s->q[i] = a->q + row * a->cache.head_dim;
        s->out[i] = out + row * a->cache.head_dim;
        s->softmax[i] = NOTHING;
        memset(s->out[i], 0, (size_t)a->cache.head_dim * sizeof *out);
    }
}

/* How many positions of a chunk query i sees. */
static int32_t n_seen(const queries *s, int32_t i, int32_t chunk) { return least(s->length[i] - chunk * MKI_CHUNK, MKI_CHUNK); }

static float scale_of(const mki_attention *a) { return 1 / sqrtf((float)a->cache.head_dim); }

/* ---- products ---- */

/* Columns 16 j .. 16 j + 15 of row i are at + i * row_bytes + j * part_bytes, halves or floats. For every half that is used,
 * one at `next` is called into second-level cache; where there is no such memory, nothing happens. */
typedef struct {
    const char *at, *next;
    int64_t row_bytes, part_bytes;
    bool is_half;
} matrix;

static matrix expanded(const row *rows)
{
    return (matrix){.at = (const char *)rows, .row_bytes = sizeof *rows, .part_bytes = 16 * sizeof(float)};
}

INLINE vector load_columns(const bool is_half, const matrix *b, const char *at, int32_t column)
{
    if (is_half)
        return load_halves((const uint16_t *)(at + column / 16 * b->part_bytes) + column % 16);
    return load((const float *)at + column);
}

/* out[r] = sum over i < n of factor[r][i] * b[i], added to out[r] if `more`, for some vectors of a row. Each sum is taken
 * in ascending order of i, whatever is computed beside it. */
INLINE void multiply_tile(const int rows, const int vectors, const bool is_half, const float *const *factor, int32_t n,
                          const matrix *b, int32_t column, bool more, float *out)
{
    vector sum[TILE_ROWS][TILE_VECTORS];
    const char *at = b->at + (is_half ? column / 16 * b->part_bytes + column % 16 * 2 : column * 4);
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < vectors; j++)
            sum[r][j] = more ? load(out + r * MKI_CHUNK + j * LANES) : (vector){0};
    for (int32_t i = 0; i < n; i++, at += is_half ? b->row_bytes : (int64_t)sizeof(row)) {
        vector part[TILE_VECTORS];
        for (int at_next = 0; is_half && at_next < vectors * LANES * 2; at_next += 64)
            __builtin_prefetch(b->next + (i * MKI_CHUNK + column) * 2 + at_next, 0, 2);
        for (int j = 0; j < vectors; j++)
            part[j] = load_columns(is_half, b, at, j * LANES);
        for (int r = 0; r < rows; r++)
            for (int j = 0; j < vectors; j++)
                sum[r][j] = multiply_add(broadcast(factor[r][i]), part[j], sum[r][j]);
    }
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < vectors; j++)
            store(out + r * MKI_CHUNK + j * LANES, sum[r][j]);
}

/* The first n_columns, and what is left of a vector. */
INLINE void multiply_rows(const int rows, const bool is_half, const float *const *factor, int32_t n, const matrix *b,
                          int32_t n_columns, bool more, row *out)
{
    int32_t column = 0;
    for (; column + TILE_VECTORS * LANES <= n_columns; column += TILE_VECTORS * LANES)
        multiply_tile(rows, TILE_VECTORS, is_half, factor, n, b, column, more, &out[0][column]);
    for (; column < n_columns; column += LANES)
        multiply_tile(rows, 1, is_half, factor, n, b, column, more, &out[0][column]);
}

INLINE void multiply_as(const bool is_half, int32_t n_rows, const float *const *factor, int32_t n, const matrix *b,
                        int32_t n_columns, bool more, row *out)
{
    const int half = TILE_ROWS / 2;
    int32_t r = 0;
    for (; r + TILE_ROWS <= n_rows; r += TILE_ROWS)
        multiply_rows(TILE_ROWS, is_half, factor + r, n, b, n_columns, more, out + r);
    for (; r + half <= n_rows; r += half)
        multiply_rows(half, is_half, factor + r, n, b, n_columns, more, out + r);
    for (; r < n_rows; r++)
        multiply_rows(1, is_half, factor + r, n, b, n_columns, more, out + r);
}

static void multiply(int32_t n_rows, const float *const *factor, int32_t n, matrix b, int32_t n_columns, bool more, row *out)
{
    if (b.is_half)
        multiply_as(true, n_rows, factor, n, &b, n_columns, more, out);
    else
        multiply_as(false, n_rows, factor, n, &b, n_columns, more, out);
}

/* ---- one chunk, for queries from `first` on, each of which sees some of it ---- */

/* Halves that serve the queries of one token are converted on their way into the registers, with no store between. Of a
 * long context they come from memory: what is AHEAD in its order, which is that of the work, is asked for in time. */
static bool is_direct(const queries *s, int32_t first)
{
    return s->a->cache.type == MK_F16 && s->n - first <= TILE_ROWS && s->length[first] == s->length[s->n - 1];
}

static void score_direct(const queries *s, int32_t first, int32_t chunk, row *scores)
{
    const mki_cache *cache = &s->a->cache;
    const char *keys = strip_of(cache, chunk * MKI_CHUNK, s->kv_head);
    matrix b = {keys, keys + AHEAD * cache->strip_bytes, MKI_STRIP * sizeof(uint16_t), cache->strip_bytes, true};
    multiply(s->n - first, s->q + first, cache->head_dim, b, n_seen(s, first, chunk), false, scores + first);
}

/* scores[i] = q[i] . k of the chunk's positions that query i sees, and perhaps of others. */
static void score(const queries *s, int32_t first, int32_t chunk, row *scores)
{
    const mki_cache *cache = &s->a->cache;
    row keys[BLOCK_DIMS];
    const float *q[TILE_ROWS];
    int32_t n_positions = n_seen(s, s->n - 1, chunk);
    for (int32_t dim = 0; dim < cache->head_dim; dim += BLOCK_DIMS) {
        int32_t n_dims = least(cache->head_dim - dim, BLOCK_DIMS);
        for (int32_t p = 0; p < n_positions; p += MKI_STRIP)
            expand_keys(cache->type, strip_of(cache, chunk * MKI_CHUNK + p, s->kv_head), AHEAD * cache->strip_bytes, dim, n_dims,
                        &keys[0][p]);
        for (int32_t i = first, n; i < s->n; i += n) {
            n = least(s->n - i, TILE_ROWS);
            for (int32_t k = 0; k < n; k++)
                q[k] = s->q[i + k] + dim;
            multiply(n, q, n_dims, expanded(keys), n_seen(s, i + n - 1, chunk), dim > 0, scores + i);
        }
    }
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

/* Turns the first n scores into weights, and whatever stands behind them into zeros. */
static mki_softmax weigh(float *scores, int32_t n, float scale)
{
    for (int32_t i = n; i < MKI_CHUNK; i++)
        scores[i] = -INFINITY;
    float peak = peak_of(scores);
    for (int i = 0; i < MKI_CHUNK; i++)
        scores[i] = mki_exp((scores[i] - peak) * scale);
    return (mki_softmax){peak, total_of(scores)};
}

/* What sums of two softmaxes are worth under the larger peak. */
typedef struct { float before, chunk; } worth;

INLINE worth merge_softmax(mki_softmax *into, mki_softmax chunk, float scale)
{
    float higher = (chunk.peak - into->peak) * scale, shrink = mki_exp(-fabsf(higher));
    worth w = {higher > 0 ? shrink : 1, higher > 0 ? 1 : shrink};
    into->peak = higher > 0 ? chunk.peak : into->peak;
    into->total = into->total * w.before + chunk.total * w.chunk;
    return w;
}

static void merge_sums(float *into, const float *sums, int32_t n, worth w)
{
    for (int32_t i = 0; i < n; i++)
        into[i] = into[i] * w.before + sums[i] * w.chunk;
}

/* sums[k] = what query i + k takes of the values. A value goes only into the sums of queries that see it. */
static void sum_tile(const queries *s, int32_t i, int32_t n, int32_t chunk, const row *scores, const row *values, int32_t n_dims,
                     row *sums)
{
    const float *weights[TILE_ROWS];
    int32_t common = n_seen(s, i, chunk);
    for (int32_t k = 0; k < n; k++)
        weights[k] = scores[i + k];
    multiply(n, weights, common, expanded(values), n_dims, false, sums);
    for (int32_t k = 1; k < n; k++) {
        const float *rest = weights[k] + common;
        if (n_seen(s, i + k, chunk) > common)
            multiply(1, &rest, n_seen(s, i + k, chunk) - common, expanded(values + common), n_dims, true, sums + k);
    }
}

static void add_values(const queries *s, int32_t first, int32_t chunk, const row *scores, const worth *worths)
{
    const mki_cache *cache = &s->a->cache;
    row values[MKI_CHUNK], sums[TILE_ROWS];
    int32_t n_positions = n_seen(s, s->n - 1, chunk);
    for (int32_t dim = 0; dim < cache->head_dim; dim += BLOCK_DIMS) {
        int32_t n_dims = least(cache->head_dim - dim, BLOCK_DIMS);
        for (int32_t p = 0; p < n_positions; p++)
            expand_value(cache->type, value_at(cache, chunk * MKI_CHUNK + p, s->kv_head), AHEAD * cache->strip_bytes, dim, n_dims,
                         values[p]);
        for (int32_t i = first, n; i < s->n; i += n) {
            n = least(s->n - i, TILE_ROWS);
            sum_tile(s, i, n, chunk, scores, values, n_dims, sums);
            for (int32_t k = 0; k < n; k++)
                merge_sums(s->out[i + k] + dim, sums[k], n_dims, worths[i + k]);
        }
    }
}

static void add_values_direct(const queries *s, int32_t first, int32_t chunk, const row *scores, const worth *worths)
{
    const mki_cache *cache = &s->a->cache;
    const float *weights[TILE_ROWS];
    row sums[TILE_ROWS];
    int32_t n = s->n - first, n_positions = n_seen(s, first, chunk);
    const char *next = strip_of(cache, chunk * MKI_CHUNK, s->kv_head) + (AHEAD + STRIPS / 2) * cache->strip_bytes;
    for (int32_t dim = 0; dim < cache->head_dim; dim += MKI_CHUNK) {
        int32_t n_dims = least(cache->head_dim - dim, MKI_CHUNK);
        for (int32_t p = 0; p < n_positions; p += MKI_STRIP) {
            const char *value = value_at(cache, chunk * MKI_CHUNK + p, s->kv_head) + dim * (int64_t)sizeof(uint16_t);
            matrix b = {value, next + (dim + p) * (int64_t)(MKI_CHUNK * sizeof(uint16_t)), cache->strip_bytes / 2 / MKI_STRIP,
                        16 * sizeof(uint16_t), true};
            for (int32_t k = 0; k < n; k++)
                weights[k] = scores[first + k] + p;
            multiply(n, weights, least(n_positions - p, MKI_STRIP), b, n_dims, p > 0, sums);
        }
        for (int32_t k = 0; k < n; k++)
            merge_sums(s->out[first + k] + dim, sums[k], n_dims, worths[first + k]);
    }
}

static void add_chunk(queries *s, int32_t first, int32_t chunk)
{
    row scores[QUERIES];
    mki_softmax softmax[QUERIES];
    worth worths[QUERIES];
    float scale = scale_of(s->a);
    if (is_direct(s, first))
        score_direct(s, first, chunk, scores);
    else
        score(s, first, chunk, scores);
    for (int32_t i = first; i < s->n; i++)
        softmax[i] = weigh(scores[i], n_seen(s, i, chunk), scale);
    for (int32_t i = first; i < s->n; i++)
        worths[i] = merge_softmax(&s->softmax[i], softmax[i], scale);
    if (is_direct(s, first))
        add_values_direct(s, first, chunk, scores, worths);
    else
        add_values(s, first, chunk, scores, worths);
}

/* ---- all chunks ---- */

static void divide(float *sums, int32_t n, float total)
{
    for (int32_t i = 0; i < n; i++)
        sums[i] /= total;
}

static void attend_together(const mki_attention *a, int32_t kv_head, int32_t first, int32_t last)
{
    queries s;
    begin(&s, a, kv_head, first, last, a->out);
    for (int32_t i = 0, chunk = 0; i < s.n; chunk++) {
        add_chunk(&s, i, chunk);
        while (i < s.n && n_seen(&s, i, chunk + 1) <= 0)
            i++;
    }
    for (int32_t i = 0; i < s.n; i++)
        divide(s.out[i], a->cache.head_dim, s.softmax[i].total);
}

static void attend(const mki_attention *a, int32_t kv_head, int32_t first, int32_t last)
{
    for (int32_t i = first; i < last; i += QUERIES)
        attend_together(a, kv_head, i, least(i + QUERIES, last));
}

static void attend_chunk(const mki_attention *a, int32_t kv_head, int32_t chunk, mki_softmax *softmax, float *sums)
{
    int32_t group = a->n_heads / a->cache.n_kv_heads;
    queries s;
    for (int32_t i = 0; i < group; i += s.n) {
        begin(&s, a, kv_head, i, least(i + QUERIES, group), sums);
        add_chunk(&s, 0, chunk);
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

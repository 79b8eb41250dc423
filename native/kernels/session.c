/* session.c - allocation and position of a session. */
#include "session.h"
#include "alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Whether a * b * c fits. */
static bool product(size_t *out, size_t a, size_t b, size_t c)
{
    return !__builtin_mul_overflow(a, b, out) && !__builtin_mul_overflow(*out, c, out);
}

static size_t n_chunks(const mk_session *s) { return ((size_t)s->n_ctx + MKI_CHUNK - 1) / MKI_CHUNK; }

static int allocate_cache(mk_session *s, int32_t type)
{
    const mk_config *c = &s->config;
    int64_t strip_bytes = mki_cache_strip_bytes(type, c->head_dim);
    size_t layer_bytes;
    if (!product(&layer_bytes, n_chunks(s), (size_t)c->n_kv_heads, (size_t)strip_bytes) || layer_bytes > INT64_MAX)
        return MK_ERR_MEMORY;
    s->layer_bytes = (int64_t)layer_bytes;
    s->cache =
        (mki_cache){ type, c->head_dim, c->n_kv_heads, strip_bytes, mki_alloc((size_t)c->n_layers, layer_bytes) };
    return s->cache.strips ? MK_OK : MK_ERR_MEMORY;
}

/* What one token's attention leaves per chunk. */
static int allocate_chunks(mk_session *s)
{
    const mk_config *c = &s->config;
    size_t n_rows = n_chunks(s) * (size_t)c->n_heads; /* below 2^57 */
    s->softmax = mki_alloc(n_rows, sizeof *s->softmax + (size_t)c->head_dim * sizeof *s->chunk_sums);
    s->chunk_sums = s->softmax ? (float *)(s->softmax + n_rows) : NULL;
    return s->softmax ? MK_OK : MK_ERR_MEMORY;
}

static int allocate_scratch(mk_session *s)
{
    const mk_config *c = &s->config;
    size_t q_dim = (size_t)c->n_heads * (size_t)c->head_dim, kv_dim = (size_t)c->n_kv_heads * (size_t)c->head_dim;
    size_t dim = (size_t)c->dim, ffn = (size_t)c->ffn_dim;
    struct {
        float **at;
        size_t width;
    } parts[] = { { &s->x, dim },    { &s->normed, dim }, { &s->q, q_dim },
                  { &s->k, kv_dim }, { &s->v, kv_dim },   { &s->attended, q_dim },
                  { &s->gate, ffn }, { &s->up, ffn },     { &s->rotation, (size_t)c->rope_dim } };
    size_t n_parts = sizeof parts / sizeof *parts, width = 0, n = (size_t)s->n_batch;
    for (size_t i = 0; i < n_parts; i++)
        width += parts[i].width; /* nine terms below 2^31 */
    float *next = mki_alloc(n, width * sizeof *next);
    if (!next)
        return MK_ERR_MEMORY;
    for (size_t i = 0; i < n_parts; i++) {
        *parts[i].at = next;
        next += n * parts[i].width;
    }
    return MK_OK;
}

static int allocate_rounded(mk_session *s)
{
    const mk_config *c = &s->config;
    int64_t q_dim = (int64_t)c->n_heads * c->head_dim, widest = c->dim > c->ffn_dim ? c->dim : c->ffn_dim;
    widest = widest > q_dim ? widest : q_dim;
    s->rounded = mki_alloc(2 * (size_t)s->n_batch * (size_t)(widest / MKI_BLOCK + 1), sizeof *s->rounded);
    return s->rounded ? MK_OK : MK_ERR_MEMORY;
}

/* Pair i turns by theta^(-2i / rope_dim) per position, divided by its divisor where the model has one. */
static int tabulate_rope(mk_session *s, const mk_model *model)
{
    const float *divisors = model->rope_freqs;
    int32_t n_pairs = s->config.rope_dim / 2;
    s->rope_step = mki_alloc((size_t)n_pairs + 1, sizeof *s->rope_step); /* + 1: never a request for nothing */
    if (!s->rope_step)
        return MK_ERR_MEMORY;
    for (int32_t i = 0; i < n_pairs; i++)
        s->rope_step[i] = pow(s->config.rope_theta, -2.0 * i / s->config.rope_dim) / (divisors ? divisors[i] : 1);
    return MK_OK;
}

int mk_session_new(mk_session **session, const mk_model *model, int32_t n_ctx, int32_t cache_type)
{
    if (!session)
        return MK_ERR_ARGUMENT;
    *session = NULL;
    bool is_known = cache_type == MK_F32 || cache_type == MK_I16 || cache_type == MK_Q8_0;
    if (n_ctx <= 0 || !is_known || mk_model_check(model, NULL))
        return MK_ERR_ARGUMENT;
    mk_session *s = calloc(1, sizeof *s);
    if (!s)
        return MK_ERR_MEMORY;
    s->config = model->config;
    s->n_ctx = n_ctx;
    s->n_batch = n_ctx < MKI_BATCH ? n_ctx : MKI_BATCH;
    if (allocate_cache(s, cache_type) || allocate_chunks(s) || allocate_scratch(s) || allocate_rounded(s) ||
        tabulate_rope(s, model)) {
        mk_session_free(s);
        return MK_ERR_MEMORY;
    }
    *session = s;
    return MK_OK;
}

void mk_session_free(mk_session *s)
{
    if (!s)
        return;
    free(s->rope_step);
    free(s->rounded);
    free(s->x);
    free(s->softmax);
    free(s->cache.strips);
    free(s);
}

int32_t mk_session_length(const mk_session *s) { return s ? s->length : 0; }
int32_t mk_session_context(const mk_session *s) { return s ? s->n_ctx : 0; }

int mk_session_truncate(mk_session *s, int32_t length)
{
    if (!s || length < 0 || length > s->length)
        return MK_ERR_ARGUMENT;
    s->length = length;
    return MK_OK;
}

/* ---- What it holds, to and fro ---- */

/* Bytes of a layer's cache that hold n tokens: whole chunks, which follow each other. */
static size_t held_bytes(const mk_session *s, int32_t n)
{
    return ((size_t)n + MKI_CHUNK - 1) / MKI_CHUNK * (size_t)s->cache.n_kv_heads * (size_t)s->cache.strip_bytes;
}

int64_t mk_session_state_bytes(const mk_session *s, int32_t n_tokens)
{
    if (!s || n_tokens < 0 || n_tokens > s->n_ctx)
        return 0;
    return (int64_t)((size_t)s->config.n_layers * held_bytes(s, n_tokens)); /* no more than the cache itself */
}

int mk_session_save(const mk_session *s, void *out, int64_t n_bytes)
{
    if (!s || !out || n_bytes != mk_session_state_bytes(s, s->length))
        return MK_ERR_ARGUMENT;
    size_t held = held_bytes(s, s->length);
    for (int32_t layer = 0; layer < s->config.n_layers; layer++)
        memcpy((char *)out + (size_t)layer * held, s->cache.strips + layer * s->layer_bytes, held);
    return MK_OK;
}

int mk_session_load(mk_session *s, const void *in, int64_t n_bytes, int32_t n_tokens)
{
    if (!s || !in || n_tokens < 0 || n_tokens > s->n_ctx || n_bytes != mk_session_state_bytes(s, n_tokens))
        return MK_ERR_ARGUMENT;
    size_t held = held_bytes(s, n_tokens);
    for (int32_t layer = 0; layer < s->config.n_layers; layer++)
        memcpy(s->cache.strips + layer * s->layer_bytes, (const char *)in + (size_t)layer * held, held);
    s->length = n_tokens;
    return MK_OK;
}

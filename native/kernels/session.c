/* session.c - allocation and position of a session. */
#include "session.h"
#include "alloc.h"

#include <math.h>
#include <stdlib.h>

/* Whether a * b * c * d fits; all are positive. */
static bool product(size_t *out, int32_t a, int32_t b, int32_t c, int32_t d)
{
    return !__builtin_mul_overflow((size_t)a, (size_t)b, out) && !__builtin_mul_overflow(*out, (size_t)c, out) &&
           !__builtin_mul_overflow(*out, (size_t)d, out);
}

static int allocate_cache(mk_session *s)
{
    const mk_config *c = &s->config;
    size_t n; /* floats in keys, and in values */
    if (!product(&n, c->n_layers, s->n_ctx, c->n_kv_heads, c->head_dim))
        return MK_ERR_MEMORY;
    s->keys = mki_alloc(n, 2 * sizeof *s->keys);
    s->values = s->keys ? s->keys + n : NULL;
    return s->keys ? MK_OK : MK_ERR_MEMORY;
}

static int allocate_scratch(mk_session *s)
{
    const mk_config *c = &s->config;
    size_t q_dim = (size_t)c->n_heads * (size_t)c->head_dim, dim = (size_t)c->dim, ffn = (size_t)c->ffn_dim;
    struct { float **at; size_t width; } parts[] = {
        {&s->x, dim}, {&s->normed, dim}, {&s->q, q_dim}, {&s->attended, q_dim},
        {&s->gate, ffn}, {&s->up, ffn}, {&s->rotation, (size_t)c->rope_dim}};
    size_t n_parts = sizeof parts / sizeof *parts, width = 0, n = (size_t)s->n_batch;
    for (size_t i = 0; i < n_parts; i++)
        width += parts[i].width; /* seven terms below 2^31 */
    float *next = mki_alloc(n, width * sizeof *next);
    if (!next)
        return MK_ERR_MEMORY;
    for (size_t i = 0; i < n_parts; i++) {
        *parts[i].at = next;
        next += n * parts[i].width;
    }
    return MK_OK;
}

/* Pair i turns by theta^(-2i / rope_dim) per position, divided by its divisor where the model has one. */
static int tabulate_rope(mk_session *s, const mk_model *model)
{
    const float *divisors = model->rope_freqs.data;
    int32_t n_pairs = s->config.rope_dim / 2;
    s->rope_step = mki_alloc((size_t)n_pairs + 1, sizeof *s->rope_step); /* + 1: never a request for nothing */
    if (!s->rope_step)
        return MK_ERR_MEMORY;
    for (int32_t i = 0; i < n_pairs; i++)
        s->rope_step[i] = pow(s->config.rope_theta, -2.0 * i / s->config.rope_dim) / (divisors ? divisors[i] : 1);
    return MK_OK;
}

int mk_session_new(mk_session **session, const mk_model *model, int32_t n_ctx)
{
    if (!session)
        return MK_ERR_ARGUMENT;
    *session = NULL;
    if (n_ctx <= 0 || mk_model_check(model, NULL))
        return MK_ERR_ARGUMENT;
    mk_session *s = calloc(1, sizeof *s);
    if (!s)
        return MK_ERR_MEMORY;
    s->config = model->config;
    s->n_ctx = n_ctx;
    s->n_batch = n_ctx < MKI_BATCH ? n_ctx : MKI_BATCH;
    if (allocate_cache(s) || allocate_scratch(s) || tabulate_rope(s, model)) {
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
    free(s->x);
    free(s->keys);
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

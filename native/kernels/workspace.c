/* workspace.c - allocation of a workspace. */
#include "workspace.h"
#include "alloc.h"

#include <math.h>
#include <stdlib.h>

/* Allocates the results of one token's attention for each chunk. */
static int allocate_chunks(mk_workspace *w)
{
    const mk_config *c = &w->config;
    size_t n_chunks = ((size_t)w->n_ctx + MKI_CHUNK - 1) / MKI_CHUNK;
    size_t n_rows = n_chunks * (size_t)c->n_heads; /* below 2^57 */
    w->softmax = mki_alloc(n_rows, sizeof *w->softmax + (size_t)c->head_dim * sizeof *w->chunk_sums);
    w->chunk_sums = w->softmax ? (float *)(w->softmax + n_rows) : NULL;
    return w->softmax ? MK_OK : MK_ERR_MEMORY;
}

static int allocate_scratch(mk_workspace *w)
{
    const mk_config *c = &w->config;
    size_t q_dim = (size_t)c->n_heads * (size_t)c->head_dim, kv_dim = (size_t)c->n_kv_heads * (size_t)c->head_dim;
    size_t dim = (size_t)c->dim, ffn = (size_t)c->ffn_dim;
    struct {
        float **at;
        size_t width;
    } parts[] = { { &w->x, dim },    { &w->normed, dim }, { &w->q, q_dim },
                  { &w->k, kv_dim }, { &w->v, kv_dim },   { &w->attended, q_dim },
                  { &w->gate, ffn }, { &w->up, ffn },     { &w->rotation, (size_t)c->rope_dim } };
    size_t n_parts = sizeof parts / sizeof *parts, width = 0, n = (size_t)w->n_batch;
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

static int allocate_rounded(mk_workspace *w)
{
    const mk_config *c = &w->config;
    int64_t q_dim = (int64_t)c->n_heads * c->head_dim, widest = c->dim > c->ffn_dim ? c->dim : c->ffn_dim;
    widest = widest > q_dim ? widest : q_dim;
    w->rounded = mki_alloc(2 * (size_t)w->n_batch * (size_t)(widest / MKI_BLOCK + 1), sizeof *w->rounded);
    return w->rounded ? MK_OK : MK_ERR_MEMORY;
}

/* Pair i turns by theta^(-2i / rope_dim) per position, divided by its divisor where the model has one. */
static int tabulate_rope(mk_workspace *w, const mk_model *model)
{
    const float *divisors = model->rope_freqs;
    int32_t n_pairs = w->config.rope_dim / 2;
    w->rope_step = mki_alloc((size_t)n_pairs + 1, sizeof *w->rope_step); /* + 1: never a request for nothing */
    if (!w->rope_step)
        return MK_ERR_MEMORY;
    for (int32_t i = 0; i < n_pairs; i++)
        w->rope_step[i] = pow(w->config.rope_theta, -2.0 * i / w->config.rope_dim) / (divisors ? divisors[i] : 1);
    return MK_OK;
}

int mk_workspace_new(mk_workspace **workspace, const mk_model *model, int32_t n_ctx)
{
    if (!workspace)
        return MK_ERR_ARGUMENT;
    *workspace = NULL;
    if (n_ctx <= 0 || mk_model_check(model, NULL))
        return MK_ERR_ARGUMENT;
    mk_workspace *w = calloc(1, sizeof *w);
    if (!w)
        return MK_ERR_MEMORY;
    w->config = model->config;
    w->n_ctx = n_ctx;
    w->n_batch = n_ctx < MKI_BATCH ? n_ctx : MKI_BATCH;
    if (allocate_chunks(w) || allocate_scratch(w) || allocate_rounded(w) || tabulate_rope(w, model)) {
        mk_workspace_free(w);
        return MK_ERR_MEMORY;
    }
    *workspace = w;
    return MK_OK;
}

void mk_workspace_free(mk_workspace *w)
{
    if (!w)
        return;
    free(w->rope_step);
    free(w->rounded);
    free(w->x);
    free(w->softmax);
    free(w);
}

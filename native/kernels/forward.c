/* forward.c - the forward pass of LLaMA (Touvron et al. 2023), as the paper has it, over a batch of tokens.
 *
 * Every stage is one job over the pool: over strips of weight rows (matmul.c), over tokens, or over portions of the
 * attention; for a single token, only stages that are worth waking another thread. Each number is computed by one
 * thread in one order, so the result depends neither on the number of threads nor on how a prompt is cut into batches
 * or calls.
 */
#include "isa.h"
#include "matmul.h"
#include "timeline.h"
#include "workspace.h"

#include <math.h>
#include <string.h>

/* Multiplications in one token's attention from which on it is shared: about 5 microseconds of work, which outweigh the
 * one microsecond that another thread takes to join. */
enum { WORTH_SHARING = 1 << 18 };

/* A batch on its way through the layers. */
typedef struct {
    mk_timeline *timeline;
    mk_workspace *w; /* holds the batch's states */
    const mk_model *model;
    mk_pool *pool;
    const mki_isa *isa;
    const int32_t *tokens;
    int32_t n_tokens;
    int32_t n_silent;        /* leading tokens whose final states are not needed */
    int32_t start;           /* position of tokens[0] */
    const mk_layer *layer;   /* the current one */
    const float *norm;       /* (dim) gains of the next normalisation */
    mki_attention attention; /* of the current layer */
} batch;

static int32_t kv_dim(const mk_config *c) { return c->n_kv_heads * c->head_dim; }

static void for_tokens(batch *b, mki_task *stage) { mki_pool_run(b->pool, b->n_tokens, stage, b); }

static void embed(void *arg, int32_t first, int32_t last)
{
    batch *b = arg;
    const mk_config *c = &b->model->config;
    for (int32_t t = first; t < last; t++) {
        float *rotation = b->w->rotation + (int64_t)t * c->rope_dim;
        mk_dequantize_row(&b->model->embed, b->tokens[t], b->w->x + (int64_t)t * c->dim);
        for (int32_t i = 0; i < c->rope_dim / 2; i++) {
            double angle = (b->start + t) * b->w->rope_step[i];
            rotation[i] = (float)cos(angle);
            rotation[c->rope_dim / 2 + i] = (float)sin(angle);
        }
    }
}

static void normalize(void *arg, int32_t first, int32_t last)
{
    batch *b = arg;
    const mk_config *c = &b->model->config;
    for (int64_t t = first; t < last; t++)
        b->isa->stages->normalize(b->w->x + t * c->dim, b->norm, c->norm_eps, c->dim, b->w->normed + t * c->dim);
}

/* x += what the block left in `normed`, then the next normalisation. */
static void add_and_normalize(void *arg, int32_t first, int32_t last)
{
    batch *b = arg;
    int64_t dim = b->model->config.dim;
    for (int64_t t = first; t < last; t++)
        b->isa->stages->add(b->w->x + t * dim, b->w->normed + t * dim, (int32_t)dim);
    normalize(arg, first, last);
}

/* Queries are rotated in place; keys go rotated, and values as they are, into the cache. */
static void rotate_and_remember(void *arg, int32_t first, int32_t last)
{
    batch *b = arg;
    const mk_config *c = &b->model->config;
    for (int32_t t = first; t < last; t++) {
        const float *rotation = b->w->rotation + (int64_t)t * c->rope_dim;
        float *k = b->w->k + (int64_t)t * kv_dim(c), *v = b->w->v + (int64_t)t * kv_dim(c);
        b->isa->stages->rotate(c, rotation, c->n_heads, b->w->q + (int64_t)t * c->n_heads * c->head_dim);
        b->isa->stages->rotate(c, rotation, c->n_kv_heads, k);
        for (int32_t h = 0; h < c->n_kv_heads; h++, k += c->head_dim, v += c->head_dim)
            b->isa->attention->remember(&b->attention.cache, b->start + t, h, k, v);
    }
}

static int32_t group(const mk_config *c) { return c->n_heads / c->n_kv_heads; }

/* Items are portion * n_kv_heads + kv head. Later portions see more positions; the pool hands out the last items first.
 * */
static void attend_portions(void *arg, int32_t first, int32_t last)
{
    batch *b = arg;
    const mk_config *c = &b->model->config;
    int32_t n_queries = b->n_tokens * group(c);
    for (int32_t i = first; i < last; i++) {
        int32_t from = i / c->n_kv_heads * MKI_QUERIES, left = n_queries - from;
        b->isa->attention->attend(&b->attention, i % c->n_kv_heads, from,
                                  from + (left < MKI_QUERIES ? left : MKI_QUERIES));
    }
}

/* Items are chunk * n_kv_heads + kv head, which is the order of the cache. */
static void attend_chunks(void *arg, int32_t first, int32_t last)
{
    batch *b = arg;
    const mk_config *c = &b->model->config;
    for (int32_t i = first; i < last; i++) {
        int64_t chunk = i / c->n_kv_heads, rows = chunk * c->n_heads;
        b->isa->attention->attend_chunk(&b->attention, i % c->n_kv_heads, (int32_t)chunk, b->w->softmax + rows,
                                        b->w->chunk_sums + rows * c->head_dim);
    }
}

/* The heads of a single token are too few to share; its positions may be many. */
static void attend(batch *b)
{
    const mk_config *c = &b->model->config;
    int64_t n_positions = b->start + b->n_tokens, n_products = 2 * n_positions * c->n_heads * c->head_dim;
    if (b->n_tokens == 1 && mk_pool_threads(b->pool) > 1 && n_products >= WORTH_SHARING) {
        int32_t n_chunks = (int32_t)((n_positions + MKI_CHUNK - 1) / MKI_CHUNK);
        mki_pool_run(b->pool, n_chunks * c->n_kv_heads, attend_chunks, b);
        b->isa->attention->merge(&b->attention, n_chunks, b->w->softmax, b->w->chunk_sums);
    } else {
        int32_t n_portions = (b->n_tokens * group(c) + MKI_QUERIES - 1) / MKI_QUERIES;
        mki_pool_run(b->n_tokens > 1 ? b->pool : NULL, n_portions * c->n_kv_heads, attend_portions, b);
    }
}

static void swiglu(void *arg, int32_t first, int32_t last)
{
    batch *b = arg;
    int64_t ffn = b->model->config.ffn_dim;
    for (int64_t t = first; t < last; t++)
        b->isa->stages->swiglu(b->w->gate + t * ffn, b->w->up + t * ffn, (int32_t)ffn);
}

static void multiply(batch *b, const float *x, int32_t width, const mki_product *products, int32_t n)
{
    mki_multiply(b->pool, products, n, (mki_rows){ x, width, b->n_tokens }, b->w->rounded);
}

/* Drops the silent tokens. In the last layer only their keys and values are needed. */
static void drop_silent(batch *b)
{
    const mk_config *c = &b->model->config;
    int64_t dim = c->dim, q_dim = (int64_t)c->n_heads * c->head_dim, n = b->n_silent;
    b->n_tokens -= b->n_silent;
    b->start += b->n_silent;
    b->attention.start = b->start;
    b->n_silent = 0;
    memmove(b->w->x, b->w->x + n * dim, (size_t)(b->n_tokens * dim) * sizeof *b->w->x);
    memmove(b->w->q, b->w->q + n * q_dim, (size_t)(b->n_tokens * q_dim) * sizeof *b->w->q);
}

/* From x and its normalisation to the next x and its normalisation, whose gains are next_norm. */
static void run_layer(batch *b, const float *next_norm)
{
    const mk_config *c = &b->model->config;
    const mk_layer *l = b->layer;
    mk_workspace *w = b->w;
    int32_t q_dim = c->n_heads * c->head_dim;

    mki_product qkv[] = { { &l->wq, w->q, q_dim }, { &l->wk, w->k, kv_dim(c) }, { &l->wv, w->v, kv_dim(c) } };
    multiply(b, w->normed, c->dim, qkv, 3);
    for_tokens(b, rotate_and_remember);
    if (l == &b->model->layers[c->n_layers - 1])
        drop_silent(b);
    if (b->n_tokens == 0)
        return;
    attend(b);
    multiply(b, w->attended, q_dim, &(mki_product){ &l->wo, w->normed, c->dim }, 1);
    b->norm = l->ffn_norm;
    for_tokens(b, add_and_normalize);

    mki_product gate_up[] = { { &l->w_gate, w->gate, c->ffn_dim }, { &l->w_up, w->up, c->ffn_dim } };
    multiply(b, w->normed, c->dim, gate_up, 2);
    for_tokens(b, swiglu);
    multiply(b, w->gate, c->ffn_dim, &(mki_product){ &l->w_down, w->normed, c->dim }, 1);
    b->norm = next_norm;
    for_tokens(b, add_and_normalize);
}

/* Leaves the final normalised states of the tokens that are not silent in `normed`. */
static void run_layers(batch *b)
{
    const mk_config *c = &b->model->config;
    const mk_layer *layers = b->model->layers;
    for_tokens(b, embed);
    b->norm = layers[0].attn_norm;
    for_tokens(b, normalize);
    for (int32_t i = 0; i < c->n_layers; i++) {
        b->layer = &layers[i];
        b->attention = (mki_attention){ b->timeline->cache, b->w->q, b->w->attended, b->start, c->n_heads };
        b->attention.cache.strips += i * b->timeline->layer_bytes;
        run_layer(b, i + 1 < c->n_layers ? layers[i + 1].attn_norm : b->model->out_norm);
    }
}

static int check(const mk_timeline *t, const mk_workspace *w, const mk_model *model, const int32_t *tokens,
                 int32_t n_tokens)
{
    if (!t || !w || !tokens || n_tokens <= 0 || w->n_ctx < t->n_ctx || mk_model_check(model, NULL) ||
        memcmp(&t->config, &model->config, sizeof t->config) != 0 ||
        memcmp(&w->config, &model->config, sizeof w->config) != 0)
        return MK_ERR_ARGUMENT;
    for (int32_t i = 0; i < n_tokens; i++)
        if (tokens[i] < 0 || tokens[i] >= model->config.n_vocab)
            return MK_ERR_ARGUMENT;
    return n_tokens > t->n_ctx - t->length ? MK_ERR_CONTEXT : MK_OK;
}

/* Logits of the tokens that are left, one row each. */
static void score(const batch *b, float *logits)
{
    int64_t dim = b->model->config.dim;
    mki_product head = { &b->model->output, logits, b->model->config.n_vocab };
    mki_multiply(b->pool, &head, 1, (mki_rows){ b->w->normed, dim, b->n_tokens }, b->w->rounded);
}

/* Appends the tokens; logits, unless NULL, are those of the last n_scored. */
static int append(mk_timeline *t, mk_workspace *w, const mk_model *model, mk_pool *pool, const int32_t *tokens,
                  int32_t n_tokens, int32_t n_scored, float *logits)
{
    int status = check(t, w, model, tokens, n_tokens);
    if (status)
        return status;
    batch b = { .timeline = t, .w = w, .model = model, .pool = pool, .isa = mki_isa_current() };
    int32_t n_silent = logits ? n_tokens - n_scored : n_tokens; /* leading tokens without logits */
    for (int32_t done = 0, n; done < n_tokens; done += n) {
        n = n_tokens - done < w->n_batch ? n_tokens - done : w->n_batch;
        b.tokens = tokens + done;
        b.n_tokens = n;
        b.start = t->length + done;
        b.n_silent = n_silent - done < n ? n_silent - done : n;
        b.n_silent = b.n_silent > 0 ? b.n_silent : 0;
        int32_t first = done + b.n_silent - n_silent; /* row of the first token that is not silent */
        run_layers(&b);
        if (b.n_tokens > 0)
            score(&b, logits + (int64_t)first * model->config.n_vocab);
    }
    t->length += n_tokens;
    return MK_OK;
}

int mk_eval(mk_timeline *t, mk_workspace *w, const mk_model *model, mk_pool *pool, const int32_t *tokens,
            int32_t n_tokens, float *logits)
{
    return append(t, w, model, pool, tokens, n_tokens, 1, logits);
}

int mk_eval_all(mk_timeline *t, mk_workspace *w, const mk_model *model, mk_pool *pool, const int32_t *tokens,
                int32_t n_tokens, float *logits)
{
    return append(t, w, model, pool, tokens, n_tokens, n_tokens, logits);
}

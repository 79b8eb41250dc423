/* forward.c - the forward pass of LLaMA (Touvron et al. 2023), as the paper has it, over a batch of tokens.
 *
 * Every stage is one job over the pool: over strips of weight rows (matmul.c), over tokens, or over (token, head).
 * Each number is computed by one thread in one order, so the result depends neither on the number of threads nor on
 * how a prompt is cut into batches or calls.
 */
#include "attention.h"
#include "matmul.h"
#include "session.h"

#include <math.h>
#include <string.h>

/* A batch on its way through the layers. */
typedef struct {
    mk_session *s;
    const mk_model *model;
    mk_pool *pool;
    const mki_ops *ops;
    const int32_t *tokens;
    int32_t n_tokens;
    int32_t start;         /* position of tokens[0] */
    const mk_layer *layer; /* the current one */
    const float *norm;     /* (dim) gains of the next normalisation */
    float *keys, *values;  /* (n_ctx, kv_dim) its cache */
} batch;

static int32_t kv_dim(const mk_config *c) { return c->n_kv_heads * c->head_dim; }

static void for_tokens(batch *b, mki_task *stage) { mki_pool_run(b->pool, b->n_tokens, stage, b); }

static void embed(void *arg, int32_t first, int32_t last)
{
    batch *b = arg;
    const mk_config *c = &b->s->config;
    for (int32_t t = first; t < last; t++) {
        float *rotation = b->s->rotation + (int64_t)t * c->rope_dim;
        mk_dequantize_row(&b->model->embed, b->tokens[t], b->s->x + (int64_t)t * c->dim);
        for (int32_t i = 0; i < c->rope_dim / 2; i++) {
            double angle = (b->start + t) * b->s->rope_step[i];
            rotation[i] = (float)cos(angle);
            rotation[c->rope_dim / 2 + i] = (float)sin(angle);
        }
    }
}

/* normed = x / sqrt(mean(x^2) + eps) * norm */
static void normalize(void *arg, int32_t first, int32_t last)
{
    batch *b = arg;
    int32_t dim = b->s->config.dim;
    for (int32_t t = first; t < last; t++) {
        float *x = b->s->x + (int64_t)t * dim, *out = b->s->normed + (int64_t)t * dim, squares = 0;
        b->ops->add_dots((mki_rows){x, 0, 1}, (mki_rows){x, 0, 1}, dim, &squares, 0);
        float scale = 1 / sqrtf(squares / (float)dim + b->s->config.norm_eps);
        for (int32_t i = 0; i < dim; i++)
            out[i] = x[i] * scale * b->norm[i];
    }
}

/* x += what the block left in `normed`, then the next normalisation. */
static void add_and_normalize(void *arg, int32_t first, int32_t last)
{
    batch *b = arg;
    int64_t dim = b->s->config.dim;
    for (int64_t i = first * dim; i < last * dim; i++)
        b->s->x[i] += b->s->normed[i];
    normalize(arg, first, last);
}

static void rotate_head(const mk_config *c, const float *rotation, float *head)
{
    int32_t n_pairs = c->rope_dim / 2;
    int32_t step = c->rope_neox ? 1 : 2, other = c->rope_neox ? n_pairs : 1;
    for (int32_t i = 0; i < n_pairs; i++) {
        float *a = head + i * step, *b = a + other, cosine = rotation[i], sine = rotation[n_pairs + i];
        float turned = *a * cosine - *b * sine;
        *b = *a * sine + *b * cosine;
        *a = turned;
    }
}

static void rotate(void *arg, int32_t first, int32_t last)
{
    batch *b = arg;
    const mk_config *c = &b->s->config;
    for (int32_t t = first; t < last; t++) {
        const float *rotation = b->s->rotation + (int64_t)t * c->rope_dim;
        float *q = b->s->q + (int64_t)t * c->n_heads * c->head_dim;
        float *k = b->keys + (int64_t)(b->start + t) * kv_dim(c);
        for (int32_t h = 0; h < c->n_heads; h++)
            rotate_head(c, rotation, q + h * c->head_dim);
        for (int32_t h = 0; h < c->n_kv_heads; h++)
            rotate_head(c, rotation, k + h * c->head_dim);
    }
}

/* Items are token * n_heads + head. Query heads share the key and value heads in equal groups. */
static void attend(void *arg, int32_t first, int32_t last)
{
    batch *b = arg;
    const mk_config *c = &b->s->config;
    for (int32_t i = first; i < last; i++) {
        int32_t t = i / c->n_heads, kv_head = i % c->n_heads / (c->n_heads / c->n_kv_heads);
        int64_t offset = (int64_t)kv_head * c->head_dim, at = (int64_t)i * c->head_dim;
        mki_rows k = {b->keys + offset, kv_dim(c), b->start + t + 1}, v = {b->values + offset, kv_dim(c), k.n};
        mki_attend(b->ops, b->s->q + at, k, v, c->head_dim, b->s->attended + at);
    }
}

/* gate = silu(gate) * up */
static void swiglu(void *arg, int32_t first, int32_t last)
{
    batch *b = arg;
    float *gate = b->s->gate, *up = b->s->up;
    int64_t ffn = b->s->config.ffn_dim;
    for (int64_t i = first * ffn; i < last * ffn; i++)
        gate[i] = gate[i] / (1 + expf(-gate[i])) * up[i];
}

static void multiply(batch *b, const float *x, int32_t width, const mki_product *products, int32_t n)
{
    mki_multiply(b->pool, products, n, (mki_rows){x, width, b->n_tokens});
}

/* From x and its normalisation to the next x and its normalisation, whose gains are next_norm. */
static void run_layer(batch *b, const mk_tensor *next_norm)
{
    const mk_config *c = &b->s->config;
    const mk_layer *l = b->layer;
    mk_session *s = b->s;
    int32_t q_dim = c->n_heads * c->head_dim;
    int64_t at = (int64_t)b->start * kv_dim(c);

    mki_product qkv[] = {{&l->wq, s->q, q_dim}, {&l->wk, b->keys + at, kv_dim(c)}, {&l->wv, b->values + at, kv_dim(c)}};
    multiply(b, s->normed, c->dim, qkv, 3);
    for_tokens(b, rotate);
    mki_pool_run(b->pool, b->n_tokens * c->n_heads, attend, b);
    multiply(b, s->attended, q_dim, &(mki_product){&l->wo, s->normed, c->dim}, 1);
    b->norm = l->ffn_norm.data;
    for_tokens(b, add_and_normalize);

    mki_product gate_up[] = {{&l->w_gate, s->gate, c->ffn_dim}, {&l->w_up, s->up, c->ffn_dim}};
    multiply(b, s->normed, c->dim, gate_up, 2);
    for_tokens(b, swiglu);
    multiply(b, s->gate, c->ffn_dim, &(mki_product){&l->w_down, s->normed, c->dim}, 1);
    b->norm = next_norm->data;
    for_tokens(b, add_and_normalize);
}

/* Leaves the batch's final normalised states in `normed`. */
static void run_layers(batch *b)
{
    const mk_config *c = &b->s->config;
    const mk_layer *layers = b->model->layers;
    for_tokens(b, embed);
    b->norm = layers[0].attn_norm.data;
    for_tokens(b, normalize);
    for (int32_t i = 0; i < c->n_layers; i++) {
        int64_t cache = (int64_t)i * b->s->n_ctx * kv_dim(c);
        b->layer = &layers[i];
        b->keys = b->s->keys + cache;
        b->values = b->s->values + cache;
        run_layer(b, i + 1 < c->n_layers ? &layers[i + 1].attn_norm : &b->model->out_norm);
    }
}

static int check(const mk_session *s, const mk_model *model, const int32_t *tokens, int32_t n_tokens)
{
    if (!s || !tokens || n_tokens <= 0 || mk_model_check(model, NULL) ||
        memcmp(&s->config, &model->config, sizeof s->config))
        return MK_ERR_ARGUMENT;
    for (int32_t t = 0; t < n_tokens; t++)
        if (tokens[t] < 0 || tokens[t] >= model->config.n_vocab)
            return MK_ERR_ARGUMENT;
    return n_tokens > s->n_ctx - s->length ? MK_ERR_CONTEXT : MK_OK;
}

/* Logits of the batch's tokens from `first` on, one row each. */
static void score(const batch *b, int32_t first, float *logits)
{
    int64_t dim = b->s->config.dim;
    mki_product head = {&b->model->output, logits, b->s->config.n_vocab};
    mki_multiply(b->pool, &head, 1, (mki_rows){b->s->normed + first * dim, dim, b->n_tokens - first});
}

/* Appends the tokens; logits, unless NULL, are those of the last n_scored. */
static int append(mk_session *s, const mk_model *model, mk_pool *pool, const int32_t *tokens, int32_t n_tokens,
                  int32_t n_scored, float *logits)
{
    int status = check(s, model, tokens, n_tokens);
    if (status)
        return status;
    batch b = {.s = s, .model = model, .pool = pool, .ops = mki_ops_current()};
    int32_t n_silent = logits ? n_tokens - n_scored : n_tokens; /* leading tokens that nobody asks about */
    for (int32_t done = 0; done < n_tokens; done += b.n_tokens) {
        b.tokens = tokens + done;
        b.n_tokens = n_tokens - done < s->n_batch ? n_tokens - done : s->n_batch;
        b.start = s->length + done;
        run_layers(&b);
        int32_t first = done < n_silent ? n_silent - done : 0;
        if (first < b.n_tokens)
            score(&b, first, logits + (int64_t)(done + first - n_silent) * s->config.n_vocab);
    }
    s->length += n_tokens;
    return MK_OK;
}

int mk_eval(mk_session *s, const mk_model *model, mk_pool *pool, const int32_t *tokens, int32_t n_tokens, float *logits)
{
    return append(s, model, pool, tokens, n_tokens, 1, logits);
}

int mk_eval_all(mk_session *s, const mk_model *model, mk_pool *pool, const int32_t *tokens, int32_t n_tokens, float *logits)
{
    return append(s, model, pool, tokens, n_tokens, n_tokens, logits);
}

/* test_kernels_random_model.h - small models with random weights, and the forward pass written once more, dumbly, in
 * double precision over all positions at once: no cache, no batches, no tiles. */
#ifndef TEST_KERNELS_RANDOM_MODEL_H
#define TEST_KERNELS_RANDOM_MODEL_H
#include "test_kernels.h"

/* Quantised types, grouped queries, paired rotation, tied head. */
static const mk_config quantised_config = { .n_layers = 2,
                                            .dim = 64,
                                            .n_heads = 6,
                                            .n_kv_heads = 2,
                                            .head_dim = 16,
                                            .ffn_dim = 96,
                                            .n_vocab = 50,
                                            .n_ctx_train = 512,
                                            .rope_dim = 16,
                                            .rope_theta = 10000,
                                            .norm_eps = 1e-5f };
/* No size a multiple of a vector, half-split rotation of a part of each head with divisors, separate head. */
static const mk_config odd_config = { .n_layers = 2,
                                      .dim = 21,
                                      .n_heads = 3,
                                      .n_kv_heads = 3,
                                      .head_dim = 9,
                                      .ffn_dim = 35,
                                      .n_vocab = 37,
                                      .n_ctx_train = 512,
                                      .rope_dim = 6,
                                      .rope_neox = 1,
                                      .rope_theta = 500000,
                                      .norm_eps = 1e-6f };
/* Columns that take more than one segment of matmul.c in exact mode. */
static const mk_config wide_config = { .n_layers = 1,
                                       .dim = 1056,
                                       .n_heads = 2,
                                       .n_kv_heads = 1,
                                       .head_dim = 16,
                                       .ffn_dim = 2080,
                                       .n_vocab = 33,
                                       .n_ctx_train = 512,
                                       .rope_dim = 16,
                                       .rope_theta = 10000,
                                       .norm_eps = 1e-5f };

/* Values of the size that keeps activations near 1: uniform / sqrt(cols). */
static inline void fill(uint64_t *state, mk_tensor *t, int32_t type, int32_t rows, int32_t cols)
{
    CHECK_EQUAL(mk_tensor_new(t, type, rows, cols), MK_OK);
    float *row = malloc((size_t)cols * sizeof *row);
    CHECK(row);
    for (int32_t r = 0; r < rows; r++) {
        for (int32_t i = 0; i < cols; i++)
            row[i] = 2 * random_float(state) / sqrtf((float)cols);
        CHECK_EQUAL(mk_pack(t, MK_F32, row, r, 1), MK_OK);
    }
    free(row);
}

static inline float *random_vector(uint64_t *state, int32_t n, float center)
{
    float *vector;
    CHECK_EQUAL(mk_vector_new(&vector, n), MK_OK);
    for (int32_t i = 0; i < n; i++)
        vector[i] = center + 2 * random_float(state) / sqrtf((float)n);
    return vector;
}

/* `types` cycles over the weights of a layer. */
static inline mk_model *random_model(uint64_t seed, const mk_config *c, const int32_t *types, int n_types, bool tied)
{
    uint64_t state = seed;
    mk_model *m;
    char what[160];
    int32_t q_dim = c->n_heads * c->head_dim, kv_dim = c->n_kv_heads * c->head_dim;
    CHECK_EQUAL(mk_model_new(&m, c), MK_OK);
    fill(&state, &m->embed, types[0], c->n_vocab, c->dim);
    m->out_norm = random_vector(&state, c->dim, 1);
    if (tied)
        m->output = m->embed;
    else
        fill(&state, &m->output, types[1 % n_types], c->n_vocab, c->dim);
    if (c->rope_neox)
        m->rope_freqs = random_vector(&state, c->rope_dim / 2, 3);
    for (int32_t i = 0; i < c->n_layers; i++) {
        mk_layer *l = &m->layers[i];
        l->attn_norm = random_vector(&state, c->dim, 1);
        fill(&state, &l->wq, types[0], q_dim, c->dim);
        fill(&state, &l->wk, types[1 % n_types], kv_dim, c->dim);
        fill(&state, &l->wv, types[2 % n_types], kv_dim, c->dim);
        fill(&state, &l->wo, types[i % n_types], c->dim, q_dim);
        l->ffn_norm = random_vector(&state, c->dim, 1);
        fill(&state, &l->w_gate, types[0], c->ffn_dim, c->dim);
        fill(&state, &l->w_up, types[1 % n_types], c->ffn_dim, c->dim);
        fill(&state, &l->w_down, types[2 % n_types], c->dim, c->ffn_dim);
    }
    CHECK_EQUAL(mk_model_check(m, what), MK_OK);
    return m;
}

static inline mk_model *quantised_model(void)
{
    static const int32_t types[] = { MK_Q4_1, MK_Q8_0, MK_Q4_0 };
    return random_model(harness_seed(), &quantised_config, types, 3, true);
}

static inline mk_model *odd_model(void)
{
    static const int32_t types[] = { MK_F32, MK_F16, MK_BF16 };
    return random_model(harness_seed(), &odd_config, types, 3, false);
}

static inline mk_model *wide_model(void)
{
    static const int32_t types[] = { MK_Q4_1, MK_F16 };
    return random_model(harness_seed(), &wide_config, types, 2, true);
}

/* The oracle's view of a tensor: (rows, cols) doubles, for free(). */
static inline double *expanded(const mk_tensor *t)
{
    double *out = malloc((size_t)t->rows * (size_t)t->cols * sizeof *out);
    float *row = malloc((size_t)t->cols * sizeof *row);
    for (int32_t r = 0; r < t->rows; r++) {
        CHECK_EQUAL(mk_dequantize_row(t, r, row), MK_OK);
        for (int32_t i = 0; i < t->cols; i++)
            out[(int64_t)r * t->cols + i] = row[i];
    }
    free(row);
    return out;
}

/* out (n, rows) = x (n, cols) times the transpose of t. */
static inline double *oracle_product(const mk_tensor *t, const double *x, int32_t n)
{
    double *w = expanded(t), *out = calloc((size_t)n * (size_t)t->rows, sizeof *out);
    for (int32_t k = 0; k < n; k++)
        for (int32_t r = 0; r < t->rows; r++)
            for (int32_t i = 0; i < t->cols; i++)
                out[(int64_t)k * t->rows + r] += w[(int64_t)r * t->cols + i] * x[(int64_t)k * t->cols + i];
    free(w);
    return out;
}

static inline double *oracle_norm(const mk_model *m, const float *gain, const double *x, int32_t n)
{
    int32_t dim = m->config.dim;
    double *out = malloc((size_t)n * (size_t)dim * sizeof *out);
    for (int32_t t = 0; t < n; t++) {
        double squares = 0;
        for (int32_t i = 0; i < dim; i++)
            squares += x[t * dim + i] * x[t * dim + i];
        for (int32_t i = 0; i < dim; i++)
            out[t * dim + i] = x[t * dim + i] / sqrt(squares / dim + (double)m->config.norm_eps) * (double)gain[i];
    }
    return out;
}

static inline void oracle_rotate(const mk_model *m, double *heads, int32_t n_heads, int32_t position)
{
    const mk_config *c = &m->config;
    const float *divisors = m->rope_freqs;
    int32_t half = c->rope_dim / 2;
    for (int32_t h = 0; h < n_heads; h++)
        for (int32_t i = 0; i < half; i++) {
            double angle =
                position / pow((double)c->rope_theta, 2.0 * i / c->rope_dim) / (divisors ? (double)divisors[i] : 1);
            double *a = heads + h * c->head_dim + (c->rope_neox ? i : 2 * i), *b = a + (c->rope_neox ? half : 1);
            double x = *a, y = *b;
            *a = x * cos(angle) - y * sin(angle);
            *b = x * sin(angle) + y * cos(angle);
        }
}

static inline double *oracle_attention(const mk_config *c, const double *q, const double *k, const double *v, int32_t n)
{
    int32_t q_dim = c->n_heads * c->head_dim, kv_dim = c->n_kv_heads * c->head_dim, hd = c->head_dim;
    double *out = calloc((size_t)n * (size_t)q_dim, sizeof *out), *p = malloc((size_t)n * sizeof *p);
    for (int32_t t = 0; t < n; t++)
        for (int32_t h = 0; h < c->n_heads; h++) {
            int32_t kv = h * c->n_kv_heads / c->n_heads * hd;
            double total = 0;
            for (int32_t s = 0; s <= t; s++) {
                double score = 0;
                for (int32_t i = 0; i < hd; i++)
                    score += q[t * q_dim + h * hd + i] * k[s * kv_dim + kv + i];
                total += p[s] = exp(score / sqrt(hd));
            }
            for (int32_t s = 0; s <= t; s++)
                for (int32_t i = 0; i < hd; i++)
                    out[t * q_dim + h * hd + i] += p[s] / total * v[s * kv_dim + kv + i];
        }
    free(p);
    return out;
}

static inline void oracle_add(double *x, double *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] += y[i];
    free(y);
}

static inline void oracle_layer(const mk_model *m, const mk_layer *l, double *x, int32_t n)
{
    const mk_config *c = &m->config;
    double *h = oracle_norm(m, l->attn_norm, x, n);
    double *q = oracle_product(&l->wq, h, n), *k = oracle_product(&l->wk, h, n), *v = oracle_product(&l->wv, h, n);
    for (int32_t t = 0; t < n; t++) {
        oracle_rotate(m, q + t * c->n_heads * c->head_dim, c->n_heads, t);
        oracle_rotate(m, k + t * c->n_kv_heads * c->head_dim, c->n_kv_heads, t);
    }
    double *a = oracle_attention(c, q, k, v, n);
    oracle_add(x, oracle_product(&l->wo, a, n), (int64_t)n * c->dim);
    free(h), free(q), free(k), free(v), free(a);

    h = oracle_norm(m, l->ffn_norm, x, n);
    double *gate = oracle_product(&l->w_gate, h, n), *up = oracle_product(&l->w_up, h, n);
    for (int64_t i = 0; i < (int64_t)n * c->ffn_dim; i++)
        gate[i] *= up[i] / (1 + exp(-gate[i]));
    oracle_add(x, oracle_product(&l->w_down, gate, n), (int64_t)n * c->dim);
    free(h), free(gate), free(up);
}

/* Logits of the last of n tokens, (n_vocab) doubles, for free(). */
static inline double *oracle_logits(const mk_model *m, const int32_t *tokens, int32_t n)
{
    int32_t dim = m->config.dim;
    double *table = expanded(&m->embed), *x = malloc((size_t)n * (size_t)dim * sizeof *x);
    for (int32_t t = 0; t < n; t++)
        memcpy(x + t * dim, table + tokens[t] * dim, (size_t)dim * sizeof *x);
    for (int32_t i = 0; i < m->config.n_layers; i++)
        oracle_layer(m, &m->layers[i], x, n);
    double *last = oracle_norm(m, m->out_norm, x + (n - 1) * dim, 1), *logits = oracle_product(&m->output, last, 1);
    free(table), free(x), free(last);
    return logits;
}
#endif

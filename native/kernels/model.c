/* model.c - a model's memory: allocated here, filled by a loader, checked before use, freed as a whole.
 *
 * Every pointer in a model owns what it points to and comes from malloc, except that output.data may be embed.data, and
 * that matrices lie in `weights` if there is such a block.
 */
#include "alloc.h"
#include "blocks.h"
#include "packed.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { WHAT_BYTES = 160 }; /* mk_model_check's buffer, as its declaration says */

void *mki_alloc(size_t n, size_t size_bytes)
{
    size_t total;
    if (__builtin_mul_overflow(n, size_bytes, &total) || __builtin_add_overflow(total, MKI_ALIGN - 1, &total))
        return NULL;
    return aligned_alloc(MKI_ALIGN, total & ~(size_t)(MKI_ALIGN - 1));
}

static bool config_is_sane(const mk_config *c)
{
    int32_t width;
    return c->n_layers > 0 && c->dim > 0 && c->n_heads > 0 && c->n_kv_heads > 0 && c->head_dim > 0 && c->ffn_dim > 0 &&
           c->n_vocab > 0 && c->n_ctx_train >= 0 && c->n_heads % c->n_kv_heads == 0 &&
           !__builtin_mul_overflow(c->n_heads, c->head_dim, &width) && c->rope_dim >= 0 && c->rope_dim <= c->head_dim &&
           c->rope_dim % 2 == 0 && (c->rope_neox == 0 || c->rope_neox == 1) && isfinite(c->rope_theta) &&
           c->rope_theta > 0 && isfinite(c->norm_eps) && c->norm_eps >= 0;
}

int mk_model_new(mk_model **model, const mk_config *config)
{
    if (!model)
        return MK_ERR_ARGUMENT;
    *model = NULL;
    if (!config || !config_is_sane(config))
        return MK_ERR_ARGUMENT;
    mk_model *m = calloc(1, sizeof *m);
    if (!m)
        return MK_ERR_MEMORY;
    m->config = *config;
    m->bos_id = m->eos_id = m->eot_id = m->unk_id = -1;
    m->layers = calloc((size_t)config->n_layers, sizeof *m->layers);
    m->tokens = calloc((size_t)config->n_vocab, sizeof *m->tokens);
    if (!m->layers || !m->tokens) {
        mk_model_free(m);
        return MK_ERR_MEMORY;
    }
    *model = m;
    return MK_OK;
}

static void layer_free(const mk_model *m, mk_layer *l)
{
    void *matrices[] = { l->wq.data, l->wk.data, l->wv.data, l->wo.data, l->w_gate.data, l->w_up.data, l->w_down.data };
    for (size_t i = 0; !m->weights && i < sizeof matrices / sizeof *matrices; i++)
        free(matrices[i]);
    free(l->attn_norm);
    free(l->ffn_norm);
}

void mk_model_free(mk_model *m)
{
    if (!m)
        return;
    for (int32_t i = 0; m->layers && i < m->config.n_layers; i++)
        layer_free(m, &m->layers[i]);
    for (int32_t i = 0; m->tokens && i < m->config.n_vocab; i++)
        free(m->tokens[i].bytes);
    if (!m->weights && m->output.data != m->embed.data)
        free(m->output.data);
    if (!m->weights)
        free(m->embed.data);
    void *owned[] = { m->weights, m->out_norm,  m->rope_freqs,    m->layers,        m->tokens,
                      m->name,    m->tokenizer, m->pre_tokenizer, m->chat_template, m->tokenizer_blob };
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        free(owned[i]);
    free(m);
}

/* ---- Tensors ---- */

static bool is_possible(const mk_tensor *t)
{
    return t->rows > 0 && mk_row_bytes(t->type, t->cols) != 0 && mk_packed_type(t->type) == t->type;
}

/* Bytes of a tensor's strips, rounded up to the alignment. */
static bool storage_bytes(const mk_tensor *t, size_t *bytes)
{
    return !__builtin_mul_overflow((size_t)mki_n_strips(t), (size_t)mki_strip_bytes(t->type, t->cols), bytes) &&
           !__builtin_add_overflow(*bytes, (size_t)MKI_ALIGN - 1, bytes) && (*bytes &= ~(size_t)(MKI_ALIGN - 1));
}

/* Zeroes the lanes without a row: stale memory would otherwise end up in a snapshot. */
static void clear_padding(const mk_tensor *t)
{
    int32_t n_strips = mki_n_strips(t), n_groups = t->cols / MKI_BLOCK;
    size_t strip_bytes = (size_t)mki_strip_bytes(t->type, t->cols);
    char *strip = t->data;
    if (mki_is_block_type(t->type) && n_groups % mki_n_sharing(t->type) != 0)
        for (int32_t i = 0; i < n_strips; i++)
            memset(strip + (size_t)i * strip_bytes + mki_scales_at(t->type, n_groups), 0, MKI_LINE / 2);
    if (t->rows % MKI_STRIP != 0)
        memset(strip + (size_t)(n_strips - 1) * strip_bytes, 0, strip_bytes);
}

int mk_tensor_new(mk_tensor *tensor, int32_t type, int32_t rows, int32_t cols)
{
    mk_tensor made = { type, rows, cols, NULL };
    size_t bytes;
    if (!tensor || !is_possible(&made))
        return MK_ERR_ARGUMENT;
    made.data = storage_bytes(&made, &bytes) ? mki_alloc(bytes, 1) : NULL;
    if (!made.data)
        return MK_ERR_MEMORY;
    clear_padding(&made);
    *tensor = made;
    return MK_OK;
}

/* Asks for pages of 2 MiB wherever `block` covers them; a kernel without them loses nothing. */
static void advise_huge(void *block, size_t bytes)
{
    const uintptr_t huge = 2 << 20, start = ((uintptr_t)block + huge - 1) & ~(huge - 1),
                    end = ((uintptr_t)block + bytes) & ~(huge - 1);
    if (start < end)
        madvise((void *)start, end - start, MADV_HUGEPAGE);
}

int mk_weights_new(mk_model *model, mk_tensor *const *tensors, int32_t n)
{
    if (!model || model->weights || !tensors || n <= 0)
        return MK_ERR_ARGUMENT;
    size_t total = 0, bytes;
    for (int32_t i = 0; i < n; i++) {
        if (!is_possible(tensors[i]))
            return MK_ERR_ARGUMENT;
        if (!storage_bytes(tensors[i], &bytes) || __builtin_add_overflow(total, bytes, &total))
            return MK_ERR_MEMORY;
    }
    char *at = model->weights = mki_alloc(total, 1);
    if (!at)
        return MK_ERR_MEMORY;
    advise_huge(at, total);
    for (int32_t i = 0; i < n; i++, at += bytes) {
        storage_bytes(tensors[i], &bytes);
        tensors[i]->data = at;
        clear_padding(tensors[i]);
    }
    return MK_OK;
}

int mk_vector_new(float **vector, int32_t n)
{
    if (!vector)
        return MK_ERR_ARGUMENT;
    *vector = NULL;
    if (n <= 0)
        return MK_ERR_ARGUMENT;
    *vector = mki_alloc((size_t)n, sizeof **vector);
    if (!*vector)
        return MK_ERR_MEMORY;
    memset(*vector, 0, (size_t)n * sizeof **vector);
    return MK_OK;
}

char *mk_bytes_copy(const char *bytes, int64_t n_bytes)
{
    if (n_bytes < 0 || n_bytes == INT64_MAX || (!bytes && n_bytes))
        return NULL;
    char *copy = malloc((size_t)n_bytes + 1);
    if (!copy)
        return NULL;
    if (n_bytes)
        memcpy(copy, bytes, (size_t)n_bytes);
    copy[n_bytes] = 0;
    return copy;
}

static void name_place(int32_t layer, const char *name, char *what)
{
    if (layer >= 0)
        snprintf(what, WHAT_BYTES, "layer %d %s", layer, name);
    else
        snprintf(what, WHAT_BYTES, "%s", name);
}

/* Whether `t` is a rows x cols tensor of a type that can be packed; if not, `what` says so of "layer.name". */
static bool shaped(const mk_tensor *t, int32_t rows, int32_t cols, int32_t layer, const char *name, char *what)
{
    if (t->data && t->rows == rows && t->cols == cols && mk_row_bytes(t->type, cols) &&
        mk_packed_type(t->type) == t->type)
        return true;
    char place[WHAT_BYTES];
    name_place(layer, name, place);
    if (what && t->data)
        snprintf(what, WHAT_BYTES, "%.40s: found %d x %d of type %d, expected %d x %d", place, t->rows, t->cols,
                 t->type, rows, cols);
    else if (what)
        snprintf(what, WHAT_BYTES, "%.40s: absent, expected %d x %d", place, rows, cols);
    return false;
}

static bool present(const float *vector, int32_t n, int32_t layer, const char *name, char *what)
{
    if (vector)
        return true;
    char place[WHAT_BYTES];
    name_place(layer, name, place);
    if (what)
        snprintf(what, WHAT_BYTES, "%.40s: absent, expected %d values", place, n);
    return false;
}

static bool layer_is_shaped(const mk_config *c, const mk_layer *l, int32_t i, char *what)
{
    int32_t q_dim = c->n_heads * c->head_dim, kv_dim = c->n_kv_heads * c->head_dim;
    return present(l->attn_norm, c->dim, i, "attn_norm", what) && shaped(&l->wq, q_dim, c->dim, i, "wq", what) &&
           shaped(&l->wk, kv_dim, c->dim, i, "wk", what) && shaped(&l->wv, kv_dim, c->dim, i, "wv", what) &&
           shaped(&l->wo, c->dim, q_dim, i, "wo", what) && present(l->ffn_norm, c->dim, i, "ffn_norm", what) &&
           shaped(&l->w_gate, c->ffn_dim, c->dim, i, "w_gate", what) &&
           shaped(&l->w_up, c->ffn_dim, c->dim, i, "w_up", what) &&
           shaped(&l->w_down, c->dim, c->ffn_dim, i, "w_down", what);
}

int mk_model_check(const mk_model *m, char *what)
{
    if (what)
        what[0] = 0;
    if (!m || !config_is_sane(&m->config) || !m->layers) {
        if (what)
            snprintf(what, WHAT_BYTES, "config: a dimension is zero, negative, too large or does not divide");
        return MK_ERR_ARGUMENT;
    }
    const mk_config *c = &m->config;
    bool good = shaped(&m->embed, c->n_vocab, c->dim, -1, "embed", what) &&
                present(m->out_norm, c->dim, -1, "out_norm", what) &&
                shaped(&m->output, c->n_vocab, c->dim, -1, "output", what);
    for (int32_t i = 0; good && i < c->n_layers; i++)
        good = layer_is_shaped(c, &m->layers[i], i, what);
    return good ? MK_OK : MK_ERR_ARGUMENT;
}

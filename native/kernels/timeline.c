/* timeline.c - allocation and length of a timeline, and saving and restoring of its state. */
#include "timeline.h"
#include "alloc.h"

#include <stdlib.h>
#include <string.h>

/* Whether a * b * c fits. */
static bool product(size_t *out, size_t a, size_t b, size_t c)
{
    return !__builtin_mul_overflow(a, b, out) && !__builtin_mul_overflow(*out, c, out);
}

static int allocate_cache(mk_timeline *t, int32_t type)
{
    const mk_config *c = &t->config;
    int64_t strip_bytes = mki_cache_strip_bytes(type, c->head_dim);
    size_t n_chunks = ((size_t)t->n_ctx + MKI_CHUNK - 1) / MKI_CHUNK, layer_bytes;
    if (!product(&layer_bytes, n_chunks, (size_t)c->n_kv_heads, (size_t)strip_bytes) || layer_bytes > INT64_MAX)
        return MK_ERR_MEMORY;
    t->layer_bytes = (int64_t)layer_bytes;
    t->cache =
        (mki_cache){ type, c->head_dim, c->n_kv_heads, strip_bytes, mki_alloc((size_t)c->n_layers, layer_bytes) };
    return t->cache.strips ? MK_OK : MK_ERR_MEMORY;
}

int mk_timeline_new(mk_timeline **timeline, const mk_model *model, int32_t n_ctx, int32_t cache_type)
{
    if (!timeline)
        return MK_ERR_ARGUMENT;
    *timeline = NULL;
    bool is_known = cache_type == MK_F32 || cache_type == MK_I16 || cache_type == MK_Q8_0;
    if (n_ctx <= 0 || !is_known || mk_model_check(model, NULL))
        return MK_ERR_ARGUMENT;
    mk_timeline *t = calloc(1, sizeof *t);
    if (!t)
        return MK_ERR_MEMORY;
    t->config = model->config;
    t->n_ctx = n_ctx;
    if (allocate_cache(t, cache_type)) {
        mk_timeline_free(t);
        return MK_ERR_MEMORY;
    }
    *timeline = t;
    return MK_OK;
}

void mk_timeline_free(mk_timeline *t)
{
    if (!t)
        return;
    free(t->cache.strips);
    free(t);
}

int32_t mk_timeline_length(const mk_timeline *t) { return t ? t->length : 0; }
int32_t mk_timeline_context(const mk_timeline *t) { return t ? t->n_ctx : 0; }

int mk_timeline_truncate(mk_timeline *t, int32_t length)
{
    if (!t || length < 0 || length > t->length)
        return MK_ERR_ARGUMENT;
    t->length = length;
    return MK_OK;
}

/* ---- Saving and restoring ---- */

/* Bytes of a layer's cache that hold n tokens: whole chunks, which follow each other. */
static size_t held_bytes(const mk_timeline *t, int32_t n)
{
    return ((size_t)n + MKI_CHUNK - 1) / MKI_CHUNK * (size_t)t->cache.n_kv_heads * (size_t)t->cache.strip_bytes;
}

int64_t mk_timeline_state_bytes(const mk_timeline *t, int32_t n_tokens)
{
    if (!t || n_tokens < 0 || n_tokens > t->n_ctx)
        return 0;
    return (int64_t)((size_t)t->config.n_layers * held_bytes(t, n_tokens)); /* no more than the cache itself */
}

int mk_timeline_save(const mk_timeline *t, void *out, int64_t n_bytes)
{
    if (!t || !out || n_bytes != mk_timeline_state_bytes(t, t->length))
        return MK_ERR_ARGUMENT;
    size_t held = held_bytes(t, t->length);
    for (int32_t layer = 0; layer < t->config.n_layers; layer++)
        memcpy((char *)out + (size_t)layer * held, t->cache.strips + layer * t->layer_bytes, held);
    return MK_OK;
}

int mk_timeline_load(mk_timeline *t, const void *in, int64_t n_bytes, int32_t n_tokens)
{
    if (!t || !in || n_tokens < 0 || n_tokens > t->n_ctx || n_bytes != mk_timeline_state_bytes(t, n_tokens))
        return MK_ERR_ARGUMENT;
    size_t held = held_bytes(t, n_tokens);
    for (int32_t layer = 0; layer < t->config.n_layers; layer++)
        memcpy(t->cache.strips + layer * t->layer_bytes, (const char *)in + (size_t)layer * held, held);
    t->length = n_tokens;
    return MK_OK;
}

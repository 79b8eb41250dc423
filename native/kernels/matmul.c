/* matmul.c - weights times a batch of vectors: the strips of all weights are one queue for the pool.
 *
 * Strips are multiplied by the whole batch before the next ones are touched: they come from memory once, and the batch
 * of activations, which all strips need, stays in the second-level cache.
 */
#include "matmul.h"
#include "isa.h"

#include <stdatomic.h>

/* columns expanded to float32 at once in exact mode: 16 KiB of a strip, half a first-level cache */
enum { SEGMENT = 256 };

static atomic_bool is_exact;

void mk_exact_choose(bool exact) { atomic_store(&is_exact, exact); }

typedef struct {
    const mki_strip_ops *ops;
    const mki_product *products;
    mki_rows x;
    mki_q8_rows rounded; /* x, rounded; without data if float32 is needed */
    mki_q8 *scratch;
} job;

static void round_vectors(void *arg, int32_t first, int32_t last)
{
    job *j = arg;
    for (int32_t v = first; v < last; v++)
        j->ops->quantize(j->x.data + v * j->x.stride, (int32_t)j->rounded.stride, j->scratch + v * j->rounded.stride,
                         j->scratch + (j->x.n + v) * j->rounded.stride);
}

static void multiply_exactly(const job *j, mki_strips w, float *out, int64_t stride)
{
    _Alignas(MKI_LINE) float expanded[SEGMENT * MKI_STRIP];
    for (int32_t col = 0; col < w.cols; col += SEGMENT) {
        int32_t n = w.cols - col < SEGMENT ? w.cols - col : SEGMENT;
        mki_strips part = { MK_F32, n, w.n_rows, (const char *)expanded };
        j->ops->expand(w, col, n, expanded);
        j->ops->multiply_floats(part, (mki_rows){ j->x.data + col, j->x.stride, j->x.n }, col > 0, out, stride);
    }
}

/* Strips first .. last-1 of one weight. */
static void multiply_weight(const job *j, const mki_product *p, int32_t first, int32_t last)
{
    if (mki_is_block_type(p->w->type) && j->rounded.blocks) {
        j->ops->multiply_blocks(mki_strips_of(p->w, first, last - first), j->rounded,
                                p->out + (int64_t)first * MKI_STRIP, p->stride);
        return;
    }
    for (int32_t i = first; i < last; i++) {
        mki_strips w = mki_strips_of(p->w, i, 1);
        float *out = p->out + (int64_t)i * MKI_STRIP;
        if (mki_is_block_type(w.type))
            multiply_exactly(j, w, out, p->stride);
        else
            j->ops->multiply_floats(w, j->x, false, out, p->stride);
    }
}

static void multiply_strips(void *arg, int32_t first, int32_t last)
{
    const job *j = arg;
    const mki_product *p = j->products;
    for (; first < last; p++) {
        int32_t n = mki_n_strips(p->w), end = last < n ? last : n;
        if (first < n)
            multiply_weight(j, p, first, end);
        first = first > n ? first - n : 0; /* counted from the next weight's first strip */
        last -= n;
    }
}

void mki_multiply(mk_pool *pool, const mki_product *products, int32_t n_products, mki_rows x, mki_q8 *scratch)
{
    job j = { .ops = mki_isa_current()->strips, .products = products, .x = x, .scratch = scratch };
    int32_t total = 0;
    bool wants_rounded = false;
    for (int32_t i = 0; i < n_products; i++) {
        total += mki_n_strips(products[i].w);
        wants_rounded |= mki_is_block_type(products[i].w->type);
    }
    if (wants_rounded && !atomic_load(&is_exact)) {
        int64_t n_blocks = products[0].w->cols / MKI_BLOCK;
        j.rounded = (mki_q8_rows){ scratch, scratch + x.n * n_blocks, n_blocks, x.n };
        mki_pool_run(pool, x.n, round_vectors, &j);
    }
    mki_pool_run(pool, total, multiply_strips, &j);
}

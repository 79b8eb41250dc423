/* matmul.c - weights times a batch of vectors: the rows of all weights are one queue of strips for the pool.
 *
 * A few rows at a time are expanded to float32 in first-level cache, then multiplied by every vector of the batch, so
 * that a prompt pays for the expansion once per batch. One vector takes the same way and so gets the same bits.
 */
#include "matmul.h"

#include <string.h>

enum {
    STRIP = 16,          /* rows handed to a thread at least: one cache line of results */
    TILE = 4,            /* rows expanded together */
    SEGMENT = 1024,      /* columns expanded together; a sum is a sum of segments. TILE of them take 16 KiB */
    SKEW = SEGMENT + 16, /* floats from one expanded row to the next, which so fall into different cache sets */
};

typedef struct {
    const mki_ops *ops;
    const mki_product *products;
    mki_rows x;
} job;

static int32_t n_strips(const mk_tensor *w) { return w->rows / STRIP + (w->rows % STRIP != 0); }

static void multiply_tile(const job *j, const mki_product *p, int32_t first_row, int32_t n_rows)
{
    _Alignas(64) float expanded[TILE * SKEW];
    const mk_tensor *w = p->w;
    const char *row = (const char *)w->data + first_row * mk_row_bytes(w->type, w->cols);
    float *out = p->out + first_row;
    for (int32_t v = 0; v < j->x.n; v++)
        memset(out + v * p->stride, 0, (size_t)n_rows * sizeof *out);
    for (int32_t col = 0; col < w->cols; col += SEGMENT) {
        int32_t n = w->cols - col < SEGMENT ? w->cols - col : SEGMENT;
        for (int32_t r = 0; r < n_rows; r++)
            j->ops->dequantize(w->type, row + r * mk_row_bytes(w->type, w->cols) + mk_row_bytes(w->type, col), n,
                               expanded + r * SKEW);
        mki_rows tile = {expanded, SKEW, n_rows}, x = {j->x.data + col, j->x.stride, j->x.n};
        j->ops->add_dots(tile, x, n, out, p->stride);
    }
}

static void multiply_strip(const job *j, const mki_product *p, int32_t strip)
{
    for (int32_t row = strip * STRIP; row < (strip + 1) * STRIP && row < p->w->rows; row += TILE)
        multiply_tile(j, p, row, p->w->rows - row < TILE ? p->w->rows - row : TILE);
}

static void multiply_strips(void *arg, int32_t first, int32_t last)
{
    const job *j = arg;
    const mki_product *p = j->products;
    int32_t base = 0; /* number of p's first strip */
    for (int32_t i = first; i < last; i++) {
        for (; i - base >= n_strips(p->w); p++)
            base += n_strips(p->w);
        multiply_strip(j, p, i - base);
    }
}

void mki_multiply(mk_pool *pool, const mki_product *products, int32_t n_products, mki_rows x)
{
    job j = {mki_ops_current(), products, x};
    int32_t total = 0;
    for (int32_t i = 0; i < n_products; i++)
        total += n_strips(products[i].w);
    mki_pool_run(pool, total, multiply_strips, &j);
}

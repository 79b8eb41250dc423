/* matmul.c - weights times a batch of vectors: the rows of all weights are one queue of strips for the pool.
 *
 * A few rows at a time are expanded to float32 in first-level cache, then multiplied by every vector of the batch, so
 * that a prompt pays for the expansion once per batch. A single vector needs the expanded rows only once and skips
 * the cache where the kernels can; the sums, and so the bits, are the same.
 */
#include "matmul.h"
#include "alloc.h"
#include "blocks.h"

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

/* A tile's rows are read side by side, which hides from the processor that they follow each other in memory. */
static void prefetch(const char *data, int64_t n_bytes)
{
    for (int64_t i = 0; i < n_bytes; i += MKI_ALIGN)
        __builtin_prefetch(data + i);
}

static void expand(const mki_ops *ops, mki_stored w, int32_t n, float *expanded)
{
    for (int32_t r = 0; r < w.n; r++)
        ops->dequantize(w.type, (const char *)w.data + r * w.row_bytes, n, expanded + r * SKEW);
}

static void multiply_tile(const job *j, const mki_product *p, int32_t first_row, int32_t n_rows)
{
    _Alignas(MKI_ALIGN) float expanded[TILE * SKEW];
    const mk_tensor *w = p->w;
    int64_t row_bytes = mk_row_bytes(w->type, w->cols);
    const char *rows = (const char *)w->data + first_row * row_bytes;
    bool direct = j->x.n == 1 && j->ops->add_block_dots && mki_is_block_type(w->type);
    float *out = p->out + first_row;

    if (direct && first_row + 2 * TILE <= w->rows)
        prefetch(rows + TILE * row_bytes, TILE * row_bytes);
    for (int32_t v = 0; v < j->x.n; v++)
        memset(out + v * p->stride, 0, (size_t)n_rows * sizeof *out);
    for (int32_t col = 0; col < w->cols; col += SEGMENT) {
        int32_t n = w->cols - col < SEGMENT ? w->cols - col : SEGMENT;
        mki_stored part = {w->type, rows + mk_row_bytes(w->type, col), row_bytes, n_rows};
        mki_rows x = {j->x.data + col, j->x.stride, j->x.n};
        if (direct) {
            j->ops->add_block_dots(part, x.data, n, out);
        } else {
            expand(j->ops, part, n, expanded);
            j->ops->add_dots((mki_rows){expanded, SKEW, n_rows}, x, n, out, p->stride);
        }
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

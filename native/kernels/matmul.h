/* matmul.h - weights times a batch of vectors. */
#ifndef MK_MATMUL_H
#define MK_MATMUL_H
#include "pool.h"
#include "strips.h"

/* out[v * stride + r] = w[r] . x[v] for every row r of w and every vector v. */
typedef struct {
    const mk_tensor *w;
    float *out;
    int64_t stride;
} mki_product;

/* All `products` of the same vectors x, as one job. Where a weight is of a block type, x is rounded into `scratch`
 * first: 2 * x.n * (columns / 32) blocks. */
void mki_multiply(mk_pool *pool, const mki_product *products, int32_t n_products, mki_rows x, mki_q8 *scratch);
#endif

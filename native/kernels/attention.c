/* attention.c - one query over the positions before it, in one pass over chunks of them: `peak` is the largest score so
 * far, and sums taken under a smaller one are scaled down to it (Milakov & Gimelshein 2018).
 */
#include "attention.h"

#include <math.h>
#include <string.h>

/* Positions whose scores are held at once. Chunks begin at multiples of it, whatever the batch. */
enum { CHUNK = 128 };

void mki_attend(const mki_ops *ops, const float *q, mki_rows k, mki_rows v, int32_t head_dim, float *out)
{
    float scores[CHUNK], peak = -INFINITY, total = 0, scale = 1 / sqrtf((float)head_dim);
    memset(out, 0, (size_t)head_dim * sizeof *out);
    for (int32_t first = 0; first < k.n; first += CHUNK) {
        int32_t n = k.n - first < CHUNK ? k.n - first : CHUNK;
        mki_rows keys = {k.data + first * k.stride, k.stride, n}, values = {v.data + first * v.stride, v.stride, n};
        float last_peak = peak;
        memset(scores, 0, sizeof scores);
        ops->add_dots(keys, (mki_rows){q, 0, 1}, head_dim, scores, 0);
        for (int32_t i = 0; i < n; i++)
            peak = fmaxf(peak, scores[i] *= scale);
        float shrink = expf(last_peak - peak); /* 0 for the first chunk */
        total *= shrink;
        for (int32_t i = 0; i < head_dim; i++)
            out[i] *= shrink;
        for (int32_t i = 0; i < n; i++)
            total += scores[i] = expf(scores[i] - peak);
        ops->add_weighted(scores, values, head_dim, out);
    }
    for (int32_t i = 0; i < head_dim; i++)
        out[i] /= total;
}

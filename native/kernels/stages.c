/* stages.c - normalisation, rotation and activation, compiled once per instruction set. */
#include "stages.h"
#include "exp.h"
#include "vector.h"

static void normalize(const float *x, const float *gain, float eps, int32_t n, float *out)
{
    float scale = 1 / sqrtf(sum_of_squares(x, n) / (float)n + eps);
    for (int32_t i = 0; i < n; i++)
        out[i] = x[i] * scale * gain[i];
}

static void add(float *x, const float *y, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        x[i] += y[i];
}

INLINE void rotate_head(const float *restrict cosines, const float *restrict sines, int32_t n_pairs, const int step,
                        int32_t other, float *restrict head)
{
    for (int32_t i = 0; i < n_pairs; i++) {
        float a = head[i * step], b = head[i * step + other];
        head[i * step] = a * cosines[i] - b * sines[i];
        head[i * step + other] = a * sines[i] + b * cosines[i];
    }
}

static void rotate(const mk_config *c, const float *rotation, int32_t n_heads, float *heads)
{
    int32_t n_pairs = c->rope_dim / 2;
    for (int32_t h = 0; h < n_heads; h++, heads += c->head_dim)
        if (c->rope_neox)
            rotate_head(rotation, rotation + n_pairs, n_pairs, 1, n_pairs, heads);
        else
            rotate_head(rotation, rotation + n_pairs, n_pairs, 2, 1, heads);
}

static void swiglu(float *gate, const float *up, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        gate[i] = gate[i] / (1 + mki_exp(-gate[i])) * up[i];
}

const mki_stage_ops MKI_ISA(mki_stage_ops) = {
    .normalize = normalize,
    .add = add,
    .rotate = rotate,
    .swiglu = swiglu,
};

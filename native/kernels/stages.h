/* stages.h - operations on the vector of one token between two products. */
#ifndef MK_STAGES_H
#define MK_STAGES_H
#include "llama_kernels.h"

/* All give the same bits on every instruction set. */
typedef struct {
    /* out = x / sqrt(mean(x^2) + eps) * gain */
    void (*normalize)(const float *x, const float *gain, float eps, int32_t n, float *out);
    /* x += y */
    void (*add)(float *x, const float *y, int32_t n);
    /* Rotates the first rope_dim dimensions of each head by the angles whose cosines, then sines `rotation` holds. */
    void (*rotate)(const mk_config *c, const float *rotation, int32_t n_heads, float *heads);
    /* gate = silu(gate) * up */
    void (*swiglu)(float *gate, const float *up, int32_t n);
} mki_stage_ops;

extern const mki_stage_ops mki_stage_ops_portable;
#endif

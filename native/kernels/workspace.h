/* workspace.h - the scratch memory of a forward pass. */
#ifndef MK_WORKSPACE_H
#define MK_WORKSPACE_H
#include "attention.h"
#include "strips.h"

/* Tokens that go through the layers together: enough that loading the weights from memory costs little beside the
 * products. */
enum { MKI_BATCH = 128 };

struct mk_workspace {
    mk_config config;     /* of the model it was made for */
    int32_t n_ctx;        /* tokens of the longest timeline it serves */
    int32_t n_batch;      /* tokens it has room for */
    mki_softmax *softmax; /* (n_chunks, n_heads) of one token's attention, to be merged; owns chunk_sums */
    float *chunk_sums;    /* (n_chunks, n_heads, head_dim) */
    double *rope_step;    /* (rope_dim / 2) radians per position */
    /* One row per token of a batch. x owns all of it. */
    float *x;         /* (n_batch, dim) residual stream */
    float *normed;    /* (n_batch, dim) input of a block, then what it adds to x */
    float *q;         /* (n_batch, n_heads * head_dim) queries */
    float *k, *v;     /* (n_batch, n_kv_heads * head_dim) keys and values, before they go into the cache */
    float *attended;  /* (n_batch, n_heads * head_dim) */
    float *gate, *up; /* (n_batch, ffn_dim) */
    float *rotation;  /* (n_batch, rope_dim) cosines, then sines */
    mki_q8 *rounded;  /* (2, n_batch, widest / 32) input of a multiplication as integers, and rests */
};
#endif

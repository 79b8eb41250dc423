/* attention.h - one query over the positions before it. */
#ifndef MK_ATTENTION_H
#define MK_ATTENTION_H
#include "ops.h"

/* out = softmax(q . k / sqrt(head_dim)) . v over positions 0 .. k.n-1; k and v are of equal length. */
void mki_attend(const mki_ops *ops, const float *q, mki_rows k, mki_rows v, int32_t head_dim, float *out);
#endif

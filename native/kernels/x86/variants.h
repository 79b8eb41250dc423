/* variants.h - kernels that are compiled on every x86-64, and callable only where isas.c allows. */
#ifndef MK_VARIANTS_H
#define MK_VARIANTS_H
#include "isa.h"

extern const mki_strip_ops mki_strips_avx2, mki_strips_avx2_vnni, mki_strips_avx512;
extern const mki_attention_ops mki_attention_ops_sse2, mki_attention_ops_avx2, mki_attention_ops_avx512;
extern const mki_stage_ops mki_stage_ops_sse2, mki_stage_ops_avx2, mki_stage_ops_avx512;

#endif

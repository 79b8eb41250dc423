/* blocks.h - weight storage as GGUF defines it (ggml-common.h): blocks of 32 values behind a half-precision scale.
 *
 *   Q4_0  value = d * (q - 8)      Q4_1  value = d * q + m      Q8_0  value = d * q
 *
 * In 4-bit blocks byte i holds value i in its low half and value i + 16 in its high half. A half has 11 significant
 * bits and q at most 8, so d * q is exact in float32 and a fused multiply-add gives the same bits as two operations.
 */
#ifndef MK_BLOCKS_H
#define MK_BLOCKS_H
#include "llama_kernels.h"

enum { MKI_BLOCK = 32 }; /* values in a block of every quantised type; columns are cut at multiples of it */

typedef struct { uint16_t d; uint8_t q[16]; } mki_q4_0;
typedef struct { uint16_t d, m; uint8_t q[16]; } mki_q4_1;
typedef struct { uint16_t d; int8_t q[32]; } mki_q8_0;

_Static_assert(sizeof(mki_q4_0) == 18 && sizeof(mki_q4_1) == 20 && sizeof(mki_q8_0) == 34, "as in GGUF");

static inline bool mki_is_block_type(int32_t type) { return type == MK_Q4_0 || type == MK_Q4_1 || type == MK_Q8_0; }
#endif

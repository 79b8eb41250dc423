/* blocks.h - weights as files hold them (GGUF, ggml-common.h): rows of values, or of blocks behind half-precision
 * scales.
 *
 *   Q4_0  value = d * (q - 8)      Q4_1  value = d * q + m      Q8_0  value = d * q              in blocks of 32
 *   Q4_K, Q5_K  value = d * scale * q - dmin * min     scale and min of 6 bits for each 32       in blocks of 256
 *   Q6_K        value = d * scale * (q - 32)           scale of 8 bits for each 16               in blocks of 256
 */
#ifndef MK_BLOCKS_H
#define MK_BLOCKS_H
#include "llama_kernels.h"

enum { MKI_SUPER = 256 }; /* values in a block of a K type */

/* byte i: value i in the low half, i + 16 in the high half */
typedef struct {
    uint16_t d;
    uint8_t q[16];
} mki_q4_0;
typedef struct {
    uint16_t d, m;
    uint8_t q[16];
} mki_q4_1; /* likewise */
typedef struct {
    uint16_t d;
    int8_t q[32];
} mki_q8_0;
typedef struct {
    uint16_t d, dmin;
    uint8_t scales[12]; /* 8 scales and 8 mins, see scale_and_min in blocks.c */
    uint8_t q[4][32];   /* byte i of k: value 64k + i in the low half, 64k + 32 + i in the high half */
} mki_q4_k;
typedef struct {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t high[32]; /* bit 2k of byte i: fifth bit of value 64k + i; bit 2k + 1: of 64k + 32 + i */
    uint8_t q[4][32];
} mki_q5_k;
typedef struct {
    uint8_t low[2][2][32]; /* byte i of [n][k]: low bits of value 128n + 32k + i, and of 128n + 32k + 64 + i */
    uint8_t high[2][32];   /* bits 2k.. of byte i of [n]: high bits of value 128n + 32k + i */
    int8_t scales[16];
    uint16_t d;
} mki_q6_k;

_Static_assert(sizeof(mki_q4_0) == 18 && sizeof(mki_q4_1) == 20 && sizeof(mki_q8_0) == 34, "as in GGUF");
_Static_assert(sizeof(mki_q4_k) == 144 && sizeof(mki_q5_k) == 176 && sizeof(mki_q6_k) == 210, "as in GGUF");

/* A row of `cols` values of `type` as float32. */
void mki_read_row(int32_t type, const void *row, int32_t cols, float *out);
/* The scales and values of a Q4_K row as Q4_1 blocks: d * scale and dmin * min are rounded to halves, q is kept. False
 * if one of them is not finite. */
bool mki_regroup_q4_k(const mki_q4_k *row, int32_t cols, mki_q4_1 *out);
/* cols float32 as a row of a block type; false if a value, or the scale it would need, is not finite. */
bool mki_quantize_row(int32_t type, const float *x, int32_t cols, void *row);
#endif

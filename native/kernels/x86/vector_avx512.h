/* vector_avx512.h - vectors of 16 floats (AVX-512 F, BW, VL, VNNI), for vector.h. */
#ifndef MK_VECTOR_AVX512_H
#define MK_VECTOR_AVX512_H
#include <stdint.h>
#include <string.h>

#include "folds.h"

#define MKI_ISA(name) name##_avx512
enum { LANES = 16, TILE_ROWS = 6, TILE_VECTORS = 4 }; /* 24 sums, 6 factors and a vector fill 31 of 32 registers */
typedef __m512 vector;
typedef __m512i pairs; /* of 16-bit integers, one in each lane; or their sums of 32 bits */
INLINE vector multiply_add(vector a, vector b, vector c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vector larger(vector a, vector b) { return _mm512_max_ps(a, b); }
INLINE vector load_halves(const uint16_t *from) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)from)); }
INLINE pairs load_bytes(const int8_t *from) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)from)); }
INLINE vector to_floats(pairs sum) { return _mm512_cvtepi32_ps(sum); }
INLINE pairs add_products(pairs sum, pairs a, pairs b) { return _mm512_dpwssd_epi32(sum, a, b); }

#endif

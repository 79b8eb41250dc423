/* vector_avx2.h - vectors of 8 floats (AVX2, FMA, F16C), for vector.h. */
#ifndef MK_VECTOR_AVX2_H
#define MK_VECTOR_AVX2_H
#include <stdint.h>
#include <string.h>

#include "folds.h"

#define MKI_ISA(name) name##_avx2
/* 8 sums, 4 factors, a vector and a product fill 14 of 16 registers */
enum { LANES = 8, TILE_ROWS = 4, TILE_VECTORS = 2 };
typedef __m256 vector;
typedef __m256i pairs;
INLINE vector multiply_add(vector a, vector b, vector c) { return _mm256_fmadd_ps(a, b, c); }
INLINE vector larger(vector a, vector b) { return _mm256_max_ps(a, b); }
INLINE vector load_halves(const uint16_t *from) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)from)); }
INLINE pairs load_bytes(const int8_t *from) { return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)from)); }
INLINE vector to_floats(pairs sum) { return _mm256_cvtepi32_ps(sum); }
INLINE pairs add_products(pairs sum, pairs a, pairs b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }

#endif

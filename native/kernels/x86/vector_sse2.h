/* vector_sse2.h - vectors of 4 floats (SSE2, which every x86-64 has), for vector.h. */
#ifndef MK_VECTOR_SSE2_H
#define MK_VECTOR_SSE2_H
#include <stdint.h>
#include <string.h>

#include "folds.h"

#define MKI_ISA(name) name##_sse2
enum { LANES = 4, TILE_ROWS = 4, TILE_VECTORS = 2 };
typedef __m128 vector;
typedef __m128i pairs;
INLINE vector multiply_add(vector a, vector b, vector c) { return a * b + c; }
INLINE vector larger(vector a, vector b) { return _mm_max_ps(a, b); }
INLINE vector load_halves(const uint16_t *from)
{
    _Float16 values[4];
    memcpy(values, from, sizeof values);
    return (vector){ (float)values[0], (float)values[1], (float)values[2], (float)values[3] };
}
INLINE pairs load_bytes(const int8_t *from)
{
    pairs twice = _mm_loadl_epi64((const __m128i *)from);
    return _mm_srai_epi16(_mm_unpacklo_epi8(twice, twice), 8);
}
INLINE vector to_floats(pairs sum) { return _mm_cvtepi32_ps(sum); }
INLINE pairs add_products(pairs sum, pairs a, pairs b) { return _mm_add_epi32(sum, _mm_madd_epi16(a, b)); }

#endif

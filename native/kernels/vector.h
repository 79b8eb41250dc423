/* vector.h - vectors of floats for a source that is compiled once per instruction set.
 *
 * Only sums of products are written with them, since only these may be fused and need their registers told. All else is
 * plain C over arrays, which the compiler turns into the same vectors and, as nothing else is contracted, into the same
 * bits on every instruction set.
 */
#ifndef MK_VECTOR_H
#define MK_VECTOR_H
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

#if defined __AVX512F__
#define MKI_ISA(name) name##_avx512
enum { LANES = 16, TILE_ROWS = 6 }; /* 6 by 4 sums, 4 vectors and a factor fill 29 of 32 registers */
typedef __m512 vector;
INLINE vector multiply_add(vector a, vector b, vector c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vector larger(vector a, vector b) { return _mm512_max_ps(a, b); }
INLINE vector load_halves(const uint16_t *from) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)from)); }
INLINE vector load_bytes(const int8_t *from) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)from))); }
#elif defined __FMA__
#define MKI_ISA(name) name##_avx2
enum { LANES = 8, TILE_ROWS = 3 }; /* 3 by 4 sums, 3 factors and a vector fill 16 registers */
typedef __m256 vector;
INLINE vector multiply_add(vector a, vector b, vector c) { return _mm256_fmadd_ps(a, b, c); }
INLINE vector larger(vector a, vector b) { return _mm256_max_ps(a, b); }
INLINE vector load_halves(const uint16_t *from) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)from)); }
INLINE vector load_bytes(const int8_t *from) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadu_si64(from))); }
#else
#define MKI_ISA(name) name##_scalar
enum { LANES = 4, TILE_ROWS = 3 };
typedef __m128 vector;
INLINE vector multiply_add(vector a, vector b, vector c) { return a * b + c; }
INLINE vector larger(vector a, vector b) { return _mm_max_ps(a, b); }
INLINE vector load_halves(const uint16_t *from)
{
    _Float16 values[4];
    memcpy(values, from, sizeof values);
    return (vector){(float)values[0], (float)values[1], (float)values[2], (float)values[3]};
}
INLINE vector load_bytes(const int8_t *from) { return (vector){(float)from[0], (float)from[1], (float)from[2], (float)from[3]}; }
#endif

INLINE vector load(const float *from)
{
    vector v;
    memcpy(&v, from, sizeof v);
    return v;
}

INLINE void store(float *to, vector v) { memcpy(to, &v, sizeof v); }
INLINE vector broadcast(float x) { return x - (vector){0}; } /* not +: it would lose the sign of -0 */

/* Sixteen lanes, 64-byte aligned, folded in halves: one order on every instruction set. */
INLINE float total_of_lanes(const float *lane)
{
    __m128 four = (_mm_load_ps(lane) + _mm_load_ps(lane + 8)) + (_mm_load_ps(lane + 4) + _mm_load_ps(lane + 12));
    __m128 two = four + _mm_movehl_ps(four, four);
    return two[0] + two[1];
}

INLINE float peak_of_lanes(const float *lane)
{
    __m128 four = _mm_max_ps(_mm_max_ps(_mm_load_ps(lane), _mm_load_ps(lane + 8)),
                             _mm_max_ps(_mm_load_ps(lane + 4), _mm_load_ps(lane + 12)));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return two[0] > two[1] ? two[0] : two[1];
}
#endif

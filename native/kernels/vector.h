/* vector.h - vectors of floats and integers for a source that is compiled once per instruction set.
 *
 * Sums of products are written with them, since only these may be fused and need their registers told, and what stands
 * beside such sums or must not wait for itself (exp2.h). All else is plain C over arrays, which the compiler turns into
 * the same vectors. But for multiply_add nothing is contracted: every instruction set gives the same bits.
 */
#ifndef MK_VECTOR_H
#define MK_VECTOR_H
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

#if defined __AVX512F__
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
#elif defined __FMA__
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
#else
#define MKI_ISA(name) name##_scalar
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

INLINE vector load(const float *from)
{
    vector v;
    memcpy(&v, from, sizeof v);
    return v;
}

INLINE void store(float *to, vector v) { memcpy(to, &v, sizeof v); }
INLINE vector broadcast(float x) { return x - (vector){ 0 }; } /* not +: it would lose the sign of -0 */

INLINE pairs load_pairs(const void *from)
{
    pairs p;
    memcpy(&p, from, sizeof p);
    return p;
}

INLINE void store_pairs(void *to, pairs p) { memcpy(to, &p, sizeof p); }

INLINE pairs broadcast_pair(const int16_t *from)
{
    typedef int32_t lanes __attribute__((vector_size(sizeof(pairs))));
    int32_t both;
    memcpy(&both, from, sizeof both);
    return (pairs)(both - (lanes){ 0 });
}

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
INLINE float sum_of_squares(const float *x, int32_t n)
{
    _Alignas(64) float lane[16] = { 0 };
    vector sum[16 / LANES] = { 0 };
    int32_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < 16 / LANES; j++) {
            vector v = load(x + i + j * LANES);
            sum[j] += v * v;
        }
    for (int j = 0; j < 16 / LANES; j++)
        store(lane + j * LANES, sum[j]);
    for (int j = 0; i + j < n; j++)
        lane[j] += x[i + j] * x[i + j];
    return total_of_lanes(lane);
}
#endif

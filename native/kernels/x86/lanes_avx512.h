/* lanes_avx512.h - 16 rows in one 512-bit register (AVX-512 F, BW, VL, VNNI), for strips_kernels.h. */
#ifndef MK_LANES_AVX512_H
#define MK_LANES_AVX512_H
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

typedef __m512 floats;
typedef __m512i ints, bytes, fours, sums;
enum { STRIPS = 2, TILE = 4 };

INLINE floats zeros(void) { return _mm512_setzero_ps(); }
INLINE floats splat(float x) { return _mm512_set1_ps(x); }
INLINE floats multiply(floats a, floats b) { return _mm512_mul_ps(a, b); }
INLINE floats multiply_add(floats a, floats b, floats c) { return _mm512_fmadd_ps(a, b, c); }
INLINE floats to_floats(ints x) { return _mm512_cvtepi32_ps(x); }
INLINE floats load_halves(const uint16_t *at) { return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)at)); }
INLINE floats load_bfloats(const uint16_t *at)
{
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)at));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

/* The first n rows, 1 to 16; the others become 0, or stay as they are in memory. */
INLINE floats load(const float *at, int n) { return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), at); }
INLINE void store(float *at, floats x, int n) { _mm512_mask_storeu_ps(at, (__mmask16)((1u << n) - 1), x); }

INLINE bytes load_bytes(const uint8_t *at) { return _mm512_loadu_si512(at); }
INLINE bytes low_halves(bytes x) { return _mm512_and_si512(x, _mm512_set1_epi8(15)); }
INLINE bytes high_halves(bytes x) { return _mm512_and_si512(_mm512_srli_epi16(x, 4), _mm512_set1_epi8(15)); }
/* Byte i of each row. */
INLINE ints byte_of(bytes x, int i)
{
    return _mm512_and_si512(_mm512_srli_epi32(x, (unsigned)(8 * i)), _mm512_set1_epi32(255));
}
INLINE ints less(ints x, int y) { return _mm512_sub_epi32(x, _mm512_set1_epi32(y)); }

INLINE sums sums_begin(int32_t bias) { return _mm512_set1_epi32(bias); }
INLINE fours load_fours(const int8_t *at)
{
    int32_t x;
    memcpy(&x, at, sizeof x);
    return _mm512_set1_epi32(x);
}
INLINE sums sums_add(const int bits, sums total, bytes w, fours x)
{
    (void)bits;
    return _mm512_dpbusd_epi32(total, w, x);
}
INLINE ints sums_end(const int bits, sums total, int32_t bias)
{
    (void)bits, (void)bias;
    return total;
}
#endif

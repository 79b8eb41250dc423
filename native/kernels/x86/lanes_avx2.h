/* lanes_avx2.h - 16 rows in two 256-bit registers (AVX2, FMA, F16C), for strips_kernels.h; with DOT_BYTES(sum, w, x),
 * an instruction that adds four products of unsigned and signed bytes to each sum, or without.
 *
 * Without it, pairs of products are added as 16-bit numbers, which saturate. Eight pairs of 4-bit weights cannot reach
 * that (8 * 2 * 15 * 127 < 2^15) and are widened once per group. With 8-bit weights one pair could, so the weight's
 * sign is moved to the activation: 2 * 128 * 127 < 2^15; the weights then count as signed, and need no bias.
 */
#ifndef MK_LANES_AVX2_H
#define MK_LANES_AVX2_H
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

typedef struct { __m256 a, b; } floats;
typedef struct { __m256i a, b; } ints, bytes, sums;
typedef __m256i fours;
enum { STRIPS = 1, TILE = 2 };

INLINE floats zeros(void) { return (floats){ _mm256_setzero_ps(), _mm256_setzero_ps() }; }
INLINE floats splat(float x) { return (floats){ _mm256_set1_ps(x), _mm256_set1_ps(x) }; }
INLINE floats multiply(floats x, floats y) { return (floats){ _mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b) }; }
INLINE floats multiply_add(floats x, floats y, floats z)
{
    return (floats){ _mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b) };
}
INLINE floats to_floats(ints x) { return (floats){ _mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b) }; }
INLINE floats load_halves(const uint16_t *at)
{
    return (floats){ _mm256_cvtph_ps(_mm_loadu_si128((const void *)at)),
                     _mm256_cvtph_ps(_mm_loadu_si128((const void *)(at + 8))) };
}
INLINE __m256 widen_bfloats(const uint16_t *at)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)at)), 16));
}
INLINE floats load_bfloats(const uint16_t *at) { return (floats){ widen_bfloats(at), widen_bfloats(at + 8) }; }

/* All ones in the lanes below n. */
INLINE __m256i lanes_below(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* The first n rows, 1 to 16; the others become 0, or stay as they are in memory. */
INLINE floats load(const float *at, int n)
{
    if (n == 16)
        return (floats){ _mm256_loadu_ps(at), _mm256_loadu_ps(at + 8) };
    return (floats){ _mm256_maskload_ps(at, lanes_below(n)), _mm256_maskload_ps(at + 8, lanes_below(n - 8)) };
}
INLINE void store(float *at, floats x, int n)
{
    if (n == 16) {
        _mm256_storeu_ps(at, x.a);
        _mm256_storeu_ps(at + 8, x.b);
    } else {
        _mm256_maskstore_ps(at, lanes_below(n), x.a);
        _mm256_maskstore_ps(at + 8, lanes_below(n - 8), x.b);
    }
}

INLINE bytes load_bytes(const uint8_t *at)
{
    return (bytes){ _mm256_loadu_si256((const void *)at), _mm256_loadu_si256((const void *)(at + 32)) };
}
INLINE bytes low_halves(bytes x)
{
    __m256i mask = _mm256_set1_epi8(15);
    return (bytes){ _mm256_and_si256(x.a, mask), _mm256_and_si256(x.b, mask) };
}
INLINE bytes high_halves(bytes x)
{
    return low_halves((bytes){ _mm256_srli_epi16(x.a, 4), _mm256_srli_epi16(x.b, 4) });
}
/* Byte i of each row. */
INLINE ints byte_of(bytes x, int i)
{
    __m256i mask = _mm256_set1_epi32(255);
    return (ints){ _mm256_and_si256(_mm256_srli_epi32(x.a, 8 * i), mask),
                   _mm256_and_si256(_mm256_srli_epi32(x.b, 8 * i), mask) };
}
INLINE ints less(ints x, int y)
{
    return (ints){ _mm256_sub_epi32(x.a, _mm256_set1_epi32(y)), _mm256_sub_epi32(x.b, _mm256_set1_epi32(y)) };
}

INLINE fours load_fours(const int8_t *at)
{
    int32_t x;
    memcpy(&x, at, sizeof x);
    return _mm256_set1_epi32(x);
}

#ifdef DOT_BYTES
INLINE sums sums_begin(int32_t bias) { return (sums){ _mm256_set1_epi32(bias), _mm256_set1_epi32(bias) }; }
INLINE sums sums_add(const int bits, sums total, bytes w, fours x)
{
    (void)bits;
    return (sums){ DOT_BYTES(total.a, w.a, x), DOT_BYTES(total.b, w.b, x) };
}
INLINE ints sums_end(const int bits, sums total, int32_t bias)
{
    (void)bits, (void)bias;
    return total;
}
#else
INLINE sums sums_begin(int32_t bias)
{
    (void)bias;
    return (sums){ _mm256_setzero_si256(), _mm256_setzero_si256() };
}
INLINE __m256i add_pairs(const int bits, __m256i total, __m256i w, __m256i x)
{
    if (bits == 4)
        return _mm256_add_epi16(total, _mm256_maddubs_epi16(w, x));
    __m256i is_signed = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
    __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(is_signed), _mm256_sign_epi8(x, is_signed));
    return _mm256_add_epi32(total, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
INLINE sums sums_add(const int bits, sums total, bytes w, fours x)
{
    return (sums){ add_pairs(bits, total.a, w.a, x), add_pairs(bits, total.b, w.b, x) };
}
INLINE __m256i widen_pairs(__m256i total, int32_t bias)
{
    return _mm256_add_epi32(_mm256_madd_epi16(total, _mm256_set1_epi16(1)), _mm256_set1_epi32(bias));
}
INLINE ints sums_end(const int bits, sums total, int32_t bias)
{
    return bits == 4 ? (ints){ widen_pairs(total.a, bias), widen_pairs(total.b, bias) } : total;
}
#endif
#endif

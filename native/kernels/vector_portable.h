/* vector_portable.h - vectors of 4 floats on any CPU, by extensions of gcc and clang, for vector.h. */
#ifndef MK_VECTOR_PORTABLE_H
#define MK_VECTOR_PORTABLE_H
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

#define MKI_ISA(name) name##_portable
enum { LANES = 4, TILE_ROWS = 4, TILE_VECTORS = 2 };
typedef float vector __attribute__((vector_size(16)));
typedef int32_t pairs __attribute__((vector_size(16))); /* of 16-bit integers, one in each lane; or their sums */
typedef int16_t shorts __attribute__((vector_size(16)));
INLINE vector multiply_add(vector a, vector b, vector c) { return a * b + c; }
INLINE vector larger(vector a, vector b)
{
    for (int j = 0; j < LANES; j++)
        a[j] = a[j] > b[j] ? a[j] : b[j];
    return a;
}
INLINE vector load_halves(const uint16_t *from)
{
    _Float16 values[4];
    memcpy(values, from, sizeof values);
    return (vector){ (float)values[0], (float)values[1], (float)values[2], (float)values[3] };
}
INLINE pairs load_bytes(const int8_t *from)
{
    int8_t bytes __attribute__((vector_size(8)));
    memcpy(&bytes, from, sizeof bytes);
    return (pairs) __builtin_convertvector(bytes, shorts);
}
INLINE vector to_floats(pairs sum) { return __builtin_convertvector(sum, vector); }
INLINE pairs add_products(pairs sum, pairs a, pairs b)
{
    shorts x = (shorts)a, y = (shorts)b;
    for (int j = 0; j < LANES; j++)
        sum[j] += x[2 * j] * y[2 * j] + x[2 * j + 1] * y[2 * j + 1];
    return sum;
}

INLINE float total_of_lanes(const float *lane)
{
    float four[4];
    for (int j = 0; j < 4; j++)
        four[j] = (lane[j] + lane[j + 8]) + (lane[j + 4] + lane[j + 12]);
    return (four[0] + four[2]) + (four[1] + four[3]);
}

INLINE float larger_of(float a, float b) { return a > b ? a : b; }

INLINE float peak_of_lanes(const float *lane)
{
    float four[4];
    for (int j = 0; j < 4; j++)
        four[j] = larger_of(larger_of(lane[j], lane[j + 8]), larger_of(lane[j + 4], lane[j + 12]));
    return larger_of(larger_of(four[0], four[2]), larger_of(four[1], four[3]));
}

#endif

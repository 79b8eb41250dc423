/* lanes_scalar.h - 16 rows as arrays, for strips_kernels.h: the reference for the others, and the fallback. */
#ifndef MK_LANES_SCALAR_H
#define MK_LANES_SCALAR_H
#include "halves.h"

#define INLINE static inline
#define ROWS for (int r = 0; r < 16; r++)

typedef struct { float of[16]; } floats;
typedef struct { int32_t of[16]; } ints, sums;
typedef struct { uint8_t of[64]; } bytes;
typedef struct { int8_t of[4]; } fours;
enum { STRIPS = 1, TILE = 2 };

INLINE floats splat(float x)
{
    floats y;
    ROWS y.of[r] = x;
    return y;
}
INLINE floats zeros(void) { return splat(0); }
INLINE floats multiply(floats x, floats y)
{
    ROWS x.of[r] *= y.of[r];
    return x;
}
INLINE floats multiply_add(floats x, floats y, floats z)
{
    ROWS z.of[r] = fmaf(x.of[r], y.of[r], z.of[r]);
    return z;
}
INLINE floats to_floats(ints x)
{
    floats y;
    ROWS y.of[r] = (float)x.of[r];
    return y;
}
INLINE floats load_halves(const uint16_t *at)
{
    floats x;
    ROWS x.of[r] = mki_from_half(at[r]);
    return x;
}
INLINE floats load_bfloats(const uint16_t *at)
{
    floats x;
    ROWS x.of[r] = mki_from_bfloat(at[r]);
    return x;
}
/* The first n rows; the others become 0, or stay as they are in memory. */
INLINE floats load(const float *at, int n)
{
    floats x = zeros();
    memcpy(x.of, at, (size_t)n * sizeof *at);
    return x;
}
INLINE void store(float *at, floats x, int n) { memcpy(at, x.of, (size_t)n * sizeof *at); }

INLINE bytes load_bytes(const uint8_t *at)
{
    bytes x;
    memcpy(x.of, at, sizeof x.of);
    return x;
}
INLINE bytes low_halves(bytes x)
{
    for (int i = 0; i < 64; i++)
        x.of[i] &= 15;
    return x;
}
INLINE bytes high_halves(bytes x)
{
    for (int i = 0; i < 64; i++)
        x.of[i] >>= 4;
    return x;
}
/* Byte i of each row. */
INLINE ints byte_of(bytes x, int i)
{
    ints y;
    ROWS y.of[r] = x.of[4 * r + i];
    return y;
}
INLINE ints less(ints x, int y)
{
    ROWS x.of[r] -= y;
    return x;
}

INLINE sums sums_begin(int32_t bias)
{
    sums total;
    ROWS total.of[r] = bias;
    return total;
}
INLINE fours load_fours(const int8_t *at)
{
    fours x;
    memcpy(x.of, at, sizeof x.of);
    return x;
}
INLINE sums sums_add(int bits, sums total, bytes w, fours x)
{
    (void)bits;
    ROWS for (int i = 0; i < 4; i++) total.of[r] += w.of[4 * r + i] * x.of[i];
    return total;
}
INLINE ints sums_end(int bits, sums total, int32_t bias)
{
    (void)bits, (void)bias;
    return total;
}
#endif

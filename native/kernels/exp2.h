/* exp2.h - powers of two, to the same bits on every instruction set: the exponential function of a softmax. */
#ifndef MK_EXP2_H
#define MK_EXP2_H
#include "vector.h"

/* x[j] = 2^x[j] for x <= 0: within 3 ULP from -125 on, 0 below, NaN for NaN; side by side, as each step waits for the
 * one before. 2^x = 2^n 2^r, n the integer nearest to x; x - n is exact, and the polynomial has the least relative
 * error, 1.5 of these ULP, of its degree for |r| <= 1/2 (by Lawson's algorithm). */
INLINE void mki_exp2(vector *x, const int n)
{
    typedef int32_t lanes __attribute__((vector_size(sizeof(vector))));
    static const float coefficients[] = { 0.001326472875f, 0.009671513182f, 0.05550733745f,
                                          0.2402224208f,   0.6931469776f,   1 };
    const float round = 0x1.8p23f; /* added and subtracted, it leaves an integer; in between, the low bits hold it */
    vector shifted[4], r[4], p[4];
    for (int j = 0; j < n; j++) {
        shifted[j] = x[j] + round;
        r[j] = x[j] - (shifted[j] - round);
        p[j] = r[j] * coefficients[0] + coefficients[1];
    }
    for (int i = 2; i < 6; i++)
        for (int j = 0; j < n; j++)
            p[j] = p[j] * r[j] + coefficients[i];
    for (int j = 0; j < n; j++) {
        p[j] *= (vector)(((lanes)shifted[j] + 127) << 23);
        x[j] = (vector)((lanes)p[j] & ~(lanes)(x[j] < -125));
    }
}
#endif

/* exp.h - the exponential function, to the same bits on every instruction set.
 *
 * exp(x) = 2^n exp(r), n the integer nearest to x / ln 2; the polynomial for |r| <= ln 2 / 2 is that of Cephes' expf
 * (S. L. Moshier). No fused multiply-add, no branch: a loop over it becomes vectors of any width.
 */
#ifndef MK_EXP_H
#define MK_EXP_H
#include <math.h>
#include <stdint.h>
#include <string.h>

/* Within 1 ULP of the true value from -87.33 to 88.37; 0 below, infinite above, NaN for NaN. */
static inline __attribute__((always_inline)) float mki_exp(float x)
{
    const float round = 0x1.8p23f; /* added and subtracted, it leaves an integer; in between, the low bits hold it */
    float shifted = x * 0x1.715476p0f + round, n = shifted - round;
    float r = x - n * 0x1.63p-1f - n * -0x1.bd0106p-13f; /* ln 2 in two parts; n times the first is exact */
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1;
    uint32_t bits;
    float power; /* 2^n */
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 127) << 23;
    memcpy(&power, &bits, sizeof power);
    p *= power;
    p = x < -87.33f ? 0 : p;
    return x > 88.37f ? INFINITY : p;
}
#endif

/* halves.h - 16-bit floats to and from float32, one at a time. */
#ifndef MK_HALVES_H
#define MK_HALVES_H
#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float mki_from_half(uint16_t bits)
{
    _Float16 value;
    memcpy(&value, &bits, sizeof value);
    return (float)value;
}

static inline uint16_t mki_to_half(float value)
{
    _Float16 half = (_Float16)value;
    uint16_t bits;
    memcpy(&bits, &half, sizeof bits);
    return bits;
}

static inline float mki_from_bfloat(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

/* Round to nearest, ties to even; a NaN stays one and becomes quiet. */
static inline uint16_t mki_to_bfloat(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (isnan(value))
        return (uint16_t)(bits >> 16 | 64);
    return (uint16_t)((bits + (0x7fff + (bits >> 16 & 1))) >> 16);
}
#endif

#ifndef KERNELS_HALF_H
#define KERNELS_HALF_H

#include "kernels/exp.h"

/* Halves as they are stored in the cache, by integers and exact products alone: the same bits
 * from any compiler and on any backend. */

#define HALF_MOST 65504.0f

EXP_FN float float_of_half(uint16_t half)
{
    /* Exponent and mantissa moved into place are the number times 2^-112, also when it is
     * subnormal; the product is exact. */
    uint32_t shifted = (uint32_t)(half & 0x7fffu) << 13;
    uint32_t u = bits_of(of_bits(shifted) * 5192296858534827628530496329220096.0f);
    u = shifted >= 0x0f800000u ? shifted | 0x7f800000u : u;
    return of_bits(u | (uint32_t)(half & 0x8000u) << 16);
}

/* To nearest even; beyond the largest half the largest, so that no sum becomes endless. A NaN
 * stays one. */
EXP_FN uint16_t half_of_float(float x)
{
    uint32_t u = bits_of(x);
    uint32_t sign = u >> 16 & 0x8000u;
    u &= 0x7fffffffu;
    u = u > 0x477fe000u && u <= 0x7f800000u ? 0x477fe000u : u;
    /* Below 2^-14 an addition rounds to units of 2^-24; above, half of a unit less one plus the
     * last bit kept. */
    uint32_t low = bits_of(of_bits(u) + 0.5f) - 0x3f000000u;
    uint32_t high = (u - 0x38000000u + 0xfffu + (u >> 13 & 1u)) >> 13;
    uint32_t half = u < 0x38800000u ? low : high;
    half = u > 0x7f800000u ? 0x7e00u : half;
    return (uint16_t)(sign | half);
}

#endif

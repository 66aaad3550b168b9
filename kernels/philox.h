#ifndef KERNELS_PHILOX_H
#define KERNELS_PHILOX_H

#include <stdint.h>

/* Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011): random numbers without
 * state, a keyed hash of a counter. Both backends include this very file, so that
 * a request draws the same numbers wherever it runs. */

#ifdef __CUDACC__
#define PHILOX_FN static inline __host__ __device__
#else
#define PHILOX_FN static inline
#endif

PHILOX_FN void philox4x32(uint32_t x[4], uint32_t key0, uint32_t key1)
{
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * x[0];
        uint64_t b = (uint64_t)0xCD9E8D57u * x[2];
        uint32_t y0 = (uint32_t)(b >> 32) ^ x[1] ^ key0;
        uint32_t y2 = (uint32_t)(a >> 32) ^ x[3] ^ key1;
        x[1] = (uint32_t)b;
        x[3] = (uint32_t)a;
        x[0] = y0;
        x[2] = y2;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
}

/* 53 bits: a vocabulary of 128k with tiny tails needs more than the 24 of a float. */
PHILOX_FN uint64_t philox_bits(uint64_t seed, uint64_t position)
{
    uint32_t x[4] = {(uint32_t)position, (uint32_t)(position >> 32), 0, 0};
    philox4x32(x, (uint32_t)seed, (uint32_t)(seed >> 32));
    return ((uint64_t)(x[0] >> 5) << 26) | (uint64_t)(x[1] >> 6);
}

/* [0, 1) */
PHILOX_FN double philox_uniform(uint64_t seed, uint64_t position)
{
    return (double)philox_bits(seed, position) / 9007199254740992.0;
}

/* 0 .. n - 1: that number times n, rounded down without rounding before; n below 2^63. */
PHILOX_FN uint64_t philox_below(uint64_t seed, uint64_t position, uint64_t n)
{
    uint64_t a = philox_bits(seed, position) << 11;
    uint64_t low = (a & 0xffffffffu) * (n & 0xffffffffu);
    uint64_t middle = (a >> 32) * (n & 0xffffffffu) + (low >> 32);
    uint64_t other = (a & 0xffffffffu) * (n >> 32) + (middle & 0xffffffffu);
    return (a >> 32) * (n >> 32) + (middle >> 32) + (other >> 32);
}

#endif

#ifndef KERNELS_EXP_H
#define KERNELS_EXP_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* The exponential of softmax and SiLU, and what a probability weighs in a draw. Both backends
 * include this very file and multiply and add in the order written here, never fused, so that a
 * logit has the same weight to the bit wherever it is. */

#ifdef __CUDACC__
#define EXP_FN static __host__ __device__ __forceinline__
#else
#define EXP_FN static inline __attribute__((always_inline))
#endif

#ifdef __CUDA_ARCH__
#define EXP_MUL(a, b) __fmul_rn(a, b)
#define EXP_ADD(a, b) __fadd_rn(a, b)
#else
#define EXP_MUL(a, b) ((a) * (b))
#define EXP_ADD(a, b) ((a) + (b))
#endif

#define EXP_LEAST (-87.0f)
#define EXP_MOST  88.0f

/* Adding 1.5 * 2^23 leaves the nearest integer (ties to even) in the low bits of
 * a float; unlike a cast it is defined for every input. */
#define ROUND_MAGIC 12582912.0f
enum { ROUND_MAGIC_BITS = 0x4B400000 };

EXP_FN uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof(u));
    return u;
}

EXP_FN float of_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof(x));
    return x;
}

/* Without a branch, which keeps compilers from vectors. */
EXP_FN float either(bool first, float a, float b)
{
    uint32_t mask = 0u - (uint32_t)first;
    return of_bits((bits_of(a) & mask) | (bits_of(b) & ~mask));
}

#define EXP_PER_LN2 1.44269504f
/* ln 2 in two parts: the first has few bits, so an integer times it is exact. */
#define EXP_LN2_HIGH 0.693359375f
#define EXP_LN2_LOW  2.12194440e-4f

/* exp to about 2e-7 relative: 2^n times the Taylor polynomial of the rest, which
 * is within ln 2 / 2. 0 below EXP_LEAST, NaN for NaN. */
EXP_FN float exp_fast(float x)
{
    float in = either(x < EXP_LEAST, EXP_LEAST, x);
    in = either(in > EXP_MOST, EXP_MOST, in);
    float n = EXP_ADD(EXP_MUL(in, EXP_PER_LN2), ROUND_MAGIC);
    uint32_t power = bits_of(n) - (uint32_t)ROUND_MAGIC_BITS;
    n = n - ROUND_MAGIC;
    float r = EXP_ADD(in, EXP_MUL(n, -EXP_LN2_HIGH));
    r = EXP_ADD(r, EXP_MUL(n, EXP_LN2_LOW));
    float p = 1.0f / 720.0f;
    p = EXP_ADD(EXP_MUL(p, r), 1.0f / 120.0f);
    p = EXP_ADD(EXP_MUL(p, r), 1.0f / 24.0f);
    p = EXP_ADD(EXP_MUL(p, r), 1.0f / 6.0f);
    p = EXP_ADD(EXP_MUL(p, r), 0.5f);
    p = EXP_ADD(EXP_MUL(p, r), 1.0f);
    p = EXP_ADD(EXP_MUL(p, r), 1.0f);
    float y = EXP_MUL(p, of_bits((power + 127u) << 23));
    return either(x < EXP_LEAST, 0.0f, y);
}

/* A probability relative to the most likely token's, in units of 2^-40: masses are integers, so
 * that their sums are exact and the same in any order. Of the largest vocabulary's, 2^20, no sum
 * overflows, and what is rounded off in all of it is 2^-20 of the most likely token. */
#define MASS_ONE 1099511627776.0f

EXP_FN uint64_t mass_of(float p)
{
    return (uint64_t)(int64_t)(p * MASS_ONE);
}

/* The least mass that is share of all of it; at least one unit. */
EXP_FN uint64_t mass_share(float share, uint64_t all)
{
    double exact = (double)share * (double)all;
    uint64_t least = (uint64_t)exact;
    least += (double)least < exact;
    least = least < 1 ? 1 : least;
    return least < all ? least : all;
}

#endif

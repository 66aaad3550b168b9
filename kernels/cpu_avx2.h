#ifndef KERNELS_CPU_AVX2_H
#define KERNELS_CPU_AVX2_H

#include "kernels/cpu_kernels.h"

/* What the files of AVX2 share, private to them: compiled for that target whatever the rest of
 * the program is compiled for. */

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#define AVX2      __attribute__((target("avx2")))
#define AVX2_TILE AVX2 static inline __attribute__((always_inline))

AVX2_TILE __m256i load32(const void *from)
{
    return _mm256_loadu_si256((const __m256i *)from);
}

/* n of 32 bytes, then zeros; nothing beyond them is read. */
AVX2_TILE __m256i load_some(const int8_t *from, size_t n)
{
    int8_t some[sizeof(__m256i)] = {0};
    if (n >= sizeof(some))
        return load32(from);
    memcpy(some, from, n);
    return load32(some);
}

/* Eight rows of eight dwords become eight columns. */
AVX2_TILE void turn8(__m256i r[8])
{
    __m256i t[8];
    for (int i = 0; i < 8; i += 4) {
        __m256i a = _mm256_unpacklo_epi32(r[i], r[i + 1]);
        __m256i b = _mm256_unpackhi_epi32(r[i], r[i + 1]);
        __m256i c = _mm256_unpacklo_epi32(r[i + 2], r[i + 3]);
        __m256i d = _mm256_unpackhi_epi32(r[i + 2], r[i + 3]);
        t[i] = _mm256_unpacklo_epi64(a, c);
        t[i + 1] = _mm256_unpackhi_epi64(a, c);
        t[i + 2] = _mm256_unpacklo_epi64(b, d);
        t[i + 3] = _mm256_unpackhi_epi64(b, d);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2x128_si256(t[i], t[i + 4], 0x20);
        r[i + 4] = _mm256_permute2x128_si256(t[i], t[i + 4], 0x31);
    }
}

#endif

#endif

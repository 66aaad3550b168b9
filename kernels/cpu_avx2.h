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

AVX2_TILE void store32(void *to, __m256i v)
{
    _mm256_storeu_si256((__m256i *)to, v);
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

enum {
    AVX2_EIGHT = 8, /* lanes of a register */
    AVX2_HALVES = Q8_PANEL / AVX2_EIGHT,
    AVX2_WIDE_W = 16, /* weight rows of a tile: a line of floats, so an output is written whole */
};

/* Sums of a panel, as they come: sixteen weight rows by halves of sixteen activation rows. */
AVX2_TILE int32_t *avx2_sums_at(int32_t *sums, int i, int half)
{
    return sums + (i * AVX2_HALVES + half) * AVX2_EIGHT;
}

/* In place from there to [Q8_PANEL][AVX2_WIDE_W]. */
AVX2_TILE void avx2_sums_turn(int32_t *sums, const int halves)
{
    int32_t from[Q8_PANEL * AVX2_WIDE_W];
    memcpy(from, sums, sizeof(from));
    for (int h = 0; h < halves; h++) {
        for (int first = 0; first < AVX2_WIDE_W; first += AVX2_EIGHT) {
            __m256i r[AVX2_EIGHT];
            for (int i = 0; i < AVX2_EIGHT; i++)
                r[i] = load32(avx2_sums_at(from, first + i, h));
            turn8(r);
            for (int i = 0; i < AVX2_EIGHT; i++)
                store32(sums + (h * AVX2_EIGHT + i) * AVX2_WIDE_W + first, r[i]);
        }
    }
}

/* Four vectors to their four sums. */
AVX2_TILE __m128i fold4(__m256i a, __m256i b, __m256i c, __m256i d)
{
    __m256i all = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    return _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
}

#endif

#endif

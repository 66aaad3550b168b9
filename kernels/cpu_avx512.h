#ifndef KERNELS_CPU_AVX512_H
#define KERNELS_CPU_AVX512_H

#include "kernels/cpu_kernels.h"

/* What the files of AVX-512 share, private to them: compiled for that target whatever the
 * rest of the program is compiled for. */

#if defined(__x86_64__)

#include <immintrin.h>

#define AVX512      __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,avx512dq")))
#define AVX512_TILE AVX512 static inline __attribute__((always_inline))

/* sum += u * s in fours of bytes, unsigned by signed. As an intrinsic, gcc 12 copies the sums of a
 * loop back and forth. */
AVX512_TILE __m512i dot(__m512i sum, __m512i u, __m512i s)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(u), "vm"(s));
    return sum;
}

/* Sixteen vectors of sixteen: element j of vector i becomes element i of vector j. */
AVX512_TILE void turn16(__m512i r[16])
{
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    /* r[4 q + c]: of vectors 4 q .. 4 q + 3 the elements c, 4 + c, 8 + c, 12 + c. */
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int c = 0; c < 4; c++) {
        t[c] = _mm512_shuffle_i32x4(r[c], r[4 + c], 0x88);
        t[4 + c] = _mm512_shuffle_i32x4(r[c], r[4 + c], 0xdd);
        t[8 + c] = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0x88);
        t[12 + c] = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0xdd);
    }
    for (int c = 0; c < 4; c++) {
        r[c] = _mm512_shuffle_i32x4(t[c], t[8 + c], 0x88);
        r[4 + c] = _mm512_shuffle_i32x4(t[4 + c], t[12 + c], 0x88);
        r[8 + c] = _mm512_shuffle_i32x4(t[c], t[8 + c], 0xdd);
        r[12 + c] = _mm512_shuffle_i32x4(t[4 + c], t[12 + c], 0xdd);
    }
}

/* One panel as struct q8_wide says, each byte with `flip` xored in. */
AVX512_TILE void pack_panel(uint8_t *dst, const int8_t *a, int32_t n_a, int32_t k, const int flip)
{
    const __m512i bits = _mm512_set1_epi8((char)flip);
    for (int32_t j = 0; j < k; j += 64) {
        __mmask64 rest = k - j < 64 ? ~(__mmask64)0 >> (64 - (k - j)) : ~(__mmask64)0;
        __m512i r[16];
        for (int32_t i = 0; i < 16; i++) {
            r[i] = i < n_a ? _mm512_maskz_loadu_epi8(rest, a + (size_t)i * (size_t)k + j)
                           : _mm512_setzero_si512();
        }
        turn16(r);
        for (int32_t i = 0; i < 16; i++, dst += 64)
            _mm512_store_si512(dst, _mm512_xor_si512(r[i], bits));
    }
}

#endif

#endif

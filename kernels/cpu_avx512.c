/* AVX-512 with VNNI: 64 products per instruction.
 *
 * vpdpbusd multiplies unsigned by signed bytes. Weights enter as w + 128 (one xor of
 * the top bit), so a sum comes out 128 * sum(a) too large, exactly, and that is taken
 * off at the end: nothing saturates and nothing rounds. A float register is exactly
 * one group of LANES. */

#include "kernels/cpu_kernels.h"

#if defined(__x86_64__)

#include "kernels/cpu_attend.h"
#include "kernels/cpu_lanes.h"

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,avx512dq")))
#define TILE   TARGET static inline __attribute__((always_inline))

enum {
    STEP = 64,
    LINE = 64,
    OFFSET = 128,
    QUAD = 4, /* sums folded together */
};

/* Four vectors to their four sums. */
TILE __m128i fold4(__m512i a, __m512i b, __m512i c, __m512i d)
{
    __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    __m512i all = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

/* n_w and n_a are constants where this is inlined: the loops over them vanish and
 * the sums stay in registers, 16 at most: with 20 or 24 compilers begin to spill and
 * a third of the speed is gone. Weight rows beyond t->n_w repeat the last one. */
TILE void tile(const struct q8_tile *t, const int n_w, const int n_a, int first)
{
    size_t k = (size_t)t->k;
    const int8_t *w[Q8_TILE_W];
    __m512i sum[Q8_TILE_A][Q8_TILE_W];
    for (int i = 0; i < n_w; i++)
        w[i] = t->w + (size_t)(first + i < t->n_w ? first + i : t->n_w - 1) * k;
    for (int r = 0; r < n_a; r++) {
        for (int i = 0; i < n_w; i++)
            sum[r][i] = _mm512_setzero_si512();
    }
    const __m512i flip = _mm512_set1_epi8((char)OFFSET);
    /* A tile in two passes asks for the first half of the lines in its first pass. */
    int32_t half = n_w < Q8_TILE_W ? t->next_lines / 2 : 0;
    int32_t lines = first == 0 ? t->next_lines - half : half;
    const char *next = lines > 0 ? (const char *)t->next : NULL;
    if (next && first > 0)
        next += (size_t)(t->next_lines - half) * k;
    size_t j = 0;
    for (; j + STEP <= k; j += STEP) {
        __m512i a[Q8_TILE_A];
        for (int r = 0; r < n_a; r++)
            a[r] = _mm512_loadu_si512(t->a + (size_t)r * k + j);
        for (int i = 0; i < n_w; i++) {
            __m512i v = _mm512_xor_si512(_mm512_loadu_si512(w[i] + j), flip);
            for (int r = 0; r < n_a; r++)
                sum[r][i] = _mm512_dpbusd_epi32(sum[r][i], v, a[r]);
        }
        if (next) {
            for (int32_t line = 0; line < lines; line++, next += LINE)
                _mm_prefetch(next, _MM_HINT_T1);
        }
    }
    if (j < k) {
        __mmask64 rest = ~(__mmask64)0 >> (STEP - (k - j));
        for (int i = 0; i < n_w; i++) {
            __m512i v = _mm512_xor_si512(_mm512_maskz_loadu_epi8(rest, w[i] + j), flip);
            for (int r = 0; r < n_a; r++) {
                __m512i a = _mm512_maskz_loadu_epi8(rest, t->a + (size_t)r * k + j);
                sum[r][i] = _mm512_dpbusd_epi32(sum[r][i], v, a);
            }
        }
    }
    for (int r = 0; r < n_a; r++) {
        __m128i over = _mm_set1_epi32(OFFSET * t->a_sum[r]);
        for (int i = 0; i < n_w; i += QUAD) {
            __m128i four = fold4(sum[r][i], sum[r][i + 1], sum[r][i + 2], sum[r][i + 3]);
            _mm_storeu_si128((__m128i *)(void *)(t->sum + r * Q8_TILE_W + first + i),
                             _mm_sub_epi32(four, over));
        }
    }
}

TARGET static void q8_tile(const struct q8_tile *t)
{
    switch (t->n_a) {
    case 1:
        tile(t, Q8_TILE_W, 1, 0);
        return;
    case 2:
        tile(t, Q8_TILE_W, 2, 0);
        return;
    case 3:
        for (int first = 0; first < t->n_w; first += QUAD)
            tile(t, QUAD, 3, first);
        return;
    default:
        for (int first = 0; first < t->n_w; first += QUAD)
            tile(t, QUAD, Q8_TILE_A, first);
        return;
    }
}

TARGET static int32_t q8_sum(const int8_t *q, size_t n)
{
    __m512i sum = _mm512_setzero_si512();
    const __m512i ones = _mm512_set1_epi8(1);
    for (size_t i = 0; i < n; i += STEP) {
        __mmask64 rest = n - i < STEP ? ~(__mmask64)0 >> (STEP - (n - i)) : ~(__mmask64)0;
        sum = _mm512_dpbusd_epi32(sum, ones, _mm512_maskz_loadu_epi8(rest, q + i));
    }
    return _mm512_reduce_add_epi32(sum);
}

/* ---- floats ---- */

/* 16 lanes to 4 by halves. */
TILE __m128 fold_lanes(__m512 v)
{
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    return _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
}

/* Four totals in the order of lanes_total(): lanes 0 + 2 and 1 + 3 of each four,
 * then these two. */
TILE __m128 total4(const __m512 v[QUAD])
{
    __m128 a = fold_lanes(v[0]);
    __m128 b = fold_lanes(v[1]);
    __m128 c = fold_lanes(v[2]);
    __m128 d = fold_lanes(v[3]);
    __m128 ab = _mm_add_ps(_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
    __m128 cd = _mm_add_ps(_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
    return _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab));
}

/* The first n lanes, all of them when n is larger. */
TILE __mmask16 lanes_mask(size_t n)
{
    return (__mmask16)(n < LANES ? (1u << n) - 1 : 0xffffu);
}

TILE __m512 add_product(__m512 sum, __m512 a, __m512 b)
{
    return _mm512_add_ps(sum, _mm512_mul_ps(a, b));
}

TILE __m512 weights_at(const struct float_tile *t, const bool is_q8, size_t at, __mmask16 mask)
{
    return is_q8 ? _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask, t->w_q + at)))
                 : _mm512_maskz_loadu_ps(mask, t->w_f + at);
}

/* n_a is a constant where this is inlined. */
TILE void float_pass(const struct float_tile *t, const bool is_q8, const int n_a)
{
    size_t k = (size_t)t->k;
    size_t w[FLOAT_TILE_W];
    __m512 sum[FLOAT_TILE_A][FLOAT_TILE_W];
    for (int i = 0; i < FLOAT_TILE_W; i++) {
        w[i] = (size_t)(i < t->n_w ? i : t->n_w - 1) * k;
        for (int r = 0; r < n_a; r++)
            sum[r][i] = _mm512_setzero_ps();
    }
    for (size_t j = 0; j < k; j += LANES) {
        __mmask16 mask = lanes_mask(k - j);
        __m512 a[FLOAT_TILE_A];
        for (int r = 0; r < n_a; r++)
            a[r] = _mm512_maskz_loadu_ps(mask, t->a + (size_t)r * k + j);
        for (int i = 0; i < FLOAT_TILE_W; i++) {
            __m512 v = weights_at(t, is_q8, w[i] + j, mask);
            for (int r = 0; r < n_a; r++)
                sum[r][i] = add_product(sum[r][i], a[r], v);
        }
    }
    for (int r = 0; r < n_a; r++)
        _mm_storeu_ps(t->sum + r * FLOAT_TILE_W, total4(sum[r]));
}

TARGET static void float_tile(const struct float_tile *t)
{
    if (t->w_q && t->n_a == 1)
        float_pass(t, true, 1);
    else if (t->w_q)
        float_pass(t, true, FLOAT_TILE_A);
    else if (t->n_a == 1)
        float_pass(t, false, 1);
    else
        float_pass(t, false, FLOAT_TILE_A);
}

TARGET static void dots(float *s, const float *q, const float *k, size_t n, size_t dim)
{
    for (size_t t = 0; t < n; t += QUAD) {
        /* Beyond the last token the last one is computed again and dropped. */
        const float *key[QUAD];
        __m512 sum[QUAD];
        for (size_t j = 0; j < QUAD; j++) {
            key[j] = k + (t + j < n ? t + j : n - 1) * dim;
            sum[j] = _mm512_setzero_ps();
        }
        for (size_t i = 0; i < dim; i += LANES) {
            __m512 x = _mm512_loadu_ps(q + i);
            for (size_t j = 0; j < QUAD; j++)
                sum[j] = add_product(sum[j], x, _mm512_loadu_ps(key[j] + i));
        }
        __mmask8 mask = (__mmask8)(lanes_mask(n - t) & 0xf);
        _mm_mask_storeu_ps(s + t, mask, total4(sum));
    }
}

/* groups is a constant where this is inlined. */
TILE void weigh_columns(float *y, const float *p, const float *v, size_t n, size_t dim,
                        const int groups)
{
    __m512 sum[QUAD];
    for (int g = 0; g < groups; g++)
        sum[g] = _mm512_loadu_ps(y + g * LANES);
    for (size_t t = 0; t < n; t++) {
        __m512 weight = _mm512_set1_ps(p[t]);
        for (int g = 0; g < groups; g++)
            sum[g] = add_product(sum[g], weight, _mm512_loadu_ps(v + t * dim + g * LANES));
    }
    for (int g = 0; g < groups; g++)
        _mm512_storeu_ps(y + g * LANES, sum[g]);
}

TARGET static void weigh(float *y, const float *p, const float *v, size_t n, size_t dim)
{
    size_t i = 0;
    for (; i + (size_t)QUAD * LANES <= dim; i += (size_t)QUAD * LANES)
        weigh_columns(y + i, p, v + i, n, dim, QUAD);
    for (; i < dim; i += LANES)
        weigh_columns(y + i, p, v + i, n, dim, 1);
}

TARGET static float max(const float *x, size_t n)
{
    __m512 most = _mm512_set1_ps(x[0]);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        most = _mm512_max_ps(_mm512_loadu_ps(x + i), most);
    float lane[LANES];
    _mm512_storeu_ps(lane, most);
    float result = max_lanes(lane, LANES);
    for (; i < n; i++)
        result = x[i] > result ? x[i] : result;
    return result;
}

LANES_LOOPS(TARGET)

const struct cpu_kernels *cpu_kernels_avx512(void)
{
    static const struct cpu_kernels table = LANES_TABLE("avx512vnni", &attend_avx512);
    bool can = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vnni");
    return can ? &table : NULL;
}

#else

const struct cpu_kernels *cpu_kernels_avx512(void)
{
    return NULL;
}

#endif

/* AVX2: int8 products widened to 16 bit and added in pairs, which is exact for any
 * values; float loops in the fixed lanes of cpu_kernels.h, one LANES group in two
 * registers. FMA is left out on purpose: it would round differently from the plain
 * loops. */

#include "kernels/cpu_kernels.h"

#if defined(__x86_64__)

#include "kernels/cpu_attend.h"
#include "kernels/cpu_lanes.h"

#include <immintrin.h>

#define TARGET __attribute__((target("avx2")))
#define TILE   TARGET static inline __attribute__((always_inline))

enum {
    STEP = 16,
    HALF = 8,   /* floats of a register */
    PASS_W = 4, /* weight rows of an int8 pass */
    PASS_A = 2,
    QUAD = 4,
};

/* One LANES group. */
struct group {
    __m256 low;
    __m256 high;
};

TILE struct group group_zero(void)
{
    return (struct group){_mm256_setzero_ps(), _mm256_setzero_ps()};
}

TILE struct group group_load(const float *x)
{
    return (struct group){_mm256_loadu_ps(x), _mm256_loadu_ps(x + HALF)};
}

TILE struct group group_widen(const int8_t *q)
{
    __m128i v = _mm_loadu_si128((const __m128i *)(const void *)q);
    return (struct group){
        _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(v)),
        _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(v, HALF))),
    };
}

TILE void group_add_product(struct group *sum, const struct group *a, const struct group *b)
{
    sum->low = _mm256_add_ps(sum->low, _mm256_mul_ps(a->low, b->low));
    sum->high = _mm256_add_ps(sum->high, _mm256_mul_ps(a->high, b->high));
}

/* 16 lanes to 4 by halves. */
TILE __m128 group_fold(const struct group *g)
{
    __m256 eight = _mm256_add_ps(g->low, g->high);
    return _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
}

/* Totals of four groups in the order of lanes_total(): lanes 0 + 2 and 1 + 3 of each
 * four, then these two. */
TILE __m128 total4(const struct group g[QUAD])
{
    __m128 a = group_fold(&g[0]);
    __m128 b = group_fold(&g[1]);
    __m128 c = group_fold(&g[2]);
    __m128 d = group_fold(&g[3]);
    __m128 ab = _mm_add_ps(_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
    __m128 cd = _mm_add_ps(_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
    return _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab));
}

TILE float total1(const struct group *g)
{
    __m128 four = group_fold(g);
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

/* ---- int8 ---- */

TILE __m256i wide(const int8_t *q)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)q));
}

TILE int32_t sum_of(__m256i v)
{
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

/* n_a is a constant where this is inlined. Weight rows beyond t->n_w repeat the last
 * one; their sums have room in the tile. */
TILE void q8_pass(const struct q8_tile *t, int first, int row, const int n_a)
{
    size_t k = (size_t)t->k;
    const int8_t *w[PASS_W];
    const int8_t *a = t->a + (size_t)row * k;
    __m256i sum[PASS_A][PASS_W];
    for (int i = 0; i < PASS_W; i++) {
        w[i] = t->w + (size_t)(first + i < t->n_w ? first + i : t->n_w - 1) * k;
        for (int r = 0; r < n_a; r++)
            sum[r][i] = _mm256_setzero_si256();
    }
    size_t j = 0;
    for (; j + STEP <= k; j += STEP) {
        for (int i = 0; i < PASS_W; i++) {
            __m256i v = wide(w[i] + j);
            for (int r = 0; r < n_a; r++)
                sum[r][i] =
                    _mm256_add_epi32(sum[r][i], _mm256_madd_epi16(v, wide(a + (size_t)r * k + j)));
        }
    }
    for (int r = 0; r < n_a; r++) {
        for (int i = 0; i < PASS_W; i++) {
            int32_t s = sum_of(sum[r][i]);
            for (size_t at = j; at < k; at++)
                s += (int32_t)w[i][at] * (int32_t)a[(size_t)r * k + at];
            t->sum[(row + r) * Q8_TILE_W + first + i] = s;
        }
    }
}

TARGET static void q8_tile(const struct q8_tile *t)
{
    for (int first = 0; first < t->n_w; first += PASS_W) {
        int row = 0;
        for (; row + PASS_A <= t->n_a; row += PASS_A)
            q8_pass(t, first, row, PASS_A);
        if (row < t->n_a)
            q8_pass(t, first, row, 1);
    }
}

TARGET static int32_t q8_sum(const int8_t *q, size_t n)
{
    return q8_sum_lanes(q, n);
}

/* ---- floats ---- */

TILE struct group weights_at(const struct float_tile *t, const bool is_q8, size_t at)
{
    return is_q8 ? group_widen(t->w_q + at) : group_load(t->w_f + at);
}

/* The last, incomplete group, filled up with zeros. */
TILE struct group weights_rest(const struct float_tile *t, const bool is_q8, size_t at, size_t n)
{
    float x[LANES] = {0};
    for (size_t i = 0; i < n; i++)
        x[i] = is_q8 ? (float)t->w_q[at + i] : t->w_f[at + i];
    return group_load(x);
}

TILE struct group inputs_rest(const float *a, size_t n)
{
    float x[LANES] = {0};
    memcpy(x, a, n * sizeof(*x));
    return group_load(x);
}

/* Two weight rows by two inputs: eight registers of sums. */
TILE void float_pass(const struct float_tile *t, const bool is_q8, int first)
{
    size_t k = (size_t)t->k;
    size_t last_w = (size_t)(first + 1 < t->n_w ? first + 1 : first);
    size_t last_a = (size_t)(t->n_a - 1);
    size_t w[2] = {(size_t)first * k, last_w * k};
    const float *a[2] = {t->a, t->a + last_a * k};
    struct group sum[QUAD] = {group_zero(), group_zero(), group_zero(), group_zero()};
    size_t j = 0;
    for (; j + LANES <= k; j += LANES) {
        struct group x = group_load(a[0] + j);
        struct group y = group_load(a[1] + j);
        for (int i = 0; i < 2; i++) {
            struct group v = weights_at(t, is_q8, w[i] + j);
            group_add_product(&sum[i], &x, &v);
            group_add_product(&sum[i + 2], &y, &v);
        }
    }
    if (j < k) {
        struct group x = inputs_rest(a[0] + j, k - j);
        struct group y = inputs_rest(a[1] + j, k - j);
        for (int i = 0; i < 2; i++) {
            struct group v = weights_rest(t, is_q8, w[i] + j, k - j);
            group_add_product(&sum[i], &x, &v);
            group_add_product(&sum[i + 2], &y, &v);
        }
    }
    float four[QUAD];
    _mm_storeu_ps(four, total4(sum));
    t->sum[first] = four[0];
    t->sum[last_w] = four[1];
    t->sum[last_a * FLOAT_TILE_W + (size_t)first] = four[2];
    t->sum[last_a * FLOAT_TILE_W + last_w] = four[3];
}

/* Four weight rows by one input, for a row that comes alone. */
TILE void float_single(const struct float_tile *t, const bool is_q8)
{
    size_t k = (size_t)t->k;
    size_t w[QUAD];
    struct group sum[QUAD];
    for (int i = 0; i < QUAD; i++) {
        w[i] = (size_t)(i < t->n_w ? i : t->n_w - 1) * k;
        sum[i] = group_zero();
    }
    size_t j = 0;
    for (; j + LANES <= k; j += LANES) {
        struct group x = group_load(t->a + j);
        for (int i = 0; i < QUAD; i++) {
            struct group v = weights_at(t, is_q8, w[i] + j);
            group_add_product(&sum[i], &x, &v);
        }
    }
    if (j < k) {
        struct group x = inputs_rest(t->a + j, k - j);
        for (int i = 0; i < QUAD; i++) {
            struct group v = weights_rest(t, is_q8, w[i] + j, k - j);
            group_add_product(&sum[i], &x, &v);
        }
    }
    _mm_storeu_ps(t->sum, total4(sum));
}

TARGET static void float_tile(const struct float_tile *t)
{
    if (t->n_a == 1 && t->w_q) {
        float_single(t, true);
        return;
    }
    if (t->n_a == 1) {
        float_single(t, false);
        return;
    }
    for (int first = 0; first < t->n_w; first += 2) {
        if (t->w_q)
            float_pass(t, true, first);
        else
            float_pass(t, false, first);
    }
}

TARGET static void dots(float *s, const float *q, const float *k, size_t n, size_t dim)
{
    size_t t = 0;
    for (; t + QUAD <= n; t += QUAD) {
        struct group sum[QUAD] = {group_zero(), group_zero(), group_zero(), group_zero()};
        for (size_t i = 0; i < dim; i += LANES) {
            struct group x = group_load(q + i);
            for (size_t j = 0; j < QUAD; j++) {
                struct group key = group_load(k + (t + j) * dim + i);
                group_add_product(&sum[j], &x, &key);
            }
        }
        _mm_storeu_ps(s + t, total4(sum));
    }
    for (; t < n; t++) {
        struct group sum = group_zero();
        for (size_t i = 0; i < dim; i += LANES) {
            struct group x = group_load(q + i);
            struct group key = group_load(k + t * dim + i);
            group_add_product(&sum, &x, &key);
        }
        s[t] = total1(&sum);
    }
}

/* groups is a constant where this is inlined. */
TILE void weigh_columns(float *y, const float *p, const float *v, size_t n, size_t dim,
                        const int groups)
{
    struct group sum[QUAD];
    for (int g = 0; g < groups; g++)
        sum[g] = group_load(y + g * LANES);
    for (size_t t = 0; t < n; t++) {
        __m256 one = _mm256_set1_ps(p[t]);
        const struct group weight = {one, one};
        for (int g = 0; g < groups; g++) {
            struct group value = group_load(v + t * dim + (size_t)g * LANES);
            group_add_product(&sum[g], &weight, &value);
        }
    }
    for (int g = 0; g < groups; g++) {
        _mm256_storeu_ps(y + g * LANES, sum[g].low);
        _mm256_storeu_ps(y + g * LANES + HALF, sum[g].high);
    }
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
    __m256 most = _mm256_set1_ps(x[0]);
    size_t i = 0;
    for (; i + HALF <= n; i += HALF)
        most = _mm256_max_ps(_mm256_loadu_ps(x + i), most);
    float lane[HALF];
    _mm256_storeu_ps(lane, most);
    float result = max_lanes(lane, HALF);
    for (; i < n; i++)
        result = x[i] > result ? x[i] : result;
    return result;
}

LANES_LOOPS(TARGET)

const struct cpu_kernels *cpu_kernels_avx2(void)
{
    static const struct cpu_kernels table = LANES_TABLE("avx2", &attend_avx2, NULL);
    return __builtin_cpu_supports("avx2") ? &table : NULL;
}

#else

const struct cpu_kernels *cpu_kernels_avx2(void)
{
    return NULL;
}

#endif

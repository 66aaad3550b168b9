/* AVX2: for few rows, 32 int8 products per vpmaddubsw, unsigned by signed; many are in
 * cpu_avx2_wide.c. Float loops in the fixed lanes of cpu_kernels.h, one LANES group in two
 * registers. FMA is left out on purpose: it would round differently from the plain
 * loops. */

#include "kernels/cpu_avx2.h"

#if defined(__x86_64__)

#include "kernels/cpu_attend.h"
#include "kernels/cpu_lanes.h"

#define TARGET AVX2
#define TILE   AVX2_TILE

enum {
    STEP = 32,      /* int8 of a register */
    CHAINS_MAX = 4, /* sums of one row under way at once */
    AHEAD = 8192,   /* bytes between the weights read and those asked for */
    HALF = 8,       /* floats of a register */
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

/* Products of |w| and a with the sign of w: two of them, at most 2 * 128 * 127, fit 16 bits. */
TILE __m256i add_products(__m256i sum, __m256i w, __m256i w_abs, __m256i a)
{
    __m256i pairs = _mm256_maddubs_epi16(w_abs, _mm256_sign_epi8(a, w));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

/* One weight row by n_a inputs, each sum in eight parts. Memory is read in order, which the
 * prefetchers of the machine serve best, with some help across pages. n_a and chains are
 * constants where this is inlined. */
TILE void row_sums(__m256i *total, const struct q8_tile *t, const int8_t *w, const int n_a,
                   const int chains)
{
    size_t k = (size_t)t->k;
    size_t pass = (size_t)(STEP * chains);
    __m256i sum[Q8_TILE_A][CHAINS_MAX];
    for (int r = 0; r < n_a; r++) {
        for (int c = 0; c < chains; c++)
            sum[r][c] = _mm256_setzero_si256();
    }
    size_t j = 0;
    for (; j + pass <= k; j += pass) {
        for (int c = 0; c < chains; c++) {
            size_t at = j + (size_t)(STEP * c);
            if (c % 2 == 0)
                _mm_prefetch((const char *)w + at + AHEAD, _MM_HINT_T1);
            __m256i v = load32(w + at);
            __m256i v_abs = _mm256_abs_epi8(v);
            for (int r = 0; r < n_a; r++)
                sum[r][c] = add_products(sum[r][c], v, v_abs, load32(t->a + (size_t)r * k + at));
        }
    }
    for (; j < k; j += STEP) {
        __m256i v = load_some(w + j, k - j);
        __m256i v_abs = _mm256_abs_epi8(v);
        for (int r = 0; r < n_a; r++)
            sum[r][0] =
                add_products(sum[r][0], v, v_abs, load_some(t->a + (size_t)r * k + j, k - j));
    }
    for (int r = 0; r < n_a; r++) {
        total[r] = sum[r][0];
        for (int c = 1; c < chains; c++)
            total[r] = _mm256_add_epi32(total[r], sum[r][c]);
    }
}

/* The sums of four weight rows are folded together. Rows beyond the last repeat it; their sums
 * have room in the tile. */
TILE void tile(const struct q8_tile *t, const int n_a, const int chains)
{
    for (int32_t first = 0; first < t->n_w; first += QUAD) {
        __m256i total[QUAD][Q8_TILE_A];
        for (int32_t i = 0; i < QUAD; i++) {
            int32_t row = min32(first + i, t->n_w - 1);
            row_sums(total[i], t, t->w + (size_t)row * (size_t)t->k, n_a, chains);
        }
        for (int r = 0; r < n_a; r++) {
            __m128i four = fold4(total[0][r], total[1][r], total[2][r], total[3][r]);
            _mm_storeu_si128((__m128i *)(void *)(t->sum + r * Q8_TILE_W + first), four);
        }
    }
}

TARGET static void q8_tile(const struct q8_tile *t)
{
    if (t->n_a == 1)
        tile(t, 1, CHAINS_MAX);
    else if (t->n_a == 2)
        tile(t, 2, 2);
    else if (t->n_a == 3)
        tile(t, 3, 2);
    else
        tile(t, Q8_TILE_A, 2);
}

TARGET static int32_t q8_sum(const int8_t *q, size_t n)
{
    return q8_sum_lanes(q, n);
}

/* ---- floats ---- */

TILE struct group rest_load(const float *a, size_t n)
{
    float x[LANES] = {0};
    memcpy(x, a, n * sizeof(*x));
    return group_load(x);
}

/* Two weight rows by two inputs: eight registers of sums. */
TILE void float_pass(const struct float_tile *t, int first)
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
            struct group v = group_load(t->w + w[i] + j);
            group_add_product(&sum[i], &x, &v);
            group_add_product(&sum[i + 2], &y, &v);
        }
    }
    if (j < k) {
        struct group x = rest_load(a[0] + j, k - j);
        struct group y = rest_load(a[1] + j, k - j);
        for (int i = 0; i < 2; i++) {
            struct group v = rest_load(t->w + w[i] + j, k - j);
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
TILE void float_single(const struct float_tile *t)
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
            struct group v = group_load(t->w + w[i] + j);
            group_add_product(&sum[i], &x, &v);
        }
    }
    if (j < k) {
        struct group x = rest_load(t->a + j, k - j);
        for (int i = 0; i < QUAD; i++) {
            struct group v = rest_load(t->w + w[i] + j, k - j);
            group_add_product(&sum[i], &x, &v);
        }
    }
    _mm_storeu_ps(t->sum, total4(sum));
}

TARGET static void float_tile(const struct float_tile *t)
{
    if (t->n_a == 1) {
        float_single(t);
        return;
    }
    for (int first = 0; first < t->n_w; first += 2)
        float_pass(t, first);
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
    static const struct cpu_kernels table = LANES_TABLE("avx2", &attend_avx2, &cpu_wide_avx2);
    return __builtin_cpu_supports("avx2") ? &table : NULL;
}

const struct cpu_kernels *cpu_kernels_avxvnni(void)
{
    static const struct cpu_kernels table = {LANES_MEMBERS("avxvnni", &attend_avx2),
                                             .q8_tile = cpu_tile_avxvnni,
                                             .wide = &cpu_wide_avxvnni};
    return cpu_kernels_avx2() && cpu_avxvnni_granted() ? &table : NULL;
}

#else

const struct cpu_kernels *cpu_kernels_avx2(void)
{
    return NULL;
}

const struct cpu_kernels *cpu_kernels_avxvnni(void)
{
    return NULL;
}

#endif

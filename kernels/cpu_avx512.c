/* AVX-512 with VNNI: 64 products per instruction. Those of few rows are in cpu_few_avx512.c.
 *
 * vpdpbusd multiplies unsigned by signed bytes. Activations enter as a + 128, so a sum comes out
 * 128 * sum(w) too large, exactly, and that is taken off at the end: nothing saturates and nothing
 * rounds. A float register is exactly one group of LANES. */

#include "kernels/cpu_avx512.h"

#if defined(__x86_64__)

#include "kernels/cpu_attend.h"
#include "kernels/cpu_lanes.h"

#define TARGET AVX512
#define TILE   AVX512_TILE

enum {
    STEP = 64,
    LINE = 64,
    OFFSET = 128,
    QUAD = 4, /* sums folded together */
    /* A panel of 16 rows and one of 8; more fill two of wide's well enough. */
    FEW_MOST = 24,
    WIDE_W = 16, /* a line of floats, so an output is written once and whole */
    PASS_W = 8,
    PAIR_K = LINE / PASS_W, /* k of eight weight rows that make a line */
    WIDE_STEPS = STEP / 4,  /* products of four that a line of weights takes */
};

/* The same of half as many. */
TILE __m256i dot_half(__m256i sum, __m256i u, __m256i s)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(u), "vm"(s));
    return sum;
}

TARGET static int32_t q8_sum(const int8_t *q, size_t n)
{
    __m512i sum = _mm512_setzero_si512();
    const __m512i ones = _mm512_set1_epi8(1);
    for (size_t i = 0; i < n; i += STEP) {
        __mmask64 rest = n - i < STEP ? ~(__mmask64)0 >> (STEP - (n - i)) : ~(__mmask64)0;
        sum = dot(sum, ones, _mm512_maskz_loadu_epi8(rest, q + i));
    }
    return _mm512_reduce_add_epi32(sum);
}

/* ---- wide: many activation rows ----
 *
 * Lane i of a register belongs to activation row i, so four weights sent to all lanes serve
 * sixteen rows and nothing has to be folded. */

TARGET static void wide_pack(void *dst, const int8_t *a, int32_t n_a, int32_t k)
{
    pack_panel(dst, a, n_a, k, OFFSET);
}

/* Eight vectors of sixteen activation rows to half a row of [16][WIDE_W]. */
TILE void wide_put(int32_t *sum, const __m512i r[PASS_W])
{
    __m512i t[PASS_W];
    for (int i = 0; i < PASS_W; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int c = 0; c < QUAD; c++) {
        for (int half = 0; half < 2; half++) {
            __m512i x = t[QUAD * half + c / 2];
            __m512i y = t[QUAD * half + c / 2 + 2];
            __m512i u = c % 2 ? _mm512_unpackhi_epi64(x, y) : _mm512_unpacklo_epi64(x, y);
            __m128i *to = (__m128i *)(void *)(sum + c * WIDE_W + QUAD * half);
            enum { FOUR_ROWS = QUAD * WIDE_W / 4 };
            _mm_storeu_si128(to, _mm512_castsi512_si128(u));
            _mm_storeu_si128(to + FOUR_ROWS, _mm512_extracti32x4_epi32(u, 1));
            _mm_storeu_si128(to + FOUR_ROWS * 2, _mm512_extracti32x4_epi32(u, 2));
            _mm_storeu_si128(to + FOUR_ROWS * 3, _mm512_extracti32x4_epi32(u, 3));
        }
    }
}

/* What a pass over some panels works with. */
struct wide_pass {
    const int8_t *w[PASS_W];
    const uint8_t *a; /* the first panel */
    size_t panel;     /* bytes of one */
    const char *next; /* eight weight rows to come, asked for a line at a time */
};

/* Four weights from byte j of row w, of which n are there. */
TILE int32_t four_weights(const int8_t *w, size_t n)
{
    int32_t four = 0;
    memcpy(&four, w, n);
    return four;
}

/* n_z is a constant where this is inlined: 16 registers of sums at most, see tile(). */
TILE void wide_step(__m512i sum[2][PASS_W], const struct wide_pass *p, size_t j, size_t n,
                    const int n_z)
{
    __m512i a[2];
    for (int z = 0; z < n_z; z++)
        a[z] = _mm512_load_si512(p->a + (size_t)z * p->panel + j * WIDE_STEPS);
    for (int i = 0; i < PASS_W; i++) {
        __m512i w = _mm512_set1_epi32(four_weights(p->w[i] + j, n));
        for (int z = 0; z < n_z; z++)
            sum[z][i] = dot(sum[z][i], a[z], w);
    }
}

TILE void wide_panels(int32_t *out, const struct wide_pass *p, size_t k, const __m512i *over,
                      const int n_z)
{
    __m512i sum[2][PASS_W];
    for (int z = 0; z < n_z; z++) {
        for (int i = 0; i < PASS_W; i++)
            sum[z][i] = _mm512_setzero_si512();
    }
    size_t j = 0;
    for (; j + PAIR_K <= k; j += PAIR_K) {
        _mm_prefetch(p->next + j * PASS_W, _MM_HINT_T1);
        wide_step(sum, p, j, QUAD, n_z);
        wide_step(sum, p, j + QUAD, QUAD, n_z);
    }
    for (; j + QUAD <= k; j += QUAD)
        wide_step(sum, p, j, QUAD, n_z);
    if (j < k)
        wide_step(sum, p, j, k - j, n_z);
    for (int z = 0; z < n_z; z++) {
        for (int i = 0; i < PASS_W; i++)
            sum[z][i] = _mm512_sub_epi32(sum[z][i], over[i]);
        wide_put(out + z * Q8_PANEL * WIDE_W, sum[z]);
    }
}

TILE void wide_few_step(__m256i sum[PASS_W], const struct wide_pass *p, size_t j, size_t n)
{
    __m256i a = _mm256_load_si256((const __m256i *)(const void *)(p->a + j * WIDE_STEPS));
    for (int i = 0; i < PASS_W; i++)
        sum[i] = dot_half(sum[i], a, _mm256_set1_epi32(four_weights(p->w[i] + j, n)));
}

/* The same for the first eight rows of one panel: half the register, half the work. */
TILE void wide_few(int32_t *out, const struct wide_pass *p, size_t k, const __m512i *over)
{
    __m256i sum[PASS_W];
    for (int i = 0; i < PASS_W; i++)
        sum[i] = _mm256_setzero_si256();
    size_t j = 0;
    for (; j + PAIR_K <= k; j += PAIR_K) {
        _mm_prefetch(p->next + j * PASS_W, _MM_HINT_T1);
        wide_few_step(sum, p, j, QUAD);
        wide_few_step(sum, p, j + QUAD, QUAD);
    }
    for (; j + QUAD <= k; j += QUAD)
        wide_few_step(sum, p, j, QUAD);
    if (j < k)
        wide_few_step(sum, p, j, k - j);
    __m512i all[PASS_W];
    for (int i = 0; i < PASS_W; i++)
        all[i] = _mm512_sub_epi32(_mm512_zextsi256_si512(sum[i]), over[i]);
    wide_put(out, all);
}

/* OFFSET times the sum of each of eight weight rows, in every lane. */
TILE void weight_sums(__m512i over[PASS_W], const int8_t *const w[PASS_W], size_t k)
{
    const __m512i ones = _mm512_set1_epi8(1);
    for (int i = 0; i < PASS_W; i++)
        over[i] = _mm512_setzero_si512();
    size_t j = 0;
    for (; j + STEP <= k; j += STEP) {
        for (int i = 0; i < PASS_W; i++)
            over[i] = dot(over[i], ones, _mm512_loadu_si512(w[i] + j));
    }
    __mmask64 rest = j < k ? ~(__mmask64)0 >> (STEP - (k - j)) : 0;
    for (int i = 0; i < PASS_W; i++)
        over[i] = dot(over[i], ones, _mm512_maskz_loadu_epi8(rest, w[i] + j));
    for (int i = 0; i < PASS_W; i++)
        over[i] = _mm512_set1_epi32(OFFSET * _mm512_reduce_add_epi32(over[i]));
}

/* Eight weight rows against all panels; sum is their half of each row. */
TILE void wide_half(const struct q8_wide_tile *t, int32_t first)
{
    enum { PAIR = 2 * Q8_PANEL };
    size_t k = (size_t)t->k;
    struct wide_pass p = {.a = t->a, .panel = t->panel_bytes};
    __m512i over[PASS_W];
    for (int i = 0; i < PASS_W; i++)
        p.w[i] = t->w + (size_t)min32(first + i, t->n_w - 1) * k;
    if (t->w_sum)
        for (int i = 0; i < PASS_W; i++)
            over[i] = _mm512_set1_epi32(OFFSET * t->w_sum[min32(first + i, t->n_w - 1)]);
    else
        weight_sums(over, p.w, k);
    p.next = (const char *)(t->next ? t->next + (size_t)first * k : p.w[0]);
    int32_t *sum = t->sum + first;
    int32_t row = 0;
    for (; row + Q8_PANEL < t->n_a; row += PAIR) {
        wide_panels(sum + row * WIDE_W, &p, k, over, 2);
        p.a += 2 * p.panel;
        p.next = (const char *)p.w[0];
    }
    if (t->n_a - row > Q8_PANEL / 2)
        wide_panels(sum + row * WIDE_W, &p, k, over, 1);
    else if (row < t->n_a)
        wide_few(sum + row * WIDE_W, &p, k, over);
}

TARGET static void wide_sums(const struct q8_wide_tile *t)
{
    for (int32_t first = 0; first < t->n_w; first += PASS_W)
        wide_half(t, first);
}

static const struct q8_wide wide = {
    .n_w = WIDE_W, .panel_bytes = q8_panel_bytes, .pack = wide_pack, .sums = wide_sums};

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

TILE void float_step(__m512 sum[FLOAT_TILE_A][FLOAT_TILE_W], const struct float_tile *t,
                     const int n_a, const size_t w[FLOAT_TILE_W], size_t at, __mmask16 mask)
{
    __m512 a[FLOAT_TILE_A];
    for (int r = 0; r < n_a; r++)
        a[r] = _mm512_maskz_loadu_ps(mask, t->a + (size_t)r * (size_t)t->k + at);
    for (int i = 0; i < FLOAT_TILE_W; i++) {
        __m512 v = _mm512_maskz_loadu_ps(mask, t->w + w[i] + at);
        for (int r = 0; r < n_a; r++)
            sum[r][i] = add_product(sum[r][i], a[r], v);
    }
}

/* n_a is a constant where this is inlined. */
TILE void float_pass(const struct float_tile *t, const int n_a)
{
    size_t k = (size_t)t->k;
    size_t w[FLOAT_TILE_W];
    __m512 sum[FLOAT_TILE_A][FLOAT_TILE_W];
    for (int i = 0; i < FLOAT_TILE_W; i++) {
        w[i] = (size_t)(i < t->n_w ? i : t->n_w - 1) * k;
        for (int r = 0; r < n_a; r++)
            sum[r][i] = _mm512_setzero_ps();
    }
    /* A line of each weight row at a time, and the same line of the rows behind asked for. */
    size_t j = 0;
    for (; j + LANES <= k; j += LANES) {
        for (size_t i = 0; i < FLOAT_TILE_W; i++)
            _mm_prefetch((const char *)(t->w + FLOAT_TILE_W * k + w[i] + j), _MM_HINT_T1);
        float_step(sum, t, n_a, w, j, (__mmask16)0xffff);
    }
    if (j < k)
        float_step(sum, t, n_a, w, j, lanes_mask(k - j));
    for (int r = 0; r < n_a; r++)
        _mm_storeu_ps(t->sum + r * FLOAT_TILE_W, total4(sum[r]));
}

TARGET static void float_tile(const struct float_tile *t)
{
    if (t->n_a == 1)
        float_pass(t, 1);
    else
        float_pass(t, FLOAT_TILE_A);
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

static const struct cpu_kernels avx512 = {LANES_MEMBERS("avx512vnni", &attend_avx512),
                                          .few = &cpu_few_avx512, .few_most = FEW_MOST,
                                          .wide = &wide};

const struct cpu_kernels *cpu_kernels_avx512(void)
{
    bool can = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vnni");
    return can ? &avx512 : NULL;
}

const struct cpu_kernels *cpu_kernels_amx(void)
{
    static const struct cpu_kernels table = {LANES_MEMBERS("amx", &attend_avx512),
                                             .few = &cpu_few_avx512, .few_most = 12,
                                             .wide = &cpu_wide_amx};
    return cpu_kernels_avx512() && cpu_amx_granted() ? &table : NULL;
}

#else

const struct cpu_kernels *cpu_kernels_avx512(void)
{
    return NULL;
}

const struct cpu_kernels *cpu_kernels_amx(void)
{
    return NULL;
}

#endif

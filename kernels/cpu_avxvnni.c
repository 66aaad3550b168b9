/* AVX-VNNI: 32 products per instruction, for processors that have it without AVX-512.
 *
 * vpdpbusd multiplies unsigned by signed bytes. With few rows weights enter as w + 128 (one xor of
 * the top bit), with many, whose lanes are activation rows, activations do, when they are packed;
 * so sums come out 128 * sum(a) or 128 * sum(w) too large, exactly, and that is taken off at the
 * end: nothing saturates and nothing rounds. */

#include "kernels/cpu_avx2.h"
#include "kernels/cpu_vnni.h"

#if defined(__x86_64__)

enum {
    STEP = 32, /* int8 of a register */
    CHAINS_MAX = 8,
    AHEAD = 8192, /* bytes between the weights read and those asked for */
    OFFSET = 128,
    QUAD = 4,
    EIGHT = AVX2_EIGHT,
    HALVES = AVX2_HALVES,
    WIDE_W = AVX2_WIDE_W,
    /* Weight rows of passes, of which three make a tile: ten sums or more under way hide a
     * latency of five, and twelve leave room for four other registers. */
    PASS_MOST = 6,
    PASS_W = 5,
    PAIR_K = 8,                                 /* k of a round: two steps of four */
    STEP_BYTES = HALVES * (int)sizeof(__m256i), /* of a panel */
};

/* sum += u * s in fours of bytes. */
AVX2_TILE __m256i dot(__m256i sum, __m256i u, __m256i s)
{
    __asm__(VPDPBUSD " %2, %1, %0" : "+x"(sum) : "x"(u), "xm"(s));
    return sum;
}

/* ---- few rows ---- */

/* One weight row by n_a inputs, each sum in eight parts; memory is read in order. n_a and chains
 * are constants where this is inlined. */
AVX2_TILE void row_sums(__m256i *total, const struct q8_tile *t, const int8_t *w, const int n_a,
                        const int chains)
{
    size_t k = (size_t)t->k;
    size_t pass = (size_t)(STEP * chains);
    const __m256i flip = _mm256_set1_epi8((char)OFFSET);
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
            __m256i v = _mm256_xor_si256(load32(w + at), flip);
            for (int r = 0; r < n_a; r++)
                sum[r][c] = dot(sum[r][c], v, load32(t->a + (size_t)r * k + at));
        }
    }
    for (; j < k; j += STEP) {
        __m256i v = _mm256_xor_si256(load_some(w + j, k - j), flip);
        for (int r = 0; r < n_a; r++)
            sum[r][0] = dot(sum[r][0], v, load_some(t->a + (size_t)r * k + j, k - j));
    }
    for (int r = 0; r < n_a; r++) {
        total[r] = sum[r][0];
        for (int c = 1; c < chains; c++)
            total[r] = _mm256_add_epi32(total[r], sum[r][c]);
    }
}

/* The sums of four weight rows are folded together. Rows beyond the last repeat it; their sums
 * have room in the tile. */
AVX2_TILE void tile(const struct q8_tile *t, const int n_a, const int chains)
{
    for (int32_t first = 0; first < t->n_w; first += QUAD) {
        __m256i total[QUAD][Q8_TILE_A];
        for (int32_t i = 0; i < QUAD; i++) {
            int32_t row = min32(first + i, t->n_w - 1);
            row_sums(total[i], t, t->w + (size_t)row * (size_t)t->k, n_a, chains);
        }
        for (int r = 0; r < n_a; r++) {
            __m128i four = fold4(total[0][r], total[1][r], total[2][r], total[3][r]);
            four = _mm_sub_epi32(four, _mm_set1_epi32(OFFSET * t->a_sum[r]));
            _mm_storeu_si128((__m128i *)(void *)(t->sum + r * Q8_TILE_W + first), four);
        }
    }
}

AVX2 void cpu_tile_avxvnni(const struct q8_tile *t)
{
    if (t->n_a == 1)
        tile(t, 1, CHAINS_MAX);
    else if (t->n_a == 2)
        tile(t, 2, 4);
    else if (t->n_a == 3)
        tile(t, 3, 4);
    else
        tile(t, Q8_TILE_A, 2);
}

/* ---- many rows ---- */

AVX2 static void wide_pack(void *dst, const int8_t *a, int32_t n_a, int32_t k)
{
    const __m256i flip = _mm256_set1_epi8((char)OFFSET);
    for (int32_t half = 0; half * EIGHT < n_a; half++) {
        uint8_t *to = (uint8_t *)dst + half * (int)sizeof(flip);
        for (int32_t j = 0; j < k; j += STEP) {
            __m256i r[EIGHT];
            for (int32_t i = 0; i < EIGHT; i++) {
                int32_t row = min32(half * EIGHT + i, n_a - 1);
                r[i] = load_some(a + (size_t)row * (size_t)k + j, (size_t)(k - j));
            }
            turn8(r);
            for (int i = 0; i < EIGHT; i++, to += STEP_BYTES)
                store32(to, _mm256_xor_si256(r[i], flip));
        }
    }
}

/* What a pass over the panels works with. */
struct pass {
    const int8_t *w[PASS_MOST];
    int32_t over[PASS_MOST]; /* what is taken off: OFFSET times the sums of these */
    size_t k;
};

/* OFFSET times the sum of a weight row. */
AVX2_TILE int32_t offset_sum(const int8_t *w, size_t k)
{
    const __m256i ones = _mm256_set1_epi8(1);
    __m256i sum = _mm256_setzero_si256();
    size_t j = 0;
    for (; j + STEP <= k; j += STEP)
        sum = dot(sum, ones, load32(w + j));
    if (j < k)
        sum = dot(sum, ones, load_some(w + j, k - j));
    return OFFSET * _mm_cvtsi128_si32(fold4(sum, sum, sum, sum));
}

/* Four k of which n are there. halves and n_w are constants where this is inlined. */
AVX2_TILE void step(__m256i sum[HALVES][PASS_MOST], const struct pass *p, const uint8_t *a,
                    size_t j, size_t n, const int n_w, const int halves)
{
    __m256i v[HALVES];
    for (int h = 0; h < halves; h++)
        v[h] = load32(a + j * (STEP_BYTES / QUAD) + h * (int)sizeof(*v));
    for (int i = 0; i < n_w; i++) {
        int32_t four = 0;
        memcpy(&four, p->w[i] + j, n);
        __m256i w = _mm256_set1_epi32(four);
        for (int h = 0; h < halves; h++)
            sum[h][i] = dot(sum[h][i], v[h], w);
    }
}

/* n_w weight rows by one panel; next: as many to come, asked for on the way. */
AVX2_TILE void panel_sums(int32_t *sums, const struct pass *p, const uint8_t *a, const char *next,
                          const int n_w, const int halves)
{
    __m256i sum[HALVES][PASS_MOST];
    for (int h = 0; h < halves; h++)
        for (int i = 0; i < n_w; i++)
            sum[h][i] = _mm256_setzero_si256();
    size_t j = 0;
    for (; j + PAIR_K <= p->k; j += PAIR_K) {
        _mm_prefetch(next + j * (size_t)n_w, _MM_HINT_T1);
        step(sum, p, a, j, QUAD, n_w, halves);
        step(sum, p, a, j + QUAD, QUAD, n_w, halves);
    }
    for (; j + QUAD <= p->k; j += QUAD)
        step(sum, p, a, j, QUAD, n_w, halves);
    if (j < p->k)
        step(sum, p, a, j, p->k - j, n_w, halves);
    for (int h = 0; h < halves; h++)
        for (int i = 0; i < n_w; i++)
            store32(avx2_sums_at(sums, i, h),
                    _mm256_sub_epi32(sum[h][i], _mm256_set1_epi32(p->over[i])));
}

/* The weight rows from `first` on by all panels. Rows beyond the last repeat it. */
AVX2_TILE void pass_sums(const struct q8_wide_tile *t, int32_t first, const int n_w)
{
    struct pass p = {.k = (size_t)t->k};
    for (int i = 0; i < n_w; i++) {
        p.w[i] = t->w + (size_t)min32(first + i, t->n_w - 1) * p.k;
        p.over[i] = offset_sum(p.w[i], p.k);
    }
    const char *next = (const char *)(t->next ? t->next + (size_t)first * p.k : p.w[0]);
    const uint8_t *a = t->a;
    int32_t row = 0;
    for (; row + EIGHT < t->n_a; row += Q8_PANEL) {
        int32_t *sums = avx2_sums_at(t->sum + row * WIDE_W, first, 0);
        panel_sums(sums, &p, a, next, n_w, HALVES);
        next = (const char *)p.w[0];
        a += t->panel_bytes;
    }
    if (row < t->n_a)
        panel_sums(avx2_sums_at(t->sum + row * WIDE_W, first, 0), &p, a, next, n_w, 1);
}

AVX2 static void wide_sums(const struct q8_wide_tile *t)
{
    pass_sums(t, 0, PASS_MOST);
    pass_sums(t, PASS_MOST, PASS_W);
    pass_sums(t, PASS_MOST + PASS_W, PASS_W);
    for (int32_t row = 0; row < t->n_a; row += Q8_PANEL)
        avx2_sums_turn(t->sum + row * WIDE_W, t->n_a - row > EIGHT ? HALVES : 1);
}

const struct q8_wide cpu_wide_avxvnni = {
    .n_w = WIDE_W,
    .panel_bytes = q8_panel_bytes,
    .pack = wide_pack,
    .sums = wide_sums,
};

bool cpu_avxvnni_granted(void)
{
    return vnni_granted();
}

#endif

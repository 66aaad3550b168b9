/* Many rows with AVX2, by half as many multiplications (Winograd's inner product of 1968):
 *
 *     w0 a0 + w1 a1 = (w0 + a1) (w1 + a0) - w0 w1 - a0 a1
 *
 * What is taken off depends on one side only and is made once. A sum of two int8 has nine bits,
 * so everything is 16 bit integers, two products of which vpmaddwd adds: of four vector
 * operations for 32 int8 products three are additions, for which processors have more ports than
 * for multiplications. All is exact for any int8 values: sums may pass through what
 * 32 bits do not hold, but wrap around and come back.
 *
 * Lanes are activation rows, eight of them. Four k, in words, are two registers of a panel: the
 * even ones (0 and 2) and the odd ones. Weights are widened the same way, a slab of k at a time
 * which stays in the nearest cache, and go to all lanes. Between slabs sums wait where the result
 * belongs, a panel in its own 16 x 16, and in the end are turned around. */

#include "kernels/cpu_avx2.h"

#if defined(__x86_64__)

enum {
    EIGHT = AVX2_EIGHT,
    HALVES = AVX2_HALVES,
    WIDE_W = AVX2_WIDE_W,
    PASS_W = 4,   /* with two halves eight sums: half of the registers */
    CHUNK = 32,   /* k of a register of int8 */
    STEPS = 8,    /* fours of k in a chunk */
    SLAB_K = 256, /* k of widened weights: 8 KB, beside as much of a panel */
    LINE = 64,
    STEP_BYTES = HALVES * 2 * (int)sizeof(__m256i),
    CHUNK_BYTES = STEPS * STEP_BYTES,
    HEAD_BYTES = LINE, /* of a panel: what is taken off of its sums, [HALVES][EIGHT] */
};

struct slab {
    _Alignas(LINE) int16_t w[WIDE_W][2 * SLAB_K / CHUNK][CHUNK / 2]; /* even, odd, even, .. */
    int32_t over[WIDE_W]; /* what is taken off for the weights */
    size_t chunks;
};

/* Four int8 of a lane to the even two, or to the odd two. */
AVX2_TILE __m256i even_words(__m256i q)
{
    return _mm256_srai_epi16(_mm256_slli_epi16(q, 8), 8);
}

AVX2_TILE __m256i odd_words(__m256i q)
{
    return _mm256_srai_epi16(q, 8);
}

static size_t wide_panel_bytes(int32_t k)
{
    return HEAD_BYTES + 2 * q8_panel_bytes(k);
}

/* Half a panel: n_a rows of at most eight. */
AVX2_TILE void pack_half(uint8_t *dst, int half, const int8_t *a, int32_t n_a, size_t k)
{
    __m256i over = _mm256_setzero_si256();
    uint8_t *to = dst + HEAD_BYTES + half * 2 * (int)sizeof(__m256i);
    for (size_t j = 0; j < k; j += CHUNK) {
        __m256i r[EIGHT];
        for (int i = 0; i < EIGHT; i++)
            r[i] = i < n_a ? load_some(a + (size_t)i * k + j, k - j) : _mm256_setzero_si256();
        turn8(r);
        for (int i = 0; i < STEPS; i++, to += STEP_BYTES) {
            __m256i even = even_words(r[i]);
            __m256i odd = odd_words(r[i]);
            _mm256_store_si256((__m256i *)(void *)to, even);
            _mm256_store_si256((__m256i *)(void *)(to + sizeof(even)), odd);
            over = _mm256_sub_epi32(over, _mm256_madd_epi16(even, odd));
        }
    }
    _mm256_store_si256((__m256i *)(void *)dst + half, over);
}

AVX2 static void wide_pack(void *dst, const int8_t *a, int32_t n_a, int32_t k)
{
    for (int half = 0; half * EIGHT < n_a; half++)
        pack_half(dst, half, a + (size_t)(half * EIGHT) * (size_t)k, n_a - half * EIGHT, (size_t)k);
}

AVX2_TILE int32_t sum_of(__m256i v)
{
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

/* Even and odd words of q; returns the sums of their products. */
AVX2_TILE __m256i widen(int16_t to[2][CHUNK / 2], __m256i q)
{
    __m256i even = even_words(q);
    __m256i odd = odd_words(q);
    _mm256_store_si256((__m256i *)(void *)to[0], even);
    _mm256_store_si256((__m256i *)(void *)to[1], odd);
    return _mm256_madd_epi16(even, odd);
}

/* k from j on. Weight rows beyond the last repeat it, as many as a pass takes. */
AVX2_TILE void slab_fill(struct slab *s, const struct q8_wide_tile *t, size_t j)
{
    size_t k = (size_t)t->k;
    size_t n = k - j < SLAB_K ? k - j : SLAB_K;
    s->chunks = (n + CHUNK - 1) / CHUNK;
    for (int32_t i = 0; i < t->n_w || i % PASS_W != 0; i++) {
        const int8_t *w = t->w + (size_t)min32(i, t->n_w - 1) * k + j;
        __m256i over = _mm256_setzero_si256();
        size_t c = 0;
        for (; (c + 1) * CHUNK <= n; c++)
            over = _mm256_add_epi32(over, widen(s->w[i] + 2 * c, load32(w + c * CHUNK)));
        if (c < s->chunks)
            over = _mm256_add_epi32(
                over, widen(s->w[i] + 2 * c, load_some(w + c * CHUNK, n - c * CHUNK)));
        s->over[i] = sum_of(over);
    }
}

/* sum += (even + a_odd) * (odd + a_even), in pairs. Compilers copy the sums of a loop back and
 * forth where this is intrinsics: a third of the speed. */
AVX2_TILE __m256i add_products(__m256i sum, __m256i even, __m256i odd, const __m256i a[2])
{
    __m256i x;
    __m256i y;
    __asm__("vpaddw %6, %3, %1\n\t"
            "vpaddw %5, %4, %2\n\t"
            "vpmaddwd %2, %1, %1\n\t"
            "vpaddd %1, %0, %0"
            : "+x"(sum), "=&x"(x), "=&x"(y)
            : "x"(even), "x"(odd), "x"(a[0]), "x"(a[1]));
    return sum;
}

/* The same where the weights are not used again, so that 16 registers are enough. */
AVX2_TILE __m256i add_last_products(__m256i sum, __m256i even, __m256i odd, const __m256i a[2])
{
    __asm__("vpaddw %4, %1, %1\n\t"
            "vpaddw %3, %2, %2\n\t"
            "vpmaddwd %2, %1, %1\n\t"
            "vpaddd %1, %0, %0"
            : "+x"(sum), "+x"(even), "+x"(odd)
            : "x"(a[0]), "x"(a[1]));
    return sum;
}

AVX2_TILE __m256i two_words(const int16_t *w)
{
    int32_t two;
    memcpy(&two, w, sizeof(two));
    return _mm256_set1_epi32(two);
}

/* Four k: of the panel from a on, of the weights from w on. halves is a constant where this is
 * inlined. */
AVX2_TILE void step(__m256i sum[HALVES][PASS_W], const uint8_t *a, const int16_t *w,
                    const int halves)
{
    enum { ROW = SLAB_K, ODD = CHUNK / 2 };
    __m256i v[HALVES][2];
    for (int h = 0; h < halves; h++) {
        v[h][0] = _mm256_load_si256((const __m256i *)(const void *)a + 2 * h);
        v[h][1] = _mm256_load_si256((const __m256i *)(const void *)a + 2 * h + 1);
    }
    for (int i = 0; i < PASS_W; i++) {
        __m256i even = two_words(w + i * ROW);
        __m256i odd = two_words(w + i * ROW + ODD);
        for (int h = 0; h + 1 < halves; h++)
            sum[h][i] = add_products(sum[h][i], even, odd, v[h]);
        sum[halves - 1][i] = add_last_products(sum[halves - 1][i], even, odd, v[halves - 1]);
    }
}

/* Four weight rows of a slab by the same k of a panel. */
AVX2_TILE void pass(int32_t *sums, const uint8_t *a, const struct slab *s, int32_t first,
                    const char *next, const int halves)
{
    const int16_t *w = s->w[first][0];
    __m256i sum[HALVES][PASS_W];
    for (int h = 0; h < halves; h++)
        for (int i = 0; i < PASS_W; i++)
            sum[h][i] = _mm256_sub_epi32(load32(avx2_sums_at(sums, first + i, h)),
                                         _mm256_set1_epi32(s->over[first + i]));
    for (size_t c = 0; c < s->chunks; c++) {
        _mm_prefetch(next, _MM_HINT_T1);
        _mm_prefetch(next + LINE, _MM_HINT_T1);
        step(sum, a, w, halves);
        step(sum, a + STEP_BYTES, w + 2, halves);
        step(sum, a + 2 * STEP_BYTES, w + 4, halves);
        step(sum, a + 3 * STEP_BYTES, w + 6, halves);
        step(sum, a + 4 * STEP_BYTES, w + 8, halves);
        step(sum, a + 5 * STEP_BYTES, w + 10, halves);
        step(sum, a + 6 * STEP_BYTES, w + 12, halves);
        step(sum, a + 7 * STEP_BYTES, w + 14, halves);
        a += CHUNK_BYTES;
        w += CHUNK;
        next += 2 * LINE;
    }
    for (int h = 0; h < halves; h++)
        for (int i = 0; i < PASS_W; i++)
            store32(avx2_sums_at(sums, first + i, h), sum[h][i]);
}

/* Before the first slab: what is taken off for the activations. */
AVX2_TILE void sums_begin(int32_t *sums, const uint8_t *panel, const int halves)
{
    for (int h = 0; h < halves; h++) {
        __m256i over = load32(panel + h * (int)sizeof(over));
        for (int i = 0; i < WIDE_W; i++)
            store32(avx2_sums_at(sums, i, h), over);
    }
}

/* One panel by the slab that begins at j. Of weights to come two lines are asked for in each
 * chunk, which is all of them by the end. */
AVX2_TILE void panel_sums(const struct q8_wide_tile *t, const struct slab *s, size_t j, int32_t row,
                          const int halves)
{
    const uint8_t *panel = t->a + (size_t)(row / Q8_PANEL) * t->panel_bytes;
    const uint8_t *a = panel + HEAD_BYTES + j / CHUNK * CHUNK_BYTES;
    const char *next = (const char *)t->w;
    int32_t *sums = t->sum + (size_t)row * WIDE_W;
    if (t->next && row == 0)
        next = (const char *)t->next + j * WIDE_W;
    if (j == 0)
        sums_begin(sums, panel, halves);
    for (int32_t first = 0; first < t->n_w; first += PASS_W) {
        pass(sums, a, s, first, next, halves);
        next += s->chunks * (size_t)(2 * LINE);
    }
    if (j + SLAB_K >= (size_t)t->k)
        avx2_sums_turn(sums, halves);
}

AVX2 static void wide_sums(const struct q8_wide_tile *t)
{
    struct slab s;
    for (size_t j = 0; j < (size_t)t->k; j += SLAB_K) {
        slab_fill(&s, t, j);
        int32_t row = 0;
        for (; row + EIGHT < t->n_a; row += Q8_PANEL)
            panel_sums(t, &s, j, row, HALVES);
        if (row < t->n_a)
            panel_sums(t, &s, j, row, 1);
    }
}

const struct q8_wide cpu_wide_avx2 = {
    .n_w = WIDE_W,
    .panel_bytes = wide_panel_bytes,
    .pack = wide_pack,
    .sums = wide_sums,
};

#endif

/* Few activation rows, AVX-512 with VNNI: weights are read once, as they come from memory.
 *
 * A register holds `rows` activation rows (1, 2, 4, 8 or 16), of each as many neighbouring bytes
 * of k as there is room, and the same bytes of one weight row are sent to all of them. So every
 * lane of every product counts, and a product costs one load. Nothing beside products takes the
 * units that make them: activations are the unsigned side, 128 is added when they are packed, and
 * 128 * sum(w) is taken off at the end.
 *
 * Weights are asked for in the order in which they lie, at an even pace, WEIGHTS_AHEAD rows before
 * they are used: eight rows at once are eight streams, of which the machine's own prefetchers
 * make less. */

#include "kernels/cpu_avx512.h"

#if defined(__x86_64__)

#include <string.h>

#define TARGET AVX512
#define TILE   AVX512_TILE

enum {
    LINE = 64,
    OFFSET = 128,
    OFFSET_LOG2 = 7,
    QUAD = 4,
    PASS_W = 8,        /* weight rows of a pass */
    WEIGHTS_AHEAD = 8, /* in rows: those of the pass to come */
    WORD = 8,
};

static const uint64_t offsets = 0x8080808080808080u; /* OFFSET in each byte */

/* How many of `left` rows the next panel takes. */
static int32_t panel_rows(int32_t left)
{
    if (left > 12)
        return 16;
    if (left > QUAD)
        return 8;
    return left > 2 ? QUAD : left;
}

static size_t padded(int32_t k)
{
    return ((size_t)k + LINE - 1) / LINE * LINE;
}

/* ---- packing ---- */

/* A line of each of n rows, rows beyond repeat the last: LINE / rows bytes of each in turn. */
TILE void pack_lines(uint8_t *dst, const int8_t *const from[PASS_W], const int rows)
{
    const int each = LINE / rows;
    for (int step = 0; step < rows; step++) {
        for (int r = 0; r < rows; r++) {
            for (int at = 0; at < each; at += WORD, dst += WORD) {
                uint64_t word;
                memcpy(&word, from[r] + step * each + at, WORD);
                word ^= offsets;
                memcpy(dst, &word, WORD);
            }
        }
    }
}

TILE void pack_rows(uint8_t *dst, const int8_t *a, int32_t n_a, size_t k, const int rows)
{
    const int8_t *from[PASS_W];
    int8_t rest[PASS_W][LINE] = {{0}};
    for (size_t j = 0; j < k; j += LINE, dst += LINE * rows) {
        for (int r = 0; r < rows; r++) {
            from[r] = a + (size_t)min32(r, n_a - 1) * k + j;
            if (k - j < LINE)
                from[r] = memcpy(rest[r], from[r], k - j);
        }
        pack_lines(dst, from, rows);
    }
}

TARGET static void few_pack(uint8_t *dst, const int8_t *a, int32_t n_a, int32_t k)
{
    for (int32_t rows; n_a > 0; n_a -= rows) {
        rows = panel_rows(n_a);
        if (rows == Q8_PANEL)
            pack_panel(dst, a, n_a, k, OFFSET);
        else if (rows == 8)
            pack_rows(dst, a, n_a, (size_t)k, 8);
        else if (rows == QUAD)
            pack_rows(dst, a, n_a, (size_t)k, QUAD);
        else if (rows == 2)
            pack_rows(dst, a, n_a, (size_t)k, 2);
        else
            pack_rows(dst, a, n_a, (size_t)k, 1);
        dst += padded(k) * (size_t)rows;
        a += (size_t)rows * (size_t)k;
    }
}

/* ---- sums ---- */

struct pass {
    const int8_t *w[PASS_W];
    int32_t w_sum[PASS_W];
    const char *ahead; /* weights to come */
};

/* The same bytes of a weight row to each of the rows of a register. */
TILE __m512i to_all(const int8_t *w, const int rows)
{
    int32_t four;
    int64_t eight;
    if (rows == 16)
        return memcpy(&four, w, sizeof(four)), _mm512_set1_epi32(four);
    if (rows == 8)
        return memcpy(&eight, w, sizeof(eight)), _mm512_set1_epi64(eight);
    if (rows == QUAD)
        return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)w));
    if (rows == 2)
        return _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(const void *)w));
    return _mm512_loadu_si512(w);
}

/* A line of each weight row by a panel, while as many of the weights to come are asked for. */
TILE void line_sums(__m512i sum[PASS_W], const int8_t *const w[PASS_W], size_t j, const uint8_t *a,
                    const char *ahead, const int rows)
{
    for (int step = 0; step < rows; step++) {
        __m512i x = _mm512_load_si512(a + step * LINE);
        for (int line = step * PASS_W / rows; line < (step + 1) * PASS_W / rows; line++)
            _mm_prefetch(ahead + line * LINE, _MM_HINT_T1);
        for (int i = 0; i < PASS_W; i++)
            sum[i] = dot(sum[i], x, to_all(w[i] + j + step * (LINE / rows), rows));
    }
}

/* Two vectors to one that has the sums of neighbours of both, within lanes of 128 bit. */
TILE __m512i fold(__m512i a, __m512i b)
{
    __m512 x = _mm512_castsi512_ps(a);
    __m512 y = _mm512_castsi512_ps(b);
    return _mm512_add_epi32(_mm512_castps_si512(_mm512_shuffle_ps(x, y, 0x88)),
                            _mm512_castps_si512(_mm512_shuffle_ps(x, y, 0xdd)));
}

TILE __m512i fold4(const __m512i v[QUAD])
{
    return fold(fold(v[0], v[1]), fold(v[2], v[3]));
}

TILE __m128i fold_lanes(__m512i v)
{
    __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

TILE void put(int32_t *to, __m128i four)
{
    _mm_storeu_si128((__m128i *)(void *)to, four);
}

/* Lane i of v to row `each` * i. */
TILE void put_lanes(int32_t *to, __m512i v, __m128i over, const int each)
{
    v = _mm512_sub_epi32(v, _mm512_broadcast_i32x4(over));
    put(to, _mm512_castsi512_si128(v));
    put(to + each * Q8_FEW_W, _mm512_extracti32x4_epi32(v, 1));
    put(to + 2 * each * Q8_FEW_W, _mm512_extracti32x4_epi32(v, 2));
    put(to + 3 * each * Q8_FEW_W, _mm512_extracti32x4_epi32(v, 3));
}

/* Four weight rows' sums, the rows and parts of them side by side, to [rows][4]; over is what they
 * are too large by. */
TILE void put4(int32_t *to, const __m512i v[QUAD], __m128i over, const int rows)
{
    __m512i all = fold4(v);
    if (rows == 1) {
        put(to, _mm_sub_epi32(fold_lanes(all), over));
        return;
    }
    if (rows == 2) {
        all = _mm512_add_epi32(all, _mm512_shuffle_i32x4(all, all, 0xb1));
        put(to, _mm_sub_epi32(_mm512_castsi512_si128(all), over));
        put(to + Q8_FEW_W, _mm_sub_epi32(_mm512_extracti32x4_epi32(all, 2), over));
        return;
    }
    if (rows == QUAD) {
        put_lanes(to, all, over, 1);
        return;
    }
    if (rows == 8) {
        __m512 x = _mm512_castsi512_ps(fold(v[0], v[1]));
        __m512 y = _mm512_castsi512_ps(fold(v[2], v[3]));
        put_lanes(to, _mm512_castps_si512(_mm512_shuffle_ps(x, y, 0x88)), over, 2);
        put_lanes(to + Q8_FEW_W, _mm512_castps_si512(_mm512_shuffle_ps(x, y, 0xdd)), over, 2);
        return;
    }
    __m512i a = _mm512_unpacklo_epi32(v[0], v[1]);
    __m512i b = _mm512_unpackhi_epi32(v[0], v[1]);
    __m512i c = _mm512_unpacklo_epi32(v[2], v[3]);
    __m512i d = _mm512_unpackhi_epi32(v[2], v[3]);
    put_lanes(to, _mm512_unpacklo_epi64(a, c), over, QUAD);
    put_lanes(to + Q8_FEW_W, _mm512_unpackhi_epi64(a, c), over, QUAD);
    put_lanes(to + 2 * Q8_FEW_W, _mm512_unpacklo_epi64(b, d), over, QUAD);
    put_lanes(to + 3 * Q8_FEW_W, _mm512_unpackhi_epi64(b, d), over, QUAD);
}

/* Eight weight rows by one panel. */
TILE void panel_sums(int32_t *to, const struct pass *p, const uint8_t *a, size_t k, const int rows)
{
    const char *ahead = p->ahead;
    __m512i sum[PASS_W];
    for (int i = 0; i < PASS_W; i++)
        sum[i] = _mm512_setzero_si512();
    size_t j = 0;
    for (; j + LINE <= k; j += LINE, ahead += PASS_W * LINE)
        line_sums(sum, p->w, j, a + j * (size_t)rows, ahead, rows);
    if (j < k) {
        int8_t rest[PASS_W][LINE] = {{0}};
        const int8_t *w[PASS_W];
        for (int i = 0; i < PASS_W; i++)
            w[i] = memcpy(rest[i], p->w[i] + j, k - j);
        line_sums(sum, w, 0, a + j * (size_t)rows, ahead, rows);
    }
    for (int half = 0; half < PASS_W; half += QUAD) {
        __m128i w_sum = _mm_loadu_si128((const __m128i *)(const void *)(p->w_sum + half));
        put4(to + half, sum + half, _mm_slli_epi32(w_sum, OFFSET_LOG2), rows);
    }
}

/* Eight weight rows by all panels. Rows beyond the last repeat it. */
TARGET static void pass(const struct q8_few_tile *t, int32_t w_first)
{
    size_t k = (size_t)t->k;
    struct pass p;
    for (int i = 0; i < PASS_W; i++) {
        int32_t n = min32(w_first + i, t->n_w - 1);
        p.w[i] = t->w + (size_t)n * k;
        p.w_sum[i] = t->w_sum[n];
    }
    p.ahead = (const char *)p.w[0] + WEIGHTS_AHEAD * k;
    const uint8_t *a = t->a;
    int32_t rows;
    for (int32_t row = 0; row < t->n_a; row += rows) {
        int32_t *to = t->sum + row * Q8_FEW_W + w_first;
        rows = panel_rows(t->n_a - row);
        if (rows == 16)
            panel_sums(to, &p, a, k, 16);
        else if (rows == 8)
            panel_sums(to, &p, a, k, 8);
        else if (rows == QUAD)
            panel_sums(to, &p, a, k, QUAD);
        else if (rows == 2)
            panel_sums(to, &p, a, k, 2);
        else
            panel_sums(to, &p, a, k, 1);
        a += padded(t->k) * (size_t)rows;
    }
}

TARGET static void few_sums(const struct q8_few_tile *t)
{
    for (int32_t first = 0; first < t->n_w; first += PASS_W)
        pass(t, first);
}

const struct q8_few cpu_few_avx512 = {.pack = few_pack, .sums = few_sums};

#endif

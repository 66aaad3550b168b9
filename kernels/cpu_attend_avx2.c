/* Attention with AVX2: 16 bit integers as such, keys and values widened to 16 bit, products
 * added in pairs by vpmaddwd.
 *
 * A strip and a slab of dims are widened once for all queries, into a buffer that stays in
 * the nearest cache: keys turned so that a register holds a pair of dims of eight keys,
 * values so that it holds a pair of tokens of eight dims. */

#include "kernels/cpu_attend.h"

#if defined(__x86_64__)

#include "kernels/cpu_attend_lanes.h"
#include "kernels/cpu_avx2.h"

#define TARGET AVX2
#define TILE   AVX2_TILE

enum {
    EIGHT = 8,
    HALF_SLAB = SLAB / 2, /* bytes of a register */
    PAIRS = SLAB / 2,     /* of dims */
    TOKEN_PAIRS = STRIP / 2,
    SUMS = SLAB / EIGHT,
    TOGETHER = 4,
};

/* Rows first .. first + n of a slab, as much as there is; the rest is 0. */
static void copy_rows(int8_t to[STRIP][SLAB], const struct strip *s, size_t slab)
{
    size_t n = s->dim - slab < SLAB ? s->dim - slab : SLAB;
    for (size_t t = 0; t < STRIP; t++) {
        size_t have = t < (size_t)s->n ? n : 0;
        if (have)
            memcpy(to[t], s->q + t * s->dim + slab, have);
        memset(to[t] + have, 0, SLAB - have);
    }
}

/* pair[p][t]: dims 2 p and 2 p + 1 of key t. */
TILE void widen_keys(int16_t pair[PAIRS][STRIP][2], int8_t rows[STRIP][SLAB])
{
    /* Quads d0 d1 d2 d3 to d0 d2 d1 d3: then even bytes are one pair and odd ones the other. */
    const __m256i swap = _mm256_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15, 0,
                                          2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
    for (int part = 0; part < STRIP / EIGHT * 2; part++) {
        int token = part / 2 * EIGHT;
        int half = part % 2 * HALF_SLAB;
        __m256i r[EIGHT];
        for (int t = 0; t < EIGHT; t++)
            r[t] = _mm256_shuffle_epi8(
                _mm256_loadu_si256((const __m256i *)(const void *)(rows[token + t] + half)), swap);
        turn8(r);
        for (int i = 0; i < EIGHT; i++) {
            int p = half / 2 + 2 * i;
            _mm256_storeu_si256((__m256i *)(void *)pair[p][token],
                                _mm256_srai_epi16(_mm256_slli_epi16(r[i], 8), 8));
            _mm256_storeu_si256((__m256i *)(void *)pair[p + 1][token], _mm256_srai_epi16(r[i], 8));
        }
    }
}

TILE __m256i broadcast(const int8_t *words)
{
    int32_t two;
    memcpy(&two, words, sizeof(two));
    return _mm256_set1_epi32(two);
}

TILE __m256i load_pairs(const int16_t *pairs)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)pairs);
}

/* n_q is a constant where this is inlined; sum [n_q][STRIP] of this slab. */
TILE void score_queries(int32_t sum[TOGETHER][STRIP], int16_t pair[PAIRS][STRIP][2],
                        const int8_t *query, size_t query_bytes, const int n_q)
{
    __m256i low[TOGETHER];
    __m256i high[TOGETHER];
    for (int i = 0; i < n_q; i++)
        low[i] = high[i] = _mm256_setzero_si256();
    for (int p = 0; p < PAIRS; p++) {
        __m256i a = load_pairs(pair[p][0]);
        __m256i b = load_pairs(pair[p][EIGHT]);
        for (int i = 0; i < n_q; i++) {
            __m256i q = broadcast(query + (size_t)i * query_bytes + 4 * (size_t)p);
            low[i] = _mm256_add_epi32(low[i], _mm256_madd_epi16(q, a));
            high[i] = _mm256_add_epi32(high[i], _mm256_madd_epi16(q, b));
        }
    }
    for (int i = 0; i < n_q; i++) {
        _mm256_storeu_si256((__m256i *)(void *)sum[i], low[i]);
        _mm256_storeu_si256((__m256i *)(void *)(sum[i] + EIGHT), high[i]);
    }
}

TARGET static void scores(int32_t *sum, const struct strip *keys, const int8_t *query,
                          const struct q16 *of, int32_t n_q)
{
    int8_t rows[STRIP][SLAB];
    int16_t pair[PAIRS][STRIP][2];
    int32_t part[TOGETHER][STRIP];
    size_t query_bytes = 2 * slabs(keys->dim);
    (void)of;
    for (size_t slab = 0; slab < keys->dim; slab += SLAB) {
        copy_rows(rows, keys, slab);
        widen_keys(pair, rows);
        for (int32_t i = 0; i < n_q; i += TOGETHER) {
            const int8_t *from = query + (size_t)i * query_bytes + 2 * slab;
            int32_t n = min32(TOGETHER, n_q - i);
            for (int32_t j = 0; n < TOGETHER && j < n; j++)
                score_queries(&part[j], pair, from + (size_t)j * query_bytes, query_bytes, 1);
            if (n == TOGETHER)
                score_queries(part, pair, from, query_bytes, TOGETHER);
            for (int32_t j = 0; j < n; j++) {
                int32_t *to = sum + (size_t)(i + j) * CHUNK + keys->first;
                for (int32_t t = 0; t < keys->n; t++)
                    to[t] = (slab ? to[t] : 0) + part[j][t];
            }
        }
    }
}

/* pair[p][d]: tokens 2 p and 2 p + 1 of a dim; of each 16 dims 0-3, 8-11, 4-7, 12-15. */
TILE void widen_values(int16_t pair[TOKEN_PAIRS][SLAB][2], int8_t rows[STRIP][SLAB])
{
    for (int p = 0; p < TOKEN_PAIRS; p++) {
        for (int d = 0; d < SLAB; d += 2 * EIGHT) {
            __m256i a = _mm256_cvtepi8_epi16(
                _mm_loadu_si128((const __m128i *)(const void *)(rows[2 * p] + d)));
            __m256i b = _mm256_cvtepi8_epi16(
                _mm_loadu_si128((const __m128i *)(const void *)(rows[2 * p + 1] + d)));
            _mm256_storeu_si256((__m256i *)(void *)pair[p][d], _mm256_unpacklo_epi16(a, b));
            _mm256_storeu_si256((__m256i *)(void *)pair[p][d + EIGHT], _mm256_unpackhi_epi16(a, b));
        }
    }
}

TILE void weigh_row(int32_t *acc, int16_t pair[TOKEN_PAIRS][SLAB][2], const int8_t *weight,
                    int32_t n)
{
    __m256i sum[SUMS];
    for (int j = 0; j < SUMS; j++)
        sum[j] = _mm256_loadu_si256((const __m256i *)(const void *)(acc + j * EIGHT));
    for (int32_t p = 0; 2 * p < n; p++) {
        __m256i w = broadcast(weight + 4 * (size_t)p);
        for (int j = 0; j < SUMS; j++)
            sum[j] = _mm256_add_epi32(sum[j], _mm256_madd_epi16(w, load_pairs(pair[p][j * EIGHT])));
    }
    for (int j = 0; j < SUMS; j++)
        _mm256_storeu_si256((__m256i *)(void *)(acc + j * EIGHT), sum[j]);
}

TARGET static void weigh(int32_t *acc, const struct strip *values, const int8_t *weight,
                         int32_t n_q)
{
    int8_t rows[STRIP][SLAB];
    int16_t pair[TOKEN_PAIRS][SLAB][2];
    size_t padded = slabs(values->dim);
    for (size_t slab = 0; slab < values->dim; slab += SLAB) {
        copy_rows(rows, values, slab);
        widen_values(pair, rows);
        for (size_t i = 0; i < (size_t)n_q; i++)
            weigh_row(acc + i * padded + slab, pair,
                      weight + 2 * (i * (size_t)CHUNK + (size_t)values->first), values->n);
    }
}

TARGET static void pack(int8_t *to, struct q16 *of, const float *x, size_t n, size_t padded)
{
    pack_words(to, of, x, n, padded);
}

TARGET static void soften(struct soft *s)
{
    soften_words(s);
}

TARGET static void finish(float *part, const int32_t *acc, const struct q16 *weight_of,
                          size_t padded)
{
    static const uint8_t quad[SLAB / 4] = {0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15};
    finish_lanes(part, acc, weight_of->scale, 0, quad, padded);
}

const struct attend_loops attend_avx2 = {
    .pack = pack,
    .scores = scores,
    .soften = soften,
    .weigh = weigh,
    .finish = finish,
};

#endif

/* Attention with AVX-512 and VNNI.
 *
 * A 16 bit integer lies as two signed bytes, 256 * high + low, each in a plane of its own:
 * two vpdpbusd are as many products as two vpdpwssd and need no wider copy of keys and
 * values. Those enter as unsigned, q + 128 (the top bit turned), so sums come out 128 times
 * the row's total too large, exactly, which is taken off where a sum begins or ends.
 *
 * A strip of keys and a slab of dims are sixteen registers. Keys are turned so that a
 * register holds four dims of sixteen keys, values so that it holds four tokens of sixteen
 * dims: then no sum ever runs across a register. */

#include "kernels/cpu_attend.h"

#if defined(__x86_64__)

#include "kernels/cpu_attend_lanes.h"

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,avx512dq")))
#define TILE   TARGET static inline __attribute__((always_inline))

enum {
    OFFSET = 128,
    QUAD = 4,
    REGISTERS = 16,
    TOGETHER = 4, /* queries whose sums are built side by side */
};

/* 16 rows of 16 dwords become 16 columns. */
TILE void turn_dwords(__m512i r[REGISTERS])
{
    __m512i t[REGISTERS];
    for (int i = 0; i < REGISTERS; i += 4) {
        __m512i a = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        __m512i b = _mm512_unpackhi_epi32(r[i], r[i + 1]);
        __m512i c = _mm512_unpacklo_epi32(r[i + 2], r[i + 3]);
        __m512i d = _mm512_unpackhi_epi32(r[i + 2], r[i + 3]);
        t[i] = _mm512_unpacklo_epi64(a, c);
        t[i + 1] = _mm512_unpackhi_epi64(a, c);
        t[i + 2] = _mm512_unpacklo_epi64(b, d);
        t[i + 3] = _mm512_unpackhi_epi64(b, d);
    }
    /* Each 128 bits are four rows of one column now: columns i, i + 4, i + 8, i + 12. */
    for (int i = 0; i < 4; i++) {
        __m512i a = _mm512_shuffle_i32x4(t[i], t[i + 4], 0x44);
        __m512i b = _mm512_shuffle_i32x4(t[i], t[i + 4], 0xee);
        __m512i c = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0x44);
        __m512i d = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0xee);
        r[i] = _mm512_shuffle_i32x4(a, c, 0x88);
        r[i + 4] = _mm512_shuffle_i32x4(a, c, 0xdd);
        r[i + 8] = _mm512_shuffle_i32x4(b, d, 0x88);
        r[i + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
}

/* Rows of a slab, unsigned. Rows that are not there are 0, which adds nothing to any sum. */
TILE void load_rows(__m512i r[REGISTERS], const struct strip *s, size_t slab)
{
    const __m512i flip = _mm512_set1_epi8((char)OFFSET);
    size_t n = s->dim - slab;
    __mmask64 mask = n < SLAB ? ~(__mmask64)0 >> (SLAB - n) : ~(__mmask64)0;
    for (int t = 0; t < REGISTERS; t++)
        r[t] = t < s->n ? _mm512_maskz_loadu_epi8(mask, s->q + (size_t)t * s->dim + slab) : flip;
    for (int t = 0; t < REGISTERS; t++)
        r[t] = _mm512_xor_si512(r[t], flip);
}

TILE __m512i broadcast(const int8_t *quad)
{
    int32_t four;
    memcpy(&four, quad, sizeof(four));
    return _mm512_set1_epi32(four);
}

/* n_q is a constant where this is inlined. */
TILE void score_queries(int32_t *sum, const __m512i r[REGISTERS], const int8_t *query,
                        const struct q16 *of, size_t padded, size_t slab, __mmask16 mask,
                        const int n_q)
{
    __m512i low[TOGETHER];
    __m512i high[TOGETHER];
    for (int i = 0; i < n_q; i++) {
        low[i] = slab ? _mm512_loadu_si512(sum + i * CHUNK)
                      : _mm512_set1_epi32((int32_t)(0u - (uint32_t)OFFSET * (uint32_t)of[i].total));
        high[i] = _mm512_setzero_si512();
    }
    for (int j = 0; j < REGISTERS; j++) {
        for (int i = 0; i < n_q; i++) {
            const int8_t *at = query + (size_t)i * 2 * padded + slab + QUAD * (size_t)j;
            high[i] = _mm512_dpbusd_epi32(high[i], r[j], broadcast(at));
            low[i] = _mm512_dpbusd_epi32(low[i], r[j], broadcast(at + padded));
        }
    }
    for (int i = 0; i < n_q; i++) {
        __m512i whole = _mm512_add_epi32(_mm512_slli_epi32(high[i], 8), low[i]);
        _mm512_mask_storeu_epi32(sum + i * CHUNK, mask, whole);
    }
}

TARGET static void scores(int32_t *sum, const struct strip *keys, const int8_t *query,
                          const struct q16 *of, int32_t n_q)
{
    size_t padded = slabs(keys->dim);
    __mmask16 mask = (__mmask16)(0xffffu >> (STRIP - keys->n));
    for (size_t slab = 0; slab < keys->dim; slab += SLAB) {
        __m512i r[REGISTERS];
        load_rows(r, keys, slab);
        turn_dwords(r);
        int32_t i = 0;
        for (; i + TOGETHER <= n_q; i += TOGETHER)
            score_queries(sum + (size_t)i * CHUNK + keys->first, r, query + (size_t)i * 2 * padded,
                          of + i, padded, slab, mask, TOGETHER);
        for (; i < n_q; i++)
            score_queries(sum + (size_t)i * CHUNK + keys->first, r, query + (size_t)i * 2 * padded,
                          of + i, padded, slab, mask, 1);
    }
}

/* Four rows of 64 bytes each become four registers of 16 quads, each a byte of every row.
 * Register j has of every 128 bits the dims 4 j .. 4 j + 3. */
TILE void turn_quads(__m512i r[REGISTERS])
{
    for (int i = 0; i < REGISTERS; i += QUAD) {
        __m512i a = _mm512_unpacklo_epi8(r[i], r[i + 1]);
        __m512i b = _mm512_unpackhi_epi8(r[i], r[i + 1]);
        __m512i c = _mm512_unpacklo_epi8(r[i + 2], r[i + 3]);
        __m512i d = _mm512_unpackhi_epi8(r[i + 2], r[i + 3]);
        r[i] = _mm512_unpacklo_epi16(a, c);
        r[i + 1] = _mm512_unpackhi_epi16(a, c);
        r[i + 2] = _mm512_unpacklo_epi16(b, d);
        r[i + 3] = _mm512_unpackhi_epi16(b, d);
    }
}

/* weight: the high bytes of this row at the strip's first token. */
TILE void weigh_row(int32_t *acc, const __m512i r[REGISTERS], const int8_t *weight)
{
    __m512i sum[QUAD];
    for (int j = 0; j < QUAD; j++)
        sum[j] = _mm512_setzero_si512();
    for (int i = 0; i < REGISTERS; i += QUAD) {
        for (int j = 0; j < QUAD; j++)
            sum[j] = _mm512_dpbusd_epi32(sum[j], r[i + j], broadcast(weight + i));
    }
    for (int j = 0; j < QUAD; j++)
        sum[j] =
            _mm512_add_epi32(_mm512_slli_epi32(sum[j], 8), _mm512_loadu_si512(acc + j * LANES));
    for (int i = 0; i < REGISTERS; i += QUAD) {
        for (int j = 0; j < QUAD; j++)
            sum[j] = _mm512_dpbusd_epi32(sum[j], r[i + j], broadcast(weight + CHUNK + i));
    }
    for (int j = 0; j < QUAD; j++)
        _mm512_storeu_si512(acc + j * LANES, sum[j]);
}

TARGET static void weigh(int32_t *acc, const struct strip *values, const int8_t *weight,
                         int32_t n_q)
{
    size_t padded = slabs(values->dim);
    for (size_t slab = 0; slab < values->dim; slab += SLAB) {
        __m512i r[REGISTERS];
        load_rows(r, values, slab);
        turn_quads(r);
        for (size_t i = 0; i < (size_t)n_q; i++)
            weigh_row(acc + i * padded + slab, r,
                      weight + i * 2 * (size_t)CHUNK + (size_t)values->first);
    }
}

/* LANES integers to their bytes; their sum in lanes. */
TILE __m512i planes_put(int8_t *high, int8_t *low, __m512 x, __m512 inverse)
{
    __m512 shifted = _mm512_add_ps(_mm512_mul_ps(x, inverse), _mm512_set1_ps(ROUND_MAGIC));
    __m512i v = _mm512_sub_epi32(_mm512_castps_si512(shifted), _mm512_set1_epi32(ROUND_MAGIC_BITS));
    __m512i top = _mm512_srai_epi32(_mm512_add_epi32(v, _mm512_set1_epi32(OFFSET)), 8);
    _mm_storeu_si128((__m128i *)(void *)high, _mm512_cvtepi32_epi8(top));
    _mm_storeu_si128((__m128i *)(void *)low, _mm512_cvtepi32_epi8(v));
    return v;
}

TILE __m512 load_some(const float *x, size_t n)
{
    return _mm512_maskz_loadu_ps((__mmask16)(n < LANES ? (1u << n) - 1 : 0xffffu), x);
}

TARGET static void pack(int8_t *to, struct q16 *of, const float *x, size_t n, size_t padded)
{
    __m512i most = _mm512_setzero_si512();
    __m512i total = _mm512_setzero_si512();
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    for (size_t i = 0; i < n; i += LANES) {
        __m512i bits = _mm512_castps_si512(load_some(x + i, n - i));
        most = _mm512_max_epi32(most, _mm512_and_si512(bits, magnitude));
    }
    float inverse = q16_scale(&of->scale, (uint32_t)_mm512_reduce_max_epi32(most));
    memset(to, 0, 2 * padded);
    for (size_t i = 0; i < n && inverse > 0.0f; i += LANES)
        total = _mm512_add_epi32(total, planes_put(to + i, to + padded + i, load_some(x + i, n - i),
                                                   _mm512_set1_ps(inverse)));
    of->total = _mm512_reduce_add_epi32(total);
}

/* exp_fast() of numbers that are not above 0. */
TILE __m512 exp_lanes(__m512 x)
{
    const __m512 least = _mm512_set1_ps(EXP_LEAST);
    const __m512 magic = _mm512_set1_ps(ROUND_MAGIC);
    const __m512 one = _mm512_set1_ps(1.0f);
    __m512 in = _mm512_max_ps(least, x); /* NaN stays */
    __m512 n = _mm512_add_ps(_mm512_mul_ps(in, _mm512_set1_ps(EXP_PER_LN2)), magic);
    __m512i power = _mm512_sub_epi32(_mm512_castps_si512(n), _mm512_set1_epi32(ROUND_MAGIC_BITS));
    n = _mm512_sub_ps(n, magic);
    __m512 r = _mm512_sub_ps(in, _mm512_mul_ps(n, _mm512_set1_ps(EXP_LN2_HIGH)));
    r = _mm512_add_ps(r, _mm512_mul_ps(n, _mm512_set1_ps(EXP_LN2_LOW)));
    __m512 p = _mm512_set1_ps(1.0f / 720.0f);
    p = _mm512_add_ps(_mm512_mul_ps(p, r), _mm512_set1_ps(1.0f / 120.0f));
    p = _mm512_add_ps(_mm512_mul_ps(p, r), _mm512_set1_ps(1.0f / 24.0f));
    p = _mm512_add_ps(_mm512_mul_ps(p, r), _mm512_set1_ps(1.0f / 6.0f));
    p = _mm512_add_ps(_mm512_mul_ps(p, r), _mm512_set1_ps(0.5f));
    p = _mm512_add_ps(_mm512_mul_ps(p, r), one);
    p = _mm512_add_ps(_mm512_mul_ps(p, r), one);
    power = _mm512_slli_epi32(_mm512_add_epi32(power, _mm512_set1_epi32(127)), 23);
    __mmask16 some = _mm512_cmp_ps_mask(x, least, _CMP_NLT_UQ);
    return _mm512_maskz_mul_ps(some, p, _mm512_castsi512_ps(power));
}

/* Which of the LANES keys from `at` on the row sees. */
TILE __mmask16 seen_at(const struct soft *s, int32_t at)
{
    uint32_t below_end = s->end - at < LANES ? (1u << (s->end - at)) - 1 : 0xffffu;
    uint32_t from_begin = s->begin > at ? 0xffffu << (s->begin - at) : 0xffffu;
    return (__mmask16)(below_end & from_begin);
}

/* score_row() and weight_row(), whose sums compilers keep in memory. */
TILE float score_lanes(const struct soft *s)
{
    const __m512 nothing = _mm512_set1_ps(-INFINITY);
    const __m512 factor = _mm512_set1_ps(s->factor);
    __m512 most = nothing;
    float lane[LANES];
    for (int32_t at = first_group(s); at < s->end; at += LANES) {
        __m512 x = _mm512_cvtepi32_ps(_mm512_loadu_si512(s->sum + at));
        x = _mm512_mul_ps(_mm512_mul_ps(x, factor), _mm512_loadu_ps(s->key_scale + at));
        x = _mm512_mask_mov_ps(nothing, seen_at(s, at), x);
        _mm512_storeu_ps(s->room + at, x);
        most = _mm512_max_ps(x, most);
    }
    _mm512_storeu_ps(lane, most);
    return max_lanes(lane, LANES);
}

TILE uint32_t weight_lanes(struct soft *s)
{
    const __m512 most = _mm512_set1_ps(s->most);
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512 total = _mm512_setzero_ps();
    __m512i largest = _mm512_setzero_si512();
    float lane[LANES];
    for (int32_t at = first_group(s); at < s->end; at += LANES) {
        __mmask16 seen = seen_at(s, at);
        __m512 e = exp_lanes(_mm512_sub_ps(_mm512_loadu_ps(s->room + at), most));
        __m512 w = _mm512_maskz_mul_ps(seen, e, _mm512_loadu_ps(s->value_scale + at));
        total = _mm512_mask_add_ps(total, seen, total, e);
        largest = _mm512_max_epi32(largest, _mm512_and_si512(_mm512_castps_si512(w), magnitude));
        _mm512_storeu_ps(s->room + at, w);
    }
    _mm512_storeu_ps(lane, total);
    s->total = lanes_total(lane);
    return (uint32_t)_mm512_reduce_max_epi32(largest);
}

TARGET static void soften(struct soft *s)
{
    s->most = score_lanes(s);
    float inverse = q16_scale(&s->weight_of.scale, weight_lanes(s));
    const __m512 factor = _mm512_set1_ps(inverse);
    __m512i total = _mm512_setzero_si512();
    memset(s->weight, 0, 2 * (size_t)CHUNK);
    for (int32_t at = first_group(s); at < s->end && inverse > 0.0f; at += LANES)
        total = _mm512_add_epi32(total, planes_put(s->weight + at, s->weight + CHUNK + at,
                                                   _mm512_loadu_ps(s->room + at), factor));
    s->weight_of.total = _mm512_reduce_add_epi32(total);
}

TARGET static void finish(float *part, const int32_t *acc, const struct q16 *weight_of,
                          size_t padded)
{
    static const uint8_t quad[SLAB / QUAD] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
    uint32_t excess = (uint32_t)OFFSET * (uint32_t)weight_of->total;
    finish_lanes(part, acc, weight_of->scale, excess, quad, padded);
}

const struct attend_loops attend_avx512 = {
    .pack = pack,
    .scores = scores,
    .soften = soften,
    .weigh = weigh,
    .finish = finish,
};

#endif

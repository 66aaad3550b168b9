#ifndef KERNELS_CPU_ATTEND_LANES_H
#define KERNELS_CPU_ATTEND_LANES_H

#include "kernels/cpu_attend.h"
#include "kernels/cpu_lanes.h"

#include <math.h>

/* What every table of attend loops takes as it is, inlined into one function per
 * instruction set. */

/* To LANES integers. */
LANES_FN void q16_group(int32_t out[LANES], const float *x, float inverse)
{
    for (size_t j = 0; j < LANES; j++)
        out[j] = (int32_t)(bits_of(x[j] * inverse + ROUND_MAGIC) - (uint32_t)ROUND_MAGIC_BITS);
}

/* The scale of a row whose largest magnitude has these bits, and what integers are
 * multiples of; 0 makes all of them 0. */
LANES_FN float q16_scale(float *scale, uint32_t most)
{
    float absmax = of_bits(most);
    bool finite = most < 0x7f800000u;
    bool some = finite && absmax >= ABSMAX_LEAST;
    *scale = some ? absmax / (float)Q16_MOST : finite ? 0.0f : of_bits(0x7fc00000u);
    return some ? (float)Q16_MOST / absmax : 0.0f;
}

LANES_FN uint32_t lanes_most(const uint32_t lane[LANES])
{
    uint32_t most = 0;
    for (size_t j = 0; j < LANES; j++)
        most = lane[j] > most ? lane[j] : most;
    return most;
}

/* The larger of what `lane` has and the magnitudes of x. */
LANES_FN void magnitudes(uint32_t lane[LANES], const float *x)
{
    for (size_t j = 0; j < LANES; j++) {
        uint32_t u = bits_of(x[j]) & 0x7fffffffu;
        lane[j] = u > lane[j] ? u : lane[j];
    }
}

/* Groups of the chunk that hold anything the row sees. */
LANES_FN int32_t first_group(const struct soft *s)
{
    return s->begin / LANES * LANES;
}

/* Scores in s->room, -INFINITY where the row sees nothing; the largest one. */
LANES_FN float score_row(const struct soft *s)
{
    const int32_t *restrict sum = s->sum;
    const float *restrict scale = s->key_scale;
    float *restrict room = s->room;
    const float factor = s->factor;
    const int32_t begin = s->begin;
    const int32_t end = s->end;
    float most[LANES];
    for (int j = 0; j < LANES; j++)
        most[j] = -INFINITY;
    for (int32_t at = first_group(s); at < end; at += LANES) {
        for (int32_t j = 0; j < LANES; j++) {
            int32_t t = at + j;
            float x = (float)sum[t] * factor * scale[t];
            x = either((t >= begin) & (t < end), x, -INFINITY);
            room[t] = x;
            most[j] = either(x > most[j], x, most[j]);
        }
    }
    return max_lanes(most, LANES);
}

/* Scores to exponentials, whose sum is s->total, times the scales of the values. Scales that
 * the row does not see may be anything. Gives the bits of the largest weight. */
LANES_FN uint32_t weight_row(struct soft *s)
{
    const float *restrict scale = s->value_scale;
    float *restrict room = s->room;
    const float most = s->most;
    const int32_t begin = s->begin;
    const int32_t end = s->end;
    float total[LANES] = {0};
    uint32_t largest[LANES] = {0};
    for (int32_t at = first_group(s); at < end; at += LANES) {
        float e[LANES];
        for (int32_t j = 0; j < LANES; j++)
            e[j] = exp_fast(room[at + j] - most);
        for (int32_t j = 0; j < LANES; j++) {
            bool seen = (at + j >= begin) & (at + j < end);
            total[j] += either(seen, e[j], 0.0f);
            room[at + j] = either(seen, e[j] * scale[at + j], 0.0f);
        }
        magnitudes(largest, room + at);
    }
    s->total = lanes_total(total);
    return lanes_most(largest);
}

/* Leaves the weights in s->room and gives what makes integers of them. */
LANES_FN float soften_lanes(struct soft *s)
{
    s->most = score_row(s);
    return q16_scale(&s->weight_of.scale, weight_row(s));
}

/* quad[i]: where in the sums of a slab the dims 4 i .. 4 i + 3 are. */
LANES_FN void finish_lanes(float *part, const int32_t *acc, float scale, uint32_t excess,
                           const uint8_t quad[SLAB / 4], size_t padded)
{
    for (size_t slab = 0; slab < padded; slab += SLAB) {
        for (size_t i = 0; i < SLAB; i += 4) {
            const int32_t *from = acc + slab + 4 * (size_t)quad[i / 4];
            for (size_t j = 0; j < 4; j++)
                part[slab + i + j] = (float)(int32_t)((uint32_t)from[j] - excess) * scale;
        }
    }
}

/* ---- tables that lay 16 bit integers out as such ---- */

LANES_FN int32_t words_put(int8_t *to, const float *x, float inverse)
{
    int32_t group[LANES];
    int16_t word[LANES];
    int32_t total = 0;
    q16_group(group, x, inverse);
    for (size_t j = 0; j < LANES; j++) {
        word[j] = (int16_t)group[j];
        total += group[j];
    }
    memcpy(to, word, sizeof(word));
    return total;
}

LANES_FN void pack_words(int8_t *to, struct q16 *of, const float *x, size_t n, size_t padded)
{
    uint32_t most[LANES] = {0};
    float last[LANES] = {0};
    size_t whole = n - n % LANES;
    memcpy(last, x + whole, (n - whole) * sizeof(*x));
    memset(to, 0, 2 * padded);
    for (size_t i = 0; i < whole; i += LANES)
        magnitudes(most, x + i);
    magnitudes(most, last);
    float inverse = q16_scale(&of->scale, lanes_most(most));
    of->total = 0;
    if (!(inverse > 0.0f))
        return;
    for (size_t i = 0; i < whole; i += LANES)
        of->total += words_put(to + 2 * i, x + i, inverse);
    if (whole < n)
        of->total += words_put(to + 2 * whole, last, inverse);
}

LANES_FN void soften_words(struct soft *s)
{
    float inverse = soften_lanes(s);
    memset(s->weight, 0, 2 * (size_t)CHUNK);
    s->weight_of.total = 0;
    if (!(inverse > 0.0f))
        return;
    for (int32_t at = first_group(s); at < s->end; at += LANES)
        s->weight_of.total += words_put(s->weight + 2 * at, s->room + at, inverse);
}

#endif

/* Plain loops: they define what the other tables of attention must compute. */

#include "kernels/cpu_attend_lanes.h"

static void pack(int8_t *to, struct q16 *of, const float *x, size_t n, size_t padded)
{
    pack_words(to, of, x, n, padded);
}

static int32_t word_at(const int8_t *row, size_t i)
{
    int16_t word;
    memcpy(&word, row + 2 * i, sizeof(word));
    return word;
}

static void scores(int32_t *sum, const struct strip *keys, const int8_t *query,
                   const struct q16 *of, int32_t n_q)
{
    size_t dim = keys->dim;
    (void)of;
    for (size_t i = 0; i < (size_t)n_q; i++) {
        for (size_t t = 0; t < (size_t)keys->n; t++) {
            int32_t total = 0;
            for (size_t d = 0; d < dim; d++)
                total += word_at(query + i * 2 * slabs(dim), d) * keys->q[t * dim + d];
            sum[i * CHUNK + (size_t)keys->first + t] = total;
        }
    }
}

static void soften(struct soft *s)
{
    soften_words(s);
}

static void weigh(int32_t *acc, const struct strip *values, const int8_t *weight, int32_t n_q)
{
    size_t dim = values->dim;
    for (size_t i = 0; i < (size_t)n_q; i++) {
        for (size_t t = 0; t < (size_t)values->n; t++) {
            int32_t w = word_at(weight + i * 2 * (size_t)CHUNK, (size_t)values->first + t);
            for (size_t d = 0; d < dim; d++)
                acc[i * slabs(dim) + d] += w * values->q[t * dim + d];
        }
    }
}

static void finish(float *part, const int32_t *acc, const struct q16 *weight_of, size_t padded)
{
    static const uint8_t quad[SLAB / 4] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    finish_lanes(part, acc, weight_of->scale, 0, quad, padded);
}

const struct attend_loops attend_plain = {
    .pack = pack,
    .scores = scores,
    .soften = soften,
    .weigh = weigh,
    .finish = finish,
};

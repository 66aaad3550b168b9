#ifndef KERNELS_CPU_LANES_H
#define KERNELS_CPU_LANES_H

#include "kernels/cpu_kernels.h"
#include "kernels/half.h"

#include <string.h>

/* Loops the compiler vectorises well by itself. They are inlined into one function
 * per instruction set, so that each table gets them in its own width; the results
 * are the same bits in all of them. */

#define LANES_FN static inline __attribute__((always_inline))

/* Rows whose largest magnitude is below this count as zero: 127 / absmax would
 * overflow. */
#define ABSMAX_LEAST 1e-35f

LANES_FN float lanes_total(const float lane[LANES])
{
    float part[LANES];
    memcpy(part, lane, sizeof(part));
    for (int half = LANES / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++)
            part[i] = part[i] + part[i + half];
    }
    return part[0];
}

LANES_FN float dot_float_lanes(const float *a, const float *w, size_t k)
{
    float lane[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= k; i += LANES) {
        for (size_t j = 0; j < LANES; j++)
            lane[j] += a[i + j] * w[i + j];
    }
    for (size_t j = 0; i + j < k; j++)
        lane[j] += a[i + j] * w[i + j];
    return lanes_total(lane);
}

LANES_FN void float_tile_lanes(const struct float_tile *t)
{
    size_t k = (size_t)t->k;
    for (size_t r = 0; r < (size_t)t->n_a; r++) {
        for (size_t i = 0; i < (size_t)t->n_w; i++) {
            const float *a = t->a + r * k;
            t->sum[r * FLOAT_TILE_W + i] = dot_float_lanes(a, t->w + i * k, k);
        }
    }
}

LANES_FN float square_sum_lanes(const float *x, size_t n)
{
    float lane[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (size_t j = 0; j < LANES; j++)
            lane[j] += x[i + j] * x[i + j];
    }
    for (size_t j = 0; i + j < n; j++)
        lane[j] += x[i + j] * x[i + j];
    return lanes_total(lane);
}

LANES_FN int32_t q8_sum_lanes(const int8_t *q, size_t n)
{
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += q[i];
    return sum;
}

/* accumulate, and whether there are bias and low, are constants where this is inlined, and n_w
 * mostly is: that is what makes a row worth a vector. */
LANES_FN void put_row_lanes(float *restrict y, const int32_t *restrict sum,
                            const int32_t *restrict low, float x_scale,
                            const float *restrict w_scale, const float *restrict bias, size_t n_w,
                            bool accumulate)
{
    for (size_t i = 0; i < n_w; i++) {
        float value = (float)sum[i];
        value = low ? (float)SPLIT * value + (float)low[i] : value;
        value = value * x_scale * w_scale[i];
        value = bias ? value + bias[i] : value;
        y[i] = accumulate ? y[i] + value : value;
    }
}

LANES_FN void put_rows_lanes(const struct q8_out *t, const bool split)
{
    size_t stride = (size_t)t->sum_stride;
    for (int32_t r = 0; r < t->n_a; r++) {
        float *y = t->y + (size_t)r * t->stride;
        const int32_t *sum = t->sum + (size_t)r * stride * (split ? 2 : 1);
        const int32_t *low = split ? sum + stride : NULL;
        float x_scale = t->x_scale[r];
        if (t->bias || t->n_w % LANES)
            put_row_lanes(y, sum, low, x_scale, t->w_scale, t->bias, (size_t)t->n_w, t->accumulate);
        else
            for (int32_t i = 0; i < t->n_w; i += LANES) {
                const int32_t *low_i = split ? low + i : NULL;
                if (t->accumulate)
                    put_row_lanes(y + i, sum + i, low_i, x_scale, t->w_scale + i, NULL, LANES,
                                  true);
                else
                    put_row_lanes(y + i, sum + i, low_i, x_scale, t->w_scale + i, NULL, LANES,
                                  false);
            }
    }
}

LANES_FN void q8_put_lanes(const struct q8_out *t)
{
    if (t->split)
        put_rows_lanes(t, true);
    else
        put_rows_lanes(t, false);
}

/* Magnitudes compared as integers: NaN is above infinity, so one maximum finds the scale and
 * everything that is not finite. false: a row of nothing or not finite, and all is done. */
LANES_FN bool row_scale_lanes(int8_t *q, size_t bytes, float *absmax, float *scale, float most_q,
                              const float *x, size_t n)
{
    uint32_t most = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t u = bits_of(x[i]) & 0x7fffffffu;
        most = u > most ? u : most;
    }
    *absmax = of_bits(most);
    *scale = *absmax / most_q;
    if (most < 0x7f800000u && *absmax >= ABSMAX_LEAST)
        return true;
    *scale = most >= 0x7f800000u ? of_bits(0x7fc00000u) : 0.0f;
    memset(q, 0, bytes);
    return false;
}

LANES_FN void quantize_lanes(int8_t *q, float *scale, const float *x, size_t n)
{
    float absmax;
    if (!row_scale_lanes(q, n, &absmax, scale, 127.0f, x, n))
        return;
    float inverse = 127.0f / absmax;
    for (size_t i = 0; i < n; i++) {
        uint32_t u = bits_of(x[i] * inverse + ROUND_MAGIC) - (uint32_t)ROUND_MAGIC_BITS;
        q[i] = (int8_t)u;
    }
}

LANES_FN void quantize_split_lanes(int8_t *q, float *scale, const float *x, size_t n)
{
    float absmax;
    if (!row_scale_lanes(q, 2 * n, &absmax, scale, (float)SPLIT_MOST, x, n))
        return;
    float inverse = (float)SPLIT_MOST / absmax;
    for (size_t i = 0; i < n; i++) {
        float whole = x[i] * inverse + ROUND_MAGIC - ROUND_MAGIC;
        float high = whole * (1.0f / (float)SPLIT) + ROUND_MAGIC - ROUND_MAGIC;
        q[i] = (int8_t)high;
        q[n + i] = (int8_t)(whole - (float)SPLIT * high);
    }
}

LANES_FN void silu_mul_lanes(float *y, const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = gate[i] / (1.0f + exp_fast(-gate[i])) * up[i];
}

LANES_FN void widen_lanes(float *dst, const int8_t *src, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = (float)src[i];
}

LANES_FN void widen_half_lanes(float *dst, const uint16_t *src, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = float_of_half(src[i]);
}

LANES_FN void dots_lanes(float *s, const float *q, const float *k, size_t n, size_t dim)
{
    for (size_t t = 0; t < n; t++) {
        float lane[LANES] = {0};
        for (size_t i = 0; i < dim; i += LANES) {
            for (size_t j = 0; j < LANES; j++)
                lane[j] += q[i + j] * k[t * dim + i + j];
        }
        s[t] = lanes_total(lane);
    }
}

LANES_FN void weigh_lanes(float *y, const float *p, const float *v, size_t n, size_t dim)
{
    for (size_t i = 0; i < dim; i += LANES) {
        float lane[LANES];
        memcpy(lane, y + i, sizeof(lane));
        for (size_t t = 0; t < n; t++) {
            for (size_t j = 0; j < LANES; j++)
                lane[j] += p[t] * v[t * dim + i + j];
        }
        memcpy(y + i, lane, sizeof(lane));
    }
}

LANES_FN float max_lanes(const float *x, size_t n)
{
    float most = x[0];
    for (size_t i = 1; i < n; i++)
        most = x[i] > most ? x[i] : most;
    return most;
}

LANES_FN float exp_sum_lanes(float *x, float max, size_t n)
{
    float lane[LANES] = {0};
    for (size_t i = 0; i < n; i++)
        x[i] = exp_fast(x[i] - max);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (size_t j = 0; j < LANES; j++)
            lane[j] += x[i + j];
    }
    for (size_t j = 0; i + j < n; j++)
        lane[j] += x[i + j];
    return lanes_total(lane);
}

/* The loops that every table takes as they are. */
#define LANES_LOOPS(target)                                                                        \
    target static float square_sum(const float *x, size_t n)                                       \
    {                                                                                              \
        return square_sum_lanes(x, n);                                                             \
    }                                                                                              \
    target static void q8_put(const struct q8_out *t)                                              \
    {                                                                                              \
        q8_put_lanes(t);                                                                           \
    }                                                                                              \
    target static void quantize(int8_t *q, float *scale, const float *x, size_t n)                 \
    {                                                                                              \
        quantize_lanes(q, scale, x, n);                                                            \
    }                                                                                              \
    target static void quantize_split(int8_t *q, float *scale, const float *x, size_t n)           \
    {                                                                                              \
        quantize_split_lanes(q, scale, x, n);                                                      \
    }                                                                                              \
    target static void silu_mul(float *y, const float *gate, const float *up, size_t n)            \
    {                                                                                              \
        silu_mul_lanes(y, gate, up, n);                                                            \
    }                                                                                              \
    target static void widen(float *dst, const int8_t *src, size_t n)                              \
    {                                                                                              \
        widen_lanes(dst, src, n);                                                                  \
    }                                                                                              \
    target static void widen_half(float *dst, const uint16_t *src, size_t n)                       \
    {                                                                                              \
        widen_half_lanes(dst, src, n);                                                             \
    }                                                                                              \
    target static float exp_sum(float *x, float most, size_t n)                                    \
    {                                                                                              \
        return exp_sum_lanes(x, most, n);                                                          \
    }

/* All of a table's loops but q8_tile, where the compiler's own vectors will do. */
#define LANES_LOOPS_PLAIN()                                                                        \
    LANES_LOOPS()                                                                                  \
    static void float_tile(const struct float_tile *t)                                             \
    {                                                                                              \
        float_tile_lanes(t);                                                                       \
    }                                                                                              \
    static int32_t q8_sum(const int8_t *q, size_t n)                                               \
    {                                                                                              \
        return q8_sum_lanes(q, n);                                                                 \
    }                                                                                              \
    static void dots(float *s, const float *q, const float *k, size_t n, size_t dim)               \
    {                                                                                              \
        dots_lanes(s, q, k, n, dim);                                                               \
    }                                                                                              \
    static void weigh(float *y, const float *p, const float *v, size_t n, size_t dim)              \
    {                                                                                              \
        weigh_lanes(y, p, v, n, dim);                                                              \
    }                                                                                              \
    static float max(const float *x, size_t n)                                                     \
    {                                                                                              \
        return max_lanes(x, n);                                                                    \
    }

/* What every table takes of a file that has functions of all these names; attention's loops beside
 * them. */
#define LANES_MEMBERS(label, loops)                                                                \
    .name = label, .q8_put = q8_put, .float_tile = float_tile, .q8_sum = q8_sum,                   \
    .square_sum = square_sum, .quantize = quantize, .quantize_split = quantize_split,              \
    .silu_mul = silu_mul, .widen = widen, .widen_half = widen_half, .dots = dots, .weigh = weigh,  \
    .max = max, .exp_sum = exp_sum, .attend = (loops)

/* A table with tiles for few rows, and its struct q8_wide or NULL. */
#define LANES_TABLE(label, loops, many)                                                            \
    {                                                                                              \
        LANES_MEMBERS(label, loops), .q8_tile = q8_tile, .wide = (many),                           \
    }

#endif

#ifndef TESTS_QUANT_RIG_H
#define TESTS_QUANT_RIG_H

#include "models/dtype.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* The block formats of GGUF a second time, from their definition: what value i of a block is,
 * one value at a time in double, and a plain quantizer for each, so that files of every type
 * can be made on the spot. Slow and obvious on purpose. */

struct quant {
    const char *name;
    uint32_t id; /* in a file */
    enum dtype dtype;
    int values; /* of a block */
    int bytes;
    double levels; /* steps of a value between the ends of its sub-block */
};

static const struct quant quants[] = {
    {"Q4_0", 2, DTYPE_Q4_0, 32, 18, 16},    {"Q4_1", 3, DTYPE_Q4_1, 32, 20, 15},
    {"Q5_0", 6, DTYPE_Q5_0, 32, 22, 32},    {"Q5_1", 7, DTYPE_Q5_1, 32, 24, 31},
    {"Q8_0", 8, DTYPE_Q8_0, 32, 34, 254},   {"Q4_K", 12, DTYPE_Q4_K, 256, 144, 15},
    {"Q5_K", 13, DTYPE_Q5_K, 256, 176, 31}, {"Q6_K", 14, DTYPE_Q6_K, 256, 210, 63},
};

enum { QUANT_BLOCK_MAX = 256, QUANT_BYTES_MAX = 256 };

/* --- halves --- */

static inline double half_value(const uint8_t *p)
{
    int bits = p[0] | p[1] << 8;
    int exponent = bits >> 10 & 31;
    double m = (bits & 1023) / 1024.0;
    double v = exponent == 0 ? ldexp(m, -14) : ldexp(1 + m, exponent - 15);
    if (exponent == 31)
        v = m > 0 ? (double)NAN : (double)INFINITY;
    return bits & 0x8000 ? -v : v;
}

/* The half nearest to x, which must be well inside of their range. */
static inline void half_put(uint8_t *p, double x)
{
    int exponent = 0;
    double m = frexp(fabs(x), &exponent); /* 0.5 <= m < 1 */
    int e = exponent + 14;
    int bits = 0;
    if (x < 0 || x > 0) {
        bits = e < 1 ? (int)lrint(ldexp(fabs(x), 24)) : (e << 10) + (int)lrint((2 * m - 1) * 1024);
    }
    bits |= x < 0 ? 0x8000 : 0;
    p[0] = (uint8_t)bits;
    p[1] = (uint8_t)(bits >> 8);
}

/* --- value i of a block --- */

static inline int bit(const uint8_t *p, int i)
{
    return p[i / 8] >> (i % 8) & 1;
}

static inline int nibble(const uint8_t *p, int high)
{
    return high ? *p >> 4 : *p & 15;
}

/* Scale (which 0) or minimum (which 1) of sub-block j of eight, six bits each. */
static inline int six(const uint8_t *scales, int j, int which)
{
    const uint8_t *low = scales + 4 * which;
    if (j < 4)
        return low[j] & 63;
    return nibble(scales + 8 + j - 4, which) + 16 * (low[j - 4] >> 6);
}

static inline double small_value(enum dtype d, const uint8_t *b, int i)
{
    int high = i >= 16;
    double scale = half_value(b);
    switch (d) {
    case DTYPE_Q4_0:
        return scale * (nibble(b + 2 + i % 16, high) - 8);
    case DTYPE_Q4_1:
        return scale * nibble(b + 4 + i % 16, high) + half_value(b + 2);
    case DTYPE_Q5_0:
        return scale * (nibble(b + 6 + i % 16, high) + 16 * bit(b + 2, i) - 16);
    case DTYPE_Q5_1:
        return scale * (nibble(b + 8 + i % 16, high) + 16 * bit(b + 4, i)) + half_value(b + 2);
    default:
        return scale * (int8_t)b[2 + i];
    }
}

static inline double super_value(enum dtype d, const uint8_t *b, int i)
{
    int sub = i / 32;
    int in = i % 32;
    if (d == DTYPE_Q6_K) {
        int half = i / 128;
        int quarter = i % 128 / 32;
        int low = nibble(b + 64 * half + 32 * (quarter % 2) + in, quarter / 2);
        int high = b[128 + 32 * half + in] >> (2 * quarter) & 3;
        return half_value(b + 208) * (int8_t)b[192 + i / 16] * (low + 16 * high - 32);
    }
    const uint8_t *nibbles = b + (d == DTYPE_Q5_K ? 48 : 16);
    int q = nibble(nibbles + 32 * (sub / 2) + in, sub % 2);
    if (d == DTYPE_Q5_K)
        q += 16 * (b[16 + in] >> sub & 1);
    return half_value(b) * six(b + 4, sub, 0) * q - half_value(b + 2) * six(b + 4, sub, 1);
}

static inline double quant_value(const struct quant *q, const uint8_t *block, int i)
{
    return q->values == 32 ? small_value(q->dtype, block, i) : super_value(q->dtype, block, i);
}

/* --- quantizers --- */

static inline int clamp_int(double x, int low, int high)
{
    double near = x < 0 ? x - 0.5 : x + 0.5; /* the conversion cuts it off */
    return near <= low ? low : near >= high ? high : (int)near;
}

struct span {
    double low;
    double high;
    double most; /* of the largest magnitude, with its sign */
};

static inline struct span span_of(const float *x, int n)
{
    struct span s = {(double)x[0], (double)x[0], (double)x[0]};
    for (int i = 1; i < n; i++) {
        double v = (double)x[i];
        s.low = v < s.low ? v : s.low;
        s.high = v > s.high ? v : s.high;
        s.most = fabs(v) > fabs(s.most) ? v : s.most;
    }
    return s;
}

static inline double over(double a, double b)
{
    return b < 0 || b > 0 ? a / b : 0;
}

static inline void put_small(const struct quant *q, uint8_t *b, const float *x)
{
    struct span s = span_of(x, 32);
    bool five = q->dtype == DTYPE_Q5_0 || q->dtype == DTYPE_Q5_1;
    bool offset = q->dtype == DTYPE_Q4_1 || q->dtype == DTYPE_Q5_1;
    int top = five ? 31 : 15;
    double scale = q->dtype == DTYPE_Q8_0 ? fabs(s.most) / 127
                   : offset               ? (s.high - s.low) / top
                                          : s.most / -((top + 1) / 2);
    half_put(b, scale);
    if (offset)
        half_put(b + 2, s.low);
    scale = half_value(b);
    double low = offset ? half_value(b + 2) : 0;
    uint8_t *bits = b + (offset ? 4 : 2);
    uint8_t *nibbles = bits + (five ? 4 : 0);
    for (int i = 0; i < 32; i++) {
        double v = (double)x[i];
        int n;
        if (q->dtype == DTYPE_Q8_0) {
            b[2 + i] = (uint8_t)clamp_int(over(v, scale), -127, 127);
            continue;
        }
        n = offset ? clamp_int(over(v - low, scale), 0, top)
                   : clamp_int(over(v, scale) + (top + 1) / 2, 0, top);
        nibbles[i % 16] |= (uint8_t)((n & 15) << (i >= 16 ? 4 : 0));
        if (five)
            bits[i / 8] |= (uint8_t)((n >> 4) << (i % 8));
    }
}

static inline void put_six(uint8_t *scales, int j, int which, int v)
{
    if (j < 4) {
        scales[4 * which + j] |= (uint8_t)v;
        return;
    }
    scales[8 + j - 4] |= (uint8_t)((v & 15) << (4 * which));
    scales[4 * which + j - 4] |= (uint8_t)((v >> 4) << 6);
}

static inline void put_k(const struct quant *q, uint8_t *b, const float *x)
{
    bool five = q->dtype == DTYPE_Q5_K;
    int top = five ? 31 : 15;
    double scale[8];
    double min[8];
    double most_scale = 0;
    double most_min = 0;
    for (int j = 0; j < 8; j++) {
        struct span s = span_of(x + 32 * j, 32);
        min[j] = s.low < 0 ? -s.low : 0;
        scale[j] = ((s.high > 0 ? s.high : 0) + min[j]) / top;
        most_scale = fmax(most_scale, scale[j]);
        most_min = fmax(most_min, min[j]);
    }
    half_put(b, most_scale / 63);
    half_put(b + 2, most_min / 63);
    for (int j = 0; j < 8; j++) {
        put_six(b + 4, j, 0, clamp_int(over(scale[j], half_value(b)), 0, 63));
        put_six(b + 4, j, 1, clamp_int(over(min[j], half_value(b + 2)), 0, 63));
    }
    double d[8];
    double m[8];
    for (int j = 0; j < 8; j++) {
        d[j] = half_value(b) * six(b + 4, j, 0);
        m[j] = half_value(b + 2) * six(b + 4, j, 1);
    }
    for (int i = 0; i < 256; i++) {
        int j = i / 32;
        int n = clamp_int(over((double)x[i] + m[j], d[j]), 0, top);
        b[(five ? 48 : 16) + 32 * (j / 2) + i % 32] |= (uint8_t)((n & 15) << (4 * (j % 2)));
        if (five)
            b[16 + i % 32] |= (uint8_t)((n >> 4) << j);
    }
}

static inline void put_q6_k(uint8_t *b, const float *x)
{
    double most = 0;
    for (int j = 0; j < 16; j++)
        most = fmax(most, fabs(span_of(x + 16 * j, 16).most) / 31);
    half_put(b + 208, most / 127);
    for (int j = 0; j < 16; j++) {
        double scale = fabs(span_of(x + 16 * j, 16).most) / 31;
        b[192 + j] = (uint8_t)clamp_int(over(scale, half_value(b + 208)), 0, 127);
    }
    double whole = half_value(b + 208);
    for (int i = 0; i < 256; i++) {
        int half = i / 128;
        int quarter = i % 128 / 32;
        double d = whole * (int8_t)b[192 + i / 16];
        int n = clamp_int(over((double)x[i], d), -32, 31) + 32;
        b[64 * half + 32 * (quarter % 2) + i % 32] |= (uint8_t)((n & 15) << (4 * (quarter / 2)));
        b[128 + 32 * half + i % 32] |= (uint8_t)((n >> 4) << (2 * quarter));
    }
}

static inline void quant_put(const struct quant *q, uint8_t *block, const float *x)
{
    memset(block, 0, (size_t)q->bytes);
    if (q->values == 32)
        put_small(q, block, x);
    else if (q->dtype == DTYPE_Q6_K)
        put_q6_k(block, x);
    else
        put_k(q, block, x);
}

#endif

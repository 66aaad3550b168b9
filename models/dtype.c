#include "models/dtype.h"

/* Sixteen-bit floats widen by moving bits; each loop gathers whether an exponent was all
 * ones, so that NaN and infinity cost no branch per value.
 *
 * The types of GGUF that begin with Q are blocks: a scale (for some a minimum too) in 16
 * bits and small integers. What can fail to be finite there is a scale alone. Nothing in a
 * block is aligned to more than two bytes, so blocks are read as bytes throughout. */

enum {
    F32_EXPONENT = 0x7f800000,
    F16_EXPONENT = 0x7c00,
    SMALL = 32,  /* values of a small block */
    SUPER = 256, /* values of a K block */
};

union bits {
    uint32_t u;
    float f;
};

static bool widen_f32(float *out, const void *from, size_t n)
{
    const uint32_t *in = from;
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        union bits v = {.u = in[i]};
        bad |= (v.u & F32_EXPONENT) == F32_EXPONENT;
        out[i] = v.f;
    }
    return !bad;
}

static bool widen_bf16(float *out, const void *from, size_t n)
{
    const uint16_t *in = from;
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        union bits v = {.u = (uint32_t)in[i] << 16};
        bad |= (v.u & F32_EXPONENT) == F32_EXPONENT;
        out[i] = v.f;
    }
    return !bad;
}

static inline float half_to_float(uint32_t half)
{
    /* Exponent and mantissa moved into place are the number times 2^-112, also when it is
     * subnormal; the product is exact. */
    union bits v = {.u = (half & 0x7fff) << 13};
    v.f *= 0x1p112f;
    v.u |= (half & 0x8000) << 16;
    return v.f;
}

static bool widen_f16(float *out, const void *from, size_t n)
{
    const uint16_t *in = from;
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        bad |= (in[i] & F16_EXPONENT) == F16_EXPONENT;
        out[i] = half_to_float(in[i]);
    }
    return !bad;
}

/* Without their row's scale, which lies elsewhere. */
static bool widen_i8(float *out, const void *from, size_t n)
{
    const int8_t *in = from;
    for (size_t i = 0; i < n; i++)
        out[i] = (float)in[i];
    return true;
}

/* --- blocks --- */

/* The scale at p; *bad gathers whether one was not finite. */
static inline float scale_at(const uint8_t *p, uint32_t *bad)
{
    uint32_t half = (uint32_t)p[0] | (uint32_t)p[1] << 8;
    *bad |= (half & F16_EXPONENT) == F16_EXPONENT;
    return half_to_float(half);
}

/* Of 32: the low nibbles are the first half, the high ones the second. */

static bool widen_q4_0(float *out, const void *from, size_t n)
{
    const uint8_t *in = from;
    uint32_t bad = 0;
    for (const float *end = out + n; out < end; out += SMALL, in += 18) {
        float d = scale_at(in, &bad);
        for (int i = 0; i < 16; i++) {
            int byte = in[2 + i];
            out[i] = d * (float)((byte & 15) - 8);
            out[i + 16] = d * (float)((byte >> 4) - 8);
        }
    }
    return !bad;
}

static bool widen_q4_1(float *out, const void *from, size_t n)
{
    const uint8_t *in = from;
    uint32_t bad = 0;
    for (const float *end = out + n; out < end; out += SMALL, in += 20) {
        float d = scale_at(in, &bad);
        float m = scale_at(in + 2, &bad);
        for (int i = 0; i < 16; i++) {
            int byte = in[4 + i];
            out[i] = d * (float)(byte & 15) + m;
            out[i + 16] = d * (float)(byte >> 4) + m;
        }
    }
    return !bad;
}

/* The fifth bits of 32 values, value 0 in the lowest. */
static inline uint32_t fifth_bits(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline int fifth(uint32_t bits, int i)
{
    return (int)(bits >> i & 1) << 4;
}

static bool widen_q5_0(float *out, const void *from, size_t n)
{
    const uint8_t *in = from;
    uint32_t bad = 0;
    for (const float *end = out + n; out < end; out += SMALL, in += 22) {
        float d = scale_at(in, &bad);
        uint32_t high = fifth_bits(in + 2);
        for (int i = 0; i < 16; i++) {
            int byte = in[6 + i];
            out[i] = d * (float)(((byte & 15) | fifth(high, i)) - 16);
            out[i + 16] = d * (float)((byte >> 4 | fifth(high, i + 16)) - 16);
        }
    }
    return !bad;
}

static bool widen_q5_1(float *out, const void *from, size_t n)
{
    const uint8_t *in = from;
    uint32_t bad = 0;
    for (const float *end = out + n; out < end; out += SMALL, in += 24) {
        float d = scale_at(in, &bad);
        float m = scale_at(in + 2, &bad);
        uint32_t high = fifth_bits(in + 4);
        for (int i = 0; i < 16; i++) {
            int byte = in[8 + i];
            out[i] = d * (float)((byte & 15) | fifth(high, i)) + m;
            out[i + 16] = d * (float)(byte >> 4 | fifth(high, i + 16)) + m;
        }
    }
    return !bad;
}

static bool widen_q8_0(float *out, const void *from, size_t n)
{
    const uint8_t *in = from;
    uint32_t bad = 0;
    for (const float *end = out + n; out < end; out += SMALL, in += 34) {
        float d = scale_at(in, &bad);
        for (int i = 0; i < SMALL; i++)
            out[i] = d * (float)(int8_t)in[2 + i];
    }
    return !bad;
}

/* Of 256: sub-blocks with small scales of their own.
 *
 * Q4_K and Q5_K: eight scales and eight minima of six bits in twelve bytes. The first four
 * of each have a byte of their own; the last four have their low nibble in bytes 8 to 11
 * and their high bits on top of the first four's bytes. */
static inline void six_bits(const uint8_t *p, int i, int *scale, int *min)
{
    if (i < 4) {
        *scale = p[i] & 63;
        *min = p[i + 4] & 63;
        return;
    }
    *scale = (p[i + 4] & 15) | p[i - 4] >> 6 << 4;
    *min = p[i + 4] >> 4 | p[i] >> 6 << 4;
}

/* 64 values: the low nibbles of 32 bytes, then the high ones, each 32 with scale and
 * minimum; high: where bit 2 * part and the one above are their fifth bits, or NULL. */
static inline void widen_part(float *out, const uint8_t *nibbles, const uint8_t *high, int part,
                              const float d[2], const float m[2])
{
    for (int i = 0; i < 32; i++) {
        int low = nibbles[i] & 15;
        int top = nibbles[i] >> 4;
        if (high) {
            low |= (high[i] >> (2 * part) & 1) << 4;
            top |= (high[i] >> (2 * part + 1) & 1) << 4;
        }
        out[i] = d[0] * (float)low - m[0];
        out[i + 32] = d[1] * (float)top - m[1];
    }
}

static inline uint32_t widen_k(float *out, const uint8_t *in, const uint8_t *high,
                               const uint8_t *nibbles)
{
    uint32_t bad = 0;
    float d = scale_at(in, &bad);
    float m = scale_at(in + 2, &bad);
    for (int part = 0; part < 4; part++) {
        float part_d[2];
        float part_m[2];
        for (int i = 0; i < 2; i++) {
            int scale;
            int min;
            six_bits(in + 4, 2 * part + i, &scale, &min);
            part_d[i] = d * (float)scale;
            part_m[i] = m * (float)min;
        }
        widen_part(out + 64 * part, nibbles + 32 * part, high, part, part_d, part_m);
    }
    return bad;
}

static bool widen_q4_k(float *out, const void *from, size_t n)
{
    const uint8_t *in = from;
    uint32_t bad = 0;
    for (const float *end = out + n; out < end; out += SUPER, in += 144)
        bad |= widen_k(out, in, NULL, in + 16);
    return !bad;
}

static bool widen_q5_k(float *out, const void *from, size_t n)
{
    const uint8_t *in = from;
    uint32_t bad = 0;
    for (const float *end = out + n; out < end; out += SUPER, in += 176)
        bad |= widen_k(out, in, in + 16, in + 48);
    return !bad;
}

/* 128 values: nibbles in 64 bytes, the fifth and sixth bits in 32, a scale for each 16.
 * The four quarters are low nibbles, low nibbles, high nibbles, high nibbles, and take the
 * upper bits from the lowest pair on. */
static inline void widen_six(float *out, const uint8_t *nibbles, const uint8_t *upper,
                             const uint8_t *scale, float d)
{
    for (int quarter = 0; quarter < 4; quarter++) {
        const uint8_t *four = nibbles + 32 * (quarter & 1);
        for (int i = 0; i < 32; i++) {
            int low = quarter < 2 ? four[i] & 15 : four[i] >> 4;
            int value = (low | (upper[i] >> (2 * quarter) & 3) << 4) - 32;
            out[32 * quarter + i] = d * (float)(int8_t)scale[2 * quarter + i / 16] * (float)value;
        }
    }
}

static bool widen_q6_k(float *out, const void *from, size_t n)
{
    const uint8_t *in = from;
    uint32_t bad = 0;
    for (const float *end = out + n; out < end; out += SUPER, in += 210) {
        float d = scale_at(in + 208, &bad);
        widen_six(out, in, in + 128, in + 192, d);
        widen_six(out + 128, in + 64, in + 160, in + 200, d);
    }
    return !bad;
}

static const struct dtype_info types[DTYPE_COUNT] = {
    [DTYPE_OTHER] = {"other", 1, 0, NULL},
    [DTYPE_F32] = {"F32", 1, 4, widen_f32},
    [DTYPE_F16] = {"F16", 1, 2, widen_f16},
    [DTYPE_BF16] = {"BF16", 1, 2, widen_bf16},
    [DTYPE_I8] = {"I8", 1, 1, widen_i8},
    [DTYPE_Q4_0] = {"Q4_0", SMALL, 18, widen_q4_0},
    [DTYPE_Q4_1] = {"Q4_1", SMALL, 20, widen_q4_1},
    [DTYPE_Q5_0] = {"Q5_0", SMALL, 22, widen_q5_0},
    [DTYPE_Q5_1] = {"Q5_1", SMALL, 24, widen_q5_1},
    [DTYPE_Q8_0] = {"Q8_0", SMALL, 34, widen_q8_0},
    [DTYPE_Q4_K] = {"Q4_K", SUPER, 144, widen_q4_k},
    [DTYPE_Q5_K] = {"Q5_K", SUPER, 176, widen_q5_k},
    [DTYPE_Q6_K] = {"Q6_K", SUPER, 210, widen_q6_k},
};

const struct dtype_info *dtype_info(enum dtype d)
{
    return &types[d];
}

bool dtype_bytes(enum dtype d, uint64_t n, uint64_t *bytes)
{
    const struct dtype_info *t = &types[d];
    return t->block_bytes > 0 && n % t->block == 0 &&
           !__builtin_mul_overflow(n / t->block, t->block_bytes, bytes);
}

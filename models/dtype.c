#include "models/dtype.h"

/* Sixteen-bit floats widen by moving bits; each loop gathers whether an exponent was all
 * ones, so that NaN and infinity cost no branch per value. */

enum { F32_EXPONENT = 0x7f800000 };

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

static bool widen_f16(float *out, const void *from, size_t n)
{
    const uint16_t *in = from;
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        /* Exponent and mantissa moved into place are the number times 2^-112, also
         * when it is subnormal; the product is exact. */
        union bits v = {.u = (uint32_t)(in[i] & 0x7fff) << 13};
        bad |= (in[i] & 0x7c00) == 0x7c00;
        v.f *= 0x1p112f;
        v.u |= (uint32_t)(in[i] & 0x8000) << 16;
        out[i] = v.f;
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

static const struct dtype_info types[DTYPE_COUNT] = {
    [DTYPE_OTHER] = {"other", 1, 0, NULL},  [DTYPE_F32] = {"F32", 1, 4, widen_f32},
    [DTYPE_F16] = {"F16", 1, 2, widen_f16}, [DTYPE_BF16] = {"BF16", 1, 2, widen_bf16},
    [DTYPE_I8] = {"I8", 1, 1, widen_i8},
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

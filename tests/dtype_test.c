/* Aim: every block format means what its definition says. Random blocks are widened by the
 * program and value by value by the slow twin of quant_rig.h; numbers that were quantized come
 * back as near as their format can be.
 *
 * Negative space: NaN and infinity in every scale a block has, subnormal and negative scales,
 * rows that are no whole blocks, blocks that lie at an odd address, rows of zeros. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "tests/quant_rig.h"
#include "tests/tiny_model.h"

enum { BLOCKS = 200 };

/* Where a block has its halves; -1: no second one. */
static int scale_at(const struct quant *q, int which)
{
    if (q->dtype == DTYPE_Q6_K)
        return which ? -1 : 208;
    if (which == 0)
        return 0;
    bool second = q->values == 256 || q->dtype == DTYPE_Q4_1 || q->dtype == DTYPE_Q5_1;
    return second ? 2 : -1;
}

static void random_block(const struct quant *q, uint8_t *block, uint32_t *seed)
{
    for (int i = 0; i < q->bytes; i++)
        block[i] = (uint8_t)(tiny_random(seed) >> 8);
    for (int which = 0; which < 2; which++) {
        int at = scale_at(q, which);
        if (at >= 0 && (block[at + 1] & 0x7c) == 0x7c)
            block[at + 1] &= 0x83; /* subnormal */
    }
}

static void blocks_are_as_defined(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(quants); i++) {
        const struct quant *q = &quants[i];
        uint32_t seed = 7;
        uint64_t bytes;
        size_t n = (size_t)(BLOCKS * q->values);
        uint8_t *raw = malloc((size_t)(BLOCKS * q->bytes) + 1);
        float *got = malloc(n * sizeof(*got));
        assert_true(raw && got);
        for (int b = 0; b < BLOCKS; b++)
            random_block(q, raw + 1 + b * q->bytes, &seed);
        assert_string_equal(dtype_info(q->dtype)->name, q->name);
        assert_true(dtype_bytes(q->dtype, n, &bytes));
        assert_int_equal(bytes, BLOCKS * q->bytes);
        assert_true(dtype_info(q->dtype)->widen(got, raw + 1, n));
        for (size_t v = 0; v < n; v++) {
            const uint8_t *block = raw + 1 + v / (size_t)q->values * (size_t)q->bytes;
            double want = quant_value(q, block, (int)(v % (size_t)q->values));
            double slack = 1e-6 * (fabs(want) + fabs(half_value(block + scale_at(q, 0))) * 1000);
            if (scale_at(q, 1) >= 0)
                slack += 1e-4 * fabs(half_value(block + 2));
            if (!(fabs((double)got[v] - want) <= slack))
                fail_msg("%s: value %zu is %g, not %g", q->name, v, (double)got[v], want);
        }
        free(raw);
        free(got);
    }
}

static void what_is_not_finite_is_told(void **state)
{
    static const uint16_t bad[] = {0x7c00, 0xfc00, 0x7e00, 0x7c01, 0xffff};
    float out[2 * QUANT_BLOCK_MAX];
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(quants); i++) {
        const struct quant *q = &quants[i];
        for (int which = 0; which < 4; which++) {
            uint8_t raw[2 * QUANT_BYTES_MAX] = {0};
            int at = scale_at(q, which % 2);
            size_t n = (size_t)(2 * q->values);
            if (at < 0)
                continue;
            for (size_t v = 0; v < ARRAY_LEN(bad); v++) {
                assert_true(dtype_info(q->dtype)->widen(out, raw, n));
                uint8_t *half = raw + at + which / 2 * q->bytes;
                memcpy(half, &bad[v], sizeof(bad[v]));
                assert_false(dtype_info(q->dtype)->widen(out, raw, n));
                memset(half, 0, 2);
            }
        }
    }
}

static void rows_are_whole_blocks(void **state)
{
    uint64_t bytes;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(quants); i++) {
        const struct quant *q = &quants[i];
        assert_false(dtype_bytes(q->dtype, (uint64_t)q->values - 1, &bytes));
        assert_false(dtype_bytes(q->dtype, (uint64_t)q->values + 16, &bytes));
        assert_true(dtype_bytes(q->dtype, 0, &bytes));
    }
    assert_false(dtype_bytes(DTYPE_OTHER, 32, &bytes));
    assert_false(dtype_bytes(DTYPE_F32, UINT64_MAX, &bytes));
    assert_false(dtype_bytes(DTYPE_Q8_0, UINT64_MAX / 32 * 32, &bytes));
}

/* Numbers like those of a trained row: a bell, and one that stands out. */
static void bell(float *x, int n, uint32_t *seed)
{
    for (int i = 0; i < n; i++) {
        float sum = 0;
        for (int j = 0; j < 6; j++)
            sum += (float)(tiny_random(seed) >> 8) / 16777216.0f - 0.5f;
        x[i] = 0.02f * sum;
    }
    x[n / 3] = 0.06f;
}

/* The error of rounding to so many steps over the largest range of a sub-block. */
static void numbers_come_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(quants); i++) {
        const struct quant *q = &quants[i];
        uint32_t seed = 99;
        double error = 0;
        double power = 0;
        for (int b = 0; b < BLOCKS; b++) {
            float x[QUANT_BLOCK_MAX];
            float got[QUANT_BLOCK_MAX];
            uint8_t block[QUANT_BYTES_MAX];
            bell(x, q->values, &seed);
            quant_put(q, block, x);
            assert_true(dtype_info(q->dtype)->widen(got, block, (size_t)q->values));
            struct span s = span_of(x, q->values);
            double step = 1.1 * fmax(s.high - s.low, 2 * fabs(s.most)) / q->levels;
            for (int v = 0; v < q->values; v++) {
                double d = (double)got[v] - (double)x[v];
                if (fabs(d) > step)
                    fail_msg("%s: %g came back as %g", q->name, (double)x[v], (double)got[v]);
                error += d * d;
                power += (double)x[v] * (double)x[v];
            }
        }
        print_message("%s: relative RMS error %.4f\n", q->name, sqrt(error / power));
        assert_true(sqrt(error / power) < 3.0 / q->levels);
    }
}

static void zeros_stay_zeros(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(quants); i++) {
        float x[QUANT_BLOCK_MAX] = {0};
        uint8_t block[QUANT_BYTES_MAX];
        quant_put(&quants[i], block, x);
        assert_true(dtype_info(quants[i].dtype)->widen(x, block, (size_t)quants[i].values));
        for (int v = 0; v < quants[i].values; v++)
            assert_true(x[v] == 0.0f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_as_defined), cmocka_unit_test(what_is_not_finite_is_told),
        cmocka_unit_test(rows_are_whole_blocks), cmocka_unit_test(numbers_come_back),
        cmocka_unit_test(zeros_stay_zeros),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

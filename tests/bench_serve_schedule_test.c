/* Aim: requests are planned at the rate, with the burstiness and along the ramp that were asked
 * for, and the same seed plans the same.
 *
 * Negative space: gaps of a shape far below 1, without any spread, one request, no rate at all, a
 * duration that ends a plan, a plan that no memory holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench/serve_schedule.h"

#include <math.h>
#include <string.h>

static const struct serve_options plain = {.burstiness = 1, .seed = 7};

static struct schedule make(const struct serve_options *o, double rate)
{
    struct schedule s;
    assert_int_equal(schedule_make(&s, o, rate), OK);
    for (int64_t i = 1; s.due_ns && i < s.n; i++)
        assert_true(s.due_ns[i] >= s.due_ns[i - 1]);
    return s;
}

/* Of gaps, in parts of their mean: 1 / sqrt(shape) for a gamma distribution. */
static double variation(const struct schedule *s)
{
    double sum = 0;
    double squares = 0;
    for (int64_t i = 1; i < s->n; i++) {
        double gap = (double)(s->due_ns[i] - s->due_ns[i - 1]);
        sum += gap;
        squares += gap * gap;
    }
    double n = (double)(s->n - 1);
    return sqrt(squares / n - sum / n * (sum / n)) / (sum / n);
}

static void test_burstiness(void **state)
{
    (void)state;
    static const double shapes[] = {0.25, 0.5, 1, 2, 16};
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        struct serve_options o = plain;
        o.num_prompts = 20000;
        o.burstiness = shapes[i];
        struct schedule s = make(&o, 50);
        double want = 1 / sqrt(shapes[i]);
        assert_int_equal(s.n, 20000);
        if (fabs(variation(&s) - want) > 0.06 * want)
            fail_msg("shape %g: %g, not %g", shapes[i], variation(&s), want);
        /* All of them in the time that the rate says. */
        assert_true(fabs((double)s.due_ns[s.n - 1] * 1e-9 - 20000 / 50.0) < 1e-3);
        schedule_free(&s);
    }
}

static void test_like_a_clock(void **state)
{
    (void)state;
    struct serve_options o = plain;
    o.num_prompts = 100;
    o.burstiness = (double)INFINITY;
    struct schedule s = make(&o, 10);
    for (int64_t i = 0; i < s.n; i++)
        assert_true(fabs((double)s.due_ns[i] * 1e-9 - 0.1 * (double)(i + 1)) < 1e-6);
    schedule_free(&s);
}

static void test_hardly_any_shape(void **state)
{
    (void)state;
    struct serve_options o = plain;
    o.num_prompts = 50;
    o.burstiness = 1e-6;
    struct schedule s = make(&o, 10);
    assert_true(s.due_ns[s.n - 1] <= 5000000001u);
    schedule_free(&s);
}

static void test_seed(void **state)
{
    (void)state;
    struct serve_options o = plain;
    o.num_prompts = 100;
    struct schedule a = make(&o, 10);
    struct schedule b = make(&o, 10);
    o.seed++;
    struct schedule c = make(&o, 10);
    assert_memory_equal(a.due_ns, b.due_ns, 100 * sizeof(*a.due_ns));
    assert_memory_not_equal(a.due_ns, c.due_ns, 100 * sizeof(*a.due_ns));
    schedule_free(&a);
    schedule_free(&b);
    schedule_free(&c);
}

static void test_ramp(void **state)
{
    (void)state;
    static const struct {
        enum option_ramp ramp;
        int64_t i;
        double want;
    } cases[] = {
        {RAMP_LINEAR, 0, 2},      {RAMP_LINEAR, 50, 5},      {RAMP_LINEAR, 100, 8},
        {RAMP_EXPONENTIAL, 0, 2}, {RAMP_EXPONENTIAL, 50, 4}, {RAMP_EXPONENTIAL, 100, 8},
        {RAMP_NONE, 50, 3},
    };
    struct serve_options o = plain;
    o.ramp_start = 2;
    o.ramp_end = 8;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        o.ramp = cases[i].ramp;
        assert_true(fabs(schedule_rate(&o, 3, cases[i].i, 101) - cases[i].want) < 1e-9);
    }
    /* A single request has no progress. */
    o.ramp = RAMP_LINEAR;
    assert_true(schedule_rate(&o, 3, 0, 1) == 2);
}

static void test_ramp_gaps(void **state)
{
    (void)state;
    struct serve_options o = plain;
    o.num_prompts = 1000;
    o.burstiness = (double)INFINITY;
    o.ramp = RAMP_LINEAR;
    o.ramp_start = 10;
    o.ramp_end = 100;
    struct schedule s = make(&o, (double)INFINITY);
    double first = (double)(s.due_ns[1] - s.due_ns[0]) * 1e-9;
    double last = (double)(s.due_ns[999] - s.due_ns[998]) * 1e-9;
    assert_true(fabs(first - 0.1) < 0.001);
    assert_true(fabs(last - 0.01) < 0.0001);
    schedule_free(&s);
}

static void test_how_many(void **state)
{
    (void)state;
    static const struct {
        int64_t num_prompts;
        double duration;
        double rate;
        int64_t long_prompt;
        int64_t want; /* INT64_MAX: no end but the duration's */
    } cases[] = {
        {0, 0, 10, 0, 1000},
        {5, 0, 10, 0, 5},
        {0, 3, 10, 0, 30},
        {7, 3, 10, 0, 7},
        {70, 3, 10, 0, 30},
        {0, 0.001, 10, 0, 1},
        {0, 3, (double)INFINITY, 0, INT64_MAX},
        {7, 3, (double)INFINITY, 0, 7},
        {0, 0, (double)INFINITY, 0, 1000},
        {0, 0, (double)INFINITY, 99, 20},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct serve_options o = plain;
        o.num_prompts = cases[i].num_prompts;
        o.duration = cases[i].duration;
        o.long_prompt = cases[i].long_prompt;
        struct schedule s = make(&o, cases[i].rate);
        if (s.n != cases[i].want)
            fail_msg("case %zu: %lld", i, (long long)s.n);
        assert_true((s.due_ns == NULL) == isinf(cases[i].rate));
        schedule_free(&s);
    }
}

static void test_duration_of_a_ramp(void **state)
{
    (void)state;
    static const enum option_ramp ramps[] = {RAMP_LINEAR, RAMP_EXPONENTIAL};
    for (size_t i = 0; i < ARRAY_LEN(ramps); i++) {
        struct serve_options o = plain;
        o.duration = 20;
        o.burstiness = (double)INFINITY;
        o.ramp = ramps[i];
        o.ramp_start = 5;
        o.ramp_end = 50;
        struct schedule s = make(&o, (double)INFINITY);
        double ends = (double)s.due_ns[s.n - 1] * 1e-9;
        if (fabs(ends - 20) > 0.5)
            fail_msg("ramp %zu ends after %g s", i, ends);
        schedule_free(&s);
    }
}

static void test_too_many(void **state)
{
    (void)state;
    struct serve_options o = plain;
    struct schedule s;
    o.duration = 1e6;
    assert_int_equal(schedule_make(&s, &o, 1e5), E_INVALID);
    assert_null(s.due_ns);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_burstiness),
        cmocka_unit_test(test_like_a_clock),
        cmocka_unit_test(test_hardly_any_shape),
        cmocka_unit_test(test_seed),
        cmocka_unit_test(test_ramp),
        cmocka_unit_test(test_ramp_gaps),
        cmocka_unit_test(test_how_many),
        cmocka_unit_test(test_duration_of_a_ramp),
        cmocka_unit_test(test_too_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

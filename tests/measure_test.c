/* Aim: what is tried out before the first request is a batch that every model must take, teaches
 * the model of costs what steps take, and ends in time. The clock is moved by steps alone. Negative
 * space: a machine too slow for more than a step, a request that comes meanwhile, a step that
 * fails, a cache of one block, a context of two tokens, steps of one row. */
#include "scheduler/measure.h"
#include "tests/fake_model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MS 1000000u

/* What a step of the fake model takes. */
static struct {
    uint64_t now_ns;
    uint64_t step_ns;
    uint64_t row_ns;
    uint64_t draw_ns;
} fake;

/* The linker puts it in the place of now_ns(). */
uint64_t __wrap_now_ns(void);

uint64_t __wrap_now_ns(void)
{
    return fake.now_ns;
}

static void pass_time(const struct model_batch *b)
{
    fake.now_ns += fake.step_ns + (uint64_t)b->n_rows * fake.row_ns;
    fake.now_ns += (uint64_t)b->n_picks * fake.draw_ns;
}

static bool never(void *arg)
{
    (void)arg;
    return false;
}

/* True after so many questions. */
static bool after(void *arg)
{
    int32_t *n = arg;
    return (*n)-- <= 0;
}

static struct sched_options limits(int32_t seqs, int32_t rows)
{
    return (struct sched_options){.live_max = 8, .step_seqs_max = seqs, .step_rows_max = rows};
}

/* The fake model aborts on a batch that breaks its contract. */
static void test_shapes(void **state)
{
    (void)state;
    static const struct {
        int32_t n_blocks;
        int32_t block_tokens;
        int32_t context;
        int32_t rows;
        int32_t seqs;
    } rows[] = {
        {1000, 16, 2048, 320, 256}, {64, 4, 256, 64, 8}, {1, 16, 16, 64, 64},  {1, 2, 2, 2, 2},
        {40, 1, 2000, 100, 33},     {9, 8, 70, 1, 1},    {300, 32, 512, 7, 5},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct cost c = {0};
        struct measured got;
        struct model *m = fake_open(rows[i].n_blocks, rows[i].block_tokens, rows[i].context,
                                    rows[i].rows, rows[i].seqs);
        struct sched_options opt = limits(rows[i].seqs, rows[i].rows);
        assert_int_equal(measure_steps(&c, m, &opt, 1000 * (uint64_t)MS, never, NULL, &got), OK);
        assert_int_equal(got.n_steps, m->n_steps);
        assert_true(got.n_steps > 0 && c.n > 0);
        model_close(m);
    }
}

/* Two lessons of each size leave doubt about what is small beside the rest. */
static void near(double got, double want, double slack, const char *what)
{
    if (fabs(got - want) > slack)
        fail_msg("%s: %.0f ns are learned of %.0f", what, got, want);
}

static void test_what_is_learned(void **state)
{
    (void)state;
    static const struct {
        uint64_t step_ns;
        uint64_t row_ns;
        uint64_t draw_ns;
    } rows[] = {{MS, 50000, 20000}, {3 * MS, 10000, 0}, {100000, 100000, 100000}};
    static const struct step_shape one = {.n_draws = 1};
    static const struct step_shape many = {.n_reads = 32, .n_draws = 8};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct cost c = {0};
        struct measured got;
        struct model *m = fake_open(1000, 16, 2048, 320, 64);
        struct sched_options opt = limits(64, 320);
        fake.step_ns = rows[i].step_ns;
        fake.row_ns = rows[i].row_ns;
        fake.draw_ns = rows[i].draw_ns;
        m->on_step = pass_time;
        uint64_t start = fake.now_ns;
        assert_int_equal(measure_steps(&c, m, &opt, 2000 * (uint64_t)MS, never, NULL, &got), OK);
        assert_int_equal(got.took_ns, fake.now_ns - start);
        assert_true(c.n >= COST_KNOWN);
        double draw = (double)(rows[i].row_ns + rows[i].draw_ns);
        double step = (double)rows[i].step_ns;
        double read = (double)rows[i].row_ns;
        double all = step + 32 * read + 8 * draw;
        near(cost_step(&c, &one), step + draw, (step + draw) / 4, "a row");
        near(cost_step(&c, &many), all, all / 3, "many rows");
        near(cost_read(&c, 0), read, read / 2 + step / 30, "a row more");
        model_close(m);
    }
}

static void test_ends_in_time(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint64_t step_ns;
        uint64_t budget_ns;
        int32_t asks; /* until a request comes */
        int32_t steps;
    } rows[] = {
        {"no time: one step", 1000, 1, 1000, 1},
        {"a step takes longer than there is", 20 * MS, 2 * MS, 1000, 1},
        {"three fit", 10 * MS, 35 * MS, 1000, 3},
        {"a request is there already", 1000, 1000 * MS, 0, 0},
        {"a request comes after the first size", 1000, 1000 * MS, 1, 3},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct cost c = {0};
        struct measured got;
        int32_t asks = rows[i].asks;
        struct model *m = fake_open(100, 16, 1024, 64, 8);
        struct sched_options opt = limits(8, 64);
        m->on_step = pass_time;
        fake.step_ns = rows[i].step_ns;
        fake.row_ns = fake.draw_ns = 0;
        assert_int_equal(measure_steps(&c, m, &opt, rows[i].budget_ns, after, &asks, &got), OK);
        if (got.n_steps != rows[i].steps || c.n >= COST_KNOWN)
            fail_msg("%s: %d steps", rows[i].name, got.n_steps);
        model_close(m);
    }
}

static void test_failure_teaches_nothing(void **state)
{
    (void)state;
    struct cost c = {0};
    struct measured got;
    struct model *m = fake_open(100, 16, 1024, 64, 8);
    struct sched_options opt = limits(8, 64);
    m->lost_at = 3;
    assert_int_equal(measure_steps(&c, m, &opt, 1000 * (uint64_t)MS, never, NULL, &got), E_DEVICE);
    assert_int_equal(c.n, 0);
    model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_what_is_learned),
        cmocka_unit_test(test_ends_in_time),
        cmocka_unit_test(test_failure_teaches_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

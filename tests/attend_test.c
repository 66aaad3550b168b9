#include "kernels/cpu_attend.h"
#include "kernels/cpu_kernels.h"
#include "tests/ops_rig.h"

/* Aim: every table of attention's loops this machine can run gives the bits of the plain one, and
 * the plain one gives what 64 bit integers and doubles give. Negative space: heads around every
 * vector width and the longest there is, strips of one token to a whole one at any place of a
 * chunk, sums at their extremes, rows of one key and of none but zeros, numbers that are not finite
 * inside and outside of what a row sees, memory exactly as long as it must be. */

enum { QUERIES = 6 };

static const size_t dims[] = {2, 8, 10, 16, 31, 32, 63, 64, 65, 80, 96, 127, 128, 130, 256, 512};
static const int32_t firsts[] = {0, 16, 37, 240};

/* Rows of 16 bit integers as one table lays them out. */
struct rows16 {
    int8_t *packed;
    struct q16 of[QUERIES];
};

static struct rows16 pack_rows(const struct attend_loops *loops, const float *x, size_t dim)
{
    struct rows16 r = {.packed = malloc(QUERIES * 2 * slabs(dim))};
    assert_non_null(r.packed);
    for (size_t i = 0; i < QUERIES; i++)
        loops->pack(r.packed + i * 2 * slabs(dim), &r.of[i], x + i * dim, dim, slabs(dim));
    return r;
}

/* An exact copy, so that a read beyond is seen by the sanitizers. */
static int8_t *random_strip(size_t dim, int32_t n, bool most, uint64_t seed)
{
    size_t bytes = (size_t)n * dim;
    int8_t *q = random_q8(bytes, seed);
    if (most)
        memset(q, seed % 2 ? -127 : 127, bytes);
    return q;
}

static float *random_queries(size_t dim, bool most)
{
    float *x = random_floats(QUERIES * dim, dim);
    for (size_t i = 0; most && i < QUERIES * dim; i++)
        x[i] = i / dim % 2 ? -3.0f : 3.0f;
    return x;
}

static void check_scores(const struct strip *s, const float *x, const int32_t *sum,
                         const struct q16 *of)
{
    for (size_t i = 0; i < QUERIES; i++) {
        for (size_t t = 0; t < (size_t)s->n; t++) {
            int64_t want = 0;
            for (size_t d = 0; d < s->dim; d++) {
                float v = x[i * s->dim + d] / of[i].scale;
                want += (int64_t)lrintf(v) * s->q[t * s->dim + d];
            }
            int64_t got = sum[i * CHUNK + (size_t)s->first + t];
            /* It was multiplied by an inverse, not divided: roundings may differ by one. */
            assert_true(llabs(got - want) <= 127 * (int64_t)s->dim);
        }
    }
}

static void scores_case(size_t dim, int32_t n, int32_t first, bool most)
{
    float *x = random_queries(dim, most);
    int8_t *q = random_strip(dim, n, most, (uint64_t)n);
    const struct strip s = {.q = q, .n = n, .first = first, .dim = dim};
    int32_t *want = calloc(QUERIES * CHUNK, sizeof(*want));
    int32_t *got = calloc(QUERIES * CHUNK, sizeof(*got));
    assert_true(want && got);
    struct rows16 plain = pack_rows(&attend_plain, x, dim);
    attend_plain.scores(want, &s, plain.packed, plain.of, QUERIES);
    check_scores(&s, x, want, plain.of);
    for (size_t i = 1; cpu_kernels_at(i); i++) {
        const struct attend_loops *loops = cpu_kernels_at(i)->attend;
        struct rows16 rows = pack_rows(loops, x, dim);
        for (int32_t j = 0; j < QUERIES; j++) {
            assert_int_equal(rows.of[j].total, plain.of[j].total);
            assert_memory_equal(&rows.of[j].scale, &plain.of[j].scale, sizeof(float));
        }
        for (int32_t n_q = 1; n_q <= QUERIES; n_q++) {
            memset(got, 0, QUERIES * CHUNK * sizeof(*got));
            loops->scores(got, &s, rows.packed, rows.of, n_q);
            assert_memory_equal(got, want, (size_t)n_q * CHUNK * sizeof(*got));
        }
        free(rows.packed);
    }
    free(plain.packed);
    free(want);
    free(got);
    free(x);
    free(q);
}

static void test_scores(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(dims); i++) {
        for (int32_t n = 1; n <= STRIP; n += (int32_t)i % 3 + 1) {
            scores_case(dims[i], n, firsts[(size_t)n % ARRAY_LEN(firsts)], false);
            scores_case(dims[i], n, firsts[i % ARRAY_LEN(firsts)], true);
        }
    }
}

/* A row's scores, its weights and what they make of a chunk of values. */
struct soft_case {
    int32_t begin;
    int32_t end;
    int32_t strip; /* tokens of one */
    size_t dim;
    float factor;
    int32_t bad_at; /* a scale that is NaN; -1: none */
    bool most;      /* values and weights at their extremes */
};

static const struct soft_case soft_cases[] = {
    {0, 1, 16, 64, 1e-4f, -1, false},   {0, 256, 16, 64, 1e-4f, -1, false},
    {0, 256, 16, 512, 0.0f, -1, true},  {255, 256, 16, 10, 1e-4f, -1, false},
    {17, 33, 16, 80, 1e-4f, -1, false}, {3, 250, 10, 96, 1e-4f, -1, false},
    {0, 200, 7, 130, 1e-5f, -1, false}, {5, 6, 16, 64, 1e-4f, 4, false},
    {5, 60, 16, 64, 1e-4f, 60, false},  {5, 60, 16, 64, 1e-4f, 59, false},
    {0, 128, 16, 64, NAN, -1, false},   {0, 256, 3, 31, 3e-3f, -1, false},
};

struct soft_result {
    float most;
    float total;
    float scale;
    int32_t weights; /* their sum */
    float part[HEAD_MOST];
};

static void soft_run(const struct attend_loops *loops, const struct soft_case *c,
                     struct soft_result *r)
{
    int32_t sum[CHUNK];
    float key_scale[CHUNK];
    float value_scale[CHUNK];
    float room[CHUNK];
    uint64_t random = 5;
    int8_t *weight = malloc(2 * (size_t)CHUNK + STRIP);
    int32_t *acc = calloc(slabs(c->dim), sizeof(*acc));
    assert_true(weight && acc);
    for (int32_t t = 0; t < CHUNK; t++) {
        sum[t] = random_below(&random, 200000) - 100000;
        key_scale[t] = 0.5f + 0.001f * (float)t;
        value_scale[t] = c->most ? 1.0f : 0.1f + 0.01f * (float)(t % 9);
        if (t == c->bad_at)
            key_scale[t] = value_scale[t] = NAN;
    }
    struct soft s = {.sum = sum,
                     .key_scale = key_scale,
                     .value_scale = value_scale,
                     .factor = c->factor,
                     .begin = c->begin,
                     .end = c->end,
                     .room = room,
                     .weight = weight};
    loops->soften(&s);
    for (int32_t at = 0; at < CHUNK; at += c->strip) {
        int32_t n = min32(c->strip, CHUNK - at);
        int8_t *q = random_strip(c->dim, n, c->most, (uint64_t)at);
        if (c->most)
            memset(q, 127, (size_t)n * c->dim);
        const struct strip values = {.q = q, .n = n, .first = at, .dim = c->dim};
        loops->weigh(acc, &values, weight, 1);
        free(q);
    }
    *r = (struct soft_result){
        .most = s.most, .total = s.total, .scale = s.weight_of.scale, .weights = s.weight_of.total};
    float *part = malloc(slabs(c->dim) * sizeof(*part));
    assert_non_null(part);
    loops->finish(part, acc, &s.weight_of, slabs(c->dim));
    memcpy(r->part, part, c->dim * sizeof(*part));
    free(part);
    free(weight);
    free(acc);
}

static void test_soften(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(soft_cases); i++) {
        const struct soft_case *c = &soft_cases[i];
        struct soft_result want;
        struct soft_result got;
        soft_run(&attend_plain, c, &want);
        bool bad = isnan(c->factor) || (c->bad_at >= c->begin && c->bad_at < c->end);
        assert_int_equal(isnan(want.total), bad);
        assert_int_equal(isnan(want.part[0]), bad);
        if (c->most)
            assert_near((double)want.part[3], 256.0 * 127.0, 1e-2, "largest sum", i);
        for (size_t t = 1; cpu_kernels_at(t); t++) {
            soft_run(cpu_kernels_at(t)->attend, c, &got);
            if (bad) {
                assert_true(isnan(got.total) && isnan(got.part[0]));
                continue;
            }
            assert_memory_equal(&got, &want, offsetof(struct soft_result, part));
            assert_memory_equal(got.part, want.part, c->dim * sizeof(float));
        }
    }
}

/* Against doubles: weights are within half a step of 16 bit. */
static void test_exact(void **state)
{
    (void)state;
    enum { DIM = 24 };
    const struct soft_case c = {0, 256, 16, DIM, 2e-5f, -1, false};
    struct soft_result got;
    soft_run(&attend_plain, &c, &got);
    double want[DIM] = {0};
    double most = -1e300;
    double total = 0.0;
    double x[CHUNK];
    uint64_t random = 5;
    for (int32_t t = 0; t < CHUNK; t++) {
        x[t] = (random_below(&random, 200000) - 100000) * 2e-5 * (0.5 + 0.001 * t);
        most = fmax(most, x[t]);
    }
    for (int32_t at = 0; at < CHUNK; at += STRIP) {
        int8_t *q = random_strip(DIM, STRIP, false, (uint64_t)at);
        for (int32_t t = 0; t < STRIP; t++) {
            double e = exp(x[at + t] - most);
            total += e;
            for (int32_t d = 0; d < DIM; d++)
                want[d] += e * (0.1 + 0.01 * ((at + t) % 9)) * q[t * DIM + d];
        }
        free(q);
    }
    assert_near((double)got.total, total, 1e-4 * total, "sum", 0);
    for (int32_t d = 0; d < DIM; d++)
        assert_near((double)got.part[d], want[d], 2e-2, "values", (size_t)d);
}

static void test_zeros(void **state)
{
    (void)state;
    const float zero[20] = {0};
    float bad[20] = {1, 2, INFINITY};
    for (size_t i = 0; cpu_kernels_at(i); i++) {
        const struct attend_loops *loops = cpu_kernels_at(i)->attend;
        int8_t packed[2 * SLAB];
        struct q16 of;
        loops->pack(packed, &of, zero, 20, SLAB);
        assert_true(of.scale == 0.0f && of.total == 0);
        loops->pack(packed, &of, bad, 20, SLAB);
        assert_true(isnan(of.scale) && of.total == 0);
        for (size_t j = 0; j < sizeof(packed); j++)
            assert_int_equal(packed[j], 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scores),
        cmocka_unit_test(test_soften),
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_zeros),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "kernels/cpu.h"
#include "tests/ops_rig.h"

/* Aim: every table of loops this machine can run gives the bits of the plain one,
 * and the pool runs each task once. Negative space: lengths around every vector
 * width, one row to a full tile, weights of -128, sums at their extremes, runs of
 * fewer and of more tasks than threads, thousands of runs back to back. */

static const size_t lengths[] = {1,  2,  7,  8,  15,  16,  17,  31,  32,  33,  63,
                                 64, 65, 79, 96, 100, 127, 128, 129, 256, 688, 1031};

static const struct cpu_kernels *plain;

static void q8_case(const struct cpu_kernels *fast, size_t k, int32_t n_w, int32_t n_a, bool most)
{
    int8_t *w = random_q8(k * Q8_TILE_W, k);
    int8_t *a = random_q8(k * Q8_TILE_A, k + 1);
    if (most) {
        memset(w, -128, k * Q8_TILE_W);
        memset(a, n_a % 2 ? -127 : 127, k * Q8_TILE_A);
    }
    /* Exactly as long as needed, so that a read beyond is seen by the sanitizers. */
    int8_t *w_exact = malloc(k * (size_t)n_w);
    int8_t *a_exact = malloc(k * (size_t)n_a);
    assert_true(w_exact && a_exact);
    memcpy(w_exact, w, k * (size_t)n_w);
    memcpy(a_exact, a, k * (size_t)n_a);
    int32_t a_sum[Q8_TILE_A];
    for (int32_t r = 0; r < n_a; r++) {
        a_sum[r] = plain->q8_sum(a_exact + (size_t)r * k, k);
        assert_int_equal(fast->q8_sum(a_exact + (size_t)r * k, k), a_sum[r]);
    }
    int32_t want[Q8_TILE_A * Q8_TILE_W] = {0};
    int32_t got[Q8_TILE_A * Q8_TILE_W] = {0};
    struct q8_tile t = {.w = w_exact,
                        .a = a_exact,
                        .a_sum = a_sum,
                        .n_w = n_w,
                        .n_a = n_a,
                        .k = (int32_t)k,
                        .sum = want};
    plain->q8_tile(&t);
    t.sum = got;
    for (int near = 0; near < 2; near++) {
        t.near = near == 1;
        memset(got, 0, sizeof(got));
        fast->q8_tile(&t);
        for (int32_t r = 0; r < n_a; r++)
            assert_memory_equal(got + r * Q8_TILE_W, want + r * Q8_TILE_W,
                                (size_t)n_w * sizeof(*got));
    }
    free(w);
    free(a);
    free(w_exact);
    free(a_exact);
}

static void few_case(const struct q8_few *few, size_t k, int32_t n_w, int32_t n_a, bool most)
{
    int8_t *w = random_q8(k * (size_t)n_w, k);
    int8_t *a = random_q8(k * (size_t)n_a, k + 1);
    if (most) {
        memset(w, -128, k * (size_t)n_w);
        memset(a, n_a % 2 ? -128 : 127, k * (size_t)n_a);
    }
    size_t panels = ((size_t)n_a + Q8_PANEL - 1) / Q8_PANEL;
    uint8_t *packed = aligned_alloc(64, panels * q8_panel_bytes((int32_t)k));
    int32_t *got = malloc(sizeof(*got) * Q8_FEW_A * Q8_FEW_W);
    assert_true(packed && got);
    few->pack(packed, a, n_a, (int32_t)k);
    int32_t w_sum[Q8_FEW_W];
    for (int32_t i = 0; i < n_w; i++)
        w_sum[i] = plain->q8_sum(w + (size_t)i * k, k);
    const struct q8_few_tile t = {
        .w = w, .w_sum = w_sum, .a = packed, .n_w = n_w, .n_a = n_a, .k = (int32_t)k, .sum = got};
    few->sums(&t);
    for (int32_t at = 0; at < n_a * n_w; at++) {
        int32_t r = at / n_w;
        int32_t i = at % n_w;
        int32_t want = 0;
        for (size_t j = 0; j < k; j++)
            want += (int32_t)a[(size_t)r * k + j] * (int32_t)w[(size_t)i * k + j];
        assert_int_equal(got[r * Q8_FEW_W + i], want);
    }
    free(w);
    free(a);
    free(packed);
    free(got);
}

/* Every number of rows of either side, so every way to divide them into panels. */
static void test_few(void **state)
{
    (void)state;
    for (size_t i = 0; cpu_kernels_at(i); i++) {
        const struct q8_few *few = cpu_kernels_at(i)->few;
        for (size_t l = 0; few && l < ARRAY_LEN(lengths); l++) {
            for (int32_t n_a = 1; n_a <= Q8_FEW_A; n_a++) {
                few_case(few, lengths[l], 1 + (n_a + (int32_t)l) % Q8_FEW_W, n_a, n_a % 3 == 0);
                few_case(few, lengths[l], Q8_FEW_W, n_a, n_a % 3 == 1);
            }
        }
    }
}

/* Sums of many rows against those of the plain tile, two rows at a time. */
static void wide_case(const struct q8_wide *wide, size_t k, int32_t n_w, int32_t n_a, bool most)
{
    int8_t *w = random_q8(k * (size_t)n_w, k);
    int8_t *a = random_q8(k * (size_t)n_a, k + 1);
    if (most) {
        memset(w, -128, k * (size_t)n_w);
        memset(a, n_a % 2 ? -128 : 127, k * (size_t)n_a);
    }
    int32_t panels = (n_a + Q8_PANEL - 1) / Q8_PANEL;
    size_t panel_bytes = wide->panel_bytes((int32_t)k);
    uint8_t *packed = aligned_alloc(64, panel_bytes * (size_t)panels);
    size_t sums = (size_t)(panels * Q8_PANEL * wide->n_w);
    int32_t *got = aligned_alloc(64, sums * sizeof(*got));
    assert_true(packed && got);
    for (int32_t p = 0; p < panels; p++)
        wide->pack(packed + (size_t)p * panel_bytes, a + (size_t)(p * Q8_PANEL) * k,
                   min32(Q8_PANEL, n_a - p * Q8_PANEL), (int32_t)k);
    int32_t w_sum[Q8_WIDE_W_MAX];
    for (int32_t i = 0; i < n_w; i++)
        w_sum[i] = plain->q8_sum(w + (size_t)i * k, k);
    struct q8_wide_tile t = {.w = w,
                             .a = packed,
                             .panel_bytes = panel_bytes,
                             .n_w = n_w,
                             .n_a = n_a,
                             .k = (int32_t)k,
                             .w_sum = n_a % 2 ? w_sum : NULL,
                             .next = n_a % 3 ? w : NULL,
                             .sum = got};
    wide->sums(&t);
    int32_t want[Q8_TILE_A * Q8_TILE_W];
    int32_t a_sum[Q8_TILE_A] = {0};
    for (int32_t r = 0; r < n_a; r++) {
        for (int32_t i = 0; i < n_w; i += Q8_TILE_W) {
            struct q8_tile one = {.w = w + (size_t)i * k,
                                  .a = a + (size_t)r * k,
                                  .a_sum = a_sum,
                                  .n_w = min32(Q8_TILE_W, n_w - i),
                                  .n_a = 1,
                                  .k = (int32_t)k,
                                  .sum = want};
            plain->q8_tile(&one);
            assert_memory_equal(got + r * wide->n_w + i, want, (size_t)one.n_w * sizeof(*want));
        }
    }
    free(w);
    free(a);
    free(packed);
    free(got);
}

static void test_wide(void **state)
{
    static const int32_t rows[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 50, 65};
    (void)state;
    for (size_t i = 0; cpu_kernels_at(i); i++) {
        const struct q8_wide *wide = cpu_kernels_at(i)->wide;
        for (size_t l = 0; wide && l < ARRAY_LEN(lengths); l++) {
            for (size_t r = 0; r < ARRAY_LEN(rows); r++) {
                int32_t n_w = 1 + (int32_t)(l * ARRAY_LEN(rows) + r) % wide->n_w;
                wide_case(wide, lengths[l], n_w, rows[r], false);
                wide_case(wide, lengths[l], wide->n_w, rows[r], r % 2 == 0);
            }
        }
    }
}

static void float_case(const struct cpu_kernels *fast, size_t k, int32_t n_w, int32_t n_a)
{
    float *w = random_floats(k * (size_t)n_w, k);
    float *a = random_floats(k * (size_t)n_a, k + 1);
    float want[FLOAT_TILE_A * FLOAT_TILE_W] = {0};
    float got[FLOAT_TILE_A * FLOAT_TILE_W] = {0};
    struct float_tile t = {.w = w, .a = a, .n_w = n_w, .n_a = n_a, .k = (int32_t)k, .sum = want};
    plain->float_tile(&t);
    t.sum = got;
    fast->float_tile(&t);
    for (int32_t r = 0; r < n_a; r++)
        assert_memory_equal(got + r * FLOAT_TILE_W, want + r * FLOAT_TILE_W,
                            (size_t)n_w * sizeof(*got));
    free(w);
    free(a);
}

static void test_tiles(void **state)
{
    (void)state;
    for (size_t i = 0; cpu_kernels_at(i); i++) {
        bool tiles = cpu_kernels_at(i)->q8_tile != NULL;
        for (size_t l = 0; l < ARRAY_LEN(lengths); l++) {
            for (int32_t n_w = 1; tiles && n_w <= Q8_TILE_W; n_w++) {
                for (int32_t n_a = 1; n_a <= Q8_TILE_A; n_a++) {
                    q8_case(cpu_kernels_at(i), lengths[l], n_w, n_a, false);
                    q8_case(cpu_kernels_at(i), lengths[l], n_w, n_a, true);
                }
            }
            for (int32_t n_w = 1; n_w <= FLOAT_TILE_W; n_w++) {
                for (int32_t n_a = 1; n_a <= FLOAT_TILE_A; n_a++) {
                    float_case(cpu_kernels_at(i), lengths[l], n_w, n_a);
                }
            }
        }
    }
}

static void vectors_case(const struct cpu_kernels *fast, size_t n)
{
    float *x = random_floats(n, n + 2);
    float *up = random_floats(n, n + 3);
    float *want = calloc(n, sizeof(*want));
    float *got = calloc(n, sizeof(*got));
    int8_t *q = calloc(2, n);
    int8_t *halves = calloc(4, n);
    assert_true(want && got && q && halves);
    for (size_t i = 0; i < n; i++)
        x[i] *= i % 5 ? 4.0f : 120.0f;

    float a = plain->square_sum(x, n);
    float b = fast->square_sum(x, n);
    assert_memory_equal(&a, &b, sizeof(a));
    a = plain->max(x, n);
    b = fast->max(x, n);
    assert_memory_equal(&a, &b, sizeof(a));
    plain->quantize(q, &a, x, n);
    fast->quantize(q + n, &b, x, n);
    assert_memory_equal(&a, &b, sizeof(a));
    assert_memory_equal(q, q + n, n);
    plain->quantize_split(halves, &a, x, n);
    fast->quantize_split(halves + 2 * n, &b, x, n);
    assert_memory_equal(&a, &b, sizeof(a));
    assert_memory_equal(halves, halves + 2 * n, 2 * n);
    for (size_t i = 0; i < n; i++) {
        int whole = SPLIT * halves[i] + halves[n + i];
        assert_true(halves[i] != -128 && halves[n + i] != -128);
        assert_near((double)a * whole, (double)x[i], 0.502 * (double)a, "split", i);
    }
    plain->widen(want, q, n);
    fast->widen(got, q, n);
    assert_memory_equal(got, want, n * sizeof(*got));
    plain->silu_mul(want, x, up, n);
    fast->silu_mul(got, x, up, n);
    assert_memory_equal(got, want, n * sizeof(*got));
    memcpy(want, x, n * sizeof(*x));
    memcpy(got, x, n * sizeof(*x));
    a = plain->max(x, n);
    float sum = plain->exp_sum(want, a, n);
    b = fast->exp_sum(got, a, n);
    assert_memory_equal(&sum, &b, sizeof(b));
    assert_memory_equal(got, want, n * sizeof(*got));
    for (size_t i = 0; i < n; i++) {
        double exact = exp((double)(x[i] - a));
        assert_near((double)got[i], exact, exact * 4e-7 + 2e-38, "exp", i);
    }
    free(x);
    free(up);
    free(want);
    free(got);
    free(q);
    free(halves);
}

static void heads_case(const struct cpu_kernels *fast, size_t n, size_t dim)
{
    float *q = random_floats(dim, 5);
    float *k = random_floats(n * dim, 6);
    float *p = random_floats(n, 7);
    float *want = calloc(n + dim, sizeof(*want));
    float *got = calloc(n + dim, sizeof(*got));
    assert_true(want && got);
    plain->dots(want, q, k, n, dim);
    fast->dots(got, q, k, n, dim);
    assert_memory_equal(got, want, n * sizeof(*got));
    memcpy(want, q, dim * sizeof(*q));
    memcpy(got, q, dim * sizeof(*q));
    plain->weigh(want, p, k, n, dim);
    fast->weigh(got, p, k, n, dim);
    assert_memory_equal(got, want, dim * sizeof(*got));
    free(q);
    free(k);
    free(p);
    free(want);
    free(got);
}

static void test_vectors(void **state)
{
    (void)state;
    for (size_t i = 0; cpu_kernels_at(i); i++) {
        for (size_t l = 0; l < ARRAY_LEN(lengths); l++)
            vectors_case(cpu_kernels_at(i), lengths[l]);
        for (size_t dim = LANES; dim <= 10 * LANES; dim += LANES) {
            for (size_t n = 1; n < 10; n++)
                heads_case(cpu_kernels_at(i), n, dim);
        }
    }
}

/* ---- pool ---- */

struct count_job {
    int32_t *seen;   /* [n_tasks] */
    int32_t workers; /* workers there are */
};

static void count_task(const void *arg, int32_t task, int32_t worker)
{
    const struct count_job *job = arg;
    job->seen[task] += worker < job->workers && worker >= 0 ? 1 : 1000;
}

static void test_pool(void **state)
{
    enum { TASKS_MAX = 40, RUNS = 4000 };
    (void)state;
    for (int32_t threads = 1; threads <= 4; threads++) {
        const struct nodes nodes = nodes_one(threads);
        struct pool *pool;
        assert_int_equal(pool_open(&pool, &nodes), OK);
        assert_int_equal(pool_threads(pool), threads);
        for (int32_t run = 0; run < RUNS; run++) {
            int32_t seen[TASKS_MAX] = {0};
            int32_t n = run % TASKS_MAX;
            const struct count_job job = {.seen = seen, .workers = threads};
            pool_run(pool, n, count_task, &job);
            for (int32_t i = 0; i < TASKS_MAX; i++)
                assert_int_equal(seen[i], i < n ? 1 : 0);
            /* Let the others fall asleep now and then. */
            uint64_t until = now_ns() + (run % 500 == 0 ? 200000 : 0);
            while (now_ns() < until)
                continue;
        }
        pool_close(pool);
    }
    pool_close(NULL);
}

int main(void)
{
    plain = cpu_kernels_plain();
    for (size_t i = 0; cpu_kernels_at(i); i++)
        print_message("table: %s\n", cpu_kernels_at(i)->name);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiles),   cmocka_unit_test(test_few),  cmocka_unit_test(test_wide),
        cmocka_unit_test(test_vectors), cmocka_unit_test(test_pool),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

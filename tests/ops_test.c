#include "tests/ops_rig.h"

/* Aim: every operation of a backend against plain loops written here, in integers
 * where the contract is exact and in double elsewhere; and the contract of batch
 * invariance: a row alone equals the same row in any company, to the bit.
 * Negative space: what breaks kernels: one row, one more than a tile, rows of
 * zeros, of nothing finite, rows that begin anywhere, or are too long for registers, lengths that
 * are no multiple of anything, head sizes 8 to 128, contexts that end exactly at a block or a
 * chunk, a sequence of length one among long ones. The loops per instruction set are compared in
 * cpu_kernels_test.c, sampling in sampling_test.c. */

/* How far a float product may be off, relative to the sum of its magnitudes: the
 * CUDA backend may round to 16 bit on the way. */
static double product_bound(const struct rig *rig)
{
    return rig->cpu ? 1e-6 : 1e-2;
}

/* ---- memory and opening ---- */

static void test_open(void **state)
{
    (void)state;
    struct ops *o = NULL;
    char err[256] = "";
    const struct ops_options bad = {.backend = "abacus"};
    assert_int_equal(ops_open(&o, &bad, err, sizeof(err)), E_INVALID);
    assert_true(err[0] != '\0');
    const struct ops_options any = {.backend = "auto", .threads = 1};
    assert_int_equal(ops_open(&o, &any, err, sizeof(err)), OK);
    o->close(o);
}

static void test_memory(void **state)
{
    static const size_t sizes[] = {1, 63, 64, 65, 4096, 1 << 20, (5 << 20) + 3};
    (void)state;
    struct rig rig = rig_open(1);
    size_t total = rig.o->bytes_total(rig.o);
    assert_true(total > 0);
    assert_true(rig.o->bytes_free(rig.o) <= total);
    void *p;
    assert_int_equal(rig.o->alloc(rig.o, SIZE_MAX, &p), E_NOMEM);
    assert_int_equal(rig.o->alloc(rig.o, SIZE_MAX / 2, &p), E_NOMEM);
    rig.o->release(rig.o, NULL);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        p = rig_put(&rig, NULL, sizes[i]);
        assert_int_equal((uintptr_t)p % 64, 0);
        uint8_t *host = rig_take(&rig, p, sizes[i]);
        for (size_t b = 0; b < sizes[i]; b++)
            assert_int_equal(host[b], 0);
        free(host);
    }
    rig_close(&rig);
}

/* ---- linear ---- */

struct linear_case {
    int32_t rows;
    int32_t n;
    int32_t k;
    bool accumulate;
    bool zero_row;
    bool lowest; /* weights of -128, which a file may hold */
    bool bias;
};

static const struct linear_case linear_cases[] = {
    {.rows = 1, .n = 1, .k = 1},
    {.rows = 1, .n = 128, .k = 64},
    {.rows = 1, .n = 65, .k = 4096},
    {.rows = 2, .n = 7, .k = 63, .zero_row = true},
    {.rows = 3, .n = 64, .k = 64, .zero_row = true, .accumulate = true},
    {.rows = 4, .n = 33, .k = 8, .accumulate = true},
    {.rows = 5, .n = 17, .k = 17},
    {.rows = 6, .n = 100, .k = 100, .lowest = true},
    {.rows = 7, .n = 256, .k = 192, .accumulate = true},
    {.rows = 16, .n = 24, .k = 688},
    {.rows = 17, .n = 129, .k = 1024, .lowest = true},
    {.rows = 65, .n = 40, .k = 320, .accumulate = true, .zero_row = true},
    {.rows = 130, .n = 72, .k = 2048},
    {.rows = 300, .n = 9, .k = 128},
    {.rows = 33, .n = 200, .k = 1088},
    {.rows = 9, .n = 50, .k = 2112, .lowest = true},
    {.rows = 193, .n = 150, .k = 704, .accumulate = true},
    {.rows = 129, .n = 130, .k = 1040, .zero_row = true},
    {.rows = 1, .n = 13, .k = 96, .bias = true},
    {.rows = 19, .n = 50, .k = 64, .bias = true, .zero_row = true},
    {.rows = 6, .n = 24, .k = 40, .bias = true, .accumulate = true},
    {.rows = 529, .n = 37, .k = 67, .bias = true},
    {.rows = 24, .n = 97, .k = 131, .lowest = true},
    {.rows = 4096, .n = 8, .k = 32, .accumulate = true},
    {.rows = 21, .n = 650, .k = 400, .accumulate = true}, /* tiles shared by uneven blocks */
    {.rows = 70, .n = 520, .k = 1280}, /* and long ones, several laps of a ring */
    {.rows = 12, .n = 600, .k = 640, .bias = true},
    {.rows = 2, .n = 1030, .k = 128},
    {.rows = 5, .n = 40, .k = 5120, .lowest = true},
    {.rows = 13, .n = 1040, .k = 192, .bias = true},
    {.rows = 27, .n = 1100, .k = 64, .accumulate = true},
};

struct linear_data {
    int8_t *x;
    float *x_scale;
    float *x_f;
    int8_t *w;
    float *w_scale;
    float *w_f;
    float *bias;
    float *y;
};

static struct linear_data linear_make(const struct linear_case *c, uint64_t seed)
{
    size_t rows = (size_t)c->rows;
    size_t n = (size_t)c->n;
    size_t k = (size_t)c->k;
    struct linear_data d = {
        .x = random_q8(rows * k, seed),
        .x_scale = random_floats(rows, seed + 1),
        .x_f = random_floats(rows * k, seed + 2),
        .w = random_q8(n * k, seed + 3),
        .w_scale = random_floats(n, seed + 4),
        .w_f = random_floats(n * k, seed + 5),
        .bias = random_floats(n, seed + 7),
        .y = random_floats(rows * n, seed + 6),
    };
    if (c->lowest)
        memset(d.w, -128, k);
    if (c->lowest)
        memset(d.x, -127, k);
    if (c->zero_row) {
        memset(d.x + (rows - 1) * k, 0, k);
        memset(d.x_f + (rows - 1) * k, 0, k * sizeof(float));
        d.x_scale[rows - 1] = 0.0f;
    }
    return d;
}

static void linear_free(struct linear_data *d)
{
    free(d->x);
    free(d->x_scale);
    free(d->x_f);
    free(d->w);
    free(d->w_scale);
    free(d->w_f);
    free(d->bias);
    free(d->y);
}

/* The result for rows first .. first + n_rows - 1 computed by themselves. */
static float *linear_run(struct rig *rig, const struct linear_case *c, const struct linear_data *d,
                         enum number kind, enum number act, size_t first, size_t n_rows)
{
    size_t n = (size_t)c->n;
    size_t k = (size_t)c->k;
    struct act x = {.kind = act};
    x.q = rig_put(rig, d->x + first * k, n_rows * k);
    x.scale = rig_put(rig, d->x_scale + first, n_rows * sizeof(float));
    x.f = rig_put(rig, d->x_f + first * k, n_rows * k * sizeof(float));
    void *wq = rig_put(rig, d->w, n * k);
    void *ws = rig_put(rig, d->w_scale, n * sizeof(float));
    void *wf = rig_put(rig, d->w_f, n * k * sizeof(float));
    void *bias = rig_put(rig, d->bias, n * sizeof(float));
    struct weight w = {
        .kind = kind, .act = act, .q = wq, .scale = ws, .f = wf, .n = c->n, .k = c->k};
    w.bias = c->bias ? bias : NULL;
    float *y = rig_put(rig, d->y + first * n, n_rows * n * sizeof(float));
    rig_begin(rig);
    rig->o->linear(rig->o, y, &x, &w, (int32_t)n_rows, c->accumulate);
    rig_end(rig);
    rig->o->release(rig->o, x.q);
    rig->o->release(rig->o, x.scale);
    rig->o->release(rig->o, x.f);
    rig->o->release(rig->o, wq);
    rig->o->release(rig->o, ws);
    rig->o->release(rig->o, wf);
    rig->o->release(rig->o, bias);
    return rig_take(rig, y, n_rows * n * sizeof(float));
}

static void test_linear_q8(void **state)
{
    (void)state;
    struct rig rig = rig_open(2);
    for (size_t i = 0; i < ARRAY_LEN(linear_cases); i++) {
        const struct linear_case *c = &linear_cases[i];
        struct linear_data d = linear_make(c, i + 1);
        float *y = linear_run(&rig, c, &d, NUM_Q8, NUM_Q8, 0, (size_t)c->rows);
        for (size_t at = 0; at < (size_t)c->rows * (size_t)c->n; at++) {
            size_t row = at / (size_t)c->n;
            size_t col = at % (size_t)c->n;
            int32_t sum = 0;
            for (size_t j = 0; j < (size_t)c->k; j++)
                sum += d.x[row * (size_t)c->k + j] * d.w[col * (size_t)c->k + j];
            float want = (float)sum * d.x_scale[row] * d.w_scale[col];
            want = c->bias ? want + d.bias[col] : want;
            want = c->accumulate ? d.y[at] + want : want;
            if (y[at] != want)
                fail_msg("case %zu [%zu]: %.9g, expected %.9g", i, at, (double)y[at], (double)want);
        }
        free(y);
        linear_free(&d);
    }
    rig_close(&rig);
}

static void linear_float_case(struct rig *rig, size_t i, enum number kind)
{
    const struct linear_case *c = &linear_cases[i];
    struct linear_data d = linear_make(c, i + 100);
    float *y = linear_run(rig, c, &d, kind, NUM_F32, 0, (size_t)c->rows);
    for (size_t at = 0; at < (size_t)c->rows * (size_t)c->n; at++) {
        size_t row = at / (size_t)c->n;
        size_t col = at % (size_t)c->n;
        double sum = 0.0;
        double size = 0.0;
        double most = 0.0;
        double weights = 0.0;
        for (size_t j = 0; j < (size_t)c->k; j++) {
            size_t w = col * (size_t)c->k + j;
            double value =
                kind == NUM_Q8 ? (double)d.w[w] * (double)d.w_scale[col] : (double)d.w_f[w];
            double product = (double)d.x_f[row * (size_t)c->k + j] * value;
            sum += product;
            size += fabs(product);
            most = fmax(most, fabs((double)d.x_f[row * (size_t)c->k + j]));
            weights += fabs(value);
        }
        sum += c->accumulate ? (double)d.y[at] : 0.0;
        sum += c->bias ? (double)d.bias[col] : 0.0;
        /* Half of the last of 16 bits, of each input. */
        double half = kind == NUM_Q8 ? weights * most / 64000.0 : 0.0;
        assert_near((double)y[at], sum, size * product_bound(rig) + half + 1e-6, "linear", at);
    }
    free(y);
    linear_free(&d);
}

static void test_linear_float(void **state)
{
    (void)state;
    struct rig rig = rig_open(2);
    for (size_t i = 0; i < ARRAY_LEN(linear_cases); i++) {
        linear_float_case(&rig, i, NUM_Q8);
        linear_float_case(&rig, i, NUM_F32);
    }
    rig_close(&rig);
}

/* Rows by themselves, a few at a time and all at once: the same bits. */
static void linear_alone(const struct linear_case *c, enum number kind, enum number act)
{
    static const size_t cuts[] = {0, 1, 2, 5, 11, 28, 63, 64};
    struct linear_data d = linear_make(c, 7);
    struct rig rig = rig_open(1);
    size_t n = (size_t)c->n;
    float *all = linear_run(&rig, c, &d, kind, act, 0, (size_t)c->rows);
    rig_close(&rig);
    for (size_t i = 0; i + 1 < ARRAY_LEN(cuts); i++) {
        size_t n_rows = cuts[i + 1] - cuts[i];
        rig = rig_open(1 + (int32_t)i % 3);
        float *some = linear_run(&rig, c, &d, kind, act, cuts[i], n_rows);
        assert_memory_equal(some, all + cuts[i] * n, n_rows * n * sizeof(float));
        free(some);
        rig_close(&rig);
    }
    free(all);
    linear_free(&d);
}

static void test_linear_alone(void **state)
{
    static const struct linear_case shapes[] = {
        {.rows = 64, .n = 200, .k = 712},
        {.rows = 64, .n = 200, .k = 576},
        {.rows = 64, .n = 1040, .k = 128}, /* enough channels for other kernels' shapes */
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        linear_alone(&shapes[i], NUM_Q8, NUM_Q8);
        linear_alone(&shapes[i], NUM_Q8, NUM_F32);
        linear_alone(&shapes[i], NUM_F32, NUM_F32);
    }
}

/* ---- operations by rows ---- */

struct rows_case {
    int32_t rows;
    int32_t dim;
    float scale; /* of the input */
    bool zero_row;
    size_t apart; /* floats between aligned memory and the first row */
};

static const struct rows_case rows_cases[] = {
    {.rows = 1, .dim = 8, .scale = 1.0f},
    {.rows = 1, .dim = 1, .scale = 1.0f},
    {.rows = 3, .dim = 17, .scale = 10.0f, .zero_row = true},
    {.rows = 2, .dim = 64, .scale = 1e-12f},
    {.rows = 5, .dim = 100, .scale = 1e15f, .zero_row = true},
    {.rows = 33, .dim = 256, .scale = 3.0f},
    {.rows = 70, .dim = 2048, .scale = 0.1f},
    {.rows = 4096, .dim = 40, .scale = 2.0f},
    {.rows = 2, .dim = 288, .scale = 1.0f, .apart = 1},
    {.rows = 3, .dim = 288, .scale = 1.0f, .zero_row = true},
    {.rows = 2, .dim = 5636, .scale = 3.0f, .zero_row = true},
    {.rows = 2, .dim = 8192, .scale = 1.0f},
    {.rows = 2, .dim = 8196, .scale = 1.0f, .zero_row = true},
    {.rows = 1, .dim = 28672, .scale = 1.0f},
    {.rows = 1, .dim = 28676, .scale = 1.0f},
};

/* Room for c->apart floats and the rows. */
static float *rows_make(const struct rows_case *c, uint64_t seed, size_t width)
{
    size_t n = c->apart + (size_t)c->rows * width;
    float *x = random_floats(n, seed);
    for (size_t i = 0; i < n; i++)
        x[i] *= c->scale;
    if (c->zero_row)
        memset(x + n - width, 0, width * sizeof(*x));
    return x;
}

struct result {
    int8_t *q;
    float *scale;
    float *f;
};

static struct act act_put(struct rig *rig, enum number kind, size_t rows, size_t dim)
{
    struct act y = {.kind = kind};
    y.q = kind == NUM_Q8 ? rig_put(rig, NULL, rows * dim) : NULL;
    y.scale = kind == NUM_Q8 ? rig_put(rig, NULL, rows * sizeof(float)) : NULL;
    y.f = kind == NUM_F32 ? rig_put(rig, NULL, rows * dim * sizeof(float)) : NULL;
    return y;
}

static struct result act_take(struct rig *rig, const struct act *y, size_t rows, size_t dim)
{
    struct result r = {0};
    if (y->kind == NUM_Q8) {
        r.q = rig_take(rig, y->q, rows * dim);
        r.scale = rig_take(rig, y->scale, rows * sizeof(float));
    } else {
        r.f = rig_take(rig, y->f, rows * dim * sizeof(float));
    }
    return r;
}

static void result_free(struct result *r)
{
    free(r->q);
    free(r->scale);
    free(r->f);
}

/* want [dim] in double; an int8 may be off by rounding alone. */
static void check_row(const struct result *r, size_t row, size_t dim, const double *want,
                      const char *what)
{
    double most = 0.0;
    for (size_t i = 0; i < dim; i++)
        most = fmax(most, fabs(want[i]));
    if (r->scale)
        assert_near((double)r->scale[row], most / 127.0, most * 1e-6, what, row);
    for (size_t i = 0; i < dim; i++) {
        size_t at = row * dim + i;
        double got = r->q ? (double)r->q[at] * (double)r->scale[row] : (double)r->f[at];
        double bound = r->q ? most / 127.0 * 0.5001 : most * 1e-9 + fabs(want[i]) * 2e-6;
        assert_near(got, want[i], bound, what, at);
    }
}

static void norm_case(struct rig *rig, const struct rows_case *c, enum number kind)
{
    size_t rows = (size_t)c->rows;
    size_t dim = (size_t)c->dim;
    float eps = c->scale < 1e-10f ? 1e-26f : 1e-5f;
    float *x = rows_make(c, 11, dim);
    float *gain = random_floats(dim, 12);
    double *want = calloc(dim, sizeof(*want));
    float *dx = rig_put(rig, x, (c->apart + rows * dim) * sizeof(float));
    float *dg = rig_put(rig, gain, dim * sizeof(float));
    struct act y = act_put(rig, kind, rows, dim);
    rig_begin(rig);
    rig->o->norm(rig->o, &y, dx + c->apart, dg, eps, c->rows, c->dim);
    rig_end(rig);
    struct result r = act_take(rig, &y, rows, dim);
    for (size_t row = 0; row < rows; row++) {
        double mean = 0.0;
        for (size_t i = 0; i < dim; i++)
            mean += pow((double)x[c->apart + row * dim + i], 2.0) / (double)dim;
        for (size_t i = 0; i < dim; i++)
            want[i] =
                (double)x[c->apart + row * dim + i] / sqrt(mean + (double)eps) * (double)gain[i];
        check_row(&r, row, dim, want, "norm");
    }
    result_free(&r);
    rig->o->release(rig->o, dx);
    rig->o->release(rig->o, dg);
    free(x);
    free(gain);
    free(want);
}

static void swiglu_case(struct rig *rig, const struct rows_case *c, enum number kind)
{
    size_t rows = (size_t)c->rows;
    size_t dim = (size_t)c->dim;
    float *x = rows_make(c, 13, 2 * dim);
    double *want = calloc(dim, sizeof(*want));
    float *dx = rig_put(rig, x, (c->apart + rows * 2 * dim) * sizeof(float));
    struct act y = act_put(rig, kind, rows, dim);
    rig_begin(rig);
    rig->o->swiglu(rig->o, &y, dx + c->apart, c->rows, c->dim);
    rig_end(rig);
    struct result r = act_take(rig, &y, rows, dim);
    for (size_t row = 0; row < rows; row++) {
        for (size_t i = 0; i < dim; i++) {
            double gate = (double)x[c->apart + row * 2 * dim + i];
            double up = (double)x[c->apart + row * 2 * dim + dim + i];
            want[i] = gate / (1.0 + exp(-gate)) * up;
        }
        check_row(&r, row, dim, want, "swiglu");
    }
    result_free(&r);
    rig->o->release(rig->o, dx);
    free(x);
    free(want);
}

static void test_rows(void **state)
{
    (void)state;
    struct rig rig = rig_open(2);
    for (size_t i = 0; i < ARRAY_LEN(rows_cases); i++) {
        norm_case(&rig, &rows_cases[i], NUM_Q8);
        norm_case(&rig, &rows_cases[i], NUM_F32);
        if (rows_cases[i].scale > 1e-10f) {
            swiglu_case(&rig, &rows_cases[i], NUM_Q8);
            swiglu_case(&rig, &rows_cases[i], NUM_F32);
        }
    }
    rig_close(&rig);
}

/* The rounding rule to the bit, ties included, and rows without a scale. */
static void test_convert(void **state)
{
    enum { ROWS = 6, DIM = 96 };
    (void)state;
    struct rig rig = rig_open(2);
    float *x = random_floats(ROWS * DIM, 21);
    for (int i = 0; i < DIM; i++) {
        x[i] = i == 0 ? 127.0f : (float)(i - 48) + 0.5f; /* scale 1: every value a tie */
        x[2 * DIM + i] = 0.0f;
        x[3 * DIM + i] = i == 5 ? -1e-42f : 0.0f;
    }
    x[4 * DIM + 7] = NAN;
    x[5 * DIM + 9] = -INFINITY;
    float *dx = rig_put(&rig, x, sizeof(float) * ROWS * DIM);
    struct act y = act_put(&rig, NUM_Q8, ROWS, DIM);
    struct act f = act_put(&rig, NUM_F32, ROWS, DIM);
    rig_begin(&rig);
    rig.o->convert(rig.o, &y, dx, ROWS, DIM);
    rig.o->convert(rig.o, &f, dx, ROWS, DIM);
    rig_end(&rig);
    struct result r = act_take(&rig, &y, ROWS, DIM);
    struct result copy = act_take(&rig, &f, ROWS, DIM);
    assert_memory_equal(copy.f, x, sizeof(float) * ROWS * DIM);
    for (int row = 0; row < 4; row++) {
        float most = 0.0f;
        for (int i = 0; i < DIM; i++)
            most = fmaxf(most, fabsf(x[row * DIM + i]));
        bool nothing = row >= 2;
        assert_true(r.scale[row] == (nothing ? 0.0f : most / 127.0f));
        for (int i = 0; i < DIM; i++) {
            float want = nothing ? 0.0f : rintf(x[row * DIM + i] * (127.0f / most));
            assert_int_equal(r.q[row * DIM + i], (int)want);
        }
    }
    assert_true(!!isnan(r.scale[4]));
    assert_true(!!isnan(r.scale[5]));
    result_free(&r);
    result_free(&copy);
    rig.o->release(rig.o, dx);
    free(x);
    rig_close(&rig);
}

/* A row that is not finite stays so through a product, its neighbour is unharmed. */
static void test_not_finite(void **state)
{
    enum { DIM = 64, N = 8 };
    (void)state;
    struct rig rig = rig_open(1);
    float *x = random_floats(2 * DIM, 31);
    float *gain = random_floats(DIM, 32);
    int8_t *q = random_q8(N * DIM, 33);
    float *scale = random_floats(N, 34);
    x[3] = NAN;
    float *dx = rig_put(&rig, x, sizeof(float) * 2 * DIM);
    float *dg = rig_put(&rig, gain, sizeof(float) * DIM);
    void *wq = rig_put(&rig, q, N * DIM);
    void *ws = rig_put(&rig, scale, sizeof(float) * N);
    const struct weight w = {.kind = NUM_Q8, .act = NUM_Q8, .q = wq, .scale = ws, .n = N, .k = DIM};
    struct act a = act_put(&rig, NUM_Q8, 2, DIM);
    float *y = rig_put(&rig, NULL, sizeof(float) * 2 * N);
    rig_begin(&rig);
    rig.o->norm(rig.o, &a, dx, dg, 1e-5f, 2, DIM);
    rig.o->linear(rig.o, y, &a, &w, 2, false);
    rig_end(&rig);
    float *got = rig_take(&rig, y, sizeof(float) * 2 * N);
    for (int i = 0; i < N; i++) {
        assert_true(!isfinite(got[i]));
        assert_true(!!isfinite(got[N + i]));
    }
    struct result r = act_take(&rig, &a, 2, DIM);
    result_free(&r);
    free(got);
    rig.o->release(rig.o, dx);
    rig.o->release(rig.o, dg);
    rig.o->release(rig.o, wq);
    rig.o->release(rig.o, ws);
    free(x);
    free(gain);
    free(q);
    free(scale);
    rig_close(&rig);
}

/* ---- embed and gather ---- */

static const size_t copied_dims[] = {24, 33, 2052};

/* An id that the table does not have gives zeros. */
static void embed_case(struct rig *rig, enum number kind, size_t dim)
{
    enum { VOCAB = 40, ROWS = 7 };
    static const int32_t ids[ROWS] = {0, 39, ~1, 7, VOCAB, ~0, 7};
    static const int32_t want[ROWS] = {0, 39, 9, 7, -1, 5, 7};
    int8_t *q = random_q8(VOCAB * dim, 41);
    float *scale = random_floats(VOCAB, 42);
    float *f = random_floats(VOCAB * dim, 43);
    float logits[2 * VOCAB] = {0};
    logits[5] = 2.0f;
    logits[VOCAB + 9] = 2.0f;
    struct pick picks[2] = {{.how = {.top_p = 1.0f, .repetition = 1.0f, .n_logprobs = -1}}};
    picks[1] = picks[0];
    struct picked picked[2];
    struct weight w = {.kind = kind, .n = VOCAB, .k = (int32_t)dim};
    void *wq = rig_put(rig, q, VOCAB * dim);
    void *ws = rig_put(rig, scale, sizeof(float) * VOCAB);
    void *wf = rig_put(rig, f, sizeof(float) * VOCAB * dim);
    w.q = wq;
    w.scale = ws;
    w.f = wf;
    float *dl = rig_put(rig, logits, sizeof(logits));
    int32_t *di = rig_put(rig, ids, sizeof(ids));
    float *dx = rig_put(rig, NULL, sizeof(float) * ROWS * dim);
    rig->o->picks(rig->o, picked, picks, 2, VOCAB);
    rig_begin(rig);
    rig->o->sample(rig->o, dl);
    rig_end(rig);
    rig_begin(rig);
    rig->o->embed(rig->o, dx, &w, di, ROWS);
    rig_end(rig);
    float *x = rig_take(rig, dx, sizeof(float) * ROWS * dim);
    for (size_t at = 0; at < ROWS * dim; at++) {
        int32_t id = want[at / dim];
        size_t from = (size_t)(id < 0 ? 0 : id) * dim + at % dim;
        float value = kind == NUM_Q8 ? (float)q[from] * scale[id < 0 ? 0 : id] : f[from];
        assert_true(x[at] == (id < 0 ? 0.0f : value));
    }
    rig->o->release(rig->o, wq);
    rig->o->release(rig->o, ws);
    rig->o->release(rig->o, wf);
    rig->o->release(rig->o, dl);
    rig->o->release(rig->o, di);
    free(x);
    free(q);
    free(scale);
    free(f);
}

static void test_embed(void **state)
{
    (void)state;
    struct rig rig = rig_open(2);
    for (size_t i = 0; i < ARRAY_LEN(copied_dims); i++) {
        embed_case(&rig, NUM_Q8, copied_dims[i]);
        embed_case(&rig, NUM_F32, copied_dims[i]);
    }
    rig_close(&rig);
}

static void gather_case(struct rig *rig, size_t dim)
{
    enum { ROWS = 9, PICKS = 4 };
    static const int32_t index[PICKS] = {8, 0, 3, 3};
    float *x = random_floats(ROWS * dim, 51);
    float *dx = rig_put(rig, x, sizeof(float) * ROWS * dim);
    int32_t *di = rig_put(rig, index, sizeof(index));
    float *dy = rig_put(rig, NULL, sizeof(float) * PICKS * dim);
    rig_begin(rig);
    rig->o->gather(rig->o, dy, dx, di, PICKS, (int32_t)dim);
    rig_end(rig);
    float *y = rig_take(rig, dy, sizeof(float) * PICKS * dim);
    for (size_t row = 0; row < PICKS; row++)
        assert_memory_equal(y + row * dim, x + (size_t)index[row] * dim, sizeof(float) * dim);
    free(y);
    free(x);
    rig->o->release(rig->o, dx);
    rig->o->release(rig->o, di);
}

static void test_gather(void **state)
{
    (void)state;
    struct rig rig = rig_open(2);
    for (size_t i = 0; i < ARRAY_LEN(copied_dims); i++)
        gather_case(&rig, copied_dims[i]);
    rig_close(&rig);
}

/* An argument: the one test to run. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open),         cmocka_unit_test(test_memory),
        cmocka_unit_test(test_linear_q8),    cmocka_unit_test(test_linear_float),
        cmocka_unit_test(test_linear_alone), cmocka_unit_test(test_rows),
        cmocka_unit_test(test_convert),      cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_embed),        cmocka_unit_test(test_gather),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "kernels/paged.h"
#include "tests/ops_rig.h"
#include "tests/simt/fault.h"

/* Aim: whichever call of the CUDA runtime fails, launches among them, the backend says so with a
 * status, stays quiet from then on, and gives everything back when it is closed.
 * Negative space: one failure and then health, as when memory is short, and a device that never
 * answers again; the failures of opening, of allocating, of every operation, of drawing tokens on
 * the host and on the device, of a download; that a failed call is never reported as a good step.
 * The same step is launched, recorded and replayed; what graphs alone are about may fail without
 * harm, as long as nothing else does.
 */

enum {
    DIM = 64,
    HEADS = 2,
    HEAD = 32,
    VOCAB = 48,
    ROWS = 2,
    BLOCK = 16,
    BUFFERS_MAX = 24,
    STEPS = 4
};

static const float eps = 1e-5f;

struct run {
    struct ops *o;
    void *buffer[BUFFERS_MAX];
    int n_buffers;
    enum status status; /* the first that was not OK */
};

static void keep(struct run *r, enum status status)
{
    assert_true(status == OK || status == E_DEVICE || status == E_NOMEM || status == E_UNSUPPORTED);
    if (r->status == OK)
        r->status = status;
}

static void *get(struct run *r, size_t bytes)
{
    void *p = NULL;
    assert_true(r->n_buffers < BUFFERS_MAX);
    enum status status = r->o->alloc(r->o, bytes, &p);
    assert_int_equal(status == OK, p != NULL);
    keep(r, status);
    r->buffer[r->n_buffers++] = p;
    return p;
}

static void *put(struct run *r, const void *src, size_t bytes)
{
    void *p = get(r, bytes);
    if (p)
        r->o->upload(r->o, p, src, bytes);
    return p;
}

/* What one layer does, and the tokens drawn from it: one row on the device, one on the host. */
struct layer {
    struct weight table;
    struct weight qkv;
    struct weight up;
    struct act x;
    float *wide;
    float *rows;
    float *gain;
    struct kv_layer kv;
    struct step_view step;
    struct head_shape shape;
    int32_t *ids;
};

static bool make_layer(struct run *r, struct layer *l)
{
    static const float ones[VOCAB * DIM] = {1, 1, 1};
    static const int8_t q[3 * DIM * DIM] = {1, 2, 3};
    static const int32_t ids[] = {0, 1, 0, 1, 0, 0, 0, 2};
    l->table = (struct weight){.kind = NUM_F32, .act = NUM_F32, .n = VOCAB, .k = DIM};
    l->table.f = put(r, ones, sizeof(ones));
    l->qkv = (struct weight){.kind = NUM_Q8, .act = NUM_Q8, .n = 3 * DIM, .k = DIM};
    l->qkv.q = put(r, q, sizeof(q));
    l->qkv.scale = put(r, ones, 3 * DIM * sizeof(float));
    l->up = l->qkv;
    l->up.n = 2 * DIM;
    l->x = (struct act){.kind = NUM_Q8};
    l->x.q = get(r, ROWS * DIM);
    l->x.scale = get(r, ROWS * sizeof(float));
    l->wide = get(r, ROWS * 3 * DIM * sizeof(float));
    l->rows = get(r, ROWS * DIM * sizeof(float));
    l->gain = put(r, ones, DIM * sizeof(float));
    l->ids = put(r, ids, sizeof(ids));
    /* Positions 0 and 1 of one sequence, whose only block is 0. */
    l->step = (struct step_view){ROWS, 1, l->ids, l->ids + 4, l->ids + 6, l->ids + 4, 1, ROWS};
    l->shape = (struct head_shape){.n_heads = HEADS,
                                   .n_kv_heads = HEADS,
                                   .head_dim = HEAD,
                                   .block_tokens = BLOCK,
                                   .score_scale = 0.1f,
                                   .norm_eps = eps,
                                   .rope_freq = l->gain};
    size_t bytes = kv_layer_bytes(NUM_Q8, &l->shape);
    char *cache = get(r, bytes);
    if (cache)
        l->kv = kv_layer_at(NUM_Q8, &l->shape, cache, bytes);
    return r->status == OK;
}

static enum status one_step(struct run *r, const struct layer *l)
{
    struct ops *o = r->o;
    struct picked out[ROWS] = {0};
    const struct pick pick[ROWS] = {
        {.row = 0, .how = {.top_p = 1, .repetition = 1, .n_logprobs = -1}},
        {.row = 1, .how = {.temperature = 1, .top_p = 1, .repetition = 1, .n_logprobs = 1}},
    };
    float seen[DIM];
    const struct step_key key = {l->gain, ROWS, ROWS, ROWS};
    o->picks(o, out, pick, ROWS, DIM);
    if (o->step_begin(o, &key)) {
        do {
            o->embed(o, l->rows, &l->table, l->ids, ROWS);
            o->norm(o, &l->x, l->rows, l->gain, eps, ROWS, DIM);
            o->linear(o, l->wide, &l->x, &l->qkv, ROWS, false);
            o->rope_store(o, l->wide, &l->kv, &l->step, &l->shape);
            o->attention(o, l->rows, l->wide, &l->kv, &l->step, &l->shape);
            o->convert(o, &l->x, l->rows, ROWS, DIM);
            o->linear(o, l->wide, &l->x, &l->up, ROWS, false);
            o->swiglu(o, &l->x, l->wide, ROWS, DIM);
            o->gather(o, l->rows, l->wide, l->ids, ROWS, DIM);
        } while (!o->step_end(o));
    }
    o->sample(o, l->rows);
    o->step_launch(o);
    enum status status = o->step_wait(o);
    o->download(o, seen, l->rows, sizeof(seen));
    return status;
}

/* False: no call failed, so there is no later one to try. */
static bool survives(unsigned n, bool stays)
{
    struct run r = {0};
    struct layer l;
    char err[256] = "";
    const struct ops_options how = {.backend = "cuda"};
    simt_fail_call(n, stays);
    keep(&r, ops_open(&r.o, &how, err, sizeof(err)));
    if (r.status) {
        assert_true(err[0] != '\0');
        assert_null(r.o);
    } else {
        (void)r.o->bytes_free(r.o);
        if (make_layer(&r, &l)) {
            for (int i = 0; i < STEPS; i++) {
                enum status next = one_step(&r, &l);
                assert_true(r.status == OK || next == r.status); /* sticky */
                keep(&r, next);
            }
            keep(&r, r.o->step_wait(r.o));
        }
        if ((simt_failed() > 0) != (r.status != OK))
            fail_msg("call %u failed, and the status is %d", n, (int)r.status);
        for (int i = 0; i < r.n_buffers; i++)
            r.o->release(r.o, r.buffer[i]);
        r.o->close(r.o);
    }
    assert_int_equal(simt_allocations(), 0);
    return simt_calls() >= n;
}

static void try_all(bool stays)
{
    unsigned n = 1;
    while (survives(n, stays))
        n++;
    print_message("%u calls\n", n - 1);
    assert_true(n > 40); /* what was walked through is more than opening and closing */
}

static void test_once(void **state)
{
    (void)state;
    try_all(false);
}

static void test_for_good(void **state)
{
    (void)state;
    try_all(true);
}

/* Each call waited for by itself, as for a search. */
static void test_checked(void **state)
{
    (void)state;
    assert_int_equal(setenv("FIRSTLIGHT_LAUNCH", "checked", 1), 0);
    assert_false(survives(UINT32_MAX, false));
    for (unsigned n = 1; n < 200 && survives(n, false); n += 13)
        ;
    assert_int_equal(unsetenv("FIRSTLIGHT_LAUNCH"), 0);
}

static void test_health(void **state)
{
    (void)state;
    assert_false(survives(UINT32_MAX, false));
}

/* An argument: the one test to run. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_health),
        cmocka_unit_test(test_once),
        cmocka_unit_test(test_for_good),
        cmocka_unit_test(test_checked),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "tests/model_rig.h"

#include "kernels/ops_cuda.h"
#include "tests/simt/fault.h"
#include "tests/tiny_model.h"

/* Aim: a step that is replayed from a recording gives what the step launched kernel by kernel
 * gives, to the bit: its logits and its tokens, over random mixes of batches.
 * Negative space: batches that grow and shrink within one shape and beyond it, contexts that
 * cross the border of a shape, tokens that only the device knows yet, prompts in between, picks
 * that the host draws; two models on one backend, a model that takes another's memory; more
 * shapes than are kept; calls of the graphs that fail. */

enum {
    CONTEXT = 512,
    VOCAB = 61,
    PEOPLE = 11,
    BLOCKS = CONTEXT / 16,
    STEPS = 80,
    SHAPES = 300,
};

static const struct tiny shape = {32,    48,      2,     2,      1,    64,
                                  VOCAB, CONTEXT, false, "BF16", NULL, .seed = 5};
static const struct tiny other = {32,    48,      2,     2,      1,    64,
                                  VOCAB, CONTEXT, false, "BF16", NULL, .seed = 6};

static uint32_t random_state = 77;

static int32_t below(int32_t n)
{
    return (int32_t)(tiny_random(&random_state) % (uint32_t)n);
}

/* graphs: else launched kernel by kernel. */
static struct rig *open_rig(const char *path, bool graphs)
{
    const struct setup s = {.path = path, .threads = 1, .context = CONTEXT, .acts = ACTS_INT8};
    struct setup with_room = s;
    with_room.kv_bytes = (size_t)PEOPLE * CONTEXT * 4096;
    assert_int_equal(
        graphs ? unsetenv("FIRSTLIGHT_LAUNCH") : setenv("FIRSTLIGHT_LAUNCH", "plain", 1), 0);
    return rig_open(&with_room);
}

/* Who is being answered, the same in every rig. */
struct people {
    int32_t position[PEOPLE];
    int32_t table[PEOPLE][STRIDE];
    int32_t picks_before; /* of the last step */
};

static void gather_people(struct people *p)
{
    memset(p, 0, sizeof(*p));
    for (int32_t i = 0; i < PEOPLE; i++) {
        p->position[i] = below(2) ? below(40) : 240 + below(20);
        for (int32_t b = 0; b < BLOCKS; b++)
            p->table[i][b] = b * PEOPLE + i;
    }
}

/* The first of them, each by a token; now and then a prompt, or a pick that the host draws. */
static void draw_step(struct step *s, struct people *p)
{
    static struct rig scratch;
    memset(&scratch, 0, sizeof(scratch));
    int32_t n = 1 + below(below(3) ? PEOPLE : 3);
    bool prompt = below(8) == 0;
    for (int32_t i = 0; i < n; i++) {
        int32_t tokens[3];
        int32_t rows = prompt && i == 0 ? 3 : 1;
        for (int32_t k = 0; k < rows; k++)
            tokens[k] = below(VOCAB);
        if (p->picks_before > 0 && below(3) == 0)
            tokens[0] = ~below(p->picks_before);
        if (p->position[i] + rows >= CONTEXT)
            p->position[i] = 0;
        add(&scratch, tokens, p->position[i], rows, p->table[i],
            prompt && below(3) == 0 ? PICK_NONE : PICK_LAST);
        p->position[i] += rows;
    }
    for (int32_t i = 0; i < scratch.s.n_picks; i++)
        scratch.s.pick[i].how.temperature = below(5) == 0 ? 1.0f : 0.0f;
    p->picks_before = scratch.s.n_picks;
    *s = scratch.s;
}

struct outcome {
    enum status status;
    int32_t n;
    struct picked drawn[PEOPLE];
    float logits[PEOPLE][VOCAB];
};

static void run_step(struct rig *r, const struct step *s, struct outcome *o)
{
    struct model_batch b = batch_of(s);
    memset(o, 0, sizeof(*o));
    model_launch(r->m, &b);
    o->n = s->n_picks;
    o->status = model_wait(r->m, o->drawn);
    for (int32_t i = 0; i < o->n && !o->status; i++)
        assert_int_equal(model_logits(r->m, i, o->logits[i]), OK);
}

static void assert_same(const struct outcome *a, const struct outcome *b, int step)
{
    assert_int_equal(a->status, OK);
    assert_int_equal(b->status, OK);
    for (int32_t i = 0; i < a->n; i++) {
        if (a->drawn[i].token != b->drawn[i].token ||
            memcmp(a->logits[i], b->logits[i], sizeof(a->logits[i])) != 0)
            fail_msg("step %d: pick %d of %d differs", step, i, a->n);
    }
}

static void test_random_mixes(void **state)
{
    const char *dir = *state;
    static struct step s;
    static struct outcome recorded;
    static struct outcome plain;
    struct people p;
    struct rig *a = open_rig(dir, true);
    struct rig *b = open_rig(dir, false);
    gather_people(&p);
    unsigned before = simt_replays();
    for (int i = 0; i < STEPS; i++) {
        draw_step(&s, &p);
        run_step(a, &s, &recorded);
        run_step(b, &s, &plain);
        assert_same(&recorded, &plain, i);
    }
    print_message("%u of %d steps replayed\n", simt_replays() - before, STEPS);
    assert_true(simt_replays() - before > STEPS / 2);
    rig_close(a);
    rig_close(b);
    assert_int_equal(simt_allocations(), 0);
}

/* Steps of two models of one shape in turn, and then a third where the first one's memory was. */
static void test_models_of_one_backend(void **state)
{
    const char *dir = *state;
    static struct step s;
    static struct outcome mine;
    static struct outcome plain;
    char second[64];
    char err[256];
    struct people p;
    tiny_dir(second);
    tiny_save_model(second, &other);
    const char *const path[2] = {dir, second};
    struct rig *a[2] = {open_rig(dir, true), NULL};
    struct rig *b[2] = {open_rig(dir, false), open_rig(second, false)};
    const struct model_options opt = {.path = second,
                                      .step_rows_max = ROWS,
                                      .step_seqs_max = SEQS,
                                      .context_max = CONTEXT,
                                      .kv_bytes = (size_t)PEOPLE * CONTEXT * 4096,
                                      .acts = ACTS_INT8};
    static struct rig guest;
    guest.ops = a[0]->ops;
    assert_int_equal(model_open(&guest.m, &opt, guest.ops, err, sizeof(err)), OK);
    a[1] = &guest;
    gather_people(&p);
    for (int i = 0; i < STEPS; i++) {
        draw_step(&s, &p);
        for (int k = 0; k < 2; k++) {
            /* Tokens that only the device knows are the last step's of the backend. */
            for (int32_t r = 0; r < s.seq_start[s.n_seqs]; r++)
                s.token[r] = s.token[r] < 0 ? 1 : s.token[r];
            run_step(a[k], &s, &mine);
            run_step(b[k], &s, &plain);
            assert_same(&mine, &plain, i);
        }
        if (i == STEPS / 2) {
            struct model_options again = opt;
            again.path = path[0];
            model_close(guest.m);
            assert_int_equal(model_open(&guest.m, &again, guest.ops, err, sizeof(err)), OK);
            rig_close(b[1]);
            b[1] = open_rig(path[0], false);
            gather_people(&p);
        }
    }
    model_close(guest.m);
    rig_close(a[0]);
    rig_close(b[0]);
    rig_close(b[1]);
    tiny_drop(second);
    assert_int_equal(simt_allocations(), 0);
}

/* Two steps of a shape in turn: launched, recorded, replayed. Call n of time `at` fails; false: it
 * has no such call. s, plain [2]. */
static bool survives(const char *dir, const struct step *s, const struct outcome *plain, int at,
                     unsigned n, int *survived)
{
    enum { TIMES = 4 };
    static struct outcome mine;
    struct rig *a = open_rig(dir, true);
    bool failed = false;
    bool tried = true;
    for (int i = 0; i < TIMES; i++) {
        if (i == at)
            simt_fail_call(n, false);
        run_step(a, &s[i % 2], &mine);
        tried = i == at ? simt_calls() >= n : tried;
        if (!failed && simt_failed() == 0)
            assert_same(&mine, &plain[i % 2], i);
        else if (failed)
            assert_int_equal(mine.status, E_DEVICE); /* it stays */
        failed = simt_failed() > 0;
    }
    *survived += !failed;
    simt_fail_call(0, false);
    rig_close(a);
    return tried;
}

/* Calls of graphs fail one after another: the steps are right, only no longer replayed. */
static void test_failures_cost_speed_alone(void **state)
{
    const char *dir = *state;
    static struct step s[2];
    static struct outcome plain[2];
    const int32_t token[4] = {3, 4, 5, 6};
    struct people p;
    struct rig *b = open_rig(dir, false);
    gather_people(&p);
    for (int k = 0; k < 2; k++) {
        memset(&b->s, 0, sizeof(b->s));
        for (int32_t i = 0; i < 2; i++)
            add(b, &token[2 * k + i], p.position[i], 1, p.table[i], PICK_LAST);
        s[k] = b->s;
        run_step(b, &s[k], &plain[k]);
    }
    rig_close(b);
    for (int at = 1; at <= 2; at++) {
        int survived = 0;
        unsigned n = 1;
        while (survives(dir, s, plain, at, n, &survived))
            n++;
        print_message("%d of %u failures survived\n", survived - 1, n - 1);
        assert_true(survived > 1 && (unsigned)survived < n);
    }
    assert_int_equal(simt_allocations(), 0);
}

/* More shapes than are kept, several times each, so that old ones are dropped and come back. */
static void test_bounded(void **state)
{
    (void)state;
    struct ops *o;
    char err[256];
    float *from = NULL;
    float *to = NULL;
    int32_t *index = NULL;
    const struct ops_options how = {.backend = "cuda"};
    assert_int_equal(unsetenv("FIRSTLIGHT_LAUNCH"), 0);
    assert_int_equal(ops_open(&o, &how, err, sizeof(err)), OK);
    assert_int_equal(o->alloc(o, SHAPES * sizeof(*from), (void **)&from), OK);
    assert_int_equal(o->alloc(o, sizeof(*to), (void **)&to), OK);
    assert_int_equal(o->alloc(o, sizeof(*index), (void **)&index), OK);
    float values[SHAPES];
    for (int i = 0; i < SHAPES; i++)
        values[i] = (float)(i + 1);
    o->upload(o, from, values, sizeof(values));
    unsigned before = simt_replays();
    for (int i = 0; i < 6 * SHAPES; i++) {
        int32_t at = i / 5 % SHAPES;
        struct step_key key = {from, 1, 1, at};
        float got = 0;
        int32_t zero = 0;
        o->upload(o, index, &zero, sizeof(zero));
        if (o->step_begin(o, &key)) {
            do
                o->gather(o, to, from + at, index, 1, 1);
            while (!o->step_end(o));
        }
        o->step_launch(o);
        assert_int_equal(o->step_wait(o), OK);
        o->download(o, &got, to, sizeof(got));
        assert_true(got == values[at]);
        assert_in_range(simt_graphs(), 0, CUDA_GRAPHS_MAX);
    }
    assert_int_equal(simt_graphs(), CUDA_GRAPHS_MAX);
    assert_true(simt_replays() - before > 3 * SHAPES);
    o->release(o, from);
    assert_int_equal(simt_graphs(), 0);
    o->release(o, to);
    o->release(o, index);
    o->close(o);
    assert_int_equal(simt_allocations(), 0);
}

static int setup(void **state)
{
    return tiny_setup(state, &shape);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_mixes),
        cmocka_unit_test(test_models_of_one_backend),
        cmocka_unit_test(test_failures_cost_speed_alone),
        cmocka_unit_test(test_bounded),
    };
    return cmocka_run_group_tests(tests, setup, tiny_teardown);
}

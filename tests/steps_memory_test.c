/* Aim: once every shape of step has been seen, steps of planner, model and backend together
 * take no memory and give none back, whatever comes and goes: malloc and its relatives are
 * counted between plan_step() and the last of the news. Negative space: prompts in chunks,
 * preemption, prefix hits, endings and cancels, penalties and logprobs, several threads. */
#include "kernels/ops.h"
#include "models/model.h"
#include "scheduler/plan.h"
#include "tests/tiny_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { CONTEXT = 96, VOCAB = 97, SEQS = 6, ROWS = 24, REQUESTS = 60, CONTEXTS = 1 };

static atomic_int n_calls;
static atomic_bool counts;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void __real_free(void *p);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void __wrap_free(void *p);

static void count(void)
{
    if (atomic_load(&counts))
        atomic_fetch_add(&n_calls, 1);
}

void *__wrap_malloc(size_t size)
{
    count();
    return __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    count();
    return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    count();
    return __real_realloc(p, size);
}

void __wrap_free(void *p)
{
    count();
    __real_free(p);
}

static const struct tiny shape = {64,    96,      2,     4,      2,    16,
                                  VOCAB, CONTEXT, false, "BF16", NULL, .seed = 5};

struct place {
    struct ops *ops;
    struct model *model;
    struct plan *plan;
    struct sched_req *req[REQUESTS];
    uint32_t random;
};

static uint32_t draw(struct place *p, uint32_t below)
{
    return (tiny_random(&p->random) >> 8) % below;
}

static void place_open(struct place *p, const char *dir, int32_t threads)
{
    char err[256] = "";
    struct model_info info;
    const struct ops_options backend = {.backend = "cpu", .threads = threads};
    assert_int_equal(ops_open(&p->ops, &backend, err, sizeof(err)), OK);
    assert_int_equal(model_inspect(&info, dir, err, sizeof(err)), OK);
    const struct model_options how = {
        .path = dir,
        .step_rows_max = ROWS,
        .step_seqs_max = SEQS,
        .kv_bytes = CONTEXTS * CONTEXT * (size_t)info.kv_bytes_per_token,
    };
    assert_int_equal(model_open(&p->model, &how, p->ops, err, sizeof(err)), OK);
    const struct sched_options opt = {
        .live_max = REQUESTS,
        .step_seqs_max = SEQS,
        .step_rows_max = ROWS,
        .prefix_cache = true,
    };
    assert_int_equal(plan_open(&p->plan, model_info(p->model), &opt), OK);
}

static void place_close(struct place *p)
{
    plan_close(p->plan);
    model_close(p->model);
    p->ops->close(p->ops);
}

static void come(struct place *p, int32_t i)
{
    int32_t prompt[CONTEXT];
    int32_t n = 1 + (int32_t)draw(p, 70);
    int32_t text = (int32_t)draw(p, 3);
    struct sched_params params = {
        .max_new_tokens = 1 + (int32_t)draw(p, 25),
        .sampling = {.top_p = 1, .repetition = 1, .n_logprobs = -1, .seed = (uint64_t)i},
        .client = draw(p, 4),
    };
    if (i % 3 == 0)
        params.sampling.temperature = 1;
    if (i % 4 == 0)
        params.sampling.presence = 0.5f;
    if (i % 5 == 0)
        params.sampling.n_logprobs = 3;
    for (int32_t k = 0; k < n; k++)
        prompt[k] = (text * 31 + k * 7) % VOCAB;
    assert_int_equal(req_open(&p->req[i], model_info(p->model), &params, prompt, n), OK);
    plan_add(p->plan, p->req[i]);
}

static void step(struct place *p)
{
    struct model_batch b;
    struct picked picked[SEQS];
    atomic_store(&counts, true);
    if (plan_step(p->plan, 1, &b) > 0) {
        model_launch(p->model, &b);
        if (model_wait(p->model, picked) == OK) {
            plan_measure(p->plan, 1000);
            plan_commit(p->plan, 2, picked);
        }
    }
    while (plan_news(p->plan))
        ;
    atomic_store(&counts, false);
}

/* All of them come, one after the other, and every seventh leaves at once or later. */
static void serve(struct place *p)
{
    for (int32_t i = 0; i < REQUESTS; i++) {
        come(p, i);
        step(p);
        struct sched_req *leaver = p->req[i - (int32_t)draw(p, 6) % (i + 1)];
        if (i % 7 == 6 && leaver->ending == SCHED_RUNNING)
            plan_end(p->plan, leaver, SCHED_CANCELLED);
    }
    while (!plan_idle(p->plan))
        step(p);
    for (int32_t i = 0; i < REQUESTS; i++)
        req_close(p->req[i]);
}

static void test_steps_take_no_memory(void **state)
{
    (void)state;
    char dir[64];
    tiny_dir(dir);
    tiny_save_model(dir, &shape);
    for (int32_t threads = 1; threads <= 2; threads++) {
        struct place p = {.random = 7};
        place_open(&p, dir, threads);
        serve(&p);
        p.random = 7;
        atomic_store(&n_calls, 0);
        serve(&p);
        assert_true(plan_stats(p.plan)->preemptions > 0);
        assert_true(plan_stats(p.plan)->prefix_hit_tokens > 0);
        if (atomic_load(&n_calls) != 0)
            fail_msg("%d threads: %d calls", threads, atomic_load(&n_calls));
        place_close(&p);
    }
    tiny_drop(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps_take_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

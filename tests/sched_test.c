/* Aim: each policy of the planner is a row of a table: who gets how many rows of which step,
 * who loses its blocks, what is found in the prefix cache, how a request ends. Everything
 * runs without threads and clock on the fake model. Negative space: a step of one row, a
 * long prompt in front of a short one, more requests than sequences, fewer blocks than the
 * requests need, a whole prompt in the cache, blocks that must not be found again. What
 * comes of all of it together is sim_test.c. */
#include "scheduler/due.h"
#include "scheduler/plan.h"
#include "tests/fake_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { BT = 4, VOCAB = 97, CONTEXT = 64, REQS_MAX = 4, SEQS_MAX = 8, STEPS_MAX = 8 };

struct world {
    struct model *m;
    struct plan *p;
    uint64_t now;
};

static const struct sched_params plain = {
    .max_new_tokens = 4,
    .sampling = {.top_p = 1, .repetition = 1, .n_logprobs = -1},
};

static void world_open(struct world *w, int32_t n_blocks, int32_t rows_max, int32_t seqs_max)
{
    struct sched_options opt = {
        .live_max = 128,
        .step_seqs_max = seqs_max,
        .step_rows_max = rows_max,
        .prefix_cache = true,
        .long_rows = rows_max / 2,
    };
    w->now = 1;
    w->m = fake_open(n_blocks, BT, CONTEXT, rows_max, seqs_max);
    assert_int_equal(plan_open(&w->p, &w->m->info, &opt), OK);
}

static void world_close(struct world *w)
{
    plan_fail_all(w->p);
    while (plan_news(w->p))
        ;
    assert_int_equal(plan_stats(w->p)->blocks_used, 0);
    assert_true(plan_check(w->p));
    plan_close(w->p);
    model_close(w->m);
}

/* A prompt of n tokens; texts with different numbers share no block. */
static struct sched_req *add(struct world *w, const struct sched_params *params, int32_t text,
                             int32_t n)
{
    int32_t prompt[CONTEXT];
    struct sched_req *r;
    for (int32_t i = 0; i < n; i++)
        prompt[i] = (text * 23 + i) % VOCAB;
    assert_int_equal(req_open(&r, &w->m->info, params, prompt, n), OK);
    plan_add(w->p, r);
    return r;
}

static enum status advance(struct world *w)
{
    struct model_batch b;
    struct picked picked[SEQS_MAX];
    enum status err = OK;
    if (plan_step(w->p, w->now++, &b) > 0) {
        model_launch(w->m, &b);
        err = model_wait(w->m, picked);
        if (err)
            plan_fail(w->p);
        else
            plan_commit(w->p, w->now, picked);
    }
    assert_true(plan_check(w->p));
    return err;
}

static void finish(struct world *w)
{
    for (int i = 0; i < 1000 && !plan_idle(w->p); i++)
        assert_int_equal(advance(w), OK);
    assert_true(plan_idle(w->p));
}

struct rows_case {
    const char *name;
    int32_t rows_max;
    int32_t seqs_max;
    int32_t n_blocks;
    struct {
        int32_t n_prompt;
        int32_t max_new;
        int32_t priority;
        int32_t arrives; /* before this step */
    } req[REQS_MAX];
    int32_t want[STEPS_MAX][REQS_MAX]; /* rows of each request in each step */
};

static const struct rows_case rows_cases[] = {
    {"a lone prompt gets whole steps",
     8,
     4,
     64,
     {{20, 4, 0, 0}},
     {{8}, {8}, {4}, {1}, {1}, {1}, {0}, {0}}},
    {"one row a step",
     1,
     4,
     64,
     {{3, 2, 0, 0}, {2, 2, 0, 0}},
     {{1, 0}, {1, 0}, {1, 0}, {1, 0}, {0, 1}, {0, 1}, {0, 1}, {0, 0}}},
    {"a short prompt passes a long one",
     8,
     4,
     64,
     {{40, 4, 0, 0}, {3, 4, 0, 1}},
     {{8, 0}, {5, 3}, {7, 1}, {7, 1}, {7, 1}, {6, 0}, {1, 0}, {1, 0}}},
    {"a long prompt keeps half",
     8,
     4,
     64,
     {{40, 1, 0, 0}, {4, 1, 0, 1}, {4, 1, 0, 1}},
     {{8, 0, 0}, {4, 4, 0}, {4, 0, 4}, {8, 0, 0}, {8, 0, 0}, {8, 0, 0}, {0, 0, 0}, {0, 0, 0}}},
    {"a third long prompt does not take a place from a short one",
     8,
     3,
     64,
     {{30, 1, 0, 0}, {30, 1, 0, 0}, {30, 1, 0, 0}, {2, 1, 0, 0}},
     {{6, 0, 0, 2},
      {8, 0, 0, 0},
      {8, 0, 0, 0},
      {8, 0, 0, 0},
      {0, 8, 0, 0},
      {0, 8, 0, 0},
      {0, 8, 0, 0},
      {0, 6, 2, 0}}},
    {"the second long prompt fills what the first leaves",
     8,
     4,
     64,
     {{20, 1, 0, 0}, {20, 1, 0, 0}},
     {{8, 0}, {8, 0}, {4, 4}, {0, 8}, {0, 8}, {0, 0}, {0, 0}, {0, 0}}},
    {"who decodes has a row in every step",
     6,
     4,
     64,
     {{2, 4, 0, 0}, {2, 4, 0, 0}, {2, 4, 0, 0}, {20, 2, 0, 1}},
     {{2, 2, 2, 0},
      {1, 1, 1, 3},
      {1, 1, 1, 3},
      {1, 1, 1, 3},
      {0, 0, 0, 6},
      {0, 0, 0, 5},
      {0, 0, 0, 1},
      {0, 0, 0, 0}}},
    {"higher priority first",
     4,
     4,
     64,
     {{4, 1, -1, 0}, {4, 1, 0, 0}, {4, 1, 5, 0}},
     {{0, 0, 4}, {0, 4, 0}, {4, 0, 0}, {0, 0, 0}}},
    {"no more sequences than allowed",
     8,
     2,
     64,
     {{2, 2, 0, 0}, {2, 3, 0, 0}, {2, 1, 0, 0}},
     {{2, 2, 0}, {1, 1, 0}, {0, 1, 2}, {0, 0, 0}}},
    {"nobody overtakes one that lacks blocks",
     16,
     4,
     5,
     {{12, 2, 0, 0}, {12, 1, 0, 0}, {1, 1, 0, 0}},
     {{12, 0, 0}, {1, 0, 0}, {0, 12, 1}, {0, 0, 0}}},
    {"the last to come gives way",
     16,
     4,
     4,
     {{7, 8, 0, 0}, {3, 8, 0, 0}},
     {{7, 3}, {1, 1}, {1, 0}, {1, 0}, {1, 0}, {1, 0}, {1, 0}, {1, 0}}},
    {"and nobody takes the place it lost",
     16,
     4,
     6,
     {{7, 8, 0, 0}, {8, 8, 0, 0}, {1, 1, 0, 5}},
     {{7, 8, 0}, {1, 1, 0}, {1, 1, 0}, {1, 1, 0}, {1, 1, 0}, {1, 0, 0}, {1, 0, 0}, {1, 0, 0}}},
};

static void run_rows_case(const struct rows_case *c)
{
    struct world w;
    struct sched_req *req[REQS_MAX] = {NULL};
    world_open(&w, c->n_blocks, c->rows_max, c->seqs_max);
    for (int32_t step = 0; step < STEPS_MAX; step++) {
        for (int32_t i = 0; i < REQS_MAX && c->req[i].n_prompt > 0; i++) {
            struct sched_params params = plain;
            params.max_new_tokens = c->req[i].max_new;
            params.priority = c->req[i].priority;
            if (c->req[i].arrives == step)
                req[i] = add(&w, &params, i, c->req[i].n_prompt);
        }
        struct model_batch b;
        struct picked picked[SEQS_MAX];
        int32_t n_rows = plan_step(w.p, w.now, &b);
        for (int32_t i = 0; i < REQS_MAX; i++) {
            int32_t got = req[i] ? req[i]->n_step : 0;
            if (got != c->want[step][i])
                fail_msg("%s: step %d, request %d: %d rows, not %d", c->name, step, i, got,
                         c->want[step][i]);
        }
        if (n_rows == 0)
            continue;
        model_launch(w.m, &b);
        assert_int_equal(model_wait(w.m, picked), OK);
        plan_commit(w.p, w.now, picked);
        assert_true(plan_check(w.p));
    }
    world_close(&w);
    for (int32_t i = 0; i < REQS_MAX; i++)
        req_close(req[i]);
}

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows_cases); i++)
        run_rows_case(&rows_cases[i]);
}

/* Behind two long prompts that are being read wait many others, and a short one at their end. */
static void test_looks_past_long_prompts(void **state)
{
    (void)state;
    enum { MANY = 100 };
    struct world w;
    struct sched_req *req[MANY + 1];
    int32_t n = 0;
    world_open(&w, 64, 8, 4);
    while (n < MANY)
        req[n++] = add(&w, &plain, 0, 40);
    req[n++] = add(&w, &plain, 1, 2);
    assert_int_equal(advance(&w), OK);
    assert_true(req[n - 1]->running);
    assert_false(req[2]->running);
    world_close(&w);
    while (n > 0)
        req_close(req[--n]);
}

static void test_what_can_be_served(void **state)
{
    (void)state;
    static const struct token_bias bias[] = {{VOCAB, 1}};
    static const struct {
        int32_t n_blocks;
        int32_t n_prompt;
        int32_t max_new;
        int32_t first;
        int32_t n_logprobs;
        int32_t n_bias;
        enum status want;
        int32_t n_max;
    } rows[] = {
        {16, 1, 1, 0, -1, 0, OK, 2},
        {16, 0, 1, 0, -1, 0, E_INVALID, 0},
        {16, -1, 1, 0, -1, 0, E_INVALID, 0},
        {16, CONTEXT - 1, 9, 0, -1, 0, OK, CONTEXT},
        {16, CONTEXT, 9, 0, -1, 0, E_INVALID, 0},
        {2, 2 * BT - 1, 9, 0, -1, 0, OK, 2 * BT},
        {2, 2 * BT, 9, 0, -1, 0, E_INVALID, 0},
        {16, 4, INT32_MAX, 0, -1, 0, OK, CONTEXT},
        {16, 4, 0, 0, -1, 0, E_INVALID, 0},
        {16, 4, 1, -1, -1, 0, E_INVALID, 0},
        {16, 4, 1, VOCAB, -1, 0, E_INVALID, 0},
        {16, 4, 1, 0, LOGPROBS_MAX, 0, OK, 5},
        {16, 4, 1, 0, LOGPROBS_MAX + 1, 0, E_INVALID, 0},
        {16, 4, 1, 0, -2, 0, E_INVALID, 0},
        {16, 4, 1, 0, -1, 1, E_INVALID, 0},
        {16, 4, 1, 0, -1, -1, E_INVALID, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct model *m = fake_open(rows[i].n_blocks, BT, CONTEXT, 8, 4);
        int32_t prompt[CONTEXT] = {rows[i].first};
        struct sched_params params = plain;
        params.max_new_tokens = rows[i].max_new;
        params.sampling.n_logprobs = rows[i].n_logprobs;
        params.sampling.n_bias = rows[i].n_bias;
        params.sampling.bias = bias;
        struct sched_req *r;
        enum status err = req_open(&r, &m->info, &params, prompt, rows[i].n_prompt);
        assert_int_equal(err, rows[i].want);
        assert_true((r != NULL) == (err == OK));
        if (r)
            assert_int_equal(r->n_max, rows[i].n_max);
        req_close(r);
        model_close(m);
    }
}

/* One request, then another: how many prompt tokens the second finds. */
static void test_prefix(void **state)
{
    (void)state;
    enum { KEPT, CANCELLED, BAD_LOGITS, FAILED_STEP };
    static const struct {
        const char *name;
        int32_t n_first;
        int32_t n_second;
        int32_t text;
        uint64_t salt;
        int how;
        int32_t want;
    } rows[] = {
        {"all but the last block", 12, 12, 0, 0, KEPT, 8},
        {"a longer one finds all of it", 12, 13, 0, 0, KEPT, 12},
        {"a shorter one too", 12, 7, 0, 0, KEPT, 4},
        {"less than a block", 12, 4, 0, 0, KEPT, 0},
        {"another text", 12, 12, 1, 0, KEPT, 0},
        {"another salt", 12, 12, 0, 1, KEPT, 0},
        {"whole blocks of who was cancelled", 16, 16, 0, 0, CANCELLED, 8},
        {"nothing after logits that were not finite", 12, 12, 0, 0, BAD_LOGITS, 0},
        {"nothing after a step that failed", 16, 16, 0, 0, FAILED_STEP, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct world w;
        struct sched_params params = plain;
        world_open(&w, 32, 8, 4);
        w.m->bad_one_in = rows[i].how == BAD_LOGITS;
        struct sched_req *one = add(&w, &params, 0, rows[i].n_first);
        assert_int_equal(advance(&w), OK);
        w.m->fail_one_in = rows[i].how == FAILED_STEP;
        if (rows[i].how == CANCELLED)
            plan_end(w.p, one, SCHED_CANCELLED);
        else if (rows[i].how == FAILED_STEP)
            assert_int_equal(advance(&w), E_NOMEM);
        w.m->fail_one_in = 0;
        finish(&w);
        w.m->bad_one_in = 0;
        params.cache_salt = rows[i].salt;
        struct sched_req *two = add(&w, &params, rows[i].text, rows[i].n_second);
        finish(&w);
        if (two->timing.n_cached != rows[i].want)
            fail_msg("%s: %d tokens", rows[i].name, two->timing.n_cached);
        assert_int_equal(plan_stats(w.p)->prefix_hit_tokens, rows[i].want);
        world_close(&w);
        req_close(one);
        req_close(two);
    }
}

static void test_least_work_gives_way(void **state)
{
    (void)state;
    struct world w;
    struct sched_params params = plain;
    params.max_new_tokens = 6;
    world_open(&w, 7, 32, 4);
    struct sched_req *oldest = add(&w, &params, 0, 3); /* little work, but the first */
    struct sched_req *most = add(&w, &params, 1, 11);
    struct sched_req *least = add(&w, &params, 2, 2);
    finish(&w);
    assert_int_equal(oldest->n_preempted, 0);
    assert_int_equal(most->n_preempted, 0);
    assert_true(least->n_preempted > 0);
    assert_int_equal(plan_stats(w.p)->preemptions, least->n_preempted);
    /* What it had computed was one whole block, found again: no hit, but no work either. */
    assert_int_equal(plan_stats(w.p)->step_rows, 3 + 5 + 11 + 5 + 2 + 5);
    assert_int_equal(plan_stats(w.p)->prefix_hit_tokens, 0);
    assert_int_equal(least->ending, SCHED_LENGTH);
    world_close(&w);
    req_close(oldest);
    req_close(most);
    req_close(least);
}

/* It wants 60 more tokens than all blocks hold: it gets what they hold. */
static void test_alone_and_out_of_blocks(void **state)
{
    (void)state;
    struct world w;
    struct sched_params params = plain;
    params.max_new_tokens = 60;
    world_open(&w, 2, 32, 4);
    struct sched_req *r = add(&w, &params, 0, 3);
    finish(&w);
    assert_int_equal(r->ending, SCHED_LENGTH);
    assert_int_equal(r->n, 2 * BT);
    world_close(&w);
    req_close(r);
}

static void test_deadlines(void **state)
{
    (void)state;
    struct world w;
    struct sched_params params = plain;
    params.max_new_tokens = 20;
    world_open(&w, 64, 8, 1);
    struct sched_req *runs = add(&w, &params, 0, 3);
    params.deadline_ns = 3;
    struct sched_req *waits = add(&w, &params, 1, 3);
    advance(&w);
    advance(&w);
    assert_int_equal(waits->ending, SCHED_RUNNING);
    advance(&w);
    assert_int_equal(waits->ending, SCHED_EXPIRED);
    assert_int_equal(waits->timing.scheduled_ns, 0);
    plan_end(w.p, runs, SCHED_CANCELLED);
    params.deadline_ns = 6;
    struct sched_req *late = add(&w, &params, 1, 3);
    finish(&w);
    assert_int_equal(late->ending, SCHED_EXPIRED);
    assert_int_equal(late->n, 3 + 2);
    assert_true(late->timing.first_ns < late->timing.last_ns);
    world_close(&w);
    req_close(runs);
    req_close(waits);
    req_close(late);
}

/* Garbage in a shared block must reach nobody: the sharer that was not in the step is
 * computed again and its answer is the same. */
static void test_failed_step_spares_the_others(void **state)
{
    (void)state;
    struct world w;
    struct sched_params params = plain;
    int32_t want[CONTEXT];
    int32_t last;
    world_open(&w, 64, 4, 2);
    struct sched_req *first = add(&w, &params, 0, 9);
    finish(&w);
    struct sched_req *one = add(&w, &params, 0, 20);
    struct sched_req *two = add(&w, &params, 0, 19);
    int32_t n = fake_answer(w.m, &params, two->tokens, 19, 4, want, &last);
    w.m->fail_one_in = 1;
    assert_int_equal(advance(&w), E_NOMEM);
    assert_int_equal(one->ending, SCHED_FAILED);
    assert_int_equal(two->ending, SCHED_RUNNING);
    assert_int_equal(two->n_preempted, 1);
    w.m->fail_one_in = 0;
    finish(&w);
    assert_int_equal(two->n - 19, n);
    assert_memory_equal(two->tokens + 19, want, (size_t)n * sizeof(*want));
    world_close(&w);
    req_close(first);
    req_close(one);
    req_close(two);
}

/* Penalty counts and the copy of the bias list. */
static void test_controls_reach_the_pick(void **state)
{
    (void)state;
    struct world w;
    struct token_bias bias = {.token = 5, .bias = 1};
    struct sched_params params = plain;
    params.sampling.repetition = 1.5f;
    params.sampling.bias = &bias;
    params.sampling.n_bias = 1;
    params.sampling.n_logprobs = 3;
    params.sampling.seed = 77;
    world_open(&w, 64, 8, 2);
    struct sched_req *r = add(&w, &params, 0, 5);
    bias.token = 6;
    for (int i = 0; i < 3; i++)
        advance(&w);
    struct model_batch b;
    assert_int_equal(plan_step(w.p, w.now, &b), 1);
    const struct pick *k = b.pick;
    assert_int_equal(k->position, 8);
    assert_int_equal(k->how.seed, 77);
    assert_int_equal(k->how.bias[0].token, 5);
    assert_int_equal(k->how.n_logprobs, 3);
    int32_t n_out = 0;
    int32_t n_prompt = 0;
    for (int32_t i = 0; i < k->n_seen; i++) {
        n_out += k->seen[i].n_out;
        n_prompt += k->seen[i].in_prompt;
        for (int32_t j = 0; j < i; j++)
            assert_int_not_equal(k->seen[j].token, k->seen[i].token);
    }
    assert_int_equal(n_out, 3);
    assert_int_equal(n_prompt, 5);
    assert_int_equal(r->detail[2].token, r->tokens[7]);
    assert_int_equal(r->detail[2].n_top, 3);
    plan_fail(w.p);
    world_close(&w);
    req_close(r);
}

/* A random walk; the nearest deadline is known by looking at all of them. */
static void test_due_is_the_nearest(void **state)
{
    (void)state;
    enum { N = 40, WALK = 20000 };
    static struct sched_req req[N];
    struct due d;
    uint64_t rng = 1;
    assert_int_equal(due_open(&d, N), OK);
    for (int32_t i = 0; i < N; i++)
        req[i].due_at = -1;
    due_add(&d, &req[0]);
    assert_int_equal(d.n, 0);
    for (int32_t step = 0; step < WALK; step++) {
        rng = fake_mix(rng, (uint64_t)step + 1);
        struct sched_req *r = &req[(rng >> 8) % N];
        uint64_t nearest = UINT64_MAX;
        if (r->due_at >= 0) {
            due_remove(&d, r);
        } else {
            r->params.deadline_ns = (rng >> 24) % 100 + 1;
            due_add(&d, r);
        }
        for (int32_t i = 0; i < N; i++) {
            if (req[i].due_at >= 0 && req[i].params.deadline_ns < nearest)
                nearest = req[i].params.deadline_ns;
        }
        assert_null(due_first(&d, nearest - 1));
        assert_true(d.n == 0 || due_first(&d, nearest)->params.deadline_ns == nearest);
    }
    due_close(&d);
}

static void test_open_refuses(void **state)
{
    (void)state;
    static const struct sched_options rows[] = {
        {.live_max = 0, .step_seqs_max = 1, .step_rows_max = 1},
        {.live_max = 1, .step_seqs_max = 0, .step_rows_max = 1},
        {.live_max = 1, .step_seqs_max = 1, .step_rows_max = 0},
        {.live_max = -1, .step_seqs_max = -1, .step_rows_max = -1},
    };
    struct model *m = fake_open(4, BT, CONTEXT, 1, 1);
    struct plan *p;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(plan_open(&p, &m->info, &rows[i]), E_INVALID);
        assert_null(p);
    }
    plan_close(NULL);
    model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_looks_past_long_prompts),
        cmocka_unit_test(test_what_can_be_served),
        cmocka_unit_test(test_prefix),
        cmocka_unit_test(test_least_work_gives_way),
        cmocka_unit_test(test_alone_and_out_of_blocks),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_failed_step_spares_the_others),
        cmocka_unit_test(test_controls_reach_the_pick),
        cmocka_unit_test(test_due_is_the_nearest),
        cmocka_unit_test(test_open_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

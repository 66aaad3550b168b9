/* Aim: what the engine promises beyond one plain answer: several answers share the blocks of
 * their prompt, prompts are judged, end tokens of a request's own, a step in flight hides the
 * planner and changes nothing else, and a cancel gives its blocks back within one step in
 * every phase. Negative space: a leader that leaves before and after its prompt is done, no
 * prefix cache, prompts of less than a block, fewer picks than rows to judge, a prompt of one
 * token, nothing left to draw, a step that fails while the next one is made, a client that
 * reads nothing. */
#include "scheduler/plan.h"
#include "scheduler/sched.h"
#include "tests/fake_model.h"

#include <math.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { BT = 4, CONTEXT = 64, ANSWER_MAX = 40, GROUP_MAX = 5 };

static const struct sched_params plain = {
    .max_new_tokens = 6,
    .sampling = {.top_p = 1, .repetition = 1, .n_logprobs = -1},
};

/* Several answers, without threads. */

struct group_case {
    const char *name;
    int32_t n;
    int32_t n_prompt;
    bool prefix_cache;
    int32_t leader_leaves_at; /* before this step, -1: stays */
    int32_t max_new;
    int32_t rows; /* of prompts, computed in all */
};

static const struct group_case group_cases[] = {
    {"two share", 2, 13, true, -1, 6, 13 + 1},
    {"five share", 5, 13, true, -1, 6, 13 + 4},
    {"without the prefix cache", 5, 13, false, -1, 6, 13 + 4},
    {"a block that is not whole is not shared", 3, 11, false, -1, 6, 11 + 2 * 3},
    {"the last token is computed by each", 3, 12, false, -1, 6, 12 + 2 * 4},
    {"less than a block", 3, 4, false, -1, 6, 12},
    {"the leader is done at its first token", 4, 13, false, -1, 1, 13 + 3},
    {"the leader leaves at once", 4, 13, false, 0, 6, 13 + 2},
    {"the leader leaves in its prompt", 4, 29, false, 2, 6, 16 + 13 + 2},
    {"the leader leaves while it answers", 4, 13, false, 4, 6, 13 + 3},
};

struct answer {
    struct sched_req *r;
    struct sched_params params;
    int32_t want[ANSWER_MAX];
    int32_t n_want;
    int32_t last;
};

static enum status step(struct plan *p, struct model *m, uint64_t now)
{
    struct model_batch b;
    static struct picked picked[FAKE_SEQS_MAX];
    enum status err = OK;
    if (plan_step(p, now, &b) > 0) {
        model_launch(m, &b);
        err = model_wait(m, picked);
        if (err)
            plan_fail(p);
        else
            plan_commit(p, now, picked);
    }
    assert_true(plan_check(p));
    return err;
}

static void add_group(struct plan *p, struct model *m, const struct group_case *c,
                      struct answer *answers, const int32_t *prompt)
{
    for (int32_t i = 0; i < c->n; i++) {
        struct answer *a = &answers[i];
        a->params = plain;
        a->params.max_new_tokens = c->max_new;
        a->params.sampling.seed = (uint64_t)i;
        assert_int_equal(req_open(&a->r, &m->info, &a->params, prompt, c->n_prompt), OK);
        a->r->group = 1;
        a->r->leader = i > 0 ? answers[0].r : NULL;
        a->n_want = fake_answer(m, &a->params, prompt, c->n_prompt, c->max_new, a->want, &a->last);
        plan_add(p, a->r);
    }
}

static void test_groups(void **state)
{
    (void)state;
    int32_t prompt[CONTEXT];
    for (int32_t i = 0; i < CONTEXT; i++)
        prompt[i] = 1 + i;
    for (size_t k = 0; k < ARRAY_LEN(group_cases); k++) {
        const struct group_case *c = &group_cases[k];
        struct answer answers[GROUP_MAX];
        struct sched_options opt = {
            .live_max = 8, .step_seqs_max = 8, .step_rows_max = 8, .prefix_cache = c->prefix_cache};
        struct model *m = fake_open(64, BT, CONTEXT, 8, 8);
        struct plan *p;
        assert_int_equal(plan_open(&p, &m->info, &opt), OK);
        add_group(p, m, c, answers, prompt);
        uint64_t now = 1;
        for (; !plan_idle(p); now++) {
            if ((int32_t)now - 1 == c->leader_leaves_at)
                plan_end(p, answers[0].r, SCHED_CANCELLED);
            assert_int_equal(step(p, m, now), OK);
            assert_true(now < 200);
        }
        while (plan_news(p))
            ;
        if (plan_stats(p)->tokens_in != (uint64_t)c->rows)
            fail_msg("%s: %d rows", c->name, (int)plan_stats(p)->tokens_in);
        assert_int_equal(plan_stats(p)->blocks_used, 0);
        assert_true(plan_stats(p)->prefix_hit_tokens == 0 || c->prefix_cache);
        for (int32_t i = 0; i < c->n; i++) {
            struct answer *a = &answers[i];
            if (i > 0 || c->leader_leaves_at < 0) {
                assert_int_equal(a->r->n - a->r->n_prompt, a->n_want);
                assert_memory_equal(a->r->tokens + a->r->n_prompt, a->want,
                                    (size_t)a->n_want * sizeof(*a->want));
            }
            req_close(a->r);
        }
        plan_close(p);
        model_close(m);
    }
}

/* Judged prompts. */

struct judge_case {
    const char *name;
    int32_t n_prompt;
    int32_t max_new;
    int32_t rows_max;
    int32_t seqs_max; /* picks too */
    int32_t n_blocks;
    int32_t others; /* that decode meanwhile */
    int32_t rounds; /* the same prompt again, with the prefix cache warm */
};

static const struct judge_case judge_cases[] = {
    {"alone", 21, 3, 64, 64, 32, 0, 2},
    {"a row a step", 21, 3, 1, 1, 32, 0, 1},
    {"fewer picks than rows", 30, 3, 16, 3, 64, 0, 1},
    {"every pick is somebody's", 30, 3, 16, 3, 64, 2, 2},
    {"one token", 1, 3, 16, 4, 32, 0, 1},
    {"two tokens", 2, 3, 16, 4, 32, 0, 1},
    {"nothing but the prompt", 21, 0, 16, 4, 32, 0, 2},
    {"nothing but one token", 1, 0, 16, 4, 32, 0, 1},
    {"few blocks", 30, 20, 16, 4, 16, 3, 1},
};

static void check_judged(const struct model *m, const struct judge_case *c,
                         const struct sched_req *r, const int32_t *prompt)
{
    if (r->n_judged != c->n_prompt - 1)
        fail_msg("%s: %d judged", c->name, r->n_judged);
    assert_int_equal(r->prompt_detail[0].token, prompt[0]);
    assert_int_equal(r->prompt_detail[0].n_top, 0);
    for (int32_t i = 1; i < c->n_prompt; i++) {
        struct picked want;
        fake_judgement(m, &r->params, prompt, i, &want);
        assert_memory_equal(&r->prompt_detail[i], &want, sizeof(want));
    }
}

static void judge_round(struct plan *p, struct model *m, const struct judge_case *c,
                        const int32_t *prompt)
{
    struct sched_params params = plain;
    struct sched_req *r;
    struct sched_req *other[4];
    int32_t want[ANSWER_MAX];
    int32_t last;
    params.max_new_tokens = 20;
    for (int32_t i = 0; i < c->others; i++) {
        params.sampling.seed = (uint64_t)i;
        assert_int_equal(req_open(&other[i], &m->info, &params, prompt + i, 3), OK);
        plan_add(p, other[i]);
    }
    params.max_new_tokens = c->max_new;
    params.judge_prompt = true;
    params.prompt_logprobs = 2;
    assert_int_equal(req_open(&r, &m->info, &params, prompt, c->n_prompt), OK);
    plan_add(p, r);
    for (uint64_t now = 1; !plan_idle(p); now++) {
        assert_int_equal(step(p, m, now), OK);
        assert_true(now < 500);
    }
    while (plan_news(p))
        ;
    check_judged(m, c, r, prompt);
    int32_t n = fake_answer(m, &params, prompt, c->n_prompt, c->max_new, want, &last);
    assert_int_equal(r->ending, SCHED_LENGTH);
    assert_int_equal(r->n - r->n_prompt, n);
    assert_memory_equal(r->tokens + r->n_prompt, want, (size_t)n * sizeof(*want));
    req_close(r);
    for (int32_t i = 0; i < c->others; i++)
        req_close(other[i]);
}

static void test_judged_prompts(void **state)
{
    (void)state;
    int32_t prompt[CONTEXT];
    for (int32_t i = 0; i < CONTEXT; i++)
        prompt[i] = 1 + i * 7 % 90;
    for (size_t k = 0; k < ARRAY_LEN(judge_cases); k++) {
        const struct judge_case *c = &judge_cases[k];
        struct sched_options opt = {.live_max = 8,
                                    .step_seqs_max = c->seqs_max,
                                    .step_rows_max = c->rows_max,
                                    .prefix_cache = true};
        struct model *m = fake_open(c->n_blocks, BT, CONTEXT, c->rows_max, c->seqs_max);
        struct plan *p;
        assert_int_equal(plan_open(&p, &m->info, &opt), OK);
        for (int32_t round = 0; round < c->rounds; round++)
            judge_round(p, m, c, prompt);
        assert_int_equal(plan_stats(p)->blocks_used, 0);
        assert_true(plan_stats(p)->preemptions > 0 || c->n_blocks > 16);
        plan_close(p);
        model_close(m);
    }
}

/* End tokens. */

static void test_ends(void **state)
{
    (void)state;
    static const int32_t prompt[] = {5, 6, 7};
    static const int32_t only[] = {9, 11};
    static const int32_t eos_only[] = {FAKE_EOS};
    int32_t free_run[ANSWER_MAX];
    int32_t last;
    struct model *m = fake_open(64, BT, CONTEXT, 8, 8);
    struct sched_options opt = {.live_max = 8, .step_seqs_max = 8, .step_rows_max = 8};
    struct sched_params params = plain;
    params.max_new_tokens = 20;
    assert_int_equal(fake_answer(m, &params, prompt, 3, 20, free_run, &last), 20);
    const struct {
        const char *name;
        const int32_t *stop;
        const int32_t *allowed;
        int32_t n_stop;
        int32_t n_allowed;
        int32_t min_tokens;
        int32_t n_want; /* -1: as fake_answer() says, but no less than min_tokens */
        int32_t stop_token;
        enum sched_finish finish;
    } rows[] = {
        {"a token of its own", &free_run[7], NULL, 1, 0, 0, -1, free_run[7], SCHED_STOP},
        {"not before min_tokens", &free_run[2], NULL, 1, 0, 6, -1, -2, SCHED_STOP},
        {"the only allowed", NULL, only, 0, 2, 0, 20, -1, SCHED_LENGTH},
        {"stop is all that is allowed", only, only, 2, 2, 0, 0, -2, SCHED_STOP},
        {"nothing is left", only, only, 2, 2, 1, 0, -1, SCHED_STOP},
        {"nothing is allowed", NULL, only, 0, 0, 0, 0, -1, SCHED_STOP},
        {"the model's own end", NULL, eos_only, 0, 1, 0, 0, -1, SCHED_STOP},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct plan *p;
        struct sched_req *r;
        int32_t want[ANSWER_MAX];
        params.stop_token = rows[i].stop;
        params.n_stop_tokens = rows[i].n_stop;
        params.allowed = rows[i].allowed;
        params.n_allowed = rows[i].n_allowed;
        params.min_tokens = rows[i].min_tokens;
        assert_int_equal(plan_open(&p, &m->info, &opt), OK);
        assert_int_equal(req_open(&r, &m->info, &params, prompt, 3), OK);
        plan_add(p, r);
        for (uint64_t now = 1; !plan_idle(p); now++)
            assert_int_equal(step(p, m, now), OK);
        while (plan_news(p))
            ;
        int32_t n = fake_answer(m, &params, prompt, 3, 20, want, &last);
        if (r->ending != rows[i].finish || r->n - 3 != n || n < rows[i].min_tokens * (n > 0))
            fail_msg("%s: %d tokens, finish %d", rows[i].name, r->n - 3, r->ending);
        assert_true(rows[i].n_want < 0 || rows[i].n_want == n);
        assert_true(r->stop_token == rows[i].stop_token ||
                    (rows[i].stop_token == -2 && r->stop_token == last));
        req_close(r);
        plan_close(p);
    }
    model_close(m);
}

static void test_refused(void **state)
{
    (void)state;
    static const int32_t prompt[] = {5, 6, 7};
    static const int32_t foreign[] = {3, FAKE_VOCAB};
    static const struct token_bias nan_bias[] = {{3, NAN}};
    struct model *m = fake_open(64, BT, CONTEXT, 8, 8);
    const struct sched_params rows[] = {
        {.max_new_tokens = 0, .sampling = plain.sampling},
        {.max_new_tokens = 1, .sampling = plain.sampling, .min_tokens = 2},
        {.max_new_tokens = 1, .sampling = plain.sampling, .min_tokens = -1},
        {.max_new_tokens = 1,
         .sampling = plain.sampling,
         .stop_token = foreign,
         .n_stop_tokens = 2},
        {.max_new_tokens = 1, .sampling = plain.sampling, .allowed = foreign, .n_allowed = 2},
        {.max_new_tokens = 1, .sampling = plain.sampling, .n_stop_tokens = 1},
        {.max_new_tokens = 1,
         .sampling = plain.sampling,
         .judge_prompt = true,
         .prompt_logprobs = LOGPROBS_MAX + 1},
        {.max_new_tokens = 1, .sampling = {.top_p = NAN, .repetition = 1}},
        {.max_new_tokens = 1, .sampling = {.top_p = 1, .repetition = 1, .temperature = INFINITY}},
        {.max_new_tokens = 1, .sampling = {.top_p = 1, .repetition = 0}},
        {.max_new_tokens = 1, .sampling = {.top_p = 1, .repetition = 1, .n_logprobs = 21}},
        {.max_new_tokens = 1,
         .sampling = {.top_p = 1, .repetition = 1, .bias = nan_bias, .n_bias = 1}},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct sched_req *r;
        if (req_open(&r, &m->info, &rows[i], prompt, 3) != E_INVALID || r)
            fail_msg("row %zu is taken", i);
    }
    model_close(m);
}

/* With the engine thread. */

struct world {
    struct model *m;
    struct sched *s;
    int32_t n_rings;
    int32_t n_beside; /* rings while a step was on its way */
};

static void ring(void *arg)
{
    struct world *w = arg;
    w->n_rings++;
    w->n_beside += w->m->in_flight;
}

static void world_open(struct world *w, bool overlap, bool own_thread)
{
    struct sched_options opt = {.live_max = 8,
                                .step_seqs_max = 4,
                                .step_rows_max = 8,
                                .prefix_cache = true,
                                .overlap = overlap};
    *w = (struct world){.m = fake_open(64, BT, CONTEXT, 8, 4)};
    if (own_thread)
        fake_own_thread(w->m);
    assert_int_equal(sched_open(&w->s, w->m, &opt, ring, w), OK);
}

static void world_close(struct world *w)
{
    sched_close(w->s);
    model_close(w->m);
}

static const int32_t hello[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18};

static enum sched_finish read_on(struct world *w, struct sched_req *r, int32_t *n, int32_t until)
{
    struct sched_news news;
    do {
        while (sched_poll(w->s))
            ;
        sched_read(w->s, r, &news);
        *n += news.n;
        sched_yield();
    } while (news.finish == SCHED_RUNNING && *n < until);
    return news.finish;
}

/* The results of a step are told while the next one is on its way, and only then. */
static void test_beside(void **state)
{
    (void)state;
    for (int overlap = 0; overlap < 2; overlap++) {
        struct world w;
        struct sched_req *r;
        int32_t n = 0;
        world_open(&w, overlap, true);
        assert_int_equal(sched_submit(w.s, &plain, hello, 5, NULL, &r), OK);
        assert_int_equal(read_on(&w, r, &n, ANSWER_MAX), SCHED_LENGTH);
        assert_int_equal(n, 6);
        sched_release(w.s, r);
        sched_close(w.s);
        assert_true(w.n_rings > 0);
        assert_true((w.n_beside > 0) == overlap);
        model_close(w.m);
    }
}

enum phase { QUEUED, READING, ANSWERING, UNREAD, PHASES };

static const char *const phase_name[] = {"queued", "reading", "answering", "unread"};

static struct sched_stats stats_of(struct world *w)
{
    struct sched_stats stats;
    sched_stats(w->s, &stats);
    return stats;
}

static void wait_steps(struct world *w, uint64_t n)
{
    while (stats_of(w).steps < n)
        sched_yield();
}

/* One request is brought to a phase and the device is stopped in the middle of a step; then it
 * is cancelled, and no more than that step may pass until it has ended without a block. */
static void cancel_in(enum phase phase, bool overlap)
{
    struct world w;
    struct sched_req *r;
    struct sched_req *filler[4] = {NULL};
    struct sched_params params = plain;
    int32_t n = 0;
    world_open(&w, overlap, true);
    params.max_new_tokens = ANSWER_MAX;
    if (phase == QUEUED) {
        for (int i = 0; i < 4; i++)
            assert_int_equal(sched_submit(w.s, &params, hello, 3, NULL, &filler[i]), OK);
        wait_steps(&w, 4);
    }
    if (phase == READING)
        fake_hold(w.m, true);
    assert_int_equal(sched_submit(w.s, &params, hello, ARRAY_LEN(hello), NULL, &r), OK);
    if (phase == ANSWERING)
        (void)read_on(&w, r, &n, 3);
    if (phase == UNREAD)
        wait_steps(&w, 10);
    fake_hold(w.m, true);
    uint64_t n_steps = stats_of(&w).steps;
    sched_cancel(w.s, r);
    fake_hold(w.m, false);
    enum sched_finish finish = read_on(&w, r, &n, INT32_MAX);
    struct sched_stats stats = stats_of(&w);
    if (finish != SCHED_CANCELLED && finish != SCHED_LENGTH)
        fail_msg("%s: finish %d", phase_name[phase], finish);
    /* The one that was held, and one that had come back and was not published yet. */
    if (phase != QUEUED && (stats.steps > n_steps + 2 || stats.blocks_used > 0))
        fail_msg("%s: %d steps later %d blocks", phase_name[phase], (int)(stats.steps - n_steps),
                 stats.blocks_used);
    assert_true(finish != SCHED_CANCELLED || (stats.cancels == 1 && stats.cancel_ns > 0));
    sched_release(w.s, r);
    for (int i = 0; i < 4 && filler[i]; i++) {
        sched_cancel(w.s, filler[i]);
        n = 0;
        (void)read_on(&w, filler[i], &n, INT32_MAX);
        sched_release(w.s, filler[i]);
    }
    assert_int_equal(stats_of(&w).blocks_used, 0);
    world_close(&w);
}

static void test_cancel_in_every_phase(void **state)
{
    (void)state;
    for (int overlap = 0; overlap < 2; overlap++) {
        for (int phase = QUEUED; phase < PHASES; phase++)
            cancel_in((enum phase)phase, overlap);
    }
}

/* Of two requests one is in the step that fails, the other in the one made meanwhile. */
static void test_failure_beside(void **state)
{
    (void)state;
    log_setup(LOG_ERROR, false);
    struct world w;
    struct sched_req *r[3];
    int32_t n_failed = 0;
    world_open(&w, true, true);
    w.m->fail_one_in = 9;
    for (int round = 0; round < 12; round++) {
        for (int i = 0; i < 3; i++)
            assert_int_equal(sched_submit(w.s, &plain, hello, 5 + i, NULL, &r[i]), OK);
        for (int i = 0; i < 3; i++) {
            int32_t n = 0;
            enum sched_finish finish = read_on(&w, r[i], &n, INT32_MAX);
            assert_true(finish == SCHED_FAILED || (finish == SCHED_LENGTH && n == 6));
            n_failed += finish == SCHED_FAILED;
            sched_release(w.s, r[i]);
        }
    }
    assert_true(n_failed > 0 && n_failed < 36);
    assert_int_equal(stats_of(&w).blocks_used, 0);
    world_close(&w);
}

/* Released while the step that wastes a row on it is on its way: its lists live on. */
static void test_release_beside(void **state)
{
    (void)state;
    struct world w;
    struct sched_params params = plain;
    const struct token_bias bias[] = {{5, 1}};
    params.sampling.presence = 1;
    params.sampling.bias = bias;
    params.sampling.n_bias = 1;
    world_open(&w, true, true);
    w.m->eos_one_in = 3;
    for (int round = 0; round < 300; round++) {
        struct sched_req *r;
        int32_t n = 0;
        params.sampling.seed = (uint64_t)round;
        assert_int_equal(sched_submit(w.s, &params, hello, 5, NULL, &r), OK);
        if (round % 3 == 0)
            sched_cancel(w.s, r);
        (void)read_on(&w, r, &n, INT32_MAX);
        sched_release(w.s, r);
    }
    assert_int_equal(stats_of(&w).blocks_used, 0);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_groups),         cmocka_unit_test(test_judged_prompts),
        cmocka_unit_test(test_ends),           cmocka_unit_test(test_refused),
        cmocka_unit_test(test_beside),         cmocka_unit_test(test_cancel_in_every_phase),
        cmocka_unit_test(test_failure_beside), cmocka_unit_test(test_release_beside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

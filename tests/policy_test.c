/* Aim: who is next, what a step may carry beside decodes, and who is turned away are rows of
 * tables, each policy by itself; what comes of all of them together is sim_test.c. Negative
 * space: a client that floods, one that comes back with old debts, more clients than accounts,
 * a wish that can no longer be met, a long prompt that is known already, measurements with
 * outliers, a machine that becomes slower, and a scheduler that has measured nothing yet. */
#include "scheduler/admit.h"
#include "scheduler/cost.h"
#include "scheduler/plan.h"
#include "scheduler/queue.h"
#include "tests/fake_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { BT = 4, CONTEXT = 2048, ROWS = 64, SEQS = 8, MS = 1000000 };

static const struct sched_params plain = {
    .max_new_tokens = 4,
    .sampling = {.top_p = 1, .repetition = 1, .n_logprobs = -1},
    .ignore_eos = true,
};

/* What a step of the imagined machine takes, ns. */
static double true_cost(const struct step_shape *s)
{
    return 200000 + 30000.0 * s->n_reads + 50000.0 * s->n_draws + 20.0 * (double)s->context;
}

static uint64_t rng_next(uint64_t *rng)
{
    *rng += 1;
    return fake_mix(fake_mix(*rng, 3), 5) >> 20;
}

static struct step_shape some_shape(uint64_t *rng)
{
    struct step_shape s = {.n_draws = (int32_t)(rng_next(rng) % 32)};
    if (rng_next(rng) % 4 == 0)
        s.n_reads = (int32_t)(rng_next(rng) % 64);
    if (s.n_draws + s.n_reads == 0)
        s.n_draws = 1;
    s.context = (int64_t)(s.n_draws + s.n_reads) * (int64_t)(rng_next(rng) % 2000);
    return s;
}

static void learn(struct cost *c, uint64_t *rng, int32_t n, double slower, uint32_t outlier_in)
{
    for (int32_t i = 0; i < n; i++) {
        struct step_shape s = some_shape(rng);
        double ns = true_cost(&s) * slower * (0.9 + 0.2 * (double)(rng_next(rng) % 1000) / 1000);
        if (outlier_in && rng_next(rng) % outlier_in == 0)
            ns *= 20;
        cost_learn(c, &s, (uint64_t)ns);
    }
}

/* The worst relative error over shapes it has not seen. */
static double worst_error(const struct cost *c, double slower)
{
    double worst = 0;
    uint64_t rng = 999;
    for (int32_t i = 0; i < 200; i++) {
        struct step_shape s = some_shape(&rng);
        double error = cost_step(c, &s) / (true_cost(&s) * slower) - 1;
        worst = error > worst ? error : -error > worst ? -error : worst;
    }
    return worst;
}

static void test_cost_is_learned(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint32_t outlier_in;
        double then_slower;
        double most;
    } rows[] = {
        {"noise of a tenth", 0, 1, 0.1},
        {"one step in fifty takes twenty times as long", 50, 1, 0.2},
        {"the machine becomes three times slower", 0, 3, 0.15},
        {"and three times faster", 0, 0.33, 0.15},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct cost c = {0};
        uint64_t rng = i;
        learn(&c, &rng, 400, 1, rows[i].outlier_in);
        if (rows[i].then_slower != 1)
            learn(&c, &rng, 600, rows[i].then_slower, 0);
        double worst = worst_error(&c, rows[i].then_slower);
        if (worst > rows[i].most)
            fail_msg("%s: off by %.0f %%", rows[i].name, worst * 100);
    }
}

/* A million steps of one kind must not leave the others to the next outlier. */
static void test_cost_of_what_is_rare(void **state)
{
    (void)state;
    struct cost c = {0};
    uint64_t rng = 7;
    learn(&c, &rng, 400, 1, 0);
    struct step_shape decode = {.n_draws = 8, .context = 8000};
    for (int32_t i = 0; i < 1000000; i++)
        cost_learn(&c, &decode, (uint64_t)true_cost(&decode));
    double before = cost_read(&c, 0);
    struct step_shape chunk = {.n_reads = 32, .n_draws = 8, .context = 8000};
    cost_learn(&c, &chunk, (uint64_t)(true_cost(&chunk) * 20));
    double after = cost_read(&c, 0);
    assert_true(before > 0 && after < 3 * before);
}

struct world {
    struct model *m;
    struct plan *p;
    uint64_t now;
    double slower;           /* than the imagined machine; 0: as it is */
    struct step_shape shape; /* of the last step */
};

static void world_open(struct world *w, const struct sched_options *opt, int32_t n_blocks)
{
    *w = (struct world){.now = MS};
    w->m = fake_open(n_blocks, BT, CONTEXT, opt->step_rows_max, opt->step_seqs_max);
    assert_int_equal(plan_open(&w->p, &w->m->info, opt), OK);
}

static void world_close(struct world *w)
{
    plan_fail_all(w->p);
    while (plan_news(w->p))
        ;
    assert_true(plan_check(w->p));
    plan_close(w->p);
    model_close(w->m);
}

static struct sched_req *add(struct world *w, const struct sched_params *params, int32_t text,
                             int32_t n)
{
    static int32_t prompt[CONTEXT];
    struct sched_req *r;
    for (int32_t i = 0; i < n; i++)
        prompt[i] = (text * 23 + i * (1 + text % 5)) % 97;
    assert_int_equal(req_open(&r, &w->m->info, params, prompt, n), OK);
    r->timing.submitted_ns = w->now;
    plan_add(w->p, r);
    return r;
}

static int32_t advance(struct world *w)
{
    struct model_batch b;
    struct picked picked[SEQS];
    int32_t n_rows = plan_step(w->p, w->now, &b);
    if (n_rows == 0)
        return 0;
    w->shape = (struct step_shape){.n_reads = n_rows - b.n_picks, .n_draws = b.n_picks};
    for (int32_t i = 0; i < n_rows; i++)
        w->shape.context += b.position[i];
    uint64_t ns = (uint64_t)(true_cost(&w->shape) * (w->slower > 0 ? w->slower : 1));
    w->now += ns;
    model_launch(w->m, &b);
    assert_int_equal(model_wait(w->m, picked), OK);
    plan_measure(w->p, ns);
    plan_commit(w->p, w->now, picked);
    while (plan_news(w->p))
        ;
    assert_true(plan_check(w->p));
    return n_rows;
}

static const struct sched_options machine = {
    .live_max = 256,
    .step_seqs_max = SEQS,
    .step_rows_max = ROWS,
    .prefix_cache = true,
};

/* Until the cost of steps is known, and nobody is left. */
static void warm_up(struct world *w)
{
    struct sched_req *r[6];
    struct sched_params params = plain;
    uint64_t rng = 1;
    learn(plan_cost(w->p), &rng, 100, w->slower > 0 ? w->slower : 1, 0);
    for (int32_t i = 0; i < 6; i++) {
        params.max_new_tokens = 10 + 20 * i;
        r[i] = add(w, &params, 50 + i, 10 + 37 * i);
        advance(w);
    }
    while (advance(w) > 0)
        ;
    for (int32_t i = 0; i < 6; i++)
        req_close(r[i]);
}

/* Four decode; a prompt comes: how much longer do their steps become, and for how long? */
static void test_chunks_beside_decodes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int32_t n_prompt;
        int32_t n_prompts;
        uint64_t slo_ns;
        double slower;
        double most; /* longest step, as a multiple of one of decodes alone */
        double least;
    } rows[] = {
        {"a long prompt", 1500, 1, 0, 1, 1.5, 1.2},
        {"two long ones together, and a last row that draws", 700, 2, 0, 1, 1.6, 1.2},
        {"a short one is read at once", 60, 1, 0, 1, 7, 4},
        {"where that is felt, in parts", 60, 1, 0, 100, 2.6, 1.8},
        {"as many as there are seats, where it is felt", 60, 4, 0, 100, 3.1, 1.8},
        {"one that is too large for that", 500, 1, 0, 1, 1.5, 1.2},
        {"a wish that needs whole steps", 1500, 1, 60 * (uint64_t)MS, 1, 12, 4},
        {"a wish that can wait", 1500, 1, 4000 * (uint64_t)MS, 1, 1.5, 1.2},
        {"a wish that nothing can meet", 1500, 1, 2 * (uint64_t)MS, 1, 1.5, 1.2},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct world w;
        struct sched_req *r[4];
        struct sched_req *late[4];
        struct sched_params params = plain;
        world_open(&w, &machine, 4000);
        w.slower = rows[i].slower;
        warm_up(&w);
        params.max_new_tokens = 1900;
        for (int32_t k = 0; k < 4; k++)
            r[k] = add(&w, &params, k, 20);
        for (int32_t k = 0; k < 20; k++)
            advance(&w);
        params.max_new_tokens = 1;
        params.ttft_slo_ns = rows[i].slo_ns;
        for (int32_t k = 0; k < rows[i].n_prompts; k++)
            late[k] = add(&w, &params, 10 + k, rows[i].n_prompt);
        double worst = 0;
        while (late[0]->ending == SCHED_RUNNING) {
            advance(&w);
            struct step_shape alone = {.n_draws = 4, .context = r[0]->n + 3 * (int64_t)r[1]->n};
            double ratio = true_cost(&w.shape) / true_cost(&alone);
            worst = ratio > worst ? ratio : worst;
        }
        if (worst > rows[i].most || worst < rows[i].least)
            fail_msg("%s: a step of %.2f decodes", rows[i].name, worst);
        world_close(&w);
        for (int32_t k = 0; k < 4; k++)
            req_close(r[k]);
        for (int32_t k = 0; k < rows[i].n_prompts; k++)
            req_close(late[k]);
    }
}

/* Ten decodes are saved up; each prompt of 60 tokens takes about the time of five. The first is
 * read in one step, and so are others while savings last; then it is as if there were none, until
 * there are some again. */
static void test_savings(void **state)
{
    (void)state;
    enum { SHORTS = 12 };
    struct world w;
    struct sched_req *r[4];
    struct sched_req *late[SHORTS];
    struct sched_params params = plain;
    int32_t steps[SHORTS] = {0};
    world_open(&w, &machine, 4000);
    warm_up(&w);
    params.max_new_tokens = 1900;
    for (int32_t k = 0; k < 4; k++)
        r[k] = add(&w, &params, k, 20);
    for (int32_t k = 0; k < 60; k++)
        advance(&w);
    params.max_new_tokens = 1;
    for (int32_t k = 0; k < SHORTS; k++) {
        /* The last one comes after a rest. */
        for (int32_t rest = 0; k == SHORTS - 1 && rest < 40; rest++)
            advance(&w);
        late[k] = add(&w, &params, 10 + k, 60);
        for (; late[k]->ending == SCHED_RUNNING; steps[k]++)
            advance(&w);
    }
    assert_int_equal(steps[0], 1);
    assert_int_equal(steps[SHORTS - 1], 1);
    uint64_t spent = 0;
    for (int32_t k = SHORTS / 2; k < SHORTS - 1; k++)
        spent += (uint64_t)steps[k];
    /* 60 rows of 30 us in parts of 0.4 + 0.8 of a step of about 0.45 ms. */
    assert_in_range(spent, 3 * (SHORTS / 2 - 1), 6 * (SHORTS / 2 - 1));
    world_close(&w);
    for (int32_t k = 0; k < 4; k++)
        req_close(r[k]);
    for (int32_t k = 0; k < SHORTS; k++)
        req_close(late[k]);
}

/* What a step may carry while nobody decodes follows from what steps cost. */
static void test_rows_alone(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct cost c;
        int32_t want;
    } rows[] = {
        {"nothing is known", {.n = COST_KNOWN - 1, .value = {1e6, 1e6}}, INT32_MAX},
        {"a small model: a tenth of a second", {.n = 100, .value = {2e5, 5e4}}, 2000},
        {"a large one: sixteen times the fixed part", {.n = 100, .value = {5e7, 1e7}}, 80},
        {"rows cost nothing", {.n = 100, .value = {1e6, 0}}, INT32_MAX},
        {"rows cost everything", {.n = 100, .value = {0, 1e12}}, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int32_t got = cost_rows(&rows[i].c);
        if (got != rows[i].want)
            fail_msg("%s: %d rows", rows[i].name, got);
    }
}

/* Rows that cost nothing are used, whatever the model of costs believes. */
static void test_free_rows(void **state)
{
    (void)state;
    struct sched_options gpu = machine;
    struct world w;
    struct sched_params params = plain;
    gpu.free_rows = 40;
    world_open(&w, &gpu, 4000);
    warm_up(&w);
    params.max_new_tokens = 500;
    struct sched_req *one = add(&w, &params, 0, 20);
    for (int32_t k = 0; k < 20; k++)
        advance(&w);
    struct sched_req *two = add(&w, &params, 1, 1500);
    assert_int_equal(advance(&w), 40);
    world_close(&w);
    req_close(one);
    req_close(two);
}

/* A long prompt that is in the cache does not wait behind two that are not. */
static void test_known_prompt_is_short(void **state)
{
    (void)state;
    struct world w;
    struct sched_options opt = machine;
    opt.long_rows = 100;
    world_open(&w, &opt, 4000);
    struct sched_req *first = add(&w, &plain, 1, 400);
    while (advance(&w) > 0)
        ;
    struct sched_req *r[4];
    for (int32_t i = 0; i < 3; i++)
        r[i] = add(&w, &plain, 2 + i, 1000);
    r[3] = add(&w, &plain, 1, 400);
    assert_true(r[0]->is_long && !r[3]->is_long);
    advance(&w);
    assert_true(r[0]->running && r[1]->running && !r[2]->running);
    advance(&w);
    assert_true(r[3]->timing.first_ns != 0);
    world_close(&w);
    req_close(first);
    for (int32_t i = 0; i < 4; i++)
        req_close(r[i]);
}

/* In which order requests of one seat run: letters are clients, digits their lengths. */
static void test_order(void **state)
{
    (void)state;
    enum { MOST = 8 };
    static const struct {
        const char *name;
        struct {
            uint64_t client;
            int32_t n_prompt;
            int32_t priority;
            int32_t slo_ms;
        } req[MOST];
        int32_t want[MOST]; /* order of the first tokens */
    } rows[] = {
        {"one client: as they come", {{1, 8, 0, 0}, {1, 8, 0, 0}, {1, 8, 0, 0}}, {0, 1, 2}},
        {"one that floods and one that does not",
         {{1, 8, 0, 0}, {1, 8, 0, 0}, {1, 8, 0, 0}, {1, 8, 0, 0}, {2, 8, 0, 0}, {2, 8, 0, 0}},
         {0, 4, 1, 5, 2, 3}},
        {"by tokens, not by requests",
         {{1, 40, 0, 0}, {1, 40, 0, 0}, {2, 8, 0, 0}, {2, 8, 0, 0}, {2, 8, 0, 0}, {2, 8, 0, 0}},
         {0, 2, 3, 4, 5, 1}},
        {"priority before fairness",
         {{1, 8, 0, 0}, {2, 8, 0, 0}, {1, 8, 1, 0}, {1, 8, 1, 0}},
         {2, 3, 1, 0}},
        {"those without a name are one client",
         {{0, 8, 0, 0}, {0, 8, 0, 0}, {0, 8, 0, 0}, {9, 8, 0, 0}},
         {0, 3, 1, 2}},
        {"the least slack first",
         {{1, 8, 0, 900}, {1, 8, 0, 300}, {1, 8, 0, 600}, {1, 8, 0, 0}},
         {1, 2, 0, 3}},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct world w;
        struct sched_options opt = machine;
        struct sched_req *r[MOST] = {NULL};
        int32_t n = 0;
        opt.step_seqs_max = 1;
        world_open(&w, &opt, 4000);
        for (; n < MOST && rows[i].req[n].n_prompt > 0; n++) {
            struct sched_params params = plain;
            params.client = rows[i].req[n].client;
            params.priority = rows[i].req[n].priority;
            params.ttft_slo_ns = (uint64_t)rows[i].req[n].slo_ms * MS;
            r[n] = add(&w, &params, n, rows[i].req[n].n_prompt);
        }
        while (advance(&w) > 0)
            ;
        for (int32_t k = 0; k + 1 < n; k++) {
            const struct sched_req *a = r[rows[i].want[k]];
            const struct sched_req *b = r[rows[i].want[k + 1]];
            if (a->timing.first_ns >= b->timing.first_ns)
                fail_msg("%s: %d does not come before %d", rows[i].name, rows[i].want[k],
                         rows[i].want[k + 1]);
        }
        world_close(&w);
        for (int32_t k = 0; k < n; k++)
            req_close(r[k]);
    }
}

/* It waits as if it had no wish, so that it costs nobody else theirs. */
static void test_lost_wish_stands_back(void **state)
{
    (void)state;
    struct world w;
    struct sched_options opt = machine;
    struct sched_params params = plain;
    opt.step_seqs_max = 1;
    world_open(&w, &opt, 4000);
    warm_up(&w);
    struct sched_req *busy = add(&w, &plain, 0, 60);
    advance(&w);
    params.ttft_slo_ns = MS / 10;
    struct sched_req *lost = add(&w, &params, 1, 60);
    params.ttft_slo_ns = 500 * (uint64_t)MS;
    struct sched_req *met = add(&w, &params, 2, 60);
    while (advance(&w) > 0)
        ;
    assert_true(met->timing.first_ns < lost->timing.first_ns);
    const struct sched_stats *stats = plan_stats(w.p);
    assert_int_equal(stats->slo_met, 1);
    assert_int_equal(stats->slo_missed, 1);
    assert_true(stats->ttft_n >= 3 && stats->ttft_predicted_ns > 0 && stats->ttft_actual_ns > 0);
    world_close(&w);
    req_close(busy);
    req_close(lost);
    req_close(met);
}

/* Accounts of clients that have gone are kept as long as there is room; many come and go. */
static void test_more_clients_than_accounts(void **state)
{
    (void)state;
    enum { LIVE = 4, CLIENTS = 1000 };
    static struct sched_req req[LIVE];
    struct queue q;
    assert_int_equal(queue_open(&q, LIVE), OK);
    for (uint64_t client = 1; client <= CLIENTS; client++) {
        struct sched_req *r = &req[client % LIVE];
        if (client > LIVE) {
            queue_remove(&q, r);
            queue_leave(&q, r);
        }
        *r = (struct sched_req){.params.client = client * 7919, .arrival = client, .n_left = 3};
        link_init(&r->queue);
        queue_add(&q, r);
        queue_charge(&q, r, 10);
        assert_true(queue_check(&q));
        assert_int_equal(q.n_waiting, client < LIVE ? (int32_t)client : LIVE);
    }
    queue_begin(&q, 0, true);
    assert_int_equal(queue_first(&q)->arrival, CLIENTS - LIVE + 1);
    queue_close(&q);
}

static void test_who_is_turned_away(void **state)
{
    (void)state;
    enum { TAKEN = SCHED_REASONS };
    const struct sched_options opt = {
        .live_max = 10, .queue_tokens_max = 1000, .ttft_slo_ns = 100 * (uint64_t)MS};
    static const struct {
        const char *name;
        struct sched_stats s;
        uint64_t slo_ns;
        int32_t n_live;
        int32_t n_prompt;
        int32_t want;
        uint64_t retry_ms;
    } rows[] = {
        {"nothing measured yet", {.seats = 4}, 0, 0, 900, TAKEN, 0},
        {"the last place", {.seats = 4}, 0, 9, 900, TAKEN, 0},
        {"no place, nothing known", {.seats = 4}, 0, 10, 900, SCHED_MANY_REQUESTS, 1000},
        {"no place, the queue moves",
         {.seats = 4, .running = 4, .waiting = 7, .leave_ns = 200 * MS},
         0,
         10,
         1,
         SCHED_MANY_REQUESTS,
         400},
        {"too many tokens",
         {.seats = 4, .waiting = 2, .waiting_tokens = 800, .token_ns = MS, .leave_ns = 10 * MS},
         1u << 30,
         2,
         300,
         SCHED_MANY_TOKENS,
         100},
        {"as many as may wait", {.waiting = 2, .waiting_tokens = 800}, 0, 2, 200, TAKEN, 0},
        {"however long, when nobody waits", {.seats = 4}, 0, 2, 5000, TAKEN, 0},
        {"in time", {.seats = 4, .token_ns = MS}, 0, 0, 100, TAKEN, 0},
        {"too late by its own length", {.seats = 4, .token_ns = MS}, 0, 0, 150, SCHED_TOO_LATE, 50},
        {"its own wish counts", {.seats = 4, .token_ns = MS}, 150 * MS, 0, 150, TAKEN, 0},
        {"too late behind others",
         {.seats = 4, .token_ns = MS, .backlog_ns = 80 * MS},
         0,
         3,
         50,
         SCHED_TOO_LATE,
         30},
        {"too late for a seat",
         {.seats = 4, .running = 4, .waiting = 3, .token_ns = 1000, .leave_ns = 30 * MS},
         0,
         7,
         1,
         SCHED_TOO_LATE,
         20},
        {"a long time, but not for ever",
         {.seats = 1, .waiting = 9, .leave_ns = (uint64_t)MS * 100000},
         0,
         10,
         1,
         SCHED_MANY_REQUESTS,
         60000},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct sched_refusal no = {0};
        bool taken =
            admit_judge(&opt, &rows[i].s, rows[i].slo_ns, rows[i].n_live, rows[i].n_prompt, &no);
        if (taken != (rows[i].want == TAKEN))
            fail_msg("%s: %s", rows[i].name, taken ? "taken" : "refused");
        if (taken)
            continue;
        if ((int32_t)no.reason != rows[i].want || no.retry_after_ns / MS != rows[i].retry_ms)
            fail_msg("%s: reason %d, after %llu ms", rows[i].name, no.reason,
                     (unsigned long long)(no.retry_after_ns / MS));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cost_is_learned),
        cmocka_unit_test(test_cost_of_what_is_rare),
        cmocka_unit_test(test_chunks_beside_decodes),
        cmocka_unit_test(test_savings),
        cmocka_unit_test(test_rows_alone),
        cmocka_unit_test(test_free_rows),
        cmocka_unit_test(test_known_prompt_is_short),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_lost_wish_stands_back),
        cmocka_unit_test(test_more_clients_than_accounts),
        cmocka_unit_test(test_who_is_turned_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

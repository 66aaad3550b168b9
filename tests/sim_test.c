/* Aim: whatever comes in whatever order, every request gets exactly the tokens it would get
 * alone and ends exactly once. A seed chooses a model (blocks from barely enough for one
 * request to plenty, steps from one row up), the traffic and the faults; there is no clock
 * and no thread, so a seed replays exactly: FIRSTLIGHT_SIM_SEED=n runs that one,
 * FIRSTLIGHT_SIM_SEEDS=n that many.
 *
 * After each step: blocks conserved, queues and counts agree, tokens are a prefix of the
 * answer computed alone, the first in order has moved on and was not preempted. Negative
 * space: cancels in every phase, deadlines waiting and running, failing steps that leave
 * garbage in shared blocks, logits that are not finite, prompts that share prefixes with
 * and without sharing a salt, requests that can never fit. */
#include "scheduler/plan.h"
#include "tests/fake_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum {
    SEEDS = 200,
    REQUESTS = 300,
    PROMPT_MAX = 96,
    ANSWER_MAX = 40,
    LIVE_MAX = 64,
    SEQS_MAX = 16,
};

struct sim_req {
    struct sched_req *r; /* NULL before and after its life */
    struct sched_params params;
    struct token_bias bias[2];
    int32_t prompt[PROMPT_MAX];
    int32_t n_prompt;
    int32_t want[ANSWER_MAX];
    int32_t n_want;
    int32_t last;
    int32_t n_seen;
    int32_t n_preempted;
    bool cancelled;
    int32_t n_endings;
    struct sched_timing timing; /* as it should be */
};

struct sim {
    uint64_t seed;
    uint64_t rng;
    uint64_t now;
    struct model *m;
    struct plan *p;
    struct sim_req req[REQUESTS];
    int32_t live[LIVE_MAX]; /* [n_live] places in req */
    int32_t n_live;
    int32_t n_born;
    bool faults;
    bool overlap; /* steps are made while the one before runs */
    bool flying;
    enum status err; /* of the step that flies */
    struct picked picked[SEQS_MAX];
    uint64_t n_ended[SCHED_FAILED + 1];
    uint64_t n_tokens;
    uint64_t n_prompt_rows;
};

/* Sums over all seeds: a simulation in which something never happens proves nothing of it. */
struct sums {
    uint64_t ended[SCHED_FAILED + 1];
    uint64_t preemptions;
    uint64_t hits;
    uint64_t steps;
    uint64_t tokens;
};

static uint32_t draw(struct sim *s, uint32_t below)
{
    s->rng += 0x9e3779b97f4a7c15u;
    uint64_t h = fake_mix(fake_mix(s->rng, 1), 2);
    return (uint32_t)((h >> 16) % below);
}

static void require(const struct sim *s, bool holds, const char *what)
{
    if (!holds)
        fail_msg("FIRSTLIGHT_SIM_SEED=%llu: %s", (unsigned long long)s->seed, what);
}

static int32_t pick_one(struct sim *s, const int32_t *from, uint32_t n)
{
    return from[draw(s, n)];
}

static void world_open(struct sim *s)
{
    static const int32_t block_tokens[] = {1, 2, 4, 16};
    static const int32_t rows[] = {1, 2, 5, 16, 32, 64, 200};
    static const int32_t seqs[] = {1, 2, 3, 8, SEQS_MAX};
    static const int32_t blocks[] = {1, 2, 3, 5, 12, 40};
    int32_t per_block = pick_one(s, block_tokens, ARRAY_LEN(block_tokens));
    int32_t context = 16 + (int32_t)draw(s, PROMPT_MAX + ANSWER_MAX);
    int32_t n_blocks = (context + per_block - 1) / per_block;
    n_blocks = n_blocks * pick_one(s, blocks, ARRAY_LEN(blocks)) / 2;
    struct sched_options opt = {
        .live_max = LIVE_MAX,
        .step_seqs_max = pick_one(s, seqs, ARRAY_LEN(seqs)),
        .step_rows_max = pick_one(s, rows, ARRAY_LEN(rows)),
        .prefix_cache = draw(s, 4) > 0,
    };
    if (n_blocks * per_block < 4)
        n_blocks = 4;
    s->m = fake_open(n_blocks, per_block, context, opt.step_rows_max, opt.step_seqs_max);
    s->m->eos_one_in = draw(s, 2) ? 20 : 0;
    s->m->bad_one_in = draw(s, 4) ? 0 : 200;
    s->m->fail_one_in = draw(s, 4) ? 0 : 60;
    s->faults = s->m->fail_one_in > 0;
    s->overlap = draw(s, 2);
    require(s, plan_open(&s->p, &s->m->info, &opt) == OK, "plan_open");
}

static void world_close(struct sim *s)
{
    plan_close(s->p);
    model_close(s->m);
}

/* Prompts begin with one of three texts, so that prefixes meet. */
static void draw_prompt(struct sim *s, struct sim_req *q)
{
    static const int32_t lengths[] = {1, 3, 8, 20, 50, PROMPT_MAX};
    q->n_prompt = 1 + (int32_t)draw(s, (uint32_t)pick_one(s, lengths, ARRAY_LEN(lengths)));
    int32_t text = (int32_t)draw(s, 3);
    int32_t n_text = (int32_t)draw(s, (uint32_t)q->n_prompt + 1);
    for (int32_t i = 0; i < q->n_prompt; i++)
        q->prompt[i] = i < n_text ? 1 + (text * 31 + i * 7) % 90 : 1 + (int32_t)draw(s, 90);
}

static void draw_params(struct sim *s, struct sim_req *q)
{
    q->params = (struct sched_params){
        .max_new_tokens = 1 + (int32_t)draw(s, ANSWER_MAX),
        .sampling = {.top_p = 1, .repetition = 1, .n_logprobs = -1, .seed = draw(s, 1000)},
        .ignore_eos = draw(s, 4) == 0,
        .priority = draw(s, 5) ? 0 : (int32_t)draw(s, 3) - 1,
        .deadline_ns = draw(s, 10) ? 0 : s->now + draw(s, 60),
        .cache_salt = draw(s, 4) == 0,
    };
    struct sampling *how = &q->params.sampling;
    if (draw(s, 4) == 0)
        how->presence = 0.5f;
    if (draw(s, 8) == 0)
        how->n_logprobs = (int32_t)draw(s, LOGPROBS_MAX + 1);
    if (draw(s, 8) == 0) {
        how->n_bias = 2;
        how->bias = q->bias;
        q->bias[0].token = (int32_t)draw(s, 97);
        q->bias[1].token = (int32_t)draw(s, 97);
    }
}

static void born(struct sim *s)
{
    int32_t place = s->n_born++;
    struct sim_req *q = &s->req[place];
    draw_prompt(s, q);
    draw_params(s, q);
    int64_t capacity = req_capacity(&s->m->info);
    enum status err = req_open(&q->r, &s->m->info, &q->params, q->prompt, q->n_prompt);
    require(s, err == (q->n_prompt < capacity ? OK : E_INVALID), "what fits, and only that");
    if (err)
        return;
    int32_t most = (int32_t)capacity - q->n_prompt;
    most = q->params.max_new_tokens < most ? q->params.max_new_tokens : most;
    q->n_want = fake_answer(s->m, &q->params, q->prompt, q->n_prompt, most, q->want, &q->last);
    memset(q->bias, 0x55, sizeof(q->bias)); /* the copy must not depend on it */
    q->r->user = q;
    s->live[s->n_live++] = place;
    plan_add(s->p, q->r);
}

static void cancel_somebody(struct sim *s)
{
    struct sim_req *q = &s->req[s->live[draw(s, (uint32_t)s->n_live)]];
    plan_end(s->p, q->r, SCHED_CANCELLED);
    q->cancelled = true;
}

static bool ending_is_right(const struct sim *s, const struct sim_req *q)
{
    bool whole = q->n_seen == q->n_want;
    switch (q->r->ending) {
    case SCHED_STOP:
        return whole && q->last == FAKE_EOS && !q->params.ignore_eos;
    case SCHED_LENGTH:
        return whole && (q->last > FAKE_EOS || (q->last == FAKE_EOS && q->params.ignore_eos));
    case SCHED_CANCELLED:
        return q->cancelled;
    case SCHED_EXPIRED:
        return q->params.deadline_ns != 0 && q->params.deadline_ns <= s->now;
    case SCHED_FAILED:
        return s->faults || (whole && q->last == PICKED_BAD);
    default:
        return false;
    }
}

static void bury(struct sim *s, struct sim_req *q)
{
    int32_t i = 0;
    while (&s->req[s->live[i]] != q)
        i++;
    s->live[i] = s->live[--s->n_live];
    s->n_ended[q->r->ending]++;
    s->n_tokens += (uint64_t)q->n_seen;
    q->n_endings++;
    req_close(q->r);
    q->r = NULL;
}

static void hear_news(struct sim *s)
{
    struct sched_req *r;
    while ((r = plan_news(s->p))) {
        struct sim_req *q = r->user;
        int32_t n = r->n - r->n_prompt;
        require(s, q->r == r && q->n_endings == 0, "news of the living only");
        require(s, n >= q->n_seen && n <= q->n_seen + 1, "one token a step");
        require(s, n <= q->n_want, "more tokens than alone");
        if (n > q->n_seen)
            require(s, r->tokens[r->n - 1] == q->want[n - 1], "another token than alone");
        if (n > q->n_seen && r->detail)
            require(s, r->detail[n - 1].token == q->want[n - 1], "logprobs of another token");
        if (n > q->n_seen)
            q->timing.last_ns = s->now;
        if (n > 0 && !q->timing.first_ns)
            q->timing.first_ns = s->now;
        q->n_seen = n;
        if (r->ending == SCHED_RUNNING)
            continue;
        require(s, ending_is_right(s, q), "ends for another reason");
        require(s,
                r->timing.scheduled_ns == q->timing.scheduled_ns &&
                    r->timing.first_ns == q->timing.first_ns &&
                    r->timing.last_ns == q->timing.last_ns,
                "wrong instants");
        bury(s, q);
    }
}

/* The first in order among those that hold blocks. */
static struct sim_req *first_running(struct sim *s)
{
    struct sim_req *first = NULL;
    for (int32_t i = 0; i < s->n_live; i++) {
        struct sim_req *q = &s->req[s->live[i]];
        if (q->r->running && (!first || req_before(q->r, first->r)))
            first = q;
    }
    return first;
}

/* What a step carries, counted from outside. */
static void count_rows(struct sim *s)
{
    for (int32_t i = 0; i < s->n_live; i++) {
        struct sim_req *q = &s->req[s->live[i]];
        int32_t n_left = q->n_prompt - q->r->n_cached;
        int32_t n_prompt_rows = n_left < q->r->n_step ? n_left : q->r->n_step;
        s->n_prompt_rows += n_prompt_rows > 0 ? (uint64_t)n_prompt_rows : 0;
        if (q->r->n_step > 0 && !q->timing.scheduled_ns)
            q->timing.scheduled_ns = s->now;
    }
}

/* In turn: to the end. Overlapped: the results of this step are looked at in the next. */
static void run(struct sim *s, const struct model_batch *b, int32_t n_rows)
{
    struct picked before[SEQS_MAX];
    bool flown = s->flying;
    s->flying = false;
    if (flown && s->err) {
        plan_fail(s->p);
        return;
    }
    if (flown) {
        memcpy(before, s->picked, sizeof(before));
        plan_settle(s->p, before);
    }
    if (n_rows > 0) {
        model_launch(s->m, b);
        s->err = model_wait(s->m, s->picked);
    }
    if (flown)
        plan_commit(s->p, s->now, before);
    s->flying = s->overlap && n_rows > 0;
    if (s->overlap || n_rows == 0)
        return;
    if (s->err)
        plan_fail(s->p);
    else
        plan_commit(s->p, s->now, s->picked);
}

static void step(struct sim *s)
{
    struct model_batch b;
    struct sim_req *first = first_running(s);
    bool flown = s->flying;
    bool keeps = first && !(first->params.deadline_ns && first->params.deadline_ns <= s->now);
    int32_t n_preempted = keeps ? first->r->n_preempted : 0;
    int32_t n_rows = plan_step(s->p, s->now, &b);
    require(s, n_rows > 0 || flown || plan_idle(s->p), "no rows though work waits");
    if (n_rows > 0) {
        struct sim_req *head = first_running(s);
        require(s, head && (head->r->n_step > 0 || flown), "the first did not move");
        require(s, !keeps || first->r->n_preempted == n_preempted || req_before(head->r, first->r),
                "the first was preempted");
        count_rows(s);
    }
    run(s, &b, n_rows);
    hear_news(s);
    require(s, plan_check(s->p), "blocks or queues do not add up");
    s->now++;
}

static void run_seed(uint64_t seed, struct sums *sums)
{
    static struct sim s;
    s = (struct sim){.seed = seed, .rng = seed * 1000003u, .now = 1};
    world_open(&s);
    uint32_t rush = 1 + draw(&s, 4);
    uint32_t leavers = draw(&s, 3) * 8;
    while (s.n_born < REQUESTS || s.n_live > 0) {
        for (uint32_t i = 0; i < rush && draw(&s, 2); i++) {
            if (s.n_born < REQUESTS && s.n_live < LIVE_MAX)
                born(&s);
        }
        if (leavers && s.n_live > 0 && draw(&s, leavers) == 0)
            cancel_somebody(&s);
        step(&s);
    }
    const struct sched_stats *stats = plan_stats(s.p);
    require(&s, stats->blocks_used == 0 && plan_idle(s.p), "blocks are left at the end");
    require(&s, stats->tokens_out == s.n_tokens, "tokens_out");
    if (!s.faults && !s.m->bad_one_in && !s.overlap)
        require(&s, stats->tokens_in == s.n_prompt_rows, "tokens_in");
    for (size_t i = 0; i < ARRAY_LEN(s.n_ended); i++)
        sums->ended[i] += s.n_ended[i];
    sums->preemptions += stats->preemptions;
    sums->hits += stats->prefix_hit_tokens;
    sums->steps += stats->steps;
    sums->tokens += stats->tokens_out;
    world_close(&s);
}

static uint64_t number_from(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static void test_seeds(void **state)
{
    (void)state;
    struct sums sums = {0};
    uint64_t only = number_from("FIRSTLIGHT_SIM_SEED", 0);
    uint64_t last = only ? only : number_from("FIRSTLIGHT_SIM_SEEDS", SEEDS);
    for (uint64_t seed = only ? only : 1; seed <= last; seed++)
        run_seed(seed, &sums);
    print_message("%llu steps, %llu tokens, %llu preemptions, %llu prefix tokens found\n",
                  (unsigned long long)sums.steps, (unsigned long long)sums.tokens,
                  (unsigned long long)sums.preemptions, (unsigned long long)sums.hits);
    for (int i = SCHED_STOP; i <= SCHED_FAILED; i++)
        print_message("finish %d: %llu\n", i, (unsigned long long)sums.ended[i]);
    if (only)
        return;
    for (int i = SCHED_STOP; i <= SCHED_FAILED; i++)
        assert_true(sums.ended[i] > 0);
    assert_true(sums.preemptions > 0);
    assert_true(sums.hits > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seeds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Aim: whatever comes in whatever order, every request gets exactly the tokens it would get
 * alone and ends exactly once, everybody gets a share, and no bound is passed. A seed chooses
 * a model (blocks from barely enough for one request to plenty, steps from one row up), the
 * machine's speed, the traffic and the faults. The clock is virtual and there is no thread, so
 * a seed replays exactly: FIRSTLIGHT_SIM_SEED=n runs that one, FIRSTLIGHT_SIM_SEEDS=n that
 * many.
 *
 * After each step: blocks conserved, queues and counts agree, tokens are a prefix of the
 * answer computed alone, the first in order has moved on and was not preempted, nobody of
 * lower priority passed a short prompt, no row is left unused while somebody could have it,
 * and nobody gets more than a client that waits all the time by more than queue.c proves. Negative
 * space: cancels in every phase, deadlines waiting and running, failing steps that leave garbage in
 * shared blocks, logits that are not finite, prompts that share prefixes with and without sharing a
 * salt, several answers to one prompt, judged prompts, readers that let go late, a client that
 * floods, requests that can never fit and those that are turned away. */
#include "scheduler/admit.h"
#include "scheduler/plan.h"
#include "tests/fake_model.h"
#include "tests/sim_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum {
    SEEDS = 1000,
    REQUESTS = 1000,
    CLIENTS = 5,
    GROUP_MAX = 3,
    ALONE = 1000, /* from here on a salt is one request's own */
    STEPS_PER_REQUEST_MAX = 2000,
};

struct sim_req {
    struct sched_req *r; /* NULL before and after its life */
    struct sched_params params;
    struct token_bias bias[2];
    int32_t prompt[SIM_PROMPT_MAX];
    int32_t n_prompt;
    int32_t want[SIM_ANSWER_MAX];
    int32_t n_want;
    int32_t last;
    int32_t n_seen;
    int32_t n_preempted;
    uint64_t arrival; /* among those that were taken */
    bool has_run;
    bool cancelled;
    bool ended;
    uint64_t read_at; /* its reader lets go of it */
    int32_t n_endings;
    struct sched_timing timing; /* as it should be */
};

/* What one client has been served, and how far it was behind each other when it began to
 * wait. */
struct share {
    int64_t served;
    int32_t n_waiting;
    uint64_t chosen_last;   /* the latest arrival that was chosen */
    uint64_t waiting_first; /* the earliest that was not */
    bool waits;
    int64_t behind[CLIENTS];
};

struct sim {
    uint64_t seed;
    uint64_t rng;
    uint64_t now;
    uint64_t arrival_ns; /* of the next */
    struct sim_world w;
    struct model *m;
    struct plan *p;
    struct sim_req req[REQUESTS];
    int32_t live[SIM_LIVE_MAX]; /* [n_live] places in req */
    int32_t n_live;
    int32_t n_born;
    int32_t n_refused;
    int32_t n_hopeless; /* can never be served */
    int32_t n_buried;
    uint64_t n_taken;
    bool flying;
    enum status err; /* of the step that flies */
    uint64_t step_ns;
    struct picked picked[SIM_SEQS_MAX];
    struct share share[CLIENTS];
    uint64_t n_ended[SCHED_FAILED + 1];
    uint64_t n_tokens;
    uint64_t n_prompt_rows;
    uint64_t n_wishes;
    uint64_t n_steps;
};

/* Sums over all seeds: a simulation in which something never happens proves nothing of it. */
struct sums {
    uint64_t ended[SCHED_FAILED + 1];
    uint64_t refused[SCHED_REASONS];
    uint64_t preemptions;
    uint64_t hits;
    uint64_t steps;
    uint64_t tokens;
    uint64_t met;
    uint64_t missed;
    uint64_t virtual_ns;
    uint64_t compared; /* times that two clients' shares were */
};

static struct sums sums;

static uint32_t draw(struct sim *s, uint32_t below)
{
    return sim_draw(&s->rng, below);
}

static void require(const struct sim *s, bool holds, const char *what)
{
    if (!holds)
        fail_msg("%s\nagain: FIRSTLIGHT_SIM_SEED=%llu build/cpu/sim_test", what,
                 (unsigned long long)s->seed);
}

static uint64_t now_and_then(struct sim *s, uint64_t mean_ns)
{
    return mean_ns * draw(s, 2000) / 1000;
}

/* The world. */

static void world_open(struct sim *s)
{
    struct sim_world *w = &s->w;
    sim_choose_traffic(w, &s->rng);
    sim_choose_limits(w, &s->rng);
    int32_t per_block = SIM_ONE_OF(&s->rng, 1, 2, 4, 16);
    int32_t context = 8 + (int32_t)draw(s, (uint32_t)(w->prompt_max + w->answer_max));
    int32_t n_blocks = (context + per_block - 1) / per_block;
    int32_t halves = SIM_ONE_OF(&s->rng, 1, 2, 3, 5, 12, 40);
    w->plenty = w->fair || halves == 40;
    n_blocks = n_blocks * (w->fair ? 40 : halves) / 2;
    if (n_blocks * per_block < 4)
        n_blocks = 4;
    s->m = fake_open(n_blocks, per_block, context, w->opt.step_rows_max, w->opt.step_seqs_max);
    s->m->eos_one_in = draw(s, 2) ? 20 : 0;
    s->m->bad_one_in = draw(s, 4) ? 0 : 200;
    s->m->fail_one_in = w->faults ? 60 : 0;
    require(s, plan_open(&s->p, &s->m->info, &w->opt) == OK, "plan_open");
}

/* Arrivals. */

/* Prompts begin with one of three texts, so that prefixes meet. */
static void draw_prompt(struct sim *s, struct sim_req *q)
{
    uint32_t most = draw(s, 4) ? (uint32_t)s->w.prompt_max / 3 + 1 : (uint32_t)s->w.prompt_max;
    q->n_prompt = 1 + (int32_t)draw(s, most);
    int32_t text = (int32_t)draw(s, 3);
    int32_t n_text = (int32_t)draw(s, (uint32_t)q->n_prompt + 1);
    for (int32_t i = 0; i < q->n_prompt; i++)
        q->prompt[i] = i < n_text ? 1 + (text * 31 + i * 7) % 90 : 1 + (int32_t)draw(s, 90);
}

static void draw_controls(struct sim *s, struct sim_req *q)
{
    struct sampling *how = &q->params.sampling;
    if (draw(s, 8) == 0)
        how->presence = 0.5f;
    if (draw(s, 8) == 0)
        how->n_logprobs = (int32_t)draw(s, LOGPROBS_MAX + 1);
    if (draw(s, 8) == 0) {
        how->n_bias = 2;
        how->bias = q->bias;
        q->bias[0].token = (int32_t)draw(s, FAKE_VOCAB);
        q->bias[1].token = (int32_t)draw(s, FAKE_VOCAB);
    }
    q->params.judge_prompt = !s->w.fair && draw(s, 16) == 0;
}

/* One client floods, each for a while: it sends twice as much as all others together. */
static void draw_params(struct sim *s, struct sim_req *q)
{
    const struct sim_world *w = &s->w;
    uint32_t flooder = (uint32_t)s->n_born * 2 * CLIENTS / REQUESTS % CLIENTS;
    uint32_t client = draw(s, 3) ? flooder : draw(s, CLIENTS);
    q->params = (struct sched_params){
        .max_new_tokens = 1 + (int32_t)draw(s, (uint32_t)w->answer_max),
        .sampling = {.top_p = 1, .repetition = 1, .n_logprobs = -1, .seed = draw(s, 1000)},
        .ignore_eos = draw(s, 4) == 0,
        .client = client,
        .cache_salt = draw(s, 4) == 0,
    };
    if (draw(s, 16) == 0)
        q->params.cache_salt = ALONE + (uint64_t)s->n_born;
    draw_controls(s, q);
    if (w->fair)
        return;
    q->params.priority = draw(s, 5) ? 0 : (int32_t)draw(s, 3) - 1;
    if (draw(s, 10) == 0)
        q->params.deadline_ns = s->now + now_and_then(s, 300 * w->row_ns);
    if (draw(s, 10) == 0)
        q->params.ttft_slo_ns = 1 + now_and_then(s, 100 * w->row_ns);
}

/* As sched_admit() and sched_submit() do it; false: turned away. */
static bool may_come(struct sim *s, const struct sim_req *q, int32_t n)
{
    struct sched_refusal no = {.reason = SCHED_REASONS};
    const struct sched_stats *stats = plan_stats(s->p);
    uint64_t slo = q->params.ttft_slo_ns ? q->params.ttft_slo_ns : s->w.opt.ttft_slo_ns;
    bool may = admit_judge(&s->w.opt, stats, q->params.ttft_slo_ns, s->n_live, q->n_prompt, &no);
    if (may)
        return n <= s->w.opt.live_max - s->n_live;
    require(s, no.reason < SCHED_REASONS && no.retry_after_ns > 0, "refused without a reason");
    require(s, no.reason != SCHED_TOO_LATE || slo > 0, "too late for no wish");
    require(s, no.reason != SCHED_MANY_REQUESTS || s->n_live == s->w.opt.live_max,
            "refused with room");
    sums.refused[no.reason]++;
    return false;
}

static void enter(struct sim *s, struct sim_req *q, int32_t place, struct sched_req *leader)
{
    int32_t most = (int32_t)req_capacity(&s->m->info) - q->n_prompt;
    most = q->params.max_new_tokens < most ? q->params.max_new_tokens : most;
    q->n_want = fake_answer(s->m, &q->params, q->prompt, q->n_prompt, most, q->want, &q->last);
    memset(q->bias, 0x55, sizeof(q->bias)); /* the copy must not depend on it */
    q->r->user = q;
    q->r->group = leader ? leader->group : (uint64_t)place + 1;
    q->r->leader = leader;
    q->r->timing.submitted_ns = s->now;
    q->timing.submitted_ns = s->now;
    q->arrival = ++s->n_taken;
    s->share[q->params.client].n_waiting++;
    s->live[s->n_live++] = place;
    plan_add(s->p, q->r);
}

/* One request, or several answers to one prompt: all of them or none. */
static void born(struct sim *s)
{
    int32_t n = s->w.fair || draw(s, 12) ? 1 : 1 + (int32_t)draw(s, GROUP_MAX);
    int32_t first = s->n_born;
    n = n < REQUESTS - first ? n : REQUESTS - first;
    s->n_born += n;
    draw_prompt(s, &s->req[first]);
    draw_params(s, &s->req[first]);
    bool may = may_come(s, &s->req[first], n);
    if (!may)
        s->n_refused += n;
    for (int32_t i = 1; i < n && may; i++) {
        struct sim_req *q = &s->req[first + i];
        *q = s->req[first];
        q->params.sampling.bias = q->params.sampling.bias ? q->bias : NULL;
        q->params.sampling.seed += (uint64_t)i;
        q->params.judge_prompt = false;
    }
    for (int32_t i = 0; i < n && may; i++) {
        struct sim_req *q = &s->req[first + i];
        enum status err = req_open(&q->r, &s->m->info, &q->params, q->prompt, q->n_prompt);
        bool fits = q->n_prompt < req_capacity(&s->m->info);
        require(s, err == (fits ? OK : E_INVALID), "what fits, and only that");
        s->n_hopeless += err != OK;
        if (!err)
            enter(s, q, first + i, i > 0 ? s->req[first].r : NULL);
    }
    const struct sched_stats *stats = plan_stats(s->p);
    int64_t most = s->w.opt.queue_tokens_max;
    require(s, stats->waiting <= s->w.opt.live_max, "more wait than may be alive");
    require(s, !may || n > 1 || !most || stats->waiting <= 1 || stats->waiting_tokens <= most,
            "more tokens wait than may");
}

static void cancel_somebody(struct sim *s)
{
    struct sim_req *q = &s->req[s->live[draw(s, (uint32_t)s->n_live)]];
    if (q->ended)
        return;
    plan_end(s->p, q->r, SCHED_CANCELLED);
    q->cancelled = true;
}

/* Endings. */

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
        return s->w.faults || (whole && q->last == PICKED_BAD);
    default:
        return false;
    }
}

/* What nobody reads any more is let go; a slow reader takes its time. */
static void bury_the_read(struct sim *s)
{
    for (int32_t i = s->n_live - 1; i >= 0; i--) {
        struct sim_req *q = &s->req[s->live[i]];
        if (!q->ended || q->read_at > s->now || plan_holds(s->p, q->r))
            continue;
        s->live[i] = s->live[--s->n_live];
        s->n_buried++;
        req_close(q->r);
        q->r = NULL;
    }
}

static void ends(struct sim *s, struct sim_req *q)
{
    const struct sched_timing *t = &q->r->timing;
    require(s, ending_is_right(s, q), "ends for another reason");
    require(s,
            t->scheduled_ns == q->timing.scheduled_ns && t->first_ns == q->timing.first_ns &&
                t->last_ns == q->timing.last_ns,
            "wrong instants");
    require(s, q->params.cache_salt < ALONE || q->r->leader || t->n_cached == 0,
            "found what another salt has kept");
    s->n_ended[q->r->ending]++;
    s->n_tokens += (uint64_t)q->n_seen;
    s->share[q->params.client].n_waiting -= !q->has_run;
    q->has_run = true;
    q->ended = true;
    q->n_endings++;
    q->read_at =
        s->w.slow_readers && draw(s, 4) == 0 ? s->now + now_and_then(s, 50 * s->w.row_ns) : s->now;
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
        if (n > q->n_seen) {
            require(s, r->tokens[r->n - 1] == q->want[n - 1], "another token than alone");
            require(s, !r->detail || r->detail[n - 1].token == q->want[n - 1],
                    "logprobs of another token");
            q->timing.last_ns = s->now;
            s->share[q->params.client].served++;
        }
        if (n > 0 && !q->timing.first_ns) {
            q->timing.first_ns = s->now;
            s->n_wishes += r->slo_ns > 0;
        }
        q->n_seen = n;
        if (r->ending != SCHED_RUNNING)
            ends(s, q);
    }
}

/* What is asked of every step. */

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

/* It was chosen from the queue in this step. */
static void check_choice(struct sim *s, struct sim_req *q)
{
    struct share *share = &s->share[q->params.client];
    q->has_run = true;
    share->n_waiting--;
    share->served += q->n_prompt - q->r->n_cached;
    share->chosen_last = q->arrival > share->chosen_last ? q->arrival : share->chosen_last;
}

struct glance {
    int32_t chosen_least; /* priority of those chosen in this step */
    int32_t waiting_most; /* priority of short prompts that wait */
    bool any_waits;
    int32_t n_prompt_rows;
    bool preempted;
};

static void look(struct sim *s, struct glance *g)
{
    *g = (struct glance){.chosen_least = INT32_MAX, .waiting_most = INT32_MIN};
    for (int32_t i = 0; i < CLIENTS; i++)
        s->share[i].waiting_first = UINT64_MAX;
    for (int32_t i = 0; i < s->n_live; i++) {
        struct sim_req *q = &s->req[s->live[i]];
        const struct sched_req *r = q->r;
        int32_t priority = r->params.priority;
        if (q->ended || r->ending != SCHED_RUNNING || r->follows)
            continue;
        require(s, !q->params.deadline_ns || q->params.deadline_ns > s->now,
                "lives past its deadline");
        g->preempted = g->preempted || r->n_preempted > q->n_preempted;
        q->n_preempted = r->n_preempted;
        if (r->running && !q->has_run) {
            check_choice(s, q);
            g->chosen_least = priority < g->chosen_least ? priority : g->chosen_least;
        }
        if (!r->running && !r->is_long && priority > g->waiting_most)
            g->waiting_most = priority;
        struct share *share = &s->share[q->params.client];
        if (!q->has_run && q->arrival < share->waiting_first)
            share->waiting_first = q->arrival;
        g->any_waits = g->any_waits || !r->running;
        if (r->n_step == 0)
            continue;
        int32_t done = req_done(r) - r->n_step;
        int32_t n_left = q->n_prompt - done;
        int32_t n_prompt_rows = n_left < r->n_step ? n_left : r->n_step;
        g->n_prompt_rows += n_prompt_rows > 0 ? n_prompt_rows : 0;
        if (!q->timing.scheduled_ns)
            q->timing.scheduled_ns = s->now;
    }
}

/* U = P + S * A, of queue.c. */
static void check_shares(struct sim *s)
{
    int64_t bound = s->w.prompt_max + (int64_t)s->w.opt.step_seqs_max * s->w.answer_max;
    for (int32_t i = 0; i < CLIENTS; i++) {
        struct share *a = &s->share[i];
        bool began = a->n_waiting > 0 && !a->waits;
        a->waits = a->n_waiting > 0;
        require(s, a->chosen_last < a->waiting_first, "a client's own out of order");
        for (int32_t k = 0; k < CLIENTS && a->waits; k++) {
            int64_t behind = s->share[k].served - a->served;
            if (began)
                a->behind[k] = behind;
            sums.compared++;
            require(s, behind - a->behind[k] <= 3 * bound, "a client gets more than its share");
        }
    }
}

static void check_step(struct sim *s, const struct model_batch *b, int32_t n_rows)
{
    struct glance g;
    const struct sim_world *w = &s->w;
    look(s, &g);
    s->n_prompt_rows += (uint64_t)g.n_prompt_rows;
    require(s, g.chosen_least >= g.waiting_most, "lower priority passed by");
    const struct sched_stats *stats = plan_stats(s->p);
    bool room = stats->running < stats->seats && n_rows < w->opt.step_rows_max;
    require(s,
            !w->plenty || !g.any_waits || !room || g.preempted || g.n_prompt_rows > 0 ||
                b->n_picks == 0,
            "somebody waits for nothing");
    if (w->fair)
        check_shares(s);
}

/* Steps. */

static void finish_step(struct sim *s, const struct picked *picked)
{
    if (s->w.measures)
        plan_measure(s->p, s->step_ns);
    if (s->w.overlap)
        plan_settle(s->p, picked);
}

/* In turn: to the end. Overlapped: the results of this step are looked at in the next. */
static void run(struct sim *s, const struct model_batch *b, int32_t n_rows)
{
    struct picked before[SIM_SEQS_MAX];
    bool flown = s->flying;
    s->flying = false;
    if (flown && s->err) {
        plan_fail(s->p);
        return;
    }
    if (flown) {
        memcpy(before, s->picked, sizeof(before));
        finish_step(s, before);
    }
    if (n_rows > 0) {
        model_launch(s->m, b);
        s->err = model_wait(s->m, s->picked);
        s->step_ns = sim_step_takes(&s->w, &s->rng, b->n_rows);
    }
    if (flown)
        plan_commit(s->p, s->now, before);
    s->flying = s->w.overlap && n_rows > 0;
    if (s->w.overlap || n_rows == 0)
        return;
    s->now += s->step_ns;
    if (s->err) {
        plan_fail(s->p);
        return;
    }
    finish_step(s, s->picked);
    plan_commit(s->p, s->now, s->picked);
}

static void step(struct sim *s)
{
    struct model_batch b = {0};
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
        check_step(s, &b, n_rows);
    }
    run(s, &b, n_rows);
    hear_news(s);
    require(s, plan_check(s->p), "blocks or queues do not add up");
    if (s->flying)
        s->now += s->step_ns;
    require(s, ++s->n_steps < (uint64_t)REQUESTS * STEPS_PER_REQUEST_MAX, "no end");
}

static void check_end(struct sim *s)
{
    const struct sched_stats *stats = plan_stats(s->p);
    bool plain = !s->w.faults && !s->m->bad_one_in && !s->w.overlap;
    require(s, stats->blocks_used == 0 && plan_idle(s->p), "blocks are left at the end");
    require(s, stats->waiting_tokens == 0 && stats->backlog_ns == 0, "tokens still wait");
    require(s, stats->tokens_out == s->n_tokens, "tokens_out");
    require(s, !plain || stats->tokens_in == s->n_prompt_rows, "tokens_in");
    require(s, stats->slo_met + stats->slo_missed == s->n_wishes, "wishes met and missed");
    require(s, s->n_refused + s->n_hopeless + s->n_buried == REQUESTS, "somebody got lost");
    for (size_t i = 0; i < ARRAY_LEN(s->n_ended); i++)
        sums.ended[i] += s->n_ended[i];
    sums.preemptions += stats->preemptions;
    sums.hits += stats->prefix_hit_tokens;
    sums.steps += stats->steps;
    sums.tokens += stats->tokens_out;
    sums.met += stats->slo_met;
    sums.missed += stats->slo_missed;
    sums.virtual_ns += s->now;
}

static void run_seed(uint64_t seed)
{
    static struct sim s;
    memset(&s, 0, sizeof(s));
    s.seed = seed;
    s.rng = seed * 1000003u;
    s.now = 1;
    world_open(&s);
    while (s.n_born < REQUESTS || s.n_live > 0) {
        if (plan_idle(s.p) && !s.flying && s.n_live == 0 && s.arrival_ns > s.now)
            s.now = s.arrival_ns;
        while (s.n_born < REQUESTS && s.arrival_ns <= s.now) {
            born(&s);
            s.arrival_ns += now_and_then(&s, s.w.gap_ns);
        }
        if (s.w.leavers && s.n_live > 0 && draw(&s, s.w.leavers) == 0)
            cancel_somebody(&s);
        step(&s);
        bury_the_read(&s);
        if (plan_idle(s.p) && !s.flying)
            s.now += s.w.row_ns;
    }
    check_end(&s);
    plan_close(s.p);
    model_close(s.m);
}

static uint64_t number_from(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static void print_sums(uint64_t n_seeds, double seconds)
{
    const struct {
        const char *name;
        uint64_t n;
    } rows[] = {
        {"seeds", n_seeds},
        {"steps", sums.steps},
        {"tokens", sums.tokens},
        {"preemptions", sums.preemptions},
        {"prefix tokens found", sums.hits},
        {"objectives met", sums.met},
        {"objectives missed", sums.missed},
        {"shares compared", sums.compared},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        print_message("%s: %llu\n", rows[i].name, (unsigned long long)rows[i].n);
    for (int i = SCHED_STOP; i <= SCHED_FAILED; i++)
        print_message("finish %d: %llu\n", i, (unsigned long long)sums.ended[i]);
    for (int i = 0; i < SCHED_REASONS; i++)
        print_message("refused %d: %llu\n", i, (unsigned long long)sums.refused[i]);
    print_message("%.0f s of virtual time in %.1f s\n", (double)sums.virtual_ns * 1e-9, seconds);
}

static void test_seeds(void **state)
{
    (void)state;
    uint64_t start = now_ns();
    uint64_t only = number_from("FIRSTLIGHT_SIM_SEED", 0);
    uint64_t last = only ? only : number_from("FIRSTLIGHT_SIM_SEEDS", SEEDS);
    for (uint64_t seed = only ? only : 1; seed <= last; seed++)
        run_seed(seed);
    print_sums(only ? 1 : last, (double)(now_ns() - start) * 1e-9);
    if (only)
        return;
    for (int i = SCHED_STOP; i <= SCHED_FAILED; i++)
        assert_true(sums.ended[i] > 0);
    for (int i = 0; i < SCHED_REASONS; i++)
        assert_true(sums.refused[i] > 0);
    assert_true(sums.preemptions > 0 && sums.hits > 0 && sums.compared > 0);
    assert_true(sums.met > 0 && sums.missed > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seeds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

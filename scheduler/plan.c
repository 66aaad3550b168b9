#include "scheduler/plan_priv.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Requests from their coming to their end, and what becomes of what was drawn for them.
 *
 * A request is in the queue (no blocks) or on the running list, and moves between the two in
 * plan_rows.c alone. Here a step's rows become a batch, and its picks tokens.
 *
 * Of several requests for one prompt the first computes its whole blocks, the others follow it:
 * they enter the queue when the blocks are there. Where nothing else is shared the blocks are
 * sealed under a salt of their own.
 *
 * A step may be made while the one before it runs: a request then stands where that one will
 * leave it, with rows in flight and a token ahead that only the device knows. An end that
 * nobody can foresee shows one step late: the row made meanwhile is nobody's. Blocks go back
 * at once all the same, since whoever gets them writes in a later step. */

enum {
    LONG_STEPS = 4, /* a prompt of more steps than this is long */
    PACE_STEPS = 8, /* over so many decodes' pace is averaged */
};

/* Over about so many requests predictions are compared with what they became. */
#define TTFT_SAMPLES  64.0
#define TTFT_PRIOR_NS 1e7

/* Whoever is turned away teaches nothing, so what was learned must not turn everybody away. */
#define TTFT_SCALE_MAX 4.0

/* The plan: memory. */

static struct step_size size_of(const struct model_info *info, const struct sched_options *opt)
{
    return (struct step_size){
        .rows_max = opt->step_rows_max,
        .seqs_max = min32(opt->step_seqs_max, opt->step_rows_max),
        .picks_max = opt->step_seqs_max,
        .stride_max = (int32_t)(req_capacity(info) - 1) / info->block_tokens + 1,
    };
}

size_t plan_bytes(const struct model_info *info, const struct sched_options *opt)
{
    const struct step_size size = size_of(info, opt);
    return sizeof(struct plan) + blocks_bytes(info->n_blocks, info->block_tokens) +
           PLAN_STEPS * step_bytes(&size) + queue_bytes(opt->live_max) +
           (size_t)opt->live_max * sizeof(struct sched_req *);
}

enum status plan_open(struct plan **out, const struct model_info *info,
                      const struct sched_options *opt)
{
    *out = NULL;
    if (opt->live_max < 1 || opt->step_seqs_max < 1 || opt->step_rows_max < 1 ||
        info->block_tokens < 1 || info->n_blocks < 1 || req_capacity(info) < 2)
        return E_INVALID;
    struct plan *p = calloc(1, sizeof(*p));
    if (!p)
        return E_NOMEM;
    link_init(&p->running);
    link_init(&p->news);
    p->info = info;
    p->prefix_cache = opt->prefix_cache;
    p->rows_max = opt->step_rows_max;
    p->rows_long = opt->long_rows ? opt->long_rows : LONG_STEPS * opt->step_rows_max;
    p->rows_free = opt->free_rows;
    p->pace = 1;
    p->slo_ns = opt->ttft_slo_ns;
    p->running_max = min32(opt->step_seqs_max, opt->step_rows_max);
    p->live_max = opt->live_max;
    p->stats.ttft_scale = 1;
    p->guessed = TTFT_PRIOR_NS;
    p->became = TTFT_PRIOR_NS;

    p->picks_max = opt->step_seqs_max;
    const struct step_size size = size_of(info, opt);
    enum status err = blocks_open(&p->blocks, info->n_blocks, info->block_tokens);
    for (int32_t i = 0; i < PLAN_STEPS && !err; i++)
        err = step_open(&p->step[i], &size);
    if (err)
        goto fail;
    err = due_open(&p->due, opt->live_max);
    if (err)
        goto fail;
    err = queue_open(&p->queue, opt->live_max);
    if (err)
        goto fail;
    *out = p;
    return OK;
fail:
    plan_close(p);
    return err;
}

void plan_close(struct plan *p)
{
    if (!p)
        return;
    queue_close(&p->queue);
    due_close(&p->due);
    for (int32_t i = 0; i < PLAN_STEPS; i++)
        step_close(&p->step[i]);
    blocks_close(p->blocks);
    free(p);
}

/* The two queues. */

/* Prompt tokens to compute, but for those that the prefix cache has now. */
static int32_t prompt_left(const struct plan *p, const struct sched_req *r)
{
    if (!plan_shares(p, r) || r->prompt_detail)
        return r->n;
    return r->n - p->info->block_tokens * blocks_known(p->blocks, r->prefix, r->tokens, r->n - 1);
}

static void enqueue(struct plan *p, struct sched_req *r)
{
    uint64_t came = r->timing.submitted_ns;
    r->n_left = prompt_left(p, r);
    r->is_long = r->n_left > p->rows_long;
    r->slo_ns = r->params.ttft_slo_ns ? r->params.ttft_slo_ns : p->slo_ns;
    r->has_wish = r->slo_ns > 0;
    r->predicted_ns = p->cost.n < COST_KNOWN ? 0 : cost_ttft(plan_stats(p), r->n_left);
    r->guessed_ns = (double)r->predicted_ns / p->stats.ttft_scale;
    r->start_by = came + QUEUE_PATIENCE_NS;
    if (r->has_wish) {
        uint64_t own_ns = (uint64_t)cost_prompt(&p->cost, r->n - r->n_left, r->n_left);
        r->start_by = came + r->slo_ns - (own_ns < r->slo_ns ? own_ns : r->slo_ns);
    }
    queue_add(&p->queue, r);
}

/* Rows of a prompt that are whole blocks whatever comes after it. */
static int32_t shared_rows(const struct plan *p, const struct sched_req *r)
{
    return (r->n_prompt - 1) / p->info->block_tokens * p->info->block_tokens;
}

static void follow(struct plan *p, struct sched_req *leader, struct sched_req *r)
{
    link_before(&leader->followers, &r->follow);
    r->follows = true;
    p->n_following++;
}

static struct sched_req *unfollow(struct plan *p, struct sched_req *r)
{
    link_remove(&r->follow);
    r->follows = false;
    p->n_following--;
    return r;
}

static struct sched_req *follower(const struct sched_req *leader)
{
    struct link *first = leader->followers.next;
    return first == &leader->followers ? NULL : CONTAINER_OF(first, struct sched_req, follow);
}

/* The shared blocks are there: everybody for himself now. */
static void let_follow(struct plan *p, struct sched_req *leader)
{
    for (struct sched_req *r; (r = follower(leader));)
        enqueue(p, unfollow(p, r));
}

/* It ends before they are: the next one leads. */
static void pass_lead(struct plan *p, struct sched_req *leader)
{
    struct sched_req *r = follower(leader);
    if (!r)
        return;
    enqueue(p, unfollow(p, r));
    while (follower(leader))
        follow(p, r, unfollow(p, follower(leader)));
}

void plan_add(struct plan *p, struct sched_req *r)
{
    r->arrival = p->arrivals++;
    if (!p->prefix_cache && r->group)
        r->prefix.salt = r->group;
    due_add(&p->due, r);
    if (r->leader && shared_rows(p, r) > 0)
        follow(p, r->leader, r);
    else
        enqueue(p, r);
    /* Of an only token there is nothing to judge. */
    if (req_goal(r) == 0)
        plan_end(p, r, SCHED_LENGTH);
}

static void tell(struct plan *p, struct sched_req *r)
{
    if (link_alone(&r->news))
        link_before(&p->news, &r->news);
}

struct sched_req *plan_news(struct plan *p)
{
    struct link *first = p->news.next;
    if (first == &p->news)
        return NULL;
    link_remove(first);
    return CONTAINER_OF(first, struct sched_req, news);
}

bool plan_has_news(const struct plan *p)
{
    return !link_alone(&p->news);
}

void plan_give_blocks_back(struct plan *p, struct sched_req *r)
{
    blocks_drop(p->blocks, r->table, r->n_table);
    r->n_table = 0;
    r->n_sealed = 0;
    r->n_cached = 0;
    r->n_flight = 0;
    r->n_ahead = 0;
    r->n_step = 0;
    r->prefix.last = 0;
    for (int32_t i = 0; i < PLAN_STEPS && plan_holds(p, r); i++)
        step_leave(&p->step[i], r);
}

void plan_end(struct plan *p, struct sched_req *r, enum sched_finish why)
{
    assert(r->ending == SCHED_RUNNING);
    pass_lead(p, r);
    if (r->follows) {
        unfollow(p, r);
    } else if (r->running) {
        p->n_running--;
        link_remove(&r->queue);
        queue_leave(&p->queue, r);
    } else {
        queue_remove(&p->queue, r);
        queue_leave(&p->queue, r);
    }
    if (p->stuck == r)
        p->stuck = NULL;
    plan_give_blocks_back(p, r);
    due_remove(&p->due, r);
    r->running = false;
    r->ending = why;
    tell(p, r);
}

void plan_fail_all(struct plan *p)
{
    while (!link_alone(&p->running))
        plan_end(p, plan_req_of(p->running.next), SCHED_FAILED);
    for (struct sched_req *r; (r = queue_any(&p->queue));)
        plan_end(p, r, SCHED_FAILED);
}

void plan_put_back(struct plan *p, struct sched_req *r)
{
    link_remove(&r->queue);
    r->running = false;
    r->yielded = false;
    r->n_left = r->n;
    p->n_running--;
    queue_return(&p->queue, r);
}

/* The batch. */

static struct step *oldest(struct plan *p)
{
    return &p->step[(p->next + PLAN_STEPS - p->n_flight) % PLAN_STEPS];
}

static int32_t longest_table(const struct plan *p)
{
    int32_t most = 1;
    for (const struct link *l = p->running.next; l != &p->running; l = l->next)
        most = plan_req_of(l)->n_table > most ? plan_req_of(l)->n_table : most;
    return most;
}

/* Decodes in front: rows of one kind stand together. */
static void fill(struct plan *p, uint64_t now)
{
    struct step *s = &p->step[p->next];
    step_begin(s, p->n_made + 1, longest_table(p));
    for (int pass = 0; pass < 2; pass++) {
        for (struct link *l = p->running.next; l != &p->running; l = l->next) {
            struct sched_req *r = plan_req_of(l);
            if (r->n_step > 0 && (req_goal(r) - req_done(r) > 1) == (pass == 1))
                step_add(s, r);
        }
    }
    assert(s->n_rows == p->n_rows && s->n_picks <= p->picks_max);
    for (int32_t i = 0; i < s->n_seqs; i++) {
        struct sched_req *r = s->seq[i].r;
        r->n_flight += r->n_step;
        r->n_ahead += s->seq[i].draws;
        r->last_step = s->number;
        if (!r->timing.scheduled_ns)
            r->timing.scheduled_ns = now;
    }
}

int32_t plan_step(struct plan *p, uint64_t now, struct model_batch *b)
{
    struct sched_req *late;
    assert(p->n_flight < PLAN_STEPS);
    while ((late = due_first(&p->due, now)))
        plan_end(p, late, SCHED_EXPIRED);
    for (struct link *l = p->running.next; l != &p->running; l = l->next)
        plan_req_of(l)->n_step = 0;
    p->n_rows = 0;
    plan_rows(p, now);
    assert(p->n_rows > 0 || p->n_flight > 0 || plan_idle(p));
    if (p->n_rows == 0)
        return 0;
    fill(p, now);
    step_batch(&p->step[p->next], b);
    p->next = (p->next + 1) % PLAN_STEPS;
    p->n_flight++;
    p->n_made++;
    return p->n_rows;
}

/* After the step. */

static void seal_full(struct plan *p, struct sched_req *r)
{
    int32_t block_tokens = p->info->block_tokens;
    if (!plan_shares(p, r))
        return;
    for (; (r->n_sealed + 1) * block_tokens <= r->n_cached; r->n_sealed++)
        blocks_seal(p->blocks, &r->prefix, r->tokens + r->n_sealed * block_tokens,
                    r->table + r->n_sealed);
}

/* The first token has come: how well was it foreseen? */
static void judge_prediction(struct plan *p, const struct sched_req *r, uint64_t now)
{
    struct sched_stats *s = &p->stats;
    uint64_t actual = now - r->timing.submitted_ns;
    uint64_t predicted = r->predicted_ns;
    if (r->slo_ns && actual <= r->slo_ns)
        s->slo_met++;
    else if (r->slo_ns)
        s->slo_missed++;
    if (!predicted)
        return;
    s->ttft_n++;
    s->ttft_predicted_ns += predicted;
    s->ttft_actual_ns += actual;
    s->ttft_error_ns += actual > predicted ? actual - predicted : predicted - actual;
    p->guessed += (r->guessed_ns - p->guessed) / TTFT_SAMPLES;
    p->became += ((double)actual - p->became) / TTFT_SAMPLES;
    s->ttft_scale = fmin(TTFT_SCALE_MAX, fmax(1 / TTFT_SCALE_MAX, p->became / p->guessed));
}

static void accept(struct plan *p, struct sched_req *r, const struct picked *picked, uint64_t now)
{
    if (picked->token == PICKED_NONE || req_ends(r, p->info, picked->token)) {
        plan_end(p, r, SCHED_STOP);
        return;
    }
    if (r->detail)
        r->detail[r->n - r->n_prompt] = *picked;
    r->tokens[r->n++] = picked->token;
    r->timing.last_ns = now;
    if (!r->timing.first_ns) {
        r->timing.first_ns = now;
        judge_prediction(p, r, now);
    }
    queue_charge(&p->queue, r, 1);
    p->stats.tokens_out++;
    tell(p, r);
    if (r->n == r->n_max)
        plan_end(p, r, SCHED_LENGTH);
}

/* False: some logits were not finite. */
static bool keep_judged(const struct step_seq *q, const struct picked *picked)
{
    struct sched_req *r = q->r;
    for (int32_t i = 0; i < q->n_judged; i++) {
        if (picked[i].token == PICKED_BAD)
            return false;
        r->prompt_detail[q->judged_from + i + 1] = picked[i];
    }
    if (q->n_judged > 0)
        r->n_judged = q->judged_from + q->n_judged;
    return true;
}

/* picked: of this sequence, n_judged and then the draw, if there is one. */
static void commit(struct plan *p, const struct step_seq *q, const struct picked *picked,
                   uint64_t now)
{
    struct sched_req *r = q->r;
    if (!keep_judged(q, picked) || (q->draws && picked[q->n_judged].token == PICKED_BAD)) {
        blocks_forget(p->blocks, r->table, r->n_table);
        plan_end(p, r, SCHED_FAILED);
        return;
    }
    if (r->n_cached < r->n_prompt)
        p->stats.tokens_in += (uint64_t)min32(q->n_rows, r->n_prompt - r->n_cached);
    r->n_cached += q->n_rows;
    r->n_flight -= q->n_rows;
    r->n_ahead -= q->draws;
    seal_full(p, r);
    if (r->n_cached >= shared_rows(p, r))
        let_follow(p, r);
    if (q->draws)
        accept(p, r, &picked[q->n_judged], now);
    else if (r->n_cached == r->n_max - 1)
        plan_end(p, r, SCHED_LENGTH);
}

/* The model follows all kinds of steps, and decodes are those that somebody feels. */
static void learn_pace(struct plan *p, const struct step_shape *shape, uint64_t step_ns)
{
    double expected_ns = cost_step(&p->cost, shape);
    if (shape->n_reads > 0 || p->cost.n < COST_KNOWN || expected_ns <= 0)
        return;
    double part = fmin(2, (double)step_ns / expected_ns);
    p->pace += (part - p->pace) / PACE_STEPS;
}

void plan_measure(struct plan *p, uint64_t step_ns)
{
    learn_pace(p, &oldest(p)->shape, step_ns);
    cost_learn(&p->cost, &oldest(p)->shape, step_ns);
}

struct cost *plan_cost(struct plan *p)
{
    return &p->cost;
}

void plan_settle(struct plan *p, const struct picked *picked)
{
    struct step *s = oldest(p);
    for (int32_t i = 0; i < s->n_seqs; i++) {
        const struct step_seq *q = &s->seq[i];
        int32_t token = q->draws ? picked[q->i_pick + q->n_judged].token : PICKED_BAD;
        if (q->r && q->r->seen && token >= 0)
            req_count(q->r, token, false);
    }
    s->settled = true;
    if (p->n_flight < PLAN_STEPS)
        return;
    struct step *made = &p->step[(p->next + PLAN_STEPS - 1) % PLAN_STEPS];
    for (int32_t i = 0; i < made->n_seqs; i++) {
        const struct step_seq *q = &made->seq[i];
        if (q->r && q->draws)
            made->pick[q->i_pick + q->n_judged].n_seen = q->r->n_seen;
    }
}

static void step_is_back(struct plan *p, const struct step *s)
{
    p->n_back = s->number;
    p->n_flight--;
    int32_t size = 0;
    while (size < SCHED_STEP_SIZES - 1 && s->n_rows > sched_step_bounds[size])
        size++;
    p->stats.step_sizes[size]++;
    p->stats.steps++;
    p->stats.step_rows += (uint64_t)s->n_rows;
}

void plan_commit(struct plan *p, uint64_t now, const struct picked *picked)
{
    struct step *s = oldest(p);
    assert(p->n_flight > 0);
    if (!s->settled)
        plan_settle(p, picked);
    step_is_back(p, s);
    for (int32_t i = 0; i < s->n_seqs; i++) {
        if (s->seq[i].r)
            commit(p, &s->seq[i], &picked[s->seq[i].i_pick], now);
    }
}

/* Every block the batch named is garbage, also those shared with requests that were not in
 * it, and a step made on top of it is void. Steps fail rarely: whoever is left is computed
 * again, what is sound is found again. */
void plan_fail(struct plan *p)
{
    struct step *s = oldest(p);
    struct link *next;
    assert(p->n_flight > 0);
    for (int32_t i = 0; i < s->n_seqs; i++)
        blocks_forget(p->blocks, s->block_table + (size_t)i * (size_t)s->stride, s->seq[i].n_table);
    for (int32_t i = 0; i < s->n_seqs; i++) {
        if (s->seq[i].r)
            plan_end(p, s->seq[i].r, SCHED_FAILED);
    }
    for (struct link *l = p->running.next; l != &p->running; l = next) {
        next = l->next;
        plan_give_blocks_back(p, plan_req_of(l));
        plan_req_of(l)->n_preempted++;
        p->stats.preemptions++;
        plan_put_back(p, plan_req_of(l));
    }
    step_is_back(p, s);
    p->n_flight = 0;
    p->n_back = p->n_made;
}

/* What can be asked. */

bool plan_holds(const struct plan *p, const struct sched_req *r)
{
    return r->last_step > p->n_back;
}

bool plan_idle(const struct plan *p)
{
    return p->n_running == 0 && p->queue.n_waiting == 0;
}

const struct sched_stats *plan_stats(struct plan *p)
{
    struct sched_stats *s = &p->stats;
    double token_ns = cost_read(&p->cost, 0);
    s->waiting = p->queue.n_waiting + p->n_following;
    s->waiting_tokens = p->queue.n_tokens;
    s->running = p->n_running;
    s->seats = p->running_max;
    s->token_ns = (uint64_t)token_ns;
    int64_t n_left = p->queue.n_tokens + (p->n_running > 0 ? p->n_reading : 0);
    s->backlog_ns = (uint64_t)((double)n_left * token_ns);
    s->blocks_used = blocks_held(p->blocks);
    s->blocks_total = p->info->n_blocks;
    s->block_tokens = p->info->block_tokens;
    return s;
}

bool plan_check(const struct plan *p)
{
    int64_t n_refs = 0;
    int32_t n_running = 0;
    bool sound = true;
    for (const struct link *l = p->running.next; l != &p->running; l = l->next) {
        const struct sched_req *r = plan_req_of(l);
        n_running++;
        n_refs += r->n_table;
        sound = sound && r->running && !r->yielded && req_done(r) <= req_goal(r) &&
                r->n_cached < r->n_max - 1 && r->n_ahead <= p->n_flight &&
                r->n_sealed * p->info->block_tokens <= r->n_cached &&
                r->n_table >= plan_blocks_for(p, req_done(r));
    }
    sound = sound && p->n_following >= 0 && (p->n_following == 0 || !plan_idle(p));
    return sound && n_running == p->n_running && p->queue.n_waiting <= p->live_max &&
           queue_check(&p->queue) && blocks_check(p->blocks, n_refs);
}

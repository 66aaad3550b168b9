#include "scheduler/plan_priv.h"

#include <assert.h>
#include <math.h>

/* Who gets how many rows of a step.
 *
 * One row for everybody who decodes, then admissions as far as rows and blocks allow, then
 * chunks of prompts. While somebody decodes, chunks may make a step longer by a part of what
 * the decodes alone cost: one part for each short prompt and one for all long ones, so that a
 * stranger's long prompt is hardly felt and many short ones do not wait in vain. Short ones have
 * savings beside: a part of each step that decodes, as far as none has used it. Who can be
 * finished with them gets as much of them as a step can carry, so a prompt that comes now and then
 * waits for a few longer steps and not for a dozen, and over time a step is stretched no more than
 * by its part. All that prompts get in a step is bounded, so that nobody's next token takes
 * several times as long as the one before, however many come at once. A long
 * prompt gets at most half of what is left while others want rows, so short ones pass it by; what
 * nobody else takes is its own again.
 *
 * The running list is in one order, higher priority first, then arrival. Progress: its first
 * is never preempted, it may take the blocks of everybody else, and req_open() admits nothing
 * that all blocks together could not hold. So every step moves the first one on, and one
 * after the other becomes the first. */

enum {
    LONG_PROMPTS_MAX = 2, /* being read at once; the second fills what the first leaves */
    STUCK_STEPS_MAX = 64, /* steps until one that lacked blocks is looked at again anyway */
    LEAVE_SAMPLES = 32,   /* over so many is averaged how fast the queue moves */
};

/* What the requests on the running list still want of this step. */
struct demand {
    int32_t rows;
    int32_t rows_left;
    int32_t blocks; /* to hold every token they have now */
    int32_t n_long;
    int32_t n_short;  /* prompts being read */
    int32_t position; /* of the first of these */
    bool urgent;      /* an objective is at stake */
};

static struct sched_req *next_of(const struct plan *p, const struct sched_req *r)
{
    return r->queue.next == &p->running ? NULL : plan_req_of(r->queue.next);
}

static struct sched_req *first_of(const struct plan *p)
{
    return link_alone(&p->running) ? NULL : plan_req_of(p->running.next);
}

/* Giving out blocks. */

/* Least priority, then least work lost, then last come; never the first of the list. */
static struct sched_req *victim(struct plan *p)
{
    struct sched_req *worst = NULL;
    for (struct sched_req *r = next_of(p, first_of(p)); r; r = next_of(p, r)) {
        if (r->yielded)
            continue;
        if (!worst || r->params.priority < worst->params.priority || r->n_cached <= worst->n_cached)
            worst = r;
    }
    return worst;
}

/* It stays on the list until the plan is made, so that no walk loses its place. */
static void preempt(struct plan *p, struct sched_req *r)
{
    p->n_rows -= r->n_step;
    plan_give_blocks_back(p, r);
    r->n_preempted++;
    r->yielded = true;
    p->n_yielded++;
    p->stats.preemptions++;
}

/* Blocks for the first n_tokens of r, at the cost of others; false: at its own. */
static bool secure(struct plan *p, struct sched_req *r, int32_t n_tokens)
{
    int32_t want = plan_blocks_for(p, n_tokens) - r->n_table;
    while (want > 0 && !blocks_take(p->blocks, want, r->table + r->n_table)) {
        struct sched_req *v = victim(p);
        assert(v);
        preempt(p, v);
        if (v == r)
            return false;
    }
    r->n_table += want > 0 ? want : 0;
    return true;
}

/* A row that judges the prompt takes a pick. One is everybody's own. */
static void grant(struct plan *p, struct sched_req *r, int32_t rows)
{
    bool judges = r->prompt_detail && r->n_judged < r->n_prompt - 1;
    int32_t own = r->n_step == 0;
    if (judges)
        rows = min32(rows, own + p->picks_spare);
    if (rows < 1 || !secure(p, r, req_done(r) + r->n_step + rows))
        return;
    if (judges)
        p->picks_spare -= rows - own;
    r->n_step += rows;
    p->n_rows += rows;
}

/* What is wanted. */

static int32_t rows_wanted(const struct sched_req *r)
{
    return r->yielded ? 0 : req_goal(r) - req_done(r) - r->n_step;
}

static bool is_long(const struct plan *p, const struct sched_req *r)
{
    return req_goal(r) - req_done(r) > p->rows_long;
}

/* Takes from the prefix cache what follows the blocks r has; tokens gained. Others may be
 * reading the same prompt, so this pays at every chunk, not only at the first. */
static int32_t match(struct plan *p, struct sched_req *r)
{
    int32_t block_tokens = p->info->block_tokens;
    if (!plan_shares(p, r) || r->n_table != r->n_sealed)
        return 0;
    /* The last row's logits are needed, and those of all rows that judge. */
    int32_t most = r->prompt_detail ? min32(r->n - 1, r->n_judged) : r->n - 1;
    int32_t found = blocks_match(p->blocks, &r->prefix, r->tokens + r->n_cached, most - r->n_cached,
                                 r->table + r->n_table);
    r->n_table += found;
    r->n_sealed += found;
    r->n_cached += found * block_tokens;
    return found * block_tokens;
}

/* Work saved after a preemption was done here before: that is no hit. */
static void count_hit(struct plan *p, struct sched_req *r, int32_t n_tokens)
{
    if (r->n_preempted > 0 || !p->prefix_cache)
        return;
    r->timing.n_cached += n_tokens;
    p->stats.prefix_hit_tokens += (uint64_t)n_tokens;
}

static void demand_add(const struct plan *p, struct demand *d, const struct sched_req *r)
{
    if (r->yielded)
        return;
    d->blocks += plan_blocks_for(p, req_goal(r)) - r->n_table;
    if (!is_long(p, r))
        d->rows += rows_wanted(r);
    else if (d->n_long++ == 0)
        d->rows += (d->rows_left + 1) / 2;
}

/* It would be late at the pace that the others allow, and need not be, or not by much. */
static bool is_urgent(const struct plan *p, const struct sched_req *r, uint64_t now)
{
    uint64_t due = r->timing.submitted_ns + r->slo_ns;
    if (!r->slo_ns || r->timing.first_ns || due <= now)
        return false;
    double own_ns = cost_prompt(&p->cost, req_done(r), req_goal(r) - req_done(r));
    double left_ns = (double)(due - now);
    return left_ns < own_ns * (1 + 1 / COST_STRETCH) && left_ns > own_ns / 2;
}

static void look_at_prompts(const struct plan *p, struct demand *d, uint64_t now)
{
    int32_t n_long = 0;
    bool all_decode = p->n_rows == p->n_running;
    for (const struct sched_req *r = first_of(p); r && !all_decode; r = next_of(p, r)) {
        if (r->yielded || rows_wanted(r) < 1)
            continue;
        if (d->n_short + n_long == 0)
            d->position = req_done(r);
        d->urgent = d->urgent || is_urgent(p, r, now);
        if (r->is_long)
            n_long++;
        else
            d->n_short++;
    }
    int32_t seats = p->running_max - p->n_running;
    bool longs = n_long > 0 || p->queue.n_waiting > p->queue.n_short;
    d->n_short += min32(p->queue.n_short, seats);
    d->n_short = min32(d->n_short + longs, COST_STRETCHES_MAX);
}

/* A step that was of few who decode may take what one of all who run takes, times COST_GAP: it is
 * the pace that those few will soon have. */
static double longest_gap(const struct plan *p)
{
    const struct step_shape all = {.n_draws = p->n_running};
    double now_ns = (double)p->stats.decode_ns;
    double all_ns = fmax(cost_step(&p->cost, &all), now_ns);
    return fmax(COST_UNFELT_NS, p->pace * (COST_GAP * all_ns - now_ns));
}

/* Rows that chunks of prompts may have in this step, beside those who decode. */
static int32_t rows_for_prompts(struct plan *p, const struct demand *d)
{
    int32_t left = p->rows_max - p->n_rows;
    if (p->n_rows == 0 && !d->urgent) {
        int32_t rows = cost_rows(&p->cost);
        return min32(left, rows > p->rows_free ? rows : p->rows_free);
    }
    if (d->urgent || p->cost.n < COST_KNOWN)
        return left;
    double each_ns = cost_read(&p->cost, d->position);
    double more_ns = fmin((double)p->stats.decode_ns * COST_STRETCH * d->n_short, p->gap_ns);
    if (each_ns * left <= more_ns)
        return left;
    int32_t rows = (int32_t)(more_ns / each_ns);
    rows = rows > p->rows_free - p->n_rows ? rows : p->rows_free - p->n_rows;
    return min32(rows > 1 ? rows : 1, left);
}

/* Admissions. */

/* Between two that leave a queue which is never empty meanwhile: how fast it moves. */
static void count_leaving(struct plan *p, uint64_t now)
{
    struct sched_stats *s = &p->stats;
    if (p->left_ns) {
        int64_t more = (int64_t)(now - p->left_ns) - (int64_t)s->leave_ns;
        p->n_leaves = min32(p->n_leaves + 1, LEAVE_SAMPLES);
        s->leave_ns = (uint64_t)((int64_t)s->leave_ns + more / p->n_leaves);
    }
    p->left_ns = p->queue.n_waiting > 0 ? now : 0;
}

static void seat(struct plan *p, struct sched_req *r)
{
    struct link *place = p->running.prev;
    while (place != &p->running && req_before(r, plan_req_of(place)))
        place = place->prev;
    link_before(place->next, &r->queue);
    r->running = true;
    p->n_running++;
}

/* One spare block per running request lets it grow for a while before anybody must be
 * preempted for it. Alone, a request always fits, by its n_max. */
static bool fits(struct plan *p, const struct sched_req *r, const struct demand *d)
{
    int32_t others = d->blocks + p->n_running;
    if (p->stuck == r && ++p->stuck_steps < STUCK_STEPS_MAX &&
        p->stuck_blocks + others > blocks_available(p->blocks))
        return false;
    p->stuck = NULL;
    return true;
}

static bool admit(struct plan *p, struct sched_req *r, struct demand *d, uint64_t now)
{
    if (!fits(p, r, d))
        return false;
    int32_t n_hit = match(p, r);
    int32_t want = plan_blocks_for(p, min32(r->n + 1, r->n_max)) - r->n_table;
    if (want + d->blocks + p->n_running > blocks_available(p->blocks)) {
        plan_give_blocks_back(p, r);
        p->stuck = r;
        p->stuck_blocks = want;
        p->stuck_steps = 0;
        return false;
    }
    count_hit(p, r, n_hit);
    if (r->n_preempted == 0) {
        queue_charge(&p->queue, r, r->n - r->n_cached);
        p->stats.prefix_query_tokens += p->prefix_cache ? (uint64_t)r->n_prompt : 0;
    }
    queue_remove(&p->queue, r);
    count_leaving(p, now);
    seat(p, r);
    demand_add(p, d, r);
    return true;
}

/* In order, and nobody overtakes one that lacks blocks, or it would starve. Only long prompts
 * that have to wait for others are passed by. */
static void admit_waiting(struct plan *p, struct demand *d, uint64_t now)
{
    bool longs = d->n_long < LONG_PROMPTS_MAX;
    if (p->queue.n_waiting == 0 || p->n_running == p->running_max || d->rows >= d->rows_left)
        return;
    queue_begin(&p->queue, now, longs);
    while (p->n_running < p->running_max && d->rows < d->rows_left) {
        if (longs && d->n_long >= LONG_PROMPTS_MAX) {
            longs = false;
            queue_begin(&p->queue, now, longs);
        }
        struct sched_req *r = queue_first(&p->queue);
        if (!r || !admit(p, r, d, now))
            break;
    }
}

/* Making a step. */

static void grant_decodes(struct plan *p)
{
    struct step_shape shape = {0};
    for (struct sched_req *r = first_of(p); r; r = next_of(p, r)) {
        if (rows_wanted(r) != 1)
            continue;
        grant(p, r, 1);
        shape.n_draws++;
        shape.context += req_done(r);
    }
    p->stats.decode_ns = shape.n_draws > 0 ? (uint64_t)cost_step(&p->cost, &shape) : 0;
}

static double saved_max(const struct plan *p)
{
    return fmax(COST_SAVED_STEPS * (double)p->stats.decode_ns, COST_UNFELT_NS);
}

/* Decodes have their rows. Their part of this step, for short prompts of this one or of later
 * ones; where nobody decodes nothing needs to be saved. */
static void save(struct plan *p)
{
    double step_ns = (double)p->stats.decode_ns;
    bool known = p->cost.n >= COST_KNOWN && step_ns > 0;
    p->saved_ns = known ? fmin(p->saved_ns + COST_SAVED * step_ns, saved_max(p)) : 0;
}

/* r has what every short prompt gets. What was saved is for one that it can finish, unless that
 * one came too long for it: the end of a long wait is no reason for long steps. */
static void spend(struct plan *p, struct sched_req *r)
{
    double each_ns = cost_read(&p->cost, req_done(r));
    p->saved_ns = fmax(0, p->saved_ns - each_ns * r->n_step);
    int32_t rows = rows_wanted(r);
    if (rows < 1 || each_ns * rows > p->saved_ns || each_ns * r->n_left > saved_max(p))
        return;
    if (each_ns * rows > p->gap_ns)
        rows = (int32_t)(p->gap_ns / each_ns);
    rows = min32(rows, p->rows_max - p->n_rows);
    if (rows < 1)
        return;
    p->saved_ns -= each_ns * rows;
    p->gap_ns -= each_ns * rows;
    grant(p, r, rows);
}

static void grant_chunks(struct plan *p, int32_t top)
{
    bool long_served = false;
    for (struct sched_req *r = first_of(p); r; r = next_of(p, r)) {
        bool reads = rows_wanted(r) > 1;
        int32_t most = top - p->n_rows;
        if (reads)
            count_hit(p, r, match(p, r));
        if (rows_wanted(r) > 0 && is_long(p, r)) {
            most = long_served ? 0 : (most + 1) / 2;
            long_served = true;
        }
        grant(p, r, min32(most, rows_wanted(r)));
        if (reads)
            p->gap_ns = fmax(0, p->gap_ns - cost_read(&p->cost, req_done(r)) * r->n_step);
        if (reads && !r->is_long)
            spend(p, r);
    }
    for (struct sched_req *r = first_of(p); r; r = next_of(p, r))
        grant(p, r, min32(top - p->n_rows, rows_wanted(r)));
}

static void sweep_yielded(struct plan *p)
{
    struct sched_req *next;
    for (struct sched_req *r = first_of(p); p->n_yielded > 0; r = next) {
        next = next_of(p, r);
        if (!r->yielded)
            continue;
        plan_put_back(p, r);
        p->n_yielded--;
    }
}

static void count_reading(struct plan *p)
{
    for (const struct sched_req *r = first_of(p); r; r = next_of(p, r))
        if (!r->timing.first_ns)
            p->n_reading += req_goal(r) - req_done(r) - r->n_step;
}

void plan_rows(struct plan *p, uint64_t now)
{
    struct demand d = {0};
    p->picks_spare = 0;
    grant_decodes(p);
    save(p);
    look_at_prompts(p, &d, now);
    p->gap_ns = longest_gap(p);
    d.rows_left = rows_for_prompts(p, &d);
    int32_t top = p->n_rows + d.rows_left;
    for (const struct sched_req *r = first_of(p); r; r = next_of(p, r))
        demand_add(p, &d, r);
    /* A newcomer would only take the blocks that somebody has just lost. */
    if (p->n_yielded == 0)
        admit_waiting(p, &d, now);
    p->picks_spare = p->picks_max - p->n_running;
    if (d.rows > 0)
        grant_chunks(p, top);
    if (p->n_yielded > 0)
        sweep_yielded(p);
    p->n_reading = 0;
    if (d.rows > 0)
        count_reading(p);
}

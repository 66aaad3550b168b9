#include "scheduler/plan_priv.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Requests from their coming to their end, and what becomes of what was drawn for them.
 *
 * A request is in the queue (no blocks) or on the running list, and moves between the two in
 * plan_rows.c alone. Here a step's rows become a batch, and its picks tokens. */

enum { LONG_STEPS = 4 /* a prompt of more steps than this is long */ };

/* How much one request moves the factor between predicted and actual time. */
#define TTFT_LEARN 32.0

/* The plan: memory. */

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
    p->slo_ns = opt->ttft_slo_ns;
    p->running_max = min32(opt->step_seqs_max, opt->step_rows_max);
    p->live_max = opt->live_max;
    p->stats.ttft_scale = 1;

    size_t n_seqs = (size_t)p->running_max;
    size_t n_rows = (size_t)p->rows_max;
    size_t stride = (size_t)((req_capacity(info) - 1) / info->block_tokens + 1);
    size_t n_cells;
    enum status err = E_INVALID;
    if (!size_mul(n_seqs, stride, &n_cells))
        goto fail;
    err = blocks_open(&p->blocks, info->n_blocks, info->block_tokens);
    if (err)
        goto fail;
    err = E_NOMEM;
    p->step = calloc(n_seqs, sizeof(struct sched_req *));
    p->token = calloc(n_rows, sizeof(*p->token));
    p->position = calloc(n_rows, sizeof(*p->position));
    p->seq_start = calloc(n_seqs + 1, sizeof(*p->seq_start));
    p->block_table = calloc(n_cells, sizeof(*p->block_table));
    p->pick = calloc(n_seqs, sizeof(*p->pick));
    if (!p->step || !p->token || !p->position || !p->seq_start || !p->block_table || !p->pick)
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
    free(p->pick);
    free(p->block_table);
    free(p->seq_start);
    free(p->position);
    free(p->token);
    free(p->step);
    blocks_close(p->blocks);
    free(p);
}

/* The two queues. */

/* Prompt tokens to compute, but for those that the prefix cache has now. */
static int32_t prompt_left(const struct plan *p, const struct sched_req *r)
{
    if (!p->prefix_cache)
        return r->n;
    return r->n - p->info->block_tokens * blocks_known(p->blocks, r->prefix, r->tokens, r->n - 1);
}

void plan_add(struct plan *p, struct sched_req *r)
{
    uint64_t came = r->timing.submitted_ns;
    r->arrival = p->arrivals++;
    r->n_left = prompt_left(p, r);
    r->is_long = r->n_left > p->rows_long;
    r->slo_ns = r->params.ttft_slo_ns ? r->params.ttft_slo_ns : p->slo_ns;
    r->has_wish = r->slo_ns > 0;
    r->predicted_ns = cost_ttft(plan_stats(p), r->n_left);
    r->start_by = came + QUEUE_PATIENCE_NS;
    if (r->has_wish) {
        uint64_t own_ns = (uint64_t)cost_prompt(&p->cost, r->n - r->n_left, r->n_left);
        r->start_by = came + r->slo_ns - (own_ns < r->slo_ns ? own_ns : r->slo_ns);
    }
    queue_add(&p->queue, r);
    due_add(&p->due, r);
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

void plan_give_blocks_back(struct plan *p, struct sched_req *r)
{
    blocks_drop(p->blocks, r->table, r->n_table);
    r->n_table = 0;
    r->n_sealed = 0;
    r->n_cached = 0;
    r->prefix.last = 0;
}

void plan_end(struct plan *p, struct sched_req *r, enum sched_finish why)
{
    assert(r->ending == SCHED_RUNNING);
    if (r->running) {
        p->n_running--;
        link_remove(&r->queue);
    } else {
        queue_remove(&p->queue, r);
    }
    queue_leave(&p->queue, r);
    if (p->stuck == r)
        p->stuck = NULL;
    plan_give_blocks_back(p, r);
    due_remove(&p->due, r);
    r->running = false;
    r->n_step = 0;
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

/* Decodes in front: rows of one kind stand together. Returns the longest table. */
static int32_t gather(struct plan *p)
{
    int32_t stride = 1;
    p->n_seqs = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (struct link *l = p->running.next; l != &p->running; l = l->next) {
            struct sched_req *r = plan_req_of(l);
            if (r->n_step == 0 || (r->n - r->n_cached > 1) != (pass == 1))
                continue;
            p->step[p->n_seqs++] = r;
            if (r->n_table > stride)
                stride = r->n_table;
        }
    }
    return stride;
}

static void fill_seq(struct plan *p, struct sched_req *r, int32_t row, int32_t *table,
                     int32_t stride)
{
    memcpy(p->token + row, r->tokens + r->n_cached, (size_t)r->n_step * sizeof(*p->token));
    for (int32_t i = 0; i < r->n_step; i++)
        p->position[row + i] = r->n_cached + i;
    memcpy(table, r->table, (size_t)r->n_table * sizeof(*table));
    memset(table + r->n_table, 0, (size_t)(stride - r->n_table) * sizeof(*table));
    if (r->n_cached + r->n_step < r->n)
        return;
    p->pick[p->n_picks++] = (struct pick){
        .row = row + r->n_step - 1,
        .position = (uint64_t)r->n,
        .how = r->params.sampling,
        .seen = r->seen,
        .n_seen = r->n_seen,
        .allowed = r->allowed,
    };
    if (r->n - r->n_prompt >= r->params.min_tokens)
        return;
    p->pick[p->n_picks - 1].banned = r->end;
    p->pick[p->n_picks - 1].n_banned = r->n_ends;
}

static void fill(struct plan *p, uint64_t now, struct model_batch *b)
{
    int32_t stride = gather(p);
    int32_t row = 0;
    p->n_picks = 0;
    p->shape.context = 0;
    for (int32_t i = 0; i < p->n_seqs; i++) {
        struct sched_req *r = p->step[i];
        p->seq_start[i] = row;
        p->shape.context += (int64_t)r->n_step * (r->n_cached + r->n_step / 2);
        fill_seq(p, r, row, p->block_table + (size_t)i * (size_t)stride, stride);
        row += r->n_step;
        if (!r->timing.scheduled_ns)
            r->timing.scheduled_ns = now;
    }
    p->seq_start[p->n_seqs] = row;
    assert(row == p->n_rows);
    p->shape.n_draws = p->n_picks;
    p->shape.n_reads = p->n_rows - p->n_picks;
    *b = (struct model_batch){
        .n_rows = p->n_rows,
        .n_seqs = p->n_seqs,
        .n_picks = p->n_picks,
        .table_stride = stride,
        .token = p->token,
        .position = p->position,
        .seq_start = p->seq_start,
        .block_table = p->block_table,
        .pick = p->pick,
    };
}

int32_t plan_step(struct plan *p, uint64_t now, struct model_batch *b)
{
    struct sched_req *late;
    while ((late = due_first(&p->due, now)))
        plan_end(p, late, SCHED_EXPIRED);
    p->n_rows = 0;
    plan_rows(p, now);
    fill(p, now, b);
    assert(p->n_rows > 0 || plan_idle(p));
    return p->n_rows;
}

/* After the step. */

static void seal_full(struct plan *p, struct sched_req *r)
{
    int32_t block_tokens = p->info->block_tokens;
    if (!p->prefix_cache)
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
    double ratio = fmin(4, fmax(0.25, (double)actual / (double)predicted));
    s->ttft_scale = fmin(8, fmax(0.125, s->ttft_scale * (1 + (ratio - 1) / TTFT_LEARN)));
}

static void accept(struct plan *p, struct sched_req *r, const struct picked *picked, uint64_t now)
{
    if (picked->token == PICKED_NONE || req_ends(r, p->info, picked->token)) {
        plan_end(p, r, SCHED_STOP);
        return;
    }
    if (r->detail)
        r->detail[r->n - r->n_prompt] = *picked;
    if (r->seen)
        req_count(r, picked->token, false);
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

/* picked: NULL when this step did not reach the last token. */
static void commit(struct plan *p, struct sched_req *r, const struct picked *picked, uint64_t now)
{
    int32_t n_step = r->n_step;
    r->n_step = 0;
    if (picked && picked->token == PICKED_BAD) {
        blocks_forget(p->blocks, r->table, r->n_table);
        plan_end(p, r, SCHED_FAILED);
        return;
    }
    if (r->n_cached < r->n_prompt)
        p->stats.tokens_in += (uint64_t)min32(n_step, r->n_prompt - r->n_cached);
    r->n_cached += n_step;
    seal_full(p, r);
    if (picked)
        accept(p, r, picked, now);
}

static void count_step(struct plan *p)
{
    p->stats.steps++;
    p->stats.step_rows += (uint64_t)p->n_rows;
}

void plan_measure(struct plan *p, uint64_t step_ns)
{
    cost_learn(&p->cost, &p->shape, step_ns);
}

void plan_commit(struct plan *p, uint64_t now, const struct picked *picked)
{
    int32_t i_pick = 0;
    count_step(p);
    for (int32_t i = 0; i < p->n_seqs; i++) {
        int32_t last_row = p->seq_start[i + 1] - 1;
        bool has_pick = i_pick < p->n_picks && p->pick[i_pick].row == last_row;
        commit(p, p->step[i], has_pick ? &picked[i_pick] : NULL, now);
        i_pick += has_pick;
    }
    assert(i_pick == p->n_picks);
}

/* Every block the batch named is garbage, also those shared with requests that were not in
 * it. Steps fail rarely: whoever is left is computed again, what is sound is found again. */
void plan_fail(struct plan *p)
{
    struct link *next;
    count_step(p);
    for (int32_t i = 0; i < p->n_seqs; i++)
        blocks_forget(p->blocks, p->step[i]->table, p->step[i]->n_table);
    for (int32_t i = 0; i < p->n_seqs; i++)
        plan_end(p, p->step[i], SCHED_FAILED);
    for (struct link *l = p->running.next; l != &p->running; l = next) {
        next = l->next;
        plan_give_blocks_back(p, plan_req_of(l));
        plan_req_of(l)->n_preempted++;
        p->stats.preemptions++;
        plan_put_back(p, plan_req_of(l));
    }
}

/* What can be asked. */

bool plan_idle(const struct plan *p)
{
    return p->n_running == 0 && p->queue.n_waiting == 0;
}

const struct sched_stats *plan_stats(struct plan *p)
{
    struct sched_stats *s = &p->stats;
    double token_ns = cost_read(&p->cost, 0);
    s->waiting = p->queue.n_waiting;
    s->waiting_tokens = p->queue.n_tokens;
    s->running = p->n_running;
    s->seats = p->running_max;
    s->token_ns = (uint64_t)token_ns;
    s->backlog_ns = (uint64_t)((double)(p->queue.n_tokens + p->n_reading) * token_ns);
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
        sound = sound && r->running && !r->yielded && r->n_cached < r->n && r->n < r->n_max &&
                r->n_sealed * p->info->block_tokens <= r->n_cached &&
                r->n_table >= plan_blocks_for(p, r->n_cached);
    }
    return sound && n_running == p->n_running && p->queue.n_waiting <= p->live_max &&
           queue_check(&p->queue) && blocks_check(p->blocks, n_refs);
}

#include "scheduler/plan.h"

#include "scheduler/due.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Who runs, how many rows each, and what becomes of what was drawn.
 *
 * A request is on the waiting list (no blocks) or on the running list; both are kept in one
 * order: higher priority first, then arrival. A step is made in three passes: one row for
 * everybody who decodes, then admissions as far as rows and blocks allow, then chunks of
 * prompts. A long prompt gets at most half of what is left while others want rows, so short
 * ones pass it by; what nobody else takes is its own again.
 *
 * Progress: the first of the running list is never preempted, it may take the blocks of
 * everybody else, and req_open() admits nothing that all blocks together could not hold. So
 * every step moves the first one on, and one after the other becomes the first. */

enum {
    LONG_PROMPTS_MAX = 2, /* being read at once; the second fills what the first leaves */
    LONG_SKIPS_MAX = 64,  /* waiting long prompts looked past in one step */
};

struct plan {
    const struct model_info *info;
    struct blocks *blocks;
    bool prefix_cache;
    int32_t rows_max;
    int32_t rows_long; /* more rows than this to go is a long prompt */
    int32_t running_max;
    int32_t live_max;

    struct link waiting;
    struct link running;
    struct link news;
    int32_t n_waiting;
    int32_t n_running;
    int32_t n_yielded;
    uint64_t arrivals;
    struct due due;
    struct sched_stats stats;

    /* The step being made or run. */
    int32_t n_rows;
    int32_t n_seqs;
    int32_t n_picks;
    struct sched_req **step; /* [running_max] requests in row order */
    int32_t *token;          /* [rows_max] */
    int32_t *position;       /* [rows_max] */
    int32_t *seq_start;      /* [running_max + 1] */
    int32_t *block_table;    /* [running_max][blocks of the longest request] */
    struct pick *pick;       /* [running_max] */
};

/* What the requests on the running list still want of this step. */
struct demand {
    int32_t rows;
    int32_t rows_left;
    int32_t blocks; /* to hold every token they have now */
    int32_t n_long;
};

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
    link_init(&p->waiting);
    link_init(&p->running);
    link_init(&p->news);
    p->info = info;
    p->prefix_cache = opt->prefix_cache;
    p->rows_max = opt->step_rows_max;
    p->rows_long = opt->step_rows_max / 2;
    p->running_max = min32(opt->step_seqs_max, opt->step_rows_max);
    p->live_max = opt->live_max;

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

static struct sched_req *req_of(const struct link *queue)
{
    return CONTAINER_OF(queue, struct sched_req, queue);
}

/* Newcomers belong near the end, so the search starts there. */
static void insert_back(struct link *list, struct sched_req *r)
{
    struct link *place = list;
    while (place->prev != list && req_before(r, req_of(place->prev)))
        place = place->prev;
    link_before(place, &r->queue);
}

/* What was running belongs near the front of the waiting. */
static void insert_front(struct link *list, struct sched_req *r)
{
    struct link *place = list->next;
    while (place != list && !req_before(r, req_of(place)))
        place = place->next;
    link_before(place, &r->queue);
}

void plan_add(struct plan *p, struct sched_req *r)
{
    r->arrival = p->arrivals++;
    insert_back(&p->waiting, r);
    p->n_waiting++;
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

/* The cache will name what was sealed; nothing else of the work is kept. */
static void give_blocks_back(struct plan *p, struct sched_req *r)
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
    if (r->running)
        p->n_running--;
    else
        p->n_waiting--;
    give_blocks_back(p, r);
    link_remove(&r->queue);
    due_remove(&p->due, r);
    r->running = false;
    r->n_step = 0;
    r->ending = why;
    tell(p, r);
}

void plan_fail_all(struct plan *p)
{
    while (!link_alone(&p->running))
        plan_end(p, req_of(p->running.next), SCHED_FAILED);
    while (!link_alone(&p->waiting))
        plan_end(p, req_of(p->waiting.next), SCHED_FAILED);
}

static void move_to_waiting(struct plan *p, struct sched_req *r)
{
    link_remove(&r->queue);
    insert_front(&p->waiting, r);
    r->running = false;
    r->yielded = false;
    p->n_running--;
    p->n_waiting++;
}

/* Giving out blocks. */

static int32_t blocks_for(const struct plan *p, int32_t n_tokens)
{
    return (n_tokens + p->info->block_tokens - 1) / p->info->block_tokens;
}

/* Least priority, then least work lost, then last come; never the first of the list. */
static struct sched_req *victim(struct plan *p)
{
    struct sched_req *worst = NULL;
    for (struct link *l = p->running.next->next; l != &p->running; l = l->next) {
        struct sched_req *r = req_of(l);
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
    give_blocks_back(p, r);
    p->n_rows -= r->n_step;
    r->n_step = 0;
    r->n_preempted++;
    r->yielded = true;
    p->n_yielded++;
    p->stats.preemptions++;
}

/* Blocks for the first n_tokens of r, at the cost of others; false: at its own. */
static bool secure(struct plan *p, struct sched_req *r, int32_t n_tokens)
{
    int32_t want = blocks_for(p, n_tokens) - r->n_table;
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

static void grant(struct plan *p, struct sched_req *r, int32_t rows)
{
    if (rows < 1 || !secure(p, r, r->n_cached + r->n_step + rows))
        return;
    r->n_step += rows;
    p->n_rows += rows;
}

/* Making a step. */

static int32_t rows_wanted(const struct sched_req *r)
{
    return r->yielded ? 0 : r->n - r->n_cached - r->n_step;
}

static bool is_long(const struct plan *p, const struct sched_req *r)
{
    return r->n - r->n_cached > p->rows_long;
}

/* Takes from the prefix cache what follows the blocks r has; tokens gained. Others may be
 * reading the same prompt, so this pays at every chunk, not only at the first. */
static int32_t match(struct plan *p, struct sched_req *r)
{
    int32_t block_tokens = p->info->block_tokens;
    if (!p->prefix_cache || r->n_table != r->n_sealed)
        return 0;
    int32_t found = blocks_match(p->blocks, &r->prefix, r->tokens + r->n_cached,
                                 r->n - 1 - r->n_cached, r->table + r->n_table);
    r->n_table += found;
    r->n_sealed += found;
    r->n_cached += found * block_tokens;
    return found * block_tokens;
}

/* Work saved after a preemption was done here before: that is no hit. */
static void count_hit(struct plan *p, struct sched_req *r, int32_t n_tokens)
{
    if (r->n_preempted > 0)
        return;
    r->timing.n_cached += n_tokens;
    p->stats.prefix_hit_tokens += (uint64_t)n_tokens;
}

static void demand_add(const struct plan *p, struct demand *d, const struct sched_req *r)
{
    if (r->yielded)
        return;
    d->blocks += blocks_for(p, r->n) - r->n_table;
    if (!is_long(p, r))
        d->rows += rows_wanted(r);
    else if (d->n_long++ == 0)
        d->rows += (d->rows_left + 1) / 2;
}

/* One spare block per running request lets it grow for a while before anybody must be
 * preempted for it. Alone, a request always fits, by its n_max. */
static bool admit(struct plan *p, struct sched_req *r, struct demand *d)
{
    int32_t n_hit = match(p, r);
    int32_t want = blocks_for(p, min32(r->n + 1, r->n_max)) - r->n_table;
    if (want + d->blocks + p->n_running > blocks_available(p->blocks)) {
        give_blocks_back(p, r);
        return false;
    }
    count_hit(p, r, n_hit);
    if (p->prefix_cache && r->n_preempted == 0)
        p->stats.prefix_query_tokens += (uint64_t)r->n_prompt;
    link_remove(&r->queue);
    insert_back(&p->running, r);
    r->running = true;
    p->n_running++;
    p->n_waiting--;
    demand_add(p, d, r);
    return true;
}

/* In order, and nobody overtakes one that lacks blocks, or it would starve. Only a long
 * prompt that has to wait for another one is passed by. */
static void admit_waiting(struct plan *p, struct demand *d)
{
    int32_t skipped = 0;
    struct link *next;
    for (struct link *l = p->waiting.next; l != &p->waiting; l = next) {
        next = l->next;
        if (p->n_running == p->running_max || d->rows >= d->rows_left)
            break;
        if (is_long(p, req_of(l)) && d->n_long >= LONG_PROMPTS_MAX) {
            if (++skipped == LONG_SKIPS_MAX)
                break;
            continue;
        }
        if (!admit(p, req_of(l), d))
            break;
    }
}

static void grant_decodes(struct plan *p)
{
    for (struct link *l = p->running.next; l != &p->running; l = l->next) {
        struct sched_req *r = req_of(l);
        if (rows_wanted(r) == 1)
            grant(p, r, 1);
    }
}

static void grant_chunks(struct plan *p)
{
    bool long_served = false;
    for (struct link *l = p->running.next; l != &p->running; l = l->next) {
        struct sched_req *r = req_of(l);
        int32_t most = p->rows_max - p->n_rows;
        if (rows_wanted(r) > 1)
            count_hit(p, r, match(p, r));
        if (rows_wanted(r) > 0 && is_long(p, r)) {
            most = long_served ? 0 : (most + 1) / 2;
            long_served = true;
        }
        grant(p, r, min32(most, rows_wanted(r)));
    }
    for (struct link *l = p->running.next; l != &p->running; l = l->next)
        grant(p, req_of(l), min32(p->rows_max - p->n_rows, rows_wanted(req_of(l))));
}

static void sweep_yielded(struct plan *p)
{
    struct link *next;
    for (struct link *l = p->running.next; p->n_yielded > 0; l = next) {
        next = l->next;
        if (!req_of(l)->yielded)
            continue;
        move_to_waiting(p, req_of(l));
        p->n_yielded--;
    }
}

static void grant_rows(struct plan *p)
{
    grant_decodes(p);
    struct demand d = {.rows_left = p->rows_max - p->n_rows};
    for (struct link *l = p->running.next; l != &p->running; l = l->next)
        demand_add(p, &d, req_of(l));
    /* A newcomer would only take the blocks that somebody has just lost. */
    if (p->n_yielded == 0)
        admit_waiting(p, &d);
    if (d.rows > 0)
        grant_chunks(p);
    if (p->n_yielded > 0)
        sweep_yielded(p);
}

/* The batch. */

/* Decodes in front: rows of one kind stand together. Returns the longest table. */
static int32_t gather(struct plan *p)
{
    int32_t stride = 1;
    p->n_seqs = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (struct link *l = p->running.next; l != &p->running; l = l->next) {
            struct sched_req *r = req_of(l);
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
    for (int32_t i = 0; i < p->n_seqs; i++) {
        struct sched_req *r = p->step[i];
        p->seq_start[i] = row;
        fill_seq(p, r, row, p->block_table + (size_t)i * (size_t)stride, stride);
        row += r->n_step;
        if (!r->timing.scheduled_ns)
            r->timing.scheduled_ns = now;
    }
    p->seq_start[p->n_seqs] = row;
    assert(row == p->n_rows);
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
    grant_rows(p);
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
    if (!r->timing.first_ns)
        r->timing.first_ns = now;
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
        give_blocks_back(p, req_of(l));
        req_of(l)->n_preempted++;
        p->stats.preemptions++;
        move_to_waiting(p, req_of(l));
    }
}

/* What can be asked. */

bool plan_idle(const struct plan *p)
{
    return p->n_running == 0 && p->n_waiting == 0;
}

const struct sched_stats *plan_stats(struct plan *p)
{
    p->stats.waiting = p->n_waiting;
    p->stats.running = p->n_running;
    p->stats.blocks_used = blocks_held(p->blocks);
    p->stats.blocks_total = p->info->n_blocks;
    p->stats.block_tokens = p->info->block_tokens;
    return &p->stats;
}

bool plan_check(const struct plan *p)
{
    int64_t n_refs = 0;
    int32_t n_running = 0;
    int32_t n_waiting = 0;
    bool sound = true;
    for (const struct link *l = p->running.next; l != &p->running; l = l->next) {
        const struct sched_req *r = req_of(l);
        n_running++;
        n_refs += r->n_table;
        sound = sound && r->running && !r->yielded && r->n_cached < r->n && r->n < r->n_max &&
                r->n_sealed * p->info->block_tokens <= r->n_cached &&
                r->n_table >= blocks_for(p, r->n_cached);
    }
    for (const struct link *l = p->waiting.next; l != &p->waiting; l = l->next) {
        n_waiting++;
        sound = sound && !req_of(l)->running && req_of(l)->n_table == 0;
    }
    return sound && n_running == p->n_running && n_waiting == p->n_waiting &&
           n_waiting <= p->live_max && blocks_check(p->blocks, n_refs);
}

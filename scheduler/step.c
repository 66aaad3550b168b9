#include "scheduler/step.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* The arrays of a batch, filled from the requests' logs.
 *
 * A row whose token the step before is still drawing says ~i, the i-th pick of that step. A
 * draw stands at the last row a request has, so a sequence draws at most once; a row that
 * judges the next token of the prompt has a pick of its own. */

enum status step_open(struct step *s, const struct step_size *size)
{
    size_t n_seqs = (size_t)size->seqs_max;
    size_t n_rows = (size_t)size->rows_max;
    size_t n_cells;
    if (!size_mul(n_seqs, (size_t)size->stride_max, &n_cells))
        return E_INVALID;
    s->seq = calloc(n_seqs, sizeof(*s->seq));
    s->token = calloc(n_rows, sizeof(*s->token));
    s->position = calloc(n_rows, sizeof(*s->position));
    s->seq_start = calloc(n_seqs + 1, sizeof(*s->seq_start));
    s->block_table = calloc(n_cells, sizeof(*s->block_table));
    s->pick = calloc((size_t)size->picks_max, sizeof(*s->pick));
    bool all = s->seq && s->token && s->position && s->seq_start && s->block_table && s->pick;
    return all ? OK : E_NOMEM;
}

size_t step_bytes(const struct step_size *size)
{
    size_t n_seqs = (size_t)size->seqs_max;
    return n_seqs * sizeof(struct step_seq) +
           (2 * (size_t)size->rows_max + n_seqs + 1 + n_seqs * (size_t)size->stride_max) *
               sizeof(int32_t) +
           (size_t)size->picks_max * sizeof(struct pick);
}

void step_close(struct step *s)
{
    free(s->pick);
    free(s->block_table);
    free(s->seq_start);
    free(s->position);
    free(s->token);
    free(s->seq);
    memset(s, 0, sizeof(*s));
}

void step_begin(struct step *s, uint64_t number, int32_t stride)
{
    s->number = number;
    s->settled = false;
    s->n_rows = 0;
    s->n_seqs = 0;
    s->n_picks = 0;
    s->stride = stride;
    s->shape = (struct step_shape){0};
    s->seq_start[0] = 0;
}

static void judge(struct step *s, struct step_seq *q, int32_t first)
{
    const struct sched_req *r = q->r;
    int32_t end = min32(first + q->n_rows, r->n_prompt - 1);
    int32_t at = r->n_judged > first ? r->n_judged : first;
    if (!r->prompt_detail || at >= end)
        return;
    q->judged_from = at;
    q->n_judged = end - at;
    for (; at < end; at++) {
        s->pick[s->n_picks++] = (struct pick){
            .row = s->n_rows + at - first,
            .position = (uint64_t)at + 1,
            .how = {.top_p = 1, .repetition = 1, .n_logprobs = r->params.prompt_logprobs},
            .given = &r->tokens[at + 1],
        };
    }
}

static void draw(struct step *s, struct step_seq *q)
{
    struct sched_req *r = q->r;
    int32_t n_drawn = r->n + r->n_ahead - r->n_prompt;
    bool may_end = n_drawn >= r->params.min_tokens;
    r->i_pick = s->n_picks;
    q->draws = true;
    s->pick[s->n_picks++] = (struct pick){
        .row = s->n_rows + q->n_rows - 1,
        .position = (uint64_t)(r->n + r->n_ahead),
        .how = r->params.sampling,
        .seen = r->seen,
        .n_seen = r->n_seen,
        .allowed = r->allowed,
        .banned = may_end ? NULL : r->end,
        .n_banned = may_end ? 0 : r->n_ends,
    };
}

void step_add(struct step *s, struct sched_req *r)
{
    int32_t first = req_done(r);
    struct step_seq *q = &s->seq[s->n_seqs];
    *q =
        (struct step_seq){.r = r, .n_table = r->n_table, .n_rows = r->n_step, .i_pick = s->n_picks};
    for (int32_t i = 0; i < q->n_rows; i++) {
        s->token[s->n_rows + i] = first + i < r->n ? r->tokens[first + i] : ~r->i_pick;
        s->position[s->n_rows + i] = first + i;
    }
    judge(s, q, first);
    if (first + q->n_rows == r->n + r->n_ahead)
        draw(s, q);
    s->shape.context += (int64_t)q->n_rows * (first + q->n_rows / 2);
    s->shape.n_draws += q->n_judged + q->draws;
    s->shape.n_reads += q->n_rows - q->n_judged - q->draws;
    int32_t *table = s->block_table + (size_t)s->n_seqs * (size_t)s->stride;
    memcpy(table, r->table, (size_t)r->n_table * sizeof(*table));
    memset(table + r->n_table, 0, (size_t)(s->stride - r->n_table) * sizeof(*table));
    s->n_rows += q->n_rows;
    s->seq_start[++s->n_seqs] = s->n_rows;
}

void step_batch(const struct step *s, struct model_batch *b)
{
    *b = (struct model_batch){
        .n_rows = s->n_rows,
        .n_seqs = s->n_seqs,
        .n_picks = s->n_picks,
        .table_stride = s->stride,
        .token = s->token,
        .position = s->position,
        .seq_start = s->seq_start,
        .block_table = s->block_table,
        .pick = s->pick,
    };
}

void step_leave(struct step *s, const struct sched_req *r)
{
    for (int32_t i = 0; i < s->n_seqs; i++) {
        if (s->seq[i].r == r)
            s->seq[i].r = NULL;
    }
}

#ifndef SCHEDULER_STEP_H
#define SCHEDULER_STEP_H

#include "models/model.h"
#include "scheduler/cost.h"
#include "scheduler/request.h"

/* One step as the model gets it, and what the planner must remember of it until its results
 * are there: whose rows and picks they are. */

struct step_seq {
    struct sched_req *r; /* NULL: it has left, the results are nobody's */
    int32_t n_table;     /* blocks the batch names for it */
    int32_t n_rows;
    int32_t i_pick; /* its picks: n_judged tokens of the prompt, then the draw */
    int32_t n_judged;
    int32_t judged_from; /* the row of the sequence that judges the first of them */
    bool draws;
};

struct step {
    uint64_t number; /* of the steps made, from 1 on */
    bool settled;    /* penalties know what it drew */
    int32_t n_rows;
    int32_t n_seqs;
    int32_t n_picks;
    int32_t stride;
    struct step_shape shape;
    struct step_seq *seq; /* [seqs_max] in row order */
    int32_t *token;       /* [rows_max] */
    int32_t *position;    /* [rows_max] */
    int32_t *seq_start;   /* [seqs_max + 1] */
    int32_t *block_table; /* [n_seqs][stride], room for [seqs_max][stride_max] */
    struct pick *pick;    /* [picks_max] */
};

struct step_size {
    int32_t rows_max;
    int32_t seqs_max;
    int32_t picks_max;
    int32_t stride_max; /* blocks of the longest request */
};

enum status step_open(struct step *s, const struct step_size *size) MUST_CHECK;
size_t step_bytes(const struct step_size *size); /* what opening takes */
void step_close(struct step *s);                 /* half-built and zeroed are fine */

void step_begin(struct step *s, uint64_t number, int32_t stride);
/* Appends the r->n_step rows of r. */
void step_add(struct step *s, struct sched_req *r);
void step_batch(const struct step *s, struct model_batch *b);
/* Whatever the step still does for r is nobody's. */
void step_leave(struct step *s, const struct sched_req *r);

#endif

#ifndef SCHEDULER_COST_H
#define SCHEDULER_COST_H

#include "scheduler/load.h"

/* What a step will take, learned from those that were: a fixed part, so much a row that
 * only reads, so much a row that draws a token, so much a token of context that rows look
 * back on. Only time depends on it, never a token. */

enum {
    COST_TERMS = 4,
    COST_KNOWN = 8, /* steps; fewer say nothing of what rows cost */
};

/* Sums over the rows of a step. */
struct step_shape {
    int32_t n_reads; /* rows of prompts that draw nothing */
    int32_t n_draws; /* rows whose logits are drawn from */
    int64_t context; /* positions, summed over all rows */
};

struct cost {
    double value[COST_TERMS];             /* ns per unit of each term */
    double doubt[COST_TERMS][COST_TERMS]; /* covariance of value */
    uint64_t n;                           /* steps learned from */
};

void cost_learn(struct cost *c, const struct step_shape *s, uint64_t ns);
/* 0: nothing is known yet. */
double cost_step(const struct cost *c, const struct step_shape *s);
/* One more row of a prompt at this position. */
double cost_read(const struct cost *c, int64_t position);
/* n_left tokens of a prompt from position on, in steps of their own or of others. */
double cost_prompt(const struct cost *c, int64_t position, int64_t n_left);

/* Rows of prompts that a step is given where nobody decodes: enough that its fixed part is small
 * beside them, and no more than whoever comes meanwhile can wait for. INT32_MAX: as many as fit. */
int32_t cost_rows(const struct cost *c);

/* How much longer a step may take for each short prompt that is being read in it, and for
 * all long ones together, while others decode. */
#define COST_STRETCH 0.4
enum { COST_STRETCHES_MAX = 10 };
/* What of each such step is saved for short prompts, and how much of it one may use: so many
 * steps, or what nobody feels. */
#define COST_SAVED       0.8
#define COST_SAVED_STEPS 8.0
#define COST_UNFELT_NS   10e6
/* With all that, a step in which others decode takes at most so many times what one takes in which
 * everybody who runs decodes, or what nobody feels longer than without prompts. */
#define COST_GAP 2.0

/* From now to the first token of a request that comes now, with n_left prompt tokens to
 * compute. */
uint64_t cost_ttft(const struct sched_stats *s, int64_t n_left);

#endif

#ifndef SCHEDULER_MEASURE_H
#define SCHEDULER_MEASURE_H

#include "models/model.h"
#include "scheduler/cost.h"
#include "scheduler/sched.h"

/* What steps of this model take on this machine, tried out while nobody is served: chunks of
 * prompts and draws for several sequences, from small to large. Blocks are written to, so none
 * may be in use. A model whose steps are long is tried with few, and what is not known then is
 * learned from the first requests. */

struct measured {
    int32_t n_steps;
    uint64_t took_ns;
};

/* No step is begun that would probably end after budget_ns, or after stop(arg) has said so.
 * On a failure nothing has been learned. */
enum status measure_steps(struct cost *c, struct model *m, const struct sched_options *opt,
                          uint64_t budget_ns, bool (*stop)(void *arg), void *arg,
                          struct measured *out) MUST_CHECK;

#endif

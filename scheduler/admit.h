#ifndef SCHEDULER_ADMIT_H
#define SCHEDULER_ADMIT_H

#include "scheduler/sched.h"

/* Whether one more request is taken: a function of the limits and of the numbers that the
 * engine has published, for the client thread. */

/* n_live: submitted and not released. s: with what has been submitted since it was
 * published. False: out says why, and for how long. */
bool admit_judge(const struct sched_options *opt, const struct sched_stats *s, uint64_t slo_ns,
                 int32_t n_live, int32_t n_prompt, struct sched_refusal *out) MUST_CHECK;

#endif

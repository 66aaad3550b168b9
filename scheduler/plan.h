#ifndef SCHEDULER_PLAN_H
#define SCHEDULER_PLAN_H

#include "models/model.h"
#include "scheduler/request.h"
#include "scheduler/sched.h"

/* What goes into the next step. No threads, no clock, no device: a function of the
 * queues and of the instants passed in, so every policy question is a unit test.
 *
 * There is no prefill phase and no decode phase. A request has n tokens, of which
 * n_cached are in the KV cache; a step moves n_cached towards n. One token short is
 * decoding, a thousand short is reading a prompt.
 *
 * A step may be made before the results of the one before it are there:
 *     plan_step(N + 1), N comes back, plan_settle(N), N + 1 starts, plan_commit(N)
 * or one after the other: plan_step(N), N runs, plan_commit(N). */

struct plan;
struct cost;

/* info must outlive the plan. */
enum status plan_open(struct plan **out, const struct model_info *info,
                      const struct sched_options *opt) MUST_CHECK;
void plan_close(struct plan *p);
/* What opening takes. */
size_t plan_bytes(const struct model_info *info, const struct sched_options *opt);

/* r->timing.submitted_ns is when it came. */
void plan_add(struct plan *p, struct sched_req *r);
/* Ends a request between steps; its whole blocks stay in the prefix cache. */
void plan_end(struct plan *p, struct sched_req *r, enum sched_finish why);
void plan_fail_all(struct plan *p);

/* Ends what is past its deadline, then fills b with pointers into the plan's own arrays,
 * good until this step is committed. Returns the rows; 0: nothing can be done before the
 * step made before is committed, or, when there is none, no request is left. */
int32_t plan_step(struct plan *p, uint64_t now, struct model_batch *b);
/* What the oldest step took: rows and chunks of the next follow from it, and what is
 * predicted, never a token. Before the commit; without it nothing is known of cost. */
void plan_measure(struct plan *p, uint64_t step_ns);
/* What is known of it; may be taught before the first step. */
struct cost *plan_cost(struct plan *p);
/* The oldest step is back, picked: one per pick. Brings the batch made after it up to date;
 * needed before that one starts. */
void plan_settle(struct plan *p, const struct picked *picked);
/* Exactly one of the two for each step that had rows, in order. One that fails takes the
 * step made after it, which must not have started, with it. */
void plan_commit(struct plan *p, uint64_t now, const struct picked *picked);
void plan_fail(struct plan *p);

/* Next request that has gained a token or an ending; the plan has forgotten an ended one. */
struct sched_req *plan_news(struct plan *p);
bool plan_has_news(const struct plan *p);
/* A step that is not committed yet reads the lists of r, which has ended. */
bool plan_holds(const struct plan *p, const struct sched_req *r);

bool plan_idle(const struct plan *p);
/* Counts of this floor; step_ns and failed are the engine's. */
const struct sched_stats *plan_stats(struct plan *p);
/* Blocks are conserved and the queues agree with their counts. Slow; false is a bug. */
bool plan_check(const struct plan *p);

#endif

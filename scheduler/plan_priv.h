#ifndef SCHEDULER_PLAN_PRIV_H
#define SCHEDULER_PLAN_PRIV_H

#include "scheduler/cost.h"
#include "scheduler/due.h"
#include "scheduler/plan.h"
#include "scheduler/queue.h"
#include "scheduler/step.h"

/* What the two files of the planner share: plan.c keeps requests and makes batches,
 * plan_rows.c decides who gets how many rows of a step. */

enum { PLAN_STEPS = 2 /* one made while the one before it runs */ };

struct plan {
    const struct model_info *info;
    struct blocks *blocks;
    bool prefix_cache;
    int32_t rows_max;
    int32_t rows_long; /* more rows than this to go is a long prompt */
    int32_t rows_free; /* cost as much as one, or 0 */
    int32_t running_max;
    int32_t live_max;

    struct queue queue;
    struct link running;
    struct link news;
    int32_t n_running;
    int32_t n_following; /* wait for the prompt of another one, not in the queue */
    int32_t n_yielded;
    int64_t n_reading; /* prompt tokens left after this step, of those that run */
    uint64_t arrivals;
    uint64_t slo_ns; /* of requests that bring none */
    struct due due;
    struct cost cost;
    double pace;     /* what steps of decodes alone take, as a part of what the model expects */
    double saved_ns; /* by which short prompts may make a step longer, beside their part */
    double guessed;  /* mean time to the first token as guessed, */
    double became;   /* and as it became */
    struct sched_stats stats;
    int32_t n_leaves; /* averaged in stats.leave_ns */
    uint64_t left_ns; /* when somebody last left a queue that was not empty, or 0 */

    /* The first in the queue lacked so many blocks: not tried again before there are. */
    const struct sched_req *stuck;
    int32_t stuck_blocks;
    int32_t stuck_steps;

    /* Steps made and not committed are the last n_flight before next, oldest first. */
    struct step step[PLAN_STEPS];
    int32_t next;
    int32_t n_flight;
    uint64_t n_made;
    uint64_t n_back; /* the device is done with the steps up to this one */

    /* Of the step being made. */
    int32_t n_rows;
    double gap_ns; /* by which prompts may still make it longer */
    int32_t picks_max;
    int32_t picks_spare; /* beyond one for each running request */
};

static inline struct sched_req *plan_req_of(const struct link *queue)
{
    return CONTAINER_OF(queue, struct sched_req, queue);
}

static inline int32_t plan_blocks_for(const struct plan *p, int32_t n_tokens)
{
    return (n_tokens + p->info->block_tokens - 1) / p->info->block_tokens;
}

/* Its whole blocks are sealed and found again: for everybody, or within its group. */
static inline bool plan_shares(const struct plan *p, const struct sched_req *r)
{
    return p->prefix_cache || r->group;
}

/* The cache will name what was sealed; nothing else of the work is kept. */
void plan_give_blocks_back(struct plan *p, struct sched_req *r);
/* From the running list to the waiting; it has no blocks any more. */
void plan_put_back(struct plan *p, struct sched_req *r);
/* Sets n_step of everybody on the running list, and who is on it. */
void plan_rows(struct plan *p, uint64_t now);

#endif

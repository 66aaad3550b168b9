#ifndef SCHEDULER_LOAD_H
#define SCHEDULER_LOAD_H

#include "kernels/base.h"

/* Part of the seam sched.h: what the scheduler says of its load, and whom it turns away.
 * Plain data, a consistent copy. */

/* Why a request is refused before anything is done for it. */
enum sched_reason {
    SCHED_MANY_REQUESTS, /* as many are alive as may be */
    SCHED_MANY_TOKENS,   /* too many prompt tokens wait */
    SCHED_TOO_LATE,      /* its first token cannot come within the time it allows */
    SCHED_REASONS,
};

struct sched_refusal {
    enum sched_reason reason;
    uint64_t retry_after_ns; /* until it would probably be accepted; not jittered */
};

/* How steps are counted by their rows: the last count is of those beyond every bound. */
enum { SCHED_STEP_SIZES = 14 };
static const int32_t sched_step_bounds[SCHED_STEP_SIZES - 1] = {
    1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384,
};

struct sched_stats {
    int32_t waiting;
    int32_t running;
    int32_t blocks_used; /* held by requests; cached ones count as free */
    int32_t blocks_total;
    int32_t block_tokens;
    uint64_t steps;
    uint64_t step_rows; /* sum over steps */
    uint64_t step_sizes[SCHED_STEP_SIZES];
    uint64_t step_ns;   /* time inside the model */
    uint64_t tokens_in; /* prompt tokens computed */
    uint64_t tokens_out;
    uint64_t prefix_query_tokens;
    uint64_t prefix_hit_tokens;
    uint64_t preemptions;
    uint64_t cancels;       /* that found their request alive, */
    uint64_t cancel_ns;     /* from the wish to the release of the blocks, summed */
    uint64_t cancel_ns_max; /* and the longest */
    bool failed;            /* the device is lost: every submit is refused with E_DEVICE */

    int64_t waiting_tokens;          /* prompt tokens left to compute of those that wait */
    int32_t seats;                   /* sequences that may run together */
    uint64_t backlog_ns;             /* computing every prompt that waits or is being read */
    uint64_t token_ns;               /* one prompt token, measured; 0: not yet */
    uint64_t decode_ns;              /* one step of those that run now */
    uint64_t leave_ns;               /* between two that leave the queue; 0: not yet measured */
    uint64_t refused[SCHED_REASONS]; /* by sched_admit() */

    /* Time to the first token as predicted when the request came, against what it became;
     * sums over those whose first token has come. */
    uint64_t ttft_n;
    uint64_t ttft_predicted_ns;
    uint64_t ttft_actual_ns;
    uint64_t ttft_error_ns; /* absolute differences */
    double ttft_scale;      /* what predictions are multiplied by, for what they have missed */
    uint64_t slo_met;       /* requests with an objective whose first token came in time, */
    uint64_t slo_missed;    /* or did not */
};

#endif

#ifndef SCHEDULER_REQUEST_H
#define SCHEDULER_REQUEST_H

#include "kernels/list.h"
#include "models/model.h"
#include "scheduler/blocks.h"
#include "scheduler/sched.h"

struct client;

/* What a request without a TTFT objective may wait before those who have one stand behind it. */
#define QUEUE_PATIENCE_NS 10000000000u

/* One request as the scheduler sees it: a log of tokens, the blocks that hold what was
 * computed of it, and its places on the lists of the two threads. */

/* One allocation, arrays behind the struct. Made and freed by the client thread. */
struct sched_req {
    /* Fixed at submit. */
    struct sched_params params; /* its lists are the request's own copies */
    int32_t n_prompt;
    uint64_t group;           /* several answers to one prompt; 0: the only one */
    struct sched_req *leader; /* who computes that prompt; NULL: this one */
    int32_t n_max;            /* tokens at which the answer has reached its length */
    int32_t seen_mask;
    int32_t n_ends;          /* the model's, unless ignored, then stop_token */
    const int32_t *end;      /* [n_ends] */
    const uint32_t *allowed; /* [(vocab + 31) / 32] bit set: may be drawn; NULL: all */

    /* The engine's. */
    int32_t n;        /* tokens known */
    int32_t n_cached; /* rows computed; their keys and values are in the blocks of table */
    int32_t n_flight; /* rows after those, in steps whose results are not there yet */
    int32_t n_ahead;  /* tokens after n that those steps draw */
    int32_t n_step;   /* rows in the newest step made */
    int32_t i_pick;   /* its draw among the picks of that step */
    int32_t n_judged; /* tokens of the prompt whose likelihood is known, not the first */
    int32_t n_sealed;
    int32_t n_table;
    int32_t n_seen;
    int32_t n_preempted;
    int32_t due_at; /* place in the heap of deadlines, -1: none */
    bool running;
    bool yielded;             /* lost its blocks in the plan being made, still on the list */
    enum sched_finish ending; /* becomes finish when published */
    int32_t stop_token;       /* that ended it, -1: none of its own */
    uint64_t arrival;         /* order of plan_add() */
    uint64_t last_step;       /* number of the newest step it is or was part of */
    struct client *owner;     /* whose account is charged, of queue.c */
    bool returned;            /* waits after it has been running */
    bool is_long;             /* its prompt was, when it came */
    bool has_wish;            /* an objective that may still be met */
    int32_t n_left;           /* prompt tokens to compute, as known when it came to wait */
    uint64_t slo_ns;          /* from submit to the first token, 0: none */
    uint64_t start_by;        /* latest start that meets the objective; the order of waiting */
    double guessed_ns;        /* the same before what was learned of such guesses */
    uint64_t predicted_ns;    /* from submit to the first token, when it came */
    struct prefix prefix;     /* names the sealed blocks table[0 .. n_sealed) */
    struct sched_timing timing;
    struct link queue; /* waiting or running */
    struct link news;
    struct link followers; /* of their group, until it has computed the shared blocks */
    struct link follow;    /* among those of the leader */
    bool follows;
    int32_t *tokens;              /* [n_max] prompt and answer in one log */
    int32_t *table;               /* [blocks of n_max tokens] KV blocks, in order */
    struct picked *detail;        /* [n_max - n_prompt], NULL when no logprobs are wanted */
    struct picked *prompt_detail; /* [n_prompt], NULL when it is not to be judged */
    struct token_count *seen;     /* [min(n_max, vocab)], NULL without penalties */
    int32_t *seen_at;             /* [seen_mask + 1] token to its place in seen, -1: empty */

    /* Guarded by the mutex of sched.c. */
    struct link inbox;
    struct link ready;
    struct link cancel;
    bool cancelled;
    uint64_t cancelled_ns;
    int32_t n_published;
    bool judged_published;
    bool held;     /* ended, but a step that has not come back still reads it */
    bool released; /* by the client, while it was held */
    enum sched_finish finish;

    /* The client thread's own. */
    int32_t n_read;
    bool finish_read;
    bool judged_read;
    void *user;
};

/* E_INVALID: can never be served by this model, whatever the load. */
enum status req_open(struct sched_req **out, const struct model_info *info,
                     const struct sched_params *p, const int32_t *prompt,
                     int32_t n_prompt) MUST_CHECK;
void req_close(struct sched_req *r); /* NULL is fine */
/* These two are asked many times of everybody in every step.
 * Rows that are computed or will be when the steps made so far are. */
static inline int32_t req_done(const struct sched_req *r)
{
    return r->n_cached + r->n_flight;
}
/* Rows it needs for all it knows and draws; the last token of an answer needs none. */
static inline int32_t req_goal(const struct sched_req *r)
{
    return min32(r->n + r->n_ahead, r->n_max - 1);
}
/* Most tokens one sequence can have. */
int64_t req_capacity(const struct model_info *info);
/* Keeps the counts that penalties need; nothing to do without them. */
void req_count(struct sched_req *r, int32_t token, bool in_prompt);
/* Whether token ends the answer; then r->stop_token is set when it is one of the request's. */
bool req_ends(struct sched_req *r, const struct model_info *info, int32_t token);
/* The order of every queue: higher priority first, then arrival. */
bool req_before(const struct sched_req *a, const struct sched_req *b);

#endif

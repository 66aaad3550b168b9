#ifndef SCHEDULER_SCHED_H
#define SCHEDULER_SCHED_H

#include "kernels/base.h"
#include "kernels/sampling.h"

/* SEAM between server/ and scheduler/: the engine thread and the two ways across.
 *
 * sched_open() starts one thread that owns the model until sched_close(). All other
 * functions belong to one client thread (the event loop) and never block on the
 * model. Between the two there is one mutex, held for pointer moves only.
 *
 * Life of a request: submit, any number of reads, exactly one finish, release.
 * Cancelling changes how it finishes, not whether: memory is given back at release
 * and nowhere else. */
struct model;
struct sched;
struct sched_req;

enum sched_finish {
    SCHED_RUNNING = 0, /* more may come */
    SCHED_STOP,        /* the model produced an end token (it is not among the tokens) */
    SCHED_LENGTH,      /* max_new_tokens or the context is used up */
    SCHED_CANCELLED,
    SCHED_EXPIRED, /* deadline_ns passed, waiting or running */
    SCHED_FAILED,  /* the step this request was part of failed, or its logits were not finite */
};

struct sched_options {
    int32_t live_max;      /* requests submitted and not released; over it: E_AGAIN */
    int32_t step_seqs_max; /* sequences per step; not more than the model's */
    int32_t step_rows_max; /* token rows per step: decodes first, prompts fill the rest */
    bool prefix_cache;
};

struct sched_params {
    int32_t max_new_tokens;   /* >= 1; the context may end an answer earlier */
    struct sampling sampling; /* copied with its bias list */
    bool ignore_eos;
    uint64_t deadline_ns; /* now_ns() clock; 0: none */
    /* Policy that no API format can express yet; 0 is everybody alike. */
    int32_t priority;    /* higher first */
    uint64_t cache_salt; /* prefix-cache blocks are shared only under the same salt */
};

/* Instants on the now_ns() clock, 0: not yet. Read at the finish. */
struct sched_timing {
    uint64_t submitted_ns;
    uint64_t scheduled_ns; /* first step that carried a row of it */
    uint64_t first_ns;     /* first token */
    uint64_t last_ns;      /* last token */
    int32_t n_cached;      /* prompt tokens served from the prefix cache */
};

struct sched_stats {
    int32_t waiting;
    int32_t running;
    int32_t blocks_used; /* held by requests; cached ones count as free */
    int32_t blocks_total;
    int32_t block_tokens;
    uint64_t steps;
    uint64_t step_rows; /* sum over steps */
    uint64_t step_ns;   /* time inside the model */
    uint64_t tokens_in; /* prompt tokens computed */
    uint64_t tokens_out;
    uint64_t prefix_query_tokens;
    uint64_t prefix_hit_tokens;
    uint64_t preemptions;
    bool failed; /* the device is lost: every submit is refused with E_DEVICE */
};

/* Called on the engine thread when the first news appear after a poll found none.
 * Must not block and must not call back into sched: uv_async_send() fits. */
typedef void (*sched_wake_fn)(void *arg);

/* m stays owned by the caller, is used by the engine thread alone until
 * sched_close(), and must outlive s. */
enum status sched_open(struct sched **out, struct model *m, const struct sched_options *opt,
                       sched_wake_fn wake, void *wake_arg) MUST_CHECK;
/* Every request must have been released. Joins the thread. NULL is fine. */
void sched_close(struct sched *s);

/* Copies prompt and params. E_AGAIN: live_max reached. E_INVALID: can never be served,
 * whatever the load: the prompt is empty or does not leave room for one token, it or the bias
 * names a token beyond the vocabulary, or max_new_tokens or n_logprobs is out of range.
 * E_NOMEM. E_DEVICE: the engine has failed for good. */
enum status sched_submit(struct sched *s, const struct sched_params *p, const int32_t *prompt,
                         int32_t n_prompt, void *user, struct sched_req **out) MUST_CHECK;
/* Idempotent, never waits; takes effect at the next step. */
void sched_cancel(struct sched *s, struct sched_req *r);

/* Next request with unread news, NULL when there is none. After a wake, poll until
 * NULL: wakes coalesce. */
struct sched_req *sched_poll(struct sched *s);
void *sched_user(const struct sched_req *r);

/* What came since the last read; stays valid until release. Need not be called at
 * once: what is not read waits, so a slow client costs no memory. */
struct sched_news {
    const int32_t *token;        /* [n] */
    const struct picked *detail; /* [n] when n_logprobs >= 0, else NULL */
    int32_t n;
    enum sched_finish finish; /* SCHED_RUNNING: more may come */
};
void sched_read(struct sched *s, struct sched_req *r, struct sched_news *out);

/* After a read has returned a finish. */
void sched_timing(const struct sched_req *r, struct sched_timing *out);
void sched_release(struct sched *s, struct sched_req *r);

/* A consistent copy, cheap enough for a scrape every 50 ms. */
void sched_stats(struct sched *s, struct sched_stats *out);

#endif

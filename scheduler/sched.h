#ifndef SCHEDULER_SCHED_H
#define SCHEDULER_SCHED_H

#include "kernels/base.h"
#include "kernels/sampling.h"
#include "scheduler/load.h"

/* SEAM between server/ and scheduler/: the engine thread and the two ways across.
 *
 * sched_open() starts one thread that owns the model until sched_close(). All other
 * functions belong to one client thread (the event loop) and never block on the
 * model. Between the two there is one mutex, held for pointer moves only.
 *
 * Life of a request: submit, any number of reads, exactly one finish, release.
 * Cancelling changes how it finishes, not whether; after release the handle is gone. */
struct model;
struct model_info;
struct sched;
struct sched_req;

enum sched_finish {
    SCHED_RUNNING = 0, /* more may come */
    SCHED_STOP,        /* an end token came (it is not among the tokens), or none could */
    SCHED_LENGTH,      /* max_new_tokens or the context is used up */
    SCHED_CANCELLED,
    SCHED_EXPIRED, /* deadline_ns passed, waiting or running */
    SCHED_FAILED,  /* the step this request was part of failed, or its logits were not finite */
};

enum { SCHED_STOP_TOKENS_MAX = 64 };

struct sched_options {
    int32_t live_max;      /* requests submitted and not released; over it: E_AGAIN */
    int32_t step_seqs_max; /* sequences per step; not more than the model's */
    int32_t step_rows_max; /* token rows per step: decodes first, prompts fill the rest */
    bool prefix_cache;
    bool overlap; /* make a step while the one before it runs: the model computes beside us */
    int64_t queue_tokens_max; /* prompt tokens that may wait; 0: no bound */
    uint64_t ttft_slo_ns;     /* objective of requests that bring none; 0: none */
    int32_t free_rows;        /* rows that cost the device about as much as one; 0: measured */
    int32_t long_rows;        /* more prompt tokens to compute are a long prompt; 0: chosen */
    uint64_t
        measure_ns; /* at most, to try out steps until the first request comes; 0: not at all */
};

struct sched_params {
    int32_t max_new_tokens;   /* >= 1, or 0 with judge_prompt; the context may end it */
    struct sampling sampling; /* copied with its bias list */
    bool ignore_eos;
    uint64_t deadline_ns;      /* now_ns() clock; 0: none */
    uint64_t ttft_slo_ns;      /* wanted from submit to the first token; 0: no wish */
    uint64_t client;           /* who counts as one for fair shares; 0: all without a name */
    uint64_t cache_salt;       /* prefix-cache blocks are shared only under the same salt */
    int32_t priority;          /* higher first */
    int32_t min_tokens;        /* end tokens are banned until there are as many */
    int32_t n_stop_tokens;     /* at most SCHED_STOP_TOKENS_MAX */
    const int32_t *stop_token; /* [n_stop_tokens], copied: end tokens of this request */
    const int32_t *allowed;    /* [n_allowed], copied: no other is drawn; NULL: all */
    int32_t n_allowed;
    bool judge_prompt;       /* prompt_detail is wanted */
    int32_t prompt_logprobs; /* then: alternatives of each, 0..LOGPROBS_MAX */
};

/* Instants on the now_ns() clock, 0: not yet. Read at the finish. */
struct sched_timing {
    uint64_t submitted_ns;
    uint64_t scheduled_ns; /* first step that carried a row of it */
    uint64_t first_ns;     /* first token */
    uint64_t last_ns;      /* last token */
    int32_t n_cached;      /* prompt tokens served from the prefix cache */
};

/* Called on the engine thread when the first news appear after a poll found none.
 * Must not block and must not call back into sched: uv_async_send() fits. */
typedef void (*sched_wake_fn)(void *arg);

/* m stays owned by the caller, is used by the engine thread alone until
 * sched_close(), and must outlive s. */
enum status sched_open(struct sched **out, struct model *m, const struct sched_options *opt,
                       sched_wake_fn wake, void *wake_arg) MUST_CHECK;
/* What it takes of the host, all of it at opening. */
size_t sched_bytes(const struct model_info *info, const struct sched_options *opt);
/* What one request takes, of n_tokens at most, without penalties, lists and logprobs. */
size_t sched_request_bytes(const struct model_info *info, int32_t n_tokens);
/* Every request must have been released. Joins the thread. NULL is fine. */
void sched_close(struct sched *s);

/* Before a prompt is tokenized: would a request with these params and about n_prompt tokens
 * be taken? E_AGAIN fills out; E_DEVICE as below. Holds no place: what comes in between may
 * still make sched_submit() say E_AGAIN. */
enum status sched_admit(struct sched *s, const struct sched_params *p, int32_t n_prompt,
                        struct sched_refusal *out) MUST_CHECK;

/* Copies prompt and params. E_AGAIN: live_max reached. E_INVALID: can never be served,
 * whatever the load: the prompt is empty or does not leave room for the answer's first token,
 * a list names a token beyond the vocabulary, or a number is out of range or not finite.
 * E_NOMEM. E_DEVICE: the engine has failed for good. */
enum status sched_submit(struct sched *s, const struct sched_params *p, const int32_t *prompt,
                         int32_t n_prompt, void *user, struct sched_req **out) MUST_CHECK;
/* n answers to one prompt, all or none, request i with seed + i and user[i]. The whole blocks
 * of the prompt are computed once and shared, whatever prefix_cache says. Each is a request
 * of its own from here on; the prompt is judged for the first one alone. */
enum status sched_submit_many(struct sched *s, const struct sched_params *p, const int32_t *prompt,
                              int32_t n_prompt, int32_t n, void *const *user,
                              struct sched_req **out) MUST_CHECK;
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
    int32_t stop_token;       /* of the request's own, when that ended it; -1: else */
    /* Once, with the first news, when it is wanted: [n_prompt_detail] one per token of the
     * prompt, how likely it was after those before it; the first has neither. */
    const struct picked *prompt_detail;
    int32_t n_prompt_detail;
};
void sched_read(struct sched *s, struct sched_req *r, struct sched_news *out);

/* After a read has returned a finish. */
void sched_timing(const struct sched_req *r, struct sched_timing *out);
void sched_release(struct sched *s, struct sched_req *r);

/* A consistent copy, cheap enough for a scrape every 50 ms. */
void sched_stats(struct sched *s, struct sched_stats *out);

#endif

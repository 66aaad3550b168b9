#ifndef SERVER_METRICS_H
#define SERVER_METRICS_H

#include "scheduler/sched.h"
#include "server/wire.h"

/* What /metrics tells. Plain counters of the loop thread and one consistent copy of the
 * scheduler's, so a scrape takes no lock a step could wait for. Names that vLLM has
 * keep its spelling, since dashboards, routers and autoscalers look for those; what
 * it lacks is called firstlight_*. */

enum {
    METRIC_BUCKETS_MAX = 24,
    METRIC_HANDLERS_MAX = 96,
    STATUS_CLASSES = 6,
    API_KINDS = API_NO_KEY + 1
};

enum metric_finish { METRIC_STOP, METRIC_LENGTH, METRIC_ABORT, METRIC_ERROR, METRIC_FINISHES };

/* Tables of bounds in metrics.c. */
enum metric_scale { SCALE_TOKENS, SCALE_FIRST, SCALE_BETWEEN, SCALE_WHOLE };

struct histogram {
    enum metric_scale scale;
    uint64_t bucket[METRIC_BUCKETS_MAX + 1]; /* not cumulative; the last one is +Inf */
    double sum;
};

struct metric_handler {
    const char *handler; /* route pattern, a constant: never what a client sent */
    const char *method;
    uint64_t by_class[STATUS_CLASSES]; /* [status / 100] */
};

struct metrics {
    uint64_t started_ns;
    uint64_t ready_ns; /* 0: not yet */
    uint64_t started_unix;
    uint64_t prompt_tokens;
    uint64_t cached_tokens;
    uint64_t generation_tokens;
    uint64_t finished[METRIC_FINISHES];
    uint64_t disconnects;
    uint64_t refused[API_KINDS]; /* by enum api_error_kind */
    struct histogram prompt_size;
    struct histogram answer_size;
    struct histogram first_token;    /* TTFT */
    struct histogram between_tokens; /* ITL */
    struct histogram whole;
    struct histogram queue;
    struct histogram prefill;
    struct histogram decode;
    struct metric_handler handler[METRIC_HANDLERS_MAX];
    int32_t n_handlers;
};

/* What is known from outside at the time of a scrape. */
struct metrics_view {
    const char *model;        /* a served name: printable, no quotes */
    struct sched_stats sched; /* zero while loading */
    const char *kv_numbers;   /* "q8" */
    const char *backend;      /* "cpu" */
    bool prefix_cache;
    bool draining;
    int32_t connections;
    int32_t queue_limit;
};

void metrics_init(struct metrics *m);
void metrics_http(struct metrics *m, const char *handler, const char *method, int status);
void metrics_add(struct histogram *h, double value);
/* n equal values, as when several tokens came at once. */
void metrics_add_n(struct histogram *h, double value, uint64_t n);

/* One request has ended; arrived_ns is the instant its body was complete. */
void metrics_request(struct metrics *m, enum metric_finish finish, uint64_t arrived_ns,
                     const struct sched_timing *t, int32_t n_prompt, int32_t n_answer);

void metrics_write(struct buf *out, const struct metrics *m, const struct metrics_view *view);

#endif

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
    METRIC_MODELS_MAX = 8,
    METRIC_HANDLERS_MAX = 96,
    METRIC_HTTP_BOUNDS = 3,
    STATUS_CLASSES = 6,
    API_KINDS = API_BAD_HTTP + 1
};

enum metric_finish {
    METRIC_STOP,
    METRIC_LENGTH,
    METRIC_ABORT,
    METRIC_ERROR,
    METRIC_REPETITION, /* never here; vLLM's dashboards ask for it */
    METRIC_FINISHES
};

/* What a request was doing when it was cancelled. */
enum metric_phase { PHASE_WAITING, PHASE_PREFILL, PHASE_DECODE, METRIC_PHASES };

/* One row each in metrics.c, with its bounds, and in metrics_text.c, with its name. */
enum metric_histogram {
    HIST_PROMPT,     /* tokens of a prompt */
    HIST_ANSWER,     /* of an answer */
    HIST_LONGEST,    /* of the longest of the answers to one request */
    HIST_MAX_TOKENS, /* as asked for */
    HIST_COMPUTED,   /* prompt tokens that the cache did not have */
    HIST_N,          /* answers asked for */
    HIST_FIRST,      /* TTFT: from the whole request to the loop hearing of a first token */
    HIST_BETWEEN,    /* ITL: between two such news, shared by the tokens of one */
    HIST_PER_TOKEN,  /* mean time between the tokens of one answer, by the engine's clock */
    HIST_WHOLE,      /* from the whole request to the news of its end */
    HIST_QUEUE,
    HIST_PREFILL,
    HIST_DECODE,
    HIST_INFERENCE,
    HIST_HTTP, /* of every answer of any route, kept with the first model */
    METRIC_HISTOGRAMS
};

struct histogram {
    uint64_t bucket[METRIC_BUCKETS_MAX + 1]; /* not cumulative; the last one is +Inf */
    double sum;
};

struct metric_handler {
    const char *handler; /* route pattern, a constant: never what a client sent */
    const char *method;
    uint64_t by_class[STATUS_CLASSES];       /* [status / 100] */
    uint64_t bucket[METRIC_HTTP_BOUNDS + 1]; /* of durations */
    double seconds;
    uint64_t bytes_in;
    uint64_t bytes_out;
};

/* Of the answers of one model. */
struct model_metrics {
    uint64_t prompt_tokens;
    uint64_t cached_tokens;
    uint64_t generation_tokens;
    uint64_t finished[METRIC_FINISHES];
    uint64_t cancelled[METRIC_PHASES];
    struct histogram histogram[METRIC_HISTOGRAMS];
};

struct metrics {
    uint64_t started_ns;
    uint64_t ready_ns; /* 0: not yet */
    uint64_t started_unix;
    uint64_t disconnects;
    uint64_t refused[API_KINDS]; /* by enum api_error_kind */
    struct model_metrics model[METRIC_MODELS_MAX];
    struct metric_handler handler[METRIC_HANDLERS_MAX];
    int32_t n_handlers;
};

/* One answer as HTTP sees it. */
struct metric_http {
    const char *handler; /* both constants */
    const char *method;
    int code;
    size_t bytes_in; /* of the bodies */
    size_t bytes_out;
    double seconds;
};

/* What is known from outside at the time of a scrape. */
struct metrics_view {
    int32_t n_models;
    struct {
        const char *name;         /* a served one: printable, no quotes */
        struct sched_stats sched; /* zero while loading */
    } model[METRIC_MODELS_MAX];   /* [n_models], in the order of struct metrics */
    const char *kv_numbers;       /* "q8" */
    const char *backend;          /* "cpu" */
    bool prefix_cache;
    bool draining;
    int32_t connections;
    int32_t queue_limit;
};

/* 0 where the end does not come after the beginning. */
double seconds_between(uint64_t from_ns, uint64_t to_ns);
void metrics_init(struct metrics *m);
void metrics_http(struct metrics *m, const struct metric_http *h);
void metrics_add(struct model_metrics *m, enum metric_histogram which, double value);
/* n equal values, as when several tokens came at once. */
void metrics_add_n(struct model_metrics *m, enum metric_histogram which, double value, uint64_t n);

/* One answer has ended, whole_s seconds after the request's body was complete. */
void metrics_request(struct model_metrics *m, enum metric_finish finish, double whole_s,
                     const struct sched_timing *t, int32_t n_prompt, int32_t n_answer);

void metrics_write(struct buf *out, const struct metrics *m, const struct metrics_view *view);

/* Private to metrics.c, which counts, and metrics_text.c, which writes. */
struct metric_scale {
    double bound[METRIC_BUCKETS_MAX];
    int32_t n;
};
extern const struct metric_scale *const metric_scales[METRIC_HISTOGRAMS];
extern const double metric_http_bounds[METRIC_HTTP_BOUNDS];

#endif

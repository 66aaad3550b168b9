/* Writing, text format 0.0.4 as prometheus_client has it: each family once with HELP and TYPE, a
 * counter under its name with _total, and for every counter and histogram the gauge _created.
 * The gauges that routers read have exactly one series per model. */
#include "server/metrics.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { NAME_MAX_BYTES = 96 };

static const char *const finish_names[METRIC_FINISHES] = {
    [METRIC_STOP] = "stop",   [METRIC_LENGTH] = "length",         [METRIC_ABORT] = "abort",
    [METRIC_ERROR] = "error", [METRIC_REPETITION] = "repetition",
};

static const char *const refusal_names[API_KINDS] = {
    [API_BAD_JSON] = "bad_json",
    [API_BAD_FIELD] = "bad_field",
    [API_TOO_LONG] = "too_long",
    [API_NO_MODEL] = "no_model",
    [API_NO_ROUTE] = "no_route",
    [API_BAD_METHOD] = "bad_method",
    [API_TOO_LARGE] = "too_large",
    [API_TIMEOUT] = "timeout",
    [API_UNAUTHORIZED] = "unauthorized",
    [API_UNSUPPORTED] = "unsupported",
    [API_BUSY] = "queue_full",
    [API_NOT_READY] = "not_ready",
    [API_ENGINE] = "engine",
    [API_NO_KEY] = "no_key",
    [API_MISSING] = "missing",
    [API_BAD_NAME] = "bad_name",
    [API_OLD_SDK] = "old_sdk",
    [API_BAD_HTTP] = "bad_http",
};

/* vLLM has the first two. */
static const char *const admission_names[SCHED_REASONS] = {
    [SCHED_MANY_REQUESTS] = "max_num_queued_reqs",
    [SCHED_MANY_TOKENS] = "max_num_queued_tokens",
    [SCHED_TOO_LATE] = "ttft_slo",
};

static const char *const phase_names[METRIC_PHASES] = {
    [PHASE_WAITING] = "waiting",
    [PHASE_PREFILL] = "prefill",
    [PHASE_DECODE] = "decode",
};

static const struct {
    const char *name;
    const char *help;
} histograms[METRIC_HISTOGRAMS] = {
    [HIST_PROMPT] = {"vllm:request_prompt_tokens", "Tokens of a prompt."},
    [HIST_ANSWER] = {"vllm:request_generation_tokens", "Tokens of an answer."},
    [HIST_LONGEST] = {"vllm:request_max_num_generation_tokens",
                      "Tokens of the longest answer to a request."},
    [HIST_MAX_TOKENS] = {"vllm:request_params_max_tokens", "Tokens asked for at most."},
    [HIST_COMPUTED] = {"vllm:request_prefill_kv_computed_tokens",
                       "Prompt tokens that were not in the cache."},
    [HIST_N] = {"vllm:request_params_n", "Answers asked for."},
    [HIST_FIRST] = {"vllm:time_to_first_token_seconds",
                    "From the whole request to its first token reaching the front end, streamed "
                    "or not; writing it to the socket comes after."},
    [HIST_BETWEEN] = {"vllm:inter_token_latency_seconds",
                      "Between tokens of one answer reaching the front end, however slowly the "
                      "client reads; tokens that come together share the time."},
    [HIST_PER_TOKEN] = {"vllm:request_time_per_output_token_seconds",
                        "Mean time between the tokens of one answer, as computed."},
    [HIST_WHOLE] = {"vllm:e2e_request_latency_seconds",
                    "From the whole request to its end reaching the front end."},
    [HIST_QUEUE] = {"vllm:request_queue_time_seconds",
                    "From the prompt's tokens to the first step."},
    [HIST_PREFILL] = {"vllm:request_prefill_time_seconds", "First step to first token."},
    [HIST_DECODE] = {"vllm:request_decode_time_seconds", "First to last token."},
    [HIST_INFERENCE] = {"vllm:request_inference_time_seconds", "First step to last token."},
    [HIST_HTTP] = {"http_request_duration_highr_seconds",
                   "Any route: from the whole request to the last of its answer being "
                   "given to the connection."},
};

/* What every series of one scrape shares. */
struct page {
    struct buf *out;
    const struct metrics *m;
    const struct metrics_view *v;
    int32_t i; /* the model in question */
};

static void family(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A counter's name without its _total. */
static size_t base_of(const char *name)
{
    static const char total[] = "_total";
    size_t n = strlen(name);
    size_t k = sizeof(total) - 1;
    return n > k && strcmp(name + n - k, total) == 0 ? n - k : n;
}

/* labels as they stand between braces, "" for none. */
static void write_created(struct buf *out, const char *name, size_t n, const char *labels,
                          uint64_t when)
{
    char full[NAME_MAX_BYTES];
    (void)snprintf(full, sizeof(full), "%.*s_created", (int)n, name);
    family(out, full, "gauge", "When it began to count, unix time.");
    if (labels[0])
        buf_printf(out, "%s{%s} %llu\n", full, labels, (unsigned long long)when);
    else
        buf_printf(out, "%s %llu\n", full, (unsigned long long)when);
}

static void labels_of(char out[NAME_MAX_BYTES * 4], const struct page *p)
{
    (void)snprintf(out, NAME_MAX_BYTES * 4, "model_name=\"%s\",engine=\"0\"",
                   p->v->model[p->i].name);
}

static void write_histogram(const struct page *p, enum metric_histogram which, const char *labels)
{
    const struct metric_scale *s = metric_scales[which];
    const struct histogram *h = &p->m->model[p->i].histogram[which];
    const char *name = histograms[which].name;
    const char *comma = labels[0] ? "," : "";
    uint64_t n = 0;
    family(p->out, name, "histogram", histograms[which].help);
    for (int32_t i = 0; i < s->n; i++) {
        n += h->bucket[i];
        buf_printf(p->out, "%s_bucket{%s%sle=\"%.10g\"} %llu\n", name, labels, comma, s->bound[i],
                   (unsigned long long)n);
    }
    n += h->bucket[s->n];
    buf_printf(p->out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", name, labels, comma,
               (unsigned long long)n);
    const char *open = labels[0] ? "{" : "";
    const char *close = labels[0] ? "}" : "";
    buf_printf(p->out, "%s_sum%s%s%s %.9g\n%s_count%s%s%s %llu\n", name, open, labels, close,
               h->sum, name, open, labels, close, (unsigned long long)n);
    write_created(p->out, name, strlen(name), labels, p->m->started_unix);
}

struct plain {
    const char *name;
    const char *type;
    const char *help;
    double value;
};

static void write_plain(const struct page *p, const struct plain *row, size_t n, const char *labels)
{
    for (size_t i = 0; i < n; i++) {
        family(p->out, row[i].name, row[i].type, row[i].help);
        if (labels[0])
            buf_printf(p->out, "%s{%s} %.15g\n", row[i].name, labels, row[i].value);
        else
            buf_printf(p->out, "%s %.15g\n", row[i].name, row[i].value);
        if (strcmp(row[i].type, "counter") == 0)
            write_created(p->out, row[i].name, base_of(row[i].name), labels, p->m->started_unix);
    }
}

/* A family whose series differ in one label. */
struct kinds {
    const char *name;
    const char *help;
    const char *label;
    const char *const *kind; /* [n] */
    const uint64_t *value;   /* [n] */
    int32_t n;
};

static void write_kinds(const struct page *p, const struct kinds *k, const char *type,
                        const char *labels)
{
    const char *comma = labels[0] ? "," : "";
    family(p->out, k->name, type, k->help);
    for (int32_t i = 0; i < k->n; i++)
        buf_printf(p->out, "%s{%s%s%s=\"%s\"} %llu\n", k->name, labels, comma, k->label, k->kind[i],
                   (unsigned long long)k->value[i]);
}

static void count_kinds(const struct page *p, const struct kinds *k, const char *labels)
{
    char full[NAME_MAX_BYTES];
    const char *comma = labels[0] ? "," : "";
    write_kinds(p, k, "counter", labels);
    (void)snprintf(full, sizeof(full), "%.*s_created", (int)base_of(k->name), k->name);
    family(p->out, full, "gauge", "When it began to count, unix time.");
    for (int32_t i = 0; i < k->n; i++)
        buf_printf(p->out, "%s{%s%s%s=\"%s\"} %llu\n", full, labels, comma, k->label, k->kind[i],
                   (unsigned long long)p->m->started_unix);
}

/* -- vLLM's -- */

static void write_gauges(const struct page *p, const char *labels)
{
    const struct sched_stats *s = &p->v->model[p->i].sched;
    double used = s->blocks_total > 0 ? (double)s->blocks_used / s->blocks_total : 0;
    const struct plain rows[] = {
        {"vllm:num_requests_running", "gauge", "Requests being computed.", s->running},
        {"vllm:num_requests_waiting", "gauge", "Requests waiting for their first step.",
         s->waiting},
        {"vllm:kv_cache_usage_perc", "gauge", "Cache blocks held by requests, 0 to 1.", used},
    };
    static const char *const reasons[] = {"capacity", "deferred"};
    static const char *const sleeping[] = {"awake", "weights_offloaded", "discard_all"};
    const uint64_t waiting[] = {(uint64_t)(s->waiting > 0 ? s->waiting : 0), 0};
    const uint64_t awake[] = {1, 0, 0};
    write_plain(p, rows, ARRAY_LEN(rows), labels);
    write_kinds(p,
                &(struct kinds){"vllm:num_requests_waiting_by_reason", "Waiting requests.",
                                "reason", reasons, waiting, ARRAY_LEN(reasons)},
                "gauge", labels);
    write_kinds(p,
                &(struct kinds){"vllm:engine_sleep_state", "1 for the state that holds.",
                                "sleep_state", sleeping, awake, ARRAY_LEN(sleeping)},
                "gauge", labels);
    family(p->out, "vllm:lora_requests_info", "gauge", "Adapters; there are none.");
    buf_printf(p->out,
               "vllm:lora_requests_info{max_lora=\"0\",running_lora_adapters=\"\","
               "waiting_lora_adapters=\"\"} %llu\n",
               (unsigned long long)time(NULL));
    family(p->out, "vllm:cache_config_info", "gauge", "How the key and value cache is laid out.");
    buf_printf(p->out,
               "vllm:cache_config_info{%s,block_size=\"%d\",num_gpu_blocks=\"%d\","
               "cache_dtype=\"%s\",enable_prefix_caching=\"%s\",sliding_window=\"None\","
               "is_attention_free=\"False\"} 1\n",
               labels, s->block_tokens, s->blocks_total, p->v->kv_numbers,
               p->v->prefix_cache ? "True" : "False");
}

static void write_counters(const struct page *p, const char *labels)
{
    const struct sched_stats *s = &p->v->model[p->i].sched;
    const struct model_metrics *m = &p->m->model[p->i];
    const struct plain rows[] = {
        {"vllm:prompt_tokens_total", "counter", "Prompt tokens of finished requests.",
         (double)m->prompt_tokens},
        {"vllm:prompt_tokens_cached_total", "counter", "Prompt tokens found in the prefix cache.",
         (double)m->cached_tokens},
        {"vllm:generation_tokens_total", "counter", "Tokens generated.",
         (double)m->generation_tokens},
        {"vllm:prefix_cache_queries_total", "counter", "Tokens looked up in the prefix cache.",
         (double)s->prefix_query_tokens},
        {"vllm:prefix_cache_hits_total", "counter", "Tokens found in the prefix cache.",
         (double)s->prefix_hit_tokens},
        {"vllm:num_preemptions_total", "counter", "Requests put back to be computed again.",
         (double)s->preemptions},
    };
    static const char *const sources[] = {"local_compute", "local_cache_hit",
                                          "external_kv_transfer"};
    const uint64_t tokens[] = {m->prompt_tokens - m->cached_tokens, m->cached_tokens, 0};
    const struct kinds kinds[] = {
        {"vllm:prompt_tokens_by_source_total", "Prompt tokens by where they came from.", "source",
         sources, tokens, ARRAY_LEN(sources)},
        {"vllm:admission_rejections_total", "Requests refused on arrival.", "reason",
         admission_names, s->refused, SCHED_REASONS},
        {"vllm:request_success_total", "Requests by the way they ended.", "finished_reason",
         finish_names, m->finished, METRIC_FINISHES},
    };
    write_plain(p, rows, ARRAY_LEN(rows), labels);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        count_kinds(p, &kinds[i], labels);
}

/* The scheduler counts a step under the first bound that it does not exceed. */
static void write_steps(const struct page *p, const char *labels)
{
    static const char name[] = "vllm:iteration_tokens_total";
    const struct sched_stats *s = &p->v->model[p->i].sched;
    uint64_t n = 0;
    family(p->out, name, "histogram", "Tokens of one step.");
    for (int32_t i = 0; i < SCHED_STEP_SIZES; i++) {
        n += s->step_sizes[i];
        if (i + 1 < SCHED_STEP_SIZES)
            buf_printf(p->out, "%s_bucket{%s,le=\"%d\"} %llu\n", name, labels, sched_step_bounds[i],
                       (unsigned long long)n);
        else
            buf_printf(p->out, "%s_bucket{%s,le=\"+Inf\"} %llu\n", name, labels,
                       (unsigned long long)n);
    }
    buf_printf(p->out, "%s_sum{%s} %llu\n%s_count{%s} %llu\n", name, labels,
               (unsigned long long)s->step_rows, name, labels, (unsigned long long)n);
    write_created(p->out, name, strlen(name), labels, p->m->started_unix);
}

/* -- ours -- */

static void write_scheduler(const struct page *p, const char *labels)
{
    const struct sched_stats *s = &p->v->model[p->i].sched;
    const struct plain rows[] = {
        {"firstlight_waiting_tokens", "gauge", "Prompt tokens left to compute of the waiting.",
         (double)s->waiting_tokens},
        {"firstlight_backlog_seconds", "gauge", "Computing every prompt not yet computed.",
         (double)s->backlog_ns * 1e-9},
        {"firstlight_ttft_predicted_seconds_total", "counter",
         "Times to the first token as predicted on arrival.", (double)s->ttft_predicted_ns * 1e-9},
        {"firstlight_ttft_actual_seconds_total", "counter", "What they became.",
         (double)s->ttft_actual_ns * 1e-9},
        {"firstlight_ttft_error_seconds_total", "counter", "Differences without sign.",
         (double)s->ttft_error_ns * 1e-9},
        {"firstlight_ttft_predictions_total", "counter", "Requests in these sums.",
         (double)s->ttft_n},
        {"firstlight_slo_met_total", "counter", "First tokens within their objective.",
         (double)s->slo_met},
        {"firstlight_slo_missed_total", "counter", "First tokens after it.", (double)s->slo_missed},
        {"firstlight_cancels_total", "counter", "Requests cancelled while they were alive.",
         (double)s->cancels},
        {"firstlight_cancel_seconds_total", "counter",
         "From these cancels to the release of their blocks.", (double)s->cancel_ns * 1e-9},
        {"firstlight_cancel_seconds_max", "gauge", "The longest of these times.",
         (double)s->cancel_ns_max * 1e-9},
        {"firstlight_steps_total", "counter", "Steps of the model.", (double)s->steps},
        {"firstlight_step_rows_total", "counter", "Token rows over all steps.",
         (double)s->step_rows},
        {"firstlight_step_seconds_total", "counter", "Time inside the model.",
         (double)s->step_ns * 1e-9},
    };
    write_plain(p, rows, ARRAY_LEN(rows), labels);
}

static void write_own(const struct page *p)
{
    struct buf *out = p->out;
    const struct metrics *m = p->m;
    const struct metrics_view *v = p->v;
    double ready = m->ready_ns ? seconds_between(m->started_ns, m->ready_ns) : 0;
    const struct plain rows[] = {
        {"firstlight_client_disconnects_total", "counter",
         "Clients that left before their answer was complete.", (double)m->disconnects},
        {"firstlight_ready_seconds", "gauge", "Start to ready; 0: not ready yet.", ready},
        {"firstlight_draining", "gauge", "1 after SIGTERM.", v->draining ? 1 : 0},
        {"firstlight_connections", "gauge", "Open connections.", v->connections},
        {"firstlight_queue_limit", "gauge", "Requests that may be alive at once.", v->queue_limit},
    };
    uint64_t cancelled[METRIC_PHASES] = {0};
    for (int32_t i = 0; i < v->n_models * METRIC_PHASES; i++)
        cancelled[i % METRIC_PHASES] += m->model[i / METRIC_PHASES].cancelled[i % METRIC_PHASES];
    write_plain(p, rows, ARRAY_LEN(rows), "");

    const struct kinds kinds[] = {
        {"firstlight_refused_total", "Requests answered with an error.", "reason", refusal_names,
         m->refused, API_KINDS},
        {"firstlight_cancelled_total", "Answers nobody waits for any more.", "phase", phase_names,
         cancelled, METRIC_PHASES},
    };
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        count_kinds(p, &kinds[i], "");
    family(out, "firstlight_build_info", "gauge", "What is running.");
    buf_printf(out, "firstlight_build_info{version=\"%s\",backend=\"%s\"} 1\n", FIRSTLIGHT_VERSION,
               v->backend);
}

/* -- FastAPI's instrumentator's -- */

static void write_durations(const struct page *p)
{
    static const char name[] = "http_request_duration_seconds";
    family(p->out, name, "histogram", "Answers by route.");
    for (int32_t i = 0; i < p->m->n_handlers; i++) {
        const struct metric_handler *h = &p->m->handler[i];
        uint64_t n = 0;
        for (int32_t k = 0; k <= METRIC_HTTP_BOUNDS; k++) {
            char bound[32] = "+Inf";
            n += h->bucket[k];
            if (k < METRIC_HTTP_BOUNDS)
                (void)snprintf(bound, sizeof(bound), "%g", metric_http_bounds[k]);
            buf_printf(p->out, "%s_bucket{handler=\"%s\",method=\"%s\",le=\"%s\"} %llu\n", name,
                       h->handler, h->method, bound, (unsigned long long)n);
        }
        buf_printf(p->out,
                   "%s_sum{handler=\"%s\",method=\"%s\"} %.9g\n"
                   "%s_count{handler=\"%s\",method=\"%s\"} %llu\n",
                   name, h->handler, h->method, h->seconds, name, h->handler, h->method,
                   (unsigned long long)n);
    }
}

static void write_sizes(const struct page *p, const char *name, const char *help, bool in)
{
    family(p->out, name, "summary", help);
    for (int32_t i = 0; i < p->m->n_handlers; i++) {
        const struct metric_handler *h = &p->m->handler[i];
        uint64_t n = 0;
        for (int32_t class = 0; class < STATUS_CLASSES; class ++)
            n += h->by_class[class];
        buf_printf(p->out,
                   "%s_count{handler=\"%s\",method=\"%s\"} %llu\n"
                   "%s_sum{handler=\"%s\",method=\"%s\"} %llu\n",
                   name, h->handler, h->method, (unsigned long long)n, name, h->handler, h->method,
                   (unsigned long long)(in ? h->bytes_in : h->bytes_out));
    }
}

static void write_http(const struct page *p)
{
    family(p->out, "http_requests_total", "counter", "Answers by route and kind of status.");
    for (int32_t i = 0; i < p->m->n_handlers; i++) {
        const struct metric_handler *h = &p->m->handler[i];
        for (int32_t class = 1; class < STATUS_CLASSES; class ++)
            if (h->by_class[class])
                buf_printf(p->out,
                           "http_requests_total{handler=\"%s\",method=\"%s\",status=\"%dxx\"} "
                           "%llu\n",
                           h->handler, h->method, class, (unsigned long long)h->by_class[class]);
    }
    write_sizes(p, "http_request_size_bytes", "Bodies that came.", true);
    write_sizes(p, "http_response_size_bytes", "Bodies that went.", false);
    write_durations(p);
    write_histogram(p, HIST_HTTP, "");
}

static void write_process(const struct page *p)
{
    struct rusage use;
    memset(&use, 0, sizeof(use));
    (void)getrusage(RUSAGE_SELF, &use);
    double cpu = (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
                 (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1e-6;
    struct rlimit files = {0};
    (void)getrlimit(RLIMIT_NOFILE, &files);
    const struct plain rows[] = {
        {"process_cpu_seconds_total", "counter", "Processor time used.", cpu},
        {"process_start_time_seconds", "gauge", "Unix time of the start.",
         (double)p->m->started_unix},
        {"process_max_fds", "gauge", "Limit of open files.", (double)files.rlim_cur},
        {"process_max_resident_memory_bytes", "gauge", "Highest resident memory so far.",
         (double)use.ru_maxrss * 1024},
    };
    write_plain(p, rows, ARRAY_LEN(rows), "");
}

static void write_model(struct buf *out, const struct metrics *m, const struct metrics_view *view,
                        int32_t i)
{
    const struct page p = {.out = out, .m = m, .v = view, .i = i};
    char labels[NAME_MAX_BYTES * 4];
    labels_of(labels, &p);
    write_gauges(&p, labels);
    write_counters(&p, labels);
    for (int32_t k = 0; k < HIST_HTTP; k++)
        write_histogram(&p, (enum metric_histogram)k, labels);
    write_steps(&p, labels);
    write_scheduler(&p, labels);
}

/* Where the family that text begins with ends. */
static const char *family_end(const char *text)
{
    const char *next = strstr(text + 1, "\n# HELP ");
    return next ? next + 1 : text + strlen(text);
}

/* Behind its two lines of comment. */
static const char *samples_of(const char *family)
{
    return strchr(strchr(family, '\n') + 1, '\n') + 1;
}

/* A family appears once: the models, whose pages have the same families in the same order, are
 * merged family by family. */
static void write_models(struct buf *out, const struct metrics *m, const struct metrics_view *view)
{
    struct buf page[METRIC_MODELS_MAX] = {{0}};
    const char *at[METRIC_MODELS_MAX] = {NULL};
    for (int32_t i = 0; i < view->n_models; i++) {
        write_model(&page[i], m, view, i);
        buf_add(&page[i], "", 1);
        out->failed = out->failed || page[i].failed;
        at[i] = page[i].data;
    }
    while (view->n_models > 0 && !out->failed && *at[0]) {
        for (int32_t i = 0; i < view->n_models; i++) {
            const char *end = family_end(at[i]);
            const char *from = i == 0 ? at[i] : samples_of(at[i]);
            buf_add(out, from, (size_t)(end - from));
            at[i] = end;
        }
    }
    for (int32_t i = 0; i < view->n_models; i++)
        buf_free(&page[i]);
}

void metrics_write(struct buf *out, const struct metrics *m, const struct metrics_view *view)
{
    const struct page p = {.out = out, .m = m, .v = view};
    write_models(out, m, view);
    write_own(&p);
    write_http(&p);
    write_process(&p);
}

#include "server/metrics.h"

#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* Text format 0.0.4. Each family is written once with HELP and TYPE; the three gauges
 * that routers read have exactly one series. Buckets are counted apart and summed up
 * when written, so an observation touches one counter. */

enum { BOUNDS_MAX = METRIC_BUCKETS_MAX };

struct scale {
    double bound[BOUNDS_MAX];
    int32_t n;
};

static const struct scale scales[] = {
    [SCALE_TOKENS] = {{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000,
                       100000, 200000, 500000},
                      18},
    [SCALE_FIRST] = {{.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                      1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560},
                     22},
    [SCALE_BETWEEN] = {{.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10, 20,
                        40, 80},
                       19},
    [SCALE_WHOLE] = {{.3, .5, .8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                      30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680},
                     21},
};

static const char *const finish_names[METRIC_FINISHES] = {
    [METRIC_STOP] = "stop",
    [METRIC_LENGTH] = "length",
    [METRIC_ABORT] = "abort",
    [METRIC_ERROR] = "error",
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
};

/* vLLM has the first two. */
static const char *const admission_names[SCHED_REASONS] = {
    [SCHED_MANY_REQUESTS] = "max_num_queued_reqs",
    [SCHED_MANY_TOKENS] = "max_num_queued_tokens",
    [SCHED_TOO_LATE] = "ttft_slo",
};

void metrics_init(struct metrics *m)
{
    memset(m, 0, sizeof(*m));
    m->started_ns = now_ns();
    m->started_unix = (uint64_t)time(NULL);
    m->prompt_size.scale = SCALE_TOKENS;
    m->answer_size.scale = SCALE_TOKENS;
    m->first_token.scale = SCALE_FIRST;
    m->between_tokens.scale = SCALE_BETWEEN;
    m->whole.scale = SCALE_WHOLE;
    m->queue.scale = SCALE_WHOLE;
    m->prefill.scale = SCALE_WHOLE;
    m->decode.scale = SCALE_WHOLE;
}

void metrics_http(struct metrics *m, const char *handler, const char *method, int status)
{
    int32_t class = status / 100 < STATUS_CLASSES ? status / 100 : 0;
    for (int32_t i = 0; i < m->n_handlers; i++) {
        struct metric_handler *h = &m->handler[i];
        if (strcmp(h->handler, handler) == 0 && strcmp(h->method, method) == 0) {
            h->by_class[class]++;
            return;
        }
    }
    if (m->n_handlers == METRIC_HANDLERS_MAX)
        return;
    struct metric_handler *h = &m->handler[m->n_handlers++];
    h->handler = handler;
    h->method = method;
    h->by_class[class] = 1;
}

void metrics_add_n(struct histogram *h, double value, uint64_t n)
{
    const struct scale *s = &scales[h->scale];
    int32_t i = 0;
    while (i < s->n && value > s->bound[i])
        i++;
    h->bucket[i] += n;
    h->sum += value * (double)n;
}

void metrics_add(struct histogram *h, double value)
{
    metrics_add_n(h, value, 1);
}

static double seconds(uint64_t from_ns, uint64_t to_ns)
{
    return to_ns > from_ns ? (double)(to_ns - from_ns) * 1e-9 : 0;
}

void metrics_request(struct metrics *m, enum metric_finish finish, uint64_t arrived_ns,
                     const struct sched_timing *t, int32_t n_prompt, int32_t n_answer)
{
    m->finished[finish]++;
    m->prompt_tokens += (uint64_t)n_prompt;
    m->cached_tokens += (uint64_t)t->n_cached;
    metrics_add(&m->whole, seconds(arrived_ns, now_ns()));
    metrics_add(&m->prompt_size, n_prompt);
    metrics_add(&m->answer_size, n_answer);
    if (t->scheduled_ns)
        metrics_add(&m->queue, seconds(t->submitted_ns, t->scheduled_ns));
    if (!t->first_ns)
        return;
    metrics_add(&m->prefill, seconds(t->scheduled_ns, t->first_ns));
    metrics_add(&m->decode, seconds(t->first_ns, t->last_ns));
}

static void family(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void write_histogram(struct buf *out, const char *name, const char *help, const char *model,
                            const struct histogram *h)
{
    const struct scale *s = &scales[h->scale];
    uint64_t n = 0;
    family(out, name, "histogram", help);
    for (int32_t i = 0; i < s->n; i++) {
        n += h->bucket[i];
        buf_printf(out, "%s_bucket{model_name=\"%s\",engine=\"0\",le=\"%.10g\"} %llu\n", name,
                   model, s->bound[i], (unsigned long long)n);
    }
    n += h->bucket[s->n];
    buf_printf(out, "%s_bucket{model_name=\"%s\",engine=\"0\",le=\"+Inf\"} %llu\n", name, model,
               (unsigned long long)n);
    buf_printf(out, "%s_sum{model_name=\"%s\",engine=\"0\"} %.9g\n", name, model, h->sum);
    buf_printf(out, "%s_count{model_name=\"%s\",engine=\"0\"} %llu\n", name, model,
               (unsigned long long)n);
}

struct plain {
    const char *name;
    const char *type;
    const char *help;
    double value;
};

static void write_plain(struct buf *out, const struct plain *p, size_t n, const char *model)
{
    for (size_t i = 0; i < n; i++) {
        family(out, p[i].name, p[i].type, p[i].help);
        if (model)
            buf_printf(out, "%s{model_name=\"%s\",engine=\"0\"} %.15g\n", p[i].name, model,
                       p[i].value);
        else
            buf_printf(out, "%s %.15g\n", p[i].name, p[i].value);
    }
}

static void write_scheduler(struct buf *out, const struct metrics *m, const struct metrics_view *v)
{
    const struct sched_stats *s = &v->sched;
    double used = s->blocks_total > 0 ? (double)s->blocks_used / s->blocks_total : 0;
    const struct plain rows[] = {
        {"vllm:num_requests_running", "gauge", "Requests being computed.", s->running},
        {"vllm:num_requests_waiting", "gauge", "Requests waiting for their first step.",
         s->waiting},
        {"vllm:kv_cache_usage_perc", "gauge", "Cache blocks held by requests, 0 to 1.", used},
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
        {"firstlight_steps_total", "counter", "Steps of the model.", (double)s->steps},
        {"firstlight_step_rows_total", "counter", "Token rows over all steps.",
         (double)s->step_rows},
        {"firstlight_step_seconds_total", "counter", "Time inside the model.",
         (double)s->step_ns * 1e-9},
    };
    write_plain(out, rows, ARRAY_LEN(rows), v->model);

    family(out, "vllm:cache_config_info", "gauge", "How the key and value cache is laid out.");
    buf_printf(out,
               "vllm:cache_config_info{model_name=\"%s\",engine=\"0\",block_size=\"%d\","
               "num_gpu_blocks=\"%d\",cache_dtype=\"%s\",enable_prefix_caching=\"%s\"} 1\n",
               v->model, s->block_tokens, s->blocks_total, v->kv_numbers,
               v->prefix_cache ? "True" : "False");
    family(out, "vllm:admission_rejections_total", "counter", "Requests refused on arrival.");
    for (int32_t i = 0; i < SCHED_REASONS; i++)
        buf_printf(out,
                   "vllm:admission_rejections_total{model_name=\"%s\",engine=\"0\","
                   "reason=\"%s\"} %llu\n",
                   v->model, admission_names[i], (unsigned long long)s->refused[i]);
    family(out, "vllm:request_success_total", "counter", "Requests by the way they ended.");
    for (int32_t i = 0; i < METRIC_FINISHES; i++)
        buf_printf(out,
                   "vllm:request_success_total{model_name=\"%s\",engine=\"0\","
                   "finished_reason=\"%s\"} %llu\n",
                   v->model, finish_names[i], (unsigned long long)m->finished[i]);
}

static void write_histograms(struct buf *out, const struct metrics *m, const char *model)
{
    write_histogram(out, "vllm:time_to_first_token_seconds", "From the request to its first token.",
                    model, &m->first_token);
    write_histogram(out, "vllm:inter_token_latency_seconds", "Between tokens of one answer.", model,
                    &m->between_tokens);
    write_histogram(out, "vllm:e2e_request_latency_seconds", "From the request to its end.", model,
                    &m->whole);
    write_histogram(out, "vllm:request_queue_time_seconds", "Waiting for the first step.", model,
                    &m->queue);
    write_histogram(out, "vllm:request_prefill_time_seconds", "First step to first token.", model,
                    &m->prefill);
    write_histogram(out, "vllm:request_decode_time_seconds", "First to last token.", model,
                    &m->decode);
    write_histogram(out, "vllm:request_prompt_tokens", "Tokens of a prompt.", model,
                    &m->prompt_size);
    write_histogram(out, "vllm:request_generation_tokens", "Tokens of an answer.", model,
                    &m->answer_size);
}

static void write_own(struct buf *out, const struct metrics *m, const struct metrics_view *v)
{
    double ready = m->ready_ns ? seconds(m->started_ns, m->ready_ns) : 0;
    const struct plain rows[] = {
        {"firstlight_client_disconnects_total", "counter",
         "Clients that left before their answer was complete.", (double)m->disconnects},
        {"firstlight_ready_seconds", "gauge", "Start to ready; 0: not ready yet.", ready},
        {"firstlight_draining", "gauge", "1 after SIGTERM.", v->draining ? 1 : 0},
        {"firstlight_connections", "gauge", "Open connections.", v->connections},
        {"firstlight_queue_limit", "gauge", "Requests that may be alive at once.", v->queue_limit},
    };
    write_plain(out, rows, ARRAY_LEN(rows), NULL);

    family(out, "firstlight_refused_total", "counter", "Requests answered with an error.");
    for (int32_t i = 0; i < API_KINDS; i++)
        buf_printf(out, "firstlight_refused_total{reason=\"%s\"} %llu\n", refusal_names[i],
                   (unsigned long long)m->refused[i]);
    family(out, "firstlight_build_info", "gauge", "What is running.");
    buf_printf(out, "firstlight_build_info{version=\"%s\",backend=\"%s\"} 1\n", FIRSTLIGHT_VERSION,
               v->backend);
}

static void write_http(struct buf *out, const struct metrics *m)
{
    family(out, "http_requests_total", "counter", "Answers by route and kind of status.");
    for (int32_t i = 0; i < m->n_handlers; i++) {
        const struct metric_handler *h = &m->handler[i];
        for (int32_t class = 1; class < STATUS_CLASSES; class ++)
            if (h->by_class[class])
                buf_printf(out,
                           "http_requests_total{handler=\"%s\",method=\"%s\",status=\"%dxx\"} "
                           "%llu\n",
                           h->handler, h->method, class, (unsigned long long)h->by_class[class]);
    }
}

static void write_process(struct buf *out, const struct metrics *m)
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
        {"process_start_time_seconds", "gauge", "Unix time of the start.", (double)m->started_unix},
        {"process_max_fds", "gauge", "Limit of open files.", (double)files.rlim_cur},
        {"process_max_resident_memory_bytes", "gauge", "Highest resident memory so far.",
         (double)use.ru_maxrss * 1024},
    };
    write_plain(out, rows, ARRAY_LEN(rows), NULL);
}

void metrics_write(struct buf *out, const struct metrics *m, const struct metrics_view *view)
{
    write_scheduler(out, m, view);
    write_histograms(out, m, view->model);
    write_own(out, m, view);
    write_http(out, m);
    write_process(out, m);
}

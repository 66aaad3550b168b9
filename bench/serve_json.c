/* The JSON object. Keys and their order are those that vLLM writes; tests/bench_serve_report_test.c
 * holds the list. A figure that nothing was measured for is null. */
#include "bench/serve_report.h"

#include "bench/serve_schedule.h"
#include "bench/serve_wire.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { FORM_VERSION = 1 };

static void number(struct buf *out, double x)
{
    if (isinf(x))
        buf_text(out, "\"inf\"");
    else if (isnan(x))
        buf_text(out, "null");
    else
        buf_printf(out, "%.10g", x);
}

static void member(struct buf *out, const char *name, double x)
{
    buf_printf(out, "\"%s\":", name);
    number(out, x);
    buf_text(out, ",");
}

static void member_text(struct buf *out, const char *name, const char *text)
{
    buf_printf(out, "\"%s\":", name);
    if (text)
        buf_json_text(out, text);
    else
        buf_text(out, "null");
    buf_text(out, ",");
}

/* The comma behind the last member goes. */
static void close_with(struct buf *out, const char *bracket)
{
    if (out->n > 0 && out->data[out->n - 1] == ',')
        out->n--;
    buf_text(out, bracket);
}

static double per_second(int64_t n, const struct summary *s)
{
    return s->seconds > 0 ? (double)n / s->seconds : (double)NAN;
}

static void json_setup(struct buf *out, const struct run_report *r)
{
    const struct serve_options *o = r->opt;
    const char *backend = serve_wires[o->backend].name;
    member_text(out, "date", r->date);
    member_text(out, "endpoint_type", backend);
    member_text(out, "backend", backend);
    member_text(out, "label", o->label);
    member_text(out, "model_id", r->model_id);
    member_text(out, "tokenizer_id", r->tokenizer);
    member(out, "num_prompts", (double)r->n_prompts);
    for (int32_t i = 0; i < o->metadata.n; i++) {
        const char *pair = o->metadata.item[i];
        size_t n = strcspn(pair, "=");
        buf_json(out, pair, n);
        buf_text(out, ":");
        buf_json_text(out, pair + n + 1);
        buf_text(out, ",");
    }
    member(out, "request_rate", r->rate);
    member(out, "burstiness", o->burstiness);
    member(out, "max_concurrency", r->max_concurrency ? (double)r->max_concurrency : (double)NAN);
    if (o->ramp != RAMP_NONE) {
        member_text(out, "ramp_up_strategy", ramp_names[o->ramp]);
        member(out, "ramp_up_start_rps", o->ramp_start);
        member(out, "ramp_up_end_rps", o->ramp_end);
    }
}

static void json_counts(struct buf *out, const struct summary *s)
{
    member(out, "duration", s->seconds);
    member(out, "completed", (double)s->completed);
    member(out, "failed", (double)s->failed);
    member(out, "total_input_tokens", (double)s->input_tokens);
    member(out, "total_output_tokens", (double)s->output_tokens);
    member(out, "request_throughput", per_second(s->completed, s));
    member(out, "request_goodput", isnan(s->goodput_share) ? (double)NAN : per_second(s->good, s));
    member(out, "output_throughput", per_second(s->output_tokens, s));
    member(out, "total_token_throughput", per_second(s->input_tokens + s->output_tokens, s));
}

/* ---- every request ---- */

static void gaps(struct buf *out, const struct record *r)
{
    buf_text(out, "[");
    for (size_t i = 0; i < r->n_gaps; i++)
        buf_printf(out, "%s%.6f", i ? "," : "", r->gap_us[i] * 1e-6);
    buf_text(out, "]");
}

static double seconds_between(uint64_t from, uint64_t to)
{
    return to > from ? (double)(to - from) * 1e-9 : 0;
}

enum detail {
    DETAIL_INPUT,
    DETAIL_OUTPUT,
    DETAIL_TTFT,
    DETAIL_ITL,
    DETAIL_LATENCY,
    DETAIL_START,
    DETAIL_QUEUE,
    DETAIL_TEXT,
    DETAIL_ERROR,
    N_DETAILS,
};

static void detail(struct buf *out, const struct record *r, enum detail which)
{
    bool whole = record_whole(r);
    switch (which) {
    case DETAIL_INPUT:
        buf_printf(out, "%lld", (long long)r->prompt_tokens);
        return;
    case DETAIL_OUTPUT:
        buf_printf(out, "%lld", whole ? (long long)r->answer_tokens : 0);
        return;
    case DETAIL_TTFT:
        buf_printf(out, "%.6f", seconds_between(r->due_ns, r->first_ns));
        return;
    case DETAIL_ITL:
        gaps(out, r);
        return;
    case DETAIL_LATENCY:
        buf_printf(out, "%.6f", seconds_between(r->due_ns, r->last_ns));
        return;
    case DETAIL_START:
        buf_printf(out, "%.6f", (double)r->due_ns * 1e-9);
        return;
    case DETAIL_QUEUE:
        buf_printf(out, "%.6f", seconds_between(r->due_ns, r->sent_ns));
        return;
    case DETAIL_TEXT:
        buf_json(out, r->text ? r->text : "", r->text_bytes);
        return;
    default:
        buf_json_text(out, r->cancelled ? "cancelled by the client" : r->fault);
        return;
    }
}

static void json_details(struct buf *out, const struct run_report *r)
{
    static const char *const names[N_DETAILS] = {"input_lens",  "output_lens",     "ttfts",
                                                 "itls",        "latencies",       "start_times",
                                                 "queue_times", "generated_texts", "errors"};
    for (int32_t d = 0; d < N_DETAILS; d++) {
        buf_printf(out, "\"%s\":[", names[d]);
        for (int64_t i = 0; i < r->n_records; i++) {
            if (r->records[i].kind != RECORD_COUNTED)
                continue;
            detail(out, &r->records[i], (enum detail)d);
            buf_text(out, ",");
        }
        close_with(out, "],");
    }
}

/* ---- a ramp ---- */

static void rate_reached(struct buf *out, const struct run_report *r, int64_t rate, uint64_t due_ns)
{
    double at = r->began + seconds_between(r->begin_ns, due_ns);
    time_t second = (time_t)at;
    struct tm tm;
    char text[32];
    (void)localtime_r(&second, &tm);
    (void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    buf_printf(out, "{\"rps\":%lld,\"timestamp\":\"%s.%06d\"},", (long long)rate, text,
               (int)((at - (double)second) * 1e6));
}

/* When each whole number of requests per second was reached. */
static void json_ramp(struct buf *out, const struct run_report *r)
{
    int64_t last = (int64_t)r->opt->ramp_start;
    buf_text(out, "\"rps_change_events\":[");
    rate_reached(out, r, last, r->begin_ns);
    for (int64_t i = 0; i < r->n_records; i++) {
        const struct record *one = &r->records[i];
        int64_t rate = (int64_t)schedule_rate(r->opt, r->rate, one->index, r->n_prompts);
        while (one->kind == RECORD_COUNTED && last < rate)
            rate_reached(out, r, ++last, one->due_ns);
    }
    close_with(out, "],");
}

/* ---- figures ---- */

static void json_metric(struct buf *out, const char *name, const struct samples *s,
                        const struct option_numbers *percentiles)
{
    char key[96];
    const struct {
        const char *what;
        double value;
    } rows[] = {
        {"mean", samples_mean(s)},
        {"median", samples_percentile(s, 50)},
        {"std", samples_std(s)},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        (void)snprintf(key, sizeof(key), "%s_%s_ms", rows[i].what, name);
        member(out, key, rows[i].value);
    }
    for (int32_t i = 0; i < percentiles->n; i++) {
        (void)snprintf(key, sizeof(key), "p%.10g_%s_ms", percentiles->item[i], name);
        member(out, key, samples_percentile(s, percentiles->item[i]));
    }
}

static void json_check(struct buf *out, const struct metrics_check *c)
{
    static const char *const verdicts[] = {"skipped", "agree", "differ"};
    buf_text(out, "\"server_metrics\":{");
    member_text(out, "verdict", verdicts[c->verdict]);
    member_text(out, "note", c->note);
    member(out, "ttft_tolerance", TTFT_TOLERANCE);
    member(out, "ttft_tolerance_ms", TTFT_TOLERANCE_MS);
    for (int32_t i = 0; i < CHECK_ROWS && c->verdict != CHECKED_NOT; i++) {
        buf_printf(out, "\"%s\":{", c->row[i].name);
        member(out, "client", c->row[i].client);
        member(out, "server", c->row[i].server);
        buf_printf(out, "\"agree\":%s},", c->row[i].equal ? "true" : "false");
    }
    close_with(out, "},");
}

static void json_long(struct buf *out, const struct run_report *r)
{
    const struct summary *s = r->summary;
    static const struct option_numbers percents = {{50, 99, 100}, 3};
    buf_text(out, "\"long_prompt\":{");
    member(out, "prompts", (double)s->long_prompts);
    member(out, "input_tokens", (double)s->long_input);
    member(out, "cached_tokens", (double)s->long_cached);
    json_metric(out, "ttft", &s->long_ttft, &percents);
    json_metric(out, "itl_quiet", &s->quiet, &percents);
    json_metric(out, "itl_beside", &s->beside, &percents);
    member(out, "itl_p99_ratio",
           samples_percentile(&s->beside, 99) / samples_percentile(&s->quiet, 99));
    close_with(out, "},");
}

static void json_lists(struct buf *out, const struct summary *s)
{
    buf_text(out, "\"slos\":[");
    for (int32_t i = 0; i < s->n_slos; i++) {
        buf_text(out, "{");
        member_text(out, "name", s->slo[i].name);
        member(out, "limit", s->slo[i].limit);
        member(out, "value", s->slo[i].value);
        buf_printf(out, "\"met\":%s},", s->slo[i].met ? "true" : "false");
    }
    close_with(out, "],\"faults\":{");
    for (int32_t i = 0; i < FAULTS_MAX && s->fault[i].n; i++) {
        buf_json_text(out, s->fault[i].name);
        buf_printf(out, ":%lld,", (long long)s->fault[i].n);
    }
    close_with(out, "},");
}

static void json_ours(struct buf *out, const struct run_report *r)
{
    const struct summary *s = r->summary;
    char hash[24];
    (void)snprintf(hash, sizeof(hash), "%016llx", (unsigned long long)s->answers);
    buf_text(out, "\"firstlight\":{");
    member(out, "version", FORM_VERSION);
    member_text(out, "answers", hash);
    member_text(out, "dataset", dataset_names[r->opt->dataset]);
    member(out, "seed", (double)r->opt->seed);
    member(out, "num_warmups", (double)r->n_warmups);
    member(out, "cancelled", (double)s->cancelled);
    member(out, "slow_readers", (double)s->slow);
    member(out, "total_cached_tokens", (double)s->cached_tokens);
    member(out, "tokens_per_event",
           s->events ? (double)s->output_tokens / (double)s->events : (double)NAN);
    member(out, "goodput_share", s->goodput_share);
    member(out, "client_cpu_share", r->cpu_share);
    member(out, "without_usage", (double)s->no_usage);
    member(out, "without_done", (double)s->no_done);
    buf_printf(out, "\"good\":%s,", summary_good(s) ? "true" : "false");
    json_check(out, r->check);
    if (r->opt->long_prompt)
        json_long(out, r);
    json_lists(out, s);
    close_with(out, "}");
}

void report_json(struct buf *out, const struct run_report *r, bool detailed)
{
    buf_text(out, "{");
    json_setup(out, r);
    json_counts(out, r->summary);
    if (detailed)
        json_details(out, r);
    member(out, "max_output_tokens_per_s", r->summary->max_tokens_per_s);
    member(out, "max_concurrent_requests", (double)r->summary->max_concurrent);
    member(out, "rtfx", 0);
    if (r->opt->ramp != RAMP_NONE)
        json_ramp(out, r);
    for (int32_t m = 0; m < N_METRICS; m++)
        if (r->opt->percentile_metrics & 1u << m)
            json_metric(out, metric_names[m], &r->summary->metric[m], &r->opt->percentiles);
    json_ours(out, r);
    buf_text(out, "}");
}

/* As vLLM names its files. */
void report_path(struct buf *out, const struct run_report *r)
{
    const struct serve_options *o = r->opt;
    const char *slash = strrchr(r->model_id, '/');
    if (o->result_dir)
        buf_printf(out, "%s/", o->result_dir);
    if (o->result_filename) {
        buf_text(out, o->result_filename);
        return;
    }
    buf_printf(out, "%s-", o->label ? o->label : serve_wires[o->backend].name);
    if (o->ramp != RAMP_NONE)
        buf_printf(out, "ramp-up-%s-%gqps-%gqps", ramp_names[o->ramp], o->ramp_start, o->ramp_end);
    else
        buf_printf(out, "%gqps", r->rate);
    if (r->max_concurrency)
        buf_printf(out, "-concurrency%lld", (long long)r->max_concurrency);
    buf_printf(out, "-%s-%s.json", slash ? slash + 1 : r->model_id, r->date);
}

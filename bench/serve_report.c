/* The table and the row. Both are lists of lines made from the same figures. */
#include "bench/serve_report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { TABLE_WIDTH = 50, NAME_WIDTH = 40, FAULTS_TEXT_BYTES = 512 };

/* Above it latencies may be this client's own. */
#define CPU_SHARE_WARN 0.8

static const struct {
    const char *name;
    const char *title;
} metric_titles[N_METRICS] = {
    [METRIC_TTFT] = {"TTFT", "Time to First Token"},
    [METRIC_TPOT] = {"TPOT", "Time per Output Token (excl. 1st token)"},
    [METRIC_ITL] = {"ITL", "Inter-token Latency"},
    [METRIC_E2EL] = {"E2EL", "End-to-end Latency"},
    [METRIC_QUEUE] = {"Client Queue Time", "Client-side Queueing"},
    [METRIC_E2EL_QUEUE] = {"E2EL incl. Client Queue", "Queue-inclusive End-to-end Latency"},
};

static void rule(struct buf *out, const char *title, char line)
{
    int blank = title[0] ? 2 : 0;
    int rest = TABLE_WIDTH - (int)strlen(title) - blank;
    int left = rest > 0 ? rest / 2 : 0;
    for (int i = 0; i < left; i++)
        buf_add(out, &line, 1);
    buf_printf(out, blank ? " %s " : "%s", title);
    for (int i = left; i < rest; i++)
        buf_add(out, &line, 1);
    buf_text(out, "\n");
}

static void row_count(struct buf *out, const char *name, int64_t n)
{
    buf_printf(out, "%-*s %lld\n", NAME_WIDTH, name, (long long)n);
}

static void row_number(struct buf *out, const char *name, double x)
{
    if (isnan(x))
        buf_printf(out, "%-*s -\n", NAME_WIDTH, name);
    else
        buf_printf(out, "%-*s %.2f\n", NAME_WIDTH, name, x);
}

static double per_second(int64_t n, double seconds)
{
    return seconds > 0 ? (double)n / seconds : (double)NAN;
}

static void table_counts(struct buf *out, const struct run_report *r)
{
    const struct summary *s = r->summary;
    row_count(out, "Successful requests:", s->completed);
    row_count(out, "Failed requests:", s->failed);
    if (s->cancelled)
        row_count(out, "Cancelled by the client:", s->cancelled);
    if (s->slow)
        row_count(out, "Slow readers (not in the times):", s->slow);
    if (r->max_concurrency)
        row_count(out, "Maximum request concurrency:", r->max_concurrency);
    if (isfinite(r->rate))
        row_number(out, "Request rate configured (RPS):", r->rate);
    row_number(out, "Benchmark duration (s):", s->seconds);
    row_count(out, "Total input tokens:", s->input_tokens);
    if (s->cached_tokens)
        row_count(out, "Of these from the prefix cache:", s->cached_tokens);
    row_count(out, "Total generated tokens:", s->output_tokens);
    row_number(out, "Request throughput (req/s):", per_second(s->completed, s->seconds));
    if (!isnan(s->goodput_share))
        row_number(out, "Request goodput (req/s):", per_second(s->good, s->seconds));
    row_number(out, "Output token throughput (tok/s):", per_second(s->output_tokens, s->seconds));
    row_number(out, "Peak output token throughput (tok/s):", s->max_tokens_per_s);
    row_number(out, "Peak concurrent requests:", (double)s->max_concurrent);
    row_number(out, "Total token throughput (tok/s):",
               per_second(s->input_tokens + s->output_tokens, s->seconds));
}

static void table_metric(struct buf *out, const struct run_report *r, enum metric m)
{
    const struct samples *s = &r->summary->metric[m];
    const char *name = metric_titles[m].name;
    char text[64];
    rule(out, metric_titles[m].title, '-');
    (void)snprintf(text, sizeof(text), "Mean %s (ms):", name);
    row_number(out, text, samples_mean(s));
    (void)snprintf(text, sizeof(text), "Median %s (ms):", name);
    row_number(out, text, samples_percentile(s, 50));
    for (int32_t i = 0; i < r->opt->percentiles.n; i++) {
        double p = r->opt->percentiles.item[i];
        (void)snprintf(text, sizeof(text), "P%.10g %s (ms):", p, name);
        row_number(out, text, samples_percentile(s, p));
    }
}

static void table_long(struct buf *out, const struct summary *s)
{
    rule(out, "Beside Long Prompts", '-');
    row_count(out, "Long prompts:", s->long_prompts);
    row_number(out, "Tokens of one:",
               s->long_prompts ? (double)s->long_input / (double)s->long_prompts : (double)NAN);
    row_number(out, "Median TTFT of one (ms):", samples_percentile(&s->long_ttft, 50));
    row_number(out, "P99 ITL without one (ms):", samples_percentile(&s->quiet, 99));
    row_number(out, "P99 ITL beside one (ms):", samples_percentile(&s->beside, 99));
    row_number(
        out, "P99 ratio:", samples_percentile(&s->beside, 99) / samples_percentile(&s->quiet, 99));
}

static void table_check(struct buf *out, const struct metrics_check *c)
{
    if (c->verdict == CHECKED_NOT) {
        buf_printf(out, "%-*s not compared: %s\n", NAME_WIDTH, "Server's /metrics:", c->note);
        return;
    }
    buf_printf(out, "%-*s %s\n", NAME_WIDTH,
               "Server's /metrics:", c->verdict == CHECKED_EQUAL ? "agree" : "DIFFER");
    for (int32_t i = 0; i < CHECK_ROWS; i++) {
        const struct check_row *row = &c->row[i];
        if (isnan(row->server))
            continue;
        buf_printf(out, "  %-*s %.10g here, %.10g there", NAME_WIDTH - 2, row->name,
                   round(row->client * 100) / 100, round(row->server * 100) / 100);
        if (i == CHECK_ROWS - 1)
            buf_printf(out, " (%g %% and %g ms allowed)", TTFT_TOLERANCE * 100, TTFT_TOLERANCE_MS);
        else if (c->note[0])
            buf_text(out, " (may be more)");
        buf_text(out, row->equal ? "\n" : "  DIFFERENT\n");
    }
}

static void faults_text(char *out, size_t room, const struct summary *s)
{
    size_t n = 0;
    out[0] = '\0';
    for (const struct fault_count *f = s->fault; f < s->fault + FAULTS_MAX && f->n > 0; f++) {
        int wrote =
            snprintf(out + n, room - n, "%s%s: %lld", n ? "; " : "", f->name, (long long)f->n);
        if (wrote < 0 || (size_t)wrote >= room - n)
            break;
        n += (size_t)wrote;
    }
}

static void table_checks(struct buf *out, const struct run_report *r)
{
    const struct summary *s = r->summary;
    char faults[FAULTS_TEXT_BYTES];
    faults_text(faults, sizeof(faults), s);
    rule(out, "Checks", '-');
    buf_printf(out, "%-*s %016llx\n", NAME_WIDTH,
               "Answers (hash):", (unsigned long long)s->answers);
    row_number(out, "Tokens per event:",
               s->events ? (double)s->output_tokens / (double)s->events : (double)NAN);
    buf_printf(out, "%-*s %.0f %%%s\n", NAME_WIDTH,
               "This client's share of a core:", r->cpu_share * 100,
               r->cpu_share > CPU_SHARE_WARN ? "  TOO MUCH: latencies may be its own" : "");
    if (s->no_usage)
        row_count(out, "Answers without usage (events counted):", s->no_usage);
    if (s->no_done)
        row_count(out, "Answers without [DONE]:", s->no_done);
    table_check(out, r->check);
    for (int32_t i = 0; i < s->n_slos; i++) {
        const struct slo *o = &s->slo[i];
        buf_printf(out, "%-*s %.4g, wanted %.4g: %s\n", NAME_WIDTH, o->name, o->value, o->limit,
                   o->met ? "met" : "MISSED");
    }
    if (faults[0])
        buf_printf(out, "%-*s %s\n", NAME_WIDTH, "Failures:", faults);
}

void report_table(struct buf *out, const struct run_report *r)
{
    rule(out, "Serving Benchmark Result", '=');
    table_counts(out, r);
    for (int32_t m = 0; m < N_METRICS; m++)
        if (r->opt->percentile_metrics & 1u << m)
            table_metric(out, r, (enum metric)m);
    if (r->opt->long_prompt)
        table_long(out, r->summary);
    table_checks(out, r);
    rule(out, "", '=');
}

/* ---- CSV ---- */

/* Either the names of the columns or their values. */
struct line {
    struct buf *out;
    bool header;
};

static void cell(const struct line *l, const char *name, const char *format, double x)
{
    if (l->header)
        buf_printf(l->out, "%s,", name);
    else if (!isfinite(x))
        buf_text(l->out, ",");
    else if (format[0] == '0')
        buf_printf(l->out, "%.0f,", x);
    else
        buf_printf(l->out, "%.2f,", x);
}

static void cell_word(const struct line *l, const char *name, const char *text)
{
    buf_printf(l->out, "%s,", l->header ? name : text);
}

static double mean(int64_t sum, int64_t n)
{
    return n > 0 ? (double)sum / (double)n : (double)NAN;
}

static void cells_ms(const struct line *l, const char *name, const struct samples *s, bool most)
{
    static const double percent[] = {50, 95, 99, 100};
    char column[48];
    for (size_t i = 0; i < ARRAY_LEN(percent) - !most; i++) {
        (void)snprintf(column, sizeof(column), percent[i] < 100 ? "%s_ms_p%.0f" : "%s_ms_max", name,
                       percent[i]);
        cell(l, column, "2", samples_percentile(s, percent[i]));
    }
}

static void csv_line(const struct line *l, const struct run_report *r)
{
    const struct summary *s = r->summary;
    bool lengthy = r->opt->long_prompt > 0;
    char faults[FAULTS_TEXT_BYTES];
    char hash[24];
    double n = (double)r->max_concurrency;
    faults_text(faults, sizeof(faults), s);
    (void)snprintf(hash, sizeof(hash), "%016llx", (unsigned long long)s->answers);
    cell_word(l, "load", lengthy ? "long" : isfinite(r->rate) ? "open" : "closed");
    cell(l, "streams", "0", n > 0 ? n : (double)NAN);
    cell(l, "rate_per_s", "2", r->rate);
    cell_word(l, "prompt", dataset_names[r->opt->dataset]);
    cell(l, "answered", "0", (double)s->completed);
    cell(l, "errors", "0", (double)s->failed);
    cell(l, "prompt_tokens", "2", mean(s->input_tokens, s->completed));
    cell(l, "cached_tokens", "2", mean(s->cached_tokens, s->completed));
    cell(l, "answer_tokens", "2", mean(s->output_tokens, s->completed));
    cells_ms(l, "ttft", &s->metric[METRIC_TTFT], false);
    cells_ms(l, "itl", &s->metric[METRIC_ITL], true);
    cells_ms(l, "e2e", &s->metric[METRIC_E2EL], false);
    cell(l, "tokens_per_s", "2", per_second(s->output_tokens, s->seconds));
    cell(l, "tokens_per_event", "2", mean(s->output_tokens, s->events));
    cell(l, "seconds", "2", s->seconds);
    if (lengthy) {
        cell(l, "long_prompts", "0", (double)s->long_prompts);
        cells_ms(l, "ttft_long", &s->long_ttft, true);
        cells_ms(l, "itl_quiet", &s->quiet, true);
        cells_ms(l, "itl_long", &s->beside, true);
        cell(l, "itl_p99_ratio", "2",
             samples_percentile(&s->beside, 99) / samples_percentile(&s->quiet, 99));
    }
    cell_word(l, "answers", hash);
    buf_printf(l->out, "%s\n", l->header ? "faults" : faults);
}

void report_csv(struct buf *out, const struct run_report *r, bool header)
{
    if (header)
        csv_line(&(struct line){out, true}, r);
    csv_line(&(struct line){out, false}, r);
}

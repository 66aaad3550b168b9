/* One pass over the records fills counters and samples; sorting comes last. */
#include "bench/serve_stats.h"

#include "bench/serve_random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SECONDS_MAX = 1 << 22 };

/* ---- samples ---- */

static bool add_sample(struct samples *s, double ms)
{
    if (s->n == s->room) {
        size_t room = s->room ? 2 * s->room : 256;
        double *more = realloc(s->ms, room * sizeof(*more));
        if (!more)
            return false;
        s->ms = more;
        s->room = room;
    }
    s->ms[s->n++] = ms;
    return true;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void sort(struct samples *s)
{
    if (s->n > 1)
        qsort(s->ms, s->n, sizeof(*s->ms), ascending);
}

double samples_percentile(const struct samples *s, double percent)
{
    if (s->n == 0)
        return (double)NAN;
    double at = percent / 100 * (double)(s->n - 1);
    size_t low = (size_t)floor(at);
    size_t high = low + 1 < s->n ? low + 1 : low;
    return s->ms[low] + (s->ms[high] - s->ms[low]) * (at - (double)low);
}

double samples_mean(const struct samples *s)
{
    double sum = 0;
    for (size_t i = 0; i < s->n; i++)
        sum += s->ms[i];
    return s->n ? sum / (double)s->n : (double)NAN;
}

double samples_std(const struct samples *s)
{
    double mean = samples_mean(s);
    double sum = 0;
    for (size_t i = 0; i < s->n; i++)
        sum += (s->ms[i] - mean) * (s->ms[i] - mean);
    return s->n ? sqrt(sum / (double)s->n) : (double)NAN;
}

/* ---- one record ---- */

static double ms_between(uint64_t from, uint64_t to)
{
    return to > from ? (double)(to - from) * 1e-6 : 0;
}

static void count_fault(struct summary *s, const char *name)
{
    struct fault_count *f = s->fault;
    s->failed++;
    while (f < s->fault + FAULTS_MAX - 1 && f->n > 0 && strcmp(f->name, name) != 0)
        f++;
    if (f == s->fault + FAULTS_MAX - 1)
        name = "other";
    (void)snprintf(f->name, sizeof(f->name), "%s", name);
    f->n++;
}

/* false: out of memory. */
static bool add_times(struct summary *s, const struct record *r, const double value[N_METRICS])
{
    bool good = true;
    for (int32_t m = 0; m < N_METRICS; m++)
        if (m != METRIC_ITL && !isnan(value[m]))
            good = good && add_sample(&s->metric[m], value[m]);
    for (size_t i = 0; i < r->n_gaps; i++)
        good = good && add_sample(&s->metric[METRIC_ITL], r->gap_us[i] * 1e-3);
    return good;
}

static void fill_times(double value[N_METRICS], const struct record *r)
{
    double ttft = ms_between(r->due_ns, r->first_ns);
    double e2el = ms_between(r->due_ns, r->last_ns > r->first_ns ? r->last_ns : r->first_ns);
    value[METRIC_TTFT] = ttft;
    value[METRIC_TPOT] =
        r->answer_tokens > 1 ? (e2el - ttft) / (double)(r->answer_tokens - 1) : (double)NAN;
    value[METRIC_ITL] = (double)NAN;
    value[METRIC_E2EL] = e2el;
    value[METRIC_QUEUE] = ms_between(r->due_ns, r->sent_ns);
    value[METRIC_E2EL_QUEUE] = e2el; /* it is in there already */
}

static bool is_good(const struct serve_options *o, const double value[N_METRICS])
{
    static const enum metric of[N_GOALS] = {METRIC_TTFT, METRIC_TPOT, METRIC_E2EL};
    for (int32_t i = 0; i < N_GOALS; i++)
        if (!isnan(o->goal_ms[i]) && value[of[i]] > o->goal_ms[i])
            return false; /* one token has no time between tokens, and NAN is not greater */
    return true;
}

static void count_for_server(struct summary *s, const struct record *r)
{
    /* A slow reader has the first text long after the server has let go of it. */
    if (r->first_ns && !r->slow) {
        s->first_sum_s += ms_between(r->sent_ns, r->first_ns) * 1e-3;
        s->first_n++;
    }
    if (!record_whole(r))
        return;
    s->all_whole++;
    s->all_input += r->prompt_tokens;
    s->all_output += r->answer_tokens;
}

static bool add_long(struct summary *s, const struct record *r)
{
    if (r->fault[0]) {
        count_fault(s, r->fault);
        return true;
    }
    s->long_prompts++;
    s->long_input += r->prompt_tokens;
    s->long_cached += r->cached_tokens;
    return add_sample(&s->long_ttft, ms_between(r->due_ns, r->first_ns));
}

static bool add_record(struct summary *s, const struct record *r, const struct serve_options *o,
                       int64_t sure)
{
    double value[N_METRICS];
    count_for_server(s, r);
    if (r->kind == RECORD_LONG)
        return add_long(s, r);
    if (r->fault[0]) {
        count_fault(s, r->fault);
        return true;
    }
    if (r->cancelled) {
        s->cancelled++;
        return true;
    }
    s->completed++;
    s->input_tokens += r->prompt_tokens;
    s->cached_tokens += r->cached_tokens;
    s->output_tokens += r->answer_tokens;
    s->events += r->events;
    s->no_usage += r->no_usage;
    s->no_done += r->no_done;
    if (r->index < sure)
        s->answers += mix(r->hash ^ mix((uint64_t)r->index));
    if (r->slow) {
        s->slow++;
        return true;
    }
    fill_times(value, r);
    s->good += is_good(o, value);
    return add_times(s, r, value);
}

/* ---- peaks ---- */

static int ascending_ns(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Most requests at once, a request being [sent, last): who leaves makes room first. */
static enum status find_most(struct summary *s, const struct record *records, int64_t n)
{
    uint64_t *from = calloc((size_t)n + 1, sizeof(*from));
    uint64_t *to = calloc((size_t)n + 1, sizeof(*to));
    int64_t k = 0;
    int64_t left = 0;
    for (int64_t i = 0; i < n && from && to; i++)
        if (record_whole(&records[i])) {
            from[k] = records[i].sent_ns;
            to[k++] = records[i].last_ns;
        }
    if (k > 1) {
        qsort(from, (size_t)k, sizeof(*from), ascending_ns);
        qsort(to, (size_t)k, sizeof(*to), ascending_ns);
    }
    for (int64_t i = 0; i < k; i++) {
        while (left < i && to[left] <= from[i])
            left++;
        s->max_concurrent = i - left + 1 > s->max_concurrent ? i - left + 1 : s->max_concurrent;
    }
    enum status st = from && to ? OK : E_NOMEM;
    free(from);
    free(to);
    return st;
}

/* Most tokens within a second of those that begin with the first request; an event stands for its
 * answer's tokens over its events, since tokens may come merged. A run of less than a second has
 * no peak but its mean. */
static enum status find_peak(struct summary *s, const struct record *records, int64_t n)
{
    uint64_t begin = UINT64_MAX;
    uint64_t end = 0;
    for (int64_t i = 0; i < n; i++)
        if (record_whole(&records[i])) {
            begin = records[i].sent_ns < begin ? records[i].sent_ns : begin;
            end = records[i].last_ns > end ? records[i].last_ns : end;
        }
    if (end <= begin || (end - begin) / 1000000000u >= SECONDS_MAX)
        return OK;
    size_t seconds = (size_t)((end - begin) / 1000000000u) + 1;
    double *tokens = calloc(seconds, sizeof(*tokens));
    if (!tokens)
        return E_NOMEM;
    for (int64_t i = 0; i < n; i++) {
        const struct record *r = &records[i];
        uint64_t at = r->first_ns;
        for (size_t j = 0; record_whole(r) && r->events > 0 && j <= r->n_gaps; j++) {
            size_t second = (size_t)((at - begin) / 1000000000u);
            tokens[second < seconds ? second : seconds - 1] +=
                (double)r->answer_tokens / (double)r->events;
            at += j < r->n_gaps ? (uint64_t)r->gap_us[j] * 1000 : 0;
        }
    }
    s->max_tokens_per_s = s->seconds > 0 ? (double)s->output_tokens / s->seconds : 0;
    for (size_t i = 0; i < seconds; i++)
        s->max_tokens_per_s = fmax(s->max_tokens_per_s, tokens[i]);
    free(tokens);
    return OK;
}

/* ---- beside long prompts ---- */

/* The time in which a long prompt was being computed. */
struct span {
    uint64_t from;
    uint64_t to;
};

static bool touches(const struct span *span, int64_t n, uint64_t from, uint64_t to)
{
    for (int64_t i = 0; i < n; i++)
        if (from < span[i].to && to > span[i].from)
            return true;
    return false;
}

static bool split_record(struct summary *s, const struct record *r, const struct span *span,
                         int64_t n)
{
    uint64_t at = r->first_ns;
    for (size_t j = 0; j < r->n_gaps; j++) {
        uint64_t next = at + (uint64_t)r->gap_us[j] * 1000;
        struct samples *to = touches(span, n, at, next) ? &s->beside : &s->quiet;
        if (!add_sample(to, r->gap_us[j] * 1e-3))
            return false;
        at = next;
    }
    return true;
}

static enum status split_gaps(struct summary *s, const struct record *records, int64_t n)
{
    struct span *span = calloc((size_t)n + 1, sizeof(*span));
    int64_t k = 0;
    bool good = span != NULL;
    for (int64_t i = 0; i < n && good; i++) {
        const struct record *r = &records[i];
        if (r->kind == RECORD_LONG)
            span[k++] = (struct span){r->sent_ns, r->first_ns ? r->first_ns : r->end_ns};
    }
    for (int64_t i = 0; i < n && good; i++)
        if (records[i].kind == RECORD_COUNTED && record_whole(&records[i]))
            good = split_record(s, &records[i], span, k);
    free(span);
    return good ? OK : E_NOMEM;
}

/* ---- all of it ---- */

static void judge(struct summary *s, const struct serve_options *o)
{
    static const char *const names[] = {"p99_ttft_ms", "p99_tpot_ms", "p99_itl_ms", "p99_e2el_ms"};
    if (!isnan(o->goodput_min))
        s->slo[s->n_slos++] = (struct slo){"goodput", o->goodput_min, s->goodput_share,
                                           s->goodput_share >= o->goodput_min};
    for (int32_t m = METRIC_TTFT; m <= METRIC_E2EL; m++) {
        double value = samples_percentile(&s->metric[m], 99);
        if (!isnan(o->max_p99[m]))
            s->slo[s->n_slos++] =
                (struct slo){names[m], o->max_p99[m], value, value <= o->max_p99[m]};
    }
}

enum status summary_fill(struct summary *out, const struct record *records, int64_t n,
                         const struct serve_options *o, double seconds, int64_t sure)
{
    enum status s = OK;
    *out = (struct summary){.seconds = seconds, .goodput_share = (double)NAN};
    for (int64_t i = 0; i < n && s == OK; i++)
        s = add_record(out, &records[i], o, sure) ? OK : E_NOMEM;
    if (s == OK)
        s = find_most(out, records, n);
    if (s == OK)
        s = find_peak(out, records, n);
    if (s == OK && o->long_prompt)
        s = split_gaps(out, records, n);
    for (int32_t m = 0; m < N_METRICS; m++)
        sort(&out->metric[m]);
    sort(&out->long_ttft);
    sort(&out->quiet);
    sort(&out->beside);
    int64_t promised = out->completed - out->slow + out->failed;
    if (o->goodput.n)
        out->goodput_share = promised ? (double)out->good / (double)promised : 0;
    judge(out, o);
    if (s)
        summary_free(out);
    return s;
}

void summary_free(struct summary *s)
{
    for (int32_t m = 0; m < N_METRICS; m++)
        free(s->metric[m].ms);
    free(s->long_ttft.ms);
    free(s->quiet.ms);
    free(s->beside.ms);
    *s = (struct summary){0};
}

bool summary_good(const struct summary *s)
{
    bool good = s->failed == 0 && (s->completed > 0 || s->cancelled > 0);
    for (int32_t i = 0; i < s->n_slos; i++)
        good = good && s->slo[i].met;
    return good;
}

/* Every wish is optional, and nonsense is none: a header that cannot be read costs no request. */
#include "server/wishes.h"

#include "server/text.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Longer budgets than a day mean nothing to a server that gives less. */
#define SECONDS_MAX 86400.0

/* A positive number as such headers have it; 0: none, or nonsense. */
static uint64_t nanoseconds(const char *text, double unit_s)
{
    char *end = NULL;
    if (!text || text[0] < '0' || text[0] > '9')
        return 0;
    errno = 0;
    double x = strtod(text, &end) * unit_s;
    if (errno || *end || !isfinite(x) || x <= 0)
        return 0;
    return (uint64_t)((x < SECONDS_MAX ? x : SECONDS_MAX) * 1e9);
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
    if (a == 0 || b == 0)
        return a + b;
    return a < b ? a : b;
}

void wishes_read(struct exchange *x, const struct http_request *r)
{
    struct wishes *w = &x->wish;
    const char *slo = http_header(r, "x-llm-d-slo-ttft-ms");
    const char *who = http_header(r, "x-llm-d-inference-fairness-id");
    const char *load = http_header(r, "endpoint-load-metrics-format");
    w->budget_ns = nanoseconds(http_header(r, "x-request-deadline-ms"), 1e-3);
    w->patience_ns = nanoseconds(http_header(r, "x-stainless-timeout"), 1);
    w->ttft_slo_ns = nanoseconds(slo ? slo : http_header(r, "x-slo-ttft-ms"), 1e-3);
    if (who && who[0])
        w->group = text_hash(who, strlen(who)) | 1;
    if (load && strcasecmp(load, "TEXT") == 0)
        w->load = LOAD_TEXT;
    else if (load && strcasecmp(load, "JSON") == 0)
        w->load = LOAD_JSON;
}

/* Those who share no key share no computed beginnings, and within a key those who share no salt:
 * what one has asked must not be told by how fast another is answered. */
static uint64_t mixed(uint64_t key, uint64_t salt)
{
    return salt ? (key ^ salt) * 0x9e3779b97f4a7c15u : key;
}

void wishes_apply(const struct exchange *x, struct gen_request *r, uint64_t ms_max)
{
    struct sched_params *p = &r->params;
    uint64_t most = sooner(ms_max * 1000000u, x->wish.budget_ns);
    /* A client that waits for the first byte only has it early in a stream. */
    if (!r->stream)
        most = sooner(most, x->wish.patience_ns);
    p->deadline_ns = x->arrived_ns + most;
    p->ttft_slo_ns = x->wish.ttft_slo_ns;
    p->client = mixed(x->holder.id, x->wish.group);
    p->cache_salt = mixed(x->holder.id, r->salt);
    p->priority = -r->priority;
}

void wishes_load_line(char out[LOAD_LINE_MAX], const struct exchange *x,
                      const struct sched_stats *stats)
{
    double used = stats->blocks_total > 0 ? (double)stats->blocks_used / stats->blocks_total : 0;
    out[0] = '\0';
    if (x->wish.load == LOAD_TEXT)
        (void)snprintf(out, LOAD_LINE_MAX,
                       "endpoint-load-metrics: TEXT named_metrics.kv_cache_usage_perc=%.4g, "
                       "named_metrics.num_requests_waiting=%d, "
                       "named_metrics.num_requests_running=%d\r\n",
                       used, stats->waiting, stats->running);
    else if (x->wish.load == LOAD_JSON)
        (void)snprintf(out, LOAD_LINE_MAX,
                       "endpoint-load-metrics: JSON {\"named_metrics\":{"
                       "\"kv_cache_usage_perc\":%.4g,\"num_requests_waiting\":%d,"
                       "\"num_requests_running\":%d}}\r\n",
                       used, stats->waiting, stats->running);
}

static size_t limit_of(char *out, size_t room, const char *what, int64_t limit, int64_t used,
                       uint64_t reset_ns)
{
    int64_t left = used < limit ? limit - used : 0;
    int n = snprintf(out, room,
                     "x-ratelimit-limit-%s: %lld\r\nx-ratelimit-remaining-%s: %lld\r\n"
                     "x-ratelimit-reset-%s: %.3fs\r\n",
                     what, (long long)limit, what, (long long)left, what, (double)reset_ns * 1e-9);
    return n > 0 && (size_t)n < room ? (size_t)n : 0;
}

void wishes_limit_lines(char out[LIMIT_LINES_MAX], const struct sched_options *limits,
                        const struct sched_stats *stats)
{
    int64_t alive = (int64_t)stats->running + stats->waiting;
    uint64_t empty_ns = (uint64_t)stats->waiting * stats->leave_ns;
    size_t n = limit_of(out, LIMIT_LINES_MAX, "requests", limits->live_max, alive, empty_ns);
    if (limits->queue_tokens_max > 0)
        n += limit_of(out + n, LIMIT_LINES_MAX - n, "tokens", limits->queue_tokens_max,
                      stats->waiting_tokens, stats->backlog_ns);
    out[n] = '\0';
}

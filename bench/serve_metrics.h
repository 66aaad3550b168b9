#ifndef BENCH_SERVE_METRICS_H
#define BENCH_SERVE_METRICS_H

#include "bench/serve_stats.h"
#include "bench/serve_target.h"

/* What the server says it did, beside what the client saw. Pure but for metrics_fetch(). */

enum server_count {
    SERVER_REQUESTS,
    SERVER_PROMPT_TOKENS,
    SERVER_ANSWER_TOKENS,
    SERVER_TTFT_SUM, /* seconds */
    SERVER_TTFT_N,
    N_SERVER_COUNTS,
};

struct server_counts {
    double value[N_SERVER_COUNTS]; /* NAN: not told */
};

/* Prometheus text, series of a name summed. false: nothing known in it. */
bool metrics_read(struct server_counts *out, const char *text, size_t bytes);
/* false: the server has no /metrics, or none that is understood. */
bool metrics_fetch(struct server_counts *out, const struct serve_target *t);

enum { CHECK_ROWS = 4 };

enum check_verdict { CHECKED_NOT, CHECKED_EQUAL, CHECKED_DIFFERENT };

struct metrics_check {
    enum check_verdict verdict;
    const char *note; /* why not, or how to read it; "" */
    struct check_row {
        const char *name;
        double client;
        double server; /* NAN: not told */
        bool equal;
    } row[CHECK_ROWS];
};

/* From before to after the run. Counts must be equal; with requests that hung up or failed the
 * server may have more. The time to the first token is the mean as the client saw it from sending,
 * and may differ by TTFT_TOLERANCE of itself and TTFT_TOLERANCE_MS. */
#define TTFT_TOLERANCE    0.25
#define TTFT_TOLERANCE_MS 5.0
void metrics_compare(struct metrics_check *out, const struct server_counts *before,
                     const struct server_counts *after, const struct summary *s);

#endif

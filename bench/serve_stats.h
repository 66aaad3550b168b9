#ifndef BENCH_SERVE_STATS_H
#define BENCH_SERVE_STATS_H

#include "bench/serve_options.h"
#include "bench/serve_record.h"

/* Records of a run -> its figures, defined as vLLM's tool defines them unless said otherwise in
 * bench/README.md. Pure: no clock, no output. */

enum { FAULTS_MAX = 16, SLOS_MAX = 8 };

struct samples {
    double *ms; /* [n], ascending once the summary is filled */
    size_t n;
    size_t room;
};

/* As numpy: between two samples on a straight line. NAN when there are none. */
double samples_percentile(const struct samples *s, double percent);
double samples_mean(const struct samples *s);
double samples_std(const struct samples *s); /* of these, not of a population they stand for */

struct fault_count {
    char name[FAULT_NAME_MAX];
    int64_t n;
};

struct slo {
    const char *name;
    double limit;
    double value;
    bool met;
};

struct summary {
    int64_t completed; /* whole answers, slow readers' too */
    int64_t failed;
    int64_t cancelled;
    int64_t slow;
    int64_t good;
    int64_t input_tokens;
    int64_t cached_tokens;
    int64_t output_tokens;
    int64_t events;
    int64_t no_usage;
    int64_t no_done;
    double seconds;
    double goodput_share; /* NAN: no goals */
    double max_tokens_per_s;
    int64_t max_concurrent;
    uint64_t answers; /* over texts, in no order */
    struct samples metric[N_METRICS];
    struct fault_count fault[FAULTS_MAX];
    struct slo slo[SLOS_MAX];
    int32_t n_slos;

    /* For the comparison with what the server counted: everything that it has finished. */
    int64_t all_whole;
    int64_t all_input;
    int64_t all_output;
    double first_sum_s; /* from sending to the first text */
    int64_t first_n;

    /* Beside long prompts; metric[METRIC_ITL] has all gaps. */
    int64_t long_prompts;
    int64_t long_input;
    int64_t long_cached;
    struct samples long_ttft;
    struct samples quiet; /* gaps while no long prompt was computed */
    struct samples beside;
};

/* Records in any order. sure: those below that index are always made, so the hash is over them.
 * E_NOMEM. */
enum status summary_fill(struct summary *out, const struct record *records, int64_t n,
                         const struct serve_options *o, double seconds, int64_t sure) MUST_CHECK;
void summary_free(struct summary *s);

/* Nobody failed, and every objective was met. */
bool summary_good(const struct summary *s);

#endif

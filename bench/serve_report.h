#ifndef BENCH_SERVE_REPORT_H
#define BENCH_SERVE_REPORT_H

#include "bench/serve_metrics.h"

/* A run's figures in three forms: the closing table and the JSON object of `vllm bench serve`, and
 * a row of CSV. What is ours stands behind theirs, in JSON under the one key "firstlight". */

struct run_report {
    const struct serve_options *opt;
    const struct summary *summary;
    const struct metrics_check *check;
    const struct record *records; /* [n_records] by index, those of long prompts among them */
    int64_t n_records;
    const char *model_id;
    const char *tokenizer; /* how prompt tokens were counted */
    char date[32];
    double began;      /* seconds of unix time when the run did ... */
    uint64_t begin_ns; /* ... and on the clock of the records */
    double rate;       /* INFINITY: none */
    int64_t max_concurrency;
    int64_t n_prompts;
    int64_t n_warmups;
    double cpu_share; /* of one core, this client's */
};

void report_json(struct buf *out, const struct run_report *r, bool detailed);
void report_table(struct buf *out, const struct run_report *r);
void report_csv(struct buf *out, const struct run_report *r, bool header);
/* Where --save-result writes, a path. */
void report_path(struct buf *out, const struct run_report *r);

#endif

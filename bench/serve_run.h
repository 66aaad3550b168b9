#ifndef BENCH_SERVE_RUN_H
#define BENCH_SERVE_RUN_H

#include "bench/serve_data.h"
#include "bench/serve_record.h"

/* The generator: connections, clock and one loop in one thread. Connections outlive runs. */

struct generator;

/* Warm ones are short, made of random words, and not counted; every other field then is the
 * caller's. */
struct run_spec {
    double rate;             /* INFINITY: none */
    int64_t max_concurrency; /* 0: no bound */
    uint64_t nth;            /* of the prompts: equal numbers give equal prompts */
    bool warm;
    int64_t requests; /* of a warm run, below likewise */
    int64_t prompt_tokens;
    int64_t output_tokens;
};

struct run_result {
    struct record *records; /* [n], in the order of their ends */
    int64_t n;
    int64_t n_prompts; /* that were to be sent */
    int64_t sure;      /* requests below that index are made however fast the server is */
    uint64_t begin_ns;
    double seconds;
    double cpu_share;
};

/* All are borrowed; data may be NULL until a run that is not warm. E_NOMEM, E_IO. */
enum status generator_open(struct generator **out, const struct serve_options *o,
                           const struct serve_target *t, const struct words *words) MUST_CHECK;
void generator_use(struct generator *g, const struct dataset *data);
void generator_close(struct generator *g);
/* The user has interrupted a run, which then ended early: no other should follow. */
bool generator_stopped(const struct generator *g);

/* E_NOMEM; E_INVALID: more requests than a schedule holds. */
enum status generator_run(struct run_result *out, struct generator *g,
                          const struct run_spec *spec) MUST_CHECK;
void run_result_free(struct run_result *r);

#endif

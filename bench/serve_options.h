#ifndef BENCH_SERVE_OPTIONS_H
#define BENCH_SERVE_OPTIONS_H

#include "kernels/base.h"
#include "server/buf.h"

/* The command line of the load generator. Names, defaults and meanings are those of `vllm bench
 * serve` wherever it has the option; one table says all of it, and parsing, defaults and --help
 * come from there. Strings point into argv. */

enum {
    OPTION_WORDS_MAX = 32,
    OPTION_NUMBERS_MAX = 16,
    OPTION_ERROR_BYTES = 256,
};

/* In the order of the choices in the table. */
enum option_dataset { DATA_RANDOM, DATA_SHAREGPT, DATA_PREFIX, DATA_CUSTOM };
enum option_tokenizer { TOKENS_AUTO, TOKENS_SERVER, TOKENS_USAGE, TOKENS_IDS };
enum option_ramp { RAMP_NONE, RAMP_LINEAR, RAMP_EXPONENTIAL };
enum option_check { CHECK_AUTO, CHECK_OFF, CHECK_REQUIRE };

/* Bits of percentile_metrics, and where a metric stands in a summary. */
enum metric {
    METRIC_TTFT,
    METRIC_TPOT,
    METRIC_ITL,
    METRIC_E2EL,
    METRIC_QUEUE,
    METRIC_E2EL_QUEUE,
    N_METRICS,
};

/* Of a goodput objective: the first, second and fourth of these can be promised to a request. */
enum { GOAL_TTFT, GOAL_TPOT, GOAL_E2EL, N_GOALS };

struct option_words {
    const char *item[OPTION_WORDS_MAX];
    int32_t n;
};

struct option_numbers {
    double item[OPTION_NUMBERS_MAX];
    int32_t n;
};

struct serve_options {
    int32_t backend;      /* row of serve_wires */
    const char *base_url; /* NULL: host and port */
    const char *host;
    int64_t port;
    const char *endpoint; /* NULL: the backend's */
    const char *model;    /* NULL: the server's first */
    const char *served_model_name;
    int32_t tokenizer; /* enum option_tokenizer */
    struct option_words headers;
    double timeout;

    int32_t dataset; /* enum option_dataset */
    const char *dataset_path;
    int64_t input_len; /* 0: each dataset's own, likewise below */
    int64_t output_len;
    int64_t random_input_len;
    int64_t random_output_len;
    double random_range_ratio;
    int64_t random_prefix_len;
    int64_t prefix_prefix_len;
    int64_t prefix_suffix_len;
    int64_t prefix_num_prefixes;
    int64_t prefix_output_len;
    int64_t sharegpt_output_len; /* 0: as long as the file's answers */
    int64_t custom_output_len;   /* -1: what each line says */
    bool disable_shuffle;
    bool no_oversample;
    bool same_prompts;

    double request_rate; /* INFINITY: no clock */
    double burstiness;
    int64_t max_concurrency; /* 0: no bound */
    int32_t ramp;            /* enum option_ramp */
    double ramp_start;
    double ramp_end;
    int64_t num_prompts; /* 0: 1000, or as many as fit into the duration */
    double duration;     /* 0: until all are sent */
    int64_t num_warmups; /* -1: one per stream */
    double ready_check_timeout;
    int64_t seed;
    struct option_numbers sweep_rates;
    struct option_numbers sweep_concurrency;
    double cancel_rate;
    double slow_readers;
    int64_t slow_bytes; /* per second */
    int64_t long_prompt;

    bool ignore_eos;
    /* NAN: not sent */
    double temperature;
    double top_p;
    double top_k;
    double min_p;
    double frequency_penalty;
    double presence_penalty;
    double repetition_penalty;
    const char *extra_body; /* NULL, or a JSON object */

    uint32_t percentile_metrics; /* bits of enum metric */
    struct option_numbers percentiles;
    struct option_words goodput;
    double goal_ms[N_GOALS]; /* NAN: none */
    double goodput_min;      /* NAN: none, likewise below */
    double max_p99[METRIC_E2EL + 1];
    int32_t check; /* enum option_check */

    bool save_result;
    bool save_detailed;
    bool append_result;
    const char *result_dir;
    const char *result_filename;
    const char *label;
    struct option_words metadata;
    const char *request_id_prefix; /* NULL: a random one */
    bool disable_tqdm;
    bool csv;
    bool json;
    bool help;
};

/* argv[0] is skipped. E_INVALID with one line in err. */
enum status serve_options_parse(struct serve_options *out, int argc, char **argv,
                                char err[OPTION_ERROR_BYTES]) MUST_CHECK;
void serve_options_help(struct buf *out);

/* "ttft" ... "e2el_including_client_queue" */
extern const char *const metric_names[N_METRICS];
extern const char *const dataset_names[];
extern const char *const ramp_names[];
extern const char *const goal_names[N_GOALS];

#endif

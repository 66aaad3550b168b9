#ifndef SERVER_OPTIONS_H
#define SERVER_OPTIONS_H

#include "kernels/base.h"

#include <stdio.h>

/* The command line. One table in options_table.c names every option with its type, range,
 * default and help; parsing, the environment, --help and the messages about mistakes
 * all come from it. Strings point into argv and the environment. */

enum command {
    CMD_NONE,
    CMD_SERVE,
    CMD_RUN,
    CMD_INSPECT,
    CMD_CONVERT,
    CMD_HELP,
    CMD_VERSION,
};

enum { SERVED_NAMES_MAX = 8, SERVED_NAME_BYTES_MAX = 128, OPTION_ERROR_MAX = 256 };

/* Indices of the choices, in the order of the table. */
enum backend_choice { BACKEND_AUTO, BACKEND_CPU, BACKEND_CUDA };
enum number_choice { NUMBERS_Q8, NUMBERS_F32, NUMBERS_F16 }; /* of kv: as enum model_kv */
enum acts_choice { ACTIVATIONS_AUTO, ACTIVATIONS_Q8, ACTIVATIONS_F32 }; /* as enum model_acts */
enum log_choice { LOG_FORM_TEXT, LOG_FORM_JSON };
enum access_choice { ACCESS_OFF, ACCESS_LOGFMT, ACCESS_JSON };

struct served_names {
    char name[SERVED_NAMES_MAX][SERVED_NAME_BYTES_MAX];
    int32_t n;
    bool of_env; /* not from the command line, which would replace them */
};

/* Of an option that may be given more than once. */
enum { TEXT_LIST_MAX = 16 };
struct text_list {
    const char *item[TEXT_LIST_MAX];
    int32_t n;
    bool of_env; /* as above */
};

struct options {
    enum command command;
    enum command about; /* CMD_HELP: the command in question, or CMD_NONE */

    struct text_list models;  /* PATH or NAME=PATH; none: the bundled demo model */
    struct text_list aliases; /* NAME, of the first model, or NAME=MODEL */
    struct served_names names;
    const char *chat_template; /* "": the model's own */
    int32_t backend;           /* enum backend_choice */
    int32_t threads;
    int32_t context;
    int32_t weights;     /* enum number_choice */
    int32_t activations; /* enum acts_choice */
    int32_t kv;          /* enum number_choice */
    size_t kv_bytes;
    bool probe;      /* inspect: load, and say what the probe chose */
    const char *dst; /* convert: where to */

    int32_t max_seqs;
    int32_t max_queue;
    int32_t max_queue_tokens;
    int32_t ttft_slo_ms;
    int32_t step_rows;
    bool no_prefix_cache;
    bool plan;
    size_t assume_memory;

    const char *host;
    int32_t port;
    struct text_list listen; /* none: host and port */
    int32_t unix_mode;
    struct text_list api_key;
    const char *api_keys_file; /* "": none */
    const char *tls_cert;      /* "": no TLS */
    const char *tls_key;
    struct text_list cors_origin;
    bool insecure;
    bool workers_padding;
    int32_t max_conns;
    int32_t address_conns; /* 0: no limit */
    int32_t conn_requests; /* 0: no limit */
    size_t ahead_bytes;
    size_t bodies_bytes;
    size_t body_rate; /* bytes a second, 0: no limit */
    uint64_t handshake_ms;
    uint64_t ping_ms;
    uint64_t drain_grace_ms;
    size_t head_bytes;
    int32_t head_fields;
    size_t target_bytes;
    size_t body_bytes;
    uint64_t head_ms;
    uint64_t body_ms;
    uint64_t idle_ms;
    uint64_t write_ms;
    uint64_t request_ms;
    uint64_t stall_ms; /* work and no step for this long: not ready */
    uint64_t drain_delay_ms;
    uint64_t drain_ms;

    bool check; /* inspect: read and judge all of it */

    const char *prompt; /* run: "-" reads standard input */
    const char *system; /* run: "" none */
    bool raw;
    int32_t max_tokens;
    double temperature; /* negative: what the model asks for */
    double top_p;
    int32_t top_k;
    int32_t seed; /* 0: a random one */

    int32_t log;             /* enum log_choice */
    int32_t log_level;       /* enum log_level */
    int32_t access_log;      /* enum access_choice */
    const char *access_file; /* "": standard error */
};

/* Defaults, then the environment, then argv. E_INVALID: err, of OPTION_ERROR_MAX bytes, is one
 * line for the user. */
enum status options_parse(struct options *out, int argc, char **argv, char *err,
                          size_t err_size) MUST_CHECK;

/* about CMD_NONE: the overview of the commands. */
void options_help(FILE *to, enum command about);

/* Fit for JSON, header lines and labels of metrics. */
bool options_name_is_sane(const char *name, size_t n);

/* "auto", "cpu", "cuda". */
const char *options_backend(const struct options *o);
const char *options_kv(const struct options *o); /* "q8", "f32", "f16" */

#endif

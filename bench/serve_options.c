/* The table of options and what reads it. Values of the command line and the defaults go through
 * the same set_value(), so a default outside its own range cannot stay unseen. What concerns two
 * options at once is checked last, in judge(). */
#include "bench/serve_options.h"

#include "bench/serve_wire.h"
#include "server/json.h"
#include "server/spelling.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HELP_FLAG_WIDTH = 36, HELP_WIDTH = 100, FLAG_BYTES_MAX = 64, TEXT_BYTES_MAX = 1 << 20 };

enum value_type {
    VALUE_TEXT,
    VALUE_INT,
    VALUE_NUMBER, /* without a default: NAN */
    VALUE_FLAG,
    VALUE_CHOICE,  /* int32_t */
    VALUE_CHOICES, /* bits of uint32_t, several with commas */
    VALUE_NUMBERS, /* several with commas */
    VALUE_WORDS,   /* all arguments up to the next option */
};

struct value_row {
    const char *name;
    enum value_type type;
    size_t at;
    double min;
    double max;
    const char *standard; /* the default, NULL: none */
    const char *choices;  /* with | between */
    const char *help;
};

const char *const metric_names[N_METRICS] = {
    [METRIC_TTFT] = "ttft",
    [METRIC_TPOT] = "tpot",
    [METRIC_ITL] = "itl",
    [METRIC_E2EL] = "e2el",
    [METRIC_QUEUE] = "client_queue_time",
    [METRIC_E2EL_QUEUE] = "e2el_including_client_queue",
};
const char *const dataset_names[] = {"random", "sharegpt", "prefix_repetition", "custom"};
const char *const ramp_names[] = {"none", "linear", "exponential"};
const char *const goal_names[N_GOALS] = {"ttft", "tpot", "e2el"};

#define AT(member)  offsetof(struct serve_options, member)
#define TOKENS_MOST 10000000
#define METRICS     "ttft|tpot|itl|e2el|client_queue_time|e2el_including_client_queue"

static const struct value_row server_rows[] = {
    {"backend", VALUE_CHOICE, AT(backend), 0, 0, "openai", SERVE_WIRE_NAMES,
     "what the server speaks; vllm is another word for openai, the completions API"},
    {"base-url", VALUE_TEXT, AT(base_url), 0, 0, NULL, NULL,
     "http://HOST:PORT[/PATH] instead of host and port"},
    {"host", VALUE_TEXT, AT(host), 0, 0, "127.0.0.1", NULL, "name or address"},
    {"port", VALUE_INT, AT(port), 1, 65535, "8000", NULL, "TCP port"},
    {"endpoint", VALUE_TEXT, AT(endpoint), 0, 0, NULL, NULL,
     "path behind the base (the backend's own; {model} stands for the model's name)"},
    {"model", VALUE_TEXT, AT(model), 0, 0, NULL, NULL, "(the first that /v1/models names)"},
    {"served-model-name", VALUE_TEXT, AT(served_model_name), 0, 0, NULL, NULL,
     "the name to send, where it is not --model"},
    {"tokenizer", VALUE_CHOICE, AT(tokenizer), 0, 0, "auto", "auto|server|usage|ids",
     "who counts prompt tokens: the server's /tokenize; two requests and their usage; ids: "
     "/tokenize, and prompts are sent as token ids; auto: the first of these that works"},
    {"header", VALUE_WORDS, AT(headers), 0, 0, NULL, NULL,
     "KEY=VALUE ... sent with each request; OPENAI_API_KEY of the environment is sent too"},
    {"timeout", VALUE_NUMBER, AT(timeout), 0.1, 1e5, "120", NULL,
     "seconds without a byte after which a request has failed"},
};

static const struct value_row data_rows[] = {
    {"dataset-name", VALUE_CHOICE, AT(dataset), 0, 0, "random",
     "random|sharegpt|prefix_repetition|custom", "where prompts come from"},
    {"dataset-path", VALUE_TEXT, AT(dataset_path), 0, 0, NULL, NULL,
     "sharegpt: a JSON file; custom: JSON lines with \"prompt\""},
    {"input-len", VALUE_INT, AT(input_len), 0, TOKENS_MOST, "0", NULL,
     "the same as --random-input-len"},
    {"output-len", VALUE_INT, AT(output_len), 0, TOKENS_MOST, "0", NULL,
     "answer tokens, for any dataset"},
    {"random-input-len", VALUE_INT, AT(random_input_len), 1, TOKENS_MOST, "1024", NULL,
     "prompt tokens"},
    {"random-output-len", VALUE_INT, AT(random_output_len), 1, TOKENS_MOST, "128", NULL,
     "answer tokens"},
    {"random-range-ratio", VALUE_NUMBER, AT(random_range_ratio), 0, 0.999999, "0", NULL,
     "R draws both lengths from [len * (1 - R), len * (1 + R)]"},
    {"random-prefix-len", VALUE_INT, AT(random_prefix_len), 0, TOKENS_MOST, "0", NULL,
     "tokens before these, the same in all requests"},
    {"prefix-repetition-prefix-len", VALUE_INT, AT(prefix_prefix_len), 0, TOKENS_MOST, "256", NULL,
     "tokens of a prefix"},
    {"prefix-repetition-suffix-len", VALUE_INT, AT(prefix_suffix_len), 1, TOKENS_MOST, "256", NULL,
     "tokens behind it, each request's own"},
    {"prefix-repetition-num-prefixes", VALUE_INT, AT(prefix_num_prefixes), 1, 1e6, "10", NULL,
     "different prefixes"},
    {"prefix-repetition-output-len", VALUE_INT, AT(prefix_output_len), 1, TOKENS_MOST, "128", NULL,
     "answer tokens"},
    {"sharegpt-output-len", VALUE_INT, AT(sharegpt_output_len), 0, TOKENS_MOST, "0", NULL,
     "answer tokens, 0: as many as the file's answer has"},
    {"custom-output-len", VALUE_INT, AT(custom_output_len), -1, TOKENS_MOST, "256", NULL,
     "answer tokens, -1: the line's \"output_tokens\""},
    {"disable-shuffle", VALUE_FLAG, AT(disable_shuffle), 0, 0, NULL, NULL,
     "keep the order of the file"},
    {"no-oversample", VALUE_FLAG, AT(no_oversample), 0, 0, NULL, NULL,
     "send no prompt of a file twice"},
    {"seed", VALUE_INT, AT(seed), 0, 1e9, "0", NULL, "of prompts, arrivals and sampling"},
    {"same-prompts", VALUE_FLAG, AT(same_prompts), 0, 0, NULL, NULL,
     "every run of a sweep sends the prompts of the first: answers must be equal, caches will "
     "help"},
};

static const struct value_row load_rows[] = {
    {"request-rate", VALUE_NUMBER, AT(request_rate), 1e-6, (double)INFINITY, "inf", NULL,
     "arrivals per second; inf: all at once, or as the concurrency allows"},
    {"burstiness", VALUE_NUMBER, AT(burstiness), 1e-6, (double)INFINITY, "1", NULL,
     "shape of the gamma distribution of gaps: 1 Poisson, inf like a clock"},
    {"max-concurrency", VALUE_INT, AT(max_concurrency), 0, 100000, "0", NULL,
     "requests at once, 0: no bound; with --request-rate inf a closed loop"},
    {"ramp-up-strategy", VALUE_CHOICE, AT(ramp), 0, 0, "none", "none|linear|exponential",
     "let the rate grow over the run"},
    {"ramp-up-start-rps", VALUE_NUMBER, AT(ramp_start), 1e-6, 1e6, NULL, NULL, "from"},
    {"ramp-up-end-rps", VALUE_NUMBER, AT(ramp_end), 1e-6, 1e6, NULL, NULL, "to"},
    {"num-prompts", VALUE_INT, AT(num_prompts), 0, 1e8, "0", NULL,
     "requests of a run, 0: 1000, with --duration as many as fit"},
    {"duration", VALUE_NUMBER, AT(duration), 0, 1e6, "0", NULL,
     "seconds in which requests are sent, 0: until all are"},
    {"num-warmups", VALUE_INT, AT(num_warmups), -1, 1e6, "-1", NULL,
     "short answers before each run, -1: one per stream, at least 4"},
    {"ready-check-timeout-sec", VALUE_NUMBER, AT(ready_check_timeout), 0, 1e5, "0", NULL,
     "wait so long for a first answer"},
    {"sweep-request-rate", VALUE_NUMBERS, AT(sweep_rates), 1e-6, (double)INFINITY, NULL, NULL,
     "1,2,4: a run at each rate"},
    {"sweep-max-concurrency", VALUE_NUMBERS, AT(sweep_concurrency), 1, 100000, NULL, NULL,
     "1,4,16: a run at each concurrency"},
    {"cancel-rate", VALUE_NUMBER, AT(cancel_rate), 0, 1, "0", NULL,
     "share of requests that hang up after a random number of tokens"},
    {"slow-readers", VALUE_NUMBER, AT(slow_readers), 0, 1, "0", NULL,
     "share of requests that read little by little"},
    {"slow-bytes", VALUE_INT, AT(slow_bytes), 100, 1e9, "2000", NULL, "bytes they read a second"},
    {"long-prompt", VALUE_INT, AT(long_prompt), 0, TOKENS_MOST, "0", NULL,
     "tokens of a prompt that comes again and again beside --max-concurrency steady streams; "
     "--num-prompts counts these, 20 if it is not given"},
};

static const struct value_row sampling_rows[] = {
    {"ignore-eos", VALUE_FLAG, AT(ignore_eos), 0, 0, NULL, NULL,
     "answers are as long as they may be; the dataset random always wants it"},
    {"temperature", VALUE_NUMBER, AT(temperature), 0, 5, NULL, NULL,
     "(the server's, likewise below)"},
    {"top-p", VALUE_NUMBER, AT(top_p), 0, 1, NULL, NULL, ""},
    {"top-k", VALUE_NUMBER, AT(top_k), -1, 1e6, NULL, NULL, ""},
    {"min-p", VALUE_NUMBER, AT(min_p), 0, 1, NULL, NULL, ""},
    {"frequency-penalty", VALUE_NUMBER, AT(frequency_penalty), -2, 2, NULL, NULL, ""},
    {"presence-penalty", VALUE_NUMBER, AT(presence_penalty), -2, 2, NULL, NULL, ""},
    {"repetition-penalty", VALUE_NUMBER, AT(repetition_penalty), 0, 10, NULL, NULL, ""},
    {"extra-body", VALUE_TEXT, AT(extra_body), 0, 0, NULL, NULL,
     "JSON object whose members go into each request, over ours"},
    {"request-id-prefix", VALUE_TEXT, AT(request_id_prefix), 0, 0, NULL, NULL,
     "of x-request-id (bench- and a random number)"},
};

static const struct value_row result_rows[] = {
    {"percentile-metrics", VALUE_CHOICES, AT(percentile_metrics), 0, 0, "ttft,tpot,itl,e2el",
     METRICS, "what is reported, with commas"},
    {"metric-percentiles", VALUE_NUMBERS, AT(percentiles), 0, 100, "99", NULL,
     "25,50,99: percentiles of each"},
    {"goodput", VALUE_WORDS, AT(goodput), 0, 0, NULL, NULL,
     "ttft:MS tpot:MS e2el:MS: what a good request keeps"},
    {"goodput-min", VALUE_NUMBER, AT(goodput_min), 0, 1, NULL, NULL,
     "share of requests that must be good, else the exit status is 1"},
    {"max-ttft-p99", VALUE_NUMBER, AT(max_p99[METRIC_TTFT]), 0, 1e9, NULL, NULL,
     "milliseconds that may not be exceeded, likewise below"},
    {"max-tpot-p99", VALUE_NUMBER, AT(max_p99[METRIC_TPOT]), 0, 1e9, NULL, NULL, ""},
    {"max-itl-p99", VALUE_NUMBER, AT(max_p99[METRIC_ITL]), 0, 1e9, NULL, NULL, ""},
    {"max-e2el-p99", VALUE_NUMBER, AT(max_p99[METRIC_E2EL]), 0, 1e9, NULL, NULL, ""},
    {"check-metrics", VALUE_CHOICE, AT(check), 0, 0, "auto", "auto|off|require",
     "compare with what the server counted in /metrics; require: a difference is a failure"},
    {"save-result", VALUE_FLAG, AT(save_result), 0, 0, NULL, NULL, "write a JSON file"},
    {"save-detailed", VALUE_FLAG, AT(save_detailed), 0, 0, NULL, NULL,
     "with every request's lengths, times and text"},
    {"append-result", VALUE_FLAG, AT(append_result), 0, 0, NULL, NULL,
     "add a line to the JSON file"},
    {"result-dir", VALUE_TEXT, AT(result_dir), 0, 0, NULL, NULL, "where to (here)"},
    {"result-filename", VALUE_TEXT, AT(result_filename), 0, 0, NULL, NULL,
     "(LABEL-RATEqps[-concurrencyN]-MODEL-DATE.json)"},
    {"label", VALUE_TEXT, AT(label), 0, 0, NULL, NULL, "(the backend)"},
    {"metadata", VALUE_WORDS, AT(metadata), 0, 0, NULL, NULL, "KEY=VALUE ... into the JSON file"},
    {"json", VALUE_FLAG, AT(json), 0, 0, NULL, NULL, "print the JSON object instead of the table"},
    {"csv", VALUE_FLAG, AT(csv), 0, 0, NULL, NULL, "print a line of CSV instead of the table"},
    {"disable-tqdm", VALUE_FLAG, AT(disable_tqdm), 0, 0, NULL, NULL,
     "no line of progress on a terminal"},
    {"help", VALUE_FLAG, AT(help), 0, 0, NULL, NULL, "this"},
};

static const struct {
    const char *title;
    const struct value_row *row;
    size_t n;
} groups[] = {
    {"server", server_rows, ARRAY_LEN(server_rows)},
    {"prompts", data_rows, ARRAY_LEN(data_rows)},
    {"load", load_rows, ARRAY_LEN(load_rows)},
    {"requests", sampling_rows, ARRAY_LEN(sampling_rows)},
    {"results", result_rows, ARRAY_LEN(result_rows)},
};

/* Always false, so that a guard is one statement. */
static bool complain(char *err, const char *what, const char *name, const char *text)
{
    (void)snprintf(err, OPTION_ERROR_BYTES, "--%.48s: %.120s%s%.64s", name, what,
                   text[0] ? ": " : "", text);
    return false;
}

/* ---- one value ---- */

/* *end: behind the number. */
static bool read_number(const struct value_row *row, const char *text, const char **stop,
                        double *out, char *err)
{
    char *end = NULL;
    errno = 0;
    double x = strtod(text, &end);
    if (end == text || (errno == ERANGE && !isfinite(x)) || isnan(x))
        return complain(err, "not a number", row->name, text);
    if (row->type == VALUE_INT && x != floor(x))
        return complain(err, "not a whole number", row->name, text);
    if (!(x >= row->min && x <= row->max))
        return complain(err, "out of range", row->name, text);
    *out = x;
    *stop = end;
    return true;
}

/* Index of the choice that text begins with, up to `stop`; -1: none. */
static int32_t find_choice(const char *choices, const char *text, size_t n)
{
    int32_t i = 0;
    for (const char *at = choices; *at; i++) {
        size_t bytes = strcspn(at, "|");
        if (bytes == n && memcmp(at, text, n) == 0)
            return i;
        at += bytes + (at[bytes] == '|');
    }
    return -1;
}

static bool set_choices(const struct value_row *row, void *to, const char *text, char *err)
{
    uint32_t bits = 0;
    for (const char *at = text;; at++) {
        size_t n = strcspn(at, ",");
        int32_t i = find_choice(row->choices, at, n);
        if (i < 0)
            return complain(err, "one of " METRICS, row->name, text);
        bits |= 1u << i;
        at += n;
        if (!*at)
            break;
    }
    *(uint32_t *)to = bits;
    return true;
}

static bool set_numbers(const struct value_row *row, void *to, const char *text, char *err)
{
    struct option_numbers list = {.n = 0};
    for (const char *at = text;;) {
        if (list.n == OPTION_NUMBERS_MAX)
            return complain(err, "too many numbers", row->name, text);
        if (!read_number(row, at, &at, &list.item[list.n++], err))
            return false;
        if (!*at)
            break;
        if (*at++ != ',')
            return complain(err, "numbers with commas are wanted, not", row->name, text);
    }
    *(struct option_numbers *)to = list;
    return true;
}

static bool set_number(const struct value_row *row, void *to, const char *text, char *err)
{
    double x = 0;
    const char *end = text;
    if (!read_number(row, text, &end, &x, err))
        return false;
    if (*end)
        return complain(err, "not a number", row->name, text);
    if (row->type == VALUE_INT)
        *(int64_t *)to = (int64_t)x;
    else
        *(double *)to = x;
    return true;
}

static bool is_utf8(const char *text)
{
    size_t bytes = strnlen(text, TEXT_BYTES_MAX);
    for (size_t at = 0, n = 0; at < bytes; at += n) {
        n = json_utf8(text + at, bytes - at);
        if (n == 0)
            return false;
    }
    return bytes < TEXT_BYTES_MAX;
}

static bool add_word(const struct value_row *row, void *to, const char *text, char *err)
{
    struct option_words *list = to;
    if (list->n == OPTION_WORDS_MAX)
        return complain(err, "too many values", row->name, text);
    list->item[list->n++] = text;
    return true;
}

static bool set_value(struct serve_options *o, const struct value_row *row, const char *text,
                      char *err)
{
    void *to = (char *)o + row->at;
    int32_t i = 0;
    if (!is_utf8(text))
        return complain(err, "not UTF-8, or too long", row->name, "");
    switch (row->type) {
    case VALUE_TEXT:
        *(const char **)to = text;
        return true;
    case VALUE_FLAG:
        *(bool *)to = true;
        return true;
    case VALUE_CHOICE:
        i = find_choice(row->choices, text, strlen(text));
        if (i < 0)
            return complain(err, row->choices, row->name, text);
        *(int32_t *)to = i;
        return true;
    case VALUE_CHOICES:
        return set_choices(row, to, text, err);
    case VALUE_NUMBERS:
        return set_numbers(row, to, text, err);
    case VALUE_WORDS:
        return add_word(row, to, text, err);
    default:
        return set_number(row, to, text, err);
    }
}

/* ---- all of them ---- */

/* As argparse with vLLM's additions has it, an underscore is as good as a dash. */
static bool same_name(const char *name, const char *text, size_t n)
{
    if (strlen(name) != n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (name[i] != (text[i] == '_' ? '-' : text[i]))
            return false;
    return true;
}

static const struct value_row *find_row(const char *name, size_t n)
{
    for (size_t g = 0; g < ARRAY_LEN(groups); g++)
        for (size_t i = 0; i < groups[g].n; i++)
            if (same_name(groups[g].row[i].name, name, n))
                return &groups[g].row[i];
    return NULL;
}

static enum status unknown(const char *arg, char *err)
{
    struct spelling spelling;
    const char *name = strncmp(arg, "--", 2) == 0 ? arg + 2 : arg;
    spelling_start(&spelling, name, strcspn(name, "="));
    for (size_t g = 0; g < ARRAY_LEN(groups); g++)
        for (size_t i = 0; i < groups[g].n; i++)
            spelling_try(&spelling, groups[g].row[i].name);
    const char *near = spelling_best(&spelling);
    (void)snprintf(err, OPTION_ERROR_BYTES, "unknown option %.96s%s%s (see --help)", arg,
                   near ? ", did you mean --" : "", near ? near : "");
    return E_INVALID;
}

static bool is_option(const char *arg)
{
    return strncmp(arg, "--", 2) == 0;
}

static bool set_defaults(struct serve_options *o, char *err)
{
    memset(o, 0, sizeof(*o));
    for (size_t g = 0; g < ARRAY_LEN(groups); g++)
        for (size_t i = 0; i < groups[g].n; i++) {
            const struct value_row *row = &groups[g].row[i];
            if (row->standard && !set_value(o, row, row->standard, err))
                return false;
            if (!row->standard && row->type == VALUE_NUMBER)
                *(double *)((char *)o + row->at) = (double)NAN;
        }
    return true;
}

static enum status read_arguments(struct serve_options *o, int argc, char **argv, char *err)
{
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i] + 2;
        size_t n = is_option(argv[i]) ? strcspn(name, "=") : 0;
        const struct value_row *row = n ? find_row(name, n) : NULL;
        if (!row)
            return unknown(argv[i], err);
        const char *text = name[n] == '=' ? name + n + 1 : NULL;
        if (row->type == VALUE_FLAG && text) {
            (void)complain(err, "takes no value", row->name, "");
            return E_INVALID;
        }
        if (row->type != VALUE_FLAG && !text) {
            if (i + 1 == argc || is_option(argv[i + 1])) {
                (void)complain(err, "a value is missing", row->name, "");
                return E_INVALID;
            }
            text = argv[++i];
        }
        if (!set_value(o, row, text ? text : "", err))
            return E_INVALID;
        while (row->type == VALUE_WORDS && i + 1 < argc && !is_option(argv[i + 1]))
            if (!set_value(o, row, argv[++i], err))
                return E_INVALID;
    }
    return OK;
}

/* ---- what several options say together ---- */

static enum status read_goals(struct serve_options *o, char *err)
{
    for (int32_t i = 0; i < N_GOALS; i++)
        o->goal_ms[i] = (double)NAN;
    for (int32_t i = 0; i < o->goodput.n; i++) {
        const char *pair = o->goodput.item[i];
        size_t n = strcspn(pair, ":");
        static const struct value_row row = {"goodput", VALUE_NUMBER, 0, 0, 1e12, NULL, NULL, ""};
        int32_t goal = 0;
        while (goal < N_GOALS &&
               (strlen(goal_names[goal]) != n || memcmp(goal_names[goal], pair, n) != 0))
            goal++;
        if (goal == N_GOALS || pair[n] != ':') {
            (void)complain(err, "ttft:MS, tpot:MS or e2el:MS is wanted, not", "goodput", pair);
            return E_INVALID;
        }
        if (!set_number(&row, &o->goal_ms[goal], pair + n + 1, err))
            return E_INVALID;
    }
    return OK;
}

static bool are_pairs(const struct option_words *list)
{
    for (int32_t i = 0; i < list->n; i++)
        if (strcspn(list->item[i], "=") == 0 || !strchr(list->item[i], '=') ||
            strpbrk(list->item[i], "\r\n"))
            return false;
    return true;
}

static bool is_object(const char *text)
{
    struct cJSON *top = NULL;
    struct json_error at;
    bool good = json_parse(&top, text, strlen(text), &at) == OK && json_kind(top) == JSON_OBJECT;
    json_free(top);
    return good;
}

static bool has_goal(const struct serve_options *o)
{
    for (int32_t i = 0; i < N_GOALS; i++)
        if (!isnan(o->goal_ms[i]))
            return true;
    return false;
}

/* What contradicts itself, as rows: true is an error. */
static enum status judge(const struct serve_options *o, char *err)
{
    bool of_file = o->dataset == DATA_SHAREGPT || o->dataset == DATA_CUSTOM;
    bool ramps = o->ramp != RAMP_NONE;
    bool endless = o->duration > 0 && o->num_prompts == 0 && isinf(o->request_rate) && !ramps;
    bool bounded = o->max_concurrency > 0 || o->sweep_concurrency.n > 0;
    const struct {
        bool wrong;
        const char *text;
    } rules[] = {
        {of_file && !o->dataset_path, "--dataset-name wants a file: --dataset-path"},
        {!of_file && o->dataset_path, "--dataset-path: this dataset has no file"},
        {ramps && !isinf(o->request_rate), "--request-rate is for the ramp to say"},
        {ramps && o->sweep_rates.n, "--sweep-request-rate: a ramp has its own rates"},
        {ramps && (isnan(o->ramp_start) || isnan(o->ramp_end)),
         "--ramp-up-strategy wants --ramp-up-start-rps and --ramp-up-end-rps"},
        {ramps && o->ramp_start > o->ramp_end, "--ramp-up-start-rps: more than the end"},
        {endless && !bounded && !o->sweep_rates.n,
         "--duration wants --request-rate or --max-concurrency"},
        {!isnan(o->goodput_min) && !has_goal(o), "--goodput-min wants --goodput"},
        {o->long_prompt && !bounded, "--long-prompt wants --max-concurrency"},
        {o->long_prompt && (ramps || !isinf(o->request_rate) || o->sweep_rates.n),
         "--long-prompt stands beside a closed loop, without a rate"},
        {o->tokenizer == TOKENS_IDS && (o->backend > SERVE_VLLM || of_file),
         "--tokenizer ids: for the completions API, and datasets that are made up"},
        {!are_pairs(&o->headers), "--header: KEY=VALUE is wanted"},
        {!are_pairs(&o->metadata), "--metadata: KEY=VALUE is wanted"},
        {o->extra_body && !is_object(o->extra_body), "--extra-body: not a JSON object"},
        {o->csv && o->json, "--csv and --json cannot both be printed"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rules); i++)
        if (rules[i].wrong) {
            (void)snprintf(err, OPTION_ERROR_BYTES, "%s", rules[i].text);
            return E_INVALID;
        }
    return OK;
}

static void spread_lengths(struct serve_options *o)
{
    if (o->input_len)
        o->random_input_len = o->input_len;
    if (o->output_len) {
        o->random_output_len = o->output_len;
        o->prefix_output_len = o->output_len;
        o->sharegpt_output_len = o->output_len;
        o->custom_output_len = o->output_len;
    }
    if (o->dataset == DATA_RANDOM && o->backend != SERVE_WORKERS)
        o->ignore_eos = true;
}

enum status serve_options_parse(struct serve_options *out, int argc, char **argv,
                                char err[OPTION_ERROR_BYTES])
{
    if (!set_defaults(out, err))
        return E_INVALID;
    enum status s = read_arguments(out, argc, argv, err);
    if (s == OK)
        s = read_goals(out, err);
    if (s || out->help)
        return s;
    spread_lengths(out);
    return judge(out, err);
}

/* Words, each where there is room for it; returns the column behind the last. */
static size_t add_wrapped(struct buf *out, size_t column, const char *open, const char *text,
                          const char *close)
{
    size_t around = strlen(open) + strlen(close);
    for (const char *at = text; *at;) {
        size_t n = strcspn(at, " ");
        if (column + 1 + n + around > HELP_WIDTH) {
            buf_printf(out, "\n%*s", HELP_FLAG_WIDTH, "");
            column = HELP_FLAG_WIDTH;
        }
        buf_printf(out, " %s%.*s%s", open, (int)n, at, close);
        column += 1 + n + around;
        at += n + strspn(at + n, " ");
    }
    return column;
}

void serve_options_help(struct buf *out)
{
    buf_text(out, "bench_serve [options]: load on a server of language models, as `vllm bench "
                  "serve` makes it\n");
    for (size_t g = 0; g < ARRAY_LEN(groups); g++) {
        buf_printf(out, "\n%s:\n", groups[g].title);
        for (size_t i = 0; i < groups[g].n; i++) {
            const struct value_row *row = &groups[g].row[i];
            size_t column = HELP_FLAG_WIDTH;
            buf_printf(out, "  --%-*s", HELP_FLAG_WIDTH - 4, row->name);
            column = add_wrapped(out, column, "", row->help, "");
            if (row->choices)
                column = add_wrapped(out, column, "[", row->choices, "]");
            if (row->standard)
                (void)add_wrapped(out, column, "(", row->standard, ")");
            buf_text(out, "\n");
        }
    }
    buf_text(out, "\nexit status: 0, 1 when a request failed or an objective was missed, 2 when "
                  "not understood\n");
}

/* Reads the command line by the table. Values of the command line and the defaults go through
 * the same set_value(), so a default outside its own range cannot stay unseen. What concerns two
 * options at once is checked last, in judge(). */
#include "bench/serve_options_table.h"

#include "bench/serve_wire.h"
#include "server/json.h"
#include "server/spelling.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HELP_FLAG_WIDTH = 36, HELP_WIDTH = 100, TEXT_BYTES_MAX = 1 << 20 };

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
            return complain(err, row->choices, row->name, text);
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
    for (size_t g = 0; g < n_value_groups; g++)
        for (size_t i = 0; i < value_groups[g].n; i++)
            if (same_name(value_groups[g].row[i].name, name, n))
                return &value_groups[g].row[i];
    return NULL;
}

static enum status unknown(const char *arg, char *err)
{
    struct spelling spelling;
    const char *name = strncmp(arg, "--", 2) == 0 ? arg + 2 : arg;
    spelling_start(&spelling, name, strcspn(name, "="));
    for (size_t g = 0; g < n_value_groups; g++)
        for (size_t i = 0; i < value_groups[g].n; i++)
            spelling_try(&spelling, value_groups[g].row[i].name);
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
    for (size_t g = 0; g < n_value_groups; g++)
        for (size_t i = 0; i < value_groups[g].n; i++) {
            const struct value_row *row = &value_groups[g].row[i];
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
        if (strcmp(argv[i], "-h") == 0)
            row = find_row("help", strlen("help"));
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
    for (size_t g = 0; g < n_value_groups; g++) {
        buf_printf(out, "\n%s:\n", value_groups[g].title);
        for (size_t i = 0; i < value_groups[g].n; i++) {
            const struct value_row *row = &value_groups[g].row[i];
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

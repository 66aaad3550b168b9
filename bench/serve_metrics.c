/* Names of several servers in one table: the first of a row that occurs is taken. */
#include "bench/serve_metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NAMES_MAX = 3, NUMBER_BYTES_MAX = 64 };

static const char *const names[N_SERVER_COUNTS][NAMES_MAX] = {
    [SERVER_REQUESTS] = {"vllm:request_success_total", "sglang:num_requests_total"},
    [SERVER_PROMPT_TOKENS] = {"vllm:prompt_tokens_total", "sglang:prompt_tokens_total",
                              "llamacpp:prompt_tokens_total"},
    [SERVER_ANSWER_TOKENS] = {"vllm:generation_tokens_total", "sglang:generation_tokens_total",
                              "llamacpp:tokens_predicted_total"},
    [SERVER_TTFT_SUM] = {"vllm:time_to_first_token_seconds_sum",
                         "sglang:time_to_first_token_seconds_sum"},
    [SERVER_TTFT_N] = {"vllm:time_to_first_token_seconds_count",
                       "sglang:time_to_first_token_seconds_count"},
};

/* Behind name{labels}; 0 where there is no sample. A label's value may hold anything in quotes. */
static size_t value_at(const char *line, size_t n, size_t name)
{
    bool quoted = false;
    size_t at = name;
    if (at < n && line[at] == '{') {
        for (at++; at < n && (quoted || line[at] != '}'); at++) {
            if (quoted && line[at] == '\\')
                at++;
            else if (line[at] == '"')
                quoted = !quoted;
        }
        at++;
    }
    return at < n && line[at] == ' ' ? at + 1 : 0;
}

/* The name that a sample's line begins with. */
static bool find_name(const char *line, size_t n, enum server_count *which, int32_t *nth)
{
    for (int32_t i = 0; i < N_SERVER_COUNTS; i++)
        for (int32_t j = 0; j < NAMES_MAX && names[i][j]; j++)
            if (strlen(names[i][j]) == n && memcmp(names[i][j], line, n) == 0) {
                *which = (enum server_count)i;
                *nth = j;
                return true;
            }
    return false;
}

static void read_line(double value[N_SERVER_COUNTS][NAMES_MAX], const char *line, size_t n)
{
    enum server_count which;
    int32_t nth;
    char number[NUMBER_BYTES_MAX];
    size_t name = 0;
    while (name < n && line[name] != '{' && line[name] != ' ')
        name++;
    if (!find_name(line, name, &which, &nth))
        return;
    size_t at = value_at(line, n, name);
    if (at == 0 || n - at >= sizeof(number))
        return;
    memcpy(number, line + at, n - at);
    number[n - at] = '\0';
    char *end = NULL;
    double x = strtod(number, &end);
    if (end == number || !isfinite(x))
        return;
    double *to = &value[which][nth];
    *to = isnan(*to) ? x : *to + x;
}

bool metrics_read(struct server_counts *out, const char *text, size_t bytes)
{
    double value[N_SERVER_COUNTS][NAMES_MAX];
    bool any = false;
    for (int32_t i = 0; i < N_SERVER_COUNTS; i++)
        for (int32_t j = 0; j < NAMES_MAX; j++)
            value[i][j] = (double)NAN;
    for (size_t at = 0; at < bytes;) {
        const char *stop = memchr(text + at, '\n', bytes - at);
        size_t end = stop ? (size_t)(stop - text) : bytes;
        read_line(value, text + at, end - at);
        at = end + 1;
    }
    for (int32_t i = 0; i < N_SERVER_COUNTS; i++) {
        int32_t j = 0;
        while (j < NAMES_MAX - 1 && isnan(value[i][j]))
            j++;
        out->value[i] = value[i][j];
        any |= !isnan(out->value[i]);
    }
    return any;
}

bool metrics_fetch(struct server_counts *out, const struct serve_target *t)
{
    struct buf text = {0};
    int http = 0;
    bool good = target_fetch(&text, &http, t, "/metrics", NULL) == OK && http == 200 &&
                metrics_read(out, text.data, text.n);
    buf_free(&text);
    return good;
}

void metrics_compare(struct metrics_check *out, const struct server_counts *before,
                     const struct server_counts *after, const struct summary *s)
{
    static const char *const row_names[CHECK_ROWS] = {"requests", "prompt_tokens",
                                                      "generation_tokens", "mean_ttft_ms"};
    const double client[CHECK_ROWS] = {
        (double)s->all_whole, (double)s->all_input, (double)s->all_output,
        s->first_n ? s->first_sum_s / (double)s->first_n * 1e3 : (double)NAN};
    double grown[N_SERVER_COUNTS];
    bool more = s->cancelled > 0 || s->failed > 0;
    for (int32_t i = 0; i < N_SERVER_COUNTS; i++)
        grown[i] = after->value[i] - before->value[i];
    *out = (struct metrics_check){.verdict = CHECKED_EQUAL, .note = more ? "at least" : ""};
    for (int32_t i = 0; i < CHECK_ROWS; i++) {
        struct check_row *row = &out->row[i];
        bool is_time = i == CHECK_ROWS - 1;
        row->name = row_names[i];
        row->client = client[i];
        row->server = is_time ? grown[SERVER_TTFT_SUM] / grown[SERVER_TTFT_N] * 1e3 : grown[i];
        double apart = fabs(row->server - row->client);
        if (isnan(row->server) || isnan(row->client))
            row->equal = true;
        else if (is_time)
            row->equal = apart <= TTFT_TOLERANCE_MS + TTFT_TOLERANCE * row->client;
        else
            row->equal = apart < 0.5 || (more && row->server > row->client);
        if (!row->equal)
            out->verdict = CHECKED_DIFFERENT;
    }
}

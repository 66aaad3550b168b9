/* Bodies are written member by member; a member that --extra-body has is left to it. */
#include "bench/serve_wire.h"

#include <math.h>
#include <string.h>

/* ---- writing ---- */

static void prompt_plain(struct buf *out, const struct buf *prompt)
{
    buf_text(out, "\"prompt\":");
    buf_add(out, prompt->data, prompt->n);
}

static void prompt_message(struct buf *out, const struct buf *prompt)
{
    buf_text(out, "\"messages\":[{\"role\":\"user\",\"content\":");
    buf_add(out, prompt->data, prompt->n);
    buf_text(out, "}]");
}

static bool theirs(const struct serve_ask *ask, const char *name)
{
    return json_member(ask->extra, name) != NULL;
}

static void add_integer(struct buf *out, const struct serve_ask *ask, const char *name, int64_t x)
{
    if (!theirs(ask, name))
        buf_printf(out, ",\"%s\":%lld", name, (long long)x);
}

static void add_sampling(struct buf *out, const struct serve_ask *ask)
{
    const struct serve_options *o = ask->opt;
    const struct {
        const char *name;
        double value;
    } rows[] = {
        {"temperature", o->temperature},
        {"top_p", o->top_p},
        {"top_k", o->top_k},
        {"min_p", o->min_p},
        {"frequency_penalty", o->frequency_penalty},
        {"presence_penalty", o->presence_penalty},
        {"repetition_penalty", o->repetition_penalty},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (!isnan(rows[i].value) && !theirs(ask, rows[i].name))
            buf_printf(out, ",\"%s\":%.10g", rows[i].name, rows[i].value);
}

/* The inside of an object whose text is known to be one. */
static void add_inside(struct buf *out, const char *object)
{
    const char *open = strchr(object, '{');
    const char *close = strrchr(object, '}');
    size_t blank = open ? strspn(open + 1, " \t\r\n") : 0;
    if (!open || !close || open + 1 + blank >= close)
        return;
    buf_text(out, ",");
    buf_add(out, open + 1, (size_t)(close - open) - 1);
}

void serve_body(struct buf *out, const struct serve_ask *ask)
{
    const struct serve_wire *wire = &serve_wires[ask->opt->backend];
    buf_text(out, "{");
    wire->prompt(out, ask->prompt);
    if (wire->names_model && ask->model && !theirs(ask, "model")) {
        buf_text(out, ",\"model\":");
        buf_json_text(out, ask->model);
    }
    if (ask->output_tokens > 0)
        add_integer(out, ask, "max_tokens", ask->output_tokens);
    if (!theirs(ask, "stream"))
        buf_text(out, ",\"stream\":true");
    if (wire->names_model && !theirs(ask, "stream_options"))
        buf_text(out, ",\"stream_options\":{\"include_usage\":true}");
    if (wire->ignores_eos && ask->opt->ignore_eos && !theirs(ask, "ignore_eos"))
        buf_text(out, ",\"ignore_eos\":true");
    /* Workers AI wants at least 1. */
    add_integer(out, ask, "seed", ask->opt->seed + ask->index + 1);
    add_sampling(out, ask);
    if (ask->opt->extra_body)
        add_inside(out, ask->opt->extra_body);
    buf_text(out, "}");
}

/* ---- reading ---- */

/* A count of tokens that can be summed over any number of requests. */
static bool read_count(const struct cJSON *v, int64_t *out)
{
    return json_integer(v, out) && *out >= 0 && *out <= INT32_MAX;
}

static void read_usage(struct serve_event *e, const struct cJSON *usage)
{
    const struct cJSON *details = json_member(usage, "prompt_tokens_details");
    const struct cJSON *cached = json_member(details, "cached_tokens");
    if (json_kind(usage) != JSON_OBJECT)
        return;
    e->usage = true;
    e->bad_usage = !read_count(json_member(usage, "prompt_tokens"), &e->prompt_tokens) ||
                   !read_count(json_member(usage, "completion_tokens"), &e->answer_tokens) ||
                   (json_kind(cached) == JSON_NUMBER && !read_count(cached, &e->cached_tokens));
}

static void take_text(struct serve_event *e, const struct cJSON *v)
{
    size_t n = 0;
    const char *text = json_string(v, &n);
    if (text && n > 0 && !e->text) {
        e->text = text;
        e->bytes = n;
    }
}

static const struct cJSON *read_choice(struct serve_event *e, const struct cJSON *top)
{
    const struct cJSON *choice = json_first(json_member(top, "choices"));
    e->choice = choice != NULL;
    e->finish = json_kind(json_member(choice, "finish_reason")) == JSON_STRING;
    read_usage(e, json_member(top, "usage"));
    return choice;
}

static void read_completion(struct serve_event *e, const struct cJSON *top)
{
    take_text(e, json_member(read_choice(e, top), "text"));
}

/* What a model thinks aloud has two names. */
static void read_chat(struct serve_event *e, const struct cJSON *top)
{
    const struct cJSON *delta = json_member(read_choice(e, top), "delta");
    take_text(e, json_member(delta, "content"));
    take_text(e, json_member(delta, "reasoning_content"));
    take_text(e, json_member(delta, "reasoning"));
}

static void read_workers(struct serve_event *e, const struct cJSON *top)
{
    const struct cJSON *response = json_member(top, "response");
    e->choice = response != NULL;
    take_text(e, response);
    read_usage(e, json_member(top, "usage"));
    e->finish = e->usage;
    e->error = json_count(json_member(top, "errors")) > 0;
}

bool serve_event_read(struct serve_event *out, struct cJSON **tree, int32_t backend,
                      const char *data, size_t bytes)
{
    struct json_error at;
    *out = (struct serve_event){.prompt_tokens = -1, .answer_tokens = -1};
    *tree = NULL;
    if (json_parse(tree, data, bytes, &at) || json_kind(*tree) != JSON_OBJECT) {
        json_free(*tree);
        *tree = NULL;
        return false;
    }
    serve_wires[backend].read(out, *tree);
    if (json_kind(json_member(*tree, "error")) == JSON_OBJECT)
        out->error = true;
    return true;
}

const struct serve_wire serve_wires[N_SERVE_WIRES] = {
    {"openai", "/v1/completions", true, true, prompt_plain, read_completion},
    {"vllm", "/v1/completions", true, true, prompt_plain, read_completion},
    {"openai-chat", "/v1/chat/completions", true, true, prompt_message, read_chat},
    {"workers-ai", "/client/v4/accounts/bench/ai/run/{model}", false, false, prompt_message,
     read_workers},
};

/* The OpenAI formats, reading: a body becomes a gen_request. null stands for "not given"
 * everywhere, as OpenAI's own clients send it; unknown members are ignored; known members
 * that would change the answer in a way not offered here are refused by name, never
 * silently dropped. Writing lies in openai_text.c. */

#include "server/openai.h"

#include "server/fields.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COMPLETION_TOKENS_DEFAULT = 16, BIAS_LIMIT = 100, TOKEN_DIGITS_MAX = 10 };

#define AT(member) offsetof(struct gen_request, member)

static const struct field both_fields[] = {
    {"stream", FIELD_BOOL, .at = AT(stream)},
    {"max_tokens", FIELD_INT32, .min = 1, .max = INT32_MAX, .at = AT(params.max_new_tokens)},
    {"temperature", FIELD_FLOAT, .min = 0, .max = 2, .at = AT(params.sampling.temperature),
     .given = AT(temperature_given)},
    {"top_p", FIELD_FLOAT, .above = true, .min = 0, .max = 1, .at = AT(params.sampling.top_p),
     .given = AT(top_p_given)},
    {"top_k", FIELD_INT32, .min = -1, .max = INT32_MAX, .at = AT(params.sampling.top_k),
     .given = AT(top_k_given)},
    {"min_p", FIELD_FLOAT, .min = 0, .max = 1, .at = AT(params.sampling.min_p)},
    {"repetition_penalty", FIELD_FLOAT, .above = true, .min = 0, .max = 100,
     .at = AT(params.sampling.repetition), .given = AT(repetition_given)},
    {"presence_penalty", FIELD_FLOAT, .min = -2, .max = 2, .at = AT(params.sampling.presence)},
    {"frequency_penalty", FIELD_FLOAT, .min = -2, .max = 2, .at = AT(params.sampling.frequency)},
    {"seed", FIELD_SEED, .min = -JSON_INTEGER_MAX, .max = JSON_INTEGER_MAX,
     .at = AT(params.sampling.seed), .given = AT(seed_given)},
    {"ignore_eos", FIELD_BOOL, .at = AT(params.ignore_eos)},
};

/* Read after the others, so that max_completion_tokens wins over its older name. */
static const struct field chat_fields[] = {
    {"max_completion_tokens", FIELD_INT32, .min = 1, .max = INT32_MAX,
     .at = AT(params.max_new_tokens)},
    {"top_logprobs", FIELD_INT32, .min = 0, .max = LOGPROBS_MAX,
     .at = AT(params.sampling.n_logprobs)},
};

static const struct field completion_fields[] = {
    {"echo", FIELD_BOOL, .at = AT(echo)},
    {"logprobs", FIELD_INT32, .min = 0, .max = LOGPROBS_MAX, .at = AT(params.sampling.n_logprobs)},
};

/* Members that change what the answer is. Empty, false, 0 and null ask for nothing. */
static const char *const refused_fields[] = {
    "allowed_token_ids",  "audio",
    "bad_words",          "continue_final_message",
    "functions",          "guided_choice",
    "guided_grammar",     "guided_json",
    "guided_regex",       "min_tokens",
    "prompt_embeds",      "prompt_logprobs",
    "stop_token_ids",     "suffix",
    "structured_outputs", "tools",
    "use_beam_search",    "web_search_options",
};

static enum status refuse(const struct fault *f, struct api_error *err)
{
    enum api_error_kind kind = f->what == FAULT_UNSUPPORTED ? API_UNSUPPORTED : API_BAD_FIELD;
    api_error_set(err, kind, f->param, NULL);
    char *t = err->text;
    size_t n = sizeof(err->text);
    switch (f->what) {
    case FAULT_TYPE:
        snprintf(t, n, "Invalid type for '%s': expected %s, got %s", f->param, f->want, f->got);
        break;
    case FAULT_LOW:
        snprintf(t, n, "'%s' must be at least %.16g", f->param, f->bound);
        break;
    case FAULT_NOT_ABOVE:
        snprintf(t, n, "'%s' must be greater than %.16g", f->param, f->bound);
        break;
    case FAULT_HIGH:
        snprintf(t, n, "'%s' must be at most %.16g", f->param, f->bound);
        break;
    case FAULT_ABSENT:
        snprintf(t, n, "'%s' is required", f->param);
        break;
    case FAULT_TEXT:
    case FAULT_UNSUPPORTED:
        snprintf(t, n, "'%s' %s", f->param, f->text);
        break;
    }
    return E_INVALID;
}

/* ---- members of their own ------------------------------------------------------------ */

/* NULL when absent or null. */
static const struct cJSON *given(const struct cJSON *top, const char *name)
{
    const struct cJSON *v = json_member(top, name);
    return json_kind(v) == JSON_NULL ? NULL : v;
}

static enum status read_model(struct gen_request *r, const struct cJSON *top, struct fault *f)
{
    const struct cJSON *v = given(top, "model");
    size_t n = 0;
    if (!v)
        return OK;
    r->model = json_string(v, &n);
    if (!r->model)
        return fault_type(f, "model", "string", v);
    return n <= MODEL_BYTES_MAX ? OK : fault_say(f, FAULT_TEXT, "model", "is too long a name");
}

static enum status read_stream_options(struct gen_request *r, const struct cJSON *top,
                                       struct fault *f)
{
    const struct cJSON *v = given(top, "stream_options");
    const struct cJSON *usage = given(v, "include_usage");
    if (v && json_kind(v) != JSON_OBJECT)
        return fault_type(f, "stream_options", "object", v);
    if (usage && json_kind(usage) != JSON_BOOL)
        return fault_type(f, "stream_options.include_usage", "boolean", usage);
    r->stream_usage = json_true(usage);
    return OK;
}

static enum status add_stop(struct gen_request *r, const struct cJSON *v, const char *param,
                            struct fault *f)
{
    size_t n = 0;
    const char *text = json_string(v, &n);
    if (!text)
        return fault_type(f, param, "string", v);
    if (n == 0 || n > STOP_BYTES_MAX)
        return fault_say(f, FAULT_TEXT, param, "must have 1 to 256 bytes");
    if (r->n_stops == STOPS_MAX)
        return fault_say(f, FAULT_TEXT, "stop", "holds more than 16 strings");
    r->stop[r->n_stops].text = text;
    r->stop[r->n_stops].bytes = n;
    r->n_stops++;
    return OK;
}

static enum status read_stop(struct gen_request *r, const struct cJSON *top, struct fault *f)
{
    const struct cJSON *v = given(top, "stop");
    if (!v)
        return OK;
    if (json_kind(v) != JSON_ARRAY)
        return add_stop(r, v, "stop", f);
    for (const struct cJSON *i = json_first(v); i; i = json_next(i)) {
        char param[PARAM_MAX];
        snprintf(param, sizeof(param), "stop[%d]", r->n_stops);
        enum status st = add_stop(r, i, param, f);
        if (st != OK)
            return st;
    }
    return OK;
}

/* A token id in its one spelling, so that no id can come twice; -1 otherwise. */
static int32_t token_id(const char *name)
{
    int64_t id = 0;
    size_t n = strnlen(name, TOKEN_DIGITS_MAX + 1);
    if (n == 0 || n > TOKEN_DIGITS_MAX || (name[0] == '0' && n > 1))
        return -1;
    for (size_t i = 0; i < n; i++) {
        if (name[i] < '0' || name[i] > '9')
            return -1;
        id = id * 10 + (name[i] - '0');
    }
    return id <= INT32_MAX ? (int32_t)id : -1;
}

static enum status read_bias(struct gen_request *r, const struct cJSON *top, struct fault *f)
{
    const struct cJSON *v = given(top, "logit_bias");
    if (v && json_kind(v) != JSON_OBJECT)
        return fault_type(f, "logit_bias", "object", v);
    size_t n = json_count(v);
    if (n == 0)
        return OK;
    if (n > BIAS_MAX)
        return fault_say(f, FAULT_TEXT, "logit_bias", "holds more than 1024 tokens");
    struct token_bias *bias = calloc(n, sizeof(*bias));
    if (!bias)
        return E_NOMEM;
    r->bias = bias;
    r->params.sampling.bias = bias;
    r->params.sampling.n_bias = (int32_t)n;
    for (const struct cJSON *i = json_first(v); i; i = json_next(i), bias++) {
        double x = 0;
        bias->token = token_id(json_name(i));
        if (bias->token < 0)
            return fault_say(f, FAULT_TEXT, "logit_bias", "must have token ids as its names");
        if (!json_number(i, &x) || x < -BIAS_LIMIT || x > BIAS_LIMIT)
            return fault_say(f, FAULT_TEXT, "logit_bias", "must hold numbers from -100 to 100");
        bias->bias = (float)x;
    }
    return OK;
}

/* Chat: a flag that says whether, and a number that says how many. */
static enum status read_chat_logprobs(struct gen_request *r, const struct cJSON *top,
                                      struct fault *f)
{
    int32_t *n = &r->params.sampling.n_logprobs;
    const struct cJSON *v = given(top, "logprobs");
    if (v && json_kind(v) != JSON_BOOL)
        return fault_type(f, "logprobs", "boolean", v);
    if (json_true(v)) {
        *n = *n < 0 ? 0 : *n;
        return OK;
    }
    if (*n > 0)
        return fault_say(f, FAULT_TEXT, "top_logprobs", "needs 'logprobs' to be true");
    *n = -1;
    return OK;
}

/* Of n and best_of only 1 is offered. */
static enum status read_one(const struct cJSON *top, const char *name, struct fault *f)
{
    const struct cJSON *v = given(top, name);
    int64_t n = 1;
    if (v && !json_integer(v, &n))
        return fault_type(f, name, "integer", v);
    if (n != 1)
        return fault_say(f, FAULT_UNSUPPORTED, name,
                         "must be 1, several answers to one request are not supported");
    return OK;
}

static enum status read_format(const struct cJSON *top, struct fault *f)
{
    const struct cJSON *v = given(top, "response_format");
    const struct cJSON *type = json_member(v, "type");
    size_t n = 0;
    if (!v)
        return OK;
    if (json_kind(v) != JSON_OBJECT)
        return fault_type(f, "response_format", "object", v);
    const char *name = json_string(type, &n);
    if (!name)
        return fault_type(f, "response_format.type", "string", type);
    if (strcmp(name, "text") != 0)
        return fault_say(f, FAULT_UNSUPPORTED, "response_format",
                         "must be of type text, other formats are not supported");
    return OK;
}

static enum status refuse_unsupported(const struct cJSON *top, struct fault *f)
{
    for (size_t i = 0; i < ARRAY_LEN(refused_fields); i++) {
        if (!json_inert(json_member(top, refused_fields[i])))
            return fault_say(f, FAULT_UNSUPPORTED, refused_fields[i], "is not supported");
    }
    return OK;
}

/* ---- bodies -------------------------------------------------------------------------- */

/* What chat and completions share, in the order in which a reader would look. */
static enum status read_common(struct gen_request *r, const struct cJSON *top, struct fault *f)
{
    enum status st = read_model(r, top, f);
    if (st == OK)
        st = refuse_unsupported(top, f);
    if (st == OK)
        st = read_format(top, f);
    if (st == OK)
        st = read_one(top, "n", f);
    if (st == OK)
        st = fields_read(r, top, both_fields, ARRAY_LEN(both_fields), true, f);
    if (st == OK)
        st = read_stream_options(r, top, f);
    if (st == OK)
        st = read_stop(r, top, f);
    if (st == OK)
        st = read_bias(r, top, f);
    return st;
}

static enum status read_chat(struct gen_request *r, const struct cJSON *top, struct fault *f)
{
    enum status st = read_common(r, top, f);
    if (st == OK)
        st = fields_read(r, top, chat_fields, ARRAY_LEN(chat_fields), true, f);
    if (st == OK)
        st = read_chat_logprobs(r, top, f);
    if (st == OK)
        st = messages_read(r, json_member(top, "messages"), f);
    return st;
}

static enum status read_prompt(struct gen_request *r, const struct cJSON *top, struct fault *f)
{
    const struct cJSON *v = json_member(top, "prompt");
    if (json_kind(v) == JSON_ARRAY && json_count(v) == 1 && json_kind(json_first(v)) == JSON_STRING)
        v = json_first(v);
    r->prompt = json_string(v, &r->prompt_bytes);
    if (r->prompt)
        return OK;
    if (json_kind(v) == JSON_ARRAY)
        return fault_say(f, FAULT_UNSUPPORTED, "prompt",
                         "must be one string, token ids and several prompts are not supported");
    return fault_type(f, "prompt", "string", v);
}

static enum status read_completion(struct gen_request *r, const struct cJSON *top, struct fault *f)
{
    enum status st = read_common(r, top, f);
    if (st == OK)
        st = read_one(top, "best_of", f);
    if (st == OK)
        st = fields_read(r, top, completion_fields, ARRAY_LEN(completion_fields), true, f);
    if (st == OK)
        st = read_prompt(r, top, f);
    if (st == OK && r->echo && r->params.sampling.n_logprobs >= 0)
        st = fault_say(f, FAULT_UNSUPPORTED, "logprobs",
                       "cannot be had of an echoed prompt, which is not supported");
    return st;
}

static enum status parse(struct gen_request *out, const struct wire *w, const char *body,
                         size_t bytes, struct api_error *err)
{
    struct fault f = {.what = FAULT_TEXT, .text = ""};
    enum status st = body_open(out, w, body, bytes, err);
    if (st != OK)
        return st;
    const struct cJSON *top = ((const struct body *)out->tree)->json;
    if (w == &wire_chat) {
        st = read_chat(out, top, &f);
    } else {
        out->params.max_new_tokens = COMPLETION_TOKENS_DEFAULT;
        st = read_completion(out, top, &f);
    }
    if (st == OK) {
        sampling_settle(&out->params.sampling);
        return OK;
    }
    gen_request_free(out);
    return st == E_INVALID ? refuse(&f, err) : st;
}

enum status openai_parse_chat(struct gen_request *out, const char *body, size_t bytes,
                              struct api_error *err)
{
    return parse(out, &wire_chat, body, bytes, err);
}

enum status openai_parse_completion(struct gen_request *out, const char *body, size_t bytes,
                                    struct api_error *err)
{
    return parse(out, &wire_completions, body, bytes, err);
}

/* The OpenAI formats, reading: a body becomes a gen_request. null stands for "not given"
 * everywhere, as OpenAI's own clients send it; unknown members are ignored; known members
 * that would change the answer in a way not offered here are refused by name, never
 * silently dropped. Writing lies in openai_text.c. */
#include "server/openai.h"

#include "server/fields.h"
#include "server/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COMPLETION_TOKENS_DEFAULT = 16, BIAS_LIMIT = 100, TOKEN_DIGITS_MAX = 10 };

#define AT(member) offsetof(struct gen_request, member)

static const struct field both_fields[] = {
    {"stream", FIELD_BOOL, .at = AT(stream)},
    {"n", FIELD_INT32, .min = 1, .max = N_MAX, .at = AT(n)},
    {"temperature", FIELD_FLOAT, .min = 0, .max = 2, .at = AT(params.sampling.temperature),
     .given = AT(temperature_given)},
    {"top_p", FIELD_FLOAT, .above = true, .min = 0, .max = 1, .at = AT(params.sampling.top_p),
     .given = AT(top_p_given)},
    {"top_k", FIELD_INT32, .min = -1, .max = INT32_MAX, .at = AT(params.sampling.top_k),
     .given = AT(top_k_given)},
    {"min_p", FIELD_FLOAT, .min = 0, .max = 1, .at = AT(params.sampling.min_p),
     .given = AT(min_p_given)},
    {"repetition_penalty", FIELD_FLOAT, .above = true, .min = 0, .max = 100,
     .at = AT(params.sampling.repetition), .given = AT(repetition_given)},
    {"presence_penalty", FIELD_FLOAT, .min = -2, .max = 2, .at = AT(params.sampling.presence)},
    {"frequency_penalty", FIELD_FLOAT, .min = -2, .max = 2, .at = AT(params.sampling.frequency)},
    {"seed", FIELD_SEED, .min = -JSON_INTEGER_MAX, .max = JSON_INTEGER_MAX,
     .at = AT(params.sampling.seed), .given = AT(seed_given)},
    {"ignore_eos", FIELD_BOOL, .at = AT(params.ignore_eos)},
    {"min_tokens", FIELD_INT32, .min = 0, .max = INT32_MAX, .at = AT(params.min_tokens)},
    {"include_stop_str_in_output", FIELD_BOOL, .at = AT(include_stop)},
    {"skip_special_tokens", FIELD_NOT, .at = AT(show_specials)},
    {"prompt_logprobs", FIELD_INT32, .min = 0, .max = LOGPROBS_MAX, .at = AT(prompt_logprobs)},
    {"truncate_prompt_tokens", FIELD_INT32, .min = -1, .max = INT32_MAX, .at = AT(truncate)},
    {"return_token_ids", FIELD_BOOL, .at = AT(return_ids)},
    {"return_tokens_as_token_ids", FIELD_BOOL, .at = AT(ids_as_text)},
    {"priority", FIELD_INT32, .min = -INT32_MAX, .max = INT32_MAX, .at = AT(priority)},
};

/* Read after the others, so that max_completion_tokens wins over its older name. */
static const struct field chat_fields[] = {
    {"max_tokens", FIELD_INT32, .min = 1, .max = INT32_MAX, .at = AT(params.max_new_tokens)},
    {"max_completion_tokens", FIELD_INT32, .min = 1, .max = INT32_MAX,
     .at = AT(params.max_new_tokens)},
    {"top_logprobs", FIELD_INT32, .min = 0, .max = LOGPROBS_MAX,
     .at = AT(params.sampling.n_logprobs)},
    {"add_generation_prompt", FIELD_BOOL, .at = AT(chat.add_generation_prompt)},
    {"continue_final_message", FIELD_BOOL, .at = AT(chat.continue_final)},
};

static const struct field completion_fields[] = {
    {"max_tokens", FIELD_INT32, .min = 0, .max = INT32_MAX, .at = AT(params.max_new_tokens)},
    {"echo", FIELD_BOOL, .at = AT(echo)},
    {"logprobs", FIELD_INT32, .min = 0, .max = LOGPROBS_MAX, .at = AT(params.sampling.n_logprobs)},
    {"add_special_tokens", FIELD_NOT, .at = AT(no_specials)},
};

static const struct field stream_fields[] = {
    {"include_usage", FIELD_BOOL, .at = AT(stream_usage)},
    {"continuous_usage_stats", FIELD_BOOL, .at = AT(usage_always)},
};

/* Members that change what the answer is. Empty, false, 0 and null ask for nothing. What
 * OpenAI's own client may send for features of OpenAI's own models (audio, web_search_options,
 * prediction ...) is ignored like any unknown member. */
static const char *const refused_fields[] = {
    "bad_words",          "chat_template", "documents",       "guided_choice",
    "guided_grammar",     "guided_json",   "guided_regex",    "prompt_embeds",
    "structured_outputs", "suffix",        "use_beam_search",
};

void openai_word(const struct fault *f, struct api_error *err)
{
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
}

/* -- members of their own -- */

static enum status read_stream_options(struct gen_request *r, const struct cJSON *top,
                                       struct fault *f)
{
    const struct cJSON *v = json_given(top, "stream_options");
    if (v && json_kind(v) != JSON_OBJECT)
        return fault_type(f, "stream_options", "object", v);
    enum status st = fields_read(r, v, stream_fields, ARRAY_LEN(stream_fields), true, f);
    if (st == E_INVALID) {
        char name[PARAM_MAX];
        snprintf(name, sizeof(name), "%s", f->param);
        snprintf(f->param, sizeof(f->param), "stream_options.%.40s", name);
    }
    return st;
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
    const struct cJSON *v = json_given(top, "logit_bias");
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
    const struct cJSON *v = json_given(top, "logprobs");
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

/* The best of as many as are returned is all of them. */
static enum status read_best_of(const struct gen_request *r, const struct cJSON *top,
                                struct fault *f)
{
    const struct cJSON *v = json_given(top, "best_of");
    int64_t n = r->n;
    if (v && !json_integer(v, &n))
        return fault_type(f, "best_of", "integer", v);
    if (n == r->n || n == 1)
        return OK;
    return fault_say(f, FAULT_UNSUPPORTED, "best_of",
                     "must be 'n', choosing among more answers is not supported");
}

/* 0 is nobody's own salt, so text never becomes it. */
static enum status read_salt(struct gen_request *r, const struct cJSON *top, struct fault *f)
{
    const struct cJSON *v = json_given(top, "cache_salt");
    size_t n = 0;
    const char *text = json_string(v, &n);
    if (!v)
        return OK;
    if (!text)
        return fault_type(f, "cache_salt", "string", v);
    if (n == 0)
        return fault_say(f, FAULT_TEXT, "cache_salt", "must not be empty");
    r->salt = text_hash(text, n) | 1;
    return OK;
}

/* Offered tools that must not be used change nothing. */
enum status tools_read(const struct cJSON *top, struct fault *f)
{
    size_t n = 0;
    const char *choice = json_string(json_member(top, "tool_choice"), &n);
    if (json_inert(json_member(top, "tools")) || (choice && strcmp(choice, "none") == 0))
        return OK;
    return fault_say(f, FAULT_UNSUPPORTED, "tools",
                     "is not supported, unless 'tool_choice' is \"none\"");
}

static enum status read_format(const struct cJSON *top, struct fault *f)
{
    const struct cJSON *v = json_given(top, "response_format");
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

/* -- bodies -- */

static enum status read_lists(struct gen_request *r, const struct cJSON *top, struct fault *f)
{
    static const char allowed[] = "allowed_token_ids";
    const struct cJSON *ids = json_given(top, allowed);
    enum status st = stops_read(r, top, "stop", f);
    if (st == OK)
        st = read_bias(r, top, f);
    if (st == OK)
        st = ids_read(&r->stop_tokens, json_given(top, "stop_token_ids"), "stop_token_ids",
                      SCHED_STOP_TOKENS_MAX, f);
    if (st == OK)
        st = ids_read(&r->allowed, ids, allowed, JSON_NODES_MAX, f);
    if (st == OK && ids && r->allowed.n == 0)
        st = fault_say(f, FAULT_TEXT, allowed, "must not be empty");
    return st;
}

/* What no single member can tell. */
static enum status check_together(const struct gen_request *r, struct fault *f)
{
    if (r->truncate == 0)
        return fault_say(f, FAULT_TEXT, "truncate_prompt_tokens", "must be -1 or at least 1");
    if (!r->echo_only && r->params.min_tokens > r->params.max_new_tokens)
        return fault_say(f, FAULT_TEXT, "min_tokens", "must not be more than 'max_tokens'");
    if (r->stream && r->prompt_logprobs >= 0)
        return fault_say(f, FAULT_UNSUPPORTED, "prompt_logprobs", "is not supported in a stream");
    if (r->n > 1 && judges_prompt(r))
        return fault_say(f, FAULT_UNSUPPORTED, "n",
                         "must be 1 where the prompt's log-probabilities are wanted");
    return OK;
}

/* What chat and completions share, in the order in which a reader would look. */
static enum status read_common(struct gen_request *r, const struct cJSON *top, struct fault *f)
{
    r->truncate = TOKENS_NO_LIMIT;
    enum status st = model_read(r, top, f);
    if (st == OK)
        st = refuse_unsupported(top, f);
    if (st == OK)
        st = tools_read(top, f);
    if (st == OK)
        st = read_format(top, f);
    if (st == OK)
        st = fields_read(r, top, both_fields, ARRAY_LEN(both_fields), true, f);
    if (st == OK)
        st = read_stream_options(r, top, f);
    if (st == OK)
        st = read_lists(r, top, f);
    if (st == OK)
        st = read_salt(r, top, f);
    return st;
}

enum status chat_read(struct gen_request *r, const struct cJSON *top, struct fault *f)
{
    const struct cJSON *kwargs = json_given(top, "chat_template_kwargs");
    if (kwargs && json_kind(kwargs) != JSON_OBJECT)
        return fault_type(f, "chat_template_kwargs", "object", kwargs);
    r->chat.kwargs = kwargs;
    return messages_read(r, json_member(top, "messages"), f);
}

static enum status read_chat(struct gen_request *r, const struct cJSON *top, struct fault *f)
{
    enum status st = read_common(r, top, f);
    if (st == OK)
        st = fields_read(r, top, chat_fields, ARRAY_LEN(chat_fields), true, f);
    if (st == OK)
        st = read_chat_logprobs(r, top, f);
    if (st == OK)
        st = check_together(r, f);
    if (st == OK)
        st = chat_read(r, top, f);
    return st;
}

static enum status read_list(struct gen_request *r, const struct cJSON *list, struct fault *f)
{
    enum json_kind kind = json_kind(json_first(list));
    int32_t i = 0;
    enum status st = OK;
    for (const struct cJSON *v = json_first(list); v && st == OK; v = json_next(v), i++) {
        char param[PARAM_MAX];
        size_t n = 0;
        const char *text = json_string(v, &n);
        snprintf(param, sizeof(param), "prompt[%d]", i);
        if (json_kind(v) != kind)
            st = fault_say(f, FAULT_TEXT, "prompt", "must hold elements of one kind");
        else if (text)
            prompt_add(r, text, n);
        else
            st = prompt_add_ids(r, v, param, f);
    }
    return st;
}

enum status prompts_read(struct gen_request *r, const struct cJSON *v, struct fault *f)
{
    size_t n = 0;
    const char *text = json_string(v, &n);
    const struct cJSON *first = json_first(v);
    if (!text && json_kind(v) != JSON_ARRAY)
        return fault_type(f, "prompt", "string", v);
    bool list = !text && json_kind(first) != JSON_NUMBER;
    if (!text && !first)
        return fault_say(f, FAULT_TEXT, "prompt", "must not be empty");
    if (list && (json_count(v) > PROMPTS_MAX || (int64_t)json_count(v) * r->n > CHOICES_MAX))
        return fault_say(f, FAULT_TEXT, "prompt", "asks for more than 128 answers");
    enum status st = prompts_open(r, list ? json_count(v) : 1);
    if (st != OK)
        return st;
    if (list)
        return read_list(r, v, f);
    if (!text)
        return prompt_add_ids(r, v, "prompt", f);
    prompt_add(r, text, n);
    return OK;
}

static enum status read_completion(struct gen_request *r, const struct cJSON *top, struct fault *f)
{
    r->params.max_new_tokens = COMPLETION_TOKENS_DEFAULT;
    enum status st = read_common(r, top, f);
    if (st == OK)
        st = read_best_of(r, top, f);
    if (st == OK)
        st = fields_read(r, top, completion_fields, ARRAY_LEN(completion_fields), true, f);
    r->echo_only = r->echo && r->params.max_new_tokens == 0;
    if (st == OK && r->params.max_new_tokens == 0 && !r->echo)
        st = fault_say(f, FAULT_TEXT, "max_tokens", "must be at least 1 where nothing is echoed");
    if (st == OK)
        st = check_together(r, f);
    if (st == OK)
        st = prompts_read(r, json_member(top, "prompt"), f);
    return st;
}

enum status openai_parse_chat(struct gen_request *out, const char *body, size_t bytes,
                              struct api_error *err)
{
    return body_parse(out, &wire_chat, body, bytes, read_chat, openai_word, err);
}

enum status openai_parse_completion(struct gen_request *out, const char *body, size_t bytes,
                                    struct api_error *err)
{
    return body_parse(out, &wire_completions, body, bytes, read_completion, openai_word, err);
}

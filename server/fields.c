/* Plain fields go by table; messages are the one nested thing that all formats share.
 * Invariant: a gen_request is either whole or, after gen_request_free(), all zero; every
 * number in it has been checked as a double before it was cast. */
#include "server/fields.h"

#include "server/text.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Below it a temperature only overflows: it is argmax already. */
#define TEMPERATURE_LEAST 1e-5F
/* A penalty divides logits: nearer to 0 it makes them infinite. */
#define REPETITION_LEAST 0.01F

enum status fault_type(struct fault *f, const char *param, const char *want,
                       const struct cJSON *got)
{
    *f = (struct fault){
        .what = json_kind(got) == JSON_ABSENT ? FAULT_ABSENT : FAULT_TYPE,
        .want = want,
        .got = json_kind_text(json_kind(got)),
    };
    snprintf(f->param, sizeof(f->param), "%s", param);
    return E_INVALID;
}

enum status fault_say(struct fault *f, enum fault_what what, const char *param, const char *text)
{
    *f = (struct fault){.what = what, .text = text};
    snprintf(f->param, sizeof(f->param), "%s", param);
    return E_INVALID;
}

enum status fault_sentence(struct fault *f, enum fault_what what, const char *param,
                           const char *text)
{
    enum status st = fault_say(f, what, param, text);
    f->sentence = true;
    return st;
}

static enum status fault_bound(struct fault *f, enum fault_what what, const char *param,
                               double bound)
{
    *f = (struct fault){.what = what, .bound = bound};
    snprintf(f->param, sizeof(f->param), "%s", param);
    return E_INVALID;
}

/* -- plain fields -- */

/* The range of an integer is checked before its being one: what is too large for a double
 * to be exact about is out of range first of all. */
static enum status check_number(const struct field *d, const struct cJSON *v, double *x,
                                struct fault *f)
{
    bool whole = d->kind != FIELD_FLOAT;
    if (!json_number(v, x)) {
        if (json_kind(v) != JSON_NUMBER)
            return fault_type(f, d->name, whole ? "integer" : "number", v);
        return fault_say(f, FAULT_TEXT, d->name, "must be a finite number");
    }
    /* Compared as it will be stored, so that no tiny value turns into a forbidden 0. */
    double stored = whole ? *x : (double)(float)*x;
    if (d->above && stored <= d->min)
        return fault_bound(f, FAULT_NOT_ABOVE, d->name, d->min);
    if (*x < d->min)
        return fault_bound(f, FAULT_LOW, d->name, d->min);
    if (*x > d->max)
        return fault_bound(f, FAULT_HIGH, d->name, d->max);
    int64_t i;
    if (whole && !json_integer(v, &i))
        return fault_type(f, d->name, "integer", v);
    return OK;
}

static enum status read_field(struct gen_request *r, const struct field *d, const struct cJSON *v,
                              struct fault *f)
{
    char *at = (char *)r + d->at;
    double x = 0;
    if (d->kind == FIELD_BOOL || d->kind == FIELD_NOT) {
        bool b = json_true(v) == (d->kind == FIELD_BOOL);
        if (json_kind(v) != JSON_BOOL)
            return fault_type(f, d->name, "boolean", v);
        memcpy(at, &b, sizeof(b));
        return OK;
    }
    enum status st = check_number(d, v, &x, f);
    if (st != OK)
        return st;
    float as_float = (float)x;
    int32_t as_int = 0;
    uint64_t as_seed = 0;
    if (d->kind == FIELD_FLOAT) {
        memcpy(at, &as_float, sizeof(as_float));
    } else if (d->kind == FIELD_INT32) {
        as_int = (int32_t)x;
        memcpy(at, &as_int, sizeof(as_int));
    } else {
        as_seed = (uint64_t)(int64_t)x;
        memcpy(at, &as_seed, sizeof(as_seed));
    }
    return OK;
}

enum status fields_read(struct gen_request *r, const struct cJSON *top, const struct field *table,
                        size_t n, bool null_ok, struct fault *f)
{
    for (size_t i = 0; i < n; i++) {
        const struct cJSON *v = json_member(top, table[i].name);
        enum json_kind kind = json_kind(v);
        if (kind == JSON_ABSENT || (kind == JSON_NULL && null_ok))
            continue;
        enum status st = read_field(r, &table[i], v, f);
        if (st != OK)
            return st;
        if (table[i].given)
            *(bool *)(void *)((char *)r + table[i].given) = true;
    }
    return OK;
}

bool json_inert(const struct cJSON *v)
{
    double x = 0;
    size_t n = 0;
    switch (json_kind(v)) {
    case JSON_BOOL:
        return !json_true(v);
    case JSON_NUMBER:
        return json_number(v, &x) && x == 0;
    case JSON_STRING:
        return json_string(v, &n) && n == 0;
    case JSON_ARRAY:
    case JSON_OBJECT:
        return json_first(v) == NULL;
    default:
        return true;
    }
}

/* The end of every parse: makes neutral what no sampler should meet. */
static void sampling_settle(struct sampling *s)
{
    if (s->temperature < TEMPERATURE_LEAST)
        s->temperature = 0;
    if (s->top_k < 0)
        s->top_k = 0;
    /* Workers AI lets 0 through; as a divisor it could only mean "off". */
    if (s->repetition == 0)
        s->repetition = 1;
    else if (s->repetition < REPETITION_LEAST)
        s->repetition = REPETITION_LEAST;
}

/* -- the body -- */

static void neutral(struct gen_request *r, const struct wire *w)
{
    *r = (struct gen_request){
        .wire = w,
        .n = 1,
        .prompt_logprobs = -1,
        .chat = {.add_generation_prompt = true},
        .params =
            {
                .max_new_tokens = TOKENS_NO_LIMIT,
                .sampling = {.temperature = 1, .top_p = 1, .repetition = 1, .n_logprobs = -1},
            },
    };
}

static enum status body_open(struct gen_request *r, const char *text, size_t bytes,
                             struct api_error *err)
{
    struct json_error at = {.what = NULL};
    enum status st = json_parse(&r->tree, text, bytes, &at);
    if (st == E_INVALID) {
        api_error_set(err, API_BAD_JSON, NULL, NULL);
        snprintf(err->text, sizeof(err->text), "Invalid JSON: %s at byte %zu", at.what, at.offset);
    } else if (st == OK && json_kind(r->tree) != JSON_OBJECT) {
        api_error_set(err, API_BAD_JSON, NULL, "The body must be a JSON object");
        st = E_INVALID;
    }
    return st;
}

enum status body_parse(struct gen_request *r, const struct wire *w, const char *text, size_t bytes,
                       read_fn read, word_fn word, struct api_error *err)
{
    struct fault f = {.what = FAULT_TEXT, .text = ""};
    neutral(r, w);
    enum status st = body_open(r, text, bytes, err);
    if (st == OK) {
        st = read(r, r->tree, &f);
        if (st == E_INVALID) {
            enum api_error_kind kind =
                f.what == FAULT_UNSUPPORTED ? API_UNSUPPORTED : API_BAD_FIELD;
            api_error_set(err, kind, f.param, NULL);
            word(&f, err);
        }
    }
    if (st == OK)
        sampling_settle(&r->params.sampling);
    else
        gen_request_free(r);
    return st;
}

/* -- members that formats share -- */

const struct cJSON *json_given(const struct cJSON *top, const char *name)
{
    const struct cJSON *v = json_member(top, name);
    return json_kind(v) == JSON_NULL ? NULL : v;
}

enum status model_read(struct gen_request *r, const struct cJSON *top, struct fault *f)
{
    const struct cJSON *model = json_given(top, "model");
    const struct cJSON *name = json_given(top, "request_id");
    size_t n = 0;
    if (model && !(r->model = json_string(model, &n)))
        return fault_type(f, "model", "string", model);
    if (n > MODEL_BYTES_MAX)
        return fault_say(f, FAULT_TEXT, "model", "is too long a name");
    if (name && !(r->name = json_string(name, &n)))
        return fault_type(f, "request_id", "string", name);
    if (name && (n == 0 || n > REQUEST_NAME_MAX || !text_is_visible(r->name, n)))
        return fault_say(f, FAULT_TEXT, "request_id", "must be 1 to 128 visible ASCII characters");
    return OK;
}

static enum status add_stop(struct gen_request *r, const struct cJSON *v, const char *list,
                            const char *param, struct fault *f)
{
    size_t n = 0;
    const char *text = json_string(v, &n);
    if (!text)
        return fault_type(f, param, "string", v);
    if (n == 0 || n > STOP_BYTES_MAX)
        return fault_say(f, FAULT_TEXT, param, "must have 1 to 256 bytes");
    if (r->n_stops == STOPS_MAX)
        return fault_say(f, FAULT_TEXT, list, "holds more than 16 strings");
    r->stop[r->n_stops].text = text;
    r->stop[r->n_stops].bytes = n;
    r->n_stops++;
    return OK;
}

enum status stops_read(struct gen_request *r, const struct cJSON *top, const char *name,
                       struct fault *f)
{
    const struct cJSON *v = json_given(top, name);
    if (!v)
        return OK;
    if (json_kind(v) != JSON_ARRAY)
        return add_stop(r, v, name, name, f);
    for (const struct cJSON *i = json_first(v); i; i = json_next(i)) {
        char param[PARAM_MAX];
        snprintf(param, sizeof(param), "%s[%d]", name, r->n_stops);
        enum status st = add_stop(r, i, name, param, f);
        if (st != OK)
            return st;
    }
    return OK;
}

enum status ids_read(struct id_list *out, const struct cJSON *v, const char *param, size_t max,
                     struct fault *f)
{
    size_t n = json_count(v);
    size_t bytes = 0;
    if (json_kind(v) == JSON_NULL || json_kind(v) == JSON_ABSENT)
        return OK;
    if (json_kind(v) != JSON_ARRAY)
        return fault_type(f, param, "array", v);
    if (n == 0)
        return OK;
    if (n > max)
        return fault_say(f, FAULT_TEXT, param, "holds too many token ids");
    if (!size_mul(n, sizeof(*out->id), &bytes) || !(out->id = malloc(bytes)))
        return E_NOMEM;
    for (const struct cJSON *i = json_first(v); i; i = json_next(i)) {
        int64_t id = -1;
        if (!json_integer(i, &id) || id < 0 || id > INT32_MAX)
            return fault_say(f, FAULT_TEXT, param, "must hold token ids, whole numbers from 0");
        out->id[out->n++] = (int32_t)id;
    }
    return OK;
}

enum status prompts_open(struct gen_request *r, size_t n)
{
    r->prompt = calloc(n, sizeof(*r->prompt));
    return r->prompt ? OK : E_NOMEM;
}

void prompt_add(struct gen_request *r, const char *text, size_t bytes)
{
    r->prompt[r->n_prompts++] = (struct gen_prompt){.text = text, .bytes = bytes};
}

enum status prompt_add_ids(struct gen_request *r, const struct cJSON *list, const char *param,
                           struct fault *f)
{
    struct id_list ids = {.id = NULL};
    enum status st = ids_read(&ids, list, param, JSON_NODES_MAX, f);
    r->prompt[r->n_prompts++] = (struct gen_prompt){.ids = ids.id, .n_ids = (size_t)ids.n};
    if (st == OK && ids.n == 0)
        st = fault_say(f, FAULT_TEXT, param, "must not be empty");
    return st;
}

/* -- messages -- */

static void message_param(char out[PARAM_MAX], int32_t i, const char *leaf)
{
    snprintf(out, PARAM_MAX, "messages[%d]%s%s", i, leaf[0] ? "." : "", leaf);
}

static void part_param(char out[PARAM_MAX], int32_t i, int32_t part, const char *leaf)
{
    snprintf(out, PARAM_MAX, "messages[%d].content[%d]%s%s", i, part, leaf[0] ? "." : "", leaf);
}

static enum status check_role(const struct cJSON *role, int32_t i, struct fault *f)
{
    static const char *const known[] = {"system", "developer", "user", "assistant"};
    char param[PARAM_MAX];
    size_t n = 0;
    message_param(param, i, "role");
    const char *name = json_string(role, &n);
    if (!name)
        return fault_type(f, param, "string", role);
    for (size_t k = 0; k < ARRAY_LEN(known); k++) {
        if (strcmp(name, known[k]) == 0)
            return OK;
    }
    if (strcmp(name, "tool") == 0 || strcmp(name, "function") == 0)
        return fault_say(f, FAULT_UNSUPPORTED, param, "names a tool, and tools are not supported");
    return fault_say(f, FAULT_TEXT, param, "must be one of system, developer, user, assistant");
}

static enum status check_part(const struct cJSON *part, int32_t i, int32_t k, struct fault *f)
{
    char param[PARAM_MAX];
    size_t n = 0;
    part_param(param, i, k, "");
    if (json_kind(part) != JSON_OBJECT)
        return fault_type(f, param, "object", part);
    part_param(param, i, k, "type");
    const struct cJSON *kind = json_member(part, "type");
    const char *name = json_string(kind, &n);
    if (!name)
        return fault_type(f, param, "string", kind);
    if (strcmp(name, "text") != 0)
        return fault_say(f, FAULT_UNSUPPORTED, param,
                         "must be text, other parts are not supported");
    part_param(param, i, k, "text");
    const struct cJSON *words = json_member(part, "text");
    return json_string(words, &n) ? OK : fault_type(f, param, "string", words);
}

static enum status check_parts(const struct cJSON *list, int32_t i, struct fault *f)
{
    int32_t k = 0;
    for (const struct cJSON *part = json_first(list); part; part = json_next(part)) {
        enum status st = check_part(part, i, k++, f);
        if (st != OK)
            return st;
    }
    return OK;
}

static enum status check_content(const struct cJSON *v, int32_t i, struct fault *f)
{
    char param[PARAM_MAX];
    size_t n = 0;
    message_param(param, i, "content");
    const struct cJSON *content = json_member(v, "content");
    const char *role = json_string(json_member(v, "role"), &n);
    switch (json_kind(content)) {
    case JSON_STRING:
        return OK;
    case JSON_ARRAY:
        if (!json_first(content))
            return fault_say(f, FAULT_TEXT, param, "must not be empty");
        return check_parts(content, i, f);
    case JSON_ABSENT:
    case JSON_NULL:
        /* An assistant that only called tools has said nothing. */
        if (strcmp(role, "assistant") == 0)
            return OK;
        return fault_type(f, param, "string", content);
    default:
        return fault_type(f, param, "string", content);
    }
}

static enum status check_message(const struct cJSON *v, int32_t i, struct fault *f)
{
    char param[PARAM_MAX];
    message_param(param, i, "");
    if (json_kind(v) != JSON_OBJECT)
        return fault_type(f, param, "object", v);
    enum status st = check_role(json_member(v, "role"), i, f);
    if (st != OK)
        return st;
    message_param(param, i, "tool_calls");
    if (!json_inert(json_member(v, "tool_calls")))
        return fault_say(f, FAULT_UNSUPPORTED, param, "holds tool calls, which are not supported");
    return check_content(v, i, f);
}

enum status messages_read(struct gen_request *r, const struct cJSON *list, struct fault *f)
{
    int32_t i = 0;
    if (json_kind(list) != JSON_ARRAY)
        return fault_type(f, "messages", "array", list);
    size_t n = json_count(list);
    if (n == 0)
        return fault_say(f, FAULT_TEXT, "messages", "must not be empty");
    if (n > MESSAGES_MAX)
        return fault_say(f, FAULT_TEXT, "messages", "holds too many messages, the limit is 2048");
    for (const struct cJSON *v = json_first(list); v; v = json_next(v)) {
        enum status st = check_message(v, i++, f);
        if (st != OK)
            return st;
    }
    r->chat.messages = list;
    return OK;
}

/* The Workers AI formats: the REST route with its envelope and the binding route with bare
 * results. Their inputs, events and errors are the same; only what is wrapped around them
 * differs. Refusals use Cloudflare's numbers and words, because clients match on both.
 * Every event has a string "response": documented clients read it without asking. */
#include "server/workers.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { POINTER_MAX = 72 };

#define AT(member) offsetof(struct gen_request, member)

const struct field workers_fields[] = {
    {"stream", FIELD_BOOL, .at = AT(stream)},
    {"max_tokens", FIELD_INT32, .min = 1, .max = INT32_MAX, .at = AT(params.max_new_tokens)},
    {"temperature", FIELD_FLOAT, .min = 0, .max = 5, .at = AT(params.sampling.temperature),
     .given = AT(temperature_given)},
    {"top_p", FIELD_FLOAT, .min = 0.001, .max = 1, .at = AT(params.sampling.top_p),
     .given = AT(top_p_given)},
    {"top_k", FIELD_INT32, .min = 1, .max = 50, .at = AT(params.sampling.top_k),
     .given = AT(top_k_given)},
    {"seed", FIELD_SEED, .min = 1, .max = 9999999999.0, .at = AT(params.sampling.seed),
     .given = AT(seed_given)},
    {"repetition_penalty", FIELD_FLOAT, .min = 0, .max = 2, .at = AT(params.sampling.repetition),
     .given = AT(repetition_given)},
    {"frequency_penalty", FIELD_FLOAT, .min = -2, .max = 2, .at = AT(params.sampling.frequency)},
    {"presence_penalty", FIELD_FLOAT, .min = -2, .max = 2, .at = AT(params.sampling.presence)},
};

const size_t n_workers_fields = ARRAY_LEN(workers_fields);

/* -- reading -- */

/* "messages[2].content" -> "/messages/2/content". */
static void pointer_of(char out[POINTER_MAX], const char *param)
{
    size_t n = 0;
    out[n++] = '/';
    for (; *param; param++) {
        if (*param == '[' || *param == '.')
            out[n++] = '/';
        else if (*param != ']')
            out[n++] = *param;
    }
    out[n] = '\0';
}

/* The two ways to ask are branches of a oneOf: what is wrong inside one is told together
 * with what the other one misses. */
static const char *branch_of(const char *param)
{
    if (strncmp(param, "messages", 8) == 0)
        return "oneOf at '/' not met, 0 matches: required properties at '/' are 'prompt', ";
    if (strcmp(param, "prompt") == 0)
        return "oneOf at '/' not met, 0 matches: required properties at '/' are 'messages', ";
    return "";
}

static void say_absent(char *out, size_t n, const char *before, char *at)
{
    char *leaf = strrchr(at, '/');
    *leaf = '\0';
    snprintf(out, n, "%srequired properties at '%s' are '%s'", before, at[0] ? at : "/", leaf + 1);
}

static void word(const struct fault *f, struct api_error *err)
{
    const char *before = branch_of(f->param);
    char at[POINTER_MAX];
    char *t = err->text;
    size_t n = sizeof(err->text);
    if (f->sentence) {
        snprintf(t, n, "%s", f->text);
        return;
    }
    pointer_of(at, f->param);
    switch (f->what) {
    case FAULT_TYPE:
        snprintf(t, n, "%sType mismatch of '%s', '%s' not in '%s'", before, at, f->got, f->want);
        break;
    case FAULT_LOW:
        snprintf(t, n, "%s'%s' must be >= %.16g", before, at, f->bound);
        break;
    case FAULT_NOT_ABOVE:
        snprintf(t, n, "%s'%s' must be > %.16g", before, at, f->bound);
        break;
    case FAULT_HIGH:
        snprintf(t, n, "%s'%s' must be <= %.16g", before, at, f->bound);
        break;
    case FAULT_ABSENT:
        say_absent(t, n, before, at);
        break;
    case FAULT_TEXT:
        snprintf(t, n, "%s'%s' %s", before, at, f->text);
        break;
    case FAULT_UNSUPPORTED:
        snprintf(t, n, "'%s' %s", at, f->text);
        break;
    }
}

/* The documentation itself once sends the string "true". */
static enum status read_raw(struct gen_request *r, const struct cJSON *in, struct fault *f)
{
    const struct cJSON *v = json_member(in, "raw");
    size_t n = 0;
    const char *word = json_string(v, &n);
    if (word && (strcmp(word, "true") == 0 || strcmp(word, "false") == 0))
        r->raw = word[0] == 't';
    else if (v && json_kind(v) != JSON_BOOL)
        return fault_type(f, "raw", "boolean", v);
    else
        r->raw = json_true(v);
    return OK;
}

static enum status refuse_unsupported(const struct cJSON *in, struct fault *f)
{
    const struct cJSON *format = json_member(in, "response_format");
    size_t n = 0;
    const char *type = json_string(json_member(format, "type"), &n);
    if (!json_inert(json_member(in, "lora")))
        return fault_sentence(f, FAULT_UNSUPPORTED, "lora",
                              "The model does not support LoRa inference");
    if (!json_inert(json_member(in, "tools")))
        return fault_say(f, FAULT_UNSUPPORTED, "tools", "is not supported by this model");
    if (json_inert(format) || (type && strcmp(type, "text") == 0))
        return OK;
    return fault_sentence(f, FAULT_UNSUPPORTED, "response_format", "JSON Mode couldn't be met");
}

/* Stands beside the inputs on one route and inside them on the other. */
static enum status read_options(struct gen_request *r, const struct cJSON *holder, struct fault *f)
{
    const struct cJSON *options = json_member(holder, "options");
    const struct cJSON *busy = json_member(options, "rejectIfBusy");
    if (json_kind(options) == JSON_NULL)
        return OK;
    if (options && json_kind(options) != JSON_OBJECT)
        return fault_type(f, "options", "object", options);
    if (busy && json_kind(busy) != JSON_BOOL)
        return fault_type(f, "options.rejectIfBusy", "boolean", busy);
    r->reject_if_busy = r->reject_if_busy || json_true(busy);
    return OK;
}

static enum status read_prompt(struct gen_request *r, const struct cJSON *prompt, struct fault *f)
{
    size_t n = 0;
    const char *text = json_string(prompt, &n);
    if (!text)
        return fault_type(f, "prompt", "string", prompt);
    if (n == 0)
        return fault_say(f, FAULT_TEXT, "prompt", "must have a length of at least 1");
    r->chat_prompt = !r->raw;
    if (prompts_open(r, 1))
        return E_NOMEM;
    prompt_add(r, text, n);
    return OK;
}

/* Whether a prompt or a list of messages is there at all: clients that always send both
 * members leave the one they do not mean null or "". */
static bool asks(const struct cJSON *v)
{
    enum json_kind kind = json_kind(v);
    return kind != JSON_ABSENT && kind != JSON_NULL && !(kind == JSON_STRING && json_inert(v));
}

/* Exactly one of prompt and messages. */
static enum status read_question(struct gen_request *r, const struct cJSON *in, struct fault *f)
{
    static const char neither[] =
        "oneOf at '/' not met, 0 matches: required properties at '/' are 'prompt', "
        "required properties at '/' are 'messages'";
    const struct cJSON *prompt = json_member(in, "prompt");
    const struct cJSON *messages = json_member(in, "messages");
    if (!prompt && !messages)
        return fault_sentence(f, FAULT_ABSENT, "", neither);
    if (!messages || (asks(prompt) && !asks(messages)))
        return read_prompt(r, prompt, f);
    if (!asks(prompt))
        return messages_read(r, messages, f);
    if (json_kind(prompt) != JSON_STRING)
        return fault_type(f, "prompt", "string", prompt);
    return fault_sentence(f, FAULT_TEXT, "", "oneOf at '/' not met, 2 matches");
}

static enum status read_inputs(struct gen_request *r, const struct cJSON *in, struct fault *f)
{
    r->params.max_new_tokens = WORKERS_TOKENS_DEFAULT;
    r->params.sampling.temperature = WORKERS_TEMPERATURE_DEFAULT;
    enum status st = read_raw(r, in, f);
    if (st == OK)
        st = read_question(r, in, f);
    if (st == OK)
        st = fields_read(r, in, workers_fields, n_workers_fields, false, f);
    if (st == OK)
        st = read_options(r, in, f);
    if (st == OK)
        st = refuse_unsupported(in, f);
    return st;
}

static enum status read_wrapped(struct gen_request *r, const struct cJSON *top, struct fault *f)
{
    const struct cJSON *in = json_member(top, "inputs");
    enum status st = read_options(r, top, f);
    if (st == OK && in && json_kind(in) != JSON_OBJECT)
        st = fault_type(f, "inputs", "object", in);
    return st == OK ? read_inputs(r, in, f) : st;
}

static enum status parse_rest(struct gen_request *out, const char *body, size_t bytes,
                              struct api_error *err)
{
    return body_parse(out, &wire_workers_rest, body, bytes, read_inputs, word, err);
}

static enum status parse_binding(struct gen_request *out, const char *body, size_t bytes,
                                 struct api_error *err)
{
    return body_parse(out, &wire_workers_binding, body, bytes, read_wrapped, word, err);
}

/* The bodies are OpenAI's; only `options` is not. */
static enum status with_options(enum status st, struct gen_request *r, struct api_error *err)
{
    struct fault f = {.what = FAULT_TEXT, .text = ""};
    if (st != OK || read_options(r, r->tree, &f) == OK)
        return st;
    api_error_set(err, API_BAD_FIELD, f.param, NULL);
    word(&f, err);
    gen_request_free(r);
    return E_INVALID;
}

static enum status parse_chat(struct gen_request *out, const char *body, size_t bytes,
                              struct api_error *err)
{
    return with_options(wire_chat.parse(out, body, bytes, err), out, err);
}

static enum status parse_completions(struct gen_request *out, const char *body, size_t bytes,
                                     struct api_error *err)
{
    return with_options(wire_completions.parse(out, body, bytes, err), out, err);
}

/* -- answers -- */

static void write_usage(struct buf *out, const struct answer *a)
{
    buf_printf(
        out, "\"usage\":{\"prompt_tokens\":%d,\"completion_tokens\":%d,\"total_tokens\":%lld",
        a->prompt_tokens, a->completion_tokens, (long long)a->prompt_tokens + a->completion_tokens);
    if (a->cached_tokens > 0)
        buf_printf(out, ",\"prompt_tokens_details\":{\"cached_tokens\":%d}", a->cached_tokens);
    buf_text(out, "}");
}

/* Sizes of encrypted events tell the lengths of tokens; letters that nobody reads hide them. */
static void write_padding(struct buf *out, const struct answer *a)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz";
    if (a->padding > 0)
        buf_printf(out, ",\"p\":\"%.*s\"", (int)a->padding, letters);
}

/* Nobody asks why an answer has ended, unless it was cut. */
static void write_finish(struct buf *out, const struct answer *a)
{
    if (a->choice->finish == FINISH_LENGTH)
        buf_text(out, ",\"finish_reason\":\"length\"");
}

static void write_event(struct buf *out, const struct gen_request *r, struct answer *a,
                        struct choice *c)
{
    (void)r;
    /* The event of the usage is the end. */
    if (c->finish && c->bytes == 0)
        return;
    buf_text(out, "data: {\"response\":");
    buf_json(out, c->bytes ? c->text : "", c->bytes);
    write_padding(out, a);
    buf_text(out, "}\n\n");
}

static void write_end(struct buf *out, const struct gen_request *r, struct answer *a)
{
    (void)r;
    buf_text(out, "data: {\"response\":\"\",");
    write_usage(out, a);
    write_finish(out, a);
    write_padding(out, a);
    buf_text(out, "}\n\ndata: [DONE]\n\n");
}

static void write_bare(struct buf *out, const struct gen_request *r, struct answer *a)
{
    const struct choice *c = a->choice;
    (void)r;
    buf_text(out, "{\"response\":");
    buf_json(out, c->bytes ? c->text : "", c->bytes);
    buf_text(out, ",");
    write_usage(out, a);
    write_finish(out, a);
    buf_text(out, "}");
}

static void write_envelope(struct buf *out, const struct gen_request *r, struct answer *a)
{
    buf_text(out, "{\"result\":");
    write_bare(out, r, a);
    buf_text(out, ",\"success\":true,\"errors\":[],\"messages\":[]}");
}

/* -- errors -- */

#define CAPACITY "Capacity temporarily exceeded, please try again."

/* One row of Cloudflare's list. The codes 5006, 5021 and 3043 stand in no table of theirs
 * but in every client's: bad input, context exceeded, and what went wrong on our side. */
struct failure {
    int32_t code;
    int status;
    bool front;         /* refused before the model was asked: no "AiError", result null */
    const char *before; /* of the text, in the description */
    const char *text;   /* for an error that brings none */
};

static const struct failure failures[] = {
    [API_BAD_JSON] = {5006, 400, false, "", "Invalid JSON"},
    [API_BAD_FIELD] = {5006, 400, false, "Error: ", "Invalid value"},
    [API_TOO_LONG] = {5021, 413, false, "",
                      "The estimated number of input and maximum output tokens exceeded this "
                      "model context window limit"},
    [API_NO_MODEL] = {5007, 400, false, "", "No such model or task"},
    [API_NO_ROUTE] = {7003, 404, true, "",
                      "Could not route to this path, perhaps your object identifier is invalid?"},
    [API_BAD_METHOD] = {7000, 400, true, "", "No route for that URI"},
    [API_TOO_LARGE] = {3006, 413, false, "", "Request is too large"},
    [API_TIMEOUT] = {3007, 408, false, "", "Request timeout"},
    [API_UNAUTHORIZED] = {10000, 401, true, "", "Authentication error"},
    [API_UNSUPPORTED] = {5006, 400, false, "", "Not supported"},
    [API_BUSY] = {3040, 429, false, "", CAPACITY},
    [API_NOT_READY] = {3040, 503, false, "", CAPACITY},
    [API_ENGINE] = {3043, 500, false, "", "Internal server error"},
    [API_NO_KEY] = {9106, 400, true, "",
                    "Missing X-Auth-Key, X-Auth-Email or Authorization headers"},
    [API_MISSING] = {3003, 400, false, "Request is missing headers or body: ", "unknown"},
    [API_BAD_NAME] = {3042, 404, false, "", "The model name is invalid"},
    [API_OLD_SDK] = {5019, 405, false, "", "Request trying to use deprecated SDK version"},
    [API_BAD_HTTP] = {7000, 400, true, "", "Invalid request"},
};

static_assert(ARRAY_LEN(failures) == API_BAD_HTTP + 1, "every kind has its number");

static struct failure failure_of(const struct api_error *e)
{
    if (e->kind == API_UNSUPPORTED && strcmp(e->param, "lora") == 0)
        return (struct failure){5005, 405, false, "", "LoRa inference is not supported"};
    return failures[e->kind];
}

/* Wrangler explains this number to its user. */
static struct failure proxy_failure_of(const struct api_error *e)
{
    if (e->kind == API_UNAUTHORIZED)
        return (struct failure){1031, 403, true, "", "Authentication error"};
    return failure_of(e);
}

/* "AiError: Bad input: Error: oneOf ..."; short: what the binding calls description. */
static void write_message(struct buf *out, const struct failure *f, const struct api_error *e,
                          const char *request_id, bool brief)
{
    struct buf t = {.data = NULL};
    bool input = e->kind == API_BAD_JSON || e->kind == API_BAD_FIELD;
    if (!brief && !f->front)
        buf_text(&t, input ? "AiError: Bad input: " : "AiError: ");
    buf_text(&t, f->before);
    buf_text(&t, e->text[0] ? e->text : f->text);
    if (!brief && !f->front && request_id)
        buf_printf(&t, " (%s)", request_id);
    buf_json(out, t.n ? t.data : "", t.n);
    out->failed = out->failed || t.failed;
    buf_free(&t);
}

/* Without the closing brace. */
static void open_envelope(struct buf *out, const struct failure *f, const struct api_error *e,
                          const char *request_id)
{
    buf_text(out, "{\"errors\":[{\"message\":");
    write_message(out, f, e, request_id, false);
    buf_printf(out, ",\"code\":%d}],\"success\":false,\"result\":%s,\"messages\":[]", f->code,
               f->front ? "null" : "{}");
}

static void rest_error(struct buf *out, const struct api_error *e, const char *request_id)
{
    struct failure f = failure_of(e);
    open_envelope(out, &f, e, request_id);
    buf_text(out, "}");
}

static void proxy_error(struct buf *out, const struct api_error *e, const char *request_id)
{
    struct failure f = proxy_failure_of(e);
    open_envelope(out, &f, e, request_id);
    buf_text(out, "}");
}

/* Clients of both families look for their own member. */
static void both_errors(struct buf *out, const struct api_error *e, const char *request_id)
{
    struct failure f = failure_of(e);
    struct buf other = {.data = NULL};
    open_envelope(out, &f, e, request_id);
    wire_chat.error(&other, e, request_id);
    buf_text(out, ",");
    if (other.n > 1)
        buf_add(out, other.data + 1, other.n - 1);
    out->failed = out->failed || other.failed;
    buf_free(&other);
}

static void binding_error(struct buf *out, const struct api_error *e, const char *request_id)
{
    struct failure f = failure_of(e);
    buf_printf(out, "{\"internalCode\":%d,\"httpCode\":%d,\"message\":", f.code, f.status);
    write_message(out, &f, e, NULL, false);
    buf_text(out, ",\"name\":\"AiError\",\"description\":");
    write_message(out, &f, e, NULL, true);
    buf_text(out, ",\"requestId\":");
    buf_json_text(out, request_id ? request_id : "");
    buf_text(out, "}");
}

/* No [DONE]: clients that watch for it learn that the answer is not whole; to all others
 * the event is one more empty piece of text. */
static void stream_error(struct buf *out, const struct api_error *e, const char *request_id)
{
    struct failure f = failure_of(e);
    buf_text(out, "data: {\"response\":\"\",\"errors\":[{\"message\":");
    write_message(out, &f, e, request_id, false);
    buf_printf(out, ",\"code\":%d}]}\n\n", f.code);
}

static int error_status(const struct api_error *e)
{
    return failure_of(e).status;
}

static int proxy_status(const struct api_error *e)
{
    return proxy_failure_of(e).status;
}

#define NO_MODEL                                                                                   \
    {                                                                                              \
        "No such model ", " or task"                                                               \
    }
#define TOO_LONG                                                                                   \
    {                                                                                              \
        "The estimated number of input and maximum output tokens (",                               \
            ") exceeded this model context window limit (", ")"                                    \
    }

const struct wire wire_workers_rest = {
    .name = "workers",
    .id_prefix = "",
    .stream_type = "text/event-stream",
    .whole_type = "application/json",
    .id_header = "cf-ai-req-id",
    .parse = parse_rest,
    .delta = write_event,
    .end = write_end,
    .whole = write_envelope,
    .error = rest_error,
    .stream_error = stream_error,
    .status = error_status,
    .no_model = NO_MODEL,
    .too_long = TOO_LONG,
};

const struct wire wire_workers_binding = {
    .name = "workers_binding",
    .id_prefix = "",
    .stream_type = "text/event-stream",
    .whole_type = "application/json",
    .id_header = "cf-ai-req-id",
    .parse = parse_binding,
    .delta = write_event,
    .end = write_end,
    .whole = write_bare,
    .error = binding_error,
    .stream_error = stream_error,
    .status = error_status,
    .no_model = NO_MODEL,
    .too_long = TOO_LONG,
};

/* What is read is a request of wire_chat or wire_completions and answered by it. */
const struct wire wire_workers_chat = {
    .name = "workers_chat",
    .whole_type = "application/json",
    .id_header = "cf-ai-req-id",
    .parse = parse_chat,
    .error = both_errors,
    .status = error_status,
    .no_model = NO_MODEL,
    .too_long = TOO_LONG,
};

const struct wire wire_workers_completions = {
    .name = "workers_completions",
    .whole_type = "application/json",
    .id_header = "cf-ai-req-id",
    .parse = parse_completions,
    .error = both_errors,
    .status = error_status,
    .no_model = NO_MODEL,
    .too_long = TOO_LONG,
};

const struct wire wire_workers_proxy = {
    .name = "workers_proxy",
    .whole_type = "application/json",
    .id_header = "cf-ai-req-id",
    .error = proxy_error,
    .status = proxy_status,
    .no_model = NO_MODEL,
    .too_long = TOO_LONG,
};

/* The OpenAI formats, writing. Streams put the role beside the first text and the finish
 * reason beside the last one: chunks that carry neither text nor an end would count as
 * tokens in every load test. Texts from outside enter only through buf_json(). */
#include "server/fields.h"
#include "server/openai.h"
#include "server/text.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* Names the configuration that answers; a change of it may change answers under one seed. */
#define FINGERPRINT "fp_firstlight_1"

/* What stands for a logprob that JSON cannot hold. */
#define LOGPROB_UNKNOWN (-9999.0)

static const char *finish_text(enum finish_reason finish)
{
    switch (finish) {
    case FINISH_STOP:
        return "stop";
    case FINISH_LENGTH:
        return "length";
    case FINISH_NONE:
        break;
    }
    return NULL;
}

static void write_finish(struct buf *out, const struct choice *c)
{
    const char *finish = finish_text(c->finish);
    buf_text(out, ",\"finish_reason\":");
    if (finish)
        buf_json_text(out, finish);
    else
        buf_text(out, "null");
}

/* What exactly ended it: a stop string, a stop token, or neither of them. */
static void write_stop_reason(struct buf *out, const struct choice *c)
{
    buf_text(out, ",\"stop_reason\":");
    if (c->stop_text)
        buf_json(out, c->stop_text, c->stop_bytes);
    else if (c->finish && c->stop_token >= 0)
        buf_printf(out, "%d", c->stop_token);
    else
        buf_text(out, "null");
}

void openai_write_ids(struct buf *out, const char *name, const int32_t *id, int32_t n)
{
    buf_printf(out, ",\"%s\":[", name);
    for (int32_t i = 0; i < n; i++)
        buf_printf(out, i ? ",%d" : "%d", id[i]);
    buf_text(out, "]");
}

static void write_head(struct buf *out, const struct answer *a, const char *object)
{
    buf_text(out, "{\"id\":");
    buf_json_text(out, a->id);
    buf_printf(out, ",\"object\":\"%s\",\"created\":%lld,\"model\":", object,
               (long long)a->created);
    buf_json_text(out, a->model ? a->model : "");
}

static void write_usage(struct buf *out, const struct answer *a)
{
    buf_printf(out,
               "\"usage\":{\"prompt_tokens\":%d,\"completion_tokens\":%d,\"total_tokens\":%lld,"
               "\"prompt_tokens_details\":{\"cached_tokens\":%d}}",
               a->prompt_tokens, a->completion_tokens,
               (long long)a->prompt_tokens + a->completion_tokens, a->cached_tokens);
}

/* Opens a chunk up to its choices. */
static void begin_chunk(struct buf *out, const struct answer *a, const char *object)
{
    buf_text(out, "data: ");
    write_head(out, a, object);
    buf_text(out, ",\"system_fingerprint\":\"" FINGERPRINT "\",\"choices\":[");
}

/* prompt: the choice whose prompt has to be told beside it, or NULL. */
static void end_chunk(struct buf *out, const struct gen_request *r, const struct answer *a,
                      const struct choice *prompt)
{
    buf_text(out, "]");
    if (prompt)
        openai_write_ids(out, "prompt_token_ids", prompt->prompt, prompt->n_prompt);
    if (r->stream_usage && r->usage_always) {
        buf_text(out, ",");
        write_usage(out, a);
    } else if (r->stream_usage) {
        buf_text(out, ",\"usage\":null");
    }
    buf_text(out, "}\n\n");
}

static void end_stream(struct buf *out, const struct gen_request *r, const struct answer *a,
                       const char *object)
{
    if (r->stream_usage) {
        begin_chunk(out, a, object);
        buf_text(out, "],");
        write_usage(out, a);
        buf_text(out, "}\n\n");
    }
    buf_text(out, "data: [DONE]\n\n");
}

/* -- logprobs -- */

static void write_logprob(struct buf *out, float logprob)
{
    buf_printf(out, "%.7g", isfinite(logprob) ? (double)logprob : LOGPROB_UNKNOWN);
}

/* A token may hold a part of a character; it is then named by its bytes, as OpenAI does. */
void openai_write_token(struct buf *out, const struct gen_request *r, const struct token_text *t)
{
    if (r->ids_as_text) {
        buf_printf(out, "\"token_id:%d\"", t->token);
        return;
    }
    if (text_is_utf8(t->text, t->bytes)) {
        buf_json(out, t->bytes ? t->text : "", t->bytes);
        return;
    }
    buf_text(out, "\"bytes:");
    for (size_t i = 0; i < t->bytes; i++)
        buf_printf(out, "\\\\x%02x", (unsigned char)t->text[i]);
    buf_text(out, "\"");
}

static void write_chat_token(struct buf *out, const struct gen_request *r,
                             const struct token_text *t)
{
    buf_text(out, "{\"token\":");
    openai_write_token(out, r, t);
    buf_text(out, ",\"logprob\":");
    write_logprob(out, t->logprob);
    buf_text(out, ",\"bytes\":[");
    for (size_t i = 0; i < t->bytes; i++)
        buf_printf(out, i ? ",%d" : "%d", (unsigned char)t->text[i]);
    buf_text(out, "]");
}

static void write_chat_logprobs(struct buf *out, const struct gen_request *r,
                                const struct choice *c)
{
    const struct token_detail *d = c->detail.at;
    buf_text(out, ",\"logprobs\":");
    if (r->params.sampling.n_logprobs < 0) {
        buf_text(out, "null");
        return;
    }
    buf_text(out, "{\"content\":[");
    for (int32_t i = 0; i < c->detail.n; i++) {
        buf_text(out, i ? "," : "");
        write_chat_token(out, r, &d[i].drawn);
        buf_text(out, ",\"top_logprobs\":[");
        for (int32_t k = 0; k < d[i].n_top; k++) {
            buf_text(out, k ? "," : "");
            write_chat_token(out, r, &d[i].top[k]);
            buf_text(out, "}");
        }
        buf_text(out, "]}");
    }
    buf_text(out, "],\"refusal\":null}");
}

/* One entry of vLLM's maps; rank 0: not known. */
static void write_ranked(struct buf *out, const struct gen_request *r, const struct token_text *t,
                         int32_t rank)
{
    buf_printf(out, "\"%d\":{\"logprob\":", t->token);
    write_logprob(out, t->logprob);
    buf_text(out, ",\"rank\":");
    if (rank)
        buf_printf(out, "%d", rank);
    else
        buf_text(out, "null");
    buf_text(out, ",\"decoded_token\":");
    openai_write_token(out, r, t);
    buf_text(out, "}");
}

/* The token itself and those that would have been likelier or nearly as likely. */
static void write_judged(struct buf *out, const struct gen_request *r, const struct token_detail *d)
{
    int32_t rank = 0;
    if (d->first) {
        buf_text(out, "null");
        return;
    }
    for (int32_t k = 0; k < d->n_top && !rank; k++)
        rank = d->top[k].token == d->drawn.token ? k + 1 : 0;
    buf_text(out, "{");
    write_ranked(out, r, &d->drawn, rank);
    for (int32_t k = 0; k < d->n_top; k++) {
        if (k + 1 == rank)
            continue;
        buf_text(out, ",");
        write_ranked(out, r, &d->top[k], k + 1);
    }
    buf_text(out, "}");
}

static void write_prompt_logprobs(struct buf *out, const struct gen_request *r,
                                  const struct choice *c)
{
    if (r->prompt_logprobs < 0)
        return;
    buf_text(out, ",\"prompt_logprobs\":[");
    for (int32_t i = 0; i < c->prompt_detail.n; i++) {
        buf_text(out, i ? "," : "");
        write_judged(out, r, &c->prompt_detail.at[i]);
    }
    buf_text(out, "]");
}

/* Characters that begin in this text: parts of one character add up to 1. */
static int64_t count_characters(const char *text, size_t bytes)
{
    int64_t n = 0;
    for (size_t i = 0; i < bytes; i++)
        n += ((unsigned char)text[i] & 0xC0) != 0x80;
    return n;
}

/* Whether two tokens would be one name of a map. */
static bool same_name(const struct gen_request *r, const struct token_text *a,
                      const struct token_text *b)
{
    if (r->ids_as_text)
        return a->token == b->token;
    return a->bytes == b->bytes && memcmp(a->text, b->text, a->bytes) == 0;
}

/* A map: names must differ, although two ids can be the same text. */
static void write_top_map(struct buf *out, const struct gen_request *r,
                          const struct token_detail *d)
{
    bool drawn = false;
    int32_t n = 0;
    buf_text(out, "{");
    for (int32_t i = 0; i < d->n_top; i++) {
        bool seen = false;
        for (int32_t k = 0; k < i && !seen; k++)
            seen = same_name(r, &d->top[k], &d->top[i]);
        if (seen)
            continue;
        drawn = drawn || same_name(r, &d->top[i], &d->drawn);
        buf_text(out, n++ ? "," : "");
        openai_write_token(out, r, &d->top[i]);
        buf_text(out, ":");
        write_logprob(out, d->top[i].logprob);
    }
    if (!drawn) {
        buf_text(out, n ? "," : "");
        openai_write_token(out, r, &d->drawn);
        buf_text(out, ":");
        write_logprob(out, d->drawn.logprob);
    }
    buf_text(out, "}");
}

/* Four lists of equal length; the offset runs on through a stream. */
static void write_completion_logprobs(struct buf *out, const struct gen_request *r,
                                      struct choice *c)
{
    const struct token_detail *d = c->detail.at;
    int32_t n = c->detail.n;
    buf_text(out, ",\"logprobs\":");
    if (r->params.sampling.n_logprobs < 0) {
        buf_text(out, "null");
        return;
    }
    buf_text(out, "{\"tokens\":[");
    for (int32_t i = 0; i < n; i++) {
        buf_text(out, i ? "," : "");
        openai_write_token(out, r, &d[i].drawn);
    }
    buf_text(out, "],\"token_logprobs\":[");
    for (int32_t i = 0; i < n; i++) {
        buf_text(out, i ? "," : "");
        if (d[i].first)
            buf_text(out, "null");
        else
            write_logprob(out, d[i].drawn.logprob);
    }
    buf_text(out, "],\"top_logprobs\":[");
    for (int32_t i = 0; i < n; i++) {
        buf_text(out, i ? "," : "");
        if (d[i].first)
            buf_text(out, "null");
        else
            write_top_map(out, r, &d[i]);
    }
    buf_text(out, "],\"text_offset\":[");
    for (int32_t i = 0; i < n; i++) {
        buf_printf(out, i ? ",%lld" : "%lld", (long long)c->text_offset);
        c->text_offset += count_characters(d[i].drawn.text, d[i].drawn.bytes);
    }
    buf_text(out, "]}");
}

/* -- chat -- */

static const char chat_chunk_object[] = "chat.completion.chunk";

static void chat_delta(struct buf *out, const struct gen_request *r, struct answer *a,
                       struct choice *c)
{
    begin_chunk(out, a, chat_chunk_object);
    buf_printf(out, "{\"index\":%d,\"delta\":{", c->index);
    if (!c->started)
        buf_text(out, "\"role\":\"assistant\",");
    /* The very last delta may be empty, every other one has content. */
    if (!c->started || !c->finish || c->bytes > 0) {
        buf_text(out, "\"content\":");
        buf_json(out, c->bytes ? c->text : "", c->bytes);
    }
    buf_text(out, "}");
    write_chat_logprobs(out, r, c);
    write_finish(out, c);
    if (c->finish)
        write_stop_reason(out, c);
    if (r->return_ids)
        openai_write_ids(out, "token_ids", c->token, c->n_token);
    buf_text(out, "}");
    end_chunk(out, r, a, r->return_ids && !c->started ? c : NULL);
    c->started = true;
}

static void chat_end(struct buf *out, const struct gen_request *r, struct answer *a)
{
    end_stream(out, r, a, chat_chunk_object);
}

static void chat_whole(struct buf *out, const struct gen_request *r, struct answer *a)
{
    write_head(out, a, "chat.completion");
    buf_text(out, ",\"choices\":[");
    for (int32_t i = 0; i < a->n_choices; i++) {
        const struct choice *c = &a->choice[i];
        buf_printf(out,
                   "%s{\"index\":%d,\"message\":{\"role\":\"assistant\",\"content\":", i ? "," : "",
                   c->index);
        buf_json(out, c->bytes ? c->text : "", c->bytes);
        buf_text(out, ",\"refusal\":null}");
        write_chat_logprobs(out, r, c);
        write_finish(out, c);
        write_stop_reason(out, c);
        if (r->return_ids)
            openai_write_ids(out, "token_ids", c->token, c->n_token);
        buf_text(out, "}");
    }
    buf_text(out, "],");
    write_usage(out, a);
    write_prompt_logprobs(out, r, a->choice);
    if (r->return_ids)
        openai_write_ids(out, "prompt_token_ids", a->choice->prompt, a->choice->n_prompt);
    buf_text(out, ",\"system_fingerprint\":\"" FINGERPRINT "\"}");
}

/* -- completions -- */

static const char completion_object[] = "text_completion";

static void write_completion(struct buf *out, const struct gen_request *r, struct choice *c)
{
    buf_printf(out, "{\"index\":%d,\"text\":", c->index);
    buf_json(out, c->bytes ? c->text : "", c->bytes);
    write_completion_logprobs(out, r, c);
    write_finish(out, c);
    write_stop_reason(out, c);
    if (r->return_ids) {
        openai_write_ids(out, "token_ids", c->token, c->n_token);
        if (!c->started)
            openai_write_ids(out, "prompt_token_ids", c->prompt, c->n_prompt);
    }
    if (!r->stream)
        write_prompt_logprobs(out, r, c);
    buf_text(out, "}");
    c->started = true;
}

static void completion_delta(struct buf *out, const struct gen_request *r, struct answer *a,
                             struct choice *c)
{
    begin_chunk(out, a, completion_object);
    write_completion(out, r, c);
    end_chunk(out, r, a, NULL);
}

static void completion_end(struct buf *out, const struct gen_request *r, struct answer *a)
{
    end_stream(out, r, a, completion_object);
}

static void completion_whole(struct buf *out, const struct gen_request *r, struct answer *a)
{
    write_head(out, a, completion_object);
    buf_text(out, ",\"choices\":[");
    for (int32_t i = 0; i < a->n_choices; i++) {
        buf_text(out, i ? "," : "");
        write_completion(out, r, &a->choice[i]);
    }
    buf_text(out, "],");
    write_usage(out, a);
    buf_text(out, ",\"system_fingerprint\":\"" FINGERPRINT "\"}");
}

/* -- errors -- */

/* NULL code: null in the answer. text is for an error that brings none. */
struct error_words {
    const char *type;
    const char *code;
    const char *text;
};

#define INVALID "invalid_request_error"
#define SERVER  "server_error"

static const struct error_words error_words[] = {
    [API_BAD_JSON] = {INVALID, NULL, "The body is not valid JSON"},
    [API_BAD_FIELD] = {INVALID, "invalid_value", "Invalid value"},
    [API_TOO_LONG] = {INVALID, "context_length_exceeded",
                      "The prompt is longer than the context of the model"},
    [API_NO_MODEL] = {INVALID, "model_not_found", "The model does not exist"},
    [API_MISSING] = {INVALID, NULL, "The request lacks a header or a parameter"},
    [API_BAD_NAME] = {INVALID, "model_not_found", "The name of the model is invalid"},
    [API_OLD_SDK] = {INVALID, NULL, "This version of the client is too old"},
    [API_NO_ROUTE] = {INVALID, "unknown_url", "Unknown request URL"},
    [API_BAD_METHOD] = {INVALID, "method_not_supported", "Method not supported for this URL"},
    [API_TOO_LARGE] = {INVALID, NULL, "The request is too large"},
    [API_TIMEOUT] = {INVALID, "request_timeout", "The request took too long"},
    [API_UNAUTHORIZED] = {INVALID, "invalid_api_key", "Incorrect API key provided"},
    [API_NO_KEY] = {INVALID, "invalid_api_key", "No API key provided"},
    [API_UNSUPPORTED] = {INVALID, "unsupported_parameter", "Not supported"},
    [API_BUSY] = {"requests", "rate_limit_exceeded", "The server is busy, try again later"},
    [API_NOT_READY] = {SERVER, NULL, "The model is not ready"},
    [API_BAD_HTTP] = {INVALID, NULL, "The request is not valid HTTP"},
    [API_ENGINE] = {SERVER, NULL, "The server could not complete the request"},
};

static_assert(ARRAY_LEN(error_words) == API_BAD_HTTP + 1, "every kind has its words");

const char *openai_error_text(enum api_error_kind kind)
{
    return error_words[kind].text;
}

void openai_write_error(struct buf *out, const struct api_error *e, const char *too_long_param)
{
    const struct error_words *w = &error_words[e->kind];
    const char *param = e->param;
    if (!param[0] && e->kind == API_TOO_LONG)
        param = too_long_param;
    buf_text(out, "{\"error\":{\"message\":");
    buf_json_text(out, e->text[0] ? e->text : w->text);
    buf_printf(out, ",\"type\":\"%s\",\"param\":", w->type);
    if (param[0])
        buf_json_text(out, param);
    else
        buf_text(out, "null");
    buf_text(out, ",\"code\":");
    if (w->code)
        buf_json_text(out, w->code);
    else
        buf_text(out, "null");
    buf_text(out, "}}");
}

void openai_error(struct buf *out, const struct api_error *e, const char *request_id)
{
    (void)request_id;
    openai_write_error(out, e, "messages");
}

static void completion_error(struct buf *out, const struct api_error *e, const char *request_id)
{
    (void)request_id;
    openai_write_error(out, e, "prompt");
}

static void stream_error(struct buf *out, const struct api_error *e, const char *request_id)
{
    (void)request_id;
    buf_text(out, "data: ");
    openai_write_error(out, e, "");
    buf_text(out, "\n\ndata: [DONE]\n\n");
}

int openai_status(const struct api_error *e)
{
    return api_error_status(e->kind);
}

const struct wire wire_chat = {
    .name = "chat",
    .id_prefix = "chatcmpl-",
    .stream_type = "text/event-stream; charset=utf-8",
    .whole_type = "application/json",
    .comments = true,
    .tells_limits = true,
    .model_defaults = true,
    .parse = openai_parse_chat,
    .delta = chat_delta,
    .end = chat_end,
    .whole = chat_whole,
    .error = openai_error,
    .stream_error = stream_error,
    .status = openai_status,
    .no_model = {"The model '", "' does not exist"},
    .too_long = {"The request needs ", " tokens, but the context of the model is ", " tokens"},
};

const struct wire wire_completions = {
    .name = "completions",
    .id_prefix = "cmpl-",
    .stream_type = "text/event-stream; charset=utf-8",
    .whole_type = "application/json",
    .comments = true,
    .tells_limits = true,
    .model_defaults = true,
    .parse = openai_parse_completion,
    .delta = completion_delta,
    .end = completion_end,
    .whole = completion_whole,
    .error = completion_error,
    .stream_error = stream_error,
    .status = openai_status,
    .no_model = {"The model '", "' does not exist"},
    .too_long = {"The request needs ", " tokens, but the context of the model is ", " tokens"},
};

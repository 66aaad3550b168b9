/* The OpenAI formats, writing. Streams put the role beside the first text and the finish
 * reason beside the last one: chunks that carry neither text nor an end would count as
 * tokens in every load test. Texts from outside enter only through buf_json(). */

#include "server/fields.h"
#include "server/openai.h"

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
    case FINISH_ERROR:
        break;
    }
    return "error";
}

static void write_finish(struct buf *out, const char *finish)
{
    buf_text(out, ",\"finish_reason\":");
    if (finish)
        buf_json_text(out, finish);
    else
        buf_text(out, "null");
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

static void end_chunk(struct buf *out, const struct gen_request *r)
{
    buf_text(out, r->stream_usage ? "],\"usage\":null}\n\n" : "]}\n\n");
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

/* ---- logprobs ------------------------------------------------------------------------ */

static void write_logprob(struct buf *out, float logprob)
{
    buf_printf(out, "%.7g", isfinite(logprob) ? (double)logprob : LOGPROB_UNKNOWN);
}

static bool is_text(const char *text, size_t bytes)
{
    while (bytes > 0) {
        size_t n = json_utf8(text, bytes);
        if (n == 0)
            return false;
        text += n;
        bytes -= n;
    }
    return true;
}

/* A token may hold a part of a character; it is then named by its bytes, as OpenAI does. */
static void write_token(struct buf *out, const char *text, size_t bytes)
{
    if (is_text(text, bytes)) {
        buf_json(out, bytes ? text : "", bytes);
        return;
    }
    buf_text(out, "\"bytes:");
    for (size_t i = 0; i < bytes; i++)
        buf_printf(out, "\\\\x%02x", (unsigned char)text[i]);
    buf_text(out, "\"");
}

static void write_chat_token(struct buf *out, const char *text, size_t bytes, float logprob)
{
    buf_text(out, "{\"token\":");
    write_token(out, text, bytes);
    buf_text(out, ",\"logprob\":");
    write_logprob(out, logprob);
    buf_text(out, ",\"bytes\":[");
    for (size_t i = 0; i < bytes; i++)
        buf_printf(out, i ? ",%d" : "%d", (unsigned char)text[i]);
    buf_text(out, "]");
}

static void write_chat_logprobs(struct buf *out, const struct gen_request *r,
                                const struct token_detail *d, int32_t n)
{
    buf_text(out, ",\"logprobs\":");
    if (r->params.sampling.n_logprobs < 0) {
        buf_text(out, "null");
        return;
    }
    buf_text(out, "{\"content\":[");
    for (int32_t i = 0; i < n; i++) {
        buf_text(out, i ? "," : "");
        write_chat_token(out, d[i].text, d[i].bytes, d[i].logprob);
        buf_text(out, ",\"top_logprobs\":[");
        for (int32_t k = 0; k < d[i].n_top; k++) {
            buf_text(out, k ? "," : "");
            write_chat_token(out, d[i].top[k].text, d[i].top[k].bytes, d[i].top[k].logprob);
            buf_text(out, "}");
        }
        buf_text(out, "]}");
    }
    buf_text(out, "],\"refusal\":null}");
}

/* Characters that begin in this text: parts of one character add up to 1. */
static int64_t count_characters(const char *text, size_t bytes)
{
    int64_t n = 0;
    for (size_t i = 0; i < bytes; i++)
        n += ((unsigned char)text[i] & 0xC0) != 0x80;
    return n;
}

static bool same_text(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    return a_bytes == b_bytes && memcmp(a, b, a_bytes) == 0;
}

/* A map: names must differ, although two ids can be the same text. */
static void write_top_map(struct buf *out, const struct token_detail *d)
{
    bool drawn = false;
    int32_t n = 0;
    buf_text(out, "{");
    for (int32_t i = 0; i < d->n_top; i++) {
        bool seen = false;
        for (int32_t k = 0; k < i && !seen; k++)
            seen = same_text(d->top[k].text, d->top[k].bytes, d->top[i].text, d->top[i].bytes);
        if (seen)
            continue;
        drawn = drawn || same_text(d->top[i].text, d->top[i].bytes, d->text, d->bytes);
        buf_text(out, n++ ? "," : "");
        write_token(out, d->top[i].text, d->top[i].bytes);
        buf_text(out, ":");
        write_logprob(out, d->top[i].logprob);
    }
    if (!drawn) {
        buf_text(out, n ? "," : "");
        write_token(out, d->text, d->bytes);
        buf_text(out, ":");
        write_logprob(out, d->logprob);
    }
    buf_text(out, "}");
}

/* Four lists of equal length; *offset runs on through a stream. */
static void write_completion_logprobs(struct buf *out, const struct gen_request *r,
                                      const struct token_detail *d, int32_t n, int64_t *offset)
{
    buf_text(out, ",\"logprobs\":");
    if (r->params.sampling.n_logprobs < 0) {
        buf_text(out, "null");
        return;
    }
    buf_text(out, "{\"tokens\":[");
    for (int32_t i = 0; i < n; i++) {
        buf_text(out, i ? "," : "");
        write_token(out, d[i].text, d[i].bytes);
    }
    buf_text(out, "],\"token_logprobs\":[");
    for (int32_t i = 0; i < n; i++) {
        buf_text(out, i ? "," : "");
        write_logprob(out, d[i].logprob);
    }
    buf_text(out, "],\"top_logprobs\":[");
    for (int32_t i = 0; i < n; i++) {
        buf_text(out, i ? "," : "");
        write_top_map(out, &d[i]);
    }
    buf_text(out, "],\"text_offset\":[");
    for (int32_t i = 0; i < n; i++) {
        buf_printf(out, i ? ",%lld" : "%lld", (long long)*offset);
        *offset += count_characters(d[i].text, d[i].bytes);
    }
    buf_text(out, "]}");
}

/* ---- chat ---------------------------------------------------------------------------- */

static const char chat_chunk_object[] = "chat.completion.chunk";

/* finish NULL: more will come. */
static void chat_chunk(struct buf *out, const struct gen_request *r, struct answer *a,
                       const char *text, size_t bytes, const struct token_detail *detail,
                       int32_t n_detail, const char *finish)
{
    begin_chunk(out, a, chat_chunk_object);
    buf_text(out, "{\"index\":0,\"delta\":{");
    if (!a->started)
        buf_text(out, "\"role\":\"assistant\",");
    /* The very last delta may be empty, every other one has content. */
    if (!a->started || !finish || bytes > 0) {
        buf_text(out, "\"content\":");
        buf_json(out, bytes ? text : "", bytes);
    }
    buf_text(out, "}");
    write_chat_logprobs(out, r, detail, n_detail);
    write_finish(out, finish);
    buf_text(out, "}");
    end_chunk(out, r);
    a->started = true;
}

static void chat_delta(struct buf *out, const struct gen_request *r, struct answer *a,
                       const char *text, size_t bytes, const struct token_detail *detail,
                       int32_t n_detail)
{
    chat_chunk(out, r, a, text, bytes, detail, n_detail, NULL);
}

static void chat_end(struct buf *out, const struct gen_request *r, struct answer *a,
                     const char *text, size_t bytes, const struct token_detail *detail,
                     int32_t n_detail)
{
    chat_chunk(out, r, a, text, bytes, detail, n_detail, finish_text(a->finish));
    end_stream(out, r, a, chat_chunk_object);
}

static void chat_whole(struct buf *out, const struct gen_request *r, const struct answer *a,
                       const char *text, size_t bytes, const struct token_detail *detail,
                       int32_t n_detail)
{
    write_head(out, a, "chat.completion");
    buf_text(out, ",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":");
    buf_json(out, bytes ? text : "", bytes);
    buf_text(out, ",\"refusal\":null}");
    write_chat_logprobs(out, r, detail, n_detail);
    write_finish(out, finish_text(a->finish));
    buf_text(out, "}],");
    write_usage(out, a);
    buf_text(out, ",\"system_fingerprint\":\"" FINGERPRINT "\"}");
}

/* ---- completions --------------------------------------------------------------------- */

static const char completion_object[] = "text_completion";

static void write_completion_text(struct buf *out, const struct gen_request *r, bool echo,
                                  const char *text, size_t bytes)
{
    struct buf whole = {.data = NULL};
    buf_text(out, "{\"index\":0,\"text\":");
    if (!echo) {
        buf_json(out, bytes ? text : "", bytes);
        return;
    }
    buf_add(&whole, r->prompt, r->prompt_bytes);
    buf_add(&whole, text, bytes);
    buf_json(out, whole.n ? whole.data : "", whole.n);
    out->failed = out->failed || whole.failed;
    buf_free(&whole);
}

static void completion_chunk(struct buf *out, const struct gen_request *r, struct answer *a,
                             const char *text, size_t bytes, const struct token_detail *detail,
                             int32_t n_detail, const char *finish)
{
    begin_chunk(out, a, completion_object);
    write_completion_text(out, r, r->echo && !a->started, text, bytes);
    write_completion_logprobs(out, r, detail, n_detail, &a->text_offset);
    write_finish(out, finish);
    buf_text(out, ",\"stop_reason\":null}");
    end_chunk(out, r);
    a->started = true;
}

static void completion_delta(struct buf *out, const struct gen_request *r, struct answer *a,
                             const char *text, size_t bytes, const struct token_detail *detail,
                             int32_t n_detail)
{
    completion_chunk(out, r, a, text, bytes, detail, n_detail, NULL);
}

static void completion_end(struct buf *out, const struct gen_request *r, struct answer *a,
                           const char *text, size_t bytes, const struct token_detail *detail,
                           int32_t n_detail)
{
    completion_chunk(out, r, a, text, bytes, detail, n_detail, finish_text(a->finish));
    end_stream(out, r, a, completion_object);
}

static void completion_whole(struct buf *out, const struct gen_request *r, const struct answer *a,
                             const char *text, size_t bytes, const struct token_detail *detail,
                             int32_t n_detail)
{
    int64_t offset = 0;
    write_head(out, a, completion_object);
    buf_text(out, ",\"choices\":[");
    write_completion_text(out, r, r->echo, text, bytes);
    write_completion_logprobs(out, r, detail, n_detail, &offset);
    write_finish(out, finish_text(a->finish));
    buf_text(out, ",\"stop_reason\":null}],");
    write_usage(out, a);
    buf_text(out, ",\"system_fingerprint\":\"" FINGERPRINT "\"}");
}

/* ---- errors -------------------------------------------------------------------------- */

/* NULL code: null in the answer. text is for an error that brings none. */
struct error_words {
    const char *type;
    const char *code;
    const char *text;
};

static struct error_words words_of(enum api_error_kind kind)
{
    static const char invalid[] = "invalid_request_error";
    static const char server[] = "server_error";
    switch (kind) {
    case API_BAD_JSON:
        return (struct error_words){invalid, NULL, "The body is not valid JSON"};
    case API_BAD_FIELD:
        return (struct error_words){invalid, "invalid_value", "Invalid value"};
    case API_TOO_LONG:
        return (struct error_words){invalid, "context_length_exceeded",
                                    "The prompt is longer than the context of the model"};
    case API_NO_MODEL:
        return (struct error_words){invalid, "model_not_found", "The model does not exist"};
    case API_NO_ROUTE:
        return (struct error_words){invalid, "unknown_url", "Unknown request URL"};
    case API_BAD_METHOD:
        return (struct error_words){invalid, "method_not_supported",
                                    "Method not supported for this URL"};
    case API_TOO_LARGE:
        return (struct error_words){invalid, NULL, "The request is too large"};
    case API_TIMEOUT:
        return (struct error_words){invalid, "request_timeout", "The request took too long"};
    case API_UNAUTHORIZED:
        return (struct error_words){invalid, "invalid_api_key", "Incorrect API key provided"};
    case API_NO_KEY:
        return (struct error_words){invalid, "invalid_api_key", "No API key provided"};
    case API_UNSUPPORTED:
        return (struct error_words){invalid, "unsupported_parameter", "Not supported"};
    case API_BUSY:
        return (struct error_words){"requests", "rate_limit_exceeded",
                                    "The server is busy, try again later"};
    case API_NOT_READY:
        return (struct error_words){server, NULL, "The model is not ready"};
    case API_ENGINE:
        break;
    }
    return (struct error_words){server, NULL, "The server could not complete the request"};
}

static void write_error(struct buf *out, const struct api_error *e, const char *too_long_param)
{
    struct error_words w = words_of(e->kind);
    const char *param = e->param;
    if (!param[0] && e->kind == API_TOO_LONG)
        param = too_long_param;
    buf_text(out, "{\"error\":{\"message\":");
    buf_json_text(out, e->text[0] ? e->text : w.text);
    buf_printf(out, ",\"type\":\"%s\",\"param\":", w.type);
    if (param[0])
        buf_json_text(out, param);
    else
        buf_text(out, "null");
    buf_text(out, ",\"code\":");
    if (w.code)
        buf_json_text(out, w.code);
    else
        buf_text(out, "null");
    buf_text(out, "}}");
}

static void chat_error(struct buf *out, const struct api_error *e, const char *request_id)
{
    (void)request_id;
    write_error(out, e, "messages");
}

static void completion_error(struct buf *out, const struct api_error *e, const char *request_id)
{
    (void)request_id;
    write_error(out, e, "prompt");
}

static void stream_error(struct buf *out, const struct api_error *e, const char *request_id)
{
    (void)request_id;
    buf_text(out, "data: ");
    write_error(out, e, "");
    buf_text(out, "\n\ndata: [DONE]\n\n");
}

static int error_status(const struct api_error *e)
{
    return api_error_status(e->kind);
}

const struct wire wire_chat = {
    .name = "chat",
    .id_prefix = "chatcmpl-",
    .stream_type = "text/event-stream; charset=utf-8",
    .whole_type = "application/json",
    .comments = true,
    .model_defaults = true,
    .parse = openai_parse_chat,
    .delta = chat_delta,
    .end = chat_end,
    .whole = chat_whole,
    .error = chat_error,
    .stream_error = stream_error,
    .status = error_status,
    .no_model = {"The model '", "' does not exist"},
    .too_long = {"The request needs ", " tokens, but the context of the model is ", " tokens"},
};

const struct wire wire_completions = {
    .name = "completions",
    .id_prefix = "cmpl-",
    .stream_type = "text/event-stream; charset=utf-8",
    .whole_type = "application/json",
    .comments = true,
    .model_defaults = true,
    .parse = openai_parse_completion,
    .delta = completion_delta,
    .end = completion_end,
    .whole = completion_whole,
    .error = completion_error,
    .stream_error = stream_error,
    .status = error_status,
    .no_model = {"The model '", "' does not exist"},
    .too_long = {"The request needs ", " tokens, but the context of the model is ", " tokens"},
};

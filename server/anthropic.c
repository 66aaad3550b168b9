/* Anthropic's Messages API over the same core. What is optional at OpenAI is a list of blocks
 * here; a last turn of the assistant is continued; a stream is a sequence of named events whose
 * order clients rely on: message_start, one block from start to stop, message_delta with the
 * reason, message_stop. Errors have their own envelope, in a stream too. */
#include "server/openai.h"
#include "server/talk.h"

#include <stdio.h>
#include <string.h>

#define AT(member) offsetof(struct gen_request, member)

static const struct field message_fields[] = {
    {"stream", FIELD_BOOL, .at = AT(stream)},
    {"max_tokens", FIELD_INT32, .min = 1, .max = INT32_MAX, .at = AT(params.max_new_tokens)},
    {"temperature", FIELD_FLOAT, .min = 0, .max = 1, .at = AT(params.sampling.temperature),
     .given = AT(temperature_given)},
    {"top_p", FIELD_FLOAT, .above = true, .min = 0, .max = 1, .at = AT(params.sampling.top_p),
     .given = AT(top_p_given)},
    {"top_k", FIELD_INT32, .min = 0, .max = INT32_MAX, .at = AT(params.sampling.top_k),
     .given = AT(top_k_given)},
};

static const char *const text_types[] = {"text", NULL};

/* -- reading -- */

static enum status refuse_unsupported(const struct cJSON *top, struct fault *f)
{
    static const char *const refused[] = {"container", "mcp_servers", "output_config",
                                          "output_format"};
    size_t n = 0;
    const char *choice = json_string(json_member(json_member(top, "tool_choice"), "type"), &n);
    const char *thinking = json_string(json_member(json_member(top, "thinking"), "type"), &n);
    if (!json_inert(json_member(top, "tools")) && !(choice && strcmp(choice, "none") == 0))
        return fault_say(f, FAULT_UNSUPPORTED, "tools",
                         "is not supported, unless 'tool_choice' is of type none");
    if (thinking && strcmp(thinking, "disabled") != 0)
        return fault_say(f, FAULT_UNSUPPORTED, "thinking", "is not supported");
    for (size_t i = 0; i < ARRAY_LEN(refused); i++)
        if (!json_inert(json_member(top, refused[i])))
            return fault_say(f, FAULT_UNSUPPORTED, refused[i], "is not supported");
    return OK;
}

static enum status say_message(struct talk *t, const struct cJSON *m, int32_t i, struct fault *f)
{
    char param[PARAM_MAX];
    size_t n = 0;
    snprintf(param, sizeof(param), "messages[%d]", i);
    if (json_kind(m) != JSON_OBJECT)
        return fault_type(f, param, "object", m);
    snprintf(param, sizeof(param), "messages[%d].role", i);
    const char *role = json_string(json_member(m, "role"), &n);
    if (!role)
        return fault_type(f, param, "string", json_member(m, "role"));
    bool assistant = strcmp(role, "assistant") == 0;
    if (!assistant && strcmp(role, "user") != 0)
        return fault_say(f, FAULT_TEXT, param, "must be user or assistant");
    talk_turn(t, assistant ? "assistant" : "user");
    snprintf(param, sizeof(param), "messages[%d].content", i);
    return talk_content(t, json_member(m, "content"), param, text_types, f);
}

static enum status say_all(struct talk *t, const struct cJSON *top, struct fault *f)
{
    const struct cJSON *system = json_given(top, "system");
    const struct cJSON *list = json_member(top, "messages");
    enum status st = OK;
    int32_t i = 0;
    if (json_kind(list) != JSON_ARRAY)
        return fault_type(f, "messages", "array", list);
    if (!json_first(list))
        return fault_say(f, FAULT_TEXT, "messages", "must not be empty");
    if (json_count(list) > MESSAGES_MAX)
        return fault_say(f, FAULT_TEXT, "messages", "holds too many messages, the limit is 2048");
    if (system) {
        talk_turn(t, "system");
        st = talk_content(t, system, "system", text_types, f);
    }
    for (const struct cJSON *m = json_first(list); m && st == OK; m = json_next(m))
        st = say_message(t, m, i++, f);
    return st;
}

static enum status read_count(struct gen_request *r, const struct cJSON *top, struct fault *f)
{
    struct talk t = {.role = NULL};
    enum status st = model_read(r, top, f);
    if (st == OK)
        st = refuse_unsupported(top, f);
    if (st == OK)
        st = say_all(&t, top, f);
    return talk_end(&t, r, st);
}

static enum status read_messages(struct gen_request *r, const struct cJSON *top, struct fault *f)
{
    enum status st = read_count(r, top, f);
    if (st == OK && !json_given(top, "max_tokens"))
        st = fault_type(f, "max_tokens", "integer", NULL);
    if (st == OK)
        st = fields_read(r, top, message_fields, ARRAY_LEN(message_fields), true, f);
    if (st == OK)
        st = stops_read(r, top, "stop_sequences", f);
    return st;
}

static enum status parse_messages(struct gen_request *out, const char *body, size_t bytes,
                                  struct api_error *err)
{
    return body_parse(out, &wire_messages, body, bytes, read_messages, openai_word, err);
}

static enum status parse_count(struct gen_request *out, const char *body, size_t bytes,
                               struct api_error *err)
{
    return body_parse(out, &wire_count_tokens, body, bytes, read_count, openai_word, err);
}

/* -- writing -- */

static void write_stop(struct buf *out, const struct choice *c)
{
    const char *reason = c->finish == FINISH_LENGTH ? "max_tokens" : "end_turn";
    buf_printf(
        out, "\"stop_reason\":\"%s\",\"stop_sequence\":", c->stop_text ? "stop_sequence" : reason);
    if (c->stop_text)
        buf_json(out, c->stop_text, c->stop_bytes);
    else
        buf_text(out, "null");
}

/* Tokens that came from the cache are not among the input tokens here. */
static void write_usage(struct buf *out, const struct answer *a)
{
    buf_printf(out,
               "\"usage\":{\"input_tokens\":%d,\"cache_creation_input_tokens\":0,"
               "\"cache_read_input_tokens\":%d,\"output_tokens\":%d}",
               a->prompt_tokens - a->cached_tokens, a->cached_tokens, a->completion_tokens);
}

/* Up to the content, which is a list. */
static void write_head(struct buf *out, const struct answer *a)
{
    buf_text(out, "{\"id\":");
    buf_json_text(out, a->id);
    buf_text(out, ",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
    buf_json_text(out, a->model ? a->model : "");
    buf_text(out, ",\"content\":[");
}

static void message_begin(struct buf *out, const struct gen_request *r, struct answer *a)
{
    (void)r;
    buf_text(out, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":");
    write_head(out, a);
    buf_text(out, "],\"stop_reason\":null,\"stop_sequence\":null,");
    write_usage(out, a);
    buf_text(out, "}}\n\n"
                  "event: content_block_start\ndata: {\"type\":\"content_block_start\","
                  "\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n"
                  "event: ping\ndata: {\"type\":\"ping\"}\n\n");
}

static void message_delta(struct buf *out, const struct gen_request *r, struct answer *a,
                          struct choice *c)
{
    (void)r;
    (void)a;
    if (c->bytes == 0)
        return;
    buf_text(out, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\","
                  "\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":");
    buf_json(out, c->text, c->bytes);
    buf_text(out, "}}\n\n");
}

static void message_end(struct buf *out, const struct gen_request *r, struct answer *a)
{
    (void)r;
    buf_text(out, "event: content_block_stop\ndata: {\"type\":\"content_block_stop\","
                  "\"index\":0}\n\n"
                  "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{");
    write_stop(out, a->choice);
    buf_text(out, "},");
    write_usage(out, a);
    buf_text(out, "}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
}

static void message_whole(struct buf *out, const struct gen_request *r, struct answer *a)
{
    const struct choice *c = a->choice;
    (void)r;
    write_head(out, a);
    buf_text(out, "{\"type\":\"text\",\"text\":");
    buf_json(out, c->bytes ? c->text : "", c->bytes);
    buf_text(out, "}],");
    write_stop(out, c);
    buf_text(out, ",");
    write_usage(out, a);
    buf_text(out, "}");
}

static void tell_count(struct buf *out, const struct gen_request *r, const struct told *t)
{
    (void)r;
    buf_printf(out, "{\"input_tokens\":%zu}", t->n_ids);
}

/* -- errors -- */

static const char *type_of(const struct api_error *e)
{
    switch (openai_status(e)) {
    case 401:
        return "authentication_error";
    case 404:
        return "not_found_error";
    case 408:
        return "timeout_error";
    case 413:
        return "request_too_large";
    case 429:
        return "rate_limit_error";
    case 500:
        return "api_error";
    case 503:
        return "overloaded_error";
    default:
        return "invalid_request_error";
    }
}

static void message_error(struct buf *out, const struct api_error *e, const char *request_id)
{
    buf_printf(out, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":", type_of(e));
    buf_json_text(out, e->text[0] ? e->text : openai_error_text(e->kind));
    buf_text(out, "},\"request_id\":");
    buf_json_text(out, request_id ? request_id : "");
    buf_text(out, "}");
}

static void message_stream_error(struct buf *out, const struct api_error *e, const char *request_id)
{
    buf_text(out, "event: error\ndata: ");
    message_error(out, e, request_id);
    buf_text(out, "\n\n");
}

const struct wire wire_messages = {
    .name = "messages",
    .id_prefix = "msg_",
    .stream_type = "text/event-stream; charset=utf-8",
    .whole_type = "application/json",
    .id_header = "request-id",
    .comments = true,
    .model_defaults = true,
    .parse = parse_messages,
    .begin = message_begin,
    .delta = message_delta,
    .end = message_end,
    .whole = message_whole,
    .error = message_error,
    .stream_error = message_stream_error,
    .status = openai_status,
    .no_model = {"model: ", ""},
    .too_long = {"prompt is too long: ", " tokens > ", " maximum"},
};

const struct wire wire_count_tokens = {
    .name = "count_tokens",
    .id_prefix = "",
    .whole_type = "application/json",
    .id_header = "request-id",
    .parse = parse_count,
    .tell = tell_count,
    .error = message_error,
    .status = openai_status,
    .no_model = {"model: ", ""},
    .too_long = {"prompt is too long: ", " tokens > ", " maximum"},
};

/* OpenAI's Responses API over the same core, without a memory: what is not in the request is not
 * known, so a previous_response_id is refused and "store" is taken and means nothing. A stream is
 * a numbered sequence of named events whose last ones repeat the whole text. */
#include "server/openai.h"
#include "server/talk.h"

#include <stdio.h>
#include <string.h>

#define AT(member) offsetof(struct gen_request, member)

static const struct field response_fields[] = {
    {"stream", FIELD_BOOL, .at = AT(stream)},
    {"max_output_tokens", FIELD_INT32, .min = 1, .max = INT32_MAX, .at = AT(params.max_new_tokens)},
    {"temperature", FIELD_FLOAT, .min = 0, .max = 2, .at = AT(params.sampling.temperature),
     .given = AT(temperature_given)},
    {"top_p", FIELD_FLOAT, .above = true, .min = 0, .max = 1, .at = AT(params.sampling.top_p),
     .given = AT(top_p_given)},
};

/* What would change the answer. Empty, false, 0 and null ask for nothing. */
static const char *const refused_fields[] = {"background", "conversation", "previous_response_id",
                                             "prompt", "top_logprobs"};

/* -- reading -- */

static enum status refuse_unsupported(const struct cJSON *top, struct fault *f)
{
    const struct cJSON *type = json_member(json_member(json_member(top, "text"), "format"), "type");
    size_t n = 0;
    const char *format = json_string(type, &n);
    for (size_t i = 0; i < ARRAY_LEN(refused_fields); i++)
        if (!json_inert(json_member(top, refused_fields[i])))
            return fault_say(f, FAULT_UNSUPPORTED, refused_fields[i], "is not supported");
    if (format && strcmp(format, "text") != 0)
        return fault_say(f, FAULT_UNSUPPORTED, "text.format",
                         "must be of type text, other formats are not supported");
    return tools_read(top, f);
}

/* The name of the turn; developers speak as the system does. */
static const char *turn_of(const char *role)
{
    static const char *const turns[][2] = {{"user", "user"},
                                           {"assistant", "assistant"},
                                           {"system", "system"},
                                           {"developer", "system"}};
    for (size_t i = 0; role && i < ARRAY_LEN(turns); i++)
        if (strcmp(role, turns[i][0]) == 0)
            return turns[i][1];
    return NULL;
}

static enum status say_item(struct talk *t, const struct cJSON *item, int32_t i, struct fault *f)
{
    static const char *const types[] = {"input_text", "output_text", "text", NULL};
    char param[PARAM_MAX];
    size_t n = 0;
    snprintf(param, sizeof(param), "input[%d]", i);
    if (json_kind(item) != JSON_OBJECT)
        return fault_type(f, param, "object", item);
    const char *type = json_string(json_member(item, "type"), &n);
    snprintf(param, sizeof(param), "input[%d].type", i);
    if (type && strcmp(type, "message") != 0)
        return fault_say(f, FAULT_UNSUPPORTED, param,
                         "must be message, other items are not supported");
    const struct cJSON *role = json_member(item, "role");
    snprintf(param, sizeof(param), "input[%d].role", i);
    if (json_kind(role) != JSON_STRING)
        return fault_type(f, param, "string", role);
    const char *turn = turn_of(json_string(role, &n));
    if (!turn)
        return fault_say(f, FAULT_TEXT, param, "must be one of system, developer, user, assistant");
    talk_turn(t, turn);
    snprintf(param, sizeof(param), "input[%d].content", i);
    return talk_content(t, json_member(item, "content"), param, types, f);
}

static enum status say_all(struct talk *t, const struct cJSON *top, struct fault *f)
{
    const struct cJSON *instructions = json_given(top, "instructions");
    const struct cJSON *input = json_member(top, "input");
    enum status st = OK;
    size_t n = 0;
    int32_t i = 0;
    const char *text = json_string(instructions, &n);
    if (instructions && !text)
        return fault_type(f, "instructions", "string", instructions);
    if (text) {
        talk_turn(t, "system");
        talk_say(t, text, n);
    }
    text = json_string(input, &n);
    if (text) {
        talk_turn(t, "user");
        talk_say(t, text, n);
        return OK;
    }
    if (json_kind(input) != JSON_ARRAY)
        return fault_type(f, "input", "string", input);
    if (!json_first(input))
        return fault_say(f, FAULT_TEXT, "input", "must not be empty");
    if (json_count(input) > MESSAGES_MAX)
        return fault_say(f, FAULT_TEXT, "input", "holds too many items, the limit is 2048");
    for (const struct cJSON *item = json_first(input); item && st == OK; item = json_next(item))
        st = say_item(t, item, i++, f);
    return st;
}

static enum status read_response(struct gen_request *r, const struct cJSON *top, struct fault *f)
{
    struct talk t = {.role = NULL};
    enum status st = model_read(r, top, f);
    if (st == OK)
        st = refuse_unsupported(top, f);
    if (st == OK)
        st = fields_read(r, top, response_fields, ARRAY_LEN(response_fields), true, f);
    if (st == OK)
        st = say_all(&t, top, f);
    st = talk_end(&t, r, st);
    /* Items are a history: the next turn is always a new one. */
    r->chat.continue_final = false;
    return st;
}

static enum status parse_response(struct gen_request *out, const char *body, size_t bytes,
                                  struct api_error *err)
{
    return body_parse(out, &wire_responses, body, bytes, read_response, openai_word, err);
}

/* -- the object -- */

/* The one item of every answer. */
static void write_item_id(struct buf *out, const struct answer *a)
{
    char id[WIRE_ID_MAX + 8];
    snprintf(id, sizeof(id), "msg_%s", a->id + strlen(wire_responses.id_prefix));
    buf_json_text(out, id);
}

static void write_part(struct buf *out, const char *text, size_t bytes)
{
    buf_text(out, "{\"type\":\"output_text\",\"text\":");
    buf_json(out, bytes ? text : "", bytes);
    buf_text(out, ",\"annotations\":[],\"logprobs\":[]}");
}

/* text NULL: nothing of it is there yet. */
static void write_item(struct buf *out, const struct answer *a, const char *status,
                       const char *text, size_t bytes)
{
    buf_text(out, "{\"type\":\"message\",\"id\":");
    write_item_id(out, a);
    buf_printf(out, ",\"status\":\"%s\",\"role\":\"assistant\",\"content\":[", status);
    if (text)
        write_part(out, text, bytes);
    buf_text(out, "]}");
}

/* Strings that the request brought and the answer repeats. */
static void write_metadata(struct buf *out, const struct gen_request *r)
{
    const char *comma = "";
    buf_text(out, ",\"metadata\":{");
    for (const struct cJSON *v = json_first(json_member(r->tree, "metadata")); v;
         v = json_next(v)) {
        size_t n = 0;
        const char *text = json_string(v, &n);
        if (!text || !json_name(v))
            continue;
        buf_text(out, comma);
        buf_json_text(out, json_name(v));
        buf_text(out, ":");
        buf_json(out, text, n);
        comma = ",";
    }
    buf_text(out, "}");
}

static void write_settings(struct buf *out, const struct gen_request *r)
{
    size_t n = 0;
    const char *instructions = json_string(json_member(r->tree, "instructions"), &n);
    buf_text(out, ",\"instructions\":");
    if (instructions)
        buf_json(out, instructions, n);
    else
        buf_text(out, "null");
    if (r->params.max_new_tokens == TOKENS_NO_LIMIT)
        buf_text(out, ",\"max_output_tokens\":null");
    else
        buf_printf(out, ",\"max_output_tokens\":%d", r->params.max_new_tokens);
    buf_printf(out, ",\"temperature\":%.7g,\"top_p\":%.7g", (double)r->params.sampling.temperature,
               (double)r->params.sampling.top_p);
    buf_text(out,
             ",\"background\":false,\"parallel_tool_calls\":true,"
             "\"previous_response_id\":null,\"reasoning\":{\"effort\":null,\"summary\":null},"
             "\"store\":false,\"text\":{\"format\":{\"type\":\"text\"}},"
             "\"tool_choice\":\"auto\",\"tools\":[],\"truncation\":\"disabled\",\"user\":null");
    write_metadata(out, r);
}

static void write_usage(struct buf *out, const struct answer *a)
{
    buf_printf(out,
               ",\"usage\":{\"input_tokens\":%d,\"input_tokens_details\":{\"cached_tokens\":%d},"
               "\"output_tokens\":%d,\"output_tokens_details\":{\"reasoning_tokens\":0},"
               "\"total_tokens\":%lld}}",
               a->prompt_tokens, a->cached_tokens, a->completion_tokens,
               (long long)a->prompt_tokens + a->completion_tokens);
}

static const char *status_of(const struct answer *a)
{
    return a->choice->finish == FINISH_LENGTH ? "incomplete" : "completed";
}

/* text NULL: it has only begun. */
static void write_response(struct buf *out, const struct gen_request *r, const struct answer *a,
                           const char *text, size_t bytes)
{
    const char *status = text ? status_of(a) : "in_progress";
    buf_text(out, "{\"id\":");
    buf_json_text(out, a->id);
    buf_printf(out,
               ",\"object\":\"response\",\"created_at\":%lld,\"status\":\"%s\",\"error\":null,"
               "\"incomplete_details\":",
               (long long)a->created, status);
    buf_text(out, text && a->choice->finish == FINISH_LENGTH ? "{\"reason\":\"max_output_tokens\"}"
                                                             : "null");
    buf_text(out, ",\"model\":");
    buf_json_text(out, a->model ? a->model : "");
    buf_text(out, ",\"output\":[");
    if (text)
        write_item(out, a, status, text, bytes);
    buf_text(out, "]");
    write_settings(out, r);
    if (text)
        write_usage(out, a);
    else
        buf_text(out, ",\"usage\":null}");
}

/* -- events -- */

/* Opens an event; the writer adds its members and close_event() the rest. */
static void open_event(struct buf *out, struct answer *a, const char *type)
{
    buf_printf(out, "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%d", type, type,
               a->n_events++);
}

static void close_event(struct buf *out)
{
    buf_text(out, "}\n\n");
}

/* Where the text belongs. */
static void write_place(struct buf *out, const struct answer *a)
{
    buf_text(out, ",\"item_id\":");
    write_item_id(out, a);
    buf_text(out, ",\"output_index\":0,\"content_index\":0");
}

static void response_begin(struct buf *out, const struct gen_request *r, struct answer *a)
{
    static const char *const first[] = {"response.created", "response.in_progress"};
    for (size_t i = 0; i < ARRAY_LEN(first); i++) {
        open_event(out, a, first[i]);
        buf_text(out, ",\"response\":");
        write_response(out, r, a, NULL, 0);
        close_event(out);
    }
    open_event(out, a, "response.output_item.added");
    buf_text(out, ",\"output_index\":0,\"item\":");
    write_item(out, a, "in_progress", NULL, 0);
    close_event(out);
    open_event(out, a, "response.content_part.added");
    write_place(out, a);
    buf_text(out, ",\"part\":");
    write_part(out, NULL, 0);
    close_event(out);
}

static void response_delta(struct buf *out, const struct gen_request *r, struct answer *a,
                           struct choice *c)
{
    (void)r;
    if (c->bytes == 0)
        return;
    open_event(out, a, "response.output_text.delta");
    write_place(out, a);
    buf_text(out, ",\"delta\":");
    buf_json(out, c->text, c->bytes);
    buf_text(out, ",\"logprobs\":[]");
    close_event(out);
    buf_add(&a->kept, c->text, c->bytes);
    out->failed = out->failed || a->kept.failed;
}

static void response_end(struct buf *out, const struct gen_request *r, struct answer *a)
{
    const char *text = a->kept.n ? a->kept.data : "";
    open_event(out, a, "response.output_text.done");
    write_place(out, a);
    buf_text(out, ",\"text\":");
    buf_json(out, text, a->kept.n);
    buf_text(out, ",\"logprobs\":[]");
    close_event(out);
    open_event(out, a, "response.content_part.done");
    write_place(out, a);
    buf_text(out, ",\"part\":");
    write_part(out, text, a->kept.n);
    close_event(out);
    open_event(out, a, "response.output_item.done");
    buf_text(out, ",\"output_index\":0,\"item\":");
    write_item(out, a, status_of(a), text, a->kept.n);
    close_event(out);
    open_event(out, a,
               a->choice->finish == FINISH_LENGTH ? "response.incomplete" : "response.completed");
    buf_text(out, ",\"response\":");
    write_response(out, r, a, text, a->kept.n);
    close_event(out);
}

static void response_whole(struct buf *out, const struct gen_request *r, struct answer *a)
{
    write_response(out, r, a, a->choice->bytes ? a->choice->text : "", a->choice->bytes);
}

static void response_error(struct buf *out, const struct api_error *e, const char *request_id)
{
    (void)request_id;
    openai_write_error(out, e, "input");
}

static void response_stream_error(struct buf *out, const struct api_error *e,
                                  const char *request_id)
{
    (void)request_id;
    buf_text(out, "event: error\ndata: {\"type\":\"error\",\"code\":\"server_error\",\"message\":");
    buf_json_text(out, e->text[0] ? e->text : openai_error_text(e->kind));
    buf_text(out, ",\"param\":null,\"sequence_number\":0}\n\n");
}

const struct wire wire_responses = {
    .name = "responses",
    .id_prefix = "resp_",
    .stream_type = "text/event-stream; charset=utf-8",
    .whole_type = "application/json",
    .comments = true,
    .tells_limits = true,
    .model_defaults = true,
    .parse = parse_response,
    .begin = response_begin,
    .delta = response_delta,
    .end = response_end,
    .whole = response_whole,
    .error = response_error,
    .stream_error = response_stream_error,
    .status = openai_status,
    .input = "input",
    .no_model = {"The model '", "' does not exist"},
    .too_long = {"The request needs ", " tokens, but the context of the model is ", " tokens"},
};

/* The schema of requests is written from the table that they are read by, so a range stands in
 * one place; what no table holds (the two ways to ask, messages, what is refused) is text here.
 * workers_schema_test.c holds it against the parser. */
#include "server/workers.h"

#include <string.h>

static const char prompt_property[] =
    "\"prompt\":{\"type\":\"string\",\"minLength\":1,"
    "\"description\":\"The input text prompt for the model to generate a response.\"}";

#define CONTENT(more)                                                                              \
    "\"content\":{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"minItems\":1,\"items\":"  \
    "{\"type\":\"object\",\"properties\":{\"type\":{\"type\":\"string\",\"enum\":[\"text\"]},"     \
    "\"text\":{\"type\":\"string\"}},\"required\":[\"type\",\"text\"]}}" more "]}"

#define NO_CALLS "\"tool_calls\":{\"type\":[\"array\",\"null\"],\"maxItems\":0}"

static const char messages_property[] =
    "\"messages\":{\"type\":\"array\",\"minItems\":1,\"maxItems\":2048,"
    "\"description\":\"The conversation so far, an object for each message.\","
    "\"items\":{\"anyOf\":[{\"type\":\"object\",\"properties\":{\"role\":{\"type\":\"string\","
    "\"enum\":[\"system\",\"developer\",\"user\"]}," CONTENT(
        "") "," NO_CALLS "},"
            "\"required\":[\"role\",\"content\"]},{\"type\":\"object\",\"properties\":{\"role\":"
            "{\"type\":\"string\",\"enum\":[\"assistant\"]}," CONTENT(
                ",{\"type\":\"null\"}") "," NO_CALLS "},\"required\":[\"role\"]}]}}";

/* Read by hand, or known and not offered. */
static const char other_properties[] =
    "\"raw\":{\"enum\":[true,false,\"true\",\"false\"],\"default\":false,"
    "\"description\":\"If true, no chat template is applied.\"},"
    "\"options\":{\"type\":[\"object\",\"null\"],\"properties\":{\"rejectIfBusy\":"
    "{\"type\":\"boolean\",\"default\":false,\"description\":\"Refuse with 3040 instead of "
    "waiting.\"}}},"
    "\"lora\":{\"type\":[\"string\",\"null\"],\"maxLength\":0},"
    "\"tools\":{\"type\":[\"array\",\"null\"],\"maxItems\":0},"
    "\"response_format\":{\"type\":[\"object\",\"null\"],\"properties\":{\"type\":"
    "{\"enum\":[\"text\"]}}}";

static const char output_schema[] =
    "{\"oneOf\":[{\"type\":\"object\",\"contentType\":\"application/json\",\"properties\":"
    "{\"response\":{\"type\":\"string\",\"description\":\"The generated text.\"},"
    "\"usage\":{\"type\":\"object\",\"properties\":{\"prompt_tokens\":{\"type\":\"integer\"},"
    "\"completion_tokens\":{\"type\":\"integer\"},\"total_tokens\":{\"type\":\"integer\"},"
    "\"prompt_tokens_details\":{\"type\":\"object\",\"properties\":{\"cached_tokens\":"
    "{\"type\":\"integer\"}}}},\"required\":[\"prompt_tokens\",\"completion_tokens\","
    "\"total_tokens\"]},\"finish_reason\":{\"type\":\"string\",\"enum\":[\"length\"],"
    "\"description\":\"There when max_tokens has cut the answer.\"}},"
    "\"required\":[\"response\",\"usage\"]},{\"type\":\"string\","
    "\"contentType\":\"text/event-stream\",\"format\":\"binary\"}]}";

struct field_words {
    const char *name;
    const char *otherwise; /* JSON of the default, or NULL */
    const char *text;
};

static const struct field_words *words_of(const char *name)
{
    static const struct field_words words[] = {
        {"stream", "false", "If true, the answer is streamed as events."},
        {"max_tokens", "256", "The most tokens of the answer."},
        {"temperature", "0.6", "Higher is more random, 0 always takes the likeliest token."},
        {"top_p", NULL, "Tokens are drawn from the smallest set of this probability."},
        {"top_k", NULL, "Tokens are drawn from so many of the likeliest."},
        {"seed", NULL, "The same seed gives the same answer."},
        {"repetition_penalty", NULL, "Over 1: what was there becomes less likely."},
        {"frequency_penalty", NULL, "Taken off for each time that a token was there."},
        {"presence_penalty", NULL, "Taken off once a token was there."},
    };
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (strcmp(words[i].name, name) == 0)
            return &words[i];
    return NULL;
}

static void write_field(struct buf *out, const struct field *d)
{
    const struct field_words *w = words_of(d->name);
    bool truth = d->kind == FIELD_BOOL || d->kind == FIELD_NOT;
    const char *type = truth ? "boolean" : d->kind == FIELD_FLOAT ? "number" : "integer";
    buf_printf(out, ",\"%s\":{\"type\":\"%s\"", d->name, type);
    if (!truth)
        buf_printf(out, ",\"minimum\":%.16g,\"maximum\":%.16g", d->min, d->max);
    if (w && w->otherwise)
        buf_printf(out, ",\"default\":%s", w->otherwise);
    if (w)
        buf_printf(out, ",\"description\":\"%s\"", w->text);
    buf_text(out, "}");
}

static void write_way(struct buf *out, const char *title, const char *required,
                      const char *property)
{
    buf_printf(out, "{\"title\":\"%s\",\"type\":\"object\",\"properties\":{%s", title, property);
    for (size_t i = 0; i < n_workers_fields; i++)
        write_field(out, &workers_fields[i]);
    buf_printf(out, ",%s},\"required\":[\"%s\"]}", other_properties, required);
}

void workers_schema(struct buf *out)
{
    buf_text(out, "{\"input\":{\"type\":\"object\",\"oneOf\":[");
    write_way(out, "Prompt", "prompt", prompt_property);
    buf_text(out, ",");
    write_way(out, "Messages", "messages", messages_property);
    buf_printf(out, "]},\"output\":%s}", output_schema);
}

/* Aim: every member of a request body arrives in its field or is refused by name with the
 * right kind and words, and nothing else that a body holds comes back. Not here: JSON itself
 * (json_test.c), what is answered (wire_test.c). */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/fields.h"
#include "server/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what a request holds, as one line ------------------------------------------------ */

static void tell_flag(struct buf *b, bool on, const char *name)
{
    if (on)
        buf_printf(b, " %s", name);
}

static void tell_numbers(struct buf *b, const struct gen_request *r)
{
    const struct sampling *s = &r->params.sampling;
    if (r->params.max_new_tokens != TOKENS_NO_LIMIT)
        buf_printf(b, " max=%d", r->params.max_new_tokens);
    buf_printf(b, " t=%g", (double)s->temperature);
    tell_flag(b, r->temperature_given, "t!");
    if (s->top_p != 1)
        buf_printf(b, " p=%g", (double)s->top_p);
    tell_flag(b, r->top_p_given, "p!");
    if (s->top_k != 0)
        buf_printf(b, " k=%d", s->top_k);
    tell_flag(b, r->top_k_given, "k!");
    if (s->min_p != 0)
        buf_printf(b, " min_p=%g", (double)s->min_p);
    if (s->repetition != 1)
        buf_printf(b, " rep=%g", (double)s->repetition);
    tell_flag(b, r->repetition_given, "rep!");
    if (s->presence != 0)
        buf_printf(b, " pres=%g", (double)s->presence);
    if (s->frequency != 0)
        buf_printf(b, " freq=%g", (double)s->frequency);
    if (r->seed_given)
        buf_printf(b, " seed=%lld", (long long)s->seed);
    if (s->n_logprobs >= 0)
        buf_printf(b, " logprobs=%d", s->n_logprobs);
    for (int32_t i = 0; i < s->n_bias; i++)
        buf_printf(b, " bias[%d]=%g", s->bias[i].token, (double)s->bias[i].bias);
}

static void tell_message(struct buf *b, const struct cJSON *m)
{
    size_t n;
    const struct cJSON *content = json_member(m, "content");
    const char *text = json_string(content, &n);
    buf_printf(b, " %s:%s", json_string(json_member(m, "role"), &n), text ? text : "");
    for (const struct cJSON *part = text ? NULL : json_first(content); part; part = json_next(part))
        buf_printf(b, "%s", json_string(json_member(part, "text"), &n));
}

/* Only what differs from the neutral request, so that every row says all it changes. */
static char *tell(const struct gen_request *r)
{
    struct buf b = {.data = NULL};
    if (r->model)
        buf_printf(&b, " model=%s", r->model);
    for (const struct cJSON *m = json_first(r->chat.messages); m; m = json_next(m))
        tell_message(&b, m);
    if (r->prompt)
        buf_printf(&b, " prompt:%.*s", (int)r->prompt_bytes, r->prompt);
    tell_flag(&b, r->raw, "raw");
    tell_flag(&b, r->chat_prompt, "chat_prompt");
    tell_flag(&b, r->echo, "echo");
    tell_flag(&b, r->stream, "stream");
    tell_flag(&b, r->stream_usage, "usage");
    tell_flag(&b, r->reject_if_busy, "reject");
    tell_flag(&b, r->params.ignore_eos, "ignore_eos");
    for (int32_t i = 0; i < r->n_stops; i++)
        buf_printf(&b, " stop:%.*s", (int)r->stop[i].bytes, r->stop[i].text);
    tell_numbers(&b, r);
    buf_add(&b, "", 1);
    assert_false(b.failed);
    return b.data;
}

/* ---- good bodies ---------------------------------------------------------------------- */

#define ASK "\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]"

struct good_row {
    const char *body;
    const char *told;
};

static const struct good_row good_chat[] = {
    {"{" ASK "}", " user:Hi t=1"},
    {"{\"model\":\"m\"," ASK "}", " model=m user:Hi t=1"},
    {"{\"model\":null," ASK "}", " user:Hi t=1"},
    {"{" ASK ",\"stream\":true}", " user:Hi stream t=1"},
    {"{" ASK ",\"stream\":false}", " user:Hi t=1"},
    {"{" ASK ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}",
     " user:Hi stream usage t=1"},
    {"{" ASK ",\"stream_options\":{\"continuous_usage_stats\":true}}", " user:Hi t=1"},
    {"{" ASK ",\"stream_options\":null}", " user:Hi t=1"},
    {"{" ASK ",\"max_tokens\":1}", " user:Hi max=1 t=1"},
    {"{" ASK ",\"max_tokens\":2147483647}", " user:Hi t=1"},
    {"{" ASK ",\"max_tokens\":1e2}", " user:Hi max=100 t=1"},
    {"{" ASK ",\"max_completion_tokens\":7,\"max_tokens\":5}", " user:Hi max=7 t=1"},
    {"{" ASK ",\"max_tokens\":5,\"max_completion_tokens\":null}", " user:Hi max=5 t=1"},
    {"{" ASK ",\"temperature\":0}", " user:Hi t=0 t!"},
    {"{" ASK ",\"temperature\":2}", " user:Hi t=2 t!"},
    {"{" ASK ",\"temperature\":1e-9}", " user:Hi t=0 t!"},
    {"{" ASK ",\"temperature\":null}", " user:Hi t=1"},
    {"{" ASK ",\"top_p\":1}", " user:Hi t=1 p!"},
    {"{" ASK ",\"top_p\":0.25}", " user:Hi t=1 p=0.25 p!"},
    {"{" ASK ",\"top_k\":-1}", " user:Hi t=1 k!"},
    {"{" ASK ",\"top_k\":0}", " user:Hi t=1 k!"},
    {"{" ASK ",\"top_k\":40}", " user:Hi t=1 k=40 k!"},
    {"{" ASK ",\"min_p\":0.5}", " user:Hi t=1 min_p=0.5"},
    {"{" ASK ",\"repetition_penalty\":1.5}", " user:Hi t=1 rep=1.5 rep!"},
    {"{" ASK ",\"repetition_penalty\":1e-30}", " user:Hi t=1 rep=0.01 rep!"},
    {"{" ASK ",\"presence_penalty\":-2,\"frequency_penalty\":2}", " user:Hi t=1 pres=-2 freq=2"},
    {"{" ASK ",\"seed\":0}", " user:Hi t=1 seed=0"},
    {"{" ASK ",\"seed\":-5}", " user:Hi t=1 seed=-5"},
    {"{" ASK ",\"seed\":9999999999}", " user:Hi t=1 seed=9999999999"},
    {"{" ASK ",\"seed\":9007199254740992}", " user:Hi t=1 seed=9007199254740992"},
    {"{" ASK ",\"ignore_eos\":true}", " user:Hi ignore_eos t=1"},
    {"{" ASK ",\"stop\":null}", " user:Hi t=1"},
    {"{" ASK ",\"stop\":\"\\n\"}", " user:Hi stop:\n t=1"},
    {"{" ASK ",\"stop\":[]}", " user:Hi t=1"},
    {"{" ASK ",\"stop\":[\"a\",\"\xc3\xa9\"]}", " user:Hi stop:a stop:\xc3\xa9 t=1"},
    {"{" ASK ",\"logit_bias\":{\"0\":-100,\"2147483647\":1.5}}",
     " user:Hi t=1 bias[0]=-100 bias[2147483647]=1.5"},
    {"{" ASK ",\"logit_bias\":{}}", " user:Hi t=1"},
    {"{" ASK ",\"logit_bias\":null}", " user:Hi t=1"},
    {"{" ASK ",\"logprobs\":true}", " user:Hi t=1 logprobs=0"},
    {"{" ASK ",\"logprobs\":true,\"top_logprobs\":20}", " user:Hi t=1 logprobs=20"},
    {"{" ASK ",\"logprobs\":false,\"top_logprobs\":0}", " user:Hi t=1"},
    {"{" ASK ",\"logprobs\":null,\"top_logprobs\":null}", " user:Hi t=1"},
    {"{" ASK ",\"n\":1}", " user:Hi t=1"},
    {"{" ASK ",\"n\":null}", " user:Hi t=1"},
    {"{" ASK ",\"response_format\":{\"type\":\"text\"}}", " user:Hi t=1"},
    {"{" ASK ",\"response_format\":null,\"tools\":[],\"tool_choice\":\"none\"}", " user:Hi t=1"},
    {"{" ASK ",\"user\":5,\"metadata\":{\"a\":[1]},\"Temperature\":\"x\",\"\":0}", " user:Hi t=1"},
    {"{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"developer\",\"content\":"
     "\"D\"},"
     "{\"role\":\"user\",\"content\":\"\"},{\"role\":\"assistant\",\"content\":\"A\"},"
     "{\"role\":\"user\",\"content\":\"U\",\"name\":\"bob\"}]}",
     " system:S developer:D user: assistant:A user:U t=1"},
    {"{\"messages\":[{\"role\":\"assistant\",\"content\":null},{\"role\":\"assistant\"},"
     "{\"role\":\"assistant\",\"content\":\"x\",\"tool_calls\":[],\"refusal\":null}]}",
     " assistant: assistant: assistant:x t=1"},
    {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
     "{\"text\":\"\\u00e9\",\"type\":\"text\"},{\"type\":\"text\",\"text\":\"\"}]},"
     "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"b\"}]},"
     "{\"role\":\"user\",\"content\":\"c\"}]}",
     " user:a\xc3\xa9 user:b user:c t=1"},
};

static const struct good_row good_completion[] = {
    {"{\"prompt\":\"P\"}", " prompt:P max=16 t=1"},
    {"{\"prompt\":[\"P\"]}", " prompt:P max=16 t=1"},
    {"{\"prompt\":\"\"}", " prompt: max=16 t=1"},
    {"{\"prompt\":\"P\",\"model\":\"m\",\"max_tokens\":3,\"echo\":true,\"stream\":true}",
     " model=m prompt:P echo stream max=3 t=1"},
    {"{\"prompt\":\"P\",\"logprobs\":0}", " prompt:P max=16 t=1 logprobs=0"},
    {"{\"prompt\":\"P\",\"logprobs\":5,\"echo\":false}", " prompt:P max=16 t=1 logprobs=5"},
    {"{\"prompt\":\"P\",\"logprobs\":null,\"suffix\":null,\"best_of\":1,\"n\":1}",
     " prompt:P max=16 t=1"},
    {"{\"prompt\":\"P\",\"max_completion_tokens\":3,\"messages\":5}", " prompt:P max=16 t=1"},
    {"{\"prompt\":\"P\",\"repetition_penalty\":1.0,\"ignore_eos\":true,\"temperature\":0.0,"
     "\"stream_options\":{\"include_usage\":true},\"max_tokens\":128}",
     " prompt:P usage ignore_eos max=128 t=0 t! rep!"},
};

static const struct good_row good_rest[] = {
    {"{\"prompt\":\"P\"}", " prompt:P chat_prompt max=256 t=0.6"},
    {"{" ASK "}", " user:Hi max=256 t=0.6"},
    {"{\"prompt\":\"\"," ASK "}", " user:Hi max=256 t=0.6"},
    {"{\"prompt\":null," ASK "}", " user:Hi max=256 t=0.6"},
    {"{\"prompt\":\"P\",\"messages\":null}", " prompt:P chat_prompt max=256 t=0.6"},
    {"{\"prompt\":\"P\",\"raw\":true}", " prompt:P raw max=256 t=0.6"},
    {"{\"prompt\":\"P\",\"raw\":\"true\"}", " prompt:P raw max=256 t=0.6"},
    {"{\"prompt\":\"P\",\"raw\":\"false\"}", " prompt:P chat_prompt max=256 t=0.6"},
    {"{\"prompt\":\"P\",\"stream\":true}", " prompt:P chat_prompt stream max=256 t=0.6"},
    {"{\"prompt\":\"P\",\"max_tokens\":5,\"temperature\":5,\"top_p\":0.001,\"top_k\":50,"
     "\"seed\":9999999999,\"repetition_penalty\":2,\"frequency_penalty\":-2,"
     "\"presence_penalty\":2}",
     " prompt:P chat_prompt max=5 t=5 t! p=0.001 p! k=50 k! rep=2 rep! pres=2 freq=-2"
     " seed=9999999999"},
    {"{\"prompt\":\"P\",\"temperature\":0,\"top_p\":1,\"top_k\":1,\"seed\":1,"
     "\"repetition_penalty\":0}",
     " prompt:P chat_prompt max=256 t=0 t! p! k=1 k! rep! seed=1"},
    {"{\"prompt\":\"P\",\"options\":{\"rejectIfBusy\":true}}",
     " prompt:P chat_prompt reject max=256 t=0.6"},
    {"{\"prompt\":\"P\",\"options\":{\"rejectIfBusy\":false,\"x\":1}}",
     " prompt:P chat_prompt max=256 t=0.6"},
    {"{\"prompt\":\"P\",\"functions\":[{\"name\":\"f\",\"code\":\"x\"}],\"stop\":\"a\",\"x\":null}",
     " prompt:P chat_prompt max=256 t=0.6"},
    {"{\"prompt\":\"P\",\"lora\":\"\",\"tools\":[],\"response_format\":{\"type\":\"text\"}}",
     " prompt:P chat_prompt max=256 t=0.6"},
    {"{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"assistant\","
     "\"content\":null},{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"U\"}]}]}",
     " system:S assistant: user:U max=256 t=0.6"},
};

static const struct good_row good_binding[] = {
    {"{\"inputs\":{\"prompt\":\"P\",\"stream\":true},\"options\":{}}",
     " prompt:P chat_prompt stream max=256 t=0.6"},
    {"{\"inputs\":{" ASK "}}", " user:Hi max=256 t=0.6"},
    {"{\"inputs\":{\"prompt\":\"P\"},\"options\":null}", " prompt:P chat_prompt max=256 t=0.6"},
    {"{\"inputs\":{\"prompt\":\"P\"},\"options\":{\"rejectIfBusy\":true,\"gateway\":{\"id\":\"g\"}}"
     "}",
     " prompt:P chat_prompt reject max=256 t=0.6"},
    {"{\"inputs\":{\"prompt\":\"P\",\"options\":{\"rejectIfBusy\":true}},\"options\":{}}",
     " prompt:P chat_prompt reject max=256 t=0.6"},
    {"{\"prompt\":\"Q\",\"inputs\":{\"prompt\":\"P\"}}", " prompt:P chat_prompt max=256 t=0.6"},
};

/* The body lies on the heap with nothing behind it and is gone before the request is read:
 * a request that still pointed into it would be seen by a sanitizer. */
static enum status parse(const struct wire *w, struct gen_request *r, const char *body,
                         struct api_error *err)
{
    size_t n = strlen(body);
    char *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, body, n);
    memset(r, 0xA5, sizeof(*r));
    enum status st = w->parse(r, copy, n, err);
    free(copy);
    return st;
}

static void check_good(const struct wire *w, const struct good_row *row, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct gen_request r;
        struct api_error err = {.text = ""};
        if (parse(w, &r, row[i].body, &err) != OK)
            fail_msg("%s refused: %s", row[i].body, err.text);
        assert_ptr_equal(r.wire, w);
        char *told = tell(&r);
        if (strcmp(told, row[i].told) != 0)
            fail_msg("%s\n gives  %s\n wanted %s", row[i].body, told, row[i].told);
        free(told);
        gen_request_free(&r);
        gen_request_free(&r);
    }
}

static void test_good_bodies(void **state)
{
    (void)state;
    check_good(&wire_chat, good_chat, ARRAY_LEN(good_chat));
    check_good(&wire_completions, good_completion, ARRAY_LEN(good_completion));
    check_good(&wire_workers_rest, good_rest, ARRAY_LEN(good_rest));
    check_good(&wire_workers_binding, good_binding, ARRAY_LEN(good_binding));
}

/* ---- bad bodies ----------------------------------------------------------------------- */

struct bad_row {
    const char *body;
    enum api_error_kind kind;
    const char *param;
    const char *text;
};

#define ONE_OF      "oneOf at '/' not met, 0 matches: required properties at '/' are "
#define NO_PROMPT   ONE_OF "'prompt', "
#define NO_MESSAGES ONE_OF "'messages', "
#define A64         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define A256        A64 A64 A64 A64

static const struct bad_row bad_chat[] = {
    {"", API_BAD_JSON, "", "Invalid JSON: unexpected end at byte 0"},
    {"{\"a\":01}", API_BAD_JSON, "", "Invalid JSON: expected ',' or '}' at byte 6"},
    {"{\"n\":1,\"n\":1}", API_BAD_JSON, "", "Invalid JSON: duplicate member at byte 7"},
    {"{\"messages\":[{\"role\":\"user\",\"role\":\"user\"}]}", API_BAD_JSON, "",
     "Invalid JSON: duplicate member at byte 28"},
    {"[]", API_BAD_JSON, "", "The body must be a JSON object"},
    {"null", API_BAD_JSON, "", "The body must be a JSON object"},
    {"{}", API_BAD_FIELD, "messages", "'messages' is required"},
    {"{\"messages\":null}", API_BAD_FIELD, "messages",
     "Invalid type for 'messages': expected array, got null"},
    {"{\"messages\":\"Hi\"}", API_BAD_FIELD, "messages",
     "Invalid type for 'messages': expected array, got string"},
    {"{\"messages\":[]}", API_BAD_FIELD, "messages", "'messages' must not be empty"},
    {"{\"messages\":[\"Hi\"]}", API_BAD_FIELD, "messages[0]",
     "Invalid type for 'messages[0]': expected object, got string"},
    {"{\"messages\":[{\"content\":\"x\"}]}", API_BAD_FIELD, "messages[0].role",
     "'messages[0].role' is required"},
    {"{\"messages\":[{\"role\":1,\"content\":\"x\"}]}", API_BAD_FIELD, "messages[0].role",
     "Invalid type for 'messages[0].role': expected string, got number"},
    {"{\"messages\":[{\"role\":\"User\",\"content\":\"x\"}]}", API_BAD_FIELD, "messages[0].role",
     "'messages[0].role' must be one of system, developer, user, assistant"},
    {"{\"messages\":[{\"role\":\"tool\",\"content\":\"x\"}]}", API_UNSUPPORTED, "messages[0].role",
     "'messages[0].role' names a tool, and tools are not supported"},
    {"{\"messages\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"user\"}]}", API_BAD_FIELD,
     "messages[1].content", "'messages[1].content' is required"},
    {"{\"messages\":[{\"role\":\"user\",\"content\":null}]}", API_BAD_FIELD, "messages[0].content",
     "Invalid type for 'messages[0].content': expected string, got null"},
    {"{\"messages\":[{\"role\":\"user\",\"content\":{}}]}", API_BAD_FIELD, "messages[0].content",
     "Invalid type for 'messages[0].content': expected string, got object"},
    {"{\"messages\":[{\"role\":\"user\",\"content\":[]}]}", API_BAD_FIELD, "messages[0].content",
     "'messages[0].content' must not be empty"},
    {"{\"messages\":[{\"role\":\"user\",\"content\":[\"x\"]}]}", API_BAD_FIELD,
     "messages[0].content[0]",
     "Invalid type for 'messages[0].content[0]': expected object, got string"},
    {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"text\":\"x\"}]}]}", API_BAD_FIELD,
     "messages[0].content[0].type", "'messages[0].content[0].type' is required"},
    {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
     "{\"type\":\"image_url\",\"image_url\":{}}]}]}",
     API_UNSUPPORTED, "messages[0].content[1].type",
     "'messages[0].content[1].type' must be text, other parts are not supported"},
    {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":5}]}]}",
     API_BAD_FIELD, "messages[0].content[0].text",
     "Invalid type for 'messages[0].content[0].text': expected string, got number"},
    {"{\"messages\":[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{}]}]}",
     API_UNSUPPORTED, "messages[0].tool_calls",
     "'messages[0].tool_calls' holds tool calls, which are not supported"},
    {"{" ASK ",\"model\":5}", API_BAD_FIELD, "model",
     "Invalid type for 'model': expected string, got number"},
    {"{" ASK ",\"model\":\"" A256 "a\"}", API_BAD_FIELD, "model", "'model' is too long a name"},
    {"{" ASK ",\"stream\":\"true\"}", API_BAD_FIELD, "stream",
     "Invalid type for 'stream': expected boolean, got string"},
    {"{" ASK ",\"stream\":1}", API_BAD_FIELD, "stream",
     "Invalid type for 'stream': expected boolean, got number"},
    {"{" ASK ",\"stream_options\":true}", API_BAD_FIELD, "stream_options",
     "Invalid type for 'stream_options': expected object, got boolean"},
    {"{" ASK ",\"stream_options\":{\"include_usage\":1}}", API_BAD_FIELD,
     "stream_options.include_usage",
     "Invalid type for 'stream_options.include_usage': expected boolean, got number"},
    {"{" ASK ",\"max_tokens\":0}", API_BAD_FIELD, "max_tokens", "'max_tokens' must be at least 1"},
    {"{" ASK ",\"max_tokens\":-1}", API_BAD_FIELD, "max_tokens", "'max_tokens' must be at least 1"},
    {"{" ASK ",\"max_tokens\":1.5}", API_BAD_FIELD, "max_tokens",
     "Invalid type for 'max_tokens': expected integer, got number"},
    {"{" ASK ",\"max_tokens\":\"5\"}", API_BAD_FIELD, "max_tokens",
     "Invalid type for 'max_tokens': expected integer, got string"},
    {"{" ASK ",\"max_tokens\":2147483648}", API_BAD_FIELD, "max_tokens",
     "'max_tokens' must be at most 2147483647"},
    {"{" ASK ",\"max_tokens\":4294967297}", API_BAD_FIELD, "max_tokens",
     "'max_tokens' must be at most 2147483647"},
    {"{" ASK ",\"max_tokens\":1e308}", API_BAD_FIELD, "max_tokens",
     "'max_tokens' must be at most 2147483647"},
    {"{" ASK ",\"max_tokens\":1e999}", API_BAD_FIELD, "max_tokens",
     "'max_tokens' must be a finite number"},
    {"{" ASK ",\"max_completion_tokens\":0}", API_BAD_FIELD, "max_completion_tokens",
     "'max_completion_tokens' must be at least 1"},
    {"{" ASK ",\"temperature\":-0.1}", API_BAD_FIELD, "temperature",
     "'temperature' must be at least 0"},
    {"{" ASK ",\"temperature\":2.1}", API_BAD_FIELD, "temperature",
     "'temperature' must be at most 2"},
    {"{" ASK ",\"temperature\":-1e999}", API_BAD_FIELD, "temperature",
     "'temperature' must be a finite number"},
    {"{" ASK ",\"temperature\":[1]}", API_BAD_FIELD, "temperature",
     "Invalid type for 'temperature': expected number, got array"},
    {"{" ASK ",\"top_p\":0}", API_BAD_FIELD, "top_p", "'top_p' must be greater than 0"},
    {"{" ASK ",\"top_p\":1e-60}", API_BAD_FIELD, "top_p", "'top_p' must be greater than 0"},
    {"{" ASK ",\"top_p\":1.0001}", API_BAD_FIELD, "top_p", "'top_p' must be at most 1"},
    {"{" ASK ",\"top_k\":-2}", API_BAD_FIELD, "top_k", "'top_k' must be at least -1"},
    {"{" ASK ",\"top_k\":2.5}", API_BAD_FIELD, "top_k",
     "Invalid type for 'top_k': expected integer, got number"},
    {"{" ASK ",\"min_p\":1.5}", API_BAD_FIELD, "min_p", "'min_p' must be at most 1"},
    {"{" ASK ",\"repetition_penalty\":0}", API_BAD_FIELD, "repetition_penalty",
     "'repetition_penalty' must be greater than 0"},
    {"{" ASK ",\"presence_penalty\":2.5}", API_BAD_FIELD, "presence_penalty",
     "'presence_penalty' must be at most 2"},
    {"{" ASK ",\"frequency_penalty\":-3}", API_BAD_FIELD, "frequency_penalty",
     "'frequency_penalty' must be at least -2"},
    {"{" ASK ",\"seed\":0.5}", API_BAD_FIELD, "seed",
     "Invalid type for 'seed': expected integer, got number"},
    {"{" ASK ",\"seed\":9007199254740994}", API_BAD_FIELD, "seed",
     "'seed' must be at most 9007199254740992"},
    {"{" ASK ",\"seed\":-18446744073709551616}", API_BAD_FIELD, "seed",
     "'seed' must be at least -9007199254740992"},
    {"{" ASK ",\"stop\":5}", API_BAD_FIELD, "stop",
     "Invalid type for 'stop': expected string, got number"},
    {"{" ASK ",\"stop\":\"\"}", API_BAD_FIELD, "stop", "'stop' must have 1 to 256 bytes"},
    {"{" ASK ",\"stop\":[\"a\",null]}", API_BAD_FIELD, "stop[1]",
     "Invalid type for 'stop[1]': expected string, got null"},
    {"{" ASK ",\"stop\":[\"a\",\"\"]}", API_BAD_FIELD, "stop[1]",
     "'stop[1]' must have 1 to 256 bytes"},
    {"{" ASK ",\"stop\":\"" A256 "a\"}", API_BAD_FIELD, "stop", "'stop' must have 1 to 256 bytes"},
    {"{" ASK
     ",\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"10\",\"11\",\"12\","
     "\"13\",\"14\",\"15\",\"16\",\"17\"]}",
     API_BAD_FIELD, "stop", "'stop' holds more than 16 strings"},
    {"{" ASK ",\"logit_bias\":[]}", API_BAD_FIELD, "logit_bias",
     "Invalid type for 'logit_bias': expected object, got array"},
    {"{" ASK ",\"logit_bias\":{\"x\":1}}", API_BAD_FIELD, "logit_bias",
     "'logit_bias' must have token ids as its names"},
    {"{" ASK ",\"logit_bias\":{\"-1\":1}}", API_BAD_FIELD, "logit_bias",
     "'logit_bias' must have token ids as its names"},
    {"{" ASK ",\"logit_bias\":{\"01\":1}}", API_BAD_FIELD, "logit_bias",
     "'logit_bias' must have token ids as its names"},
    {"{" ASK ",\"logit_bias\":{\"\":1}}", API_BAD_FIELD, "logit_bias",
     "'logit_bias' must have token ids as its names"},
    {"{" ASK ",\"logit_bias\":{\"2147483648\":1}}", API_BAD_FIELD, "logit_bias",
     "'logit_bias' must have token ids as its names"},
    {"{" ASK ",\"logit_bias\":{\"99999999999999999999\":1}}", API_BAD_FIELD, "logit_bias",
     "'logit_bias' must have token ids as its names"},
    {"{" ASK ",\"logit_bias\":{\"5\":100.5}}", API_BAD_FIELD, "logit_bias",
     "'logit_bias' must hold numbers from -100 to 100"},
    {"{" ASK ",\"logit_bias\":{\"9999999999\":1}}", API_BAD_FIELD, "logit_bias",
     "'logit_bias' must have token ids as its names"},
    {"{" ASK ",\"logit_bias\":{\"5\":-100.5}}", API_BAD_FIELD, "logit_bias",
     "'logit_bias' must hold numbers from -100 to 100"},
    {"{" ASK ",\"logit_bias\":{\"5\":\"1\"}}", API_BAD_FIELD, "logit_bias",
     "'logit_bias' must hold numbers from -100 to 100"},
    {"{" ASK ",\"logit_bias\":{\"5\":1e999}}", API_BAD_FIELD, "logit_bias",
     "'logit_bias' must hold numbers from -100 to 100"},
    {"{" ASK ",\"logprobs\":5}", API_BAD_FIELD, "logprobs",
     "Invalid type for 'logprobs': expected boolean, got number"},
    {"{" ASK ",\"top_logprobs\":2}", API_BAD_FIELD, "top_logprobs",
     "'top_logprobs' needs 'logprobs' to be true"},
    {"{" ASK ",\"logprobs\":true,\"top_logprobs\":21}", API_BAD_FIELD, "top_logprobs",
     "'top_logprobs' must be at most 20"},
    {"{" ASK ",\"logprobs\":true,\"top_logprobs\":-1}", API_BAD_FIELD, "top_logprobs",
     "'top_logprobs' must be at least 0"},
    {"{" ASK ",\"n\":2}", API_UNSUPPORTED, "n",
     "'n' must be 1, several answers to one request are not supported"},
    {"{" ASK ",\"n\":0}", API_UNSUPPORTED, "n",
     "'n' must be 1, several answers to one request are not supported"},
    {"{" ASK ",\"n\":\"1\"}", API_BAD_FIELD, "n",
     "Invalid type for 'n': expected integer, got string"},
    {"{" ASK ",\"response_format\":{\"type\":\"json_object\"}}", API_UNSUPPORTED, "response_format",
     "'response_format' must be of type text, other formats are not supported"},
    {"{" ASK ",\"response_format\":{}}", API_BAD_FIELD, "response_format.type",
     "'response_format.type' is required"},
    {"{" ASK ",\"response_format\":\"json\"}", API_BAD_FIELD, "response_format",
     "Invalid type for 'response_format': expected object, got string"},
    {"{" ASK ",\"tools\":[{\"type\":\"function\"}]}", API_UNSUPPORTED, "tools",
     "'tools' is not supported"},
    {"{" ASK ",\"structured_outputs\":{\"json\":{}}}", API_UNSUPPORTED, "structured_outputs",
     "'structured_outputs' is not supported"},
};

static const struct bad_row bad_completion[] = {
    {"{}", API_BAD_FIELD, "prompt", "'prompt' is required"},
    {"{\"prompt\":null}", API_BAD_FIELD, "prompt",
     "Invalid type for 'prompt': expected string, got null"},
    {"{\"prompt\":{}}", API_BAD_FIELD, "prompt",
     "Invalid type for 'prompt': expected string, got object"},
    {"{\"prompt\":[]}", API_UNSUPPORTED, "prompt",
     "'prompt' must be one string, token ids and several prompts are not supported"},
    {"{\"prompt\":[\"a\",\"b\"]}", API_UNSUPPORTED, "prompt",
     "'prompt' must be one string, token ids and several prompts are not supported"},
    {"{\"prompt\":[1,2]}", API_UNSUPPORTED, "prompt",
     "'prompt' must be one string, token ids and several prompts are not supported"},
    {"{\"prompt\":\"P\",\"suffix\":\"x\"}", API_UNSUPPORTED, "suffix", "'suffix' is not supported"},
    {"{\"prompt\":\"P\",\"best_of\":2}", API_UNSUPPORTED, "best_of",
     "'best_of' must be 1, several answers to one request are not supported"},
    {"{\"prompt\":\"P\",\"logprobs\":21}", API_BAD_FIELD, "logprobs",
     "'logprobs' must be at most 20"},
    {"{\"prompt\":\"P\",\"logprobs\":true}", API_BAD_FIELD, "logprobs",
     "Invalid type for 'logprobs': expected integer, got boolean"},
    {"{\"prompt\":\"P\",\"logprobs\":1,\"echo\":true}", API_UNSUPPORTED, "logprobs",
     "'logprobs' cannot be had of an echoed prompt, which is not supported"},
    {"{\"prompt\":\"P\",\"max_tokens\":0}", API_BAD_FIELD, "max_tokens",
     "'max_tokens' must be at least 1"},
    {"{\"prompt\":\"P\",\"echo\":\"yes\"}", API_BAD_FIELD, "echo",
     "Invalid type for 'echo': expected boolean, got string"},
};

static const struct bad_row bad_rest[] = {
    {"", API_BAD_JSON, "", "Invalid JSON: unexpected end at byte 0"},
    {"5", API_BAD_JSON, "", "The body must be a JSON object"},
    {"{}", API_BAD_FIELD, "", ONE_OF "'prompt', required properties at '/' are 'messages'"},
    {"{\"prompt\":\"P\"," ASK "}", API_BAD_FIELD, "", "oneOf at '/' not met, 2 matches"},
    {"{\"prompt\":5}", API_BAD_FIELD, "prompt",
     NO_MESSAGES "Type mismatch of '/prompt', 'number' not in 'string'"},
    {"{\"prompt\":5," ASK "}", API_BAD_FIELD, "prompt",
     NO_MESSAGES "Type mismatch of '/prompt', 'number' not in 'string'"},
    {"{\"prompt\":\"\"}", API_BAD_FIELD, "prompt",
     NO_MESSAGES "'/prompt' must have a length of at least 1"},
    {"{\"prompt\":null,\"messages\":null}", API_BAD_FIELD, "messages",
     NO_PROMPT "Type mismatch of '/messages', 'null' not in 'array'"},
    {"{\"prompt\":null}", API_BAD_FIELD, "prompt",
     NO_MESSAGES "Type mismatch of '/prompt', 'null' not in 'string'"},
    {"{\"messages\":{}}", API_BAD_FIELD, "messages",
     NO_PROMPT "Type mismatch of '/messages', 'object' not in 'array'"},
    {"{\"messages\":[]}", API_BAD_FIELD, "messages", NO_PROMPT "'/messages' must not be empty"},
    {"{\"messages\":[{\"content\":\"x\"}]}", API_BAD_FIELD, "messages[0].role",
     NO_PROMPT "required properties at '/messages/0' are 'role'"},
    {"{\"messages\":[{\"role\":\"user\"}]}", API_BAD_FIELD, "messages[0].content",
     NO_PROMPT "required properties at '/messages/0' are 'content'"},
    {"{\"messages\":[{\"role\":\"user\",\"content\":null}]}", API_BAD_FIELD, "messages[0].content",
     NO_PROMPT "Type mismatch of '/messages/0/content', 'null' not in 'string'"},
    {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":1}]}]}",
     API_BAD_FIELD, "messages[0].content[0].text",
     NO_PROMPT "Type mismatch of '/messages/0/content/0/text', 'number' not in 'string'"},
    {"{\"messages\":[{\"role\":\"tool\",\"content\":\"x\"}]}", API_UNSUPPORTED, "messages[0].role",
     "'/messages/0/role' names a tool, and tools are not supported"},
    {"{\"prompt\":\"P\",\"top_k\":51}", API_BAD_FIELD, "top_k", "'/top_k' must be <= 50"},
    {"{\"prompt\":\"P\",\"top_k\":0}", API_BAD_FIELD, "top_k", "'/top_k' must be >= 1"},
    {"{\"prompt\":\"P\",\"top_p\":0}", API_BAD_FIELD, "top_p", "'/top_p' must be >= 0.001"},
    {"{\"prompt\":\"P\",\"top_p\":1.5}", API_BAD_FIELD, "top_p", "'/top_p' must be <= 1"},
    {"{\"prompt\":\"P\",\"temperature\":5.1}", API_BAD_FIELD, "temperature",
     "'/temperature' must be <= 5"},
    {"{\"prompt\":\"P\",\"seed\":0}", API_BAD_FIELD, "seed", "'/seed' must be >= 1"},
    {"{\"prompt\":\"P\",\"seed\":10000000000}", API_BAD_FIELD, "seed",
     "'/seed' must be <= 9999999999"},
    {"{\"prompt\":\"P\",\"seed\":1.5}", API_BAD_FIELD, "seed",
     "Type mismatch of '/seed', 'number' not in 'integer'"},
    {"{\"prompt\":\"P\",\"max_tokens\":0}", API_BAD_FIELD, "max_tokens",
     "'/max_tokens' must be >= 1"},
    {"{\"prompt\":\"P\",\"max_tokens\":null}", API_BAD_FIELD, "max_tokens",
     "Type mismatch of '/max_tokens', 'null' not in 'integer'"},
    {"{\"prompt\":\"P\",\"repetition_penalty\":2.5}", API_BAD_FIELD, "repetition_penalty",
     "'/repetition_penalty' must be <= 2"},
    {"{\"prompt\":\"P\",\"frequency_penalty\":-2.5}", API_BAD_FIELD, "frequency_penalty",
     "'/frequency_penalty' must be >= -2"},
    {"{\"prompt\":\"P\",\"stream\":\"true\"}", API_BAD_FIELD, "stream",
     "Type mismatch of '/stream', 'string' not in 'boolean'"},
    {"{\"prompt\":\"P\",\"raw\":\"yes\"}", API_BAD_FIELD, "raw",
     "Type mismatch of '/raw', 'string' not in 'boolean'"},
    {"{\"prompt\":\"P\",\"raw\":1}", API_BAD_FIELD, "raw",
     "Type mismatch of '/raw', 'number' not in 'boolean'"},
    {"{\"prompt\":\"P\",\"options\":[]}", API_BAD_FIELD, "options",
     "Type mismatch of '/options', 'array' not in 'object'"},
    {"{\"prompt\":\"P\",\"options\":{\"rejectIfBusy\":1}}", API_BAD_FIELD, "options.rejectIfBusy",
     "Type mismatch of '/options/rejectIfBusy', 'number' not in 'boolean'"},
    {"{\"prompt\":\"P\",\"lora\":\"x\"}", API_UNSUPPORTED, "lora",
     "The model does not support LoRa inference"},
    {"{" ASK ",\"tools\":[{\"name\":\"f\"}]}", API_UNSUPPORTED, "tools",
     "'/tools' is not supported by this model"},
    {"{" ASK ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{}}}", API_UNSUPPORTED,
     "response_format", "JSON Mode couldn't be met"},
};

static const struct bad_row bad_binding[] = {
    {"{}", API_BAD_FIELD, "", ONE_OF "'prompt', required properties at '/' are 'messages'"},
    {"{\"inputs\":{},\"options\":{}}", API_BAD_FIELD, "",
     ONE_OF "'prompt', required properties at '/' are 'messages'"},
    {"{\"inputs\":[]}", API_BAD_FIELD, "inputs",
     "Type mismatch of '/inputs', 'array' not in 'object'"},
    {"{\"inputs\":null}", API_BAD_FIELD, "inputs",
     "Type mismatch of '/inputs', 'null' not in 'object'"},
    {"{\"prompt\":\"P\"}", API_BAD_FIELD, "",
     ONE_OF "'prompt', required properties at '/' are 'messages'"},
    {"{\"inputs\":{\"prompt\":\"P\",\"top_k\":51}}", API_BAD_FIELD, "top_k",
     "'/top_k' must be <= 50"},
    {"{\"inputs\":{\"prompt\":\"P\"},\"options\":5}", API_BAD_FIELD, "options",
     "Type mismatch of '/options', 'number' not in 'object'"},
    {"{\"inputs\":{\"prompt\":\"P\"},\"options\":{\"rejectIfBusy\":\"y\"}}", API_BAD_FIELD,
     "options.rejectIfBusy", "Type mismatch of '/options/rejectIfBusy', 'string' not in 'boolean'"},
};

static void check_bad(const struct wire *w, const struct bad_row *row, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct gen_request r;
        struct gen_request nothing;
        struct api_error e = {.text = ""};
        enum status st = parse(w, &r, row[i].body, &e);
        if (st != E_INVALID || e.kind != row[i].kind || strcmp(e.param, row[i].param) != 0 ||
            strcmp(e.text, row[i].text) != 0)
            fail_msg("%s: %s\n status %d kind %d param \"%s\" text \"%s\"\n wanted kind %d param "
                     "\"%s\" text \"%s\"",
                     w->name, row[i].body, st, e.kind, e.param, e.text, row[i].kind, row[i].param,
                     row[i].text);
        memset(&nothing, 0, sizeof(nothing));
        assert_memory_equal(&r, &nothing, sizeof(r));
    }
}

static void test_bad_bodies(void **state)
{
    (void)state;
    check_bad(&wire_chat, bad_chat, ARRAY_LEN(bad_chat));
    check_bad(&wire_completions, bad_completion, ARRAY_LEN(bad_completion));
    check_bad(&wire_workers_rest, bad_rest, ARRAY_LEN(bad_rest));
    check_bad(&wire_workers_binding, bad_binding, ARRAY_LEN(bad_binding));
}

/* n comma-separated items between head and tail; '#' in item counts. */
static char *list(const char *head, const char *item, int n, const char *tail)
{
    struct buf b = {.data = NULL};
    const char *mark = strchr(item, '#');
    buf_text(&b, head);
    for (int i = 0; i < n; i++) {
        buf_text(&b, i ? "," : "");
        if (mark)
            buf_printf(&b, "%.*s%d%s", (int)(mark - item), item, i, mark + 1);
        else
            buf_text(&b, item);
    }
    buf_text(&b, tail);
    buf_add(&b, "", 1);
    assert_false(b.failed);
    return b.data;
}

static void test_counts(void **state)
{
    static const struct {
        const struct wire *wire;
        const char *head;
        const char *item;
        int most;
        const char *tail;
        const char *text;
    } cases[] = {
        {&wire_chat, "{\"messages\":[", "{\"role\":\"user\",\"content\":\"\"}", MESSAGES_MAX, "]}",
         "'messages' holds too many messages, the limit is 2048"},
        {&wire_workers_rest, "{\"messages\":[", "{\"role\":\"user\",\"content\":\"\"}",
         MESSAGES_MAX, "]}", NO_PROMPT "'/messages' holds too many messages, the limit is 2048"},
        {&wire_completions, "{\"prompt\":\"\",\"logit_bias\":{", "\"#\":1", BIAS_MAX, "}}",
         "'logit_bias' holds more than 1024 tokens"},
        {&wire_completions, "{\"prompt\":\"\",\"stop\":[", "\"#\"", STOPS_MAX, "]}",
         "'stop' holds more than 16 strings"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct gen_request r;
        struct api_error err = {.text = ""};
        char *body = list(cases[i].head, cases[i].item, cases[i].most, cases[i].tail);
        assert_int_equal(parse(cases[i].wire, &r, body, &err), OK);
        gen_request_free(&r);
        free(body);
        body = list(cases[i].head, cases[i].item, cases[i].most + 1, cases[i].tail);
        assert_int_equal(parse(cases[i].wire, &r, body, &err), E_INVALID);
        assert_string_equal(err.text, cases[i].text);
        free(body);
    }
}

/* Values from outside must not come back, wherever they stood. */
static void test_no_echo(void **state)
{
    static const char *const bodies[] = {
        "{\"messages\":\"SECRET\"}",
        "{\"messages\":[{\"role\":\"SECRET\",\"content\":\"x\"}]}",
        "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"SECRET\"}]}]}",
        "{" ASK ",\"stop\":{\"SECRET\":\"SECRET\"}}",
        "{" ASK ",\"logit_bias\":{\"SECRET\":1}}",
        "{" ASK ",\"response_format\":{\"type\":\"SECRET\"}}",
        "{" ASK ",\"lora\":\"SECRET\",\"tools\":\"SECRET\"}",
        "{" ASK ",\"raw\":\"SECRET\",\"model\":[\"SECRET\"]}",
        "{\"prompt\":[\"SECRET\",\"SECRET\"]}",
        "{\"SECRET\":SECRET}",
        "{\"SECRET\":1,\"SECRET\":1}",
    };
    static const struct wire *const wires[] = {&wire_chat, &wire_completions, &wire_workers_rest,
                                               &wire_workers_binding};
    int n_refused[ARRAY_LEN(bodies)] = {0};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bodies) * ARRAY_LEN(wires); i++) {
        struct gen_request r;
        struct api_error e;
        const struct wire *w = wires[i % ARRAY_LEN(wires)];
        const char *body = bodies[i / ARRAY_LEN(wires)];
        api_error_set(&e, API_ENGINE, NULL, NULL);
        if (parse(w, &r, body, &e) == OK) {
            gen_request_free(&r);
            continue;
        }
        n_refused[i / ARRAY_LEN(wires)]++;
        if (strstr(e.text, "SECRET") || strstr(e.param, "SECRET"))
            fail_msg("%s: %s", e.param, e.text);
    }
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++)
        assert_true(n_refused[i] > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_bodies),
        cmocka_unit_test(test_bad_bodies),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_no_echo),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

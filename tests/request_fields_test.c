/* Aim: every member of a Workers AI request arrives in its field or is refused by name with the
 * right kind and words; of any format's, the counts are bounded and nothing else that a body holds
 * comes back. Not here: OpenAI's members (openai_fields_test.c), JSON itself (json_test.c), what
 * is answered (wire_test.c). */

#include "tests/fields_rig.h"

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

#define ONE_OF      "oneOf at '/' not met, 0 matches: required properties at '/' are "
#define NO_PROMPT   ONE_OF "'prompt', "
#define NO_MESSAGES ONE_OF "'messages', "

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

static void test_good_bodies(void **state)
{
    (void)state;
    check_good(&wire_workers_rest, good_rest, ARRAY_LEN(good_rest));
    check_good(&wire_workers_binding, good_binding, ARRAY_LEN(good_binding));
}

static void test_bad_bodies(void **state)
{
    (void)state;
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
        {&wire_completions, "{\"prompt\":[", "\"#\"", PROMPTS_MAX, "]}",
         "'prompt' asks for more than 128 answers"},
        {&wire_completions, "{\"n\":8,\"prompt\":[", "[#]", CHOICES_MAX / 8, "]}",
         "'prompt' asks for more than 128 answers"},
        {&wire_chat, "{" ASK ",\"stop_token_ids\":[", "#", SCHED_STOP_TOKENS_MAX, "]}",
         "'stop_token_ids' holds too many token ids"},
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

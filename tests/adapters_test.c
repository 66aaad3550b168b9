/* Aim: Anthropic's messages, OpenAI's responses and vLLM's tokenize become the same requests as a
 * chat does, and answer in exactly these bytes. Not here: what a real client makes of them
 * (clients.mjs), tokenizing (e2e). */

#include "tests/fields_rig.h"

/* ---- reading ------------------------------------------------------------------------- */

#define SAY "\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]"

static const struct good_row good_messages[] = {
    {"{" SAY "}", " user:Hi max=9 t=1"},
    {"{" SAY ",\"model\":\"m\",\"system\":\"S\",\"metadata\":{\"user_id\":\"u\"},\"stream\":true}",
     " model=m system:S user:Hi stream max=9 t=1"},
    {"{" SAY
     ",\"system\":[{\"type\":\"text\",\"text\":\"A\",\"cache_control\":{}},{\"type\":\"text\","
     "\"text\":\"\\u00e9\\\"\"}],\"temperature\":1,\"top_p\":0.5,\"top_k\":3}",
     " system:A\xc3\xa9\" user:Hi max=9 t=1 t! p=0.5 p! k=3 k!"},
    {"{" SAY ",\"stop_sequences\":[\"a\",\"b\"],\"thinking\":{\"type\":\"disabled\"},"
     "\"tools\":[{}],\"tool_choice\":{\"type\":\"none\"}}",
     " user:Hi stop:a stop:b max=9 t=1"},
    {"{\"max_tokens\":1,\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"user\","
     "\"content\":[{\"type\":\"text\",\"text\":\"b\"}]},{\"role\":\"assistant\",\"content\":\"c\"}]"
     "}",
     " user:ab assistant:c continue max=1 t=1"},
};

static const struct bad_row bad_messages[] = {
    {"{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}", API_BAD_FIELD, "max_tokens",
     "'max_tokens' is required"},
    {"{\"max_tokens\":1}", API_BAD_FIELD, "messages", "'messages' is required"},
    {"{\"max_tokens\":1,\"messages\":[]}", API_BAD_FIELD, "messages",
     "'messages' must not be empty"},
    {"{\"max_tokens\":1,\"messages\":[5]}", API_BAD_FIELD, "messages[0]",
     "Invalid type for 'messages[0]': expected object, got number"},
    {"{\"max_tokens\":1,\"messages\":[{\"role\":\"system\",\"content\":\"\"}]}", API_BAD_FIELD,
     "messages[0].role", "'messages[0].role' must be user or assistant"},
    {"{\"max_tokens\":1,\"messages\":[{\"role\":\"user\"}]}", API_BAD_FIELD, "messages[0].content",
     "'messages[0].content' is required"},
    {"{\"max_tokens\":1,\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\"}]}]}",
     API_UNSUPPORTED, "messages[0].content[0].type",
     "'messages[0].content[0].type' must be text, other parts are not supported"},
    {"{\"max_tokens\":1,\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]}",
     API_BAD_FIELD, "messages[0].content[0].text", "'messages[0].content[0].text' is required"},
    {"{" SAY ",\"system\":5}", API_BAD_FIELD, "system",
     "Invalid type for 'system': expected string, got number"},
    {"{" SAY ",\"temperature\":1.5}", API_BAD_FIELD, "temperature",
     "'temperature' must be at most 1"},
    {"{" SAY ",\"tools\":[{\"name\":\"f\"}]}", API_UNSUPPORTED, "tools",
     "'tools' is not supported, unless 'tool_choice' is of type none"},
    {"{" SAY ",\"thinking\":{\"type\":\"enabled\"}}", API_UNSUPPORTED, "thinking",
     "'thinking' is not supported"},
    {"{" SAY ",\"stop_sequences\":[5]}", API_BAD_FIELD, "stop_sequences[0]",
     "Invalid type for 'stop_sequences[0]': expected string, got number"},
};

static const struct good_row good_responses[] = {
    {"{\"input\":\"Hi\"}", " user:Hi t=1"},
    {"{\"input\":\"Hi\",\"instructions\":\"I\",\"max_output_tokens\":5,\"store\":true,"
     "\"temperature\":0,\"top_p\":0.5,\"stream\":true,\"text\":{\"format\":{\"type\":\"text\"}},"
     "\"truncation\":\"auto\",\"include\":[\"x\"],\"reasoning\":{\"effort\":\"low\"}}",
     " system:I user:Hi stream max=5 t=0 t! p=0.5 p!"},
    {"{\"input\":[{\"role\":\"developer\",\"content\":\"D\"},{\"type\":\"message\",\"role\":"
     "\"user\","
     "\"content\":[{\"type\":\"input_text\",\"text\":\"a\"}]},{\"id\":\"msg_1\",\"type\":"
     "\"message\","
     "\"status\":\"completed\",\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\","
     "\"text\":\"b\",\"annotations\":[]}]}]}",
     " system:D user:a assistant:b t=1"},
};

static const struct bad_row bad_responses[] = {
    {"{}", API_BAD_FIELD, "input", "'input' is required"},
    {"{\"input\":[]}", API_BAD_FIELD, "input", "'input' must not be empty"},
    {"{\"input\":5}", API_BAD_FIELD, "input",
     "Invalid type for 'input': expected string, got number"},
    {"{\"input\":[{\"type\":\"function_call_output\"}]}", API_UNSUPPORTED, "input[0].type",
     "'input[0].type' must be message, other items are not supported"},
    {"{\"input\":[{\"role\":\"tool\",\"content\":\"x\"}]}", API_BAD_FIELD, "input[0].role",
     "'input[0].role' must be one of system, developer, user, assistant"},
    {"{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_image\"}]}]}", API_UNSUPPORTED,
     "input[0].content[0].type",
     "'input[0].content[0].type' must be text, other parts are not supported"},
    {"{\"input\":\"x\",\"instructions\":[]}", API_BAD_FIELD, "instructions",
     "Invalid type for 'instructions': expected string, got array"},
    {"{\"input\":\"x\",\"previous_response_id\":\"r\"}", API_UNSUPPORTED, "previous_response_id",
     "'previous_response_id' is not supported"},
    {"{\"input\":\"x\",\"background\":true}", API_UNSUPPORTED, "background",
     "'background' is not supported"},
    {"{\"input\":\"x\",\"tools\":[{}]}", API_UNSUPPORTED, "tools",
     "'tools' is not supported, unless 'tool_choice' is \"none\""},
    {"{\"input\":\"x\",\"text\":{\"format\":{\"type\":\"json_object\"}}}", API_UNSUPPORTED,
     "text.format", "'text.format' must be of type text, other formats are not supported"},
    {"{\"input\":\"x\",\"max_output_tokens\":0}", API_BAD_FIELD, "max_output_tokens",
     "'max_output_tokens' must be at least 1"},
};

static const struct good_row good_tokenize[] = {
    {"{\"prompt\":\"\"}", " prompt: t=1"},
    {"{\"prompt\":\"P\",\"add_special_tokens\":false,\"return_token_strs\":true}",
     " prompt:P no_specials strings t=1"},
    {"{" ASK ",\"add_generation_prompt\":false,\"chat_template_kwargs\":{}}",
     " user:Hi no_turn kwargs t=1"},
};

static const struct bad_row bad_tokenize[] = {
    {"{}", API_BAD_FIELD, "prompt", "'prompt' is required"},
    {"{\"prompt\":[1]}", API_BAD_FIELD, "prompt",
     "Invalid type for 'prompt': expected string, got array"},
    {"{\"messages\":5}", API_BAD_FIELD, "messages",
     "Invalid type for 'messages': expected array, got number"},
};

static const struct good_row good_detokenize[] = {
    {"{\"tokens\":[5,0]}", " prompt:5,0 t=1"},
    {"{\"tokens\":[]}", " t=1"},
};

static const struct bad_row bad_detokenize[] = {
    {"{}", API_BAD_FIELD, "tokens", "'tokens' is required"},
    {"{\"tokens\":[\"a\"]}", API_BAD_FIELD, "tokens",
     "'tokens' must hold token ids, whole numbers from 0"},
};

static void test_bodies(void **state)
{
    (void)state;
    check_good(&wire_messages, good_messages, ARRAY_LEN(good_messages));
    check_bad(&wire_messages, bad_messages, ARRAY_LEN(bad_messages));
    check_good(&wire_responses, good_responses, ARRAY_LEN(good_responses));
    check_bad(&wire_responses, bad_responses, ARRAY_LEN(bad_responses));
    check_good(&wire_tokenize, good_tokenize, ARRAY_LEN(good_tokenize));
    check_bad(&wire_tokenize, bad_tokenize, ARRAY_LEN(bad_tokenize));
    check_good(&wire_detokenize, good_detokenize, ARRAY_LEN(good_detokenize));
    check_bad(&wire_detokenize, bad_detokenize, ARRAY_LEN(bad_detokenize));
}

/* ---- writing ------------------------------------------------------------------------- */

static void expect(struct buf *b, const char *wanted)
{
    assert_false(b->failed);
    buf_add(b, "", 1);
    assert_string_equal(b->data, wanted);
    buf_free(b);
}

/* The stream of "Hel", "lo" and an end with these marks; the answer stays for a whole one. */
static void stream(struct buf *out, struct gen_request *r, struct answer *a, struct choice *c)
{
    *a = (struct answer){.id = "x_1",
                         .model = "m",
                         .created = 17,
                         .prompt_tokens = 9,
                         .completion_tokens = 3,
                         .cached_tokens = 4,
                         .choice = c,
                         .n_choices = 1};
    enum finish_reason finish = c->finish;
    c->finish = FINISH_NONE;
    c->text = "Hel";
    c->bytes = 3;
    r->wire->begin(out, r, a);
    r->wire->delta(out, r, a, c);
    c->finish = finish;
    c->text = "lo\n";
    r->wire->delta(out, r, a, c);
    r->wire->end(out, r, a);
}

#define NAMED(type) "event: " type "\ndata: {\"type\":\"" type "\""
#define ANTHROPIC_USAGE                                                                            \
    "\"usage\":{\"input_tokens\":5,\"cache_creation_input_tokens\":0,"                             \
    "\"cache_read_input_tokens\":4,\"output_tokens\":3}"
#define TEXT_DELTA(text)                                                                           \
    NAMED("content_block_delta")                                                                   \
    ",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"" text "\"}}\n\n"

#define STARTED                                                                                    \
    NAMED("message_start")                                                                         \
    ",\"message\":{\"id\":\"x_1\",\"type\":\"message\",\"role\":\"assistant\","                    \
    "\"model\":\"m\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null," ANTHROPIC_USAGE  \
    "}}\n\n" NAMED("content_block_start") ",\"index\":0,\"content_block\":{\"type\":\"text\","     \
                                          "\"text\":\"\"}}\n\n" NAMED("ping") "}\n\n"
#define STOPPED                                                                                    \
    NAMED("content_block_stop")                                                                    \
    ",\"index\":0}\n\n" NAMED("message_delta") ",\"delta\":{\"stop_reason\":\"stop_sequence\","    \
                                               "\"stop_sequence\":\"\\\"\"}," ANTHROPIC_USAGE      \
                                               "}\n\n" NAMED("message_stop") "}\n\n"

static void test_messages(void **state)
{
    struct buf b = {.data = NULL};
    struct gen_request r = {.wire = &wire_messages};
    struct answer a;
    struct choice c = {.finish = FINISH_STOP, .stop_text = "\"", .stop_bytes = 1, .stop_token = -1};
    (void)state;
    stream(&b, &r, &a, &c);
    expect(&b, STARTED TEXT_DELTA("Hel") TEXT_DELTA("lo\\n") STOPPED);
    c.stop_text = NULL;
    c.finish = FINISH_LENGTH;
    wire_messages.whole(&b, &r, &a);
    expect(&b,
           "{\"id\":\"x_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\","
           "\"content\":[{\"type\":\"text\",\"text\":\"lo\\n\"}],\"stop_reason\":\"max_tokens\","
           "\"stop_sequence\":null," ANTHROPIC_USAGE "}");
}

static void test_message_errors(void **state)
{
    static const struct {
        enum api_error_kind kind;
        int status;
        const char *type;
    } rows[] = {
        {API_BAD_FIELD, 400, "invalid_request_error"},
        {API_UNSUPPORTED, 400, "invalid_request_error"},
        {API_UNAUTHORIZED, 401, "authentication_error"},
        {API_NO_MODEL, 404, "not_found_error"},
        {API_TOO_LARGE, 413, "request_too_large"},
        {API_BUSY, 429, "rate_limit_error"},
        {API_ENGINE, 500, "api_error"},
        {API_NOT_READY, 503, "overloaded_error"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char wanted[256];
        struct buf b = {.data = NULL};
        struct api_error e;
        api_error_set(&e, rows[i].kind, NULL, "T\"");
        (void)snprintf(wanted, sizeof(wanted),
                       "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":\"T\\\"\"},"
                       "\"request_id\":\"q\"}",
                       rows[i].type);
        wire_messages.error(&b, &e, "q");
        expect(&b, wanted);
        assert_int_equal(wire_messages.status(&e), rows[i].status);
    }
    struct buf b = {.data = NULL};
    struct api_error e;
    api_error_set(&e, API_ENGINE, NULL, "T");
    wire_messages.stream_error(&b, &e, "q");
    expect(&b, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\","
               "\"message\":\"T\"},\"request_id\":\"q\"}\n\n");
}

#define NUMBERED(type, n) "event: " type "\ndata: {\"type\":\"" type "\",\"sequence_number\":" n
#define RESPONSE(status, details, output, usage)                                                   \
    "{\"id\":\"resp_1\",\"object\":\"response\",\"created_at\":17,\"status\":\"" status            \
    "\",\"error\":null,\"incomplete_details\":" details ",\"model\":\"m\",\"output\":[" output     \
    "],\"instructions\":null,\"max_output_tokens\":7,\"temperature\":1,\"top_p\":1,"               \
    "\"background\":false,\"parallel_tool_calls\":true,\"previous_response_id\":null,"             \
    "\"reasoning\":{\"effort\":null,\"summary\":null},\"store\":false,"                            \
    "\"text\":{\"format\":{\"type\":\"text\"}},\"tool_choice\":\"auto\",\"tools\":[],"             \
    "\"truncation\":\"disabled\",\"user\":null,\"metadata\":{},\"usage\":" usage "}"
#define PART(text)                                                                                 \
    "{\"type\":\"output_text\",\"text\":\"" text "\",\"annotations\":[],\"logprobs\":[]}"
#define ITEM(status, content)                                                                      \
    "{\"type\":\"message\",\"id\":\"msg_1\",\"status\":\"" status                                  \
    "\",\"role\":\"assistant\",\"content\":[" content "]}"
#define PLACE ",\"item_id\":\"msg_1\",\"output_index\":0,\"content_index\":0"
#define RESPONSE_USAGE                                                                             \
    "{\"input_tokens\":9,\"input_tokens_details\":{\"cached_tokens\":4},\"output_tokens\":3,"      \
    "\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":12}"

#define BEGUN   ",\"response\":" RESPONSE("in_progress", "null", "", "null") "}\n\n"
#define CREATED NUMBERED("response.created", "0") BEGUN NUMBERED("response.in_progress", "1") BEGUN
#define ADDED                                                                                      \
    NUMBERED("response.output_item.added", "2")                                                    \
    ",\"output_index\":0,\"item\":" ITEM("in_progress", "") "}\n\n" NUMBERED(                      \
        "response.content_part.added", "3") PLACE ",\"part\":" PART("") "}\n\n"
#define TEXT_EVENTS                                                                                \
    NUMBERED("response.output_text.delta", "4")                                                    \
    PLACE ",\"delta\":\"Hi\",\"logprobs\":[]}\n\n" NUMBERED("response.output_text.done", "5")      \
        PLACE ",\"text\":\"Hi\",\"logprobs\":[]}\n\n" NUMBERED("response.content_part.done", "6")  \
            PLACE ",\"part\":" PART("Hi") "}\n\n"
#define ITEM_DONE                                                                                  \
    NUMBERED("response.output_item.done", "7")                                                     \
    ",\"output_index\":0,\"item\":" ITEM("incomplete", PART("Hi")) "}\n\n"
#define INCOMPLETE                                                                                 \
    NUMBERED("response.incomplete", "8")                                                           \
    ",\"response\":" RESPONSE("incomplete", "{\"reason\":\"max_output_tokens\"}",                  \
                              ITEM("incomplete", PART("Hi")), RESPONSE_USAGE) "}\n\n"

static void test_responses(void **state)
{
    struct buf b = {.data = NULL};
    struct gen_request r = {
        .wire = &wire_responses,
        .params = {.max_new_tokens = 7, .sampling = {.temperature = 1, .top_p = 1}}};
    struct answer a;
    struct choice c = {.stop_token = -1};
    (void)state;
    a = (struct answer){.model = "m",
                        .created = 17,
                        .prompt_tokens = 9,
                        .completion_tokens = 3,
                        .cached_tokens = 4,
                        .choice = &c,
                        .n_choices = 1};
    c.finish = FINISH_NONE;
    c.text = "Hi";
    c.bytes = 2;
    (void)snprintf(a.id, sizeof(a.id), "resp_1");
    wire_responses.begin(&b, &r, &a);
    wire_responses.delta(&b, &r, &a, &c);
    c.finish = FINISH_LENGTH;
    c.bytes = 0;
    wire_responses.delta(&b, &r, &a, &c);
    wire_responses.end(&b, &r, &a);
    expect(&b, CREATED ADDED TEXT_EVENTS ITEM_DONE INCOMPLETE);
    buf_free(&a.kept);
    c.finish = FINISH_STOP;
    c.text = "Hi";
    c.bytes = 2;
    wire_responses.whole(&b, &r, &a);
    expect(&b, RESPONSE("completed", "null", ITEM("completed", PART("Hi")), RESPONSE_USAGE));
}

static void test_told(void **state)
{
    static const int32_t ids[] = {1, 77};
    static struct token_detail text[] = {{.drawn = {"<s>", 3, 1, 0}},
                                         {.drawn = {"\xc3", 1, 77, 0}}};
    struct told t = {.ids = ids, .n_ids = 2, .context = 64, .text = "a\n", .bytes = 2};
    struct buf b = {.data = NULL};
    struct gen_request r = {.want_strings = false};
    (void)state;
    wire_tokenize.tell(&b, &r, &t);
    expect(&b, "{\"count\":2,\"max_model_len\":64,\"tokens\":[1,77],\"token_strs\":null}");
    r.want_strings = true;
    t.strings = (struct detail_list){text, 2};
    wire_tokenize.tell(&b, &r, &t);
    expect(&b, "{\"count\":2,\"max_model_len\":64,\"tokens\":[1,77],"
               "\"token_strs\":[\"<s>\",\"bytes:\\\\xc3\"]}");
    wire_detokenize.tell(&b, &r, &t);
    expect(&b, "{\"prompt\":\"a\\n\"}");
    wire_count_tokens.tell(&b, &r, &t);
    expect(&b, "{\"input_tokens\":2}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bodies),         cmocka_unit_test(test_messages),
        cmocka_unit_test(test_message_errors), cmocka_unit_test(test_responses),
        cmocka_unit_test(test_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

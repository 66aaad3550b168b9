/* Aim: answers, streams and errors of every format are these bytes and no others. Not here:
 * what requests mean (request_fields_test.c), the order of events and HTTP (stream and
 * end-to-end tests). */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/wire.h"

#include <math.h>
#include <string.h>

/* ---- answers -------------------------------------------------------------------------- */

static void expect(struct buf *b, const char *wanted)
{
    assert_false(b->failed);
    buf_add(b, "", 1);
    assert_string_equal(b->data, wanted);
    buf_free(b);
}

static struct answer answer_of(struct choice *c)
{
    struct answer a = {
        .id = "id-1",
        .model = "m",
        .created = 1700000000,
        .prompt_tokens = 9,
        .completion_tokens = 3,
        .choice = c,
        .n_choices = 1,
    };
    return a;
}

/* One delta of a choice. */
static void say(struct buf *out, const struct gen_request *r, struct answer *a, const char *text,
                enum finish_reason finish)
{
    a->choice->text = text;
    a->choice->bytes = strlen(text);
    a->choice->finish = finish;
    r->wire->delta(out, r, a, a->choice);
}

static void whole(struct buf *out, const struct gen_request *r, struct answer *a, const char *text,
                  enum finish_reason finish)
{
    a->choice->text = text;
    a->choice->bytes = strlen(text);
    a->choice->finish = finish;
    r->wire->whole(out, r, a);
}

/* Three pieces of text, the last of them with the end. */
static void stream(const struct gen_request *r, struct buf *out, const char *last)
{
    struct choice c = {.stop_token = -1};
    struct answer a = answer_of(&c);
    say(out, r, &a, "Hel", FINISH_NONE);
    say(out, r, &a, "lo \"\xc3\xa9\"\n", FINISH_NONE);
    say(out, r, &a, last, FINISH_STOP);
    r->wire->end(out, r, &a);
}

/* A stream of nothing. */
static void nothing(const struct gen_request *r, struct buf *out, enum finish_reason finish)
{
    struct choice c = {.stop_token = -1};
    struct answer a = answer_of(&c);
    say(out, r, &a, "", finish);
    r->wire->end(out, r, &a);
}

#define CHAT_CHUNK                                                                                 \
    "data: {\"id\":\"id-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"          \
    "\"model\":\"m\",\"system_fingerprint\":\"fp_firstlight_1\",\"choices\":["
#define TEXT_CHUNK                                                                                 \
    "data: {\"id\":\"id-1\",\"object\":\"text_completion\",\"created\":1700000000,"                \
    "\"model\":\"m\",\"system_fingerprint\":\"fp_firstlight_1\",\"choices\":["
#define USAGE                                                                                      \
    "\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3,\"total_tokens\":12,"                  \
    "\"prompt_tokens_details\":{\"cached_tokens\":0}}"
#define GOES_ON ",\"logprobs\":null,\"finish_reason\":null}"
#define DONE    "data: [DONE]\n\n"

static void test_chat_stream(void **state)
{
    (void)state;
    struct buf b = {.data = NULL};
    struct gen_request r = {
        .wire = &wire_chat, .prompt_logprobs = -1, .params.sampling.n_logprobs = -1};
    stream(&r, &b, "!");
    expect(&b, CHAT_CHUNK
           "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"Hel\"}" GOES_ON
           "]}\n\n" CHAT_CHUNK
           "{\"index\":0,\"delta\":{\"content\":\"lo \\\"\xc3\xa9\\\"\\n\"}" GOES_ON
           "]}\n\n" CHAT_CHUNK "{\"index\":0,\"delta\":{\"content\":\"!\"},\"logprobs\":null,"
           "\"finish_reason\":\"stop\",\"stop_reason\":null}]}\n\n" DONE);
    r.stream_usage = true;
    stream(&r, &b, "");
    expect(&b,
           CHAT_CHUNK "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"Hel\"}" GOES_ON
                      "],\"usage\":null}\n\n" CHAT_CHUNK
                      "{\"index\":0,\"delta\":{\"content\":\"lo \\\"\xc3\xa9\\\"\\n\"}" GOES_ON
                      "],\"usage\":null}\n\n" CHAT_CHUNK
                      "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\","
                      "\"stop_reason\":null}"
                      "],\"usage\":null}\n\n" CHAT_CHUNK "]," USAGE "}\n\n" DONE);
}

/* An answer that ends before it has begun still has its role and its end. */
static void test_empty_streams(void **state)
{
    (void)state;
    struct buf b = {.data = NULL};
    struct gen_request r = {
        .wire = &wire_chat, .prompt_logprobs = -1, .params.sampling.n_logprobs = -1};
    nothing(&r, &b, FINISH_LENGTH);
    expect(&b, CHAT_CHUNK "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
                          "\"logprobs\":null,\"finish_reason\":\"length\",\"stop_reason\":null}"
                          "]}\n\n" DONE);
    r.wire = &wire_completions;
    nothing(&r, &b, FINISH_STOP);
    expect(&b, TEXT_CHUNK "{\"index\":0,\"text\":\"\",\"logprobs\":null,"
                          "\"finish_reason\":\"stop\",\"stop_reason\":null}]}\n\n" DONE);
    r.wire = &wire_workers_rest;
    nothing(&r, &b, FINISH_STOP);
    expect(&b, "data: {\"response\":\"\",\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3,"
               "\"total_tokens\":12}}\n\n" DONE);
}

static void test_completion_stream(void **state)
{
    (void)state;
    struct buf b = {.data = NULL};
    struct gen_request r = {.wire = &wire_completions,
                            .prompt_logprobs = -1,
                            .params.sampling.n_logprobs = -1,
                            .stream_usage = true};
    stream(&r, &b, "!");
    expect(&b, TEXT_CHUNK
           "{\"index\":0,\"text\":\"Hel\",\"logprobs\":null,"
           "\"finish_reason\":null,\"stop_reason\":null}],\"usage\":null}\n\n" TEXT_CHUNK
           "{\"index\":0,\"text\":\"lo \\\"\xc3\xa9\\\"\\n\",\"logprobs\":null,"
           "\"finish_reason\":null,\"stop_reason\":null}],\"usage\":null}\n\n" TEXT_CHUNK
           "{\"index\":0,\"text\":\"!\",\"logprobs\":null,\"finish_reason\":\"stop\","
           "\"stop_reason\":null}],\"usage\":null}\n\n" TEXT_CHUNK "]," USAGE "}\n\n" DONE);
}

static void test_workers_streams(void **state)
{
    static const struct wire *const wires[] = {&wire_workers_rest, &wire_workers_binding};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wires); i++) {
        struct buf b = {.data = NULL};
        struct gen_request r = {
            .wire = wires[i], .prompt_logprobs = -1, .params.sampling.n_logprobs = -1};
        stream(&r, &b, "!");
        expect(&b, "data: {\"response\":\"Hel\"}\n\n"
                   "data: {\"response\":\"lo \\\"\xc3\xa9\\\"\\n\"}\n\n"
                   "data: {\"response\":\"!\"}\n\n"
                   "data: {\"response\":\"\",\"usage\":{\"prompt_tokens\":9,"
                   "\"completion_tokens\":3,\"total_tokens\":12}}\n\n"
                   "data: [DONE]\n\n");
        /* Cut, and its length hidden. */
        struct choice c = {.text = "a", .bytes = 1, .finish = FINISH_LENGTH, .stop_token = -1};
        struct answer a = answer_of(&c);
        a.padding = 3;
        wires[i]->delta(&b, &r, &a, &c);
        a.padding = 32;
        wires[i]->end(&b, &r, &a);
        expect(&b, "data: {\"response\":\"a\",\"p\":\"abc\"}\n\n"
                   "data: {\"response\":\"\",\"usage\":{\"prompt_tokens\":9,"
                   "\"completion_tokens\":3,\"total_tokens\":12},\"finish_reason\":\"length\","
                   "\"p\":\"abcdefghijklmnopqrstuvwxyzabcdef\"}\n\n" DONE);
        assert_string_equal(wires[i]->stream_type, "text/event-stream");
        assert_string_equal(wires[i]->whole_type, "application/json");
    }
}

static void test_whole(void **state)
{
    (void)state;
    struct buf b = {.data = NULL};
    struct choice c = {.stop_token = -1};
    struct answer a = answer_of(&c);
    struct gen_request r = {
        .wire = &wire_chat, .params.sampling.n_logprobs = -1, .prompt_logprobs = -1};
    whole(&b, &r, &a, "Hi\\", FINISH_LENGTH);
    expect(&b, "{\"id\":\"id-1\",\"object\":\"chat.completion\",\"created\":1700000000,"
               "\"model\":\"m\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
               "\"content\":\"Hi\\\\\",\"refusal\":null},\"logprobs\":null,"
               "\"finish_reason\":\"length\",\"stop_reason\":null}]," USAGE
               ",\"system_fingerprint\":\"fp_firstlight_1\"}");
    r.wire = &wire_completions;
    whole(&b, &r, &a, "Hi", FINISH_LENGTH);
    expect(&b, "{\"id\":\"id-1\",\"object\":\"text_completion\",\"created\":1700000000,"
               "\"model\":\"m\",\"choices\":[{\"index\":0,\"text\":\"Hi\",\"logprobs\":null,"
               "\"finish_reason\":\"length\",\"stop_reason\":null}]," USAGE
               ",\"system_fingerprint\":\"fp_firstlight_1\"}");
    r.wire = &wire_workers_rest;
    whole(&b, &r, &a, "Hi", FINISH_LENGTH);
    expect(&b, "{\"result\":{\"response\":\"Hi\",\"usage\":{\"prompt_tokens\":9,"
               "\"completion_tokens\":3,\"total_tokens\":12},\"finish_reason\":\"length\"},"
               "\"success\":true,\"errors\":[],\"messages\":[]}");
    a.cached_tokens = 8;
    r.wire = &wire_workers_binding;
    whole(&b, &r, &a, "", FINISH_STOP);
    expect(&b, "{\"response\":\"\",\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3,"
               "\"total_tokens\":12,\"prompt_tokens_details\":{\"cached_tokens\":8}}}");
}

/* Two answers, one of them ended by a stop string, the other by a stop token. */
static void test_choices(void **state)
{
    (void)state;
    static const int32_t token[] = {7, 8};
    static const int32_t prompt[] = {1, 5, 6};
    struct buf b = {.data = NULL};
    struct choice c[] = {
        {.index = 0,
         .text = "A",
         .bytes = 1,
         .finish = FINISH_STOP,
         .stop_text = "\"\n",
         .stop_bytes = 2,
         .stop_token = -1,
         .token = token,
         .n_token = 2,
         .prompt = prompt,
         .n_prompt = 3},
        {.index = 1,
         .text = "B",
         .bytes = 1,
         .finish = FINISH_STOP,
         .stop_token = 9,
         .token = token,
         .n_token = 1,
         .prompt = prompt,
         .n_prompt = 3},
    };
    struct answer a = answer_of(c);
    a.n_choices = 2;
    struct gen_request r = {.wire = &wire_chat,
                            .params.sampling.n_logprobs = -1,
                            .prompt_logprobs = -1,
                            .return_ids = true,
                            .stream_usage = true,
                            .usage_always = true};
    wire_chat.whole(&b, &r, &a);
    expect(&b, "{\"id\":\"id-1\",\"object\":\"chat.completion\",\"created\":1700000000,"
               "\"model\":\"m\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
               "\"content\":\"A\",\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"stop\","
               "\"stop_reason\":\"\\\"\\n\",\"token_ids\":[7,8]},{\"index\":1,\"message\":{"
               "\"role\":\"assistant\",\"content\":\"B\",\"refusal\":null},\"logprobs\":null,"
               "\"finish_reason\":\"stop\",\"stop_reason\":9,\"token_ids\":[7]}]," USAGE
               ",\"prompt_token_ids\":[1,5,6],\"system_fingerprint\":\"fp_firstlight_1\"}");
    wire_chat.delta(&b, &r, &a, &c[1]);
    expect(&b, CHAT_CHUNK "{\"index\":1,\"delta\":{\"role\":\"assistant\",\"content\":\"B\"},"
                          "\"logprobs\":null,\"finish_reason\":\"stop\",\"stop_reason\":9,"
                          "\"token_ids\":[7]}],\"prompt_token_ids\":[1,5,6]," USAGE "}\n\n");
    wire_completions.delta(&b, &r, &a, &c[0]);
    expect(&b, TEXT_CHUNK
           "{\"index\":0,\"text\":\"A\",\"logprobs\":null,\"finish_reason\":\"stop\","
           "\"stop_reason\":\"\\\"\\n\",\"token_ids\":[7,8],\"prompt_token_ids\":[1,5,6]}"
           "]," USAGE "}\n\n");
}

/* ---- logprobs ------------------------------------------------------------------------- */

static struct token_detail details[] = {
    {.drawn = {"Hi", 2, 5, -0.25F},
     .n_top = 2,
     .top = {{"Hi", 2, 5, -0.25F}, {"Ho", 2, 6, -INFINITY}}},
    /* Half a character, drawn from outside its two best, which are one text. */
    {.drawn = {"\xc3", 1, 7, -1.5e-7F}, .n_top = 2, .top = {{"a", 1, 8, -1}, {"a", 1, 9, -2}}},
    {.drawn = {"\xa9!", 2, 10, NAN}, .n_top = 0},
};

/* Two deltas: the first token, then the other two with the end. */
static void stream_details(struct buf *b, const struct gen_request *r, struct answer *a)
{
    a->choice->detail = (struct detail_list){details, 1};
    say(b, r, a, "Hi", FINISH_NONE);
    a->choice->detail = (struct detail_list){details + 1, 2};
    say(b, r, a, "\xc3\xa9!", FINISH_STOP);
    r->wire->end(b, r, a);
}

static void test_chat_logprobs(void **state)
{
    (void)state;
    struct buf b = {.data = NULL};
    struct choice c = {.stop_token = -1};
    struct answer a = answer_of(&c);
    struct gen_request r = {
        .wire = &wire_chat, .prompt_logprobs = -1, .params.sampling.n_logprobs = 2};
    stream_details(&b, &r, &a);
    expect(&b, CHAT_CHUNK
           "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"Hi\"},\"logprobs\":"
           "{\"content\":[{\"token\":\"Hi\",\"logprob\":-0.25,\"bytes\":[72,105],"
           "\"top_logprobs\":[{\"token\":\"Hi\",\"logprob\":-0.25,\"bytes\":[72,105]},"
           "{\"token\":\"Ho\",\"logprob\":-9999,\"bytes\":[72,111]}]}],\"refusal\":null},"
           "\"finish_reason\":null}]}\n\n" CHAT_CHUNK
           "{\"index\":0,\"delta\":{\"content\":\"\xc3\xa9!\"},\"logprobs\":{\"content\":["
           "{\"token\":\"bytes:\\\\xc3\",\"logprob\":-1.5e-07,\"bytes\":[195],\"top_logprobs\":["
           "{\"token\":\"a\",\"logprob\":-1,\"bytes\":[97]},"
           "{\"token\":\"a\",\"logprob\":-2,\"bytes\":[97]}]},"
           "{\"token\":\"bytes:\\\\xa9\\\\x21\",\"logprob\":-9999,\"bytes\":[169,33],"
           "\"top_logprobs\":[]}],\"refusal\":null},\"finish_reason\":\"stop\",\"stop_reason\":"
           "null}]}\n\n" DONE);
}

static void test_completion_logprobs(void **state)
{
    (void)state;
    struct buf b = {.data = NULL};
    struct choice c = {.stop_token = -1};
    struct answer a = answer_of(&c);
    struct gen_request r = {
        .wire = &wire_completions, .prompt_logprobs = -1, .params.sampling.n_logprobs = 2};
    stream_details(&b, &r, &a);
    expect(&b, TEXT_CHUNK
           "{\"index\":0,\"text\":\"Hi\",\"logprobs\":{\"tokens\":[\"Hi\"],"
           "\"token_logprobs\":[-0.25],\"top_logprobs\":[{\"Hi\":-0.25,\"Ho\":-9999}],"
           "\"text_offset\":[0]},\"finish_reason\":null,\"stop_reason\":null}]}\n\n" TEXT_CHUNK
           "{\"index\":0,\"text\":\"\xc3\xa9!\",\"logprobs\":{\"tokens\":[\"bytes:\\\\xc3\","
           "\"bytes:\\\\xa9\\\\x21\"],\"token_logprobs\":[-1.5e-07,-9999],\"top_logprobs\":["
           "{\"a\":-1,\"bytes:\\\\xc3\":-1.5e-07},{\"bytes:\\\\xa9\\\\x21\":-9999}],"
           "\"text_offset\":[2,3]},\"finish_reason\":\"stop\",\"stop_reason\":null}]}\n\n" DONE);
    assert_int_equal(c.text_offset, 4);
    c.text_offset = 0;
    r.prompt_logprobs = -1;
    c.detail = (struct detail_list){details, 3};
    whole(&b, &r, &a, "Hi\xc3\xa9!", FINISH_STOP);
    buf_add(&b, "", 1);
    assert_non_null(strstr(b.data, "\"text_offset\":[0,2,3]}"));
    buf_free(&b);
}

/* The first token of an echoed prompt has no probability; tokens may be named by their ids. */
static void test_prompt_logprobs(void **state)
{
    (void)state;
    static struct token_detail prompt[] = {
        {.drawn = {"<s>", 3, 1, 0}, .first = true},
        {.drawn = {"b", 1, 4, -3}, .n_top = 2, .top = {{"a", 1, 3, -1}, {"b", 1, 4, -3}}},
        {.drawn = {"z", 1, 9, -8}, .n_top = 1, .top = {{"a", 1, 3, -1}}},
    };
    struct buf b = {.data = NULL};
    struct choice c = {.stop_token = -1,
                       .detail = {prompt, 2},
                       .prompt_detail = {prompt, 3},
                       .text = "x",
                       .bytes = 1,
                       .finish = FINISH_LENGTH};
    struct answer a = answer_of(&c);
    struct gen_request r = {.wire = &wire_completions,
                            .params.sampling.n_logprobs = 2,
                            .prompt_logprobs = 2,
                            .ids_as_text = true};
    wire_completions.whole(&b, &r, &a);
    buf_add(&b, "", 1);
    assert_non_null(strstr(b.data, "{\"tokens\":[\"token_id:1\",\"token_id:4\"],"
                                   "\"token_logprobs\":[null,-3],\"top_logprobs\":[null,"
                                   "{\"token_id:3\":-1,\"token_id:4\":-3}]"));
    assert_non_null(
        strstr(b.data, "\"prompt_logprobs\":[null,{\"4\":{\"logprob\":-3,\"rank\":2,"
                       "\"decoded_token\":\"token_id:4\"},\"3\":{\"logprob\":-1,\"rank\":1,"
                       "\"decoded_token\":\"token_id:3\"}},{\"9\":{\"logprob\":-8,\"rank\":null,"));
    buf_free(&b);
}

/* ---- errors --------------------------------------------------------------------------- */

struct error_row {
    enum api_error_kind kind;
    const char *param;
    const char *text;
    int status;
    const char *body;
};

#define OPENAI_ERROR(message, type, param, code)                                                   \
    "{\"error\":{\"message\":\"" message "\",\"type\":\"" type "\",\"param\":" param               \
    ",\"code\":" code "}}"
#define INVALID "invalid_request_error"

static const struct error_row chat_errors[] = {
    {API_BAD_JSON, "", "T", 400, OPENAI_ERROR("T", INVALID, "null", "null")},
    {API_BAD_FIELD, "top_p", "T\"\n", 400,
     OPENAI_ERROR("T\\\"\\n", INVALID, "\"top_p\"", "\"invalid_value\"")},
    {API_UNSUPPORTED, "n", "T", 400,
     OPENAI_ERROR("T", INVALID, "\"n\"", "\"unsupported_parameter\"")},
    {API_TOO_LONG, "", "T", 400,
     OPENAI_ERROR("T", INVALID, "\"messages\"", "\"context_length_exceeded\"")},
    {API_NO_MODEL, "model", "T", 404,
     OPENAI_ERROR("T", INVALID, "\"model\"", "\"model_not_found\"")},
    {API_NO_ROUTE, "", "", 404,
     OPENAI_ERROR("Unknown request URL", INVALID, "null", "\"unknown_url\"")},
    {API_BAD_METHOD, "", "", 405,
     OPENAI_ERROR("Method not supported for this URL", INVALID, "null",
                  "\"method_not_supported\"")},
    {API_TOO_LARGE, "", "", 413, OPENAI_ERROR("The request is too large", INVALID, "null", "null")},
    {API_TIMEOUT, "", "", 408,
     OPENAI_ERROR("The request took too long", INVALID, "null", "\"request_timeout\"")},
    {API_UNAUTHORIZED, "", "", 401,
     OPENAI_ERROR("Incorrect API key provided", INVALID, "null", "\"invalid_api_key\"")},
    {API_NO_KEY, "", "", 401,
     OPENAI_ERROR("No API key provided", INVALID, "null", "\"invalid_api_key\"")},
    {API_BUSY, "", "", 429,
     OPENAI_ERROR("The server is busy, try again later", "requests", "null",
                  "\"rate_limit_exceeded\"")},
    {API_NOT_READY, "", "", 503,
     OPENAI_ERROR("The model is not ready", "server_error", "null", "null")},
    {API_ENGINE, "", "", 500,
     OPENAI_ERROR("The server could not complete the request", "server_error", "null", "null")},
};

#define REST(message, code, result)                                                                \
    "{\"errors\":[{\"message\":\"" message "\",\"code\":" code "}],\"success\":false,"             \
    "\"result\":" result ",\"messages\":[]}"

static const struct error_row rest_errors[] = {
    {API_BAD_JSON, "", "Invalid JSON: x at byte 5", 400,
     REST("AiError: Bad input: Invalid JSON: x at byte 5 (req-1)", "5006", "{}")},
    {API_BAD_FIELD, "top_k", "'/top_k' must be <= 50", 400,
     REST("AiError: Bad input: Error: '/top_k' must be <= 50 (req-1)", "5006", "{}")},
    {API_UNSUPPORTED, "lora", "The model does not support LoRa inference", 405,
     REST("AiError: The model does not support LoRa inference (req-1)", "5005", "{}")},
    {API_UNSUPPORTED, "response_format", "JSON Mode couldn't be met", 400,
     REST("AiError: JSON Mode couldn't be met (req-1)", "5006", "{}")},
    {API_TOO_LONG, "", "", 413,
     REST("AiError: The estimated number of input and maximum output tokens exceeded this model "
          "context window limit (req-1)",
          "5021", "{}")},
    {API_NO_MODEL, "model", "No such model @cf/x or task", 400,
     REST("AiError: No such model @cf/x or task (req-1)", "5007", "{}")},
    {API_NO_ROUTE, "", "", 404,
     REST("Could not route to this path, perhaps your object identifier is invalid?", "7003",
          "null")},
    {API_BAD_METHOD, "", "", 400, REST("No route for that URI", "7000", "null")},
    {API_TOO_LARGE, "", "", 413, REST("AiError: Request is too large (req-1)", "3006", "{}")},
    {API_TIMEOUT, "", "", 408, REST("AiError: Request timeout (req-1)", "3007", "{}")},
    {API_UNAUTHORIZED, "", "", 401, REST("Authentication error", "10000", "null")},
    {API_NO_KEY, "", "", 400,
     REST("Missing X-Auth-Key, X-Auth-Email or Authorization headers", "9106", "null")},
    {API_BUSY, "", "", 429,
     REST("AiError: Capacity temporarily exceeded, please try again. (req-1)", "3040", "{}")},
    {API_NOT_READY, "", "", 503,
     REST("AiError: Capacity temporarily exceeded, please try again. (req-1)", "3040", "{}")},
    {API_ENGINE, "", "", 500, REST("AiError: Internal server error (req-1)", "3043", "{}")},
    {API_MISSING, "", "model", 400,
     REST("AiError: Request is missing headers or body: model (req-1)", "3003", "{}")},
    {API_BAD_NAME, "", "", 404, REST("AiError: The model name is invalid (req-1)", "3042", "{}")},
    {API_BAD_HTTP, "", "", 400, REST("Invalid request", "7000", "null")},
};

/* Cloudflare's envelope and OpenAI's object in one. */
#define BOTH(message, code, result, words, openai_code)                                            \
    "{\"errors\":[{\"message\":\"" message "\",\"code\":" code "}],\"success\":false,"             \
    "\"result\":" result ",\"messages\":[],\"error\":{\"message\":\"" words                        \
    "\",\"type\":\"invalid_request_error\",\"param\":null,\"code\":" openai_code "}}"

static const struct error_row both_errors[] = {
    {API_NO_MODEL, "", "No such model x or task", 400,
     BOTH("AiError: No such model x or task (req-1)", "5007", "{}", "No such model x or task",
          "\"model_not_found\"")},
    {API_NO_KEY, "", "", 400,
     BOTH("Missing X-Auth-Key, X-Auth-Email or Authorization headers", "9106", "null",
          "No API key provided", "\"invalid_api_key\"")},
};

static const struct error_row proxy_errors[] = {
    {API_UNAUTHORIZED, "", "", 403, REST("Authentication error", "1031", "null")},
    {API_NO_KEY, "", "", 400,
     REST("Missing X-Auth-Key, X-Auth-Email or Authorization headers", "9106", "null")},
};

#define BINDING(code, http, message, description)                                                  \
    "{\"internalCode\":" code ",\"httpCode\":" http ",\"message\":\"" message                      \
    "\",\"name\":\"AiError\",\"description\":\"" description "\",\"requestId\":\"req-1\"}"

static const struct error_row binding_errors[] = {
    {API_OLD_SDK, "", "", 405,
     BINDING("5019", "405", "AiError: Request trying to use deprecated SDK version",
             "Request trying to use deprecated SDK version")},
    {API_NO_MODEL, "model", "No such model @cf/x or task", 400,
     BINDING("5007", "400", "AiError: No such model @cf/x or task", "No such model @cf/x or task")},
    {API_BAD_FIELD, "top_k", "'/top_k' must be <= 50", 400,
     BINDING("5006", "400", "AiError: Bad input: Error: '/top_k' must be <= 50",
             "Error: '/top_k' must be <= 50")},
    {API_BAD_JSON, "", "Invalid JSON: x at byte 5", 400,
     BINDING("5006", "400", "AiError: Bad input: Invalid JSON: x at byte 5",
             "Invalid JSON: x at byte 5")},
    {API_UNSUPPORTED, "lora", "L", 405, BINDING("5005", "405", "AiError: L", "L")},
    {API_BUSY, "", "", 429,
     BINDING("3040", "429", "AiError: Capacity temporarily exceeded, please try again.",
             "Capacity temporarily exceeded, please try again.")},
    {API_NO_ROUTE, "", "", 404,
     BINDING("7003", "404",
             "Could not route to this path, perhaps your object identifier is invalid?",
             "Could not route to this path, perhaps your object identifier is invalid?")},
    {API_ENGINE, "", "", 500,
     BINDING("3043", "500", "AiError: Internal server error", "Internal server error")},
};

static void check_errors(const struct wire *w, const struct error_row *row, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct buf b = {.data = NULL};
        struct api_error e;
        api_error_set(&e, row[i].kind, row[i].param, row[i].text);
        w->error(&b, &e, "req-1");
        expect(&b, row[i].body);
        assert_int_equal(w->status(&e), row[i].status);
        if (w == &wire_chat)
            assert_int_equal(api_error_status(e.kind), row[i].status);
    }
}

static void test_errors(void **state)
{
    (void)state;
    check_errors(&wire_chat, chat_errors, ARRAY_LEN(chat_errors));
    check_errors(&wire_workers_rest, rest_errors, ARRAY_LEN(rest_errors));
    check_errors(&wire_workers_binding, binding_errors, ARRAY_LEN(binding_errors));
    check_errors(&wire_workers_chat, both_errors, ARRAY_LEN(both_errors));
    check_errors(&wire_workers_completions, both_errors, ARRAY_LEN(both_errors));
    check_errors(&wire_workers_proxy, proxy_errors, ARRAY_LEN(proxy_errors));
}

static void test_stream_errors(void **state)
{
    (void)state;
    struct buf b = {.data = NULL};
    struct api_error e;
    api_error_set(&e, API_ENGINE, NULL, NULL);
    wire_completions.stream_error(&b, &e, "req-1");
    expect(&b, "data: " OPENAI_ERROR("The server could not complete the request", "server_error",
                                     "null", "null") "\n\n" DONE);
    wire_workers_binding.stream_error(&b, &e, "req-1");
    expect(&b, "data: {\"response\":\"\",\"errors\":[{\"message\":\"AiError: Internal server "
               "error (req-1)\",\"code\":3043}]}\n\n");
}

static void test_named_errors(void **state)
{
    struct api_error e;
    char name[300];
    (void)state;
    api_error_no_model(&e, &wire_chat, "a\"b");
    assert_int_equal(e.kind, API_NO_MODEL);
    assert_string_equal(e.text, "The model 'a\"b' does not exist");
    api_error_no_model(&e, &wire_workers_rest, NULL);
    assert_string_equal(e.text, "No such model  or task");
    /* Cut at 128 bytes, but never inside a character nor behind a broken one. */
    memset(name, 'x', sizeof(name));
    memcpy(name + 127, "\xc3\xa9", 2);
    name[299] = '\0';
    api_error_no_model(&e, &wire_workers_rest, name);
    assert_int_equal(strlen(e.text), strlen("No such model  or task") + 127);
    api_error_no_model(&e, &wire_workers_rest,
                       "ok\xff"
                       "bad");
    assert_string_equal(e.text, "No such model ok or task");
    api_error_too_long(&e, &wire_workers_rest, 8810, 8192);
    assert_int_equal(e.kind, API_TOO_LONG);
    assert_string_equal(e.text, "The estimated number of input and maximum output tokens (8810) "
                                "exceeded this model context window limit (8192)");
    api_error_too_long(&e, &wire_chat, 600, 512);
    assert_string_equal(e.text,
                        "The request needs 600 tokens, but the context of the model is 512 tokens");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chat_stream),
        cmocka_unit_test(test_empty_streams),
        cmocka_unit_test(test_completion_stream),
        cmocka_unit_test(test_workers_streams),
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_chat_logprobs),
        cmocka_unit_test(test_choices),
        cmocka_unit_test(test_completion_logprobs),
        cmocka_unit_test(test_prompt_logprobs),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_stream_errors),
        cmocka_unit_test(test_named_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

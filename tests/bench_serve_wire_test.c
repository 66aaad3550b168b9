/* Aim: each backend's request is the JSON that its servers take, and each event of its answers is
 * read for what it says; anything else is no event.
 *
 * Negative space: members that --extra-body takes over, prompts that are ids, usage in every place
 * where servers put it, events of the wrong type in every member. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench/serve_wire.h"

#include <math.h>
#include <string.h>

static struct serve_options options(int32_t backend)
{
    const double none = (double)NAN;
    return (struct serve_options){.backend = backend,
                                  .seed = 6,
                                  .ignore_eos = true,
                                  .temperature = 0,
                                  .top_p = none,
                                  .top_k = 5,
                                  .min_p = none,
                                  .frequency_penalty = none,
                                  .presence_penalty = none,
                                  .repetition_penalty = 1.5};
}

static void test_bodies(void **state)
{
    (void)state;
    static const struct {
        int32_t backend;
        const char *prompt;
        const char *extra;
        const char *want;
    } cases[] = {
        {SERVE_OPENAI, "\"p\"", NULL,
         "{\"prompt\":\"p\",\"model\":\"m\\\"\",\"max_tokens\":9,\"stream\":true,\"stream_"
         "options\":"
         "{\"include_usage\":true},\"ignore_eos\":true,\"seed\":10,\"temperature\":0,\"top_k\":5,"
         "\"repetition_penalty\":1.5}"},
        {SERVE_VLLM, "[1,2]", " { \"temperature\" : 0.5, \"stop\":[\"}\"] } ",
         "{\"prompt\":[1,2],\"model\":\"m\\\"\",\"max_tokens\":9,\"stream\":true,\"stream_"
         "options\":"
         "{\"include_usage\":true},\"ignore_eos\":true,\"seed\":10,\"top_k\":5,"
         "\"repetition_penalty\":1.5, \"temperature\" : 0.5, \"stop\":[\"}\"] }"},
        {SERVE_CHAT, "\"p\"", "{}",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"p\"}],\"model\":\"m\\\"\",\"max_tokens\":"
         "9,"
         "\"stream\":true,\"stream_options\":{\"include_usage\":true},\"ignore_eos\":true,"
         "\"seed\":10,\"temperature\":0,\"top_k\":5,\"repetition_penalty\":1.5}"},
        {SERVE_WORKERS, "\"p\"", "{\"seed\":null,\"max_tokens\":1}",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"p\"}],\"stream\":true,\"temperature\":0,"
         "\"top_k\":5,\"repetition_penalty\":1.5,\"seed\":null,\"max_tokens\":1}"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct serve_options o = options(cases[i].backend);
        struct buf prompt = {0};
        struct buf out = {0};
        struct cJSON *extra = NULL;
        struct json_error at;
        o.extra_body = cases[i].extra;
        if (o.extra_body)
            assert_int_equal(json_parse(&extra, o.extra_body, strlen(o.extra_body), &at), OK);
        buf_text(&prompt, cases[i].prompt);
        serve_body(&out, &(struct serve_ask){&o, extra, "m\"", &prompt, 9, 3});
        buf_add(&out, "", 1);
        assert_string_equal(out.data, cases[i].want);
        /* And it is JSON, no member twice. */
        struct cJSON *top = NULL;
        assert_int_equal(json_parse(&top, out.data, out.n - 1, &at), OK);
        json_free(top);
        json_free(extra);
        buf_free(&out);
        buf_free(&prompt);
    }
}

static void test_events(void **state)
{
    (void)state;
    static const struct {
        int32_t backend;
        const char *data;
        const char *text; /* NULL: none */
        bool choice;
        bool finish;
        bool error;
        int64_t answer_tokens; /* -1: none; -2: bad usage */
    } cases[] = {
        {SERVE_OPENAI, "{\"choices\":[{\"text\":\"ab\",\"finish_reason\":null}]}", "ab", true,
         false, false, -1},
        {SERVE_OPENAI, "{\"choices\":[{\"text\":\"\",\"finish_reason\":\"length\"}]}", NULL, true,
         true, false, -1},
        {SERVE_OPENAI, "{\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}",
         NULL, false, false, false, 4},
        {SERVE_OPENAI,
         "{\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4},"
         "\"choices\":[{\"text\":\"a\",\"finish_reason\":\"stop\"}]}",
         "a", true, true, false, 4},
        {SERVE_OPENAI, "{\"choices\":[{\"delta\":{\"content\":\"a\"}}]}", NULL, true, false, false,
         -1},
        {SERVE_OPENAI, "{\"error\":{\"message\":\"x\"}}", NULL, false, false, true, -1},
        {SERVE_OPENAI, "{\"error\":null,\"usage\":null}", NULL, false, false, false, -1},
        {SERVE_OPENAI, "{\"choices\":{\"text\":5},\"usage\":[]}", NULL, true, false, false, -1},
        {SERVE_OPENAI, "{\"usage\":{\"prompt_tokens\":3}}", NULL, false, false, false, -2},
        {SERVE_OPENAI, "{\"usage\":{\"prompt_tokens\":-3,\"completion_tokens\":4}}", NULL, false,
         false, false, -2},
        {SERVE_OPENAI, "{\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4e9}}", NULL, false,
         false, false, -2},
        {SERVE_OPENAI,
         "{\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,"
         "\"prompt_tokens_details\":{\"cached_tokens\":1.5}}}",
         NULL, false, false, false, -2},
        {SERVE_CHAT, "{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}", NULL,
         true, false, false, -1},
        {SERVE_CHAT, "{\"choices\":[{\"delta\":{\"content\":\"a\"}}]}", "a", true, false, false,
         -1},
        {SERVE_CHAT, "{\"choices\":[{\"delta\":{\"content\":null,\"reasoning_content\":\"r\"}}]}",
         "r", true, false, false, -1},
        {SERVE_CHAT, "{\"choices\":[{\"delta\":{\"reasoning\":\"r\"}}]}", "r", true, false, false,
         -1},
        {SERVE_CHAT, "{\"choices\":[{\"delta\":7,\"finish_reason\":\"stop\"}]}", NULL, true, true,
         false, -1},
        {SERVE_WORKERS, "{\"response\":\"a\",\"p\":\"xyz\"}", "a", true, false, false, -1},
        {SERVE_WORKERS,
         "{\"response\":\"\",\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}", NULL, true,
         true, false, 4},
        {SERVE_WORKERS, "{\"response\":\"\",\"errors\":[{\"message\":\"x\"}]}", NULL, true, false,
         true, -1},
        {SERVE_WORKERS, "{\"errors\":[]}", NULL, false, false, false, -1},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct serve_event e;
        struct cJSON *tree;
        const char *data = cases[i].data;
        assert_true(serve_event_read(&e, &tree, cases[i].backend, data, strlen(data)));
        bool good = (e.text != NULL) == (cases[i].text != NULL) && e.choice == cases[i].choice &&
                    e.finish == cases[i].finish && e.error == cases[i].error &&
                    e.bad_usage == (cases[i].answer_tokens == -2);
        good = good && (!e.text || (strlen(cases[i].text) == e.bytes &&
                                    memcmp(e.text, cases[i].text, e.bytes) == 0));
        good = good && (e.bad_usage || e.answer_tokens == cases[i].answer_tokens);
        if (!good)
            fail_msg("case %zu: %s", i, data);
        json_free(tree);
    }
}

static void test_no_events(void **state)
{
    (void)state;
    static const char *const cases[] = {"",          "x", "[1]", "null", "{", "{\"a\":1,\"a\":2}",
                                        "\"[DONE]\""};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct serve_event e;
        struct cJSON *tree;
        assert_false(serve_event_read(&e, &tree, SERVE_OPENAI, cases[i], strlen(cases[i])));
        assert_null(tree);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_no_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

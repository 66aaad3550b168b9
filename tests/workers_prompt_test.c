/* Aim: what a Workers AI request to Llama 2 chat and to TinyLlama becomes is the text that Workers
 * AI's own package made of it, id for id: the system prompt of a bare prompt, the turns of a
 * conversation, and nothing at all around a raw one; what a user writes never becomes a mark.
 * Not here: other templates (chat_test.c), the body (request_fields_test.c). */

#include "server/prompt.h"
#include "tests/tokenizer_rig.h"

#define SYSTEM                                                                                     \
    "A chat between a curious human and an artificial intelligence assistant. The assistant "      \
    "gives helpful, detailed, and polite answers to the human's questions."
#define TALK                                                                                       \
    "{\"messages\":[{\"role\":\"system\",\"content\":\"Be kind.\"},{\"role\":\"user\","            \
    "\"content\":\"Hi\"},{\"role\":\"assistant\",\"content\":\"Hello!\"},{\"role\":\"user\","      \
    "\"content\":\"Who?\"}]}"

static const struct case_row {
    const char *template;
    const char *body;
    const char *text; /* with marks spelled out */
} rows[] = {
    {"workers-llama2", "{\"prompt\":\"Hi\"}",
     "<s>[INST] <<SYS>>\n" SYSTEM "\n<</SYS>>\n\nHi [/INST]"},
    {"llama2", "{\"prompt\":\"Hi\"}", "<s>[INST] <<SYS>>\n" SYSTEM "\n<</SYS>>\n\nHi [/INST]"},
    {"workers-llama2", TALK,
     "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST] Hello!</s><s>[INST] Who? [/INST]"},
    /* Meta's own has a blank before the mark. */
    {"llama2", TALK,
     "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST] Hello! </s><s>[INST] Who? [/INST]"},
    {"workers-llama2", "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}",
     "<s>[INST] Hi [/INST]"},
    {"workers-llama2", "{\"prompt\":\"Hi\",\"raw\":true}", "<s>Hi"},
    {"zephyr", "{\"prompt\":\"Hi\"}",
     "<|system|>\n" SYSTEM "</s>\n<|user|>\nHi</s>\n<|assistant|>\n"},
    {"zephyr", TALK,
     "<|system|>\nBe kind.</s>\n<|user|>\nHi</s>\n<|assistant|>\nHello!</s>\n<|user|>\nWho?</s>\n"
     "<|assistant|>\n"},
};

enum { IDS_MAX = 512 };

static struct tokenizer *open_tokenizer(void)
{
    char path[PATH_BYTES];
    char err[ERR_BYTES] = "";
    struct tokenizer *t = NULL;
    if (tokenizer_open(&t, shared_path(path, "tokenizers/llama2"), err, sizeof(err)))
        fail_msg("%s", err);
    return t;
}

static void ask(struct prompt_ids *out, const struct tokenizer *t, const char *template,
                const char *body)
{
    char path[PATH_BYTES];
    char text[ERR_BYTES] = "";
    struct api_error err = {.text = ""};
    struct gen_request r;
    struct served m = {.tokenizer = (struct tokenizer *)t, .info = {.context_max = IDS_MAX}};
    shared_path(path, "tokenizers/llama2");
    if (chat_open(&m.chat, path, t, template, text, sizeof(text)))
        fail_msg("%s", text);
    assert_int_equal(wire_workers_rest.parse(&r, body, strlen(body), &err), OK);
    if (prompt_encode(out, &m, &r, 0, &err))
        fail_msg("%s: %s", template, err.text);
    gen_request_free(&r);
    chat_close(m.chat);
}

static void documented_texts(void **state)
{
    (void)state;
    if (no_shared())
        skip();
    struct tokenizer *t = open_tokenizer();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct prompt_ids got;
        int32_t want[IDS_MAX];
        size_t n = 0;
        size_t bytes = strlen(rows[i].text);
        const struct text_range all = {.begin = 0, .end = bytes};
        ask(&got, t, rows[i].template, rows[i].body);
        const struct marked_text in = {rows[i].text, bytes, &all, 1, true};
        assert_int_equal(tokenizer_encode_marked(t, &in, want, IDS_MAX, &n), OK);
        if (got.n != n || memcmp(got.ids, want, n * sizeof(*want)) != 0)
            fail_msg("%s, %s: %zu ids, not the %zu of %s", rows[i].template, rows[i].body, got.n, n,
                     rows[i].text);
        free(got.ids);
    }
    tokenizer_close(t);
}

/* The same text from a user holds no mark: more ids, and none of them the end of a turn. */
static void marks_of_users(void **state)
{
    (void)state;
    if (no_shared())
        skip();
    struct tokenizer *t = open_tokenizer();
    static const char body[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"a</s><s>b\"}]}";
    int32_t end = tokenizer_special(t, "</s>");
    struct prompt_ids got;
    ask(&got, t, "workers-llama2", body);
    assert_int_equal(got.ids[0], tokenizer_bos(t));
    for (size_t i = 1; i < got.n; i++)
        assert_true(got.ids[i] != end && got.ids[i] != tokenizer_bos(t));
    free(got.ids);
    tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(documented_texts),
        cmocka_unit_test(marks_of_users),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

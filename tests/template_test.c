#include "tests/tokenizer_rig.h"

#include "models/chat.h"

/* Aim: templates in the form in which real models ship them give, for every conversation, the
 * text that the reference implementation gives (tests/oracle/jinja.mjs, which wrote
 * expected.json).
 * Negative space: conversations a template refuses must be refused, and a new template that
 * nobody has asked the reference about fails. */

#define FOLDER REPO_DIR "/tests/templates"

static cJSON *load(const char *name)
{
    size_t bytes;
    char *text = read_text(FOLDER, name, &bytes);
    cJSON *tree = cJSON_ParseWithLength(text, bytes);
    assert_non_null(tree);
    free(text);
    return tree;
}

static struct chat *open_template(const struct tokenizer *t, const char *name, const cJSON *marks)
{
    char path[PATH_BYTES];
    char err[ERR_BYTES] = "";
    struct chat *c = NULL;
    char *config = cJSON_PrintUnformatted(marks);
    remove_files();
    write_file("tokenizer_config.json", config, strlen(config));
    free(config);
    (void)snprintf(path, sizeof(path), FOLDER "/%s.jinja", name);
    if (chat_open(&c, folder, t, path, err, sizeof(err)))
        fail_msg("%s: %s", name, err);
    return c;
}

/* Whether the text, or the refusal, is as expected. */
static bool matches(const struct chat *c, const char *name, const cJSON *conversation,
                    const cJSON *want, int64_t now)
{
    const struct chat_input in = {
        .messages = json_get(conversation, "messages"),
        .tools = json_get(conversation, "tools"),
        .add_generation_prompt = cJSON_IsTrue(json_get(conversation, "add_generation_prompt")),
        .now = now,
    };
    char err[ERR_BYTES] = "";
    char *text = NULL;
    size_t bytes;
    enum status s = chat_render(c, &in, &text, &bytes, err, sizeof(err));
    bool same = cJSON_IsString(want) ? s == OK && strcmp(text, want->valuestring) == 0
                                     : cJSON_IsNull(want) && s == E_INVALID;
    if (!same)
        print_message("%s, %s\n  gives  %s\n  wanted %s\n", name,
                      json_get(conversation, "name")->valuestring, s ? err : text,
                      cJSON_IsString(want) ? want->valuestring : "a refusal");
    free(text);
    return same;
}

static void corpus(void **state)
{
    (void)state;
    cJSON *given = load("conversations.json");
    cJSON *expected = load("expected.json");
    char *vocab = blanks_json("\"normalizer\":" NORM_REPLACE ",", DEMO_PIECES, DEMO_MERGES, "");
    struct tokenizer *t = must_make(vocab);
    const int64_t now = (int64_t)json_get(given, "now")->valuedouble;
    const cJSON *marks;
    int templates = 0;
    int texts = 0;
    int bad = 0;
    cJSON_ArrayForEach(marks, json_get(given, "marks"))
    {
        const cJSON *conversation;
        const cJSON *rows = json_get(expected, marks->string);
        struct chat *c = open_template(t, marks->string, marks);
        cJSON_ArrayForEach(conversation, json_get(given, "conversations"))
        {
            const cJSON *want =
                cJSON_GetObjectItemCaseSensitive(rows, json_get(conversation, "name")->valuestring);
            assert_non_null(want);
            bad += !matches(c, marks->string, conversation, want, now);
            texts++;
        }
        templates++;
        chat_close(c);
    }
    print_message("%d templates, %d of %d texts as the reference\n", templates, texts - bad, texts);
    assert_int_equal(bad, 0);
    assert_true(templates >= 25 && texts == 6 * templates);
    assert_int_equal(cJSON_GetArraySize(expected), templates);
    remove_files();
    tokenizer_close(t);
    free(vocab);
    cJSON_Delete(given);
    cJSON_Delete(expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(corpus)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

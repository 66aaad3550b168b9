#include "tests/tokenizer_rig.h"

/* Aim: behind every chain of steps that we know, made vocabularies give the ids and the text
 * that Hugging Face's own implementation gives; tests/oracle/tokenizers.mjs asked it.
 * Negative space: the vocabularies merge across every border, so that one cut in another
 * place changes the ids; strings are borders, blanks, marks, digits, names of added tokens,
 * and characters that normalization moves about. */

struct tally {
    int strings;
    int same;
    int decoded;
};

static cJSON *compose(const cJSON *bases, const cJSON *variant)
{
    cJSON *root = cJSON_Duplicate(json_get(variant, "members"), true);
    cJSON *model = cJSON_Duplicate(json_get(bases, json_get(variant, "base")->valuestring), true);
    const cJSON *item;
    assert_true(root && model);
    cJSON_ArrayForEach(item, json_get(variant, "model"))
    {
        cJSON_DeleteItemFromObjectCaseSensitive(model, item->string);
        cJSON_AddItemToObject(model, item->string, cJSON_Duplicate(item, true));
    }
    cJSON_AddItemToObject(root, "model", model);
    return root;
}

static struct tokenizer *open_variant(const cJSON *bases, const cJSON *variant)
{
    char err[ERR_BYTES] = "";
    const struct complaint c = complaint_in("tokenizer.json", err, sizeof(err));
    struct tok_trees trees = {.json = compose(bases, variant)};
    struct tokenizer *t = tok_alloc();
    assert_non_null(t);
    if (tok_load_trees(t, &trees, &c))
        fail_msg("%s: %s", json_get(variant, "name")->valuestring, err);
    cJSON_Delete(trees.json);
    return t;
}

static void show(const char *name, const char *text, const struct ids *got, const cJSON *want)
{
    const cJSON *item;
    fprintf(stderr, "%s: \"%s\"\n  ours  ", name, text);
    for (size_t i = 0; i < got->n; i++)
        fprintf(stderr, " %d", got->id[i]);
    fprintf(stderr, "\n  theirs");
    cJSON_ArrayForEach(item, want)
    {
        fprintf(stderr, " %d", item->valueint);
    }
    fprintf(stderr, "\n");
}

/* All of the text is trusted: that implementation parses every special token. */
static struct ids encode_trusting(const struct tokenizer *t, const char *text)
{
    struct text_range all = {0, strlen(text)};
    size_t most = tokenizer_bound(t, all.end);
    struct ids r = {.id = malloc(most * sizeof(*r.id))};
    assert_non_null(r.id);
    assert_int_equal(tokenizer_encode_marked(t, text, all.end, true, &all, 1, r.id, most, &r.n),
                     OK);
    return r;
}

static void check_string(const struct tokenizer *t, const char *name, const char *text,
                         const cJSON *want, const cJSON *want_text, struct tally *tally)
{
    struct ids got = encode_trusting(t, text);
    bool same = got.n == (size_t)cJSON_GetArraySize(want);
    const cJSON *item = want->child;
    for (size_t i = 0; same && i < got.n; i++, item = item->next)
        same = item->valueint == got.id[i];
    if (!same)
        show(name, text, &got, want);
    size_t bytes;
    char *back = decode(t, got.id, got.n, false, &bytes);
    const char *expected = cJSON_IsString(want_text) ? want_text->valuestring : text;
    bool equal = bytes == strlen(expected) && memcmp(back, expected, bytes) == 0;
    if (same && !equal)
        fprintf(stderr, "%s: \"%s\" is decoded to \"%.*s\", not \"%s\"\n", name, text, (int)bytes,
                back, expected);
    tally->strings++;
    tally->same += same;
    tally->decoded += equal;
    free(back);
    free(got.id);
}

static void answers_are_theirs(void **state)
{
    (void)state;
    char err[ERR_BYTES] = "";
    const struct complaint c = complaint_in("tokenizers.json", err, sizeof(err));
    cJSON *tree = NULL;
    struct tally all = {.strings = 0};
    const cJSON *variant;
    if (json_load(&tree, REPO_DIR "/tests/data", 16 << 20, 1 << 21, &c))
        fail_msg("%s", err);
    const cJSON *strings = json_get(tree, "strings");
    cJSON_ArrayForEach(variant, json_get(tree, "variants"))
    {
        const char *name = json_get(variant, "name")->valuestring;
        struct tokenizer *t = open_variant(json_get(tree, "bases"), variant);
        const cJSON *ids = json_get(variant, "ids")->child;
        const cJSON *decoded = json_get(variant, "decoded")->child;
        const cJSON *text;
        struct tally one = {.strings = 0};
        cJSON_ArrayForEach(text, strings)
        {
            check_string(t, name, text->valuestring, ids, decoded, &one);
            ids = ids->next;
            decoded = decoded->next;
        }
        printf("%-28s ids %d / %d, text %d / %d\n", name, one.same, one.strings, one.decoded,
               one.strings);
        all.strings += one.strings;
        all.same += one.same;
        all.decoded += one.decoded;
        tokenizer_close(t);
    }
    printf("%-28s ids %d / %d, text %d / %d\n", "all", all.same, all.strings, all.decoded,
           all.strings);
    cJSON_Delete(tree);
    assert_true(all.strings >= 10000);
    assert_int_equal(all.same, all.strings);
    assert_int_equal(all.decoded, all.strings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_theirs),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

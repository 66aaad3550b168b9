#include "tests/tokenizer_rig.h"

/* Aim: behind every chain of steps that we know, made vocabularies give the ids and the text
 * that Hugging Face's own implementation gives; tests/oracle/tokenizers.mjs asked it. So do the
 * ways to cut that GGUF files have names for, there and written as tokenizer.json.
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
    const struct marked_text in = {text, all.end, &all, 1, true};
    assert_int_equal(tokenizer_encode_marked(t, &in, r.id, most, &r.n), OK);
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

/* --- ways to cut that GGUF files name --- */

struct lists {
    struct tok_text *piece;
    struct tok_text *merge;
    char *spelled; /* what merges point into */
};

static void lists_of(struct lists *l, struct tok_parts *parts, const cJSON *base)
{
    const cJSON *vocab = json_get(base, "vocab");
    const cJSON *merges = json_get(base, "merges");
    const cJSON *item;
    size_t at = 0;
    parts->n_pieces = (uint32_t)cJSON_GetArraySize(vocab);
    parts->n_merges = (size_t)cJSON_GetArraySize(merges);
    l->piece = calloc(parts->n_pieces, sizeof(*l->piece));
    l->merge = calloc(parts->n_merges, sizeof(*l->merge));
    l->spelled = calloc(parts->n_merges, 2 * PATH_BYTES);
    assert_true(l->piece && l->merge && l->spelled);
    cJSON_ArrayForEach(item, vocab)
    {
        l->piece[item->valueint] = (struct tok_text){item->string, strlen(item->string)};
    }
    cJSON_ArrayForEach(item, merges)
    {
        char *to = l->spelled + at * 2 * PATH_BYTES;
        int n = snprintf(to, 2 * PATH_BYTES, "%s %s", item->child->valuestring,
                         item->child->next->valuestring);
        l->merge[at++] = (struct tok_text){to, (size_t)n};
    }
    parts->piece = l->piece;
    parts->merges = l->merge;
    parts->next_merge = next_in_list;
}

static void check_name(const struct tok_parts *parts, const cJSON *strings, const cJSON *ids)
{
    char err[ERR_BYTES] = "";
    const struct complaint c = complaint_in("made", err, sizeof(err));
    struct tokenizer *t = NULL;
    const cJSON *text;
    if (tokenizer_of_parts(&t, parts, &c))
        fail_msg("%s: %s", parts->pre, err);
    struct tokenizer *written = rewritten(t, parts->pre);
    cJSON_ArrayForEach(text, strings)
    {
        struct ids got = encode(t, text->valuestring, strlen(text->valuestring), true);
        struct ids again = encode(written, text->valuestring, strlen(text->valuestring), true);
        const cJSON *want = ids->child;
        bool same = got.n == (size_t)cJSON_GetArraySize(ids) && got.n == again.n;
        for (size_t i = 0; same && i < got.n; i++, want = want->next)
            same = want->valueint == got.id[i] && got.id[i] == again.id[i];
        if (!same)
            show(parts->pre, text->valuestring, &got, ids);
        assert_true(same);
        free(got.id);
        free(again.id);
        ids = ids->next;
    }
    tokenizer_close(written);
    tokenizer_close(t);
}

static void names_cut_as_theirs(void **state)
{
    (void)state;
    char err[ERR_BYTES] = "";
    const struct complaint c = complaint_in("tokenizers.json", err, sizeof(err));
    cJSON *tree = NULL;
    const cJSON *variant;
    const cJSON *name;
    int n = 0;
    if (json_load(&tree, REPO_DIR "/tests/data", 16 << 20, 1 << 21, &c))
        fail_msg("%s", err);
    struct lists l;
    struct tok_parts parts = {.bos = -1, .unk = -1, .add_bos = 0};
    lists_of(&l, &parts, json_get(json_get(tree, "bases"), "bytes"));
    cJSON_ArrayForEach(variant, json_get(tree, "variants"))
    {
        cJSON_ArrayForEach(name, json_get(variant, "pre"))
        {
            parts.pre = name->valuestring;
            check_name(&parts, json_get(tree, "strings"), json_get(variant, "ids")->child);
            n++;
        }
    }
    printf("%d names of tokenizer.ggml.pre\n", n);
    assert_true(n >= 58);
    free(l.piece);
    free(l.merge);
    free(l.spelled);
    cJSON_Delete(tree);
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
        cmocka_unit_test(names_cut_as_theirs),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

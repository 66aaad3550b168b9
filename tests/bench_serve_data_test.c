/* Aim: prompts have the lengths that were asked for, share what they should share and nothing else,
 * and a data set's file is read as if an enemy had written it.
 *
 * Negative space: files that are empty, cut anywhere, of another form, with brackets in strings,
 * brackets that close nothing, nesting beyond the gate's depth, entries that break alone; lengths
 * below those of a word. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench/serve_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- words ---- */

/* Words of one, two and three tokens, in turn. */
static struct words some_words(int32_t mode)
{
    struct words w = {.mode = mode, .first = 2, .per_word = 1.5};
    for (int32_t i = 0; i < WORDS; i++) {
        w.tokens[i] = 1 + i % 3;
        for (int32_t j = 0; j < w.tokens[i]; j++)
            w.id[i][j] = 100 * i + j;
    }
    return w;
}

/* What the words of a text would be counted as: the first is the list's first, whose tokens as a
 * beginning are w->first. */
static int64_t tokens_of(const struct words *w, const char *text)
{
    int64_t n = w->first;
    static char all[WORDS][16];
    static bool known;
    if (!known) {
        /* The list is learned from texts behind whose first word only one has room. */
        for (int32_t i = 0; i < WORDS; i++) {
            struct buf b = {0};
            struct words one = *w;
            for (int32_t j = 0; j < WORDS; j++)
                one.tokens[j] = i == j ? 1 : 100;
            (void)words_write(&b, &one, 1, w->first + 1, true);
            buf_add(&b, "", 1);
            (void)snprintf(all[i], sizeof(all[0]), "%s", strrchr(b.data, ' ') + 1);
            buf_free(&b);
        }
        known = true;
    }
    for (const char *at = strchr(text, ' '); at; at = strchr(at + 1, ' ')) {
        size_t bytes = strcspn(at + 1, " ");
        int32_t i = 0;
        while (i < WORDS && (strlen(all[i]) != bytes || memcmp(all[i], at + 1, bytes) != 0))
            i++;
        assert_true(i < WORDS);
        n += w->tokens[i];
    }
    return n;
}

static void test_exact_lengths(void **state)
{
    (void)state;
    struct words w = some_words(TOKENS_SERVER);
    for (int64_t n = 2; n < 200; n++) {
        struct buf b = {0};
        assert_int_equal(words_write(&b, &w, (uint64_t)n, n, true), n);
        buf_add(&b, "", 1);
        assert_int_equal(tokens_of(&w, b.data), n);
        buf_free(&b);
    }
}

static void test_too_short(void **state)
{
    (void)state;
    struct words w = some_words(TOKENS_SERVER);
    struct buf b = {0};
    /* The first word alone has two. */
    assert_int_equal(words_write(&b, &w, 1, 1, true), 2);
    buf_clear(&b);
    for (int32_t i = 0; i < WORDS; i++)
        w.tokens[i] = 3;
    /* No word is short enough: as little too long as can be. */
    assert_int_equal(words_write(&b, &w, 1, 4, true), 5);
    buf_free(&b);
}

static void test_ids(void **state)
{
    (void)state;
    struct words w = some_words(TOKENS_IDS);
    struct buf b = {0};
    assert_int_equal(words_write(&b, &w, 3, 50, true), 50);
    int32_t commas = 0;
    for (size_t i = 0; i < b.n; i++)
        commas += b.data[i] == ',';
    assert_int_equal(commas, 49);
    buf_free(&b);
}

/* ---- made up prompts ---- */

static struct serve_options options(enum option_dataset which)
{
    return (struct serve_options){.dataset = (int32_t)which,
                                  .random_input_len = 40,
                                  .random_output_len = 20,
                                  .prefix_prefix_len = 30,
                                  .prefix_suffix_len = 10,
                                  .prefix_num_prefixes = 4,
                                  .prefix_output_len = 8,
                                  .custom_output_len = 64};
}

static struct sample write(struct buf *b, const struct dataset *d, uint64_t run, int64_t index)
{
    struct sample s;
    buf_clear(b);
    dataset_write(b, &s, d, run, index);
    buf_add(b, "", 1);
    assert_false(b->failed);
    return s;
}

static size_t common(const struct buf *a, const struct buf *b)
{
    size_t n = 0;
    while (n < a->n && n < b->n && a->data[n] == b->data[n])
        n++;
    return n;
}

static struct dataset *made_up(const struct serve_options *o, const struct words *w)
{
    struct dataset *d = NULL;
    char err[OPTION_ERROR_BYTES];
    assert_int_equal(dataset_open(&d, o, w, NULL, NULL, err), OK);
    assert_true(dataset_size(d) == INT64_MAX);
    return d;
}

static void test_random(void **state)
{
    (void)state;
    struct words w = some_words(TOKENS_SERVER);
    struct serve_options o = options(DATA_RANDOM);
    struct buf a = {0};
    struct buf b = {0};
    w.specials = 1;
    struct dataset *d = made_up(&o, &w);
    struct sample s = write(&a, d, 0, 5);
    assert_int_equal(s.prompt_tokens, 39); /* with the special token 40 */
    assert_int_equal(s.output_tokens, 20);
    assert_true(a.data[0] == '"' && a.data[a.n - 2] == '"');
    (void)write(&b, d, 0, 5);
    assert_string_equal(a.data, b.data);
    (void)write(&b, d, 0, 6);
    assert_true(common(&a, &b) < 20);
    (void)write(&b, d, 1, 5);
    assert_true(common(&a, &b) < 20);
    dataset_close(d);
    buf_free(&a);
    buf_free(&b);
}

static void test_range_and_prefix(void **state)
{
    (void)state;
    struct words w = some_words(TOKENS_SERVER);
    struct serve_options o = options(DATA_RANDOM);
    struct buf a = {0};
    struct buf b = {0};
    int64_t least = INT64_MAX;
    int64_t most = 0;
    o.random_range_ratio = 0.5;
    o.random_prefix_len = 25;
    struct dataset *d = made_up(&o, &w);
    (void)write(&a, d, 0, 0);
    for (int64_t i = 1; i < 500; i++) {
        struct sample s = write(&b, d, 0, i);
        assert_true(common(&a, &b) > 60);
        assert_in_range(s.output_tokens, 10, 30);
        least = s.prompt_tokens < least ? s.prompt_tokens : least;
        most = s.prompt_tokens > most ? s.prompt_tokens : most;
    }
    assert_in_range(least, 45, 46);
    assert_in_range(most, 84, 85);
    dataset_close(d);
    buf_free(&a);
    buf_free(&b);
}

static void test_prefix_repetition(void **state)
{
    (void)state;
    struct words w = some_words(TOKENS_SERVER);
    struct serve_options o = options(DATA_PREFIX);
    struct buf a = {0};
    struct buf b = {0};
    struct dataset *d = made_up(&o, &w);
    struct sample s = write(&a, d, 0, 1);
    assert_int_equal(s.prompt_tokens, 40);
    assert_int_equal(s.output_tokens, 8);
    (void)write(&b, d, 0, 5); /* four further on: the same prefix */
    assert_true(common(&a, &b) > 60 && common(&a, &b) < a.n - 8);
    (void)write(&b, d, 0, 2);
    assert_true(common(&a, &b) < 30);
    dataset_close(d);
    buf_free(&a);
    buf_free(&b);
}

/* ---- files ---- */

static int64_t count_letters(void *arg, const char *text, size_t bytes)
{
    (void)arg;
    (void)text;
    return (int64_t)bytes;
}

#define ENTRY(a, b) "{\"conversations\":[{\"value\":\"" a "\"},{\"value\":\"" b "\"}]}"

static const struct file_case {
    enum option_dataset which;
    const char *text;
    int64_t want; /* prompts; 0: refused */
    int64_t skipped;
} file_cases[] = {
    {DATA_SHAREGPT, "[" ENTRY("hello", "there you are") "]", 1, 0},
    {DATA_SHAREGPT, "\xef\xbb\xbf [ " ENTRY("hello", "hello") " , " ENTRY("again", "hello") "]\n",
     2, 0},
    {DATA_SHAREGPT, "[" ENTRY("a ]},{[ \\\" \\\\", "]]]]") "]", 1, 0},
    {DATA_SHAREGPT,
     "[" ENTRY("abc", "hello") "," ENTRY("hello", "abc") "," ENTRY("good", "good") "]", 1, 2},
    {DATA_SHAREGPT, "[" ENTRY("hello", "hello") ",{\"conversations\":[{\"value\":\"one\"}]},{},7]",
     1, 3},
    {DATA_SHAREGPT, "[" ENTRY("hello", "hello") ",{\"conversations\":\"x\"},[1],null,\"x\"]", 1, 4},
    {DATA_SHAREGPT, "[" ENTRY("hello", "hello") ",{bad},{\"a\":\"\\ud800\"}]", 1, 2},
    {DATA_SHAREGPT, "[" ENTRY("hello", "hello") ",]", 1, 1},
    {DATA_SHAREGPT, "[" ENTRY("hello", "hello"), 0, 0},
    {DATA_SHAREGPT, "[" ENTRY("hello", "hello") "}", 0, 0},
    {DATA_SHAREGPT, "[\"never closed]", 0, 0},
    {DATA_SHAREGPT, "[\"a\\", 0, 0},
    {DATA_SHAREGPT, "", 0, 0},
    {DATA_SHAREGPT, "[]", 0, 0},
    {DATA_SHAREGPT, "[[[[[[[[[[", 0, 0},
    {DATA_SHAREGPT, "{\"conversations\":[]}", 0, 0},
    {DATA_SHAREGPT, "[{}]", 0, 0},
    {DATA_CUSTOM, "{\"prompt\":\"one\"}\n\n  {\"prompt\":\"two\",\"x\":[1]}\r\n", 2, 0},
    {DATA_CUSTOM, "\xef\xbb\xbf{\"prompt\":\"one\"}", 1, 0},
    {DATA_CUSTOM, "{\"prompt\":\"one\"}\n{\"prompt\":\"\"}", 0, 0},
    {DATA_CUSTOM, "{\"prompt\":\"one\"}\n{\"prompt\":5}", 0, 0},
    {DATA_CUSTOM, "{\"prompt\":\"one\"}\n{\"prompt\":", 0, 0},
    {DATA_CUSTOM, "{\"prompt\":\"a\\u0000b\"}", 0, 0},
    {DATA_CUSTOM, "[\"one\"]", 0, 0},
    {DATA_CUSTOM, "one", 0, 0},
    {DATA_CUSTOM, "\n \n", 0, 0},
    {DATA_CUSTOM, "", 0, 0},
};

/* From a heap block of exactly that size, so that a byte too far is seen. */
static enum status read_text(struct dataset **d, const struct serve_options *o, const char *text,
                             size_t n)
{
    char err[OPTION_ERROR_BYTES] = "";
    char *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, text, n);
    enum status s = dataset_read(d, o, copy, n, count_letters, NULL, err);
    free(copy);
    assert_true((s == OK) == (err[0] == '\0'));
    return s;
}

static void test_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(file_cases); i++) {
        const struct file_case *c = &file_cases[i];
        struct serve_options o = options(c->which);
        struct dataset *d = NULL;
        enum status s = read_text(&d, &o, c->text, strlen(c->text));
        if ((s == OK) != (c->want > 0))
            fail_msg("case %zu: %s", i, status_text(s));
        if (s)
            continue;
        assert_int_equal(dataset_size(d), c->want);
        assert_int_equal(dataset_skipped(d), c->skipped);
        dataset_close(d);
    }
}

static void test_cut_anywhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(file_cases); i++) {
        const struct file_case *c = &file_cases[i];
        struct serve_options o = options(c->which);
        for (size_t n = 0; n < strlen(c->text); n++) {
            struct dataset *d = NULL;
            if (read_text(&d, &o, c->text, n) == OK)
                dataset_close(d);
        }
    }
}

static void test_deep(void **state)
{
    (void)state;
    struct serve_options o = options(DATA_SHAREGPT);
    struct buf text = {0};
    struct dataset *d = NULL;
    buf_text(&text, "[" ENTRY("hello", "hello") ",");
    for (int i = 0; i < 100000; i++)
        buf_text(&text, "[");
    for (int i = 0; i < 100000; i++)
        buf_text(&text, "]");
    buf_text(&text, "]");
    assert_int_equal(read_text(&d, &o, text.data, text.n), OK);
    assert_int_equal(dataset_skipped(d), 1);
    dataset_close(d);
    buf_free(&text);
}

static void test_lengths_of_a_file(void **state)
{
    (void)state;
    struct serve_options o = options(DATA_SHAREGPT);
    struct dataset *d = NULL;
    struct buf b = {0};
    static const char share[] = "[" ENTRY("hello", "twelve chars") "]";
    assert_int_equal(read_text(&d, &o, share, sizeof(share) - 1), OK);
    struct sample s = write(&b, d, 0, 0);
    assert_int_equal(s.prompt_tokens, 5);
    assert_int_equal(s.output_tokens, 12);
    assert_string_equal(b.data, "\"hello\"");
    dataset_close(d);

    o.sharegpt_output_len = 3;
    assert_int_equal(read_text(&d, &o, share, sizeof(share) - 1), OK);
    assert_int_equal(write(&b, d, 0, 0).output_tokens, 3);
    dataset_close(d);

    static const char custom[] = "{\"prompt\":\"a\\nb\",\"output_tokens\":9}";
    o = options(DATA_CUSTOM);
    assert_int_equal(read_text(&d, &o, custom, sizeof(custom) - 1), OK);
    assert_int_equal(write(&b, d, 0, 0).output_tokens, 64);
    assert_string_equal(b.data, "\"a\\nb\"");
    dataset_close(d);

    o.custom_output_len = -1;
    assert_int_equal(read_text(&d, &o, custom, sizeof(custom) - 1), OK);
    assert_int_equal(write(&b, d, 0, 0).output_tokens, 9);
    dataset_close(d);
    static const char without[] = "{\"prompt\":\"a\"}";
    assert_int_equal(read_text(&d, &o, without, sizeof(without) - 1), E_FORMAT);
    buf_free(&b);
}

static void test_order(void **state)
{
    (void)state;
    struct serve_options o = options(DATA_CUSTOM);
    struct buf text = {0};
    struct buf b = {0};
    struct dataset *d = NULL;
    for (int i = 0; i < 50; i++)
        buf_printf(&text, "{\"prompt\":\"%d\"}\n", i);
    assert_int_equal(read_text(&d, &o, text.data, text.n), OK);
    int moved = 0;
    for (int i = 0; i < 50; i++) {
        char want[16];
        (void)write(&b, d, 0, i);
        (void)snprintf(want, sizeof(want), "\"%d\"", i);
        moved += strcmp(b.data, want) != 0;
    }
    assert_true(moved > 30);
    dataset_close(d);

    o.disable_shuffle = true;
    o.num_prompts = 3;
    assert_int_equal(read_text(&d, &o, text.data, text.n), OK);
    assert_int_equal(dataset_size(d), 3);
    (void)write(&b, d, 0, 4); /* from the beginning again */
    assert_string_equal(b.data, "\"1\"");
    dataset_close(d);
    buf_free(&text);
    buf_free(&b);
}

static void test_no_file(void **state)
{
    (void)state;
    static const char *const paths[] = {"/nowhere/at/all", "/", "/dev/null"};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct serve_options o = options(DATA_CUSTOM);
        struct dataset *d = NULL;
        char err[OPTION_ERROR_BYTES] = "";
        o.dataset_path = paths[i];
        assert_int_equal(dataset_open(&d, &o, NULL, NULL, NULL, err), E_IO);
        assert_non_null(strstr(err, paths[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact_lengths),
        cmocka_unit_test(test_too_short),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_range_and_prefix),
        cmocka_unit_test(test_prefix_repetition),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_cut_anywhere),
        cmocka_unit_test(test_deep),
        cmocka_unit_test(test_lengths_of_a_file),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_no_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

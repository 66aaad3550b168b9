#include <utf8proc.h>

#include "tests/tokenizer_rig.h"

/* Aim: the four normal forms are utf8proc's, though the order of marks is sorted here.
 * Negative space: long runs of marks in all orders, which a simple sort makes quadratic,
 * marks with nothing to stand on, Hangul in pieces, and expansions as long as there are. */

static const char *const parts[] = {
    "a",
    "e",
    "\xcc\x81",
    "\xcc\x96",
    "\xcc\xa7",
    "\xcd\x85",
    "\xe1\x84\x80",
    "\xe1\x85\xa1",
    "\xe1\x86\xa8",
    "\xef\xac\x81",
    "\xef\xb7\xba",
    "\xc3\xa9",
    "\xe1\xba\xad",
    " ",
    "\xe4\xb8\xad",
    "\xe2\x84\xab",
    "\xcd\x84",
    "\xf0\x9d\x85\x9e",
    "\xf0\x9f\x98\x80",
    "\xe0\xa4\xbc",
};

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005U + 1442695040888963407U;
    return (uint32_t)(*state >> 33);
}

static const struct form {
    enum norm_kind kind;
    unsigned options;
    size_t growth;
} forms[] = {
    {NORM_NFC, UTF8PROC_STABLE | UTF8PROC_COMPOSE, 3},
    {NORM_NFD, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, 3},
    {NORM_NFKC, UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT, 11},
    {NORM_NFKD, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, 11},
};

static void check_form(const struct form *f, const char *text, size_t bytes)
{
    struct tokenizer *t = tok_alloc();
    struct norm_buf buf = {.n = 0};
    utf8proc_uint8_t *want = NULL;
    assert_non_null(t);
    t->norm[0] = (struct norm_step){.kind = f->kind};
    t->n_norms = 1;
    assert_int_equal(tok_normalize(t, text, bytes, &buf), OK);
    utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)bytes,
                                      &want, (utf8proc_option_t)f->options);
    assert_int_equal(buf.n, n);
    assert_true(buf.n <= f->growth * bytes);
    if (n > 0)
        assert_memory_equal(buf.text, want, (size_t)n);
    free(want);
    norm_buf_free(&buf);
    tokenizer_close(t);
}

static void forms_are_equal(void **state)
{
    (void)state;
    enum { ROUNDS = 3000, PARTS_MAX = 120 };
    uint64_t seed = 3;
    for (int round = 0; round < ROUNDS; round++) {
        char text[PARTS_MAX * 4 + 1];
        size_t bytes = 0;
        size_t n = 1 + next_random(&seed) % PARTS_MAX;
        size_t kinds = 1 + next_random(&seed) % ARRAY_LEN(parts);
        size_t first = next_random(&seed) % ARRAY_LEN(parts);
        for (size_t i = 0; i < n; i++) {
            const char *part = parts[(first + next_random(&seed) % kinds) % ARRAY_LEN(parts)];
            memcpy(text + bytes, part, strlen(part));
            bytes += strlen(part);
        }
        for (size_t i = 0; i < ARRAY_LEN(forms); i++)
            check_form(&forms[i], text, bytes);
    }
}

/* A second of a quadratic sort would be hours here. */
static void a_million_marks(void **state)
{
    (void)state;
    enum { MARKS = 1 << 20 };
    char *text = malloc(2 * MARKS);
    struct tokenizer *t = tok_alloc();
    struct norm_buf buf = {.n = 0};
    assert_true(text && t);
    for (size_t i = 0; i < MARKS; i++)
        memcpy(text + 2 * i, i % 2 ? "\xcc\x96" : "\xcc\x81", 2);
    t->n_norms = 1;
    assert_int_equal(tok_normalize(t, text, 2 * MARKS, &buf), OK);
    assert_int_equal(buf.n, 2 * MARKS);
    for (size_t i = 0; i < MARKS; i++)
        assert_memory_equal(buf.text + 2 * i, i < MARKS / 2 ? "\xcc\x96" : "\xcc\x81", 2);
    norm_buf_free(&buf);
    tokenizer_close(t);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms_are_equal),
        cmocka_unit_test(a_million_marks),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

#include "server/target.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Aim: a path finds its route, a name is decoded exactly once, a key fits only itself.
 * Negative space: empty parts, paths that stop short or go on, broken and doubled
 * escapes, NUL, results that do not fit, keys that are beginnings of one another. */

struct match_case {
    const char *pattern;
    const char *path;
    bool matches;
    const char *tail;
};

static const struct match_case match_cases[] = {
    {"/v1/models", "/v1/models", true, NULL},
    {"/v1/models", "/v1/models/", false, NULL},
    {"/v1/models", "/v1/model", false, NULL},
    {"/v1/models/**", "/v1/models/a/b", true, "a/b"},
    {"/v1/models/**", "/v1/models/", false, NULL},
    {"/v1/models/**", "/v1/models", false, NULL},
    {"/a/*/b", "/a/x/b", true, NULL},
    {"/a/*/b", "/a//b", false, NULL},
    {"/a/*/b", "/a/x/y/b", false, NULL},
    {"/a/*/run/**", "/a/1/run/@cf/m%2Fn", true, "@cf/m%2Fn"},
    {"/", "/", true, NULL},
    {"/", "", false, NULL},
};

static void matches(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(match_cases); i++) {
        const struct match_case *c = &match_cases[i];
        const char *tail = NULL;
        if (target_matches(c->pattern, c->path, &tail) != c->matches)
            fail_msg("case %zu: %s against %s", i, c->path, c->pattern);
        if (c->matches && c->tail)
            assert_string_equal(tail, c->tail);
        if (c->matches && !c->tail)
            assert_null(tail);
    }
}

struct decode_case {
    const char *text;
    const char *out; /* NULL: refused */
    bool plus;
};

static const struct decode_case decode_cases[] = {
    {"", "", false},           {"abc", "abc", false},       {"%40cf%2Fm", "@cf/m", false},
    {"%252F", "%2F", false},   {"a+b", "a+b", false},       {"a+b", "a b", true},
    {"%", NULL, false},        {"%4", NULL, false},         {"%4g", NULL, false},
    {"%00", NULL, false},      {"a%", NULL, false},         {"1234567", "1234567", false},
    {"12345678", NULL, false}, {"%41%42%43", "ABC", false},
};

static void decodes(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(decode_cases); i++) {
        const struct decode_case *c = &decode_cases[i];
        char out[8];
        bool ok = target_decode(out, sizeof(out), c->text, strlen(c->text), c->plus);
        if (ok != (c->out != NULL))
            fail_msg("case %zu: '%s'", i, c->text);
        if (ok)
            assert_string_equal(out, c->out);
    }
    /* Bytes beyond n are not looked at. */
    char out[8];
    assert_false(target_decode(out, sizeof(out), "%41", 2, false));
    assert_true(target_decode(out, sizeof(out), "a%", 1, false));
}

static void params(void **state)
{
    (void)state;
    char out[16];
    const char *query = "page=2&per_page=50&task=Text+Generation&x&y=&pa=1";
    assert_true(target_param(query, "page", out, sizeof(out)));
    assert_string_equal(out, "2");
    assert_true(target_param(query, "task", out, sizeof(out)));
    assert_string_equal(out, "Text Generation");
    assert_true(target_param(query, "y", out, sizeof(out)));
    assert_string_equal(out, "");
    assert_true(target_param(query, "pa", out, sizeof(out)));
    assert_string_equal(out, "1");
    assert_false(target_param(query, "x", out, sizeof(out)));
    assert_false(target_param(query, "z", out, sizeof(out)));
    assert_false(target_param("", "z", out, sizeof(out)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches),
        cmocka_unit_test(decodes),
        cmocka_unit_test(params),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

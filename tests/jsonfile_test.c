/* Aim: the gate in front of cJSON takes RFC 8259 to the letter and nothing else, within its
 * limits, and the getters take a number only as what it is.
 *
 * Negative space: what cJSON by itself would take (leading zeros, raw control bytes, invalid
 * UTF-8, text behind the value, NUL), depth and count one beyond the limit, numbers that do
 * not fit an integer, names in another case. */
#include "models/jsonfile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const good[] = {
    "0",
    "-0",
    "1.5e+10",
    "1E-2",
    "true",
    "false",
    "null",
    "\"\"",
    "[]",
    "{}",
    " [ ] ",
    "\t{\n}\r",
    "[1,2,[3,{\"a\":[]}],{}]",
    "{\"a\":1,\"b\":{\"c\":null}}",
    "{\"a\":1,\"a\":2}",
    "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00\"",
    "\"\x7f\"",
    "\"\xc2\x80\"",
    "\"\xe0\xa0\x80\xed\x9f\xbf\xef\xbf\xbf\"",
    "\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"",
};

static const char *const bad[] = {
    "",
    " ",
    "01",
    "-",
    "+1",
    ".5",
    "1.",
    "1e",
    "1e+",
    "0x1",
    "-01",
    "NaN",
    "Infinity",
    "tru",
    "nul",
    "True",
    "'a'",
    "\"",
    "\"a",
    "\"\\\"",
    "\"\\x\"",
    "\"\\u12\"",
    "\"\\u12g4\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\\ud800x\"",
    "\"\\ud800\\u0041\"",
    "\"\\udc00\"",
    "\"\n\"",
    "\"\x01\"",
    "\"\x80\"",
    "\"\xc0\x80\"",
    "\"\xc1\xbf\"",
    "\"\xe0\x9f\xbf\"",
    "\"\xed\xa0\x80\"",
    "\"\xf0\x8f\xbf\xbf\"",
    "\"\xf4\x90\x80\x80\"",
    "\"\xf5\x80\x80\x80\"",
    "\"\xc2\"",
    "\"\xe2\x82\"",
    "[",
    "]",
    "[1",
    "[1,",
    "[1,]",
    "[,1]",
    "[1 2]",
    "[1,,2]",
    "{",
    "}",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\":1,}",
    "{,}",
    "{a:1}",
    "{1:1}",
    "{\"a\" 1}",
    "{\"a\":1 \"b\":2}",
    "[}",
    "{]",
    "[1}",
    "{\"a\":1]",
    "1 2",
    "[] []",
    "{}x",
    "\xef\xbb\xbf[]",
    "/**/1",
    "[1]//",
    "\f1",
    "\v1",
};

/* In memory of its own length, so that a byte too many is seen. */
static bool check(const char *text, size_t bytes, size_t nodes_max)
{
    size_t at = SIZE_MAX;
    char *exact = malloc(bytes ? bytes : 1);
    assert_non_null(exact);
    memcpy(exact, text, bytes);
    bool result = strict_check(exact, bytes, nodes_max, &at);
    assert_true(at <= bytes);
    free(exact);
    return result;
}

static void the_gate_knows_the_grammar(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        if (!check(good[i], strlen(good[i]), 100))
            fail_msg("refused: %s", good[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (check(bad[i], strlen(bad[i]), 100))
            fail_msg("taken: %s", bad[i]);
    }
    assert_false(check("1\0", 2, 100));
    assert_false(check("\"\0\"", 3, 100));
}

static void every_beginning_is_refused(void **state)
{
    static const char text[] = "{\"a\":[1.5e+3,true,null,\"\\u00e9\xc3\xa9\"],\"b\":{}}";
    (void)state;
    assert_true(check(text, strlen(text), 100));
    for (size_t n = 0; n < strlen(text); n++)
        assert_false(check(text, n, 100));
}

static void limits_hold(void **state)
{
    char text[2 * (JSON_DEPTH_MAX + 1)];
    (void)state;
    for (size_t depth = 1; depth <= JSON_DEPTH_MAX + 1; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        assert_int_equal(check(text, 2 * depth, 1000), depth <= JSON_DEPTH_MAX);
    }
    assert_true(check("[1,2,3]", 7, 4));
    assert_false(check("[1,2,3]", 7, 3));
    /* A closed object below must not be forgotten under arrays above. */
    assert_true(check("{\"a\":[[{}]],\"b\":1}", 18, 9));
}

static const struct {
    const char *text;
    bool whole;
    int64_t value;
} numbers[] = {
    {"{\"n\":5}", true, 5},
    {"{\"n\":-5}", true, -5},
    {"{\"n\":5.0}", true, 5},
    {"{\"n\":1e2}", true, 100},
    {"{\"n\":4294967297}", true, 4294967297},
    {"{\"n\":5.5}", false, 0},
    {"{\"n\":1e300}", false, 0},
    {"{\"n\":1e999}", false, 0},
    {"{\"n\":9223372036854775808}", false, 0},
    {"{\"n\":\"5\"}", false, 0},
    {"{\"n\":true}", false, 0},
    {"{\"n\":[5]}", false, 0},
    {"{\"n\":5,\"n\":5}", false, 0},
};

static void getters_take_what_it_is(void **state)
{
    char err[128];
    const struct complaint c = {.file = "f", .text = err, .size = sizeof(err)};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        int64_t n = 77;
        cJSON *o = cJSON_Parse(numbers[i].text);
        enum status s = json_int(o, "n", INT64_MIN, INT64_MAX, &n, &c);
        assert_int_equal(s, numbers[i].whole ? OK : E_FORMAT);
        assert_int_equal(n, numbers[i].whole ? numbers[i].value : 77);
        cJSON_Delete(o);
    }
}

static void getters_leave_what_is_absent(void **state)
{
    char err[128];
    const struct complaint c = {.file = "f", .text = err, .size = sizeof(err)};
    cJSON *o = cJSON_Parse("{\"N\":5,\"s\":\"x\",\"z\":null,\"b\":true}");
    int64_t n = 77;
    double d = 0.5;
    bool b = false;
    const char *text = "default";
    (void)state;
    assert_int_equal(json_int(o, "n", 0, 10, &n, &c), OK);
    assert_int_equal(json_int(o, "z", 0, 10, &n, &c), OK);
    assert_int_equal(n, 77);
    assert_int_equal(json_int(o, "N", 0, 4, &n, &c), E_FORMAT);
    assert_string_equal(err, "f: \"N\" must be a whole number from 0 to 4");
    assert_int_equal(field_number(o, "s", 0, 1, &d, &c), E_FORMAT);
    assert_int_equal(json_bool(o, "b", &b, &c), OK);
    assert_true(b);
    assert_int_equal(json_bool(o, "N", &b, &c), E_FORMAT);
    assert_int_equal(field_string(o, "z", &text, &c), OK);
    assert_string_equal(text, "default");
    assert_int_equal(field_string(o, "s", &text, &c), OK);
    assert_string_equal(text, "x");
    assert_int_equal(field_string(o, "b", &text, &c), E_FORMAT);
    assert_null(json_get(o, "z"));
    assert_null(json_get(json_get(o, "s"), "s"));
    assert_int_equal(json_int(json_get(o, "s"), "n", 0, 1, &n, &c), E_FORMAT);
    cJSON_Delete(o);
}

/* A line that is too long is cut, and the cut is safe. */
static void complaints_fit(void **state)
{
    char err[16];
    (void)state;
    for (size_t size = 1; size <= sizeof(err); size++) {
        const struct complaint c = {.file = "config.json", .text = err, .size = size};
        memset(err, 'x', sizeof(err));
        assert_int_equal(complain(&c, E_IO, "%s", "a long explanation"), E_IO);
        assert_true(memchr(err, '\0', size) != NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_gate_knows_the_grammar),
        cmocka_unit_test(every_beginning_is_refused),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(getters_take_what_it_is),
        cmocka_unit_test(getters_leave_what_is_absent),
        cmocka_unit_test(complaints_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

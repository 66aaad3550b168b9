/* Aim: the strict pass accepts exactly RFC 8259 within the limits it is given, says what is
 * wrong and where, and everything it accepts cJSON builds a tree of; the getters hand out
 * numbers only when they can be trusted. Not here: the limits of files (jsonfile_test.c), what
 * the members mean (wire_test.c). */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/base.h"
#include "server/json.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT(s) s, sizeof(s) - 1

struct row {
    const char *text;
    size_t bytes;
    const char *what; /* NULL: accepted */
    size_t offset;
};

static const char value[] = "expected a value";
static const char end[] = "unexpected end";
static const char digit[] = "expected a digit";
static const char name[] = "expected a member name";
static const char behind[] = "unexpected text behind the value";
static const char utf8[] = "invalid UTF-8";
static const char control[] = "control character in a string";
static const char lone[] = "lone surrogate";
static const char hex[] = "invalid \\u escape";
static const char escape[] = "invalid escape";
static const char twice[] = "duplicate member";
static const char comma_array[] = "expected ',' or ']'";
static const char comma_object[] = "expected ',' or '}'";

static const struct row rows[] = {
    /* Values, alone and with blanks. */
    {TEXT("{}"), NULL, 0},
    {TEXT("[]"), NULL, 0},
    {TEXT("null"), NULL, 0},
    {TEXT("true"), NULL, 0},
    {TEXT("false"), NULL, 0},
    {TEXT("\"\""), NULL, 0},
    {TEXT(" \t\r\n{ \"a\" : [ 1 , 2 ] } \n"), NULL, 0},
    {TEXT("[[],{},[{}],{\"a\":[]}]"), NULL, 0},
    {TEXT("{\"\":1}"), NULL, 0},
    {TEXT("{\"a\":{\"a\":{\"a\":null}}}"), NULL, 0},
    {TEXT("[{\"a\":1},{\"a\":1}]"), NULL, 0},
    {TEXT(" [ ] "), NULL, 0},
    {TEXT("\t{\n}\r"), NULL, 0},
    {TEXT("[1,2,[3,{\"a\":[]}],{}]"), NULL, 0},
    {TEXT("{\"a\":1,\"b\":{\"c\":null}}"), NULL, 0},
    {TEXT("{\"a\":[1.5e+3,true,null,\"\\u00e9\xc3\xa9\"],\"b\":{}}"), NULL, 0},
    {TEXT("{\"a\":1,\"A\":2}"), NULL, 0},
    /* Numbers. */
    {TEXT("0"), NULL, 0},
    {TEXT("-0"), NULL, 0},
    {TEXT("-1"), NULL, 0},
    {TEXT("10"), NULL, 0},
    {TEXT("0.5"), NULL, 0},
    {TEXT("1e5"), NULL, 0},
    {TEXT("1E+5"), NULL, 0},
    {TEXT("1.5e+10"), NULL, 0},
    {TEXT("1E-2"), NULL, 0},
    {TEXT("1e-5"), NULL, 0},
    {TEXT("0e1"), NULL, 0},
    {TEXT("-0.0e-0"), NULL, 0},
    {TEXT("1e999"), NULL, 0},
    {TEXT("[123456789012345678901234567890]"), NULL, 0},
    /* Strings. */
    {TEXT("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""), NULL, 0},
    {TEXT("\"\\u0001\\u001f\\u00e9\\uFFFF\""), NULL, 0},
    {TEXT("\"\\ud83d\\ude00\\uDBFF\\uDFFF\""), NULL, 0},
    {TEXT("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00\""), NULL, 0},
    {TEXT("\"\x7f\""), NULL, 0},
    {TEXT("\"\xc2\x80\""), NULL, 0},
    {TEXT("\"\xe0\xa0\x80\xed\x9f\xbf\xef\xbf\xbf\""), NULL, 0},
    {TEXT("\"\xc2\x80\xdf\xbf\""), NULL, 0},
    {TEXT("\"\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\""), NULL, 0},
    {TEXT("\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\""), NULL, 0},
    {TEXT("\"a\xe2\x80\xa8z\""), NULL, 0},
    /* Nothing, and too much. */
    {TEXT(""), end, 0},
    {TEXT("  "), end, 2},
    {TEXT(" "), end, 1},
    {TEXT("{}{}"), behind, 2},
    {TEXT("{}x"), behind, 2},
    {TEXT("[] []"), behind, 3},
    {TEXT("1\0"), behind, 1},
    {TEXT("["), end, 1},
    {TEXT("{"), end, 1},
    {TEXT("[1"), end, 2},
    {TEXT("[1,"), end, 3},
    {TEXT("[] x"), behind, 3},
    {TEXT("1 2"), behind, 2},
    {TEXT("\"a\"b"), behind, 3},
    {TEXT("{}\0"), behind, 2},
    {TEXT("true,"), behind, 4},
    {TEXT("]"), value, 0},
    {TEXT("}"), value, 0},
    {TEXT(","), value, 0},
    {TEXT(":"), value, 0},
    /* A byte order mark, other encodings, other blanks. */
    {TEXT("\xef\xbb\xbf{}"), value, 0},
    {TEXT("\xff\xfe{\0}\0"), value, 0},
    {TEXT("\0{}"), value, 0},
    {TEXT("\xef\xbb\xbf[]"), value, 0},
    {TEXT("\f[]"), value, 0},
    {TEXT("\f1"), value, 0},
    {TEXT("\v[]"), value, 0},
    {TEXT("\v1"), value, 0},
    {TEXT("\xc2\xa0[]"), value, 0},
    {TEXT("[1,\f2]"), value, 3},
    {TEXT("[1\0]"), comma_array, 2},
    {TEXT("[\xe2\x81\xa0]"), value, 1},
    /* What is not JSON although some take it. */
    {TEXT("[1,]"), value, 3},
    {TEXT("[,1]"), value, 1},
    {TEXT("[1,,2]"), value, 3},
    {TEXT("[1 2]"), comma_array, 3},
    {TEXT("[1;2]"), comma_array, 2},
    {TEXT("[1:2]"), comma_array, 2},
    {TEXT("[1}"), comma_array, 2},
    {TEXT("{\"a\":1]"), comma_object, 6},
    {TEXT("[}"), value, 1},
    {TEXT("{]"), name, 1},
    {TEXT("{,}"), name, 1},
    {TEXT("{\"a\" 1}"), "expected ':'", 5},
    {TEXT("{\"a\":1,}"), name, 7},
    {TEXT("{,\"a\":1}"), name, 1},
    {TEXT("{\"a\":1 \"b\":2}"), comma_object, 7},
    {TEXT("{\"a\":1,,\"b\":2}"), name, 7},
    {TEXT("{a:1}"), name, 1},
    {TEXT("{'a':1}"), name, 1},
    {TEXT("{1:1}"), name, 1},
    {TEXT("{null:1}"), name, 1},
    {TEXT("{[1]:1}"), name, 1},
    {TEXT("{\"a\"}"), "expected ':'", 4},
    {TEXT("{\"a\",1}"), "expected ':'", 4},
    {TEXT("{\"a\"=1}"), "expected ':'", 4},
    {TEXT("{\"a\"::1}"), value, 5},
    {TEXT("{\"a\":}"), value, 5},
    {TEXT("{\"a\":1}}"), behind, 7},
    {TEXT("['a']"), value, 1},
    {TEXT("'a'"), value, 0},
    {TEXT("[a]"), value, 1},
    {TEXT("// x\n[]"), value, 0},
    {TEXT("[/* x */]"), value, 1},
    {TEXT("/**/1"), value, 0},
    {TEXT("[1]//"), behind, 3},
    {TEXT("[1]#"), behind, 3},
    {TEXT("True"), value, 0},
    {TEXT("TRUE"), value, 0},
    {TEXT("tru"), value, 0},
    {TEXT("truth"), value, 0},
    {TEXT("truee"), behind, 4},
    {TEXT("nul"), value, 0},
    {TEXT("fals"), value, 0},
    {TEXT("undefined"), value, 0},
    {TEXT("NaN"), value, 0},
    {TEXT("nan"), value, 0},
    {TEXT("Infinity"), value, 0},
    {TEXT("-Infinity"), digit, 1},
    {TEXT("-NaN"), digit, 1},
    /* Numbers that are none. */
    {TEXT("-"), end, 1},
    {TEXT("--1"), digit, 1},
    {TEXT("+1"), value, 0},
    {TEXT("- 1"), digit, 1},
    {TEXT("-01"), behind, 2},
    {TEXT("012"), behind, 1},
    {TEXT("01"), behind, 1},
    {TEXT("[00]"), comma_array, 2},
    {TEXT("1."), end, 2},
    {TEXT("2."), end, 2},
    {TEXT("[2.]"), digit, 3},
    {TEXT("[2.e3]"), digit, 3},
    {TEXT(".5"), value, 0},
    {TEXT("-.5"), digit, 1},
    {TEXT("1e"), end, 2},
    {TEXT("1e+"), end, 3},
    {TEXT("[1e+]"), digit, 4},
    {TEXT("[1e+-2]"), digit, 4},
    {TEXT("1e1.5"), behind, 3},
    {TEXT("1.2.3"), behind, 3},
    {TEXT("0x1"), behind, 1},
    {TEXT("0x10"), behind, 1},
    {TEXT("1_000"), behind, 1},
    {TEXT("1f"), behind, 1},
    {TEXT("\xef\xbc\x91"), value, 0},
    /* Strings that are none. */
    {TEXT("\""), end, 1},
    {TEXT("\"a"), end, 2},
    {TEXT("\"abc"), end, 4},
    {TEXT("\"\\\""), end, 3},
    {TEXT("\"\\"), end, 2},
    {TEXT("\"\n\""), control, 1},
    {TEXT("\"\x01\""), control, 1},
    {TEXT("\"a\nb\""), control, 2},
    {TEXT("\"a\tb\""), control, 2},
    {TEXT("\"\0\""), control, 1},
    {TEXT("\"\x1f\""), control, 1},
    {TEXT("\"\\a\""), escape, 2},
    {TEXT("\"\\x\""), escape, 2},
    {TEXT("\"\\x41\""), escape, 2},
    {TEXT("\"\\'\""), escape, 2},
    {TEXT("\"\\U0041\""), escape, 2},
    {TEXT("\"\\\n\""), escape, 2},
    {TEXT("\"\\\0\""), escape, 2},
    {TEXT("\"\\uqqqq\""), hex, 1},
    {TEXT("\"\\u12\""), hex, 1},
    {TEXT("\"\\u12g4\""), hex, 1},
    {TEXT("\"\\u123g\""), hex, 1},
    {TEXT("\"\\u+123\""), hex, 1},
    {TEXT("\"\\u 123\""), hex, 1},
    {TEXT("\"\\u"), hex, 1},
    {TEXT("\"\\u0000\""), "\\u0000 is not accepted", 1},
    {TEXT("{\"a\\u0000b\":1}"), "\\u0000 is not accepted", 3},
    {TEXT("\"\\ud800\""), lone, 1},
    {TEXT("\"\\udc00\""), lone, 1},
    {TEXT("\"\\ud800\\ud800\""), lone, 1},
    {TEXT("\"\\ud800\\u0041\""), lone, 1},
    {TEXT("\"\\ud800x\""), lone, 1},
    {TEXT("\"\\ud800\\n\""), lone, 1},
    {TEXT("\"\\udc00\\ud800\""), lone, 1},
    {TEXT("\"\\ud83d\\ude0\""), lone, 1},
    {TEXT("\"\\ud83d\\u"), lone, 1},
    {TEXT("\"\\ud83d\\ude00\\ude00\""), lone, 13},
    /* UTF-8 that is none. */
    {TEXT("\"\x80\""), utf8, 1},
    {TEXT("\"a\xff\""), utf8, 2},
    {TEXT("\"\xfe\""), utf8, 1},
    {TEXT("\"\xc0\x80\""), utf8, 1},
    {TEXT("\"\xc1\xbf\""), utf8, 1},
    {TEXT("\"\xc2\""), utf8, 1},
    {TEXT("\"\xc2\x41\""), utf8, 1},
    {TEXT("\"\xe0\x9f\xbf\""), utf8, 1},
    {TEXT("\"\xe2\x82\""), utf8, 1},
    {TEXT("\"\xed\xa0\x80\""), utf8, 1},
    {TEXT("\"\xed\xbf\xbf\""), utf8, 1},
    {TEXT("\"\xf0\x8f\xbf\xbf\""), utf8, 1},
    {TEXT("\"\xf0\x9f\x98\""), utf8, 1},
    {TEXT("\"\xf4\x90\x80\x80\""), utf8, 1},
    {TEXT("\"\xf5\x80\x80\x80\""), utf8, 1},
    {TEXT("\"\xf8\x88\x80\x80\x80\""), utf8, 1},
    {TEXT("\"\xc3"), utf8, 1},
    {TEXT("{\"\xff\":1}"), utf8, 2},
    /* One member, one name: however it is written and wherever it stands. */
    {TEXT("{\"a\":1,\"a\":1}"), twice, 7},
    {TEXT("{\"a\":1,\"b\":2,\"a\":3}"), twice, 13},
    {TEXT("{\"a\":1,\"\\u0061\":1}"), twice, 7},
    {TEXT("{\"/\":1,\"\\/\":1}"), twice, 7},
    {TEXT("{\"\\n\":1,\"\\u000A\":1}"), twice, 8},
    {TEXT("{\"\xc3\xa9\":1,\"\\u00e9\":1}"), twice, 8},
    {TEXT("{\"\xf0\x9f\x98\x80\":1,\"\\ud83d\\ude00\":1}"), twice, 10},
    {TEXT("{\"\":1,\"\":1}"), twice, 6},
    {TEXT("[{\"a\":[{\"b\":1,\"b\":2}]}]"), twice, 14},
    {TEXT("{\"a\":{\"c\":1},\"b\":1,\"b\":1,\"a\":1}"), twice, 19},
    {TEXT("{\"a\":1,\"a\":1,\"b\":1,\"b\":1}"), twice, 7},
    {TEXT("{\"b\":1,\"b\":1,\"a\":1,\"a\":1}"), twice, 7},
    /* Two names of one hash. */
    {TEXT("{\"8yn0iYCKYHlIj4-BwPqk\":1,\"GReLUrM4wMqfg9yzV3KQ\":1}"), NULL, 0},
    {TEXT("{\"a\":{\"a\":1},\"a\":1}"), twice, 13},
};

static void show(const struct row *r)
{
    print_error("row: ");
    for (size_t i = 0; i < r->bytes && i < 60; i++)
        print_error(r->text[i] >= 0x20 && r->text[i] < 0x7f ? "%c" : "\\x%02x",
                    (unsigned char)r->text[i]);
    print_error("\n");
}

/* A copy of exactly these bytes on the heap, so that a sanitizer sees any step beyond. */
static char *exact(const char *text, size_t bytes)
{
    char *copy = malloc(bytes ? bytes : 1);
    assert_non_null(copy);
    memcpy(copy, text, bytes);
    return copy;
}

static const struct json_limits unique = {
    .nodes = JSON_NODES_MAX,
    .members = JSON_MEMBERS_MAX,
    .depth = JSON_DEPTH_MAX,
    .unique = true,
};
static const struct json_limits wide = {
    .nodes = SIZE_MAX,
    .members = SIZE_MAX,
    .depth = STRICT_DEPTH_MAX,
};

static enum status check(const char *text, size_t bytes, const struct json_limits *limits,
                         struct json_error *err)
{
    char *copy = exact(text, bytes);
    enum status st = strict_json(copy, bytes, limits, err);
    free(copy);
    return st;
}

static void must_say(const struct row *r, enum status st, const struct json_error *err,
                     const char *what)
{
    if (what ? st == E_INVALID && strcmp(err->what, what) == 0 && err->offset == r->offset
             : st == OK)
        return;
    show(r);
    fail_msg("status %d, \"%s\" at %zu; wanted \"%s\" at %zu", st, err->what, err->offset,
             what ? what : "acceptance", r->offset);
}

/* Through the gate with the tree, and through the gate alone where names may repeat. */
static void check_row(const struct row *r)
{
    struct json_error err = {.what = "nothing said", .offset = SIZE_MAX};
    struct cJSON *tree = NULL;
    char *text = exact(r->text, r->bytes);
    enum status st = json_parse(&tree, text, r->bytes, &err);
    free(text);
    assert_true((st == OK) == (tree != NULL));
    json_free(tree);
    must_say(r, st, &err, r->what);
    st = check(r->text, r->bytes, &wide, &err);
    must_say(r, st, &err, r->what == twice ? NULL : r->what);
}

static void test_grammar(void **state)
{
    (void)state;
    assert_true(ARRAY_LEN(rows) >= 120);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check_row(&rows[i]);
}

/* What ends early is never taken for whole: containers and strings only, as "12" is a
 * beginning of "123". */
static void test_every_beginning(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct row *r = &rows[i];
        if (r->what || !strchr("{[\"", r->text[0]))
            continue;
        for (size_t n = 0; n < r->bytes; n++) {
            struct json_error err;
            if (check(r->text, n, &unique, &err) == E_INVALID && err.offset <= n)
                continue;
            show(r);
            fail_msg("accepted or misplaced after %zu bytes", n);
        }
    }
}

/* head, then n times item with sep between, then tail. */
static char *repeat(const char *head, const char *item, const char *sep, size_t n, const char *tail,
                    size_t *bytes)
{
    size_t room = strlen(head) + n * (strlen(item) + strlen(sep) + 12) + strlen(tail) + 1;
    char *text = malloc(room);
    assert_non_null(text);
    size_t at = (size_t)snprintf(text, room, "%s", head);
    for (size_t i = 0; i < n; i++) {
        char *number = strchr(item, '#');
        if (number)
            at += (size_t)snprintf(text + at, room - at, "%s%.*s%zu%s", i ? sep : "",
                                   (int)(number - item), item, i, number + 1);
        else
            at += (size_t)snprintf(text + at, room - at, "%s%s", i ? sep : "", item);
    }
    at += (size_t)snprintf(text + at, room - at, "%s", tail);
    *bytes = at;
    return text;
}

struct limit_row {
    const char *head;
    const char *item; /* '#' becomes the number of the repetition */
    const char *sep;
    size_t most; /* repetitions that are accepted; one more is not */
    const char *tail;
    const char *what;
};

/* Those that requests are given. */
static void test_limits(void **state)
{
    static const struct limit_row limits[] = {
        /* Depth alone, without what closes it: the innermost error is "unexpected end". */
        {"", "[", "", JSON_DEPTH_MAX, "", "nested too deep"},
        {"", "{\"a\":", "", JSON_DEPTH_MAX, "", "nested too deep"},
        {"", "[{\"a\":", "", JSON_DEPTH_MAX / 2, "", "nested too deep"},
        {"[", "0", ",", JSON_NODES_MAX - 1, "]", "too many values"},
        {"[", "[]", ",", JSON_NODES_MAX - 1, "]", "too many values"},
        {"{\"a\":{", "\"#\":0", ",", JSON_NODES_MAX - 2, "}}", "too many values"},
        {"{", "\"#\":0", ",", JSON_MEMBERS_MAX, "}", "too many members"},
        {"", "1", "", STRICT_NUMBER_BYTES_MAX, "", "number of too many digits"},
        {"0.", "0", "", STRICT_NUMBER_BYTES_MAX - 2, "", "number of too many digits"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        const struct limit_row *l = &limits[i];
        for (size_t more = 0; more < 2; more++) {
            struct json_error err = {.what = ""};
            size_t bytes;
            char *text = repeat(l->head, l->item, l->sep, l->most + more, l->tail, &bytes);
            struct cJSON *tree = NULL;
            enum status st = json_parse(&tree, text, bytes, &err);
            json_free(tree);
            free(text);
            bool open = l->tail[0] == '\0' && l->item[0] != '1' && l->item[0] != '0';
            const char *wanted = more ? l->what : open ? end : NULL;
            if (wanted ? st == E_INVALID && strcmp(err.what, wanted) == 0 : st == OK)
                continue;
            fail_msg("limit %zu, %zu more: status %d, \"%s\"", i, more, st, err.what);
        }
    }
}

struct given_row {
    const char *text;
    struct json_limits limits; /* nodes, members, depth */
    const char *what;          /* NULL: accepted */
    size_t offset;
};

static void test_limits_given(void **state)
{
    static const char nodes[] = "too many values";
    static const char members[] = "too many members";
    static const char deep[] = "nested too deep";
    static const struct given_row given[] = {
        {"1", {1, 0, 0, false}, NULL, 0},
        {"1", {0, 0, 0, false}, nodes, 0},
        {"[]", {1, 0, 1, false}, NULL, 0},
        {"[]", {1, 0, 0, false}, deep, 0},
        {"[[]]", {2, 0, 2, false}, NULL, 0},
        {"[[]]", {2, 0, 1, false}, deep, 1},
        {"[1,2,3]", {4, 0, 1, false}, NULL, 0},
        {"[1,2,3]", {3, 0, 1, false}, nodes, 5},
        {"{\"a\":[[{}]],\"b\":1}", {5, 2, 4, false}, NULL, 0},
        {"{\"a\":[[{}]],\"b\":1}", {4, 2, 4, false}, nodes, 16},
        {"{\"a\":[[{}]],\"b\":1}", {5, 1, 4, false}, members, 12},
        {"{\"a\":[[{}]],\"b\":1}", {5, 2, 3, false}, deep, 7},
        {"{\"a\":{\"x\":1,\"y\":2}}", {9, 1, 2, false}, NULL, 0},
        {"[{\"a\":1,\"b\":2}]", {9, 0, 2, false}, NULL, 0},
        {"{\"a\":1,\"a\":2}", {9, 2, 1, false}, NULL, 0},
        {"{\"a\":1,\"a\":2}", {9, 2, 1, true}, twice, 7},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(given); i++) {
        const struct given_row *g = &given[i];
        struct row r = {g->text, strlen(g->text), g->what, g->offset};
        struct json_error err = {.what = "nothing said", .offset = SIZE_MAX};
        must_say(&r, check(r.text, r.bytes, &g->limits, &err), &err, g->what);
    }
}

/* The most that is accepted becomes a tree, and comes down again. */
static void test_large_tree(void **state)
{
    (void)state;
    struct json_error err;
    struct cJSON *tree = NULL;
    size_t bytes;
    char *text = repeat("[", "{\"a\":#}", ",", JSON_NODES_MAX / 2 - 1, "]", &bytes);
    assert_int_equal(json_parse(&tree, text, bytes, &err), OK);
    assert_int_equal(json_count(tree), JSON_NODES_MAX / 2 - 1);
    json_free(tree);
    free(text);
}

/* Names with equal hashes or long equal beginnings must not be taken for one. */
static void test_long_names(void **state)
{
    static char text[3 * 4096 + 64];
    struct json_error err;
    (void)state;
    memset(text, 'x', sizeof(text));
    memcpy(text, "{\"", 2);
    memcpy(text + 4096, "a\":1,\"", 6);
    memcpy(text + 4096 + 6 + 4094, "b\":1}", 5);
    size_t bytes = 4096 + 6 + 4094 + 5;
    assert_int_equal(strict_json(text, bytes, &unique, &err), OK);
    text[bytes - 5] = 'a';
    assert_int_equal(strict_json(text, bytes, &unique, &err), E_INVALID);
    assert_int_equal(err.offset, 4096 + 5);
}

static void test_utf8(void **state)
{
    static const struct {
        const char *text;
        size_t bytes;
        size_t wanted;
    } cases[] = {
        {TEXT(""), 0},          {TEXT("a"), 1},
        {TEXT("ab"), 1},        {TEXT("\0"), 1},
        {TEXT("\xc3\xa9x"), 2}, {TEXT("\xe2\x82\xac"), 3},
        {TEXT("\xe2\x82"), 0},  {TEXT("\xf0\x9f\x98\x80"), 4},
        {TEXT("\xf0\x9f"), 0},  {TEXT("\xa9"), 0},
        {TEXT("\xc3"), 0},      {TEXT("\xc3("), 0},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(json_utf8(cases[i].text, cases[i].bytes), cases[i].wanted);
}

static struct cJSON *tree_of(const char *text)
{
    struct json_error err = {.what = ""};
    struct cJSON *tree = NULL;
    if (json_parse(&tree, text, strlen(text), &err) != OK)
        fail_msg("%s: %s at %zu", text, err.what, err.offset);
    return tree;
}

static void test_kinds(void **state)
{
    (void)state;
    struct cJSON *t = tree_of("{\"z\":null,\"b\":true,\"n\":1,\"s\":\"x\",\"a\":[],\"o\":{}}");
    static const struct {
        const char *name;
        enum json_kind kind;
        const char *text;
    } cases[] = {
        {"z", JSON_NULL, "null"},      {"b", JSON_BOOL, "boolean"},  {"n", JSON_NUMBER, "number"},
        {"s", JSON_STRING, "string"},  {"a", JSON_ARRAY, "array"},   {"o", JSON_OBJECT, "object"},
        {"B", JSON_ABSENT, "nothing"}, {"", JSON_ABSENT, "nothing"},
    };
    const struct cJSON *v = json_first(t);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct cJSON *found = json_member(t, cases[i].name);
        assert_int_equal(json_kind(found), cases[i].kind);
        assert_string_equal(json_kind_text(json_kind(found)), cases[i].text);
        if (!found)
            continue;
        assert_ptr_equal(found, v);
        assert_string_equal(json_name(v), cases[i].name);
        v = json_next(v);
    }
    assert_null(v);
    assert_int_equal(json_count(t), 6);
    assert_null(json_member(json_member(t, "a"), "z"));
    assert_null(json_member(NULL, "z"));
    assert_null(json_first(json_member(t, "n")));
    assert_null(json_first(NULL));
    json_free(t);
    json_free(NULL);
}

static void test_strings(void **state)
{
    (void)state;
    size_t n = 99;
    struct cJSON *t = tree_of("[\"a\\u00e9\\ud83d\\ude00\\n\",\"\",5]");
    const struct cJSON *v = json_first(t);
    assert_string_equal(json_string(v, &n), "a\xc3\xa9\xf0\x9f\x98\x80\n");
    assert_int_equal(n, 8);
    v = json_next(v);
    assert_string_equal(json_string(v, &n), "");
    assert_int_equal(n, 0);
    assert_null(json_string(json_next(v), &n));
    assert_null(json_string(NULL, &n));
    assert_false(json_true(v));
    json_free(t);
}

struct number_row {
    const char *text;
    bool is_number;
    bool is_integer;
    int64_t integer;
};

static void test_numbers(void **state)
{
    static const struct number_row cases[] = {
        {"0", true, true, 0},
        {"-0", true, true, 0},
        {"7", true, true, 7},
        {"-7", true, true, -7},
        {"1e2", true, true, 100},
        {"100.0", true, true, 100},
        {"15e-1", true, false, 0},
        {"1.5", true, false, 0},
        {"1e-400", true, true, 0},
        {"2147483647", true, true, 2147483647},
        {"2147483648", true, true, 2147483648},
        {"4294967297", true, true, 4294967297},
        {"9999999999", true, true, 9999999999},
        {"9007199254740991", true, true, 9007199254740991},
        {"9007199254740992", true, true, 9007199254740992},
        {"-9007199254740992", true, true, -9007199254740992},
        {"9007199254740994", true, false, 0},
        {"9223372036854775807", true, false, 0},
        {"9223372036854775808", true, false, 0},
        {"-9223372036854775809", true, false, 0},
        {"18446744073709551616", true, false, 0},
        {"1e308", true, false, 0},
        {"1e309", false, false, 0},
        {"-1e999", false, false, 0},
        {"\"1\"", false, false, 0},
        {"null", false, false, 0},
        {"true", false, false, 0},
        {"[1]", false, false, 0},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct cJSON *t = tree_of(cases[i].text);
        double d = 0;
        int64_t n = 0;
        if (json_number(t, &d) != cases[i].is_number ||
            json_integer(t, &n) != cases[i].is_integer || n != cases[i].integer)
            fail_msg("%s: %g %lld", cases[i].text, d, (long long)n);
        json_free(t);
    }
}

/* Allocations that cJSON still gets. */
static int allocations_left;

static void *scarce_malloc(size_t bytes)
{
    return allocations_left-- > 0 ? malloc(bytes) : NULL;
}

/* Accepted text whose tree cannot be had is a lack of memory, never a fault of the text. */
static void test_no_memory(void **state)
{
    static const char text[] = "{\"a\":[1,{\"b\":\"c\"}],\"d\":null}";
    struct cJSON_Hooks hooks = {.malloc_fn = scarce_malloc, .free_fn = free};
    struct cJSON *tree = NULL;
    enum status st = E_NOMEM;
    int n = 0;
    (void)state;
    cJSON_InitHooks(&hooks);
    for (; st == E_NOMEM; n++) {
        struct json_error err;
        allocations_left = n;
        st = json_parse(&tree, text, sizeof(text) - 1, &err);
        assert_true(st == OK || !tree);
    }
    json_free(tree);
    cJSON_InitHooks(NULL);
    assert_int_equal(st, OK);
    assert_true(n > 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grammar),    cmocka_unit_test(test_every_beginning),
        cmocka_unit_test(test_limits),     cmocka_unit_test(test_limits_given),
        cmocka_unit_test(test_large_tree), cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_utf8),       cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_strings),    cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

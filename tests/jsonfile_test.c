/* Aim: a file goes through the strict pass with the limits of files, a refusal is one line
 * with the file's name, the reason and the place, and the getters take a number only as what
 * it is. The grammar itself: json_test.c.
 *
 * Negative space: depth and count one beyond the limit, more members than a request may have,
 * names given twice, numbers that do not fit an integer, names in another case. */
#include "models/jsonfile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { ERR_BYTES = 128 };

/* The text as a file "f.json". */
static enum status load(const char *text, size_t bytes, size_t bytes_max, size_t nodes_max,
                        char err[ERR_BYTES])
{
    char dir[] = "/tmp/jsonfile_test.XXXXXX";
    char path[MODEL_PATH_MAX];
    const struct complaint c = {.file = "f.json", .text = err, .size = ERR_BYTES};
    cJSON *tree = NULL;
    err[0] = '\0';
    assert_non_null(mkdtemp(dir));
    assert_int_equal(path_join(path, dir, "f.json"), OK);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, bytes, f), bytes);
    assert_int_equal(fclose(f), 0);
    enum status s = json_load(&tree, dir, bytes_max, nodes_max, &c);
    assert_true((s == OK) == (tree != NULL));
    cJSON_Delete(tree);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0);
    return s;
}

static bool check(const char *text, size_t bytes, size_t nodes_max)
{
    char err[ERR_BYTES];
    return load(text, bytes, CONFIG_BYTES_MAX, nodes_max, err) == OK;
}

static void limits_hold(void **state)
{
    char text[2 * (STRICT_DEPTH_MAX + 1)];
    (void)state;
    for (size_t depth = 1; depth <= STRICT_DEPTH_MAX + 1; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        assert_int_equal(check(text, 2 * depth, 1000), depth <= STRICT_DEPTH_MAX);
    }
    assert_true(check("[1,2,3]", 7, 4));
    assert_false(check("[1,2,3]", 7, 3));
    /* A closed object below must not be forgotten under arrays above. */
    assert_true(check("{\"a\":[[{}]],\"b\":1}", 18, 9));
    assert_true(check("{\"a\":1,\"a\":2}", 13, 9));
}

/* A vocabulary is one object of very many members. */
static void members_are_not_counted(void **state)
{
    enum { MEMBERS = 5000, MEMBER_BYTES = 16 };
    size_t room = (size_t)MEMBERS * MEMBER_BYTES;
    size_t n = 1;
    char *text = malloc(room);
    (void)state;
    assert_non_null(text);
    text[0] = '{';
    for (int i = 0; i < MEMBERS; i++)
        n += (size_t)snprintf(text + n, room - n, "\"%d\":0%c", i, i + 1 < MEMBERS ? ',' : '}');
    assert_true(check(text, n, MEMBERS + 1));
    assert_false(check(text, n, MEMBERS));
    free(text);
}

#define DIGITS_16 "0123456789012345"

static const struct {
    const char *text;
    const char *line; /* NULL: it loads */
} files[] = {
    {"[1,2,3]", NULL},
    {" {\"a\":1,\"a\":2}\n", NULL},
    {"[1,2,3,4]", "f.json: not valid JSON: too many values at byte 7"},
    {"{\"a\":01}", "f.json: not valid JSON: expected ',' or '}' at byte 6"},
    {"[1", "f.json: not valid JSON: unexpected end at byte 2"},
    {"[1." DIGITS_16 DIGITS_16 DIGITS_16 DIGITS_16 "]",
     "f.json: not valid JSON: number of too many digits at byte 1"},
    {"", "f.json: the file is empty"},
    {"[\"0123456789\",\"" DIGITS_16 DIGITS_16 DIGITS_16 DIGITS_16 "\"]",
     "f.json: 81 bytes, more than the limit of 80"},
};

static void a_refusal_says_where(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        char err[ERR_BYTES];
        enum status s = load(files[i].text, strlen(files[i].text), 80, 4, err);
        assert_string_equal(err, files[i].line ? files[i].line : "");
        assert_int_equal(s, files[i].line ? E_FORMAT : OK);
    }
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
        enum status s = field_int(o, "n", INT64_MIN, INT64_MAX, &n, &c);
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
    assert_int_equal(field_int(o, "n", 0, 10, &n, &c), OK);
    assert_int_equal(field_int(o, "z", 0, 10, &n, &c), OK);
    assert_int_equal(n, 77);
    assert_int_equal(field_int(o, "N", 0, 4, &n, &c), E_FORMAT);
    assert_string_equal(err, "f: \"N\" must be a whole number from 0 to 4");
    assert_int_equal(field_number(o, "s", 0, 1, &d, &c), E_FORMAT);
    assert_int_equal(field_bool(o, "b", &b, &c), OK);
    assert_true(b);
    assert_int_equal(field_bool(o, "N", &b, &c), E_FORMAT);
    assert_int_equal(field_string(o, "z", &text, &c), OK);
    assert_string_equal(text, "default");
    assert_int_equal(field_string(o, "s", &text, &c), OK);
    assert_string_equal(text, "x");
    assert_int_equal(field_string(o, "b", &text, &c), E_FORMAT);
    assert_null(json_get(o, "z"));
    assert_null(json_get(json_get(o, "s"), "s"));
    assert_int_equal(field_int(json_get(o, "s"), "n", 0, 1, &n, &c), E_FORMAT);
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
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(members_are_not_counted),
        cmocka_unit_test(a_refusal_says_where),
        cmocka_unit_test(getters_take_what_it_is),
        cmocka_unit_test(getters_leave_what_is_absent),
        cmocka_unit_test(complaints_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

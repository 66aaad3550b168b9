/* Aim: what is written is what was meant, byte for byte, and a buf that cannot grow keeps a true
 * prefix and says so.
 *
 * Negative space: growth at exactly the room there is, formats longer than it, every control byte
 * in JSON, sizes no memory can hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/buf.h"

#include <stdio.h>
#include <string.h>

static void check(struct buf *b, const char *want)
{
    assert_false(b->failed);
    assert_int_equal(b->n, strlen(want));
    assert_memory_equal(b->data, want, b->n);
    buf_free(b);
}

static void test_json(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t n;
        const char *want;
    } cases[] = {
        {"", 0, "\"\""},
        {"plain", 5, "\"plain\""},
        {"a\"b\\c/d", 7, "\"a\\\"b\\\\c/d\""},
        {"\b\f\n\r\t", 5, "\"\\b\\f\\n\\r\\t\""},
        {"\0\x01\x1f\x7f", 4, "\"\\u0000\\u0001\\u001f\x7f\""},
        {"\xc3\xa9\xf0\x9f\x98\x80", 6, "\"\xc3\xa9\xf0\x9f\x98\x80\""},
        {"\"", 1, "\"\\\"\""},
        {"end\n", 4, "\"end\\n\""},
        {"cut here", 3, "\"cut\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf b = {0};
        buf_json(&b, cases[i].text, cases[i].n);
        check(&b, cases[i].want);
    }
    struct buf b = {0};
    buf_json_text(&b, "x\ty");
    check(&b, "\"x\\ty\"");
}

/* Formats of every length around the first rooms, into bufs filled to every length. */
static void test_printf(void **state)
{
    (void)state;
    char want[1200];
    for (int before = 0; before < 520; before += 37)
        for (int n = 0; n < 600; n++) {
            struct buf b = {0};
            buf_printf(&b, "%*s", before, "");
            buf_printf(&b, "%0*d", n, 0);
            snprintf(want, sizeof(want), "%*s%0*d", before, "", n, 0);
            check(&b, want);
        }
}

static void test_add(void **state)
{
    (void)state;
    struct buf b = {0};
    for (uint32_t i = 0; i < 100000; i++)
        buf_add(&b, &i, sizeof(i));
    assert_false(b.failed);
    assert_int_equal(b.n, 400000);
    for (uint32_t i = 0; i < 100000; i++)
        assert_memory_equal(b.data + i * sizeof(i), &i, sizeof(i));
    size_t room = b.room;
    buf_clear(&b);
    assert_int_equal(b.n, 0);
    assert_int_equal(b.room, room);
    buf_text(&b, "again");
    check(&b, "again");
    assert_null(b.data);
    assert_int_equal(b.room, 0);
    buf_add(&b, NULL, 0);
    buf_text(&b, "");
    assert_null(b.data);
}

static void test_failure(void **state)
{
    (void)state;
    static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 4, SIZE_MAX / 2 + 1};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct buf b = {0};
        buf_text(&b, "kept");
        buf_add(&b, "", sizes[i]);
        assert_true(b.failed);
        buf_text(&b, "x");
        buf_printf(&b, "%d", 1);
        buf_json(&b, "x", 1);
        assert_true(b.failed);
        assert_int_equal(b.n, 4);
        assert_memory_equal(b.data, "kept", 4);
        buf_clear(&b);
        buf_text(&b, "works");
        check(&b, "works");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_printf),
        cmocka_unit_test(test_add),
        cmocka_unit_test(test_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

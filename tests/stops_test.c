#include "server/stops.h"
#include "server/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Aim: a stop string is found wherever the text is cut into pieces, never shown, and
 * nothing that could not become one is held back. Negative space: strings that share
 * beginnings, that contain one another, that repeat themselves ("aab" in "aaab"), that
 * never complete, cut characters of several bytes, and refused strings. */

struct stops_case {
    const char *stop[4];
    const char *text;
    const char *shown;
    bool found;
};

static const struct stops_case cases[] = {
    {{"END"}, "one ENDtwo", "one ", true},
    {{"END"}, "one EN", "one EN", false},
    {{"END"}, "END", "", true},
    {{"END"}, "ENEND", "EN", true},
    {{"aab"}, "aaab", "a", true},
    {{"aabaac"}, "aabaabaac", "aab", true},
    {{"ababc"}, "abababc", "ab", true},
    {{"\n\n", "\nUser:"}, "hi\nUser: x", "hi", true},
    {{"\n\n", "\nUser:"}, "hi\nUse\n", "hi\nUse\n", false},
    {{"b", "abc"}, "xabc", "xa", true},
    {{"bc", "abc"}, "xabc", "x", true},
    {{"c", "abcd"}, "abcd", "ab", true},
    {{"\xc3\xa9t"}, "caf\xc3\xa9 \xc3\xa9t\xc3\xa9", "caf\xc3\xa9 ", true},
    {{"zzz"}, "", "", false},
    {{NULL}, "anything", "anything", false},
};

static struct stops *open_case(const struct stops_case *c, bool include)
{
    struct stops *s = NULL;
    assert_int_equal(stops_open(&s, include), OK);
    for (size_t i = 0; i < ARRAY_LEN(c->stop) && c->stop[i]; i++)
        assert_int_equal(stops_add(s, c->stop[i], strlen(c->stop[i])), OK);
    return s;
}

/* Cut at these places; with include the string that was found comes out too. */
static void check_mode(const struct stops_case *c, const size_t *cut, size_t n_cuts, bool include)
{
    struct stops *s = open_case(c, include);
    size_t n_stop = 0;
    struct buf out = {0};
    size_t n = strlen(c->text);
    size_t from = 0;
    bool found = false;
    for (size_t i = 0; i <= n_cuts; i++) {
        size_t to = i < n_cuts ? cut[i] : n;
        found = stops_feed(s, c->text + from, to - from, &out);
        from = to;
    }
    if (!found)
        stops_flush(s, &out);
    const char *stop = stops_found(s, &n_stop);
    size_t shown = strlen(c->shown);
    assert_int_equal(found, c->found);
    assert_int_equal(stop != NULL, c->found);
    assert_true(!stop || memcmp(c->text + shown, stop, n_stop) == 0);
    shown += include ? n_stop : 0;
    assert_int_equal(out.n, shown);
    assert_true(shown == 0 || memcmp(out.data, c->text, shown) == 0);
    buf_free(&out);
    stops_close(s);
}

static void check(const struct stops_case *c, const size_t *cut, size_t n_cuts)
{
    check_mode(c, cut, n_cuts, false);
    check_mode(c, cut, n_cuts, true);
}

static void every_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t n = strlen(cases[i].text);
        check(&cases[i], NULL, 0);
        for (size_t a = 0; a <= n; a++)
            for (size_t b = a; b <= n; b++)
                check(&cases[i], (size_t[]){a, b}, 2);
    }
}

/* The slow, obvious answer: does any end of the text begin a stop string? */
static size_t must_hold(const char *text, size_t n, const char *stop)
{
    size_t longest = strlen(stop) - 1;
    for (size_t k = longest < n ? longest : n; k > 0; k--)
        if (memcmp(text + n - k, stop, k) == 0)
            return k;
    return 0;
}

static void holds_no_more_than_needed(void **state)
{
    (void)state;
    static const char *const stops[] = {"abab", "bba", "aabaa"};
    uint32_t seed = 7;
    for (int32_t round = 0; round < 2000; round++) {
        struct stops *s = NULL;
        struct buf out = {0};
        char text[24];
        assert_int_equal(stops_open(&s, false), OK);
        for (size_t i = 0; i < ARRAY_LEN(stops); i++)
            assert_int_equal(stops_add(s, stops[i], strlen(stops[i])), OK);
        for (size_t n = 0; n < sizeof(text); n++) {
            seed = seed * 1664525u + 1013904223u;
            text[n] = "abc"[(seed >> 16) % 3];
            if (stops_feed(s, text + n, 1, &out))
                break;
            size_t hold = 0;
            for (size_t i = 0; i < ARRAY_LEN(stops); i++) {
                size_t h = must_hold(text, n + 1, stops[i]);
                hold = h > hold ? h : hold;
            }
            assert_int_equal(out.n, n + 1 - hold);
        }
        buf_free(&out);
        stops_close(s);
    }
}

static void limits(void **state)
{
    (void)state;
    struct stops *s = NULL;
    char longest[STOP_BYTES_MAX + 1];
    struct buf out = {0};
    memset(longest, 'x', sizeof(longest));
    assert_int_equal(stops_open(&s, false), OK);
    assert_int_equal(stops_add(s, "", 0), E_INVALID);
    assert_int_equal(stops_add(s, longest, sizeof(longest)), E_INVALID);
    for (int32_t i = 0; i < STOPS_MAX; i++)
        assert_int_equal(stops_add(s, longest, STOP_BYTES_MAX), OK);
    assert_int_equal(stops_add(s, "a", 1), E_INVALID);
    assert_false(stops_feed(s, longest, STOP_BYTES_MAX - 1, &out));
    assert_int_equal(out.n, 0);
    assert_true(stops_feed(s, longest, 2, &out));
    assert_int_equal(out.n, 0);
    assert_true(stops_feed(s, "late", 4, &out));
    assert_int_equal(out.n, 0);
    buf_free(&out);
    stops_close(s);
    stops_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cut),
        cmocka_unit_test(holds_no_more_than_needed),
        cmocka_unit_test(limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

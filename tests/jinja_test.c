#include "tests/tokenizer_rig.h"

#include "models/jinja.h"

#include <time.h>

/* Aim: the language is Python's Jinja, row by row (templates/language.json, which
 * tests/oracle/jinja.py holds against the original), and every byte of the output is known to
 * be the template's or not.
 * Negative space: templates that run, grow or descend without end, the line that a failure
 * names, memory that runs out at each allocation, and data that nests deeply. */

static enum status render(const char *template, const cJSON *data, int64_t now,
                          struct jinja_text *out, char err[ERR_BYTES])
{
    struct jinja *t = NULL;
    const struct jinja_input in = {.more = data, .now = now};
    enum status s = jinja_compile(&t, template, strlen(template), err, ERR_BYTES);
    if (s == OK)
        s = jinja_render(t, &in, out, err, ERR_BYTES);
    jinja_close(t);
    return s;
}

static void language(void **state)
{
    (void)state;
    size_t bytes;
    char *text = read_text(REPO_DIR "/tests/templates", "language.json", &bytes);
    cJSON *given = cJSON_ParseWithLength(text, bytes);
    const cJSON *row;
    int bad = 0;
    int n = 0;
    assert_non_null(given);
    cJSON_ArrayForEach(row, json_get(given, "rows"))
    {
        const char *template = row->child->valuestring;
        const cJSON *want = row->child->next;
        struct jinja_text out = {.text = NULL};
        char err[ERR_BYTES] = "";
        enum status s = render(template, json_get(given, "data"),
                               (int64_t)json_get(given, "now")->valuedouble, &out, err);
        bool same = cJSON_IsString(want) ? s == OK && strcmp(out.text, want->valuestring) == 0
                                         : s == E_INVALID && strstr(err, "line ");
        if (!same)
            print_message("%s\n  gives  %s\n  wanted %s\n", template, s ? err : out.text,
                          cJSON_IsString(want) ? want->valuestring : "a failure");
        bad += !same;
        n++;
        jinja_text_free(&out);
    }
    print_message("%d of %d rows as Python's Jinja\n", n - bad, n);
    assert_int_equal(bad, 0);
    assert_true(n > 700);
    cJSON_Delete(given);
    free(text);
}

/* What differs from Python on purpose, or cannot be asked there. */
static const struct own_row {
    const char *template;
    const char *text; /* NULL: fails */
    const char *err;
} own_rows[] = {
    {"{{ {'a': 1}.items() }}", "[('a', 1)]", NULL},
    {"{{ range(3) }}", "[0, 1, 2]", NULL},
    {"{{ [1, 2] | map('string') }}", "['1', '2']", NULL},
    {"{{ 'a'.upper }}", "<function>", NULL},
    {"{{ 10 ** 20 }}", NULL, "out of range"},
    {"{{ 9223372036854775807 + 1 }}", NULL, "too long"},
    {"{{ (9223372036854775 * 1000) * 1000 }}", NULL, "out of range"},
    {"{% set x = -9223372036854775 * 1000 - 808 %}{{ x // -1 }}", NULL, "out of range"},
    {"{% set x = -9223372036854775 * 1000 - 808 %}{{ x % -1 }} {{ x }}", "0 -9223372036854775808",
     NULL},
    {"{{ 'abc'[-9223372036854775 * 1000 - 808:9223372036854775 * 1000] }}", "abc", NULL},
    {"{{ range(-9223372036854775 * 1000, 9223372036854775 * 1000) }}", "[]", NULL},
    {"{{ 1e400 }}", NULL, "too large"},
    {"{{ '\\ud800' }}", NULL, "no character"},
    {"{% for a in [] recursive %}{% endfor %}", NULL, "recursive"},
    {"{{ f(*a) }}", NULL, "not supported"},
    {"{% include 'x' %}", NULL, "unknown tag 'include'"},
    {"{% break %}", NULL, "outside of a loop"},
    {"{% for i in [1] %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}", NULL,
     "outside of a loop"},
    {"{% set ns = namespace() %}{% set ns.x = ns %}{{ ns == ns }}{{ ns.x.x.x == ns }}", "TrueTrue",
     NULL},
    {"{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}", NULL, "deeper"},
    {"{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns.x == [ns] }}", "True", NULL},
    {"a\n{# b\n#}\n{{ x.y.z }}", NULL, "line 4: 'x' is undefined"},
    {"a\n{{ 'b\nc' }}\n\n{% if 1 %}\n{{ 1 + 'x' }}\n{% endif %}", NULL, "line 6: unsupported"},
    {"\n\n{% if 1 %}", NULL, "line 3: the template ends where 'elif' is missing"},
    {"\n{% for x in l %}{% macro m() %}{% endfor %}", NULL, "line 2: unknown tag 'endfor'"},
};

static void own_ways(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(own_rows); i++) {
        const struct own_row *k = &own_rows[i];
        struct jinja_text out = {.text = NULL};
        char err[ERR_BYTES] = "";
        enum status s = render(k->template, NULL, 0, &out, err);
        if (s != (k->text ? OK : E_INVALID))
            fail_msg("%s: %s", k->template, s ? err : out.text);
        if (k->text)
            assert_string_equal(out.text, k->text);
        else if (!strstr(err, k->err))
            fail_msg("%s: %s", k->template, err);
        jinja_text_free(&out);
    }
}

/* --- limits --- */

static const struct hostile {
    const char *template;
    const char *err;
} hostile[] = {
    {"{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}"
     "{% endfor %}",
     "memory"},
    {"{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = ns.l + ns.l %}"
     "{% endfor %}",
     "more than"},
    {"{{ 'a' * 9223372036854775 }}", "steps"},
    {"{{ [1, 2] * 9223372036854775 }}", "steps"},
    {"{{ 'ab' * 100000000 }}", "memory"},
    {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "deeper"},
    {"{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}", "deeper"},
    {"{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(28) }}",
     "steps"},
    {"{{ range(100001) }}", "range() is longer"},
    {"{{ range(9223372036854775) }}", "range() is longer"},
    {"{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}", "memory"},
    {"{% set l = range(2000) %}{% for i in l %}{% for j in l %}{{ i }}{% endfor %}{% endfor %}",
     "more than"},
    {"{% set l = range(100000) | list %}{% for i in range(1000) %}{% if l == l[:] %}{% endif %}"
     "{% endfor %}",
     "steps"},
    {"{{ [[1]] | tojson(indent=100000000) }}", "steps"},
    {"{{ [[1]] | tojson(indent=1000000) }}{% for i in range(100) %}{{ [[1]] | "
     "tojson(indent=1000000) }}{% endfor %}",
     "more than"},
    {"{{ 'a\\nb' | indent(1000000000) }}", "steps"},
    {"{{ 'a' | center(1000000000) }}", "steps"},
    {"{% set x %}{% for i in range(100000) %}abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz"
     "abcdefghijklmnopqrstuvwxyz{% endfor %}{% endset %}{{ x }}{{ x }}{{ x }}",
     "MiB"},
    {"{{ '%99999s' | format('a') * 1000000 }}", "more than"},
    {"{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{{ s.count('b') }}{% endfor %}",
     "steps"},
    {"{% set s = 'a' * 1000000 %}{{ s.replace('a', s) }}", "more than"},
    {"{% set s = ',' * 10000 %}{% for i in range(10000) %}{{ s.split(',') | length }}{% endfor %}",
     "more than"},
    {"{{ 2 ** 62 ** 62 }}", "out of range"},
    {"{% set l = range(30000) | list %}{{ l | unique | list | length }}", "steps"},
};

static void limits(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(hostile); i++) {
        struct jinja_text out = {.text = NULL};
        char err[ERR_BYTES] = "";
        clock_t start = clock();
        enum status s = render(hostile[i].template, NULL, 0, &out, err);
        if (s != E_INVALID || !strstr(err, hostile[i].err) || !strstr(err, "line 1"))
            fail_msg("%s: %s", hostile[i].template, s ? err : "renders");
        /* Under a sanitizer a step is some ten times as dear. */
        if (clock() - start > 5 * CLOCKS_PER_SEC)
            fail_msg("%s takes too long", hostile[i].template);
    }
}

/* open times n, then middle, then close times n. */
static char *nested(const char *open, const char *middle, const char *close, size_t n)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    for (size_t i = 0; i < n; i++)
        (void)fprintf(f, "%s", open);
    (void)fprintf(f, "%s", middle);
    for (size_t i = 0; i < n; i++)
        (void)fprintf(f, "%s", close);
    (void)fclose(f);
    return text;
}

static const struct nest {
    const char *open;
    const char *middle;
    const char *close;
} nests[] = {
    {"{{ ", "(1", " }}"},
    {"{% if 1 %}", "x", "{% endif %}"},
    {"{{ [", "1", "] }}"},
    {"(", "1", ")"},
    {"[", "1", "]"},
    {"{1:", "1", "}"},
    {"not ", "1", ""},
    {"-", "1", ""},
    {"1 if 1 else ", "1", ""},
    {"1 + ", "1", ""},
    {"a[", "1", "]"},
    {"f(", "1", ")"},
    {"1 | default(", "1", ")"},
    {"1 is eq(", "1", ")"},
    {"{% for a in b %}", "", "{% endfor %}"},
    {"{% set a %}", "", "{% endset %}"},
    {"{% if 0 %}{% else %}", "", "{% endif %}"},
    {"(a, ", "b", ")"},
};

/* What nests in the text ends at a depth, whatever it is made of; nothing overflows. */
static void nesting(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(nests); i++) {
        const struct nest *k = &nests[i];
        for (size_t n = 20; n <= 40000; n *= 20) {
            char *inner = nested(k->open, k->middle, k->close, n);
            char *text = *k->open == '{' && k->open[1] != '1' ? strdup(inner)
                                                              : nested("{{ ", inner, " }}", 1);
            struct jinja_text out = {.text = NULL};
            char err[ERR_BYTES] = "";
            enum status s = render(text, NULL, 0, &out, err);
            assert_true(s == OK || s == E_INVALID);
            if (s == OK)
                assert_true(n <= 400);
            jinja_text_free(&out);
            free(text);
            free(inner);
        }
    }
}

/* --- where bytes come from --- */

/* The output with trusted ranges in braces. */
static void show(const struct jinja_text *t, char out[ERR_BYTES])
{
    size_t n = 0;
    size_t r = 0;
    for (size_t i = 0; i <= t->bytes; i++) {
        if (r < t->n_trusted && t->trusted[r].end == i) {
            out[n++] = '}';
            r++;
        }
        if (r < t->n_trusted && t->trusted[r].begin == i)
            out[n++] = '{';
        assert_true(n + 2 < ERR_BYTES);
        out[n++] = t->text[i];
    }
}

static const char *const provenance[][2] = {
    {"ab", "{ab}"},
    {"a{{ s }}b", "{a}xYz{b}"},
    {"{{ 'a' + s + 'b' }}", "{a}xYz{b}"},
    {"{{ ('a' ~ s)[1:] }}", "xYz"},
    {"{{ ('a' ~ s ~ 'b')[::-1] }}", "{b}zYx{a}"},
    {"{{ ('a' ~ s) | upper }}", "{A}XYZ"},
    {"{{ ('a ' ~ s) | title }}", "{A }Xyz"},
    {"{{ (s ~ ' ') | trim }}", "xYz"},
    {"{{ s.replace('Y', 'y') }}", "x{y}z"},
    {"{{ 'aYb' | replace('Y', s) }}", "{a}xYz{b}"},
    {"{{ [s, 'a', s] | join('-') }}", "xYz{-a-}xYz"},
    {"{{ '-'.join([s, s]) }}", "xYz{-}xYz"},
    {"{{ (s ~ ',a').split(',')[1] }}", "{a}"},
    {"{{ [s, 'a'] | tojson }}", "[\"xYz\", \"{a}\"]"},
    {"{{ {'k': s} }}", "{'{k}': 'xYz'}"},
    {"{{ 'a%sb' | format(s) }}", "{a}xYz{b}"},
    {"{{ 'a%5sb' % s }}", "{a}  xYz{b}"},
    {"{{ '{}b'.format(s) }}", "xYz{b}"},
    {"{{ s | indent(2, true) }}", "  xYz"},
    {"{{ ('a\n' ~ s) | indent('>') }}", "{a\n>}xYz"},
    {"{% set q %}a{{ s }}{% endset %}{{ q }}", "{a}xYz"},
    {"{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(s) }}", "{<}xYz{>}"},
    {"{{ s | list | join }}", "xYz"},
    {"{{ s[1] }}{{ 'abc'[1] }}", "Y{b}"},
    {"{{ 1 }}{{ true }}{{ none }}", "1TrueNone"},
    {"{{ s | default('a') }}{{ u | default('a') }}", "xYz{a}"},
    {"{% for c in s %}{{ c }}{% endfor %}", "xYz"},
    {"{{ s if s else 'a' }}{{ '' or s }}", "xYzxYz"},
    {"{{ ('a' ~ s ~ 'a').strip('a') }}", "xYz"},
    {"{{ ('<' ~ s) | e }}", "&lt;xYz"},
    {"{{ s * 2 ~ 'a' * 2 }}", "xYzxYz{aa}"},
    {"{{ ['a', s] | map('upper') | join }}", "{A}XYZ"},
    {"{{ d.items() | list | first | join }}", "xYz"},
    {"{{ strftime_now('%Y!') }}", "1970{!}"},
};

static void origins(void **state)
{
    (void)state;
    cJSON *data = cJSON_Parse("{\"s\":\"xYz\",\"d\":{\"x\":\"Yz\"}}");
    for (size_t i = 0; i < ARRAY_LEN(provenance); i++) {
        struct jinja_text out = {.text = NULL};
        char err[ERR_BYTES] = "";
        char got[ERR_BYTES];
        if (render(provenance[i][0], data, 0, &out, err))
            fail_msg("%s: %s", provenance[i][0], err);
        show(&out, got);
        if (strcmp(got, provenance[i][1]) != 0)
            fail_msg("%s gives %s instead of %s", provenance[i][0], got, provenance[i][1]);
        jinja_text_free(&out);
    }
    cJSON_Delete(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(language), cmocka_unit_test(own_ways), cmocka_unit_test(limits),
        cmocka_unit_test(nesting),  cmocka_unit_test(origins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

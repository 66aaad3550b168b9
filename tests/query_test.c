/* Aim: a query becomes exactly the JSON body it means, or one line that says why not.
 * Negative space: broken escapes in names that matter and in others, names that come twice, values
 * that would leave their place in the JSON, a query of nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/query.h"

#include <string.h>

static const struct {
    const char *query;
    const char *body; /* NULL: refused */
    const char *says;
} cases[] = {
    {"", "{}", NULL},
    {"&&", "{}", NULL},
    {"prompt=Hi", "{\"prompt\":\"Hi\"}", NULL},
    {"prompt=", "{\"prompt\":\"\"}", NULL},
    {"prompt", "{\"prompt\":\"\"}", NULL},
    {"prompt=a+b%2Bc%20d%26e%3Df", "{\"prompt\":\"a b+c d&e=f\"}", NULL},
    {"prompt=a=b", "{\"prompt\":\"a=b\"}", NULL},
    {"prompt=%22%5C%0A%22,%22x%22:1", "{\"prompt\":\"\\\"\\\\\\n\\\",\\\"x\\\":1\"}", NULL},
    {"prompt=%F0%9F%98%80", "{\"prompt\":\"\xf0\x9f\x98\x80\"}", NULL},
    {"stream=true&prompt=x&max_tokens=5&temperature=0.5&seed=1",
     "{\"stream\":true,\"prompt\":\"x\",\"max_tokens\":5,\"temperature\":0.5,\"seed\":1}", NULL},
    {"prompt=x&unknown=1&unknown=2&Prompt=y", "{\"prompt\":\"x\"}", NULL},
    {"raw=false", "{\"raw\":false}", NULL},
    /* Judged by the format's own parse, in its words. */
    {"max_tokens=1e9", "{\"max_tokens\":1e9}", NULL},
    {"max_tokens=--", "{\"max_tokens\":--}", NULL},
    {"prompt=%", NULL, "not well encoded"},
    {"prompt=%4", NULL, "not well encoded"},
    {"prompt=%zz", NULL, "not well encoded"},
    {"other=%zz", NULL, "not well encoded"},
    {"prompt=a%00b", NULL, "not well encoded"},
    {"prompt=%ff", NULL, "not valid UTF-8"},
    {"prompt=%c0%80", NULL, "not valid UTF-8"},
    {"prompt=%ed%a0%80", NULL, "not valid UTF-8"},
    {"prompt=a&prompt=a", NULL, "comes twice"},
    {"stream=1", NULL, "true or false"},
    {"stream=", NULL, "true or false"},
    {"stream=True", NULL, "true or false"},
    {"max_tokens=", NULL, "A number"},
    {"max_tokens=5,%22prompt%22:1", NULL, "A number"},
    {"max_tokens=null", NULL, "A number"},
    {"max_tokens=0x5", NULL, "A number"},
};

static void test_queries(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf b = {0};
        struct api_error err = {0};
        enum status s = query_object(&b, cases[i].query, &err);
        buf_add(&b, "", 1);
        if ((s == OK) != (cases[i].body != NULL))
            fail_msg("'%s': %s %s", cases[i].query, b.data, err.text);
        if (s == OK && strcmp(b.data, cases[i].body) != 0)
            fail_msg("'%s' became %s", cases[i].query, b.data);
        if (s && !strstr(err.text, cases[i].says))
            fail_msg("'%s' says '%s'", cases[i].query, err.text);
        buf_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_queries)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#ifndef TESTS_LIES_H
#define TESTS_LIES_H

#include "models/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Rows of "replace this in a valid file, and this is what must be said". */

static inline void expect(const char *what, enum status got, enum status want, const char *err,
                          const char *says)
{
    if (got != want)
        fail_msg("%s: %s (\"%s\") instead of %s", what, status_text(got), err, status_text(want));
    if (want != OK && (!strstr(err, says) || strchr(err, '\n')))
        fail_msg("%s: \"%s\" does not say \"%s\"", what, err, says);
}

/* text with the first occurrence of from replaced; free() it. */
/* Not inlined: gcc 12 would see a dangling pointer where text comes from file_read(). */
__attribute__((noinline, unused)) static char *replaced(const char *text, const char *from,
                                                        const char *to)
{
    const char *at = strstr(text, from);
    if (!at)
        fail_msg("\"%s\" is not in %s", from, text);
    size_t before = at ? (size_t)(at - text) : 0;
    size_t size = strlen(text) + strlen(to) + 1;
    char *out = malloc(size);
    assert_non_null(out);
    snprintf(out, size, "%.*s%s%s", (int)before, text, to, text + before + strlen(from));
    return out;
}

struct lie {
    const char *from;
    const char *to;
    enum status status;
    const char *says;
};

static inline enum status inspect(const char *dir, char *err, size_t size)
{
    struct model_info f;
    snprintf(err, size, "nothing said");
    return model_inspect(&f, dir, err, size);
}

#endif

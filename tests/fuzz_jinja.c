/* A template and its data: the first half of the input up to a NUL is the template, the rest
 * JSON. Whatever they are, a rendering ends soon, with text in UTF-8 whose trusted ranges lie in
 * order inside of it, or with a line that says why not; and a second one gives the same. */

#include "models/jinja.h"
#include "models/unicode.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { NODES = 20000 };

static void must(bool b)
{
    if (!b)
        abort();
}

static cJSON *parse(const char *text, size_t bytes)
{
    static const struct json_limits limits = {
        .nodes = NODES, .members = NODES, .depth = STRICT_DEPTH_MAX, .unique = true};
    struct json_error err;
    if (strict_json(text, bytes, &limits, &err) != OK)
        return NULL;
    return cJSON_ParseWithLength(text, bytes);
}

static void check_text(const struct jinja_text *t)
{
    size_t at = 0;
    must(utf8_valid(t->text, t->bytes));
    for (size_t i = 0; i < t->n_trusted; i++) {
        must(t->trusted[i].begin < t->trusted[i].end && t->trusted[i].end <= t->bytes);
        must(i == 0 || t->trusted[i].begin > at);
        must(utf8_valid(t->text + t->trusted[i].begin, t->trusted[i].end - t->trusted[i].begin));
        at = t->trusted[i].end;
    }
}

static void check_line(enum status s, const char *err)
{
    must(s == E_INVALID || s == E_NOMEM);
    must(err[0] && !strchr(err, '\n') && utf8_valid(err, strlen(err)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const roles[] = {"user", "assistant", NULL};
    const char *text = (const char *)data;
    size_t bytes = size ? strnlen(text, size) : 0;
    cJSON *json = bytes < size ? parse(text + bytes + 1, size - bytes - 1) : NULL;
    const struct jinja_var var[] = {{.name = "bos_token", .text = "<s>"},
                                    {.name = "messages", .json = json}};
    const struct jinja_input in = {.var = var,
                                   .n_vars = 2,
                                   .more = cJSON_IsObject(json) ? json : NULL,
                                   .roles = roles,
                                   .add_generation_prompt = true,
                                   .now = 1700000000};
    struct jinja *t = NULL;
    struct jinja_text out[2] = {{.text = NULL}, {.text = NULL}};
    char err[2][256] = {"", ""};
    enum status s = jinja_compile(&t, text, bytes, err[0], sizeof(err[0]));
    if (s) {
        check_line(s, err[0]);
    } else {
        enum status first = jinja_render(t, &in, &out[0], err[0], sizeof(err[0]));
        enum status second = jinja_render(t, &in, &out[1], err[1], sizeof(err[1]));
        must(first == second);
        if (first) {
            check_line(first, err[0]);
            must(strcmp(err[0], err[1]) == 0);
        } else {
            check_text(&out[0]);
            must(out[0].bytes == out[1].bytes &&
                 memcmp(out[0].text, out[1].text, out[0].bytes) == 0);
        }
    }
    jinja_text_free(&out[0]);
    jinja_text_free(&out[1]);
    jinja_close(t);
    cJSON_Delete(json);
    return 0;
}

/* The types are known from a table, for a query has none: numbers and truths go into the body as
 * they are, after a look at their letters, and the format's own parse judges them. */
#include "server/query.h"

#include "server/target.h"
#include "server/text.h"

#include <stdlib.h>
#include <string.h>

enum query_kind { QUERY_TEXT, QUERY_NUMBER, QUERY_TRUTH };

static const struct parameter {
    const char *name;
    enum query_kind kind;
} parameters[] = {
    {"prompt", QUERY_TEXT},
    {"stream", QUERY_TRUTH},
    {"raw", QUERY_TRUTH},
    {"max_tokens", QUERY_NUMBER},
    {"temperature", QUERY_NUMBER},
    {"top_p", QUERY_NUMBER},
    {"top_k", QUERY_NUMBER},
    {"seed", QUERY_NUMBER},
    {"repetition_penalty", QUERY_NUMBER},
    {"frequency_penalty", QUERY_NUMBER},
    {"presence_penalty", QUERY_NUMBER},
};

static const struct parameter *find(const char *name, size_t n)
{
    for (size_t i = 0; i < ARRAY_LEN(parameters); i++)
        if (strlen(parameters[i].name) == n && memcmp(parameters[i].name, name, n) == 0)
            return &parameters[i];
    return NULL;
}

static enum status refuse(struct api_error *err, const char *name, const char *text)
{
    api_error_set(err, API_BAD_FIELD, name, text);
    return E_INVALID;
}

static enum status put_value(struct buf *out, const struct parameter *p, const char *value,
                             struct api_error *err)
{
    size_t n = strlen(value);
    switch (p->kind) {
    case QUERY_TEXT:
        if (!text_is_utf8(value, n))
            return refuse(err, p->name, "The query is not valid UTF-8");
        buf_json(out, value, n);
        return OK;
    case QUERY_NUMBER:
        if (n == 0 || strspn(value, "0123456789+-.eE") != n)
            return refuse(err, p->name, "A number is expected in the query");
        break;
    case QUERY_TRUTH:
        if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
            return refuse(err, p->name, "true or false is expected in the query");
        break;
    }
    buf_text(out, value);
    return OK;
}

/* room: as long as the query, which no value is longer than. */
static enum status put_field(struct buf *out, const char *field, size_t n, char *room, size_t size,
                             bool seen[ARRAY_LEN(parameters)], struct api_error *err)
{
    const char *equals = memchr(field, '=', n);
    size_t name_n = equals ? (size_t)(equals - field) : n;
    size_t value_n = equals ? n - name_n - 1 : 0;
    const char *value = equals ? equals + 1 : field + n;
    const struct parameter *p = find(field, name_n);
    if (!target_decode(room, size, value, value_n, true))
        return refuse(err, p ? p->name : NULL, "The query is not well encoded");
    if (!p)
        return OK;
    size_t i = (size_t)(p - parameters);
    if (seen[i])
        return refuse(err, p->name, "A name comes twice in the query");
    seen[i] = true;
    if (out->n && out->data[out->n - 1] != '{')
        buf_text(out, ",");
    buf_json_text(out, p->name);
    buf_text(out, ":");
    return put_value(out, p, room, err);
}

enum status query_object(struct buf *out, const char *query, struct api_error *err)
{
    bool seen[ARRAY_LEN(parameters)] = {false};
    size_t size = strlen(query) + 1;
    char *room = malloc(size);
    enum status s = room ? OK : E_NOMEM;
    buf_text(out, "{");
    while (s == OK && *query) {
        size_t n = strcspn(query, "&");
        if (n)
            s = put_field(out, query, n, room, size, seen, err);
        query += n;
        query += *query == '&';
    }
    buf_text(out, "}");
    free(room);
    return s == OK && out->failed ? E_NOMEM : s;
}

/* Aim: no query makes its reader misbehave, and what it makes of one is a JSON object that the
 * strict pass takes or refuses for what a value says, never for how the object is put together. */
#include "server/query.h"

#include "server/json.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool fact)
{
    if (!fact)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *query = malloc(size + 1);
    struct buf body = {0};
    struct api_error err = {0};
    must(query != NULL);
    memcpy(query, data, size);
    query[size] = '\0';
    enum status s = query_object(&body, query, &err);
    must(s == OK || (s == E_INVALID && err.text[0]));
    if (s == OK) {
        struct cJSON *top = NULL;
        struct json_error why;
        must(body.n >= 2 && body.data[0] == '{' && body.data[body.n - 1] == '}');
        enum status parsed = json_parse(&top, body.data, body.n, &why);
        must(parsed == OK || strpbrk(query, "+-.eE0123456789") != NULL);
        json_free(top);
    }
    buf_free(&body);
    free(query);
    return 0;
}

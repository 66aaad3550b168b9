/* Aim: no bytes make the JSON gate misbehave. Beyond what sanitizers see it holds: what the
 * strict pass accepts cJSON parses; nobody parses what it refuses; a refusal says where and why;
 * what a request may hold a file may hold.
 * Not here: whether the right bodies are accepted (json_test.c), the request parsers
 * (fuzz_chat.c and its neighbours). */

#include "tests/fuzz_wire.h"

#include <cjson/cJSON.h>

/* Accepted or refused with a reason; lack of memory would be a tree cJSON did not make. */
static bool accepted(enum status st, const struct json_error *err, size_t bytes)
{
    must(st == OK || (st == E_INVALID && err->what && err->offset <= bytes));
    return st == OK;
}

static bool try_request(const char *text, size_t bytes)
{
    struct json_error err = {.what = NULL};
    struct cJSON *tree = NULL;
    bool good = accepted(json_parse(&tree, text, bytes, &err), &err, bytes);
    must(good == (tree != NULL));
    json_free(tree);
    return good;
}

static bool try_file(const char *text, size_t bytes)
{
    static const struct json_limits limits = {
        .nodes = SIZE_MAX, .members = SIZE_MAX, .depth = STRICT_DEPTH_MAX};
    struct json_error err = {.what = NULL};
    if (!accepted(strict_json(text, bytes, &limits, &err), &err, bytes))
        return false;
    struct cJSON *tree = cJSON_ParseWithLength(text, bytes);
    must(tree && is_text(text, bytes));
    cJSON_Delete(tree);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    bool good = try_request(text, size);
    must(try_file(text, size) || !good);
    must(good || !try_wire(&wire_chat, text, size));
    return 0;
}

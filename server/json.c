/* The strict pass of models/strict_json.h, then the tree of cJSON, then getters that hand out
 * a value only as what it is. Invariant: cJSON parses accepted text alone, so its own
 * recursion and memory are bounded and only lack of memory can fail it. */
#include "server/json.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <string.h>

enum status json_parse(struct cJSON **out, const char *text, size_t bytes, struct json_error *err)
{
    static const struct json_limits limits = {
        .nodes = JSON_NODES_MAX,
        .members = JSON_MEMBERS_MAX,
        .depth = JSON_DEPTH_MAX,
        .unique = true,
    };
    enum status st = strict_json(text, bytes, &limits, err);
    if (st != OK)
        return st;
    /* What the strict pass accepts cJSON parses, unless memory is short. */
    *out = cJSON_ParseWithLength(text, bytes);
    return *out ? OK : E_NOMEM;
}

void json_free(struct cJSON *v)
{
    cJSON_Delete(v);
}

enum json_kind json_kind(const struct cJSON *v)
{
    if (!v)
        return JSON_ABSENT;
    if (cJSON_IsBool(v))
        return JSON_BOOL;
    if (cJSON_IsNumber(v))
        return JSON_NUMBER;
    if (cJSON_IsString(v))
        return JSON_STRING;
    if (cJSON_IsArray(v))
        return JSON_ARRAY;
    return cJSON_IsObject(v) ? JSON_OBJECT : JSON_NULL;
}

const char *json_kind_text(enum json_kind kind)
{
    static const char *const text[] = {
        [JSON_ABSENT] = "nothing", [JSON_NULL] = "null",     [JSON_BOOL] = "boolean",
        [JSON_NUMBER] = "number",  [JSON_STRING] = "string", [JSON_ARRAY] = "array",
        [JSON_OBJECT] = "object",
    };
    return text[kind];
}

const struct cJSON *json_member(const struct cJSON *v, const char *name)
{
    return json_kind(v) == JSON_OBJECT ? cJSON_GetObjectItemCaseSensitive(v, name) : NULL;
}

const struct cJSON *json_first(const struct cJSON *v)
{
    return v ? v->child : NULL;
}

const struct cJSON *json_next(const struct cJSON *v)
{
    return v->next;
}

size_t json_count(const struct cJSON *v)
{
    size_t n = 0;
    for (const struct cJSON *i = json_first(v); i; i = json_next(i))
        n++;
    return n;
}

const char *json_name(const struct cJSON *v)
{
    return v->string;
}

bool json_true(const struct cJSON *v)
{
    return cJSON_IsTrue(v);
}

const char *json_string(const struct cJSON *v, size_t *bytes)
{
    if (!cJSON_IsString(v))
        return NULL;
    *bytes = strlen(v->valuestring);
    return v->valuestring;
}

bool json_number(const struct cJSON *v, double *out)
{
    if (!cJSON_IsNumber(v) || !isfinite(v->valuedouble))
        return false;
    *out = v->valuedouble;
    return true;
}

bool json_integer(const struct cJSON *v, int64_t *out)
{
    double d = 0;
    if (!json_number(v, &d) || fabs(d) > JSON_INTEGER_MAX || trunc(d) != d)
        return false;
    *out = (int64_t)d;
    return true;
}

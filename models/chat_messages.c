/* The conversation as templates expect it: contents are one text each, the arguments of tool
 * calls are values instead of text, what is null or empty is not there. Everything else goes
 * through as it is, since only the template knows what it looks at. What can be shared with
 * the request's own tree is referred to, not copied. */

#include "models/chat_priv.h"
#include "models/unicode.h"

#include <stdlib.h>
#include <string.h>

enum { ARGUMENT_NODES_MAX = 100000, ARGUMENT_DEPTH_MAX = 48 };

/* Takes item in any case. */
static bool add(cJSON *to, const char *name, cJSON *item)
{
    if (item && cJSON_AddItemToObject(to, name, item))
        return true;
    cJSON_Delete(item);
    return false;
}

/* cJSON_AddItemReferenceToObject() loses the reference when there is no memory for the name. */
static bool refer(cJSON *to, const cJSON *member)
{
    cJSON *item = cJSON_CreateNull();
    if (!item)
        return false;
    item->type = (member->type & ~cJSON_StringIsConst) | cJSON_IsReference;
    item->child = member->child;
    item->valuestring = member->valuestring;
    item->valueint = member->valueint;
    item->valuedouble = member->valuedouble;
    return add(to, member->string, item);
}

/* --- content --- */

static const char *part_text(const cJSON *part)
{
    const cJSON *text = json_get(part, "text");
    return cJSON_IsString(text) ? text->valuestring : "";
}

/* The text of all parts, one behind the other. */
static cJSON *join_parts(const cJSON *content)
{
    const cJSON *part;
    size_t bytes = 1;
    cJSON_ArrayForEach(part, content) bytes += strlen(part_text(part));
    char *text = malloc(bytes);
    if (!text)
        return NULL;
    size_t at = 0;
    cJSON_ArrayForEach(part, content)
    {
        size_t n = strlen(part_text(part));
        memcpy(text + at, part_text(part), n);
        at += n;
    }
    text[at] = '\0';
    cJSON *joined = cJSON_CreateString(text);
    free(text);
    return joined;
}

/* --- tool calls --- */

/* A value when the text is a JSON object; else the text itself. */
static cJSON *parse_arguments(const cJSON *text)
{
    static const struct json_limits limits = {.nodes = ARGUMENT_NODES_MAX,
                                              .members = ARGUMENT_NODES_MAX,
                                              .depth = ARGUMENT_DEPTH_MAX,
                                              .unique = true};
    struct json_error err;
    size_t bytes = strlen(text->valuestring);
    cJSON *value = NULL;
    if (strict_json(text->valuestring, bytes, &limits, &err) == OK)
        value = cJSON_ParseWithLength(text->valuestring, bytes);
    if (cJSON_IsObject(value))
        return value;
    cJSON_Delete(value);
    return cJSON_CreateStringReference(text->valuestring);
}

static cJSON *print_arguments(const cJSON *value)
{
    char *text = cJSON_PrintUnformatted(value);
    cJSON *item = text ? cJSON_CreateString(text) : NULL;
    cJSON_free(text);
    return item;
}

static bool copy_function(cJSON *call, const cJSON *function, bool arguments_text)
{
    const cJSON *v;
    cJSON *copy = cJSON_CreateObject();
    bool good = copy != NULL;
    cJSON_ArrayForEach(v, function)
    {
        bool arguments = strcmp(v->string, "arguments") == 0;
        if (!good)
            break;
        if (arguments && cJSON_IsString(v) && !arguments_text)
            good = add(copy, v->string, parse_arguments(v));
        else if (arguments && cJSON_IsObject(v) && arguments_text)
            good = add(copy, v->string, print_arguments(v));
        else
            good = refer(copy, v);
    }
    if (good)
        return add(call, "function", copy);
    cJSON_Delete(copy);
    return false;
}

static cJSON *copy_call(const cJSON *call, bool arguments_text)
{
    const cJSON *v;
    cJSON *copy = cJSON_CreateObject();
    bool good = copy != NULL;
    cJSON_ArrayForEach(v, call)
    {
        if (!good)
            break;
        if (strcmp(v->string, "function") == 0 && cJSON_IsObject(v))
            good = copy_function(copy, v, arguments_text);
        else
            good = refer(copy, v);
    }
    if (good)
        return copy;
    cJSON_Delete(copy);
    return NULL;
}

static cJSON *copy_calls(const cJSON *calls, bool arguments_text)
{
    const cJSON *call;
    cJSON *list = cJSON_CreateArray();
    cJSON_ArrayForEach(call, calls)
    {
        cJSON *copy = list ? copy_call(call, arguments_text) : NULL;
        if (!copy || !cJSON_AddItemToArray(list, copy)) {
            cJSON_Delete(copy);
            cJSON_Delete(list);
            return NULL;
        }
    }
    return list;
}

/* --- messages --- */

static bool has_calls(const cJSON *message)
{
    const cJSON *calls = json_get(message, "tool_calls");
    return cJSON_IsArray(calls) && calls->child;
}

static bool copy_member(cJSON *to, const cJSON *v, struct chat_style style)
{
    if (strcmp(v->string, "role") == 0 && cJSON_IsString(v) && !style.developer &&
        strcmp(v->valuestring, "developer") == 0)
        return add(to, "role", cJSON_CreateStringReference("system"));
    if (strcmp(v->string, "content") == 0 && cJSON_IsArray(v))
        return add(to, "content", join_parts(v));
    if (strcmp(v->string, "tool_calls") == 0 && cJSON_IsArray(v))
        return !v->child || add(to, "tool_calls", copy_calls(v, style.arguments_text));
    return cJSON_IsNull(v) || refer(to, v);
}

/* One that called tools has no content, which templates that know of calls ask for; the others
 * want a text. */
static bool add_content(cJSON *to, const cJSON *message, struct chat_style style)
{
    if (json_get(message, "content"))
        return true;
    return add(to, "content",
               style.calls && has_calls(message) ? cJSON_CreateNull()
                                                 : cJSON_CreateStringReference(""));
}

static cJSON *copy_message(const cJSON *message, struct chat_style style)
{
    const cJSON *v;
    cJSON *copy = cJSON_CreateObject();
    bool good = copy != NULL;
    cJSON_ArrayForEach(v, message) good = good && copy_member(copy, v, style);
    if (good && add_content(copy, message, style))
        return copy;
    cJSON_Delete(copy);
    return NULL;
}

cJSON *chat_normal(const cJSON *messages, struct chat_style style)
{
    const cJSON *m;
    cJSON *list = cJSON_CreateArray();
    cJSON_ArrayForEach(m, messages)
    {
        cJSON *copy = list ? copy_message(m, style) : NULL;
        if (!copy || !cJSON_AddItemToArray(list, copy)) {
            cJSON_Delete(copy);
            cJSON_Delete(list);
            return NULL;
        }
    }
    return list;
}

/* --- made here --- */

static bool add_message(cJSON *list, const char *role, const char *text)
{
    cJSON *m = cJSON_CreateObject();
    if (cJSON_AddStringToObject(m, "role", role) && cJSON_AddStringToObject(m, "content", text) &&
        cJSON_AddItemToArray(list, m))
        return true;
    cJSON_Delete(m);
    return false;
}

enum status chat_messages(struct cJSON **out, const char *system, const char *user,
                          size_t user_bytes)
{
    if (!utf8_valid(user, user_bytes) || memchr(user, '\0', user_bytes))
        return E_INVALID;
    cJSON *list = cJSON_CreateArray();
    char *text = strndup(user, user_bytes);
    bool whole = list && text && (!system || add_message(list, "system", system)) &&
                 add_message(list, "user", text);
    free(text);
    if (!whole) {
        cJSON_Delete(list);
        return E_NOMEM;
    }
    *out = list;
    return OK;
}

void chat_messages_free(struct cJSON *messages)
{
    cJSON_Delete(messages);
}

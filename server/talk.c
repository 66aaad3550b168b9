/* The list is written as JSON and read back through the one door, so that a made conversation
 * keeps every promise that a sent one keeps. */
#include "server/talk.h"

#include <stdio.h>
#include <string.h>

static void close_turn(struct talk *t)
{
    if (!t->role)
        return;
    buf_text(&t->list, t->list.n > 1 ? "," : "");
    buf_printf(&t->list, "{\"role\":\"%s\",\"content\":", t->role);
    buf_json(&t->list, t->text.n ? t->text.data : "", t->text.n);
    buf_text(&t->list, "}");
    t->list.failed = t->list.failed || t->text.failed;
    buf_clear(&t->text);
}

void talk_turn(struct talk *t, const char *role)
{
    if (t->role && strcmp(t->role, role) == 0)
        return;
    if (t->list.n == 0)
        buf_text(&t->list, "[");
    close_turn(t);
    t->role = role;
}

void talk_say(struct talk *t, const char *text, size_t bytes)
{
    buf_add(&t->text, text, bytes);
}

enum status talk_end(struct talk *t, struct gen_request *r, enum status st)
{
    struct json_error at;
    close_turn(t);
    buf_text(&t->list, "]");
    if (st == OK && t->list.failed)
        st = E_NOMEM;
    /* What was accepted once can only fail for lack of memory. */
    if (st == OK && json_parse(&r->made, t->list.data, t->list.n, &at) != OK)
        st = E_NOMEM;
    r->chat.messages = r->made;
    r->chat.continue_final = st == OK && t->role && strcmp(t->role, "assistant") == 0;
    buf_free(&t->list);
    buf_free(&t->text);
    return st;
}

static enum status say_part(struct talk *t, const struct cJSON *part, const char *param,
                            const char *const types[], struct fault *f)
{
    char name[PARAM_MAX];
    size_t n = 0;
    const struct cJSON *type = json_member(part, "type");
    const struct cJSON *text = json_member(part, "text");
    if (json_kind(part) != JSON_OBJECT)
        return fault_type(f, param, "object", part);
    const char *kind = json_string(type, &n);
    snprintf(name, sizeof(name), "%.50s.type", param);
    if (!kind)
        return fault_type(f, name, "string", type);
    while (*types && strcmp(*types, kind) != 0)
        types++;
    if (!*types)
        return fault_say(f, FAULT_UNSUPPORTED, name, "must be text, other parts are not supported");
    snprintf(name, sizeof(name), "%.50s.text", param);
    const char *words = json_string(text, &n);
    if (!words)
        return fault_type(f, name, "string", text);
    talk_say(t, words, n);
    return OK;
}

enum status talk_content(struct talk *t, const struct cJSON *v, const char *param,
                         const char *const types[], struct fault *f)
{
    size_t n = 0;
    const char *text = json_string(v, &n);
    int32_t i = 0;
    if (text) {
        talk_say(t, text, n);
        return OK;
    }
    if (json_kind(v) != JSON_ARRAY)
        return fault_type(f, param, "string", v);
    for (const struct cJSON *part = json_first(v); part; part = json_next(part)) {
        char name[PARAM_MAX];
        snprintf(name, sizeof(name), "%.40s[%d]", param, i++);
        enum status st = say_part(t, part, name, types, f);
        if (st != OK)
            return st;
    }
    return OK;
}

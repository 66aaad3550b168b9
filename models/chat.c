#include "models/chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/gguf.h"
#include "models/jsonfile.h"
#include "models/unicode.h"

/* A chat template is a program in a file of the model. It is not run: the few families
 * that Llama models use are recognised by the marks they put around messages, and
 * written here by hand. A prompt is marks and text in turn. A mark that is a special
 * token goes out by its id; all else gathers in one buffer until the next special, so
 * that merges see the same borders as if the whole prompt had been written out and
 * tokenized. What a user wrote only ever goes through that buffer. */

enum {
    TEMPLATE_BYTES_MAX = 1 << 20,
    MARK_MAX = 256,         /* bos_token and eos_token, with the NUL */
    SYSTEM_MAX = 2048,      /* the template's own system message, with the NUL */
    TURN_BYTES_MAX = 256,   /* what a family writes around one message */
    HEAD_BYTES_MAX = 256,   /* and once, around all of them */
    TURN_SPECIALS_MAX = 16, /* ids of specials, and of blanks that follow them */
    QUOTE_BYTES_MAX = 60,   /* of an unknown template, for the error */
};

enum family { FAMILY_NONE, FAMILY_CHATML, FAMILY_LLAMA2, FAMILY_LLAMA3, FAMILY_ZEPHYR };

struct chat {
    const struct tokenizer *t;
    enum family family;
    bool puts_bos; /* the template begins with BOS; llama2: every user turn does */
    bool dated;    /* Llama 3.1 and later: the system turn tells two dates */
    bool trims;    /* messages lose blanks at both ends */
    char bos[MARK_MAX];
    char eos[MARK_MAX];
    char system[SYSTEM_MAX]; /* used when the messages bring none; empty: no such turn */
};

struct chat_message {
    const char *role;
    const char *text;
    size_t bytes;
};

/* --- a prompt being written --- */

struct writer {
    const struct chat *c;
    char *text; /* [text_max] since the last special */
    size_t n_text;
    size_t text_max;
    int32_t *ids; /* [ids_max] */
    size_t ids_max;
    size_t n;
    enum status s; /* the first failure; all that comes later does nothing */
};

static bool grow(struct writer *w, size_t more)
{
    size_t want;
    size_t twice;
    if (!size_add(w->n_text, more, &want) || !size_mul(want, 2, &twice))
        return false;
    if (want <= w->text_max)
        return true;
    char *text = realloc(w->text, twice);
    if (!text)
        return false;
    w->text = text;
    w->text_max = twice;
    return true;
}

static void put_bytes(struct writer *w, const char *text, size_t bytes)
{
    if (w->s || bytes == 0)
        return;
    if (!grow(w, bytes)) {
        w->s = E_NOMEM;
        return;
    }
    memcpy(w->text + w->n_text, text, bytes);
    w->n_text += bytes;
}

static void put(struct writer *w, const char *text)
{
    put_bytes(w, text, strlen(text));
}

static void flush(struct writer *w)
{
    if (w->s == OK && w->n_text)
        w->s = tokenizer_encode(w->c->t, w->text, w->n_text, w->n == 0, w->ids, w->ids_max, &w->n);
    w->n_text = 0;
}

static void put_id(struct writer *w, int32_t id)
{
    flush(w);
    if (w->s == OK && w->n >= w->ids_max)
        w->s = E_INVALID;
    if (w->s == OK)
        w->ids[w->n++] = id;
}

/* Only the template's own words come here. */
static void put_mark(struct writer *w, const char *mark)
{
    int32_t id = *mark ? tokenizer_special(w->c->t, mark) : -1;
    if (id >= 0)
        put_id(w, id);
    else
        put(w, mark);
}

/* --- blanks, as the template language trims them --- */

static bool is_blank(uint32_t cp)
{
    return char_class(cp) == CHAR_SPACE || (cp >= 0x1c && cp <= 0x1f);
}

static const char *trim_front(const char *p, const char *end)
{
    while (p < end) {
        const char *next = p;
        if (!is_blank(utf8_next(&next)))
            break;
        p = next;
    }
    return p;
}

static const char *trim_back(const char *p, const char *end)
{
    while (end > p) {
        const char *last = end - 1;
        while (last > p && ((unsigned char)*last & 0xc0) == 0x80)
            last--;
        const char *next = last;
        if (!is_blank(utf8_next(&next)))
            break;
        end = last;
    }
    return end;
}

static void put_message(struct writer *w, const struct chat_message *m, bool trim)
{
    const char *p = m->text;
    const char *end = p + m->bytes;
    if (trim && m->bytes) {
        p = trim_front(p, end);
        end = trim_back(p, end);
    }
    put_bytes(w, p, (size_t)(end - p));
}

/* --- the families --- */

static bool is_role(const struct chat_message *m, const char *role)
{
    return strcmp(m->role, role) == 0;
}

static void chatml_turn(struct writer *w, const struct chat_message *m)
{
    put_mark(w, "<|im_start|>");
    put(w, m->role);
    put(w, "\n");
    put_message(w, m, w->c->trims);
    put_mark(w, "<|im_end|>");
    put(w, "\n");
}

static void chatml(struct writer *w, const struct chat_message *m, int32_t n)
{
    const struct chat *c = w->c;
    if (c->puts_bos)
        put_mark(w, c->bos);
    if (*c->system && !is_role(&m[0], "system"))
        chatml_turn(w, &(struct chat_message){"system", c->system, strlen(c->system)});
    for (int32_t i = 0; i < n; i++)
        chatml_turn(w, &m[i]);
    put_mark(w, "<|im_start|>");
    put(w, "assistant\n");
}

static void llama3_header(struct writer *w, const char *role)
{
    put_mark(w, "<|start_header_id|>");
    put(w, role);
    put_mark(w, "<|end_header_id|>");
    put(w, "\n\n");
}

static void llama3(struct writer *w, const struct chat_message *m, int32_t n)
{
    int32_t i = 0;
    if (w->c->puts_bos)
        put_mark(w, w->c->bos);
    if (w->c->dated) {
        /* The dates that stand in the templates, not today's: equal messages are equal
         * ids on every day, and their cached prefix stays good. */
        llama3_header(w, "system");
        put(w, "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n");
        if (is_role(&m[0], "system"))
            put_message(w, &m[i++], true);
        put_mark(w, "<|eot_id|>");
    }
    for (; i < n; i++) {
        llama3_header(w, m[i].role);
        put_message(w, &m[i], true);
        put_mark(w, "<|eot_id|>");
    }
    llama3_header(w, "assistant");
}

static void zephyr(struct writer *w, const struct chat_message *m, int32_t n)
{
    if (w->c->puts_bos)
        put_mark(w, w->c->bos);
    for (int32_t i = 0; i < n; i++) {
        put_mark(w, is_role(&m[i], "user")     ? "<|user|>"
                    : is_role(&m[i], "system") ? "<|system|>"
                                               : "<|assistant|>");
        put(w, "\n");
        put_message(w, &m[i], w->c->trims);
        put_mark(w, w->c->eos);
        put(w, "\n");
    }
    put_mark(w, "<|assistant|>");
    put(w, "\n");
}

/* Trimmed as a whole: behind a system message only the end of the user's can be blank. */
static void llama2_first(struct writer *w, const struct chat_message *system,
                         const struct chat_message *user)
{
    const char *end = user->bytes ? trim_back(user->text, user->text + user->bytes) : user->text;
    put(w, "<<SYS>>\n");
    put_message(w, system, false);
    put(w, "\n<</SYS>>");
    if (end == user->text)
        return;
    put(w, "\n\n");
    put_bytes(w, user->text, (size_t)(end - user->text));
}

static void llama2(struct writer *w, const struct chat_message *m, int32_t n)
{
    const struct chat_message *system = is_role(&m[0], "system") ? &m[0] : NULL;
    for (int32_t i = system ? 1 : 0; i < n; i++) {
        if (is_role(&m[i], "user")) {
            if (w->c->puts_bos)
                put_mark(w, w->c->bos);
            put(w, "[INST] ");
            if (i == 1 && system)
                llama2_first(w, system, &m[i]);
            else
                put_message(w, &m[i], true);
            put(w, " [/INST]");
        } else {
            put(w, " ");
            put_message(w, &m[i], true);
            put(w, " ");
            put_mark(w, w->c->eos);
        }
    }
}

static void plain(struct writer *w, const struct chat_message *m, int32_t n)
{
    if (tokenizer_bos(w->c->t) >= 0)
        put_id(w, tokenizer_bos(w->c->t));
    for (int32_t i = 0; i < n; i++) {
        put(w, m[i].role);
        put(w, ": ");
        put_message(w, &m[i], false);
        put(w, "\n");
    }
    put(w, "assistant:");
}

static const struct family_row {
    const char *name;
    void (*write)(struct writer *w, const struct chat_message *m, int32_t n);
} families[] = {
    [FAMILY_NONE] = {"none", plain},      [FAMILY_CHATML] = {"chatml", chatml},
    [FAMILY_LLAMA2] = {"llama2", llama2}, [FAMILY_LLAMA3] = {"llama3", llama3},
    [FAMILY_ZEPHYR] = {"zephyr", zephyr},
};

/* --- encode --- */

static enum status refuse(char *err, size_t err_size, const char *why)
{
    (void)snprintf(err, err_size, "%s", why);
    return E_INVALID;
}

/* user, assistant, user, ... behind at most one system message. */
static bool alternates(const struct chat_message *m, int32_t n)
{
    int32_t first = is_role(&m[0], "system") ? 1 : 0;
    for (int32_t i = first; i < n; i++) {
        if (!is_role(&m[i], (i - first) % 2 == 0 ? "user" : "assistant"))
            return false;
    }
    return n > first;
}

/* The text of a content: a string, or parts in one piece; NULL: neither. */
static char *join_content(const cJSON *content)
{
    const cJSON *part;
    size_t bytes = 0;
    if (cJSON_IsString(content))
        return strdup(content->valuestring);
    cJSON_ArrayForEach(part, content)
    {
        const cJSON *text = json_get(part, "text");
        if (!cJSON_IsString(text))
            return NULL;
        bytes += strlen(text->valuestring);
    }
    char *out = calloc(1, bytes + 1);
    size_t at = 0;
    cJSON_ArrayForEach(part, content)
    {
        const char *text = json_get(part, "text")->valuestring;
        size_t n = strlen(text);
        if (out)
            memcpy(out + at, text, n);
        at += n;
    }
    return out;
}

static enum status read_message(struct chat_message *m, const cJSON *v)
{
    const cJSON *role = json_get(v, "role");
    m->role = cJSON_IsString(role) ? role->valuestring : "";
    if (strcmp(m->role, "developer") == 0)
        m->role = "system";
    char *text = join_content(json_get(v, "content"));
    m->text = text;
    m->bytes = text ? strlen(text) : 0;
    return text ? OK : E_NOMEM;
}

static enum status check_messages(const struct chat *c, const struct chat_message *m, int32_t n,
                                  char *err, size_t err_size)
{
    if (n < 1)
        return refuse(err, err_size, "no messages");
    for (int32_t i = 0; i < n; i++) {
        const char *why = NULL;
        if (!is_role(&m[i], "system") && !is_role(&m[i], "user") && !is_role(&m[i], "assistant"))
            why = "the role is none of system, user, assistant";
        else if (m[i].bytes && !utf8_valid(m[i].text, m[i].bytes))
            why = "the content is not valid UTF-8";
        if (why) {
            (void)snprintf(err, err_size, "messages[%d]: %s", (int)i, why);
            return E_INVALID;
        }
    }
    if (c->family == FAMILY_LLAMA2 && !alternates(m, n))
        return refuse(err, err_size,
                      "conversation roles must alternate user/assistant/user/assistant/..., "
                      "after at most one system message");
    return OK;
}

static size_t bound(const struct chat *c, const struct chat_message *m, int32_t n_messages)
{
    size_t turns = (size_t)(n_messages < 0 ? 0 : n_messages) + 2;
    size_t bytes = HEAD_BYTES_MAX + 2 * MARK_MAX + strlen(c->system);
    size_t specials;
    size_t around;
    if (!size_mul(turns, TURN_BYTES_MAX + 2 * MARK_MAX, &around) ||
        !size_mul(turns, TURN_SPECIALS_MAX, &specials) || !size_add(bytes, around, &bytes))
        return SIZE_MAX;
    for (int32_t i = 0; i < n_messages; i++) {
        if (!size_add(bytes, m[i].bytes, &bytes))
            return SIZE_MAX;
    }
    size_t n;
    return size_add(tokenizer_bound(c->t, bytes), specials, &n) ? n : SIZE_MAX;
}

static enum status encode(const struct chat *c, const struct chat_message *m, int32_t n_messages,
                          int32_t **ids, size_t *n, char *err, size_t err_size)
{
    size_t bytes;
    enum status s = check_messages(c, m, n_messages, err, err_size);
    if (s)
        return s;
    struct writer w = {.c = c, .ids_max = bound(c, m, n_messages)};
    w.ids = size_mul(w.ids_max, sizeof(*w.ids), &bytes) ? malloc(bytes) : NULL;
    if (!w.ids)
        return E_NOMEM;
    families[c->family].write(&w, m, n_messages);
    flush(&w);
    free(w.text);
    if (w.s) {
        free(w.ids);
        (void)snprintf(err, err_size, "%s",
                       w.s == E_INVALID ? "the messages are too long" : status_text(w.s));
        return w.s;
    }
    *ids = w.ids;
    *n = w.n;
    return OK;
}

enum status chat_encode(const struct chat *c, const struct chat_input *in, int32_t **ids, size_t *n,
                        char *err, size_t err_size)
{
    int32_t n_messages = 0;
    const cJSON *v;
    enum status s = OK;
    struct chat_message *m = calloc((size_t)cJSON_GetArraySize(in->messages) + 1, sizeof(*m));
    if (!m)
        return E_NOMEM;
    cJSON_ArrayForEach(v, in->messages)
    {
        if (s == OK)
            s = read_message(&m[n_messages++], v);
    }
    if (s == OK)
        s = encode(c, m, n_messages, ids, n, err, err_size);
    for (int32_t i = 0; i < n_messages; i++)
        free((char *)m[i].text);
    free(m);
    return s;
}

/* Depth is bounded by what strict_json() accepts. */
static size_t text_bytes(const cJSON *v, int32_t depth)
{
    size_t n = cJSON_IsString(v) ? strlen(v->valuestring) : 0;
    const cJSON *item;
    if (depth == 0)
        return n;
    cJSON_ArrayForEach(item, v) n += text_bytes(item, depth - 1);
    return n;
}

size_t chat_input_bytes(const struct chat_input *in)
{
    return text_bytes(in->messages, STRICT_DEPTH_MAX) + text_bytes(in->tools, STRICT_DEPTH_MAX) +
           text_bytes(in->kwargs, STRICT_DEPTH_MAX);
}

static bool add_message(cJSON *list, const char *role, const char *text)
{
    cJSON *m = cJSON_CreateObject();
    if (!cJSON_AddStringToObject(m, "role", role) || !cJSON_AddStringToObject(m, "content", text) ||
        !cJSON_AddItemToArray(list, m)) {
        cJSON_Delete(m);
        return false;
    }
    return true;
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

/* --- open --- */

static bool has(const char *text, const char *part)
{
    return strstr(text, part) != NULL;
}

/* Others write the same marks and end a turn in another way: a user's message must be
 * followed by eos_token within the expression that writes it. */
static bool is_zephyr(const char *template)
{
    const char *user = strstr(template, "<|user|>");
    const char *end = user ? strstr(user, "}}") : NULL;
    const char *eos = user ? strstr(user, "eos_token") : NULL;
    return end && eos && eos < end && has(template, "<|assistant|>") && !has(template, "<|end|>");
}

static bool recognise(struct chat *c, const char *template)
{
    if (has(template, "<|im_start|>") && has(template, "<|im_end|>"))
        c->family = FAMILY_CHATML;
    else if (has(template, "<|start_header_id|>") && has(template, "<|eot_id|>"))
        c->family = FAMILY_LLAMA3;
    else if (has(template, "[INST]") && has(template, "<<SYS>>"))
        c->family = FAMILY_LLAMA2;
    else if (is_zephyr(template))
        c->family = FAMILY_ZEPHYR;
    else
        return false;
    /* Spelled out, BOS counts too, unless it is a mark of the family anyway. */
    bool spelled = *c->bos && strcmp(c->bos, "<|im_start|>") != 0 && has(template, c->bos);
    c->puts_bos = has(template, "bos_token") || spelled;
    c->dated = has(template, "Cutting Knowledge Date");
    c->trims = has(template, "content'] | trim") || has(template, "content']|trim") ||
               has(template, "content | trim") || has(template, "content|trim");
    return true;
}

/* A ChatML template may hold a system message as a literal, to be used when there is no
 * other: '<|im_start|>system\nYou are ...<|im_end|>'. Pieces put together by code, or
 * with escapes in them, are none. */
static void find_system(struct chat *c, const char *template)
{
    static const char head[] = "<|im_start|>system";
    for (const char *p = strstr(template, head); p; p = strstr(p, head)) {
        p += strlen(head);
        if (strncmp(p, "\\n", 2) == 0)
            p += 2;
        else if (*p == '\n')
            p += 1;
        else
            continue;
        size_t n = strcspn(p, "'\"\\{}<");
        if (n == 0 || n >= SYSTEM_MAX || strncmp(p + n, "<|im_end|>", 10) != 0)
            continue;
        memcpy(c->system, p, n);
        c->system[n] = '\0';
        return;
    }
}

/* "bos_token": "<s>", or an object with the text as content. */
static enum status read_mark(char out[MARK_MAX], const cJSON *config, const char *key,
                             const struct complaint *c)
{
    const cJSON *v = json_get(config, key);
    if (cJSON_IsObject(v))
        v = json_get(v, "content");
    if (!v)
        return OK;
    if (!cJSON_IsString(v) || strlen(v->valuestring) >= MARK_MAX)
        return complain(c, E_FORMAT, "%s is no text of less than %d bytes", key, MARK_MAX);
    memcpy(out, v->valuestring, strlen(v->valuestring) + 1);
    return OK;
}

/* A string, or a list of {name, template} of which "default" counts. NULL: none. */
static enum status config_template(const char **out, const cJSON *config, const struct complaint *c)
{
    const cJSON *v = json_get(config, "chat_template");
    const cJSON *item;
    *out = NULL;
    if (cJSON_IsArray(v)) {
        const cJSON *list = v;
        v = json_get(list->child, "template");
        cJSON_ArrayForEach(item, list)
        {
            const cJSON *name = json_get(item, "name");
            if (cJSON_IsString(name) && strcmp(name->valuestring, "default") == 0)
                v = json_get(item, "template");
        }
    }
    if (v && !cJSON_IsString(v))
        return complain(c, E_FORMAT, "chat_template is neither text nor a list of templates");
    if (v)
        *out = v->valuestring;
    return OK;
}

static enum status use_template(struct chat *c, const char *template, const struct complaint *at)
{
    char quote[QUOTE_BYTES_MAX];
    if (!recognise(c, template)) {
        size_t n = strnlen(template, QUOTE_BYTES_MAX - 1);
        for (size_t i = 0; i < n; i++) /* whole ASCII: this ends up in a one-line error */
            quote[i] = template[i] < ' ' || template[i] > '~' ? '?' : template[i];
        quote[n] = '\0';
        return complain(at, E_UNSUPPORTED, "a chat template of no known family: \"%s...\"", quote);
    }
    if (c->family == FAMILY_CHATML)
        find_system(c, template);
    return OK;
}

static enum status read_config(struct chat *c, const cJSON *config, bool with_template,
                               const struct complaint *at)
{
    const char *template;
    enum status s = read_mark(c->bos, config, "bos_token", at);
    if (s == OK)
        s = read_mark(c->eos, config, "eos_token", at);
    if (s == OK)
        s = config_template(&template, config, at);
    if (s == OK && template && with_template)
        s = use_template(c, template, at);
    return s;
}

static enum status read_gguf(struct chat *c, const char *path, bool with_template, char *err,
                             size_t err_size)
{
    const struct complaint at = complaint_in(gguf_file_name(path), err, err_size);
    struct gguf g;
    cJSON *tree = NULL;
    enum status s = gguf_open(&g, path, &at);
    if (s)
        return s;
    s = gguf_tokenizer_config(&tree, &g, &at);
    gguf_free(&g);
    if (s == OK)
        s = read_config(c, tree, with_template, &at);
    cJSON_Delete(tree);
    return s;
}

/* chat_template.jinja goes before the template of tokenizer_config.json. */
static enum status read_files(struct chat *c, const char *dir, bool with_template, char *err,
                              size_t err_size)
{
    struct complaint at = complaint_in("tokenizer_config.json", err, err_size);
    static const char file[] = "chat_template.jinja";
    bool own_file = with_template && file_present(dir, file);
    enum status s = OK;
    if (file_present(dir, at.file)) {
        cJSON *tree;
        s = json_load(&tree, dir, CONFIG_BYTES_MAX, CONFIG_NODES_MAX, &at);
        if (s)
            return s;
        s = read_config(c, tree, with_template && !own_file, &at);
        cJSON_Delete(tree);
    }
    if (s || !own_file)
        return s;
    char *text;
    size_t bytes;
    at.file = file;
    s = file_read(&text, &bytes, dir, TEMPLATE_BYTES_MAX, &at);
    if (s)
        return s;
    s = use_template(c, text, &at);
    free(text);
    return s;
}

enum status chat_open(struct chat **out, const char *path, const struct tokenizer *t,
                      const char *override, char *err, size_t err_size)
{
    struct complaint at = complaint_in("chat template", err, err_size);
    struct chat *c = calloc(1, sizeof(*c));
    if (!c) {
        (void)snprintf(err, err_size, "%s", status_text(E_NOMEM));
        return E_NOMEM;
    }
    c->t = t;
    enum status s = gguf_is_path(path) ? read_gguf(c, path, !override, err, err_size)
                                       : read_files(c, path, !override, err, err_size);
    if (s == OK && override)
        s = use_template(c, override, &at);
    if (s) {
        chat_close(c);
        return s;
    }
    *out = c;
    return OK;
}

void chat_close(struct chat *c)
{
    free(c);
}

const char *chat_family(const struct chat *c)
{
    return families[c->family].name;
}

/* A conversation through the model's template and the tokenizer. The template's output comes
 * with ranges that are known to be the template's own words; only there the tokenizer sees
 * special tokens, so what a user wrote stays text whatever it spells. */

#include "models/chat_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KWARGS_MAX = 256 };

/* What a conversation can be made of. Templates put marks together from them, so in a
 * message's role they count as the template's own words. */
static const char *const roles[] = {"system",  "developer", "user",      "assistant", "tool",
                                    "ipython", "function",  "tool_call", NULL};

/* --- render --- */

/* What transformers hands to a template. */
static enum status run(const struct chat *c, const struct jinja *t, const struct chat_input *in,
                       const cJSON *messages, struct jinja_text *out, char *err, size_t err_size)
{
    struct jinja_var var[CHAT_MARKS + 3];
    size_t n = 0;
    for (size_t i = 0; i < CHAT_MARKS; i++) {
        if (c->mark[i][0])
            var[n++] = (struct jinja_var){.name = chat_mark_name[i], .text = c->mark[i]};
    }
    var[n++] = (struct jinja_var){.name = "documents"};
    var[n++] = (struct jinja_var){.name = "tools", .json = in->tools};
    var[n++] = (struct jinja_var){.name = "messages", .json = messages};
    const struct jinja_input input = {
        .var = var,
        .n_vars = n,
        .more = in->kwargs,
        .roles = roles,
        .add_generation_prompt = in->add_generation_prompt && !in->continue_final,
        .now = in->now,
    };
    return jinja_render(t, &input, out, err, err_size);
}

static enum status refuse(char *err, size_t err_size, const char *why)
{
    (void)snprintf(err, err_size, "%s", why);
    return E_INVALID;
}

static enum status check(const struct chat_input *in, char *err, size_t err_size)
{
    static const char *const ours[] = {"messages", "tools", "add_generation_prompt"};
    if (!in->messages || !in->messages->child)
        return refuse(err, err_size, "no messages");
    if (cJSON_GetArraySize(in->kwargs) > KWARGS_MAX)
        return refuse(err, err_size, "more than 256 template variables");
    for (size_t i = 0; i < ARRAY_LEN(ours); i++) {
        if (cJSON_GetObjectItemCaseSensitive(in->kwargs, ours[i]))
            return refuse(err, err_size, "messages and tools are no template variables");
    }
    return OK;
}

/* --- the last message left open --- */

static void reverse(char *to, const char *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = from[n - 1 - i];
}

/* Where part begins for the last time; SIZE_MAX: nowhere, SIZE_MAX - 1: out of memory. One
 * linear search in the reverse, since going back match by match is quadratic in bad texts. */
static size_t find_last(const char *text, size_t n, const char *part, size_t n_part)
{
    char *back = malloc(n + n_part + 1);
    if (!back)
        return SIZE_MAX - 1;
    reverse(back, text, n);
    reverse(back + n, part, n_part);
    const char *at = memmem(back, n, back + n, n_part);
    size_t behind = at ? (size_t)(at - back) : 0;
    free(back);
    return at ? n - behind - n_part : SIZE_MAX;
}

static void cut(struct jinja_text *t, size_t bytes)
{
    t->bytes = bytes;
    t->text[bytes] = '\0';
    while (t->n_trusted && t->trusted[t->n_trusted - 1].begin >= bytes)
        t->n_trusted--;
    if (t->n_trusted && t->trusted[t->n_trusted - 1].end > bytes)
        t->trusted[t->n_trusted - 1].end = bytes;
}

static bool blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* As transformers does it: the output ends behind the last message's text, whose blanks at
 * the end stay where the template kept them. */
static enum status leave_open(struct jinja_text *t, const cJSON *messages, char *err,
                              size_t err_size)
{
    const cJSON *content =
        json_get(cJSON_GetArrayItem(messages, cJSON_GetArraySize(messages) - 1), "content");
    if (!cJSON_IsString(content))
        return refuse(err, err_size, "the last message has no text to continue");
    const char *p = content->valuestring;
    while (blank(*p))
        p++;
    size_t kept = strlen(p);
    size_t n = kept;
    while (n > 0 && blank(p[n - 1]))
        n--;
    size_t at = n ? find_last(t->text, t->bytes, p, n) : t->bytes;
    if (at == SIZE_MAX - 1)
        return E_NOMEM;
    if (at == SIZE_MAX)
        return refuse(err, err_size, "the template does not show the last message as it is");
    bool spaced = t->bytes - at >= kept && memcmp(t->text + at, p, kept) == 0;
    cut(t, n ? at + (spaced ? kept : n) : at);
    return OK;
}

static enum status render(const struct chat *c, const struct chat_input *in, struct jinja_text *out,
                          char *err, size_t err_size)
{
    const struct jinja *t = in->tools && in->tools->child && c->tools ? c->tools : c->plain;
    struct chat_input given = *in;
    enum status s = check(in, err, err_size);
    if (s)
        return s;
    if (in->tools && !in->tools->child)
        given.tools = NULL;
    cJSON *messages =
        chat_normal(in->messages, (struct chat_style){
                                      .developer = jinja_mentions_text(t, "developer"),
                                      .calls = jinja_mentions_text(t, "tool_calls"),
                                      .arguments_text = c->arguments_text,
                                  });
    if (!messages)
        return E_NOMEM;
    s = run(c, t, &given, messages, out, err, err_size);
    if (s == OK && in->continue_final) {
        s = leave_open(out, messages, err, err_size);
        if (s)
            jinja_text_free(out);
    }
    cJSON_Delete(messages);
    return s;
}

enum status chat_render(const struct chat *c, const struct chat_input *in, char **text,
                        size_t *bytes, char *err, size_t err_size)
{
    struct jinja_text out = {.text = NULL};
    enum status s = render(c, in, &out, err, err_size);
    if (s)
        return s;
    *text = out.text;
    *bytes = out.bytes;
    free(out.trusted);
    return OK;
}

/* --- encode --- */

static enum status tokenize(const struct chat *c, const struct jinja_text *t, int32_t **ids,
                            size_t *n)
{
    size_t room = tokenizer_bound(c->t, t->bytes);
    size_t bytes;
    if (!size_add(room, 1, &room) || !size_mul(room, sizeof(**ids), &bytes))
        return E_NOMEM;
    *ids = malloc(bytes);
    *n = 0;
    if (!*ids)
        return E_NOMEM;
    const struct marked_text in = {.text = t->text,
                                   .bytes = t->bytes,
                                   .trusted = t->trusted,
                                   .n_trusted = t->n_trusted,
                                   .first = true};
    enum status s = tokenizer_encode_marked(c->t, &in, *ids, room, n);
    if (s) {
        free(*ids);
        *ids = NULL;
    }
    return s;
}

enum status chat_encode(const struct chat *c, const struct chat_input *in, int32_t **ids, size_t *n,
                        char *err, size_t err_size)
{
    struct jinja_text text = {.text = NULL};
    enum status s = render(c, in, &text, err, err_size);
    if (s)
        return s;
    s = tokenize(c, &text, ids, n);
    if (s == E_INVALID)
        (void)refuse(err, err_size, "the messages are too long");
    jinja_text_free(&text);
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

/* --- open --- */

static const char probe[] =
    "[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"\","
    "\"tool_calls\":[{\"id\":\"abcdefghi\",\"type\":\"function\",\"function\":{\"name\":\"f\","
    "\"arguments\":{\"probe\":\"b\"}}}]},{\"role\":\"tool\",\"tool_call_id\":\"abcdefghi\","
    "\"name\":\"f\",\"content\":\"c\"}]";

static bool probe_renders(struct chat *c, const cJSON *messages, bool *as_python)
{
    const struct chat_input in = {.messages = messages};
    struct jinja_text out = {.text = NULL};
    char err[8];
    bool good = render(c, &in, &out, err, sizeof(err)) == OK;
    *as_python = good && strstr(out.text, "{'probe'");
    jinja_text_free(&out);
    return good;
}

/* Most templates want the arguments of a tool call as a value; some put them between their
 * own words as the text that the API carries. Shown a value, those fail or print it as Python
 * would. */
static enum status learn_arguments(struct chat *c)
{
    bool as_python;
    if (!jinja_mentions_text(c->tools ? c->tools : c->plain, "arguments"))
        return OK;
    cJSON *messages = cJSON_Parse(probe);
    if (!messages)
        return E_NOMEM;
    struct jinja *plain = c->plain;
    if (c->tools) /* the one that sees tool calls */
        c->plain = c->tools;
    if (!probe_renders(c, messages, &as_python) || as_python) {
        c->arguments_text = true;
        c->arguments_text = probe_renders(c, messages, &as_python);
    }
    c->plain = plain;
    cJSON_Delete(messages);
    return OK;
}

static enum status compile(struct jinja **out, const char *text, const char *file, char *err,
                           size_t err_size)
{
    char why[256] = "";
    enum status s = jinja_compile(out, text, strlen(text), why, sizeof(why));
    if (s == OK)
        return OK;
    (void)snprintf(err, err_size, "%s: %s", file ? file : "built-in", why);
    return s == E_INVALID ? E_UNSUPPORTED : s;
}

static enum status use_source(struct chat *c, const struct chat_source *s, const char *override,
                              char *err, size_t err_size)
{
    const char *text = s->plain;
    if (!text) {
        text = chat_plain_lines;
        /* Where a plain prompt gets no BOS, neither do these lines. */
        if (tokenizer_bos(c->t) < 0)
            c->mark[0][0] = '\0';
    }
    if (s->file && text == s->plain)
        (void)snprintf(c->origin, sizeof(c->origin), "%s", s->file);
    else if (override)
        (void)snprintf(c->origin, sizeof(c->origin), "built-in %s", override);
    else
        (void)snprintf(c->origin, sizeof(c->origin), "none");
    enum status st = compile(&c->plain, text, s->file, err, err_size);
    if (st == OK && s->tools)
        st = compile(&c->tools, s->tools, s->file, err, err_size);
    return st ? st : learn_arguments(c);
}

enum status chat_open(struct chat **out, const char *path, const struct tokenizer *t,
                      const char *override, char *err, size_t err_size)
{
    struct chat_source source = {.file = NULL};
    struct chat *c = calloc(1, sizeof(*c));
    enum status s = c ? OK : E_NOMEM;
    (void)snprintf(err, err_size, "%s", status_text(E_NOMEM));
    if (s == OK) {
        c->t = t;
        s = chat_source_read(c, &source, path, !override, err, err_size);
    }
    if (s == OK && override)
        s = chat_source_override(&source, override, err, err_size);
    if (s == OK)
        s = use_source(c, &source, override, err, err_size);
    chat_source_free(&source);
    if (s) {
        chat_close(c);
        return s;
    }
    *err = '\0';
    *out = c;
    return OK;
}

void chat_close(struct chat *c)
{
    if (!c)
        return;
    jinja_close(c->plain);
    jinja_close(c->tools);
    free(c);
}

const char *chat_origin(const struct chat *c)
{
    return c->origin;
}

/* The two ends: a template compiled once, and one rendering of it. A rendering owns all of
 * its memory and gives back the text alone. */

#include "models/jinja_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/unicode.h"

static enum status report(const struct jmem *m, char *err, size_t err_size)
{
    (void)snprintf(err, err_size, "%s", m->err);
    /* One line whatever a template's own message holds. */
    for (char *p = err; err_size && *p; p++) {
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = ' ';
    }
    /* The message may have been cut within a character. */
    size_t n = strlen(err);
    while (n > 0 && !utf8_valid(err, n))
        err[--n] = '\0';
    return m->status;
}

/* CR LF and CR become LF, as in Jinja. */
static char *copy_source(const char *text, size_t *bytes)
{
    char *copy = malloc(*bytes + 1);
    size_t n = 0;
    for (size_t i = 0; copy && i < *bytes; i++) {
        if (text[i] == '\r' && i + 1 < *bytes && text[i + 1] == '\n')
            continue;
        copy[n++] = text[i] == '\r' ? '\n' : text[i];
    }
    *bytes = n;
    return copy;
}

static enum status compile(struct jinja *t, const char *text, size_t bytes)
{
    struct jtoken *tokens = NULL;
    t->mem.line = 1;
    if (bytes > JINJA_TEMPLATE_MAX)
        jinja_fail(&t->mem, "the template is larger than %d bytes", JINJA_TEMPLATE_MAX);
    else if (!utf8_valid(text, bytes) || memchr(text, '\0', bytes))
        jinja_fail(&t->mem, "the template is not UTF-8 text");
    if (t->mem.failed)
        return t->mem.status;
    t->source = copy_source(text, &bytes);
    if (!t->source)
        return E_NOMEM;
    t->source[bytes] = '\0';
    enum status s = jinja_lex(&t->mem, t->source, bytes, &tokens);
    if (s == OK)
        s = jinja_parse(t, tokens);
    free(tokens);
    return s;
}

enum status jinja_compile(struct jinja **out, const char *text, size_t bytes, char *err,
                          size_t err_size)
{
    struct jinja *t = calloc(1, sizeof(*t));
    enum status s = t ? compile(t, text, bytes) : E_NOMEM;
    if (s == OK) {
        *out = t;
        return OK;
    }
    (void)snprintf(err, err_size, "%s", status_text(s));
    if (t && t->mem.failed)
        (void)report(&t->mem, err, err_size);
    jinja_close(t);
    return s;
}

void jinja_close(struct jinja *t)
{
    if (!t)
        return;
    jmem_free(&t->mem);
    free(t->name);
    free(t->source);
    free(t);
}

static const struct jstr *find(const struct jinja *t, const char *name)
{
    for (size_t i = 0; i < t->n_names; i++) {
        if (jstr_is(t->name[i], name))
            return t->name[i];
    }
    return NULL;
}

bool jinja_mentions_text(const struct jinja *t, const char *text)
{
    return strstr(t->source, text) != NULL;
}

/* --- rendering --- */

static void define(struct jrun *r, const char *name, struct jval v)
{
    jframe_set(r, r->frame, find(r->t, name), v);
}

/* A role that a client named in one of the words a template expects is as good as the
 * template's own text. */
static void trust_roles(struct jrun *r, struct jval list, const char *const *words)
{
    for (size_t i = 0; words && list.kind == J_LIST && i < list.list->n; i++) {
        struct jval one = list.list->v[i];
        struct jval *role = one.kind == J_DICT ? (struct jval *)jdict_text(one.dict, "role") : NULL;
        for (const char *const *w = words; role && role->kind == J_STRING && *w; w++) {
            if (jstr_is(role->s, *w)) {
                *role = jval_string(jstr_new(&r->mem, role->s->p, role->s->n, true));
                break;
            }
        }
    }
}

static void define_all(struct jrun *r, const struct jinja_input *in)
{
    const cJSON *item;
    jinja_define_globals(r);
    define(r, "add_generation_prompt", jval_bool(in->add_generation_prompt));
    for (size_t i = 0; i < in->n_vars && !jrun_failed(r); i++) {
        const struct jinja_var *v = &in->var[i];
        struct jval value = jval_none();
        if (!find(r->t, v->name))
            continue;
        if (v->json)
            value = jinja_from_json(r, v->json, STRICT_DEPTH_MAX);
        else if (v->text)
            value = jval_string(jstr_new(&r->mem, v->text, strlen(v->text), true));
        trust_roles(r, value, in->roles);
        define(r, v->name, value);
    }
    cJSON_ArrayForEach(item, in->more)
    {
        if (item->string && jrun_pay(r, 1) && find(r->t, item->string))
            define(r, item->string, jinja_from_json(r, item, STRICT_DEPTH_MAX));
    }
}

/* The output with its ranges, in memory of the caller's. */
static enum status take_text(const struct jstr *s, struct jinja_text *out)
{
    size_t n = 0;
    uint8_t before = 0;
    for (size_t i = 0; i < s->n; i++) {
        uint8_t now = s->mark ? s->mark[i] : s->trusted;
        n += now && !before;
        before = now;
    }
    *out = (struct jinja_text){.bytes = s->n, .text = malloc(s->n + 1)};
    out->trusted = malloc((n + 1) * sizeof(*out->trusted));
    if (!out->text || !out->trusted) {
        jinja_text_free(out);
        return E_NOMEM;
    }
    if (s->n)
        memcpy(out->text, s->p, s->n);
    out->text[s->n] = '\0';
    before = 0;
    for (size_t i = 0; i < s->n; i++) {
        uint8_t now = s->mark ? s->mark[i] : s->trusted;
        if (now && !before)
            out->trusted[out->n_trusted++].begin = i;
        if (now)
            out->trusted[out->n_trusted - 1].end = i + 1;
        before = now;
    }
    return OK;
}

enum status jinja_render(const struct jinja *t, const struct jinja_input *in,
                         struct jinja_text *out, char *err, size_t err_size)
{
    struct jrun r = {.t = t, .now = in->now};
    struct jbuf b = {.mem = &r.mem};
    r.mem.line = 1;
    r.out = &b;
    r.frame = jframe_push(&r, NULL);
    if (r.frame)
        define_all(&r, in);
    r.frame = jframe_push(&r, r.frame);
    jinja_exec(&r, t->body);
    enum status s = OK;
    if (r.mem.failed)
        s = report(&r.mem, err, err_size);
    else if (take_text(jbuf_done(&b), out) != OK)
        s = E_NOMEM;
    jmem_free(&r.mem);
    return s;
}

void jinja_text_free(struct jinja_text *text)
{
    free(text->text);
    free(text->trusted);
    *text = (struct jinja_text){.bytes = 0};
}

/* Memory of one compilation or rendering, given back at once, and strings that know where
 * their bytes come from. Invariant: mark NULL means that all bytes of a string have one
 * origin; a buffer keeps marks for every byte and drops them when they are all the same. */

#include "models/jinja_priv.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 32 << 10, CHUNK_ALIGN = 16, BUF_FIRST = 64 };

struct jchunk {
    struct jchunk *next;
    size_t max;
    size_t n;
    size_t pad; /* keeps data aligned */
    char data[];
};

void jinja_fail(struct jmem *m, const char *fmt, ...)
{
    if (m->failed)
        return;
    m->failed = true;
    m->status = E_INVALID;
    int n = snprintf(m->err, sizeof(m->err), "chat template, line %u: ", m->line);
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(m->err + n, sizeof(m->err) - (size_t)n, fmt, ap);
    va_end(ap);
}

static struct jchunk *grow(struct jmem *m, size_t bytes)
{
    size_t max = bytes > CHUNK_BYTES / 4 ? bytes : CHUNK_BYTES;
    if (max > JINJA_MEMORY_MAX - m->used) {
        jinja_fail(m, "needs more than %d MiB of memory", JINJA_MEMORY_MAX >> 20);
        return NULL;
    }
    struct jchunk *c = calloc(1, sizeof(*c) + max);
    if (!c) {
        jinja_fail(m, "out of memory");
        m->status = E_NOMEM;
        return NULL;
    }
    m->used += max;
    c->max = max;
    /* A large one must not hide the room that is left in the current one. */
    if (max > CHUNK_BYTES && m->chunk) {
        c->next = m->chunk->next;
        m->chunk->next = c;
    } else {
        c->next = m->chunk;
        m->chunk = c;
    }
    return c;
}

void *jmem_alloc(struct jmem *m, size_t bytes)
{
    if (m->failed)
        return NULL;
    if (bytes > JINJA_MEMORY_MAX) {
        jinja_fail(m, "needs more than %d MiB of memory", JINJA_MEMORY_MAX >> 20);
        return NULL;
    }
    size_t want = (bytes + CHUNK_ALIGN - 1) / CHUNK_ALIGN * CHUNK_ALIGN;
    struct jchunk *c = m->chunk;
    if (!c || c->max - c->n < want)
        c = grow(m, want);
    if (!c)
        return NULL;
    void *p = c->data + c->n;
    c->n += want;
    return p;
}

void jmem_free(struct jmem *m)
{
    while (m->chunk) {
        struct jchunk *c = m->chunk;
        m->chunk = c->next;
        free(c);
    }
}

/* --- buffers --- */

static bool reserve(struct jbuf *b, size_t more)
{
    if (b->mem->failed)
        return false;
    if (more <= b->max - b->n)
        return true;
    if (more > JINJA_MEMORY_MAX) {
        jinja_fail(b->mem, "needs more than %d MiB of memory", JINJA_MEMORY_MAX >> 20);
        return false;
    }
    size_t max = (b->n + more) * 2;
    if (max < BUF_FIRST)
        max = BUF_FIRST;
    char *p = jmem_alloc(b->mem, max);
    uint8_t *mark = jmem_alloc(b->mem, max);
    if (!p || !mark)
        return false;
    if (b->n) {
        memcpy(p, b->p, b->n);
        memcpy(mark, b->mark, b->n);
    }
    b->p = p;
    b->mark = mark;
    b->max = max;
    return true;
}

void jbuf_add(struct jbuf *b, const char *p, size_t n, bool trusted)
{
    if (n == 0 || !reserve(b, n))
        return;
    memcpy(b->p + b->n, p, n);
    memset(b->mark + b->n, trusted, n);
    b->some[trusted] = true;
    b->n += n;
}

void jbuf_text(struct jbuf *b, const char *text)
{
    jbuf_add(b, text, strlen(text), false);
}

void jbuf_slice(struct jbuf *b, const struct jstr *s, size_t from, size_t to)
{
    if (from >= to)
        return;
    if (!s->mark) {
        jbuf_add(b, s->p + from, to - from, s->trusted);
        return;
    }
    if (!reserve(b, to - from))
        return;
    memcpy(b->p + b->n, s->p + from, to - from);
    memcpy(b->mark + b->n, s->mark + from, to - from);
    for (size_t i = from; i < to && !(b->some[0] && b->some[1]); i++)
        b->some[s->mark[i]] = true;
    b->n += to - from;
}

void jbuf_str(struct jbuf *b, const struct jstr *s)
{
    jbuf_slice(b, s, 0, s->n);
}

static const struct jstr empty = {.p = "", .trusted = true};

const struct jstr *jbuf_done(struct jbuf *b)
{
    struct jstr *s = b->n ? jmem_alloc(b->mem, sizeof(*s)) : NULL;
    if (!s)
        return &empty;
    *s = (struct jstr){.p = b->p, .n = b->n, .trusted = !b->some[0]};
    if (b->some[0] && b->some[1])
        s->mark = b->mark;
    return s;
}

/* --- strings --- */

const struct jstr *jstr_new(struct jmem *m, const char *p, size_t n, bool trusted)
{
    struct jstr *s = n ? jmem_alloc(m, sizeof(*s)) : NULL;
    if (!s)
        return &empty;
    *s = (struct jstr){.p = p, .n = n, .trusted = trusted};
    return s;
}

const struct jstr *jstr_slice(struct jmem *m, const struct jstr *s, size_t from, size_t to)
{
    if (from >= to)
        return &empty;
    struct jstr *out = jmem_alloc(m, sizeof(*out));
    if (!out)
        return &empty;
    *out = *s;
    out->p = s->p + from;
    out->mark = s->mark ? s->mark + from : NULL;
    out->n = to - from;
    return out;
}

bool jstr_is(const struct jstr *s, const char *text)
{
    return s->n == strlen(text) && memcmp(s->p, text, s->n) == 0;
}

bool jstr_same(const struct jstr *a, const struct jstr *b)
{
    return a == b || (a->n == b->n && memcmp(a->p, b->p, a->n) == 0);
}

static bool begins_char(char c)
{
    return ((unsigned char)c & 0xc0) != 0x80;
}

size_t jstr_length(const struct jstr *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++)
        n += begins_char(s->p[i]);
    return n;
}

size_t jstr_offset(const struct jstr *s, size_t chars)
{
    size_t at = 0;
    while (at < s->n && chars > 0) {
        at++;
        while (at < s->n && !begins_char(s->p[at]))
            at++;
        chars--;
    }
    return at;
}

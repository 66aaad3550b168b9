/* Values as Python has them: truth, equality, order, and how they print. Nothing here
 * changes a value once it has been handed out, except namespaces. Nested values are walked
 * with the depth counter of the rendering, since a namespace can hold itself. */

#include "models/jinja_priv.h"
#include "models/unicode.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct jval jval_none(void)
{
    return (struct jval){.kind = J_NONE};
}

struct jval jval_bool(bool b)
{
    return (struct jval){.kind = J_BOOL, .b = b};
}

struct jval jval_int(int64_t i)
{
    return (struct jval){.kind = J_INT, .i = i};
}

struct jval jval_float(double f)
{
    return (struct jval){.kind = J_FLOAT, .f = f};
}

struct jval jval_string(const struct jstr *s)
{
    return (struct jval){.kind = J_STRING, .s = s};
}

struct jval jval_undefined(const struct jstr *name)
{
    return (struct jval){.kind = J_UNDEFINED, .s = name};
}

struct jval jval_text(struct jrun *r, const char *text)
{
    return jval_string(jstr_new(&r->mem, text, strlen(text), false));
}

bool jval_is_sequence(struct jval v)
{
    return v.kind == J_LIST || v.kind == J_TUPLE;
}

bool jval_is_number(struct jval v)
{
    return v.kind == J_BOOL || v.kind == J_INT || v.kind == J_FLOAT;
}

double jval_number(struct jval v)
{
    if (v.kind == J_FLOAT)
        return v.f;
    return v.kind == J_BOOL ? (double)v.b : (double)v.i;
}

const char *jval_type(struct jval v)
{
    static const char *const name[] = {
        [J_ABSENT] = "nothing",
        [J_UNDEFINED] = "Undefined",
        [J_NONE] = "NoneType",
        [J_BOOL] = "bool",
        [J_INT] = "int",
        [J_FLOAT] = "float",
        [J_STRING] = "str",
        [J_LIST] = "list",
        [J_TUPLE] = "tuple",
        [J_DICT] = "dict",
        [J_NAMESPACE] = "Namespace",
        [J_LOOP] = "LoopContext",
        [J_FUNCTION] = "function",
    };
    return name[v.kind];
}

bool jval_true(struct jval v)
{
    switch (v.kind) {
    case J_ABSENT:
    case J_UNDEFINED:
    case J_NONE:
        return false;
    case J_BOOL:
        return v.b;
    case J_INT:
        return v.i != 0;
    case J_FLOAT:
        return v.f != 0;
    case J_STRING:
        return v.s->n > 0;
    case J_LIST:
    case J_TUPLE:
        return v.list->n > 0;
    case J_DICT:
        return v.dict->n > 0;
    case J_NAMESPACE:
    case J_LOOP:
    case J_FUNCTION:
        break;
    }
    return true;
}

/* --- equality and order --- */

static bool lists_equal(struct jrun *r, const struct jlist *a, const struct jlist *b)
{
    if (a->n != b->n || !jrun_enter(r))
        return false;
    bool same = true;
    for (size_t i = 0; same && i < a->n; i++)
        same = jval_equal(r, a->v[i], b->v[i]);
    jrun_leave(r);
    return same;
}

static bool dicts_equal(struct jrun *r, const struct jdict *a, const struct jdict *b)
{
    if (a->n != b->n || !jrun_enter(r))
        return false;
    bool same = true;
    for (size_t i = 0; same && i < a->n; i++) {
        const struct jval *other = jdict_get(r, b, a->e[i].key);
        same = other && jval_equal(r, a->e[i].value, *other);
    }
    jrun_leave(r);
    return same;
}

static bool numbers_equal(struct jval a, struct jval b)
{
    if (a.kind == J_INT && b.kind == J_INT)
        return a.i == b.i;
    return jval_number(a) == jval_number(b);
}

bool jval_equal(struct jrun *r, struct jval a, struct jval b)
{
    if (!jrun_pay(r, 1))
        return false;
    if (jval_is_number(a) && jval_is_number(b))
        return numbers_equal(a, b);
    if (a.kind != b.kind)
        return false;
    switch (a.kind) {
    case J_STRING:
        return a.s->n == b.s->n && jrun_pay_bytes(r, a.s->n) && jstr_same(a.s, b.s);
    case J_LIST:
    case J_TUPLE:
        return lists_equal(r, a.list, b.list);
    case J_DICT:
        return dicts_equal(r, a.dict, b.dict);
    case J_NAMESPACE:
        return a.dict == b.dict;
    case J_LOOP:
        return a.loop == b.loop;
    case J_FUNCTION:
        return a.fn == b.fn;
    default:
        return true; /* none, undefined */
    }
}

static int sign(double a, double b)
{
    return (a > b) - (a < b);
}

int jval_compare(struct jrun *r, struct jval a, struct jval b)
{
    if (!jrun_pay(r, 1))
        return 0;
    if (a.kind == J_INT && b.kind == J_INT)
        return (a.i > b.i) - (a.i < b.i);
    if (jval_is_number(a) && jval_is_number(b))
        return sign(jval_number(a), jval_number(b));
    if (a.kind == J_STRING && b.kind == J_STRING) {
        size_t n = a.s->n < b.s->n ? a.s->n : b.s->n;
        int c = jrun_pay_bytes(r, n) ? memcmp(a.s->p, b.s->p, n) : 0;
        return c ? c : (a.s->n > b.s->n) - (a.s->n < b.s->n);
    }
    if (jval_is_sequence(a) && a.kind == b.kind && jrun_enter(r)) {
        int c = 0;
        for (size_t i = 0; c == 0 && i < a.list->n && i < b.list->n; i++)
            c = jval_equal(r, a.list->v[i], b.list->v[i])
                    ? 0
                    : jval_compare(r, a.list->v[i], b.list->v[i]);
        jrun_leave(r);
        return c ? c : (a.list->n > b.list->n) - (a.list->n < b.list->n);
    }
    if (a.kind == J_UNDEFINED || b.kind == J_UNDEFINED) {
        const struct jstr *s = a.kind == J_UNDEFINED ? a.s : b.s;
        jinja_fail(&r->mem, "'%.*s' is undefined", s ? (int)s->n : 0, s ? s->p : "");
    }
    jinja_fail(&r->mem, "'%s' and '%s' have no order", jval_type(a), jval_type(b));
    return 0;
}

/* --- text --- */

/* The shortest digits that read back as the same number, in Python's form. */
void jinja_float_text(char out[JINJA_FLOAT_BYTES], double f)
{
    char e[JINJA_FLOAT_BYTES];
    if (isnan(f) || isinf(f)) {
        (void)snprintf(out, JINJA_FLOAT_BYTES, "%s", isnan(f) ? "nan" : f > 0 ? "inf" : "-inf");
        return;
    }
    int digits = 0;
    do
        (void)snprintf(e, sizeof(e), "%.*e", digits++, f);
    while (digits < 17 && strtod(e, NULL) != f);
    const char *at = strchr(e, 'e');
    int exponent = at ? (int)strtol(at + 1, NULL, 10) : 0;
    if (exponent >= -4 && exponent < 16) {
        int after = digits - 1 - exponent;
        (void)snprintf(out, JINJA_FLOAT_BYTES, "%.*f", after > 1 ? after : 1, f);
        return;
    }
    /* C and Python agree on at least two digits of exponent. */
    (void)snprintf(out, JINJA_FLOAT_BYTES, "%s", e);
}

/* As Python: single quotes unless they would have to be escaped and double ones not. */
static void repr_string(struct jrun *r, struct jbuf *b, const struct jstr *s)
{
    char quote = memchr(s->p, '\'', s->n) && !memchr(s->p, '"', s->n) ? '"' : '\'';
    size_t from = 0;
    if (!jrun_pay_bytes(r, s->n))
        return;
    jbuf_add(b, &quote, 1, false);
    for (size_t i = 0; i < s->n; i++) {
        char hex[8];
        unsigned char c = (unsigned char)s->p[i];
        if (c == '\n' || c == '\r' || c == '\t')
            (void)snprintf(hex, sizeof(hex), "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        else if (c < ' ' || c == 0x7f)
            (void)snprintf(hex, sizeof(hex), "\\x%02x", c);
        else if (c == '\\' || s->p[i] == quote)
            (void)snprintf(hex, sizeof(hex), "\\%c", c);
        else
            continue;
        jbuf_slice(b, s, from, i);
        jbuf_text(b, hex);
        from = i + 1;
    }
    jbuf_slice(b, s, from, s->n);
    jbuf_add(b, &quote, 1, false);
}

static void repr_list(struct jrun *r, struct jbuf *b, struct jval v)
{
    bool tuple = v.kind == J_TUPLE;
    jbuf_text(b, tuple ? "(" : "[");
    for (size_t i = 0; i < v.list->n && !jrun_failed(r); i++) {
        if (i)
            jbuf_text(b, ", ");
        jval_repr(r, b, v.list->v[i]);
    }
    jbuf_text(b, tuple ? (v.list->n == 1 ? ",)" : ")") : "]");
}

static void repr_dict(struct jrun *r, struct jbuf *b, const struct jdict *d)
{
    jbuf_text(b, "{");
    for (size_t i = 0; i < d->n && !jrun_failed(r); i++) {
        if (i)
            jbuf_text(b, ", ");
        jval_repr(r, b, d->e[i].key);
        jbuf_text(b, ": ");
        jval_repr(r, b, d->e[i].value);
    }
    jbuf_text(b, "}");
}

void jval_repr(struct jrun *r, struct jbuf *b, struct jval v)
{
    char text[64];
    if (!jrun_pay(r, 1) || !jrun_enter(r))
        return;
    switch (v.kind) {
    case J_STRING:
        repr_string(r, b, v.s);
        break;
    case J_LIST:
    case J_TUPLE:
        repr_list(r, b, v);
        break;
    case J_NAMESPACE:
    case J_DICT:
        jbuf_text(b, v.kind == J_DICT ? "" : "<Namespace ");
        repr_dict(r, b, v.dict);
        jbuf_text(b, v.kind == J_DICT ? "" : ">");
        break;
    case J_INT:
        (void)snprintf(text, sizeof(text), "%lld", (long long)v.i);
        jbuf_text(b, text);
        break;
    case J_FLOAT:
        jinja_float_text(text, v.f);
        jbuf_text(b, text);
        break;
    case J_BOOL:
        jbuf_text(b, v.b ? "True" : "False");
        break;
    case J_NONE:
        jbuf_text(b, "None");
        break;
    case J_LOOP:
        (void)snprintf(text, sizeof(text), "<LoopContext %zu/%zu>", v.loop->at + 1,
                       v.loop->items->n);
        jbuf_text(b, text);
        break;
    case J_FUNCTION:
        jbuf_text(b, "<function>");
        break;
    case J_ABSENT:
    case J_UNDEFINED:
        jbuf_text(b, "Undefined");
        break;
    }
    jrun_leave(r);
}

void jval_print(struct jrun *r, struct jbuf *b, struct jval v)
{
    if (v.kind == J_STRING && jrun_pay_bytes(r, v.s->n))
        jbuf_str(b, v.s);
    else if (v.kind != J_UNDEFINED && v.kind != J_STRING)
        jval_repr(r, b, v);
}

const struct jstr *jval_str(struct jrun *r, struct jval v)
{
    if (v.kind == J_STRING)
        return v.s;
    struct jbuf b = {.mem = &r->mem};
    jval_print(r, &b, v);
    return jbuf_done(&b);
}

/* --- lists and dictionaries --- */

struct jlist *jlist_new(struct jrun *r, size_t n)
{
    size_t bytes;
    struct jlist *l = jmem_alloc(&r->mem, sizeof(*l));
    if (!l || !jrun_pay(r, n / 4 + 1))
        return NULL;
    l->n = n;
    if (!size_mul(n, sizeof(*l->v), &bytes))
        bytes = SIZE_MAX;
    l->v = n ? jmem_alloc(&r->mem, bytes) : NULL;
    if (n && !l->v)
        return NULL;
    for (size_t i = 0; i < n; i++)
        l->v[i].kind = J_NONE;
    return l;
}

struct jval jval_list(struct jlist *l)
{
    if (!l)
        return jval_undefined(NULL);
    return (struct jval){.kind = J_LIST, .list = l};
}

struct jval jval_tuple2(struct jrun *r, struct jval a, struct jval b)
{
    struct jlist *l = jlist_new(r, 2);
    if (!l)
        return jval_undefined(NULL);
    l->v[0] = a;
    l->v[1] = b;
    return (struct jval){.kind = J_TUPLE, .list = l};
}

static const struct jlist *characters(struct jrun *r, const struct jstr *s)
{
    struct jlist *l = jrun_pay_bytes(r, s->n) ? jlist_new(r, jstr_length(s)) : NULL;
    size_t at = 0;
    for (size_t i = 0; l && i < l->n; i++) {
        size_t next = at + utf8_length(s->p + at, s->p + s->n);
        l->v[i] = jval_string(jstr_slice(&r->mem, s, at, next));
        at = next;
    }
    return l;
}

const struct jlist *jval_iterate(struct jrun *r, struct jval v)
{
    struct jlist *l = NULL;
    switch (v.kind) {
    case J_LIST:
    case J_TUPLE:
        return v.list;
    case J_STRING:
        return characters(r, v.s);
    case J_UNDEFINED:
        return jlist_new(r, 0);
    case J_DICT:
        l = jlist_new(r, v.dict->n);
        for (size_t i = 0; l && i < l->n; i++)
            l->v[i] = v.dict->e[i].key;
        return l;
    default:
        jinja_fail(&r->mem, "'%s' object is not iterable", jval_type(v));
        return NULL;
    }
}

struct jdict *jdict_new(struct jrun *r, size_t max)
{
    size_t bytes;
    struct jdict *d = jmem_alloc(&r->mem, sizeof(*d));
    if (!d || !jrun_pay(r, max / 4 + 1) || !size_mul(max, sizeof(*d->e), &bytes))
        return NULL;
    d->max = max;
    d->e = max ? jmem_alloc(&r->mem, bytes) : NULL;
    return d->e || !max ? d : NULL;
}

const struct jval *jdict_get(struct jrun *r, const struct jdict *d, struct jval key)
{
    if (!jrun_pay(r, d->n / 16 + 1))
        return NULL;
    for (size_t i = 0; i < d->n; i++) {
        struct jval k = d->e[i].key;
        bool same = k.kind == J_STRING && key.kind == J_STRING   ? jstr_same(k.s, key.s)
                    : k.kind == J_STRING || key.kind == J_STRING ? false
                                                                 : jval_equal(r, k, key);
        if (same)
            return &d->e[i].value;
    }
    return NULL;
}

const struct jval *jdict_text(const struct jdict *d, const char *key)
{
    for (size_t i = 0; i < d->n; i++) {
        if (d->e[i].key.kind == J_STRING && jstr_is(d->e[i].key.s, key))
            return &d->e[i].value;
    }
    return NULL;
}

void jdict_set(struct jrun *r, struct jdict *d, struct jval key, struct jval value)
{
    struct jval *old = (struct jval *)jdict_get(r, d, key);
    if (jrun_failed(r))
        return;
    if (key.kind == J_LIST || key.kind == J_DICT || key.kind == J_UNDEFINED) {
        jinja_fail(&r->mem, "'%s' cannot be a key", jval_type(key));
        return;
    }
    if (old) {
        *old = value;
        return;
    }
    if (d->n == d->max) {
        size_t max = d->max * 2 + 4;
        struct jentry *e = jmem_alloc(&r->mem, max * sizeof(*e));
        if (!e)
            return;
        if (d->n)
            memcpy(e, d->e, d->n * sizeof(*e));
        d->e = e;
        d->max = max;
    }
    d->e[d->n++] = (struct jentry){key, value};
}

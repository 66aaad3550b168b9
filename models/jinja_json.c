/* JSON in and out: a parsed tree becomes values whose strings point into it, and tojson
 * writes what Python's json.dumps(ensure_ascii=False) writes, as chat templates expect. */

#include "models/jinja_priv.h"
#include "models/unicode.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* --- in --- */

static struct jval number(const cJSON *v)
{
    double f = v->valuedouble;
    /* Beyond that a double does not tell integers apart. */
    if (f == trunc(f) && fabs(f) <= 9007199254740992.0)
        return jval_int((int64_t)f);
    return jval_float(f);
}

static struct jval text(struct jrun *r, const char *p)
{
    return jval_string(jstr_new(&r->mem, p, strlen(p), false));
}

static struct jval list(struct jrun *r, const cJSON *v, int32_t depth)
{
    size_t n = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, v) n++;
    struct jlist *l = jlist_new(r, n);
    n = 0;
    cJSON_ArrayForEach(item, v)
    {
        if (!l || jrun_failed(r))
            break;
        l->v[n++] = jinja_from_json(r, item, depth - 1);
    }
    return jval_list(l);
}

/* Members are unique in what strict_json() accepted, so that they need no look-up. */
static struct jval dict(struct jrun *r, const cJSON *v, int32_t depth)
{
    size_t n = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, v) n++;
    struct jdict *d = jdict_new(r, n);
    cJSON_ArrayForEach(item, v)
    {
        if (!d || jrun_failed(r))
            break;
        d->e[d->n++] = (struct jentry){text(r, item->string ? item->string : ""),
                                       jinja_from_json(r, item, depth - 1)};
    }
    return d ? (struct jval){.kind = J_DICT, .dict = d} : jval_undefined(NULL);
}

struct jval jinja_from_json(struct jrun *r, const cJSON *v, int32_t depth)
{
    if (!jrun_pay(r, 1))
        return jval_none();
    if (cJSON_IsString(v))
        return text(r, v->valuestring);
    if (cJSON_IsNumber(v))
        return number(v);
    if (cJSON_IsBool(v))
        return jval_bool(cJSON_IsTrue(v));
    if (depth <= 0 && !cJSON_IsNull(v)) {
        jinja_fail(&r->mem, "JSON nested too deeply");
        return jval_none();
    }
    if (cJSON_IsArray(v))
        return list(r, v, depth);
    return cJSON_IsObject(v) ? dict(r, v, depth) : jval_none();
}

/* --- out --- */

struct writer {
    struct jrun *r;
    struct jbuf b;
    bool ascii;
    bool sort;
    const struct jstr *indent; /* of one level; NULL: all in one line */
    const struct jstr *comma;
    const struct jstr *colon;
};

static void put_escape(struct writer *w, uint32_t c)
{
    static const char letters[] = "\"\"\\\\\nn\rr\tt\bb\ff";
    char hex[16];
    for (const char *l = letters; *l; l += 2) {
        if (c == (unsigned char)*l) {
            (void)snprintf(hex, sizeof(hex), "\\%c", l[1]);
            jbuf_text(&w->b, hex);
            return;
        }
    }
    if (c >= 0x10000)
        (void)snprintf(hex, sizeof(hex), "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10),
                       0xdc00 + ((c - 0x10000) & 0x3ff));
    else
        (void)snprintf(hex, sizeof(hex), "\\u%04x", c);
    jbuf_text(&w->b, hex);
}

static void put_string(struct writer *w, const struct jstr *s)
{
    const char *end = s->p + s->n;
    const char *from = s->p;
    if (!jrun_pay_bytes(w->r, s->n))
        return;
    jbuf_text(&w->b, "\"");
    for (const char *p = s->p; p < end && !jrun_failed(w->r);) {
        const char *at = p;
        uint32_t c = utf8_next(&p);
        if (c >= ' ' && c != '"' && c != '\\' && !(w->ascii && c >= 0x7f + 1u))
            continue;
        jbuf_slice(&w->b, s, (size_t)(from - s->p), (size_t)(at - s->p));
        put_escape(w, c);
        from = p;
    }
    jbuf_slice(&w->b, s, (size_t)(from - s->p), s->n);
    jbuf_text(&w->b, "\"");
}

static void put_line(struct writer *w, int32_t level)
{
    if (!w->indent)
        return;
    jbuf_text(&w->b, "\n");
    for (int32_t i = 0; i < level && jrun_pay_bytes(w->r, w->indent->n); i++)
        jbuf_str(&w->b, w->indent);
}

static void put_value(struct writer *w, struct jval v, int32_t level);

static void put_list(struct writer *w, const struct jlist *l, int32_t level)
{
    jbuf_text(&w->b, "[");
    for (size_t i = 0; i < l->n && !jrun_failed(w->r); i++) {
        if (i)
            jbuf_str(&w->b, w->comma);
        put_line(w, level + 1);
        put_value(w, l->v[i], level + 1);
    }
    if (l->n)
        put_line(w, level);
    jbuf_text(&w->b, "]");
}

static void put_key(struct writer *w, struct jval key)
{
    char text_of[JINJA_FLOAT_BYTES];
    if (key.kind == J_STRING) {
        put_string(w, key.s);
        return;
    }
    jbuf_text(&w->b, "\"");
    if (key.kind == J_INT || key.kind == J_FLOAT) {
        jval_repr(w->r, &w->b, key);
    } else if (key.kind == J_BOOL || key.kind == J_NONE) {
        (void)snprintf(text_of, sizeof(text_of), "%s",
                       key.kind == J_NONE ? "null"
                       : key.b            ? "true"
                                          : "false");
        jbuf_text(&w->b, text_of);
    } else {
        jinja_fail(&w->r->mem, "keys must be str, int, float, bool or None, not %s",
                   jval_type(key));
    }
    jbuf_text(&w->b, "\"");
}

/* Insertion into an order, entry by entry: objects are small. */
static const struct jdict *sorted(struct writer *w, const struct jdict *d)
{
    struct jdict *s = jdict_new(w->r, d->n);
    for (size_t i = 0; s && i < d->n; i++) {
        size_t at = s->n++;
        while (at > 0 && !jrun_failed(w->r) &&
               jval_compare(w->r, d->e[i].key, s->e[at - 1].key) < 0) {
            s->e[at] = s->e[at - 1];
            at--;
        }
        s->e[at] = d->e[i];
    }
    return s ? s : d;
}

static void put_dict(struct writer *w, const struct jdict *d, int32_t level)
{
    if (w->sort)
        d = sorted(w, d);
    jbuf_text(&w->b, "{");
    for (size_t i = 0; i < d->n && !jrun_failed(w->r); i++) {
        if (i)
            jbuf_str(&w->b, w->comma);
        put_line(w, level + 1);
        put_key(w, d->e[i].key);
        jbuf_str(&w->b, w->colon);
        put_value(w, d->e[i].value, level + 1);
    }
    if (d->n)
        put_line(w, level);
    jbuf_text(&w->b, "}");
}

static void put_float(struct writer *w, double f)
{
    char digits[JINJA_FLOAT_BYTES];
    jinja_float_text(digits, f);
    jbuf_text(&w->b, isnan(f) ? "NaN" : isinf(f) ? (f > 0 ? "Infinity" : "-Infinity") : digits);
}

static void put_value(struct writer *w, struct jval v, int32_t level)
{
    if (!jrun_pay(w->r, 1) || !jrun_enter(w->r))
        return;
    switch (v.kind) {
    case J_NONE:
        jbuf_text(&w->b, "null");
        break;
    case J_BOOL:
        jbuf_text(&w->b, v.b ? "true" : "false");
        break;
    case J_INT:
        jval_repr(w->r, &w->b, v);
        break;
    case J_FLOAT:
        put_float(w, v.f);
        break;
    case J_STRING:
        put_string(w, v.s);
        break;
    case J_LIST:
    case J_TUPLE:
        put_list(w, v.list, level);
        break;
    case J_DICT:
        put_dict(w, v.dict, level);
        break;
    default:
        jinja_fail(&w->r->mem, "Object of type %s is not JSON serializable", jval_type(v));
    }
    jrun_leave(w->r);
}

static const struct jstr *spaces(struct jrun *r, int64_t n)
{
    struct jbuf b = {.mem = &r->mem};
    for (int64_t i = 0; i < n && jrun_pay(r, 1); i++)
        jbuf_text(&b, " ");
    return jbuf_done(&b);
}

/* tojson(ensure_ascii=false, indent=none, separators=none, sort_keys=false), as transformers
 * defines it and not as Jinja does, which escapes for HTML. */
struct jval jinja_tojson(struct jrun *r, struct jval self, const struct jargs *a)
{
    struct writer w = {.r = r, .b = {.mem = &r->mem}};
    struct jval indent = a->slot[1];
    struct jval separators = a->slot[2];
    w.ascii = jarg_bool(a, 0, false);
    w.sort = jarg_bool(a, 3, false);
    if (indent.kind == J_STRING)
        w.indent = indent.s;
    else if (indent.kind == J_INT)
        w.indent = spaces(r, indent.i);
    w.comma = jstr_new(&r->mem, ", ", w.indent ? 1 : 2, false);
    w.colon = jstr_new(&r->mem, ": ", 2, false);
    if (jval_is_sequence(separators) && separators.list->n == 2 &&
        separators.list->v[0].kind == J_STRING && separators.list->v[1].kind == J_STRING) {
        w.comma = separators.list->v[0].s;
        w.colon = separators.list->v[1].s;
    }
    put_value(&w, self, 0);
    return jval_string(jbuf_done(&w.b));
}

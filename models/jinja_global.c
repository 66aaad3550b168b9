/* Functions that every template can call. */

#include "models/jinja_priv.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { DATE_BYTES = 512 };

static struct jval g_range(struct jrun *r, struct jval self, const struct jargs *a)
{
    int64_t from = a->slot[1].kind == J_ABSENT ? 0 : jarg_int(r, a, 0, 0);
    int64_t to = jarg_int(r, a, a->slot[1].kind == J_ABSENT ? 0 : 1, 0);
    int64_t step = jarg_int(r, a, 2, 1);
    int64_t span;
    (void)self;
    if (step == 0)
        jinja_fail(&r->mem, "range() arg 3 must not be zero");
    if (jrun_failed(r) || __builtin_sub_overflow(to, from, &span) || step == INT64_MIN)
        return jval_list(jlist_new(r, 0));
    int64_t n = step > 0 ? span / step + (span % step > 0) : -(span / -step) + (span % step < 0);
    if (step < 0)
        n = span < 0 ? span / step + (span % step != 0) : 0;
    if (n > JINJA_RANGE_MAX) {
        jinja_fail(&r->mem, "range() is longer than %d", JINJA_RANGE_MAX);
        return jval_none();
    }
    struct jlist *l = jlist_new(r, n > 0 ? (size_t)n : 0);
    for (size_t i = 0; l && i < l->n; i++)
        l->v[i] = jval_int(from + (int64_t)i * step);
    return jval_list(l);
}

static struct jval make_dict(struct jrun *r, const struct jargs *a, enum jkind kind)
{
    struct jdict *d = jdict_new(r, a->n_kw);
    if (a->n > 1 || (a->n == 1 && a->pos[0].kind != J_DICT))
        jinja_fail(&r->mem, "dict() and namespace() take one mapping and names");
    for (size_t i = 0; d && a->n && i < a->pos[0].dict->n && !jrun_failed(r); i++)
        jdict_set(r, d, a->pos[0].dict->e[i].key, a->pos[0].dict->e[i].value);
    for (size_t i = 0; d && i < a->n_kw && !jrun_failed(r); i++)
        jdict_set(r, d, a->kw[i].key, a->kw[i].value);
    return d ? (struct jval){.kind = kind, .dict = d} : jval_undefined(NULL);
}

static struct jval g_dict(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)self;
    return make_dict(r, a, J_DICT);
}

static struct jval g_namespace(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)self;
    return make_dict(r, a, J_NAMESPACE);
}

static struct jval g_raise(struct jrun *r, struct jval self, const struct jargs *a)
{
    const struct jstr *s = jval_str(r, a->slot[0]);
    (void)self;
    jinja_fail(&r->mem, "%.*s", s->n > 200 ? 200 : (int)s->n, s->p);
    return jval_none();
}

/* The date in UTC and in English, whatever the machine's locale. */
struct jval jinja_strftime(struct jrun *r, struct jval self, const struct jargs *a)
{
    static const char *const day[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                      "Thursday", "Friday", "Saturday"};
    static const char *const month[] = {"January",   "February", "March",    "April",
                                        "May",       "June",     "July",     "August",
                                        "September", "October",  "November", "December"};
    const struct jstr *f = jarg_string(r, a, 0);
    struct jbuf b = {.mem = &r->mem};
    time_t now = (time_t)r->now;
    struct tm tm;
    (void)self;
    if (!f || !gmtime_r(&now, &tm) || tm.tm_mon < 0 || tm.tm_mon > 11 || tm.tm_wday < 0 ||
        tm.tm_wday > 6) {
        jinja_fail(&r->mem, "strftime_now() needs a format");
        return jval_none();
    }
    for (size_t i = 0; i < f->n && jrun_pay(r, 1); i++) {
        char text[DATE_BYTES] = "";
        char spec[] = {'%', i + 1 < f->n ? f->p[i + 1] : '\0', '\0', '\0'};
        if (f->p[i] != '%' || !spec[1]) {
            jbuf_slice(&b, f, i, i + 1);
            continue;
        }
        i++;
        if (spec[1] == '-' && i + 1 < f->n) /* %-d: without the leading zero */
            spec[2] = f->p[++i];
        switch (spec[1]) {
        case 'A':
        case 'a':
            jbuf_add(&b, day[tm.tm_wday], spec[1] == 'A' ? strlen(day[tm.tm_wday]) : 3, false);
            break;
        case 'B':
        case 'b':
        case 'h':
            jbuf_add(&b, month[tm.tm_mon], spec[1] == 'B' ? strlen(month[tm.tm_mon]) : 3, false);
            break;
        default:
            (void)strftime(text, sizeof(text), spec, &tm);
            jbuf_text(&b, text);
        }
    }
    return jval_string(jbuf_done(&b));
}

static const struct jbuiltin globals[] = {
    {"range", g_range, "start stop step"},      {"dict", g_dict, NULL},
    {"namespace", g_namespace, NULL},           {"raise_exception", g_raise, "message"},
    {"strftime_now", jinja_strftime, "format"},
};

void jinja_define_globals(struct jrun *r)
{
    for (size_t i = 0; i < ARRAY_LEN(globals); i++) {
        struct jfunction *f = jmem_alloc(&r->mem, sizeof(*f));
        if (!f)
            return;
        *f = (struct jfunction){.builtin = &globals[i]};
        for (size_t k = 0; k < r->t->n_names; k++) {
            if (jstr_is(r->t->name[k], globals[i].name))
                jframe_set(r, r->frame, r->t->name[k], (struct jval){.kind = J_FUNCTION, .fn = f});
        }
    }
}

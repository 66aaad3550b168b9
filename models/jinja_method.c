/* Methods of strings, dictionaries, loops and namespaces. As in the sandbox, what would
 * change a list or a dictionary is refused. */

#include "models/jinja_priv.h"
#include "models/unicode.h"

#include <string.h>

static const struct jstr *self_text(struct jval self)
{
    return self.s;
}

/* --- strings --- */

static struct jval m_upper(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)a;
    return jval_string(jstr_case(r, self_text(self), CASE_UPPER));
}

static struct jval m_lower(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)a;
    return jval_string(jstr_case(r, self_text(self), CASE_LOWER));
}

static struct jval m_title(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)a;
    return jval_string(jstr_case(r, self_text(self), CASE_TITLE));
}

static struct jval m_capitalize(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)a;
    return jval_string(jstr_case(r, self_text(self), CASE_CAPITAL));
}

static struct jval m_strip(struct jrun *r, struct jval self, const struct jargs *a)
{
    return jval_string(
        jstr_strip(r, self_text(self), jarg_string(r, a, 0), STRIP_LEFT | STRIP_RIGHT));
}

static struct jval m_lstrip(struct jrun *r, struct jval self, const struct jargs *a)
{
    return jval_string(jstr_strip(r, self_text(self), jarg_string(r, a, 0), STRIP_LEFT));
}

static struct jval m_rstrip(struct jrun *r, struct jval self, const struct jargs *a)
{
    return jval_string(jstr_strip(r, self_text(self), jarg_string(r, a, 0), STRIP_RIGHT));
}

static const struct jstr *need_string(struct jrun *r, const struct jargs *a, size_t i)
{
    const struct jstr *s = jarg_string(r, a, i);
    if (!s)
        jinja_fail(&r->mem, "an argument must be a string");
    return s ? s : jstr_new(&r->mem, "", 0, true);
}

static struct jval m_replace(struct jrun *r, struct jval self, const struct jargs *a)
{
    const struct jstr *old = need_string(r, a, 0);
    const struct jstr *new = need_string(r, a, 1);
    int64_t most = jarg_int(r, a, 2, -1);
    if (jrun_failed(r))
        return self;
    return jval_string(jstr_replace(r, self_text(self), old, new, most));
}

/* One string or a tuple of them; where says which end is looked at. */
static struct jval matches(struct jrun *r, const struct jstr *s, struct jval what, bool at_end)
{
    const struct jlist one = {.v = &what, .n = 1};
    const struct jlist *l = what.kind == J_TUPLE ? what.list : &one;
    for (size_t i = 0; i < l->n; i++) {
        const struct jstr *part = l->v[i].kind == J_STRING ? l->v[i].s : NULL;
        if (!part) {
            jinja_fail(&r->mem, "startswith and endswith need a string or a tuple of them");
            break;
        }
        if (part->n <= s->n && memcmp(s->p + (at_end ? s->n - part->n : 0), part->p, part->n) == 0)
            return jval_bool(true);
    }
    return jval_bool(false);
}

static struct jval m_startswith(struct jrun *r, struct jval self, const struct jargs *a)
{
    return matches(r, self.s, a->slot[0], false);
}

static struct jval m_endswith(struct jrun *r, struct jval self, const struct jargs *a)
{
    return matches(r, self.s, a->slot[0], true);
}

static size_t find_last(struct jrun *r, const struct jstr *s, const struct jstr *part, size_t to)
{
    /* Every place may compare all of the part. */
    if (part->n > to || !jrun_pay(r, (to / 64 + 1) * (part->n / 64 + 1)))
        return SIZE_MAX;
    for (size_t at = to - part->n + 1; at-- > 0;) {
        if (memcmp(s->p + at, part->p, part->n) == 0)
            return at;
    }
    return SIZE_MAX;
}

/* A byte as the index of its character. */
static struct jval char_index(const struct jstr *s, size_t at)
{
    struct jstr head = {.p = s->p, .n = at};
    return jval_int(at == SIZE_MAX ? -1 : (int64_t)jstr_length(&head));
}

static struct jval m_find(struct jrun *r, struct jval self, const struct jargs *a)
{
    const struct jstr *part = need_string(r, a, 0);
    int64_t from = jarg_int(r, a, 1, 0);
    if (!jrun_pay_bytes(r, self.s->n) || from < 0)
        return jval_int(-1);
    return char_index(self.s, jstr_find(self.s, part, jstr_offset(self.s, (size_t)from)));
}

static struct jval m_rfind(struct jrun *r, struct jval self, const struct jargs *a)
{
    const struct jstr *part = need_string(r, a, 0);
    if (!jrun_pay_bytes(r, self.s->n))
        return jval_int(-1);
    return char_index(self.s, find_last(r, self.s, part, self.s->n));
}

static struct jval m_index(struct jrun *r, struct jval self, const struct jargs *a)
{
    struct jval v = m_find(r, self, a);
    if (v.i < 0)
        jinja_fail(&r->mem, "substring not found");
    return v;
}

static struct jval m_count(struct jrun *r, struct jval self, const struct jargs *a)
{
    const struct jstr *part = need_string(r, a, 0);
    int64_t n = 0;
    if (!jrun_pay_bytes(r, self.s->n))
        return jval_int(0);
    if (part->n == 0)
        return jval_int((int64_t)jstr_length(self.s) + 1);
    for (size_t at = 0; (at = jstr_find(self.s, part, at)) != SIZE_MAX; at += part->n)
        n++;
    return jval_int(n);
}

static struct jval m_join(struct jrun *r, struct jval self, const struct jargs *a)
{
    const struct jlist *l = jval_iterate(r, a->slot[0]);
    struct jbuf b = {.mem = &r->mem};
    for (size_t i = 0; l && i < l->n && !jrun_failed(r); i++) {
        if (l->v[i].kind != J_STRING) {
            jinja_fail(&r->mem, "join: item %zu is %s instead of a string", i, jval_type(l->v[i]));
            break;
        }
        if (i)
            jbuf_str(&b, self.s);
        jval_print(r, &b, l->v[i]);
        (void)jrun_pay_bytes(r, self.s->n);
    }
    return jval_string(jbuf_done(&b));
}

/* --- split --- */

struct parts {
    struct jrun *r;
    struct jval *v; /* [max] */
    size_t n;
    size_t max;
};

static void add_part(struct parts *p, const struct jstr *s, size_t from, size_t to)
{
    if (!jrun_pay(p->r, 1))
        return;
    if (p->n == p->max) {
        size_t max = p->max * 2 + 8;
        struct jval *v = jmem_alloc(&p->r->mem, max * sizeof(*v));
        if (!v)
            return;
        if (p->n)
            memcpy(v, p->v, p->n * sizeof(*v));
        p->v = v;
        p->max = max;
    }
    p->v[p->n++] = jval_string(jstr_slice(&p->r->mem, s, from, to));
}

static struct jval take_parts(struct parts *p, bool backwards)
{
    struct jlist *l = jlist_new(p->r, p->n);
    for (size_t i = 0; l && i < p->n; i++)
        l->v[backwards ? p->n - 1 - i : i] = p->v[i];
    return jval_list(l);
}

static bool blank_at(const struct jstr *s, size_t at, size_t *next)
{
    const char *p = s->p + at;
    uint32_t c = utf8_next(&p);
    *next = (size_t)(p - s->p);
    return char_class(c) == CHAR_SPACE || (c >= 0x1c && c <= 0x1f);
}

static void split_blanks(struct parts *p, const struct jstr *s, int64_t most)
{
    size_t at = 0;
    size_t next;
    while (at < s->n) {
        while (at < s->n && blank_at(s, at, &next))
            at = next;
        size_t from = at;
        if (at >= s->n)
            return;
        if (most == 0) {
            add_part(p, s, from, s->n);
            return;
        }
        while (at < s->n && !blank_at(s, at, &next))
            at = next;
        add_part(p, s, from, at);
        most--;
    }
}

static struct jval m_split(struct jrun *r, struct jval self, const struct jargs *a)
{
    struct parts p = {.r = r};
    const struct jstr *sep = jarg_string(r, a, 0);
    int64_t most = jarg_int(r, a, 1, -1);
    size_t from = 0;
    most = most < 0 ? INT64_MAX : most;
    if (!jrun_pay_bytes(r, self.s->n))
        return self;
    if (!sep) {
        split_blanks(&p, self.s, most);
        return take_parts(&p, false);
    }
    if (sep->n == 0)
        jinja_fail(&r->mem, "empty separator");
    for (size_t at; most > 0 && !jrun_failed(r); most--, from = at + sep->n) {
        at = jstr_find(self.s, sep, from);
        if (at == SIZE_MAX)
            break;
        add_part(&p, self.s, from, at);
    }
    add_part(&p, self.s, from, self.s->n);
    return take_parts(&p, false);
}

static struct jval m_rsplit(struct jrun *r, struct jval self, const struct jargs *a)
{
    struct parts p = {.r = r};
    const struct jstr *sep = jarg_string(r, a, 0);
    int64_t most = jarg_int(r, a, 1, -1);
    size_t to = self.s->n;
    if (most < 0)
        return m_split(r, self, a);
    if (!sep || sep->n == 0) {
        jinja_fail(&r->mem, "rsplit() with a limit needs a separator");
        return self;
    }
    for (size_t at; most > 0 && jrun_pay_bytes(r, self.s->n); most--, to = at) {
        at = find_last(r, self.s, sep, to);
        if (at == SIZE_MAX)
            break;
        add_part(&p, self.s, at + sep->n, to);
    }
    add_part(&p, self.s, 0, to);
    return take_parts(&p, true);
}

static struct jval m_splitlines(struct jrun *r, struct jval self, const struct jargs *a)
{
    struct parts p = {.r = r};
    bool keep = jarg_bool(a, 0, false);
    const struct jstr *s = self.s;
    size_t from = 0;
    for (size_t i = 0; i < s->n && jrun_pay_bytes(r, 1); i++) {
        if (s->p[i] != '\n' && s->p[i] != '\r')
            continue;
        size_t end = i;
        if (s->p[i] == '\r' && i + 1 < s->n && s->p[i + 1] == '\n')
            i++;
        add_part(&p, s, from, keep ? i + 1 : end);
        from = i + 1;
    }
    if (from < s->n)
        add_part(&p, s, from, s->n);
    return take_parts(&p, false);
}

static struct jval m_partition(struct jrun *r, struct jval self, const struct jargs *a)
{
    const struct jstr *sep = need_string(r, a, 0);
    struct jlist *l = jlist_new(r, 3);
    size_t at = jrun_failed(r) ? SIZE_MAX : jstr_find(self.s, sep, 0);
    size_t behind = at == SIZE_MAX ? self.s->n : at + sep->n;
    at = at == SIZE_MAX ? self.s->n : at;
    if (!l)
        return self;
    l->v[0] = jval_string(jstr_slice(&r->mem, self.s, 0, at));
    l->v[1] = jval_string(jstr_slice(&r->mem, self.s, at, behind));
    l->v[2] = jval_string(jstr_slice(&r->mem, self.s, behind, self.s->n));
    return (struct jval){.kind = J_TUPLE, .list = l};
}

static struct jval remove_end(struct jrun *r, struct jval self, const struct jargs *a, bool at_end)
{
    const struct jstr *part = need_string(r, a, 0);
    struct jval found = matches(r, self.s, jval_string(part), at_end);
    if (!found.b)
        return self;
    return jval_string(jstr_slice(&r->mem, self.s, at_end ? 0 : part->n,
                                  at_end ? self.s->n - part->n : self.s->n));
}

static struct jval m_removeprefix(struct jrun *r, struct jval self, const struct jargs *a)
{
    return remove_end(r, self, a, false);
}

static struct jval m_removesuffix(struct jrun *r, struct jval self, const struct jargs *a)
{
    return remove_end(r, self, a, true);
}

/* "{} {name} {0}".format(...), without conversions. */
static struct jval m_format(struct jrun *r, struct jval self, const struct jargs *a)
{
    struct jbuf b = {.mem = &r->mem};
    const struct jstr *s = self.s;
    size_t used = 0;
    for (size_t i = 0; i < s->n && jrun_pay(r, 1); i++) {
        size_t close = i + 1;
        if ((s->p[i] != '{' && s->p[i] != '}') || (i + 1 < s->n && s->p[i + 1] == s->p[i])) {
            jbuf_slice(&b, s, i, i + 1);
            i += s->p[i] == '{' || s->p[i] == '}';
            continue;
        }
        while (close < s->n && s->p[close] != '}')
            close++;
        struct jstr name = {.p = s->p + i + 1, .n = close - i - 1};
        const struct jval *v = NULL;
        if (name.n == 0)
            v = used < a->n ? &a->pos[used++] : NULL;
        else if (name.n == 1 && *name.p >= '0' && *name.p <= '9')
            v = (size_t)(*name.p - '0') < a->n ? &a->pos[*name.p - '0'] : NULL;
        for (size_t k = 0; !v && k < a->n_kw; k++)
            v = jstr_same(a->kw[k].key.s, &name) ? &a->kw[k].value : NULL;
        if (!v || s->p[i] != '{' || close == s->n) {
            jinja_fail(&r->mem, "format() does not know this field");
            break;
        }
        jval_print(r, &b, *v);
        i = close;
    }
    return jval_string(jbuf_done(&b));
}

static struct jval ask(struct jval self, bool (*is)(uint32_t c))
{
    const char *p = self.s->p;
    while (p < self.s->p + self.s->n) {
        if (!is(utf8_next(&p)))
            return jval_bool(false);
    }
    return jval_bool(self.s->n > 0);
}

static bool is_digit(uint32_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_alpha(uint32_t c)
{
    return char_class(c) == CHAR_LETTER;
}

static bool is_alnum(uint32_t c)
{
    return char_class(c) == CHAR_LETTER || char_class(c) == CHAR_NUMBER;
}

static bool is_space(uint32_t c)
{
    return char_class(c) == CHAR_SPACE || (c >= 0x1c && c <= 0x1f);
}

static struct jval m_isdigit(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)a;
    return jrun_pay_bytes(r, self.s->n) ? ask(self, is_digit) : self;
}

static struct jval m_isalpha(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)a;
    return jrun_pay_bytes(r, self.s->n) ? ask(self, is_alpha) : self;
}

static struct jval m_isalnum(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)a;
    return jrun_pay_bytes(r, self.s->n) ? ask(self, is_alnum) : self;
}

static struct jval m_isspace(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)a;
    return jrun_pay_bytes(r, self.s->n) ? ask(self, is_space) : self;
}

static const struct jbuiltin string_methods[] = {
    {"strip", m_strip, "chars"},
    {"lstrip", m_lstrip, "chars"},
    {"rstrip", m_rstrip, "chars"},
    {"split", m_split, "sep maxsplit"},
    {"rsplit", m_rsplit, "sep maxsplit"},
    {"splitlines", m_splitlines, "keepends"},
    {"startswith", m_startswith, "prefix"},
    {"endswith", m_endswith, "suffix"},
    {"upper", m_upper, ""},
    {"lower", m_lower, ""},
    {"title", m_title, ""},
    {"capitalize", m_capitalize, ""},
    {"replace", m_replace, "old new count"},
    {"find", m_find, "sub start"},
    {"rfind", m_rfind, "sub"},
    {"index", m_index, "sub start"},
    {"count", m_count, "sub"},
    {"join", m_join, "iterable"},
    {"format", m_format, NULL},
    {"partition", m_partition, "sep"},
    {"removeprefix", m_removeprefix, "prefix"},
    {"removesuffix", m_removesuffix, "suffix"},
    {"isdigit", m_isdigit, ""},
    {"isnumeric", m_isdigit, ""},
    {"isdecimal", m_isdigit, ""},
    {"isalpha", m_isalpha, ""},
    {"isalnum", m_isalnum, ""},
    {"isspace", m_isspace, ""},
};

/* --- dictionaries and lists --- */

struct jval jinja_items(struct jrun *r, struct jval v)
{
    struct jlist *l = jlist_new(r, v.dict->n);
    for (size_t i = 0; l && i < l->n; i++)
        l->v[i] = jval_tuple2(r, v.dict->e[i].key, v.dict->e[i].value);
    return jval_list(l);
}

static struct jval m_items(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)a;
    return jinja_items(r, self);
}

static struct jval m_keys(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)a;
    return jval_list((struct jlist *)jval_iterate(r, self));
}

static struct jval m_values(struct jrun *r, struct jval self, const struct jargs *a)
{
    struct jlist *l = jlist_new(r, self.dict->n);
    (void)a;
    for (size_t i = 0; l && i < l->n; i++)
        l->v[i] = self.dict->e[i].value;
    return jval_list(l);
}

static struct jval m_get(struct jrun *r, struct jval self, const struct jargs *a)
{
    const struct jval *v = jdict_get(r, self.dict, a->slot[0]);
    if (v)
        return *v;
    return a->slot[1].kind == J_ABSENT ? jval_none() : a->slot[1];
}

static struct jval m_copy(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)r;
    (void)a;
    return self;
}

static const struct jbuiltin dict_methods[] = {
    {"items", m_items, ""},        {"keys", m_keys, ""}, {"values", m_values, ""},
    {"get", m_get, "key default"}, {"copy", m_copy, ""},
};

static struct jval m_list_index(struct jrun *r, struct jval self, const struct jargs *a)
{
    for (size_t i = 0; i < self.list->n && !jrun_failed(r); i++) {
        if (jval_equal(r, self.list->v[i], a->slot[0]))
            return jval_int((int64_t)i);
    }
    jinja_fail(&r->mem, "the value is not in the list");
    return jval_none();
}

static struct jval m_list_count(struct jrun *r, struct jval self, const struct jargs *a)
{
    int64_t n = 0;
    for (size_t i = 0; i < self.list->n && !jrun_failed(r); i++)
        n += jval_equal(r, self.list->v[i], a->slot[0]);
    return jval_int(n);
}

static const struct jbuiltin list_methods[] = {
    {"index", m_list_index, "value"},
    {"count", m_list_count, "value"},
    {"copy", m_copy, ""},
};

static struct jval m_refused(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)a;
    jinja_fail(&r->mem, "a '%s' cannot be changed by a template", jval_type(self));
    return jval_none();
}

static const struct jbuiltin changing_methods[] = {
    {"append", m_refused, NULL},     {"clear", m_refused, NULL},   {"extend", m_refused, NULL},
    {"insert", m_refused, NULL},     {"pop", m_refused, NULL},     {"remove", m_refused, NULL},
    {"reverse", m_refused, NULL},    {"sort", m_refused, NULL},    {"update", m_refused, NULL},
    {"setdefault", m_refused, NULL}, {"popitem", m_refused, NULL},
};

/* --- loops --- */

static struct jval m_cycle(struct jrun *r, struct jval self, const struct jargs *a)
{
    if (a->n == 0) {
        jinja_fail(&r->mem, "no items for cycling given");
        return jval_none();
    }
    return a->pos[self.loop->at % a->n];
}

static struct jval m_changed(struct jrun *r, struct jval self, const struct jargs *a)
{
    struct jlist *l = jlist_new(r, a->n);
    struct jval now = jval_list(l);
    if (!l)
        return now;
    for (size_t i = 0; i < a->n; i++)
        l->v[i] = a->pos[i];
    bool same = self.loop->changed.kind == J_LIST && jval_equal(r, self.loop->changed, now);
    self.loop->changed = now;
    return jval_bool(!same);
}

static const struct jbuiltin loop_methods[] = {
    {"cycle", m_cycle, NULL},
    {"changed", m_changed, NULL},
};

static struct jval loop_attr(const struct jloop *l, const struct jstr *name)
{
    size_t left = l->items->n - l->at;
    const struct {
        const char *name;
        struct jval v;
    } attr[] = {
        {"index", jval_int((int64_t)l->at + 1)},
        {"index0", jval_int((int64_t)l->at)},
        {"revindex", jval_int((int64_t)left)},
        {"revindex0", jval_int((int64_t)left - 1)},
        {"first", jval_bool(l->at == 0)},
        {"last", jval_bool(left == 1)},
        {"length", jval_int((int64_t)l->items->n)},
        {"depth", jval_int(1)}, /* of recursive loops, which there are none */
        {"depth0", jval_int(0)},
        {"previtem", l->at ? l->items->v[l->at - 1] : jval_undefined(name)},
        {"nextitem", left > 1 ? l->items->v[l->at + 1] : jval_undefined(name)},
    };
    for (size_t i = 0; i < ARRAY_LEN(attr); i++) {
        if (jstr_is(name, attr[i].name))
            return attr[i].v;
    }
    return jval_undefined(name);
}

/* --- all --- */

const struct jbuiltin *jinja_find(const struct jbuiltin *table, size_t n, const char *p, size_t len)
{
    for (size_t i = 0; i < n; i++) {
        if (strlen(table[i].name) == len && memcmp(table[i].name, p, len) == 0)
            return &table[i];
    }
    return NULL;
}

static const struct jbuiltin *method_of(struct jval v, const struct jstr *name)
{
    const struct jbuiltin *b = NULL;
    if (v.kind == J_STRING)
        return jinja_find(string_methods, ARRAY_LEN(string_methods), name->p, name->n);
    if (v.kind == J_LOOP)
        return jinja_find(loop_methods, ARRAY_LEN(loop_methods), name->p, name->n);
    if (v.kind == J_DICT)
        b = jinja_find(dict_methods, ARRAY_LEN(dict_methods), name->p, name->n);
    else if (jval_is_sequence(v))
        b = jinja_find(list_methods, ARRAY_LEN(list_methods), name->p, name->n);
    /* A member of that name is more likely meant than a method that does not work. */
    if (!b && v.kind == J_LIST)
        b = jinja_find(changing_methods, ARRAY_LEN(changing_methods), name->p, name->n);
    return b;
}

struct jval jinja_method(struct jrun *r, struct jval v, const struct jstr *name)
{
    const struct jbuiltin *b = method_of(v, name);
    if (!b && v.kind == J_LOOP)
        return loop_attr(v.loop, name);
    struct jfunction *f = b ? jmem_alloc(&r->mem, sizeof(*f)) : NULL;
    if (!f)
        return jval_undefined(name);
    *f = (struct jfunction){.builtin = b, .self = v, .name = name};
    return (struct jval){.kind = J_FUNCTION, .fn = f};
}

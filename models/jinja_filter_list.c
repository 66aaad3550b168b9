/* Filters of lists. What Jinja makes lazily is made whole here: every list is bounded by the
 * steps that its elements cost. */

#include "models/jinja_priv.h"

#include <string.h>

static struct jval undefined(void)
{
    return jval_undefined(NULL);
}

/* "a.b.0": members of members; a number is an index. */
static struct jval path_of(struct jrun *r, struct jval v, struct jval path)
{
    if (path.kind != J_STRING)
        return jinja_item(r, v, path);
    for (size_t from = 0; from <= path.s->n && !jrun_failed(r);) {
        const char *dot = memchr(path.s->p + from, '.', path.s->n - from);
        size_t to = dot ? (size_t)(dot - path.s->p) : path.s->n;
        const struct jstr *part = jstr_slice(&r->mem, path.s, from, to);
        int64_t i = 0;
        bool number = part->n > 0 && part->n < 10;
        for (size_t k = 0; k < part->n && number; k++) {
            number = part->p[k] >= '0' && part->p[k] <= '9';
            i = i * 10 + (part->p[k] - '0');
        }
        if (v.kind == J_UNDEFINED)
            return v;
        v = jinja_item(r, v, number ? jval_int(i) : jval_string(part));
        from = to + 1;
    }
    return v;
}

/* --- first, last, list, items, join, reverse --- */

static struct jval end_of(struct jrun *r, struct jval self, bool last)
{
    const struct jlist *l = jval_iterate(r, self);
    if (!l || l->n == 0)
        return undefined();
    return l->v[last ? l->n - 1 : 0];
}

static struct jval f_first(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)a;
    return end_of(r, self, false);
}

static struct jval f_last(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)a;
    return end_of(r, self, true);
}

static struct jval f_list(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)a;
    return jval_list((struct jlist *)jval_iterate(r, self));
}

static struct jval f_items(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)a;
    if (self.kind == J_UNDEFINED)
        return jval_list(jlist_new(r, 0));
    if (self.kind == J_DICT)
        return jinja_items(r, self);
    jinja_fail(&r->mem, "Can only get item pairs from a mapping.");
    return undefined();
}

static struct jval f_join(struct jrun *r, struct jval self, const struct jargs *a)
{
    const struct jlist *l = jval_iterate(r, self);
    struct jval sep = a->slot[0];
    struct jval attribute = a->slot[1];
    struct jbuf b = {.mem = &r->mem};
    for (size_t i = 0; l && i < l->n && jrun_pay(r, 1); i++) {
        bool member = attribute.kind != J_ABSENT && attribute.kind != J_NONE;
        if (i && sep.kind != J_ABSENT)
            jval_print(r, &b, sep);
        jval_print(r, &b, member ? path_of(r, l->v[i], attribute) : l->v[i]);
    }
    return jval_string(jbuf_done(&b));
}

static struct jval f_reverse(struct jrun *r, struct jval self, const struct jargs *a)
{
    const struct jval back[] = {jval_none(), jval_none(), jval_int(-1)};
    (void)a;
    if (self.kind == J_STRING)
        return jinja_slice(r, self, back);
    const struct jlist *l = jval_iterate(r, self);
    return l ? jinja_slice(r, (struct jval){.kind = J_LIST, .list = l}, back) : undefined();
}

/* --- map and its kin --- */

static const struct jval *named(const struct jargs *a, const char *name)
{
    for (size_t i = 0; i < a->n_kw; i++) {
        if (jstr_is(a->kw[i].key.s, name))
            return &a->kw[i].value;
    }
    return NULL;
}

static const struct jbuiltin *by_name(struct jrun *r, struct jval name, bool test)
{
    const struct jbuiltin *b = NULL;
    if (name.kind == J_STRING)
        b = test ? jinja_test(name.s->p, name.s->n) : jinja_filter(name.s->p, name.s->n);
    if (!b)
        jinja_fail(&r->mem, "no such %s", test ? "test" : "filter");
    return b;
}

static struct jval f_map(struct jrun *r, struct jval self, const struct jargs *a)
{
    const struct jval *attribute = named(a, "attribute");
    const struct jval *otherwise = named(a, "default");
    const struct jlist *in = jval_iterate(r, self);
    const struct jbuiltin *filter = NULL;
    struct jargs rest = *a;
    if (!attribute && a->n == 0)
        jinja_fail(&r->mem, "map requires a filter argument");
    if (in && !attribute && a->n) {
        filter = by_name(r, a->pos[0], false);
        rest.pos++;
        rest.n--;
    }
    struct jlist *out = in && !jrun_failed(r) ? jlist_new(r, in->n) : NULL;
    for (size_t i = 0; out && i < in->n && !jrun_failed(r); i++) {
        out->v[i] = filter ? jinja_call_builtin(r, filter, in->v[i], &rest)
                           : path_of(r, in->v[i], *attribute);
        if (out->v[i].kind == J_UNDEFINED && otherwise && !filter)
            out->v[i] = *otherwise;
    }
    return jval_list(out);
}

/* select, reject, selectattr, rejectattr: [attribute,] [test, its arguments]. */
static struct jval pick(struct jrun *r, struct jval self, const struct jargs *a, bool attribute,
                        bool keep)
{
    const struct jlist *in = jval_iterate(r, self);
    struct jargs rest = *a;
    const struct jbuiltin *test = NULL;
    struct jval path = undefined();
    size_t kept = 0;
    if (attribute && a->n == 0)
        jinja_fail(&r->mem, "Missing parameter for attribute name");
    if (attribute && a->n) {
        path = *rest.pos++;
        rest.n--;
    }
    if (in && rest.n && !jrun_failed(r)) {
        test = by_name(r, *rest.pos++, true);
        rest.n--;
    }
    struct jlist *out = in && !jrun_failed(r) ? jlist_new(r, in->n) : NULL;
    for (size_t i = 0; out && i < in->n && !jrun_failed(r); i++) {
        struct jval v = attribute ? path_of(r, in->v[i], path) : in->v[i];
        if (test)
            v = jinja_call_builtin(r, test, v, &rest);
        if (jval_true(v) == keep)
            out->v[kept++] = in->v[i];
    }
    if (out)
        out->n = kept;
    return jval_list(out);
}

static struct jval f_select(struct jrun *r, struct jval self, const struct jargs *a)
{
    return pick(r, self, a, false, true);
}

static struct jval f_reject(struct jrun *r, struct jval self, const struct jargs *a)
{
    return pick(r, self, a, false, false);
}

static struct jval f_selectattr(struct jrun *r, struct jval self, const struct jargs *a)
{
    return pick(r, self, a, true, true);
}

static struct jval f_rejectattr(struct jrun *r, struct jval self, const struct jargs *a)
{
    return pick(r, self, a, true, false);
}

/* --- order --- */

struct keyed {
    struct jval key;
    struct jval value;
};

static struct jval fold(struct jrun *r, struct jval v, bool case_sensitive)
{
    if (v.kind == J_STRING && !case_sensitive)
        return jval_string(jstr_case(r, v.s, CASE_LOWER));
    return v;
}

/* Values with what they are ordered by; NULL: failed. */
static struct keyed *key_all(struct jrun *r, const struct jlist *l, struct jval attribute,
                             bool case_sensitive)
{
    struct keyed *k = jmem_alloc(&r->mem, l->n * sizeof(*k) + 1);
    for (size_t i = 0; k && i < l->n && !jrun_failed(r); i++) {
        bool member = attribute.kind != J_ABSENT && attribute.kind != J_NONE;
        k[i].value = l->v[i];
        k[i].key = fold(r, member ? path_of(r, l->v[i], attribute) : l->v[i], case_sensitive);
    }
    return jrun_failed(r) ? NULL : k;
}

/* Merges runs of growing length: stable, and no recursion. */
static void sort_keyed(struct jrun *r, struct keyed *k, size_t n, bool reverse)
{
    struct keyed *to = jmem_alloc(&r->mem, n * sizeof(*to) + 1);
    for (size_t run = 1; to && run < n && !jrun_failed(r); run *= 2) {
        for (size_t from = 0; from < n && !jrun_failed(r); from += 2 * run) {
            size_t a = from;
            size_t mid = from + run < n ? from + run : n;
            size_t b = mid;
            size_t end = mid + run < n ? mid + run : n;
            for (size_t i = from; i < end; i++) {
                int c = a < mid && b < end ? jval_compare(r, k[b].key, k[a].key) : 0;
                bool right = a == mid || (b < end && (reverse ? c > 0 : c < 0));
                to[i] = right ? k[b++] : k[a++];
            }
        }
        memcpy(k, to, n * sizeof(*k));
    }
}

static struct jval values_of(struct jrun *r, const struct keyed *k, size_t n)
{
    struct jlist *l = k ? jlist_new(r, n) : NULL;
    for (size_t i = 0; l && i < n; i++)
        l->v[i] = k[i].value;
    return jval_list(l);
}

static struct jval f_sort(struct jrun *r, struct jval self, const struct jargs *a)
{
    const struct jlist *l = jval_iterate(r, self);
    struct keyed *k = l ? key_all(r, l, a->slot[2], jarg_bool(a, 1, false)) : NULL;
    if (k)
        sort_keyed(r, k, l->n, jarg_bool(a, 0, false));
    return values_of(r, k, l ? l->n : 0);
}

static struct jval f_dictsort(struct jrun *r, struct jval self, const struct jargs *a)
{
    const struct jstr *by = jarg_string(r, a, 1);
    if (self.kind != J_DICT) {
        jinja_fail(&r->mem, "dictsort needs a mapping");
        return undefined();
    }
    struct jval items = jinja_items(r, self);
    if (items.kind != J_LIST)
        return undefined();
    struct jval place = jval_int(by && jstr_is(by, "value") ? 1 : 0);
    struct keyed *k = key_all(r, items.list, place, jarg_bool(a, 0, false));
    if (k)
        sort_keyed(r, k, items.list->n, jarg_bool(a, 2, false));
    return values_of(r, k, items.list->n);
}

static struct jval f_unique(struct jrun *r, struct jval self, const struct jargs *a)
{
    const struct jlist *l = jval_iterate(r, self);
    struct keyed *k = l ? key_all(r, l, a->slot[1], jarg_bool(a, 0, false)) : NULL;
    size_t n = 0;
    for (size_t i = 0; k && i < l->n && !jrun_failed(r); i++) {
        size_t seen = 0;
        while (seen < n && !jval_equal(r, k[seen].key, k[i].key))
            seen++;
        if (seen == n)
            k[n++] = k[i];
    }
    return values_of(r, k, n);
}

static struct jval extreme(struct jrun *r, struct jval self, const struct jargs *a, int want)
{
    const struct jlist *l = jval_iterate(r, self);
    struct keyed *k = l && l->n ? key_all(r, l, a->slot[1], jarg_bool(a, 0, false)) : NULL;
    size_t best = 0;
    if (!k)
        return undefined();
    for (size_t i = 1; i < l->n && !jrun_failed(r); i++) {
        if (jval_compare(r, k[i].key, k[best].key) * want > 0)
            best = i;
    }
    return k[best].value;
}

static struct jval f_min(struct jrun *r, struct jval self, const struct jargs *a)
{
    return extreme(r, self, a, -1);
}

static struct jval f_max(struct jrun *r, struct jval self, const struct jargs *a)
{
    return extreme(r, self, a, 1);
}

static struct jval f_sum(struct jrun *r, struct jval self, const struct jargs *a)
{
    const struct jlist *l = jval_iterate(r, self);
    struct jval attribute = a->slot[0];
    struct jval sum = a->slot[1].kind == J_ABSENT ? jval_int(0) : a->slot[1];
    for (size_t i = 0; l && i < l->n && jrun_pay(r, 1); i++) {
        bool member = attribute.kind != J_ABSENT && attribute.kind != J_NONE;
        struct jval v = member ? path_of(r, l->v[i], attribute) : l->v[i];
        sum = jrun_failed(r) ? sum : jinja_binary(r, OP_ADD, sum, v);
    }
    return sum;
}

/* --- parts --- */

static struct jval part_of(struct jrun *r, const struct jlist *l, size_t from, size_t n,
                           struct jval fill, size_t n_fill)
{
    struct jlist *part = jlist_new(r, n + n_fill);
    if (!part)
        return undefined();
    if (n)
        memcpy(part->v, l->v + from, n * sizeof(*part->v));
    for (size_t i = 0; i < n_fill; i++)
        part->v[n + i] = fill;
    return jval_list(part);
}

static struct jval f_batch(struct jrun *r, struct jval self, const struct jargs *a)
{
    const struct jlist *l = jval_iterate(r, self);
    int64_t size = jarg_int(r, a, 0, 0);
    struct jval fill = a->slot[1];
    bool fills = fill.kind != J_ABSENT && fill.kind != J_NONE;
    if (size < 1 || size > JINJA_RANGE_MAX)
        jinja_fail(&r->mem, "batch needs a size");
    if (!l || jrun_failed(r))
        return undefined();
    size_t each = (size_t)size;
    struct jlist *out = jlist_new(r, (l->n + each - 1) / each);
    for (size_t i = 0; out && i < out->n; i++) {
        size_t n = l->n - i * each < each ? l->n - i * each : each;
        out->v[i] = part_of(r, l, i * each, n, fill, fills ? each - n : 0);
    }
    return jval_list(out);
}

static struct jval f_slice(struct jrun *r, struct jval self, const struct jargs *a)
{
    const struct jlist *l = jval_iterate(r, self);
    int64_t slices = jarg_int(r, a, 0, 0);
    struct jval fill = a->slot[1];
    bool fills = fill.kind != J_ABSENT && fill.kind != J_NONE;
    size_t from = 0;
    if (slices < 1 || slices > JINJA_RANGE_MAX)
        jinja_fail(&r->mem, "slice needs a number of parts");
    if (!l || jrun_failed(r))
        return undefined();
    size_t more = l->n % (size_t)slices;
    struct jlist *out = jlist_new(r, (size_t)slices);
    for (size_t i = 0; out && i < out->n; i++) {
        size_t n = l->n / (size_t)slices + (i < more);
        out->v[i] = part_of(r, l, from, n, fill, fills && more && i >= more);
        from += n;
    }
    return jval_list(out);
}

static struct jval f_groupby(struct jrun *r, struct jval self, const struct jargs *a)
{
    const struct jlist *l = jval_iterate(r, self);
    struct keyed *k = l ? key_all(r, l, a->slot[0], true) : NULL;
    struct jlist *out = k ? jlist_new(r, l->n) : NULL;
    size_t n = 0;
    if (k)
        sort_keyed(r, k, l->n, false);
    for (size_t from = 0, to; out && from < l->n && !jrun_failed(r); from = to) {
        to = from + 1;
        while (to < l->n && jval_equal(r, k[from].key, k[to].key))
            to++;
        out->v[n++] = jval_tuple2(r, k[from].key, values_of(r, k + from, to - from));
    }
    if (out)
        out->n = n;
    return jval_list(out);
}

static const struct jbuiltin filters[] = {
    {"batch", f_batch, "linecount fill_with"},
    {"dictsort", f_dictsort, "case_sensitive by reverse"},
    {"first", f_first, ""},
    {"groupby", f_groupby, "attribute"},
    {"items", f_items, ""},
    {"join", f_join, "d attribute"},
    {"last", f_last, ""},
    {"list", f_list, ""},
    {"map", f_map, NULL},
    {"max", f_max, "case_sensitive attribute"},
    {"min", f_min, "case_sensitive attribute"},
    {"reject", f_reject, NULL},
    {"rejectattr", f_rejectattr, NULL},
    {"reverse", f_reverse, ""},
    {"select", f_select, NULL},
    {"selectattr", f_selectattr, NULL},
    {"slice", f_slice, "slices fill_with"},
    {"sort", f_sort, "reverse case_sensitive attribute"},
    {"sum", f_sum, "attribute start"},
    {"unique", f_unique, "case_sensitive attribute"},
};

const struct jbuiltin *jinja_filter_list(const char *p, size_t n)
{
    return jinja_find(filters, ARRAY_LEN(filters), p, n);
}

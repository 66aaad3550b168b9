/* Expressions -> values. Every node costs a step and a level of depth, so a template can
 * neither run nor descend without end. Invariant: after a failure every function returns at
 * once with some valid value that nobody looks at. */

#include "models/jinja_priv.h"

#include <math.h>
#include <string.h>

enum { BYTES_PER_STEP = 64 };

bool jrun_pay(struct jrun *r, size_t steps)
{
    if (r->mem.failed)
        return false;
    r->steps += steps;
    if (r->steps <= JINJA_STEPS_MAX)
        return true;
    jinja_fail(&r->mem, "runs for more than %d steps", JINJA_STEPS_MAX);
    return false;
}

bool jrun_pay_bytes(struct jrun *r, size_t bytes)
{
    return jrun_pay(r, bytes / BYTES_PER_STEP + 1);
}

bool jrun_enter(struct jrun *r)
{
    if (r->mem.failed)
        return false;
    if (r->depth >= JINJA_DEPTH_MAX) {
        jinja_fail(&r->mem, "goes deeper than %d levels", JINJA_DEPTH_MAX);
        return false;
    }
    r->depth++;
    return true;
}

void jrun_leave(struct jrun *r)
{
    r->depth--;
}

static struct jval undefined(void)
{
    return jval_undefined(NULL);
}

/* --- arithmetic --- */

static struct jval overflow(struct jrun *r)
{
    jinja_fail(&r->mem, "a number is out of range");
    return undefined();
}

static struct jval floats(struct jrun *r, enum jop op, double a, double b)
{
    if ((op == OP_DIV || op == OP_FLOOR || op == OP_MOD) && b == 0) {
        jinja_fail(&r->mem, "division by zero");
        return undefined();
    }
    switch (op) {
    case OP_ADD:
        return jval_float(a + b);
    case OP_SUB:
        return jval_float(a - b);
    case OP_MUL:
        return jval_float(a * b);
    case OP_DIV:
        return jval_float(a / b);
    case OP_FLOOR:
        return jval_float(floor(a / b));
    case OP_MOD: {
        double m = fmod(a, b);
        return jval_float(m != 0 && (m < 0) != (b < 0) ? m + b : m);
    }
    default:
        return jval_float(pow(a, b));
    }
}

static struct jval power(struct jrun *r, int64_t a, int64_t b)
{
    int64_t x = 1;
    if (b < 0)
        return floats(r, OP_POW, (double)a, (double)b);
    if (a >= -1 && a <= 1) /* the only bases whose power takes any exponent */
        return jval_int(b == 0 ? 1 : a >= 0 ? a : b % 2 ? -1 : 1);
    for (int64_t i = 0; i < b; i++) {
        if (__builtin_mul_overflow(x, a, &x))
            return overflow(r);
    }
    return jval_int(x);
}

static struct jval integers(struct jrun *r, enum jop op, int64_t a, int64_t b)
{
    int64_t x = 0;
    bool over = false;
    switch (op) {
    case OP_ADD:
        over = __builtin_add_overflow(a, b, &x);
        break;
    case OP_SUB:
        over = __builtin_sub_overflow(a, b, &x);
        break;
    case OP_MUL:
        over = __builtin_mul_overflow(a, b, &x);
        break;
    case OP_POW:
        return power(r, a, b);
    case OP_FLOOR:
    case OP_MOD:
        if (b == 0 || b == -1) { /* INT64_MIN / -1 traps */
            if (b == 0)
                return floats(r, op, 1, 0);
            over = __builtin_sub_overflow((int64_t)0, a, &x);
            x = op == OP_MOD ? 0 : x;
            over = over && op == OP_FLOOR;
            break;
        }
        x = a / b - (a % b != 0 && (a < 0) != (b < 0));
        if (op == OP_MOD)
            x = a - x * b;
        break;
    default:
        return floats(r, op, (double)a, (double)b);
    }
    return over ? overflow(r) : jval_int(x);
}

static struct jval concat(struct jrun *r, const struct jstr *a, const struct jstr *b)
{
    struct jbuf out = {.mem = &r->mem};
    if (b->n == 0)
        return jval_string(a);
    if (a->n == 0)
        return jval_string(b);
    if (!jrun_pay_bytes(r, a->n + b->n))
        return undefined();
    jbuf_str(&out, a);
    jbuf_str(&out, b);
    return jval_string(jbuf_done(&out));
}

static struct jval join_lists(struct jrun *r, struct jval a, struct jval b)
{
    struct jlist *l = jlist_new(r, a.list->n + b.list->n);
    if (!l)
        return undefined();
    if (a.list->n)
        memcpy(l->v, a.list->v, a.list->n * sizeof(*l->v));
    if (b.list->n)
        memcpy(l->v + a.list->n, b.list->v, b.list->n * sizeof(*l->v));
    return (struct jval){.kind = a.kind, .list = l};
}

static struct jval repeat(struct jrun *r, struct jval what, int64_t times)
{
    size_t n = times < 0 ? 0 : (size_t)times;
    size_t all = 0;
    size_t one = what.kind == J_STRING ? what.s->n : what.list->n;
    if (!size_mul(n, one, &all) || !jrun_pay_bytes(r, all))
        return r->mem.failed ? undefined() : overflow(r);
    if (what.kind == J_STRING) {
        struct jbuf b = {.mem = &r->mem};
        for (size_t i = 0; i < n && one && !jrun_failed(r); i++)
            jbuf_str(&b, what.s);
        return jval_string(jbuf_done(&b));
    }
    struct jlist *l = jlist_new(r, all);
    for (size_t i = 0; l && i < all; i++)
        l->v[i] = what.list->v[i % one];
    return (struct jval){.kind = l ? what.kind : J_UNDEFINED, .list = l};
}

static void no_operation(struct jrun *r, enum jop op, struct jval a, struct jval b)
{
    static const char *const sign[] = {"+", "-", "*", "/", "//", "%", "**"};
    struct jval u = a.kind == J_UNDEFINED ? a : b;
    if (u.kind == J_UNDEFINED && u.s)
        jinja_fail(&r->mem, "'%.*s' is undefined", u.s->n > 80 ? 80 : (int)u.s->n, u.s->p);
    else
        jinja_fail(&r->mem, "unsupported operand types for %s: '%s' and '%s'", sign[op],
                   jval_type(a), jval_type(b));
}

struct jval jinja_binary(struct jrun *r, enum jop op, struct jval a, struct jval b)
{
    bool whole = a.kind != J_FLOAT && b.kind != J_FLOAT;
    if (op == OP_CONCAT)
        return concat(r, jval_str(r, a), jval_str(r, b));
    if (jval_is_number(a) && jval_is_number(b)) {
        if (!whole)
            return floats(r, op, jval_number(a), jval_number(b));
        return integers(r, op, a.kind == J_BOOL ? a.b : a.i, b.kind == J_BOOL ? b.b : b.i);
    }
    if (op == OP_ADD && a.kind == J_STRING && b.kind == J_STRING)
        return concat(r, a.s, b.s);
    if (op == OP_ADD && jval_is_sequence(a) && a.kind == b.kind)
        return join_lists(r, a, b);
    if (op == OP_MUL && b.kind == J_INT && (a.kind == J_STRING || jval_is_sequence(a)))
        return repeat(r, a, b.i);
    if (op == OP_MUL && a.kind == J_INT && (b.kind == J_STRING || jval_is_sequence(b)))
        return repeat(r, b, a.i);
    if (op == OP_MOD && a.kind == J_STRING) {
        struct jargs args = {.pos = &b, .n = 1};
        if (b.kind == J_TUPLE)
            args = (struct jargs){.pos = b.list->v, .n = b.list->n};
        return jinja_format(r, a.s, &args);
    }
    no_operation(r, op, a, b);
    return undefined();
}

/* --- comparison --- */

bool jinja_contains(struct jrun *r, struct jval all, struct jval one)
{
    if (all.kind == J_STRING && one.kind == J_STRING)
        return jrun_pay_bytes(r, all.s->n) && jstr_find(all.s, one.s, 0) != SIZE_MAX;
    if (all.kind == J_DICT)
        return jdict_get(r, all.dict, one) != NULL;
    if (all.kind == J_STRING) {
        jinja_fail(&r->mem, "'in <string>' requires string as left operand, not %s",
                   jval_type(one));
        return false;
    }
    const struct jlist *l = jval_iterate(r, all);
    for (size_t i = 0; l && i < l->n && !jrun_failed(r); i++) {
        if (jval_equal(r, l->v[i], one))
            return true;
    }
    return false;
}

bool jinja_compare(struct jrun *r, enum jop op, struct jval a, struct jval b)
{
    switch (op) {
    case OP_EQ:
        return jval_equal(r, a, b);
    case OP_NE:
        return !jval_equal(r, a, b);
    case OP_LT:
        return jval_compare(r, a, b) < 0;
    case OP_LE:
        return jval_compare(r, a, b) <= 0;
    case OP_GT:
        return jval_compare(r, a, b) > 0;
    case OP_GE:
        return jval_compare(r, a, b) >= 0;
    case OP_IN:
        return jinja_contains(r, b, a);
    default:
        return !jinja_contains(r, b, a);
    }
}

static struct jval compare_chain(struct jrun *r, const struct jnode *n)
{
    struct jval left = jinja_eval(r, n->a);
    for (const struct jnode *link = n->b; link && !jrun_failed(r); link = link->next) {
        struct jval right = jinja_eval(r, link->a);
        if (jrun_failed(r) || !jinja_compare(r, link->op, left, right))
            return jval_bool(false);
        left = right;
    }
    return jval_bool(true);
}

static struct jval unary(struct jrun *r, enum jop op, struct jval v)
{
    if (op == OP_NOT)
        return jval_bool(!jval_true(v));
    if (!jval_is_number(v)) {
        jinja_fail(&r->mem, "bad operand type for a sign: '%s'", jval_type(v));
        return undefined();
    }
    if (v.kind == J_FLOAT)
        return jval_float(op == OP_NEG ? -v.f : v.f);
    return integers(r, op == OP_NEG ? OP_SUB : OP_ADD, 0, v.kind == J_BOOL ? v.b : v.i);
}

/* --- parts of values --- */

static struct jval no_value(struct jrun *r, const struct jstr *s)
{
    jinja_fail(&r->mem, "'%.*s' is undefined",
               s && s->n > 80 ? 80
               : s            ? (int)s->n
                              : 0,
               s ? s->p : "");
    return undefined();
}

/* a.name: methods first, then items, as Jinja has it. */
struct jval jinja_attr(struct jrun *r, struct jval v, const struct jstr *name)
{
    if (v.kind == J_UNDEFINED)
        return no_value(r, v.s);
    struct jval m = v.kind == J_NAMESPACE ? undefined() : jinja_method(r, v, name);
    if (m.kind != J_UNDEFINED || jrun_failed(r))
        return m;
    const struct jval *item = NULL;
    if (v.kind == J_DICT || v.kind == J_NAMESPACE)
        item = jdict_get(r, v.dict, jval_string(name));
    return item ? *item : jval_undefined(name);
}

/* The element that a Python index means; false: there is none. */
static bool position(int64_t i, size_t n, size_t *at)
{
    if (i < 0)
        i += (int64_t)n;
    *at = (size_t)i;
    return i >= 0 && (size_t)i < n;
}

/* a[key]: items first, then methods. */
struct jval jinja_item(struct jrun *r, struct jval v, struct jval key)
{
    size_t at;
    if (v.kind == J_UNDEFINED)
        return no_value(r, v.s);
    if (v.kind == J_DICT) {
        const struct jval *item = jdict_get(r, v.dict, key);
        if (item)
            return *item;
    }
    if (key.kind == J_STRING)
        return v.kind == J_NAMESPACE ? undefined() : jinja_attr(r, v, key.s);
    if (key.kind != J_INT)
        return undefined();
    if (jval_is_sequence(v) && position(key.i, v.list->n, &at))
        return v.list->v[at];
    if (v.kind == J_STRING && jrun_pay_bytes(r, v.s->n) && position(key.i, jstr_length(v.s), &at)) {
        size_t from = jstr_offset(v.s, at);
        struct jstr rest = {.p = v.s->p + from, .n = v.s->n - from};
        return jval_string(jstr_slice(&r->mem, v.s, from, from + jstr_offset(&rest, 1)));
    }
    return undefined();
}

/* The bounds of a slice as Python resolves them for n elements. */
static bool bounds(struct jrun *r, const struct jval bound[3], int64_t n, int64_t out[3])
{
    for (size_t i = 0; i < 3; i++) {
        if (bound[i].kind != J_INT && bound[i].kind != J_NONE) {
            jinja_fail(&r->mem, "slice indices must be integers or None");
            return false;
        }
    }
    int64_t step = bound[2].kind == J_INT ? bound[2].i : 1;
    if (step == 0) {
        jinja_fail(&r->mem, "slice step cannot be zero");
        return false;
    }
    for (size_t i = 0; i < 2; i++) {
        int64_t at = i == 0 ? (step > 0 ? 0 : n - 1) : (step > 0 ? n : -1);
        if (bound[i].kind == J_INT) {
            int64_t low = step > 0 ? 0 : -1;
            int64_t high = step > 0 ? n : n - 1;
            at = bound[i].i < 0 ? bound[i].i + n : bound[i].i;
            at = at < low ? low : at > high ? high : at;
        }
        out[i] = at;
    }
    out[2] = step;
    return true;
}

static size_t slice_length(const int64_t b[3])
{
    int64_t span = b[2] > 0 ? b[1] - b[0] : b[0] - b[1];
    uint64_t step = b[2] > 0 ? (uint64_t)b[2] : 0 - (uint64_t)b[2];
    return span <= 0 ? 0 : (size_t)(((uint64_t)span - 1) / step + 1);
}

struct jval jinja_slice(struct jrun *r, struct jval v, const struct jval bound[3])
{
    int64_t b[3];
    if (v.kind == J_UNDEFINED)
        return no_value(r, v.s);
    if (v.kind == J_STRING && bound[2].kind == J_NONE && jrun_pay_bytes(r, v.s->n)) {
        if (!bounds(r, bound, (int64_t)jstr_length(v.s), b) || b[0] >= b[1])
            return jval_string(jstr_new(&r->mem, "", 0, true));
        size_t from = jstr_offset(v.s, (size_t)b[0]);
        return jval_string(jstr_slice(&r->mem, v.s, from, jstr_offset(v.s, (size_t)b[1])));
    }
    if (v.kind != J_STRING && !jval_is_sequence(v))
        return undefined();
    const struct jlist *from = jval_iterate(r, v);
    if (!from || !bounds(r, bound, (int64_t)from->n, b))
        return undefined();
    size_t n = slice_length(b);
    struct jlist *l = jlist_new(r, n);
    struct jbuf text = {.mem = &r->mem};
    for (size_t i = 0; l && i < n; i++) {
        l->v[i] = from->v[b[0] + (int64_t)i * b[2]];
        if (v.kind == J_STRING)
            jbuf_str(&text, l->v[i].s);
    }
    if (v.kind == J_STRING)
        return jval_string(jbuf_done(&text));
    return (struct jval){.kind = l ? v.kind : J_UNDEFINED, .list = l};
}

/* --- displays and calls --- */

static struct jval eval_list(struct jrun *r, const struct jnode *n)
{
    size_t count = 0;
    for (const struct jnode *i = n->a; i; i = i->next)
        count++;
    struct jlist *l = jlist_new(r, count);
    count = 0;
    for (const struct jnode *i = n->a; l && i && !jrun_failed(r); i = i->next)
        l->v[count++] = jinja_eval(r, i);
    if (!l)
        return undefined();
    return (struct jval){.kind = n->kind == N_TUPLE ? J_TUPLE : J_LIST, .list = l};
}

static struct jval eval_dict(struct jrun *r, const struct jnode *n)
{
    struct jdict *d = jdict_new(r, 4);
    for (const struct jnode *i = n->a; d && i && !jrun_failed(r); i = i->next) {
        struct jval key = jinja_eval(r, i->a);
        struct jval value = jinja_eval(r, i->b);
        jdict_set(r, d, key, value);
    }
    return d ? (struct jval){.kind = J_DICT, .dict = d} : undefined();
}

/* b and c of a call, filter or test. */
static bool eval_args(struct jrun *r, const struct jnode *n, struct jargs *out)
{
    struct jval *pos = NULL;
    struct jentry *kw = NULL;
    *out = (struct jargs){.n = 0};
    if (!n->b && !n->c)
        return true;
    for (const struct jnode *i = n->b; i; i = i->next)
        out->n++;
    for (const struct jnode *i = n->c; i; i = i->next)
        out->n_kw++;
    pos = jmem_alloc(&r->mem, out->n * sizeof(*pos) + 1);
    kw = jmem_alloc(&r->mem, out->n_kw * sizeof(*kw) + 1);
    out->pos = pos;
    out->kw = kw;
    if (!pos || !kw)
        return false;
    for (const struct jnode *i = n->b; i && !jrun_failed(r); i = i->next)
        *pos++ = jinja_eval(r, i);
    for (const struct jnode *i = n->c; i && !jrun_failed(r); i = i->next)
        *kw++ = (struct jentry){i->v, jinja_eval(r, i->b)};
    return !jrun_failed(r);
}

struct jval jinja_call(struct jrun *r, struct jval fn, const struct jargs *a)
{
    if (fn.kind == J_UNDEFINED)
        return no_value(r, fn.s);
    if (fn.kind != J_FUNCTION) {
        jinja_fail(&r->mem, "'%s' object is not callable", jval_type(fn));
        return undefined();
    }
    return fn.fn->builtin ? jinja_call_builtin(r, fn.fn->builtin, fn.fn->self, a)
                          : jinja_call_macro(r, fn.fn, a);
}

static struct jval eval_call(struct jrun *r, const struct jnode *n)
{
    struct jargs args;
    struct jval fn = jinja_eval(r, n->a);
    if (jrun_failed(r) || !eval_args(r, n, &args))
        return undefined();
    r->mem.line = n->line;
    return jinja_call(r, fn, &args);
}

/* A filter or test; what is first in the chain of a block gets the block's text. */
static struct jval eval_filter(struct jrun *r, const struct jnode *n)
{
    struct jargs args;
    struct jval self = n->a ? jinja_eval(r, n->a) : r->block;
    if (jrun_failed(r) || !eval_args(r, n, &args))
        return undefined();
    r->mem.line = n->line;
    return jinja_call_builtin(r, n->builtin, self, &args);
}

static struct jval eval_test(struct jrun *r, const struct jnode *n)
{
    struct jval v = eval_filter(r, n);
    return jval_bool(jval_true(v) != (n->op == OP_NOT));
}

static struct jval eval_slice(struct jrun *r, const struct jnode *n)
{
    const struct jnode *const bound[] = {n->b, n->c, n->d};
    struct jval b[3];
    struct jval v = jinja_eval(r, n->a);
    for (size_t i = 0; i < 3; i++)
        b[i] = bound[i] ? jinja_eval(r, bound[i]) : jval_none();
    return jrun_failed(r) ? undefined() : jinja_slice(r, v, b);
}

static struct jval lookup(const struct jrun *r, const struct jstr *name)
{
    for (const struct jframe *f = r->frame; f; f = f->outer) {
        for (const struct jvar *v = f->vars; v; v = v->next) {
            if (v->name == name)
                return v->v;
        }
    }
    return jval_undefined(name);
}

static struct jval eval_binary(struct jrun *r, const struct jnode *n)
{
    struct jval a = jinja_eval(r, n->a);
    struct jval b = jrun_failed(r) ? a : jinja_eval(r, n->b);
    r->mem.line = n->line;
    return jrun_failed(r) ? undefined() : jinja_binary(r, n->op, a, b);
}

static struct jval eval_part(struct jrun *r, const struct jnode *n)
{
    struct jval v = jinja_eval(r, n->a);
    struct jval key = n->kind == N_ITEM && !jrun_failed(r) ? jinja_eval(r, n->b) : n->v;
    r->mem.line = n->line;
    if (jrun_failed(r))
        return undefined();
    return n->kind == N_ITEM ? jinja_item(r, v, key) : jinja_attr(r, v, key.s);
}

static struct jval eval(struct jrun *r, const struct jnode *n)
{
    struct jval v;
    switch ((enum jnode_kind)n->kind) {
    case N_CONST:
        return n->v;
    case N_NAME:
        return lookup(r, n->v.s);
    case N_LIST:
    case N_TUPLE:
        return eval_list(r, n);
    case N_DICT:
        return eval_dict(r, n);
    case N_ATTR:
    case N_ITEM:
        return eval_part(r, n);
    case N_SLICE:
        return eval_slice(r, n);
    case N_CALL:
        return eval_call(r, n);
    case N_FILTER:
        return eval_filter(r, n);
    case N_TEST:
        return eval_test(r, n);
    case N_UNARY:
        v = jinja_eval(r, n->a);
        return jrun_failed(r) ? v : unary(r, n->op, v);
    case N_BINARY:
        return eval_binary(r, n);
    case N_COMPARE:
        return compare_chain(r, n);
    case N_AND:
        v = jinja_eval(r, n->a);
        return jval_true(v) ? jinja_eval(r, n->b) : v;
    case N_OR:
        v = jinja_eval(r, n->a);
        return jval_true(v) ? v : jinja_eval(r, n->b);
    case N_IF_EXPR:
        v = jinja_eval(r, n->a);
        n = jval_true(v) ? n->b : n->c;
        return n ? jinja_eval(r, n) : undefined();
    default:
        return undefined();
    }
}

struct jval jinja_eval(struct jrun *r, const struct jnode *n)
{
    if (!jrun_pay(r, 1) || !jrun_enter(r))
        return undefined();
    r->mem.line = n->line;
    struct jval v = eval(r, n);
    jrun_leave(r);
    return v;
}

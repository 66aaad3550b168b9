/* Tests: what stands behind `is`. */

#include "models/jinja_priv.h"

#include <string.h>

static struct jval t_defined(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)r;
    (void)a;
    return jval_bool(self.kind != J_UNDEFINED);
}

static struct jval t_undefined(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)r;
    (void)a;
    return jval_bool(self.kind == J_UNDEFINED);
}

static struct jval t_none(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)r;
    (void)a;
    return jval_bool(self.kind == J_NONE);
}

static struct jval t_string(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)r;
    (void)a;
    return jval_bool(self.kind == J_STRING);
}

static struct jval t_number(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)r;
    (void)a;
    return jval_bool(jval_is_number(self));
}

static struct jval t_integer(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)r;
    (void)a;
    return jval_bool(self.kind == J_INT);
}

static struct jval t_float(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)r;
    (void)a;
    return jval_bool(self.kind == J_FLOAT);
}

static struct jval t_boolean(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)r;
    (void)a;
    return jval_bool(self.kind == J_BOOL);
}

static struct jval t_true(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)r;
    (void)a;
    return jval_bool(self.kind == J_BOOL && self.b);
}

static struct jval t_false(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)r;
    (void)a;
    return jval_bool(self.kind == J_BOOL && !self.b);
}

static struct jval t_mapping(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)r;
    (void)a;
    return jval_bool(self.kind == J_DICT);
}

static struct jval t_iterable(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)r;
    (void)a;
    return jval_bool(self.kind == J_STRING || jval_is_sequence(self) || self.kind == J_DICT ||
                     self.kind == J_UNDEFINED || self.kind == J_LOOP);
}

static struct jval t_sequence(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)r;
    (void)a;
    return jval_bool(self.kind == J_STRING || jval_is_sequence(self) || self.kind == J_DICT ||
                     self.kind == J_UNDEFINED);
}

static struct jval t_callable(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)r;
    (void)a;
    return jval_bool(self.kind == J_FUNCTION);
}

static bool remainder_is(struct jrun *r, struct jval v, struct jval by, int64_t want)
{
    struct jval m = jinja_binary(r, OP_MOD, v, by);
    return !jrun_failed(r) && jval_is_number(m) && jval_number(m) == (double)want;
}

static struct jval t_odd(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)a;
    return jval_bool(remainder_is(r, self, jval_int(2), 1));
}

static struct jval t_even(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)a;
    return jval_bool(remainder_is(r, self, jval_int(2), 0));
}

static struct jval t_divisibleby(struct jrun *r, struct jval self, const struct jargs *a)
{
    return jval_bool(remainder_is(r, self, a->slot[0], 0));
}

static struct jval t_eq(struct jrun *r, struct jval self, const struct jargs *a)
{
    return jval_bool(jinja_compare(r, OP_EQ, self, a->slot[0]));
}

static struct jval t_ne(struct jrun *r, struct jval self, const struct jargs *a)
{
    return jval_bool(jinja_compare(r, OP_NE, self, a->slot[0]));
}

static struct jval t_lt(struct jrun *r, struct jval self, const struct jargs *a)
{
    return jval_bool(jinja_compare(r, OP_LT, self, a->slot[0]));
}

static struct jval t_le(struct jrun *r, struct jval self, const struct jargs *a)
{
    return jval_bool(jinja_compare(r, OP_LE, self, a->slot[0]));
}

static struct jval t_gt(struct jrun *r, struct jval self, const struct jargs *a)
{
    return jval_bool(jinja_compare(r, OP_GT, self, a->slot[0]));
}

static struct jval t_ge(struct jrun *r, struct jval self, const struct jargs *a)
{
    return jval_bool(jinja_compare(r, OP_GE, self, a->slot[0]));
}

static struct jval t_in(struct jrun *r, struct jval self, const struct jargs *a)
{
    return jval_bool(jinja_contains(r, a->slot[0], self));
}

/* The same object; for what has no identity here, the same kind and value. */
static struct jval t_sameas(struct jrun *r, struct jval self, const struct jargs *a)
{
    struct jval v = a->slot[0];
    if (jval_is_sequence(self) || self.kind == J_DICT)
        return jval_bool(self.kind == v.kind && self.list == v.list);
    return jval_bool(self.kind == v.kind && jval_equal(r, self, v));
}

/* All letters, of which there is one at least, are of this case. */
static struct jval has_case(struct jrun *r, struct jval self, enum jcase how, enum jcase other)
{
    const struct jstr *s = jval_str(r, self);
    const struct jstr *same = jstr_case(r, s, how);
    const struct jstr *changed = jstr_case(r, s, other);
    return jval_bool(!jrun_failed(r) && jstr_same(s, same) && !jstr_same(s, changed));
}

static struct jval t_upper(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)a;
    return has_case(r, self, CASE_UPPER, CASE_LOWER);
}

static struct jval t_lower(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)a;
    return has_case(r, self, CASE_LOWER, CASE_UPPER);
}

static struct jval t_filter(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)r;
    (void)a;
    return jval_bool(self.kind == J_STRING && jinja_filter(self.s->p, self.s->n));
}

static struct jval t_test(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)r;
    (void)a;
    return jval_bool(self.kind == J_STRING && jinja_test(self.s->p, self.s->n));
}

static const struct jbuiltin tests[] = {
    {"boolean", t_boolean, ""},
    {"callable", t_callable, ""},
    {"defined", t_defined, ""},
    {"divisibleby", t_divisibleby, "num"},
    {"eq", t_eq, "other"},
    {"equalto", t_eq, "other"},
    {"even", t_even, ""},
    {"false", t_false, ""},
    {"filter", t_filter, ""},
    {"float", t_float, ""},
    {"ge", t_ge, "other"},
    {"greaterthan", t_gt, "other"},
    {"gt", t_gt, "other"},
    {"in", t_in, "seq"},
    {"integer", t_integer, ""},
    {"iterable", t_iterable, ""},
    {"le", t_le, "other"},
    {"lessthan", t_lt, "other"},
    {"lower", t_lower, ""},
    {"lt", t_lt, "other"},
    {"mapping", t_mapping, ""},
    {"ne", t_ne, "other"},
    {"none", t_none, ""},
    {"number", t_number, ""},
    {"odd", t_odd, ""},
    {"sameas", t_sameas, "other"},
    {"sequence", t_sequence, ""},
    {"string", t_string, ""},
    {"test", t_test, ""},
    {"true", t_true, ""},
    {"undefined", t_undefined, ""},
    {"upper", t_upper, ""},
    {"==", t_eq, "other"},
    {"!=", t_ne, "other"},
    {"<", t_lt, "other"},
    {"<=", t_le, "other"},
    {">", t_gt, "other"},
    {">=", t_ge, "other"},
};

const struct jbuiltin *jinja_test(const char *p, size_t n)
{
    return jinja_find(tests, ARRAY_LEN(tests), p, n);
}

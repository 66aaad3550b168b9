/* Filters of single values; those of lists are in jinja_filter_list.c. */

#include "models/jinja_priv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct jval empty(struct jrun *r)
{
    return jval_string(jstr_new(&r->mem, "", 0, true));
}

/* --- text --- */

static struct jval f_upper(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)a;
    return jval_string(jstr_case(r, jval_str(r, self), CASE_UPPER));
}

static struct jval f_lower(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)a;
    return jval_string(jstr_case(r, jval_str(r, self), CASE_LOWER));
}

static struct jval f_title(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)a;
    return jval_string(jstr_case(r, jval_str(r, self), CASE_TITLE_FILTER));
}

static struct jval f_capitalize(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)a;
    return jval_string(jstr_case(r, jval_str(r, self), CASE_CAPITAL));
}

static struct jval f_trim(struct jrun *r, struct jval self, const struct jargs *a)
{
    const struct jstr *chars = jarg_string(r, a, 0);
    return jval_string(jstr_strip(r, jval_str(r, self), chars, STRIP_LEFT | STRIP_RIGHT));
}

static struct jval f_replace(struct jrun *r, struct jval self, const struct jargs *a)
{
    const struct jstr *old = jval_str(r, a->slot[0]);
    const struct jstr *new = jval_str(r, a->slot[1]);
    int64_t most = jarg_int(r, a, 2, -1);
    return jval_string(jstr_replace(r, jval_str(r, self), old, new, most));
}

static struct jval f_string(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)a;
    return jval_string(jval_str(r, self));
}

static struct jval f_format(struct jrun *r, struct jval self, const struct jargs *a)
{
    return jinja_format(r, jval_str(r, self), a);
}

static struct jval f_safe(struct jrun *r, struct jval self, const struct jargs *a)
{
    return f_string(r, self, a);
}

static struct jval f_escape(struct jrun *r, struct jval self, const struct jargs *a)
{
    static const char *const entity[][2] = {
        {"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"'", "&#39;"}, {"\"", "&#34;"}};
    const struct jstr *s = jval_str(r, self);
    (void)a;
    for (size_t i = 0; i < ARRAY_LEN(entity); i++)
        s = jstr_replace(r, s, jstr_new(&r->mem, entity[i][0], 1, false),
                         jstr_new(&r->mem, entity[i][1], strlen(entity[i][1]), false), -1);
    return jval_string(s);
}

/* width: a number of blanks or the text itself. */
static const struct jstr *indent_text(struct jrun *r, const struct jargs *a)
{
    struct jbuf b = {.mem = &r->mem};
    if (a->slot[0].kind == J_STRING)
        return a->slot[0].s;
    int64_t n = jarg_int(r, a, 0, 4);
    for (int64_t i = 0; i < n && jrun_pay(r, 1); i++)
        jbuf_text(&b, " ");
    return jbuf_done(&b);
}

static struct jval f_indent(struct jrun *r, struct jval self, const struct jargs *a)
{
    const struct jstr *s = jval_str(r, self);
    const struct jstr *by = indent_text(r, a);
    bool first = jarg_bool(a, 1, false);
    bool blank = jarg_bool(a, 2, false);
    struct jbuf b = {.mem = &r->mem};
    size_t from = 0;
    if (!jrun_pay_bytes(r, s->n))
        return self;
    for (bool more = true; more && jrun_pay_bytes(r, by->n);) {
        const char *end = from < s->n ? memchr(s->p + from, '\n', s->n - from) : NULL;
        size_t to = end ? (size_t)(end - s->p) : s->n;
        if (from == 0 ? first : (blank || to > from))
            jbuf_str(&b, by);
        jbuf_slice(&b, s, from, end ? to + 1 : to);
        more = end != NULL;
        from = to + 1;
    }
    return jval_string(jbuf_done(&b));
}

static struct jval f_wordcount(struct jrun *r, struct jval self, const struct jargs *a)
{
    const struct jstr *s = jval_str(r, self);
    int64_t n = 0;
    bool inside = false;
    (void)a;
    if (!jrun_pay_bytes(r, s->n))
        return self;
    for (size_t i = 0; i < s->n; i++) {
        bool blank = strchr(" \t\n\r\f\v.,;:!?()[]{}\"'", s->p[i]) != NULL;
        n += !blank && !inside;
        inside = !blank;
    }
    return jval_int(n);
}

static struct jval f_center(struct jrun *r, struct jval self, const struct jargs *a)
{
    const struct jstr *s = jval_str(r, self);
    size_t n = jstr_length(s);
    int64_t width = jarg_int(r, a, 0, 80);
    struct jbuf b = {.mem = &r->mem};
    size_t fill = width > (int64_t)n ? (size_t)width - n : 0;
    size_t left = fill / 2 + (fill & (size_t)width & 1);
    for (size_t i = 0; i < left && jrun_pay(r, 1); i++)
        jbuf_text(&b, " ");
    jbuf_str(&b, s);
    for (size_t i = left; i < fill && jrun_pay(r, 1); i++)
        jbuf_text(&b, " ");
    return jval_string(jbuf_done(&b));
}

static struct jval f_truncate(struct jrun *r, struct jval self, const struct jargs *a)
{
    const struct jstr *s = jval_str(r, self);
    int64_t most = jarg_int(r, a, 0, 255);
    bool kill = jarg_bool(a, 1, false);
    struct jval end = a->slot[2].kind == J_STRING ? a->slot[2] : jval_text(r, "...");
    int64_t leeway = jarg_int(r, a, 3, 5);
    int64_t tail = (int64_t)jstr_length(end.s);
    if (most < tail || leeway < 0 || (int64_t)jstr_length(s) <= most + leeway)
        return jval_string(s);
    size_t to = jstr_offset(s, (size_t)(most - tail));
    for (size_t i = to; !kill && i > 0; i--) {
        if (s->p[i - 1] == ' ') {
            to = i - 1;
            break;
        }
    }
    return jinja_binary(r, OP_CONCAT, jval_string(jstr_slice(&r->mem, s, 0, to)), end);
}

static struct jval f_urlencode(struct jrun *r, struct jval self, const struct jargs *a)
{
    static const char hex[] = "0123456789ABCDEF";
    const struct jstr *s = jval_str(r, self);
    struct jbuf b = {.mem = &r->mem};
    (void)a;
    for (size_t i = 0; i < s->n && jrun_pay_bytes(r, 8); i++) {
        unsigned char c = (unsigned char)s->p[i];
        const char code[] = {'%', hex[c >> 4], hex[c & 15]};
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
            (c && strchr("_.-~/", c)))
            jbuf_slice(&b, s, i, i + 1);
        else
            jbuf_add(&b, code, sizeof(code), false);
    }
    return jval_string(jbuf_done(&b));
}

/* --- numbers --- */

enum { NUMBER_BYTES = 64 };

/* The text of a number without blanks around it and "_" inside; false: too long for one. */
static bool number_text(struct jrun *r, const struct jstr *s, char out[NUMBER_BYTES])
{
    size_t n = 0;
    s = jstr_strip(r, s, NULL, STRIP_LEFT | STRIP_RIGHT);
    for (size_t i = 0; i < s->n; i++) {
        if (s->p[i] == '_' && i > 0)
            continue;
        if (n == NUMBER_BYTES - 1)
            return false;
        out[n++] = s->p[i];
    }
    out[n] = '\0';
    return n > 0 && !strpbrk(out, "xXpPnN ");
}

static bool parse_int(const char *p, int64_t base, int64_t *out)
{
    bool minus = *p == '-';
    char mark = base == 16 ? 'x' : base == 8 ? 'o' : base == 2 ? 'b' : '\0';
    p += *p == '-' || *p == '+';
    if (mark && p[0] == '0' && (p[1] | 0x20) == mark)
        p += 2;
    *out = 0;
    if (!*p)
        return false;
    for (; *p; p++) {
        int64_t digit = hex_value(*p);
        if (digit < 0 || digit >= base || __builtin_mul_overflow(*out, base, out) ||
            __builtin_sub_overflow(*out, digit, out))
            return false;
    }
    return minus || !__builtin_sub_overflow((int64_t)0, *out, out);
}

static bool float_to_int(double f, int64_t *out)
{
    if (!(fabs(f) < 9.2e18))
        return false;
    *out = (int64_t)f;
    return true;
}

static struct jval f_int(struct jrun *r, struct jval self, const struct jargs *a)
{
    char text[NUMBER_BYTES];
    int64_t base = jarg_int(r, a, 1, 10);
    int64_t i = 0;
    struct jval otherwise = a->slot[0].kind == J_ABSENT ? jval_int(0) : a->slot[0];
    if (self.kind == J_FLOAT)
        return float_to_int(self.f, &i) ? jval_int(i) : otherwise;
    if (self.kind == J_INT || self.kind == J_BOOL)
        return jval_int(self.kind == J_INT ? self.i : self.b);
    if (self.kind != J_STRING)
        return otherwise;
    const struct jstr *s = jstr_strip(r, self.s, NULL, STRIP_LEFT | STRIP_RIGHT);
    if (s->n >= NUMBER_BYTES)
        return otherwise;
    memcpy(text, s->p, s->n);
    text[s->n] = '\0';
    if (parse_int(text, base, &i))
        return jval_int(i);
    char *end;
    if (!number_text(r, s, text))
        return otherwise;
    double f = strtod(text, &end);
    return *end == '\0' && float_to_int(f, &i) ? jval_int(i) : otherwise;
}

static struct jval f_float(struct jrun *r, struct jval self, const struct jargs *a)
{
    char text[NUMBER_BYTES];
    char *end;
    if (jval_is_number(self))
        return jval_float(jval_number(self));
    if (self.kind == J_STRING && number_text(r, self.s, text)) {
        double f = strtod(text, &end);
        if (*end == '\0')
            return jval_float(f);
    }
    return a->slot[0].kind == J_ABSENT ? jval_float(0) : a->slot[0];
}

static struct jval f_abs(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)a;
    if (self.kind == J_FLOAT)
        return jval_float(fabs(self.f));
    if (self.kind == J_BOOL)
        return jval_int(self.b);
    if (self.kind == J_INT)
        return self.i < 0 ? jinja_binary(r, OP_SUB, jval_int(0), self) : self;
    jinja_fail(&r->mem, "bad operand type for abs(): '%s'", jval_type(self));
    return self;
}

/* Half to even in the decimal sense, as Python rounds: through the digits that print. */
static double round_common(double f, int digits)
{
    char text[512];
    if (fabs(f) > 1e100 || digits > 100)
        return f;
    if (digits <= 0) {
        double unit = pow(10, -digits);
        return rint(f / unit) * unit;
    }
    (void)snprintf(text, sizeof(text), "%.*f", digits, f);
    return strtod(text, NULL);
}

static struct jval f_round(struct jrun *r, struct jval self, const struct jargs *a)
{
    int64_t digits = jarg_int(r, a, 0, 0);
    const struct jstr *how = jarg_string(r, a, 1);
    if (!jval_is_number(self) || digits < -100 || digits > 100) {
        jinja_fail(&r->mem, "round() needs a number and at most 100 digits");
        return self;
    }
    if (!how || jstr_is(how, "common"))
        return self.kind == J_FLOAT ? jval_float(round_common(self.f, (int)digits)) : self;
    double unit = pow(10, (double)digits);
    double f = jval_number(self) * unit;
    if (jstr_is(how, "ceil"))
        return jval_float(ceil(f) / unit);
    if (jstr_is(how, "floor"))
        return jval_float(floor(f) / unit);
    jinja_fail(&r->mem, "method must be common, ceil or floor");
    return self;
}

/* --- anything --- */

static struct jval f_default(struct jrun *r, struct jval self, const struct jargs *a)
{
    bool falsy = jarg_bool(a, 1, false) && !jval_true(self);
    if (self.kind != J_UNDEFINED && !falsy)
        return self;
    return a->slot[0].kind == J_ABSENT ? empty(r) : a->slot[0];
}

static struct jval f_length(struct jrun *r, struct jval self, const struct jargs *a)
{
    (void)a;
    switch (self.kind) {
    case J_UNDEFINED:
        return jval_int(0);
    case J_STRING:
        return jrun_pay_bytes(r, self.s->n) ? jval_int((int64_t)jstr_length(self.s)) : self;
    case J_LIST:
    case J_TUPLE:
        return jval_int((int64_t)self.list->n);
    case J_DICT:
        return jval_int((int64_t)self.dict->n);
    default:
        jinja_fail(&r->mem, "object of type '%s' has no length", jval_type(self));
        return self;
    }
}

static struct jval f_attr(struct jrun *r, struct jval self, const struct jargs *a)
{
    const struct jstr *name = jarg_string(r, a, 0);
    /* Attributes alone: members of a dictionary are items. */
    if (!name || self.kind == J_UNDEFINED)
        return jval_undefined(name);
    return self.kind == J_NAMESPACE ? jinja_attr(r, self, name) : jinja_method(r, self, name);
}

static const struct jbuiltin filters[] = {
    {"abs", f_abs, ""},
    {"attr", f_attr, "name"},
    {"capitalize", f_capitalize, ""},
    {"center", f_center, "width"},
    {"count", f_length, ""},
    {"d", f_default, "default_value boolean"},
    {"default", f_default, "default_value boolean"},
    {"e", f_escape, ""},
    {"escape", f_escape, ""},
    {"float", f_float, "default"},
    {"forceescape", f_escape, ""},
    {"format", f_format, NULL},
    {"indent", f_indent, "width first blank"},
    {"int", f_int, "default base"},
    {"length", f_length, ""},
    {"lower", f_lower, ""},
    {"replace", f_replace, "old new count"},
    {"round", f_round, "precision method"},
    {"safe", f_safe, ""},
    {"string", f_string, ""},
    {"title", f_title, ""},
    {"tojson", jinja_tojson, "ensure_ascii indent separators sort_keys"},
    {"trim", f_trim, "chars"},
    {"truncate", f_truncate, "length killwords end leeway"},
    {"upper", f_upper, ""},
    {"urlencode", f_urlencode, ""},
    {"wordcount", f_wordcount, ""},
};

const struct jbuiltin *jinja_filter(const char *p, size_t n)
{
    const struct jbuiltin *b = jinja_find(filters, ARRAY_LEN(filters), p, n);
    return b ? b : jinja_filter_list(p, n);
}

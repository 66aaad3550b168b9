/* What filters and methods do to strings, byte by byte with their provenance. Case is that of
 * Unicode's simple mapping, with the few letters that become two. */

#include "models/jinja_priv.h"
#include "models/unicode.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

/* --- case --- */

static bool is_letter(uint32_t c)
{
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LT) ||
           utf8proc_toupper((utf8proc_int32_t)c) != (utf8proc_int32_t)c ||
           utf8proc_tolower((utf8proc_int32_t)c) != (utf8proc_int32_t)c;
}

/* What the filter `title` takes for the beginning of a word. */
static bool opens_word(uint32_t c)
{
    return c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || char_class(c) == CHAR_SPACE;
}

static void put_char(struct jbuf *b, uint32_t c, bool upper, bool first, bool trusted)
{
    char text[4];
    if (upper && c == 0xdf) { /* sharp s has no capital of its own */
        jbuf_add(b, first ? "Ss" : "SS", 2, trusted);
        return;
    }
    utf8proc_int32_t to =
        upper ? utf8proc_toupper((utf8proc_int32_t)c) : utf8proc_tolower((utf8proc_int32_t)c);
    utf8proc_ssize_t n = utf8proc_encode_char(to, (utf8proc_uint8_t *)text);
    jbuf_add(b, text, (size_t)n, trusted);
}

const struct jstr *jstr_case(struct jrun *r, const struct jstr *s, enum jcase how)
{
    struct jbuf b = {.mem = &r->mem};
    const char *end = s->p + s->n;
    bool first = true;
    if (!jrun_pay_bytes(r, 8 * s->n))
        return s;
    for (const char *p = s->p; p < end && !jrun_failed(r);) {
        bool trusted = s->mark ? s->mark[p - s->p] : s->trusted;
        uint32_t c = utf8_next(&p);
        bool titled = how == CASE_TITLE || how == CASE_TITLE_FILTER || how == CASE_CAPITAL;
        put_char(&b, c, how == CASE_UPPER || (titled && first), titled && how != CASE_TITLE_FILTER,
                 trusted);
        if (how == CASE_TITLE)
            first = !is_letter(c);
        else
            first = how == CASE_TITLE_FILTER && opens_word(c);
    }
    return jbuf_done(&b);
}

/* --- parts --- */

static bool is_blank(uint32_t c)
{
    return char_class(c) == CHAR_SPACE || (c >= 0x1c && c <= 0x1f);
}

/* Whether the character goes: blank, or one of chars. */
static bool strips(uint32_t c, const struct jstr *chars)
{
    if (!chars)
        return is_blank(c);
    for (const char *p = chars->p; p < chars->p + chars->n;) {
        if (utf8_next(&p) == c)
            return true;
    }
    return false;
}

const struct jstr *jstr_strip(struct jrun *r, const struct jstr *s, const struct jstr *chars,
                              int sides)
{
    size_t from = 0;
    size_t to = s->n;
    while (sides & STRIP_LEFT && from < to) {
        const char *p = s->p + from;
        uint32_t c = utf8_next(&p);
        if (!strips(c, chars) || !jrun_pay_bytes(r, chars ? chars->n : 0))
            break;
        from = (size_t)(p - s->p);
    }
    while (sides & STRIP_RIGHT && to > from) {
        size_t last = to - 1;
        while (last > from && ((unsigned char)s->p[last] & 0xc0) == 0x80)
            last--;
        const char *p = s->p + last;
        if (!strips(utf8_next(&p), chars) || !jrun_pay_bytes(r, chars ? chars->n : 0))
            break;
        to = last;
    }
    return from == 0 && to == s->n ? s : jstr_slice(&r->mem, s, from, to);
}

size_t jstr_find(const struct jstr *s, const struct jstr *part, size_t from)
{
    if (part->n == 0)
        return from <= s->n ? from : SIZE_MAX;
    if (from >= s->n)
        return SIZE_MAX;
    const char *at = memmem(s->p + from, s->n - from, part->p, part->n);
    return at ? (size_t)(at - s->p) : SIZE_MAX;
}

/* Before every character and at the end, as Python replaces the empty string. */
static void replace_nothing(struct jrun *r, struct jbuf *b, const struct jstr *s,
                            const struct jstr *new, int64_t most)
{
    size_t at = 0;
    while (at < s->n && most > 0 && !jrun_failed(r)) {
        size_t next = at + utf8_length(s->p + at, s->p + s->n);
        jbuf_str(b, new);
        jbuf_slice(b, s, at, next);
        at = next;
        most--;
        (void)jrun_pay_bytes(r, new->n);
    }
    jbuf_slice(b, s, at, s->n);
    if (most > 0)
        jbuf_str(b, new);
}

const struct jstr *jstr_replace(struct jrun *r, const struct jstr *s, const struct jstr *old,
                                const struct jstr *new, int64_t most)
{
    struct jbuf b = {.mem = &r->mem};
    size_t from = 0;
    most = most < 0 ? INT64_MAX : most;
    if (!jrun_pay_bytes(r, s->n))
        return s;
    if (old->n == 0) {
        replace_nothing(r, &b, s, new, most);
        return jbuf_done(&b);
    }
    for (size_t at; most > 0 && (at = jstr_find(s, old, from)) != SIZE_MAX; most--) {
        if (!jrun_pay_bytes(r, new->n))
            return s;
        jbuf_slice(&b, s, from, at);
        jbuf_str(&b, new);
        from = at + old->n;
    }
    if (from == 0)
        return s;
    jbuf_slice(&b, s, from, s->n);
    return jbuf_done(&b);
}

/* --- printf --- */

struct spec {
    bool left;
    bool zero;
    bool plus;
    bool blank;
    int width;
    int precision; /* -1: none */
    char kind;
};

enum { FORMAT_WIDTH_MAX = 4096, FORMAT_BYTES = 512 };

static const char *read_number(const char *p, const char *end, int *out)
{
    for (; p < end && *p >= '0' && *p <= '9'; p++)
        *out = *out < FORMAT_WIDTH_MAX ? *out * 10 + (*p - '0') : *out;
    return p;
}

static const char *read_spec(const char *p, const char *end, struct spec *s)
{
    *s = (struct spec){.precision = -1};
    for (; p < end && *p && strchr("-0+ #", *p); p++) {
        s->left = s->left || *p == '-';
        s->zero = s->zero || *p == '0';
        s->plus = s->plus || *p == '+';
        s->blank = s->blank || *p == ' ';
    }
    p = read_number(p, end, &s->width);
    if (p < end && *p == '.') {
        s->precision = 0;
        p = read_number(p + 1, end, &s->precision);
    }
    s->kind = p < end ? *p++ : '\0';
    return p;
}

static bool format_float(struct jrun *r, const struct spec *s, struct jval v,
                         char out[FORMAT_BYTES])
{
    int digits = s->precision < 0 ? 6 : s->precision;
    double f = jval_number(v);
    if (digits > 100 || fabs(f) > 1e100) {
        jinja_fail(&r->mem, "a number is out of range for a format");
        return false;
    }
    switch (s->kind) {
    case 'e':
        (void)snprintf(out, FORMAT_BYTES, "%.*e", digits, f);
        break;
    case 'g':
        (void)snprintf(out, FORMAT_BYTES, "%.*g", digits, f);
        break;
    default:
        (void)snprintf(out, FORMAT_BYTES, "%.*f", digits, f);
    }
    return true;
}

static bool format_number(struct jrun *r, const struct spec *s, struct jval v,
                          char out[FORMAT_BYTES])
{
    char *to = out;
    if (!jval_is_number(v)) {
        jinja_fail(&r->mem, "a format needs a number, not %s", jval_type(v));
        return false;
    }
    if (s->plus || s->blank) {
        *to = s->plus ? '+' : ' ';
        to += jval_number(v) >= 0 ? 1 : 0;
    }
    if (strchr("efg", s->kind)) {
        char text[FORMAT_BYTES];
        if (!format_float(r, s, v, text))
            return false;
        (void)snprintf(to, FORMAT_BYTES - 1, "%.*s", FORMAT_BYTES - 2, text);
        return true;
    }
    double f = jval_number(v);
    if (!(fabs(f) < 9e18)) {
        jinja_fail(&r->mem, "a number is out of range for a format");
        return false;
    }
    long long i = v.kind == J_INT ? (long long)v.i : (long long)f;
    if (s->kind == 'x' || s->kind == 'X' || s->kind == 'o') {
        unsigned long long u = i < 0 ? 0 - (unsigned long long)i : (unsigned long long)i;
        (void)snprintf(to, FORMAT_BYTES - 1, s->kind == 'o' ? "%s%llo" : "%s%llx", i < 0 ? "-" : "",
                       u);
        for (char *c = to; s->kind == 'X' && *c; c++)
            *c = *c >= 'a' && *c <= 'f' ? (char)(*c - 0x20) : *c;
        return true;
    }
    (void)snprintf(to, FORMAT_BYTES - 1, "%lld", i);
    return true;
}

static void pad(struct jbuf *b, char c, size_t n)
{
    for (size_t i = 0; i < n; i++)
        jbuf_add(b, &c, 1, false);
}

static void put_spec(struct jrun *r, struct jbuf *b, const struct spec *s, struct jval v)
{
    char number[FORMAT_BYTES] = "";
    const struct jstr *text;
    bool is_text = s->kind == 's' || s->kind == 'r';
    if (s->kind == '\0' || !strchr("srdiufegxXo", s->kind)) {
        jinja_fail(&r->mem, "unsupported format character");
        return;
    }
    if (is_text) {
        struct jbuf repr = {.mem = &r->mem};
        if (s->kind == 'r')
            jval_repr(r, &repr, v);
        text = s->kind == 'r' ? jbuf_done(&repr) : jval_str(r, v);
        if (s->precision >= 0)
            text = jstr_slice(&r->mem, text, 0, jstr_offset(text, (size_t)s->precision));
    } else {
        if (!format_number(r, s, v, number))
            return;
        text = jstr_new(&r->mem, number, strlen(number), false);
    }
    size_t n = jstr_length(text);
    size_t fill = (size_t)s->width > n ? (size_t)s->width - n : 0;
    size_t sign = !is_text && s->zero && !s->left && n && strchr("+- ", *text->p) ? 1 : 0;
    jbuf_slice(b, text, 0, sign);
    if (!s->left)
        pad(b, s->zero && !is_text ? '0' : ' ', fill);
    jbuf_slice(b, text, sign, text->n);
    if (s->left)
        pad(b, ' ', fill);
}

struct jval jinja_format(struct jrun *r, const struct jstr *f, const struct jargs *a)
{
    struct jbuf b = {.mem = &r->mem};
    const char *end = f->p + f->n;
    size_t used = 0;
    size_t from = 0;
    if (!jrun_pay_bytes(r, f->n))
        return jval_string(f);
    for (const char *p = f->p; p < end && !jrun_failed(r);) {
        struct spec s;
        if (*p++ != '%')
            continue;
        jbuf_slice(&b, f, from, (size_t)(p - 1 - f->p));
        p = read_spec(p, end, &s);
        from = (size_t)(p - f->p);
        if (s.kind == '%')
            jbuf_slice(&b, f, from - 1, from);
        else if (used < a->n)
            put_spec(r, &b, &s, a->pos[used++]);
        else
            jinja_fail(&r->mem, "not enough arguments for the format");
        (void)jrun_pay(r, 1 + (size_t)s.width / 16);
    }
    if (used < a->n)
        jinja_fail(&r->mem, "not all arguments are used by the format");
    jbuf_slice(&b, f, from, f->n);
    return jval_string(jbuf_done(&b));
}

/* Template text -> tokens, and all of the white space rules: a line break behind a block tag
 * or comment goes (trim_blocks), blanks between the beginning of a line and one go
 * (lstrip_blocks), "-" takes all white space on its side, "+" switches the rule off on its
 * side, and one line break at the end of the template goes. Invariant: `at` never passes
 * `end`; every tag that is opened is closed or the template fails. */

#include "models/jinja_priv.h"
#include "models/unicode.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct lexer {
    struct jmem *m;
    const char *at;
    const char *end;
    bool line_starting;   /* what follows is the beginning of a line */
    struct jtoken *token; /* [n_max] from realloc() */
    size_t n;
    size_t n_max;
};

static struct jtoken *put(struct lexer *x, enum jtoken_kind kind, const char *p, size_t n)
{
    if (x->n == x->n_max) {
        size_t max = x->n_max * 2 + 256;
        struct jtoken *more =
            max > 4 * JINJA_NODES_MAX ? NULL : realloc(x->token, max * sizeof(*more));
        if (!more) {
            jinja_fail(x->m, "the template is too large");
            return NULL;
        }
        x->token = more;
        x->n_max = max;
    }
    struct jtoken *t = &x->token[x->n++];
    *t = (struct jtoken){.kind = kind, .line = x->m->line, .p = p, .n = n};
    return t;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c >= '0' && c <= '9') ||
           (unsigned char)c >= 0x80;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static void step(struct lexer *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x->m->line += x->at[i] == '\n';
    x->at += n;
}

static bool looking_at(const struct lexer *x, const char *text)
{
    size_t n = strlen(text);
    return (size_t)(x->end - x->at) >= n && memcmp(x->at, text, n) == 0;
}

static void skip_blanks(struct lexer *x)
{
    while (x->at < x->end && is_blank(*x->at))
        step(x, 1);
}

/* --- the ends of tags --- */

/* The close of a tag, like "%}", with the mark before it. False: it is not here. */
static bool close_tag(struct lexer *x, const char *close, bool plus, bool trims)
{
    char mark = *x->at;
    size_t skip = mark == '-' || (plus && mark == '+') ? 1 : 0;
    if ((size_t)(x->end - x->at) < skip + 2 || memcmp(x->at + skip, close, 2) != 0)
        return false;
    step(x, skip + 2);
    const char *from = x->at;
    if (mark == '-' && skip)
        skip_blanks(x);
    else if (trims && !skip && x->at < x->end && *x->at == '\n')
        step(x, 1);
    x->line_starting = x->at > from && x->at[-1] == '\n';
    return true;
}

/* --- strings --- */

static size_t put_utf8(char *to, uint32_t c)
{
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        to[i] = (char)(0x80 | (c & 0x3f));
    to[0] = (char)((0xf00 >> n & 0xff) | c);
    return n;
}

/* \xNN, \uNNNN, \UNNNNNNNN and \NNN; 0: none of them. */
static size_t number_escape(const char *p, const char *end, uint32_t *c)
{
    bool octal = *p >= '0' && *p <= '7';
    size_t want = *p == 'x' ? 2 : *p == 'u' ? 4 : *p == 'U' ? 8 : 0;
    size_t n = 0;
    *c = 0;
    if (octal) {
        while (n < 3 && p + n < end && p[n] >= '0' && p[n] <= '7')
            *c = *c * 8 + (uint32_t)(p[n++] - '0');
        return n;
    }
    for (; n < want && p + 1 + n < end && hex_value(p[1 + n]) >= 0; n++)
        *c = *c << 4 | (uint32_t)hex_value(p[1 + n]);
    return want && n == want ? n + 1 : 0;
}

static size_t escape(struct lexer *x, const char *p, const char *end, char *to, size_t *written)
{
    static const char letters[] = "n\nt\tr\rb\bf\fv\va\a\\\\''\"\"";
    uint32_t c = 0;
    *written = 0;
    if (*p == '\n')
        return 1;
    for (const char *l = letters; *l; l += 2) {
        if (*p == *l) {
            to[0] = l[1];
            *written = 1;
            return 1;
        }
    }
    size_t n = number_escape(p, end, &c);
    if (n && (c == 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))) {
        jinja_fail(x->m, "a string holds an escape that is no character");
        return n;
    }
    if (n) {
        *written = put_utf8(to, c);
        return n;
    }
    to[0] = '\\'; /* stays, with what follows */
    *written = 1;
    return 0;
}

static void lex_string(struct lexer *x)
{
    char quote = *x->at;
    const char *p = x->at + 1;
    while (p < x->end && *p != quote)
        p += *p == '\\' && p + 1 < x->end ? 2 : 1;
    if (p >= x->end) {
        jinja_fail(x->m, "a string without its end");
        return;
    }
    const char *close = p;
    /* No escape makes text longer. */
    char *out = jmem_alloc(x->m, (size_t)(close - x->at) + 1);
    size_t n = 0;
    for (p = x->at + 1; out && p < close && !x->m->failed;) {
        size_t written = 1;
        if (*p != '\\') {
            out[n++] = *p++;
            continue;
        }
        p++;
        p += escape(x, p, close, out + n, &written);
        n += written;
    }
    if (out)
        put(x, T_STRING, out, n);
    step(x, (size_t)(close + 1 - x->at));
}

/* --- numbers --- */

enum { NUMBER_BYTES = 64 };

/* The digits without "_" between; what is longer than any number fails. */
static size_t digits(const struct lexer *x, char out[NUMBER_BYTES], bool *whole)
{
    const char *p = x->at;
    size_t n = 0;
    *whole = true;
    for (; p < x->end && n < NUMBER_BYTES - 1; p++) {
        char c = *p;
        bool more = p + 1 < x->end && is_digit(p[1]);
        if (c == '_' && more)
            continue;
        if (c == '.' && *whole && more)
            *whole = false;
        else if ((c == 'e' || c == 'E') &&
                 (more || (p + 2 < x->end && (p[1] == '+' || p[1] == '-') && is_digit(p[2])))) {
            *whole = false;
            out[n++] = c;
            if (!more)
                c = *++p;
            else
                continue;
        } else if (!is_digit(c))
            break;
        out[n++] = c;
    }
    out[n] = '\0';
    return (size_t)(p - x->at);
}

static bool lex_radix(struct lexer *x)
{
    int64_t value = 0;
    if (x->end - x->at < 3 || *x->at != '0')
        return false;
    int64_t base = (x->at[1] | 0x20) == 'x'   ? 16
                   : (x->at[1] | 0x20) == 'o' ? 8
                   : (x->at[1] | 0x20) == 'b' ? 2
                                              : 0;
    if (!base || hex_value(x->at[2]) < 0)
        return false;
    step(x, 2);
    for (; x->at < x->end && (hex_value(*x->at) >= 0 || *x->at == '_'); x->at++) {
        if (*x->at == '_')
            continue;
        if (hex_value(*x->at) >= base || __builtin_mul_overflow(value, base, &value) ||
            __builtin_add_overflow(value, (int64_t)hex_value(*x->at), &value)) {
            jinja_fail(x->m, "a number that is none");
            return true;
        }
    }
    struct jtoken *t = put(x, T_INT, x->at, 0);
    if (t)
        t->i = value;
    return true;
}

static void lex_number(struct lexer *x)
{
    char text[NUMBER_BYTES];
    bool whole;
    if (lex_radix(x))
        return;
    size_t n = digits(x, text, &whole);
    struct jtoken *t = put(x, whole ? T_INT : T_FLOAT, x->at, n);
    if (!t)
        return;
    if (strlen(text) == NUMBER_BYTES - 1 || (whole && strlen(text) > 18)) {
        jinja_fail(x->m, "a number that is too long");
        return;
    }
    t->i = whole ? strtoll(text, NULL, 10) : 0;
    t->f = whole ? 0 : strtod(text, NULL);
    if (isinf(t->f))
        jinja_fail(x->m, "a number that is too large");
    step(x, n);
}

/* --- inside of tags --- */

static void lex_operator(struct lexer *x, int32_t *open)
{
    static const char *const two[] = {"==", "!=", "<=", ">=", "//", "**"};
    static const char one[] = "+-*/%~<>=.,:|()[]{}";
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(two); i++) {
        if (looking_at(x, two[i]))
            n = 2;
    }
    if (n == 0 && *x->at && strchr(one, *x->at))
        n = 1;
    if (n == 0) {
        jinja_fail(x->m, "a character that means nothing here");
        return;
    }
    if (strchr("([{", *x->at))
        (*open)++;
    else if (strchr(")]}", *x->at) && *open > 0)
        (*open)--;
    put(x, T_OP, x->at, n);
    x->at += n;
}

static void lex_inside(struct lexer *x, bool block)
{
    int32_t open = 0;
    while (!x->m->failed) {
        skip_blanks(x);
        if (x->at >= x->end) {
            jinja_fail(x->m, "a tag without its end");
            return;
        }
        /* "}}" can also end two dictionaries. */
        if (open == 0 && close_tag(x, block ? "%}" : "}}", block, block)) {
            put(x, block ? T_BLOCK_END : T_PRINT_END, x->at, 0);
            return;
        }
        if (*x->at == '"' || *x->at == '\'') {
            lex_string(x);
        } else if (is_digit(*x->at)) {
            lex_number(x);
        } else if (is_name(*x->at)) {
            size_t n = 0;
            while (x->at + n < x->end && is_name(x->at[n]))
                n++;
            put(x, T_NAME, x->at, n);
            x->at += n;
        } else {
            lex_operator(x, &open);
        }
    }
}

/* --- text between tags --- */

/* Where text[n] ends once blanks between the beginning of its last line and a tag are gone. */
static size_t strip_line(const struct lexer *x, const char *text, size_t n)
{
    size_t start = n;
    while (start > 0 && text[start - 1] != '\n')
        start--;
    if (start == 0 && !x->line_starting)
        return n;
    for (size_t i = start; i < n; i++) {
        if (!is_blank(text[i]))
            return n;
    }
    return start;
}

static const char *find_tag(const struct lexer *x)
{
    const char *p = x->at;
    while (p + 1 < x->end && (*p != '{' || !strchr("{%#", p[1])))
        p++;
    return p + 1 < x->end ? p : x->end;
}

static void put_text(struct lexer *x, const char *tag)
{
    size_t n = (size_t)(tag - x->at);
    char mark = tag + 2 < x->end ? tag[2] : ' ';
    if (tag < x->end && mark == '-') {
        while (n > 0 && is_blank(x->at[n - 1]))
            n--;
    } else if (tag < x->end && tag[1] != '{' && mark != '+') {
        n = strip_line(x, x->at, n);
    }
    if (n)
        put(x, T_DATA, x->at, n);
    step(x, (size_t)(tag - x->at));
}

static void lex_comment(struct lexer *x)
{
    step(x, 2);
    while (x->at + 1 < x->end) {
        if ((*x->at == '#' || *x->at == '-' || *x->at == '+') && close_tag(x, "#}", true, true))
            return;
        step(x, 1);
    }
    jinja_fail(x->m, "a comment without its end");
}

/* At "{%": the tag is `name` and nothing else. */
static bool tag_is(const struct lexer *x, const char *p, const char *name, const char **behind)
{
    size_t n = strlen(name);
    p += 2;
    if (p < x->end && (*p == '-' || *p == '+'))
        p++;
    while (p < x->end && is_blank(*p))
        p++;
    if ((size_t)(x->end - p) < n || memcmp(p, name, n) != 0)
        return false;
    p += n;
    while (p < x->end && is_blank(*p))
        p++;
    *behind = p;
    return p + 1 < x->end && (*p == '%' || *p == '-' || *p == '+');
}

/* {% raw %} ... {% endraw %}; false: it is another tag. */
static bool lex_raw(struct lexer *x)
{
    const char *behind;
    if (!tag_is(x, x->at, "raw", &behind))
        return false;
    step(x, (size_t)(behind - x->at));
    if (!close_tag(x, "%}", false, false)) {
        jinja_fail(x->m, "raw takes nothing");
        return true;
    }
    for (const char *p = x->at; p + 1 < x->end; p++) {
        if (p[0] != '{' || p[1] != '%' || !tag_is(x, p, "endraw", &behind))
            continue;
        put_text(x, p);
        step(x, (size_t)(behind - x->at));
        if (!close_tag(x, "%}", true, true))
            jinja_fail(x->m, "endraw takes nothing");
        return true;
    }
    jinja_fail(x->m, "raw without endraw");
    return true;
}

static void lex_tag(struct lexer *x)
{
    bool block = x->at[1] == '%';
    if (x->at[1] == '#') {
        lex_comment(x);
        return;
    }
    if (block && lex_raw(x))
        return;
    put(x, block ? T_BLOCK : T_PRINT, x->at, 0);
    x->at += 2;
    if (x->at < x->end && (*x->at == '-' || (block && *x->at == '+')))
        x->at++;
    lex_inside(x, block);
}

enum status jinja_lex(struct jmem *m, const char *text, size_t bytes, struct jtoken **out)
{
    struct lexer x = {.m = m, .at = text, .end = text + bytes, .line_starting = true};
    m->line = 1;
    if (bytes && text[bytes - 1] == '\n')
        x.end--;
    while (x.at < x.end && !m->failed) {
        put_text(&x, find_tag(&x));
        if (x.at < x.end && !m->failed)
            lex_tag(&x);
    }
    put(&x, T_END, x.at, 0);
    if (m->failed) {
        free(x.token);
        return m->status;
    }
    *out = x.token;
    return OK;
}

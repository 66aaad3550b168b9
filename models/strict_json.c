/* One loop over the text with a stack of STRICT_DEPTH_MAX levels and no recursion.
 * Invariant: s->at never passes a byte that has not been accepted, so it is the offset of
 * every error. Where names must be unique they are remembered on the way and compared at the
 * end, sorted by object and hash; the hash saves time only, equality is decided on the
 * decoded names, because "a" and "\u0061" are the same member. */

#include "models/strict_json.h"

#include "models/unicode.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS_FIRST = 64, CODE_END = -1 };

struct level {
    uint64_t serial; /* which object, to tell members of different ones apart */
    bool object;
};

struct key {
    const char *at; /* behind the opening quote, of accepted text */
    uint64_t hash;
    uint64_t object;
};

struct scan {
    const char *text; /* [bytes] */
    size_t bytes;
    size_t at;
    const struct json_limits *limits;
    struct json_error *err;
    struct key *key; /* [keys_room] */
    size_t n_keys;
    size_t keys_room;
    size_t n_nodes;
    size_t n_members; /* of the outermost object */
    uint64_t n_objects;
    int32_t depth;
    struct level level[STRICT_DEPTH_MAX];
};

static enum status refuse_at(struct scan *s, size_t offset, const char *what)
{
    s->err->what = what;
    s->err->offset = offset;
    return E_INVALID;
}

static enum status refuse(struct scan *s, const char *what)
{
    return refuse_at(s, s->at, s->at < s->bytes ? what : "unexpected end");
}

/* The byte at the cursor; 0 at the end, which is accepted nowhere. */
static unsigned char peek(const struct scan *s)
{
    return s->at < s->bytes ? (unsigned char)s->text[s->at] : 0;
}

static void skip_blanks(struct scan *s)
{
    while (s->at < s->bytes) {
        unsigned char c = (unsigned char)s->text[s->at];
        if (c > ' ' || (c != ' ' && c != '\t' && c != '\n' && c != '\r'))
            return;
        s->at++;
    }
}

static bool is_digit(unsigned char c)
{
    return c >= '0' && c <= '9';
}

size_t json_utf8(const char *text, size_t bytes)
{
    return bytes ? utf8_length(text, text + bytes) : 0;
}

/* ---- strings ----------------------------------------------------------------------- */

/* Four hex digits at p, -1 when they are not. */
static int32_t hex4(const char *p, size_t bytes)
{
    int32_t v = 0;
    if (bytes < 4)
        return -1;
    for (size_t i = 0; i < 4; i++) {
        int32_t d = hex_value(p[i]);
        if (d < 0)
            return -1;
        v = v * 16 + d;
    }
    return v;
}

static bool is_high_surrogate(int32_t v)
{
    return v >= 0xD800 && v <= 0xDBFF;
}

static bool is_low_surrogate(int32_t v)
{
    return v >= 0xDC00 && v <= 0xDFFF;
}

/* At the 'u' of an escape. */
static enum status scan_unicode(struct scan *s)
{
    const char *p = s->text + s->at + 1;
    size_t left = s->bytes - s->at - 1;
    int32_t v = hex4(p, left);
    if (v < 0)
        return refuse_at(s, s->at - 1, "invalid \\u escape");
    if (v == 0)
        return refuse_at(s, s->at - 1, "\\u0000 is not accepted");
    if (is_low_surrogate(v))
        return refuse_at(s, s->at - 1, "lone surrogate");
    s->at += 5;
    if (!is_high_surrogate(v))
        return OK;
    if (left < 10 || p[4] != '\\' || p[5] != 'u' || !is_low_surrogate(hex4(p + 6, left - 6)))
        return refuse_at(s, s->at - 6, "lone surrogate");
    s->at += 6;
    return OK;
}

static enum status scan_escape(struct scan *s)
{
    s->at++;
    switch (peek(s)) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        s->at++;
        return OK;
    case 'u':
        return scan_unicode(s);
    default:
        return refuse(s, "invalid escape");
    }
}

/* Past what needs no second look. Letters of two bytes are among it, as the vocabularies of
 * byte-level tokenizers are largely made of them. */
static void skip_plain(struct scan *s)
{
    const unsigned char *p = (const unsigned char *)s->text + s->at;
    const unsigned char *end = (const unsigned char *)s->text + s->bytes;
    while (p < end) {
        unsigned char c = *p;
        if (c < 0x80) {
            if (c == '"' || c == '\\' || c < 0x20)
                break;
            p++;
        } else if (c >= 0xC2 && c <= 0xDF && end - p > 1 && (p[1] & 0xC0) == 0x80) {
            p += 2;
        } else {
            break;
        }
    }
    s->at = (size_t)(p - (const unsigned char *)s->text);
}

/* At the opening quote; ends behind the closing one. */
static enum status scan_string(struct scan *s)
{
    s->at++;
    for (;;) {
        skip_plain(s);
        if (s->at == s->bytes)
            return refuse(s, "unexpected end");
        unsigned char c = (unsigned char)s->text[s->at];
        if (c == '"') {
            s->at++;
            return OK;
        }
        if (c == '\\') {
            enum status st = scan_escape(s);
            if (st != OK)
                return st;
        } else if (c < 0x20) {
            return refuse(s, "control character in a string");
        } else {
            size_t n = json_utf8(s->text + s->at, s->bytes - s->at);
            if (n == 0)
                return refuse(s, "invalid UTF-8");
            s->at += n;
        }
    }
}

/* ---- member names ------------------------------------------------------------------ */

/* Next code point of accepted string text, CODE_END at the closing quote. */
static int32_t next_escaped(const char **p)
{
    static const char plain[] = "\"\\/bfnrt";
    static const char means[] = "\"\\/\b\f\n\r\t";
    char c = (*p)[1];
    if (c != 'u') {
        const char *at = strchr(plain, c);
        *p += 2;
        return means[at - plain];
    }
    int32_t v = hex4(*p + 2, 4);
    *p += 6;
    if (!is_high_surrogate(v))
        return v;
    v = 0x10000 + ((v - 0xD800) << 10) + (hex4(*p + 2, 4) - 0xDC00);
    *p += 6;
    return v;
}

static int32_t next_code(const char **p)
{
    unsigned char c = (unsigned char)**p;
    if (c == '"')
        return CODE_END;
    if (c == '\\')
        return next_escaped(p);
    return (int32_t)utf8_next(p);
}

static uint64_t hash_name(const char *at)
{
    uint64_t h = 0xCBF29CE484222325U;
    for (int32_t c = next_code(&at); c != CODE_END; c = next_code(&at))
        h = (h ^ (uint64_t)c) * 0x100000001B3U;
    return h;
}

static int compare_names(const char *a, const char *b)
{
    for (;;) {
        int32_t x = next_code(&a);
        int32_t y = next_code(&b);
        if (x != y)
            return x < y ? -1 : 1;
        if (x == CODE_END)
            return 0;
    }
}

static int compare_keys(const void *a, const void *b)
{
    const struct key *x = a;
    const struct key *y = b;
    if (x->object != y->object)
        return x->object < y->object ? -1 : 1;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return compare_names(x->at, y->at);
}

static enum status check_duplicates(struct scan *s)
{
    const char *first = NULL;
    if (s->n_keys < 2)
        return OK;
    qsort(s->key, s->n_keys, sizeof(*s->key), compare_keys);
    for (size_t i = 1; i < s->n_keys; i++) {
        const struct key *k = &s->key[i];
        if (compare_keys(k - 1, k) != 0)
            continue;
        const char *later = k->at > k[-1].at ? k->at : k[-1].at;
        if (!first || later < first)
            first = later;
    }
    return first ? refuse_at(s, (size_t)(first - s->text) - 1, "duplicate member") : OK;
}

static enum status remember_key(struct scan *s, const char *at, uint64_t object)
{
    if (s->n_keys == s->keys_room) {
        size_t room = s->keys_room ? s->keys_room * 2 : KEYS_FIRST;
        struct key *key = realloc(s->key, room * sizeof(*key));
        if (!key)
            return E_NOMEM;
        s->key = key;
        s->keys_room = room;
    }
    s->key[s->n_keys++] = (struct key){.at = at, .hash = hash_name(at), .object = object};
    return OK;
}

/* ---- values ------------------------------------------------------------------------ */

static enum status scan_digits(struct scan *s)
{
    if (!is_digit(peek(s)))
        return refuse(s, "expected a digit");
    while (is_digit(peek(s)))
        s->at++;
    return OK;
}

static enum status scan_number(struct scan *s)
{
    size_t start = s->at;
    enum status st = OK;
    if (peek(s) == '-')
        s->at++;
    if (peek(s) == '0')
        s->at++;
    else
        st = scan_digits(s);
    if (st == OK && peek(s) == '.') {
        s->at++;
        st = scan_digits(s);
    }
    if (st == OK && (peek(s) == 'e' || peek(s) == 'E')) {
        s->at++;
        if (peek(s) == '+' || peek(s) == '-')
            s->at++;
        st = scan_digits(s);
    }
    if (st == OK && s->at - start > STRICT_NUMBER_BYTES_MAX)
        return refuse_at(s, start, "number of too many digits");
    return st;
}

static enum status scan_literal(struct scan *s, const char *word)
{
    size_t n = strlen(word);
    if (s->bytes - s->at < n || memcmp(s->text + s->at, word, n) != 0)
        return refuse(s, "expected a value");
    s->at += n;
    return OK;
}

/* A member's name and its colon. */
static enum status scan_key(struct scan *s)
{
    skip_blanks(s);
    if (peek(s) != '"')
        return refuse(s, "expected a member name");
    if (s->depth == 1 && ++s->n_members > s->limits->members)
        return refuse(s, "too many members");
    const char *at = s->text + s->at + 1;
    enum status st = scan_string(s);
    if (st != OK)
        return st;
    skip_blanks(s);
    if (peek(s) != ':')
        return refuse(s, "expected ':'");
    s->at++;
    return s->limits->unique ? remember_key(s, at, s->level[s->depth - 1].serial) : OK;
}

/* At a bracket. *open: an element or a member's value must follow. */
static enum status scan_open(struct scan *s, bool object, bool *open)
{
    if (s->depth == s->limits->depth)
        return refuse(s, "nested too deep");
    s->level[s->depth].object = object;
    s->level[s->depth].serial = s->n_objects++;
    s->depth++;
    s->at++;
    skip_blanks(s);
    if (peek(s) == (object ? '}' : ']')) {
        s->at++;
        s->depth--;
        return OK;
    }
    *open = true;
    return object ? scan_key(s) : OK;
}

static enum status scan_value(struct scan *s, bool *open)
{
    *open = false;
    skip_blanks(s);
    if (s->at < s->bytes && ++s->n_nodes > s->limits->nodes)
        return refuse(s, "too many values");
    unsigned char c = peek(s);
    switch (c) {
    case '{':
    case '[':
        return scan_open(s, c == '{', open);
    case '"':
        return scan_string(s);
    case 't':
        return scan_literal(s, "true");
    case 'f':
        return scan_literal(s, "false");
    case 'n':
        return scan_literal(s, "null");
    default:
        return c == '-' || is_digit(c) ? scan_number(s) : refuse(s, "expected a value");
    }
}

/* Behind a value: closes what ends here. *done: that was the last one. */
static enum status scan_after(struct scan *s, bool *done)
{
    while (s->depth > 0) {
        bool object = s->level[s->depth - 1].object;
        skip_blanks(s);
        unsigned char c = peek(s);
        if (c == ',') {
            s->at++;
            return object ? scan_key(s) : OK;
        }
        if (c != (object ? '}' : ']'))
            return refuse(s, object ? "expected ',' or '}'" : "expected ',' or ']'");
        s->at++;
        s->depth--;
    }
    *done = true;
    return OK;
}

static enum status scan_document(struct scan *s)
{
    bool done = false;
    while (!done) {
        bool open = false;
        enum status st = scan_value(s, &open);
        if (st == OK && !open)
            st = scan_after(s, &done);
        if (st != OK)
            return st;
    }
    skip_blanks(s);
    if (s->at < s->bytes)
        return refuse(s, "unexpected text behind the value");
    return check_duplicates(s);
}

enum status strict_json(const char *text, size_t bytes, const struct json_limits *limits,
                        struct json_error *err)
{
    struct scan s = {.text = text, .bytes = bytes, .limits = limits, .err = err};
    assert(limits->depth <= STRICT_DEPTH_MAX);
    enum status st = scan_document(&s);
    free(s.key);
    return st;
}

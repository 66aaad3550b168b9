/* The head gate: the request line, then one line after the other, every byte looked at once.
 *
 * The rules are those of RFC 9110 and 9112 without their tolerances: CRLF only, no folding, one
 * Host, one Content-Length of 1 to 15 digits or one Transfer-Encoding of exactly `chunked`, never
 * both. Each is here because some HTTP parser has been lenient at that very place and a proxy in
 * front of it was not. Connection is judged here too: a parser that reads `close<TAB>` as
 * something else keeps open what the peer believes closed. */
#include "server/gate.h"

#include <string.h>
#include <strings.h>

enum { LENGTH_DIGITS_MAX = 15, VERSION_BYTES = 8 };

/* A run of bytes within the head. */
struct span {
    const char *data;
    size_t n;
};

static bool refuse(struct gate_facts *f, int code, const char *text)
{
    f->code = code;
    f->text = text;
    return false;
}

static bool is_alnum(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* strchr() would find the terminator for a NUL byte. */
static bool is_one_of(unsigned char c, const char *set)
{
    return c != 0 && strchr(set, c);
}

static bool is_token(struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.data[i];
        if (!is_alnum(c) && !is_one_of(c, "!#$%&'*+-.^_`|~"))
            return false;
    }
    return s.n > 0;
}

static bool is_field_value(struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.data[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

static bool span_is(struct span s, const char *text)
{
    return s.n == strlen(text) && memcmp(s.data, text, s.n) == 0;
}

static bool span_is_nocase(struct span s, const char *text)
{
    return s.n == strlen(text) && strncasecmp(s.data, text, s.n) == 0;
}

static struct span trim(struct span s)
{
    while (s.n && is_one_of((unsigned char)s.data[0], " \t")) {
        s.data++;
        s.n--;
    }
    while (s.n && is_one_of((unsigned char)s.data[s.n - 1], " \t"))
        s.n--;
    return s;
}

/* Takes what stands before the byte, and the byte, from rest; false when it is not there. */
static bool cut(struct span *rest, char byte, struct span *out)
{
    const char *at = rest->n ? memchr(rest->data, byte, rest->n) : NULL;
    if (!at)
        return false;
    out->data = rest->data;
    out->n = (size_t)(at - rest->data);
    rest->data = at + 1;
    rest->n -= out->n + 1;
    return true;
}

/* The next line without its CRLF. A CR left inside is refused by whoever reads the line: no rule
 * of this gate allows the byte. */
static bool next_line(struct span *rest, struct span *line)
{
    if (!cut(rest, '\n', line) || line->n == 0 || line->data[line->n - 1] != '\r')
        return false;
    line->n--;
    return true;
}

static bool check_target(struct gate_facts *f, struct span target, size_t bytes_max)
{
    if (target.n > bytes_max)
        return refuse(f, 414, "request target too long");
    if (target.n == 0 || target.data[0] != '/')
        return refuse(f, 400, "request target must start with '/'");
    for (size_t i = 0; i < target.n; i++) {
        unsigned char c = (unsigned char)target.data[i];
        if (c < 0x21 || c > 0x7e || c == '#')
            return refuse(f, 400, "bad byte in the request target");
    }
    return true;
}

static bool check_version(struct gate_facts *f, struct span v)
{
    if (span_is(v, "HTTP/1.1") || span_is(v, "HTTP/1.0")) {
        f->minor = v.data[VERSION_BYTES - 1] - '0';
        return true;
    }
    bool shaped = v.n == VERSION_BYTES && memcmp(v.data, "HTTP/", 5) == 0 && v.data[6] == '.' &&
                  v.data[5] >= '0' && v.data[5] <= '9' && v.data[7] >= '0' && v.data[7] <= '9';
    if (shaped)
        return refuse(f, 505, "HTTP version not supported");
    return refuse(f, 400, "bad request line");
}

static bool check_request_line(struct gate_facts *f, struct span line, size_t target_max)
{
    struct span method;
    struct span target;
    if (!cut(&line, ' ', &method) || !is_token(method))
        return refuse(f, 400, "bad request line");
    if (!cut(&line, ' ', &target)) {
        if (line.n > target_max)
            return refuse(f, 414, "request target too long");
        return refuse(f, 400, "bad request line");
    }
    return check_target(f, target, target_max) && check_version(f, line);
}

static bool check_host(struct gate_facts *f, struct span value)
{
    if (f->n_hosts++)
        return refuse(f, 400, "more than one Host");
    if (value.n == 0)
        return refuse(f, 400, "bad Host");
    for (size_t i = 0; i < value.n; i++) {
        unsigned char c = (unsigned char)value.data[i];
        if (!is_alnum(c) && !is_one_of(c, "-._~%!$&'()*+,;=:[]"))
            return refuse(f, 400, "bad Host");
    }
    return true;
}

static bool check_length(struct gate_facts *f, struct span value)
{
    if (f->has_length)
        return refuse(f, 400, "more than one Content-Length");
    if (value.n == 0 || value.n > LENGTH_DIGITS_MAX)
        return refuse(f, 400, "bad Content-Length");
    uint64_t length = 0;
    for (size_t i = 0; i < value.n; i++) {
        char c = value.data[i];
        if (c < '0' || c > '9')
            return refuse(f, 400, "bad Content-Length");
        length = length * 10 + (uint64_t)(c - '0');
    }
    f->has_length = true;
    f->content_length = length;
    return true;
}

static bool check_encoding(struct gate_facts *f, struct span value)
{
    if (f->chunked)
        return refuse(f, 400, "more than one Transfer-Encoding");
    /* Exactly these bytes: `Chunked` or `identity, chunked` have been read in two ways. */
    if (!span_is(value, "chunked"))
        return refuse(f, 501, "Transfer-Encoding not supported");
    f->chunked = true;
    return true;
}

static bool check_expect(struct gate_facts *f, struct span value)
{
    if (f->has_expect || !span_is_nocase(value, "100-continue"))
        return refuse(f, 417, "Expect not supported");
    f->has_expect = true;
    return true;
}

static void note_option(struct gate_facts *f, struct span option)
{
    option = trim(option);
    f->says_close |= span_is_nocase(option, "close");
    f->says_keep_alive |= span_is_nocase(option, "keep-alive");
}

static bool check_connection(struct gate_facts *f, struct span value)
{
    struct span option;
    while (cut(&value, ',', &option))
        note_option(f, option);
    note_option(f, value);
    return true;
}

static const struct {
    const char *name;
    bool (*check)(struct gate_facts *f, struct span value);
} known_fields[] = {
    {"host", check_host},
    {"content-length", check_length},
    {"transfer-encoding", check_encoding},
    {"expect", check_expect},
    {"connection", check_connection},
};

static bool check_field(struct gate_facts *f, struct span line, int32_t fields_max)
{
    if (f->n_fields == fields_max)
        return refuse(f, 431, "too many header fields");
    f->n_fields++;
    if (is_one_of((unsigned char)line.data[0], " \t"))
        return refuse(f, 400, "folded header field");
    struct span name;
    if (!cut(&line, ':', &name) || !is_token(name))
        return refuse(f, 400, "bad header field name");
    if (!is_field_value(line))
        return refuse(f, 400, "bad byte in a header field");
    for (size_t i = 0; i < ARRAY_LEN(known_fields); i++)
        if (span_is_nocase(name, known_fields[i].name))
            return known_fields[i].check(f, trim(line));
    return true;
}

/* What can be told only when every field has been seen. */
static bool check_whole(struct gate_facts *f)
{
    if (f->minor == 1 && f->n_hosts == 0)
        return refuse(f, 400, "no Host");
    if (f->chunked && f->has_length)
        return refuse(f, 400, "both Content-Length and Transfer-Encoding");
    if (f->chunked && f->minor == 0)
        return refuse(f, 400, "Transfer-Encoding in HTTP/1.0");
    /* A 1.0 client does not know 100 and would take it for the answer. */
    f->expect_continue = f->has_expect && f->minor == 1;
    return true;
}

bool gate_pass(const char *head, size_t n, const struct conn_limits *limits,
               struct gate_facts *facts)
{
    *facts = (struct gate_facts){0};
    if (n > limits->head_bytes_max)
        return refuse(facts, 431, "request head too large");
    struct span rest = {head, n};
    struct span line;
    if (!next_line(&rest, &line))
        return refuse(facts, 400, "bad line end");
    if (!check_request_line(facts, line, limits->target_bytes_max))
        return false;
    for (;;) {
        if (!next_line(&rest, &line))
            return refuse(facts, 400, "bad line end");
        if (line.n == 0)
            break;
        if (!check_field(facts, line, limits->head_fields_max))
            return false;
    }
    if (rest.n)
        return refuse(facts, 400, "bytes after the head");
    return check_whole(facts);
}

bool gate_can_start(char byte)
{
    return byte == '\r' || is_token((struct span){&byte, 1});
}

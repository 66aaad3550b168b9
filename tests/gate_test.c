/* Aim: the head gate refuses every head that two careful readers could understand differently,
 * with the right code, and refuses no head that an ordinary client sends; llhttp, which comes
 * after it, changes none of these verdicts.
 *
 * Negative space: what is lenient in some parser somewhere: bare CR, bare LF, folding, NUL, two
 * lengths, length beside chunks, names with blanks, no Host, two Hosts, other versions; and the
 * limits, each at its last good value and one past it. Bodies are http_test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/gate.h"
#include "server/request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct conn_limits limits = {
    .conns_max = 1,
    .head_bytes_max = 16 * 1024,
    .head_fields_max = 64,
    .target_bytes_max = 2048,
    .body_bytes_max = 1024,
    .head_ms_max = 1,
    .body_ms_max = 1,
    .idle_ms_max = 1,
    .write_ms_max = 1,
};

struct head_case {
    int code; /* 0: passes */
    const char *head;
    size_t n;
};

/* sizeof counts the bytes, so a case may hold NUL. */
#define HEAD(code, text)                                                                           \
    {                                                                                              \
        code, text, sizeof(text) - 1                                                               \
    }
#define H "Host: a\r\n"

static const struct head_case head_cases[] = {
    /* what ordinary clients send */
    HEAD(0,
         "GET / HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: curl/8.0\r\nAccept: */*\r\n\r\n"),
    HEAD(0, "POST /v1/chat/completions HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n"),
    HEAD(0, "POST / HTTP/1.1\r\n" H "Content-Length: 12\r\nContent-Type: a/b\r\n\r\n"),
    HEAD(0, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"),
    HEAD(0, "POST / HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"),
    HEAD(0, "POST / HTTP/1.1\r\n" H "Expect: 100-Continue\r\nContent-Length: 3\r\n\r\n"),
    HEAD(0, "GET / HTTP/1.0\r\n\r\n"),
    HEAD(0, "GET / HTTP/1.0\r\nHost: a\r\n\r\n"),
    HEAD(0, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
    HEAD(0, "HEAD /health HTTP/1.1\r\n" H "\r\n"),
    HEAD(0, "DELETE /x HTTP/1.1\r\n" H "\r\n"),
    HEAD(0, "OPTIONS /x HTTP/1.1\r\n" H "\r\n"),
    HEAD(0, "PATCH /x HTTP/1.1\r\n" H "\r\n"),
    HEAD(0, "GET /a/%2e%2E/b?x=1&y=%20;z HTTP/1.1\r\n" H "\r\n"),
    HEAD(0, "GET //double HTTP/1.1\r\n" H "\r\n"),
    HEAD(0, "GET / HTTP/1.1\r\nhost: a\r\n\r\n"),
    HEAD(0, "GET / HTTP/1.1\r\nHOST:a\r\n\r\n"),
    HEAD(0, "GET / HTTP/1.1\r\nHost:   a   \r\n\r\n"),
    HEAD(0, "GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n"),
    HEAD(0, "GET / HTTP/1.1\r\n" H "Empty:\r\n\r\n"),
    HEAD(0, "GET / HTTP/1.1\r\n" H "Empty: \t \r\n\r\n"),
    HEAD(0, "GET / HTTP/1.1\r\n" H "Tab: a\tb\r\n\r\n"),
    HEAD(0, "GET / HTTP/1.1\r\n" H "Latin: caf\xe9\r\n\r\n"),
    HEAD(0, "GET / HTTP/1.1\r\n" H "Odd!#$%&'*+-.^_`|~9: x\r\n\r\n"),
    HEAD(0, "GET / HTTP/1.1\r\n" H "Colon: a:b:c\r\n\r\n"),
    HEAD(0, "GET / HTTP/1.1\r\n" H "Twice: a\r\nTwice: b\r\n\r\n"),
    HEAD(0, "GET / HTTP/1.1\r\n" H "Connection: close, TE\r\nTE: trailers\r\n\r\n"),
    HEAD(0, "GET / HTTP/1.1\r\n" H "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
    HEAD(0, "GET / HTTP/1.1\r\n" H "Connection: keep-alive, Upgrade, HTTP2-Settings\r\n"
            "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAA\r\n\r\n"),
    /* line ends */
    HEAD(400, "\n"),
    HEAD(400, "\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\nHost: a\n\n"),
    HEAD(400, "GET / HTTP/1.1\r\nHost: a\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\r\nHost: a\r\n\n"),
    HEAD(400, "GET / HTTP/1.1\nHost: a\r\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\r\n" H "X: a\rContent-Length: 5\r\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\r\n" H "\rX: b\r\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\r\n" H "X\r: b\r\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\r\r\n" H "\r\n"),
    HEAD(400, "GET /\r HTTP/1.1\r\n" H "\r\n"),
    /* folding and blanks */
    HEAD(400, "GET / HTTP/1.1\r\n" H "X: a\r\n b\r\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\r\n" H "X: a\r\n\tb\r\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\r\n" H "X:\r\n Content-Length: 5\r\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\r\n" H " \r\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\r\n" H "Content-Length : 5\r\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\r\n" H "Transfer-Encoding\t: chunked\r\n\r\n"),
    /* names and values */
    HEAD(400, "GET / HTTP/1.1\r\n" H ": empty\r\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\r\n" H "NoColon\r\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\r\n" H "Bad Name: x\r\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\r\n" H "Bad(Name): x\r\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\r\n" H "Bad\xc3\xa9: x\r\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\r\n" H "Nu\0l: x\r\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\r\n" H "X: nu\0l\r\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\r\n" H "X: be\x07l\r\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\r\n" H "X: de\x7fl\r\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\r\n" H "X: es\x1b[31m\r\n\r\n"),
    /* request line */
    HEAD(400, "GET /\r\n" H "\r\n"),
    HEAD(400, "GET\r\n" H "\r\n"),
    HEAD(400, "GET  / HTTP/1.1\r\n" H "\r\n"),
    HEAD(400, "GET /  HTTP/1.1\r\n" H "\r\n"),
    HEAD(400, "GET / HTTP/1.1 \r\n" H "\r\n"),
    HEAD(400, "GET /\tHTTP/1.1\r\n" H "\r\n"),
    HEAD(400, "GET / x HTTP/1.1\r\n" H "\r\n"),
    HEAD(400, " GET / HTTP/1.1\r\n" H "\r\n"),
    HEAD(400, "G(T / HTTP/1.1\r\n" H "\r\n"),
    HEAD(400, "GET / HTTP/1.1\0\r\n" H "\r\n"),
    HEAD(400, "GET http://a/ HTTP/1.1\r\n" H "\r\n"),
    HEAD(400, "GET * HTTP/1.1\r\n" H "\r\n"),
    HEAD(400, "OPTIONS * HTTP/1.1\r\n" H "\r\n"),
    HEAD(400, "CONNECT a:443 HTTP/1.1\r\n" H "\r\n"),
    HEAD(400, "GET x HTTP/1.1\r\n" H "\r\n"),
    HEAD(400, "GET /caf\xc3\xa9 HTTP/1.1\r\n" H "\r\n"),
    HEAD(400, "GET /nu\0l HTTP/1.1\r\n" H "\r\n"),
    HEAD(400, "GET /de\x7fl HTTP/1.1\r\n" H "\r\n"),
    HEAD(400, "GET /#fragment HTTP/1.1\r\n" H "\r\n"),
    /* versions */
    HEAD(505, "GET / HTTP/2.0\r\n" H "\r\n"),
    HEAD(505, "GET / HTTP/1.2\r\n" H "\r\n"),
    HEAD(505, "GET / HTTP/0.9\r\n" H "\r\n"),
    HEAD(505, "GET / HTTP/9.9\r\n" H "\r\n"),
    HEAD(505, "GET / HTTP/0.0\r\n" H "\r\n"),
    HEAD(400, "GET / HTTP/1.:\r\n" H "\r\n"),
    HEAD(400, "GET / HTTP/:.1\r\n" H "\r\n"),
    HEAD(400, "GET / HTTP/1.a\r\n" H "\r\n"),
    HEAD(400, "GET / HTTP/1.10\r\n" H "\r\n"),
    HEAD(400, "GET / HTTP/11\r\n" H "\r\n"),
    HEAD(400, "GET / http/1.1\r\n" H "\r\n"),
    HEAD(400, "GET / HTTPS/1.1\r\n" H "\r\n"),
    HEAD(400, "GET / HTTP/1,1\r\n" H "\r\n"),
    HEAD(400, "GET / RTSP/1.0\r\n" H "\r\n"),
    HEAD(400, "PRI * HTTP/2.0\r\n\r\n"),
    /* Host */
    HEAD(400, "GET / HTTP/1.1\r\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\r\nX: Host: a\r\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n"),
    HEAD(400, "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\r\nHost: user@a\r\n\r\n"),
    HEAD(400, "GET / HTTP/1.1\r\nHost: caf\xc3\xa9\r\n\r\n"),
    /* Content-Length */
    HEAD(0, "POST / HTTP/1.1\r\n" H "Content-Length: 000000000000005\r\n\r\n"),
    HEAD(400, "POST / HTTP/1.1\r\n" H "Content-Length: 0000000000000005\r\n\r\n"),
    HEAD(400, "POST / HTTP/1.1\r\n" H "Content-Length:\r\n\r\n"),
    HEAD(400, "POST / HTTP/1.1\r\n" H "Content-Length: +5\r\n\r\n"),
    HEAD(400, "POST / HTTP/1.1\r\n" H "Content-Length: -5\r\n\r\n"),
    HEAD(400, "POST / HTTP/1.1\r\n" H "Content-Length: 0x5\r\n\r\n"),
    HEAD(400, "POST / HTTP/1.1\r\n" H "Content-Length: 5 5\r\n\r\n"),
    HEAD(400, "POST / HTTP/1.1\r\n" H "Content-Length: 5, 5\r\n\r\n"),
    HEAD(400, "POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 5\r\n\r\n"),
    HEAD(400, "POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 6\r\n\r\n"),
    HEAD(400, "POST / HTTP/1.1\r\n" H "Content-Length: 18446744073709551617\r\n\r\n"),
    HEAD(400, "POST / HTTP/1.1\r\n" H "Content-Length: 5\x0b\r\n\r\n"),
    /* Transfer-Encoding */
    HEAD(400, "POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
    HEAD(400, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"),
    HEAD(400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    HEAD(400, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n"
              "Transfer-Encoding: chunked\r\n\r\n"),
    HEAD(501, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip\r\n\r\n"),
    HEAD(501, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n"),
    HEAD(501, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, identity\r\n\r\n"),
    HEAD(501, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: identity\r\n\r\n"),
    HEAD(501, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: Chunked\r\n\r\n"),
    HEAD(501, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n"),
    HEAD(501, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunkedx\r\n\r\n"),
    HEAD(501, "POST / HTTP/1.1\r\n" H "Transfer-Encoding:\r\n\r\n"),
    HEAD(400, "POST / HTTP/1.1\r\n" H "Transfer-Encoding: \x0b"
              "chunked\r\n\r\n"),
    /* Expect */
    HEAD(417, "POST / HTTP/1.1\r\n" H "Expect: 200-ok\r\n\r\n"),
    HEAD(417, "POST / HTTP/1.1\r\n" H "Expect:\r\n\r\n"),
    HEAD(417, "POST / HTTP/1.1\r\n" H "Expect: 100-continue\r\nExpect: 100-continue\r\n\r\n"),
};

static const char *show(const struct head_case *c)
{
    static char text[256];
    size_t n = 0;
    for (size_t i = 0; i < c->n && n + 5 < sizeof(text); i++) {
        unsigned char byte = (unsigned char)c->head[i];
        if (byte >= 0x20 && byte < 0x7f)
            text[n++] = (char)byte;
        else
            n += (size_t)snprintf(text + n, sizeof(text) - n, "\\x%02x", byte);
    }
    text[n] = '\0';
    return text;
}

/* A copy of exactly these bytes, so that a sanitizer sees a read past them. */
static char *copy_of(const char *data, size_t n)
{
    char *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, data, n);
    return copy;
}

static void test_heads(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(head_cases); i++) {
        const struct head_case *c = &head_cases[i];
        char *head = copy_of(c->head, c->n);
        struct gate_facts facts;
        bool passed = gate_pass(head, c->n, &limits, &facts);
        free(head);
        if (facts.code != c->code || passed != (c->code == 0))
            fail_msg("code %d, not %d: %s", facts.code, c->code, show(c));
        if (!passed && (!facts.text || !facts.text[0]))
            fail_msg("no reason: %s", show(c));
    }
}

/* The same verdicts when llhttp has had its say. */
static void test_heads_parsed(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(head_cases); i++) {
        const struct head_case *c = &head_cases[i];
        struct request *r = NULL;
        assert_int_equal(request_open(&r, &limits), OK);
        char *head = copy_of(c->head, c->n);
        request_feed(r, head, c->n);
        free(head);
        if (c->code ? r->state != REQUEST_BAD
                    : r->state != REQUEST_BODY && r->state != REQUEST_DONE)
            fail_msg("state %d for code %d (%s): %s", (int)r->state, c->code,
                     r->text ? r->text : "", show(c));
        if (r->code != c->code)
            fail_msg("code %d, not %d: %s", r->code, c->code, show(c));
        request_close(r);
    }
}

/* No head may pass when it is cut short, wherever the cut is. */
static void test_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(head_cases); i++) {
        const struct head_case *c = &head_cases[i];
        for (size_t n = 0; c->code == 0 && n < c->n; n++) {
            struct gate_facts facts;
            char *head = copy_of(c->head, n);
            if (gate_pass(head, n, &limits, &facts))
                fail_msg("passes when cut to %zu bytes: %s", n, show(c));
            free(head);
        }
    }
}

/* The code with which the whole reader refuses these bytes, 0 when it does not. */
static int parsed_code(const char *head, size_t n)
{
    struct request *r = NULL;
    assert_int_equal(request_open(&r, &limits), OK);
    request_feed(r, head, n);
    int code = r->code;
    request_close(r);
    return code;
}

/* Every byte value in every part: what passes is what the grammar says and nothing more. */
static void test_every_byte(void **state)
{
    (void)state;
    static const struct {
        const char *before;
        const char *after;
        const char *good; /* besides letters and digits */
        bool high;        /* 0x80 and above */
    } parts[] = {
        {"G", "T / HTTP/1.1\r\n" H "\r\n", "!#$%&'*+-.^_`|~", false},
        {"GET /a", "b HTTP/1.1\r\n" H "\r\n", "!\"$%&'()*+,-./:;<=>?@[\\]^_`{|}~", false},
        {"GET / HTTP/1.1\r\n" H "X", "Y: z\r\n\r\n", "!#$%&'*+-.^_`|~:", false},
        {"GET / HTTP/1.1\r\n" H "X: y", "z\r\n\r\n", "\t !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", true},
        {"GET / HTTP/1.1\r\nHost: a", "b\r\n\r\n", "-._~%!$&'()*+,;=:[]", false},
        {"GET / HTTP/1.1\r\n" H "Content-Length: 1", "2\r\n\r\n", NULL, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        for (int byte = 0; byte < 256; byte++) {
            char head[256];
            size_t before = strlen(parts[i].before);
            size_t after = strlen(parts[i].after);
            memcpy(head, parts[i].before, before);
            head[before] = (char)byte;
            memcpy(head + before + 1, parts[i].after, after);
            bool digit = byte >= '0' && byte <= '9';
            bool letter = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
            bool good =
                digit || (parts[i].good && (letter || (byte && strchr(parts[i].good, byte)) ||
                                            (parts[i].high && byte >= 0x80)));
            struct gate_facts facts;
            if (gate_pass(head, before + 1 + after, &limits, &facts) != good)
                fail_msg("part %zu: byte 0x%02x should %s", i, (unsigned)byte,
                         good ? "pass" : "be refused");
            /* A method with a strange letter is a token, only not one that anybody knows. */
            int code = parsed_code(head, before + 1 + after);
            if (good && code != 0 && !(i == 0 && code == 501))
                fail_msg("part %zu: byte 0x%02x is refused by the parser", i, (unsigned)byte);
        }
}

static void test_facts(void **state)
{
    (void)state;
    static const struct {
        const char *head;
        struct gate_facts want;
    } cases[] = {
        {"GET / HTTP/1.1\r\n" H "\r\n", {.n_fields = 1, .minor = 1}},
        {"GET / HTTP/1.0\r\n\r\n", {.n_fields = 0, .minor = 0}},
        {"POST / HTTP/1.1\r\n" H "Content-Length: 999999999999999\r\n\r\n",
         {.n_fields = 2, .minor = 1, .has_length = true, .content_length = 999999999999999}},
        {"POST / HTTP/1.1\r\n" H "Content-Length: \t 0 \r\n\r\n",
         {.n_fields = 2, .minor = 1, .has_length = true}},
        {"POST / HTTP/1.1\r\n" H "transfer-encoding: chunked \r\n\r\n",
         {.n_fields = 2, .minor = 1, .chunked = true}},
        {"POST / HTTP/1.1\r\n" H "Expect: 100-continue\r\n\r\n",
         {.n_fields = 2, .minor = 1, .expect_continue = true}},
        {"POST / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n", {.n_fields = 1}},
        {"GET / HTTP/1.1\r\n" H "Connection: close\t\r\n\r\n",
         {.n_fields = 2, .minor = 1, .says_close = true}},
        {"GET / HTTP/1.1\r\n" H "Connection: a,, CLOSE ,b\r\nConnection: Keep-Alive\r\n\r\n",
         {.n_fields = 3, .minor = 1, .says_close = true, .says_keep_alive = true}},
        {"GET / HTTP/1.1\r\n" H "Connection: closed, not-close\r\n\r\n",
         {.n_fields = 2, .minor = 1}},
        {"GET / HTTP/1.1\r\n" H "X-Connection: close\r\n\r\n", {.n_fields = 2, .minor = 1}},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct gate_facts f;
        const struct gate_facts *want = &cases[i].want;
        assert_true(gate_pass(cases[i].head, strlen(cases[i].head), &limits, &f));
        assert_int_equal(f.n_fields, want->n_fields);
        assert_int_equal(f.minor, want->minor);
        assert_int_equal(f.has_length, want->has_length);
        assert_int_equal(f.content_length, want->content_length);
        assert_int_equal(f.chunked, want->chunked);
        assert_int_equal(f.expect_continue, want->expect_continue);
        assert_int_equal(f.says_close, want->says_close);
        assert_int_equal(f.says_keep_alive, want->says_keep_alive);
    }
}

/* The verdict of the gate and of the reader on one head, which must be the same. */
static int verdict(const struct buf *head)
{
    struct gate_facts facts;
    assert_false(head->failed);
    gate_pass(head->data, head->n, &limits, &facts);
    assert_int_equal(parsed_code(head->data, head->n), facts.code);
    return facts.code;
}

static void fill(struct buf *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_text(b, "x");
}

static void test_limits(void **state)
{
    (void)state;
    struct buf b = {0};
    for (size_t over = 0; over < 2; over++) {
        buf_clear(&b);
        buf_text(&b, "GET /");
        fill(&b, limits.target_bytes_max - 1 + over);
        buf_text(&b, " HTTP/1.1\r\n" H "\r\n");
        assert_int_equal(verdict(&b), over ? 414 : 0);

        /* Without a version it is bad as well as too long; too long is said first. */
        buf_clear(&b);
        buf_text(&b, "GET /");
        fill(&b, limits.target_bytes_max - 1 + over);
        buf_text(&b, "\r\n" H "\r\n");
        assert_int_equal(verdict(&b), over ? 414 : 400);

        buf_clear(&b);
        buf_text(&b, "GET / HTTP/1.1\r\n" H);
        for (int32_t i = 1; i < limits.head_fields_max + (int32_t)over; i++)
            buf_text(&b, "a:b\r\n");
        buf_text(&b, "\r\n");
        assert_int_equal(verdict(&b), over ? 431 : 0);

        buf_clear(&b);
        buf_text(&b, "GET / HTTP/1.1\r\n" H "X: ");
        fill(&b, limits.head_bytes_max - b.n - 4 + over);
        buf_text(&b, "\r\n\r\n");
        assert_int_equal(b.n, limits.head_bytes_max + over);
        assert_int_equal(verdict(&b), over ? 431 : 0);
    }
    buf_free(&b);
}

/* A head that never ends is refused at the limit, by what it was doing then. */
static void test_endless(void **state)
{
    (void)state;
    static const struct {
        const char *start;
        int code;
    } cases[] = {{"GET /", 414}, {"GET / HTTP/1.1\r\n" H "X: ", 431}, {"GET / HTTP/1.1\r\nX", 431}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct request *r = NULL;
        size_t sent = strlen(cases[i].start);
        assert_int_equal(request_open(&r, &limits), OK);
        request_feed(r, cases[i].start, sent);
        for (; r->state == REQUEST_HEAD; sent++) {
            assert_true(sent <= limits.head_bytes_max);
            request_feed(r, "x", 1);
        }
        assert_int_equal(r->state, REQUEST_BAD);
        assert_int_equal(r->code, cases[i].code);
        request_close(r);
    }
}

static void test_first_byte(void **state)
{
    (void)state;
    assert_true(gate_can_start('G'));
    assert_true(gate_can_start('\r'));
    assert_false(gate_can_start(0x16)); /* a TLS hello */
    assert_false(gate_can_start(' '));
    assert_false(gate_can_start('\n'));
    assert_false(gate_can_start('\0'));
    assert_false(gate_can_start((char)0x80));
}

/* Tokens, so the gate lets them through; what llhttp does not know is not understood, which is
 * something else than wrong. A tunnel to a path is wrong, and so are the words of other protocols
 * that llhttp reads too. */
static void test_methods(void **state)
{
    (void)state;
    static const struct {
        const char *method;
        int code;
    } cases[] = {
        {"BREW", 501},     {"get", 501}, {"GETX", 501},    {"GE", 501},       {"M-SEARCH", 0},
        {"MKCALENDAR", 0}, {"PUT", 0},   {"CONNECT", 400}, {"DESCRIBE", 400}, {"PRI", 400},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf b = {0};
        struct gate_facts facts;
        buf_printf(&b, "%s /x HTTP/1.1\r\n" H "\r\n", cases[i].method);
        assert_true(gate_pass(b.data, b.n, &limits, &facts));
        if (parsed_code(b.data, b.n) != cases[i].code)
            fail_msg("%s: code %d", cases[i].method, parsed_code(b.data, b.n));
        buf_free(&b);
    }
}

/* The head is all there is in the buffer: what follows it is not the gate's. */
static void test_bytes_after(void **state)
{
    (void)state;
    static const char head[] = "GET / HTTP/1.1\r\n" H "\r\nX";
    struct gate_facts facts;
    assert_false(gate_pass(head, sizeof(head) - 1, &limits, &facts));
    assert_true(gate_pass(head, sizeof(head) - 2, &limits, &facts));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads),   cmocka_unit_test(test_heads_parsed),
        cmocka_unit_test(test_cut),     cmocka_unit_test(test_every_byte),
        cmocka_unit_test(test_facts),   cmocka_unit_test(test_limits),
        cmocka_unit_test(test_endless), cmocka_unit_test(test_first_byte),
        cmocka_unit_test(test_methods), cmocka_unit_test(test_bytes_after),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

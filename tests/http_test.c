/* Aim: bytes become the same requests however they are cut; bodies are framed exactly; a refused
 * request has its code at the byte that makes it wrong, wherever the cuts are. No sockets.
 *
 * Negative space: chunk lines that some reader somewhere takes (extensions, bare LF, signs,
 * trailers, nine digits), bodies one byte over the limit, framing without data, an empty line in
 * front of a request, the next request glued to the last byte. Heads are gate_test's, sockets and
 * time are conn_test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/chunked.h"
#include "server/request.h"

#include <stdlib.h>
#include <string.h>

static const struct conn_limits limits = {
    .conns_max = 1,
    .head_bytes_max = 16 * 1024,
    .head_fields_max = 64,
    .target_bytes_max = 2048,
    .body_bytes_max = 32,
    .head_ms_max = 1,
    .body_ms_max = 1,
    .idle_ms_max = 1,
    .write_ms_max = 1,
};

static void describe(struct buf *out, const struct request *r)
{
    if (r->state == REQUEST_HEAD)
        return;
    if (r->state == REQUEST_BAD) {
        buf_printf(out, "%d\n", r->code);
        return;
    }
    if (r->state == REQUEST_BODY) {
        buf_text(out, "unfinished\n");
        return;
    }
    const struct http_request *v = &r->view;
    const char *type = http_header(v, "content-type");
    buf_printf(out, "%s %s ? %s (%s)%s [", v->method, v->path, v->query, type ? type : "none",
               request_keeps_alive(r) ? "" : " close");
    assert_int_equal(v->body[v->body_bytes], '\0');
    buf_add(out, v->body, v->body_bytes);
    buf_text(out, "]\n");
}

/* Every request in data, read in the pieces that end at the cuts [n_cuts], in rising order. */
static void read_all(struct buf *out, const char *data, size_t n, const size_t *cuts, size_t n_cuts)
{
    struct request *r = NULL;
    size_t at = 0;
    size_t cut = 0;
    assert_int_equal(request_open(&r, &limits), OK);
    while (at < n && r->state != REQUEST_BAD) {
        while (cut < n_cuts && cuts[cut] <= at)
            cut++;
        size_t end = cut < n_cuts && cuts[cut] < n ? cuts[cut] : n;
        /* A copy of the piece alone, so that a sanitizer sees a look past it. */
        char *piece = malloc(end - at);
        assert_non_null(piece);
        memcpy(piece, data + at, end - at);
        size_t used = request_feed(r, piece, end - at);
        free(piece);
        assert_true(used <= end - at);
        assert_true(used == end - at || r->state >= REQUEST_DONE);
        at += used;
        if (r->state == REQUEST_DONE) {
            describe(out, r);
            request_close(r);
            assert_int_equal(request_open(&r, &limits), OK);
        }
    }
    describe(out, r);
    request_close(r);
}

struct stream_case {
    const char *bytes;
    const char *want;
};

#define H      "Host: a\r\n"
#define CHUNKS "POST /c HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"

static const struct stream_case streams[] = {
    {"GET /a?b=c?d HTTP/1.1\r\n" H "\r\n", "GET /a ? b=c?d (none) []\n"},
    {"GET /? HTTP/1.1\r\n" H "\r\n", "GET / ?  (none) []\n"},
    {"\r\nGET / HTTP/1.1\r\n" H "\r\n", "GET / ?  (none) []\n"},
    {"\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n", "400\n"},
    {"\nGET / HTTP/1.1\r\n" H "\r\n", "400\n"},
    {"\r\rGET / HTTP/1.1\r\n" H "\r\n", "400\n"},
    {"GET / HTTP/1.0\r\n\r\n", "GET / ?  (none) close []\n"},
    {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", "GET / ?  (none) []\n"},
    {"GET / HTTP/1.1\r\n" H "Connection: close\r\n\r\n", "GET / ?  (none) close []\n"},
    {"POST /p HTTP/1.1\r\n" H "Content-Type:  text/plain \t\r\nContent-Length: 5\r\n\r\nhello",
     "POST /p ?  (text/plain) [hello]\n"},
    {"POST /p HTTP/1.1\r\n" H "CONTENT-TYPE:\r\nContent-Length: 5\r\n\r\nhello",
     "POST /p ?  () [hello]\n"},
    {"POST /p HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhell", "unfinished\n"},
    {"GET /1 HTTP/1.1\r\n" H "\r\nPOST /2 HTTP/1.1\r\n" H
     "Content-Length: 3\r\n\r\nabcGET /3 HTTP/1.1"
     "\r\n" H "\r\n",
     "GET /1 ?  (none) []\nPOST /2 ?  (none) [abc]\nGET /3 ?  (none) []\n"},
    {"POST / HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\nPOST / HTTP/1.1\r\n" H
     "Content-Length: 1\r\n\r\nxBAD",
     "POST / ?  (none) []\nPOST / ?  (none) [x]\n"},
    {"POST / HTTP/1.1\r\n" H "Content-Length: 4\r\n\r\nG\r\nTGET / HTTP/1.1\r\n\r\n",
     "POST / ?  (none) [G\r\nT]\n400\n"},
    {CHUNKS "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "POST /c ?  (none) [hello world]\n"},
    {CHUNKS "0\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n", "POST /c ?  (none) []\nGET / ?  (none) []\n"},
    {CHUNKS "1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n" CHUNKS "3\r\n\r\n0\r\n00\r\n\r\n",
     "POST /c ?  (none) [abc]\nPOST /c ?  (none) [\r\n0]\n"},
    {CHUNKS "0000000A\r\n0123456789\r\n0\r\n\r\n", "POST /c ?  (none) [0123456789]\n"},
    {CHUNKS "a\r\n0123456789\r\n00000000\r\n\r\n", "POST /c ?  (none) [0123456789]\n"},
    {CHUNKS "9\r\n123456789\r\nF\r\n123456789abcdef\r\n0\r\n\r\n",
     "POST /c ?  (none) [123456789123456789abcdef]\n"},
    {CHUNKS "f\r\n123456789abcdef\r\n0F\r\n123456789ABCDEF\r\n0\r\n\r\n",
     "POST /c ?  (none) [123456789abcdef123456789ABCDEF]\n"},
    /* chunk lines that must be refused */
    {CHUNKS "g\r\n", "400\n"},
    {CHUNKS ":\r\n", "400\n"},
    {CHUNKS "/\r\n", "400\n"},
    {CHUNKS "@\r\n", "400\n"},
    {CHUNKS "`\r\n", "400\n"},
    {CHUNKS "G\r\n", "400\n"},
    {CHUNKS "000000005\r\nhello\r\n0\r\n\r\n", "400\n"},
    {CHUNKS "\r\nhello\r\n0\r\n\r\n", "400\n"},
    {CHUNKS "5;a=b\r\nhello\r\n0\r\n\r\n", "400\n"},
    {CHUNKS "5 \r\nhello\r\n0\r\n\r\n", "400\n"},
    {CHUNKS " 5\r\nhello\r\n0\r\n\r\n", "400\n"},
    {CHUNKS "+5\r\nhello\r\n0\r\n\r\n", "400\n"},
    {CHUNKS "-5\r\nhello\r\n0\r\n\r\n", "400\n"},
    {CHUNKS "0x5\r\nhello\r\n0\r\n\r\n", "400\n"},
    {CHUNKS "5g\r\nhello\r\n0\r\n\r\n", "400\n"},
    {CHUNKS "5\nhello\r\n0\r\n\r\n", "400\n"},
    {CHUNKS "5\rhello\r\n0\r\n\r\n", "400\n"},
    {CHUNKS "5\r\r;ABCD\r\n0\r\n\r\n", "400\n"},
    {CHUNKS "5\r\nhello\n0\r\n\r\n", "400\n"},
    {CHUNKS "5\r\nhello0\r\n\r\n", "400\n"},
    {CHUNKS "5\r\nhello!\r\n0\r\n\r\n", "400\n"},
    {CHUNKS "5\r\nhello\r0\r\n\r\n", "400\n"},
    {CHUNKS "5\r\nhello\r\n\r\n", "400\n"},
    {CHUNKS "0\n\r\n", "400\n"},
    {CHUNKS "0\r\n\n", "400\n"},
    {CHUNKS "0\r\nTrailer: x\r\n\r\n", "400\n"},
    {CHUNKS "0\r\nContent-Length: 5\r\n\r\n", "400\n"},
    {CHUNKS "0\r\n\rX", "400\n"},
    /* bodies at the limit and one past it */
    {"POST / HTTP/1.1\r\n" H "Content-Length: 32\r\n\r\n01234567890123456789012345678901",
     "POST / ?  (none) [01234567890123456789012345678901]\n"},
    {"POST / HTTP/1.1\r\n" H "Content-Length: 33\r\n\r\n", "413\n"},
    {"POST / HTTP/1.1\r\n" H "Content-Length: 999999999999999\r\n\r\n", "413\n"},
    {CHUNKS "20\r\n01234567890123456789012345678901\r\n0\r\n\r\n",
     "POST /c ?  (none) [01234567890123456789012345678901]\n"},
    {CHUNKS "21\r\n", "413\n"},
    {CHUNKS "ffffffff\r\n", "413\n"},
    {CHUNKS "1f\r\n0123456789012345678901234567890\r\n2\r\n", "413\n"},
};

static void check(const struct stream_case *c, const size_t *cuts, size_t n_cuts)
{
    struct buf out = {0};
    read_all(&out, c->bytes, strlen(c->bytes), cuts, n_cuts);
    buf_add(&out, "", 1);
    assert_false(out.failed);
    if (strcmp(out.data, c->want) != 0)
        fail_msg("%zu cuts, first at %zu: got %s for\n%s", n_cuts, n_cuts ? cuts[0] : 0, out.data,
                 c->bytes);
    buf_free(&out);
}

static void test_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(streams); i++)
        check(&streams[i], NULL, 0);
}

static void test_every_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(streams); i++)
        for (size_t at = 1; at < strlen(streams[i].bytes); at++)
            check(&streams[i], &at, 1);
}

static void test_every_two_cuts(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(streams); i++)
        for (size_t first = 1; first < strlen(streams[i].bytes); first++)
            for (size_t gap = 1; gap < 6; gap++)
                check(&streams[i], (const size_t[]){first, first + gap}, 2);
}

static void test_byte_by_byte(void **state)
{
    (void)state;
    size_t cuts[512];
    for (size_t i = 0; i < ARRAY_LEN(cuts); i++)
        cuts[i] = i + 1;
    for (size_t i = 0; i < ARRAY_LEN(streams); i++)
        check(&streams[i], cuts, strlen(streams[i].bytes) - 1);
}

/* A body of one-byte chunks passes while it is small and is refused long before it has cost
 * what a large one may. */
static void test_framing_limit(void **state)
{
    (void)state;
    static const char chunk[] = "1\r\nx\r\n";
    struct chunked k = {0};
    size_t n_chunks = 0;
    while (k.state != CHUNKED_BAD) {
        const char *at = chunk;
        size_t left = sizeof(chunk) - 1;
        while (left && k.state < CHUNKED_DONE) {
            const char *piece;
            size_t piece_bytes;
            size_t used = chunked_take(&k, at, left, &piece, &piece_bytes);
            assert_true(used > 0);
            at += used;
            left -= used;
        }
        n_chunks++;
        assert_true(n_chunks < 20000);
    }
    assert_true(n_chunks > 10000);
    assert_true(k.framing_bytes <= k.body_bytes / 4 + 64 * 1024 + 5);
}

/* Sensible chunks are never refused for their framing. */
static void test_framing_free(void **state)
{
    (void)state;
    static char data[64];
    struct chunked k = {0};
    for (int i = 0; i < 100000; i++) {
        const char *piece;
        size_t piece_bytes;
        assert_int_equal(chunked_take(&k, "40\r\n", 4, &piece, &piece_bytes), 4);
        assert_int_equal(piece_bytes, 0);
        assert_int_equal(chunked_take(&k, data, 64, &piece, &piece_bytes), 64);
        assert_int_equal(piece_bytes, 64);
        assert_ptr_equal(piece, data);
        assert_int_equal(chunked_take(&k, "\r\n", 2, &piece, &piece_bytes), 2);
    }
    assert_int_equal(k.state, CHUNKED_SIZE);
    assert_int_equal(k.body_bytes, 6400000);
}

static void test_header_lookup(void **state)
{
    (void)state;
    static const char bytes[] =
        "GET / HTTP/1.1\r\nHost: h:1\r\nX-Api-Key:   k e y  \r\nx-two: 1\r\n"
        "X-Two: 2\r\nEmpty:\r\n\r\n";
    static const struct {
        const char *name;
        const char *value;
    } cases[] = {{"host", "h:1"}, {"x-api-key", "k e y"}, {"x-two", "1"},
                 {"empty", ""},   {"absent", NULL},       {"x-api", NULL}};
    struct request *r = NULL;
    assert_int_equal(request_open(&r, &limits), OK);
    assert_int_equal(request_feed(r, bytes, sizeof(bytes) - 1), sizeof(bytes) - 1);
    assert_int_equal(r->state, REQUEST_DONE);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *value = http_header(&r->view, cases[i].name);
        assert_int_equal(value != NULL, cases[i].value != NULL);
        if (value)
            assert_string_equal(value, cases[i].value);
    }
    request_close(r);
    request_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),          cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_every_two_cuts), cmocka_unit_test(test_byte_by_byte),
        cmocka_unit_test(test_framing_limit),  cmocka_unit_test(test_framing_free),
        cmocka_unit_test(test_header_lookup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

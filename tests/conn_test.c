/* Aim: on real sockets, requests are answered whole, in order and once, however their bytes are
 * cut and whoever is slow; what a client does wrong costs it its connection and nobody else.
 *
 * Negative space: bytes of the next request before the answer to this one, a client that leaves
 * while its answer is made, between two pieces, by an end and by a reset; HEAD, HTTP/1.0, Expect;
 * a client that goes on sending after it was refused; answers that come too late. Limits and
 * clocks are conn_limits_test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/conn_rig.h"

#define H           "Host: a\r\n"
#define OK_HEAD     "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Extra: 1\r\n"
#define STREAM_HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"

struct exchange {
    const char *request;
    const char *answer;
};

static const struct exchange exchanges[] = {
    {"GET /a?b HTTP/1.1\r\n" H "\r\n", OK_HEAD "Content-Length: 12\r\n\r\nGET /a b []\n"},
    {"POST /p HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhello",
     OK_HEAD "Content-Length: 17\r\n\r\nPOST /p  [hello]\n"},
    {"POST /p HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
     OK_HEAD "Content-Length: 17\r\n\r\nPOST /p  [hello]\n"},
    {"HEAD /a HTTP/1.1\r\n" H "\r\n", OK_HEAD "Content-Length: 12\r\n\r\n"},
    {"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
     OK_HEAD "Connection: keep-alive\r\nContent-Length: 11\r\n\r\nGET /a  []\n"},
    {"GET /stream HTTP/1.1\r\n" H "\r\n",
     STREAM_HEAD "Transfer-Encoding: chunked\r\n\r\n"
                 "5\r\naaaaa\r\n5\r\nbbbbb\r\n5\r\nccccc\r\n0\r\n\r\n"},
    {"HEAD /stream HTTP/1.1\r\n" H "\r\n", STREAM_HEAD "Transfer-Encoding: chunked\r\n\r\n"},
    {"POST /stream HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\n{}",
     STREAM_HEAD "Transfer-Encoding: chunked\r\n\r\n"
                 "5\r\naaaaa\r\n5\r\nbbbbb\r\n5\r\nccccc\r\n0\r\n\r\n"},
};

/* Those after which the connection is closed. */
static const struct exchange last_exchanges[] = {
    {"GET /a HTTP/1.1\r\n" H "Connection: close\r\n\r\n",
     OK_HEAD "Connection: close\r\nContent-Length: 11\r\n\r\nGET /a  []\n"},
    {"GET /a HTTP/1.0\r\n\r\n",
     OK_HEAD "Connection: close\r\nContent-Length: 11\r\n\r\nGET /a  []\n"},
    {"GET /stream HTTP/1.0\r\n\r\n", STREAM_HEAD "Connection: close\r\n\r\naaaaabbbbbccccc"},
    {"GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
     STREAM_HEAD "Connection: close\r\n\r\naaaaabbbbbccccc"},
    {"GET /stream HTTP/1.1\r\n" H "Connection: close\r\n\r\n",
     STREAM_HEAD "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
                 "5\r\naaaaa\r\n5\r\nbbbbb\r\n5\r\nccccc\r\n0\r\n\r\n"},
};

/* One connection serves every exchange, each cut at one place, then the next place. */
static void test_every_cut(void **state)
{
    (void)state;
    struct rig g;
    struct client c;
    rig_open(&g, &rig_limits);
    client_open(&c, &g);
    for (size_t i = 0; i < ARRAY_LEN(exchanges); i++) {
        const char *request = exchanges[i].request;
        for (size_t cut = 1; cut <= strlen(request); cut++) {
            client_send(&g, &c, request, cut);
            rig_turn(&g);
            client_text(&g, &c, request + cut);
            client_expect(&g, &c, exchanges[i].answer);
        }
    }
    client_close(&c);
    rig_close(&g);
    assert_int_equal(g.n_gone, 0);
}

static void test_last(void **state)
{
    (void)state;
    struct rig g;
    rig_open(&g, &rig_limits);
    for (size_t i = 0; i < ARRAY_LEN(last_exchanges); i++) {
        struct client c;
        client_open(&c, &g);
        client_text(&g, &c, last_exchanges[i].request);
        /* What comes after the last request is not answered. */
        client_text(&g, &c, "GET /more HTTP/1.1\r\n" H "\r\n");
        client_wait_end(&g, &c);
        assert_false(c.reset);
        client_expect(&g, &c, last_exchanges[i].answer);
        client_close(&c);
    }
    assert_int_equal(g.n_requests, ARRAY_LEN(last_exchanges));
    rig_close(&g);
    assert_int_equal(g.n_gone, 0);
}

/* All exchanges in one write, twenty times over, are answered in order. */
static void test_pipelined(void **state)
{
    (void)state;
    struct rig g;
    struct client c;
    struct buf requests = {0};
    struct buf answers = {0};
    for (int round = 0; round < 20; round++)
        for (size_t i = 0; i < ARRAY_LEN(exchanges); i++) {
            buf_text(&requests, exchanges[i].request);
            buf_text(&answers, exchanges[i].answer);
        }
    buf_add(&answers, "", 1);
    rig_open(&g, &rig_limits);
    client_open(&c, &g);
    client_send(&g, &c, requests.data, requests.n);
    client_expect(&g, &c, answers.data);
    client_close(&c);
    rig_close(&g);
    buf_free(&requests);
    buf_free(&answers);
    assert_int_equal(g.n_gone, 0);
}

/* The second request waits until the first is answered, however long that takes. */
static void test_held_back(void **state)
{
    (void)state;
    struct rig g;
    struct client c;
    rig_open(&g, &rig_limits);
    client_open(&c, &g);
    client_text(&g, &c, "GET /hold HTTP/1.1\r\n" H "\r\nGET /a HTTP/1.1\r\n" H "\r\nGET /b HTT");
    rig_wait_count(&g, &g.n_requests, 1);
    client_text(&g, &c, "P/1.1\r\n" H "\r\n");
    rig_turn_ms(&g, 20);
    assert_int_equal(g.n_requests, 1);
    client_read(&c);
    assert_int_equal(c.got.n, 0);
    rig_respond(g.held, "x", "y", "z", "");
    client_expect(&g, &c,
                  OK_HEAD "Content-Length: 9\r\n\r\nx y z []\n" OK_HEAD
                          "Content-Length: 11\r\n\r\nGET /a  []\n" OK_HEAD
                          "Content-Length: 11\r\n\r\nGET /b  []\n");
    client_close(&c);
    rig_close(&g);
    assert_int_equal(g.n_gone, 0);
}

/* A client may send more than is kept for it; reading stops, nothing is lost. */
static void test_flood_ahead(void **state)
{
    (void)state;
    struct rig g;
    struct client c;
    rig_open(&g, &rig_limits);
    client_open(&c, &g);
    client_text(&g, &c, "GET /hold HTTP/1.1\r\n" H "\r\n");
    rig_wait_count(&g, &g.n_requests, 1);
    static const char request[] = "GET /n HTTP/1.1\r\n" H "\r\n";
    int n_sent = 0;
    /* As many as fit into the buffers between us, which is more than the server may keep. */
    while (n_sent < 20000 &&
           send(c.fd, request, sizeof(request) - 1, MSG_DONTWAIT) == (ssize_t)sizeof(request) - 1) {
        n_sent++;
        rig_turn(&g);
        assert_true(g.held->ahead.n <= rig_limits.ahead_bytes_max);
        assert_true(g.held->ahead.room <= 2 * rig_limits.ahead_bytes_max);
    }
    assert_true((size_t)n_sent * sizeof(request) > 2 * rig_limits.ahead_bytes_max);
    rig_respond(g.held, "x", "y", "z", "");
    size_t answer = strlen(OK_HEAD "Content-Length: 11\r\n\r\nGET /n  []\n");
    client_wait(&g, &c, answer * (size_t)n_sent);
    assert_int_equal(g.n_requests, n_sent + 1);
    client_close(&c);
    rig_close(&g);
}

static void test_continue(void **state)
{
    (void)state;
    struct rig g;
    struct client c;
    rig_open(&g, &rig_limits);
    client_open(&c, &g);
    client_text(&g, &c,
                "POST /p HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    client_expect(&g, &c, "HTTP/1.1 100 Continue\r\n\r\n");
    client_text(&g, &c, "hello");
    client_expect(&g, &c, OK_HEAD "Content-Length: 17\r\n\r\nPOST /p  [hello]\n");
    /* Whoever sends the body at once needs no such word. */
    client_text(&g, &c,
                "POST /p HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello");
    client_expect(&g, &c, OK_HEAD "Content-Length: 17\r\n\r\nPOST /p  [hello]\n");
    /* A body that will not be taken is not asked for. */
    client_text(&g, &c,
                "POST /p HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 500000\r\n\r\n");
    client_wait_end(&g, &c);
    assert_memory_equal(c.got.data, "HTTP/1.1 413 ", 13);
    client_close(&c);
    rig_close(&g);
}

static const struct {
    int code;
    const char *request;
    size_t n;
} refusals[] = {
#define REFUSAL(code, text)                                                                        \
    {                                                                                              \
        code, text, sizeof(text) - 1                                                               \
    }
    REFUSAL(400, "GET / HTTP/1.1\nHost: a\n\n"),
    REFUSAL(400, "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n"),
    REFUSAL(400, "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"),
    REFUSAL(400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx"),
    REFUSAL(400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
                 "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    REFUSAL(400, "GET / HTTP/1.1\r\n\r\n"),
    REFUSAL(400, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    REFUSAL(505, "GET / HTTP/3.0\r\nHost: a\r\n\r\n"),
    REFUSAL(400, "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n"),
    REFUSAL(400, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    REFUSAL(413, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 262145\r\n\r\n"),
    REFUSAL(417, "POST / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n"),
    REFUSAL(501, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n"),
    REFUSAL(501, "BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n"),
    REFUSAL(400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\n"),
};

/* One answer, `Connection: close`, an end without a reset; nothing that follows is read as a
 * request, though some of it is read, so that the answer is not lost. */
static void test_refused(void **state)
{
    (void)state;
    struct rig g;
    rig_open(&g, &rig_limits);
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        struct client c;
        client_open(&c, &g);
        client_text(&g, &c, exchanges[0].request);
        client_expect(&g, &c, exchanges[0].answer);
        client_send(&g, &c, refusals[i].request, refusals[i].n);
        for (int k = 0; k < 500; k++)
            client_text(&g, &c, "GET /smuggled HTTP/1.1\r\n" H "\r\n");
        client_wait_end(&g, &c);
        assert_false(c.reset);
        char line[32];
        snprintf(line, sizeof(line), "HTTP/1.1 %d ", refusals[i].code);
        buf_add(&c.got, "", 1);
        if (strncmp(c.got.data, line, strlen(line)) != 0)
            fail_msg("case %zu: %s", i, c.got.data);
        assert_non_null(strstr(c.got.data, "\r\nConnection: close\r\n"));
        assert_non_null(strstr(c.got.data, "\r\nContent-Type: application/json\r\n"));
        assert_non_null(strstr(c.got.data, "{\"code\":"));
        assert_null(strstr(c.got.data + 1, "HTTP/1.1"));
        client_close(&c);
    }
    assert_int_equal(g.n_requests, ARRAY_LEN(refusals));
    rig_close(&g);
}

/* A HEAD that is refused for its length gets no body either. */
static void test_refused_head(void **state)
{
    (void)state;
    struct rig g;
    struct client c;
    rig_open(&g, &rig_limits);
    client_open(&c, &g);
    client_text(&g, &c, "HEAD / HTTP/1.1\r\n" H "Content-Length: 999999\r\n\r\n");
    client_wait_end(&g, &c);
    assert_memory_equal(c.got.data, "HTTP/1.1 413 ", 13);
    assert_memory_equal(c.got.data + c.got.n - 4, "\r\n\r\n", 4);
    client_close(&c);
    rig_close(&g);
}

/* -- who leaves -- */

enum leaving { BY_END, BY_HALF, BY_RESET, N_LEAVINGS };

static void leave(struct client *c, enum leaving how)
{
    if (how == BY_END)
        client_close(c);
    else if (how == BY_RESET)
        client_abort(c);
    else
        shutdown(c->fd, SHUT_WR);
}

static void test_gone_while_held(void **state)
{
    (void)state;
    for (int how = 0; how < N_LEAVINGS; how++) {
        struct rig g;
        struct client c;
        rig_open(&g, &rig_limits);
        client_open(&c, &g);
        client_text(&g, &c, "GET /hold HTTP/1.1\r\n" H "\r\n");
        rig_wait_count(&g, &g.n_requests, 1);
        assert_int_equal(g.n_gone, 0);
        leave(&c, (enum leaving)how);
        rig_wait_count(&g, &g.n_gone, 1);
        assert_int_equal(conn_set_count(g.set), 0);
        if (how == BY_HALF)
            client_close(&c);
        rig_close(&g);
        assert_int_equal(g.n_gone, 1);
    }
}

static void test_gone_while_streaming(void **state)
{
    (void)state;
    for (int how = 0; how < N_LEAVINGS; how++) {
        struct rig g;
        struct client c;
        rig_open(&g, &rig_limits);
        g.n_pieces = INT32_MAX;
        client_open(&c, &g);
        client_text(&g, &c, "GET /stream HTTP/1.1\r\n" H "\r\n");
        client_wait(&g, &c, 500);
        leave(&c, (enum leaving)how);
        rig_wait_count(&g, &g.n_gone, 1);
        assert_int_equal(conn_set_count(g.set), 0);
        if (how == BY_HALF)
            client_close(&c);
        rig_close(&g);
        assert_int_equal(g.n_gone, 1);
    }
}

/* Who has shut its side, but only after its whole request, still gets an answer that was made
 * at once. */
static void test_half_closed(void **state)
{
    (void)state;
    struct rig g;
    struct client c;
    rig_open(&g, &rig_limits);
    g.n_pieces = 1000;
    g.piece_bytes = 5000;
    client_open(&c, &g);
    client_text(&g, &c, "GET /big HTTP/1.1\r\n" H "\r\n");
    shutdown(c.fd, SHUT_WR);
    client_wait_end(&g, &c);
    assert_true(c.got.n > 5000000);
    client_close(&c);
    rig_close(&g);
    assert_int_equal(g.n_gone, 0);
}

/* The peer has gone but its close has not been told yet: an answer now is not an error, and after
 * it nobody is called. */
static void test_late_answer(void **state)
{
    (void)state;
    struct rig g;
    struct client held;
    struct client streamed;
    rig_open(&g, &rig_limits);
    client_open(&held, &g);
    client_text(&g, &held, "GET /hold HTTP/1.1\r\n" H "\r\n");
    rig_wait_count(&g, &g.n_requests, 1);
    struct conn *late = g.held;
    client_open(&streamed, &g);
    client_text(&g, &streamed, "GET /hold HTTP/1.1\r\n" H "\r\n");
    rig_wait_count(&g, &g.n_requests, 2);
    struct conn *late_stream = g.held;
    conn_set_close(g.set, rig_empty, &g);
    rig_respond(late, "x", "y", "z", "");
    struct conn_source source = {rig_ready, rig_gone, &g};
    conn_stream(late_stream, &(struct http_reply){200, "a/b", NULL}, &source);
    assert_false(conn_idle(late_stream));
    conn_finish(late_stream);
    rig_close(&g);
    assert_int_equal(g.n_gone, 0);
    client_close(&held);
    client_close(&streamed);
}

/* Finishing while the last piece is still on its way loses neither. */
static void test_finish_while_writing(void **state)
{
    (void)state;
    struct rig g;
    struct client c;
    rig_open(&g, &rig_limits);
    client_open(&c, &g);
    client_text(&g, &c, "GET /hold HTTP/1.1\r\n" H "\r\n");
    rig_wait_count(&g, &g.n_requests, 1);
    struct conn_source source = {rig_ready, rig_gone, &g};
    conn_stream(g.held, &(struct http_reply){200, "text/event-stream", NULL}, &source);
    assert_true(conn_idle(g.held));
    struct buf piece = {0};
    buf_text(&piece, "only");
    conn_send(g.held, &piece);
    assert_false(conn_idle(g.held));
    conn_finish(g.held);
    client_expect(&g, &c, STREAM_HEAD "Transfer-Encoding: chunked\r\n\r\n4\r\nonly\r\n0\r\n\r\n");
    buf_free(&piece);
    client_text(&g, &c, exchanges[0].request);
    client_expect(&g, &c, exchanges[0].answer);
    client_close(&c);
    rig_close(&g);
    assert_int_equal(g.n_gone, 0);
}

/* A piece of no bytes is no end of the stream, and is followed by a call for the next. */
static void test_empty_piece(void **state)
{
    (void)state;
    struct rig g;
    struct client c;
    rig_open(&g, &rig_limits);
    g.piece_bytes = 0;
    client_open(&c, &g);
    client_text(&g, &c, "GET /stream HTTP/1.1\r\n" H "\r\n");
    client_expect(&g, &c, STREAM_HEAD "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert_int_equal(g.piece, g.n_pieces);
    client_close(&c);
    rig_close(&g);
}

/* A piece that could not be written in full ends the connection, never the chunk. */
static void test_failed_piece(void **state)
{
    (void)state;
    struct rig g;
    struct client c;
    rig_open(&g, &rig_limits);
    client_open(&c, &g);
    client_text(&g, &c, "GET /hold HTTP/1.1\r\n" H "\r\n");
    rig_wait_count(&g, &g.n_requests, 1);
    struct conn_source source = {rig_ready, rig_gone, &g};
    conn_stream(g.held, &(struct http_reply){200, "text/event-stream", NULL}, &source);
    struct buf piece = {0};
    buf_text(&piece, "half");
    piece.failed = true;
    conn_send(g.held, &piece);
    assert_int_equal(g.n_gone, 0); /* never from inside a call */
    buf_free(&piece);
    client_wait_end(&g, &c);
    assert_int_equal(c.got.n, 0);
    assert_int_equal(g.n_gone, 1);
    client_close(&c);
    rig_close(&g);
}

static void test_many_chunks(void **state)
{
    (void)state;
    struct rig g;
    struct client c;
    struct buf request = {0};
    struct buf want = {0};
    buf_text(&request, "POST /p HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n");
    buf_text(&want, OK_HEAD "Content-Length: 5012\r\n\r\nPOST /p  [");
    for (int i = 0; i < 5000; i++) {
        buf_text(&request, "1\r\nx\r\n");
        buf_text(&want, "x");
    }
    buf_text(&request, "0\r\n\r\n");
    buf_text(&want, "]\n");
    buf_add(&want, "", 1);
    rig_open(&g, &rig_limits);
    client_open(&c, &g);
    client_send(&g, &c, request.data, request.n);
    client_expect(&g, &c, want.data);
    client_close(&c);
    rig_close(&g);
    buf_free(&request);
    buf_free(&want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_last),
        cmocka_unit_test(test_pipelined),
        cmocka_unit_test(test_held_back),
        cmocka_unit_test(test_flood_ahead),
        cmocka_unit_test(test_continue),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_refused_head),
        cmocka_unit_test(test_gone_while_held),
        cmocka_unit_test(test_gone_while_streaming),
        cmocka_unit_test(test_half_closed),
        cmocka_unit_test(test_late_answer),
        cmocka_unit_test(test_finish_while_writing),
        cmocka_unit_test(test_empty_piece),
        cmocka_unit_test(test_failed_piece),
        cmocka_unit_test(test_many_chunks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#ifndef TESTS_CONN_RIG_H
#define TESTS_CONN_RIG_H

/* A server on loopback and its clients in one thread: the loop is turned by hand and every client
 * is a socket that never blocks, so a test says what happens first. To be included by one file. */
#include "server/conn_private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PATIENCE_MS = 20000 };

struct rig {
    uv_loop_t loop;
    uv_tcp_t listener;
    struct conn_set *set;
    uint16_t port;
    struct conn *held; /* the last that asked for /hold or /stream */
    int n_requests;
    int n_gone;
    int n_empty;
    /* of the stream that runs */
    int32_t n_pieces;
    int32_t piece;
    size_t piece_bytes;
};

struct client {
    int fd;
    struct buf got;
    bool ended;
    bool reset;
};

static const struct conn_limits rig_limits = {
    .conns_max = 64,
    .ahead_bytes_max = 16 * 1024,
    .head_bytes_max = 16 * 1024,
    .head_fields_max = 64,
    .target_bytes_max = 2048,
    .body_bytes_max = 256 * 1024,
    .bodies_bytes_max = 64 * 256 * 1024,
    .handshake_ms_max = 10000,
    .head_ms_max = 10000,
    .body_ms_max = 10000,
    .idle_ms_max = 10000,
    .write_ms_max = 10000,
    .drain_grace_ms = 10000,
};

/* -- what is served -- */

static void rig_gone(void *arg)
{
    struct rig *g = arg;
    g->n_gone++;
    g->held = NULL;
}

/* The bytes of piece i: a letter that tells it from its neighbours. */
static void rig_piece(struct buf *b, const struct rig *g, int32_t i)
{
    for (size_t k = 0; k < g->piece_bytes; k++)
        buf_add(b, &(const char){(char)('a' + i % 26)}, 1);
}

static void rig_ready(void *arg)
{
    struct rig *g = arg;
    if (g->piece == g->n_pieces) {
        conn_finish(g->held);
        g->held = NULL;
        return;
    }
    struct buf b = {0};
    rig_piece(&b, g, g->piece++);
    conn_send(g->held, &b);
    buf_free(&b);
}

static void rig_respond(struct conn *c, const char *method, const char *path, const char *query,
                        const char *body)
{
    struct buf b = {0};
    buf_printf(&b, "%s %s %s [%s]\n", method, path, query, body);
    conn_respond(c, &(struct http_reply){200, "text/plain", "X-Extra: 1\r\n"}, &b);
    buf_free(&b);
}

static void rig_request(struct conn *c, const struct http_request *r, void *arg)
{
    struct rig *g = arg;
    g->n_requests++;
    struct conn_source source = {rig_ready, rig_gone, g};
    if (strcmp(r->path, "/hold") == 0) {
        g->held = c;
        conn_watch(c, &source);
    } else if (strcmp(r->path, "/stream") == 0) {
        g->held = c;
        g->piece = 0;
        conn_stream(c, &(struct http_reply){200, "text/event-stream", NULL}, &source);
        rig_ready(g);
    } else if (strcmp(r->path, "/big") == 0) {
        struct buf b = {0};
        for (int32_t i = 0; i < g->n_pieces; i++)
            rig_piece(&b, g, i);
        conn_respond(c, &(struct http_reply){200, "text/plain", NULL}, &b);
        buf_free(&b);
    } else {
        rig_respond(c, r->method, r->path, r->query, r->body);
    }
}

static const char *rig_error(struct conn *c, const struct http_request *r, struct buf *body,
                             int code, const char *text, void *arg)
{
    (void)c;
    (void)r;
    (void)arg;
    buf_printf(body, "{\"code\":%d,\"text\":\"%s\"}", code, text);
    return NULL;
}

static void rig_connection(uv_stream_t *listener, int err)
{
    struct rig *g = listener->data;
    if (err)
        conn_accept_failed(g->set, err);
    else
        conn_accept(g->set, listener);
}

static void rig_empty(void *arg)
{
    struct rig *g = arg;
    g->n_empty++;
}

/* -- the rig -- */

static inline void rig_open(struct rig *g, const struct conn_limits *limits)
{
    *g = (struct rig){.n_pieces = 3, .piece_bytes = 5};
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(uv_loop_init(&g->loop), 0);
    struct conn_handler handler = {rig_request, rig_error, g};
    assert_int_equal(conn_set_open(&g->set, &g->loop, limits, &handler), OK);
    assert_int_equal(uv_tcp_init(&g->loop, &g->listener), 0);
    g->listener.data = g;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    assert_int_equal(uv_tcp_bind(&g->listener, (struct sockaddr *)&address, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&g->listener, 128, rig_connection), 0);
    int n = sizeof(address);
    assert_int_equal(uv_tcp_getsockname(&g->listener, (struct sockaddr *)&address, &n), 0);
    g->port = address.sin_port;
}

static inline void rig_turn(struct rig *g)
{
    uv_run(&g->loop, UV_RUN_NOWAIT);
}

/* Everything that is open must close, in bounded time and once. */
static inline void rig_close(struct rig *g)
{
    if (!uv_is_closing((uv_handle_t *)&g->listener))
        uv_close((uv_handle_t *)&g->listener, NULL);
    if (!g->set->closing)
        conn_set_close(g->set, rig_empty, g);
    assert_int_equal(g->n_empty, 0);
    uv_run(&g->loop, UV_RUN_DEFAULT);
    assert_int_equal(g->n_empty, 1);
    assert_int_equal(conn_set_count(g->set), 0);
    conn_set_free(g->set);
    assert_int_equal(uv_loop_close(&g->loop), 0);
}

/* -- clients -- */

static inline void client_open(struct client *c, const struct rig *g)
{
    *c = (struct client){.fd = socket(AF_INET, SOCK_STREAM, 0)};
    assert_true(c->fd >= 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = g->port, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    assert_int_equal(connect(c->fd, (struct sockaddr *)&address, sizeof(address)), 0);
    /* Small writes follow each other here; none shall wait for the other's acknowledgement. */
    const int on = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static inline void client_close(struct client *c)
{
    close(c->fd);
    buf_free(&c->got);
}

/* Leaves with a reset instead of an end. */
static inline void client_abort(struct client *c)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    client_close(c);
}

__attribute__((noinline)) static void client_read(struct client *c)
{
    char bytes[8192];
    for (;;) {
        ssize_t n = recv(c->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
        if (n > 0) {
            buf_add(&c->got, bytes, (size_t)n);
            continue;
        }
        c->ended |= n == 0;
        c->reset |= n < 0 && errno == ECONNRESET;
        return;
    }
}

/* Sends what the socket takes, while the server runs. */
static inline void client_send(struct rig *g, struct client *c, const char *bytes, size_t n)
{
    while (n) {
        ssize_t sent = send(c->fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN)
            return;
        if (sent > 0) {
            bytes += sent;
            n -= (size_t)sent;
        }
        rig_turn(g);
    }
}

static inline void client_text(struct rig *g, struct client *c, const char *text)
{
    client_send(g, c, text, strlen(text));
}

static inline uint64_t clock_ms(void)
{
    return now_ns() / 1000000;
}

/* Turns the loop and reads until the client has got n bytes, or the end if n is SIZE_MAX. */
static inline void client_wait(struct rig *g, struct client *c, size_t n)
{
    uint64_t until = clock_ms() + PATIENCE_MS;
    while (!c->ended && !c->reset && c->got.n < n) {
        rig_turn(g);
        client_read(c);
        if (clock_ms() > until)
            fail_msg("nothing more after %zu bytes: %.*s", c->got.n,
                     (int)(c->got.n < 200 ? c->got.n : 200), c->got.n ? c->got.data : "");
    }
}

static inline void client_wait_end(struct rig *g, struct client *c)
{
    client_wait(g, c, SIZE_MAX);
}

static inline void rig_turn_ms(struct rig *g, uint64_t ms)
{
    for (uint64_t until = clock_ms() + ms; clock_ms() < until; usleep(200))
        rig_turn(g);
}

static inline void rig_wait_count(struct rig *g, const int *count, int want)
{
    uint64_t until = clock_ms() + PATIENCE_MS;
    while (*count < want) {
        rig_turn(g);
        assert_true(clock_ms() < until);
    }
    rig_turn(g);
    assert_int_equal(*count, want);
}

static inline void client_expect(struct rig *g, struct client *c, const char *want)
{
    client_wait(g, c, strlen(want));
    buf_add(&c->got, "", 1);
    assert_non_null(c->got.data);
    assert_string_equal(c->got.data, want);
    buf_clear(&c->got);
}

#endif

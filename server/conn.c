/* One connection.
 *
 *   IDLE -> READING -> BUSY -> IDLE ...          keep-alive
 *                      BUSY -> LINGER -> CLOSED  the last answer, refusals included
 *   any -> CLOSED                                the peer left, a limit, no memory
 *
 * Invariants. At most one write is in flight, and `out` belongs to it. The next piece is asked for
 * and the next request looked at only in the callback of that write, so nothing here calls its
 * caller back: what goes wrong inside conn_send() is told after it has returned. A source hears
 * `gone` in the close callback and nowhere else, which makes it once; conn_respond() and
 * conn_finish() forget the source, which makes it never after the answer. */
#include "server/conn_private.h"

#include <assert.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

static void look_ahead(struct conn *c);

static void drop_request(struct conn *c)
{
    c->set->bodies_held -= c->body_held;
    c->body_held = 0;
    request_close(c->request);
    c->request = NULL;
}

/* Bodies come before keys are looked at, so that without a bound on all of them together
 * anybody could fill the memory with connections. False: there is no room for this one. */
static bool hold_body(struct conn *c)
{
    struct conn_set *s = c->set;
    s->bodies_held += c->request->view.body_bytes - c->body_held;
    c->body_held = c->request->view.body_bytes;
    return s->bodies_held <= s->limits.bodies_bytes_max;
}

/* -- the end -- */

static void forget_source(struct conn *c)
{
    c->source = (struct conn_source){0};
}

static void on_closed(uv_handle_t *handle)
{
    struct conn *c = handle->data;
    struct conn_source source = c->source;
    forget_source(c);
    if (source.gone)
        source.gone(source.arg);
    drop_request(c);
    tls_close(c->tls);
    buf_free(&c->ahead);
    buf_free(&c->out);
    conn_set_drop(c);
}

void conn_kill(struct conn *c)
{
    if (c->state == CONN_CLOSED)
        return;
    c->state = CONN_CLOSED;
    conn_set_wait(c, WAIT_NONE);
    uv_close(conn_handle_of(c), on_closed);
}

void conn_reset(struct conn *c)
{
    if (c->state == CONN_CLOSED)
        return;
    /* Refused while a shutdown is under way; then a plain close has to do, as for a Unix socket. */
    if (c->io.handle.type != UV_TCP || uv_tcp_close_reset(&c->io.tcp, on_closed)) {
        conn_kill(c);
        return;
    }
    c->state = CONN_CLOSED;
    conn_set_wait(c, WAIT_NONE);
}

/* Closing while unread bytes wait makes the kernel send a reset, which can overtake the answer.
 * So the peer gets a moment to read it while what it still sends is thrown away. */
static void linger(struct conn *c)
{
    c->state = CONN_LINGER;
    conn_set_wait(c, WAIT_LINGER);
    if (c->tls)
        tls_end(c->tls);
    conn_flush(c);
    if (c->state == CONN_CLOSED)
        return;
    if (c->peer_done && !c->tls)
        conn_kill(c);
    else
        conn_shut(c);
}

/* -- reading -- */

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
    (void)size;
    struct conn *c = handle->data;
    size_t most = c->set->limits.ahead_bytes_max;
    size_t kept = c->ahead.n - c->ahead_at;
    buf->base = c->set->read;
    buf->len = READ_BYTES;
    if (c->state == CONN_BUSY && !c->close_after && kept < most && most - kept < READ_BYTES)
        buf->len = most - kept;
}

static void stop_reading(struct conn *c)
{
    if (c->reading)
        uv_read_stop(conn_stream_of(c));
    c->reading = false;
}

/* Bytes of a peer that gets no further answer. After DROP_BYTES reading stops, but the
 * connection stays until its time is over: the peer may still be about to read. */
static void drop(struct conn *c, size_t n)
{
    c->n_dropped += n;
    if (c->n_dropped > DROP_BYTES)
        stop_reading(c);
}

/* While an answer is made we go on reading, for only so can we see the peer leave. */
static void keep_ahead(struct conn *c, const char *data, size_t n)
{
    if (c->close_after) {
        drop(c, n);
        return;
    }
    if (c->ahead_at) {
        memmove(c->ahead.data, c->ahead.data + c->ahead_at, c->ahead.n - c->ahead_at);
        c->ahead.n -= c->ahead_at;
        c->ahead_at = 0;
    }
    buf_add(&c->ahead, data, n);
    if (c->ahead.failed)
        conn_kill(c);
    else if (c->ahead.n >= c->set->limits.ahead_bytes_max)
        stop_reading(c);
}

/* The peer sends nothing more. While we owe it more than the socket has been given, that counts
 * as gone; else it gets what is on its way. */
static void end_of_input(struct conn *c)
{
    stop_reading(c);
    if (c->state == CONN_BUSY && c->answer == ANSWER_WHOLE)
        c->peer_done = true;
    else
        conn_kill(c);
}

static size_t take(struct conn *c, const char *data, size_t n);
static void refuse(struct conn *c, int code, const char *text);

/* Bytes of the client. Taking a whole request only queues its answer, so the rest is kept in
 * time. */
static void receive(struct conn *c, const char *data, size_t n)
{
    if (c->state == CONN_LINGER) {
        drop(c, n);
        return;
    }
    if (c->state == CONN_BUSY) {
        keep_ahead(c, data, n);
        return;
    }
    size_t used = take(c, data, n);
    if (used < n && c->state == CONN_BUSY)
        keep_ahead(c, data + used, n - used);
}

/* It knows what an answer is, so it gets one. */
static void answer_plain(struct conn *c)
{
    if (c->flushing) {
        conn_kill(c);
        return;
    }
    tls_close(c->tls);
    c->tls = NULL;
    refuse(c, 400, "this port speaks TLS: use https");
}

/* The socket may still be told why, if nobody waits for an answer. */
static void end_broken(struct conn *c)
{
    if (c->state == CONN_BUSY)
        conn_kill(c);
    else
        linger(c);
}

/* The client's last word of a handshake gets no answer that could carry its acknowledgement. One
 * that is not told not to wait would keep its first request for as long as the kernel keeps that.
 */
static void acknowledge(struct conn *c)
{
    int fd;
    const int on = 1;
    if (uv_fileno(conn_handle_of(c), &fd) == 0)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
}

static void end_handshake(struct conn *c)
{
    conn_flush(c);
    if (c->state != CONN_IDLE || c->waits_for != WAIT_HANDSHAKE || !tls_established(c->tls))
        return;
    acknowledge(c);
    conn_set_wait(c, WAIT_IDLE);
}

/* Bytes of the socket. They are used up when this returns, so a record that is not whole waits
 * in TLS and nothing waits here. */
static void receive_records(struct conn *c, const char *data, size_t n)
{
    tls_feed(c->tls, data, n);
    while (c->state != CONN_CLOSED && c->tls) {
        size_t got = 0;
        switch (tls_read(c->tls, c->set->plain, sizeof(c->set->plain), &got)) {
        case TLS_DATA:
            receive(c, c->set->plain, got);
            break;
        case TLS_WAIT:
            end_handshake(c);
            return;
        case TLS_END:
            conn_flush(c);
            end_of_input(c);
            return;
        case TLS_PLAIN:
            answer_plain(c);
            return;
        case TLS_BROKEN:
            end_broken(c);
            return;
        }
    }
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct conn *c = stream->data;
    if (n == 0 || c->state == CONN_CLOSED)
        return;
    if (n == UV_EOF) {
        end_of_input(c);
        return;
    }
    if (n < 0)
        conn_kill(c);
    else if (c->state == CONN_LINGER)
        drop(c, (size_t)n);
    else if (c->tls)
        receive_records(c, buf->base, (size_t)n);
    else
        receive(c, buf->base, (size_t)n);
}

static void start_reading(struct conn *c)
{
    if (c->reading || c->peer_done || c->state == CONN_CLOSED)
        return;
    c->reading = uv_read_start(conn_stream_of(c), on_alloc, on_read) == 0;
    if (!c->reading)
        conn_kill(c);
}

/* -- the end of an answer -- */

/* The socket has taken the whole answer. */
void conn_answered(struct conn *c)
{
    drop_request(c);
    buf_free(&c->out);
    if (c->close_after || c->peer_done || c->set->draining) {
        buf_free(&c->ahead);
        c->ahead_at = 0;
        linger(c);
        start_reading(c);
        return;
    }
    c->state = CONN_IDLE;
    c->answer = ANSWER_NONE;
    c->no_body = false;
    conn_set_wait(c, WAIT_IDLE);
    look_ahead(c);
}

/* -- requests -- */

/* Answers a request that never became one. */
static void refuse(struct conn *c, int code, const char *text)
{
    const struct conn_handler *h = &c->set->handler;
    struct buf body = {0};
    c->state = CONN_BUSY;
    c->close_after = true;
    c->no_body = c->request && c->request->is_head;
    const struct http_request *r = c->request && c->request->view.head ? &c->request->view : NULL;
    struct http_reply reply = {.code = code, .type = "application/json"};
    reply.extra = h->on_error(c, r, &body, code, text, h->arg);
    conn_put_whole(c, &reply, &body);
    buf_free(&body);
}

static void serve(struct conn *c)
{
    const struct conn_handler *h = &c->set->handler;
    c->state = CONN_BUSY;
    c->answer = ANSWER_NONE;
    c->n_requests++;
    c->close_after =
        !request_keeps_alive(c->request) || c->n_requests == c->set->limits.requests_max;
    c->no_body = c->request->is_head;
    conn_set_wait(c, WAIT_NONE);
    h->on_request(c, &c->request->view, h->arg);
}

/* Takes bytes of a request and returns how many; what comes after them is of the next one. */
static size_t take(struct conn *c, const char *data, size_t n)
{
    if (c->state == CONN_IDLE) {
        if (request_open(&c->request, &c->set->limits)) {
            conn_kill(c);
            return n;
        }
        c->state = CONN_READING;
        c->body_windows = 0;
        c->body_seen = 0;
        conn_set_wait(c, WAIT_HEAD);
    }
    struct request *r = c->request;
    enum request_state before = r->state;
    size_t used = request_feed(r, data, n);
    bool room = hold_body(c);
    if (r->state == REQUEST_BAD) {
        refuse(c, r->code, r->text);
    } else if (!room && r->state == REQUEST_BODY) {
        refuse(c, 503, "too many large bodies at once");
    } else if (r->state == REQUEST_DONE) {
        serve(c);
    } else if (r->state == REQUEST_BODY && before == REQUEST_HEAD) {
        conn_set_wait(c, WAIT_BODY);
        /* Told only to a client that has sent nothing of the body yet: the others do not wait. */
        if (r->facts.expect_continue && r->view.body_bytes == 0)
            conn_send_continue(c);
    }
    return used;
}

/* Starts the next request with the bytes that came before its time. */
static void look_ahead(struct conn *c)
{
    size_t n = c->ahead.n - c->ahead_at;
    if (n)
        c->ahead_at += take(c, c->ahead.data + c->ahead_at, n);
    if (c->state == CONN_CLOSED)
        return;
    if (c->ahead_at == c->ahead.n) {
        buf_free(&c->ahead);
        c->ahead_at = 0;
    }
    if (c->ahead.n - c->ahead_at < c->set->limits.ahead_bytes_max)
        start_reading(c);
}

/* -- for the set -- */

void conn_start(struct conn *c)
{
    conn_set_wait(c, c->tls ? WAIT_HANDSHAKE : WAIT_IDLE);
    start_reading(c);
}

/* With TLS the peer is told that this is the end and not an attack. */
void conn_leave(struct conn *c)
{
    if (c->tls && c->state == CONN_IDLE && tls_established(c->tls))
        linger(c);
    else
        conn_kill(c);
}

void conn_refuse_late(struct conn *c)
{
    refuse(c, 503, "the server is shutting down");
}

/* A body is looked at in windows of equal length: in each it must have grown enough, and their
 * number is what it may take at most. */
static void expire_body(struct conn *c)
{
    const struct conn_set *s = c->set;
    size_t n = c->request->view.body_bytes;
    bool grown = n - c->body_seen >= s->limits.body_rate_min * s->wait_ms[WAIT_BODY] / 1000;
    if (++c->body_windows == s->body_windows_max || !grown) {
        refuse(c, 408, "request body too slow");
        return;
    }
    c->body_seen = n;
    conn_set_wait(c, WAIT_BODY);
}

static void expire_write(struct conn *c)
{
    size_t left = conn_unsent(c);
    if (left == c->write_left) {
        conn_reset(c);
        return;
    }
    c->write_left = left;
    conn_set_wait(c, WAIT_WRITE);
}

void conn_expire(struct conn *c)
{
    switch (c->waits_for) {
    case WAIT_HEAD:
        refuse(c, 408, "request head too slow");
        break;
    case WAIT_BODY:
        expire_body(c);
        break;
    case WAIT_WRITE:
        expire_write(c);
        break;
    case WAIT_IDLE:
        conn_leave(c);
        break;
    case WAIT_HANDSHAKE:
    case WAIT_LINGER:
    case WAIT_NONE:
    case N_WAITS:
        conn_kill(c);
        break;
    }
}

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
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

/* Bodies of the largest size that may be held at once. */
enum { BODIES_MAX = 64 };

static void look_ahead(struct conn *c);

static uv_stream_t *stream_of(struct conn *c)
{
    return (uv_stream_t *)&c->tcp;
}

static uv_handle_t *handle_of(struct conn *c)
{
    return (uv_handle_t *)&c->tcp;
}

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
    size_t most;
    s->bodies_held += c->request->view.body_bytes - c->body_held;
    c->body_held = c->request->view.body_bytes;
    return !size_mul(s->limits.body_bytes_max, BODIES_MAX, &most) || s->bodies_held <= most;
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
    uv_close(handle_of(c), on_closed);
}

void conn_reset(struct conn *c)
{
    if (c->state == CONN_CLOSED)
        return;
    /* Refused while a shutdown is under way; then a plain close has to do. */
    if (uv_tcp_close_reset(&c->tcp, on_closed)) {
        conn_kill(c);
        return;
    }
    c->state = CONN_CLOSED;
    conn_set_wait(c, WAIT_NONE);
}

static void on_shut(uv_shutdown_t *req, int err)
{
    struct conn *c = req->data;
    if (err)
        conn_kill(c);
}

/* Closing while unread bytes wait makes the kernel send a reset, which can overtake the answer.
 * So the peer gets a moment to read it while what it still sends is thrown away. */
static void linger(struct conn *c)
{
    c->state = CONN_LINGER;
    conn_set_wait(c, WAIT_LINGER);
    c->shutdown.data = c;
    if (c->peer_done || uv_shutdown(&c->shutdown, stream_of(c), on_shut))
        conn_kill(c);
}

/* -- reading -- */

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
    (void)size;
    struct conn *c = handle->data;
    buf->base = c->set->read;
    buf->len = READ_BYTES;
    size_t kept = c->ahead.n - c->ahead_at;
    if (c->state == CONN_BUSY && !c->close_after && kept < AHEAD_BYTES)
        buf->len = AHEAD_BYTES - kept;
}

static void stop_reading(struct conn *c)
{
    if (c->reading)
        uv_read_stop(stream_of(c));
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
    else if (c->ahead.n >= AHEAD_BYTES)
        stop_reading(c);
}

/* The peer sends nothing more. While we owe it more than the socket has been given, that counts
 * as gone; else it gets what is on its way. */
static void end_of_input(struct conn *c)
{
    c->reading = false;
    if (c->state == CONN_BUSY && c->answer == ANSWER_WHOLE)
        c->peer_done = true;
    else
        conn_kill(c);
}

static size_t take(struct conn *c, const char *data, size_t n);

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct conn *c = stream->data;
    if (n == 0 || c->state == CONN_CLOSED)
        return;
    if (n == UV_EOF) {
        end_of_input(c);
        return;
    }
    if (n < 0) {
        conn_kill(c);
        return;
    }
    if (c->state == CONN_BUSY) {
        keep_ahead(c, buf->base, (size_t)n);
        return;
    }
    if (c->state == CONN_LINGER) {
        drop(c, (size_t)n);
        return;
    }
    /* Taking a whole request only queues its answer, so the rest is kept in time. */
    size_t used = take(c, buf->base, (size_t)n);
    if (used < (size_t)n && c->state == CONN_BUSY)
        keep_ahead(c, buf->base + used, (size_t)n - used);
}

static void start_reading(struct conn *c)
{
    if (c->reading || c->peer_done || c->state == CONN_CLOSED)
        return;
    c->reading = uv_read_start(stream_of(c), on_alloc, on_read) == 0;
    if (!c->reading)
        conn_kill(c);
}

/* -- writing -- */

static const char *reason(int code)
{
    static const struct {
        int code;
        const char *text;
    } reasons[] = {
        {200, "OK"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
        if (reasons[i].code == code)
            return reasons[i].text;
    return "Unknown";
}

/* The socket has taken the whole answer. */
static void end_answer(struct conn *c)
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

static void send_end(struct conn *c);

static void on_written(uv_write_t *req, int err)
{
    struct conn *c = req->data;
    c->writing = false;
    buf_clear(&c->out);
    if (c->state == CONN_CLOSED)
        return;
    if (err) {
        conn_kill(c);
        return;
    }
    conn_set_wait(c, WAIT_NONE);
    if (c->answer == ANSWER_WHOLE)
        end_answer(c);
    else if (c->answer == ANSWER_ENDING)
        send_end(c);
    else if (c->source.ready)
        c->source.ready(c->source.arg);
}

/* What the peer has not yet got, in our queue and in the kernel's. Ours alone would not do: the
 * kernel takes more from it only when a good part of its own is gone. */
static size_t unsent(struct conn *c)
{
    int fd;
    int in_kernel = 0;
    size_t queued = uv_stream_get_write_queue_size(stream_of(c));
    if (queued && uv_fileno(handle_of(c), &fd) == 0 && ioctl(fd, TIOCOUTQ, &in_kernel) == 0)
        queued += (size_t)in_kernel;
    return queued;
}

/* Gives `out` to the socket; libuv tries at once and calls back from the loop in any case. */
static void write_out(struct conn *c)
{
    assert(!c->writing);
    if (c->out.failed) {
        conn_kill(c);
        return;
    }
    uv_buf_t bytes = {.base = c->out.data, .len = c->out.n};
    c->write.data = c;
    c->writing = true;
    conn_set_wait(c, WAIT_WRITE);
    if (uv_write(&c->write, stream_of(c), &bytes, 1, on_written)) {
        c->writing = false;
        conn_kill(c);
        return;
    }
    c->write_left = unsent(c);
}

static void put_head(struct conn *c, const struct http_reply *reply)
{
    buf_clear(&c->out);
    buf_printf(&c->out, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\n", reply->code, reason(reply->code),
               reply->type);
    if (reply->extra)
        buf_text(&c->out, reply->extra);
    c->close_after |= c->set->draining;
    if (c->close_after)
        buf_text(&c->out, "Connection: close\r\n");
    else if (c->request && c->request->facts.minor == 0)
        buf_text(&c->out, "Connection: keep-alive\r\n");
}

static void put_whole(struct conn *c, const struct http_reply *reply, const struct buf *body)
{
    size_t n = body ? body->n : 0;
    put_head(c, reply);
    buf_printf(&c->out, "Content-Length: %zu\r\n\r\n", n);
    if (!c->no_body && n)
        buf_add(&c->out, body->data, n);
    if (body && body->failed)
        c->out.failed = true;
    c->answer = ANSWER_WHOLE;
    write_out(c);
}

static void send_end(struct conn *c)
{
    if (c->chunked)
        buf_text(&c->out, "0\r\n\r\n");
    c->answer = ANSWER_WHOLE;
    write_out(c);
}

void conn_respond(struct conn *c, const struct http_reply *reply, const struct buf *body)
{
    assert(c->answer == ANSWER_NONE);
    forget_source(c);
    if (c->state == CONN_CLOSED)
        return;
    assert(c->state == CONN_BUSY);
    put_whole(c, reply, body);
}

void conn_watch(struct conn *c, const struct conn_source *source)
{
    assert(c->answer == ANSWER_NONE);
    c->source = *source;
    c->source.ready = NULL;
}

void conn_stream(struct conn *c, const struct http_reply *reply, const struct conn_source *source)
{
    assert(c->answer == ANSWER_NONE);
    c->source = *source;
    c->answer = ANSWER_STREAM;
    if (c->state == CONN_CLOSED)
        return;
    assert(c->state == CONN_BUSY);
    /* A client of HTTP/1.0 knows no chunks; the end of the connection is the end of the answer. */
    c->chunked = c->request->facts.minor == 1 && !c->no_body;
    if (c->request->facts.minor == 0)
        c->close_after = true;
    put_head(c, reply);
    buf_text(&c->out, c->request->facts.minor == 1 ? "Transfer-Encoding: chunked\r\n\r\n" : "\r\n");
}

bool conn_idle(const struct conn *c)
{
    return c->state == CONN_BUSY && c->answer == ANSWER_STREAM && !c->writing;
}

void conn_send(struct conn *c, const struct buf *piece)
{
    if (c->state == CONN_CLOSED)
        return;
    assert(c->answer == ANSWER_STREAM);
    assert(conn_idle(c));
    /* A chunk of no bytes would be the end. */
    bool framed = c->chunked && piece->n > 0;
    if (framed)
        buf_printf(&c->out, "%zx\r\n", piece->n);
    if (!c->no_body)
        buf_add(&c->out, piece->data, piece->n);
    if (framed)
        buf_text(&c->out, "\r\n");
    if (piece->failed)
        c->out.failed = true;
    write_out(c);
}

void conn_finish(struct conn *c)
{
    assert(c->answer == ANSWER_STREAM);
    forget_source(c);
    if (c->state == CONN_CLOSED)
        return;
    c->answer = ANSWER_ENDING;
    if (!c->writing)
        send_end(c);
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
    h->on_error(&body, code, text, h->arg);
    put_whole(c, &(struct http_reply){.code = code, .type = "application/json"}, &body);
    buf_free(&body);
}

/* Told only to a client that has sent nothing of the body yet: the others do not wait. There is
 * no write in flight, so a socket that does not take 25 bytes is broken. */
static void send_continue(struct conn *c)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    uv_buf_t bytes = {.base = (char *)text, .len = sizeof(text) - 1};
    if (uv_try_write(stream_of(c), &bytes, 1) != (int)bytes.len)
        conn_kill(c);
}

static void serve(struct conn *c)
{
    const struct conn_handler *h = &c->set->handler;
    c->state = CONN_BUSY;
    c->answer = ANSWER_NONE;
    c->close_after = !request_keeps_alive(c->request);
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
        if (r->facts.expect_continue && r->view.body_bytes == 0)
            send_continue(c);
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
    if (c->ahead.n - c->ahead_at < AHEAD_BYTES)
        start_reading(c);
}

/* -- for the set -- */

void conn_start(struct conn *c)
{
    conn_set_wait(c, WAIT_IDLE);
    start_reading(c);
}

void conn_expire(struct conn *c)
{
    size_t left;
    switch (c->waits_for) {
    case WAIT_HEAD:
        refuse(c, 408, "request head too slow");
        break;
    case WAIT_BODY:
        refuse(c, 408, "request body too slow");
        break;
    case WAIT_WRITE:
        left = unsent(c);
        if (left == c->write_left) {
            conn_reset(c);
            break;
        }
        c->write_left = left;
        conn_set_wait(c, WAIT_WRITE);
        break;
    case WAIT_IDLE:
    case WAIT_LINGER:
    case WAIT_NONE:
    case N_WAITS:
        conn_kill(c);
        break;
    }
}

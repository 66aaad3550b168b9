/* The way out of a connection: heads, chunks, and the one write in flight.
 *
 * Invariants. `out` belongs to the piece in flight (`writing`); the socket has at most one write
 * (`flushing`). Without TLS both are the same thing. With it a piece becomes records, and TLS has
 * things of its own to say, so the socket may be busy without a piece; a piece is over when nothing
 * is left to flush. */
#include "server/conn_private.h"

#include <assert.h>
#include <string.h>
#include <sys/ioctl.h>

enum { CODE_NO_CONTENT = 204 };

static const char *reason(int code)
{
    static const struct {
        int code;
        const char *text;
    } reasons[] = {
        {200, "OK"},
        {CODE_NO_CONTENT, "No Content"},
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

static void send_end(struct conn *c);

static void on_shut(uv_shutdown_t *req, int err)
{
    struct conn *c = req->data;
    if (err || c->peer_done)
        conn_kill(c);
}

void conn_shut(struct conn *c)
{
    c->shut_wanted = c->flushing;
    c->shutdown.data = c;
    if (!c->flushing && uv_shutdown(&c->shutdown, conn_stream_of(c), on_shut))
        conn_kill(c);
}

/* The socket has taken the piece. */
static void end_piece(struct conn *c)
{
    c->writing = false;
    buf_clear(&c->out);
    conn_set_wait(c, WAIT_NONE);
    if (c->answer == ANSWER_WHOLE)
        conn_answered(c);
    else if (c->answer == ANSWER_ENDING)
        send_end(c);
    else if (c->source.ready)
        c->source.ready(c->source.arg);
}

void conn_flushed(struct conn *c)
{
    c->flushing = false;
    if (c->state == CONN_CLOSED)
        return;
    if (c->tls && tls_has_out(c->tls))
        conn_flush(c);
    else if (c->writing)
        end_piece(c);
    else if (c->shut_wanted)
        conn_shut(c);
}

static void on_written(uv_write_t *req, int err)
{
    struct conn *c = req->data;
    if (err)
        conn_kill(c);
    conn_flushed(c);
}

/* What the peer has not yet got, in our queue and in the kernel's. Ours alone would not do: the
 * kernel takes more from it only when a good part of its own is gone. */
size_t conn_unsent(struct conn *c)
{
    int fd;
    int in_kernel = 0;
    size_t queued = uv_stream_get_write_queue_size(conn_stream_of(c));
    if (queued && uv_fileno(conn_handle_of(c), &fd) == 0 && ioctl(fd, TIOCOUTQ, &in_kernel) == 0)
        queued += (size_t)in_kernel;
    return queued;
}

/* Most of the time the socket takes everything at once. A write request would then cost another
 * system call, with which libuv stops waiting for what it had not begun to wait for; so one is made
 * only for what is left. The end is told from the loop in any case. */
void conn_flush(struct conn *c)
{
    if (c->flushing || c->state == CONN_CLOSED)
        return;
    const struct buf *from = c->tls ? tls_out(c->tls) : &c->out;
    /* An empty piece is written, too: its end must be told from the loop. */
    if (!c->writing && (!c->tls || !from))
        return;
    uv_buf_t bytes = {.base = from ? from->data : NULL, .len = from ? from->n : 0};
    int sent = bytes.len ? uv_try_write(conn_stream_of(c), &bytes, 1) : 0;
    c->flushing = true;
    if (sent >= 0 && (size_t)sent == bytes.len) {
        conn_set_flushed(c);
        return;
    }
    bytes.base += sent > 0 ? sent : 0;
    bytes.len -= sent > 0 ? (size_t)sent : 0;
    c->write.data = c;
    if (uv_write(&c->write, conn_stream_of(c), &bytes, 1, on_written)) {
        c->flushing = false;
        conn_kill(c);
    }
}

/* Gives the piece to the socket. */
static void write_out(struct conn *c)
{
    assert(!c->writing);
    if (c->out.failed || (c->tls && !tls_write(c->tls, c->out.data, c->out.n))) {
        conn_kill(c);
        return;
    }
    c->writing = true;
    conn_set_wait(c, WAIT_WRITE);
    conn_flush(c);
    if (c->state != CONN_CLOSED)
        c->write_left = conn_unsent(c);
}

static void put_head(struct conn *c, const struct http_reply *reply)
{
    buf_clear(&c->out);
    buf_printf(&c->out, "HTTP/1.1 %d %s\r\n", reply->code, reason(reply->code));
    if (reply->type)
        buf_printf(&c->out, "Content-Type: %s\r\n", reply->type);
    if (reply->extra)
        buf_text(&c->out, reply->extra);
    c->close_after |= c->set->draining;
    if (c->close_after)
        buf_text(&c->out, "Connection: close\r\n");
    else if (c->request && c->request->facts.minor == 0)
        buf_text(&c->out, "Connection: keep-alive\r\n");
}

void conn_put_whole(struct conn *c, const struct http_reply *reply, const struct buf *body)
{
    size_t n = body ? body->n : 0;
    put_head(c, reply);
    if (reply->code != CODE_NO_CONTENT)
        buf_printf(&c->out, "Content-Length: %zu\r\n", n);
    buf_text(&c->out, "\r\n");
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
    c->source = (struct conn_source){0};
    if (c->state == CONN_CLOSED)
        return;
    assert(c->state == CONN_BUSY);
    conn_put_whole(c, reply, body);
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
    c->source = (struct conn_source){0};
    if (c->state == CONN_CLOSED)
        return;
    c->answer = ANSWER_ENDING;
    if (!c->writing)
        send_end(c);
}

/* Without TLS there is no write in flight, so a socket that does not take 25 bytes is broken. */
void conn_send_continue(struct conn *c)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    uv_buf_t bytes = {.base = (char *)text, .len = sizeof(text) - 1};
    bool sent = c->tls ? tls_write(c->tls, text, bytes.len)
                       : uv_try_write(conn_stream_of(c), &bytes, 1) == (int)bytes.len;
    if (sent)
        conn_flush(c);
    else
        conn_kill(c);
}

#ifndef BENCH_SERVE_CLIENT_H
#define BENCH_SERVE_CLIENT_H

#include "server/buf.h"
#include "server/json.h"

#include <llhttp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

/* One connection of the load generator. It sends a request, reads an answer of server-sent
 * events and writes down what came and when. It is kept for the next request where the server
 * allows it, so the time of a request includes connecting only when it had to connect.
 *
 *   CLOSED -> CONNECTING -> BUSY -> IDLE -> BUSY ...         every request ends in exactly one
 *                        \-> CLOSING -> CLOSED               call of client_hooks.done
 *
 * What the server says is never trusted: whatever is not an event stream that ends in usage
 * and [DONE] becomes a fault with a name. */

enum {
    EVENT_BYTES_MAX = 1 << 20,
    HEAD_BYTES_MAX = 1 << 16,
    READ_BYTES = 1 << 16,
    FAULT_NAME_MAX = 24,
    BREAKS_MAX = 1 << 20, /* events of one answer */
};

enum client_state { CLIENT_CLOSED, CLIENT_CONNECTING, CLIENT_BUSY, CLIENT_IDLE, CLIENT_CLOSING };

/* What one request brought. */
struct outcome {
    char fault[FAULT_NAME_MAX]; /* "": a whole answer */
    uint64_t start_ns;          /* when it should have been sent */
    uint64_t first_ns;          /* first text, 0: none came */
    uint64_t last_ns;           /* last text */
    uint64_t end_ns;
    int64_t prompt_tokens; /* -1: the server never said */
    int64_t cached_tokens;
    int64_t answer_tokens;
    int64_t events; /* that carried text */
    uint64_t hash;  /* of the text, however it was cut into events */
};

struct client;

struct client_hooks {
    void (*text)(struct client *c, uint64_t before_ns, uint64_t now_ns); /* between two texts */
    void (*done)(struct client *c);
};

struct client {
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    llhttp_t parser;
    const struct client_hooks *hooks;
    void *arg;
    enum client_state state;
    size_t head_bytes;
    bool head_complete;
    bool message_complete;
    bool keeps_alive;
    bool writing;
    bool ended; /* [DONE] was there */
    struct buf request;
    struct buf line;  /* what has come of a line */
    struct buf event; /* data of the event so far */
    uint64_t heard_ns;
    struct outcome out;
    int64_t index; /* of the request, the owner's */
    int32_t kind;  /* likewise */
};

#define FNV_START 0xcbf29ce484222325u

static uint64_t fnv(uint64_t h, const char *data, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)data[i]) * 0x100000001b3u;
    return h;
}

/* The first fault is the cause; what follows are its consequences. */
static void client_fault(struct client *c, const char *name)
{
    if (!c->out.fault[0])
        (void)snprintf(c->out.fault, sizeof(c->out.fault), "%s", name);
}

/* ---- events ---- */

static void take_text(struct client *c, const char *text, size_t n)
{
    uint64_t now = c->heard_ns;
    if (n == 0)
        return;
    c->out.hash = fnv(c->out.hash, text, n);
    if (c->out.events++ == 0)
        c->out.first_ns = now;
    else
        c->hooks->text(c, c->out.last_ns, now);
    c->out.last_ns = now;
}

/* A count of tokens that can be summed over any number of requests. */
static bool read_count(const struct cJSON *v, int64_t *out)
{
    return json_integer(v, out) && *out >= 0 && *out <= INT32_MAX;
}

static void take_usage(struct client *c, const struct cJSON *usage)
{
    const struct cJSON *cached =
        json_member(json_member(usage, "prompt_tokens_details"), "cached_tokens");
    if (!read_count(json_member(usage, "prompt_tokens"), &c->out.prompt_tokens) ||
        !read_count(json_member(usage, "completion_tokens"), &c->out.answer_tokens) ||
        (json_kind(cached) == JSON_NUMBER && !read_count(cached, &c->out.cached_tokens)))
        client_fault(c, "bad usage");
}

static void take_event(struct client *c, const char *data, size_t bytes)
{
    struct cJSON *top;
    struct json_error err;
    size_t n = 0;
    if (bytes == 6 && memcmp(data, "[DONE]", 6) == 0) {
        c->ended = true;
        return;
    }
    if (c->ended || c->out.events == BREAKS_MAX || json_parse(&top, data, bytes, &err)) {
        client_fault(c, "bad event");
        return;
    }
    const struct cJSON *choice = json_first(json_member(top, "choices"));
    const char *text = json_string(json_member(json_member(choice, "delta"), "content"), &n);
    if (json_kind(json_member(top, "error")) == JSON_OBJECT)
        client_fault(c, "error event");
    if (text)
        take_text(c, text, n);
    if (json_kind(json_member(top, "usage")) == JSON_OBJECT)
        take_usage(c, json_member(top, "usage"));
    json_free(top);
}

static void take_line(struct client *c)
{
    const char *s = c->line.data;
    size_t n = c->line.n;
    if (n > 0 && s[n - 1] == '\r')
        n--;
    if (n == 0) {
        if (c->event.n > 0)
            take_event(c, c->event.data, c->event.n);
        buf_clear(&c->event);
    } else if (n >= 5 && memcmp(s, "data:", 5) == 0) {
        size_t skip = n > 5 && s[5] == ' ' ? 6 : 5;
        if (c->event.n > 0)
            buf_add(&c->event, "\n", 1);
        buf_add(&c->event, s + skip, n - skip);
    }
    buf_clear(&c->line);
}

static int on_body(llhttp_t *parser, const char *data, size_t n)
{
    struct client *c = parser->data;
    if (parser->status_code != 200)
        return 0;
    while (n > 0) {
        const char *stop = memchr(data, '\n', n);
        size_t part = stop ? (size_t)(stop - data) : n;
        buf_add(&c->line, data, part);
        if (c->line.n + c->event.n > EVENT_BYTES_MAX || c->line.failed || c->event.failed)
            return -1;
        if (stop) {
            take_line(c);
            part++;
        }
        data += part;
        n -= part;
    }
    return 0;
}

static int on_begin(llhttp_t *parser)
{
    struct client *c = parser->data;
    return c->message_complete ? -1 : 0; /* two answers to one request */
}

static int on_head(llhttp_t *parser)
{
    struct client *c = parser->data;
    c->head_complete = true;
    return 0;
}

static int on_complete(llhttp_t *parser)
{
    struct client *c = parser->data;
    c->message_complete = true;
    /* Afterwards llhttp has forgotten what the head said. */
    c->keeps_alive = llhttp_should_keep_alive(parser);
    return 0;
}

/* ---- the end of a request ---- */

static void client_judge(struct client *c)
{
    char name[FAULT_NAME_MAX];
    if (c->out.fault[0])
        return;
    if (c->parser.status_code != 200) {
        (void)snprintf(name, sizeof(name), "http %d", c->parser.status_code);
        client_fault(c, name);
    } else if (!c->ended || c->out.prompt_tokens < 0) {
        client_fault(c, c->out.events ? "cut off" : "no events");
    } else if (c->out.events == 0) {
        client_fault(c, "no text");
    }
}

static void client_done(struct client *c)
{
    c->out.end_ns = now_ns();
    c->hooks->done(c);
}

static void on_closed(uv_handle_t *handle)
{
    struct client *c = handle->data;
    bool was_busy = c->state == CLIENT_CLOSING && c->out.start_ns > 0;
    c->state = CLIENT_CLOSED;
    if (was_busy)
        client_done(c);
}

/* A fault of NULL closes a connection that has nothing to answer for any more. */
static void client_close(struct client *c, const char *fault)
{
    if (c->state == CLIENT_CLOSED || c->state == CLIENT_CLOSING)
        return;
    if (fault)
        client_fault(c, fault);
    else if (c->state == CLIENT_IDLE)
        c->out.start_ns = 0;
    c->state = CLIENT_CLOSING;
    uv_close((uv_handle_t *)&c->tcp, on_closed);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    static char room[READ_BYTES]; /* libuv hands it back before it asks again */
    (void)handle;
    (void)suggested;
    *out = uv_buf_init(room, sizeof(room));
}

static void on_message(struct client *c)
{
    client_judge(c);
    /* An answer that overtook its request leaves a connection nobody can use. */
    if (!c->keeps_alive || c->writing) {
        client_close(c, NULL);
        return;
    }
    c->state = CLIENT_IDLE;
    client_done(c);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *room)
{
    struct client *c = stream->data;
    if (n == 0)
        return;
    if (c->state != CLIENT_BUSY) {
        client_close(c, NULL); /* the server has closed it, or speaks unasked */
        return;
    }
    if (n < 0) {
        bool whole = n == UV_EOF && llhttp_finish(&c->parser) == HPE_OK && c->message_complete;
        if (whole)
            client_judge(c);
        client_close(c, whole ? NULL : "connection lost");
        return;
    }
    c->heard_ns = now_ns();
    c->head_bytes += c->head_complete ? 0 : (size_t)n;
    if (llhttp_execute(&c->parser, room->base, (size_t)n) != HPE_OK ||
        (!c->head_complete && c->head_bytes > HEAD_BYTES_MAX))
        client_close(c, "bad http");
    else if (c->message_complete)
        on_message(c);
}

static void on_written(uv_write_t *write, int status)
{
    struct client *c = write->data;
    c->writing = false;
    if (status < 0 && status != UV_ECANCELED)
        client_close(c, "connection lost");
}

/* ---- the start of a request ---- */

static void client_write(struct client *c)
{
    static llhttp_settings_t settings;
    llhttp_settings_init(&settings);
    settings.on_message_begin = on_begin;
    settings.on_headers_complete = on_head;
    settings.on_body = on_body;
    settings.on_message_complete = on_complete;
    llhttp_init(&c->parser, HTTP_RESPONSE, &settings);
    c->parser.data = c;
    c->write.data = c;
    c->state = CLIENT_BUSY;
    uv_buf_t b = uv_buf_init(c->request.data, (unsigned)c->request.n);
    c->writing = uv_write(&c->write, (uv_stream_t *)&c->tcp, &b, 1, on_written) == 0;
    if (!c->writing)
        client_close(c, "connection lost");
}

static void on_connected(uv_connect_t *connect, int status)
{
    struct client *c = connect->data;
    if (c->state != CLIENT_CONNECTING)
        return;
    if (status < 0 || uv_tcp_nodelay(&c->tcp, 1) < 0 ||
        uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read) < 0)
        client_close(c, "no connection");
    else
        client_write(c);
}

/* c->request holds the bytes. The client is CLOSED or IDLE; done comes later, never from
 * here. start_ns is when the request was meant to go out. */
static void client_start(struct client *c, uv_loop_t *loop, const struct sockaddr *address,
                         uint64_t start_ns)
{
    memset(&c->out, 0, sizeof(c->out));
    c->out.prompt_tokens = -1;
    c->out.hash = FNV_START;
    c->out.start_ns = start_ns;
    c->heard_ns = now_ns();
    c->head_bytes = 0;
    c->head_complete = false;
    c->message_complete = false;
    c->ended = false;
    buf_clear(&c->line);
    buf_clear(&c->event);
    if (c->state == CLIENT_IDLE) {
        client_write(c);
        return;
    }
    c->state = CLIENT_CONNECTING;
    c->connect.data = c;
    if (uv_tcp_init(loop, &c->tcp) < 0) {
        (void)fprintf(stderr, "bench_serve: no socket\n");
        exit(1);
    }
    c->tcp.data = c;
    if (uv_tcp_connect(&c->connect, &c->tcp, address, on_connected) < 0)
        client_close(c, "no connection");
}

static void client_free(struct client *c)
{
    buf_free(&c->request);
    buf_free(&c->line);
    buf_free(&c->event);
}

#endif

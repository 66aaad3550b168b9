/* Bytes -> llhttp -> lines -> events -> the record. A read may end anywhere; `line` and `event`
 * hold what has not yet come to its end. */
#include "bench/serve_client.h"

#include "bench/serve_wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    EVENT_BYTES_MAX = 1 << 20,
    HEAD_BYTES_MAX = 1 << 16,
    TEXT_BYTES_MAX = 64 << 20,
    READ_BYTES = 1 << 16,
    GAPS_MAX = 1 << 24,
    BYTES_PER_TOKEN = 4,
    SLOW_TICKS = 10,          /* a second of a slow reader */
    SLOW_WINDOW_BYTES = 4096, /* what the kernel may read ahead for it; it takes twice as much */
};

#define SECOND_NS 1000000000u
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

static void note_gap(struct client *c, uint64_t ns)
{
    struct record *r = &c->out;
    if (r->n_gaps == r->gap_room) {
        size_t room = r->gap_room ? 2 * r->gap_room : 64;
        uint32_t *more = room <= GAPS_MAX ? realloc(r->gap_us, room * sizeof(*more)) : NULL;
        if (!more) {
            client_fault(c, "too many events");
            return;
        }
        r->gap_us = more;
        r->gap_room = room;
    }
    uint64_t us = ns / 1000;
    r->gap_us[r->n_gaps++] = us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
}

static void take_text(struct client *c, const char *text, size_t n)
{
    struct record *r = &c->out;
    r->hash = fnv(r->hash, text, n);
    r->bytes += (int64_t)n;
    if (c->keep_text && c->text.n + n < TEXT_BYTES_MAX)
        buf_add(&c->text, text, n);
    if (r->events++ == 0)
        r->first_ns = c->heard_ns;
    else
        note_gap(c, c->heard_ns - r->last_ns);
    if (c->hooks->text)
        c->hooks->text(c);
}

static void take_event(struct client *c, const char *data, size_t bytes)
{
    struct serve_event e;
    struct cJSON *tree = NULL;
    struct record *r = &c->out;
    if (bytes == 6 && memcmp(data, "[DONE]", 6) == 0) {
        c->ended = true;
        return;
    }
    if (c->ended || !serve_event_read(&e, &tree, c->backend, data, bytes)) {
        client_fault(c, "bad event");
        return;
    }
    if (e.error)
        client_fault(c, "error event");
    if (e.text)
        take_text(c, e.text, e.bytes);
    if (e.choice) {
        r->first_ns = r->first_ns ? r->first_ns : c->heard_ns;
        r->last_ns = c->heard_ns;
    }
    c->finished |= e.finish;
    if (e.bad_usage)
        client_fault(c, "bad usage");
    if (e.usage && !e.bad_usage) {
        r->prompt_tokens = e.prompt_tokens;
        r->cached_tokens = e.cached_tokens;
        r->answer_tokens = e.answer_tokens;
        r->no_usage = false;
    }
    json_free(tree);
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

/* Where events come merged, the length of their text says better how many tokens it was. */
static bool enough(const struct client *c)
{
    int64_t tokens = c->out.bytes / BYTES_PER_TOKEN;
    return c->cancel_after > 0 &&
           (tokens > c->out.events ? tokens : c->out.events) >= c->cancel_after;
}

static int on_body(llhttp_t *parser, const char *data, size_t n)
{
    struct client *c = parser->data;
    if (parser->status_code != 200) {
        /* Its beginning, for whoever wonders why; no line of an event stream can be meant. */
        size_t room = REFUSAL_BYTES_MAX - c->line.n;
        buf_add(&c->line, data, n < room ? n : room);
        return 0;
    }
    while (n > 0 && !enough(c)) {
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
    struct record *r = &c->out;
    if (r->fault[0])
        return;
    r->no_done = !c->ended;
    if (c->parser.status_code != 200) {
        (void)snprintf(name, sizeof(name), "http %d", c->parser.status_code);
        client_fault(c, name);
    } else if (r->first_ns == 0) {
        client_fault(c, "no events");
    } else if (!c->ended && !c->finished) {
        client_fault(c, "cut off");
    }
    if (r->no_usage)
        r->answer_tokens = r->events;
}

static void client_done(struct client *c)
{
    c->out.end_ns = now_ns();
    if (c->keep_text && !c->text.failed && c->text.n > 0) {
        c->out.text = c->text.data;
        c->out.text_bytes = c->text.n;
        c->text = (struct buf){0};
    }
    c->hooks->done(c);
}

static void connect_anew(struct client *c);

static void on_closed(uv_handle_t *handle)
{
    struct client *c = handle->data;
    bool was_busy = c->out.due_ns > 0;
    c->state = CLIENT_CLOSED;
    c->used_before = false;
    if (c->again) {
        c->again = false;
        connect_anew(c);
    } else if (was_busy) {
        client_done(c);
    }
}

void client_close(struct client *c, const char *fault)
{
    if (c->state == CLIENT_CLOSED || c->state == CLIENT_CLOSING)
        return;
    if (fault)
        client_fault(c, fault);
    else if (c->state == CLIENT_IDLE)
        c->out.due_ns = 0;
    c->state = CLIENT_CLOSING;
    uv_close((uv_handle_t *)&c->tcp, on_closed);
}

/* A server may close an idle connection in the moment in which it is used again. What it has not
 * answered with a single byte may be asked once more. */
static void lose(struct client *c)
{
    bool stale = c->used_before && c->head_bytes == 0 && c->state == CLIENT_BUSY;
    c->again = stale;
    client_close(c, stale ? NULL : "connection lost");
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    static char room[READ_BYTES]; /* libuv hands it back before it asks again */
    const struct client *c = handle->data;
    size_t bytes = sizeof(room);
    (void)suggested;
    if (c->slow_bytes > 0 && (size_t)c->slow_bytes / SLOW_TICKS < bytes)
        bytes = (size_t)c->slow_bytes / SLOW_TICKS;
    *out = uv_buf_init(room, (unsigned)bytes);
}

static void on_message(struct client *c)
{
    client_judge(c);
    /* An answer that overtook its request leaves a connection nobody can use; so does one whose
     * window is small. */
    if (!c->keeps_alive || c->writing || c->slow_bytes > 0) {
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
        if (!whole) {
            lose(c);
            return;
        }
        client_judge(c);
        client_close(c, NULL);
        return;
    }
    c->heard_ns = now_ns();
    c->head_bytes += c->head_complete ? 0 : (size_t)n;
    if (llhttp_execute(&c->parser, room->base, (size_t)n) != HPE_OK ||
        (!c->head_complete && c->head_bytes > HEAD_BYTES_MAX)) {
        client_close(c, "bad http");
    } else if (enough(c)) {
        c->out.cancelled = true;
        client_close(c, NULL);
    } else if (c->message_complete) {
        on_message(c);
    } else if (c->slow_bytes > 0) {
        (void)uv_read_stop(stream);
        c->resume_ns = c->heard_ns + SECOND_NS / SLOW_TICKS;
    }
}

void client_resume(struct client *c, uint64_t now)
{
    if (c->state != CLIENT_BUSY || c->resume_ns == 0 || now < c->resume_ns)
        return;
    c->resume_ns = 0;
    if (uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read) < 0)
        client_close(c, "connection lost");
}

static void on_written(uv_write_t *write, int status)
{
    struct client *c = write->data;
    c->writing = false;
    if (status < 0 && status != UV_ECANCELED && c->state == CLIENT_BUSY)
        lose(c);
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

static void connect_now(struct client *c)
{
    c->state = CLIENT_CONNECTING;
    c->connect.data = c;
    c->tcp.data = c;
    if (uv_tcp_connect(&c->connect, &c->tcp, c->address, on_connected) < 0)
        client_close(c, "no connection");
}

static bool open_socket(struct client *c)
{
    return uv_tcp_init_ex(c->loop, &c->tcp, c->address->sa_family) == 0;
}

static void connect_anew(struct client *c)
{
    if (open_socket(c)) {
        connect_now(c);
        return;
    }
    client_fault(c, "no socket");
    client_done(c);
}

enum status client_start(struct client *c)
{
    int small = SLOW_WINDOW_BYTES;
    struct record *r = &c->out;
    if (c->state != CLIENT_IDLE && !open_socket(c))
        return E_IO;
    r->no_usage = true;
    r->hash = FNV_START;
    c->heard_ns = now_ns();
    c->head_bytes = 0;
    c->head_complete = false;
    c->message_complete = false;
    c->keeps_alive = false;
    c->ended = false;
    c->finished = false;
    c->again = false;
    c->resume_ns = 0;
    buf_clear(&c->line);
    buf_clear(&c->event);
    buf_clear(&c->text);
    c->used_before = c->state == CLIENT_IDLE;
    if (c->slow_bytes > 0)
        (void)uv_recv_buffer_size((uv_handle_t *)&c->tcp, &small);
    if (c->state == CLIENT_IDLE)
        client_write(c);
    else
        connect_now(c);
    return OK;
}

void client_free(struct client *c)
{
    buf_free(&c->request);
    buf_free(&c->line);
    buf_free(&c->event);
    buf_free(&c->text);
}

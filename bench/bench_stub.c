/* A server without a model, to load the load generator: every completion is the same words, one
 * event each --pace-ms, however many streams there are. What bench_serve shows against it beyond
 * that pace is bench_serve itself.
 *
 *   bench_stub [--port N] [--pace-ms N]
 *
 * One thread. Time is a wheel of pace-ms slots, one a millisecond; a stream sits in the slot of the
 * millisecond in which it was asked for and is served when the hand passes. */
#include "bench/usage.h"
#include "kernels/list.h"
#include "server/buf.h"

#include <llhttp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <uv.h>

enum { PACE_MS_MAX = 10000, READ_BYTES = 1 << 16, BACKLOG = 8192, TOKENS_STANDARD = 16 };

/* Of a common server's size. */
#define EVENT_HEAD                                                                                 \
    "data: {\"id\":\"cmpl-0123456789abcdef0123456789abcdef\",\"object\":\"text_completion\","      \
    "\"created\":1767225600,\"model\":\"stub\",\"choices\":[{\"index\":0,\"text\":"
#define EVENT                                                                                      \
    EVENT_HEAD "\" word\",\"logprobs\":null,\"finish_reason\":null,\"stop_reason\":null}]}\n\n"
#define LAST                                                                                       \
    EVENT_HEAD "\"\",\"logprobs\":null,\"finish_reason\":\"length\",\"stop_reason\":null}]}\n\n"

static const char answer_head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                                  "Transfer-Encoding: chunked\r\n\r\n";
static char event[sizeof(EVENT) + 16];
static size_t event_bytes;

struct stub {
    uv_loop_t loop;
    uv_tcp_t door;
    uv_timer_t hand;
    struct link slot[PACE_MS_MAX]; /* [pace_ms] of struct peer */
    uint64_t pace_ms;
    uint64_t at_ms;
};

struct peer {
    uv_tcp_t tcp;
    llhttp_t parser;
    struct link place; /* in a slot while it is being answered */
    struct stub *stub;
    struct buf path;
    struct buf body;
    bool answers;
    bool gone;
    int64_t prompt;
    int64_t wanted;
    int64_t left;
    size_t part; /* bytes of the current event that are sent */
};

/* ---- out ---- */

struct piece {
    uv_write_t write;
    size_t n;
    char data[];
};

static void on_closed(uv_handle_t *handle)
{
    struct peer *p = handle->data;
    buf_free(&p->path);
    buf_free(&p->body);
    free(p);
}

static void hang_up(struct peer *p)
{
    if (p->gone)
        return;
    p->gone = true;
    if (p->answers)
        link_remove(&p->place);
    uv_close((uv_handle_t *)&p->tcp, on_closed);
}

static void on_written(uv_write_t *write, int status)
{
    (void)status; /* reading tells when the other side is gone */
    free(write->data);
}

static void send_text(struct peer *p, const char *text, size_t n)
{
    struct piece *piece = malloc(sizeof(*piece) + n);
    if (!piece) {
        hang_up(p);
        return;
    }
    memcpy(piece->data, text, n);
    piece->write.data = piece;
    uv_buf_t b = uv_buf_init(piece->data, (unsigned)n);
    if (uv_write(&piece->write, (uv_stream_t *)&p->tcp, &b, 1, on_written) < 0) {
        free(piece);
        hang_up(p);
    }
}

static void send_plain(struct peer *p, const char *status, const char *text)
{
    struct buf b = {0};
    buf_printf(&b, "HTTP/1.1 %s\r\nContent-Length: %zu\r\n\r\n%s", status, strlen(text), text);
    send_text(p, b.data, b.n);
    buf_free(&b);
}

static void send_end(struct peer *p)
{
    struct buf b = {0};
    struct buf usage = {0};
    link_remove(&p->place);
    p->answers = false;
    buf_printf(&usage,
               LAST "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":%lld,"
                    "\"completion_tokens\":%lld}}\n\ndata: [DONE]\n\n",
               (long long)p->prompt, (long long)p->wanted);
    buf_printf(&b, "%zx\r\n%s\r\n0\r\n\r\n", usage.n, usage.data);
    send_text(p, b.data, b.n);
    buf_free(&usage);
    buf_free(&b);
}

/* Who does not take it now gets the rest when the hand comes round again. */
static void send_event(struct peer *p)
{
    uv_buf_t b = uv_buf_init(event + p->part, (unsigned)(event_bytes - p->part));
    int n = uv_try_write((uv_stream_t *)&p->tcp, &b, 1);
    if (n < 0 && n != UV_EAGAIN) {
        hang_up(p);
        return;
    }
    p->part += n > 0 ? (size_t)n : 0;
    if (p->part < event_bytes)
        return;
    p->part = 0;
    if (--p->left == 0)
        send_end(p);
}

static void on_hand(uv_timer_t *timer)
{
    struct stub *s = timer->data;
    uint64_t now = uv_now(&s->loop);
    for (; s->at_ms < now; s->at_ms++) {
        struct link *slot = &s->slot[s->at_ms % s->pace_ms];
        for (struct link *at = slot->next, *next = NULL; at != slot; at = next) {
            next = at->next;
            send_event(CONTAINER_OF(at, struct peer, place));
        }
    }
}

/* ---- in ---- */

static int64_t number_behind(const struct buf *body, const char *mark, int64_t standard)
{
    const char *found = memmem(body->data, body->n, mark, strlen(mark));
    return found ? strtoll(found + strlen(mark), NULL, 10) : standard;
}

/* A word is a token. */
static int64_t count_words(const struct buf *body)
{
    int64_t n = 1;
    for (size_t i = 0; i < body->n; i++)
        n += body->data[i] == ' ';
    return n;
}

static int on_message(llhttp_t *parser)
{
    struct peer *p = parser->data;
    struct stub *s = p->stub;
    buf_add(&p->path, "", 1);
    buf_add(&p->body, "", 1);
    if (p->answers || p->path.failed || p->body.failed)
        return -1;
    if (parser->method == HTTP_GET && strcmp(p->path.data, "/v1/models") == 0) {
        send_plain(p, "200 OK", "{\"data\":[{\"id\":\"stub\"}]}");
    } else if (parser->method != HTTP_POST || strcmp(p->path.data, "/v1/completions") != 0) {
        send_plain(p, "404 Not Found", "{}");
    } else {
        p->prompt = count_words(&p->body);
        p->wanted = number_behind(&p->body, "\"max_tokens\":", TOKENS_STANDARD);
        p->left = p->wanted > 0 ? p->wanted : 1;
        p->part = 0;
        p->answers = true;
        link_before(&s->slot[uv_now(&s->loop) % s->pace_ms], &p->place);
        send_text(p, answer_head, sizeof(answer_head) - 1);
    }
    buf_clear(&p->path);
    buf_clear(&p->body);
    return 0;
}

static int on_path(llhttp_t *parser, const char *data, size_t n)
{
    struct peer *p = parser->data;
    buf_add(&p->path, data, n);
    return 0;
}

static int on_body(llhttp_t *parser, const char *data, size_t n)
{
    struct peer *p = parser->data;
    buf_add(&p->body, data, n);
    return 0;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    static char room[READ_BYTES]; /* libuv hands it back before it asks again */
    (void)handle;
    (void)suggested;
    *out = uv_buf_init(room, sizeof(room));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *room)
{
    struct peer *p = stream->data;
    if (n < 0 || (n > 0 && llhttp_execute(&p->parser, room->base, (size_t)n) != HPE_OK))
        hang_up(p);
}

static void on_knock(uv_stream_t *door, int status)
{
    static llhttp_settings_t settings;
    struct stub *s = door->data;
    struct peer *p = status < 0 ? NULL : calloc(1, sizeof(*p));
    if (!p)
        return;
    p->stub = s;
    llhttp_settings_init(&settings);
    settings.on_url = on_path;
    settings.on_body = on_body;
    settings.on_message_complete = on_message;
    llhttp_init(&p->parser, HTTP_REQUEST, &settings);
    p->parser.data = p;
    (void)uv_tcp_init(&s->loop, &p->tcp);
    p->tcp.data = p;
    if (uv_accept(door, (uv_stream_t *)&p->tcp) < 0 || uv_tcp_nodelay(&p->tcp, 1) < 0 ||
        uv_read_start((uv_stream_t *)&p->tcp, on_alloc, on_read) < 0)
        hang_up(p);
}

/* ---- start ---- */

static int64_t option(int argc, char **argv, const char *name, int64_t standard, int64_t most)
{
    for (int i = 1; i + 1 < argc; i += 2)
        if (strcmp(argv[i], name) == 0) {
            int64_t x = strtoll(argv[i + 1], NULL, 10);
            return x < 0 || x > most ? standard : x;
        }
    return standard;
}

static bool open_door(struct stub *s, int port)
{
    struct sockaddr_in at;
    int bytes = sizeof(at);
    if (uv_loop_init(&s->loop) || uv_tcp_init(&s->loop, &s->door) ||
        uv_timer_init(&s->loop, &s->hand) || uv_ip4_addr("127.0.0.1", port, &at))
        return false;
    s->door.data = s;
    s->hand.data = s;
    if (uv_tcp_bind(&s->door, (const struct sockaddr *)&at, 0) ||
        uv_listen((uv_stream_t *)&s->door, BACKLOG, on_knock) ||
        uv_tcp_getsockname(&s->door, (struct sockaddr *)&at, &bytes))
        return false;
    printf("listening on http://127.0.0.1:%d\n", ntohs(at.sin_port));
    (void)fflush(stdout);
    return true;
}

static const char usage_text[] =
    "bench_stub [--port N] [--pace-ms N]: a server without a model, whose streams get an event "
    "every\n"
    "--pace-ms (100), to see what a load generator itself can hold. Port 0 (the default) is any.\n";

int main(int argc, char **argv)
{
    static struct stub s;
    struct rlimit files;
    usage_if_asked(argc, argv, usage_text);
    (void)signal(SIGPIPE, SIG_IGN);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    s.pace_ms = (uint64_t)option(argc, argv, "--pace-ms", 100, PACE_MS_MAX);
    s.pace_ms += s.pace_ms == 0;
    for (uint64_t i = 0; i < s.pace_ms; i++)
        link_init(&s.slot[i]);
    event_bytes = (size_t)snprintf(event, sizeof(event), "%zx\r\n%s\r\n", sizeof(EVENT) - 1, EVENT);
    if (!open_door(&s, (int)option(argc, argv, "--port", 0, 65535))) {
        (void)fprintf(stderr, "bench_stub: cannot listen\n");
        return 1;
    }
    s.at_ms = uv_now(&s.loop);
    (void)uv_timer_start(&s.hand, on_hand, 1, 1);
    return uv_run(&s.loop, UV_RUN_DEFAULT);
}

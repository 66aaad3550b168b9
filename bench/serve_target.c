/* A blocking socket and llhttp: one connection per request, closed by the server. */
#include "bench/serve_target.h"

#include "bench/serve_wire.h"

#include <llhttp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

enum { FETCH_BYTES_MAX = 64 << 20, FETCH_SECONDS = 60, READ_BYTES = 1 << 16 };

/* ---- waiting requests ---- */

struct fetch {
    struct buf *out;
    bool whole;
};

static int on_body(llhttp_t *parser, const char *data, size_t n)
{
    struct fetch *f = parser->data;
    if (f->out->n + n > FETCH_BYTES_MAX)
        return -1;
    buf_add(f->out, data, n);
    return 0;
}

static int on_whole(llhttp_t *parser)
{
    struct fetch *f = parser->data;
    f->whole = true;
    return 0;
}

static int dial(const struct serve_target *t)
{
    const struct timeval patience = {.tv_sec = FETCH_SECONDS};
    const struct sockaddr *to = (const struct sockaddr *)&t->address;
    socklen_t bytes =
        t->address.ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    int fd = socket(t->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    if (connect(fd, to, bytes) == 0)
        return fd;
    (void)close(fd);
    return -1;
}

static bool send_all(int fd, const struct buf *b)
{
    for (size_t at = 0; at < b->n;) {
        ssize_t n = send(fd, b->data + at, b->n - at, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        at += (size_t)n;
    }
    return !b->failed;
}

static bool receive_all(int fd, llhttp_t *parser, const struct fetch *f)
{
    char room[READ_BYTES / 8];
    while (!f->whole) {
        ssize_t n = recv(fd, room, sizeof(room), 0);
        if (n < 0)
            return false;
        if (n == 0)
            return llhttp_finish(parser) == HPE_OK && f->whole;
        if (llhttp_execute(parser, room, (size_t)n) != HPE_OK)
            return f->whole;
    }
    return true;
}

static void write_head(struct buf *out, const struct serve_target *t, const char *path,
                       const struct buf *body)
{
    buf_printf(out, "%s %s%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", body ? "POST" : "GET",
               t->base, path, t->host);
    buf_add(out, t->headers.data, t->headers.n);
    if (body)
        buf_printf(out, "Content-Type: application/json\r\nContent-Length: %zu\r\n", body->n);
    buf_text(out, "\r\n");
    if (body)
        buf_add(out, body->data, body->n);
}

enum status target_fetch(struct buf *out, int *status, const struct serve_target *t,
                         const char *path, const struct buf *body)
{
    struct fetch f = {.out = out};
    llhttp_settings_t settings;
    llhttp_t parser;
    struct buf request = {0};
    buf_clear(out);
    *status = 0;
    int fd = dial(t);
    if (fd < 0)
        return E_IO;
    llhttp_settings_init(&settings);
    settings.on_body = on_body;
    settings.on_message_complete = on_whole;
    llhttp_init(&parser, HTTP_RESPONSE, &settings);
    parser.data = &f;
    write_head(&request, t, path, body);
    bool good = send_all(fd, &request) && receive_all(fd, &parser, &f) && !out->failed;
    *status = parser.status_code;
    (void)close(fd);
    buf_free(&request);
    return good ? OK : E_IO;
}

/* ---- where it is ---- */

static enum status say(char *err, enum status s, const char *what, const char *detail)
{
    (void)snprintf(err, OPTION_ERROR_BYTES, "%.100s: %.140s", what, detail);
    return s;
}

static bool fits(int written, size_t room)
{
    return written >= 0 && (size_t)written < room;
}

/* "http://host:port/path" apart, or host and port together. */
static enum status read_base(struct serve_target *t, const struct serve_options *o, char *err)
{
    static const char scheme[] = "http://";
    const char *url = o->base_url;
    if (!url) {
        const char *open = strchr(o->host, ':') ? "[" : "";
        int n = snprintf(t->host, sizeof(t->host), "%s%s%s:%lld", open, o->host, *open ? "]" : "",
                         (long long)o->port);
        return fits(n, sizeof(t->host)) ? OK : say(err, E_INVALID, "--host", "too long");
    }
    if (strncmp(url, scheme, sizeof(scheme) - 1) != 0)
        return say(err, E_INVALID, "--base-url is not of the form http://HOST:PORT", url);
    url += sizeof(scheme) - 1;
    size_t n = strcspn(url, "/");
    size_t path = strlen(url + n);
    while (path > 0 && url[n + path - 1] == '/')
        path--;
    if (n == 0 || n >= sizeof(t->host) || path >= sizeof(t->base) || strpbrk(url, " \r\n"))
        return say(err, E_INVALID, "--base-url is not of the form http://HOST:PORT", o->base_url);
    memcpy(t->host, url, n);
    memcpy(t->base, url + n, path);
    return OK;
}

static enum status look_up(struct serve_target *t, char *err)
{
    struct addrinfo hint = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    char name[TARGET_HOST_BYTES];
    const char *port = "80";
    memcpy(name, t->host, sizeof(name));
    char *colon = strrchr(name, ':');
    if (colon && !strchr(colon, ']')) {
        *colon = '\0';
        port = colon + 1;
    }
    char *bare = name[0] == '[' ? name + 1 : name;
    bare[strcspn(bare, "]")] = '\0';
    int bad = getaddrinfo(bare, port, &hint, &found);
    if (bad || !found)
        return say(err, E_IO, t->host, gai_strerror(bad));
    /* Where a name means both, servers more often listen on the older. */
    const struct addrinfo *best = found;
    for (const struct addrinfo *i = found; i && best->ai_family != AF_INET; i = i->ai_next)
        best = i->ai_family == AF_INET ? i : best;
    memcpy(&t->address, best->ai_addr, best->ai_addrlen);
    freeaddrinfo(found);
    return OK;
}

static void write_headers(struct serve_target *t, const struct serve_options *o)
{
    const char *key = getenv("OPENAI_API_KEY");
    if (key && *key && !strpbrk(key, "\r\n"))
        buf_printf(&t->headers, "Authorization: Bearer %s\r\n", key);
    for (int32_t i = 0; i < o->headers.n; i++) {
        const char *pair = o->headers.item[i];
        int n = (int)strcspn(pair, "=");
        buf_printf(&t->headers, "%.*s: %s\r\n", n, pair, pair + n + 1);
    }
}

static enum status first_model(struct serve_target *t, char *err)
{
    struct buf out = {0};
    struct cJSON *top = NULL;
    struct json_error at;
    int http = 0;
    const char *id = NULL;
    size_t bytes = 0;
    enum status s = target_fetch(&out, &http, t, "/v1/models", NULL);
    if (s == OK && http == 200 && json_parse(&top, out.data, out.n, &at) == OK)
        id = json_string(json_member(json_first(json_member(top, "data")), "id"), &bytes);
    if (s)
        s = say(err, s, "no server answers at", t->host);
    else if (!id || !fits(snprintf(t->model, sizeof(t->model), "%s", id), sizeof(t->model)))
        s = say(err, E_IO, "/v1/models names no model; --model does", t->host);
    memcpy(t->model_id, t->model, sizeof(t->model_id));
    json_free(top);
    buf_free(&out);
    return s;
}

static enum status read_endpoint(struct serve_target *t, const struct serve_options *o, char *err)
{
    static const char mark[] = "{model}";
    const char *path = o->endpoint ? o->endpoint : serve_wires[o->backend].endpoint;
    const char *hole = strstr(path, mark);
    int before = hole ? (int)(hole - path) : (int)strlen(path);
    const char *slash = path[0] == '/' ? "" : "/";
    int n = snprintf(t->endpoint, sizeof(t->endpoint), "%s%.*s%s%s", slash, before, path,
                     hole ? t->model : "", hole ? hole + sizeof(mark) - 1 : "");
    if (!fits(n, sizeof(t->endpoint)) || strpbrk(t->endpoint, " \r\n"))
        return say(err, E_INVALID, "--endpoint", "too long, or not a path");
    return OK;
}

static enum status name_model(struct serve_target *t, const struct serve_options *o, char *err)
{
    const char *sent = o->served_model_name ? o->served_model_name : o->model;
    if (!sent)
        return first_model(t, err);
    int n = snprintf(t->model, sizeof(t->model), "%s", sent);
    int m = snprintf(t->model_id, sizeof(t->model_id), "%s", o->model ? o->model : sent);
    if (!fits(n, sizeof(t->model)) || !fits(m, sizeof(t->model_id)))
        return say(err, E_INVALID, "--model", "too long");
    return OK;
}

enum status target_open(struct serve_target *out, const struct serve_options *o,
                        char err[OPTION_ERROR_BYTES])
{
    memset(out, 0, sizeof(*out));
    enum status s = read_base(out, o, err);
    if (s == OK)
        s = look_up(out, err);
    if (s == OK)
        write_headers(out, o);
    if (s == OK)
        s = name_model(out, o, err);
    if (s == OK)
        s = read_endpoint(out, o, err);
    if (s)
        target_close(out);
    return s;
}

void target_close(struct serve_target *t)
{
    buf_free(&t->headers);
}

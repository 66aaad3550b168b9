/* Reads one request: gather the head, gate it, let llhttp parse it, then gather the body.
 *
 * llhttp sees a head only when it is whole and has passed the gate, and nothing after it: the body
 * is framed here, by Content-Length or by the chunk reader, because the versions of llhttp that
 * distributions carry are lenient about chunk lines. So the parser lives on the stack for one call
 * and no parser error is ever resumed. The gate and llhttp must agree on the framing; if they do
 * not, the request is refused.
 *
 * Invariant: head does not move after the head is complete, so the view and the fields point into
 * it; memory grows as bytes arrive and never by what a length merely promises. */
#include "server/request.h"

#include "server/chunked.h"

#include <assert.h>
#include <llhttp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* A run of bytes within the head. */
struct span {
    char *data;
    size_t n;
};

struct http_field {
    struct span name;
    struct span value;
};

struct http_head {
    int32_t n_fields; /* <= n_room */
    int32_t n_room;
    struct http_field field[]; /* [n_room], as many as the gate has counted */
};

struct reader {
    struct request request;
    const struct conn_limits *limits;
    struct buf head;
    size_t line_at;    /* where the current line of the head starts */
    bool skipped_line; /* one empty line before the request line is allowed */
    size_t body_left;  /* of Content-Length */
    struct chunked chunked;
    struct buf body;
    struct http_head *fields;
};

/* What llhttp finds. */
struct parse {
    struct reader *reader;
    struct span target;
    struct http_field field; /* the current one */
    bool complete;
};

static struct reader *reader_of(struct request *r)
{
    return CONTAINER_OF(r, struct reader, request);
}

static void refuse(struct reader *rd, int code, const char *text)
{
    rd->request.state = REQUEST_BAD;
    rd->request.code = code;
    rd->request.text = text;
}

enum status request_open(struct request **out, const struct conn_limits *limits)
{
    assert(limits->head_fields_max > 0);
    struct reader *rd = calloc(1, sizeof(*rd));
    if (!rd)
        return E_NOMEM;
    rd->limits = limits;
    *out = &rd->request;
    return OK;
}

void request_close(struct request *r)
{
    if (!r)
        return;
    struct reader *rd = reader_of(r);
    buf_free(&rd->head);
    buf_free(&rd->body);
    free(rd->fields);
    free(rd);
}

bool request_keeps_alive(const struct request *r)
{
    if (r->facts.says_close)
        return false;
    return r->facts.minor == 1 || r->facts.says_keep_alive;
}

const char *http_header(const struct http_request *r, const char *name)
{
    for (int32_t i = 0; i < r->head->n_fields; i++) {
        const struct http_field *f = &r->head->field[i];
        if (strcasecmp(f->name.data, name) == 0)
            return f->value.n ? f->value.data : "";
    }
    return NULL;
}

static struct parse *parse_of(llhttp_t *parser)
{
    return parser->data;
}

/* A span may come in pieces, but pieces of one buffer, so the next starts where the last ended.
 * The head is ours and not const; only llhttp's signature is. */
static int grow_span(struct span *s, struct parse *p, const char *at, size_t n)
{
    char *head = p->reader->head.data;
    size_t from = (size_t)(at - head);
    if (s->n && s->data + s->n != head + from)
        return HPE_USER;
    if (!s->n)
        s->data = head + from;
    s->n += n;
    return 0;
}

static int on_target(llhttp_t *parser, const char *at, size_t n)
{
    struct parse *p = parse_of(parser);
    return grow_span(&p->target, p, at, n);
}

static int on_name(llhttp_t *parser, const char *at, size_t n)
{
    struct parse *p = parse_of(parser);
    return grow_span(&p->field.name, p, at, n);
}

static int on_value(llhttp_t *parser, const char *at, size_t n)
{
    struct parse *p = parse_of(parser);
    return grow_span(&p->field.value, p, at, n);
}

static int on_field(llhttp_t *parser)
{
    struct parse *p = parse_of(parser);
    struct http_head *fields = p->reader->fields;
    if (fields->n_fields == fields->n_room || !p->field.name.n)
        return HPE_USER;
    fields->field[fields->n_fields++] = p->field;
    p->field = (struct http_field){0};
    return 0;
}

static int on_complete(llhttp_t *parser)
{
    parse_of(parser)->complete = true;
    return HPE_PAUSED;
}

/* Ends a string in place. The byte overwritten is the ':', blank or CR that followed it. */
static void terminate(struct span *s)
{
    while (s->n && (s->data[s->n - 1] == ' ' || s->data[s->n - 1] == '\t'))
        s->n--;
    if (s->n)
        s->data[s->n] = '\0';
}

/* Cuts the head into strings. Only after the parser has read all of it: it may look at the byte
 * after a value again. */
static void cut_head(struct reader *rd, struct span target)
{
    struct http_head *fields = rd->fields;
    for (int32_t i = 0; i < fields->n_fields; i++) {
        terminate(&fields->field[i].name);
        terminate(&fields->field[i].value);
    }
    terminate(&target);
    char *space = memchr(rd->head.data, ' ', rd->head.n);
    *space = '\0';
    char *mark = memchr(target.data, '?', target.n);
    if (mark)
        *mark = '\0';
    struct http_request *view = &rd->request.view;
    view->method = rd->head.data;
    view->path = target.data;
    view->query = mark ? mark + 1 : "";
    view->head = fields;
}

/* The parser and the gate read the same bytes; a difference is a hole in one of them. */
static bool agree(const llhttp_t *parser, const struct gate_facts *f, int32_t n_fields)
{
    bool chunked = (parser->flags & F_CHUNKED) != 0;
    bool has_length = (parser->flags & F_CONTENT_LENGTH) != 0;
    return parser->http_major == 1 && parser->http_minor == f->minor && chunked == f->chunked &&
           has_length == f->has_length && parser->content_length == f->content_length &&
           n_fields == f->n_fields;
}

static void parse_head(struct reader *rd)
{
    llhttp_settings_t settings;
    llhttp_settings_init(&settings);
    settings.on_url = on_target;
    settings.on_header_field = on_name;
    settings.on_header_value = on_value;
    settings.on_header_value_complete = on_field;
    settings.on_headers_complete = on_complete;
    llhttp_t parser;
    llhttp_init(&parser, HTTP_REQUEST, &settings);
    struct parse p = {.reader = rd};
    parser.data = &p;
    enum llhttp_errno err = llhttp_execute(&parser, rd->head.data, rd->head.n);
    if (err == HPE_INVALID_METHOD) {
        refuse(rd, 501, "unknown method");
        return;
    }
    if (err != HPE_PAUSED || !p.complete || !p.target.n || parser.method == HTTP_CONNECT ||
        !agree(&parser, &rd->request.facts, rd->fields->n_fields)) {
        refuse(rd, 400, "bad request head");
        return;
    }
    rd->request.is_head = parser.method == HTTP_HEAD;
    cut_head(rd, p.target);
}

/* The message is whole; a body is also a string, which spares its readers a copy. */
static void finish(struct reader *rd)
{
    buf_add(&rd->body, "", 1);
    if (rd->body.failed) {
        refuse(rd, 503, "out of memory");
        return;
    }
    rd->body.n--;
    rd->request.view.body = rd->body.data;
    rd->request.view.body_bytes = rd->body.n;
    rd->request.state = REQUEST_DONE;
}

static void start_body(struct reader *rd)
{
    const struct gate_facts *f = &rd->request.facts;
    if (f->content_length > rd->limits->body_bytes_max) {
        refuse(rd, 413, "request body too large");
        return;
    }
    rd->body_left = (size_t)f->content_length;
    rd->request.state = REQUEST_BODY;
    if (!f->chunked && rd->body_left == 0)
        finish(rd);
}

static void end_head(struct reader *rd)
{
    struct gate_facts *f = &rd->request.facts;
    if (!gate_pass(rd->head.data, rd->head.n, rd->limits, f)) {
        refuse(rd, f->code, f->text);
        return;
    }
    size_t bytes;
    if (size_mul((size_t)f->n_fields, sizeof(struct http_field), &bytes) &&
        size_add(bytes, sizeof(*rd->fields), &bytes))
        rd->fields = calloc(1, bytes);
    if (!rd->fields) {
        refuse(rd, 503, "out of memory");
        return;
    }
    rd->fields->n_room = f->n_fields;
    parse_head(rd);
    if (rd->request.state == REQUEST_HEAD)
        start_body(rd);
}

/* A line feed has just been added. */
static void end_line(struct reader *rd)
{
    size_t n = rd->head.n - rd->line_at;
    if (n < 2 || rd->head.data[rd->head.n - 2] != '\r') {
        refuse(rd, 400, "bad line end");
        return;
    }
    bool empty = n == 2;
    if (empty && rd->line_at == 0) {
        if (rd->skipped_line)
            refuse(rd, 400, "bad request line");
        rd->skipped_line = true;
        buf_clear(&rd->head);
        return;
    }
    rd->line_at = rd->head.n;
    if (empty)
        end_head(rd);
}

static size_t feed_head(struct reader *rd, const char *data, size_t n)
{
    size_t at = 0;
    while (at < n && rd->request.state == REQUEST_HEAD) {
        if (rd->head.n == 0 && !gate_can_start(data[at])) {
            refuse(rd, 400, "not an HTTP request");
            break;
        }
        const char *end = memchr(data + at, '\n', n - at);
        size_t take = end ? (size_t)(end - (data + at)) + 1 : n - at;
        if (take > rd->limits->head_bytes_max - rd->head.n) {
            bool in_target = rd->line_at == 0;
            refuse(rd, in_target ? 414 : 431,
                   in_target ? "request target too long" : "request head too large");
            break;
        }
        buf_add(&rd->head, data + at, take);
        at += take;
        if (rd->head.failed)
            refuse(rd, 503, "out of memory");
        else if (end)
            end_line(rd);
    }
    return at;
}

static size_t feed_length(struct reader *rd, const char *data, size_t n)
{
    size_t take = n < rd->body_left ? n : rd->body_left;
    buf_add(&rd->body, data, take);
    rd->body_left -= take;
    if (rd->body.failed)
        refuse(rd, 503, "out of memory");
    else if (rd->body_left == 0)
        finish(rd);
    return take;
}

static size_t feed_chunks(struct reader *rd, const char *data, size_t n)
{
    struct chunked *k = &rd->chunked;
    size_t at = 0;
    while (at < n && k->state < CHUNKED_DONE) {
        const char *piece;
        size_t piece_bytes;
        at += chunked_take(k, data + at, n - at, &piece, &piece_bytes);
        if (k->body_bytes > rd->limits->body_bytes_max) {
            refuse(rd, 413, "request body too large");
            return at;
        }
        buf_add(&rd->body, piece, piece_bytes);
    }
    if (rd->body.failed)
        refuse(rd, 503, "out of memory");
    else if (k->state == CHUNKED_BAD)
        refuse(rd, 400, "bad chunk");
    else if (k->state == CHUNKED_DONE)
        finish(rd);
    return at;
}

size_t request_feed(struct request *r, const char *data, size_t n)
{
    struct reader *rd = reader_of(r);
    size_t at = 0;
    if (r->state == REQUEST_HEAD)
        at = feed_head(rd, data, n);
    if (r->state == REQUEST_BODY && at < n)
        at += r->facts.chunked ? feed_chunks(rd, data + at, n - at)
                               : feed_length(rd, data + at, n - at);
    r->view.body_bytes = rd->body.n;
    return at;
}

#ifndef SERVER_CONN_H
#define SERVER_CONN_H

#include "server/buf.h"

/* One HTTP/1.1 connection: bytes in, requests out; responses in, bytes out. Knows
 * sockets, the head gate, llhttp and time limits; knows nothing of what is served.
 *
 * Responses are pulled. A source is asked for its next piece only when the socket has
 * taken the last one, so at most one write is in flight and a slow client holds at
 * most one piece of memory. One request runs at a time: pipelined bytes stay unread.
 *
 * Loop thread only. */
struct conn;
struct conn_set;
struct tls_config;
struct uv_loop_s;
struct uv_stream_s;

struct http_request {
    const char *method;
    const char *path;  /* raw, up to '?' */
    const char *query; /* raw, after '?'; "" when there is none */
    const char *body;  /* [body_bytes], also NUL-terminated */
    size_t body_bytes;
    const struct http_head *head; /* for http_header() */
};

/* Value of a header by lower-case name, NULL when absent; valid as long as the request. */
const char *http_header(const struct http_request *r, const char *name);

/* Every limit of a connection; defaults and ranges stand in options_table.c. */
struct conn_limits {
    int32_t conns_max;
    int32_t address_conns_max; /* from one address; 0: no limit */
    int32_t requests_max;      /* of one connection; 0: no limit */
    size_t ahead_bytes_max;    /* pipelined bytes kept before reading stops */
    size_t head_bytes_max;
    int32_t head_fields_max;
    size_t target_bytes_max;
    size_t body_bytes_max;
    size_t bodies_bytes_max; /* of all connections together */
    size_t body_rate_min;    /* bytes a second; 0: no limit */
    uint64_t handshake_ms_max;
    uint64_t head_ms_max;    /* from the first byte of a request to the end of its head */
    uint64_t body_ms_max;    /* from the end of the head to the end of the body */
    uint64_t idle_ms_max;    /* keep-alive without a request */
    uint64_t write_ms_max;   /* no progress for this long: the peer counts as gone */
    uint64_t drain_grace_ms; /* that a request has to become whole once we are leaving */
};

/* Called with a whole request; must end in conn_respond() or conn_stream(), now or
 * later (unless the peer goes first). The request is valid until the response is
 * complete. */
typedef void (*conn_request_fn)(struct conn *c, const struct http_request *r, void *arg);
/* An error found below HTTP semantics (bad head, too large, too slow): writes the body of the
 * answer with this code and returns further header lines, or NULL. r is NULL when no head was
 * understood; of what it has only the head is whole. The connection is closed after it. */
typedef const char *(*conn_error_fn)(struct conn *c, const struct http_request *r, struct buf *body,
                                     int code, const char *text, void *arg);

struct conn_handler {
    conn_request_fn on_request;
    conn_error_fn on_error;
    void *arg;
};

/* Who waits for the connection while an answer is made: told once if the peer leaves
 * (then c must not be used again), and asked for more when a write has been taken: once for
 * each conn_send(), so not before the first. Both are called from the loop, never from inside
 * a conn_ function; what goes wrong inside conn_send() is told as `gone` a moment later. */
struct conn_source {
    void (*ready)(void *arg); /* send the next piece, or do nothing and call conn_send() later */
    void (*gone)(void *arg);  /* the peer left; neither is called again */
    void *arg;
};

struct http_reply {
    int code;
    const char *type;  /* Content-Type, exactly these bytes; NULL: none */
    const char *extra; /* further header lines "Name: value\r\n"..., or NULL */
};

enum status conn_set_open(struct conn_set **out, struct uv_loop_s *loop,
                          const struct conn_limits *limits,
                          const struct conn_handler *handler) MUST_CHECK;
/* For those who come by TCP from now on; stays the caller's. NULL: no TLS. */
void conn_set_tls(struct conn_set *s, struct tls_config *g);
/* Closes every connection: idle ones at once, those with a part of a request after the grace, busy
 * ones after their answer. */
void conn_set_drain(struct conn_set *s);
/* Cuts what is left. on_empty is called when the last handle is closed. */
void conn_set_close(struct conn_set *s, void (*on_empty)(void *arg), void *arg);
void conn_set_free(struct conn_set *s);
int32_t conn_set_count(const struct conn_set *s);

/* What a listener is to be opened with; after a failure it is opened so again. */
enum { CONN_BACKLOG = 1024, CONN_LISTENERS_MAX = 16 };
/* Always accepts, even when it must close at once: a listener that does not accept
 * goes deaf. */
void conn_accept(struct conn_set *s, struct uv_stream_s *listener);
/* The listener's callback came with an error. Out of descriptors, libuv calls it again and again
 * without returning to the loop, so this is where one must be freed. */
void conn_accept_failed(struct conn_set *s, int err);

/* Who is at the other end, for the log: an IP address, or "unix". */
enum { CONN_ADDRESS_MAX = 46 };
const char *conn_address(const struct conn *c);

/* Between on_request and the answer: learn that the peer has gone. conn_stream()
 * replaces it. */
void conn_watch(struct conn *c, const struct conn_source *source);
/* A whole answer, and the end of watching: neither ready nor gone is called after it. Copies
 * body. */
void conn_respond(struct conn *c, const struct http_reply *reply, const struct buf *body);
/* A chunked answer: the head goes out with the first piece, then pieces as the source
 * sends them, then conn_finish(), which also forgets the source and may be called while a
 * piece is still on its way. */
void conn_stream(struct conn *c, const struct http_reply *reply, const struct conn_source *source);
bool conn_idle(const struct conn *c); /* no write in flight: conn_send() is allowed */
void conn_send(struct conn *c, const struct buf *piece);
void conn_finish(struct conn *c);

#endif

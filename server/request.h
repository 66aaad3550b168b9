#ifndef SERVER_REQUEST_H
#define SERVER_REQUEST_H

#include "server/conn.h"
#include "server/gate.h"

/* One request being read: bytes in, a struct http_request out. Knows no sockets and no clock, so
 * tests and fuzzers drive it directly. Owns every byte the http_request points to. */
enum request_state {
    REQUEST_HEAD,
    REQUEST_BODY,
    REQUEST_DONE, /* view is valid */
    REQUEST_BAD,  /* code and text are valid; nothing more can be read from this peer */
};

struct request {
    enum request_state state;
    int code;                 /* of the refusal */
    const char *text;         /* a constant */
    struct gate_facts facts;  /* valid once the state has left REQUEST_HEAD */
    bool is_head;             /* method HEAD: the answer has no body */
    struct http_request view; /* body_bytes counts while the body is read; head: NULL until then */
};

/* limits must outlive the request. */
enum status request_open(struct request **out, const struct conn_limits *limits) MUST_CHECK;
void request_close(struct request *r);

/* Takes bytes until the message ends or is refused; returns how many belonged to it. All of them
 * while the state is REQUEST_HEAD or REQUEST_BODY. */
size_t request_feed(struct request *r, const char *data, size_t n);

/* Whether the connection may serve another request after this one. */
bool request_keeps_alive(const struct request *r);

#endif

#ifndef BENCH_SERVE_CLIENT_H
#define BENCH_SERVE_CLIENT_H

#include "bench/serve_record.h"
#include "server/buf.h"

#include <llhttp.h>
#include <uv.h>

/* One connection of the load generator. It sends a request, reads an answer of server-sent events
 * and writes down what came and when. It is kept for the next request where the server allows it,
 * so the time of a request includes connecting only when it had to connect.
 *
 *   CLOSED -> CONNECTING -> BUSY -> IDLE -> BUSY ...         every request ends in exactly one
 *                        \-> CLOSING -> CLOSED               call of client_hooks.done
 *
 * What the server says is never trusted: whatever is not an event stream that comes to an end
 * becomes a fault with a name. */

enum { REFUSAL_BYTES_MAX = 400 }; /* that are kept of an answer which is not 200 */

enum client_state { CLIENT_CLOSED, CLIENT_CONNECTING, CLIENT_BUSY, CLIENT_IDLE, CLIENT_CLOSING };

struct client;

struct client_hooks {
    void (*text)(struct client *c); /* a first or further text has come; may be NULL */
    void (*done)(struct client *c);
};

struct client {
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    llhttp_t parser;
    uv_loop_t *loop;
    const struct sockaddr *address;
    const struct client_hooks *hooks;
    void *arg;
    enum client_state state;
    size_t head_bytes;
    bool head_complete;
    bool message_complete;
    bool keeps_alive;
    bool writing;
    bool used_before; /* the server may just be closing it */
    bool again;       /* it did */
    bool ended;       /* [DONE] was there */
    bool finished;    /* a reason to finish was there */
    struct buf request;
    struct buf line;  /* what has come of a line; of a refusal, its beginning */
    struct buf event; /* data of the event so far */
    uint64_t heard_ns;
    struct record out;

    /* The owner's choices, before client_start(). */
    int32_t backend;
    bool keep_text;
    int64_t cancel_after; /* tokens, as far as they can be told apart; 0: never */
    int64_t slow_bytes;   /* per second, 0: as fast as they come */
    struct buf text;
    uint64_t resume_ns; /* a slow reader looks again */
    int64_t nth;        /* the owner's */
};

/* request holds the bytes; out has what is known of the request, due_ns and sent_ns among it. The
 * client is CLOSED or IDLE; done comes later, never from here. E_IO: there is no socket for it. */
enum status client_start(struct client *c) MUST_CHECK;

/* Ends what it does, with a fault; NULL: a connection with nothing to answer for any more. */
void client_close(struct client *c, const char *fault);

/* A slow reader whose time has come reads on. */
void client_resume(struct client *c, uint64_t now);

/* The memory; it must be CLOSED. */
void client_free(struct client *c);

#endif

#ifndef SERVER_CONN_PRIVATE_H
#define SERVER_CONN_PRIVATE_H

#include "kernels/list.h"
#include "server/conn.h"
#include "server/peers.h"
#include "server/request.h"
#include "server/tls.h"

#include <uv.h>

/* Shared by conn.c (one connection: its states, and bytes in), conn_out.c (bytes out) and
 * conn_set.c (all of them, the clock, the door). */

enum {
    READ_BYTES = 64 * 1024,  /* one buffer for all: libuv reads and we consume at once */
    DROP_BYTES = 64 * 1024,  /* read and thrown away after the last answer */
    SEND_BYTES = 128 * 1024, /* of the kernel, which doubles it: the most a slow reader holds */
    LINGER_MS = 1000,        /* that the peer has to read the last answer */
};

enum conn_state {
    CONN_IDLE,    /* no byte of a request yet */
    CONN_READING, /* a part of a request */
    CONN_BUSY,    /* a whole request; its answer is being made or written */
    CONN_LINGER,  /* our side is shut; bytes are dropped until the peer closes */
    CONN_CLOSED,  /* uv_close() was called; waits for its callback */
};

enum answer_state {
    ANSWER_NONE,   /* on_request has been called */
    ANSWER_STREAM, /* conn_stream() */
    ANSWER_ENDING, /* conn_finish() while a piece is being written */
    ANSWER_WHOLE,  /* everything has been handed to the socket */
};

/* What a connection waits for. All that wait for the same thing may wait equally long, so each
 * list is in order of its deadlines and the clock looks at its first element only. */
enum conn_wait {
    WAIT_NONE, /* for us, not for the peer */
    WAIT_HANDSHAKE,
    WAIT_IDLE,
    WAIT_HEAD,
    WAIT_BODY,
    WAIT_WRITE,
    WAIT_LINGER,
    N_WAITS,
};

/* A connection or a listener: the kind is in handle.type. */
union socket {
    uv_handle_t handle;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
};

struct conn {
    union socket io;
    uv_write_t write;
    uv_shutdown_t shutdown;
    struct conn_set *set;
    struct tls *tls;   /* NULL: none */
    struct peer *peer; /* NULL: not counted */
    char address[CONN_ADDRESS_MAX];
    struct link link;    /* in set->wait[waits_for] */
    struct link flushed; /* in set->flushed, when the socket has taken everything at once */
    enum conn_wait waits_for;
    enum conn_state state;
    enum answer_state answer;
    uint64_t since_ms;       /* when the wait began */
    struct request *request; /* NULL while idle */
    struct buf ahead;        /* pipelined bytes; those before ahead_at are used up */
    size_t ahead_at;
    struct buf out;    /* the write in flight, or a head that waits for its first piece */
    size_t write_left; /* when its progress was last looked at */
    size_t n_dropped;
    size_t body_held;          /* of set->bodies_held */
    size_t body_seen;          /* when its growth was last looked at */
    int32_t body_windows;      /* that are over */
    int32_t n_requests;        /* whole ones, so far */
    struct conn_source source; /* .gone is NULL when nobody waits */
    bool reading;
    bool writing;     /* a piece is on its way */
    bool flushing;    /* the socket has a write in flight */
    bool shut_wanted; /* when it is over, our side is shut */
    bool peer_done;   /* the peer has shut its side, after its answer was whole */
    bool close_after; /* this answer is the last */
    bool chunked;     /* the stream */
    bool no_body;     /* the answer to HEAD */
};

struct conn_set {
    uv_loop_t *loop;
    struct conn_limits limits;
    struct conn_handler handler;
    struct link wait[N_WAITS];
    uint64_t wait_ms[N_WAITS];
    uint64_t tick_ms;
    int32_t n_conns;
    size_t bodies_held; /* bytes of the bodies of all connections */
    int32_t body_windows_max;
    uint64_t drain_ms; /* when it began */
    bool draining;
    bool closing;
    struct tls_config *tls; /* of those who come by TCP; NULL: none */
    struct peers *peers;
    uv_timer_t timer;
    bool timer_open;
    uv_poll_t widest; /* has made the loop's table of descriptors as large as it can get */
    int widest_fd;
    bool widest_open;
    union socket spare; /* takes what cannot be served, so that the listener stays awake */
    bool spare_open;
    uv_stream_t *waiting[CONN_LISTENERS_MAX]; /* each has a connection for the spare, in use */
    int32_t n_waiting;
    uv_stream_t *late[CONN_LISTENERS_MAX]; /* each has a connection for the next turn */
    int32_t n_late;
    int32_t n_accepted; /* in this turn of the loop */
    uv_idle_t next_turn;
    bool next_turn_open;
    int reserve_fd;      /* given up when there are no descriptors; -1 when it has been */
    struct link flushed; /* connections to be told so at the end of this turn */
    uv_check_t turn_end;
    uv_idle_t turn_more; /* keeps the loop from waiting while somebody is there */
    int32_t n_turn_open; /* of these two handles */
    uint64_t n_refused;  /* since the last line about it */
    uint64_t refused_ms; /* when that was */
    void (*on_empty)(void *arg);
    void *on_empty_arg;
    char read[READ_BYTES];
    char plain[TLS_RECORD_BYTES];
};

static inline uv_stream_t *conn_stream_of(struct conn *c)
{
    return &c->io.stream;
}

static inline uv_handle_t *conn_handle_of(struct conn *c)
{
    return &c->io.handle;
}

/* conn.c, for the set */
void conn_start(struct conn *c); /* has just been accepted */
void conn_expire(struct conn *c);
void conn_kill(struct conn *c); /* any state; the rest happens in the close callback */
void conn_reset(struct conn *c);
void conn_leave(struct conn *c);       /* idle, or not yet anything */
void conn_refuse_late(struct conn *c); /* a part of a request, and we are leaving */
void conn_answered(struct conn *c);    /* for conn_out.c: the socket has taken the whole answer */

/* conn_out.c, for a connection */
void conn_put_whole(struct conn *c, const struct http_reply *reply, const struct buf *body);
void conn_send_continue(struct conn *c);
void conn_flush(struct conn *c);    /* gives the socket what waits for it */
void conn_shut(struct conn *c);     /* ends our side once that has been taken */
void conn_flushed(struct conn *c);  /* the socket has taken that, as the set was told */
size_t conn_unsent(struct conn *c); /* bytes the peer has not got */

/* conn_set.c, for a connection */
void conn_set_wait(struct conn *c, enum conn_wait what); /* from now on */
void conn_set_flushed(struct conn *c);                   /* conn_flushed() later in this turn */
void conn_set_drop(struct conn *c);                      /* frees it: its handle is closed */

#endif

#ifndef SERVER_LISTEN_H
#define SERVER_LISTEN_H

#include "server/conn.h"
#include "server/options.h"

/* The sockets that connections come from: TCP over IPv4 and IPv6, and Unix sockets, any number up
 * to CONN_LISTENERS_MAX together. Loop thread only. */
struct listeners;

/* Says in the log what it listens on, and why it cannot. Unix sockets of a server that is gone are
 * replaced; those of one that lives, and files of other kinds, are left alone. */
enum status listeners_open(struct listeners **out, struct uv_loop_s *loop, const struct options *o,
                           struct conn_set *conns) MUST_CHECK;
/* Takes no more connections; Unix sockets go from their folders. Twice is fine. */
void listeners_close(struct listeners *l);
/* After the loop has closed the handles. NULL is fine. */
void listeners_free(struct listeners *l);

/* The first, as curl wants it: "http://127.0.0.1:8080". */
const char *listeners_address(const struct listeners *l);

#endif

#ifndef SERVER_PEERS_H
#define SERVER_PEERS_H

#include "kernels/base.h"

/* How many connections each address holds, so that one alone cannot take every place. An IPv6
 * network of 64 bits counts as one address, for whoever has one has all of it. Addresses of this
 * machine and Unix sockets are not counted: those are proxies and tests. Loop thread only. */
struct sockaddr;
struct peers;
struct peer;

/* Never more addresses than connections, so memory is bounded by whoever bounds those. */
enum status peers_open(struct peers **out) MUST_CHECK;
/* Every peer must have been dropped. */
void peers_close(struct peers *p);

/* *out NULL: not counted. E_AGAIN: it has `most` already. E_NOMEM. */
enum status peers_take(struct peers *p, const struct sockaddr *from, int32_t most,
                       struct peer **out) MUST_CHECK;
void peers_drop(struct peer *peer); /* NULL is fine */

#endif

#ifndef SERVER_TLS_H
#define SERVER_TLS_H

#include "server/buf.h"

/* TLS between a connection and its socket: the socket's bytes in, the client's out, and back.
 * Knows no sockets and no clock, and OpenSSL knows neither: it reads and writes memory, so every
 * limit of a connection holds as it does without TLS. Loop thread only. */
struct tls_config; /* certificate, key and rules */
struct tls;        /* one connection */

/* TLS 1.2 and 1.3, HTTP/1.1 by ALPN, no renegotiation, and no session that outlives its
 * connection. err: one line. */
enum status tls_config_open(struct tls_config **out, const char *cert, const char *key, char *err,
                            size_t err_size) MUST_CHECK;
/* Connections that were opened with it keep what they need. NULL is fine. */
void tls_config_close(struct tls_config *g);

enum tls_event {
    TLS_WAIT,   /* all bytes are used up; more are needed */
    TLS_DATA,   /* *n bytes of the client */
    TLS_END,    /* the client has said that nothing more comes */
    TLS_PLAIN,  /* these are the first bytes, and they are plain HTTP */
    TLS_BROKEN, /* whatever tls_out() holds may still be sent */
};

enum status tls_open(struct tls **out, struct tls_config *g) MUST_CHECK;
void tls_close(struct tls *t); /* NULL is fine */

/* Bytes of the socket. They must stay in place until tls_read() says that they are used up; only
 * then come the next. */
void tls_feed(struct tls *t, const char *data, size_t n);
/* To be called until it says something else than TLS_DATA. room is at least TLS_RECORD_BYTES. */
enum { TLS_RECORD_BYTES = 16 * 1024 };
enum tls_event tls_read(struct tls *t, char *data, size_t room, size_t *n);
bool tls_established(const struct tls *t); /* the handshake is over */

bool tls_write(struct tls *t, const char *data, size_t n); /* false: broken */
void tls_end(struct tls *t);                               /* tells the client that no more comes */

/* What the socket has to send, or NULL: of what was written and of what TLS itself has to say.
 * Valid until the next call, so a caller may ask again when it has been sent. */
const struct buf *tls_out(struct tls *t);
bool tls_has_out(const struct tls *t);

#endif

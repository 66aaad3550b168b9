/* OpenSSL with memory at both ends.
 *
 * OpenSSL reads and writes through a BIO of our own: reading takes from the bytes that tls_feed()
 * has named, writing appends to `pending`. So nothing is copied on the way in, no buffer is kept
 * while a connection is idle, and a failed allocation is a failed write like any other.
 *
 * Invariant: after TLS_WAIT nothing of what was fed is left. A connection that has broken stays so:
 * OpenSSL is not asked again. */
#include "server/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Most that may wait to be sent beside what was written: a peer that provokes answers and reads
 * none is cut off. */
enum { PENDING_BYTES_MAX = 1024 * 1024, BIO_TYPE_OURS = BIO_TYPE_SOURCE_SINK | 127 };

struct tls_config {
    SSL_CTX *ctx;
    BIO_METHOD *method;
    int32_t n_users; /* the owner and every connection */
};

struct tls {
    struct tls_config *config;
    SSL *ssl;
    const char *in; /* [in_bytes], not ours */
    size_t in_bytes;
    struct buf pending;
    struct buf sending;
    bool broken;
};

/* -- memory as a BIO -- */

static int on_bio_read(BIO *bio, char *data, int n)
{
    struct tls *t = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (n <= 0)
        return 0;
    if (t->in_bytes == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t take = (size_t)n < t->in_bytes ? (size_t)n : t->in_bytes;
    memcpy(data, t->in, take);
    t->in += take;
    t->in_bytes -= take;
    return (int)take;
}

static int on_bio_write(BIO *bio, const char *data, int n)
{
    struct tls *t = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (n <= 0)
        return 0;
    buf_add(&t->pending, data, (size_t)n);
    return t->pending.failed ? -1 : n;
}

static long on_bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static BIO_METHOD *method_new(void)
{
    BIO_METHOD *m = BIO_meth_new(BIO_TYPE_OURS, "connection");
    if (!m)
        return NULL;
    if (BIO_meth_set_read(m, on_bio_read) && BIO_meth_set_write(m, on_bio_write) &&
        BIO_meth_set_ctrl(m, on_bio_ctrl))
        return m;
    BIO_meth_free(m);
    return NULL;
}

/* -- certificate, key and rules -- */

/* A client that lists protocols and has no HTTP/1.1 among them would not understand us. */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_n,
                   const unsigned char *in, unsigned in_n, void *arg)
{
    static const unsigned char ours[] = "\x08http/1.1";
    (void)ssl;
    (void)arg;
    int found =
        SSL_select_next_proto((unsigned char **)out, out_n, ours, sizeof(ours) - 1, in, in_n);
    return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* A server has nobody to ask: a key with a password is a key that cannot be read. */
static int on_password(char *out, int size, int writing, void *arg)
{
    (void)writing;
    (void)arg;
    if (size > 0)
        out[0] = '\0';
    return 0;
}

static enum status say(char *err, size_t err_size, const char *what, const char *path)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    (void)snprintf(err, err_size, "%s %.150s: %s", what, path, reason ? reason : "cannot be used");
    ERR_clear_error();
    return E_INVALID;
}

static enum status load_files(SSL_CTX *ctx, const char *cert, const char *key, char *err,
                              size_t err_size)
{
    if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1)
        return say(err, err_size, "certificate", cert);
    if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
        return say(err, err_size, "private key", key);
    if (SSL_CTX_check_private_key(ctx) != 1)
        return say(err, err_size, "private key does not fit the certificate:", key);
    return OK;
}

/* Tickets and a cache would let a session live on under keys that are kept for long; connections
 * are kept alive instead. */
static bool set_rules(SSL_CTX *ctx)
{
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
    SSL_CTX_set_default_passwd_cb(ctx, on_password);
    return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 &&
           SSL_CTX_set_num_tickets(ctx, 0) == 1;
}

enum status tls_config_open(struct tls_config **out, const char *cert, const char *key, char *err,
                            size_t err_size)
{
    ERR_clear_error();
    struct tls_config *g = calloc(1, sizeof(*g));
    if (g) {
        g->n_users = 1;
        g->ctx = SSL_CTX_new(TLS_server_method());
        g->method = method_new();
    }
    enum status s = OK;
    if (!g || !g->ctx || !g->method || !set_rules(g->ctx)) {
        (void)snprintf(err, err_size, "TLS: %s", status_text(E_NOMEM));
        s = E_NOMEM;
    } else {
        s = load_files(g->ctx, cert, key, err, err_size);
    }
    ERR_clear_error();
    if (s)
        tls_config_close(g);
    else
        *out = g;
    return s;
}

void tls_config_close(struct tls_config *g)
{
    if (!g || --g->n_users > 0)
        return;
    SSL_CTX_free(g->ctx);
    BIO_meth_free(g->method);
    free(g);
}

/* -- a connection -- */

enum status tls_open(struct tls **out, struct tls_config *g)
{
    ERR_clear_error();
    struct tls *t = calloc(1, sizeof(*t));
    BIO *bio = t ? BIO_new(g->method) : NULL;
    if (!bio) {
        free(t);
        return E_NOMEM;
    }
    t->ssl = SSL_new(g->ctx);
    if (!t->ssl) {
        BIO_free(bio);
        free(t);
        return E_NOMEM;
    }
    g->n_users++;
    t->config = g;
    BIO_set_data(bio, t);
    BIO_set_init(bio, 1);
    SSL_set_bio(t->ssl, bio, bio);
    SSL_set_accept_state(t->ssl);
    *out = t;
    return OK;
}

void tls_close(struct tls *t)
{
    if (!t)
        return;
    SSL_free(t->ssl);
    tls_config_close(t->config);
    buf_free(&t->pending);
    buf_free(&t->sending);
    free(t);
    /* What went wrong here is no business of the next connection. */
    ERR_clear_error();
}

void tls_feed(struct tls *t, const char *data, size_t n)
{
    t->in = data;
    t->in_bytes = n;
}

bool tls_established(const struct tls *t)
{
    return !t->broken && SSL_is_init_finished(t->ssl);
}

static enum tls_event broken(struct tls *t, enum tls_event how)
{
    t->broken = true;
    ERR_clear_error();
    return how;
}

enum tls_event tls_read(struct tls *t, char *data, size_t room, size_t *n)
{
    *n = 0;
    if (t->broken)
        return TLS_BROKEN;
    ERR_clear_error();
    if (SSL_read_ex(t->ssl, data, room, n) == 1)
        return TLS_DATA;
    switch (SSL_get_error(t->ssl, 0)) {
    case SSL_ERROR_WANT_READ:
        if (t->in_bytes || t->pending.failed || t->pending.n > PENDING_BYTES_MAX)
            return broken(t, TLS_BROKEN);
        return TLS_WAIT;
    case SSL_ERROR_ZERO_RETURN:
        return TLS_END;
    default:
        break;
    }
    unsigned long code = ERR_peek_error();
    bool plain = ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == SSL_R_HTTP_REQUEST;
    return broken(t, plain ? TLS_PLAIN : TLS_BROKEN);
}

bool tls_write(struct tls *t, const char *data, size_t n)
{
    size_t written = 0;
    if (t->broken)
        return false;
    if (n == 0)
        return true;
    ERR_clear_error();
    bool good = SSL_write_ex(t->ssl, data, n, &written) == 1 && written == n && !t->pending.failed;
    if (!good)
        (void)broken(t, TLS_BROKEN);
    return good;
}

void tls_end(struct tls *t)
{
    if (!tls_established(t))
        return;
    ERR_clear_error();
    (void)SSL_shutdown(t->ssl);
    ERR_clear_error();
}

const struct buf *tls_out(struct tls *t)
{
    buf_free(&t->sending);
    if (t->pending.n == 0)
        return NULL;
    t->sending = t->pending;
    t->pending = (struct buf){0};
    return &t->sending;
}

bool tls_has_out(const struct tls *t)
{
    return t->pending.n > 0;
}

#ifndef TESTS_TLS_RIG_H
#define TESTS_TLS_RIG_H

/* conn_rig.h with TLS on both sides: a certificate made for the run, and clients whose records pass
 * through the test's hands. To be included by one file. */
#include "tests/conn_rig.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#define H     "Host: a\r\n"
#define GET_A "GET /a HTTP/1.1\r\n" H "\r\n"

static const char answer_a[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Extra: 1\r\n"
                               "Content-Length: 11\r\n\r\nGET /a  []\n";

static char cert_path[] = "/tmp/tls_test_cert_XXXXXX";
static char key_path[] = "/tmp/tls_test_key_XXXXXX";
static SSL_CTX *client_rules;

/* -- certificate -- */

static void write_pem(char *path, EVP_PKEY *key, X509 *cert)
{
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *f = fdopen(fd, "w");
    assert_non_null(f);
    if (cert)
        assert_int_equal(PEM_write_X509(f, cert), 1);
    else
        assert_int_equal(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(f);
}

static inline int set_up(void **state)
{
    (void)state;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    assert_true(key && cert);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_NAME *name = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"a", -1, -1, 0);
    X509_set_issuer_name(cert, name);
    X509_set_pubkey(cert, key);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    write_pem(cert_path, key, cert);
    write_pem(key_path, key, NULL);
    X509_free(cert);
    EVP_PKEY_free(key);
    client_rules = SSL_CTX_new(TLS_client_method());
    return client_rules ? 0 : -1;
}

static inline int tear_down(void **state)
{
    (void)state;
    SSL_CTX_free(client_rules);
    unlink(cert_path);
    unlink(key_path);
    return 0;
}

/* -- a client -- */

struct tls_rig {
    struct rig g;
    struct tls_config *config;
};

struct tls_client {
    struct client c; /* its bytes are records */
    SSL *ssl;
    struct buf plain;
    bool ended;  /* close_notify */
    bool broken; /* an alert, or the socket ended */
};

static inline void open_all(struct tls_rig *t, const struct conn_limits *limits)
{
    char err[256] = "";
    rig_open(&t->g, limits);
    if (tls_config_open(&t->config, cert_path, key_path, err, sizeof(err)))
        fail_msg("%s", err);
    conn_set_tls(t->g.set, t->config);
}

static inline void close_all(struct tls_rig *t)
{
    rig_close(&t->g);
    tls_config_close(t->config);
}

static inline void join(struct tls_client *c, const struct tls_rig *t)
{
    *c = (struct tls_client){0};
    client_open(&c->c, &t->g);
    c->ssl = SSL_new(client_rules);
    assert_non_null(c->ssl);
    BIO *in = BIO_new(BIO_s_mem());
    BIO *out = BIO_new(BIO_s_mem());
    assert_true(in && out);
    BIO_set_mem_eof_return(in, -1);
    SSL_set_bio(c->ssl, in, out);
    SSL_set_connect_state(c->ssl);
}

static inline void part(struct tls_client *c)
{
    SSL_free(c->ssl);
    buf_free(&c->plain);
    client_close(&c->c);
}

/* Records the client has made, out. */
static inline size_t take_records(struct tls_client *c, char *out, size_t room)
{
    int n = BIO_read(SSL_get_wbio(c->ssl), out, (int)room);
    return n > 0 ? (size_t)n : 0;
}

static inline void turn(struct tls_rig *t)
{
    rig_turn(&t->g);
}

/* What has come from the server goes through TLS. */
static inline void pump_in(struct tls_client *c)
{
    char text[4096];
    client_read(&c->c);
    if (c->c.got.n)
        BIO_write(SSL_get_rbio(c->ssl), c->c.got.data, (int)c->c.got.n);
    buf_clear(&c->c.got);
    for (;;) {
        ERR_clear_error();
        int n = SSL_read(c->ssl, text, sizeof(text));
        if (n > 0) {
            buf_add(&c->plain, text, (size_t)n);
            continue;
        }
        int why = SSL_get_error(c->ssl, n);
        c->ended |= why == SSL_ERROR_ZERO_RETURN;
        c->broken |= why == SSL_ERROR_SSL || c->c.ended || c->c.reset;
        return;
    }
}

/* step: bytes of one write to the socket; 0: all. */
static inline void pump_out(struct tls_rig *t, struct tls_client *c, size_t step)
{
    static char records[65536];
    size_t n = take_records(c, records, sizeof(records));
    for (size_t at = 0; at < n;) {
        size_t take = step && step < n - at ? step : n - at;
        client_send(&t->g, &c->c, records + at, take);
        at += take;
        if (step)
            turn(t);
    }
}

static inline void pump(struct tls_rig *t, struct tls_client *c, size_t step)
{
    pump_out(t, c, step);
    turn(t);
    pump_in(c);
}

static inline bool shake(struct tls_rig *t, struct tls_client *c, size_t step)
{
    uint64_t until = clock_ms() + PATIENCE_MS;
    while (!SSL_is_init_finished(c->ssl) && !c->broken) {
        pump(t, c, step);
        if (clock_ms() > until)
            fail_msg("no handshake");
    }
    pump(t, c, step);
    return !c->broken;
}

static inline void ask(struct tls_rig *t, struct tls_client *c, const char *text, size_t step)
{
    assert_int_equal(SSL_write(c->ssl, text, (int)strlen(text)), (int)strlen(text));
    pump(t, c, step);
}

static inline void wait_plain(struct tls_rig *t, struct tls_client *c, size_t n)
{
    uint64_t until = clock_ms() + PATIENCE_MS;
    while (c->plain.n < n && !c->ended && !c->broken) {
        pump(t, c, 0);
        if (clock_ms() > until)
            fail_msg("nothing more after %zu bytes", c->plain.n);
    }
}

static inline void wait_for(struct tls_rig *t, struct tls_client *c, const char *text)
{
    while (!c->plain.n || !memmem(c->plain.data, c->plain.n, text, strlen(text))) {
        assert_false(c->ended || c->broken);
        wait_plain(t, c, c->plain.n + 1);
    }
}

static inline void expect(struct tls_rig *t, struct tls_client *c, const char *want)
{
    wait_plain(t, c, strlen(want));
    buf_add(&c->plain, "", 1);
    assert_string_equal(c->plain.data, want);
    buf_clear(&c->plain);
}

static inline void wait_gone(struct tls_rig *t, int32_t left)
{
    uint64_t until = clock_ms() + PATIENCE_MS;
    while (conn_set_count(t->g.set) > left) {
        turn(t);
        assert_true(clock_ms() < until);
    }
}

/* Whatever happened before, the next client is served. */
static inline void serves_on(struct tls_rig *t)
{
    struct tls_client c;
    join(&c, t);
    assert_true(shake(t, &c, 0));
    ask(t, &c, GET_A, 0);
    expect(t, &c, answer_a);
    part(&c);
}

#endif

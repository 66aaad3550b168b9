/* Aim: whatever fails inside TLS, each call of OpenSSL and each allocation of OpenSSL itself, costs
 * the connection it happens on, and the next client is served.
 *
 * Needs the linker's --wrap for the calls; allocations are OpenSSL's own to hand over. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/tls_rig.h"

/* -- faults -- */

static struct {
    bool on;
    long at; /* 0: none */
    long n;
} alloc_fault;

static struct {
    bool on;
    long at;
    long n;
} call_fault;

static bool alloc_fails(void)
{
    return alloc_fault.on && ++alloc_fault.n == alloc_fault.at;
}

static void *ssl_malloc(size_t n, const char *file, int line)
{
    (void)file;
    (void)line;
    return alloc_fails() ? NULL : malloc(n);
}

static void *ssl_realloc(void *old, size_t n, const char *file, int line)
{
    (void)file;
    (void)line;
    return alloc_fails() ? NULL : realloc(old, n);
}

static void ssl_free(void *old, const char *file, int line)
{
    (void)file;
    (void)line;
    free(old);
}

static bool call_fails(void)
{
    return call_fault.on && ++call_fault.n == call_fault.at;
}

SSL *__real_SSL_new(SSL_CTX *ctx);
BIO *__real_BIO_new(const BIO_METHOD *m);
int __real_SSL_read_ex(SSL *s, void *data, size_t room, size_t *n);
int __real_SSL_write_ex(SSL *s, const void *data, size_t n, size_t *done);
int __real_SSL_shutdown(SSL *s);
SSL *__wrap_SSL_new(SSL_CTX *ctx);
BIO *__wrap_BIO_new(const BIO_METHOD *m);
int __wrap_SSL_read_ex(SSL *s, void *data, size_t room, size_t *n);
int __wrap_SSL_write_ex(SSL *s, const void *data, size_t n, size_t *done);
int __wrap_SSL_shutdown(SSL *s);

SSL *__wrap_SSL_new(SSL_CTX *ctx)
{
    return call_fails() ? NULL : __real_SSL_new(ctx);
}

BIO *__wrap_BIO_new(const BIO_METHOD *m)
{
    return call_fails() ? NULL : __real_BIO_new(m);
}

int __wrap_SSL_read_ex(SSL *s, void *data, size_t room, size_t *n)
{
    return call_fails() ? 0 : __real_SSL_read_ex(s, data, room, n);
}

int __wrap_SSL_write_ex(SSL *s, const void *data, size_t n, size_t *done)
{
    return call_fails() ? 0 : __real_SSL_write_ex(s, data, n, done);
}

int __wrap_SSL_shutdown(SSL *s)
{
    return call_fails() ? -1 : __real_SSL_shutdown(s);
}

/* -- faults -- */

/* From the handshake to the end; whatever fails on the way ends this connection alone. Returns how
 * often there was something that could fail. */
static long scenario(bool allocations, long at)
{
    struct tls_rig t;
    struct tls_client c;
    bool *on = allocations ? &alloc_fault.on : &call_fault.on;
    open_all(&t, &rig_limits);
    join(&c, &t);
    alloc_fault.at = call_fault.at = at;
    alloc_fault.n = call_fault.n = 0;
    bool asked = false;
    for (int i = 0; i < 40 && !c.broken && !c.ended; i++) {
        /* Only the server's part fails. */
        static char records[65536];
        size_t n = take_records(&c, records, sizeof(records));
        if (n)
            send(c.c.fd, records, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        *on = true;
        for (int k = 0; k < 4; k++)
            turn(&t);
        *on = false;
        pump_in(&c);
        if (SSL_is_init_finished(c.ssl) && !asked) {
            asked = true;
            (void)SSL_write(c.ssl, "GET /stream HTTP/1.1\r\nConnection: close\r\n" H "\r\n", 52);
        }
    }
    long n = allocations ? alloc_fault.n : call_fault.n;
    part(&c);
    serves_on(&t);
    close_all(&t);
    return n;
}

static void test_every_call(void **state)
{
    (void)state;
    long n = scenario(false, 0);
    assert_true(n > 5);
    for (long at = 1; at <= n; at++)
        scenario(false, at);
}

static void test_every_allocation(void **state)
{
    (void)state;
    long n = scenario(true, 0);
    assert_true(n > 50);
    /* A handshake has thousands; a stride keeps the test short, and its offset covers the start. */
    for (long at = 1; at <= n; at += at < 200 ? 1 : 13)
        scenario(true, at);
}

int main(void)
{
    /* Before anything of OpenSSL allocates. */
    if (!CRYPTO_set_mem_functions(ssl_malloc, ssl_realloc, ssl_free))
        return 1;
    log_setup(LOG_ERROR, false);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_call),
        cmocka_unit_test(test_every_allocation),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

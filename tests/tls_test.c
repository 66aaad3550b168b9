/* Aim: a connection under TLS behaves as one without: the same answers however the records are cut,
 * the same limits, the same ends. What breaks TLS costs the connection it happens on, and the next
 * client is served.
 *
 * Negative space: records cut at every byte, garbage at every stage, plain HTTP on the port, old
 * versions, renegotiation, other protocols only, a handshake that does not go on, a reader who does
 * not read, an end without close_notify. What fails inside OpenSSL is tls_fault_test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/tls_rig.h"

/* -- as without TLS -- */

static void test_answers(void **state)
{
    (void)state;
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    static const size_t steps[] = {0, 1, 7, 1000};
    for (size_t v = 0; v < ARRAY_LEN(versions); v++)
        for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
            struct tls_rig t;
            struct tls_client c;
            open_all(&t, &rig_limits);
            join(&c, &t);
            SSL_set_max_proto_version(c.ssl, versions[v]);
            assert_true(shake(&t, &c, steps[i]));
            assert_int_equal(SSL_version(c.ssl), versions[v]);
            ask(&t, &c, GET_A, steps[i]);
            expect(&t, &c, answer_a);
            ask(&t, &c, GET_A GET_A, steps[i]);
            wait_plain(&t, &c, 2 * strlen(answer_a));
            assert_int_equal(c.plain.n, 2 * strlen(answer_a));
            buf_clear(&c.plain);
            ask(&t, &c, "POST /a HTTP/1.1\r\n" H "Connection: close\r\nContent-Length: 2\r\n\r\nab",
                steps[i]);
            wait_plain(&t, &c, SIZE_MAX);
            assert_true(c.ended);
            assert_non_null(memmem(c.plain.data, c.plain.n, "[ab]\n", 5));
            part(&c);
            close_all(&t);
        }
}

/* A body of many records, and an answer of many. */
static void test_large(void **state)
{
    (void)state;
    enum { BODY = 200 * 1000 };
    struct tls_rig t;
    struct tls_client c;
    char head[128];
    open_all(&t, &rig_limits);
    t.g.n_pieces = 40;
    t.g.piece_bytes = 50 * 1000;
    join(&c, &t);
    assert_true(shake(&t, &c, 0));
    snprintf(head, sizeof(head), "POST /a HTTP/1.1\r\n" H "Content-Length: %d\r\n\r\n", BODY);
    ask(&t, &c, head, 0);
    char *body = malloc(BODY + 1);
    assert_non_null(body);
    memset(body, 'x', BODY);
    body[BODY] = '\0';
    for (int at = 0; at < BODY; at += 20000) {
        assert_int_equal(SSL_write(c.ssl, body + at, 20000), 20000);
        pump(&t, &c, 3001);
    }
    wait_for(&t, &c, "]\n");
    assert_non_null(memmem(c.plain.data, c.plain.n, body, BODY));
    free(body);
    buf_clear(&c.plain);
    ask(&t, &c, "GET /big HTTP/1.1\r\n" H "\r\n", 0);
    size_t whole = (size_t)t.g.n_pieces * t.g.piece_bytes;
    wait_plain(&t, &c, whole + 60);
    const char *end = memmem(c.plain.data, c.plain.n, "\r\n\r\n", 4);
    assert_non_null(end);
    wait_plain(&t, &c, (size_t)(end - c.plain.data) + 4 + whole);
    for (size_t i = 0; i < whole; i++)
        if (end[4 + i] != (char)('a' + i / t.g.piece_bytes % 26))
            fail_msg("byte %zu is wrong", i);
    part(&c);
    close_all(&t);
}

static void test_stream(void **state)
{
    (void)state;
    struct tls_rig t;
    struct tls_client c;
    open_all(&t, &rig_limits);
    t.g.n_pieces = 300;
    join(&c, &t);
    assert_true(shake(&t, &c, 0));
    ask(&t, &c, "GET /stream HTTP/1.1\r\n" H "\r\n", 0);
    wait_for(&t, &c, "\r\n0\r\n\r\n");
    int n = 0;
    for (char *at = c.plain.data;
         (at = memmem(at, c.plain.n - (size_t)(at - c.plain.data), "\r\n5\r\n", 5)); at += 5)
        n++;
    assert_int_equal(n, 300);
    assert_int_equal(t.g.n_gone, 0);
    part(&c);
    close_all(&t);
}

static void test_continue(void **state)
{
    (void)state;
    struct tls_rig t;
    struct tls_client c;
    open_all(&t, &rig_limits);
    join(&c, &t);
    assert_true(shake(&t, &c, 0));
    ask(&t, &c, "POST /a HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n", 0);
    expect(&t, &c, "HTTP/1.1 100 Continue\r\n\r\n");
    ask(&t, &c, "ab", 0);
    wait_for(&t, &c, "[ab]\n");
    part(&c);
    close_all(&t);
}

/* A reader who does not read stops the pieces and is let go, as without TLS. */
static void test_no_reader(void **state)
{
    (void)state;
    struct tls_rig t;
    struct tls_client c;
    struct conn_limits limits = rig_limits;
    limits.write_ms_max = 500;
    open_all(&t, &limits);
    t.g.n_pieces = INT32_MAX;
    t.g.piece_bytes = 64 * 1024;
    join(&c, &t);
    assert_true(shake(&t, &c, 0));
    assert_true(SSL_write(c.ssl, "GET /stream HTTP/1.1\r\n" H "\r\n", 33) > 0);
    pump_out(&t, &c, 0);
    int32_t asked;
    do {
        asked = t.g.piece;
        rig_turn_ms(&t.g, 150);
    } while (t.g.piece != asked && asked < 500);
    assert_true(asked < 500);
    rig_wait_count(&t.g, &t.g.n_gone, 1);
    wait_gone(&t, 0);
    part(&c);
    close_all(&t);
}

/* Leaving in the middle of an answer is told, with and without close_notify. */
static void test_gone(void **state)
{
    (void)state;
    for (int polite = 0; polite < 2; polite++) {
        struct tls_rig t;
        struct tls_client c;
        open_all(&t, &rig_limits);
        join(&c, &t);
        assert_true(shake(&t, &c, 0));
        ask(&t, &c, "GET /hold HTTP/1.1\r\n" H "\r\n", 0);
        rig_wait_count(&t.g, &t.g.n_requests, 1);
        if (polite) {
            SSL_shutdown(c.ssl);
            pump_out(&t, &c, 0);
        } else {
            shutdown(c.c.fd, SHUT_WR);
        }
        rig_wait_count(&t.g, &t.g.n_gone, 1);
        part(&c);
        serves_on(&t);
        close_all(&t);
    }
}

/* -- what is refused -- */

static void test_plain_http(void **state)
{
    (void)state;
    static const char *const starts[] = {GET_A, "POST / HTTP/1.1\r\n" H "\r\n",
                                         "HEAD / HTTP/1.0\r\n"};
    for (size_t i = 0; i < ARRAY_LEN(starts); i++) {
        struct tls_rig t;
        struct client c;
        open_all(&t, &rig_limits);
        client_open(&c, &t.g);
        client_text(&t.g, &c, starts[i]);
        client_wait_end(&t.g, &c);
        buf_add(&c.got, "", 1);
        assert_memory_equal(c.got.data, "HTTP/1.1 400 Bad Request\r\n", 26);
        assert_non_null(strstr(c.got.data, "this port speaks TLS"));
        client_close(&c);
        serves_on(&t);
        close_all(&t);
    }
}

/* Neither answers in plain text nor stays. */
static void test_garbage(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
    } starts[] = {
        {"\x16\x03\x01\x00\x05hello", 10},
        {"\x80\x2e\x01\x00\x02", 5},
        {"\x16\x03\x01\xff\xff\x01", 6},
        {"\x15\x03\x01\x00\x02\x02\x28", 7},
        {"\x17\x03\x03\x00\x01\x00", 6},
        {"\x00\x00\x00\x00\x00\x00", 6},
        {"\xff\xff\xff\xff\xff\xff\xff\xff", 8},
        {"SSH-2.0-x\r\n", 11},
        {"nonsense\r\n\r\n", 12},
    };
    struct tls_rig t;
    open_all(&t, &rig_limits);
    for (size_t i = 0; i < ARRAY_LEN(starts); i++) {
        struct client c;
        client_open(&c, &t.g);
        client_send(&t.g, &c, starts[i].bytes, starts[i].n);
        shutdown(c.fd, SHUT_WR);
        client_wait_end(&t.g, &c);
        assert_false(c.got.n >= 4 && memcmp(c.got.data, "HTTP", 4) == 0);
        client_close(&c);
        wait_gone(&t, 0);
    }
    serves_on(&t);
    close_all(&t);
}

/* The handshake and the request, cut off after every byte, and with every byte spoilt. */
static void test_cut_and_spoilt(void **state)
{
    (void)state;
    struct tls_rig t;
    char hello[4096];
    open_all(&t, &rig_limits);
    struct tls_client first;
    join(&first, &t);
    SSL_do_handshake(first.ssl);
    size_t n = take_records(&first, hello, sizeof(hello));
    assert_true(n > 100);
    for (size_t at = 1; at < n; at += 3) {
        struct client c;
        client_open(&c, &t.g);
        client_send(&t.g, &c, hello, at);
        shutdown(c.fd, SHUT_WR);
        client_wait_end(&t.g, &c);
        client_close(&c);
        hello[at] = (char)(hello[at] ^ 0x55);
        client_open(&c, &t.g);
        client_send(&t.g, &c, hello, n);
        shutdown(c.fd, SHUT_WR);
        client_wait_end(&t.g, &c);
        client_close(&c);
        hello[at] = (char)(hello[at] ^ 0x55);
    }
    part(&first);
    serves_on(&t);
    close_all(&t);
}

static void test_spoilt_record(void **state)
{
    (void)state;
    struct tls_rig t;
    open_all(&t, &rig_limits);
    for (size_t at = 0; at < 40; at += 3) {
        struct tls_client c;
        char records[512];
        join(&c, &t);
        assert_true(shake(&t, &c, 0));
        assert_true(SSL_write(c.ssl, GET_A, (int)strlen(GET_A)) > 0);
        size_t n = take_records(&c, records, sizeof(records));
        assert_true(at < n);
        records[at] = (char)(records[at] ^ 1);
        client_send(&t.g, &c.c, records, n);
        shutdown(c.c.fd, SHUT_WR);
        wait_gone(&t, 0);
        pump_in(&c);
        assert_int_equal(c.plain.n, 0);
        part(&c);
    }
    assert_int_equal(t.g.n_requests, 0);
    serves_on(&t);
    close_all(&t);
}

static void test_old_versions(void **state)
{
    (void)state;
    static const int old[] = {TLS1_VERSION, TLS1_1_VERSION};
    for (size_t i = 0; i < ARRAY_LEN(old); i++) {
        struct tls_rig t;
        struct tls_client c;
        open_all(&t, &rig_limits);
        join(&c, &t);
        SSL_set_security_level(c.ssl, 0);
        SSL_set_min_proto_version(c.ssl, old[i]);
        SSL_set_max_proto_version(c.ssl, old[i]);
        assert_false(shake(&t, &c, 0));
        part(&c);
        serves_on(&t);
        close_all(&t);
    }
}

static void test_renegotiation(void **state)
{
    (void)state;
    struct tls_rig t;
    struct tls_client c;
    open_all(&t, &rig_limits);
    join(&c, &t);
    SSL_set_max_proto_version(c.ssl, TLS1_2_VERSION);
    assert_true(shake(&t, &c, 0));
    ask(&t, &c, GET_A, 0);
    expect(&t, &c, answer_a);
    assert_int_equal(SSL_renegotiate(c.ssl), 1);
    (void)SSL_do_handshake(c.ssl);
    for (int i = 0; i < 50 && !c.broken; i++)
        pump(&t, &c, 0);
    assert_true(c.broken || SSL_renegotiate_pending(c.ssl));
    part(&c);
    serves_on(&t);
    close_all(&t);
}

static void test_alpn(void **state)
{
    (void)state;
    static const struct {
        const char *list;
        unsigned n;
        bool good;
    } cases[] = {
        {"\x02h2\x08http/1.1", 12, true},
        {"\x08http/1.1", 9, true},
        {"\x02h2", 3, false},
        {"\x08HTTP/1.1", 9, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tls_rig t;
        struct tls_client c;
        const unsigned char *chosen;
        unsigned n;
        open_all(&t, &rig_limits);
        join(&c, &t);
        SSL_set_alpn_protos(c.ssl, (const unsigned char *)cases[i].list, cases[i].n);
        assert_int_equal(shake(&t, &c, 0), cases[i].good);
        SSL_get0_alpn_selected(c.ssl, &chosen, &n);
        if (cases[i].good)
            assert_memory_equal(chosen, "http/1.1", 8);
        part(&c);
        close_all(&t);
    }
}

/* No ticket and no session that a later connection could resume. */
static void test_no_resumption(void **state)
{
    (void)state;
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    for (size_t v = 0; v < ARRAY_LEN(versions); v++) {
        struct tls_rig t;
        struct tls_client a;
        struct tls_client b;
        open_all(&t, &rig_limits);
        join(&a, &t);
        SSL_set_max_proto_version(a.ssl, versions[v]);
        assert_true(shake(&t, &a, 0));
        ask(&t, &a, GET_A, 0);
        expect(&t, &a, answer_a);
        SSL_SESSION *session = SSL_get1_session(a.ssl);
        join(&b, &t);
        SSL_set_max_proto_version(b.ssl, versions[v]);
        SSL_set_session(b.ssl, session);
        assert_true(shake(&t, &b, 0));
        assert_false(SSL_session_reused(b.ssl));
        SSL_SESSION_free(session);
        part(&a);
        part(&b);
        close_all(&t);
    }
}

/* Each asks for an answer, and none is read: OpenSSL bears so many in a row, and then it ends. */
static void test_key_updates(void **state)
{
    (void)state;
    struct tls_rig t;
    struct tls_client c;
    open_all(&t, &rig_limits);
    join(&c, &t);
    assert_true(shake(&t, &c, 0));
    for (int i = 0; i < 2000; i++) {
        if (SSL_key_update(c.ssl, SSL_KEY_UPDATE_REQUESTED) != 1 || SSL_do_handshake(c.ssl) != 1)
            break;
        pump_out(&t, &c, 0);
        turn(&t);
    }
    part(&c);
    serves_on(&t);
    close_all(&t);
}

/* -- time -- */

static void test_slow_handshake(void **state)
{
    (void)state;
    for (int silent = 0; silent < 2; silent++) {
        struct tls_rig t;
        struct tls_client c;
        char hello[4096];
        struct conn_limits limits = rig_limits;
        limits.handshake_ms_max = 150;
        open_all(&t, &limits);
        join(&c, &t);
        SSL_do_handshake(c.ssl);
        size_t n = take_records(&c, hello, sizeof(hello));
        uint64_t start = clock_ms();
        for (size_t at = 0; !silent && at < n && conn_set_count(t.g.set) >= (at > 3); at++) {
            send(c.c.fd, hello + at, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
            rig_turn_ms(&t.g, 5);
        }
        turn(&t);
        wait_gone(&t, 0);
        assert_true(clock_ms() - start >= 140);
        assert_true(clock_ms() - start < 2000);
        part(&c);
        close_all(&t);
    }
}

/* An idle connection is told that this is the end. */
static void test_idle(void **state)
{
    (void)state;
    for (int drain = 0; drain < 2; drain++) {
        struct tls_rig t;
        struct tls_client c;
        struct conn_limits limits = rig_limits;
        limits.idle_ms_max = drain ? 10000 : 150;
        open_all(&t, &limits);
        join(&c, &t);
        assert_true(shake(&t, &c, 0));
        ask(&t, &c, GET_A, 0);
        expect(&t, &c, answer_a);
        if (drain)
            conn_set_drain(t.g.set);
        wait_plain(&t, &c, 1);
        assert_true(c.ended);
        part(&c);
        wait_gone(&t, 0);
        close_all(&t);
    }
}

/* -- the configuration -- */

static void test_config(void **state)
{
    (void)state;
    char err[256];
    struct tls_config *g = NULL;
    assert_int_equal(tls_config_open(&g, "/none", key_path, err, sizeof(err)), E_INVALID);
    assert_non_null(strstr(err, "/none"));
    assert_int_equal(tls_config_open(&g, cert_path, "/none", err, sizeof(err)), E_INVALID);
    assert_int_equal(tls_config_open(&g, key_path, key_path, err, sizeof(err)), E_INVALID);
    assert_int_equal(tls_config_open(&g, cert_path, cert_path, err, sizeof(err)), E_INVALID);
    char other_path[] = "/tmp/tls_test_other_XXXXXX";
    EVP_PKEY *other = EVP_EC_gen("P-256");
    write_pem(other_path, other, NULL);
    assert_int_equal(tls_config_open(&g, cert_path, other_path, err, sizeof(err)), E_INVALID);
    assert_null(strchr(err, '\n'));
    EVP_PKEY_free(other);
    unlink(other_path);
    tls_config_close(NULL);
}

/* Connections of the old certificate go on; new ones get the new one. */
static void test_reload(void **state)
{
    (void)state;
    struct tls_rig t;
    struct tls_client old;
    struct tls_config *next;
    char err[256];
    open_all(&t, &rig_limits);
    join(&old, &t);
    assert_true(shake(&t, &old, 0));
    assert_int_equal(tls_config_open(&next, cert_path, key_path, err, sizeof(err)), OK);
    conn_set_tls(t.g.set, next);
    tls_config_close(t.config);
    t.config = next;
    ask(&t, &old, GET_A, 0);
    expect(&t, &old, answer_a);
    serves_on(&t);
    part(&old);
    close_all(&t);
}

int main(void)
{
    log_setup(LOG_ERROR, false);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),        cmocka_unit_test(test_large),
        cmocka_unit_test(test_stream),         cmocka_unit_test(test_continue),
        cmocka_unit_test(test_no_reader),      cmocka_unit_test(test_gone),
        cmocka_unit_test(test_plain_http),     cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_cut_and_spoilt), cmocka_unit_test(test_spoilt_record),
        cmocka_unit_test(test_old_versions),   cmocka_unit_test(test_renegotiation),
        cmocka_unit_test(test_alpn),           cmocka_unit_test(test_no_resumption),
        cmocka_unit_test(test_key_updates),    cmocka_unit_test(test_slow_handshake),
        cmocka_unit_test(test_idle),           cmocka_unit_test(test_config),
        cmocka_unit_test(test_reload),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

/* Aim: every limit of a connection holds and has its answer: time to send a head and a body, time
 * to stay idle, time to read an answer, how many may come; and the way out, drained or cut, ends
 * every connection once. Times are those of a clock that the test moves (conn_clock.h); real time
 * only bounds how long a test waits for something that never comes.
 *
 * Negative space: a byte now and then that must not stretch a limit, a reader who is slow but
 * reads, no file descriptors left, more connections than allowed, all at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/conn_clock.h"

#include <sys/resource.h>

#define H     "Host: a\r\n"
#define GET_A "GET /a HTTP/1.1\r\n" H "\r\n"

static const char answer_a[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Extra: 1\r\n"
                               "Content-Length: 11\r\n\r\nGET /a  []\n";

/* -- time -- */

static const struct {
    const char *first;
    const char *drip; /* sent again and again, a byte at a time */
    int code;         /* 0: the connection just ends */
} slow_cases[] = {
    {"G", "ET / HTTP/1.1\r\nX: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 408},
    {"\r\n", "", 408},
    {"GET / HTTP/1.1\r\n" H, "", 408},
    {"POST / HTTP/1.1\r\n" H "Content-Length: 100\r\n\r\n", "", 408},
    {"POST / HTTP/1.1\r\n" H "Content-Length: 100\r\n\r\n", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
     408},
    {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n", "40\r\nxxxxxxxxxxxxxxxxxxxxxx",
     408},
    {"", "", 0},
    {GET_A, "", 0},
};

static void test_slow_writer(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(slow_cases); i++) {
        struct rig g;
        struct client c;
        struct conn_limits limits = rig_limits;
        bool idle = slow_cases[i].code == 0;
        limits.head_ms_max = idle ? 10000 : 120;
        limits.body_ms_max = idle ? 10000 : 120;
        limits.idle_ms_max = idle ? 120 : 10000;
        rig_open(&g, &limits);
        client_open(&c, &g);
        client_text(&g, &c, slow_cases[i].first);
        clock_looked_at(&g);
        const char *drip = slow_cases[i].drip;
        for (int k = 0; k < 7; k++) {
            if (*drip)
                send(c.fd, drip++, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
            clock_move(&g, 17);
            client_read(&c);
            assert_false(c.ended);
        }
        (void)clock_move_to_end(&g, &c, 60);
        buf_add(&c.got, "", 1);
        char line[32];
        snprintf(line, sizeof(line), "HTTP/1.1 %d ", slow_cases[i].code);
        if (slow_cases[i].code && strncmp(c.got.data, line, strlen(line)) != 0)
            fail_msg("case %zu: %s", i, c.got.data);
        if (idle)
            assert_string_equal(c.got.data, slow_cases[i].first[0] ? answer_a : "");
        client_close(&c);
        rig_close(&g);
    }
}

/* A request is timed from its first byte, not from that of the connection, and not at all while
 * its answer is made. */
static void test_slow_but_within(void **state)
{
    (void)state;
    struct rig g;
    struct client c;
    struct conn_limits limits = rig_limits;
    limits.head_ms_max = 400;
    limits.body_ms_max = 400;
    limits.idle_ms_max = 400;
    limits.write_ms_max = 400;
    rig_open(&g, &limits);
    client_open(&c, &g);
    for (int i = 0; i < 5; i++) {
        clock_move(&g, 130);
        client_text(&g, &c, GET_A);
        client_expect(&g, &c, answer_a);
    }
    client_text(&g, &c, "GET /hold HTTP/1.1\r\n" H "\r\n");
    clock_move(&g, 900);
    rig_respond(g.held, "GET", "/a", "", "");
    client_expect(&g, &c, answer_a);
    client_close(&c);
    rig_close(&g);
    assert_int_equal(g.n_gone, 0);
}

/* A reader who does not read: pieces stop being asked for, and after the time the peer counts as
 * gone. */
static void test_no_reader(void **state)
{
    (void)state;
    struct rig g;
    struct client c;
    struct conn_limits limits = rig_limits;
    limits.write_ms_max = 600;
    rig_open(&g, &limits);
    g.n_pieces = INT32_MAX;
    g.piece_bytes = 64 * 1024;
    client_open(&c, &g);
    client_text(&g, &c, "GET /stream HTTP/1.1\r\n" H "\r\n");
    rig_wait_count(&g, &g.n_requests, 1);
    /* The kernel's buffers fill first, and it may still find room for a while. */
    int32_t asked;
    do {
        asked = g.piece;
        rig_turn_ms(&g, 200);
    } while (g.piece != asked && asked < 500);
    assert_true(asked < 500);
    assert_non_null(g.held);
    assert_true(g.held->writing);
    assert_true(g.held->out.room <= 4 * g.piece_bytes);
    clock_move(&g, limits.write_ms_max - 1);
    assert_int_equal(g.n_gone, 0);
    for (uint64_t until = clock_ms() + PATIENCE_MS; !g.n_gone && clock_ms() < until;)
        clock_move(&g, 1);
    assert_int_equal(g.n_gone, 1);
    assert_true(g.piece <= asked + 1);
    assert_int_equal(conn_set_count(g.set), 0);
    client_close(&c);
    rig_close(&g);
    assert_int_equal(g.n_gone, 1);
}

/* A reader who takes a little now and then gets everything, in order, though the whole takes
 * longer than the limit. */
static void test_slow_reader(void **state)
{
    (void)state;
    struct rig g;
    struct client c;
    struct conn_limits limits = rig_limits;
    limits.write_ms_max = 500;
    rig_open(&g, &limits);
    g.n_pieces = 16;
    g.piece_bytes = 512 * 1024;
    client_open(&c, &g);
    int small = 32 * 1024;
    setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    client_text(&g, &c, "GET /big HTTP/1.1\r\n" H "\r\n");
    static char bytes[256 * 1024];
    uint64_t until = clock_ms() + PATIENCE_MS;
    uint64_t start = server_clock.ms;
    size_t want = (size_t)g.n_pieces * g.piece_bytes;
    size_t head = 0;
    while (c.got.n < want + head) {
        rig_turn_ms(&g, 5);
        ssize_t n = recv(c.fd, bytes, sizeof(bytes), MSG_DONTWAIT);
        assert_true(n != 0);
        assert_true(n > 0 || errno == EAGAIN);
        if (n > 0) {
            buf_add(&c.got, bytes, (size_t)n);
            server_clock.ms += 10;
        }
        const char *end = memmem(c.got.data, c.got.n < 200 ? c.got.n : 200, "\r\n\r\n", 4);
        head = end ? (size_t)(end - c.got.data) + 4 : 200;
        assert_true(clock_ms() < until);
    }
    assert_true(server_clock.ms - start > limits.write_ms_max);
    assert_int_equal(c.got.n, want + head);
    for (size_t i = 0; i < want; i++)
        if (c.got.data[head + i] != (char)('a' + i / g.piece_bytes % 26))
            fail_msg("byte %zu is wrong", i);
    client_close(&c);
    rig_close(&g);
    assert_int_equal(g.n_gone, 0);
}

/* A client that was refused and neither reads nor leaves is let go after a moment. */
static void test_linger(void **state)
{
    (void)state;
    struct rig g;
    struct client c;
    rig_open(&g, &rig_limits);
    client_open(&c, &g);
    client_text(&g, &c, "nonsense\r\n\r\n");
    /* It goes on sending, too; that is thrown away, and from some point on not even read. */
    static char noise[4096];
    size_t sent = 0;
    uint64_t until = clock_ms() + PATIENCE_MS;
    for (int refused = 0; refused < 100 && clock_ms() < until; rig_turn(&g)) {
        ssize_t n = send(c.fd, noise, sizeof(noise), MSG_DONTWAIT | MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
        refused = n > 0 ? 0 : refused + 1;
    }
    assert_true(clock_ms() < until);
    assert_true(sent > DROP_BYTES);
    clock_move(&g, LINGER_MS - 1);
    assert_int_equal(conn_set_count(g.set), 1);
    clock_move(&g, 1);
    assert_int_equal(conn_set_count(g.set), 0);
    client_close(&c);
    rig_close(&g);
}

/* -- how many -- */

/* Those over the limit are accepted and closed; when one leaves, the next is served. */
static void test_too_many(void **state)
{
    (void)state;
    enum { MOST = 8, OVER = 30 };
    struct rig g;
    struct client served[MOST];
    struct client refused[OVER];
    struct conn_limits limits = rig_limits;
    limits.conns_max = MOST;
    rig_open(&g, &limits);
    log_setup(LOG_ERROR, false);
    for (int i = 0; i < MOST; i++) {
        client_open(&served[i], &g);
        client_text(&g, &served[i], GET_A);
        client_expect(&g, &served[i], answer_a);
    }
    assert_int_equal(conn_set_count(g.set), MOST);
    for (int i = 0; i < OVER; i++)
        client_open(&refused[i], &g);
    for (int i = 0; i < OVER; i++) {
        client_wait_end(&g, &refused[i]);
        assert_int_equal(refused[i].got.n, 0);
        client_close(&refused[i]);
    }
    for (int i = 0; i < MOST; i++) {
        client_text(&g, &served[i], GET_A);
        client_expect(&g, &served[i], answer_a);
        client_close(&served[i]);
    }
    rig_turn_ms(&g, 20);
    assert_int_equal(conn_set_count(g.set), 0);
    client_open(&served[0], &g);
    client_text(&g, &served[0], GET_A);
    client_expect(&g, &served[0], answer_a);
    client_close(&served[0]);
    rig_close(&g);
}

/* Many who come at once do not keep those waiting who are in: some are accepted, then the others
 * are served, then more are accepted. */
static void test_storm(void **state)
{
    (void)state;
    enum { MANY = 300 };
    struct rig g;
    static struct client c[MANY];
    struct client in;
    struct conn_limits limits = rig_limits;
    limits.conns_max = MANY + 1;
    rig_open(&g, &limits);
    client_open(&in, &g);
    client_text(&g, &in, GET_A);
    client_expect(&g, &in, answer_a);
    assert_int_equal(uv_listen((uv_stream_t *)&g.listener, CONN_BACKLOG, rig_connection), 0);
    for (int i = 0; i < MANY; i++)
        client_open(&c[i], &g);
    assert_int_equal(send(in.fd, GET_A, strlen(GET_A), MSG_NOSIGNAL), (int)strlen(GET_A));
    rig_turn(&g);
    assert_true(conn_set_count(g.set) < MANY / 2);
    assert_int_equal(g.n_requests, 2);
    /* libuv accepts a few in each turn, from 1.45 on only one. */
    for (int i = 0; i < MANY && conn_set_count(g.set) <= MANY; i++)
        rig_turn(&g);
    assert_int_equal(conn_set_count(g.set), MANY + 1);
    for (int i = 0; i < MANY; i++)
        client_close(&c[i]);
    client_close(&in);
    rig_close(&g);
}

/* Bodies are bounded together too: 64 of the largest size, whoever sends them. */
static void test_bodies_together(void **state)
{
    (void)state;
    enum { BODY = 1000, PART = 999, HELD = 64 };
    static const char head[] = "POST /a HTTP/1.1\r\n" H "Content-Length: 1000\r\n\r\n";
    struct rig g;
    struct client sender[HELD + 1];
    struct client small;
    char part[PART];
    struct conn_limits limits = rig_limits;
    limits.body_bytes_max = BODY;
    limits.bodies_bytes_max = (size_t)HELD * BODY;
    limits.conns_max = HELD + 2;
    memset(part, 'x', sizeof(part));
    rig_open(&g, &limits);
    for (int i = 0; i <= HELD; i++) {
        client_open(&sender[i], &g);
        client_text(&g, &sender[i], head);
        client_send(&g, &sender[i], part, sizeof(part));
        rig_turn_ms(&g, 2);
    }
    client_wait_end(&g, &sender[HELD]);
    buf_add(&sender[HELD].got, "", 1);
    assert_memory_equal(sender[HELD].got.data, "HTTP/1.1 503 ", 13);
    client_open(&small, &g);
    client_text(&g, &small, GET_A);
    client_expect(&g, &small, answer_a);
    for (int i = 0; i <= HELD; i++)
        client_close(&sender[i]);
    rig_turn_ms(&g, 20);
    client_text(&g, &small, head);
    client_send(&g, &small, part, sizeof(part));
    client_text(&g, &small, "x");
    rig_wait_count(&g, &g.n_requests, 2);
    client_close(&small);
    rig_close(&g);
}

static int lowest_free_fd(void)
{
    int fd = dup(0);
    assert_true(fd >= 0);
    close(fd);
    return fd;
}

/* Without a free descriptor those who come are turned away, those who are in stay, and the
 * listener is awake when there are descriptors again. */
static void test_no_descriptors(void **state)
{
    (void)state;
    struct rig g;
    struct client in;
    struct client out[5];
    rig_open(&g, &rig_limits);
    log_setup(LOG_ERROR, false);
    client_open(&in, &g);
    client_text(&g, &in, GET_A);
    client_expect(&g, &in, answer_a);
    for (size_t i = 0; i < ARRAY_LEN(out); i++)
        client_open(&out[i], &g);
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct rlimit none = {(rlim_t)lowest_free_fd(), before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    for (size_t i = 0; i < ARRAY_LEN(out); i++)
        client_wait_end(&g, &out[i]);
    assert_int_equal(conn_set_count(g.set), 1);
    client_text(&g, &in, GET_A);
    client_expect(&g, &in, answer_a);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    struct client late;
    client_open(&late, &g);
    client_text(&g, &late, GET_A);
    client_expect(&g, &late, answer_a);
    client_close(&late);
    client_close(&in);
    for (size_t i = 0; i < ARRAY_LEN(out); i++)
        client_close(&out[i]);
    rig_close(&g);
}

/* The same when somebody else has taken the descriptor that libuv keeps for this: then it calls
 * back without end, until a descriptor is free. The reserve is enough, and if
 * it is taken too, somebody idle has to go. */
static void test_no_descriptors_at_all(void **state)
{
    (void)state;
    enum { ROUNDS = 4, LAST = ROUNDS - 1, UV_TELLS_NO_MORE = 0x012d00 };
    if (uv_version() >= UV_TELLS_NO_MORE) {
        print_message("skipped: libuv from 1.45 on turns them away itself and tells nobody\n");
        skip();
    }
    struct rig g;
    struct client held;
    struct client idle;
    struct client out;
    struct rlimit before;
    rig_open(&g, &rig_limits);
    log_setup(LOG_ERROR, false);
    client_open(&held, &g);
    client_text(&g, &held, "GET /hold HTTP/1.1\r\n" H "\r\n");
    rig_wait_count(&g, &g.n_requests, 1);
    client_open(&idle, &g);
    client_text(&g, &idle, GET_A);
    client_expect(&g, &idle, answer_a);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    for (int round = 0; round < ROUNDS; round++) {
        client_open(&out, &g);
        assert_int_equal(conn_set_count(g.set), 2);
        int theirs = g.loop.emfile_fd;
        int reserve = g.set->reserve_fd;
        assert_true(reserve >= 0);
        if (round == LAST)
            g.set->reserve_fd = -1;
        int taken = lowest_free_fd();
        struct rlimit none = {(rlim_t)taken, before.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
        g.loop.emfile_fd = -1;
        client_wait_end(&g, &out);
        assert_int_equal(out.got.n, 0);
        client_close(&out);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        if (g.loop.emfile_fd < 0)
            g.loop.emfile_fd = theirs;
        else if (theirs >= 0)
            close(theirs);
        if (round == LAST)
            close(reserve);
        rig_turn_ms(&g, 5);
    }
    client_wait_end(&g, &idle);
    assert_int_equal(conn_set_count(g.set), 1);
    assert_int_equal(g.n_gone, 0);
    rig_respond(g.held, "GET", "/a", "", "");
    client_expect(&g, &held, answer_a);
    client_close(&held);
    client_close(&idle);
    rig_close(&g);
}

/* libuv's table of descriptors has its size before the first connection: growing it later would
 * abort the process when there is no memory. */
static void test_table_of_descriptors(void **state)
{
    (void)state;
    struct rig g;
    struct conn_limits limits = rig_limits;
    limits.conns_max = 500;
    rig_open(&g, &limits);
    assert_true(g.loop.nwatchers > 500);
    rig_turn(&g);
    rig_close(&g);
}

/* One address may not take every place; this machine's own addresses are not counted. */
static void test_one_address(void **state)
{
    (void)state;
    struct rig g;
    struct client c[4];
    struct conn_limits limits = rig_limits;
    limits.address_conns_max = 2;
    rig_open(&g, &limits);
    for (size_t i = 0; i < ARRAY_LEN(c); i++) {
        client_open(&c[i], &g);
        client_text(&g, &c[i], GET_A);
        client_expect(&g, &c[i], answer_a);
    }
    /* Counted as strangers they would be too many: the same table, asked with another address. */
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr = {htonl(0x0a000001)}};
    struct peer *peer[3] = {NULL};
    assert_int_equal(peers_take(g.set->peers, (struct sockaddr *)&from, 2, &peer[0]), OK);
    assert_int_equal(peers_take(g.set->peers, (struct sockaddr *)&from, 2, &peer[1]), OK);
    assert_int_equal(peers_take(g.set->peers, (struct sockaddr *)&from, 2, &peer[2]), E_AGAIN);
    peers_drop(peer[0]);
    peers_drop(peer[1]);
    for (size_t i = 0; i < ARRAY_LEN(c); i++)
        client_close(&c[i]);
    rig_close(&g);
}

static void test_requests_of_a_connection(void **state)
{
    (void)state;
    struct rig g;
    struct client c;
    struct conn_limits limits = rig_limits;
    limits.requests_max = 3;
    rig_open(&g, &limits);
    client_open(&c, &g);
    client_text(&g, &c, GET_A GET_A GET_A GET_A);
    client_wait_end(&g, &c);
    assert_int_equal(g.n_requests, 3);
    assert_int_equal(c.got.n, 3 * strlen(answer_a) + strlen("Connection: close\r\n"));
    client_close(&c);
    rig_close(&g);
}

/* A body that comes too slowly ends in the window in which it was too slow; one that is just fast
 * enough goes on to the end of its time. */
static void test_body_rate(void **state)
{
    (void)state;
    static const struct {
        size_t rate;
        int code; /* 0: it is still read after one window */
    } cases[] = {{1000, 408}, {10, 0}, {0, 0}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct rig g;
        struct client c;
        struct conn_limits limits = rig_limits;
        limits.body_ms_max = 10100; /* three windows of a third each */
        limits.body_rate_min = cases[i].rate;
        rig_open(&g, &limits);
        assert_int_equal(g.set->body_windows_max, 3);
        g.set->wait_ms[WAIT_BODY] = 200;
        client_open(&c, &g);
        client_text(&g, &c, "POST /a HTTP/1.1\r\n" H "Content-Length: 9000\r\n\r\n0123456789");
        if (cases[i].code) {
            (void)clock_move_to_end(&g, &c, 350);
            assert_memory_equal(c.got.data, "HTTP/1.1 408 ", 13);
        } else {
            clock_move(&g, 350);
            client_read(&c);
            assert_int_equal(c.got.n, 0);
        }
        client_close(&c);
        rig_close(&g);
    }
}

/* Ten thousand idle connections may cost 8 KiB each; what the socket needs is the kernel's. */
static void test_idle_cost(void **state)
{
    (void)state;
    struct rig g;
    struct client c;
    assert_true(sizeof(struct conn) <= 1024);
    rig_open(&g, &rig_limits);
    client_open(&c, &g);
    client_text(&g, &c, GET_A GET_A);
    client_text(&g, &c, "GET /hold HTTP/1.1\r\n" H "\r\n");
    rig_wait_count(&g, &g.n_requests, 3);
    struct conn *conn = g.held;
    rig_respond(conn, "x", "y", "z", "");
    client_wait(&g, &c, 200);
    rig_turn_ms(&g, 5);
    assert_int_equal(conn->state, CONN_IDLE);
    assert_null(conn->request);
    assert_null(conn->ahead.data);
    assert_null(conn->out.data);
    client_close(&c);
    rig_close(&g);
}

/* -- the way out -- */

static void test_drain(void **state)
{
    (void)state;
    struct rig g;
    struct client idle;
    struct client reading;
    struct client streaming;
    rig_open(&g, &rig_limits);
    client_open(&idle, &g);
    client_text(&g, &idle, GET_A);
    client_expect(&g, &idle, answer_a);
    client_open(&reading, &g);
    client_text(&g, &reading, "GET /a HTTP/1.1\r\n");
    client_open(&streaming, &g);
    g.n_pieces = 1;
    client_text(&g, &streaming, "GET /hold HTTP/1.1\r\n" H "\r\n" GET_A);
    rig_wait_count(&g, &g.n_requests, 2);
    assert_int_equal(conn_set_count(g.set), 3);

    conn_set_drain(g.set);
    client_wait_end(&g, &idle);
    assert_int_equal(idle.got.n, 0);
    assert_int_equal(conn_set_count(g.set), 2);
    /* Who was about to ask is answered, and told that it was the last. */
    client_text(&g, &reading, H "\r\n");
    client_wait_end(&g, &reading);
    assert_non_null(memmem(reading.got.data, reading.got.n, "Connection: close\r\n", 19));
    assert_non_null(memmem(reading.got.data, reading.got.n, "GET /a  []\n", 11));
    rig_respond(g.held, "x", "y", "z", "");
    client_wait_end(&g, &streaming);
    assert_non_null(memmem(streaming.got.data, streaming.got.n, "x y z []\n", 9));
    assert_int_equal(g.n_requests, 3); /* what came after it is not */
    struct client late;
    client_open(&late, &g);
    client_wait_end(&g, &late);
    assert_int_equal(late.got.n, 0);
    client_close(&late);
    client_close(&idle);
    client_close(&reading);
    client_close(&streaming);
    rig_close(&g);
    assert_int_equal(g.n_gone, 0);
}

/* Half a request does not hold up the end: after the grace it is refused. */
static void test_drain_half_requests(void **state)
{
    (void)state;
    static const char *const halves[] = {"GET /a HTTP/1.1\r\n",
                                         "POST /a HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nab"};
    for (int grace = 0; grace <= 300; grace += 300) {
        struct rig g;
        struct client c[ARRAY_LEN(halves)];
        struct conn_limits limits = rig_limits;
        limits.drain_grace_ms = (uint64_t)grace;
        rig_open(&g, &limits);
        for (size_t i = 0; i < ARRAY_LEN(c); i++) {
            client_open(&c[i], &g);
            client_text(&g, &c[i], halves[i]);
        }
        clock_looked_at(&g);
        conn_set_drain(g.set);
        if (grace) {
            clock_move(&g, (uint64_t)grace - 1);
            client_read(&c[0]);
            client_read(&c[1]);
            assert_false(c[0].ended || c[1].ended);
            clock_move(&g, 1);
        }
        for (size_t i = 0; i < ARRAY_LEN(c); i++) {
            client_wait_end(&g, &c[i]);
            assert_memory_equal(c[i].got.data, "HTTP/1.1 503 ", 13);
            client_close(&c[i]);
        }
        rig_close(&g);
    }
}

/* Cut in every state at once: those who wait are told, each once. */
static void test_close(void **state)
{
    (void)state;
    static const char *const starts[] = {
        "",
        "GET /a HT",
        "POST /a HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nab",
        GET_A,
        "GET /hold HTTP/1.1\r\n" H "\r\n",
        "GET /hold HTTP/1.1\r\n" H "\r\n" GET_A,
        "GET /big HTTP/1.1\r\n" H "\r\n",
        "nonsense\r\n\r\n",
    };
    struct rig g;
    struct client c[ARRAY_LEN(starts)];
    rig_open(&g, &rig_limits);
    g.n_pieces = 100;
    g.piece_bytes = 100 * 1000;
    for (size_t i = 0; i < ARRAY_LEN(starts); i++) {
        client_open(&c[i], &g);
        client_text(&g, &c[i], starts[i]);
    }
    rig_turn_ms(&g, 20);
    assert_int_equal(conn_set_count(g.set), ARRAY_LEN(starts));
    rig_close(&g);
    assert_int_equal(g.n_gone, 2);
    for (size_t i = 0; i < ARRAY_LEN(starts); i++)
        client_close(&c[i]);
}

/* A set that never had a connection ends like any other. */
static void test_close_empty(void **state)
{
    (void)state;
    struct rig g;
    rig_open(&g, &rig_limits);
    rig_close(&g);
    conn_set_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slow_writer),
        cmocka_unit_test(test_slow_but_within),
        cmocka_unit_test(test_no_reader),
        cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_linger),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_storm),
        cmocka_unit_test(test_bodies_together),
        cmocka_unit_test(test_no_descriptors),
        cmocka_unit_test(test_no_descriptors_at_all),
        cmocka_unit_test(test_table_of_descriptors),
        cmocka_unit_test(test_one_address),
        cmocka_unit_test(test_requests_of_a_connection),
        cmocka_unit_test(test_body_rate),
        cmocka_unit_test(test_idle_cost),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_drain_half_requests),
        cmocka_unit_test(test_close),
        cmocka_unit_test(test_close_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

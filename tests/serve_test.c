/* Aim: a stream that has nothing to say says so, in comments that every client skips, also while
 * it waits for its first token; and whoever leaves takes nothing along.
 *
 * Negative space: comments among events, one that would interrupt a write, a failure before and
 * after the first comment, a reader that has stopped reading and leaves when its answer is done, or
 * reads on after a pause that no time of the engine may show. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/serve_rig.h"

static struct serve serve;

static int set_up(void **state)
{
    (void)state;
    struct conn_limits limits = rig_limits;
    limits.write_ms_max = PATIENCE_MS;
    serve_open(&serve, &limits);
    log_setup(LOG_ERROR, false);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    serve_close(&serve);
    return 0;
}

static void ask(struct client *c, const char *path, const char *body)
{
    struct buf b = {0};
    buf_printf(&b, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n%s", path,
               strlen(body), body);
    assert_int_equal(send(c->fd, b.data, b.n, MSG_NOSIGNAL), (ssize_t)b.n);
    buf_free(&b);
}

static int count_text(const struct client *c, const char *text)
{
    int n = 0;
    for (size_t at = 0; at + strlen(text) <= c->got.n; at++)
        n += memcmp(c->got.data + at, text, strlen(text)) == 0;
    return n;
}

static const struct {
    const char *path;
    const char *body;
} streams[] = {
    {"/v1/chat/completions",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"Count to one hundred.\"}],\"stream\":true,"
     "\"max_tokens\":400,\"ignore_eos\":true}"},
    {"/v1/completions",
     "{\"prompt\":\"Paris is\",\"stream\":true,\"max_tokens\":400,\"ignore_eos\":true}"},
};

static void test_comments(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(streams); i++) {
        struct client c;
        serve.env.ping_ns = 0;
        client_open(&c, &serve.g);
        ask(&c, streams[i].path, streams[i].body);
        uint64_t until = clock_ms() + PATIENCE_MS;
        while (!c.got.n || !memmem(c.got.data, c.got.n, "data: [DONE]\n\n\r\n0\r\n\r\n", 21)) {
            rig_turn(&serve.g);
            client_read(&c);
            streams_keep_alive(&serve.env);
            assert_true(clock_ms() < until);
        }
        /* A chunk of its own, and the events around it are whole. */
        assert_true(count_text(&c, "\r\n8\r\n: ping\n\n\r\n") > 0);
        assert_int_equal(count_text(&c, ": ping"), count_text(&c, "\r\n8\r\n: ping\n\n\r\n"));
        assert_int_equal(count_text(&c, "data: [DONE]"), 1);
        client_close(&c);
        serve_settle(&serve);
    }
}

/* True: want has come, and not what is absent. */
static bool fails_with(bool comment, const char *want, const char *absent)
{
    struct buf body = {0};
    struct client c;
    /* Long to compute, and short enough to be tokenized at once. */
    buf_text(&body, "{\"prompt\":\"");
    for (int i = 0; i < 40; i++)
        buf_text(&body, "Count to one hundred. ");
    buf_text(&body, "\",\"stream\":true,\"max_tokens\":200,\"ignore_eos\":true}");
    buf_add(&body, "", 1);
    serve.env.ping_ns = 0;
    client_open(&c, &serve.g);
    ask(&c, "/v1/completions", body.data);
    buf_free(&body);
    while (!serve.env.first)
        rig_turn(&serve.g);
    if (comment)
        streams_keep_alive(&serve.env);
    streams_cut(&serve.env);
    for (uint64_t until = clock_ms() + PATIENCE_MS; serve.env.first && clock_ms() < until;)
        rig_turn(&serve.g);
    client_wait_text(&serve, &c, "\r\n\r\n");
    bool good = count_text(&c, want) == 1 && count_text(&c, absent) == 0;
    assert_int_equal(count_text(&c, ": ping"), comment);
    client_close(&c);
    serve_settle(&serve);
    return good;
}

/* What an answer becomes that fails while it waits: a status, until the first comment has gone.
 * On a busy machine its first token may be there before the failure is. */
static void test_failure_while_waiting(void **state)
{
    (void)state;
    enum { TRIES = 20 };
    static const struct {
        bool comment;
        const char *want;
        const char *absent;
    } rows[] = {
        {false, "HTTP/1.1 503 Service Unavailable\r\n", "HTTP/1.1 200"},
        {true, "data: {\"error\":", "HTTP/1.1 503"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int n = 0;
        while (n < TRIES && !fails_with(rows[i].comment, rows[i].want, rows[i].absent))
            n++;
        assert_true(n < TRIES);
    }
}

/* The head goes out with a comment before there is a token; what the format says first still comes
 * before its first event. */
static void test_comment_before_the_first_token(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        const char *body;
        const char *first;
        const char *last;
    } rows[] = {
        {"/v1/chat/completions",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],\"stream\":true,"
         "\"max_tokens\":5}",
         "\"role\":\"assistant\"", "data: [DONE]\n\n"},
        {"/v1/messages",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],\"stream\":true,"
         "\"max_tokens\":5,\"model\":\"demo\"}",
         "event: message_start\n", "event: message_stop\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct client c;
        serve.env.ping_ns = 0;
        client_open(&c, &serve.g);
        ask(&c, rows[i].path, rows[i].body);
        while (!serve.env.first)
            rig_turn(&serve.g);
        streams_keep_alive(&serve.env);
        client_wait_text(&serve, &c, rows[i].last);
        const char *ping = memmem(c.got.data, c.got.n, ": ping\n\n", 8);
        const char *first = memmem(c.got.data, c.got.n, rows[i].first, strlen(rows[i].first));
        assert_true(ping && first && ping < first);
        assert_int_equal(count_text(&c, rows[i].first), 1);
        client_close(&c);
        serve_settle(&serve);
    }
}

/* Asks for more than the sockets hold, and does not read. Comes back when all of it is computed and
 * the loop knows, with an answer that is stuck. */
static void compute_unread(struct client *c)
{
    enum { SMALL = 4096 };
    const int bytes = SMALL;
    struct sched_stats stats;
    serve.env.ping_ns = UINT64_MAX;
    client_open(c, &serve.g);
    assert_int_equal(setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)), 0);
    ask(c, "/v1/chat/completions",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],\"stream\":true,\"max_tokens\":250,"
        "\"n\":4,\"ignore_eos\":true,\"temperature\":1,\"logprobs\":true,\"top_logprobs\":20}");
    uint64_t until = clock_ms() + PATIENCE_MS;
    do {
        rig_turn(&serve.g);
        usleep(100);
        sched_stats(serve.registry.model[0].sched, &stats);
        assert_true(clock_ms() < until);
    } while (!serve.env.first || stats.running + stats.waiting > 0);
    for (int i = 0; i < 20; i++)
        rig_turn(&serve.g);
    assert_non_null(serve.env.first);
}

/* The last news of an answer come while a piece is stuck in the socket, and then the client goes.
 */
static void test_reader_leaves_at_the_end(void **state)
{
    (void)state;
    struct client c;
    compute_unread(&c);
    client_close(&c);
    serve_settle(&serve);
}

static double sum_of(enum metric_histogram which)
{
    return serve.metrics.model[0].histogram[which].sum;
}

static void test_pause_of_a_reader(void **state)
{
    (void)state;
    enum { ANSWERS = 4, PAUSE_MS = 300, LARGE = 4 << 20 };
    const int bytes = LARGE;
    struct client c;
    double between = sum_of(HIST_BETWEEN);
    double whole = sum_of(HIST_WHOLE);
    uint64_t start = now_ns();
    compute_unread(&c);
    double computing = seconds_between(start, now_ns());
    /* Longer than anything that it could hide in. */
    uint64_t until = clock_ms() + (uint64_t)(computing * 1e3) + PAUSE_MS;
    while (clock_ms() < until)
        rig_turn(&serve.g);
    assert_int_equal(setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)), 0);
    until = clock_ms() + PATIENCE_MS;
    while (serve.env.first && clock_ms() < until) {
        rig_turn(&serve.g);
        client_read(&c);
    }
    client_close(&c);
    serve_settle(&serve);
    between = sum_of(HIST_BETWEEN) - between;
    whole = sum_of(HIST_WHOLE) - whole;
    assert_true(between > 0 && between <= whole && whole <= ANSWERS * computing);
}

/* What is limited is told by the formats of OpenAI, and by no others. */
static void test_limits_are_told(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        const char *body;
        int want;
    } rows[] = {
        {"/v1/completions", "{\"prompt\":\"Paris is\",\"max_tokens\":2}", 6},
        {"/v1/completions", "{\"prompt\":\"Paris is\",\"max_tokens\":2,\"stream\":true}", 6},
        {"/v1/messages",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],\"max_tokens\":5,\"model\":"
         "\"demo\"}",
         0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct client c;
        client_open(&c, &serve.g);
        ask(&c, rows[i].path, rows[i].body);
        client_wait_text(&serve, &c, "\r\n\r\n");
        assert_int_equal(count_text(&c, "x-ratelimit-"), rows[i].want);
        if (rows[i].want) {
            char line[64];
            (void)snprintf(line, sizeof(line), "x-ratelimit-limit-requests: %d\r\n",
                           serve.registry.model[0].limits.live_max);
            assert_int_equal(count_text(&c, line), 1);
            assert_int_equal(count_text(&c, "x-ratelimit-reset-tokens: 0."), 1);
        }
        client_close(&c);
        serve_settle(&serve);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_comments),
        cmocka_unit_test(test_failure_while_waiting),
        cmocka_unit_test(test_comment_before_the_first_token),
        cmocka_unit_test(test_reader_leaves_at_the_end),
        cmocka_unit_test(test_pause_of_a_reader),
        cmocka_unit_test(test_limits_are_told),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

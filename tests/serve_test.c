/* Aim: a stream that has nothing to say says so, in comments that every client skips.
 *
 * Negative space: comments among events, and one that would interrupt a write. */
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
    serve_open(&serve, &rig_limits);
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
     "\"max_tokens\":60,\"ignore_eos\":true}"},
    {"/v1/completions",
     "{\"prompt\":\"Paris is\",\"stream\":true,\"max_tokens\":60,\"ignore_eos\":true}"},
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_comments),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

/* Aim: memory that runs out costs the connection it was meant for and nothing else. One scenario
 * runs again and again; the n-th allocation fails, alone or with all that follow, for every n.
 * After it the set must serve the next client, and at the end everything must be closed and freed.
 *
 * Needs the linker's --wrap for malloc, calloc and realloc; without it the test is skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/conn_rig.h"

#define H "Host: a\r\n"

static struct {
    bool on;
    bool forever; /* all from `at` on, not only that one */
    long at;      /* 0: none */
    long n;
} fault;

void *__real_malloc(size_t n) __attribute__((weak));
void *__real_calloc(size_t n, size_t size) __attribute__((weak));
void *__real_realloc(void *old, size_t n) __attribute__((weak));
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t n);

static bool fails(void)
{
    if (!fault.on)
        return false;
    fault.n++;
    return fault.at && (fault.n == fault.at || (fault.forever && fault.n > fault.at));
}

void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *old, size_t n)
{
    return fails() ? NULL : __real_realloc(old, n);
}

static const char *const starts[] = {
    "GET /a HTTP/1.1\r\n" H "\r\nGET /b HTTP/1.1\r\n" H "\r\n",
    "POST /a HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET",
    "POST /a HTTP/1.1\r\n" H "Content-Length: 4\r\n\r\nabcd",
    "GET /stream HTTP/1.1\r\n" H "\r\nGET /a",
    "GET /hold HTTP/1.1\r\n" H "\r\nGET /more HTTP/1.1\r\n",
    "nonsense\r\n\r\n",
};

static void turn(struct rig *g)
{
    for (int i = 0; i < 20; i++)
        rig_turn(g);
}

/* Returns how many allocations there were. */
static long run(long at, bool forever)
{
    struct rig g;
    struct client c[ARRAY_LEN(starts)];
    rig_open(&g, &rig_limits);
    log_setup(LOG_ERROR, false);
    for (size_t i = 0; i < ARRAY_LEN(starts); i++)
        client_open(&c[i], &g);
    fault.at = at;
    fault.forever = forever;
    fault.n = 0;
    fault.on = true;
    turn(&g);
    /* The rig holds one connection at a time: the stream is over before the next is held. */
    for (size_t i = 0; i < ARRAY_LEN(starts); i++) {
        client_text(&g, &c[i], starts[i]);
        turn(&g);
    }
    if (g.held)
        rig_respond(g.held, "x", "y", "z", "");
    turn(&g);
    fault.on = false;
    for (size_t i = 0; i < ARRAY_LEN(starts); i++)
        client_close(&c[i]);
    struct client next;
    client_open(&next, &g);
    client_text(&g, &next, "GET /a HTTP/1.1\r\n" H "\r\n");
    client_wait(&g, &next, 50);
    assert_memory_equal(next.got.data, "HTTP/1.1 200 OK\r\n", 17);
    client_close(&next);
    rig_close(&g);
    return fault.n;
}

static void test_every_allocation(void **state)
{
    (void)state;
    if (!__real_malloc) {
        print_message("skipped: linked without --wrap\n");
        skip();
    }
    long n = run(0, false);
    assert_true(n > 20);
    for (long at = 1; at <= n; at++) {
        run(at, false);
        run(at, true);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_allocation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

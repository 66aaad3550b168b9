/* Aim: memory that runs out anywhere between a request's first byte and its answer's last, on the
 * loop, on a worker, in the engine, in libuv, in cJSON, costs the requests it happens to and
 * nothing else. A scenario of every kind of request runs again and again; the n-th allocation
 * fails, alone or with all after it. Then everything has let go, and the next request has its whole
 * answer.
 *
 * Threads share the count, so the same n is not always the same place; what must hold does not
 * depend on it. FIRSTLIGHT_EVERY_FAULT=1 tries every n, otherwise an even choice of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/serve_rig.h"

#include <cjson/cJSON.h>
#include <stdatomic.h>

enum { RUNS_MAX = 800, SCENARIO_MS = 400, TURNS_MIN = 40 };

static struct {
    atomic_bool on;
    atomic_bool forever;
    atomic_long at; /* 0: none */
    atomic_long n;
} fault;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t n);

static bool fails(void)
{
    if (!atomic_load(&fault.on))
        return false;
    long n = atomic_fetch_add(&fault.n, 1) + 1;
    long at = atomic_load(&fault.at);
    return at && (n == at || (atomic_load(&fault.forever) && n > at));
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

#define HEAD "POST %s HTTP/1.1\r\nHost: a\r\n"
#define CHAT "{\"messages\":[{\"role\":\"user\",\"content\":\"Hello!\"}],\"max_tokens\":3"

static const struct {
    const char *path;
    const char *body;
} requests[] = {
    {"/v1/chat/completions", CHAT "}"},
    {"/v1/chat/completions", CHAT ",\"stream\":true,\"logprobs\":true,\"top_logprobs\":2}"},
    {"/v1/completions", "{\"prompt\":\"Paris is\",\"max_tokens\":3,\"stop\":[\"zz\"],\"echo\":true,"
                        "\"logit_bias\":{\"5\":1}}"},
    {"/client/v4/accounts/a/ai/run/@cf/meta/llama-2-7b-chat-int8",
     "{\"prompt\":\"Hi\",\"stream\":true,\"max_tokens\":3}"},
    {"/v1/chat/completions", "{\"messages\":7}"},
    {"/v1/chat/completions", CHAT},
};

static void send_request(struct serve *s, struct client *c, size_t i)
{
    struct buf b = {0};
    buf_printf(&b, HEAD, requests[i].path);
    buf_printf(&b, "Content-Length: %zu\r\n\r\n%s", strlen(requests[i].body), requests[i].body);
    send(c->fd, b.data, b.n, MSG_NOSIGNAL);
    (void)s;
    buf_free(&b);
}

/* A whole answer and one that ends its stream are the same as without faults. */
static void serves_on(struct serve *s)
{
    struct client c;
    client_open(&c, &s->g);
    send_request(s, &c, 1);
    client_wait_text(s, &c, "data: [DONE]\n\n\r\n0\r\n\r\n");
    send_request(s, &c, 0);
    client_wait_text(s, &c, "\"finish_reason\":\"length\"");
    client_close(&c);
    serve_settle(s);
}

static long run(struct serve *s, long at, bool forever)
{
    struct client c[ARRAY_LEN(requests)];
    for (size_t i = 0; i < ARRAY_LEN(c); i++) {
        client_open(&c[i], &s->g);
        send_request(s, &c[i], i);
    }
    fault.at = at;
    fault.forever = forever;
    fault.n = 0;
    fault.on = true;
    uint64_t until = clock_ms() + SCENARIO_MS;
    for (int i = 0; i < TURNS_MIN || (s->env.first && clock_ms() < until); i++) {
        rig_turn(&s->g);
        usleep(20);
    }
    fault.on = false;
    for (size_t i = 0; i < ARRAY_LEN(c); i++)
        client_close(&c[i]);
    serve_settle(s);
    return fault.n;
}

static void test_every_allocation(void **state)
{
    (void)state;
    static struct serve s;
    serve_open(&s, &rig_limits);
    log_setup(LOG_ERROR, false);
    serves_on(&s);
    long n = run(&s, 0, false);
    assert_true(n > 200);
    long step = getenv("FIRSTLIGHT_EVERY_FAULT") || n < RUNS_MAX / 2 ? 1 : n / (RUNS_MAX / 2) + 1;
    print_message("%ld allocations, every %ld. fails\n", n, step);
    for (long at = 1; at <= n; at += step) {
        run(&s, at, false);
        run(&s, at + step / 2, true);
        serves_on(&s);
    }
    serve_close(&s);
}

int main(void)
{
    /* Libraries that are linked dynamically have their own way to malloc(). */
    cJSON_InitHooks(&(cJSON_Hooks){.malloc_fn = __wrap_malloc, .free_fn = free});
    uv_replace_allocator(__wrap_malloc, __wrap_realloc, __wrap_calloc, free);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_allocation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#ifndef TESTS_SERVE_RIG_H
#define TESTS_SERVE_RIG_H

/* The whole way of a request in one process: sockets, routes, formats, tokenizer, scheduler and the
 * demo model, with the loop turned by hand as in conn_rig.h. Opened once for a program, since
 * loading is not what is tested. To be included by one file. */
#include "tests/conn_rig.h"

#include "server/api.h"

struct serve {
    struct rig g; /* loop, listener, set, port */
    struct options options;
    struct registry registry;
    struct metrics metrics;
    struct stream_env env;
    struct keys *keys;
    struct cors *cors;
    struct api api;
    uv_async_t news;
};

static void serve_wake(void *arg)
{
    uv_async_send(arg);
}

static void serve_news(uv_async_t *handle)
{
    struct serve *s = handle->data;
    struct sched *sched = s->registry.model[0].sched;
    for (struct sched_req *r = sched_poll(sched); r; r = sched_poll(sched))
        stream_on_news(sched_user(r));
}

static inline void serve_load(struct serve *s)
{
    struct served *m = &s->registry.model[0];
    char err[512] = "";
    char *argv[] = {(char *)"firstlight", (char *)"serve", (char *)"--threads", (char *)"1"};
    if (options_parse(&s->options, ARRAY_LEN(argv), argv, err, sizeof(err)))
        fail_msg("%s", err);
    enum status status = registry_inspect(&s->registry, &s->options, err, sizeof(err));
    if (status == OK)
        status = registry_load(&s->registry, &s->options, NULL, NULL, err, sizeof(err));
    if (status == OK)
        status = sched_open(&m->sched, m->model, &m->limits, serve_wake, &s->news);
    if (status)
        fail_msg("%s", err);
}

static inline void serve_connect(struct serve *s)
{
    struct served *m = &s->registry.model[0];
    char err[256];
    metrics_init(&s->metrics);
    assert_int_equal(keys_open(&s->keys, &s->options.api_key, "", err, sizeof(err)), OK);
    assert_int_equal(cors_open(&s->cors, &s->options.cors_origin, err, sizeof(err)), OK);
    s->env = (struct stream_env){
        .loop = &s->g.loop,
        .registry = &s->registry,
        .metrics = &s->metrics,
        .live_max = m->limits.live_max,
        .seqs_max = m->limits.step_seqs_max,
        .request_ms = 60000,
        .ping_ns = 15000000000u,
        .ready = true,
    };
    s->api = (struct api){.options = &s->options,
                          .env = &s->env,
                          .conns = s->g.set,
                          .keys = s->keys,
                          .cors = s->cors,
                          .health = HEALTH_OK,
                          .address = "http://127.0.0.1"};
    s->g.set->handler = (struct conn_handler){api_on_request, api_on_error, &s->api};
}

static inline void serve_open(struct serve *s, const struct conn_limits *limits)
{
    memset(s, 0, sizeof(*s));
    rig_open(&s->g, limits);
    assert_int_equal(uv_async_init(&s->g.loop, &s->news, serve_news), 0);
    s->news.data = s;
    serve_load(s);
    serve_connect(s);
}

static inline void serve_close(struct serve *s)
{
    sched_close(s->registry.model[0].sched);
    s->registry.model[0].sched = NULL;
    uv_close((uv_handle_t *)&s->news, NULL);
    rig_close(&s->g);
    keys_close(s->keys);
    cors_close(s->cors);
    registry_close(&s->registry);
}

/* Until nobody is connected and nothing runs. */
static inline void serve_settle(struct serve *s)
{
    uint64_t until = clock_ms() + PATIENCE_MS;
    while (conn_set_count(s->g.set) || s->env.n_live || s->env.first) {
        rig_turn(&s->g);
        if (clock_ms() > until)
            fail_msg("%d connections, %d answers are left", conn_set_count(s->g.set),
                     s->env.n_live);
    }
}

static inline void client_wait_text(struct serve *s, struct client *c, const char *text)
{
    uint64_t until = clock_ms() + PATIENCE_MS;
    while (!c->got.n || !memmem(c->got.data, c->got.n, text, strlen(text))) {
        rig_turn(&s->g);
        client_read(c);
        if (c->ended || c->reset || clock_ms() > until)
            fail_msg("no '%s' in %.*s", text, (int)c->got.n, c->got.n ? c->got.data : "");
    }
}

#endif

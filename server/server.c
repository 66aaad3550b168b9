/* Making the parts, running the loop, freeing the parts in reverse order. What happens in between
 * stands in server_load.c, server_watch.c, server_door.c and server_end.c. */
#include "server/server.h"

#include "server/listen.h"
#include "server/process.h"
#include "server/server_private.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static bool line_fails(const char *what, int err)
{
    if (err)
        log_line(LOG_ERROR, "%s: %s", what, uv_strerror(err));
    return err != 0;
}

static void work_nothing(uv_work_t *work)
{
    (void)work;
}

static void after_nothing(uv_work_t *work, int cancelled)
{
    (void)work;
    (void)cancelled;
}

/* libuv starts its workers with the first work it is given, and aborts when it cannot. That shall
 * be now and not at the first request. */
static enum status start_workers(struct server *s)
{
    int err = uv_queue_work(&s->loop, &s->first_work, work_nothing, after_nothing);
    return line_fails("workers", err) ? E_IO : OK;
}

static enum status open_handles(struct server *s)
{
    if (line_fails("wake", uv_async_init(&s->loop, &s->news, server_on_news)) ||
        line_fails("wake", uv_async_init(&s->loop, &s->loaded, server_on_loaded)) ||
        line_fails("timer", uv_timer_init(&s->loop, &s->timer)) ||
        line_fails("signals", uv_signal_init(&s->loop, &s->term)) ||
        line_fails("signals", uv_signal_init(&s->loop, &s->interrupt)) ||
        line_fails("signals", uv_signal_init(&s->loop, &s->hangup)) ||
        line_fails("rest", uv_prepare_init(&s->loop, &s->rest)))
        return E_IO;
    s->rest.data = s;
    s->hangup.data = s;
    s->news.data = s;
    s->loaded.data = s;
    s->timer.data = s;
    s->term.data = s;
    s->interrupt.data = s;
    if (line_fails("signals", uv_signal_start(&s->term, server_on_signal, SIGTERM)) ||
        line_fails("signals", uv_signal_start(&s->interrupt, server_on_signal, SIGINT)) ||
        line_fails("signals", uv_signal_start(&s->hangup, server_on_hangup, SIGHUP)) ||
        line_fails("rest", uv_prepare_start(&s->rest, server_on_rest)))
        return E_IO;
    return OK;
}

static enum status open_conns(struct server *s)
{
    const struct options *o = s->options;
    const struct conn_limits limits = {
        .conns_max = process_make_room(o->max_conns),
        .address_conns_max = o->address_conns,
        .requests_max = o->conn_requests,
        .ahead_bytes_max = o->ahead_bytes,
        .head_bytes_max = o->head_bytes,
        .head_fields_max = o->head_fields,
        .target_bytes_max = o->target_bytes,
        .body_bytes_max = o->body_bytes,
        .bodies_bytes_max = o->bodies_bytes,
        .body_rate_min = o->body_rate,
        .handshake_ms_max = o->handshake_ms,
        .head_ms_max = o->head_ms,
        .body_ms_max = o->body_ms,
        .idle_ms_max = o->idle_ms,
        .write_ms_max = o->write_ms,
        .drain_grace_ms = o->drain_grace_ms,
    };
    const struct conn_handler handler = {
        .on_request = api_on_request,
        .on_error = api_on_error,
        .arg = &s->api,
    };
    return conn_set_open(&s->conns, &s->loop, &limits, &handler);
}

static void connect_parts(struct server *s)
{
    const struct options *o = s->options;
    s->env = (struct stream_env){
        .loop = &s->loop,
        .registry = &s->registry,
        .metrics = &s->metrics,
        .request_ms = o->request_ms,
        .ping_ns = o->ping_ms * 1000000u,
        .padding = o->workers_padding,
    };
    s->api.options = o;
    s->api.env = &s->env;
    s->api.conns = s->conns;
    s->api.keys = s->keys;
    s->api.cors = s->cors;
    s->api.access = s->access;
    s->api.address = listeners_address(s->listeners);
    conn_set_tls(s->conns, s->tls);
}

static enum status start(struct server *s)
{
    enum status status = open_handles(s);
    if (status == OK)
        status = start_workers(s);
    if (status == OK)
        status = open_conns(s);
    if (status == OK)
        status = listeners_open(&s->listeners, &s->loop, s->options, s->conns);
    if (status)
        return status;
    connect_parts(s);
    return server_load_start(s);
}

static void stop(struct server *s)
{
    /* A load cannot be interrupted. The process was asked to end, so it ends: what the
     * loader holds goes back with the process. */
    if (s->loader_started && !s->loader_done)
        _exit(s->exit_code);
    conn_set_free(s->conns);
    (void)uv_loop_close(&s->loop);
    listeners_free(s->listeners);
    registry_close(&s->registry);
}

static void run(struct server *s)
{
    if (line_fails("event loop", uv_loop_init(&s->loop))) {
        s->exit_code = 1;
        return;
    }
    if (start(s)) {
        s->exit_code = 1;
        server_end_early(s);
    }
    process_wakes_early();
    (void)uv_run(&s->loop, UV_RUN_DEFAULT);
    stop(s);
}

int server_run(const struct options *o)
{
    char err[SERVER_ERROR_MAX] = "";
    struct server *s = calloc(1, sizeof(*s));
    if (!s) {
        log_line(LOG_ERROR, "out of memory");
        return 1;
    }
    s->options = o;
    metrics_init(&s->metrics);
    enum status status = server_door_open(s, err, sizeof(err));
    if (status == OK)
        status = registry_inspect(&s->registry, o, err, sizeof(err));
    if (status == OK) {
        run(s);
    } else {
        log_line(LOG_ERROR, "%s", err[0] ? err : status_text(status));
        s->exit_code = 1;
    }
    server_door_close(s);
    int code = s->exit_code;
    free(s);
    return code;
}

/* From the first weights to the line that says ready. A thread of its own loads while the loop
 * already answers /health; what it writes (the registry, load_status, load_error) is its alone
 * until it rings `loaded`, then the loop's. The schedulers are opened on the loop, so whatever runs
 * there sees all of them or none. */
#include "server/server_private.h"

#include <stdio.h>

static void *load_main(void *arg)
{
    struct server *s = arg;
    progress_start(&s->progress, "loading");
    s->load_status = registry_load(&s->registry, s->options, progress_update, &s->progress,
                                   s->load_error, sizeof(s->load_error));
    progress_end(&s->progress);
    uv_async_send(&s->loaded);
    return NULL;
}

static void wake(void *arg)
{
    uv_async_send(arg);
}

static void announce(struct server *s)
{
    s->metrics.ready_ns = now_ns();
    for (int32_t i = 0; i < s->registry.n; i++) {
        const struct served *m = &s->registry.model[i];
        char bytes[BYTES_TEXT_MAX];
        bytes_text(bytes, m->info.weight_bytes);
        log_line(LOG_INFO, "ready: %s in %.2f s (%s, weights %s, context %d, cache %lld tokens)",
                 m->names.name[0], (double)(s->metrics.ready_ns - s->metrics.started_ns) * 1e-9,
                 m->backend, bytes, m->info.context_max,
                 (long long)m->info.n_blocks * m->info.block_tokens);
    }
    log_line(LOG_INFO,
             "try: curl -sN %s/v1/chat/completions -d '{\"stream\":true,\"messages\":"
             "[{\"role\":\"user\",\"content\":\"What is the capital of France?\"}]}'",
             s->api.address);
}

static enum status open_engines(struct server *s)
{
    for (int32_t i = 0; i < s->registry.n; i++) {
        struct served *m = &s->registry.model[i];
        enum status status = sched_open(&m->sched, m->model, &m->limits, wake, &s->news);
        if (status) {
            (void)snprintf(s->load_error, sizeof(s->load_error), "model %s: scheduler: %s",
                           m->names.name[0], status_text(status));
            return status;
        }
        s->env.live_max += m->limits.live_max;
        s->env.seqs_max += m->limits.step_seqs_max;
    }
    return OK;
}

static void load_failed(struct server *s, enum status status)
{
    log_line(LOG_ERROR, "%s", s->load_error[0] ? s->load_error : status_text(status));
    server_fail(s);
}

void server_on_loaded(uv_async_t *handle)
{
    struct server *s = handle->data;
    if (s->loader_done)
        return;
    (void)pthread_join(s->loader, NULL);
    s->loader_done = true;
    enum status status = s->load_status;
    if (status == OK && s->phase == LOADING)
        status = open_engines(s);
    if (status) {
        load_failed(s, status);
        return;
    }
    if (s->phase != LOADING)
        return;
    server_enter(s, SERVING);
    s->env.ready = true;
    s->api.health = HEALTH_OK;
    announce(s);
    server_watch_start(s);
}

enum status server_load_start(struct server *s)
{
    server_enter(s, LOADING);
    s->loader_started = pthread_create(&s->loader, NULL, load_main, s) == 0;
    if (s->loader_started)
        return OK;
    log_line(LOG_ERROR, "cannot start a thread");
    return E_NOMEM;
}

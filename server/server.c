#include "server/server.h"

#include "server/api.h"
#include "server/listen.h"
#include "server/progress.h"
#include "server/tls.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <uv.h>

/* The loop thread: the listeners, all connections, two async handles that other threads may
 * ring (the engine: there is news; the loader: the weights are there, or not), signals,
 * one timer.
 *
 *   LOADING -> SERVING -> LEAVING -> DRAINING -> CUTTING -> CLOSING -> the loop ends
 *
 * LEAVING only says so in /health, DRAINING takes nothing new, CUTTING ends every answer
 * with an error, CLOSING closes every connection and waits for the last answer to be
 * released; then nothing is left that the engine could ring for, and it is stopped.
 * A second signal jumps to CUTTING. Freeing is in reverse order of creation. */

enum phase { LOADING, SERVING, LEAVING, DRAINING, CUTTING, CLOSING, ENDED };

enum {
    FDS_RESERVED = 256, /* model files, handles of the loop, the device */
    CONNS_MIN = 16,
    TICK_MS = 10,      /* while it ends */
    WATCH_MS = 1000,   /* while it serves */
    REPORT_MS = 10000, /* between two lines about what was served */
    CUT_MS = 1000,     /* that connections have to take their last bytes */
    STUCK_MS = 10000,  /* that the engine has to let go of cancelled requests */
    ERR_MAX = 512,
};

/* Of one model: when its engine was last seen to move. */
struct watched {
    uint64_t steps;
    uint64_t step_ms;
};

struct server {
    const struct options *options;
    enum phase phase;
    uint64_t phase_ms; /* when it began, uv_now() */
    int exit_code;
    struct progress progress;
    uv_loop_t loop;
    struct listeners *listeners;
    uv_prepare_t rest; /* before the loop waits */
    uv_work_t first_work;
    uv_async_t news;
    uv_async_t loaded;
    uv_signal_t term;
    uv_signal_t interrupt;
    uv_signal_t hangup;
    uv_timer_t timer;
    struct conn_set *conns;
    struct keys *keys;
    struct cors *cors;
    struct tls_config *tls; /* NULL: off */
    struct access_log *access;
    struct registry registry;
    struct metrics metrics;
    struct stream_env env;
    struct api api;
    pthread_t loader;
    bool loader_started;
    bool loader_done;        /* told by `loaded`; the loop's */
    enum status load_status; /* the loader's until then */
    char load_error[ERR_MAX];
    bool conns_empty;
    struct watched watched[REGISTRY_MAX];
    uint64_t report_ms;
    uint64_t tokens_reported;
};

static void enter(struct server *s, enum phase phase)
{
    s->phase = phase;
    s->phase_ms = uv_now(&s->loop);
}

static uint64_t in_phase_ms(const struct server *s)
{
    return uv_now(&s->loop) - s->phase_ms;
}

static bool line_fails(const char *what, int err)
{
    if (err)
        log_line(LOG_ERROR, "%s: %s", what, uv_strerror(err));
    return err != 0;
}

/* -- the end -- */

static void close_handle(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

static void end_loop(struct server *s)
{
    enter(s, ENDED);
    for (int32_t i = 0; i < s->registry.n; i++) {
        sched_close(s->registry.model[i].sched);
        s->registry.model[i].sched = NULL;
    }
    uv_walk(&s->loop, close_handle, NULL);
}

static void on_conns_empty(void *arg)
{
    struct server *s = arg;
    s->conns_empty = true;
}

static void close_conns(struct server *s)
{
    enter(s, CLOSING);
    conn_set_close(s->conns, on_conns_empty, s);
}

static void cut(struct server *s)
{
    enter(s, CUTTING);
    s->env.draining = true;
    listeners_close(s->listeners);
    conn_set_drain(s->conns);
    streams_cut(&s->env);
}

static void drain(struct server *s)
{
    enter(s, DRAINING);
    s->env.draining = true;
    listeners_close(s->listeners);
    conn_set_drain(s->conns);
}

/* What a lost device or an endless step leaves: no way to end the engine's thread. */
static void give_up(void)
{
    log_line(LOG_ERROR, "the engine does not stop; leaving without it");
    _exit(1);
}

static void end_tick(struct server *s)
{
    bool quiet = s->env.n_live == 0 && conn_set_count(s->conns) == 0;
    switch (s->phase) {
    case LOADING:
    case SERVING:
    case ENDED:
        return;
    case LEAVING:
        if (in_phase_ms(s) >= s->options->drain_delay_ms)
            drain(s);
        return;
    case DRAINING:
        if (quiet)
            close_conns(s);
        else if (in_phase_ms(s) >= s->options->drain_ms)
            cut(s);
        return;
    case CUTTING:
        if (quiet || in_phase_ms(s) >= CUT_MS)
            close_conns(s);
        return;
    case CLOSING:
        if (s->conns_empty && s->env.n_live == 0)
            end_loop(s);
        else if (in_phase_ms(s) >= STUCK_MS)
            give_up();
        return;
    }
}

static void on_end_tick(uv_timer_t *timer)
{
    end_tick(timer->data);
}

static void leave(struct server *s)
{
    enter(s, LEAVING);
    s->api.health = HEALTH_LEAVING;
    uv_timer_start(&s->timer, on_end_tick, 0, TICK_MS);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct server *s = handle->data;
    if (s->phase < LEAVING) {
        log_line(LOG_INFO, "%s: finishing %d answers, at most %.1f s",
                 number == SIGTERM ? "SIGTERM" : "SIGINT", s->env.n_live,
                 (double)(s->options->drain_delay_ms + s->options->drain_ms) * 1e-3);
        leave(s);
    } else if (s->phase < CUTTING) {
        log_line(LOG_INFO, "second signal: ending at once");
        cut(s);
    }
}

/* -- while it serves -- */

/* False: it has work and has made no step for too long. */
static bool moves(const struct server *s, struct watched *w, const struct sched_stats *stats)
{
    uint64_t now = uv_now(&s->loop);
    if (stats->steps != w->steps || stats->running + stats->waiting == 0) {
        w->steps = stats->steps;
        w->step_ms = now;
    }
    return now - w->step_ms < s->options->stall_ms;
}

static void watch_engines(struct server *s)
{
    bool all_move = true;
    for (int32_t i = 0; i < s->registry.n; i++) {
        struct sched_stats stats;
        sched_stats(s->registry.model[i].sched, &stats);
        all_move = moves(s, &s->watched[i], &stats) && all_move;
        if (stats.failed)
            s->api.health = HEALTH_FAILED;
    }
    if (s->api.health != HEALTH_FAILED)
        s->api.health = all_move ? HEALTH_OK : HEALTH_STALLED;
}

static void report(struct server *s)
{
    uint64_t now = uv_now(&s->loop);
    uint64_t tokens = 0;
    if (now - s->report_ms < REPORT_MS)
        return;
    for (int32_t i = 0; i < s->registry.n; i++)
        tokens += s->metrics.model[i].generation_tokens;
    for (int32_t i = 0; i < s->registry.n && tokens != s->tokens_reported; i++) {
        struct sched_stats stats;
        sched_stats(s->registry.model[i].sched, &stats);
        log_line(LOG_INFO, "%s: %d running, %d waiting, %d of %d cache blocks",
                 s->registry.model[i].names.name[0], stats.running, stats.waiting,
                 stats.blocks_used, stats.blocks_total);
    }
    if (tokens != s->tokens_reported)
        log_line(LOG_INFO, "%.1f tokens/s",
                 (double)(tokens - s->tokens_reported) * 1e3 / (double)(now - s->report_ms));
    s->report_ms = now;
    s->tokens_reported = tokens;
}

/* Every request would be refused from now on. Nothing here can bring a device back, but
 * whoever watches the process can start it anew. */
static void leave_failed(struct server *s)
{
    log_line(LOG_ERROR, "the device is lost; ending, so that the process can be started anew");
    s->exit_code = 1;
    cut(s);
    s->api.health = HEALTH_FAILED;
    uv_timer_start(&s->timer, on_end_tick, 0, TICK_MS);
}

static void on_watch(uv_timer_t *timer)
{
    struct server *s = timer->data;
    enum api_health before = s->api.health;
    watch_engines(s);
    if (s->api.health == HEALTH_FAILED) {
        leave_failed(s);
        return;
    }
    report(s);
    streams_keep_alive(&s->env);
    if (s->api.health != before)
        log_line(s->api.health == HEALTH_OK ? LOG_INFO : LOG_ERROR, "the engine %s",
                 s->api.health == HEALTH_OK ? "makes steps again" : "has work and makes no steps");
}

static void on_news(uv_async_t *handle)
{
    struct server *s = handle->data;
    for (int32_t i = 0; i < s->registry.n; i++) {
        struct sched *sched = s->registry.model[i].sched;
        struct sched_req *r;
        while (sched && (r = sched_poll(sched)))
            stream_on_news(sched_user(r));
    }
}

static void wake(void *arg)
{
    uv_async_send(arg);
}

/* -- loading -- */

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
            (void)snprintf(s->load_error, sizeof(s->load_error), "scheduler: %s",
                           status_text(status));
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
    s->exit_code = 1;
    s->api.health = HEALTH_FAILED;
    if (s->phase == LOADING)
        cut(s);
    uv_timer_start(&s->timer, on_end_tick, 0, TICK_MS);
}

static void on_loaded(uv_async_t *handle)
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
    enter(s, SERVING);
    s->env.ready = true;
    s->api.health = HEALTH_OK;
    announce(s);
    s->report_ms = uv_now(&s->loop);
    for (int32_t i = 0; i < s->registry.n; i++)
        s->watched[i].step_ms = s->report_ms;
    uint64_t watch_ms = s->options->stall_ms / 2;
    watch_ms = watch_ms < WATCH_MS ? watch_ms + 1 : WATCH_MS;
    uv_timer_start(&s->timer, on_watch, watch_ms, watch_ms);
}

/* -- secrets -- */

static enum status open_tls(struct tls_config **out, const struct options *o, char *err,
                            size_t err_size)
{
    *out = NULL;
    if (!o->tls_cert[0])
        return OK;
    enum status status = secret_file_check(o->tls_key, err, err_size);
    if (status)
        return status;
    return tls_config_open(out, o->tls_cert, o->tls_key, err, err_size);
}

static void reload_keys(struct server *s)
{
    char err[ERR_MAX] = "";
    struct keys *keys = NULL;
    const struct options *o = s->options;
    if (keys_open(&keys, &o->api_key, o->api_keys_file, err, sizeof(err))) {
        log_line(LOG_ERROR, "%s; the old keys stay", err);
        return;
    }
    keys_close(s->keys);
    s->keys = keys;
    s->api.keys = keys;
}

static void reload_tls(struct server *s)
{
    char err[ERR_MAX] = "";
    struct tls_config *tls = NULL;
    if (open_tls(&tls, s->options, err, sizeof(err))) {
        log_line(LOG_ERROR, "%s; the old certificate stays", err);
        return;
    }
    conn_set_tls(s->conns, tls);
    tls_config_close(s->tls);
    s->tls = tls;
}

/* What can change while answers run: each part as a whole, or not at all. */
static void on_hangup(uv_signal_t *handle, int number)
{
    struct server *s = handle->data;
    (void)number;
    log_line(LOG_INFO, "SIGHUP: reading keys and certificates again");
    access_reopen(s->access);
    reload_keys(s);
    reload_tls(s);
}

static void on_rest(uv_prepare_t *handle)
{
    const struct server *s = handle->data;
    access_flush(s->access);
}

/* Everything that can be wrong about the door without a socket. */
static enum status open_door(struct server *s, char *err, size_t err_size)
{
    const struct options *o = s->options;
    enum status status = keys_open(&s->keys, &o->api_key, o->api_keys_file, err, err_size);
    if (status == OK)
        status = cors_open(&s->cors, &o->cors_origin, err, err_size);
    if (status == OK)
        status = open_tls(&s->tls, o, err, err_size);
    if (status == OK)
        status = access_open(&s->access, o->access_log, o->access_file, err, err_size);
    return status;
}

static void close_door(struct server *s)
{
    access_close(s->access);
    tls_config_close(s->tls);
    cors_close(s->cors);
    keys_close(s->keys);
}

/* -- the start -- */

/* Room for connections among the open files this process may have. */
static int32_t raise_file_limit(int32_t wanted)
{
    struct rlimit files = {0};
    if (getrlimit(RLIMIT_NOFILE, &files))
        return wanted;
    files.rlim_cur = files.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &files);
    if (getrlimit(RLIMIT_NOFILE, &files) || files.rlim_cur == RLIM_INFINITY)
        return wanted;
    rlim_t room =
        files.rlim_cur > FDS_RESERVED + CONNS_MIN ? files.rlim_cur - FDS_RESERVED : CONNS_MIN;
    return room < (rlim_t)wanted ? (int32_t)room : wanted;
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
    if (line_fails("wake", uv_async_init(&s->loop, &s->news, on_news)) ||
        line_fails("wake", uv_async_init(&s->loop, &s->loaded, on_loaded)) ||
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
    if (line_fails("signals", uv_signal_start(&s->term, on_signal, SIGTERM)) ||
        line_fails("signals", uv_signal_start(&s->interrupt, on_signal, SIGINT)) ||
        line_fails("signals", uv_signal_start(&s->hangup, on_hangup, SIGHUP)) ||
        line_fails("rest", uv_prepare_start(&s->rest, on_rest)))
        return E_IO;
    return OK;
}

static enum status open_conns(struct server *s)
{
    const struct options *o = s->options;
    const struct conn_limits limits = {
        .conns_max = raise_file_limit(o->max_conns),
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
    enter(s, LOADING);
    s->loader_started = pthread_create(&s->loader, NULL, load_main, s) == 0;
    if (s->loader_started)
        return OK;
    log_line(LOG_ERROR, "cannot start a thread");
    return E_NOMEM;
}

/* After a failed start the loop runs once more, to close what there is. */
static void end_early(struct server *s)
{
    if (s->conns)
        conn_set_close(s->conns, NULL, NULL);
    listeners_close(s->listeners);
    uv_walk(&s->loop, close_handle, NULL);
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

/* The kernel's struct sched_attr; libc has it only in newer versions. */
struct time_slice {
    uint32_t size;
    uint32_t policy; /* 0: the ordinary one */
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns;
    uint64_t deadline_ns;
    uint64_t period_ns;
};

enum { LOOP_SLICE_NS = 100000, RESET_ON_FORK = 1 };

/* Asks for a short time slice for the calling thread. The loop works for microseconds at a
 * time while the compute threads fill every core; from Linux 6.12 on a short slice lets it
 * in as soon as it wakes, where else tokens wait for the next tick and leave in lumps.
 * Threads started from here get the usual slice. Elsewhere nothing changes, which is fine. */
static void loop_wakes_early(void)
{
    errno = 0;
    struct time_slice t = {.size = sizeof(t),
                           .flags = RESET_ON_FORK,
                           .nice = getpriority(PRIO_PROCESS, 0),
                           .runtime_ns = LOOP_SLICE_NS};
    if (errno == 0)
        (void)syscall(SYS_sched_setattr, 0, &t, 0);
}

int server_run(const struct options *o)
{
    char err[ERR_MAX] = "";
    struct server *s = calloc(1, sizeof(*s));
    if (!s) {
        log_line(LOG_ERROR, "out of memory");
        return 1;
    }
    s->options = o;
    metrics_init(&s->metrics);
    enum status status = open_door(s, err, sizeof(err));
    if (status == OK)
        status = registry_inspect(&s->registry, o, err, sizeof(err));
    if (status) {
        log_line(LOG_ERROR, "%s", err[0] ? err : status_text(status));
        close_door(s);
        free(s);
        return 1;
    }
    if (line_fails("event loop", uv_loop_init(&s->loop))) {
        close_door(s);
        free(s);
        return 1;
    }
    if (start(s)) {
        s->exit_code = 1;
        end_early(s);
    }
    loop_wakes_early();
    (void)uv_run(&s->loop, UV_RUN_DEFAULT);
    stop(s);
    close_door(s);
    int code = s->exit_code;
    free(s);
    return code;
}

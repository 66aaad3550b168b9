/* The end, in phases that only this file moves on. Whatever begins it (a signal, a model that does
 * not load, a lost device) starts the timer, and each tick asks whether the phase is over: because
 * nothing is left in it, or because its time is. No phase waits for a peer without a limit. */
#include "server/server_private.h"

#include "server/listen.h"

#include <signal.h>
#include <unistd.h>

enum {
    TICK_MS = 10,
    CUT_MS = 1000,    /* that connections have to take their last bytes */
    STUCK_MS = 10000, /* that the engine has to let go of cancelled requests */
};

void server_enter(struct server *s, enum phase phase)
{
    s->phase = phase;
    s->phase_ms = uv_now(&s->loop);
}

static uint64_t in_phase_ms(const struct server *s)
{
    return uv_now(&s->loop) - s->phase_ms;
}

static void close_handle(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

static void end_loop(struct server *s)
{
    server_enter(s, ENDED);
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
    server_enter(s, CLOSING);
    conn_set_close(s->conns, on_conns_empty, s);
}

static void cut(struct server *s)
{
    server_enter(s, CUTTING);
    s->env.draining = true;
    listeners_close(s->listeners);
    conn_set_drain(s->conns);
    streams_cut(&s->env);
}

static void drain(struct server *s)
{
    server_enter(s, DRAINING);
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
    server_enter(s, LEAVING);
    s->api.health = HEALTH_LEAVING;
    uv_timer_start(&s->timer, on_end_tick, 0, TICK_MS);
}

void server_on_signal(uv_signal_t *handle, int number)
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

void server_fail(struct server *s)
{
    s->exit_code = 1;
    if (s->phase < LEAVING)
        cut(s);
    s->api.health = HEALTH_FAILED;
    uv_timer_start(&s->timer, on_end_tick, 0, TICK_MS);
}

void server_end_early(struct server *s)
{
    if (s->conns)
        conn_set_close(s->conns, NULL, NULL);
    listeners_close(s->listeners);
    uv_walk(&s->loop, close_handle, NULL);
}

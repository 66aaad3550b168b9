/* From ready to the first sign of the end: what the engines have made goes to the streams it
 * belongs to, and once a second come the questions that no event asks: does every engine move, is a
 * stream silent, what was served. Meanwhile nobody else sets the health that is shown. */
#include "server/server_private.h"

enum {
    WATCH_MS = 1000,
    REPORT_MS = 10000, /* between two lines about what was served */
};

void server_on_news(uv_async_t *handle)
{
    struct server *s = handle->data;
    for (int32_t i = 0; i < s->registry.n; i++) {
        struct sched *sched = s->registry.model[i].sched;
        struct sched_req *r;
        while (sched && (r = sched_poll(sched)))
            stream_on_news(sched_user(r));
    }
}

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

/* Nothing here can bring a device back, but whoever watches the process can start it anew. */
static void on_watch(uv_timer_t *timer)
{
    struct server *s = timer->data;
    enum api_health before = s->api.health;
    watch_engines(s);
    if (s->api.health == HEALTH_FAILED) {
        log_line(LOG_ERROR, "the device is lost; ending, so that the process can be started anew");
        server_fail(s);
        return;
    }
    report(s);
    streams_keep_alive(&s->env);
    if (s->api.health != before)
        log_line(s->api.health == HEALTH_OK ? LOG_INFO : LOG_ERROR, "the engine %s",
                 s->api.health == HEALTH_OK ? "makes steps again" : "has work and makes no steps");
}

void server_watch_start(struct server *s)
{
    s->report_ms = uv_now(&s->loop);
    for (int32_t i = 0; i < s->registry.n; i++)
        s->watched[i].step_ms = s->report_ms;
    uint64_t watch_ms = s->options->stall_ms / 2;
    watch_ms = watch_ms < WATCH_MS ? watch_ms + 1 : WATCH_MS;
    uv_timer_start(&s->timer, on_watch, watch_ms, watch_ms);
}

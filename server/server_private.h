#ifndef SERVER_SERVER_PRIVATE_H
#define SERVER_SERVER_PRIVATE_H

#include "server/access.h"
#include "server/api.h"
#include "server/conn.h"
#include "server/metrics.h"
#include "server/progress.h"

#include <pthread.h>
#include <uv.h>

/* Shared by server.c (the parts, made and freed), server_load.c (until the models are there),
 * server_watch.c (while they serve), server_door.c (keys and certificates) and server_end.c.
 *
 * The loop thread: the listeners, all connections, two async handles that other threads may
 * ring (the engine: there is news; the loader: the weights are there, or not), signals,
 * one timer.
 *
 *   LOADING -> SERVING -> LEAVING -> DRAINING -> CUTTING -> CLOSING -> ENDED
 *
 * LEAVING only says so in /health, DRAINING takes nothing new, CUTTING ends every answer
 * with an error, CLOSING closes every connection and waits for the last answer to be
 * released; then nothing is left that the engine could ring for, and it is stopped.
 * A second signal jumps to CUTTING, and so does what cannot be served any more. */

enum phase { LOADING, SERVING, LEAVING, DRAINING, CUTTING, CLOSING, ENDED };

enum { SERVER_ERROR_MAX = 512 };

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
    uv_timer_t timer; /* watches, then ends */
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
    char load_error[SERVER_ERROR_MAX];
    bool conns_empty;
    struct watched watched[REGISTRY_MAX];
    uint64_t report_ms;
    uint64_t tokens_reported;
};

/* server_load.c */
enum status server_load_start(struct server *s) MUST_CHECK;
void server_on_loaded(uv_async_t *handle);

/* server_watch.c */
void server_on_news(uv_async_t *handle);
void server_watch_start(struct server *s);

/* server_door.c */
/* Everything that can be wrong about the door without a socket. */
enum status server_door_open(struct server *s, char *err, size_t err_size) MUST_CHECK;
void server_door_close(struct server *s);
void server_on_hangup(uv_signal_t *handle, int number);
void server_on_rest(uv_prepare_t *handle);

/* server_end.c */
void server_enter(struct server *s, enum phase phase);
void server_on_signal(uv_signal_t *handle, int number);
/* Nothing can be served any more: the process will leave with status 1. */
void server_fail(struct server *s);
/* After a failed start the loop runs once more, to close what there is. */
void server_end_early(struct server *s);

#endif

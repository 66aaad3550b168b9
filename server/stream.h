#ifndef SERVER_STREAM_H
#define SERVER_STREAM_H

#include "server/registry.h"
#include "server/reply.h"

/* One answer being generated: the only place where a connection, a scheduler request
 * and text meet. Parsing -> tokenizing -> queued -> running -> done; freed when the
 * scheduler has finished with it, no worker holds it and the connection has let go. */
struct stream;
struct uv_loop_s;

/* So many more than may be alive are let in to be judged: the scheduler knows when there will
 * be room, and counts whom it turns away. */
enum { DOOR_MARGIN = 64 };

/* What every stream needs; built once in server.c. Loop thread only. */
struct stream_env {
    struct uv_loop_s *loop;
    struct registry *registry;
    struct metrics *metrics;
    struct stream *first; /* every one that is alive */
    int32_t n_live;       /* answers, of which a stream may have several */
    int32_t live_max;     /* over it: refused before the body is parsed */
    int32_t seqs_max;
    uint64_t request_ms;
    uint64_t ping_ns; /* silence after which a stream gets a comment */
    bool padding;     /* events of formats that can hide the length of their text do so */
    bool ready;       /* the models are loaded */
    bool draining;    /* no new ones */
};

/* Answers r, now or later. model: from the route or a header, NULL when the body names
 * it. x and model are copied. */
void stream_start(struct stream_env *env, struct conn *c, const struct exchange *x,
                  const char *model, const struct http_request *r);
/* The scheduler has news; user is what sched_user() says. */
void stream_on_news(void *user);
/* Once a second: a comment in every stream that has been silent for long, so that proxies
 * keep it and dead peers are found. */
void streams_keep_alive(struct stream_env *env);
/* The time to drain is over: every answer ends with an error. */
void streams_cut(struct stream_env *env);

#endif

#ifndef SERVER_API_H
#define SERVER_API_H

#include "server/cors.h"
#include "server/keys.h"
#include "server/stream.h"

/* Which request is meant by a path, may it pass, and who answers it: a table of routes
 * in api.c. Loop thread only. */

enum api_health { HEALTH_LOADING, HEALTH_OK, HEALTH_LEAVING, HEALTH_FAILED, HEALTH_STALLED };

struct api {
    const struct options *options;
    struct stream_env *env;
    struct conn_set *conns;
    const struct keys *keys;
    const struct cors *cors;
    struct access_log *access; /* NULL: none */
    enum api_health health;
    const char *address; /* as curl wants it: "http://127.0.0.1:8080" */
};

/* A conn_request_fn and a conn_error_fn; arg is the struct api. */
void api_on_request(struct conn *c, const struct http_request *r, void *arg);
const char *api_on_error(struct conn *c, const struct http_request *r, struct buf *body, int code,
                         const char *text, void *arg);

#endif

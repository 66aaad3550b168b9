#ifndef SERVER_API_H
#define SERVER_API_H

#include "server/stream.h"

/* Which request is meant by a path, may it pass, and who answers it: a table of routes
 * in api.c. Loop thread only. */

enum { API_ADDRESS_MAX = 96 };

enum api_health { HEALTH_LOADING, HEALTH_OK, HEALTH_LEAVING, HEALTH_FAILED, HEALTH_STALLED };

struct api {
    const struct options *options;
    struct stream_env *env;
    struct conn_set *conns;
    enum api_health health;
    char address[API_ADDRESS_MAX]; /* "127.0.0.1:8080" */
};

/* A conn_request_fn and a conn_error_fn; arg is the struct api. */
void api_on_request(struct conn *c, const struct http_request *r, void *arg);
void api_on_error(struct buf *body, int code, const char *text, void *arg);

#endif

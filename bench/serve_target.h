#ifndef BENCH_SERVE_TARGET_H
#define BENCH_SERVE_TARGET_H

#include "bench/serve_options.h"

#include <sys/socket.h>

/* The server under load: its address, and requests to it that wait for their answer, for what comes
 * before and after a run. */

enum { TARGET_HOST_BYTES = 256, TARGET_PATH_BYTES = 1024, TARGET_MODEL_BYTES = 256 };

struct serve_target {
    char host[TARGET_HOST_BYTES];     /* as in a Host line */
    char base[TARGET_PATH_BYTES];     /* path of --base-url, without a slash at the end */
    char endpoint[TARGET_PATH_BYTES]; /* path of a generating request */
    char model_id[TARGET_MODEL_BYTES];
    char model[TARGET_MODEL_BYTES]; /* the name to send */
    struct sockaddr_storage address;
    struct buf headers; /* lines that every request has */
};

/* Looks the name up, and asks for a model where none is named. E_INVALID, E_IO, with a line in err.
 */
enum status target_open(struct serve_target *out, const struct serve_options *o,
                        char err[OPTION_ERROR_BYTES]) MUST_CHECK;
void target_close(struct serve_target *t);

/* GET without a body, else POST of JSON. `path` stands behind the base. The answer's body goes into
 * out, whatever its status. E_IO: no answer, or none that is HTTP. */
enum status target_fetch(struct buf *out, int *status, const struct serve_target *t,
                         const char *path, const struct buf *body) MUST_CHECK;

#endif

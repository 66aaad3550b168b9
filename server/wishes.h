#ifndef SERVER_WISHES_H
#define SERVER_WISHES_H

#include "scheduler/sched.h"
#include "server/reply.h"

/* What the headers of a request ask for, beside its body: how long it may take, how soon its first
 * token should come, for whom it counts, and what its answer's headers should tell. What cannot
 * be read is not there: a header of this kind never makes a request fail. */

/* Into x->wish. */
void wishes_read(struct exchange *x, const struct http_request *r);

/* Into the parameters of a parsed request. ms_max: what the server gives any request. */
void wishes_apply(const struct exchange *x, struct gen_request *r, uint64_t ms_max);

/* Header lines of an answer: ORCA's load report, if it was asked for. Nothing when there is
 * no room. */
enum { LOAD_LINE_MAX = 192 };
void wishes_load_line(char out[LOAD_LINE_MAX], const struct exchange *x,
                      const struct sched_stats *stats);

/* x-ratelimit- lines, of what is limited here: requests that may be alive, and prompt tokens that
 * may wait. Reset is when the queue will be empty, as it moves now. */
enum { LIMIT_LINES_MAX = 384 };
void wishes_limit_lines(char out[LIMIT_LINES_MAX], const struct sched_options *limits,
                        const struct sched_stats *stats);

#endif

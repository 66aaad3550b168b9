#ifndef SERVER_QUERY_H
#define SERVER_QUERY_H

#include "server/wire.h"

/* A request that stands in a query, "prompt=Hello&stream=true", as the JSON body it means: a
 * browser's EventSource can send nothing else. Names are those of Workers AI's inputs; unknown ones
 * are ignored as in a body, but each must be well encoded and come once. E_INVALID with err filled,
 * or E_NOMEM. Appends one object. */
enum status query_object(struct buf *out, const char *query, struct api_error *err) MUST_CHECK;

#endif

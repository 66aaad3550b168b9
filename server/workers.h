#ifndef SERVER_WORKERS_H
#define SERVER_WORKERS_H

#include "server/fields.h"

/* Private to the Workers AI formats: what workers.c reads and workers_schema.c describes. */

enum { WORKERS_TOKENS_DEFAULT = 256 };
#define WORKERS_TEMPERATURE_DEFAULT 0.6F

extern const struct field workers_fields[]; /* [n_workers_fields] */
extern const size_t n_workers_fields;

/* {"input":...,"output":...}: as JSON Schema, what the formats accept and what they answer. */
void workers_schema(struct buf *out);

#endif

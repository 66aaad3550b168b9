#ifndef SCHEDULER_DUE_H
#define SCHEDULER_DUE_H

#include "scheduler/request.h"

/* Requests by deadline, the nearest one at hand. A heap that knows each request's place, so
 * that none is looked at before it is due and any can leave. No allocation after open. */
struct due {
    struct sched_req **at; /* [max] */
    int32_t n;
    int32_t max;
};

enum status due_open(struct due *d, int32_t max) MUST_CHECK;
void due_close(struct due *d);
/* Requests without a deadline are not kept; both calls accept them. */
void due_add(struct due *d, struct sched_req *r);
void due_remove(struct due *d, struct sched_req *r);
/* One that is past its deadline, NULL: none. */
struct sched_req *due_first(const struct due *d, uint64_t now);

#endif

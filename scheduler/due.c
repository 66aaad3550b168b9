#include "scheduler/due.h"

#include <assert.h>
#include <stdlib.h>

/* A binary heap: nobody's deadline is before that of the one above it, at[(i - 1) / 2], and
 * at[r->due_at] == r for everybody in it. */

enum status due_open(struct due *d, int32_t max)
{
    *d = (struct due){.max = max};
    d->at = calloc((size_t)max, sizeof(struct sched_req *));
    return d->at ? OK : E_NOMEM;
}

void due_close(struct due *d)
{
    free(d->at);
    *d = (struct due){0};
}

static void put(struct due *d, int32_t i, struct sched_req *r)
{
    d->at[i] = r;
    r->due_at = i;
}

static bool sooner(const struct sched_req *a, const struct sched_req *b)
{
    return a->params.deadline_ns < b->params.deadline_ns;
}

static void move_up(struct due *d, int32_t i, struct sched_req *r)
{
    for (; i > 0 && sooner(r, d->at[(i - 1) / 2]); i = (i - 1) / 2)
        put(d, i, d->at[(i - 1) / 2]);
    put(d, i, r);
}

static void move_down(struct due *d, int32_t i, struct sched_req *r)
{
    for (int32_t child = 2 * i + 1; child < d->n; child = 2 * i + 1) {
        if (child + 1 < d->n && sooner(d->at[child + 1], d->at[child]))
            child++;
        if (!sooner(d->at[child], r))
            break;
        put(d, i, d->at[child]);
        i = child;
    }
    put(d, i, r);
}

void due_add(struct due *d, struct sched_req *r)
{
    if (!r->params.deadline_ns)
        return;
    assert(d->n < d->max);
    move_up(d, d->n++, r);
}

void due_remove(struct due *d, struct sched_req *r)
{
    int32_t i = r->due_at;
    if (i < 0)
        return;
    struct sched_req *last = d->at[--d->n];
    r->due_at = -1;
    if (last == r)
        return;
    if (i > 0 && sooner(last, d->at[(i - 1) / 2]))
        move_up(d, i, last);
    else
        move_down(d, i, last);
}

struct sched_req *due_first(const struct due *d, uint64_t now)
{
    return d->n > 0 && d->at[0]->params.deadline_ns <= now ? d->at[0] : NULL;
}

#ifndef SCHEDULER_QUEUE_H
#define SCHEDULER_QUEUE_H

#include "scheduler/request.h"

/* Who waits, and who is next: by priority, then by fair shares between clients, then, within
 * a client, by who must start soonest. Those who lost their blocks come before newcomers of
 * their priority. No allocation after open. */

struct client;

struct queue {
    struct client *client; /* [n_max] */
    int32_t *bucket;       /* [bucket_mask + 1] first client of each chain, -1: none */
    struct client **heap;  /* [n_heap] those one may choose from, while choosing */
    int32_t n_max;
    int32_t bucket_mask;
    int32_t n_heap;
    bool longs;        /* long prompts may be chosen */
    uint64_t now;      /* when the choosing began */
    uint64_t floor;    /* what the one chosen last had been served before */
    int32_t n_waiting; /* requests */
    int32_t n_short;   /* of them */
    int64_t n_tokens;  /* left to compute before their first tokens */
    struct link busy;  /* clients with a request */
    struct link idle;  /* all others, the longest idle first */
    struct link returned;
};

enum status queue_open(struct queue *q, int32_t live_max) MUST_CHECK;
void queue_close(struct queue *q);
size_t queue_bytes(int32_t live_max); /* what opening takes */

/* A newcomer, whose is_long, start_by and n_left are set. */
void queue_add(struct queue *q, struct sched_req *r);
/* One that was running and has lost its blocks. */
void queue_return(struct queue *q, struct sched_req *r);
/* It no longer waits: it runs, or has ended. */
void queue_remove(struct queue *q, struct sched_req *r);
/* It has ended, and waits no longer. */
void queue_leave(struct queue *q, struct sched_req *r);
void queue_charge(struct queue *q, struct sched_req *r, int32_t n_tokens);

/* Choosing: begin, then ask for the first and remove it, as often as there is room. Barring
 * long prompts halfway is another beginning. */
void queue_begin(struct queue *q, uint64_t now, bool longs);
struct sched_req *queue_first(struct queue *q); /* NULL: nobody may be chosen */

struct sched_req *queue_any(const struct queue *q); /* NULL: nobody waits */
/* The counts agree with the lists. Slow; false is a bug of ours. */
bool queue_check(const struct queue *q);

#endif

#include "scheduler/queue.h"

#include <assert.h>
#include <stdlib.h>

/* Fair shares are deficit round robin with the quantum taken to its limit: a client's account
 * says how many tokens it has been served, the prompt when it is chosen and each token of an
 * answer as it comes, and of those who wait the one with the least is next. Who has nothing
 * waiting saves nothing up: on coming back an account is raised to the least of those who
 * wait, or, when nobody does, to what the client chosen last had (floor). It is never
 * lowered, so a client that sends its requests one by one pays for the long ones too.
 *
 * Bound. Let P be the longest prompt, A the longest answer and S the seats, U = P + S * A,
 * and least(t) the smallest account of those who wait, all of one priority. Accounts only
 * grow and nobody joins below least, so least never falls. A client is chosen only when its
 * account is least; then it grows by at most P at once, and until it is chosen again by the
 * answers of its running requests, at most S * A. So every account of those who wait lies
 * within [least, least + U]: of two clients that wait all the time neither is ever more than
 * U ahead, and in no span of time is one served more than 2 * U more than the other. Of one
 * that waits all the time and another that comes and goes, the other is served at most 3 * U
 * more: what ran before it joined is at most U, it joins at least or above, and is chosen only
 * at least.
 *
 * A client's requests wait on two lists, prompts that are long and those that are not, each
 * in the order of before(): so short ones pass long ones without anybody looking past them. */

enum { SHORT, LONG, KINDS, NOBODY = -1, CLIENTS_PER_REQUEST = 2 };

struct client {
    uint64_t id;
    uint64_t served;
    int32_t n_live;
    int32_t n_waiting;
    int32_t bucket_next;
    bool known;        /* in a bucket */
    struct link place; /* busy or idle */
    struct link waiting[KINDS];
};

static int32_t chain_of(const struct queue *q, uint64_t id)
{
    uint64_t h = (id ^ id >> 29) * 0x9e3779b97f4a7c15u;
    return (int32_t)(h >> 32 & (uint64_t)q->bucket_mask);
}

static int32_t chains_for(int32_t n_clients)
{
    int32_t n = 2;
    while (n < n_clients)
        n *= 2;
    return n;
}

size_t queue_bytes(int32_t live_max)
{
    int32_t n = live_max * CLIENTS_PER_REQUEST;
    return (size_t)n * (sizeof(struct client) + sizeof(struct client *)) +
           (size_t)chains_for(n) * sizeof(int32_t);
}

enum status queue_open(struct queue *q, int32_t live_max)
{
    *q = (struct queue){0};
    link_init(&q->busy);
    link_init(&q->idle);
    link_init(&q->returned);
    if (live_max > INT32_MAX / 8)
        return E_INVALID;
    q->n_max = live_max * CLIENTS_PER_REQUEST;
    int32_t n_buckets = chains_for(q->n_max);
    q->bucket_mask = n_buckets - 1;
    q->client = calloc((size_t)q->n_max, sizeof(*q->client));
    q->bucket = calloc((size_t)n_buckets, sizeof(*q->bucket));
    q->heap = calloc((size_t)q->n_max, sizeof(struct client *));
    if (!q->client || !q->bucket || !q->heap) {
        queue_close(q);
        return E_NOMEM;
    }
    for (int32_t i = 0; i < n_buckets; i++)
        q->bucket[i] = NOBODY;
    for (int32_t i = 0; i < q->n_max; i++) {
        link_before(&q->idle, &q->client[i].place);
        link_init(&q->client[i].waiting[SHORT]);
        link_init(&q->client[i].waiting[LONG]);
    }
    return OK;
}

void queue_close(struct queue *q)
{
    free(q->heap);
    free(q->bucket);
    free(q->client);
    *q = (struct queue){0};
}

static struct sched_req *req_of(const struct link *queue)
{
    return CONTAINER_OF(queue, struct sched_req, queue);
}

/* Clients. */

static struct client *client_of(const struct link *place)
{
    return CONTAINER_OF(place, struct client, place);
}

static void forget(struct queue *q, struct client *c)
{
    int32_t *link = &q->bucket[chain_of(q, c->id)];
    while (&q->client[*link] != c)
        link = &q->client[*link].bucket_next;
    *link = c->bucket_next;
    c->known = false;
}

static struct client *client_find(struct queue *q, uint64_t id)
{
    int32_t *bucket = &q->bucket[chain_of(q, id)];
    for (int32_t i = *bucket; i != NOBODY; i = q->client[i].bucket_next)
        if (q->client[i].id == id)
            return &q->client[i];
    /* There are more clients than requests can be alive, so one is idle. */
    assert(!link_alone(&q->idle));
    struct client *c = client_of(q->idle.next);
    if (c->known)
        forget(q, c);
    c->id = id;
    c->served = 0;
    c->known = true;
    bucket = &q->bucket[chain_of(q, id)];
    c->bucket_next = *bucket;
    *bucket = (int32_t)(c - q->client);
    return c;
}

/* Before c counts as waiting. */
static void raise_account(const struct queue *q, struct client *c)
{
    uint64_t least = UINT64_MAX;
    for (const struct link *l = q->busy.next; l != &q->busy; l = l->next)
        if (client_of(l)->n_waiting > 0 && client_of(l)->served < least)
            least = client_of(l)->served;
    least = least < UINT64_MAX ? least : q->floor;
    c->served = c->served > least ? c->served : least;
}

void queue_charge(struct queue *q, struct sched_req *r, int32_t n_tokens)
{
    (void)q;
    r->owner->served += (uint64_t)n_tokens;
}

/* The lists. */

static bool before(const struct sched_req *a, const struct sched_req *b)
{
    if (a->params.priority != b->params.priority)
        return a->params.priority > b->params.priority;
    if (a->start_by != b->start_by)
        return a->start_by < b->start_by;
    return a->arrival < b->arrival;
}

/* Newcomers belong near the end, so the search starts there. */
static void insert(struct client *c, struct sched_req *r)
{
    struct link *list = &c->waiting[r->is_long ? LONG : SHORT];
    struct link *place = list;
    while (place->prev != list && before(r, req_of(place->prev)))
        place = place->prev;
    link_before(place, &r->queue);
}

static void count(struct queue *q, const struct sched_req *r, int32_t sign)
{
    q->n_waiting += sign;
    q->n_short += r->is_long ? 0 : sign;
    q->n_tokens += (int64_t)sign * r->n_left;
}

void queue_add(struct queue *q, struct sched_req *r)
{
    struct client *c = client_find(q, r->params.client);
    if (c->n_live++ == 0) {
        link_remove(&c->place);
        link_before(&q->busy, &c->place);
    }
    if (c->n_waiting == 0)
        raise_account(q, c);
    c->n_waiting++;
    r->owner = c;
    r->returned = false;
    insert(c, r);
    count(q, r, 1);
}

void queue_return(struct queue *q, struct sched_req *r)
{
    struct link *place = q->returned.next;
    while (place != &q->returned && !req_before(r, req_of(place)))
        place = place->next;
    r->returned = true;
    link_before(place, &r->queue);
    count(q, r, 1);
}

void queue_remove(struct queue *q, struct sched_req *r)
{
    link_remove(&r->queue);
    count(q, r, -1);
    if (!r->returned)
        r->owner->n_waiting--;
}

void queue_leave(struct queue *q, struct sched_req *r)
{
    struct client *c = r->owner;
    r->owner = NULL;
    if (--c->n_live > 0)
        return;
    link_remove(&c->place);
    link_before(&q->idle, &c->place);
}

/* Choosing. */

static struct sched_req *head(const struct queue *q, const struct client *c)
{
    const struct link *shorts = &c->waiting[SHORT];
    const struct link *longs = &c->waiting[LONG];
    struct sched_req *a = link_alone(shorts) ? NULL : req_of(shorts->next);
    struct sched_req *b = link_alone(longs) || !q->longs ? NULL : req_of(longs->next);
    if (!a || !b)
        return a ? a : b;
    return before(a, b) ? a : b;
}

/* NULL stands behind everybody. */
static bool client_before(const struct queue *q, const struct client *a, const struct client *b)
{
    const struct sched_req *x = head(q, a);
    const struct sched_req *y = head(q, b);
    if (!x || !y)
        return x != NULL;
    if (x->params.priority != y->params.priority)
        return x->params.priority > y->params.priority;
    if (a->served != b->served)
        return a->served < b->served;
    return x->arrival < y->arrival;
}

static void sift(struct queue *q, int32_t i)
{
    struct client *c = q->heap[i];
    for (int32_t child = 2 * i + 1; child < q->n_heap; child = 2 * i + 1) {
        if (child + 1 < q->n_heap && client_before(q, q->heap[child + 1], q->heap[child]))
            child++;
        if (!client_before(q, q->heap[child], c))
            break;
        q->heap[i] = q->heap[child];
        i = child;
    }
    q->heap[i] = c;
}

void queue_begin(struct queue *q, uint64_t now, bool longs)
{
    q->now = now;
    q->longs = longs;
    q->n_heap = 0;
    for (struct link *l = q->busy.next; l != &q->busy; l = l->next)
        if (client_of(l)->n_waiting > 0)
            q->heap[q->n_heap++] = client_of(l);
    for (int32_t i = q->n_heap / 2 - 1; i >= 0; i--)
        sift(q, i);
}

/* A wish that cannot be met any more must not cost others theirs: it waits as if it had not
 * been made, and that only once. */
static bool give_up(struct queue *q, struct sched_req *r)
{
    if (!r->has_wish || r->start_by >= q->now)
        return false;
    r->has_wish = false;
    r->start_by += QUEUE_PATIENCE_NS;
    link_remove(&r->queue);
    insert(r->owner, r);
    return true;
}

struct sched_req *queue_first(struct queue *q)
{
    struct sched_req *first = NULL;
    while (q->n_heap > 0) {
        sift(q, 0);
        first = head(q, q->heap[0]);
        if (!first || !give_up(q, first))
            break;
    }
    struct sched_req *back = link_alone(&q->returned) ? NULL : req_of(q->returned.next);
    if (back && (!first || back->params.priority >= first->params.priority))
        return back;
    if (first)
        q->floor = first->owner->served;
    return first;
}

/* What can be asked. */

struct sched_req *queue_any(const struct queue *q)
{
    if (!link_alone(&q->returned))
        return req_of(q->returned.next);
    for (const struct link *l = q->busy.next; l != &q->busy; l = l->next) {
        const struct client *c = client_of(l);
        for (int32_t kind = SHORT; kind < KINDS; kind++)
            if (!link_alone(&c->waiting[kind]))
                return req_of(c->waiting[kind].next);
    }
    return NULL;
}

struct totals {
    int32_t n;
    int32_t n_short;
    int64_t n_tokens;
};

static bool check_list(const struct link *list, struct totals *t)
{
    bool sound = true;
    for (const struct link *l = list->next; l != list; l = l->next) {
        const struct sched_req *r = req_of(l);
        t->n++;
        t->n_short += !r->is_long;
        t->n_tokens += r->n_left;
        sound = sound && !r->running && r->n_table == 0 && r->owner;
        if (l->next != list && !r->returned)
            sound = sound && before(r, req_of(l->next));
    }
    return sound;
}

bool queue_check(const struct queue *q)
{
    struct totals all = {0};
    bool sound = check_list(&q->returned, &all);
    for (const struct link *l = q->busy.next; l != &q->busy; l = l->next) {
        const struct client *c = client_of(l);
        struct totals own = {0};
        sound = check_list(&c->waiting[SHORT], &own) && own.n_short == own.n && sound;
        sound = check_list(&c->waiting[LONG], &own) && sound;
        sound = sound && own.n == c->n_waiting && c->n_live >= own.n && c->n_live > 0;
        all.n += own.n;
        all.n_short += own.n_short;
        all.n_tokens += own.n_tokens;
    }
    return sound && all.n == q->n_waiting && all.n_short == q->n_short &&
           all.n_tokens == q->n_tokens;
}

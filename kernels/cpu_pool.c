/* Counters of unclaimed tasks, one for each node of memory, and two conditions.
 *
 * A task is claimed by lowering `unclaimed` with compare-and-swap. A claim that
 * succeeds belongs to the run in progress, whoever is late: the owner cannot
 * leave pool_run() before every claimed task is counted in `done`, so fn, arg and
 * n_tasks stay as they are while anybody holds a claim. Nobody waits for a thread
 * that claimed nothing; on a busy machine the owner simply does all the work. (A static
 * partition was tried: NOTES.md has the figures.) Who finds nothing left for its own node helps the
 * next one.
 *
 * Threads spin for a moment before they sleep, because the next operation of a
 * step usually follows within microseconds. Sleeping and waking meet through two
 * sequentially consistent variables (one says "work", one says "asleep"): each
 * side writes its own and then reads the other's, so one of them sees both. */

#include "kernels/cpu_pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    SPIN_NS = 30000, /* longer would steal from others where cores are shared */
    SPIN_BATCH = 64, /* looks at the counter between two looks at the clock */
    CACHE_LINE = 64,
};

struct worker {
    struct pool *pool;
    int32_t index;
    pthread_t thread;
};

/* Tasks of one node. */
struct lane {
    _Alignas(CACHE_LINE) atomic_int unclaimed;
    int32_t end;
};

struct pool {
    _Alignas(CACHE_LINE) atomic_int done;
    _Alignas(CACHE_LINE) atomic_int n_asleep;
    atomic_bool owner_asleep;
    atomic_bool stop;
    atomic_bool filled; /* every lane has its tasks of the run in progress */
    int32_t n_tasks;
    pool_fn fn;
    const void *arg;
    const struct nodes *nodes;
    struct lane *lanes; /* [nodes->n] */
    pthread_mutex_t mutex;
    pthread_cond_t work;
    pthread_cond_t finished;
    struct worker *workers; /* [n_started], index 1 .. n_started: the owner is 0 */
    int32_t n_started;
    int32_t n_threads;
};

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static bool claim_in(struct lane *l, int32_t *task)
{
    int left = atomic_load(&l->unclaimed);
    while (left > 0) {
        if (atomic_compare_exchange_weak(&l->unclaimed, &left, left - 1)) {
            *task = l->end - left;
            return true;
        }
    }
    return false;
}

/* Before all lanes are filled nobody helps: or who spins would take the first task it sees. */
static bool may_help(const struct pool *p)
{
    return p->nodes->n > 1 && atomic_load(&p->filled);
}

static int32_t after(const struct pool *p, int32_t lane)
{
    return lane + 1 < p->nodes->n ? lane + 1 : 0;
}

static bool claim(struct pool *p, int32_t home, int32_t *task)
{
    bool claimed = claim_in(&p->lanes[home], task);
    if (claimed || !may_help(p))
        return claimed;
    for (int32_t i = after(p, home); i != home && !claimed; i = after(p, i))
        claimed = claim_in(&p->lanes[i], task);
    return claimed;
}

static bool has_work(struct pool *p, int32_t home)
{
    bool found = atomic_load(&p->lanes[home].unclaimed) > 0;
    if (found || !may_help(p))
        return found;
    for (int32_t i = after(p, home); i != home && !found; i = after(p, i))
        found = atomic_load(&p->lanes[i].unclaimed) > 0;
    return found;
}

/* Whoever took the mutex before us to look a last time sleeps when we have it. Woken under it he
 * would only find it taken and sleep again. */
static void wake(struct pool *p, pthread_cond_t *sleepers)
{
    pthread_mutex_lock(&p->mutex);
    pthread_mutex_unlock(&p->mutex);
    pthread_cond_broadcast(sleepers);
}

/* The last one to finish wakes the owner. n_tasks is read before `done` rises:
 * afterwards the owner may already be preparing the next run. */
static void work_off(struct pool *p, int32_t worker, int32_t home)
{
    int32_t task;
    while (claim(p, home, &task)) {
        int32_t n_tasks = p->n_tasks;
        p->fn(p->arg, task, worker);
        if (atomic_fetch_add(&p->done, 1) + 1 == n_tasks && atomic_load(&p->owner_asleep))
            wake(p, &p->finished);
    }
}

static bool spin_for_work(struct pool *p, int32_t home)
{
    uint64_t until = now_ns() + SPIN_NS;
    do {
        for (int i = 0; i < SPIN_BATCH; i++) {
            if (has_work(p, home) || atomic_load(&p->stop))
                return true;
            relax();
        }
    } while (now_ns() < until);
    return false;
}

static void sleep_for_work(struct pool *p, int32_t home)
{
    pthread_mutex_lock(&p->mutex);
    atomic_fetch_add(&p->n_asleep, 1);
    while (!has_work(p, home) && !atomic_load(&p->stop))
        pthread_cond_wait(&p->work, &p->mutex);
    atomic_fetch_sub(&p->n_asleep, 1);
    pthread_mutex_unlock(&p->mutex);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct pool *p = w->pool;
    int32_t home = nodes_of_thread(p->nodes, w->index);
    nodes_bind(p->nodes, home);
    while (!atomic_load(&p->stop)) {
        work_off(p, w->index, home);
        if (!spin_for_work(p, home))
            sleep_for_work(p, home);
    }
    return NULL;
}

static void wait_for_done(struct pool *p)
{
    uint64_t until = now_ns() + SPIN_NS;
    do {
        for (int i = 0; i < SPIN_BATCH; i++) {
            if (atomic_load(&p->done) == p->n_tasks)
                return;
            relax();
        }
    } while (now_ns() < until);

    pthread_mutex_lock(&p->mutex);
    atomic_store(&p->owner_asleep, true);
    while (atomic_load(&p->done) != p->n_tasks)
        pthread_cond_wait(&p->finished, &p->mutex);
    atomic_store(&p->owner_asleep, false);
    pthread_mutex_unlock(&p->mutex);
}

static void set_filled(struct pool *p, bool filled)
{
    if (p->nodes->n > 1)
        atomic_store(&p->filled, filled);
}

void pool_run(struct pool *p, int32_t n_tasks, pool_fn fn, const void *arg)
{
    if (p->n_threads == 1 || n_tasks <= 1) {
        for (int32_t task = 0; task < n_tasks; task++)
            fn(arg, task, 0);
        return;
    }
    p->fn = fn;
    p->arg = arg;
    p->n_tasks = n_tasks;
    atomic_store(&p->done, 0);
    for (int32_t i = 0; i < p->nodes->n; i++) {
        struct part part = nodes_part(p->nodes, i, n_tasks);
        p->lanes[i].end = (int32_t)part.end;
        atomic_store(&p->lanes[i].unclaimed, (int32_t)(part.end - part.begin));
    }
    set_filled(p, true);
    if (atomic_load(&p->n_asleep) > 0)
        wake(p, &p->work);
    work_off(p, 0, nodes_here(p->nodes));
    wait_for_done(p);
    set_filled(p, false);
}

int32_t pool_threads(const struct pool *p)
{
    return p->n_threads;
}

void pool_close(struct pool *p)
{
    if (!p)
        return;
    atomic_store(&p->stop, true);
    wake(p, &p->work);
    for (int32_t i = 0; i < p->n_started; i++)
        pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->finished);
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->mutex);
    free(p->workers);
    free(p->lanes);
    free(p);
}

static enum status start_workers(struct pool *p)
{
    p->workers = calloc((size_t)p->n_threads, sizeof(*p->workers));
    if (!p->workers)
        return E_NOMEM;
    for (int32_t i = 0; i + 1 < p->n_threads; i++) {
        struct worker *w = &p->workers[i];
        w->pool = p;
        w->index = i + 1;
        if (pthread_create(&w->thread, NULL, worker_main, w))
            return E_AGAIN;
        p->n_started++;
    }
    return OK;
}

static enum status make_lanes(struct pool *p)
{
    size_t n = (size_t)p->nodes->n;
    p->lanes = aligned_alloc(CACHE_LINE, n * sizeof(*p->lanes));
    if (!p->lanes)
        return E_NOMEM;
    memset(p->lanes, 0, n * sizeof(*p->lanes));
    return OK;
}

enum status pool_open(struct pool **out, const struct nodes *nodes)
{
    struct pool *p = aligned_alloc(CACHE_LINE, sizeof(*p));
    if (!p)
        return E_NOMEM;
    *p = (struct pool){.nodes = nodes, .n_threads = nodes->threads_before[nodes->n]};
    /* With default attributes these three cannot fail on Linux. */
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->finished, NULL);
    enum status err = make_lanes(p);
    if (!err)
        err = start_workers(p);
    if (err) {
        pool_close(p);
        return err;
    }
    *out = p;
    return OK;
}

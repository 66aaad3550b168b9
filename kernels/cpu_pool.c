/* A counter of unclaimed tasks and two conditions.
 *
 * A task is claimed by lowering `unclaimed` with compare-and-swap. A claim that
 * succeeds belongs to the run in progress, whoever is late: the owner cannot
 * leave pool_run() before every claimed task is counted in `done`, so fn, arg and
 * n_tasks stay as they are while anybody holds a claim. Nobody waits for a thread
 * that claimed nothing; on a busy machine the owner simply does all the work. (A static
 * partition was tried: NOTES.md has the figures.)
 *
 * Threads spin for a moment before they sleep, because the next operation of a
 * step usually follows within microseconds. Sleeping and waking meet through two
 * sequentially consistent variables (one says "work", one says "asleep"): each
 * side writes its own and then reads the other's, so one of them sees both. */

#include "kernels/cpu_pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

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

struct pool {
    _Alignas(CACHE_LINE) atomic_int unclaimed;
    _Alignas(CACHE_LINE) atomic_int done;
    _Alignas(CACHE_LINE) atomic_int n_asleep;
    atomic_bool owner_asleep;
    atomic_bool stop;
    int32_t n_tasks;
    pool_fn fn;
    const void *arg;
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

static bool claim(struct pool *p, int32_t *task)
{
    int left = atomic_load(&p->unclaimed);
    while (left > 0) {
        if (atomic_compare_exchange_weak(&p->unclaimed, &left, left - 1)) {
            *task = p->n_tasks - left;
            return true;
        }
    }
    return false;
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
static void work_off(struct pool *p, int32_t worker)
{
    int32_t task;
    while (claim(p, &task)) {
        int32_t n_tasks = p->n_tasks;
        p->fn(p->arg, task, worker);
        if (atomic_fetch_add(&p->done, 1) + 1 == n_tasks && atomic_load(&p->owner_asleep))
            wake(p, &p->finished);
    }
}

static bool spin_for_work(struct pool *p)
{
    uint64_t until = now_ns() + SPIN_NS;
    do {
        for (int i = 0; i < SPIN_BATCH; i++) {
            if (atomic_load(&p->unclaimed) > 0 || atomic_load(&p->stop))
                return true;
            relax();
        }
    } while (now_ns() < until);
    return false;
}

static void sleep_for_work(struct pool *p)
{
    pthread_mutex_lock(&p->mutex);
    atomic_fetch_add(&p->n_asleep, 1);
    while (atomic_load(&p->unclaimed) == 0 && !atomic_load(&p->stop))
        pthread_cond_wait(&p->work, &p->mutex);
    atomic_fetch_sub(&p->n_asleep, 1);
    pthread_mutex_unlock(&p->mutex);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct pool *p = w->pool;
    while (!atomic_load(&p->stop)) {
        work_off(p, w->index);
        if (!spin_for_work(p))
            sleep_for_work(p);
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
    atomic_store(&p->unclaimed, n_tasks);
    if (atomic_load(&p->n_asleep) > 0)
        wake(p, &p->work);
    work_off(p, 0);
    wait_for_done(p);
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

enum status pool_open(struct pool **out, int32_t n_threads)
{
    struct pool *p = aligned_alloc(CACHE_LINE, sizeof(*p));
    if (!p)
        return E_NOMEM;
    *p = (struct pool){.n_threads = n_threads < 1 ? 1 : n_threads};
    /* With default attributes these three cannot fail on Linux. */
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->finished, NULL);
    enum status err = start_workers(p);
    if (err) {
        pool_close(p);
        return err;
    }
    *out = p;
    return OK;
}

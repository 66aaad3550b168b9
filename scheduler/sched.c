#include "scheduler/sched.h"

#include "models/model.h"
#include "scheduler/admit.h"
#include "scheduler/measure.h"
#include "scheduler/plan.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The engine thread, the mutex, and the lists between the two threads.
 *
 * Client to engine: inbox (new requests) and cancels. Engine to client: ready (requests
 * with unread news). The engine owns a request from the moment it takes it off the inbox
 * until it publishes the finish; it is off every list of the engine before that, under the
 * same lock, so that the client may let go of it as soon as it can see the finish. The log
 * of tokens is the buffer: the engine writes beyond n_published, the client reads below it.
 *
 * A step on its way may still read the lists of a request that has ended. Such a request is
 * held: the finish is told at once, the memory lives until the step is back. */

/* The blocks are counted after every step where they are few; where counting takes longer than a
 * small step, now and then while there is nothing to do. */
enum { CHECK_STEP_BLOCKS_MAX = 512, CHECK_IDLE_BLOCKS_MAX = 1 << 20 };
#define CHECK_IDLE_EVERY_NS 1000000000u

struct sched {
    struct model *model;
    const struct model_info *info;
    struct plan *plan;
    struct picked *picked; /* [step_seqs_max] */
    sched_wake_fn wake;
    void *wake_arg;
    pthread_t thread;
    bool has_thread;

    /* The engine's own. */
    bool flying; /* a step is on its way */
    int32_t n_rows;
    uint64_t launched_ns;
    uint64_t back_ns;
    uint64_t step_ns;
    uint64_t n_cancels;
    uint64_t cancel_ns;
    uint64_t cancel_ns_max;
    uint64_t checked_ns;
    struct link held; /* ended requests that the step on its way reads, by queue */
    bool device_lost;

    pthread_mutex_t mutex;
    pthread_cond_t work;
    struct link inbox;
    struct link cancels;
    struct link ready;
    int32_t n_inbox;
    int64_t n_inbox_tokens;
    uint64_t refused[SCHED_REASONS];
    bool closing;
    bool wake_wanted; /* the last poll found nothing */
    struct sched_stats stats;

    /* The client's own. */
    struct sched_options limits;
    int32_t n_live;
    uint64_t n_groups;
};

/* Engine side. */

static void launch(struct sched *s, const struct model_batch *b)
{
    s->launched_ns = now_ns();
    s->n_rows = b->n_rows;
    model_launch(s->model, b);
    s->flying = true;
}

static enum status wait(struct sched *s)
{
    enum status err = model_wait(s->model, s->picked);
    s->back_ns = now_ns();
    s->step_ns += s->back_ns - s->launched_ns;
    s->flying = false;
    if (!err) {
        plan_measure(s->plan, s->back_ns - s->launched_ns);
        return OK;
    }
    log_line(LOG_ERROR, "a step of %d rows failed: %s", s->n_rows, status_text(err));
    plan_fail(s->plan);
    s->device_lost = err == E_DEVICE;
    return err;
}

/* Under the mutex. What no step reads any more goes to its end: released, when the client
 * has let go of it before. */
static void let_go(struct sched *s, struct link *done)
{
    struct link *next;
    for (struct link *l = s->held.next; l != &s->held; l = next) {
        struct sched_req *r = CONTAINER_OF(l, struct sched_req, queue);
        next = l->next;
        if (plan_holds(s->plan, r))
            continue;
        link_remove(l);
        r->held = false;
        if (r->released)
            link_before(done, l);
    }
}

static void close_all(struct link *list)
{
    while (!link_alone(list)) {
        struct sched_req *r = CONTAINER_OF(list->next, struct sched_req, queue);
        link_remove(&r->queue);
        req_close(r);
    }
}

/* Under the mutex. A request that ends is taken off the list of cancels too, where it may
 * have been put since the last step. */
static void publish_one(struct sched *s, struct sched_req *r)
{
    r->n_published = r->n;
    r->judged_published = r->prompt_detail && r->n_judged == r->n_prompt - 1;
    r->finish = r->ending;
    if (r->finish != SCHED_RUNNING) {
        link_remove(&r->cancel);
        r->held = plan_holds(s->plan, r);
    }
    if (r->held)
        link_before(&s->held, &r->queue);
    if (link_alone(&r->ready))
        link_before(&s->ready, &r->ready);
}

/* Shows the client what the planner has come to. */
static void publish(struct sched *s)
{
    struct link done;
    struct sched_req *r;
    link_init(&done);
    pthread_mutex_lock(&s->mutex);
    let_go(s, &done);
    while ((r = plan_news(s->plan)))
        publish_one(s, r);
    s->stats = *plan_stats(s->plan);
    s->stats.step_ns = s->step_ns;
    s->stats.failed = s->device_lost;
    s->stats.cancels = s->n_cancels;
    s->stats.cancel_ns = s->cancel_ns;
    s->stats.cancel_ns_max = s->cancel_ns_max;
    bool wake = s->wake_wanted && !link_alone(&s->ready);
    if (wake)
        s->wake_wanted = false;
    pthread_mutex_unlock(&s->mutex);
    close_all(&done);
    if (wake)
        s->wake(s->wake_arg);
}

/* Takes everything that has come; sleeps while there is nothing to do. False: close. */
static bool take_work(struct sched *s, struct link *inbox, struct link *cancels)
{
    pthread_mutex_lock(&s->mutex);
    while (plan_idle(s->plan) && !s->flying && link_alone(&s->inbox) && !s->closing)
        pthread_cond_wait(&s->work, &s->mutex);
    link_move_all(&s->inbox, inbox);
    link_move_all(&s->cancels, cancels);
    /* They wait, also in the eyes of others, until the step they come too late for is over. */
    s->stats.waiting += s->n_inbox;
    s->stats.waiting_tokens += s->n_inbox_tokens;
    s->n_inbox = 0;
    s->n_inbox_tokens = 0;
    bool go_on = !s->closing || s->flying;
    pthread_mutex_unlock(&s->mutex);
    return go_on;
}

/* Its blocks are free now. */
static void count_cancel(struct sched *s, uint64_t ns)
{
    s->n_cancels++;
    s->cancel_ns += ns;
    s->cancel_ns_max = ns > s->cancel_ns_max ? ns : s->cancel_ns_max;
}

static void accept_work(struct sched *s, struct link *inbox, struct link *cancels)
{
    while (!link_alone(inbox)) {
        struct sched_req *r = CONTAINER_OF(inbox->next, struct sched_req, inbox);
        link_remove(&r->inbox);
        plan_add(s->plan, r);
    }
    while (!link_alone(cancels)) {
        struct sched_req *r = CONTAINER_OF(cancels->next, struct sched_req, cancel);
        link_remove(&r->cancel);
        plan_end(s->plan, r, SCHED_CANCELLED);
        count_cancel(s, now_ns() - r->cancelled_ns);
    }
    if (s->device_lost)
        plan_fail_all(s->plan);
}

static bool check_is_due(struct sched *s)
{
    if (s->info->n_blocks <= CHECK_STEP_BLOCKS_MAX)
        return true;
    if (!plan_idle(s->plan) || s->info->n_blocks > CHECK_IDLE_BLOCKS_MAX ||
        now_ns() - s->checked_ns < CHECK_IDLE_EVERY_NS)
        return false;
    s->checked_ns = now_ns();
    return true;
}

static void check(struct sched *s)
{
    assert(!check_is_due(s) || plan_check(s->plan));
}

/* One step after the other. */
static void turn_in_turn(struct sched *s)
{
    struct model_batch b;
    if (plan_step(s->plan, now_ns(), &b) == 0)
        return;
    launch(s, &b);
    if (!wait(s))
        plan_commit(s->plan, s->back_ns, s->picked);
}

/* A step is made while the one before it runs, and starts before the results of that one
 * are looked at any closer than its picks need. */
static void turn_overlapped(struct sched *s)
{
    struct model_batch b;
    bool flown = s->flying;
    int32_t n_rows = plan_step(s->plan, now_ns(), &b);
    if (flown && wait(s))
        return;
    if (flown)
        plan_settle(s->plan, s->picked);
    if (n_rows > 0)
        launch(s, &b);
    if (flown)
        plan_commit(s->plan, s->back_ns, s->picked);
}

static void engine_turn(struct sched *s)
{
    if (s->limits.overlap)
        turn_overlapped(s);
    else
        turn_in_turn(s);
    publish(s);
}

/* -- before the first request -- */

static bool somebody_came(void *arg)
{
    struct sched *s = arg;
    pthread_mutex_lock(&s->mutex);
    bool came = s->closing || !link_alone(&s->inbox);
    pthread_mutex_unlock(&s->mutex);
    return came;
}

/* What cannot be tried now is learned as one goes; what ails the device shows in the first
 * request's step. */
static void measure(struct sched *s)
{
    struct measured m;
    struct cost *c = plan_cost(s->plan);
    if (s->limits.measure_ns == 0)
        return;
    enum status err =
        measure_steps(c, s->model, &s->limits, s->limits.measure_ns, somebody_came, s, &m);
    if (err)
        log_line(LOG_WARN, "steps could not be measured: %s", status_text(err));
    if (c->n == 0)
        return;
    const struct step_shape one = {.n_draws = 1};
    char more[64] = "";
    if (c->n >= COST_KNOWN)
        (void)snprintf(more, sizeof(more), ", each token of a prompt %.3f ms more",
                       cost_read(c, 0) * 1e-6);
    log_line(LOG_INFO, "a step takes %.2f ms%s: %d tried in %.0f ms", cost_step(c, &one) * 1e-6,
             more, m.n_steps, (double)m.took_ns * 1e-6);
    publish(s);
}

static void *engine_main(void *arg)
{
    struct sched *s = arg;
    struct link inbox;
    struct link cancels;
    link_init(&inbox);
    link_init(&cancels);
    measure(s);
    while (take_work(s, &inbox, &cancels)) {
        accept_work(s, &inbox, &cancels);
        if (plan_has_news(s->plan))
            publish(s); /* who has left need not wait for a step */
        engine_turn(s);
        check(s);
    }
    return NULL;
}

/* Client side. */

/* Signals are the loop's business: the engine sleeps and computes undisturbed. */
static enum status start_thread(struct sched *s)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    s->has_thread = pthread_create(&s->thread, NULL, engine_main, s) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return s->has_thread ? OK : E_NOMEM;
}

enum status sched_open(struct sched **out, struct model *m, const struct sched_options *opt,
                       sched_wake_fn wake, void *wake_arg)
{
    *out = NULL;
    struct sched *s = calloc(1, sizeof(*s));
    if (!s)
        return E_NOMEM;
    link_init(&s->inbox);
    link_init(&s->cancels);
    link_init(&s->ready);
    link_init(&s->held);
    pthread_mutex_init(&s->mutex, NULL);
    pthread_cond_init(&s->work, NULL);
    s->model = m;
    s->info = model_info(m);
    s->wake = wake;
    s->wake_arg = wake_arg;
    s->wake_wanted = true;
    s->limits = *opt;
    enum status err = plan_open(&s->plan, s->info, opt);
    if (err)
        goto fail;
    s->stats = *plan_stats(s->plan);
    err = E_NOMEM;
    s->picked = calloc((size_t)opt->step_seqs_max, sizeof(*s->picked));
    if (!s->picked)
        goto fail;
    err = start_thread(s);
    if (err)
        goto fail;
    *out = s;
    return OK;
fail:
    sched_close(s);
    return err;
}

size_t sched_bytes(const struct model_info *info, const struct sched_options *opt)
{
    return sizeof(struct sched) + (size_t)opt->step_seqs_max * sizeof(struct picked) +
           plan_bytes(info, opt);
}

size_t sched_request_bytes(const struct model_info *info, int32_t n_tokens)
{
    int32_t n_table = (n_tokens - 1) / info->block_tokens + 1;
    return sizeof(struct sched_req) + (size_t)(n_tokens + n_table) * sizeof(int32_t);
}

void sched_close(struct sched *s)
{
    if (!s)
        return;
    assert(s->n_live == 0);
    if (s->has_thread) {
        pthread_mutex_lock(&s->mutex);
        s->closing = true;
        pthread_cond_signal(&s->work);
        pthread_mutex_unlock(&s->mutex);
        pthread_join(s->thread, NULL);
    }
    close_all(&s->held);
    free(s->picked);
    plan_close(s->plan);
    pthread_cond_destroy(&s->work);
    pthread_mutex_destroy(&s->mutex);
    free(s);
}

static bool engine_failed(struct sched *s)
{
    pthread_mutex_lock(&s->mutex);
    bool failed = s->stats.failed;
    pthread_mutex_unlock(&s->mutex);
    return failed;
}

enum status sched_admit(struct sched *s, const struct sched_params *p, int32_t n_prompt,
                        struct sched_refusal *out)
{
    struct sched_stats stats;
    sched_stats(s, &stats);
    if (stats.failed)
        return E_DEVICE;
    if (admit_judge(&s->limits, &stats, p->ttft_slo_ns, s->n_live, n_prompt, out))
        return OK;
    pthread_mutex_lock(&s->mutex);
    s->refused[out->reason]++;
    pthread_mutex_unlock(&s->mutex);
    return E_AGAIN;
}

static void form_group(struct sched *s, struct sched_req **r, int32_t n)
{
    if (n < 2)
        return;
    s->n_groups++;
    for (int32_t i = 0; i < n; i++) {
        r[i]->group = s->n_groups;
        r[i]->leader = i > 0 ? r[0] : NULL;
    }
}

static void hand_over(struct sched *s, struct sched_req **r, int32_t n)
{
    uint64_t now = now_ns();
    for (int32_t i = 0; i < n; i++)
        r[i]->timing.submitted_ns = now;
    s->n_live += n;
    pthread_mutex_lock(&s->mutex);
    for (int32_t i = 0; i < n; i++)
        link_before(&s->inbox, &r[i]->inbox);
    s->n_inbox += n;
    s->n_inbox_tokens += (int64_t)n * r[0]->n_prompt;
    pthread_mutex_unlock(&s->mutex);
    /* Under the mutex the engine would wake to find it taken, and sleep again. */
    pthread_cond_signal(&s->work);
}

enum status sched_submit_many(struct sched *s, const struct sched_params *p, const int32_t *prompt,
                              int32_t n_prompt, int32_t n, void *const *user,
                              struct sched_req **out)
{
    struct sched_params each = *p;
    enum status err = OK;
    if (n < 1 || (n > 1 && p->max_new_tokens < 1))
        return E_INVALID;
    memset(out, 0, (size_t)n * sizeof(*out));
    if (engine_failed(s))
        return E_DEVICE;
    if (n > s->limits.live_max - s->n_live)
        return E_AGAIN;
    for (int32_t i = 0; i < n && !err; i++) {
        each.sampling.seed = p->sampling.seed + (uint64_t)i;
        err = req_open(&out[i], s->info, &each, prompt, n_prompt);
        each.judge_prompt = false;
        if (!err)
            out[i]->user = user[i];
    }
    if (!err) {
        form_group(s, out, n);
        hand_over(s, out, n);
        return OK;
    }
    for (int32_t i = 0; i < n; i++) {
        req_close(out[i]);
        out[i] = NULL;
    }
    return err;
}

enum status sched_submit(struct sched *s, const struct sched_params *p, const int32_t *prompt,
                         int32_t n_prompt, void *user, struct sched_req **out)
{
    return sched_submit_many(s, p, prompt, n_prompt, 1, &user, out);
}

/* No signal: the engine sleeps only when it has no request. */
void sched_cancel(struct sched *s, struct sched_req *r)
{
    pthread_mutex_lock(&s->mutex);
    if (!r->cancelled && r->finish == SCHED_RUNNING) {
        r->cancelled = true;
        r->cancelled_ns = now_ns();
        link_before(&s->cancels, &r->cancel);
    }
    pthread_mutex_unlock(&s->mutex);
}

struct sched_req *sched_poll(struct sched *s)
{
    struct sched_req *r = NULL;
    pthread_mutex_lock(&s->mutex);
    if (link_alone(&s->ready)) {
        s->wake_wanted = true;
    } else {
        r = CONTAINER_OF(s->ready.next, struct sched_req, ready);
        link_remove(&r->ready);
    }
    pthread_mutex_unlock(&s->mutex);
    return r;
}

void *sched_user(const struct sched_req *r)
{
    return r->user;
}

void sched_read(struct sched *s, struct sched_req *r, struct sched_news *out)
{
    pthread_mutex_lock(&s->mutex);
    int32_t n_published = r->n_published;
    enum sched_finish finish = r->finish;
    int32_t stop_token = finish == SCHED_RUNNING ? -1 : r->stop_token;
    bool judged = r->judged_published && !r->judged_read;
    link_remove(&r->ready);
    pthread_mutex_unlock(&s->mutex);
    *out = (struct sched_news){
        .token = r->tokens + r->n_read,
        .detail = r->detail ? r->detail + (r->n_read - r->n_prompt) : NULL,
        .n = n_published - r->n_read,
        .finish = finish,
        .stop_token = stop_token,
        .prompt_detail = judged ? r->prompt_detail : NULL,
        .n_prompt_detail = judged ? r->n_prompt : 0,
    };
    r->judged_read = r->judged_read || judged;
    r->n_read = n_published;
    r->finish_read = finish != SCHED_RUNNING;
}

void sched_timing(const struct sched_req *r, struct sched_timing *out)
{
    assert(r->finish_read);
    *out = r->timing;
}

void sched_release(struct sched *s, struct sched_req *r)
{
    /* The read that saw the finish took it off the ready list, for good. */
    assert(r->finish_read && link_alone(&r->ready));
    s->n_live--;
    pthread_mutex_lock(&s->mutex);
    bool held = r->held;
    r->released = held;
    pthread_mutex_unlock(&s->mutex);
    if (!held)
        req_close(r);
}

void sched_stats(struct sched *s, struct sched_stats *out)
{
    pthread_mutex_lock(&s->mutex);
    *out = s->stats;
    out->waiting += s->n_inbox;
    out->waiting_tokens += s->n_inbox_tokens;
    memcpy(out->refused, s->refused, sizeof(out->refused));
    pthread_mutex_unlock(&s->mutex);
}

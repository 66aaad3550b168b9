/* Aim: the way across between the two threads, with the real engine thread and the fake
 * model: nothing is lost, doubled, published late or freed early. Built to run under the
 * thread sanitizer. Negative space: cancels at every moment of a life, also twice and after
 * the finish; a request released while it is on the ready list; reads without a poll; a
 * full house; a lost device; opening and closing with nothing in between. */
#include "scheduler/sched.h"
#include "tests/fake_model.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

enum {
    STORM_REQUESTS = 10000,
    STORM_LIVE = 200,
    PARTY_MAX = 4,
    ANSWER_MAX = 24,
    PROMPT_MAX = 40,
    WAIT_MS = 20000
};

/* What the loop of the server is to the scheduler: woken by a flag, then polls until NULL. */
struct bell {
    pthread_mutex_t mutex;
    pthread_cond_t rung;
    bool ringing;
    int64_t n_rings;
};

static void bell_ring(void *arg)
{
    struct bell *b = arg;
    pthread_mutex_lock(&b->mutex);
    b->ringing = true;
    b->n_rings++;
    pthread_cond_signal(&b->rung);
    pthread_mutex_unlock(&b->mutex);
}

static void bell_wait(struct bell *b)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_MS / 1000;
    int err = 0;
    pthread_mutex_lock(&b->mutex);
    while (!b->ringing && !err)
        err = pthread_cond_timedwait(&b->rung, &b->mutex, &until);
    b->ringing = false;
    pthread_mutex_unlock(&b->mutex);
    if (err)
        fail_msg("no wake: somebody is lost");
}

struct world {
    struct model *m;
    struct sched *s;
    struct bell bell;
};

static void world_open_as(struct world *w, struct model *m, int32_t live_max, bool overlap,
                          bool prefix_cache)
{
    struct sched_options opt = {
        .overlap = overlap,
        .live_max = live_max,
        .step_seqs_max = m->seqs_max,
        .step_rows_max = m->rows_max,
        .prefix_cache = prefix_cache,
    };
    *w = (struct world){.m = m};
    pthread_mutex_init(&w->bell.mutex, NULL);
    pthread_cond_init(&w->bell.rung, NULL);
    assert_int_equal(sched_open(&w->s, m, &opt, bell_ring, &w->bell), OK);
}

static void world_open(struct world *w, struct model *m, int32_t live_max)
{
    world_open_as(w, m, live_max, false, true);
}

static void world_close(struct world *w)
{
    sched_close(w->s);
    model_close(w->m);
    pthread_cond_destroy(&w->bell.rung);
    pthread_mutex_destroy(&w->bell.mutex);
}

static struct sched_req *next_news(struct world *w)
{
    struct sched_req *r;
    while (!(r = sched_poll(w->s)))
        bell_wait(&w->bell);
    return r;
}

static const struct sched_params plain = {
    .max_new_tokens = 8,
    .sampling = {.top_p = 1, .repetition = 1, .n_logprobs = -1},
};

static const int32_t hello[] = {1, 2, 3, 4, 5};

static struct sched_req *submit(struct world *w, const struct sched_params *p, void *user)
{
    struct sched_req *r;
    assert_int_equal(sched_submit(w->s, p, hello, ARRAY_LEN(hello), user, &r), OK);
    return r;
}

/* Reads to the end, returns how it ended and how many tokens came. */
static enum sched_finish read_all(struct world *w, struct sched_req *r, int32_t *n)
{
    struct sched_news news;
    *n = 0;
    do {
        while (next_news(w) != r)
            ;
        sched_read(w->s, r, &news);
        *n += news.n;
    } while (news.finish == SCHED_RUNNING);
    return news.finish;
}

/* The storm. */

struct guest {
    struct sched_req *r;
    struct sched_params params;
    int32_t want[ANSWER_MAX];
    int32_t n_want;
    int32_t last;
    int32_t n_read;
    int32_t leaves_at; /* tokens after which it cancels, -1: stays */
    int32_t prompt[PROMPT_MAX];
    int32_t n_prompt;
    int32_t stop[2];
    bool heard_prompt;
    bool cancelled;
};

struct storm {
    struct world w;
    uint64_t rng;
    struct guest guest[STORM_LIVE];
    int32_t n_submitted;
    int32_t n_live;
    int32_t n_finished[SCHED_FAILED + 1];
};

static uint32_t draw(struct storm *t, uint32_t below)
{
    t->rng += 0x9e3779b97f4a7c15u;
    return (uint32_t)((fake_mix(fake_mix(t->rng, 1), 2) >> 16) % below);
}

static void draw_controls(struct storm *t, struct guest *g)
{
    struct sched_params *p = &g->params;
    p->judge_prompt = draw(t, 6) == 0;
    p->prompt_logprobs = (int32_t)draw(t, 3);
    if (draw(t, 3) > 0)
        return;
    g->stop[0] = (int32_t)draw(t, 97);
    g->stop[1] = (int32_t)draw(t, 97);
    p->stop_token = g->stop;
    p->n_stop_tokens = 2;
    p->min_tokens = 1;
}

static bool is_end(const struct guest *g, int32_t token)
{
    bool own = g->params.n_stop_tokens > 0 && (token == g->stop[0] || token == g->stop[1]);
    return own || token == FAKE_EOS;
}

static void invite(struct storm *t, struct guest *g)
{
    int32_t n = 1 + (int32_t)draw(t, PROMPT_MAX);
    *g = (struct guest){.params = plain, .n_prompt = n};
    for (int32_t i = 0; i < n; i++)
        g->prompt[i] = i < 20 ? 1 + i : (int32_t)draw(t, 97);
    draw_controls(t, g);
    g->params.max_new_tokens = 1 + (int32_t)draw(t, ANSWER_MAX);
    g->params.sampling.seed = draw(t, 1000);
    g->params.sampling.presence = draw(t, 4) ? 0.0f : 1.0f;
    g->params.priority = (int32_t)draw(t, 2);
}

/* Another answer for the same prompt. */
static void invite_with(struct guest *g, const struct guest *leader, int32_t i)
{
    *g = *leader;
    g->params.stop_token = g->stop;
    g->params.sampling.seed += (uint64_t)i;
    g->params.judge_prompt = false;
}

/* Before the engine has even seen it, later, never, and sometimes twice. */
static void decide_to_leave(struct storm *t, struct guest *g)
{
    g->leaves_at = (int32_t)draw(t, 3 * ANSWER_MAX);
    if (g->leaves_at > ANSWER_MAX)
        g->leaves_at = -1;
    if (draw(t, 20) == 0)
        g->leaves_at = 0;
    if (g->leaves_at == 0) {
        g->cancelled = true;
        sched_cancel(t->w.s, g->r);
        sched_cancel(t->w.s, g->r);
    }
}

/* One, or a few who want an answer to one prompt. */
static void arrive(struct storm *t)
{
    struct guest *party[PARTY_MAX] = {NULL};
    void *user[PARTY_MAX];
    struct sched_req *req[PARTY_MAX];
    int32_t n = 0;
    int32_t n_wanted = draw(t, 6) ? 1 : 1 + (int32_t)draw(t, PARTY_MAX);
    for (int32_t i = 0; i < STORM_LIVE && n < n_wanted; i++) {
        struct guest *g = &t->guest[i];
        if (g->r)
            continue;
        if (n == 0)
            invite(t, g);
        else
            invite_with(g, party[0], n);
        g->n_want = fake_answer(t->w.m, &g->params, g->prompt, g->n_prompt,
                                g->params.max_new_tokens, g->want, &g->last);
        user[n] = g;
        party[n++] = g;
    }
    struct guest *first = party[0];
    assert_int_equal(
        sched_submit_many(t->w.s, &first->params, first->prompt, first->n_prompt, n, user, req),
        OK);
    t->n_submitted += n;
    t->n_live += n;
    for (int32_t i = 0; i < n; i++) {
        party[i]->r = req[i];
        decide_to_leave(t, party[i]);
    }
}

static void leave(struct storm *t, struct guest *g, enum sched_finish finish)
{
    bool whole = g->n_read == g->n_want;
    assert_true(finish != SCHED_STOP || (whole && is_end(g, g->last)));
    assert_true(finish != SCHED_LENGTH || (whole && !is_end(g, g->last)));
    assert_true(g->heard_prompt || g->n_read == 0 || !g->params.judge_prompt);
    assert_true(finish != SCHED_CANCELLED || g->cancelled);
    assert_true(finish != SCHED_EXPIRED && finish != SCHED_FAILED);
    struct sched_timing timing;
    sched_timing(g->r, &timing);
    assert_true(timing.submitted_ns > 0 && timing.first_ns <= timing.last_ns);
    assert_true(g->n_read == 0 || timing.scheduled_ns >= timing.submitted_ns);
    sched_cancel(t->w.s, g->r);
    sched_release(t->w.s, g->r);
    g->r = NULL;
    t->n_live--;
    t->n_finished[finish]++;
}

static void hear_prompt(struct storm *t, struct guest *g, const struct sched_news *news)
{
    struct picked want;
    assert_true(g->params.judge_prompt && !g->heard_prompt);
    assert_int_equal(news->n_prompt_detail, g->n_prompt);
    assert_int_equal(news->prompt_detail[0].token, g->prompt[0]);
    for (int32_t i = 1; i < g->n_prompt; i++) {
        fake_judgement(t->w.m, &g->params, g->prompt, i, &want);
        assert_memory_equal(&news->prompt_detail[i], &want, sizeof(want));
    }
    g->heard_prompt = true;
}

static void listen(struct storm *t, struct guest *g)
{
    struct sched_news news;
    sched_read(t->w.s, g->r, &news);
    if (news.prompt_detail)
        hear_prompt(t, g, &news);
    assert_true(news.n >= 0 && g->n_read + news.n <= g->n_want);
    assert_memory_equal(news.token, g->want + g->n_read, (size_t)news.n * sizeof(*news.token));
    g->n_read += news.n;
    if (news.finish != SCHED_RUNNING) {
        leave(t, g, news.finish);
    } else if (g->leaves_at >= 0 && g->n_read >= g->leaves_at) {
        g->cancelled = true;
        sched_cancel(t->w.s, g->r);
    }
}

static void storm(int32_t n_requests, bool overlap, bool own_thread, bool prefix_cache)
{
    static struct storm t;
    memset(&t, 0, sizeof(t));
    struct model *m = fake_open(60, 4, 80, 48, 12);
    m->eos_one_in = 30;
    m->spin = 300;
    if (own_thread)
        fake_own_thread(m);
    world_open_as(&t.w, m, STORM_LIVE, overlap, prefix_cache);
    while (t.n_submitted < n_requests || t.n_live > 0) {
        for (int32_t i = 0; i < STORM_LIVE; i++) {
            struct guest *g = &t.guest[i];
            if (!g->r && t.n_submitted < n_requests)
                arrive(&t);
            else if (g->r && draw(&t, 8) == 0)
                listen(&t, g); /* without a poll: it may be on the ready list */
        }
        struct sched_req *r;
        while ((r = sched_poll(t.w.s)))
            listen(&t, sched_user(r));
        if (t.n_live > 0)
            bell_wait(&t.w.bell);
    }
    int32_t n_finished = 0;
    for (int i = 0; i <= SCHED_FAILED; i++)
        n_finished += t.n_finished[i];
    assert_int_equal(n_finished, t.n_submitted);
    assert_true(t.n_finished[SCHED_CANCELLED] > 100 && t.n_finished[SCHED_STOP] > 100);
    struct sched_stats stats;
    sched_stats(t.w.s, &stats);
    assert_int_equal(stats.blocks_used, 0);
    assert_int_equal(stats.running, 0);
    assert_int_equal(stats.waiting, 0);
    print_message("%llu steps, %llu tokens, %llu preemptions, %lld wakes\n",
                  (unsigned long long)stats.steps, (unsigned long long)stats.tokens_out,
                  (unsigned long long)stats.preemptions, (long long)t.w.bell.n_rings);
    world_close(&t.w);
}

static void test_storm(void **state)
{
    (void)state;
    storm(STORM_REQUESTS, false, false, true);
}

static void test_storm_overlapped(void **state)
{
    (void)state;
    storm(STORM_REQUESTS / 4, true, false, true);
}

static void test_storm_beside(void **state)
{
    (void)state;
    storm(STORM_REQUESTS, true, true, false);
}

static void test_one_request(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, fake_open(64, 4, 64, 8, 4), 4);
    struct sched_params params = plain;
    params.sampling.n_logprobs = 2;
    int32_t want[8];
    int32_t last;
    int32_t n_want = fake_answer(w.m, &params, hello, 5, 8, want, &last);
    struct sched_req *r = submit(&w, &params, &params);
    assert_ptr_equal(sched_user(r), &params);
    struct sched_news news;
    int32_t n = 0;
    do {
        assert_ptr_equal(next_news(&w), r);
        sched_read(w.s, r, &news);
        for (int32_t i = 0; i < news.n; i++, n++) {
            assert_int_equal(news.token[i], want[n]);
            assert_int_equal(news.detail[i].token, want[n]);
            assert_int_equal(news.detail[i].n_top, 2);
        }
    } while (news.finish == SCHED_RUNNING);
    assert_int_equal(news.finish, SCHED_LENGTH);
    assert_int_equal(n, n_want);
    sched_read(w.s, r, &news);
    assert_int_equal(news.n, 0);
    assert_int_equal(news.finish, SCHED_LENGTH);
    struct sched_stats stats;
    sched_stats(w.s, &stats);
    assert_int_equal(stats.tokens_out, 8);
    assert_int_equal(stats.tokens_in, 5);
    assert_int_equal(stats.step_rows, 12);
    assert_true(stats.steps == 8 && stats.step_ns > 0 && !stats.failed);
    assert_true(stats.blocks_total == 64 && stats.block_tokens == 4);
    sched_release(w.s, r);
    assert_null(sched_poll(w.s));
    world_close(&w);
}

static void test_full_house(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, fake_open(64, 4, 64, 8, 4), 3);
    struct sched_req *r[4];
    int32_t n;
    for (int i = 0; i < 3; i++)
        r[i] = submit(&w, &plain, NULL);
    assert_int_equal(sched_submit(w.s, &plain, hello, 5, NULL, &r[3]), E_AGAIN);
    assert_null(r[3]);
    assert_int_equal(read_all(&w, r[0], &n), SCHED_LENGTH);
    /* The place is free at release, not at the finish. */
    assert_int_equal(sched_submit(w.s, &plain, hello, 5, NULL, &r[3]), E_AGAIN);
    sched_release(w.s, r[0]);
    assert_int_equal(sched_submit(w.s, &plain, hello, 0, NULL, &r[0]), E_INVALID);
    r[0] = submit(&w, &plain, NULL);
    for (int i = 0; i < 3; i++) {
        struct sched_news news;
        do {
            sched_read(w.s, r[i], &news);
            sched_yield();
        } while (news.finish == SCHED_RUNNING);
        sched_release(w.s, r[i]);
    }
    world_close(&w);
}

static void test_deadline(void **state)
{
    (void)state;
    struct world w;
    int32_t n;
    world_open(&w, fake_open(64, 4, 64, 8, 4), 3);
    struct sched_params params = plain;
    params.deadline_ns = 1;
    struct sched_req *r = submit(&w, &params, NULL);
    assert_int_equal(read_all(&w, r, &n), SCHED_EXPIRED);
    assert_int_equal(n, 0);
    sched_release(w.s, r);
    world_close(&w);
}

/* A step that fails ends its requests; a lost device ends everything, for good. */
static void test_failures(void **state)
{
    (void)state;
    struct world w;
    int32_t n;
    log_setup(LOG_ERROR, false);
    world_open(&w, fake_open(64, 4, 64, 8, 4), 8);
    w.m->fail_one_in = 1;
    struct sched_req *r = submit(&w, &plain, NULL);
    assert_int_equal(read_all(&w, r, &n), SCHED_FAILED);
    sched_release(w.s, r);
    struct sched_stats stats;
    sched_stats(w.s, &stats);
    assert_false(stats.failed);
    world_close(&w);

    struct model *m = fake_open(64, 4, 64, 8, 4);
    m->lost_at = 3;
    world_open(&w, m, 8);
    struct sched_req *all[8];
    for (int i = 0; i < 8; i++) {
        enum status err = sched_submit(w.s, &plain, hello, 5, NULL, &all[i]);
        assert_true(err == OK || err == E_DEVICE);
    }
    for (int i = 0; i < 8; i++) {
        struct sched_news news = {.finish = SCHED_RUNNING};
        while (all[i] && news.finish == SCHED_RUNNING) {
            sched_read(w.s, all[i], &news);
            sched_yield();
        }
        if (all[i])
            assert_int_equal(news.finish, SCHED_FAILED);
        if (all[i])
            sched_release(w.s, all[i]);
    }
    sched_stats(w.s, &stats);
    assert_true(stats.failed);
    assert_int_equal(m->n_steps, m->lost_at);
    assert_int_equal(stats.blocks_used, 0);
    assert_int_equal(sched_submit(w.s, &plain, hello, 5, NULL, &r), E_DEVICE);
    world_close(&w);
}

/* Released while it is still on the ready list: nobody may find it there. */
static void test_release_unlinks(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, fake_open(64, 4, 64, 8, 4), 8);
    for (int i = 0; i < 200; i++) {
        struct sched_req *r = submit(&w, &plain, NULL);
        struct sched_news news;
        do {
            sched_read(w.s, r, &news);
            sched_yield();
        } while (news.finish == SCHED_RUNNING);
        sched_cancel(w.s, r);
        sched_release(w.s, r);
        assert_null(sched_poll(w.s));
    }
    world_close(&w);
}

static void test_open_and_close(void **state)
{
    (void)state;
    sched_close(NULL);
    struct model *m = fake_open(64, 4, 64, 8, 4);
    struct sched_options opt = {.live_max = 1, .step_seqs_max = 4, .step_rows_max = 8};
    struct sched *s;
    for (int i = 0; i < 50; i++) {
        assert_int_equal(sched_open(&s, m, &opt, bell_ring, NULL), OK);
        sched_close(s);
    }
    opt.live_max = 0;
    assert_int_equal(sched_open(&s, m, &opt, bell_ring, NULL), E_INVALID);
    assert_null(s);
    model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_request),     cmocka_unit_test(test_full_house),
        cmocka_unit_test(test_deadline),        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_release_unlinks), cmocka_unit_test(test_open_and_close),
        cmocka_unit_test(test_storm),           cmocka_unit_test(test_storm_overlapped),
        cmocka_unit_test(test_storm_beside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

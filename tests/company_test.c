/* Aim: the same answer in any company, through the whole of scheduler, model and backend: the
 * tokens and logprobs of a request are to the bit those it gets alone, whoever else is being
 * served. Negative space: steps of one row, prompts cut in chunks of every size, so few
 * blocks that requests are preempted and computed again, prompts found in the prefix cache,
 * one thread and several, half of the guests leaving in the middle. */
#include "kernels/ops.h"
#include "models/model.h"
#include "scheduler/sched.h"
#include "tests/tiny_model.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { GUESTS = 24, CONTEXT = 96, VOCAB = 97, PROMPT_MAX = 44, ANSWER_MAX = 50 };

static const struct tiny shape = {64,    96,      2,     4,      2,    16,
                                  VOCAB, CONTEXT, false, "BF16", NULL, .seed = 5};

struct guest {
    int32_t prompt[PROMPT_MAX];
    int32_t n_prompt;
    struct sched_params params;
    int32_t n_want;
    struct picked want[ANSWER_MAX];
    struct sched_req *req;
    int32_t n_got;
};

struct company {
    const char *name;
    int32_t rows;
    int32_t seqs;
    int32_t contexts; /* the cache holds as many whole ones */
    int32_t threads;
    bool prefix_cache;
    bool kv_f32;
    bool overlap;
    bool leavers; /* every other guest is cancelled after a few tokens */
};

static const struct company companies[] = {
    {"in one batch", 512, 24, 24, 1, false, false, false, false},
    {"in one batch, overlapped", 512, 24, 24, 1, false, false, true, false},
    {"a row a step", 1, 1, 2, 1, false, false, false, false},
    {"in chunks of few rows", 7, 5, 8, 1, false, false, false, false},
    {"with few blocks", 40, 12, 1, 1, false, false, false, false},
    {"with few blocks and the prefix cache", 40, 12, 1, 1, true, false, false, false},
    {"with few blocks and the prefix cache, overlapped", 40, 12, 1, 1, true, false, true, false},
    {"with the prefix cache", 64, 8, 24, 1, true, false, false, false},
    {"on three threads", 33, 9, 4, 3, true, false, false, false},
    {"on three threads, overlapped", 33, 9, 4, 3, true, false, true, false},
    {"with leavers", 33, 9, 2, 2, true, false, false, true},
    {"with leavers, overlapped", 33, 9, 2, 2, true, false, true, true},
    {"with keys and values in f32", 33, 9, 2, 1, true, true, false, false},
};

struct place {
    struct ops *ops;
    struct model *model;
    struct sched *sched;
    pthread_mutex_t mutex;
    pthread_cond_t rung;
    bool ringing;
};

static void ring(void *arg)
{
    struct place *p = arg;
    pthread_mutex_lock(&p->mutex);
    p->ringing = true;
    pthread_cond_signal(&p->rung);
    pthread_mutex_unlock(&p->mutex);
}

static void wait_ring(struct place *p)
{
    pthread_mutex_lock(&p->mutex);
    while (!p->ringing)
        pthread_cond_wait(&p->rung, &p->mutex);
    p->ringing = false;
    pthread_mutex_unlock(&p->mutex);
}

static void place_open(struct place *p, const char *dir, const struct company *c)
{
    char err[256] = "";
    struct model_info info;
    *p = (struct place){.mutex = PTHREAD_MUTEX_INITIALIZER, .rung = PTHREAD_COND_INITIALIZER};
    const struct ops_options backend = {.backend = "cpu", .threads = c->threads};
    assert_int_equal(ops_open(&p->ops, &backend, err, sizeof(err)), OK);
    assert_int_equal(model_inspect(&info, dir, err, sizeof(err)), OK);
    struct model_options how = {
        .path = dir,
        .step_rows_max = c->rows,
        .step_seqs_max = c->seqs,
        .kv_bytes = (size_t)c->contexts * CONTEXT * 2 * sizeof(float) * (size_t)info.n_layers *
                    (size_t)(info.n_kv_heads * info.head_dim),
        .kv_f32 = c->kv_f32,
    };
    if (!c->kv_f32)
        how.kv_bytes = (size_t)c->contexts * CONTEXT * (size_t)info.kv_bytes_per_token;
    if (model_open(&p->model, &how, p->ops, err, sizeof(err)) != OK)
        fail_msg("%s: %s", c->name, err);
    const struct sched_options opt = {
        .live_max = GUESTS,
        .step_seqs_max = c->seqs,
        .step_rows_max = c->rows,
        .prefix_cache = c->prefix_cache,
        .overlap = c->overlap,
    };
    assert_int_equal(sched_open(&p->sched, p->model, &opt, ring, p), OK);
}

static void place_close(struct place *p)
{
    sched_close(p->sched);
    model_close(p->model);
    p->ops->close(p->ops);
}

/* Half of the prompts begin alike. */
static void invite(struct guest *g, int32_t i)
{
    uint32_t own = 1000u + (uint32_t)i;
    uint32_t shared = 77;
    g->n_prompt = 1 + (int32_t)(tiny_random(&own) % PROMPT_MAX);
    for (int32_t j = 0; j < g->n_prompt; j++) {
        uint32_t *from = i % 2 && j < 40 ? &shared : &own;
        g->prompt[j] = (int32_t)(tiny_random(from) % VOCAB);
    }
    g->params = (struct sched_params){
        .max_new_tokens = 4 + 2 * i,
        .sampling = {.top_p = 1, .repetition = 1, .n_logprobs = 3, .seed = (uint64_t)i},
        .ignore_eos = i % 3 == 0,
        .priority = i % 5 == 0,
    };
    if (i % 4 > 0)
        g->params.sampling.temperature = 0.9f;
    if (i % 4 == 2)
        g->params.sampling.repetition = 1.2f;
    if (i % 4 == 3)
        g->params.sampling.top_k = 20;
}

static void submit(struct place *p, struct guest *g)
{
    g->n_got = 0;
    assert_int_equal(sched_submit(p->sched, &g->params, g->prompt, g->n_prompt, g, &g->req), OK);
}

static void alone(struct place *p, struct guest *g)
{
    struct sched_news news;
    submit(p, g);
    for (;;) {
        while (sched_poll(p->sched))
            ;
        sched_read(p->sched, g->req, &news);
        for (int32_t i = 0; i < news.n; i++)
            g->want[g->n_want++] = news.detail[i];
        if (news.finish != SCHED_RUNNING)
            break;
        wait_ring(p);
    }
    assert_true(news.finish == SCHED_STOP || news.finish == SCHED_LENGTH);
    sched_release(p->sched, g->req);
}

static bool same(const struct picked *a, const struct picked *b)
{
    size_t n = (size_t)a->n_top;
    return a->token == b->token && a->n_top == b->n_top &&
           !memcmp(&a->logprob, &b->logprob, sizeof(a->logprob)) &&
           !memcmp(a->top_token, b->top_token, n * sizeof(*a->top_token)) &&
           !memcmp(a->top_logprob, b->top_logprob, n * sizeof(*a->top_logprob));
}

/* True when it has left. */
static bool hear(struct place *p, const struct company *c, struct guest *g, int32_t number)
{
    struct sched_news news;
    bool leaver = c->leavers && number % 2;
    sched_read(p->sched, g->req, &news);
    for (int32_t i = 0; i < news.n; i++, g->n_got++) {
        if (g->n_got >= g->n_want || !same(&news.detail[i], &g->want[g->n_got]))
            fail_msg("%s: guest %d: token %d is another one than alone", c->name, number, g->n_got);
    }
    if (news.finish == SCHED_RUNNING) {
        if (leaver && g->n_got > number % 7)
            sched_cancel(p->sched, g->req);
        return false;
    }
    if (!leaver && g->n_got != g->n_want)
        fail_msg("%s: guest %d ends with %d after %d of %d tokens", c->name, number, news.finish,
                 g->n_got, g->n_want);
    sched_release(p->sched, g->req);
    return true;
}

static void in_company(const char *dir, const struct company *c, struct guest *guests)
{
    struct place p;
    place_open(&p, dir, c);
    /* The second time everything is warm. */
    for (int round = 0; round < 2; round++) {
        int32_t n_left = 0;
        for (int32_t i = 0; i < GUESTS; i++)
            submit(&p, &guests[i]);
        while (n_left < GUESTS) {
            struct sched_req *r;
            while ((r = sched_poll(p.sched))) {
                struct guest *g = sched_user(r);
                n_left += hear(&p, c, g, (int32_t)(g - guests));
            }
            if (n_left < GUESTS)
                wait_ring(&p);
        }
    }
    struct sched_stats stats;
    sched_stats(p.sched, &stats);
    assert_int_equal(stats.blocks_used, 0);
    assert_true((stats.prefix_hit_tokens > 0) == c->prefix_cache);
    assert_true(stats.preemptions > 0 || c->contexts > 1);
    place_close(&p);
}

static void test_any_company(void **state)
{
    (void)state;
    static struct guest guests[2][GUESTS]; /* int8 cache, f32 cache */
    char dir[64];
    struct place p;
    tiny_dir(dir);
    tiny_save_model(dir, &shape);
    for (int f32 = 0; f32 < 2; f32++) {
        struct company solitude = {"alone", CONTEXT, 1, 1, 1, false, f32 == 1, false, false};
        place_open(&p, dir, &solitude);
        for (int32_t i = 0; i < GUESTS; i++) {
            invite(&guests[f32][i], i);
            alone(&p, &guests[f32][i]);
        }
        place_close(&p);
    }
    for (size_t i = 0; i < ARRAY_LEN(companies); i++)
        in_company(dir, &companies[i], guests[companies[i].kv_f32]);
    tiny_drop(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_company),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

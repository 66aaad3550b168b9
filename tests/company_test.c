/* Aim: the same answer in any company, through the whole of scheduler, model and backend: the
 * tokens and logprobs of a request, and what is said of its prompt, are to the bit those it
 * gets alone, whoever else is being served. Every control of sampling is among the guests. The
 * companies of a table come first, then many drawn at random: FIRSTLIGHT_COMPANY_SEED=n draws
 * that one, FIRSTLIGHT_COMPANY_SEEDS=n that many. Negative space: steps of one row, prompts cut
 * in chunks of every size, so few blocks that requests are preempted and computed again,
 * prompts found in the prefix cache, several answers to one prompt, steps made while another
 * runs, one thread and several, guests leaving in the middle. */
#include "kernels/ops.h"
#include "models/model.h"
#include "scheduler/sched.h"
#include "tests/tiny_model.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum {
    GUESTS = 64,
    CONTEXT = 96,
    VOCAB = 97,
    PROMPT_MAX = 44,
    ANSWER_MAX = 40,
    SEEDS = 24,
    BIASES = 3,
    ALLOWED = 40,
};

static const struct tiny shape = {64,    96,      2,     4,      2,    16,
                                  VOCAB, CONTEXT, false, "BF16", NULL, .seed = 5};

struct guest {
    int32_t prompt[PROMPT_MAX];
    int32_t n_prompt;
    struct sched_params params;
    struct token_bias bias[BIASES];
    int32_t stop[2];
    int32_t allowed[ALLOWED];
    int32_t n_want;
    struct picked want[ANSWER_MAX];
    struct picked want_prompt[PROMPT_MAX];
    struct sched_req *req;
    int32_t n_got;
    bool judged;
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
    bool leavers;  /* every other guest is cancelled after a few tokens */
    bool pairs;    /* guests of one prompt come as one request for two answers */
    uint32_t seed; /* draws who comes; 0: everybody */
};

static const struct company companies[] = {
    {"in one batch", 512, 64, 64, 1, false, false, false, false, false, 0},
    {"in one batch, overlapped", 512, 64, 64, 1, false, false, true, false, false, 0},
    {"a row a step", 1, 1, 2, 1, false, false, false, false, false, 0},
    {"in chunks of few rows", 7, 5, 8, 1, false, false, false, false, false, 0},
    {"with few blocks", 40, 12, 1, 1, false, false, false, false, false, 0},
    {"with few blocks and the prefix cache", 40, 12, 1, 1, true, false, false, false, false, 0},
    {"with few blocks and the prefix cache, overlapped", 40, 12, 1, 1, true, false, true, false,
     false, 0},
    {"with the prefix cache", 64, 8, 24, 1, true, false, false, false, false, 0},
    {"on three threads", 33, 9, 4, 3, true, false, false, false, false, 0},
    {"on three threads, overlapped", 33, 9, 4, 3, true, false, true, false, false, 0},
    {.name = "two answers each",
     .rows = 40,
     .seqs = 12,
     .contexts = 6,
     .threads = 1,
     .prefix_cache = true,
     .overlap = true,
     .pairs = true},
    {"with leavers", 33, 9, 2, 2, true, false, false, true, false, 0},
    {"with leavers, overlapped", 33, 9, 2, 2, true, false, true, true, false, 0},
    {"with keys and values in f32", 33, 9, 2, 1, true, true, false, false, false, 0},
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
        .kv = c->kv_f32 ? KV_F32 : KV_Q8,
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

static void draw_controls(struct guest *g, int32_t kind)
{
    struct sched_params *p = &g->params;
    struct sampling *how = &p->sampling;
    switch (kind) {
    case 1:
        how->repetition = 1.2f;
        break;
    case 2:
        how->presence = 0.6f;
        how->frequency = 0.3f;
        break;
    case 3:
        how->top_k = 20;
        how->top_p = 0.8f;
        break;
    case 4:
        how->min_p = 0.05f;
        how->repetition = 0.9f;
        break;
    case 5:
        how->bias = g->bias;
        how->n_bias = BIASES;
        break;
    case 6:
        p->stop_token = g->stop;
        p->n_stop_tokens = 2;
        p->min_tokens = 5;
        break;
    case 7:
        p->allowed = g->allowed;
        p->n_allowed = ALLOWED;
        break;
    default:
        break;
    }
}

/* Two guests in turn have one prompt and seeds that follow one another; of four prompts two
 * begin alike. */
static void invite(struct guest *g, int32_t i)
{
    uint32_t own = 1000u + (uint32_t)i / 2;
    uint32_t shared = 77;
    memset(g, 0, sizeof(*g));
    g->n_prompt = 1 + (int32_t)(tiny_random(&own) % PROMPT_MAX);
    for (int32_t j = 0; j < g->n_prompt; j++) {
        uint32_t *from = i / 2 % 2 && j < 40 ? &shared : &own;
        g->prompt[j] = (int32_t)(tiny_random(from) % VOCAB);
    }
    g->params = (struct sched_params){
        .max_new_tokens = 4 + (int32_t)(tiny_random(&own) % (ANSWER_MAX - 3)),
        .sampling = {.top_p = 1, .repetition = 1, .n_logprobs = 3},
        .ignore_eos = i / 2 % 3 == 0,
        .priority = i / 2 % 5 == 0,
        .client = (uint64_t)i / 2 % 3,
        .judge_prompt = i % 12 == 4,
        .prompt_logprobs = 2,
    };
    g->params.sampling.seed = (uint64_t)i;
    if (i / 2 % 4 > 0)
        g->params.sampling.temperature = 0.9f;
    for (int32_t k = 0; k < BIASES; k++)
        g->bias[k] =
            (struct token_bias){(int32_t)(tiny_random(&own) % VOCAB), k == 0 ? -INFINITY : 2};
    for (int32_t k = 0; k < 2; k++)
        g->stop[k] = (int32_t)(tiny_random(&own) % VOCAB);
    for (int32_t k = 0; k < ALLOWED; k++)
        g->allowed[k] = (int32_t)(tiny_random(&own) % VOCAB);
    draw_controls(g, (int32_t)(tiny_random(&own) % 9));
}

/* n: the guests from g on are answers to one prompt. */
static void submit(struct place *p, struct guest *g, int32_t n)
{
    void *user[2] = {g, g + 1};
    struct sched_req *req[2];
    assert_int_equal(sched_submit_many(p->sched, &g->params, g->prompt, g->n_prompt, n, user, req),
                     OK);
    for (int32_t i = 0; i < n; i++) {
        g[i].req = req[i];
        g[i].n_got = 0;
        g[i].judged = false;
    }
}

static void alone(struct place *p, struct guest *g)
{
    struct sched_news news;
    submit(p, g, 1);
    for (;;) {
        while (sched_poll(p->sched))
            ;
        sched_read(p->sched, g->req, &news);
        if (news.prompt_detail)
            memcpy(g->want_prompt, news.prompt_detail,
                   (size_t)g->n_prompt * sizeof(*g->want_prompt));
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

static void hear_prompt(const struct company *c, struct guest *g, int32_t number,
                        const struct picked *detail)
{
    g->judged = true;
    for (int32_t i = 0; i < g->n_prompt; i++) {
        if (!same(&detail[i], &g->want_prompt[i]))
            fail_msg("%s: guest %d: token %d of the prompt is judged differently", c->name, number,
                     i);
    }
}

/* True when it has left. */
static bool hear(struct place *p, const struct company *c, struct guest *g, int32_t number)
{
    struct sched_news news;
    bool leaver = c->leavers && number % 2;
    sched_read(p->sched, g->req, &news);
    if (news.prompt_detail)
        hear_prompt(c, g, number, news.prompt_detail);
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
    if (!leaver && g->params.judge_prompt && !g->judged)
        fail_msg("%s: guest %d: the prompt is not judged", c->name, number);
    sched_release(p->sched, g->req);
    return true;
}

/* How many have come. */
static int32_t open_doors(struct place *p, const struct company *c, struct guest *guests)
{
    uint32_t rng = c->seed;
    int32_t n = 0;
    for (int32_t i = 0; i < GUESTS; i += 2) {
        if (c->seed && tiny_random(&rng) % 3 == 0)
            continue;
        if (c->pairs && !guests[i].params.judge_prompt) {
            submit(p, &guests[i], 2);
        } else {
            submit(p, &guests[i], 1);
            submit(p, &guests[i + 1], 1);
        }
        n += 2;
    }
    return n;
}

static void in_company(const char *dir, const struct company *c, struct guest *guests)
{
    struct place p;
    place_open(&p, dir, c);
    /* The second time everything is warm. */
    for (int round = 0; round < 2; round++) {
        int32_t n_here = open_doors(&p, c, guests);
        while (n_here > 0) {
            struct sched_req *r;
            while ((r = sched_poll(p.sched))) {
                struct guest *g = sched_user(r);
                n_here -= hear(&p, c, g, (int32_t)(g - guests));
            }
            if (n_here > 0)
                wait_ring(&p);
        }
    }
    struct sched_stats stats;
    sched_stats(p.sched, &stats);
    assert_int_equal(stats.blocks_used, 0);
    assert_true(stats.prefix_hit_tokens == 0 || c->prefix_cache);
    assert_true(c->seed || (stats.prefix_hit_tokens > 0) == c->prefix_cache);
    assert_true(c->seed || stats.preemptions > 0 || c->contexts > 1);
    place_close(&p);
}

static int32_t among(uint32_t *rng, int32_t least, int32_t most)
{
    return least + (int32_t)(tiny_random(rng) % (uint32_t)(most - least + 1));
}

static void in_random_company(const char *dir, uint32_t seed, struct guest *guests)
{
    char name[64];
    uint32_t rng = seed * 7919u;
    (void)snprintf(name, sizeof(name), "FIRSTLIGHT_COMPANY_SEED=%u", seed);
    struct company c = {.name = name, .seed = seed};
    c.seqs = among(&rng, 1, 40);
    c.rows = c.seqs + among(&rng, 0, 1) * among(&rng, 0, 90);
    c.contexts = among(&rng, 1, 12);
    c.threads = among(&rng, 1, 3);
    c.prefix_cache = among(&rng, 0, 2) > 0;
    c.overlap = among(&rng, 0, 1);
    c.leavers = among(&rng, 0, 3) == 0;
    c.pairs = among(&rng, 0, 1);
    in_company(dir, &c, guests);
}

static uint32_t number_from(const char *name, uint32_t otherwise)
{
    const char *text = getenv(name);
    return text ? (uint32_t)strtoul(text, NULL, 10) : otherwise;
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
        struct company solitude = {"alone",  CONTEXT, 1,     1,     1, false,
                                   f32 == 1, false,   false, false, 0};
        place_open(&p, dir, &solitude);
        for (int32_t i = 0; i < GUESTS; i++) {
            invite(&guests[f32][i], i);
            alone(&p, &guests[f32][i]);
        }
        place_close(&p);
    }
    uint32_t only = number_from("FIRSTLIGHT_COMPANY_SEED", 0);
    uint32_t last = only ? only : number_from("FIRSTLIGHT_COMPANY_SEEDS", SEEDS);
    for (size_t i = 0; i < ARRAY_LEN(companies) && !only; i++)
        in_company(dir, &companies[i], guests[companies[i].kv_f32]);
    for (uint32_t seed = only ? only : 1; seed <= last; seed++)
        in_random_company(dir, seed, guests[0]);
    tiny_drop(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_company),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

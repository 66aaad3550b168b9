#include "bench/usage.h"
#include "models/model.h"
#include "scheduler/plan.h"

#include <stdio.h>
#include <stdlib.h>

/* What the scheduler costs between two steps: microseconds of plan_step() and plan_commit()
 * when n sequences of 1,000 to 2,000 tokens decode, with no model at all; with a crowd, beside
 * a thousand requests of 64 clients, three priorities and objectives that wait for one seat
 * more and read their prompts in it, and of which one comes and one leaves in every step. Median
 * and 99th percentile over the steps, as CSV on stdout. */

enum { CROWD = 1000, CLIENTS = 64, PRIORITIES = 3, STEP_NS = 5000000, WARM_UP = 300 };
enum { CONTEXT = 4096, BLOCK_TOKENS = 16, PROMPT = 1000, SEQS_MAX = 256, STEPS = 500 };

/* Enough for the steps in which the first decode while the last still read their prompt. */
enum { ANSWER = 4 * STEPS };

static void must(enum status err, const char *what)
{
    if (!err)
        return;
    fprintf(stderr, "bench_plan: %s: %s\n", what, status_text(err));
    exit(1);
}

struct crowd {
    struct sched_req *req[CROWD];
    struct sched_params params;
    int32_t next;
};

static int32_t prompt[PROMPT];

static struct sched_req *come(struct plan *p, const struct model_info *info,
                              const struct sched_params *params, int32_t text)
{
    struct sched_req *r;
    for (int32_t j = 0; j < PROMPT; j++)
        prompt[j] = (text * 7919 + j * 31) % info->vocab;
    must(req_open(&r, info, params, prompt, PROMPT), "req_open");
    r->timing.submitted_ns = now_ns();
    plan_add(p, r);
    return r;
}

/* One of the crowd, a different client, priority and objective each time. */
static void join(struct plan *p, const struct model_info *info, struct crowd *c, int32_t i)
{
    c->params.client = (uint64_t)(i % CLIENTS) + 1;
    c->params.priority = i % PRIORITIES - PRIORITIES;
    c->params.ttft_slo_ns = (uint64_t)(1 + i % 7) * 1000000000u;
    c->req[i % CROWD] = come(p, info, &c->params, i);
}

/* Between steps: one of the crowd goes, another one comes. */
static void churn(struct plan *p, const struct model_info *info, struct crowd *c)
{
    struct sched_req *r = c->req[c->next % CROWD];
    if (r->ending == SCHED_RUNNING)
        plan_end(p, r, SCHED_CANCELLED);
    while (plan_news(p))
        ;
    req_close(r);
    join(p, info, c, c->next++);
}

/* One step whose model draws the same token for everybody. */
static void step(struct plan *p, const struct picked *picked, uint64_t *plan_ns,
                 uint64_t *commit_ns)
{
    struct model_batch b;
    uint64_t start = now_ns();
    plan_step(p, start, &b);
    uint64_t middle = now_ns();
    plan_measure(p, STEP_NS);
    plan_commit(p, middle, picked);
    while (plan_news(p))
        ;
    *plan_ns = middle - start;
    *commit_ns = now_ns() - middle;
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static double micros(uint64_t *ns, int percent)
{
    qsort(ns, STEPS, sizeof(*ns), ascending);
    return (double)ns[(STEPS - 1) * percent / 100] / 1e3;
}

static void measure(struct plan *p, const struct model_info *info, struct crowd *c, int32_t n_seqs)
{
    static struct picked picked[SEQS_MAX + 1];
    static uint64_t plan_ns[STEPS];
    static uint64_t commit_ns[STEPS];
    static uint64_t total_ns[STEPS];
    for (int32_t i = 0; i < WARM_UP || plan_stats(p)->tokens_in < (uint64_t)n_seqs * PROMPT; i++)
        step(p, picked, &plan_ns[0], &commit_ns[0]);
    c->next = CROWD;
    for (int32_t i = 0; i < STEPS; i++) {
        if (c->req[0])
            churn(p, info, c);
        step(p, picked, &plan_ns[i], &commit_ns[i]);
        total_ns[i] = plan_ns[i] + commit_ns[i];
    }
    printf("%d,%d,%d,%.2f,%.2f,%.2f,%.2f\n", n_seqs, c->params.sampling.repetition != 1.0f,
           c->req[0] ? CROWD : 0, micros(plan_ns, 50), micros(commit_ns, 50), micros(total_ns, 50),
           micros(total_ns, 99));
}

static void run(const struct model_info *info, int32_t n_seqs, bool penalties, bool crowd)
{
    static struct sched_req *req[SEQS_MAX];
    static struct crowd c;
    struct plan *p;
    struct sched_options opt = {
        .live_max = SEQS_MAX + CROWD,
        .step_seqs_max = n_seqs + crowd,
        .step_rows_max = 1024,
        .prefix_cache = true,
    };
    struct sched_params params = {
        .max_new_tokens = ANSWER,
        .sampling = {.top_p = 1, .repetition = penalties ? 1.1f : 1.0f, .n_logprobs = -1},
        .ignore_eos = true,
    };
    c = (struct crowd){.params = params};
    c.params.max_new_tokens = 1;
    must(plan_open(&p, info, &opt), "plan_open");
    for (int32_t i = 0; i < n_seqs; i++)
        req[i] = come(p, info, &params, i);
    for (int32_t i = 0; i < CROWD && crowd; i++)
        join(p, info, &c, i);
    measure(p, info, &c, n_seqs);
    plan_fail_all(p);
    for (int32_t i = 0; i < n_seqs; i++)
        req_close(req[i]);
    for (int32_t i = 0; i < CROWD && crowd; i++)
        req_close(c.req[i]);
    plan_close(p);
}

static const char usage_text[] = "bench_plan: microseconds of planning and committing a step, "
                                 "without a model, CSV; no options\n";

int main(int argc, char **argv)
{
    static const int32_t sizes[] = {1, 16, 64, 256};
    struct model_info info = {
        .vocab = 32000,
        .context_max = CONTEXT,
        .block_tokens = BLOCK_TOKENS,
        .n_blocks = SEQS_MAX * CONTEXT / BLOCK_TOKENS,
    };
    usage_if_asked(argc, argv, usage_text);
    if (argc > 1)
        return (void)fputs(usage_text, stderr), 2;
    printf("sequences,penalties,waiting,plan_us_p50,commit_us_p50,total_us_p50,total_us_p99\n");
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        run(&info, sizes[i], false, false);
        run(&info, sizes[i], true, false);
        run(&info, sizes[i], false, true);
    }
    return 0;
}

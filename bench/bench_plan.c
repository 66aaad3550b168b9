#include "models/model.h"
#include "scheduler/plan.h"

#include <stdio.h>
#include <stdlib.h>

/* What the scheduler costs between two steps: microseconds of plan_step() and plan_commit()
 * when n sequences of 1,000 to 2,000 tokens decode, with no model at all. Median and 99th
 * percentile over the steps, as CSV on stdout. */

enum { CONTEXT = 4096, BLOCK_TOKENS = 16, PROMPT = 1000, SEQS_MAX = 256, STEPS = 1000 };

/* Enough for the steps in which the first decode while the last still read their prompt. */
enum { ANSWER = 2 * STEPS };

static void must(enum status err, const char *what)
{
    if (!err)
        return;
    fprintf(stderr, "bench_plan: %s: %s\n", what, status_text(err));
    exit(1);
}

/* One step whose model draws the same token for everybody. */
static void step(struct plan *p, const struct picked *picked, uint64_t *plan_ns,
                 uint64_t *commit_ns)
{
    struct model_batch b;
    uint64_t start = now_ns();
    plan_step(p, start, &b);
    uint64_t middle = now_ns();
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

static void measure(struct plan *p, int32_t n_seqs, bool penalties)
{
    static struct picked picked[SEQS_MAX];
    static uint64_t plan_ns[STEPS];
    static uint64_t commit_ns[STEPS];
    static uint64_t total_ns[STEPS];
    while (plan_stats(p)->tokens_in < (uint64_t)n_seqs * PROMPT)
        step(p, picked, &plan_ns[0], &commit_ns[0]);
    for (int32_t i = 0; i < STEPS; i++) {
        step(p, picked, &plan_ns[i], &commit_ns[i]);
        total_ns[i] = plan_ns[i] + commit_ns[i];
    }
    printf("%d,%d,%.2f,%.2f,%.2f,%.2f\n", n_seqs, penalties, micros(plan_ns, 50),
           micros(commit_ns, 50), micros(total_ns, 50), micros(total_ns, 99));
}

static void run(const struct model_info *info, int32_t n_seqs, bool penalties)
{
    static struct sched_req *req[SEQS_MAX];
    static int32_t prompt[PROMPT];
    struct plan *p;
    struct sched_options opt = {
        .live_max = SEQS_MAX,
        .step_seqs_max = SEQS_MAX,
        .step_rows_max = 1024,
        .prefix_cache = true,
    };
    struct sched_params params = {
        .max_new_tokens = ANSWER,
        .sampling = {.top_p = 1, .repetition = penalties ? 1.1f : 1.0f, .n_logprobs = -1},
        .ignore_eos = true,
    };
    must(plan_open(&p, info, &opt), "plan_open");
    for (int32_t i = 0; i < n_seqs; i++) {
        for (int32_t j = 0; j < PROMPT; j++)
            prompt[j] = (i * 7919 + j * 31) % info->vocab;
        must(req_open(&req[i], info, &params, prompt, PROMPT), "req_open");
        plan_add(p, req[i]);
    }
    measure(p, n_seqs, penalties);
    plan_fail_all(p);
    for (int32_t i = 0; i < n_seqs; i++)
        req_close(req[i]);
    plan_close(p);
}

int main(void)
{
    static const int32_t sizes[] = {1, 16, 64, 256};
    struct model_info info = {
        .vocab = 32000,
        .context_max = CONTEXT,
        .block_tokens = BLOCK_TOKENS,
        .n_blocks = SEQS_MAX * CONTEXT / BLOCK_TOKENS,
    };
    printf("sequences,penalties,plan_us_p50,commit_us_p50,total_us_p50,total_us_p99\n");
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        run(&info, sizes[i], false);
        run(&info, sizes[i], true);
    }
    return 0;
}

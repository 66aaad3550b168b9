/* Whole steps of a model without a server: decoding at numbers of sequences, and reading prompts.
 * What a step costs does not depend on what the tokens say, so they are any, and the cache holds
 * what earlier steps left there. One JSON object a line, as it is measured.
 *
 *     bench_steps [--backend auto] [--threads 0] [--seconds 60] [--context 512] [--read-gbps 0]
 *                 [--batches 1,8,32] [--prompts 128,512] [--name NAME] MODEL
 *
 * Without --read-gbps no share of the roof is given: weights and cache, each read once. */
#include "bench/usage.h"
#include "kernels/ops.h"
#include "models/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    LIST_MAX = 16,
    STEPS_MAX = 101,
    STEPS_MIN = 3,
    WARM_STEPS = 3,
};

struct list {
    int32_t at[LIST_MAX];
    int32_t n;
};

struct options {
    const char *model;
    const char *name;
    struct ops_options ops;
    double seconds; /* for all lines */
    double read_gbps;
    int32_t context;
    struct list batches;
    struct list prompts;
};

struct bench {
    struct options opt;
    struct ops *ops;
    struct model *m;
    const struct model_info *info;
    double deadline;
    int32_t rows_most;
    int32_t seqs_most;
    int32_t *token;
    int32_t *position;
    int32_t *seq_start;
    int32_t *table;
    struct pick *pick;
    struct picked *out;
};

struct times {
    double median;
    double least;
    int32_t n;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void quit(const char *what, const char *why)
{
    (void)fprintf(stderr, "bench_steps: %s: %s\n", what, why);
    exit(1);
}

static void *take(size_t n, size_t bytes)
{
    void *p = calloc(n, bytes);
    if (!p)
        quit("memory", "there is too little");
    return p;
}

static int32_t blocks_of(const struct bench *b, int32_t tokens)
{
    return (tokens + b->info->block_tokens - 1) / b->info->block_tokens;
}

/* Sequences hold blocks of their own, or they would read each other's from a cache. */
static bool fits(const struct bench *b, int32_t seqs, int32_t tokens)
{
    return tokens <= b->info->context_max &&
           (int64_t)seqs * blocks_of(b, tokens) <= b->info->n_blocks;
}

/* n sequences of rows tokens each, their last token the one before position end. */
static struct model_batch place(struct bench *b, int32_t n, int32_t rows, int32_t end)
{
    int32_t stride = blocks_of(b, end);
    for (int32_t i = 0; i < n * rows; i++) {
        b->token[i] = 3 + i % (b->info->vocab - 3);
        b->position[i] = end - rows + i % rows;
    }
    for (int32_t i = 0; i <= n; i++)
        b->seq_start[i] = i * rows;
    for (int32_t i = 0; i < n * stride; i++)
        b->table[i] = i;
    for (int32_t i = 0; i < n; i++)
        b->pick[i] = (struct pick){
            .row = (i + 1) * rows - 1,
            .position = (uint64_t)end,
            .how = {.top_p = 1, .repetition = 1, .n_logprobs = -1},
        };
    return (struct model_batch){.n_rows = n * rows,
                                .n_seqs = n,
                                .n_picks = n,
                                .table_stride = stride,
                                .token = b->token,
                                .position = b->position,
                                .seq_start = b->seq_start,
                                .block_table = b->table,
                                .pick = b->pick};
}

static double step_seconds(struct bench *b, const struct model_batch *batch)
{
    double start = now();
    model_launch(b->m, batch);
    enum status status = model_wait(b->m, b->out);
    if (status)
        quit("a step", status_text(status));
    return now() - start;
}

static struct times measure(struct bench *b, const struct model_batch *batch, double seconds)
{
    double took[STEPS_MAX];
    struct times t = {0};
    double spent = 0.0;
    for (int32_t i = 0; i < WARM_STEPS; i++)
        (void)step_seconds(b, batch);
    while (t.n < STEPS_MAX && (t.n < STEPS_MIN || spent < seconds)) {
        took[t.n] = step_seconds(b, batch);
        spent += took[t.n++];
    }
    qsort(took, (size_t)t.n, sizeof(took[0]), by_value);
    t.median = took[t.n / 2];
    t.least = took[0];
    return t;
}

/* Every weight but the table of which a step reads a few rows. */
static double weight_bytes(const struct bench *b)
{
    double table = b->info->tied ? 0.0 : (double)b->info->vocab * b->info->dim;
    return (double)b->info->weight_bytes - table;
}

/* bytes: what a step cannot do without reading. */
static void say(const struct bench *b, const char *part, int32_t seqs, int32_t rows,
                int32_t context, double bytes, struct times t)
{
    printf("{\"part\":\"%s\",\"model\":\"%s\",\"backend\":\"%s\",\"seqs\":%d,\"rows\":%d,"
           "\"context\":%d,\"us\":%.1f,\"least_us\":%.1f,\"steps\":%d,\"tokens_per_s\":%.1f,"
           "\"gbps\":%.2f",
           part, b->opt.name, b->ops->name, seqs, rows, context, 1e6 * t.median, 1e6 * t.least, t.n,
           (double)seqs * rows / t.median, 1e-9 * bytes / t.median);
    if (b->opt.read_gbps > 0.0)
        printf(",\"roof\":%.3f", bytes / (1e9 * b->opt.read_gbps) / t.median);
    printf("}\n");
    (void)fflush(stdout);
}

static void decodes(struct bench *b, double seconds)
{
    int32_t context = b->opt.context;
    for (int32_t i = 0; i < b->opt.batches.n && now() < b->deadline; i++) {
        int32_t n = b->opt.batches.at[i];
        if (!fits(b, n, context))
            continue;
        struct model_batch batch = place(b, n, 1, context);
        double bytes =
            (double)b->info->weight_bytes + (double)b->info->kv_bytes_per_token * context * n;
        say(b, "decode", n, 1, context, bytes, measure(b, &batch, seconds));
    }
}

static void prompts(struct bench *b, double seconds)
{
    for (int32_t i = 0; i < b->opt.prompts.n && now() < b->deadline; i++) {
        int32_t n = b->opt.prompts.at[i];
        if (!fits(b, 1, n))
            continue;
        struct model_batch batch = place(b, 1, n, n);
        say(b, "prompt", 1, n, n, weight_bytes(b), measure(b, &batch, seconds));
    }
}

static void open_model(struct bench *b)
{
    char err[512];
    double start = now();
    if (ops_open(&b->ops, &b->opt.ops, err, sizeof(err)))
        quit("backend", err);
    double opened = now();
    const struct model_options how = {.path = b->opt.model,
                                      .step_rows_max = b->rows_most,
                                      .step_seqs_max = b->seqs_most,
                                      .acts = ACTS_INT8};
    if (model_open(&b->m, &how, b->ops, err, sizeof(err)))
        quit(b->opt.model, err);
    b->info = model_info(b->m);
    printf("{\"part\":\"load\",\"model\":\"%s\",\"backend\":\"%s\",\"device_ms\":%.0f,"
           "\"model_ms\":%.0f,\"weight_bytes\":%llu,\"blocks\":%d}\n",
           b->opt.name, b->ops->name, 1e3 * (opened - start), 1e3 * (now() - opened),
           (unsigned long long)b->info->weight_bytes, b->info->n_blocks);
    (void)fflush(stdout);
    int32_t longest = b->info->context_max;
    b->opt.context = b->opt.context < longest ? b->opt.context : longest;
    b->token = take((size_t)b->rows_most, sizeof(int32_t));
    b->position = take((size_t)b->rows_most, sizeof(int32_t));
    b->seq_start = take((size_t)b->seqs_most + 1, sizeof(int32_t));
    b->table = take((size_t)b->info->n_blocks, sizeof(int32_t));
    b->pick = take((size_t)b->seqs_most, sizeof(struct pick));
    b->out = take((size_t)b->seqs_most, sizeof(struct picked));
}

static void close_model(struct bench *b)
{
    model_close(b->m);
    b->ops->close(b->ops);
    free(b->token);
    free(b->position);
    free(b->seq_start);
    free(b->table);
    free(b->pick);
    free(b->out);
}

static bool read_list(struct list *l, const char *text)
{
    l->n = 0;
    for (char *end; l->n < LIST_MAX; text = end + 1) {
        long v = strtol(text, &end, 10);
        if (end == text || v < 1 || v > 4096 || (*end != ',' && *end))
            return false;
        l->at[l->n++] = (int32_t)v;
        if (!*end)
            return true;
    }
    return false;
}

static int32_t most(const struct list *l)
{
    int32_t m = 0;
    for (int32_t i = 0; i < l->n; i++)
        m = l->at[i] > m ? l->at[i] : m;
    return m;
}

/* false: not understood. */
static bool read_option(struct options *o, const char *name, const char *value)
{
    if (strcmp(name, "--backend") == 0)
        return o->ops.backend = value, true;
    if (strcmp(name, "--name") == 0)
        return o->name = value, true;
    if (strcmp(name, "--batches") == 0)
        return read_list(&o->batches, value);
    if (strcmp(name, "--prompts") == 0)
        return read_list(&o->prompts, value);
    char *end;
    double number = strtod(value, &end);
    if (end == value || *end || !(number >= 0.0 && number <= 1e6))
        return false;
    if (strcmp(name, "--threads") == 0)
        return o->ops.threads = (int32_t)number, true;
    if (strcmp(name, "--seconds") == 0)
        return o->seconds = number, true;
    if (strcmp(name, "--read-gbps") == 0)
        return o->read_gbps = number, true;
    if (strcmp(name, "--context") == 0)
        return o->context = (int32_t)number, number >= 1.0;
    return false;
}

static const char usage_text[] =
    "bench_steps [options] MODEL: whole steps of a model, one JSON object a line\n"
    "  --backend auto|cpu|cuda    (auto)\n"
    "  --threads N                0: one for each core (0)\n"
    "  --seconds N                for all of it; what does not fit is left out (60)\n"
    "  --context N                tokens that each sequence has behind it (512)\n"
    "  --batches N,N              sequences that decode together\n"
    "  --prompts N,N              tokens of a prompt that is read\n"
    "  --read-gbps N              what this machine reads: adds the share of that roof\n"
    "  --name NAME                the model's in the results\n";

int main(int argc, char **argv)
{
    struct bench b = {
        .opt = {.ops = {.backend = "auto"},
                .seconds = 60.0,
                .context = 512,
                .batches = {{1, 256, 32, 8, 64, 128, 2, 4, 16}, 9},
                .prompts = {{2048, 128, 512, 32}, 4}},
    };
    usage_if_asked(argc, argv, usage_text);
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] != '-' && !b.opt.model)
            b.opt.model = argv[i];
        else if (i + 1 == argc || !read_option(&b.opt, argv[i], argv[i + 1]))
            return (void)fprintf(stderr, "bench_steps: not understood: %s (see --help)\n", argv[i]),
                   2;
        else
            i++;
    }
    if (!b.opt.model)
        return (void)fprintf(stderr, "bench_steps: which model? (see --help)\n"), 2;
    b.opt.name = b.opt.name ? b.opt.name : b.opt.model;
    b.rows_most = b.seqs_most = most(&b.opt.batches);
    if (most(&b.opt.prompts) > b.rows_most)
        b.rows_most = most(&b.opt.prompts);
    open_model(&b);
    b.deadline = now() + b.opt.seconds;
    double line = b.opt.seconds / (2 * (b.opt.batches.n + b.opt.prompts.n));
    decodes(&b, line < 1.0 ? line : 1.0);
    prompts(&b, line < 1.0 ? line : 1.0);
    close_model(&b);
    return 0;
}

#include "scheduler/measure.h"

#include <stdlib.h>

/* Each kind of step doubles until the largest, so what is tried next takes at most twice as
 * long as what was tried last of its kind, and the time is never overdrawn by much. The first
 * step of a size may have to make room for it, and others use the machine too, so what is short
 * is done several times and the quickest counts. Chunks follow each other in one sequence: the
 * later ones tell what looking back costs.
 *
 * What was found is learned like the steps of requests are, so those correct it. */

enum {
    ROWS_MAX = 64,
    TABLE_MAX = 64,    /* blocks of the sequence that is read */
    READ_MAX = 512,    /* its tokens */
    TRIALS_MAX = 32,   /* sizes that are tried */
    LESSONS = 2,       /* times that each of them is learned */
    TRIES = 3,         /* of a size */
    REPEAT_SHARE = 50, /* of the budget, one part: what takes longer is done once */
};

struct bench {
    struct model *m;
    uint64_t began_ns;
    uint64_t budget_ns;
    uint64_t chunk_ns; /* what the last of this kind took */
    uint64_t draws_ns;
    int32_t rows_max;
    int32_t seqs_max;
    int32_t read_max;
    int32_t stride; /* blocks that as many tokens need */
    int32_t n_read;
    struct measured *out;
    int32_t n_trials;
    struct {
        struct step_shape shape;
        uint64_t ns;
    } trial[TRIALS_MAX];
    int32_t token[ROWS_MAX];
    int32_t position[ROWS_MAX];
    int32_t seq_start[ROWS_MAX + 1];
    int32_t table[TABLE_MAX];
    struct pick pick[ROWS_MAX];
    struct picked picked[ROWS_MAX];
};

static uint64_t spent_ns(const struct bench *b)
{
    return now_ns() - b->began_ns;
}

/* What the tokens say does not matter; that they are not all the same does, for caches. */
static void name_rows(struct bench *b, int32_t n, int32_t first, bool in_a_row)
{
    int32_t vocab = model_info(b->m)->vocab;
    for (int32_t i = 0; i < n; i++) {
        b->token[i] = (int32_t)((first + i) * (int64_t)7919 % vocab);
        b->position[i] = in_a_row ? first + i : 0;
    }
}

static enum status run(struct bench *b, const struct model_batch *step, uint64_t *ns)
{
    uint64_t start = now_ns();
    model_launch(b->m, step);
    enum status s = model_wait(b->m, b->picked);
    *ns = now_ns() - start;
    b->out->n_steps++;
    return s;
}

static enum status try_step(struct bench *b, const struct model_batch *step, uint64_t *ns)
{
    enum status s = run(b, step, ns);
    for (int32_t i = 1; i < TRIES && !s && *ns <= b->budget_ns / REPEAT_SHARE; i++) {
        uint64_t again;
        s = run(b, step, &again);
        *ns = again < *ns ? again : *ns;
    }
    return s;
}

static enum status keep(struct bench *b, enum status s, const struct step_shape *shape, uint64_t ns)
{
    if (s)
        return s;
    b->trial[b->n_trials].shape = *shape;
    b->trial[b->n_trials++].ns = ns;
    return OK;
}

/* The next n tokens of a prompt. */
static enum status try_chunk(struct bench *b, int32_t n)
{
    const struct step_shape shape = {.n_reads = n, .context = (int64_t)n * (b->n_read + n / 2)};
    const struct model_batch step = {
        .n_rows = n,
        .n_seqs = 1,
        .table_stride = b->stride,
        .token = b->token,
        .position = b->position,
        .seq_start = b->seq_start,
        .block_table = b->table,
        .pick = b->pick,
    };
    b->seq_start[0] = 0;
    b->seq_start[1] = n;
    name_rows(b, n, b->n_read, true);
    b->n_read += n;
    enum status s = try_step(b, &step, &b->chunk_ns);
    return keep(b, s, &shape, b->chunk_ns);
}

/* A token each for n sequences, each with a block of its own. */
static enum status try_draws(struct bench *b, int32_t n)
{
    const struct step_shape shape = {.n_draws = n};
    const struct model_batch step = {
        .n_rows = n,
        .n_seqs = n,
        .n_picks = n,
        .table_stride = 1,
        .token = b->token,
        .position = b->position,
        .seq_start = b->seq_start,
        .block_table = b->table,
        .pick = b->pick,
    };
    for (int32_t i = 0; i < n; i++) {
        b->seq_start[i + 1] = i + 1;
        b->pick[i] = (struct pick){.row = i, .position = 1};
        b->pick[i].how =
            (struct sampling){.temperature = 1, .top_p = 1, .repetition = 1, .n_logprobs = -1};
    }
    b->seq_start[0] = 0;
    name_rows(b, n, 0, false);
    enum status s = try_step(b, &step, &b->draws_ns);
    return keep(b, s, &shape, b->draws_ns);
}

static bool has_time(const struct bench *b, uint64_t last_ns, bool (*stop)(void *arg), void *arg)
{
    return b->n_trials < TRIALS_MAX && spent_ns(b) + last_ns <= b->budget_ns && !stop(arg);
}

static enum status try_all(struct bench *b, bool (*stop)(void *arg), void *arg)
{
    enum status s = OK;
    for (int32_t n = 1; n <= b->rows_max && !s; n *= 2) {
        if (n <= b->seqs_max && has_time(b, b->draws_ns, stop, arg))
            s = try_draws(b, n);
        /* One token of a prompt costs what one of an answer does. */
        b->chunk_ns = n == 1 ? b->draws_ns : b->chunk_ns;
        if (n > 1 && !s && b->n_read + n <= b->read_max && has_time(b, b->chunk_ns, stop, arg))
            s = try_chunk(b, n);
    }
    while (!s && b->n_read + b->rows_max <= b->read_max && has_time(b, b->chunk_ns, stop, arg))
        s = try_chunk(b, b->rows_max);
    return s;
}

static int32_t power_of_two(int32_t most)
{
    int32_t n = 1;
    while (n * 2 <= most)
        n *= 2;
    return n;
}

static void prepare(struct bench *b, struct model *m, const struct sched_options *opt)
{
    const struct model_info *info = model_info(m);
    int64_t cells = (int64_t)min32(info->n_blocks, TABLE_MAX) * info->block_tokens;
    b->m = m;
    b->began_ns = now_ns();
    b->rows_max = power_of_two(min32(opt->step_rows_max, ROWS_MAX));
    b->seqs_max = min32(opt->step_seqs_max, min32(info->n_blocks, ROWS_MAX));
    b->read_max = min32(info->context_max, cells < READ_MAX ? (int32_t)cells : READ_MAX);
    b->stride = (b->read_max - 1) / info->block_tokens + 1;
    for (int32_t i = 0; i < TABLE_MAX; i++)
        b->table[i] = min32(i, info->n_blocks - 1);
}

enum status measure_steps(struct cost *c, struct model *m, const struct sched_options *opt,
                          uint64_t budget_ns, bool (*stop)(void *arg), void *arg,
                          struct measured *out)
{
    *out = (struct measured){0};
    struct bench *b = calloc(1, sizeof(*b));
    if (!b)
        return E_NOMEM;
    prepare(b, m, opt);
    b->budget_ns = budget_ns;
    b->out = out;
    enum status s = try_all(b, stop, arg);
    for (int32_t k = 0; k < LESSONS && !s; k++)
        for (int32_t i = 0; i < b->n_trials; i++)
            cost_learn(c, &b->trial[i].shape, b->trial[i].ns);
    out->took_ns = spent_ns(b);
    free(b);
    return s;
}

/* y = x W^T + bias, blocked for the caches.
 *
 * A task is a run of weight rows. It takes the activations in blocks that stay in
 * the second-level cache and, inside a block, each group of weight rows once: few
 * rows stream the weights past all of them, many rows reuse a group from the
 * nearest cache. While a group is worked on, the next one is asked for from memory.
 *
 * Each sum is one call of a tile for the whole of k, so no blocking can change a
 * result. */

#include "kernels/cpu.h"

enum {
    ACT_BLOCK_BYTES = 384 * 1024,
    ACT_BLOCK_ROWS_MAX = 256,
    LINE_BYTES = 64,
    /* Work of a task: weight bytes, plus multiplications at what they cost next to a
     * byte from memory. Less is not worth another thread. */
    TASK_BYTES_LEAST = 64 * 1024,
    PRODUCTS_PER_BYTE = 16,
    TASKS_PER_THREAD = 4,
};

struct linear_job {
    const struct cpu *cpu;
    float *y;
    const struct act *x;
    const struct weight *w;
    int32_t rows;
    int32_t n_each;     /* weight rows of a task, a multiple of the tile */
    int32_t rows_block; /* activation rows of a block, a multiple of the tile */
    bool accumulate;
};

/* A full tile has a constant length, which is what makes it worth a vector. */
static inline void scale_sums(float *restrict y, const int32_t *restrict sum, float x_scale,
                              const float *restrict w_scale, int32_t n, bool accumulate)
{
    for (int32_t i = 0; i < n; i++) {
        float value = (float)sum[i] * x_scale * w_scale[i];
        y[i] = accumulate ? y[i] + value : value;
    }
}

static void scale_biased(float *restrict y, const int32_t *restrict sum, float x_scale,
                         const struct weight *w, int32_t n, int32_t n_w, bool accumulate)
{
    for (int32_t i = 0; i < n_w; i++) {
        float value = (float)sum[i] * x_scale * w->scale[n + i] + w->bias[n + i];
        y[i] = accumulate ? y[i] + value : value;
    }
}

static void put_q8(const struct linear_job *job, int32_t row, int32_t n, int32_t n_w,
                   const int32_t *sum)
{
    float *y = &job->y[(size_t)row * (size_t)job->w->n + (size_t)n];
    const float *w_scale = job->w->scale + n;
    float x_scale = job->x->scale[row];
    if (job->w->bias)
        scale_biased(y, sum, x_scale, job->w, n, n_w, job->accumulate);
    else if (n_w < Q8_TILE_W)
        scale_sums(y, sum, x_scale, w_scale, n_w, job->accumulate);
    else if (job->accumulate)
        scale_sums(y, sum, x_scale, w_scale, Q8_TILE_W, true);
    else
        scale_sums(y, sum, x_scale, w_scale, Q8_TILE_W, false);
}

static void put_float(const struct linear_job *job, int32_t row, int32_t n, int32_t n_w,
                      const float *sum)
{
    const struct weight *w = job->w;
    float *y = &job->y[(size_t)row * (size_t)w->n + (size_t)n];
    for (int32_t i = 0; i < n_w; i++) {
        float value = w->kind == NUM_Q8 ? sum[i] * w->scale[n + i] : sum[i];
        value = w->bias ? value + w->bias[n + i] : value;
        y[i] = job->accumulate ? y[i] + value : value;
    }
}

/* One group of weight rows against the activation rows begin .. end - 1. */
static void q8_group(const struct linear_job *job, int32_t n, int32_t n_w, int32_t begin,
                     int32_t end, const int32_t *a_sum)
{
    const struct weight *w = job->w;
    size_t k = (size_t)w->k;
    int32_t sum[Q8_TILE_A * Q8_TILE_W];
    int32_t tiles = (end - begin + Q8_TILE_A - 1) / Q8_TILE_A;
    int32_t lines = (Q8_TILE_W + tiles - 1) / tiles;
    struct q8_tile t = {
        .w = w->q + (size_t)n * k, .n_w = n_w, .k = w->k, .next_lines = lines, .sum = sum};
    /* The groups lie one behind the other, and each tile asks for its share. */
    const int8_t *next = n + n_w < w->n ? t.w + (size_t)n_w * k : NULL;
    size_t share = (size_t)lines * k;
    size_t left = (size_t)min32(Q8_TILE_W, w->n - n - n_w) * k;
    for (int32_t row = begin; row < end; row += Q8_TILE_A) {
        t.a = job->x->q + (size_t)row * k;
        t.a_sum = a_sum + (row - begin);
        t.n_a = min32(Q8_TILE_A, end - row);
        t.next = left >= share && next ? next : NULL;
        job->cpu->kern->q8_tile(&t);
        for (int32_t r = 0; r < t.n_a; r++)
            put_q8(job, row + r, n, n_w, sum + r * Q8_TILE_W);
        next = t.next ? next + share : NULL;
        left -= t.next ? share : 0;
    }
}

static void q8_task(const void *arg, int32_t task, int32_t worker)
{
    const struct linear_job *job = arg;
    size_t k = (size_t)job->w->k;
    int32_t a_sum[ACT_BLOCK_ROWS_MAX];
    int32_t n_end = min32((task + 1) * job->n_each, job->w->n);
    (void)worker;
    for (int32_t begin = 0; begin < job->rows; begin += job->rows_block) {
        int32_t end = min32(begin + job->rows_block, job->rows);
        for (int32_t row = begin; row < end; row++)
            a_sum[row - begin] = job->cpu->kern->q8_sum(job->x->q + (size_t)row * k, k);
        for (int32_t n = task * job->n_each; n < n_end; n += Q8_TILE_W)
            q8_group(job, n, min32(Q8_TILE_W, n_end - n), begin, end, a_sum);
    }
}

static void float_group(const struct linear_job *job, int32_t n, int32_t n_w, int32_t begin,
                        int32_t end)
{
    const struct weight *w = job->w;
    size_t k = (size_t)w->k;
    float sum[FLOAT_TILE_A * FLOAT_TILE_W];
    bool is_q8 = w->kind == NUM_Q8;
    struct float_tile t = {.n_w = n_w, .k = w->k, .sum = sum};
    t.w_q = is_q8 ? w->q + (size_t)n * k : NULL;
    t.w_f = is_q8 ? NULL : w->f + (size_t)n * k;
    for (int32_t row = begin; row < end; row += FLOAT_TILE_A) {
        t.a = job->x->f + (size_t)row * k;
        t.n_a = min32(FLOAT_TILE_A, end - row);
        job->cpu->kern->float_tile(&t);
        for (int32_t r = 0; r < t.n_a; r++)
            put_float(job, row + r, n, n_w, sum + r * FLOAT_TILE_W);
    }
}

static void float_task(const void *arg, int32_t task, int32_t worker)
{
    const struct linear_job *job = arg;
    int32_t n_end = min32((task + 1) * job->n_each, job->w->n);
    (void)worker;
    for (int32_t begin = 0; begin < job->rows; begin += job->rows_block) {
        int32_t end = min32(begin + job->rows_block, job->rows);
        for (int32_t n = task * job->n_each; n < n_end; n += FLOAT_TILE_W)
            float_group(job, n, min32(FLOAT_TILE_W, n_end - n), begin, end);
    }
}

static int32_t block_rows(size_t row_bytes)
{
    size_t rows = ACT_BLOCK_BYTES / (row_bytes ? row_bytes : 1);
    rows = rows < ACT_BLOCK_ROWS_MAX ? rows : ACT_BLOCK_ROWS_MAX;
    rows -= rows % Q8_TILE_A;
    return rows < Q8_TILE_A ? Q8_TILE_A : (int32_t)rows;
}

/* Several tasks per thread even out what a neighbour on the machine takes away. */
static int32_t weight_rows_each(const struct cpu *c, const struct weight *w, int32_t rows,
                                size_t row_bytes)
{
    size_t cost = row_bytes * (1 + (size_t)rows / PRODUCTS_PER_BYTE);
    size_t worth = TASK_BYTES_LEAST / (cost ? cost : 1) + 1;
    size_t n_tasks = (size_t)pool_threads(c->pool) * TASKS_PER_THREAD;
    size_t even = ((size_t)w->n + n_tasks - 1) / n_tasks;
    size_t each = worth > even ? worth : even;
    each += (Q8_TILE_W - each % Q8_TILE_W) % Q8_TILE_W;
    return each < (size_t)w->n ? (int32_t)each : w->n;
}

void cpu_linear(struct ops *o, float *y, const struct act *x, const struct weight *w, int32_t rows,
                bool accumulate)
{
    struct cpu *c = (struct cpu *)o;
    if (rows <= 0 || w->n <= 0)
        return;
    size_t k = (size_t)w->k;
    struct linear_job job = {.cpu = c, .x = x, .w = w, .rows = rows, .accumulate = accumulate};
    job.y = y;
    job.rows_block = block_rows(w->act == NUM_Q8 ? k : k * sizeof(float));
    job.n_each = weight_rows_each(c, w, rows, w->kind == NUM_Q8 ? k : k * sizeof(float));
    cpu_run(c, (w->n + job.n_each - 1) / job.n_each, w->act == NUM_Q8 ? q8_task : float_task, &job);
}

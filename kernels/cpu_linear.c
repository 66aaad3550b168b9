/* y = x W^T + bias, blocked for the caches.
 *
 * A task is a run of weight rows. It takes the activations in blocks that stay in
 * the second-level cache and, inside a block, each group of weight rows once: few
 * rows stream the weights past all of them, many rows reuse a group from the
 * nearest cache.
 * Where the instruction set has loops for many rows, activations are packed for them
 * before, once for all tasks.
 *
 * Each sum is one call of a tile for the whole of k, so no blocking can change a
 * result. */

#include "kernels/cpu.h"

enum {
    ACT_BLOCK_BYTES = 704 * 1024, /* most of a second-level cache: 64 rows of 11008 */
    ACT_BLOCK_ROWS_MAX = 256,
    LINE_BYTES = 64,
    /* Work of a task: weight bytes, plus multiplications at what they cost next to a
     * byte from memory. Less is not worth another thread. */
    TASK_BYTES_LEAST = 64 * 1024,
    PRODUCTS_PER_BYTE = 16,
    TASKS_PER_THREAD = 4,
    /* Many rows: packed at a time, so that what they take is bounded. */
    WIDE_ROWS_MAX = 512,
    WIDE_ROWS_LEAST = 13,               /* fewer fill too few lanes */
    SPLIT_ROWS_MAX = WIDE_ROWS_MAX / 2, /* so that their halves are as many */
    /* Weights of a task: they come back from a near cache for each block of rows. */
    WIDE_WEIGHT_BYTES = 1024 * 1024,
};

struct linear_job {
    const struct cpu *cpu;
    float *y;
    const struct act *x;
    const struct weight *w;
    int32_t rows;
    int32_t n_each; /* weight rows of a task, a multiple of the tile */
    int32_t n_tasks;
    int32_t rows_block; /* activation rows of a block, a multiple of the tile */
    bool accumulate;
    bool split; /* two rows of x, one after the other, are one of y: its high and its low halves */
    /* Many rows, of which row_first .. row_first + rows - 1 are packed. */
    int32_t row_first;
    uint8_t *packed; /* [panels][panel_bytes] */
    size_t panel_bytes;
    int32_t *sums; /* [threads][rows_block][n_w of the table] */
};

/* Sums of t->n_a rows from `row` and of the weight rows from n, to where they belong. */
static void put_q8(const struct linear_job *job, struct q8_out *t, int32_t row, int32_t n)
{
    const struct weight *w = job->w;
    if (job->split) {
        row /= 2;
        t->n_a /= 2;
        t->split = true;
    }
    t->y = &job->y[(size_t)row * (size_t)w->n + (size_t)n];
    t->stride = (size_t)w->n;
    t->x_scale = job->x->scale + row;
    t->w_scale = w->scale + n;
    t->bias = w->bias ? w->bias + n : NULL;
    t->accumulate = job->accumulate;
    job->cpu->kern->q8_put(t);
}

static void put_float(const struct linear_job *job, int32_t row, int32_t n, int32_t n_w,
                      const float *sum)
{
    const struct weight *w = job->w;
    float *y = &job->y[(size_t)row * (size_t)w->n + (size_t)n];
    for (int32_t i = 0; i < n_w; i++) {
        float value = w->bias ? sum[i] + w->bias[n + i] : sum[i];
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
    struct q8_tile t = {.w = w->q + (size_t)n * k, .n_w = n_w, .k = w->k, .sum = sum};
    for (int32_t row = begin; row < end; row += Q8_TILE_A) {
        t.a = job->x->q + (size_t)row * k;
        t.a_sum = a_sum + (row - begin);
        t.n_a = min32(Q8_TILE_A, end - row);
        t.near = row > begin;
        job->cpu->kern->q8_tile(&t);
        struct q8_out out = {.sum = sum, .sum_stride = Q8_TILE_W, .n_a = t.n_a, .n_w = n_w};
        put_q8(job, &out, row, n);
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

/* ---- few rows ---- */

/* Threads take tasks in turn. The weights of those that one thread is likely to take follow each
 * other, so what it asks for beyond the end of one is the beginning of its next. */
static int32_t in_turn(const struct linear_job *job, int32_t task)
{
    const struct nodes *nodes = &job->cpu->nodes;
    int32_t node = 0;
    struct part of = nodes_part(nodes, node, job->n_tasks);
    while (task >= of.end)
        of = nodes_part(nodes, ++node, job->n_tasks);
    int32_t threads = nodes->threads_before[node + 1] - nodes->threads_before[node];
    int32_t each = (int32_t)(of.end - of.begin) / threads;
    int32_t longer = (int32_t)(of.end - of.begin) % threads;
    int32_t at = task - (int32_t)of.begin;
    int32_t thread = at % threads;
    return (int32_t)of.begin + thread * each + min32(thread, longer) + at / threads;
}

static void few_task(const void *arg, int32_t task, int32_t worker)
{
    const struct linear_job *job = arg;
    const struct weight *w = job->w;
    const struct cpu_kernels *kern = job->cpu->kern;
    _Alignas(LINE_BYTES) int32_t sum[Q8_FEW_A * Q8_FEW_W];
    int32_t w_sum[Q8_FEW_W];
    struct q8_few_tile t = {.a = job->packed, .n_a = job->rows, .k = w->k, .sum = sum};
    int32_t first = in_turn(job, task) * job->n_each;
    int32_t n_end = min32(first + job->n_each, w->n);
    (void)worker;
    for (int32_t n = first; n < n_end; n += Q8_FEW_W) {
        t.w = w->q + (size_t)n * (size_t)w->k;
        t.n_w = min32(Q8_FEW_W, n_end - n);
        t.w_sum = w->sum ? w->sum + n : w_sum;
        for (int32_t i = 0; !w->sum && i < t.n_w; i++)
            w_sum[i] = kern->q8_sum(t.w + (size_t)i * (size_t)w->k, (size_t)w->k);
        kern->few->sums(&t);
        struct q8_out out = {.sum = sum, .sum_stride = Q8_FEW_W, .n_a = t.n_a, .n_w = t.n_w};
        put_q8(job, &out, 0, n);
    }
}

/* ---- many rows ---- */

static void pack_task(const void *arg, int32_t task, int32_t worker)
{
    const struct linear_job *job = arg;
    int32_t row = task * Q8_PANEL;
    const int8_t *a = job->x->q + (size_t)(job->row_first + row) * (size_t)job->w->k;
    (void)worker;
    job->cpu->kern->wide->pack(job->packed + (size_t)task * job->panel_bytes, a,
                               min32(Q8_PANEL, job->rows - row), job->w->k);
}

static void wide_task(const void *arg, int32_t task, int32_t worker)
{
    const struct linear_job *job = arg;
    const struct weight *w = job->w;
    int32_t n_w = job->cpu->kern->wide->n_w;
    int32_t n_end = min32((task + 1) * job->n_each, w->n);
    struct q8_wide_tile t = {.panel_bytes = job->panel_bytes, .k = w->k};
    t.sum = job->sums + (size_t)worker * (size_t)(job->rows_block * n_w);
    for (int32_t begin = 0; begin < job->rows; begin += job->rows_block) {
        t.a = job->packed + (size_t)(begin / Q8_PANEL) * job->panel_bytes;
        t.n_a = min32(job->rows_block, job->rows - begin);
        for (int32_t n = task * job->n_each; n < n_end; n += n_w) {
            t.w = w->q + (size_t)n * (size_t)w->k;
            t.w_sum = w->sum ? w->sum + n : NULL;
            t.n_w = min32(n_w, n_end - n);
            t.next = n + 2 * n_w <= w->n ? t.w + (size_t)n_w * (size_t)w->k : NULL;
            job->cpu->kern->wide->sums(&t);
            struct q8_out out = {.sum = t.sum, .sum_stride = n_w, .n_a = t.n_a, .n_w = t.n_w};
            put_q8(job, &out, job->row_first + begin, n);
        }
    }
}

static void float_group(const struct linear_job *job, int32_t n, int32_t n_w, int32_t begin,
                        int32_t end)
{
    const struct weight *w = job->w;
    size_t k = (size_t)w->k;
    float sum[FLOAT_TILE_A * FLOAT_TILE_W];
    struct float_tile t = {.w = w->f + (size_t)n * k, .n_w = n_w, .k = w->k, .sum = sum};
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

static int32_t block_rows(size_t row_bytes, int32_t multiple)
{
    size_t rows = ACT_BLOCK_BYTES / (row_bytes ? row_bytes : 1);
    int32_t n = rows < ACT_BLOCK_ROWS_MAX ? (int32_t)rows : ACT_BLOCK_ROWS_MAX;
    n -= n % multiple;
    return n < multiple ? multiple : n;
}

/* Several tasks per thread even out what a neighbour on the machine takes away. */
static int32_t weight_rows_each(const struct cpu *c, const struct weight *w, int32_t rows,
                                size_t row_bytes, int32_t multiple)
{
    size_t cost = row_bytes * (1 + (size_t)rows / PRODUCTS_PER_BYTE);
    size_t worth = TASK_BYTES_LEAST / (cost ? cost : 1) + 1;
    size_t n_tasks = (size_t)pool_threads(c->pool) * TASKS_PER_THREAD;
    size_t even = ((size_t)w->n + n_tasks - 1) / n_tasks;
    size_t each = worth > even ? worth : even;
    each += ((size_t)multiple - each % (size_t)multiple) % (size_t)multiple;
    return each < (size_t)w->n ? (int32_t)each : w->n;
}

/* The tasks of a product: enough for every thread, each with enough to do. */
static void linear_run(struct linear_job *job, struct cpu *c, pool_fn fn)
{
    job->n_tasks = (job->w->n + job->n_each - 1) / job->n_each;
    cpu_run(c, job->n_tasks, fn, job);
}

static void few_linear(struct cpu *c, struct linear_job *job)
{
    size_t k = (size_t)job->w->k;
    size_t panels = ((size_t)job->rows + Q8_PANEL - 1) / Q8_PANEL;
    if (!cpu_reserve(c, panels * q8_panel_bytes(job->w->k)))
        return;
    job->packed = cpu_scratch(c, 0);
    c->kern->few->pack(job->packed, job->x->q, job->rows, job->w->k);
    job->n_each = weight_rows_each(c, job->w, job->rows, k, Q8_FEW_W);
    linear_run(job, c, few_task);
}

static void wide_linear(struct cpu *c, struct linear_job *job)
{
    int32_t n_w = c->kern->wide->n_w;
    int32_t rows = job->rows;
    size_t k = (size_t)job->w->k;
    job->panel_bytes = c->kern->wide->panel_bytes(job->w->k);
    job->rows_block = block_rows(job->panel_bytes / Q8_PANEL, 2 * Q8_PANEL);
    size_t panels = ((size_t)min32(rows, WIDE_ROWS_MAX) + Q8_PANEL - 1) / Q8_PANEL;
    size_t packed = panels * job->panel_bytes;
    size_t threads = (size_t)pool_threads(c->pool);
    size_t sums = (size_t)(job->rows_block * n_w) * sizeof(int32_t);
    if (!cpu_reserve(c, packed / threads + 1 + sums))
        return;
    /* The scratch of all threads as one: what is packed, then sums for each. */
    job->sums = cpu_scratch(c, 0);
    job->packed = (uint8_t *)cpu_scratch(c, 0) + sums * threads;
    size_t most = WIDE_WEIGHT_BYTES / (k ? k : 1);
    for (; job->row_first < rows; job->row_first += WIDE_ROWS_MAX) {
        job->rows = min32(WIDE_ROWS_MAX, rows - job->row_first);
        job->n_each = weight_rows_each(c, job->w, job->rows, k, n_w);
        if (job->rows > job->rows_block && (size_t)job->n_each > most)
            job->n_each = most < (size_t)n_w ? n_w : (int32_t)(most - most % (size_t)n_w);
        cpu_run(c, (job->rows + Q8_PANEL - 1) / Q8_PANEL, pack_task, job);
        linear_run(job, c, wide_task);
    }
}

static void q8_linear(struct cpu *c, struct linear_job *job)
{
    const struct cpu_kernels *kern = c->kern;
    size_t k = (size_t)job->w->k;
    if (kern->few && job->rows <= kern->few_most) {
        few_linear(c, job);
        return;
    }
    if (kern->wide && (kern->few || job->rows >= WIDE_ROWS_LEAST)) {
        wide_linear(c, job);
        return;
    }
    job->rows_block = block_rows(k, Q8_TILE_A);
    job->n_each = weight_rows_each(c, job->w, job->rows, k, Q8_TILE_W);
    linear_run(job, c, q8_task);
}

/* ---- int8 weights, activations that are not ---- */

struct split_job {
    const struct cpu *cpu;
    int8_t *q;      /* [rows][2][k] */
    float *scale;   /* [rows] */
    const float *x; /* [rows][k] */
    int32_t rows;
    int32_t rows_each;
    int32_t k;
};

static void split_task(const void *arg, int32_t task, int32_t worker)
{
    const struct split_job *job = arg;
    size_t k = (size_t)job->k;
    int32_t end = min32((task + 1) * job->rows_each, job->rows);
    (void)worker;
    for (int32_t row = task * job->rows_each; row < end; row++)
        job->cpu->kern->quantize_split(job->q + (size_t)row * 2 * k, &job->scale[row],
                                       job->x + (size_t)row * k, k);
}

/* Activations are rounded to 16 bit, of which the halves are rows of int8. */
static void split_linear(struct cpu *c, const struct linear_job *all)
{
    size_t k = (size_t)all->w->k;
    size_t most = (size_t)min32(all->rows, SPLIT_ROWS_MAX);
    char *room = cpu_common(c, most * (sizeof(float) + 2 * k));
    if (!room)
        return;
    struct split_job split = {.cpu = c, .scale = (float *)(void *)room, .k = all->w->k};
    split.q = (int8_t *)room + most * sizeof(float);
    for (int32_t row = 0; row < all->rows; row += SPLIT_ROWS_MAX) {
        split.rows = min32(SPLIT_ROWS_MAX, all->rows - row);
        split.x = all->x->f + (size_t)row * k;
        split.rows_each = cpu_rows_each(c, split.rows, (size_t)split.rows * k);
        cpu_run(c, (split.rows + split.rows_each - 1) / split.rows_each, split_task, &split);
        const struct act x = {.kind = NUM_Q8, .q = split.q, .scale = split.scale};
        struct linear_job job = *all;
        job.x = &x;
        job.y += (size_t)row * (size_t)all->w->n;
        job.rows = 2 * split.rows;
        job.split = true;
        q8_linear(c, &job);
    }
}

void cpu_linear(struct ops *o, float *y, const struct act *x, const struct weight *w, int32_t rows,
                bool accumulate)
{
    struct cpu *c = (struct cpu *)o;
    if (rows <= 0 || w->n <= 0)
        return;
    struct linear_job job = {.cpu = c, .x = x, .w = w, .rows = rows, .accumulate = accumulate};
    job.y = y;
    if (w->act == NUM_Q8) {
        q8_linear(c, &job);
        return;
    }
    if (w->kind == NUM_Q8) {
        split_linear(c, &job);
        return;
    }
    size_t row_bytes = (size_t)w->k * sizeof(float);
    job.rows_block = block_rows(row_bytes, Q8_TILE_A);
    job.n_each = weight_rows_each(c, w, rows, row_bytes, FLOAT_TILE_W);
    linear_run(&job, c, float_task);
}

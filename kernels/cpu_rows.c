/* Operations that treat each row by itself: embed, norm, convert, swiglu, gather
 * and rope_store. A task is a run of rows. */

#include "kernels/cpu.h"
#include "kernels/half.h"
#include "kernels/paged.h"

#include <math.h>
#include <string.h>

struct rows_job {
    struct cpu *cpu;
    const struct act *y;
    float *out;
    const float *x;
    const float *gain;
    const int32_t *index;
    const struct weight *table;
    float eps;
    int32_t rows;
    int32_t rows_each;
    int32_t dim;
};

struct rope_job {
    struct cpu *cpu;
    float *qkv;
    const struct kv_layer *kv;
    const struct step_view *step;
    const struct head_shape *shape;
    int32_t rows_each;
};

static int32_t end_of(int32_t task, int32_t rows_each, int32_t rows)
{
    int32_t end = (task + 1) * rows_each;
    return end < rows ? end : rows;
}

static void run_rows(struct rows_job *job, pool_fn fn)
{
    size_t work = (size_t)job->rows * (size_t)job->dim;
    if (job->rows <= 0)
        return;
    job->rows_each = cpu_rows_each(job->cpu, job->rows, work);
    cpu_run(job->cpu, (job->rows + job->rows_each - 1) / job->rows_each, fn, job);
}

static void write_row(const struct cpu *c, const struct act *y, int32_t row, const float *x,
                      size_t dim)
{
    if (y->kind == NUM_Q8)
        c->kern->quantize(y->q + (size_t)row * dim, &y->scale[row], x, dim);
    else if (y->f + (size_t)row * dim != x)
        memcpy(y->f + (size_t)row * dim, x, dim * sizeof(*x));
}

/* What a token id outside the table would be is a row of zeros: the place of a
 * draw that failed, whose request ends with this step. */
static void embed_task(const void *arg, int32_t task, int32_t worker)
{
    const struct rows_job *job = arg;
    const struct weight *w = job->table;
    size_t dim = (size_t)job->dim;
    (void)worker;
    for (int32_t row = task * job->rows_each; row < end_of(task, job->rows_each, job->rows);
         row++) {
        int32_t id = job->index[row];
        if (id < 0)
            id = ~id < job->cpu->n_drawn ? job->cpu->drawn[~id] : PICKED_BAD;
        float *x = job->out + (size_t)row * dim;
        if (id < 0 || id >= w->n) {
            memset(x, 0, dim * sizeof(*x));
        } else if (w->kind == NUM_F32) {
            memcpy(x, w->f + (size_t)id * dim, dim * sizeof(*x));
        } else {
            job->cpu->kern->widen(x, w->q + (size_t)id * dim, dim);
            for (size_t i = 0; i < dim; i++)
                x[i] *= w->scale[id];
        }
    }
}

void cpu_embed(struct ops *o, float *x, const struct weight *table, const int32_t *ids,
               int32_t rows)
{
    struct rows_job job = {
        .cpu = (struct cpu *)o,
        .table = table,
        .index = ids,
        .rows = rows,
        .dim = table->k,
    };
    job.out = x;
    run_rows(&job, embed_task);
}

static void norm_task(const void *arg, int32_t task, int32_t worker)
{
    const struct rows_job *job = arg;
    const struct cpu *c = job->cpu;
    size_t dim = (size_t)job->dim;
    for (int32_t row = task * job->rows_each; row < end_of(task, job->rows_each, job->rows);
         row++) {
        const float *x = job->x + (size_t)row * dim;
        float *y = job->y->kind == NUM_Q8 ? cpu_scratch(c, worker) : job->y->f + (size_t)row * dim;
        float mean = c->kern->square_sum(x, dim) / (float)job->dim;
        float inverse = 1.0f / sqrtf(mean + job->eps);
        for (size_t i = 0; i < dim; i++)
            y[i] = x[i] * inverse * job->gain[i];
        write_row(c, job->y, row, y, dim);
    }
}

void cpu_norm(struct ops *o, const struct act *y, const float *x, const float *gain, float eps,
              int32_t rows, int32_t dim)
{
    struct cpu *c = (struct cpu *)o;
    struct rows_job job = {
        .cpu = c, .y = y, .x = x, .gain = gain, .eps = eps, .rows = rows, .dim = dim};
    if (cpu_reserve(c, (size_t)dim * sizeof(float)))
        run_rows(&job, norm_task);
}

static void convert_task(const void *arg, int32_t task, int32_t worker)
{
    const struct rows_job *job = arg;
    size_t dim = (size_t)job->dim;
    (void)worker;
    for (int32_t row = task * job->rows_each; row < end_of(task, job->rows_each, job->rows); row++)
        write_row(job->cpu, job->y, row, job->x + (size_t)row * dim, dim);
}

void cpu_convert(struct ops *o, const struct act *y, const float *x, int32_t rows, int32_t dim)
{
    struct rows_job job = {.cpu = (struct cpu *)o, .y = y, .x = x, .rows = rows, .dim = dim};
    run_rows(&job, convert_task);
}

static void swiglu_task(const void *arg, int32_t task, int32_t worker)
{
    const struct rows_job *job = arg;
    const struct cpu *c = job->cpu;
    size_t dim = (size_t)job->dim;
    for (int32_t row = task * job->rows_each; row < end_of(task, job->rows_each, job->rows);
         row++) {
        const float *gate = job->x + (size_t)row * 2 * dim;
        float *y = job->y->kind == NUM_Q8 ? cpu_scratch(c, worker) : job->y->f + (size_t)row * dim;
        c->kern->silu_mul(y, gate, gate + dim, dim);
        write_row(c, job->y, row, y, dim);
    }
}

void cpu_swiglu(struct ops *o, const struct act *y, const float *gate_up, int32_t rows,
                int32_t hidden)
{
    struct cpu *c = (struct cpu *)o;
    struct rows_job job = {.cpu = c, .y = y, .x = gate_up, .rows = rows, .dim = hidden};
    if (cpu_reserve(c, (size_t)hidden * sizeof(float)))
        run_rows(&job, swiglu_task);
}

static void gather_task(const void *arg, int32_t task, int32_t worker)
{
    const struct rows_job *job = arg;
    size_t dim = (size_t)job->dim;
    (void)worker;
    for (int32_t row = task * job->rows_each; row < end_of(task, job->rows_each, job->rows); row++)
        memcpy(job->out + (size_t)row * dim, job->x + (size_t)job->index[row] * dim,
               dim * sizeof(float));
}

void cpu_gather(struct ops *o, float *y, const float *x, const int32_t *index, int32_t rows,
                int32_t dim)
{
    struct rows_job job = {
        .cpu = (struct cpu *)o, .x = x, .index = index, .rows = rows, .dim = dim};
    job.out = y;
    run_rows(&job, gather_task);
}

static void rotate(float *x, const float *turn, size_t half)
{
    const float *cosine = turn;
    const float *sine = turn + half;
    for (size_t i = 0; i < half; i++) {
        float a = x[i];
        float b = x[i + half];
        x[i] = a * cosine[i] - b * sine[i];
        x[i + half] = b * cosine[i] + a * sine[i];
    }
}

/* RMSNorm of each head by itself. */
static void norm_heads(const struct rope_job *job, float *head, int32_t n, const float *gain)
{
    const struct head_shape *s = job->shape;
    size_t dim = (size_t)s->head_dim;
    for (; n > 0; n--, head += dim) {
        float mean = job->cpu->kern->square_sum(head, dim) / (float)s->head_dim;
        float inverse = 1.0f / sqrtf(mean + s->norm_eps);
        for (size_t i = 0; i < dim; i++)
            head[i] = head[i] * inverse * gain[i];
    }
}

/* A key or value of a token. */
static void store(const struct rope_job *job, void *to, float *scale, const float *from)
{
    size_t dim = (size_t)job->shape->head_dim;
    if (job->kv->kind == NUM_Q8) {
        job->cpu->kern->quantize(to, scale, from, dim);
    } else if (job->kv->kind == NUM_F16) {
        uint16_t *half = to;
        for (size_t i = 0; i < dim; i++)
            half[i] = half_of_float(from[i]);
    } else {
        memcpy(to, from, dim * sizeof(*from));
    }
}

static void store_head(const struct rope_job *job, struct kv_place at, const float *key,
                       const float *value)
{
    const struct kv_layer *kv = job->kv;
    size_t bytes = kv_row_bytes(kv->kind, job->shape->head_dim);
    bool scaled = kv->kind == NUM_Q8;
    float *key_scale = scaled ? kv_scale(kv->key_scale, at) : NULL;
    float *value_scale = scaled ? kv_scale(kv->value_scale, at) : NULL;
    store(job, kv_row(kv->key, at, bytes), key_scale, key);
    store(job, kv_row(kv->value, at, bytes), value_scale, value);
}

static void rope_row(const struct rope_job *job, int32_t row, float *turn)
{
    const struct head_shape *s = job->shape;
    const struct step_view *v = job->step;
    size_t dim = (size_t)s->head_dim;
    size_t half = dim / 2;
    int32_t position = v->position[row];
    for (size_t i = 0; i < half; i++) {
        float angle = (float)position * s->rope_freq[i];
        turn[i] = cosf(angle);
        turn[i + half] = sinf(angle);
    }
    float *heads = job->qkv + (size_t)row * (size_t)(s->n_heads + 2 * s->n_kv_heads) * dim;
    if (s->q_norm)
        norm_heads(job, heads, s->n_heads, s->q_norm);
    if (s->k_norm)
        norm_heads(job, heads + (size_t)s->n_heads * dim, s->n_kv_heads, s->k_norm);
    for (int32_t h = 0; h < s->n_heads + s->n_kv_heads; h++)
        rotate(heads + (size_t)h * dim, turn, half);

    const float *key = heads + (size_t)s->n_heads * dim;
    const float *value = key + (size_t)s->n_kv_heads * dim;
    int32_t block = v->block_table[(size_t)v->row_seq[row] * (size_t)v->table_stride +
                                   (size_t)(position / s->block_tokens)];
    for (int32_t h = 0; h < s->n_kv_heads; h++)
        store_head(job, kv_place(job->kv, s, block, h, position % s->block_tokens),
                   key + (size_t)h * dim, value + (size_t)h * dim);
}

static void rope_task(const void *arg, int32_t task, int32_t worker)
{
    const struct rope_job *job = arg;
    float *turn = cpu_scratch(job->cpu, worker);
    for (int32_t row = task * job->rows_each; row < end_of(task, job->rows_each, job->step->n_rows);
         row++)
        rope_row(job, row, turn);
}

void cpu_rope_store(struct ops *o, float *qkv, const struct kv_layer *kv,
                    const struct step_view *step, const struct head_shape *shape)
{
    struct cpu *c = (struct cpu *)o;
    int32_t rows = step->n_rows;
    struct rope_job job = {.cpu = c, .kv = kv, .step = step, .shape = shape};
    job.qkv = qkv;
    size_t per_row = (size_t)(shape->n_heads + 2 * shape->n_kv_heads) * (size_t)shape->head_dim;
    if (rows <= 0 || !cpu_reserve(c, (size_t)shape->head_dim * sizeof(float)))
        return;
    job.rows_each = cpu_rows_each(c, rows, (size_t)rows * per_row);
    cpu_run(c, (rows + job.rows_each - 1) / job.rows_each, rope_task, &job);
}

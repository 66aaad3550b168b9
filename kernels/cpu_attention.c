/* Causal attention over the paged cache, with or without a sliding window.
 *
 * Context is taken in chunks of CHUNK absolute positions. A chunk by itself gives
 * for each (row, head) its largest score, the sum of the exponentials and the
 * weighted values; chunks are merged in order, first to last. So a result depends
 * on the row and its keys alone, not on what else is computed beside it.
 *
 * A task is a few neighbouring rows and one kv head. Keys and values are widened
 * to floats once for all rows of a sequence in the task and all query heads that
 * share the kv head. */

#include "kernels/cpu_attention.h"

#include <math.h>
#include <string.h>

enum { ROWS_EACH_MAX = 8, TASKS_PER_THREAD = 4 };

static size_t room_bytes(size_t padded)
{
    size_t floats = 3 * PAIRS_MAX * padded + (size_t)PAIRS_MAX * CHUNK + SPAN * padded + SPAN;
    size_t integers = PAIRS_MAX * (padded + (size_t)CHUNK);
    size_t scales = 2 * (size_t)CHUNK;
    size_t bytes = PAIRS_MAX * 2 * (padded + (size_t)CHUNK) + (size_t)SLAB;
    return (floats + integers + scales) * sizeof(float) + bytes;
}

static struct attention_room room_at(float *scratch, size_t padded)
{
    struct attention_room room;
    room.query = scratch;
    room.total = room.query + PAIRS_MAX * padded;
    room.part = room.total + PAIRS_MAX * padded;
    room.span = room.part + PAIRS_MAX * padded;
    room.score = room.span + SPAN * padded;
    room.weight = room.score + (size_t)PAIRS_MAX * CHUNK;
    room.key_scale = room.weight + SPAN;
    room.value_scale = room.key_scale + CHUNK;
    room.sum_16 = (int32_t *)(room.value_scale + CHUNK);
    room.acc = room.sum_16 + (size_t)PAIRS_MAX * CHUNK;
    room.query_16 = (int8_t *)(room.acc + PAIRS_MAX * padded);
    room.weight_16 = room.query_16 + PAIRS_MAX * 2 * padded;
    return room;
}

static void merge(float *restrict total, const float *restrict part, float keep, float add,
                  size_t n)
{
    for (size_t i = 0; i < n; i++)
        total[i] = total[i] * keep + part[i] * add;
}

static void merge_chunk(struct attention_room *room, int32_t pair, const struct share *share,
                        size_t padded)
{
    float both = share->most > room->most[pair] ? share->most : room->most[pair];
    float keep = expf(room->most[pair] - both);
    float add = expf(share->most - both);
    merge(room->total + (size_t)pair * padded, room->part + (size_t)pair * padded, keep, add,
          padded);
    room->sum[pair] = room->sum[pair] * keep + share->sum * add;
    room->most[pair] = both;
}

static void divide(float *restrict y, const float *restrict total, float sum, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = total[i] / sum;
}

static void attend_chunk(const struct attention_job *job, const struct pass *p,
                         const struct chunk *c, struct attention_room *room)
{
    struct share share[PAIRS_MAX] = {{0}};
    if (job->kv->kind == NUM_Q8)
        attend_q8_chunk(job, p, c, room, share);
    else
        attend_float_chunk(job, p, c, room, share);
    for (int32_t i = 0; i < n_pairs(p); i++) {
        struct range seen = seen_by(job, p, i, c->first);
        if (seen.end > seen.begin)
            merge_chunk(room, i, &share[i], job->padded);
    }
}

static void attend(const struct attention_job *job, const struct pass *p,
                   struct attention_room *room)
{
    const struct head_shape *s = job->shape;
    size_t row_dim = (size_t)(s->n_heads + 2 * s->n_kv_heads) * job->dim;
    memset(room->total, 0, (size_t)n_pairs(p) * job->padded * sizeof(float));
    /* Rows of a pass come in order: the first one looks back the farthest. */
    int32_t from = seen_from(job, job->step->position[p->row]);
    int32_t context = 0;
    for (int32_t i = 0; i < n_pairs(p); i++) {
        size_t row = row_of(p, i);
        size_t head = head_of(p, i);
        const float *query = job->qkv + row * row_dim + head * job->dim;
        if (job->kv->kind == NUM_Q8)
            attend_q8_query(job, room, i, query);
        else
            attend_float_query(job, room, i, query);
        room->most[i] = -INFINITY;
        room->sum[i] = 0.0f;
        int32_t end = job->step->position[row] + 1;
        context = end > context ? end : context;
    }
    for (int32_t first = from - from % CHUNK; first < context; first += CHUNK) {
        struct chunk c = {.first = first, .skip = from > first ? from - first : 0};
        c.n = min32(context - first, CHUNK);
        attend_chunk(job, p, &c, room);
    }
    for (int32_t i = 0; i < n_pairs(p); i++) {
        size_t row = row_of(p, i);
        size_t head = head_of(p, i);
        float *y = job->y + (row * (size_t)s->n_heads + head) * job->dim;
        divide(y, room->total + (size_t)i * job->padded, room->sum[i], job->dim);
    }
}

static void attention_task(const void *arg, int32_t task, int32_t worker)
{
    const struct attention_job *job = arg;
    const struct head_shape *s = job->shape;
    const struct step_view *v = job->step;
    struct attention_room room = room_at(cpu_scratch(job->cpu, worker), job->padded);

    int32_t group = s->n_heads / s->n_kv_heads;
    int32_t kv_head = task % s->n_kv_heads;
    int32_t row = task / s->n_kv_heads * job->rows_each;
    int32_t end = row + job->rows_each < v->n_rows ? row + job->rows_each : v->n_rows;
    while (row < end) {
        struct pass p = {.row = row, .kv_head = kv_head, .seq = v->row_seq[row]};
        for (int32_t done = 0; done < group; done += p.n_heads) {
            p.head = kv_head * group + done;
            p.n_heads = group - done < PAIRS_MAX ? group - done : PAIRS_MAX;
            p.n_rows = 1;
            int32_t rows_max = PAIRS_MAX / (group < PAIRS_MAX ? group : PAIRS_MAX);
            while (p.n_rows < rows_max && row + p.n_rows < end &&
                   v->row_seq[row + p.n_rows] == p.seq)
                p.n_rows++;
            attend(job, &p, &room);
        }
        row += p.n_rows;
    }
}

void cpu_attention(struct ops *o, float *y, const float *qkv, const struct kv_layer *kv,
                   const struct step_view *step, const struct head_shape *shape)
{
    struct cpu *c = (struct cpu *)o;
    struct attention_job job = {.cpu = c, .qkv = qkv, .kv = kv, .step = step, .shape = shape};
    job.y = y;
    job.dim = (size_t)shape->head_dim;
    job.padded = slabs(job.dim);
    if (step->n_rows <= 0 || !cpu_reserve(c, room_bytes(job.padded)))
        return;
    /* Rows taken together share the widening of their keys, but there should be
     * enough tasks for every thread. */
    int32_t wanted = pool_threads(c->pool) * TASKS_PER_THREAD;
    int32_t rows_each = step->n_rows * shape->n_kv_heads / wanted;
    rows_each = rows_each < 1 ? 1 : rows_each;
    job.rows_each = rows_each < ROWS_EACH_MAX ? rows_each : ROWS_EACH_MAX;
    int32_t n_tasks = (step->n_rows + job.rows_each - 1) / job.rows_each * shape->n_kv_heads;
    cpu_run(c, n_tasks, attention_task, &job);
}

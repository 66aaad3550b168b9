/* Causal attention over the paged cache, with or without a sliding window.
 *
 * Context is taken in chunks of CHUNK absolute positions. A chunk by itself gives
 * for each (row, head) its largest score, the sum of the exponentials and the
 * weighted values; chunks are merged in order, first to last. So a result depends
 * on the row and its keys alone, not on what else is computed beside it.
 *
 * A task is a few neighbouring rows and one kv head: what a strip of keys costs to be
 * made ready is shared by all rows of a sequence in the task and all query heads of the kv
 * head. Where rows and kv heads are fewer than the threads could use, tasks are also
 * divided by chunks. Such a task leaves the parts in memory common to all, and a second
 * run merges them by the same expression in the same order. */

#include "kernels/cpu_attention.h"

#include <math.h>
#include <string.h>

enum {
    ROWS_EACH_MAX = 32,
    TASKS_PER_THREAD = 4,
    SPLITS_PER_THREAD = 2,
    /* More parts than this are not kept: then few threads do the work. */
    PARTS_BYTES_MAX = 64 << 20,
};

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

static void merge_chunk(struct attention_room *room, int32_t pair, const float *part,
                        const struct share *share, size_t padded)
{
    float both = share->most > room->most[pair] ? share->most : room->most[pair];
    float keep = expf(room->most[pair] - both);
    float add = expf(share->most - both);
    merge(room->total + (size_t)pair * padded, part, keep, add, padded);
    room->sum[pair] = room->sum[pair] * keep + share->sum * add;
    room->most[pair] = both;
}

/* Where the part of a (row, head) and chunk is kept, behind its share. */
static float *part_at(const struct attention_job *job, size_t row, size_t head, int32_t first)
{
    size_t pair = row * (size_t)job->shape->n_heads + head;
    size_t at = pair * (size_t)job->n_chunks + (size_t)(first / CHUNK);
    return job->parts + at * (job->padded + SHARE_FLOATS);
}

static void keep_part(const struct attention_job *job, const struct pass *p, int32_t pair,
                      int32_t first, const float *part, const struct share *share)
{
    float *to = part_at(job, row_of(p, pair), head_of(p, pair), first);
    memcpy(to, share, sizeof(*share));
    memcpy(to + SHARE_FLOATS, part, job->padded * sizeof(*part));
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
        const float *part = room->part + (size_t)i * job->padded;
        if (seen.end <= seen.begin)
            continue;
        if (job->n_splits > 1)
            keep_part(job, p, i, c->first, part, &share[i]);
        else
            merge_chunk(room, i, part, &share[i], job->padded);
    }
}

static void start_merge(struct attention_room *room, int32_t pair, size_t padded)
{
    memset(room->total + (size_t)pair * padded, 0, padded * sizeof(float));
    room->most[pair] = -INFINITY;
    room->sum[pair] = 0.0f;
}

static void write_pair(const struct attention_job *job, const struct attention_room *room,
                       int32_t pair, size_t row, size_t head)
{
    float *y = job->y + (row * (size_t)job->shape->n_heads + head) * job->dim;
    divide(y, room->total + (size_t)pair * job->padded, room->sum[pair], job->dim);
}

/* Chunks that positions from .. context - 1 touch, divided evenly. */
static struct range chunks_of(const struct attention_job *job, int32_t from, int32_t context,
                              int32_t split)
{
    int32_t first = from / CHUNK;
    int32_t n = (context + CHUNK - 1) / CHUNK - first;
    return (struct range){.begin = first + n * split / job->n_splits,
                          .end = first + n * (split + 1) / job->n_splits};
}

static void attend(const struct attention_job *job, const struct pass *p, int32_t split,
                   struct attention_room *room)
{
    const struct head_shape *s = job->shape;
    size_t row_dim = (size_t)(s->n_heads + 2 * s->n_kv_heads) * job->dim;
    /* Rows of a pass come in order: the first one looks back the farthest. */
    int32_t from = seen_from(job, job->step->position[p->row]);
    int32_t context = job->step->position[p->row + p->n_rows - 1] + 1;
    struct range chunks = chunks_of(job, from, context, split);
    for (int32_t i = 0; i < n_pairs(p); i++) {
        const float *query = job->qkv + row_of(p, i) * row_dim + head_of(p, i) * job->dim;
        if (job->kv->kind == NUM_Q8)
            attend_q8_query(job, room, i, query);
        else
            attend_float_query(job, room, i, query);
        start_merge(room, i, job->padded);
    }
    for (int32_t i = chunks.begin; i < chunks.end; i++) {
        int32_t first = i * CHUNK;
        struct chunk c = {.first = first, .skip = from > first ? from - first : 0};
        c.n = min32(context - first, CHUNK);
        attend_chunk(job, p, &c, room);
    }
    for (int32_t i = 0; i < n_pairs(p) && job->n_splits == 1; i++)
        write_pair(job, room, i, row_of(p, i), head_of(p, i));
}

/* The parts of a row and kv head that were computed by several tasks. */
static void merge_task(const void *arg, int32_t task, int32_t worker)
{
    const struct attention_job *job = arg;
    struct attention_room room = room_at(cpu_scratch(job->cpu, worker), job->padded);
    size_t row = (size_t)(task / job->shape->n_heads);
    size_t head = (size_t)(task % job->shape->n_heads);
    int32_t position = job->step->position[row];
    start_merge(&room, 0, job->padded);
    for (int32_t i = seen_from(job, position) / CHUNK; i <= position / CHUNK; i++) {
        const float *part = part_at(job, row, head, i * CHUNK);
        struct share share;
        memcpy(&share, part, sizeof(share));
        merge_chunk(&room, 0, part + SHARE_FLOATS, &share, job->padded);
    }
    write_pair(job, &room, 0, row, head);
}

static void attention_task(const void *arg, int32_t task, int32_t worker)
{
    const struct attention_job *job = arg;
    const struct head_shape *s = job->shape;
    const struct step_view *v = job->step;
    struct attention_room room = room_at(cpu_scratch(job->cpu, worker), job->padded);

    int32_t group = s->n_heads / s->n_kv_heads;
    int32_t split = task % job->n_splits;
    int32_t kv_head = task / job->n_splits % s->n_kv_heads;
    int32_t row = task / job->n_splits / s->n_kv_heads * job->rows_each;
    int32_t end = min32(row + job->rows_each, v->n_rows);
    while (row < end) {
        struct pass p = {.row = row, .kv_head = kv_head, .seq = v->row_seq[row]};
        for (int32_t done = 0; done < group; done += p.n_heads) {
            p.head = kv_head * group + done;
            p.n_heads = min32(group - done, PAIRS_MAX);
            p.n_rows = 1;
            int32_t rows_max = PAIRS_MAX / min32(group, PAIRS_MAX);
            while (p.n_rows < rows_max && row + p.n_rows < end &&
                   v->row_seq[row + p.n_rows] == p.seq)
                p.n_rows++;
            attend(job, &p, split, &room);
        }
        row += p.n_rows;
    }
}

/* Into how many tasks the chunks of a row and kv head are divided, which are n_tasks in all. */
static int32_t splits_for(const struct attention_job *job, int32_t n_tasks)
{
    int32_t n_threads = pool_threads(job->cpu->pool);
    size_t pairs = (size_t)job->step->n_rows * (size_t)job->shape->n_heads;
    size_t bytes = pairs * (job->padded + SHARE_FLOATS) * sizeof(float);
    if (n_tasks >= n_threads || (size_t)job->n_chunks > PARTS_BYTES_MAX / bytes)
        return 1;
    return min32((SPLITS_PER_THREAD * n_threads + n_tasks - 1) / n_tasks, job->n_chunks);
}

static bool divide_chunks(struct attention_job *job, int32_t n_tasks)
{
    const struct step_view *v = job->step;
    int32_t longest = 0;
    for (int32_t row = 0; row < v->n_rows; row++)
        longest = v->position[row] > longest ? v->position[row] : longest;
    job->n_chunks = longest / CHUNK + 1;
    job->n_splits = splits_for(job, n_tasks);
    if (job->n_splits == 1)
        return true;
    size_t pairs = (size_t)v->n_rows * (size_t)job->shape->n_heads;
    size_t each = (size_t)job->n_chunks * (job->padded + SHARE_FLOATS) * sizeof(float);
    job->parts = cpu_common(job->cpu, pairs * each);
    return job->parts != NULL;
}

void cpu_attention(struct ops *o, float *y, const float *qkv, const struct kv_layer *kv,
                   const struct step_view *step, const struct head_shape *shape)
{
    struct cpu *c = (struct cpu *)o;
    struct attention_job job = {.cpu = c, .qkv = qkv, .kv = kv, .step = step, .shape = shape};
    job.y = y;
    job.dim = (size_t)shape->head_dim;
    job.padded = kv->kind == NUM_Q8 ? slabs(job.dim) : (job.dim + LANES - 1) / LANES * LANES;
    if (step->n_rows <= 0 || !cpu_reserve(c, room_bytes(job.padded)))
        return;
    /* Rows taken together share the making ready of their keys, but there should be
     * enough tasks for every thread. */
    int32_t wanted = pool_threads(c->pool) * TASKS_PER_THREAD;
    int32_t rows_each = step->n_rows * shape->n_kv_heads / wanted;
    rows_each = rows_each < 1 ? 1 : rows_each;
    job.rows_each = min32(rows_each, ROWS_EACH_MAX);
    int32_t n_tasks = (step->n_rows + job.rows_each - 1) / job.rows_each * shape->n_kv_heads;
    if (!divide_chunks(&job, n_tasks))
        return;
    cpu_run(c, n_tasks * job.n_splits, attention_task, &job);
    if (job.n_splits > 1)
        cpu_run(c, step->n_rows * shape->n_heads, merge_task, &job);
}

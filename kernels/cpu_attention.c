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

#include "kernels/cpu.h"

#include <math.h>
#include <string.h>

enum {
    CHUNK = 256,
    SPAN = 32,      /* tokens widened at a time: 16 KB at head_dim 128 */
    PAIRS_MAX = 32, /* (row, head) pairs of one pass */
    ROWS_EACH_MAX = 8,
    TASKS_PER_THREAD = 4,
};

struct attention_job {
    struct cpu *cpu;
    float *y;
    const float *qkv;
    const struct kv_layer *kv;
    const struct step_view *step;
    const struct head_shape *shape;
    size_t dim;    /* head_dim */
    size_t padded; /* head_dim rounded up to LANES; the rest is zero */
    int32_t rows_each;
};

/* Scratch of one worker. */
struct attention_room {
    float *query;  /* [PAIRS_MAX][padded] */
    float *total;  /* [PAIRS_MAX][padded] merged chunks */
    float *part;   /* [PAIRS_MAX][padded] this chunk */
    float *score;  /* [PAIRS_MAX][CHUNK] */
    float *span;   /* [SPAN][padded] */
    float *weight; /* [SPAN] */
    float most[PAIRS_MAX];
    float sum[PAIRS_MAX];
};

/* Rows and heads computed together: all of one sequence and one kv head. */
struct pass {
    int32_t row;
    int32_t n_rows;
    int32_t head;
    int32_t n_heads;
    int32_t kv_head;
    int32_t seq;
};

static size_t room_floats(size_t padded)
{
    return 3 * PAIRS_MAX * padded + (size_t)PAIRS_MAX * CHUNK + SPAN * padded + SPAN;
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
    return room;
}

static int32_t n_pairs(const struct pass *p)
{
    return p->n_rows * p->n_heads;
}

static size_t row_of(const struct pass *p, int32_t pair)
{
    int32_t row = p->row + pair / p->n_heads;
    return (size_t)row;
}

static size_t head_of(const struct pass *p, int32_t pair)
{
    int32_t head = p->head + pair % p->n_heads;
    return (size_t)head;
}

/* Tokens begin .. end - 1 of a chunk; none when end <= begin. */
struct range {
    int32_t begin;
    int32_t end;
};

/* The first position that a row at `position` sees. */
static int32_t seen_from(const struct attention_job *job, int32_t position)
{
    int32_t window = job->shape->window;
    return window > 0 && position >= window ? position - window + 1 : 0;
}

/* What pair i sees of the chunk at `first`. */
static struct range seen_by(const struct attention_job *job, const struct pass *p, int32_t pair,
                            int32_t first)
{
    int32_t position = job->step->position[row_of(p, pair)];
    int32_t begin = seen_from(job, position) - first;
    int32_t end = position + 1 - first;
    return (struct range){.begin = begin > 0 ? begin : 0, .end = end < CHUNK ? end : CHUNK};
}

/* Widens keys or values of tokens first .. first + n - 1 and gives their scales. */
static void widen_span(const struct attention_job *job, const struct pass *p, bool keys,
                       int32_t first, int32_t n, const struct attention_room *room)
{
    const struct kv_layer *kv = job->kv;
    const struct head_shape *s = job->shape;
    const int32_t *table =
        job->step->block_table + (size_t)p->seq * (size_t)job->step->table_stride;
    const int8_t *q = keys ? kv->key_q : kv->value_q;
    const float *f = keys ? kv->key_f : kv->value_f;
    const float *scale = keys ? kv->key_scale : kv->value_scale;
    for (int32_t t = 0; t < n; t++) {
        int32_t position = first + t;
        size_t block = (size_t)table[position / s->block_tokens];
        size_t place =
            (block * (size_t)s->n_kv_heads + (size_t)p->kv_head) * (size_t)s->block_tokens +
            (size_t)(position % s->block_tokens);
        float *dst = room->span + (size_t)t * job->padded;
        if (kv->kind == NUM_Q8)
            job->cpu->kern->widen(dst, q + place * job->dim, job->dim);
        else
            memcpy(dst, f + place * job->dim, job->dim * sizeof(*dst));
        room->weight[t] = kv->kind == NUM_Q8 ? scale[place] : 1.0f;
    }
}

/* `skip` tokens of the chunk are before any row's window. */
static void score_chunk(const struct attention_job *job, const struct pass *p, int32_t first,
                        int32_t skip, int32_t n, const struct attention_room *room)
{
    for (int32_t at = skip - skip % SPAN; at < n; at += SPAN) {
        int32_t span = n - at < SPAN ? n - at : SPAN;
        widen_span(job, p, true, first + at, span, room);
        for (int32_t i = 0; i < n_pairs(p); i++) {
            float *score = room->score + (size_t)i * CHUNK + at;
            job->cpu->kern->dots(score, room->query + (size_t)i * job->padded, room->span,
                                 (size_t)span, job->padded);
            for (int32_t t = 0; t < span; t++)
                score[t] = score[t] * room->weight[t] * job->shape->score_scale;
        }
    }
}

static void weigh_chunk(const struct attention_job *job, const struct pass *p, int32_t first,
                        int32_t skip, int32_t n, const struct attention_room *room)
{
    memset(room->part, 0, (size_t)n_pairs(p) * job->padded * sizeof(float));
    for (int32_t at = skip - skip % SPAN; at < n; at += SPAN) {
        int32_t span = n - at < SPAN ? n - at : SPAN;
        widen_span(job, p, false, first + at, span, room);
        for (int32_t i = 0; i < n_pairs(p); i++) {
            struct range seen = seen_by(job, p, i, first);
            int32_t begin = seen.begin > at ? seen.begin - at : 0;
            int32_t end = min32(seen.end - at, span);
            if (end <= begin)
                continue;
            float *score = room->score + (size_t)i * CHUNK + at;
            for (int32_t t = begin; t < end; t++)
                score[t] *= room->weight[t];
            job->cpu->kern->weigh(room->part + (size_t)i * job->padded, score + begin,
                                  room->span + (size_t)begin * job->padded, (size_t)(end - begin),
                                  job->padded);
        }
    }
}

static void merge_chunk(struct attention_room *room, int32_t pair, float most, float sum,
                        size_t padded)
{
    float *total = room->total + (size_t)pair * padded;
    const float *part = room->part + (size_t)pair * padded;
    float both = most > room->most[pair] ? most : room->most[pair];
    float keep = expf(room->most[pair] - both);
    float add = expf(most - both);
    for (size_t i = 0; i < padded; i++)
        total[i] = total[i] * keep + part[i] * add;
    room->sum[pair] = room->sum[pair] * keep + sum * add;
    room->most[pair] = both;
}

static void attend_chunk(const struct attention_job *job, const struct pass *p, int32_t first,
                         int32_t skip, int32_t n, struct attention_room *room)
{
    const struct cpu_kernels *kern = job->cpu->kern;
    float most[PAIRS_MAX] = {0};
    float sum[PAIRS_MAX] = {0};
    score_chunk(job, p, first, skip, n, room);
    for (int32_t i = 0; i < n_pairs(p); i++) {
        struct range seen = seen_by(job, p, i, first);
        if (seen.end <= seen.begin)
            continue;
        float *score = room->score + (size_t)i * CHUNK + seen.begin;
        most[i] = kern->max(score, (size_t)(seen.end - seen.begin));
        sum[i] = kern->exp_sum(score, most[i], (size_t)(seen.end - seen.begin));
    }
    weigh_chunk(job, p, first, skip, n, room);
    for (int32_t i = 0; i < n_pairs(p); i++) {
        struct range seen = seen_by(job, p, i, first);
        if (seen.end > seen.begin)
            merge_chunk(room, i, most[i], sum[i], job->padded);
    }
}

static void attend(const struct attention_job *job, const struct pass *p,
                   struct attention_room *room)
{
    const struct head_shape *s = job->shape;
    size_t row_dim = (size_t)(s->n_heads + 2 * s->n_kv_heads) * job->dim;
    memset(room->query, 0, PAIRS_MAX * job->padded * sizeof(float));
    memset(room->total, 0, PAIRS_MAX * job->padded * sizeof(float));
    /* Rows of a pass come in order: the first one looks back the farthest. */
    int32_t from = seen_from(job, job->step->position[p->row]);
    int32_t context = 0;
    for (int32_t i = 0; i < n_pairs(p); i++) {
        size_t row = row_of(p, i);
        size_t head = head_of(p, i);
        memcpy(room->query + (size_t)i * job->padded, job->qkv + row * row_dim + head * job->dim,
               job->dim * sizeof(float));
        room->most[i] = -INFINITY;
        room->sum[i] = 0.0f;
        int32_t end = job->step->position[row] + 1;
        context = end > context ? end : context;
    }
    for (int32_t first = from - from % CHUNK; first < context; first += CHUNK) {
        int32_t n = context - first < CHUNK ? context - first : CHUNK;
        attend_chunk(job, p, first, from > first ? from - first : 0, n, room);
    }
    for (int32_t i = 0; i < n_pairs(p); i++) {
        size_t row = row_of(p, i);
        size_t head = head_of(p, i);
        float *y = job->y + (row * (size_t)s->n_heads + head) * job->dim;
        for (size_t d = 0; d < job->dim; d++)
            y[d] = room->total[(size_t)i * job->padded + d] / room->sum[i];
    }
}

static void attention_task(const void *arg, int32_t task, int32_t worker)
{
    const struct attention_job *job = arg;
    const struct head_shape *s = job->shape;
    const struct step_view *v = job->step;
    struct attention_room room = room_at(cpu_scratch(job->cpu, worker), job->padded);
    /* The columns beyond head_dim stay zero: nothing writes them. */
    memset(room.span, 0, SPAN * job->padded * sizeof(float));

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
    job.padded = (job.dim + LANES - 1) / LANES * LANES;
    if (step->n_rows <= 0 || !cpu_reserve(c, room_floats(job.padded) * sizeof(float)))
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

/* The shapes of the models and the table of operations: what each reads, writes and computes (its
 * plan), and how it is called. A new operation or another form of one is a row of op_rows and,
 * where it is like no other, a plan and an issue. */
#include "bench/ops_cases.h"

#include "kernels/paged.h"

#include <stdlib.h>
#include <string.h>

static const struct model_shape models[] = {
    {"demo", 256, 704, 4, 2, 64, 2048, 1024, 4},
    {"tinyllama", 2048, 5632, 32, 4, 64, 32000, 2048, 22},
    {"llama-2-7b", 4096, 11008, 32, 32, 128, 32000, 4096, 32},
    {"llama-3-8b", 4096, 14336, 32, 8, 128, 128256, 8192, 32},
};

static const int32_t contexts[] = {512, 2048, 8192};

struct op_row {
    const char *op;
    const char *part;
    const char *kind;
    int32_t rows_most;
    bool in_context; /* one line for each of contexts[] */
    void (*plan)(struct line *l);
    void (*prepare)(struct scene *s, const struct line *l);
    void (*issue)(struct scene *s, const struct line *l, size_t copy);
};

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static bool is_q8(const struct line *l)
{
    return is(l->row->kind, "q8");
}

/* Copies of what is needed begin on cache lines. */
static size_t round_up(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static size_t cells(int32_t a, int32_t b)
{
    return (size_t)a * (size_t)b;
}

/* Values [rows][n] as an act holds them. */
static size_t act_bytes(bool q8, int32_t rows, int32_t n)
{
    return q8 ? round_up(cells(rows, n)) + sizeof(float) * (size_t)rows
              : sizeof(float) * cells(rows, n);
}

static struct act act_at(bool q8, char *at, int32_t rows, int32_t n)
{
    if (!q8)
        return (struct act){.kind = NUM_F32, .f = (float *)(void *)at};
    return (struct act){.kind = NUM_Q8,
                        .q = (int8_t *)at,
                        .scale = (float *)(void *)(at + round_up(cells(rows, n)))};
}

static char *place(struct scene *s, enum arena_kind kind, size_t copy)
{
    return s->arena[kind].base + copy * s->arena[kind].stride;
}

static float *floats(struct scene *s, enum arena_kind kind, size_t copy)
{
    return (float *)(void *)place(s, kind, copy);
}

static const int32_t *indexes(struct scene *s, const struct line *l)
{
    return s->ints + s->turn * (size_t)l->rows % (size_t)(INTS_MAX - l->rows);
}

/* ---- embed, gather ---- */

static void plan_embed(struct line *l)
{
    l->n = l->model->dim;
    l->k = l->model->vocab;
    l->need[ARENA_Q8] = cells(l->k, l->n);
    l->need[ARENA_SCALE] = sizeof(float) * (size_t)l->k;
    l->need[ARENA_OUT] = act_bytes(false, l->rows, l->n);
    l->bytes = (double)l->rows * (5.0 * l->n + 2 * sizeof(float));
}

static void prepare_embed(struct scene *s, const struct line *l)
{
    scene_indexes(s, l->k);
}

static void issue_embed(struct scene *s, const struct line *l, size_t copy)
{
    const struct weight table = {.kind = NUM_Q8,
                                 .q = (int8_t *)place(s, ARENA_Q8, copy),
                                 .scale = floats(s, ARENA_SCALE, copy),
                                 .n = l->k,
                                 .k = l->n};
    s->ops->embed(s->ops, floats(s, ARENA_OUT, copy), &table, indexes(s, l), l->rows);
}

static void plan_gather(struct line *l)
{
    l->n = l->k = l->model->dim;
    l->need[ARENA_FLOAT] = l->need[ARENA_OUT] = act_bytes(false, l->rows, l->n);
    l->bytes = 2.0 * sizeof(float) * l->rows * l->n;
}

static void prepare_gather(struct scene *s, const struct line *l)
{
    scene_indexes(s, l->rows);
}

static void issue_gather(struct scene *s, const struct line *l, size_t copy)
{
    s->ops->gather(s->ops, floats(s, ARENA_OUT, copy), floats(s, ARENA_FLOAT, copy), indexes(s, l),
                   l->rows, l->n);
}

/* ---- row by row: norm, convert, swiglu ---- */

static void plan_rows(struct line *l, int32_t k, int32_t n, double work)
{
    l->n = n;
    l->k = k;
    l->need[ARENA_FLOAT] = act_bytes(false, l->rows, k);
    l->need[ARENA_OUT] = act_bytes(is_q8(l), l->rows, n);
    l->bytes = (double)l->need[ARENA_FLOAT] + (double)l->need[ARENA_OUT];
    l->work = work * l->rows * n;
}

static void plan_norm(struct line *l)
{
    plan_rows(l, l->model->dim, l->model->dim, 4.0);
    l->need[ARENA_SCALE] = sizeof(float) * (size_t)l->n;
    l->bytes += (double)l->need[ARENA_SCALE];
}

static void issue_norm(struct scene *s, const struct line *l, size_t copy)
{
    struct act y = act_at(is_q8(l), place(s, ARENA_OUT, copy), l->rows, l->n);
    s->ops->norm(s->ops, &y, floats(s, ARENA_FLOAT, copy), floats(s, ARENA_SCALE, copy), 1e-5f,
                 l->rows, l->n);
}

static void plan_convert(struct line *l)
{
    plan_rows(l, l->model->dim, l->model->dim, 1.0);
}

static void issue_convert(struct scene *s, const struct line *l, size_t copy)
{
    struct act y = act_at(is_q8(l), place(s, ARENA_OUT, copy), l->rows, l->n);
    s->ops->convert(s->ops, &y, floats(s, ARENA_FLOAT, copy), l->rows, l->n);
}

static void plan_swiglu(struct line *l)
{
    plan_rows(l, 2 * l->model->hidden, l->model->hidden, 5.0);
}

static void issue_swiglu(struct scene *s, const struct line *l, size_t copy)
{
    struct act y = act_at(is_q8(l), place(s, ARENA_OUT, copy), l->rows, l->n);
    s->ops->swiglu(s->ops, &y, floats(s, ARENA_FLOAT, copy), l->rows, l->n);
}

/* ---- linear ---- */

static void linear_shape(const struct model_shape *m, const char *part, int32_t *n, int32_t *k)
{
    const struct {
        const char *part;
        int32_t n;
        int32_t k;
    } products[] = {
        {"qkv", (m->heads + 2 * m->kv_heads) * m->head_dim, m->dim},
        {"out", m->dim, m->heads * m->head_dim},
        {"gate_up", 2 * m->hidden, m->dim},
        {"down", m->dim, m->hidden},
        {"head", m->vocab, m->dim},
    };
    for (size_t i = 0; i < ARRAY_LEN(products); i++)
        if (is(products[i].part, part)) {
            *n = products[i].n;
            *k = products[i].k;
        }
}

static void plan_linear(struct line *l)
{
    bool q8_act = is(l->row->kind, "w8a8");
    bool q8_weight = !is(l->row->kind, "f32");
    linear_shape(l->model, l->row->part, &l->n, &l->k);
    size_t weights = cells(l->n, l->k) * (q8_weight ? 1 : sizeof(float));
    size_t scales = q8_weight ? sizeof(float) * (size_t)l->n : 0;
    size_t x = act_bytes(q8_act, l->rows, l->k);
    l->need[q8_weight ? ARENA_Q8 : ARENA_FLOAT] += round_up(weights);
    l->need[q8_act ? ARENA_Q8 : ARENA_FLOAT] += q8_act ? cells(l->rows, l->k) : x;
    l->need[ARENA_SCALE] = scales + (q8_act ? sizeof(float) * (size_t)l->rows : 0);
    l->need[ARENA_OUT] = act_bytes(false, l->rows, l->n);
    l->bytes = (double)(weights + scales + x + l->need[ARENA_OUT]);
    l->work = 2.0 * l->rows * l->n * l->k;
    l->peak = q8_act ? PEAK_INT8 : q8_weight ? PEAK_INT16 : PEAK_F32;
}

/* What a load tells a backend in host memory. */
static void prepare_linear(struct scene *s, const struct line *l)
{
    size_t n = (size_t)l->n;
    size_t k = (size_t)l->k;
    if (is(l->row->kind, "f32") || !s->ops->host_memory)
        return;
    s->sums = calloc(s->copies * n, sizeof(*s->sums));
    for (size_t row = 0; s->sums && row < s->copies * n; row++) {
        const int8_t *q = (const int8_t *)place(s, ARENA_Q8, row / n) + row % n * k;
        int32_t sum = 0;
        for (size_t i = 0; i < k; i++)
            sum += q[i];
        s->sums[row] = sum;
    }
}

static void issue_linear(struct scene *s, const struct line *l, size_t copy)
{
    bool q8_act = is(l->row->kind, "w8a8");
    bool q8_weight = !is(l->row->kind, "f32");
    size_t values = cells(l->n, l->k);
    int8_t *q = (int8_t *)place(s, ARENA_Q8, copy);
    float *f = floats(s, ARENA_FLOAT, copy);
    float *scale = floats(s, ARENA_SCALE, copy);
    const struct weight w = {.kind = q8_weight ? NUM_Q8 : NUM_F32,
                             .act = q8_act ? NUM_Q8 : NUM_F32,
                             .q = q8_weight ? q : NULL,
                             .scale = q8_weight ? scale : NULL,
                             .sum = s->sums ? s->sums + copy * (size_t)l->n : NULL,
                             .f = q8_weight ? NULL : f,
                             .n = l->n,
                             .k = l->k};
    struct act x = {.kind = w.act};
    if (q8_act) {
        x.q = q + round_up(values);
        x.scale = scale + l->n;
    } else {
        x.f = q8_weight ? f : f + round_up(sizeof(float) * values) / sizeof(float);
    }
    s->ops->linear(s->ops, floats(s, ARENA_OUT, copy), &x, &w, l->rows, false);
}

/* ---- rope_store, attention ---- */

static int32_t qkv_dim(const struct model_shape *m)
{
    return (m->heads + 2 * m->kv_heads) * m->head_dim;
}

static size_t block_count(const struct line *l)
{
    return (size_t)l->seqs * (size_t)((l->context + BLOCK_TOKENS - 1) / BLOCK_TOKENS);
}

/* What a block has of a layer. */
static size_t layer_bytes(const struct model_shape *m)
{
    const struct head_shape shape = {
        .n_kv_heads = m->kv_heads, .head_dim = m->head_dim, .block_tokens = BLOCK_TOKENS};
    return kv_layer_bytes(NUM_Q8, &shape);
}

/* The rows of a prompt, whose keys and values are written into blocks of their own. */
static void plan_rope(struct line *l)
{
    const struct model_shape *m = l->model;
    size_t row = (size_t)(2 * m->kv_heads) * (sizeof(float) + (size_t)m->head_dim);
    l->n = l->k = qkv_dim(m);
    l->seqs = 1;
    l->context = l->rows;
    l->need[ARENA_OUT] =
        round_up(sizeof(float) * cells(l->rows, l->n)) + block_count(l) * layer_bytes(m);
    double turned = (double)m->heads * m->head_dim; /* in place, unlike keys and values */
    l->bytes = (double)l->rows * (sizeof(float) * (l->n + turned) + (double)row);
    l->work = 3.0 * l->rows * (m->heads + m->kv_heads) * (double)m->head_dim;
}

/* Rows are rotated in place, so each copy begins as numbers. */
static void prepare_rope(struct scene *s, const struct line *l)
{
    scene_place(s, l);
    for (size_t i = 0; i < s->copies; i++)
        scene_fill(s, ARENA_FLOAT, place(s, ARENA_OUT, i), sizeof(float) * cells(l->rows, l->n));
}

static void issue_rope(struct scene *s, const struct line *l, size_t copy)
{
    char *qkv = place(s, ARENA_OUT, copy);
    char *cache = qkv + round_up(sizeof(float) * cells(l->rows, l->n));
    struct kv_layer kv = kv_layer_at(NUM_Q8, &s->head, cache, layer_bytes(l->model));
    s->ops->rope_store(s->ops, (float *)(void *)qkv, &kv, &s->step, &s->head);
}

/* decode: as many sequences as rows; prompt: the last rows of one. */
static void plan_attention(struct line *l)
{
    const struct model_shape *m = l->model;
    bool decode = is(l->row->part, "decode");
    int32_t each = decode ? 1 : l->rows;
    l->seqs = decode ? l->rows : 1;
    if (l->context < each || l->context > m->context) {
        l->rows = 0; /* no such line */
        return;
    }
    l->n = m->heads * m->head_dim;
    l->k = qkv_dim(m);
    l->need[ARENA_KV] = block_count(l) * layer_bytes(m);
    l->need[ARENA_FLOAT] = act_bytes(false, l->rows, l->k);
    l->need[ARENA_OUT] = act_bytes(false, l->rows, l->n);
    double keys = (double)l->seqs * l->context * m->kv_heads;
    double seen = (double)each * (l->context - (each - 1) / 2.0);
    l->bytes = 2.0 * keys * (m->head_dim + (double)sizeof(float)) +
               2.0 * sizeof(float) * l->rows * (double)l->n;
    l->work = 4.0 * l->seqs * l->n * seen;
    l->peak =
        PEAK_INT8; /* keys and values are int8: the higher roof, whatever a backend makes of them */
}

/* Copies are layers of the same blocks, as many as the model has; then other blocks follow. */
static size_t layers_in_block(const struct scene *s, const struct line *l)
{
    size_t layers = (size_t)l->model->layers;
    return s->copies < layers ? s->copies : layers;
}

static struct kv_layer cache_of(const struct scene *s, const struct line *l, size_t copy)
{
    size_t layers = layers_in_block(s, l);
    size_t each = layer_bytes(l->model);
    size_t group = copy / layers % (s->copies / layers);
    char *base = s->arena[ARENA_KV].base + group * layers * block_count(l) * each;
    return kv_layer_at(NUM_Q8, &s->head, base + copy % layers * each, layers * each);
}

/* No two blocks are alike, and scales are such. */
static void prepare_attention(struct scene *s, const struct line *l)
{
    size_t layers = layers_in_block(s, l);
    size_t each = layer_bytes(l->model);
    size_t n = s->copies / layers * block_count(l) * layers;
    size_t scales = 2 * sizeof(float) * BLOCK_TOKENS * (size_t)l->model->kv_heads;
    scene_place(s, l);
    scene_fill(s, ARENA_Q8, s->arena[ARENA_KV].base, n * each);
    for (size_t i = 0; i < n; i++)
        scene_fill(s, ARENA_SCALE, s->arena[ARENA_KV].base + (i + 1) * each - scales, scales);
}

static void issue_attention(struct scene *s, const struct line *l, size_t copy)
{
    struct kv_layer kv = cache_of(s, l, copy);
    s->ops->attention(s->ops, floats(s, ARENA_OUT, copy), floats(s, ARENA_FLOAT, copy), &kv,
                      &s->step, &s->head);
}

/* ---- sample ---- */

static void plan_sample(struct line *l)
{
    l->n = 1;
    l->k = l->model->vocab;
    l->need[ARENA_FLOAT] = act_bytes(false, l->rows, l->k);
    l->bytes = (double)l->need[ARENA_FLOAT];
}

/* Logits lie in (-1, 1): a low temperature gives them the spread of a model's. */
static void prepare_sample(struct scene *s, const struct line *l)
{
    bool top_p = is(l->row->part, "top_p");
    for (int32_t i = 0; i < l->rows; i++)
        s->pick[i] = (struct pick){.row = i,
                                   .position = (uint64_t)i,
                                   .how = {.temperature = top_p ? 0.05f : 0.0f,
                                           .top_p = top_p ? 0.95f : 1.0f,
                                           .repetition = 1.0f,
                                           .seed = 1,
                                           .n_logprobs = is(l->row->part, "logprobs") ? 5 : -1}};
}

static void issue_sample(struct scene *s, const struct line *l, size_t copy)
{
    (void)l;
    s->ops->sample(s->ops, floats(s, ARENA_FLOAT, copy));
}

/* ---- the table ---- */

static const struct op_row op_rows[] = {
    {"embed", "table", "q8", 2048, false, plan_embed, prepare_embed, issue_embed},
    {"norm", "dim", "q8", 2048, false, plan_norm, NULL, issue_norm},
    {"norm", "dim", "f32", 2048, false, plan_norm, NULL, issue_norm},
    {"linear", "qkv", "w8a8", 2048, false, plan_linear, prepare_linear, issue_linear},
    {"linear", "out", "w8a8", 2048, false, plan_linear, prepare_linear, issue_linear},
    {"linear", "gate_up", "w8a8", 2048, false, plan_linear, prepare_linear, issue_linear},
    {"linear", "down", "w8a8", 2048, false, plan_linear, prepare_linear, issue_linear},
    {"linear", "head", "w8a8", PICKS_MAX, false, plan_linear, prepare_linear, issue_linear},
    {"linear", "out", "w8a16", 2048, false, plan_linear, prepare_linear, issue_linear},
    {"linear", "down", "w8a16", 2048, false, plan_linear, prepare_linear, issue_linear},
    {"linear", "out", "f32", 2048, false, plan_linear, prepare_linear, issue_linear},
    {"rope_store", "qkv", "q8", 2048, false, plan_rope, prepare_rope, issue_rope},
    {"attention", "decode", "q8", PICKS_MAX, true, plan_attention, prepare_attention,
     issue_attention},
    {"attention", "prompt", "q8", 2048, true, plan_attention, prepare_attention, issue_attention},
    {"convert", "dim", "q8", 2048, false, plan_convert, NULL, issue_convert},
    {"swiglu", "hidden", "q8", 2048, false, plan_swiglu, NULL, issue_swiglu},
    {"swiglu", "hidden", "f32", 2048, false, plan_swiglu, NULL, issue_swiglu},
    {"gather", "dim", "f32", 2048, false, plan_gather, prepare_gather, issue_gather},
    {"sample", "greedy", "f32", PICKS_MAX, false, plan_sample, prepare_sample, issue_sample},
    {"sample", "top_p", "f32", PICKS_MAX, false, plan_sample, prepare_sample, issue_sample},
    {"sample", "logprobs", "f32", PICKS_MAX, false, plan_sample, prepare_sample, issue_sample},
};

/* A prompt of a row is a decoding step. */
enum { PROMPT_ROWS_MIN = 16 };

bool line_next(struct line *out, size_t *state, const int32_t *rows, size_t n_rows)
{
    size_t all = ARRAY_LEN(models) * ARRAY_LEN(op_rows) * n_rows * ARRAY_LEN(contexts);
    while (*state < all) {
        size_t i = (*state)++;
        int32_t context = contexts[i % ARRAY_LEN(contexts)];
        const struct op_row *row = &op_rows[i / ARRAY_LEN(contexts) / n_rows % ARRAY_LEN(op_rows)];
        *out = (struct line){
            .model = &models[i / ARRAY_LEN(contexts) / n_rows / ARRAY_LEN(op_rows)],
            .row = row,
            .rows = rows[i / ARRAY_LEN(contexts) % n_rows],
            .context = row->in_context ? context : 0,
            .peak = PEAK_F32,
        };
        bool once = row->in_context || context == contexts[0];
        bool prompt = is(row->part, "prompt");
        if (!once || out->rows > row->rows_most || (prompt && out->rows < PROMPT_ROWS_MIN))
            continue;
        row->plan(out);
        if (out->rows > 0)
            return true;
    }
    return false;
}

const char *line_op(const struct line *l)
{
    return l->row->op;
}

const char *line_part(const struct line *l)
{
    return l->row->part;
}

const char *line_kind(const struct line *l)
{
    return l->row->kind;
}

int32_t line_picks(const struct line *l)
{
    return is(l->row->op, "sample") ? l->rows : 0;
}

void line_prepare(struct scene *s, const struct line *l)
{
    if (l->row->prepare)
        l->row->prepare(s, l);
}

void line_issue(struct scene *s, const struct line *l, size_t copy)
{
    l->row->issue(s, l, copy);
}

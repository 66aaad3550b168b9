#include "kernels/cpu.h"
#include "kernels/half.h"
#include "kernels/paged.h"
#include "tests/ops_rig.h"

/* Aim: rope_store puts rotated keys and values where the block table says, and
 * attention over what is stored equals a softmax in double; and a sequence taken
 * whole, in chunks or token by token, alone or in company, gives the same bits; and so
 * does every table of the cpu's loops on any number of threads.
 * Negative space: contexts of one token, one less, one more and exactly a block
 * or 256 (the chunk of the cpu backend), blocks in shuffled order, head sizes 8 to
 * 128 and some that are no multiple of 16, one to eight query heads per kv head, a
 * long sequence beside very short ones, other sequences' blocks holding NaN; windows
 * of one token, of a whole chunk, that begin inside of a chunk, that are never full;
 * heads with norms of their own; one long sequence on more threads than it has heads;
 * last tokens over keys that attention never saw, in steps so small that the race detector
 * can watch every barrier of the emulated kernels (test_barriers, the cases of late_cases). */

enum { SEQS_MAX = 6, LAYERS = 3, POISON = 0xff };

static const float eps = 1e-5f;

struct attention_case {
    int32_t n_heads;
    int32_t n_kv_heads;
    int32_t head_dim;
    int32_t block_tokens;
    enum number kind;
    int32_t n_seqs;
    int32_t context[SEQS_MAX];
    int32_t window;
    bool normed;        /* q and k, each by gains of its own */
    float score_factor; /* beside 1 / sqrt(head_dim); 0: none */
};

static const struct attention_case attention_cases[] = {
    {1, 1, 8, 16, NUM_F32, 1, {1}, .window = 0},
    {4, 4, 64, 16, NUM_Q8, 2, {16, 17}, .window = 0},
    {8, 1, 64, 16, NUM_Q8, 3, {1, 33, 2}, .window = 0},
    {4, 2, 80, 16, NUM_F32, 2, {31, 5}, .window = 0},
    {6, 2, 128, 32, NUM_Q8, 2, {32, 65}, .window = 0},
    {2, 2, 10, 8, NUM_Q8, 2, {8, 9}, .window = 0},
    {3, 1, 12, 8, NUM_F32, 2, {8, 9}, .normed = true},
    {3, 1, 256, 16, NUM_Q8, 2, {18, 3}, .normed = true},
    {6, 3, 16, 64, NUM_F32, 3, {64, 150, 65}, .window = 0},
    {4, 4, 64, 16, NUM_F32, 6, {1, 255, 1, 256, 257, 3}, .window = 0},
    {8, 1, 128, 16, NUM_Q8, 2, {513, 1}, .window = 0},
    {4, 1, 96, 16, NUM_Q8, 2, {70, 3}, .normed = true},
    {2, 2, 24, 16, NUM_F32, 2, {33, 16}, .normed = true, .score_factor = 1.3f},
    {2, 1, 32, 16, NUM_F32, 3, {5, 4, 1}, .window = 1},
    {4, 2, 64, 16, NUM_Q8, 4, {40, 17, 16, 600}, .window = 16},
    {2, 1, 16, 16, NUM_F32, 3, {520, 256, 257}, .window = 256},
    {2, 1, 16, 16, NUM_F32, 2, {700, 2}, .window = 300, .normed = true},
    {2, 2, 16, 16, NUM_F32, 1, {50}, .window = 50},
    {2, 2, 16, 16, NUM_F32, 1, {50}, .window = 1000},
    {2, 1, 16, 16, NUM_Q8, 1, {1300}, .window = 0},
    {2, 2, 16, 16, NUM_F32, 1, {1100}, .window = 700},
    {8, 8, 64, 16, NUM_Q8, 2, {520, 300}, .window = 0},
    {2, 2, 128, 16, NUM_Q8, 1, {1100}, .window = 0},
    {16, 1, 96, 16, NUM_Q8, 2, {40, 300}, .window = 0},
    {2, 1, 10, 8, NUM_F16, 2, {9, 33}, .window = 0},
    {8, 1, 64, 16, NUM_F16, 3, {70, 1, 2}, .window = 0},
    {4, 2, 80, 16, NUM_F16, 2, {33, 5}, .window = 0, .normed = true},
    {4, 4, 96, 16, NUM_F16, 2, {16, 65}, .window = 20},
    {6, 2, 128, 32, NUM_F16, 3, {300, 65, 1}, .window = 0},
};

/* Tokens before `from` are stored only. */
struct late_case {
    const char *reaches;
    struct attention_case c;
    int32_t from[SEQS_MAX];
};

/* A device of the emulator has four multiprocessors, so that a wave is of 8 or 12 blocks. */
static const struct late_case late_cases[] = {
    {"a decode that blocks share, two fours to one",
     {6, 6, 64, 16, NUM_Q8, 1, {520}, .window = 0},
     {519}},
    {"more parts than are joined at once", {1, 1, 64, 16, NUM_Q8, 1, {2050}, .window = 0}, {2049}},
    {"decodes of a block each, that walk", {8, 8, 64, 16, NUM_Q8, 1, {300}, .window = 0}, {299}},
    {"two tiles of queries", {16, 1, 96, 16, NUM_Q8, 2, {70, 260}, .window = 0}, {69, 259}},
    {"prompts that share a block",
     {4, 1, 64, 16, NUM_Q8, 3, {9, 210, 20}, .window = 0},
     {0, 190, 0}},
    {"decodes of halves that walk", {5, 5, 80, 16, NUM_F16, 1, {300}, .window = 0}, {299}},
    {"a decode of halves that blocks share", {1, 1, 64, 16, NUM_F16, 1, {300}, .window = 0}, {299}},
    {"a prompt of halves", {4, 1, 80, 16, NUM_F16, 2, {5, 210}, .window = 0}, {0, 200}},
    {"floats, two chunks", {2, 1, 16, 16, NUM_F32, 2, {5, 300}, .window = 0}, {0, 297}},
};

static float score_scale(const struct attention_case *c)
{
    float factor = c->score_factor > 0.0f ? c->score_factor : 1.0f;
    return factor / sqrtf((float)c->head_dim);
}

/* All the sequences of a case, laid out in rows one after the other. */
struct scene {
    const struct attention_case *c;
    size_t row_dim;
    size_t total; /* tokens */
    size_t cache; /* elements of keys */
    int32_t table_stride;
    int32_t n_blocks;
    int32_t *table; /* [n_seqs][table_stride] */
    float *qkv;     /* [total][row_dim] */
    float *freq;    /* [head_dim / 2] */
    float *gain;    /* [2][head_dim] of q and of k */
    int32_t start[SEQS_MAX + 1];
    bool stores_only; /* steps do without attention */
};

static void scene_make(struct scene *s, const struct attention_case *c)
{
    *s = (struct scene){.c = c};
    s->row_dim = (size_t)(c->n_heads + 2 * c->n_kv_heads) * (size_t)c->head_dim;
    for (int32_t i = 0; i < c->n_seqs; i++) {
        int32_t blocks = (c->context[i] + c->block_tokens - 1) / c->block_tokens;
        s->table_stride = blocks > s->table_stride ? blocks : s->table_stride;
        s->start[i + 1] = s->start[i] + c->context[i];
    }
    s->total = (size_t)s->start[c->n_seqs];
    s->n_blocks = c->n_seqs * s->table_stride + 1;
    s->cache = (size_t)s->n_blocks * (size_t)(c->n_kv_heads * c->block_tokens * c->head_dim);
    s->qkv = random_floats(s->total * s->row_dim, 3);
    /* Some scores are far above the rest, so that the maximum matters. */
    for (size_t i = 0; i < s->total * s->row_dim; i += 7)
        s->qkv[i] *= 8.0f;
    s->freq = calloc((size_t)c->head_dim / 2, sizeof(*s->freq));
    s->gain = random_floats(2 * (size_t)c->head_dim, 5);
    s->table = calloc((size_t)(c->n_seqs * s->table_stride), sizeof(*s->table));
    assert_non_null(s->freq);
    assert_non_null(s->table);
    for (int32_t i = 0; i < c->head_dim / 2; i++)
        s->freq[i] = powf(10000.0f, -2.0f * (float)i / (float)c->head_dim);
    /* Shuffled; block 0 belongs to nobody. */
    uint64_t random = 9;
    for (int32_t i = 0; i < c->n_seqs * s->table_stride; i++) {
        int32_t j = random_below(&random, i + 1);
        s->table[i] = s->table[j];
        s->table[j] = i + 1;
    }
}

/* On the backend, or a copy of it on the host. */
struct cache {
    char *base;
    size_t bytes;
    size_t layer_bytes;
    struct kv_layer kv;
};

static void scene_free(struct scene *s)
{
    free(s->table);
    free(s->qkv);
    free(s->freq);
    free(s->gain);
}

static struct head_shape kept_shape(const struct attention_case *c)
{
    return (struct head_shape){
        .n_kv_heads = c->n_kv_heads, .head_dim = c->head_dim, .block_tokens = c->block_tokens};
}

/* A cache of three layers on the backend, of which the middle one is used; every byte is poison,
 * as a scale, a float or a half NaN. */
static struct cache cache_put(struct rig *rig, const struct scene *s)
{
    const struct head_shape shape = kept_shape(s->c);
    struct cache cache = {.layer_bytes = kv_layer_bytes(s->c->kind, &shape)};
    cache.bytes = (size_t)s->n_blocks * LAYERS * cache.layer_bytes;
    char *poison = malloc(cache.bytes);
    assert_non_null(poison);
    memset(poison, POISON, cache.bytes);
    cache.base = rig_put(rig, poison, cache.bytes);
    cache.kv =
        kv_layer_at(s->c->kind, &shape, cache.base + cache.layer_bytes, LAYERS * cache.layer_bytes);
    free(poison);
    return cache;
}

static void cache_release(struct rig *rig, const struct cache *cache)
{
    rig->o->release(rig->o, cache->base);
}

/* One step: of each sequence i the tokens from[i] .. to[i] - 1. Gives the rotated
 * rows in qkv and the results in y, both at the rows of the scene. */
static void step_run(struct rig *rig, const struct scene *s, const struct cache *cache,
                     const int32_t *from, const int32_t *to, float *qkv, float *y)
{
    const struct attention_case *c = s->c;
    size_t y_dim = (size_t)(c->n_heads * c->head_dim);
    int32_t *position = calloc(s->total + 1, sizeof(int32_t));
    int32_t *row_seq = calloc(s->total + 1, sizeof(int32_t));
    float *rows = calloc(s->total * s->row_dim, sizeof(float));
    assert_true(position && row_seq && rows);
    int32_t seq_start[SEQS_MAX + 1] = {0};
    int32_t n = 0;
    int32_t longest = 0;
    for (int32_t i = 0; i < c->n_seqs; i++) {
        for (int32_t t = from[i]; t < to[i]; t++) {
            position[n] = t;
            row_seq[n] = i;
            memcpy(rows + (size_t)n++ * s->row_dim, s->qkv + (size_t)(s->start[i] + t) * s->row_dim,
                   s->row_dim * sizeof(float));
        }
        seq_start[i + 1] = n;
        longest = to[i] > longest ? to[i] : longest;
    }
    size_t n_rows = (size_t)n;
    struct step_view view = {
        .n_rows = n,
        .n_seqs = c->n_seqs,
        .position = rig_put(rig, position, n_rows * sizeof(int32_t)),
        .row_seq = rig_put(rig, row_seq, n_rows * sizeof(int32_t)),
        .seq_start = rig_put(rig, seq_start, sizeof(seq_start)),
        .block_table =
            rig_put(rig, s->table, (size_t)(c->n_seqs * s->table_stride) * sizeof(int32_t)),
        .table_stride = s->table_stride,
        .kv_len_max = longest,
    };
    size_t gain_bytes = (size_t)c->head_dim * sizeof(float);
    float *gain = rig_put(rig, s->gain, 2 * gain_bytes);
    const struct head_shape shape = {
        .n_heads = c->n_heads,
        .n_kv_heads = c->n_kv_heads,
        .head_dim = c->head_dim,
        .block_tokens = c->block_tokens,
        .window = c->window,
        .score_scale = score_scale(c),
        .q_norm = c->normed ? gain : NULL,
        .k_norm = c->normed ? gain + c->head_dim : NULL,
        .norm_eps = eps,
        .rope_freq = rig_put(rig, s->freq, (size_t)c->head_dim / 2 * sizeof(float)),
    };
    float *dqkv = rig_put(rig, rows, n_rows * s->row_dim * sizeof(float));
    float *dy = rig_put(rig, NULL, n_rows * y_dim * sizeof(float));
    rig_begin(rig);
    rig->o->rope_store(rig->o, dqkv, &cache->kv, &view, &shape);
    if (!s->stores_only)
        rig->o->attention(rig->o, dy, dqkv, &cache->kv, &view, &shape);
    rig_end(rig);
    float *host_qkv = rig_take(rig, dqkv, n_rows * s->row_dim * sizeof(float));
    float *host_y = rig_take(rig, dy, n_rows * y_dim * sizeof(float));
    for (size_t row = 0; row < n_rows; row++) {
        size_t at = (size_t)(s->start[row_seq[row]] + position[row]);
        memcpy(qkv + at * s->row_dim, host_qkv + row * s->row_dim, s->row_dim * sizeof(float));
        memcpy(y + at * y_dim, host_y + row * y_dim, y_dim * sizeof(float));
    }
    free(host_qkv);
    free(host_y);
    free(position);
    free(row_seq);
    free(rows);
    rig->o->release(rig->o, (void *)view.position);
    rig->o->release(rig->o, (void *)view.row_seq);
    rig->o->release(rig->o, (void *)view.seq_start);
    rig->o->release(rig->o, (void *)view.block_table);
    rig->o->release(rig->o, (void *)shape.rope_freq);
    rig->o->release(rig->o, gain);
}

/* Normed and rotated by hand, element i of a head at a position. */
static double rotated(const struct scene *s, const float *head, bool key, int32_t i,
                      int32_t position)
{
    int32_t dim = s->c->head_dim;
    int32_t half = dim / 2;
    const float *gain = s->gain + (key ? dim : 0);
    double angle = (double)((float)position * s->freq[i % half]);
    double a = (double)head[i % half];
    double b = (double)head[i % half + half];
    if (s->c->normed) {
        double sum = 0.0;
        for (int32_t j = 0; j < dim; j++)
            sum += (double)head[j] * (double)head[j];
        double inverse = 1.0 / sqrt(sum / dim + (double)eps);
        a *= inverse * (double)gain[i % half];
        b *= inverse * (double)gain[i % half + half];
    }
    return i < half ? a * cos(angle) - b * sin(angle) : b * cos(angle) + a * sin(angle);
}

/* The key or value at a place as floats. */
static void widen_row(float *x, const struct scene *s, const struct kv_layer *kv, bool keys,
                      struct kv_place at)
{
    int32_t dim = s->c->head_dim;
    const void *row = kv_row(keys ? kv->key : kv->value, at, kv_row_bytes(kv->kind, dim));
    for (int32_t i = 0; i < dim; i++) {
        if (kv->kind == NUM_Q8)
            x[i] = (float)((const int8_t *)row)[i] *
                   *kv_scale(keys ? kv->key_scale : kv->value_scale, at);
        else
            x[i] = kv->kind == NUM_F16 ? float_of_half(((const uint16_t *)row)[i])
                                       : ((const float *)row)[i];
    }
}

/* Keys or values on the host as floats [blocks][kv_heads][block_tokens][head_dim]. */
static float *cache_read(struct rig *rig, const struct scene *s, const struct cache *cache,
                         bool keys)
{
    const struct attention_case *c = s->c;
    const struct head_shape shape = kept_shape(c);
    float *x = malloc(s->cache * sizeof(*x));
    char *host = malloc(cache->bytes);
    assert_true(x && host);
    rig->o->download(rig->o, host, cache->base, cache->bytes);
    const struct kv_layer kv =
        kv_layer_at(c->kind, &shape, host + cache->layer_bytes, LAYERS * cache->layer_bytes);
    float *to = x;
    for (int32_t block = 0; block < s->n_blocks; block++) {
        for (int32_t slot = 0; slot < c->n_kv_heads * c->block_tokens; slot++, to += c->head_dim)
            widen_row(to, s, &kv, keys,
                      kv_place(&kv, &shape, block, slot / c->block_tokens, slot % c->block_tokens));
    }
    free(host);
    return x;
}

/* The layers before and after it, and block 0, hold what they held. */
static void check_neighbours(struct rig *rig, const struct scene *s, const struct cache *cache)
{
    char *host = malloc(cache->bytes);
    assert_non_null(host);
    rig->o->download(rig->o, host, cache->base, cache->bytes);
    for (size_t i = 0; i < cache->bytes; i++) {
        size_t layer = i / cache->layer_bytes;
        if ((layer < LAYERS || layer % LAYERS != 1) && host[i] != (char)POISON)
            fail_msg("byte %zu of %d blocks", i, s->n_blocks);
    }
    free(host);
}

static size_t place_of(const struct scene *s, int32_t seq, int32_t kv_head, int32_t position)
{
    const struct attention_case *c = s->c;
    int32_t block = s->table[seq * s->table_stride + position / c->block_tokens];
    return (size_t)((block * c->n_kv_heads + kv_head) * c->block_tokens +
                    position % c->block_tokens) *
           (size_t)c->head_dim;
}

static void check_stored(const struct scene *s, const float *keys, const float *values,
                         const float *qkv)
{
    const struct attention_case *c = s->c;
    size_t dim = (size_t)c->head_dim;
    for (int32_t seq = 0; seq < c->n_seqs; seq++) {
        for (int32_t t = 0; t < c->context[seq]; t++) {
            size_t at = (size_t)(s->start[seq] + t) * s->row_dim;
            for (int32_t h = 0; h < c->n_heads; h++) {
                for (int32_t i = 0; i < c->head_dim; i++) {
                    size_t e = at + (size_t)h * dim + (size_t)i;
                    double want = rotated(s, s->qkv + at + (size_t)h * dim, false, i, t);
                    assert_near((double)qkv[e], want, 2e-5, "query", e);
                }
            }
            for (int32_t h = 0; h < c->n_kv_heads; h++) {
                const float *key = s->qkv + at + (size_t)(c->n_heads + h) * dim;
                const float *value = key + (size_t)c->n_kv_heads * dim;
                size_t place = place_of(s, seq, h, t);
                /* Magnitudes reach 8 * sqrt(2): half a step of the quantization. */
                double step = c->kind == NUM_Q8 ? 12.0 / 127.0 / 2.0 : 0.0;
                /* Between 8 and 16 a half has units of 1 / 128. */
                step = c->kind == NUM_F16 ? 1.0 / 256.0 : step;
                for (int32_t i = 0; i < c->head_dim; i++) {
                    assert_near((double)keys[place + (size_t)i], rotated(s, key, true, i, t),
                                step + 2e-5, "key", place + (size_t)i);
                    assert_near((double)values[place + (size_t)i], (double)value[i], step + 1e-6,
                                "value", place + (size_t)i);
                }
            }
        }
    }
}

static void attend_one(const struct scene *s, const float *keys, const float *values,
                       const float *query, int32_t seq, int32_t kv_head, int32_t position,
                       double *out)
{
    int32_t dim = s->c->head_dim;
    double *score = calloc((size_t)position + 1, sizeof(*score));
    assert_non_null(score);
    double most = -1e300;
    int32_t window = s->c->window;
    int32_t from = window > 0 && position >= window ? position - window + 1 : 0;
    for (int32_t t = from; t <= position; t++) {
        const float *key = keys + place_of(s, seq, kv_head, t);
        for (int32_t i = 0; i < dim; i++)
            score[t] += (double)query[i] * (double)key[i] * (double)score_scale(s->c);
        most = fmax(most, score[t]);
    }
    double sum = 0.0;
    memset(out, 0, (size_t)dim * sizeof(*out));
    for (int32_t t = from; t <= position; t++) {
        const float *value = values + place_of(s, seq, kv_head, t);
        double p = exp(score[t] - most);
        sum += p;
        for (int32_t i = 0; i < dim; i++)
            out[i] += p * (double)value[i];
    }
    for (int32_t i = 0; i < dim; i++)
        out[i] /= sum;
    free(score);
}

/* from: of each sequence, the first token whose attention y holds. */
static void check_attention(const struct rig *rig, const struct scene *s, const float *keys,
                            const float *values, const float *qkv, const float *y,
                            const int32_t *from)
{
    const struct attention_case *c = s->c;
    size_t dim = (size_t)c->head_dim;
    double *want = calloc(dim, sizeof(*want));
    assert_non_null(want);
    /* Of int8 the cpu multiplies queries and weights of 16 bit. */
    double bound = !rig->cpu ? 5e-2 : c->kind == NUM_Q8 ? 2e-3 : 1e-4;
    for (int32_t seq = 0; seq < c->n_seqs; seq++) {
        for (int32_t t = from[seq]; t < c->context[seq]; t++) {
            size_t row = (size_t)(s->start[seq] + t);
            for (int32_t h = 0; h < c->n_heads; h++) {
                const float *query = qkv + row * s->row_dim + (size_t)h * dim;
                const float *got = y + (row * (size_t)c->n_heads + (size_t)h) * dim;
                attend_one(s, keys, values, query, seq, h / (c->n_heads / c->n_kv_heads), t, want);
                for (size_t i = 0; i < dim; i++)
                    assert_near((double)got[i], want[i], bound, "attention", row);
            }
        }
    }
    free(want);
}

/* Every table of loops, on any number of threads, gives the bits of the one that is used. */
static void check_tables(const struct scene *s, const float *whole)
{
    const int32_t zero[SEQS_MAX] = {0};
    size_t y_size = s->total * (size_t)(s->c->n_heads * s->c->head_dim) * sizeof(float);
    float *qkv = calloc(s->total * s->row_dim, sizeof(float));
    float *y = calloc(1, y_size);
    assert_true(qkv && y);
    for (size_t i = 0; cpu_kernels_at(i); i++) {
        struct rig rig = {.cpu = true};
        assert_int_equal(ops_cpu_open_with(&rig.o, 1 + (int32_t)i * 3, cpu_kernels_at(i)), OK);
        struct cache cache = cache_put(&rig, s);
        step_run(&rig, s, &cache, zero, s->c->context, qkv, y);
        assert_memory_equal(y, whole, y_size);
        cache_release(&rig, &cache);
        rig_close(&rig);
    }
    free(qkv);
    free(y);
}

/* The whole of every sequence in one step, then the same tokens in uneven pieces
 * on another number of threads. */
static void scene_test(const struct attention_case *c, int32_t threads)
{
    struct scene s;
    scene_make(&s, c);
    size_t y_size = s.total * (size_t)(c->n_heads * c->head_dim) * sizeof(float);
    float *qkv = calloc(s.total * s.row_dim, sizeof(float));
    float *whole = calloc(1, y_size);
    float *pieces = calloc(1, y_size);
    assert_true(qkv && whole && pieces);

    struct rig rig = rig_open(threads);
    struct cache cache = cache_put(&rig, &s);
    const int32_t zero[SEQS_MAX] = {0};
    step_run(&rig, &s, &cache, zero, c->context, qkv, whole);
    float *keys = cache_read(&rig, &s, &cache, true);
    float *values = cache_read(&rig, &s, &cache, false);
    check_stored(&s, keys, values, qkv);
    check_neighbours(&rig, &s, &cache);
    check_attention(&rig, &s, keys, values, qkv, whole, zero);
    if (rig.cpu)
        check_tables(&s, whole);
    free(keys);
    free(values);
    cache_release(&rig, &cache);
    rig_close(&rig);

    rig = rig_open(8 - threads);
    cache = cache_put(&rig, &s);
    int32_t from[SEQS_MAX] = {0};
    int32_t to[SEQS_MAX] = {0};
    for (int32_t step = 0; step < 6; step++) {
        int32_t n_rows = 0;
        /* Sequence i joins at step i % 2; the last token always comes alone. */
        for (int32_t i = 0; i < c->n_seqs; i++) {
            int32_t share = (c->context[i] - 1) * (step - i % 2 + 1) / 4;
            share = share < 0 ? 0 : share;
            share = share > c->context[i] - 1 ? c->context[i] - 1 : share;
            from[i] = to[i];
            to[i] = step == 5 ? c->context[i] : share;
            n_rows += to[i] - from[i];
        }
        if (n_rows > 0)
            step_run(&rig, &s, &cache, from, to, qkv, pieces);
    }
    assert_memory_equal(pieces, whole, y_size);
    cache_release(&rig, &cache);
    rig_close(&rig);
    free(qkv);
    free(whole);
    free(pieces);
    scene_free(&s);
}

static void test_attention(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(attention_cases); i++)
        scene_test(&attention_cases[i], 1 + (int32_t)i % 3);
}

static void late_test(const struct late_case *l)
{
    const struct attention_case *c = &l->c;
    const int32_t zero[SEQS_MAX] = {0};
    struct scene s;
    scene_make(&s, c);
    float *qkv = calloc(s.total * s.row_dim, sizeof(float));
    float *y = calloc(s.total * (size_t)(c->n_heads * c->head_dim), sizeof(float));
    assert_true(qkv && y);
    struct rig rig = rig_open(1);
    struct cache cache = cache_put(&rig, &s);
    s.stores_only = true;
    step_run(&rig, &s, &cache, zero, l->from, qkv, y);
    s.stores_only = false;
    step_run(&rig, &s, &cache, l->from, c->context, qkv, y);
    float *keys = cache_read(&rig, &s, &cache, true);
    float *values = cache_read(&rig, &s, &cache, false);
    check_attention(&rig, &s, keys, values, qkv, y, l->from);
    free(keys);
    free(values);
    cache_release(&rig, &cache);
    rig_close(&rig);
    free(qkv);
    free(y);
    scene_free(&s);
}

static void test_barriers(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(late_cases); i++) {
        print_message("%s\n", late_cases[i].reaches);
        late_test(&late_cases[i]);
    }
}

/* Every half is itself again; what lies between two goes to the nearer, of two as near to the
 * even one; beyond the largest there is none. */
static void test_halves(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7c00; h++) {
        float low = float_of_half((uint16_t)h);
        float high = h + 1 < 0x7c00 ? float_of_half((uint16_t)(h + 1)) : 65536.0f;
        float middle = (low + high) / 2.0f;
        uint32_t even = h % 2 == 0 ? h : h + 1;
        uint32_t above = h + 1 < 0x7c00 ? h + 1 : h;
        assert_int_equal(half_of_float(low), h);
        assert_int_equal(half_of_float(-low), h | 0x8000);
        assert_int_equal(half_of_float(nextafterf(middle, 0.0f)), h);
        assert_int_equal(half_of_float(middle), even < 0x7c00 ? even : h);
        assert_int_equal(half_of_float(nextafterf(middle, INFINITY)), above);
    }
    assert_int_equal(half_of_float(INFINITY), 0x7bff);
    assert_int_equal(half_of_float(-1e38f), 0xfbff);
    assert_true(!!isnan(float_of_half(half_of_float(NAN))));
    assert_true(isinf(float_of_half(0x7c00)) && isinf(float_of_half(0xfc00)));
}

/* An argument: the one test to run. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_halves),
        cmocka_unit_test(test_barriers),
        cmocka_unit_test(test_attention),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

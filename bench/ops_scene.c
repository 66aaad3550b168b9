#include "bench/ops_cases.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Arenas grow to what the lines need and are filled when they do. The content repeats after a
 * prime number of values, so that no two rows of an operand are alike. */

enum { PERIOD = 262139 };

static _Noreturn void quit(const char *why)
{
    (void)fprintf(stderr, "bench_ops: %s\n", why);
    exit(1);
}

static void *take(struct ops *ops, size_t bytes)
{
    void *p;
    if (ops->alloc(ops, bytes, &p))
        quit("out of memory");
    return p;
}

static void *take_host(size_t n, size_t bytes)
{
    void *p = calloc(n ? n : 1, bytes);
    if (!p)
        quit("out of memory");
    return p;
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545F4914F6CDD1Du;
}

static size_t period_bytes(enum arena_kind kind)
{
    return kind == ARENA_Q8 ? PERIOD : PERIOD * sizeof(float);
}

static void *make_values(enum arena_kind kind)
{
    uint64_t state = 0x9E3779B97F4A7C15u + kind;
    void *out = take_host(1, period_bytes(kind));
    for (size_t i = 0; i < PERIOD; i++) {
        int32_t bits = (int32_t)(next_random(&state) >> 40); /* 24 of them */
        float unit = (float)(bits - (1 << 23)) / (float)(1 << 23);
        if (kind == ARENA_Q8)
            ((int8_t *)out)[i] = (int8_t)(bits % 255 - 127);
        else
            ((float *)out)[i] = kind == ARENA_FLOAT ? unit : 0.01f + 0.005f * unit;
    }
    return out;
}

void scene_open(struct scene *s, struct ops *ops, size_t cold_bytes)
{
    float freq[HEAD_DIM_MAX / 2];
    *s = (struct scene){.ops = ops, .cold_bytes = cold_bytes};
    s->ints = take(ops, INTS_MAX * sizeof(*s->ints));
    s->freq = take(ops, sizeof(freq));
    s->pick = take_host(PICKS_MAX, sizeof(*s->pick));
    s->picked = take_host(PICKS_MAX, sizeof(*s->picked));
    for (size_t i = 0; i < ARENA_OUT; i++)
        s->values[i] = make_values((enum arena_kind)i);
    for (size_t i = 0; i < ARRAY_LEN(freq); i++)
        freq[i] = powf(10000.0f, -(float)i / (float)ARRAY_LEN(freq));
    ops->upload(ops, s->freq, freq, sizeof(freq));
}

void scene_close(struct scene *s)
{
    for (size_t i = 0; i < ARENAS; i++)
        s->ops->release(s->ops, s->arena[i].base);
    s->ops->release(s->ops, s->ints);
    s->ops->release(s->ops, s->freq);
    for (size_t i = 0; i < ARENA_OUT; i++)
        free(s->values[i]);
    free(s->sums);
    free(s->pick);
    free(s->picked);
}

void scene_fill(struct scene *s, enum arena_kind kind, void *dst, size_t bytes)
{
    size_t period = period_bytes(kind);
    for (size_t at = 0; at < bytes; at += period)
        s->ops->upload(s->ops, (char *)dst + at, s->values[kind],
                       bytes - at < period ? bytes - at : period);
}

static void grow(struct scene *s, enum arena_kind kind, size_t bytes)
{
    struct arena *a = &s->arena[kind];
    if (bytes <= a->bytes)
        return;
    /* More than is asked for, or every line would ask for a little more than the one before. */
    bytes = bytes > s->cold_bytes + s->cold_bytes / 4 ? bytes : s->cold_bytes + s->cold_bytes / 4;
    s->ops->release(s->ops, a->base);
    a->base = take(s->ops, bytes);
    a->bytes = bytes;
    /* Results, too, or the first to write there would wait for the pages. */
    scene_fill(s, kind < ARENA_OUT ? kind : ARENA_FLOAT, a->base, bytes);
}

static size_t common_divisor(size_t a, size_t b)
{
    while (b > 0) {
        size_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* A pace that visits every copy, neighbours far from each other in time. */
static size_t pace_of(size_t copies)
{
    size_t pace = (size_t)(0.618 * (double)copies) | 1;
    while (common_divisor(pace, copies) != 1)
        pace++;
    return pace;
}

/* The results of the first copy are hashed: what the operation does not write has to be known. */
static void clear_first(struct scene *s, const struct line *l)
{
    size_t bytes = l->need[ARENA_OUT];
    if (bytes == 0)
        return;
    void *zeros = take_host(1, bytes);
    s->ops->upload(s->ops, s->arena[ARENA_OUT].base, zeros, bytes);
    free(zeros);
}

void scene_prepare(struct scene *s, const struct line *l)
{
    size_t all = 0;
    for (size_t i = 0; i < ARENAS; i++) {
        s->arena[i].stride = (l->need[i] + 63) / 64 * 64;
        all += s->arena[i].stride;
    }
    s->copies = s->cold_bytes / all + 1;
    s->pace = pace_of(s->copies);
    s->turn = 0;
    for (size_t i = 0; i < ARENAS; i++)
        grow(s, (enum arena_kind)i, s->copies * s->arena[i].stride);
    clear_first(s, l);
    memset(s->picked, 0, PICKS_MAX * sizeof(*s->picked));
    free(s->sums);
    s->sums = NULL;
    line_prepare(s, l);
}

void scene_run(struct scene *s, const struct line *l)
{
    size_t copy = s->turn * s->pace % s->copies;
    s->ops->picks(s->ops, s->picked, s->pick, line_picks(l), l->k);
    if (s->ops->step_begin(s->ops, NULL))
        line_issue(s, l, copy);
    (void)s->ops->step_end(s->ops);
    s->ops->step_launch(s->ops);
    if (s->ops->step_wait(s->ops))
        quit("the backend failed");
    s->turn++;
}

/* Four lanes, so that a gigabyte of results does not take longer than to compute them. */
static uint64_t hash_words(uint64_t hash, const void *data, size_t bytes)
{
    enum { LANES = 4, WORD = 8 };
    uint64_t lane[LANES] = {hash, hash ^ 1, hash ^ 2, hash ^ 3};
    uint64_t word = 0;
    for (size_t at = 0, i = 0; at < bytes; at += WORD, i++) {
        word = 0;
        memcpy(&word, (const char *)data + at, bytes - at < WORD ? bytes - at : WORD);
        lane[i % LANES] = (lane[i % LANES] ^ word) * 0x9FB21C651E98DF25u;
        lane[i % LANES] ^= lane[i % LANES] >> 29;
    }
    for (size_t i = 0; i < LANES; i++)
        hash = (hash ^ lane[i]) * 0x100000001b3u;
    return hash ^ hash >> 31;
}

uint64_t scene_hash(struct scene *s, const struct line *l)
{
    uint64_t hash = 0xcbf29ce484222325u;
    s->turn = 0;
    scene_run(s, l);
    if (l->need[ARENA_OUT]) {
        void *host = take_host(1, l->need[ARENA_OUT]);
        s->ops->download(s->ops, host, s->arena[ARENA_OUT].base, l->need[ARENA_OUT]);
        hash = hash_words(hash, host, l->need[ARENA_OUT]);
        free(host);
    }
    for (int32_t i = 0; i < line_picks(l); i++) {
        const struct picked *p = &s->picked[i];
        bool told = s->pick[i].how.n_logprobs >= 0;
        size_t top = told ? (size_t)p->n_top : 0;
        hash = hash_words(hash, &p->token, sizeof(p->token));
        hash = hash_words(hash, &p->logprob, told ? sizeof(p->logprob) : 0);
        hash = hash_words(hash, p->top_token, top * sizeof(p->top_token[0]));
        hash = hash_words(hash, p->top_logprob, top * sizeof(p->top_logprob[0]));
    }
    return hash;
}

/* ---- tables ---- */

void scene_indexes(struct scene *s, int32_t limit)
{
    int32_t *host = take_host(INTS_MAX, sizeof(*host));
    uint64_t state = 0x9E3779B97F4A7C15u;
    for (size_t i = 0; i < INTS_MAX; i++)
        host[i] = (int32_t)(next_random(&state) >> 33) % limit;
    s->ops->upload(s->ops, s->ints, host, INTS_MAX * sizeof(*host));
    free(host);
}

/* Sequences of equal length, whose last row sees the whole context. Their blocks lie between
 * each other's, as those of a server that has run for a while. */
void scene_place(struct scene *s, const struct line *l)
{
    const struct model_shape *m = l->model;
    int32_t each = l->rows / l->seqs;
    int32_t stride = (l->context + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
    size_t rows = (size_t)l->rows;
    size_t seqs = (size_t)l->seqs;
    size_t n = 2 * rows + seqs + 1 + seqs * (size_t)stride;
    int32_t *host = take_host(INTS_MAX, sizeof(*host));
    if (n > INTS_MAX)
        quit("more blocks than there is room for");
    for (size_t i = 0; i < rows; i++) {
        host[i] = l->context - each + (int32_t)(i % (size_t)each);
        host[rows + i] = (int32_t)(i / (size_t)each);
    }
    for (int32_t i = 0; i <= l->seqs; i++)
        host[2 * rows + (size_t)i] = i * each;
    for (int32_t i = 0; i < l->seqs * stride; i++)
        host[2 * rows + seqs + 1 + (size_t)i] = i % stride * l->seqs + i / stride;
    s->ops->upload(s->ops, s->ints, host, n * sizeof(*host));
    free(host);
    s->step = (struct step_view){.n_rows = l->rows,
                                 .n_seqs = l->seqs,
                                 .position = s->ints,
                                 .row_seq = s->ints + rows,
                                 .seq_start = s->ints + 2 * rows,
                                 .block_table = s->ints + 2 * rows + seqs + 1,
                                 .table_stride = stride,
                                 .kv_len_max = l->context};
    s->head = (struct head_shape){.n_heads = m->heads,
                                  .n_kv_heads = m->kv_heads,
                                  .head_dim = m->head_dim,
                                  .block_tokens = BLOCK_TOKENS,
                                  .score_scale = 1.0f / sqrtf((float)m->head_dim),
                                  .rope_freq = s->freq};
}

#ifndef KERNELS_CPU_ATTENTION_H
#define KERNELS_CPU_ATTENTION_H

#include "kernels/cpu.h"
#include "kernels/cpu_attend.h"
#include "kernels/paged.h"

/* What cpu_attention.c and the two ways to take a chunk share. */

enum {
    PAIRS_MAX = 32, /* (row, head) pairs of one pass */
    SHARE_FLOATS = 2,
    SPAN = 32, /* float keys or values gathered at a time: 16 KB at head_dim 128 */
};

struct attention_job {
    struct cpu *cpu;
    float *y;
    const float *qkv;
    const struct kv_layer *kv;
    const struct step_view *step;
    const struct head_shape *shape;
    size_t dim;    /* head_dim */
    size_t padded; /* head_dim rounded up; the rest is zero */
    int32_t rows_each;
    int32_t n_splits; /* tasks that a row and kv head is, each with some of its chunks */
    int32_t n_chunks; /* of the longest context */
    float *parts;     /* [rows][n_heads][n_chunks][SHARE_FLOATS + padded], with splits */
};

/* Scratch of one worker. */
struct attention_room {
    float *total; /* [PAIRS_MAX][padded] merged chunks */
    float *part;  /* [PAIRS_MAX][padded] this chunk */
    float *score; /* [PAIRS_MAX][CHUNK] */
    /* float keys and values */
    float *query;  /* [PAIRS_MAX][padded] */
    float *span;   /* [SPAN][padded] */
    float *weight; /* [SPAN] */
    /* int8 keys and values */
    int8_t *query_16;   /* [PAIRS_MAX][2 * padded] */
    int8_t *weight_16;  /* [PAIRS_MAX][2 * CHUNK], and a strip */
    int32_t *sum_16;    /* [PAIRS_MAX][CHUNK] */
    int32_t *acc;       /* [PAIRS_MAX][padded] */
    float *key_scale;   /* [CHUNK] */
    float *value_scale; /* [CHUNK] */
    struct q16 query_of[PAIRS_MAX];
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

/* Tokens begin .. end - 1 of a chunk; none when end <= begin. */
struct range {
    int32_t begin;
    int32_t end;
};

/* A chunk as far as a pass sees it: tokens skip .. n - 1 from position `first` on. */
struct chunk {
    int32_t first;
    int32_t skip;
    int32_t n;
};

/* What a pair's part of a chunk is worth when it is merged. */
struct share {
    float most; /* the largest score */
    float sum;  /* of the exponentials */
};

static inline int32_t n_pairs(const struct pass *p)
{
    return p->n_rows * p->n_heads;
}

static inline size_t row_of(const struct pass *p, int32_t pair)
{
    int32_t row = p->row + pair / p->n_heads;
    return (size_t)row;
}

static inline size_t head_of(const struct pass *p, int32_t pair)
{
    int32_t head = p->head + pair % p->n_heads;
    return (size_t)head;
}

/* The first position that a row at `position` sees. */
static inline int32_t seen_from(const struct attention_job *job, int32_t position)
{
    int32_t window = job->shape->window;
    return window > 0 && position >= window ? position - window + 1 : 0;
}

/* What pair i sees of the chunk at `first`. */
static inline struct range seen_by(const struct attention_job *job, const struct pass *p,
                                   int32_t pair, int32_t first)
{
    int32_t position = job->step->position[row_of(p, pair)];
    int32_t begin = seen_from(job, position) - first;
    int32_t end = position + 1 - first;
    return (struct range){.begin = begin > 0 ? begin : 0, .end = end < CHUNK ? end : CHUNK};
}

static inline struct kv_place place_of(const struct attention_job *job, const struct pass *p,
                                       int32_t position)
{
    const struct head_shape *s = job->shape;
    const int32_t *table =
        job->step->block_table + (size_t)p->seq * (size_t)job->step->table_stride;
    return kv_place(job->kv, s, table[position / s->block_tokens], p->kv_head,
                    position % s->block_tokens);
}

/* Over int8 keys and values: a pair's query made ready, and the parts of all pairs that
 * see anything of a chunk in room->part and share. */
void attend_q8_query(const struct attention_job *job, struct attention_room *room, int32_t pair,
                     const float *query);
void attend_q8_chunk(const struct attention_job *job, const struct pass *p, const struct chunk *c,
                     const struct attention_room *room, struct share share[PAIRS_MAX]);

/* The same over float ones. */
void attend_float_query(const struct attention_job *job, const struct attention_room *room,
                        int32_t pair, const float *query);
void attend_float_chunk(const struct attention_job *job, const struct pass *p,
                        const struct chunk *c, const struct attention_room *room,
                        struct share share[PAIRS_MAX]);

#endif

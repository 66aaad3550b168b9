#ifndef BENCH_OPS_SCENE_H
#define BENCH_OPS_SCENE_H

#include "kernels/ops.h"

/* Where the operands of bench_ops lie. An arena holds as many copies of a line's operands as are
 * needed to be larger than any cache, and each repetition takes another copy, so that it
 * reads what no cache holds. What an arena holds at a place depends on the place alone: a line
 * has the same operands on every machine and backend, and its results the same hash. */

enum arena_kind {
    ARENA_Q8,    /* int8, -127 .. 127 */
    ARENA_FLOAT, /* (-1, 1) */
    ARENA_SCALE, /* 0.005 .. 0.015 */
    ARENA_OUT,   /* what operations write */
    ARENA_KV,    /* blocks of keys and values, which the line itself fills */
    ARENAS,
};

enum {
    BLOCK_TOKENS = 16,
    HEAD_DIM_MAX = 128,
    ROWS_MAX = 2048,
    PICKS_MAX = 256, /* no step takes the logits of more rows */
    CONTEXT_MAX = 8192,
    INTS_MAX = 1 << 18, /* of all tables of a line, or of its indexes */
};

struct arena {
    char *base;
    size_t bytes;
    size_t stride; /* from one copy of the line's operands to the next */
};

struct scene {
    struct ops *ops;
    size_t cold_bytes; /* more than the machine's caches */
    struct arena arena[ARENAS];
    size_t copies;
    size_t pace;             /* from one copy to the one that is used next */
    size_t turn;             /* counts the repetitions of the line */
    int32_t *ints;           /* [INTS_MAX] */
    float *freq;             /* [HEAD_DIM_MAX / 2] */
    int32_t *sums;           /* [copies][n] of weight rows, on the host; NULL: not of this line */
    char *values[ARENA_OUT]; /* on the host: what arenas are filled with */
    struct step_view step;
    struct head_shape head;
    struct pick *pick;     /* [PICKS_MAX] on the host */
    struct picked *picked; /* [PICKS_MAX] on the host */
};

struct line;

/* What fails here ends the program with a line that says so. */
void scene_open(struct scene *s, struct ops *ops, size_t cold_bytes);
void scene_close(struct scene *s);
void scene_prepare(struct scene *s, const struct line *l);
/* Computes the line once, on operands that were not read lately. */
void scene_run(struct scene *s, const struct line *l);
/* Of what the line makes of its first operands. */
uint64_t scene_hash(struct scene *s, const struct line *l);

/* For those who prepare a line: numbers below limit in ints, the content of an arena at
 * another place, and the tables of sequences in step and head. */
void scene_indexes(struct scene *s, int32_t limit);
void scene_fill(struct scene *s, enum arena_kind kind, void *dst, size_t bytes);
void scene_place(struct scene *s, const struct line *l);

#endif

#ifndef KERNELS_CPU_ATTEND_H
#define KERNELS_CPU_ATTEND_H

#include "kernels/base.h"

/* The innermost loops of attention over int8 keys and values, one table per instruction
 * set. Every table computes the same bits.
 *
 * Queries, and the weights that values get, enter as integers of 16 bit with one scale a
 * row. Their products with int8 are summed in 32 bit, exactly and so in any order, over a
 * head of up to HEAD_MOST or a chunk of keys. How a table lays out a row of 16 bit
 * integers, and in which order it sums the dims of values, is its own affair. */

enum {
    CHUNK = 256,                /* keys, of which sums are taken by themselves */
    STRIP = 16,                 /* keys of one call */
    SLAB = 64,                  /* dims a table takes at a time: rows are padded to them */
    Q16_MOST = 127 * 256 + 127, /* two signed bytes, neither of them -128 */
    HEAD_MOST = 512,            /* 512 * Q16_MOST * 127 is just below 2^31 */
};

/* What belongs to a row of 16 bit integers. */
struct q16 {
    float scale;   /* value = integer * scale; NaN when a value was not finite */
    int32_t total; /* of the integers */
};

/* Keys or values of neighbouring tokens of one block, as stored. */
struct strip {
    const int8_t *q; /* [n][dim] */
    int32_t n;       /* 1 .. STRIP */
    int32_t first;   /* in its chunk */
    size_t dim;
};

/* A row of scores becomes a row of weights. */
struct soft {
    const int32_t *sum;       /* [CHUNK] query . key */
    const float *key_scale;   /* [CHUNK] */
    const float *value_scale; /* [CHUNK] */
    float factor;             /* of every score, beside its key's scale */
    int32_t begin;            /* what the row sees of the chunk, at least one key */
    int32_t end;
    float *room;    /* [CHUNK] */
    int8_t *weight; /* [2 * CHUNK] exp(score - most) * value scale; 0 where nothing is seen */
    struct q16 weight_of;
    float most;
    float total; /* of the exponentials, summed in LANES by place in the chunk */
};

struct attend_loops {
    /* x [n] to a row of `padded` integers in `to` [2 * padded]; those beyond n are 0. */
    void (*pack)(int8_t *to, struct q16 *of, const float *x, size_t n, size_t padded);
    /* sum [n_q][CHUNK] = query . key at the places of the strip; query [n_q][2 * padded]. */
    void (*scores)(int32_t *sum, const struct strip *keys, const int8_t *query,
                   const struct q16 *of, int32_t n_q);
    void (*soften)(struct soft *s);
    /* acc [n_q][padded] += weight . value; weight [n_q][2 * CHUNK]. */
    void (*weigh)(int32_t *acc, const struct strip *values, const int8_t *weight, int32_t n_q);
    /* part [padded] = acc in the order of the dims, as floats. */
    void (*finish)(float *part, const int32_t *acc, const struct q16 *weight_of, size_t padded);
};

/* The last two exist where the build is for x86-64. */
extern const struct attend_loops attend_plain;
extern const struct attend_loops attend_avx2;
extern const struct attend_loops attend_avx512;

static inline size_t slabs(size_t dim)
{
    return (dim + SLAB - 1) / SLAB * SLAB;
}

#endif

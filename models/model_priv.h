#ifndef MODELS_MODEL_PRIV_H
#define MODELS_MODEL_PRIV_H

#include "models/llama.h"
#include "models/model.h"

/* What a loaded model is: planned by model_plan.c, opened by model.c, run by model_step.c. Nobody
 * else includes this. */

/* The sections of the packed array, as offsets in numbers. */
struct packing {
    size_t token;     /* [rows] */
    size_t position;  /* [rows] */
    size_t row_seq;   /* [rows] */
    size_t seq_start; /* [seqs + 1] */
    size_t pick_row;  /* [picks] */
    size_t table;     /* [seqs][stride]; last, so that only what is used goes up */
    size_t total;
};

struct model {
    struct llama llama;
    struct memory memory;
    struct ops *ops;
    int32_t rows_max;
    int32_t seqs_max;
    int32_t stride_max; /* blocks of one whole context */
    struct packing at;
    int32_t *host;        /* [at.total] */
    int32_t *device;      /* [at.total] */
    struct pick *pick;    /* [seqs_max] */
    struct picked *drawn; /* [seqs_max] */
    int32_t n_picks;      /* of the last step launched */
    bool in_flight;
    bool failed; /* the last step did */
};

static inline int32_t blocks_for(int32_t tokens)
{
    return (tokens + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
}

/* From options and config.json: shapes of all that is to be taken. m->ops is set. */
enum status model_prepare(struct model *m, const struct model_options *opt,
                          const struct complaint *c) MUST_CHECK;

/* Everything but the cache: counted where mem has no ops, else taken. */
void model_take_fixed(struct model *m, struct memory *mem);

/* How many blocks the cache has; E_NOMEM says with numbers what does not fit. */
enum status model_plan_blocks(struct model *m, const struct model_options *opt,
                              const struct complaint *c) MUST_CHECK;

#endif

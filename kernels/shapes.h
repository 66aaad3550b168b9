#ifndef KERNELS_SHAPES_H
#define KERNELS_SHAPES_H

#include "kernels/base.h"

/* Part of the seam in ops.h: where the rows of a step sit, and what heads look like. */

/* Where each row of the step sits: shared by every layer, uploaded once. */
struct step_view {
    int32_t n_rows;
    int32_t n_seqs;
    /* [n_rows] Where a backend records, negative: a row that fills up the shape, which is nobody's,
     * stores nothing and may come out as anything. It stands behind all sequences. */
    const int32_t *position;
    const int32_t *row_seq; /* [n_rows] */
    /* [n_seqs + 1] First row of each sequence. One may be empty, but where n_rows is n_seqs every
     * one has one row. */
    const int32_t *seq_start;
    const int32_t *block_table; /* [n_seqs][table_stride] */
    int32_t table_stride;
    int32_t kv_len_max; /* longest context in this step, rounded up, for whom it sizes a grid */
};

struct head_shape {
    int32_t n_heads;
    int32_t n_kv_heads;
    int32_t head_dim; /* even */
    int32_t block_tokens;
    int32_t window;      /* tokens that a row sees, itself among them; 0: all */
    float score_scale;   /* of q . k: mostly 1 / sqrt(head_dim) */
    const float *q_norm; /* [head_dim] gains of an RMSNorm of each head of q, and of k, */
    const float *k_norm; /* before the rotation (Qwen3); NULL: none */
    float norm_eps;
    /* [head_dim / 2] angle per position, scaling applied. Rotates half-split
     * pairs (i, i + head_dim / 2): the Hugging Face layout. */
    const float *rope_freq;
};

/* What shapes the launches of a step. owner: whose weights and buffers they use. */
struct step_key {
    const void *owner;
    int32_t rows;
    int32_t picks;
    int32_t context;
};

#endif

#ifndef KERNELS_ATTENTION_CUH
#define KERNELS_ATTENTION_CUH

#include "kernels/paged.h"
#include "kernels/ptx.cuh"

/* What the attention kernels share: where a token's key and value lie. */
struct places {
    struct kv_layer kv;
    struct step_view step;
    struct head_shape shape;
};

static __device__ inline struct kv_place place_of(const struct places &p, int seq, int position,
                                                  int head)
{
    int tokens = p.shape.block_tokens;
    int32_t block =
        p.step.block_table[(size_t)seq * (size_t)p.step.table_stride + (size_t)(position / tokens)];
    return kv_place(&p.kv, &p.shape, block, head, position % tokens);
}

/* A key or value of a token; scale: its own, with NUM_Q8. */
struct kept {
    enum number kind;
    void *row;
    float *scale;
};

static __device__ inline struct kept kept_at(const struct places &p, bool key, struct kv_place at)
{
    const struct kv_layer &kv = p.kv;
    size_t bytes = kv_row_bytes(kv.kind, p.shape.head_dim);
    struct kept k = {kv.kind, kv_row(key ? kv.key : kv.value, at, bytes), NULL};
    if (kv.kind == NUM_Q8)
        k.scale = kv_scale(key ? kv.key_scale : kv.value_scale, at);
    return k;
}

/* The tensor-core kernels: cache of int8 or halves, head_dim 64, 80, 96 or 128, at most 16 query
 * heads per kv head. Which kernel computes a row is a matter of the model, never of the step, but
 * for these two, which give the same bits. The first takes sequences that bring at most *most
 * queries to a kv head, 0: none; the second those that bring more than `beyond`. */
bool attention_flash_fits(const struct places *p);
int attention_few(const struct gpu *g, float *y, const float *qkv, const struct places *p,
                  int *most);
int attention_many(const struct gpu *g, float *y, const float *qkv, const struct places *p,
                   int beyond);

#endif

#ifndef KERNELS_PAGED_H
#define KERNELS_PAGED_H

#include "kernels/ops.h"

/* Where things lie in the paged cache. Both backends, the model and who tests or measures them
 * ask here.
 *
 * A block is one piece of memory: for every layer the keys [kv_heads][block_tokens][head_dim], as
 * many values, and for NUM_Q8 their scales [kv_heads][block_tokens] each. So memory that was ever
 * touched is that of blocks which were ever used, in any number of layers. */

#ifdef __CUDACC__
#define PAGED_FN static __host__ __device__ __forceinline__
#else
#define PAGED_FN static inline
#endif

/* A token's row in every array of a layer. */
struct kv_place {
    size_t block; /* bytes from block 0 */
    size_t slot;  /* rows from where the block's part of the array begins */
};

PAGED_FN struct kv_place kv_place(const struct kv_layer *kv, const struct head_shape *s,
                                  int32_t block, int32_t kv_head, int32_t token)
{
    size_t tokens = (size_t)s->block_tokens;
    struct kv_place at = {(size_t)block * kv->block_bytes,
                          (size_t)kv_head * tokens + (size_t)token};
    return at;
}

/* Of the head_dim numbers of a key or value. */
PAGED_FN size_t kv_row_bytes(enum number kind, int32_t head_dim)
{
    size_t each = kind == NUM_Q8    ? sizeof(int8_t)
                  : kind == NUM_F16 ? sizeof(uint16_t)
                                    : sizeof(float);
    return (size_t)head_dim * each;
}

PAGED_FN void *kv_row(void *array, struct kv_place at, size_t row_bytes)
{
    return (char *)array + at.block + at.slot * row_bytes;
}

PAGED_FN float *kv_scale(float *array, struct kv_place at)
{
    return (float *)kv_row(array, at, sizeof(float));
}

/* What a block has of one layer. With an even head_dim and 16 tokens it is a multiple of 32, and
 * so is where each of its arrays begins. */
static inline size_t kv_layer_bytes(enum number kind, const struct head_shape *s)
{
    size_t scale = kind == NUM_Q8 ? sizeof(float) : 0;
    size_t slots = (size_t)s->n_kv_heads * (size_t)s->block_tokens;
    return 2 * slots * (kv_row_bytes(kind, s->head_dim) + scale);
}

/* The layer whose part of block 0 lies at `base`. */
static inline struct kv_layer kv_layer_at(enum number kind, const struct head_shape *s, char *base,
                                          size_t block_bytes)
{
    struct kv_layer kv = {kind, block_bytes, base, NULL, NULL, NULL};
    size_t slots = (size_t)s->n_kv_heads * (size_t)s->block_tokens;
    size_t bytes = slots * kv_row_bytes(kind, s->head_dim);
    kv.value = base + bytes;
    if (kind == NUM_Q8) {
        kv.key_scale = (float *)(void *)(base + 2 * bytes);
        kv.value_scale = kv.key_scale + slots;
    }
    return kv;
}

#endif

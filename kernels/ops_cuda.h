#ifndef KERNELS_OPS_CUDA_H
#define KERNELS_OPS_CUDA_H

#include "kernels/ops.h"
#include "kernels/pick_pack.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What the backend takes for itself, beside what a model asks for: all of it when it is opened. */
enum {
    CUDA_PARTIAL_BYTES =
        64 << 20,          /* parts of shared results: one sequence of 128 K tokens, split */
    CUDA_GRAPHS_MAX = 128, /* recorded steps, and what is kept back for each */
    CUDA_GRAPH_BYTES = 2 << 20,
    CUDA_COUNTERS = 4096,
    /* Lists and masks of picks: one that has seen all of the largest vocabulary. */
    CUDA_PICK_WORDS = 5 << 20,
    CUDA_STAGING_SLOTS = 2,
    CUDA_STAGING_BYTES = 8 << 20,
    CUDA_RING_WORDS = 4096,
    CUDA_TAKEN_BYTES = CUDA_PARTIAL_BYTES + CUDA_COUNTERS * 4 + CUDA_PICK_WORDS * 4 +
                       PICKS_MAX * (sizeof(struct pick_task) + sizeof(struct pick_result) + 4),
    CUDA_OWN_BYTES = CUDA_TAKEN_BYTES + CUDA_GRAPHS_MAX * CUDA_GRAPH_BYTES,
    /* Memory of the host: what the device reaches, and what is packed there. */
    CUDA_PINNED_BYTES = CUDA_STAGING_SLOTS * CUDA_STAGING_BYTES + (1 + CUDA_RING_WORDS) * 4 +
                        PICKS_MAX * sizeof(struct pick_result),
    CUDA_HOST_BYTES =
        CUDA_PINNED_BYTES + CUDA_PICK_WORDS * 4 + PICKS_MAX * sizeof(struct pick_task),
};

/* The CUDA backend on device 0; called by ops_open() alone. E_UNSUPPORTED: no driver or no
 * device; err says which. */
enum status ops_cuda_open(struct ops **out, char *err, size_t err_size) MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif

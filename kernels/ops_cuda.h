#ifndef KERNELS_OPS_CUDA_H
#define KERNELS_OPS_CUDA_H

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Device memory of the backend itself, beside what a model asks for. */
enum {
    CUDA_PARTIAL_BYTES =
        64 << 20,          /* parts of shared results: one sequence of 128 K tokens, split */
    CUDA_GRAPHS_MAX = 128, /* recorded steps, and what is kept back for each */
    CUDA_GRAPH_BYTES = 2 << 20,
    CUDA_REST_BYTES = 1 << 20, /* tokens, counters: some kilobytes each */
    CUDA_OWN_BYTES = CUDA_PARTIAL_BYTES + CUDA_GRAPHS_MAX * CUDA_GRAPH_BYTES + CUDA_REST_BYTES,
};

/* The CUDA backend on device 0; called by ops_open() alone. E_UNSUPPORTED: no driver or no
 * device; err says which. */
enum status ops_cuda_open(struct ops **out, char *err, size_t err_size) MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif

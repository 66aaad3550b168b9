#ifndef KERNELS_OPS_CUDA_H
#define KERNELS_OPS_CUDA_H

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The CUDA backend on device 0; called by ops_open() alone. E_UNSUPPORTED: no driver or no
 * device; err says which. */
enum status ops_cuda_open(struct ops **out, char *err, size_t err_size) MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif

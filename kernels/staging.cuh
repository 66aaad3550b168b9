#ifndef KERNELS_STAGING_CUH
#define KERNELS_STAGING_CUH

#include <cuda_runtime.h>

#include "kernels/ops_cuda.h"

/* The way up. A window is pinned memory, which the device reads while the host goes on, and an
 * event behind the last copy out of it. What the caller keeps elsewhere goes through two windows in
 * turn: it is copied into one while the other's copy is still under way, so that the caller's
 * memory is free again on return and nobody waits for the device but who is two windows ahead. A
 * step's arrays are one copy. */
struct staging {
    cudaStream_t stream;
    struct window window[CUDA_STAGING_SLOTS]; /* [CUDA_STAGING_BYTES] each */
    int next;
};

/* All give the first error, or cudaSuccess; the closing ones take what is half open, and nothing
 * may be under way. */
cudaError_t window_open(struct window *w, size_t bytes);
cudaError_t window_send(struct window *w, cudaStream_t stream, void *to, const void *from,
                        size_t bytes);
cudaError_t window_wait(const struct window *w);
void window_close(struct window *w);

cudaError_t staging_open(struct staging *s, cudaStream_t stream);
void staging_close(struct staging *s);
cudaError_t staging_upload(struct staging *s, void *to, const void *from, size_t bytes);

#endif

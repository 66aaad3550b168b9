#ifndef KERNELS_STAGING_CUH
#define KERNELS_STAGING_CUH

#include <cuda_runtime.h>

#include <stddef.h>

/* The way up: two pinned buffers in turn. What is to go up is copied into one while the other's
 * copy is still under way, so that the caller's memory is free again on return and nobody waits
 * for the device but who is two buffers ahead. A step's arrays are one copy. */
enum { STAGING_SLOTS = 2 };
static constexpr size_t STAGING_BYTES = (size_t)8 << 20;

struct staging {
    cudaStream_t stream;
    char *pinned[STAGING_SLOTS];     /* [STAGING_BYTES] */
    cudaEvent_t gone[STAGING_SLOTS]; /* behind the last copy out of it */
    int next;
};

/* The first error, or cudaSuccess. staging_close() takes what is half open. */
cudaError_t staging_open(struct staging *s, cudaStream_t stream);
void staging_close(struct staging *s);
cudaError_t staging_upload(struct staging *s, void *to, const void *from, size_t bytes);

#endif

#ifndef KERNELS_RING_CUH
#define KERNELS_RING_CUH

#include "kernels/device.cuh"
#include "kernels/ops_cuda.h"

/* The way down for what a step ends with: memory of the host that the device writes itself. The
 * last kernel of a step copies the tokens there and then the step's number; a host that looks for
 * the number sees the tokens sooner than any call of the driver would tell it. */
enum {
    /* What a step of decodes takes at most: the host looks that long. A longer one is waited for
     * in the driver, where the thread sleeps and is woken some microseconds late. */
    RING_SPIN_NS = 10000000,
};

struct ring_memory {
    uint32_t step; /* written last */
    uint32_t word[CUDA_RING_WORDS];
};

struct ring {
    struct ring_memory *host;   /* mapped */
    struct ring_memory *device; /* the same, as the device sees it */
    uint32_t step;              /* of the last launch */
};

cudaError_t ring_open(struct ring *r);
void ring_close(struct ring *r);
/* from, device [n]: what goes down, n <= CUDA_RING_WORDS. */
int ring_launch(struct ring *r, const struct gpu *g, const uint32_t *from, int n);
/* True when the last launch's words are there; false after RING_SPIN_NS, or when the stream has
 * come to its end without. */
bool ring_poll(const struct ring *r, gpu_stream stream);

#endif

/* Order of memory: each thread's words, its fence, the block's barrier, a fence once more, the
 * number; the host reads the number with acquire and then the words. */
#include "kernels/ring.cuh"

enum { RING_THREADS = 256 };

static __global__ void ring_kernel(struct ring_memory *to, const uint32_t *from, int n,
                                   uint32_t step)
{
    follow();
    for (int i = (int)threadIdx.x; i < n; i += RING_THREADS)
        to->word[i] = from[i];
    __threadfence_system();
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence_system();
        *static_cast<volatile uint32_t *>(&to->step) = step;
    }
}

cudaError_t ring_open(struct ring *r)
{
    void *host = NULL;
    void *device = NULL;
    cudaError_t error = cudaHostAlloc(&host, sizeof(struct ring_memory), cudaHostAllocMapped);
    if (error != cudaSuccess)
        return error;
    r->host = static_cast<struct ring_memory *>(host);
    r->host->step = 0;
    error = cudaHostGetDevicePointer(&device, host, 0);
    r->device = static_cast<struct ring_memory *>(device);
    return error;
}

void ring_close(struct ring *r)
{
    (void)cudaFreeHost(r->host);
    *r = {};
}

int ring_launch(struct ring *r, const struct gpu *g, const uint32_t *from, int n)
{
    if (n > CUDA_RING_WORDS)
        return (int)cudaErrorInvalidValue;
    return launch(ring_kernel, dim3(1), RING_THREADS, 0, g, r->device, from, n, ++r->step);
}

static bool arrived(const struct ring *r)
{
    return __atomic_load_n(&r->host->step, __ATOMIC_ACQUIRE) == r->step;
}

bool ring_poll(const struct ring *r, gpu_stream stream)
{
    if (cudaStreamQuery((cudaStream_t)stream) != cudaErrorNotReady)
        return arrived(r);
    for (uint64_t until = now_ns() + RING_SPIN_NS; now_ns() < until;) {
        if (arrived(r))
            return true;
    }
    return arrived(r);
}

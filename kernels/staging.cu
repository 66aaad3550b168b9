#include "kernels/staging.cuh"

#include <string.h>

cudaError_t staging_open(struct staging *s, cudaStream_t stream)
{
    cudaError_t error = cudaSuccess;
    s->stream = stream;
    for (int i = 0; i < STAGING_SLOTS && error == cudaSuccess; i++) {
        error = cudaMallocHost((void **)&s->pinned[i], STAGING_BYTES);
        if (error == cudaSuccess)
            error = cudaEventCreateWithFlags(&s->gone[i], cudaEventDisableTiming);
    }
    return error;
}

void staging_close(struct staging *s)
{
    for (int i = 0; i < STAGING_SLOTS; i++) {
        if (s->gone[i])
            (void)cudaEventDestroy(s->gone[i]);
        (void)cudaFreeHost(s->pinned[i]);
    }
    *s = {};
}

static cudaError_t send(struct staging *s, char *to, const char *from, size_t bytes)
{
    char *through = s->pinned[s->next];
    cudaEvent_t gone = s->gone[s->next];
    s->next = (s->next + 1) % STAGING_SLOTS;
    cudaError_t error = cudaEventSynchronize(gone);
    if (error != cudaSuccess)
        return error;
    memcpy(through, from, bytes);
    error = cudaMemcpyAsync(to, through, bytes, cudaMemcpyHostToDevice, s->stream);
    return error != cudaSuccess ? error : cudaEventRecord(gone, s->stream);
}

cudaError_t staging_upload(struct staging *s, void *to, const void *from, size_t bytes)
{
    cudaError_t error = cudaSuccess;
    for (size_t at = 0; at < bytes && error == cudaSuccess; at += STAGING_BYTES) {
        size_t n = bytes - at < STAGING_BYTES ? bytes - at : STAGING_BYTES;
        error = send(s, static_cast<char *>(to) + at, static_cast<const char *>(from) + at, n);
    }
    return error;
}

#include "kernels/staging.cuh"

#include <string.h>

static cudaEvent_t sent(const struct window *w)
{
    return static_cast<cudaEvent_t>(w->sent);
}

cudaError_t window_open(struct window *w, size_t bytes)
{
    cudaEvent_t event = NULL;
    *w = {};
    cudaError_t error = cudaMallocHost(&w->at, bytes);
    if (error == cudaSuccess)
        error = cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    w->sent = event;
    return error;
}

cudaError_t window_send(struct window *w, cudaStream_t stream, void *to, const void *from,
                        size_t bytes)
{
    cudaError_t error = cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream);
    return error != cudaSuccess ? error : cudaEventRecord(sent(w), stream);
}

cudaError_t window_wait(const struct window *w)
{
    return cudaEventSynchronize(sent(w));
}

void window_close(struct window *w)
{
    if (w->sent)
        (void)cudaEventDestroy(sent(w));
    (void)cudaFreeHost(w->at);
    *w = {};
}

cudaError_t staging_open(struct staging *s, cudaStream_t stream)
{
    cudaError_t error = cudaSuccess;
    s->stream = stream;
    for (int i = 0; i < CUDA_STAGING_SLOTS && error == cudaSuccess; i++)
        error = window_open(&s->window[i], CUDA_STAGING_BYTES);
    return error;
}

void staging_close(struct staging *s)
{
    for (int i = 0; i < CUDA_STAGING_SLOTS; i++)
        window_close(&s->window[i]);
    *s = {};
}

static cudaError_t send(struct staging *s, char *to, const char *from, size_t bytes)
{
    struct window *through = &s->window[s->next];
    s->next = (s->next + 1) % CUDA_STAGING_SLOTS;
    cudaError_t error = window_wait(through);
    if (error != cudaSuccess)
        return error;
    memcpy(through->at, from, bytes);
    return window_send(through, s->stream, to, through->at, bytes);
}

cudaError_t staging_upload(struct staging *s, void *to, const void *from, size_t bytes)
{
    cudaError_t error = cudaSuccess;
    for (size_t at = 0; at < bytes && error == cudaSuccess; at += CUDA_STAGING_BYTES) {
        size_t n = bytes - at < CUDA_STAGING_BYTES ? bytes - at : CUDA_STAGING_BYTES;
        error = send(s, static_cast<char *>(to) + at, static_cast<const char *>(from) + at, n);
    }
    return error;
}

/* The CUDA runtime as far as the backend uses it: memory of the host, one stream on which
 * everything is done at once. SIMT_FAIL_CALL=n makes the n-th call fail, for tests of what
 * happens then. */
#include "cuda_runtime.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

static const size_t DEVICE_BYTES = (size_t)1 << 30;

const char *cudaGetErrorString(cudaError_t e)
{
    switch (e) {
    case cudaSuccess:
        return "no error";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorInvalidValue:
        return "invalid value";
    case cudaErrorUnknown:
        break;
    }
    return "unknown error";
}

cudaError_t cudaGetLastError()
{
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *n)
{
    *n = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int)
{
    const char *sm = getenv("SIMT_SM"); /* 80, 90, ...: which kernels the table chooses */
    int number = sm ? (int)strtol(sm, nullptr, 10) : 80;
    *p = cudaDeviceProp{};
    (void)snprintf(p->name, sizeof(p->name), "emulated");
    p->major = number / 10;
    p->minor = number % 10;
    p->multiProcessorCount = 4;
    p->sharedMemPerBlockOptin = 227 * 1024;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int)
{
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    *available = *total = DEVICE_BYTES;
    return cudaSuccess;
}

/* Fresh device memory is not zero: poison, so that a missing memset shows. The end is where the
 * caller put it, so that the address sanitizer sees one byte beyond. */
cudaError_t cudaMalloc(void **p, size_t bytes)
{
    void *block = nullptr;
    if (bytes > DEVICE_BYTES || posix_memalign(&block, 256, bytes ? bytes : 1) != 0)
        return cudaErrorMemoryAllocation;
    memset(block, 0xff, bytes);
    *p = block;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    free(p);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    return cudaMalloc(p, bytes);
}

cudaError_t cudaFreeHost(void *p)
{
    return cudaFree(p);
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t)
{
    memset(p, value, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind, cudaStream_t)
{
    memcpy(to, from, bytes);
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *s)
{
    *s = (cudaStream_t)malloc(1);
    return *s ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    free((void *)s);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t)
{
    return cudaSuccess;
}

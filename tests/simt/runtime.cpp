/* The CUDA runtime as far as the backend uses it: memory of the host, one stream on which
 * everything is done at once. Any call can be made to fail (fault.h). A call that gives back
 * memory does so even when it fails, as at the end of a process whose device is lost. */
#include "cuda_runtime.h"

#include "fault.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

static const size_t DEVICE_BYTES = (size_t)1 << 30;
/* Of one allocation: more takes longer than what a test does with it. */
static const size_t POISON_BYTES = (size_t)16 << 20;

static struct {
    unsigned at;
    bool stays;
    unsigned calls;
    unsigned failed;
} fault;
static long allocations;

void simt_fail_call(unsigned n, bool stays)
{
    fault = {n, stays, 0, 0};
}

unsigned simt_calls(void)
{
    return fault.calls;
}

unsigned simt_failed(void)
{
    return fault.failed;
}

long simt_allocations(void)
{
    return allocations;
}

static bool fails_now()
{
    fault.calls++;
    return fault.at && (fault.calls == fault.at || (fault.stays && fault.calls > fault.at));
}

bool simt_fault(void)
{
    bool fails = fails_now();
    fault.failed += fails;
    return fails;
}

/* Nobody is waiting for what is given back, so its failure spoils nothing. */
static cudaError_t given_back()
{
    return fails_now() ? cudaErrorUnknown : cudaSuccess;
}

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
    if (simt_fault())
        return cudaErrorUnknown;
    *n = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int)
{
    if (simt_fault())
        return cudaErrorUnknown;
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
    if (simt_fault())
        return cudaErrorUnknown;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    if (simt_fault())
        return cudaErrorUnknown;
    *available = *total = DEVICE_BYTES;
    return cudaSuccess;
}

/* Fresh device memory is not zero: poison, so that a missing memset shows. The end is where the
 * caller put it, so that the address sanitizer sees one byte beyond. */
cudaError_t cudaMalloc(void **p, size_t bytes)
{
    void *block = nullptr;
    if (simt_fault() || bytes > DEVICE_BYTES || posix_memalign(&block, 256, bytes ? bytes : 1) != 0)
        return cudaErrorMemoryAllocation;
    memset(block, 0xff, bytes < POISON_BYTES ? bytes : POISON_BYTES);
    allocations++;
    *p = block;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    allocations -= p != nullptr;
    free(p);
    return given_back();
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
    if (simt_fault())
        return cudaErrorUnknown;
    memset(p, value, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind, cudaStream_t)
{
    if (simt_fault())
        return cudaErrorUnknown;
    memcpy(to, from, bytes);
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *s)
{
    if (simt_fault())
        return cudaErrorUnknown;
    allocations++;
    *s = (cudaStream_t)malloc(1);
    return *s ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    allocations--;
    free((void *)s);
    return given_back();
}

cudaError_t cudaStreamSynchronize(cudaStream_t)
{
    if (simt_fault())
        return cudaErrorUnknown;
    return cudaSuccess;
}

#ifndef SIMT_CUDA_RUNTIME_H
#define SIMT_CUDA_RUNTIME_H

/* A host stand-in for CUDA, enough of it for the kernels of this project: the .cu files compile
 * as C++ with this folder first on the include path and run block by block, each thread of a
 * block a fiber. It is a correctness tool: hostile where a GPU is merely unpredictable (shared
 * memory starts poisoned, one warp runs to its barrier before the next starts, the order of
 * warps and lanes changes from launch to launch), and it says nothing about speed. */

#define SIMT_HOST 1

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __align__(n) __attribute__((aligned(n)))

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
};

struct __align__(16) int4
{
    int x, y, z, w;
};

extern dim3 threadIdx, blockIdx, blockDim, gridDim;

/* ---- inside a kernel ---- */

void *simt_shared(size_t bytes); /* fails when the launch asked for less */
void simt_block_barrier();
void simt_warp_barrier(unsigned mask);
uint64_t simt_exchange(unsigned mask, uint64_t value, unsigned from_lane);
unsigned simt_lane();

static inline void __syncthreads()
{
    simt_block_barrier();
}

static inline void __syncwarp(unsigned mask = 0xffffffffu)
{
    simt_warp_barrier(mask);
}

static inline float __shfl_xor_sync(unsigned mask, float v, int d)
{
    uint32_t bits;
    __builtin_memcpy(&bits, &v, sizeof(bits));
    bits = (uint32_t)simt_exchange(mask, bits, simt_lane() ^ (unsigned)d);
    __builtin_memcpy(&v, &bits, sizeof(v));
    return v;
}

static inline int __shfl_xor_sync(unsigned mask, int v, int d)
{
    return (int)(uint32_t)simt_exchange(mask, (uint32_t)v, simt_lane() ^ (unsigned)d);
}

static inline int __dp4a(int a, int b, int c)
{
    for (int i = 0; i < 4; i++)
        c += (int)(int8_t)((unsigned)a >> (8 * i)) * (int)(int8_t)((unsigned)b >> (8 * i));
    return c;
}

static inline float __fmul_rn(float a, float b)
{
    return a * b;
}

/* As the device does it: NaN gives 0, what is too large saturates. */
static inline int __float2int_rn(float v)
{
    if (v != v)
        return 0;
    return v >= 2147483648.0f ? INT32_MAX : v <= -2147483648.0f ? INT32_MIN : (int)rintf(v);
}

/* ---- the runtime, synchronous ---- */

typedef struct CUstream_st *cudaStream_t;

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorMemoryAllocation = 2 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };

struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
};

struct cudaDeviceProp {
    char name[256];
    int major, minor, multiProcessorCount;
};

cudaError_t simt_launch(const cudaLaunchConfig_t *config, const std::function<void()> &thread);

template <typename... Params, typename... Args>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(Params...),
                               Args... args)
{
    return simt_launch(config, [=] { kernel(args...); });
}

const char *cudaGetErrorString(cudaError_t e);
cudaError_t cudaGetLastError();
cudaError_t cudaGetDeviceCount(int *n);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaMemGetInfo(size_t *available, size_t *total);
cudaError_t cudaMalloc(void **p, size_t bytes);
cudaError_t cudaFree(void *p);
cudaError_t cudaMallocHost(void **p, size_t bytes);
cudaError_t cudaFreeHost(void *p);
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t s);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t s);
cudaError_t cudaStreamCreate(cudaStream_t *s);
cudaError_t cudaStreamDestroy(cudaStream_t s);
cudaError_t cudaStreamSynchronize(cudaStream_t s);

#endif

#ifndef BENCH_BENCH_GPU_CUH
#define BENCH_BENCH_GPU_CUH

#include <cuda_fp16.h>

#include "kernels/ptx.cuh"

/* The kernels of bench_gpu itself: random numbers to work on, reading, copying, next to nothing. */

static __device__ unsigned hash(size_t i)
{
    unsigned x = (unsigned)i * 2654435761u ^ (unsigned)(i >> 32);
    x ^= x >> 15;
    x *= 2246822519u;
    return x ^ x >> 13;
}

static __global__ void fill_q8(int8_t *p, size_t n)
{
    size_t step = (size_t)gridDim.x * blockDim.x;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step)
        p[i] = (int8_t)((int)(hash(i) % 255) - 127);
}

/* (-scale, scale), or (0, scale) for what is a scale itself. */
static __global__ void fill_f32(float *p, size_t n, float scale, bool positive)
{
    size_t step = (size_t)gridDim.x * blockDim.x;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
        float v = (float)(hash(i) >> 8) / 16777216.0f;
        p[i] = scale * (positive ? v : 2.0f * v - 1.0f);
    }
}

/* The last `scales` floats of each piece of a cache. */
static __global__ void fill_scales(char *cache, size_t pieces, size_t each, size_t scales)
{
    size_t step = (size_t)gridDim.x * blockDim.x;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < pieces * scales; i += step) {
        float *end = reinterpret_cast<float *>(cache + (i / scales + 1) * each);
        *(end - 1 - i % scales) = 0.02f * (float)(hash(i) >> 8) / 16777216.0f;
    }
}

static __global__ void fill_f16(__half *p, size_t n)
{
    size_t step = (size_t)gridDim.x * blockDim.x;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step)
        p[i] = __float2half((float)(hash(i) >> 8) / 8388608.0f - 1.0f);
}

/* Sixteen bytes a load, eight of them under way in each thread; the sum is never stored, but the
 * compiler cannot know. */
static __global__ void read_all(const uint4 *p, size_t n, unsigned *out)
{
    enum { UNROLL = 8 };
    size_t threads = (size_t)gridDim.x * blockDim.x;
    size_t first = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    unsigned sum = 0;
    for (size_t i = first; i < n; i += threads * UNROLL)
        for (int u = 0; u < UNROLL; u++) {
            size_t at = i + (size_t)u * threads;
            uint4 v = at < n ? p[at] : uint4{0, 0, 0, 0};
            sum ^= v.x ^ v.y ^ v.z ^ v.w;
        }
    if (sum == 0x12345679u)
        *out = sum;
}

static __global__ void copy_all(uint4 *to, const uint4 *from, size_t n)
{
    size_t threads = (size_t)gridDim.x * blockDim.x;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += threads)
        to[i] = from[i];
}

/* Bits that are not the same. */
static __global__ void differences(const float *a, const float *b, size_t n, unsigned *counter)
{
    size_t step = (size_t)gridDim.x * blockDim.x;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step)
        if (__float_as_uint(a[i]) != __float_as_uint(b[i]))
            atomicAdd(counter, 1u);
}

static __global__ void nothing_much(int *p)
{
    follow();
    *p += 1;
}

#endif

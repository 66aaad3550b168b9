#ifndef KERNELS_DEVICE_CUH
#define KERNELS_DEVICE_CUH

#include <cuda_runtime.h>

#include "kernels/exp.h"
#include "kernels/launch.h"

/* What the kernels share: launching, shared memory, reductions in a fixed order.
 *
 * The .cu files compile twice: by nvcc, and by a host compiler with tests/simt first on the
 * include path, whose <cuda_runtime.h> runs blocks on fibers. The rules that make this work:
 * launch() below and never <<<>>>; dynamic shared memory through SHARED(); no assumption that
 * the lanes of a warp move together; inline PTX nowhere but here, each with a host twin. */

enum { WARP = 32 };

#ifdef SIMT_HOST
#define APART                             __attribute__((noinline))
#define SHARED(type, name)                type &name = *(type *)simt_shared(sizeof(type))
#define SHARED_ALIGNED(type, name, bytes) SHARED(type, name)
#else
#define APART              __noinline__
#define SHARED(type, name) SHARED_ALIGNED(type, name, 16)
#define SHARED_ALIGNED(type, name, bytes)                                                          \
    extern __shared__ __align__(bytes)                                                             \
    unsigned char name##_shared[];                                                                 \
    type &name = *reinterpret_cast<type *>(name##_shared)
#endif

enum { SHARED_BYTES_PLAIN = 48 * 1024 }; /* more must be asked for, kernel by kernel */

/* Programmatic dependent launch. Where the device has it, a kernel starts while the one before it
 * ends, and that one's writes may be read behind dependency_wait(): every thread of every kernel
 * calls it before it reads or writes anything but weights. dependents_launch() lets the kernel
 * behind start as soon as all blocks of this one are on the device or done; since that kernel waits
 * in its turn, the right place for it is the beginning. */
#ifdef SIMT_HOST
static inline void dependency_wait(simt_at at = simt_at())
{
    simt_dependency_wait(at);
}

static inline void dependents_launch()
{
}

/* A NaN wins, so that a broken row stays visible; fmaxf would hide it. */
static inline float max_or_nan(float a, float b)
{
    return a > b || a != a ? a : b;
}

/* To a unit in the last place; 0 of what exceeds 2^126. */
static inline float reciprocal(float v)
{
    return 1.0f / v;
}

/* To save registers, ptxas lets what one load brought be used before it asks for the next, and
 * moves loads past barriers for it. Past a fence it does not. */
static inline void all_asked_for()
{
}
#else
static __device__ __forceinline__ void dependency_wait()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

static __device__ __forceinline__ void dependents_launch()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* One instruction each; see above. */
static __device__ __forceinline__ float max_or_nan(float a, float b)
{
    float most;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(most) : "f"(a), "f"(b));
    return most;
}

static __device__ __forceinline__ float reciprocal(float v)
{
    float r;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
    return r;
}

static __device__ __forceinline__ void all_asked_for()
{
    asm volatile("fence.acq_rel.cta;" ::: "memory");
}
#endif

/* The beginning of a kernel that has nothing to do before. */
static __device__ inline void follow()
{
    dependents_launch();
    dependency_wait();
}

template <typename... Params, typename... Args>
static int launch(void (*kernel)(Params...), dim3 grid, int threads, size_t shared_bytes,
                  const struct gpu *g, Args... args)
{
    if (grid.x == 0 || grid.y == 0)
        return 0;
    if (shared_bytes > SHARED_BYTES_PLAIN) {
        cudaError_t error = cudaFuncSetAttribute(
            kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes);
        /* Several blocks of such a kernel are meant to share a multiprocessor. */
        if (error == cudaSuccess)
            error = cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                         cudaSharedmemCarveoutMaxShared);
        if (error != cudaSuccess)
            return (int)error;
    }
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3((unsigned)threads);
    config.dynamicSmemBytes = shared_bytes;
    config.stream = (cudaStream_t)g->stream;
    config.attrs = &attribute;
    config.numAttrs = g->early ? 1 : 0;
    return (int)cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...);
}

/* Every lane of the warp gets the result; the butterfly's order does not depend on data. */
static __device__ inline float warp_sum(float v)
{
    for (int d = WARP / 2; d > 0; d /= 2)
        v += __shfl_xor_sync(0xffffffffu, v, d);
    return v;
}

static __device__ inline int warp_sum(int v)
{
    for (int d = WARP / 2; d > 0; d /= 2)
        v += __shfl_xor_sync(0xffffffffu, v, d);
    return v;
}

static __device__ inline float warp_max(float v)
{
    for (int d = WARP / 2; d > 0; d /= 2)
        v = max_or_nan(v, __shfl_xor_sync(0xffffffffu, v, d));
    return v;
}

/* Of magnitudes, whose bits are ordered as they are, NaN above all: one instruction. */
static __device__ inline float warp_most(float v)
{
    return __uint_as_float(__reduce_max_sync(0xffffffffu, __float_as_uint(v)));
}

/* part [WARP] in shared memory; blockDim.x is a multiple of WARP. Every thread calls, every
 * thread gets the result, and part may be used again at once. */
static __device__ inline float block_sum(float v, float *part)
{
    v = warp_sum(v);
    if (threadIdx.x % WARP == 0)
        part[threadIdx.x / WARP] = v;
    __syncthreads();
    float sum = 0.0f;
    for (unsigned i = 0; i < blockDim.x / WARP; i++)
        sum += part[i];
    __syncthreads();
    return sum;
}

static __device__ inline float block_max(float v, float *part)
{
    v = warp_max(v);
    if (threadIdx.x % WARP == 0)
        part[threadIdx.x / WARP] = v;
    __syncthreads();
    float most = part[0];
    for (unsigned i = 1; i < blockDim.x / WARP; i++)
        most = max_or_nan(most, part[i]);
    __syncthreads();
    return most;
}

/* ---- four neighbours of a row ---- */

static __device__ inline float square_sum4(float4 v)
{
    return fmaf(v.w, v.w, fmaf(v.z, v.z, fmaf(v.y, v.y, v.x * v.x)));
}

/* The largest magnitude. */
static __device__ inline float most4(float4 v)
{
    return max_or_nan(max_or_nan(fabsf(v.x), fabsf(v.y)), max_or_nan(fabsf(v.z), fabsf(v.w)));
}

static __device__ inline float4 scaled4(float4 v, float scale, float4 gain)
{
    return {v.x * scale * gain.x, v.y * scale * gain.y, v.z * scale * gain.z, v.w * scale * gain.w};
}

/* ---- quantizing ---- */

/* 127 / absmax, or 0 for a row that is (next to) nothing or not finite: its bytes become 0. */
static __device__ inline float inverse_scale(float most)
{
    float inverse = 127.0f / most;
    return inverse > 0.0f && inverse <= 3.4e38f ? inverse : 0.0f;
}

/* The scale that is stored: 0 for a row of nothing, NaN for one that is not finite, so that
 * the row stays visibly broken. */
static __device__ inline float stored_scale(float most)
{
    if (inverse_scale(most) > 0.0f)
        return most / 127.0f;
    return most < 1.0f ? 0.0f : NAN;
}

/* Rounds to nearest even, into the last bits of a float (exp.h): additions have more units than
 * conversions. */
static __device__ inline uint32_t quantized_bits(float v, float inverse)
{
    return bits_of(EXP_ADD(EXP_MUL(v, inverse), ROUND_MAGIC)) & 0xffu;
}

static __device__ inline int8_t quantize(float v, float inverse)
{
    return inverse > 0.0f ? (int8_t)quantized_bits(v, inverse) : (int8_t)0;
}

/* Four neighbours in a word. */
static __device__ inline uint32_t quantize4(float4 v, float inverse)
{
    uint32_t four = quantized_bits(v.x, inverse) | quantized_bits(v.y, inverse) << 8 |
                    quantized_bits(v.z, inverse) << 16 | quantized_bits(v.w, inverse) << 24;
    return inverse > 0.0f ? four : 0;
}

/* Beyond what a half holds a product is inf - inf at worst, and a request lost. */
static __device__ inline float half_range(float v)
{
    return v > 65504.0f ? 65504.0f : v < -65504.0f ? -65504.0f : v;
}

#endif

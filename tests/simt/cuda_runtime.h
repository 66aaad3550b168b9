#ifndef SIMT_CUDA_RUNTIME_H
#define SIMT_CUDA_RUNTIME_H

/* A host stand-in for CUDA, enough of it for the kernels of this project: the .cu files compile
 * as C++ with this folder first on the include path and run block by block, each thread of a
 * block a fiber. It is a correctness tool: hostile where a GPU is merely unpredictable (shared
 * memory starts poisoned, one warp runs to its barrier before the next starts, asynchronous
 * copies arrive as late as they may, the order of warps and lanes changes from launch to launch
 * or with SIMT_SEED), and it says nothing about speed. */

#define SIMT_HOST 1

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
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

struct __align__(8) uint2
{
    unsigned x, y;
};

struct __align__(16) uint4
{
    unsigned x, y, z, w;
};

struct __align__(8) float2
{
    float x, y;
};

struct __align__(16) float4
{
    float x, y, z, w;
};

extern dim3 threadIdx, blockIdx, blockDim, gridDim;

/* Where in a kernel a call stands, for reports. */
struct simt_at {
    const char *file;
    int line;
    simt_at(const char *f = __builtin_FILE(), int l = __builtin_LINE()) : file(f), line(l)
    {
    }
};

/* ---- inside a kernel ---- */

void *simt_shared(size_t bytes, simt_at at = simt_at()); /* fails beyond what the launch has */
uint32_t simt_address(const void *shared);
unsigned simt_lane();
void simt_sync_block(simt_at at);
void simt_sync_warp(unsigned mask, simt_at at);
uint32_t simt_exchange(unsigned mask, uint32_t value, unsigned from_lane, simt_at at);
/* By every lane of the warp; 4, 8 or 16 bytes. */
void simt_shared_get(void *to, const void *shared, unsigned bytes, simt_at at);
void simt_shared_put(void *shared, const void *from, unsigned bytes, simt_at at);

/* Behind it the writes of the kernel before may be read. */
void simt_dependency_wait(simt_at at);

void simt_cp_async(uint32_t to, const void *from, unsigned bytes, bool real, simt_at at);
void simt_cp_async_commit();
void simt_cp_async_wait(int groups_left);
void simt_ldmatrix_x4(uint32_t r[4], uint32_t row, bool transposed, simt_at at);
void simt_mma_s8_m16n8k32(int c[4], const uint32_t a[4], uint32_t b0, uint32_t b1, simt_at at);
void simt_mma_f16_m16n8k16(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1, simt_at at);

uint16_t simt_half_of_int8(uint32_t byte); /* bits of the half that its lowest byte is */

/* An int8 matrix [rows][k] as bulk copies see it. */
struct simt_tensor_map {
    const int8_t *base;
    uint64_t k;
    uint64_t rows;
    uint32_t box_k;
    uint32_t box_rows;
};
void simt_mbarrier_init(uint32_t bar, unsigned arrivals, simt_at at);
void simt_mbarrier_arrive(uint32_t bar, unsigned expect_bytes, simt_at at);
void simt_mbarrier_wait(uint32_t bar, unsigned parity, simt_at at);
void simt_tma_load(uint32_t to, const simt_tensor_map *map, uint32_t bar, int x, int y, simt_at at);
void simt_wgmma_s8(int *d, int n, uint64_t a, uint64_t b, simt_at at);
void simt_wgmma_commit(simt_at at);
void simt_wgmma_wait(int groups_left, simt_at at);

static inline void __syncthreads(simt_at at = simt_at())
{
    simt_sync_block(at);
}

static inline void __syncwarp(unsigned mask = 0xffffffffu, simt_at at = simt_at())
{
    simt_sync_warp(mask, at);
}

static inline float __shfl_xor_sync(unsigned mask, float v, int d, simt_at at = simt_at())
{
    uint32_t bits;
    __builtin_memcpy(&bits, &v, sizeof(bits));
    bits = simt_exchange(mask, bits, simt_lane() ^ (unsigned)d, at);
    __builtin_memcpy(&v, &bits, sizeof(v));
    return v;
}

static inline int __shfl_xor_sync(unsigned mask, int v, int d, simt_at at = simt_at())
{
    return (int)simt_exchange(mask, (uint32_t)v, simt_lane() ^ (unsigned)d, at);
}

static inline float __shfl_sync(unsigned mask, float v, int from, simt_at at = simt_at())
{
    uint32_t bits;
    __builtin_memcpy(&bits, &v, sizeof(bits));
    bits = simt_exchange(mask, bits, (unsigned)from & 31, at);
    __builtin_memcpy(&v, &bits, sizeof(v));
    return v;
}

static inline int __shfl_sync(unsigned mask, int v, int from, simt_at at = simt_at())
{
    return (int)simt_exchange(mask, (uint32_t)v, (unsigned)from & 31, at);
}

static inline unsigned __shfl_sync(unsigned mask, unsigned v, int from, simt_at at = simt_at())
{
    return simt_exchange(mask, v, (unsigned)from & 31, at);
}

static inline unsigned __reduce_max_sync(unsigned mask, unsigned v, simt_at at = simt_at())
{
    for (unsigned d = 16; d > 0; d /= 2) {
        unsigned other = simt_exchange(mask, v, simt_lane() ^ d, at);
        v = other > v ? other : v;
    }
    return v;
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

static inline float __fadd_rn(float a, float b)
{
    return a + b;
}

static inline unsigned __float_as_uint(float v)
{
    unsigned bits;
    __builtin_memcpy(&bits, &v, sizeof(bits));
    return bits;
}

static inline float __uint_as_float(unsigned bits)
{
    float v;
    __builtin_memcpy(&v, &bits, sizeof(v));
    return v;
}

/* On a device within two units in the last place. */
static inline float rsqrtf(float v)
{
    return 1.0f / sqrtf(v);
}

/* As the device does it: NaN gives 0, what is too large saturates. */
static inline int __float2int_rn(float v)
{
    if (v != v)
        return 0;
    return v >= 2147483648.0f ? INT32_MAX : v <= -2147483648.0f ? INT32_MIN : (int)rintf(v);
}

/* Blocks run one after another, so an atomic is what the race detector sees of it. */
static inline int atomicAdd(int *p, int v)
{
    return __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
}

static inline unsigned atomicAdd(unsigned *p, unsigned v)
{
    return __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
}

/* All that is written before is there for other processors before what is written after. */
static inline void __threadfence_system()
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* ---- the runtime (runtime.cpp) ---- */

typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;
typedef struct CUgraph_st *cudaGraph_t;
typedef struct CUgraphExec_st *cudaGraphExec_t;

enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorNotReady = 600,
    cudaErrorStreamCaptureInvalidated = 901,
    cudaErrorUnknown = 999
};
enum { cudaHostAllocMapped = 2 };
enum { cudaEventBlockingSync = 1, cudaEventDisableTiming = 2 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };
enum cudaFuncAttribute {
    cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
    cudaFuncAttributePreferredSharedMemoryCarveout = 9
};
enum { cudaSharedmemCarveoutMaxShared = 100 };
enum cudaLaunchAttributeID { cudaLaunchAttributeProgrammaticStreamSerialization = 6 };

union cudaLaunchAttributeValue {
    int programmaticStreamSerializationAllowed;
};

struct cudaLaunchAttribute {
    cudaLaunchAttributeID id;
    cudaLaunchAttributeValue val;
};

struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
    cudaLaunchAttribute *attrs;
    unsigned numAttrs;
};

struct cudaDeviceProp {
    char name[256];
    int major, minor, multiProcessorCount;
    size_t sharedMemPerBlockOptin;
};

/* kernel: what is loaded by the first launch, which therefore cannot be recorded; NULL: loaded. */
cudaError_t simt_launch(const cudaLaunchConfig_t *config, const std::function<void()> &thread,
                        const void *kernel = nullptr);

template <typename... Params, typename... Args>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(Params...),
                               Args... args)
{
    return simt_launch(
        config, [=] { kernel(args...); }, (const void *)kernel);
}

template <typename F> static inline cudaError_t cudaFuncSetAttribute(F *, cudaFuncAttribute, int)
{
    return cudaSuccess;
}

const char *cudaGetErrorString(cudaError_t e);
const char *cudaGetErrorName(cudaError_t e);
cudaError_t cudaGetLastError();
cudaError_t cudaGetDeviceCount(int *n);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaMemGetInfo(size_t *available, size_t *total);
cudaError_t cudaMalloc(void **p, size_t bytes);
cudaError_t cudaFree(void *p);
cudaError_t cudaMallocHost(void **p, size_t bytes);
cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned flags);
cudaError_t cudaHostGetDevicePointer(void **p, void *host, unsigned flags);
cudaError_t cudaFreeHost(void *p);
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t s);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t s);
cudaError_t cudaStreamCreate(cudaStream_t *s);
cudaError_t cudaStreamDestroy(cudaStream_t s);
cudaError_t cudaStreamSynchronize(cudaStream_t s);
cudaError_t cudaStreamQuery(cudaStream_t s);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t e);
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s);
cudaError_t cudaEventSynchronize(cudaEvent_t e);
cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *e, cudaGraph_t g, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t e, cudaStream_t s);
cudaError_t cudaGraphDestroy(cudaGraph_t g);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t e);

#endif

#ifndef KERNELS_PTX_CUH
#define KERNELS_PTX_CUH

#include "kernels/device.cuh"

/* The instructions that C++ has no words for, each once: inline PTX under nvcc, a call of the
 * emulator on a host (tests/simt, where each is compared with a scalar model of the PTX manual's
 * pages). Fragment layouts: PTX ISA, "Matrix Fragments for mma.m16n8k32", "mma.m16n8k16",
 * "ldmatrix", "Asynchronous Warpgroup Level Matrix Instructions".
 *
 * Lane t of a warp, g = t / 4, i = t % 4. A 16 x K operand row-major: rows g and g + 8; B K x 8
 * stored [n][k]: row (that is column of B) g; C 16 x 8: rows g and g + 8, columns 2i, 2i + 1. */

typedef uint32_t shared_address;

#ifdef SIMT_HOST
#define AT  simt_at at = simt_at()
#define AT_ , simt_at at = simt_at()
typedef _Float16 half_t;
typedef simt_tensor_map tensor_map;

static inline shared_address address_of(const void *shared)
{
    return simt_address(shared);
}

/* Shared memory by every lane of the warp, 4, 8 or 16 bytes each; counted for bank conflicts. */
template <typename T> static inline T shared_get(const T *from AT_)
{
    T v;
    simt_shared_get(&v, from, sizeof(T), at);
    return v;
}

template <typename T> static inline void shared_put(T *to, T v AT_)
{
    simt_shared_put(to, &v, sizeof(T), at);
}

/* Weights: read once, so worth no place in the first-level cache and the first to leave the second.
 * 16-byte aligned. */
static inline uint4 load_once16(const void *p)
{
    return *static_cast<const uint4 *>(p);
}

static inline void cp_async16(shared_address to, const void *from, bool real AT_)
{
    simt_cp_async(to, from, 16, real, at);
}

static inline void cp_async4(shared_address to, const void *from, bool real AT_)
{
    simt_cp_async(to, from, 4, real, at);
}

static inline void cp_async_commit()
{
    simt_cp_async_commit();
}

template <int LEFT> static inline void cp_async_wait()
{
    simt_cp_async_wait(LEFT);
}

static inline void ldmatrix_x4(uint32_t (&r)[4], shared_address row AT_)
{
    simt_ldmatrix_x4(r, row, false, at);
}

static inline void ldmatrix_x4_transposed(uint32_t (&r)[4], shared_address row AT_)
{
    simt_ldmatrix_x4(r, row, true, at);
}

static inline void mma_s8(int (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1 AT_)
{
    simt_mma_s8_m16n8k32(c, a, b0, b1, at);
}

static inline void mma_f16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1 AT_)
{
    simt_mma_f16_m16n8k16(c, a, b0, b1, at);
}

/* threadIdx.x, read anew: what follows from it in a loop is computed there, and takes no registers
 * from one round to the next. */
static inline unsigned thread_anew()
{
    return threadIdx.x;
}

/* A NaN wins. */
static inline float max_nan(float a, float b)
{
    return max_or_nan(a, b);
}

/* 2 to the power of v, about 2 units off in the last place; what is too small for a normal number
 * is 0. */
static inline float exp2_fast(float v)
{
    return exp2f(v);
}

static inline uint32_t pack_half2(float low, float high)
{
    half_t both[2] = {(half_t)low, (half_t)high};
    uint32_t bits;
    __builtin_memcpy(&bits, both, sizeof(bits));
    return bits;
}

/* The same of what half_range() leaves. */
static inline uint32_t pack_half2_limited(float low, float high)
{
    return pack_half2(half_range(low), half_range(high));
}

/* Four int8 in a word -> two words of two halves each, exact. */
static inline void half_of_int8(uint32_t four, uint32_t *low, uint32_t *high)
{
    *low = simt_half_of_int8(four) | (uint32_t)simt_half_of_int8(four >> 8) << 16;
    *high = simt_half_of_int8(four >> 16) | (uint32_t)simt_half_of_int8(four >> 24) << 16;
}

/* Of four int8: bytes 0 and 2, and bytes 1 and 3. */
static inline void half_of_int8_apart(uint32_t four, uint32_t *even, uint32_t *odd)
{
    *even = simt_half_of_int8(four) | (uint32_t)simt_half_of_int8(four >> 16) << 16;
    *odd = simt_half_of_int8(four >> 8) | (uint32_t)simt_half_of_int8(four >> 24) << 16;
}

/* One more of n is done; true for the last, who then sees what the others wrote. The counter is
 * left at 0. One thread of a block calls, behind a barrier; another barrier follows. */
static inline bool arrive_last(unsigned *counter, unsigned n)
{
    unsigned before = __atomic_fetch_add(counter, 1u, __ATOMIC_ACQ_REL);
    if (before + 1 == n)
        __atomic_store_n(counter, 0u, __ATOMIC_RELAXED);
    return before + 1 == n;
}

static inline void mbarrier_init(shared_address bar, unsigned arrivals AT_)
{
    simt_mbarrier_init(bar, arrivals, at);
}

static inline void mbarrier_init_done()
{
}

static inline void mbarrier_arrive(shared_address bar AT_)
{
    simt_mbarrier_arrive(bar, 0, at);
}

static inline void mbarrier_expect(shared_address bar, unsigned bytes AT_)
{
    simt_mbarrier_arrive(bar, bytes, at);
}

static inline void mbarrier_wait(shared_address bar, unsigned parity AT_)
{
    simt_mbarrier_wait(bar, parity, at);
}

static inline void tma_load(shared_address to, const tensor_map *map, shared_address bar, int x,
                            int y AT_)
{
    simt_tma_load(to, map, bar, x, y, at);
}

/* The same of weights: see load_once16(). */
static inline void tma_load_once(shared_address to, const tensor_map *map, shared_address bar,
                                 int x, int y AT_)
{
    simt_tma_load(to, map, bar, x, y, at);
}

static inline void wgmma_fence()
{
}

static inline void wgmma_commit(AT)
{
    simt_wgmma_commit(at);
}

template <int LEFT> static inline void wgmma_wait(AT)
{
    simt_wgmma_wait(LEFT, at);
}

/* 64 x N products over 32 of k; d: a thread's part of them. */
template <int N> static inline void wgmma_s8(int (&d)[N / 2], uint64_t a, uint64_t b AT_)
{
    simt_wgmma_s8(d, N, a, b, at);
}

/* Behind wgmma_wait(): what reads d stays behind it. */
template <int SIZE> static inline void wgmma_done(int (&)[SIZE])
{
}

static inline int tensor_map_of(tensor_map *m, const int8_t *base, int k, int rows, int box_k,
                                int box_rows)
{
    *m = {base, (uint64_t)k, (uint64_t)rows, (uint32_t)box_k, (uint32_t)box_rows};
    return 0;
}

template <int N> static inline void registers_more()
{
}

template <int N> static inline void registers_less()
{
}
#undef AT
#undef AT_

#else /* nvcc */
#include <cuda.h>
#include <cuda_fp16.h>

typedef __half half_t;
typedef CUtensorMap tensor_map;
#define PTX static __device__ __forceinline__

PTX shared_address address_of(const void *shared)
{
    return (shared_address)__cvta_generic_to_shared(shared);
}

template <typename T> PTX T shared_get(const T *from)
{
    return *from;
}

template <typename T> PTX void shared_put(T *to, T v)
{
    *to = v;
}

/* What the second-level cache drops first. Made once: it has no inputs. */
PTX uint64_t policy_once()
{
    uint64_t policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}

PTX uint4 load_once16(const void *p)
{
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.L2::cache_hint.L2::256B.v4.u32 {%0,%1,%2,%3}, [%4], "
                 "%5;"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p), "l"(policy_once()));
    return v;
}

PTX void cp_async16(shared_address to, const void *from, bool real)
{
    int bytes = real ? 16 : 0; /* the rest is filled with zeros */
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                 "r"(bytes)
                 : "memory");
}

PTX void cp_async4(shared_address to, const void *from, bool real)
{
    int bytes = real ? 4 : 0;
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(bytes)
                 : "memory");
}

PTX void cp_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int LEFT> PTX void cp_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
}

PTX void ldmatrix_x4(uint32_t (&r)[4], shared_address row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
}

PTX void ldmatrix_x4_transposed(uint32_t (&r)[4], shared_address row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
}

PTX void mma_s8(int (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
                 "{%8,%9}, {%0,%1,%2,%3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

PTX void mma_f16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
                 "{%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

PTX unsigned thread_anew()
{
    unsigned thread;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
    return thread;
}

PTX float max_nan(float a, float b)
{
    float v;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(v) : "f"(a), "f"(b));
    return v;
}

PTX float exp2_fast(float v)
{
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(v));
    return power;
}

PTX uint32_t pack_half2(float low, float high)
{
    __half2 both = __floats2half2_rn(low, high);
    return *reinterpret_cast<uint32_t *>(&both);
}

PTX uint32_t pack_half2_limited(float low, float high)
{
    uint32_t both;
    asm("cvt.rn.satfinite.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}

/* Each byte plus 128 becomes the low mantissa byte of a half of 1024; minus 1152 leaves it. The
 * selectors take two bytes of the word each and set 0x64 above them. */
template <unsigned FIRST, unsigned SECOND>
PTX void half_of_bytes(uint32_t four, uint32_t *first, uint32_t *second)
{
    uint32_t biased = four ^ 0x80808080u;
    uint32_t a = __byte_perm(biased, 0x64646464u, FIRST);
    uint32_t b = __byte_perm(biased, 0x64646464u, SECOND);
    __half2 bias = __float2half2_rn(1152.0f);
    __half2 x = __hsub2(*reinterpret_cast<__half2 *>(&a), bias);
    __half2 y = __hsub2(*reinterpret_cast<__half2 *>(&b), bias);
    *first = *reinterpret_cast<uint32_t *>(&x);
    *second = *reinterpret_cast<uint32_t *>(&y);
}

PTX void half_of_int8(uint32_t four, uint32_t *low, uint32_t *high)
{
    half_of_bytes<0x4140, 0x4342>(four, low, high);
}

PTX void half_of_int8_apart(uint32_t four, uint32_t *even, uint32_t *odd)
{
    half_of_bytes<0x4240, 0x4341>(four, even, odd);
}

PTX bool arrive_last(unsigned *counter, unsigned n)
{
    __threadfence();
    unsigned before = atomicAdd(counter, 1u);
    bool last = before + 1 == n;
    if (last)
        *counter = 0;
    __threadfence();
    return last;
}

PTX void mbarrier_init(shared_address bar, unsigned arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(arrivals) : "memory");
}

/* One thread, after it has set them up and before the block's barrier. */
PTX void mbarrier_init_done()
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

PTX void mbarrier_arrive(shared_address bar)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory");
}

PTX void mbarrier_expect(shared_address bar, unsigned bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes)
                 : "memory");
}

PTX void mbarrier_wait(shared_address bar, unsigned parity)
{
    uint32_t done = 0;
    while (!done)
        asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; "
                     "selp.u32 %0, 1, 0, p;}"
                     : "=r"(done)
                     : "r"(bar), "r"(parity)
                     : "memory");
}

PTX void tma_load(shared_address to, const tensor_map *map, shared_address bar, int x, int y)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4}], [%2];" ::"r"(to),
                 "l"(map), "r"(bar), "r"(x), "r"(y)
                 : "memory");
}

PTX void tma_load_once(shared_address to, const tensor_map *map, shared_address bar, int x, int y)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
                 ".L2::cache_hint [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(to),
                 "l"(map), "r"(bar), "r"(x), "r"(y), "l"(policy_once())
                 : "memory");
}

PTX void wgmma_fence()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

PTX void wgmma_commit()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int LEFT> PTX void wgmma_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory");
}

/* An operand is a constraint each: eight of them, their names in the text, and one instruction of
 * each width that the kernels use. */
#define D8(i)                                                                                      \
    "+r"(d[i]), "+r"(d[i + 1]), "+r"(d[i + 2]), "+r"(d[i + 3]), "+r"(d[i + 4]), "+r"(d[i + 5]),    \
        "+r"(d[i + 6]), "+r"(d[i + 7])
#define D32(i)  D8(i), D8((i) + 8), D8((i) + 16), D8((i) + 24)
#define T0      "%0,%1,%2,%3,%4,%5,%6,%7"
#define T8      "%8,%9,%10,%11,%12,%13,%14,%15"
#define T16     "%16,%17,%18,%19,%20,%21,%22,%23"
#define T24     "%24,%25,%26,%27,%28,%29,%30,%31"
#define T32     "%32,%33,%34,%35,%36,%37,%38,%39"
#define T40     "%40,%41,%42,%43,%44,%45,%46,%47"
#define T48     "%48,%49,%50,%51,%52,%53,%54,%55"
#define T56     "%56,%57,%58,%59,%60,%61,%62,%63"
#define T64     "%64,%65,%66,%67,%68,%69,%70,%71"
#define T72     "%72,%73,%74,%75,%76,%77,%78,%79"
#define T80     "%80,%81,%82,%83,%84,%85,%86,%87"
#define T88     "%88,%89,%90,%91,%92,%93,%94,%95"
#define T96     "%96,%97,%98,%99,%100,%101,%102,%103"
#define T104    "%104,%105,%106,%107,%108,%109,%110,%111"
#define T112    "%112,%113,%114,%115,%116,%117,%118,%119"
#define T120    "%120,%121,%122,%123,%124,%125,%126,%127"
#define TEXT16  T0 "," T8
#define TEXT32  TEXT16 "," T16 "," T24
#define TEXT64  TEXT32 "," T32 "," T40 "," T48 "," T56
#define TEXT96  TEXT64 "," T64 "," T72 "," T80 "," T88
#define TEXT128 TEXT96 "," T96 "," T104 "," T112 "," T120
#define WGMMA_S8(n, text, first, second, ...)                                                      \
    asm volatile("{.reg .pred p; setp.ne.b32 p, 1, 0;\n"                                           \
                 "wgmma.mma_async.sync.aligned.m64n" #n "k32.s32.s8.s8 {" text "}, %" #first       \
                 ", %" #second ", p;}"                                                             \
                 : __VA_ARGS__                                                                     \
                 : "l"(a), "l"(b))

template <int N> PTX void wgmma_s8(int (&d)[N / 2], uint64_t a, uint64_t b)
{
    static_assert(N == 16 || N == 32 || N == 64 || N == 128 || N == 192 || N == 256,
                  "no such here");
    if constexpr (N == 16)
        WGMMA_S8(16, T0, 8, 9, D8(0));
    else if constexpr (N == 32)
        WGMMA_S8(32, TEXT16, 16, 17, D8(0), D8(8));
    else if constexpr (N == 64)
        WGMMA_S8(64, TEXT32, 32, 33, D32(0));
    else if constexpr (N == 128)
        WGMMA_S8(128, TEXT64, 64, 65, D32(0), D32(32));
    else if constexpr (N == 192)
        WGMMA_S8(192, TEXT96, 96, 97, D32(0), D32(32), D32(64));
    else
        WGMMA_S8(256, TEXT128, 128, 129, D32(0), D32(32), D32(64), D32(96));
}

template <int SIZE> PTX void wgmma_done(int (&d)[SIZE])
{
#pragma unroll
    for (int i = 0; i < SIZE; i++)
        asm volatile("" : "+r"(d[i])::"memory");
}
#undef WGMMA_S8
#undef TEXT16
#undef TEXT32
#undef TEXT64
#undef TEXT96
#undef T0
#undef T8
#undef T16
#undef T24
#undef T32
#undef T40
#undef T48
#undef T56
#undef T64
#undef T72
#undef T80
#undef T88
#undef T96
#undef T104
#undef T112
#undef T120
#undef TEXT128
#undef D32
#undef D8

/* For the body of a kernel that this machine code is not for, lest results be what memory held: a
 * build for plain sm_90 has no wgmma, and its device would be taken for one that has. */
PTX void not_for_this_code()
{
    asm volatile("trap;");
}

typedef CUresult (*encode_fn)(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *,
                              const cuuint64_t *, const cuuint64_t *, const cuuint32_t *,
                              const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle,
                              CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

/* The driver's, so that the program starts where there is none. */
static inline encode_fn find_encode()
{
    void *found = NULL;
    cudaDriverEntryPointQueryResult result;
    cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000,
                                                         cudaEnableDefault, &result);
    return error == cudaSuccess ? reinterpret_cast<encode_fn>(found) : NULL;
}

/* What the copy engine needs to know of an int8 matrix [rows][k]: boxes of box_rows x box_k in
 * the 128-byte swizzle, zeros beyond its edges. A cudaError_t. */
static inline int tensor_map_of(tensor_map *m, const int8_t *base, int k, int rows, int box_k,
                                int box_rows)
{
    static const encode_fn encode = find_encode(); /* asked for once: every product comes here */
    if (!encode)
        return (int)cudaErrorNotSupported;
    cuuint64_t size[2] = {(cuuint64_t)k, (cuuint64_t)rows};
    cuuint64_t stride[1] = {(cuuint64_t)k};
    cuuint32_t box[2] = {(cuuint32_t)box_k, (cuuint32_t)box_rows};
    cuuint32_t step[2] = {1, 1};
    CUresult done =
        encode(m, CU_TENSOR_MAP_DATA_TYPE_UINT8, 2, const_cast<int8_t *>(base), size, stride, box,
               step, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
               CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    return done == CUDA_SUCCESS ? 0 : (int)cudaErrorInvalidValue;
}

template <int N> PTX void registers_more()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}

template <int N> PTX void registers_less()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}
#undef PTX
#endif

/* A K-major operand in shared memory: rows of 128 bytes in the 128-byte swizzle, groups of eight
 * rows 1024 bytes apart (PTX ISA, "Shared Memory Matrix Layout" and "Matrix Descriptor"). */
static __device__ inline uint64_t wgmma_descriptor(shared_address a)
{
    return (uint64_t)((a & 0x3ffff) >> 4) | 1ull << 16 | (uint64_t)(1024 >> 4) << 32 | 1ull << 62;
}

#endif

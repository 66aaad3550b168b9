#ifndef KERNELS_LINEAR_SKINNY_CUH
#define KERNELS_LINEAR_SKINNY_CUH

#include "kernels/linear.cuh"

/* Products for few rows, limited by how fast weights are read. A block has 16 output channels, or
 * a few groups of 16; its 8 warps share the sum over k, 64 at a time, and keep LOADS steps of
 * weights under way each: 64 KB per multiprocessor.
 *
 * Weights stay plain row-major. The tensor cores do not care in which order k is summed, as long
 * as both operands agree: lane (g, i) loads 16 neighbouring bytes of rows g and g + 8, feeds
 * their words to successive products, and brings the same 16 places of activation row g as the
 * other operand. No shuffle, no repacking, one coalesced load.
 *
 * W8A8: integers, exact. W8A16: activations rounded to half, sums in float; steps, warps and
 * their order depend on k alone, so a row is the same in any company; it therefore stands for
 * every number of rows.
 *
 * Activations come from the caches once per block: groups share them. The kernel is a template for
 * bench_gpu, which measures more of it than the product has. */
namespace skinny
{
enum {
    WARPS = 8,
    STEP = 64, /* of k, per warp and round */
};

/* Two weight rows' 16 bytes each. */
struct fragment {
    uint4 low;  /* channel g */
    uint4 high; /* channel g + 8 */
};

static __device__ inline uint32_t word(const uint4 &v, int i)
{
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

/* Where a lane's weights begin; channels beyond the last are read as the last. */
template <int GROUPS> struct reader {
    const int8_t *base;
    int behind[2 * GROUPS]; /* rows g, g + 8, g + 16, ... : bytes behind base */
    int steps;

    __device__ reader(const struct weight &w, int channel, int i)
        : base(w.q + (size_t)(channel < w.n ? channel : w.n - 1) * (size_t)w.k + 16 * i),
          steps(w.k / STEP)
    {
        int left = w.n - 1 - channel; /* channels behind this one */
#pragma unroll
        for (int r = 0; r < 2 * GROUPS; r++)
            behind[r] = (left < 0 ? 0 : 8 * r < left ? 8 * r : left) * w.k;
    }

    __device__ struct fragment load(int step, int group) const
    {
        if (step >= steps)
            return {{0, 0, 0, 0}, {0, 0, 0, 0}};
        const int8_t *at = base + (size_t)step * STEP;
        return {load_once16(at + behind[2 * group]), load_once16(at + behind[2 * group + 1])};
    }
};

/* How a step of 64 is multiplied: operand() is what a row tile brings, multiply() adds the products
 * of one group of channels with all tiles. */
struct integers {
    typedef int sum_t;
    typedef uint4 operand_t;

    static __device__ operand_t operand(const struct product &p, int row, size_t at)
    {
        if (row >= p.rows)
            return {0, 0, 0, 0};
        return *reinterpret_cast<const uint4 *>(p.x.q + (size_t)row * (size_t)p.w.k + at);
    }

    template <int TILES>
    static __device__ void multiply(int (&sum)[TILES][4], const struct fragment &f,
                                    const operand_t (&x)[TILES])
    {
        const uint32_t first[4] = {f.low.x, f.high.x, f.low.y, f.high.y};
        const uint32_t second[4] = {f.low.z, f.high.z, f.low.w, f.high.w};
#pragma unroll
        for (int t = 0; t < TILES; t++) {
            mma_s8(sum[t], first, x[t].x, x[t].y);
            mma_s8(sum[t], second, x[t].z, x[t].w);
        }
    }

    static __device__ float value(const struct product &p, int sum, int row, int n)
    {
        return scaled(sum, p.x.scale[row], p.w.scale[n]);
    }
};

/* A group's weights as halves, in the order of the products. */
struct half_weights {
    uint32_t a[4][4];

    __device__ half_weights(const struct fragment &f)
    {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            half_of_int8(word(f.low, i), &a[i][0], &a[i][2]);
            half_of_int8(word(f.high, i), &a[i][1], &a[i][3]);
        }
    }
};

/* For a device whose tensor cores multiply no int8, or slowly. Halves hold every int8, their
 * products and the 64 of a step stay below 2^24: floats hold the sums exactly, in any order. Same
 * integers as above, the same bits. */
struct exact : integers {
    template <int TILES>
    static __device__ void multiply(int (&sum)[TILES][4], const struct fragment &f,
                                    const operand_t (&x)[TILES])
    {
        const struct half_weights w(f);
#pragma unroll
        for (int t = 0; t < TILES; t++) {
            float part[4] = {};
#pragma unroll
            for (int i = 0; i < 4; i++) {
                uint32_t b[2];
                half_of_int8(word(x[t], i), &b[0], &b[1]);
                mma_f16(part, w.a[i], b[0], b[1]);
            }
#pragma unroll
            for (int e = 0; e < 4; e++)
                sum[t][e] += __float2int_rn(part[e]);
        }
    }
};

struct halves {
    typedef float sum_t;
    struct operand_t {
        uint32_t b[4][2];
    };

    static __device__ operand_t operand(const struct product &p, int row, size_t at)
    {
        const float4 *x =
            reinterpret_cast<const float4 *>(p.x.f + (size_t)row * (size_t)p.w.k + at);
        operand_t o;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float4 v = row < p.rows ? x[i] : float4{0, 0, 0, 0};
            o.b[i][0] = pack_half2_limited(v.x, v.y);
            o.b[i][1] = pack_half2_limited(v.z, v.w);
        }
        return o;
    }

    template <int TILES>
    static __device__ void multiply(float (&sum)[TILES][4], const struct fragment &f,
                                    const operand_t (&x)[TILES])
    {
        const struct half_weights w(f);
#pragma unroll
        for (int t = 0; t < TILES; t++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                mma_f16(sum[t], w.a[i], x[t].b[i][0], x[t].b[i][1]);
    }

    static __device__ float value(const struct product &p, float sum, int row, int n)
    {
        (void)row;
        return __fmul_rn(sum, p.w.scale[n]);
    }
};

/* TILES: groups of 8 activation rows; GROUPS: of 16 channels; BLOCKS: on a multiprocessor. */
template <typename M, int TILES, int GROUPS, int LOADS, int BLOCKS> struct shape {
    typedef M math;
    static constexpr int tiles = TILES;
    static constexpr int groups = GROUPS;
    static constexpr int loads = LOADS;
    static constexpr int blocks = BLOCKS;
    static constexpr int rows = 8 * TILES;
    static constexpr int channels = 16 * GROUPS;

    struct shared {
        typename M::sum_t sum[WARPS][rows][channels + 4]; /* 4: no bank is hit twice */
    };
};

/* The warps' sums of a block, added in their order. */
template <typename S>
static __device__ inline void finish(const struct product &p, const typename S::shared &sm,
                                     int row0, int n0)
{
    for (int at = (int)threadIdx.x; at < S::rows * S::channels; at += WARPS * WARP) {
        int row = at / S::channels;
        int n = at % S::channels;
        typename S::math::sum_t total = sm.sum[0][row][n];
        for (int w = 1; w < WARPS; w++)
            total += sm.sum[w][row][n];
        if (row0 + row < p.rows && n0 + n < p.w.n)
            store(p, row0 + row, n0 + n, S::math::value(p, total, row0 + row, n0 + n));
    }
}

template <typename S>
static __global__ void __launch_bounds__(WARPS *WARP, S::blocks) skinny_kernel(struct product p)
{
    typedef typename S::math math;
    typedef typename S::shared shared_t;
    SHARED(shared_t, sm);
    dependents_launch();
    int lane = (int)threadIdx.x % WARP;
    int warp = (int)threadIdx.x / WARP;
    int g = lane / 4;
    int i = lane % 4;
    int row0 = (int)blockIdx.x * S::rows;
    int n0 = (int)(blockIdx.z * gridDim.y + blockIdx.y) * S::channels;
    const struct reader<S::groups> weights(p.w, n0 + g, i);
    struct fragment ahead[S::loads][S::groups];
#pragma unroll
    for (int u = 0; u < S::loads; u++)
#pragma unroll
        for (int c = 0; c < S::groups; c++)
            ahead[u][c] = weights.load(warp + u * WARPS, c);
    dependency_wait();

    typename math::sum_t sum[S::groups][S::tiles][4] = {};
    for (int first = warp; first < weights.steps; first += WARPS * S::loads) {
#pragma unroll
        for (int u = 0; u < S::loads; u++) {
            int step = first + u * WARPS;
            if (step >= weights.steps)
                break; /* the whole warp */
            typename math::operand_t x[S::tiles];
#pragma unroll
            for (int t = 0; t < S::tiles; t++)
                x[t] = math::operand(p, row0 + 8 * t + g, (size_t)step * STEP + 16 * (size_t)i);
#pragma unroll
            for (int c = 0; c < S::groups; c++) {
                struct fragment now = ahead[u][c];
                ahead[u][c] = weights.load(step + WARPS * S::loads, c);
                math::multiply(sum[c], now, x);
            }
        }
    }
#pragma unroll
    for (int c = 0; c < S::groups; c++)
#pragma unroll
        for (int t = 0; t < S::tiles; t++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                sm.sum[warp][8 * t + 2 * i + e % 2][16 * c + g + 8 * (e / 2)] = sum[c][t][e];
    __syncthreads();
    finish<S>(p, sm, row0, n0);
}

/* Blocks along the channels: a grid has room for 65,535 in y, one short of those of the largest
 * vocabulary, and for as many such layers in z. Layers are alike, so the last may have blocks with
 * nothing to write, fewer than there are layers. */
struct layers {
    unsigned each;
    unsigned n;
};

static constexpr struct layers layers_of(unsigned blocks)
{
    constexpr unsigned MOST = 65535;
    unsigned n = (blocks + MOST - 1) / MOST;
    return {(blocks + n - 1) / n, n};
}

static_assert(layers_of(1).each == 1 && layers_of(1).n == 1, "one layer");
static_assert(layers_of(65535).each == 65535 && layers_of(65535).n == 1, "a full layer");
static_assert(layers_of(65536).each == 32768 && layers_of(65536).n == 2, "a vocabulary of 1 << 20");
static_assert(layers_of(131071).each == 43691 && layers_of(131071).n == 3, "a ragged last layer");

/* Row tiles are neighbours in the grid, so that those of one channel group share its weights in
 * the second-level cache. */
template <typename S> static int launch_skinny(const struct gpu *g, const struct product *p)
{
    const struct layers groups =
        layers_of((unsigned)(p->w.n + S::channels - 1) / (unsigned)S::channels);
    dim3 grid((unsigned)(p->rows + S::rows - 1) / S::rows, groups.each, groups.n);
    return launch(skinny_kernel<S>, grid, WARPS * WARP, sizeof(typename S::shared), g, *p);
}
} // namespace skinny

#endif

/* Products for few rows, limited by how fast weights are read. A block has 16 output channels;
 * its 8 warps share the sum over k, 64 at a time, and keep LOADS steps of weights under way each:
 * 64 KB per multiprocessor with two blocks on it.
 *
 * Weights stay plain row-major. The tensor cores do not care in which order k is summed, as long
 * as both operands agree: lane (g, i) loads 16 neighbouring bytes of rows g and g + 8, feeds
 * their words to successive products, and brings the same 16 places of activation row g as the
 * other operand. No shuffle, no repacking, one coalesced load.
 *
 * W8A8: integers, exact. W8A16: activations rounded to half, sums in float; steps, warps and
 * their order depend on k alone, so a row is the same in any company; it therefore stands for
 * every number of rows. */
#include "kernels/linear.cuh"

enum {
    CHANNELS = 16, /* of a block */
    WARPS = 8,
    STEP = 64,            /* of k, per warp and round */
    LOADS = 4,            /* steps of weights under way per warp */
    COLUMN = CHANNELS + 4 /* stride of the sums: no bank is hit twice */
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
struct reader {
    const int8_t *low;
    const int8_t *high;
    int steps;

    __device__ reader(const struct weight &w, int channel, int i)
        : low(w.q + (size_t)(channel < w.n ? channel : w.n - 1) * (size_t)w.k + 16 * i),
          high(w.q + (size_t)(channel + 8 < w.n ? channel + 8 : w.n - 1) * (size_t)w.k + 16 * i),
          steps(w.k / STEP)
    {
    }

    __device__ struct fragment load(int step) const
    {
        if (step >= steps)
            return {{0, 0, 0, 0}, {0, 0, 0, 0}};
        return {load_once16(low + (size_t)step * STEP), load_once16(high + (size_t)step * STEP)};
    }
};

/* Activations of one row at 16 places. */
static __device__ inline uint4 row_q8(const struct product &p, int row, size_t at)
{
    if (row >= p.rows)
        return {0, 0, 0, 0};
    return *reinterpret_cast<const uint4 *>(p.x.q + (size_t)row * (size_t)p.w.k + at);
}

struct multiply_q8 {
    typedef int sum_t;
    static constexpr int wide_blocks = 2; /* on a multiprocessor, of the widest tile */

    static __device__ void step(const struct product &p, int (&sum)[4], const struct fragment &f,
                                int row, size_t at)
    {
        uint4 x = row_q8(p, row, at);
        const uint32_t first[4] = {f.low.x, f.high.x, f.low.y, f.high.y};
        const uint32_t second[4] = {f.low.z, f.high.z, f.low.w, f.high.w};
        mma_s8(sum, first, x.x, x.y);
        mma_s8(sum, second, x.z, x.w);
    }

    static __device__ float value(const struct product &p, int sum, int row, int n)
    {
        return scaled(sum, p.x.scale[row], p.w.scale[n]);
    }
};

/* For a device whose tensor cores multiply no int8, or slowly. Halves hold every int8, their
 * products and the 64 of a step stay below 2^24: floats hold the sums exactly, in any order. Same
 * integers as above, the same bits. */
struct multiply_exact {
    typedef int sum_t;
    static constexpr int wide_blocks = 1;

    static __device__ void step(const struct product &p, int (&sum)[4], const struct fragment &f,
                                int row, size_t at)
    {
        uint4 x = row_q8(p, row, at);
        float part[4] = {};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t a[4];
            uint32_t b[2];
            half_of_int8(word(f.low, i), &a[0], &a[2]);
            half_of_int8(word(f.high, i), &a[1], &a[3]);
            half_of_int8(word(x, i), &b[0], &b[1]);
            mma_f16(part, a, b[0], b[1]);
        }
#pragma unroll
        for (int e = 0; e < 4; e++)
            sum[e] += __float2int_rn(part[e]);
    }

    static __device__ float value(const struct product &p, int sum, int row, int n)
    {
        return multiply_q8::value(p, sum, row, n);
    }
};

struct multiply_half {
    typedef float sum_t;
    static constexpr int wide_blocks = 1; /* two would spill registers */

    static __device__ void step(const struct product &p, float (&sum)[4], const struct fragment &f,
                                int row, size_t at)
    {
        const float4 *x =
            reinterpret_cast<const float4 *>(p.x.f + (size_t)row * (size_t)p.w.k + at);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float4 v = row < p.rows ? x[i] : float4{0, 0, 0, 0};
            uint32_t a[4];
            half_of_int8(word(f.low, i), &a[0], &a[2]);
            half_of_int8(word(f.high, i), &a[1], &a[3]);
            mma_f16(sum, a, pack_half2(half_range(v.x), half_range(v.y)),
                    pack_half2(half_range(v.z), half_range(v.w)));
        }
    }

    static __device__ float value(const struct product &p, float sum, int row, int n)
    {
        (void)row;
        return __fmul_rn(sum, p.w.scale[n]);
    }
};

template <typename M, int TILES> struct skinny_shared {
    typename M::sum_t sum[WARPS][TILES * 8][COLUMN];
};

/* TILES: groups of 8 activation rows. */
template <typename M, int TILES>
static __global__ void __launch_bounds__(WARPS *WARP, TILES < 4 ? 2 : M::wide_blocks)
    skinny_kernel(struct product p)
{
    typedef struct skinny_shared<M, TILES> shared_t;
    SHARED(shared_t, sm);
    dependents_launch();
    int lane = (int)threadIdx.x % WARP;
    int warp = (int)threadIdx.x / WARP;
    int g = lane / 4;
    int i = lane % 4;
    int row0 = (int)blockIdx.x * TILES * 8;
    int n0 = (int)blockIdx.y * CHANNELS;
    const struct reader weights(p.w, n0 + g, i);
    struct fragment ahead[LOADS];
#pragma unroll
    for (int u = 0; u < LOADS; u++)
        ahead[u] = weights.load(warp + u * WARPS);
    dependency_wait();

    typename M::sum_t sum[TILES][4] = {};
    for (int first = warp; first < weights.steps; first += WARPS * LOADS) {
#pragma unroll
        for (int u = 0; u < LOADS; u++) {
            int step = first + u * WARPS;
            struct fragment now = ahead[u];
            ahead[u] = weights.load(step + WARPS * LOADS);
            if (step >= weights.steps)
                continue; /* the whole warp */
#pragma unroll
            for (int t = 0; t < TILES; t++)
                M::step(p, sum[t], now, row0 + 8 * t + g, (size_t)step * STEP + 16 * (size_t)i);
        }
    }
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            sm.sum[warp][8 * t + 2 * i + e % 2][g + 8 * (e / 2)] = sum[t][e];
    __syncthreads();
    for (int at = (int)threadIdx.x; at < TILES * 8 * CHANNELS; at += WARPS * WARP) {
        int row = at / CHANNELS;
        int n = at % CHANNELS;
        typename M::sum_t total = sm.sum[0][row][n];
        for (int w = 1; w < WARPS; w++)
            total += sm.sum[w][row][n];
        if (row0 + row < p.rows && n0 + n < p.w.n)
            store(p, row0 + row, n0 + n, M::value(p, total, row0 + row, n0 + n));
    }
}

/* Row tiles are neighbours in the grid, so that those of one channel group share its weights in
 * the second-level cache. */
template <typename M, int TILES>
static int launch_skinny(const struct gpu *g, const struct product *p)
{
    dim3 grid((unsigned)(p->rows + TILES * 8 - 1) / (TILES * 8),
              (unsigned)(p->w.n + CHANNELS - 1) / CHANNELS);
    return launch(skinny_kernel<M, TILES>, grid, WARPS * WARP,
                  sizeof(struct skinny_shared<M, TILES>), g, *p);
}

template <typename M> static int launch_rows(const struct gpu *g, const struct product *p)
{
    if (p->rows <= 8)
        return launch_skinny<M, 1>(g, p);
    if (p->rows <= 16)
        return launch_skinny<M, 2>(g, p);
    return launch_skinny<M, 4>(g, p);
}

int linear_skinny_q8(const struct gpu *g, const struct product *p)
{
    return launch_rows<struct multiply_q8>(g, p);
}

int linear_skinny_exact(const struct gpu *g, const struct product *p)
{
    return launch_rows<struct multiply_exact>(g, p);
}

int linear_skinny_half(const struct gpu *g, const struct product *p)
{
    return launch_rows<struct multiply_half>(g, p);
}

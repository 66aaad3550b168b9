#ifndef KERNELS_LINEAR_TILE_CUH
#define KERNELS_LINEAR_TILE_CUH

#include "kernels/linear.cuh"

/* W8A8 products for many rows on any device from sm_80: tiles of ROWS x CHANNELS outputs, both
 * operands in shared memory by cp.async, STAGES deep, read as fragments by ldmatrix, multiplied
 * by mma.sync. Where the tiles are too few to fill the device, several blocks share the sum
 * over k of one tile: each leaves its integers in p.partials, the last to arrive adds them up.
 * Integers, so neither tile nor split changes a bit. The kernel is a template for bench_gpu, which
 * measures more of it than the product has. */
namespace tiles
{
enum {
    DEPTH = 128, /* of k per stage, bytes of a shared row */
    PIECES = DEPTH / 16,
    SPLIT_STAGES = 4, /* a block that shares a tile has at least so many stages of k */
    SPLIT_MAX = 16,
};

/* Piece c (16 bytes) of row r: permuted by the row, so that eight rows' pieces lie in eight
 * different banks. */
static __device__ inline int place(int r, int c)
{
    return r * DEPTH + ((c ^ (r & 7)) << 4);
}

template <int ROWS, int CHANNELS, int STAGES, int WARP_ROWS, int WARP_CHANNELS> struct tile {
    static constexpr int rows = ROWS;
    static constexpr int channels = CHANNELS;
    static constexpr int stages = STAGES;
    static constexpr int warps_down = ROWS / WARP_ROWS;
    static constexpr int threads = warps_down * (CHANNELS / WARP_CHANNELS) * WARP;
    static constexpr int m = WARP_ROWS / 16;    /* products down a warp's part */
    static constexpr int n = WARP_CHANNELS / 8; /* and across */
    static constexpr size_t shared_bytes = (size_t)STAGES * (ROWS + CHANNELS) * DEPTH;
    static constexpr int outputs = m * n * 4; /* of a thread */

    int row0;
    int n0;
    int warp_row; /* of this warp, within the tile */
    int warp_n;
    shared_address x; /* [stages][rows][DEPTH] */
    shared_address w; /* [stages][channels][DEPTH] */
};

/* One operand's part of a stage: rows from0 .. of a matrix [limit][k], beyond which it is 0. */
template <int N, int THREADS>
static __device__ inline void fetch(shared_address to, const int8_t *from, int from0, int limit,
                                    int k, int k0)
{
#pragma unroll
    for (int at = 0; at < N * PIECES / THREADS; at++) {
        int piece = (int)threadIdx.x + at * THREADS;
        int r = piece / PIECES;
        int c = piece % PIECES;
        bool real = from0 + r < limit && k0 + 16 * c < k;
        const int8_t *p = from + (size_t)(from0 + r) * (size_t)k + (size_t)(k0 + 16 * c);
        cp_async16(to + (shared_address)place(r, c), real ? p : from, real);
    }
}

template <typename T>
static __device__ inline void fetch_stage(const struct product &p, const T &t, int slot, int stage)
{
    fetch<T::rows, T::threads>(t.x + (shared_address)(slot * T::rows * DEPTH), p.x.q, t.row0,
                               p.rows, p.w.k, stage * DEPTH);
    fetch<T::channels, T::threads>(t.w + (shared_address)(slot * T::channels * DEPTH), p.w.q, t.n0,
                                   p.w.n, p.w.k, stage * DEPTH);
}

template <typename T>
static __device__ inline void multiply_stage(const T &t, int slot, int (&sum)[T::m][T::n][4])
{
    int lane = (int)threadIdx.x % WARP;
    shared_address x = t.x + (shared_address)(slot * T::rows * DEPTH);
    shared_address w = t.w + (shared_address)(slot * T::channels * DEPTH);
#pragma unroll
    for (int step = 0; step < DEPTH / 32; step++) {
        uint32_t a[T::m][4];
        uint32_t b[T::n / 2][4];
#pragma unroll
        for (int i = 0; i < T::m; i++)
            ldmatrix_x4(a[i], x + (shared_address)place(t.warp_row + 16 * i + lane % 16,
                                                        2 * step + lane / 16));
#pragma unroll
        for (int j = 0; j < T::n / 2; j++)
            ldmatrix_x4(b[j],
                        w + (shared_address)place(t.warp_n + 16 * j + lane % 8 + lane / 16 * 8,
                                                  2 * step + lane / 8 % 2));
#pragma unroll
        for (int i = 0; i < T::m; i++)
#pragma unroll
            for (int j = 0; j < T::n; j++)
                mma_s8(sum[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
    }
}

/* Stages first .. last of k into sum. */
template <typename T>
static __device__ inline void multiply(const struct product &p, const T &t, int first, int last,
                                       int (&sum)[T::m][T::n][4])
{
#pragma unroll
    for (int s = 0; s < T::stages - 1; s++) {
        if (first + s < last)
            fetch_stage(p, t, s, first + s);
        cp_async_commit();
    }
    for (int stage = first; stage < last; stage++) {
        int next = stage + T::stages - 1;
        cp_async_wait<T::stages - 2>();
        __syncthreads(); /* the stage is here, and nobody reads the slot that is filled next */
        if (next < last)
            fetch_stage(p, t, (next - first) % T::stages, next);
        cp_async_commit();
        multiply_stage(t, (stage - first) % T::stages, sum);
    }
    cp_async_wait<0>();
}

/* Adds up what the blocks of this tile found; true for the one that has the whole. */
template <typename T>
static __device__ inline bool gather(const struct product &p, int (&sum)[T::m][T::n][4])
{
    SHARED(unsigned, last);
    int *mine = &sum[0][0][0];
    size_t tile = (size_t)blockIdx.y * gridDim.x + blockIdx.x;
    int *all = p.partials.sum + tile * gridDim.z * T::outputs * T::threads + threadIdx.x;
    if (gridDim.z == 1)
        return true;
#pragma unroll
    for (int i = 0; i < T::outputs; i++)
        all[((size_t)blockIdx.z * T::outputs + (size_t)i) * T::threads] = mine[i];
    __syncthreads();
    if (threadIdx.x == 0)
        last = arrive_last(&p.partials.arrived[tile], gridDim.z);
    __syncthreads();
    if (!last)
        return false;
    for (unsigned z = 0; z < gridDim.z; z++) {
        if (z == blockIdx.z)
            continue;
#pragma unroll
        for (int i = 0; i < T::outputs; i++)
            mine[i] += all[((size_t)z * T::outputs + (size_t)i) * T::threads];
    }
    return true;
}

template <typename T>
static __device__ inline void write(const struct product &p, const T &t,
                                    const int (&sum)[T::m][T::n][4])
{
    int lane = (int)threadIdx.x % WARP;
#pragma unroll
    for (int i = 0; i < T::m; i++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int row = t.row0 + t.warp_row + 16 * i + 8 * half + lane / 4;
            if (row >= p.rows)
                continue;
            float scale = p.x.scale[row];
#pragma unroll
            for (int j = 0; j < T::n; j++) {
                int n = t.n0 + t.warp_n + 8 * j + 2 * (lane % 4);
#pragma unroll
                for (int e = 0; e < 2; e++)
                    if (n + e < p.w.n)
                        store(p, row, n + e,
                              scaled(sum[i][j][2 * half + e], scale, p.w.scale[n + e]));
            }
        }
    }
}

template <typename T>
static __global__ void __launch_bounds__(T::threads, 1) tile_kernel(struct product p)
{
    SHARED(unsigned char, bytes);
    follow();
    T t;
    int warp = (int)threadIdx.x / WARP;
    t.row0 = (int)blockIdx.x * T::rows;
    t.n0 = (int)blockIdx.y * T::channels;
    t.warp_row = warp % T::warps_down * T::m * 16;
    t.warp_n = warp / T::warps_down * T::n * 8;
    t.x = address_of(&bytes);
    t.w = t.x + (shared_address)(T::stages * T::rows * DEPTH);
    int stages = (p.w.k + DEPTH - 1) / DEPTH;
    int first = (int)((unsigned)stages * blockIdx.z / gridDim.z);
    int last = (int)((unsigned)stages * (blockIdx.z + 1) / gridDim.z);
    int sum[T::m][T::n][4] = {};
    multiply(p, t, first, last, sum);
    if (gather<T>(p, sum))
        write(p, t, sum);
}

/* How many blocks share a tile: enough to give each multiprocessor two. */
static unsigned split_of(const struct gpu *g, const struct product *p, unsigned tiles,
                         size_t tile_outputs)
{
    unsigned stages = (unsigned)(p->w.k + DEPTH - 1) / DEPTH;
    unsigned wanted = (2 * (unsigned)g->n_multiprocessors + tiles - 1) / tiles;
    unsigned most = stages / SPLIT_STAGES;
    unsigned n = wanted < most ? wanted : most;
    n = n < SPLIT_MAX ? n : SPLIT_MAX;
    if (n < 2 || tiles > p->partials.arrived_room ||
        (size_t)tiles * n * tile_outputs > p->partials.room)
        return 1;
    return n;
}

template <typename T> static int launch_tile(const struct gpu *g, const struct product *p)
{
    dim3 grid((unsigned)(p->rows + T::rows - 1) / T::rows,
              (unsigned)(p->w.n + T::channels - 1) / T::channels);
    grid.z = split_of(g, p, grid.x * grid.y, (size_t)T::rows * T::channels);
    return launch(tile_kernel<T>, grid, T::threads, T::shared_bytes, g, *p);
}
} // namespace tiles

#endif

#ifndef KERNELS_LINEAR_TURNED_CUH
#define KERNELS_LINEAR_TURNED_CUH

#include "kernels/linear.cuh"

/* W8A8 products of some tens of rows on Hopper, where mma.sync and the second-level cache are too
 * slow for weights as they come from memory. Operands are turned: 128 channels are the rows of the
 * products, activation rows their columns, all of them at once, so that weights are read once.
 *
 * Blocks are as many as multiprocessors, each with an even share of all (tile, stage of k), one
 * behind the other: the copy engine runs ahead over the border of a tile, and no multiprocessor is
 * left over at the end. A tile that blocks share is finished by the last of them to arrive, warp by
 * warp: each leaves its integers in p.partials. Integers, so shares do not change a bit.
 *
 * Weights are asked for before dependency_wait(), a whole ring of them. A slot is given back one
 * stage late, when wgmma has certainly read it, by each warp. The kernel is a template for
 * bench_gpu, which measures more of it than the product has. */
namespace turned
{
enum {
    CHANNELS = 128, /* of a tile */
    DEPTH = 128,    /* of k per stage, bytes of a shared row */
    GROUP_CHANNELS = 64,
    CONSUMER_WARPS = 8, /* two warpgroups */
    THREADS = (CONSUMER_WARPS + 1) * WARP,
    WGMMA_DEPTH = 32,
    STAGES_LEAST = 4, /* of a block's share */
};

template <int TOKENS, int SLOTS> struct shape {
    static constexpr int tokens = TOKENS; /* of a tile */
    static constexpr int slots = SLOTS;
    static constexpr int outputs = TOKENS / 2; /* of a thread */
    static constexpr int w_bytes = CHANNELS * DEPTH;
    static constexpr int x_bytes = TOKENS * DEPTH;
    static constexpr int slot_bytes = w_bytes + x_bytes;
    static constexpr size_t shared_bytes = (size_t)SLOTS * (slot_bytes + 2 * 8);
};

/* The stages of all channel tiles, one behind the other, in as many shares as there are blocks. */
struct shares {
    int stages; /* of a tile */
    int units;
    int blocks;
    bool whole; /* no tile is shared */

    __device__ int first(int block) const
    {
        if (whole)
            return (int)((int64_t)(units / stages) * block / blocks) * stages;
        return (int)((int64_t)units * block / blocks);
    }

    /* Whose share a unit is, where tiles are shared. */
    __device__ int owner(int unit) const
    {
        return (int)((((int64_t)unit + 1) * blocks - 1) / units);
    }
};

/* Only sm_90a has the instructions; the table in linear.cu asks for it. */
#if defined(SIMT_HOST) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
template <typename S> struct ring {
    shared_address slot;  /* [slots]: weights [CHANNELS][DEPTH], activations [tokens][DEPTH], in
                             the 128-byte swizzle */
    shared_address full;  /* [slots] mbarriers */
    shared_address empty; /* [slots] */

    __device__ shared_address w(int turn) const
    {
        return slot + (shared_address)(turn % S::slots * S::slot_bytes);
    }
    __device__ shared_address x(int turn) const
    {
        return w(turn) + (shared_address)S::w_bytes;
    }
    __device__ shared_address full_of(int turn) const
    {
        return full + (shared_address)(8 * (turn % S::slots));
    }
    __device__ shared_address empty_of(int turn) const
    {
        return empty + (shared_address)(8 * (turn % S::slots));
    }
    /* Of the barriers' phase in that turn of the ring. */
    __device__ unsigned parity(int turn) const
    {
        return (unsigned)(turn / S::slots) & 1;
    }
};

/* What the copy engine is asked for: of a block's units, the weights and the activations. */
template <typename S> struct source {
    const tensor_map *w;
    const tensor_map *x;
    int row0;
    int first; /* unit */
    int stages;

    __device__ void weights(const struct ring<S> &r, int turn) const
    {
        int unit = first + turn;
        mbarrier_expect(r.full_of(turn), S::slot_bytes);
        tma_load_once(r.w(turn), w, r.full_of(turn), unit % stages * DEPTH,
                      unit / stages * CHANNELS);
    }
    __device__ void activations(const struct ring<S> &r, int turn) const
    {
        tma_load(r.x(turn), x, r.full_of(turn), (first + turn) % stages * DEPTH, row0);
    }
};

/* One thread. */
template <typename S>
static __device__ inline void produce(const struct ring<S> &r, const struct source<S> &from, int n)
{
    int ahead = n < S::slots ? n : S::slots;
    for (int turn = 0; turn < ahead; turn++)
        from.weights(r, turn);
    dependency_wait();
    for (int turn = 0; turn < ahead; turn++)
        from.activations(r, turn);
    for (int turn = ahead; turn < n; turn++) {
        mbarrier_wait(r.empty_of(turn), r.parity(turn) ^ 1);
        from.weights(r, turn);
        from.activations(r, turn);
    }
}

template <typename S>
static __device__ inline void multiply_stage(const struct ring<S> &r, int turn, int group,
                                             int (&sum)[S::outputs])
{
    shared_address w = r.w(turn) + (shared_address)(group * GROUP_CHANNELS * DEPTH);
    shared_address x = r.x(turn);
    mbarrier_wait(r.full_of(turn), r.parity(turn));
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < DEPTH; k += WGMMA_DEPTH)
        wgmma_s8<S::tokens>(sum, wgmma_descriptor(w + (shared_address)k),
                            wgmma_descriptor(x + (shared_address)k));
    wgmma_commit();
}

/* turn .. last - 1 of the ring into sum. do {} while: ptxas serializes wgmma in a for loop. */
template <typename S>
static __device__ inline void multiply(const struct ring<S> &r, int turn, int last, int group,
                                       int (&sum)[S::outputs])
{
    bool speaks = threadIdx.x % WARP == 0;
    int first = turn;
#pragma unroll 1
    do {
        multiply_stage(r, turn, group, sum);
        wgmma_wait<1>();
        if (turn > first && speaks)
            mbarrier_arrive(r.empty_of(turn - 1));
    } while (++turn < last);
    wgmma_wait<0>();
    wgmma_done(sum);
    if (speaks)
        mbarrier_arrive(r.empty_of(last - 1));
}

/* A warp's part of what the block has found of a tile. A block begins one tile that others began
 * before it at most, and leaves one to others at most: two places each. */
template <typename S>
static __device__ inline int *part_of(const struct product &p, const struct shares &s, int block,
                                      int tile)
{
    size_t place = ((size_t)blockIdx.y * (size_t)s.blocks + (size_t)block) * 2;
    place += s.first(block) / s.stages != tile;
    return p.partials.sum + (place * CONSUMER_WARPS + threadIdx.x / WARP) * (S::outputs * WARP) +
           threadIdx.x % WARP;
}

/* Adds up what the blocks of this tile found; true for the warp that has the whole. */
template <typename S>
static __device__ inline bool gather(const struct product &p, const struct shares &s, int tile,
                                     int (&sum)[S::outputs])
{
    int from = s.owner(tile * s.stages);
    int to = s.owner((tile + 1) * s.stages - 1);
    if (from == to)
        return true;
    int *mine = part_of<S>(p, s, (int)blockIdx.x, tile);
#pragma unroll
    for (int i = 0; i < S::outputs; i++)
        mine[i * WARP] = sum[i];
    __syncwarp();
    /* Only one shared tile begins in a share. */
    size_t counter = ((size_t)blockIdx.y * (size_t)s.blocks + (size_t)from) * CONSUMER_WARPS +
                     threadIdx.x / WARP;
    int last = 0;
    if (threadIdx.x % WARP == 0)
        last = arrive_last(&p.partials.arrived[counter], (unsigned)(to - from + 1));
    last = __shfl_sync(0xffffffffu, last, 0);
    __syncwarp();
    if (!last)
        return false;
    for (int block = from; block <= to; block++) {
        if (block == (int)blockIdx.x)
            continue;
        const int *other = part_of<S>(p, s, block, tile);
#pragma unroll
        for (int i = 0; i < S::outputs; i++)
            sum[i] += other[i * WARP];
    }
    return true;
}

template <typename S>
static __device__ inline void write(const struct product &p, int row0, int n0,
                                    const int (&sum)[S::outputs])
{
    int lane = (int)threadIdx.x % WARP;
    int warp = (int)threadIdx.x / WARP;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int n = n0 + 16 * warp + 8 * half + lane / 4;
        if (n >= p.w.n)
            continue;
        float scale = p.w.scale[n];
#pragma unroll
        for (int j = 0; j < S::tokens / 8; j++) {
#pragma unroll
            for (int e = 0; e < 2; e++) {
                int row = row0 + 8 * j + 2 * (lane % 4) + e;
                if (row < p.rows)
                    store(p, row, n, scaled(sum[4 * j + 2 * half + e], p.x.scale[row], scale));
            }
        }
    }
}

template <typename S>
static __device__ inline void consume(const struct product &p, const struct shares &s,
                                      const struct ring<S> &r, int first, int last)
{
    int group = (int)threadIdx.x / (4 * WARP);
    int unit = first;
#pragma unroll 1
    do {
        int sum[S::outputs];
#pragma unroll
        for (int i = 0; i < S::outputs; i++)
            sum[i] = 0;
        int tile = unit / s.stages;
        int end = (tile + 1) * s.stages;
        end = end < last ? end : last;
        multiply<S>(r, unit - first, end - first, group, sum);
        if (s.whole || gather<S>(p, s, tile, sum))
            write<S>(p, (int)blockIdx.y * S::tokens, tile * CHANNELS, sum);
        unit = end;
    } while (unit < last);
}
#endif

template <typename S>
static __global__ void __launch_bounds__(THREADS, 1)
    turned_kernel(const __grid_constant__ tensor_map w, const __grid_constant__ tensor_map x,
                  struct product p, struct shares s)
{
#if defined(SIMT_HOST) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
    SHARED_ALIGNED(unsigned char, bytes, 1024);
    dependents_launch();
    struct ring<S> r;
    r.slot = address_of(&bytes);
    r.full = r.slot + (shared_address)(S::slots * S::slot_bytes);
    r.empty = r.full + (shared_address)(S::slots * 8);
    int first = s.first((int)blockIdx.x);
    int last = s.first((int)blockIdx.x + 1);
    if (threadIdx.x == 0) {
        for (int i = 0; i < S::slots; i++) {
            mbarrier_init(r.full_of(i), 1);
            mbarrier_init(r.empty_of(i), CONSUMER_WARPS);
        }
        mbarrier_init_done();
    }
    __syncthreads();
    if (threadIdx.x == CONSUMER_WARPS * WARP) {
        produce(r, source<S>{&w, &x, (int)blockIdx.y * S::tokens, first, s.stages}, last - first);
        return;
    }
    dependency_wait();
    if (threadIdx.x < CONSUMER_WARPS * WARP)
        consume<S>(p, s, r, first, last);
#else
    (void)w, (void)x, (void)p, (void)s;
    not_for_this_code();
#endif
}

/* How many blocks, and whether they share tiles. Where tiles are fewer than blocks each gets as
 * many as the next: fewer parts to leave. */
template <typename S>
static struct shares shares_of(const struct gpu *g, const struct product *p, int row_tiles)
{
    int tiles = (p->w.n + CHANNELS - 1) / CHANNELS;
    struct shares s = {(p->w.k + DEPTH - 1) / DEPTH, 0, 0, false};
    s.units = tiles * s.stages;
    int blocks = g->n_multiprocessors / row_tiles;
    int most = s.units / STAGES_LEAST;
    blocks = blocks < most ? blocks : most;
    blocks = blocks > tiles ? blocks / tiles * tiles : blocks;
    s.blocks = blocks > 1 ? blocks : 1;
    size_t places = (size_t)row_tiles * (size_t)s.blocks;
    s.whole = places * 2 * CHANNELS * S::tokens > p->partials.room ||
              places * CONSUMER_WARPS > p->partials.arrived_room;
    if (s.whole && s.blocks > tiles)
        s.blocks = tiles;
    return s;
}

/* A cudaError_t. */
template <typename S> static int launch_turned(const struct gpu *g, const struct product *p)
{
    tensor_map w;
    tensor_map x;
    int row_tiles = (p->rows + S::tokens - 1) / S::tokens;
    const struct shares s = shares_of<S>(g, p, row_tiles);
    int error = tensor_map_of(&w, p->w.q, p->w.k, p->w.n, DEPTH, CHANNELS);
    if (error == 0)
        error = tensor_map_of(&x, p->x.q, p->w.k, p->rows, DEPTH, S::tokens);
    if (error)
        return error;
    return launch(turned_kernel<S>, dim3((unsigned)s.blocks, (unsigned)row_tiles), THREADS,
                  S::shared_bytes, g, w, x, *p, s);
}
} // namespace turned

#endif

/* W8A8 products for many rows on Hopper: a tile of 128 x 128 outputs, one warp that asks the
 * copy engine for stages of k, two warpgroups that multiply them with wgmma. Slots go round: the
 * copy engine tells `full`, each warp that has read it tells `empty`, one stage late, when wgmma
 * has certainly read it. Same integers, same expression behind them as the other kernels: the same
 * bits.
 *
 * The main loop is do {} while: ptxas serializes wgmma in a for loop (warnings C75xx, which the
 * register table's gate refuses). */
#include "kernels/linear.cuh"

enum {
    TILE = 128, /* rows, channels, and bytes of k per stage */
    SLOTS = 5,
    GROUP_THREADS = 128,
    CONSUMERS = 2, /* warpgroups of 64 rows each */
    CONSUMER_WARPS = CONSUMERS * GROUP_THREADS / WARP,
    THREADS = GROUP_THREADS * (1 + CONSUMERS),
    SLOT_BYTES = TILE * TILE,
    PRODUCER_REGISTERS = 40,
    CONSUMER_REGISTERS = 232,
    WGMMA_DEPTH = 32,
    OUTPUTS = 64, /* of a thread */
};

static constexpr size_t SHARED_BYTES = (size_t)2 * SLOTS * SLOT_BYTES + 2 * SLOTS * 8;

/* Only sm_90a has the instructions; the table in linear.cu asks for it. */
#if defined(SIMT_HOST) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
struct ring {
    shared_address x; /* [SLOTS][TILE][TILE], each slot in the 128-byte swizzle */
    shared_address w;
    shared_address full;  /* [SLOTS] mbarriers */
    shared_address empty; /* [SLOTS] */
    int stages;
};

static __device__ inline shared_address slot_bytes(int slot)
{
    return (shared_address)(slot * SLOT_BYTES);
}

/* One thread. */
static __device__ inline void produce(const struct ring &r, const tensor_map *x,
                                      const tensor_map *w, int row0, int n0)
{
    for (int stage = 0; stage < r.stages; stage++) {
        int slot = stage % SLOTS;
        unsigned lap = (unsigned)(stage / SLOTS);
        shared_address full = r.full + (shared_address)(8 * slot);
        mbarrier_wait(r.empty + (shared_address)(8 * slot), (lap & 1) ^ 1);
        mbarrier_expect(full, 2 * SLOT_BYTES);
        tma_load(r.w + slot_bytes(slot), w, full, stage * TILE, n0);
        tma_load(r.x + slot_bytes(slot), x, full, stage * TILE, row0);
    }
}

static __device__ inline void multiply_stage(const struct ring &r, int stage, int group,
                                             int (&sum)[OUTPUTS])
{
    int slot = stage % SLOTS;
    shared_address x = r.x + slot_bytes(slot) + (shared_address)(group * (TILE / 2) * TILE);
    shared_address w = r.w + slot_bytes(slot);
    mbarrier_wait(r.full + (shared_address)(8 * slot), (unsigned)(stage / SLOTS) & 1);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < TILE; k += WGMMA_DEPTH)
        wgmma_s8<128>(sum, wgmma_descriptor(x + (shared_address)k),
                      wgmma_descriptor(w + (shared_address)k));
    wgmma_commit();
}

static __device__ inline void consume(const struct ring &r, int group, int (&sum)[OUTPUTS])
{
    bool speaks = threadIdx.x % WARP == 0;
    int stage = 0;
#pragma unroll 1
    do {
        multiply_stage(r, stage, group, sum);
        wgmma_wait<1>();
        if (stage > 0 && speaks)
            mbarrier_arrive(r.empty + (shared_address)(8 * ((stage - 1) % SLOTS)));
    } while (++stage < r.stages);
    wgmma_wait<0>();
    wgmma_done(sum);
}

static __device__ inline void write(const struct product &p, int row0, int n0,
                                    const int (&sum)[OUTPUTS])
{
    int lane = (int)threadIdx.x % WARP;
    int warp = (int)threadIdx.x / WARP % 4;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int row = row0 + 16 * warp + 8 * half + lane / 4;
        if (row >= p.rows)
            continue;
        float scale = p.x.scale[row];
#pragma unroll
        for (int j = 0; j < TILE / 8; j++) {
            int n = n0 + 8 * j + 2 * (lane % 4);
#pragma unroll
            for (int e = 0; e < 2; e++)
                if (n + e < p.w.n)
                    store(p, row, n + e,
                          scaled(sum[4 * j + 2 * half + e], scale, p.w.scale[n + e]));
        }
    }
}
#endif

static __global__ void __launch_bounds__(THREADS, 1)
    wgmma_kernel(const __grid_constant__ tensor_map x, const __grid_constant__ tensor_map w,
                 struct product p)
{
#if defined(SIMT_HOST) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
    SHARED_ALIGNED(unsigned char, bytes, 1024);
    dependents_launch();
    struct ring r;
    r.x = address_of(&bytes);
    r.w = r.x + SLOTS * SLOT_BYTES;
    r.full = r.w + SLOTS * SLOT_BYTES;
    r.empty = r.full + SLOTS * 8;
    r.stages = (p.w.k + TILE - 1) / TILE;
    int row0 = (int)blockIdx.x * TILE;
    int n0 = (int)blockIdx.y * TILE;
    int group = (int)threadIdx.x / GROUP_THREADS;
    if (threadIdx.x == 0) {
        for (int i = 0; i < SLOTS; i++) {
            mbarrier_init(r.full + (shared_address)(8 * i), 1);
            mbarrier_init(r.empty + (shared_address)(8 * i), CONSUMER_WARPS);
        }
        mbarrier_init_done();
    }
    __syncthreads();
    dependency_wait();
    if (group == 0) {
        registers_less<PRODUCER_REGISTERS>();
        if (threadIdx.x == 0)
            produce(r, &x, &w, row0, n0);
    } else {
        int sum[OUTPUTS];
        registers_more<CONSUMER_REGISTERS>();
#pragma unroll
        for (int i = 0; i < OUTPUTS; i++)
            sum[i] = 0;
        consume(r, group - 1, sum);
        write(p, row0 + (group - 1) * (TILE / 2), n0, sum);
    }
#else
    (void)x, (void)w, (void)p;
    not_for_this_code();
#endif
}

int linear_wgmma(const struct gpu *g, const struct product *p)
{
    tensor_map x;
    tensor_map w;
    dim3 grid((unsigned)(p->rows + TILE - 1) / TILE, (unsigned)(p->w.n + TILE - 1) / TILE);
    int error = tensor_map_of(&x, p->x.q, p->w.k, p->rows, TILE, TILE);
    if (error == 0)
        error = tensor_map_of(&w, p->w.q, p->w.k, p->w.n, TILE, TILE);
    if (error)
        return error;
    return launch(wgmma_kernel, grid, THREADS, SHARED_BYTES, g, x, w, *p);
}

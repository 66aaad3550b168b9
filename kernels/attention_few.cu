/* Attention on tensor cores for sequences that bring at most FEW queries to a kv head, decodes
 * above all: a block takes four chunks at once, one per warp. With few sequences several blocks
 * share one, leave their parts in memory, and the last to arrive joins all; with many a block walks
 * its sequence.
 *
 * While a chunk is worked on the next is under way: its keys from when the scores are there, its
 * values from when these are added up. */
#include "kernels/attention_chunk.cuh"

enum { FEW = 8 }; /* queries of a block: half a tile, for registers' sake */

template <int HD, typename T> struct few_chunk {
    struct rows_shared<HD, T> key;
    union {
        struct rows_shared<HD, T> value;
        __align__(16) float part[FEW * HD]; /* when values are done with */
    };
    struct scales_shared<T> scale;
    struct chunk_places places;
};

/* Queries of a sequence that a block works on, and its keys, in fours of chunks. */
struct few_walk {
    int seq;
    int kv_head;
    int row0;
    int row_end;
    int query0; /* of those of the sequence and the kv head */
    int n_queries;
    int end; /* of the keys */
    int four0;
    int n_fours;
};

template <int HD, typename T> struct few_shared {
    struct few_chunk<HD, T> chunk[WARPS];
    uint2 query[HD / 16][WARP]; /* fragments of all warps: registers are short */
    float2 state[WARPS][FEW];   /* of a part: largest score, sum */
    float2 weight[WARPS][FEW];  /* what join() takes, chunk by chunk: of the run, of the part */
    float sum[FEW];
    struct few_walk walk; /* what all threads know */
    unsigned last;
};

/* Blocks that a multiprocessor of 227 KB has room for; more than four have too few registers. */
template <int HD, typename T> static constexpr int few_blocks()
{
    constexpr int most = 227 * 1024 / (int)(sizeof(struct few_shared<HD, T>) + 1024);
    return most < 1 ? 1 : most > 3 ? 3 : most;
}

/* Four neighbouring dims of the values [FEW][HD] at a time, shared out over the threads. */
template <int HD> struct fours {
    static constexpr int each = (FEW * HD / 4 + THREADS - 1) / THREADS;

    static __device__ inline int row(int j)
    {
        return ((int)threadIdx.x + j * THREADS) * 4 / HD;
    }
    static __device__ inline int dim(int j)
    {
        return ((int)threadIdx.x + j * THREADS) * 4 % HD;
    }
};

/* What a thread keeps of the run: its fours; thread < FEW: most and sum of that row. */
template <int HD> struct running {
    float4 value[fours<HD>::each];
    float most;
    float sum;
};

struct split {
    bool on;
    int tiles;   /* of queries per kv head, FEW each */
    int rows;    /* of a part in device memory */
    int chunks;  /* room per sequence and tile */
    float *part; /* [n_seqs][n_kv_heads][tiles][chunks] of part_size() */
    unsigned *arrived;
};

/* Floats of a part: values [rows][HD], then states float2 [rows]; a multiple of 4. */
static __host__ __device__ inline size_t part_size(int rows, int hd)
{
    return (size_t)rows * (size_t)hd + 2 * (size_t)(rows + rows % 2);
}

/* Where a dim of a part lies in shared memory: rows whose lanes write together lie apart. */
template <int HD, typename T> static __device__ inline int part_dim(int row, int dim)
{
    if constexpr (sizeof(T) == 1)
        return HD % 32 == 0 ? dim ^ 16 * (row % 2) : dim;
    return HD % 32 == 0 ? dim ^ 8 * (row % 4) : dim ^ 8 * (row / 2 % 2);
}

/* What a warp has of a part: of row g, of each 16 dims those of dims_of(). */
template <int HD> struct weighed {
    float4 value[HD / 16];
};

template <int HD, typename T>
static __device__ inline void put_shared(struct few_shared<HD, T> &sm, const struct weighed<HD> &w,
                                         const struct part &r)
{
    int warp = (int)threadIdx.x / WARP;
    int lane = (int)threadIdx.x % WARP;
    int row = lane / 4;
    float *to = sm.chunk[warp].part + row * HD;
#pragma unroll
    for (int b = 0; b < HD / 16; b++) {
        float4 v = w.value[b];
        int low = part_dim<HD, T>(row, 16 * b + dims_of<T>(lane, 0));
        int high = part_dim<HD, T>(row, 16 * b + dims_of<T>(lane, 1));
        if constexpr (sizeof(T) == 1) {
            shared_put(reinterpret_cast<float4 *>(to + low), v);
        } else {
            shared_put(reinterpret_cast<float2 *>(to + low), float2{v.x, v.y});
            shared_put(reinterpret_cast<float2 *>(to + high), float2{v.z, v.w});
        }
    }
    if (lane % 4 == 0)
        sm.state[warp][row] = float2{r.most[0], r.sum[0]};
}

/* The 16 dims are 16-byte aligned. */
template <typename T> static __device__ inline void put4(float *to, float4 v)
{
    int lane = (int)threadIdx.x % WARP;
    if constexpr (sizeof(T) == 1) {
        *reinterpret_cast<float4 *>(to + dims_of<T>(lane, 0)) = v;
    } else {
        *reinterpret_cast<float2 *>(to + dims_of<T>(lane, 0)) = float2{v.x, v.y};
        *reinterpret_cast<float2 *>(to + dims_of<T>(lane, 1)) = float2{v.z, v.w};
    }
}

template <int HD, typename T>
static __device__ inline void put_part(float *to, int rows, const struct weighed<HD> &w,
                                       const struct part &r, int n_queries)
{
    int lane = (int)threadIdx.x % WARP;
    int row = lane / 4;
    if (row >= n_queries)
        return;
#pragma unroll
    for (int b = 0; b < HD / 16; b++)
        put4<T>(to + row * HD + 16 * b, w.value[b]);
    if (lane % 4 == 0)
        reinterpret_cast<float2 *>(to + rows * HD)[row] = float2{r.most[0], r.sum[0]};
}

/* Thread < n_queries: the states of n parts, in order, into the row's run, and what the values of
 * each are joined by. */
template <int HD>
static __device__ inline void join_states(struct running<HD> &run, const float2 *state,
                                          float2 *weight, int n)
{
    int row = (int)threadIdx.x;
    for (int k = 0; k < n; k++) {
        float2 part = state[k * FEW + row];
        float next = max_nan(run.most, part.x);
        float2 by = {weight_of(run.most, next), weight_of(part.x, next)};
        run.sum = join(run.sum, by.x, part.y, by.y);
        run.most = next;
        weight[k * FEW + row] = by;
    }
}

static __device__ inline float4 join4(float4 run, float4 part, float2 by)
{
    return float4{join(run.x, by.x, part.x, by.y), join(run.y, by.x, part.y, by.y),
                  join(run.z, by.x, part.z, by.y), join(run.w, by.x, part.w, by.y)};
}

/* Joins the four parts that the warps have left in shared memory. */
template <int HD, typename T>
static __device__ inline void join_four(struct running<HD> &run, struct few_shared<HD, T> &sm,
                                        int n_queries)
{
    if ((int)threadIdx.x < n_queries)
        join_states(run, &sm.state[0][0], &sm.weight[0][0], WARPS);
    __syncthreads();
#pragma unroll
    for (int j = 0; j < fours<HD>::each; j++) {
        int row = fours<HD>::row(j);
        if (row >= n_queries)
            break;
        int at = row * HD + part_dim<HD, T>(row, fours<HD>::dim(j));
#pragma unroll
        for (int w = 0; w < WARPS; w++)
            run.value[j] =
                join4(run.value[j], *reinterpret_cast<const float4 *>(&sm.chunk[w].part[at]),
                      sm.weight[w][row]);
    }
    __syncthreads();
}

/* The last block's: all parts of a sequence from device memory. A round trip there is as long as
 * the work on a chunk, so states and values of PARTS parts are asked for at once. */
template <int HD, typename T>
static __device__ inline void join_parts(struct running<HD> &run, struct few_shared<HD, T> &sm,
                                         int n_queries, const float *parts, int rows, int n)
{
    enum { PARTS = 32, AHEAD = 8 };
    struct states {
        float2 state[PARTS * FEW];
        float2 weight[PARTS * FEW];
    };
    static_assert(sizeof(struct states) <= sizeof(sm.chunk), "states lie where chunks lay");
    struct states &all = *reinterpret_cast<struct states *>(&sm.chunk[0]);
    size_t size = part_size(rows, HD);
    for (int first = 0; first < n; first += PARTS) {
        int here = n - first < PARTS ? n - first : PARTS;
        const float *part = parts + (size_t)first * size;
        for (int at = (int)threadIdx.x; at < here * FEW; at += THREADS)
            if (at % FEW < n_queries)
                all.state[at] = *reinterpret_cast<const float2 *>(
                    part + (size_t)(at / FEW) * size + (size_t)(rows * HD + 2 * (at % FEW)));
        __syncthreads();
        if ((int)threadIdx.x < n_queries)
            join_states(run, all.state, all.weight, here);
        __syncthreads();
#pragma unroll
        for (int j = 0; j < fours<HD>::each; j++) {
            int row = fours<HD>::row(j);
            if (row >= n_queries)
                break;
            const float *from = part + row * HD + fours<HD>::dim(j);
#pragma unroll AHEAD
            for (int k = 0; k < here; k++)
                run.value[j] =
                    join4(run.value[j], *reinterpret_cast<const float4 *>(from + (size_t)k * size),
                          all.weight[k * FEW + row]);
        }
        __syncthreads();
    }
}

/* False when there is nothing to do. */
static __device__ inline bool few_begin(struct few_walk &w, const struct places &p, int tiles)
{
    w.seq = (int)blockIdx.z;
    w.kv_head = (int)blockIdx.y / tiles;
    w.query0 = FEW * ((int)blockIdx.y % tiles);
    w.row0 = p.step.seq_start[w.seq];
    w.row_end = p.step.seq_start[w.seq + 1];
    int n = (w.row_end - w.row0) * (p.shape.n_heads / p.shape.n_kv_heads);
    if (n <= w.query0 || n > FEW * tiles)
        return false; /* a prompt, or none */
    w.n_queries = n - w.query0 < FEW ? n - w.query0 : FEW;
    w.end = p.step.position[w.row_end - 1] + 1;
    w.four0 = first_seen(p, p.step.position[w.row0]) / (CHUNK * WARPS);
    w.n_fours = (w.end - 1) / (CHUNK * WARPS) - w.four0 + 1;
    return (int)blockIdx.x < w.n_fours;
}

template <int HD, typename T>
static __device__ inline void write_running(float *y, const struct running<HD> &run,
                                            struct few_shared<HD, T> &sm, const struct places &p,
                                            const struct few_walk &w)
{
    int group = p.shape.n_heads / p.shape.n_kv_heads;
    int thread = (int)threadIdx.x;
    if (thread < w.n_queries)
        sm.sum[thread] = run.sum;
    __syncthreads();
#pragma unroll
    for (int j = 0; j < fours<HD>::each; j++) {
        if (fours<HD>::row(j) >= w.n_queries)
            break;
        int at = w.query0 + fours<HD>::row(j);
        size_t row = (size_t)(w.row0 + at / group) * (size_t)p.shape.n_heads +
                     (size_t)(w.kv_head * group + at % group);
        float sum = sm.sum[fours<HD>::row(j)];
        float4 v = run.value[j];
        *reinterpret_cast<float4 *>(y + row * HD + (size_t)fours<HD>::dim(j)) =
            float4{v.x / sum, v.y / sum, v.z / sum, v.w / sum};
    }
}

static __device__ inline int first_key(const struct few_walk &w, int four)
{
    return ((w.four0 + four) * WARPS + (int)threadIdx.x / WARP) * CHUNK;
}

/* A warp's chunk of the fours: keys and both scales. */
template <int HD, typename T>
static __device__ inline void fetch_keys(struct few_chunk<HD, T> &c, const struct places &p,
                                         const struct few_walk &w, int four)
{
    int lane = (int)thread_anew() % WARP;
    int n = w.end - first_key(w, four);
    fetch_rows<HD, T, WARP>(c.key, p.kv.key, c.places, n, lane);
    fetch_scales<WARP>(c.scale, p, c.places, n, lane);
    cp_async_commit();
}

template <int HD, typename T>
static __device__ inline void fetch_values(struct few_chunk<HD, T> &c, const struct places &p,
                                           const struct few_walk &w, int four)
{
    int lane = (int)thread_anew() % WARP;
    int n = w.end - first_key(w, four);
    fetch_rows<HD, T, WARP>(c.value, p.kv.value, c.places, n, lane);
    cp_async_commit();
}

/* This warp's chunk of a four: from scores to weighed values; meanwhile the next four's keys, if it
 * has one (next < n_fours), set out. */
template <int HD, typename T>
static __device__ inline void few_chunk_of(struct weighed<HD> &out, struct part &r,
                                           struct few_chunk<HD, T> &c, const struct places &p,
                                           const struct few_walk &w, const struct queries &q,
                                           const uint2 (*query)[WARP], int four, int next)
{
    int lane = (int)threadIdx.x % WARP;
    float s[KEY_TILES][4] = {};
    struct key_blocks<WARP> blocks;
    cp_async_wait<1>();
    __syncwarp(); /* keys and scales are here */
    if (next < w.n_fours)
        ask_blocks(blocks, p, w.seq, first_key(w, next), w.end, lane);
    score_from<HD, T, 0>(s, c.key, [&](int step, uint32_t(&to)[4]) {
        uint2 v = shared_get(&query[step][lane]);
        to[0] = v.x;
        to[1] = to[3] = 0;
        to[2] = v.y;
    });
    soften<1>(s, r, c.scale, p, q, first_key(w, four));
    if (next < w.n_fours) {
        put_places<HD, T>(c.places, blocks, p, w.kv_head, first_key(w, next), lane);
        __syncwarp(); /* and nobody reads keys and scales any more */
        fetch_keys(c, p, w, next);
        cp_async_wait<1>();
    } else {
        cp_async_wait<0>();
    }
    __syncwarp(); /* values are here */
    weigh(s, c.value, [&](int block, int h, float4 v) {
        if (h == 0)
            out.value[block] = v;
    });
    __syncwarp(); /* and nobody reads them any more */
}

/* blockIdx: of the blocks that share a sequence; kv head and tile of its queries; sequence. */
template <int HD, typename T>
static __global__ void __launch_bounds__(THREADS, few_blocks<HD, T>())
    few_kernel(float *y, const float *qkv, struct places p, struct split split)
{
    typedef struct few_shared<HD, T> shared_t;
    SHARED(shared_t, sm);
    follow();
    struct few_walk found;
    if (!few_begin(found, p, split.tiles))
        return; /* the whole block */
    const struct few_walk &w = sm.walk;
    if (threadIdx.x == 0)
        sm.walk = found;
    __syncthreads();
    int warp = (int)threadIdx.x / WARP;
    int lane = (int)threadIdx.x % WARP;
    int four = (int)blockIdx.x;
    int stride = (int)gridDim.x;
    struct few_chunk<HD, T> &c = sm.chunk[warp];
    struct key_blocks<WARP> blocks;
    ask_blocks(blocks, p, w.seq, first_key(w, four), w.end, lane);
    put_places<HD, T>(c.places, blocks, p, w.kv_head, first_key(w, four), lane);
    __syncwarp();
    fetch_keys(c, p, w, four);
    fetch_values(c, p, w, four);
    struct queries q;
    const float *query =
        find_query(q, 0, qkv, p, w.row0, w.row_end, w.kv_head, w.query0 + lane / 4);
    for (int step = warp; step < HD / 16; step += WARPS) {
        uint32_t a[4];
        read_query<T>(a, query, lane / 4 < w.n_queries, 0, step, score_factor(p));
        shared_put(&sm.query[step][lane], uint2{a[0], a[2]});
    }
    __syncthreads(); /* the queries are there */
    int pair = w.seq * (int)gridDim.y + (int)blockIdx.y;
    size_t floats = part_size(split.rows, HD);
    float *parts = split.part + (size_t)pair * (size_t)split.chunks * floats;
    struct running<HD> run = {
    };
    run.most = -INFINITY;
    for (; four < w.n_fours; four += stride) {
        struct part r;
        struct weighed<HD> values;
        few_chunk_of(values, r, c, p, w, q, sm.query, four, four + stride);
        if (split.on) {
            put_part<HD, T>(parts + (size_t)(four * WARPS + warp) * floats, split.rows, values, r,
                            w.n_queries);
        } else {
            put_shared(sm, values, r);
            __syncthreads(); /* the parts are there */
            join_four(run, sm, w.n_queries);
        }
        if (four + stride < w.n_fours)
            fetch_values(c, p, w, four + stride);
    }
    if (split.on) {
        __syncthreads(); /* the block's parts are there */
        if (threadIdx.x == 0)
            sm.last = arrive_last(&split.arrived[pair],
                                  (unsigned)(w.n_fours < stride ? w.n_fours : stride));
        __syncthreads();
        if (!sm.last)
            return;
        join_parts(run, sm, w.n_queries, parts, split.rows, w.n_fours * WARPS);
    }
    write_running(y, run, sm, p, w);
}

/* ---- launching ----------------------------------------------------------------------- */

/* Shared memory that a block may have; a multiprocessor has as much and 1 KB, which each block
 * takes for itself. */
static size_t shared_room(int sm)
{
    if (sm == 80 || sm == 87)
        return 163 * 1024;
    return sm == 90 || (sm >= 100 && sm < 120) ? 227 * 1024 : 99 * 1024;
}

/* Split when sequences alone do not fill half of the device, and the parts have room: into as many
 * blocks as the device holds at once, `wave`, each with as many fours. */
static struct split split_of(const struct gpu *g, const struct places *p, size_t wave,
                             unsigned *blocks)
{
    const struct step_view *v = &p->step;
    int group = p->shape.n_heads / p->shape.n_kv_heads;
    int tiles = (group + FEW - 1) / FEW;
    size_t pairs = (size_t)v->n_seqs * (size_t)(p->shape.n_kv_heads * tiles);
    size_t fours = (size_t)(v->kv_len_max + CHUNK * WARPS - 1) / (CHUNK * WARPS);
    struct split s = {};
    s.tiles = tiles;
    s.rows = v->n_rows == v->n_seqs && group < FEW ? group : FEW;
    s.chunks = (int)fours * WARPS;
    size_t room = pairs * (size_t)s.chunks * part_size(s.rows, p->shape.head_dim);
    s.on = fours > 1 && 2 * pairs <= wave && room <= g->partials.room &&
           pairs <= g->partials.arrived_room;
    s.part = g->partials.part;
    s.arrived = g->partials.arrived;
    size_t each = s.on ? (fours * pairs + wave - 1) / wave : fours;
    *blocks = each ? (unsigned)((fours + each - 1) / each) : 1;
    return s;
}

template <int HD, typename T>
static int launch_few(const struct gpu *g, float *y, const float *qkv, const struct places *p,
                      int *most)
{
    constexpr size_t few_bytes = sizeof(struct few_shared<HD, T>);
    size_t fit = (shared_room(g->sm) + 1024) / (few_bytes + 1024);
    *most = 0;
    if (fit == 0)
        return 0;
    unsigned blocks;
    fit = fit < (size_t)few_blocks<HD, T>() ? fit : (size_t)few_blocks<HD, T>();
    struct split split = split_of(g, p, fit * (size_t)g->n_multiprocessors, &blocks);
    dim3 grid(blocks, (unsigned)(p->shape.n_kv_heads * split.tiles), (unsigned)p->step.n_seqs);
    *most = FEW * split.tiles;
    return launch(few_kernel<HD, T>, grid, THREADS, few_bytes, g, y, qkv, *p, split);
}

int attention_few(const struct gpu *g, float *y, const float *qkv, const struct places *p,
                  int *most)
{
    return of_kept(p, [&](auto kept) {
        return launch_few<decltype(kept)::head_dim, typename decltype(kept)::number>(g, y, qkv, p,
                                                                                     most);
    });
}

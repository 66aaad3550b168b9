/* Attention on tensor cores for prompts: a block takes 64 queries, a tile per warp, and walks the
 * chunks, which its warps share. The next chunk is under way while one is worked on. */
#include "kernels/attention_chunk.cuh"

enum {
    MANY_QUERIES = WARPS * TILE,
    BUFFERS = 2, /* of chunks */
};

template <int HD, typename T> struct many_chunk {
    struct rows_shared<HD, T> key;
    struct rows_shared<HD, T> value;
    struct scales_shared<T> scale;
    struct chunk_places places; /* known a chunk before its rows are fetched */
};

template <int HD, typename T> struct many_shared {
    struct many_chunk<HD, T> chunk[BUFFERS];
    uint4 query[HD / 16][THREADS]; /* fragments, each lane's own: registers are short */
};

/* What a lane has of its two rows so far. */
template <int HD> struct walked {
    struct part state;
    float value[HD / 16][2][4];
};

template <int HD, typename T>
static __device__ inline void join_chunk(struct walked<HD> &run, const struct part &r,
                                         const float (&s)[KEY_TILES][4],
                                         const struct rows_shared<HD, T> &values)
{
    float weight_run[2];
    float weight_part[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float next = max_nan(run.state.most[h], r.most[h]);
        weight_run[h] = weight_of(run.state.most[h], next);
        weight_part[h] = weight_of(r.most[h], next);
        run.state.sum[h] = join(run.state.sum[h], weight_run[h], r.sum[h], weight_part[h]);
        run.state.most[h] = next;
    }
    weigh(s, values, [&](int block, int h, float4 v) {
        const float part[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int e = 0; e < 4; e++)
            run.value[block][h][e] =
                join(run.value[block][h][e], weight_run[h], part[e], weight_part[h]);
    });
}

/* Queries TILE * warp .. of the rows row0 .. row_end. */
template <int HD, typename T>
static __device__ inline void keep_queries(struct many_shared<HD, T> &sm, struct queries &q,
                                           const float *qkv, const struct places &p, int row0,
                                           int row_end, int kv_head)
{
    int g = (int)threadIdx.x % WARP / 4;
    int at = (int)threadIdx.x / WARP * TILE + g;
    const float *low = find_query(q, 0, qkv, p, row0, row_end, kv_head, at);
    const float *high = find_query(q, 1, qkv, p, row0, row_end, kv_head, at + 8);
#pragma unroll
    for (int step = 0; step < HD / 16; step++) {
        uint32_t a[4];
        read_query<T>(a, low, q.position[0] >= 0, 0, step, score_factor(p));
        read_query<T>(a, high, q.position[1] >= 0, 1, step, score_factor(p));
        shared_put(&sm.query[step][threadIdx.x], uint4{a[0], a[1], a[2], a[3]});
    }
}

template <int HD, typename T>
static __device__ inline void fetch_chunk(struct many_chunk<HD, T> &c, const struct places &p,
                                          int n)
{
    fetch_rows<HD, T, THREADS>(c.key, p.kv.key, c.places, n, (int)threadIdx.x);
    fetch_rows<HD, T, THREADS>(c.value, p.kv.value, c.places, n, (int)threadIdx.x);
    fetch_scales<THREADS>(c.scale, p, c.places, n, (int)threadIdx.x);
    cp_async_commit();
}

/* Where the rows of a chunk lie, now: only the first two of a walk are waited for. */
template <int HD, typename T>
static __device__ inline void find_places(struct many_chunk<HD, T> &c, const struct places &p,
                                          int seq, int kv_head, int first, int end)
{
    struct key_blocks<THREADS> blocks;
    ask_blocks(blocks, p, seq, first, end, (int)threadIdx.x);
    put_places<HD, T>(c.places, blocks, p, kv_head, first, (int)threadIdx.x);
}

template <int HD>
static __device__ inline void write_walked(float *y, const struct walked<HD> &run,
                                           const struct queries &q, int lane_dims0, int lane_dims1)
{
#pragma unroll
    for (int h = 0; h < 2; h++) {
        if (q.position[h] < 0)
            continue;
        float sum = run.state.sum[h];
        float *to = y + (size_t)q.row[h] * HD;
#pragma unroll
        for (int b = 0; b < HD / 16; b++) {
            const float(&v)[4] = run.value[b][h];
            *reinterpret_cast<float2 *>(to + 16 * b + lane_dims0) = float2{v[0] / sum, v[1] / sum};
            *reinterpret_cast<float2 *>(to + 16 * b + lane_dims1) = float2{v[2] / sum, v[3] / sum};
        }
    }
}

/* Rows row0 .. row_end of one sequence. */
template <int HD, typename T>
static __device__ inline void walk(float *y, const float *qkv, const struct places &p,
                                   struct many_shared<HD, T> &sm, int seq, int kv_head, int row0,
                                   int row_end)
{
    struct queries q;
    struct walked<HD> run = {
    };
    struct key_blocks<THREADS> blocks;
    int thread = (int)threadIdx.x;
    int end = p.step.position[row_end - 1] + 1;
    int chunk = first_seen(p, p.step.position[row0]) / CHUNK;
    int last = (end - 1) / CHUNK;
    find_places(sm.chunk[chunk % BUFFERS], p, seq, kv_head, chunk * CHUNK, end);
    find_places(sm.chunk[(chunk + 1) % BUFFERS], p, seq, kv_head, (chunk + 1) * CHUNK, end);
    __syncthreads(); /* the places are there */
    fetch_chunk(sm.chunk[chunk % BUFFERS], p, end - chunk * CHUNK);
    keep_queries(sm, q, qkv, p, row0, row_end, kv_head);
    run.state.most[0] = run.state.most[1] = -INFINITY;
    for (; chunk <= last; chunk++) {
        struct many_chunk<HD, T> &c = sm.chunk[chunk % BUFFERS];
        struct part r;
        float s[KEY_TILES][4] = {};
        cp_async_wait<0>();
        __syncthreads(); /* the chunk is here, and nobody reads the other */
        if (chunk < last)
            fetch_chunk(sm.chunk[(chunk + 1) % BUFFERS], p, end - (chunk + 1) * CHUNK);
        ask_blocks(blocks, p, seq, (chunk + 2) * CHUNK, end, thread);
        score_from<HD, T, 0>(s, c.key, [&](int step, uint32_t(&a)[4]) {
            uint4 v = shared_get(&sm.query[step][threadIdx.x]);
            a[0] = v.x;
            a[1] = v.y;
            a[2] = v.z;
            a[3] = v.w;
        });
        soften<2>(s, r, c.scale, p, q, chunk * CHUNK);
        join_chunk(run, r, s, c.value);
        put_places<HD, T>(c.places, blocks, p, kv_head, (chunk + 2) * CHUNK, thread);
    }
    __syncthreads(); /* the next sequence's chunks overwrite these */
    write_walked(y, run, q, dims_of<T>(thread % WARP, 0), dims_of<T>(thread % WARP, 1));
}

/* blockIdx: as many rows as make MANY_QUERIES, whosever they are; kv head. Only sequences that
 * bring more than `beyond` queries. */
template <int HD, typename T>
static __global__ void __launch_bounds__(THREADS, 2)
    many_kernel(float *y, const float *qkv, struct places p, int beyond)
{
    typedef struct many_shared<HD, T> shared_t;
    SHARED(shared_t, sm);
    follow();
    int group = p.shape.n_heads / p.shape.n_kv_heads;
    int rows = MANY_QUERIES / group;
    int row = (int)blockIdx.x * rows;
    int row_end = row + rows < p.step.n_rows ? row + rows : p.step.n_rows;
    while (row < row_end) {
        int seq = p.step.row_seq[row];
        int seq_end = p.step.seq_start[seq + 1];
        int stop = seq_end < row_end ? seq_end : row_end;
        if ((seq_end - p.step.seq_start[seq]) * group > beyond)
            walk(y, qkv, p, sm, seq, (int)blockIdx.y, row, stop);
        row = stop;
    }
}

bool attention_flash_fits(const struct places *p)
{
    int hd = p->shape.head_dim;
    return p->kv.kind != NUM_F32 && p->shape.n_heads / p->shape.n_kv_heads <= TILE &&
           (hd == 64 || hd == 80 || hd == 96 || hd == 128);
}

template <int HD, typename T>
static int launch_many(const struct gpu *g, float *y, const float *qkv, const struct places *p,
                       int beyond)
{
    int rows = MANY_QUERIES / (p->shape.n_heads / p->shape.n_kv_heads);
    dim3 many((unsigned)((p->step.n_rows + rows - 1) / rows), (unsigned)p->shape.n_kv_heads);
    return launch(many_kernel<HD, T>, many, THREADS, sizeof(struct many_shared<HD, T>), g, y, qkv,
                  *p, beyond);
}

int attention_many(const struct gpu *g, float *y, const float *qkv, const struct places *p,
                   int beyond)
{
    return of_kept(p, [&](auto kept) {
        return launch_many<decltype(kept)::head_dim, typename decltype(kept)::number>(g, y, qkv, p,
                                                                                      beyond);
    });
}

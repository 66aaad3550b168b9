/* Attention on tensor cores over the int8 cache, read as stored.
 *
 * The unit of everything is a chunk: CHUNK keys that begin at a multiple of CHUNK in the
 * sequence, and TILE queries that share a kv head. Each query has its part of the chunk
 * (largest score, sum, weighted values), and parts are joined in the order of the keys by one
 * expression, join(). So the result of a row depends on its position and its cache alone, and
 * two kernels may share the work as suits the step:
 *
 *   few   sequences that bring at most TILE queries, decodes above all: a block takes four
 *         chunks at once, one per warp. With few sequences each block takes four chunks only and
 *         the last to arrive joins all; with many a block walks its sequence.
 *   many  prompts: a block takes 64 queries, a tile per warp, and walks the chunks, which its
 *         warps share.
 *
 * Queries and weights are rounded to half, keys and values are int8 and exact in half, sums are
 * float. Scales of keys multiply the scores, scales of values the weights. */
#include "kernels/attention.cuh"

enum {
    CHUNK = 64,
    TILE = 16,
    WARPS = 4,
    THREADS = WARPS * WARP,
    KEY_TILES = CHUNK / 8,
    MANY_QUERIES = WARPS * TILE,
    BUFFERS = 2, /* of the prompts' walk */
};

static constexpr float LOG2_E = 1.4426950408889634f;

/* Rows of the cache in shared memory: padded, so that eight rows' pieces lie in eight banks. */
template <int HD> static constexpr int stride_of()
{
    return (HD + 16) / 4 % 8 == 4 ? HD + 16 : HD + 32;
}

template <int HD> struct chunk_shared {
    union {
        int8_t key[CHUNK][stride_of<HD>()];
        float part[TILE][HD + 2]; /* a row's values, largest score, sum; when keys are done with */
    };
    int8_t value[CHUNK][stride_of<HD>()];
    float key_scale[CHUNK];
    float value_scale[CHUNK];
};

/* A lane's queries: rows g and g + 8 of its tile. */
struct queries {
    int position[2]; /* -1: there is none */
    size_t row[2];   /* row * n_heads + head, of y */
};

/* Of rows g and g + 8; the values of a part go from weigh() to where they are joined. */
struct part {
    float most[2];
    float sum[2];
};

/* exp2(m - next), and 1 where nothing has been seen, so that nothing joined to nothing stays. */
static __device__ inline float weight_of(float m, float next)
{
    return m == next ? 1.0f : exp2f(m - next);
}

static __device__ inline float join(float a, float weight_a, float b, float weight_b)
{
    return __fadd_rn(__fmul_rn(a, weight_a), __fmul_rn(b, weight_b));
}

/* ---- one chunk ----------------------------------------------------------------------- */

/* Starts copying keys first .. of a sequence, those below end, by n threads. */
template <int HD>
static __device__ inline void fetch(struct chunk_shared<HD> &to, const struct places &p, int seq,
                                    int kv_head, int first, int end, int thread, int n)
{
    constexpr int PIECES = HD / 16;
    for (int at = thread; at < CHUNK * PIECES; at += n) {
        int key = at / PIECES;
        int piece = at % PIECES;
        bool real = first + key < end;
        size_t from = real ? slot(p, seq, first + key, kv_head) * HD + (size_t)(16 * piece) : 0;
        cp_async16(address_of(&to.key[key][16 * piece]), p.kv.key_q + from, real);
        cp_async16(address_of(&to.value[key][16 * piece]), p.kv.value_q + from, real);
    }
    cp_async_commit();
    for (int key = thread; key < CHUNK; key += n) {
        bool real = first + key < end;
        size_t at = real ? slot(p, seq, first + key, kv_head) : 0;
        to.key_scale[key] = real ? p.kv.key_scale[at] : 0.0f;
        to.value_scale[key] = real ? p.kv.value_scale[at] : 0.0f;
    }
}

/* Fragments of a tile's queries; their dims permuted as the keys' words lie. */
template <int HD>
static __device__ inline void read_queries(uint32_t (&a)[HD / 16][4], const float *qkv,
                                           const struct places &p, const struct queries &q,
                                           const int (&row)[2], const int (&head)[2])
{
    int i = (int)threadIdx.x % 4;
    int n_all = p.shape.n_heads + 2 * p.shape.n_kv_heads;
#pragma unroll
    for (int step = 0; step < HD / 16; step++) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float4 v = {0, 0, 0, 0};
            if (q.position[h] >= 0)
                v = *reinterpret_cast<const float4 *>(
                    qkv + ((size_t)row[h] * (size_t)n_all + (size_t)head[h]) * HD +
                    (size_t)(16 * step + 4 * i));
            a[step][h] = pack_half2(half_range(v.x), half_range(v.y));
            a[step][h + 2] = pack_half2(half_range(v.z), half_range(v.w));
        }
    }
}

/* The scores' share of 16 dims: steps are taken in order, whoever holds the queries. */
template <int HD>
static __device__ inline void score_step(float (&s)[KEY_TILES][4], const uint32_t (&a)[4],
                                         const struct chunk_shared<HD> &c, int step)
{
    int g = (int)threadIdx.x % WARP / 4;
    int i = (int)threadIdx.x % 4;
#pragma unroll
    for (int j = 0; j < KEY_TILES; j++) {
        uint32_t b0;
        uint32_t b1;
        half_of_int8(*reinterpret_cast<const uint32_t *>(&c.key[8 * j + g][16 * step + 4 * i]), &b0,
                     &b1);
        mma_f16(s[j], a, b0, b1);
    }
}

/* Scores to weights, in place: what a row does not see weighs nothing. The weights come out
 * multiplied by the values' scales. */
template <int HD>
static __device__ inline void soften(float (&s)[KEY_TILES][4], struct part &r,
                                     const struct chunk_shared<HD> &c, const struct places &p,
                                     const struct queries &q, int first)
{
    int i = (int)threadIdx.x % 4;
    float factor = p.shape.score_scale * LOG2_E;
    r.most[0] = r.most[1] = -INFINITY;
    r.sum[0] = r.sum[1] = 0.0f;
#pragma unroll
    for (int j = 0; j < KEY_TILES; j++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            int key = 8 * j + 2 * i + e % 2;
            int behind = q.position[e / 2] - (first + key);
            bool seen = behind >= 0 && (p.shape.window <= 0 || behind < p.shape.window);
            s[j][e] = seen ? s[j][e] * c.key_scale[key] * factor : -INFINITY;
            r.most[e / 2] = max_or_nan(s[j][e], r.most[e / 2]);
        }
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        r.most[h] = max_or_nan(r.most[h], __shfl_xor_sync(0xffffffffu, r.most[h], 1));
        r.most[h] = max_or_nan(r.most[h], __shfl_xor_sync(0xffffffffu, r.most[h], 2));
    }
#pragma unroll
    for (int j = 0; j < KEY_TILES; j++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            bool seen = s[j][e] != -INFINITY;
            float weight = seen ? exp2f(s[j][e] - r.most[e / 2]) : 0.0f;
            r.sum[e / 2] += weight;
            s[j][e] = seen ? weight * c.value_scale[8 * j + 2 * i + e % 2] : 0.0f;
        }
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        r.sum[h] += __shfl_xor_sync(0xffffffffu, r.sum[h], 1);
        r.sum[h] += __shfl_xor_sync(0xffffffffu, r.sum[h], 2);
    }
}

/* Values by weights: emit(block, h, v) takes row g + 8 h, of 16 dims the four from 4i on, when
 * they are complete. Two values share 16 bits: read transposed, a word holds two neighbouring
 * dims of two keys, which go to two products. */
template <int HD, typename F>
static __device__ inline void weigh(const float (&s)[KEY_TILES][4],
                                    const struct chunk_shared<HD> &c, F emit)
{
    constexpr int BLOCKS = HD / 16;
    constexpr int STEPS = CHUNK / 16;
    int lane = (int)threadIdx.x % WARP;
    uint32_t a[STEPS][4];
#pragma unroll
    for (int t = 0; t < STEPS; t++) {
        a[t][0] = pack_half2(s[2 * t][0], s[2 * t][1]);
        a[t][1] = pack_half2(s[2 * t][2], s[2 * t][3]);
        a[t][2] = pack_half2(s[2 * t + 1][0], s[2 * t + 1][1]);
        a[t][3] = pack_half2(s[2 * t + 1][2], s[2 * t + 1][3]);
    }
#pragma unroll
    for (int b = 0; b < BLOCKS; b += 2) {
        int block = b + lane / 16 < BLOCKS ? b + lane / 16 : b;
        float even[2][4] = {};
        float odd[2][4] = {};
#pragma unroll
        for (int t = 0; t < STEPS; t++) {
            uint32_t v[4];
            ldmatrix_x4_transposed(v, address_of(&c.value[16 * t + lane % 16][16 * block]));
#pragma unroll
            for (int k = 0; k < 2 && b + k < BLOCKS; k++) {
                uint32_t e0, o0, e1, o1;
                half_of_int8_apart(v[2 * k], &e0, &o0);
                half_of_int8_apart(v[2 * k + 1], &e1, &o1);
                mma_f16(even[k], a[t], e0, e1);
                mma_f16(odd[k], a[t], o0, o1);
            }
        }
#pragma unroll
        for (int k = 0; k < 2 && b + k < BLOCKS; k++)
#pragma unroll
            for (int h = 0; h < 2; h++)
                emit(b + k, h,
                     float4{even[k][2 * h], odd[k][2 * h], even[k][2 * h + 1], odd[k][2 * h + 1]});
    }
}

/* First key that a position sees. */
static __device__ inline int first_seen(const struct places &p, int position)
{
    int window = p.shape.window;
    return window > 0 && position + 1 > window ? position + 1 - window : 0;
}

/* Queries 16 * tile + g and + 8 of the rows row0 .. row_end, each with its kv head's group. */
static __device__ inline void find_queries(struct queries &q, int (&row)[2], int (&head)[2],
                                           const struct places &p, int row0, int row_end,
                                           int kv_head, int tile)
{
    int group = p.shape.n_heads / p.shape.n_kv_heads;
    int g = (int)threadIdx.x % WARP / 4;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int at = TILE * tile + g + 8 * h;
        row[h] = row0 + at / group;
        head[h] = kv_head * group + at % group;
        bool real = row[h] < row_end;
        q.position[h] = real ? p.step.position[row[h]] : -1;
        q.row[h] = (size_t)row[h] * (size_t)p.shape.n_heads + (size_t)head[h];
    }
}

/* ---- few queries --------------------------------------------------------------------- */

template <int HD> struct few_shared {
    struct chunk_shared<HD> chunk[WARPS];
    float weight_run[WARPS][TILE]; /* what join() takes, chunk by chunk */
    float weight_part[WARPS][TILE];
    float sum[TILE];
    unsigned last;
};

/* What a thread keeps of the tile: dims thread, thread + THREADS ... of the values [TILE][HD];
 * thread < TILE: most and sum of that row. */
template <int HD> struct running {
    float value[TILE * HD / THREADS];
    float most;
    float sum;
};

struct split {
    bool on;
    int rows;    /* of a part in device memory */
    int chunks;  /* room per sequence and kv head */
    float *part; /* [n_seqs][n_kv_heads][chunks][rows][HD + 2] */
    unsigned *arrived;
};

/* Joins four parts, in order; they lie apart floats from each other. */
template <int HD>
static __device__ inline void join_four(struct running<HD> &run, struct few_shared<HD> &sm,
                                        int n_queries, const float *part, size_t apart)
{
    int thread = (int)threadIdx.x;
    if (thread < n_queries) {
        for (int w = 0; w < WARPS; w++) {
            const float *state = part + (size_t)w * apart + (size_t)(thread * (HD + 2) + HD);
            float next = max_or_nan(run.most, state[0]);
            float weight_run = weight_of(run.most, next);
            float weight_part = weight_of(state[0], next);
            run.sum = join(run.sum, weight_run, state[1], weight_part);
            run.most = next;
            sm.weight_run[w][thread] = weight_run;
            sm.weight_part[w][thread] = weight_part;
        }
    }
    __syncthreads();
#pragma unroll
    for (int j = 0; j < TILE * HD / THREADS; j++) {
        int row = (thread + j * THREADS) / HD;
        int dim = (thread + j * THREADS) % HD;
        if (row >= n_queries)
            break;
        for (int w = 0; w < WARPS; w++)
            run.value[j] = join(run.value[j], sm.weight_run[w][row],
                                part[(size_t)w * apart + (size_t)(row * (HD + 2) + dim)],
                                sm.weight_part[w][row]);
    }
    __syncthreads();
}

/* Rows of a part are 8-byte aligned. */
static __device__ inline void put4(float *to, float4 v)
{
    reinterpret_cast<float2 *>(to)[0] = float2{v.x, v.y};
    reinterpret_cast<float2 *>(to)[1] = float2{v.z, v.w};
}

template <int HD>
static __device__ inline void put_state(float *part, const struct part &r, int n_queries)
{
    int g = (int)threadIdx.x % WARP / 4;
    for (int h = 0; h < 2; h++) {
        if (threadIdx.x % 4 != 0 || g + 8 * h >= n_queries)
            continue;
        part[(g + 8 * h) * (HD + 2) + HD] = r.most[h];
        part[(g + 8 * h) * (HD + 2) + HD + 1] = r.sum[h];
    }
}

template <int HD>
static __device__ inline void write_running(float *y, const struct running<HD> &run,
                                            struct few_shared<HD> &sm, const struct places &p,
                                            int row0, int kv_head, int n_queries)
{
    int group = p.shape.n_heads / p.shape.n_kv_heads;
    int thread = (int)threadIdx.x;
    if (thread < n_queries)
        sm.sum[thread] = run.sum;
    __syncthreads();
#pragma unroll
    for (int j = 0; j < TILE * HD / THREADS; j++) {
        int at = (thread + j * THREADS) / HD;
        int dim = (thread + j * THREADS) % HD;
        if (at < n_queries) {
            size_t row = (size_t)(row0 + at / group) * (size_t)p.shape.n_heads +
                         (size_t)(kv_head * group + at % group);
            y[row * HD + (size_t)dim] = run.value[j] / sm.sum[at];
        }
    }
}

/* blockIdx: four chunks (in a split), kv head, sequence. */
template <int HD>
static __global__ void __launch_bounds__(THREADS, 2)
    few_kernel(float *y, const float *qkv, struct places p, struct split split)
{
    typedef struct few_shared<HD> shared_t;
    SHARED(shared_t, sm);
    follow();
    int seq = (int)blockIdx.z;
    int kv_head = (int)blockIdx.y;
    int warp = (int)threadIdx.x / WARP;
    int lane = (int)threadIdx.x % WARP;
    int g = lane / 4;
    int i = lane % 4;
    int row0 = p.step.seq_start[seq];
    int row_end = p.step.seq_start[seq + 1];
    int n_queries = (row_end - row0) * (p.shape.n_heads / p.shape.n_kv_heads);
    if (n_queries > TILE || n_queries == 0)
        return; /* the whole block: a prompt's */
    int end = p.step.position[row_end - 1] + 1;
    int from = first_seen(p, p.step.position[row0]);
    int four0 = from / (CHUNK * WARPS);
    int n_fours = (end - 1) / (CHUNK * WARPS) - four0 + 1;
    if (split.on && (int)blockIdx.x >= n_fours)
        return;
    struct queries q;
    int row[2];
    int head[2];
    uint32_t a[HD / 16][4];
    find_queries(q, row, head, p, row0, row_end, kv_head, 0);
    read_queries<HD>(a, qkv, p, q, row, head);
    size_t part_size = (size_t)split.rows * (HD + 2);
    float *parts = split.part + ((size_t)seq * (size_t)p.shape.n_kv_heads + (size_t)kv_head) *
                                    (size_t)split.chunks * part_size;
    struct running<HD> run = {
    };
    run.most = -INFINITY;

    for (int four = split.on ? (int)blockIdx.x : 0; four < n_fours; four++) {
        int first = ((four0 + four) * WARPS + warp) * CHUNK;
        struct part r;
        float s[KEY_TILES][4] = {};
        fetch<HD>(sm.chunk[warp], p, seq, kv_head, first, end, lane, WARP);
        cp_async_wait<0>();
        __syncwarp();
#pragma unroll
        for (int step = 0; step < HD / 16; step++)
            score_step<HD>(s, a[step], sm.chunk[warp], step);
        soften<HD>(s, r, sm.chunk[warp], p, q, first);
        __syncwarp(); /* the part takes the keys' place */
        float *to = split.on ? parts + (size_t)(four * WARPS + warp) * part_size
                             : &sm.chunk[warp].part[0][0];
        weigh<HD>(s, sm.chunk[warp], [=](int block, int h, float4 v) {
            if (g + 8 * h < n_queries)
                put4(to + (g + 8 * h) * (HD + 2) + 16 * block + 4 * i, v);
        });
        put_state<HD>(to, r, n_queries);
        __syncthreads(); /* the parts are there */
        if (split.on)
            break;
        join_four<HD>(run, sm, n_queries, &sm.chunk[0].part[0][0],
                      sizeof(sm.chunk[0]) / sizeof(float));
    }
    if (split.on) {
        if (threadIdx.x == 0)
            sm.last =
                arrive_last(&split.arrived[seq * p.shape.n_kv_heads + kv_head], (unsigned)n_fours);
        __syncthreads();
        if (!sm.last)
            return;
        for (int four = 0; four < n_fours; four++)
            join_four<HD>(run, sm, n_queries, parts + (size_t)(four * WARPS) * part_size,
                          part_size);
    }
    write_running<HD>(y, run, sm, p, row0, kv_head, n_queries);
}

/* ---- many queries -------------------------------------------------------------------- */

template <int HD> struct many_shared {
    struct chunk_shared<HD> chunk[BUFFERS];
    uint4 query[HD / 16][THREADS]; /* fragments, each lane's own: registers are short */
};

/* What a lane has of its two rows so far. */
template <int HD> struct walked {
    struct part state;
    float value[HD / 16][2][4];
};

template <int HD>
static __device__ inline void join_chunk(struct walked<HD> &run, const struct part &r,
                                         const float (&s)[KEY_TILES][4],
                                         const struct chunk_shared<HD> &c)
{
    float weight_run[2];
    float weight_part[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float next = max_or_nan(run.state.most[h], r.most[h]);
        weight_run[h] = weight_of(run.state.most[h], next);
        weight_part[h] = weight_of(r.most[h], next);
        run.state.sum[h] = join(run.state.sum[h], weight_run[h], r.sum[h], weight_part[h]);
        run.state.most[h] = next;
    }
    weigh<HD>(s, c, [&](int block, int h, float4 v) {
        const float part[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int e = 0; e < 4; e++)
            run.value[block][h][e] =
                join(run.value[block][h][e], weight_run[h], part[e], weight_part[h]);
    });
}

template <int HD>
static __device__ inline void keep_queries(struct many_shared<HD> &sm, const float *qkv,
                                           const struct places &p, const struct queries &q,
                                           const int (&row)[2], const int (&head)[2])
{
    uint32_t a[HD / 16][4];
    read_queries<HD>(a, qkv, p, q, row, head);
#pragma unroll
    for (int step = 0; step < HD / 16; step++)
        sm.query[step][threadIdx.x] = uint4{a[step][0], a[step][1], a[step][2], a[step][3]};
}

/* score() with the fragments read when they are wanted. */
template <int HD>
static __device__ inline void score_kept(float (&s)[KEY_TILES][4], const struct many_shared<HD> &sm,
                                         const struct chunk_shared<HD> &c)
{
#pragma unroll
    for (int step = 0; step < HD / 16; step++) {
        uint4 v = sm.query[step][threadIdx.x];
        const uint32_t a[4] = {v.x, v.y, v.z, v.w};
        score_step<HD>(s, a, c, step);
    }
}

/* Rows row0 .. row_end of one sequence. */
template <int HD>
static __device__ inline void walk(float *y, const float *qkv, const struct places &p,
                                   struct many_shared<HD> &sm, int seq, int kv_head, int row0,
                                   int row_end)
{
    struct queries q;
    int row[2];
    int head[2];
    struct walked<HD> run = {
    };
    int end = p.step.position[row_end - 1] + 1;
    int chunk = first_seen(p, p.step.position[row0]) / CHUNK;
    int last = (end - 1) / CHUNK;
    find_queries(q, row, head, p, row0, row_end, kv_head, (int)threadIdx.x / WARP);
    keep_queries<HD>(sm, qkv, p, q, row, head);
    run.state.most[0] = run.state.most[1] = -INFINITY;
    fetch<HD>(sm.chunk[chunk % BUFFERS], p, seq, kv_head, chunk * CHUNK, end, (int)threadIdx.x,
              THREADS);
    for (; chunk <= last; chunk++) {
        cp_async_wait<0>();
        __syncthreads(); /* the chunk is here, and nobody reads the other */
        if (chunk < last)
            fetch<HD>(sm.chunk[(chunk + 1) % BUFFERS], p, seq, kv_head, (chunk + 1) * CHUNK, end,
                      (int)threadIdx.x, THREADS);
        const struct chunk_shared<HD> &c = sm.chunk[chunk % BUFFERS];
        struct part r;
        float s[KEY_TILES][4] = {};
        score_kept<HD>(s, sm, c);
        soften<HD>(s, r, c, p, q, chunk * CHUNK);
        join_chunk<HD>(run, r, s, c);
    }
    __syncthreads(); /* the next sequence's chunks overwrite these */
    int i = (int)threadIdx.x % 4;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        if (q.position[h] < 0)
            continue;
#pragma unroll
        for (int b = 0; b < HD / 16; b++) {
            float sum = run.state.sum[h];
            float4 v = {run.value[b][h][0] / sum, run.value[b][h][1] / sum,
                        run.value[b][h][2] / sum, run.value[b][h][3] / sum};
            *reinterpret_cast<float4 *>(y + q.row[h] * HD + (size_t)(16 * b + 4 * i)) = v;
        }
    }
}

/* blockIdx: as many rows as make MANY_QUERIES, whosever they are; kv head. */
template <int HD>
static __global__ void __launch_bounds__(THREADS, 1)
    many_kernel(float *y, const float *qkv, struct places p)
{
    typedef struct many_shared<HD> shared_t;
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
        if ((seq_end - p.step.seq_start[seq]) * group > TILE)
            walk<HD>(y, qkv, p, sm, seq, (int)blockIdx.y, row, stop);
        row = stop;
    }
}

/* ---- launching ----------------------------------------------------------------------- */

/* Split when sequences alone do not fill the device, and the parts have room. */
static struct split split_of(const struct gpu *g, const struct places *p, unsigned *fours)
{
    const struct step_view *v = &p->step;
    int group = p->shape.n_heads / p->shape.n_kv_heads;
    size_t pairs = (size_t)v->n_seqs * (size_t)p->shape.n_kv_heads;
    struct split s = {};
    s.rows = v->n_rows == v->n_seqs ? group : TILE;
    *fours = (unsigned)(v->kv_len_max + CHUNK * WARPS - 1) / (CHUNK * WARPS);
    s.chunks = (int)*fours * WARPS;
    size_t room = pairs * (size_t)s.chunks * (size_t)s.rows * (size_t)(p->shape.head_dim + 2);
    s.on = *fours > 1 && pairs < 2 * (size_t)g->n_multiprocessors && room <= g->partials.room &&
           pairs <= g->partials.arrived_room;
    s.part = g->partials.part;
    s.arrived = g->partials.arrived;
    if (!s.on)
        *fours = 1;
    return s;
}

template <int HD>
static int launch_flash(const struct gpu *g, float *y, const float *qkv, const struct places *p)
{
    int group = p->shape.n_heads / p->shape.n_kv_heads;
    unsigned fours;
    struct split split = split_of(g, p, &fours);
    dim3 few(fours, (unsigned)p->shape.n_kv_heads, (unsigned)p->step.n_seqs);
    int error =
        launch(few_kernel<HD>, few, THREADS, sizeof(struct few_shared<HD>), g, y, qkv, *p, split);
    if (error || p->step.n_rows == p->step.n_seqs)
        return error;
    int rows = MANY_QUERIES / group;
    dim3 many((unsigned)((p->step.n_rows + rows - 1) / rows), (unsigned)p->shape.n_kv_heads);
    return launch(many_kernel<HD>, many, THREADS, sizeof(struct many_shared<HD>), g, y, qkv, *p);
}

bool attention_flash_fits(const struct places *p)
{
    int hd = p->shape.head_dim;
    return p->kv.kind == NUM_Q8 && p->shape.n_heads / p->shape.n_kv_heads <= TILE &&
           (hd == 64 || hd == 80 || hd == 96 || hd == 128);
}

int attention_flash(const struct gpu *g, float *y, const float *qkv, const struct places *p)
{
    switch (p->shape.head_dim) {
    case 64:
        return launch_flash<64>(g, y, qkv, p);
    case 80:
        return launch_flash<80>(g, y, qkv, p);
    case 96:
        return launch_flash<96>(g, y, qkv, p);
    default:
        return launch_flash<128>(g, y, qkv, p);
    }
}

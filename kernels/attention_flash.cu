/* Attention on tensor cores over a cache of int8 or halves (T), read as stored.
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
 * Queries and weights are rounded to half, keys and values are exact in half, sums are float.
 * Scales of int8 keys multiply the scores, scales of values the weights. */
#include "kernels/attention_chunk.cuh"

/* ---- few queries --------------------------------------------------------------------- */

template <int HD, typename T> struct few_shared {
    struct chunk_shared<HD, T> chunk[WARPS];
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
template <int HD, typename T>
static __device__ inline void join_four(struct running<HD> &run, struct few_shared<HD, T> &sm,
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

template <int HD, typename T>
static __device__ inline void write_running(float *y, const struct running<HD> &run,
                                            struct few_shared<HD, T> &sm, const struct places &p,
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
template <int HD, typename T>
static __global__ void __launch_bounds__(THREADS, 2)
    few_kernel(float *y, const float *qkv, struct places p, struct split split)
{
    typedef struct few_shared<HD, T> shared_t;
    SHARED(shared_t, sm);
    follow();
    int seq = (int)blockIdx.z;
    int kv_head = (int)blockIdx.y;
    int warp = (int)threadIdx.x / WARP;
    int lane = (int)threadIdx.x % WARP;
    int g = lane / 4;
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
        fetch(sm.chunk[warp], p, seq, kv_head, first, end, lane, WARP);
        cp_async_wait<0>();
        __syncwarp();
#pragma unroll
        for (int step = 0; step < HD / 16; step++)
            score_step(s, a[step], sm.chunk[warp], step);
        soften(s, r, sm.chunk[warp], p, q, first);
        __syncwarp(); /* the part takes the keys' place */
        float *to = split.on ? parts + (size_t)(four * WARPS + warp) * part_size
                             : &sm.chunk[warp].part[0][0];
        weigh(s, sm.chunk[warp], [=](int block, int h, float4 v) {
            if (g + 8 * h < n_queries)
                put4<T>(to + (g + 8 * h) * (HD + 2) + 16 * block, v);
        });
        put_state<HD>(to, r, n_queries);
        __syncthreads(); /* the parts are there */
        if (split.on)
            break;
        join_four(run, sm, n_queries, &sm.chunk[0].part[0][0], sizeof(sm.chunk[0]) / sizeof(float));
    }
    if (split.on) {
        if (threadIdx.x == 0)
            sm.last =
                arrive_last(&split.arrived[seq * p.shape.n_kv_heads + kv_head], (unsigned)n_fours);
        __syncthreads();
        if (!sm.last)
            return;
        for (int four = 0; four < n_fours; four++)
            join_four(run, sm, n_queries, parts + (size_t)(four * WARPS) * part_size, part_size);
    }
    write_running(y, run, sm, p, row0, kv_head, n_queries);
}

/* ---- many queries -------------------------------------------------------------------- */

template <int HD, typename T> struct many_shared {
    struct chunk_shared<HD, T> chunk[BUFFERS];
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
                                         const struct chunk_shared<HD, T> &c)
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
    weigh(s, c, [&](int block, int h, float4 v) {
        const float part[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int e = 0; e < 4; e++)
            run.value[block][h][e] =
                join(run.value[block][h][e], weight_run[h], part[e], weight_part[h]);
    });
}

template <int HD, typename T>
static __device__ inline void keep_queries(struct many_shared<HD, T> &sm, const float *qkv,
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
template <int HD, typename T>
static __device__ inline void score_kept(float (&s)[KEY_TILES][4],
                                         const struct many_shared<HD, T> &sm,
                                         const struct chunk_shared<HD, T> &c)
{
#pragma unroll
    for (int step = 0; step < HD / 16; step++) {
        uint4 v = sm.query[step][threadIdx.x];
        const uint32_t a[4] = {v.x, v.y, v.z, v.w};
        score_step(s, a, c, step);
    }
}

/* Rows row0 .. row_end of one sequence. */
template <int HD, typename T>
static __device__ inline void walk(float *y, const float *qkv, const struct places &p,
                                   struct many_shared<HD, T> &sm, int seq, int kv_head, int row0,
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
    keep_queries(sm, qkv, p, q, row, head);
    run.state.most[0] = run.state.most[1] = -INFINITY;
    fetch(sm.chunk[chunk % BUFFERS], p, seq, kv_head, chunk * CHUNK, end, (int)threadIdx.x,
          THREADS);
    for (; chunk <= last; chunk++) {
        cp_async_wait<0>();
        __syncthreads(); /* the chunk is here, and nobody reads the other */
        if (chunk < last)
            fetch(sm.chunk[(chunk + 1) % BUFFERS], p, seq, kv_head, (chunk + 1) * CHUNK, end,
                  (int)threadIdx.x, THREADS);
        const struct chunk_shared<HD, T> &c = sm.chunk[chunk % BUFFERS];
        struct part r;
        float s[KEY_TILES][4] = {};
        score_kept(s, sm, c);
        soften(s, r, c, p, q, chunk * CHUNK);
        join_chunk(run, r, s, c);
    }
    __syncthreads(); /* the next sequence's chunks overwrite these */
#pragma unroll
    for (int h = 0; h < 2; h++) {
        if (q.position[h] < 0)
            continue;
#pragma unroll
        for (int b = 0; b < HD / 16; b++) {
            float sum = run.state.sum[h];
            float4 v = {run.value[b][h][0] / sum, run.value[b][h][1] / sum,
                        run.value[b][h][2] / sum, run.value[b][h][3] / sum};
            put4<T>(y + (size_t)q.row[h] * HD + (size_t)(16 * b), v);
        }
    }
}

/* blockIdx: as many rows as make MANY_QUERIES, whosever they are; kv head. Only sequences that
 * bring more than `beyond` queries. */
template <int HD, typename T>
static __global__ void __launch_bounds__(THREADS, 1)
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

/* Shared memory that a block may have. */
static size_t shared_room(int sm)
{
    if (sm == 80 || sm == 87)
        return 163 * 1024;
    return sm == 90 || (sm >= 100 && sm < 120) ? 227 * 1024 : 99 * 1024;
}

template <int HD, typename T>
static int launch_flash(const struct gpu *g, float *y, const float *qkv, const struct places *p)
{
    int group = p->shape.n_heads / p->shape.n_kv_heads;
    unsigned fours;
    struct split split = split_of(g, p, &fours);
    dim3 few(fours, (unsigned)p->shape.n_kv_heads, (unsigned)p->step.n_seqs);
    /* Four chunks of wide halves are more than some devices have: there prompts' kernel does all.
     */
    bool fits = sizeof(struct few_shared<HD, T>) <= shared_room(g->sm);
    int error = fits ? launch(few_kernel<HD, T>, few, THREADS, sizeof(struct few_shared<HD, T>), g,
                              y, qkv, *p, split)
                     : 0;
    if (error || (fits && p->step.n_rows == p->step.n_seqs))
        return error;
    int rows = MANY_QUERIES / group;
    dim3 many((unsigned)((p->step.n_rows + rows - 1) / rows), (unsigned)p->shape.n_kv_heads);
    return launch(many_kernel<HD, T>, many, THREADS, sizeof(struct many_shared<HD, T>), g, y, qkv,
                  *p, fits ? (int)TILE : 0);
}

bool attention_flash_fits(const struct places *p)
{
    int hd = p->shape.head_dim;
    return p->kv.kind != NUM_F32 && p->shape.n_heads / p->shape.n_kv_heads <= TILE &&
           (hd == 64 || hd == 80 || hd == 96 || hd == 128);
}

template <int HD>
static int launch_kept(const struct gpu *g, float *y, const float *qkv, const struct places *p)
{
    return p->kv.kind == NUM_Q8 ? launch_flash<HD, int8_t>(g, y, qkv, p)
                                : launch_flash<HD, uint16_t>(g, y, qkv, p);
}

int attention_flash(const struct gpu *g, float *y, const float *qkv, const struct places *p)
{
    switch (p->shape.head_dim) {
    case 64:
        return launch_kept<64>(g, y, qkv, p);
    case 80:
        return launch_kept<80>(g, y, qkv, p);
    case 96:
        return launch_kept<96>(g, y, qkv, p);
    default:
        return launch_kept<128>(g, y, qkv, p);
    }
}

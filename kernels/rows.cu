/* Row-wise kernels: embed, norm, convert, swiglu, gather.
 *
 * Each is there twice. Rows of whole fours that lie on 16 bytes, as all of a model's do, are read
 * once, by loads of 16 bytes, and stay in registers until the results go out: a warp has FOURS
 * loads of each of its lanes under way at once, all at fixed distances from one address. Any other
 * row, and one that is too long for the registers of a block, takes the plain loops at the end.
 *
 * Which of them a row takes, and in which order its squares are added, is a matter of its length
 * alone. */
#include "kernels/device.cuh"

enum {
    FOURS = 4,      /* of a thread where blocks are small, */
    FOURS_MANY = 8, /* and of longer rows: fewer threads, so that two blocks share the registers */
    BLOCK_SMALL = 512,
    BLOCK_LARGE = 896, /* of 72 registers a thread: rows of up to 28672 */
    COPY_THREADS = 128,
    ANY_THREADS = 256, /* of the plain loops */
};

struct row_shared {
    float sum[WARP];
    float most[WARP];
    float part[WARP]; /* of the plain loops */
};

static __device__ inline int warp_of_block()
{
    return (int)threadIdx.x / WARP;
}

static __device__ inline int lane_of_warp()
{
    return (int)threadIdx.x % WARP;
}

/* A thread's fours are each(0), each(1) .. with a warp's width between them. */
template <int N> static __device__ inline int first_four()
{
    return warp_of_block() * WARP * N + lane_of_warp();
}

/* ---- a row in registers ----------------------------------------------------------------- */

/* Of from [fours], N from first on; 0 behind the end. */
template <int N>
static __device__ inline void read_fours(float4 *v, const float *from, int first, int fours)
{
    const float4 *in = reinterpret_cast<const float4 *>(from) + first;
#pragma unroll
    for (int j = 0; j < N; j++)
        v[j] = first + WARP * j < fours ? in[WARP * j] : float4{};
}

template <int N>
static __device__ inline void write_fours(float *to, const float4 (&v)[N], int first, int fours)
{
    float4 *out = reinterpret_cast<float4 *>(to) + first;
#pragma unroll
    for (int j = 0; j < N; j++)
        if (first + WARP * j < fours)
            out[WARP * j] = v[j];
}

/* Of the squares of all threads, of which there are at most THREADS, to every thread: once in a
 * kernel. */
template <int THREADS, int N>
static __device__ inline float sum_squares(const float4 (&v)[N], float *part)
{
    float sum = 0.0f;
#pragma unroll
    for (int j = 0; j < N; j++)
        sum += square_sum4(v[j]);
    sum = warp_sum(sum);
    if (lane_of_warp() == 0)
        part[warp_of_block()] = sum;
    else if (warp_of_block() == 0 && lane_of_warp() >= (int)blockDim.x / WARP)
        part[lane_of_warp()] = 0.0f;
    __syncthreads();
    const float4 *four = reinterpret_cast<const float4 *>(part);
    sum = 0.0f;
#pragma unroll
    for (int i = 0; i < THREADS / WARP / 4; i++)
        sum += (four[i].x + four[i].y) + (four[i].z + four[i].w);
    return sum;
}

/* The largest magnitude of all threads, to every thread: once in a kernel. */
template <int N> static __device__ inline float most_of(const float4 (&v)[N], float *part)
{
    float most = 0.0f;
#pragma unroll
    for (int j = 0; j < N; j++)
        most = max_or_nan(most4(v[j]), most);
    most = warp_most(most);
    if (lane_of_warp() == 0)
        part[warp_of_block()] = most;
    __syncthreads();
    return warp_most(lane_of_warp() < (int)blockDim.x / WARP ? part[lane_of_warp()] : 0.0f);
}

/* As y->kind wants it: quantized by the row's own absmax, or plain. */
template <int N>
static __device__ inline void write_row(const struct act &y, size_t row, int dim,
                                        struct row_shared &sm, const float4 (&v)[N])
{
    size_t at = row * (size_t)dim;
    int first = first_four<N>();
    int fours = dim / 4;
    if (y.kind == NUM_F32) {
        write_fours(y.f + at, v, first, fours);
        return;
    }
    float most = most_of(v, sm.most);
    float inverse = inverse_scale(most);
    uint32_t *out = reinterpret_cast<uint32_t *>(y.q + at) + first;
#pragma unroll
    for (int j = 0; j < N; j++)
        if (first + WARP * j < fours)
            out[WARP * j] = quantize4(v[j], inverse);
    if (threadIdx.x == 0)
        y.scale[row] = stored_scale(most);
}

/* ---- norm, convert, swiglu -------------------------------------------------------------- */

/* Gains are weights, so where there are registers for them they come before the wait. */
template <int N, int THREADS>
static __global__ void __launch_bounds__(THREADS)
    norm_kernel(struct act y, const float *x, const float *gain, float eps, int dim)
{
    SHARED(struct row_shared, sm);
    const bool early = N == FOURS;
    float4 v[N];
    float4 g[FOURS];
    int first = first_four<N>();
    int fours = dim / 4;
    dependents_launch();
    if (early)
        read_fours<FOURS>(g, gain, first, fours);
    dependency_wait();
    read_fours<N>(v, x + (size_t)blockIdx.x * (size_t)dim, first, fours);
    float inverse = rsqrtf(sum_squares<THREADS>(v, sm.sum) / (float)dim + eps);
#pragma unroll
    for (int from = 0; from < N; from += FOURS) {
        if (!early)
            read_fours<FOURS>(g, gain, first + WARP * from, fours);
#pragma unroll
        for (int j = 0; j < FOURS; j++)
            v[from + j] = scaled4(v[from + j], inverse, g[j]);
    }
    write_row(y, blockIdx.x, dim, sm, v);
}

template <int N, int THREADS>
static __global__ void __launch_bounds__(THREADS)
    convert_kernel(struct act y, const float *x, int dim)
{
    SHARED(struct row_shared, sm);
    float4 v[N];
    follow();
    read_fours<N>(v, x + (size_t)blockIdx.x * (size_t)dim, first_four<N>(), dim / 4);
    write_row(y, blockIdx.x, dim, sm, v);
}

static __device__ inline float swiglu(float gate, float up)
{
    return gate * reciprocal(1.0f + expf(-gate)) * up;
}

template <int N, int THREADS>
static __global__ void __launch_bounds__(THREADS)
    swiglu_kernel(struct act y, const float *gate_up, int hidden)
{
    SHARED(struct row_shared, sm);
    float4 v[N];
    float4 up[FOURS];
    follow();
    const float *gate = gate_up + (size_t)blockIdx.x * 2 * (size_t)hidden;
#pragma unroll
    for (int from = 0; from < N; from += FOURS) {
        int first = first_four<N>() + WARP * from;
        read_fours<FOURS>(up, gate + hidden, first, hidden / 4);
        read_fours<FOURS>(&v[from], gate, first, hidden / 4);
        all_asked_for();
#pragma unroll
        for (int j = 0; j < FOURS; j++) {
            float4 &g = v[from + j];
            g = {swiglu(g.x, up[j].x), swiglu(g.y, up[j].y), swiglu(g.z, up[j].z),
                 swiglu(g.w, up[j].w)};
        }
    }
    write_row(y, blockIdx.x, hidden, sm, v);
}

/* ---- embed, gather ---------------------------------------------------------------------- */

/* The token of a row, or -1: a failed pick, whose request is over, or none of the table's. */
static __device__ inline int32_t token_of(int32_t id, const int32_t *picked, int32_t n)
{
    id = id < 0 ? picked[~id] : id;
    return id < n ? id : -1;
}

static __device__ inline float4 of_int8(uint32_t four, float scale)
{
    return {(float)(int8_t)four * scale, (float)(int8_t)(four >> 8) * scale,
            (float)(int8_t)(four >> 16) * scale, (float)(int8_t)(four >> 24) * scale};
}

/* blockIdx.y: part of the row. */
static __device__ inline int first_of_part()
{
    return (int)blockIdx.y * COPY_THREADS * FOURS + first_four<FOURS>();
}

static __global__ void __launch_bounds__(COPY_THREADS)
    embed_kernel(float *x, struct weight table, const int32_t *ids, const int32_t *picked)
{
    follow();
    size_t row = blockIdx.x;
    int first = first_of_part();
    int fours = table.k / 4;
    int32_t id = token_of(ids[row], picked, table.n);
    size_t from = (size_t)(id < 0 ? 0 : id) * (size_t)table.k;
    float4 v[FOURS] = {};
    if (table.kind == NUM_F32) {
        read_fours<FOURS>(v, table.f + from, first, id < 0 ? 0 : fours);
    } else if (id >= 0) {
        const uint32_t *in = reinterpret_cast<const uint32_t *>(table.q + from) + first;
        float scale = table.scale[id];
        uint32_t q[FOURS];
#pragma unroll
        for (int j = 0; j < FOURS; j++)
            q[j] = first + WARP * j < fours ? in[WARP * j] : 0;
#pragma unroll
        for (int j = 0; j < FOURS; j++)
            v[j] = of_int8(q[j], scale);
    }
    write_fours(x + row * (size_t)table.k, v, first, fours);
}

static __global__ void __launch_bounds__(COPY_THREADS)
    gather_kernel(float *y, const float *x, const int32_t *index, int dim)
{
    follow();
    size_t row = blockIdx.x;
    float4 v[FOURS];
    read_fours<FOURS>(v, x + (size_t)index[row] * (size_t)dim, first_of_part(), dim / 4);
    write_fours(y + row * (size_t)dim, v, first_of_part(), dim / 4);
}

/* ---- any row ---------------------------------------------------------------------------- */

/* Writes row of y from value(i), which is asked for twice. */
template <typename F>
static __device__ void write_any(const struct act &y, size_t row, int dim, float *part, F value)
{
    size_t at = row * (size_t)dim;
    if (y.kind == NUM_F32) {
        for (int i = (int)threadIdx.x; i < dim; i += ANY_THREADS)
            y.f[at + (size_t)i] = value(i);
        return;
    }
    float most = 0.0f;
    for (int i = (int)threadIdx.x; i < dim; i += ANY_THREADS)
        most = max_or_nan(fabsf(value(i)), most);
    most = block_max(most, part);
    float inverse = inverse_scale(most);
    for (int i = (int)threadIdx.x; i < dim; i += ANY_THREADS)
        y.q[at + (size_t)i] = quantize(value(i), inverse);
    if (threadIdx.x == 0)
        y.scale[row] = stored_scale(most);
}

static __global__ void norm_any_kernel(struct act y, const float *x, const float *gain, float eps,
                                       int dim)
{
    SHARED(struct row_shared, sm);
    follow();
    size_t row = blockIdx.x;
    const float *in = x + row * (size_t)dim;
    float sum = 0.0f;
    for (int i = (int)threadIdx.x; i < dim; i += ANY_THREADS)
        sum = fmaf(in[i], in[i], sum);
    sum = block_sum(sum, sm.part);
    float inverse = rsqrtf(sum / (float)dim + eps);
    write_any(y, row, dim, sm.part, [=](int i) { return in[i] * inverse * gain[i]; });
}

static __global__ void convert_any_kernel(struct act y, const float *x, int dim)
{
    SHARED(struct row_shared, sm);
    follow();
    const float *in = x + (size_t)blockIdx.x * (size_t)dim;
    write_any(y, blockIdx.x, dim, sm.part, [=](int i) { return in[i]; });
}

static __global__ void swiglu_any_kernel(struct act y, const float *gate_up, int hidden)
{
    SHARED(struct row_shared, sm);
    follow();
    const float *gate = gate_up + (size_t)blockIdx.x * 2 * (size_t)hidden;
    const float *up = gate + hidden;
    write_any(y, blockIdx.x, hidden, sm.part, [=](int i) { return swiglu(gate[i], up[i]); });
}

static __global__ void embed_any_kernel(float *x, struct weight table, const int32_t *ids,
                                        const int32_t *picked)
{
    follow();
    size_t row = blockIdx.x;
    int32_t id = token_of(ids[row], picked, table.n);
    size_t from = (size_t)(id < 0 ? 0 : id) * (size_t)table.k;
    for (int i = (int)threadIdx.x; i < table.k; i += ANY_THREADS) {
        float v = id < 0                 ? 0.0f
                  : table.kind == NUM_Q8 ? (float)table.q[from + (size_t)i] * table.scale[id]
                                         : table.f[from + (size_t)i];
        x[row * (size_t)table.k + (size_t)i] = v;
    }
}

static __global__ void gather_any_kernel(float *y, const float *x, const int32_t *index, int dim)
{
    follow();
    size_t row = blockIdx.x;
    const float *in = x + (size_t)index[row] * (size_t)dim;
    for (int i = (int)threadIdx.x; i < dim; i += ANY_THREADS)
        y[row * (size_t)dim + (size_t)i] = in[i];
}

/* ---- launches --------------------------------------------------------------------------- */

static bool on_16(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

/* y, where a kernel of fours may write it. */
static bool takes_fours(const struct act *y)
{
    return y->kind == NUM_F32 ? on_16(y->f) : on_16(y->q);
}

/* Warps of a block that has the row in registers, n fours a thread. */
static int threads_for(int32_t dim, int n)
{
    return (dim / 4 + WARP * n - 1) / (WARP * n) * WARP;
}

/* One of three kernels of the same arguments. fours: they lie on 16 bytes. */
template <typename... Params, typename... Args>
static int launch_row(bool fours, int32_t dim, int32_t rows, const struct gpu *g,
                      void (*small)(Params...), void (*large)(Params...), void (*any)(Params...),
                      Args... args)
{
    dim3 grid((unsigned)rows);
    size_t shared = sizeof(struct row_shared);
    if (dim % 4 || !fours || threads_for(dim, FOURS_MANY) > BLOCK_LARGE)
        return launch(any, grid, ANY_THREADS, shared, g, args...);
    int threads = threads_for(dim, FOURS);
    if (threads <= BLOCK_SMALL)
        return launch(small, grid, threads, shared, g, args...);
    return launch(large, grid, threads_for(dim, FOURS_MANY), shared, g, args...);
}

static dim3 copy_grid(int32_t rows, int32_t dim)
{
    return dim3((unsigned)rows,
                (unsigned)((dim / 4 + COPY_THREADS * FOURS - 1) / (COPY_THREADS * FOURS)));
}

int launch_embed(const struct gpu *g, float *x, const struct weight *table, const int32_t *ids,
                 const int32_t *picked, int32_t rows)
{
    const void *from = table->kind == NUM_F32 ? (const void *)table->f : table->q;
    if (table->k % 4 || !on_16(x) || !on_16(from))
        return launch(embed_any_kernel, dim3((unsigned)rows), ANY_THREADS, 0, g, x, *table, ids,
                      picked);
    return launch(embed_kernel, copy_grid(rows, table->k), COPY_THREADS, 0, g, x, *table, ids,
                  picked);
}

int launch_norm(const struct gpu *g, const struct act *y, const float *x, const float *gain,
                float eps, int32_t rows, int32_t dim)
{
    return launch_row(takes_fours(y) && on_16(x) && on_16(gain), dim, rows, g,
                      norm_kernel<FOURS, BLOCK_SMALL>, norm_kernel<FOURS_MANY, BLOCK_LARGE>,
                      norm_any_kernel, *y, x, gain, eps, dim);
}

int launch_convert(const struct gpu *g, const struct act *y, const float *x, int32_t rows,
                   int32_t dim)
{
    return launch_row(takes_fours(y) && on_16(x), dim, rows, g, convert_kernel<FOURS, BLOCK_SMALL>,
                      convert_kernel<FOURS_MANY, BLOCK_LARGE>, convert_any_kernel, *y, x, dim);
}

int launch_swiglu(const struct gpu *g, const struct act *y, const float *gate_up, int32_t rows,
                  int32_t hidden)
{
    return launch_row(takes_fours(y) && on_16(gate_up), hidden, rows, g,
                      swiglu_kernel<FOURS, BLOCK_SMALL>, swiglu_kernel<FOURS_MANY, BLOCK_LARGE>,
                      swiglu_any_kernel, *y, gate_up, hidden);
}

int launch_gather(const struct gpu *g, float *y, const float *x, const int32_t *index, int32_t rows,
                  int32_t dim)
{
    if (dim % 4 || !on_16(x) || !on_16(y))
        return launch(gather_any_kernel, dim3((unsigned)rows), ANY_THREADS, 0, g, y, x, index, dim);
    return launch(gather_kernel, copy_grid(rows, dim), COPY_THREADS, 0, g, y, x, index, dim);
}

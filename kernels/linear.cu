/* Matrix products y = x W^T + bias. A warp owns one output channel and LINEAR_ROWS activation rows:
 * it reads its weight row once, 16 bytes a lane, and keeps one sum per row. At decode every
 * weight byte is read once per LINEAR_ROWS rows, so a small batch is limited by bandwidth.
 * Prompts reuse the weights through L2 only: the tensor-core tiles that they want are
 * kernels of their own. W8A8 sums are integers, hence the same in any order; float sums run
 * lane-strided with a fixed butterfly, hence the same for any number of rows. */
#include "kernels/device.cuh"

enum { LINEAR_WARPS = 4, LINEAR_ROWS = 8, VECTOR = 16 };

struct product {
    float *y;
    struct act x;
    struct weight w;
    int rows;
    bool accumulate;
};

static __device__ inline void store(const struct product &p, int row, int n, float v)
{
    float *y = p.y + (size_t)row * (size_t)p.w.n + (size_t)n;
    if (p.w.bias)
        v += p.w.bias[n]; /* v left __fmul_rn or a shuffle: nothing to fuse with */
    *y = p.accumulate ? *y + v : v;
}

static __device__ inline int dot16(int4 a, int4 b, int sum)
{
    sum = __dp4a(a.x, b.x, sum);
    sum = __dp4a(a.y, b.y, sum);
    sum = __dp4a(a.z, b.z, sum);
    return __dp4a(a.w, b.w, sum);
}

/* Vectors when rows start at 16-byte borders, bytes otherwise. */
static __device__ void sums_q8(const struct product &p, int n, int row0, int n_rows,
                               int sum[LINEAR_ROWS])
{
    int lane = (int)threadIdx.x % WARP;
    int k = p.w.k;
    const int8_t *w = p.w.q + (size_t)n * (size_t)k;
    const int8_t *x = p.x.q + (size_t)row0 * (size_t)k;
    if (k % VECTOR == 0) {
        for (int i = lane * VECTOR; i < k; i += WARP * VECTOR) {
            int4 a = *reinterpret_cast<const int4 *>(w + i);
            for (int r = 0; r < n_rows; r++) {
                const int8_t *b = x + (size_t)r * (size_t)k + (size_t)i;
                sum[r] = dot16(a, *reinterpret_cast<const int4 *>(b), sum[r]);
            }
        }
        return;
    }
    for (int i = lane; i < k; i += WARP)
        for (int r = 0; r < n_rows; r++)
            sum[r] += (int)w[i] * (int)x[(size_t)r * (size_t)k + (size_t)i];
}

static __global__ void linear_q8_kernel(struct product p)
{
    int lane = (int)threadIdx.x % WARP;
    int n = (int)blockIdx.x * LINEAR_WARPS + (int)threadIdx.x / WARP;
    int row0 = (int)blockIdx.y * LINEAR_ROWS;
    if (n >= p.w.n)
        return; /* the whole warp leaves */
    int n_rows = p.rows - row0 < LINEAR_ROWS ? p.rows - row0 : LINEAR_ROWS;
    int sum[LINEAR_ROWS] = {};
    sums_q8(p, n, row0, n_rows, sum);
    for (int r = 0; r < n_rows; r++) {
        int total = warp_sum(sum[r]);
        if (lane == 0) {
            float v = __fmul_rn(__fmul_rn((float)total, p.x.scale[row0 + r]), p.w.scale[n]);
            store(p, row0 + r, n, v);
        }
    }
}

/* Float activations against int8 or float weights. */
static __global__ void linear_f32_kernel(struct product p)
{
    int lane = (int)threadIdx.x % WARP;
    int n = (int)blockIdx.x * LINEAR_WARPS + (int)threadIdx.x / WARP;
    int row0 = (int)blockIdx.y * LINEAR_ROWS;
    if (n >= p.w.n)
        return;
    int n_rows = p.rows - row0 < LINEAR_ROWS ? p.rows - row0 : LINEAR_ROWS;
    size_t k = (size_t)p.w.k;
    const float *x = p.x.f + (size_t)row0 * k;
    float sum[LINEAR_ROWS] = {};
    for (size_t i = (size_t)lane; i < k; i += WARP) {
        size_t at = (size_t)n * k + i;
        float w = p.w.kind == NUM_Q8 ? (float)p.w.q[at] : p.w.f[at];
        for (int r = 0; r < n_rows; r++)
            sum[r] = fmaf(w, x[(size_t)r * k + i], sum[r]);
    }
    for (int r = 0; r < n_rows; r++) {
        float total = warp_sum(sum[r]);
        if (lane == 0)
            store(p, row0 + r, n, p.w.kind == NUM_Q8 ? __fmul_rn(total, p.w.scale[n]) : total);
    }
}

int launch_linear(gpu_stream s, float *y, const struct act *x, const struct weight *w, int32_t rows,
                  bool accumulate)
{
    struct product p = {y, *x, *w, rows, accumulate};
    dim3 grid((unsigned)(w->n + LINEAR_WARPS - 1) / LINEAR_WARPS,
              (unsigned)(rows + LINEAR_ROWS - 1) / LINEAR_ROWS);
    return launch(w->act == NUM_Q8 ? linear_q8_kernel : linear_f32_kernel, grid,
                  LINEAR_WARPS * WARP, 0, s, p);
}

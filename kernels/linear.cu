/* y = x W^T + bias: the table that chooses a kernel, and the kernel that takes any shape.
 *
 * The plain kernel: a warp owns one output channel and LINEAR_ROWS activation rows; it reads its
 * weight row once, 16 bytes a lane, and keeps one sum per row. W8A8 sums are integers, hence the
 * same in any order; float sums run lane-strided with a fixed butterfly, hence the same for any
 * number of rows. It stands where k suits no other kernel, and for float weights. */
#include "kernels/linear.cuh"

#include <string.h>

enum { LINEAR_WARPS = 4, LINEAR_ROWS = 8, VECTOR = 16 };

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
    follow();
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
            store(p, row0 + r, n, scaled(total, p.x.scale[row0 + r], p.w.scale[n]));
        }
    }
}

/* Float activations against int8 or float weights. */
static __global__ void linear_f32_kernel(struct product p)
{
    follow();
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

int linear_plain(const struct gpu *g, const struct product *p)
{
    dim3 grid((unsigned)(p->w.n + LINEAR_WARPS - 1) / LINEAR_WARPS,
              (unsigned)(p->rows + LINEAR_ROWS - 1) / LINEAR_ROWS);
    return launch(p->w.act == NUM_Q8 ? linear_q8_kernel : linear_f32_kernel, grid,
                  LINEAR_WARPS * WARP, 0, g, *p);
}

/* Where each kernel stands; the first row that fits is taken. Every W8A16 product of one k runs
 * in one kernel whatever the rows, since its float sums must not depend on them. */
struct choice {
    const char *name;
    int (*run)(const struct gpu *g, const struct product *p);
    enum number act;
    int sm_first;
    int sm_last;
    int rows_first;
    int rows_last;
    int k_multiple;
};

enum { ANY_ROWS = INT32_MAX, ANY_SM = INT32_MAX };

/* rows: predicted crossovers, kernels/NOTES.md. sm_103 has next to no int8 in its tensor cores. */
static const struct choice choices[] = {
    {"skinny half", linear_skinny_half, NUM_F32, 80, ANY_SM, 1, ANY_ROWS, 64},
    {"skinny exact", linear_skinny_exact, NUM_Q8, 103, 103, 1, ANY_ROWS, 64},
    {"skinny", linear_skinny_q8, NUM_Q8, 80, ANY_SM, 1, 16, 64},
    {"turned", linear_turned, NUM_Q8, 90, 90, 17, 256, 16},
    {"wgmma", linear_wgmma, NUM_Q8, 90, 90, 257, ANY_ROWS, 16},
    {"tile 64", linear_tile_small, NUM_Q8, 80, ANY_SM, 1, 191, 16},
    {"tile 128", linear_tile_large, NUM_Q8, 80, ANY_SM, 192, ANY_ROWS, 16},
};

static bool fits(const struct choice *c, const struct gpu *g, const struct product *p)
{
    if (c->act != p->w.act || p->w.kind != NUM_Q8 || g->sm < c->sm_first || g->sm > c->sm_last ||
        p->w.k % c->k_multiple != 0)
        return false;
    if (g->only)
        return strcmp(g->only, c->name) == 0;
    return p->rows >= c->rows_first && p->rows <= c->rows_last;
}

int launch_linear(const struct gpu *g, float *y, const struct act *x, const struct weight *w,
                  int32_t rows, bool accumulate)
{
    struct product p = {y, *x, *w, rows, accumulate, g->partials};
    for (size_t i = 0; i < ARRAY_LEN(choices); i++)
        if (fits(&choices[i], g, &p))
            return choices[i].run(g, &p);
    return linear_plain(g, &p);
}

#ifndef KERNELS_LINEAR_CUH
#define KERNELS_LINEAR_CUH

#include "kernels/ptx.cuh"

/* What the kernels of y = x W^T share. Each is one row of the table in linear.cu, which says for
 * which device and which shapes it stands. All give the same bits for W8A8: the sums are
 * integers, and scaled() is the one expression that follows them. */

struct product {
    float *y; /* [rows][w.n] */
    struct act x;
    struct weight w;
    int rows;
    bool accumulate;
    struct partials partials;
};

/* (float)sum * x.scale * w.scale in this order, never contracted. */
static __device__ inline float scaled(int sum, float x_scale, float w_scale)
{
    return __fmul_rn(__fmul_rn((float)sum, x_scale), w_scale);
}

static __device__ inline void store(const struct product &p, int row, int n, float v)
{
    float *y = p.y + (size_t)row * (size_t)p.w.n + (size_t)n;
    if (p.w.bias)
        v += p.w.bias[n]; /* v left __fmul_rn or a shuffle: nothing to fuse with */
    *y = p.accumulate ? *y + v : v;
}

/* Weights may be read before dependency_wait(), activations behind it. */
int linear_plain(const struct gpu *g, const struct product *p);
int linear_skinny_q8(const struct gpu *g, const struct product *p);
int linear_skinny_exact(const struct gpu *g, const struct product *p);
int linear_skinny_half(const struct gpu *g, const struct product *p);
int linear_tile_small(const struct gpu *g, const struct product *p);
int linear_tile_large(const struct gpu *g, const struct product *p);
int linear_turned(const struct gpu *g, const struct product *p);
int linear_wgmma(const struct gpu *g, const struct product *p);

#endif

/* Row-wise kernels: embed, norm, convert, swiglu, gather. One block per row; a row is read
 * from memory once or twice (the second time from cache) and written once, so each is limited
 * by bandwidth and by the launch. The sums of a row are taken in an order that depends on the
 * row's length alone. */
#include "kernels/device.cuh"

enum { ROW_THREADS = 256 };

struct row_shared {
    float part[WARP];
};

static __global__ void embed_kernel(float *x, struct weight table, const int32_t *ids,
                                    const int32_t *picked)
{
    follow();
    size_t row = blockIdx.x;
    int32_t id = ids[row] < 0 ? picked[~ids[row]] : ids[row];
    if (id < 0)
        id = 0; /* a failed pick: its request is over, its row is wasted */
    size_t from = (size_t)id * (size_t)table.k;
    for (int i = (int)threadIdx.x; i < table.k; i += ROW_THREADS) {
        float v = table.kind == NUM_Q8 ? (float)table.q[from + (size_t)i] * table.scale[id]
                                       : table.f[from + (size_t)i];
        x[row * (size_t)table.k + (size_t)i] = v;
    }
}

/* Writes row of y from value(i): quantized by the row's own absmax, or plain. */
template <typename F>
static __device__ void write_row(const struct act &y, size_t row, int dim, float *part, F value)
{
    size_t at = row * (size_t)dim;
    if (y.kind == NUM_F32) {
        for (int i = (int)threadIdx.x; i < dim; i += ROW_THREADS)
            y.f[at + (size_t)i] = value(i);
        return;
    }
    float most = 0.0f;
    for (int i = (int)threadIdx.x; i < dim; i += ROW_THREADS)
        most = max_or_nan(fabsf(value(i)), most);
    most = block_max(most, part);
    float inverse = inverse_scale(most);
    for (int i = (int)threadIdx.x; i < dim; i += ROW_THREADS)
        y.q[at + (size_t)i] = quantize(value(i), inverse);
    if (threadIdx.x == 0)
        y.scale[row] = stored_scale(most);
}

static __global__ void norm_kernel(struct act y, const float *x, const float *gain, float eps,
                                   int dim)
{
    SHARED(struct row_shared, sm);
    follow();
    size_t row = blockIdx.x;
    const float *in = x + row * (size_t)dim;
    float sum = 0.0f;
    for (int i = (int)threadIdx.x; i < dim; i += ROW_THREADS)
        sum = fmaf(in[i], in[i], sum);
    sum = block_sum(sum, sm.part);
    float inverse = 1.0f / sqrtf(sum / (float)dim + eps);
    write_row(y, row, dim, sm.part, [=](int i) { return in[i] * inverse * gain[i]; });
}

static __global__ void convert_kernel(struct act y, const float *x, int dim)
{
    SHARED(struct row_shared, sm);
    follow();
    size_t row = blockIdx.x;
    const float *in = x + row * (size_t)dim;
    write_row(y, row, dim, sm.part, [=](int i) { return in[i]; });
}

static __global__ void swiglu_kernel(struct act y, const float *gate_up, int hidden)
{
    SHARED(struct row_shared, sm);
    follow();
    size_t row = blockIdx.x;
    const float *gate = gate_up + row * 2 * (size_t)hidden;
    const float *up = gate + hidden;
    write_row(y, row, hidden, sm.part,
              [=](int i) { return gate[i] / (1.0f + expf(-gate[i])) * up[i]; });
}

static __global__ void gather_kernel(float *y, const float *x, const int32_t *index, int dim)
{
    follow();
    size_t row = blockIdx.x;
    const float *in = x + (size_t)index[row] * (size_t)dim;
    for (int i = (int)threadIdx.x; i < dim; i += ROW_THREADS)
        y[row * (size_t)dim + (size_t)i] = in[i];
}

int launch_embed(const struct gpu *g, float *x, const struct weight *table, const int32_t *ids,
                 const int32_t *picked, int32_t rows)
{
    return launch(embed_kernel, dim3((unsigned)rows), ROW_THREADS, 0, g, x, *table, ids, picked);
}

int launch_norm(const struct gpu *g, const struct act *y, const float *x, const float *gain,
                float eps, int32_t rows, int32_t dim)
{
    return launch(norm_kernel, dim3((unsigned)rows), ROW_THREADS, sizeof(struct row_shared), g, *y,
                  x, gain, eps, dim);
}

int launch_convert(const struct gpu *g, const struct act *y, const float *x, int32_t rows,
                   int32_t dim)
{
    return launch(convert_kernel, dim3((unsigned)rows), ROW_THREADS, sizeof(struct row_shared), g,
                  *y, x, dim);
}

int launch_swiglu(const struct gpu *g, const struct act *y, const float *gate_up, int32_t rows,
                  int32_t hidden)
{
    return launch(swiglu_kernel, dim3((unsigned)rows), ROW_THREADS, sizeof(struct row_shared), g,
                  *y, gate_up, hidden);
}

int launch_gather(const struct gpu *g, float *y, const float *x, const int32_t *index, int32_t rows,
                  int32_t dim)
{
    return launch(gather_kernel, dim3((unsigned)rows), ROW_THREADS, 0, g, y, x, index, dim);
}

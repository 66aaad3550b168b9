/* RoPE, and the write of keys and values into the paged cache.
 *
 * What a thread has of a head is four neighbours and the four that they are turned with: two loads
 * of 16 bytes, all of a row under way at once, and everything after in registers. A block's sines
 * are computed once, for all its heads, while the loads are on their way. Heads whose halves are
 * not whole fours, and caches that do not lie on them, take the plain kernel at the end.
 *
 * Which of them a head takes, and in which order its squares are added, is a matter of the model.
 */
#include "kernels/attention.cuh"
#include "kernels/half.h"

enum {
    ROPE_THREADS = 256,
    ROPE_HALF_MAX = 128, /* of the heads that are taken by fours */
    ANY_THREADS = WARP,
};

struct rope_shared {
    float cosine[ROPE_HALF_MAX];
    float sine[ROPE_HALF_MAX];
};

/* ---- by fours --------------------------------------------------------------------------- */

/* A head's lanes are LANES neighbours, of which the last may have nothing. */
template <int LANES> static __device__ inline float head_sum(float v)
{
#pragma unroll
    for (int d = LANES / 2; d > 0; d /= 2)
        v += __shfl_xor_sync(0xffffffffu, v, d);
    return v;
}

template <int LANES> static __device__ inline float head_most(float v)
{
#pragma unroll
    for (int d = LANES / 2; d > 0; d /= 2)
        v = max_or_nan(v, __shfl_xor_sync(0xffffffffu, v, d));
    return v;
}

/* The part of a head that one lane has: a four of the first half and of the second. */
struct pair {
    float4 a;
    float4 b;
};

static __device__ inline struct pair turned(const struct pair &v, float4 cosine, float4 sine)
{
    return {{v.a.x * cosine.x - v.b.x * sine.x, v.a.y * cosine.y - v.b.y * sine.y,
             v.a.z * cosine.z - v.b.z * sine.z, v.a.w * cosine.w - v.b.w * sine.w},
            {v.b.x * cosine.x + v.a.x * sine.x, v.b.y * cosine.y + v.a.y * sine.y,
             v.b.z * cosine.z + v.a.z * sine.z, v.b.w * cosine.w + v.a.w * sine.w}};
}

static __device__ inline uint2 halves_of(float4 v)
{
    return {half_of_float(v.x) | (uint32_t)half_of_float(v.y) << 16,
            half_of_float(v.z) | (uint32_t)half_of_float(v.w) << 16};
}

/* four: the lane's place; fours: of half a head. most: of the whole head. */
static __device__ inline void keep_fours(const struct kept &to, const struct pair &v, int four,
                                         int fours, float most)
{
    if (to.kind == NUM_Q8) {
        uint32_t *row = static_cast<uint32_t *>(to.row) + four;
        float inverse = inverse_scale(most);
        row[0] = quantize4(v.a, inverse);
        row[fours] = quantize4(v.b, inverse);
        if (four == 0)
            *to.scale = stored_scale(most);
    } else if (to.kind == NUM_F16) {
        uint2 *row = static_cast<uint2 *>(to.row) + four;
        row[0] = halves_of(v.a);
        row[fours] = halves_of(v.b);
    } else {
        float4 *row = static_cast<float4 *>(to.row) + four;
        row[0] = v.a;
        row[fours] = v.b;
    }
}

/* blockIdx.y: which of the row's heads, queries, keys and values; LANES lanes take one. */
template <int LANES>
static __global__ void __launch_bounds__(ROPE_THREADS)
    rope_store_kernel(float *qkv, struct places p)
{
    SHARED(struct rope_shared, sm);
    int thread = (int)threadIdx.x;
    int n_heads = p.shape.n_heads;
    int n_keys = p.shape.n_kv_heads;
    int fours = p.shape.head_dim / 8;
    dependents_launch();
    float frequency = thread < 4 * fours ? p.shape.rope_freq[thread] : 0.0f; /* a weight */
    dependency_wait();
    int row = (int)blockIdx.x;
    int four = thread % LANES;
    int head = (int)blockIdx.y * (ROPE_THREADS / LANES) + thread / LANES;
    bool real = four < fours && head < n_heads + 2 * n_keys;
    bool stored = real && head >= n_heads;
    bool turns = head < n_heads + n_keys; /* no value */
    size_t first = (size_t)row * (size_t)(n_heads + 2 * n_keys) + (size_t)head;
    float4 *in = reinterpret_cast<float4 *>(qkv) + first * (size_t)(2 * fours) + four;
    struct pair v = {};
    if (real)
        v = {in[0], in[fours]};
    int position = p.step.position[row];
    int seq = p.step.row_seq[row];
    if (position < 0)
        return; /* nobody's row */
    struct kv_place at = {};
    if (stored)
        at = place_of(p, seq, position, head - n_heads - (turns ? 0 : n_keys));
    if (thread < 4 * fours)
        sincosf((float)position * frequency, &sm.sine[thread], &sm.cosine[thread]);
    __syncthreads();

    if (p.shape.q_norm || p.shape.k_norm) {
        float sum = head_sum<LANES>(square_sum4(v.a) + square_sum4(v.b));
        float inverse = rsqrtf(sum / (float)p.shape.head_dim + p.shape.norm_eps);
        const float *gain = stored ? p.shape.k_norm : p.shape.q_norm;
        if (real && turns && gain) {
            const float4 *g = reinterpret_cast<const float4 *>(gain) + four;
            v = {scaled4(v.a, inverse, g[0]), scaled4(v.b, inverse, g[fours])};
        }
    }
    if (real && turns)
        v = turned(v, reinterpret_cast<const float4 *>(sm.cosine)[four],
                   reinterpret_cast<const float4 *>(sm.sine)[four]);
    if (real && !stored) {
        in[0] = v.a;
        in[fours] = v.b;
    }
    float most = head_most<LANES>(max_or_nan(most4(v.a), most4(v.b)));
    if (stored)
        keep_fours(kept_at(p, turns, at), v, four, fours, most);
}

/* ---- any head --------------------------------------------------------------------------- */

static __device__ void rotate(float *v, const struct head_shape &shape, int position)
{
    int half = shape.head_dim / 2;
    for (int i = (int)threadIdx.x; i < half; i += ANY_THREADS) {
        float sine;
        float cosine;
        sincosf((float)position * shape.rope_freq[i], &sine, &cosine);
        float a = v[i];
        float b = v[i + half];
        v[i] = a * cosine - b * sine;
        v[i + half] = b * cosine + a * sine;
    }
    __syncwarp();
}

/* RMSNorm of one head. */
static __device__ void norm_head(float *v, const struct head_shape &shape, const float *gain)
{
    int dim = shape.head_dim;
    float sum = 0.0f;
    for (int i = (int)threadIdx.x; i < dim; i += ANY_THREADS)
        sum = fmaf(v[i], v[i], sum);
    float inverse = rsqrtf(warp_sum(sum) / (float)dim + shape.norm_eps);
    for (int i = (int)threadIdx.x; i < dim; i += ANY_THREADS)
        v[i] = v[i] * inverse * gain[i];
    __syncwarp();
}

static __device__ void keep(const struct kept &to, const float *v, int dim)
{
    if (to.kind != NUM_Q8) {
        for (int i = (int)threadIdx.x; i < dim; i += ANY_THREADS) {
            if (to.kind == NUM_F16)
                static_cast<uint16_t *>(to.row)[i] = half_of_float(v[i]);
            else
                static_cast<float *>(to.row)[i] = v[i];
        }
        return;
    }
    float most = 0.0f;
    for (int i = (int)threadIdx.x; i < dim; i += ANY_THREADS)
        most = max_or_nan(fabsf(v[i]), most);
    most = warp_most(most);
    float inverse = inverse_scale(most);
    for (int i = (int)threadIdx.x; i < dim; i += ANY_THREADS)
        static_cast<int8_t *>(to.row)[i] = quantize(v[i], inverse);
    if (threadIdx.x == 0)
        *to.scale = stored_scale(most);
}

/* blockIdx.y counts the heads of a row of qkv: queries, keys, values. */
static __global__ void rope_any_kernel(float *qkv, struct places p)
{
    follow();
    int row = (int)blockIdx.x;
    int head = (int)blockIdx.y;
    int dim = p.shape.head_dim;
    int n_all = p.shape.n_heads + 2 * p.shape.n_kv_heads;
    float *v = qkv + ((size_t)row * (size_t)n_all + (size_t)head) * (size_t)dim;
    int position = p.step.position[row];
    if (position < 0)
        return; /* nobody's row */
    int key_head = head - p.shape.n_heads;
    int value_head = key_head - p.shape.n_kv_heads;
    const float *gain = key_head < 0 ? p.shape.q_norm : p.shape.k_norm;
    if (value_head < 0 && gain)
        norm_head(v, p.shape, gain);
    if (value_head < 0)
        rotate(v, p.shape, position);
    if (key_head < 0)
        return;
    int kv_head = value_head < 0 ? key_head : value_head;
    struct kv_place at = place_of(p, p.step.row_seq[row], position, kv_head);
    keep(kept_at(p, value_head < 0, at), v, dim);
}

/* ---- launch ----------------------------------------------------------------------------- */

static bool lies_on(const void *p, size_t bytes)
{
    return (uintptr_t)p % bytes == 0;
}

/* Whether every load and store of fours is aligned, of floats and of the cache's numbers. */
static bool takes_fours(const float *qkv, const struct places *p)
{
    size_t four = kv_row_bytes(p->kv.kind, 4);
    return p->shape.head_dim % 8 == 0 && p->shape.head_dim <= 2 * ROPE_HALF_MAX &&
           lies_on(qkv, sizeof(float4)) && lies_on(p->shape.q_norm, sizeof(float4)) &&
           lies_on(p->shape.k_norm, sizeof(float4)) && lies_on(p->kv.key, four) &&
           lies_on(p->kv.value, four) && p->kv.block_bytes % four == 0;
}

template <int LANES>
static int launch_fours(const struct gpu *g, float *qkv, const struct places *p, int n_all)
{
    int each = ROPE_THREADS / LANES;
    dim3 grid((unsigned)p->step.n_rows, (unsigned)((n_all + each - 1) / each));
    return launch(rope_store_kernel<LANES>, grid, ROPE_THREADS, sizeof(struct rope_shared), g, qkv,
                  *p);
}

int launch_rope_store(const struct gpu *g, float *qkv, const struct kv_layer *kv,
                      const struct step_view *step, const struct head_shape *shape)
{
    struct places p = {*kv, *step, *shape};
    int n_all = shape->n_heads + 2 * shape->n_kv_heads;
    if (!takes_fours(qkv, &p)) {
        dim3 grid((unsigned)step->n_rows, (unsigned)n_all);
        return launch(rope_any_kernel, grid, ANY_THREADS, 0, g, qkv, p);
    }
    if (shape->head_dim <= 8 * 8)
        return launch_fours<8>(g, qkv, &p, n_all);
    if (shape->head_dim <= 8 * 16)
        return launch_fours<16>(g, qkv, &p, n_all);
    return launch_fours<32>(g, qkv, &p, n_all);
}

/* RoPE with the write into the paged cache, and the attention that takes any head and any cache;
 * what tensor cores can take is in attention_flash.cu.
 *
 * attention: one block per (row, head). It walks the row's context in chunks of
 * ATTENTION_CHUNK absolute positions with an online softmax, so the order of every sum is a
 * function of the row's position alone: the same bits in any batch and for any chunking of
 * the prompt. */
#include "kernels/attention.cuh"
#include "kernels/half.h"

enum { ROPE_THREADS = WARP, ATTENTION_THREADS = 128, ATTENTION_CHUNK = 256, HEAD_DIM_MAX = 256 };

static __device__ void rotate(float *v, const struct head_shape &shape, int position)
{
    int half = shape.head_dim / 2;
    for (int i = (int)threadIdx.x; i < half; i += ROPE_THREADS) {
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
    for (int i = (int)threadIdx.x; i < dim; i += ROPE_THREADS)
        sum = fmaf(v[i], v[i], sum);
    float inverse = 1.0f / sqrtf(warp_sum(sum) / (float)dim + shape.norm_eps);
    for (int i = (int)threadIdx.x; i < dim; i += ROPE_THREADS)
        v[i] = v[i] * inverse * gain[i];
    __syncwarp();
}

/* A key or value of a token; scale: its own, with NUM_Q8. */
struct kept {
    enum number kind;
    void *row;
    float *scale;
};

static __device__ inline struct kept kept_at(const struct places &p, bool key, struct kv_place at)
{
    const struct kv_layer &kv = p.kv;
    size_t bytes = kv_row_bytes(kv.kind, p.shape.head_dim);
    struct kept k = {kv.kind, kv_row(key ? kv.key : kv.value, at, bytes), NULL};
    if (kv.kind == NUM_Q8)
        k.scale = kv_scale(key ? kv.key_scale : kv.value_scale, at);
    return k;
}

static __device__ void keep(const struct kept &to, const float *v, int dim)
{
    if (to.kind != NUM_Q8) {
        for (int i = (int)threadIdx.x; i < dim; i += ROPE_THREADS) {
            if (to.kind == NUM_F16)
                static_cast<uint16_t *>(to.row)[i] = half_of_float(v[i]);
            else
                static_cast<float *>(to.row)[i] = v[i];
        }
        return;
    }
    float most = 0.0f;
    for (int i = (int)threadIdx.x; i < dim; i += ROPE_THREADS)
        most = max_or_nan(fabsf(v[i]), most);
    most = warp_max(most);
    float inverse = inverse_scale(most);
    for (int i = (int)threadIdx.x; i < dim; i += ROPE_THREADS)
        static_cast<int8_t *>(to.row)[i] = quantize(v[i], inverse);
    if (threadIdx.x == 0)
        *to.scale = stored_scale(most);
}

/* blockIdx.y counts the heads of a row of qkv: queries, keys, values. */
static __global__ void rope_store_kernel(float *qkv, struct places p)
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

struct attention_shared {
    float query[HEAD_DIM_MAX];
    float weight[ATTENTION_CHUNK];
    struct kv_place place[ATTENTION_CHUNK];
    float part[WARP];
};

/* Without the scale. */
static __device__ inline float number_at(const struct kept &from, int i)
{
    return from.kind == NUM_F32   ? static_cast<const float *>(from.row)[i]
           : from.kind == NUM_F16 ? float_of_half(static_cast<const uint16_t *>(from.row)[i])
                                  : (float)static_cast<const int8_t *>(from.row)[i];
}

static __device__ float score(const struct places &p, const float *query, struct kv_place at)
{
    const struct kept key = kept_at(p, true, at);
    float sum = 0.0f;
    for (int i = 0; i < p.shape.head_dim; i++)
        sum = fmaf(query[i], number_at(key, i), sum);
    return key.kind == NUM_Q8 ? sum * *key.scale : sum;
}

static __device__ inline float value_at(const struct places &p, struct kv_place at, int i)
{
    const struct kept value = kept_at(p, false, at);
    float v = number_at(value, i);
    return value.kind == NUM_Q8 ? v * *value.scale : v;
}

/* Scores of the chunk's positions begin .. n - 1 into sm.weight; returns this thread's largest. */
static __device__ float chunk_scores(const struct places &p, struct attention_shared &sm, int seq,
                                     int kv_head, int first, int begin, int n)
{
    float most = -INFINITY;
    for (int i = begin + (int)threadIdx.x; i < n; i += ATTENTION_THREADS) {
        sm.place[i] = place_of(p, seq, first + i, kv_head);
        sm.weight[i] = score(p, sm.query, sm.place[i]) * p.shape.score_scale;
        most = max_or_nan(sm.weight[i], most);
    }
    return most;
}

static __global__ void attention_kernel(float *y, const float *qkv, struct places p)
{
    SHARED(struct attention_shared, sm);
    follow();
    int row = (int)blockIdx.x;
    int head = (int)blockIdx.y;
    int dim = p.shape.head_dim;
    int kv_head = head / (p.shape.n_heads / p.shape.n_kv_heads);
    int n_all = p.shape.n_heads + 2 * p.shape.n_kv_heads;
    const float *query = qkv + ((size_t)row * (size_t)n_all + (size_t)head) * (size_t)dim;
    int context = p.step.position[row] + 1;
    if (context == 0)
        return; /* nobody's row */
    for (int i = (int)threadIdx.x; i < dim; i += ATTENTION_THREADS)
        sm.query[i] = query[i];
    __syncthreads();

    int window = p.shape.window;
    int from = window > 0 && context > window ? context - window : 0;
    int chunk0 = from - from % ATTENTION_CHUNK;
    float most = -INFINITY;
    float total = 0.0f;
    float out[HEAD_DIM_MAX / ATTENTION_THREADS] = {};
    for (int first = chunk0; first < context; first += ATTENTION_CHUNK) {
        int begin = from > first ? from - first : 0;
        int n = context - first < ATTENTION_CHUNK ? context - first : ATTENTION_CHUNK;
        float here = chunk_scores(p, sm, p.step.row_seq[row], kv_head, first, begin, n);
        float next = max_or_nan(most, block_max(here, sm.part));
        float shrink = first > chunk0 ? expf(most - next) : 0.0f;
        float sum = 0.0f;
        for (int i = begin + (int)threadIdx.x; i < n; i += ATTENTION_THREADS) {
            sm.weight[i] = expf(sm.weight[i] - next);
            sum += sm.weight[i];
        }
        total = total * shrink + block_sum(sum, sm.part); /* also orders weight before use */
        most = next;
        for (int j = 0; j < HEAD_DIM_MAX / ATTENTION_THREADS; j++) {
            int d = (int)threadIdx.x + j * ATTENTION_THREADS;
            out[j] *= shrink;
            for (int i = begin; d < dim && i < n; i++)
                out[j] = fmaf(sm.weight[i], value_at(p, sm.place[i], d), out[j]);
        }
        __syncthreads(); /* the next chunk overwrites weight and place */
    }
    float *to = y + ((size_t)row * (size_t)p.shape.n_heads + (size_t)head) * (size_t)dim;
    for (int j = 0; j < HEAD_DIM_MAX / ATTENTION_THREADS; j++) {
        int d = (int)threadIdx.x + j * ATTENTION_THREADS;
        if (d < dim)
            to[d] = out[j] / total;
    }
}

int launch_rope_store(const struct gpu *g, float *qkv, const struct kv_layer *kv,
                      const struct step_view *step, const struct head_shape *shape)
{
    struct places p = {*kv, *step, *shape};
    dim3 grid((unsigned)step->n_rows, (unsigned)(shape->n_heads + 2 * shape->n_kv_heads));
    return launch(rope_store_kernel, grid, ROPE_THREADS, 0, g, qkv, p);
}

int launch_attention(const struct gpu *g, float *y, const float *qkv, const struct kv_layer *kv,
                     const struct step_view *step, const struct head_shape *shape)
{
    if (shape->head_dim > HEAD_DIM_MAX)
        return (int)cudaErrorInvalidValue;
    struct places p = {*kv, *step, *shape};
    if (attention_flash_fits(&p))
        return attention_flash(g, y, qkv, &p);
    dim3 grid((unsigned)step->n_rows, (unsigned)shape->n_heads);
    return launch(attention_kernel, grid, ATTENTION_THREADS, sizeof(struct attention_shared), g, y,
                  qkv, p);
}

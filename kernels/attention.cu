/* The attention that takes any head and any cache; what tensor cores can take is in
 * attention_few.cu and attention_many.cu, RoPE and the write into the cache in rope.cu.
 *
 * One block per (row, head). It walks the row's context in chunks of
 * ATTENTION_CHUNK absolute positions with an online softmax, so the order of every sum is a
 * function of the row's position alone: the same bits in any batch and for any chunking of
 * the prompt. */
#include "kernels/attention.cuh"
#include "kernels/half.h"

enum { ATTENTION_THREADS = 128, ATTENTION_CHUNK = 256, HEAD_DIM_MAX = 256 };

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

/* Four chunks of wide halves are more than some devices have: there prompts' kernel does all. */
static int attention_flash(const struct gpu *g, float *y, const float *qkv, const struct places *p)
{
    int most;
    int error = attention_few(g, y, qkv, p, &most);
    if (error || (most > 0 && p->step.n_rows == p->step.n_seqs))
        return error;
    return attention_many(g, y, qkv, p, most);
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

/* The most likely token of each row of logits: one block a row. What needs more than that is
 * drawn on the host from the same logits (ops_cuda.cu). */
#include "kernels/device.cuh"

enum { PICK_THREADS = 512 };

struct best {
    float value;
    int id;
    int bad; /* something was not finite */
};

/* The larger value, of equals the lower id. */
static __device__ inline struct best better(struct best a, struct best b)
{
    bool second = b.value > a.value || (b.value == a.value && b.id < a.id);
    struct best r = second ? b : a;
    r.bad = a.bad | b.bad;
    return r;
}

static __device__ inline struct best warp_best(struct best v)
{
    for (int d = WARP / 2; d > 0; d /= 2) {
        struct best other;
        other.value = __shfl_xor_sync(0xffffffffu, v.value, d);
        other.id = __shfl_xor_sync(0xffffffffu, v.id, d);
        other.bad = __shfl_xor_sync(0xffffffffu, v.bad, d);
        v = better(v, other);
    }
    return v;
}

struct pick_shared {
    struct best best[PICK_THREADS / WARP];
};

static __global__ void argmax_kernel(int32_t *token, const float *logits, int vocab)
{
    SHARED(struct pick_shared, sm);
    follow();
    const float *row = logits + (size_t)blockIdx.x * (size_t)vocab;
    struct best mine = {-INFINITY, INT32_MAX, 0};
    for (int i = (int)threadIdx.x; i < vocab; i += PICK_THREADS) {
        float v = row[i];
        mine.bad |= !(fabsf(v) < INFINITY);
        if (v > mine.value) {
            mine.value = v;
            mine.id = i;
        }
    }
    mine = warp_best(mine);
    if (threadIdx.x % WARP == 0)
        sm.best[threadIdx.x / WARP] = mine;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int w = 1; w < PICK_THREADS / WARP; w++)
            mine = better(mine, sm.best[w]);
        token[blockIdx.x] = mine.bad ? PICKED_BAD : mine.id;
    }
}

int launch_argmax(const struct gpu *g, int32_t *token, const float *logits, int32_t n_picks,
                  int32_t vocab)
{
    return launch(argmax_kernel, dim3((unsigned)n_picks), PICK_THREADS, sizeof(struct pick_shared),
                  g, token, logits, vocab);
}

#ifndef KERNELS_LAUNCH_H
#define KERNELS_LAUNCH_H

#include "kernels/ops.h"
#include "kernels/pick_pack.h"

/* Host side of the kernels: one function per operation, each picks a grid and launches.
 * Called by ops_cuda.cu alone. The stream type is CUDA's own opaque one, so this header
 * needs no CUDA. Each returns 0 or the cudaError_t of the launch; none allocates or waits. */
typedef struct CUstream_st *gpu_stream;

/* Where blocks that share one result leave their parts: integers of a product, or a few keys'
 * share of an attention. One stream, hence one user at a time. */
struct partials {
    union {
        int *sum;    /* device [room] */
        float *part; /* device [room] */
    };
    size_t room;
    unsigned *arrived; /* device [arrived_room], 0 between launches */
    unsigned arrived_room;
};

struct gpu {
    gpu_stream stream;
    int sm;     /* 90 for sm_90 */
    bool early; /* a kernel may start while the one before it ends */
    int n_multiprocessors;
    const char *only; /* tests and benches: the one kernel of linear.cu to use; NULL: the table's */
    struct partials partials;
};

/* picked [n]: what the step before drew, for negative ids. */
int launch_embed(const struct gpu *g, float *x, const struct weight *table, const int32_t *ids,
                 const int32_t *picked, int32_t rows);
int launch_norm(const struct gpu *g, const struct act *y, const float *x, const float *gain,
                float eps, int32_t rows, int32_t dim);
int launch_convert(const struct gpu *g, const struct act *y, const float *x, int32_t rows,
                   int32_t dim);
int launch_swiglu(const struct gpu *g, const struct act *y, const float *gate_up, int32_t rows,
                  int32_t hidden);
int launch_gather(const struct gpu *g, float *y, const float *x, const int32_t *index, int32_t rows,
                  int32_t dim);
int launch_linear(const struct gpu *g, float *y, const struct act *x, const struct weight *w,
                  int32_t rows, bool accumulate);
int launch_rope_store(const struct gpu *g, float *qkv, const struct kv_layer *kv,
                      const struct step_view *step, const struct head_shape *shape);
int launch_attention(const struct gpu *g, float *y, const float *qkv, const struct kv_layer *kv,
                     const struct step_view *step, const struct head_shape *shape);

/* Of a step's picks, all on the device. */
struct pick_buffers {
    struct pick_task *task;     /* [PICKS_MAX] */
    struct pick_result *result; /* [PICKS_MAX] */
    int32_t *token;             /* [PICKS_MAX] */
};

/* A token per row of logits [n_picks][vocab]; what is edited there is put back. */
int launch_pick(const struct gpu *g, const struct pick_buffers *b, float *logits, int32_t n_picks,
                int32_t vocab);

#endif

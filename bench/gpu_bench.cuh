#ifndef BENCH_GPU_BENCH_CUH
#define BENCH_GPU_BENCH_CUH

#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_fp16.h>

#include "kernels/launch.h"

/* What the parts of bench_gpu share: the device, its buffers, and how a launch is timed. */

enum {
    LAUNCHES_MAX = 64, /* of one graph */
    REPLAYS_MAX = 15,
    REPLAYS_MIN = 3,
    ROWS_MAX = 2048,
    BLOCK_TOKENS = 16,
    CONTEXT_MAX = 8192,
    SEQS_MAX = 256,
    LAYERS = 32, /* of a block of the cache */
    PARTIAL_SUMS = 16 << 20,
    PARTIAL_TILES = 4096,
};

static const size_t COLD_BYTES = (size_t)512 << 20; /* several times any L2 */
static const size_t WEIGHT_BYTES = (size_t)3 << 29; /* of the buffers that weights are cut from */
static const size_t HALF_BYTES = (size_t)5 << 29;
static const size_t CACHE_BYTES = (size_t)4 << 30;
static const size_t WORKSPACE_BYTES = (size_t)64 << 20;
static const double LINE_SECONDS = 0.06;

struct bench {
    cudaStream_t stream;
    cudaEvent_t from;
    cudaEvent_t to;
    struct gpu gpu;
    cublasHandle_t blas;
    cublasLtHandle_t lt;
    void *workspace;
    int8_t *weights; /* [WEIGHT_BYTES] */
    __half *halves;  /* [HALF_BYTES] */
    float *scales;   /* [SCALES] */
    int8_t *xq;
    float *xf;
    __half *xh;
    float *y;
    double deadline;
    double read_gbps;
    double int8_tops;
    const char *part;  /* NULL: all */
    const char *model; /* NULL: all */
};

/* y [rows][n] = x [rows][k] W [n][k]^T of a model. */
struct bench_product {
    const char *model;
    const char *name;
    int n;
    int k;
    enum number act;
};

/* Ends the program. */
void must(int error, const char *what, int line);
#define MUST(call) must((int)(call), #call, __LINE__)

bool late(const struct bench *b);
void *take_bytes(size_t bytes);

struct times {
    double median; /* seconds of one launch */
    double least;
};

/* What issue(b, arg, i) launches, n times in one graph. False when it could not be launched. */
typedef int (*issue_fn)(struct bench *b, void *arg, int i);
bool measure(struct bench *b, issue_fn issue, void *arg, int n, struct times *out);

/* Of a graph: weights of so many bytes have left L2 when they are read again. */
int launches_for(size_t bytes);

/* Adds to *counter how many of n values differ. */
void count_differences(cudaStream_t stream, const float *a, const float *b, size_t n,
                       unsigned *counter);

void sweep(struct bench *b); /* gpu_sweep.cu */

#endif

/* What a GPU gives and what the kernels take of it, as one JSON object a line: the roofs (reading,
 * copying, int8 and fp16 products of NVIDIA's library), the products of real models by each kernel
 * of the table beside the library's, attention, and the gap between two kernels.
 *
 * Launches are recorded into a graph and its replays timed with events, so that the host's launch
 * time is not what is measured. Each launch of a graph reads another copy of its weights or of
 * the cache where one would stay in L2. Lines come as they are measured, the most
 * important first: a run that is cut short has still said something.
 *
 *     bench_gpu [--seconds 240] [--part roof|gap|linear|attention|rows|sweep] [--model NAME] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/bench_gpu.cuh"
#include "bench/gpu_bench.cuh"
#include "kernels/paged.h"

enum { SCALES = 1 << 18 };

void must(int error, const char *what, int line)
{
    if (error == 0)
        return;
    (void)fprintf(stderr, "bench_gpu: line %d: %s: error %d\n", line, what, error);
    exit(1);
}

static double now()
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

bool late(const struct bench *b)
{
    return now() > b->deadline;
}

void *take_bytes(size_t bytes)
{
    void *p = nullptr;
    MUST(cudaMalloc(&p, bytes));
    return p;
}

template <typename T> static T *take(size_t bytes)
{
    return static_cast<T *>(take_bytes(bytes));
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* ---- timing ---- */

static bool record(struct bench *b, issue_fn issue, void *arg, int n, cudaGraphExec_t *out)
{
    cudaGraph_t graph = nullptr;
    int error = issue(b, arg, 0); /* once outside: what is loaded at first use is loaded here */
    if (error != 0 || cudaStreamSynchronize(b->stream) != cudaSuccess) {
        (void)cudaGetLastError();
        return false;
    }
    MUST(cudaStreamBeginCapture(b->stream, cudaStreamCaptureModeRelaxed));
    for (int i = 0; i < n && error == 0; i++)
        error = issue(b, arg, i);
    if (cudaStreamEndCapture(b->stream, &graph) != cudaSuccess || error != 0) {
        (void)cudaGetLastError();
        if (graph)
            MUST(cudaGraphDestroy(graph));
        return false;
    }
    MUST(cudaGraphInstantiate(out, graph, 0));
    MUST(cudaGraphDestroy(graph));
    return true;
}

static double replay(struct bench *b, cudaGraphExec_t graph)
{
    float ms = 0.0f;
    MUST(cudaEventRecord(b->from, b->stream));
    MUST(cudaGraphLaunch(graph, b->stream));
    MUST(cudaEventRecord(b->to, b->stream));
    MUST(cudaEventSynchronize(b->to));
    MUST(cudaEventElapsedTime(&ms, b->from, b->to));
    return 1e-3 * (double)ms;
}

bool measure(struct bench *b, issue_fn issue, void *arg, int n, struct times *out)
{
    double took[REPLAYS_MAX];
    double spent = 0.0;
    int count = 0;
    cudaGraphExec_t graph;
    if (!record(b, issue, arg, n, &graph))
        return false;
    (void)replay(b, graph);
    (void)replay(b, graph);
    while (count < REPLAYS_MAX && (count < REPLAYS_MIN || spent < LINE_SECONDS)) {
        took[count] = replay(b, graph) / n;
        spent += took[count++] * n;
    }
    MUST(cudaGraphExecDestroy(graph));
    qsort(took, (size_t)count, sizeof(took[0]), by_value);
    *out = {took[count / 2], took[0]};
    return true;
}

int launches_for(size_t bytes)
{
    size_t n = COLD_BYTES / (bytes ? bytes : 1) + 1;
    return (int)(n < 4 ? 4 : n > (size_t)LAUNCHES_MAX ? (size_t)LAUNCHES_MAX : n);
}

void count_differences(cudaStream_t stream, const float *a, const float *b, size_t n,
                       unsigned *counter)
{
    differences<<<1024, 256, 0, stream>>>(a, b, n, counter);
}

/* ---- roofs ---- */

static int issue_read(struct bench *b, void *, int)
{
    int blocks = b->gpu.n_multiprocessors * 8;
    read_all<<<(unsigned)blocks, 512, 0, b->stream>>>((const uint4 *)b->weights, WEIGHT_BYTES / 16,
                                                      b->gpu.partials.arrived + PARTIAL_TILES - 1);
    return (int)cudaGetLastError();
}

static int issue_copy(struct bench *b, void *, int)
{
    int blocks = b->gpu.n_multiprocessors * 16;
    copy_all<<<(unsigned)blocks, 512, 0, b->stream>>>(
        (uint4 *)b->weights, (const uint4 *)(b->weights + WEIGHT_BYTES / 2), WEIGHT_BYTES / 32);
    return (int)cudaGetLastError();
}

static int issue_memcpy(struct bench *b, void *, int)
{
    return (int)cudaMemcpyAsync(b->weights, b->weights + WEIGHT_BYTES / 2, WEIGHT_BYTES / 2,
                                cudaMemcpyDeviceToDevice, b->stream);
}

/* y [m][n] = x [m][k] W [n][k]^T */
struct problem {
    int n;
    int k;
    int m;
    const char *kernel;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t lw;
    cublasLtMatrixLayout_t lx;
    cublasLtMatrixLayout_t ly;
    cublasLtMatmulAlgo_t algo;
};

static const int8_t *weights_of(const struct bench *b, const struct problem *p, int i)
{
    size_t bytes = (size_t)p->n * (size_t)p->k;
    return b->weights + (size_t)i % (WEIGHT_BYTES / bytes) * bytes;
}

/* NVIDIA's library reads matrices by columns, so it is asked for the transpose of y: its first
 * operand, turned, are the weights. Sums in integers have integers for scales. */
static void lt_open(struct problem *p)
{
    cublasOperation_t turned = CUBLAS_OP_T;
    MUST(cublasLtMatmulDescCreate(&p->desc, CUBLAS_COMPUTE_32I, CUDA_R_32I));
    MUST(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &turned,
                                        sizeof(turned)));
    MUST(cublasLtMatrixLayoutCreate(&p->lw, CUDA_R_8I, (uint64_t)p->k, (uint64_t)p->n, p->k));
    MUST(cublasLtMatrixLayoutCreate(&p->lx, CUDA_R_8I, (uint64_t)p->k, (uint64_t)p->m, p->k));
    MUST(cublasLtMatrixLayoutCreate(&p->ly, CUDA_R_32I, (uint64_t)p->n, (uint64_t)p->m, p->n));
}

/* The library's own choices for this problem, the best first by its reckoning. */
static int lt_choices(struct bench *b, const struct problem *p,
                      cublasLtMatmulHeuristicResult_t *found, int most)
{
    cublasLtMatmulPreference_t wish;
    int n = 0;
    uint64_t room = WORKSPACE_BYTES;
    MUST(cublasLtMatmulPreferenceCreate(&wish));
    MUST(cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &room,
                                              sizeof(room)));
    cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(b->lt, p->desc, p->lw, p->lx, p->ly,
                                                           p->ly, wish, most, found, &n);
    MUST(cublasLtMatmulPreferenceDestroy(wish));
    return status == CUBLAS_STATUS_SUCCESS ? n : 0;
}

static void lt_close(struct problem *p)
{
    MUST(cublasLtMatrixLayoutDestroy(p->lw));
    MUST(cublasLtMatrixLayoutDestroy(p->lx));
    MUST(cublasLtMatrixLayoutDestroy(p->ly));
    MUST(cublasLtMatmulDescDestroy(p->desc));
}

static int issue_lt(struct bench *b, void *arg, int i)
{
    struct problem *p = static_cast<struct problem *>(arg);
    int one = 1;
    int zero = 0;
    return (int)cublasLtMatmul(b->lt, p->desc, &one, weights_of(b, p, i), p->lw, b->xq, p->lx,
                               &zero, b->y, p->ly, b->y, p->ly, &p->algo, b->workspace,
                               WORKSPACE_BYTES, b->stream);
}

static int issue_half(struct bench *b, void *arg, int i)
{
    struct problem *p = static_cast<struct problem *>(arg);
    size_t values = (size_t)p->n * (size_t)p->k;
    const __half *w = b->halves + (size_t)i % (HALF_BYTES / 2 / values) * values;
    float one = 1.0f;
    float zero = 0.0f;
    return (int)cublasGemmEx(b->blas, CUBLAS_OP_T, CUBLAS_OP_N, p->n, p->m, p->k, &one, w,
                             CUDA_R_16F, p->k, b->xh, CUDA_R_16F, p->k, &zero, b->y, CUDA_R_16F,
                             p->n, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
}

/* The fastest of the library's first choices, which are not in the order of their times. */
static bool lt_times(struct bench *b, struct problem *p, int n, struct times *t)
{
    enum { CHOICES = 3 };
    cublasLtMatmulHeuristicResult_t found[CHOICES];
    struct times each;
    bool good = false;
    lt_open(p);
    int n_found = lt_choices(b, p, found, CHOICES);
    for (int i = 0; i < n_found; i++) {
        p->algo = found[i].algo;
        if (found[i].state != CUBLAS_STATUS_SUCCESS || !measure(b, issue_lt, p, n, &each))
            continue;
        *t = !good || each.median < t->median ? each : *t;
        good = true;
    }
    lt_close(p);
    return good;
}

static void say_rate(const char *name, double bytes, double ops, struct times t)
{
    printf("{\"part\":\"roof\",\"name\":\"%s\",\"us\":%.2f,\"least_us\":%.2f,\"gbps\":%.1f,"
           "\"tops\":%.1f}\n",
           name, 1e6 * t.median, 1e6 * t.least, 1e-9 * bytes / t.median, 1e-12 * ops / t.median);
    (void)fflush(stdout);
}

/* Always measured: the other parts are shares of it. */
static void roofs(struct bench *b)
{
    enum { SIDE = 8192 };
    struct problem square = {SIDE, SIDE, ROWS_MAX, "", {}, {}, {}, {}, {}};
    double ops = 2.0 * SIDE * SIDE * ROWS_MAX;
    struct times t;
    if (!measure(b, issue_read, nullptr, 2, &t))
        must(1, "reading", __LINE__);
    b->read_gbps = 1e-9 * (double)WEIGHT_BYTES / t.median;
    say_rate("read", (double)WEIGHT_BYTES, 0.0, t);
    if (measure(b, issue_copy, nullptr, 2, &t))
        say_rate("copy", (double)WEIGHT_BYTES, 0.0, t);
    if (measure(b, issue_memcpy, nullptr, 2, &t))
        say_rate("memcpy", (double)WEIGHT_BYTES, 0.0, t);
    fill_q8<<<1024, 256, 0, b->stream>>>(b->weights, WEIGHT_BYTES); /* the copies made two of one */
    if (lt_times(b, &square, 4, &t)) {
        b->int8_tops = 1e-12 * ops / t.median;
        say_rate("int8 product of the library, 2048 x 8192 x 8192", 0.0, ops, t);
    }
    if (measure(b, issue_half, &square, 4, &t))
        say_rate("fp16 product of the library, 2048 x 8192 x 8192", 0.0, ops, t);
}

/* ---- the gap between two kernels ---- */

static int issue_nothing(struct bench *b, void *early, int)
{
    struct gpu g = b->gpu;
    g.early = early != nullptr;
    return launch(nothing_much, dim3(1), 32, 0, &g, g.partials.sum);
}

static void gaps(struct bench *b)
{
    enum { CHAIN = LAUNCHES_MAX };
    struct times t;
    double least = 1e9;
    for (int round = 0; round < REPLAYS_MAX; round++) {
        float ms = 0.0f;
        MUST(cudaEventRecord(b->from, b->stream));
        for (int i = 0; i < CHAIN; i++)
            MUST(issue_nothing(b, nullptr, i));
        MUST(cudaEventRecord(b->to, b->stream));
        MUST(cudaEventSynchronize(b->to));
        MUST(cudaEventElapsedTime(&ms, b->from, b->to));
        least = (double)ms < least ? (double)ms : least;
    }
    printf("{\"part\":\"gap\",\"name\":\"stream\",\"least_us\":%.2f}\n", 1e3 * least / CHAIN);
    if (measure(b, issue_nothing, nullptr, CHAIN, &t))
        printf("{\"part\":\"gap\",\"name\":\"graph\",\"least_us\":%.2f}\n", 1e6 * t.least);
    if (measure(b, issue_nothing, b, CHAIN, &t))
        printf("{\"part\":\"gap\",\"name\":\"graph, early start\",\"least_us\":%.2f}\n",
               1e6 * t.least);
    (void)fflush(stdout);
}

/* ---- products ---- */

struct model_shape {
    const char *name;
    int dim;
    int hidden;
    int heads;
    int kv_heads;
    int head_dim;
    int vocab;
};

static const struct model_shape models[] = {
    {"llama-2-7b", 4096, 11008, 32, 32, 128, 32000},
    {"llama-3-8b", 4096, 14336, 32, 8, 128, 128256},
    {"tinyllama", 2048, 5632, 32, 4, 64, 32000},
};

/* Of the products' table: what each is measured for. Names as FIRSTLIGHT_LINEAR takes them. */
static const struct kernel_row {
    const char *name;
    enum number act;
    int rows_max;
    int sm; /* 0: any */
} kernel_rows[] = {
    {"skinny", NUM_Q8, 64, 0},         {"tile 64", NUM_Q8, ROWS_MAX, 0},
    {"tile 128", NUM_Q8, ROWS_MAX, 0}, {"turned", NUM_Q8, ROWS_MAX, 90},
    {"wgmma", NUM_Q8, ROWS_MAX, 90},   {"skinny half", NUM_F32, 128, 0},
};

/* The ends first: they say most. */
static const int row_counts[] = {1, 2048, 32, 8, 16, 64, 128, 512};

static int issue_linear(struct bench *b, void *arg, int i)
{
    struct problem *p = static_cast<struct problem *>(arg);
    bool half = strcmp(p->kernel, "skinny half") == 0;
    enum number act = half ? NUM_F32 : NUM_Q8;
    struct act x = {act, b->xq, b->scales, b->xf};
    struct weight w = {};
    w.kind = NUM_Q8;
    w.act = act;
    w.q = weights_of(b, p, i);
    w.scale = b->scales;
    w.n = p->n;
    w.k = p->k;
    b->gpu.only = p->kernel;
    return launch_linear(&b->gpu, b->y, &x, &w, p->m, false);
}

/* roof: the time that reading and multiplying cannot do without, over the time it took. */
static void say_linear(const struct bench *b, const char *model, const char *name,
                       const struct problem *p, const char *kernel, int width, struct times t)
{
    double bytes = (double)width * p->k * ((double)p->n + p->m) + 4.0 * p->m * (double)p->n;
    double ops = 2.0 * p->m * (double)p->n * p->k;
    double reading = bytes / (1e9 * b->read_gbps);
    double counting = b->int8_tops > 0.0 ? ops / (1e12 * b->int8_tops) : 0.0;
    printf("{\"part\":\"linear\",\"model\":\"%s\",\"name\":\"%s\",\"n\":%d,\"k\":%d,\"rows\":%d,"
           "\"kernel\":\"%s\",\"us\":%.2f,\"least_us\":%.2f,\"gbps\":%.1f,\"tops\":%.2f,"
           "\"roof\":%.3f}\n",
           model, name, p->n, p->k, p->m, kernel, 1e6 * t.median, 1e6 * t.least,
           1e-9 * bytes / t.median, 1e-12 * ops / t.median,
           (reading > counting ? reading : counting) / t.median);
    (void)fflush(stdout);
}

static void one_linear(struct bench *b, const char *model, const char *name, struct problem p)
{
    struct times t;
    size_t bytes = (size_t)p.n * (size_t)p.k;
    for (size_t i = 0; i < ARRAY_LEN(kernel_rows) && !late(b); i++) {
        const struct kernel_row *row = &kernel_rows[i];
        if (p.m > row->rows_max || (row->sm && row->sm != b->gpu.sm))
            continue;
        p.kernel = row->name;
        if (measure(b, issue_linear, &p, launches_for(bytes), &t))
            say_linear(b, model, name, &p, row->name, 1, t);
    }
    if (!late(b) && lt_times(b, &p, launches_for(bytes), &t))
        say_linear(b, model, name, &p, "library int8", 1, t);
    if (!late(b) && measure(b, issue_half, &p, launches_for(2 * bytes), &t))
        say_linear(b, model, name, &p, "library fp16", 2, t);
}

static void linears(struct bench *b)
{
    for (size_t r = 0; r < ARRAY_LEN(row_counts); r++)
        for (size_t i = 0; i < ARRAY_LEN(models); i++) {
            const struct model_shape *s = &models[i];
            if (b->model && strcmp(b->model, s->name) != 0)
                continue;
            int qkv = (s->heads + 2 * s->kv_heads) * s->head_dim;
            const struct {
                const char *name;
                int n;
                int k;
            } products[] = {{"qkv", qkv, s->dim},
                            {"out", s->dim, s->dim},
                            {"gate_up", 2 * s->hidden, s->dim},
                            {"down", s->dim, s->hidden},
                            {"head", s->vocab, s->dim}};
            for (size_t j = 0; j < ARRAY_LEN(products) && !late(b); j++) {
                struct problem p = {
                    products[j].n, products[j].k, row_counts[r], "", {}, {}, {}, {}, {}};
                /* No step takes the logits of more rows. */
                if (p.n != s->vocab || p.m <= SEQS_MAX)
                    one_linear(b, s->name, products[j].name, p);
            }
        }
}

/* ---- attention ---- */

struct scene {
    enum number kind;
    struct head_shape shape;
    struct step_view step;
    char *cache;   /* [CACHE_BYTES] */
    int32_t *ints; /* the arrays of step */
    size_t blocks; /* of all sequences */
};

static int issue_attention(struct bench *b, void *arg, int i)
{
    struct scene *s = static_cast<struct scene *>(arg);
    size_t each = kv_layer_bytes(s->kind, &s->shape);
    size_t copies = CACHE_BYTES / (s->blocks * each);
    /* Launches take the layers of the same blocks, then those of others. */
    size_t layers = copies < LAYERS ? copies : LAYERS;
    size_t group = (size_t)i / layers % (copies / layers);
    char *base = s->cache + (group * s->blocks * layers + (size_t)i % layers) * each;
    struct kv_layer kv = kv_layer_at(s->kind, &s->shape, base, layers * each);
    return launch_attention(&b->gpu, b->y, b->xf, &kv, &s->step, &s->shape);
}

/* seqs sequences, rows rows each, the last of them at the end of context tokens. */
static void place(struct scene *s, int seqs, int rows, int context)
{
    int stride = (context + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
    size_t n_rows = (size_t)seqs * (size_t)rows;
    size_t n = 2 * n_rows + (size_t)seqs + 1 + (size_t)seqs * (size_t)stride;
    int32_t *host = static_cast<int32_t *>(malloc(n * sizeof(*host)));
    if (!host)
        exit(1);
    int32_t *start = host + 2 * n_rows;
    int32_t *table = start + seqs + 1;
    for (size_t i = 0; i < n_rows; i++) {
        host[i] = context - rows + (int32_t)(i % (size_t)rows);
        host[n_rows + i] = (int32_t)(i / (size_t)rows);
    }
    for (int i = 0; i <= seqs; i++)
        start[i] = i * rows;
    /* Blocks of all sequences interleaved, as a server that has run for a while has them. */
    for (int i = 0; i < seqs; i++)
        for (int j = 0; j < stride; j++)
            table[i * stride + j] = j * seqs + i;
    MUST(cudaMemcpy(s->ints, host, n * sizeof(*host), cudaMemcpyHostToDevice));
    free(host);
    s->step = {(int32_t)n_rows,
               seqs,
               s->ints,
               s->ints + n_rows,
               s->ints + 2 * n_rows,
               s->ints + 2 * n_rows + seqs + 1,
               stride,
               context};
    s->blocks = (size_t)seqs * (size_t)stride;
}

/* Decodes are measured as the product runs them; then over halves, and with the device said to be
 * smaller or larger than it is, which is what the number of blocks per sequence goes by. */
static const struct attention_way {
    const char *name;
    enum number kind;
    int devices; /* halves of one; 0: a sequence is never split */
} attention_ways[] = {
    {"decode", NUM_Q8, 2},
    {"decode, halves", NUM_F16, 2},
    {"decode, never split", NUM_Q8, 0},
    {"decode, half the blocks", NUM_Q8, 1},
    {"decode, twice the blocks", NUM_Q8, 4},
};

static void one_attention(struct bench *b, struct scene *s, const char *model, const char *name,
                          int seqs, int rows, int context)
{
    struct times t;
    const struct head_shape *h = &s->shape;
    double keys = (double)seqs * context * h->n_kv_heads;
    double bytes = 2.0 * keys * (s->kind == NUM_Q8 ? h->head_dim + 4.0 : 2.0 * h->head_dim);
    double seen = (double)rows * (context - (rows - 1) / 2.0);
    double ops = 4.0 * seqs * h->n_heads * (double)h->head_dim * seen;
    if (bytes > (double)CACHE_BYTES || late(b))
        return;
    place(s, seqs, rows, context);
    if (!measure(b, issue_attention, s, launches_for((size_t)bytes), &t))
        return;
    printf("{\"part\":\"attention\",\"model\":\"%s\",\"name\":\"%s\",\"seqs\":%d,\"rows\":%d,"
           "\"context\":%d,\"us\":%.2f,\"least_us\":%.2f,\"gbps\":%.1f,\"tops\":%.2f,"
           "\"roof\":%.3f}\n",
           model, name, seqs, rows, context, 1e6 * t.median, 1e6 * t.least, 1e-9 * bytes / t.median,
           1e-12 * ops / t.median, bytes / (1e9 * b->read_gbps) / t.median);
    (void)fflush(stdout);
}

/* Of one model. */
static void one_way(struct bench *b, struct scene *s, const struct model_shape *m,
                    const struct attention_way *way)
{
    static const int seqs[] = {1, 64, 8, 256};
    static const int contexts[] = {512, 2048, CONTEXT_MAX};
    static const int prompts[] = {128, 512, ROWS_MAX};
    bool first = way == attention_ways;
    int real = b->gpu.n_multiprocessors;
    s->shape = {};
    s->shape.n_heads = m->heads;
    s->shape.n_kv_heads = m->kv_heads;
    s->shape.head_dim = m->head_dim;
    s->shape.block_tokens = BLOCK_TOKENS;
    s->shape.score_scale = 1.0f / sqrtf((float)m->head_dim);
    s->kind = way->kind;
    size_t each = kv_layer_bytes(NUM_Q8, &s->shape);
    fill_scales<<<1024, 256, 0, b->stream>>>(s->cache, CACHE_BYTES / each, each,
                                             2 * BLOCK_TOKENS * (size_t)m->kv_heads);
    MUST(cudaStreamSynchronize(b->stream));
    for (size_t j = 0; first && j < ARRAY_LEN(prompts); j++)
        one_attention(b, s, m->name, "prompt", 1, prompts[j], prompts[j]);
    b->gpu.n_multiprocessors = real * way->devices / 2;
    for (size_t j = 0; j < ARRAY_LEN(seqs) * ARRAY_LEN(contexts); j++)
        one_attention(b, s, m->name, way->name, seqs[j / ARRAY_LEN(contexts)], 1,
                      contexts[j % ARRAY_LEN(contexts)]);
    b->gpu.n_multiprocessors = real;
}

static void attentions(struct bench *b)
{
    struct scene s = {};
    size_t table = (size_t)SEQS_MAX * (CONTEXT_MAX / BLOCK_TOKENS);
    s.cache = take<char>(CACHE_BYTES);
    s.ints = take<int32_t>((table + 2 * ROWS_MAX + 2 * SEQS_MAX + 1) * sizeof(int32_t));
    fill_q8<<<1024, 256, 0, b->stream>>>((int8_t *)s.cache, CACHE_BYTES);
    for (size_t w = 0; w < ARRAY_LEN(attention_ways); w++)
        for (size_t i = 0; i < ARRAY_LEN(models); i++)
            if (!b->model || strcmp(b->model, models[i].name) == 0)
                one_way(b, &s, &models[i], &attention_ways[w]);
    MUST(cudaFree(s.cache));
    MUST(cudaFree(s.ints));
}

/* ---- row by row ---- */

/* What one reads of a row, in floats, and writes of it, in bytes; a row of floats and of bytes. */
struct row_problem {
    const char *name;
    int rows;
    int in;
    int out;
};

/* Each launch has rows of its own, in what the library's halves were. */
static int issue_rows(struct bench *b, void *arg, int i)
{
    const struct row_problem *p = static_cast<const struct row_problem *>(arg);
    size_t in = (size_t)p->rows * (size_t)p->in;
    size_t each = in + (size_t)p->rows * (size_t)p->out; /* more than its bytes */
    float *x = (float *)b->halves + (size_t)i % (HALF_BYTES / sizeof(float) / each) * each;
    struct act y = {NUM_Q8, (int8_t *)(x + in), b->y, NULL};
    if (strcmp(p->name, "norm") == 0)
        return launch_norm(&b->gpu, &y, x, b->scales, 1e-5f, p->rows, p->out);
    if (strcmp(p->name, "convert") == 0)
        return launch_convert(&b->gpu, &y, x, p->rows, p->out);
    return launch_swiglu(&b->gpu, &y, x, p->rows, p->out);
}

static void row_by_row(struct bench *b)
{
    static const int row_counts[] = {1, 16, 256, ROWS_MAX};
    struct times t;
    fill_f32<<<1024, 256, 0, b->stream>>>((float *)b->halves, HALF_BYTES / sizeof(float), 1, false);
    for (size_t i = 0; i < ARRAY_LEN(models) * ARRAY_LEN(row_counts); i++) {
        const struct model_shape *m = &models[i / ARRAY_LEN(row_counts)];
        int rows = row_counts[i % ARRAY_LEN(row_counts)];
        struct row_problem problems[] = {{"norm", rows, m->dim, m->dim},
                                         {"convert", rows, m->dim, m->dim},
                                         {"swiglu", rows, 2 * m->hidden, m->hidden}};
        for (struct row_problem &p : problems) {
            double bytes = (double)rows * (4.0 * p.in + p.out + 4.0);
            if ((b->model && strcmp(b->model, m->name) != 0) || late(b) ||
                !measure(b, issue_rows, &p, launches_for((size_t)bytes), &t))
                continue;
            printf("{\"part\":\"rows\",\"model\":\"%s\",\"name\":\"%s\",\"rows\":%d,\"us\":%.2f,"
                   "\"least_us\":%.2f,\"gbps\":%.1f,\"roof\":%.3f}\n",
                   m->name, p.name, rows, 1e6 * t.median, 1e6 * t.least, 1e-9 * bytes / t.median,
                   bytes / (1e9 * b->read_gbps) / t.median);
        }
    }
}

/* ---- */

static void open_device(struct bench *b)
{
    cudaDeviceProp p;
    int driver = 0;
    int runtime = 0;
    enum { Y_MOST = 2 * 14336, X_MOST = 14336 };
    MUST(cudaSetDevice(0));
    MUST(cudaGetDeviceProperties(&p, 0));
    MUST(cudaDriverGetVersion(&driver));
    MUST(cudaRuntimeGetVersion(&runtime));
    MUST(cudaStreamCreateWithFlags(&b->stream, cudaStreamNonBlocking));
    MUST(cudaEventCreate(&b->from));
    MUST(cudaEventCreate(&b->to));
    b->gpu.stream = (gpu_stream)b->stream;
    b->gpu.sm = 10 * p.major + p.minor;
    b->gpu.early = b->gpu.sm >= 90;
    b->gpu.n_multiprocessors = p.multiProcessorCount;
    b->gpu.partials.sum = take<int>(PARTIAL_SUMS * sizeof(int));
    b->gpu.partials.room = PARTIAL_SUMS;
    b->gpu.partials.arrived = take<unsigned>(PARTIAL_TILES * sizeof(unsigned));
    b->gpu.partials.arrived_room = PARTIAL_TILES - 1;
    MUST(cudaMemset(b->gpu.partials.arrived, 0, PARTIAL_TILES * sizeof(unsigned)));
    MUST(cudaMemset(b->gpu.partials.sum, 0, PARTIAL_SUMS * sizeof(int)));
    b->weights = take<int8_t>(WEIGHT_BYTES);
    b->halves = take<__half>(HALF_BYTES);
    b->scales = take<float>(SCALES * sizeof(float));
    b->xq = take<int8_t>((size_t)ROWS_MAX * X_MOST);
    b->xf = take<float>((size_t)ROWS_MAX * X_MOST * sizeof(float));
    b->xh = take<__half>((size_t)ROWS_MAX * X_MOST * sizeof(__half));
    b->y = take<float>((size_t)ROWS_MAX * Y_MOST * sizeof(float));
    b->workspace = take<char>(WORKSPACE_BYTES);
    fill_q8<<<1024, 256, 0, b->stream>>>(b->weights, WEIGHT_BYTES);
    fill_f16<<<1024, 256, 0, b->stream>>>(b->halves, HALF_BYTES / sizeof(__half));
    fill_f32<<<1024, 256, 0, b->stream>>>(b->scales, SCALES, 0.01f, true);
    fill_q8<<<1024, 256, 0, b->stream>>>(b->xq, (size_t)ROWS_MAX * X_MOST);
    fill_f32<<<1024, 256, 0, b->stream>>>(b->xf, (size_t)ROWS_MAX * X_MOST, 1.0f, false);
    fill_f16<<<1024, 256, 0, b->stream>>>(b->xh, (size_t)ROWS_MAX * X_MOST);
    MUST(cudaStreamSynchronize(b->stream));
    MUST(cublasCreate(&b->blas));
    MUST(cublasSetStream(b->blas, b->stream));
    MUST(cublasSetWorkspace(b->blas, b->workspace, WORKSPACE_BYTES));
    MUST(cublasLtCreate(&b->lt));
    printf("{\"part\":\"device\",\"name\":\"%s\",\"sm\":%d,\"multiprocessors\":%d,"
           "\"l2_bytes\":%d,\"driver\":%d,\"runtime\":%d}\n",
           p.name, b->gpu.sm, p.multiProcessorCount, p.l2CacheSize, driver, runtime);
}

static bool wanted(const struct bench *b, const char *part)
{
    return (!b->part || strcmp(b->part, part) == 0) && !late(b);
}

int main(int argc, char **argv)
{
    struct bench b = {};
    double seconds = 240.0;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seconds") == 0)
            seconds = strtod(argv[i + 1], nullptr);
        else if (strcmp(argv[i], "--part") == 0)
            b.part = argv[i + 1];
        else if (strcmp(argv[i], "--model") == 0)
            b.model = argv[i + 1];
        else
            return (void)fprintf(stderr, "bench_gpu: unknown option %s\n", argv[i]), 2;
    }
    b.deadline = now() + seconds;
    open_device(&b);
    roofs(&b);
    if (wanted(&b, "gap"))
        gaps(&b);
    if (wanted(&b, "attention"))
        attentions(&b);
    if (wanted(&b, "linear"))
        linears(&b);
    if (wanted(&b, "rows")) /* behind those: it writes over the library's weights */
        row_by_row(&b);
    if (b.part && wanted(&b, "sweep")) /* minutes: only when asked for */
        sweep(&b);
    if (late(&b))
        printf("{\"part\":\"note\",\"name\":\"bench_gpu: the time was over before the end\"}\n");
    return 0;
}

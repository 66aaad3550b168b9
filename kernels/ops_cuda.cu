/* The CUDA backend: memory, one stream, the first error of a step, and the kernels behind the
 * operations. A call after an error does nothing, and step_wait() reports it; an error of a
 * kernel is sticky in the driver, so the engine that sees E_DEVICE is finished.
 *
 * The most likely token of every row is found on the device. What a pick wants beyond that is
 * drawn on the host, by a cpu backend that this one owns, in step_wait(): those rows' logits come
 * down at the end of a step, the tokens go back up for the next step's embed. One definition of
 * sampling, bit for bit; a launch never waits. */
#include "kernels/ops_cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/device.cuh"

enum {
    PICKS_MAX = 4096,
    HOST_THREADS = 4,
    PARTIAL_ROOM = 16 << 20, /* 64 MiB: one sequence of 128 K tokens, split */
    PARTIAL_COUNTERS = 4096,
};

/* What the step on its way is to draw when its logits are down. */
struct draws {
    struct picked *out;
    const struct pick *pick;
    int32_t n;
    int32_t vocab;
};

struct cuda_ops {
    struct ops ops; /* first: the table is what callers hold */
    cudaStream_t stream;
    struct gpu gpu; /* what launches need to know */
    enum status failed;
    int32_t *picked;      /* device [PICKS_MAX]: tokens of the last sample() */
    int32_t *picked_host; /* pinned [PICKS_MAX] */
    float *logits;        /* pinned [logits_room], grows at first use of a larger step */
    size_t logits_room;
    struct ops *host; /* draws the tokens */
    struct draws draws;
};

static struct cuda_ops *self(struct ops *o)
{
    return reinterpret_cast<struct cuda_ops *>(o);
}

/* The one door of every CUDA call: false once anything has failed. */
static bool good(struct cuda_ops *c, int error, const char *what)
{
    if (error == (int)cudaSuccess)
        return true;
    if (c->failed == OK)
        log_line(LOG_ERROR, "cuda: %s: %s", what, cudaGetErrorString((cudaError_t)error));
    c->failed = E_DEVICE;
    return false;
}

#define DO(c, call) ((c)->failed == OK && good((c), (int)(call), #call))

static enum status cuda_alloc(struct ops *o, size_t bytes, void **out)
{
    struct cuda_ops *c = self(o);
    *out = NULL;
    if (cudaMalloc(out, bytes ? bytes : 1) != cudaSuccess) {
        (void)cudaGetLastError();
        return E_NOMEM;
    }
    if (DO(c, cudaMemsetAsync(*out, 0, bytes ? bytes : 1, c->stream)))
        return OK;
    (void)cudaFree(*out);
    *out = NULL;
    return E_DEVICE;
}

static void cuda_release(struct ops *o, void *p)
{
    (void)o;
    (void)cudaFree(p);
}

static size_t cuda_bytes_free(struct ops *o)
{
    size_t available = 0;
    size_t total = 0;
    (void)DO(self(o), cudaMemGetInfo(&available, &total));
    return available;
}

static size_t cuda_bytes_total(struct ops *o)
{
    size_t available = 0;
    size_t total = 0;
    (void)DO(self(o), cudaMemGetInfo(&available, &total));
    return total;
}

/* From pageable memory the call returns when src may be reused. */
static void cuda_upload(struct ops *o, void *dst, const void *src, size_t bytes)
{
    struct cuda_ops *c = self(o);
    (void)DO(c, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyHostToDevice, c->stream));
}

static void cuda_download(struct ops *o, void *dst, const void *src, size_t bytes)
{
    struct cuda_ops *c = self(o);
    if (DO(c, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, c->stream)))
        (void)DO(c, cudaStreamSynchronize(c->stream));
}

static bool cuda_step_begin(struct ops *o, uint64_t graph_key)
{
    (void)o;
    (void)graph_key;
    return true;
}

static void cuda_step_launch(struct ops *o)
{
    (void)o;
}

/* Whether the most likely token is all that is wanted: the device has found it. */
static bool is_plain(const struct pick *p)
{
    const struct sampling *h = &p->how;
    return !p->given && !(h->temperature > 0.0f) && h->n_logprobs < 0 && h->n_bias == 0 &&
           p->n_seen == 0 && !p->allowed && p->n_banned == 0;
}

static bool any_plain(const struct draws *d)
{
    for (int32_t i = 0; i < d->n; i++)
        if (is_plain(&d->pick[i]))
            return true;
    return false;
}

/* Neighbouring picks from first on that the host draws; *first is moved to where they begin. */
static int32_t host_run(const struct draws *d, int32_t *first)
{
    while (*first < d->n && is_plain(&d->pick[*first]))
        ++*first;
    int32_t end = *first;
    while (end < d->n && !is_plain(&d->pick[end]))
        end++;
    return end - *first;
}

/* picked_host is free again: whoever writes it has waited for the step that read it. */
static void draw_tokens(struct cuda_ops *c)
{
    const struct draws *d = &c->draws;
    bool changed = false;
    for (int32_t i = 0; i < d->n; i++)
        d->out[i] = picked{.token = c->picked_host[i]};
    for (int32_t i = 0, n = host_run(d, &i); n > 0; i += n, n = host_run(d, &i)) {
        c->host->picks(c->host, d->out + i, d->pick + i, n);
        c->host->sample(c->host, c->logits + (size_t)i * (size_t)d->vocab, n, d->vocab);
        if (c->host->step_wait(c->host) != OK) {
            (void)good(c, (int)cudaErrorMemoryAllocation, "drawing tokens on the host");
            return;
        }
        for (int32_t k = i; k < i + n; k++)
            c->picked_host[k] = d->out[k].token;
        changed = true;
    }
    if (changed)
        cuda_upload(&c->ops, c->picked, c->picked_host, (size_t)d->n * sizeof(int32_t));
}

static enum status cuda_step_wait(struct ops *o)
{
    struct cuda_ops *c = self(o);
    if (DO(c, cudaStreamSynchronize(c->stream)) && c->draws.n > 0)
        draw_tokens(c);
    c->draws.n = 0;
    return c->failed;
}

static void cuda_embed(struct ops *o, float *x, const struct weight *table, const int32_t *ids,
                       int32_t rows)
{
    struct cuda_ops *c = self(o);
    (void)DO(c, launch_embed((gpu_stream)c->stream, x, table, ids, c->picked, rows));
}

static void cuda_norm(struct ops *o, const struct act *y, const float *x, const float *gain,
                      float eps, int32_t rows, int32_t dim)
{
    struct cuda_ops *c = self(o);
    (void)DO(c, launch_norm((gpu_stream)c->stream, y, x, gain, eps, rows, dim));
}

static void cuda_linear(struct ops *o, float *y, const struct act *x, const struct weight *w,
                        int32_t rows, bool accumulate)
{
    struct cuda_ops *c = self(o);
    (void)DO(c, launch_linear(&c->gpu, y, x, w, rows, accumulate));
}

static void cuda_rope_store(struct ops *o, float *qkv, const struct kv_layer *kv,
                            const struct step_view *step, const struct head_shape *shape)
{
    struct cuda_ops *c = self(o);
    (void)DO(c, launch_rope_store((gpu_stream)c->stream, qkv, kv, step, shape));
}

static void cuda_attention(struct ops *o, float *y, const float *qkv, const struct kv_layer *kv,
                           const struct step_view *step, const struct head_shape *shape)
{
    struct cuda_ops *c = self(o);
    (void)DO(c, launch_attention(&c->gpu, y, qkv, kv, step, shape));
}

static void cuda_convert(struct ops *o, const struct act *y, const float *x, int32_t rows,
                         int32_t dim)
{
    struct cuda_ops *c = self(o);
    (void)DO(c, launch_convert((gpu_stream)c->stream, y, x, rows, dim));
}

static void cuda_swiglu(struct ops *o, const struct act *y, const float *gate_up, int32_t rows,
                        int32_t hidden)
{
    struct cuda_ops *c = self(o);
    (void)DO(c, launch_swiglu((gpu_stream)c->stream, y, gate_up, rows, hidden));
}

static void cuda_gather(struct ops *o, float *y, const float *x, const int32_t *index, int32_t rows,
                        int32_t dim)
{
    struct cuda_ops *c = self(o);
    (void)DO(c, launch_gather((gpu_stream)c->stream, y, x, index, rows, dim));
}

static void cuda_picks(struct ops *o, struct picked *out, const struct pick *pick, int32_t n_picks)
{
    struct cuda_ops *c = self(o);
    if (n_picks > PICKS_MAX)
        (void)good(c, (int)cudaErrorInvalidValue, "more picks than PICKS_MAX");
    c->draws = {out, pick, n_picks, 0};
}

/* Pinned memory is slow to get, so it is kept and grows by doubling. */
static bool reserve_logits(struct cuda_ops *c, size_t n)
{
    if (n <= c->logits_room)
        return true;
    (void)cudaFreeHost(c->logits);
    c->logits = NULL;
    c->logits_room = 0;
    if (!DO(c, cudaMallocHost((void **)&c->logits, 2 * n * sizeof(float))))
        return false;
    c->logits_room = 2 * n;
    return true;
}

static void cuda_sample(struct ops *o, const float *logits, int32_t n_picks, int32_t vocab)
{
    struct cuda_ops *c = self(o);
    size_t row = (size_t)vocab;
    c->draws.vocab = vocab;
    for (int32_t i = 0, n = host_run(&c->draws, &i); n > 0; i += n, n = host_run(&c->draws, &i)) {
        if (!reserve_logits(c, (size_t)n_picks * row))
            return;
        (void)DO(c, cudaMemcpyAsync(c->logits + (size_t)i * row, logits + (size_t)i * row,
                                    (size_t)n * row * sizeof(float), cudaMemcpyDeviceToHost,
                                    c->stream));
    }
    if (!any_plain(&c->draws))
        return;
    (void)DO(c, launch_argmax((gpu_stream)c->stream, c->picked, logits, n_picks, vocab));
    (void)DO(c, cudaMemcpyAsync(c->picked_host, c->picked, (size_t)n_picks * sizeof(int32_t),
                                cudaMemcpyDeviceToHost, c->stream));
}

static void cuda_close(struct ops *o)
{
    struct cuda_ops *c = self(o);
    if (!c)
        return;
    if (c->host)
        c->host->close(c->host);
    (void)cudaFree(c->picked);
    (void)cudaFree(c->gpu.partials.sum);
    (void)cudaFree(c->gpu.partials.arrived);
    (void)cudaFreeHost(c->picked_host);
    (void)cudaFreeHost(c->logits);
    if (c->stream)
        (void)cudaStreamDestroy(c->stream);
    free(c);
}

static const struct ops cuda_table = {
    "cuda",           false,       cuda_close,    cuda_alloc,  cuda_release,    cuda_bytes_free,
    cuda_bytes_total, cuda_upload, cuda_download, cuda_picks,  cuda_step_begin, cuda_step_launch,
    cuda_step_wait,   cuda_embed,  cuda_norm,     cuda_linear, cuda_rope_store, cuda_attention,
    cuda_convert,     cuda_swiglu, cuda_gather,   cuda_sample,
};

static enum status open_device(struct gpu *g, char *err, size_t err_size)
{
    int n = 0;
    cudaError_t error = cudaGetDeviceCount(&n);
    if (error != cudaSuccess || n == 0) {
        (void)snprintf(err, err_size, "no CUDA device: %s",
                       error != cudaSuccess ? cudaGetErrorString(error) : "none is installed");
        return E_UNSUPPORTED;
    }
    cudaDeviceProp p;
    error = cudaSetDevice(0);
    if (error == cudaSuccess)
        error = cudaGetDeviceProperties(&p, 0);
    if (error != cudaSuccess) {
        (void)snprintf(err, err_size, "CUDA device 0: %s", cudaGetErrorString(error));
        return E_DEVICE;
    }
    log_line(LOG_INFO, "cuda backend: %s, sm_%d%d, %d multiprocessors", p.name, p.major, p.minor,
             p.multiProcessorCount);
    g->sm = 10 * p.major + p.minor;
    g->n_multiprocessors = p.multiProcessorCount;
    g->only = getenv("FIRSTLIGHT_LINEAR");
    return OK;
}

/* The little that is allocated beside what the model asks for. */
static bool take_memory(struct cuda_ops *c)
{
    struct partials *p = &c->gpu.partials;
    p->room = PARTIAL_ROOM;
    p->arrived_room = PARTIAL_COUNTERS;
    return DO(c, cudaStreamCreate(&c->stream)) &&
           DO(c, cudaMalloc((void **)&c->picked, PICKS_MAX * sizeof(int32_t))) &&
           DO(c, cudaMallocHost((void **)&c->picked_host, PICKS_MAX * sizeof(int32_t))) &&
           DO(c, cudaMalloc((void **)&p->sum, PARTIAL_ROOM * sizeof(int))) &&
           DO(c, cudaMalloc((void **)&p->arrived, PARTIAL_COUNTERS * sizeof(unsigned))) &&
           DO(c, cudaMemsetAsync(p->arrived, 0, PARTIAL_COUNTERS * sizeof(unsigned), c->stream));
}

enum status ops_cuda_open(struct ops **out, char *err, size_t err_size)
{
    struct gpu gpu = {};
    enum status status = open_device(&gpu, err, err_size);
    if (status)
        return status;
    struct cuda_ops *c = static_cast<struct cuda_ops *>(calloc(1, sizeof(*c)));
    if (!c) {
        (void)snprintf(err, err_size, "%s", status_text(E_NOMEM));
        return E_NOMEM;
    }
    c->ops = cuda_table;
    c->gpu = gpu;
    struct ops_options host = {"cpu", HOST_THREADS};
    status = ops_open(&c->host, &host, err, err_size);
    if (status)
        goto fail;
    if (!take_memory(c)) {
        (void)snprintf(err, err_size, "CUDA device 0: no memory to start with");
        status = E_DEVICE;
        goto fail;
    }
    c->gpu.stream = (gpu_stream)c->stream;
    *out = &c->ops;
    return OK;
fail:
    cuda_close(&c->ops);
    return status;
}

/* The CUDA backend: memory, one stream, the first error of a step, and the kernels behind the
 * operations. A call after an error does nothing, and step_wait() reports it; an error of a
 * kernel is sticky in the driver, so the engine that sees E_DEVICE is finished.
 *
 * Everything is taken at the start: what a step needs goes up through staging.cuh, its launches
 * may be recorded (graphs.cuh), its tokens come down through ring.cuh. Sampling is never recorded:
 * which kernels draw, and with what, is a matter of the picks and not of the step's shape.
 *
 * The most likely token of every row is found on the device. What a pick wants beyond that is
 * drawn on the host, by a cpu backend that this one owns, in step_wait(): those rows' logits come
 * down at the end of a step, the tokens go back up for the next step's embed. One definition of
 * sampling, bit for bit; a launch never waits. */
#include "kernels/ops_cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/graphs.cuh"
#include "kernels/ring.cuh"
#include "kernels/staging.cuh"

enum {
    PICKS_MAX = RING_WORDS,
    HOST_THREADS = 4,
    PARTIAL_ROOM = CUDA_PARTIAL_BYTES / 4,
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
    struct graphs graphs;
    struct staging staging;
    struct ring ring;
    cudaEvent_t done;               /* of the last step launched */
    int32_t *picked;                /* device [PICKS_MAX]: tokens of the last sample() */
    int32_t picked_host[PICKS_MAX]; /* the same */
    float *logits;                  /* pinned [logits_room], grows at first use of a larger step */
    size_t logits_room;
    struct ops *host; /* draws the tokens */
    struct draws draws;
};

static struct cuda_ops *self(struct ops *o)
{
    return reinterpret_cast<struct cuda_ops *>(o);
}

/* The one door of every CUDA call: false once anything has failed. A failure while a step is
 * recorded is the recording's alone. */
static bool good(struct cuda_ops *c, int error, const char *what)
{
    if (error == (int)cudaSuccess)
        return true;
    if (c->graphs.recording) {
        graphs_spoil(&c->graphs, error, what);
        return false;
    }
    if (c->failed == OK)
        log_line(LOG_ERROR, "cuda: %s: %s", what, cudaGetErrorString((cudaError_t)error));
    c->failed = E_DEVICE;
    return false;
}

static bool goes_on(const struct cuda_ops *c)
{
    return c->failed == OK && !(c->graphs.recording && c->graphs.off);
}

#define DO(c, call) (goes_on(c) && good((c), (int)(call), #call))

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

/* What is recorded may point there. */
static void cuda_release(struct ops *o, void *p)
{
    graphs_forget(&self(o)->graphs);
    (void)cudaFree(p);
}

/* Without what recordings may come to need. */
static size_t cuda_bytes_free(struct ops *o)
{
    const size_t kept = (size_t)CUDA_GRAPHS_MAX * CUDA_GRAPH_BYTES;
    size_t available = 0;
    size_t total = 0;
    (void)DO(self(o), cudaMemGetInfo(&available, &total));
    return available > kept ? available - kept : 0;
}

static size_t cuda_bytes_total(struct ops *o)
{
    size_t available = 0;
    size_t total = 0;
    (void)DO(self(o), cudaMemGetInfo(&available, &total));
    return total;
}

static void cuda_upload(struct ops *o, void *dst, const void *src, size_t bytes)
{
    struct cuda_ops *c = self(o);
    (void)DO(c, staging_upload(&c->staging, dst, src, bytes));
}

static void cuda_download(struct ops *o, void *dst, const void *src, size_t bytes)
{
    struct cuda_ops *c = self(o);
    if (DO(c, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, c->stream)))
        (void)DO(c, cudaStreamSynchronize(c->stream));
}

static bool cuda_step_begin(struct ops *o, const struct step_key *key)
{
    struct cuda_ops *c = self(o);
    return c->failed != OK || !graphs_begin(&c->graphs, key);
}

static bool cuda_step_end(struct ops *o)
{
    return graphs_end(&self(o)->graphs);
}

static void cuda_step_launch(struct ops *o)
{
    struct cuda_ops *c = self(o);
    (void)DO(c, cudaEventRecord(c->done, c->stream));
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

static bool all_plain(const struct draws *d)
{
    int32_t first = 0;
    return host_run(d, &first) == 0;
}

static void draw_tokens(struct cuda_ops *c)
{
    const struct draws *d = &c->draws;
    bool changed = false;
    memcpy(c->picked_host, c->ring.host->word, (size_t)d->n * sizeof(int32_t));
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

/* Logits come by copies that only the driver knows to be over; tokens are seen as they come. */
static bool wait_for_step(struct cuda_ops *c)
{
    if (c->failed == OK && c->draws.n > 0 && all_plain(&c->draws) &&
        ring_poll(&c->ring, (gpu_stream)c->stream))
        return true;
    return DO(c, cudaEventSynchronize(c->done));
}

static enum status cuda_step_wait(struct ops *o)
{
    struct cuda_ops *c = self(o);
    if (wait_for_step(c) && c->draws.n > 0)
        draw_tokens(c);
    c->draws.n = 0;
    return c->failed;
}

static void cuda_embed(struct ops *o, float *x, const struct weight *table, const int32_t *ids,
                       int32_t rows)
{
    struct cuda_ops *c = self(o);
    (void)DO(c, launch_embed(&c->gpu, x, table, ids, c->picked, rows));
}

static void cuda_norm(struct ops *o, const struct act *y, const float *x, const float *gain,
                      float eps, int32_t rows, int32_t dim)
{
    struct cuda_ops *c = self(o);
    (void)DO(c, launch_norm(&c->gpu, y, x, gain, eps, rows, dim));
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
    (void)DO(c, launch_rope_store(&c->gpu, qkv, kv, step, shape));
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
    (void)DO(c, launch_convert(&c->gpu, y, x, rows, dim));
}

static void cuda_swiglu(struct ops *o, const struct act *y, const float *gate_up, int32_t rows,
                        int32_t hidden)
{
    struct cuda_ops *c = self(o);
    (void)DO(c, launch_swiglu(&c->gpu, y, gate_up, rows, hidden));
}

static void cuda_gather(struct ops *o, float *y, const float *x, const int32_t *index, int32_t rows,
                        int32_t dim)
{
    struct cuda_ops *c = self(o);
    (void)DO(c, launch_gather(&c->gpu, y, x, index, rows, dim));
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
    (void)DO(c, launch_argmax(&c->gpu, c->picked, logits, n_picks, vocab));
    (void)DO(
        c, ring_launch(&c->ring, &c->gpu, reinterpret_cast<const uint32_t *>(c->picked), n_picks));
}

static void cuda_close(struct ops *o)
{
    struct cuda_ops *c = self(o);
    if (!c)
        return;
    if (c->host)
        c->host->close(c->host);
    graphs_forget(&c->graphs);
    staging_close(&c->staging);
    ring_close(&c->ring);
    (void)cudaFree(c->picked);
    (void)cudaFree(c->gpu.partials.sum);
    (void)cudaFree(c->gpu.partials.arrived);
    (void)cudaFreeHost(c->logits);
    if (c->done)
        (void)cudaEventDestroy(c->done);
    if (c->stream)
        (void)cudaStreamDestroy(c->stream);
    free(c);
}

static const struct ops cuda_table = {
    .name = "cuda",
    .host_memory = false,
    .records = true,
    .close = cuda_close,
    .alloc = cuda_alloc,
    .release = cuda_release,
    .bytes_free = cuda_bytes_free,
    .bytes_total = cuda_bytes_total,
    .upload = cuda_upload,
    .download = cuda_download,
    .picks = cuda_picks,
    .step_begin = cuda_step_begin,
    .step_end = cuda_step_end,
    .step_launch = cuda_step_launch,
    .step_wait = cuda_step_wait,
    .embed = cuda_embed,
    .norm = cuda_norm,
    .linear = cuda_linear,
    .rope_store = cuda_rope_store,
    .attention = cuda_attention,
    .convert = cuda_convert,
    .swiglu = cuda_swiglu,
    .gather = cuda_gather,
    .sample = cuda_sample,
};

/* Tests and benches: FIRSTLIGHT_LAUNCH names the one of the ways to launch faster that is left,
 * "graph" or "early"; "plain": none. */
static bool launches_by(const char *way)
{
    const char *only = getenv("FIRSTLIGHT_LAUNCH");
    return !only || strcmp(only, way) == 0;
}

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
    g->early = g->sm >= 90 && launches_by("early");
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
           DO(c,
              cudaEventCreateWithFlags(&c->done, cudaEventBlockingSync | cudaEventDisableTiming)) &&
           DO(c, staging_open(&c->staging, c->stream)) && DO(c, ring_open(&c->ring)) &&
           DO(c, cudaMalloc((void **)&c->picked, PICKS_MAX * sizeof(int32_t))) &&
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
    c->graphs.stream = c->stream;
    c->graphs.off = !launches_by("graph");
    *out = &c->ops;
    return OK;
fail:
    cuda_close(&c->ops);
    return status;
}

/* The CUDA backend: memory, one stream, the first error of a step, and the kernels behind the
 * operations. A call after an error does nothing, and step_wait() reports it; an error of a
 * kernel is sticky in the driver, so the engine that sees E_DEVICE is finished.
 *
 * Everything is taken at the start: what a step needs goes up through staging.cuh, its launches
 * may be recorded (graphs.cuh), its tokens come down through ring.cuh. Sampling (pick.cu) is never
 * recorded: how many draw is a matter of the picks and not of the step's shape. What they want goes
 * up when they are told; logarithms are taken here, so that they are those of the cpu. */
#include "kernels/ops_cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/graphs.cuh"
#include "kernels/ring.cuh"
#include "kernels/staging.cuh"

enum {
    PARTIAL_ROOM = CUDA_PARTIAL_BYTES / 4,
    SM_LEAST = 80, /* cp.async, and mma of int8 and halves as the kernels write them */
};

static_assert((int)PICKS_MAX <= (int)CUDA_RING_WORDS, "a step's tokens go down at once");

/* What the step on its way draws. */
struct draws {
    struct picked *out;
    const struct pick *pick;
    int32_t n;
    int32_t vocab;
    bool judged; /* somebody wants more than a token */
    struct pick_buffers on_device;
    struct pick_result *result; /* pinned [PICKS_MAX] */
    struct pick_task *task;     /* [PICKS_MAX] */
    uint32_t *words;            /* [CUDA_PICK_WORDS] beside the tasks of a group */
    uint32_t *words_on_device;  /* [CUDA_PICK_WORDS] */
};

struct cuda_ops {
    struct ops ops; /* first: the table is what callers hold */
    cudaStream_t stream;
    struct gpu gpu; /* what launches need to know */
    bool checked;   /* each call is waited for, so that an error shows where it was made */
    enum status failed;
    struct graphs graphs;
    struct staging staging;
    struct ring ring;
    cudaEvent_t done; /* of the last step launched */
    struct draws draws;
};

static struct cuda_ops *self(struct ops *o)
{
    return reinterpret_cast<struct cuda_ops *>(o);
}

/* The one door of every CUDA call: false once anything has failed. A failure while a step is
 * recorded is the recording's alone. What a kernel does wrong is told by a later call. */
static bool judge(struct cuda_ops *c, int error, const char *what, int line)
{
    cudaError_t e = (cudaError_t)error;
    if (e == cudaSuccess)
        return true;
    if (c->graphs.recording) {
        graphs_spoil(&c->graphs, error, what);
        return false;
    }
    if (c->failed == OK)
        log_line(LOG_ERROR, "cuda: ops_cuda.cu:%d: %s: %s (%s)%s", line, what,
                 cudaGetErrorString(e), cudaGetErrorName(e),
                 c->checked ? "" : "; FIRSTLIGHT_LAUNCH=checked says which operation it was");
    c->failed = E_DEVICE;
    return false;
}

#define good(c, error, what) judge((c), (error), (what), __LINE__)

static bool goes_on(const struct cuda_ops *c)
{
    return c->failed == OK && !(c->graphs.recording && c->graphs.off);
}

static bool settled(struct cuda_ops *c, const char *what, int line)
{
    return !c->checked || judge(c, (int)cudaStreamSynchronize(c->stream), what, line);
}

#define DO(c, call) (goes_on(c) && good((c), (int)(call), #call) && settled((c), #call, __LINE__))

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

static void cuda_place_rows(struct ops *o, void *p, size_t bytes)
{
    (void)o;
    (void)p;
    (void)bytes;
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

/* Short of memory is not a device that failed. */
static enum status cuda_window_open(struct ops *o, struct window *w, size_t bytes)
{
    struct cuda_ops *c = self(o);
    cudaError_t error = window_open(w, bytes);
    if (error == cudaSuccess)
        return OK;
    window_close(w);
    (void)cudaGetLastError();
    if (error == cudaErrorMemoryAllocation)
        return E_NOMEM;
    (void)good(c, (int)error, "window_open(w, bytes)");
    return E_DEVICE;
}

static void cuda_window_send(struct ops *o, struct window *w, void *dst, const void *src,
                             size_t bytes)
{
    struct cuda_ops *c = self(o);
    (void)DO(c, window_send(w, c->stream, dst, src, bytes));
}

static void cuda_window_wait(struct ops *o, struct window *w)
{
    struct cuda_ops *c = self(o);
    (void)DO(c, window_wait(w));
}

/* Whatever failed: the device may still be reading, and the event may not be behind that. */
static void cuda_window_close(struct ops *o, struct window *w)
{
    struct cuda_ops *c = self(o);
    if (w->sent)
        (void)good(c, (int)cudaStreamSynchronize(c->stream), "cudaStreamSynchronize(c->stream)");
    window_close(w);
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

/* What is more than tokens comes by a copy that only the driver knows to be over; tokens are seen
 * as they come. */
static bool wait_for_step(struct cuda_ops *c)
{
    if (c->failed == OK && c->draws.n > 0 && !c->draws.judged &&
        ring_poll(&c->ring, (gpu_stream)c->stream))
        return true;
    return DO(c, cudaEventSynchronize(c->done));
}

static enum status cuda_step_wait(struct ops *o)
{
    struct cuda_ops *c = self(o);
    struct draws *d = &c->draws;
    bool came = wait_for_step(c);
    if (came && d->judged)
        pick_unpack(d->out, d->pick, d->result, d->n);
    for (int32_t i = 0; came && !d->judged && i < d->n; i++)
        d->out[i] = picked{.token = (int32_t)c->ring.host->word[i]};
    d->n = 0;
    return c->failed;
}

static void cuda_embed(struct ops *o, float *x, const struct weight *table, const int32_t *ids,
                       int32_t rows)
{
    struct cuda_ops *c = self(o);
    (void)DO(c, launch_embed(&c->gpu, x, table, ids, c->draws.on_device.token, rows));
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

/* Picks go up in groups, as many as there is room for their words: nearly always all of them. 0:
 * a single one that has no room. */
static int32_t group_from(const struct draws *d, int32_t first)
{
    size_t words = 0;
    int32_t n = 0;
    for (; first + n < d->n; n++) {
        words += pick_words(&d->pick[first + n], 1, d->vocab);
        if (words > CUDA_PICK_WORDS)
            break;
    }
    return n;
}

static void send_group(struct cuda_ops *c, int32_t first, int32_t n)
{
    struct draws *d = &c->draws;
    size_t words = pick_words(d->pick + first, n, d->vocab);
    pick_pack(d->task, d->words, d->words_on_device, d->pick + first, n, d->vocab);
    cuda_upload(&c->ops, d->on_device.task + first, d->task, (size_t)n * sizeof(*d->task));
    if (words > 0)
        cuda_upload(&c->ops, d->words_on_device, d->words, words * sizeof(*d->words));
}

static bool all_have_room(const struct draws *d)
{
    bool all = d->n <= PICKS_MAX;
    for (int32_t i = 0; i < d->n; i++)
        all = all && pick_words(&d->pick[i], 1, d->vocab) <= CUDA_PICK_WORDS;
    return all;
}

static void cuda_picks(struct ops *o, struct picked *out, const struct pick *pick, int32_t n_picks,
                       int32_t vocab)
{
    struct cuda_ops *c = self(o);
    struct draws *d = &c->draws;
    d->out = out;
    d->pick = pick;
    d->n = n_picks;
    d->vocab = vocab;
    d->judged = false;
    if (!all_have_room(d))
        (void)good(c, (int)cudaErrorInvalidValue, "picks that no step can have");
    if (c->failed)
        d->n = 0;
    for (int32_t i = 0; i < n_picks; i++)
        d->judged = d->judged || pick[i].how.n_logprobs >= 0;
    if (d->n > 0)
        send_group(c, 0, group_from(d, 0));
}

static void cuda_sample(struct ops *o, float *logits)
{
    struct cuda_ops *c = self(o);
    struct draws *d = &c->draws;
    if (d->n == 0)
        return;
    for (int32_t first = 0, n = 0; first < d->n; first += n) {
        n = group_from(d, first);
        if (first > 0)
            send_group(c, first, n);
        const struct pick_buffers b = {d->on_device.task + first, d->on_device.result + first,
                                       d->on_device.token + first};
        float *row = logits + (size_t)first * (size_t)d->vocab;
        (void)DO(c, launch_pick(&c->gpu, &b, row, n, d->vocab));
    }
    if (d->judged)
        (void)DO(c,
                 cudaMemcpyAsync(d->result, d->on_device.result, (size_t)d->n * sizeof(*d->result),
                                 cudaMemcpyDeviceToHost, c->stream));
    (void)DO(c, ring_launch(&c->ring, &c->gpu,
                            reinterpret_cast<const uint32_t *>(d->on_device.token), d->n));
}

static void cuda_close(struct ops *o)
{
    struct cuda_ops *c = self(o);
    if (!c)
        return;
    if (c->stream)
        (void)cudaStreamSynchronize(c->stream);
    graphs_forget(&c->graphs);
    staging_close(&c->staging);
    ring_close(&c->ring);
    (void)cudaFree(c->draws.on_device.task);
    (void)cudaFree(c->draws.on_device.result);
    (void)cudaFree(c->draws.on_device.token);
    (void)cudaFree(c->draws.words_on_device);
    (void)cudaFreeHost(c->draws.result);
    free(c->draws.words);
    free(c->draws.task);
    (void)cudaFree(c->gpu.partials.sum);
    (void)cudaFree(c->gpu.partials.arrived);
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
    .place_rows = cuda_place_rows,
    .bytes_free = cuda_bytes_free,
    .bytes_total = cuda_bytes_total,
    .upload = cuda_upload,
    .download = cuda_download,
    .window_open = cuda_window_open,
    .window_send = cuda_window_send,
    .window_wait = cuda_window_wait,
    .window_close = cuda_window_close,
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
 * "graph" or "early"; "plain": none; "checked": none, and each is waited for. */
static bool launches_by(const char *way)
{
    const char *only = getenv("FIRSTLIGHT_LAUNCH");
    return !only || strcmp(only, way) == 0;
}

static bool launches_checked()
{
    const char *only = getenv("FIRSTLIGHT_LAUNCH");
    return only && strcmp(only, "checked") == 0;
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
    if (g->sm < SM_LEAST) {
        (void)snprintf(err, err_size, "CUDA device 0, %.200s, is sm_%d: sm_%d or newer is needed",
                       p.name, g->sm, SM_LEAST);
        return E_UNSUPPORTED;
    }
    g->early = g->sm >= 90 && launches_by("early");
    g->n_multiprocessors = p.multiProcessorCount;
    g->only = getenv("FIRSTLIGHT_LINEAR");
    return OK;
}

static bool take_draws(struct cuda_ops *c)
{
    struct draws *d = &c->draws;
    struct pick_buffers *b = &d->on_device;
    d->task = static_cast<struct pick_task *>(calloc(PICKS_MAX, sizeof(*d->task)));
    d->words = static_cast<uint32_t *>(malloc(CUDA_PICK_WORDS * sizeof(*d->words)));
    if (!d->task || !d->words)
        return good(c, (int)cudaErrorMemoryAllocation, "the picks of a step");
    return DO(c, cudaMalloc((void **)&b->task, PICKS_MAX * sizeof(*b->task))) &&
           DO(c, cudaMalloc((void **)&b->result, PICKS_MAX * sizeof(*b->result))) &&
           DO(c, cudaMalloc((void **)&b->token, PICKS_MAX * sizeof(*b->token))) &&
           DO(c, cudaMalloc((void **)&d->words_on_device,
                            CUDA_PICK_WORDS * sizeof(*d->words_on_device))) &&
           DO(c, cudaMallocHost((void **)&d->result, PICKS_MAX * sizeof(*d->result)));
}

/* The little that is allocated beside what the model asks for. */
static bool take_memory(struct cuda_ops *c)
{
    struct partials *p = &c->gpu.partials;
    p->room = PARTIAL_ROOM;
    p->arrived_room = CUDA_COUNTERS;
    return DO(c, cudaStreamCreate(&c->stream)) &&
           DO(c,
              cudaEventCreateWithFlags(&c->done, cudaEventBlockingSync | cudaEventDisableTiming)) &&
           DO(c, staging_open(&c->staging, c->stream)) && DO(c, ring_open(&c->ring)) &&
           take_draws(c) && DO(c, cudaMalloc((void **)&p->sum, PARTIAL_ROOM * sizeof(int))) &&
           DO(c, cudaMalloc((void **)&p->arrived, CUDA_COUNTERS * sizeof(unsigned))) &&
           DO(c, cudaMemsetAsync(p->arrived, 0, CUDA_COUNTERS * sizeof(unsigned), c->stream));
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
    c->checked = launches_checked();
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

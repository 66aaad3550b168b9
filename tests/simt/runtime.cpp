/* The CUDA runtime as far as the backend uses it: memory of the host, and streams. What is put
 * on a stream is done as late as may be, when somebody waits for it: copies from pinned memory
 * read what stands there by then. SIMT_EAGER does everything at once instead, as a device that is
 * faster than its host; so does the NULL stream.
 *
 * A capture keeps launches and copies with their arguments, and a graph does these again: an
 * argument that should have changed has not. A kernel's first launch loads it, which cannot be
 * captured; nor can memory be taken meanwhile.
 *
 * Any call can be made to fail (fault.h). A call that gives back memory does so even when it
 * fails, as at the end of a process whose device is lost. */
#include "simt.h"

#include "fault.h"

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <vector>

static const size_t DEVICE_BYTES = (size_t)1 << 30;
static const size_t DEVICE_GRAIN = 512;
/* Of one allocation: more takes longer than what a test does with it. */
static const size_t POISON_BYTES = (size_t)1 << 20;

static struct {
    unsigned at;
    bool stays;
    unsigned calls;
    unsigned failed;
} fault;
static long allocations;
static unsigned replays;
static long graphs;

typedef std::function<void()> work_t;

struct CUgraph_st {
    std::vector<work_t> work;
};

struct CUgraphExec_st {
    std::vector<work_t> work;
};

struct CUstream_st {
    std::deque<work_t> waiting;
    uint64_t issued;
    uint64_t done;
    CUgraph_st *capture; /* NULL: none is under way */
    bool spoilt;         /* the capture is */
};

struct CUevent_st {
    cudaStream_t stream; /* NULL: not recorded */
    uint64_t at;         /* of what was issued to it */
};

static std::set<cudaStream_t> streams;
static std::map<const char *, size_t> pinned;
static std::map<const void *, size_t> on_device; /* rounded */
static std::set<const void *> loaded;
static const bool eager = getenv("SIMT_EAGER") != nullptr;

/* What was done is let go when the host may know of it. */
static void run_until(cudaStream_t s, uint64_t at)
{
    std::vector<work_t> over;
    while (s->done < at) {
        over.push_back(std::move(s->waiting.front()));
        s->waiting.pop_front();
        over.back()();
        s->done++;
    }
    simt_joined();
}

static void run_all()
{
    for (cudaStream_t s : streams)
        run_until(s, s->issued);
}

static bool any_capture()
{
    for (cudaStream_t s : streams)
        if (s->capture)
            return true;
    return false;
}

/* What may not be done while a capture is under way. */
static bool spoils()
{
    for (cudaStream_t s : streams)
        s->spoilt |= s->capture != nullptr;
    return any_capture();
}

static cudaError_t issue(cudaStream_t s, const work_t &work)
{
    if (!s) {
        run_all();
        work();
        simt_joined();
        return cudaSuccess;
    }
    if (s->capture && s->spoilt)
        return cudaErrorStreamCaptureInvalidated;
    if (s->capture) {
        s->capture->work.push_back(work);
        return cudaSuccess;
    }
    s->waiting.push_back(work);
    s->issued++;
    if (eager)
        run_all();
    return cudaSuccess;
}

cudaError_t simt_issue(cudaStream_t s, const std::function<void()> &work, const void *kernel)
{
    bool fresh = kernel && loaded.insert(kernel).second;
    if (s && s->capture && fresh)
        s->spoilt = true;
    return issue(s, work);
}

static cudaError_t issue_copy(cudaStream_t s, const work_t &copy)
{
    return issue(s, [=] { simt_between(copy); });
}

static bool is_pinned(const void *p)
{
    auto after = pinned.upper_bound((const char *)p);
    if (after == pinned.begin())
        return false;
    --after;
    return (const char *)p < after->first + after->second;
}

void simt_fail_call(unsigned n, bool stays)
{
    fault = {n, stays, 0, 0};
}

unsigned simt_calls(void)
{
    return fault.calls;
}

unsigned simt_failed(void)
{
    return fault.failed;
}

long simt_allocations(void)
{
    return allocations;
}

template <typename Map> static size_t bytes_in(const Map &held)
{
    size_t bytes = 0;
    for (const auto &each : held)
        bytes += each.second;
    return bytes;
}

size_t simt_device_bytes(void)
{
    return bytes_in(on_device);
}

size_t simt_pinned_bytes(void)
{
    return bytes_in(pinned);
}

unsigned simt_replays(void)
{
    return replays;
}

long simt_graphs(void)
{
    return graphs;
}

static bool fails_now()
{
    fault.calls++;
    return fault.at && (fault.calls == fault.at || (fault.stays && fault.calls > fault.at));
}

/* A launch that fails while it is recorded spoils the recording alone. */
bool simt_fault(void)
{
    bool fails = fails_now();
    fault.failed += fails && !any_capture();
    return fails;
}

/* Nobody is waiting for what is given back, so its failure spoils nothing. Nor does that of a
 * graph: its step can be launched without. */
static cudaError_t survived()
{
    return fails_now() ? cudaErrorUnknown : cudaSuccess;
}

const char *cudaGetErrorString(cudaError_t e)
{
    switch (e) {
    case cudaSuccess:
        return "no error";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorInvalidValue:
        return "invalid value";
    case cudaErrorNotReady:
        return "not ready";
    case cudaErrorStreamCaptureInvalidated:
        return "capture invalidated";
    case cudaErrorUnknown:
        break;
    }
    return "unknown error";
}

const char *cudaGetErrorName(cudaError_t e)
{
    return e == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaErrorUnknown";
}

cudaError_t cudaGetLastError()
{
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *n)
{
    if (simt_fault())
        return cudaErrorUnknown;
    *n = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int)
{
    if (simt_fault())
        return cudaErrorUnknown;
    const char *sm = getenv("SIMT_SM"); /* 80, 90, ...: which kernels the table chooses */
    int number = sm ? (int)strtol(sm, nullptr, 10) : 80;
    *p = cudaDeviceProp{};
    (void)snprintf(p->name, sizeof(p->name), "emulated");
    p->major = number / 10;
    p->minor = number % 10;
    p->multiProcessorCount = 4;
    p->sharedMemPerBlockOptin = 227 * 1024;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int)
{
    if (simt_fault())
        return cudaErrorUnknown;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    if (simt_fault())
        return cudaErrorUnknown;
    *total = DEVICE_BYTES;
    *available = DEVICE_BYTES - simt_device_bytes();
    return cudaSuccess;
}

/* Fresh device memory is not zero: poison, so that a missing memset shows. The end is where the
 * caller put it, so that the address sanitizer sees one byte beyond. */
static cudaError_t take(void **p, size_t bytes)
{
    void *block = nullptr;
    if (simt_fault() || spoils() || posix_memalign(&block, 256, bytes ? bytes : 1) != 0)
        return cudaErrorMemoryAllocation;
    memset(block, 0xff, bytes < POISON_BYTES ? bytes : POISON_BYTES);
    allocations++;
    *p = block;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    if (bytes > DEVICE_BYTES - simt_device_bytes())
        return cudaErrorMemoryAllocation;
    cudaError_t error = take(p, bytes);
    if (error == cudaSuccess)
        on_device[*p] = (bytes + DEVICE_GRAIN - 1) / DEVICE_GRAIN * DEVICE_GRAIN;
    return error;
}

cudaError_t cudaFree(void *p)
{
    run_all();
    on_device.erase(p);
    allocations -= p != nullptr;
    free(p);
    return survived();
}

cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    cudaError_t error = take(p, bytes);
    if (error == cudaSuccess)
        pinned[(const char *)*p] = bytes;
    return error;
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned)
{
    return cudaMallocHost(p, bytes);
}

cudaError_t cudaHostGetDevicePointer(void **p, void *host, unsigned)
{
    if (simt_fault())
        return cudaErrorUnknown;
    *p = host;
    return cudaSuccess;
}

/* Waits for nobody: a copy that is under way reads what is gone. */
cudaError_t cudaFreeHost(void *p)
{
    pinned.erase((const char *)p);
    allocations -= p != nullptr;
    free(p);
    return survived();
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t s)
{
    if (simt_fault())
        return cudaErrorUnknown;
    return issue_copy(s, [=] { memset(p, value, bytes); });
}

/* From pageable memory the bytes are taken at once, and what goes there is waited for. */
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t s)
{
    if (simt_fault())
        return cudaErrorUnknown;
    if (kind == cudaMemcpyHostToDevice && !is_pinned(from) && !any_capture()) {
        auto kept =
            std::make_shared<std::vector<char>>((const char *)from, (const char *)from + bytes);
        return issue_copy(s, [=] { memcpy(to, kept->data(), bytes); });
    }
    cudaError_t error = issue_copy(s, [=] { memcpy(to, from, bytes); });
    if (kind == cudaMemcpyDeviceToHost && !is_pinned(to) && !any_capture())
        run_all();
    return error;
}

cudaError_t cudaStreamCreate(cudaStream_t *s)
{
    if (simt_fault())
        return cudaErrorUnknown;
    allocations++;
    *s = new CUstream_st();
    streams.insert(*s);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    run_until(s, s->issued);
    allocations--;
    streams.erase(s);
    delete s->capture;
    delete s;
    return survived();
}

/* Who waits has waited, even for an error. */
cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    bool fails = simt_fault();
    if (spoils())
        return cudaErrorStreamCaptureInvalidated;
    run_until(s, s->issued);
    return fails ? cudaErrorUnknown : cudaSuccess;
}

/* Its errors are told again to whoever waits. */
cudaError_t cudaStreamQuery(cudaStream_t s)
{
    cudaError_t error = survived();
    if (error == cudaSuccess)
        run_until(s, s->issued);
    return error;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned)
{
    if (simt_fault())
        return cudaErrorUnknown;
    allocations++;
    *e = new CUevent_st();
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    allocations--;
    delete e;
    return survived();
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    if (simt_fault())
        return cudaErrorUnknown;
    *e = {s, s->issued};
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    bool fails = simt_fault();
    if (e->stream)
        run_until(e->stream, e->at);
    return fails ? cudaErrorUnknown : cudaSuccess;
}

/* ---- graphs ---- */

cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode)
{
    cudaError_t error = survived();
    if (error != cudaSuccess)
        return error;
    s->capture = new CUgraph_st();
    s->spoilt = false;
    return cudaSuccess;
}

/* Ends the capture whatever comes of it. */
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g)
{
    cudaError_t error = survived();
    bool good = error == cudaSuccess && !s->spoilt;
    *g = good ? s->capture : nullptr;
    if (!good)
        delete s->capture;
    allocations += good;
    s->capture = nullptr;
    return error != cudaSuccess ? error : good ? cudaSuccess : cudaErrorStreamCaptureInvalidated;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *e, cudaGraph_t g, unsigned long long)
{
    cudaError_t error = survived();
    if (error != cudaSuccess)
        return error;
    allocations++;
    graphs++;
    *e = new CUgraphExec_st{g->work};
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t e, cudaStream_t s)
{
    cudaError_t error = survived();
    replays++;
    for (size_t i = 0; i < e->work.size() && error == cudaSuccess; i++)
        error = issue(s, e->work[i]);
    return error;
}

cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
    allocations--;
    delete g;
    return survived();
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t e)
{
    allocations--;
    graphs--;
    delete e;
    return survived();
}

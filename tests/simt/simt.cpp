/* The emulator: a block at a time, its threads as fibers on one host thread.
 *
 * A fiber runs until it waits. Warps run depth first: the lanes of one warp take turns until
 * all of them wait at the block's barrier or have left, then the next warp starts. A thread
 * that reads what another warp has not yet written behind a missing __syncthreads therefore
 * sees poison or the past, every time. A round without progress is reported as a deadlock: a
 * barrier that some thread never reaches. */
#include "cuda_runtime.h"

#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ucontext.h>
#include <vector>

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace
{
const size_t STACK_BYTES = 128 * 1024;
const unsigned WARP_LANES = 32;
const unsigned THREADS_MAX = 1024;
const size_t SHARED_MAX = 227 * 1024;
const size_t DEVICE_BYTES = (size_t)1 << 30;

struct warp {
    unsigned waiting;    /* lanes at the collective */
    unsigned generation; /* collectives completed */
    uint64_t value[2][WARP_LANES];
};

struct fiber {
    ucontext_t context; /* enters the fiber */
    jmp_buf jump;       /* where it waits, once started */
    bool started;
    std::vector<char> stack;
    unsigned turn; /* collectives this lane has entered: picks the value buffer */
    bool done;
    bool at_block_barrier;
};

std::vector<fiber> fibers(THREADS_MAX);
std::vector<warp> warps(THREADS_MAX / WARP_LANES);
std::vector<unsigned char> shared_memory(SHARED_MAX + 16);
jmp_buf scheduler;
const std::function<void()> *body;
size_t shared_bytes;
unsigned n_threads, current, n_done, n_at_barrier, launches;
bool progress;

void fail(const char *what)
{
    fprintf(stderr, "simt: %s (block %u,%u thread %u)\n", what, blockIdx.x, blockIdx.y, current);
    abort();
}

/* Jumps, since swapcontext() asks the system for the signal mask on every switch. */
void yield()
{
    if (!_setjmp(fibers[current].jump))
        _longjmp(scheduler, 1);
}

void fiber_main()
{
    (*body)();
    fibers[current].done = true;
    n_done++;
    progress = true;
    for (;;)
        yield();
}

void prepare(unsigned i)
{
    fiber &f = fibers[i];
    f.stack.resize(STACK_BYTES);
    f.turn = 0;
    f.started = f.done = f.at_block_barrier = false;
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack.data();
    f.context.uc_stack.ss_size = f.stack.size();
    f.context.uc_link = nullptr;
    makecontext(&f.context, fiber_main, 0);
}

void run(unsigned i)
{
    current = i;
    threadIdx = dim3(i, 0, 0);
    if (_setjmp(scheduler))
        return;
    if (fibers[i].started)
        _longjmp(fibers[i].jump, 1);
    fibers[i].started = true;
    setcontext(&fibers[i].context);
}

/* Lanes in turn until none of the warp can go on; backwards in every other launch. */
void run_warp(unsigned w)
{
    unsigned first = w * WARP_LANES;
    unsigned n = n_threads - first < WARP_LANES ? n_threads - first : WARP_LANES;
    bool moved = true;
    while (moved) {
        moved = false;
        for (unsigned k = 0; k < n; k++) {
            unsigned i = first + (launches % 2 ? n - 1 - k : k);
            if (fibers[i].done || fibers[i].at_block_barrier)
                continue;
            progress = false;
            run(i);
            moved = moved || progress;
        }
    }
}

void run_block()
{
    memset(shared_memory.data(), 0xff, shared_memory.size());
    n_done = n_at_barrier = 0;
    unsigned n_warps = (n_threads + WARP_LANES - 1) / WARP_LANES;
    for (unsigned i = 0; i < n_threads; i++)
        prepare(i);
    for (unsigned w = 0; w < n_warps; w++)
        warps[w] = warp{};
    while (n_done < n_threads) {
        unsigned before = n_done;
        for (unsigned k = 0; k < n_warps; k++)
            run_warp((k * (launches % 3 ? n_warps - 1 : 1) + launches) % n_warps);
        if (n_done == n_threads)
            break;
        if (n_at_barrier + n_done != n_threads || n_at_barrier == 0)
            fail("deadlock: a warp collective that some lane never reaches");
        if (n_done != 0 && n_at_barrier != 0 && before != n_done)
            fail("a thread left while others wait at __syncthreads");
        n_at_barrier = 0;
        for (unsigned i = 0; i < n_threads; i++)
            fibers[i].at_block_barrier = false;
    }
}
} // namespace

void *simt_shared(size_t bytes)
{
    if (bytes > shared_bytes)
        fail("more shared memory than the launch asked for");
    return (void *)(((uintptr_t)shared_memory.data() + 15) & ~(uintptr_t)15);
}

void simt_block_barrier()
{
    fibers[current].at_block_barrier = true;
    n_at_barrier++;
    progress = true;
    yield();
}

unsigned simt_lane()
{
    return current % WARP_LANES;
}

uint64_t simt_exchange(unsigned mask, uint64_t value, unsigned from_lane)
{
    warp &w = warps[current / WARP_LANES];
    fiber &f = fibers[current];
    if (!(mask >> simt_lane() & 1) || !(mask >> from_lane & 1))
        fail("a lane outside its own mask");
    unsigned generation = w.generation;
    uint64_t *slots = w.value[f.turn++ % 2];
    slots[simt_lane()] = value;
    progress = true;
    if (++w.waiting == (unsigned)__builtin_popcount(mask)) {
        w.waiting = 0;
        w.generation++;
    }
    while (w.generation == generation)
        yield();
    progress = true;
    return slots[from_lane];
}

void simt_warp_barrier(unsigned mask)
{
    (void)simt_exchange(mask, 0, simt_lane());
}

cudaError_t simt_launch(const cudaLaunchConfig_t *config, const std::function<void()> &thread)
{
    if (config->blockDim.x > THREADS_MAX || config->dynamicSmemBytes > SHARED_MAX ||
        config->gridDim.y > 65535)
        return cudaErrorInvalidValue;
    gridDim = config->gridDim;
    blockDim = config->blockDim;
    n_threads = blockDim.x;
    shared_bytes = config->dynamicSmemBytes;
    body = &thread;
    launches++;
    for (unsigned y = 0; y < gridDim.y; y++) {
        for (unsigned x = 0; x < gridDim.x; x++) {
            blockIdx = dim3(x, y, 0);
            run_block();
        }
    }
    return cudaSuccess;
}

const char *cudaGetErrorString(cudaError_t e)
{
    return e == cudaSuccess ? "no error" : "invalid value";
}

cudaError_t cudaGetLastError()
{
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *n)
{
    *n = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int)
{
    *p = cudaDeviceProp{};
    (void)snprintf(p->name, sizeof(p->name), "emulated");
    p->major = 8;
    p->multiProcessorCount = 1;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int)
{
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    *available = *total = DEVICE_BYTES;
    return cudaSuccess;
}

/* Fresh device memory is not zero: poison, so that a missing memset shows. */
cudaError_t cudaMalloc(void **p, size_t bytes)
{
    *p = bytes <= DEVICE_BYTES ? aligned_alloc(256, (bytes + 255) / 256 * 256) : nullptr;
    if (!*p)
        return cudaErrorMemoryAllocation;
    memset(*p, 0xff, bytes);
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    free(p);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    return cudaMalloc(p, bytes);
}

cudaError_t cudaFreeHost(void *p)
{
    return cudaFree(p);
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t)
{
    memset(p, value, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind, cudaStream_t)
{
    memcpy(to, from, bytes);
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *s)
{
    *s = (cudaStream_t)malloc(1);
    return *s ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    free((void *)s);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t)
{
    return cudaSuccess;
}

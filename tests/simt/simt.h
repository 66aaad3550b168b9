#ifndef SIMT_H
#define SIMT_H

/* Inside of the emulator, shared by its files. Kernels see cuda_runtime.h alone. */
#include "cuda_runtime.h"

#include <cstring>

enum {
    SIMT_LANES = 32,
    SIMT_THREADS_MAX = 1024,
    SIMT_SHARED_MAX = 227 * 1024,
    /* Shared addresses start here, so that 0 is never one. */
    SIMT_SHARED_BASE = 1024,
    SIMT_OPERANDS = 16, /* 32-bit words that a lane brings to a collective */
    SIMT_RESULTS = 4,
};

enum simt_state { SIMT_READY, SIMT_IN_WARP, SIMT_IN_BLOCK, SIMT_IN_MBARRIER, SIMT_GONE };

/* What lanes do together; all lanes of a warp must do the same at the same place. */
enum simt_op {
    SIMT_SYNC_BLOCK,
    SIMT_SYNC_WARP,
    SIMT_EXCHANGE,
    SIMT_LDMATRIX,
    SIMT_SHARED,
    SIMT_MMA,
    SIMT_WGMMA,
    SIMT_WGMMA_COMMIT,
    SIMT_WGMMA_WAIT,
};

/* A list of fixed room: the emulator allocates nothing while fibers run, or the race detector
 * would watch its memory. */
template <typename T, int ROOM> struct simt_list {
    T item[ROOM];
    int n;

    bool push(const T &v)
    {
        if (n == ROOM)
            return false;
        item[n++] = v;
        return true;
    }
    void erase(int i)
    {
        for (n--; i < n; i++)
            item[i] = item[i + 1];
    }
};

struct simt_warp {
    uint32_t live;    /* lanes that have not returned */
    uint32_t arrived; /* lanes at the collective */
    uint64_t generation;
    uint32_t in[2][SIMT_LANES][SIMT_OPERANDS];
    uint32_t out[2][SIMT_LANES][SIMT_RESULTS];
};

extern simt_warp simt_warps[SIMT_THREADS_MAX / SIMT_LANES];
extern unsigned simt_current; /* thread that runs */

/* Does what is no kernel between two of a stream, in its order for the race detector too. */
void simt_between(const std::function<void()> &work);
/* The host has waited: what kernels wrote it may read. */
void simt_joined();

/* Puts work on a stream, or in the graph that is being recorded of it (runtime.cpp). */
cudaError_t simt_issue(cudaStream_t s, const std::function<void()> &work, const void *kernel);

[[noreturn]] void simt_fail(const char *what, simt_at at);

/* Bytes of shared memory at an address, checked. */
unsigned char *simt_shared_at(uint32_t address, unsigned bytes, unsigned align, simt_at at);

/* Waits until every live lane of the warp is here; the last one runs last(warp, in, out) on the
 * operands of all. Returns the parity of the buffers this round used. */
void simt_arrive(simt_op op, simt_at at, void (*last)(simt_warp *w, int parity));
static inline simt_warp *simt_warp_here()
{
    return &simt_warps[simt_current / SIMT_LANES];
}
static inline unsigned simt_lane_here()
{
    return simt_current % SIMT_LANES;
}

/* Gives way to the other fibers in state s until the scheduler makes this one ready again. */
void simt_wait(simt_state s);
void simt_note(simt_op op, simt_at at); /* where a thread waits, for reports */

/* The asynchronous machinery of a block (simt_async.cpp). */
void simt_async_reset();
bool simt_async_step(uint32_t random); /* delivers one bulk copy; false: none is under way */
bool simt_mbarrier_ready(unsigned thread);
void simt_async_leave(unsigned thread); /* fails when copies are still under way */
void simt_wgmma_reset();

extern bool simt_shuffled;
uint32_t simt_random();

/* What the race detector is told. Fibers are its threads; order between them is made by
 * barriers alone. Without it these are nothing. */
#ifdef SIMT_TSAN
extern "C" {
void *__tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
void *__tsan_get_current_fiber();
void __tsan_acquire(void *p);
void __tsan_release(void *p);
void __tsan_read_range(void *p, unsigned long n);
void __tsan_write_range(void *p, unsigned long n);
}
#define RACE(call) call
#else
#define RACE(call) (void)0
#endif

/* Shared memory as a warp sees it: lanes go in phases of 128 bytes, and a phase takes as many
 * cycles as there are words that one bank is asked for (simt_banks.cpp). */
struct simt_banks {
    uint64_t phases;
    uint64_t cycles;
};
enum simt_access { SIMT_ROWS, SIMT_GET, SIMT_PUT }; /* by ldmatrix; by lanes of 4, 8 or 16 bytes */
extern simt_banks simt_bank_count;                  /* of all */
/* A collective: each lane brings its address, the last one counts. */
void simt_banks_here(simt_op op, uint32_t address, unsigned bytes, simt_access access, simt_at at);

#endif

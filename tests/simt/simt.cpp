/* The emulator: a block at a time, its threads as fibers on one host thread; blocks backwards in
 * every other launch.
 *
 * A fiber runs until it waits. Warps run depth first: the lanes of one warp take turns until
 * all of them wait at the block's barrier or have left, then the next warp starts. A thread
 * that reads what another warp has not yet written behind a missing __syncthreads therefore
 * sees poison or the past, every time. A round without progress is reported as a deadlock, with
 * the line that each warp waits at.
 *
 * Built with SIMT_TSAN each fiber is a thread of the race detector's, and only barriers order
 * them: a race is found whether or not this order of running shows it. */
#include "simt.h"

#include "fault.h"

#include <cstdio>
#include <cstdlib>
#include <random>
#include <sys/mman.h>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

dim3 threadIdx, blockIdx, blockDim, gridDim;
simt_warp simt_warps[SIMT_THREADS_MAX / SIMT_LANES];
unsigned simt_current;
bool simt_shuffled = getenv("SIMT_SEED") != nullptr;

/* ---- switching stacks --------------------------------------------------------------- */

#if defined(__x86_64__)
/* swapcontext() asks the system for the signal mask at every switch, and the race detector
 * follows longjmp(); this does neither. */
struct stack_pointer {
    void *at;
};
extern "C" void simt_switch(void **save, void *load);
asm(R"(.text
.globl simt_switch
.type simt_switch,@function
simt_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp,(%rdi)
    mov %rsi,%rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
.size simt_switch,.-simt_switch
)");

static void stack_start(stack_pointer *p, unsigned char *stack, size_t bytes, void (*entry)())
{
    void **top = (void **)(stack + bytes - 64);
    *--top = nullptr; /* the entry's return address: it never returns */
    *--top = (void *)entry;
    for (int i = 0; i < 6; i++)
        *--top = nullptr;
    p->at = top;
}

static void stack_switch(stack_pointer *from, stack_pointer *to)
{
    simt_switch(&from->at, to->at);
}
#else
struct stack_pointer {
    ucontext_t context;
};

static void stack_start(stack_pointer *p, unsigned char *stack, size_t bytes, void (*entry)())
{
    getcontext(&p->context);
    p->context.uc_stack.ss_sp = stack;
    p->context.uc_stack.ss_size = bytes;
    p->context.uc_link = nullptr;
    makecontext(&p->context, entry, 0);
}

static void stack_switch(stack_pointer *from, stack_pointer *to)
{
    swapcontext(&from->context, &to->context);
}
#endif

namespace
{
const size_t STACK_BYTES = 256 * 1024;
const unsigned SEED = 1;

struct fiber {
    stack_pointer sp;
    unsigned char *stack; /* NULL: not started yet */
    void *race;
    simt_state state;
    simt_op op;
    simt_at at;
    bool waited; /* for the kernel before */
};

/* The race detector's threads are dear to make, so that blocks use them again, but not the next
 * block: threads of neighbouring blocks must not look like one. */
#ifdef SIMT_TSAN
const unsigned SETS = 3;
#else
const unsigned SETS = 1;
#endif
fiber sets[SETS][SIMT_THREADS_MAX];
fiber *fibers = sets[0]; /* of this block */
unsigned set;
fiber *running; /* NULL: the scheduler */
stack_pointer scheduler;
void *scheduler_race;
const std::function<void()> *body;
unsigned char *shared_memory;
size_t shared_bytes;
unsigned n_threads, n_live, n_at_barrier, launches;
bool early; /* this kernel started before the one before it has ended */
/* What the race detector syncs on. A kernel knows what the host did before, from its start; what
 * kernels before it did, from its dependency_wait() if it started early: the host that starts them
 * all must not carry that over, so that between two kernels somebody else does. */
char order_host, order_start, order_end, order_done;
char order_block[SETS];
char order_warp[SETS][SIMT_THREADS_MAX / SIMT_LANES];
std::mt19937 generator(getenv("SIMT_SEED") ? (unsigned)strtoul(getenv("SIMT_SEED"), nullptr, 10)
                                           : SEED);

#if defined(__SANITIZE_ADDRESS__)
const void *scheduler_stack; /* learnt when the first fiber is entered */
size_t scheduler_stack_bytes;
#endif

/* to: NULL for the scheduler. */
void go(fiber *to)
{
    fiber *from = running;
    running = to;
    if (to) {
        simt_current = (unsigned)(to - fibers);
        threadIdx = dim3(simt_current, 0, 0);
    }
#if defined(__SANITIZE_ADDRESS__)
    void *fake = nullptr;
    if (to)
        __sanitizer_start_switch_fiber(&fake, to->stack, STACK_BYTES);
    else
        __sanitizer_start_switch_fiber(&fake, scheduler_stack, scheduler_stack_bytes);
#endif
    RACE(__tsan_switch_to_fiber(to ? to->race : scheduler_race, 1));
    stack_switch(from ? &from->sp : &scheduler, to ? &to->sp : &scheduler);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

void leave()
{
    simt_warp *w = simt_warp_here();
    if (early && !running->waited)
        simt_fail("a thread leaves without dependency_wait(), in a kernel that starts early",
                  running->at);
    simt_async_leave(simt_current);
    if (w->arrived)
        simt_fail("a lane leaves while others of its warp wait for it", running->at);
    w->live &= ~(1u << simt_lane_here());
    running->state = SIMT_GONE;
    n_live--;
    go(nullptr);
}

/* Runs one thread of each block in turn; never returns. */
void fiber_main()
{
#if defined(__SANITIZE_ADDRESS__)
    const void *below = nullptr;
    size_t bytes = 0;
    __sanitizer_finish_switch_fiber(nullptr, &below, &bytes);
    if (!scheduler_stack) {
        scheduler_stack = below;
        scheduler_stack_bytes = bytes;
    }
#endif
    for (;;) {
        RACE(__tsan_acquire(&order_start));
        if (!early)
            RACE(__tsan_acquire(&order_done));
        (*body)();
        RACE(__tsan_release(&order_end));
        leave();
    }
}

unsigned char *map_stack(size_t bytes)
{
    void *p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        simt_fail("no memory for stacks", simt_at());
    return (unsigned char *)p;
}

void start_fiber(unsigned i)
{
    fiber *f = &fibers[i];
    f->state = SIMT_READY;
    f->waited = false;
    simt_warps[i / SIMT_LANES].live |= 1u << i % SIMT_LANES;
    if (f->stack)
        return;
    RACE(f->race = __tsan_create_fiber(0));
    f->stack = map_stack(STACK_BYTES);
    stack_start(&f->sp, f->stack, STACK_BYTES, fiber_main);
}

/* Lanes until none of the warp can go on; backwards in every other launch. */
bool run_warp(unsigned w)
{
    unsigned first = w * SIMT_LANES;
    unsigned n = n_threads - first < SIMT_LANES ? n_threads - first : SIMT_LANES;
    bool ran = false;
    for (unsigned k = 0; k < n; k++) {
        unsigned i = first + (launches % 2 ? n - 1 - k : k);
        if (fibers[i].state != SIMT_READY)
            continue;
        ran = true;
        go(&fibers[i]);
        k = (unsigned)-1; /* from the beginning: others may be ready again */
    }
    return ran;
}

void release_barrier()
{
    for (unsigned w = 0; w * SIMT_LANES < n_threads; w++) {
        unsigned n = n_threads - w * SIMT_LANES;
        uint32_t all = n < SIMT_LANES ? (1u << n) - 1 : 0xffffffffu;
        if (simt_warps[w].live != 0 && simt_warps[w].live != all)
            simt_fail("some lanes of a warp left while others wait at __syncthreads",
                      fibers[w * SIMT_LANES].at);
    }
    n_at_barrier = 0;
    for (unsigned i = 0; i < n_threads; i++)
        if (fibers[i].state == SIMT_IN_BLOCK)
            fibers[i].state = SIMT_READY;
}

void report_deadlock()
{
    static const char *const names[] = {"ready", "a warp collective", "__syncthreads",
                                        "an mbarrier", "gone"};
    for (unsigned i = 0; i < n_threads; i++)
        if (fibers[i].state != SIMT_GONE &&
            (i % SIMT_LANES == 0 || fibers[i].state != fibers[i - 1].state))
            fprintf(stderr, "  thread %u waits at %s, %s:%d\n", i, names[fibers[i].state],
                    fibers[i].at.file, fibers[i].at.line);
    simt_fail("deadlock", simt_at("", 0));
}

bool wake_mbarriers()
{
    bool woke = false;
    for (unsigned i = 0; i < n_threads; i++) {
        if (fibers[i].state == SIMT_IN_MBARRIER && simt_mbarrier_ready(i)) {
            fibers[i].state = SIMT_READY;
            woke = true;
        }
    }
    return woke;
}

void run_threads()
{
    unsigned n_warps = (n_threads + SIMT_LANES - 1) / SIMT_LANES;
    while (n_live) {
        unsigned turn = simt_shuffled ? simt_random() : launches;
        bool moved = false;
        for (unsigned k = 0; k < n_warps; k++)
            moved |= run_warp((launches % 3 == 0 ? k + turn : n_warps - 1 - (k + turn) % n_warps) %
                              n_warps);
        moved |= wake_mbarriers();
        /* Copies arrive as late as they may: when nobody can go on without them. */
        if (!moved && simt_async_step(simt_random()))
            moved = wake_mbarriers() || true;
        if (!moved && n_live && n_at_barrier == n_live) {
            release_barrier();
            moved = true;
        }
        if (!moved)
            report_deadlock();
    }
}

/* Poison: NaN as a float, -1 as an integer. */
unsigned char *fresh_shared(size_t bytes)
{
    size_t room = (bytes + 1023) / 1024 * 1024 + 1024;
    unsigned char *p = (unsigned char *)aligned_alloc(1024, room);
    if (!p)
        simt_fail("no memory", simt_at());
    memset(p, 0xff, bytes);
#if defined(__SANITIZE_ADDRESS__)
    ASAN_POISON_MEMORY_REGION(p + bytes, room - bytes);
#endif
    return p;
}

void free_shared(unsigned char *p)
{
#if defined(__SANITIZE_ADDRESS__)
    ASAN_UNPOISON_MEMORY_REGION(p, (shared_bytes + 1023) / 1024 * 1024 + 1024);
#endif
    free(p);
}

void run_block(unsigned x, unsigned y, unsigned z, std::vector<unsigned char *> *old)
{
    blockIdx = dim3(x, y, z);
    shared_memory = fresh_shared(shared_bytes);
    RACE(__tsan_release(&order_start));
    n_live = n_threads;
    n_at_barrier = 0;
    memset(simt_warps, 0, sizeof(simt_warps));
    simt_async_reset();
    simt_wgmma_reset();
    for (unsigned i = 0; i < n_threads; i++)
        start_fiber(i);
    run_threads();
    set = (set + 1) % SETS;
    fibers = sets[set];
    old->push_back(shared_memory);
}
} // namespace

/* ---- for the other files ------------------------------------------------------------ */

void simt_fail(const char *what, simt_at at)
{
    fprintf(stderr, "simt: %s at %s:%d (block %u,%u,%u thread %u)\n", what, at.file, at.line,
            blockIdx.x, blockIdx.y, blockIdx.z, simt_current);
    abort();
}

uint32_t simt_random()
{
    return generator();
}

unsigned char *simt_shared_at(uint32_t address, unsigned bytes, unsigned align, simt_at at)
{
    if (address < SIMT_SHARED_BASE || address - SIMT_SHARED_BASE + (size_t)bytes > shared_bytes)
        simt_fail("shared address out of range", at);
    if (address % align)
        simt_fail("misaligned shared address", at);
    return shared_memory + (address - SIMT_SHARED_BASE);
}

void simt_note(simt_op op, simt_at at)
{
    running->op = op;
    running->at = at;
}

void simt_wait(simt_state s)
{
    running->state = s;
    unsigned first = simt_current / SIMT_LANES * SIMT_LANES;
    for (unsigned i = 1; i < SIMT_LANES; i++) {
        unsigned next = first + (simt_current + i) % SIMT_LANES;
        if (next < n_threads && fibers[next].state == SIMT_READY) {
            go(&fibers[next]);
            return;
        }
    }
    go(nullptr);
}

void simt_arrive(simt_op op, simt_at at, void (*last)(simt_warp *w, int parity))
{
    simt_warp *w = simt_warp_here();
    unsigned first = simt_current / SIMT_LANES * SIMT_LANES;
    int parity = (int)(w->generation & 1);
    simt_note(op, at);
    w->arrived |= 1u << simt_lane_here();
    if (w->arrived != w->live) {
        simt_wait(SIMT_IN_WARP);
        return;
    }
    for (unsigned i = 0; i < SIMT_LANES; i++) {
        const fiber *f = &fibers[first + i];
        if ((w->live >> i & 1) && (f->op != op || f->at.line != at.line))
            simt_fail("lanes of a warp are at different collectives", f->at);
    }
    if (last)
        last(w, parity);
    w->arrived = 0;
    w->generation++;
    for (unsigned i = 0; i < SIMT_LANES; i++)
        if (fibers[first + i].state == SIMT_IN_WARP)
            fibers[first + i].state = SIMT_READY;
}

/* ---- for kernels -------------------------------------------------------------------- */

void *simt_shared(size_t bytes, simt_at at)
{
    if (bytes > shared_bytes)
        simt_fail("more shared memory than the launch asked for", at);
    return shared_memory;
}

uint32_t simt_address(const void *shared)
{
    return (uint32_t)((const unsigned char *)shared - shared_memory) + SIMT_SHARED_BASE;
}

unsigned simt_lane()
{
    return simt_lane_here();
}

void simt_sync_block(simt_at at)
{
    simt_note(SIMT_SYNC_BLOCK, at);
    RACE(__tsan_release(&order_block[set]));
    n_at_barrier++;
    simt_wait(SIMT_IN_BLOCK);
    RACE(__tsan_acquire(&order_block[set]));
}

void simt_sync_warp(unsigned mask, simt_at at)
{
    simt_warp *w = simt_warp_here();
    if ((mask & w->live) != w->live)
        simt_fail("a mask that leaves lanes out", at);
    RACE(__tsan_release(&order_warp[set][simt_current / SIMT_LANES]));
    simt_arrive(SIMT_SYNC_WARP, at, nullptr);
    RACE(__tsan_acquire(&order_warp[set][simt_current / SIMT_LANES]));
}

uint32_t simt_exchange(unsigned mask, uint32_t value, unsigned from_lane, simt_at at)
{
    simt_warp *w = simt_warp_here();
    if ((mask & w->live) != w->live)
        simt_fail("a mask that leaves lanes out", at);
    if (!(w->live >> from_lane & 1))
        simt_fail("a shuffle from a lane that is not there", at);
    int parity = (int)(w->generation & 1);
    w->in[parity][simt_lane_here()][0] = value;
    simt_arrive(SIMT_EXCHANGE, at, nullptr);
    return w->in[parity][from_lane][0];
}

void simt_dependency_wait(simt_at at)
{
    running->at = at;
    running->waited = true;
    RACE(__tsan_acquire(&order_done));
}

/* Under the race detector: as a thread that has seen the kernels before, unlike the host. */
static void apart(const std::function<void()> &work)
{
#ifdef SIMT_TSAN
    static void *courier = __tsan_create_fiber(0);
    void *host = __tsan_get_current_fiber();
    __tsan_release(&order_host);
    __tsan_switch_to_fiber(courier, 1);
    __tsan_acquire(&order_host);
    __tsan_acquire(&order_end);
    work();
    __tsan_release(&order_done);
    __tsan_switch_to_fiber(host, 1);
#else
    work();
#endif
}

void simt_between(const std::function<void()> &work)
{
    apart([&] {
        work();
        RACE(__tsan_release(&order_start));
    });
}

void simt_joined()
{
    RACE(__tsan_acquire(&order_done));
}

struct grid {
    dim3 blocks;
    dim3 threads;
    size_t shared;
    bool early;
};

static void run_grid(const struct grid &g, const std::function<void()> &thread)
{
    gridDim = g.blocks;
    blockDim = g.threads;
    n_threads = blockDim.x;
    shared_bytes = g.shared;
    early = g.early;
    body = &thread;
    launches++;
    RACE(scheduler_race = __tsan_get_current_fiber());
    /* Under the race detector memory is not used again within a launch: blocks are not ordered. */
    std::vector<unsigned char *> old;
    size_t n = (size_t)gridDim.x * gridDim.y * gridDim.z;
    for (size_t k = 0; k < n; k++) {
        size_t at = launches % 2 ? n - 1 - k : k; /* whoever arrives last is another each time */
        run_block((unsigned)(at % gridDim.x), (unsigned)(at / gridDim.x % gridDim.y),
                  (unsigned)(at / gridDim.x / gridDim.y), &old);
#ifndef SIMT_TSAN
        free_shared(old.back());
        old.pop_back();
#endif
    }
    apart([&] {
        for (unsigned char *p : old)
            free_shared(p);
    });
}

cudaError_t simt_launch(const cudaLaunchConfig_t *config, const std::function<void()> &thread,
                        const void *kernel)
{
    if (config->blockDim.x > SIMT_THREADS_MAX || config->blockDim.x == 0 ||
        config->dynamicSmemBytes > SIMT_SHARED_MAX || config->gridDim.y > 65535 ||
        config->gridDim.z > 65535)
        return cudaErrorInvalidValue;
    if (simt_fault())
        return cudaErrorUnknown;
    const struct grid g = {config->gridDim, config->blockDim, config->dynamicSmemBytes,
                           config->numAttrs > 0 &&
                               config->attrs->val.programmaticStreamSerializationAllowed};
    return simt_issue(
        config->stream, [=] { run_grid(g, thread); }, kernel);
}

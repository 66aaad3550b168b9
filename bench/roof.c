/* Roofs of the host: reading memory, and int8 products out of registers.
 *
 * Every thread of a pool runs the same loop over its own part; a sample is all of it over the
 * time until the last one is done. */

#include "bench/roof.h"

#include "kernels/cpu_kernels.h"
#include "kernels/cpu_pool.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

enum {
    LINE = 64,
    STREAMS_MAX = 8,
    PIECES_PER_THREAD = 8, /* evens out what a neighbour takes away */
    PRODUCT_ROUNDS = 200000,
    CHAINS = 12, /* sums under way: more than any latency asks for */
};

/* More than the last-level caches this is likely to meet, and a multiple of all parts. */
#define READ_BYTES ((size_t)256 << 20)

/* Sixteen bytes that every compiler loads at once, whatever the machine. */
typedef uint64_t lane __attribute__((vector_size(16), aligned(16)));

struct roof {
    struct nodes nodes;
    struct pool *pool;
    char *bytes; /* [READ_BYTES] */
};

struct read_job {
    const char *bytes;
    size_t piece;   /* bytes of a task */
    size_t streams; /* a piece is read as so many at once */
    size_t ahead;   /* bytes between what is read and what is asked for; 0: nothing is */
};

/* streams is a constant where this is inlined. */
static inline __attribute__((always_inline)) void read_streams(const struct read_job *job,
                                                               const char *from,
                                                               const size_t streams)
{
    size_t each = job->piece / streams;
    lane seen[STREAMS_MAX] = {{0}};
    for (size_t at = 0; at < each; at += LINE) {
        for (size_t s = 0; s < streams; s++) {
            const char *p = from + s * each + at;
            if (job->ahead)
                __builtin_prefetch(p + job->ahead, 0, 2);
            for (size_t i = 0; i < LINE; i += sizeof(lane))
                seen[s] |= *(const lane *)(const void *)(p + i);
        }
    }
    for (size_t s = 0; s < streams; s++)
        __asm__ volatile("" : : "m"(seen[s]));
}

static void read_task(const void *arg, int32_t task, int32_t worker)
{
    const struct read_job *job = arg;
    const char *from = job->bytes + (size_t)task * job->piece;
    (void)worker;
    if (job->streams == 1)
        read_streams(job, from, 1);
    else if (job->streams == 4)
        read_streams(job, from, 4);
    else
        read_streams(job, from, STREAMS_MAX);
}

double roof_read_gbps(struct roof *r)
{
    static const struct {
        size_t streams;
        size_t ahead;
    } ways[] = {{1, 0}, {1, 4096}, {4, 2048}, {8, 1024}, {8, 4096}};
    int32_t n_tasks = pool_threads(r->pool) * PIECES_PER_THREAD;
    double best = 0.0;
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        size_t piece = READ_BYTES / (size_t)n_tasks;
        piece -= piece % (LINE * STREAMS_MAX);
        struct read_job job = {r->bytes, piece, ways[i].streams, ways[i].ahead};
        uint64_t start = now_ns();
        pool_run(r->pool, n_tasks, read_task, &job);
        double gbps = (double)piece * n_tasks / (double)(now_ns() - start);
        best = gbps > best ? gbps : best;
    }
    return best;
}

/* ---- products ---- */

/* Twelve of the same instruction on sums of their own. */
#define CHAIN(op)                                                                                  \
    op("0") op("1") op("2") op("3") op("4") op("5") op("6") op("7") op("8") op("9") op("10")       \
        op("11")

struct product {
    const char *name;
    int32_t ops; /* of one round */
    bool (*have)(void);
    pool_fn task;
};

#if defined(__x86_64__)

static bool have_avx2(void)
{
    return __builtin_cpu_supports("avx2");
}

static bool have_avx512vnni(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vnni");
}

/* The exact product of AVX2 is of 16 bits, and its sum another instruction. Two additions more
 * make it a product of twice as many int8 (kernels/cpu_avx2_wide.c). */
#define AVX2_OP(n)                                                                                 \
    "vpaddw %%ymm15,%%ymm15,%%ymm14\n\tvpaddw %%ymm15,%%ymm15,%%ymm13\n\t"                         \
    "vpmaddwd %%ymm14,%%ymm13,%%ymm14\n\tvpaddd %%ymm14,%%ymm" n ",%%ymm" n "\n\t"

static void avx2_task(const void *arg, int32_t task, int32_t worker)
{
    (void)arg;
    (void)task;
    (void)worker;
    for (int32_t i = 0; i < PRODUCT_ROUNDS; i++)
        __asm__ volatile(CHAIN(AVX2_OP)
                         :
                         :
                         : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                           "xmm9", "xmm10", "xmm11", "xmm13", "xmm14", "xmm15");
    __asm__ volatile("vzeroupper" : : : "memory");
}

#define VNNI_OP(n) "vpdpbusd %%zmm15,%%zmm15,%%zmm" n "\n\t"

static void avx512vnni_task(const void *arg, int32_t task, int32_t worker)
{
    (void)arg;
    (void)task;
    (void)worker;
    for (int32_t i = 0; i < PRODUCT_ROUNDS; i++)
        __asm__ volatile(CHAIN(VNNI_OP)
                         :
                         :
                         : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                           "xmm9", "xmm10", "xmm11", "xmm15");
    __asm__ volatile("vzeroupper" : : : "memory");
}

#define AVXVNNI_OP(n) "%{vex%} vpdpbusd %%ymm15,%%ymm15,%%ymm" n "\n\t"

static void avxvnni_task(const void *arg, int32_t task, int32_t worker)
{
    (void)arg;
    (void)task;
    (void)worker;
    for (int32_t i = 0; i < PRODUCT_ROUNDS; i++)
        __asm__ volatile(CHAIN(AVXVNNI_OP)
                         :
                         :
                         : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                           "xmm9", "xmm10", "xmm11", "xmm15");
    __asm__ volatile("vzeroupper" : : : "memory");
}

static const struct product products[] = {
    {"avx2 vpmaddwd", CHAINS * 64, have_avx2, avx2_task},
    {"avxvnni vpdpbusd", CHAINS * 64, cpu_avxvnni_granted, avxvnni_task},
    {"avx512 vpdpbusd", CHAINS * 128, have_avx512vnni, avx512vnni_task},
};

static bool have_fma(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool have_avx512f(void)
{
    return __builtin_cpu_supports("avx512f");
}

#define FLOAT_TASK(name, op)                                                                       \
    static void name(const void *arg, int32_t task, int32_t worker)                                \
    {                                                                                              \
        (void)arg;                                                                                 \
        (void)task;                                                                                \
        (void)worker;                                                                              \
        for (int32_t i = 0; i < PRODUCT_ROUNDS; i++)                                               \
            __asm__ volatile(CHAIN(op)                                                             \
                             :                                                                     \
                             :                                                                     \
                             : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",     \
                               "xmm8", "xmm9", "xmm10", "xmm11", "xmm15");                         \
        __asm__ volatile("vzeroupper" : : : "memory");                                             \
    }

#define FMA_OP(n)    "vfmadd231ps %%ymm15,%%ymm15,%%ymm" n "\n\t"
#define FMA512_OP(n) "vfmadd231ps %%zmm15,%%zmm15,%%zmm" n "\n\t"
FLOAT_TASK(fma_task, FMA_OP)
FLOAT_TASK(fma512_task, FMA512_OP)

static const struct product floats[] = {
    {"fma", CHAINS * 16, have_fma, fma_task},
    {"avx512 fma", CHAINS * 32, have_avx512f, fma512_task},
};

#elif defined(__aarch64__)

static bool have_dotprod(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
}

#define SDOT_OP(n) "sdot v" n ".4s, v15.16b, v15.16b\n\t"

__attribute__((target("arch=armv8.2-a+dotprod"))) static void dotprod_task(const void *arg,
                                                                           int32_t task,
                                                                           int32_t worker)
{
    (void)arg;
    (void)task;
    (void)worker;
    for (int32_t i = 0; i < PRODUCT_ROUNDS; i++)
        __asm__ volatile(CHAIN(SDOT_OP)
                         :
                         :
                         : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11",
                           "v15");
}

static const struct product products[] = {
    {"neon sdot", CHAINS * 32, have_dotprod, dotprod_task},
};

static const struct product floats[] = {{NULL, 0, NULL, NULL}};

#else

static const struct product products[] = {{NULL, 0, NULL, NULL}};
static const struct product floats[] = {{NULL, 0, NULL, NULL}};

#endif

/* 1e9 operations a second. */
static double sample(struct roof *r, const struct product *p)
{
    int32_t n_tasks = pool_threads(r->pool) * PIECES_PER_THREAD;
    uint64_t start = now_ns();
    pool_run(r->pool, n_tasks, p->task, NULL);
    return (double)n_tasks * PRODUCT_ROUNDS * p->ops / (double)(now_ns() - start);
}

struct roof_products roof_products_at(struct roof *r, size_t i)
{
    for (size_t p = 0; p < ARRAY_LEN(products); p++)
        if (products[p].name && products[p].have() && i-- == 0)
            return (struct roof_products){products[p].name, sample(r, &products[p])};
    return (struct roof_products){0};
}

double roof_float_gops(struct roof *r)
{
    double best = 0.0;
    for (size_t p = 0; p < ARRAY_LEN(floats); p++) {
        bool have = floats[p].name && floats[p].have();
        double gops = have ? sample(r, &floats[p]) : 0.0;
        best = gops > best ? gops : best;
    }
    return best;
}

void roof_close(struct roof *r)
{
    if (!r)
        return;
    pool_close(r->pool);
    if (r->bytes)
        (void)munmap(r->bytes, READ_BYTES);
    free(r);
}

enum status roof_open(struct roof **out, int32_t threads)
{
    struct roof *r = calloc(1, sizeof(*r));
    if (!r)
        return E_NOMEM;
    r->nodes = nodes_one(threads);
    enum status err = pool_open(&r->pool, &r->nodes);
    if (err)
        goto fail;
    void *bytes =
        mmap(NULL, READ_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    err = bytes == MAP_FAILED ? E_NOMEM : OK;
    if (err)
        goto fail;
    r->bytes = bytes;
    /* As the backend's own memory. A page that nobody wrote is the same for all: written. */
    (void)madvise(r->bytes, READ_BYTES, MADV_HUGEPAGE);
    memset(r->bytes, 1, READ_BYTES);
    *out = r;
    return OK;
fail:
    roof_close(r);
    return err;
}

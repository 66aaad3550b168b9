/* Variants of the products' kernels: bytes under way, blocks on a multiprocessor, tiles, and from
 * how many rows on one kernel is faster than another. The product has one of each by count
 * (kernels/NOTES.md); here they are measured, next to what the table of linear.cu chooses, and
 * compared with its results bit by bit. */
#include "bench/gpu_bench.cuh"
#include "kernels/linear_skinny.cuh"
#include "kernels/linear_tile.cuh"
#include "kernels/linear_turned.cuh"

#include <stdio.h>
#include <string.h>

struct variant {
    const char *name;
    enum number act;
    int rows_first;
    int rows_last;
    int sm; /* 0: any */
    int (*run)(const struct gpu *g, const struct product *p);
};

#define SKINNY(act, first, last, math, tiles, groups, loads, blocks)                               \
    {                                                                                              \
        "skinny, " #groups " x 16 channels, " #loads " loads, " #blocks " blocks", act, first,     \
            last, 0,                                                                               \
            skinny::launch_skinny<                                                                 \
                struct skinny::shape<struct skinny::math, tiles, groups, loads, blocks>>           \
    }
#define TURNED(first, last, tokens, slots)                                                         \
    {                                                                                              \
        "turned, " #tokens " columns, " #slots " slots", NUM_Q8, first, last, 90,                  \
            turned::launch_turned<struct turned::shape<tokens, slots>>                             \
    }
#define TILE(rows, channels, stages, warp_rows, warp_channels)                                     \
    {                                                                                              \
        "tile " #rows " x " #channels ", " #stages " stages", NUM_Q8, 17, ROWS_MAX, 0,             \
            tiles::launch_tile<                                                                    \
                struct tiles::tile<rows, channels, stages, warp_rows, warp_channels>>              \
    }

static const struct variant variants[] = {
    SKINNY(NUM_Q8, 1, 8, integers, 1, 1, 2, 2),
    SKINNY(NUM_Q8, 1, 8, integers, 1, 1, 2, 3),
    SKINNY(NUM_Q8, 1, 8, integers, 1, 1, 4, 1),
    SKINNY(NUM_Q8, 1, 8, integers, 1, 1, 4, 2),
    SKINNY(NUM_Q8, 1, 8, integers, 1, 1, 8, 1),
    SKINNY(NUM_Q8, 1, 8, integers, 1, 2, 2, 2),
    SKINNY(NUM_Q8, 1, 8, integers, 1, 2, 4, 1),
    SKINNY(NUM_Q8, 9, 16, integers, 2, 1, 4, 2),
    SKINNY(NUM_Q8, 9, 16, integers, 2, 2, 2, 2),
    SKINNY(NUM_Q8, 9, 16, integers, 2, 2, 4, 1),
    SKINNY(NUM_Q8, 17, 64, integers, 4, 1, 4, 2),
    SKINNY(NUM_F32, 1, 8, halves, 1, 1, 4, 2),
    SKINNY(NUM_F32, 1, 8, halves, 1, 4, 1, 2),
    SKINNY(NUM_F32, 1, 8, halves, 1, 4, 2, 1),
    SKINNY(NUM_F32, 9, 16, halves, 2, 1, 4, 2),
    SKINNY(NUM_F32, 9, 16, halves, 2, 4, 2, 1),
    SKINNY(NUM_F32, 17, ROWS_MAX, halves, 4, 1, 4, 1),
    SKINNY(NUM_F32, 17, ROWS_MAX, halves, 4, 4, 1, 1),
    TURNED(1, 16, 16, 6),
    TURNED(1, 16, 16, 11),
    TURNED(1, 32, 32, 5),
    TURNED(1, 32, 32, 10),
    TURNED(17, 64, 64, 4),
    TURNED(17, 64, 64, 8),
    TURNED(33, ROWS_MAX, 128, 6),
    TURNED(129, 192, 192, 5),
    TURNED(129, ROWS_MAX, 256, 3),
    TURNED(129, ROWS_MAX, 256, 4),
    TILE(64, 64, 4, 32, 32),
    TILE(64, 128, 3, 32, 32),
    TILE(128, 128, 3, 64, 32),
    {"wgmma", NUM_Q8, 65, ROWS_MAX, 90, linear_wgmma},
};

/* A shape, a number of rows, and what was the fastest so far. */
struct contest {
    struct bench *b;
    const struct bench_product *shape;
    struct product p;
    float *expected;              /* what the table's kernel gives */
    const struct variant *issued; /* NULL: the table's */
    const char *best;
    double best_us;
    double table_us;
};

static int issue_variant(struct bench *b, void *arg, int i)
{
    struct contest *c = static_cast<struct contest *>(arg);
    size_t bytes = (size_t)c->p.w.n * (size_t)c->p.w.k;
    c->p.w.q = b->weights + (size_t)i % (WEIGHT_BYTES / bytes) * bytes;
    if (c->issued)
        return c->issued->run(&b->gpu, &c->p);
    return launch_linear(&b->gpu, c->p.y, &c->p.x, &c->p.w, c->p.rows, false);
}

/* One product by the chosen kernel; how many of its values are not those of the table's. */
static unsigned wrong(struct contest *c)
{
    size_t n = (size_t)c->p.rows * (size_t)c->p.w.n;
    unsigned found = 0;
    unsigned *counter = c->b->gpu.partials.arrived + PARTIAL_TILES - 1;
    cudaStream_t stream = c->b->stream;
    if (issue_variant(c->b, c, 0) != 0)
        return 1;
    if (!c->issued) {
        MUST(cudaMemcpyAsync(c->expected, c->p.y, n * sizeof(float), cudaMemcpyDeviceToDevice,
                             stream));
        return 0;
    }
    MUST(cudaMemsetAsync(counter, 0, sizeof(*counter), stream));
    count_differences(stream, c->p.y, c->expected, n, counter);
    MUST(cudaMemcpyAsync(&found, counter, sizeof(found), cudaMemcpyDeviceToHost, stream));
    MUST(cudaStreamSynchronize(stream));
    return found;
}

static void enter(struct contest *c, const struct variant *v)
{
    struct times t;
    size_t bytes = (size_t)c->p.w.n * (size_t)c->p.w.k;
    c->issued = v;
    if (late(c->b) || !measure(c->b, issue_variant, c, launches_for(bytes), &t))
        return;
    unsigned differs = wrong(c);
    double us = 1e6 * t.median;
    printf("{\"part\":\"sweep\",\"model\":\"%s\",\"name\":\"%s\",\"n\":%d,\"k\":%d,\"rows\":%d,"
           "\"kernel\":\"%s\",\"us\":%.2f,\"least_us\":%.2f,\"gbps\":%.1f,\"tops\":%.2f,"
           "\"wrong\":%u}\n",
           c->shape->model, c->shape->name, c->p.w.n, c->p.w.k, c->p.rows, v ? v->name : "table",
           us, 1e6 * t.least, 1e-9 * (double)bytes / t.median,
           2e-12 * (double)bytes * c->p.rows / t.median, differs);
    if (!v)
        c->table_us = us;
    if (differs == 0 && (c->best_us == 0.0 || us < c->best_us)) {
        c->best = v ? v->name : "table";
        c->best_us = us;
    }
}

static void one_contest(struct bench *b, const struct bench_product *s, int rows, float *expected)
{
    struct act x = {s->act, b->xq, b->scales, b->xf};
    struct contest c = {b, s, {}, expected, nullptr, "none", 0.0, 0.0};
    c.p = {b->y, x, {}, rows, false, b->gpu.partials};
    c.p.w.kind = NUM_Q8;
    c.p.w.act = s->act;
    c.p.w.scale = b->scales;
    c.p.w.n = s->n;
    c.p.w.k = s->k;
    enter(&c, nullptr);
    for (size_t i = 0; i < ARRAY_LEN(variants); i++) {
        const struct variant *v = &variants[i];
        if (v->act == s->act && rows >= v->rows_first && rows <= v->rows_last &&
            (!v->sm || v->sm == b->gpu.sm))
            enter(&c, v);
    }
    double bytes = (double)s->n * s->k;
    if (c.best_us > 0.0 && c.table_us > 0.0)
        printf("{\"part\":\"best\",\"model\":\"%s\",\"name\":\"%s\",\"n\":%d,\"k\":%d,\"rows\":%d,"
               "\"kernel\":\"%s\",\"us\":%.2f,\"table_us\":%.2f,\"gain\":%.3f,\"gbps\":%.1f,"
               "\"tops\":%.2f}\n",
               s->model, s->name, s->n, s->k, rows, c.best, c.best_us, c.table_us,
               c.table_us / c.best_us, 1e-3 * bytes / c.best_us, 2e-6 * bytes * rows / c.best_us);
    (void)fflush(stdout);
}

void sweep(struct bench *b)
{
    static const struct bench_product shapes[] = {
        {"llama-3-8b", "qkv", 6144, 4096, NUM_Q8},      {"llama-3-8b", "out", 4096, 4096, NUM_Q8},
        {"llama-3-8b", "gate_up", 28672, 4096, NUM_Q8}, {"llama-3-8b", "down", 4096, 14336, NUM_Q8},
        {"llama-3-8b", "head", 128256, 4096, NUM_F32},  {"tinyllama", "qkv", 2560, 2048, NUM_Q8},
        {"tinyllama", "gate_up", 11264, 2048, NUM_Q8},  {"tinyllama", "down", 2048, 5632, NUM_Q8},
        {"llama-2-7b", "gate_up", 22016, 4096, NUM_Q8}, {"llama-2-7b", "down", 4096, 11008, NUM_Q8},
    };
    static const int rows[] = {1, 16, 64, 8, 32, 128, 256, 2048, 512};
    size_t most = (size_t)ROWS_MAX * 28672 * sizeof(float);
    float *expected = static_cast<float *>(take_bytes(most));
    b->gpu.only = nullptr;
    for (size_t r = 0; r < ARRAY_LEN(rows); r++)
        for (size_t i = 0; i < ARRAY_LEN(shapes) && !late(b); i++) {
            bool many = shapes[i].act == NUM_F32 && rows[r] > SEQS_MAX;
            if (!many && (!b->model || strcmp(b->model, shapes[i].model) == 0))
                one_contest(b, &shapes[i], rows[r], expected);
        }
    MUST(cudaFree(expected));
}

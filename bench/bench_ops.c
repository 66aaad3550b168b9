#include "kernels/ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Speed of the linear operation at the shapes of real models, beside the speed at
 * which this machine reads memory in the same minute. W8A8, repeated after
 * warming up; each repetition reads another copy of the weights where they
 * would otherwise stay in a cache.
 *
 *     bench_ops [--csv] [--backend cpu] [--threads 2] [--seconds 0.3] [--only NAME]
 *               [--cpu-time]  time of one thread, for machines shared with others */

enum {
    REPEATS_MAX = 201,
    ROWS_MAX = 256,
    COPIES_MAX = 64,
};

struct times {
    double median;
    double best;
};

/* More than the last-level caches this is likely to meet. */
#define COLD_BYTES ((size_t)192 << 20)

struct shape {
    const char *name;
    int32_t n;
    int32_t k;
};

static const struct shape shapes[] = {
    {"demo.qkv", 384, 256},
    {"demo.out", 256, 256},
    {"demo.gate_up", 1408, 256},
    {"demo.down", 256, 704},
    {"tinyllama.qkv", 2560, 2048},
    {"tinyllama.out", 2048, 2048},
    {"tinyllama.gate_up", 11264, 2048},
    {"tinyllama.down", 2048, 5632},
    {"tinyllama.head", 32000, 2048},
    {"llama2-7b.qkv", 12288, 4096},
    {"llama2-7b.out", 4096, 4096},
    {"llama2-7b.gate_up", 22016, 4096},
    {"llama2-7b.down", 4096, 11008},
    {"llama2-7b.head", 32000, 4096},
};

static const struct shape read_shape = {"read", 2048, 8192};

static const int32_t row_counts[] = {1, 4, 16, 64, 256};

struct bench {
    struct ops *ops;
    const char *only;
    double seconds; /* spent on each line */
    double read_gbps;
    bool csv;
    bool cpu_time;
    uint64_t step;
};

static void *take(struct bench *b, size_t bytes)
{
    void *p;
    if (b->ops->alloc(b->ops, bytes, &p)) {
        (void)fprintf(stderr, "bench_ops: out of memory\n");
        exit(1);
    }
    return p;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void fill(struct bench *b, int8_t *dst, size_t bytes)
{
    enum { PIECE = 1 << 16 };
    static int8_t piece[PIECE];
    for (int i = 0; i < PIECE; i++)
        piece[i] = (int8_t)(i * 97 % 255 - 127);
    for (size_t at = 0; at < bytes; at += PIECE)
        b->ops->upload(b->ops, dst + at, piece, bytes - at < PIECE ? bytes - at : PIECE);
}

static double seconds_now(const struct bench *b)
{
    struct timespec t;
    clock_gettime(b->cpu_time ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double linear_seconds(struct bench *b, float *y, const struct act *x, const struct weight *w,
                             int32_t rows)
{
    double start = seconds_now(b);
    if (b->ops->step_begin(b->ops, 0xbe7c000000000000u + b->step++)) {
        b->ops->linear(b->ops, y, x, w, rows, false);
        b->ops->step_launch(b->ops);
    }
    if (b->ops->step_wait(b->ops)) {
        (void)fprintf(stderr, "bench_ops: the backend failed\n");
        exit(1);
    }
    return seconds_now(b) - start;
}

/* As many repetitions as fit the time, copies[] in turn. */
static struct times measure(struct bench *b, float *y, const struct act *x,
                            const struct weight *copies, int32_t n_copies, int32_t rows)
{
    double took[REPEATS_MAX];
    int32_t n = 0;
    double spent = 0.0;
    for (int32_t i = 0; i < 2; i++)
        (void)linear_seconds(b, y, x, &copies[i % n_copies], rows);
    while (n < REPEATS_MAX && (n < 3 || spent < b->seconds)) {
        took[n] = linear_seconds(b, y, x, &copies[n % n_copies], rows);
        spent += took[n++];
    }
    qsort(took, (size_t)n, sizeof(*took), compare);
    return (struct times){.median = took[n / 2], .best = took[0]};
}

static struct times measure_shape(struct bench *b, const struct shape *s, float *y,
                                  const struct act *x, int32_t rows)
{
    size_t bytes = (size_t)s->n * (size_t)s->k;
    size_t wanted = COLD_BYTES / bytes + 1;
    int32_t n_copies = wanted < COPIES_MAX ? (int32_t)wanted : COPIES_MAX;
    int8_t *q = take(b, bytes * (size_t)n_copies);
    float *scale = take(b, (size_t)s->n * sizeof(float));
    fill(b, q, bytes * (size_t)n_copies);
    struct weight copies[COPIES_MAX];
    for (int32_t i = 0; i < n_copies; i++)
        copies[i] = (struct weight){.kind = NUM_Q8,
                                    .act = NUM_Q8,
                                    .q = q + bytes * (size_t)i,
                                    .scale = scale,
                                    .n = s->n,
                                    .k = s->k};
    struct times t = measure(b, y, x, copies, n_copies, rows);
    b->ops->release(b->ops, q);
    b->ops->release(b->ops, scale);
    return t;
}

static void print_line(const struct bench *b, const struct shape *s, int32_t rows, struct times t)
{
    double bytes = (double)s->n * s->k + (double)rows * s->k + 4.0 * rows * s->n;
    double gbps = bytes / t.median * 1e-9;
    double gops = 2.0 * rows * s->n * s->k / t.median * 1e-9;
    const char *form = b->csv ? "%s,%d,%d,%d,%.2f,%.2f,%.2f,%.1f,%.3f\n"
                              : "%-18s %6d %6d %5d %11.2f %11.2f %8.2f %8.1f %8.3f\n";
    printf(form, s->name, s->n, s->k, rows, t.median * 1e6, t.best * 1e6, gbps, gops,
           gbps / b->read_gbps);
    (void)fflush(stdout);
}

static void bench_all(struct bench *b)
{
    size_t k_most = 0;
    size_t n_most = (size_t)read_shape.n;
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        k_most = (size_t)shapes[i].k > k_most ? (size_t)shapes[i].k : k_most;
        n_most = (size_t)shapes[i].n > n_most ? (size_t)shapes[i].n : n_most;
    }
    struct act x = {.kind = NUM_Q8};
    x.q = take(b, k_most * ROWS_MAX);
    x.scale = take(b, ROWS_MAX * sizeof(float));
    float *y = take(b, n_most * ROWS_MAX * sizeof(float));
    fill(b, x.q, k_most * ROWS_MAX);
    /* The bandwidth a product could have at best: one row against long rows that no
     * cache holds; the same loop with nothing else to do. */
    struct times read = measure_shape(b, &read_shape, y, &x, 1);
    b->read_gbps = (double)read_shape.n * read_shape.k / read.median * 1e-9;
    printf(b->csv ? "# backend %s, reads %.2f GB/s\n" : "backend %s, reads %.2f GB/s\n",
           b->ops->name, b->read_gbps);
    printf(b->csv ? "shape,n,k,rows,median_us,best_us,gb_per_s,gop_per_s,of_read\n"
                  : "shape                   n      k  rows   median us     best us     GB/s"
                    "    GOP/s  of read\n");
    for (size_t i = 0; i < ARRAY_LEN(shapes) * ARRAY_LEN(row_counts); i++) {
        const struct shape *s = &shapes[i / ARRAY_LEN(row_counts)];
        int32_t rows = row_counts[i % ARRAY_LEN(row_counts)];
        if (!b->only || strstr(s->name, b->only))
            print_line(b, s, rows, measure_shape(b, s, y, &x, rows));
    }
    b->ops->release(b->ops, x.q);
    b->ops->release(b->ops, x.scale);
    b->ops->release(b->ops, y);
}

int main(int argc, char **argv)
{
    struct bench b = {.seconds = 0.3};
    struct ops_options opt = {.backend = "cpu"};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        bool flag = false;
        if (strcmp(argv[i], "--backend") == 0)
            opt.backend = value;
        else if (strcmp(argv[i], "--threads") == 0)
            opt.threads = (int32_t)strtol(value, NULL, 10);
        else if (strcmp(argv[i], "--seconds") == 0)
            b.seconds = strtod(value, NULL);
        else if (strcmp(argv[i], "--only") == 0)
            b.only = value;
        else if (strcmp(argv[i], "--csv") == 0)
            flag = b.csv = true;
        else if (strcmp(argv[i], "--cpu-time") == 0)
            flag = b.cpu_time = true;
        else
            return (void)fprintf(stderr, "bench_ops: unknown option %s\n", argv[i]), 2;
        i += flag ? 0 : 1;
    }
    if (b.cpu_time)
        opt.threads = 1;
    char err[256];
    if (ops_open(&b.ops, &opt, err, sizeof(err)))
        return (void)fprintf(stderr, "bench_ops: %s\n", err), 1;
    bench_all(&b);
    b.ops->close(b.ops);
    return 0;
}

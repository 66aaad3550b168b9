/* Speed of every operation of kernels/ops.h at the shapes of real models, on either backend, beside
 * what the machine gives at best in the same run. Each repetition reads another copy of its
 * operands, so that nothing is left in a cache; the time is that of a whole step of one
 * operation, so on a GPU it includes the launch and the wait (bench_gpu times kernels alone).
 *
 *     bench_ops [--json | --csv] [--backend cpu] [--threads 0] [--only tinyllama.linear,norm]
 *               [--rows 1,16,256] [--seconds 0.2] [--cpu-time]
 *               [--cold-mib N] [--read-gbps N --int8-gops N]
 *
 * --seconds are spent on each line, --cpu-time is the processor's time of one thread, for machines
 * shared with others. --cold-mib says how much there is of copies, 0: one, which stays in the cache
 * if it fits. Roofs that are given are not measured; a GPU's are what bench_gpu says, or not known.
 */
#include "bench/ops_cases.h"
#include "bench/roof.h"
#include "bench/usage.h"
#include "kernels/cpu_kernels.h"
#include "kernels/cpu_machine.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    REPEATS_MAX = 201,
    REPEATS_MIN = 3,
    WARM_REPEATS = 2,
    ROWS_LIST_MAX = 32,
    ROOF_SAMPLES = 3,
    MACHINE_BYTES = 128,
    NAME_BYTES = 96,
    CACHES_PER_COLD = 4, /* what is to be cold is so much larger than the caches */
};

/* One repetition of more is not repeated: its noise is small beside it. */
static const double LONG_SECONDS = 1.5;
static const size_t COLD_BYTES_MIN = (size_t)192 << 20;
static const size_t COLD_BYTES_GPU = (size_t)512 << 20;
/* Of a line's operands: what more is passed over. */
static const size_t LINE_BYTES_MAX = (size_t)1 << 30;
static const size_t LINE_BYTES_GPU_MAX = (size_t)8 << 30;

enum form { FORM_TABLE, FORM_CSV, FORM_JSON };

struct times {
    double median;
    double least;
    int32_t n;
};

struct bench {
    struct ops *ops;
    struct ops_options opt;
    const char *only; /* NULL: all */
    enum form form;
    bool cpu_time;
    double seconds;
    double cold_mib; /* below 0: by the machine */
    double read_gbps;
    double gops[PEAKS]; /* 0: not known */
    const char *int8_by;
    int32_t rows[ROWS_LIST_MAX]; /* [n_rows] */
    size_t n_rows;
};

static void quit(int code, const char *what, const char *detail)
{
    (void)fprintf(stderr, "bench_ops: %s%s%s\n", what, detail[0] ? ": " : "", detail);
    exit(code);
}

/* ---- time ---- */

static double seconds_now(const struct bench *b)
{
    struct timespec t;
    clock_gettime(b->cpu_time ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double once(const struct bench *b, struct scene *s, const struct line *l)
{
    double start = seconds_now(b);
    scene_run(s, l);
    return seconds_now(b) - start;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct times measure(const struct bench *b, struct scene *s, const struct line *l)
{
    double took[REPEATS_MAX];
    struct times t = {.n = 1};
    double spent = 0.0;
    for (int32_t i = 0; i < WARM_REPEATS; i++) {
        took[0] = once(b, s, l);
        if (took[0] > LONG_SECONDS)
            break;
    }
    if (took[0] <= LONG_SECONDS)
        for (t.n = 0; t.n < REPEATS_MAX && (t.n < REPEATS_MIN || spent < b->seconds); t.n++) {
            took[t.n] = once(b, s, l);
            spent += took[t.n];
        }
    qsort(took, (size_t)t.n, sizeof(took[0]), by_value);
    t.median = took[t.n / 2];
    t.least = took[0];
    return t;
}

/* ---- roofs ---- */

static double most(double a, double b)
{
    return a > b ? a : b;
}

/* The best seen so far counts, since what neighbours take away is not the machine's roof: looked
 * at again before every operation. Whether it was raised. */
static bool look_at_roofs(struct bench *b, struct roof *r)
{
    double before[] = {b->read_gbps, b->gops[PEAK_INT8], b->gops[PEAK_F32]};
    if (!r)
        return false;
    b->read_gbps = most(b->read_gbps, roof_read_gbps(r));
    b->gops[PEAK_F32] = most(b->gops[PEAK_F32], roof_float_gops(r));
    struct roof_products p = roof_products_at(r, 0);
    for (size_t way = 1; p.name; p = roof_products_at(r, way++)) {
        if (p.gops > b->gops[PEAK_INT8])
            b->int8_by = p.name;
        b->gops[PEAK_INT8] = most(b->gops[PEAK_INT8], p.gops);
    }
    return b->read_gbps > before[0] || b->gops[PEAK_INT8] > before[1] ||
           b->gops[PEAK_F32] > before[2];
}

/* Seconds that the line cannot do without: reading and writing each once, or its arithmetic. */
static double least_seconds(const struct bench *b, const struct line *l, bool *reads)
{
    double moving = b->read_gbps > 0.0 ? l->bytes / (1e9 * b->read_gbps) : 0.0;
    double gops = l->peak == PEAK_INT16 ? b->gops[PEAK_INT8] / 2.0 : b->gops[l->peak];
    double counting = gops > 0.0 ? l->work / (1e9 * gops) : 0.0;
    *reads = moving >= counting;
    return *reads ? moving : counting;
}

/* ---- what is printed ---- */

/* The processor's name without what JSON would have to escape. */
static void machine_name(char out[MACHINE_BYTES])
{
    char line[512];
    FILE *f = fopen("/proc/cpuinfo", "re");
    (void)snprintf(out, MACHINE_BYTES, "unknown");
    while (f && fgets(line, sizeof(line), f)) {
        const char *colon = strchr(line, ':');
        if (!colon || strncmp(line, "model name", strlen("model name")) != 0)
            continue;
        (void)snprintf(out, MACHINE_BYTES, "%s", colon + strspn(colon, ": \t"));
        out[strcspn(out, "\n\"\\")] = '\0';
        break;
    }
    if (f)
        (void)fclose(f);
}

static void say_roofs(const struct bench *b)
{
    if (b->form != FORM_JSON) {
        printf("%sreads %.2f GB/s, int8 %.1f GOP/s (%s), f32 %.1f GOP/s\n",
               b->form == FORM_CSV ? "# " : "", b->read_gbps, b->gops[PEAK_INT8], b->int8_by,
               b->gops[PEAK_F32]);
        return;
    }
    if (b->read_gbps > 0.0)
        printf("{\"part\":\"roof\",\"name\":\"read\",\"gbps\":%.2f}\n", b->read_gbps);
    if (b->gops[PEAK_INT8] > 0.0)
        printf("{\"part\":\"roof\",\"name\":\"int8\",\"by\":\"%s\",\"gops\":%.1f}\n", b->int8_by,
               b->gops[PEAK_INT8]);
    if (b->gops[PEAK_INT8] > 0.0)
        printf("{\"part\":\"roof\",\"name\":\"int16\",\"gops\":%.1f}\n", b->gops[PEAK_INT8] / 2.0);
    if (b->gops[PEAK_F32] > 0.0)
        printf("{\"part\":\"roof\",\"name\":\"f32\",\"gops\":%.1f}\n", b->gops[PEAK_F32]);
}

static void say_head(const struct bench *b)
{
    char machine[MACHINE_BYTES];
    char when[32];
    time_t now = time(NULL);
    struct tm tm;
    const char *kernels = cpu_kernels_best()->name;
    int32_t threads = b->opt.threads ? b->opt.threads : machine_cores();
    machine_name(machine);
    (void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
    if (b->form == FORM_JSON)
        printf("{\"part\":\"about\",\"tool\":\"bench_ops\",\"backend\":\"%s\",\"machine\":\"%s\","
               "\"cores\":%d,\"threads\":%d,\"kernels\":\"%s\",\"time\":\"%s\"}\n",
               b->ops->name, machine, machine_cores(), threads, kernels, when);
    else
        printf("%sbackend %s, %d threads, %s, kernels %s, %s\n", b->form == FORM_CSV ? "# " : "",
               b->ops->name, threads, machine, kernels, when);
    say_roofs(b);
    if (b->form == FORM_CSV)
        printf("op,rows,context,n,k,reps,median_us,least_us,gb_per_s,gop_per_s,of_roof,hash\n");
    else if (b->form == FORM_TABLE)
        printf("%-30s %5s %7s %6s %6s %4s %12s %12s %7s %8s %7s %s\n", "op", "rows", "context", "n",
               "k", "reps", "median us", "least us", "GB/s", "GOP/s", "of roof", "hash");
}

static void name_line(const struct line *l, char out[NAME_BYTES])
{
    (void)snprintf(out, NAME_BYTES, "%s.%s.%s.%s", l->model->name, line_op(l), line_part(l),
                   line_kind(l));
}

static void say_line(const struct bench *b, const struct line *l, struct times t, uint64_t hash)
{
    static const char *const peaks[PEAKS] = {"int8", "int16", "f32"};
    char name[NAME_BYTES];
    bool reads;
    double least = least_seconds(b, l, &reads);
    char roof[16] = "";
    if (least > 0.0) /* else no roof is known */
        (void)snprintf(roof, sizeof(roof), "%.4f", least / t.median);
    double gbps = l->bytes / t.median * 1e-9;
    double gops = l->work / t.median * 1e-9;
    name_line(l, name);
    if (b->form == FORM_JSON)
        printf("{\"part\":\"op\",\"backend\":\"%s\",\"model\":\"%s\",\"op\":\"%s\",\"name\":\"%s\","
               "\"kind\":\"%s\",\"rows\":%d,\"context\":%d,\"n\":%d,\"k\":%d,\"reps\":%d,"
               "\"us\":%.2f,\"least_us\":%.2f,\"gbps\":%.3f,\"gops\":%.2f,\"peak\":\"%s\","
               "\"bound\":\"%s\",\"roof\":%s,\"hash\":\"%016" PRIx64 "\"}\n",
               b->ops->name, l->model->name, line_op(l), line_part(l), line_kind(l), l->rows,
               l->context, l->n, l->k, t.n, 1e6 * t.median, 1e6 * t.least, gbps, gops,
               peaks[l->peak], reads ? "read" : peaks[l->peak], roof[0] ? roof : "null", hash);
    else
        printf(b->form == FORM_CSV
                   ? "%s,%d,%d,%d,%d,%d,%.2f,%.2f,%.3f,%.2f,%s,%016" PRIx64 "\n"
                   : "%-30s %5d %7d %6d %6d %4d %12.2f %12.2f %7.2f %8.1f %7s %016" PRIx64 "\n",
               name, l->rows, l->context, l->n, l->k, t.n, 1e6 * t.median, 1e6 * t.least, gbps,
               gops, roof, hash);
    (void)fflush(stdout);
}

/* ---- the run ---- */

/* Whether the name holds one of the texts between commas. */
static bool wanted(const struct bench *b, const struct line *l)
{
    char name[NAME_BYTES];
    char only[NAME_BYTES];
    const char *text = b->only;
    if (!text)
        return true;
    name_line(l, name);
    for (size_t n; *text; text += n + (text[n] == ',')) {
        n = strcspn(text, ",");
        (void)snprintf(only, sizeof(only), "%.*s", (int)n, text);
        if (n > 0 && strstr(name, only))
            return true;
    }
    return false;
}

static size_t bytes_of(const struct line *l)
{
    size_t all = 0;
    for (size_t i = 0; i < ARENAS; i++)
        all += l->need[i];
    return all;
}

static size_t cold_bytes(const struct bench *b, bool gpu)
{
    long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    size_t cold = cache > 0 ? CACHES_PER_COLD * (size_t)cache : 0;
    if (b->cold_mib >= 0.0)
        return (size_t)(b->cold_mib * (1 << 20));
    if (gpu)
        return COLD_BYTES_GPU;
    return cold > COLD_BYTES_MIN ? cold : COLD_BYTES_MIN;
}

/* The next line that is wanted, and fits. */
static bool next_wanted(const struct bench *b, bool gpu, struct line *l, size_t *state)
{
    while (line_next(l, state, b->rows, b->n_rows))
        if (wanted(b, l) && bytes_of(l) <= (gpu ? LINE_BYTES_GPU_MAX : LINE_BYTES_MAX))
            return true;
    return false;
}

static void bench_all(struct bench *b, struct roof *r)
{
    bool gpu = !b->ops->host_memory;
    const char *op = NULL;
    struct scene s;
    struct line l;
    scene_open(&s, b->ops, cold_bytes(b, gpu));
    for (size_t state = 0; next_wanted(b, gpu, &l, &state); op = line_op(&l)) {
        if (op && strcmp(op, line_op(&l)) != 0 && look_at_roofs(b, r))
            say_roofs(b);
        scene_prepare(&s, &l);
        uint64_t hash = scene_hash(&s, &l);
        say_line(b, &l, measure(b, &s, &l), hash);
    }
    scene_close(&s);
}

/* ---- the command line ---- */

static void read_rows(struct bench *b, const char *text)
{
    char *end = NULL;
    b->n_rows = 0;
    do {
        long v = strtol(text, &end, 10);
        if (end == text || v < 1 || v > ROWS_MAX || b->n_rows == ROWS_LIST_MAX)
            quit(2, "not numbers of rows between 1 and 2048", text);
        b->rows[b->n_rows++] = (int32_t)v;
        text = end + 1;
    } while (*end == ',');
    if (*end)
        quit(2, "not numbers of rows", end);
}

static double number_of(const char *name, const char *text, double top)
{
    char *end;
    double x = strtod(text, &end);
    if (end == text || *end || !(x >= 0.0 && x <= top))
        quit(2, "value out of range", name);
    return x;
}

static void read_value(struct bench *b, const char *name, const char *value)
{
    if (strcmp(name, "--backend") == 0)
        b->opt.backend = value;
    else if (strcmp(name, "--only") == 0)
        b->only = value;
    else if (strcmp(name, "--rows") == 0)
        read_rows(b, value);
    else if (strcmp(name, "--threads") == 0)
        b->opt.threads = (int32_t)number_of(name, value, 1024);
    else if (strcmp(name, "--seconds") == 0)
        b->seconds = number_of(name, value, 60);
    else if (strcmp(name, "--cold-mib") == 0)
        b->cold_mib = number_of(name, value, 1 << 16);
    else if (strcmp(name, "--read-gbps") == 0)
        b->read_gbps = number_of(name, value, 1e6);
    else if (strcmp(name, "--int8-gops") == 0)
        b->gops[PEAK_INT8] = number_of(name, value, 1e9);
    else
        quit(2, "unknown option", name);
}

static void read_options(struct bench *b, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--csv") == 0)
            b->form = FORM_CSV;
        else if (strcmp(argv[i], "--json") == 0)
            b->form = FORM_JSON;
        else if (strcmp(argv[i], "--cpu-time") == 0)
            b->cpu_time = true;
        else if (i + 1 == argc)
            quit(2, "option unknown or without a value (see --help)", argv[i]);
        else
            read_value(b, argv[i], argv[i + 1]), i++;
    }
    if (b->cpu_time)
        b->opt.threads = 1;
}

static const char usage_text[] =
    "bench_ops [options]: time, GB/s, GOP/s and share of the roof of each operation\n"
    "  --backend cpu|cuda     (cpu)\n"
    "  --only TEXT,TEXT       operations whose names hold one of these: tinyllama.linear,norm\n"
    "  --rows N,N             tokens at once (1,4,8,16,64,256,512,2048)\n"
    "  --threads N            0: one for each core (0)\n"
    "  --seconds N            spent on each line (0.2)\n"
    "  --cpu-time             the processor's time of one thread: for a machine that others use "
    "too\n"
    "  --cold-mib N           copies of the operands; 0: one, which may stay in the cache (by the "
    "machine)\n"
    "  --read-gbps N --int8-gops N    roofs that are known need not be measured\n"
    "  --json | --csv         instead of the table\n"
    "bench/README.md says what the columns mean.\n";

int main(int argc, char **argv)
{
    struct bench b = {
        .opt = {.backend = "cpu"},
        .seconds = 0.2,
        .cold_mib = -1.0,
        .int8_by = "given",
        .rows = {1, 4, 8, 16, 64, 256, 512, 2048},
        .n_rows = 8,
    };
    char err[256];
    struct roof *r = NULL;
    struct line first;
    size_t state = 0;
    usage_if_asked(argc, argv, usage_text);
    read_options(&b, argc, argv);
    if (ops_open(&b.ops, &b.opt, err, sizeof(err)))
        quit(1, err, "");
    if (!next_wanted(&b, !b.ops->host_memory, &first, &state))
        quit(2, "no line has that name and number of rows", b.only ? b.only : "");
    bool told = b.read_gbps > 0.0 && b.gops[PEAK_INT8] > 0.0;
    if (b.ops->host_memory && !told &&
        roof_open(&r, b.opt.threads ? b.opt.threads : machine_cores()))
        quit(1, "no memory or threads to measure the roofs", "");
    for (int32_t i = 0; i < ROOF_SAMPLES; i++)
        (void)look_at_roofs(&b, r);
    say_head(&b);
    bench_all(&b, r);
    roof_close(r);
    b.ops->close(b.ops);
    return 0;
}

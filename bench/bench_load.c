/* What a user waits for after typing the command: from exec to the first token of
 * `firstlight run MODEL --raw TEXT --max-tokens 1`, and the most memory the process held. The
 * first run of each model is not counted: it brings the files into the page cache. */
#include "bench/usage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { RUNS_MAX = 64, MODELS_MAX = 16, NAME_BYTES = 128 };

struct options {
    const char *program;
    const char *model[MODELS_MAX];
    int n_models;
    int runs;
    enum { FORM_TABLE, FORM_CSV, FORM_JSON } form;
};

struct run {
    double first_ms;
    double cpu_ms;
    double peak_mb;
};

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static double ms_of(const struct timeval *t)
{
    return (double)t->tv_sec * 1e3 + (double)t->tv_usec * 1e-3;
}

static void become_program(const struct options *o, const char *model, const int end[2])
{
    int quiet = open("/dev/null", O_WRONLY);
    dup2(end[1], STDOUT_FILENO);
    dup2(quiet, STDERR_FILENO);
    close(end[0]);
    execl(o->program, o->program, "run", model, "--raw", "Once upon a time", "--max-tokens", "1",
          "--temperature", "0", (char *)NULL);
    _exit(127);
}

static bool run_once(const struct options *o, const char *model, struct run *r)
{
    int end[2];
    char byte;
    int status;
    struct rusage use;
    if (pipe(end) != 0)
        return false;
    double start = now_ms();
    pid_t child = fork();
    if (child < 0)
        return false;
    if (child == 0)
        become_program(o, model, end);
    close(end[1]);
    bool came = read(end[0], &byte, 1) == 1;
    r->first_ms = now_ms() - start;
    while (read(end[0], &byte, 1) == 1)
        continue;
    close(end[0]);
    if (wait4(child, &status, 0, &use) != child)
        return false;
    r->cpu_ms = ms_of(&use.ru_utime) + ms_of(&use.ru_stime);
    r->peak_mb = (double)use.ru_maxrss * 1024 * 1e-6;
    return came && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static int by_first(const void *a, const void *b)
{
    const struct run *x = a;
    const struct run *y = b;
    return x->first_ms < y->first_ms ? -1 : x->first_ms > y->first_ms;
}

static const char *const forms[] = {
    [FORM_TABLE] = "%-40s %4d runs  first token after %6.0f ms (least %.0f)  cpu %6.0f ms  "
                   "peak %6.0f MB\n",
    [FORM_CSV] = "%s,%d,%.0f,%.0f,%.0f,%.0f\n",
    [FORM_JSON] = "{\"part\":\"start\",\"model\":\"%s\",\"runs\":%d,\"first_ms\":%.0f,"
                  "\"least_ms\":%.0f,\"cpu_ms\":%.0f,\"peak_mb\":%.0f}\n",
};

/* The last of its path, without what either form would have to quote. */
static void name_model(char out[NAME_BYTES], const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    size_t from = n;
    while (from > 0 && path[from - 1] != '/')
        from--;
    snprintf(out, NAME_BYTES, "%.*s", (int)(n - from), path + from);
    for (char *c = out; *c; c++)
        if ((unsigned char)*c < ' ' || strchr("\"\\,", *c))
            *c = '?';
}

static bool measure(const struct options *o, const char *model)
{
    struct run run[RUNS_MAX];
    struct run warm;
    if (!run_once(o, model, &warm)) {
        fprintf(stderr, "bench_load: %s run %s gave no token\n", o->program, model);
        return false;
    }
    for (int i = 0; i < o->runs; i++)
        if (!run_once(o, model, &run[i]))
            return false;
    qsort(run, (size_t)o->runs, sizeof(run[0]), by_first);
    const struct run *mid = &run[o->runs / 2];
    char name[NAME_BYTES];
    name_model(name, model);
    printf(forms[o->form], name, o->runs, mid->first_ms, run[0].first_ms, mid->cpu_ms,
           mid->peak_mb);
    fflush(stdout);
    return true;
}

static const char usage_text[] =
    "bench_load [--csv | --json] [--runs 5] PROGRAM MODEL...: from exec to the first token\n"
    "  PROGRAM is firstlight; one run of each model more comes before and is not counted.\n";

static int usage(void)
{
    (void)fputs(usage_text, stderr);
    return 2;
}

int main(int argc, char **argv)
{
    struct options o = {.runs = 5};
    usage_if_asked(argc, argv, usage_text);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--csv") == 0)
            o.form = FORM_CSV;
        else if (strcmp(argv[i], "--json") == 0)
            o.form = FORM_JSON;
        else if (strcmp(argv[i], "--runs") == 0 && i + 1 < argc)
            o.runs = (int)strtol(argv[++i], NULL, 10);
        else if (argv[i][0] == '-')
            return usage();
        else if (!o.program)
            o.program = argv[i];
        else if (o.n_models < MODELS_MAX)
            o.model[o.n_models++] = argv[i];
    }
    if (!o.program || o.n_models == 0 || o.runs < 1 || o.runs > RUNS_MAX)
        return usage();
    if (o.form == FORM_CSV)
        printf("model,runs,first_ms,least_ms,cpu_ms,peak_mb\n");
    for (int i = 0; i < o.n_models; i++)
        if (!measure(&o, o.model[i]))
            return 1;
    return 0;
}

#ifndef BENCH_SERVE_REPORT_H
#define BENCH_SERVE_REPORT_H

#include "bench/serve_client.h"

#include <math.h>

/* What a run of the load generator has counted, and its three printed forms. A row is a list of
 * cells; their names are the columns of the CSV file, which bench/compare.py reads. */

enum {
    FAULTS_MAX = 16,
    CELLS_MAX = 32,
    CELL_BYTES = 64,
    FAULTS_TEXT_BYTES = 512,
    COLUMN_WIDTH_MIN = 8,
};

enum form { FORM_TABLE, FORM_CSV, FORM_JSON };

struct samples {
    double *ms; /* [n] */
    size_t n;
    size_t room;
};

struct run {
    int64_t streams; /* 0: open loop */
    int64_t requests;
    int64_t sure; /* requests below this index are always made: the hash is over them */
    bool warm;
    bool with_long; /* a long prompt arrives again and again */
    int64_t next;
    int64_t busy;
    int64_t done;
    int64_t errors;
    int64_t prompt_tokens;
    int64_t cached_tokens;
    int64_t answer_tokens;
    int64_t events;
    uint64_t hash;
    uint64_t salt; /* makes its prompts its own */
    uint64_t begin_ns;
    uint64_t end_ns;
    uint64_t due_ns; /* of the next arrival */
    uint64_t random; /* of the arrivals */
    struct samples ttft;
    struct samples itl;
    struct samples e2e;
    struct samples itl_long; /* gaps in which a long prompt was being computed */
    struct samples ttft_long;
    int64_t long_tokens;
    int64_t long_cached;
    uint64_t long_end_ns;
    uint64_t long_ns;
    int64_t n_long;
    bool long_runs; /* one is being computed */
    struct fault_count {
        char name[FAULT_NAME_MAX];
        int64_t n;
    } fault[FAULTS_MAX];
};

_Noreturn static void quit(int code, const char *what, const char *detail)
{
    (void)fprintf(stderr, "bench_serve: %s%s%s\n", what, detail[0] ? ": " : "", detail);
    exit(code);
}

static void add_sample(struct samples *s, uint64_t ns)
{
    if (s->n == s->room) {
        s->room = s->room ? 2 * s->room : 1024;
        s->ms = realloc(s->ms, s->room * sizeof(*s->ms));
        if (!s->ms)
            quit(1, "out of memory", "");
    }
    s->ms[s->n++] = (double)ns * 1e-6;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Nearest rank; NAN when there is nothing to rank. */
static double percentile(struct samples *s, double percent)
{
    if (s->n == 0)
        return (double)NAN;
    qsort(s->ms, s->n, sizeof(*s->ms), ascending);
    size_t rank = (size_t)ceil(percent / 100 * (double)s->n);
    return s->ms[rank > 0 ? rank - 1 : 0];
}

static void count_fault(struct run *r, const char *name)
{
    struct fault_count *f = r->fault;
    r->errors++;
    while (f < r->fault + FAULTS_MAX - 1 && f->n > 0 && strcmp(f->name, name) != 0)
        f++;
    if (f == r->fault + FAULTS_MAX - 1)
        name = "other";
    (void)snprintf(f->name, sizeof(f->name), "%s", name);
    f->n++;
}

static void run_free(struct run *r)
{
    free(r->ttft.ms);
    free(r->itl.ms);
    free(r->e2e.ms);
    free(r->itl_long.ms);
    free(r->ttft_long.ms);
}

static void faults_text(const struct run *r, char *out, size_t room)
{
    size_t n = 0;
    out[0] = '\0';
    for (const struct fault_count *f = r->fault; f < r->fault + FAULTS_MAX && f->n > 0; f++) {
        int wrote =
            snprintf(out + n, room - n, "%s%s: %lld", n ? "; " : "", f->name, (long long)f->n);
        if (wrote < 0 || (size_t)wrote >= room - n)
            break;
        n += (size_t)wrote;
    }
}

/* ---- rows ---- */

struct cell {
    const char *column;  /* of the CSV file, with its unit */
    const char *head[2]; /* of the table */
    char text[CELL_BYTES];
    bool is_text;
};

struct row {
    struct cell cell[CELLS_MAX]; /* [n] */
    size_t n;
};

static struct cell *add_cell(struct row *row, const char *column, const char *top,
                             const char *bottom)
{
    struct cell *c = &row->cell[row->n++];
    c->column = column;
    c->head[0] = top;
    c->head[1] = bottom;
    return c;
}

static void add_word(struct row *row, const char *column, const char *bottom, const char *text)
{
    struct cell *c = add_cell(row, column, "", bottom);
    c->is_text = true;
    (void)snprintf(c->text, sizeof(c->text), "%s", text);
}

/* What there was nothing to measure of is empty in CSV, null in JSON, "-" in the table. */
static void add_number(struct row *row, const char *column, const char *top, const char *bottom,
                       double x, int digits)
{
    struct cell *c = add_cell(row, column, top, bottom);
    if (isfinite(x))
        (void)snprintf(c->text, sizeof(c->text), "%.*f", digits, x);
}

static void add_ms(struct row *row, const char *const column[4], const char *top, struct samples *s)
{
    static const double percent[4] = {50, 95, 99, 100};
    static const char *const bottom[4] = {"p50", "p95", "p99", "max"};
    for (size_t i = 0; i < 4; i++)
        if (column[i])
            add_number(row, column[i], top, bottom[i], percentile(s, percent[i]), 2);
}

static double mean(int64_t sum, int64_t n)
{
    return n > 0 ? (double)sum / (double)n : (double)NAN;
}

static void fill_load(struct row *row, struct run *r)
{
    static const char *const ttft[4] = {"ttft_ms_p50", "ttft_ms_p95", "ttft_ms_p99", NULL};
    static const char *const itl[4] = {"itl_ms_p50", "itl_ms_p95", "itl_ms_p99", "itl_ms_max"};
    static const char *const e2e[4] = {"e2e_ms_p50", NULL, NULL, NULL};
    double seconds = (double)(r->end_ns - r->begin_ns) * 1e-9;
    char hash[24];
    (void)snprintf(hash, sizeof(hash), "%016llx", (unsigned long long)r->hash);
    add_number(row, "answered", "", "answered", (double)r->done, 0);
    add_number(row, "errors", "", "errors", (double)r->errors, 0);
    add_number(row, "prompt_tokens", "tokens", "in", mean(r->prompt_tokens, r->done), 1);
    add_number(row, "cached_tokens", "", "cached", mean(r->cached_tokens, r->done), 1);
    add_number(row, "answer_tokens", "", "out", mean(r->answer_tokens, r->done), 1);
    add_ms(row, ttft, "TTFT ms", &r->ttft);
    add_ms(row, itl, "ITL ms", &r->itl);
    add_ms(row, e2e, "E2E ms", &r->e2e);
    add_number(row, "tokens_per_s", "out", "tok/s",
               seconds > 0 ? (double)r->answer_tokens / seconds : (double)NAN, 1);
    add_number(row, "tokens_per_event", "tok/", "event", mean(r->answer_tokens, r->events), 2);
    add_number(row, "seconds", "", "seconds", seconds, 1);
    add_word(row, "answers", "answers", hash);
}

static void fill_long(struct row *row, struct run *r)
{
    static const char *const quiet[4] = {"itl_quiet_ms_p50", NULL, "itl_quiet_ms_p99",
                                         "itl_quiet_ms_max"};
    static const char *const beside[4] = {"itl_long_ms_p50", NULL, "itl_long_ms_p99",
                                          "itl_long_ms_max"};
    static const char *const ttft[4] = {"ttft_long_ms_p50", NULL, NULL, "ttft_long_ms_max"};
    add_number(row, "long_prompts", "long", "prompts", (double)r->ttft_long.n, 0);
    add_number(row, "errors", "", "errors", (double)r->errors, 0);
    add_number(row, "long_prompt_tokens", "tokens", "in", mean(r->long_tokens, r->n_long), 1);
    add_number(row, "long_cached_tokens", "", "cached", mean(r->long_cached, r->n_long), 1);
    add_ms(row, ttft, "TTFT ms", &r->ttft_long);
    add_number(row, "gaps_quiet", "quiet", "gaps", (double)r->itl.n, 0);
    add_ms(row, quiet, "ITL ms", &r->itl);
    add_number(row, "gaps_long", "beside", "gaps", (double)r->itl_long.n, 0);
    add_ms(row, beside, "ITL ms", &r->itl_long);
    add_number(row, "itl_p99_ratio", "p99", "ratio",
               percentile(&r->itl_long, 99) / percentile(&r->itl, 99), 2);
}

/* ---- printing ---- */

static void print_csv(const struct row *row, bool header, const char *faults)
{
    if (header) {
        for (size_t i = 0; i < row->n; i++)
            printf("%s,", row->cell[i].column);
        printf("faults\n");
    }
    for (size_t i = 0; i < row->n; i++)
        printf("%s,", row->cell[i].text);
    printf("%s\n", faults);
}

static void print_json(const struct row *row, const char *faults)
{
    printf("{");
    for (size_t i = 0; i < row->n; i++) {
        const struct cell *c = &row->cell[i];
        const char *quote = c->is_text ? "\"" : "";
        printf("\"%s\":%s%s%s,", c->column, quote, c->text[0] ? c->text : "null", quote);
    }
    printf("\"faults\":\"%s\"}\n", faults);
}

static void print_table(const struct row *row, bool header, const char *faults)
{
    for (int line = header ? 0 : 2; line < 3; line++) {
        for (size_t i = 0; i < row->n; i++) {
            const struct cell *c = &row->cell[i];
            /* The name of a group stands above its first column alone. */
            bool again = line == 0 && i > 0 && c->head[0] == row->cell[i - 1].head[0];
            const char *text = line < 2 ? c->head[line] : c->text[0] ? c->text : "-";
            int width = c->is_text && strlen(c->text) >= COLUMN_WIDTH_MIN ? (int)strlen(c->text)
                                                                          : COLUMN_WIDTH_MIN;
            printf("%*s ", width, again ? "" : text);
        }
        printf("\n");
    }
    if (faults[0])
        printf("    errors: %s\n", faults);
}

static void print_row(const struct row *row, enum form form, bool header, const struct run *r)
{
    char faults[FAULTS_TEXT_BYTES];
    faults_text(r, faults, sizeof(faults));
    if (form == FORM_CSV)
        print_csv(row, header, faults);
    else if (form == FORM_JSON)
        print_json(row, faults);
    else
        print_table(row, header, faults);
    (void)fflush(stdout);
}

#endif

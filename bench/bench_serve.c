/* Load generator for servers of language models: the command line and the results of
 * `vllm bench serve`. Here is what happens in which order; bench/README.md explains the rest.
 *
 *   options -> server and model -> who counts tokens -> prompts -> for each point of a sweep:
 *   warm-up, run, comparison with the server's own counters, table, file */
#include "bench/serve_report.h"
#include "bench/serve_run.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    WARM_LEAST = 4,
    WARM_PROMPT_TOKENS = 32,
    WARM_ANSWER_TOKENS = 16,
    PROBE_WORDS_FEW = 8,
    PROBE_WORDS_MANY = 136,
    READY_PAUSE_US = 500000,
    SETTLE_ROUNDS = 20,
    SETTLE_US = 50000,
    FOLDER_BYTES = 4096,
};

struct bench {
    struct serve_options opt;
    struct serve_target target;
    struct words words;
    struct dataset *data;
    struct generator *generator;
    const char *tokenizer;
    struct buf sweep; /* objects of the runs so far, with commas */
    char err[OPTION_ERROR_BYTES];
};

static int fail(const struct bench *b, int code)
{
    (void)fprintf(stderr, "bench_serve: %s\n", b->err);
    return code;
}

static enum status say(struct bench *b, enum status s, const char *text)
{
    (void)snprintf(b->err, sizeof(b->err), "%.200s", text);
    return s;
}

static void more_files(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
}

/* ---- before the runs ---- */

/* Short answers, n of them; first_fault is of any that failed. */
static enum status warm(struct bench *b, int64_t n, int64_t streams, struct run_spec spec,
                        struct record *last)
{
    struct run_result result;
    struct summary sum;
    spec.warm = true;
    spec.rate = (double)INFINITY;
    spec.requests = n;
    spec.max_concurrency = streams;
    enum status s = generator_run(&result, b->generator, &spec);
    if (s)
        return say(b, s, "out of memory");
    s = summary_fill(&sum, result.records, result.n, &b->opt, result.seconds, 0);
    if (s == OK && sum.failed == n) {
        (void)snprintf(b->err, sizeof(b->err), "no answer as it should be: %s", sum.fault[0].name);
        s = E_IO;
    }
    if (s == OK && last)
        *last = result.records[0];
    summary_free(&sum);
    run_result_free(&result);
    return s;
}

/* Prompt tokens of a text of so many words, as the server counts them in usage. */
static enum status probe(struct bench *b, int64_t words, double *tokens)
{
    struct record r = {0};
    const struct run_spec spec = {
        .nth = (uint64_t)words, .prompt_tokens = words, .output_tokens = 1};
    enum status s = warm(b, 1, 1, spec, &r);
    if (s == OK && r.no_usage)
        s = say(b, E_UNSUPPORTED, "the server counts no tokens: neither /tokenize nor usage");
    *tokens = (double)r.prompt_tokens;
    return s;
}

static enum status learn_from_usage(struct bench *b)
{
    double few = 0;
    double many = 0;
    b->words = (struct words){.mode = TOKENS_USAGE, .per_word = 1};
    enum status s = probe(b, PROBE_WORDS_FEW, &few);
    if (s == OK)
        s = probe(b, PROBE_WORDS_MANY, &many);
    if (s)
        return s;
    double per_word = (many - few) / (PROBE_WORDS_MANY - PROBE_WORDS_FEW);
    if (!(per_word > 0))
        return say(b, E_UNSUPPORTED, "the server's prompt_tokens do not grow with the prompt");
    b->words.per_word = per_word;
    return OK;
}

static enum status learn_words(struct bench *b)
{
    int32_t wanted = b->opt.tokenizer;
    enum status s = E_UNSUPPORTED;
    if (wanted != TOKENS_USAGE)
        s = words_learn(&b->words, &b->target);
    if (s == OK && wanted == TOKENS_IDS)
        b->words.mode = TOKENS_IDS;
    b->tokenizer = s ? "usage" : wanted == TOKENS_IDS ? "ids" : "server";
    if (s && wanted != TOKENS_AUTO && wanted != TOKENS_USAGE)
        return say(b, s, "the server has no /tokenize that counts words one by one");
    return s ? learn_from_usage(b) : OK;
}

static int64_t count_tokens_there(void *arg, const char *text, size_t bytes)
{
    struct bench *b = arg;
    int64_t n = 0;
    if (words_count(&n, NULL, 0, &b->target, text, bytes, false))
        return 0;
    return n;
}

static enum status open_data(struct bench *b)
{
    bool counted = b->words.mode == TOKENS_SERVER;
    enum status s =
        dataset_open(&b->data, &b->opt, &b->words, counted ? count_tokens_there : NULL, b, b->err);
    if (s)
        return s;
    generator_use(b->generator, b->data);
    if (dataset_skipped(b->data))
        (void)fprintf(stderr, "bench_serve: %lld entries of the dataset were passed over\n",
                      (long long)dataset_skipped(b->data));
    return OK;
}

static enum status connect_all(struct bench *b)
{
    uint64_t until = now_ns() + (uint64_t)(b->opt.ready_check_timeout * 1e9);
    enum status s = target_open(&b->target, &b->opt, b->err);
    while (s == E_IO && now_ns() < until) {
        (void)usleep(READY_PAUSE_US);
        s = target_open(&b->target, &b->opt, b->err);
    }
    if (s)
        return s;
    if (generator_open(&b->generator, &b->opt, &b->target, &b->words))
        return say(b, E_NOMEM, "no event loop");
    b->words = (struct words){.mode = TOKENS_USAGE, .per_word = 1};
    const struct run_spec spec = {.prompt_tokens = 1, .output_tokens = 1};
    while (b->opt.ready_check_timeout > 0 && (s = warm(b, 1, 1, spec, NULL)) == E_IO &&
           now_ns() < until)
        (void)usleep(READY_PAUSE_US);
    return s;
}

/* ---- results ---- */

/* The server counts an answer when it is over for it, a moment after the client has it. */
static void check_server(struct bench *b, struct metrics_check *out,
                         const struct server_counts *before, bool there, const struct summary *s)
{
    struct server_counts after;
    *out = (struct metrics_check){.note = "the server has no /metrics that is understood"};
    if (b->opt.check == CHECK_OFF)
        out->note = "not wanted";
    for (int32_t i = 0; there && i < SETTLE_ROUNDS; i++) {
        if (!metrics_fetch(&after, &b->target))
            return;
        metrics_compare(out, before, &after, s);
        if (out->verdict == CHECKED_EQUAL)
            return;
        (void)usleep(SETTLE_US);
    }
}

/* Whether they are there shows when the file is opened. */
static void make_folders(const char *path)
{
    char part[FOLDER_BYTES];
    size_t n = path ? strlen(path) : 0;
    for (size_t i = 1; i <= n && n < sizeof(part); i++)
        if (path[i] == '/' || i == n) {
            memcpy(part, path, i);
            part[i] = '\0';
            (void)mkdir(part, 0777);
        }
}

static enum status save(struct bench *b, const struct run_report *r, bool first)
{
    struct buf path = {0};
    struct buf text = {0};
    const struct serve_options *o = &b->opt;
    bool append = o->append_result || (o->result_filename && !first);
    make_folders(o->result_dir);
    report_path(&path, r);
    buf_add(&path, "", 1);
    report_json(&text, r, o->save_detailed);
    FILE *f = path.failed || text.failed ? NULL : fopen(path.data, append ? "ae" : "we");
    bool good = f != NULL;
    if (good && append && ftell(f) == 0)
        (void)fseek(f, 0, SEEK_END);
    if (good && append && ftell(f) > 0)
        good = fputc('\n', f) != EOF;
    good = good && fwrite(text.data, 1, text.n, f) == text.n;
    if (f && fclose(f))
        good = false;
    if (good)
        (void)fprintf(stderr, "bench_serve: wrote %s\n", path.data);
    else
        (void)snprintf(b->err, sizeof(b->err), "cannot write %.200s", path.failed ? "" : path.data);
    buf_free(&path);
    buf_free(&text);
    return good ? OK : E_IO;
}

/* One array of all runs, as vLLM's sweep leaves it for its plots. */
static enum status save_sweep(struct bench *b)
{
    char path[512];
    (void)snprintf(path, sizeof(path), "%.480s/summary.json",
                   b->opt.result_dir ? b->opt.result_dir : ".");
    FILE *f = b->sweep.failed ? NULL : fopen(path, "we");
    bool good = f && fprintf(f, "[%.*s]\n", (int)b->sweep.n, b->sweep.data) > 0;
    if (f && fclose(f))
        good = false;
    return good ? OK : say(b, E_IO, "cannot write summary.json");
}

static void print(struct bench *b, const struct run_report *r, bool first)
{
    struct buf out = {0};
    if (b->opt.json)
        report_json(&out, r, b->opt.save_detailed);
    else if (b->opt.csv)
        report_csv(&out, r, first);
    else
        report_table(&out, r);
    if (b->opt.json)
        buf_text(&out, "\n");
    (void)fwrite(out.data, 1, out.n, stdout);
    (void)fflush(stdout);
    buf_free(&out);
    if (b->sweep.n)
        buf_text(&b->sweep, ",\n");
    report_json(&b->sweep, r, false);
}

/* ---- one run ---- */

static int64_t warmups(const struct serve_options *o, int64_t streams)
{
    if (o->num_warmups >= 0)
        return o->num_warmups;
    return streams > WARM_LEAST ? streams : WARM_LEAST;
}

static enum status report(struct bench *b, struct run_report r, const struct run_result *result,
                          const struct server_counts *before, bool there, bool first, bool *good)
{
    struct summary sum;
    struct metrics_check check;
    time_t now = time(NULL);
    struct tm at;
    enum status s =
        summary_fill(&sum, result->records, result->n, &b->opt, result->seconds, result->sure);
    if (s)
        return say(b, s, "out of memory");
    check_server(b, &check, before, there, &sum);
    (void)localtime_r(&now, &at);
    (void)strftime(r.date, sizeof(r.date), "%Y%m%d-%H%M%S", &at);
    r.summary = &sum;
    r.check = &check;
    print(b, &r, first);
    if (b->opt.save_result || b->opt.append_result)
        s = save(b, &r, first);
    *good = *good && summary_good(&sum) &&
            (b->opt.check != CHECK_REQUIRE || check.verdict == CHECKED_EQUAL);
    summary_free(&sum);
    return s;
}

static enum status measure(struct bench *b, double rate, int64_t streams, uint64_t nth, bool *good)
{
    const struct run_spec spec = {
        .rate = rate, .max_concurrency = streams, .nth = b->opt.same_prompts ? 0 : nth};
    const struct run_spec shorts = {
        .nth = nth, .prompt_tokens = WARM_PROMPT_TOKENS, .output_tokens = WARM_ANSWER_TOKENS};
    struct server_counts before;
    struct run_result result;
    int64_t n_warm = warmups(&b->opt, streams);
    enum status s = n_warm ? warm(b, n_warm, streams ? streams : WARM_LEAST, shorts, NULL) : OK;
    if (s)
        return s;
    bool there = b->opt.check != CHECK_OFF && metrics_fetch(&before, &b->target);
    time_t began = time(NULL);
    s = generator_run(&result, b->generator, &spec);
    if (s)
        return say(b, s, s == E_INVALID ? "too many requests for one run" : "out of memory");
    const struct run_report r = {.opt = &b->opt,
                                 .records = result.records,
                                 .n_records = result.n,
                                 .model_id = b->target.model_id,
                                 .tokenizer = b->tokenizer,
                                 .began = (double)began,
                                 .begin_ns = result.begin_ns,
                                 .rate = rate,
                                 .max_concurrency = streams,
                                 .n_prompts = result.n_prompts,
                                 .n_warmups = n_warm,
                                 .cpu_share = result.cpu_share};
    s = report(b, r, &result, &before, there, nth == 0, good);
    run_result_free(&result);
    return s;
}

/* Every rate with every concurrency. */
static enum status measure_all(struct bench *b, bool *good)
{
    const struct serve_options *o = &b->opt;
    uint64_t nth = 0;
    enum status s = OK;
    int32_t rates = o->sweep_rates.n ? o->sweep_rates.n : 1;
    int32_t streams = o->sweep_concurrency.n ? o->sweep_concurrency.n : 1;
    for (int32_t i = 0; i < rates && s == OK; i++)
        for (int32_t j = 0; j < streams && s == OK && !generator_stopped(b->generator); j++, nth++)
            s = measure(b, o->sweep_rates.n ? o->sweep_rates.item[i] : o->request_rate,
                        o->sweep_concurrency.n ? (int64_t)o->sweep_concurrency.item[j]
                                               : o->max_concurrency,
                        nth, good);
    bool sweeps = o->sweep_rates.n || o->sweep_concurrency.n;
    return s == OK && sweeps && o->save_result ? save_sweep(b) : s;
}

static void print_help(void)
{
    struct buf out = {0};
    serve_options_help(&out);
    (void)fwrite(out.data, 1, out.n, stdout);
    buf_free(&out);
}

int main(int argc, char **argv)
{
    static struct bench b;
    bool good = true;
    (void)signal(SIGPIPE, SIG_IGN);
    if (serve_options_parse(&b.opt, argc, argv, b.err))
        return fail(&b, 2);
    if (b.opt.help) {
        print_help();
        return 0;
    }
    more_files();
    enum status s = connect_all(&b);
    if (s == OK)
        s = learn_words(&b);
    if (s == OK)
        s = open_data(&b);
    if (s == OK)
        s = measure_all(&b, &good);
    bool stopped = b.generator && generator_stopped(b.generator);
    generator_close(b.generator);
    dataset_close(b.data);
    target_close(&b.target);
    buf_free(&b.sweep);
    if (s)
        return fail(&b, s == E_INVALID ? 2 : 1);
    return good && !stopped ? 0 : 1;
}

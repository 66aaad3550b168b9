#include "bench/usage.h"
#include "models/tok_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What text costs: milliseconds of processor time to encode one and two MiB of each kind, the best
 * of nine runs that take turns, and how often the doubled text took the time of the single one. As
 * CSV on stdout.
 *
 * usage: bench_tokenizer [--pre NAME] MODEL...   (folders, or .gguf files)
 *
 * With --pre, text is cut as GGUF's tokenizer.ggml.pre of that name says, whatever the model's own
 * way is: "tekken" and "deepseek-v3" run in PCRE2. */

enum { TEXT_BYTES = 1 << 20, RUNS = 9, ERR_BYTES = 256 };

static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char lower[] = "abcdefghijklmnopqrstuvwxyz";

/* Repeated, or letters of one alphabet in no order, or any characters in no order. */
static const struct kind {
    const char *name;
    const char *pattern;
    const char *alphabet;
} kinds[] = {
    {"prose", "The quick brown fox, as they say, jumps over the lazy dog. ", NULL},
    {"code", "    for (int i = 0; i < n; i++) {\n        sum += a[i];\n    }\n", NULL},
    {"base64", NULL, base64},
    {"word", NULL, lower},
    {"letter", "a", NULL},
    {"spaces", " ", NULL},
    {"newlines", "\n", NULL},
    {"digits", "1234567890", NULL},
    {"punctuation", "!?.,", NULL},
    {"cjk", "\xe4\xb8\xad\xe6\x96\x87\xe5\xad\x97", NULL},
    {"emoji", "\xf0\x9f\x98\x80\xf0\x9f\x8e\x89", NULL},
    {"marks", "\xcc\x81\xcc\x96", NULL},
    {"mixed", "a1 \xc3\xa9\n\t_", NULL},
    {"random", NULL, NULL},
};

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525U + 1013904223U;
    return *state >> 11;
}

/* One character of two or three bytes, or an ASCII one; 0: it does not fit. */
static size_t put_any(char *to, size_t left, uint32_t *state)
{
    uint32_t cp = next_random(state) & 0xffff;
    if (cp >= 0xd800 && cp < 0xe000)
        cp &= 0x7f;
    if (cp < 0x80 || left < 3) {
        *to = (char)(cp & 0x7f);
        return 1;
    }
    if (cp < 0x800) {
        to[0] = (char)(0xc0 | cp >> 6);
        to[1] = (char)(0x80 | (cp & 0x3f));
        return 2;
    }
    to[0] = (char)(0xe0 | cp >> 12);
    to[1] = (char)(0x80 | (cp >> 6 & 0x3f));
    to[2] = (char)(0x80 | (cp & 0x3f));
    return 3;
}

/* Whole characters, also when it is cut at half. */
static void fill(char *text, size_t bytes, const struct kind *k)
{
    uint32_t state = 1;
    size_t n = k->pattern ? strlen(k->pattern) : k->alphabet ? strlen(k->alphabet) : 0;
    for (size_t i = 0; i < bytes;) {
        if (k->pattern)
            text[i] = k->pattern[i % n];
        else if (k->alphabet)
            text[i] = k->alphabet[next_random(&state) % n];
        i += k->pattern || k->alphabet ? 1 : put_any(text + i, bytes - i, &state);
    }
}

static double cpu_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* One text, and the least time that it took so far. */
struct timing {
    char *text; /* [bytes] */
    size_t bytes;
    size_t n_ids;
    double ms;
};

static void encode_once(struct timing *m, const struct tokenizer *t, int32_t *ids)
{
    double start = cpu_ms();
    size_t n = 0;
    enum status s =
        tokenizer_encode(t, m->text, m->bytes, true, ids, tokenizer_bound(t, m->bytes), &n);
    double ms = cpu_ms() - start;
    if (s) {
        fprintf(stderr, "bench_tokenizer: %s\n", status_text(s));
        exit(1);
    }
    if (m->n_ids == 0 || ms < m->ms)
        m->ms = ms;
    m->n_ids = n;
}

static struct timing timing_of(const struct kind *k, size_t bytes)
{
    struct timing m = {.text = malloc(bytes), .bytes = bytes};
    if (!m.text) {
        fprintf(stderr, "bench_tokenizer: %s\n", status_text(E_NOMEM));
        exit(1);
    }
    fill(m.text, bytes, k);
    return m;
}

static void measure(const struct tokenizer *t, const char *name, const struct kind *k)
{
    size_t n = k->pattern ? strlen(k->pattern) : 1;
    size_t once = TEXT_BYTES - TEXT_BYTES % n; /* whole characters */
    struct timing one = timing_of(k, once);
    struct timing two = timing_of(k, 2 * once);
    int32_t *ids = malloc(tokenizer_bound(t, 2 * once) * sizeof(*ids));
    if (!ids) {
        fprintf(stderr, "bench_tokenizer: %s\n", status_text(E_NOMEM));
        exit(1);
    }
    for (int run = 0; run < RUNS; run++) {
        encode_once(&one, t, ids);
        encode_once(&two, t, ids);
    }
    printf("%s,%s,%zu,%zu,%.1f,%.1f,%.2f,%.1f\n", name, k->name, once, one.n_ids, one.ms, two.ms,
           two.ms / one.ms, (double)once / one.ms / 1e3);
    free(one.text);
    free(two.text);
    free(ids);
}

static void cut_as(struct tokenizer *t, const char *pre)
{
    char err[ERR_BYTES] = "";
    const struct complaint c = complaint_in("--pre", err, sizeof(err));
    bool bos;
    t->n_cuts = 0;
    if (tok_pre_named(t, pre, &bos, &c)) {
        fprintf(stderr, "bench_tokenizer: %s\n", err);
        exit(1);
    }
}

static const char usage_text[] =
    "bench_tokenizer [--pre NAME] MODEL...: milliseconds to encode one and two MiB of 14 kinds of "
    "text, CSV\n"
    "  --pre NAME   cut text as GGUF's tokenizer.ggml.pre of that name says: tekken, deepseek-v3\n";

int main(int argc, char **argv)
{
    const char *pre = argc > 2 && strcmp(argv[1], "--pre") == 0 ? argv[2] : NULL;
    usage_if_asked(argc, argv, usage_text);
    if (argc < 2 || argv[argc - 1][0] == '-')
        return (void)fputs(usage_text, stderr), 2;
    printf("folder,kind,bytes,ids,ms,ms_doubled,ratio,MB_per_s\n");
    for (int i = pre ? 3 : 1; i < argc; i++) {
        struct tokenizer *t;
        char err[ERR_BYTES] = "";
        if (tokenizer_open(&t, argv[i], err, sizeof(err))) {
            fprintf(stderr, "bench_tokenizer: %s\n", err);
            return 1;
        }
        if (pre)
            cut_as(t, pre);
        for (size_t k = 0; k < ARRAY_LEN(kinds); k++)
            measure(t, argv[i], &kinds[k]);
        tokenizer_close(t);
    }
    return 0;
}

#include "models/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What text costs: milliseconds of processor time to encode one and two MiB of each kind, the best
 * of three runs, and how often the doubled text took the time of the single one. As CSV on stdout.
 *
 * usage: bench_tokenizer DIR...   (folders with a tokenizer.json) */

enum { TEXT_BYTES = 1 << 20, RUNS = 3, ERR_BYTES = 256 };

/* An empty pattern: letters of base64 in no order. */
static const struct kind {
    const char *name;
    const char *pattern;
} kinds[] = {
    {"prose", "The quick brown fox, as they say, jumps over the lazy dog. "},
    {"code", "    for (int i = 0; i < n; i++) {\n        sum += a[i];\n    }\n"},
    {"base64", ""},
    {"letter", "a"},
    {"spaces", " "},
    {"newlines", "\n"},
    {"digits", "1234567890"},
    {"punctuation", "!?.,"},
    {"cjk", "\xe4\xb8\xad\xe6\x96\x87\xe5\xad\x97"},
    {"emoji", "\xf0\x9f\x98\x80\xf0\x9f\x8e\x89"},
    {"marks", "e\xcc\x81"},
    {"mixed", "a1 \xc3\xa9\n\t_"},
};

static void fill(char *text, size_t bytes, const char *pattern)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t random = 1;
    size_t n = strlen(pattern);
    for (size_t i = 0; i < bytes; i++) {
        random = random * 1664525U + 1013904223U;
        text[i] = n ? pattern[i % n] : letters[random >> 26];
    }
}

static double cpu_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Milliseconds; *n_ids is what came out. */
static double encode_ms(const struct tokenizer *t, const char *text, size_t bytes, int32_t *ids,
                        size_t *n_ids)
{
    double best = 0;
    for (int run = 0; run < RUNS; run++) {
        double start = cpu_ms();
        *n_ids = 0;
        enum status s =
            tokenizer_encode(t, text, bytes, true, ids, tokenizer_bound(t, bytes), n_ids);
        double ms = cpu_ms() - start;
        if (s) {
            fprintf(stderr, "bench_tokenizer: %s\n", status_text(s));
            exit(1);
        }
        if (run == 0 || ms < best)
            best = ms;
    }
    return best;
}

static void measure(const struct tokenizer *t, const char *dir, const struct kind *k)
{
    size_t n = strlen(k->pattern);
    size_t once = TEXT_BYTES - (n ? TEXT_BYTES % n : 0); /* whole characters */
    char *text = malloc(2 * once);
    int32_t *ids = malloc(tokenizer_bound(t, 2 * once) * sizeof(*ids));
    size_t n_ids;
    size_t n_twice;
    if (!text || !ids) {
        fprintf(stderr, "bench_tokenizer: %s\n", status_text(E_NOMEM));
        exit(1);
    }
    fill(text, 2 * once, k->pattern);
    double one = encode_ms(t, text, once, ids, &n_ids);
    double two = encode_ms(t, text, 2 * once, ids, &n_twice);
    printf("%s,%s,%zu,%zu,%.1f,%.1f,%.2f\n", dir, k->name, once, n_ids, one, two, two / one);
    free(text);
    free(ids);
}

int main(int argc, char **argv)
{
    printf("folder,kind,bytes,ids,ms,ms_doubled,ratio\n");
    for (int i = 1; i < argc; i++) {
        struct tokenizer *t;
        char err[ERR_BYTES] = "";
        if (tokenizer_open(&t, argv[i], err, sizeof(err))) {
            fprintf(stderr, "bench_tokenizer: %s\n", err);
            return 1;
        }
        for (size_t k = 0; k < ARRAY_LEN(kinds); k++)
            measure(t, argv[i], &kinds[k]);
        tokenizer_close(t);
    }
    return argc > 1 ? 0 : 2;
}

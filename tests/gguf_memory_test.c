/* Aim: a GGUF file of as many tokens or merges as may be takes no more memory than twice the file
 * and 64 MiB, and one of more is refused in one line before any of it is taken.
 * Negative space: merges that are all the same, tokens that are all special. Not here: what such
 * a vocabulary does (tokenizer_parts_test.c); a sanitizer's own memory, so none is measured
 * with one. */
#include "models/gguf.h"
#include "models/tok_priv.h"
#include "tests/gguf_rig.h"
#include "tests/lies.h"

#include <malloc.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { MEGA = 1 << 20, LETTERS = 28, EACH_MAX = 4 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool measures = false;
#else
static const bool measures = true;
#endif

static char folder[64];

/* Head of a file that only has a vocabulary; keys follow. */
static FILE *begin(const char *model, uint64_t keys, uint64_t tokens)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/x.gguf", folder);
    struct gguf_file f = {.keys = fopen(path, "wb")};
    if (!f.keys)
        abort();
    gguf_put(f.keys, "GGUF", 4);
    gguf_put_u32(f.keys, 3);
    gguf_put_u64(f.keys, 0);
    gguf_put_u64(f.keys, keys);
    gguf_key_text(&f, "tokenizer.ggml.model", model);
    gguf_key_array(&f, "tokenizer.ggml.tokens", GGUF_STRING, tokens);
    return f.keys;
}

/* All texts of one to EACH_MAX of the letters, shortest first. */
static size_t put_words(FILE *f, size_t n_max, bool write)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZab";
    size_t n = 0;
    for (size_t length = 1, count = LETTERS; length <= EACH_MAX; length++, count *= LETTERS) {
        for (size_t i = 0; i < count && n < n_max; i++, n++) {
            char text[EACH_MAX + 1] = "";
            size_t rest = i;
            for (size_t k = length; k-- > 0; rest /= LETTERS)
                text[k] = letters[rest % LETTERS];
            if (write)
                gguf_put_text(f, text);
        }
    }
    return n;
}

static void put_letters(FILE *f)
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t cp = b;
        char text[3] = "";
        for (uint32_t letter = 0x100; byte_of_letter(cp) != (int32_t)b; letter++)
            cp = letter;
        bool listed = (cp >= 'A' && cp <= 'Z') || cp == 'a' || cp == 'b';
        text[0] = (char)(cp < 0x80 ? cp : 0xc0 | cp >> 6);
        text[1] = (char)(cp < 0x80 ? 0 : 0x80 | (cp & 0x3f));
        /* These are words already. */
        if (listed)
            (void)snprintf(text, sizeof(text), "%s", "");
        gguf_put_text(f, text);
    }
}

/* Every cut of every word. */
static uint64_t put_cuts(FILE *f, bool write)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZab";
    uint64_t n = 0;
    for (size_t length = 2, count = LETTERS * LETTERS; length <= EACH_MAX;
         length++, count *= LETTERS) {
        n += count * (length - 1);
        for (size_t i = 0; i < count && write; i++) {
            char text[EACH_MAX + 1] = "";
            char both[EACH_MAX + 2];
            size_t rest = i;
            for (size_t k = length; k-- > 0; rest /= LETTERS)
                text[k] = letters[rest % LETTERS];
            for (size_t at = 1; at < length; at++) {
                (void)snprintf(both, sizeof(both), "%.*s %s", (int)at, text, text + at);
                gguf_put_text(f, both);
            }
        }
    }
    return n;
}

static void most_merges(void)
{
    size_t words = put_words(NULL, SIZE_MAX, false);
    struct gguf_file f = {.keys = begin("gpt2", 3, words + 256)};
    (void)put_words(f.keys, SIZE_MAX, true);
    put_letters(f.keys);
    gguf_key_array(&f, "tokenizer.ggml.merges", GGUF_STRING, put_cuts(NULL, false));
    (void)put_cuts(f.keys, true);
    fclose(f.keys);
}

static void write_same(uint64_t merges)
{
    struct gguf_file f = {.keys = begin("gpt2", 3, LETTERS + 1 + 256)};
    (void)put_words(f.keys, LETTERS, true);
    gguf_put_text(f.keys, "AB");
    put_letters(f.keys);
    gguf_key_array(&f, "tokenizer.ggml.merges", GGUF_STRING, merges);
    for (uint64_t i = 0; i < merges; i++)
        gguf_put_text(f.keys, "A B");
    fclose(f.keys);
}

static void same_merges(void)
{
    write_same(TOK_MERGES_MAX);
}

static void more_merges(void)
{
    write_same(TOK_MERGES_MAX + 1);
}

/* SentencePiece's way, with a name of its own for each. */
static void write_tokens(uint32_t n, uint32_t special)
{
    struct gguf_file f = {.keys = begin("llama", 4, n)};
    for (uint32_t i = 0; i < n; i++) {
        char text[16];
        (void)snprintf(text, sizeof(text), "%05x", i);
        gguf_put_text(f.keys, i == 0 ? "<unk>" : text);
    }
    gguf_key_array(&f, "tokenizer.ggml.scores", GGUF_F32, n);
    for (uint32_t i = 0; i < n; i++) {
        float score = -(float)i;
        gguf_put(f.keys, &score, sizeof(score));
    }
    gguf_key_array(&f, "tokenizer.ggml.token_type", GGUF_I32, n);
    for (uint32_t i = 0; i < n; i++)
        gguf_put_u32(f.keys, i == 0 ? PART_UNKNOWN : i <= special ? PART_CONTROL : PART_TEXT);
    fclose(f.keys);
}

static void most_tokens(void)
{
    write_tokens(TOK_VOCAB_MAX, 0);
}

static void more_tokens(void)
{
    write_tokens(TOK_VOCAB_MAX + 1, 0);
}

static void most_specials(void)
{
    write_tokens(TOK_ADDED_MAX, TOK_ADDED_MAX);
}

static void more_specials(void)
{
    write_tokens(TOK_ADDED_MAX + 1, TOK_ADDED_MAX + 1);
}

/* Kilobytes that the process has, or had at most since `reset`. */
static size_t resident(const char *name)
{
    char line[256];
    size_t kilobytes = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof(line), f)) {
        if (strncmp(line, name, strlen(name)) == 0)
            kilobytes = strtoul(line + strlen(name) + 1, NULL, 10);
    }
    if (f)
        fclose(f);
    return kilobytes;
}

static bool forget_peak(void)
{
    FILE *f = fopen("/proc/self/clear_refs", "w");
    if (!f)
        return false;
    bool good = fputs("5", f) >= 0;
    return fclose(f) == 0 && good;
}

static const struct big {
    const char *name;
    void (*write)(void);
    enum status status;
    const char *says;
} bigs[] = {
    {"most merges", most_merges, OK, ""},
    {"same merges", same_merges, OK, ""},
    {"more merges", more_merges, E_FORMAT, "more than 2097152 merges"},
    {"most tokens", most_tokens, OK, ""},
    {"more tokens", more_tokens, E_FORMAT, "1 to 1048576 are possible"},
    {"most specials", most_specials, OK, ""},
    {"more specials", more_specials, E_FORMAT, "more than 262144 added tokens"},
};

/* In a process of its own: what it leaves in its heap would hide what comes. */
static void write_apart(const struct big *b)
{
    int how = 0;
    pid_t child = fork();
    if (child == 0) {
        b->write();
        _exit(0);
    }
    assert_true(child > 0 && waitpid(child, &how, 0) == child && how == 0);
}

static void memory_is_bounded(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bigs); i++) {
        char path[128];
        char err[256] = "";
        struct stat st;
        struct tokenizer *t = NULL;
        write_apart(&bigs[i]);
        snprintf(path, sizeof(path), "%s/x.gguf", folder);
        assert_int_equal(stat(path, &st), 0);
        (void)malloc_trim(0); /* what is still held would hide what is taken */
        bool watched = measures && forget_peak();
        size_t before = resident("VmRSS:");
        enum status s = tokenizer_open(&t, path, err, sizeof(err));
        size_t took = resident("VmHWM:") - before;
        size_t bound = (2 * (size_t)st.st_size + 64 * (size_t)MEGA) / 1024;
        expect(bigs[i].name, s, bigs[i].status, err, bigs[i].says);
        tokenizer_close(t);
        unlink(path);
        if (!watched)
            continue;
        print_message("%s: file %zu KiB, memory %zu KiB of %zu\n", bigs[i].name,
                      (size_t)st.st_size / 1024, took, bound);
        assert_true(took <= bound);
    }
}

static int make_folder(void **state)
{
    (void)state;
    tiny_dir(folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_bounded),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "models/tokenizer.h"
#include "models/unicode.h"

/* An input that begins with '{' is a tokenizer.json, and behind its first NUL a text for
 * it; any other input is text for the vocabulary below. Whatever loads must encode every
 * valid text to ordinary ids within its bound, and decode any ids to valid UTF-8. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PATH_BYTES = 128, ERR_BYTES = 256, IDS_OF_TEXT = 4 };

static char folder[PATH_BYTES];
static char path[2 * PATH_BYTES];

static const char built_in_head[] =
    "{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\\u2581\"},"
    "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{"
    "\"String\":"
    "\"\\u2581\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}]},"
    "\"added_tokens\":[{\"id\":256,\"content\":\"<s>\",\"special\":true}],"
    "\"model\":{\"byte_fallback\":true,\"merges\":[\"a b\",\"a a\",\"aa aa\",\"\\u2581 a\","
    "\"< s\",\"<s >\",\"\\u2581 \\u2581\",\"\\u00e9 \\u00e9\"],\"vocab\":{\"<s>\":256,\"a\":257,"
    "\"b\":258,\"ab\":259,\"aa\":260,\"aaaa\":261,\"\\u2581\":262,\"\\u2581a\":263,\"<\":264,\"s\":"
    "265,\"<s\":266,\"\\u2581\\u2581\":267,\"\\u00e9\":268,\"\\u00e9\\u00e9\":269,\">\":270";

static void remove_files(void)
{
    (void)unlink(path);
    (void)rmdir(folder);
}

static struct tokenizer *open_file(const char *text, size_t bytes)
{
    struct tokenizer *t = NULL;
    char err[ERR_BYTES] = "";
    if (!folder[0]) {
        (void)snprintf(folder, sizeof(folder), "/tmp/fuzz_tokenizer.XXXXXX");
        if (!mkdtemp(folder))
            abort();
        (void)snprintf(path, sizeof(path), "%s/tokenizer.json", folder);
        (void)atexit(remove_files);
    }
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(text, 1, bytes, f) != bytes || fclose(f))
        abort();
    if (tokenizer_open(&t, folder, err, sizeof(err)) && (!err[0] || strchr(err, '\n')))
        abort();
    return t;
}

static struct tokenizer *open_built_in(void)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        abort();
    (void)fputs(built_in_head, f);
    for (unsigned b = 0; b < 256; b++)
        (void)fprintf(f, ",\"<0x%02X>\":%u", b, b);
    (void)fputs("}}}", f);
    (void)fclose(f);
    struct tokenizer *t = open_file(text, size);
    free(text);
    if (!t)
        abort();
    return t;
}

static char *decode_all(const struct tokenizer *t, const int32_t *id, size_t n, size_t *bytes)
{
    struct token_cursor c = {.n_held = 0};
    char *text = malloc(n * TOKEN_TEXT_MAX + TOKEN_TEXT_MAX);
    if (!text)
        abort();
    *bytes = 0;
    for (size_t i = 0; i < n; i++) {
        size_t got = tokenizer_decode(t, &c, id[i], text + *bytes);
        if (got > TOKEN_TEXT_MAX || !utf8_valid(text + *bytes, got))
            abort();
        *bytes += got;
    }
    *bytes += tokenizer_flush(&c, text + *bytes);
    return text;
}

static void check_text(const struct tokenizer *t, const char *text, size_t bytes, bool equal)
{
    size_t most = tokenizer_bound(t, bytes);
    int32_t *id = malloc(most * sizeof(*id));
    size_t n = 0;
    if (!id)
        abort();
    enum status s = tokenizer_encode(t, text, bytes, true, id, most, &n);
    if ((s == OK) != utf8_valid(text, bytes) || n > most)
        abort();
    for (size_t i = 0; i < n; i++) {
        /* Only unknown characters may become one: that is what <unk> is for. */
        if (id[i] < 0 || id[i] >= tokenizer_vocab(t) || (equal && tokenizer_is_special(t, id[i])))
            abort();
    }
    size_t n_back;
    char *back = decode_all(t, id, n, &n_back);
    if (s == OK && equal && (n_back != bytes || memcmp(back, text, bytes) != 0))
        abort();
    free(back);
    free(id);
}

/* Any numbers as ids, in and out of the vocabulary. */
static void check_ids(const struct tokenizer *t, const char *data, size_t size)
{
    int32_t id[IDS_OF_TEXT * 64];
    size_t n = 0;
    for (; n < sizeof(id) / sizeof(id[0]) && n < size; n++)
        id[n] = (uint8_t)data[n] * (n % 3 == 2 ? 65537 : 1) - 2;
    size_t bytes;
    free(decode_all(t, id, n, &bytes));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tokenizer *built_in;
    const char *text = (const char *)data;
    if (!built_in)
        built_in = open_built_in();
    if (size == 0 || text[0] != '{') {
        bool blank = size >= 3 && memmem(text, size, "\xe2\x96\x81", 3) != NULL;
        check_text(built_in, text, size, !blank);
        check_ids(built_in, text, size);
        return 0;
    }
    const char *nul = memchr(text, '\0', size);
    size_t n = nul ? (size_t)(nul - text) : size;
    struct tokenizer *t = open_file(text, n);
    if (t) {
        if (nul)
            check_text(t, nul + 1, size - n - 1, false);
        check_text(t, text, n < 512 ? n : 512, false);
        check_ids(t, text, size);
    }
    tokenizer_close(t);
    return 0;
}

#ifndef TESTS_TOKENIZER_RIG_H
#define TESTS_TOKENIZER_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "models/gguf.h"
#include "models/tok_priv.h"
#include "models/unicode.h"

/* What tests of text share: where real data lie, and vocabularies made on the spot in a
 * folder of the run. */

enum { PATH_BYTES = 512, ERR_BYTES = 256 };

#define SP    "\xe2\x96\x81" /* the blank of SentencePiece, U+2581 */
#define FFFD  "\xef\xbf\xbd"
#define U_E   "\xc3\xa9"         /* 2 bytes */
#define U_CJK "\xe4\xb8\xad"     /* 3 bytes */
#define U_EMO "\xf0\x9f\x98\x80" /* 4 bytes */

/* --- files --- */

static inline const char *shared_path(char out[PATH_BYTES], const char *rest)
{
    const char *root = getenv("FIRSTLIGHT_SHARED");
    (void)snprintf(out, PATH_BYTES, "%s%s/%s", root ? root : REPO_DIR, root ? "" : "/../shared",
                   rest);
    return out;
}

static inline bool no_shared(void)
{
    char path[PATH_BYTES];
    struct stat st;
    if (stat(shared_path(path, "tokenizers"), &st) == 0)
        return false;
    printf("skipped: no shared test data\n");
    return true;
}

static inline char *read_text(const char *dir, const char *name, size_t *bytes)
{
    char err[ERR_BYTES] = "";
    char *text = NULL;
    struct complaint c = {.file = name, .text = err, .size = sizeof(err)};
    if (file_read(&text, bytes, dir, 64 << 20, &c))
        fail_msg("%s", err);
    return text;
}

static char folder[64]; /* of this run, for made files */

static inline int make_folder(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof(folder), "/tmp/tokenizer_test.XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static const char *const made_files[] = {
    "tokenizer.json",  "tokenizer_config.json",   "chat_template.jinja", "chat_template.json",
    "tokenizer.model", "special_tokens_map.json", "added_tokens.json"};

static inline void remove_files(void)
{
    char path[PATH_BYTES];
    for (size_t i = 0; i < ARRAY_LEN(made_files); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", folder, made_files[i]);
        (void)unlink(path);
    }
}

static inline int remove_folder(void **state)
{
    (void)state;
    remove_files();
    return rmdir(folder);
}

static inline void write_file(const char *name, const char *text, size_t bytes)
{
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, bytes, f), bytes);
    assert_int_equal(fclose(f), 0);
}

static inline enum status open_made(struct tokenizer **t, const char *json, const char *config,
                                    char err[ERR_BYTES])
{
    remove_files();
    write_file("tokenizer.json", json, strlen(json));
    if (config)
        write_file("tokenizer_config.json", config, strlen(config));
    err[0] = '\0';
    *t = NULL;
    return tokenizer_open(t, folder, err, ERR_BYTES);
}

static inline struct tokenizer *must_open(const char *dir)
{
    struct tokenizer *t = NULL;
    char err[ERR_BYTES] = "";
    if (tokenizer_open(&t, dir, err, sizeof(err)))
        fail_msg("%s: %s", dir, err);
    return t;
}

/* A folder, a .gguf file, or DIR/tokenizer.model for what DIR would be with no
 * tokenizer.json in it. */
static inline struct tokenizer *open_form(const char *path)
{
    const char *name = strrchr(path, '/');
    if (!name || strcmp(name + 1, "tokenizer.model") != 0)
        return must_open(path);
    remove_files();
    for (size_t i = 0; i < ARRAY_LEN(made_files); i++) {
        char from[2 * PATH_BYTES];
        char to[PATH_BYTES];
        (void)snprintf(from, sizeof(from), "%.*s/%s", (int)(name - path), path, made_files[i]);
        (void)snprintf(to, sizeof(to), "%s/%s", folder, made_files[i]);
        if (strcmp(made_files[i], "tokenizer.json") != 0)
            assert_int_equal(symlink(from, to), 0);
    }
    struct tokenizer *t = must_open(folder);
    remove_files();
    return t;
}

/* The tokenizer.json that is written of a GGUF file's metadata, opened. */
static inline struct tokenizer *open_written(const char *path)
{
    char err[ERR_BYTES] = "";
    char file[PATH_BYTES];
    char *text = NULL;
    size_t bytes = 0;
    struct gguf g;
    const struct complaint c = complaint_in(gguf_file_name(path), err, sizeof(err));
    if (gguf_open(&g, path, &c) || gguf_tokenizer_json(&text, &bytes, &g, &c))
        fail_msg("%s", err);
    (void)snprintf(file, sizeof(file), "%s/tokenizer.json", folder);
    FILE *f = fopen(file, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, bytes, f), bytes);
    assert_int_equal(fclose(f), 0);
    struct tokenizer *t = must_open(folder);
    remove_files();
    gguf_free(&g);
    free(text);
    return t;
}

static inline bool is_gguf(const char *path)
{
    size_t n = strlen(path);
    return n > 5 && strcmp(path + n - 5, ".gguf") == 0;
}

/* Merges of a test's list. */
static inline struct tok_text next_in_list(const void **at)
{
    const struct tok_text *here = *at;
    *at = here + 1;
    return *here;
}

/* A tokenizer of lists once more, by way of the tokenizer.json that is written of it. */
static inline struct tokenizer *rewritten(const struct tokenizer *t, const char *pre)
{
    char err[ERR_BYTES] = "";
    const struct complaint c = complaint_in("tokenizer.json", err, sizeof(err));
    struct tok_trees trees = {.json = NULL};
    struct tokenizer *again = tok_alloc();
    char *text = NULL;
    size_t bytes = 0;
    assert_non_null(again);
    assert_int_equal(tok_write(&text, &bytes, t, pre ? tok_pre_chain(pre) : NULL), OK);
    if (json_of_text(&trees.json, text, bytes, TOK_FILE_NODES_MAX, &c) ||
        tok_load_trees(again, &trees, &c))
        fail_msg("%s", err);
    assert_int_equal(tokenizer_bos(again), tokenizer_bos(t));
    cJSON_Delete(trees.json);
    free(text);
    return again;
}

static inline struct tokenizer *must_make(const char *json)
{
    struct tokenizer *t = NULL;
    char err[ERR_BYTES];
    if (open_made(&t, json, NULL, err))
        fail_msg("%s", err);
    return t;
}

/* --- made vocabularies --- */

static inline void add_letter(FILE *f, uint32_t byte)
{
    static const char hex[] = "0123456789abcdef";
    uint32_t cp = byte;
    for (uint32_t letter = 0x100; byte_of_letter(cp) != (int32_t)byte; letter++)
        cp = letter;
    (void)fprintf(f, "\\u%c%c%c%c", hex[cp >> 12], hex[cp >> 8 & 15], hex[cp >> 4 & 15],
                  hex[cp & 15]);
}

static inline void add_letters(FILE *f, const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        add_letter(f, (uint8_t)text[i]);
}

/* Byte-level: ids 0 .. 255 are the bytes, then one id per row of `rows`, "left right"
 * rows being merges and others plain pieces; special <s> and <|eot|> come last. */
static inline char *byte_level_json(const char *const *rows, size_t n_rows, const char *pattern)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    (void)fprintf(f,
                  "{\"pre_tokenizer\":%s,\"decoder\":{\"type\":\"ByteLevel\"},\"model\":"
                  "{\"type\":\"BPE\",\"vocab\":{",
                  pattern);
    for (uint32_t b = 0; b < 256; b++) {
        (void)fprintf(f, "%s\"", b ? "," : "");
        add_letter(f, b);
        (void)fprintf(f, "\":%u", b);
    }
    for (size_t i = 0; i < n_rows; i++) {
        const char *bar = strchr(rows[i], '|');
        (void)fprintf(f, ",\"");
        add_letters(f, rows[i], bar ? (size_t)(bar - rows[i]) : strlen(rows[i]));
        if (bar)
            add_letters(f, bar + 1, strlen(bar + 1));
        (void)fprintf(f, "\":%zu", 256 + i);
    }
    (void)fprintf(f, "},\"merges\":[");
    const char *comma = "";
    for (size_t i = 0; i < n_rows; i++) {
        const char *bar = strchr(rows[i], '|');
        if (!bar)
            continue;
        (void)fprintf(f, "%s[\"", comma);
        add_letters(f, rows[i], (size_t)(bar - rows[i]));
        (void)fprintf(f, "\",\"");
        add_letters(f, bar + 1, strlen(bar + 1));
        (void)fprintf(f, "\"]");
        comma = ",";
    }
    (void)fprintf(f,
                  "]},\"added_tokens\":[{\"id\":%zu,\"content\":\"<s>\",\"special\":true},"
                  "{\"id\":%zu,\"content\":\"<|eot|>\",\"special\":true}]}",
                  256 + n_rows, 257 + n_rows);
    (void)fclose(f);
    return text;
}

#define BYTE_LEVEL "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}"
#define NO_PATTERN "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}"

/* SentencePiece's way: 0 <unk>, 1 <s>, 2 </s>, 3 .. 258 bytes, then `pieces` and behind
 * them `specials`, both with blanks between; `around` are members of the file. */
static inline char *blanks_json(const char *around, const char *pieces, const char *merges,
                                const char *specials)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    (void)fprintf(f,
                  "{%s\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"byte_fallback\":true,"
                  "\"vocab\":{\"<unk>\":0,\"<s>\":1,\"</s>\":2",
                  around);
    for (int b = 0; b < 256; b++)
        (void)fprintf(f, ",\"<0x%02X>\":%d", (unsigned)b, 3 + b);
    int id = 259;
    for (const char *p = pieces; *p; id++) {
        size_t n = strcspn(p, " ");
        (void)fprintf(f, ",\"%.*s\":%d", (int)n, p, id);
        p += n + (p[n] == ' ');
    }
    (void)fprintf(f,
                  "},\"merges\":[%s]},\"added_tokens\":["
                  "{\"id\":0,\"content\":\"<unk>\",\"special\":true},"
                  "{\"id\":1,\"content\":\"<s>\",\"special\":true},"
                  "{\"id\":2,\"content\":\"</s>\",\"special\":true}",
                  merges);
    for (const char *p = specials; *p; id++) {
        size_t n = strcspn(p, " ");
        (void)fprintf(f, ",{\"id\":%d,\"content\":\"%.*s\",\"special\":true}", id, (int)n, p);
        p += n + (p[n] == ' ');
    }
    (void)fprintf(f, "]}");
    (void)fclose(f);
    return text;
}

#define NORM_REPLACE "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" SP "\"}"
#define NORM_BOTH                                                                                  \
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":"    \
    "\"" SP "\"}," NORM_REPLACE "]},"
#define DECODER_STRIP                                                                              \
    "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":"          \
    "{\"String\":\"" SP "\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},"  \
    "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]},"

#define DEMO_PIECES SP " a b aa aaaa ab " SP "a " SP "ab " SP SP " < > s"
#define DEMO_MERGES "\"a a\",\"aa aa\",\"" SP " a\",\"a b\",\"" SP "a b\",[\"" SP "\",\"" SP "\"]"

/* --- encode and decode --- */

struct ids {
    int32_t *id; /* [n] from malloc() */
    size_t n;
};

static inline struct ids encode(const struct tokenizer *t, const char *text, size_t bytes,
                                bool first)
{
    struct ids r = {.n = 0};
    size_t most = tokenizer_bound(t, bytes);
    r.id = malloc(most * sizeof(*r.id));
    assert_non_null(r.id);
    assert_int_equal(tokenizer_encode(t, text, bytes, first, r.id, most, &r.n), OK);
    assert_true(r.n <= most);
    return r;
}

/* Every part must be whole characters. */
static inline char *decode(const struct tokenizer *t, const int32_t *id, size_t n, bool started,
                           size_t *bytes)
{
    struct token_cursor c = {.started = started};
    char *text = malloc((n + 1) * TOKEN_TEXT_MAX);
    assert_non_null(text);
    *bytes = 0;
    for (size_t i = 0; i < n; i++) {
        char piece[TOKEN_TEXT_MAX];
        size_t got = tokenizer_decode(t, &c, id[i], piece);
        assert_true(got <= TOKEN_TEXT_MAX);
        assert_true(utf8_valid(piece, got));
        memcpy(text + *bytes, piece, got);
        *bytes += got;
    }
    *bytes += tokenizer_flush(&c, text + *bytes);
    return text;
}

#endif

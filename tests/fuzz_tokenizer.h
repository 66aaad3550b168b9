#ifndef TESTS_FUZZ_TOKENIZER_H
#define TESTS_FUZZ_TOKENIZER_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/tok_priv.h"
#include "models/unicode.h"

/* What fuzzers of the tokenizer share: whatever was loaded must encode every valid text to
 * ids of its vocabulary within its bound, never to a special token that no trusted range
 * holds, and decode any ids to valid UTF-8, in parts as in whole. */

enum { ERR_BYTES = 256, PIECES_OF_TEXT = 256 }; /* bytes of text: more say nothing new */

static inline struct tokenizer *must_build(char *json)
{
    char err[ERR_BYTES] = "";
    const struct complaint c = complaint_in("made", err, sizeof(err));
    struct tok_trees trees = {.json = NULL};
    struct tokenizer *t = tok_alloc();
    if (!t || json_of_text(&trees.json, json, strlen(json), TOK_FILE_NODES_MAX, &c) ||
        tok_load_trees(t, &trees, &c)) {
        (void)fprintf(stderr, "%s\n", err);
        abort();
    }
    cJSON_Delete(trees.json);
    free(json);
    return t;
}

/* Decodes n ids; the bytes, all of them checked. */
static inline char *decode_all(const struct tokenizer *t, const int32_t *id, size_t n,
                               size_t *bytes)
{
    struct token_cursor c = {.n_held = 0};
    size_t cap = TOKEN_TEXT_MAX;
    char *text = malloc(cap);
    *bytes = 0;
    for (size_t i = 0; text && i < n; i++) {
        if (cap - *bytes < (size_t)TOKEN_TEXT_MAX) {
            cap *= 2;
            text = realloc(text, cap + TOKEN_TEXT_MAX);
        }
        size_t got = text ? tokenizer_decode(t, &c, id[i], text + *bytes) : 0;
        if (got > TOKEN_TEXT_MAX || !utf8_valid(text + *bytes, got))
            abort();
        *bytes += got;
    }
    if (!text)
        abort();
    *bytes += tokenizer_flush(&c, text + *bytes);
    return text;
}

static inline void check_text(const struct tokenizer *t, const char *text, size_t bytes,
                              const struct text_range *trusted, bool equal)
{
    size_t most = tokenizer_bound(t, bytes);
    int32_t *id = malloc(most * sizeof(*id));
    size_t n = 0;
    if (!id)
        abort();
    const struct marked_text in = {.text = text,
                                   .bytes = bytes,
                                   .trusted = trusted,
                                   .n_trusted = trusted ? 1 : 0,
                                   .first = true};
    enum status s = tokenizer_encode_marked(t, &in, id, most, &n);
    if ((s == OK) != utf8_valid(text, bytes) || n > most)
        abort();
    for (size_t i = 0; i < n; i++) {
        /* Only unknown characters may become one: that is what <unk> is for. */
        if (id[i] < 0 || id[i] >= tokenizer_vocab(t) ||
            (!trusted && id[i] != t->unk && tokenizer_is_special(t, id[i])))
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
static inline void check_ids(const struct tokenizer *t, const uint8_t *data, size_t size)
{
    int32_t id[64];
    size_t n = 0;
    for (; n < ARRAY_LEN(id) && n < size; n++)
        id[n] = data[n] * (n % 3 == 2 ? 65537 : 1) - 2;
    size_t bytes;
    free(decode_all(t, id, n, &bytes));
}

#endif

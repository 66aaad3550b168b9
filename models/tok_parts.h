#ifndef MODELS_TOK_PARTS_H
#define MODELS_TOK_PARTS_H

#include "models/jsonfile.h"
#include "models/tokenizer.h"

/* A tokenizer from its parts, for formats that keep a vocabulary as plain lists
 * (tokenizer.model, GGUF). What is pointed to is the caller's, is only read during the
 * call, and may be anything: it is checked like the files it came from. */

/* A text of a file, not always with a NUL behind it. */
struct tok_text {
    const char *text;
    size_t bytes;
};

/* Both SentencePiece and GGUF number them so. */
enum part_kind {
    PART_TEXT = 1,
    PART_UNKNOWN,
    PART_CONTROL, /* special */
    PART_USER,    /* an added token, found in text before anything else */
    PART_UNUSED,
    PART_BYTE, /* "<0x0A>" */
    PART_KINDS,
};

struct token_list;

struct tok_parts {
    const struct tok_text *piece; /* [n_pieces], the index is the id */
    const uint8_t *kind;          /* [n_pieces] enum part_kind; NULL: all are PART_TEXT */
    uint32_t n_pieces;

    /* SentencePiece: pieces with U+2581 for blanks. Two that together are a piece merge,
     * those of the highest score first. */
    const float *score; /* [n_pieces]; NULL: byte-level */
    bool blank_first;   /* a blank goes in front of every text */
    bool squeeze;       /* spaces at both ends go, others become one */

    /* Byte-level: pieces in GPT-2's alphabet, merges "left right" with the first first. They are
     * looked at once, so nobody has to list them: next gives the one at *at and moves on. */
    struct tok_text (*next_merge)(const void **at);
    const void *merges;
    size_t n_merges;
    const char *pre; /* how text becomes words, a name as GGUF has it */
    bool raw_bytes;  /* pieces are bytes; no merges are given, lower ids merge first */

    const struct token_list *added; /* flags of added tokens, with ids below n_pieces; NULL */

    int32_t bos;    /* -1: none */
    int32_t unk;    /* -1: none, or the piece that is PART_UNKNOWN */
    int8_t add_bos; /* a plain prompt begins with it; -1: as such models usually do */
};

/* E_NOMEM, E_FORMAT, E_UNSUPPORTED (a `pre` nobody knows) with one line in c. */
enum status tokenizer_of_parts(struct tokenizer **out, const struct tok_parts *parts,
                               const struct complaint *c) MUST_CHECK;

#endif

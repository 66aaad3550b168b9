#ifndef MODELS_TOKENIZER_H
#define MODELS_TOKENIZER_H

#include "kernels/base.h"

/* SEAM: text <-> token ids. BPE as stored in tokenizer.json (SentencePiece style
 * with byte fallback, or byte-level). Immutable once open: any number of threads
 * may encode and decode with the same one. */
struct tokenizer;

/* path is a directory with tokenizer.json and, optionally, tokenizer_config.json, or a GGUF
 * file. */
enum status tokenizer_open(struct tokenizer **out, const char *path, char *err,
                           size_t err_size) MUST_CHECK;
void tokenizer_close(struct tokenizer *t); /* NULL is fine */

int32_t tokenizer_vocab(const struct tokenizer *t); /* highest id + 1 */
int32_t tokenizer_bos(const struct tokenizer *t);   /* -1: a plain prompt gets none */
/* Id of a special token by its exact text; -1: none. */
int32_t tokenizer_special(const struct tokenizer *t, const char *text);
/* Specials never become text of an answer. */
bool tokenizer_is_special(const struct tokenizer *t, int32_t id);
/* The name of a special token, not terminated; NULL when id is none. */
const char *tokenizer_special_text(const struct tokenizer *t, int32_t id, size_t *bytes);

/* Ids that text of this many bytes can become at most: allocate that. */
size_t tokenizer_bound(const struct tokenizer *t, size_t bytes);

/* Appends to ids[*n]; O(bytes log bytes). Text is data: "<|im_end|>" inside it stays
 * ordinary letters; specials enter only through tokenizer_special() and trusted ranges.
 * first: this is the beginning of the sequence (some SentencePiece models put a blank
 * only there). E_NOMEM; E_INVALID: not UTF-8, or more than ids_max. */
enum status tokenizer_encode(const struct tokenizer *t, const char *text, size_t bytes, bool first,
                             int32_t *ids, size_t ids_max, size_t *n) MUST_CHECK;

/* A text of which parts are known to be written by a template, not by a user: bytes
 * begin .. end - 1, ascending and not overlapping, each whole characters. */
struct text_range {
    size_t begin;
    size_t end;
};

struct marked_text {
    const char *text; /* [bytes] */
    size_t bytes;
    const struct text_range *trusted; /* [n_trusted] */
    size_t n_trusted;
    bool first;
};

/* tokenizer_encode(), but where the name of a special token, or of an added token
 * written like one (<...>), lies wholly inside one trusted range, it becomes that token
 * and cuts the text. What else is in the text is data. */
enum status tokenizer_encode_marked(const struct tokenizer *t, const struct marked_text *in,
                                    int32_t *ids, size_t ids_max, size_t *n) MUST_CHECK;

/* Streaming decode. Bytes of an unfinished UTF-8 character wait in the cursor, so
 * what comes out is always whole characters. Zero-initialised for a new answer. */
struct token_cursor {
    uint8_t held[4];
    uint8_t n_held;
    bool started; /* the first token's leading blank may have to go */
};

/* Returns the bytes written, at most TOKEN_TEXT_MAX (longer pieces are a load error).
 * Bytes that can never become UTF-8 turn into U+FFFD. Specials give nothing. */
enum { TOKEN_TEXT_MAX = 2048 };
size_t tokenizer_decode(const struct tokenizer *t, struct token_cursor *c, int32_t id,
                        char out[TOKEN_TEXT_MAX]);
/* The bytes a token stands for, perhaps a part of a character, at most TOKEN_TEXT_MAX; none of
 * a special one. */
size_t tokenizer_bytes(const struct tokenizer *t, int32_t id, char out[TOKEN_TEXT_MAX]);
/* At the end of an answer: what is still held becomes one U+FFFD. */
size_t tokenizer_flush(struct token_cursor *c, char out[TOKEN_TEXT_MAX]);

#endif

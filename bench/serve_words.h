#ifndef BENCH_SERVE_WORDS_H
#define BENCH_SERVE_WORDS_H

#include "bench/serve_target.h"

/* Texts of a wanted number of tokens, from words whose tokens the server has counted. */

enum { WORDS = 32, WORD_IDS_MAX = 8, PIECE_WORDS_MAX = 1 << 22 };

struct words {
    int32_t mode;          /* enum option_tokenizer, never auto */
    int32_t tokens[WORDS]; /* of " word" behind another one; 0: unknown */
    int32_t first;         /* of the first word of a text */
    int32_t specials;      /* that the server puts around a completion's prompt */
    double per_word;       /* where the server counts in usage alone */
    int32_t id[WORDS][WORD_IDS_MAX];
};

/* How many tokens a text has, from the server's /tokenize. E_UNSUPPORTED: it has none. ids, of
 * ids_max, may be NULL. */
enum status words_count(int64_t *out, int32_t *ids, int32_t ids_max, const struct serve_target *t,
                        const char *text, size_t bytes, bool specials) MUST_CHECK;

/* Asks /tokenize. E_UNSUPPORTED: no such route, or counts that do not add up. */
enum status words_learn(struct words *out, const struct serve_target *t) MUST_CHECK;

/* A text of so many tokens, the beginning of any other text of the same seed; a text behind it with
 * another seed continues it. Returns how many tokens were written, as far as known. In mode ids
 * numbers with commas are written, else bare words. */
int64_t words_write(struct buf *out, const struct words *w, uint64_t seed, int64_t tokens,
                    bool begins);

#endif

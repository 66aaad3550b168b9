#ifndef SCHEDULER_BLOCKS_H
#define SCHEDULER_BLOCKS_H

#include "kernels/base.h"

/* Who holds which KV block. Ids only: the memory behind them is the model's.
 *
 * A block is free, held (refs > 0), or cached (refs == 0, but full, sealed and still
 * findable). Cached blocks are taken back oldest first when free ones run out. A sealed
 * block never changes, so sharing needs no copy. Fixed size, no allocation after open. */
struct blocks;

/* A run of sealed blocks from the beginning of a sequence. {.salt = s} is the empty
 * one; sequences under different salts never meet. */
struct prefix {
    uint64_t salt;
    uint64_t last; /* identity of the last block, 0: none yet */
};

enum status blocks_open(struct blocks **out, int32_t n_blocks, int32_t block_tokens) MUST_CHECK;
void blocks_close(struct blocks *b);
/* What opening takes. */
size_t blocks_bytes(int32_t n_blocks, int32_t block_tokens);

/* Extends at by as many blocks as are known to follow it, within tokens[0..n), which
 * begin where at ends. Takes a reference on each, writes them to table, returns how
 * many. The caller keeps the last token of a sequence out of n: its logits are needed,
 * so it must be computed. */
int32_t blocks_match(struct blocks *b, struct prefix *at, const int32_t *tokens, int32_t n,
                     int32_t *table);
/* How many blocks blocks_match() would find now; takes none. */
int32_t blocks_known(const struct blocks *b, struct prefix at, const int32_t *tokens, int32_t n);
/* All n or none. */
bool blocks_take(struct blocks *b, int32_t n, int32_t *table) MUST_CHECK;
/* *entry, held by this caller alone, now holds the block_tokens tokens after at. When an
 * equal block is known already, the caller gets that one instead and *entry is free. */
void blocks_seal(struct blocks *b, struct prefix *at, const int32_t *tokens, int32_t *entry);
/* Deepest block first, so that a prefix outlives what was built on it. */
void blocks_drop(struct blocks *b, const int32_t *table, int32_t n);
/* What these blocks contain is not to be trusted: nobody finds them any more. */
void blocks_forget(struct blocks *b, const int32_t *table, int32_t n);

int32_t blocks_available(const struct blocks *b); /* free + cached */
int32_t blocks_held(const struct blocks *b);
/* free + held + cached is everything, every sealed block is found where it should be,
 * and the references are exactly n_refs. Slow; false is a bug of ours. */
bool blocks_check(const struct blocks *b, int64_t n_refs);

#endif

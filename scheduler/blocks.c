#include "scheduler/blocks.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* KV block accounting and the prefix cache.
 *
 * Every block is in exactly one of three states: on the free list, on the cached list
 * (oldest first), or held. A sealed block has an identity, a number never used twice, and
 * records the identity of the block before it; so (salt, parent identity, own tokens) names
 * a whole prefix exactly, and one lookup per block walks it. The hash only chooses the
 * bucket: a collision costs time, never a wrong answer.
 *
 * Sealing never leaves two blocks with one name, so whoever holds a block holds the blocks
 * before it too; as drops go deepest first, a cached block is always older than its parent
 * and is evicted before it. */

enum { NONE = -1 };

struct block {
    uint64_t ident; /* 0: not sealed */
    uint64_t parent;
    uint64_t salt;
    int32_t refs;
    int32_t bucket;
    int32_t bucket_next;
    int32_t prev; /* cached list */
    int32_t next; /* cached or free list */
};

struct blocks {
    int32_t n_blocks;
    int32_t block_tokens;
    int32_t n_free;
    int32_t n_cached;
    int32_t free_head;
    int32_t bucket_mask;
    uint64_t ident_next;
    struct block *block; /* [n_blocks + 1], the last is the cached list's ends */
    int32_t *tokens;     /* [n_blocks][block_tokens] of sealed blocks */
    int32_t *bucket;     /* [bucket_mask + 1] first block of each chain */
};

static int32_t buckets_for(int32_t n_blocks)
{
    int32_t n = 2;
    while (n < 2 * n_blocks)
        n *= 2;
    return n;
}

size_t blocks_bytes(int32_t n_blocks, int32_t block_tokens)
{
    size_t n = (size_t)n_blocks;
    return sizeof(struct blocks) + (n + 1) * sizeof(struct block) +
           n * (size_t)block_tokens * sizeof(int32_t) +
           (size_t)buckets_for(n_blocks) * sizeof(int32_t);
}

enum status blocks_open(struct blocks **out, int32_t n_blocks, int32_t block_tokens)
{
    size_t cells;
    *out = NULL;
    if (n_blocks < 1 || n_blocks > INT32_MAX / 4 || block_tokens < 1 ||
        !size_mul((size_t)n_blocks, (size_t)block_tokens, &cells))
        return E_INVALID;
    struct blocks *b = calloc(1, sizeof(*b));
    if (!b)
        return E_NOMEM;
    int32_t n_buckets = buckets_for(n_blocks);
    b->block = calloc((size_t)n_blocks + 1, sizeof(*b->block));
    b->tokens = calloc(cells, sizeof(*b->tokens));
    b->bucket = calloc((size_t)n_buckets, sizeof(*b->bucket));
    if (!b->block || !b->tokens || !b->bucket)
        goto fail;
    b->n_blocks = n_blocks;
    b->block_tokens = block_tokens;
    b->bucket_mask = n_buckets - 1;
    b->ident_next = 1;
    b->n_free = n_blocks;
    for (int32_t i = 0; i < n_buckets; i++)
        b->bucket[i] = NONE;
    for (int32_t i = 0; i < n_blocks; i++)
        b->block[i].next = i + 1 < n_blocks ? i + 1 : NONE;
    b->block[n_blocks].prev = n_blocks;
    b->block[n_blocks].next = n_blocks;
    *out = b;
    return OK;
fail:
    blocks_close(b);
    return E_NOMEM;
}

void blocks_close(struct blocks *b)
{
    if (!b)
        return;
    free(b->bucket);
    free(b->tokens);
    free(b->block);
    free(b);
}

static int32_t *tokens_of(const struct blocks *b, int32_t id)
{
    return b->tokens + (size_t)id * (size_t)b->block_tokens;
}

static void free_push(struct blocks *b, int32_t id)
{
    b->block[id].next = b->free_head;
    b->free_head = id;
    b->n_free++;
}

static void cached_push(struct blocks *b, int32_t id)
{
    int32_t ends = b->n_blocks;
    int32_t newest = b->block[ends].prev;
    b->block[id].prev = newest;
    b->block[id].next = ends;
    b->block[newest].next = id;
    b->block[ends].prev = id;
    b->n_cached++;
}

static void cached_remove(struct blocks *b, int32_t id)
{
    struct block *k = &b->block[id];
    b->block[k->prev].next = k->next;
    b->block[k->next].prev = k->prev;
    b->n_cached--;
}

static int32_t bucket_of(const struct blocks *b, const struct prefix *at, const int32_t *tokens)
{
    uint64_t h = (at->salt ^ at->last * 0x9e3779b97f4a7c15u) + 1;
    for (int32_t i = 0; i < b->block_tokens; i++) {
        h = (h ^ (uint32_t)tokens[i]) * 0xd6e8feb86659fd93u;
        h ^= h >> 32;
    }
    return (int32_t)(h & (uint64_t)b->bucket_mask);
}

static int32_t find(const struct blocks *b, int32_t bucket, const struct prefix *at,
                    const int32_t *tokens)
{
    size_t bytes = (size_t)b->block_tokens * sizeof(*tokens);
    int32_t id = b->bucket[bucket];
    for (; id != NONE; id = b->block[id].bucket_next) {
        const struct block *k = &b->block[id];
        if (k->parent == at->last && k->salt == at->salt &&
            !memcmp(tokens_of(b, id), tokens, bytes))
            break;
    }
    return id;
}

static void unseal(struct blocks *b, int32_t id)
{
    struct block *k = &b->block[id];
    int32_t *link = &b->bucket[k->bucket];
    while (*link != id)
        link = &b->block[*link].bucket_next;
    *link = k->bucket_next;
    k->ident = 0;
}

static void hold(struct blocks *b, int32_t id)
{
    if (b->block[id].refs++ == 0)
        cached_remove(b, id);
}

int32_t blocks_match(struct blocks *b, struct prefix *at, const int32_t *tokens, int32_t n,
                     int32_t *table)
{
    int32_t found = 0;
    for (; n >= b->block_tokens; n -= b->block_tokens) {
        int32_t id = find(b, bucket_of(b, at, tokens), at, tokens);
        if (id == NONE)
            break;
        hold(b, id);
        at->last = b->block[id].ident;
        table[found++] = id;
        tokens += b->block_tokens;
    }
    return found;
}

int32_t blocks_known(const struct blocks *b, struct prefix at, const int32_t *tokens, int32_t n)
{
    int32_t found = 0;
    for (; n >= b->block_tokens; n -= b->block_tokens) {
        int32_t id = find(b, bucket_of(b, &at, tokens), &at, tokens);
        if (id == NONE)
            break;
        at.last = b->block[id].ident;
        tokens += b->block_tokens;
        found++;
    }
    return found;
}

static int32_t take_one(struct blocks *b)
{
    int32_t id = b->free_head;
    if (id != NONE && b->n_free > 0) {
        b->free_head = b->block[id].next;
        b->n_free--;
    } else {
        id = b->block[b->n_blocks].next;
        cached_remove(b, id);
        unseal(b, id);
    }
    b->block[id].refs = 1;
    return id;
}

bool blocks_take(struct blocks *b, int32_t n, int32_t *table)
{
    if (n > blocks_available(b))
        return false;
    for (int32_t i = 0; i < n; i++)
        table[i] = take_one(b);
    return true;
}

void blocks_seal(struct blocks *b, struct prefix *at, const int32_t *tokens, int32_t *entry)
{
    int32_t bucket = bucket_of(b, at, tokens);
    int32_t twin = find(b, bucket, at, tokens);
    struct block *k = &b->block[*entry];
    assert(k->refs == 1);
    assert(!k->ident);
    if (twin != NONE) {
        hold(b, twin);
        k->refs = 0;
        free_push(b, *entry);
        *entry = twin;
    } else {
        k->ident = b->ident_next++;
        k->parent = at->last;
        k->salt = at->salt;
        k->bucket = bucket;
        k->bucket_next = b->bucket[bucket];
        b->bucket[bucket] = *entry;
        memcpy(tokens_of(b, *entry), tokens, (size_t)b->block_tokens * sizeof(*tokens));
    }
    at->last = b->block[*entry].ident;
}

void blocks_drop(struct blocks *b, const int32_t *table, int32_t n)
{
    while (n-- > 0) {
        struct block *k = &b->block[table[n]];
        assert(k->refs > 0);
        if (--k->refs > 0)
            continue;
        if (k->ident)
            cached_push(b, table[n]);
        else
            free_push(b, table[n]);
    }
}

void blocks_forget(struct blocks *b, const int32_t *table, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        struct block *k = &b->block[table[i]];
        if (!k->ident)
            continue;
        unseal(b, table[i]);
        if (k->refs > 0)
            continue;
        cached_remove(b, table[i]);
        free_push(b, table[i]);
    }
}

int32_t blocks_available(const struct blocks *b)
{
    return b->n_free + b->n_cached;
}

int32_t blocks_held(const struct blocks *b)
{
    return b->n_blocks - blocks_available(b);
}

/* Every block of a list is unheld and sealed or not as the list says; -1 otherwise. The
 * bound ends the walk of a list that has become a ring. */
static int32_t list_length(const struct blocks *b, int32_t first, int32_t end, bool sealed)
{
    int32_t n = 0;
    for (int32_t id = first; id != end; id = b->block[id].next) {
        if (n++ == b->n_blocks || id < 0 || id >= b->n_blocks || b->block[id].refs != 0 ||
            (b->block[id].ident != 0) != sealed)
            return -1;
    }
    return n;
}

static int32_t n_findable(const struct blocks *b)
{
    int32_t n = 0;
    for (int32_t i = 0; i <= b->bucket_mask; i++) {
        for (int32_t id = b->bucket[i]; id != NONE; id = b->block[id].bucket_next) {
            if (n++ == b->n_blocks || b->block[id].bucket != i || !b->block[id].ident)
                return -1;
        }
    }
    return n;
}

bool blocks_check(const struct blocks *b, int64_t n_refs)
{
    int32_t held = 0;
    int32_t sealed = 0;
    for (int32_t id = 0; id < b->n_blocks; id++) {
        n_refs -= b->block[id].refs;
        held += b->block[id].refs > 0;
        sealed += b->block[id].ident != 0;
    }
    int32_t n_free = list_length(b, b->free_head, NONE, false);
    int32_t n_cached = list_length(b, b->block[b->n_blocks].next, b->n_blocks, true);
    return n_refs == 0 && n_free == b->n_free && n_cached == b->n_cached &&
           n_free + n_cached + held == b->n_blocks && n_findable(b) == sealed;
}

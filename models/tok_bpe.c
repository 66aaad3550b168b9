#include "models/tok_priv.h"

#include <stdlib.h>

/* Merging of one word: a doubly linked list of symbols in an array, and a heap of the
 * pairs that may merge, ordered by rank, then by place. A merge lets its left symbol
 * take the pair's id and unlinks the right one; entries of the heap that this outdates
 * stay there and are known by the symbol's rank, which always holds what is true now.
 * Every merge pushes at most two entries and pops one, so n symbols never need more
 * than 2 n of them, and all together take O(n log n). The heap has four children per
 * entry: half the levels of a binary one, and the four lie side by side. */

enum { BPE_CAP_MIN = 64, HEAP_WAYS = 4 };

#define BPE_CAP_MAX ((size_t)1 << 31)

void bpe_free(struct bpe *b)
{
    free(b->sym);
    free(b->heap);
    *b = (struct bpe){.work = b->work};
}

enum status bpe_begin(struct bpe *b, size_t n)
{
    b->n = 0;
    b->n_heap = 0;
    if (n <= b->cap)
        return OK;
    if (n > BPE_CAP_MAX)
        return E_INVALID;
    size_t cap = n < BPE_CAP_MIN ? BPE_CAP_MIN : n + n / 4;
    bpe_free(b);
    b->sym = malloc(cap * sizeof(*b->sym));
    b->heap = malloc(cap * 2 * sizeof(*b->heap));
    if (!b->sym || !b->heap) {
        bpe_free(b);
        return E_NOMEM;
    }
    b->cap = cap;
    return OK;
}

void bpe_push(struct bpe *b, uint32_t id)
{
    uint32_t at = (uint32_t)b->n++;
    /* at - 1 is BPE_END in front of the first. */
    b->sym[at] = (struct symbol){.id = id, .prev = at - 1, .next = at + 1};
}

static void heap_down(struct bpe *b, size_t i)
{
    uint64_t e = b->heap[i];
    for (;;) {
        size_t child = HEAP_WAYS * i + 1;
        if (child >= b->n_heap)
            break;
        size_t stop = child + HEAP_WAYS < b->n_heap ? child + HEAP_WAYS : b->n_heap;
        size_t least = child;
        while (++child < stop) {
            if (b->heap[child] < b->heap[least])
                least = child;
        }
        b->work++;
        if (e <= b->heap[least])
            break;
        b->heap[i] = b->heap[least];
        i = least;
    }
    b->heap[i] = e;
}

static void heap_push(struct bpe *b, uint64_t e)
{
    size_t i = b->n_heap++;
    while (i > 0 && e < b->heap[(i - 1) / HEAP_WAYS]) {
        b->heap[i] = b->heap[(i - 1) / HEAP_WAYS];
        i = (i - 1) / HEAP_WAYS;
        b->work++;
    }
    b->heap[i] = e;
}

static uint64_t heap_pop(struct bpe *b)
{
    uint64_t e = b->heap[0];
    b->heap[0] = b->heap[--b->n_heap];
    if (b->n_heap)
        heap_down(b, 0);
    return e;
}

/* Looks up the pair that begins at this place; true when it may merge. */
static bool rank_pair(struct bpe *b, const struct merges *m, uint32_t at)
{
    struct symbol *sym = &b->sym[at];
    b->work++;
    sym->rank = TOK_NO_RANK;
    if (sym->next == BPE_END)
        return false;
    const struct merge *found = merges_find(m, sym->id, b->sym[sym->next].id);
    if (found)
        sym->rank = found->rank;
    return found != NULL;
}

static void offer(struct bpe *b, const struct merges *m, uint32_t at)
{
    if (rank_pair(b, m, at))
        heap_push(b, (uint64_t)b->sym[at].rank << 32 | at);
}

static void merge_at(struct bpe *b, const struct merges *m, uint32_t at)
{
    struct symbol *left = &b->sym[at];
    struct symbol *right = &b->sym[left->next];
    left->id = merges_find(m, left->id, right->id)->result;
    left->next = right->next;
    right->rank = TOK_NO_RANK;
    if (left->next != BPE_END)
        b->sym[left->next].prev = at;
    offer(b, m, at);
    if (left->prev != BPE_END)
        offer(b, m, left->prev);
}

void bpe_run(struct bpe *b, const struct merges *m)
{
    if (b->n == 0)
        return;
    b->sym[b->n - 1].next = BPE_END;
    for (uint32_t at = 0; at < b->n; at++) {
        if (rank_pair(b, m, at))
            b->heap[b->n_heap++] = (uint64_t)b->sym[at].rank << 32 | at;
    }
    for (size_t i = b->n_heap / HEAP_WAYS + 1; i-- > 0;) {
        if (i < b->n_heap)
            heap_down(b, i);
    }
    while (b->n_heap) {
        uint64_t e = heap_pop(b);
        uint32_t at = (uint32_t)e;
        if (b->sym[at].rank == (uint32_t)(e >> 32))
            merge_at(b, m, at);
    }
}

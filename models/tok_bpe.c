#include "models/tok_priv.h"

#include <stdlib.h>

/* Merging of one word: a doubly linked list of symbols in an array, and a heap of the
 * pairs that may merge, ordered by rank, then by place. A merge lets its left symbol
 * take the pair's id and unlinks the right one; entries of the heap that this outdates
 * stay there and are known by the symbol's rank, which always holds what is true now.
 * Every merge pushes at most two entries and pops one, so n symbols never need more
 * than 2 n of them, and all together take O(n log n). The heap has four children per
 * entry: half the levels of a binary one, and the four lie side by side.
 *
 * A long word is merged window by window, so that what a merge jumps about in stays in
 * the cache. That changes nothing, by this argument: merges happen by rank, then from
 * the left, so where a row of pieces has the property that each two neighbours alone
 * would be merged to just these two, no merge ever crosses from one to the next, and
 * the row is the answer for the whole. Within one window neighbours have that property.
 * The next window begins at a piece of the one before and must find the same piece there
 * first: then the seam is a pair seen together already. If it finds another one, windows
 * were too narrow, and all begins anew with ones twice as wide; that can happen only as
 * often as the width of one window can double. */

enum { BPE_CAP_MIN = 64, HEAP_WAYS = 4, WINDOW = 2048, OVERLAP = 8 };

#define BPE_CAP_MAX ((size_t)1 << 31)

void bpe_free(struct bpe *b)
{
    free(b->source);
    free(b->sym);
    free(b->heap);
    *b = (struct bpe){.work = b->work, .window = b->window};
}

enum status bpe_begin(struct bpe *b, size_t n)
{
    b->n = 0;
    b->n_out = 0;
    if (n <= b->cap)
        return OK;
    if (n > BPE_CAP_MAX)
        return E_INVALID;
    size_t cap = n < BPE_CAP_MIN ? BPE_CAP_MIN : n + n / 4;
    free(b->source);
    b->source = malloc(cap * sizeof(*b->source));
    b->cap = b->source ? cap : 0;
    return b->cap ? OK : E_NOMEM;
}

void bpe_push(struct bpe *b, uint32_t id)
{
    b->source[b->n++] = id;
}

static enum status make_room(struct bpe *b, size_t n)
{
    if (n <= b->sym_cap)
        return OK;
    free(b->sym);
    free(b->heap);
    b->sym = malloc(n * sizeof(*b->sym));
    b->heap = malloc(n * 2 * sizeof(*b->heap));
    b->sym_cap = b->sym && b->heap ? n : 0;
    return b->sym_cap ? OK : E_NOMEM;
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

/* Merges `n` > 0 symbols of the source from `from` on. */
static void run_window(struct bpe *b, const struct merges *m, size_t from, size_t n)
{
    b->n_heap = 0;
    for (uint32_t i = 0; i < n; i++) {
        /* i - 1 is BPE_END in front of the first. */
        b->sym[i] = (struct symbol){.id = b->source[from + i], .prev = i - 1, .next = i + 1};
    }
    b->sym[n - 1].next = BPE_END;
    for (uint32_t at = 0; at < n; at++) {
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

/* Where a window begins, and what it must find there first. */
struct start {
    size_t from;   /* in the source */
    uint32_t id;   /* of its first piece */
    uint32_t span; /* symbols of that; 0: any piece will do */
};

/* Symbols that the piece at this place of a window of n is made of. */
static uint32_t span_of(const struct bpe *b, uint32_t at, size_t n)
{
    uint32_t next = b->sym[at].next;
    return (next == BPE_END ? (uint32_t)n : next) - at;
}

/* Gives out the pieces that end within the first `keep` of n symbols; returns where the
 * one behind them begins, BPE_END for none. */
static uint32_t give_out(struct bpe *b, size_t n, size_t keep)
{
    uint32_t at = 0;
    while (at != BPE_END && at + span_of(b, at, n) <= keep) {
        /* More than there is room for may be less when windows are wider. */
        if (b->n_out < b->out_max)
            b->out[b->n_out] = (int32_t)b->sym[at].id;
        b->n_out++;
        at = b->sym[at].next;
    }
    return at;
}

enum status bpe_run(struct bpe *b, const struct merges *m, int32_t *out, size_t out_max)
{
    struct start now = {.span = 0};
    size_t width = b->window ? b->window : WINDOW;
    b->out = out;
    b->out_max = out_max;
    b->n_out = 0;
    while (now.from < b->n) {
        size_t left = b->n - now.from;
        size_t n = width < left ? width : left;
        enum status s = make_room(b, n);
        if (s)
            return s;
        run_window(b, m, now.from, n);
        bool same = b->sym[0].id == now.id && span_of(b, 0, n) == now.span;
        bool seam = now.span == 0 || same;
        uint32_t next = seam ? give_out(b, n, n == left ? n : n - 1 - n / OVERLAP) : 0;
        if (next == BPE_END)
            break;
        if (seam && next > 0) {
            now = (struct start){now.from + next, b->sym[next].id, span_of(b, next, n)};
            continue;
        }
        now = (struct start){.span = 0};
        b->n_out = 0;
        width *= 2;
    }
    return b->n_out > out_max ? E_INVALID : OK;
}

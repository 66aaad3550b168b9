#include "models/tok_priv.h"

#include <stdlib.h>
#include <string.h>

/* Two open hash tables with linear probing, at most half full, filled once and then
 * only read: texts of ordinary pieces -> id, and pairs of ids -> merge. */

/* The smallest power of two that leaves a table of n at most half full. */
static uint32_t table_size(size_t n)
{
    uint32_t size = 16;
    while (size < 2 * n)
        size *= 2;
    return size;
}

enum status vocab_init(struct vocab *v, uint32_t n, uint32_t n_texts, size_t bytes_max)
{
    uint32_t size = table_size(n_texts);
    v->bytes = malloc(bytes_max ? bytes_max : 1);
    v->start = calloc(n ? n : 1, sizeof(*v->start));
    v->length = calloc(n ? n : 1, sizeof(*v->length));
    v->kind = calloc(n ? n : 1, sizeof(*v->kind));
    v->slot = calloc(size, sizeof(*v->slot));
    if (!v->bytes || !v->start || !v->length || !v->kind || !v->slot) {
        vocab_free(v);
        return E_NOMEM;
    }
    v->bytes_max = bytes_max;
    v->n_bytes = 0;
    v->slot_mask = size - 1;
    v->n = n;
    return OK;
}

void vocab_free(struct vocab *v)
{
    free(v->bytes);
    free(v->start);
    free(v->length);
    free(v->kind);
    free(v->slot);
    *v = (struct vocab){.n = 0};
}

static uint32_t hash_text(const char *text, size_t bytes)
{
    uint64_t h = 0xcbf29ce484222325U; /* FNV-1a */
    for (size_t i = 0; i < bytes; i++)
        h = (h ^ (uint8_t)text[i]) * 0x100000001b3U;
    return (uint32_t)(h ^ h >> 32);
}

/* The slot that holds this text, or the free one where it would go. */
static uint32_t text_slot(const struct vocab *v, const char *text, size_t bytes)
{
    uint32_t i = hash_text(text, bytes) & v->slot_mask;
    while (v->slot[i]) {
        uint32_t id = v->slot[i] - 1;
        if (v->length[id] == bytes && memcmp(v->bytes + v->start[id], text, bytes) == 0)
            break;
        i = (i + 1) & v->slot_mask;
    }
    return i;
}

enum status vocab_add(struct vocab *v, uint32_t id, enum piece_kind kind, const char *text,
                      size_t bytes)
{
    if (id >= v->n || v->kind[id] != PIECE_NONE || bytes > TOK_PIECE_MAX ||
        bytes > v->bytes_max - v->n_bytes)
        return E_FORMAT;
    if (kind == PIECE_TEXT && bytes) {
        uint32_t i = text_slot(v, text, bytes);
        if (v->slot[i])
            return E_FORMAT;
        v->slot[i] = id + 1;
    }
    v->kind[id] = (uint8_t)kind;
    v->start[id] = (uint32_t)v->n_bytes;
    v->length[id] = (uint16_t)bytes;
    if (bytes)
        memcpy(v->bytes + v->n_bytes, text, bytes);
    v->n_bytes += bytes;
    return OK;
}

int32_t vocab_find(const struct vocab *v, const char *text, size_t bytes)
{
    if (bytes == 0 || bytes > TOK_PIECE_MAX)
        return -1;
    return (int32_t)v->slot[text_slot(v, text, bytes)] - 1;
}

enum status merges_init(struct merges *m, size_t n)
{
    uint32_t size = table_size(n);
    m->slot = malloc(size * sizeof(*m->slot));
    if (!m->slot)
        return E_NOMEM;
    memset(m->slot, 0xff, size * sizeof(*m->slot)); /* TOK_NO_RANK everywhere */
    m->mask = size - 1;
    return OK;
}

void merges_free(struct merges *m)
{
    free(m->slot);
    *m = (struct merges){.slot = NULL};
}

static struct merge *merge_slot(const struct merges *m, uint32_t left, uint32_t right)
{
    uint64_t h = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15U;
    uint32_t i = (uint32_t)(h >> 32) & m->mask;
    while (m->slot[i].rank != TOK_NO_RANK && (m->slot[i].left != left || m->slot[i].right != right))
        i = (i + 1) & m->mask;
    return &m->slot[i];
}

void merges_add(struct merges *m, const struct merge *one)
{
    *merge_slot(m, one->left, one->right) = *one;
}

const struct merge *merges_find(const struct merges *m, uint32_t left, uint32_t right)
{
    const struct merge *found = merge_slot(m, left, right);
    return found->rank == TOK_NO_RANK ? NULL : found;
}

/* Printable Latin-1 stands for itself; the other bytes, in their order, are the code
 * points from U+0100. */
static bool stands_for_itself(uint32_t b)
{
    return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);
}

int32_t byte_of_letter(uint32_t cp)
{
    if (cp < 0x100)
        return stands_for_itself(cp) ? (int32_t)cp : -1;
    uint32_t place = cp - 0x100;
    if (place <= 0x20)
        return (int32_t)place;
    if (place <= 0x42)
        return (int32_t)(place - 0x21 + 0x7f);
    return place == 0x43 ? 0xad : -1;
}

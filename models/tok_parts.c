#include "models/tok_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/tok_priv.h"
#include "models/unicode.h"

/* Lists -> struct tokenizer. Two families: SentencePiece, where the order of merges is the
 * order of scores, and byte-level, where merges are given. Pieces that no text may become
 * (controls, unused ones) are kept apart from the beginning. */

struct assembly {
    struct tokenizer *t;
    const struct tok_parts *parts;
    const struct complaint *c;
    struct token_list added;
    bool *listed; /* [n_pieces] a file lists it as an added token */
};

static enum part_kind kind_of(const struct tok_parts *parts, uint32_t id)
{
    return parts->kind ? (enum part_kind)parts->kind[id] : PART_TEXT;
}

/* --- pieces --- */

static enum status check_piece(const struct assembly *a, uint32_t id, size_t *bytes)
{
    const struct tok_text *text = &a->parts->piece[id];
    enum part_kind kind = kind_of(a->parts, id);
    if (kind < PART_TEXT || kind >= PART_KINDS)
        return complain(a->c, E_FORMAT, "token %u: type %d is none", id, (int)kind);
    if (!a->parts->raw_bytes && !utf8_valid(text->text, text->bytes))
        return complain(a->c, E_FORMAT, "token %u: its text is not UTF-8", id);
    if (a->parts->score && !isfinite(a->parts->score[id]))
        return complain(a->c, E_FORMAT, "token %u: its score is no number", id);
    if (!size_add(*bytes, text->bytes, bytes))
        return complain(a->c, E_FORMAT, "token %u is too long", id);
    return OK;
}

/* What other files say of a token goes before what its type says. */
static enum status collect_listed(struct assembly *a)
{
    const struct token_list *list = a->parts->added;
    enum status s = OK;
    for (size_t i = 0; list && i < list->n && s == OK; i++) {
        const struct token_entry *e = &list->entry[i];
        if (e->bytes == 0)
            continue;
        s = a->listed[e->id] ? OK : tokens_push(&a->added, e, a->c);
        a->listed[e->id] = true;
    }
    return s;
}

static enum status collect_added(struct assembly *a)
{
    enum status s = collect_listed(a);
    for (uint32_t id = 0; id < a->parts->n_pieces && s == OK; id++) {
        enum part_kind kind = kind_of(a->parts, id);
        const struct tok_text *text = &a->parts->piece[id];
        bool added = kind == PART_CONTROL || kind == PART_USER || kind == PART_UNKNOWN;
        if (!added || text->bytes == 0 || a->listed[id])
            continue;
        const struct token_entry e = {.text = text->text,
                                      .bytes = text->bytes,
                                      .id = (int32_t)id,
                                      .special = kind != PART_USER};
        s = tokens_push(&a->added, &e, a->c);
    }
    return s;
}

/* A text given to two ids is encoded to the first; the other is still decoded. */
static enum status add_text(struct assembly *a, uint32_t id)
{
    struct vocab *v = &a->t->vocab;
    const struct tok_text *text = &a->parts->piece[id];
    bool taken = !a->t->byte_level && vocab_find(v, text->text, text->bytes) >= 0;
    if (taken || text->bytes == 0 || kind_of(a->parts, id) == PART_UNUSED)
        return build_piece(a->t, (int32_t)id, PIECE_ADDED, text, a->c);
    if (a->parts->raw_bytes)
        return build_piece(a->t, (int32_t)id, PIECE_TEXT, text, a->c);
    return build_ordinary(a->t, (int32_t)id, text, a->c);
}

static enum status add_pieces(struct assembly *a)
{
    const struct tok_parts *parts = a->parts;
    size_t bytes = 0;
    enum status s = OK;
    if (parts->n_pieces == 0 || parts->n_pieces > TOK_VOCAB_MAX)
        return complain(a->c, E_FORMAT, "%u tokens: 1 to %d are possible", parts->n_pieces,
                        TOK_VOCAB_MAX);
    for (uint32_t id = 0; id < parts->n_pieces && s == OK; id++)
        s = check_piece(a, id, &bytes);
    if (s)
        return s;
    for (size_t i = 0; parts->added && i < parts->added->n; i++)
        bytes += parts->added->entry[i].bytes;
    a->listed = calloc(parts->n_pieces, sizeof(*a->listed));
    if (!a->listed || vocab_init(&a->t->vocab, parts->n_pieces, parts->n_pieces, bytes))
        return complain(a->c, E_NOMEM, "no memory for %u pieces", parts->n_pieces);
    s = collect_added(a);
    if (s == OK)
        s = build_guarded(a->t, &a->added, a->c);
    for (uint32_t id = 0; id < parts->n_pieces && s == OK; id++) {
        bool left = a->t->vocab.kind[id] == PIECE_NONE && kind_of(parts, id) != PART_USER;
        /* A name that is no piece belongs to the id alone. */
        if (left && !(a->listed[id] && parts->piece[id].bytes == 0))
            s = add_text(a, id);
    }
    return s ? s : build_added(a->t, &a->added, a->c);
}

/* --- the order of merges --- */

struct scored {
    float score;
    uint32_t id;
};

static int by_score(const void *a, const void *b)
{
    const struct scored *x = a;
    const struct scored *y = b;
    return (x->score < y->score) - (x->score > y->score);
}

/* Equal scores are one rank: among them, the leftmost merges first. */
static enum status merge_by_score(struct assembly *a)
{
    uint32_t n = a->parts->n_pieces;
    struct scored *order = malloc(n * sizeof(*order));
    uint32_t *rank = malloc(n * sizeof(*rank));
    enum status s = E_NOMEM;
    if (!order || !rank) {
        s = complain(a->c, s, "no memory for %u scores", n);
        goto done;
    }
    for (uint32_t id = 0; id < n; id++)
        order[id] = (struct scored){a->parts->score[id], id};
    qsort(order, n, sizeof(*order), by_score);
    uint32_t place = 0;
    for (uint32_t i = 0; i < n; i++) {
        place += i > 0 && order[i].score < order[i - 1].score;
        rank[order[i].id] = place;
    }
    s = build_ranked(a->t, rank, a->c);
done:
    free(order);
    free(rank);
    return s;
}

static enum status merge_by_id(struct assembly *a)
{
    uint32_t n = a->parts->n_pieces;
    uint32_t *rank = malloc(n * sizeof(*rank));
    if (!rank)
        return complain(a->c, E_NOMEM, "no memory for %u ranks", n);
    for (uint32_t id = 0; id < n; id++)
        rank[id] = id;
    enum status s = build_ranked(a->t, rank, a->c);
    free(rank);
    return s;
}

/* Ways to cut all pieces in two: as many different merges there can be. */
static size_t count_cuts(const struct vocab *v)
{
    size_t n = 0;
    for (uint32_t id = 0; id < v->n; id++)
        n += v->kind[id] == PIECE_TEXT && v->length[id] ? v->length[id] - 1U : 0;
    return n;
}

static enum status merge_by_list(struct assembly *a)
{
    const struct tok_parts *parts = a->parts;
    const void *at = parts->merges;
    size_t room = count_cuts(&a->t->vocab);
    room = room < parts->n_merges ? room : parts->n_merges;
    if (parts->n_merges > TOK_MERGES_MAX)
        return complain(a->c, E_FORMAT, "more than %d merges", TOK_MERGES_MAX);
    if (merges_init(&a->t->merges, room))
        return complain(a->c, E_NOMEM, "no memory for %zu merges", room);
    for (size_t i = 0; i < parts->n_merges; i++) {
        const struct tok_text both = parts->next_merge(&at);
        struct tok_text left;
        struct tok_text right;
        if (!utf8_valid(both.text, both.bytes) || !split_merge(&both, &left, &right))
            return complain(a->c, E_FORMAT, "merge %zu is not a pair of pieces", i);
        enum status s = build_merge(a->t, &left, &right, (uint32_t)i, a->c);
        if (s)
            return s;
    }
    return OK;
}

/* --- the rest --- */

static enum status set_specials(struct assembly *a, bool usually)
{
    struct tokenizer *t = a->t;
    const struct tok_parts *parts = a->parts;
    int64_t n = parts->n_pieces;
    if (parts->bos < -1 || parts->bos >= n || parts->unk < -1 || parts->unk >= n)
        return complain(a->c, E_FORMAT, "the id of a special token is out of the vocabulary");
    t->unk = parts->unk;
    for (uint32_t id = 0; id < parts->n_pieces && t->unk < 0; id++) {
        if (kind_of(parts, id) == PART_UNKNOWN)
            t->unk = (int32_t)id;
    }
    if (parts->add_bos < 0 ? usually : parts->add_bos > 0)
        t->bos = parts->bos;
    return OK;
}

static enum status set_blanks(struct assembly *a)
{
    struct tokenizer *t = a->t;
    t->blanks = true;
    t->blanks_out = true;
    t->fuse_unk = true;
    t->prefix = a->parts->blank_first ? PREFIX_ALWAYS : PREFIX_NONE;
    t->strip_blank = a->parts->blank_first;
    if (a->parts->squeeze)
        t->norm[t->n_norms++] = (struct norm_step){.kind = NORM_SQUEEZE};
    for (uint32_t id = 0; id < a->parts->n_pieces; id++)
        t->byte_fallback = t->byte_fallback || kind_of(a->parts, id) == PART_BYTE;
    return OK;
}

static enum status merge(struct assembly *a)
{
    if (a->parts->score)
        return merge_by_score(a);
    return a->parts->raw_bytes ? merge_by_id(a) : merge_by_list(a);
}

static enum status assemble(struct assembly *a)
{
    bool scored = a->parts->score != NULL;
    bool usually = true;
    a->t->byte_level = !scored;
    enum status s = scored ? set_blanks(a) : tok_pre_named(a->t, a->parts->pre, &usually, a->c);
    if (s == OK)
        s = add_pieces(a);
    if (s == OK)
        s = set_specials(a, usually);
    if (s == OK)
        s = build_cover(a->t, a->c);
    if (s == OK)
        s = merge(a);
    if (s == OK)
        build_cuts(a->t);
    return s;
}

enum status parts_assemble(struct tokenizer *t, const struct tok_parts *parts,
                           const struct complaint *c)
{
    struct assembly a = {.t = t, .parts = parts, .c = c};
    enum status s = assemble(&a);
    tokens_free(&a.added);
    free(a.listed);
    return s;
}

enum status tokenizer_of_parts(struct tokenizer **out, const struct tok_parts *parts,
                               const struct complaint *c)
{
    struct tokenizer *t = tok_alloc();
    if (!t)
        return complain(c, E_NOMEM, "no memory for a tokenizer");
    enum status s = parts_assemble(t, parts, c);
    if (s) {
        tokenizer_close(t);
        return s;
    }
    *out = t;
    return OK;
}

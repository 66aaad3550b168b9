#include "models/tok_priv.h"

#include <stdlib.h>
#include <string.h>

#include "models/unicode.h"

/* What every format shares once its vocabulary is at hand: pieces as they are spelled in
 * files, merges given as pairs or found from the order of the pieces, and whether every
 * text can be encoded. Special tokens are in the vocabulary before its ordinary pieces
 * are: no merge can then result in one. */

static enum status too_long(const struct complaint *c, const struct tok_text *text)
{
    char quoted[TOK_QUOTE_MAX];
    return complain(c, E_FORMAT, "\"%s...\" is longer than %d bytes",
                    tok_quote_bytes(quoted, text->text, text->bytes), TOK_PIECE_MAX);
}

enum status build_piece(struct tokenizer *t, int32_t id, enum piece_kind kind,
                        const struct tok_text *text, const struct complaint *c)
{
    char quoted[TOK_QUOTE_MAX];
    if (text->bytes > TOK_PIECE_MAX)
        return too_long(c, text);
    if (vocab_add(&t->vocab, (uint32_t)id, kind, text->text, text->bytes))
        return complain(c, E_FORMAT, "\"%s\": id %d or its text is given twice",
                        tok_quote_bytes(quoted, text->text, text->bytes), (int)id);
    return OK;
}

enum status build_guarded(struct tokenizer *t, const struct token_list *list,
                          const struct complaint *c)
{
    enum status s = OK;
    for (size_t i = 0; i < list->n && s == OK; i++) {
        const struct token_entry *e = &list->entry[i];
        const struct tok_text text = {e->text, e->bytes};
        if (e->special)
            s = build_piece(t, e->id, PIECE_SPECIAL, &text, c);
        else if (added_is_mark(e->text, e->bytes))
            s = build_piece(t, e->id, PIECE_ADDED, &text, c);
    }
    return s;
}

/* The id has a guarded name already, and this is another: text could reach it by this one. */
static bool evades_guard(const struct vocab *v, const struct token_entry *e)
{
    const char *text = v->bytes + v->start[e->id];
    size_t bytes = v->length[e->id];
    bool guarded = v->kind[e->id] == PIECE_SPECIAL ||
                   (v->kind[e->id] == PIECE_ADDED && added_is_mark(text, bytes));
    return guarded && (bytes != e->bytes || memcmp(text, e->text, bytes) != 0);
}

enum status build_added(struct tokenizer *t, const struct token_list *list,
                        const struct complaint *c)
{
    char quoted[TOK_QUOTE_MAX];
    for (size_t i = 0; i < list->n; i++) {
        const struct token_entry *e = &list->entry[i];
        const struct tok_text text = {e->text, e->bytes};
        if (evades_guard(&t->vocab, e))
            return complain(c, E_FORMAT, "\"%s\": id %d is that of another added token",
                            tok_quote_bytes(quoted, e->text, e->bytes), e->id);
        if (t->vocab.kind[e->id] != PIECE_NONE)
            continue;
        enum status s = build_piece(t, e->id, PIECE_ADDED, &text, c);
        if (s)
            return s;
    }
    if (added_build(&t->added, list))
        return complain(c, E_NOMEM, "no memory for the added tokens");
    return OK;
}

/* "<0x0A>" */
bool is_byte_name(const struct tok_text *name, uint8_t *byte)
{
    static const char digits[] = "0123456789ABCDEF";
    if (name->bytes != 6 || memcmp(name->text, "<0x", 3) != 0 || name->text[5] != '>')
        return false;
    const char *high = memchr(digits, name->text[3], 16);
    const char *low = memchr(digits, name->text[4], 16);
    if (!high || !low)
        return false;
    *byte = (uint8_t)((high - digits) << 4 | (low - digits));
    return true;
}

/* From GPT-2's alphabet to bytes; false: too long, or a character that is not in it. */
static bool letters_to_bytes(const struct tok_text *name, char out[TOK_NAME_BYTES_MAX],
                             size_t *bytes)
{
    const char *p = name->text;
    const char *end = p + name->bytes;
    size_t n = 0;
    if (name->bytes > TOK_NAME_BYTES_MAX)
        return false;
    while (p < end) {
        int32_t byte = byte_of_letter(utf8_next(&p));
        if (byte < 0)
            return false;
        out[n++] = (char)byte;
    }
    *bytes = n;
    return true;
}

enum status build_ordinary(struct tokenizer *t, int32_t id, const struct tok_text *name,
                           const struct complaint *c)
{
    char mapped[TOK_NAME_BYTES_MAX];
    struct tok_text text = {mapped, 0};
    uint8_t byte;
    if (t->byte_level && letters_to_bytes(name, mapped, &text.bytes))
        return build_piece(t, id, PIECE_TEXT, &text, c);
    if (t->byte_level)
        return build_piece(t, id, PIECE_ADDED, name, c);
    if (!t->byte_fallback || !is_byte_name(name, &byte))
        return build_piece(t, id, PIECE_TEXT, name, c);
    enum status s = build_piece(t, id, PIECE_BYTE, name, c);
    if (s == OK)
        t->byte_id[byte] = id;
    return s;
}

/* Some byte-level vocabularies lack bytes that their corpus never showed; one without
 * plain letters is no vocabulary. */
static bool may_lack(const struct tokenizer *t, int b)
{
    return t->byte_level && (b < 0x20 || b > 0x7e);
}

enum status build_cover(struct tokenizer *t, const struct complaint *c)
{
    t->blank_id = vocab_find(&t->vocab, BLANK, BLANK_BYTES);
    for (int b = 0; b < 256; b++) {
        char one = (char)b;
        if (t->byte_level)
            t->byte_id[b] = vocab_find(&t->vocab, &one, 1);
        if ((t->byte_level || t->byte_fallback) && t->byte_id[b] < 0 && !may_lack(t, b))
            return complain(c, E_FORMAT, "the vocabulary has no piece for byte 0x%02X",
                            (unsigned)b);
    }
    if (!t->byte_level && !t->byte_fallback && t->unk < 0)
        return complain(c, E_FORMAT, "neither bytes nor an unknown token in the vocabulary");
    return OK;
}

/* --- merges --- */

bool split_merge(const struct tok_text *both, struct tok_text *left, struct tok_text *right)
{
    const char *end = both->text + both->bytes;
    const char *space = memchr(both->text, ' ', both->bytes);
    if (!space || memchr(space + 1, ' ', (size_t)(end - space - 1)))
        return false;
    *left = (struct tok_text){both->text, (size_t)(space - both->text)};
    *right = (struct tok_text){space + 1, (size_t)(end - space - 1)};
    return true;
}

/* Id of the text a merge names; -1: none, or one that text must not reach. */
static int32_t merge_part(const struct tokenizer *t, const struct tok_text *name)
{
    char mapped[TOK_NAME_BYTES_MAX];
    size_t bytes;
    if (!t->byte_level)
        return vocab_find(&t->vocab, name->text, name->bytes);
    return letters_to_bytes(name, mapped, &bytes) ? vocab_find(&t->vocab, mapped, bytes) : -1;
}

/* A part may be a piece of the vocabulary that is not ordinary: then the merge can never
 * happen, and is no mistake of the file. */
static bool is_named(const struct tokenizer *t, const struct tok_text *name)
{
    uint8_t byte;
    return added_find(&t->added, name->text, name->bytes) ||
           (t->byte_fallback && is_byte_name(name, &byte));
}

enum status build_merge(struct tokenizer *t, const struct tok_text *left,
                        const struct tok_text *right, uint32_t rank, const struct complaint *c)
{
    char both[2 * TOK_NAME_BYTES_MAX];
    char quoted[TOK_QUOTE_MAX];
    if (left->bytes > TOK_NAME_BYTES_MAX || right->bytes > TOK_NAME_BYTES_MAX)
        return complain(c, E_FORMAT, "merge %u is too long", rank);
    memcpy(both, left->text, left->bytes);
    memcpy(both + left->bytes, right->text, right->bytes);
    const struct tok_text part[] = {*left, *right, {both, left->bytes + right->bytes}};
    int32_t id[ARRAY_LEN(part)];
    bool possible = true;
    for (size_t i = 0; i < ARRAY_LEN(part); i++) {
        id[i] = merge_part(t, &part[i]);
        possible = possible && id[i] >= 0;
        if (id[i] < 0 && !is_named(t, &part[i]))
            return complain(c, E_FORMAT,
                            "merge %u (\"%s\") needs a piece that is not in the vocabulary", rank,
                            tok_quote_bytes(quoted, left->text, left->bytes));
    }
    if (possible)
        merges_add(&t->merges, &(struct merge){.left = (uint32_t)id[0],
                                               .right = (uint32_t)id[1],
                                               .rank = rank,
                                               .result = (uint32_t)id[2]});
    return OK;
}

/* Every way to cut this piece into two others. Returns how many there are; with `rank`
 * they become merges. */
static size_t cuts_of(struct tokenizer *t, uint32_t id, const uint32_t *rank)
{
    const struct vocab *v = &t->vocab;
    const char *text = v->bytes + v->start[id];
    const char *end = text + v->length[id];
    size_t n = 0;
    if (v->kind[id] != PIECE_TEXT || text == end)
        return 0;
    for (const char *p = text + 1; p < end; p++) {
        if (!t->byte_level && ((uint8_t)*p & 0xc0) == 0x80)
            continue;
        int32_t left = vocab_find(v, text, (size_t)(p - text));
        int32_t right = left < 0 ? -1 : vocab_find(v, p, (size_t)(end - p));
        if (right < 0)
            continue;
        n++;
        if (rank)
            merges_add(&t->merges, &(struct merge){.left = (uint32_t)left,
                                                   .right = (uint32_t)right,
                                                   .rank = *rank,
                                                   .result = id});
    }
    return n;
}

enum status build_ranked(struct tokenizer *t, const uint32_t *rank, const struct complaint *c)
{
    size_t n = 0;
    for (uint32_t id = 0; id < t->vocab.n; id++)
        n += cuts_of(t, id, NULL);
    if (n > TOK_MERGES_MAX)
        return complain(c, E_FORMAT, "more than %d merges", TOK_MERGES_MAX);
    if (merges_init(&t->merges, n))
        return complain(c, E_NOMEM, "no memory for %zu merges", n);
    for (uint32_t id = 0; id < t->vocab.n; id++)
        (void)cuts_of(t, id, &rank[id]);
    return OK;
}

/* A blank behind something else: text must not be cut in front of blanks then. */
static bool blank_inside(const struct vocab *v, uint32_t id)
{
    const char *text = v->bytes + v->start[id];
    const char *end = text + v->length[id];
    bool seen = false;
    while (text < end) {
        size_t n = utf8_length(text, end);
        bool blank = n == BLANK_BYTES && memcmp(text, BLANK, n) == 0;
        if (blank && seen)
            return true;
        seen = seen || !blank;
        text += n ? n : 1;
    }
    return false;
}

void build_cuts(struct tokenizer *t)
{
    t->cut_words = !t->byte_level && (t->blank_id >= 0 || t->byte_fallback);
    for (uint32_t i = 0; i <= t->merges.mask && t->cut_words; i++) {
        const struct merge *m = &t->merges.slot[i];
        t->cut_words = m->rank == TOK_NO_RANK || !blank_inside(&t->vocab, m->result);
    }
}

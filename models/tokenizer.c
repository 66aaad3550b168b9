#include "models/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/gguf.h"
#include "models/tok_priv.h"
#include "models/unicode.h"

/* Text is cut into words, a word becomes symbols, symbols merge, what is left are the
 * ids. Two ways to cut and to begin: byte-level (words by a pattern, one symbol per
 * byte) and SentencePiece's (words at blanks, one symbol per character, or one per byte
 * of a character that has no piece). No path from text leads to a special token: the
 * vocabulary's hash does not hold them and no merge results in one. */

/* A merge takes two symbols' places, an unknown character needs one per byte. */
#define TEXT_BYTES_MAX ((size_t)1 << 29)

struct tokenizer *tok_alloc(void)
{
    struct tokenizer *t = calloc(1, sizeof(*t));
    if (!t)
        return NULL;
    t->bos = -1;
    t->unk = -1;
    t->blank_id = -1;
    t->growth = 1;
    memset(t->byte_id, 0xff, sizeof(t->byte_id)); /* -1 each */
    return t;
}

static enum status open_gguf(struct tokenizer **out, const char *path, char *err, size_t err_size)
{
    const struct complaint c = complaint_in(gguf_file_name(path), err, err_size);
    struct gguf g;
    enum status s = gguf_open(&g, path, &c);
    if (s)
        return s;
    s = gguf_tokenizer(out, &g, &c);
    gguf_free(&g);
    return s;
}

enum status tokenizer_open(struct tokenizer **out, const char *path, char *err, size_t err_size)
{
    if (gguf_is_path(path))
        return open_gguf(out, path, err, err_size);
    struct tokenizer *t = tok_alloc();
    if (!t) {
        (void)snprintf(err, err_size, "%s", status_text(E_NOMEM));
        return E_NOMEM;
    }
    enum status s = tok_load(t, path, err, err_size);
    if (s) {
        tokenizer_close(t);
        return s;
    }
    *out = t;
    return OK;
}

void tokenizer_close(struct tokenizer *t)
{
    if (!t)
        return;
    vocab_free(&t->vocab);
    merges_free(&t->merges);
    added_free(&t->added);
    for (uint32_t i = 0; i < TOK_STEPS_MAX; i++) {
        regex_free(t->cut[i].regex);
        regex_free(t->norm[i].regex);
    }
    free(t);
}

int32_t tokenizer_vocab(const struct tokenizer *t)
{
    return (int32_t)t->vocab.n;
}

int32_t tokenizer_bos(const struct tokenizer *t)
{
    return t->bos;
}

int32_t tokenizer_special(const struct tokenizer *t, const char *text)
{
    const struct added *a = added_find(&t->added, text, strlen(text));
    return a && a->special ? a->id : -1;
}

bool tokenizer_is_special(const struct tokenizer *t, int32_t id)
{
    return id >= 0 && (uint32_t)id < t->vocab.n && t->vocab.kind[id] == PIECE_SPECIAL;
}

const char *tokenizer_special_text(const struct tokenizer *t, int32_t id, size_t *bytes)
{
    if (!tokenizer_is_special(t, id) || t->vocab.length[id] > TOKEN_TEXT_MAX)
        return NULL;
    *bytes = t->vocab.length[id];
    return t->vocab.bytes + t->vocab.start[id];
}

size_t tokenizer_bound(const struct tokenizer *t, size_t bytes)
{
    /* Only a blank grows: one byte of text, three of a piece the vocabulary may lack. */
    size_t each = !t->byte_level && t->blank_id < 0 ? BLANK_BYTES : 1;
    size_t rate = each * t->growth;
    size_t front = each * (t->front + (t->prefix != PREFIX_NONE || t->space_first));
    size_t n;
    if (!size_mul(bytes, rate, &n) || !size_add(n, front, &n))
        return SIZE_MAX;
    if (t->added.n == 0)
        return n;
    /* Behind each added token comes a front again; what its own bytes do not pay for: */
    size_t paid = t->added.shortest * rate;
    size_t more = front + 1 > paid ? front + 1 - paid : 0;
    if (!size_mul(bytes / (t->added.shortest + 1U) + 1, more, &more) || !size_add(n, more, &n))
        return SIZE_MAX;
    return n;
}

/* --- encode --- */

struct encoder {
    const struct tokenizer *t;
    struct bpe bpe;
    int32_t *ids;
    size_t ids_max;
    size_t n;
    struct norm_buf norm;
    struct regex_run *run;
    bool after_unk; /* the last symbol stands for a character without a piece */
};

static enum status put(struct encoder *e, uint32_t id)
{
    if (e->n >= e->ids_max)
        return E_INVALID;
    e->ids[e->n++] = (int32_t)id;
    return OK;
}

static enum status finish_word(struct encoder *e)
{
    enum status s = bpe_run(&e->bpe, &e->t->merges, e->ids + e->n, e->ids_max - e->n);
    e->n += s == OK ? e->bpe.n_out : 0;
    return s;
}

static void push_char(struct encoder *e, const char *text, size_t bytes)
{
    const struct tokenizer *t = e->t;
    int32_t id = vocab_find(&t->vocab, text, bytes);
    bool known = id >= 0;
    if (known) {
        bpe_push(&e->bpe, (uint32_t)id);
    } else if (t->byte_fallback) {
        for (size_t i = 0; i < bytes; i++)
            bpe_push(&e->bpe, (uint32_t)t->byte_id[(uint8_t)text[i]]);
    } else if (!t->fuse_unk || !e->after_unk) {
        bpe_push(&e->bpe, (uint32_t)t->unk);
    }
    e->after_unk = !known && !t->byte_fallback;
}

/* Bytes of the blank at p; 0: it is none. */
static size_t blank_at(const struct tokenizer *t, const char *p, const char *end)
{
    if (*p == ' ')
        return t->blanks ? 1 : 0;
    return end - p >= BLANK_BYTES && memcmp(p, BLANK, BLANK_BYTES) == 0 ? BLANK_BYTES : 0;
}

static const char *word_end(const struct tokenizer *t, const char *p, const char *end)
{
    if (!t->cut_words && !t->cut_blanks)
        return end;
    bool in_word = t->cut_blanks;
    for (size_t n = blank_at(t, p, end); p < end; n = blank_at(t, p, end)) {
        p += n ? n : 1;
        in_word = in_word || !n;
        if (p == end || (in_word && blank_at(t, p, end)))
            break;
    }
    return p;
}

static enum status encode_word(struct encoder *e, const char *p, const char *end, bool prefix)
{
    const struct tokenizer *t = e->t;
    enum status s = bpe_begin(&e->bpe, tokenizer_bound(t, (size_t)(end - p)));
    if (s)
        return s;
    e->after_unk = false;
    if (prefix)
        push_char(e, BLANK, BLANK_BYTES);
    while (p < end) {
        size_t blank = blank_at(t, p, end);
        size_t n = blank ? blank : utf8_length(p, end);
        e->bpe.work++;
        if (blank)
            push_char(e, BLANK, BLANK_BYTES);
        else
            push_char(e, p, n);
        p += n;
    }
    return finish_word(e);
}

static bool wants_prefix(const struct tokenizer *t, const char *text, const char *end, bool first)
{
    switch (t->prefix) {
    case PREFIX_ALWAYS:
        return true;
    case PREFIX_MISSING:
        return blank_at(t, text, end) == 0;
    case PREFIX_FIRST:
        return first && blank_at(t, text, end) == 0;
    case PREFIX_NONE:
        break;
    }
    return false;
}

static enum status encode_blanks(struct encoder *e, const char *p, const char *end, bool prefix)
{
    while (p < end) {
        const char *next = word_end(e->t, p, end);
        enum status s = encode_word(e, p, next, prefix);
        if (s)
            return s;
        prefix = false;
        p = next;
    }
    return OK;
}

static enum status encode_bytes(struct encoder *e, const char *p, const char *end)
{
    const struct tokenizer *t = e->t;
    int32_t whole = t->ignore_merges ? vocab_find(&t->vocab, p, (size_t)(end - p)) : -1;
    if (whole >= 0)
        return put(e, (uint32_t)whole);
    enum status s = bpe_begin(&e->bpe, (size_t)(end - p));
    if (s)
        return s;
    for (; p < end; p++) {
        int32_t id = t->byte_id[(uint8_t)*p];
        if (id < 0)
            id = t->unk;
        if (id >= 0)
            bpe_push(&e->bpe, (uint32_t)id);
    }
    return finish_word(e);
}

static enum status encode_cut(struct encoder *e, const char *p, const char *end, bool prefix)
{
    return e->t->byte_level ? encode_bytes(e, p, end) : encode_blanks(e, p, end, prefix);
}

/* All steps of cutting: one cutter for each, those below work on the piece of the one
 * above. */
static enum status encode_pieces(struct encoder *e, const char *p, const char *end, bool prefix)
{
    struct cutter cutter[TOK_STEPS_MAX];
    const struct tokenizer *t = e->t;
    if (t->n_cuts == 0)
        return encode_cut(e, p, end, prefix);
    for (uint32_t i = 0; i < t->n_cuts; i++) {
        cutter[i].run = &e->run;
        cutter[i].work = &e->bpe.work;
    }
    uint32_t depth = 1;
    cutter_begin(&cutter[0], &t->cut[0], p, end);
    while (depth > 0) {
        const char *from;
        const char *to;
        enum status s = cutter_next(&cutter[depth - 1], &from, &to);
        if (s == OK && !from) {
            depth--;
            continue;
        }
        if (s == OK && depth < t->n_cuts) {
            cutter_begin(&cutter[depth], &t->cut[depth], from, to);
            depth++;
        } else if (s == OK) {
            s = encode_cut(e, from, to, prefix);
            prefix = false;
        }
        if (s)
            return s;
    }
    return OK;
}

/* The text once more, with a space in front. */
static enum status encode_spaced(struct encoder *e, const char *text, size_t bytes)
{
    char *copy = malloc(bytes + 1);
    if (!copy)
        return E_NOMEM;
    copy[0] = ' ';
    memcpy(copy + 1, text, bytes);
    enum status s = encode_pieces(e, copy, copy + bytes + 1, false);
    free(copy);
    return s;
}

/* A stretch of text without an added token in it. */
static enum status encode_plain(struct encoder *e, const char *p, const char *end, bool first)
{
    const struct tokenizer *t = e->t;
    if (p < end && t->n_norms) {
        enum status s = tok_normalize(t, p, (size_t)(end - p), &e->norm);
        if (s)
            return s;
        p = e->norm.text;
        end = p + e->norm.n;
    }
    if (p == end)
        return OK;
    if (t->space_first && *p != ' ')
        return encode_spaced(e, p, (size_t)(end - p));
    return encode_pieces(e, p, end, !t->byte_level && wants_prefix(t, p, end, first));
}

/* How many bytes from `at` on are of the trusted range that holds it; *i moves up to it. */
static size_t trusted_from(const struct marked_text *in, size_t at, size_t *i)
{
    while (*i < in->n_trusted && in->trusted[*i].end <= at)
        ++*i;
    bool inside = *i < in->n_trusted && in->trusted[*i].begin <= at;
    return inside ? in->trusted[*i].end - at : 0;
}

static enum status encode_around(struct encoder *e, const struct marked_text *in)
{
    const char *end = in->text + in->bytes;
    const char *from = in->text; /* what was not encoded yet */
    const char *p = in->text;
    size_t range = 0;
    while (p < end) {
        const struct added *a = added_at(
            &e->t->added, p, end, trusted_from(in, (size_t)(p - in->text), &range), &e->bpe.work);
        if (!a || (a->single_word && !added_stands_alone(p, a->bytes, in->text, end))) {
            p += a ? a->bytes : 1;
            continue;
        }
        const char *stop = a->lstrip ? blanks_back(p, from) : p;
        enum status s = encode_plain(e, from, stop, in->first && from == in->text);
        if (s == OK)
            s = put(e, (uint32_t)a->id);
        if (s)
            return s;
        p += a->bytes;
        p = a->rstrip ? blanks_on(p, end) : p;
        from = p;
    }
    return encode_plain(e, from, end, in->first && from == in->text);
}

static bool ranges_are_sound(const struct marked_text *in)
{
    size_t at = 0;
    for (size_t i = 0; i < in->n_trusted; i++) {
        const struct text_range *r = &in->trusted[i];
        if (r->begin < at || r->end < r->begin || r->end > in->bytes)
            return false;
        at = r->end;
    }
    return true;
}

enum status tok_encode(const struct tokenizer *t, struct encode_job *job)
{
    const struct marked_text *in = job->in;
    if (in->bytes == 0)
        return OK;
    if (in->bytes > TEXT_BYTES_MAX || !ranges_are_sound(in) || job->n > job->ids_max ||
        !utf8_valid(in->text, in->bytes))
        return E_INVALID;
    struct encoder e = {.t = t, .ids = job->ids, .ids_max = job->ids_max, .n = job->n};
    e.norm.run = &e.run;
    enum status s = encode_around(&e, in);
    bpe_free(&e.bpe);
    norm_buf_free(&e.norm);
    regex_run_free(e.run);
    job->work += e.bpe.work;
    if (s == OK)
        job->n = e.n;
    return s;
}

enum status tokenizer_encode_marked(const struct tokenizer *t, const struct marked_text *in,
                                    int32_t *ids, size_t ids_max, size_t *n)
{
    struct encode_job job = {.in = in, .ids = ids, .ids_max = ids_max, .n = *n};
    enum status s = tok_encode(t, &job);
    *n = job.n;
    return s;
}

enum status tokenizer_encode(const struct tokenizer *t, const char *text, size_t bytes, bool first,
                             int32_t *ids, size_t ids_max, size_t *n)
{
    const struct marked_text in = {.text = text, .bytes = bytes, .first = first};
    return tokenizer_encode_marked(t, &in, ids, ids_max, n);
}

/* --- decode --- */

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

enum { REPLACEMENT_BYTES = 3 };

static size_t put_replacement(char *out)
{
    memcpy(out, REPLACEMENT, REPLACEMENT_BYTES);
    return REPLACEMENT_BYTES;
}

/* One byte more. What is held is always the beginning of a character; a byte that does
 * not continue it makes it one U+FFFD and is then looked at by itself. */
static size_t feed(struct token_cursor *c, uint8_t byte, char *out)
{
    size_t n = 0;
    c->held[c->n_held++] = byte;
    if (c->n_held > 1 && !utf8_is_beginning(c->held, c->n_held) &&
        !utf8_length((const char *)c->held, (const char *)c->held + c->n_held)) {
        n += put_replacement(out);
        c->held[0] = byte;
        c->n_held = 1;
    }
    if (utf8_is_beginning(c->held, c->n_held))
        return n;
    if (utf8_length((const char *)c->held, (const char *)c->held + c->n_held)) {
        memcpy(out + n, c->held, c->n_held);
        n += c->n_held;
    } else {
        n += put_replacement(out + n);
    }
    c->n_held = 0;
    return n;
}

/* What the id stands for, blanks as blanks; at most TOK_PIECE_MAX bytes. */
static size_t piece_bytes(const struct tokenizer *t, int32_t id, uint8_t out[TOK_PIECE_MAX])
{
    if (id < 0 || (uint32_t)id >= t->vocab.n)
        return 0;
    const char *text = t->vocab.bytes + t->vocab.start[id];
    const char *end = text + t->vocab.length[id];
    enum piece_kind kind = (enum piece_kind)t->vocab.kind[id];
    if (kind == PIECE_NONE || kind == PIECE_SPECIAL)
        return 0;
    if (kind == PIECE_BYTE) { /* "<0x0A>" */
        out[0] = (uint8_t)(16 * hex_value(text[3]) + hex_value(text[4]));
        return 1;
    }
    size_t n = 0;
    while (text < end) {
        bool blank =
            t->blanks_out && end - text >= BLANK_BYTES && memcmp(text, BLANK, BLANK_BYTES) == 0;
        out[n++] = blank ? ' ' : (uint8_t)*text;
        text += blank ? BLANK_BYTES : 1;
    }
    return n;
}

size_t tokenizer_bytes(const struct tokenizer *t, int32_t id, char out[TOKEN_TEXT_MAX])
{
    return piece_bytes(t, id, (uint8_t *)out);
}

size_t tokenizer_decode(const struct tokenizer *t, struct token_cursor *c, int32_t id,
                        char out[TOKEN_TEXT_MAX])
{
    uint8_t piece[TOK_PIECE_MAX];
    size_t n = piece_bytes(t, id, piece);
    if (n == 0)
        return 0;
    size_t at = !c->started && t->strip_blank && piece[0] == ' ' ? 1 : 0;
    c->started = true;
    size_t written = 0;
    for (; at < n; at++)
        written += feed(c, piece[at], out + written);
    return written;
}

size_t tokenizer_flush(struct token_cursor *c, char out[TOKEN_TEXT_MAX])
{
    size_t n = c->n_held ? put_replacement(out) : 0;
    c->n_held = 0;
    return n;
}

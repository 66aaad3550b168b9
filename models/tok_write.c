#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/tok_priv.h"
#include "models/unicode.h"

/* struct tokenizer -> tokenizer.json, for vocabularies that came as lists (tok_parts.h) and so
 * know nothing that tokenizer.json has no word for. What is written is the tokenizer as it was
 * understood: ordinary pieces, merges by rank, added tokens with their flags, and the steps
 * around them in the words that tok_steps.c reads. Pieces that no text leads to (unused ones, a
 * text given to a second id) are left out.
 *
 * One thing has no word there: SentencePiece merges pairs of one score as equals, leftmost first,
 * and tokenizer.json has a place for each. They are written with the longest left part first, as
 * Hugging Face's own converter does: what began to grow on the left goes on growing. */

struct writer {
    FILE *f;
    const struct tokenizer *t;
    const char *letter[256]; /* of GPT-2's alphabet, UTF-8 */
    char letters[256][3];
};

static void learn_letters(struct writer *w)
{
    for (uint32_t cp = 0x21; cp < 0x144; cp++) {
        int32_t byte = byte_of_letter(cp);
        if (byte < 0)
            continue;
        char *to = w->letters[byte];
        w->letter[byte] = to;
        if (cp < 0x80) {
            to[0] = (char)cp;
        } else {
            to[0] = (char)(0xc0 | cp >> 6);
            to[1] = (char)(0x80 | (cp & 0x3f));
        }
    }
}

static void put_text(FILE *f, const char *text, size_t bytes)
{
    fputc('"', f);
    for (size_t i = 0; i < bytes; i++) {
        uint8_t b = (uint8_t)text[i];
        if (b < 0x20 || b == 0x7f)
            (void)fprintf(f, "\\u%04x", b);
        else if (b == '"' || b == '\\')
            (void)fprintf(f, "\\%c", b);
        else
            fputc(b, f);
    }
    fputc('"', f);
}

/* Ordinary pieces of a byte-level vocabulary are held as bytes and spelled in letters. */
static void put_piece(const struct writer *w, uint32_t id)
{
    const struct vocab *v = &w->t->vocab;
    const char *text = v->bytes + v->start[id];
    if (!w->t->byte_level || v->kind[id] != PIECE_TEXT) {
        put_text(w->f, text, v->length[id]);
        return;
    }
    fputc('"', w->f);
    for (size_t i = 0; i < v->length[id]; i++) {
        const char *letter = w->letter[(uint8_t)text[i]];
        (void)fprintf(w->f, "%s%s", *letter == '"' || *letter == '\\' ? "\\" : "", letter);
    }
    fputc('"', w->f);
}

static const char *truth(bool b)
{
    return b ? "true" : "false";
}

/* BOS where it has a text, which is special then whatever the lists said of it. */
static bool is_bos(const struct tokenizer *t, uint32_t id)
{
    return (int32_t)id == t->bos && t->vocab.length[id] > 0;
}

static void put_added(const struct writer *w)
{
    static const struct added none = {.id = -1};
    const struct vocab *v = &w->t->vocab;
    const char *comma = "";
    fputs("\"added_tokens\":[", w->f);
    /* By id: that is the order in which programs expect them. */
    for (uint32_t id = 0; id < v->n; id++) {
        const struct added *a = added_find(&w->t->added, v->bytes + v->start[id], v->length[id]);
        a = a && a->id == (int32_t)id ? a : &none;
        if (a == &none && !is_bos(w->t, id))
            continue;
        (void)fprintf(w->f, "%s\n{\"id\":%u,\"content\":", comma, id);
        put_piece(w, id);
        (void)fprintf(w->f,
                      ",\"single_word\":%s,\"lstrip\":%s,\"rstrip\":%s,\"normalized\":false,"
                      "\"special\":%s}",
                      truth(a->single_word), truth(a->lstrip), truth(a->rstrip),
                      truth(a->special || is_bos(w->t, id)));
        comma = ",";
    }
    fputs("],\n", w->f);
}

static void put_blank_steps(const struct writer *w)
{
    const struct tokenizer *t = w->t;
    fputs("\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[", w->f);
    if (t->prefix == PREFIX_ALWAYS)
        fputs("{\"type\":\"Prepend\",\"prepend\":\"" BLANK "\"},", w->f);
    fputs("{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" BLANK "\"}]},\n"
          "\"pre_tokenizer\":null,\n\"decoder\":{\"type\":\"Sequence\",\"decoders\":["
          "{\"type\":\"Replace\",\"pattern\":{\"String\":\"" BLANK "\"},\"content\":\" \"},"
          "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}",
          w->f);
    if (t->strip_blank)
        fputs(",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}", w->f);
    fputs("]},\n", w->f);
}

static void put_byte_steps(const struct writer *w, const char *const *regex)
{
    static const char level[] = "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
                                "\"trim_offsets\":true,\"use_regex\":false}";
    fputs("\"normalizer\":null,\n\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[",
          w->f);
    for (; *regex; regex++) {
        fputs("\n{\"type\":\"Split\",\"pattern\":{\"Regex\":", w->f);
        put_text(w->f, *regex, strlen(*regex));
        fputs("},\"behavior\":\"Isolated\",\"invert\":false},", w->f);
    }
    (void)fprintf(w->f, "\n%s]},\n\"decoder\":%s,\n", level, level);
}

/* BOS in front of a text, where the model's prompts begin with it. */
static void put_front(const struct writer *w)
{
    const struct tokenizer *t = w->t;
    if (t->bos < 0 || !is_bos(t, (uint32_t)t->bos)) {
        fputs("\"post_processor\":null,\n", w->f);
        return;
    }
    static const char front[] = "{\"SpecialToken\":{\"id\":";
    static const char text_a[] = ",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}";
    static const char text_b[] = ",{\"Sequence\":{\"id\":\"B\",\"type_id\":1}}";
    (void)fprintf(w->f, "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[%s",
                  front);
    put_piece(w, (uint32_t)t->bos);
    (void)fprintf(w->f, "%s],\"pair\":[%s", text_a, front);
    put_piece(w, (uint32_t)t->bos);
    (void)fprintf(w->f, "%s%s],\"special_tokens\":{", text_a, text_b);
    put_piece(w, (uint32_t)t->bos);
    fputs(":{\"id\":", w->f);
    put_piece(w, (uint32_t)t->bos);
    (void)fprintf(w->f, ",\"ids\":[%d],\"tokens\":[", t->bos);
    put_piece(w, (uint32_t)t->bos);
    fputs("]}}},\n", w->f);
}

/* What text leads to, and <unk>, which stands for text. SentencePiece's marks are pieces too. */
static bool is_listed(const struct tokenizer *t, uint32_t id)
{
    enum piece_kind kind = (enum piece_kind)t->vocab.kind[id];
    if (t->vocab.length[id] == 0)
        return false;
    return kind == PIECE_TEXT || kind == PIECE_BYTE || (int32_t)id == t->unk ||
           (kind == PIECE_SPECIAL && !t->byte_level);
}

static void put_vocab(const struct writer *w)
{
    const char *comma = "";
    fputs("\"vocab\":{", w->f);
    for (uint32_t id = 0; id < w->t->vocab.n; id++) {
        if (!is_listed(w->t, id))
            continue;
        fputs(comma, w->f);
        fputs("\n", w->f);
        put_piece(w, id);
        (void)fprintf(w->f, ":%u", id);
        comma = ",";
    }
    fputs("},\n", w->f);
}

struct order {
    const struct merge *merge;
    uint16_t left; /* characters */
    uint16_t right;
};

static uint16_t characters(const struct vocab *v, uint32_t id)
{
    uint16_t n = 0;
    for (size_t i = 0; i < v->length[id]; i++)
        n = (uint16_t)(n + (((uint8_t)v->bytes[v->start[id] + i] & 0xc0) != 0x80));
    return n;
}

static int by_rank(const void *a, const void *b)
{
    const struct order *x = a;
    const struct order *y = b;
    if (x->merge->rank != y->merge->rank)
        return x->merge->rank < y->merge->rank ? -1 : 1;
    if (x->left != y->left)
        return x->left > y->left ? -1 : 1;
    if (x->right != y->right)
        return x->right > y->right ? -1 : 1;
    return x->merge->result < y->merge->result ? -1 : 1;
}

/* Pairs as lists: a piece may have a blank in it. */
static enum status put_merges(const struct writer *w)
{
    const struct merges *m = &w->t->merges;
    size_t n = 0;
    for (uint32_t i = 0; i <= m->mask; i++)
        n += m->slot[i].rank != TOK_NO_RANK;
    struct order *list = malloc((n + 1) * sizeof(*list));
    if (!list)
        return E_NOMEM;
    n = 0;
    for (uint32_t i = 0; i <= m->mask; i++) {
        if (m->slot[i].rank != TOK_NO_RANK)
            list[n++] = (struct order){&m->slot[i], characters(&w->t->vocab, m->slot[i].left),
                                       characters(&w->t->vocab, m->slot[i].right)};
    }
    qsort(list, n, sizeof(*list), by_rank);
    fputs("\"merges\":[", w->f);
    for (size_t i = 0; i < n; i++) {
        fputs(i ? ",\n[" : "\n[", w->f);
        put_piece(w, list[i].merge->left);
        fputs(",", w->f);
        put_piece(w, list[i].merge->right);
        fputs("]", w->f);
    }
    fputs("]", w->f);
    free(list);
    return OK;
}

static enum status put_all(const struct writer *w, const char *const *regex)
{
    const struct tokenizer *t = w->t;
    fputs("{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\n", w->f);
    put_added(w);
    if (t->byte_level)
        put_byte_steps(w, regex);
    else
        put_blank_steps(w);
    put_front(w);
    fputs("\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":", w->f);
    if (t->unk >= 0)
        put_piece(w, (uint32_t)t->unk);
    else
        fputs("null", w->f);
    (void)fprintf(w->f,
                  ",\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,"
                  "\"fuse_unk\":%s,\"byte_fallback\":%s,\"ignore_merges\":%s,\n",
                  truth(t->fuse_unk), truth(t->byte_fallback), truth(t->ignore_merges));
    put_vocab(w);
    enum status s = put_merges(w);
    fputs("}}\n", w->f);
    return s;
}

/* Readers of JSON, ours among them, take no NUL in a text. */
static bool has_nul(const struct tokenizer *t)
{
    const struct vocab *v = &t->vocab;
    for (uint32_t id = 0; id < v->n; id++) {
        bool letters = t->byte_level && v->kind[id] == PIECE_TEXT;
        if (!letters && memchr(v->bytes + v->start[id], '\0', v->length[id]))
            return true;
    }
    return false;
}

enum status tok_write(char **out, size_t *bytes, const struct tokenizer *t,
                      const char *const *regex)
{
    if (has_nul(t))
        return E_UNSUPPORTED;
    struct writer w = {.t = t};
    char *text = NULL;
    w.f = open_memstream(&text, bytes);
    if (!w.f)
        return E_NOMEM;
    learn_letters(&w);
    enum status s = put_all(&w, regex);
    bool whole = !ferror(w.f);
    if (fclose(w.f) != 0 || !whole)
        s = s ? s : E_NOMEM;
    if (s) {
        free(text);
        return s;
    }
    *out = text;
    return OK;
}

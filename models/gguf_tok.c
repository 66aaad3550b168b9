#include "models/gguf.h"

#include "models/tok_parts.h"
#include "models/tok_priv.h"
#include "models/unicode.h"

#include <stdlib.h>
#include <string.h>

/* The text side of the metadata. The vocabulary becomes the parts of a tokenizer, lists
 * that point into the head; the chat template and the marks it names are told in the words
 * of tokenizer_config.json. */

/* Marks that models have where their files do not say so: as SentencePiece numbers them. */
enum { SPM_UNK = 0, SPM_BOS = 1, SPM_EOS = 2, PRE_MAX = 64 };

/* What is allocated for a tokenizer_of_parts() call. */
struct lists {
    struct tok_text *piece; /* [n_pieces] */
    float *score;           /* [n_pieces] */
    uint8_t *kind;          /* [n_pieces] */
};

static void lists_free(struct lists *l)
{
    free(l->piece);
    free(l->score);
    free(l->kind);
}

/* n is at most an eighth of the head's bytes, so this cannot overflow. */
static enum status list_texts(struct tok_text **out, const struct gguf_value *v,
                              const struct complaint *c)
{
    const uint8_t *at = v->at;
    struct tok_text *list = calloc((size_t)v->n + 1, sizeof(*list));
    if (!list)
        return complain(c, E_NOMEM, "no memory for %llu texts", (unsigned long long)v->n);
    for (uint64_t i = 0; i < v->n; i++)
        list[i].text = gguf_next_string(&at, &list[i].bytes);
    *out = list;
    return OK;
}

static enum status read_pieces(struct tok_parts *p, struct lists *l, const struct gguf *g,
                               const struct complaint *c)
{
    static const char key[] = "tokenizer.ggml.tokens";
    const struct gguf_value *v = NULL;
    enum status s = gguf_array(g, key, GGUF_STRING, &v, c);
    if (s)
        return s;
    if (!v || v->n == 0 || v->n > INT32_MAX)
        return complain(c, E_FORMAT, "key \"%s\" is missing or holds no tokens", key);
    p->n_pieces = (uint32_t)v->n;
    s = list_texts(&l->piece, v, c);
    p->piece = l->piece;
    return s;
}

/* An array beside the tokens, one entry for each. */
static enum status read_beside(const struct gguf_value **out, const struct gguf *g, const char *key,
                               enum gguf_type element, uint32_t n, const struct complaint *c)
{
    enum status s = gguf_array(g, key, element, out, c);
    if (s || !*out || (*out)->n == n)
        return s;
    return complain(c, E_FORMAT, "key \"%s\" has %llu entries for %u tokens", key,
                    (unsigned long long)(*out)->n, n);
}

static enum status read_kinds(struct tok_parts *p, struct lists *l, const struct gguf *g,
                              const struct complaint *c)
{
    static const char key[] = "tokenizer.ggml.token_type";
    const struct gguf_value *v = NULL;
    enum status s = read_beside(&v, g, key, GGUF_I32, p->n_pieces, c);
    if (s || !v)
        return s;
    l->kind = calloc(p->n_pieces, sizeof(*l->kind));
    if (!l->kind)
        return complain(c, E_NOMEM, "no memory for %u types", p->n_pieces);
    for (uint32_t i = 0; i < p->n_pieces; i++) {
        int64_t kind = gguf_int_at(v, i);
        if (kind < PART_TEXT || kind >= PART_KINDS)
            return complain(c, E_FORMAT, "key \"%s\": token %u has the type %lld", key, i,
                            (long long)kind);
        l->kind[i] = (uint8_t)kind;
    }
    p->kind = l->kind;
    return OK;
}

static enum status read_scores(struct tok_parts *p, struct lists *l, const struct gguf *g,
                               const struct complaint *c)
{
    static const char key[] = "tokenizer.ggml.scores";
    const struct gguf_value *v = NULL;
    enum status s = read_beside(&v, g, key, GGUF_F32, p->n_pieces, c);
    if (s)
        return s;
    if (!v)
        return complain(c, E_FORMAT, "key \"%s\" is missing", key);
    l->score = calloc(p->n_pieces, sizeof(*l->score));
    if (!l->score)
        return complain(c, E_NOMEM, "no memory for %u scores", p->n_pieces);
    for (uint32_t i = 0; i < p->n_pieces; i++)
        l->score[i] = gguf_float_at(v, i);
    p->score = l->score;
    p->blank_first = true;
    p->bos = SPM_BOS;
    p->unk = SPM_UNK;
    return gguf_bool(g, "tokenizer.ggml.add_space_prefix", &p->blank_first, c);
}

static enum status read_pre(char pre[PRE_MAX], const struct gguf *g, const struct complaint *c)
{
    static const char key[] = "tokenizer.ggml.pre";
    const char *text = "default";
    size_t bytes = strlen(text);
    enum status s = gguf_text(g, key, &text, &bytes, c);
    if (!s && bytes >= PRE_MAX)
        s = complain(c, E_FORMAT, "key \"%s\" is too long", key);
    if (s)
        return s;
    memcpy(pre, text, bytes);
    pre[bytes] = '\0';
    return OK;
}

static struct tok_text next_merge(const void **at)
{
    const uint8_t *here = *at;
    struct tok_text both;
    both.text = gguf_next_string(&here, &both.bytes);
    *at = here;
    return both;
}

/* pre is what p->pre points to then. */
static enum status read_merges(struct tok_parts *p, char pre[PRE_MAX], const struct gguf *g,
                               const struct complaint *c)
{
    static const char key[] = "tokenizer.ggml.merges";
    const struct gguf_value *v = NULL;
    enum status s = gguf_array(g, key, GGUF_STRING, &v, c);
    if (!s && !v)
        s = complain(c, E_FORMAT, "key \"%s\" is missing", key);
    if (!s)
        s = read_pre(pre, g, c);
    if (s)
        return s;
    p->pre = pre;
    p->n_merges = (size_t)v->n;
    p->merges = v->at;
    p->next_merge = next_merge;
    return OK;
}

static enum status read_ids(struct tok_parts *p, const struct gguf *g, const struct complaint *c)
{
    static const char add_key[] = "tokenizer.ggml.add_bos_token";
    int64_t bos = p->bos;
    int64_t unk = p->unk;
    int64_t last = (int64_t)p->n_pieces - 1;
    bool add = false;
    enum status s = gguf_int(g, "tokenizer.ggml.bos_token_id", 0, last, &bos, c);
    if (!s)
        s = gguf_int(g, "tokenizer.ggml.unknown_token_id", 0, last, &unk, c);
    if (!s)
        s = gguf_bool(g, add_key, &add, c);
    p->bos = bos > last ? -1 : (int32_t)bos;
    p->unk = unk > last ? -1 : (int32_t)unk;
    p->add_bos = gguf_find(g, add_key) ? add : -1;
    return s;
}

static bool is(const char *text, size_t bytes, const char *word)
{
    return bytes == strlen(word) && memcmp(text, word, bytes) == 0;
}

static enum status build(struct tokenizer **out, struct lists *l, const struct gguf *g,
                         const struct complaint *c)
{
    struct tok_parts p = {.bos = -1, .unk = -1};
    char pre[PRE_MAX];
    const char *model = "";
    size_t bytes = 0;
    enum status s = gguf_text(g, "tokenizer.ggml.model", &model, &bytes, c);
    if (!s && !is(model, bytes, "llama") && !is(model, bytes, "gpt2"))
        s = complain(c, E_UNSUPPORTED,
                     "key \"tokenizer.ggml.model\" is \"%.*s\"; known: llama, "
                     "gpt2",
                     bytes < PRE_MAX ? (int)bytes : PRE_MAX, model);
    if (!s)
        s = read_pieces(&p, l, g, c);
    if (!s)
        s = read_kinds(&p, l, g, c);
    if (!s)
        s = is(model, bytes, "llama") ? read_scores(&p, l, g, c) : read_merges(&p, pre, g, c);
    if (!s)
        s = read_ids(&p, g, c);
    return s ? s : tokenizer_of_parts(out, &p, c);
}

enum status gguf_tokenizer(struct tokenizer **out, const struct gguf *g, const struct complaint *c)
{
    struct lists l = {.piece = NULL};
    enum status s = build(out, &l, g, c);
    lists_free(&l);
    return s;
}

static enum status write_json(char **out, size_t *bytes, const struct tokenizer *t,
                              const struct gguf *g, const struct complaint *c)
{
    char pre[PRE_MAX];
    enum status s = read_pre(pre, g, c);
    if (s)
        return s;
    s = tok_write(out, bytes, t, tok_pre_chain(pre));
    if (s)
        s = complain(c, s, "%s",
                     s == E_UNSUPPORTED ? "a token holds a NUL, which tokenizer.json cannot say"
                                        : "no memory for tokenizer.json");
    return s;
}

enum status gguf_tokenizer_json(char **out, size_t *bytes, const struct gguf *g,
                                const struct complaint *c)
{
    struct tokenizer *t = NULL;
    enum status s = gguf_tokenizer(&t, g, c);
    if (!s)
        s = write_json(out, bytes, t, g, c);
    tokenizer_close(t);
    return s;
}

/* --- the template and what it names --- */

static enum status put_text(cJSON *to, const char *name, const char *text, size_t bytes,
                            const struct complaint *c)
{
    /* The tree's strings end with a NUL, and its readers take them to be UTF-8. */
    if (memchr(text, '\0', bytes) || !utf8_valid(text, bytes))
        return complain(c, E_FORMAT, "the text of \"%s\" is not UTF-8, or holds a NUL", name);
    char *copy = malloc(bytes + 1);
    if (!copy)
        return complain(c, E_NOMEM, "no memory for %zu bytes", bytes);
    memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    bool put = cJSON_AddStringToObject(to, name, copy) != NULL;
    free(copy);
    return put ? OK : complain(c, E_NOMEM, "no memory");
}

/* The text of the token that a key names, as "bos_token". */
static enum status put_mark(cJSON *to, const char *name, const char *key, int64_t id,
                            const struct gguf *g, const struct complaint *c)
{
    const struct gguf_value *v = NULL;
    enum status s = gguf_array(g, "tokenizer.ggml.tokens", GGUF_STRING, &v, c);
    if (!s && v)
        s = gguf_int(g, key, 0, (int64_t)v->n - 1, &id, c);
    if (s || !v || id < 0 || id >= (int64_t)v->n)
        return s;
    const uint8_t *at = v->at;
    const char *text = NULL;
    size_t bytes = 0;
    for (int64_t i = 0; i <= id; i++)
        text = gguf_next_string(&at, &bytes);
    return put_text(to, name, text, bytes, c);
}

static enum status put_template(cJSON *to, const struct gguf *g, const struct complaint *c)
{
    const char *text = NULL;
    size_t bytes = 0;
    enum status s = gguf_text(g, "tokenizer.chat_template", &text, &bytes, c);
    return s || !text ? s : put_text(to, "chat_template", text, bytes, c);
}

enum status gguf_tokenizer_config(cJSON **out, const struct gguf *g, const struct complaint *c)
{
    static const struct {
        const char *name;
        const char *key;
        int32_t spm; /* what SentencePiece takes where the file is silent; -1: nothing */
    } marks[] = {
        {"bos_token", "tokenizer.ggml.bos_token_id", SPM_BOS},
        {"eos_token", "tokenizer.ggml.eos_token_id", SPM_EOS},
        {"unk_token", "tokenizer.ggml.unknown_token_id", SPM_UNK},
        {"pad_token", "tokenizer.ggml.padding_token_id", -1},
    };
    const struct gguf_value *model = gguf_find(g, "tokenizer.ggml.model");
    bool spm = model && model->type == GGUF_STRING &&
               is((const char *)model->at, (size_t)model->n, "llama");
    cJSON *to = cJSON_CreateObject();
    enum status s = to ? OK : complain(c, E_NOMEM, "no memory");
    for (size_t i = 0; i < ARRAY_LEN(marks) && !s; i++)
        s = put_mark(to, marks[i].name, marks[i].key, spm ? marks[i].spm : -1, g, c);
    if (!s)
        s = put_template(to, g, c);
    if (s) {
        cJSON_Delete(to);
        return s;
    }
    *out = to;
    return OK;
}

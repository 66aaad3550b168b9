#include "models/tok_priv.h"

#include <stdlib.h>
#include <string.h>

#include "models/unicode.h"

/* tokenizer.json -> struct tokenizer, in one walk over the parsed tree. Special tokens
 * enter the vocabulary first: an entry of the same id in model.vocab is then the same
 * token and stays special, and a merge that would build one is left out. After a load
 * every text can be encoded: bytes have a piece, or unknown characters have, or (rare
 * bytes of a byte-level vocabulary) they leave no trace, as elsewhere. */

struct loader {
    struct tokenizer *t;
    const cJSON *root;
    const cJSON *model;
    const cJSON *vocab;
    const cJSON *added; /* NULL: none */
    const struct complaint *c;
    char quote[TOK_QUOTE_MAX];
};

/* A byte takes up to two in GPT-2's alphabet. */
enum { NAME_BYTES_MAX = 2 * TOK_PIECE_MAX };

/* The highest id, the number of texts and their bytes, before anything is allocated. */
struct census {
    int64_t highest;
    size_t n;
    size_t bytes;
};

static enum status too_long(struct loader *l, const char *text)
{
    return complain(l->c, E_FORMAT, "\"%s...\" is longer than %d bytes", tok_quote(l->quote, text),
                    TOK_PIECE_MAX);
}

static enum status count_one(struct loader *l, struct census *z, const char *text, const cJSON *id)
{
    int64_t value;
    if (!json_as_int(id, 0, TOK_VOCAB_MAX - 1, &value))
        return complain(l->c, E_FORMAT, "the id of \"%s\" is no number below %d",
                        tok_quote(l->quote, text), TOK_VOCAB_MAX);
    if (strlen(text) > NAME_BYTES_MAX)
        return too_long(l, text);
    z->highest = value > z->highest ? value : z->highest;
    z->n++;
    z->bytes += strlen(text);
    return OK;
}

static enum status take_census(struct loader *l, struct census *z)
{
    const cJSON *item;
    enum status s = OK;
    cJSON_ArrayForEach(item, l->vocab)
    {
        s = count_one(l, z, item->string, item);
        if (s)
            return s;
    }
    cJSON_ArrayForEach(item, l->added)
    {
        const cJSON *content = json_get(item, "content");
        if (!cJSON_IsString(content))
            return complain(l->c, E_FORMAT, "added_tokens: an entry without content");
        s = count_one(l, z, content->valuestring, json_get(item, "id"));
        if (s)
            return s;
    }
    if (z->n == 0)
        return complain(l->c, E_FORMAT, "model.vocab is empty");
    return OK;
}

static enum status add_piece(struct loader *l, const char *name, const cJSON *id,
                             enum piece_kind kind, const char *text, size_t bytes)
{
    int64_t value;
    if (!json_as_int(id, 0, TOK_VOCAB_MAX - 1, &value))
        return E_FORMAT;
    if (bytes > TOK_PIECE_MAX)
        return too_long(l, name);
    if (vocab_add(&l->t->vocab, (uint32_t)value, kind, text, bytes))
        return complain(l->c, E_FORMAT, "\"%s\": id %d or its text is given twice",
                        tok_quote(l->quote, name), (int)value);
    return OK;
}

static enum status add_specials(struct loader *l)
{
    struct tokenizer *t = l->t;
    const cJSON *item;
    int n = l->added ? cJSON_GetArraySize(l->added) : 0;
    t->special = calloc((size_t)n + 1, sizeof(*t->special));
    if (!t->special)
        return complain(l->c, E_NOMEM, "no memory for the added tokens");
    cJSON_ArrayForEach(item, l->added)
    {
        bool special = false;
        enum status s = field_bool(item, "special", &special, l->c);
        if (s)
            return s;
        if (!special)
            continue;
        const char *text = json_get(item, "content")->valuestring;
        const cJSON *id = json_get(item, "id");
        s = add_piece(l, text, id, PIECE_SPECIAL, text, strlen(text));
        if (s)
            return s;
        t->special[t->n_special++] = (int32_t)id->valuedouble;
    }
    return OK;
}

/* "<0x0A>" */
static bool is_byte_name(const char *name, uint8_t *byte)
{
    static const char digits[] = "0123456789ABCDEF";
    if (strlen(name) != 6 || memcmp(name, "<0x", 3) != 0 || name[5] != '>')
        return false;
    const char *high = strchr(digits, name[3]);
    const char *low = strchr(digits, name[4]);
    if (!high || !low)
        return false;
    *byte = (uint8_t)((high - digits) << 4 | (low - digits));
    return true;
}

/* From GPT-2's alphabet to bytes; false: a character that is not in it. */
static bool letters_to_bytes(const char *name, char out[NAME_BYTES_MAX], size_t *bytes)
{
    size_t n = 0;
    while (*name) {
        int32_t byte = byte_of_letter(utf8_next(&name));
        if (byte < 0)
            return false;
        out[n++] = (char)byte;
    }
    *bytes = n;
    return true;
}

static enum status add_ordinary(struct loader *l, const cJSON *item)
{
    struct tokenizer *t = l->t;
    const char *name = item->string;
    char mapped[NAME_BYTES_MAX];
    size_t bytes = strlen(name);
    uint8_t byte;
    if (t->byte_level && letters_to_bytes(name, mapped, &bytes))
        return add_piece(l, name, item, PIECE_TEXT, mapped, bytes);
    if (t->byte_level)
        return add_piece(l, name, item, PIECE_ADDED, name, strlen(name));
    if (!t->byte_fallback || !is_byte_name(name, &byte))
        return add_piece(l, name, item, PIECE_TEXT, name, bytes);
    enum status s = add_piece(l, name, item, PIECE_BYTE, name, bytes);
    if (s == OK)
        t->byte_id[byte] = (int32_t)item->valuedouble;
    return s;
}

static enum status add_rest(struct loader *l)
{
    const struct vocab *v = &l->t->vocab;
    const cJSON *item;
    cJSON_ArrayForEach(item, l->vocab)
    {
        if (v->kind[(uint32_t)item->valuedouble] == PIECE_SPECIAL)
            continue;
        enum status s = add_ordinary(l, item);
        if (s)
            return s;
    }
    cJSON_ArrayForEach(item, l->added)
    {
        const cJSON *id = json_get(item, "id");
        const char *text = json_get(item, "content")->valuestring;
        if (v->kind[(uint32_t)id->valuedouble] != PIECE_NONE)
            continue;
        enum status s = add_piece(l, text, id, PIECE_ADDED, text, strlen(text));
        if (s)
            return s;
    }
    return OK;
}

static enum status load_vocab(struct loader *l)
{
    struct census z = {.highest = 0};
    enum status s = take_census(l, &z);
    if (s)
        return s;
    s = vocab_init(&l->t->vocab, (uint32_t)z.highest + 1, (uint32_t)z.n, z.bytes);
    if (s)
        return complain(l->c, s, "no memory for %zu pieces", z.n);
    s = add_specials(l);
    return s ? s : add_rest(l);
}

/* Some byte-level vocabularies lack bytes that their corpus never showed; one without
 * plain letters is no vocabulary. */
static bool may_lack(const struct tokenizer *t, int b)
{
    return t->byte_level && (b < 0x20 || b > 0x7e);
}

/* Every byte, or at least every character, must become something. */
static enum status check_cover(struct loader *l)
{
    struct tokenizer *t = l->t;
    const cJSON *name = json_get(l->model, "unk_token");
    t->blank_id = vocab_find(&t->vocab, BLANK, BLANK_BYTES);
    for (int b = 0; b < 256; b++) {
        char one = (char)b;
        if (t->byte_level)
            t->byte_id[b] = vocab_find(&t->vocab, &one, 1);
        if ((t->byte_level || t->byte_fallback) && t->byte_id[b] < 0 && !may_lack(t, b))
            return complain(l->c, E_FORMAT, "model.vocab has no piece for byte 0x%02X",
                            (unsigned)b);
    }
    if (cJSON_IsString(name)) {
        const char *text = name->valuestring;
        t->unk = tokenizer_special(t, text);
        if (t->unk < 0)
            t->unk = vocab_find(&t->vocab, text, strlen(text));
    }
    if (!t->byte_level && !t->byte_fallback && t->unk < 0)
        return complain(l->c, E_FORMAT, "neither byte_fallback nor an unk_token in the vocabulary");
    return OK;
}

/* --- merges --- */

struct pair {
    const char *left;
    const char *right;
    size_t left_bytes;
    size_t right_bytes;
};

/* ["a", "b"], or "a b" with exactly one space. */
static bool read_pair(const cJSON *item, struct pair *p)
{
    if (cJSON_IsString(item)) {
        const char *space = strchr(item->valuestring, ' ');
        if (!space || strchr(space + 1, ' '))
            return false;
        p->left = item->valuestring;
        p->left_bytes = (size_t)(space - p->left);
        p->right = space + 1;
    } else {
        const cJSON *left = cJSON_IsArray(item) ? item->child : NULL;
        const cJSON *right = left ? left->next : NULL;
        if (!right || !cJSON_IsString(left) || !cJSON_IsString(right) || right->next)
            return false;
        p->left = left->valuestring;
        p->left_bytes = strlen(p->left);
        p->right = right->valuestring;
    }
    p->right_bytes = strlen(p->right);
    return true;
}

/* Id of the text a merge names; -1: none, or one that text must not reach. */
static int32_t merge_part(const struct tokenizer *t, const char *text, size_t bytes)
{
    char name[NAME_BYTES_MAX + 1];
    char mapped[NAME_BYTES_MAX];
    if (bytes > NAME_BYTES_MAX)
        return -1;
    if (!t->byte_level)
        return vocab_find(&t->vocab, text, bytes);
    memcpy(name, text, bytes);
    name[bytes] = '\0';
    if (!letters_to_bytes(name, mapped, &bytes))
        return -1;
    return vocab_find(&t->vocab, mapped, bytes);
}

/* A part may be a piece of the vocabulary that is not ordinary: then the merge can never
 * happen, and is no mistake of the file. */
static bool is_named(const struct loader *l, const char *text, size_t bytes)
{
    char name[NAME_BYTES_MAX + 1];
    uint8_t byte;
    if (bytes > NAME_BYTES_MAX)
        return false;
    memcpy(name, text, bytes);
    name[bytes] = '\0';
    return tokenizer_special(l->t, name) >= 0 || (l->t->byte_fallback && is_byte_name(name, &byte));
}

static enum status add_merge(struct loader *l, const cJSON *item, uint32_t rank)
{
    struct pair p;
    char both[2 * NAME_BYTES_MAX];
    if (!read_pair(item, &p))
        return complain(l->c, E_FORMAT, "merge %u is not a pair of pieces", rank);
    if (p.left_bytes > NAME_BYTES_MAX || p.right_bytes > NAME_BYTES_MAX)
        return complain(l->c, E_FORMAT, "merge %u is too long", rank);
    memcpy(both, p.left, p.left_bytes);
    memcpy(both + p.left_bytes, p.right, p.right_bytes);
    const struct {
        const char *text;
        size_t bytes;
    } part[] = {
        {p.left, p.left_bytes}, {p.right, p.right_bytes}, {both, p.left_bytes + p.right_bytes}};
    int32_t id[ARRAY_LEN(part)];
    bool possible = true;
    for (size_t i = 0; i < ARRAY_LEN(part); i++) {
        id[i] = merge_part(l->t, part[i].text, part[i].bytes);
        possible = possible && id[i] >= 0;
        if (id[i] < 0 && !is_named(l, part[i].text, part[i].bytes))
            return complain(l->c, E_FORMAT,
                            "merge %u (\"%s\") needs a piece that is not in the vocabulary", rank,
                            tok_quote(l->quote, p.left));
    }
    if (possible)
        merges_add(&l->t->merges, &(struct merge){.left = (uint32_t)id[0],
                                                  .right = (uint32_t)id[1],
                                                  .rank = rank,
                                                  .result = (uint32_t)id[2]});
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

static enum status load_merges(struct loader *l)
{
    struct tokenizer *t = l->t;
    const cJSON *list = json_get(l->model, "merges");
    if (!cJSON_IsArray(list))
        return complain(l->c, E_FORMAT, "model.merges is no list");
    int n = cJSON_GetArraySize(list);
    if (n > TOK_MERGES_MAX)
        return complain(l->c, E_FORMAT, "more than %d merges", TOK_MERGES_MAX);
    if (merges_init(&t->merges, (size_t)n))
        return complain(l->c, E_NOMEM, "no memory for %d merges", n);
    uint32_t rank = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        enum status s = add_merge(l, item, rank++);
        if (s)
            return s;
    }
    t->cut_words = t->blanks && (t->blank_id >= 0 || t->byte_fallback);
    for (uint32_t i = 0; i <= t->merges.mask && t->cut_words; i++) {
        const struct merge *m = &t->merges.slot[i];
        t->cut_words = m->rank == TOK_NO_RANK || !blank_inside(&t->vocab, m->result);
    }
    return OK;
}

/* --- the files --- */

static enum status check_model(struct loader *l)
{
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    l->model = json_get(l->root, "model");
    if (!cJSON_IsObject(l->model))
        return complain(l->c, E_FORMAT, "model is missing or no object");
    l->vocab = json_get(l->model, "vocab");
    l->added = json_get(l->root, "added_tokens");
    const char *type = "BPE";
    double dropout = 0;
    enum status s = field_string(l->model, "type", &type, l->c);
    if (s == OK)
        s = field_number(l->model, "dropout", 0, 0, &dropout, l->c);
    if (s == OK)
        s = field_bool(l->model, "byte_fallback", &l->t->byte_fallback, l->c);
    if (s == OK)
        s = field_bool(l->model, "fuse_unk", &l->t->fuse_unk, l->c);
    if (s == OK)
        s = field_bool(l->model, "ignore_merges", &l->t->ignore_merges, l->c);
    for (size_t i = 0; i < ARRAY_LEN(affixes) && s == OK; i++) {
        const char *affix = "";
        s = field_string(l->model, affixes[i], &affix, l->c);
        if (s == OK && *affix)
            s = complain(l->c, E_UNSUPPORTED, "model.%s is not supported", affixes[i]);
    }
    if (s)
        return s;
    if (strcmp(type, "BPE") != 0)
        return complain(l->c, E_UNSUPPORTED, "model type \"%s\" is not supported, only BPE",
                        tok_quote(l->quote, type));
    if (!cJSON_IsObject(l->vocab))
        return complain(l->c, E_FORMAT, "model.vocab is missing or no object");
    if (l->added && !cJSON_IsArray(l->added))
        return complain(l->c, E_FORMAT, "added_tokens is no list");
    return OK;
}

static enum status load_root(struct loader *l)
{
    if (!cJSON_IsObject(l->root))
        return complain(l->c, E_FORMAT, "not a JSON object");
    enum status s = check_model(l);
    if (s == OK)
        s = tok_steps_style(l->t, l->root, l->c);
    if (s == OK)
        s = tok_steps_text(l->t, l->root, l->c);
    if (s == OK)
        s = load_vocab(l);
    if (s == OK)
        s = check_cover(l);
    if (s == OK)
        s = load_merges(l);
    return s ? s : tok_steps_bos(l->t, l->root, l->c);
}

/* add_bos_token, where it is given, has the last word. */
static enum status config_bos(struct tokenizer *t, const cJSON *config, const struct complaint *c)
{
    const cJSON *add = json_get(config, "add_bos_token");
    const cJSON *bos = json_get(config, "bos_token");
    bool wanted = false;
    enum status s = field_bool(config, "add_bos_token", &wanted, c);
    if (s || !add)
        return s;
    if (cJSON_IsObject(bos))
        bos = json_get(bos, "content");
    if (!wanted) {
        t->bos = -1;
    } else if (cJSON_IsString(bos)) {
        char quoted[TOK_QUOTE_MAX];
        t->bos = tokenizer_special(t, bos->valuestring);
        if (t->bos < 0)
            return complain(c, E_FORMAT, "bos_token \"%s\" is no special token of tokenizer.json",
                            tok_quote(quoted, bos->valuestring));
    }
    return OK;
}

enum status tok_load(struct tokenizer *t, const char *dir, char *err, size_t err_size)
{
    struct complaint c = complaint_in("tokenizer.json", err, err_size);
    cJSON *tree;
    t->bos = -1;
    t->unk = -1;
    t->blank_id = -1;
    memset(t->byte_id, 0xff, sizeof(t->byte_id)); /* -1 each */
    enum status s = json_load(&tree, dir, TOK_FILE_BYTES_MAX, TOK_FILE_NODES_MAX, &c);
    if (s)
        return s;
    struct loader l = {.t = t, .root = tree, .c = &c};
    s = load_root(&l);
    cJSON_Delete(tree);
    c.file = "tokenizer_config.json";
    if (s || !file_present(dir, c.file))
        return s;
    s = json_load(&tree, dir, CONFIG_BYTES_MAX, CONFIG_NODES_MAX, &c);
    if (s)
        return s;
    s = config_bos(t, tree, &c);
    cJSON_Delete(tree);
    return s;
}

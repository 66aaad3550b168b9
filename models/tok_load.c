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
    const struct tok_trees *trees;
    struct token_list added;
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

static void count_text(struct census *z, int64_t id, size_t bytes)
{
    z->highest = id > z->highest ? id : z->highest;
    z->n++;
    z->bytes += bytes;
}

static enum status count_one(struct loader *l, struct census *z, const char *text, const cJSON *id)
{
    int64_t value;
    if (!json_as_int(id, 0, TOK_VOCAB_MAX - 1, &value))
        return complain(l->c, E_FORMAT, "the id of \"%s\" is no number below %d",
                        tok_quote(l->quote, text), TOK_VOCAB_MAX);
    if (strlen(text) > NAME_BYTES_MAX)
        return too_long(l, text);
    count_text(z, value, strlen(text));
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
    for (size_t i = 0; i < l->added.n; i++) {
        const struct token_entry *e = &l->added.entry[i];
        if (e->bytes > TOK_PIECE_MAX)
            return too_long(l, e->text);
        count_text(z, e->id, e->bytes);
    }
    if (z->n == 0)
        return complain(l->c, E_FORMAT, "model.vocab is empty");
    return OK;
}

static enum status add_piece(struct loader *l, const char *name, int32_t id, enum piece_kind kind,
                             const char *text, size_t bytes)
{
    if (bytes > TOK_PIECE_MAX)
        return too_long(l, name);
    if (vocab_add(&l->t->vocab, (uint32_t)id, kind, text, bytes))
        return complain(l->c, E_FORMAT, "\"%s\": id %d or its text is given twice",
                        tok_quote(l->quote, name), (int)id);
    return OK;
}

/* Those that must not be reached by merging what a user wrote. */
static enum status add_guarded(struct loader *l)
{
    enum status s = OK;
    for (size_t i = 0; i < l->added.n && s == OK; i++) {
        const struct token_entry *e = &l->added.entry[i];
        if (e->special)
            s = add_piece(l, e->text, e->id, PIECE_SPECIAL, e->text, e->bytes);
        else if (added_is_mark(e->text, e->bytes))
            s = add_piece(l, e->text, e->id, PIECE_ADDED, e->text, e->bytes);
    }
    return s;
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

static enum status add_ordinary(struct loader *l, const char *name, int32_t id)
{
    struct tokenizer *t = l->t;
    char mapped[NAME_BYTES_MAX];
    size_t bytes = strlen(name);
    uint8_t byte;
    if (t->byte_level && letters_to_bytes(name, mapped, &bytes))
        return add_piece(l, name, id, PIECE_TEXT, mapped, bytes);
    if (t->byte_level)
        return add_piece(l, name, id, PIECE_ADDED, name, strlen(name));
    if (!t->byte_fallback || !is_byte_name(name, &byte))
        return add_piece(l, name, id, PIECE_TEXT, name, bytes);
    enum status s = add_piece(l, name, id, PIECE_BYTE, name, bytes);
    if (s == OK)
        t->byte_id[byte] = id;
    return s;
}

static enum status add_rest(struct loader *l)
{
    const struct vocab *v = &l->t->vocab;
    const cJSON *item;
    enum status s = OK;
    cJSON_ArrayForEach(item, l->vocab)
    {
        int32_t id = (int32_t)item->valuedouble;
        /* What is guarded was added already. */
        if (v->kind[id] != PIECE_SPECIAL && v->kind[id] != PIECE_ADDED)
            s = add_ordinary(l, item->string, id);
        if (s)
            return s;
    }
    for (size_t i = 0; i < l->added.n && s == OK; i++) {
        const struct token_entry *e = &l->added.entry[i];
        if (v->kind[e->id] == PIECE_NONE)
            s = add_piece(l, e->text, e->id, PIECE_ADDED, e->text, e->bytes);
    }
    return s;
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
    s = add_guarded(l);
    if (s == OK)
        s = add_rest(l);
    if (s == OK && added_build(&l->t->added, &l->added))
        s = complain(l->c, E_NOMEM, "no memory for the added tokens");
    return s;
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
        const struct added *a = added_find(&t->added, text, strlen(text));
        t->unk = a ? a->id : vocab_find(&t->vocab, text, strlen(text));
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
    return added_find(&l->t->added, name, bytes) ||
           (l->t->byte_fallback && is_byte_name(name, &byte));
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
    return OK;
}

static enum status load_json(struct loader *l)
{
    if (!cJSON_IsObject(l->root))
        return complain(l->c, E_FORMAT, "not a JSON object");
    enum status s = check_model(l);
    if (s == OK)
        s = tokens_gather(&l->added, l->trees, l->c);
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
    const char *name = token_name(json_get(config, "bos_token"));
    bool wanted = false;
    enum status s = field_bool(config, "add_bos_token", &wanted, c);
    if (s || !add)
        return s;
    if (!wanted) {
        t->bos = -1;
    } else if (name) {
        char quoted[TOK_QUOTE_MAX];
        t->bos = tokenizer_special(t, name);
        if (t->bos < 0)
            return complain(c, E_FORMAT, "bos_token \"%s\" is no special token of tokenizer.json",
                            tok_quote(quoted, name));
    }
    return OK;
}

enum status tok_load_trees(struct tokenizer *t, const struct tok_trees *trees,
                           const struct complaint *c)
{
    struct loader l = {.t = t, .root = trees->json, .trees = trees, .c = c};
    struct complaint in_config = *c;
    in_config.file = TOK_CONFIG_FILE;
    t->bos = -1;
    t->unk = -1;
    t->blank_id = -1;
    memset(t->byte_id, 0xff, sizeof(t->byte_id)); /* -1 each */
    enum status s = load_json(&l);
    tokens_free(&l.added);
    return s || !trees->config ? s : config_bos(t, trees->config, &in_config);
}

static enum status load_optional(cJSON **tree, const char *dir, const char *file,
                                 const struct complaint *c)
{
    struct complaint in_file = *c;
    in_file.file = file;
    if (!file_present(dir, file))
        return OK;
    return json_load(tree, dir, CONFIG_BYTES_MAX, CONFIG_NODES_MAX, &in_file);
}

enum status tok_load(struct tokenizer *t, const char *dir, char *err, size_t err_size)
{
    struct complaint c = complaint_in(TOK_JSON_FILE, err, err_size);
    struct tok_trees trees = {.json = NULL};
    enum status s = json_load(&trees.json, dir, TOK_FILE_BYTES_MAX, TOK_FILE_NODES_MAX, &c);
    if (s == OK)
        s = load_optional(&trees.config, dir, TOK_CONFIG_FILE, &c);
    if (s == OK)
        s = load_optional(&trees.map, dir, TOK_MAP_FILE, &c);
    if (s == OK)
        s = tok_load_trees(t, &trees, &c);
    cJSON_Delete(trees.json);
    cJSON_Delete(trees.config);
    cJSON_Delete(trees.map);
    return s;
}

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

/* The highest id, the number of texts and their bytes, before anything is allocated. */
struct census {
    int64_t highest;
    size_t n;
    size_t bytes;
};

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
        count_text(z, e->id, e->bytes);
    }
    if (z->n == 0)
        return complain(l->c, E_FORMAT, "model.vocab is empty");
    return OK;
}

static enum status add_ordinary(struct loader *l)
{
    const struct vocab *v = &l->t->vocab;
    const cJSON *item;
    cJSON_ArrayForEach(item, l->vocab)
    {
        int32_t id = (int32_t)item->valuedouble;
        const struct tok_text name = {item->string, strlen(item->string)};
        /* What is guarded was added already. */
        if (v->kind[id] == PIECE_SPECIAL || v->kind[id] == PIECE_ADDED)
            continue;
        enum status s = build_ordinary(l->t, id, &name, l->c);
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
    s = build_guarded(l->t, &l->added, l->c);
    if (s == OK)
        s = add_ordinary(l);
    return s ? s : build_added(l->t, &l->added, l->c);
}

static void find_unknown(struct loader *l)
{
    struct tokenizer *t = l->t;
    const cJSON *name = json_get(l->model, "unk_token");
    if (!cJSON_IsString(name))
        return;
    size_t bytes = strlen(name->valuestring);
    const struct added *a = added_find(&t->added, name->valuestring, bytes);
    t->unk = a ? a->id : vocab_find(&t->vocab, name->valuestring, bytes);
}

/* --- merges --- */

/* ["a", "b"], or "a b" with exactly one space. */
static bool read_pair(const cJSON *item, struct tok_text *left, struct tok_text *right)
{
    if (cJSON_IsString(item)) {
        const struct tok_text both = {item->valuestring, strlen(item->valuestring)};
        return split_merge(&both, left, right);
    }
    const cJSON *first = cJSON_IsArray(item) ? item->child : NULL;
    const cJSON *second = first ? first->next : NULL;
    if (!second || !cJSON_IsString(first) || !cJSON_IsString(second) || second->next)
        return false;
    *left = (struct tok_text){first->valuestring, strlen(first->valuestring)};
    *right = (struct tok_text){second->valuestring, strlen(second->valuestring)};
    return true;
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
        struct tok_text left;
        struct tok_text right;
        if (!read_pair(item, &left, &right))
            return complain(l->c, E_FORMAT, "merge %u is not a pair of pieces", rank);
        enum status s = build_merge(t, &left, &right, rank++, l->c);
        if (s)
            return s;
    }
    build_cuts(t);
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
    if (s)
        return s;
    find_unknown(l);
    s = build_cover(l->t, l->c);
    if (s == OK)
        s = load_merges(l);
    return s ? s : tok_steps_bos(l->t, l->root, l->c);
}

enum status tok_config_bos(struct tokenizer *t, const cJSON *config, const struct complaint *c)
{
    struct complaint in_config = *c;
    in_config.file = TOK_CONFIG_FILE;
    const char *name = token_name(json_get(config, "bos_token"));
    bool wanted = false;
    if (!json_get(config, "add_bos_token"))
        return OK;
    enum status s = field_bool(config, "add_bos_token", &wanted, &in_config);
    if (s)
        return s;
    if (!wanted) {
        t->bos = -1;
    } else if (name) {
        char quoted[TOK_QUOTE_MAX];
        t->bos = tokenizer_special(t, name);
        if (t->bos < 0)
            return complain(&in_config, E_FORMAT,
                            "bos_token \"%s\" is no special token of the tokenizer",
                            tok_quote(quoted, name));
    }
    return OK;
}

enum status tok_load_trees(struct tokenizer *t, const struct tok_trees *trees,
                           const struct complaint *c)
{
    struct loader l = {.t = t, .root = trees->json, .trees = trees, .c = c};
    enum status s = load_json(&l);
    tokens_free(&l.added);
    return s ? s : tok_config_bos(t, trees->config, c);
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

/* tokenizer.json where there is one, else tokenizer.model. */
static enum status load_dir(struct tokenizer *t, const char *dir, struct tok_trees *trees,
                            char **model, struct complaint *c)
{
    bool lists = !file_present(dir, TOK_JSON_FILE) && file_present(dir, TOK_MODEL_FILE);
    size_t bytes = 0;
    enum status s;
    c->file = lists ? TOK_MODEL_FILE : TOK_JSON_FILE;
    if (!lists && !file_present(dir, TOK_JSON_FILE))
        return complain(c, E_IO,
                        "cannot open: neither it nor " TOK_MODEL_FILE " is in %s; the "
                        "model's repository has one",
                        dir);
    if (lists)
        s = file_read(model, &bytes, dir, TOK_FILE_BYTES_MAX, c);
    else
        s = json_load(&trees->json, dir, TOK_FILE_BYTES_MAX, TOK_FILE_NODES_MAX, c);
    if (s == OK)
        s = load_optional(&trees->config, dir, TOK_CONFIG_FILE, c);
    if (s == OK)
        s = load_optional(&trees->map, dir, TOK_MAP_FILE, c);
    if (s == OK && lists)
        s = load_optional(&trees->older, dir, TOK_OLDER_FILE, c);
    if (s)
        return s;
    return lists ? tok_load_model(t, trees, *model, bytes, c) : tok_load_trees(t, trees, c);
}

enum status tok_load(struct tokenizer *t, const char *dir, char *err, size_t err_size)
{
    struct complaint c = complaint_in(TOK_JSON_FILE, err, err_size);
    struct tok_trees trees = {.json = NULL};
    char *model = NULL;
    enum status s = load_dir(t, dir, &trees, &model, &c);
    cJSON_Delete(trees.json);
    cJSON_Delete(trees.config);
    cJSON_Delete(trees.map);
    cJSON_Delete(trees.older);
    free(model);
    return s;
}

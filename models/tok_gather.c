#include "models/tok_priv.h"

#include <stdlib.h>
#include <string.h>

/* The added tokens of a model, from up to four files that repeat and correct each other:
 * added_tokens of tokenizer.json come first, added_tokens_decoder of
 * tokenizer_config.json changes their flags and adds more, and what either
 * special_tokens_map.json or tokenizer_config.json names as bos_token, eos_token and so on
 * is special even where a list forgot to say so. Where two files give one id two texts,
 * tokenizer.json is right: people rename a reserved token there and nowhere else. */

void tokens_free(struct token_list *list)
{
    free(list->entry);
    *list = (struct token_list){.n = 0};
}

enum status tokens_push(struct token_list *list, const struct token_entry *e,
                        const struct complaint *c)
{
    if (list->n == TOK_ADDED_MAX)
        return complain(c, E_FORMAT, "more than %d added tokens", TOK_ADDED_MAX);
    if (list->n == list->cap) {
        size_t cap = list->cap ? 2 * list->cap : 64;
        struct token_entry *more = realloc(list->entry, cap * sizeof(*more));
        if (!more)
            return complain(c, E_NOMEM, "no memory for the added tokens");
        list->entry = more;
        list->cap = cap;
    }
    list->entry[list->n++] = *e;
    return OK;
}

/* content, id and flags; id is given, or a member of the entry. */
static enum status read_entry(struct token_entry *e, const cJSON *item, const struct complaint *c)
{
    const cJSON *content = json_get(item, "content");
    if (!cJSON_IsString(content))
        return complain(c, E_FORMAT, "added_tokens: an entry without content");
    *e = (struct token_entry){.text = content->valuestring, .bytes = strlen(content->valuestring)};
    const struct {
        const char *key;
        bool *to;
    } flags[] = {{"special", &e->special},
                 {"lstrip", &e->lstrip},
                 {"rstrip", &e->rstrip},
                 {"single_word", &e->single_word}};
    enum status s = OK;
    for (size_t i = 0; i < ARRAY_LEN(flags) && s == OK; i++)
        s = field_bool(item, flags[i].key, flags[i].to, c);
    return s;
}

static enum status read_list(struct token_list *list, const cJSON *array, const struct complaint *c)
{
    const cJSON *item;
    char quoted[TOK_QUOTE_MAX];
    if (array && !cJSON_IsArray(array))
        return complain(c, E_FORMAT, "added_tokens is no list");
    cJSON_ArrayForEach(item, array)
    {
        struct token_entry e;
        int64_t id;
        enum status s = read_entry(&e, item, c);
        if (s)
            return s;
        if (!json_as_int(json_get(item, "id"), 0, TOK_VOCAB_MAX - 1, &id))
            return complain(c, E_FORMAT, "the id of \"%s\" is no number below %d",
                            tok_quote(quoted, e.text), TOK_VOCAB_MAX);
        e.id = (int32_t)id;
        s = tokens_push(list, &e, c);
        if (s)
            return s;
    }
    return OK;
}

static int by_id(const void *a, const void *b)
{
    const struct token_entry *x = a;
    const struct token_entry *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

/* Members are named by their id, "128000": {"content": ...}. What is in the list already
 * lies there sorted, [0, n). */
static enum status merge_one(struct token_list *list, size_t n, const cJSON *item,
                             const struct complaint *c)
{
    struct token_entry e;
    char *after;
    enum status s = read_entry(&e, item, c);
    if (s)
        return s;
    long id = strtol(item->string, &after, 10);
    if (after == item->string || *after || id < 0 || id >= TOK_VOCAB_MAX)
        return complain(c, E_FORMAT, "added_tokens_decoder: an id is no number below %d",
                        TOK_VOCAB_MAX);
    e.id = (int32_t)id;
    struct token_entry *known = n ? bsearch(&e, list->entry, n, sizeof(*list->entry), by_id) : NULL;
    if (!known)
        return tokens_push(list, &e, c);
    if (strcmp(known->text, e.text) == 0)
        *known = e;
    return OK;
}

static enum status merge_decoder(struct token_list *list, const cJSON *object,
                                 const struct complaint *c)
{
    const cJSON *item;
    size_t n = list->n;
    if (object && !cJSON_IsObject(object))
        return complain(c, E_FORMAT, "added_tokens_decoder is no object");
    if (n)
        qsort(list->entry, n, sizeof(*list->entry), by_id);
    cJSON_ArrayForEach(item, object)
    {
        enum status s = merge_one(list, n, item, c);
        if (s)
            return s;
    }
    return OK;
}

static enum status read_older(struct token_list *list, const cJSON *object,
                              const struct complaint *c)
{
    const cJSON *item;
    if (object && !cJSON_IsObject(object))
        return complain(c, E_FORMAT, "not a JSON object");
    cJSON_ArrayForEach(item, object)
    {
        struct token_entry e = {.text = item->string, .bytes = strlen(item->string)};
        int64_t id;
        if (!json_as_int(item, 0, TOK_VOCAB_MAX - 1, &id))
            return complain(c, E_FORMAT, "an id is no number below %d", TOK_VOCAB_MAX);
        e.id = (int32_t)id;
        enum status s = tokens_push(list, &e, c);
        if (s)
            return s;
    }
    return OK;
}

/* "text" or {"content": "text"}; NULL: neither. */
const char *token_name(const cJSON *value)
{
    if (cJSON_IsObject(value))
        value = json_get(value, "content");
    return cJSON_IsString(value) ? value->valuestring : NULL;
}

static void make_special(struct token_list *list, const cJSON *value)
{
    const char *name = token_name(value);
    for (size_t i = 0; name && i < list->n; i++) {
        if (strcmp(list->entry[i].text, name) == 0)
            list->entry[i].special = true;
    }
}

static void make_named_special(struct token_list *list, const cJSON *tree)
{
    static const char *const names[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                        "pad_token", "cls_token", "mask_token"};
    const cJSON *item;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        make_special(list, json_get(tree, names[i]));
    cJSON_ArrayForEach(item, json_get(tree, "additional_special_tokens"))
    {
        make_special(list, item);
    }
}

enum status tokens_gather(struct token_list *list, const struct tok_trees *trees,
                          const struct complaint *c)
{
    struct complaint in_config = *c;
    struct complaint in_older = *c;
    in_config.file = TOK_CONFIG_FILE;
    in_older.file = TOK_OLDER_FILE;
    enum status s = read_list(list, json_get(trees->json, "added_tokens"), c);
    if (s == OK)
        s = read_older(list, trees->older, &in_older);
    if (s == OK)
        s = merge_decoder(list, json_get(trees->config, "added_tokens_decoder"), &in_config);
    if (s)
        return s;
    make_named_special(list, trees->config);
    make_named_special(list, trees->map);
    return OK;
}

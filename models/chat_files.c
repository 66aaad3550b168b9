/* Where a model keeps its chat template and the texts of its special tokens. Only one place
 * of each is used: the first that is there. */

#include "models/chat_priv.h"
#include "models/gguf.h"
#include "models/unicode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const chat_mark_name[CHAT_MARKS] = {"bos_token", "eos_token", "unk_token", "pad_token",
                                                "sep_token", "cls_token", "mask_token"};

void chat_source_free(struct chat_source *s)
{
    free(s->plain);
    free(s->tools);
    *s = (struct chat_source){.file = NULL};
}

/* --- special tokens --- */

/* "bos_token": "<s>", or an object with the text as content. */
static enum status read_mark(char out[CHAT_MARK_MAX], const cJSON *config, const char *key,
                             const struct complaint *at)
{
    const cJSON *v = json_get(config, key);
    if (cJSON_IsObject(v))
        v = json_get(v, "content");
    if (!v || *out)
        return OK;
    if (!cJSON_IsString(v) || strlen(v->valuestring) >= CHAT_MARK_MAX)
        return complain(at, E_FORMAT, "%s is no text of less than %d bytes", key, CHAT_MARK_MAX);
    memcpy(out, v->valuestring, strlen(v->valuestring) + 1);
    return OK;
}

static enum status read_marks(struct chat *c, const cJSON *config, const struct complaint *at)
{
    for (size_t i = 0; i < CHAT_MARKS; i++) {
        enum status s = read_mark(c->mark[i], config, chat_mark_name[i], at);
        if (s)
            return s;
    }
    return OK;
}

/* --- templates --- */

static enum status keep(char **out, const cJSON *v)
{
    if (!cJSON_IsString(v) || *out)
        return OK;
    *out = strdup(v->valuestring);
    return *out ? OK : E_NOMEM;
}

/* A list of {name, template}: "default" and "tool_use" count, else the first is it. */
static enum status keep_named(struct chat_source *s, const cJSON *list)
{
    const cJSON *item;
    enum status st = OK;
    cJSON_ArrayForEach(item, list)
    {
        const cJSON *name = json_get(item, "name");
        if (!cJSON_IsString(name) || st)
            continue;
        if (strcmp(name->valuestring, "default") == 0)
            st = keep(&s->plain, json_get(item, "template"));
        else if (strcmp(name->valuestring, "tool_use") == 0)
            st = keep(&s->tools, json_get(item, "template"));
    }
    return st ? st : keep(&s->plain, json_get(list->child, "template"));
}

static enum status read_template(struct chat_source *s, const cJSON *config,
                                 const struct complaint *at)
{
    const cJSON *v = json_get(config, "chat_template");
    if (!v || s->plain)
        return OK;
    if (!cJSON_IsArray(v) && !cJSON_IsString(v))
        return complain(at, E_FORMAT, "chat_template is neither text nor a list of templates");
    s->file = at->file;
    return cJSON_IsArray(v) ? keep_named(s, v) : keep(&s->plain, v);
}

static enum status read_json(struct chat *c, struct chat_source *s, const char *dir,
                             const struct complaint *at)
{
    cJSON *tree = NULL;
    if (!file_present(dir, at->file))
        return OK;
    enum status st = json_load(&tree, dir, CONFIG_BYTES_MAX, CONFIG_NODES_MAX, at);
    if (st)
        return st;
    st = read_marks(c, tree, at);
    if (st == OK && s)
        st = read_template(s, tree, at);
    cJSON_Delete(tree);
    return st;
}

static enum status read_jinja(char **out, const char *dir, const struct complaint *at)
{
    size_t bytes;
    enum status st = file_read(out, &bytes, dir, JINJA_TEMPLATE_MAX, at);
    if (st == OK && strlen(*out) != bytes) {
        free(*out);
        *out = NULL;
        st = complain(at, E_FORMAT, "there is a NUL in the text");
    }
    return st;
}

static enum status read_directory(struct chat *c, struct chat_source *s, const char *dir,
                                  bool with_template, char *err, size_t err_size)
{
    static const char *const files[] = {"chat_template.json", "tokenizer_config.json",
                                        "special_tokens_map.json"};
    struct complaint at = complaint_in("chat_template.jinja", err, err_size);
    enum status st = OK;
    if (with_template && file_present(dir, at.file)) {
        st = read_jinja(&s->plain, dir, &at);
        s->file = at.file;
    }
    for (size_t i = 0; i < ARRAY_LEN(files) && st == OK; i++) {
        at.file = files[i];
        st = read_json(c, with_template ? s : NULL, dir, &at);
    }
    return st;
}

static enum status read_gguf(struct chat *c, struct chat_source *s, const char *path,
                             bool with_template, char *err, size_t err_size)
{
    const struct complaint at = complaint_in(gguf_file_name(path), err, err_size);
    struct gguf g;
    cJSON *tree = NULL;
    enum status st = gguf_open(&g, path, &at);
    if (st)
        return st;
    st = gguf_tokenizer_config(&tree, &g, &at);
    gguf_free(&g);
    if (st == OK)
        st = read_marks(c, tree, &at);
    if (st == OK && with_template)
        st = read_template(s, tree, &at);
    cJSON_Delete(tree);
    return st;
}

enum status chat_source_read(struct chat *c, struct chat_source *s, const char *path,
                             bool with_template, char *err, size_t err_size)
{
    return gguf_is_path(path) ? read_gguf(c, s, path, with_template, err, err_size)
                              : read_directory(c, s, path, with_template, err, err_size);
}

enum status chat_source_override(struct chat_source *s, const char *name, char *err,
                                 size_t err_size)
{
    const char *text = chat_builtin(name);
    char dir[MODEL_PATH_MAX];
    if (text) {
        s->plain = strdup(text);
        return s->plain ? OK : E_NOMEM;
    }
    enum status st = gguf_folder(dir, name);
    const struct complaint at = complaint_in(gguf_file_name(name), err, err_size);
    s->file = at.file;
    return st ? st : read_jinja(&s->plain, dir, &at);
}

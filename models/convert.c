#include "models/convert.h"

#include "models/compressed.h"
#include "models/gguf.h"
#include "models/probe.h"
#include "models/safetensors_write.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The source is opened as a model: that quantizes it, in parallel and in the memory of the
 * result, and probes it. What is in memory then goes into a new directory beside the wanted
 * one, which gets its name when everything is on the disk. */

enum { CONTEXT = 32, COPY_BYTES_MAX = 256 << 20 };

struct conversion {
    const struct convert_options *opt;
    char part[MODEL_PATH_MAX]; /* where it grows */
    struct model *model;
    struct weights *weights;
    char *err;
    size_t err_size;
};

static const char weights_name[] = "model.safetensors";
static const char config_name[] = "config.json";
static const char generation_name[] = "generation_config.json";

/* Whatever programs read beside the weights; none of it is needed by all. */
static const char *const text_names[] = {
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
};

static struct complaint complaint_of(const struct conversion *v, const char *file)
{
    return complaint_in(file, v->err, v->err_size);
}

/* --- files --- */

static enum status save(const struct conversion *v, const char *name, const char *text,
                        size_t bytes)
{
    char path[MODEL_PATH_MAX];
    const struct complaint c = complaint_of(v, name);
    if (path_join(path, v->part, name))
        return complain(&c, E_INVALID, "the path is too long");
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return complain(&c, E_IO, "cannot be created: %s", strerror(errno));
    enum status s = write_all(fd, text, bytes, &c);
    if (!s && fsync(fd) != 0)
        s = complain(&c, E_IO, "cannot be written: %s", strerror(errno));
    if (close(fd) != 0 && !s)
        s = complain(&c, E_IO, "cannot be written: %s", strerror(errno));
    return s;
}

static enum status copy(const struct conversion *v, const char *from, const char *name)
{
    char *text = NULL;
    size_t bytes = 0;
    const struct complaint c = complaint_of(v, name);
    if (!file_present(from, name))
        return OK;
    enum status s = file_read(&text, &bytes, from, COPY_BYTES_MAX, &c);
    if (!s)
        s = save(v, name, text, bytes);
    free(text);
    return s;
}

static enum status save_json(const struct conversion *v, const char *name, const cJSON *tree)
{
    const struct complaint c = complaint_of(v, name);
    char *text = cJSON_Print(tree);
    if (!text)
        return complain(&c, E_NOMEM, "no memory");
    enum status s = save(v, name, text, strlen(text));
    cJSON_free(text);
    return s;
}

/* The class takes tokenizer.json as it is; without its name others guess one by the model. */
static bool extend_tokenizer_config(cJSON *tree)
{
    return cJSON_AddStringToObject(tree, "tokenizer_class", "PreTrainedTokenizerFast") &&
           cJSON_AddFalseToObject(tree, "clean_up_tokenization_spaces");
}

/* Of a GGUF file, in the words of the other format. */
static enum status tell_texts(const struct conversion *v)
{
    const struct complaint c = complaint_of(v, gguf_file_name(v->opt->src));
    struct gguf g;
    char *text = NULL;
    size_t bytes = 0;
    cJSON *config = NULL;
    enum status s = gguf_open(&g, v->opt->src, &c);
    if (s)
        return s;
    s = gguf_tokenizer_json(&text, &bytes, &g, &c);
    if (!s)
        s = gguf_tokenizer_config(&config, &g, &c);
    if (!s && !extend_tokenizer_config(config))
        s = complain(&c, E_NOMEM, "no memory");
    if (!s)
        s = save(v, "tokenizer.json", text, bytes);
    if (!s)
        s = save_json(v, "tokenizer_config.json", config);
    cJSON_Delete(config);
    free(text);
    gguf_free(&g);
    return s;
}

static enum status save_texts(const struct conversion *v)
{
    enum status s = OK;
    const struct complaint c = complaint_of(v, "tokenizer.json");
    if (gguf_is_path(v->opt->src))
        return tell_texts(v);
    if (!file_present(v->opt->src, c.file) && !file_present(v->opt->src, "tokenizer.model"))
        return complain(&c, E_INVALID, "neither it nor tokenizer.model is in %s", v->opt->src);
    for (size_t i = 0; i < ARRAY_LEN(text_names) && !s; i++)
        s = copy(v, v->opt->src, text_names[i]);
    return s;
}

/* --- config.json --- */

static enum status read_trees(const struct conversion *v, cJSON **config, cJSON **generation)
{
    struct complaint c = complaint_of(v, config_name);
    struct gguf g;
    if (!gguf_is_path(v->opt->src))
        return json_load(config, v->opt->src, CONFIG_BYTES_MAX, CONFIG_NODES_MAX, &c);
    c.file = gguf_file_name(v->opt->src);
    enum status s = gguf_open(&g, v->opt->src, &c);
    if (s)
        return s;
    s = gguf_config(config, generation, &g, &c);
    gguf_free(&g);
    return s;
}

/* A scaling that a file has as a tensor, in the words that others read. */
static bool extend_rope(cJSON *config, const struct rope *r)
{
    if (r->kind == ROPE_PLAIN || json_get(config, "rope_scaling") ||
        json_get(config, "rope_parameters"))
        return true;
    cJSON *o = cJSON_AddObjectToObject(config, "rope_scaling");
    if (!o || !cJSON_AddNumberToObject(o, "factor", r->factor))
        return false;
    if (r->kind == ROPE_LINEAR)
        return cJSON_AddStringToObject(o, "rope_type", "linear");
    return cJSON_AddStringToObject(o, "rope_type", "llama3") &&
           cJSON_AddNumberToObject(o, "low_freq_factor", r->low) &&
           cJSON_AddNumberToObject(o, "high_freq_factor", r->high) &&
           cJSON_AddNumberToObject(o, "original_max_position_embeddings", (double)r->context);
}

/* What the new weights are, and what other programs look for and GGUF has no word of. */
static bool extend(cJSON *config, const struct llama *l)
{
    static const struct {
        const char *arch;
        const char *type;
    } types[] = {
        {"LlamaForCausalLM", "llama"},
        {"MistralForCausalLM", "mistral"},
        {"Qwen2ForCausalLM", "qwen2"},
        {"Qwen3ForCausalLM", "qwen3"},
    };
    bool good = compressed_write(config) && extend_rope(config, &l->config.rope);
    for (size_t i = 0; i < ARRAY_LEN(types) && !json_get(config, "model_type"); i++) {
        if (strcmp(types[i].arch, l->config.info.arch) == 0)
            good = good && cJSON_AddStringToObject(config, "model_type", types[i].type);
    }
    if (!json_get(config, "torch_dtype") && !json_get(config, "dtype"))
        good = good && cJSON_AddStringToObject(config, "torch_dtype", "float16");
    if (!json_get(config, "tie_word_embeddings")) {
        cJSON_DeleteItemFromObjectCaseSensitive(config, "tie_word_embeddings");
        good = good && cJSON_AddBoolToObject(config, "tie_word_embeddings", l->config.info.tied);
    }
    cJSON *mine = probe_record(l);
    if (mine && cJSON_AddItemToObject(config, "firstlight", mine))
        return good;
    cJSON_Delete(mine);
    return false;
}

/* GGUF has the ends of an answer in one place; programs look for them in both files. */
static bool extend_generation(cJSON *generation, const cJSON *config)
{
    static const char *const names[] = {"bos_token_id", "eos_token_id"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const cJSON *from = json_get(config, names[i]);
        cJSON *copied = from ? cJSON_Duplicate(from, true) : NULL;
        if (from && (!copied || !cJSON_AddItemToObject(generation, names[i], copied))) {
            cJSON_Delete(copied);
            return false;
        }
    }
    return true;
}

static enum status save_config(const struct conversion *v, const struct llama *l)
{
    cJSON *config = NULL;
    cJSON *generation = NULL;
    const struct complaint c = complaint_of(v, config_name);
    enum status s = read_trees(v, &config, &generation);
    if (!s && l->config.rope.divided)
        s = complain(&c, E_UNSUPPORTED,
                     "\"rope_scaling\" has no word for what the tensor \"rope_freqs.weight\" does");
    if (!s && (!extend(config, l) || (generation && !extend_generation(generation, config))))
        s = complain(&c, E_NOMEM, "no memory");
    if (!s)
        s = save_json(v, config_name, config);
    if (!s && generation)
        s = save_json(v, generation_name, generation);
    else if (!s && !gguf_is_path(v->opt->src))
        s = copy(v, v->opt->src, generation_name);
    cJSON_Delete(config);
    cJSON_Delete(generation);
    return s;
}

/* --- weights --- */

static bool is_product(const struct llama *l, const struct load_item *it)
{
    return it->into->kind == NUM_Q8 && it->into != &l->embed && it->into != &l->head;
}

/* As it was, but for blocks, which safetensors does not have. */
static enum status add_stored(struct new_file *f, const struct load_item *it)
{
    const struct tensor *t = it->tensor;
    bool plain = dtype_info((enum dtype)t->dtype)->block == 1;
    struct new_tensor mine = {.dtype = plain ? (enum dtype)t->dtype : DTYPE_F16,
                              .rank = t->rank,
                              .dim = {t->dim[0], t->dim[1]},
                              .stored = t,
                              .cols = it->into->k};
    (void)snprintf(mine.name, sizeof(mine.name), "%s", it->name);
    return new_file_add(f, &mine);
}

static enum status add_product(struct new_file *f, const struct load_item *it)
{
    const struct weight *w = it->into;
    size_t row = (size_t)it->row;
    struct new_tensor q = {.dtype = DTYPE_I8,
                           .rank = 2,
                           .dim = {(uint64_t)it->rows, (uint64_t)w->k},
                           .data = w->q + row * (size_t)w->k};
    struct new_tensor scale = {
        .dtype = DTYPE_F32, .rank = 2, .dim = {(uint64_t)it->rows, 1}, .data = w->scale + row};
    int n = snprintf(scale.name, sizeof(scale.name), "%s_scale", it->name);
    (void)snprintf(q.name, sizeof(q.name), "%s", it->name);
    if (n < 0 || (size_t)n >= sizeof(scale.name))
        return E_INVALID;
    enum status s = new_file_add(f, &q);
    return s ? s : new_file_add(f, &scale);
}

static enum status save_weights(struct conversion *v, struct llama *l)
{
    struct new_file f = {
        .weights = v->weights, .progress = v->opt->progress, .progress_arg = v->opt->arg};
    struct load_item *item = NULL;
    size_t n = 0;
    char path[MODEL_PATH_MAX];
    const struct complaint c = complaint_of(v, weights_name);
    enum status s = llama_bind(l, v->weights, &item, &n, v->err, v->err_size);
    if (s)
        return s;
    for (size_t i = 0; i < n && !s; i++)
        s = is_product(l, &item[i]) ? add_product(&f, &item[i]) : add_stored(&f, &item[i]);
    if (s)
        s = complain(&c, s, "no list of its tensors");
    else if (path_join(path, v->part, weights_name))
        s = complain(&c, E_INVALID, "the path is too long");
    else
        s = new_file_write(&f, path, &c);
    new_file_free(&f);
    free(item);
    return s;
}

/* --- the whole --- */

static void phase(const struct conversion *v, const char *name)
{
    if (v->opt->phase)
        v->opt->phase(v->opt->arg, name);
}

static enum status open_source(struct conversion *v, struct ops *ops)
{
    struct model_info info;
    const struct complaint c = complaint_of(v, "convert");
    const struct convert_options *o = v->opt;
    enum status s = model_inspect(&info, o->src, v->err, v->err_size);
    if (s)
        return s;
    struct model_options how = {.path = o->src,
                                .step_rows_max = PROBE_TOKENS,
                                .step_seqs_max = 1,
                                .acts = o->acts,
                                .progress = o->progress,
                                .progress_arg = o->arg};
    how.context_max = min32(CONTEXT, info.context_max);
    phase(v, "quantizing");
    s = model_open(&v->model, &how, ops, v->err, v->err_size);
    if (!s && model_llama(v->model)->config.int8)
        s = complain(&c, E_INVALID, "%s is in int8 already", o->src);
    if (!s)
        s = weights_open(&v->weights, o->src, v->err, v->err_size);
    return s;
}

static enum status fill(struct conversion *v, struct ops *ops)
{
    enum status s = open_source(v, ops);
    if (s)
        return s;
    phase(v, "writing");
    s = save_weights(v, model_llama(v->model));
    if (!s)
        s = save_texts(v);
    return s ? s : save_config(v, model_llama(v->model));
}

/* What was written of it; nothing else can be in there. */
static void drop(const struct conversion *v)
{
    static const char *const mine[] = {weights_name, config_name, generation_name};
    char path[MODEL_PATH_MAX];
    for (size_t i = 0; i < ARRAY_LEN(mine) + ARRAY_LEN(text_names); i++) {
        size_t text = i - ARRAY_LEN(mine);
        if (!path_join(path, v->part, i < ARRAY_LEN(mine) ? mine[i] : text_names[text]))
            (void)unlink(path);
    }
    (void)rmdir(v->part);
}

static enum status start(struct conversion *v)
{
    struct stat st;
    const struct complaint c = complaint_of(v, "convert");
    const char *dst = v->opt->dst;
    size_t n = strlen(dst);
    while (n > 1 && dst[n - 1] == '/')
        n--;
    int w = snprintf(v->part, sizeof(v->part), "%.*s.partial", (int)n, dst);
    if (n == 0 || w < 0 || (size_t)w >= sizeof(v->part))
        return complain(&c, E_INVALID, "not a path to write to: \"%.64s\"", dst);
    if (lstat(dst, &st) == 0)
        return complain(&c, E_INVALID, "%s exists, and nothing is overwritten", dst);
    if (mkdir(v->part, 0777) != 0)
        return complain(&c, E_IO, "%s cannot be made: %s", v->part, strerror(errno));
    return OK;
}

enum status convert_model(const struct convert_options *opt, struct ops *ops, char *err,
                          size_t err_size)
{
    struct conversion v = {.opt = opt, .err_size = err_size};
    v.err = err; /* not above: see complaint_in() */
    const struct complaint c = complaint_of(&v, "convert");
    if (!ops->host_memory)
        return complain(&c, E_UNSUPPORTED, "only the cpu backend converts");
    enum status s = start(&v);
    if (s)
        return s;
    s = fill(&v, ops);
    if (!s && rename(v.part, opt->dst) != 0)
        s = complain(&c, E_IO, "%s cannot be given its name: %s", v.part, strerror(errno));
    if (s)
        drop(&v);
    weights_close(v.weights);
    model_close(v.model);
    return s;
}

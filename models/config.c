#include "models/config.h"

#include "models/gguf.h"
#include "models/jsonfile.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* One function per part of the file. A member that changes what the forward pass
 * computes is either understood here or refused: a model that loads and then speaks
 * slightly wrong is the worst outcome of all. */

static const double pi = 3.14159265358979323846;

/* Architectures whose forward pass is llama.c's. */
struct arch {
    const char *name;
    bool window; /* "sliding_window" bounds how far attention looks back */
};

static const struct arch arches[] = {
    {.name = "LlamaForCausalLM"},
    {.name = "MistralForCausalLM", .window = true},
};

static enum status unknown_arch(const char *name, const struct complaint *c)
{
    char known[256];
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(arches) && n < sizeof(known); i++) {
        int w = snprintf(known + n, sizeof(known) - n, "%s%s", i ? ", " : "", arches[i].name);
        n += w > 0 ? (size_t)w : 0;
    }
    return complain(c, E_UNSUPPORTED, "architecture \"%.64s\" is not known; known: %s", name,
                    known);
}

static enum status read_arch(bool *window, struct model_info *info, const cJSON *o,
                             const struct complaint *c)
{
    const cJSON *list = json_get(o, "architectures");
    if (!cJSON_IsArray(list) || !list->child || !cJSON_IsString(list->child))
        return complain(c, E_FORMAT, "\"architectures\" must be a list of names");
    const char *name = list->child->valuestring;
    for (size_t i = 0; i < ARRAY_LEN(arches); i++) {
        if (strcmp(name, arches[i].name) != 0)
            continue;
        (void)snprintf(info->arch, sizeof(info->arch), "%s", name);
        *window = arches[i].window;
        return OK;
    }
    return unknown_arch(name, c);
}

static enum status read_refusals(const cJSON *o, const struct complaint *c)
{
    static const char *const must_be_false[] = {"attention_bias", "mlp_bias"};
    for (size_t i = 0; i < ARRAY_LEN(must_be_false); i++) {
        bool set = false;
        enum status s = field_bool(o, must_be_false[i], &set, c);
        if (s)
            return s;
        if (set)
            return complain(c, E_UNSUPPORTED, "\"%s\" is not supported", must_be_false[i]);
    }
    const char *act = "silu";
    enum status s = field_string(o, "hidden_act", &act, c);
    if (s)
        return s;
    if (strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0)
        return complain(c, E_UNSUPPORTED, "\"hidden_act\" \"%.32s\" is not supported", act);
    if (json_get(o, "quantization_config"))
        return complain(c, E_UNSUPPORTED,
                        "\"quantization_config\": only checkpoints in f32, f16 or bf16 are read");
    double part = 1;
    s = field_number(o, "partial_rotary_factor", 0, 1, &part, c);
    if (s)
        return s;
    if (part < 1)
        return complain(c, E_UNSUPPORTED, "\"partial_rotary_factor\" is not supported");
    return OK;
}

/* A required or optional count; the default is what *out holds, 0: required. */
static enum status read_count(const cJSON *o, const char *key, int32_t max, int32_t *out,
                              const struct complaint *c)
{
    int64_t v = *out;
    enum status s = field_int(o, key, 1, max, &v, c);
    if (s)
        return s;
    if (v == 0)
        return complain(c, E_FORMAT, "\"%s\" is missing", key);
    *out = (int32_t)v;
    return OK;
}

static enum status read_sizes(struct model_info *f, const cJSON *o, const struct complaint *c)
{
    const struct {
        const char *key;
        int32_t max;
        int32_t *out;
    } required[] = {
        {"hidden_size", DIM_MAX, &f->dim},
        {"intermediate_size", HIDDEN_MAX, &f->hidden},
        {"num_hidden_layers", LAYERS_MAX, &f->n_layers},
        {"num_attention_heads", HEADS_MAX, &f->n_heads},
        {"vocab_size", VOCAB_MAX, &f->vocab},
        {"max_position_embeddings", CONTEXT_MAX, &f->context_max},
    };
    for (size_t i = 0; i < ARRAY_LEN(required); i++) {
        enum status s = read_count(o, required[i].key, required[i].max, required[i].out, c);
        if (s)
            return s;
    }
    f->n_kv_heads = f->n_heads;
    enum status s = read_count(o, "num_key_value_heads", HEADS_MAX, &f->n_kv_heads, c);
    if (s)
        return s;
    f->head_dim = f->dim % f->n_heads ? 0 : f->dim / f->n_heads;
    s = read_count(o, "head_dim", HEAD_DIM_MAX, &f->head_dim, c);
    if (s)
        return s;
    if (f->n_heads % f->n_kv_heads)
        return complain(c, E_FORMAT, "%d heads do not divide into %d \"num_key_value_heads\"",
                        f->n_heads, f->n_kv_heads);
    if (f->head_dim > HEAD_DIM_MAX || f->head_dim % 2 || f->n_heads * f->head_dim > HIDDEN_MAX)
        return complain(c, E_FORMAT, "%d heads of \"head_dim\" %d are not possible", f->n_heads,
                        f->head_dim);
    return OK;
}

/* Inside its window a model that attends through one is an ordinary model. */
static enum status read_window(struct model_info *f, const cJSON *o, const struct complaint *c)
{
    int64_t window = 0;
    enum status s = field_int(o, "sliding_window", 1, CONTEXT_MAX, &window, c);
    if (s || window == 0 || window >= f->context_max)
        return s;
    log_line(LOG_WARN, "%s: context cut from %d to the sliding window, %d", c->file, f->context_max,
             (int)window);
    f->context_max = (int32_t)window;
    return OK;
}

static enum status read_llama3(struct rope *r, const cJSON *o, const struct complaint *c)
{
    enum status s = field_number(o, "low_freq_factor", 1e-3, 1e6, &r->low, c);
    if (!s)
        s = field_number(o, "high_freq_factor", 1e-3, 1e6, &r->high, c);
    if (!s)
        s = field_int(o, "original_max_position_embeddings", 1, CONTEXT_MAX, &r->context, c);
    if (s)
        return s;
    if (r->low <= 0 || r->high <= r->low || r->context == 0)
        return complain(c, E_FORMAT,
                        "llama3 rope scaling needs \"low_freq_factor\" < \"high_freq_factor\" and "
                        "\"original_max_position_embeddings\"");
    return OK;
}

static enum status read_scaling(struct rope *r, const cJSON *o, const struct complaint *c)
{
    const char *kind = "default";
    enum status s = field_string(o, "type", &kind, c);
    if (!s)
        s = field_string(o, "rope_type", &kind, c);
    if (!s)
        s = field_number(o, "factor", 1e-3, 1e6, &r->factor, c);
    if (s)
        return s;
    if (strcmp(kind, "default") == 0)
        return OK;
    bool llama3 = strcmp(kind, "llama3") == 0;
    if (!llama3 && strcmp(kind, "linear") != 0)
        return complain(c, E_UNSUPPORTED,
                        "rope scaling \"%.32s\" is not known; known: default, linear, llama3",
                        kind);
    if (r->factor <= 0)
        return complain(c, E_FORMAT, "rope scaling needs a \"factor\"");
    r->kind = llama3 ? ROPE_LLAMA3 : ROPE_LINEAR;
    return llama3 ? read_llama3(r, o, c) : OK;
}

/* Older files: rope_theta beside rope_scaling; newer: rope_parameters holds both. */
static enum status read_rope(struct rope *r, const cJSON *o, const struct complaint *c)
{
    static const char *const holders[] = {"rope_scaling", "rope_parameters"};
    r->theta = 10000;
    enum status s = field_number(o, "rope_theta", 1, 1e12, &r->theta, c);
    for (size_t i = 0; i < ARRAY_LEN(holders) && !s; i++) {
        const cJSON *h = json_get(o, holders[i]);
        if (!h)
            continue;
        if (!cJSON_IsObject(h))
            return complain(c, E_FORMAT, "\"%s\" must be an object", holders[i]);
        s = field_number(h, "rope_theta", 1, 1e12, &r->theta, c);
        if (!s)
            s = read_scaling(r, h, c);
    }
    return s;
}

static enum status add_eos(struct model_info *f, const cJSON *v, const struct complaint *c)
{
    int64_t id;
    if (!json_as_int(v, 0, f->vocab - 1, &id))
        return complain(c, E_FORMAT, "\"eos_token_id\" must be ids from 0 to %d", f->vocab - 1);
    for (int32_t i = 0; i < f->n_eos; i++) {
        if (f->eos[i] == (int32_t)id)
            return OK;
    }
    if (f->n_eos == MODEL_EOS_MAX)
        return complain(c, E_FORMAT, "more than %d end tokens", MODEL_EOS_MAX);
    f->eos[f->n_eos++] = (int32_t)id;
    return OK;
}

/* Both files may name end tokens and each of them ends an answer, so they add up. */
static enum status read_ends(struct model_info *f, const cJSON *o, const struct complaint *c)
{
    int64_t bos = f->bos;
    const cJSON *list = json_get(o, "bos_token_id");
    enum status s = OK;
    /* Some files give a list of one. */
    if (cJSON_IsArray(list) && list->child) {
        if (!json_as_int(list->child, 0, f->vocab - 1, &bos))
            s = complain(c, E_FORMAT, "\"bos_token_id\" must be an id below %d", f->vocab);
    } else {
        s = field_int(o, "bos_token_id", 0, f->vocab - 1, &bos, c);
    }
    if (s)
        return s;
    f->bos = (int32_t)bos;

    const cJSON *eos = json_get(o, "eos_token_id");
    if (!eos)
        return OK;
    if (!cJSON_IsArray(eos))
        return add_eos(f, eos, c);
    const cJSON *v;
    cJSON_ArrayForEach(v, eos)
    {
        s = add_eos(f, v, c);
        if (s)
            return s;
    }
    return OK;
}

static enum status read_config(struct config *out, const cJSON *o, const struct complaint *c)
{
    struct model_info *f = &out->info;
    bool window = false;
    double eps = 1e-6;
    if (!cJSON_IsObject(o))
        return complain(c, E_FORMAT, "must be an object");
    enum status s = read_arch(&window, f, o, c);
    if (!s)
        s = read_refusals(o, c);
    if (!s)
        s = read_sizes(f, o, c);
    if (!s && window)
        s = read_window(f, o, c);
    if (!s)
        s = read_rope(&out->rope, o, c);
    if (!s)
        s = field_number(o, "rms_norm_eps", 1e-12, 1, &eps, c);
    if (!s)
        s = field_bool(o, "tie_word_embeddings", &f->tied, c);
    if (!s)
        s = read_ends(f, o, c);
    out->eps = (float)eps;
    return s;
}

static enum status read_generation(struct model_info *f, const cJSON *o, const struct complaint *c)
{
    double temperature = -1;
    double top_p = -1;
    double repetition = -1;
    int64_t top_k = -1;
    if (!cJSON_IsObject(o))
        return complain(c, E_FORMAT, "must be an object");
    enum status s = read_ends(f, o, c);
    if (!s)
        s = field_number(o, "temperature", 0, 100, &temperature, c);
    if (!s)
        s = field_number(o, "top_p", 0, 1, &top_p, c);
    if (!s)
        s = field_int(o, "top_k", 0, INT32_MAX, &top_k, c);
    if (!s)
        s = field_number(o, "repetition_penalty", 1e-3, 1e3, &repetition, c);
    f->temperature = (float)temperature;
    f->top_p = (float)top_p;
    f->top_k = (int32_t)top_k;
    f->repetition = (float)repetition;
    return s;
}

/* NULL for generation: there is none. */
static enum status read_trees(struct config *f, const cJSON *config, const cJSON *generation,
                              const struct complaint *c, const struct complaint *c_generation)
{
    enum status s = read_config(f, config, c);
    return s || !generation ? s : read_generation(&f->info, generation, c_generation);
}

static enum status load_folder(struct config *f, const char *dir, char *err, size_t err_size)
{
    cJSON *config = NULL;
    cJSON *generation = NULL;
    struct complaint c = complaint_in("config.json", err, err_size);
    struct complaint g = complaint_in("generation_config.json", err, err_size);
    enum status s = json_load(&config, dir, CONFIG_BYTES_MAX, CONFIG_NODES_MAX, &c);
    if (!s && file_present(dir, g.file))
        s = json_load(&generation, dir, CONFIG_BYTES_MAX, CONFIG_NODES_MAX, &g);
    if (!s)
        s = read_trees(f, config, generation, &c, &g);
    cJSON_Delete(config);
    cJSON_Delete(generation);
    return s;
}

static enum status load_gguf(struct config *f, const char *path, char *err, size_t err_size)
{
    cJSON *config = NULL;
    cJSON *generation = NULL;
    struct gguf g;
    struct complaint c = complaint_in(gguf_file_name(path), err, err_size);
    enum status s = gguf_open(&g, path, &c);
    if (s)
        return s;
    s = gguf_config(&config, &generation, &g, &c);
    if (!s)
        s = read_trees(f, config, generation, &c, &c);
    cJSON_Delete(config);
    cJSON_Delete(generation);
    gguf_free(&g);
    return s;
}

enum status config_load(struct config *out, const char *path, char *err, size_t err_size)
{
    *out = (struct config){.info = {.bos = -1, .temperature = -1, .top_p = -1, .top_k = -1}};
    out->info.repetition = -1;
    return gguf_is_path(path) ? load_gguf(out, path, err, err_size)
                              : load_folder(out, path, err, err_size);
}

static double scaled(const struct rope *r, double freq)
{
    if (r->kind == ROPE_PLAIN)
        return freq;
    if (r->kind == ROPE_LINEAR)
        return freq / r->factor;
    /* Turns within the original context: many of them carry order and stay, few of
     * them carry distance and are stretched. */
    double turns = (double)r->context * freq / (2 * pi);
    if (turns < r->low)
        return freq / r->factor;
    if (turns > r->high)
        return freq;
    double blend = (turns - r->low) / (r->high - r->low);
    return (1 - blend) * freq / r->factor + blend * freq;
}

void rope_frequencies(const struct rope *r, int32_t head_dim, float *freq)
{
    for (int32_t i = 0; i < head_dim / 2; i++)
        freq[i] = (float)scaled(r, pow(r->theta, -2.0 * i / head_dim));
}

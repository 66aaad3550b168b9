#include "models/config.h"

#include "models/compressed.h"
#include "models/gguf.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* One function per part of the file. A member that changes what the forward pass
 * computes is either understood here or refused: a model that loads and then speaks
 * slightly wrong is the worst outcome of all. */

/* Where "sliding_window" counts. */
enum window_rule { WINDOW_NEVER, WINDOW_ALWAYS, WINDOW_ASKED };

/* Architectures whose forward pass is llama.c's, and in what they differ from Llama. */
static const struct arch {
    const char *name;
    bool biases;   /* "attention_bias" and "mlp_bias" count */
    bool qkv_bias; /* always */
    bool qk_norm;
    enum window_rule window; /* asked: only with "use_sliding_window" */
} arches[] = {
    {.name = "LlamaForCausalLM", .biases = true},
    {.name = "MistralForCausalLM", .window = WINDOW_ALWAYS},
    {.name = "Qwen2ForCausalLM", .qkv_bias = true, .window = WINDOW_ASKED},
    {.name = "Qwen3ForCausalLM", .biases = true, .qk_norm = true, .window = WINDOW_ASKED},
};

static const struct arch *find_arch(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(arches); i++) {
        if (strcmp(name, arches[i].name) == 0)
            return &arches[i];
    }
    return NULL;
}

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

enum status config_arch(struct config *out, const char *name, const struct complaint *c)
{
    const struct arch *a = find_arch(name);
    if (!a)
        return unknown_arch(name, c);
    (void)snprintf(out->info.arch, sizeof(out->info.arch), "%s", a->name);
    out->qkv_bias = a->qkv_bias;
    out->qk_norm = a->qk_norm;
    return OK;
}

static enum status read_arch(struct config *out, const cJSON *o, const struct complaint *c)
{
    const cJSON *list = json_get(o, "architectures");
    if (!cJSON_IsArray(list) || !list->child || !cJSON_IsString(list->child))
        return complain(c, E_FORMAT, "\"architectures\" must be a list of names");
    return config_arch(out, list->child->valuestring, c);
}

/* Members that no architecture here may have set otherwise. */
static enum status read_refusals(const cJSON *o, const struct complaint *c)
{
    const char *act = "silu";
    double part = 1;
    enum status s = field_string(o, "hidden_act", &act, c);
    if (!s)
        s = field_number(o, "partial_rotary_factor", 0, 1, &part, c);
    if (s)
        return s;
    if (strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0)
        return complain(c, E_UNSUPPORTED, "\"hidden_act\" \"%.32s\" is not supported", act);
    if (part < 1)
        return complain(c, E_UNSUPPORTED, "\"partial_rotary_factor\" is not supported");
    return OK;
}

static enum status read_biases(struct config *out, const cJSON *o, const struct complaint *c)
{
    bool attention = false;
    bool mlp = false;
    enum status s = field_bool(o, "attention_bias", &attention, c);
    if (!s)
        s = field_bool(o, "mlp_bias", &mlp, c);
    if (s || !find_arch(out->info.arch)->biases)
        return s;
    out->qkv_bias = attention;
    out->out_bias = attention;
    out->mlp_bias = mlp;
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

/* "layer_types" names each layer's attention, where the file has it. */
static enum status read_layer_types(struct config *out, const cJSON *list,
                                    const struct complaint *c)
{
    int32_t i = 0;
    const cJSON *v;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != out->info.n_layers)
        return complain(c, E_FORMAT, "\"layer_types\" must name the attention of %d layers",
                        out->info.n_layers);
    cJSON_ArrayForEach(v, list)
    {
        const char *type = cJSON_IsString(v) ? v->valuestring : "";
        bool windowed = strcmp(type, "sliding_attention") == 0;
        if (!windowed && strcmp(type, "full_attention") != 0)
            return complain(c, E_UNSUPPORTED,
                            "layer type \"%.32s\" is not known; known: full_attention, "
                            "sliding_attention",
                            type);
        out->windowed[i++] = windowed;
    }
    return OK;
}

static enum status read_window(struct config *out, const cJSON *o, const struct complaint *c)
{
    enum window_rule rule = find_arch(out->info.arch)->window;
    bool asked = rule == WINDOW_ALWAYS;
    int64_t window = 0;
    int64_t first = asked ? 0 : 28; /* the default of those that have max_window_layers */
    enum status s = field_bool(o, "use_sliding_window", &asked, c);
    if (!s)
        s = field_int(o, "sliding_window", 1, CONTEXT_MAX, &window, c);
    if (!s && rule == WINDOW_ASKED)
        s = field_int(o, "max_window_layers", 0, INT32_MAX, &first, c);
    /* Where the context ends before the window does, there is none. */
    if (s || rule == WINDOW_NEVER || !asked || window == 0 || window >= out->info.context_max)
        return s;
    out->window = (int32_t)window;
    for (int64_t i = first; i < out->info.n_layers; i++)
        out->windowed[i] = true;
    const cJSON *types = json_get(o, "layer_types");
    return types ? read_layer_types(out, types, c) : OK;
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

/* mscale of the paper's reference code: how much longer q and k become. */
static double stretch(double factor, double weight)
{
    return factor <= 1 ? 1 : 0.1 * weight * log(factor) + 1;
}

static enum status read_yarn(struct rope *r, const cJSON *o, const struct complaint *c)
{
    double all = 0;
    double some = 0;
    bool truncate = true;
    r->high = 32;
    r->low = 1;
    enum status s = field_number(o, "beta_fast", 1e-3, 1e6, &r->high, c);
    if (!s)
        s = field_number(o, "beta_slow", 1e-3, 1e6, &r->low, c);
    if (!s)
        s = field_number(o, "attention_factor", 1e-3, 1e3, &r->attention, c);
    if (!s)
        s = field_number(o, "mscale", 0, 1e3, &some, c);
    if (!s)
        s = field_number(o, "mscale_all_dim", 0, 1e3, &all, c);
    if (!s)
        s = field_bool(o, "truncate", &truncate, c);
    if (!s)
        s = field_int(o, "original_max_position_embeddings", 1, CONTEXT_MAX, &r->context, c);
    if (s)
        return s;
    if (r->low > r->high)
        return complain(c, E_FORMAT, "yarn rope scaling needs \"beta_slow\" <= \"beta_fast\"");
    r->fractional = !truncate;
    if (r->attention <= 0 && some > 0 && all > 0)
        r->attention = stretch(r->factor, some) / stretch(r->factor, all);
    return OK;
}

/* What kinds there are, and what each reads beside its factor. */
static const struct scaling {
    const char *name;
    enum rope_kind kind;
    enum status (*read)(struct rope *r, const cJSON *o, const struct complaint *c);
} scalings[] = {
    {"default", ROPE_PLAIN, NULL},
    {"linear", ROPE_LINEAR, NULL},
    {"llama3", ROPE_LLAMA3, read_llama3},
    {"yarn", ROPE_YARN, read_yarn},
};

static enum status read_scaling(struct rope *r, const cJSON *o, const struct complaint *c)
{
    const char *name = "default";
    const struct scaling *kind = NULL;
    enum status s = field_string(o, "type", &name, c);
    if (!s)
        s = field_string(o, "rope_type", &name, c);
    if (!s)
        s = field_number(o, "factor", 1e-3, 1e6, &r->factor, c);
    if (s)
        return s;
    for (size_t i = 0; i < ARRAY_LEN(scalings); i++)
        kind = strcmp(name, scalings[i].name) == 0 ? &scalings[i] : kind;
    if (!kind)
        return complain(c, E_UNSUPPORTED,
                        "rope scaling \"%.32s\" is not known; known: default, linear, llama3, yarn",
                        name);
    r->kind = kind->kind;
    if (r->kind != ROPE_PLAIN && r->factor <= 0)
        return complain(c, E_FORMAT, "rope scaling needs a \"factor\"");
    return kind->read ? kind->read(r, o, c) : OK;
}

/* Files of yarn state the context before or after the stretching, in the same member; the
 * one before may be missing, and then the member is that. */
static void fit_yarn(struct rope *r, struct model_info *f)
{
    if (r->context == 0)
        r->context = f->context_max;
    if (r->attention <= 0)
        r->attention = stretch(r->factor, 1);
    double whole = (double)r->context * r->factor;
    if (whole > (double)f->context_max)
        f->context_max = whole < CONTEXT_MAX ? (int32_t)whole : CONTEXT_MAX;
}

/* Older files: rope_theta beside rope_scaling; newer: rope_parameters holds both. */
static enum status read_rope(struct config *out, const cJSON *o, const struct complaint *c)
{
    static const char *const holders[] = {"rope_scaling", "rope_parameters"};
    struct rope *r = &out->rope;
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
    if (!s && r->kind == ROPE_YARN)
        fit_yarn(r, &out->info);
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

static enum status read_tied(struct config *out, const cJSON *o, const struct complaint *c)
{
    enum status s = field_bool(o, "tie_word_embeddings", &out->info.tied, c);
    out->untied = json_get(o, "tie_word_embeddings") && !out->info.tied;
    return s;
}

static enum status read_config(struct config *out, const cJSON *o, const struct complaint *c)
{
    double eps = 1e-6;
    if (!cJSON_IsObject(o))
        return complain(c, E_FORMAT, "must be an object");
    enum status s = read_arch(out, o, c);
    if (!s)
        s = read_refusals(o, c);
    if (!s)
        s = compressed_read(&out->int8, o, c);
    if (!s)
        s = read_biases(out, o, c);
    if (!s)
        s = read_sizes(&out->info, o, c);
    if (!s)
        s = read_rope(out, o, c);
    if (!s)
        s = read_window(out, o, c);
    if (!s)
        s = field_number(o, "rms_norm_eps", 1e-12, 1, &eps, c);
    if (!s)
        s = read_tied(out, o, c);
    if (!s)
        s = read_ends(&out->info, o, c);
    out->eps = (float)eps;
    return s;
}

static enum status read_generation(struct model_info *f, const cJSON *o, const struct complaint *c)
{
    double temperature = -1;
    double top_p = -1;
    double repetition = -1;
    double min_p = -1;
    int64_t answer_max = 0;
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
    if (!s)
        s = field_number(o, "min_p", 0, 1, &min_p, c);
    if (!s)
        s = field_int(o, "max_new_tokens", 1, INT32_MAX, &answer_max, c);
    f->temperature = (float)temperature;
    f->top_p = (float)top_p;
    f->top_k = (int32_t)top_k;
    f->repetition = (float)repetition;
    f->min_p = (float)min_p;
    f->answer_max = (int32_t)answer_max;
    return s;
}

enum status config_of_trees(struct config *out, const cJSON *config, const cJSON *generation,
                            const struct complaint *c, const struct complaint *c_generation)
{
    *out = (struct config){.info = {.bos = -1, .temperature = -1, .top_p = -1, .top_k = -1}};
    out->info.repetition = -1;
    out->info.min_p = -1;
    enum status s = read_config(out, config, c);
    return s || !generation ? s : read_generation(&out->info, generation, c_generation);
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
        s = config_of_trees(f, config, generation, &c, &g);
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
        s = config_of_trees(f, config, generation, &c, &c);
    cJSON_Delete(config);
    cJSON_Delete(generation);
    gguf_free(&g);
    return s;
}

enum status config_load(struct config *out, const char *path, char *err, size_t err_size)
{
    return gguf_is_path(path) ? load_gguf(out, path, err, err_size)
                              : load_folder(out, path, err, err_size);
}

#include "models/gguf.h"

#include "models/config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* The metadata of GGUF told in the words of config.json: a table row for each key, by
 * architecture. What the reader of config.json would refuse in its own words (a wrong
 * type, a value out of range) is refused here first, with the key that the file has. What
 * changes the forward pass and has no row is refused by name. */

struct arch {
    const char *gguf;
    const char *name;     /* in "architectures" */
    const char *windowed; /* the same when it has a sliding window; NULL: no other */
    bool pairs;           /* its converter stores q and k with the rows of a pair adjacent */
};

static const struct arch arches[] = {
    {"llama", "LlamaForCausalLM", "MistralForCausalLM", true},
    {"qwen2", "Qwen2ForCausalLM", NULL, false},
    {"qwen3", "Qwen3ForCausalLM", NULL, false},
};

enum { KEY_MAX = 128, ARCH_NAME_MAX = 64 };

struct teller {
    const struct gguf *g;
    const struct complaint *c;
    const struct arch *arch;
    cJSON *to; /* the object under construction */
};

static const struct arch *find_arch(const char *name, size_t bytes)
{
    for (size_t i = 0; i < ARRAY_LEN(arches); i++) {
        if (strlen(arches[i].gguf) == bytes && memcmp(arches[i].gguf, name, bytes) == 0)
            return &arches[i];
    }
    return NULL;
}

static enum status read_arch(struct teller *t)
{
    char known[128];
    size_t n = 0;
    const char *name = NULL;
    size_t bytes = 0;
    enum status s = gguf_text(t->g, "general.architecture", &name, &bytes, t->c);
    if (s)
        return s;
    if (!name)
        return complain(t->c, E_FORMAT, "key \"general.architecture\" is missing");
    t->arch = find_arch(name, bytes);
    if (t->arch)
        return OK;
    for (size_t i = 0; i < ARRAY_LEN(arches) && n < sizeof(known); i++) {
        int w = snprintf(known + n, sizeof(known) - n, "%s%s", i ? ", " : "", arches[i].gguf);
        n += w > 0 ? (size_t)w : 0;
    }
    return complain(t->c, E_UNSUPPORTED, "architecture \"%.*s\" is not known; known: %s",
                    bytes < ARCH_NAME_MAX ? (int)bytes : ARCH_NAME_MAX, name, known);
}

/* "llama.block_count" */
static const char *arch_key(const struct teller *t, const char *key, char out[KEY_MAX])
{
    (void)snprintf(out, KEY_MAX, "%s.%s", t->arch->gguf, key);
    return out;
}

static enum status no_memory(const struct teller *t)
{
    return complain(t->c, E_NOMEM, "no memory");
}

static enum status put_number(struct teller *t, const char *name, double value)
{
    return cJSON_AddNumberToObject(t->to, name, value) ? OK : no_memory(t);
}

/* A whole number from 1 to most, when the key is there. */
static enum status tell_count(struct teller *t, const char *key, const char *name, int64_t most,
                              bool required)
{
    int64_t n = 0;
    enum status s = gguf_int(t->g, key, 1, most, &n, t->c);
    if (s)
        return s;
    if (n == 0)
        return required ? complain(t->c, E_FORMAT, "key \"%s\" is missing", key) : OK;
    return put_number(t, name, (double)n);
}

static enum status tell_number(struct teller *t, const char *key, const char *name)
{
    double x = (double)NAN;
    enum status s = gguf_number(t->g, key, &x, t->c);
    if (s || !gguf_find(t->g, key))
        return s;
    if (!isfinite(x))
        return complain(t->c, E_FORMAT, "key \"%s\" is not finite", key);
    return put_number(t, name, x);
}

/* Some files give one number for each layer; all the same is the same as one. */
static enum status tell_kv_heads(struct teller *t)
{
    char key[KEY_MAX];
    const struct gguf_value *v = gguf_find(t->g, arch_key(t, "attention.head_count_kv", key));
    if (!v || v->type != GGUF_ARRAY)
        return tell_count(t, key, "num_key_value_heads", HEADS_MAX, false);
    enum status s = gguf_array(t->g, key, GGUF_I32, &v, t->c);
    if (s)
        return s;
    int64_t n = v->n ? gguf_int_at(v, 0) : 0;
    for (uint64_t i = 0; i < v->n; i++) {
        if (gguf_int_at(v, i) != n || n < 1 || n > HEADS_MAX)
            return complain(t->c, E_UNSUPPORTED,
                            "key \"%s\" must give each layer the same number of heads", key);
    }
    return n ? put_number(t, "num_key_value_heads", (double)n) : OK;
}

static enum status tell_sizes(struct teller *t)
{
    static const struct {
        const char *key;
        const char *name;
        int32_t most;
        bool required;
    } rows[] = {
        {"embedding_length", "hidden_size", DIM_MAX, true},
        {"feed_forward_length", "intermediate_size", HIDDEN_MAX, true},
        {"block_count", "num_hidden_layers", LAYERS_MAX, true},
        {"attention.head_count", "num_attention_heads", HEADS_MAX, true},
        {"context_length", "max_position_embeddings", CONTEXT_MAX, true},
        {"attention.key_length", "head_dim", HEAD_DIM_MAX, false},
        {"attention.sliding_window", "sliding_window", CONTEXT_MAX, false},
    };
    char key[KEY_MAX];
    enum status s = OK;
    for (size_t i = 0; i < ARRAY_LEN(rows) && !s; i++)
        s = tell_count(t, arch_key(t, rows[i].key, key), rows[i].name, rows[i].most,
                       rows[i].required);
    if (!s)
        s = tell_kv_heads(t);
    if (!s)
        s = tell_number(t, arch_key(t, "attention.layer_norm_rms_epsilon", key), "rms_norm_eps");
    if (!s)
        s = tell_number(t, arch_key(t, "rope.freq_base", key), "rope_theta");
    return s;
}

/* The list of tokens says how many there are also where no key does. */
static enum status tell_vocab(struct teller *t)
{
    char key[KEY_MAX];
    const struct gguf_value *tokens = NULL;
    enum status s = gguf_array(t->g, "tokenizer.ggml.tokens", GGUF_STRING, &tokens, t->c);
    if (s)
        return s;
    if (gguf_find(t->g, arch_key(t, "vocab_size", key)) || !tokens)
        return tell_count(t, key, "vocab_size", VOCAB_MAX, true);
    if (tokens->n < 1 || tokens->n > VOCAB_MAX)
        return complain(t->c, E_FORMAT, "key \"tokenizer.ggml.tokens\" must hold 1 to %d tokens",
                        VOCAB_MAX);
    return put_number(t, "vocab_size", (double)tokens->n);
}

/* What would make the forward pass another one, and the value with which it does not. */
static enum status refuse_others(struct teller *t)
{
    static const struct {
        const char *key;
        double harmless;
    } rows[] = {
        {"expert_count", 0},
        {"expert_used_count", 0},
        {"logit_scale", 1},
        {"embedding_scale", 1},
        {"residual_scale", 1},
        {"attention.scale", 0},
        {"attention.clamp_kqv", 0},
        {"attention.max_alibi_bias", 0},
        {"attn_logit_softcapping", 0},
        {"final_logit_softcapping", 0},
        {"rope.scaling.yarn_log_multiplier", 0},
        {"rope.scaling.yarn_ext_factor", 1},
        {"rope.scaling.yarn_attn_factor", 1},
    };
    char key[KEY_MAX];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        double x = rows[i].harmless;
        enum status s = gguf_number(t->g, arch_key(t, rows[i].key, key), &x, t->c);
        if (s)
            return s;
        if (x < rows[i].harmless || x > rows[i].harmless || isnan(x))
            return complain(t->c, E_UNSUPPORTED, "key \"%s\" is %g, which is not supported", key,
                            x);
    }
    return OK;
}

static enum status read_head_dim(const struct teller *t, int64_t *head_dim)
{
    char key[KEY_MAX];
    int64_t dim = 0;
    int64_t heads = 1;
    enum status s = gguf_int(t->g, arch_key(t, "embedding_length", key), 1, DIM_MAX, &dim, t->c);
    if (!s)
        s = gguf_int(t->g, arch_key(t, "attention.head_count", key), 1, HEADS_MAX, &heads, t->c);
    *head_dim = dim / heads;
    if (!s)
        s = gguf_int(t->g, arch_key(t, "attention.key_length", key), 1, HEAD_DIM_MAX, head_dim,
                     t->c);
    return s;
}

/* Heads whose values are of another size, or that are rotated in part. */
static enum status check_head(struct teller *t)
{
    static const char *const others[] = {"attention.value_length", "rope.dimension_count"};
    char key[KEY_MAX];
    int64_t head_dim = 0;
    enum status s = read_head_dim(t, &head_dim);
    for (size_t i = 0; i < ARRAY_LEN(others) && !s; i++) {
        int64_t n = head_dim;
        s = gguf_int(t->g, arch_key(t, others[i], key), 0, HEAD_DIM_MAX, &n, t->c);
        if (!s && n != head_dim)
            s = complain(t->c, E_UNSUPPORTED, "key \"%s\" is %d, not the head dimension %d", key,
                         (int)n, (int)head_dim);
    }
    return s;
}

/* GGUF has what the usual factor of yarn is multiplied with, config.json the product. */
static enum status tell_attention_factor(struct teller *t)
{
    char key[KEY_MAX];
    double factor = 1;
    double more = 1;
    enum status s = gguf_number(t->g, arch_key(t, "rope.scaling.factor", key), &factor, t->c);
    if (!s)
        s = gguf_number(t->g, arch_key(t, "rope.scaling.attn_factor", key), &more, t->c);
    if (s || !gguf_find(t->g, key) || !(factor > 1))
        return s;
    return put_number(t, "attention_factor", more * (1 + 0.1 * log(factor)));
}

/* Into "rope_scaling", an object of its own. */
static enum status tell_scaling(struct teller *t)
{
    static const struct {
        const char *key;
        const char *name;
    } rows[] = {
        {"rope.scaling.factor", "factor"},
        {"rope.scaling.original_context_length", "original_max_position_embeddings"},
        {"rope.scaling.yarn_beta_fast", "beta_fast"},
        {"rope.scaling.yarn_beta_slow", "beta_slow"},
        {"rope.scaling.low_freq_factor", "low_freq_factor"},
        {"rope.scaling.high_freq_factor", "high_freq_factor"},
    };
    char key[KEY_MAX];
    char kind[ARCH_NAME_MAX];
    const char *text = "linear";
    size_t bytes = strlen(text);
    bool old = gguf_find(t->g, arch_key(t, "rope.scale_linear", key)) != NULL;
    enum status s = gguf_text(t->g, arch_key(t, "rope.scaling.type", key), &text, &bytes, t->c);
    if (s || (!old && !gguf_find(t->g, key)) || (bytes == 4 && memcmp(text, "none", 4) == 0))
        return s;
    (void)snprintf(kind, sizeof(kind), "%.*s", (int)(bytes < sizeof(kind) ? bytes : sizeof(kind)),
                   text);
    struct teller inner = *t;
    inner.to = cJSON_AddObjectToObject(t->to, "rope_scaling");
    if (!inner.to || !cJSON_AddStringToObject(inner.to, "rope_type", kind))
        return no_memory(t);
    if (old)
        s = tell_number(&inner, arch_key(t, "rope.scale_linear", key), "factor");
    for (size_t i = old ? 1 : 0; i < ARRAY_LEN(rows) && !s; i++)
        s = tell_number(&inner, arch_key(t, rows[i].key, key), rows[i].name);
    return s ? s : tell_attention_factor(&inner);
}

/* --- the ends of an answer --- */

/* Marks that end a turn in the models that have them, whatever the file calls its one
 * end-of-text token. */
static const char *const end_marks[] = {
    "<|eot_id|>",    "<|eom_id|>",    "<|im_end|>",      "<|end|>",
    "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "<EOT>",
};

enum { TOKEN_CONTROL = 3, TOKEN_USER_DEFINED = 4 };

static bool is_end_mark(const char *text, size_t bytes)
{
    for (size_t i = 0; i < ARRAY_LEN(end_marks); i++) {
        if (strlen(end_marks[i]) == bytes && memcmp(end_marks[i], text, bytes) == 0)
            return true;
    }
    return false;
}

/* Once: a mark is found by its key and by its name. */
static enum status put_end(struct teller *t, cJSON *list, double id)
{
    const cJSON *known;
    cJSON_ArrayForEach(known, list)
    {
        if (known->valueint == (int)id)
            return OK;
    }
    cJSON *v = cJSON_CreateNumber(id);
    if (v && cJSON_AddItemToArray(list, v))
        return OK;
    cJSON_Delete(v);
    return no_memory(t);
}

static enum status tell_marks(struct teller *t, cJSON *list)
{
    const struct gguf_value *tokens = NULL;
    const struct gguf_value *types = NULL;
    enum status s = gguf_array(t->g, "tokenizer.ggml.tokens", GGUF_STRING, &tokens, t->c);
    if (!s)
        s = gguf_array(t->g, "tokenizer.ggml.token_type", GGUF_I32, &types, t->c);
    if (s || !tokens || !types || types->n != tokens->n)
        return s;
    const uint8_t *at = tokens->at;
    for (uint64_t i = 0; i < tokens->n && !s; i++) {
        size_t bytes;
        const char *text = gguf_next_string(&at, &bytes);
        int64_t type = gguf_int_at(types, i);
        if ((type == TOKEN_CONTROL || type == TOKEN_USER_DEFINED) && is_end_mark(text, bytes))
            s = put_end(t, list, (double)i);
    }
    return s;
}

static enum status tell_ends(struct teller *t)
{
    static const char *const keys[] = {"eos_token_id", "eot_token_id", "eom_token_id"};
    char key[KEY_MAX];
    int64_t bos = -1;
    cJSON *list = cJSON_AddArrayToObject(t->to, "eos_token_id");
    if (!list)
        return no_memory(t);
    enum status s = gguf_int(t->g, "tokenizer.ggml.bos_token_id", 0, VOCAB_MAX - 1, &bos, t->c);
    if (!s && bos >= 0)
        s = put_number(t, "bos_token_id", (double)bos);
    for (size_t i = 0; i < ARRAY_LEN(keys) && !s; i++) {
        int64_t id = -1;
        (void)snprintf(key, sizeof(key), "tokenizer.ggml.%s", keys[i]);
        s = gguf_int(t->g, key, 0, VOCAB_MAX - 1, &id, t->c);
        if (!s && id >= 0)
            s = put_end(t, list, (double)id);
    }
    return s ? s : tell_marks(t, list);
}

/* --- the two files --- */

static enum status tell_config(struct teller *t)
{
    char key[KEY_MAX];
    bool window = gguf_find(t->g, arch_key(t, "attention.sliding_window", key)) != NULL;
    cJSON *list = cJSON_AddArrayToObject(t->to, "architectures");
    /* GGUF takes Mistral for a Llama; the window is where they differ. */
    cJSON *name =
        cJSON_CreateString(window && t->arch->windowed ? t->arch->windowed : t->arch->name);
    if (!list || !name || !cJSON_AddItemToArray(list, name)) {
        cJSON_Delete(name);
        return no_memory(t);
    }
    enum status s = refuse_others(t);
    if (!s)
        s = tell_sizes(t);
    if (!s)
        s = check_head(t);
    if (!s)
        s = tell_vocab(t);
    if (!s)
        s = tell_scaling(t);
    return s ? s : tell_ends(t);
}

static enum status tell_generation(struct teller *t)
{
    static const struct {
        const char *key;
        const char *name;
    } rows[] = {
        {"general.sampling.temp", "temperature"},
        {"general.sampling.top_p", "top_p"},
        {"general.sampling.top_k", "top_k"},
        {"general.sampling.penalty_repeat", "repetition_penalty"},
    };
    enum status s = OK;
    for (size_t i = 0; i < ARRAY_LEN(rows) && !s; i++)
        s = tell_number(t, rows[i].key, rows[i].name);
    return s;
}

enum status gguf_config(cJSON **config, cJSON **generation, const struct gguf *g,
                        const struct complaint *c)
{
    struct teller t = {.g = g, .c = c};
    cJSON *first = cJSON_CreateObject();
    cJSON *second = cJSON_CreateObject();
    enum status s = first && second ? read_arch(&t) : complain(c, E_NOMEM, "no memory");
    t.to = first;
    if (!s)
        s = tell_config(&t);
    t.to = second;
    if (!s)
        s = tell_generation(&t);
    if (s) {
        cJSON_Delete(first);
        cJSON_Delete(second);
        return s;
    }
    *config = first;
    *generation = second;
    return OK;
}

uint32_t gguf_head_rows(const struct gguf *g)
{
    char text[256];
    struct complaint c = complaint_in("model", text, sizeof(text));
    struct teller t = {.g = g, .c = &c};
    int64_t head_dim = 0;
    /* config_load() has judged these keys or will; here they only have to be harmless. */
    if (read_arch(&t) || !t.arch->pairs || read_head_dim(&t, &head_dim))
        return 0;
    return head_dim % 2 ? 0 : (uint32_t)head_dim;
}

/* --- names of tensors --- */

static const struct {
    const char *name; /* behind "model.layers.N.", or whole */
    const char *gguf; /* behind "blk.N.", or whole */
} tensor_names[] = {
    {"model.embed_tokens", "token_embd"},
    {"model.norm", "output_norm"},
    {"lm_head", "output"},
    {"input_layernorm", "attn_norm"},
    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},
    {"self_attn.o_proj", "attn_output"},
    {"self_attn.q_norm", "attn_q_norm"},
    {"self_attn.k_norm", "attn_k_norm"},
    {"post_attention_layernorm", "ffn_norm"},
    {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
};

const char *gguf_tensor_name(const char *name, char out[TENSOR_NAME_MAX])
{
    static const char layers[] = "model.layers.";
    const char *rest = name;
    size_t digits = 0;
    if (strncmp(name, layers, strlen(layers)) == 0) {
        rest = name + strlen(layers);
        digits = strspn(rest, "0123456789");
        rest += digits;
        rest += *rest == '.';
    }
    const char *kind = strrchr(rest, '.'); /* ".weight", ".bias" */
    for (size_t i = 0; i < ARRAY_LEN(tensor_names) && kind; i++) {
        size_t n = strlen(tensor_names[i].name);
        if (n != (size_t)(kind - rest) || memcmp(tensor_names[i].name, rest, n) != 0)
            continue;
        (void)snprintf(out, TENSOR_NAME_MAX, "%s%.*s%s%s%s", digits ? "blk." : "", (int)digits,
                       name + strlen(layers) * (digits > 0), digits ? "." : "",
                       tensor_names[i].gguf, kind);
        return out;
    }
    (void)snprintf(out, TENSOR_NAME_MAX, "%s", name);
    return out;
}

#ifndef TESTS_TINY_MODEL_H
#define TESTS_TINY_MODEL_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A model directory made of random numbers, written where a test says: config.json and
 * model.safetensors as the usual tools write them. The same fields and seed give the same
 * bytes on every machine. */

struct tiny {
    int dim;
    int hidden;
    int layers;
    int heads;
    int kv_heads;
    int head_dim;
    int vocab;
    int context;
    bool tied;
    const char *dtype; /* "F32", "F16", "BF16" */
    const char *more;  /* further members of config.json, each with a comma behind; or NULL */
    uint32_t seed;
    const char *arch; /* NULL: LlamaForCausalLM */
    bool qkv_bias;    /* tensors that there are; config.json says nothing of them */
    bool out_bias;
    bool mlp_bias;
    bool qk_norm;
    bool int8; /* compressed-tensors: the products in int8 with scales */
    /* Inputs of all products but o_proj have one value that towers over the rest, and that
     * the product does not look at. */
    bool spiky;
};

enum { TINY_SPIKE_AT = 3 };

static inline float tiny_spiked(const char *name, int row, int col, float value)
{
    if (strstr(name, "layernorm"))
        return row == TINY_SPIKE_AT ? 400.0f : value;
    if (strstr(name, "gate_proj") || strstr(name, "up_proj"))
        value = row == TINY_SPIKE_AT ? value * 32.0f : value;
    return !strstr(name, "o_proj") && strstr(name, "_proj") && col == TINY_SPIKE_AT ? 0.0f : value;
}

struct tiny_file {
    char *header;
    size_t header_bytes;
    char *data;
    size_t data_bytes;
    FILE *header_to;
    FILE *data_to;
    uint32_t state;
    int n;
};

static inline uint32_t tiny_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* Both ways keep eight bits of mantissa, so every type holds the same model. */
static inline float tiny_value(uint32_t *state, float scale, float middle)
{
    union {
        float f;
        uint32_t u;
    } v;
    v.f = middle + scale * ((float)(tiny_random(state) >> 8) / 8388608.0f - 1.0f);
    v.u &= 0xffff0000u;
    return fabsf(v.f) < 0x1p-14f ? 0.0f : v.f;
}

static inline void tiny_put(FILE *to, const char *dtype, float value)
{
    union {
        float f;
        uint32_t u;
    } v = {.f = value};
    uint16_t half = (uint16_t)(v.u >> 16);
    if (strcmp(dtype, "F16") == 0)
        half = (uint16_t)((v.u >> 16 & 0x8000) |
                          (value == 0.0f ? 0 : ((v.u & 0x7fffffff) - 0x38000000) >> 13));
    if (strcmp(dtype, "F32") == 0)
        (void)fwrite(&v.u, sizeof(v.u), 1, to);
    else
        (void)fwrite(&half, sizeof(half), 1, to);
}

enum tiny_kind { TINY_MATRIX, TINY_GAIN, TINY_BIAS };

static inline void tiny_entry(struct tiny_file *f, const char *name, const char *dtype, int rows,
                              int cols, size_t bytes)
{
    char shape[32];
    snprintf(shape, sizeof(shape), cols ? "%d,%d" : "%d", rows, cols);
    fprintf(f->header_to, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
            f->n++ ? "," : "{", name, dtype, shape, f->data_bytes, f->data_bytes + bytes);
}

/* A matrix, or a vector of rows: around 1 as gains are, around 0 as biases are. */
static inline void tiny_tensor(struct tiny_file *f, const struct tiny *t, const char *name,
                               int rows, int cols, enum tiny_kind kind)
{
    size_t n = (size_t)rows * (size_t)(cols ? cols : 1);
    size_t each = strcmp(t->dtype, "F32") == 0 ? 4 : 2;
    float scale = kind == TINY_MATRIX ? 2.0f / sqrtf((float)cols) : 0.25f;
    tiny_entry(f, name, t->dtype, rows, cols, n * each);
    for (size_t i = 0; i < n; i++) {
        float value = tiny_value(&f->state, scale, kind == TINY_GAIN ? 1.0f : 0.0f);
        size_t width = (size_t)(cols ? cols : 1);
        if (t->spiky)
            value = tiny_spiked(name, (int)(i / width), (int)(i % width), value);
        tiny_put(f->data_to, t->dtype, value);
    }
    fflush(f->data_to);
}

/* The same in int8, with the scales of its rows, every other one much smaller. */
static inline void tiny_tensor_q8(struct tiny_file *f, const struct tiny *t, const char *name,
                                  int rows, int cols)
{
    char scale[128];
    size_t n = (size_t)rows * (size_t)cols;
    size_t each = strcmp(t->dtype, "F32") == 0 ? 4 : 2;
    tiny_entry(f, name, "I8", rows, cols, n);
    for (size_t i = 0; i < n; i++)
        fputc((int)(tiny_random(&f->state) % 255) - 127, f->data_to);
    fflush(f->data_to);
    snprintf(scale, sizeof(scale), "%s_scale", name);
    tiny_entry(f, scale, t->dtype, rows, 1, (size_t)rows * each);
    for (int i = 0; i < rows; i++)
        tiny_put(f->data_to, t->dtype, (i % 2 ? 0x1p-6f : 0x1p-7f) / 8);
    fflush(f->data_to);
}

static inline void tiny_layer(struct tiny_file *f, const struct tiny *t, int layer)
{
    int q = t->heads * t->head_dim;
    int kv = t->kv_heads * t->head_dim;
    const struct {
        const char *name;
        int rows;
        int cols;
        enum tiny_kind kind;
        bool there;
    } list[] = {
        {"input_layernorm.weight", t->dim, 0, TINY_GAIN, true},
        {"mlp.down_proj.weight", t->dim, t->hidden, TINY_MATRIX, true},
        {"mlp.gate_proj.weight", t->hidden, t->dim, TINY_MATRIX, true},
        {"mlp.up_proj.weight", t->hidden, t->dim, TINY_MATRIX, true},
        {"post_attention_layernorm.weight", t->dim, 0, TINY_GAIN, true},
        {"self_attn.k_proj.weight", kv, t->dim, TINY_MATRIX, true},
        {"self_attn.o_proj.weight", t->dim, q, TINY_MATRIX, true},
        {"self_attn.q_proj.weight", q, t->dim, TINY_MATRIX, true},
        {"self_attn.v_proj.weight", kv, t->dim, TINY_MATRIX, true},
        {"self_attn.q_proj.bias", q, 0, TINY_BIAS, t->qkv_bias},
        {"self_attn.k_proj.bias", kv, 0, TINY_BIAS, t->qkv_bias},
        {"self_attn.v_proj.bias", kv, 0, TINY_BIAS, t->qkv_bias},
        {"self_attn.o_proj.bias", t->dim, 0, TINY_BIAS, t->out_bias},
        {"mlp.gate_proj.bias", t->hidden, 0, TINY_BIAS, t->mlp_bias},
        {"mlp.up_proj.bias", t->hidden, 0, TINY_BIAS, t->mlp_bias},
        {"mlp.down_proj.bias", t->dim, 0, TINY_BIAS, t->mlp_bias},
        {"self_attn.q_norm.weight", t->head_dim, 0, TINY_GAIN, t->qk_norm},
        {"self_attn.k_norm.weight", t->head_dim, 0, TINY_GAIN, t->qk_norm},
    };
    for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        char name[96];
        snprintf(name, sizeof(name), "model.layers.%d.%s", layer, list[i].name);
        if (list[i].there && t->int8 && list[i].kind == TINY_MATRIX)
            tiny_tensor_q8(f, t, name, list[i].rows, list[i].cols);
        else if (list[i].there)
            tiny_tensor(f, t, name, list[i].rows, list[i].cols, list[i].kind);
    }
}

/* The two parts of the file, apart so that tests can lie about one of them; free() both. */
static inline void tiny_build(const struct tiny *t, struct tiny_file *f)
{
    *f = (struct tiny_file){.state = t->seed ? t->seed : 1};
    f->header_to = open_memstream(&f->header, &f->header_bytes);
    f->data_to = open_memstream(&f->data, &f->data_bytes);
    if (!f->header_to || !f->data_to)
        abort();
    fflush(f->data_to);
    tiny_tensor(f, t, "model.embed_tokens.weight", t->vocab, t->dim, TINY_MATRIX);
    for (int i = 0; i < t->layers; i++)
        tiny_layer(f, t, i);
    tiny_tensor(f, t, "model.norm.weight", t->dim, 0, TINY_GAIN);
    if (!t->tied)
        tiny_tensor(f, t, "lm_head.weight", t->vocab, t->dim, TINY_MATRIX);
    fputs("}", f->header_to);
    fclose(f->header_to);
    fclose(f->data_to);
}

static inline FILE *tiny_create(const char *dir, const char *name)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *to = fopen(path, "wb");
    if (!to)
        abort();
    return to;
}

static inline void tiny_save(const char *dir, const char *name, const void *text, size_t bytes)
{
    FILE *to = tiny_create(dir, name);
    if (fwrite(text, 1, bytes, to) != bytes || fclose(to) != 0)
        abort();
}

static inline void tiny_save_tensors(const char *dir, const char *name, const struct tiny_file *f)
{
    uint64_t n = f->header_bytes;
    FILE *to = tiny_create(dir, name);
    (void)fwrite(&n, sizeof(n), 1, to);
    (void)fwrite(f->header, 1, f->header_bytes, to);
    (void)fwrite(f->data, 1, f->data_bytes, to);
    if (fclose(to) != 0)
        abort();
}

/* As llm-compressor writes it. */
#define TINY_W8A8                                                                                  \
    "\"quantization_config\":{\"config_groups\":{\"group_0\":{\"input_activations\":{"             \
    "\"actorder\":null,\"block_structure\":null,\"dynamic\":true,\"group_size\":null,"             \
    "\"num_bits\":8,\"observer\":null,\"observer_kwargs\":{},\"strategy\":\"token\","              \
    "\"symmetric\":true,\"type\":\"int\"},\"output_activations\":null,\"targets\":[\"Linear\"],"   \
    "\"weights\":{\"actorder\":null,\"block_structure\":null,\"dynamic\":false,"                   \
    "\"group_size\":null,\"num_bits\":8,\"observer\":\"minmax\",\"observer_kwargs\":{},"           \
    "\"strategy\":\"channel\",\"symmetric\":true,\"type\":\"int\"}}},"                             \
    "\"format\":\"int-quantized\",\"global_compression_ratio\":1.5,\"ignore\":[\"lm_head\"],"      \
    "\"kv_cache_scheme\":null,\"quant_method\":\"compressed-tensors\","                            \
    "\"quantization_status\":\"compressed\"},"

static inline void tiny_save_config(const char *dir, const struct tiny *t)
{
    FILE *to = tiny_create(dir, "config.json");
    fprintf(to,
            "{%s%s\"architectures\":[\"%s\"],\"hidden_size\":%d,"
            "\"intermediate_size\":%d,\"num_hidden_layers\":%d,\"num_attention_heads\":%d,"
            "\"num_key_value_heads\":%d,\"head_dim\":%d,\"vocab_size\":%d,"
            "\"max_position_embeddings\":%d,\"rms_norm_eps\":1e-05,\"rope_theta\":10000.0,"
            "\"tie_word_embeddings\":%s,\"bos_token_id\":1,\"eos_token_id\":2}\n",
            t->more ? t->more : "", t->int8 ? TINY_W8A8 : "",
            t->arch ? t->arch : "LlamaForCausalLM", t->dim, t->hidden, t->layers, t->heads,
            t->kv_heads, t->head_dim, t->vocab, t->context, t->tied ? "true" : "false");
    if (fclose(to) != 0)
        abort();
}

static inline void tiny_save_model(const char *dir, const struct tiny *t)
{
    struct tiny_file f;
    tiny_build(t, &f);
    tiny_save_config(dir, t);
    tiny_save_tensors(dir, "model.safetensors", &f);
    free(f.header);
    free(f.data);
}

/* A fresh folder; its path stays valid until tiny_drop(). */
static inline void tiny_dir(char dir[64])
{
    snprintf(dir, 64, "/tmp/tiny-model-XXXXXX");
    if (!mkdtemp(dir))
        abort();
}

static inline void tiny_drop(const char *dir)
{
    static const char *const names[] = {"config.json",       "generation_config.json",
                                        "model.safetensors", "model.safetensors.index.json",
                                        "a.safetensors",     "b.safetensors"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[512];
        snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        (void)unlink(path);
    }
    (void)rmdir(dir);
}

/* A group of tests with one model: *state is its folder. */
static inline int tiny_setup(void **state, const struct tiny *t)
{
    static char dir[64];
    tiny_dir(dir);
    tiny_save_model(dir, t);
    *state = dir;
    return 0;
}

static inline int tiny_teardown(void **state)
{
    tiny_drop(*state);
    return 0;
}

#endif

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
};

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

/* cols 0: a vector of rows around 1, as norm gains are. */
static inline void tiny_tensor(struct tiny_file *f, const struct tiny *t, const char *name,
                               int rows, int cols)
{
    size_t n = (size_t)rows * (size_t)(cols ? cols : 1);
    size_t each = strcmp(t->dtype, "F32") == 0 ? 4 : 2;
    float scale = cols ? 2.0f / sqrtf((float)cols) : 0.25f;
    char shape[32];
    snprintf(shape, sizeof(shape), cols ? "%d,%d" : "%d", rows, cols);
    fprintf(f->header_to, "%s\"%s.weight\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,",
            f->n++ ? "," : "{", name, t->dtype, shape, f->data_bytes);
    for (size_t i = 0; i < n; i++)
        tiny_put(f->data_to, t->dtype, tiny_value(&f->state, scale, cols ? 0.0f : 1.0f));
    fflush(f->data_to);
    fprintf(f->header_to, "%zu]}", f->data_bytes);
    if (f->data_bytes % each)
        abort();
}

static inline void tiny_layer(struct tiny_file *f, const struct tiny *t, int layer)
{
    const struct {
        const char *name;
        int rows;
        int cols;
    } list[] = {
        {"input_layernorm", t->dim, 0},
        {"mlp.down_proj", t->dim, t->hidden},
        {"mlp.gate_proj", t->hidden, t->dim},
        {"mlp.up_proj", t->hidden, t->dim},
        {"post_attention_layernorm", t->dim, 0},
        {"self_attn.k_proj", t->kv_heads * t->head_dim, t->dim},
        {"self_attn.o_proj", t->dim, t->heads * t->head_dim},
        {"self_attn.q_proj", t->heads * t->head_dim, t->dim},
        {"self_attn.v_proj", t->kv_heads * t->head_dim, t->dim},
    };
    for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        char name[96];
        snprintf(name, sizeof(name), "model.layers.%d.%s", layer, list[i].name);
        tiny_tensor(f, t, name, list[i].rows, list[i].cols);
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
    tiny_tensor(f, t, "model.embed_tokens", t->vocab, t->dim);
    for (int i = 0; i < t->layers; i++)
        tiny_layer(f, t, i);
    tiny_tensor(f, t, "model.norm", t->dim, 0);
    if (!t->tied)
        tiny_tensor(f, t, "lm_head", t->vocab, t->dim);
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

static inline void tiny_save_config(const char *dir, const struct tiny *t)
{
    FILE *to = tiny_create(dir, "config.json");
    fprintf(to,
            "{%s\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":%d,"
            "\"intermediate_size\":%d,\"num_hidden_layers\":%d,\"num_attention_heads\":%d,"
            "\"num_key_value_heads\":%d,\"head_dim\":%d,\"vocab_size\":%d,"
            "\"max_position_embeddings\":%d,\"rms_norm_eps\":1e-05,\"rope_theta\":10000.0,"
            "\"tie_word_embeddings\":%s,\"bos_token_id\":1,\"eos_token_id\":2}\n",
            t->more ? t->more : "", t->dim, t->hidden, t->layers, t->heads, t->kv_heads,
            t->head_dim, t->vocab, t->context, t->tied ? "true" : "false");
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

#endif

#ifndef TESTS_GGUF_RIG_H
#define TESTS_GGUF_RIG_H

#include "models/gguf.h"
#include "tests/quant_rig.h"
#include "tests/tiny_model.h"

/* GGUF files made on the spot: a writer of keys and tensors, and a small model of random
 * numbers. What a test lies about is patched into the finished bytes. */

struct gguf_file {
    FILE *keys;
    FILE *infos;
    FILE *data;
    char *text[3]; /* what the three hold */
    size_t bytes[3];
    uint32_t version;
    uint64_t n_keys;
    uint64_t n_tensors;
    uint64_t alignment;
};

static inline void gguf_file_begin(struct gguf_file *f)
{
    *f = (struct gguf_file){.version = 3, .alignment = 32};
    f->keys = open_memstream(&f->text[0], &f->bytes[0]);
    f->infos = open_memstream(&f->text[1], &f->bytes[1]);
    f->data = open_memstream(&f->text[2], &f->bytes[2]);
    if (!f->keys || !f->infos || !f->data)
        abort();
}

static inline void gguf_put(FILE *to, const void *p, size_t bytes)
{
    if (fwrite(p, 1, bytes, to) != bytes)
        abort();
}

static inline void gguf_put_u32(FILE *to, uint32_t v)
{
    gguf_put(to, &v, sizeof(v));
}

static inline void gguf_put_u64(FILE *to, uint64_t v)
{
    gguf_put(to, &v, sizeof(v));
}

static inline void gguf_put_text(FILE *to, const char *text)
{
    gguf_put_u64(to, strlen(text));
    gguf_put(to, text, strlen(text));
}

static inline void gguf_key(struct gguf_file *f, const char *key, enum gguf_type type)
{
    f->n_keys++;
    gguf_put_text(f->keys, key);
    gguf_put_u32(f->keys, type);
}

static inline void gguf_key_u32(struct gguf_file *f, const char *key, uint32_t v)
{
    gguf_key(f, key, GGUF_U32);
    gguf_put_u32(f->keys, v);
}

static inline void gguf_key_f32(struct gguf_file *f, const char *key, float v)
{
    gguf_key(f, key, GGUF_F32);
    gguf_put(f->keys, &v, sizeof(v));
}

static inline void gguf_key_bool(struct gguf_file *f, const char *key, bool v)
{
    uint8_t byte = v;
    gguf_key(f, key, GGUF_BOOL);
    gguf_put(f->keys, &byte, 1);
}

static inline void gguf_key_text(struct gguf_file *f, const char *key, const char *text)
{
    gguf_key(f, key, GGUF_STRING);
    gguf_put_text(f->keys, text);
}

/* The n elements follow. */
static inline void gguf_key_array(struct gguf_file *f, const char *key, enum gguf_type element,
                                  uint64_t n)
{
    gguf_key(f, key, GGUF_ARRAY);
    gguf_put_u32(f->keys, element);
    gguf_put_u64(f->keys, n);
}

/* rows 0: a vector of cols. The numbers as they lie in the file follow in f->data. */
static inline void gguf_info(struct gguf_file *f, const char *name, uint64_t rows, uint64_t cols,
                             uint32_t type)
{
    (void)fflush(f->data);
    while (f->bytes[2] % f->alignment) {
        (void)fputc(0, f->data);
        (void)fflush(f->data);
    }
    f->n_tensors++;
    gguf_put_text(f->infos, name);
    gguf_put_u32(f->infos, rows ? 2 : 1);
    gguf_put_u64(f->infos, cols);
    if (rows)
        gguf_put_u64(f->infos, rows);
    gguf_put_u32(f->infos, type);
    gguf_put_u64(f->infos, f->bytes[2]);
}

static inline const struct quant *quant_named(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(quants); i++) {
        if (strcmp(quants[i].name, name) == 0)
            return &quants[i];
    }
    return NULL;
}

/* Values as a type of quants[], or as F32 for any other. */
static inline void gguf_tensor(struct gguf_file *f, const char *name, uint64_t rows, uint64_t cols,
                               const char *type, const float *x)
{
    const struct quant *q = quant_named(type);
    uint64_t n = (rows ? rows : 1) * cols;
    gguf_info(f, name, rows, cols, q ? q->id : 0);
    if (!q)
        gguf_put(f->data, x, n * sizeof(*x));
    for (uint64_t i = 0; q && i < n; i += (uint64_t)q->values) {
        uint8_t block[QUANT_BYTES_MAX];
        quant_put(q, block, x + i);
        gguf_put(f->data, block, (size_t)q->bytes);
    }
}

/* The whole file, from malloc(); f is gone. */
static inline char *gguf_file_end(struct gguf_file *f, size_t *bytes)
{
    char *all = NULL;
    FILE *to = open_memstream(&all, bytes);
    (void)fclose(f->keys);
    (void)fclose(f->infos);
    (void)fclose(f->data);
    if (!to)
        abort();
    gguf_put(to, "GGUF", 4);
    gguf_put_u32(to, f->version);
    gguf_put_u64(to, f->n_tensors);
    gguf_put_u64(to, f->n_keys);
    gguf_put(to, f->text[0], f->bytes[0]);
    gguf_put(to, f->text[1], f->bytes[1]);
    (void)fflush(to);
    while (f->n_tensors && *bytes % f->alignment) {
        (void)fputc(0, to);
        (void)fflush(to);
    }
    gguf_put(to, f->text[2], f->bytes[2]);
    (void)fclose(to);
    for (int i = 0; i < 3; i++)
        free(f->text[i]);
    return all;
}

/* --- a small model --- */

struct gguf_tiny {
    const char *arch;
    const char *type; /* of what is no vector */
    uint32_t dim;
    uint32_t hidden;
    uint32_t layers;
    uint32_t heads;
    uint32_t kv_heads;
    bool tied;
};

static const struct gguf_tiny gguf_small = {"llama", "Q8_0", 32, 32, 1, 2, 1, false};

static const char *const gguf_small_pieces[] = {
    "<unk>", "<s>", "</s>", "\xe2\x96\x81", "a", "b", "ab", "c", "d", "e", "f", "g",
    "h",     "i",   "j",    "<|im_end|>"};
enum { GGUF_SMALL_VOCAB = ARRAY_LEN(gguf_small_pieces), GGUF_SMALL_CONTEXT = 32 };

static inline void gguf_tiny_keys(struct gguf_file *f, const struct gguf_tiny *t)
{
    const struct {
        const char *key;
        uint32_t value;
    } rows[] = {
        {"block_count", t->layers},
        {"context_length", GGUF_SMALL_CONTEXT},
        {"embedding_length", t->dim},
        {"feed_forward_length", t->hidden},
        {"attention.head_count", t->heads},
        {"attention.head_count_kv", t->kv_heads},
        {"rope.dimension_count", t->dim / t->heads},
    };
    char key[128];
    gguf_key_text(f, "general.architecture", t->arch);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        snprintf(key, sizeof(key), "%s.%s", t->arch, rows[i].key);
        gguf_key_u32(f, key, rows[i].value);
    }
    snprintf(key, sizeof(key), "%s.attention.layer_norm_rms_epsilon", t->arch);
    gguf_key_f32(f, key, 1e-5f);
}

static inline void gguf_tiny_text(struct gguf_file *f)
{
    gguf_key_text(f, "tokenizer.ggml.model", "llama");
    gguf_key_array(f, "tokenizer.ggml.tokens", GGUF_STRING, GGUF_SMALL_VOCAB);
    for (size_t i = 0; i < GGUF_SMALL_VOCAB; i++)
        gguf_put_text(f->keys, gguf_small_pieces[i]);
    gguf_key_array(f, "tokenizer.ggml.scores", GGUF_F32, GGUF_SMALL_VOCAB);
    for (size_t i = 0; i < GGUF_SMALL_VOCAB; i++) {
        float score = -(float)i;
        gguf_put(f->keys, &score, sizeof(score));
    }
    gguf_key_array(f, "tokenizer.ggml.token_type", GGUF_I32, GGUF_SMALL_VOCAB);
    for (size_t i = 0; i < GGUF_SMALL_VOCAB; i++)
        gguf_put_u32(f->keys, i == 0 ? 2 : i < 3 || i + 1 == GGUF_SMALL_VOCAB ? 3 : 1);
    gguf_key_u32(f, "tokenizer.ggml.bos_token_id", 1);
    gguf_key_u32(f, "tokenizer.ggml.eos_token_id", 2);
    gguf_key_u32(f, "tokenizer.ggml.unknown_token_id", 0);
    gguf_key_bool(f, "tokenizer.ggml.add_bos_token", true);
    gguf_key_text(f, "tokenizer.chat_template",
                  "{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}"
                  "{# <<SYS>> bos_token #}");
}

static inline void gguf_random(struct gguf_file *f, const char *name, uint32_t rows, uint32_t cols,
                               const char *type, uint32_t *seed)
{
    size_t n = (size_t)(rows ? rows : 1) * cols;
    float *x = malloc(n * sizeof(*x));
    if (!x)
        abort();
    for (size_t i = 0; i < n; i++)
        x[i] = tiny_value(seed, rows ? 2.0f / sqrtf((float)cols) : 0.25f, rows ? 0.0f : 1.0f);
    gguf_tensor(f, name, rows, cols, rows ? type : "F32", x);
    free(x);
}

static inline void gguf_tiny_tensors(struct gguf_file *f, const struct gguf_tiny *t)
{
    uint32_t seed = 5;
    uint32_t kv = t->dim / t->heads * t->kv_heads;
    const struct {
        const char *name;
        uint32_t rows;
        uint32_t cols;
    } list[] = {
        {"attn_norm", 0, t->dim},        {"attn_q", t->dim, t->dim},
        {"attn_k", kv, t->dim},          {"attn_v", kv, t->dim},
        {"attn_output", t->dim, t->dim}, {"ffn_norm", 0, t->dim},
        {"ffn_gate", t->hidden, t->dim}, {"ffn_up", t->hidden, t->dim},
        {"ffn_down", t->dim, t->hidden},
    };
    gguf_random(f, "token_embd.weight", GGUF_SMALL_VOCAB, t->dim, t->type, &seed);
    for (uint32_t layer = 0; layer < t->layers; layer++) {
        for (size_t i = 0; i < ARRAY_LEN(list); i++) {
            char name[64];
            snprintf(name, sizeof(name), "blk.%u.%s.weight", layer, list[i].name);
            gguf_random(f, name, list[i].rows, list[i].cols, t->type, &seed);
        }
    }
    gguf_random(f, "output_norm.weight", 0, t->dim, t->type, &seed);
    if (!t->tied)
        gguf_random(f, "output.weight", GGUF_SMALL_VOCAB, t->dim, t->type, &seed);
}

static inline char *gguf_tiny_build(const struct gguf_tiny *t, size_t *bytes)
{
    struct gguf_file f;
    gguf_file_begin(&f);
    gguf_tiny_keys(&f, t);
    gguf_tiny_text(&f);
    gguf_tiny_tensors(&f, t);
    return gguf_file_end(&f, bytes);
}

#endif

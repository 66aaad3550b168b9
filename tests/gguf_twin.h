#ifndef TESTS_GGUF_TWIN_H
#define TESTS_GGUF_TWIN_H

#include "models/config.h"
#include "models/load.h"
#include "tests/gguf_rig.h"
#include "tests/model_rig.h"

/* A GGUF file with the model of a directory in it, as the usual converter writes it: names,
 * keys and the order of rows by architecture. */

/* Relative RMS errors of the weights, gathered. */
struct errors {
    double power;
    double stored; /* of the blocks, against the checkpoint */
    double added;  /* of int8 rows, against the blocks */
};

/* One row to the file, and what was lost on the way. */
static inline void put_row(struct gguf_file *f, struct errors *e, const struct quant *q,
                           const float *x, size_t cols)
{
    float *got = malloc(cols * sizeof(*got));
    int8_t *row = malloc(cols);
    float scale;
    assert_true(got && row);
    for (size_t i = 0; i < cols; i += (size_t)q->values) {
        uint8_t block[QUANT_BYTES_MAX];
        quant_put(q, block, x + i);
        gguf_put(f->data, block, (size_t)q->bytes);
        assert_true(dtype_info(q->dtype)->widen(got + i, block, (size_t)q->values));
    }
    quantize_row(row, &scale, got, (int32_t)cols);
    for (size_t i = 0; i < cols; i++) {
        double stored = (double)got[i] - (double)x[i];
        double added = (double)scale * row[i] - (double)got[i];
        e->power += (double)x[i] * (double)x[i];
        e->stored += stored * stored;
        e->added += added * added;
    }
    free(row);
    free(got);
}

static inline float *read_tensor(const struct weights *w, const char *name, size_t *rows,
                                 size_t *cols)
{
    const struct tensor *t = weights_find(w, name);
    if (!t)
        fail_msg("no tensor %s", name);
    *rows = t->rank > 1 ? (size_t)t->dim[0] : 0;
    *cols = (size_t)(t->rank > 1 ? t->dim[1] : t->dim[0]);
    size_t n = (*rows ? *rows : 1) * *cols;
    void *raw = malloc(t->bytes);
    float *x = malloc(n * sizeof(*x));
    assert_true(raw && x);
    assert_int_equal(weights_read(w, t, 0, raw, (size_t)t->bytes), OK);
    assert_true(dtype_info((enum dtype)t->dtype)->widen(x, raw, n));
    free(raw);
    return x;
}

/* As the usual converter does: rows i and i + half of a head become 2i and 2i + 1. */
static inline void interleave(float *x, size_t rows, size_t cols, size_t head_dim)
{
    float *copy = malloc(rows * cols * sizeof(*copy));
    assert_non_null(copy);
    memcpy(copy, x, rows * cols * sizeof(*copy));
    for (size_t r = 0; r < rows; r++) {
        size_t in = r % head_dim;
        size_t half = head_dim / 2;
        size_t to = r - in + (in < half ? 2 * in : 2 * (in - half) + 1);
        memcpy(x + to * cols, copy + r * cols, cols * sizeof(*x));
    }
    free(copy);
}

struct twin {
    struct gguf_file f;
    struct weights *w;
    const struct quant *q;
    struct errors *e;
    size_t head_dim; /* of rows that change places; 0: none do */
};

/* Nothing, when the checkpoint has none of that name. */
static inline void put_tensor(struct twin *t, const char *name)
{
    char spelled[TENSOR_NAME_MAX];
    size_t rows;
    size_t cols;
    if (!weights_find(t->w, name))
        return;
    float *x = read_tensor(t->w, name, &rows, &cols);
    (void)gguf_tensor_name(name, spelled);
    if (t->head_dim && rows && (strstr(name, "q_proj") || strstr(name, "k_proj")))
        interleave(x, rows, cols, t->head_dim);
    if (!t->q || !rows) {
        gguf_tensor(&t->f, spelled, rows, cols, "F32", x);
        free(x);
        return;
    }
    gguf_info(&t->f, spelled, rows, cols, t->q->id);
    for (size_t r = 0; r < rows; r++)
        put_row(&t->f, t->e, t->q, x + r * cols, cols);
    free(x);
}

/* What llama3's scaling does to each frequency, as divisors. */
static inline void put_divisors(struct gguf_file *f, const struct config *c)
{
    float scaled[HEAD_DIM_MAX / 2];
    float plain[HEAD_DIM_MAX / 2];
    struct rope r = c->rope;
    rope_frequencies(&r, c->info.head_dim, scaled);
    r.kind = ROPE_PLAIN;
    rope_frequencies(&r, c->info.head_dim, plain);
    for (int i = 0; i < c->info.head_dim / 2; i++)
        plain[i] /= scaled[i];
    gguf_tensor(f, "rope_freqs.weight", 0, (uint64_t)c->info.head_dim / 2, "F32", plain);
}

/* What the usual converter writes for each architecture. */
static const struct twin_arch {
    const char *name;
    const char *gguf;
    bool interleaved;
} twin_archs[] = {
    {"LlamaForCausalLM", "llama", true},
    {"MistralForCausalLM", "llama", true},
    {"Qwen2ForCausalLM", "qwen2", false},
    {"Qwen3ForCausalLM", "qwen3", false},
};

static inline const struct twin_arch *twin_arch(const struct config *c)
{
    const struct twin_arch *a = twin_archs;
    while (strcmp(a->name, c->info.arch) != 0)
        a++;
    return a;
}

static inline void put_rope(struct gguf_file *f, const struct config *c, const char *arch)
{
    const struct rope *r = &c->rope;
    char key[96];
    snprintf(key, sizeof(key), "%s.rope.freq_base", arch);
    gguf_key_f32(f, key, (float)r->theta);
    if (r->kind != ROPE_LINEAR && r->kind != ROPE_YARN)
        return;
    snprintf(key, sizeof(key), "%s.rope.scaling.type", arch);
    gguf_key_text(f, key, r->kind == ROPE_YARN ? "yarn" : "linear");
    snprintf(key, sizeof(key), "%s.rope.scaling.factor", arch);
    gguf_key_f32(f, key, (float)r->factor);
    snprintf(key, sizeof(key), "%s.rope.scaling.original_context_length", arch);
    if (r->kind != ROPE_YARN)
        return;
    gguf_key_u32(f, key, (uint32_t)r->context);
    snprintf(key, sizeof(key), "%s.rope.scaling.attn_factor", arch);
    gguf_key_f32(f, key, (float)(r->attention / (1 + 0.1 * log(r->factor))));
}

static inline void put_keys(struct gguf_file *f, const struct config *c)
{
    const struct model_info *i = &c->info;
    const char *arch = twin_arch(c)->gguf;
    const struct {
        const char *key;
        int32_t value;
    } rows[] = {
        {"block_count", i->n_layers},
        {"context_length", i->context_max},
        {"embedding_length", i->dim},
        {"feed_forward_length", i->hidden},
        {"attention.head_count", i->n_heads},
        {"attention.head_count_kv", i->n_kv_heads},
        {"attention.key_length", i->head_dim},
        {"attention.value_length", i->head_dim},
        {"attention.sliding_window", c->window},
        {"vocab_size", i->vocab},
    };
    char key[96];
    gguf_key_text(f, "general.architecture", arch);
    for (size_t r = 0; r < ARRAY_LEN(rows); r++) {
        snprintf(key, sizeof(key), "%s.%s", arch, rows[r].key);
        if (rows[r].value)
            gguf_key_u32(f, key, (uint32_t)rows[r].value);
    }
    snprintf(key, sizeof(key), "%s.attention.layer_norm_rms_epsilon", arch);
    gguf_key_f32(f, key, c->eps);
    put_rope(f, c, arch);
}

/* Writes the twin of a directory; q NULL: in F32. e may be NULL when q is. */
static inline void save_twin(const char *path, const char *from, const struct quant *q,
                             struct errors *e)
{
    static const char *const parts[] = {
        "input_layernorm.weight",  "self_attn.q_proj.weight", "self_attn.k_proj.weight",
        "self_attn.v_proj.weight", "self_attn.o_proj.weight", "post_attention_layernorm.weight",
        "mlp.gate_proj.weight",    "mlp.up_proj.weight",      "mlp.down_proj.weight",
        "self_attn.q_proj.bias",   "self_attn.k_proj.bias",   "self_attn.v_proj.bias",
        "self_attn.q_norm.weight", "self_attn.k_norm.weight"};
    static const char *const beside[] = {"model.embed_tokens.weight", "model.norm.weight",
                                         "lm_head.weight"};
    struct config c;
    struct twin t = {.q = q, .e = e};
    char err[256] = "";
    size_t bytes;
    if (config_load(&c, from, err, sizeof(err)) || weights_open(&t.w, from, err, sizeof(err)))
        fail_msg("%s", err);
    gguf_file_begin(&t.f);
    put_keys(&t.f, &c);
    t.head_dim = twin_arch(&c)->interleaved ? (size_t)c.info.head_dim : 0;
    for (size_t i = 0; i < ARRAY_LEN(beside); i++)
        put_tensor(&t, beside[i]);
    for (int i = 0; i < c.info.n_layers; i++) {
        for (size_t p = 0; p < ARRAY_LEN(parts); p++) {
            char name[TENSOR_NAME_MAX];
            snprintf(name, sizeof(name), "model.layers.%d.%s", i, parts[p]);
            put_tensor(&t, name);
        }
    }
    if (c.rope.kind == ROPE_LLAMA3)
        put_divisors(&t.f, &c);
    weights_close(t.w);
    char *file = gguf_file_end(&t.f, &bytes);
    FILE *to = fopen(path, "wb");
    if (!to || fwrite(file, 1, bytes, to) != bytes || fclose(to) != 0)
        fail_msg("%s: cannot be written", path);
    free(file);
}

#endif

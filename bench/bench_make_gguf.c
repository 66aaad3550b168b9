/* Writes a directory of bench_make_model, made with words ("-"), as a GGUF file in Q8_0: the same
 * numbers for servers that read that.
 *
 *     bench_make_gguf DIR NEW.gguf
 *
 * The file is metadata, a list of tensors, and their data in the same order; what GGUF calls a
 * thing is asked of the reader of GGUF. Rows of q and k alternate between the halves of a head
 * there, so they are written in that order. */
#include "bench/usage.h"
#include "bench/words.h"
#include "models/config.h"
#include "models/gguf.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    VERSION = 3,
    ALIGNMENT = 32,
    FILE_TYPE_Q8_0 = 7,
    TYPE_F32 = 0, /* as the list of tensors numbers them */
    TYPE_Q8_0 = 8,
    Q8_BLOCK = 32,
    Q8_BLOCK_BYTES = 34,
    ENTRIES_MAX = 16384,
};

struct entry {
    char name[TENSOR_NAME_MAX]; /* Hugging Face's */
    const struct tensor *from;
    int32_t heads; /* whose rows alternate; 0: rows stay in order */
};

struct job {
    struct config config;
    struct weights *weights;
    struct entry entry[ENTRIES_MAX];
    int n;
    FILE *to;
    uint64_t n_keys;
};

static void fail(const char *what)
{
    (void)fprintf(stderr, "bench_make_gguf: %s\n", what);
    exit(1);
}

/* ---- values ---- */

static void put(struct job *j, const void *p, size_t bytes)
{
    if (fwrite(p, 1, bytes, j->to) != bytes)
        fail(strerror(errno));
}

static void put_u32(struct job *j, uint32_t v)
{
    put(j, &v, sizeof(v));
}

static void put_u64(struct job *j, uint64_t v)
{
    put(j, &v, sizeof(v));
}

static void put_text(struct job *j, const char *text)
{
    put_u64(j, strlen(text));
    put(j, text, strlen(text));
}

static void put_key(struct job *j, const char *key, enum gguf_type type)
{
    j->n_keys++;
    put_text(j, key);
    put_u32(j, type);
}

static void put_number(struct job *j, const char *key, int64_t v)
{
    put_key(j, key, GGUF_U32);
    put_u32(j, (uint32_t)v);
}

static void put_float(struct job *j, const char *key, float v)
{
    put_key(j, key, GGUF_F32);
    put(j, &v, sizeof(v));
}

static void put_array(struct job *j, const char *key, enum gguf_type element)
{
    put_key(j, key, GGUF_ARRAY);
    put_u32(j, element);
    put_u64(j, (uint64_t)j->config.info.vocab);
}

static void put_words(struct job *j)
{
    int32_t n = j->config.info.vocab;
    put_array(j, "tokenizer.ggml.tokens", GGUF_STRING);
    for (int32_t i = 0; i < n; i++)
        put_text(j, word_at(i).text);
    put_array(j, "tokenizer.ggml.scores", GGUF_F32);
    for (int32_t i = 0; i < n; i++) {
        float score = word_at(i).score;
        put(j, &score, sizeof(score));
    }
    put_array(j, "tokenizer.ggml.token_type", GGUF_I32);
    for (int32_t i = 0; i < n; i++)
        put_u32(j, (uint32_t)word_at(i).kind);
}

static void put_metadata(struct job *j)
{
    const struct model_info *m = &j->config.info;
    put_key(j, "general.architecture", GGUF_STRING);
    put_text(j, "llama");
    put_number(j, "general.file_type", FILE_TYPE_Q8_0);
    put_number(j, "llama.block_count", m->n_layers);
    put_number(j, "llama.context_length", m->context_max);
    put_number(j, "llama.embedding_length", m->dim);
    put_number(j, "llama.feed_forward_length", m->hidden);
    put_number(j, "llama.attention.head_count", m->n_heads);
    put_number(j, "llama.attention.head_count_kv", m->n_kv_heads);
    put_number(j, "llama.rope.dimension_count", m->head_dim);
    put_number(j, "llama.vocab_size", m->vocab);
    put_float(j, "llama.attention.layer_norm_rms_epsilon", j->config.eps);
    put_float(j, "llama.rope.freq_base", (float)j->config.rope.theta);
    put_key(j, "tokenizer.ggml.model", GGUF_STRING);
    put_text(j, "llama");
    put_words(j);
    put_number(j, "tokenizer.ggml.bos_token_id", 1);
    put_number(j, "tokenizer.ggml.eos_token_id", 2);
    put_number(j, "tokenizer.ggml.unknown_token_id", 0);
}

/* ---- tensors ---- */

static void add(struct job *j, const char *name, int32_t heads)
{
    char full[TENSOR_NAME_MAX];
    (void)snprintf(full, sizeof(full), "%s.weight", name);
    if (j->n == ENTRIES_MAX)
        fail("too many tensors");
    struct entry *e = &j->entry[j->n++];
    memcpy(e->name, full, sizeof(full));
    e->heads = heads;
    e->from = weights_find(j->weights, full);
    if (!e->from || e->from->rank < 1 || e->from->rank > 2)
        fail(full);
}

static void list_tensors(struct job *j)
{
    const struct model_info *m = &j->config.info;
    const struct {
        const char *name;
        int32_t heads;
    } parts[] = {
        {"input_layernorm", 0},
        {"self_attn.q_proj", m->n_heads},
        {"self_attn.k_proj", m->n_kv_heads},
        {"self_attn.v_proj", 0},
        {"self_attn.o_proj", 0},
        {"post_attention_layernorm", 0},
        {"mlp.gate_proj", 0},
        {"mlp.up_proj", 0},
        {"mlp.down_proj", 0},
    };
    add(j, "model.embed_tokens", 0);
    for (int32_t i = 0; i < m->n_layers; i++) {
        for (size_t p = 0; p < ARRAY_LEN(parts); p++) {
            char name[TENSOR_NAME_MAX];
            (void)snprintf(name, sizeof(name), "model.layers.%d.%s", i, parts[p].name);
            add(j, name, parts[p].heads);
        }
    }
    add(j, "model.norm", 0);
    add(j, "lm_head", 0);
}

static size_t columns(const struct tensor *t)
{
    return (size_t)t->dim[t->rank - 1];
}

static size_t rows(const struct tensor *t)
{
    return t->rank == 2 ? (size_t)t->dim[0] : 1;
}

static size_t data_bytes(const struct tensor *t)
{
    return t->rank == 1 ? columns(t) * sizeof(float)
                        : rows(t) * columns(t) / Q8_BLOCK * Q8_BLOCK_BYTES;
}

static uint64_t aligned(uint64_t at)
{
    return (at + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static void put_list(struct job *j)
{
    uint64_t at = 0;
    for (int i = 0; i < j->n; i++) {
        const struct tensor *t = j->entry[i].from;
        char name[TENSOR_NAME_MAX];
        put_text(j, gguf_tensor_name(j->entry[i].name, name));
        put_u32(j, t->rank);
        put_u64(j, columns(t));
        if (t->rank == 2)
            put_u64(j, rows(t));
        put_u32(j, t->rank == 2 ? TYPE_Q8_0 : TYPE_F32);
        put_u64(j, at);
        at = aligned(at + data_bytes(t));
    }
}

/* Of a scale: not negative, far below the largest half. Rounds to nearest even. */
static uint16_t half_of(float x)
{
    enum { BIAS = 14, MANTISSA_BITS = 10 };
    int exponent;
    float mantissa = frexpf(x, &exponent);
    if (exponent + BIAS <= 0)
        return (uint16_t)lrintf(ldexpf(x, BIAS + MANTISSA_BITS));
    long below = lrintf(ldexpf(2.0f * mantissa - 1.0f, MANTISSA_BITS));
    return (uint16_t)(((long)(exponent + BIAS) << MANTISSA_BITS) + below);
}

static void put_q8_row(struct job *j, const float *x, size_t n)
{
    for (size_t at = 0; at < n; at += Q8_BLOCK) {
        int8_t q[Q8_BLOCK];
        float most = 0.0f;
        for (size_t i = 0; i < Q8_BLOCK; i++)
            most = fmaxf(most, fabsf(x[at + i]));
        float inverse = most > 0.0f ? 127.0f / most : 0.0f;
        for (size_t i = 0; i < Q8_BLOCK; i++)
            q[i] = (int8_t)lrintf(x[at + i] * inverse);
        uint16_t scale = half_of(most / 127.0f);
        put(j, &scale, sizeof(scale));
        put(j, q, sizeof(q));
    }
}

/* Row `row` of the file is this row of the checkpoint. */
static size_t source_row(const struct entry *e, size_t row)
{
    if (e->heads == 0)
        return row;
    size_t each = rows(e->from) / (size_t)e->heads;
    size_t within = row % each;
    return row - within + within % 2 * (each / 2) + within / 2;
}

static void put_data(struct job *j, const struct entry *e)
{
    const struct tensor *t = e->from;
    const struct dtype_info *type = dtype_info((enum dtype)t->dtype);
    uint64_t row_bytes;
    if (!dtype_bytes((enum dtype)t->dtype, columns(t), &row_bytes))
        fail("a type of numbers that is not read here");
    float *x = malloc(columns(t) * sizeof(*x));
    char *raw = malloc(row_bytes);
    if (!x || !raw)
        fail(strerror(ENOMEM));
    for (size_t row = 0; row < rows(t); row++) {
        if (weights_read(j->weights, t, source_row(e, row) * row_bytes, raw, row_bytes) ||
            !type->widen(x, raw, columns(t)))
            fail(e->name);
        if (t->rank == 2)
            put_q8_row(j, x, columns(t));
        else
            put(j, x, columns(t) * sizeof(*x));
    }
    free(x);
    free(raw);
}

static void pad(struct job *j)
{
    static const char zeros[ALIGNMENT];
    long at = ftell(j->to);
    if (at < 0)
        fail(strerror(errno));
    put(j, zeros, aligned((uint64_t)at) - (uint64_t)at);
}

static void write_file(struct job *j)
{
    enum { KEYS_AT = 16 };
    put(j, "GGUF", 4);
    put_u32(j, VERSION);
    put_u64(j, (uint64_t)j->n);
    put_u64(j, 0); /* how many keys, known below */
    put_metadata(j);
    put_list(j);
    pad(j);
    for (int i = 0; i < j->n; i++) {
        put_data(j, &j->entry[i]);
        pad(j);
    }
    if (fseek(j->to, KEYS_AT, SEEK_SET) != 0)
        fail(strerror(errno));
    put_u64(j, j->n_keys);
}

static const char usage_text[] = "bench_make_gguf DIR NEW.gguf: a folder of bench_make_model, made "
                                 "with \"-\", as GGUF in Q8_0\n";

int main(int argc, char **argv)
{
    static struct job job;
    char err[512];
    usage_if_asked(argc, argv, usage_text);
    if (argc != 3)
        return (void)fputs(usage_text, stderr), 2;
    if (config_load(&job.config, argv[1], err, sizeof(err)) ||
        weights_open(&job.weights, argv[1], err, sizeof(err)))
        fail(err);
    list_tensors(&job);
    job.to = fopen(argv[2], "wbx");
    if (!job.to)
        fail(strerror(errno));
    write_file(&job);
    if (fclose(job.to) != 0)
        fail(strerror(errno));
    weights_close(job.weights);
    return 0;
}

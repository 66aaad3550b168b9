/* Writes a model of a real one's shape, made of random numbers, as a Hugging Face directory in
 * bf16: what loading costs does not depend on what the weights say. The same shape and seed
 * give the same bytes. The tokenizer's files are copied from another model, or, for "-", made of
 * words that say nothing, one for each of the shape's tokens: what a server draws then has text. */
#include "bench/usage.h"
#include "bench/words.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct shape {
    const char *name;
    int dim;
    int hidden;
    int layers;
    int heads;
    int kv_heads;
    int vocab;
    int context;
};

static const struct shape shapes[] = {
    {"tinyllama", 2048, 5632, 22, 32, 4, 32000, 2048},
    {"llama-2-7b", 4096, 11008, 32, 32, 32, 32000, 4096},
    {"llama-3-8b", 4096, 14336, 32, 32, 8, 128256, 8192},
    {"small", 512, 1536, 8, 8, 2, 8192, 4096},
};

enum { BLOCK = 1 << 20, NAME_MAX_BYTES = 96, TENSORS_MAX = 1024 };

struct entry {
    char name[NAME_MAX_BYTES];
    int rows;
    int cols; /* 0: a vector of gains */
};

struct list {
    struct entry entry[TENSORS_MAX];
    int n;
};

static void add(struct list *l, const char *name, int rows, int cols)
{
    struct entry *e = &l->entry[l->n++];
    snprintf(e->name, sizeof(e->name), "%s.weight", name);
    e->rows = rows;
    e->cols = cols;
}

static void list_tensors(struct list *l, const struct shape *s)
{
    int kv = s->dim / s->heads * s->kv_heads;
    const struct {
        const char *name;
        int rows;
        int cols;
    } parts[] = {
        {"input_layernorm", s->dim, 0},       {"self_attn.q_proj", s->dim, s->dim},
        {"self_attn.k_proj", kv, s->dim},     {"self_attn.v_proj", kv, s->dim},
        {"self_attn.o_proj", s->dim, s->dim}, {"post_attention_layernorm", s->dim, 0},
        {"mlp.gate_proj", s->hidden, s->dim}, {"mlp.up_proj", s->hidden, s->dim},
        {"mlp.down_proj", s->dim, s->hidden},
    };
    add(l, "model.embed_tokens", s->vocab, s->dim);
    for (int i = 0; i < s->layers; i++) {
        for (size_t p = 0; p < sizeof(parts) / sizeof(parts[0]); p++) {
            char name[NAME_MAX_BYTES - 8];
            snprintf(name, sizeof(name), "model.layers.%d.%s", i, parts[p].name);
            add(l, name, parts[p].rows, parts[p].cols);
        }
    }
    add(l, "model.norm", s->dim, 0);
    add(l, "lm_head", s->vocab, s->dim);
}

static size_t values_of(const struct entry *e)
{
    return (size_t)e->rows * (size_t)(e->cols ? e->cols : 1);
}

static FILE *create(const char *dir, const char *name)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *to = fopen(path, "wb");
    if (!to) {
        fprintf(stderr, "bench_make_model: %s: %s\n", path, strerror(errno));
        exit(1);
    }
    return to;
}

static void finish(FILE *to)
{
    if (ferror(to) || fclose(to) != 0) {
        fprintf(stderr, "bench_make_model: cannot write: %s\n", strerror(errno));
        exit(1);
    }
}

static void write_header(FILE *to, const struct list *l)
{
    char *text = NULL;
    size_t bytes = 0;
    uint64_t at = 0;
    FILE *header = open_memstream(&text, &bytes);
    if (!header)
        exit(1);
    for (int i = 0; i < l->n; i++) {
        const struct entry *e = &l->entry[i];
        uint64_t size = 2 * values_of(e);
        fprintf(header, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[%d", i ? "," : "{", e->name,
                e->rows);
        if (e->cols)
            fprintf(header, ",%d", e->cols);
        fprintf(header, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", at, at + size);
        at += size;
    }
    fprintf(header, "}");
    fclose(header);
    uint64_t length = (bytes + 7) / 8 * 8;
    fwrite(&length, sizeof(length), 1, to);
    fwrite(text, 1, bytes, to);
    fprintf(to, "%*s", (int)(length - bytes), "");
    free(text);
}

static uint64_t next(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545F4914F6CDD1Du;
}

/* The sum of four uniform numbers is bell-shaped enough; what it stands for is chosen by the
 * tensor, which scales by a power of two. */
static void fill_block(uint16_t *block, uint64_t *state)
{
    for (size_t i = 0; i < BLOCK; i++) {
        uint64_t r = next(state);
        float sum = 0;
        for (int k = 0; k < 4; k++)
            sum += (float)(r >> (16 * k) & 0xffff) / 32768.0f - 1.0f;
        union {
            float f;
            uint32_t u;
        } v = {.f = sum};
        block[i] = (uint16_t)(v.u >> 16);
    }
}

/* Random numbers once, and pieces of them from random places for each tensor. */
static void write_values(FILE *to, const struct entry *e, const uint16_t *block, uint64_t *state)
{
    enum { PIECE = BLOCK / 4 };
    uint16_t *out = malloc(PIECE * sizeof(*out));
    uint16_t down = (uint16_t)(e->cols ? (int)lroundf(log2f((float)e->cols) / 2) << 7 : 0);
    if (!out)
        exit(1);
    for (size_t left = values_of(e); left > 0;) {
        size_t n = left < PIECE ? left : PIECE;
        const uint16_t *from = block + next(state) % (BLOCK - PIECE);
        for (size_t i = 0; i < n; i++) {
            uint16_t small = (from[i] & 0x7f80) > down ? (uint16_t)(from[i] - down) : 0;
            out[i] = e->cols ? small : 0x3f80; /* a gain of one */
        }
        fwrite(out, sizeof(*out), n, to);
        left -= n;
    }
    free(out);
}

static void write_config(const char *dir, const struct shape *s)
{
    FILE *to = create(dir, "config.json");
    fprintf(to,
            "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":%d,"
            "\"intermediate_size\":%d,\"num_hidden_layers\":%d,\"num_attention_heads\":%d,"
            "\"num_key_value_heads\":%d,\"vocab_size\":%d,\"max_position_embeddings\":%d,"
            "\"rms_norm_eps\":1e-05,\"rope_theta\":10000.0,\"tie_word_embeddings\":false,"
            "\"torch_dtype\":\"bfloat16\",\"bos_token_id\":1,\"eos_token_id\":2}\n",
            s->dim, s->hidden, s->layers, s->heads, s->kv_heads, s->vocab, s->context);
    finish(to);
}

static void copy(const char *from, const char *dir, const char *name)
{
    char path[4096];
    static char piece[65536];
    snprintf(path, sizeof(path), "%s/%s", from, name);
    FILE *in = fopen(path, "rb");
    if (!in)
        return;
    FILE *to = create(dir, name);
    for (size_t n; (n = fread(piece, 1, sizeof(piece), in)) > 0;)
        fwrite(piece, 1, n, to);
    fclose(in);
    finish(to);
}

/* One piece of a SentencePiece model: its text, its score, its type. */
static void put_piece(FILE *to, const struct word *w)
{
    enum { FIELD_PIECE = 0x0a, FIELD_TEXT = 0x0a, FIELD_SCORE = 0x15, FIELD_TYPE = 0x18 };
    int bytes = (int)strlen(w->text);
    fprintf(to, "%c%c%c%c%s%c", FIELD_PIECE, bytes + 9, FIELD_TEXT, bytes, w->text, FIELD_SCORE);
    fwrite(&w->score, sizeof(w->score), 1, to);
    fprintf(to, "%c%c", FIELD_TYPE, w->kind);
}

static void write_words(const char *dir, const struct shape *s)
{
    FILE *to = create(dir, "tokenizer.model");
    for (int i = 0; i < s->vocab; i++) {
        struct word w = word_at(i);
        put_piece(to, &w);
    }
    fwrite("\x12\x02\x18\x02", 1, 4, to); /* trained as BPE */
    finish(to);
}

static const char usage_text[] =
    "bench_make_model tinyllama|llama-2-7b|llama-3-8b|small TOKENIZER_DIR|- NEW_DIR\n"
    "  a model of that shape, of random numbers in bf16; the tokenizer is another model's, or "
    "words\n";

int main(int argc, char **argv)
{
    static const char *const texts[] = {"tokenizer.json", "tokenizer.model",
                                        "tokenizer_config.json", "special_tokens_map.json"};
    static struct list list;
    const struct shape *shape = NULL;
    usage_if_asked(argc, argv, usage_text);
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]) && argc == 4; i++)
        shape = strcmp(argv[1], shapes[i].name) == 0 ? &shapes[i] : shape;
    if (!shape) {
        (void)fputs(usage_text, stderr);
        return 2;
    }
    if (mkdir(argv[3], 0777) != 0) {
        fprintf(stderr, "bench_make_model: %s: %s\n", argv[3], strerror(errno));
        return 1;
    }
    uint16_t *block = malloc(BLOCK * sizeof(*block));
    uint64_t state = 88172645463325252u;
    if (!block)
        return 1;
    fill_block(block, &state);
    list_tensors(&list, shape);
    FILE *to = create(argv[3], "model.safetensors");
    write_header(to, &list);
    for (int i = 0; i < list.n; i++)
        write_values(to, &list.entry[i], block, &state);
    finish(to);
    write_config(argv[3], shape);
    bool words = strcmp(argv[2], "-") == 0;
    if (words)
        write_words(argv[3], shape);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]) && !words; i++)
        copy(argv[2], argv[3], texts[i]);
    free(block);
    return 0;
}

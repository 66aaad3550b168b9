/* Aim: a trained model quantized to every block type still says nearly what it said, and int8
 * rows made of those blocks add little to that. The figures are printed; models/NOTES.md has
 * them in a table.
 *
 * Negative space: rows of 256 and 768 values, a tied head, rows of q and k in the order of
 * GGUF, frequencies scaled by a tensor of divisors. Wording is not judged: at this size four
 * bits are coarse. */
#include "models/config.h"
#include "models/load.h"
#include "tests/gguf_rig.h"
#include "tests/golden_rig.h"

static const char source_model[] = "shakespeare4M-llama3/hf-bf16";
static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    tiny_dir(folder);
    return 0;
}

static int remove_folder(void **state)
{
    char path[128];
    (void)state;
    snprintf(path, sizeof(path), "%s/x.gguf", folder);
    (void)unlink(path);
    return rmdir(folder);
}

/* Relative RMS errors of the weights, gathered. */
struct errors {
    double power;
    double stored; /* of the blocks, against the checkpoint */
    double added;  /* of int8 rows, against the blocks */
};

/* One row to the file, and what was lost on the way. */
static void put_row(struct gguf_file *f, struct errors *e, const struct quant *q, const float *x,
                    size_t cols)
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

static float *read_tensor(const struct weights *w, const char *name, size_t *rows, size_t *cols)
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
static void interleave(float *x, size_t rows, size_t cols, size_t head_dim)
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

static void put_tensor(struct gguf_file *f, const struct weights *w, const char *name,
                       const struct quant *q, size_t head_dim, struct errors *e)
{
    char spelled[TENSOR_NAME_MAX];
    size_t rows;
    size_t cols;
    float *x = read_tensor(w, name, &rows, &cols);
    (void)gguf_tensor_name(name, spelled);
    if (strstr(name, "q_proj") || strstr(name, "k_proj"))
        interleave(x, rows, cols, head_dim);
    if (rows)
        gguf_info(f, spelled, rows, cols, q->id);
    else
        gguf_tensor(f, spelled, 0, cols, "F32", x);
    for (size_t r = 0; r < rows; r++)
        put_row(f, e, q, x + r * cols, cols);
    free(x);
}

/* What llama3's scaling does to each frequency, as divisors. */
static void put_divisors(struct gguf_file *f, const struct config *c)
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

static void put_keys(struct gguf_file *f, const struct config *c)
{
    const struct model_info *i = &c->info;
    gguf_key_text(f, "general.architecture", "llama");
    gguf_key_u32(f, "llama.block_count", (uint32_t)i->n_layers);
    gguf_key_u32(f, "llama.context_length", (uint32_t)i->context_max);
    gguf_key_u32(f, "llama.embedding_length", (uint32_t)i->dim);
    gguf_key_u32(f, "llama.feed_forward_length", (uint32_t)i->hidden);
    gguf_key_u32(f, "llama.attention.head_count", (uint32_t)i->n_heads);
    gguf_key_u32(f, "llama.attention.head_count_kv", (uint32_t)i->n_kv_heads);
    gguf_key_u32(f, "llama.vocab_size", (uint32_t)i->vocab);
    gguf_key_f32(f, "llama.attention.layer_norm_rms_epsilon", c->eps);
    gguf_key_f32(f, "llama.rope.freq_base", (float)c->rope.theta);
}

static void save_quantized(const char *from, const struct quant *q, struct errors *e)
{
    static const char *const parts[] = {
        "input_layernorm",  "self_attn.q_proj", "self_attn.k_proj",
        "self_attn.v_proj", "self_attn.o_proj", "post_attention_layernorm",
        "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};
    struct config c;
    struct weights *w = NULL;
    struct gguf_file f;
    char err[256] = "";
    size_t bytes;
    if (config_load(&c, from, err, sizeof(err)) || weights_open(&w, from, err, sizeof(err)))
        fail_msg("%s", err);
    gguf_file_begin(&f);
    put_keys(&f, &c);
    size_t head_dim = (size_t)c.info.head_dim;
    put_tensor(&f, w, "model.embed_tokens.weight", q, head_dim, e);
    put_tensor(&f, w, "model.norm.weight", q, head_dim, e);
    for (int i = 0; i < c.info.n_layers; i++) {
        for (size_t p = 0; p < ARRAY_LEN(parts); p++) {
            char name[TENSOR_NAME_MAX];
            snprintf(name, sizeof(name), "model.layers.%d.%s.weight", i, parts[p]);
            put_tensor(&f, w, name, q, head_dim, e);
        }
    }
    put_divisors(&f, &c);
    weights_close(w);
    char *file = gguf_file_end(&f, &bytes);
    tiny_save(folder, "x.gguf", file, bytes);
    free(file);
}

/* Mean KL of one model to another over the answer to the first prompt. */
static double divergence_of(struct rig *ref, struct rig *r, const cJSON *list)
{
    const struct golden g = {.model = "", .quant = "", .noise = 1e9};
    struct judged j = {.n = 0};
    const cJSON *o;
    int left = 1;
    cJSON_ArrayForEach(o, list)
    {
        struct prompt *p = calloc(1, sizeof(*p));
        assert_non_null(p);
        read_prompt(p, o);
        if (left-- > 0)
            judge(ref, r, &g, p, &j);
        free(p);
    }
    return j.divergence / j.n;
}

/* What each type may lose and what int8 may add: four times what was measured. */
static const struct {
    const char *type;
    double lost;
    double added;
} bounds[] = {
    {"Q8_0", 0.001, 0.004}, {"Q6_K", 0.004, 0.004}, {"Q5_K", 0.02, 0.004}, {"Q5_1", 0.02, 0.004},
    {"Q5_0", 0.03, 0.004},  {"Q4_K", 0.08, 0.004},  {"Q4_1", 0.1, 0.004},  {"Q4_0", 0.15, 0.004},
};

static void little_is_lost(void **state)
{
    char from[512];
    char path[128];
    (void)state;
    if (!have_shared())
        return;
    shared(from, sizeof(from), source_model);
    snprintf(path, sizeof(path), "%s/x.gguf", folder);
    const struct golden g = {.folder = "shakespeare4M-llama3", .quant = "BF16"};
    cJSON *list = greedy_load(&g);
    struct rig *whole = rig_open(&(struct setup){.path = from, .f32 = true, .kv_f32 = true});
    print_message("type  weights: stored, int8 adds   KL: stored, int8 adds\n");
    for (size_t i = 0; i < ARRAY_LEN(bounds); i++) {
        struct errors e = {.power = 0};
        save_quantized(from, quant_named(bounds[i].type), &e);
        struct rig *f32 = rig_open(&(struct setup){.path = path, .f32 = true, .kv_f32 = true});
        struct rig *int8 = rig_open(&(struct setup){.path = path});
        double lost = divergence_of(whole, f32, list);
        double added = divergence_of(f32, int8, list);
        print_message("%s   %.4f %.4f   %.5f %.5f\n", bounds[i].type, sqrt(e.stored / e.power),
                      sqrt(e.added / e.power), lost, added);
        assert_true(lost < bounds[i].lost && added < bounds[i].added);
        rig_close(int8);
        rig_close(f32);
    }
    rig_close(whole);
    cJSON_Delete(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(little_is_lost),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

/* Aim: a model is the same in both formats. Random models of every architecture and kind of
 * rotation are written as a directory and as a GGUF file of the same numbers; what is known of
 * them and every logit is equal to the bit, in f32 and in int8.
 *
 * Negative space: biases, norms of heads, a head_dim that is not dim / heads, sliding windows,
 * heads tied and not, linear, llama3 and yarn scaling. */
#include "tests/gguf_twin.h"

enum { VOCAB = 48, TOKENS = 40 };

#define SCALING(text) "\"rope_scaling\":{" text "},"

static const struct tiny models[] = {
    {32, 48, 2, 4, 2, 8, VOCAB, 64, false, "F32", NULL, .seed = 1},
    {32, 48, 1, 4, 1, 16, VOCAB, 64, true, "BF16", NULL, .seed = 2},
    {32, 48, 2, 4, 4, 8, VOCAB, 64, true, "F32", "\"sliding_window\":12,", .seed = 3,
     .arch = "MistralForCausalLM"},
    {32, 48, 2, 4, 2, 8, VOCAB, 64, true, "F32", NULL, .seed = 4, .arch = "Qwen2ForCausalLM",
     .qkv_bias = true},
    {32, 40, 2, 2, 1, 24, VOCAB, 64, false, "F32", NULL, .seed = 5, .arch = "Qwen3ForCausalLM",
     .qk_norm = true},
    {32, 48, 1, 4, 2, 8, VOCAB, 64, true, "F32", SCALING("\"type\":\"linear\",\"factor\":4"),
     .seed = 6},
    {32, 48, 1, 4, 2, 8, VOCAB, 64, true, "F32",
     SCALING("\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,"
             "\"high_freq_factor\":4,\"original_max_position_embeddings\":16"),
     .seed = 7},
    {32, 48, 1, 2, 2, 16, VOCAB, 64, true, "F32",
     SCALING("\"rope_type\":\"yarn\",\"factor\":4,\"original_max_position_embeddings\":16"),
     .seed = 8, .arch = "Qwen2ForCausalLM", .qkv_bias = true},
    {32, 48, 1, 2, 2, 16, VOCAB, 64, true, "F32",
     SCALING("\"rope_type\":\"yarn\",\"factor\":4,\"original_max_position_embeddings\":16,"
             "\"attention_factor\":1.75"),
     .seed = 9},
};

static void same_info(const struct model_info *a, const struct model_info *b)
{
    assert_string_equal(a->arch, b->arch);
    assert_int_equal(a->n_params, b->n_params);
    assert_int_equal(a->dim, b->dim);
    assert_int_equal(a->hidden, b->hidden);
    assert_int_equal(a->n_layers, b->n_layers);
    assert_int_equal(a->n_heads, b->n_heads);
    assert_int_equal(a->n_kv_heads, b->n_kv_heads);
    assert_int_equal(a->head_dim, b->head_dim);
    assert_int_equal(a->vocab, b->vocab);
    assert_int_equal(a->context_max, b->context_max);
    assert_int_equal(a->tied, b->tied);
}

/* The last logits of a prompt longer than a window. */
static void say(const char *path, bool f32, struct model_info *info, float *logits)
{
    int32_t ids[TOKENS];
    int32_t table[STRIDE];
    struct rig *r = rig_open(&(struct setup){.path = path, .f32 = f32, .kv = f32 ? KV_F32 : KV_Q8});
    for (int32_t i = 0; i < TOKENS; i++)
        ids[i] = i * 7 % VOCAB;
    table_up(table, 0);
    feed(r, ids, 0, TOKENS, ROWS, table, logits);
    *info = *r->info;
    rig_close(r);
}

static void both_formats_say_the_same(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(models); i++) {
        char dir[64];
        char path[96];
        tiny_dir(dir);
        snprintf(path, sizeof(path), "%s/x.gguf", dir);
        tiny_save_model(dir, &models[i]);
        save_twin(path, dir, NULL, NULL);
        for (int f32 = 0; f32 < 2; f32++) {
            struct model_info info[2];
            float logits[2][VOCAB];
            say(dir, f32, &info[0], logits[0]);
            say(path, f32, &info[1], logits[1]);
            same_info(&info[0], &info[1]);
            /* Divisors and factors are rounded to f32 once more than what they stand for. */
            bool rounded = models[i].more && (strstr(models[i].more, "llama3") ||
                                              strstr(models[i].more, "attention_factor"));
            double slack = rounded ? f32 ? 1e-4 : 0.1 : 0;
            double d = worst(logits[0], logits[1], VOCAB);
            if (!(d <= slack))
                fail_msg("model %zu, f32 %d: logits differ by %g", i, f32, d);
        }
        (void)unlink(path);
        tiny_drop(dir);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_formats_say_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Aim: config.json and generation_config.json mean what the programs that wrote them mean, and a
 * member that changes what a model computes is understood or refused: every row replaces one
 * thing in a valid file and says what must come of it.
 *
 * Negative space: numbers out of range, wrong types, members given twice; schemes of int8 that
 * are nearly ours; windows that are switched off, never full or in some layers only. */
#include "models/config.h"
#include "tests/lies.h"
#include "tests/tiny_model.h"

static const struct tiny small = {8, 12, 1, 2, 1, 4, 16, 32, true, "F32", NULL, .seed = 11};

static const struct lie config_lies[] = {
    {"\"hidden_size\":8", "\"hidden_size\":0", E_FORMAT, "config.json: \"hidden_size\" must be"},
    {"\"hidden_size\":8", "\"hidden_size\":-8", E_FORMAT, "\"hidden_size\" must be"},
    {"\"hidden_size\":8", "\"hidden_size\":8.5", E_FORMAT, "\"hidden_size\" must be"},
    {"\"hidden_size\":8", "\"hidden_size\":1e999", E_FORMAT, "\"hidden_size\" must be"},
    {"\"hidden_size\":8", "\"hidden_size\":\"8\"", E_FORMAT, "\"hidden_size\" must be"},
    {"\"hidden_size\":8", "\"hidden_size\":65537", E_FORMAT, "from 1 to 65536"},
    {"\"hidden_size\":8", "\"hidden_size\":8,\"hidden_size\":8", E_FORMAT, "given twice"},
    {"\"hidden_size\":8", "\"HIDDEN_SIZE\":8", E_FORMAT, "\"hidden_size\" is missing"},
    {"\"hidden_size\":8", "\"hidden_size\":null", E_FORMAT, "\"hidden_size\" is missing"},
    {"\"hidden_size\":8", "\"hidden_size\":16", E_FORMAT, "must have the shape [16, 16]"},
    {"\"intermediate_size\":12", "\"intermediate_size\":131073", E_FORMAT, "intermediate_size"},
    {"\"intermediate_size\":12", "\"intermediate_size\":11", E_FORMAT, "mlp."},
    {"\"num_hidden_layers\":1", "\"num_hidden_layers\":2", E_FORMAT,
     "tensor \"model.layers.1.input_layernorm.weight\" is missing"},
    {"\"num_hidden_layers\":1", "\"num_hidden_layers\":100000", E_FORMAT, "num_hidden_layers"},
    {"\"num_attention_heads\":2", "\"num_attention_heads\":4", E_FORMAT, "self_attn."},
    {"\"num_key_value_heads\":1", "\"num_key_value_heads\":0", E_FORMAT, "num_key_value_heads"},
    {"\"num_key_value_heads\":1", "\"num_key_value_heads\":3", E_FORMAT, "do not divide"},
    {"\"head_dim\":4", "\"head_dim\":3", E_FORMAT, "2 heads of \"head_dim\" 3"},
    {"\"head_dim\":4", "\"head_dim\":513", E_FORMAT, "head_dim"},
    {"\"head_dim\":4,", "", OK, ""},
    {"\"num_key_value_heads\":1,", "", E_FORMAT,
     "\"model.layers.0.self_attn.k_proj.weight\" must have the shape [8, 8]"},
    {"\"vocab_size\":16", "\"vocab_size\":17", E_FORMAT, "must have the shape [17, 8]"},
    {"\"vocab_size\":16", "\"vocab_size\":1048577", E_FORMAT, "vocab_size"},
    {"\"max_position_embeddings\":32", "\"max_position_embeddings\":0", E_FORMAT, "max_position"},
    {"\"max_position_embeddings\":32", "\"max_position_embeddings\":99999999", E_FORMAT, "max_pos"},
    {"1e-05", "0", E_FORMAT, "rms_norm_eps"},
    {"1e-05", "-1", E_FORMAT, "rms_norm_eps"},
    {"10000.0", "0.5", E_FORMAT, "rope_theta"},
    {"\"rope_theta\":10000.0", "\"rope_parameters\":{\"rope_theta\":1e4,\"rope_type\":\"default\"}",
     OK, ""},
    {"\"rope_theta\":10000.0", "\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}", OK, ""},
    {"\"rope_theta\":10000.0", "\"rope_scaling\":{\"type\":\"linear\"}", E_FORMAT, "\"factor\""},
    {"\"rope_theta\":10000.0", "\"rope_scaling\":{\"type\":\"linear\",\"factor\":0}", E_FORMAT,
     "\"factor\""},
    {"\"rope_theta\":10000.0", "\"rope_scaling\":{\"rope_type\":\"dynamic\",\"factor\":2}",
     E_UNSUPPORTED, "\"dynamic\" is not known; known: default, linear, llama3, yarn"},
    {"\"rope_theta\":10000.0", "\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":2}", OK, ""},
    {"\"rope_theta\":10000.0", "\"rope_scaling\":{\"rope_type\":\"yarn\"}", E_FORMAT, "\"factor\""},
    {"\"rope_theta\":10000.0",
     "\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":2,\"beta_slow\":64}", E_FORMAT,
     "\"beta_slow\" <= \"beta_fast\""},
    {"\"rope_theta\":10000.0",
     "\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":2,\"attention_factor\":0}", E_FORMAT,
     "\"attention_factor\""},
    {"\"rope_theta\":10000.0", "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8}", E_FORMAT,
     "llama3 rope scaling needs"},
    {"\"rope_theta\":10000.0", "\"rope_scaling\":7", E_FORMAT, "\"rope_scaling\" must be"},
    {"\"bos_token_id\":1", "\"bos_token_id\":16", E_FORMAT, "bos_token_id"},
    {"\"eos_token_id\":2", "\"eos_token_id\":-1", E_FORMAT, "eos_token_id"},
    {"\"eos_token_id\":2", "\"eos_token_id\":[2,16]", E_FORMAT, "eos_token_id"},
    {"\"eos_token_id\":2", "\"eos_token_id\":[0,1,2,3,4,5,6,7,8]", E_FORMAT, "end tokens"},
    {"\"eos_token_id\":2", "\"eos_token_id\":[0,1,2,3,4,5,6,7,7]", OK, ""},
    {"\"eos_token_id\":2", "\"eos_token_id\":null,\"bos_token_id\":null", E_FORMAT, "given twice"},
    {"true", "\"yes\"", E_FORMAT, "tie_word_embeddings"},
    /* Said to be untied, but there is no other table; or nothing is said. */
    {"true", "false", E_FORMAT, "tensor \"lm_head.weight\" is missing"},
    {"\"tie_word_embeddings\":true,", "", OK, ""},
    {"{\"arch", "{\"attention_bias\":true,\"arch", E_FORMAT, "self_attn.q_proj.bias\" is missing"},
    {"{\"arch", "{\"mlp_bias\":true,\"arch", E_FORMAT, "mlp.gate_proj.bias\" is missing"},
    {"LlamaForCausalLM", "Qwen2ForCausalLM", E_FORMAT, "self_attn.q_proj.bias\" is missing"},
    {"LlamaForCausalLM", "Qwen3ForCausalLM", E_FORMAT, "self_attn.q_norm.weight\" is missing"},
    {"{\"arch", "{\"hidden_act\":\"gelu\",\"arch", E_UNSUPPORTED, "\"gelu\""},
    {"{\"arch", "{\"quantization_config\":{},\"arch", E_FORMAT, "needs \"config_groups\""},
    {"{\"arch", "{\"partial_rotary_factor\":0.5,\"arch", E_UNSUPPORTED, "partial_rotary_factor"},
    {"LlamaForCausalLM", "GPT2LMHeadModel", E_UNSUPPORTED,
     "\"GPT2LMHeadModel\" is not known; known: LlamaForCausalLM, MistralForCausalLM, "
     "Qwen2ForCausalLM, Qwen3ForCausalLM"},
    {"[\"LlamaForCausalLM\"]", "[]", E_FORMAT, "\"architectures\" must be"},
    {"[\"LlamaForCausalLM\"]", "[7]", E_FORMAT, "\"architectures\" must be"},
    {"\"architectures\":", "\"arch\":", E_FORMAT, "\"architectures\" must be"},
    {"LlamaForCausalLM", "MistralForCausalLM", OK, ""},
    {"LlamaForCausalLM\"],", "MistralForCausalLM\"],\"sliding_window\":0,", E_FORMAT,
     "sliding_window"},
    {"LlamaForCausalLM\"],",
     "MistralForCausalLM\"],\"sliding_window\":8,\"layer_types\":[\"chunked_attention\"],",
     E_UNSUPPORTED, "layer type \"chunked_attention\" is not known"},
    {"LlamaForCausalLM\"],",
     "MistralForCausalLM\"],\"sliding_window\":8,\"layer_types\":[\"full_attention\",7],", E_FORMAT,
     "the attention of 1 layers"},
    {"{\"arch", "[{\"arch", E_FORMAT, "not valid JSON"},
};

static char *file_text(const char *dir, const char *name)
{
    char err[256];
    char *text = NULL;
    size_t bytes;
    const struct complaint c = {.file = name, .text = err, .size = sizeof(err)};
    if (file_read(&text, &bytes, dir, 1 << 20, &c))
        fail_msg("%s", err);
    return text;
}

/* Each row in place of the file as it is. */
static void check_lies(const char *dir, const char *name, const struct lie *lie, size_t n)
{
    char err[256];
    char *text = file_text(dir, name);
    for (size_t i = 0; i < n; i++) {
        char *lying = replaced(text, lie[i].from, lie[i].to);
        tiny_save(dir, name, lying, strlen(lying));
        expect(lie[i].to, inspect(dir, err, sizeof(err)), lie[i].status, err, lie[i].says);
        free(lying);
    }
    free(text);
}

static void config_lies_are_refused(void **state)
{
    char dir[64];
    (void)state;
    tiny_dir(dir);
    tiny_save_model(dir, &small);
    check_lies(dir, "config.json", config_lies, ARRAY_LEN(config_lies));
    tiny_drop(dir);
}

/* What llm-compressor may also write, and what is nearly ours. */
static const struct lie compressed_lies[] = {
    {"{", "{", OK, ""},
    {"int-quantized", "naive-quantized", OK, ""},
    {"\"format\":\"int-quantized\",", "", OK, ""},
    {"\"quant_method\":\"compressed-tensors\",", "", OK, ""},
    {"quantization_config", "compression_config", OK, ""},
    {"\"group_0\"", "\"attention\"", OK, ""},
    {"int-quantized", "pack-quantized", E_UNSUPPORTED, "format \"pack-quantized\"; known: int8"},
    {"compressed-tensors", "gptq", E_UNSUPPORTED, "method \"gptq\" is not known"},
    {"\"dynamic\":true", "\"dynamic\":false", E_UNSUPPORTED,
     "another \"dynamic\" of input_activat"},
    {"\"strategy\":\"token\"", "\"strategy\":\"tensor\"", E_UNSUPPORTED, "\"strategy\" of input"},
    {"\"strategy\":\"channel\"", "\"strategy\":\"group\"", E_UNSUPPORTED,
     "\"strategy\" of weights"},
    {"\"symmetric\":true,\"type\":\"int\"}}", "\"symmetric\":false,\"type\":\"int\"}}",
     E_UNSUPPORTED, "\"symmetric\" of weights"},
    {"\"symmetric\":true", "\"symmetric\":false", E_UNSUPPORTED, "\"symmetric\" of input"},
    {"\"type\":\"int\"}}", "\"type\":\"float\"}}", E_UNSUPPORTED, "\"type\" of weights"},
    {"\"num_bits\":8", "\"num_bits\":4", E_UNSUPPORTED, "\"num_bits\" of input"},
    {"\"num_bits\":8", "\"num_bits\":\"8\"", E_UNSUPPORTED, "\"num_bits\" of input"},
    {"\"input_activations\":{", "\"input_activations\":null,\"x\":{", E_UNSUPPORTED,
     "without \"input_activations\""},
    {"\"output_activations\":null", "\"output_activations\":{}", E_UNSUPPORTED,
     "output_activations"},
    {"\"kv_cache_scheme\":null", "\"kv_cache_scheme\":{}", E_UNSUPPORTED, "kv_cache_scheme"},
    {"\"kv_cache_scheme\":null", "\"sparsity_config\":{\"format\":\"sparse-24-bitmask\"}",
     E_UNSUPPORTED, "sparse-24-bitmask"},
    {"\"config_groups\":{", "\"config_groups\":{},\"x\":{", E_FORMAT, "needs \"config_groups\""},
};

static const struct lie scale_lies[] = {
    {"{", "{", OK, ""},
    {"\"I8\"", "\"U8\"", E_UNSUPPORTED, "is U8; known: F32"},
    {"mlp.down_proj.weight_scale", "mlp.down_proj.weight_scalf", E_FORMAT,
     "tensor \"model.layers.0.mlp.down_proj.weight_scale\" is missing"},
    {"mlp.down_proj.weight_scale\":{\"dtype\":\"F32\",\"shape\":[8,1]",
     "mlp.down_proj.weight_scale\":{\"dtype\":\"F32\",\"shape\":[8]", OK, ""},
    {"mlp.down_proj.weight_scale\":{\"dtype\":\"F32\",\"shape\":[8,1]",
     "mlp.down_proj.weight_scale\":{\"dtype\":\"F32\",\"shape\":[1,8]", E_FORMAT,
     "down_proj.weight_scale\" must be [8, 1]"},
    {"mlp.down_proj.weight_scale\":{\"dtype\":\"F32\",\"shape\":[8,1]",
     "mlp.down_proj.weight_scale\":{\"dtype\":\"I32\",\"shape\":[8,1]", E_FORMAT, "must be [8, 1]"},
    {"\"model.norm.weight\"", "\"model.norm.weight_scale\"", E_FORMAT,
     "model.norm.weight\" is miss"},
    {"self_attn.o_proj.weight\":{\"dtype\":\"I8\"", "self_attn.o_proj.weight\":{\"dtype\":\"BOOL\"",
     E_UNSUPPORTED, "o_proj.weight\" is BOOL"},
};

static void other_schemes_are_refused(void **state)
{
    char dir[64];
    char err[256];
    struct tiny t = small;
    (void)state;
    t.int8 = true;
    tiny_dir(dir);
    tiny_save_model(dir, &t);
    check_lies(dir, "config.json", compressed_lies, ARRAY_LEN(compressed_lies));
    /* Without a word about it, int8 is not understood. */
    t.int8 = false;
    tiny_save_config(dir, &t);
    expect("no config", inspect(dir, err, sizeof(err)), E_UNSUPPORTED, err,
           "is I8, but config.json has no \"quantization_config\"");
    tiny_drop(dir);
}

static void scales_belong_to_int8(void **state)
{
    char dir[64];
    char err[256];
    struct tiny_file f;
    struct tiny t = small;
    (void)state;
    t.int8 = true;
    tiny_dir(dir);
    tiny_save_config(dir, &t);
    tiny_build(&t, &f);
    for (size_t i = 0; i < ARRAY_LEN(scale_lies); i++) {
        struct tiny_file lying = f;
        lying.header = replaced(f.header, scale_lies[i].from, scale_lies[i].to);
        lying.header_bytes = strlen(lying.header);
        tiny_save_tensors(dir, "model.safetensors", &lying);
        expect(scale_lies[i].to, inspect(dir, err, sizeof(err)), scale_lies[i].status, err,
               scale_lies[i].says);
        free(lying.header);
    }
    free(f.header);
    free(f.data);
    tiny_drop(dir);
}

struct window_row {
    const char *arch;
    const char *more;
    int32_t window;
    const char *windowed; /* a letter per layer */
};

static const struct window_row window_rows[] = {
    {"LlamaForCausalLM", "\"sliding_window\":16,", 0, "...."},
    {"MistralForCausalLM", "", 0, "...."},
    {"MistralForCausalLM", "\"sliding_window\":null,", 0, "...."},
    {"MistralForCausalLM", "\"sliding_window\":32,", 0, "...."}, /* never full */
    {"MistralForCausalLM", "\"sliding_window\":31,", 31, "wwww"},
    {"MistralForCausalLM",
     "\"sliding_window\":4,\"layer_types\":[\"full_attention\",\"sliding_attention\","
     "\"full_attention\",\"sliding_attention\"],",
     4, ".w.w"},
    {"Qwen2ForCausalLM", "\"sliding_window\":4,", 0, "...."},
    {"Qwen2ForCausalLM", "\"sliding_window\":4,\"use_sliding_window\":false,", 0, "...."},
    {"Qwen2ForCausalLM", "\"sliding_window\":4,\"use_sliding_window\":true,", 4, "...."},
    {"Qwen3ForCausalLM",
     "\"sliding_window\":4,\"use_sliding_window\":true,\"max_window_layers\":3,", 4, "...w"},
};

/* Which layers look back how far; the context is the model's in any case. */
static void windows_are_where_the_file_says(void **state)
{
    char dir[64];
    char err[256] = "";
    (void)state;
    tiny_dir(dir);
    for (size_t i = 0; i < ARRAY_LEN(window_rows); i++) {
        const struct window_row *row = &window_rows[i];
        struct tiny t = small;
        struct config config;
        t.layers = 4;
        t.arch = row->arch;
        t.more = row->more;
        tiny_save_config(dir, &t);
        if (config_load(&config, dir, err, sizeof(err)))
            fail_msg("%s", err);
        assert_int_equal(config.info.context_max, 32);
        assert_int_equal(config.window, row->window);
        for (int layer = 0; layer < 4; layer++)
            assert_int_equal(config.windowed[layer], row->windowed[layer] == 'w');
    }
    tiny_drop(dir);
}

static const struct lie generation_lies[] = {
    {"{}", "{}", OK, ""},
    {"{}", "{\"temperature\":0.6,\"top_k\":40,\"repetition_penalty\":1.1}", OK, ""},
    {"{}", "[]", E_FORMAT, "generation_config.json: must be an object"},
    {"{}", "", E_FORMAT, "generation_config.json: the file is empty"},
    {"{}", "{\"temperature\":-1}", E_FORMAT, "\"temperature\""},
    {"{}", "{\"temperature\":1e400}", E_FORMAT, "\"temperature\""},
    {"{}", "{\"top_p\":1.5}", E_FORMAT, "\"top_p\""},
    {"{}", "{\"top_k\":1.5}", E_FORMAT, "\"top_k\""},
    {"{}", "{\"min_p\":0.05,\"max_new_tokens\":64}", OK, ""},
    {"{}", "{\"min_p\":2}", E_FORMAT, "\"min_p\""},
    {"{}", "{\"max_new_tokens\":0}", E_FORMAT, "\"max_new_tokens\""},
    {"{}", "{\"repetition_penalty\":0}", E_FORMAT, "\"repetition_penalty\""},
    {"{}", "{\"eos_token_id\":[99]}", E_FORMAT, "\"eos_token_id\""},
};

static void generation_lies_are_refused(void **state)
{
    char dir[64];
    char err[256];
    (void)state;
    tiny_dir(dir);
    tiny_save_model(dir, &small);
    for (size_t i = 0; i < ARRAY_LEN(generation_lies); i++) {
        const struct lie *l = &generation_lies[i];
        tiny_save(dir, "generation_config.json", l->to, strlen(l->to));
        expect(l->to, inspect(dir, err, sizeof(err)), l->status, err, l->says);
    }
    tiny_drop(dir);
}

static void rope_follows_its_kind(void **state)
{
    float plain[4];
    float got[4];
    struct rope r = {.kind = ROPE_PLAIN, .theta = 10000, .factor = 4};
    (void)state;
    rope_frequencies(&r, 8, plain);
    assert_true(plain[0] == 1.0f && fabsf(plain[1] - 0.1f) < 1e-7f);
    assert_true(fabsf(plain[2] - 0.01f) < 1e-8f && fabsf(plain[3] - 0.001f) < 1e-9f);
    r.kind = ROPE_LINEAR;
    rope_frequencies(&r, 8, got);
    for (int i = 0; i < 4; i++)
        assert_true(got[i] == plain[i] / 4);
    /* 1000 positions: 159 and 15.9 turns stay, 0.159 is divided, 1.59 lies a fifth of the
     * way from 1 to 4: (1 - b) / 4 + b. */
    r = (struct rope){
        .kind = ROPE_LLAMA3, .theta = 10000, .factor = 4, .low = 1, .high = 4, .context = 1000};
    rope_frequencies(&r, 8, got);
    assert_true(got[0] == plain[0] && got[1] == plain[1] && got[3] == plain[3] / 4);
    double blend = (10 / 6.283185307179586 - 1) / 3;
    assert_true(fabs((double)got[2] - 0.01 * ((1 - blend) / 4 + blend)) < 1e-9);
    /* Qwen2.5's settings at a head of 16, by the paper's reference code. */
    static const double yarn[] = {1,      0.177827941,    0.0316227766,   0.00421755994,
                                  0.0005, 4.44569853e-05, 7.90569415e-06, 1.40585331e-06};
    float eight[8];
    r = (struct rope){
        .kind = ROPE_YARN, .theta = 1e6, .factor = 4, .low = 1, .high = 32, .context = 32768};
    r.attention = 1.138629436111989;
    rope_frequencies(&r, 16, eight);
    for (int i = 0; i < 8; i++)
        assert_true(fabs((double)eight[i] - yarn[i]) <= 1e-6 * yarn[i]);
    assert_true(fabsf(rope_score_scale(&r, 16) - 0.324119248f) < 1e-6f);
    r.kind = ROPE_PLAIN;
    assert_true(rope_score_scale(&r, 16) == 0.25f);
}

/* Divisors as a converter would have made them of a scaling. */
static void divisors_of(float *divisor, const struct rope *r, int32_t head_dim)
{
    float plain[HEAD_DIM_MAX / 2];
    float scaled[HEAD_DIM_MAX / 2];
    const struct rope none = {.theta = r->theta};
    rope_frequencies(&none, head_dim, plain);
    rope_frequencies(r, head_dim, scaled);
    for (int32_t i = 0; i < head_dim / 2; i++)
        divisor[i] = plain[i] / scaled[i];
}

static void divisors_say_their_scaling(void **state)
{
    static const struct {
        int32_t head_dim;
        enum rope_kind kind;
        double theta;
        double factor;
        double low;
        double high;
        int64_t context;
        bool exact; /* the same numbers, not only the same rotations */
    } rows[] = {
        {128, ROPE_LLAMA3, 500000, 8, 1, 4, 8192, true}, /* Llama 3.1 */
        {64, ROPE_LLAMA3, 500000, 32, 1, 4, 8192, true}, /* Llama 3.2 */
        {32, ROPE_LLAMA3, 500000, 8, 1, 4, 256, true},
        {128, ROPE_LLAMA3, 10000, 4, 1, 32, 4096, true},
        {128, ROPE_LLAMA3, 10000, 4, 2, 8, 4096, false}, /* that is 1, 4 and 2048 */
        {8, ROPE_LLAMA3, 10000, 8, 1, 4, 512, false},
        {8, ROPE_LLAMA3, 1e8, 8, 1, 4, 64, false}, /* none is between */
        {128, ROPE_LINEAR, 10000, 4, 0, 0, 0, true},
        {64, ROPE_PLAIN, 10000, 0, 0, 0, 0, false},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct rope made = {.kind = rows[i].kind,
                                  .theta = rows[i].theta,
                                  .factor = rows[i].factor,
                                  .low = rows[i].low,
                                  .high = rows[i].high,
                                  .context = rows[i].context};
        struct rope found = {.theta = made.theta};
        float divisor[HEAD_DIM_MAX / 2];
        float want[HEAD_DIM_MAX / 2];
        float got[HEAD_DIM_MAX / 2];
        divisors_of(divisor, &made, rows[i].head_dim);
        if (!rope_of_divisors(&found, divisor, rows[i].head_dim))
            fail_msg("row %zu is not found", i);
        rope_frequencies(&made, rows[i].head_dim, want);
        rope_frequencies(&found, rows[i].head_dim, got);
        for (int32_t k = 0; k < rows[i].head_dim / 2; k++)
            assert_true(fabsf(got[k] / want[k] - 1) < 1e-5f);
        if (rows[i].exact) {
            assert_int_equal(found.kind, made.kind);
            assert_int_equal(found.context, made.context);
            assert_true(fabs(found.factor - made.factor) < 1e-4);
            assert_true(fabs(found.high - made.high) < 1e-2);
        }
    }
}

static void other_divisors_say_nothing(void **state)
{
    static const float rows[][4] = {
        {1, 2, 3, 2}, {8, 4, 2, 1}, {0.5f, 1, 1, 1}, {1, 1, 1, 1e7f}, {1, 3, 5, 8}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct rope was = {.theta = 10000};
        struct rope r = was;
        assert_false(rope_of_divisors(&r, rows[i], 8));
        assert_memory_equal(&r, &was, sizeof(r));
    }
    struct rope scaled = {.kind = ROPE_LINEAR, .theta = 10000, .factor = 2};
    const float two[] = {2, 2, 2, 2};
    assert_false(rope_of_divisors(&scaled, two, 8));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(config_lies_are_refused),
        cmocka_unit_test(other_schemes_are_refused),
        cmocka_unit_test(scales_belong_to_int8),
        cmocka_unit_test(windows_are_where_the_file_says),
        cmocka_unit_test(generation_lies_are_refused),
        cmocka_unit_test(rope_follows_its_kind),
        cmocka_unit_test(divisors_say_their_scaling),
        cmocka_unit_test(other_divisors_say_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

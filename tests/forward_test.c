/* Aim: the forward pass is that of the papers. A second one, written here plainly in doubles
 * over the tensors as stored, without cache, batch or fusing, gives the same logits at every
 * position in f32, and near ones in int8.
 *
 * Negative space: every architecture, each with what it adds; fewer kv heads than heads, one,
 * and as many; heads of 64, 80, 96 and 128, and wider than the model; a tied and a separate
 * head; every kind of rope; windows in all layers and in some; checkpoints in floats and in
 * int8. Needs no data but what it writes itself. */
#include "models/config.h"
#include "models/weights.h"
#include "tests/model_rig.h"
#include "tests/tiny_model.h"

enum { VOCAB = 61, CONTEXT = 40, DIM_MOST = 512, STEPS_EMULATED = 2, ROWS_EMULATED = 21 };

#define LLAMA3                                                                                     \
    "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,"               \
    "\"high_freq_factor\":4,\"original_max_position_embeddings\":16},"
#define YARN(more)                                                                                 \
    "\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4,"                                            \
    "\"original_max_position_embeddings\":10" more "},"

/* A model and what its config.json means, said a second time. */
struct form {
    struct tiny t;
    enum rope_kind rope;
    double longer;   /* q and k, by yarn; 0: 1 */
    int window;      /* 0: none */
    int window_from; /* first layer that has it */
    bool ramp_cut;   /* yarn's ramp begins and ends between two pairs */
};

static const struct form forms[] = {
    {.t = {48, 44, 2, 6, 2, 8, VOCAB, CONTEXT, true, "F32", NULL, .seed = 21}},
    {.t = {64, 96, 2, 4, 1, 16, VOCAB, CONTEXT, false, "BF16", LLAMA3, .seed = 22},
     .rope = ROPE_LLAMA3},
    {.t = {32, 64, 3, 4, 4, 24, VOCAB, CONTEXT, false, "F16",
           "\"rope_scaling\":{\"type\":\"linear\",\"factor\":4},", .seed = 23},
     .rope = ROPE_LINEAR},
    {.t = {64, 48, 2, 2, 1, 64, VOCAB, CONTEXT, true, "BF16", NULL, .seed = 24,
           .arch = "Qwen2ForCausalLM", .qkv_bias = true}},
    {.t = {64, 48, 2, 4, 2, 128, VOCAB, CONTEXT, false, "F32", NULL, .seed = 25,
           .arch = "Qwen3ForCausalLM", .qk_norm = true}},
    {.t = {80, 48, 2, 3, 1, 80, VOCAB, CONTEXT, false, "F16", "\"sliding_window\":7,", .seed = 26,
           .arch = "MistralForCausalLM"},
     .window = 7},
    /* 0.1 ln 4 + 1 */
    {.t = {32, 40, 2, 2, 2, 96, VOCAB, CONTEXT, true, "F32",
           YARN("") "\"attention_bias\":true,\"mlp_bias\":true,", .seed = 27, .qkv_bias = true,
           .out_bias = true, .mlp_bias = true},
     .rope = ROPE_YARN,
     .longer = 1.138629436111989},
    {.t = {48, 40, 3, 4, 2, 16, VOCAB, CONTEXT, true, "F32",
           YARN(",\"attention_factor\":1.3,\"beta_fast\":2,\"beta_slow\":0.5,\"truncate\":"
                "false") "\"use_sliding_window\":true,\"sliding_window\":16,\"max_window_"
                         "layers\":2,",
           .seed = 28, .arch = "Qwen2ForCausalLM", .qkv_bias = true},
     .rope = ROPE_YARN,
     .longer = 1.3,
     .window = 16,
     .window_from = 2,
     .ramp_cut = true},
    {.t = {32, 48, 2, 4, 2, 16, VOCAB, CONTEXT, true, "F32",
           YARN(",\"mscale\":2,\"mscale_all_dim\":1,\"beta_fast\":3"), .seed = 29},
     .rope = ROPE_YARN,
     .longer = 1.2772588722239782 / 1.138629436111989},
    {.t = {64, 96, 2, 4, 2, 16, VOCAB, CONTEXT, false, "BF16", NULL, .seed = 30, .int8 = true}},
};

struct reference {
    const struct form *form;
    const struct tiny *t;
    struct weights *w;
    struct rope rope;
    double x[CONTEXT][DIM_MOST];
    double key[CONTEXT][DIM_MOST];
    double value[CONTEXT][DIM_MOST];
    double logits[CONTEXT][VOCAB];
};

/* Values at .. at + n of a tensor of floats. */
static void values_of(const struct reference *r, const char *name, int at, int n, double *out)
{
    float f[DIM_MOST];
    char raw[DIM_MOST * sizeof(float)];
    const struct tensor *t = weights_find(r->w, name);
    if (!t)
        fail_msg("no tensor %s", name);
    uint64_t each;
    assert_true(dtype_bytes((enum dtype)t->dtype, 1, &each));
    assert_int_equal(weights_read(r->w, t, (uint64_t)at * each, raw, (size_t)n * (size_t)each), OK);
    assert_true(dtype_info((enum dtype)t->dtype)->widen(f, raw, (size_t)n));
    for (int i = 0; i < n; i++)
        out[i] = (double)f[i];
}

/* y = W x + b, where there are such; int8 rows have scales beside them. */
static void product(const struct reference *r, const char *name, const double *x, int rows,
                    int cols, double *y)
{
    char full[128];
    double w[DIM_MOST];
    double one;
    for (int i = 0; i < rows; i++) {
        snprintf(full, sizeof(full), "%s.weight", name);
        values_of(r, full, i * cols, cols, w);
        y[i] = 0;
        for (int k = 0; k < cols; k++)
            y[i] += w[k] * x[k];
        snprintf(full, sizeof(full), "%s.weight_scale", name);
        if (weights_find(r->w, full)) {
            values_of(r, full, i, 1, &one);
            y[i] *= one;
        }
        snprintf(full, sizeof(full), "%s.bias", name);
        if (weights_find(r->w, full)) {
            values_of(r, full, i, 1, &one);
            y[i] += one;
        }
    }
}

static void normed(const struct reference *r, const char *name, const double *x, int n, double *y)
{
    char full[128];
    double gain[DIM_MOST];
    double sum = 0;
    snprintf(full, sizeof(full), "%s.weight", name);
    values_of(r, full, 0, n, gain);
    for (int i = 0; i < n; i++)
        sum += x[i] * x[i];
    for (int i = 0; i < n; i++)
        y[i] = x[i] / sqrt(sum / n + 1e-5) * gain[i];
}

/* Where a wave makes so many turns over the original context. */
static double yarn_pair(const struct reference *r, double turns)
{
    return r->t->head_dim * log((double)r->rope.context / (turns * 2 * 3.14159265358979323846)) /
           (2 * log(r->rope.theta));
}

static double yarn_angle(const struct reference *r, int pair, double freq)
{
    double low = yarn_pair(r, r->rope.high);
    double high = yarn_pair(r, r->rope.low);
    if (!r->form->ramp_cut) {
        low = floor(low);
        high = ceil(high);
    }
    low = low < 0 ? 0 : low;
    high = high > r->t->head_dim - 1 ? r->t->head_dim - 1 : high;
    double ramp = (pair - low) / (high - low);
    double stay = 1 - (ramp < 0 ? 0 : ramp > 1 ? 1 : ramp);
    return freq / r->rope.factor * (1 - stay) + freq * stay;
}

static double angle(const struct reference *r, int pair)
{
    double freq = pow(r->rope.theta, -2.0 * pair / r->t->head_dim);
    double length = 2 * 3.14159265358979323846 / freq;
    if (r->rope.kind == ROPE_LINEAR)
        return freq / r->rope.factor;
    if (r->rope.kind == ROPE_YARN)
        return yarn_angle(r, pair, freq);
    if (r->rope.kind == ROPE_PLAIN || length < (double)r->rope.context / r->rope.high)
        return freq;
    if (length > (double)r->rope.context / r->rope.low)
        return freq / r->rope.factor;
    double smooth = ((double)r->rope.context / length - r->rope.low) / (r->rope.high - r->rope.low);
    return (1 - smooth) * freq / r->rope.factor + smooth * freq;
}

static void rotate(const struct reference *r, double *x, int heads, int position)
{
    int half = r->t->head_dim / 2;
    for (int i = 0; i < heads * half; i++) {
        double *a = x + i / half * r->t->head_dim + i % half;
        double turn = position * angle(r, i % half);
        double longer = r->form->longer > 0 ? r->form->longer : 1;
        double b = a[half];
        a[half] = longer * (b * cos(turn) + a[0] * sin(turn));
        a[0] = longer * (a[0] * cos(turn) - b * sin(turn));
    }
}

static void attend(const struct reference *r, const double *q, int from, int position, double *y)
{
    const struct tiny *t = r->t;
    for (int h = 0; h < t->heads; h++) {
        int at = h / (t->heads / t->kv_heads) * t->head_dim;
        double p[CONTEXT];
        double sum = 0;
        for (int j = from; j <= position; j++) {
            double dot = 0;
            for (int i = 0; i < t->head_dim; i++)
                dot += q[h * t->head_dim + i] * r->key[j][at + i];
            p[j] = exp(dot / sqrt(t->head_dim));
            sum += p[j];
        }
        for (int i = 0; i < t->head_dim; i++) {
            y[h * t->head_dim + i] = 0;
            for (int j = from; j <= position; j++)
                y[h * t->head_dim + i] += p[j] / sum * r->value[j][at + i];
        }
    }
}

static const char *named(char out[96], int layer, const char *what)
{
    snprintf(out, 96, "model.layers.%d.%s", layer, what);
    return out;
}

static void norm_heads(const struct reference *r, int layer, const char *what, double *x, int heads)
{
    char name[96];
    for (int h = 0; h < heads && r->t->qk_norm; h++) {
        double *head = x + h * r->t->head_dim;
        normed(r, named(name, layer, what), head, r->t->head_dim, head);
    }
}

static void attention_layer(struct reference *r, int layer, int n)
{
    const struct tiny *t = r->t;
    int q_dim = t->heads * t->head_dim;
    int kv_dim = t->kv_heads * t->head_dim;
    bool windowed = r->form->window > 0 && layer >= r->form->window_from;
    char name[96];
    for (int i = 0; i < n; i++) {
        double x[DIM_MOST];
        double q[DIM_MOST];
        double y[DIM_MOST];
        int from = windowed && i >= r->form->window ? i - r->form->window + 1 : 0;
        normed(r, named(name, layer, "input_layernorm"), r->x[i], t->dim, x);
        product(r, named(name, layer, "self_attn.q_proj"), x, q_dim, t->dim, q);
        product(r, named(name, layer, "self_attn.k_proj"), x, kv_dim, t->dim, r->key[i]);
        product(r, named(name, layer, "self_attn.v_proj"), x, kv_dim, t->dim, r->value[i]);
        norm_heads(r, layer, "self_attn.q_norm", q, t->heads);
        norm_heads(r, layer, "self_attn.k_norm", r->key[i], t->kv_heads);
        rotate(r, q, t->heads, i);
        rotate(r, r->key[i], t->kv_heads, i);
        attend(r, q, from, i, y);
        product(r, named(name, layer, "self_attn.o_proj"), y, t->dim, q_dim, x);
        for (int k = 0; k < t->dim; k++)
            r->x[i][k] += x[k];
    }
}

static void forward_layer(struct reference *r, int layer, int n)
{
    const struct tiny *t = r->t;
    char name[96];
    for (int i = 0; i < n; i++) {
        double x[DIM_MOST];
        double gate[DIM_MOST];
        double up[DIM_MOST];
        normed(r, named(name, layer, "post_attention_layernorm"), r->x[i], t->dim, x);
        product(r, named(name, layer, "mlp.gate_proj"), x, t->hidden, t->dim, gate);
        product(r, named(name, layer, "mlp.up_proj"), x, t->hidden, t->dim, up);
        for (int k = 0; k < t->hidden; k++)
            gate[k] = gate[k] / (1 + exp(-gate[k])) * up[k];
        product(r, named(name, layer, "mlp.down_proj"), gate, t->dim, t->hidden, x);
        for (int k = 0; k < t->dim; k++)
            r->x[i][k] += x[k];
    }
}

static void reference_run(struct reference *r, const int32_t *ids, int n)
{
    const char *head = r->t->tied ? "model.embed_tokens" : "lm_head";
    int dim = r->t->dim;
    double x[DIM_MOST];
    for (int i = 0; i < n; i++)
        values_of(r, "model.embed_tokens.weight", ids[i] * dim, dim, r->x[i]);
    for (int layer = 0; layer < r->t->layers; layer++) {
        attention_layer(r, layer, n);
        forward_layer(r, layer, n);
    }
    for (int i = 0; i < n; i++) {
        normed(r, "model.norm", r->x[i], dim, x);
        product(r, head, x, VOCAB, dim, r->logits[i]);
    }
}

/* What differences are measured by. */
static double largest_logit(const struct reference *r)
{
    double most = 0;
    for (int i = 0; i < CONTEXT * VOCAB; i++)
        most = fmax(most, fabs(r->logits[i / VOCAB][i % VOCAB]));
    return most;
}

/* Largest difference at any position, token by token and in one piece. */
static double differ(struct rig *rig, const struct reference *r, const int32_t *ids)
{
    double most = 0;
    float got[VOCAB];
    int32_t table[STRIDE];
    table_up(table, 0);
    /* Where the backend is emulated, all of it would be a matter of minutes. */
    bool cpu = strcmp(backend(), "cpu") == 0;
    int32_t n = cpu ? CONTEXT : STEPS_EMULATED;
    for (int32_t i = 0; i < n; i++) {
        feed(rig, ids, i, i + 1, 1, table, got);
        for (int k = 0; k < VOCAB; k++)
            most = fmax(most, fabs((double)got[k] - r->logits[i][k]));
    }
    n = cpu ? CONTEXT : ROWS_EMULATED;
    add(rig, ids, 0, n, table, PICK_ALL);
    run(rig);
    for (int32_t i = 0; i < n; i++) {
        assert_int_equal(model_logits(rig->m, i, got), OK);
        for (int k = 0; k < VOCAB; k++)
            most = fmax(most, fabs((double)got[k] - r->logits[i][k]));
    }
    return most;
}

static void one_form(size_t at, const struct form *form, const int32_t *ids)
{
    struct reference *r = calloc(1, sizeof(*r));
    struct config config;
    char err[256];
    char dir[64];
    assert_non_null(r);
    tiny_dir(dir);
    tiny_save_model(dir, &form->t);
    if (config_load(&config, dir, err, sizeof(err)) || weights_open(&r->w, dir, err, sizeof(err)))
        fail_msg("%s", err);
    r->form = form;
    r->t = &form->t;
    r->rope = config.rope;
    assert_int_equal(r->rope.kind, form->rope);
    reference_run(r, ids, CONTEXT);
    double largest = largest_logit(r);
    for (int f32 = 1; f32 >= 0; f32--) {
        struct rig *rig = rig_open(
            &(struct setup){.path = dir, .threads = 2, .f32 = f32, .kv = f32 ? KV_F32 : KV_Q8});
        double d = differ(rig, r, ids);
        print_message("%zu %s heads of %d, %s: %g of %g\n", at,
                      form->t.arch ? form->t.arch : "Llama", form->t.head_dim, f32 ? "f32" : "int8",
                      d, largest);
        assert_true(d <= (f32 ? 1e-5 : 0.1) * largest);
        rig_close(rig);
    }
    weights_close(r->w);
    free(r);
    tiny_drop(dir);
}

static void equals_the_plain_one(void **state)
{
    int32_t ids[CONTEXT];
    uint32_t seed = 31;
    (void)state;
    for (int i = 0; i < CONTEXT; i++)
        ids[i] = (int32_t)(tiny_random(&seed) % VOCAB);
    for (size_t i = 0; i < ARRAY_LEN(forms); i++)
        one_form(i, &forms[i], ids);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(equals_the_plain_one)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Aim: the forward pass is that of the papers. A second one, written here plainly in doubles
 * over the tensors as stored, without cache, batch or fusing, gives the same logits at every
 * position in f32, and near ones in int8.
 *
 * Negative space: fewer kv heads than heads, one, and as many; heads wider than the model; a
 * tied and a separate head; every kind of rope. Needs no data but what it writes itself. */
#include "models/config.h"
#include "models/load.h"
#include "tests/model_rig.h"
#include "tests/tiny_model.h"

enum { VOCAB = 61, CONTEXT = 40, DIM_MOST = 128 };

#define LLAMA3                                                                                     \
    "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,"               \
    "\"high_freq_factor\":4,\"original_max_position_embeddings\":16},"

static const struct tiny models[] = {
    {48, 44, 2, 6, 2, 8, VOCAB, CONTEXT, true, "F32", NULL, 21},
    {64, 96, 2, 4, 1, 16, VOCAB, CONTEXT, false, "BF16", LLAMA3, 22},
    {32, 64, 3, 4, 4, 24, VOCAB, CONTEXT, false, "F16",
     "\"rope_scaling\":{\"type\":\"linear\",\"factor\":4},", 23},
};

struct reference {
    const struct tiny *t;
    struct weights *w;
    struct rope rope;
    double x[CONTEXT][DIM_MOST];
    double key[CONTEXT][DIM_MOST];
    double value[CONTEXT][DIM_MOST];
    double logits[CONTEXT][VOCAB];
};

/* Row row of a tensor; a vector is one row. */
static void row_of(const struct reference *r, const char *name, int row, int cols, double *out)
{
    float f[DIM_MOST];
    char raw[DIM_MOST * sizeof(float)];
    const struct tensor *t = weights_find(r->w, name);
    assert_non_null(t);
    uint64_t bytes;
    assert_true(dtype_bytes((enum dtype)t->dtype, (uint64_t)cols, &bytes));
    assert_int_equal(weights_read(r->w, t, (uint64_t)row * bytes, raw, bytes), OK);
    assert_true(dtype_info((enum dtype)t->dtype)->widen(f, raw, (size_t)cols));
    for (int i = 0; i < cols; i++)
        out[i] = (double)f[i];
}

static void product(const struct reference *r, const char *name, const double *x, int rows,
                    int cols, double *y)
{
    double w[DIM_MOST];
    for (int i = 0; i < rows; i++) {
        row_of(r, name, i, cols, w);
        y[i] = 0;
        for (int k = 0; k < cols; k++)
            y[i] += w[k] * x[k];
    }
}

static void normed(const struct reference *r, const char *name, const double *x, double *y)
{
    double gain[DIM_MOST];
    double sum = 0;
    row_of(r, name, 0, r->t->dim, gain);
    for (int i = 0; i < r->t->dim; i++)
        sum += x[i] * x[i];
    for (int i = 0; i < r->t->dim; i++)
        y[i] = x[i] / sqrt(sum / r->t->dim + 1e-5) * gain[i];
}

static double angle(const struct reference *r, int pair)
{
    double freq = pow(r->rope.theta, -2.0 * pair / r->t->head_dim);
    double length = 2 * 3.14159265358979323846 / freq;
    if (r->rope.kind == ROPE_LINEAR)
        return freq / r->rope.factor;
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
        double b = a[half];
        a[half] = b * cos(turn) + a[0] * sin(turn);
        a[0] = a[0] * cos(turn) - b * sin(turn);
    }
}

static void attend(const struct reference *r, const double *q, int position, double *y)
{
    const struct tiny *t = r->t;
    for (int h = 0; h < t->heads; h++) {
        int at = h / (t->heads / t->kv_heads) * t->head_dim;
        double p[CONTEXT];
        double sum = 0;
        for (int j = 0; j <= position; j++) {
            double dot = 0;
            for (int i = 0; i < t->head_dim; i++)
                dot += q[h * t->head_dim + i] * r->key[j][at + i];
            p[j] = exp(dot / sqrt(t->head_dim));
            sum += p[j];
        }
        for (int i = 0; i < t->head_dim; i++) {
            y[h * t->head_dim + i] = 0;
            for (int j = 0; j <= position; j++)
                y[h * t->head_dim + i] += p[j] / sum * r->value[j][at + i];
        }
    }
}

static const char *named(char out[96], int layer, const char *what)
{
    snprintf(out, 96, "model.layers.%d.%s.weight", layer, what);
    return out;
}

static void attention_layer(struct reference *r, int layer, int n)
{
    const struct tiny *t = r->t;
    int q_dim = t->heads * t->head_dim;
    int kv_dim = t->kv_heads * t->head_dim;
    char name[96];
    for (int i = 0; i < n; i++) {
        double x[DIM_MOST];
        double q[DIM_MOST];
        double y[DIM_MOST];
        normed(r, named(name, layer, "input_layernorm"), r->x[i], x);
        product(r, named(name, layer, "self_attn.q_proj"), x, q_dim, t->dim, q);
        product(r, named(name, layer, "self_attn.k_proj"), x, kv_dim, t->dim, r->key[i]);
        product(r, named(name, layer, "self_attn.v_proj"), x, kv_dim, t->dim, r->value[i]);
        rotate(r, q, t->heads, i);
        rotate(r, r->key[i], t->kv_heads, i);
        attend(r, q, i, y);
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
        normed(r, named(name, layer, "post_attention_layernorm"), r->x[i], x);
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
    const char *head = r->t->tied ? "model.embed_tokens.weight" : "lm_head.weight";
    double x[DIM_MOST];
    for (int i = 0; i < n; i++)
        row_of(r, "model.embed_tokens.weight", ids[i], r->t->dim, r->x[i]);
    for (int layer = 0; layer < r->t->layers; layer++) {
        attention_layer(r, layer, n);
        forward_layer(r, layer, n);
    }
    for (int i = 0; i < n; i++) {
        normed(r, "model.norm.weight", r->x[i], x);
        product(r, head, x, VOCAB, r->t->dim, r->logits[i]);
    }
}

/* Largest difference at any position, token by token and in one piece, and the largest logit to
 * measure it by. */
static double differ(struct rig *rig, const struct reference *r, const int32_t *ids,
                     double *largest)
{
    double most = 0;
    float got[VOCAB];
    int32_t table[STRIDE];
    table_up(table, 0);
    *largest = 0;
    for (int32_t i = 0; i < CONTEXT; i++) {
        feed(rig, ids, i, i + 1, 1, table, got);
        for (int k = 0; k < VOCAB; k++) {
            most = fmax(most, fabs((double)got[k] - r->logits[i][k]));
            *largest = fmax(*largest, fabs(r->logits[i][k]));
        }
    }
    add(rig, ids, 0, CONTEXT, table, PICK_ALL);
    run(rig);
    for (int32_t i = 0; i < CONTEXT; i++) {
        assert_int_equal(model_logits(rig->m, i, got), OK);
        for (int k = 0; k < VOCAB; k++)
            most = fmax(most, fabs((double)got[k] - r->logits[i][k]));
    }
    return most;
}

static void equals_the_plain_one(void **state)
{
    int32_t ids[CONTEXT];
    uint32_t seed = 31;
    (void)state;
    for (int i = 0; i < CONTEXT; i++)
        ids[i] = (int32_t)(tiny_random(&seed) % VOCAB);
    for (size_t i = 0; i < ARRAY_LEN(models); i++) {
        struct reference *r = calloc(1, sizeof(*r));
        struct config config;
        char err[256];
        char dir[64];
        double largest;
        assert_non_null(r);
        tiny_dir(dir);
        tiny_save_model(dir, &models[i]);
        assert_int_equal(config_load(&config, dir, err, sizeof(err)), OK);
        assert_int_equal(weights_open(&r->w, dir, err, sizeof(err)), OK);
        r->t = &models[i];
        r->rope = config.rope;
        assert_int_equal(r->rope.kind, i == 0 ? ROPE_PLAIN : i == 1 ? ROPE_LLAMA3 : ROPE_LINEAR);
        reference_run(r, ids, CONTEXT);
        for (int f32 = 1; f32 >= 0; f32--) {
            struct rig *rig =
                rig_open(&(struct setup){.path = dir, .threads = 2, .f32 = f32, .kv_f32 = f32});
            double d = differ(rig, r, ids, &largest);
            print_message("model %zu %s: %g of %g\n", i, f32 ? "f32" : "int8", d, largest);
            assert_true(d <= (f32 ? 1e-5 : 0.1) * largest);
            rig_close(rig);
        }
        weights_close(r->w);
        free(r);
        tiny_drop(dir);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(equals_the_plain_one)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

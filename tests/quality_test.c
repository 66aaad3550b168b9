/* Aim: int8 costs less than one part in a hundred of perplexity, on text that the model in f32
 * wrote itself, for trained models and for one made to break int8: inputs of its products hold
 * one value that towers over the rest. There the probe must find exactly those products, and
 * without it the perplexity must be clearly worse, or it would prove nothing.
 *
 * Negative space: the choice is the same on every machine, thread count and number of rows; it
 * can be switched off; a healthy model has nothing to choose. */
#include "models/probe.h"
#include "tests/model_rig.h"
#include "tests/tiny_model.h"

enum { TEXTS = 10, TEXT_TOKENS = 250, PROMPT = 1 };

/* [TEXTS][TEXT_TOKENS] drawn from the model at temperature 1. */
static int32_t *write_texts(struct rig *r)
{
    int32_t *ids = calloc((size_t)TEXTS * TEXT_TOKENS, sizeof(*ids));
    int32_t table[SEQS][STRIDE];
    assert_non_null(ids);
    for (int t = 0; t < TEXTS; t++) {
        table_up(table[t], t * (TEXT_TOKENS / 16 + 1));
        ids[t * TEXT_TOKENS] = r->info->bos >= 0 ? r->info->bos : 0;
    }
    for (int i = 0; i + 1 < TEXT_TOKENS; i++) {
        for (int t = 0; t < TEXTS; t++) {
            add(r, ids + t * TEXT_TOKENS + i, i, 1, table[t], PICK_LAST);
            r->s.pick[t].how.temperature = 1;
            r->s.pick[t].how.seed = (uint64_t)t + 1;
        }
        run(r);
        for (int t = 0; t < TEXTS; t++)
            ids[t * TEXT_TOKENS + i + 1] = r->out[t].token;
    }
    return ids;
}

static double surprise(const float *logits, int32_t n, int32_t id)
{
    double most = (double)logits[argmax(logits, n)];
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += exp((double)logits[i] - most);
    return log(sum) - ((double)logits[id] - most);
}

/* exp of the mean surprise over every token but the first of each text, fed as it is. */
static double perplexity(struct rig *r, const int32_t *ids)
{
    int32_t vocab = r->info->vocab;
    float *logits = malloc((size_t)vocab * sizeof(*logits));
    double sum = 0;
    int n = 0;
    int32_t table[STRIDE];
    assert_non_null(logits);
    table_up(table, 0);
    for (int t = 0; t < TEXTS; t++) {
        const int32_t *text = ids + t * TEXT_TOKENS;
        for (int from = 0; from + 1 < TEXT_TOKENS; from += SEQS) {
            int32_t rows = min32(SEQS, TEXT_TOKENS - 1 - from);
            add(r, text + from, from, rows, table, PICK_ALL);
            run(r);
            for (int32_t i = 0; i < rows; i++, n++) {
                assert_int_equal(model_logits(r->m, i, logits), OK);
                sum += surprise(logits, vocab, text[from + i + 1]);
            }
        }
    }
    free(logits);
    return exp(sum / n);
}

static double measure(const struct setup *how, const int32_t *ids, struct model_note *note,
                      size_t max, size_t *n_notes)
{
    struct rig *r = rig_open(how);
    *n_notes = model_notes(r->m, note, max);
    double p = perplexity(r, ids);
    rig_close(r);
    return p;
}

static void trained_models_lose_little(void **state)
{
    static const char *const names[] = {
        "stories260K/hf-f32",
        "llama2xs-279K/hf-bf16",
        "shakespeare4M-llama3/hf-bf16",
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char path[512];
        const char *root = getenv("FIRSTLIGHT_SHARED");
        struct model_note note;
        size_t n_notes;
        snprintf(path, sizeof(path), "%s/models/%s", root && *root ? root : REPO_DIR "/../shared",
                 names[i]);
        if (access(path, R_OK) != 0) {
            print_message("skipped: no %s\n", path);
            continue;
        }
        struct rig *r = rig_open(&(struct setup){.path = path, .f32 = true, .kv = KV_F32});
        int32_t *ids = write_texts(r);
        double f32 = perplexity(r, ids);
        rig_close(r);
        double int8 = measure(&(struct setup){.path = path}, ids, &note, 1, &n_notes);
        print_message("%s: perplexity %.4f in f32, %.4f in int8 (%+.2f %%) over %d tokens\n",
                      names[i], f32, int8, 100 * (int8 / f32 - 1), TEXTS * (TEXT_TOKENS - 1));
        assert_true(int8 <= f32 * 1.01);
        assert_int_equal(n_notes, 0);
        free(ids);
    }
}

static const struct tiny spiky = {64,  96,   3,     4,    2,          16,           128,
                                  256, true, "F32", NULL, .seed = 77, .spiky = true};

/* Of three products in each layer, in order. */
static void check_notes(const struct model_note *note, size_t n)
{
    static const enum product found[] = {PRODUCT_QKV, PRODUCT_GATE_UP, PRODUCT_DOWN};
    assert_int_equal(n, ARRAY_LEN(found) * (size_t)spiky.layers);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(note[i].layer, i / ARRAY_LEN(found));
        assert_string_equal(note[i].product, product_name(found[i % ARRAY_LEN(found)]));
        assert_true(note[i].loss > probe_loss_max);
    }
}

static void spikes_are_found(void **state)
{
    enum { NOTES_MAX = 16 };
    struct model_note note[NOTES_MAX];
    struct model_note again[NOTES_MAX];
    size_t n;
    char dir[64];
    (void)state;
    tiny_dir(dir);
    tiny_save_model(dir, &spiky);
    struct rig *r = rig_open(&(struct setup){.path = dir, .f32 = true, .kv = KV_F32});
    int32_t *ids = write_texts(r);
    double f32 = perplexity(r, ids);
    rig_close(r);
    double without = measure(&(struct setup){.path = dir, .acts = ACTS_INT8}, ids, note, 16, &n);
    assert_int_equal(n, 0);
    double always = measure(&(struct setup){.path = dir, .acts = ACTS_FLOAT}, ids, note, 16, &n);
    assert_int_equal(n, PRODUCTS * spiky.layers);
    double with = measure(&(struct setup){.path = dir}, ids, note, NOTES_MAX, &n);
    print_message("spiky: perplexity %.4f in f32, %.4f with the probe (%+.2f %%), %.4f without "
                  "(%+.1f %%), %.4f with floats everywhere\n",
                  f32, with, 100 * (with / f32 - 1), without, 100 * (without / f32 - 1), always);
    check_notes(note, n);
    assert_true(with <= f32 * 1.01);
    assert_true(without >= f32 * 1.1);
    /* The same choice with other threads. */
    (void)measure(&(struct setup){.path = dir, .threads = 3}, ids, again, NOTES_MAX, &n);
    check_notes(again, n);
    for (size_t i = 0; i < n; i++)
        assert_true(again[i].loss == note[i].loss);
    free(ids);
    tiny_drop(dir);
}

static void loss_is_relative(void **state)
{
    const float a[4] = {3, 0, 4, 0};
    const float b[4] = {3, 0, 4, 0.5f};
    const float zero[4] = {0};
    (void)state;
    assert_true(loss_of(a, a, 4) == 0.0f);
    assert_true(fabsf(loss_of(a, b, 4) - 0.1f) < 1e-6f);
    assert_true(loss_of(zero, b, 4) == 0.0f);
    assert_true(isnan(loss_of(a, (const float[4]){NAN}, 4)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loss_is_relative),
        cmocka_unit_test(spikes_are_found),
        cmocka_unit_test(trained_models_lose_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

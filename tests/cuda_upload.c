#include "tests/model_rig.h"

#include "models/llama.h"
#include "tests/simt/fault.h"
#include "tests/tiny_model.h"

/* Aim: what goes up arrives as it was when it was told of, however late the device reads it: the
 * emulated one does when somebody waits, and no sooner.
 * Negative space: uploads of one byte to more than a pinned buffer holds, many in a row without a
 * wait, the caller's memory overwritten at once; windows filled again and again; weights of a whole
 * model, int8 as stored, quantized and float; each call of a load that fails, for once or for good,
 * is a refusal that gives back all it took. */

enum {
    CONTEXT = 64,
    IN_A_ROW = 7,
    WINDOW = 1 << 12,
    LAPS = 9,
    LARGE = (8 << 20) + 5, /* more than one pinned buffer */
};

/* More tensors than a load has slots. */
static const struct tiny shapes[] = {
    {32, 48, 4, 2, 1, 64, 61, CONTEXT, false, "BF16", NULL, .seed = 5},
    {32, 48, 4, 2, 1, 64, 61, CONTEXT, true, "F32", NULL, .seed = 6, .int8 = true},
};
static const struct tiny least = {32, 32, 1, 1, 1, 32, 41, CONTEXT, true, "BF16", NULL, .seed = 7};

static struct ops *open_backend(const char *name)
{
    struct ops *o = NULL;
    char err[256] = "";
    const struct ops_options how = {.backend = name, .threads = 1};
    if (ops_open(&o, &how, err, sizeof(err)))
        fail_msg("%s: %s", name, err);
    return o;
}

static void fill(unsigned char *to, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (unsigned char)(i * 7 + i / 251 + seed);
}

static void assert_filled(struct ops *o, const void *device, size_t n, unsigned seed)
{
    unsigned char *got = malloc(n);
    unsigned char *want = malloc(n);
    assert_true(got && want);
    o->download(o, got, device, n);
    fill(want, n, seed);
    if (memcmp(got, want, n) != 0)
        fail_msg("%zu bytes of seed %u came as others", n, seed);
    free(got);
    free(want);
}

static void test_uploads_in_a_row(void **state)
{
    static const size_t sizes[] = {1, 4, 1000, LARGE - 6, LARGE};
    (void)state;
    struct ops *o = open_backend("cuda");
    unsigned char *from = malloc(LARGE);
    assert_non_null(from);
    for (size_t s = 0; s < ARRAY_LEN(sizes); s++) {
        void *to[IN_A_ROW];
        for (unsigned i = 0; i < IN_A_ROW; i++)
            assert_int_equal(o->alloc(o, sizes[s], &to[i]), OK);
        for (unsigned i = 0; i < IN_A_ROW; i++) {
            fill(from, sizes[s], i);
            o->upload(o, to[i], from, sizes[s]);
        }
        memset(from, 0, sizes[s]);
        for (unsigned i = 0; i < IN_A_ROW; i++) {
            assert_filled(o, to[i], sizes[s], i);
            o->release(o, to[i]);
        }
    }
    free(from);
    o->close(o);
    assert_int_equal(simt_allocations(), 0);
}

static void test_windows(void **state)
{
    (void)state;
    struct ops *o = open_backend("cuda");
    struct window w[2];
    void *to[LAPS];
    for (int i = 0; i < 2; i++)
        assert_int_equal(o->window_open(o, &w[i], WINDOW), OK);
    for (unsigned i = 0; i < LAPS; i++) {
        struct window *mine = &w[i % 2];
        unsigned char *at = mine->at;
        assert_int_equal(o->alloc(o, WINDOW, &to[i]), OK);
        o->window_wait(o, mine);
        fill(at, WINDOW, i);
        o->window_send(o, mine, to[i], at, WINDOW / 4);
        o->window_send(o, mine, (char *)to[i] + WINDOW / 4, at + WINDOW / 4, WINDOW - WINDOW / 4);
    }
    for (int i = 0; i < 2; i++)
        o->window_close(o, &w[i]);
    for (unsigned i = 0; i < LAPS; i++) {
        assert_filled(o, to[i], WINDOW, i);
        o->release(o, to[i]);
    }
    o->close(o);
    assert_int_equal(simt_allocations(), 0);
}

static void assert_same_bytes(struct ops *o, const void *device, const void *host, size_t n,
                              const char *what)
{
    void *got = malloc(n);
    assert_non_null(got);
    o->download(o, got, device, n);
    if (memcmp(got, host, n) != 0)
        fail_msg("%s is another on the device", what);
    free(got);
}

static void assert_same_weight(struct ops *o, const struct weight *device,
                               const struct weight *host, const char *what)
{
    size_t n = (size_t)host->n;
    size_t k = (size_t)host->k;
    if (n == 0)
        return;
    if (host->kind == NUM_F32) {
        assert_same_bytes(o, device->f, host->f, n * k * sizeof(float), what);
        return;
    }
    assert_same_bytes(o, device->q, host->q, n * k, what);
    assert_same_bytes(o, device->scale, host->scale, n * sizeof(float), what);
}

static struct model_options model_at(const char *path)
{
    return (struct model_options){.path = path,
                                  .step_rows_max = 8,
                                  .step_seqs_max = 2,
                                  .context_max = CONTEXT,
                                  .kv_bytes = (size_t)1 << 20,
                                  .acts = ACTS_INT8};
}

static void compare_models(const char *dir)
{
    const struct model_options opt = model_at(dir);
    char err[256] = "";
    struct model *m[2];
    struct ops *o[2] = {open_backend("cuda"), open_backend("cpu")};
    for (int i = 0; i < 2; i++) {
        if (model_open(&m[i], &opt, o[i], err, sizeof(err)))
            fail_msg("%s", err);
    }
    const struct llama *device = model_llama(m[0]);
    const struct llama *host = model_llama(m[1]);
    assert_same_weight(o[0], &device->embed, &host->embed, "embed");
    assert_same_weight(o[0], &device->head, &host->head, "head");
    assert_same_weight(o[0], &device->final_norm, &host->final_norm, "final_norm");
    for (int32_t i = 0; i < host->config.info.n_layers; i++) {
        for (int p = 0; p < PRODUCTS; p++)
            assert_same_weight(o[0], &device->layer[i].product[p], &host->layer[i].product[p],
                               "a product");
        assert_same_weight(o[0], &device->layer[i].attn_norm, &host->layer[i].attn_norm, "a norm");
        assert_same_weight(o[0], &device->layer[i].ffn_norm, &host->layer[i].ffn_norm, "a norm");
    }
    for (int i = 0; i < 2; i++) {
        model_close(m[i]);
        o[i]->close(o[i]);
    }
    assert_int_equal(simt_allocations(), 0);
}

static void test_weights(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        char dir[64];
        tiny_dir(dir);
        tiny_save_model(dir, &shapes[i]);
        compare_models(dir);
        tiny_drop(dir);
    }
}

/* Call n of a load fails. False: it has no such call. */
static bool survives(const char *dir, unsigned n, bool stays, unsigned *refused)
{
    const struct model_options opt = model_at(dir);
    struct ops *o = open_backend("cuda");
    struct model *m = NULL;
    char err[256] = "";
    simt_fail_call(n, stays);
    enum status status = model_open(&m, &opt, o, err, sizeof(err));
    unsigned calls = simt_calls();
    if ((simt_failed() > 0) != (status != OK) || (status == OK) != (err[0] == '\0'))
        fail_msg("call %u failed: status %d, \"%s\"", n, (int)status, err);
    *refused += status != OK;
    simt_fail_call(0, false);
    model_close(m);
    o->close(o);
    assert_int_equal(simt_allocations(), 0);
    return calls >= n;
}

static void test_failures(void **state)
{
    char dir[64];
    (void)state;
    tiny_dir(dir);
    tiny_save_model(dir, &least);
    for (int stays = 0; stays < 2; stays++) {
        unsigned refused = 0;
        unsigned n = 1;
        while (survives(dir, n, stays, &refused))
            n++;
        print_message("%u calls of a load, %u of them needed\n", n - 1, refused);
        assert_true(refused > 40);
    }
    tiny_drop(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uploads_in_a_row),
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Aim: what --plan says is what a start takes: the same blocks, the same bytes, the same refusal,
 * worked out without a backend. Negative space: less memory than weights need, less than one
 * context, a cache of a given size, a device that is not there.
 * And: a block of the cache is one piece of memory. */
#include "kernels/paged.h"
#include "models/llama.h"
#include "models/model.h"
#include "tests/tiny_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { CONTEXT = 96, VOCAB = 97, BLOCK = 16, GRAIN = 512, ERR = 256 };

static const struct tiny shape = {64,    96,      2,     4,      2,    16,
                                  VOCAB, CONTEXT, false, "BF16", NULL, .seed = 5};

static void test_same_as_opened(void **state)
{
    static const struct {
        const char *name;
        size_t contexts; /* kv_bytes as so many; 0: chosen */
        int32_t rows;
        int32_t seqs;
        enum model_kv kv;
    } rows[] = {
        {"chosen", 0, 64, 32, KV_Q8},
        {"one context", 1, 24, 6, KV_Q8},
        {"many contexts", 50, 24, 6, KV_Q8},
        {"keys and values in f32", 0, 64, 32, KV_F32},
        {"keys and values in f16", 0, 64, 32, KV_F16},
    };
    const char *dir = *state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char err[ERR] = "";
        struct ops *ops;
        struct model *m;
        struct model_info info;
        struct model_memory memory;
        const struct ops_options backend = {.backend = "cpu", .threads = 1};
        assert_int_equal(ops_open(&ops, &backend, err, sizeof(err)), OK);
        assert_int_equal(model_inspect(&info, dir, err, sizeof(err)), OK);
        const struct model_options how = {
            .path = dir,
            .step_rows_max = rows[i].rows,
            .step_seqs_max = rows[i].seqs,
            .kv_bytes = rows[i].contexts * CONTEXT * (size_t)info.kv_bytes_per_token,
            .kv = rows[i].kv,
        };
        size_t has = ops->bytes_free(ops);
        assert_int_equal(model_plan(&memory, &info, &how, "cpu", has, err, sizeof(err)), OK);
        assert_int_equal(model_open(&m, &how, ops, err, sizeof(err)), OK);
        if (info.n_blocks != model_info(m)->n_blocks)
            fail_msg("%s: %d blocks, not %d", rows[i].name, info.n_blocks, model_info(m)->n_blocks);
        assert_int_equal(memory.weights, model_info(m)->weight_bytes);
        size_t tokens = (size_t)info.n_blocks * BLOCK;
        size_t least = tokens * (size_t)model_info(m)->kv_bytes_per_token;
        assert_in_range(memory.cache, least, least + (size_t)shape.layers * 4 * GRAIN);
        assert_int_equal(memory.free,
                         has - memory.weights - memory.scratch - memory.batch - memory.cache);
        model_close(m);
        ops->close(ops);
    }
}

static void test_of_a_device_that_is_not_there(void **state)
{
    static const struct {
        size_t bytes;
        enum status want;
    } rows[] = {
        {(size_t)80 << 30, OK}, {(size_t)2 << 20, OK}, {1 << 17, E_NOMEM},
        {1, E_NOMEM},           {0, E_NOMEM},
    };
    const char *dir = *state;
    int32_t n_before = INT32_MAX;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char err[ERR] = "";
        struct model_info info = {0};
        struct model_memory memory;
        const struct model_options how = {.path = dir, .step_rows_max = 64, .step_seqs_max = 8};
        enum status s = model_plan(&memory, &info, &how, "cuda", rows[i].bytes, err, sizeof(err));
        if (s != rows[i].want)
            fail_msg("%zu bytes: %s (%s)", rows[i].bytes, status_text(s), err);
        assert_int_equal(s == OK, err[0] == '\0');
        if (s)
            continue;
        assert_true(info.n_blocks < n_before && info.n_blocks * BLOCK >= CONTEXT);
        assert_true(memory.free < rows[i].bytes);
        n_before = info.n_blocks;
    }
}

/* So that no more pages are touched than blocks in use have, whatever the number of layers. */
static void test_a_block_is_one_piece(void **state)
{
    static const enum model_kv kinds[] = {KV_Q8, KV_F32, KV_F16};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        char err[ERR] = "";
        struct ops *ops;
        struct model *m;
        const struct ops_options backend = {.backend = "cpu", .threads = 1};
        const struct model_options how = {
            .path = *state, .step_rows_max = 24, .step_seqs_max = 6, .kv = kinds[i]};
        assert_int_equal(ops_open(&ops, &backend, err, sizeof(err)), OK);
        assert_int_equal(model_open(&m, &how, ops, err, sizeof(err)), OK);
        const struct llama_layer *layer = model_llama(m)->layer;
        const char *block = layer[0].kv.key;
        size_t used = 0;
        for (int32_t l = 0; l < shape.layers; l++) {
            const struct kv_layer *kv = &layer[l].kv;
            const char *last = kinds[i] == KV_Q8 ? (char *)kv->value_scale : kv->value;
            size_t each = kv_layer_bytes(kv->kind, &layer[l].shape);
            assert_int_equal(kv->block_bytes, (size_t)shape.layers * each);
            assert_ptr_equal(kv->key, block + (size_t)l * each);
            assert_true(last > (char *)kv->key && last < (char *)kv->key + each);
            used += each;
        }
        assert_int_equal(used, layer[0].kv.block_bytes);
        assert_int_equal(used, BLOCK * model_info(m)->kv_bytes_per_token);
        model_close(m);
        ops->close(ops);
    }
}

static int make_model(void **state)
{
    static char dir[64];
    tiny_dir(dir);
    tiny_save_model(dir, &shape);
    *state = dir;
    return 0;
}

static int drop_model(void **state)
{
    tiny_drop(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_as_opened),
        cmocka_unit_test(test_a_block_is_one_piece),
        cmocka_unit_test(test_of_a_device_that_is_not_there),
    };
    return cmocka_run_group_tests(tests, make_model, drop_model);
}

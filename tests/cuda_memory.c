#include "tests/model_rig.h"

#include "kernels/ops_cuda.h"
#include "tests/simt/fault.h"
#include "tests/tiny_model.h"

/* Aim: what --plan says of a device is what the runtime is asked for, to the byte: the backend's
 * own memory, weights, scratch, the batch and the cache; and nothing is asked for afterwards.
 * Negative space: caches of every kind, chosen by the backend, by an option and to the last byte
 * that is free; steps that draw with lists and masks of every size, more of them than a group of
 * picks has room for; a pick that never has; a device that no kernel is for. */

enum {
    CONTEXT = 64,
    VOCAB = 61,
    LONG_LIST = 600000,
    MANY = 11, /* picks, whose words fill more than two groups */
};

static const struct tiny shape = {32,    48,      2,     2,      1,    64,
                                  VOCAB, CONTEXT, false, "BF16", NULL, .seed = 5};

static struct ops *open_backend(const char *name)
{
    struct ops *o = NULL;
    char err[256] = "";
    const struct ops_options how = {.backend = name, .threads = 1};
    if (ops_open(&o, &how, err, sizeof(err)))
        fail_msg("%s: %s", name, err);
    return o;
}

static void test_own(void **state)
{
    (void)state;
    struct ops *o = open_backend("cuda");
    assert_int_equal(simt_device_bytes(), CUDA_TAKEN_BYTES);
    assert_int_equal(simt_pinned_bytes(), CUDA_PINNED_BYTES);
    assert_int_equal(ops_own_bytes("cuda").device - CUDA_TAKEN_BYTES,
                     (size_t)CUDA_GRAPHS_MAX * CUDA_GRAPH_BYTES);
    size_t total = o->bytes_total(o);
    assert_int_equal(o->bytes_free(o), total - ops_own_bytes("cuda").device);
    o->close(o);
    assert_int_equal(simt_device_bytes(), 0);
    assert_int_equal(simt_pinned_bytes(), 0);
}

static void test_plan(void **state)
{
    static const struct {
        const char *name;
        size_t kv_bytes; /* 0: chosen */
        int32_t rows;
        int32_t seqs;
        enum model_kv kv;
    } rows[] = {
        {"chosen", 0, 64, 32, KV_Q8},
        {"by an option", 1000000, 24, 6, KV_Q8},
        {"f32", 3000000, 64, 32, KV_F32},
        {"f16", 3333333, 64, 32, KV_F16},
    };
    const char *dir = *state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct ops *o = open_backend("cuda");
        struct model *m;
        struct model_info info;
        struct model_memory memory;
        char err[256] = "";
        const struct model_options how = {.path = dir,
                                          .step_rows_max = rows[i].rows,
                                          .step_seqs_max = rows[i].seqs,
                                          .kv_bytes = rows[i].kv_bytes,
                                          .kv = rows[i].kv};
        size_t before = simt_device_bytes();
        size_t pinned = simt_pinned_bytes();
        size_t has = o->bytes_free(o);
        assert_int_equal(model_plan(&memory, &info, &how, "cuda", has, err, sizeof(err)), OK);
        assert_int_equal(model_open(&m, &how, o, err, sizeof(err)), OK);
        size_t taken = simt_device_bytes() - before;
        size_t planned = memory.weights + memory.scratch + memory.batch + memory.cache;
        if (taken != planned || o->bytes_free(o) != memory.free)
            fail_msg("%s: %zu bytes planned, %zu taken", rows[i].name, planned, taken);
        assert_int_equal(info.n_blocks, model_info(m)->n_blocks);
        assert_int_equal(simt_pinned_bytes(), pinned);
        model_close(m);
        o->close(o);
    }
}

/* A cache that is to have all that is left: whole pieces of it, and not a byte too much. */
static void test_last_byte(void **state)
{
    const char *dir = *state;
    char err[256] = "";
    struct model_info info;
    struct model_memory memory;
    struct model_options how = {.path = dir, .step_rows_max = 8, .step_seqs_max = 2};
    const size_t fixed = (size_t)1 << 21;
    how.kv_bytes = 1 << 19;
    assert_int_equal(model_plan(&memory, &info, &how, "cuda", fixed, err, sizeof(err)), OK);
    size_t least = memory.weights + memory.scratch + memory.batch;
    for (size_t more = 0; more < 3000; more += 37) {
        how.kv_bytes = (1 << 19) + more;
        size_t has = least + how.kv_bytes;
        assert_int_equal(model_plan(&memory, &info, &how, "cuda", has, err, sizeof(err)), OK);
        size_t planned = memory.weights + memory.scratch + memory.batch + memory.cache;
        assert_true(planned <= has && memory.free == has - planned);
    }
}

/* Each may not draw one token, said again and again, nor the one of its own number. */
struct lists {
    int32_t banned[MANY][CUDA_PICK_WORDS / 2 + 1];
    uint32_t allowed[MANY][(VOCAB + 31) / 32];
    struct pick pick[MANY];
};

static struct lists *make_lists(void)
{
    struct lists *l = calloc(1, sizeof(*l));
    assert_non_null(l);
    memset(l->allowed, 0xff, sizeof(l->allowed));
    for (int32_t i = 0; i < MANY; i++) {
        for (int32_t k = 0; k < LONG_LIST; k++)
            l->banned[i][k] = VOCAB - 1 - i;
        l->allowed[i][i / 32] &= ~(1u << i % 32);
        l->pick[i] = greedy(i, i);
        l->pick[i].how.temperature = i % 2 ? 2.0f : 0.0f;
        l->pick[i].how.seed = (uint64_t)i;
        l->pick[i].banned = l->banned[i];
        l->pick[i].n_banned = LONG_LIST;
        l->pick[i].allowed = l->allowed[i];
    }
    return l;
}

static enum status draw(struct ops *o, const struct lists *l, struct picked *out)
{
    float host[MANY * VOCAB];
    float *logits = NULL;
    uint32_t random = 99;
    for (size_t i = 0; i < ARRAY_LEN(host); i++)
        host[i] = (float)(tiny_random(&random) % 4096) / 512.0f;
    assert_int_equal(o->alloc(o, sizeof(host), (void **)&logits), OK);
    o->upload(o, logits, host, sizeof(host));
    size_t before = simt_device_bytes();
    o->picks(o, out, l->pick, MANY, VOCAB);
    if (o->step_begin(o, NULL))
        (void)o->step_end(o);
    o->sample(o, logits);
    o->step_launch(o);
    enum status status = o->step_wait(o);
    assert_int_equal(simt_device_bytes(), before);
    o->release(o, logits);
    return status;
}

static void test_groups(void **state)
{
    (void)state;
    struct lists *l = make_lists();
    struct picked want[MANY];
    struct picked got[MANY];
    assert_true(pick_words(l->pick, MANY, VOCAB) > 2 * CUDA_PICK_WORDS);
    struct ops *cpu = open_backend("cpu");
    struct ops *cuda = open_backend("cuda");
    assert_int_equal(draw(cpu, l, want), OK);
    assert_int_equal(draw(cuda, l, got), OK);
    for (int32_t i = 0; i < MANY; i++) {
        assert_int_equal(got[i].token, want[i].token);
        assert_true(got[i].token != i && got[i].token != VOCAB - 1 - i);
    }
    cpu->close(cpu);
    cuda->close(cuda);
    free(l);
}

static void test_no_room_for_one(void **state)
{
    (void)state;
    struct lists *l = make_lists();
    struct picked got[MANY];
    l->pick[MANY - 1].n_banned = CUDA_PICK_WORDS / 2 + 1;
    struct ops *o = open_backend("cuda");
    assert_int_equal(draw(o, l, got), E_DEVICE);
    o->close(o);
    free(l);
    assert_int_equal(simt_allocations(), 0);
}

/* Too old for any of the kernels: said so, and not by the first of them. */
static void test_old_device(void **state)
{
    (void)state;
    struct ops *o = NULL;
    char err[256] = "";
    const struct ops_options how = {.backend = "cuda", .threads = 1};
    assert_int_equal(setenv("SIMT_SM", "75", 1), 0);
    assert_int_equal(ops_open(&o, &how, err, sizeof(err)), E_UNSUPPORTED);
    assert_non_null(strstr(err, "sm_75"));
    assert_int_equal(unsetenv("SIMT_SM"), 0);
    assert_int_equal(simt_allocations(), 0);
}

static int setup(void **state)
{
    return tiny_setup(state, &shape);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own),
        cmocka_unit_test(test_plan),
        cmocka_unit_test(test_last_byte),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_no_room_for_one),
        cmocka_unit_test(test_old_device),
    };
    return cmocka_run_group_tests(tests, setup, tiny_teardown);
}

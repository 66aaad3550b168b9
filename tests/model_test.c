/* Aim: a model computes the same whatever surrounds it, to the bit: a sequence's logits are the
 * same alone, in company, in any chunking, in any blocks, on any number of threads, and when
 * computed again; and opening one says what it needs, or why it cannot be.
 *
 * Negative space: prompts that end on, before and behind a block's border; one kv head and
 * as many as heads; a first step of one token; blocks in descending order; a context that
 * is used to its last position; memory that is too small, or fails at any allocation; a file
 * cut while it is read. */
#include "tests/model_rig.h"
#include "tests/tiny_model.h"

#include <sys/wait.h>

enum { TINY_CONTEXT = 64, TINY_VOCAB = 97 };

static const struct tiny shapes[] = {
    {48, 44, 2, 6, 2, 8, TINY_VOCAB, TINY_CONTEXT, true, "F32", NULL, .seed = 7}, /* groups of 3 */
    {64, 96, 3, 4, 1, 16, TINY_VOCAB, TINY_CONTEXT, false, "BF16", NULL,
     .seed = 8}, /* one kv head */
    {32, 64, 1, 4, 4, 24, TINY_VOCAB, TINY_CONTEXT, false, "F16", NULL,
     .seed = 9}, /* q wider than x */
    /* a window that ends inside of blocks, biases */
    {32, 64, 2, 4, 2, 8, TINY_VOCAB, TINY_CONTEXT, true, "F32",
     "\"use_sliding_window\":true,\"sliding_window\":21,\"max_window_layers\":1,", .seed = 10,
     .arch = "Qwen2ForCausalLM", .qkv_bias = true},
    /* heads with norms, int8 in the file */
    {32, 64, 2, 4, 2, 8, TINY_VOCAB, TINY_CONTEXT, true, "BF16", NULL, .seed = 11,
     .arch = "Qwen3ForCausalLM", .qk_norm = true, .int8 = true},
};

/* Around the borders of blocks, the beginning, and the end of the context. */
static const int32_t lengths[] = {1, 2, 15, 16, 17, 31, 32, 33, 48, TINY_CONTEXT};

static void random_ids(int32_t *ids, int32_t n, uint32_t seed)
{
    for (int32_t i = 0; i < n; i++)
        ids[i] = (int32_t)(tiny_random(&seed) % TINY_VOCAB);
}

/* want[i]: logits after lengths[i] tokens, each computed alone and in one piece. */
struct wanted {
    int32_t ids[TINY_CONTEXT];
    float want[ARRAY_LEN(lengths)][TINY_VOCAB];
};

static void table_down(int32_t *table, int32_t last)
{
    for (int32_t i = 0; i < STRIDE; i++)
        table[i] = last - i;
}

static void same_bits(const float *got, const float *want, const char *what, int32_t n)
{
    if (memcmp(got, want, TINY_VOCAB * sizeof(*got)) != 0)
        fail_msg("%s: %d tokens: logits differ by %g", what, n, worst(got, want, TINY_VOCAB));
}

static void want_alone(struct rig *r, struct wanted *w)
{
    int32_t table[STRIDE];
    table_up(table, 0);
    random_ids(w->ids, TINY_CONTEXT, 4711);
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        feed(r, w->ids, 0, lengths[i], TINY_CONTEXT, table, w->want[i]);
        for (int32_t t = 0; t < TINY_VOCAB; t++)
            assert_true(isfinite(w->want[i][t]));
        /* A model that answers the same whatever it reads would pass everything below. */
        if (i > 0)
            assert_memory_not_equal(w->want[i], w->want[i - 1], sizeof(w->want[i]));
    }
}

static void in_chunks(struct rig *r, const struct wanted *w)
{
    static const int32_t chunks[] = {1, 7, 16, TINY_CONTEXT};
    float got[TINY_VOCAB];
    int32_t table[STRIDE];
    table_down(table, r->info->n_blocks - 1);
    for (size_t c = 0; c < ARRAY_LEN(chunks); c++) {
        for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
            feed(r, w->ids, 0, lengths[i], chunks[c], table, got);
            same_bits(got, w->want[i], "in chunks", lengths[i]);
        }
    }
}

/* Neighbours: one decodes at the end of its context, one reads a prompt of 13. */
static void in_company(struct rig *r, const struct wanted *w)
{
    int32_t other[TINY_CONTEXT];
    int32_t a[STRIDE];
    int32_t b[STRIDE];
    int32_t c[STRIDE];
    float got[TINY_VOCAB];
    random_ids(other, TINY_CONTEXT, 1234);
    table_up(a, 8);
    table_up(b, 16);
    table_down(c, 31);
    feed(r, other, 0, TINY_CONTEXT - 1, 16, b, got);
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        for (int place = 0; place < 3; place++) {
            for (int at = 0; at < 3; at++) {
                if (at == place)
                    add(r, w->ids, 0, lengths[i], a, PICK_LAST);
                else if ((at + 3 - place) % 3 == 1)
                    add(r, other + TINY_CONTEXT - 1, TINY_CONTEXT - 1, 1, b, PICK_LAST);
                else
                    add(r, other, 0, 13, c, at == 1 ? PICK_NONE : PICK_ALL);
            }
            int32_t mine = 0;
            while (r->s.pick[mine].row != r->s.seq_start[place + 1] - 1)
                mine++;
            run(r);
            assert_int_equal(model_logits(r->m, mine, got), OK);
            same_bits(got, w->want[i], "in company", lengths[i]);
        }
    }
}

/* Half of it computed, its blocks given to another, all of it computed again. */
static void recomputed(struct rig *r, const struct wanted *w)
{
    int32_t other[TINY_CONTEXT];
    int32_t a[STRIDE];
    int32_t b[STRIDE];
    float got[TINY_VOCAB];
    random_ids(other, TINY_CONTEXT, 99);
    table_up(a, 4);
    table_down(b, 5);
    b[2] = 20;
    b[3] = 3;
    for (size_t i = 1; i < ARRAY_LEN(lengths); i++) {
        feed(r, w->ids, 0, lengths[i] / 2, 5, a, got);
        feed(r, other, 0, TINY_CONTEXT, 16, a, got);
        feed(r, w->ids, 0, lengths[i], 9, b, got);
        same_bits(got, w->want[i], "computed again", lengths[i]);
    }
}

/* A token handed over on the device against the same token given by the host. */
static void handed_over(struct rig *r, const struct wanted *w)
{
    static const int32_t order[] = {2, 0, 1};
    int32_t ids[3][TINY_CONTEXT];
    int32_t table[STRIDE];
    int32_t drawn[3];
    float got[3][TINY_VOCAB];
    float want[TINY_VOCAB];
    for (int32_t i = 0; i < 3; i++) {
        memcpy(ids[i], w->ids, sizeof(ids[i]));
        ids[i][0] = 10 + i;
        table_up(table, 8 * i);
        add(r, ids[i], 0, 14 + i, table, PICK_LAST);
    }
    run(r);
    for (int32_t i = 0; i < 3; i++) {
        drawn[i] = r->out[i].token;
        assert_int_equal(model_logits(r->m, i, want), OK);
        assert_int_equal(drawn[i], argmax(want, TINY_VOCAB));
    }
    for (int32_t i = 0; i < 3; i++) {
        int32_t who = order[i];
        int32_t token = ~who;
        table_up(table, 8 * who);
        add(r, &token, 14 + who, 1, table, PICK_LAST);
    }
    run(r);
    for (int32_t i = 0; i < 3; i++)
        assert_int_equal(model_logits(r->m, i, got[i]), OK);
    for (int32_t i = 0; i < 3; i++) {
        int32_t who = order[i];
        table_up(table, 8 * who);
        add(r, &drawn[who], 14 + who, 1, table, PICK_LAST);
        run(r);
        assert_int_equal(model_logits(r->m, 0, want), OK);
        same_bits(got[i], want, "handed over", 14 + who);
    }
}

static void check_tiny(const char *dir, bool f32, enum model_kv kv)
{
    struct wanted *w = calloc(2, sizeof(*w));
    assert_non_null(w);
    for (int32_t threads = 1; threads <= 3; threads++) {
        struct rig *r =
            rig_open(&(struct setup){.path = dir, .threads = threads, .f32 = f32, .kv = kv});
        want_alone(r, &w[threads > 1]);
        assert_memory_equal(&w[threads > 1], &w[0], sizeof(*w));
        if (threads < 3) {
            in_chunks(r, w);
            in_company(r, w);
            recomputed(r, w);
            handed_over(r, w);
        }
        rig_close(r);
    }
    free(w);
}

static void same_answer_in_any_company(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        char dir[64];
        tiny_dir(dir);
        tiny_save_model(dir, &shapes[i]);
        check_tiny(dir, false, KV_Q8);
        check_tiny(dir, true, KV_F32);
        check_tiny(dir, false, KV_F32);
        check_tiny(dir, false, KV_F16);
        tiny_drop(dir);
    }
}

/* The same numbers stored in three ways are the same model. */
static void stored_types_agree(void **state)
{
    static const char *const dtypes[] = {"F32", "F16", "BF16"};
    float want[TINY_VOCAB];
    float got[TINY_VOCAB];
    int32_t ids[20];
    int32_t table[STRIDE];
    (void)state;
    table_up(table, 0);
    random_ids(ids, 20, 5);
    for (size_t i = 0; i < ARRAY_LEN(dtypes); i++) {
        char dir[64];
        struct tiny t = shapes[0];
        t.dtype = dtypes[i];
        tiny_dir(dir);
        tiny_save_model(dir, &t);
        struct rig *r = rig_open(&(struct setup){.path = dir, .threads = 1});
        feed(r, ids, 0, 20, 20, table, i == 0 ? want : got);
        if (i > 0)
            same_bits(got, want, dtypes[i], 20);
        rig_close(r);
        tiny_drop(dir);
    }
}

/* --- opening --- */

static void inspect_tells_what_open_does(void **state)
{
    struct model_info f;
    char err[256] = "";
    char dir[64];
    (void)state;
    tiny_dir(dir);
    tiny_save_model(dir, &shapes[1]);
    tiny_save(dir, "generation_config.json", "{\"eos_token_id\":[2,5],\"top_p\":0.5}", 34);
    assert_int_equal(model_inspect(&f, dir, err, sizeof(err)), OK);
    struct rig *r = rig_open(&(struct setup){.path = dir, .threads = 1});
    assert_string_equal(f.arch, "LlamaForCausalLM");
    assert_int_equal(f.n_params, r->info->n_params);
    assert_int_equal(f.file_bytes, 2 * f.n_params);
    assert_int_equal(f.file_bytes, r->info->file_bytes);
    assert_int_equal(f.weight_bytes, r->info->weight_bytes);
    assert_int_equal(f.kv_bytes_per_token, 3 * 2 * (16 + 4));
    assert_int_equal(f.kv_bytes_per_token, r->info->kv_bytes_per_token);
    assert_int_equal(f.block_tokens, 16);
    assert_int_equal(f.n_blocks, 0);
    assert_int_equal(r->info->n_blocks, SEQS * TINY_CONTEXT / 16);
    assert_int_equal(f.bos, 1);
    assert_int_equal(f.n_eos, 2);
    assert_int_equal(f.eos[0], 2);
    assert_int_equal(f.eos[1], 5);
    assert_true(f.top_p == 0.5f && f.temperature < 0 && f.top_k < 0 && f.repetition < 0);
    assert_false(f.tied);
    rig_close(r);
    tiny_drop(dir);
}

static void refuses_what_cannot_be(void **state)
{
    /* Per token 3 layers * 2 * (16 + 4) = 120 bytes: 16 * 120 a block. */
    static const struct {
        struct setup setup;
        enum status status;
        const char *says;
    } rows[] = {
        {{.kv_bytes = 4 * 1920 - 1}, E_NOMEM, "--context 48 fits"},
        {{.kv_bytes = 1}, E_NOMEM, "no context fits"},
        {{.kv_bytes = SIZE_MAX / 4}, E_NOMEM, "is asked for"},
        {{.context = TINY_CONTEXT + 1}, E_INVALID, "65 is over the model's 64"},
        {{.context = -1}, E_INVALID, "-1"},
    };
    char dir[64];
    (void)state;
    tiny_dir(dir);
    tiny_save_model(dir, &shapes[1]);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char err[256] = "";
        struct rig *r = NULL;
        struct setup s = rows[i].setup;
        s.path = dir;
        s.threads = 1;
        assert_int_equal(rig_try(&r, &s, err, sizeof(err)), rows[i].status);
        if (!strstr(err, rows[i].says))
            fail_msg("\"%s\" does not say \"%s\"", err, rows[i].says);
    }
    struct rig *r =
        rig_open(&(struct setup){.path = dir, .threads = 1, .context = 40, .kv_bytes = 3 * 1920});
    assert_int_equal(r->info->n_blocks, 3);
    assert_int_equal(r->info->context_max, 40);
    rig_close(r);
    tiny_drop(dir);
}

static enum status (*true_alloc)(struct ops *o, size_t bytes, void **out);
static int32_t allocs_left;

static enum status failing_alloc(struct ops *o, size_t bytes, void **out)
{
    return allocs_left-- > 0 ? true_alloc(o, bytes, out) : E_NOMEM;
}

/* Every allocation of the backend fails once; nothing may leak or be read. */
static void survives_lack_of_memory(void **state)
{
    const struct ops_options how = {.backend = backend(), .threads = 1};
    struct ops *ops;
    char err[256];
    char dir[64];
    enum status status = E_NOMEM;
    (void)state;
    tiny_dir(dir);
    tiny_save_model(dir, &shapes[1]);
    assert_int_equal(ops_open(&ops, &how, err, sizeof(err)), OK);
    true_alloc = ops->alloc;
    ops->alloc = failing_alloc;
    int32_t n = 0;
    for (; status != OK && n < 1000; n++) {
        const struct model_options opt = {.path = dir, .step_rows_max = 8, .step_seqs_max = 2};
        struct model *m = NULL;
        allocs_left = n;
        status = model_open(&m, &opt, ops, err, sizeof(err));
        assert_true(status == OK || (status == E_NOMEM && err[0]));
        model_close(m);
    }
    assert_true(n > 40 && n < 1000);
    ops->close(ops);
    tiny_drop(dir);
}

static int32_t steps_left;

static enum status failing_wait(struct ops *o)
{
    (void)o;
    return steps_left-- > 0 ? OK : E_DEVICE;
}

/* Lost at the first step, the model does not open; lost later, the step says so and so does
 * whoever asks for what it computed. No step takes memory. */
static void a_lost_device_is_told(void **state)
{
    int32_t table[STRIDE];
    int32_t ids[3] = {1, 2, 3};
    float logits[TINY_VOCAB];
    char err[256] = "";
    char dir[64];
    struct model *m = NULL;
    (void)state;
    tiny_dir(dir);
    tiny_save_model(dir, &shapes[0]);
    table_up(table, 0);
    struct rig *r = rig_open(&(struct setup){.path = dir, .threads = 1});
    enum status (*true_wait)(struct ops *) = r->ops->step_wait;
    true_alloc = r->ops->alloc;
    allocs_left = 0;
    r->ops->alloc = failing_alloc;
    feed(r, ids, 0, 3, 3, table, logits);
    r->ops->alloc = true_alloc;

    r->ops->step_wait = failing_wait;
    steps_left = 0;
    add(r, ids, 0, 1, table, PICK_LAST);
    const struct model_batch b = batch_of(&r->s);
    model_launch(r->m, &b);
    assert_int_equal(model_wait(r->m, r->out), E_DEVICE);
    assert_int_equal(model_logits(r->m, 0, logits), E_DEVICE);
    const struct model_options opt = {.path = dir, .step_rows_max = 8, .step_seqs_max = 2};
    assert_int_equal(model_open(&m, &opt, r->ops, err, sizeof(err)), E_DEVICE);
    assert_string_equal(err, "model: the backend fails at the first step");
    r->ops->step_wait = true_wait;
    rig_close(r);
    tiny_drop(dir);
}

static void cut_file(void *arg, uint64_t done, uint64_t total)
{
    char path[512];
    assert_true(done <= total);
    snprintf(path, sizeof(path), "%s/model.safetensors", (const char *)arg);
    assert_int_equal(truncate(path, 100000), 0);
}

/* While it is read: widened values, and int8 rows that go to their place as they are. */
static void survives_a_file_that_shrinks(void **state)
{
    static const struct tiny files[] = {
        {512, 64, 1, 4, 4, 8, 8192, 64, true, "F32", NULL, .seed = 3},
        {512, 64, 1, 4, 4, 8, 8192, 64, true, "BF16", NULL, .seed = 3},
        {128, 4096, 2, 4, 4, 32, 64, 64, true, "F32", NULL, .seed = 3, .int8 = true},
    };
    const struct ops_options how = {.backend = backend(), .threads = 1};
    char err[256] = "";
    char dir[64];
    struct ops *ops;
    struct model *m = NULL;
    (void)state;
    tiny_dir(dir);
    assert_int_equal(ops_open(&ops, &how, err, sizeof(err)), OK);
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        tiny_save_model(dir, &files[i]);
        const struct model_options opt = {.path = dir,
                                          .step_rows_max = 8,
                                          .step_seqs_max = 2,
                                          .progress = cut_file,
                                          .progress_arg = dir};
        assert_int_equal(model_open(&m, &opt, ops, err, sizeof(err)), E_IO);
        assert_non_null(strstr(err, "model.safetensors: tensor \"model."));
    }
    ops->close(ops);
    tiny_drop(dir);
}

/* Once it is loaded, a model needs its files no more. */
static void serves_without_its_files(void **state)
{
    const int32_t ids[3] = {5, 6, 7};
    int32_t table[STRIDE];
    float want[TINY_VOCAB];
    float got[TINY_VOCAB];
    (void)state;
    table_up(table, 0);
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        char dir[64];
        char path[128];
        tiny_dir(dir);
        tiny_save_model(dir, &shapes[i]);
        struct rig *r = rig_open(&(struct setup){.path = dir, .threads = 1});
        feed(r, ids, 0, 3, 3, table, want);
        snprintf(path, sizeof(path), "%s/model.safetensors", dir);
        assert_int_equal(truncate(path, 0), 0);
        feed(r, ids, 0, 3, 3, table, got);
        assert_memory_equal(got, want, sizeof(want));
        rig_close(r);
        tiny_drop(dir);
    }
}

/* Kilobytes, or 0 where the kernel does not tell. */
static long peak_kb(void)
{
    char line[128];
    long kb = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof(line), f))
        kb = strncmp(line, "VmHWM:", 6) == 0 ? strtol(line + 6, NULL, 10) : kb;
    if (f)
        fclose(f);
    return kb;
}

/* Loads by itself, so that the peak is this model's; the exit status says how it went. */
static void load_small(const char *dir)
{
    enum { SPARE_KB = 64 << 10 };
    struct model *m = NULL;
    struct ops *ops;
    char err[256];
    long before = peak_kb();
    const struct ops_options how = {.backend = "cpu", .threads = 2};
    const struct model_options opt = {.path = dir, .step_rows_max = 8, .step_seqs_max = 1};
    if (ops_open(&ops, &how, err, sizeof(err)) || model_open(&m, &opt, ops, err, sizeof(err)))
        _exit(2);
    long weights = (long)(model_info(m)->weight_bytes >> 10);
    _exit(peak_kb() - before <= weights + SPARE_KB ? 0 : 1);
}

/* 128 MB of f32 become 32 MB of int8: what is held beyond that does not grow with the file. */
static void loads_in_little_memory(void **state)
{
    static const struct tiny large = {512, 64, 1, 4, 4, 8, 65536, 64, true, "F32", NULL, .seed = 4};
    char dir[64];
    int status = -1;
    (void)state;
    tiny_dir(dir);
    tiny_save_model(dir, &large);
    pid_t child = fork();
    if (child == 0)
        load_small(dir);
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    tiny_drop(dir);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_answer_in_any_company),   cmocka_unit_test(stored_types_agree),
        cmocka_unit_test(inspect_tells_what_open_does), cmocka_unit_test(refuses_what_cannot_be),
        cmocka_unit_test(survives_lack_of_memory),      cmocka_unit_test(a_lost_device_is_told),
        cmocka_unit_test(survives_a_file_that_shrinks), cmocka_unit_test(serves_without_its_files),
        cmocka_unit_test(loads_in_little_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

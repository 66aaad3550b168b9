/* Aim: a converted model is the model. Its logits equal, to the bit, those of the source opened
 * in int8; its tensors have the names, types and shapes that other servers look for; the
 * probe's choice comes along. Of a GGUF file come its conversations and ends, too.
 *
 * Negative space: what is there is not overwritten; a source that is broken, in int8 already or
 * without a tokenizer, and a disk without room, leave nothing behind but a line. */
#include "models/chat.h"
#include "models/convert.h"
#include "models/probe.h"
#include "models/safetensors_write.h"
#include "models/tokenizer.h"
#include "tests/lies.h"
#include "tests/model_rig.h"
#include "tests/tiny_model.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>

enum { VOCAB = 64, TOKENS = 40 };

static const struct tiny sources[] = {
    {32, 48, 2, 4, 2, 8, VOCAB, 64, false, "BF16", NULL, .seed = 41},
    {32, 48, 2, 4, 1, 16, VOCAB, 64, true, "F32", NULL, .seed = 42, .arch = "Qwen2ForCausalLM",
     .qkv_bias = true},
    {32, 40, 1, 2, 2, 64, VOCAB, 64, true, "F16", NULL, .seed = 43, .arch = "Qwen3ForCausalLM",
     .qk_norm = true},
    {64, 96, 2, 4, 2, 16, VOCAB, 64, true, "F32", NULL, .seed = 44, .spiky = true},
};

struct place {
    char dir[64]; /* holds the source and, in "out", what becomes of it */
    char out[80];
};

static struct place place_make(const struct tiny *t)
{
    struct place p;
    tiny_dir(p.dir);
    tiny_save_model(p.dir, t);
    tiny_save(p.dir, "tokenizer.json", "{}", 2);
    snprintf(p.out, sizeof(p.out), "%s/out", p.dir);
    return p;
}

static void unlink_all(const char *dir)
{
    DIR *d = opendir(dir);
    if (!d)
        return;
    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        char path[512];
        snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        (void)unlink(path);
    }
    closedir(d);
    (void)rmdir(dir);
}

static void place_drop(const struct place *p)
{
    unlink_all(p->out);
    unlink_all(p->dir);
}

static enum status convert(const char *src, const char *dst, char *err, size_t err_size)
{
    struct ops *ops = NULL;
    const struct ops_options how = {.backend = "cpu", .threads = 2};
    const struct convert_options opt = {.src = src, .dst = dst};
    assert_int_equal(ops_open(&ops, &how, err, err_size), OK);
    enum status s = convert_model(&opt, ops, err, err_size);
    ops->close(ops);
    return s;
}

static void logits_of(const char *path, float *out, struct model_note *note, size_t *n)
{
    int32_t ids[TOKENS];
    int32_t table[STRIDE];
    struct rig *r = rig_open(&(struct setup){.path = path, .threads = 2});
    uint32_t seed = 5;
    for (int i = 0; i < TOKENS; i++)
        ids[i] = (int32_t)(tiny_random(&seed) % VOCAB);
    table_up(table, 0);
    feed(r, ids, 0, TOKENS, 16, table, out);
    *n = model_notes(r->m, note, 16);
    rig_close(r);
}

static void check_tensors(const char *dir, const struct tiny *t)
{
    struct weights *w = NULL;
    char err[256];
    assert_int_equal(weights_open(&w, dir, err, sizeof(err)), OK);
    const struct tensor *q = weights_find(w, "model.layers.0.self_attn.k_proj.weight");
    const struct tensor *s = weights_find(w, "model.layers.0.self_attn.k_proj.weight_scale");
    assert_true(q && s);
    assert_int_equal(q->dtype, DTYPE_I8);
    assert_int_equal(q->dim[0], t->kv_heads * t->head_dim);
    assert_int_equal(q->dim[1], t->dim);
    assert_int_equal(s->dtype, DTYPE_F32);
    assert_int_equal(s->rank, 2);
    assert_int_equal(s->dim[0], q->dim[0]);
    assert_int_equal(s->begin % sizeof(float), 0);
    const struct tensor *embed = weights_find(w, "model.embed_tokens.weight");
    assert_string_equal(dtype_info((enum dtype)embed->dtype)->name, t->dtype);
    assert_int_equal(weights_find(w, "lm_head.weight") != NULL, !t->tied);
    weights_close(w);
}

static void the_same_model_comes_out(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sources); i++) {
        struct place p = place_make(&sources[i]);
        char err[256] = "";
        float want[VOCAB];
        float got[VOCAB];
        struct model_note notes[2][16];
        size_t n[2];
        if (convert(p.dir, p.out, err, sizeof(err)))
            fail_msg("%s", err);
        check_tensors(p.out, &sources[i]);
        logits_of(p.dir, want, notes[0], &n[0]);
        logits_of(p.out, got, notes[1], &n[1]);
        assert_memory_equal(got, want, sizeof(want));
        assert_int_equal(n[0], n[1]);
        assert_int_equal(n[0], sources[i].spiky ? 3 * sources[i].layers : 0);
        for (size_t k = 0; k < n[0]; k++) {
            assert_string_equal(notes[0][k].product, notes[1][k].product);
            assert_true(fabsf(notes[0][k].loss - notes[1][k].loss) < 1e-6f);
        }
        assert_true(file_present(p.out, "tokenizer.json"));
        /* There already, and int8 already. */
        expect("twice", convert(p.dir, p.out, err, sizeof(err)), E_INVALID, err,
               "exists, and nothing is overwritten");
        char again[96];
        snprintf(again, sizeof(again), "%s/2", p.dir);
        expect("int8", convert(p.out, again, err, sizeof(err)), E_INVALID, err, "already");
        assert_false(file_present(p.dir, "2.partial"));
        place_drop(&p);
    }
}

static void no_room_leaves_nothing(void **state)
{
    struct place p = place_make(&sources[0]);
    char err[256] = "";
    struct rlimit old;
    (void)state;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    /* A file may have no more than this, which every writer is told like a full disk. */
    const struct rlimit few = {.rlim_cur = 8192, .rlim_max = old.rlim_max};
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &few), 0);
    enum status s = convert(p.dir, p.out, err, sizeof(err));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    expect("no room", s, E_IO, err, "model.safetensors: cannot be written: ");
    assert_false(file_present(p.dir, "out"));
    assert_false(file_present(p.dir, "out.partial"));
    place_drop(&p);
}

static void broken_sources_leave_nothing(void **state)
{
    struct place p = place_make(&sources[1]);
    char err[256] = "";
    char path[128];
    (void)state;
    expect("no such", convert("/nonexistent", p.out, err, sizeof(err)), E_IO, err, "config.");
    expect("nowhere", convert(p.dir, "/nonexistent/x", err, sizeof(err)), E_IO, err, "made");
    snprintf(path, sizeof(path), "%s/model.safetensors", p.dir);
    expect("gguf", convert(path, p.out, err, sizeof(err)), E_FORMAT, err, "not a GGUF file");
    char tokenizer[128];
    snprintf(tokenizer, sizeof(tokenizer), "%s/tokenizer.json", p.dir);
    assert_int_equal(unlink(tokenizer), 0);
    expect("mute", convert(p.dir, p.out, err, sizeof(err)), E_INVALID, err, "tokenizer.model");
    tiny_save(p.dir, "tokenizer.json", "{}", 2);
    struct tiny_file f;
    tiny_build(&sources[1], &f);
    memset(f.data + 64, 0xff, 4);
    tiny_save_tensors(p.dir, "model.safetensors", &f);
    expect("NaN", convert(p.dir, p.out, err, sizeof(err)), E_FORMAT, err, "not finite");
    assert_int_equal(truncate(path, 1000), 0);
    expect("cut", convert(p.dir, p.out, err, sizeof(err)), E_FORMAT, err, "model.safetensors");
    assert_false(file_present(p.dir, "out"));
    assert_false(file_present(p.dir, "out.partial"));
    free(f.header);
    free(f.data);
    place_drop(&p);
}

/* The same numbers as the compiler's own widening, for every half there is. */
static void halves_round_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 0x7c00; bits++) {
        uint16_t here = (uint16_t)bits;
        uint16_t next = (uint16_t)(bits + 1);
        float a;
        float b;
        assert_true(dtype_info(DTYPE_F16)->widen(&a, &here, 1));
        assert_int_equal(half_of(a), bits);
        assert_int_equal(half_of(-a), bits | 0x8000);
        if (!dtype_info(DTYPE_F16)->widen(&b, &next, 1))
            continue;
        float middle = a + (b - a) / 2;
        assert_int_equal(half_of(middle), bits % 2 ? next : bits);
        assert_int_equal(half_of(nextafterf(middle, b)), next);
        assert_int_equal(half_of(nextafterf(middle, a)), bits);
    }
    assert_int_equal(half_of(1e30f), 0x7bff);
}

static void same_conversation(const char *src, const char *out)
{
    static const char user[] = "Who is <|eot_id|></s> there? \xc3\xa9";
    int32_t *ids[2] = {NULL, NULL};
    size_t n[2] = {0, 0};
    const char *const path[2] = {src, out};
    for (int f = 0; f < 2; f++) {
        char err[256] = "";
        struct tokenizer *t = NULL;
        struct chat *c = NULL;
        struct chat_input in = {.add_generation_prompt = true};
        struct cJSON *messages = NULL;
        assert_int_equal(chat_messages(&messages, "Be brief.", user, strlen(user)), OK);
        in.messages = messages;
        if (tokenizer_open(&t, path[f], err, sizeof(err)) ||
            chat_open(&c, path[f], t, NULL, err, sizeof(err)) ||
            chat_encode(c, &in, &ids[f], &n[f], err, sizeof(err)))
            fail_msg("%s: %s", path[f], err);
        chat_messages_free(messages);
        chat_close(c);
        tokenizer_close(t);
    }
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(ids[0], ids[1], n[0] * sizeof(*ids[0]));
    free(ids[0]);
    free(ids[1]);
}

/* How much the logits of a few tokens may change on the way. */
static void becomes_a_directory(const char *src, double most)
{
    struct model_note note[16];
    struct model_info was;
    struct model_info is;
    char err[256] = "";
    size_t n;
    struct place p = place_make(&sources[0]);
    if (convert(src, p.out, err, sizeof(err)) || model_inspect(&was, src, err, sizeof(err)) ||
        model_inspect(&is, p.out, err, sizeof(err)))
        fail_msg("%s: %s", src, err);
    float *want = calloc((size_t)was.vocab, sizeof(*want));
    float *got = calloc((size_t)was.vocab, sizeof(*got));
    assert_true(want && got && is.vocab == was.vocab);
    logits_of(src, want, note, &n);
    logits_of(p.out, got, note, &n);
    double d = worst(got, want, (size_t)was.vocab);
    print_message("%s: converted logits differ by %g\n", src, d);
    assert_true(d <= most);
    assert_int_equal(is.n_eos, was.n_eos);
    assert_memory_equal(is.eos, was.eos, sizeof(is.eos));
    same_conversation(src, p.out);
    free(want);
    free(got);
    place_drop(&p);
}

static void gguf_becomes_a_directory(void **state)
{
    /* The embedding of Q8_0 is rounded to F16 on the way. */
    static const struct {
        const char *file;
        double most;
    } rows[] = {
        {"stories260K/gguf/stories260K-Q8_0.gguf", 0.3},
        {"stories260K/gguf/stories260K-F32.gguf", 0},
        {"llama2xs-279K/gguf/llama2xs-279K-F16.gguf", 0},
        {"shakespeare4M-llama3/gguf/shakespeare4M-llama3-BF16.gguf", 0},
    };
    const char *shared = getenv("FIRSTLIGHT_SHARED");
    const char *root = shared && *shared ? shared : REPO_DIR "/../shared";
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char src[512];
        snprintf(src, sizeof(src), "%s/models/%s", root, rows[i].file);
        if (access(src, R_OK) != 0) {
            print_message("skipped: no shared test data\n");
            return;
        }
        becomes_a_directory(src, rows[i].most);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_model_comes_out),
        cmocka_unit_test(no_room_leaves_nothing),
        cmocka_unit_test(broken_sources_leave_nothing),
        cmocka_unit_test(halves_round_to_nearest_even),
        cmocka_unit_test(gguf_becomes_a_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

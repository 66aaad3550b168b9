/* Aim: a GGUF file is a model like any other, in one part or in several, and a wrong one is
 * refused in one line that names the file and what is wrong in it.
 *
 * Negative space: a file cut at every byte and read in growing pieces, every byte of the head
 * changed, counts, sizes, types and offsets that lie, keys that are missing or of another
 * type, numbers that are not finite, parts that are missing or of another model. */
#include "tests/gguf_rig.h"
#include "tests/model_rig.h"

#include "models/chat.h"
#include "models/tokenizer.h"

#include <sys/stat.h>

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    tiny_dir(folder);
    return 0;
}

static const char *in_folder(char out[128], const char *name)
{
    snprintf(out, 128, "%s/%s", folder, name);
    return out;
}

static int remove_folder(void **state)
{
    static const char *const names[] = {"x.gguf", "y.gguf", "m-00001-of-00003.gguf",
                                        "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"};
    char path[128];
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        (void)unlink(in_folder(path, names[i]));
    return rmdir(folder);
}

static void expect(const char *what, enum status got, enum status want, const char *err,
                   const char *says)
{
    if (got != want)
        fail_msg("%s: status %d instead of %d: %s", what, (int)got, (int)want, err);
    if (want && !strstr(err, says))
        fail_msg("%s: \"%s\" does not say \"%s\"", what, err, says);
    if (want && (strncmp(err, "x.gguf: ", 8) != 0 || strchr(err, '\n')))
        fail_msg("%s: \"%s\" is not a line about x.gguf", what, err);
}

static enum status inspect(char *err, size_t size)
{
    struct model_info f;
    char path[128];
    snprintf(err, size, "nothing said");
    return model_inspect(&f, in_folder(path, "x.gguf"), err, size);
}

/* --- what is right --- */

static void every_part_opens(void **state)
{
    static const char *const types[] = {"F32", "Q8_0", "Q4_0", "Q5_1"};
    char path[128];
    char err[256] = "";
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        struct gguf_tiny t = gguf_small;
        struct tokenizer *tok = NULL;
        struct chat *chat = NULL;
        size_t bytes;
        t.type = types[i];
        t.tied = i % 2;
        char *file = gguf_tiny_build(&t, &bytes);
        tiny_save(folder, "x.gguf", file, bytes);
        free(file);
        struct rig *r = rig_open(&(struct setup){.path = in_folder(path, "x.gguf")});
        assert_string_equal(r->info->arch, "LlamaForCausalLM");
        assert_int_equal(r->info->vocab, GGUF_SMALL_VOCAB);
        assert_int_equal(r->info->head_dim, 16);
        assert_int_equal(r->info->tied, t.tied);
        struct model_info f;
        assert_int_equal(model_inspect(&f, path, err, sizeof(err)), OK);
        assert_string_equal(f.format, "GGUF v3");
        char want[64];
        snprintf(want, sizeof(want), i == 0 ? "F32 12" : "%s %d, F32 3", types[i], t.tied ? 8 : 9);
        assert_string_equal(f.types, want);
        assert_int_equal(r->info->bos, 1);
        assert_int_equal(r->info->n_eos, 2);
        assert_int_equal(r->info->eos[0], 2);
        assert_int_equal(r->info->eos[1], GGUF_SMALL_VOCAB - 1); /* by its text */
        rig_close(r);
        if (tokenizer_open(&tok, path, err, sizeof(err)) ||
            chat_open(&chat, path, tok, NULL, err, sizeof(err)))
            fail_msg("%s", err);
        assert_int_equal(tokenizer_vocab(tok), GGUF_SMALL_VOCAB);
        assert_int_equal(tokenizer_bos(tok), 1);
        chat_close(chat);
        tokenizer_close(tok);
    }
}

/* --- cuts --- */

static enum status parse(const char *file, size_t bytes, uint64_t file_bytes, char *err,
                         size_t size)
{
    struct gguf g = {.head = NULL};
    struct tensor_list l = {.n = 0};
    const struct complaint c = {.file = "x.gguf", .text = err, .size = size};
    /* Exact, so that the sanitizer sees a byte too many. */
    uint8_t *head = malloc(bytes ? bytes : 1);
    assert_non_null(head);
    memcpy(head, file, bytes);
    enum status s = gguf_parse(&g, head, bytes, file_bytes, &l, 0, &c);
    gguf_free(&g);
    free(l.item);
    free(head);
    return s;
}

static void every_cut_is_refused(void **state)
{
    char path[128];
    char err[256];
    size_t bytes;
    size_t head = 0;
    (void)state;
    char *file = gguf_tiny_build(&gguf_small, &bytes);
    for (size_t n = 0; n < bytes; n++) {
        expect("cut", parse(file, n, n, err, sizeof(err)), E_FORMAT, err, "");
        /* The same bytes of a file that has more of them. */
        enum status s = parse(file, n, bytes, err, sizeof(err));
        assert_true(s == (head ? OK : E_AGAIN) || s == OK);
        head = head || s ? head : n;
    }
    assert_true(head > 1000 && head < bytes);
    tiny_save(folder, "x.gguf", file, bytes);
    assert_int_equal(inspect(err, sizeof(err)), OK);
    in_folder(path, "x.gguf");
    for (size_t n = bytes - 1; n > 0; n -= n > 40 ? 37 : 1) {
        assert_int_equal(truncate(path, (off_t)n), 0);
        expect("file cut", inspect(err, sizeof(err)), E_FORMAT, err, "");
    }
    assert_int_equal(truncate(path, 0), 0);
    expect("empty file", inspect(err, sizeof(err)), E_FORMAT, err, "too short for a GGUF file");
    free(file);
}

static void every_byte_may_change(void **state)
{
    static const uint8_t strange[] = {0, 1, 9, 0x7f, 0x80, 0xff};
    char err[256];
    size_t bytes;
    size_t refused = 0;
    (void)state;
    char *file = gguf_tiny_build(&gguf_small, &bytes);
    for (size_t i = 0; i < 3000 * sizeof(strange); i++) {
        char was = file[i / sizeof(strange)];
        file[i / sizeof(strange)] = (char)strange[i % sizeof(strange)];
        refused += parse(file, bytes, bytes, err, sizeof(err)) != OK;
        file[i / sizeof(strange)] = was;
    }
    assert_true(refused > 1000);
    free(file);
}

/* --- lies --- */

/* width bytes of value, skip bytes behind the first place that text occurs. */
struct lie {
    const char *text;
    size_t skip;
    size_t width;
    uint64_t value;
    enum status status;
    const char *says;
};

enum { TYPE = 0, VALUE = 4, COUNT = 8, ELEMENT = 4 };             /* behind a key */
enum { RANK = 0, COLS = 4, N_ROWS = 12, KIND = 20, OFFSET = 24 }; /* behind a matrix's name */
enum { VECTOR_KIND = 12, VECTOR_OFFSET = 16 };
enum { VERSION = 0, N_TENSORS = 4, N_KEYS = 12, FIRST_KEY = 20 }; /* behind the magic */

static const struct lie lies[] = {
    {"GGUF", 0, 4, 2, OK, ""},
    {"GGU", 0, 1, 'X', E_FORMAT, "not a GGUF file"},
    {"GGUF", VERSION, 4, 1, E_UNSUPPORTED, "GGUF version 1 is not known; known: 2, 3"},
    {"GGUF", VERSION, 4, 4, E_UNSUPPORTED, "GGUF version 4 is not known"},
    {"GGUF", VERSION, 4, 0x03000000, E_UNSUPPORTED, "big-endian"},
    {"GGUF", N_TENSORS, 8, UINT64_MAX, E_FORMAT, "tensors are more than the limit"},
    {"GGUF", N_TENSORS, 8, 100000, E_FORMAT, "100000 tensors are more than the file can hold"},
    {"GGUF", N_TENSORS, 8, 0, E_FORMAT, "tensor \"token_embd.weight\" is missing"},
    {"GGUF", N_KEYS, 8, UINT64_MAX, E_FORMAT, "keys are more than the limit"},
    {"GGUF", N_KEYS, 8, 10000, E_FORMAT, "10000 keys are more than the file can hold"},
    {"GGUF", N_KEYS, 8, 0, E_FORMAT, ""},
    {"GGUF", FIRST_KEY, 8, 0, E_FORMAT, "a key is empty"},
    {"GGUF", FIRST_KEY, 8, 5000, E_FORMAT, ""},
    {"GGUF", FIRST_KEY, 8, 70000, E_FORMAT, "the file ends inside of its metadata"},
    {"GGUF", FIRST_KEY, 8, UINT64_MAX, E_FORMAT, "the file ends inside of its metadata"},
    {"GGUF", FIRST_KEY + 8, 1, 0, E_FORMAT, "holds a NUL"},
    {"general.architecture", TYPE, 4, 13, E_FORMAT,
     "key \"general.architecture\" has an unknown type"},
    {"general.architecture", TYPE, 4, UINT32_MAX, E_FORMAT, "has an unknown type"},
    {"general.architecture", VALUE, 8, UINT64_MAX - 7, E_FORMAT, "ends inside of its metadata"},
    {"general.architecture", VALUE + 8, 1, 'X', E_UNSUPPORTED,
     "architecture \"Xlama\" is not known; known: llama"},
    {"general.architecture", VALUE + 8, 1, 0, E_FORMAT,
     "\"general.architecture\" must be a string"},
    {"general.architectur", 0, 1, 'X', E_FORMAT, "key \"general.architecture\" is missing"},
    {"llama.embedding_length", VALUE, 4, 0, E_FORMAT, "\"llama.embedding_length\" must be a whole"},
    {"llama.embedding_length", VALUE, 4, 65537, E_FORMAT, "from 1 to 65536"},
    {"llama.embedding_length", TYPE, 4, GGUF_F32, E_FORMAT, "\"llama.embedding_length\" must be"},
    {"llama.embedding_length", TYPE, 4, GGUF_I32, OK, ""},
    {"llama.embedding_length", VALUE, 4, 64, E_UNSUPPORTED,
     "key \"llama.rope.dimension_count\" is 16"},
    {"llama.embedding_lengt", 0, 1, 'X', E_FORMAT, "key \"llama.embedding_length\" is missing"},
    {"llama.rope.dimension_count", VALUE, 4, 8, E_UNSUPPORTED, "is 8, not the head dimension 16"},
    {"llama.block_count", VALUE, 4, 2, E_FORMAT, "tensor \"blk.1.attn_norm.weight\" is missing"},
    {"llama.block_count", VALUE, 4, 100000, E_FORMAT, "\"llama.block_count\" must be"},
    {"llama.attention.head_count_kv", VALUE, 4, 2, E_FORMAT, "\"blk.0.attn_k.weight\" must have"},
    {"llama.attention.layer_norm_rms_epsilon", VALUE, 4, 0x7fc00000, E_FORMAT, "not finite"},
    {"llama.attention.layer_norm_rms_epsilon", TYPE, 4, GGUF_U32, E_FORMAT, "rms_norm_eps"},
    {"tokenizer.ggml.tokens", ELEMENT, 4, GGUF_ARRAY, E_FORMAT,
     "key \"tokenizer.ggml.tokens\" is an array of arrays"},
    {"tokenizer.ggml.tokens", ELEMENT, 4, 77, E_FORMAT, "is an array of an unknown type"},
    {"tokenizer.ggml.tokens", COUNT, 8, UINT64_MAX, E_FORMAT, "ends inside of its metadata"},
    {"tokenizer.ggml.tokens", COUNT, 8, UINT64_MAX / 8 + 2, E_FORMAT, "ends inside"},
    {"tokenizer.ggml.tokens", COUNT + 8, 8, UINT64_MAX, E_FORMAT, "ends inside of its metadata"},
    {"tokenizer.ggml.scores", COUNT, 8, UINT64_MAX / 4 + 1, E_FORMAT, "ends inside"},
    {"tokenizer.ggml.add_bos_token", VALUE, 1, 2, E_FORMAT, "is neither true nor false"},
    {"tokenizer.ggml.eos_token_id", VALUE, 4, 1 << 20, E_FORMAT, "eos_token_id\" must be"},
    {"tokenizer.ggml.eos_token_id", VALUE, 4, GGUF_SMALL_VOCAB, E_FORMAT, "eos_token_id"},
    {"tokenizer.ggml.eos_token_i", 0, 1, 'X', OK, ""},
    {"token_embd.weight", RANK, 4, 0, E_FORMAT,
     "tensor \"token_embd.weight\" must have 1 to 4 dimensions"},
    {"token_embd.weight", RANK, 4, 5, E_FORMAT, "must have 1 to 4 dimensions"},
    {"token_embd.weight", COLS, 8, 31, E_FORMAT, "rows that are no whole number of blocks"},
    {"token_embd.weight", COLS, 8, 0, E_FORMAT, "has a dimension of 0"},
    {"token_embd.weight", N_ROWS, 8, 0, E_FORMAT, "has a dimension of 0"},
    {"token_embd.weight", COLS, 8, 1ull << 62, E_FORMAT, "has a shape that is too large"},
    {"token_embd.weight", N_ROWS, 8, UINT64_MAX, E_FORMAT, "has a shape that is too large"},
    {"token_embd.weight", N_ROWS, 8, 1ull << 57, E_FORMAT, "lies outside of the file"},
    {"token_embd.weight", N_ROWS, 8, GGUF_SMALL_VOCAB + 1, E_FORMAT, "overlaps another"},
    {"token_embd.weight", N_ROWS, 8, GGUF_SMALL_VOCAB - 1, E_FORMAT,
     "must have the shape [16, 32]"},
    {"token_embd.weight", KIND, 4, 4, E_UNSUPPORTED, "has the type 4; known: F32, F16"},
    {"token_embd.weight", KIND, 4, UINT32_MAX, E_UNSUPPORTED, "has the type 4294967295; known"},
    {"token_embd.weight", KIND, 4, 24, E_UNSUPPORTED,
     "tensor \"token_embd.weight\" is I8; known: F32"},
    {"token_embd.weight", OFFSET, 8, 1, E_FORMAT, "an offset that is not aligned"},
    {"token_embd.weight", OFFSET, 8, UINT64_MAX - 31, E_FORMAT, "lies outside of the file"},
    {"token_embd.weight", OFFSET, 8, 1 << 20, E_FORMAT, "lies outside of the file"},
    {"blk.0.ffn_up.weight", OFFSET, 8, 0, E_FORMAT, "overlaps another"},
    {"output_norm.weight", VECTOR_KIND, 4, 8, OK, ""},
    {"output_norm.weight", VECTOR_OFFSET, 8, 32, E_FORMAT, "overlaps another"},
    {"blk.0.ffn_up.weigh", 0, 1, 'X', E_FORMAT, "tensor \"blk.0.ffn_up.weight\" is missing"},
    {"llama.block_count", VALUE, 4, 0, E_FORMAT, "\"llama.block_count\" must be a whole number"},
    {"blk.0.attn_", 0, 1, '\0', E_FORMAT, "the name of a tensor is empty"},
    {"blk.0.ffn_gate.weight", 0, 0, 0, OK, ""},
};

static char *place_of(char *file, size_t bytes, const char *text)
{
    char *at = memmem(file, bytes, text, strlen(text));
    if (!at)
        fail_msg("no \"%s\" in the file", text);
    return at + strlen(text);
}

static void lies_are_refused(void **state)
{
    char err[256];
    size_t bytes;
    (void)state;
    char *file = gguf_tiny_build(&gguf_small, &bytes);
    char *lying = malloc(bytes);
    assert_non_null(lying);
    for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
        const struct lie *l = &lies[i];
        char what[96];
        memcpy(lying, file, bytes);
        memcpy(place_of(lying, bytes, l->text) + l->skip, &l->value, l->width);
        tiny_save(folder, "x.gguf", lying, bytes);
        snprintf(what, sizeof(what), "%s+%zu=%llx", l->text, l->skip, (unsigned long long)l->value);
        expect(what, inspect(err, sizeof(err)), l->status, err, l->says);
    }
    free(lying);
    free(file);
}

/* Without its last layers a model still speaks. */
static void a_layer_too_many_is_refused(void **state)
{
    struct gguf_tiny t = gguf_small;
    char err[256];
    size_t bytes;
    const uint32_t one = 1;
    (void)state;
    t.layers = 2;
    char *file = gguf_tiny_build(&t, &bytes);
    memcpy(place_of(file, bytes, "llama.block_count") + VALUE, &one, sizeof(one));
    tiny_save(folder, "x.gguf", file, bytes);
    free(file);
    expect("layers", inspect(err, sizeof(err)), E_FORMAT, err,
           "1 layers, but there is a tensor \"blk.1.attn_norm.weight\"");
}

/* One key more. */
struct more_key {
    const char *key;
    enum gguf_type type;
    double value;
    const char *text;
    enum status status;
    const char *says;
};

static const struct more_key more_keys[] = {
    {"general.alignment", GGUF_U32, 64, NULL, E_FORMAT, "an offset that is not aligned"},
    {"general.alignment", GGUF_U32, 48, NULL, E_FORMAT, "is 48, no power of two"},
    {"general.alignment", GGUF_U32, 0, NULL, E_FORMAT, "\"general.alignment\" must be"},
    {"general.alignment", GGUF_U32, 4, NULL, E_FORMAT, "from 8 to 4096"},
    {"general.alignment", GGUF_U32, 1 << 30, NULL, E_FORMAT, "from 8 to 4096"},
    {"general.architecture", GGUF_STRING, 0, "llama", E_FORMAT,
     "key \"general.architecture\" occurs twice"},
    {"llama.expert_count", GGUF_U32, 8, NULL, E_UNSUPPORTED,
     "key \"llama.expert_count\" is 8, which is not supported"},
    {"llama.expert_count", GGUF_U32, 0, NULL, OK, ""},
    {"llama.logit_scale", GGUF_F32, 0.5, NULL, E_UNSUPPORTED, "\"llama.logit_scale\" is 0.5"},
    {"llama.logit_scale", GGUF_F32, 1, NULL, OK, ""},
    {"llama.vocab_size", GGUF_U32, 17, NULL, E_FORMAT, "must have the shape [17, 32]"},
    {"llama.attention.key_length", GGUF_U32, 16, NULL, OK, ""},
    {"llama.attention.value_length", GGUF_U32, 8, NULL, E_UNSUPPORTED, "not the head dimension 16"},
    {"llama.rope.scaling.type", GGUF_STRING, 0, "none", OK, ""},
    {"llama.rope.scaling.type", GGUF_STRING, 0, "linear", E_FORMAT, "\"factor\""},
    {"llama.rope.scaling.type", GGUF_STRING, 0, "strange", E_UNSUPPORTED,
     "\"strange\" is not known"},
    {"llama.rope.scaling.type", GGUF_U32, 1, NULL, E_FORMAT, "must be a string"},
    {"llama.rope.scale_linear", GGUF_F32, 2, NULL, OK, ""},
    {"llama.rope.scale_linear", GGUF_F32, 0, NULL, E_FORMAT, "\"factor\""},
    {"llama.rope.freq_base", GGUF_F32, 0.5, NULL, E_FORMAT, "rope_theta"},
    {"llama.rope.freq_base", GGUF_F32, 500000, NULL, OK, ""},
    {"general.sampling.temp", GGUF_F32, 0.6, NULL, OK, ""},
    {"general.sampling.temp", GGUF_F32, -1, NULL, E_FORMAT, "temperature"},
    {"tokenizer.ggml.eot_token_id", GGUF_U32, 16, NULL, E_FORMAT, "eos_token_id"},
    {"tokenizer.ggml.eot_token_id", GGUF_U32, 3, NULL, OK, ""},
    {"split.count", GGUF_U16, 2, NULL, E_FORMAT, "is not called ...-00001-of-00002.gguf"},
    {"split.count", GGUF_U16, 0, NULL, E_FORMAT, "\"split.count\" must be"},
    {"split.no", GGUF_U16, 1, NULL, E_INVALID, "is part 2 of 1; give the first"},
};

static void add_key(struct gguf_file *f, const struct more_key *k)
{
    gguf_key(f, k->key, k->type);
    if (k->type == GGUF_STRING)
        gguf_put_text(f->keys, k->text);
    else if (k->type == GGUF_F32)
        gguf_put(f->keys, &(float){(float)k->value}, sizeof(float));
    else if (k->type == GGUF_U16)
        gguf_put(f->keys, &(uint16_t){(uint16_t)k->value}, sizeof(uint16_t));
    else
        gguf_put_u32(f->keys, (uint32_t)k->value);
}

static void keys_are_judged(void **state)
{
    char err[256];
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(more_keys); i++) {
        struct gguf_file f;
        size_t bytes;
        char what[96];
        gguf_file_begin(&f);
        add_key(&f, &more_keys[i]);
        gguf_tiny_keys(&f, &gguf_small);
        gguf_tiny_text(&f);
        gguf_tiny_tensors(&f, &gguf_small);
        char *file = gguf_file_end(&f, &bytes);
        tiny_save(folder, "x.gguf", file, bytes);
        free(file);
        snprintf(what, sizeof(what), "%s=%g", more_keys[i].key, more_keys[i].value);
        expect(what, inspect(err, sizeof(err)), more_keys[i].status, err, more_keys[i].says);
    }
}

/* --- data --- */

/* By opening and by checking: both must see it, inspecting sees nothing. */
static enum status try_open(char *err, size_t size)
{
    struct rig *r = NULL;
    char path[128];
    char checked[256] = "";
    in_folder(path, "x.gguf");
    assert_int_equal(inspect(err, size), OK);
    err[0] = '\0';
    enum status c = model_check(path, NULL, NULL, checked, sizeof(checked));
    enum status s = rig_try(&r, &(struct setup){.path = path}, err, size);
    if (s == OK)
        rig_close(r);
    assert_int_equal(s, c);
    assert_string_equal(err, checked);
    return s;
}

/* Where the data of a tensor lies in the file. */
static char *data_of(char *file, size_t bytes, const char *name)
{
    struct gguf g = {.head = NULL};
    struct tensor_list l = {.n = 0};
    char err[256];
    char *at = NULL;
    const struct complaint c = {.file = "x.gguf", .text = err, .size = sizeof(err)};
    assert_int_equal(gguf_parse(&g, (uint8_t *)file, bytes, bytes, &l, 0, &c), OK);
    for (size_t i = 0; i < l.n; i++) {
        if (l.item[i].name_bytes == strlen(name) && memcmp(l.item[i].name, name, strlen(name)) == 0)
            at = file + l.item[i].begin;
    }
    gguf_free(&g);
    free(l.item);
    assert_non_null(at);
    return at;
}

static void numbers_must_be_finite(void **state)
{
    static const struct {
        const char *tensor;
        size_t skip;
        uint32_t value;
        size_t width;
        const char *says; /* NULL: it is fine */
    } rows[] = {
        {"blk.0.attn_q.weight", 0, 0x7e00, 2, "\"blk.0.attn_q.weight\" holds a value that is not"},
        {"blk.0.attn_q.weight", 34 * 31, 0xfc00, 2, "\"blk.0.attn_q.weight\" holds a value"},
        {"blk.0.ffn_down.weight", 34, 0x7c01, 2, "\"blk.0.ffn_down.weight\" holds a value"},
        {"output_norm.weight", 124, 0x7fc00000, 4, "\"output_norm.weight\" holds a value"},
        {"output_norm.weight", 0, 0xff800000, 4, "\"output_norm.weight\" holds a value"},
        {"token_embd.weight", 34 * 3, 0, 2, NULL}, /* a row of zeros */
        {"blk.0.attn_k.weight", 0, 0x8000, 2, NULL},
        {"rope_freqs.weight", 0, 0x7fc00000, 4, "\"rope_freqs.weight\" holds a value that is not"},
        {"rope_freqs.weight", 28, 0, 4, "\"rope_freqs.weight\" holds a divisor of 0"},
        {"rope_freqs.weight", 28, 0xbf800000, 4, "\"rope_freqs.weight\" holds a divisor of -1"},
        {"rope_freqs.weight", 0, 0x3f800000, 4, NULL},
    };
    char err[256];
    size_t bytes;
    struct gguf_file f;
    const float ones[] = {1, 1, 1, 1, 1, 1, 1, 1};
    (void)state;
    gguf_file_begin(&f);
    gguf_tiny_keys(&f, &gguf_small);
    gguf_tiny_text(&f);
    gguf_tiny_tensors(&f, &gguf_small);
    gguf_tensor(&f, "rope_freqs.weight", 0, ARRAY_LEN(ones), "F32", ones);
    char *file = gguf_file_end(&f, &bytes);
    char *lying = malloc(bytes);
    assert_non_null(lying);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        memcpy(lying, file, bytes);
        memcpy(data_of(lying, bytes, rows[i].tensor) + rows[i].skip, &rows[i].value, rows[i].width);
        tiny_save(folder, "x.gguf", lying, bytes);
        expect(rows[i].tensor, try_open(err, sizeof(err)), rows[i].says ? E_FORMAT : OK, err,
               rows[i].says);
    }
    free(lying);
    free(file);
}

static void say(const char *name, float *logits)
{
    static const int32_t ids[] = {1, 4, 5, 7, 8, 4, 4, 9};
    char path[128];
    int32_t table[STRIDE];
    struct rig *r =
        rig_open(&(struct setup){.path = in_folder(path, name), .f32 = true, .kv = KV_F32});
    table_up(table, 0);
    feed(r, ids, 0, ARRAY_LEN(ids), ROWS, table, logits);
    rig_close(r);
}

/* Divisors of 2 are what linear scaling by 2 does. */
static void divisors_of_frequencies(void **state)
{
    float with[3][GGUF_SMALL_VOCAB];
    const float two[] = {2, 2, 2, 2, 2, 2, 2, 2};
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct gguf_file f;
        size_t bytes;
        gguf_file_begin(&f);
        gguf_tiny_keys(&f, &gguf_small);
        gguf_tiny_text(&f);
        if (i == 1) {
            gguf_key_text(&f, "llama.rope.scaling.type", "linear");
            gguf_key_f32(&f, "llama.rope.scaling.factor", 2);
        }
        gguf_tiny_tensors(&f, &gguf_small);
        if (i == 0)
            gguf_tensor(&f, "rope_freqs.weight", 0, ARRAY_LEN(two), "F32", two);
        char *file = gguf_file_end(&f, &bytes);
        tiny_save(folder, "y.gguf", file, bytes);
        free(file);
        say("y.gguf", with[i]);
    }
    assert_true(worst(with[0], with[1], GGUF_SMALL_VOCAB) < 1e-6);
    assert_true(worst(with[0], with[2], GGUF_SMALL_VOCAB) > 1e-3);
}

/* Only some architectures' converters change the order of rows. */
static void rows_keep_their_order(void **state)
{
    static const char *const archs[] = {"llama", "qwen2", "qwen3"};
    char path[128];
    char err[256] = "";
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(archs); i++) {
        struct gguf_tiny t = gguf_small;
        struct weights *w = NULL;
        size_t bytes;
        t.arch = archs[i];
        char *file = gguf_tiny_build(&t, &bytes);
        tiny_save(folder, "x.gguf", file, bytes);
        free(file);
        if (weights_open(&w, in_folder(path, "x.gguf"), err, sizeof(err)))
            fail_msg("%s", err);
        const struct tensor *q = weights_find(w, "model.layers.0.self_attn.q_proj.weight");
        const struct tensor *v = weights_find(w, "model.layers.0.self_attn.v_proj.weight");
        assert_true(q && v);
        assert_int_equal(q->head_rows, i == 0 ? 16 : 0);
        assert_int_equal(v->head_rows, 0);
        weights_close(w);
    }
}

/* A tensor that the architecture does not have would change what the model says. */
static void a_tensor_too_many_is_refused(void **state)
{
    const float zeros[32] = {0};
    struct gguf_file f;
    char err[256];
    size_t bytes;
    (void)state;
    gguf_file_begin(&f);
    gguf_tiny_keys(&f, &gguf_small);
    gguf_tiny_text(&f);
    gguf_tiny_tensors(&f, &gguf_small);
    gguf_tensor(&f, "blk.0.attn_q.bias", 0, 32, "F32", zeros);
    char *file = gguf_file_end(&f, &bytes);
    tiny_save(folder, "x.gguf", file, bytes);
    free(file);
    expect("bias", inspect(err, sizeof(err)), E_UNSUPPORTED, err,
           "there is a tensor \"blk.0.attn_q.bias\", which LlamaForCausalLM has not");
}

/* --- parts --- */

struct cut_up {
    int64_t no[3];
    int64_t count[3];
    int64_t tensors;
    bool missing;     /* the third */
    const char *says; /* NULL: it is fine */
};

static const struct cut_up cut_ups[] = {
    {{0, 1, 2}, {3, 3, 3}, 12, false, NULL},
    {{0, 1, 2}, {3, 3, 3}, 13, false, "m-00001-of-00003.gguf: the parts hold 12 tensors"},
    {{0, 1, 2}, {3, 3, 3}, 12, true, "m-00003-of-00003.gguf: cannot open"},
    {{0, 2, 1}, {3, 3, 3}, 12, false, "m-00002-of-00003.gguf: is part 3 of 3, not part 2 of 3"},
    {{0, 1, 2}, {3, 3, 4}, 12, false, "m-00003-of-00003.gguf: is part 3 of 4, not part 3 of 3"},
    {{1, 1, 2}, {3, 3, 3}, 12, false, "m-00001-of-00003.gguf: is part 2 of 3; give the first"},
    {{0, 1, 2}, {2, 3, 3}, 12, false, "is not called ...-00001-of-00002.gguf"},
};

static void part_keys(struct gguf_file *f, const struct cut_up *u, int part)
{
    gguf_key_u32(f, "split.no", (uint32_t)u->no[part]);
    gguf_key_u32(f, "split.count", (uint32_t)u->count[part]);
    gguf_key_u32(f, "split.tensors.count", (uint32_t)u->tensors);
}

/* A part begins as the whole file does; tensors of other parts get an odd name. */
static void save_parts(const struct cut_up *u, int parts)
{
    struct gguf_tiny t = gguf_small;
    uint32_t seed = 5;
    t.tied = true;
    struct gguf_file f[3];
    for (int i = 0; i < parts; i++) {
        gguf_file_begin(&f[i]);
        if (i == 0) {
            gguf_tiny_keys(&f[i], &t);
            gguf_tiny_text(&f[i]);
        }
        if (parts > 1)
            part_keys(&f[i], u, i);
    }
    gguf_random(&f[0], "token_embd.weight", GGUF_SMALL_VOCAB, 32, "Q8_0", &seed);
    gguf_random(&f[0], "blk.0.attn_norm.weight", 0, 32, "", &seed);
    static const char *const middle[] = {"attn_q", "attn_k", "attn_v", "attn_output"};
    for (size_t i = 0; i < ARRAY_LEN(middle); i++) {
        char name[64];
        snprintf(name, sizeof(name), "blk.0.%s.weight", middle[i]);
        gguf_random(&f[parts > 1 ? 1 : 0], name, i == 1 || i == 2 ? 16 : 32, 32, "Q8_0", &seed);
    }
    struct gguf_file *last = &f[parts > 1 ? 2 : 0];
    gguf_random(last, "blk.0.ffn_norm.weight", 0, 32, "", &seed);
    gguf_random(last, "blk.0.ffn_gate.weight", 32, 32, "Q4_0", &seed);
    gguf_random(last, "blk.0.ffn_up.weight", 32, 32, "Q5_0", &seed);
    gguf_random(last, "blk.0.ffn_down.weight", 32, 32, "Q4_1", &seed);
    gguf_random(last, "output_norm.weight", 0, 32, "", &seed);
    gguf_tensor(last, "rope_freqs.weight", 0, 8, "F32", (float[]){1, 1, 1, 1, 1, 2, 4, 8});
    for (int i = 0; i < parts; i++) {
        char name[64];
        size_t bytes;
        char *file = gguf_file_end(&f[i], &bytes);
        snprintf(name, sizeof(name), parts > 1 ? "m-%05d-of-%05d.gguf" : "y.gguf", i + 1, parts);
        tiny_save(folder, name, file, bytes);
        free(file);
    }
}

static void parts_are_one_model(void **state)
{
    char path[128];
    char err[256];
    float whole[GGUF_SMALL_VOCAB];
    float parts[GGUF_SMALL_VOCAB];
    (void)state;
    save_parts(&cut_ups[0], 1);
    say("y.gguf", whole);
    for (size_t i = 0; i < ARRAY_LEN(cut_ups); i++) {
        struct model_info f;
        save_parts(&cut_ups[i], 3);
        if (cut_ups[i].missing)
            assert_int_equal(unlink(in_folder(path, "m-00003-of-00003.gguf")), 0);
        in_folder(path, "m-00001-of-00003.gguf");
        enum status s = model_inspect(&f, path, err, sizeof(err));
        if (!cut_ups[i].says) {
            assert_int_equal(s, OK);
            say("m-00001-of-00003.gguf", parts);
            assert_memory_equal(whole, parts, sizeof(whole));
        } else if (s == OK || !strstr(err, cut_ups[i].says)) {
            fail_msg("%d: \"%s\" does not say \"%s\"", (int)s, err, cut_ups[i].says);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_part_opens),
        cmocka_unit_test(every_cut_is_refused),
        cmocka_unit_test(every_byte_may_change),
        cmocka_unit_test(lies_are_refused),
        cmocka_unit_test(a_layer_too_many_is_refused),
        cmocka_unit_test(keys_are_judged),
        cmocka_unit_test(numbers_must_be_finite),
        cmocka_unit_test(divisors_of_frequencies),
        cmocka_unit_test(rows_keep_their_order),
        cmocka_unit_test(a_tensor_too_many_is_refused),
        cmocka_unit_test(parts_are_one_model),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

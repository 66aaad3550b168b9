/* Aim: no file can crash the program, make it take memory the file does not justify, or
 * load as something it is not. Every lie about a valid tiny model is refused with a line that
 * names the file and the thing; what is true and unusual is taken.
 *
 * Negative space: the file cut at every byte, every byte of its header changed, numbers that
 * overflow, names given twice, tensors that overlap, leave holes or hold what is not a number;
 * rows of zeros; a FIFO and a folder in the file's place. */
#include "models/weights.h"

#include "kernels/ops.h"
#include "models/config.h"
#include "models/load.h"
#include "tests/lies.h"
#include "tests/tiny_model.h"

#include <sys/stat.h>

static const struct tiny small = {8, 12, 1, 2, 1, 4, 16, 32, true, "F32", NULL, .seed = 11};

#define EMBED  "\"model.embed_tokens.weight\":{\"dtype\":\"F32\",\"shape\":[16,8]"
#define OFFSET "\"data_offsets\":[0,512]}"
#define NORM   "\"model.norm.weight\":{\"dtype\":\"F32\",\"shape\":[8]"

static const struct lie header_lies[] = {
    {"{\"model.emb", "{\"__metadata__\":{\"a\":\"}]\\\"\"},\"model.emb", OK, ""},
    {"{\"model.emb", "  {\n \"model.emb", OK, ""},
    {EMBED "," OFFSET,
     EMBED "," OFFSET ",\"model.empty\":{\"dtype\":\"F8_E4M3\",\"shape\":[0,3,4],"
           "\"data_offsets\":[512,512]}",
     OK, ""},
    {"{\"model.emb", "[\"model.emb", E_FORMAT, "model.safetensors: the header is not valid JSON"},
    {"{\"model.emb", "{,\"model.emb", E_FORMAT, "not valid JSON"},
    {"\"F32\"", "\"F33\"", E_FORMAT, "\"model.embed_tokens.weight\" has an unknown \"dtype\""},
    {"\"F32\"", "32", E_FORMAT, "\"model.embed_tokens.weight\" has an unknown \"dtype\""},
    {"\"F32\"", "\"I32\"", E_UNSUPPORTED, "\"model.embed_tokens.weight\" is I32; known: F32"},
    {"\"F32\"", "\"BF16\"", E_FORMAT, "does not match its bytes"},
    {"\"F32\"", "\"F64\"", E_FORMAT, "does not match its bytes"},
    {"[16,8]", "[8,16]", E_FORMAT, "\"model.embed_tokens.weight\" must have the shape [16, 8]"},
    {"[16,8]", "[128]", E_FORMAT, "\"model.embed_tokens.weight\" must have the shape [16, 8]"},
    {"[16,8]", "[16,8,1]", E_FORMAT, "must have the shape [16, 8]"},
    {"[16,8]", "[1,1,1,1,1,1,1,16,8]", E_FORMAT, "has a bad \"shape\""},
    {"[16,8]", "[16,7]", E_FORMAT, "has a shape that does not match its bytes"},
    {"[16,8]", "[16,-8]", E_FORMAT, "has a bad \"shape\""},
    {"[16,8]", "[16,8.0]", E_FORMAT, "has a bad \"shape\""},
    {"[16,8]", "[16,8e0]", E_FORMAT, "has a bad \"shape\""},
    {"[16,8]", "[16,\"8\"]", E_FORMAT, "has a bad \"shape\""},
    {"[16,8]", "[16,[8]]", E_FORMAT, "has a bad \"shape\""},
    {"[16,8]", "null", E_FORMAT, "has a bad \"shape\""},
    {"[16,8]", "[4294967296,4294967296]", E_FORMAT, "has a shape that is too large"},
    {"[16,8]", "[18446744073709551615,8]", E_FORMAT, "has a shape that is too large"},
    {"[16,8]", "[18446744073709551616,8]", E_FORMAT, "has a bad \"shape\""},
    {"[0,512]", "[512,0]", E_FORMAT, "lies outside of the file"},
    {"[0,512]", "[0,51200000]", E_FORMAT, "lies outside of the file"},
    {"[0,512]", "[18446744073709551104,18446744073709551615]", E_FORMAT, "lies outside"},
    {"[0,512]", "[0,512,512]", E_FORMAT, "has bad \"data_offsets\""},
    {"[0,512]", "[0]", E_FORMAT, "has bad \"data_offsets\""},
    {"[0,512]", "[0,513]", E_FORMAT, "does not match its bytes"},
    {"[0,512]", "[4,516]", E_FORMAT, "a hole lies before tensor"},
    {"[512,544]", "[508,540]", E_FORMAT, "\"model.layers.0.input_layernorm.weight\" overlaps"},
    {"\"dtype\":\"F32\",", "", E_FORMAT, "needs \"dtype\", \"shape\" and \"data_offsets\""},
    {"," OFFSET, "}", E_FORMAT, "needs \"dtype\", \"shape\" and \"data_offsets\""},
    {"\"shape\":[16,8]", "\"shape\":[16,8],\"shape\":[16,8]", E_FORMAT, "gives a member twice"},
    {"\"shape\":[16,8]", "\"shape\":[16,8],\"color\":1", E_FORMAT, "has an unknown member"},
    {EMBED "," OFFSET, "\"model.embed_tokens.weight\":7", E_FORMAT, "is not an object"},
    {EMBED, "\"model.embed_tokens\\u002eweight\":{\"dtype\":\"F32\",\"shape\":[16,8]", E_FORMAT,
     "a tensor name holds an escape"},
    {"{\"model.emb", "{\"__metadata__\":7,\"model.emb", E_FORMAT, "__metadata__"},
    {"embed_tokens", "embed_tokenz", E_FORMAT,
     "model: tensor \"model.embed_tokens.weight\" is missing"},
    {"\"model.norm.weight\"", "\"model.layers.0.mlp.up_proj.weight\"", E_FORMAT,
     "tensor \"model.layers.0.mlp.up_proj.weight\" occurs twice"},
    {NORM, "\"model.norm.weight\":{\"dtype\":\"F16\",\"shape\":[8]", E_FORMAT,
     "\"model.norm.weight\" has a shape that does not match its bytes"},
};

static void header_lies_are_refused(void **state)
{
    struct tiny_file f;
    char dir[64];
    char err[256];
    (void)state;
    tiny_dir(dir);
    tiny_save_config(dir, &small);
    tiny_build(&small, &f);
    for (size_t i = 0; i < ARRAY_LEN(header_lies); i++) {
        const struct lie *l = &header_lies[i];
        struct tiny_file lying = f;
        lying.header = replaced(f.header, l->from, l->to);
        lying.header_bytes = strlen(lying.header);
        tiny_save_tensors(dir, "model.safetensors", &lying);
        expect(l->to, inspect(dir, err, sizeof(err)), l->status, err, l->says);
        free(lying.header);
    }
    free(f.header);
    free(f.data);
    tiny_drop(dir);
}

/* The eight bytes in front, against a file of 8 + header + data bytes. */
static void length_lies_are_refused(void **state)
{
    static const struct {
        uint64_t bytes;
        const char *says;
    } rows[] = {
        {0, "the header is not valid JSON: unexpected end at byte 0"},
        {1, "the header is not valid JSON: unexpected end at byte 1"},
        {100000001, "is over the limit of 100000000"},
        {UINT64_MAX, "is over the limit"},
        {1 << 20, "does not fit the file"},
    };
    struct tiny_file f;
    char dir[64];
    char path[128];
    char err[256];
    (void)state;
    tiny_dir(dir);
    tiny_save_config(dir, &small);
    tiny_build(&small, &f);
    snprintf(path, sizeof(path), "%s/model.safetensors", dir);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        tiny_save_tensors(dir, "model.safetensors", &f);
        FILE *to = fopen(path, "r+b");
        assert_non_null(to);
        assert_int_equal(fwrite(&rows[i].bytes, 8, 1, to), 1);
        fclose(to);
        expect("length", inspect(dir, err, sizeof(err)), E_FORMAT, err, rows[i].says);
    }
    free(f.header);
    free(f.data);
    tiny_drop(dir);
}

static void every_cut_is_refused(void **state)
{
    char dir[64];
    char path[128];
    char err[256];
    struct stat st;
    (void)state;
    tiny_dir(dir);
    tiny_save_model(dir, &small);
    snprintf(path, sizeof(path), "%s/model.safetensors", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(inspect(dir, err, sizeof(err)), OK);
    assert_int_equal(truncate(path, st.st_size + 1), 0);
    expect("longer", inspect(dir, err, sizeof(err)), E_FORMAT, err, "belong to no tensor");
    for (off_t n = st.st_size - 1; n >= 0; n--) {
        assert_int_equal(truncate(path, n), 0);
        expect("cut", inspect(dir, err, sizeof(err)), E_FORMAT, err, "model.safetensors: ");
    }
    tiny_drop(dir);
}

/* Nothing is expected but an answer; the sanitizers judge. */
static void every_byte_may_change(void **state)
{
    static const char strange[] = {'\0', '"', '\\', '{', '}', '[', ']', ',', '9', '-', '\x80'};
    struct tiny_file f;
    size_t refused = 0;
    (void)state;
    tiny_build(&small, &f);
    for (size_t i = 0; i < f.header_bytes * sizeof(strange); i++) {
        struct tensor_list list = {.n = 0};
        char err[256];
        const struct complaint c = {.file = "f", .text = err, .size = sizeof(err)};
        char *exact = malloc(f.header_bytes);
        assert_non_null(exact);
        memcpy(exact, f.header, f.header_bytes);
        exact[i / sizeof(strange)] = strange[i % sizeof(strange)];
        refused += safetensors_parse(&list, exact, f.header_bytes,
                                     8 + f.header_bytes + f.data_bytes, 0, &c) != OK;
        free(list.item);
        free(exact);
    }
    assert_true(refused > f.header_bytes);
    free(f.header);
    free(f.data);
}

static const struct lie index_lies[] = {
    {"", "{\"weight_map\":{\"model.norm.weight\":\"a.safetensors\",\"x\":\"b.safetensors\"}}", OK,
     ""},
    {"", "{\"weight_map\":{\"x\":\"b.safetensors\"}}", E_FORMAT, "is missing"},
    {"", "{\"weight_map\":{\"x\":\"a.safetensors\",\"model.norm.weight\":\"b.safetensors\"}}",
     E_FORMAT, "model.safetensors.index.json: tensor \"x\" is not in a.safetensors"},
    {"", "{\"weight_map\":{\"y\":\"b.safetensors\"}}", E_FORMAT, "\"y\" is not in b.safetensors"},
    {"", "{\"weight_map\":{\"x\":\"../b.safetensors\"}}", E_FORMAT, "\"x\" is not given a plain"},
    {"", "{\"weight_map\":{\"x\":\"/etc/b.safetensors\"}}", E_FORMAT, "\"x\" is not given a plain"},
    {"", "{\"weight_map\":{\"x\":\".safetensors\"}}", E_FORMAT, "\"x\" is not given a plain"},
    {"", "{\"weight_map\":{\"x\":\"config.json\"}}", E_FORMAT, "\"x\" is not given a plain"},
    {"", "{\"weight_map\":{\"x\":1}}", E_FORMAT, "\"x\" is not given a plain"},
    {"", "{\"weight_map\":{\"x\":\"c.safetensors\"}}", E_IO, "c.safetensors: cannot open"},
    {"", "{\"weight_map\":{}}", E_FORMAT, "\"weight_map\" must be an object"},
    {"", "{\"weight_map\":[]}", E_FORMAT, "\"weight_map\" must be an object"},
    {"", "{}", E_FORMAT, "\"weight_map\" must be an object"},
    {"", "7", E_FORMAT, "\"weight_map\" must be an object"},
};

static void save_extra(const char *dir, const char *header)
{
    static char zeros[32];
    struct tiny_file f = {.data = zeros, .data_bytes = sizeof(zeros)};
    f.header = (char *)(uintptr_t)header;
    f.header_bytes = strlen(header);
    tiny_save_tensors(dir, "b.safetensors", &f);
}

static void index_lies_are_refused(void **state)
{
    static const char twice[] = "{\"weight_map\":{\"model.norm.weight\":\"a.safetensors\","
                                "\"model.embed_tokens.weight\":\"b.safetensors\"}}";
    struct tiny_file f;
    char dir[64];
    char err[256];
    (void)state;
    tiny_dir(dir);
    tiny_save_config(dir, &small);
    tiny_build(&small, &f);
    tiny_save_tensors(dir, "a.safetensors", &f);
    expect("nothing", inspect(dir, err, sizeof(err)), E_IO, err, "model.safetensors: cannot open");
    save_extra(dir, "{\"x\":{\"dtype\":\"I64\",\"shape\":[4],\"data_offsets\":[0,32]}}");
    for (size_t i = 0; i < ARRAY_LEN(index_lies); i++) {
        const struct lie *l = &index_lies[i];
        tiny_save(dir, "model.safetensors.index.json", l->to, strlen(l->to));
        expect(l->to, inspect(dir, err, sizeof(err)), l->status, err, l->says);
    }
    save_extra(dir, "{\"model.norm.weight\":{\"dtype\":\"F32\",\"shape\":[8],"
                    "\"data_offsets\":[0,32]}}");
    tiny_save(dir, "model.safetensors.index.json", twice, sizeof(twice) - 1);
    expect("twice", inspect(dir, err, sizeof(err)), E_FORMAT, err, "occurs twice");
    free(f.header);
    free(f.data);
    tiny_drop(dir);
}

static void only_regular_files_are_read(void **state)
{
    static const char *const names[] = {"config.json", "generation_config.json",
                                        "model.safetensors"};
    char err[256];
    (void)state;
    for (size_t i = 0; i < 2 * ARRAY_LEN(names); i++) {
        char dir[64];
        char path[128];
        tiny_dir(dir);
        tiny_save_model(dir, &small);
        snprintf(path, sizeof(path), "%s/%s", dir, names[i / 2]);
        (void)unlink(path);
        assert_int_equal(i % 2 ? mkdir(path, 0700) : mkfifo(path, 0600), 0);
        expect(path, inspect(dir, err, sizeof(err)), E_IO, err, names[i / 2]);
        (void)rmdir(path);
        tiny_drop(dir);
    }
}

/* --- numbers --- */

static enum status open_model(const char *dir, bool f32, char *err, size_t size)
{
    const struct ops_options how = {.backend = "cpu", .threads = 1};
    const struct model_options opt = {
        .path = dir, .step_rows_max = 4, .step_seqs_max = 2, .weights_f32 = f32};
    struct ops *ops;
    struct model *m = NULL;
    assert_int_equal(ops_open(&ops, &how, err, size), OK);
    enum status s = model_open(&m, &opt, ops, err, size);
    model_close(m);
    ops->close(ops);
    return s;
}

struct poison {
    const char *dtype;
    uint32_t bits;
};

static const struct poison poisons[] = {
    {"F32", 0x7f800000}, {"F32", 0xff800000}, {"F32", 0x7fc00000}, {"F32", 0xff800001},
    {"F16", 0x7c00},     {"F16", 0xfc00},     {"F16", 0x7e00},     {"F16", 0xfc01},
    {"BF16", 0x7f80},    {"BF16", 0xff80},    {"BF16", 0x7fc0},    {"BF16", 0xff81},
};

/* First, last and middle value of the data: in the embedding, the last norm, between. */
static void what_is_not_finite_is_refused(void **state)
{
    char dir[64];
    char err[256];
    (void)state;
    tiny_dir(dir);
    tiny_save_config(dir, &small);
    for (size_t i = 0; i < 3 * ARRAY_LEN(poisons); i++) {
        const struct poison *p = &poisons[i / 3];
        struct tiny t = small;
        struct tiny_file f;
        t.dtype = p->dtype;
        tiny_build(&t, &f);
        size_t each = strcmp(p->dtype, "F32") == 0 ? 4 : 2;
        size_t last = f.data_bytes / each - 1;
        const size_t at[3] = {0, last, last / 2};
        memcpy(f.data + at[i % 3] * each, &p->bits, each);
        tiny_save_tensors(dir, "model.safetensors", &f);
        /* 0, 1: opened in int8 and f32; 2: checked. */
        for (int how = 0; how < 3; how++) {
            const char *says = i % 3 == 0   ? "tensor \"model.embed_tokens.weight\" holds"
                               : i % 3 == 1 ? "tensor \"model.norm.weight\" holds"
                                            : "holds a value that is not finite";
            err[0] = '\0';
            enum status got = how < 2 ? open_model(dir, how, err, sizeof(err))
                                      : model_check(dir, NULL, NULL, err, sizeof(err));
            expect(p->dtype, got, E_FORMAT, err, says);
        }
        free(f.header);
        free(f.data);
    }
    tiny_drop(dir);
}

/* The scales of an int8 checkpoint are numbers like others; so is int8 itself, whatever it is. */
static void scales_are_finite(void **state)
{
    static const uint32_t nan_bits = 0x7fc00000;
    char dir[64];
    char err[256] = "";
    struct tiny t = small;
    struct tiny_file f;
    (void)state;
    t.int8 = true;
    tiny_dir(dir);
    tiny_save_config(dir, &t);
    tiny_build(&t, &f);
    const char *at = strstr(f.header, "mlp.down_proj.weight_scale");
    assert_non_null(at);
    at = strstr(at, "data_offsets");
    assert_non_null(at);
    size_t begin = strtoul(at + strlen("data_offsets\":["), NULL, 10);
    for (int f32 = 0; f32 < 2; f32++) {
        tiny_save_tensors(dir, "model.safetensors", &f);
        expect("as made", open_model(dir, f32, err, sizeof(err)), OK, err, "");
        memcpy(f.data + begin + 4, &nan_bits, sizeof(nan_bits));
        tiny_save_tensors(dir, "model.safetensors", &f);
        expect("a scale", open_model(dir, f32, err, sizeof(err)), E_FORMAT, err,
               "tensor \"model.layers.0.mlp.down_proj.weight\" holds a value that is not finite");
        memset(f.data + begin + 4, 0, sizeof(nan_bits));
    }
    /* Rows of scale 0, and -128, which no quantizer writes. */
    memset(f.data, 0, f.data_bytes);
    tiny_save_tensors(dir, "model.safetensors", &f);
    expect("zeros", open_model(dir, false, err, sizeof(err)), OK, err, "");
    memset(f.data + begin - (size_t)t.dim * (size_t)t.hidden, 0x80,
           (size_t)t.dim * (size_t)t.hidden);
    tiny_save_tensors(dir, "model.safetensors", &f);
    expect("-128", open_model(dir, false, err, sizeof(err)), OK, err, "");
    free(f.header);
    free(f.data);
    tiny_drop(dir);
}

static void zeros_are_fine(void **state)
{
    struct tiny_file f;
    char dir[64];
    char err[256] = "";
    (void)state;
    tiny_dir(dir);
    tiny_save_config(dir, &small);
    tiny_build(&small, &f);
    memset(f.data, 0, f.data_bytes);
    tiny_save_tensors(dir, "model.safetensors", &f);
    expect("zeros", open_model(dir, false, err, sizeof(err)), OK, err, "");
    expect("zeros", open_model(dir, true, err, sizeof(err)), OK, err, "");
    expect("zeros", model_check(dir, NULL, NULL, err, sizeof(err)), OK, err, "");
    free(f.header);
    free(f.data);
    tiny_drop(dir);
}

static void quantizing_rounds_to_nearest_even(void **state)
{
    /* Scale 2: exact products, so ties are ties. */
    static const float x[] = {254, -254, 1, 3, -1, -3, 5, 0, 2.5f, -0.5f, 253, 1e-30f};
    static const int8_t want[] = {127, -127, 0, 2, 0, -2, 2, 0, 1, 0, 126, 0};
    static const float edges[] = {0, -0.0f, 1e-38f, 1e-45f, 3.4e38f, 1e-29f};
    int8_t q[ARRAY_LEN(x)];
    float scale;
    (void)state;
    quantize_row(q, &scale, x, ARRAY_LEN(x));
    assert_true(scale == 2.0f);
    assert_memory_equal(q, want, sizeof(want));
    for (size_t i = 0; i < ARRAY_LEN(edges); i++) {
        quantize_row(q, &scale, &edges[i], 1);
        assert_true(isfinite(scale) && scale >= 0);
        assert_true(fabs((double)q[0] * (double)scale - (double)edges[i]) <=
                    1e-6 * (double)edges[i] + 1e-30);
    }
    uint32_t seed = 77;
    float row[1000];
    int8_t out[1000];
    for (int i = 0; i < 1000; i++)
        row[i] = tiny_value(&seed, 3.0f, 0.1f);
    quantize_row(out, &scale, row, 1000);
    for (int i = 0; i < 1000; i++)
        assert_true(fabs((double)row[i] - out[i] * (double)scale) <= 0.5001 * (double)scale);
}

static void every_half_widens_exactly(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        uint16_t half = (uint16_t)bits;
        float got;
        bool finite = dtype_info(DTYPE_F16)->widen(&got, &half, 1);
        int exponent = (int)(bits >> 10 & 31);
        double mantissa = (double)(bits & 1023) / 1024;
        assert_int_equal(finite, exponent != 31);
        if (!finite)
            continue;
        double want = exponent ? ldexp(1 + mantissa, exponent - 15) : ldexp(mantissa, -14);
        assert_true((double)got == (bits & 0x8000 ? -want : want));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_lies_are_refused),
        cmocka_unit_test(length_lies_are_refused),
        cmocka_unit_test(every_cut_is_refused),
        cmocka_unit_test(every_byte_may_change),
        cmocka_unit_test(index_lies_are_refused),
        cmocka_unit_test(only_regular_files_are_read),
        cmocka_unit_test(what_is_not_finite_is_refused),
        cmocka_unit_test(scales_are_finite),
        cmocka_unit_test(zeros_are_fine),
        cmocka_unit_test(quantizing_rounds_to_nearest_even),
        cmocka_unit_test(every_half_widens_exactly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

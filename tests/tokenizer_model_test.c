#include "tests/tokenizer_rig.h"

/* Aim: tokenizer.model, as SentencePiece and as lines of base64, is read or refused in one
 * line.
 * Negative space: lengths beyond the file, numbers without end, cuts at every byte, other
 * kinds of models, normalization that is not ours, ranks out of order, and added tokens that
 * other files bring. */

/* --- messages by hand --- */

struct message {
    char bytes[1024];
    size_t n;
};

static void add_varint(struct message *m, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        m->bytes[m->n++] = (char)(value | 0x80);
    m->bytes[m->n++] = (char)value;
}

static void add_number(struct message *m, uint32_t field, uint64_t value)
{
    add_varint(m, field << 3);
    add_varint(m, value);
}

static void add_bytes(struct message *m, uint32_t field, const char *bytes, size_t n)
{
    add_varint(m, field << 3 | 2);
    add_varint(m, n);
    memcpy(m->bytes + m->n, bytes, n);
    m->n += n;
}

static void add_piece(struct message *m, const char *text, float score, uint32_t kind)
{
    struct message one = {.n = 0};
    uint32_t bits;
    memcpy(&bits, &score, sizeof(bits));
    add_bytes(&one, 1, text, strlen(text));
    add_varint(&one, 2 << 3 | 5);
    for (int i = 0; i < 4; i++)
        one.bytes[one.n++] = (char)(bits >> 8 * i);
    if (kind != PART_TEXT)
        add_number(&one, 3, kind);
    add_bytes(m, 1, one.bytes, one.n);
}

struct spec {
    uint64_t model_type;
    uint64_t dummy_prefix;
    uint64_t squeeze;
    uint64_t escape;
    uint64_t suffix;
    uint64_t bos;
    const char *charsmap;
    bool no_trainer;
    uint32_t kind; /* of the piece "b" */
};

static const struct spec usual = {
    .model_type = 2, .dummy_prefix = 1, .escape = 1, .bos = 1, .kind = PART_TEXT};

static void build(struct message *m, const struct spec *s)
{
    struct message part = {.n = 0};
    m->n = 0;
    add_piece(m, "<unk>", 0, PART_UNKNOWN);
    add_piece(m, "<s>", 0, PART_CONTROL);
    add_piece(m, SP, -3, PART_TEXT);
    add_piece(m, "a", -4, PART_TEXT);
    add_piece(m, "b", -5, s->kind);
    add_piece(m, "ab", -1, PART_TEXT);
    add_piece(m, SP "a", -2, PART_TEXT);
    add_piece(m, "<tool>", 0, PART_USER);
    add_number(&part, 3, s->model_type);
    add_number(&part, 24, s->suffix);
    add_number(&part, 41, s->bos);
    add_bytes(&part, 7, "text", 4); /* a field nobody asks for */
    if (!s->no_trainer)
        add_bytes(m, 2, part.bytes, part.n);
    part.n = 0;
    add_number(&part, 3, s->dummy_prefix);
    add_number(&part, 4, s->squeeze);
    add_number(&part, 5, s->escape);
    if (s->charsmap)
        add_bytes(&part, 2, s->charsmap, strlen(s->charsmap));
    add_bytes(m, 3, part.bytes, part.n);
}

static enum status load(struct tokenizer **t, const char *bytes, size_t n, const char *config,
                        const char *older, char err[ERR_BYTES])
{
    remove_files();
    write_file("tokenizer.model", bytes, n);
    if (config)
        write_file("tokenizer_config.json", config, strlen(config));
    if (older)
        write_file("added_tokens.json", older, strlen(older));
    *t = NULL;
    err[0] = '\0';
    return tokenizer_open(t, folder, err, ERR_BYTES);
}

static void expect(const struct tokenizer *t, const char *text, const char *want)
{
    struct text_range all = {0, strlen(text)};
    int32_t id[64];
    size_t n = 0;
    char got[256] = "";
    const struct marked_text in = {text, all.end, &all, 1, true};
    assert_int_equal(tokenizer_encode_marked(t, &in, id, 64, &n), OK);
    for (size_t i = 0; i < n; i++)
        (void)snprintf(got + strlen(got), sizeof(got) - strlen(got), i ? " %d" : "%d", id[i]);
    assert_string_equal(got, want);
}

static const struct read_case {
    struct spec spec;
    const char *config;
    const char *older;
    const char *text;
    const char *ids;
    int32_t bos;
} read_cases[] = {
    {{2, 1, 0, 1, 0, 1, NULL, false, 1}, NULL, NULL, "ab a", "2 5 6", 1},
    {{2, 0, 0, 1, 0, 1, NULL, false, 1}, NULL, NULL, "ab a", "5 6", 1},
    {{2, 1, 1, 1, 0, 1, NULL, false, 1}, NULL, NULL, "  ab   a ", "2 5 6", 1},
    {{2, 1, 0, 1, 0, 99, NULL, false, 1}, NULL, NULL, "zz", "2 0", -1},
    {{2, 1, 0, 1, 0, 1, NULL, false, 1}, "{\"add_bos_token\":false}", NULL, "a", "6", -1},
    {{2, 1, 0, 1, 0, 1, NULL, false, 1}, NULL, "{\"<x>\":9,\"<y>\":8}", "<x><y>", "9 8", 1},
    {{2, 0, 0, 1, 0, 1, NULL, false, 1},
     "{\"added_tokens_decoder\":{\"7\":{\"content\":\"<tool>\",\"rstrip\":true}}}",
     NULL,
     "a <tool>  b",
     "3 2 7 4",
     1},
    {{2, 1, 0, 1, 0, 1, NULL, false, 1},
     "{\"added_tokens_decoder\":{\"12\":{\"content\":\"<|x|>\",\"special\":true}}}",
     NULL,
     "<|x|>",
     "12",
     1},
};

static void messages(void **state)
{
    (void)state;
    struct message *m = malloc(sizeof(*m));
    assert_non_null(m);
    for (size_t i = 0; i < ARRAY_LEN(read_cases); i++) {
        const struct read_case *r = &read_cases[i];
        struct tokenizer *t;
        char err[ERR_BYTES];
        build(m, &r->spec);
        if (load(&t, m->bytes, m->n, r->config, r->older, err))
            fail_msg("row %zu: %s", i, err);
        expect(t, r->text, r->ids);
        assert_int_equal(tokenizer_bos(t), r->bos);
        tokenizer_close(t);
    }
    free(m);
}

static const struct refused_case {
    struct spec spec;
    enum status s;
    const char *part;
} refused_cases[] = {
    {{1, 1, 0, 1, 0, 1, NULL, false, 1}, E_UNSUPPORTED, "model type 1 (unigram)"},
    {{3, 1, 0, 1, 0, 1, NULL, false, 1}, E_UNSUPPORTED, "model type 3"},
    {{2, 1, 0, 1, 1, 1, NULL, false, 1}, E_UNSUPPORTED, "blanks behind words"},
    {{2, 1, 0, 0, 0, 1, NULL, false, 1}, E_UNSUPPORTED, "own normalization"},
    {{2, 1, 0, 1, 0, 1, "map", false, 1}, E_UNSUPPORTED, "own normalization"},
    {{2, 1, 0, 1, 0, 1, NULL, true, 1}, E_FORMAT, "trainer_spec is missing"},
    {{2, 1, 0, 1, 0, 1, NULL, false, 7}, E_FORMAT, "a piece is damaged"},
    {{2, 1, 0, 1, 0, 1, NULL, false, 6}, E_FORMAT, "no piece for byte"},
};

static void check_refused(const char *bytes, size_t n, const char *config, enum status want,
                          const char *part, size_t row)
{
    struct tokenizer *t;
    char err[ERR_BYTES];
    enum status s = load(&t, bytes, n, config, NULL, err);
    if (s != want || !strstr(err, part) || strchr(err, '\n') || strncmp(err, "token", 5) != 0)
        fail_msg("row %zu: %s: %s", row, status_text(s), err);
    assert_null(t);
}

static const struct {
    const char *bytes;
    size_t n;
} damaged[] = {
    {"\n", 1},
    {"\n\xff", 2},
    {"\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12},
    {"\n\x05\n\x02", 4},
    {"\n\x04\n\x7f"
     "ab",
     6},
    {"\n\x00", 2},
    {"\n\x03\n\x01"
     "a\x0b",
     6},
};

static void refusals(void **state)
{
    (void)state;
    struct message *m = malloc(sizeof(*m));
    assert_non_null(m);
    for (size_t i = 0; i < ARRAY_LEN(refused_cases); i++) {
        build(m, &refused_cases[i].spec);
        check_refused(m->bytes, m->n, NULL, refused_cases[i].s, refused_cases[i].part, i);
    }
    for (size_t i = 0; i < ARRAY_LEN(damaged); i++)
        check_refused(damaged[i].bytes, damaged[i].n, NULL, E_FORMAT, "", 100 + i);
    free(m);
}

/* Cut at any byte: refused, or what is gone was no more than the normalizer's defaults. */
static void cut_messages(void **state)
{
    (void)state;
    struct message *m = malloc(sizeof(*m));
    assert_non_null(m);
    build(m, &usual);
    int whole = 0;
    for (size_t cut = 1; cut < m->n; cut++) {
        struct tokenizer *t;
        char err[ERR_BYTES];
        enum status s = load(&t, m->bytes, cut, NULL, NULL, err);
        whole += s == OK;
        assert_true(s == OK || (strlen(err) > 0 && !strchr(err, '\n')));
        tokenizer_close(t);
    }
    assert_int_equal(whole, 1);
    free(m);
}

/* --- lines of base64 --- */

#define SOME_CONFIG                                                                                \
    "{\"added_tokens_decoder\":{\"258\":{\"content\":\"<|begin_of_text|>\",\"special\":true}}}"

/* The 256 bytes, then "11" and "111". */
static size_t write_lines(char *out, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = 0;
    for (unsigned b = 0; b < 256; b++)
        n += (size_t)snprintf(out + n, size - n, "%c%c== %u\n", digits[b >> 2],
                              digits[(b & 3) << 4], b);
    return n + (size_t)snprintf(out + n, size - n, "MTE= 256\nMTEx 257\n");
}

static const struct {
    const char *line; /* instead of the last one */
    const char *part;
} bad_lines[] = {
    {"MTEx 258\n", "line 258"},        {"MTEx\n", "line 258"},     {"MTE 257\n", "line 258"},
    {"M=Ex 257\n", "line 258"},        {"MT=x 257\n", "line 258"}, {"MTEx 0257x\n", "line 258"},
    {"MTEx 9999999999\n", "line 258"}, {" 257\n", "line 258"},     {"MTE= 257\n", "given twice"},
    {"MTEx  257\n", "line 258"},       {"MTEx \n", "line 258"},
};

static void lines(void **state)
{
    (void)state;
    char *text = malloc(8192);
    struct tokenizer *t;
    char err[ERR_BYTES];
    assert_non_null(text);
    size_t n = write_lines(text, 8192);
    if (load(&t, text, n, SOME_CONFIG, NULL, err))
        fail_msg("%s", err);
    expect(t, "1111 <|begin_of_text|>x", "257 49 32 258 120");
    assert_int_equal(tokenizer_bos(t), 258);
    tokenizer_close(t);
    check_refused(text, n, NULL, E_UNSUPPORTED, "special tokens of 258 pieces", 200);
    for (size_t i = 0; i < ARRAY_LEN(bad_lines); i++) {
        char *last = text + n - strlen("MTEx 257\n");
        (void)snprintf(last, 64, "%s", bad_lines[i].line);
        check_refused(text, strlen(text), SOME_CONFIG, E_FORMAT, bad_lines[i].part, i);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages),
        cmocka_unit_test(refusals),
        cmocka_unit_test(cut_messages),
        cmocka_unit_test(lines),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

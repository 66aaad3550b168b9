#include "tests/tokenizer_rig.h"

/* Aim: a tokenizer.json is understood or refused, never half understood.
 * Negative space: every member missing, of another type or out of its range; ids given
 * twice, merges of what is not there, steps nobody implements, nesting without end. A
 * refusal is one line with the file's name and the reason. */

/* --- chains of steps --- */

#define META(scheme)                                                                               \
    "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"" SP                              \
    "\",\"prepend_scheme\":\"" scheme                                                              \
    "\",\"split\":false},\"decoder\":{\"type\":\"Metaspace\",\"replacement\":\"" SP "\"},"
#define META_OLD(add)                                                                              \
    "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"" SP                              \
    "\",\"add_prefix_space\":" add "},"

#define DECODER_KEEP                                                                               \
    "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":"          \
    "{\"String\":\"" SP                                                                            \
    "\"},\"content\":\" \"},{\"type\":\"Strip\",\"content\":\" \",\"start\":0,"                    \
    "\"stop\":0}]},"

static const struct chain_case {
    const char *around;
    const char *text;
    bool first;
    const char *pieces; /* as decoded, with bars between, blanks shown */
    const char *back;   /* decoded as an answer of its own */
} chain_cases[] = {
    {NORM_BOTH DECODER_STRIP, "ab ab", true, " ab| ab", "ab ab"},
    {NORM_BOTH DECODER_STRIP, "ab ab", false, " ab| ab", "ab ab"},
    {NORM_BOTH DECODER_STRIP, " ab", false, " | ab", " ab"},
    {NORM_BOTH DECODER_KEEP, "ab", true, " ab", " ab"},
    {"\"normalizer\":" NORM_REPLACE ",", "ab ab", true, "ab| ab", "ab ab"},
    {"\"normalizer\":" NORM_REPLACE ",", " ab", true, " ab", " ab"},
    {META("first"), "ab", true, " ab", "ab"},
    {META("first"), "ab", false, "ab", "ab"},
    {META("first"), " ab", true, " ab", "ab"},
    {META("always"), "ab", false, " ab", "ab"},
    {META("always"), " ab", false, " ab", "ab"},
    {META("never"), "ab  ab", true, "ab| | ab", "ab  ab"},
    {META_OLD("true"), "ab   ab", true, " ab| | | ab", "ab   ab"},
    {META_OLD("false"), "ab   ab", true, "ab| | | ab", "ab   ab"},
};

static void chains(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(chain_cases); i++) {
        const struct chain_case *k = &chain_cases[i];
        char *json = blanks_json(k->around, DEMO_PIECES, DEMO_MERGES, "");
        struct tokenizer *t = must_make(json);
        int32_t id[32];
        size_t n = 0;
        char pieces[256] = "";
        char back[256] = "";
        struct token_cursor whole = {.n_held = 0};
        assert_int_equal(
            tokenizer_encode(t, k->text, strlen(k->text), k->first, id, ARRAY_LEN(id), &n), OK);
        for (size_t at = 0; at < n; at++) {
            struct token_cursor c = {.started = true};
            char out[TOKEN_TEXT_MAX];
            size_t bytes = tokenizer_decode(t, &c, id[at], out);
            (void)snprintf(pieces + strlen(pieces), sizeof(pieces) - strlen(pieces), "%s%.*s",
                           at ? "|" : "", (int)bytes, out);
            bytes = tokenizer_decode(t, &whole, id[at], out);
            (void)snprintf(back + strlen(back), sizeof(back) - strlen(back), "%.*s", (int)bytes,
                           out);
        }
        assert_string_equal(pieces, k->pieces);
        assert_string_equal(back, k->back);
        tokenizer_close(t);
        free(json);
    }
}

/* --- byte-level chains --- */

#define DIGITS             "{\"type\":\"Digits\",\"individual_digits\":true}"
#define SEQUENCE(list)     "{\"type\":\"Sequence\",\"pretokenizers\":[" list "]}"
#define SPLIT(regex, rest) "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex "\"}," rest "}"
#define LLAMA3_REGEX                                                                               \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| "         \
    "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define ISOLATED "\"behavior\":\"Isolated\",\"invert\":false"
#define REMOVED  "\"behavior\":\"Removed\",\"invert\":true"

static const struct bytes_case {
    const char *pre;
    const char *text;
    size_t n; /* ids, with the merges of bytes_rows */
} bytes_cases[] = {
    {BYTE_LEVEL, "1111 1111", 5},
    {NO_PATTERN, "1111 1111", 5},
    {SEQUENCE(DIGITS "," BYTE_LEVEL), "1111 1111", 9},
    {SEQUENCE(SPLIT(LLAMA3_REGEX, ISOLATED) "," NO_PATTERN), "1111 1111", 7},
    {SEQUENCE(SPLIT(LLAMA3_REGEX, REMOVED) "," NO_PATTERN), "1111 1111", 7},
    {"{\"type\":\"ByteLevel\",\"add_prefix_space\":true}", "b", 1},
    {"{\"type\":\"ByteLevel\",\"add_prefix_space\":true}", " b", 1},
    {BYTE_LEVEL, "b", 1},
};

static const char *const bytes_rows[] = {"1|1", " |b"};

static void byte_chains(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bytes_cases); i++) {
        const struct bytes_case *k = &bytes_cases[i];
        char *json = byte_level_json(bytes_rows, ARRAY_LEN(bytes_rows), k->pre);
        struct tokenizer *t = must_make(json);
        int32_t id[32];
        size_t n = 0;
        assert_int_equal(tokenizer_encode(t, k->text, strlen(k->text), true, id, 32, &n), OK);
        if (n != k->n)
            fail_msg("row %zu: %zu ids", i, n);
        tokenizer_close(t);
        free(json);
    }
}

/* --- BOS --- */

#define TEMPLATE_BOS                                                                               \
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":"   \
    "\"<s>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}]},"

static const struct bos_case {
    const char *around;
    const char *config; /* NULL: no such file */
    int32_t bos;
} bos_cases[] = {
    {"", NULL, -1},
    {TEMPLATE_BOS, NULL, 1},
    {TEMPLATE_BOS, "{}", 1},
    {TEMPLATE_BOS, "{\"add_bos_token\":false,\"bos_token\":\"<s>\"}", -1},
    {TEMPLATE_BOS, "{\"add_bos_token\":true,\"bos_token\":\"</s>\"}", 2},
    {TEMPLATE_BOS, "{\"add_bos_token\":true}", 1},
    {TEMPLATE_BOS, "{\"add_bos_token\":null,\"bos_token\":\"</s>\"}", 1},
    {"", "{\"add_bos_token\":true,\"bos_token\":{\"content\":\"<s>\"}}", 1},
    {"", "{\"bos_token\":\"<s>\"}", -1},
    {"\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"}]},", "{}",
     -1},
};

static void beginnings(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bos_cases); i++) {
        char *json = blanks_json(bos_cases[i].around, DEMO_PIECES, DEMO_MERGES, "");
        struct tokenizer *t;
        char err[ERR_BYTES];
        if (open_made(&t, json, bos_cases[i].config, err))
            fail_msg("row %zu: %s", i, err);
        if (tokenizer_bos(t) != bos_cases[i].bos)
            fail_msg("row %zu: %d", i, (int)tokenizer_bos(t));
        tokenizer_close(t);
        free(json);
    }
}

/* --- refusals --- */

#define MODEL(vocab, merges)                                                                       \
    "{\"model\":{\"type\":\"BPE\",\"unk_token\":\"u\",\"vocab\":{" vocab "},\"merges\":" merges "}}"
#define WITH(around)                                                                               \
    "{" around ",\"model\":{\"unk_token\":\"u\",\"vocab\":{\"u\":0,\"a\":1},\"merges\":[]}}"

static const struct broken_case {
    const char *json;
    enum status s;
    const char *err;
} broken_cases[] = {
    {"", E_FORMAT, "the file is empty"},
    {"{", E_FORMAT, ""},
    {"[]", E_FORMAT, "not a JSON object"},
    {"{}", E_FORMAT, "model is missing"},
    {"{\"model\":[]}", E_FORMAT, "model is missing"},
    {"{\"model\":{}}", E_FORMAT, "model.vocab is missing"},
    {"{\"model\":{\"vocab\":[[\"a\",-1.5]]}}", E_FORMAT, "model.vocab is missing"},
    {"{\"model\":{\"type\":\"Unigram\",\"vocab\":{}}}", E_UNSUPPORTED, "\"Unigram\""},
    {"{\"model\":{\"type\":7,\"vocab\":{}}}", E_FORMAT, "type"},
    {"{\"model\":{\"vocab\":{}}}", E_FORMAT, "model.vocab is empty"},
    {MODEL("\"u\":0", "7"), E_FORMAT, "model.merges is no list"},
    {MODEL("\"u\":-1", "[]"), E_FORMAT, "the id of \"u\""},
    {MODEL("\"u\":1048576", "[]"), E_FORMAT, "the id of \"u\""},
    {MODEL("\"u\":1e300", "[]"), E_FORMAT, "the id of \"u\""},
    {MODEL("\"u\":0.5", "[]"), E_FORMAT, "the id of \"u\""},
    {MODEL("\"u\":\"0\"", "[]"), E_FORMAT, "the id of \"u\""},
    {MODEL("\"u\":0,\"a\":0", "[]"), E_FORMAT, "\"a\": id 0 or its text is given twice"},
    {MODEL("\"u\":0,\"u\":1", "[]"), E_FORMAT, "\"u\": id 1 or its text is given twice"},
    {MODEL("\"a\":0", "[]"), E_FORMAT, "neither bytes nor an unknown token"},
    {MODEL("\"u\":0,\"a\":1", "[\"a b\"]"), E_FORMAT, "merge 0"},
    {MODEL("\"u\":0,\"a\":1", "[\"a a\"]"), E_FORMAT, "merge 0"},
    {MODEL("\"u\":0,\"a\":1", "[\"a\"]"), E_FORMAT, "merge 0 is not a pair"},
    {MODEL("\"u\":0,\"a\":1", "[\"a  a\"]"), E_FORMAT, "merge 0 is not a pair"},
    {MODEL("\"u\":0,\"a\":1", "[[\"a\"]]"), E_FORMAT, "merge 0 is not a pair"},
    {MODEL("\"u\":0,\"a\":1", "[[\"a\",7]]"), E_FORMAT, "merge 0 is not a pair"},
    {MODEL("\"u\":0,\"a\":1", "[[\"a\",\"a\",\"a\"]]"), E_FORMAT, "merge 0 is not a pair"},
    {MODEL("\"u\":0,\"a\":1", "[[]]"), E_FORMAT, "merge 0 is not a pair"},
    {MODEL("\"u\":0,\"a\":1,\"aa\":2", "[\"a a\",[\"\",\"a\"]]"), E_FORMAT, "merge 1"},
    {MODEL("\"u\":0,\"\xff\":1", "[]"), E_FORMAT, ""},
    {"{\"model\":{\"vocab\":{\"a\":0},\"dropout\":0.1}}", E_FORMAT, "dropout"},
    {"{\"model\":{\"vocab\":{\"a\":0},\"byte_fallback\":7}}", E_FORMAT, "byte_fallback"},
    {"{\"model\":{\"vocab\":{\"a\":0},\"byte_fallback\":true,\"merges\":[]}}", E_FORMAT,
     "no piece for byte 0x00"},
    {"{\"model\":{\"vocab\":{\"a\":0},\"end_of_word_suffix\":\"</w>\"}}", E_UNSUPPORTED,
     "end_of_word_suffix"},
    {WITH("\"added_tokens\":7"), E_FORMAT, "added_tokens is no list"},
    {WITH("\"added_tokens\":[7]"), E_FORMAT, "an entry without content"},
    {WITH("\"added_tokens\":[{\"id\":1}]"), E_FORMAT, "an entry without content"},
    {WITH("\"added_tokens\":[{\"content\":\"b\"}]"), E_FORMAT, "the id of \"b\""},
    {WITH("\"added_tokens\":[{\"id\":-1,\"content\":\"b\"}]"), E_FORMAT, "the id of \"b\""},
    {WITH("\"added_tokens\":[{\"id\":2,\"content\":\"b\",\"special\":7}]"), E_FORMAT, "special"},
    {WITH("\"added_tokens\":[{\"id\":2,\"content\":\"b\",\"special\":true},"
          "{\"id\":2,\"content\":\"c\",\"special\":true}]"),
     E_FORMAT, "\"c\": id 2 or its text is given twice"},
    /* Text could reach a special token by its other name. */
    {WITH("\"added_tokens\":[{\"id\":2,\"content\":\"b\",\"special\":true},"
          "{\"id\":2,\"content\":\"c\"}]"),
     E_FORMAT, "\"c\": id 2 is that of another added token"},
    {WITH("\"added_tokens\":[{\"id\":2,\"content\":\"b\"},{\"id\":2,\"content\":\"<c>\"}]"),
     E_FORMAT, "\"b\": id 2 is that of another added token"},
    {WITH("\"normalizer\":{\"type\":\"Nmt\"}"), E_UNSUPPORTED, "normalizer \"Nmt\""},
    {WITH("\"normalizer\":{\"type\":\"Replace\",\"content\":\"a\"}"), E_FORMAT,
     "a Replace without a pattern"},
    {WITH("\"normalizer\":{\"type\":\"Replace\",\"content\":\"a\",\"pattern\":{\"String\":\"\"}}"),
     E_FORMAT, "a Replace of nothing"},
    {WITH("\"normalizer\":{\"type\":\"Replace\",\"content\":\"a\",\"pattern\":{\"Regex\":\"(\"}}"),
     E_UNSUPPORTED, "\"(\" is no regular expression at byte 1"},
    {WITH("\"normalizer\":{\"type\":\"Prepend\",\"prepend\":"
          "\"0123456789012345678901234567890123456789\"}"),
     E_UNSUPPORTED, "longer than 31 bytes"},
    {WITH("\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKC\"},"
          "{\"type\":\"NFKC\"}]}"),
     E_UNSUPPORTED, "grow more than 64 times"},
    {WITH("\"normalizer\":7"), E_UNSUPPORTED, "normalizer \"\""},
    {WITH("\"normalizer\":{\"type\":\"Sequence\"}"), E_FORMAT, "a Sequence without normalizers"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Whitespace\"}"), E_UNSUPPORTED, "\"Whitespace\""},
    {WITH("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\"}"), E_UNSUPPORTED,
     "\"Metaspace\""},
    {WITH("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"prepend_scheme\":\"last\"}"), E_UNSUPPORTED,
     "\"Metaspace\""},
    {WITH("\"pre_tokenizer\":" SEQUENCE(SPLIT("[", ISOLATED) "," NO_PATTERN)), E_UNSUPPORTED,
     "pattern \"[\" is no regular expression"},
    {WITH("\"pre_tokenizer\":" SEQUENCE(SPLIT("[a&&b]", ISOLATED) "," NO_PATTERN)), E_UNSUPPORTED,
     "pattern \"[a&&b]\" is not supported"},
    {WITH("\"pre_tokenizer\":" SEQUENCE(SPLIT("a", "\"behavior\":\"Kept\""))), E_UNSUPPORTED,
     "\"Split\""},
    {WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\"}"), E_FORMAT,
     "a Split without a pattern"},
    {WITH("\"pre_tokenizer\":" SEQUENCE(BYTE_LEVEL "," DIGITS)), E_UNSUPPORTED, "\"ByteLevel\""},
    {WITH("\"pre_tokenizer\":" BYTE_LEVEL), E_FORMAT, "no piece for byte 0x20"},
    {WITH("\"pre_tokenizer\":" BYTE_LEVEL ",\"decoder\":{\"type\":\"Fuse\"}"), E_UNSUPPORTED,
     "of two kinds"},
    {WITH("\"decoder\":{\"type\":\"WordPiece\"}"), E_UNSUPPORTED, "decoder \"WordPiece\""},
    {WITH("\"decoder\":{\"type\":\"Strip\",\"content\":\" \",\"start\":2}"), E_FORMAT, "start"},
    {WITH("\"decoder\":{\"type\":\"Sequence\",\"decoders\":[1,2,3,4,5,6,7,8,9]}"), E_UNSUPPORTED,
     "more than 8 steps"},
    {WITH("\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":"
          "{\"id\":\"x\\ny\"}}]}"),
     E_FORMAT, "post_processor: \"x?y\" is no special token"},
};

static void check_broken(const char *json, const char *config, enum status want, const char *part,
                         size_t row)
{
    struct tokenizer *t;
    char err[ERR_BYTES];
    enum status s = open_made(&t, json, config, err);
    if (s != want || !strstr(err, part) || strncmp(err, "tokenizer", 9) != 0 || strchr(err, '\n'))
        fail_msg("row %zu: %s: %s", row, status_text(s), err);
    assert_null(t);
}

static void broken_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(broken_cases); i++) {
        const struct broken_case *k = &broken_cases[i];
        check_broken(k->json, NULL, k->s, k->err, i);
    }
    char *good = blanks_json("", DEMO_PIECES, DEMO_MERGES, "");
    check_broken(good, "{", E_FORMAT, "tokenizer_config.json: ", 1000);
    check_broken(good, "{\"add_bos_token\":1}", E_FORMAT, "add_bos_token", 1001);
    check_broken(good, "{\"add_bos_token\":true,\"bos_token\":\"<bos>\"}", E_FORMAT,
                 "bos_token \"<bos>\" is no special token", 1002);
    free(good);
}

/* Names longer than an answer's piece may be, nesting, and a vocabulary with a byte less. */
static void broken_at_length(void **state)
{
    (void)state;
    enum { DEEP = 100000 };
    char *deep = malloc(DEEP + 1);
    char name[2 * TOK_PIECE_MAX + 2];
    char json[4096];
    assert_non_null(deep);
    memset(deep, '[', DEEP);
    deep[DEEP] = '\0';
    check_broken(deep, NULL, E_FORMAT, "", 0);
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    (void)snprintf(json, sizeof(json), MODEL("\"u\":0,\"%s\":1", "[]"), name);
    check_broken(json, NULL, E_FORMAT, "is longer than", 1);
    name[TOK_PIECE_MAX + 1] = '\0';
    (void)snprintf(json, sizeof(json), MODEL("\"u\":0,\"%s\":1", "[]"), name);
    check_broken(json, NULL, E_FORMAT, "is longer than", 2);
    name[TOK_PIECE_MAX] = '\0';
    (void)snprintf(json, sizeof(json), MODEL("\"u\":0,\"%s\":1", "[]"), name);
    tokenizer_close(must_make(json));
    free(deep);
    char *bytes = byte_level_json(NULL, 0, BYTE_LEVEL);
    char *letter = strstr(bytes, "\\u0041\":65");
    assert_non_null(letter);
    memcpy(letter, "\\u0f41", 6);
    check_broken(bytes, NULL, E_FORMAT, "no piece for byte 0x41", 3);
    free(bytes);
}

/* A byte that is not there leaves no id; or <unk>, where there is one. */
static void missing_byte(void **state)
{
    (void)state;
    char *json = byte_level_json(NULL, 0, BYTE_LEVEL);
    char *letter = strstr(json, "\":233,"); /* 0xe9, which begins U+9000 .. U+9FFF */
    assert_non_null(letter);
    memcpy(letter - 6, "\\u0f41", 6);
    struct tokenizer *t = must_make(json);
    int32_t id[8];
    size_t n = 0;
    assert_int_equal(tokenizer_encode(t, "a\xe9\x80\x80", 4, true, id, 8, &n), OK);
    assert_int_equal(n, 3);
    t->unk = 5;
    n = 0;
    assert_int_equal(tokenizer_encode(t, "a\xe9\x80\x80", 4, true, id, 8, &n), OK);
    assert_int_equal(n, 4);
    assert_int_equal(id[1], 5);
    tokenizer_close(t);
    free(json);
}

static void no_files(void **state)
{
    (void)state;
    struct tokenizer *t = NULL;
    char err[ERR_BYTES] = "";
    remove_files();
    assert_int_equal(tokenizer_open(&t, folder, err, sizeof(err)), E_IO);
    assert_non_null(strstr(err, "tokenizer.json: cannot open"));
    assert_int_equal(tokenizer_open(&t, "/nowhere", err, sizeof(err)), E_IO);
    assert_null(t);
}

/* A file cut at any place is refused or, cut in blanks behind it, whole. */
static void cut_files(void **state)
{
    (void)state;
    char *json = blanks_json(NORM_BOTH DECODER_STRIP, DEMO_PIECES, DEMO_MERGES, "");
    size_t n = strlen(json);
    for (size_t cut = 1; cut < n; cut += 1 + cut / 64) {
        char kept = json[cut];
        json[cut] = '\0';
        check_broken(json, NULL, E_FORMAT, "", cut);
        json[cut] = kept;
    }
    free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chains),           cmocka_unit_test(byte_chains),
        cmocka_unit_test(beginnings),       cmocka_unit_test(broken_files),
        cmocka_unit_test(broken_at_length), cmocka_unit_test(missing_byte),
        cmocka_unit_test(no_files),         cmocka_unit_test(cut_files),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

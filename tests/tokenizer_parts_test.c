#include "tests/tokenizer_rig.h"

/* Aim: a vocabulary given as lists becomes the tokenizer that the same vocabulary in
 * tokenizer.json is.
 * Negative space: scores that tie, texts given twice, ids out of the vocabulary, types
 * nobody defined, bytes that are no text: refused in one line, or said to be harmless; and
 * what of that has a place in a tokenizer.json that is written of such lists. */

static const char *const blank_texts[] = {"<unk>", "<s>",  "</s>", SP,   "a",   "b",    "aa",
                                          "ab",    SP "a", "<x>",  "\n", "aab", "a" SP, "aa"};
static const float blank_scores[] = {0, 0, 0, -9, -9, -9, -1, -1, -2, 0, 0, -3, -4, 0};
static const uint8_t blank_kinds[] = {
    PART_UNKNOWN, PART_CONTROL, PART_CONTROL, PART_TEXT, PART_TEXT, PART_TEXT,   PART_TEXT,
    PART_TEXT,    PART_TEXT,    PART_USER,    PART_USER, PART_TEXT, PART_UNUSED, PART_TEXT};

enum { BLANK_PIECES = ARRAY_LEN(blank_texts) };

/* One set of lists, to be bent by a case. */
struct lists {
    struct tok_text piece[512];
    float score[512];
    uint8_t kind[512];
    struct tok_text merge[8];
    char letters[512][8];
    struct tok_parts parts;
};

static struct tok_text text_of(const char *text)
{
    return (struct tok_text){text, strlen(text)};
}

static void blank_lists(struct lists *l)
{
    memset(l, 0, sizeof(*l));
    for (uint32_t i = 0; i < BLANK_PIECES; i++) {
        l->piece[i] = text_of(blank_texts[i]);
        l->score[i] = blank_scores[i];
        l->kind[i] = blank_kinds[i];
    }
    l->parts = (struct tok_parts){.piece = l->piece,
                                  .kind = l->kind,
                                  .n_pieces = BLANK_PIECES,
                                  .score = l->score,
                                  .blank_first = true,
                                  .bos = 1,
                                  .unk = -1,
                                  .add_bos = -1};
}

static void byte_lists(struct lists *l)
{
    memset(l, 0, sizeof(*l));
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t cp = b;
        for (uint32_t letter = 0x100; byte_of_letter(cp) != (int32_t)b; letter++)
            cp = letter;
        if (cp < 0x80) {
            l->letters[b][0] = (char)cp;
        } else {
            l->letters[b][0] = (char)(0xc0 | cp >> 6);
            l->letters[b][1] = (char)(0x80 | (cp & 0x3f));
        }
        l->piece[b] = text_of(l->letters[b]);
        l->kind[b] = PART_TEXT;
    }
    static const char *const more[] = {"11", "<s>", "\xc4\xa0x"};
    static const uint8_t kinds[] = {PART_TEXT, PART_CONTROL, PART_TEXT};
    for (uint32_t i = 0; i < ARRAY_LEN(more); i++) {
        l->piece[256 + i] = text_of(more[i]);
        l->kind[256 + i] = kinds[i];
    }
    l->merge[0] = text_of("1 1");
    l->merge[1] = text_of("\xc4\xa0 x");
    l->parts = (struct tok_parts){.piece = l->piece,
                                  .kind = l->kind,
                                  .n_pieces = 256 + ARRAY_LEN(more),
                                  .next_merge = next_in_list,
                                  .merges = l->merge,
                                  .n_merges = 2,
                                  .pre = "llama-bpe",
                                  .bos = 257,
                                  .unk = -1,
                                  .add_bos = -1};
}

static struct tokenizer *put_together(const struct lists *l)
{
    struct tokenizer *t = NULL;
    char err[ERR_BYTES] = "";
    const struct complaint c = complaint_in("made", err, sizeof(err));
    if (tokenizer_of_parts(&t, &l->parts, &c))
        fail_msg("%s", err);
    return t;
}

static void expect(const struct tokenizer *t, const char *text, const char *want)
{
    char got[256] = "";
    struct ids ids = encode(t, text, strlen(text), true);
    for (size_t i = 0; i < ids.n; i++)
        (void)snprintf(got + strlen(got), sizeof(got) - strlen(got), i ? " %d" : "%d", ids.id[i]);
    free(ids.id);
    assert_string_equal(got, want);
}

static const struct pair {
    const char *text;
    const char *ids;
} blank_cases[] = {
    {"b", "3 5"},          {"ab", "3 7"},     /* "ab" beats the blank with its "a" */
    {"aab", "3 11"},       {"aaab", "3 6 7"}, /* equal scores: the leftmost */
    {"a\nb", "8 10 3 5"},                     /* a blank stands behind an added token too */
    {"zz\xc3\xa9", "3 0"},                    /* unknown ones together are one */
    {"a b", "8 3 5"},
};

static void scores_decide(void **state)
{
    (void)state;
    struct lists *l = malloc(sizeof(*l));
    assert_non_null(l);
    blank_lists(l);
    struct tokenizer *t = put_together(l);
    assert_int_equal(tokenizer_bos(t), 1);
    assert_int_equal(tokenizer_special(t, "</s>"), 2);
    for (size_t i = 0; i < ARRAY_LEN(blank_cases); i++)
        expect(t, blank_cases[i].text, blank_cases[i].ids);
    tokenizer_close(t);
    free(l);
}

static void merges_decide(void **state)
{
    (void)state;
    struct lists *l = malloc(sizeof(*l));
    assert_non_null(l);
    byte_lists(l);
    struct tokenizer *t = put_together(l);
    assert_int_equal(tokenizer_bos(t), 257);
    expect(t, "1111 x", "256 49 49 258");
    tokenizer_close(t);
    l->parts.pre = "qwen2";
    t = put_together(l);
    assert_int_equal(tokenizer_bos(t), -1);
    expect(t, "1111 x", "49 49 49 49 258");
    tokenizer_close(t);
    l->parts.add_bos = 1;
    t = put_together(l);
    assert_int_equal(tokenizer_bos(t), 257);
    tokenizer_close(t);
    free(l);
}

static void no_nul_is_written(void **state)
{
    (void)state;
    struct lists *l = malloc(sizeof(*l));
    char *text = NULL;
    size_t bytes = 0;
    assert_non_null(l);
    blank_lists(l);
    l->piece[7] = (struct tok_text){"a\0b", 3};
    struct tokenizer *t = put_together(l);
    assert_int_equal(tok_write(&text, &bytes, t, NULL), E_UNSUPPORTED);
    assert_null(text);
    tokenizer_close(t);
    free(l);
}

/* --- refusals --- */

/* --- written as tokenizer.json --- */

/* Pieces with all that JSON and lists of merges could stumble over. */
static void awkward(struct lists *l)
{
    static const char *const texts[] = {"\"", "\\", "\"\\", "a b", " ", "\t\"", "<0x0A>", "\x7f"};
    blank_lists(l);
    for (uint32_t i = 0; i < ARRAY_LEN(texts); i++) {
        l->piece[BLANK_PIECES + i] = text_of(texts[i]);
        l->kind[BLANK_PIECES + i] = PART_TEXT;
        l->score[BLANK_PIECES + i] = -20;
    }
    l->parts.n_pieces += ARRAY_LEN(texts);
}

/* A mark that its file takes for text. */
static void plain_bos(struct lists *l)
{
    blank_lists(l);
    l->kind[1] = PART_TEXT;
}

static void no_front(struct lists *l)
{
    blank_lists(l);
    l->parts.blank_first = false;
    l->parts.add_bos = 0;
}

static void awkward_bytes(struct lists *l)
{
    byte_lists(l);
    l->kind[258] = PART_UNUSED;
    l->piece[259] = text_of("\"\\");
    l->kind[259] = PART_TEXT;
    l->piece[260] = text_of("<\"\\\n>");
    l->kind[260] = PART_USER;
    l->merge[1] = text_of("\" \\");
    l->parts.n_pieces = 261;
    l->parts.pre = "smollm";
}

static void writing_changes_nothing(void **state)
{
    static void (*const kinds[])(struct lists * l) = {blank_lists, byte_lists, awkward,
                                                      no_front,    plain_bos,  awkward_bytes};
    static const char *const texts[] = {
        "b",         "ab", "aab", "aaab",      "a\nb",         "zz\xc3\xa9", "a b",   "\"\\ \"",
        "\t\" \x7f", " ",  "",    "1111 x 11", "<s>a</s><x>b", "<\"\\\n>1",  " x  x", "\"\\",
    };
    struct lists *l = malloc(sizeof(*l));
    (void)state;
    assert_non_null(l);
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        kinds[k](l);
        struct tokenizer *t = put_together(l);
        struct tokenizer *again = rewritten(t, l->parts.pre);
        for (size_t i = 0; i < 2 * ARRAY_LEN(texts); i++) {
            const char *text = texts[i / 2];
            struct ids want = encode(t, text, strlen(text), i % 2);
            struct ids got = encode(again, text, strlen(text), i % 2);
            assert_int_equal(got.n, want.n);
            assert_memory_equal(got.id, want.id, want.n * sizeof(*want.id));
            size_t bytes[2];
            char *back[2] = {decode(t, want.id, want.n, false, &bytes[0]),
                             decode(again, want.id, want.n, false, &bytes[1])};
            assert_int_equal(bytes[0], bytes[1]);
            assert_memory_equal(back[0], back[1], bytes[0]);
            free(back[0]);
            free(back[1]);
            free(want.id);
            free(got.id);
        }
        tokenizer_close(t);
        tokenizer_close(again);
    }
    free(l);
}

static void no_pieces(struct lists *l)
{
    l->parts.n_pieces = 0;
}

static void far_bos(struct lists *l)
{
    l->parts.bos = (int32_t)l->parts.n_pieces;
}

static void far_unk(struct lists *l)
{
    l->parts.unk = -7;
}

static void strange_kind(struct lists *l)
{
    l->kind[4] = 9;
}

static void no_text(struct lists *l)
{
    l->piece[4] = text_of("\xff");
}

static void no_number(struct lists *l)
{
    l->score[4] = 0.0F / 0.0F;
}

static void no_unknown(struct lists *l)
{
    l->kind[0] = PART_CONTROL;
}

static void half_bytes(struct lists *l)
{
    l->piece[4] = text_of("<0x0A>");
    l->kind[4] = PART_BYTE;
}

static void strange_pre(struct lists *l)
{
    l->parts.pre = "jabber\nwocky";
}

static void no_pair(struct lists *l)
{
    l->merge[1] = text_of("11");
}

static void no_such_piece(struct lists *l)
{
    l->merge[1] = text_of("1 2");
}

static const struct refusal {
    void (*make)(struct lists *l);
    void (*bend)(struct lists *l);
    enum status s;
    const char *part;
} refusals[] = {
    {blank_lists, no_pieces, E_FORMAT, "0 tokens"},
    {blank_lists, far_bos, E_FORMAT, "out of the vocabulary"},
    {blank_lists, far_unk, E_FORMAT, "out of the vocabulary"},
    {blank_lists, strange_kind, E_FORMAT, "token 4: type 9"},
    {blank_lists, no_text, E_FORMAT, "token 4: its text"},
    {blank_lists, no_number, E_FORMAT, "token 4: its score"},
    {blank_lists, no_unknown, E_FORMAT, "neither bytes nor"},
    {blank_lists, half_bytes, E_FORMAT, "no piece for byte 0x00"},
    {byte_lists, strange_pre, E_UNSUPPORTED, "\"jabber?wocky\" (tokenizer.ggml.pre) is not known"},
    {byte_lists, no_pair, E_FORMAT, "merge 1 is not a pair"},
    {byte_lists, no_such_piece, E_FORMAT, "merge 1 (\"1\") needs a piece"},
};

static void refused(void **state)
{
    (void)state;
    struct lists *l = malloc(sizeof(*l));
    assert_non_null(l);
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        struct tokenizer *t = NULL;
        char err[ERR_BYTES] = "";
        const struct complaint c = complaint_in("made", err, sizeof(err));
        refusals[i].make(l);
        refusals[i].bend(l);
        enum status s = tokenizer_of_parts(&t, &l->parts, &c);
        if (s != refusals[i].s || !strstr(err, refusals[i].part) || strchr(err, '\n') || t)
            fail_msg("row %zu: %s: %s", i, status_text(s), err);
    }
    free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_decide),
        cmocka_unit_test(merges_decide),
        cmocka_unit_test(writing_changes_nothing),
        cmocka_unit_test(no_nul_is_written),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

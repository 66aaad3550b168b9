#include "tests/tokenizer_rig.h"

/* Aim: an answer decoded token by token is the answer decoded as a whole, and always
 * whole characters.
 * Negative space: characters cut between tokens at every byte, bytes that never become
 * a character, blanks that belong to the text and the one that does not, and ids that
 * are in no vocabulary. */

/* --- decoding in parts --- */

/* U+FFFD for every longest beginning of a character that breaks off, as the Unicode
 * standard recommends; written a second time, on whole text. */
static size_t repaired(const char *text, size_t bytes, char *out)
{
    const char *end = text + bytes;
    size_t n = 0;
    while (text < end) {
        size_t len = utf8_length(text, end);
        if (len) {
            memcpy(out + n, text, len);
            n += len;
            text += len;
            continue;
        }
        size_t most = 1;
        while (most < 3 && most < (size_t)(end - text) &&
               utf8_is_beginning((const uint8_t *)text, most + 1))
            most++;
        memcpy(out + n, FFFD, 3);
        n += 3;
        text += most;
    }
    return n;
}

static const char *const part_cases[] = {
    "a" U_E U_CJK U_EMO,
    U_EMO U_EMO,
    U_E U_E U_E U_E,
    "\xc3(\xe4\xb8z\xf0\x9f\x98",
    "\xff\xfe\x80\x80"
    "a\xc0\xaf",
    "\xed\xa0\x80" U_E,
    "\xf4\x90\x80\x80" U_E,
    "\xe4\xb8\xe4\xb8\xad",
};

enum { PARTS_BYTES_MAX = 12 };

/* A piece for every part of the text, so that it can be cut into tokens at all places. */
static struct tokenizer *parts_tokenizer(const char *text, size_t n,
                                         int32_t id[][PARTS_BYTES_MAX + 1])
{
    char *rows[PARTS_BYTES_MAX * PARTS_BYTES_MAX];
    size_t n_rows = 0;
    for (size_t from = 0; from < n; from++) {
        id[from][1] = (uint8_t)text[from];
        for (size_t len = 2; from + len <= n; len++) {
            size_t i = 0;
            while (i < n_rows && (strlen(rows[i]) != len || memcmp(rows[i], text + from, len) != 0))
                i++;
            if (i == n_rows)
                rows[n_rows++] = strndup(text + from, len);
            id[from][len] = (int32_t)(256 + i);
        }
    }
    char *json = byte_level_json((const char *const *)rows, n_rows, NO_PATTERN);
    struct tokenizer *t = must_make(json);
    free(json);
    for (size_t i = 0; i < n_rows; i++)
        free(rows[i]);
    return t;
}

static void decoding_in_parts(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(part_cases); i++) {
        const char *text = part_cases[i];
        size_t n = strlen(text);
        int32_t id[PARTS_BYTES_MAX][PARTS_BYTES_MAX + 1];
        char want[3 * PARTS_BYTES_MAX];
        assert_true(n <= PARTS_BYTES_MAX);
        size_t n_want = repaired(text, n, want);
        struct tokenizer *t = parts_tokenizer(text, n, id);
        for (uint32_t cuts = 0; cuts < 1U << (n - 1); cuts++) {
            int32_t list[PARTS_BYTES_MAX];
            size_t n_list = 0;
            size_t from = 0;
            for (size_t at = 1; at <= n; at++) {
                if (at < n && !(cuts >> (at - 1) & 1))
                    continue;
                list[n_list++] = id[from][at - from];
                from = at;
            }
            size_t got;
            char *back = decode(t, list, n_list, false, &got);
            assert_int_equal(got, n_want);
            assert_memory_equal(back, want, got);
            free(back);
        }
        tokenizer_close(t);
    }
}

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005U + 1442695040888963407U;
    return (uint32_t)(*state >> 33);
}

/* What the bytes of all tokens together are, a bad one replaced; the stream must say the
 * same, whatever ids come. */
static void check_stream(const struct tokenizer *t, const int32_t *id, size_t n)
{
    enum { RAW_MAX = 1024 };
    char raw[RAW_MAX] = "";
    char want[3 * RAW_MAX];
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        const char *text = t->vocab.bytes + t->vocab.start[id[i]];
        size_t length = t->vocab.length[id[i]];
        enum piece_kind kind = (enum piece_kind)t->vocab.kind[id[i]];
        assert_true(bytes + length <= RAW_MAX);
        if (kind == PIECE_BYTE) {
            raw[bytes++] = (char)strtol((char[]){text[3], text[4], '\0'}, NULL, 16);
        } else if (kind != PIECE_SPECIAL) {
            memcpy(raw + bytes, text, length);
            bytes += length;
        }
    }
    size_t n_want = repaired(raw, bytes, want);
    size_t got;
    char *back = decode(t, id, n, true, &got);
    assert_int_equal(got, n_want);
    assert_memory_equal(back, want, got);
    free(back);
}

static void any_ids_stream(void **state)
{
    (void)state;
    enum { ROUNDS = 3000, LENGTH = 40 };
    static const char *const rows[] = {"\xe4\xb8", "\xb8\xad", "\xf0\x9f\x98", "\x80\xc3", "a\xcc"};
    char *json = byte_level_json(rows, ARRAY_LEN(rows), NO_PATTERN);
    struct tokenizer *level = must_make(json);
    free(json);
    json = blanks_json("", "a " U_E " " U_CJK " " U_EMO, "", "");
    struct tokenizer *blanks = must_make(json);
    free(json);
    uint64_t seed = 5;
    for (int round = 0; round < ROUNDS; round++) {
        const struct tokenizer *t = round % 2 ? level : blanks;
        int32_t id[LENGTH];
        size_t n = 1 + next_random(&seed) % LENGTH;
        bool high = next_random(&seed) % 2; /* mostly bytes that want others */
        for (size_t i = 0; i < n; i++) {
            uint32_t any = next_random(&seed) % t->vocab.n;
            id[i] = (int32_t)(high && any < 128 ? any + 128 : any);
        }
        check_stream(t, id, n);
    }
    tokenizer_close(level);
    tokenizer_close(blanks);
}

/* The blank that encoding put in front goes again, but only that one and only there. */
static void leading_blank(void **state)
{
    (void)state;
    char *json = blanks_json(NORM_BOTH DECODER_STRIP, DEMO_PIECES, DEMO_MERGES, "");
    struct tokenizer *t = must_make(json);
    static const char *const texts[] = {"a", " a", "  a", "", " ", "a a", U_E " a", "<0x0A>", "\n"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct ids got = encode(t, texts[i], strlen(texts[i]), true);
        size_t n;
        char *back = decode(t, got.id, got.n, false, &n);
        assert_int_equal(n, strlen(texts[i]));
        assert_memory_equal(back, texts[i], n);
        free(back);
        back = decode(t, got.id, got.n, true, &n);
        assert_int_equal(n, strlen(texts[i]) + (*texts[i] ? 1 : 0));
        free(back);
        free(got.id);
    }
    tokenizer_close(t);
    free(json);
}

static void ids_that_are_none(void **state)
{
    (void)state;
    char *json = blanks_json(NORM_BOTH DECODER_STRIP, DEMO_PIECES, DEMO_MERGES, "");
    struct tokenizer *t = must_make(json);
    static const int32_t none[] = {-1, INT32_MIN, INT32_MAX, 100000, 0, 1, 2};
    for (size_t i = 0; i < ARRAY_LEN(none); i++) {
        struct token_cursor c = {.n_held = 0};
        char out[TOKEN_TEXT_MAX];
        assert_int_equal(tokenizer_decode(t, &c, none[i], out), 0);
        assert_false(c.started);
        assert_int_equal(tokenizer_is_special(t, none[i]), none[i] >= 0 && none[i] <= 2);
    }
    assert_int_equal(tokenizer_special(t, "<s>"), 1);
    assert_int_equal(tokenizer_special(t, "a"), -1);
    assert_int_equal(tokenizer_special(t, ""), -1);
    tokenizer_close(t);
    free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoding_in_parts),
        cmocka_unit_test(any_ids_stream),
        cmocka_unit_test(leading_blank),
        cmocka_unit_test(ids_that_are_none),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

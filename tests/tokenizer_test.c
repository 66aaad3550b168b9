#include "tests/tokenizer_rig.h"

/* Aim: text becomes exactly the ids that other implementations give it, and ids become
 * text again, whatever the text is and wherever it is cut.
 * Negative space: names of special tokens typed by a user, bytes that are not UTF-8,
 * characters in pieces of tokens, runs that make naive merging quadratic, and files that
 * are not what they claim to be: each has one answer, and none is a crash. */

static void expect_ids(const char *what, const struct ids *got, const cJSON *want)
{
    bool same = got->n == (size_t)cJSON_GetArraySize(want);
    const cJSON *item = want->child;
    for (size_t i = 0; same && i < got->n; i++, item = item->next)
        same = item->valueint == got->id[i];
    if (!same)
        fail_msg("%s: other ids", what);
}

/* --- golden strings --- */

static const struct golden_case {
    const char *dir;
    const char *golden_dir;
    const char *file;
    bool dummy_blank; /* text begins with a blank that decoding drops again */
} golden_cases[] = {
    {"tokenizers/llama2", "tokenizers/llama2", "golden.json", true},
    {"tokenizers/llama3", "tokenizers/llama3", "golden.json", false},
    {"models/stories260K/hf-f32", "models/stories260K/golden", "tokenizer.json", true},
    {"models/shakespeare4M-llama3/hf-bf16", "models/shakespeare4M-llama3/golden", "tokenizer.json",
     false},
    {"tokenizers/llama2/tokenizer.model", "tokenizers/llama2", "golden.json", true},
    {"tokenizers/llama3/tokenizer.model", "tokenizers/llama3", "golden.json", false},
    {"models/stories260K/hf-f32/tokenizer.model", "models/stories260K/golden", "tokenizer.json",
     true},
    {"tokenizers/llama2/ggml-vocab-llama-spm.gguf", "tokenizers/llama2", "golden.json", true},
    {"tokenizers/llama3/ggml-vocab-llama-bpe.gguf", "tokenizers/llama3", "golden.json", false},
    {"models/stories260K/gguf/stories260K-Q8_0.gguf", "models/stories260K/golden", "tokenizer.json",
     true},
    {"models/shakespeare4M-llama3/gguf/shakespeare4M-llama3-Q8_0.gguf",
     "models/shakespeare4M-llama3/golden", "tokenizer.json", false},
};

static size_t from_hex(const cJSON *row, const char *key, char **out)
{
    const char *hex = json_get(row, key)->valuestring;
    size_t n = strlen(hex) / 2;
    *out = calloc(n + 1, 1);
    assert_non_null(*out);
    for (size_t i = 0; i < n; i++) {
        char pair[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        (*out)[i] = (char)strtol(pair, NULL, 16);
    }
    return n;
}

/* BOS and the text with all of it trusted: what a reader that parses specials does. */
static struct ids encode_parsing(const struct tokenizer *t, const char *text, size_t bytes)
{
    struct text_range all = {0, bytes};
    size_t most = tokenizer_bound(t, bytes) + 1;
    struct ids r = {.id = malloc(most * sizeof(*r.id))};
    assert_non_null(r.id);
    r.id[r.n++] = tokenizer_bos(t);
    const struct marked_text in = {text, bytes, &all, 1, true};
    assert_int_equal(tokenizer_encode_marked(t, &in, r.id, most, &r.n), OK);
    return r;
}

/* pieces_hex: all pieces one behind the other, specials by name, no blank dropped. */
static void check_pieces(const struct tokenizer *t, const cJSON *row)
{
    char *want;
    size_t n_want = from_hex(row, "pieces_hex", &want);
    const cJSON *list = json_get(row, "ids_special");
    const cJSON *item;
    struct token_cursor c = {.started = true};
    size_t at = 0;
    cJSON_ArrayForEach(item, list)
    {
        char piece[TOKEN_TEXT_MAX];
        size_t n = tokenizer_decode(t, &c, item->valueint, piece);
        if (tokenizer_is_special(t, item->valueint)) {
            assert_int_equal(n, 0);
            n = t->vocab.length[item->valueint];
            memcpy(piece, t->vocab.bytes + t->vocab.start[item->valueint], n);
        }
        assert_true(at + n <= n_want);
        assert_memory_equal(want + at, piece, n);
        at += n;
    }
    assert_int_equal(at, n_want);
    free(want);
}

/* A U+2581 that somebody typed comes back as a blank: such models know no difference. */
static size_t blanks_typed(char *text, size_t bytes)
{
    char *to = text;
    for (const char *p = text; p < text + bytes;) {
        bool blank = strncmp(p, SP, strlen(SP)) == 0;
        *to++ = blank ? ' ' : *p;
        p += blank ? strlen(SP) : 1;
    }
    return (size_t)(to - text);
}

static void check_row(const struct tokenizer *t, const struct golden_case *g, const cJSON *row)
{
    char *text;
    const char *name = json_get(row, "id")->valuestring;
    size_t bytes = from_hex(row, "utf8_hex", &text);
    struct ids got = encode(t, text, bytes, true);
    expect_ids(name, &got, json_get(row, "ids"));
    struct ids parsed = encode_parsing(t, text, bytes);
    expect_ids(name, &parsed, json_get(row, "ids_special"));
    check_pieces(t, row);
    size_t n;
    char *back = decode(t, got.id, got.n, !g->dummy_blank, &n);
    if (g->dummy_blank)
        bytes = blanks_typed(text, bytes);
    assert_int_equal(n, bytes);
    assert_memory_equal(back, text, n);
    free(parsed.id);
    free(got.id);
    free(back);
    free(text);
}

static void check_rows(const struct tokenizer *t, const struct golden_case *g, const cJSON *rows)
{
    const cJSON *row;
    cJSON_ArrayForEach(row, rows)
    {
        check_row(t, g, row);
    }
}

static void golden_strings(void **state)
{
    (void)state;
    if (no_shared())
        skip();
    for (size_t i = 0; i < ARRAY_LEN(golden_cases); i++) {
        const struct golden_case *g = &golden_cases[i];
        char dir[PATH_BYTES];
        char golden[PATH_BYTES];
        size_t bytes;
        struct tokenizer *t = open_form(shared_path(dir, g->dir));
        char *text = read_text(shared_path(golden, g->golden_dir), g->file, &bytes);
        cJSON *rows = cJSON_ParseWithLength(text, bytes);
        assert_int_equal(cJSON_GetArraySize(rows), 180);
        check_rows(t, g, rows);
        if (is_gguf(dir)) {
            struct tokenizer *written = open_written(dir);
            check_rows(written, g, rows);
            tokenizer_close(written);
        }
        printf("%-64s %d / %d strings%s\n", g->dir, cJSON_GetArraySize(rows),
               cJSON_GetArraySize(rows), is_gguf(dir) ? ", also as tokenizer.json" : "");
        cJSON_Delete(rows);
        free(text);
        tokenizer_close(t);
    }
}

/* Strings and ids in two text files, string by string. */
static const struct pair_case {
    const char *model;
    const char *dir;
    const char *stem;
} pair_cases[] = {
    {"tokenizers/llama2", "tokenizers/llama2", "ggml-vocab-llama-spm.gguf"},
    {"tokenizers/llama3", "tokenizers/llama3", "ggml-vocab-llama-bpe.gguf"},
    {"tokenizers/llama2/tokenizer.model", "tokenizers/llama2", "ggml-vocab-llama-spm.gguf"},
    {"tokenizers/llama3/tokenizer.model", "tokenizers/llama3", "ggml-vocab-llama-bpe.gguf"},
    {"tokenizers/llama2/ggml-vocab-llama-spm.gguf", "tokenizers/llama2",
     "ggml-vocab-llama-spm.gguf"},
    {"tokenizers/llama3/ggml-vocab-llama-bpe.gguf", "tokenizers/llama3",
     "ggml-vocab-llama-bpe.gguf"},
};

static const char pair_border[] = "\n__ggml_vocab_test__\n";

static int check_pairs(const struct tokenizer *t, const char *in, const char *out)
{
    int n_strings = 0;
    while (*in) {
        const char *stop = strstr(in, pair_border);
        size_t bytes = stop ? (size_t)(stop - in) : strlen(in);
        struct ids got = encode(t, in, bytes, true);
        for (size_t i = 0; i < got.n; i++) {
            char *after;
            assert_int_equal(strtol(out, &after, 10), got.id[i]);
            out = after;
        }
        out += strspn(out, " ");
        assert_int_equal(*out, '\n');
        out++;
        free(got.id);
        in += bytes + (stop ? strlen(pair_border) : 0);
        n_strings++;
    }
    return n_strings;
}

static void golden_pairs(void **state)
{
    (void)state;
    if (no_shared())
        skip();
    for (size_t i = 0; i < ARRAY_LEN(pair_cases); i++) {
        char dir[PATH_BYTES];
        char name[PATH_BYTES];
        size_t bytes;
        struct tokenizer *t = open_form(shared_path(dir, pair_cases[i].model));
        (void)shared_path(dir, pair_cases[i].dir);
        (void)snprintf(name, sizeof(name), "%s.inp", pair_cases[i].stem);
        char *in = read_text(dir, name, &bytes);
        (void)snprintf(name, sizeof(name), "%s.out", pair_cases[i].stem);
        char *out = read_text(dir, name, &bytes);
        assert_true(check_pairs(t, in, out) >= 46);
        free(in);
        free(out);
        tokenizer_close(t);
    }
}

/* --- words --- */

static const struct word_case {
    enum tok_pattern pattern;
    const char *text;
    const char *words; /* with bars between */
} word_cases[] = {
    {PATTERN_GPT2, "Hello world", "Hello| world"},
    {PATTERN_GPT2, "I'm we'LL they're", "I|'m| we|'|LL| they|'re"},
    {PATTERN_GPT2, "a  b   ", "a| | b|   "},
    {PATTERN_GPT2, "a\n\n b", "a|\n\n| b"},
    {PATTERN_GPT2, "x1234 567", "x|1234| 567"},
    {PATTERN_GPT2, "!? ...", "!?| ..."},
    {PATTERN_GPT2, "'", "'"},
    {PATTERN_LLAMA3, "Hello world", "Hello| world"},
    {PATTERN_LLAMA3,
     "I'M we'Ll 'sa '\xc5\xbf"
     "a",
     "I|'M| we|'Ll| '|sa| '|\xc5\xbf"
     "a"},
    {PATTERN_LLAMA3,
     "'sa'\xc5\xbf"
     "a",
     "'s|a|'\xc5\xbf|a"},
    {PATTERN_LLAMA3, "12345 6", "123|45| |6"},
    {PATTERN_LLAMA3, "(abc) !x", "(abc|)| !|x"},
    {PATTERN_LLAMA3, "a\r\n\r\n  b", "a|\r\n\r\n| | b"},
    {PATTERN_LLAMA3, "a \n \n  \t b", "a| \n \n|  \t| b"},
    {PATTERN_LLAMA3, "--\n\nx", "--\n\n|x"},
    {PATTERN_LLAMA3, "a\nb\rc", "a|\n|b|\r|c"},
    {PATTERN_LLAMA3, "\tx \xc2\xa0y", "\tx| |\xc2\xa0y"},
    {PATTERN_LLAMA3,
     "e\xcc\x81"
     "a",
     "e|\xcc\x81"
     "a"},
    {PATTERN_LLAMA3, "e\xcc\x81\xcc\x81 a", "e|\xcc\x81\xcc\x81| a"},
    {PATTERN_LLAMA3, "\xe4\xb8\xad\xe6\x96\x87\xe3\x80\x82",
     "\xe4\xb8\xad\xe6\x96\x87|\xe3\x80\x82"},
    {PATTERN_LLAMA3, "\xd9\xa1\xd9\xa2\xd9\xa3\xd9\xa4", "\xd9\xa1\xd9\xa2\xd9\xa3|\xd9\xa4"},
    {PATTERN_LLAMA3, "   ", "   "},
    {PATTERN_LLAMA3, "'", "'"},
    {PATTERN_LLAMA3, "'r", "'r"},
    {PATTERN_QWEN2, "12345 6", "1|2|3|4|5| |6"},
    {PATTERN_QWEN2, "a  b\n", "a| | b|\n"},
    {PATTERN_ALL, "a b  c", "a b  c"},
};

static void words(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(word_cases); i++) {
        const struct word_case *w = &word_cases[i];
        const char *end = w->text + strlen(w->text);
        char got[256] = "";
        uint64_t work = 0;
        for (const char *p = w->text; p < end;) {
            const char *next = split_word(w->pattern, p, end, &work);
            assert_true(next > p && next <= end);
            (void)snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%.*s",
                           p == w->text ? "" : "|", (int)(next - p), p);
            p = next;
        }
        assert_string_equal(got, w->words);
    }
}

/* --- merging, against the definition --- */

/* Again and again the best pair of all, the leftmost among equals. */
static size_t merge_slowly(const struct merges *m, uint32_t *id, size_t n)
{
    for (;;) {
        const struct merge *best = NULL;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            const struct merge *one = merges_find(m, id[i], id[i + 1]);
            if (one && (!best || one->rank < best->rank)) {
                best = one;
                at = i;
            }
        }
        if (!best)
            return n;
        id[at] = best->result;
        memmove(id + at + 1, id + at + 2, (n - at - 2) * sizeof(*id));
        n--;
    }
}

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005U + 1442695040888963407U;
    return (uint32_t)(*state >> 33);
}

/* Few letters and many merges: every kind of overlap within a few hundred words. */
static void merges_equal_definition(void **state)
{
    (void)state;
    enum { LETTERS = 3, MERGES = 40, WORDS = 800, LENGTH = 90 };
    static const size_t windows[] = {0, 1, 2, 5, 8, 16, 33};
    uint64_t seed = 7;
    struct bpe b = {.cap = 0};
    for (int round = 0; round < 60; round++) {
        struct merges m;
        uint32_t ties = 1 + (uint32_t)round % 4; /* as many merges share a rank */
        assert_int_equal(merges_init(&m, MERGES), OK);
        for (uint32_t r = 0; r < MERGES; r++) {
            struct merge one = {next_random(&seed) % (LETTERS + r),
                                next_random(&seed) % (LETTERS + r), r / ties, LETTERS + r};
            merges_add(&m, &one);
        }
        for (size_t w = 0; w < WORDS; w++) {
            uint32_t id[LENGTH];
            int32_t out[LENGTH];
            size_t n = 1 + next_random(&seed) % LENGTH;
            b.window = windows[w % ARRAY_LEN(windows)];
            assert_int_equal(bpe_begin(&b, n), OK);
            for (size_t i = 0; i < n; i++) {
                id[i] = next_random(&seed) % LETTERS;
                bpe_push(&b, id[i]);
            }
            assert_int_equal(bpe_run(&b, &m, out, LENGTH), OK);
            n = merge_slowly(&m, id, n);
            assert_int_equal(b.n_out, n);
            assert_memory_equal(out, id, n * sizeof(*id));
            assert_int_equal(bpe_run(&b, &m, out, n - 1), E_INVALID);
        }
        merges_free(&m);
    }
    bpe_free(&b);
}

/* Words cut at blanks give what the whole text would have given. */
static void cutting_changes_nothing(void **state)
{
    (void)state;
    char *json = blanks_json(NORM_BOTH, DEMO_PIECES, DEMO_MERGES, "");
    struct tokenizer *t = must_make(json);
    assert_true(t->cut_words);
    uint64_t seed = 11;
    for (int i = 0; i < 2000; i++) {
        char text[48];
        size_t n = 1 + next_random(&seed) % sizeof(text);
        for (size_t j = 0; j < n; j++)
            text[j] = "  aab<s>"[next_random(&seed) % 8];
        struct ids cut = encode(t, text, n, true);
        t->cut_words = false;
        struct ids whole = encode(t, text, n, true);
        t->cut_words = true;
        assert_int_equal(cut.n, whole.n);
        assert_memory_equal(cut.id, whole.id, cut.n * sizeof(*cut.id));
        free(cut.id);
        free(whole.id);
    }
    tokenizer_close(t);
    free(json);
}

/* A piece with a blank inside forbids it. */
static void no_cut_where_merges_cross(void **state)
{
    (void)state;
    char *json = blanks_json("\"normalizer\":" NORM_REPLACE ",", DEMO_PIECES " a" SP,
                             "\"a " SP "\",\"" SP " a\"", "");
    struct tokenizer *t = must_make(json);
    struct ids got = encode(t, "a a", 3, true);
    assert_false(t->cut_words);
    assert_int_equal(got.n, 2);
    assert_int_equal(got.id[0], tokenizer_vocab(t) - 1);
    free(got.id);
    tokenizer_close(t);
    free(json);
}

/* --- specials in text --- */

/* No text becomes a special token: alone, doubled, with something around it. */
static void check_specials(const struct tokenizer *t)
{
    static const char *const around[] = {"%s", "a%sb", " %s ", "%s%s", "<%s>", "%s\n"};
    for (uint32_t i = 0; i < t->added.n; i++) {
        char name[TOK_PIECE_MAX + 1];
        const struct added *a = &t->added.token[i];
        (void)snprintf(name, sizeof(name), "%.*s", (int)a->bytes, a->text);
        assert_int_equal(tokenizer_special(t, name), a->id);
        for (size_t k = 0; k < ARRAY_LEN(around); k++) {
            char text[3 * TOK_PIECE_MAX];
            (void)snprintf(text, sizeof(text), around[k], name, name);
            struct ids got = encode(t, text, strlen(text), true);
            for (size_t j = 0; j < got.n; j++)
                assert_true(!tokenizer_is_special(t, got.id[j]));
            size_t n;
            char *back = decode(t, got.id, got.n, t->prefix == PREFIX_NONE, &n);
            assert_int_equal(n, strlen(text));
            assert_memory_equal(back, text, n);
            free(back);
            free(got.id);
        }
    }
}

/* Merges that would build "<s>", and a special that is a word of its own. */
static void specials_stay_text(void **state)
{
    (void)state;
    static const char *const rows[] = {"<|s", "<s|>", "e|o", "eo|t"};
    char *json = blanks_json(NORM_BOTH DECODER_STRIP, DEMO_PIECES " <s", "\"< s\",\"<s >\",\"a a\"",
                             "<|x|> a");
    struct tokenizer *t = must_make(json);
    check_specials(t);
    tokenizer_close(t);
    free(json);
    json = byte_level_json(rows, ARRAY_LEN(rows), NO_PATTERN);
    t = must_make(json);
    check_specials(t);
    t->ignore_merges = true;
    check_specials(t);
    tokenizer_close(t);
    free(json);
    for (size_t i = 0; i < ARRAY_LEN(golden_cases); i++) {
        char dir[PATH_BYTES];
        struct stat st;
        if (stat(shared_path(dir, golden_cases[i].dir), &st) != 0)
            continue;
        t = open_form(dir);
        check_specials(t);
        tokenizer_close(t);
    }
}

/* --- added tokens --- */

#define ADDED_FLAGS                                                                                \
    "{\"id\":258,\"content\":\"<x>\",\"special\":true},"                                           \
    "{\"id\":259,\"content\":\"<xy>\",\"special\":true,\"lstrip\":true,\"rstrip\":true},"          \
    "{\"id\":260,\"content\":\"<tool>\"},"                                                         \
    "{\"id\":261,\"content\":\"\\n\\n\"},{\"id\":262,\"content\":\"\\n\\n\\n\"},"                  \
    "{\"id\":263,\"content\":\"word\",\"single_word\":true},"                                      \
    "{\"id\":264,\"content\":\"<x><x>\",\"special\":true}"

/* Brackets stand around what the template wrote; ids from 256 on by number, others by
 * their byte. */
static const struct added_case {
    const char *text;
    const char *ids;
} added_cases[] = {
    {"a<x>b", "a < x > b"},
    {"a[<x>]b", "a 258 b"},
    {"a[<x]>b", "a < x > b"},
    {"a<[x>]b", "a < x > b"},
    {"[<x>][<x>]", "258 258"},
    {"[<x><x>]", "264"},
    {"[<x>]<x>", "258 < x >"},
    {"a [<xy>] b", "a 259 b"},
    {"a \xc2\xa0[<xy> ]\n b", "a 259 b"},
    {"a <xy> b", "a \x20 < x y > \x20 b"},
    {"<tool>", "< t o o l >"},
    {"[<tool>]", "260"},
    {"a\n\nb", "a 261 b"},
    {"a\n\n\n\nb", "a 262 \n b"},
    {"[a\n]\nb", "a 261 b"},
    {"a word b", "a \x20 263 \x20 b"},
    {"words", "w o r d s"},
    {"sword", "s w o r d"},
    {"\xc3\xa9word", "\xc3 \xa9 w o r d"},
    {"word", "263"},
    {"word<x>", "263 < x >"},
    {"word[<x>]word", "263 258 263"},
};

/* The text without its brackets, which become ranges. */
static size_t read_marked(const char *marked, char *text, struct text_range *range, size_t *n_range)
{
    size_t n = 0;
    *n_range = 0;
    for (; *marked; marked++) {
        if (*marked == '[')
            range[*n_range].begin = n;
        else if (*marked == ']')
            range[(*n_range)++].end = n;
        else
            text[n++] = *marked;
    }
    return n;
}

static void added_tokens(void **state)
{
    (void)state;
    char *json = byte_level_json(NULL, 0, NO_PATTERN);
    char *list = strstr(json, "\"added_tokens\":[") + strlen("\"added_tokens\":[");
    char text[8192];
    (void)snprintf(text, sizeof(text), "%.*s" ADDED_FLAGS "]}", (int)(list - json), json);
    struct tokenizer *t = must_make(text);
    for (size_t i = 0; i < ARRAY_LEN(added_cases); i++) {
        struct text_range range[8];
        size_t n_range;
        int32_t id[64];
        size_t n = 0;
        char got[256] = "";
        size_t bytes = read_marked(added_cases[i].text, text, range, &n_range);
        const struct marked_text in = {text, bytes, range, n_range, true};
        assert_int_equal(tokenizer_encode_marked(t, &in, id, 64, &n), OK);
        for (size_t k = 0; k < n; k++)
            (void)snprintf(got + strlen(got), sizeof(got) - strlen(got),
                           id[k] < 256 ? "%s%c" : "%s%d", k ? " " : "", id[k]);
        assert_string_equal(got, added_cases[i].ids);
    }
    tokenizer_close(t);
    free(json);
}

/* Ranges that are none are refused, and nothing is read outside of the text. */
static void unsound_ranges(void **state)
{
    (void)state;
    static const struct text_range bad[][2] = {
        {{0, 4}, {5, 5}}, {{2, 1}, {3, 3}}, {{0, 2}, {1, 3}}, {{2, 3}, {0, 1}}, {{9, 9}, {9, 9}}};
    char *json = byte_level_json(NULL, 0, NO_PATTERN);
    struct tokenizer *t = must_make(json);
    int32_t id[8];
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        const struct marked_text in = {"<s>", 3, bad[i], 2, true};
        assert_int_equal(tokenizer_encode_marked(t, &in, id, 8, &n), E_INVALID);
    }
    tokenizer_close(t);
    free(json);
}

/* --- long and bad input --- */

static const char *const fills[] = {
    "a",  " ",         "\n",           U_CJK,          U_EMO,  "\xcc\x81", "'",  "1",
    "ab", "a a  a   ", "Hello world ", "  if (x) {\n", "QUJD", " \n ",     "\t", "<s>",
};

enum { FILL_BYTES = 1 << 15 };

static uint64_t work_of(const struct tokenizer *t, const char *fill, size_t bytes)
{
    char *text = malloc(bytes);
    size_t n = strlen(fill);
    size_t most = tokenizer_bound(t, bytes);
    int32_t *id = malloc(most * sizeof(*id));
    assert_true(text && id);
    bytes -= bytes % n;
    for (size_t i = 0; i < bytes; i++)
        text[i] = fill[i % n];
    const struct marked_text in = {.text = text, .bytes = bytes, .first = true};
    struct encode_job job = {.in = &in, .ids = id, .ids_max = most};
    assert_int_equal(tok_encode(t, &job), OK);
    free(text);
    free(id);
    return job.work;
}

/* Steps, not seconds: a machine may be busy. n log n with both factors small. */
static void check_work(const struct tokenizer *t)
{
    for (size_t i = 0; i < ARRAY_LEN(fills); i++) {
        double once = (double)work_of(t, fills[i], FILL_BYTES);
        double twice = (double)work_of(t, fills[i], 2 * FILL_BYTES);
        if (twice > 2.3 * once || once > 4.0 * 16 * FILL_BYTES)
            fail_msg("fill %zu: %.0f steps, then %.0f", i, once, twice);
    }
}

static void long_runs(void **state)
{
    (void)state;
    static const char *const rows[] = {"a|a",   "aa|aa", "aaaa|aaaa", " | ",
                                       "  |  ", "\n|\n", "'|'",       "\xcc|\x81"};
    char *json = blanks_json(NORM_BOTH, DEMO_PIECES, DEMO_MERGES, "");
    struct tokenizer *t = must_make(json);
    check_work(t);
    tokenizer_close(t);
    free(json);
    json = byte_level_json(rows, ARRAY_LEN(rows), BYTE_LEVEL);
    t = must_make(json);
    check_work(t);
    for (enum tok_pattern p = PATTERN_ALL; p <= PATTERN_QWEN2; p++) {
        t->cut[0].pattern = p;
        check_work(t);
    }
    t->cut[1] = t->cut[0];
    t->cut[0] = (struct cut_step){.kind = CUT_DIGIT};
    t->n_cuts = 2;
    check_work(t);
    tokenizer_close(t);
    free(json);
    for (size_t i = 0; i < 2; i++) {
        char dir[PATH_BYTES];
        struct stat st;
        if (stat(shared_path(dir, golden_cases[i].dir), &st) != 0)
            continue;
        t = open_form(dir);
        check_work(t);
        tokenizer_close(t);
    }
}

static const struct bad_text {
    const char *text;
    size_t bytes;
} bad_texts[] = {
    {"\xff", 1},
    {"a\x80", 2},
    {"\xc3", 1},
    {"\xe4\xb8", 2},
    {"\xc0\xaf", 2},
    {"\xed\xa0\x80", 3},
    {"\xf0\x9f\x98", 3},
    {"\xf4\x90\x80\x80", 4},
    {U_E "\xa9", 3},
    {"\xe0\x9f\xbf", 3},
    {"\xf0\x8f\xbf\xbf", 4},
    {"\xf5\x80\x80\x80", 4},
};

static void text_that_is_refused(void **state)
{
    (void)state;
    char *json = blanks_json(NORM_BOTH, DEMO_PIECES, DEMO_MERGES, "");
    struct tokenizer *t = must_make(json);
    int32_t id[16] = {77, 78};
    for (size_t i = 0; i < ARRAY_LEN(bad_texts); i++) {
        size_t n = 2;
        assert_int_equal(
            tokenizer_encode(t, bad_texts[i].text, bad_texts[i].bytes, true, id, ARRAY_LEN(id), &n),
            E_INVALID);
        assert_int_equal(n, 2);
    }
    /* "b b" is four ids with its two blanks: less room is too little. */
    for (size_t room = 0; room < 4; room++) {
        size_t n = 0;
        assert_int_equal(tokenizer_encode(t, "b b", 3, true, id, room, &n), E_INVALID);
        assert_int_equal(n, 0);
    }
    size_t n = 1;
    id[0] = 77;
    assert_int_equal(tokenizer_encode(t, "b b", 3, true, id, 5, &n), OK);
    assert_int_equal(n, 5);
    assert_int_equal(id[0], 77);
    assert_int_equal(tokenizer_encode(t, "", 0, true, id, 5, &n), OK);
    assert_int_equal(n, 5);
    assert_true(tokenizer_bound(t, SIZE_MAX) == SIZE_MAX);
    tokenizer_close(t);
    tokenizer_close(NULL);
    free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_strings),
        cmocka_unit_test(golden_pairs),
        cmocka_unit_test(words),
        cmocka_unit_test(merges_equal_definition),
        cmocka_unit_test(cutting_changes_nothing),
        cmocka_unit_test(no_cut_where_merges_cross),
        cmocka_unit_test(specials_stay_text),
        cmocka_unit_test(added_tokens),
        cmocka_unit_test(unsound_ranges),
        cmocka_unit_test(long_runs),
        cmocka_unit_test(text_that_is_refused),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

/* Words are common enough to be a token or two each in any vocabulary, and no tokenizer in use
 * joins letters across a space: so the tokens of a text are the sum of its words' tokens, and a
 * text can be made to any length. That the sum holds is tried at the start. */
#include "bench/serve_words.h"

#include "bench/serve_random.h"
#include "server/json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const word_list[WORDS] = {
    "river", "seven",  "paper", "light", "green", "under", "music", "stone",
    "open",  "winter", "small", "bread", "north", "clock", "seed",  "table",
    "blue",  "garden", "glass", "story", "quiet", "field", "train", "water",
    "round", "letter", "house", "sound", "early", "metal", "cloud", "answer",
};

static int32_t read_ids(int32_t *ids, int32_t ids_max, const struct cJSON *tokens)
{
    int32_t n = 0;
    for (const struct cJSON *v = json_first(tokens); v; v = json_next(v)) {
        int64_t id = 0;
        /* llama.cpp has objects when asked for pieces. */
        bool known = json_integer(v, &id) || json_integer(json_member(v, "id"), &id);
        if (n < ids_max && ids)
            ids[n] = known ? (int32_t)id : -1;
        n++;
    }
    return n;
}

enum status words_count(int64_t *out, int32_t *ids, int32_t ids_max, const struct serve_target *t,
                        const char *text, size_t bytes, bool specials)
{
    struct buf body = {0};
    struct buf answer = {0};
    struct cJSON *top = NULL;
    struct json_error at;
    int http = 0;
    /* vLLM's words and llama.cpp's, each of which passes over the other's. */
    buf_text(&body, "{\"model\":");
    buf_json_text(&body, t->model);
    buf_text(&body, ",\"prompt\":");
    buf_json(&body, text, bytes);
    buf_text(&body, ",\"content\":");
    buf_json(&body, text, bytes);
    buf_printf(&body, ",\"add_special_tokens\":%s,\"add_special\":%s}", specials ? "true" : "false",
               specials ? "true" : "false");
    enum status s = body.failed ? E_NOMEM : target_fetch(&answer, &http, t, "/tokenize", &body);
    const struct cJSON *tokens = NULL;
    if (s == OK && http == 200 && json_parse(&top, answer.data, answer.n, &at) == OK)
        tokens = json_member(top, "tokens");
    if (s == OK && json_kind(tokens) != JSON_ARRAY)
        s = E_UNSUPPORTED;
    if (s == OK)
        *out = read_ids(ids, ids_max, tokens);
    json_free(top);
    buf_free(&answer);
    buf_free(&body);
    return s;
}

static enum status learn_word(struct words *w, const struct serve_target *t, int32_t i)
{
    char text[64];
    int32_t ids[2 * WORD_IDS_MAX];
    int64_t n = 0;
    int len = snprintf(text, sizeof(text), "%s %s", word_list[0], word_list[i]);
    enum status s = words_count(&n, ids, ARRAY_LEN(ids), t, text, (size_t)len, false);
    if (s)
        return s;
    n -= w->first;
    if (n < 1 || n > WORD_IDS_MAX || w->first > WORD_IDS_MAX)
        return E_UNSUPPORTED;
    w->tokens[i] = (int32_t)n;
    memcpy(w->id[i], ids + w->first, (size_t)n * sizeof(*ids));
    return OK;
}

/* Whether the sum of the words is what the server counts for all of them together. */
static enum status prove(const struct words *w, const struct serve_target *t)
{
    struct buf text = {0};
    int64_t n = 0;
    int64_t want = words_write(&text, w, 1, 2 * WORDS + 1, true);
    enum status s = text.failed ? E_NOMEM : words_count(&n, NULL, 0, t, text.data, text.n, false);
    buf_free(&text);
    return s ? s : n == want ? OK : E_UNSUPPORTED;
}

enum status words_learn(struct words *out, const struct serve_target *t)
{
    int64_t plain = 0;
    int64_t all = 0;
    size_t bytes = strlen(word_list[0]);
    memset(out, 0, sizeof(*out));
    out->mode = TOKENS_SERVER;
    enum status s = words_count(&plain, NULL, 0, t, word_list[0], bytes, false);
    if (s == OK)
        s = words_count(&all, NULL, 0, t, word_list[0], bytes, true);
    out->first = (int32_t)plain;
    out->specials = all > plain ? (int32_t)(all - plain) : 0;
    for (int32_t i = 0; i < WORDS && s == OK; i++)
        s = learn_word(out, t, i);
    return s ? s : prove(out, t);
}

/* ---- writing ---- */

static int64_t write_estimated(struct buf *out, const struct words *w, uint64_t seed,
                               int64_t tokens, bool begins)
{
    double n = round((double)tokens / w->per_word);
    int64_t count = n < 1 ? 1 : n > PIECE_WORDS_MAX ? PIECE_WORDS_MAX : (int64_t)n;
    for (int64_t i = 0; i < count; i++) {
        buf_text(out, begins && i == 0 ? "" : " ");
        buf_text(out, word_list[mix(seed + (uint64_t)i) % WORDS]);
    }
    return (int64_t)round((double)count * w->per_word);
}

static int64_t write_ids(struct buf *out, const struct words *w, uint64_t seed, int64_t tokens,
                         bool begins)
{
    for (int64_t i = 0; i < tokens; i++) {
        uint64_t x = mix(seed + (uint64_t)i);
        int32_t word = (int32_t)(x % WORDS);
        int32_t part = (int32_t)((x >> 32) % (uint64_t)w->tokens[word]);
        buf_printf(out, begins && i == 0 ? "%d" : ",%d", w->id[word][part]);
    }
    return tokens;
}

/* The first word from `at` on that has no more tokens than are wanted. */
static int32_t word_within(const struct words *w, uint64_t at, int64_t tokens)
{
    int32_t least = (int32_t)(at % WORDS);
    for (int32_t i = 0; i < WORDS; i++) {
        int32_t word = (int32_t)((at + (uint64_t)i) % WORDS);
        if (w->tokens[word] <= tokens)
            return word;
        least = w->tokens[word] < w->tokens[least] ? word : least;
    }
    return least;
}

int64_t words_write(struct buf *out, const struct words *w, uint64_t seed, int64_t tokens,
                    bool begins)
{
    int64_t n = 0;
    if (w->mode == TOKENS_USAGE)
        return write_estimated(out, w, seed, tokens, begins);
    if (w->mode == TOKENS_IDS)
        return write_ids(out, w, seed, tokens, begins);
    if (begins) {
        /* Only this word's tokens at the beginning of a text are known. */
        buf_text(out, word_list[0]);
        n = w->first;
    }
    for (uint64_t i = 0; n < tokens; i++) {
        int32_t word = word_within(w, mix(seed + i), tokens - n);
        buf_text(out, " ");
        buf_text(out, word_list[word]);
        n += w->tokens[word];
    }
    return n;
}

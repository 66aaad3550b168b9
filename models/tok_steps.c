#include "models/tok_priv.h"

#include <string.h>

#include "models/unicode.h"

/* What tokenizer.json says about text before and after the vocabulary: four lists of
 * steps, each step an object with a "type". Hugging Face allows any chain of some forty
 * types; here every chain that Llama-family models use is recognised, and any other is
 * refused: a step left out silently would give the model a language it never saw. */

struct steps {
    const cJSON *step[TOK_STEPS_MAX]; /* [n] */
    int n;
};

const char *tok_quote_bytes(char out[TOK_QUOTE_MAX], const char *text, size_t bytes)
{
    size_t n = 0;
    for (; n < bytes && n + 1 < TOK_QUOTE_MAX; n++)
        out[n] = (unsigned char)text[n] < 0x20 || text[n] == 0x7f ? '?' : text[n];
    /* A character cut in half would make the line invalid UTF-8. */
    while (n && n < bytes && ((unsigned char)text[n] & 0xc0) == 0x80)
        n--;
    out[n] = '\0';
    return out;
}

const char *tok_quote(char out[TOK_QUOTE_MAX], const char *text)
{
    return tok_quote_bytes(out, text, strlen(text));
}

static const char *text_of(const cJSON *o, const char *key)
{
    const cJSON *v = json_get(o, key);
    return cJSON_IsString(v) ? v->valuestring : "";
}

static bool is_type(const cJSON *step, const char *type)
{
    return strcmp(text_of(step, "type"), type) == 0;
}

static bool is_text(const cJSON *o, const char *key, const char *want)
{
    return strcmp(text_of(o, key), want) == 0;
}

/* Member `name` of the file as a list: itself alone, or what its Sequence holds. */
static enum status steps_of(struct steps *out, const cJSON *root, const char *name,
                            const char *list_key, const struct complaint *c)
{
    const cJSON *o = json_get(root, name);
    out->n = 0;
    if (!o)
        return OK;
    if (!is_type(o, "Sequence")) {
        out->step[out->n++] = o;
        return OK;
    }
    const cJSON *list = json_get(o, list_key);
    const cJSON *item;
    if (!cJSON_IsArray(list))
        return complain(c, E_FORMAT, "%s: a Sequence without %s", name, list_key);
    cJSON_ArrayForEach(item, list)
    {
        if (out->n == TOK_STEPS_MAX)
            return complain(c, E_UNSUPPORTED, "%s: more than %d steps", name, TOK_STEPS_MAX);
        out->step[out->n++] = item;
    }
    return OK;
}

static enum status refuse(const struct complaint *c, const char *name, const cJSON *step)
{
    char type[TOK_QUOTE_MAX];
    return complain(c, E_UNSUPPORTED, "%s \"%s\" (or its options) is not supported", name,
                    tok_quote(type, text_of(step, "type")));
}

/* A flag with a default; what is no boolean is complained about. */
static enum status flag(const cJSON *o, const char *key, bool otherwise, bool *out,
                        const struct complaint *c)
{
    *out = otherwise;
    return field_bool(o, key, out, c);
}

enum status tok_steps_style(struct tokenizer *t, const cJSON *root, const struct complaint *c)
{
    struct steps steps;
    enum status s = steps_of(&steps, root, "pre_tokenizer", "pretokenizers", c);
    if (s)
        return s;
    for (int i = 0; i < steps.n; i++)
        t->byte_level = t->byte_level || is_type(steps.step[i], "ByteLevel");
    s = steps_of(&steps, root, "decoder", "decoders", c);
    if (s)
        return s;
    for (int i = 0; i < steps.n; i++) {
        if (is_type(steps.step[i], "ByteLevel") != t->byte_level)
            return complain(c, E_UNSUPPORTED, "decoder and pre_tokenizer are of two kinds");
    }
    return OK;
}

/* --- normalizer --- */

/* A short text of a step. */
static enum status short_text(const cJSON *step, const char *key, char out[STEP_TEXT_MAX],
                              uint32_t *bytes, const struct complaint *c)
{
    const char *text = NULL;
    enum status s = field_string(step, key, &text, c);
    if (s)
        return s;
    if (!text || strlen(text) >= STEP_TEXT_MAX)
        return complain(c, E_UNSUPPORTED, "a step's \"%s\" is missing or longer than %d bytes", key,
                        STEP_TEXT_MAX - 1);
    *bytes = (uint32_t)strlen(text);
    memcpy(out, text, *bytes + 1);
    return OK;
}

static enum status read_replace(struct norm_step *out, const cJSON *step, const struct complaint *c)
{
    const cJSON *pattern = json_get(step, "pattern");
    const char *regex = NULL;
    enum status s = short_text(step, "content", out->to, &out->to_bytes, c);
    if (s)
        return s;
    if (!cJSON_IsObject(pattern))
        return complain(c, E_FORMAT, "normalizer: a Replace without a pattern");
    s = field_string(pattern, "Regex", &regex, c);
    if (s)
        return s;
    out->kind = regex ? NORM_REGEX : NORM_REPLACE;
    if (regex)
        return regex_compile(&out->regex, regex, c);
    s = short_text(pattern, "String", out->from, &out->from_bytes, c);
    if (s == OK && out->from_bytes == 0)
        s = complain(c, E_FORMAT, "normalizer: a Replace of nothing");
    return s;
}

/* How many bytes one byte may become. */
static uint32_t growth_of(const struct norm_step *step)
{
    switch (step->kind) {
    case NORM_NFC:
    case NORM_NFD:
        return 3;
    case NORM_NFKC:
    case NORM_NFKD:
        return 11;
    case NORM_LOWER:
        return 2;
    case NORM_REPLACE:
        return 1 + step->to_bytes / step->from_bytes;
    case NORM_REGEX:
        return 1 + step->to_bytes;
    case NORM_STRIP:
    case NORM_SQUEEZE:
    case NORM_PREPEND:
        break;
    }
    return 1;
}

static enum status read_norm_step(struct norm_step *out, const cJSON *step,
                                  const struct complaint *c)
{
    static const struct {
        const char *type;
        enum norm_kind kind;
    } plain[] = {{"NFC", NORM_NFC},   {"NFD", NORM_NFD},         {"NFKC", NORM_NFKC},
                 {"NFKD", NORM_NFKD}, {"Lowercase", NORM_LOWER}, {"Strip", NORM_STRIP}};
    for (size_t i = 0; i < ARRAY_LEN(plain); i++) {
        if (!is_type(step, plain[i].type))
            continue;
        out->kind = plain[i].kind;
        enum status s = flag(step, "strip_left", true, &out->left, c);
        return s ? s : flag(step, "strip_right", true, &out->right, c);
    }
    if (is_type(step, "Replace"))
        return read_replace(out, step, c);
    if (!is_type(step, "Prepend"))
        return refuse(c, "normalizer", step);
    out->kind = NORM_PREPEND;
    return short_text(step, "prepend", out->to, &out->to_bytes, c);
}

/* SentencePiece's blanks at the end of the list, " " to U+2581 and one in front, are no
 * steps but a way to encode: nothing has to be copied then. */
static bool fold_blanks(struct tokenizer *t, const struct norm_step *last)
{
    bool blank = last->to_bytes == BLANK_BYTES && memcmp(last->to, BLANK, BLANK_BYTES) == 0;
    if (t->byte_level || t->n_cuts || !blank)
        return false;
    if (last->kind == NORM_REPLACE && last->from_bytes == 1 && last->from[0] == ' ') {
        t->blanks = true;
        return true;
    }
    if (last->kind != NORM_PREPEND || t->prefix != PREFIX_NONE)
        return false;
    t->prefix = PREFIX_ALWAYS;
    return true;
}

static enum status read_normalizer(struct tokenizer *t, const cJSON *root,
                                   const struct complaint *c)
{
    enum { GROWTH_MAX = 64 };
    struct steps steps;
    enum status s = steps_of(&steps, root, "normalizer", "normalizers", c);
    for (int i = 0; i < steps.n && s == OK; i++)
        s = read_norm_step(&t->norm[t->n_norms++], steps.step[i], c);
    if (s)
        return s;
    while (t->n_norms && fold_blanks(t, &t->norm[t->n_norms - 1]))
        t->n_norms--;
    for (uint32_t i = 0; i < t->n_norms; i++) {
        t->growth *= growth_of(&t->norm[i]);
        t->front = t->front * growth_of(&t->norm[i]) + t->norm[i].to_bytes;
        if (t->growth > GROWTH_MAX)
            return complain(c, E_UNSUPPORTED, "normalizer: a text could grow more than %d times",
                            GROWTH_MAX);
    }
    return OK;
}

/* --- pre_tokenizer --- */

static enum status read_metaspace(struct tokenizer *t, const cJSON *step, const struct complaint *c)
{
    bool add;
    enum status s = flag(step, "add_prefix_space", true, &add, c);
    if (s)
        return s;
    const char *scheme = json_get(step, "prepend_scheme") ? text_of(step, "prepend_scheme")
                         : add                            ? "always"
                                                          : "never";
    if (strcmp(scheme, "always") == 0)
        t->prefix = PREFIX_MISSING;
    else if (strcmp(scheme, "first") == 0)
        t->prefix = PREFIX_FIRST;
    else if (strcmp(scheme, "never") != 0)
        return refuse(c, "pre_tokenizer", step);
    t->blanks = true;
    return flag(step, "split", true, &t->cut_blanks, c);
}

static enum status read_way(struct cut_step *cut, const cJSON *step, const struct complaint *c)
{
    static const struct {
        const char *name;
        enum cut_way way;
    } ways[] = {{"Isolated", CUT_ISOLATED},
                {"Removed", CUT_REMOVED},
                {"MergedWithPrevious", CUT_WITH_PREVIOUS},
                {"MergedWithNext", CUT_WITH_NEXT},
                {"Contiguous", CUT_CONTIGUOUS}};
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        if (is_text(step, "behavior", ways[i].name)) {
            cut->way = ways[i].way;
            return OK;
        }
    }
    return refuse(c, "pre_tokenizer", step);
}

static enum status read_split(struct tokenizer *t, const cJSON *step, const struct complaint *c)
{
    struct cut_step *cut = &t->cut[t->n_cuts++];
    const cJSON *pattern = json_get(step, "pattern");
    const char *regex = NULL;
    enum status s = read_way(cut, step, c);
    if (s == OK)
        s = flag(step, "invert", false, &cut->invert, c);
    if (s)
        return s;
    if (!cJSON_IsObject(pattern))
        return complain(c, E_FORMAT, "pre_tokenizer: a Split without a pattern");
    s = field_string(pattern, "Regex", &regex, c);
    if (s)
        return s;
    if (regex)
        return cut_by_regex(cut, regex, c);
    cut->kind = CUT_TEXT;
    s = short_text(pattern, "String", cut->text, &cut->text_bytes, c);
    if (s == OK && cut->text_bytes == 0)
        s = complain(c, E_FORMAT, "pre_tokenizer: a Split at nothing");
    return s;
}

static enum status read_digits(struct tokenizer *t, const cJSON *step, const struct complaint *c)
{
    bool each;
    enum status s = flag(step, "individual_digits", false, &each, c);
    t->cut[t->n_cuts++] =
        (struct cut_step){.kind = CUT_DIGIT, .way = each ? CUT_ISOLATED : CUT_CONTIGUOUS};
    return s;
}

static enum status read_punctuation(struct tokenizer *t, const cJSON *step,
                                    const struct complaint *c)
{
    struct cut_step *cut = &t->cut[t->n_cuts++];
    *cut = (struct cut_step){.kind = CUT_PUNCTUATION, .way = CUT_ISOLATED};
    return json_get(step, "behavior") ? read_way(cut, step, c) : OK;
}

static enum status read_byte_level(struct tokenizer *t, const cJSON *step, bool alone,
                                   const struct complaint *c)
{
    bool regex;
    enum status s = flag(step, "use_regex", true, &regex, c);
    if (s == OK)
        s = flag(step, "add_prefix_space", true, &t->space_first, c);
    if (s)
        return s;
    if (t->space_first && !alone)
        return refuse(c, "pre_tokenizer", step);
    if (regex)
        t->cut[t->n_cuts++] = (struct cut_step){.kind = CUT_PATTERN, .pattern = PATTERN_GPT2};
    return OK;
}

/* ByteLevel comes last: what would come behind it sees GPT-2's letters, not the text. */
static enum status read_pre(struct tokenizer *t, const cJSON *root, const struct complaint *c)
{
    struct steps steps;
    enum status s = steps_of(&steps, root, "pre_tokenizer", "pretokenizers", c);
    for (int i = 0; i < steps.n && s == OK; i++) {
        const cJSON *step = steps.step[i];
        bool last = i == steps.n - 1;
        bool blank = !json_get(step, "replacement") || is_text(step, "replacement", BLANK);
        if (is_type(step, "Split"))
            s = read_split(t, step, c);
        else if (is_type(step, "Digits"))
            s = read_digits(t, step, c);
        else if (is_type(step, "Punctuation"))
            s = read_punctuation(t, step, c);
        else if (is_type(step, "ByteLevel") && last)
            s = read_byte_level(t, step, steps.n == 1, c);
        else if (is_type(step, "Metaspace") && steps.n == 1 && blank)
            s = read_metaspace(t, step, c);
        else
            s = refuse(c, "pre_tokenizer", step);
    }
    return s;
}

/* --- decoder --- */

static enum status read_decoder(struct tokenizer *t, const cJSON *root, const struct complaint *c)
{
    struct steps steps;
    enum status s = steps_of(&steps, root, "decoder", "decoders", c);
    if (s || t->byte_level)
        return s;
    for (int i = 0; i < steps.n; i++) {
        const cJSON *step = steps.step[i];
        if (is_type(step, "ByteFallback") || is_type(step, "Fuse"))
            continue;
        if (is_type(step, "Replace") && is_text(step, "content", " ") &&
            is_text(json_get(step, "pattern"), "String", BLANK)) {
            t->blanks_out = true;
        } else if (is_type(step, "Metaspace")) {
            t->blanks_out = true;
            t->strip_blank = t->prefix != PREFIX_NONE;
        } else if (is_type(step, "Strip") && is_text(step, "content", " ")) {
            int64_t start = 0;
            int64_t stop = 0;
            s = field_int(step, "start", 0, 1, &start, c);
            if (s == OK)
                s = field_int(step, "stop", 0, 0, &stop, c);
            if (s)
                return s;
            t->strip_blank = start == 1;
        } else {
            return refuse(c, "decoder", step);
        }
    }
    if (steps.n == 0) { /* older files leave it to the reader */
        t->blanks_out = t->blanks;
        t->strip_blank = t->prefix != PREFIX_NONE;
    }
    return OK;
}

/* The decoder looks at the prefix, the normalizer at what the pre_tokenizer left to do. */
enum status tok_steps_text(struct tokenizer *t, const cJSON *root, const struct complaint *c)
{
    enum status s = read_pre(t, root, c);
    if (s == OK)
        s = read_normalizer(t, root, c);
    return s ? s : read_decoder(t, root, c);
}

/* A special token that the template puts in front of a text is its BOS. */
enum status tok_steps_bos(struct tokenizer *t, const cJSON *root, const struct complaint *c)
{
    struct steps steps;
    enum status s = steps_of(&steps, root, "post_processor", "processors", c);
    if (s)
        return s;
    for (int i = 0; i < steps.n; i++) {
        const cJSON *single = json_get(steps.step[i], "single");
        if (!is_type(steps.step[i], "TemplateProcessing") || !cJSON_IsArray(single))
            continue;
        const cJSON *front = json_get(single->child, "SpecialToken");
        if (!front)
            continue;
        t->bos = tokenizer_special(t, text_of(front, "id"));
        char quoted[TOK_QUOTE_MAX];
        if (t->bos < 0)
            return complain(c, E_FORMAT, "post_processor: \"%s\" is no special token",
                            tok_quote(quoted, text_of(front, "id")));
    }
    return OK;
}

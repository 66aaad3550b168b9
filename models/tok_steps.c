#include "models/tok_priv.h"

#include <string.h>

#include "models/unicode.h"

/* What tokenizer.json says about text before and after the vocabulary: four lists of
 * steps, each step an object with a "type". Hugging Face allows any chain of some forty
 * types; here every chain that Llama-family models use is recognised, and any other is
 * refused: a step left out silently would give the model a language it never saw. */

enum { STEPS_MAX = 8 };

struct steps {
    const cJSON *step[STEPS_MAX]; /* [n] */
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
        if (out->n == STEPS_MAX)
            return complain(c, E_UNSUPPORTED, "%s: more than %d steps", name, STEPS_MAX);
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

/* Prepend puts a blank in front of every text, Replace makes spaces blanks. */
static enum status read_normalizer(struct tokenizer *t, const cJSON *root,
                                   const struct complaint *c)
{
    struct steps steps;
    enum status s = steps_of(&steps, root, "normalizer", "normalizers", c);
    if (s)
        return s;
    for (int i = 0; i < steps.n; i++) {
        const cJSON *step = steps.step[i];
        bool prepend = is_type(step, "Prepend") && is_text(step, "prepend", BLANK);
        bool replace = is_type(step, "Replace") && is_text(step, "content", BLANK) &&
                       is_text(json_get(step, "pattern"), "String", " ");
        if (t->byte_level || (!prepend && !replace))
            return refuse(c, "normalizer", step);
        if (prepend)
            t->prefix = PREFIX_ALWAYS;
        else
            t->blanks = true;
    }
    return OK;
}

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

static enum status read_pre_blanks(struct tokenizer *t, const struct steps *steps,
                                   const struct complaint *c)
{
    if (steps->n == 0)
        return OK;
    const cJSON *step = steps->step[0];
    bool plain = steps->n == 1 && is_type(step, "Metaspace") && t->prefix == PREFIX_NONE;
    if (!plain || (json_get(step, "replacement") && !is_text(step, "replacement", BLANK)))
        return refuse(c, "pre_tokenizer", step);
    return read_metaspace(t, step, c);
}

/* The expression covers every text, so matches kept apart and gaps removed are the same. */
static enum status read_split(struct tokenizer *t, const cJSON *step, const struct complaint *c)
{
    bool invert;
    enum status s = flag(step, "invert", false, &invert, c);
    if (s)
        return s;
    bool apart =
        is_text(step, "behavior", "Isolated") || (is_text(step, "behavior", "Removed") && invert);
    if (!apart || t->pattern != PATTERN_ALL)
        return refuse(c, "pre_tokenizer", step);
    const char *regex = text_of(json_get(step, "pattern"), "Regex");
    if (split_pattern(regex, &t->pattern))
        return OK;
    char quoted[TOK_QUOTE_MAX];
    return complain(c, E_UNSUPPORTED, "pre_tokenizer: unknown pattern \"%s\"",
                    tok_quote(quoted, regex));
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
    if ((regex && t->pattern != PATTERN_ALL) || (t->space_first && !alone))
        return refuse(c, "pre_tokenizer", step);
    if (regex)
        t->pattern = PATTERN_GPT2;
    return OK;
}

static enum status read_pre_bytes(struct tokenizer *t, const struct steps *steps,
                                  const struct complaint *c)
{
    for (int i = 0; i < steps->n; i++) {
        const cJSON *step = steps->step[i];
        bool last = i == steps->n - 1;
        enum status s;
        if (is_type(step, "ByteLevel") && last) {
            s = read_byte_level(t, step, steps->n == 1, c);
        } else if (is_type(step, "Split") && !last) {
            s = read_split(t, step, c);
        } else if (is_type(step, "Digits") && i == 0 && !last) {
            s = flag(step, "individual_digits", false, &t->digits_alone, c);
            if (s == OK && !t->digits_alone)
                s = refuse(c, "pre_tokenizer", step);
        } else {
            s = refuse(c, "pre_tokenizer", step);
        }
        if (s)
            return s;
    }
    return OK;
}

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

enum status tok_steps_text(struct tokenizer *t, const cJSON *root, const struct complaint *c)
{
    enum status s = read_normalizer(t, root, c);
    if (s)
        return s;
    struct steps steps;
    s = steps_of(&steps, root, "pre_tokenizer", "pretokenizers", c);
    if (s)
        return s;
    s = t->byte_level ? read_pre_bytes(t, &steps, c) : read_pre_blanks(t, &steps, c);
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

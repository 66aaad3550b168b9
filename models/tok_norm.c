#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "models/tok_priv.h"
#include "models/unicode.h"

/* Normalization: each step reads one buffer and writes the other. utf8proc knows what a
 * character decomposes into and what composes; the order of combining marks is sorted
 * here, because its own way is quadratic in a long run of marks, which is text that
 * anybody can send. ASCII never changes and never joins what stands before it, so only
 * stretches of other characters, with the one ASCII character in front, go that way. */

enum {
    POINTS_PER_CHAR = 18, /* the longest decomposition, U+FDFA */
    CLASSES = 256,
    FEW_MARKS = 24,
};

bool is_word_char(uint32_t cp)
{
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return false;
    }
}

bool is_punctuation(uint32_t cp)
{
    if (cp < 0x80)
        return cp > ' ' && cp < 0x7f && char_class(cp) == CHAR_OTHER;
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
        return true;
    default:
        return false;
    }
}

/* --- buffers --- */

static bool grow(char **text, size_t *cap, size_t want)
{
    size_t more;
    if (want <= *cap)
        return true;
    if (!size_mul(want, 2, &more))
        return false;
    char *p = realloc(*text, more);
    if (!p)
        return false;
    *text = p;
    *cap = more;
    return true;
}

static bool put(struct norm_buf *b, const char *text, size_t bytes)
{
    size_t want;
    if (!size_add(b->n, bytes, &want) || !grow(&b->text, &b->cap, want))
        return false;
    if (bytes)
        memcpy(b->text + b->n, text, bytes);
    b->n += bytes;
    return true;
}

void norm_buf_free(struct norm_buf *b)
{
    free(b->text);
    free(b->spare);
    free(b->points);
    *b = (struct norm_buf){.n = 0};
}

/* --- NFC and its kin --- */

/* Stable: marks of one class keep their order. */
static void sort_few(int32_t *cp, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        int32_t one = cp[i];
        utf8proc_propval_t class = utf8proc_get_property(one)->combining_class;
        size_t at = i;
        while (at > 0 && utf8proc_get_property(cp[at - 1])->combining_class > class) {
            cp[at] = cp[at - 1];
            at--;
        }
        cp[at] = one;
    }
}

static void sort_many(int32_t *cp, size_t n, int32_t *scratch)
{
    size_t place[CLASSES + 1] = {0};
    for (size_t i = 0; i < n; i++)
        place[utf8proc_get_property(cp[i])->combining_class + 1]++;
    for (size_t i = 1; i <= CLASSES; i++)
        place[i] += place[i - 1];
    for (size_t i = 0; i < n; i++)
        scratch[place[utf8proc_get_property(cp[i])->combining_class]++] = cp[i];
    memcpy(cp, scratch, n * sizeof(*cp));
}

/* scratch has room for n. */
static void sort_marks(int32_t *cp, size_t n, int32_t *scratch)
{
    size_t i = 0;
    while (i < n) {
        size_t from = i;
        while (i < n && utf8proc_get_property(cp[i])->combining_class != 0)
            i++;
        if (i - from > FEW_MARKS)
            sort_many(cp + from, i - from, scratch);
        else
            sort_few(cp + from, i - from);
        i += i == from;
    }
}

static bool room_for_points(struct norm_buf *b, size_t n)
{
    size_t bytes;
    if (n <= b->points_cap)
        return true;
    if (!size_mul(n, sizeof(*b->points), &bytes))
        return false;
    free(b->points);
    b->points = malloc(bytes);
    b->points_cap = b->points ? n : 0;
    return b->points != NULL;
}

static utf8proc_option_t options_of(enum norm_kind kind)
{
    unsigned o = UTF8PROC_STABLE;
    o |= kind == NORM_NFC || kind == NORM_NFKC ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
    o |= kind == NORM_NFKC || kind == NORM_NFKD ? UTF8PROC_COMPAT : 0;
    return (utf8proc_option_t)o;
}

/* Code points of the stretch, decomposed; how many, or 0 when there is no memory. */
static size_t decompose(struct norm_buf *b, const char *p, const char *end, utf8proc_option_t o)
{
    size_t chars = 0;
    for (const char *at = p; at < end; chars++)
        (void)utf8_next(&at);
    size_t most;
    /* Twice: sorting needs as much again. */
    if (!size_mul(chars, 2 * (o & UTF8PROC_COMPAT ? POINTS_PER_CHAR : 4), &most) ||
        !room_for_points(b, most))
        return 0;
    size_t n = 0;
    while (p < end) {
        int last = 0;
        utf8proc_ssize_t got =
            utf8proc_decompose_char((utf8proc_int32_t)utf8_next(&p), b->points + n,
                                    (utf8proc_ssize_t)(most / 2 - n), o, &last);
        if (got < 0 || (size_t)got > most / 2 - n)
            return 0;
        n += (size_t)got;
    }
    sort_marks(b->points, n, b->points + most / 2);
    return n;
}

static bool put_normal(struct norm_buf *b, const char *p, const char *end, utf8proc_option_t o)
{
    size_t n = decompose(b, p, end, o);
    if (n == 0)
        return false;
    utf8proc_ssize_t got =
        utf8proc_normalize_utf32(b->points, (utf8proc_ssize_t)n, (utf8proc_option_t)o);
    for (utf8proc_ssize_t i = 0; i < got; i++) {
        uint8_t one[4];
        utf8proc_ssize_t bytes = utf8proc_encode_char(b->points[i], one);
        if (!put(b, (const char *)one, (size_t)bytes))
            return false;
    }
    return got >= 0;
}

static bool is_ascii(const char *p)
{
    return (uint8_t)*p < 0x80;
}

static bool normal_form(struct norm_buf *b, const char *p, const char *end, enum norm_kind kind)
{
    utf8proc_option_t o = options_of(kind);
    while (p < end) {
        const char *plain = p;
        while (p < end && is_ascii(p))
            p++;
        const char *from = p < end && p > plain ? p - 1 : p;
        if (!put(b, plain, (size_t)(from - plain)))
            return false;
        while (p < end && !is_ascii(p))
            p++;
        if (p > from && !put_normal(b, from, p, o))
            return false;
    }
    return true;
}

/* --- the other steps --- */

/* Character by character; only U+0130 becomes two of them. */
static bool lower(struct norm_buf *b, const char *p, const char *end)
{
    while (p < end) {
        uint32_t cp = utf8_next(&p);
        uint8_t one[4];
        utf8proc_ssize_t n =
            utf8proc_encode_char(cp == 0x130 ? 'i' : utf8proc_tolower((utf8proc_int32_t)cp), one);
        if (!put(b, (const char *)one, (size_t)n) || (cp == 0x130 && !put(b, "\xcc\x87", 2)))
            return false;
    }
    return true;
}

static bool replace(struct norm_buf *b, const struct norm_step *step, const char *p,
                    const char *end)
{
    while (p < end) {
        const char *found = memmem(p, (size_t)(end - p), step->from, step->from_bytes);
        const char *stop = found ? found : end;
        if (!put(b, p, (size_t)(stop - p)) || (found && !put(b, step->to, step->to_bytes)))
            return false;
        p = found ? found + step->from_bytes : end;
    }
    return true;
}

/* SentencePiece's remove_extra_whitespaces: of U+0020 alone. */
static bool squeeze(struct norm_buf *b, const char *p, const char *end)
{
    while (p < end) {
        const char *word = p;
        while (word < end && *word == ' ')
            word++;
        const char *stop = word < end ? memchr(word, ' ', (size_t)(end - word)) : end;
        stop = stop ? stop : end;
        if (word < stop && ((b->n && !put(b, " ", 1)) || !put(b, word, (size_t)(stop - word))))
            return false;
        p = stop;
    }
    return true;
}

static enum status replace_matches(struct norm_buf *b, const struct norm_step *step,
                                   const struct tok_text *in)
{
    size_t at = 0;   /* copied up to here */
    size_t from = 0; /* looked at up to here */
    while (from <= in->bytes) {
        struct text_range found;
        enum status s = regex_find(b->run, step->regex, in, from, &found);
        if (s)
            return s;
        bool none = found.end > in->bytes;
        size_t stop = none ? in->bytes : found.begin;
        bool again = !none && found.begin == found.end && found.begin == at && at > 0;
        if (!put(b, in->text + at, stop - at) ||
            (!none && !again && !put(b, step->to, step->to_bytes)))
            return E_NOMEM;
        if (none)
            return OK;
        at = found.end;
        from = at;
        if (found.begin == found.end)
            from += at < in->bytes ? utf8_length(in->text + at, in->text + in->bytes) : 1;
    }
    return put(b, in->text + at, in->bytes - at) ? OK : E_NOMEM;
}

static enum status run_step(struct norm_buf *b, const struct norm_step *step,
                            const struct tok_text *in)
{
    const char *p = in->text;
    const char *end = p + in->bytes;
    bool done = true;
    switch (step->kind) {
    case NORM_NFC:
    case NORM_NFD:
    case NORM_NFKC:
    case NORM_NFKD:
        done = normal_form(b, p, end, step->kind);
        break;
    case NORM_LOWER:
        done = lower(b, p, end);
        break;
    case NORM_STRIP:
        p = step->left ? blanks_on(p, end) : p;
        end = step->right ? blanks_back(end, p) : end;
        done = put(b, p, (size_t)(end - p));
        break;
    case NORM_PREPEND:
        done = in->bytes == 0 || (put(b, step->to, step->to_bytes) && put(b, p, in->bytes));
        break;
    case NORM_SQUEEZE:
        done = squeeze(b, p, end);
        break;
    case NORM_REPLACE:
        done = replace(b, step, p, end);
        break;
    case NORM_REGEX:
        return replace_matches(b, step, in);
    }
    return done ? OK : E_NOMEM;
}

enum status tok_normalize(const struct tokenizer *t, const char *text, size_t bytes,
                          struct norm_buf *b)
{
    struct tok_text in = {text, bytes};
    for (uint32_t i = 0; i < t->n_norms; i++) {
        b->n = 0;
        enum status s = run_step(b, &t->norm[i], &in);
        if (s)
            return s;
        in = (struct tok_text){b->text, b->n};
        if (i + 1 == t->n_norms)
            break;
        /* The next step writes into the other buffer. */
        char *other = b->spare;
        size_t other_cap = b->spare_cap;
        b->spare = b->text;
        b->spare_cap = b->cap;
        b->text = other;
        b->cap = other_cap;
    }
    return OK;
}

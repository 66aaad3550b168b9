#include "models/tok_priv.h"

#include <string.h>

#include "models/unicode.h"

/* The regular expressions that cut text before byte-level BPE, each as a scanner by
 * hand: a regular expression engine has a stack or a clock that text can exhaust, this
 * looks at every character a bounded number of times. Alternatives are tried in the
 * order of the expression, as a backtracking engine does. Text is well-formed UTF-8. */

static const struct known_pattern {
    const char *regex;
    enum tok_pattern pattern;
} known_patterns[] = {
    {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
     PATTERN_GPT2},
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}"
     "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     PATTERN_LLAMA3},
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
     "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     PATTERN_QWEN2},
};

bool split_pattern(const char *regex, enum tok_pattern *out)
{
    for (size_t i = 0; i < ARRAY_LEN(known_patterns); i++) {
        if (strcmp(regex, known_patterns[i].regex) == 0) {
            *out = known_patterns[i].pattern;
            return true;
        }
    }
    return false;
}

struct scan {
    const char *end;
    uint64_t *work;
};

/* Class of the character at p, which moves behind it. */
static enum char_class step(const struct scan *s, const char **p)
{
    *s->work += 1;
    return char_class(utf8_next(p));
}

static bool class_at(const struct scan *s, const char *p, enum char_class want)
{
    return p < s->end && step(s, &p) == want;
}

/* Behind at most `most` characters of this class. */
static const char *run_of(const struct scan *s, const char *p, enum char_class want, size_t most)
{
    while (most-- && p < s->end) {
        const char *next = p;
        if (step(s, &next) != want)
            break;
        p = next;
    }
    return p;
}

static bool is_newline(char c)
{
    return c == '\r' || c == '\n';
}

/* One letter behind an apostrophe; LATIN SMALL LETTER LONG S folds to an s. */
static char folded(const char **p, const char *end)
{
    if (*p == end)
        return '\0';
    uint32_t cp = utf8_next(p);
    if (cp == 0x17f)
        return 's';
    if (cp >= 'A' && cp <= 'Z')
        return (char)(cp | 0x20);
    return cp < 0x80 ? (char)cp : '\0';
}

static char plain(const char **p, const char *end)
{
    return *p == end ? '\0' : *(*p)++;
}

/* 's 't 're 've 'm 'll 'd; NULL: none of them. */
static const char *contraction(const char *p, const char *end, bool fold)
{
    if (*p != '\'')
        return NULL;
    const char *next = p + 1;
    char a = fold ? folded(&next, end) : plain(&next, end);
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return next;
    char b = fold ? folded(&next, end) : plain(&next, end);
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l'))
        return next;
    return NULL;
}

/* \s+(?!\S)|\s+ : blanks before a word leave the last one to it. */
static const char *blanks_before(const struct scan *s, const char *p)
{
    const char *last = p;
    const char *next = p;
    while (next < s->end) {
        const char *behind = next;
        if (step(s, &behind) != CHAR_SPACE)
            break;
        last = next;
        next = behind;
    }
    return next == s->end || last == p ? next : last;
}

/* \s*[\r\n]+ : up to the last line end of these blanks; NULL: there is none. */
static const char *blank_lines(const struct scan *s, const char *p)
{
    const char *found = NULL;
    while (p < s->end) {
        char c = *p;
        if (step(s, &p) != CHAR_SPACE)
            break;
        if (is_newline(c))
            found = p;
    }
    return found;
}

static const char *split_gpt2(const struct scan *s, const char *p)
{
    const char *e = contraction(p, s->end, false);
    if (e)
        return e;
    static const enum char_class classes[] = {CHAR_LETTER, CHAR_NUMBER, CHAR_OTHER};
    const char *word = *p == ' ' ? p + 1 : p;
    for (size_t i = 0; i < ARRAY_LEN(classes); i++) {
        if (class_at(s, word, classes[i]))
            return run_of(s, word, classes[i], SIZE_MAX);
    }
    return blanks_before(s, p);
}

static const char *split_llama3(const struct scan *s, const char *p, size_t digits)
{
    const char *e = contraction(p, s->end, true);
    if (e)
        return e;
    const char *next = p;
    enum char_class kind = step(s, &next);
    if (kind == CHAR_LETTER)
        return run_of(s, next, CHAR_LETTER, SIZE_MAX);
    if (kind != CHAR_NUMBER && !is_newline(*p) && class_at(s, next, CHAR_LETTER))
        return run_of(s, next, CHAR_LETTER, SIZE_MAX);
    if (kind == CHAR_NUMBER)
        return run_of(s, next, CHAR_NUMBER, digits - 1);
    const char *word = *p == ' ' ? next : p;
    if (class_at(s, word, CHAR_OTHER)) {
        e = run_of(s, word, CHAR_OTHER, SIZE_MAX);
        while (e < s->end && is_newline(*e))
            e++;
        return e;
    }
    e = blank_lines(s, p);
    return e ? e : blanks_before(s, p);
}

const char *split_word(enum tok_pattern pattern, const char *p, const char *end, uint64_t *work)
{
    struct scan s = {.end = end};
    s.work = work;
    switch (pattern) {
    case PATTERN_GPT2:
        return split_gpt2(&s, p);
    case PATTERN_LLAMA3:
        return split_llama3(&s, p, 3);
    case PATTERN_QWEN2:
        return split_llama3(&s, p, 1);
    case PATTERN_ALL:
        break;
    }
    return end;
}

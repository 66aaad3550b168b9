#include <string.h>

#include "models/tok_priv.h"

/* Ways to cut text that have a name: GGUF files say tokenizer.ggml.pre where tokenizer.json
 * writes the expressions out. A row is a chain of expressions, applied one after the other;
 * which of them are known by heart is split_pattern()'s matter. */

#define GPT2   "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define SUFFIX "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define TAIL   "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define LLAMA3 SUFFIX "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}" TAIL
#define QWEN2  SUFFIX "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" TAIL
#define UPPER  "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER  "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(suffix)                                                                              \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" suffix "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER  \
    "*" suffix
#define SLASHED "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define TEKKEN  CASED("") "|\\p{N}" SLASHED
#define GPT4O   CASED(SUFFIX "?") "|\\p{N}{1,3}" SLASHED
#define HAN     "[\xe4\xb8\x80-\xe9\xbe\xa5\xe3\x81\x80-\xe3\x82\x9f\xe3\x82\xa0-\xe3\x83\xbf]+"
#define SYMBOLS "!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~"
#define DEEPSEEK3                                                                                  \
    "[" SYMBOLS "][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]" \
    "*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

enum { CHAIN_MAX = 5 };

static const struct named_chain {
    const char *name;
    const char *regex[CHAIN_MAX]; /* up to a NULL */
    bool ignore_merges;
    bool adds_bos;
} chains[] = {
    {"llama3", {LLAMA3}, true, true},
    {"llama-v3", {LLAMA3}, true, true},
    {"llama-bpe", {LLAMA3}, true, true},
    {"falcon3", {LLAMA3}, true, true},
    {"gpt-2", {GPT2}, false, false},
    {"phi-2", {GPT2}, false, false},
    {"mpt", {GPT2}, false, false},
    {"olmo", {GPT2}, false, false},
    {"smollm", {"\\p{N}", GPT2}, false, false},
    {"starcoder", {"\\p{N}", GPT2}, false, false},
    {"refact", {"\\p{N}", GPT2}, false, false},
    {"command-r", {"\\p{N}", GPT2}, false, false},
    {"qwen2", {QWEN2}, false, false},
    {"deepseek-r1-qwen", {QWEN2}, false, false},
    {"stablelm2", {QWEN2}, false, false},
    {"tekken", {TEKKEN}, true, true},
    {"gpt-4o", {GPT4O}, false, false},
    {"llama4", {GPT4O}, false, false},
    {"deepseek-v3", {"\\p{N}{1,3}", HAN, DEEPSEEK3}, false, false},
    {"default", {"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}, false, false},
};

enum status cut_by_regex(struct cut_step *cut, const char *regex, const struct complaint *c)
{
    cut->kind = split_pattern(regex, &cut->pattern) ? CUT_PATTERN : CUT_REGEX;
    /* The known ones cover every text: what they match apart is what is left of gaps. */
    if (cut->kind == CUT_PATTERN && cut->way == CUT_REMOVED && cut->invert) {
        cut->way = CUT_ISOLATED;
        cut->invert = false;
    }
    return cut->kind == CUT_REGEX ? regex_compile(&cut->regex, regex, c) : OK;
}

static const struct named_chain *find_chain(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(chains); i++) {
        if (strcmp(chains[i].name, name) == 0)
            return &chains[i];
    }
    return NULL;
}

const char *const *tok_pre_chain(const char *name)
{
    const struct named_chain *found = find_chain(name);
    return found ? found->regex : NULL;
}

enum status tok_pre_named(struct tokenizer *t, const char *name, bool *adds_bos,
                          const struct complaint *c)
{
    char quoted[TOK_QUOTE_MAX];
    const struct named_chain *found = find_chain(name);
    if (!found)
        return complain(c, E_UNSUPPORTED, "pre-tokenizer \"%s\" is not known",
                        tok_quote(quoted, name));
    t->ignore_merges = found->ignore_merges;
    *adds_bos = found->adds_bos;
    enum status s = OK;
    for (size_t i = 0; found->regex[i] && s == OK; i++)
        s = cut_by_regex(&t->cut[t->n_cuts++], found->regex[i], c);
    return s;
}

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
#define PUNCTUATION(more) "[\\p{P}\\$\\+<=>\\^~\\|" more "]+"
#define QWEN_MARKS                                                                                 \
    SUFFIX                                                                                         \
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*"      \
    "[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define BAILING                                                                                    \
    "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|" \
    "\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"
#define SEED                                                                                       \
    SUFFIX "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|\\s*[\\r\\n]+|"   \
           "\\s+(?!\\S)|\\s+"
/* Ends of sentences, of several scripts. */
#define BLOOM " ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{ff0c}\\x{3001}\\x{964}\\x{6d4}\\x{60c})]+"
#define LINE  "[\\r\\n]"
#define ASIAN "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+"
#define SIGNS                                                                                      \
    "\\s?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}]+"
/* Letters that have a case, but for those that the list of its authors lacks. */
#define LETTERS                                                                                    \
    "\\s?["                                                                                        \
    "A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}"                 \
    "\\x{1c4}-\\x{293}\\x{295}-\\x{2af}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}"         \
    "\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}\\x{3a3}-\\x{3f5}"                  \
    "\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}"                       \
    "\\x{13a0}-\\x{13f5}\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}"                 \
    "\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}\\x{1e00}-\\x{1f15}"                 \
    "\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}\\x{1f50}-\\x{1f57}\\x{1f59}"        \
    "\\x{1f5b}\\x{1f5d}\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}"         \
    "\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}"                 \
    "\\x{1fe0}-\\x{1fec}\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}"                  \
    "\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}\\x{2128}"                   \
    "\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}"        \
    "\\x{214e}\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}"         \
    "\\x{2cf2}\\x{2cf3}\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}"                  \
    "\\x{a771}-\\x{a787}\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}"                 \
    "\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}"               \
    "\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}"         \
    "\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}"                                                   \
    "]+"

enum { CHAIN_MAX = 7 };

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
    {"falcon-h1", {LLAMA3}, true, true},
    {"pixtral", {LLAMA3}, true, true},
    {"midm-2.0", {LLAMA3}, true, true},
    {"lfm2", {LLAMA3}, true, true},
    {"dbrx", {LLAMA3}, false, false},
    {"smaug-bpe", {LLAMA3}, false, false},
    {"glm4", {LLAMA3}, false, false},
    {"chatglm-bpe", {LLAMA3}, false, false},
    {"gpt-2", {GPT2}, false, false},
    {"phi-2", {GPT2}, false, false},
    {"mpt", {GPT2}, false, false},
    {"olmo", {GPT2}, false, false},
    {"jais", {GPT2}, false, false},
    {"gigachat", {GPT2}, false, false},
    {"a.x-4.0", {GPT2}, false, false},
    {"mellum", {GPT2}, false, false},
    {"exaone4", {GPT2}, false, false},
    {"trillion", {GPT2}, false, false},
    {"granite-docling", {GPT2}, false, false},
    {"smollm", {"\\p{N}", GPT2}, false, false},
    {"starcoder", {"\\p{N}", GPT2}, false, false},
    {"refact", {"\\p{N}", GPT2}, false, false},
    {"command-r", {"\\p{N}", GPT2}, false, false},
    {"codeshell", {"\\p{N}", GPT2}, false, false},
    {"exaone", {"\\p{N}", GPT2}, false, false},
    {"minerva-7b", {"\\p{N}", GPT2}, false, false},
    {"qwen2", {QWEN2}, false, false},
    {"deepseek-r1-qwen", {QWEN2}, false, false},
    {"megrez", {QWEN2}, false, false},
    {"kormo", {QWEN2}, false, false},
    {"f2llmv2", {QWEN2}, false, false},
    {"hunyuan", {QWEN2}, false, false},
    {"grok-2", {QWEN2}, false, false},
    {"stablelm2", {QWEN2}, false, false},
    {"qwen35", {QWEN_MARKS}, false, false},
    {"tekken", {TEKKEN}, true, true},
    {"gpt-4o", {GPT4O}, false, false},
    {"llama4", {GPT4O}, false, false},
    {"kanana2", {GPT4O}, false, false},
    {"minimax-m2", {GPT4O}, false, false},
    {"deepseek-llm", {LINE, LETTERS, SIGNS, "\\s+$", ASIAN, "\\p{N}"}, false, false},
    {"deepseek-coder", {LINE, "\\s?\\p{L}+", "\\s?\\p{P}+", ASIAN, "\\p{N}"}, false, false},
    {"deepseek-v3", {"\\p{N}{1,3}", HAN, DEEPSEEK3}, false, false},
    {"hunyuan-dense", {"\\p{N}{1,3}", HAN, DEEPSEEK3}, false, false},
    {"falcon", {PUNCTUATION("`"), GPT2, "[0-9][0-9][0-9]"}, false, false},
    {"bailingmoe", {BAILING}, false, false},
    {"bailingmoe2", {BAILING}, false, false},
    {"llada-moe", {BAILING}, false, false},
    {"seed-coder", {SEED}, false, false},
    {"bloom", {BLOOM}, false, false},
    {"poro-chat", {BLOOM}, false, false},
    {"gpt3-finnish", {BLOOM}, false, false},
    {"viking", {BLOOM, "\\p{N}"}, false, false},
    {"superbpe", {"\\p{N}+", "(?=(\\d{3})+(?!\\d))"}, false, false},
    {"default", {PUNCTUATION(""), GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}, false, false},
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
        return complain(
            c, E_UNSUPPORTED,
            "pre-tokenizer \"%s\" (tokenizer.ggml.pre) is not known; the model's Hugging "
            "Face directory has it written out",
            tok_quote(quoted, name));
    t->ignore_merges = found->ignore_merges;
    *adds_bos = found->adds_bos;
    enum status s = OK;
    for (size_t i = 0; found->regex[i] && s == OK; i++)
        s = cut_by_regex(&t->cut[t->n_cuts++], found->regex[i], c);
    return s;
}

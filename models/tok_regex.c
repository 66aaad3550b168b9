#define PCRE2_CODE_UNIT_WIDTH 8

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "models/tok_priv.h"

/* Split patterns that have no code of their own run here. The pattern is a file's and the
 * text a stranger's, so a search is bounded three times: in backtracking steps, in memory,
 * and all searches of one text together in time. Just-in-time code is used where it can be
 * had; when its stack is too small for a match, the interpreter does that one again.
 * Syntax follows what tokenizer.json is written for (Oniguruma with Ruby's rules) as far as
 * both agree; where they are known not to, a pattern is refused. */

enum {
    PATTERN_BYTES_MAX = 8192,
    STEPS_MAX = 10000000, /* of one search */
    HEAP_KIB_MAX = 128 << 10,
    STACK_START = 64 << 10,
    STACK_MAX = 4 << 20,
    FINDS_PER_LOOK = 256, /* at the clock */
};

#define TIME_BASE_NS     ((uint64_t)2000000000)
#define TIME_PER_BYTE_NS ((uint64_t)2000)

struct tok_regex {
    pcre2_code *code;
    bool jit;
};

struct regex_run {
    pcre2_match_data *found;
    pcre2_match_context *limits;
    pcre2_jit_stack *stack; /* NULL: the machine's */
    uint64_t started;
    uint64_t finds;
};

/* Same text, other meaning: class intersections, and \h for hexadecimal digits. */
static bool means_other(const char *pattern)
{
    return strstr(pattern, "&&") || strstr(pattern, "\\h") || strstr(pattern, "\\H");
}

enum status regex_compile(struct tok_regex **out, const char *pattern, const struct complaint *c)
{
    char quoted[TOK_QUOTE_MAX];
    int error;
    size_t at;
    if (strlen(pattern) > PATTERN_BYTES_MAX || means_other(pattern))
        return complain(c, E_UNSUPPORTED, "pattern \"%s\" is not supported",
                        tok_quote(quoted, pattern));
    struct tok_regex *r = calloc(1, sizeof(*r));
    if (!r)
        return complain(c, E_NOMEM, "no memory for a pattern");
    r->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                            &error, &at, NULL);
    if (!r->code) {
        free(r);
        return complain(c, E_UNSUPPORTED, "pattern \"%s\" is no regular expression at byte %zu",
                        tok_quote(quoted, pattern), at);
    }
    r->jit = pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE) == 0;
    *out = r;
    return OK;
}

void regex_free(struct tok_regex *r)
{
    if (!r)
        return;
    pcre2_code_free(r->code);
    free(r);
}

void regex_run_free(struct regex_run *run)
{
    if (!run)
        return;
    pcre2_match_data_free(run->found);
    pcre2_match_context_free(run->limits);
    pcre2_jit_stack_free(run->stack);
    free(run);
}

static struct regex_run *run_new(void)
{
    struct regex_run *run = calloc(1, sizeof(*run));
    if (!run)
        return NULL;
    run->found = pcre2_match_data_create(1, NULL);
    run->limits = pcre2_match_context_create(NULL);
    if (!run->found || !run->limits) {
        regex_run_free(run);
        return NULL;
    }
    run->stack = pcre2_jit_stack_create(STACK_START, STACK_MAX, NULL);
    if (run->stack)
        pcre2_jit_stack_assign(run->limits, NULL, run->stack);
    (void)pcre2_set_match_limit(run->limits, STEPS_MAX);
    (void)pcre2_set_heap_limit(run->limits, HEAP_KIB_MAX);
    run->started = now_ns();
    return run;
}

static bool out_of_time(struct regex_run *run, size_t bytes)
{
    if (++run->finds % FINDS_PER_LOOK)
        return false;
    return now_ns() - run->started > TIME_BASE_NS + TIME_PER_BYTE_NS * bytes;
}

enum status regex_find(struct regex_run **run_at, const struct tok_regex *r,
                       const struct tok_text *in, size_t from, struct text_range *out)
{
    struct regex_run *run = *run_at ? *run_at : (*run_at = run_new());
    if (!run)
        return E_NOMEM;
    if (out_of_time(run, in->bytes))
        return E_INVALID;
    PCRE2_SPTR text = (PCRE2_SPTR)in->text;
    int got =
        pcre2_match(r->code, text, in->bytes, from, PCRE2_NO_UTF_CHECK, run->found, run->limits);
    if (got == PCRE2_ERROR_JIT_STACKLIMIT)
        got = pcre2_match(r->code, text, in->bytes, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                          run->found, run->limits);
    if (got == PCRE2_ERROR_NOMEMORY)
        return E_NOMEM;
    if (got < 0 && got != PCRE2_ERROR_NOMATCH)
        return E_INVALID;
    *out = (struct text_range){in->bytes, in->bytes + 1}; /* beyond the text: none */
    const size_t *place = pcre2_get_ovector_pointer(run->found);
    /* \K in a lookahead may turn a match around. */
    if (got >= 0 && place[0] <= place[1] && place[0] >= from)
        *out = (struct text_range){place[0], place[1]};
    return OK;
}

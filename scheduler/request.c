#include "scheduler/request.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A request is one allocation, the struct and then its arrays, sized at submit by the most
 * tokens it can ever have: the engine appends and counts, and never allocates. */

enum { WORD_BITS = 32 };

struct arena {
    size_t used;
    bool overflow;
};

/* Every member type has the alignment of an int32_t. */
static size_t arena_add(struct arena *a, int32_t n, size_t each)
{
    size_t bytes;
    size_t at = a->used;
    if (!size_mul((size_t)n, each, &bytes) || !size_add(a->used, bytes, &a->used))
        a->overflow = true;
    return at;
}

static bool has_penalties(const struct sampling *s)
{
    return s->repetition != 1.0f || s->presence != 0.0f || s->frequency != 0.0f;
}

int64_t req_capacity(const struct model_info *info)
{
    int64_t cells = (int64_t)info->n_blocks * info->block_tokens;
    return cells < info->context_max ? cells : info->context_max;
}

static bool in_vocab(const struct model_info *info, const int32_t *token, int32_t n)
{
    if (n < 0 || (n > 0 && !token))
        return false;
    for (int32_t i = 0; i < n; i++) {
        if (token[i] < 0 || token[i] >= info->vocab)
            return false;
    }
    return true;
}

static bool bias_is_sound(const struct model_info *info, const struct sampling *how)
{
    if (how->n_bias < 0 || (how->n_bias > 0 && !how->bias))
        return false;
    for (int32_t i = 0; i < how->n_bias; i++) {
        const struct token_bias *b = &how->bias[i];
        if (b->token < 0 || b->token >= info->vocab || isnan(b->bias) || b->bias == INFINITY)
            return false;
    }
    return true;
}

static bool numbers_are_sound(const struct sampling *how)
{
    const float number[] = {how->temperature, how->top_p,    how->min_p,
                            how->repetition,  how->presence, how->frequency};
    for (size_t i = 0; i < ARRAY_LEN(number); i++) {
        if (!isfinite(number[i]))
            return false;
    }
    return how->repetition > 0.0f && how->n_logprobs >= -1 && how->n_logprobs <= LOGPROBS_MAX;
}

static bool servable(const struct model_info *info, const struct sched_params *p,
                     const int32_t *prompt, int32_t n_prompt)
{
    int32_t least = p->judge_prompt ? 0 : 1;
    return n_prompt >= 1 && n_prompt < req_capacity(info) && p->max_new_tokens >= least &&
           p->min_tokens >= 0 && p->min_tokens <= p->max_new_tokens && p->prompt_logprobs >= 0 &&
           p->prompt_logprobs <= LOGPROBS_MAX && p->n_stop_tokens <= SCHED_STOP_TOKENS_MAX &&
           in_vocab(info, p->stop_token, p->n_stop_tokens) &&
           (!p->allowed || in_vocab(info, p->allowed, p->n_allowed)) &&
           in_vocab(info, prompt, n_prompt) && bias_is_sound(info, &p->sampling) &&
           numbers_are_sound(&p->sampling);
}

void req_count(struct sched_req *r, int32_t token, bool in_prompt)
{
    uint32_t slot = (uint32_t)token * 0x9e3779b1u;
    slot = (slot ^ slot >> 15) & (uint32_t)r->seen_mask;
    while (r->seen_at[slot] >= 0 && r->seen[r->seen_at[slot]].token != token)
        slot = (slot + 1) & (uint32_t)r->seen_mask;
    if (r->seen_at[slot] < 0) {
        r->seen_at[slot] = r->n_seen;
        r->seen[r->n_seen++] = (struct token_count){.token = token};
    }
    struct token_count *c = &r->seen[r->seen_at[slot]];
    if (in_prompt)
        c->in_prompt = true;
    else
        c->n_out++;
}

bool req_ends(struct sched_req *r, const struct model_info *info, int32_t token)
{
    for (int32_t i = 0; i < r->n_ends; i++) {
        if (r->end[i] != token)
            continue;
        bool models_own = !r->params.ignore_eos && i < info->n_eos;
        r->stop_token = models_own ? -1 : token;
        return true;
    }
    return false;
}

/* Where each array lies behind the struct. */
struct layout {
    size_t tokens;
    size_t table;
    size_t seen_at;
    size_t seen;
    size_t bias;
    size_t end;
    size_t allowed;
    size_t detail;
    size_t prompt_detail;
    size_t bytes;
    int32_t n_max;
    int32_t n_slots;
    int32_t n_seen;
    int32_t n_ends;
    int32_t n_words;
    int32_t n_detail;
    int32_t n_prompt_detail;
};

static bool lay_out(struct layout *l, const struct model_info *info, const struct sched_params *p,
                    int32_t n_prompt)
{
    int64_t n_want = (int64_t)n_prompt + p->max_new_tokens;
    int64_t capacity = req_capacity(info);
    l->n_max = (int32_t)(n_want < capacity ? n_want : capacity);
    l->n_seen = has_penalties(&p->sampling) ? min32(l->n_max, info->vocab) : 0;
    l->n_slots = l->n_seen > 0 ? 2 : 0;
    while (l->n_slots / 2 < l->n_seen)
        l->n_slots *= 2;
    l->n_ends = (p->ignore_eos ? 0 : info->n_eos) + p->n_stop_tokens;
    l->n_words = p->allowed ? (info->vocab + WORD_BITS - 1) / WORD_BITS : 0;
    l->n_detail = p->sampling.n_logprobs < 0 ? 0 : l->n_max - n_prompt;
    l->n_prompt_detail = p->judge_prompt ? n_prompt : 0;

    struct arena a = {.used = sizeof(struct sched_req)};
    l->tokens = arena_add(&a, l->n_max, sizeof(int32_t));
    l->table = arena_add(&a, (l->n_max - 1) / info->block_tokens + 1, sizeof(int32_t));
    l->seen_at = arena_add(&a, l->n_slots, sizeof(int32_t));
    l->seen = arena_add(&a, l->n_seen, sizeof(struct token_count));
    l->bias = arena_add(&a, p->sampling.n_bias, sizeof(struct token_bias));
    l->end = arena_add(&a, l->n_ends, sizeof(int32_t));
    l->allowed = arena_add(&a, l->n_words, sizeof(uint32_t));
    l->detail = arena_add(&a, l->n_detail, sizeof(struct picked));
    l->prompt_detail = arena_add(&a, l->n_prompt_detail, sizeof(struct picked));
    l->bytes = a.used;
    return !a.overflow;
}

/* NULL for an array without members. */
static void *part(char *memory, size_t at, int32_t n)
{
    return n > 0 ? memory + at : NULL;
}

/* What params point to is the client's: from here on it is ours. */
static void copy_lists(struct sched_req *r, char *memory, const struct layout *l,
                       const struct model_info *info)
{
    struct sched_params *p = &r->params;
    struct token_bias *bias = part(memory, l->bias, p->sampling.n_bias);
    if (bias)
        memcpy(bias, p->sampling.bias, (size_t)p->sampling.n_bias * sizeof(*bias));
    p->sampling.bias = bias;

    int32_t n_eos = p->ignore_eos ? 0 : info->n_eos;
    int32_t *end = part(memory, l->end, l->n_ends);
    for (int32_t i = 0; i < l->n_ends; i++)
        end[i] = i < n_eos ? info->eos[i] : p->stop_token[i - n_eos];
    r->n_ends = l->n_ends;
    r->end = end;
    p->stop_token = NULL;

    uint32_t *allowed = part(memory, l->allowed, l->n_words);
    for (int32_t i = 0; allowed && i < p->n_allowed; i++)
        allowed[p->allowed[i] / WORD_BITS] |= 1u << p->allowed[i] % WORD_BITS;
    r->allowed = allowed;
    p->allowed = NULL;
}

static void req_init(struct sched_req *r, const int32_t *prompt)
{
    struct link *const links[] = {&r->queue,  &r->news,      &r->inbox, &r->ready,
                                  &r->cancel, &r->followers, &r->follow};
    for (size_t i = 0; i < ARRAY_LEN(links); i++)
        link_init(links[i]);
    memcpy(r->tokens, prompt, (size_t)r->n_prompt * sizeof(*prompt));
    r->n = r->n_prompt;
    r->n_published = r->n_prompt;
    r->n_read = r->n_prompt;
    r->due_at = -1;
    r->stop_token = -1;
    r->prefix.salt = r->params.cache_salt;
    if (r->prompt_detail)
        r->prompt_detail[0].token = prompt[0];
    if (!r->seen)
        return;
    memset(r->seen_at, 0xff, ((size_t)r->seen_mask + 1) * sizeof(*r->seen_at));
    for (int32_t i = 0; i < r->n_prompt; i++)
        req_count(r, prompt[i], true);
}

enum status req_open(struct sched_req **out, const struct model_info *info,
                     const struct sched_params *p, const int32_t *prompt, int32_t n_prompt)
{
    *out = NULL;
    if (!servable(info, p, prompt, n_prompt))
        return E_INVALID;
    struct layout l;
    char *memory = lay_out(&l, info, p, n_prompt) ? calloc(1, l.bytes) : NULL;
    if (!memory)
        return E_NOMEM;

    struct sched_req *r = (struct sched_req *)(void *)memory;
    r->params = *p;
    r->n_prompt = n_prompt;
    r->n_max = l.n_max;
    r->seen_mask = l.n_slots - 1;
    r->tokens = part(memory, l.tokens, l.n_max);
    r->table = part(memory, l.table, l.n_max);
    r->detail = part(memory, l.detail, l.n_detail);
    r->prompt_detail = part(memory, l.prompt_detail, l.n_prompt_detail);
    r->seen_at = part(memory, l.seen_at, l.n_slots);
    r->seen = part(memory, l.seen, l.n_seen);
    copy_lists(r, memory, &l, info);
    req_init(r, prompt);
    *out = r;
    return OK;
}

void req_close(struct sched_req *r)
{
    free(r);
}

bool req_before(const struct sched_req *a, const struct sched_req *b)
{
    if (a->params.priority != b->params.priority)
        return a->params.priority > b->params.priority;
    return a->arrival < b->arrival;
}

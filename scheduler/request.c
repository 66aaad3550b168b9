#include "scheduler/request.h"

#include <stdlib.h>
#include <string.h>

/* A request is one allocation, the struct and then its arrays, sized at submit by the most
 * tokens it can ever have: the engine appends and counts, and never allocates. */

struct arena {
    size_t used;
    bool overflow;
};

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

static bool servable(const struct model_info *info, const struct sched_params *p,
                     const int32_t *prompt, int32_t n_prompt)
{
    if (n_prompt < 1 || n_prompt >= req_capacity(info) || p->max_new_tokens < 1)
        return false;
    if (p->sampling.n_logprobs < -1 || p->sampling.n_logprobs > LOGPROBS_MAX)
        return false;
    if (p->sampling.n_bias < 0 || (p->sampling.n_bias > 0 && !p->sampling.bias))
        return false;
    for (int32_t i = 0; i < n_prompt; i++) {
        if (prompt[i] < 0 || prompt[i] >= info->vocab)
            return false;
    }
    for (int32_t i = 0; i < p->sampling.n_bias; i++) {
        if (p->sampling.bias[i].token < 0 || p->sampling.bias[i].token >= info->vocab)
            return false;
    }
    return true;
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

static void req_init(struct sched_req *r, const int32_t *prompt)
{
    struct link *const links[] = {&r->queue, &r->news, &r->inbox, &r->ready, &r->cancel};
    for (size_t i = 0; i < ARRAY_LEN(links); i++)
        link_init(links[i]);
    memcpy(r->tokens, prompt, (size_t)r->n_prompt * sizeof(*prompt));
    r->n = r->n_prompt;
    r->n_published = r->n_prompt;
    r->n_read = r->n_prompt;
    r->due_at = -1;
    r->prefix.salt = r->params.cache_salt;
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
    int32_t n_bias = p->sampling.n_bias;
    int64_t n_want = (int64_t)n_prompt + p->max_new_tokens;
    int64_t capacity = req_capacity(info);
    int32_t n_max = (int32_t)(n_want < capacity ? n_want : capacity);
    int32_t n_table = (n_max - 1) / info->block_tokens + 1;
    int32_t n_detail = p->sampling.n_logprobs < 0 ? 0 : n_max - n_prompt;
    int32_t n_seen = has_penalties(&p->sampling) ? min32(n_max, info->vocab) : 0;
    int32_t n_slots = n_seen > 0 ? 2 : 0;
    while (n_slots / 2 < n_seen)
        n_slots *= 2;

    struct arena a = {.used = sizeof(struct sched_req)};
    size_t tokens = arena_add(&a, n_max, sizeof(int32_t));
    size_t table = arena_add(&a, n_table, sizeof(int32_t));
    size_t seen_at = arena_add(&a, n_slots, sizeof(int32_t));
    size_t seen = arena_add(&a, n_seen, sizeof(struct token_count));
    size_t bias = arena_add(&a, n_bias, sizeof(struct token_bias));
    size_t detail = arena_add(&a, n_detail, sizeof(struct picked));
    char *memory = a.overflow ? NULL : calloc(1, a.used);
    if (!memory)
        return E_NOMEM;

    struct sched_req *r = (struct sched_req *)(void *)memory;
    r->params = *p;
    r->n_prompt = n_prompt;
    r->n_max = n_max;
    r->seen_mask = n_slots - 1;
    r->tokens = (int32_t *)(void *)(memory + tokens);
    r->table = (int32_t *)(void *)(memory + table);
    r->detail = n_detail > 0 ? (struct picked *)(void *)(memory + detail) : NULL;
    r->seen_at = (int32_t *)(void *)(memory + seen_at);
    r->seen = n_seen > 0 ? (struct token_count *)(void *)(memory + seen) : NULL;
    r->params.sampling.bias = NULL;
    if (n_bias > 0) {
        struct token_bias *copy = (struct token_bias *)(void *)(memory + bias);
        memcpy(copy, p->sampling.bias, (size_t)n_bias * sizeof(*copy));
        r->params.sampling.bias = copy;
    }
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

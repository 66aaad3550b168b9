/* Picks on their way to a device and back. The order of a task's words: allowed tokens, biases,
 * banned tokens, tokens seen, room for what is edited. */

#include "kernels/pick_pack.h"

#include "kernels/exp.h"

#include <math.h>
#include <string.h>

enum { WORD_BITS = 32, BIAS_WORDS = 2, SEEN_WORDS = 3 };

static size_t mask_words(const struct pick *p, int32_t vocab)
{
    return p->allowed ? ((size_t)vocab + WORD_BITS - 1) / WORD_BITS : 0;
}

static size_t words_of(const struct pick *p, int32_t vocab)
{
    size_t n_bias = (size_t)p->how.n_bias;
    size_t n_banned = (size_t)p->n_banned;
    size_t n_seen = (size_t)p->n_seen;
    return mask_words(p, vocab) + n_bias * (BIAS_WORDS + 1) + n_banned * 2 +
           n_seen * (SEEN_WORDS + 1);
}

size_t pick_words(const struct pick *pick, int32_t n, int32_t vocab)
{
    size_t all = 0;
    for (int32_t i = 0; i < n; i++)
        all += words_of(&pick[i], vocab);
    return all;
}

static void pack_numbers(struct pick_task *t, const struct pick *p, int32_t vocab)
{
    const struct sampling *how = &p->how;
    *t = (struct pick_task){
        .seed = how->seed,
        .position = p->position,
        .temperature = how->temperature,
        .top_p = how->top_p,
        .min_p = how->min_p,
        .repetition = how->repetition,
        .presence = how->presence,
        .frequency = how->frequency,
        .top_k = how->top_k,
        .judged = p->given != NULL,
        .given = p->given ? *p->given : 0,
        .masked = p->allowed != NULL,
        .n_bias = how->n_bias,
        .n_banned = p->n_banned,
        .n_seen = p->n_seen,
    };
    t->n_logprobs = min32(min32(how->n_logprobs, LOGPROBS_MAX), vocab);
}

static void pack_lists(struct pick_task *t, uint32_t *words, const struct pick *p, int32_t vocab)
{
    uint32_t at = (uint32_t)mask_words(p, vocab);
    if (p->allowed)
        memcpy(words, p->allowed, at * sizeof(*words));
    t->bias = at;
    for (int32_t i = 0; i < p->how.n_bias; i++) {
        words[at++] = (uint32_t)p->how.bias[i].token;
        words[at++] = bits_of(p->how.bias[i].bias);
    }
    t->banned = at;
    for (int32_t i = 0; i < p->n_banned; i++)
        words[at++] = (uint32_t)p->banned[i];
    t->seen = at;
    for (int32_t i = 0; i < p->n_seen; i++) {
        words[at++] = (uint32_t)p->seen[i].token;
        words[at++] = (uint32_t)p->seen[i].n_out;
        words[at++] = p->seen[i].in_prompt;
    }
    t->saved = at;
}

void pick_pack(struct pick_task *task, uint32_t *words, uint32_t *on_device,
               const struct pick *pick, int32_t n, int32_t vocab)
{
    size_t at = 0;
    for (int32_t i = 0; i < n; i++) {
        pack_numbers(&task[i], &pick[i], vocab);
        pack_lists(&task[i], words + at, &pick[i], vocab);
        task[i].words = on_device + at;
        at += words_of(&pick[i], vocab);
    }
}

float logprob_base(float most, uint64_t mass)
{
    return (float)((double)most + log((double)mass / (double)MASS_ONE));
}

void pick_unpack(struct picked *out, const struct pick *pick, const struct pick_result *result,
                 int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        const struct pick_result *r = &result[i];
        out[i].token = r->token;
        out[i].logprob = 0.0f;
        out[i].n_top = 0;
        if (pick[i].how.n_logprobs < 0 || r->mass == 0)
            continue;
        float base = logprob_base(r->most, r->mass);
        out[i].logprob = r->logit - base;
        out[i].n_top = r->n_top;
        for (int32_t j = 0; j < r->n_top; j++) {
            out[i].top_token[j] = r->top_token[j];
            out[i].top_logprob[j] = r->top_logit[j] - base;
        }
    }
}

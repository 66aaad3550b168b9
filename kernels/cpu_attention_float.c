/* A chunk of float keys and values, or of halves: gathered a span at a time, as floats, for all
 * pairs of the pass. */

#include "kernels/cpu_attention.h"

#include <string.h>

void attend_float_query(const struct attention_job *job, const struct attention_room *room,
                        int32_t pair, const float *query)
{
    float *to = room->query + (size_t)pair * job->padded;
    memcpy(to, query, job->dim * sizeof(*to));
    memset(to + job->dim, 0, (job->padded - job->dim) * sizeof(*to));
}

/* Keys or values of tokens first .. first + n - 1. */
static void gather_span(const struct attention_job *job, const struct pass *p, bool keys,
                        int32_t first, int32_t n, const struct attention_room *room)
{
    const struct kv_layer *kv = job->kv;
    size_t bytes = kv_row_bytes(kv->kind, job->shape->head_dim);
    for (int32_t t = 0; t < n; t++) {
        float *to = room->span + (size_t)t * job->padded;
        const void *from = kv_row(keys ? kv->key : kv->value, place_of(job, p, first + t), bytes);
        if (kv->kind == NUM_F16)
            job->cpu->kern->widen_half(to, from, job->dim);
        else
            memcpy(to, from, bytes);
        memset(to + job->dim, 0, (job->padded - job->dim) * sizeof(*to));
    }
}

static void score_pairs(const struct attention_job *job, const struct pass *p,
                        const struct chunk *c, const struct attention_room *room)
{
    for (int32_t at = c->skip; at < c->n; at += SPAN) {
        int32_t span = min32(c->n - at, SPAN);
        gather_span(job, p, true, c->first + at, span, room);
        for (int32_t i = 0; i < n_pairs(p); i++) {
            float *score = room->score + (size_t)i * CHUNK + at;
            job->cpu->kern->dots(score, room->query + (size_t)i * job->padded, room->span,
                                 (size_t)span, job->padded);
            for (int32_t t = 0; t < span; t++)
                score[t] *= job->shape->score_scale;
        }
    }
}

static void weigh_pairs(const struct attention_job *job, const struct pass *p,
                        const struct chunk *c, const struct attention_room *room)
{
    memset(room->part, 0, (size_t)n_pairs(p) * job->padded * sizeof(float));
    for (int32_t at = c->skip; at < c->n; at += SPAN) {
        int32_t span = min32(c->n - at, SPAN);
        gather_span(job, p, false, c->first + at, span, room);
        for (int32_t i = 0; i < n_pairs(p); i++) {
            struct range seen = seen_by(job, p, i, c->first);
            int32_t begin = seen.begin > at ? seen.begin - at : 0;
            int32_t end = min32(seen.end - at, span);
            if (end <= begin)
                continue;
            const float *score = room->score + (size_t)i * CHUNK + at;
            job->cpu->kern->weigh(room->part + (size_t)i * job->padded, score + begin,
                                  room->span + (size_t)begin * job->padded, (size_t)(end - begin),
                                  job->padded);
        }
    }
}

void attend_float_chunk(const struct attention_job *job, const struct pass *p,
                        const struct chunk *c, const struct attention_room *room,
                        struct share share[PAIRS_MAX])
{
    const struct cpu_kernels *kern = job->cpu->kern;
    score_pairs(job, p, c, room);
    for (int32_t i = 0; i < n_pairs(p); i++) {
        struct range seen = seen_by(job, p, i, c->first);
        if (seen.end <= seen.begin)
            continue;
        float *score = room->score + (size_t)i * CHUNK + seen.begin;
        share[i].most = kern->max(score, (size_t)(seen.end - seen.begin));
        share[i].sum = kern->exp_sum(score, share[i].most, (size_t)(seen.end - seen.begin));
    }
    weigh_pairs(job, p, c, room);
}

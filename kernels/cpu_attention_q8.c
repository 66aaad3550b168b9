/* A chunk of int8 keys and values.
 *
 * Both products are integers: the query is rounded to 16 bit once per row and head, the
 * weights of a chunk's values once per row, head and chunk. That is finer by far than the
 * int8 of what they meet, and exact sums need no order, so tables of loops may go about
 * them as suits their instructions. */

#include "kernels/cpu_attention.h"

#include <string.h>

void attend_q8_query(const struct attention_job *job, struct attention_room *room, int32_t pair,
                     const float *query)
{
    job->cpu->kern->attend->pack(room->query_16 + (size_t)pair * 2 * job->padded,
                                 &room->query_of[pair], query, job->dim, job->padded);
}

/* The strip at `at`: it ends with its block or with the chunk. */
static struct strip strip_at(const struct attention_job *job, const struct pass *p,
                             const struct chunk *c, int32_t at, struct kv_place *place)
{
    int32_t tokens = job->shape->block_tokens;
    int32_t position = c->first + at;
    int32_t n = min32(min32(tokens - position % tokens, STRIP), c->n - at);
    *place = place_of(job, p, position);
    return (struct strip){.n = n, .first = at, .dim = job->dim};
}

/* Mostly a whole strip, whose constant length is what makes it four moves. */
static void copy_scales(float *to, const float *from, int32_t n)
{
    if (n == STRIP)
        memcpy(to, from, STRIP * sizeof(*to));
    else
        memcpy(to, from, (size_t)n * sizeof(*to));
}

static void score_pairs(const struct attention_job *job, const struct pass *p,
                        const struct chunk *c, const struct attention_room *room)
{
    const struct kv_layer *kv = job->kv;
    struct strip s;
    struct kv_place place;
    for (int32_t at = c->skip; at < c->n; at += s.n) {
        s = strip_at(job, p, c, at, &place);
        s.q = kv_row(kv->key, place, job->dim);
        copy_scales(room->key_scale + at, kv_scale(kv->key_scale, place), s.n);
        copy_scales(room->value_scale + at, kv_scale(kv->value_scale, place), s.n);
        job->cpu->kern->attend->scores(room->sum_16, &s, room->query_16, room->query_of,
                                       n_pairs(p));
    }
}

static void weigh_pairs(const struct attention_job *job, const struct pass *p,
                        const struct chunk *c, const struct attention_room *room)
{
    struct strip s;
    struct kv_place place;
    memset(room->acc, 0, (size_t)n_pairs(p) * job->padded * sizeof(*room->acc));
    for (int32_t at = c->skip; at < c->n; at += s.n) {
        s = strip_at(job, p, c, at, &place);
        s.q = kv_row(job->kv->value, place, job->dim);
        job->cpu->kern->attend->weigh(room->acc, &s, room->weight_16, n_pairs(p));
    }
}

void attend_q8_chunk(const struct attention_job *job, const struct pass *p, const struct chunk *c,
                     const struct attention_room *room, struct share share[PAIRS_MAX])
{
    const struct attend_loops *loops = job->cpu->kern->attend;
    struct q16 weight_of[PAIRS_MAX];
    score_pairs(job, p, c, room);
    for (int32_t i = 0; i < n_pairs(p); i++) {
        struct range seen = seen_by(job, p, i, c->first);
        int8_t *weight = room->weight_16 + (size_t)i * 2 * CHUNK;
        if (seen.end <= seen.begin) {
            memset(weight, 0, 2 * (size_t)CHUNK);
            continue;
        }
        struct soft s = {.sum = room->sum_16 + (size_t)i * CHUNK,
                         .key_scale = room->key_scale,
                         .value_scale = room->value_scale,
                         .factor = room->query_of[i].scale * job->shape->score_scale,
                         .begin = seen.begin,
                         .end = seen.end,
                         .room = room->score,
                         .weight = weight};
        loops->soften(&s);
        weight_of[i] = s.weight_of;
        share[i] = (struct share){.most = s.most, .sum = s.total};
    }
    weigh_pairs(job, p, c, room);
    for (int32_t i = 0; i < n_pairs(p); i++) {
        struct range seen = seen_by(job, p, i, c->first);
        if (seen.end > seen.begin)
            loops->finish(room->part + (size_t)i * job->padded, room->acc + (size_t)i * job->padded,
                          &weight_of[i], job->padded);
    }
}

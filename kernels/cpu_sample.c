/* Logits to tokens. A task is one pick; a worker's scratch holds one vocabulary.
 *
 * After the controls and the temperature a token is known by u = (logit - max) / T,
 * never positive, and by p = exp(u). For such u the bits of |u| order tokens from
 * likely to unlikely, so top_k and top_p are found by counting bits from the top
 * (three rounds of at most 2048 bins) instead of sorting: a vocabulary of 128k
 * costs a few passes whatever the limits are. Equal u are ordered by id, lowest
 * first. Kept tokens stay in order of id, and so does the draw. */

#include "kernels/cpu.h"
#include "kernels/cpu_lanes.h"
#include "kernels/philox.h"
#include "kernels/pick_pack.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    BINS = 2048,
    ROUNDS = 3,
    WORD_BITS = 32,
};

struct sample_job {
    struct cpu *cpu;
    struct picked *out;
    const float *logits;
    const struct pick *pick;
    int32_t vocab;
};

struct sample_room {
    uint64_t mass[BINS]; /* in units of exp.h */
    int32_t count[BINS];
    const struct cpu_kernels *kern;
    float *u;         /* [vocab] */
    float *p;         /* [vocab] */
    int32_t *kept;    /* [n_kept] ids, ascending; unused while every token is in */
    int32_t *inspect; /* [vocab] ids still undecided while a limit is searched */
    int32_t n_kept;
    int32_t vocab;
    bool all;
};

/* The last token that stays in: every more likely one, and of its equals those
 * with no higher id. */
struct cutoff {
    uint32_t key;
    int32_t id;
};

static size_t room_bytes(size_t vocab)
{
    return sizeof(struct sample_room) + vocab * 2 * (sizeof(float) + sizeof(int32_t));
}

static bool all_finite(const float *x, size_t n)
{
    uint32_t most = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t u = bits_of(x[i]) & 0x7fffffffu;
        most = u > most ? u : most;
    }
    return most < 0x7f800000u;
}

/* Lowest id among equals: the first pass finds the value, the second its place. */
static int32_t argmax(const struct cpu_kernels *kern, const float *x, int32_t n)
{
    float most = kern->max(x, (size_t)n);
    int32_t i = 0;
    while (i + 1 < n && x[i] != most)
        i++;
    return i;
}

/* x = exp(x - max); gives their mass. */
static uint64_t exp_total(const struct cpu_kernels *kern, float *x, float max, size_t n)
{
    uint64_t total = 0;
    (void)kern->exp_sum(x, max, n);
    for (size_t i = 0; i < n; i++)
        total += mass_of(x[i]);
    return total;
}

static void write_logprobs(struct picked *out, const float *logits, struct sample_room *room,
                           int32_t wanted)
{
    float max = room->kern->max(logits, (size_t)room->vocab);
    memcpy(room->p, logits, (size_t)room->vocab * sizeof(*logits));
    uint64_t total = exp_total(room->kern, room->p, max, (size_t)room->vocab);
    float base = logprob_base(max, total);

    wanted = wanted < LOGPROBS_MAX ? wanted : LOGPROBS_MAX;
    wanted = wanted < room->vocab ? wanted : room->vocab;
    int32_t n = 0;
    for (int32_t id = 0; id < room->vocab && wanted > 0; id++) {
        if (n == wanted && !(logits[id] > logits[out->top_token[n - 1]]))
            continue;
        int32_t at = n < wanted ? n++ : n - 1;
        for (; at > 0 && logits[id] > logits[out->top_token[at - 1]]; at--)
            out->top_token[at] = out->top_token[at - 1];
        out->top_token[at] = id;
    }
    out->n_top = n;
    for (int32_t i = 0; i < n; i++)
        out->top_logprob[i] = logits[out->top_token[i]] - base;
    out->logprob = -base; /* the drawn token's logit is added when it is known */
}

/* The largest float is as far as an edit goes: of two endless logits neither would win. */
static float within(float x)
{
    return x > FLT_MAX ? FLT_MAX : x;
}

static float penalized(float y, const struct token_count *t, const struct sampling *how)
{
    if (t->in_prompt || t->n_out > 0)
        y = within(y > 0.0f ? y / how->repetition : y * how->repetition);
    if (t->n_out > 0)
        y = within(y - within(how->presence + how->frequency * (float)t->n_out));
    return y;
}

/* false when an edit leaves something that is no number. */
static bool edit(float *x, int32_t vocab, const struct pick *pick)
{
    const struct sampling *how = &pick->how;
    bool good = true;
    for (int32_t id = 0; pick->allowed && id < vocab; id++) {
        if (!(pick->allowed[id / WORD_BITS] >> (id % WORD_BITS) & 1u))
            x[id] = -INFINITY;
    }
    for (int32_t i = 0; i < how->n_bias; i++) {
        int32_t id = how->bias[i].token;
        if (id < 0 || id >= vocab)
            continue;
        x[id] = within(x[id] + how->bias[i].bias);
        good = good && !isnan(x[id]);
    }
    for (int32_t i = 0; i < pick->n_banned; i++) {
        if (pick->banned[i] >= 0 && pick->banned[i] < vocab)
            x[pick->banned[i]] = -INFINITY;
    }
    for (int32_t i = 0; i < pick->n_seen; i++) {
        const struct token_count *t = &pick->seen[i];
        /* What is banned stays so, whatever is taken off it. */
        if (t->token < 0 || t->token >= vocab || !(x[t->token] > -INFINITY))
            continue;
        x[t->token] = penalized(x[t->token], t, how);
        good = good && !isnan(x[t->token]);
    }
    return good;
}

static int32_t kept_at(const struct sample_room *room, int32_t i)
{
    return room->all ? i : room->kept[i];
}

static uint32_t key_of(float u)
{
    return bits_of(u) & 0x7fffffffu;
}

/* The bin in which the n-th token or the given mass is reached. What lies before
 * it is taken off both. */
static int32_t find_bin(const struct sample_room *room, int32_t n_bins, int32_t *n, uint64_t *mass)
{
    int32_t b = 0;
    while (b + 1 < n_bins && room->count[b] < *n && room->mass[b] < *mass) {
        *n -= room->count[b];
        *mass -= room->mass[b];
        b++;
    }
    return b;
}

/* Keeps the most likely tokens until there are n of them or their p sum to mass,
 * whichever comes first; never none. */
static struct cutoff find_cutoff(struct sample_room *room, int32_t n, uint64_t mass)
{
    static const int32_t bits[ROUNDS] = {11, 10, 10};
    struct cutoff cut = {.key = 0};
    int32_t n_inspect = room->n_kept;
    int32_t shift = 31;
    for (int32_t round = 0; round < ROUNDS; round++) {
        int32_t n_bins = 1 << bits[round];
        shift -= bits[round];
        memset(room->count, 0, sizeof(room->count));
        memset(room->mass, 0, sizeof(room->mass));
        for (int32_t i = 0; i < n_inspect; i++) {
            int32_t id = round == 0 ? kept_at(room, i) : room->inspect[i];
            uint32_t b = key_of(room->u[id]) >> shift & (uint32_t)(n_bins - 1);
            room->count[b]++;
            room->mass[b] += mass_of(room->p[id]);
        }
        uint32_t bin = (uint32_t)find_bin(room, n_bins, &n, &mass);
        int32_t n_next = 0;
        for (int32_t i = 0; i < n_inspect; i++) {
            int32_t id = round == 0 ? kept_at(room, i) : room->inspect[i];
            if ((key_of(room->u[id]) >> shift & (uint32_t)(n_bins - 1)) == bin)
                room->inspect[n_next++] = id;
        }
        n_inspect = n_next;
        cut.key |= bin << shift;
    }
    /* Equals now, by ascending id. */
    int32_t i = 0;
    uint64_t each = mass_of(room->p[room->inspect[0]]);
    for (uint64_t have = each; i + 1 < n_inspect && i + 1 < n && have < mass; have += each)
        i++;
    cut.id = room->inspect[i];
    return cut;
}

static void apply_cutoff(struct sample_room *room, struct cutoff cut)
{
    int32_t n = 0;
    for (int32_t i = 0; i < room->n_kept; i++) {
        int32_t id = kept_at(room, i);
        uint32_t key = key_of(room->u[id]);
        if (key < cut.key || (key == cut.key && id <= cut.id))
            room->kept[n++] = id;
    }
    room->n_kept = n;
    room->all = false;
}

static uint64_t kept_mass(const struct sample_room *room)
{
    uint64_t total = 0;
    for (int32_t i = 0; i < room->n_kept; i++)
        total += mass_of(room->p[kept_at(room, i)]);
    return total;
}

static void apply_min_p(struct sample_room *room, float min_p)
{
    /* The most likely token has p = 1 and stays whatever is asked. */
    float least = min_p < 1.0f ? min_p : 1.0f;
    int32_t n = 0;
    for (int32_t i = 0; i < room->n_kept; i++) {
        int32_t id = kept_at(room, i);
        if (room->p[id] >= least)
            room->kept[n++] = id;
    }
    room->n_kept = n;
    room->all = false;
}

/* The token in whose share of the mass the random number falls. */
static int32_t draw(const struct sample_room *room, const struct pick *pick)
{
    uint64_t target = philox_below(pick->how.seed, pick->position, kept_mass(room));
    uint64_t sum = 0;
    for (int32_t i = 0; i < room->n_kept; i++) {
        sum += mass_of(room->p[kept_at(room, i)]);
        if (sum > target)
            return kept_at(room, i);
    }
    return PICKED_BAD;
}

/* u holds the edited logits; not all of them are -INFINITY. */
static int32_t sample_one(struct sample_room *room, float max, const struct pick *pick)
{
    const struct sampling *how = &pick->how;
    size_t vocab = (size_t)room->vocab;
    for (size_t i = 0; i < vocab; i++)
        room->u[i] = (room->u[i] - max) / how->temperature;
    memcpy(room->p, room->u, vocab * sizeof(*room->p));
    (void)exp_total(room->kern, room->p, 0.0f, vocab);

    if (how->top_k > 0 && how->top_k < room->vocab)
        apply_cutoff(room, find_cutoff(room, how->top_k, UINT64_MAX));
    if (how->top_p < 1.0f)
        apply_cutoff(room, find_cutoff(room, INT32_MAX, mass_share(how->top_p, kept_mass(room))));
    if (how->min_p > 0.0f)
        apply_min_p(room, how->min_p);
    return draw(room, pick);
}

static int32_t choose(const float *logits, const struct pick *pick, struct sample_room *room)
{
    size_t vocab = (size_t)room->vocab;
    bool greedy = !(pick->how.temperature > 0.0f);
    if (pick->given)
        return *pick->given >= 0 && *pick->given < room->vocab ? *pick->given : PICKED_BAD;
    if (greedy && !pick_has_edits(pick))
        return argmax(room->kern, logits, room->vocab);
    memcpy(room->u, logits, vocab * sizeof(*logits));
    if (!edit(room->u, room->vocab, pick))
        return PICKED_BAD;
    float max = room->kern->max(room->u, vocab);
    if (!(max > -INFINITY))
        return PICKED_NONE;
    return greedy ? argmax(room->kern, room->u, room->vocab) : sample_one(room, max, pick);
}

static void pick_one(struct picked *out, const float *logits, const struct pick *pick,
                     struct sample_room *room)
{
    out->token = PICKED_BAD;
    out->logprob = 0.0f;
    out->n_top = 0;
    size_t vocab = (size_t)room->vocab;
    if (!all_finite(logits, vocab))
        return;
    if (pick->how.n_logprobs >= 0)
        write_logprobs(out, logits, room, pick->how.n_logprobs);
    out->token = choose(logits, pick, room);
    if (pick->how.n_logprobs >= 0 && out->token >= 0)
        out->logprob += logits[out->token];
}

static void sample_task(const void *arg, int32_t task, int32_t worker)
{
    const struct sample_job *job = arg;
    size_t vocab = (size_t)job->vocab;
    struct sample_room *room = cpu_scratch(job->cpu, worker);
    room->kern = job->cpu->kern;
    room->u = (float *)(room + 1);
    room->p = room->u + vocab;
    room->kept = (int32_t *)(room->p + vocab);
    room->inspect = room->kept + vocab;
    room->vocab = job->vocab;
    room->n_kept = job->vocab;
    room->all = true;
    pick_one(&job->out[task], job->logits + (size_t)task * vocab, &job->pick[task], room);
}

static bool reserve_drawn(struct cpu *c, int32_t n)
{
    if (c->failed)
        return false;
    if (n <= c->drawn_cap)
        return true;
    int32_t *grown = realloc(c->drawn, (size_t)n * sizeof(*grown));
    if (!grown) {
        c->failed = E_NOMEM;
        return false;
    }
    c->drawn = grown;
    c->drawn_cap = n;
    return true;
}

void cpu_picks(struct ops *o, struct picked *out, const struct pick *pick, int32_t n_picks,
               int32_t vocab)
{
    struct cpu *c = (struct cpu *)o;
    c->vocab = vocab;
    c->pick = pick;
    c->out = out;
    c->n_picks = n_picks;
}

void cpu_sample(struct ops *o, float *logits)
{
    struct cpu *c = (struct cpu *)o;
    struct sample_job job = {.cpu = c, .out = c->out, .pick = c->pick, .vocab = c->vocab};
    job.logits = logits;
    for (int32_t i = 0; i < c->n_picks; i++)
        c->out[i].token = PICKED_BAD;
    if (c->n_picks <= 0 || c->vocab <= 0 || !reserve_drawn(c, c->n_picks) ||
        !cpu_reserve(c, room_bytes((size_t)c->vocab)))
        return;
    cpu_run(c, c->n_picks, sample_task, &job);
    for (int32_t i = 0; i < c->n_picks; i++)
        c->drawn[i] = c->out[i].token;
    c->n_drawn = c->n_picks;
}

#ifndef KERNELS_PICK_SELECT_CUH
#define KERNELS_PICK_SELECT_CUH

#include "kernels/exp.h"
#include "kernels/pick_pack.h"
#include "kernels/ptx.cuh"

/* One block's work on one row of logits: where a limit cuts the distribution, and on which token
 * a number falls. Nothing is sorted: tokens are counted, and their masses (exp.h) summed, by bins,
 * and the bin where the limit is reached is looked into. All sums are integers, so that neither
 * the order nor the number of threads has a part in the result. */

enum {
    BINS = 2048,
    BINS_PER_UNIT = 64, /* coarse bins of u = (logit - most) / temperature; the last has the rest */
    MEMBERS = 1024,     /* of a bin, when they are ranked one by one */
    PICK_THREADS = 1024,
    ANY_BIN = -1,
};

static constexpr unsigned NO_COUNT = 0xffffffffu;
static constexpr uint64_t NO_MASS = ~(uint64_t)0;

/* The distribution as it is looked at. */
struct view {
    const float *logit;      /* [vocab] */
    const uint32_t *allowed; /* NULL: every token */
    int vocab;
    float most;
    float temperature;
    bool raw;      /* ordered by the logits themselves, which differ where u does not */
    uint64_t last; /* the last token that counts, by place_of() */
    float least;   /* the least probability that counts, relative to the most likely token */
};

struct bins {
    uint64_t mass[BINS];
    unsigned count[BINS];
};

struct member {
    uint64_t place;
    uint64_t mass;
};

/* Where a limit is reached, and what comes before it. */
struct found {
    int bin;
    unsigned count; /* in the bin itself */
    unsigned before;
    uint64_t mass_before;
};

/* Part of a coarse bin: places from first on, 2^width of them. */
struct part_of_bin {
    int bin;
    uint64_t first;
    int width;
};

/* The last token within a limit, and what is within. */
struct cut {
    uint64_t place;
    unsigned count;
    uint64_t mass;
};

/* What all threads know lies here and not in registers, of which a thread of so many has 64. */
struct select_shared {
    struct view view;
    struct bins coarse;
    struct bins fine;
    struct member member[MEMBERS];
    uint64_t warp_mass[WARP];
    unsigned warp_count[WARP];
    unsigned n_members;
    struct found found;      /* of coarse */
    struct found inner;      /* of fine */
    struct found reached;    /* of the part that is looked into */
    struct part_of_bin part; /* that is looked into */
    struct cut cut;
};

/* ---- one token ----------------------------------------------------------------------- */

static __device__ inline float logit_at(const struct view &v, int id)
{
    bool in = !v.allowed || (v.allowed[id / 32] >> (id % 32) & 1u);
    return in ? v.logit[id] : -INFINITY;
}

static __device__ inline float scaled(const struct view &v, float logit)
{
    return (logit - v.most) / v.temperature;
}

/* Ascending: from likely to unlikely, of equals the lower id first. */
static __device__ inline uint64_t place_of(const struct view &v, float logit, float u, int id)
{
    uint32_t bits = bits_of((v.raw ? logit : u) + 0.0f); /* there is one zero */
    uint32_t key = bits >> 31 ? bits : 0x7fffffffu - bits;
    return (uint64_t)key << 32 | (uint32_t)id;
}

static __device__ inline int coarse_bin(float u)
{
    return u > -(float)(BINS / BINS_PER_UNIT) ? (int)(-u * (float)BINS_PER_UNIT) : BINS - 1;
}

/* take(logit, id) for all that a thread has of the row. */
template <typename F> static __device__ inline void each_logit(const struct view &v, F take)
{
    bool whole = v.vocab % 4 == 0 && reinterpret_cast<uintptr_t>(v.logit) % 16 == 0;
    int fours = whole ? v.vocab / 4 : 0;
    const float4 *four = reinterpret_cast<const float4 *>(v.logit);
    for (int at = (int)threadIdx.x; at < fours; at += (int)blockDim.x) {
        float4 x = four[at];
        uint32_t in = v.allowed ? v.allowed[at / 8] >> (4 * (at % 8)) : 15;
        take(in & 1 ? x.x : -INFINITY, 4 * at);
        take(in & 2 ? x.y : -INFINITY, 4 * at + 1);
        take(in & 4 ? x.z : -INFINITY, 4 * at + 2);
        take(in & 8 ? x.w : -INFINITY, 4 * at + 3);
    }
    for (int id = 4 * fours + (int)threadIdx.x; id < v.vocab; id += (int)blockDim.x)
        take(logit_at(v, id), id);
}

/* What a token adds to a draw. */
static __device__ inline uint64_t drawn_mass(const struct view &v, float logit, int id)
{
    float u = scaled(v, logit);
    float p = exp_fast(u);
    return p >= v.least && place_of(v, logit, u, id) <= v.last ? mass_of(p) : 0;
}

/* ---- bins ---------------------------------------------------------------------------- */

static __device__ inline void clear(struct bins &b)
{
    for (int i = (int)threadIdx.x; i < BINS; i += (int)blockDim.x) {
        b.mass[i] = 0;
        b.count[i] = 0;
    }
}

/* Two additions of 32 bits, which shared memory does by itself, are quicker than one of 64. */
static __device__ inline void add_mass(uint64_t *to, uint64_t mass)
{
    unsigned *half = reinterpret_cast<unsigned *>(to);
    unsigned low = (unsigned)mass;
    unsigned carry = atomicAdd(&half[0], low) + low < low ? 1 : 0;
    unsigned high = (unsigned)(mass >> 32) + carry;
    if (high)
        atomicAdd(&half[1], high);
}

static __device__ inline void add_token(struct bins &b, int bin, uint64_t mass)
{
    atomicAdd(&b.count[bin], 1u);
    if (mass)
        add_mass(&b.mass[bin], mass);
}

static __device__ inline uint64_t from_lane(uint64_t v, int lane)
{
    unsigned low = __shfl_sync(0xffffffffu, (unsigned)v, lane);
    unsigned high = __shfl_sync(0xffffffffu, (unsigned)(v >> 32), lane);
    return (uint64_t)high << 32 | low;
}

static __device__ inline uint64_t warp_total(uint64_t v)
{
    for (int d = WARP / 2; d > 0; d /= 2)
        v += from_lane(v, ((int)threadIdx.x % WARP) ^ d);
    return v;
}

/* All of the bins' mass, to every thread. */
static __device__ inline uint64_t total_mass(struct select_shared &sm, const struct bins &b)
{
    uint64_t mine = 0;
    for (int i = (int)threadIdx.x; i < BINS; i += (int)blockDim.x)
        mine += b.mass[i];
    mine = warp_total(mine);
    if (threadIdx.x % WARP == 0)
        sm.warp_mass[threadIdx.x / WARP] = mine;
    __syncthreads();
    uint64_t all = 0;
    for (unsigned w = 0; w < blockDim.x / WARP; w++)
        all += sm.warp_mass[w];
    __syncthreads();
    return all;
}

/* The first bin with which count or mass are reached, whichever is first; one of them is. */
static __device__ inline void find_bin(struct select_shared &sm, struct found &found,
                                       const struct bins &b, unsigned count, uint64_t mass)
{
    int lane = (int)threadIdx.x % WARP;
    unsigned warp = threadIdx.x / WARP;
    int each = BINS / (int)blockDim.x;
    int first = (int)threadIdx.x * each;
    unsigned n = 0;
    uint64_t m = 0;
    for (int i = first; i < first + each; i++) {
        n += b.count[i];
        m += b.mass[i];
    }
    unsigned own_n = n;
    uint64_t own_m = m;
    for (int d = 1; d < WARP; d *= 2) {
        unsigned n_left = __shfl_sync(0xffffffffu, n, lane - d);
        uint64_t m_left = from_lane(m, lane - d);
        n += lane >= d ? n_left : 0;
        m += lane >= d ? m_left : 0;
    }
    if (lane == WARP - 1) {
        sm.warp_count[warp] = n;
        sm.warp_mass[warp] = m;
    }
    __syncthreads();
    n -= own_n;
    m -= own_m;
    for (unsigned w = 0; w < warp; w++) {
        n += sm.warp_count[w];
        m += sm.warp_mass[w];
    }
    for (int i = first; i < first + each && n < count && m < mass; i++) {
        if (n + b.count[i] >= count || m + b.mass[i] >= mass)
            found = {i, b.count[i], n, m};
        n += b.count[i];
        m += b.mass[i];
    }
    __syncthreads();
}

/* Counts the row by coarse bins; their number in the last one is what is left. */
static __device__ APART void count_all(struct select_shared &sm)
{
    const struct view v = sm.view;
    clear(sm.coarse);
    __syncthreads();
    int rest = 0;
    each_logit(v, [&](float logit, int) {
        float u = scaled(v, logit);
        int bin = coarse_bin(u);
        if (bin < BINS - 1)
            add_token(sm.coarse, bin, mass_of(exp_fast(u)));
        else
            rest++;
    });
    rest = warp_sum(rest); /* a mass of none: exp(-31) is less than a unit */
    if (threadIdx.x % WARP == 0)
        atomicAdd(&sm.coarse.count[BINS - 1], (unsigned)rest);
    __syncthreads();
}

/* ---- a limit ------------------------------------------------------------------------- */

static __device__ inline bool lies_in(const struct view &v, const struct part_of_bin &part, float u,
                                      uint64_t place)
{
    return (part.bin == ANY_BIN || coarse_bin(u) == part.bin) && place <= v.last &&
           place >= part.first && (part.width == 64 || (place - part.first) >> part.width == 0);
}

/* Divides a part with too many members by 2048. */
static __device__ APART void narrow(struct select_shared &sm, unsigned count, uint64_t mass)
{
    const struct view v = sm.view;
    const struct part_of_bin part = sm.part;
    int shift = part.width > 11 ? part.width - 11 : 0;
    clear(sm.fine);
    __syncthreads();
    each_logit(v, [&](float logit, int id) {
        float u = scaled(v, logit);
        uint64_t place = place_of(v, logit, u, id);
        if (lies_in(v, part, u, place))
            add_token(sm.fine, (int)((place - part.first) >> shift), mass_of(exp_fast(u)));
    });
    __syncthreads();
    find_bin(sm, sm.inner, sm.fine, count - sm.reached.before, mass - sm.reached.mass_before);
    if (threadIdx.x == 0) {
        sm.part.first += (uint64_t)sm.inner.bin << shift;
        sm.part.width = shift;
        sm.reached.count = sm.inner.count;
        sm.reached.before += sm.inner.before;
        sm.reached.mass_before += sm.inner.mass_before;
    }
    __syncthreads();
}

/* Ranks the members against each other: the one that reaches the limit is the last within. */
static __device__ APART void rank(struct select_shared &sm, unsigned count, uint64_t mass)
{
    for (unsigned j = threadIdx.x; j < sm.n_members; j += blockDim.x) {
        struct member mine = sm.member[j];
        unsigned n = sm.reached.before;
        uint64_t m = sm.reached.mass_before;
        for (unsigned i = 0; i < sm.n_members; i++) {
            bool before = sm.member[i].place < mine.place;
            n += before ? 1 : 0;
            m += before ? sm.member[i].mass : 0;
        }
        if (n < count && m < mass && (n + 1 >= count || m + mine.mass >= mass))
            sm.cut = {mine.place, n + 1, m + mine.mass};
    }
    __syncthreads();
}

/* Puts the tokens of a part, at most MEMBERS, into sm.member, in any order. */
static __device__ APART void collect(struct select_shared &sm)
{
    const struct view v = sm.view;
    const struct part_of_bin part = sm.part;
    if (threadIdx.x == 0)
        sm.n_members = 0;
    __syncthreads();
    each_logit(v, [&](float logit, int id) {
        float u = scaled(v, logit);
        uint64_t place = place_of(v, logit, u, id);
        if (lies_in(v, part, u, place))
            sm.member[atomicAdd(&sm.n_members, 1u)] = {place, mass_of(exp_fast(u))};
    });
    __syncthreads();
}

/* sm.cut: the last of the first count tokens, or of those that have mass together, whichever are
 * fewer. sm.coarse has what count_all() left there; it is cut as well. */
static __device__ APART void select(struct select_shared &sm, unsigned count, uint64_t mass)
{
    find_bin(sm, sm.found, sm.coarse, count, mass);
    if (threadIdx.x == 0) {
        sm.reached = sm.found;
        sm.part = {sm.found.bin, 0, 64};
    }
    __syncthreads();
    while (sm.reached.count > MEMBERS)
        narrow(sm, count, mass);
    collect(sm);
    rank(sm, count, mass);
    int last = sm.part.bin;
    for (int i = last + (int)threadIdx.x; i < BINS; i += (int)blockDim.x) {
        sm.coarse.count[i] = i == last ? sm.cut.count - sm.found.before : 0;
        sm.coarse.mass[i] = i == last ? sm.cut.mass - sm.found.mass_before : 0;
    }
    __syncthreads();
}

/* ---- the draw ------------------------------------------------------------------------ */

/* Ids of a bin: a power of two, at least a load of four by every lane. */
static __device__ inline int ids_per_bin(int vocab)
{
    int ids = 4 * WARP;
    while (ids * BINS < vocab)
        ids *= 2;
    return ids;
}

/* Masses by ranges of ids, a warp each. */
static __device__ inline void weigh_ranges(struct select_shared &sm, int ids)
{
    const struct view v = sm.view;
    clear(sm.coarse);
    __syncthreads();
    int lane = (int)threadIdx.x % WARP;
    for (int bin = (int)threadIdx.x / WARP; bin * ids < v.vocab; bin += (int)blockDim.x / WARP) {
        uint64_t mass = 0;
        for (int id = bin * ids + lane; id < (bin + 1) * ids; id += WARP)
            mass += id < v.vocab ? drawn_mass(v, logit_at(v, id), id) : 0;
        mass = warp_total(mass);
        if (lane == 0)
            sm.coarse.mass[bin] = mass;
    }
    __syncthreads();
}

/* The token in whose share of the mass, by ids, the random number falls. */
static __device__ APART int draw(struct select_shared &sm, uint64_t seed, uint64_t position)
{
    const struct view v = sm.view;
    int ids = ids_per_bin(v.vocab);
    weigh_ranges(sm, ids);
    uint64_t reach = philox_below(seed, position, total_mass(sm, sm.coarse)) + 1;
    find_bin(sm, sm.found, sm.coarse, NO_COUNT, reach);
    int first = sm.found.bin * ids;
    for (int i = (int)threadIdx.x; i < BINS; i += (int)blockDim.x) {
        int id = first + i;
        sm.fine.count[i] = 0;
        sm.fine.mass[i] = i < ids && id < v.vocab ? drawn_mass(v, logit_at(v, id), id) : 0;
    }
    __syncthreads();
    find_bin(sm, sm.inner, sm.fine, NO_COUNT, reach - sm.found.mass_before);
    return first + sm.inner.bin;
}

#endif

/* Logits to tokens, all picks of a step by one launch. As the cpu does it (cpu_sample.c), to the
 * bit: the same steps in the same order, and sums of integers.
 *
 * A row is first read by as many blocks as keep the device busy, for its most likely token and for
 * anything that is not finite. The last of them to arrive does what else the pick wants, by itself:
 * nothing for the most likely token, else a few more passes over the row (pick_select.cuh). Edits
 * are made where the logits lie and taken back at the end. */
#include "kernels/device.cuh"
#include "kernels/philox.h"
#include "kernels/pick_select.cuh"

#include <float.h>

enum {
    PARTS_MAX = 16,
    PART_LEAST = 8192,   /* logits of a part */
    SHORT_VOCAB = 16384, /* for which few threads are enough */
    SHORT_THREADS = 256,
};

struct best {
    float value;
    int id;
    int bad; /* something was not finite */
};

struct pick_shared {
    struct select_shared select;
    struct best best[PICK_THREADS / WARP];
    struct best whole;
    unsigned last;
    int bad;
};

struct pick_job {
    const struct pick_task *task; /* [picks] */
    struct pick_result *result;   /* [picks] */
    int32_t *token;               /* [picks], for the next step's embed */
    float *logits;                /* [picks][vocab] */
    int vocab;
    struct best *part; /* [picks][gridDim.x] */
    unsigned *arrived; /* [picks] */
};

/* The larger value, of equals the lower id. */
static __device__ inline struct best better(struct best a, struct best b)
{
    bool second = b.value > a.value || (b.value == a.value && b.id < a.id);
    struct best r = second ? b : a;
    r.bad = a.bad | b.bad;
    return r;
}

/* Of a block, into sm.whole. */
static __device__ inline void block_best(struct pick_shared &sm, struct best v)
{
    for (int d = WARP / 2; d > 0; d /= 2) {
        struct best other;
        other.value = __shfl_xor_sync(0xffffffffu, v.value, d);
        other.id = __shfl_xor_sync(0xffffffffu, v.id, d);
        other.bad = __shfl_xor_sync(0xffffffffu, v.bad, d);
        v = better(v, other);
    }
    if (threadIdx.x % WARP == 0)
        sm.best[threadIdx.x / WARP] = v;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (unsigned w = 1; w < blockDim.x / WARP; w++)
            v = better(v, sm.best[w]);
        sm.whole = v;
    }
    __syncthreads();
}

static __device__ APART void best_of(struct pick_shared &sm)
{
    const struct view v = sm.select.view;
    struct best mine = {-INFINITY, INT32_MAX, 0};
    each_logit(v, [&](float logit, int id) {
        struct best one = {logit, id, !(fabsf(logit) < INFINITY)};
        mine = better(mine, one);
    });
    block_best(sm, mine);
}

/* The row's most likely token, into sm.whole of the block that arrives last; others get false. */
static __device__ inline bool find_best(struct pick_shared &sm, const struct pick_job &job,
                                        size_t pick)
{
    int parts = (int)gridDim.x;
    int ids = (job.vocab + parts - 1) / parts;
    ids = (ids + 3) / 4 * 4;
    int first = (int)blockIdx.x * ids;
    first = first < job.vocab ? first : job.vocab;
    if (threadIdx.x == 0) {
        struct view part = {};
        part.logit = job.logits + pick * (size_t)job.vocab + (size_t)first;
        part.vocab = ids < job.vocab - first ? ids : job.vocab - first;
        sm.select.view = part;
    }
    __syncthreads();
    best_of(sm);
    if (parts == 1)
        return true;
    struct best *part = job.part + pick * (size_t)parts;
    if (threadIdx.x == 0) {
        sm.whole.id += sm.whole.id == INT32_MAX ? 0 : first;
        part[blockIdx.x] = sm.whole;
        sm.last = arrive_last(&job.arrived[pick], (unsigned)parts);
        for (int i = 0; sm.last && i < parts; i++)
            sm.whole = better(sm.whole, part[i]);
    }
    __syncthreads();
    return sm.last;
}

/* ---- log probabilities --------------------------------------------------------------- */

static __device__ APART void judge(struct select_shared &sm, int wanted, struct pick_result *r)
{
    count_all(sm);
    uint64_t mass = total_mass(sm, sm.coarse);
    if (threadIdx.x == 0) {
        r->mass = mass;
        r->n_top = wanted;
    }
    if (wanted == 0)
        return;
    select(sm, (unsigned)wanted, NO_MASS);
    if (threadIdx.x == 0) {
        sm.view.last = sm.cut.place;
        sm.part = {ANY_BIN, 0, 64};
    }
    __syncthreads();
    collect(sm);
    if ((int)threadIdx.x < wanted) {
        uint64_t place = sm.member[threadIdx.x].place;
        int at = 0;
        for (int i = 0; i < wanted; i++)
            at += sm.member[i].place < place ? 1 : 0;
        int id = (int)(uint32_t)place;
        r->top_token[at] = id;
        r->top_logit[at] = sm.view.logit[id];
    }
    __syncthreads();
}

/* ---- edits --------------------------------------------------------------------------- */

/* The largest float is as far as an edit goes: of two endless logits neither would win. */
static __device__ inline float within(float x)
{
    return x > FLT_MAX ? FLT_MAX : x;
}

/* Of a task: entries of some words, the token first. */
struct token_list {
    const uint32_t *entry;
    int words;
    int n;
    bool distinct;   /* no token stands twice: said by the contract, not looked at */
    uint32_t *saved; /* [n] logits from before the edit */
};

/* Whether entry j is its token's first: it stands for all of them. */
static __device__ inline bool is_first(const struct token_list &l, int j)
{
    for (int i = 0; !l.distinct && i < j; i++)
        if (l.entry[i * l.words] == l.entry[j * l.words])
            return false;
    return true;
}

static __device__ inline float biased(float x, const uint32_t *list, int n, int j)
{
    for (int i = j; i < n; i++)
        if (list[2 * i] == list[2 * j])
            x = within(x + of_bits(list[2 * i + 1]));
    return x;
}

static __device__ inline float penalized(float y, const struct pick_task &t, int n_out,
                                         bool in_prompt)
{
    if (in_prompt || n_out > 0)
        y = within(y > 0.0f ? y / t.repetition : y * t.repetition);
    if (n_out > 0)
        y = within(y - within(__fadd_rn(t.presence, __fmul_rn(t.frequency, (float)n_out))));
    return y;
}

/* new_logit(the token's index in the list, logit); what was there is saved. */
template <typename F>
static __device__ inline void edit_list(struct pick_shared &sm, const struct view &v, float *row,
                                        const struct token_list &l, F new_logit)
{
    for (int j = (int)threadIdx.x; j < l.n; j += (int)blockDim.x) {
        int id = (int)l.entry[j * l.words];
        if (id < 0 || id >= v.vocab || !is_first(l, j))
            continue;
        l.saved[j] = bits_of(row[id]);
        float x = new_logit(j, logit_at(v, id));
        if (x != x)
            atomicAdd(&sm.bad, 1);
        row[id] = x;
    }
    __syncthreads();
}

static __device__ inline void restore_list(const struct view &v, float *row,
                                           const struct token_list &l)
{
    for (int j = (int)threadIdx.x; j < l.n; j += (int)blockDim.x) {
        int id = (int)l.entry[j * l.words];
        if (id >= 0 && id < v.vocab && is_first(l, j))
            row[id] = of_bits(l.saved[j]);
    }
    __syncthreads();
}

enum { BIAS_WORDS = 2, BANNED_WORDS = 1, SEEN_WORDS = 3 };

/* Biases and banned tokens are short lists of the client's and the model's, and may repeat a token.
 * Tokens seen are as many as a context has, each once. */
static __device__ inline struct token_list bias_list(const struct pick_task &t)
{
    return {t.words + t.bias, BIAS_WORDS, t.n_bias, false, t.words + t.saved};
}

static __device__ inline struct token_list banned_list(const struct pick_task &t)
{
    return {t.words + t.banned, BANNED_WORDS, t.n_banned, false, t.words + t.saved + t.n_bias};
}

static __device__ inline struct token_list seen_list(const struct pick_task &t)
{
    return {t.words + t.seen, SEEN_WORDS, t.n_seen, true,
            t.words + t.saved + t.n_bias + t.n_banned};
}

/* false when an edit leaves something that is no number. */
static __device__ APART bool edit(struct pick_shared &sm, const struct view &v,
                                  const struct pick_task &t, float *row)
{
    const uint32_t *bias = t.words + t.bias;
    const uint32_t *seen = t.words + t.seen;
    if (threadIdx.x == 0)
        sm.bad = 0;
    __syncthreads();
    edit_list(sm, v, row, bias_list(t),
              [&](int j, float x) { return biased(x, bias, t.n_bias, j); });
    edit_list(sm, v, row, banned_list(t), [&](int, float) { return -INFINITY; });
    /* What is banned stays so, whatever is taken off it. */
    edit_list(sm, v, row, seen_list(t), [&](int j, float x) {
        const uint32_t *s = seen + SEEN_WORDS * j;
        return x > -INFINITY ? penalized(x, t, (int)s[1], s[2] != 0) : x;
    });
    return sm.bad == 0;
}

static __device__ APART void restore(const struct view &v, const struct pick_task &t, float *row)
{
    __syncthreads(); /* everybody has read what is edited */
    restore_list(v, row, seen_list(t));
    restore_list(v, row, banned_list(t));
    restore_list(v, row, bias_list(t));
}

/* ---- a pick -------------------------------------------------------------------------- */

/* Drops what lies behind the last cut. */
static __device__ inline void keep_to_cut(struct select_shared &sm)
{
    if (threadIdx.x == 0)
        sm.view.last = sm.cut.place;
    __syncthreads();
}

static __device__ inline int sample(struct select_shared &sm, const struct pick_task &t)
{
    bool some = t.top_k > 0 && t.top_k < sm.view.vocab;
    if (some || t.top_p < 1.0f)
        count_all(sm);
    if (some) {
        select(sm, (unsigned)t.top_k, NO_MASS);
        keep_to_cut(sm);
    }
    if (t.top_p < 1.0f) {
        select(sm, NO_COUNT, mass_share(t.top_p, total_mass(sm, sm.coarse)));
        keep_to_cut(sm);
    }
    return draw(sm, t.seed, t.position);
}

/* The logits as they are, in sm.whole their largest. */
static __device__ inline void see_raw(struct pick_shared &sm, const struct pick_job &job,
                                      float *row)
{
    if (threadIdx.x == 0)
        sm.select.view = {row, NULL, job.vocab, sm.whole.value, 1.0f, true, ~(uint64_t)0, 0.0f};
    __syncthreads();
}

static __device__ inline int choose(struct pick_shared &sm, const struct pick_task &t, float *row)
{
    struct view &v = sm.select.view;
    bool edits = t.masked || t.n_bias > 0 || t.n_banned > 0 || t.n_seen > 0;
    bool good = true;
    if (edits) {
        if (threadIdx.x == 0)
            v.allowed = t.masked ? t.words : NULL;
        __syncthreads();
        good = edit(sm, v, t, row);
        best_of(sm);
    }
    int token = sm.whole.id;
    if (!good)
        token = PICKED_BAD;
    else if (!(sm.whole.value > -INFINITY))
        token = PICKED_NONE;
    else if (t.temperature > 0.0f) {
        if (threadIdx.x == 0) {
            v.raw = false;
            v.most = sm.whole.value;
            v.temperature = t.temperature;
            v.last = ~(uint64_t)0;
            v.least = t.min_p < 1.0f ? t.min_p : 1.0f; /* the most likely token has 1 */
        }
        __syncthreads();
        token = sample(sm.select, t);
    }
    if (edits)
        restore(v, t, row);
    return token;
}

/* blockIdx: part of the row, pick. */
static __global__ void __launch_bounds__(PICK_THREADS, 1) pick_kernel(struct pick_job job)
{
    SHARED(struct pick_shared, sm);
    follow();
    size_t pick = blockIdx.y;
    if (!find_best(sm, job, pick))
        return;
    const struct pick_task &t = job.task[pick];
    struct pick_result *r = job.result + pick;
    float *row = job.logits + pick * (size_t)job.vocab;
    bool bad = sm.whole.bad;
    int token = PICKED_BAD;
    see_raw(sm, job, row);
    if (threadIdx.x == 0) {
        r->most = sm.whole.value;
        r->mass = 0;
        r->n_top = 0;
    }
    if (!bad && t.n_logprobs >= 0)
        judge(sm.select, t.n_logprobs, r);
    if (!bad && !t.judged)
        token = choose(sm, t, row);
    else if (!bad && t.given >= 0 && t.given < job.vocab)
        token = t.given;
    if (threadIdx.x == 0) {
        r->token = token;
        r->logit = token >= 0 ? row[token] : 0.0f;
        job.token[pick] = token;
    }
}

int launch_pick(const struct gpu *g, const struct pick_buffers *b, float *logits, int32_t n_picks,
                int32_t vocab)
{
    struct pick_job job = {b->task, b->result, b->token, logits, vocab};
    job.part = reinterpret_cast<struct best *>(g->partials.part);
    job.arrived = g->partials.arrived;
    int parts = n_picks > 0 ? min32(2 * g->n_multiprocessors / n_picks, vocab / PART_LEAST) : 1;
    parts = parts < 1 ? 1 : min32(parts, PARTS_MAX);
    int threads = vocab <= SHORT_VOCAB ? (int)SHORT_THREADS : (int)PICK_THREADS;
    return launch(pick_kernel, dim3((unsigned)parts, (unsigned)n_picks), threads,
                  sizeof(struct pick_shared), g, job);
}

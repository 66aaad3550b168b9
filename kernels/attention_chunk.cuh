#ifndef KERNELS_ATTENTION_CHUNK_CUH
#define KERNELS_ATTENTION_CHUNK_CUH

#include "kernels/attention.cuh"

/* Attention on tensor cores over a cache of int8 or halves (T), read as stored: what
 * attention_few.cu and attention_many.cu do alike.
 *
 * The unit of everything is a chunk: CHUNK keys that begin at a multiple of CHUNK in the
 * sequence, and TILE queries that share a kv head, by one warp. Each query has its part of the
 * chunk (largest score, sum, weighted values), and parts are joined in the order of the keys by one
 * expression, join(). So the result of a row depends on its position and its cache alone, and
 * two kernels may share the work as suits the step.
 *
 * Queries and weights are rounded to half, keys and values are exact in half, sums are float.
 * Scales of int8 keys multiply the scores, scales of values the weights. Shared memory is touched
 * through the wrappers of ptx.cuh alone, which count bank conflicts. */

enum {
    CHUNK = 64,
    TILE = 16,
    WARPS = 4,
    THREADS = WARPS * WARP,
    KEY_TILES = CHUNK / 8,
};

static constexpr float LOG2_E = 1.4426950408889634f;

/* Rows of the cache in shared memory, in pieces of 16 bytes: the same piece of eight rows that
 * follow each other lies in eight times four banks, as ldmatrix reads them. By a permutation where
 * rows are a power of two, else by an odd number of pieces to a row. */
template <int HD, typename T> struct rows {
    static constexpr int bytes = HD * (int)sizeof(T);
    static constexpr int pieces = bytes / 16;
    static constexpr bool permuted = (pieces & (pieces - 1)) == 0;
    static constexpr int stride = permuted || pieces % 2 ? bytes : bytes + 16;

    static __device__ inline shared_address place(int row, int piece)
    {
        if constexpr (permuted)
            piece ^= pieces < 8 ? row / 2 % pieces : row % 8;
        return (shared_address)(row * stride + 16 * piece);
    }
};

template <int HD, typename T> struct rows_shared {
    __align__(16) unsigned char at[CHUNK * rows<HD, T>::stride];
};

template <typename T> struct scales_shared {
};

template <> struct scales_shared<int8_t> {
    float key[CHUNK];
    float value[CHUNK];
};

/* Where the rows of a chunk and their scales lie: bytes from where the arrays of the layer begin.
 * Found once per key, by a thread each, long before they are wanted. */
struct chunk_places {
    size_t row[CHUNK];
    size_t scale[CHUNK];
};

/* Where the two pairs of dims lie that a lane has of 16. */
template <typename T> static __device__ inline int dims_of(int lane, int pair)
{
    return sizeof(T) == 2 ? 2 * (lane % 4) + 8 * pair : 4 * (lane % 4) + 2 * pair;
}

/* A lane's queries: rows g and g + 8 of its tile. */
struct queries {
    int position[2]; /* -1: there is none */
    int row[2];      /* row * n_heads + head, of y */
};

/* Of rows g and g + 8; the values of a part go from weigh() to where they are joined. */
struct part {
    float most[2];
    float sum[2];
};

/* exp2(m - next), and 1 where nothing has been seen, so that nothing joined to nothing stays. */
static __device__ inline float weight_of(float m, float next)
{
    return m == next ? 1.0f : exp2_fast(m - next);
}

static __device__ inline float join(float a, float weight_a, float b, float weight_b)
{
    return fmaf(a, weight_a, __fmul_rn(b, weight_b));
}

/* ---- fetching a chunk, by N threads ------------------------------------------------------ */

/* The blocks of a thread's keys: asked for first, used by put_places() later. */
template <int N> struct key_blocks {
    static constexpr int each = (CHUNK + N - 1) / N;
    int32_t block[each];
};

template <int N>
static __device__ inline void ask_blocks(struct key_blocks<N> &b, const struct places &p, int seq,
                                         int first, int end, int thread)
{
    const int32_t *table = p.step.block_table + (size_t)seq * (size_t)p.step.table_stride;
#pragma unroll
    for (int k = 0; k < key_blocks<N>::each; k++) {
        int key = thread + k * N;
        b.block[k] = 0;
        if (key < CHUNK && first + key < end)
            b.block[k] = table[(first + key) / p.shape.block_tokens];
    }
}

template <int HD, typename T, int N>
static __device__ inline void put_places(struct chunk_places &to, const struct key_blocks<N> &b,
                                         const struct places &p, int kv_head, int first, int thread)
{
#pragma unroll
    for (int k = 0; k < key_blocks<N>::each; k++) {
        int key = thread + k * N;
        if (key >= CHUNK) /* whole warps */
            break;
        struct kv_place at =
            kv_place(&p.kv, &p.shape, b.block[k], kv_head, (first + key) % p.shape.block_tokens);
        shared_put(&to.row[key], at.block + at.slot * (size_t)rows<HD, T>::bytes);
        if constexpr (sizeof(T) == 1)
            shared_put(&to.scale[key], at.block + at.slot * sizeof(float));
    }
}

/* Starts copying the rows of n keys; those beyond become zeros. Where threads keep their piece,
 * addresses are few and a constant apart. Halves are so many pieces that the addresses of all would
 * fill the registers. */
template <int HD, typename T, int N>
static __device__ inline void fetch_rows(struct rows_shared<HD, T> &to, const void *from,
                                         const struct chunk_places &places, int n, int thread)
{
    typedef struct rows<HD, T> rows_t;
    constexpr int PIECES = rows_t::pieces;
    constexpr int KEYS = N / PIECES; /* at once */
    constexpr int UNROLL = sizeof(T) == 1 ? CHUNK / KEYS : KEYS < 8 ? 8 / KEYS : 1;
    shared_address base = address_of(to.at);
    if constexpr (rows_t::permuted) {
        int own = thread / PIECES;
        int piece = thread % PIECES;
        const char *column = static_cast<const char *>(from) + 16 * piece;
#pragma unroll UNROLL
        for (int key = 0; key < CHUNK; key += KEYS)
            cp_async16(base + rows_t::place(key % 8 + own, piece) +
                           (shared_address)((key - key % 8) * rows_t::stride),
                       column + shared_get(&places.row[key + own]), key + own < n);
    } else {
#pragma unroll 2
        for (int at = thread; at < CHUNK * PIECES; at += N) /* whole warps */
            cp_async16(base + rows_t::place(at / PIECES, at % PIECES),
                       static_cast<const char *>(from) + shared_get(&places.row[at / PIECES]) +
                           16 * (at % PIECES),
                       at / PIECES < n);
    }
}

template <int N>
static __device__ inline void fetch_scales(struct scales_shared<int8_t> &to, const struct places &p,
                                           const struct chunk_places &places, int n, int thread)
{
#pragma unroll
    for (int at = 0; at < CHUNK; at += N) {
        int key = at + thread;
        if (key >= CHUNK) /* whole warps */
            break;
        size_t from = shared_get(&places.scale[key]);
        cp_async4(address_of(&to.key[key]), (const char *)p.kv.key_scale + from, key < n);
        cp_async4(address_of(&to.value[key]), (const char *)p.kv.value_scale + from, key < n);
    }
}

template <int N>
static __device__ inline void fetch_scales(struct scales_shared<uint16_t> &, const struct places &,
                                           const struct chunk_places &, int, int)
{
}

/* ---- one chunk ----------------------------------------------------------------------- */

/* A fragment's share of one row of queries, which carry the factor of the scores: of dims
 * 16 * step .. those that the keys' words have. */
template <typename T>
static __device__ inline void read_query(uint32_t (&a)[4], const float *query, bool real, int h,
                                         int step, float factor)
{
    int lane = (int)threadIdx.x % WARP;
#pragma unroll
    for (int pair = 0; pair < 2; pair++) {
        float2 v = {0, 0};
        if (real)
            v = *reinterpret_cast<const float2 *>(query + 16 * step + dims_of<T>(lane, pair));
        a[h + 2 * pair] = pack_half2_limited(v.x * factor, v.y * factor);
    }
}

static __device__ inline float score_factor(const struct places &p)
{
    return p.shape.score_scale * LOG2_E;
}

/* The words that a lane has of 16 dims of a key, by one product. */
static __device__ inline void score_step(float (&s)[4], const uint32_t (&a)[4], int8_t,
                                         const uint32_t *word)
{
    uint32_t b0;
    uint32_t b1;
    half_of_int8(word[0], &b0, &b1);
    mma_f16(s, a, b0, b1);
}

static __device__ inline void score_step(float (&s)[4], const uint32_t (&a)[4], uint16_t,
                                         const uint32_t *word)
{
    mma_f16(s, a, word[0], word[1]);
}

/* Pieces AT .. AT + WIDE of all keys, four matrices of 8 keys x 16 bytes at a time: the pieces of
 * one tile of keys, or one or two pieces of several. query(step, a) gives the fragments of 16 dims;
 * every key's steps are taken in order, whoever holds the queries. */
template <int HD, typename T, int AT, int WIDE, typename Q>
static __device__ inline void score_pieces(float (&s)[KEY_TILES][4],
                                           const struct rows_shared<HD, T> &keys, const Q &query)
{
    constexpr int STEP = (int)sizeof(T); /* pieces of 16 dims */
    constexpr int STEPS = WIDE / STEP;
    constexpr int TILES = 4 / WIDE;
    int lane = (int)threadIdx.x % WARP;
    shared_address base = address_of(keys.at);
    uint32_t a[STEPS][4];
#pragma unroll
    for (int k = 0; k < STEPS; k++)
        query(AT / STEP + k, a[k]);
#pragma unroll
    for (int j = 0; j < KEY_TILES; j += TILES) {
        uint32_t word[4];
        ldmatrix_x4(word, base + rows<HD, T>::place(8 * (j + lane / 8 / WIDE) + lane % 8,
                                                    AT + lane / 8 % WIDE));
#pragma unroll
        for (int k = 0; k < TILES * STEPS; k++)
            score_step(s[j + k / STEPS], a[k % STEPS], T(), word + k * STEP);
    }
}

template <int HD, typename T, int AT, typename Q>
static __device__ inline void score_from(float (&s)[KEY_TILES][4],
                                         const struct rows_shared<HD, T> &keys, const Q &query)
{
    constexpr int LEFT = rows<HD, T>::pieces - AT;
    constexpr int WIDE = LEFT >= 4 ? 4 : LEFT;
    if constexpr (LEFT > 0) {
        static_assert(4 % WIDE == 0, "head_dim");
        score_pieces<HD, T, AT, WIDE>(s, keys, query);
        score_from<HD, T, AT + WIDE>(s, keys, query);
    }
}

static __device__ inline float2 two_of(const float *scale, int key)
{
    return shared_get(reinterpret_cast<const float2 *>(scale + key));
}

/* What a lane's scores of two neighbouring keys are multiplied by. */
static __device__ inline float2 key_scales(const struct scales_shared<int8_t> &c, int key)
{
    return two_of(c.key, key);
}

static __device__ inline float2 key_scales(const struct scales_shared<uint16_t> &, int)
{
    return float2{1.0f, 1.0f};
}

static __device__ inline float2 value_scales(const struct scales_shared<int8_t> &c, int key)
{
    return two_of(c.value, key);
}

static __device__ inline float2 value_scales(const struct scales_shared<uint16_t> &, int)
{
    return float2{1.0f, 1.0f};
}

/* Row g + 8 h of soften(). */
template <typename T>
static __device__ inline void soften_row(float (&s)[KEY_TILES][4], struct part &r, int h,
                                         const struct scales_shared<T> &c, int last, int none)
{
    int i = (int)threadIdx.x % 4;
    float most = -INFINITY;
    float sum = 0.0f;
#pragma unroll
    for (int j = 0; j < KEY_TILES; j++) {
        float2 scale = key_scales(c, 8 * j + 2 * i);
#pragma unroll
        for (int e = 0; e < 2; e++) {
            float *x = &s[j][2 * h + e];
            bool seen = 8 * j + e <= last && 8 * j + e > none;
            *x = seen ? *x * (e == 0 ? scale.x : scale.y) : -INFINITY;
            most = max_nan(*x, most);
        }
    }
    most = max_nan(most, __shfl_xor_sync(0xffffffffu, most, 1));
    most = max_nan(most, __shfl_xor_sync(0xffffffffu, most, 2));
    float from = most == -INFINITY ? 0.0f : most;
#pragma unroll
    for (int j = 0; j < KEY_TILES; j++) {
        float2 scale = value_scales(c, 8 * j + 2 * i);
#pragma unroll
        for (int e = 0; e < 2; e++) {
            float *x = &s[j][2 * h + e];
            bool seen = *x != -INFINITY;
            float weight = exp2_fast(*x - from);
            sum += weight;
            *x = seen ? weight * (e == 0 ? scale.x : scale.y) : 0.0f;
        }
    }
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    r.most[h] = most;
    r.sum[h] = sum;
}

/* Scores to weights, in place: what a row does not see weighs nothing. The weights come out
 * multiplied by the values' scales. With HALVES 1, rows from 8 on are nobody's. */
template <int HALVES, typename T>
static __device__ inline void soften(float (&s)[KEY_TILES][4], struct part &r,
                                     const struct scales_shared<T> &c, const struct places &p,
                                     const struct queries &q, int first)
{
    int i = (int)threadIdx.x % 4;
    int window = p.shape.window;
#pragma unroll
    for (int h = 0; h < HALVES; h++) {
        int last =
            q.position[h] - first - 2 * i; /* of those that are seen, from the lane's first */
        int none = window > 0 ? last - window : -1;
        soften_row(s, r, h, c, last, none);
    }
#pragma unroll
    for (int j = 0; HALVES == 1 && j < KEY_TILES; j++)
        s[j][2] = s[j][3] = 0.0f;
}

/* Values by weights: emit(block, h, v) takes row g + 8 h, of 16 dims those of dims_of(), when they
 * are complete. */
template <int HD, typename F>
static __device__ inline void weigh_pieces(const uint32_t (&a)[CHUNK / 16][4],
                                           const struct rows_shared<HD, uint16_t> &values,
                                           const F &emit)
{
    int lane = (int)threadIdx.x % WARP;
    shared_address base = address_of(values.at);
#pragma unroll
    for (int b = 0; b < HD / 16; b++) {
        float low[4] = {};
        float high[4] = {};
#pragma unroll
        for (int t = 0; t < CHUNK / 16; t++) {
            uint32_t v[4];
            ldmatrix_x4_transposed(
                v, base + rows<HD, uint16_t>::place(16 * t + lane % 16, 2 * b + lane / 16));
            mma_f16(low, a[t], v[0], v[1]);
            mma_f16(high, a[t], v[2], v[3]);
        }
#pragma unroll
        for (int h = 0; h < 2; h++)
            emit(b, h, float4{low[2 * h], low[2 * h + 1], high[2 * h], high[2 * h + 1]});
    }
}

/* Two int8 share 16 bits: read transposed, a word holds two neighbouring dims of two keys, which go
 * to two products. */
template <int HD, typename F>
static __device__ inline void weigh_pieces(const uint32_t (&a)[CHUNK / 16][4],
                                           const struct rows_shared<HD, int8_t> &values,
                                           const F &emit)
{
    constexpr int BLOCKS = HD / 16;
    int lane = (int)threadIdx.x % WARP;
    shared_address base = address_of(values.at);
#pragma unroll
    for (int b = 0; b < BLOCKS; b += 2) {
        int block = b + lane / 16 < BLOCKS ? b + lane / 16 : b;
        float even[2][4] = {};
        float odd[2][4] = {};
#pragma unroll
        for (int t = 0; t < CHUNK / 16; t++) {
            uint32_t v[4];
            ldmatrix_x4_transposed(v, base + rows<HD, int8_t>::place(16 * t + lane % 16, block));
#pragma unroll
            for (int k = 0; k < 2 && b + k < BLOCKS; k++) {
                uint32_t e0, o0, e1, o1;
                half_of_int8_apart(v[2 * k], &e0, &o0);
                half_of_int8_apart(v[2 * k + 1], &e1, &o1);
                mma_f16(even[k], a[t], e0, e1);
                mma_f16(odd[k], a[t], o0, o1);
            }
        }
#pragma unroll
        for (int k = 0; k < 2 && b + k < BLOCKS; k++)
#pragma unroll
            for (int h = 0; h < 2; h++)
                emit(b + k, h,
                     float4{even[k][2 * h], odd[k][2 * h], even[k][2 * h + 1], odd[k][2 * h + 1]});
    }
}

template <int HD, typename T, typename F>
static __device__ inline void weigh(const float (&s)[KEY_TILES][4],
                                    const struct rows_shared<HD, T> &values, const F &emit)
{
    uint32_t a[CHUNK / 16][4];
#pragma unroll
    for (int t = 0; t < CHUNK / 16; t++) {
        a[t][0] = pack_half2(s[2 * t][0], s[2 * t][1]);
        a[t][1] = pack_half2(s[2 * t][2], s[2 * t][3]);
        a[t][2] = pack_half2(s[2 * t + 1][0], s[2 * t + 1][1]);
        a[t][3] = pack_half2(s[2 * t + 1][2], s[2 * t + 1][3]);
    }
    weigh_pieces<HD>(a, values, emit);
}

/* First key that a position sees. */
static __device__ inline int first_seen(const struct places &p, int position)
{
    int window = p.shape.window;
    return window > 0 && position + 1 > window ? position + 1 - window : 0;
}

/* Query `at` of the rows row0 .. row_end, each with its kv head's group: row g + 8 h of a tile. */
static __device__ inline const float *find_query(struct queries &q, int h, const float *qkv,
                                                 const struct places &p, int row0, int row_end,
                                                 int kv_head, int at)
{
    int group = p.shape.n_heads / p.shape.n_kv_heads;
    int n_all = p.shape.n_heads + 2 * p.shape.n_kv_heads;
    int row = row0 + at / group;
    int head = kv_head * group + at % group;
    q.position[h] = row < row_end ? p.step.position[row] : -1;
    q.row[h] = row * p.shape.n_heads + head;
    return qkv + ((size_t)row * (size_t)n_all + (size_t)head) * (size_t)p.shape.head_dim;
}

/* ---- which kernel of a template ---------------------------------------------------------- */

template <int HD, typename T> struct kept_as {
    static constexpr int head_dim = HD;
    typedef T number;
};

template <int HD, typename F> static inline int of_number(const struct places *p, const F &f)
{
    return p->kv.kind == NUM_Q8 ? f(kept_as<HD, int8_t>()) : f(kept_as<HD, uint16_t>());
}

/* f(kept_as<>()) of a cache that attention_flash_fits(). */
template <typename F> static inline int of_kept(const struct places *p, const F &f)
{
    switch (p->shape.head_dim) {
    case 64:
        return of_number<64>(p, f);
    case 80:
        return of_number<80>(p, f);
    case 96:
        return of_number<96>(p, f);
    default:
        return of_number<128>(p, f);
    }
}

#endif

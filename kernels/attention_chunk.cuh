#ifndef KERNELS_ATTENTION_CHUNK_CUH
#define KERNELS_ATTENTION_CHUNK_CUH

#include "kernels/attention.cuh"

/* One chunk of keys and values and one tile of queries on tensor cores, by one warp: what both
 * kernels of attention_flash.cu do alike. T is what the cache holds: int8 or the bits of halves. */

enum {
    CHUNK = 64,
    TILE = 16,
    WARPS = 4,
    THREADS = WARPS * WARP,
    KEY_TILES = CHUNK / 8,
    MANY_QUERIES = WARPS * TILE,
    BUFFERS = 2, /* of the prompts' walk */
};

static constexpr float LOG2_E = 1.4426950408889634f;

/* Rows of the cache in shared memory: padded, so that what is read together lies in eight times
 * four banks: values in pieces of 16 bytes from eight rows, int8 keys in words of 4 bytes from
 * eight rows, halves in words of 8 bytes from four rows. */
template <int HD, typename T> struct rows {
    static constexpr int bytes = HD * (int)sizeof(T);
    static constexpr int value = (bytes + 16) / 4 % 8 == 4 ? bytes + 16 : bytes + 32;
    static constexpr int key = sizeof(T) == 1 ? value : bytes / 4 % 16 == 8 ? bytes : bytes + 32;
};

template <typename T> struct scales_shared {
};

template <> struct scales_shared<int8_t> {
    float key_scale[CHUNK];
    float value_scale[CHUNK];
};

template <int HD, typename T> struct chunk_shared : scales_shared<T> {
    union {
        unsigned char key[CHUNK][rows<HD, T>::key];
        float part[TILE][HD + 2]; /* a row's values, largest score, sum; when keys are done with */
    };
    unsigned char value[CHUNK][rows<HD, T>::value];
};

/* Where the two pairs of dims lie that a lane has of 16. */
template <typename T> static __device__ inline int dims_of(int lane, int pair)
{
    return sizeof(T) == 2 ? 2 * (lane % 4) + 8 * pair : 4 * (lane % 4) + 2 * pair;
}

/* The 16 dims are 8-byte aligned. */
template <typename T> static __device__ inline void put4(float *to, float4 v)
{
    int lane = (int)threadIdx.x % WARP;
    *reinterpret_cast<float2 *>(to + dims_of<T>(lane, 0)) = float2{v.x, v.y};
    *reinterpret_cast<float2 *>(to + dims_of<T>(lane, 1)) = float2{v.z, v.w};
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
    return m == next ? 1.0f : exp2f(m - next);
}

static __device__ inline float join(float a, float weight_a, float b, float weight_b)
{
    return __fadd_rn(__fmul_rn(a, weight_a), __fmul_rn(b, weight_b));
}

/* ---- one chunk ----------------------------------------------------------------------- */

/* Starts copying keys first .. of a sequence, those below end, by n threads. */
template <int HD, typename T>
static __device__ inline void fetch(struct chunk_shared<HD, T> &to, const struct places &p, int seq,
                                    int kv_head, int first, int end, int thread, int n)
{
    constexpr int PIECES = rows<HD, T>::bytes / 16;
    for (int at = thread; at < CHUNK * PIECES; at += n) {
        int key = at / PIECES;
        int piece = at % PIECES;
        bool real = first + key < end;
        struct kv_place from = {};
        if (real)
            from = place_of(p, seq, first + key, kv_head);
        const char *keys = static_cast<char *>(kv_row(p.kv.key, from, rows<HD, T>::bytes));
        const char *values = static_cast<char *>(kv_row(p.kv.value, from, rows<HD, T>::bytes));
        cp_async16(address_of(&to.key[key][16 * piece]), keys + 16 * piece, real);
        cp_async16(address_of(&to.value[key][16 * piece]), values + 16 * piece, real);
    }
    cp_async_commit();
    if constexpr (sizeof(T) == 1) {
        for (int key = thread; key < CHUNK; key += n) {
            bool real = first + key < end;
            struct kv_place at = {};
            if (real)
                at = place_of(p, seq, first + key, kv_head);
            to.key_scale[key] = real ? *kv_scale(p.kv.key_scale, at) : 0.0f;
            to.value_scale[key] = real ? *kv_scale(p.kv.value_scale, at) : 0.0f;
        }
    }
}

/* Fragments of a tile's queries; their dims permuted as the keys' words lie. */
template <int HD>
static __device__ inline void read_queries(uint32_t (&a)[HD / 16][4], const float *qkv,
                                           const struct places &p, const struct queries &q,
                                           const int (&row)[2], const int (&head)[2])
{
    int i = (int)threadIdx.x % 4;
    int n_all = p.shape.n_heads + 2 * p.shape.n_kv_heads;
#pragma unroll
    for (int step = 0; step < HD / 16; step++) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float4 v = {0, 0, 0, 0};
            if (q.position[h] >= 0)
                v = *reinterpret_cast<const float4 *>(
                    qkv + ((size_t)row[h] * (size_t)n_all + (size_t)head[h]) * HD +
                    (size_t)(16 * step + 4 * i));
            a[step][h] = pack_half2(half_range(v.x), half_range(v.y));
            a[step][h + 2] = pack_half2(half_range(v.z), half_range(v.w));
        }
    }
}

/* The scores' share of 16 dims: steps are taken in order, whoever holds the queries. */
template <int HD, typename T>
static __device__ inline void score_step(float (&s)[KEY_TILES][4], const uint32_t (&a)[4],
                                         const struct chunk_shared<HD, T> &c, int step)
{
    int g = (int)threadIdx.x % WARP / 4;
    int i = (int)threadIdx.x % 4;
#pragma unroll
    for (int j = 0; j < KEY_TILES; j++) {
        uint32_t b0;
        uint32_t b1;
        int row = 8 * j + g;
        if constexpr (sizeof(T) == 1) {
            half_of_int8(*reinterpret_cast<const uint32_t *>(&c.key[row][16 * step + 4 * i]), &b0,
                         &b1);
        } else {
            uint2 four = *reinterpret_cast<const uint2 *>(&c.key[row][32 * step + 8 * i]);
            b0 = four.x;
            b1 = four.y;
        }
        mma_f16(s[j], a, b0, b1);
    }
}

template <int HD, typename T>
static __device__ inline float key_scaled(const struct chunk_shared<HD, T> &c, float x, int key)
{
    if constexpr (sizeof(T) == 1)
        x *= c.key_scale[key];
    return x;
}

template <int HD, typename T>
static __device__ inline float value_scaled(const struct chunk_shared<HD, T> &c, float x, int key)
{
    if constexpr (sizeof(T) == 1)
        x *= c.value_scale[key];
    return x;
}

/* Scores to weights, in place: what a row does not see weighs nothing. The weights come out
 * multiplied by the values' scales. */
template <int HD, typename T>
static __device__ inline void soften(float (&s)[KEY_TILES][4], struct part &r,
                                     const struct chunk_shared<HD, T> &c, const struct places &p,
                                     const struct queries &q, int first)
{
    int i = (int)threadIdx.x % 4;
    float factor = p.shape.score_scale * LOG2_E;
    r.most[0] = r.most[1] = -INFINITY;
    r.sum[0] = r.sum[1] = 0.0f;
#pragma unroll
    for (int j = 0; j < KEY_TILES; j++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            int key = 8 * j + 2 * i + e % 2;
            int behind = q.position[e / 2] - (first + key);
            bool seen = behind >= 0 && (p.shape.window <= 0 || behind < p.shape.window);
            s[j][e] = seen ? key_scaled(c, s[j][e], key) * factor : -INFINITY;
            r.most[e / 2] = max_or_nan(s[j][e], r.most[e / 2]);
        }
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        r.most[h] = max_or_nan(r.most[h], __shfl_xor_sync(0xffffffffu, r.most[h], 1));
        r.most[h] = max_or_nan(r.most[h], __shfl_xor_sync(0xffffffffu, r.most[h], 2));
    }
#pragma unroll
    for (int j = 0; j < KEY_TILES; j++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            bool seen = s[j][e] != -INFINITY;
            float weight = seen ? exp2f(s[j][e] - r.most[e / 2]) : 0.0f;
            r.sum[e / 2] += weight;
            s[j][e] = seen ? value_scaled(c, weight, 8 * j + 2 * i + e % 2) : 0.0f;
        }
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        r.sum[h] += __shfl_xor_sync(0xffffffffu, r.sum[h], 1);
        r.sum[h] += __shfl_xor_sync(0xffffffffu, r.sum[h], 2);
    }
}

/* Values by weights: emit(block, h, v) takes row g + 8 h, of 16 dims those of dims_of(), when they
 * are complete. */
template <int HD, typename F>
static __device__ inline void weigh_pieces(const uint32_t (&a)[CHUNK / 16][4],
                                           const struct chunk_shared<HD, uint16_t> &c, F emit)
{
    int lane = (int)threadIdx.x % WARP;
#pragma unroll
    for (int b = 0; b < HD / 16; b++) {
        float low[4] = {};
        float high[4] = {};
#pragma unroll
        for (int t = 0; t < CHUNK / 16; t++) {
            int row = 16 * t + lane % 16;
            uint32_t v[4];
            ldmatrix_x4_transposed(v, address_of(&c.value[row][32 * b + lane / 16 * 16]));
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
                                           const struct chunk_shared<HD, int8_t> &c, F emit)
{
    constexpr int BLOCKS = HD / 16;
    int lane = (int)threadIdx.x % WARP;
#pragma unroll
    for (int b = 0; b < BLOCKS; b += 2) {
        int block = b + lane / 16 < BLOCKS ? b + lane / 16 : b;
        float even[2][4] = {};
        float odd[2][4] = {};
#pragma unroll
        for (int t = 0; t < CHUNK / 16; t++) {
            uint32_t v[4];
            ldmatrix_x4_transposed(v, address_of(&c.value[16 * t + lane % 16][16 * block]));
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
                                    const struct chunk_shared<HD, T> &c, F emit)
{
    uint32_t a[CHUNK / 16][4];
#pragma unroll
    for (int t = 0; t < CHUNK / 16; t++) {
        a[t][0] = pack_half2(s[2 * t][0], s[2 * t][1]);
        a[t][1] = pack_half2(s[2 * t][2], s[2 * t][3]);
        a[t][2] = pack_half2(s[2 * t + 1][0], s[2 * t + 1][1]);
        a[t][3] = pack_half2(s[2 * t + 1][2], s[2 * t + 1][3]);
    }
    weigh_pieces<HD>(a, c, emit);
}

/* First key that a position sees. */
static __device__ inline int first_seen(const struct places &p, int position)
{
    int window = p.shape.window;
    return window > 0 && position + 1 > window ? position + 1 - window : 0;
}

/* Queries 16 * tile + g and + 8 of the rows row0 .. row_end, each with its kv head's group. */
static __device__ inline void find_queries(struct queries &q, int (&row)[2], int (&head)[2],
                                           const struct places &p, int row0, int row_end,
                                           int kv_head, int tile)
{
    int group = p.shape.n_heads / p.shape.n_kv_heads;
    int g = (int)threadIdx.x % WARP / 4;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int at = TILE * tile + g + 8 * h;
        row[h] = row0 + at / group;
        head[h] = kv_head * group + at % group;
        bool real = row[h] < row_end;
        q.position[h] = real ? p.step.position[row[h]] : -1;
        q.row[h] = row[h] * p.shape.n_heads + head[h];
    }
}

#endif

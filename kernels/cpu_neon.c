/* aarch64 with the dot product of NEON: sixteen int8 products per instruction, signed by signed,
 * so sums are exact as they are. Loops of floats are those of cpu_lanes.h, which the compiler
 * makes vectors of for every aarch64. */

#include "kernels/cpu_kernels.h"

#if defined(__aarch64__)

#include "kernels/cpu_attend.h"
#include "kernels/cpu_lanes.h"

#include <arm_neon.h>
#include <sys/auxv.h>

#define TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#define TILE   TARGET static inline __attribute__((always_inline))

enum {
    STEP = 16,    /* int8 of a register */
    CHAINS = 4,   /* sums of one row under way at once */
    AHEAD = 4096, /* bytes between the weights read and those asked for */
    WIDE_W = 16,
    PASS_W = 4, /* weight rows of a pass: with four vectors of rows, half of the registers */
    QUAD = 4,
    DOT = 4, /* products of one lane */
};

/* n_a is a constant where this is inlined. */
TILE void row_sums(int32_t *total, const struct q8_tile *t, const int8_t *w, const int n_a)
{
    size_t k = (size_t)t->k;
    int32x4_t sum[Q8_TILE_A][CHAINS];
    for (int r = 0; r < n_a; r++) {
        for (int c = 0; c < CHAINS; c++)
            sum[r][c] = vdupq_n_s32(0);
    }
    size_t j = 0;
    for (; j + (size_t)CHAINS * STEP <= k; j += (size_t)CHAINS * STEP) {
        __builtin_prefetch(w + j + AHEAD);
        for (size_t c = 0; c < CHAINS; c++) {
            int8x16_t v = vld1q_s8(w + j + c * STEP);
            for (int r = 0; r < n_a; r++)
                sum[r][c] = vdotq_s32(sum[r][c], v, vld1q_s8(t->a + (size_t)r * k + j + c * STEP));
        }
    }
    for (int r = 0; r < n_a; r++) {
        int32x4_t low = vaddq_s32(sum[r][0], sum[r][1]);
        total[r] = vaddvq_s32(vaddq_s32(low, vaddq_s32(sum[r][2], sum[r][3])));
        for (size_t i = j; i < k; i++)
            total[r] += (int32_t)w[i] * (int32_t)t->a[(size_t)r * k + i];
    }
}

TILE void tile(const struct q8_tile *t, const int n_a)
{
    for (int32_t i = 0; i < t->n_w; i++) {
        int32_t total[Q8_TILE_A];
        row_sums(total, t, t->w + (size_t)i * (size_t)t->k, n_a);
        for (int r = 0; r < n_a; r++)
            t->sum[r * Q8_TILE_W + i] = total[r];
    }
}

TARGET static void q8_tile(const struct q8_tile *t)
{
    if (t->n_a == 1)
        tile(t, 1);
    else if (t->n_a == 2)
        tile(t, 2);
    else if (t->n_a == 3)
        tile(t, 3);
    else
        tile(t, Q8_TILE_A);
}

/* ---- wide: many activation rows, each lane of a register one of them ---- */

static void wide_pack(void *dst, const int8_t *a, int32_t n_a, int32_t k)
{
    uint8_t *to = dst;
    memset(to, 0, q8_panel_bytes(k));
    for (int32_t i = 0; i < n_a; i++) {
        const int8_t *row = a + (size_t)i * (size_t)k;
        int32_t j = 0;
        for (; j + DOT <= k; j += DOT)
            memcpy(to + (size_t)j * Q8_PANEL + (size_t)i * DOT, row + j, DOT);
        memcpy(to + (size_t)j * Q8_PANEL + (size_t)i * DOT, row + j, (size_t)(k - j));
    }
}

/* Four weight rows by four k from `lane` on: a [Q8_PANEL][DOT]. */
#define WIDE_LANE(lane)                                                                            \
    for (int v = 0; v < QUAD; v++) {                                                               \
        int8x16_t x = vld1q_s8(a + (lane) * (Q8_PANEL * DOT) + v * STEP);                          \
        for (int i = 0; i < PASS_W; i++)                                                           \
            sum[i][v] = vdotq_laneq_s32(sum[i][v], x, w[i], lane);                                 \
    }

TILE void wide_step(int32x4_t sum[PASS_W][QUAD], const int8x16_t w[PASS_W],
                    const int8_t *a){WIDE_LANE(0) WIDE_LANE(1) WIDE_LANE(2) WIDE_LANE(3)}

/* Four weight rows of four activation rows to [4][WIDE_W]. */
TILE void wide_turn(int32_t *to, int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d)
{
    int64x2_t ab = vreinterpretq_s64_s32(vtrn1q_s32(a, b));
    int64x2_t ab_odd = vreinterpretq_s64_s32(vtrn2q_s32(a, b));
    int64x2_t cd = vreinterpretq_s64_s32(vtrn1q_s32(c, d));
    int64x2_t cd_odd = vreinterpretq_s64_s32(vtrn2q_s32(c, d));
    vst1q_s32(to, vreinterpretq_s32_s64(vtrn1q_s64(ab, cd)));
    vst1q_s32(to + WIDE_W, vreinterpretq_s32_s64(vtrn1q_s64(ab_odd, cd_odd)));
    vst1q_s32(to + 2 * WIDE_W, vreinterpretq_s32_s64(vtrn2q_s64(ab, cd)));
    vst1q_s32(to + 3 * WIDE_W, vreinterpretq_s32_s64(vtrn2q_s64(ab_odd, cd_odd)));
}

/* Four weight rows from `first` by one panel. Rows beyond the last repeat it. */
TILE void wide_pass(const struct q8_wide_tile *t, int32_t first, int32_t row)
{
    size_t k = (size_t)t->k;
    const int8_t *a = (const int8_t *)t->a + (size_t)(row / Q8_PANEL) * t->panel_bytes;
    const int8_t *from[PASS_W];
    int32x4_t sum[PASS_W][QUAD];
    int8x16_t w[PASS_W];
    for (int i = 0; i < PASS_W; i++) {
        from[i] = t->w + (size_t)min32(first + i, t->n_w - 1) * k;
        for (int v = 0; v < QUAD; v++)
            sum[i][v] = vdupq_n_s32(0);
    }
    size_t j = 0;
    for (; j + STEP <= k; j += STEP) {
        for (int i = 0; i < PASS_W; i++)
            w[i] = vld1q_s8(from[i] + j);
        wide_step(sum, w, a + j * Q8_PANEL);
    }
    if (j < k) {
        for (int i = 0; i < PASS_W; i++) {
            int8_t rest[STEP] = {0};
            memcpy(rest, from[i] + j, k - j);
            w[i] = vld1q_s8(rest);
        }
        wide_step(sum, w, a + j * Q8_PANEL);
    }
    int32_t *to = t->sum + (size_t)row * WIDE_W + first;
    for (int v = 0; v < QUAD; v++)
        wide_turn(to + v * QUAD * WIDE_W, sum[0][v], sum[1][v], sum[2][v], sum[3][v]);
}

TARGET static void wide_sums(const struct q8_wide_tile *t)
{
    for (int32_t first = 0; first < t->n_w; first += PASS_W) {
        for (int32_t row = 0; row < t->n_a; row += Q8_PANEL)
            wide_pass(t, first, row);
    }
}

static const struct q8_wide wide = {
    .n_w = WIDE_W, .panel_bytes = q8_panel_bytes, .pack = wide_pack, .sums = wide_sums};

LANES_LOOPS_PLAIN()

const struct cpu_kernels *cpu_kernels_neon(void)
{
    static const struct cpu_kernels table = LANES_TABLE("neon sdot", &attend_plain, &wide);
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP ? &table : NULL;
}

#else

const struct cpu_kernels *cpu_kernels_neon(void)
{
    return NULL;
}

#endif

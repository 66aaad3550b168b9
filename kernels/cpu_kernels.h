#ifndef KERNELS_CPU_KERNELS_H
#define KERNELS_CPU_KERNELS_H

#include "kernels/base.h"

/* The innermost loops of the cpu backend, one table per instruction set.
 *
 * Every table computes the same bits: integer sums are exact, and float sums run
 * in LANES partial sums (element i goes to lane i mod LANES) that are then added
 * by halves, 8 + 8, 4 + 4, 2 + 2, 1 + 1. No multiply is fused with an add. */

enum {
    LANES = 16,
    Q8_TILE_W = 8, /* weight rows of one int8 tile */
    Q8_TILE_A = 4, /* activation rows of one int8 tile */
    Q8_FEW_W = 16, /* weight rows of a tile of few rows: a line of floats, written whole */
    Q8_FEW_A = 32,
    Q8_PANEL = 16,   /* activation rows of a panel */
    Q8_PANEL_K = 64, /* k of a panel is filled up to a multiple of this */
    Q8_WIDE_W_MAX = 32,
    /* A number of 16 bit is SPLIT * high + low, both within -127 .. 127. */
    SPLIT = 254,
    SPLIT_MOST = SPLIT * 127 + 126,
    FLOAT_TILE_W = 4, /* the same for float tiles */
    FLOAT_TILE_A = 2,
};

/* sum = W A^T for a few rows of each, exact. */
struct q8_tile {
    const int8_t *w;      /* [n_w][k] */
    const int8_t *a;      /* [n_a][k], -127 .. 127 as quantize() makes them */
    const int32_t *a_sum; /* [n_a] sums of the rows of a */
    int32_t n_w;          /* 1 .. Q8_TILE_W */
    int32_t n_a;          /* 1 .. Q8_TILE_A */
    int32_t k;
    bool near;    /* these weights were read a moment ago, by the tile before */
    int32_t *sum; /* [n_a][Q8_TILE_W] */
};

/* The same for up to Q8_FEW_A activation rows, packed before in whatever order serves the
 * instruction set. */
struct q8_few_tile {
    const int8_t *w;      /* [n_w][k] */
    const int32_t *w_sum; /* [n_w] of each row of w */
    const uint8_t *a;     /* packed, 64-byte aligned */
    int32_t n_w;          /* 1 .. Q8_FEW_W */
    int32_t n_a;          /* 1 .. Q8_FEW_A */
    int32_t k;
    int32_t *sum; /* [Q8_FEW_A][Q8_FEW_W], of which n_a by n_w count */
};

struct q8_few {
    /* n_a rows; of each Q8_PANEL of them at most q8_panel_bytes(k) */
    void (*pack)(uint8_t *dst, const int8_t *a, int32_t n_a, int32_t k);
    void (*sums)(const struct q8_few_tile *t);
};

/* The same for many activation rows, which are packed before: a panel holds Q8_PANEL of them,
 * side by side in whatever order serves the instruction set. */
struct q8_wide_tile {
    const int8_t *w;      /* [n_w][k] */
    const int32_t *w_sum; /* [n_w] of each row of w; NULL: not known */
    const uint8_t *a;     /* packed panels, 64-byte aligned */
    size_t panel_bytes;   /* from one to the next */
    int32_t n_w;          /* 1 .. n_w of the table */
    int32_t n_a;          /* activation rows, 1 or more; the last panel may have fewer */
    int32_t k;
    const int8_t *next; /* [n_w][k] where the weights to come are, or NULL */
    int32_t *sum;       /* [n_a, rounded up to whole panels][n_w of the table] */
};

struct q8_wide {
    int32_t n_w;                      /* weight rows of a tile, at most Q8_WIDE_W_MAX */
    size_t (*panel_bytes)(int32_t k); /* a multiple of 64 */
    /* One panel of n_a rows. */
    void (*pack)(void *dst, const int8_t *a, int32_t n_a, int32_t k);
    void (*sums)(const struct q8_wide_tile *t);
};

/* Of a panel that holds int8 and nothing else. */
static inline size_t q8_panel_bytes(int32_t k)
{
    size_t steps = ((size_t)k + Q8_PANEL_K - 1) / Q8_PANEL_K;
    return steps * Q8_PANEL_K * Q8_PANEL;
}

/* y [n_a][stride] = (float)sum * x_scale * w_scale + bias, or y += with accumulate. Of split rows
 * it is (SPLIT * (float)high + (float)low) in place of (float)sum. */
struct q8_out {
    float *y;
    size_t stride;
    const int32_t *sum; /* [n_a][sum_stride], of split rows [n_a][2][sum_stride] */
    int32_t sum_stride;
    int32_t n_a;
    bool split;
    int32_t n_w;
    const float *x_scale; /* [n_a] */
    const float *w_scale; /* [n_w] */
    const float *bias;    /* [n_w] or NULL */
    bool accumulate;
};

/* sum = W A^T in floats. */
struct float_tile {
    const float *w; /* [n_w][k] */
    const float *a; /* [n_a][k] */
    int32_t n_w;    /* 1 .. FLOAT_TILE_W */
    int32_t n_a;    /* 1 .. FLOAT_TILE_A */
    int32_t k;
    float *sum; /* [n_a][FLOAT_TILE_W] */
};

struct cpu_kernels {
    const char *name;
    void (*q8_tile)(const struct q8_tile *t); /* NULL where there is few */
    const struct q8_few *few;                 /* NULL: tiles serve few rows */
    int32_t few_most;           /* rows that it serves; more are for wide, which is then there */
    const struct q8_wide *wide; /* NULL: tiles serve any number of rows */
    void (*q8_put)(const struct q8_out *t);
    void (*float_tile)(const struct float_tile *t);
    /* Sum of n int8 values. */
    int32_t (*q8_sum)(const int8_t *q, size_t n);
    float (*square_sum)(const float *x, size_t n);
    /* *scale = absmax / 127, q = x * (127 / absmax) rounded to nearest even. A row
     * of (next to) nothing gives 0 and zeros; one that is not finite NaN and zeros. */
    void (*quantize)(int8_t *q, float *scale, const float *x, size_t n);
    /* The same to 16 bit: x = scale * (SPLIT * q[i] + q[n + i]), scale = absmax / SPLIT_MOST. */
    void (*quantize_split)(int8_t *q, float *scale, const float *x, size_t n);
    /* y = gate / (1 + exp(-gate)) * up */
    void (*silu_mul)(float *y, const float *gate, const float *up, size_t n);
    /* dst = (float)src */
    void (*widen)(float *dst, const int8_t *src, size_t n);
    /* dst = the halves of src (half.h), which is exact */
    void (*widen_half)(float *dst, const uint16_t *src, size_t n);
    /* s[t] = q . k[t]; dim is a multiple of LANES. */
    void (*dots)(float *s, const float *q, const float *k, size_t n, size_t dim);
    /* y += p[t] * v[t] for t in order; dim is a multiple of LANES. */
    void (*weigh)(float *y, const float *p, const float *v, size_t n, size_t dim);
    float (*max)(const float *x, size_t n);
    /* x = exp(x - max); returns the sum. */
    float (*exp_sum)(float *x, float max, size_t n);
    const struct attend_loops *attend; /* cpu_attend.h */
};

/* The tables this machine can run, the plain one first, the fastest last; NULL
 * beyond. */
const struct cpu_kernels *cpu_kernels_at(size_t i);
const struct cpu_kernels *cpu_kernels_best(void);

/* One table each; NULL where the machine or the build lacks it. */
const struct cpu_kernels *cpu_kernels_plain(void);
const struct cpu_kernels *cpu_kernels_avx2(void);
const struct cpu_kernels *cpu_kernels_avxvnni(void);
const struct cpu_kernels *cpu_kernels_avx512(void);
const struct cpu_kernels *cpu_kernels_amx(void);
const struct cpu_kernels *cpu_kernels_neon(void);

/* Parts of tables that have a file of their own. */
extern const struct q8_wide cpu_wide_avx2;
extern const struct q8_few cpu_few_avx512;
extern const struct q8_wide cpu_wide_avxvnni;
extern const struct q8_wide cpu_wide_amx;
void cpu_tile_avxvnni(const struct q8_tile *t);
bool cpu_avxvnni_granted(void);
bool cpu_amx_granted(void);

#endif

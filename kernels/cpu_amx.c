/* AMX: 16,384 int8 products per instruction.
 *
 * Sixteen weight rows as they lie in memory are a left operand, a panel of sixteen activation
 * rows, packed in fours of k, is a right one; signed by signed, so sums are exact as they are.
 * Two of each make four sums of sixteen by sixteen, which use every operand twice. Sums come out
 * by weight row and are turned around on their way to memory. */

#include "kernels/cpu_avx512.h"
#include "kernels/cpu_tiles.h"

#include <string.h>

#if defined(__x86_64__)

enum {
    SIDE = 16,         /* rows of a tile, and its columns of four bytes */
    WIDE_W = 2 * SIDE, /* weight rows of a tile of sums */
    STEP = 64,         /* k of a tile */
    LINE = 64,
};

/* Room of one call. */
struct room {
    _Alignas(LINE) int32_t sums[4][SIDE][SIDE];
    _Alignas(LINE) int8_t rest[WIDE_W][STEP]; /* the last, incomplete step of k, then zeros */
    bool both_w;                              /* more than sixteen weight rows */
};

/* A tile has as many rows as there are weights, so nothing beyond them is read. */
static void configure(struct room *room, int32_t n_w)
{
    struct tile_config config = {.palette = 1};
    int32_t first = min32(SIDE, n_w);
    const int32_t rows[TILES] = {first, first,       n_w - first, n_w - first,
                                 first, n_w - first, SIDE,        SIDE};
    for (int t = 0; t < TILES; t++) {
        config.rows[t] = (uint8_t)rows[t];
        config.row_bytes[t] = rows[t] > 0 ? TILE_ROW_BYTES : 0;
    }
    tiles_configure(&config);
    room->both_w = n_w > SIDE;
}

static void rest_fill(struct room *room, const struct q8_wide_tile *t)
{
    size_t k = (size_t)t->k;
    size_t n = k % STEP;
    for (int32_t i = 0; n > 0 && i < t->n_w; i++)
        memcpy(room->rest[i], t->w + (size_t)i * k + (k - n), n);
}

/* One tile of sums [weight][activation] to sum [activation][WIDE_W]. */
AVX512 static void turn_sums(int32_t *sum, int32_t from[SIDE][SIDE])
{
    __m512i r[SIDE];
    for (int i = 0; i < SIDE; i++)
        r[i] = _mm512_load_si512(from[i]);
    turn16(r);
    for (int i = 0; i < SIDE; i++)
        _mm512_storeu_si512(sum + (ptrdiff_t)(i * WIDE_W), r[i]);
}

/* Sums 0 and 1 are of the first sixteen weight rows (4) by two panels (6, 7), 2 and 3 of the
 * other weight rows (5). */
static inline void step(const int8_t *w, size_t stride, const uint8_t *a, size_t panel, bool both_w,
                        bool both_a)
{
    TILE_LOAD(6, a, LINE);
    TILE_LOAD(4, w, stride);
    TILE_DOT(0, 4, 6);
    if (both_w) {
        TILE_LOAD(5, w + SIDE * stride, stride);
        TILE_DOT(2, 5, 6);
    }
    if (both_a) {
        TILE_LOAD(7, a + panel, LINE);
        TILE_DOT(1, 4, 7);
        if (both_w)
            TILE_DOT(3, 5, 7);
    }
}

static void sums_zero(bool both_w)
{
    TILE_ZERO(0);
    TILE_ZERO(1);
    if (both_w) {
        TILE_ZERO(2);
        TILE_ZERO(3);
    }
}

static void sums_put(struct room *room, int32_t *sum, bool both_a)
{
    enum { OF_PANEL = Q8_PANEL * WIDE_W };
    TILE_STORE(0, room->sums[0], LINE);
    turn_sums(sum, room->sums[0]);
    if (both_a) {
        TILE_STORE(1, room->sums[1], LINE);
        turn_sums(sum + OF_PANEL, room->sums[1]);
    }
    if (room->both_w) {
        TILE_STORE(2, room->sums[2], LINE);
        turn_sums(sum + SIDE, room->sums[2]);
    }
    if (room->both_w && both_a) {
        TILE_STORE(3, room->sums[3], LINE);
        turn_sums(sum + OF_PANEL + SIDE, room->sums[3]);
    }
}

/* The sums of one or two panels, all of k. While they come, the weights behind are asked for. */
static void panels(struct room *room, const struct q8_wide_tile *t, int32_t row, const int8_t *next)
{
    size_t k = (size_t)t->k;
    const uint8_t *a = t->a + (size_t)(row / Q8_PANEL) * t->panel_bytes;
    bool both_a = t->n_a - row > Q8_PANEL;
    sums_zero(room->both_w);
    size_t j = 0;
    for (; j + STEP <= k; j += STEP) {
        for (size_t line = 0; next && line < WIDE_W; line++)
            __builtin_prefetch(next + j * WIDE_W + line * LINE, 0, 2);
        step(t->w + j, k, a + j * Q8_PANEL, t->panel_bytes, room->both_w, both_a);
    }
    if (j < k)
        step(room->rest[0], STEP, a + j * Q8_PANEL, t->panel_bytes, room->both_w, both_a);
    sums_put(room, t->sum + (size_t)row * WIDE_W, both_a);
}

static void amx_sums(const struct q8_wide_tile *t)
{
    struct room room = {0};
    configure(&room, t->n_w);
    rest_fill(&room, t);
    const int8_t *next = t->next;
    for (int32_t row = 0; row < t->n_a; row += 2 * Q8_PANEL) {
        panels(&room, t, row, next);
        next = NULL;
    }
    tiles_release();
}

AVX512 static void amx_pack(void *dst, const int8_t *a, int32_t n_a, int32_t k)
{
    pack_panel(dst, a, n_a, k, 0);
}

const struct q8_wide cpu_wide_amx = {
    .n_w = WIDE_W, .panel_bytes = q8_panel_bytes, .pack = amx_pack, .sums = amx_sums};

bool cpu_amx_granted(void)
{
    return tiles_granted();
}

#endif

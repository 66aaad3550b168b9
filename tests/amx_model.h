#ifndef KERNELS_CPU_TILES_H
#define KERNELS_CPU_TILES_H

/* In the place of kernels/cpu_tiles.h, whose guard it takes: the tile registers of AMX in C, as the
 * manual of the instruction set describes them. What the processor would refuse ends the test. */

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { TILE_ROWS = 16, TILE_ROW_BYTES = 64, TILES = 8, TILE_FOURS = TILE_ROW_BYTES / 4 };

struct tile_config {
    uint8_t palette;
    uint8_t start_row;
    uint8_t zero[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

struct tile {
    uint8_t at[TILE_ROWS][TILE_ROW_BYTES];
};

/* Each thread has its own, as each has its own registers. */
static _Thread_local struct tile_config tiles_now;
static _Thread_local struct tile tiles[TILES];

static inline bool tiles_granted(void)
{
    return true;
}

static inline void tiles_configure(const struct tile_config *config)
{
    static const uint8_t zero[14];
    static_assert(sizeof(*config) == 64, "the format of ldtilecfg");
    assert(config->palette == 1 && config->start_row == 0);
    assert(memcmp(config->zero, zero, sizeof(zero)) == 0);
    for (int t = 0; t < 16; t++) {
        assert(config->rows[t] <= TILE_ROWS && config->row_bytes[t] <= TILE_ROW_BYTES);
        assert((config->rows[t] == 0) == (config->row_bytes[t] == 0));
        assert(t < TILES || config->rows[t] == 0);
    }
    tiles_now = *config;
    memset(tiles, 0, sizeof(tiles));
}

static inline void tiles_release(void)
{
    memset(&tiles_now, 0, sizeof(tiles_now));
}

static inline void tile_check(int t)
{
    assert(tiles_now.palette == 1 && t >= 0 && t < TILES && tiles_now.rows[t] > 0);
}

static inline void tile_zero(int t)
{
    tile_check(t);
    memset(&tiles[t], 0, sizeof(tiles[t]));
}

static inline void tile_load(int t, const void *from, size_t stride)
{
    tile_zero(t);
    for (size_t r = 0; r < tiles_now.rows[t]; r++)
        memcpy(tiles[t].at[r], (const uint8_t *)from + r * stride, tiles_now.row_bytes[t]);
}

static inline void tile_store(int t, void *to, size_t stride)
{
    tile_check(t);
    for (size_t r = 0; r < tiles_now.rows[t]; r++)
        memcpy((uint8_t *)to + r * stride, tiles[t].at[r], tiles_now.row_bytes[t]);
}

static inline int32_t tile_four(int32_t sum, const uint8_t *a, const uint8_t *b)
{
    for (int i = 0; i < 4; i++)
        sum += (int32_t)(int8_t)a[i] * (int32_t)(int8_t)b[i];
    return sum;
}

static inline void tile_dot(int sum, int a, int b)
{
    tile_check(sum);
    tile_check(a);
    tile_check(b);
    assert(sum != a && sum != b && a != b);
    assert(tiles_now.row_bytes[a] % 4 == 0 && tiles_now.row_bytes[b] % 4 == 0);
    assert(tiles_now.rows[sum] == tiles_now.rows[a]);
    assert(tiles_now.row_bytes[a] / 4 == tiles_now.rows[b]);
    assert(tiles_now.row_bytes[sum] == tiles_now.row_bytes[b]);
    for (int m = 0; m < tiles_now.rows[sum]; m++) {
        int32_t row[TILE_FOURS];
        memcpy(row, tiles[sum].at[m], sizeof(row));
        for (int k = 0; k < tiles_now.row_bytes[a] / 4; k++) {
            for (int n = 0; n < tiles_now.row_bytes[sum] / 4; n++)
                row[n] = tile_four(row[n], &tiles[a].at[m][4 * k], &tiles[b].at[k][4 * n]);
        }
        memcpy(tiles[sum].at[m], row, sizeof(row));
    }
}

#define TILE_ZERO(t)               tile_zero(t)
#define TILE_LOAD(t, from, stride) tile_load(t, from, stride)
#define TILE_STORE(t, to, stride)  tile_store(t, to, stride)
#define TILE_DOT(sum, a, b)        tile_dot(sum, a, b)

#endif

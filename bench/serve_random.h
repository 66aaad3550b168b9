#ifndef BENCH_SERVE_RANDOM_H
#define BENCH_SERVE_RANDOM_H

#include <stdint.h>

/* Numbers that look random and are a function of what goes in: everything that a run draws can be
 * drawn again. */

static inline uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* In (0, 1), and the state moves on. */
static inline double draw(uint64_t *state)
{
    *state = mix(*state);
    return ((double)(*state >> 11) + 0.5) * 0x1p-53;
}

/* In [low, high]. */
static inline int64_t draw_between(uint64_t *state, int64_t low, int64_t high)
{
    int64_t x = low + (int64_t)(draw(state) * (double)(high - low + 1));
    return x > high ? high : x;
}

#endif

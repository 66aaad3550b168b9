/* The plain table, which defines what the others must compute, and the choice
 * among them at run time. */

#include "kernels/cpu_kernels.h"

#include "kernels/cpu_attend.h"
#include "kernels/cpu_lanes.h"

static void q8_tile(const struct q8_tile *t)
{
    size_t k = (size_t)t->k;
    for (size_t r = 0; r < (size_t)t->n_a; r++) {
        const int8_t *a = t->a + r * k;
        for (size_t i = 0; i < (size_t)t->n_w; i++) {
            const int8_t *w = t->w + i * k;
            int32_t sum = 0;
            for (size_t j = 0; j < k; j++)
                sum += (int32_t)a[j] * (int32_t)w[j];
            t->sum[r * Q8_TILE_W + i] = sum;
        }
    }
}

LANES_LOOPS_PLAIN()

static const struct cpu_kernels plain = LANES_TABLE("plain", &attend_plain, NULL);

const struct cpu_kernels *cpu_kernels_plain(void)
{
    return &plain;
}

const struct cpu_kernels *cpu_kernels_at(size_t i)
{
    const struct cpu_kernels *const tables[] = {
        cpu_kernels_plain(),  cpu_kernels_avx2(), cpu_kernels_avxvnni(),
        cpu_kernels_avx512(), cpu_kernels_amx(),  cpu_kernels_neon(),
    };
    for (size_t t = 0; t < ARRAY_LEN(tables); t++) {
        if (tables[t] && i-- == 0)
            return tables[t];
    }
    return NULL;
}

const struct cpu_kernels *cpu_kernels_best(void)
{
    const struct cpu_kernels *best = cpu_kernels_plain();
    for (size_t i = 0; cpu_kernels_at(i); i++)
        best = cpu_kernels_at(i);
    return best;
}

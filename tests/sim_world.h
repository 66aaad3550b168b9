#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include "scheduler/sched.h"
#include "tests/fake_model.h"

/* What a seed makes of the world of sim_test.c: limits, traffic, faults, and the speed of a
 * machine that is imagined. */

enum { SIM_PROMPT_MAX = 96, SIM_ANSWER_MAX = 40, SIM_LIVE_MAX = 160, SIM_SEQS_MAX = 16 };

/* What this seed has made of the world. */
struct sim_world {
    struct sched_options opt;
    bool fair;   /* one priority, enough blocks, everybody alike but for who floods */
    bool plenty; /* of blocks: nobody ever lacks one */
    bool faults;
    bool overlap; /* steps are made while the one before runs */
    bool measures;
    bool slow_readers;
    int32_t prompt_max;
    int32_t answer_max;
    uint64_t row_ns;
    uint64_t gap_ns; /* between two arrivals, on average */
    uint32_t leavers;
};

static inline uint32_t sim_draw(uint64_t *rng, uint32_t below)
{
    *rng += 0x9e3779b97f4a7c15u;
    uint64_t h = fake_mix(fake_mix(*rng, 1), 2);
    return (uint32_t)((h >> 16) % below);
}

#define SIM_ONE_OF(rng, ...)                                                                       \
    ((const int32_t[]){                                                                            \
        __VA_ARGS__})[sim_draw(rng, sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))]

static inline void sim_choose_traffic(struct sim_world *w, uint64_t *rng)
{
    w->fair = sim_draw(rng, 4) == 0;
    w->faults = sim_draw(rng, 4) == 0;
    w->overlap = sim_draw(rng, 2);
    w->measures = sim_draw(rng, 4) > 0;
    w->slow_readers = sim_draw(rng, 4) == 0;
    w->prompt_max = w->fair ? 12 : SIM_ONE_OF(rng, 6, 16, SIM_PROMPT_MAX);
    w->answer_max = w->fair ? 6 : SIM_ONE_OF(rng, 3, 8, SIM_ANSWER_MAX);
    w->row_ns = 1000u * (uint64_t)SIM_ONE_OF(rng, 1, 10, 100);
    w->gap_ns = w->row_ns * (uint64_t)SIM_ONE_OF(rng, 3, 10, 30, 100, 300);
    w->leavers = sim_draw(rng, 3) * 8;
    if (w->fair)
        w->gap_ns = w->row_ns * (uint64_t)SIM_ONE_OF(rng, 2, 5, 10);
}

static inline void sim_choose_limits(struct sim_world *w, uint64_t *rng)
{
    w->opt = (struct sched_options){
        .live_max = SIM_ONE_OF(rng, 8, 24, 64),
        .step_seqs_max = SIM_ONE_OF(rng, 1, 2, 3, 8, SIM_SEQS_MAX),
        .step_rows_max = SIM_ONE_OF(rng, 1, 2, 5, 16, 32, 64, 200),
        .prefix_cache = sim_draw(rng, 4) > 0,
        .overlap = w->overlap,
        .queue_tokens_max = SIM_ONE_OF(rng, 0, 0, 40, 200),
        .ttft_slo_ns = sim_draw(rng, 4) ? 0 : w->row_ns * (uint64_t)SIM_ONE_OF(rng, 10, 200, 2000),
        .free_rows = SIM_ONE_OF(rng, 0, 0, 8),
        .long_rows = SIM_ONE_OF(rng, 0, 4, 20),
    };
    if (!w->fair)
        return;
    w->opt.live_max = SIM_LIVE_MAX;
    w->opt.step_seqs_max = SIM_ONE_OF(rng, 1, 2, 4);
    w->opt.queue_tokens_max = 0;
    w->opt.ttft_slo_ns = 0;
    w->opt.long_rows = SIM_PROMPT_MAX;
}

/* What a step really takes: a fixed part, rows, and now and then something else altogether. */
static inline uint64_t sim_step_takes(const struct sim_world *w, uint64_t *rng, int32_t n_rows)
{
    uint64_t ns = w->row_ns * (uint64_t)(4 + n_rows);
    ns += ns * sim_draw(rng, 20) / 100;
    return sim_draw(rng, 100) ? ns : 10 * ns;
}

#endif

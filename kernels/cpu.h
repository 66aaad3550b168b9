#ifndef KERNELS_CPU_H
#define KERNELS_CPU_H

#include "kernels/cpu_kernels.h"
#include "kernels/cpu_memory.h"
#include "kernels/cpu_pool.h"
#include "kernels/ops.h"

/* The cpu backend, private to kernels/cpu_*.c and ops_cpu.c. */

struct cpu {
    struct ops base; /* first: the operations cast back */
    struct nodes nodes;
    struct cpu_memory memory;
    struct pool *pool;
    const struct cpu_kernels *kern;
    char *scratch;       /* [threads][scratch_each], 64-byte aligned */
    size_t scratch_each; /* grows at first use of a larger shape, never afterwards */
    char *common;        /* of a step, likewise */
    size_t common_bytes;
    const struct pick *pick; /* [n_picks] what the step's sample() draws, */
    struct picked *out;      /* [n_picks] and where to */
    int32_t n_picks;
    int32_t vocab;
    int32_t *drawn; /* [drawn_cap] tokens of the last sample(), for embed() */
    int32_t n_drawn;
    int32_t drawn_cap;
    enum status failed; /* first failure of the step; the calls after it do nothing */
};

enum status ops_cpu_open(struct ops **out, int32_t threads) MUST_CHECK;

/* For tests and benchmarks: like ops_cpu_open() with this table of loops. */
enum status ops_cpu_open_with(struct ops **out, int32_t threads,
                              const struct cpu_kernels *kern) MUST_CHECK;

/* false, and the step has failed, when there is no memory. Called before
 * cpu_run(), by the owner. */
bool cpu_reserve(struct cpu *c, size_t bytes_each);
void *cpu_scratch(const struct cpu *c, int32_t worker);
/* Memory for all workers until the next such call; NULL, and the step has failed, when there
 * is none. */
void *cpu_common(struct cpu *c, size_t bytes);
void cpu_run(struct cpu *c, int32_t n_tasks, pool_fn fn, const void *arg);

/* Tasks of `rows_each` rows that keep every thread busy; `work` is the number of
 * elements touched in all: little work is one task. */
int32_t cpu_rows_each(const struct cpu *c, int32_t rows, size_t work);

void cpu_embed(struct ops *o, float *x, const struct weight *table, const int32_t *ids,
               int32_t rows);
void cpu_norm(struct ops *o, const struct act *y, const float *x, const float *gain, float eps,
              int32_t rows, int32_t dim);
void cpu_linear(struct ops *o, float *y, const struct act *x, const struct weight *w, int32_t rows,
                bool accumulate);
void cpu_rope_store(struct ops *o, float *qkv, const struct kv_layer *kv,
                    const struct step_view *step, const struct head_shape *shape);
void cpu_attention(struct ops *o, float *y, const float *qkv, const struct kv_layer *kv,
                   const struct step_view *step, const struct head_shape *shape);
void cpu_convert(struct ops *o, const struct act *y, const float *x, int32_t rows, int32_t dim);
void cpu_swiglu(struct ops *o, const struct act *y, const float *gate_up, int32_t rows,
                int32_t hidden);
void cpu_gather(struct ops *o, float *y, const float *x, const int32_t *index, int32_t rows,
                int32_t dim);
void cpu_picks(struct ops *o, struct picked *out, const struct pick *pick, int32_t n_picks,
               int32_t vocab);
void cpu_sample(struct ops *o, float *logits);

#endif

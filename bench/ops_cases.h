#ifndef BENCH_OPS_CASES_H
#define BENCH_OPS_CASES_H

#include "bench/ops_scene.h"

/* What bench_ops measures: every operation of kernels/ops.h at the shapes of real models. A line
 * is one operation at one number of rows. */

/* Which of the machine's peaks bounds the arithmetic of an operation: int16 is two products of
 * int8 for one, whoever makes them (tensor cores have halves at that rate). */
enum peak { PEAK_INT8, PEAK_INT16, PEAK_F32, PEAKS };

struct model_shape {
    const char *name;
    int32_t dim;
    int32_t hidden;
    int32_t heads;
    int32_t kv_heads;
    int32_t head_dim;
    int32_t vocab;
    int32_t context;
    int32_t layers;
};

struct line {
    const struct model_shape *model;
    const struct op_row *row;
    int32_t rows;
    int32_t n;       /* columns of the result */
    int32_t k;       /* columns of what goes in */
    int32_t context; /* attention: tokens that the last row sees; else 0 */
    int32_t seqs;    /* that the rows belong to, where it matters; else 0 */
    enum peak peak;
    double bytes; /* read and written, each once */
    double work;  /* multiplications and additions */
    size_t need[ARENAS];
};

/* The lines in order; false when there are no more. What a model or an operation does not have
 * is passed over. *state begins at 0. */
bool line_next(struct line *out, size_t *state, const int32_t *rows, size_t n_rows);
const char *line_op(const struct line *l);
const char *line_part(const struct line *l);
const char *line_kind(const struct line *l);
int32_t line_picks(const struct line *l); /* tokens that it draws */
/* The scene has the arenas that the line needs. */
void line_prepare(struct scene *s, const struct line *l);
void line_issue(struct scene *s, const struct line *l, size_t copy);

#endif

#ifndef MODELS_LOAD_H
#define MODELS_LOAD_H

#include "kernels/ops.h"
#include "models/config.h"
#include "models/model.h"
#include "models/weights.h"

/* From file to backend: each tensor becomes float rows, or int8 rows with one scale
 * each, in memory that is already there. What the file's type is does not show behind this
 * header: int8 rows that bring their scales are taken as they are, everything else is
 * widened and, where int8 is wanted, quantized. */

/* The tensor fills rows row .. row + rows of into, which has its columns. */
struct load_item {
    const struct tensor *tensor;
    const struct tensor *scale; /* of each row of an int8 tensor; NULL for all others */
    const struct weight *into;
    int32_t row;
    int32_t rows;
    char name[TENSOR_NAME_MAX]; /* as Hugging Face has it */
};

/* Host memory the load needs at any moment, whatever the model: LOAD_THREADS_MAX times
 * a piece of file and its values as floats, and for each and two more what it becomes, in memory
 * that the backend sends from. */
enum {
    LOAD_THREADS_MAX = 8,
    LOAD_PIECE_BYTES = 1 << 20,
    LOAD_PIECE_VALUES = LOAD_PIECE_BYTES / 2,
    LOAD_PIECE_ROWS = 1 << 14,
};

struct load_report {
    model_progress_fn progress; /* NULL: none */
    void *arg;
};

/* Reads and converts on a few threads, sends and reports on this one. ops NULL: what is
 * read is judged and forgotten. E_IO, E_NOMEM;
 * E_FORMAT: a tensor holds a NaN or an infinity; err: one line, which file and tensor. */
enum status load_run(const struct load_item *item, size_t n, const struct weights *w,
                     struct ops *ops, const struct load_report *report, char *err,
                     size_t err_size) MUST_CHECK;

/* The definition of a quantized row: scale = absmax / 127, round to nearest even; a row
 * of zeros has scale 0. x must be finite. */
void quantize_row(int8_t *q, float *scale, const float *x, int32_t n);

/* The frequencies of a configuration. A file may hold divisors of them, "rope_freqs.weight": the
 * scaling of Llama 3.1 in GGUF. Where they are one that has a name, r says so and the numbers are
 * exactly those of a checkpoint that names it. freq [head_dim / 2]. */
enum status load_rope(float *freq, struct rope *r, int32_t head_dim, const struct weights *w,
                      const struct complaint *c) MUST_CHECK;

#endif

#ifndef MODELS_MEMORY_H
#define MODELS_MEMORY_H

#include "kernels/ops.h"

/* Backend memory, taken twice by the same code: first without a backend to learn how
 * much it will be, then for real. Everything goes back at once. */
struct memory {
    struct ops *ops; /* NULL: only count */
    size_t bytes;    /* rounded as a backend would */
    void **taken;    /* [n] */
    size_t n;
    size_t room;
    enum status status; /* the first failure; later calls give NULL */
};

/* a * b * element bytes, zeroed. NULL when counting, and after a failure, which waits in
 * m->status. */
void *memory_take(struct memory *m, size_t a, size_t b, size_t element);
/* The same for the rows of a weight. */
void *memory_take_rows(struct memory *m, size_t rows, size_t row, size_t element);
void memory_release(struct memory *m);

#endif

#ifndef MODELS_SAFETENSORS_WRITE_H
#define MODELS_SAFETENSORS_WRITE_H

#include "models/weights.h"

/* One safetensors file, written front to back. */

struct new_tensor {
    char name[TENSOR_NAME_MAX];
    enum dtype dtype; /* one of a single value per block */
    int rank;
    uint64_t dim[2];
    const void *data;            /* [bytes], or NULL: */
    const struct tensor *stored; /* what this one holds, in the same type or to be made F16 */
    int32_t cols;                /* values in a row of stored */
    uint64_t bytes;
};

struct new_file {
    struct new_tensor *tensor; /* [n] */
    size_t n;
    size_t room;
    const struct weights *weights; /* of the stored ones */
    model_progress_fn progress;    /* NULL: none */
    void *progress_arg;
};

/* bytes is worked out here. E_NOMEM. */
enum status new_file_add(struct new_file *f, const struct new_tensor *t) MUST_CHECK;
void new_file_free(struct new_file *f);

/* Creates path and writes it out to the disk; the tensors are ordered so that each lies at a
 * multiple of its element's size. E_IO, E_NOMEM, and what reading gives. */
enum status new_file_write(struct new_file *f, const char *path,
                           const struct complaint *c) MUST_CHECK;

/* All of data to a file that is open. E_IO: c says why. */
enum status write_all(int fd, const void *data, size_t bytes, const struct complaint *c) MUST_CHECK;

/* To nearest even; what is too large becomes the largest. */
uint16_t half_of(float x);

#endif

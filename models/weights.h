#ifndef MODELS_WEIGHTS_H
#define MODELS_WEIGHTS_H

#include "models/dtype.h"
#include "models/jsonfile.h"

/* The tensors of a model: of a directory with model.safetensors, or with the shards that
 * model.safetensors.index.json names, or of a GGUF file and its parts. Opening reads and
 * checks the headers; the data is read piece by piece into the caller's memory and never
 * mapped, so a file that shrinks under us is an error and not a signal. Immutable once
 * open: several threads may read.
 *
 * Callers know one spelling of names, Hugging Face's; what a file calls a tensor is in
 * struct tensor, for those who have to show it. */

enum {
    HEADER_BYTES_MAX = 100000000, /* the format's own limit */
    TENSORS_MAX = 1 << 18,
    SHARDS_MAX = 512,
    RANK_MAX = 8,
    TENSOR_NAME_MAX = 128, /* of the names that are looked for */
};

struct tensor {
    const char *name; /* not terminated, inside the header */
    uint32_t name_bytes;
    uint16_t shard;
    uint8_t dtype; /* enum dtype */
    uint8_t rank;
    uint32_t head_rows; /* a head has so many rows and they alternate between its halves, as GGUF
                         * stores q and k; 0: rows are in the order they are used */
    const char *type;   /* what the format calls its dtype, also when it is DTYPE_OTHER */
    uint64_t dim[2];    /* the first two; what has more is of no use here */
    uint64_t begin;     /* offset in the file */
    uint64_t bytes;
};

struct tensor_list {
    struct tensor *item; /* [n] */
    size_t n;
    size_t room;
};

struct weights;

enum status weights_open(struct weights **out, const char *path, char *err,
                         size_t err_size) MUST_CHECK;
void weights_close(struct weights *w); /* NULL is fine */

/* NULL: there is none of that name. */
const struct tensor *weights_find(const struct weights *w, const char *name);
/* The file of a tensor; of none: what a line about the whole begins with. */
const char *weights_file(const struct weights *w, const struct tensor *t);

/* The format, and how many tensors there are of each type, for people. */
void weights_describe(const struct weights *w, char *format, size_t format_size, char *types,
                      size_t types_size);

/* How the files of w spell a name. */
const char *weights_spelling(const struct weights *w, const char *name, char out[TENSOR_NAME_MAX]);

/* Bytes offset .. offset + bytes of the tensor's data. E_IO: they are not there. */
enum status weights_read(const struct weights *w, const struct tensor *t, uint64_t offset, void *to,
                         size_t bytes) MUST_CHECK;

/* E_FORMAT: more than TENSORS_MAX; E_NOMEM. */
enum status tensor_append(struct tensor_list *l, const struct tensor *t,
                          const struct complaint *c) MUST_CHECK;

/* The beginning of a name, for "%.*s" in a line about it. */
int tensor_name_shown(const struct tensor *t);

/* The two halves of reading one safetensors header, apart so that they can be fuzzed.
 * safetensors_measure(): first is the file's beginning, *bytes the header's length.
 * safetensors_parse(): appends the header's tensors; their names point into it. */
enum status safetensors_measure(const uint8_t first[8], uint64_t file_bytes, uint64_t *bytes,
                                const struct complaint *c) MUST_CHECK;
enum status safetensors_parse(struct tensor_list *l, const char *header, size_t bytes,
                              uint64_t file_bytes, uint16_t shard,
                              const struct complaint *c) MUST_CHECK;

#endif

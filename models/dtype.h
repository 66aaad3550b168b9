#ifndef MODELS_DTYPE_H
#define MODELS_DTYPE_H

#include "kernels/base.h"

/* How numbers lie in files: one row of a table per type, with how its bytes become floats.
 * A type that a new format brings is an entry here and nothing elsewhere. */

enum dtype {
    DTYPE_OTHER,
    DTYPE_F32,
    DTYPE_F16,
    DTYPE_BF16,
    DTYPE_I8,
    DTYPE_Q4_0,
    DTYPE_Q4_1,
    DTYPE_Q5_0,
    DTYPE_Q5_1,
    DTYPE_Q8_0,
    DTYPE_Q4_K,
    DTYPE_Q5_K,
    DTYPE_Q6_K,
    DTYPE_COUNT,
};

struct dtype_info {
    const char *name;
    uint32_t block;       /* values that lie together; a row is whole blocks */
    uint32_t block_bytes; /* 0: DTYPE_OTHER, which nothing is read from */
    /* n is a multiple of block. false when a value is not finite; out is then unspecified. */
    bool (*widen)(float *out, const void *in, size_t n);
};

const struct dtype_info *dtype_info(enum dtype d);

/* Of n values in one row. false when they are no whole blocks, or of no type we read. */
bool dtype_bytes(enum dtype d, uint64_t n, uint64_t *bytes) MUST_CHECK;

#endif

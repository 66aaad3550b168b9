#ifndef MODELS_CONFIG_H
#define MODELS_CONFIG_H

#include "models/model.h"

/* config.json and generation_config.json of a Hugging Face directory, or the same from the
 * metadata of a GGUF file, every value range-checked, so that products of two of them fit
 * int64_t without a thought and int8 dot products of one row fit int32_t. */

enum {
    DIM_MAX = 65536,
    HIDDEN_MAX = 131072, /* 127 * 127 * 131072 < 2^31: the sum of a row product is exact */
    LAYERS_MAX = 512,
    HEADS_MAX = 1024,
    HEAD_DIM_MAX = 512,
    VOCAB_MAX = 1 << 20,
    CONTEXT_MAX = 1 << 24,
};

enum rope_kind { ROPE_PLAIN, ROPE_LINEAR, ROPE_LLAMA3 };

struct rope {
    enum rope_kind kind;
    double theta;
    double factor;
    double low;      /* ROPE_LLAMA3: slow rotations are divided by factor, */
    double high;     /* fast ones stay, between the two it is a blend */
    int64_t context; /* what the model had seen before it was stretched */
};

struct config {
    struct model_info info; /* but for the counts of bytes, parameters and blocks */
    struct rope rope;
    float eps;
};

/* E_IO, E_NOMEM; E_FORMAT: a wrong value; E_UNSUPPORTED: an architecture or a feature
 * this program does not have. err: one line that names file and field. */
enum status config_load(struct config *out, const char *path, char *err,
                        size_t err_size) MUST_CHECK;

/* freq [head_dim / 2]: angle per position of each half-split pair, scaling applied. */
void rope_frequencies(const struct rope *r, int32_t head_dim, float *freq);

#endif

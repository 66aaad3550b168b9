#ifndef MODELS_CONFIG_H
#define MODELS_CONFIG_H

#include "models/jsonfile.h"
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

enum rope_kind { ROPE_PLAIN, ROPE_LINEAR, ROPE_LLAMA3, ROPE_YARN };

/* Rotations that are slow within the context the model had seen are divided by factor, fast
 * ones stay, between low and high turns it is a blend: over the turns themselves in
 * ROPE_LLAMA3 (Llama 3.1's reference code), over the index of the pair in ROPE_YARN (Peng et
 * al. 2023, and its reference code). ROPE_LINEAR divides them all (Chen et al. 2023). */
struct rope {
    enum rope_kind kind;
    double theta;
    double factor;
    double low;
    double high;
    int64_t context;  /* what the model had seen before it was stretched */
    double attention; /* ROPE_YARN: q and k are both this much longer; 0: not said */
    bool fractional;  /* ROPE_YARN: the blend may begin and end between two pairs */
    bool divided;     /* by numbers of a file that are none of these kinds */
};

struct config {
    struct model_info info; /* but for the counts of bytes, parameters and blocks */
    struct rope rope;
    float eps;
    bool qkv_bias; /* which tensors there are beside Llama's */
    bool out_bias;
    bool mlp_bias;
    bool qk_norm;
    bool untied;    /* the file says that the head is a tensor of its own */
    bool int8;      /* a checkpoint in int8, to be taken as it is */
    int32_t window; /* tokens that a windowed layer looks back, itself included; 0: no window */
    bool windowed[LAYERS_MAX];
};

/* Fills in what an architecture always is, by the name config.json has for it.
 * E_UNSUPPORTED: not known; err says which are. */
enum status config_arch(struct config *out, const char *name, const struct complaint *c) MUST_CHECK;

/* E_IO, E_NOMEM; E_FORMAT: a wrong value; E_UNSUPPORTED: an architecture or a feature
 * this program does not have. err: one line that names file and field. */
enum status config_load(struct config *out, const char *path, char *err,
                        size_t err_size) MUST_CHECK;

/* The same from the files' trees; generation NULL: there is none. */
enum status config_of_trees(struct config *out, const cJSON *config, const cJSON *generation,
                            const struct complaint *c,
                            const struct complaint *c_generation) MUST_CHECK;

/* freq [head_dim / 2]: angle per position of each half-split pair, scaling applied. */
void rope_frequencies(const struct rope *r, int32_t head_dim, float *freq);
/* Divisors [head_dim / 2] of plain rotations, as GGUF stores what Llama 3.1 scales by, said as
 * ROPE_LLAMA3 or ROPE_LINEAR; false: they are neither, and r is as it was. */
bool rope_of_divisors(struct rope *r, const float *divisor, int32_t head_dim) MUST_CHECK;
/* What scores are multiplied by: 1 / sqrt(head_dim) but for yarn. */
float rope_score_scale(const struct rope *r, int32_t head_dim);

#endif

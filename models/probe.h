#ifndef MODELS_PROBE_H
#define MODELS_PROBE_H

#include "models/llama.h"

/* Which products of a model lose too much when their input becomes int8.
 *
 * A token's int8 input has one scale, so values that tower over the rest leave the rest few
 * steps or none: the "activation spikes" of gated feed-forward layers (Yang et al. 2024, arXiv
 * 2405.14428), mostly in the input of down_proj and in few layers. A product that reads floats
 * instead (W8A16) costs nothing more where memory is the limit.
 *
 * The measure is what counts in the end: by how much, of its length, int8 input changes the
 * output of a product, at the worst of a few tokens and over some of its outputs. For values
 * of no pattern that is the largest magnitude over the root mean square over 440. */
enum { PROBE_TOKENS = 16, PROBE_OUTPUTS = 256 };

extern const float probe_loss_max;

/* |b - a| / |a|; 0 when a is nothing. */
float loss_of(const float *a, const float *b, int32_t n);

/* The tokens a probe feeds, the model's first token in front: ids that are punctuation,
 * line ends and frequent pieces in the usual vocabularies. */
void probe_tokens(int32_t ids[PROBE_TOKENS], const struct model_info *info);

/* Set in struct llama while those tokens run: each product is tried with floats and with
 * int8, and from then on reads what it will read when it serves, so later layers see what
 * they will see. */
struct probe {
    float *with_floats; /* host [PROBE_TOKENS][PROBE_OUTPUTS] */
    float *with_int8;   /* host, the same */
    enum status status;
};

/* E_NOMEM; probe_close() in any case. */
enum status probe_open(struct probe *p) MUST_CHECK;
void probe_close(struct probe *p);

/* The input of a product is there as floats; its output is not yet wanted. */
void probe_input(struct probe *p, struct llama *l, struct ops *o, struct llama_layer *y,
                 enum product which, int32_t rows);

/* "self_attn.qkv_proj" and so on. */
const char *product_name(enum product p);

/* What an earlier probe chose, as firstlight convert stores it in config.json:
 * {"firstlight": {"float_activations": {"model.layers.0.mlp.down_proj": loss, ...}}}.
 * *found: it is there, and l has it now. E_FORMAT. */
enum status probe_recall(bool *found, struct llama *l, const char *path, char *err,
                         size_t err_size) MUST_CHECK;
/* The same object for a new config.json; NULL: no memory. */
struct cJSON *probe_record(const struct llama *l);

#endif

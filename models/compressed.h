#ifndef MODELS_COMPRESSED_H
#define MODELS_COMPRESSED_H

#include "models/jsonfile.h"

/* What config.json says about a checkpoint that is quantized already. One scheme is read and
 * written: compressed-tensors' W8A8 as vLLM takes it, where weights are symmetric int8 with a
 * scale per output channel ("NAME.weight" I8 [n][k], "NAME.weight_scale" [n][1], value = q *
 * scale) and activations symmetric int8 per token, quantized as they come. */

/* *int8: the file speaks of that scheme. E_UNSUPPORTED, E_FORMAT: of any other. */
enum status compressed_read(bool *int8, const cJSON *config, const struct complaint *c) MUST_CHECK;

/* The same said of a model written here, with lm_head left in floats, into its config.json.
 * false: no memory. */
bool compressed_write(cJSON *config) MUST_CHECK;

#endif

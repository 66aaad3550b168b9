#ifndef MODELS_FIND_H
#define MODELS_FIND_H

#include "models/model.h"

/* What a user's path names: a checkpoint's folder or a GGUF file as they are; a folder without
 * safetensors that holds just one GGUF file, or the parts of one, is that file. E_INVALID,
 * E_UNSUPPORTED, E_IO: there is no model, and err says in one line what is there instead.
 * path may be out. */
enum status model_find(char out[MODEL_PATH_MAX], const char *path, char *err,
                       size_t err_size) MUST_CHECK;

#endif

#ifndef MODELS_CONVERT_H
#define MODELS_CONVERT_H

#include "models/model.h"

/* A model of any format read here, written as a directory in int8 that needs no work to load:
 * compressed-tensors W8A8 as llm-compressor writes and vLLM reads it (separate q, k, v, gate
 * and up; embedding, head, norms and biases as they were), with what a probe chose in
 * config.json. Of a directory the tokenizer's files are copied; what a GGUF file says of its
 * tokenizer, template and ends is written in their words. The directory appears whole or not at
 * all. */
struct convert_options {
    const char *src;
    const char *dst;      /* must not exist */
    enum model_acts acts; /* ACTS_INT8: nobody will probe */
    /* Phases follow each other, each with its own progress. NULL: none. */
    void (*phase)(void *arg, const char *name);
    model_progress_fn progress;
    void *arg;
};

/* ops: memory of the host. E_INVALID: dst exists, src is int8 already; E_IO: a file cannot be
 * written (the disk is full); and all that model_open() gives. err: one line. */
enum status convert_model(const struct convert_options *opt, struct ops *ops, char *err,
                          size_t err_size) MUST_CHECK;

#endif

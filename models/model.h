#ifndef MODELS_MODEL_H
#define MODELS_MODEL_H

#include "kernels/base.h"
#include "kernels/sampling.h"

/* SEAM between scheduler/ and models/: a loaded model and its paged KV storage.
 * The model knows tensors and blocks; it does not know requests, and it keeps no
 * state between steps but the cache. Owned and used by one thread. */
struct model;
struct ops;

/* done and total in bytes; called on the thread of model_open(). */
typedef void (*model_progress_fn)(void *arg, uint64_t done, uint64_t total);

/* How activations enter the products of the layers, where weights are int8. */
enum model_acts {
    ACTS_AUTO,  /* int8, but floats where a probe finds that it would lose too much */
    ACTS_INT8,  /* whatever it loses */
    ACTS_FLOAT, /* never int8 */
};

/* How keys and values are kept. */
enum model_kv { KV_Q8, KV_F32, KV_F16 };

struct model_options {
    const char *path;      /* directory: config.json, *.safetensors; or a GGUF file */
    int32_t step_rows_max; /* most token rows one step may carry */
    int32_t step_seqs_max; /* most sequences, and most picks, of one step */
    int32_t context_max;   /* 0: what the model was trained for */
    size_t kv_bytes;       /* 0: chosen from what is free; see model_plan.c */
    size_t memory_max;     /* all it may take of the backend's memory; 0: what is free */
    bool weights_f32;      /* keep weights and activations in f32 (cpu: the reference path) */
    enum model_kv kv;
    enum model_acts acts;
    model_progress_fn progress; /* NULL: none */
    void *progress_arg;
};

enum { MODEL_EOS_MAX = 8, MODEL_ARCH_MAX = 32, MODEL_PATH_MAX = 4096, MODEL_TYPES_MAX = 160 };

struct model_info {
    char arch[MODEL_ARCH_MAX];   /* "LlamaForCausalLM" */
    char format[MODEL_ARCH_MAX]; /* "safetensors", "GGUF v3, 2 files" */
    char types[MODEL_TYPES_MAX]; /* "Q4_K 217, F32 65, Q6_K 29": tensors of each */
    uint64_t n_params;
    uint64_t file_bytes;   /* tensors as stored */
    uint64_t weight_bytes; /* tensors as held by the backend */
    uint64_t kv_bytes_per_token;
    int32_t dim;
    int32_t hidden;
    int32_t n_layers;
    int32_t n_heads;
    int32_t n_kv_heads;
    int32_t head_dim;
    int32_t vocab;
    int32_t context_max;  /* longest sequence, tokens */
    int32_t block_tokens; /* tokens per KV block */
    int32_t n_blocks;     /* ids 0 .. n_blocks-1 are the scheduler's to hand out; 0: inspected */
    int32_t bos;          /* -1: none */
    int32_t eos[MODEL_EOS_MAX];
    int32_t n_eos;
    bool tied; /* lm_head is the embedding table */
    /* generation_config.json; negative: not given */
    float temperature;
    float top_p;
    int32_t top_k;
    float repetition;
    float min_p;
    int32_t answer_max; /* its max_new_tokens; 0: not given */
};

/* One step over a ragged batch. Rows are tokens; each sequence is a run of
 * neighbouring rows, one row when decoding, many when a prompt is read. The
 * cache already holds position[seq_start[i]] tokens of sequence i, in the blocks
 * its table names; this step appends the run. */
struct model_batch {
    int32_t n_rows;
    int32_t n_seqs;
    int32_t n_picks;
    int32_t table_stride;
    const int32_t *token;       /* [n_rows] id, or ~i: what pick i of the step before drew */
    const int32_t *position;    /* [n_rows] */
    const int32_t *seq_start;   /* [n_seqs + 1], prefix sum, seq_start[n_seqs] == n_rows */
    const int32_t *block_table; /* [n_seqs][table_stride] physical block of each logical one */
    const struct pick *pick;    /* [n_picks], ascending by row */
};

/* Reads config and tensor headers only, no weights. err: one line, which file and
 * which field or tensor. */
enum status model_inspect(struct model_info *out, const char *path, char *err,
                          size_t err_size) MUST_CHECK;

/* Reads all that model_open() would, data too, and keeps none of it: every tensor is there,
 * has its shape, and holds finite numbers. progress may be NULL. As model_inspect(). */
enum status model_check(const char *path, model_progress_fn progress, void *arg, char *err,
                        size_t err_size) MUST_CHECK;

/* What model_open() would take of a backend of this name with bytes_free, worked out by the
 * same code without one. info is as after an opening. */
struct model_memory {
    size_t weights;
    size_t scratch; /* activations of the largest step */
    size_t batch;   /* what goes up with each step, once more on the host */
    size_t cache;   /* keys and values */
    size_t free;    /* what is left */
};
enum status model_plan(struct model_memory *out, struct model_info *info,
                       const struct model_options *opt, const char *backend, size_t bytes_free,
                       char *err, size_t err_size) MUST_CHECK;

/* ops stays owned by the caller and must outlive the model. */
enum status model_open(struct model **out, const struct model_options *opt, struct ops *ops,
                       char *err, size_t err_size) MUST_CHECK;
void model_close(struct model *m); /* NULL is fine */
const struct model_info *model_info(const struct model *m);

/* A product of a layer that reads floats although its weights are int8. */
struct model_note {
    int32_t layer;
    const char *product; /* "mlp.down_proj" */
    float loss;          /* by how much of its length int8 input changes its output; 0: unknown */
};
/* The first max of them; returns how many there are. */
size_t model_notes(const struct model *m, struct model_note *out, size_t max);

/* Starts the step: the batch is copied, so its arrays may change on return, except
 * what its picks point to. At most one step is in flight. */
void model_launch(struct model *m, const struct model_batch *b);
/* Ends the step and writes one result per pick. On error the cache blocks named by
 * the batch hold garbage and every sequence in it must be abandoned. */
enum status model_wait(struct model *m, struct picked *out) MUST_CHECK;

/* Raw logits of pick i of the last step, [vocab]; for tests. */
enum status model_logits(struct model *m, int32_t i, float *logits) MUST_CHECK;

#endif

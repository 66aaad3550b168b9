#ifndef MODELS_LLAMA_H
#define MODELS_LLAMA_H

#include "models/config.h"
#include "models/load.h"
#include "models/memory.h"

/* The Llama family: which tensors there are, what they become in memory, and the
 * forward pass. Knows nothing of files' layout nor of who asked for the step. */

enum { BLOCK_TOKENS = 16 };

/* The products of a layer, where int8 activations may lose too much. */
enum product { PRODUCT_QKV, PRODUCT_OUT, PRODUCT_GATE_UP, PRODUCT_DOWN, PRODUCTS };

/* What q, k, v and gate, up are in the file is one weight here: one product each. Vectors are
 * weights too: gains of a single row, biases of a single column. What the architecture does
 * not have is a weight of no rows. */
struct llama_layer {
    struct weight attn_norm;         /* [1][dim] */
    struct weight product[PRODUCTS]; /* QKV [(n_heads + 2 * n_kv_heads) * head_dim][dim],
                                      * OUT [dim][n_heads * head_dim],
                                      * GATE_UP [2 * hidden][dim], DOWN [dim][hidden] */
    struct weight bias[PRODUCTS];    /* [n of the product][1] */
    float loss[PRODUCTS];            /* what a probe measured; 0: none did */
    struct weight q_norm;            /* [1][head_dim] */
    struct weight k_norm;            /* [1][head_dim] */
    struct weight ffn_norm;          /* [1][dim] */
    struct head_shape shape;
    struct kv_layer kv;
};

struct llama {
    struct config config;
    enum number act_kind; /* of what enters the layers' products */
    enum number kv_kind;
    int32_t q_dim;             /* n_heads * head_dim */
    int32_t qkv_dim;           /* (n_heads + 2 * n_kv_heads) * head_dim */
    float *rope_freq;          /* [head_dim / 2] */
    struct weight embed;       /* [vocab][dim] */
    struct weight final_norm;  /* [1][dim] */
    struct weight head;        /* [vocab][dim]; when tied, the same memory as embed */
    struct llama_layer *layer; /* [n_layers] */
    int32_t n_run;             /* layers of a step: all, but for who only looks if it works */
    /* Scratch of a step. */
    float *x;            /* [rows][dim] the residual stream */
    float *wide;         /* [rows][max(qkv_dim, 2 * hidden)] */
    float *att;          /* [rows][q_dim] */
    struct act act;      /* [rows][max(dim, q_dim, hidden)], as int8 and as floats */
    float *picked;       /* [picks][dim] */
    struct act head_in;  /* [picks][dim] */
    float *logits;       /* [picks][vocab] */
    struct probe *probe; /* NULL but while it runs: see probe.h */
};

/* Shapes of all weights; takes no backend memory. E_NOMEM. */
enum status llama_init(struct llama *l, const struct config *c, bool weights_f32,
                       enum model_kv kv) MUST_CHECK;
void llama_free(struct llama *l); /* host memory only; zeroed is fine */

/* Finds and checks every tensor of the model, one item each, and fills in the counts of
 * l->config.info. *items is from malloc(). E_FORMAT, E_NOMEM. */
enum status llama_bind(struct llama *l, const struct weights *w, struct load_item **items,
                       size_t *n_items, char *err, size_t err_size) MUST_CHECK;

/* What is behind a model, for convert.c; defined in model.c. */
struct llama *model_llama(struct model *m);

/* Each takes one kind of memory; what the backend lacks is told by mem->status. */
void llama_take_weights(struct llama *l, struct memory *mem);
void llama_take_scratch(struct llama *l, struct memory *mem, int32_t rows, int32_t picks);
void llama_take_kv(struct llama *l, struct memory *mem, int32_t n_blocks);
/* What a cache of so many blocks is asked for. */
size_t llama_kv_bytes(struct llama *l, int32_t n_blocks);
size_t llama_kv_token_bytes(const struct llama *l);

/* One step; view and the arrays of ids are backend memory. */
struct llama_step {
    struct step_view view;
    const int32_t *token;    /* [n_rows] */
    const int32_t *pick_row; /* [n_picks] */
    int32_t n_picks;
};

/* Up to the logits of each pick. */
void llama_forward(struct llama *l, struct ops *o, const struct llama_step *s);

#endif

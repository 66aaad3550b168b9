#include "models/llama.h"

#include "kernels/paged.h"
#include "models/probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* First the shapes, then the table of tensor names that fill them, then memory, then
 * the forward pass. A weight's shape is written once, in llama_init(), and everything
 * else follows it: what a file must hold, what is taken, what the products compute. */

static int32_t larger(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

/* --- shapes --- */

static struct weight shaped(enum number kind, enum number act, int32_t n, int32_t k)
{
    return (struct weight){.kind = kind, .act = act, .n = n, .k = k};
}

static struct weight vector(int32_t n, int32_t k)
{
    return shaped(NUM_F32, NUM_F32, n, k);
}

static struct head_shape shape_heads(const struct config *c, int32_t layer)
{
    const struct model_info *f = &c->info;
    return (struct head_shape){.n_heads = f->n_heads,
                               .n_kv_heads = f->n_kv_heads,
                               .head_dim = f->head_dim,
                               .block_tokens = BLOCK_TOKENS,
                               .window = c->windowed[layer] ? c->window : 0,
                               .score_scale = rope_score_scale(&c->rope, f->head_dim),
                               .norm_eps = c->eps};
}

static void shape_layer(struct llama_layer *y, const struct llama *l, enum number kind)
{
    const struct config *c = &l->config;
    const struct model_info *f = &c->info;
    const bool biased[PRODUCTS] = {c->qkv_bias, c->out_bias, c->mlp_bias, c->mlp_bias};
    y->attn_norm = vector(1, f->dim);
    y->product[PRODUCT_QKV] = shaped(kind, kind, l->qkv_dim, f->dim);
    y->product[PRODUCT_OUT] = shaped(kind, kind, f->dim, l->q_dim);
    y->product[PRODUCT_GATE_UP] = shaped(kind, kind, 2 * f->hidden, f->dim);
    y->product[PRODUCT_DOWN] = shaped(kind, kind, f->dim, f->hidden);
    for (int i = 0; i < PRODUCTS; i++)
        y->bias[i] = vector(biased[i] ? y->product[i].n : 0, 1);
    y->q_norm = vector(c->qk_norm ? 1 : 0, f->head_dim);
    y->k_norm = y->q_norm;
    y->ffn_norm = vector(1, f->dim);
}

enum status llama_init(struct llama *l, const struct config *c, bool weights_f32, enum model_kv kv)
{
    static const enum number kinds[] = {[KV_Q8] = NUM_Q8, [KV_F32] = NUM_F32, [KV_F16] = NUM_F16};
    const struct model_info *f = &c->info;
    enum number kind = weights_f32 ? NUM_F32 : NUM_Q8;
    *l = (struct llama){.config = *c};
    l->layer = calloc((size_t)f->n_layers, sizeof(*l->layer));
    if (!l->layer)
        return E_NOMEM;
    l->n_run = f->n_layers;
    l->act_kind = kind;
    l->kv_kind = kinds[kv];
    l->q_dim = f->n_heads * f->head_dim;
    l->qkv_dim = l->q_dim + 2 * f->n_kv_heads * f->head_dim;
    /* The head decides between neighbours, so its input stays unrounded. */
    l->embed = shaped(kind, NUM_F32, f->vocab, f->dim);
    l->final_norm = vector(1, f->dim);
    l->head = shaped(kind, NUM_F32, f->vocab, f->dim);
    for (int32_t i = 0; i < f->n_layers; i++) {
        shape_layer(&l->layer[i], l, kind);
        l->layer[i].shape = shape_heads(c, i);
    }
    return OK;
}

void llama_free(struct llama *l)
{
    free(l->layer);
    l->layer = NULL;
}

/* --- tensors --- */

/* A name, where its rows go, and how many they are. */
struct part {
    const char *name;
    struct weight *into;
    int32_t row;
    int32_t rows;
};

struct binder {
    const struct weights *w;
    struct model_info *info;
    bool int8;              /* the checkpoint is quantized already */
    struct load_item *item; /* [n] */
    size_t n;
    char *err;
    size_t err_size;
};

static enum status check_shape(const struct tensor *t, const char *name, const struct part *p,
                               const struct complaint *c)
{
    bool gain = p->into->n == 1;
    bool vector = gain || p->into->k == 1;
    uint64_t rows = gain ? (uint64_t)p->into->k : (uint64_t)p->rows;
    uint64_t cols = vector ? 1 : (uint64_t)p->into->k;
    uint64_t row_bytes;
    if (t->dtype == DTYPE_OTHER)
        return complain(c, E_UNSUPPORTED,
                        "tensor \"%s\" is %s; known: F32, F16, BF16, I8 and, in "
                        "GGUF, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K",
                        name, t->type);
    if (t->rank != (vector ? 1 : 2) || t->dim[0] != rows || t->dim[1] != cols)
        return complain(c, E_FORMAT, "tensor \"%s\" must have the shape [%llu%s%.0llu]", name,
                        (unsigned long long)rows, vector ? "" : ", ",
                        vector ? 0ULL : (unsigned long long)cols);
    if (!dtype_bytes((enum dtype)t->dtype, (uint64_t)p->into->k, &row_bytes))
        return complain(c, E_FORMAT, "rows of tensor \"%s\" are no whole blocks of %s", name,
                        dtype_info((enum dtype)t->dtype)->name);
    return OK;
}

/* The scales that int8 rows bring; there are none without and none beside them. */
static enum status find_scale(const struct binder *b, struct load_item *it, const char *name,
                              const struct complaint *c)
{
    char full[160];
    (void)snprintf(full, sizeof(full), "%s_scale", name);
    const struct tensor *s = weights_find(b->w, full);
    bool int8 = it->tensor->dtype == DTYPE_I8;
    if (int8 && !b->int8)
        return complain(c, E_UNSUPPORTED,
                        "tensor \"%s\" is I8, but config.json has no \"quantization_config\"",
                        name);
    if (int8 != (s != NULL))
        return complain(c, E_FORMAT, "tensor \"%s\" %s", int8 ? full : name,
                        int8 ? "is missing" : "has scales, but is not I8");
    if (!int8)
        return OK;
    bool column = s->rank == 1 || (s->rank == 2 && s->dim[1] == 1);
    bool numbers = s->dtype == DTYPE_F32 || s->dtype == DTYPE_F16 || s->dtype == DTYPE_BF16;
    if (!column || !numbers || s->dim[0] != (uint64_t)it->rows)
        return complain(c, E_FORMAT, "tensor \"%s\" must be [%d, 1] of F32, F16 or BF16", full,
                        it->rows);
    it->scale = s;
    b->info->file_bytes += s->bytes;
    return OK;
}

static enum status bind(struct binder *b, const char *prefix, const struct part *p)
{
    char name[TENSOR_NAME_MAX];
    char spelled[TENSOR_NAME_MAX];
    struct complaint c = complaint_in(weights_file(b->w, NULL), b->err, b->err_size);
    (void)snprintf(name, sizeof(name), "%s%s", prefix, p->name);
    const struct tensor *t = weights_find(b->w, name);
    const char *shown = weights_spelling(b->w, name, spelled);
    struct load_item it = {.tensor = t, .into = p->into, .row = p->row, .rows = p->rows};
    (void)memcpy(it.name, name, sizeof(name));
    if (p->into->n == 0 && t)
        return complain(&c, E_UNSUPPORTED, "there is a tensor \"%s\", which %s has not", shown,
                        b->info->arch);
    if (p->into->n == 0)
        return OK;
    if (!t)
        return complain(&c, E_FORMAT, "tensor \"%s\" is missing", shown);
    c.file = weights_file(b->w, t);
    enum status s = check_shape(t, shown, p, &c);
    if (!s)
        s = find_scale(b, &it, name, &c);
    if (s)
        return s;
    /* What a checkpoint in int8 left in floats was found to need more than int8. */
    if (b->int8 && !it.scale && p->into->act == NUM_Q8)
        p->into->act = NUM_F32;
    b->item[b->n++] = it;
    b->info->n_params += (uint64_t)p->rows * (uint64_t)p->into->k;
    b->info->file_bytes += t->bytes;
    return OK;
}

enum { TENSORS_PER_LAYER = 18, TENSORS_BESIDE = 3 };

static enum status bind_layer(struct binder *b, struct llama *l, int32_t index)
{
    const struct model_info *f = &l->config.info;
    struct llama_layer *y = &l->layer[index];
    int32_t q = l->q_dim;
    int32_t kv = f->n_kv_heads * f->head_dim;
    int32_t up = f->hidden;
    const struct part parts[TENSORS_PER_LAYER] = {
        {"input_layernorm.weight", &y->attn_norm, 0, 1},
        {"self_attn.q_proj.weight", &y->product[PRODUCT_QKV], 0, q},
        {"self_attn.k_proj.weight", &y->product[PRODUCT_QKV], q, kv},
        {"self_attn.v_proj.weight", &y->product[PRODUCT_QKV], q + kv, kv},
        {"self_attn.o_proj.weight", &y->product[PRODUCT_OUT], 0, f->dim},
        {"self_attn.q_proj.bias", &y->bias[PRODUCT_QKV], 0, q},
        {"self_attn.k_proj.bias", &y->bias[PRODUCT_QKV], q, kv},
        {"self_attn.v_proj.bias", &y->bias[PRODUCT_QKV], q + kv, kv},
        {"self_attn.o_proj.bias", &y->bias[PRODUCT_OUT], 0, f->dim},
        {"self_attn.q_norm.weight", &y->q_norm, 0, 1},
        {"self_attn.k_norm.weight", &y->k_norm, 0, 1},
        {"post_attention_layernorm.weight", &y->ffn_norm, 0, 1},
        {"mlp.gate_proj.weight", &y->product[PRODUCT_GATE_UP], 0, up},
        {"mlp.up_proj.weight", &y->product[PRODUCT_GATE_UP], up, up},
        {"mlp.down_proj.weight", &y->product[PRODUCT_DOWN], 0, f->dim},
        {"mlp.gate_proj.bias", &y->bias[PRODUCT_GATE_UP], 0, up},
        {"mlp.up_proj.bias", &y->bias[PRODUCT_GATE_UP], up, up},
        {"mlp.down_proj.bias", &y->bias[PRODUCT_DOWN], 0, f->dim},
    };
    char prefix[64];
    (void)snprintf(prefix, sizeof(prefix), "model.layers.%d.", index);
    enum status s = OK;
    for (size_t i = 0; i < ARRAY_LEN(parts) && !s; i++)
        s = bind(b, prefix, &parts[i]);
    return s;
}

/* Without its last layers a model still speaks, and nobody could tell why so badly. */
static enum status refuse_more_layers(const struct binder *b)
{
    const struct complaint c = complaint_in(weights_file(b->w, NULL), b->err, b->err_size);
    char name[TENSOR_NAME_MAX];
    char spelled[TENSOR_NAME_MAX];
    (void)snprintf(name, sizeof(name), "model.layers.%d.input_layernorm.weight", b->info->n_layers);
    if (!weights_find(b->w, name))
        return OK;
    return complain(&c, E_FORMAT, "%d layers, but there is a tensor \"%s\"", b->info->n_layers,
                    weights_spelling(b->w, name, spelled));
}

static enum status bind_all(struct binder *b, struct llama *l)
{
    struct model_info *f = &l->config.info;
    const struct part beside[TENSORS_BESIDE] = {
        {"model.embed_tokens.weight", &l->embed, 0, f->vocab},
        {"model.norm.weight", &l->final_norm, 0, 1},
        {"lm_head.weight", &l->head, 0, f->vocab},
    };
    if (!l->config.untied && !weights_find(b->w, "lm_head.weight"))
        f->tied = true;
    enum status s = OK;
    for (size_t i = 0; i < ARRAY_LEN(beside) && !s; i++) {
        if (beside[i].into != &l->head || !f->tied)
            s = bind(b, "", &beside[i]);
    }
    for (int32_t i = 0; i < f->n_layers && !s; i++)
        s = bind_layer(b, l, i);
    return s ? s : refuse_more_layers(b);
}

enum status llama_bind(struct llama *l, const struct weights *w, struct load_item **items,
                       size_t *n_items, char *err, size_t err_size)
{
    size_t n = (size_t)l->config.info.n_layers * TENSORS_PER_LAYER + TENSORS_BESIDE;
    struct binder b = {
        .w = w, .info = &l->config.info, .int8 = l->config.int8, .err = err, .err_size = err_size};
    const struct complaint c = complaint_in("model", err, err_size);
    b.item = calloc(n, sizeof(*b.item));
    if (!b.item)
        return complain(&c, E_NOMEM, "no memory for a list of %zu tensors", n);
    enum status s = bind_all(&b, l);
    if (s) {
        free(b.item);
        return s;
    }
    *items = b.item;
    *n_items = b.n;
    return OK;
}

/* --- memory --- */

static void take_weight(struct memory *mem, struct weight *w)
{
    size_t n = (size_t)w->n;
    size_t k = (size_t)w->k;
    if (n == 0)
        return;
    if (w->kind == NUM_F32) {
        w->f = memory_take_rows(mem, n, k, sizeof(float));
        return;
    }
    w->q = memory_take_rows(mem, n, k, sizeof(int8_t));
    w->scale = memory_take(mem, n, 1, sizeof(float));
    w->sum = memory_take(mem, n, 1, sizeof(int32_t));
}

/* Where a weight is told of a vector, it is a plain pointer, and none when there is none. */
static void take_layer(struct memory *mem, const struct llama *l, struct llama_layer *y)
{
    struct weight *const all[] = {&y->attn_norm, &y->q_norm, &y->k_norm, &y->ffn_norm};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        take_weight(mem, all[i]);
    for (int i = 0; i < PRODUCTS; i++) {
        take_weight(mem, &y->bias[i]);
        take_weight(mem, &y->product[i]);
        y->product[i].bias = y->bias[i].f;
    }
    y->shape.q_norm = y->q_norm.f;
    y->shape.k_norm = y->k_norm.f;
    y->shape.rope_freq = l->rope_freq;
}

void llama_take_weights(struct llama *l, struct memory *mem)
{
    take_weight(mem, &l->embed);
    take_weight(mem, &l->final_norm);
    if (l->config.info.tied)
        l->head = l->embed;
    else
        take_weight(mem, &l->head);
    l->rope_freq = memory_take(mem, (size_t)l->config.info.head_dim / 2, 1, sizeof(float));
    for (int32_t i = 0; i < l->config.info.n_layers; i++)
        take_layer(mem, l, &l->layer[i]);
}

/* Room for the input of a product: as floats, and as int8 where some may be. */
static struct act take_act(struct memory *mem, enum number kind, size_t rows, size_t dim)
{
    struct act a = {.kind = kind};
    a.f = memory_take(mem, rows, dim, sizeof(float));
    if (kind == NUM_F32)
        return a;
    a.q = memory_take(mem, rows, dim, sizeof(int8_t));
    a.scale = memory_take(mem, rows, 1, sizeof(float));
    return a;
}

void llama_take_scratch(struct llama *l, struct memory *mem, int32_t rows, int32_t picks)
{
    const struct model_info *f = &l->config.info;
    size_t r = (size_t)rows;
    size_t p = (size_t)picks;
    size_t dim = (size_t)f->dim;
    l->x = memory_take(mem, r, dim, sizeof(float));
    int32_t wide = larger(larger(l->qkv_dim, 2 * f->hidden), f->dim);
    l->wide = memory_take(mem, r, (size_t)wide, sizeof(float));
    l->att = memory_take(mem, r, (size_t)l->q_dim, sizeof(float));
    l->act = take_act(mem, l->act_kind, r, (size_t)larger(larger(f->dim, l->q_dim), f->hidden));
    l->picked = memory_take(mem, p, dim, sizeof(float));
    l->head_in = take_act(mem, NUM_F32, p, dim);
    l->logits = memory_take(mem, p, (size_t)f->vocab, sizeof(float));
}

/* Of a block, all layers. */
static size_t block_bytes(const struct llama *l)
{
    return (size_t)l->config.info.n_layers * kv_layer_bytes(l->kv_kind, &l->layer[0].shape);
}

size_t llama_kv_token_bytes(const struct llama *l)
{
    return block_bytes(l) / BLOCK_TOKENS;
}

void llama_take_kv(struct llama *l, struct memory *mem, int32_t n_blocks)
{
    char *cache = memory_take(mem, (size_t)n_blocks, block_bytes(l), 1);
    if (!cache)
        return;
    for (int32_t i = 0; i < l->config.info.n_layers; i++) {
        const struct head_shape *shape = &l->layer[i].shape;
        l->layer[i].kv = kv_layer_at(l->kv_kind, shape, cache, block_bytes(l));
        cache += kv_layer_bytes(l->kv_kind, shape);
    }
}

size_t llama_kv_bytes(struct llama *l, int32_t n_blocks)
{
    struct memory count = {0};
    llama_take_kv(l, &count, n_blocks);
    return count.bytes;
}

/* --- the forward pass, in the order of the paper --- */

/* The input of a product, to be written in the way the product reads it. */
static struct act input_of(const struct llama *l, const struct weight *w)
{
    struct act a = l->act;
    a.kind = l->probe ? NUM_F32 : w->act;
    return a;
}

static void multiply(struct llama *l, struct ops *o, float *y, struct llama_layer *layer,
                     enum product which, int32_t rows, bool accumulate)
{
    if (l->probe)
        probe_input(l->probe, l, o, layer, which, rows);
    const struct weight *w = &layer->product[which];
    struct act in = l->act;
    in.kind = w->act;
    o->linear(o, y, &in, w, rows, accumulate);
}

static void forward_layer(struct llama *l, struct ops *o, struct llama_layer *y,
                          const struct step_view *v)
{
    const struct model_info *f = &l->config.info;
    const struct act in_qkv = input_of(l, &y->product[PRODUCT_QKV]);
    const struct act in_out = input_of(l, &y->product[PRODUCT_OUT]);
    const struct act in_gate_up = input_of(l, &y->product[PRODUCT_GATE_UP]);
    const struct act in_down = input_of(l, &y->product[PRODUCT_DOWN]);
    float eps = l->config.eps;
    int32_t rows = v->n_rows;

    o->norm(o, &in_qkv, l->x, y->attn_norm.f, eps, rows, f->dim);
    multiply(l, o, l->wide, y, PRODUCT_QKV, rows, false);
    o->rope_store(o, l->wide, &y->kv, v, &y->shape);
    o->attention(o, l->att, l->wide, &y->kv, v, &y->shape);
    o->convert(o, &in_out, l->att, rows, l->q_dim);
    multiply(l, o, l->x, y, PRODUCT_OUT, rows, true); /* adds to the residual stream */

    o->norm(o, &in_gate_up, l->x, y->ffn_norm.f, eps, rows, f->dim);
    multiply(l, o, l->wide, y, PRODUCT_GATE_UP, rows, false);
    o->swiglu(o, &in_down, l->wide, rows, f->hidden);
    multiply(l, o, l->x, y, PRODUCT_DOWN, rows, true);
}

void llama_forward(struct llama *l, struct ops *o, const struct llama_step *s)
{
    const struct model_info *f = &l->config.info;
    o->embed(o, l->x, &l->embed, s->token, s->view.n_rows);
    for (int32_t i = 0; i < l->n_run; i++)
        forward_layer(l, o, &l->layer[i], &s->view);
    /* The middle of a prompt only fills the cache. */
    if (s->n_picks == 0)
        return;
    o->gather(o, l->picked, l->x, s->pick_row, s->n_picks, f->dim);
    o->norm(o, &l->head_in, l->picked, l->final_norm.f, l->config.eps, s->n_picks, f->dim);
    o->linear(o, l->logits, &l->head_in, &l->head, s->n_picks, false);
}

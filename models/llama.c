#include "models/llama.h"

#include <math.h>
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

static void shape_layer(struct llama_layer *y, const struct llama *l, enum number kind)
{
    const struct model_info *f = &l->config.info;
    y->attn_norm = shaped(NUM_F32, NUM_F32, 1, f->dim);
    y->qkv = shaped(kind, l->act_kind, l->qkv_dim, f->dim);
    y->out = shaped(kind, l->act_kind, f->dim, l->q_dim);
    y->ffn_norm = shaped(NUM_F32, NUM_F32, 1, f->dim);
    y->gate_up = shaped(kind, l->act_kind, 2 * f->hidden, f->dim);
    y->down = shaped(kind, l->act_kind, f->dim, f->hidden);
    y->kv.kind = l->kv_kind;
}

enum status llama_init(struct llama *l, const struct config *c, bool weights_f32, bool kv_f32)
{
    const struct model_info *f = &c->info;
    enum number kind = weights_f32 ? NUM_F32 : NUM_Q8;
    *l = (struct llama){.config = *c};
    l->layer = calloc((size_t)f->n_layers, sizeof(*l->layer));
    if (!l->layer)
        return E_NOMEM;
    l->act_kind = kind;
    l->kv_kind = kv_f32 ? NUM_F32 : NUM_Q8;
    l->q_dim = f->n_heads * f->head_dim;
    l->qkv_dim = l->q_dim + 2 * f->n_kv_heads * f->head_dim;
    l->shape = (struct head_shape){.n_heads = f->n_heads,
                                   .n_kv_heads = f->n_kv_heads,
                                   .head_dim = f->head_dim,
                                   .block_tokens = BLOCK_TOKENS,
                                   .score_scale = 1.0f / sqrtf((float)f->head_dim)};
    /* The head decides between neighbours, so its input stays unrounded. */
    l->embed = shaped(kind, NUM_F32, f->vocab, f->dim);
    l->final_norm = shaped(NUM_F32, NUM_F32, 1, f->dim);
    l->head = shaped(kind, NUM_F32, f->vocab, f->dim);
    for (int32_t i = 0; i < f->n_layers; i++)
        shape_layer(&l->layer[i], l, kind);
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
    struct load_item *item; /* [n] */
    size_t n;
    char *err;
    size_t err_size;
};

static enum status check_shape(const struct tensor *t, const char *name, const struct part *p,
                               const struct complaint *c)
{
    bool vector = p->into->n == 1;
    uint64_t rows = vector ? (uint64_t)p->into->k : (uint64_t)p->rows;
    uint64_t cols = vector ? 1 : (uint64_t)p->into->k;
    uint64_t row_bytes;
    if (t->dtype == DTYPE_OTHER || t->dtype == DTYPE_I8)
        return complain(c, E_UNSUPPORTED,
                        "tensor \"%s\" is %s; known: F32, F16, BF16 and, in "
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

static enum status bind(struct binder *b, const char *prefix, const struct part *p)
{
    char name[TENSOR_NAME_MAX];
    char spelled[TENSOR_NAME_MAX];
    struct complaint c = complaint_in("model", b->err, b->err_size);
    (void)snprintf(name, sizeof(name), "%s%s.weight", prefix, p->name);
    const struct tensor *t = weights_find(b->w, name);
    const char *shown = weights_spelling(b->w, name, spelled);
    if (!t)
        return complain(&c, E_FORMAT, "tensor \"%s\" is missing", shown);
    c.file = weights_file(b->w, t);
    enum status s = check_shape(t, shown, p, &c);
    if (s)
        return s;
    b->item[b->n++] =
        (struct load_item){.tensor = t, .into = p->into, .row = p->row, .rows = p->rows};
    b->info->n_params += (uint64_t)p->rows * (uint64_t)p->into->k;
    b->info->file_bytes += t->bytes;
    return OK;
}

enum { TENSORS_PER_LAYER = 9, TENSORS_BESIDE = 3 };

static enum status bind_layer(struct binder *b, struct llama *l, int32_t index)
{
    const struct model_info *f = &l->config.info;
    struct llama_layer *y = &l->layer[index];
    int32_t q = l->q_dim;
    int32_t kv = f->n_kv_heads * f->head_dim;
    const struct part parts[TENSORS_PER_LAYER] = {
        {"input_layernorm", &y->attn_norm, 0, 1},
        {"self_attn.q_proj", &y->qkv, 0, q},
        {"self_attn.k_proj", &y->qkv, q, kv},
        {"self_attn.v_proj", &y->qkv, q + kv, kv},
        {"self_attn.o_proj", &y->out, 0, f->dim},
        {"post_attention_layernorm", &y->ffn_norm, 0, 1},
        {"mlp.gate_proj", &y->gate_up, 0, f->hidden},
        {"mlp.up_proj", &y->gate_up, f->hidden, f->hidden},
        {"mlp.down_proj", &y->down, 0, f->dim},
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
    const struct complaint c = complaint_in("config.json", b->err, b->err_size);
    char name[128];
    (void)snprintf(name, sizeof(name), "model.layers.%d.input_layernorm.weight", b->info->n_layers);
    if (!weights_find(b->w, name))
        return OK;
    return complain(&c, E_FORMAT, "\"num_hidden_layers\" is %d, but there is a tensor \"%s\"",
                    b->info->n_layers, name);
}

static enum status bind_all(struct binder *b, struct llama *l)
{
    struct model_info *f = &l->config.info;
    const struct part beside[TENSORS_BESIDE] = {
        {"model.embed_tokens", &l->embed, 0, f->vocab},
        {"model.norm", &l->final_norm, 0, 1},
        {"lm_head", &l->head, 0, f->vocab},
    };
    if (!weights_find(b->w, "lm_head.weight"))
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
    struct binder b = {.w = w, .info = &l->config.info, .err = err, .err_size = err_size};
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
    if (w->kind == NUM_F32) {
        w->f = memory_take(mem, n, k, sizeof(float));
        return;
    }
    w->q = memory_take(mem, n, k, sizeof(int8_t));
    w->scale = memory_take(mem, n, 1, sizeof(float));
}

void llama_take_weights(struct llama *l, struct memory *mem)
{
    take_weight(mem, &l->embed);
    take_weight(mem, &l->final_norm);
    if (l->config.info.tied)
        l->head = l->embed;
    else
        take_weight(mem, &l->head);
    for (int32_t i = 0; i < l->config.info.n_layers; i++) {
        struct llama_layer *y = &l->layer[i];
        take_weight(mem, &y->attn_norm);
        take_weight(mem, &y->qkv);
        take_weight(mem, &y->out);
        take_weight(mem, &y->ffn_norm);
        take_weight(mem, &y->gate_up);
        take_weight(mem, &y->down);
    }
    l->rope_freq = memory_take(mem, (size_t)l->config.info.head_dim / 2, 1, sizeof(float));
    l->shape.rope_freq = l->rope_freq;
}

static struct act take_act(struct memory *mem, enum number kind, size_t rows, size_t dim)
{
    struct act a = {.kind = kind};
    if (kind == NUM_F32) {
        a.f = memory_take(mem, rows, dim, sizeof(float));
        return a;
    }
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
    l->wide = memory_take(mem, r, (size_t)larger(l->qkv_dim, 2 * f->hidden), sizeof(float));
    l->att = memory_take(mem, r, (size_t)l->q_dim, sizeof(float));
    l->act = take_act(mem, l->act_kind, r, (size_t)larger(larger(f->dim, l->q_dim), f->hidden));
    l->picked = memory_take(mem, p, dim, sizeof(float));
    l->head_in = take_act(mem, NUM_F32, p, dim);
    l->logits = memory_take(mem, p, (size_t)f->vocab, sizeof(float));
}

size_t llama_kv_token_bytes(const struct llama *l)
{
    const struct model_info *f = &l->config.info;
    size_t head = (size_t)f->head_dim;
    size_t one = l->kv_kind == NUM_F32 ? head * sizeof(float) : head + sizeof(float);
    return 2 * one * (size_t)f->n_layers * (size_t)f->n_kv_heads;
}

void llama_take_kv(struct llama *l, struct memory *mem, int32_t n_blocks)
{
    const struct model_info *f = &l->config.info;
    size_t slots = (size_t)f->n_kv_heads * BLOCK_TOKENS;
    size_t values = slots * (size_t)f->head_dim;
    size_t blocks = (size_t)n_blocks;
    for (int32_t i = 0; i < f->n_layers; i++) {
        struct kv_layer *kv = &l->layer[i].kv;
        if (kv->kind == NUM_F32) {
            kv->key_f = memory_take(mem, blocks, values, sizeof(float));
            kv->value_f = memory_take(mem, blocks, values, sizeof(float));
            continue;
        }
        kv->key_q = memory_take(mem, blocks, values, sizeof(int8_t));
        kv->value_q = memory_take(mem, blocks, values, sizeof(int8_t));
        kv->key_scale = memory_take(mem, blocks, slots, sizeof(float));
        kv->value_scale = memory_take(mem, blocks, slots, sizeof(float));
    }
}

/* --- the forward pass, in the order of the paper --- */

static void forward_layer(struct llama *l, struct ops *o, const struct llama_layer *y,
                          const struct step_view *v)
{
    const struct model_info *f = &l->config.info;
    float eps = l->config.eps;
    int32_t rows = v->n_rows;

    o->norm(o, &l->act, l->x, y->attn_norm.f, eps, rows, f->dim);
    o->linear(o, l->wide, &l->act, &y->qkv, rows, false);
    o->rope_store(o, l->wide, &y->kv, v, &l->shape);
    o->attention(o, l->att, l->wide, &y->kv, v, &l->shape);
    o->convert(o, &l->act, l->att, rows, l->q_dim);
    o->linear(o, l->x, &l->act, &y->out, rows, true); /* adds to the residual stream */

    o->norm(o, &l->act, l->x, y->ffn_norm.f, eps, rows, f->dim);
    o->linear(o, l->wide, &l->act, &y->gate_up, rows, false);
    o->swiglu(o, &l->act, l->wide, rows, f->hidden);
    o->linear(o, l->x, &l->act, &y->down, rows, true);
}

void llama_forward(struct llama *l, struct ops *o, const struct llama_step *s)
{
    const struct model_info *f = &l->config.info;
    o->embed(o, l->x, &l->embed, s->token, s->view.n_rows);
    for (int32_t i = 0; i < f->n_layers; i++)
        forward_layer(l, o, &l->layer[i], &s->view);
    /* The middle of a prompt only fills the cache. */
    if (s->n_picks == 0)
        return;
    o->gather(o, l->picked, l->x, s->pick_row, s->n_picks, f->dim);
    o->norm(o, &l->head_in, l->picked, l->final_norm.f, l->config.eps, s->n_picks, f->dim);
    o->linear(o, l->logits, &l->head_in, &l->head, s->n_picks, false);
    o->sample(o, s->out, l->logits, s->pick, s->n_picks, f->vocab);
}

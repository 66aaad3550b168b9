#include "models/probe.h"

#include "models/gguf.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Twice the worst of the healthy models at hand (5 %, in the input of down_proj). */
const float probe_loss_max = 0.1f;

float loss_of(const float *a, const float *b, int32_t n)
{
    double length = 0;
    double change = 0;
    for (int32_t i = 0; i < n; i++) {
        double d = (double)b[i] - (double)a[i];
        length += (double)a[i] * (double)a[i];
        change += d * d;
    }
    return length > 0 ? (float)sqrt(change / length) : 0.0f;
}

void probe_tokens(int32_t ids[PROBE_TOKENS], const struct model_info *info)
{
    static const int32_t after[PROBE_TOKENS - 1] = {13,    29889, 198, 11, 310,   1576, 29892, 278,
                                                    29871, 700,   12,  2,  29896, 40,   9906};
    ids[0] = info->bos >= 0 ? info->bos : 0;
    for (int i = 1; i < PROBE_TOKENS; i++)
        ids[i] = after[i - 1] % info->vocab;
}

enum status probe_open(struct probe *p)
{
    const size_t bytes = (size_t)PROBE_TOKENS * PROBE_OUTPUTS * sizeof(float);
    *p = (struct probe){.status = OK};
    p->with_floats = malloc(bytes);
    p->with_int8 = malloc(bytes);
    return p->with_floats && p->with_int8 ? OK : E_NOMEM;
}

void probe_close(struct probe *p)
{
    free(p->with_floats);
    free(p->with_int8);
    *p = (struct probe){.status = OK};
}

/* The first outputs of the product; what the product overwrites anyway holds them. Numbers
 * come down between steps only. */
static void sample(struct probe *p, const struct llama *l, struct ops *o, const struct weight *w,
                   enum number act, int32_t rows, float *to)
{
    struct weight some = *w;
    struct act in = l->act;
    some.n = min32(w->n, PROBE_OUTPUTS);
    some.act = act;
    in.kind = act;
    if (act == NUM_Q8)
        o->convert(o, &in, l->act.f, rows, w->k);
    o->linear(o, l->wide, &in, &some, rows, false);
    (void)o->step_end(o); /* without a key nothing is recorded that could fail */
    o->step_launch(o);
    enum status s = o->step_wait(o);
    p->status = p->status ? p->status : s;
    o->download(o, to, l->wide, (size_t)rows * (size_t)some.n * sizeof(*to));
    (void)o->step_begin(o, NULL);
}

void probe_input(struct probe *p, struct llama *l, struct ops *o, struct llama_layer *y,
                 enum product which, int32_t rows)
{
    struct weight *w = &y->product[which];
    int32_t n = min32(w->n, PROBE_OUTPUTS);
    if (w->act == NUM_F32)
        return;
    sample(p, l, o, w, NUM_F32, rows, p->with_floats);
    sample(p, l, o, w, NUM_Q8, rows, p->with_int8);
    for (int32_t r = 0; r < rows; r++) {
        float loss = loss_of(p->with_floats + r * n, p->with_int8 + r * n, n);
        y->loss[which] = loss > y->loss[which] ? loss : y->loss[which];
    }
    if (y->loss[which] > probe_loss_max)
        w->act = NUM_F32;
}

const char *product_name(enum product p)
{
    static const char *const names[PRODUCTS] = {"self_attn.qkv_proj", "self_attn.o_proj",
                                                "mlp.gate_up_proj", "mlp.down_proj"};
    return names[p];
}

static const char member[] = "firstlight";
static const char list_name[] = "float_activations";

static enum status recall(bool *found, struct llama *l, const cJSON *config,
                          const struct complaint *c)
{
    const cJSON *list = json_get(json_get(config, member), list_name);
    if (!list)
        return OK;
    if (!cJSON_IsObject(list))
        return complain(c, E_FORMAT, "\"%s\" must be an object of numbers", list_name);
    *found = true;
    for (int32_t i = 0; i < l->config.info.n_layers; i++) {
        for (int p = 0; p < PRODUCTS; p++) {
            char name[TENSOR_NAME_MAX];
            double loss = 0;
            (void)snprintf(name, sizeof(name), "model.layers.%d.%s", i,
                           product_name((enum product)p));
            enum status s = field_number(list, name, 0, 1e30, &loss, c);
            if (s)
                return s;
            l->layer[i].loss[p] = (float)loss;
            if (json_get(list, name))
                l->layer[i].product[p].act = NUM_F32;
        }
    }
    return OK;
}

enum status probe_recall(bool *found, struct llama *l, const char *path, char *err, size_t err_size)
{
    struct complaint c = complaint_in("config.json", err, err_size);
    cJSON *root = NULL;
    *found = false;
    if (gguf_is_path(path))
        return OK;
    enum status s = json_load(&root, path, CONFIG_BYTES_MAX, CONFIG_NODES_MAX, &c);
    if (!s)
        s = recall(found, l, root, &c);
    cJSON_Delete(root);
    return s;
}

struct cJSON *probe_record(const struct llama *l)
{
    cJSON *o = cJSON_CreateObject();
    cJSON *list = cJSON_AddObjectToObject(o, list_name);
    bool good = list != NULL;
    for (int32_t i = 0; i < l->config.info.n_layers; i++) {
        for (int p = 0; p < PRODUCTS; p++) {
            char name[TENSOR_NAME_MAX];
            const struct llama_layer *y = &l->layer[i];
            (void)snprintf(name, sizeof(name), "model.layers.%d.%s", i,
                           product_name((enum product)p));
            if (good && y->product[p].act == NUM_F32)
                good = cJSON_AddNumberToObject(list, name, (double)y->loss[p]) != NULL;
        }
    }
    if (good)
        return o;
    cJSON_Delete(o);
    return NULL;
}

#include "models/model_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The memory of a model, before any of it is taken.
 *
 * Weights, scratch and cache are counted by the code that will take them, so a model that does
 * not fit says so at once, with numbers, and `serve --plan` and `inspect` tell what an opening
 * would come to. The cache gets opt->kv_bytes; or, when that is 0, on the cpu what step_seqs_max
 * whole contexts need but no more than a quarter of the free memory (and at least one context),
 * elsewhere nine tenths of what weights and scratch leave. */

enum {
    STEP_ROWS_LIMIT = 65536,
    STEP_SEQS_LIMIT = 4096,
    CONTEXT_MIN = 2, /* a token of a prompt and one of an answer */
    /* Each block costs the scheduler some hundred bytes of host memory: a tiny model on a
     * large GPU is not given all of it. */
    BLOCKS_CHOSEN_MAX = 1 << 20,
};

static double mib(size_t bytes)
{
    return (double)bytes / 1048576.0;
}

static enum status check_options(const struct model_options *opt, const struct model_info *f,
                                 const struct complaint *c)
{
    if (opt->step_rows_max < 1 || opt->step_rows_max > STEP_ROWS_LIMIT)
        return complain(c, E_INVALID, "%d rows per step; 1 to %d are possible", opt->step_rows_max,
                        STEP_ROWS_LIMIT);
    if (opt->step_seqs_max < 1 || opt->step_seqs_max > STEP_SEQS_LIMIT ||
        opt->step_seqs_max > opt->step_rows_max)
        return complain(c, E_INVALID,
                        "%d sequences per step; 1 to %d are possible, and no more "
                        "than rows",
                        opt->step_seqs_max, STEP_SEQS_LIMIT);
    if (opt->context_max < 0 || opt->context_max > f->context_max)
        return complain(c, E_INVALID, "a context of %d is over the model's %d", opt->context_max,
                        f->context_max);
    if ((opt->context_max ? opt->context_max : f->context_max) < CONTEXT_MIN)
        return complain(c, E_INVALID, "a context of 1 token has no room for an answer");
    return OK;
}

static void pack_layout(struct model *m)
{
    size_t rows = (size_t)m->rows_max;
    size_t seqs = (size_t)m->seqs_max;
    m->at.token = 0;
    m->at.position = rows;
    m->at.row_seq = 2 * rows;
    m->at.seq_start = 3 * rows;
    m->at.pick_row = m->at.seq_start + seqs + 1;
    m->at.table = m->at.pick_row + seqs;
    m->at.total = m->at.table + seqs * (size_t)m->stride_max;
}

void model_take_fixed(struct model *m, struct memory *mem)
{
    llama_take_weights(&m->llama, mem);
    m->llama.config.info.weight_bytes = mem->bytes;
    llama_take_scratch(&m->llama, mem, m->rows_max, m->seqs_max);
    m->device = memory_take(mem, m->at.total, 1, sizeof(int32_t));
}

/* Room for the cache, by rule or by option. */
static size_t kv_budget(const struct model *m, const struct model_options *opt, size_t block_bytes,
                        size_t all, size_t left)
{
    if (opt->kv_bytes)
        return opt->kv_bytes;
    if (strcmp(m->ops->name, "cuda") == 0) {
        size_t use = left / 10 * 9;
        return use / block_bytes < BLOCKS_CHOSEN_MAX ? use : BLOCKS_CHOSEN_MAX * block_bytes;
    }
    size_t one = (size_t)m->stride_max * block_bytes;
    size_t most = all / 4 > one ? all / 4 : one;
    most = most < left ? most : left;
    /* Of a model with absurd sizes seqs_max contexts may be more than a size_t holds. */
    return most / one < (size_t)m->seqs_max ? most : (size_t)m->seqs_max * one;
}

/* n blocks are less than one context. */
static enum status too_long(const struct model *m, size_t n, size_t block_bytes,
                            const struct complaint *c)
{
    char advice[64] = "no context fits";
    if (n > 0)
        (void)snprintf(advice, sizeof(advice), "--context %zu fits", n * BLOCK_TOKENS);
    return complain(c, E_NOMEM,
                    "a context of %d tokens needs %.1f MiB of cache, there is room for "
                    "%.1f MiB; %s",
                    m->llama.config.info.context_max, mib((size_t)m->stride_max * block_bytes),
                    mib(n * block_bytes), advice);
}

enum status model_plan_blocks(struct model *m, const struct model_options *opt,
                              const struct complaint *c)
{
    struct memory count = {0};
    struct model_info *f = &m->llama.config.info;
    size_t all = m->ops->bytes_free(m->ops);
    all = opt->memory_max && opt->memory_max < all ? opt->memory_max : all;
    model_take_fixed(m, &count);
    if (count.status || count.bytes > all)
        return complain(c, E_NOMEM, "needs %.1f MiB for weights and scratch, %.1f MiB are free",
                        mib(count.bytes), mib(all));
    size_t block_bytes = BLOCK_TOKENS * llama_kv_token_bytes(&m->llama);
    size_t budget = kv_budget(m, opt, block_bytes, all, all - count.bytes);
    size_t n = budget / block_bytes;
    if (budget > all - count.bytes)
        return complain(c, E_NOMEM,
                        "a cache of %.1f MiB is asked for, %.1f MiB are free beside %.1f "
                        "MiB of weights and scratch",
                        mib(budget), mib(all - count.bytes), mib(count.bytes));
    n = n < INT32_MAX ? n : INT32_MAX;
    while (n > 0 && llama_kv_bytes(&m->llama, (int32_t)n) > all - count.bytes)
        n--;
    if (n < (size_t)m->stride_max)
        return too_long(m, n, block_bytes, c);
    f->n_blocks = (int32_t)n;
    return OK;
}

enum status model_prepare(struct model *m, const struct model_options *opt,
                          const struct complaint *c)
{
    struct config config;
    enum status s = config_load(&config, opt->path, c->text, c->size);
    if (!s)
        s = check_options(opt, &config.info, c);
    if (s)
        return s;
    if (opt->context_max)
        config.info.context_max = opt->context_max;
    config.info.block_tokens = BLOCK_TOKENS;
    if (llama_init(&m->llama, &config, opt->weights_f32, opt->kv))
        return complain(c, E_NOMEM, "no memory");
    m->llama.config.info.kv_bytes_per_token = llama_kv_token_bytes(&m->llama);
    m->rows_max = opt->step_rows_max;
    m->seqs_max = opt->step_seqs_max;
    m->stride_max = blocks_for(config.info.context_max);
    pack_layout(m);
    return OK;
}

/* What an ordinary opening would come to, by the same code. */
static enum status inspect(struct llama *l, const char *path, char *err, size_t err_size)
{
    struct weights *w = NULL;
    struct load_item *items = NULL;
    size_t n_items;
    struct memory count = {0};
    enum status s = weights_open(&w, path, err, err_size);
    if (!s)
        s = llama_bind(l, w, &items, &n_items, err, err_size);
    if (!s)
        weights_describe(w, l->config.info.format, sizeof(l->config.info.format),
                         l->config.info.types, sizeof(l->config.info.types));
    free(items);
    weights_close(w);
    if (s)
        return s;
    llama_take_weights(l, &count);
    l->config.info.weight_bytes = count.bytes;
    l->config.info.kv_bytes_per_token = llama_kv_token_bytes(l);
    l->config.info.block_tokens = BLOCK_TOKENS;
    return OK;
}

enum status model_inspect(struct model_info *out, const char *path, char *err, size_t err_size)
{
    struct config config;
    struct llama l;
    const struct complaint c = complaint_in("model", err, err_size);
    enum status s = config_load(&config, path, err, err_size);
    if (s)
        return s;
    if (llama_init(&l, &config, false, false))
        return complain(&c, E_NOMEM, "no memory");
    s = inspect(&l, path, err, err_size);
    *out = l.config.info;
    llama_free(&l);
    return s;
}

/* A backend that only says how much it has. */
struct assumed {
    struct ops ops;
    size_t bytes_free;
};

static size_t assumed_free(struct ops *o)
{
    return CONTAINER_OF(o, struct assumed, ops)->bytes_free;
}

static enum status plan_all(struct model *m, const struct model_options *opt,
                            const struct complaint *c)
{
    struct weights *w = NULL;
    struct load_item *items = NULL;
    size_t n_items;
    enum status s = model_prepare(m, opt, c);
    if (!s)
        s = weights_open(&w, opt->path, c->text, c->size);
    if (!s)
        s = llama_bind(&m->llama, w, &items, &n_items, c->text, c->size);
    if (!s)
        s = model_plan_blocks(m, opt, c);
    free(items);
    weights_close(w);
    return s;
}

enum status model_plan(struct model_memory *out, struct model_info *info,
                       const struct model_options *opt, const char *backend, size_t bytes_free,
                       char *err, size_t err_size)
{
    const struct complaint c = complaint_in("model", err, err_size);
    struct assumed has = {.ops = {.name = backend, .bytes_free = assumed_free},
                          .bytes_free = bytes_free};
    struct memory scratch = {0};
    struct memory batch = {0};
    struct model *m = calloc(1, sizeof(*m));
    if (!m)
        return complain(&c, E_NOMEM, "no memory");
    m->ops = &has.ops;
    enum status s = plan_all(m, opt, &c);
    if (s == OK) {
        *info = m->llama.config.info;
        llama_take_scratch(&m->llama, &scratch, m->rows_max, m->seqs_max);
        (void)memory_take(&batch, m->at.total, 1, sizeof(int32_t));
        *out = (struct model_memory){
            .weights = (size_t)info->weight_bytes,
            .scratch = scratch.bytes,
            .batch = batch.bytes,
            .cache = llama_kv_bytes(&m->llama, info->n_blocks),
        };
        out->free = bytes_free - out->weights - out->scratch - out->batch - out->cache;
    }
    llama_free(&m->llama);
    free(m);
    return s;
}

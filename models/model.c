#include "models/model_priv.h"

#include "models/probe.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Opening a model: the memory that model_plan.c has planned is taken, weights are read into it, a
 * probe chooses what products read, and a first step shows that the backend works. After
 * model_open() nothing is allocated. */

static enum status take_all(struct model *m, const struct complaint *c)
{
    model_take_fixed(m, &m->memory);
    llama_take_kv(&m->llama, &m->memory, m->llama.config.info.n_blocks);
    if (m->memory.status)
        return complain(c, m->memory.status, "the backend has no %.1f MiB after all",
                        (double)m->memory.bytes / 1048576.0);
    m->host = calloc(m->at.total, sizeof(*m->host));
    m->pick = calloc((size_t)m->seqs_max, sizeof(*m->pick));
    m->drawn = calloc((size_t)m->seqs_max, sizeof(*m->drawn));
    if (!m->host || !m->pick || !m->drawn)
        return complain(c, E_NOMEM, "no memory for the step's arrays");
    return OK;
}

static enum status upload_rope(struct model *m, const struct weights *w, const struct complaint *c)
{
    const struct model_info *f = &m->llama.config.info;
    size_t bytes = (size_t)f->head_dim / 2 * sizeof(float);
    float *freq = malloc(bytes);
    if (!freq)
        return complain(c, E_NOMEM, "no memory");
    enum status s = load_rope(freq, &m->llama.config.rope, f->head_dim, w, c);
    if (!s)
        m->ops->upload(m->ops, m->llama.rope_freq, freq, bytes);
    free(freq);
    return s;
}

/* Rows of one sequence from position on, in block 0, for nobody to see. */
static enum status run_rows(struct model *m, const int32_t *token, int32_t position, int32_t n,
                            const struct pick *pick)
{
    const int32_t zero = 0;
    const int32_t seq_start[2] = {0, n};
    int32_t at[PROBE_TOKENS];
    struct picked out;
    const struct model_batch b = {.n_rows = n,
                                  .n_seqs = 1,
                                  .n_picks = pick ? 1 : 0,
                                  .table_stride = 1,
                                  .token = token,
                                  .position = at,
                                  .seq_start = seq_start,
                                  .block_table = &zero,
                                  .pick = pick};
    for (int32_t i = 0; i < n; i++)
        at[i] = position + i;
    model_launch(m, &b);
    enum status s = model_wait(m, &out);
    m->n_picks = 0;
    return s;
}

/* A step of one token: what the backend allocates or compiles at first use, and what it
 * cannot do at all, shows now and not under the first client. Once more, it may be recorded.
 * On the host one layer shows it: the others would only read all the weights. */
static enum status warm_up(struct model *m, const struct complaint *c)
{
    const int32_t zero = 0;
    const struct pick pick = {.how = {.top_p = 1, .repetition = 1, .n_logprobs = -1}};
    m->llama.n_run = m->ops->host_memory ? 1 : m->llama.config.info.n_layers;
    enum status s = run_rows(m, &zero, 0, 1, &pick);
    if (!s && m->ops->records)
        s = run_rows(m, &zero, 0, 1, &pick);
    m->llama.n_run = m->llama.config.info.n_layers;
    return s ? complain(c, s, "the backend fails at the first step") : OK;
}

static void say_notes(const struct model *m)
{
    struct model_note first;
    size_t n = model_notes(m, &first, 1);
    if (n > 0)
        log_line(LOG_INFO,
                 "%zu products read floats, for int8 input would cost too much; the first is "
                 "model.layers.%d.%s (%.0f %% of its output)",
                 n, first.layer, first.product, 100 * (double)first.loss);
}

static enum status run_probe(struct model *m, const struct complaint *c)
{
    struct probe probe;
    int32_t ids[PROBE_TOKENS];
    int32_t context = m->llama.config.info.context_max;
    int32_t total = PROBE_TOKENS < context ? PROBE_TOKENS : context;
    if (probe_open(&probe)) {
        probe_close(&probe);
        return complain(c, E_NOMEM, "no memory");
    }
    probe_tokens(ids, &m->llama.config.info);
    m->llama.probe = &probe;
    enum status s = OK;
    for (int32_t i = 0; i < total && !s; i += m->rows_max)
        s = run_rows(m, ids + i, i, min32(m->rows_max, total - i), NULL);
    m->llama.probe = NULL;
    s = s ? s : probe.status;
    probe_close(&probe);
    return s ? complain(c, s, "the backend fails at the first step") : OK;
}

/* What the options, the checkpoint or a probe want of the products' inputs. */
static enum status choose_acts(struct model *m, const struct model_options *opt,
                               const struct complaint *c)
{
    struct llama *l = &m->llama;
    bool chosen = false;
    if (opt->weights_f32 || opt->acts == ACTS_INT8)
        return OK;
    for (int32_t i = 0; i < l->config.info.n_layers && opt->acts == ACTS_FLOAT; i++) {
        for (int p = 0; p < PRODUCTS; p++)
            l->layer[i].product[p].act = NUM_F32;
    }
    if (opt->acts == ACTS_FLOAT)
        return OK;
    enum status s = probe_recall(&chosen, l, opt->path, c->text, c->size);
    if (!s && !chosen)
        s = run_probe(m, c);
    if (!s)
        say_notes(m);
    return s;
}

/* Headers are judged, memory is planned and taken, and only then data is read. */
static enum status open_weights(struct model *m, const struct model_options *opt,
                                const struct weights *w, uint64_t *at, const struct complaint *c)
{
    struct load_item *items = NULL;
    size_t n_items = 0;
    const struct load_report report = {.progress = opt->progress, .arg = opt->progress_arg};
    enum status s = llama_bind(&m->llama, w, &items, &n_items, c->text, c->size);
    if (!s)
        s = model_plan_blocks(m, opt, c);
    if (!s)
        stage_over(at, "headers and memory plan", 0);
    if (!s)
        s = take_all(m, c);
    if (!s)
        stage_over(at, "memory taken", m->memory.bytes);
    if (!s)
        s = upload_rope(m, w, c);
    if (!s)
        s = load_run(items, n_items, w, m->ops, &report, c->text, c->size);
    if (!s)
        stage_over(at, "weights read, converted and in place", m->llama.config.info.file_bytes);
    if (!s)
        s = choose_acts(m, opt, c);
    if (!s)
        stage_over(at, "inputs of products chosen", 0);
    if (!s)
        s = warm_up(m, c);
    if (!s)
        stage_over(at, m->ops->records ? "first steps, one of them recorded" : "first step", 0);
    free(items);
    return s;
}

enum status model_open(struct model **out, const struct model_options *opt, struct ops *ops,
                       char *err, size_t err_size)
{
    const struct complaint c = complaint_in("model", err, err_size);
    struct weights *w = NULL;
    uint64_t at = now_ns();
    struct model *m = calloc(1, sizeof(*m));
    if (!m)
        return complain(&c, E_NOMEM, "no memory");
    m->ops = ops;
    m->memory.ops = ops;
    enum status s = model_prepare(m, opt, &c);
    if (!s)
        s = weights_open(&w, opt->path, err, err_size);
    if (!s)
        s = open_weights(m, opt, w, &at, &c);
    weights_close(w);
    if (s)
        goto fail;
    *out = m;
    return OK;
fail:
    model_close(m);
    return s;
}

void model_close(struct model *m)
{
    if (!m)
        return;
    assert(!m->in_flight);
    memory_release(&m->memory);
    llama_free(&m->llama);
    free(m->host);
    free(m->pick);
    free(m->drawn);
    free(m);
}

size_t model_notes(const struct model *m, struct model_note *out, size_t max)
{
    const struct llama *l = &m->llama;
    size_t n = 0;
    for (int32_t i = 0; i < l->config.info.n_layers; i++) {
        for (int p = 0; p < PRODUCTS; p++) {
            const struct weight *w = &l->layer[i].product[p];
            if (w->kind != NUM_Q8 || w->act != NUM_F32)
                continue;
            if (n < max)
                out[n] = (struct model_note){.layer = i,
                                             .product = product_name((enum product)p),
                                             .loss = l->layer[i].loss[p]};
            n++;
        }
    }
    return n;
}

struct llama *model_llama(struct model *m)
{
    return &m->llama;
}

const struct model_info *model_info(const struct model *m)
{
    return &m->llama.config.info;
}

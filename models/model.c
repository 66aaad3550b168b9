#include "models/model.h"

#include "models/probe.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A loaded model: the memory plan at open, and the step.
 *
 * Plan. Weights, scratch and cache are counted before anything is taken or read, so a
 * model that does not fit says so at once, with numbers; after model_open() nothing is
 * allocated. The cache gets opt->kv_bytes; or, when that is 0, on the cpu what
 * step_seqs_max whole contexts need but no more than a quarter of the free memory (and at
 * least one context), elsewhere nine tenths of what weights and scratch leave.
 *
 * Step. The batch is packed into one array that goes up in one piece. Its addresses never
 * change and, where the backend records steps, its shape is rounded up with rows that are
 * nobody's: all that differs between two steps of a key lies in that array. */

enum {
    STEP_ROWS_LIMIT = 65536,
    STEP_SEQS_LIMIT = 4096,
    CONTEXT_MIN = 2,    /* a token of a prompt and one of an answer */
    KV_ROUND_MIN = 256, /* the shortest context a step is shaped for */
    /* Each block costs the scheduler some hundred bytes of host memory: a tiny model on a
     * large GPU is not given all of it. */
    BLOCKS_CHOSEN_MAX = 1 << 20,
};

/* Rows of a decode step are rounded up to a multiple of each up to its bound: the work of few more
 * rows for few shapes. */
static const struct {
    int32_t most;
    int32_t multiple;
} row_steps[] = {{2, 1}, {4, 2}, {8, 4}, {64, 8}, {256, 16}, {INT32_MAX, 64}};

/* The sections of the packed array, as offsets in numbers. */
struct packing {
    size_t token;     /* [rows] */
    size_t position;  /* [rows] */
    size_t row_seq;   /* [rows] */
    size_t seq_start; /* [seqs + 1] */
    size_t pick_row;  /* [picks] */
    size_t table;     /* [seqs][stride]; last, so that only what is used goes up */
    size_t total;
};

struct model {
    struct llama llama;
    struct memory memory;
    struct ops *ops;
    int32_t rows_max;
    int32_t seqs_max;
    int32_t stride_max; /* blocks of one whole context */
    struct packing at;
    int32_t *host;        /* [at.total] */
    int32_t *device;      /* [at.total] */
    struct pick *pick;    /* [seqs_max] */
    struct picked *drawn; /* [seqs_max] */
    int32_t n_picks;      /* of the last step launched */
    bool in_flight;
    bool failed; /* the last step did */
};

/* --- opening --- */

static int32_t blocks_for(int32_t tokens)
{
    return (tokens + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
}

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

/* Everything but the cache. */
static void take_fixed(struct model *m, struct memory *mem)
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

static enum status plan_blocks(struct model *m, const struct model_options *opt,
                               const struct complaint *c)
{
    struct memory count = {0};
    struct model_info *f = &m->llama.config.info;
    size_t all = m->ops->bytes_free(m->ops);
    all = opt->memory_max && opt->memory_max < all ? opt->memory_max : all;
    take_fixed(m, &count);
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

static enum status take_all(struct model *m, const struct complaint *c)
{
    take_fixed(m, &m->memory);
    llama_take_kv(&m->llama, &m->memory, m->llama.config.info.n_blocks);
    if (m->memory.status)
        return complain(c, m->memory.status, "the backend has no %.1f MiB after all",
                        mib(m->memory.bytes));
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
        s = plan_blocks(m, opt, c);
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

static enum status prepare(struct model *m, const struct model_options *opt,
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
    enum status s = prepare(m, opt, &c);
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
    enum status s = prepare(m, opt, c);
    if (!s)
        s = weights_open(&w, opt->path, c->text, c->size);
    if (!s)
        s = llama_bind(&m->llama, w, &items, &n_items, c->text, c->size);
    if (!s)
        s = plan_blocks(m, opt, c);
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

/* --- the step --- */

static void check_rows(const struct model *m, const struct model_batch *b, int32_t seq)
{
    const struct model_info *f = &m->llama.config.info;
    int32_t first = b->seq_start[seq];
    int32_t last = b->seq_start[seq + 1] - 1;
    assert(last >= first);
    assert(b->position[first] >= 0 && b->position[last] < f->context_max);
    for (int32_t r = first; r <= last; r++) {
        assert(b->position[r] == b->position[first] + r - first);
        assert(b->token[r] < f->vocab);
        assert(b->token[r] >= 0 || ~b->token[r] < m->n_picks);
    }
    const int32_t *table = b->block_table + (size_t)seq * (size_t)b->table_stride;
    int32_t n = blocks_for(b->position[last] + 1);
    assert(n <= b->table_stride);
    for (int32_t i = 0; i < n; i++)
        assert(table[i] >= 0 && table[i] < f->n_blocks);
}

/* All of this is the planner's duty: what a client sends cannot make it fail. */
static void check_batch(const struct model *m, const struct model_batch *b)
{
    assert(!m->in_flight);
    assert(b->n_rows >= 1 && b->n_rows <= m->rows_max);
    assert(b->n_seqs >= 1 && b->n_seqs <= m->seqs_max);
    assert(b->n_picks >= 0 && b->n_picks <= m->seqs_max);
    assert(b->seq_start[0] == 0 && b->seq_start[b->n_seqs] == b->n_rows);
    for (int32_t i = 0; i < b->n_seqs; i++)
        check_rows(m, b, i);
    for (int32_t i = 0; i < b->n_picks; i++) {
        assert(b->pick[i].row >= 0 && b->pick[i].row < b->n_rows);
        assert(i == 0 || b->pick[i].row > b->pick[i - 1].row);
    }
}

/* Rounded up to a power of two, so that steps of one batch share few shapes. */
static int32_t round_context(const struct model *m, int32_t tokens)
{
    int32_t most = m->llama.config.info.context_max;
    int32_t n = KV_ROUND_MIN;
    while (n < tokens)
        n *= 2;
    return n < most ? n : most;
}

static int32_t longest(const struct model_batch *b)
{
    int32_t most = 0;
    for (int32_t i = 0; i < b->n_seqs; i++) {
        int32_t n = b->position[b->seq_start[i + 1] - 1] + 1;
        most = n > most ? n : most;
    }
    return most;
}

/* A decode step looks like thousands before it; one with a prompt in it has a shape of its own,
 * which is never worth recording. */
static bool worth_recording(const struct model *m, const struct model_batch *b)
{
    return m->ops->records && !m->llama.probe && b->n_rows == b->n_seqs && b->n_picks == b->n_rows;
}

static int32_t round_rows(const struct model *m, int32_t rows)
{
    size_t i = 0;
    while (rows > row_steps[i].most)
        i++;
    int32_t up = (rows + row_steps[i].multiple - 1) / row_steps[i].multiple;
    return min32(up * row_steps[i].multiple, m->seqs_max);
}

/* Where the step's rows end, the rows up to shape_rows are nobody's. */
static void pack_padding(struct model *m, const struct model_batch *b, int32_t shape_rows)
{
    for (int32_t i = b->n_rows; i < shape_rows; i++) {
        m->host[m->at.token + (size_t)i] = 0;
        m->host[m->at.position + (size_t)i] = -1;
        m->host[m->at.row_seq + (size_t)i] = 0;
        m->host[m->at.seq_start + (size_t)i + 1] = b->n_rows;
        m->host[m->at.pick_row + (size_t)i] = i;
    }
}

/* Returns how many numbers are to go up. */
static size_t pack(struct model *m, const struct model_batch *b, int32_t stride)
{
    size_t rows = (size_t)b->n_rows;
    int32_t *h = m->host;
    memcpy(h + m->at.token, b->token, rows * sizeof(*h));
    memcpy(h + m->at.position, b->position, rows * sizeof(*h));
    memcpy(h + m->at.seq_start, b->seq_start, ((size_t)b->n_seqs + 1) * sizeof(*h));
    for (int32_t i = 0; i < b->n_picks; i++)
        h[m->at.pick_row + (size_t)i] = b->pick[i].row;
    for (int32_t i = 0; i < b->n_seqs; i++) {
        const int32_t *from = b->block_table + (size_t)i * (size_t)b->table_stride;
        int32_t *to = h + m->at.table + (size_t)i * (size_t)stride;
        size_t n = (size_t)blocks_for(b->position[b->seq_start[i + 1] - 1] + 1);
        memcpy(to, from, n * sizeof(*to));
        memset(to + n, 0, ((size_t)stride - n) * sizeof(*to));
        for (int32_t r = b->seq_start[i]; r < b->seq_start[i + 1]; r++)
            h[m->at.row_seq + (size_t)r] = i;
    }
    return m->at.table + (size_t)b->n_seqs * (size_t)stride;
}

static struct llama_step step_of(const struct model *m, const struct step_key *shape)
{
    struct llama_step s = {.token = m->device + m->at.token,
                           .pick_row = m->device + m->at.pick_row,
                           .n_picks = shape->picks};
    s.view = (struct step_view){.n_rows = shape->rows,
                                .position = m->device + m->at.position,
                                .row_seq = m->device + m->at.row_seq,
                                .seq_start = m->device + m->at.seq_start,
                                .block_table = m->device + m->at.table,
                                .table_stride = blocks_for(shape->context),
                                .kv_len_max = shape->context};
    return s;
}

void model_launch(struct model *m, const struct model_batch *b)
{
    check_batch(m, b);
    struct ops *o = m->ops;
    struct llama *l = &m->llama;
    bool recorded = worth_recording(m, b);
    struct step_key shape = {m, b->n_rows, b->n_picks, round_context(m, longest(b))};
    if (recorded)
        shape.rows = shape.picks = round_rows(m, b->n_rows);
    struct llama_step s = step_of(m, &shape);
    s.view.n_seqs = b->n_seqs + shape.rows - b->n_rows;
    size_t n = pack(m, b, s.view.table_stride);
    pack_padding(m, b, shape.rows);
    if (b->n_picks > 0)
        memcpy(m->pick, b->pick, (size_t)b->n_picks * sizeof(*m->pick));
    m->n_picks = b->n_picks;
    m->in_flight = true;

    o->upload(o, m->device, m->host, n * sizeof(*m->host));
    o->picks(o, m->drawn, m->pick, b->n_picks, l->config.info.vocab);
    if (o->step_begin(o, recorded ? &shape : NULL)) {
        do
            llama_forward(l, o, &s);
        while (!o->step_end(o));
    }
    if (b->n_picks > 0)
        o->sample(o, l->logits);
    o->step_launch(o);
}

enum status model_wait(struct model *m, struct picked *out)
{
    assert(m->in_flight);
    enum status s = m->ops->step_wait(m->ops);
    m->in_flight = false;
    m->failed = s != OK;
    if (s)
        return s;
    if (m->n_picks > 0)
        memcpy(out, m->drawn, (size_t)m->n_picks * sizeof(*out));
    return OK;
}

enum status model_logits(struct model *m, int32_t i, float *logits)
{
    size_t vocab = (size_t)m->llama.config.info.vocab;
    assert(!m->in_flight && i >= 0 && i < m->n_picks);
    if (m->failed)
        return E_DEVICE;
    m->ops->download(m->ops, logits, m->llama.logits + (size_t)i * vocab, vocab * sizeof(*logits));
    return OK;
}

/* A served model is built in three stages: inspected (registry.c), loaded (here: backend,
 * tokenizer, template, weights), scheduled (sched). served_close() takes any of them apart in
 * reverse order.
 *
 * Several models share the machine by a plan made before the first is loaded: each gets what
 * its weights need, and what is left is divided as the sizes of one whole context are, so
 * that all of them hold about as many. The threads of the cpu are divided evenly: engines
 * that compute at once would only take them from each other. */
#include "server/registry.h"

#include "kernels/cpu_machine.h"
#include "kernels/ops.h"

#include <string.h>

enum { SCRATCH_BYTES = 64 << 20 };

/* ROWS_CPU come beside those of the answers: with fewer, full steps would leave prompts waiting
 * for whole answers. */
enum { SEQS = 256, ROWS_CPU = 64, ROWS_GPU = 2048 };

/* Up to here a step of a GPU takes as long as reading the weights does: peak int8 operations
 * over memory bandwidth of the large ones (H100, H200). */
enum { FREE_ROWS_GPU = 170 };

enum { QUEUE_TOKENS_EACH = 1024 };

/* For trying out steps where they are measured. A request that comes earlier ends it. */
#define MEASURE_NS 150000000u

/* What was left open is chosen by what computes: a GPU is idle with few rows, a step of
 * many rows takes too long on a processor. */
static struct sched_options choose_limits(const struct options *o, const char *backend)
{
    bool gpu = strcmp(backend, "cuda") == 0;
    int32_t seqs = o->max_seqs ? o->max_seqs : SEQS;
    int32_t rows = o->step_rows ? o->step_rows : gpu ? ROWS_GPU : seqs + ROWS_CPU;
    return (struct sched_options){
        .live_max = seqs + o->max_queue,
        .step_seqs_max = seqs,
        .step_rows_max = rows > seqs ? rows : seqs,
        .prefix_cache = !o->no_prefix_cache,
        .queue_tokens_max =
            o->max_queue_tokens ? o->max_queue_tokens : (int64_t)o->max_queue * QUEUE_TOKENS_EACH,
        .ttft_slo_ns = (uint64_t)o->ttft_slo_ms * 1000000u,
        .free_rows = gpu ? FREE_ROWS_GPU : 0,
        .measure_ns = gpu ? 0 : MEASURE_NS,
        .overlap = gpu,
    };
}

struct model_options served_options(const struct served *m, const struct options *o)
{
    return (struct model_options){
        .path = m->path,
        .step_rows_max = m->limits.step_rows_max,
        .step_seqs_max = m->limits.step_seqs_max,
        .context_max = o->context,
        .kv_bytes = m->share.kv_bytes,
        .memory_max = m->share.memory_max,
        .weights_f32 = o->weights == NUMBERS_F32,
        .kv = (enum model_kv)o->kv,
        .acts = (enum model_acts)o->activations,
    };
}

static enum status load_weights(struct served *m, const struct options *o,
                                model_progress_fn progress, void *progress_arg, char *err,
                                size_t err_size)
{
    struct model_options how = served_options(m, o);
    how.progress = progress;
    how.progress_arg = progress_arg;
    enum status s = model_open(&m->model, &how, m->ops, err, err_size);
    if (s == OK)
        m->info = *model_info(m->model);
    return s;
}

/* A template that cannot be used costs the model its chat, not its service, unless somebody
 * asked for that template. */
static enum status open_chat(struct served *m, const char *template, char *err, size_t err_size)
{
    const char *override = template[0] ? template : NULL;
    enum status s = chat_open(&m->chat, m->path, m->tokenizer, override, err, err_size);
    if (s != E_UNSUPPORTED || override)
        return s;
    log_line(LOG_WARN, "%s: chat is refused, completions are served", err);
    return OK;
}

static enum status served_load(struct served *m, const struct options *o,
                               model_progress_fn progress, void *progress_arg, char *err,
                               size_t err_size)
{
    const struct ops_options machine = {.backend = options_backend(o), .threads = m->share.threads};
    uint64_t at = now_ns();
    enum status s = tokenizer_open(&m->tokenizer, m->path, err, err_size);
    if (s == OK)
        s = open_chat(m, o->chat_template, err, err_size);
    if (s)
        return s;
    stage_over(&at, "tokenizer and template", 0);
    s = ops_open(&m->ops, &machine, err, err_size);
    if (s)
        return s;
    stage_over(&at, "backend", 0);
    if (tokenizer_vocab(m->tokenizer) > m->info.vocab)
        log_line(LOG_WARN,
                 "%s: the tokenizer has %d tokens, the model %d: a prompt with others is refused",
                 m->names.name[0], tokenizer_vocab(m->tokenizer), m->info.vocab);
    m->backend = m->ops->name;
    m->limits = choose_limits(o, m->backend);
    return load_weights(m, o, progress, progress_arg, err, err_size);
}

void machine_assume(struct machine *out, const struct options *o)
{
    const char *backend = o->backend == BACKEND_CPU ? "cpu" : "cuda";
    size_t own = ops_own_bytes(backend).device;
    size_t left = o->assume_memory > own ? o->assume_memory - own : 0;
    *out = (struct machine){.bytes_free = left,
                            .bytes_total = o->assume_memory,
                            .own_bytes = own,
                            .own_host_bytes = ops_own_bytes(backend).host};
    (void)snprintf(out->backend, sizeof(out->backend), "%s", backend);
}

enum status machine_look(struct machine *out, const struct options *o, char *err, size_t err_size)
{
    struct ops *ops = NULL;
    const struct ops_options how = {.backend = options_backend(o), .threads = o->threads};
    enum status s = ops_open(&ops, &how, err, err_size);
    if (s)
        return s;
    (void)snprintf(out->backend, sizeof(out->backend), "%s", ops->name);
    out->bytes_free = ops->bytes_free(ops);
    out->bytes_total = ops->bytes_total(ops);
    out->own_bytes = ops_own_bytes(ops->name).device;
    out->own_host_bytes = ops_own_bytes(ops->name).host;
    ops->close(ops);
    return OK;
}

static void served_close(struct served *m)
{
    sched_close(m->sched);
    model_close(m->model);
    if (m->ops)
        m->ops->close(m->ops);
    chat_close(m->chat);
    tokenizer_close(m->tokenizer);
    memset(m, 0, sizeof(*m));
}

static double context_bytes(const struct served *m)
{
    return (double)m->info.kv_bytes_per_token * m->info.context_max;
}

/* A tiny model's step may need more than its weights do. */
static double with_scratch(const struct served *m, const struct options *o)
{
    double weights = (double)m->info.weight_bytes * (o->weights == NUMBERS_F32 ? 4 : 1);
    return weights * 1.1 + SCRATCH_BYTES;
}

static void share_out(struct registry *r, const struct options *o, size_t bytes_free,
                      int32_t threads)
{
    double left = (double)bytes_free;
    double all = 0;
    for (int32_t i = 0; i < r->n; i++) {
        left -= with_scratch(&r->model[i], o);
        all += context_bytes(&r->model[i]);
    }
    left = left > 0 ? left : 0;
    for (int32_t i = 0; i < r->n; i++) {
        struct served *m = &r->model[i];
        double part = context_bytes(m) / all;
        m->share = (struct share){
            .memory_max = (size_t)(with_scratch(m, o) + left * part),
            .kv_bytes = (size_t)((double)o->kv_bytes * part),
            .threads = threads / r->n > 1 ? threads / r->n : 1,
        };
    }
}

static void plan_shares(struct registry *r, const struct options *o, const struct machine *has)
{
    size_t others = (size_t)(r->n - 1) * has->own_bytes;
    size_t bytes_free = has->bytes_free > others ? has->bytes_free - others : 0;
    int32_t cores = machine_cores();
    if (r->n == 1)
        r->model[0].share = (struct share){.kv_bytes = o->kv_bytes, .threads = o->threads};
    else
        share_out(r, o, bytes_free, o->threads ? o->threads : cores);
}

void registry_share(struct registry *r, const struct options *o, const struct machine *has)
{
    plan_shares(r, o, has);
    for (int32_t i = 0; i < r->n; i++)
        r->model[i].limits = choose_limits(o, has->backend);
}

enum status registry_load(struct registry *r, const struct options *o, model_progress_fn progress,
                          void *progress_arg, char *err, size_t err_size)
{
    struct machine has = {0};
    enum status s = r->n > 1 ? machine_look(&has, o, err, err_size) : OK;
    if (s == OK)
        plan_shares(r, o, &has);
    for (int32_t i = 0; i < r->n && s == OK; i++) {
        s = served_load(&r->model[i], o, progress, progress_arg, err, err_size);
        if (s && r->n > 1)
            served_failed(&r->model[i], s, err, err_size);
    }
    return s;
}

void registry_close(struct registry *r)
{
    for (int32_t i = 0; i < REGISTRY_MAX; i++)
        served_close(&r->model[i]);
    r->n = 0;
}

/* A served model is built in three stages: inspected (names, sizes), loaded (weights),
 * scheduled (sched). served_close() takes any of them apart in reverse order.
 *
 * Several models share the machine by a plan made before the first is loaded: each gets what
 * its weights need, and what is left is divided as the sizes of one whole context are, so
 * that all of them hold about as many. The threads of the cpu are divided evenly: engines
 * that compute at once would only take them from each other. */
#include "server/registry.h"

#include "kernels/cpu_machine.h"
#include "kernels/ops.h"
#include "models/find.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SCRATCH_BYTES = 64 << 20, FAILURE_BYTES_MAX = 512 };

/* ROWS_CPU come beside those of the answers: with fewer, full steps would leave prompts waiting
 * for whole answers. */
enum { SEQS = 256, ROWS_CPU = 64, ROWS_GPU = 2048 };

/* Up to here a step of a GPU takes as long as reading the weights does: peak int8 operations
 * over memory bandwidth of the large ones (H100, H200). */
enum { FREE_ROWS_GPU = 170 };

enum { QUEUE_TOKENS_EACH = 1024 };

/* For trying out steps where they are measured. A request that comes earlier ends it. */
#define MEASURE_NS 150000000u

/* What Workers AI calls the model its first examples use. The bundled model answers to
 * it, so that those examples run as they are. */
static const char *const demo_alias = "@cf/meta/llama-2-7b-chat-int8";

static bool is_directory(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* share/firstlight/demo beside the folder of the program. */
static bool installed_demo(char out[MODEL_PATH_MAX])
{
    static const char tail[] = "/../share/firstlight/demo";
    char self[MODEL_PATH_MAX - sizeof(tail)];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n <= 0)
        return false;
    self[n] = '\0';
    char *slash = strrchr(self, '/');
    if (!slash)
        return false;
    *slash = '\0';
    (void)snprintf(out, MODEL_PATH_MAX, "%s%s", self, tail);
    return is_directory(out);
}

static bool find_demo(char out[MODEL_PATH_MAX])
{
    const char *named = getenv("FIRSTLIGHT_DEMO");
    if (named && named[0]) {
        (void)snprintf(out, MODEL_PATH_MAX, "%s", named);
        return true;
    }
    if (installed_demo(out))
        return true;
    (void)snprintf(out, MODEL_PATH_MAX, "%s", DEMO_DIR);
    return is_directory(out);
}

/* Where the bundled model lies, when path is NULL, or is "demo" and no such folder
 * exists; else path. */
static enum status model_path(char out[MODEL_PATH_MAX], const char *path, char *err,
                              size_t err_size)
{
    bool demo = !path || (strcmp(path, "demo") == 0 && !is_directory(path));
    if (demo && !find_demo(out)) {
        (void)snprintf(err, err_size,
                       "the bundled demo model is neither beside the program nor "
                       "in %s; give --model",
                       DEMO_DIR);
        return E_INVALID;
    }
    if (demo)
        return OK;
    return model_find(out, path, err, err_size);
}

static bool same_folder(const char *a, const char *b)
{
    struct stat sa;
    struct stat sb;
    return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
           sa.st_ino == sb.st_ino;
}

static void add_name(struct served_names *names, const char *name)
{
    if (names->n < SERVED_NAMES_MAX)
        (void)snprintf(names->name[names->n++], SERVED_NAME_BYTES_MAX, "%s", name);
}

/* "NAME.gguf", "NAME-00001-of-00003.gguf" are NAME. */
static void cut_file_ending(char *name)
{
    static const char part[] = "-00001-of-";
    size_t n = strlen(name);
    if (n <= 5 || strcmp(name + n - 5, ".gguf") != 0)
        return;
    n -= 5;
    name[n] = '\0';
    size_t tail = strlen(part) + 5;
    if (n > tail && strncmp(name + n - tail, part, strlen(part)) == 0)
        name[n - tail] = '\0';
}

/* The last part of the path, with everything odd replaced: it becomes a label. */
static void name_after_path(struct served_names *names, const char *path)
{
    char full[MODEL_PATH_MAX];
    char name[SERVED_NAME_BYTES_MAX];
    if (!realpath(path, full))
        (void)snprintf(full, sizeof(full), "%s", path);
    const char *slash = strrchr(full, '/');
    (void)snprintf(name, sizeof(name), "%.*s", SERVED_NAME_BYTES_MAX - 1,
                   slash && slash[1] ? slash + 1 : "model");
    cut_file_ending(name);
    for (char *p = name; *p; p++)
        if (*p <= ' ' || *p > '~' || *p == '"' || *p == '\\')
            *p = '_';
    add_name(names, name);
}

/* "NAME=PATH" unless such a path exists; where the path begins. */
static const char *path_of(const char *text, size_t *name_bytes)
{
    const char *equals = strchr(text, '=');
    *name_bytes = 0;
    if (!equals || is_directory(text) || is_file(text))
        return text;
    *name_bytes = (size_t)(equals - text);
    return equals + 1;
}

/* Beside others it has to be said whose failure it is: files of models have the same names. */
static void name_failed(const struct served *m, enum status s, char *err, size_t err_size)
{
    char what[FAILURE_BYTES_MAX];
    if (m->names.n == 0)
        return;
    (void)snprintf(what, sizeof(what), "%s", err[0] ? err : status_text(s));
    (void)snprintf(err, err_size, "model %s: %s", m->names.name[0], what);
}

/* text NULL: the demo. */
static enum status served_inspect(struct served *m, const char *text, char *err, size_t err_size)
{
    size_t name_bytes = 0;
    const char *path = text ? path_of(text, &name_bytes) : NULL;
    if (name_bytes > 0 && !options_name_is_sane(text, name_bytes)) {
        (void)snprintf(err, err_size, "--model %.80s: the name before '=' is not usable", text);
        return E_INVALID;
    }
    if (name_bytes > 0 && m->names.n == SERVED_NAMES_MAX) {
        (void)snprintf(err, err_size, "--model %.80s is one name too many", text);
        return E_INVALID;
    }
    if (name_bytes > 0)
        (void)snprintf(m->names.name[m->names.n++], SERVED_NAME_BYTES_MAX, "%.*s", (int)name_bytes,
                       text);
    m->created = (uint64_t)time(NULL);
    enum status s = model_path(m->path, path, err, err_size);
    if (s)
        return s;
    if (m->names.n == 0)
        name_after_path(&m->names, m->path);
    return model_inspect(&m->info, m->path, err, err_size);
}

static enum status add_alias(struct registry *r, const char *text, char *err, size_t err_size)
{
    const char *equals = strchr(text, '=');
    size_t n = equals ? (size_t)(equals - text) : strlen(text);
    char name[SERVED_NAME_BYTES_MAX];
    struct served *m = registry_find(r, equals ? equals + 1 : NULL);
    const char *wrong = NULL;
    if (!options_name_is_sane(text, n))
        wrong = "is no usable name";
    else if (!m)
        wrong = "is for a model that is not served";
    else if (m->names.n == SERVED_NAMES_MAX)
        wrong = "is one name too many";
    if (wrong) {
        (void)snprintf(err, err_size, "--alias %.120s %s", text, wrong);
        return E_INVALID;
    }
    (void)snprintf(name, sizeof(name), "%.*s", (int)n, text);
    if (registry_find(r, name) != m)
        add_name(&m->names, name);
    return OK;
}

/* The bundled model answers to it, the first one where it is served twice. */
static void add_demo_alias(struct registry *r)
{
    char demo[MODEL_PATH_MAX];
    for (int32_t i = 0; i < r->n; i++)
        if (find_demo(demo) && same_folder(demo, r->model[i].path) && !registry_find(r, demo_alias))
            add_name(&r->model[i].names, demo_alias);
}

/* A name means one model. */
static enum status check_names(struct registry *r, char *err, size_t err_size)
{
    for (int32_t i = 0; i < r->n; i++) {
        for (int32_t k = 0; k < r->model[i].names.n; k++) {
            const char *name = r->model[i].names.name[k];
            if (registry_find(r, name) == &r->model[i])
                continue;
            (void)snprintf(err, err_size,
                           "two models are called %.100s; give them names: --model NAME=PATH",
                           name);
            return E_INVALID;
        }
    }
    return OK;
}

enum status registry_inspect(struct registry *r, const struct options *o, char *err,
                             size_t err_size)
{
    int32_t n = o->models.n > 0 ? o->models.n : 1;
    enum status s = OK;
    if (n > REGISTRY_MAX) {
        (void)snprintf(err, err_size, "at most %d models are served together", REGISTRY_MAX);
        return E_INVALID;
    }
    r->model[0].names = o->names;
    for (r->n = 0; r->n < n && s == OK; r->n++) {
        s = served_inspect(&r->model[r->n], o->models.item[r->n], err, err_size);
        if (s && n > 1)
            name_failed(&r->model[r->n], s, err, err_size);
    }
    if (s == OK)
        s = check_names(r, err, err_size);
    for (int32_t i = 0; i < o->aliases.n && s == OK; i++)
        s = add_alias(r, o->aliases.item[i], err, err_size);
    if (s == OK)
        add_demo_alias(r);
    return s;
}

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
            name_failed(&r->model[i], s, err, err_size);
    }
    return s;
}

void registry_close(struct registry *r)
{
    for (int32_t i = 0; i < REGISTRY_MAX; i++)
        served_close(&r->model[i]);
    r->n = 0;
}

struct served *registry_find(struct registry *r, const char *name)
{
    if (!name)
        return r->n ? &r->model[0] : NULL;
    for (int32_t i = 0; i < r->n; i++)
        for (int32_t k = 0; k < r->model[i].names.n; k++)
            if (strcmp(r->model[i].names.name[k], name) == 0)
                return &r->model[i];
    return NULL;
}

/* Reads headers only, unless all is to be checked; what fits is worked out from sizes and
 * from what the machine says it has. */
#include "server/cli.h"

#include "server/progress.h"
#include "server/registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of the free memory: the rest is for activations and for the neighbours. */
static const double usable_part = 0.9;

static void line(const char *name, const char *value)
{
    (void)printf("%-16s %s\n", name, value);
}

static void number_line(const char *name, double value)
{
    (void)printf("%-16s %.0f\n", name, value);
}

static void print_shape(const struct model_info *info)
{
    char text[BYTES_TEXT_MAX];
    line("format", info->format);
    line("tensors", info->types);
    line("architecture", info->arch);
    (void)printf("%-16s %llu (%.2f M)\n", "parameters", (unsigned long long)info->n_params,
                 (double)info->n_params * 1e-6);
    bytes_text(text, info->file_bytes);
    line("file", text);
    bytes_text(text, info->weight_bytes);
    line("weights held", text);
    number_line("layers", info->n_layers);
    number_line("dim", info->dim);
    number_line("hidden", info->hidden);
    number_line("heads", info->n_heads);
    number_line("kv_heads", info->n_kv_heads);
    number_line("head_dim", info->head_dim);
    (void)printf("%-16s %d%s\n", "vocabulary", info->vocab,
                 info->tied ? ", head tied to the embedding" : "");
    (void)printf("%-16s %d tokens\n", "context", info->context_max);
}

/* Keys and values of one token over all layers. */
static double kv_bytes_per_token(const struct model_info *info, int32_t kv)
{
    double heads = 2.0 * info->n_layers * info->n_kv_heads;
    const double head[] = {
        [NUMBERS_Q8] = info->head_dim + 4.0,
        [NUMBERS_F32] = info->head_dim * 4.0,
        [NUMBERS_F16] = info->head_dim * 2.0,
    };
    return heads * head[kv];
}

static void print_fit(const struct options *o, const struct model_info *info,
                      const struct machine *has)
{
    char text[BYTES_TEXT_MAX];
    double per_token = kv_bytes_per_token(info, o->kv);
    int32_t context = o->context && o->context < info->context_max ? o->context : info->context_max;
    double room = (double)has->bytes_free * usable_part - (double)info->weight_bytes;
    if (o->kv_bytes)
        room = (double)o->kv_bytes;
    bytes_text(text, (uint64_t)per_token);
    (void)printf("%-16s %s per token (%s)\n", "keys and values", text, options_kv(o));
    line("backend", has->backend);
    bytes_text(text, has->bytes_total);
    line("memory", text);
    bytes_text(text, has->bytes_free);
    line("memory free", text);
    if (room < per_token * context) {
        line("fits", "no: less than one sequence of full length");
        return;
    }
    double tokens = room / per_token;
    (void)printf("%-16s %.0f tokens, %.0f sequences of full length\n", "fits", tokens,
                 tokens / context);
}

/* Every byte of the model is read; the line about what is wrong goes to err. */
static enum status check_all(const struct served *m, const char *template, char *err,
                             size_t err_size)
{
    struct progress bar;
    struct tokenizer *t = NULL;
    struct chat *chat = NULL;
    progress_start(&bar, "checking");
    enum status s = model_check(m->path, progress_update, &bar, err, err_size);
    progress_end(&bar);
    if (s == OK)
        s = tokenizer_open(&t, m->path, err, err_size);
    if (s == OK)
        s = chat_open(&chat, m->path, t, template[0] ? template : NULL, err, err_size);
    if (s == OK && tokenizer_vocab(t) > m->info.vocab) {
        (void)snprintf(err, err_size, "the tokenizer has %d tokens, the model %d",
                       tokenizer_vocab(t), m->info.vocab);
        s = E_FORMAT;
    }
    chat_close(chat);
    tokenizer_close(t);
    return s;
}

static enum status print_text_side(const struct served *m, const char *template, char *err,
                                   size_t err_size)
{
    const char *override = template[0] ? template : NULL;
    struct tokenizer *t = NULL;
    struct chat *chat = NULL;
    enum status s = tokenizer_open(&t, m->path, err, err_size);
    if (s == OK)
        s = chat_open(&chat, m->path, t, override, err, err_size);
    if (s == OK)
        line("chat template", chat_origin(chat));
    if (s == E_UNSUPPORTED && !override) {
        line("chat template", err);
        s = OK;
    }
    chat_close(chat);
    tokenizer_close(t);
    return s;
}

static void print_notes(const struct model *m)
{
    enum { NOTES_MAX = 4096 };
    static const char form[] = "model.layers.%d.%s reads floats: %s";
    struct model_note *note = calloc(NOTES_MAX, sizeof(*note));
    size_t n = note ? model_notes(m, note, NOTES_MAX) : 0;
    if (n == 0)
        line("activations", "int8 in all products of the layers");
    for (size_t i = 0; i < n && i < NOTES_MAX; i++) {
        char why[64] = "by option or as the checkpoint wants it";
        char text[160];
        if (note[i].loss > 0)
            (void)snprintf(why, sizeof(why), "int8 would change %.1f %% of its output",
                           100 * (double)note[i].loss);
        (void)snprintf(text, sizeof(text), form, note[i].layer, note[i].product, why);
        line(i == 0 ? "activations" : "", text);
    }
    free(note);
}

/* The whole model, to see what its products read. */
static enum status probe(struct registry *r, const struct options *o, char *err, size_t err_size)
{
    struct progress bar;
    progress_start(&bar, "loading");
    enum status s = registry_load(r, o, progress_update, &bar, err, err_size);
    progress_end(&bar);
    if (s == OK)
        print_notes(r->model[0].model);
    return s;
}

static enum status print_all(struct registry *r, const struct options *o, char *err,
                             size_t err_size)
{
    const struct served *m = &r->model[0];
    struct machine has;
    enum status s = o->check ? check_all(m, o->chat_template, err, err_size) : OK;
    if (s)
        return s;
    line("model", m->path);
    if (o->check)
        line("checked", "all tensors are there and finite, tokenizer and template parse");
    line("served as", m->names.name[0]);
    print_shape(&m->info);
    s = print_text_side(m, o->chat_template, err, err_size);
    if (s == OK)
        s = machine_look(&has, o, err, err_size);
    if (s)
        return s;
    print_fit(o, &m->info, &has);
    return o->probe ? probe(r, o, err, err_size) : OK;
}

int cli_inspect(const struct options *o)
{
    char err[512] = "";
    struct registry *r = calloc(1, sizeof(*r));
    if (!r)
        return cli_fail(err, E_NOMEM);
    enum status s = registry_inspect(r, o, err, sizeof(err));
    if (s == OK)
        s = print_all(r, o, err, sizeof(err));
    registry_close(r);
    free(r);
    return s ? cli_fail(err, s) : 0;
}

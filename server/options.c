/* From the environment and argv to options. Values from both pass through the same function,
 * option_set(), and so do the defaults, which proves at every start that they lie in their own
 * range. */
#include "server/options_private.h"

#include "server/spelling.h"

#include <assert.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { ENV_NAME_MAX = 64 };

static const struct command_row *command_find(const char *name)
{
    for (size_t i = 0; i < n_option_commands; i++)
        if (strcmp(option_commands[i].name, name) == 0)
            return &option_commands[i];
    return NULL;
}

static const struct option_row *row_find(const char *name, size_t n)
{
    for (size_t g = 0; g < n_option_groups; g++)
        for (size_t i = 0; i < option_groups[g].n; i++)
            if (strlen(option_groups[g].row[i].name) == n &&
                memcmp(option_groups[g].row[i].name, name, n) == 0)
                return &option_groups[g].row[i];
    return NULL;
}

static const char *nearest_option(const char *name, size_t n, unsigned in)
{
    struct spelling spelling;
    spelling_start(&spelling, name, n);
    for (size_t g = 0; g < n_option_groups; g++)
        for (size_t i = 0; i < option_groups[g].n; i++)
            if (option_groups[g].row[i].in & in)
                spelling_try(&spelling, option_groups[g].row[i].name);
    return spelling_best(&spelling);
}

static const char *nearest_command(const char *name)
{
    struct spelling spelling;
    spelling_start(&spelling, name, strlen(name));
    for (size_t i = 0; i < n_option_commands; i++)
        spelling_try(&spelling, option_commands[i].name);
    return spelling_best(&spelling);
}

static void set_defaults(struct options *o)
{
    memset(o, 0, sizeof(*o));
    for (size_t g = 0; g < n_option_groups; g++)
        for (size_t i = 0; i < option_groups[g].n; i++)
            if (option_groups[g].row[i].def) {
                bool set = option_set(o, &option_groups[g].row[i], option_groups[g].row[i].def);
                assert(set);
            }
}

static void env_name(char out[ENV_NAME_MAX], const char *name)
{
    size_t n = (size_t)snprintf(out, ENV_NAME_MAX, "FIRSTLIGHT_");
    for (; *name && n + 1 < ENV_NAME_MAX; name++)
        out[n++] = *name == '-' ? '_' : (char)toupper((unsigned char)*name);
    out[n] = '\0';
}

/* What may be given more than once is replaced, not continued, by the command line. */
static bool mark_of_env(struct options *o, const struct option_row *r, bool of_env)
{
    void *at = (char *)o + r->at;
    if (r->type != OPT_LIST && r->type != OPT_NAMES)
        return false;
    bool *mark = r->type == OPT_LIST ? &((struct text_list *)at)->of_env
                                     : &((struct served_names *)at)->of_env;
    bool before = *mark;
    *mark = of_env;
    return before;
}

static void forget_env(struct options *o, const struct option_row *r)
{
    void *at = (char *)o + r->at;
    if (!mark_of_env(o, r, false))
        return;
    if (r->type == OPT_LIST)
        *(struct text_list *)at = (struct text_list){0};
    else
        *(struct served_names *)at = (struct served_names){0};
}

static enum status set_from_env(struct options *o, unsigned in, char *err, size_t err_size)
{
    for (size_t g = 0; g < n_option_groups; g++) {
        for (size_t i = 0; i < option_groups[g].n; i++) {
            const struct option_row *r = &option_groups[g].row[i];
            char name[ENV_NAME_MAX];
            env_name(name, r->name);
            const char *value = getenv(name);
            bool none = !value || (r->type == OPT_LIST && !value[0]);
            if (none || !(r->in & in))
                continue;
            bool set = option_set(o, r, value);
            mark_of_env(o, r, true);
            if (set)
                continue;
            char wanted[OPTION_WANTED_MAX];
            option_wanted(wanted, r);
            (void)snprintf(err, err_size, "the environment variable %s %s", name, wanted);
            return E_INVALID;
        }
    }
    return OK;
}

/* What vLLM and llama.cpp call an option: hands that have typed it for years find ours. */
static const struct {
    const char *theirs;
    const char *ours;
} elsewhere[] = {
    {"m", "model"},
    {"max-model-len", "context"},
    {"ctx-size", "context"},
    {"c", "context"},
    {"max-num-seqs", "max-seqs"},
    {"parallel", "max-seqs"},
    {"np", "max-seqs"},
    {"max-num-batched-tokens", "step-rows"},
    {"batch-size", "step-rows"},
    {"device", "backend"},
    {"t", "threads"},
    {"kv-cache-dtype", "kv"},
    {"cache-type-k", "kv"},
    {"kv-cache-memory-bytes", "kv-bytes"},
    {"no-enable-prefix-caching", "no-prefix-cache"},
    {"ssl-certfile", "tls-cert"},
    {"ssl-cert-file", "tls-cert"},
    {"ssl-keyfile", "tls-key"},
    {"ssl-key-file", "tls-key"},
    {"allowed-origins", "cors-origin"},
    {"api-key-file", "api-keys-file"},
};

/* NULL: none, or the command does not take it. */
static const char *our_option(const char *name, size_t n, unsigned in)
{
    for (size_t i = 0; i < ARRAY_LEN(elsewhere); i++) {
        if (strlen(elsewhere[i].theirs) != n || memcmp(elsewhere[i].theirs, name, n) != 0)
            continue;
        const struct option_row *r = row_find(elsewhere[i].ours, strlen(elsewhere[i].ours));
        return r && (r->in & in) ? r->name : NULL;
    }
    return NULL;
}

/* As it was typed, and the first n bytes of its name. */
static enum status bad_option(const char *typed, size_t n, const struct command_row *cmd, char *err,
                              size_t err_size)
{
    const char *name = typed + (typed[1] == '-' ? 2 : 1);
    const char *ours = our_option(name, n, cmd->in);
    const char *near = ours ? ours : nearest_option(name, n, cmd->in);
    int shown = (int)(name - typed) + (n < SPELLING_MAX ? (int)n : SPELLING_MAX);
    if (near)
        (void)snprintf(err, err_size, "%s has no option %.*s; did you mean --%s?", cmd->name, shown,
                       typed, near);
    else
        (void)snprintf(err, err_size, "%s has no option %.*s; see firstlight %s --help", cmd->name,
                       shown, typed, cmd->name);
    return E_INVALID;
}

/* One "--name value", "--name=value" or "--flag" at argv[*i]. */
static enum status take_option(struct options *o, const struct command_row *cmd, int argc,
                               char **argv, int *i, char *err, size_t err_size)
{
    const char *name = argv[*i] + 2;
    const char *equals = strchr(name, '=');
    size_t n = equals ? (size_t)(equals - name) : strlen(name);
    const struct option_row *r = row_find(name, n);
    if (!r || !(r->in & cmd->in))
        return bad_option(argv[*i], n, cmd, err, err_size);

    const char *value = equals ? equals + 1 : NULL;
    if (r->type == OPT_FLAG && !value)
        value = "1";
    if (!value && ++*i < argc)
        value = argv[*i];
    forget_env(o, r);
    if (value && option_set(o, r, value))
        return OK;

    char wanted[OPTION_WANTED_MAX];
    option_wanted(wanted, r);
    if (value)
        (void)snprintf(err, err_size, "--%s %s, not '%.40s'", r->name, wanted, value);
    else
        (void)snprintf(err, err_size, "--%s %s", r->name, wanted);
    return E_INVALID;
}

/* What has no dashes: the model and the prompt, in this order. */
static enum status take_word(struct options *o, const struct command_row *cmd, const char *word,
                             int32_t *n_words, char *err, size_t err_size)
{
    int32_t at = (*n_words)++;
    if (cmd->command != CMD_SERVE && at == 0)
        o->models = (struct text_list){.item = {word}, .n = 1};
    else if (cmd->command == CMD_RUN && at == 1)
        o->prompt = word;
    else if (cmd->command == CMD_CONVERT && at == 1)
        o->dst = word;
    else if (cmd->command == CMD_SERVE && !o->models.n) {
        (void)snprintf(err, err_size, "%s does not take '%.40s'; did you mean --model %.200s?",
                       cmd->name, word, word);
        return E_INVALID;
    } else {
        (void)snprintf(err, err_size, "%s does not take '%.40s'; see firstlight %s --help",
                       cmd->name, word, cmd->name);
        return E_INVALID;
    }
    return OK;
}

static enum status parse_command(struct options *o, const struct command_row *cmd, int argc,
                                 char **argv, char *err, size_t err_size)
{
    o->command = cmd->command;
    enum status s = set_from_env(o, cmd->in, err, err_size);
    int32_t n_words = 0;
    bool only_words = false;
    for (int i = 2; i < argc && s == OK; i++) {
        if (!only_words && strcmp(argv[i], "--") == 0) {
            only_words = true;
        } else if (!only_words && (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)) {
            o->about = cmd->command;
            o->command = CMD_HELP;
            return OK;
        } else if (!only_words && strncmp(argv[i], "--", 2) == 0) {
            s = take_option(o, cmd, argc, argv, &i, err, err_size);
        } else if (!only_words && argv[i][0] == '-' && argv[i][1]) {
            s = bad_option(argv[i], strlen(argv[i] + 1), cmd, err, err_size);
        } else {
            s = take_word(o, cmd, argv[i], &n_words, err, err_size);
        }
    }
    return s == OK ? options_check(o, err, err_size) : s;
}

enum status options_parse(struct options *out, int argc, char **argv, char *err, size_t err_size)
{
    set_defaults(out);
    err[0] = '\0';
    const char *word = argc > 1 ? argv[1] : NULL;
    if (!word) {
        (void)snprintf(err, err_size, "no command given; see firstlight --help");
        return E_INVALID;
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
        const struct command_row *about = argc > 2 ? command_find(argv[2]) : NULL;
        out->command = CMD_HELP;
        out->about = about ? about->command : CMD_NONE;
        return OK;
    }
    if (strcmp(word, "--version") == 0 || strcmp(word, "version") == 0) {
        out->command = CMD_VERSION;
        return OK;
    }
    const struct command_row *cmd = command_find(word);
    if (cmd)
        return parse_command(out, cmd, argc, argv, err, err_size);
    const char *near = nearest_command(word);
    if (near)
        (void)snprintf(err, err_size, "no command '%.40s'; did you mean %s?", word, near);
    else
        (void)snprintf(err, err_size, "no command '%.40s'; see firstlight --help", word);
    return E_INVALID;
}

const char *options_kv(const struct options *o)
{
    static const char *const names[] = {"q8", "f32", "f16"};
    return names[o->kv];
}

const char *options_backend(const struct options *o)
{
    static const char *const names[] = {
        [BACKEND_AUTO] = "auto", [BACKEND_CPU] = "cpu", [BACKEND_CUDA] = "cuda"};
    return names[o->backend];
}

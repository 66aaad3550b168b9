/* Reads the command line and prints the help. Values from the environment and from argv pass
 * through the same function, option_set(), and so do the defaults, which proves at every start that
 * they lie in their own range. */
#include "server/options_table.h"

#include "server/address.h"
#include "server/spelling.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Columns of the help, and room for a row's name in capitals. */
enum { HELP_FLAG_WIDTH = 30, ENV_NAME_MAX = 64, SHOWN_MAX = 96 };

static const struct command_row *command_find(const char *name)
{
    for (size_t i = 0; i < n_option_commands; i++)
        if (strcmp(option_commands[i].name, name) == 0)
            return &option_commands[i];
    return NULL;
}

static const struct command_row *command_of(enum command command)
{
    for (size_t i = 0; i < n_option_commands; i++)
        if (option_commands[i].command == command)
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

/* Sizes as people write them: 16777216, 16M. */
static void print_size(char *out, size_t room, double bytes)
{
    static const struct {
        double unit;
        const char *letter;
    } units[] = {{TIB, "T"}, {GIB, "G"}, {MIB, "M"}, {1024, "K"}};
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (bytes >= units[i].unit && fmod(bytes, units[i].unit) == 0) {
            (void)snprintf(out, room, "%.0f%s", bytes / units[i].unit, units[i].letter);
            return;
        }
    }
    (void)snprintf(out, room, "%.0f", bytes);
}

static void print_range(char *out, size_t room, const struct option_row *r)
{
    char low[32];
    char high[32];
    switch (r->type) {
    case OPT_INT:
    case OPT_NUMBER:
    case OPT_SECONDS:
        (void)snprintf(out, room, "%.10g to %.10g", r->min, r->max);
        return;
    case OPT_SIZE:
        print_size(low, sizeof(low), r->min);
        print_size(high, sizeof(high), r->max);
        (void)snprintf(out, room, "%s to %s", low, high);
        return;
    case OPT_CHOICE:
        (void)snprintf(out, room, "one of %s", r->choices);
        return;
    case OPT_FLAG:
    case OPT_TEXT:
    case OPT_LIST:
    case OPT_MODE:
    case OPT_NAMES:
        out[0] = '\0';
        return;
    }
}

/* A finite decimal number and nothing after it but, for sizes, one unit letter. */
static bool parse_number(const char *text, bool units, double *out)
{
    /* strtod() would also take hexadecimal, blanks, "inf" and "nan". */
    size_t n = strspn(text, "+-.0123456789eE");
    char *end = NULL;
    errno = 0;
    double value = strtod(text, &end);
    if (errno || n == 0 || end != text + n)
        return false;
    if (units && *end) {
        switch (*end++) {
        case 'k':
        case 'K':
            value *= 1024;
            break;
        case 'm':
        case 'M':
            value *= MIB;
            break;
        case 'g':
        case 'G':
            value *= GIB;
            break;
        case 't':
        case 'T':
            value *= TIB;
            break;
        default:
            return false;
        }
    }
    if (*end || !isfinite(value))
        return false;
    *out = value;
    return true;
}

static bool set_number(const struct option_row *r, void *at, const char *text)
{
    double value = 0;
    if (!parse_number(text, r->type == OPT_SIZE, &value) || value < r->min || value > r->max)
        return false;
    bool whole = value == floor(value);
    if (r->type == OPT_INT && whole)
        *(int32_t *)at = (int32_t)value;
    else if (r->type == OPT_SIZE && whole)
        *(size_t *)at = (size_t)value;
    else if (r->type == OPT_SECONDS)
        *(uint64_t *)at = (uint64_t)(value * 1000 + 0.5);
    else if (r->type == OPT_NUMBER)
        *(double *)at = value;
    else
        return false;
    return true;
}

static bool set_choice(const struct option_row *r, void *at, const char *text)
{
    size_t n = strlen(text);
    int32_t index = 0;
    for (const char *word = r->choices; word; index++) {
        const char *bar = strchr(word, '|');
        size_t bytes = bar ? (size_t)(bar - word) : strlen(word);
        if (bytes == n && memcmp(word, text, n) == 0) {
            *(int32_t *)at = index;
            return true;
        }
        word = bar ? bar + 1 : NULL;
    }
    return false;
}

/* Names end up in JSON, in header lines and in metrics labels. */
bool options_name_is_sane(const char *name, size_t n)
{
    if (n == 0 || n >= SERVED_NAME_BYTES_MAX)
        return false;
    for (size_t i = 0; i < n; i++)
        if (name[i] <= ' ' || name[i] > '~' || name[i] == '"' || name[i] == '\\')
            return false;
    return true;
}

static bool set_names(struct served_names *names, const char *text)
{
    for (const char *name = text; name;) {
        const char *comma = strchr(name, ',');
        size_t n = comma ? (size_t)(comma - name) : strlen(name);
        if (!options_name_is_sane(name, n) || names->n == SERVED_NAMES_MAX)
            return false;
        memcpy(names->name[names->n], name, n);
        names->name[names->n++][n] = '\0';
        name = comma ? comma + 1 : NULL;
    }
    return true;
}

static bool set_flag(void *at, const char *text)
{
    bool on = strcmp(text, "1") == 0 || strcmp(text, "true") == 0;
    if (!on && strcmp(text, "0") != 0 && strcmp(text, "false") != 0)
        return false;
    *(bool *)at = on;
    return true;
}

static bool set_list(struct text_list *list, const char *text)
{
    if (!text[0] || list->n == TEXT_LIST_MAX)
        return false;
    list->item[list->n++] = text;
    return true;
}

static bool set_mode(const struct option_row *r, void *at, const char *text)
{
    char *end = NULL;
    if (text[0] < '0' || text[0] > '7')
        return false;
    unsigned long mode = strtoul(text, &end, 8);
    if (*end || (double)mode > r->max)
        return false;
    *(int32_t *)at = (int32_t)mode;
    return true;
}

static bool option_set(struct options *o, const struct option_row *r, const char *text)
{
    void *at = (char *)o + r->at;
    switch (r->type) {
    case OPT_INT:
    case OPT_SIZE:
    case OPT_SECONDS:
    case OPT_NUMBER:
        return set_number(r, at, text);
    case OPT_CHOICE:
        return set_choice(r, at, text);
    case OPT_FLAG:
        return set_flag(at, text);
    case OPT_LIST:
        return set_list(at, text);
    case OPT_MODE:
        return set_mode(r, at, text);
    case OPT_NAMES:
        return set_names(at, text);
    case OPT_TEXT:
        *(const char **)at = text;
        return true;
    }
    return false;
}

/* What a wrong value should have been, for the message. */
static void print_wanted(char *out, size_t room, const struct option_row *r)
{
    char range[SHOWN_MAX];
    print_range(range, sizeof(range), r);
    switch (r->type) {
    case OPT_INT:
        (void)snprintf(out, room, "wants a whole number from %s", range);
        return;
    case OPT_SIZE:
        (void)snprintf(out, room, "wants bytes (K, M, G allowed) from %s", range);
        return;
    case OPT_SECONDS:
        (void)snprintf(out, room, "wants seconds from %s", range);
        return;
    case OPT_NUMBER:
        (void)snprintf(out, room, "wants a number from %s", range);
        return;
    case OPT_CHOICE:
        (void)snprintf(out, room, "wants %s", range);
        return;
    case OPT_FLAG:
        (void)snprintf(out, room, "wants 1 or 0");
        return;
    case OPT_NAMES:
        (void)snprintf(out, room, "wants at most %d names of printable letters without blanks",
                       SERVED_NAMES_MAX);
        return;
    case OPT_TEXT:
        (void)snprintf(out, room, "wants a text");
        return;
    case OPT_LIST:
        (void)snprintf(out, room, "wants a text, at most %d times", TEXT_LIST_MAX);
        return;
    case OPT_MODE:
        (void)snprintf(out, room, "wants permissions in octal, like 660");
        return;
    }
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
            char wanted[SHOWN_MAX + 64];
            print_wanted(wanted, sizeof(wanted), r);
            (void)snprintf(err, err_size, "the environment variable %s %s", name, wanted);
            return E_INVALID;
        }
    }
    return OK;
}

static enum status bad_option(const char *name, size_t n, const struct command_row *cmd, char *err,
                              size_t err_size)
{
    const char *near = nearest_option(name, n, cmd->in);
    int shown = n < SPELLING_MAX ? (int)n : SPELLING_MAX;
    if (near)
        (void)snprintf(err, err_size, "%s has no option --%.*s; did you mean --%s?", cmd->name,
                       shown, name, near);
    else
        (void)snprintf(err, err_size, "%s has no option --%.*s; see firstlight %s --help",
                       cmd->name, shown, name, cmd->name);
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
        return bad_option(name, n, cmd, err, err_size);

    const char *value = equals ? equals + 1 : NULL;
    if (r->type == OPT_FLAG && !value)
        value = "1";
    if (!value && ++*i < argc)
        value = argv[*i];
    forget_env(o, r);
    if (value && option_set(o, r, value))
        return OK;

    char wanted[SHOWN_MAX + 64];
    print_wanted(wanted, sizeof(wanted), r);
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
    else {
        (void)snprintf(err, err_size, "%s does not take '%.40s'; see firstlight %s --help",
                       cmd->name, word, cmd->name);
        return E_INVALID;
    }
    return OK;
}

static enum status check_listener(const struct options *o, const char *option, const char *text,
                                  char *err, size_t err_size)
{
    struct address at;
    if (!address_parse(&at, text)) {
        (void)snprintf(err, err_size,
                       "--%s %.120s is not an address to listen on, like 127.0.0.1:8080, "
                       "[::1]:8080 or unix:/path",
                       option, text);
        return E_INVALID;
    }
    if (at.local || o->api_key.n || o->api_keys_file[0] || o->insecure)
        return OK;
    (void)snprintf(err, err_size,
                   "--%s %.64s can be reached by others: give --api-key or --api-keys-file, or "
                   "--insecure if that is meant",
                   option, text);
    return E_INVALID;
}

static enum status check_door(const struct options *o, char *err, size_t err_size)
{
    char text[ADDRESS_TEXT_MAX];
    enum status s = OK;
    if (!o->tls_cert[0] != !o->tls_key[0]) {
        (void)snprintf(err, err_size, "--tls-cert and --tls-key go together");
        return E_INVALID;
    }
    for (int32_t i = 0; i < o->listen.n && s == OK; i++)
        s = check_listener(o, "listen", o->listen.item[i], err, err_size);
    if (s || o->listen.n)
        return s;
    address_join(text, o->host, o->port);
    return check_listener(o, "host", text, err, err_size);
}

static enum status check_together(const struct options *o, char *err, size_t err_size)
{
    if (o->command == CMD_RUN && !o->prompt) {
        (void)snprintf(err, err_size,
                       "run needs a model and a prompt: "
                       "firstlight run MODEL \"prompt\" (\"-\" reads stdin)");
        return E_INVALID;
    }
    if (o->command == CMD_INSPECT && o->models.n == 0) {
        (void)snprintf(err, err_size, "inspect needs a model: firstlight inspect MODEL");
        return E_INVALID;
    }
    if (o->command == CMD_CONVERT && !o->dst) {
        (void)snprintf(err, err_size, "convert needs two paths: firstlight convert SRC DST");
        return E_INVALID;
    }
    if (o->command != CMD_SERVE && o->models.n > 1) {
        (void)snprintf(err, err_size, "this command takes one model");
        return E_INVALID;
    }
    if (o->models.n > 1 && o->names.n > 0) {
        (void)snprintf(err, err_size,
                       "--served-model-name is for one model; name several with --model "
                       "NAME=PATH and --alias NAME=MODEL");
        return E_INVALID;
    }
    return o->command == CMD_SERVE ? check_door(o, err, err_size) : OK;
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
            s = bad_option(argv[i] + 1, strlen(argv[i] + 1), cmd, err, err_size);
        } else {
            s = take_word(o, cmd, argv[i], &n_words, err, err_size);
        }
    }
    return s == OK ? check_together(o, err, err_size) : s;
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

static const char *value_word(const struct option_row *r)
{
    switch (r->type) {
    case OPT_INT:
        return " N";
    case OPT_SIZE:
        return " BYTES";
    case OPT_SECONDS:
        return " SECONDS";
    case OPT_NUMBER:
        return " X";
    case OPT_FLAG:
        return "";
    case OPT_TEXT:
    case OPT_LIST:
        return " TEXT";
    case OPT_MODE:
        return " MODE";
    case OPT_CHOICE:
        return " WORD";
    case OPT_NAMES:
        return " NAME,...";
    }
    return "";
}

static void help_row(FILE *to, const struct option_row *r)
{
    char flag[HELP_FLAG_WIDTH + 32];
    char range[SHOWN_MAX];
    print_range(range, sizeof(range), r);
    (void)snprintf(flag, sizeof(flag), "--%s%s", r->name, value_word(r));
    (void)fprintf(to, "  %-*s %s\n", HELP_FLAG_WIDTH, flag, r->help);
    if (r->type == OPT_FLAG)
        (void)fprintf(to, "  %-*s   (default off)\n", HELP_FLAG_WIDTH, "");
    else if (range[0])
        (void)fprintf(to, "  %-*s   (%s, default %s)\n", HELP_FLAG_WIDTH, "", range, r->def);
    else if (r->def)
        (void)fprintf(to, "  %-*s   (default %s)\n", HELP_FLAG_WIDTH, "",
                      r->def[0] ? r->def : "none");
}

static void help_overview(FILE *to)
{
    (void)fprintf(to, "Firstlight %s: an int8 inference server for Llama-family models.\n\n",
                  FIRSTLIGHT_VERSION);
    for (size_t i = 0; i < n_option_commands; i++)
        (void)fprintf(to, "  firstlight %-32s %s\n", option_commands[i].usage,
                      option_commands[i].help);
    (void)fprintf(to, "  firstlight COMMAND --help           every option of a command\n"
                      "  firstlight --version\n");
}

void options_help(FILE *to, enum command about)
{
    const struct command_row *cmd = command_of(about);
    if (!cmd) {
        help_overview(to);
        return;
    }
    (void)fprintf(to, "firstlight %s\n%s\n", cmd->usage, cmd->help);
    for (size_t g = 0; g < n_option_groups; g++) {
        bool titled = false;
        for (size_t i = 0; i < option_groups[g].n; i++) {
            if (!(option_groups[g].row[i].in & cmd->in))
                continue;
            if (!titled)
                (void)fprintf(to, "\n%s\n", option_groups[g].title);
            titled = true;
            help_row(to, &option_groups[g].row[i]);
        }
    }
    (void)fprintf(to, "\nEvery option can also be set in the environment: --max-seqs is "
                      "FIRSTLIGHT_MAX_SEQS.\nThe command line wins.\n");
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

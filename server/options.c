#include "server/options.h"

#include "server/spelling.h"

#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

/* Options are rows of tables. A row says where in struct options its value goes, so no
 * other place lists them: a new option is a new row and a new member. Values from the
 * environment and from argv pass through the same function, option_set(), and so do the
 * defaults, which proves at every start that they lie in their own range. */

enum option_type {
    OPT_INT,     /* int32_t */
    OPT_SIZE,    /* size_t, with K, M, G */
    OPT_SECONDS, /* uint64_t of milliseconds, written in seconds */
    OPT_NUMBER,  /* double */
    OPT_FLAG,    /* bool */
    OPT_TEXT,    /* const char * */
    OPT_CHOICE,  /* int32_t, index among the words of `choices` */
    OPT_NAMES,   /* struct served_names: repeated or separated by commas */
};

/* Which commands take an option; IN_MODEL: those that load the weights. */
enum { IN_SERVE = 1, IN_RUN = 2, IN_INSPECT = 4, IN_MODEL = 3, IN_ALL = 7 };

/* Columns of the help, and room for a row's name in capitals. */
enum { HELP_FLAG_WIDTH = 30, ENV_NAME_MAX = 64, SHOWN_MAX = 96 };

#define MIB 1048576.0
#define GIB 1073741824.0
#define TIB 1099511627776.0
#define DAY 86400.0

struct option_row {
    const char *name; /* without the dashes */
    size_t at;        /* offset in struct options */
    enum option_type type;
    unsigned in; /* commands that take it */
    double min;
    double max;
    const char *def;     /* as it would be typed; NULL: unset */
    const char *choices; /* "a|b|c" */
    const char *help;
};

#define AT(member) offsetof(struct options, member)

static const struct option_row model_rows[] = {
    {"model", AT(model), OPT_TEXT, IN_ALL, 0, 0, NULL, NULL,
     "Hugging Face directory: config.json, *.safetensors (default the bundled demo)"},
    {"served-model-name", AT(names), OPT_NAMES, IN_SERVE, 0, 0, NULL, NULL,
     "name clients use, repeatable (default last part of the path)"},
    {"backend", AT(backend), OPT_CHOICE, IN_ALL, 0, 0, "auto", "auto|cpu|cuda",
     "what computes; auto takes a GPU where there is one"},
    {"threads", AT(threads), OPT_INT, IN_ALL, 0, 1024, "0", NULL,
     "threads of the cpu backend, 0: every core this process may use"},
    {"context", AT(context), OPT_INT, IN_ALL, 0, 1 << 20, "0", NULL,
     "longest sequence in tokens, 0: what the model was trained for"},
    {"weights", AT(weights), OPT_CHOICE, IN_MODEL, 0, 0, "q8", "q8|f32",
     "numbers of weights and activations"},
    {"kv", AT(kv), OPT_CHOICE, IN_ALL, 0, 0, "q8", "q8|f32", "numbers of keys and values"},
    {"kv-bytes", AT(kv_bytes), OPT_SIZE, IN_ALL, 0, 16 * TIB, "0", NULL,
     "memory for keys and values, 0: chosen from what is free"},
};

static const struct option_row sched_rows[] = {
    {"max-seqs", AT(max_seqs), OPT_INT, IN_SERVE, 0, 1024, "0", NULL,
     "sequences computed together in one step, 0: 32 on the cpu, 256 on a GPU"},
    {"max-queue", AT(max_queue), OPT_INT, IN_SERVE, 0, 100000, "256", NULL,
     "requests that may wait beyond those; more are refused with 429"},
    {"step-rows", AT(step_rows), OPT_INT, IN_MODEL, 0, 65536, "0", NULL,
     "token rows of one step, answers first, then prompts; 0: 64, on a GPU 2048"},
    {"no-prefix-cache", AT(no_prefix_cache), OPT_FLAG, IN_SERVE, 0, 0, NULL, NULL,
     "do not share computed prompt beginnings between requests"},
};

static const struct option_row http_rows[] = {
    {"host", AT(host), OPT_TEXT, IN_SERVE, 0, 0, "127.0.0.1", NULL, "address to listen on"},
    {"port", AT(port), OPT_INT, IN_SERVE, 0, 65535, "8080", NULL, "TCP port, 0: any that is free"},
    {"api-key", AT(api_key), OPT_TEXT, IN_SERVE, 0, 0, "", NULL,
     "what clients must send as 'Authorization: Bearer ...' (safer in the environment)"},
    {"insecure", AT(insecure), OPT_FLAG, IN_SERVE, 0, 0, NULL, NULL,
     "allow an address other machines can reach without a key"},
    {"max-conns", AT(max_conns), OPT_INT, IN_SERVE, 1, 1000000, "10000", NULL,
     "connections at once; never more than the limit of open files less 256"},
    {"head-bytes", AT(head_bytes), OPT_SIZE, IN_SERVE, 1024, MIB, "16K", NULL,
     "largest request head"},
    {"head-fields", AT(head_fields), OPT_INT, IN_SERVE, 8, 1024, "64", NULL,
     "most header fields of a request"},
    {"target-bytes", AT(target_bytes), OPT_SIZE, IN_SERVE, 64, MIB, "2K", NULL,
     "longest request target"},
    {"body-bytes", AT(body_bytes), OPT_SIZE, IN_SERVE, 1024, GIB, "8M", NULL,
     "largest request body"},
    {"head-s", AT(head_ms), OPT_SECONDS, IN_SERVE, 0.05, DAY, "10", NULL,
     "seconds from the first byte of a request to the end of its head"},
    {"body-s", AT(body_ms), OPT_SECONDS, IN_SERVE, 0.05, DAY, "30", NULL,
     "seconds a request body may take"},
    {"idle-s", AT(idle_ms), OPT_SECONDS, IN_SERVE, 0.05, DAY, "75", NULL,
     "seconds a connection may wait for its next request"},
    {"write-s", AT(write_ms), OPT_SECONDS, IN_SERVE, 0.05, DAY, "30", NULL,
     "seconds without progress after which a slow reader counts as gone"},
    {"request-s", AT(request_ms), OPT_SECONDS, IN_SERVE, 0.05, 7 * DAY, "600", NULL,
     "seconds one answer may take, waiting included"},
    {"drain-delay-s", AT(drain_delay_ms), OPT_SECONDS, IN_SERVE, 0, 3600, "0", NULL,
     "seconds after SIGTERM in which /health says 503 but requests are still taken"},
    {"drain-s", AT(drain_ms), OPT_SECONDS, IN_SERVE, 0, DAY, "30", NULL,
     "seconds running answers have to finish after SIGTERM"},
};

static const struct option_row run_rows[] = {
    {"system", AT(system), OPT_TEXT, IN_RUN, 0, 0, "", NULL, "system message before the prompt"},
    {"raw", AT(raw), OPT_FLAG, IN_RUN, 0, 0, NULL, NULL,
     "the prompt goes in as it is, without the chat template"},
    {"max-tokens", AT(max_tokens), OPT_INT, IN_RUN, 1, 1 << 20, "512", NULL,
     "longest answer in tokens"},
    {"temperature", AT(temperature), OPT_NUMBER, IN_RUN, -1, 5, "-1", NULL,
     "0: always the likeliest token; -1: what the model asks for"},
    {"top-p", AT(top_p), OPT_NUMBER, IN_RUN, -1, 1, "-1", NULL,
     "smallest probability mass to draw from; -1: what the model asks for"},
    {"top-k", AT(top_k), OPT_INT, IN_RUN, -1, 100000, "-1", NULL,
     "most tokens to draw from, 0: all; -1: what the model asks for"},
    {"seed", AT(seed), OPT_INT, IN_RUN, 0, 2147483647, "0", NULL,
     "the same seed gives the same answer, 0: a random one"},
};

static const struct option_row log_rows[] = {
    {"log", AT(log), OPT_CHOICE, IN_ALL, 0, 0, "text", "text|json", "form of the log lines"},
    {"log-level", AT(log_level), OPT_CHOICE, IN_ALL, 0, 0, "info", "error|warn|info|debug",
     "least important lines to show"},
};

static const struct option_group {
    const char *title;
    const struct option_row *row; /* [n] */
    size_t n;
} groups[] = {
    {"Model", model_rows, ARRAY_LEN(model_rows)}, {"Scheduling", sched_rows, ARRAY_LEN(sched_rows)},
    {"HTTP", http_rows, ARRAY_LEN(http_rows)},    {"Answer", run_rows, ARRAY_LEN(run_rows)},
    {"Log", log_rows, ARRAY_LEN(log_rows)},
};

static const struct command_row {
    const char *name;
    enum command command;
    unsigned in;
    const char *usage;
    const char *help;
} commands[] = {
    {"serve", CMD_SERVE, IN_SERVE, "serve [options]", "answer HTTP requests"},
    {"run", CMD_RUN, IN_RUN, "run MODEL \"prompt\" [options]",
     "answer one prompt on the terminal (MODEL \"demo\": the bundled one; prompt \"-\": stdin)"},
    {"inspect", CMD_INSPECT, IN_INSPECT, "inspect MODEL [options]",
     "print what a model is and what fits, without loading its weights"},
};

static const struct command_row *command_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static const struct command_row *command_of(enum command command)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (commands[i].command == command)
            return &commands[i];
    return NULL;
}

static const struct option_row *row_find(const char *name, size_t n)
{
    for (size_t g = 0; g < ARRAY_LEN(groups); g++)
        for (size_t i = 0; i < groups[g].n; i++)
            if (strlen(groups[g].row[i].name) == n && memcmp(groups[g].row[i].name, name, n) == 0)
                return &groups[g].row[i];
    return NULL;
}

static const char *nearest_option(const char *name, size_t n, unsigned in)
{
    struct spelling spelling;
    spelling_start(&spelling, name, n);
    for (size_t g = 0; g < ARRAY_LEN(groups); g++)
        for (size_t i = 0; i < groups[g].n; i++)
            if (groups[g].row[i].in & in)
                spelling_try(&spelling, groups[g].row[i].name);
    return spelling_best(&spelling);
}

static const char *nearest_command(const char *name)
{
    struct spelling spelling;
    spelling_start(&spelling, name, strlen(name));
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        spelling_try(&spelling, commands[i].name);
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
static bool name_is_sane(const char *name, size_t n)
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
        if (!name_is_sane(name, n) || names->n == SERVED_NAMES_MAX)
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
    }
}

static void set_defaults(struct options *o)
{
    memset(o, 0, sizeof(*o));
    for (size_t g = 0; g < ARRAY_LEN(groups); g++)
        for (size_t i = 0; i < groups[g].n; i++)
            if (groups[g].row[i].def) {
                bool set = option_set(o, &groups[g].row[i], groups[g].row[i].def);
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

static enum status set_from_env(struct options *o, unsigned in, char *err, size_t err_size)
{
    for (size_t g = 0; g < ARRAY_LEN(groups); g++) {
        for (size_t i = 0; i < groups[g].n; i++) {
            const struct option_row *r = &groups[g].row[i];
            char name[ENV_NAME_MAX];
            env_name(name, r->name);
            const char *value = getenv(name);
            if (!value || !(r->in & in) || option_set(o, r, value))
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
        o->model = word;
    else if (cmd->command == CMD_RUN && at == 1)
        o->prompt = word;
    else {
        (void)snprintf(err, err_size, "%s does not take '%.40s'; see firstlight %s --help",
                       cmd->name, word, cmd->name);
        return E_INVALID;
    }
    return OK;
}

/* True for addresses only this machine can reach. */
static bool host_is_local(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (strcmp(host, "localhost") == 0)
        return true;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

static enum status check_together(const struct options *o, char *err, size_t err_size)
{
    if (o->command == CMD_RUN && !o->prompt) {
        (void)snprintf(err, err_size,
                       "run needs a model and a prompt: "
                       "firstlight run MODEL \"prompt\" (\"-\" reads stdin)");
        return E_INVALID;
    }
    if (o->command == CMD_INSPECT && !o->model) {
        (void)snprintf(err, err_size, "inspect needs a model: firstlight inspect MODEL");
        return E_INVALID;
    }
    if (o->command == CMD_SERVE && !host_is_local(o->host) && !o->api_key[0] && !o->insecure) {
        (void)snprintf(err, err_size,
                       "--host %.64s can be reached by others: give --api-key, or --insecure if "
                       "that is meant",
                       o->host);
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
    int32_t names_of_env = o->names.n;
    bool only_words = false;
    for (int i = 2; i < argc && s == OK; i++) {
        if (!only_words && strcmp(argv[i], "--") == 0) {
            only_words = true;
        } else if (!only_words && (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)) {
            o->about = cmd->command;
            o->command = CMD_HELP;
            return OK;
        } else if (!only_words && strncmp(argv[i], "--", 2) == 0) {
            /* Names on the command line replace those of the environment. */
            if (names_of_env && strncmp(argv[i], "--served-model-name", 19) == 0) {
                o->names.n = 0;
                names_of_env = 0;
            }
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
        return " TEXT";
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
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        (void)fprintf(to, "  firstlight %-32s %s\n", commands[i].usage, commands[i].help);
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
    for (size_t g = 0; g < ARRAY_LEN(groups); g++) {
        bool titled = false;
        for (size_t i = 0; i < groups[g].n; i++) {
            if (!(groups[g].row[i].in & cmd->in))
                continue;
            if (!titled)
                (void)fprintf(to, "\n%s\n", groups[g].title);
            titled = true;
            help_row(to, &groups[g].row[i]);
        }
    }
    (void)fprintf(to, "\nEvery option can also be set in the environment: --max-seqs is "
                      "FIRSTLIGHT_MAX_SEQS.\nThe command line wins.\n");
}

const char *options_backend(const struct options *o)
{
    static const char *const names[] = {
        [BACKEND_AUTO] = "auto", [BACKEND_CPU] = "cpu", [BACKEND_CUDA] = "cuda"};
    return names[o->backend];
}

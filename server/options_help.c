/* The help, from the rows alone: what is printed is what is parsed. */
#include "server/options_private.h"

enum { HELP_FLAG_WIDTH = 30 };

static const struct command_row *command_of(enum command command)
{
    for (size_t i = 0; i < n_option_commands; i++)
        if (option_commands[i].command == command)
            return &option_commands[i];
    return NULL;
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
    char range[OPTION_RANGE_MAX];
    option_range(range, r);
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

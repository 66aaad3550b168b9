#ifndef SERVER_OPTIONS_PRIVATE_H
#define SERVER_OPTIONS_PRIVATE_H

#include "server/options.h"

/* Shared by options_table.c (every option, as a row), options.c (from argv and the environment to
 * values), options_value.c (one value), options_check.c (do they fit together) and options_help.c.
 */

enum option_type {
    OPT_INT,     /* int32_t */
    OPT_SIZE,    /* size_t, with K, M, G */
    OPT_SECONDS, /* uint64_t of milliseconds, written in seconds */
    OPT_NUMBER,  /* double */
    OPT_FLAG,    /* bool */
    OPT_TEXT,    /* const char * */
    OPT_CHOICE,  /* int32_t, index among the words of `choices` */
    OPT_LIST,    /* struct text_list: repeated */
    OPT_MODE,    /* int32_t, file permissions in octal */
    OPT_NAMES,   /* struct served_names: repeated or separated by commas */
};

/* Which commands take an option; IN_MODEL: those that load the weights. */
enum { IN_SERVE = 1, IN_RUN = 2, IN_INSPECT = 4, IN_MODEL = 3, IN_ALL = 7, IN_CONVERT = 8 };

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

struct option_group {
    const char *title;
    const struct option_row *row; /* [n] */
    size_t n;
};

struct command_row {
    const char *name;
    enum command command;
    unsigned in;
    const char *usage;
    const char *help;
};

extern const struct option_group option_groups[];
extern const size_t n_option_groups;
extern const struct command_row option_commands[];
extern const size_t n_option_commands;

/* Room for a range in words, and for what a value should have been. */
enum { OPTION_RANGE_MAX = 96, OPTION_WANTED_MAX = OPTION_RANGE_MAX + 64 };

/* options_value.c */
/* False: text is no value of this row. */
bool option_set(struct options *o, const struct option_row *r, const char *text);
/* "0 to 1024", "one of a|b"; "" where anything goes. */
void option_range(char out[OPTION_RANGE_MAX], const struct option_row *r);
/* "wants ...", for the message about a wrong value. */
void option_wanted(char out[OPTION_WANTED_MAX], const struct option_row *r);

/* options_check.c */
enum status options_check(const struct options *o, char *err, size_t err_size) MUST_CHECK;

#endif

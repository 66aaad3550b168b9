#ifndef BENCH_SERVE_OPTIONS_TABLE_H
#define BENCH_SERVE_OPTIONS_TABLE_H

#include "bench/serve_options.h"

/* What serve_options.c reads of the table, and nobody else. */

enum value_type {
    VALUE_TEXT,
    VALUE_INT,
    VALUE_NUMBER, /* without a default: NAN */
    VALUE_FLAG,
    VALUE_CHOICE,  /* int32_t */
    VALUE_CHOICES, /* bits of uint32_t, several with commas */
    VALUE_NUMBERS, /* several with commas */
    VALUE_WORDS,   /* all arguments up to the next option */
};

struct value_row {
    const char *name;
    enum value_type type;
    size_t at;
    double min;
    double max;
    const char *standard; /* the default, NULL: none */
    const char *choices;  /* with | between */
    const char *help;
};

struct value_group {
    const char *title;
    const struct value_row *row; /* [n] */
    size_t n;
};

extern const struct value_group value_groups[];
extern const size_t n_value_groups;

#endif

/* One option's value: from text into its place in struct options, and in words what would have been
 * right. A text is taken whole or refused; a refused one leaves numbers as they were. */
#include "server/options_private.h"

#include "server/text.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Sizes as people write them: 16777216, 16M. */
static const struct {
    double bytes;
    char letter;
} units[] = {{TIB, 'T'}, {GIB, 'G'}, {MIB, 'M'}, {1024, 'K'}};

/* 0: no such unit. */
static double unit_of(char letter)
{
    for (size_t i = 0; i < ARRAY_LEN(units); i++)
        if (units[i].letter == toupper((unsigned char)letter))
            return units[i].bytes;
    return 0;
}

/* A finite decimal number and nothing after it but, for sizes, one unit letter. */
static bool parse_number(const char *text, bool is_size, double *out)
{
    /* strtod() would also take hexadecimal, blanks, "inf" and "nan". */
    size_t n = strspn(text, "+-.0123456789eE");
    char *end = NULL;
    errno = 0;
    double value = strtod(text, &end);
    if (errno || n == 0 || end != text + n)
        return false;
    double unit = is_size && *end ? unit_of(*end++) : 1;
    value *= unit;
    if (unit == 0 || *end || !isfinite(value))
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

bool options_name_is_sane(const char *name, size_t n)
{
    return n > 0 && n < SERVED_NAME_BYTES_MAX && text_is_label(name, n);
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

bool option_set(struct options *o, const struct option_row *r, const char *text)
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

static void print_size(char *out, size_t room, double bytes)
{
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (bytes >= units[i].bytes && fmod(bytes, units[i].bytes) == 0) {
            (void)snprintf(out, room, "%.0f%c", bytes / units[i].bytes, units[i].letter);
            return;
        }
    }
    (void)snprintf(out, room, "%.0f", bytes);
}

void option_range(char out[OPTION_RANGE_MAX], const struct option_row *r)
{
    char low[32];
    char high[32];
    switch (r->type) {
    case OPT_INT:
    case OPT_NUMBER:
    case OPT_SECONDS:
        (void)snprintf(out, OPTION_RANGE_MAX, "%.10g to %.10g", r->min, r->max);
        return;
    case OPT_SIZE:
        print_size(low, sizeof(low), r->min);
        print_size(high, sizeof(high), r->max);
        (void)snprintf(out, OPTION_RANGE_MAX, "%s to %s", low, high);
        return;
    case OPT_CHOICE:
        (void)snprintf(out, OPTION_RANGE_MAX, "one of %s", r->choices);
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

/* What a wrong value should have been, for the message. */
void option_wanted(char out[OPTION_WANTED_MAX], const struct option_row *r)
{
    char range[OPTION_RANGE_MAX];
    option_range(range, r);
    switch (r->type) {
    case OPT_INT:
        (void)snprintf(out, OPTION_WANTED_MAX, "wants a whole number from %s", range);
        return;
    case OPT_SIZE:
        (void)snprintf(out, OPTION_WANTED_MAX, "wants bytes (K, M, G allowed) from %s", range);
        return;
    case OPT_SECONDS:
        (void)snprintf(out, OPTION_WANTED_MAX, "wants seconds from %s", range);
        return;
    case OPT_NUMBER:
        (void)snprintf(out, OPTION_WANTED_MAX, "wants a number from %s", range);
        return;
    case OPT_CHOICE:
        (void)snprintf(out, OPTION_WANTED_MAX, "wants %s", range);
        return;
    case OPT_FLAG:
        (void)snprintf(out, OPTION_WANTED_MAX, "wants 1 or 0");
        return;
    case OPT_NAMES:
        (void)snprintf(out, OPTION_WANTED_MAX,
                       "wants at most %d names of printable letters without blanks",
                       SERVED_NAMES_MAX);
        return;
    case OPT_TEXT:
        (void)snprintf(out, OPTION_WANTED_MAX, "wants a text");
        return;
    case OPT_LIST:
        (void)snprintf(out, OPTION_WANTED_MAX, "wants a text, at most %d times", TEXT_LIST_MAX);
        return;
    case OPT_MODE:
        (void)snprintf(out, OPTION_WANTED_MAX, "wants permissions in octal, like 660");
        return;
    }
}

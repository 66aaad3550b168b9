#ifndef MODELS_JINJA_H
#define MODELS_JINJA_H

#include "models/jsonfile.h"
#include "models/tokenizer.h"

/* The template language of chat templates: Jinja as Python's sandboxed environment runs it
 * with trim_blocks, lstrip_blocks, loop controls and generation blocks. A template is compiled
 * once and immutable; any number of renderings may run at the same time.
 *
 * Templates come from files and data from clients, so both are taken for hostile: steps,
 * depth, memory and output are bounded, and values cannot be changed once made (but for
 * namespaces), as in the sandbox. Every byte of the output is known to come from the
 * template's own literals (trusted) or from anywhere else. */
struct jinja;

enum {
    JINJA_TEMPLATE_MAX = 1 << 20, /* bytes of a template */
    JINJA_NODES_MAX = 200000,     /* of its syntax tree */
    JINJA_NEST_MAX = 96,          /* brackets and blocks in one another */
    JINJA_STEPS_MAX = 4 << 20,    /* nodes evaluated; long strings and lists count more */
    JINJA_DEPTH_MAX = 384,        /* evaluations in one another; macros may call themselves */
    JINJA_MEMORY_MAX = 192 << 20, /* bytes of all values of one rendering */
    JINJA_OUTPUT_MAX = 8 << 20,   /* bytes of text */
    JINJA_RANGE_MAX = 100000,     /* numbers of one range() */
};

/* E_INVALID: the template is not well-formed; err names the line. */
enum status jinja_compile(struct jinja **out, const char *text, size_t bytes, char *err,
                          size_t err_size) MUST_CHECK;
void jinja_close(struct jinja *t); /* NULL is fine */

/* Whether the text is anywhere in the template. */
bool jinja_mentions_text(const struct jinja *t, const char *text);

/* What a rendering is given, in the order in which later ones win. */
struct jinja_var {
    const char *name;
    const char *text;  /* a trusted string, when json is NULL; NULL: none */
    const cJSON *json; /* a value whose strings are untrusted */
};

struct jinja_input {
    const struct jinja_var *var; /* [n_vars] */
    size_t n_vars;
    const cJSON *more; /* object of further variables, or NULL: win over all */
    /* NULL at the end: these are trusted as "role" of the elements of json variables, since
     * templates put together marks like '<|' + role + '|>'. */
    const char *const *roles;
    bool add_generation_prompt;
    int64_t now; /* unix seconds, for strftime_now */
};

struct jinja_text {
    char *text; /* [bytes], UTF-8 */
    size_t bytes;
    struct text_range *trusted; /* [n_trusted], ascending, neither touching nor empty */
    size_t n_trusted;
};

/* E_INVALID: the template failed, by its own will or at a limit; err names the line. */
enum status jinja_render(const struct jinja *t, const struct jinja_input *in,
                         struct jinja_text *out, char *err, size_t err_size) MUST_CHECK;
void jinja_text_free(struct jinja_text *text);

#endif

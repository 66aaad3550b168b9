#ifndef MODELS_CHAT_PRIV_H
#define MODELS_CHAT_PRIV_H

#include "models/chat.h"
#include "models/jinja.h"

/* Private to chat*.c. */

enum {
    CHAT_MARKS = 7,
    CHAT_MARK_MAX = 256, /* bytes of a special token's text, with the NUL */
    CHAT_ORIGIN_MAX = 128,
};

extern const char *const chat_mark_name[CHAT_MARKS]; /* "bos_token" ... */

struct chat {
    const struct tokenizer *t;
    struct jinja *plain; /* for requests without tools */
    struct jinja *tools; /* for those with; NULL: the same */
    char origin[CHAT_ORIGIN_MAX];
    char mark[CHAT_MARKS][CHAT_MARK_MAX]; /* "": the model has none */
    bool arguments_text;                  /* the template wants a tool call's arguments as text */
};

/* chat_files.c: template texts and marks of a model; texts are to be freed, NULL: none. */
struct chat_source {
    char *plain;
    char *tools;
    const char *file; /* where they come from */
};

enum status chat_source_read(struct chat *c, struct chat_source *s, const char *path,
                             bool with_template, char *err, size_t err_size) MUST_CHECK;
enum status chat_source_override(struct chat_source *s, const char *name, char *err,
                                 size_t err_size) MUST_CHECK;
void chat_source_free(struct chat_source *s);

/* chat_builtin.c: NULL: no such name. */
const char *chat_builtin(const char *name);
extern const char chat_plain_lines[]; /* for models without a template */

/* chat_messages.c: the conversation in the form that templates expect; to be freed with
 * cJSON_Delete(), and parts of it point into messages. NULL: out of memory. */
struct chat_style {
    bool developer;      /* the template knows that role */
    bool calls;          /* and tool calls */
    bool arguments_text; /* and wants their arguments as text */
};
cJSON *chat_normal(const cJSON *messages, struct chat_style style);

#endif

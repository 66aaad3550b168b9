#ifndef MODELS_CHAT_H
#define MODELS_CHAT_H

#include "models/tokenizer.h"

/* SEAM: a conversation -> token ids, by the template the model was trained with. The template
 * is a program and is run (models/jinja.h); what it takes from a conversation is text and
 * stays text: a special token enters only where the template itself spells it. Immutable once
 * open: any number of threads may encode with the same one. */
struct chat;
struct cJSON;

/* What one request brings. Trees as models/strict_json.h accepts them. */
struct chat_input {
    const struct cJSON *messages; /* array as the OpenAI API has it */
    const struct cJSON *tools;    /* array, or NULL */
    const struct cJSON *kwargs;   /* object of further template variables, or NULL */
    bool add_generation_prompt;   /* the beginning of the assistant's turn comes last */
    bool continue_final;          /* the last message is left open; wins over the above */
    int64_t now;                  /* unix seconds, for templates that tell the date */
};

/* path is a model directory or a GGUF file. The template is that of chat_template.jinja,
 * chat_template.json, tokenizer_config.json or the file's metadata, in this order; override,
 * unless NULL, is the name of a built-in one or of a file that is used instead. A model
 * without a template opens too: messages are then joined as plain "role: text" lines. t must
 * outlive it. E_UNSUPPORTED: the template is not well-formed; err names its line. */
enum status chat_open(struct chat **out, const char *path, const struct tokenizer *t,
                      const char *override, char *err, size_t err_size) MUST_CHECK;
void chat_close(struct chat *c); /* NULL is fine */
/* Where the template comes from: a file's name, "built-in NAME", or "none". */
const char *chat_origin(const struct chat *c);

/* Bytes of all text in it: cheap, to refuse what is too long before it is encoded. */
size_t chat_input_bytes(const struct chat_input *in);

/* On success the caller frees *ids, [*n]. E_INVALID: the template does not take these
 * messages, or runs into a limit; err is one line that says why and names the template's. */
enum status chat_encode(const struct chat *c, const struct chat_input *in, int32_t **ids, size_t *n,
                        char *err, size_t err_size) MUST_CHECK;
/* The text that is encoded, to be freed and NUL-terminated. */
enum status chat_render(const struct chat *c, const struct chat_input *in, char **text,
                        size_t *bytes, char *err, size_t err_size) MUST_CHECK;

/* The messages of a bare prompt: one of the system, unless NULL, and one of the user. The text
 * must be UTF-8 without NUL (else E_INVALID). Freed by chat_messages_free(); NULL is fine. */
enum status chat_messages(struct cJSON **out, const char *system, const char *user,
                          size_t user_bytes) MUST_CHECK;
void chat_messages_free(struct cJSON *messages);

#endif

#ifndef MODELS_CHAT_H
#define MODELS_CHAT_H

#include "models/tokenizer.h"

/* Messages -> token ids, by the template family the model was trained with. User
 * text can never become a special token: templates place specials by id. Immutable
 * once open. */
struct chat;

struct chat_message {
    const char *role; /* "system", "user", "assistant" */
    const char *text; /* UTF-8, not terminated */
    size_t bytes;
};

/* The family is recognised by the chat_template of tokenizer_config.json (or
 * chat_template.jinja). A model without a template opens too: chat_family() is then
 * "none" and messages are joined as plain "role: text" lines. t must outlive it.
 * E_UNSUPPORTED: a template of no known family; err quotes its beginning. */
enum status chat_open(struct chat **out, const char *dir, const struct tokenizer *t, char *err,
                      size_t err_size) MUST_CHECK;
void chat_close(struct chat *c); /* NULL is fine */
const char *chat_family(const struct chat *c);

/* Upper bound of the ids of these messages. */
size_t chat_bound(const struct chat *c, const struct chat_message *m, int32_t n_messages);

/* Writes BOS, the messages and the beginning of the assistant's turn to ids, count to
 * *n. E_INVALID: the family does not take these roles in this order; err says which. */
enum status chat_encode(const struct chat *c, const struct chat_message *m, int32_t n_messages,
                        int32_t *ids, size_t ids_max, size_t *n, char *err,
                        size_t err_size) MUST_CHECK;

#endif

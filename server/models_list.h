#ifndef SERVER_MODELS_LIST_H
#define SERVER_MODELS_LIST_H

#include "server/buf.h"
#include "server/registry.h"

/* The lists of models, as OpenAI and as Workers AI write them. */

/* Every name and alias is an entry. */
void models_list_openai(struct buf *out, const struct registry *r);
void models_list_one(struct buf *out, const struct served *m, const char *name);

/* query: search, task, author, source, page and per_page are obeyed; a page past the end is
 * empty, for that is how clients find the end. */
void models_list_workers(struct buf *out, const struct registry *r, const char *query);

#endif

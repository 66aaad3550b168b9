#ifndef SERVER_CORS_H
#define SERVER_CORS_H

#include "server/options.h"

/* Which pages of other sites may use the server from a browser. Header lines are made once, at
 * start, so an answer only picks them. No credentials are ever allowed: a browser's cookies mean
 * nothing here. */
struct cors;

/* origins: "https://site.example" or "*"; none: the browser's own rule stands, and *out is a cors
 * that adds nothing. err: one line. */
enum status cors_open(struct cors **out, const struct text_list *origins, char *err,
                      size_t err_size) MUST_CHECK;
void cors_close(struct cors *c); /* NULL is fine */

bool cors_is_on(const struct cors *c);
/* Header lines for an answer to a page of this origin (NULL: no page); valid as long as c. */
const char *cors_lines(const struct cors *c, const char *origin);
bool cors_allows(const struct cors *c, const char *origin);

#endif

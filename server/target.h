#ifndef SERVER_TARGET_H
#define SERVER_TARGET_H

#include "kernels/base.h"

/* Paths and queries as they arrive, never decoded more than once. */

/* '*' is one part that is not empty, "**" the rest of the path. tail: where in path the
 * rest begins, NULL when the pattern has none. */
bool target_matches(const char *pattern, const char *path, const char **tail);

/* Percent-decodes n bytes of text once. False: a broken escape, a NUL, or no room. */
bool target_decode(char *out, size_t out_size, const char *text, size_t n, bool plus_is_blank);

/* Value of a query parameter, decoded; false when it is absent or broken. */
bool target_param(const char *query, const char *name, char *out, size_t out_size);

#endif

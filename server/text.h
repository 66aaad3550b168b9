#ifndef SERVER_TEXT_H
#define SERVER_TEXT_H

#include "kernels/base.h"

/* Of texts from outside that are kept, told again or told apart. */

/* Printable ASCII without blanks: fit for header lines and the log. */
bool text_is_visible(const char *text, size_t n);
/* Without quotes and backslashes too: fit for JSON and labels of metrics as it is. */
bool text_is_label(const char *text, size_t n);
bool text_is_utf8(const char *text, size_t n);

/* Equal texts have equal numbers, in every process and release. Not for a table that others fill:
 * whoever wants two texts with one number finds them. */
uint64_t text_hash(const char *text, size_t n);

#endif

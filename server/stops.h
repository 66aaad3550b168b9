#ifndef SERVER_STOPS_H
#define SERVER_STOPS_H

#include "server/buf.h"

/* Stop strings in a text that arrives in pieces. Text goes through it: what cannot be
 * part of a stop string any more comes out at once, exactly the longest end of the text
 * that is the beginning of a stop string is held back, and a stop string itself never
 * comes out, unless it is told to. */
struct stops;

/* include: a stop string comes out with the text before it. */
enum status stops_open(struct stops **out, bool include) MUST_CHECK;
void stops_close(struct stops *s); /* NULL is fine */

/* Before the first feed. Copies text. E_INVALID: empty, or one too many or too long. */
enum status stops_add(struct stops *s, const char *text, size_t bytes) MUST_CHECK;

/* Appends what may be shown to out. True when a stop string is complete: the rest of
 * text, and whatever is fed later, is dropped. With several that end at the same
 * byte, the one that began first counts. */
bool stops_feed(struct stops *s, const char *text, size_t bytes, struct buf *out);

/* The string that was complete, NULL: none was. Valid as long as s. */
const char *stops_found(const struct stops *s, size_t *bytes);

/* The text has ended without a stop string: what is held may be shown. */
void stops_flush(struct stops *s, struct buf *out);

#endif

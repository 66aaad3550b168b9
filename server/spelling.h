#ifndef SERVER_SPELLING_H
#define SERVER_SPELLING_H

#include "kernels/base.h"

/* What may have been meant by a word that does not exist. */

enum { SPELLING_MAX = 40 };

struct spelling {
    const char *word; /* [n] as typed */
    size_t n;
    const char *best; /* NULL: nothing so far */
    size_t mistakes;
};

void spelling_start(struct spelling *s, const char *word, size_t n);
void spelling_try(struct spelling *s, const char *candidate);
/* NULL when nothing is near enough. */
const char *spelling_best(const struct spelling *s);

#endif

/* Edit distance (Levenshtein), one row at a time. What is longer than SPELLING_MAX is no
 * typing mistake. */
#include "server/spelling.h"

#include <string.h>

static size_t distance(const char *a, size_t na, const char *b)
{
    size_t nb = strlen(b);
    size_t row[SPELLING_MAX + 1];
    if (na > SPELLING_MAX || nb > SPELLING_MAX)
        return SPELLING_MAX;
    for (size_t j = 0; j <= nb; j++)
        row[j] = j;
    for (size_t i = 1; i <= na; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[nb];
}

void spelling_start(struct spelling *s, const char *word, size_t n)
{
    s->word = word;
    s->n = n;
    s->best = NULL;
    s->mistakes = SPELLING_MAX;
}

void spelling_try(struct spelling *s, const char *candidate)
{
    size_t mistakes = distance(s->word, s->n, candidate);
    if (mistakes < s->mistakes) {
        s->mistakes = mistakes;
        s->best = candidate;
    }
}

const char *spelling_best(const struct spelling *s)
{
    if (!s->best)
        return NULL;
    size_t n = strlen(s->best);
    size_t most = n / 3 > 2 ? n / 3 : 2;
    /* Two mistakes in "log" leave a word that could be anything. */
    if (n <= 3)
        most = 1;
    return s->mistakes <= most ? s->best : NULL;
}

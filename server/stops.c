/* One Knuth-Morris-Pratt automaton per stop string: `at` is the length of the longest
 * beginning of the string that the text so far ends with. The longest `at` of all is
 * what has to be held back, so `held` is bounded by STOP_BYTES_MAX whatever arrives, and
 * each byte costs O(1) per string. */
#include "server/stops.h"

#include "server/wire.h"

#include <stdlib.h>
#include <string.h>

struct stop {
    char text[STOP_BYTES_MAX];
    uint16_t fail[STOP_BYTES_MAX]; /* longest proper border of text[0 .. i] */
    uint16_t n;
    uint16_t at; /* < n between bytes */
};

struct stops {
    struct stop stop[STOPS_MAX];
    int32_t n;
    char held[STOP_BYTES_MAX];
    size_t n_held;
    const struct stop *found; /* NULL: none */
    bool include;
};

enum status stops_open(struct stops **out, bool include)
{
    *out = calloc(1, sizeof(**out));
    if (!*out)
        return E_NOMEM;
    (*out)->include = include;
    return OK;
}

void stops_close(struct stops *s)
{
    free(s);
}

enum status stops_add(struct stops *s, const char *text, size_t bytes)
{
    if (bytes == 0 || bytes > STOP_BYTES_MAX || s->n == STOPS_MAX)
        return E_INVALID;
    struct stop *p = &s->stop[s->n++];
    memcpy(p->text, text, bytes);
    p->n = (uint16_t)bytes;
    uint16_t border = 0;
    for (size_t i = 1; i < bytes; i++) {
        while (border && p->text[i] != p->text[border])
            border = p->fail[border - 1];
        border = (uint16_t)(border + (p->text[i] == p->text[border]));
        p->fail[i] = border;
    }
    return OK;
}

static void stop_step(struct stop *p, char c)
{
    while (p->at && p->text[p->at] != c)
        p->at = p->fail[p->at - 1];
    p->at = (uint16_t)(p->at + (p->text[p->at] == c));
}

/* Moves every automaton over c. Longest beginning now matched to *longest; the longest complete
 * string comes back, NULL when none is. */
static const struct stop *step_all(struct stops *s, char c, size_t *longest)
{
    const struct stop *complete = NULL;
    *longest = 0;
    for (int32_t i = 0; i < s->n; i++) {
        struct stop *p = &s->stop[i];
        stop_step(p, c);
        if (p->at == p->n && (!complete || p->n > complete->n))
            complete = p;
        if (p->at > *longest)
            *longest = p->at;
    }
    return complete;
}

/* The held bytes and c; all but the last `keep` of them go out. */
static void push(struct stops *s, char c, size_t keep, struct buf *out)
{
    size_t n = s->n_held + 1;
    size_t leave = n - keep;
    if (leave == n) {
        buf_add(out, s->held, s->n_held);
        buf_add(out, &c, 1);
        s->n_held = 0;
        return;
    }
    buf_add(out, s->held, leave);
    memmove(s->held, s->held + leave, s->n_held - leave);
    s->n_held -= leave;
    s->held[s->n_held++] = c;
}

bool stops_feed(struct stops *s, const char *text, size_t bytes, struct buf *out)
{
    if (s->n == 0) {
        buf_add(out, text, bytes);
        return false;
    }
    for (size_t i = 0; i < bytes && !s->found; i++) {
        size_t longest = 0;
        s->found = step_all(s, text[i], &longest);
        push(s, text[i], s->found ? s->found->n : longest, out);
        if (s->found && s->include)
            buf_add(out, s->held, s->n_held);
        if (s->found)
            s->n_held = 0;
    }
    return s->found != NULL;
}

const char *stops_found(const struct stops *s, size_t *bytes)
{
    if (!s->found)
        return NULL;
    *bytes = s->found->n;
    return s->found->text;
}

void stops_flush(struct stops *s, struct buf *out)
{
    buf_add(out, s->held, s->n_held);
    s->n_held = 0;
}

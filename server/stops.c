#include "server/stops.h"

#include "server/wire.h"

#include <stdlib.h>
#include <string.h>

/* One Knuth-Morris-Pratt automaton per stop string: `at` is the length of the longest
 * beginning of the string that the text so far ends with. The longest `at` of all is
 * what has to be held back, so `held` is bounded by STOP_BYTES_MAX whatever arrives, and
 * each byte costs O(1) per string. */

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
    bool found;
};

enum status stops_open(struct stops **out)
{
    *out = calloc(1, sizeof(**out));
    return *out ? OK : E_NOMEM;
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

/* Moves every automaton over c. Longest beginning now matched to *longest, length of
 * the longest complete string to *complete, 0 when none is. */
static void step_all(struct stops *s, char c, size_t *longest, size_t *complete)
{
    *longest = 0;
    *complete = 0;
    for (int32_t i = 0; i < s->n; i++) {
        struct stop *p = &s->stop[i];
        stop_step(p, c);
        if (p->at == p->n && p->n > *complete)
            *complete = p->n;
        if (p->at > *longest)
            *longest = p->at;
    }
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
        size_t complete = 0;
        step_all(s, text[i], &longest, &complete);
        push(s, text[i], complete ? complete : longest, out);
        if (complete) {
            s->found = true;
            s->n_held = 0;
        }
    }
    return s->found;
}

void stops_flush(struct stops *s, struct buf *out)
{
    buf_add(out, s->held, s->n_held);
    s->n_held = 0;
}

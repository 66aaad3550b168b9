#include "models/tok_priv.h"

#include <stdlib.h>
#include <string.h>

#include "models/unicode.h"

/* Text -> words, through a chain of steps: each cuts every piece of the step before. A step
 * sees its piece as a row of matches and the gaps between them; its way says which of them
 * become pieces and which join their neighbour. Every step is an iterator with one segment
 * of foresight, so a chain takes no memory, whatever it is given. */

/* --- matches --- */

static bool one_matches(const struct cut_step *step, uint32_t cp)
{
    return step->kind == CUT_DIGIT ? char_class(cp) == CHAR_NUMBER : is_punctuation(cp);
}

static void find_char(struct cutter *k, const char *p)
{
    while (p < k->end) {
        const char *next = p;
        *k->work += 1;
        if (one_matches(k->step, utf8_next(&next))) {
            k->match = p;
            k->match_end = next;
            return;
        }
        p = next;
    }
}

static enum status find_regex(struct cutter *k, const char *p)
{
    const struct tok_text piece = {k->begin, (size_t)(k->end - k->begin)};
    const char *from = p;
    while (from <= k->end) {
        struct text_range found;
        *k->work += 1;
        enum status s =
            regex_find(k->run, k->step->regex, &piece, (size_t)(from - k->begin), &found);
        if (s || found.begin == piece.bytes)
            return s;
        if (found.end > found.begin || found.begin > (size_t)(p - k->begin)) {
            k->match = k->begin + found.begin;
            k->match_end = k->begin + found.end;
            return OK;
        }
        /* Nothing, right behind the match before: look one character further. */
        from += from < k->end ? utf8_length(from, k->end) : 1;
    }
    return OK;
}

static enum status find_match(struct cutter *k, const char *p)
{
    const struct cut_step *step = k->step;
    k->match = k->end;
    k->match_end = k->end;
    switch (step->kind) {
    case CUT_PATTERN:
        k->match = p;
        k->match_end = split_word(step->pattern, p, k->end, k->work);
        break;
    case CUT_REGEX:
        return find_regex(k, p);
    case CUT_DIGIT:
    case CUT_PUNCTUATION:
        find_char(k, p);
        break;
    case CUT_TEXT: {
        const char *found = memmem(p, (size_t)(k->end - p), step->text, step->text_bytes);
        *k->work += 1;
        if (found) {
            k->match = found;
            k->match_end = found + step->text_bytes;
        }
        break;
    }
    }
    return OK;
}

/* --- segments: a gap, a match, a gap ... --- */

static enum status next_segment(struct cutter *k, struct segment *out)
{
    out->begin = NULL;
    if (k->at == k->end)
        return OK;
    if (!k->found) {
        enum status s = find_match(k, k->at);
        if (s)
            return s;
        k->found = true;
    }
    bool gap = k->match > k->at;
    *out = (struct segment){
        .begin = k->at, .end = gap ? k->match : k->match_end, .match = gap == k->step->invert};
    k->at = out->end;
    k->found = gap;
    return OK;
}

/* Whether the segment behind `now` belongs to the same piece. */
static bool joins(const struct cut_step *step, const struct segment *now,
                  const struct segment *next)
{
    switch (step->way) {
    case CUT_WITH_PREVIOUS:
        return !now->match && next->match;
    case CUT_WITH_NEXT:
        return now->match && !next->match;
    case CUT_CONTIGUOUS:
        return now->match == next->match;
    case CUT_ISOLATED:
    case CUT_REMOVED:
        break;
    }
    return false;
}

void cutter_begin(struct cutter *k, const struct cut_step *step, const char *p, const char *end)
{
    k->step = step;
    k->begin = p;
    k->at = p;
    k->end = end;
    k->found = false;
    k->held = (struct segment){.begin = NULL};
}

enum status cutter_next(struct cutter *k, const char **begin, const char **end)
{
    enum cut_way way = k->step->way;
    *begin = NULL;
    do {
        struct segment now = k->held;
        enum status s = now.begin ? OK : next_segment(k, &now);
        if (s || !now.begin)
            return s;
        k->held.begin = NULL;
        bool look = way != CUT_ISOLATED && way != CUT_REMOVED;
        while (look) {
            s = next_segment(k, &k->held);
            if (s)
                return s;
            look = k->held.begin && joins(k->step, &now, &k->held);
            if (!look)
                break;
            now.end = k->held.end;
            now.match = k->held.match;
            k->held.begin = NULL;
            look = way == CUT_CONTIGUOUS;
        }
        if (now.end > now.begin && !(way == CUT_REMOVED && now.match)) {
            *begin = now.begin;
            *end = now.end;
        }
    } while (!*begin);
    return OK;
}

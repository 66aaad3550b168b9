#include "models/tok_priv.h"

#include <stdlib.h>
#include <string.h>

#include "models/unicode.h"

/* Added tokens are found in text before anything else looks at it, the longest of those
 * that begin leftmost. They lie sorted by their bytes: a walk narrows the range of those
 * that still fit byte by byte, so a place costs at most the length of the longest match
 * times a logarithm, however many tokens there are.
 *
 * Which of them may be one is a matter of trust. A special token, and an added token that
 * is written like a mark (<...>, as role marks and tool marks are), is one only in text
 * that a template wrote; typed by a user it stays letters. The others (runs of blanks or
 * line ends, words) carry no meaning beyond their text and are taken everywhere. */

bool added_is_mark(const char *text, size_t bytes)
{
    return bytes >= 3 && text[0] == '<' && text[bytes - 1] == '>';
}

static int compare_bytes(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    int order = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
    return order ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

static int compare_added(const void *a, const void *b)
{
    const struct added *x = a;
    const struct added *y = b;
    return compare_bytes(x->text, x->bytes, y->text, y->bytes);
}

static void sort(struct added_set *set)
{
    if (set->n)
        qsort(set->token, set->n, sizeof(*set->token), compare_added);
    set->shortest = UINT16_MAX;
    for (uint32_t i = 0; i < set->n; i++) {
        const struct added *a = &set->token[i];
        set->begins[(uint8_t)a->text[0]] = true;
        if (a->bytes < set->shortest)
            set->shortest = a->bytes;
    }
}

enum status added_build(struct added_set *set, const struct token_list *list)
{
    size_t bytes = 1;
    for (size_t i = 0; i < list->n; i++)
        bytes += list->entry[i].bytes;
    set->token = calloc(list->n + 1, sizeof(*set->token));
    set->text = malloc(bytes);
    if (!set->token || !set->text)
        return E_NOMEM;
    char *to = set->text;
    for (size_t i = 0; i < list->n; i++) {
        const struct token_entry *e = &list->entry[i];
        if (e->bytes == 0)
            continue;
        memcpy(to, e->text, e->bytes);
        set->token[set->n++] =
            (struct added){.text = to,
                           .id = e->id,
                           .bytes = (uint16_t)e->bytes,
                           .special = e->special,
                           .guarded = e->special || added_is_mark(e->text, e->bytes),
                           .lstrip = e->lstrip,
                           .rstrip = e->rstrip,
                           .single_word = e->single_word};
        to += e->bytes;
    }
    sort(set);
    return OK;
}

void added_free(struct added_set *set)
{
    free(set->token);
    free(set->text);
    *set = (struct added_set){.n = 0};
}

const struct added *added_find(const struct added_set *set, const char *text, size_t bytes)
{
    uint32_t low = 0;
    uint32_t high = set->n;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        const struct added *a = &set->token[mid];
        int order = compare_bytes(a->text, a->bytes, text, bytes);
        if (order == 0)
            return a;
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

/* The first of [low, high), which agree in their first `at` bytes, whose next byte is at
 * least `byte`; the ones that end here come before all others. */
static uint32_t first_from(const struct added_set *set, uint32_t low, uint32_t high, size_t at,
                           int byte)
{
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        const struct added *a = &set->token[mid];
        if (a->bytes > at && (uint8_t)a->text[at] >= byte)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

const struct added *added_at(const struct added_set *set, const char *p, const char *end,
                             size_t trusted, uint64_t *work)
{
    const struct added *best = NULL;
    uint32_t low = 0;
    uint32_t high = set->n;
    if (!set->begins[(uint8_t)*p])
        return NULL;
    for (size_t at = 0; p + at < end; at++) {
        int byte = (uint8_t)p[at];
        low = first_from(set, low, high, at, byte);
        high = first_from(set, low, high, at, byte + 1);
        *work += 1;
        if (low == high)
            break;
        const struct added *a = &set->token[low];
        if (a->bytes == at + 1 && (!a->guarded || a->bytes <= trusted))
            best = a;
    }
    return best;
}

/* --- what a token does to its neighbours --- */

const char *blanks_back(const char *p, const char *begin)
{
    while (p > begin) {
        const char *last = p - 1;
        while (last > begin && ((uint8_t)*last & 0xc0) == 0x80)
            last--;
        const char *next = last;
        if (char_class(utf8_next(&next)) != CHAR_SPACE)
            break;
        p = last;
    }
    return p;
}

const char *blanks_on(const char *p, const char *end)
{
    while (p < end) {
        const char *next = p;
        if (char_class(utf8_next(&next)) != CHAR_SPACE)
            break;
        p = next;
    }
    return p;
}

bool added_stands_alone(const char *p, size_t bytes, const char *begin, const char *end)
{
    if (p > begin) {
        const char *last = p - 1;
        while (last > begin && ((uint8_t)*last & 0xc0) == 0x80)
            last--;
        if (is_word_char(utf8_next(&last)))
            return false;
    }
    p += bytes;
    return p == end || !is_word_char(utf8_next(&p));
}

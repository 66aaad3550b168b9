#include "models/unicode.h"

#include "models/unicode_table.h"

/* A sorted table of ranges and a binary search; ASCII, most of what comes, never gets
 * there. UTF-8 is read by the table of well-formed sequences of the Unicode standard:
 * only the second byte has a range of its own, and only behind four leading bytes. */

static enum char_class ascii_class(uint32_t cp)
{
    if ((cp | 0x20) >= 'a' && (cp | 0x20) <= 'z')
        return CHAR_LETTER;
    if (cp >= '0' && cp <= '9')
        return CHAR_NUMBER;
    return cp == ' ' || (cp >= '\t' && cp <= '\r') ? CHAR_SPACE : CHAR_OTHER;
}

enum char_class char_class(uint32_t cp)
{
    if (cp < 0x80)
        return ascii_class(cp);
    size_t low = 0;
    size_t high = sizeof(char_ranges) / sizeof(char_ranges[0]);
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (cp < char_ranges[mid].first)
            high = mid;
        else if (cp > char_ranges[mid].last)
            low = mid + 1;
        else
            return (enum char_class)char_ranges[mid].kind;
    }
    return CHAR_OTHER;
}

/* Bytes that a leading byte announces; 0: it leads nothing. */
static size_t announced(uint8_t lead)
{
    if (lead < 0x80)
        return 1;
    if (lead < 0xc2)
        return 0;
    if (lead < 0xe0)
        return 2;
    if (lead < 0xf0)
        return 3;
    return lead < 0xf5 ? 4 : 0;
}

static bool second_fits(uint8_t lead, uint8_t b)
{
    uint8_t low = 0x80;
    uint8_t high = 0xbf;
    if (lead == 0xe0)
        low = 0xa0;
    else if (lead == 0xed)
        high = 0x9f;
    else if (lead == 0xf0)
        low = 0x90;
    else if (lead == 0xf4)
        high = 0x8f;
    return b >= low && b <= high;
}

/* s[1 .. n) continue the leading byte s[0]. */
static bool continues(const uint8_t *s, size_t n)
{
    if (n > 1 && !second_fits(s[0], s[1]))
        return false;
    for (size_t i = 2; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return false;
    }
    return true;
}

size_t utf8_length(const char *s, const char *end)
{
    if (s >= end)
        return 0;
    const uint8_t *u = (const uint8_t *)s;
    size_t n = announced(u[0]);
    return n <= (size_t)(end - s) && continues(u, n) ? n : 0;
}

bool utf8_valid(const char *s, size_t bytes)
{
    const char *end = s + bytes;
    while (s < end) {
        size_t n = utf8_length(s, end);
        if (n == 0)
            return false;
        s += n;
    }
    return true;
}

uint32_t utf8_next(const char **s)
{
    const uint8_t *u = (const uint8_t *)*s;
    size_t n = announced(u[0]);
    uint32_t cp = n == 1 ? u[0] : u[0] & (0x7fU >> n);
    for (size_t i = 1; i < n; i++)
        cp = cp << 6 | (u[i] & 0x3fU);
    *s += n;
    return cp;
}

bool utf8_is_beginning(const uint8_t *s, size_t n)
{
    return n == 0 || (n < announced(s[0]) && continues(s, n));
}

/* A text is n bytes that need not end with a zero. */
#include "server/text.h"

bool text_is_visible(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    return true;
}

bool text_is_label(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (text[i] == '"' || text[i] == '\\')
            return false;
    return text_is_visible(text, n);
}

/* FNV-1a. */
uint64_t text_hash(const char *text, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)text[i]) * 0x100000001b3u;
    return h;
}

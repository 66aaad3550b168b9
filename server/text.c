/* A text is n bytes that need not end with a zero. */
#include "server/text.h"

#include "models/strict_json.h"

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

bool text_is_utf8(const char *text, size_t n)
{
    while (n > 0) {
        size_t bytes = json_utf8(text, n);
        if (bytes == 0)
            return false;
        text += bytes;
        n -= bytes;
    }
    return true;
}

/* FNV-1a. */
uint64_t text_hash(const char *text, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)text[i]) * 0x100000001b3u;
    return h;
}

/* Matching walks pattern and path side by side, a part at a time, without copies. */
#include "server/target.h"

#include <string.h>

bool target_matches(const char *pattern, const char *path, const char **tail)
{
    *tail = NULL;
    while (*pattern) {
        if (strcmp(pattern, "**") == 0) {
            *tail = path;
            return *path != '\0';
        }
        if (*pattern == '*') {
            size_t n = strcspn(path, "/");
            if (n == 0)
                return false;
            path += n;
            pattern++;
        } else if (*pattern++ != *path++) {
            return false;
        }
    }
    return *path == '\0';
}

bool target_decode(char *out, size_t out_size, const char *text, size_t n, bool plus_is_blank)
{
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (c == '%') {
            int high = i + 2 < n ? hex_value(text[i + 1]) : -1;
            int low = i + 2 < n ? hex_value(text[i + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            c = (char)(high * 16 + low);
            i += 2;
        } else if (c == '+' && plus_is_blank) {
            c = ' ';
        }
        if (c == '\0' || used + 1 >= out_size)
            return false;
        out[used++] = c;
    }
    out[used] = '\0';
    return true;
}

bool target_param(const char *query, const char *name, char *out, size_t out_size)
{
    size_t n = strlen(name);
    while (*query) {
        size_t field = strcspn(query, "&");
        if (field > n && memcmp(query, name, n) == 0 && query[n] == '=')
            return target_decode(out, out_size, query + n + 1, field - n - 1, true);
        query += field;
        query += *query == '&';
    }
    return false;
}

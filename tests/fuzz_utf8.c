/* Aim: the UTF-8 of requests is what RFC 3629 calls so and nothing else, found again here by
 * arithmetic instead of tables; a character never reaches past the end; what a query may hold is
 * what a body may hold. */
#include "models/strict_json.h"
#include "server/query.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool fact)
{
    if (!fact)
        abort();
}

/* Bytes of the character that s begins with, 0: none. */
static size_t character(const uint8_t *s, size_t n)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    size_t bytes = s[0] < 0x80       ? 1
                   : s[0] >> 5 == 6  ? 2
                   : s[0] >> 4 == 14 ? 3
                   : s[0] >> 3 == 30 ? 4
                                     : 0;
    if (bytes == 0 || bytes > n)
        return 0;
    uint32_t c = bytes == 1 ? s[0] : s[0] & (0x7fu >> bytes);
    for (size_t i = 1; i < bytes; i++) {
        if (s[i] >> 6 != 2)
            return 0;
        c = c << 6 | (s[i] & 0x3fu);
    }
    bool surrogate = c >= 0xd800 && c < 0xe000;
    return c < least[bytes] || surrogate || c > 0x10ffff ? 0 : bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool whole = true;
    char *copy = malloc(size ? size : 1);
    must(copy != NULL);
    memcpy(copy, data, size);
    for (size_t at = 0; at < size; at++)
        must(json_utf8(copy + at, size - at) == character(data + at, size - at));
    for (size_t at = 0; at < size && whole;) {
        size_t n = json_utf8(copy + at, size - at);
        whole = n > 0 && copy[at] != '\0';
        at += n;
    }
    struct buf query = {0};
    struct buf body = {0};
    struct api_error err = {0};
    buf_text(&query, "prompt=");
    for (size_t i = 0; i < size; i++) {
        static const char digit[] = "0123456789abcdef";
        const char escape[] = {'%', digit[data[i] >> 4], digit[data[i] & 15]};
        buf_add(&query, escape, sizeof(escape));
    }
    buf_add(&query, "", 1);
    must((query_object(&body, query.data, &err) == OK) == whole);
    must(whole || err.text[0]);
    buf_free(&query);
    buf_free(&body);
    free(copy);
    return 0;
}

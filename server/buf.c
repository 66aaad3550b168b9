/* Bytes that grow.
 *
 * Invariant: n <= room, and data is NULL only while room is 0. The first growth that fails sets
 * `failed`; from then on nothing is added until buf_clear() or buf_free(), so what is in the buf is
 * always a prefix of what was meant. */
#include "server/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUF_ROOM_MIN = 256 };

/* Makes room for n more bytes; doubling keeps a long stream of small additions linear. */
static bool buf_grow(struct buf *b, size_t n)
{
    if (b->failed)
        return false;
    size_t need;
    if (!size_add(b->n, n, &need))
        goto fail;
    if (need <= b->room)
        return true;
    size_t room = b->room ? b->room : BUF_ROOM_MIN;
    while (room < need)
        if (!size_mul(room, 2, &room))
            goto fail;
    char *data = realloc(b->data, room);
    if (!data)
        goto fail;
    b->data = data;
    b->room = room;
    return true;
fail:
    b->failed = true;
    return false;
}

void buf_free(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}

void buf_clear(struct buf *b)
{
    b->n = 0;
    b->failed = false;
}

void buf_add(struct buf *b, const void *data, size_t n)
{
    if (n == 0 || !buf_grow(b, n))
        return;
    memcpy(b->data + b->n, data, n);
    b->n += n;
}

void buf_text(struct buf *b, const char *text)
{
    buf_add(b, text, strlen(text));
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    va_list again;
    va_copy(again, args);
    size_t left = b->room - b->n;
    int n = vsnprintf(left ? b->data + b->n : NULL, left, fmt, args);
    /* The format is ours, so only a failure of the C library itself is negative. */
    if (n < 0)
        b->failed = true;
    else if (buf_grow(b, (size_t)n + 1)) {
        if ((size_t)n >= left)
            vsnprintf(b->data + b->n, (size_t)n + 1, fmt, again);
        b->n += (size_t)n;
    }
    va_end(again);
    va_end(args);
}

/* The two-byte escape of a byte, 0 when it has none. */
static char short_escape(unsigned char byte)
{
    switch (byte) {
    case '"':
        return '"';
    case '\\':
        return '\\';
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    default:
        return 0;
    }
}

static bool is_plain(unsigned char byte)
{
    return byte >= 0x20 && byte != '"' && byte != '\\';
}

void buf_json(struct buf *b, const char *text, size_t n)
{
    buf_add(b, "\"", 1);
    size_t at = 0;
    while (at < n) {
        size_t run = at;
        while (run < n && is_plain((unsigned char)text[run]))
            run++;
        buf_add(b, text + at, run - at);
        at = run;
        if (at == n)
            break;
        unsigned char byte = (unsigned char)text[at];
        char letter = short_escape(byte);
        if (letter)
            buf_add(b, (const char[]){'\\', letter}, 2);
        else
            buf_printf(b, "\\u%04x", byte);
        at++;
    }
    buf_add(b, "\"", 1);
}

void buf_json_text(struct buf *b, const char *text)
{
    buf_json(b, text, strlen(text));
}

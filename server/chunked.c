/* The reader of chunked bodies: one state a byte of framing, whole runs of data.
 *
 * Invariant: body_bytes never exceeds what the digits said, and framing_bytes stays within a
 * quarter of the body and FRAMING_FREE, so a body of one-byte chunks cannot make a small message
 * cost a long time. */
#include "server/chunked.h"

enum { FRAMING_FREE = 64 * 1024, DIGITS_MAX = 8 };

static enum chunked_state take_size(struct chunked *k, char byte)
{
    int digit = hex_value(byte);
    if (digit >= 0) {
        if (k->n_digits == DIGITS_MAX)
            return CHUNKED_BAD;
        k->n_digits++;
        k->left = k->left * 16 + (size_t)digit;
        return CHUNKED_SIZE;
    }
    return byte == '\r' && k->n_digits > 0 ? CHUNKED_SIZE_LF : CHUNKED_BAD;
}

static enum chunked_state end_size(struct chunked *k, char byte)
{
    if (byte != '\n' || !size_add(k->body_bytes, k->left, &k->body_bytes))
        return CHUNKED_BAD;
    return k->left ? CHUNKED_DATA : CHUNKED_LAST_CR;
}

static enum chunked_state end_data(struct chunked *k, char byte)
{
    if (byte != '\n' || k->framing_bytes > k->body_bytes / 4 + FRAMING_FREE)
        return CHUNKED_BAD;
    k->n_digits = 0;
    return CHUNKED_SIZE;
}

/* One byte of framing. */
static enum chunked_state step(struct chunked *k, char byte)
{
    k->framing_bytes++;
    switch (k->state) {
    case CHUNKED_SIZE:
        return take_size(k, byte);
    case CHUNKED_SIZE_LF:
        return end_size(k, byte);
    case CHUNKED_DATA_CR:
        return byte == '\r' ? CHUNKED_DATA_LF : CHUNKED_BAD;
    case CHUNKED_DATA_LF:
        return end_data(k, byte);
    case CHUNKED_LAST_CR:
        return byte == '\r' ? CHUNKED_LAST_LF : CHUNKED_BAD;
    case CHUNKED_LAST_LF:
        return byte == '\n' ? CHUNKED_DONE : CHUNKED_BAD;
    case CHUNKED_DATA:
    case CHUNKED_DONE:
    case CHUNKED_BAD:
        break;
    }
    return CHUNKED_BAD;
}

size_t chunked_take(struct chunked *k, const char *data, size_t n, const char **piece,
                    size_t *piece_bytes)
{
    *piece = data;
    *piece_bytes = 0;
    size_t at = 0;
    while (at < n && k->state != CHUNKED_DATA && k->state < CHUNKED_DONE)
        k->state = step(k, data[at++]);
    if (at == n || k->state != CHUNKED_DATA)
        return at;
    *piece = data + at;
    *piece_bytes = k->left < n - at ? k->left : n - at;
    k->left -= *piece_bytes;
    if (k->left == 0)
        k->state = CHUNKED_DATA_CR;
    return at + *piece_bytes;
}

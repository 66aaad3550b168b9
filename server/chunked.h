#ifndef SERVER_CHUNKED_H
#define SERVER_CHUNKED_H

#include "kernels/base.h"

/* Reads a chunked body, byte for byte as a careful sender writes it: 1 to 8 hex digits, CRLF,
 * data, CRLF, and at the end a zero size and an empty line. Extensions and trailers are refused:
 * nobody needs them, and every reader disagrees on how to skip them. No I/O, no allocation. */
enum chunked_state {
    CHUNKED_SIZE,
    CHUNKED_SIZE_LF,
    CHUNKED_DATA,
    CHUNKED_DATA_CR,
    CHUNKED_DATA_LF,
    CHUNKED_LAST_CR,
    CHUNKED_LAST_LF,
    CHUNKED_DONE,
    CHUNKED_BAD,
};

struct chunked {
    enum chunked_state state;
    int32_t n_digits;
    size_t left;          /* of the chunk; while its size is read, the size so far */
    size_t body_bytes;    /* announced so far, that is, with the whole of the current chunk */
    size_t framing_bytes; /* everything that is not data */
};

/* Takes bytes up to the end of one run of data, of the body, or of the input, and returns how
 * many. *piece [*piece_bytes] is the data among them. To be called until it has taken
 * everything, or the state is CHUNKED_DONE or CHUNKED_BAD. */
size_t chunked_take(struct chunked *k, const char *data, size_t n, const char **piece,
                    size_t *piece_bytes);

#endif

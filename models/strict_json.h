#ifndef MODELS_STRICT_JSON_H
#define MODELS_STRICT_JSON_H

#include "kernels/base.h"

/* The one gate for JSON from outside, be it a client's or a file's: RFC 8259 to the letter,
 * UTF-8, no NUL, no lone surrogate, and the limits below. cJSON builds trees but is no
 * validator and recurses, so it sees accepted text only. */

enum {
    STRICT_DEPTH_MAX = 64,
    STRICT_NUMBER_BYTES_MAX = 63, /* of a number cJSON reads no more */
};

struct json_limits {
    size_t nodes;   /* values of any kind */
    size_t members; /* of the outermost object */
    int32_t depth;  /* at most STRICT_DEPTH_MAX */
    bool unique;    /* no name twice in one object; costs memory per name */
};

struct json_error {
    const char *what; /* a constant */
    size_t offset;    /* first byte that could not be accepted */
};

/* Exactly one value with blanks around it. E_INVALID with err filled; E_NOMEM, never when
 * limits->unique is off. */
enum status strict_json(const char *text, size_t bytes, const struct json_limits *limits,
                        struct json_error *err) MUST_CHECK;

/* Bytes of the valid UTF-8 character that text begins with, 0: none. */
size_t json_utf8(const char *text, size_t bytes);

#endif

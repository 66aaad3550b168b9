#ifndef MODELS_UNICODE_H
#define MODELS_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the tokenizers need to know of Unicode: well-formed UTF-8, and which code
 * points are letters, numbers and white space. */

enum char_class { CHAR_OTHER, CHAR_LETTER, CHAR_NUMBER, CHAR_SPACE };

/* \p{L}, \p{N}, \s (White_Space), and everything else. */
enum char_class char_class(uint32_t cp);

/* Length of the well-formed character at s, 1 to 4; 0 when there is none (also when
 * end cuts it). Surrogates, overlong forms and what lies above U+10FFFF are none. */
size_t utf8_length(const char *s, const char *end);

/* All of it is well-formed. */
bool utf8_valid(const char *s, size_t bytes);

/* The character at *s, which must be well-formed, and a step behind it. */
uint32_t utf8_next(const char **s);

/* The n bytes at s, n < 4, can still become a character when more follow. */
bool utf8_is_beginning(const uint8_t *s, size_t n);

#endif

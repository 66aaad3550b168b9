/* Aim: no body makes the parser of Anthropic's messages misbehave; fuzz_wire.h says what that
 * means. */

#include "tests/fuzz_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    (void)try_wire(&wire_messages, (const char *)data, size);
    (void)try_wire(&wire_count_tokens, (const char *)data, size);
    return 0;
}

/* Aim: no body makes the parser of OpenAI's chat misbehave; fuzz_wire.h says what that means. */

#include "tests/fuzz_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    (void)try_wire(&wire_chat, (const char *)data, size);
    return 0;
}

/* Aim: no body makes the parser of OpenAI's responses misbehave; fuzz_wire.h says what that means.
 */

#include "tests/fuzz_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    (void)try_wire(&wire_responses, (const char *)data, size);
    return 0;
}

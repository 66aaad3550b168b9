/* Aim: no body makes the parser of tokenize and detokenize misbehave; fuzz_wire.h says what that
 * means. */

#include "tests/fuzz_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    (void)try_wire(&wire_tokenize, (const char *)data, size);
    (void)try_wire(&wire_detokenize, (const char *)data, size);
    return 0;
}

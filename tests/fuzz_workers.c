/* Aim: no body makes the parser of Workers AI, both routes misbehave; fuzz_wire.h says what that
 * means. */

#include "tests/fuzz_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    (void)try_wire(&wire_workers_rest, (const char *)data, size);
    (void)try_wire(&wire_workers_binding, (const char *)data, size);
    return 0;
}

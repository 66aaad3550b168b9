/* Aim: no body makes the parser of Workers AI, both routes misbehave; fuzz_wire.h says what that
 * means. */

#include "tests/fuzz_wire.h"

/* What one of these two accepts is a request of OpenAI's wire and answered by it. */
static void try_openai(const struct wire *w, const struct wire *answers, const char *text,
                       size_t bytes)
{
    struct gen_request r;
    struct api_error err = {.text = ""};
    enum status st = w->parse(&r, text, bytes, &err);
    must(st == OK || st == E_INVALID);
    if (st == OK)
        check_request(&r, answers);
    else
        check_error(w, &err);
    gen_request_free(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_openai(&wire_workers_chat, &wire_chat, (const char *)data, size);
    try_openai(&wire_workers_completions, &wire_completions, (const char *)data, size);
    (void)try_wire(&wire_workers_rest, (const char *)data, size);
    (void)try_wire(&wire_workers_binding, (const char *)data, size);
    return 0;
}

#include "tests/fuzz_tokenizer.h"

/* The bytes of a tokenizer.model; what loads encodes a text of all kinds. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char text[] = "ab  <s> 123\n\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80 a\xcc\x81 '\t";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char err[ERR_BYTES] = "";
    const struct complaint c = complaint_in("tokenizer.model", err, sizeof(err));
    static const char config[] = "{\"added_tokens_decoder\":{\"300\":{\"content\":"
                                 "\"<|begin_of_text|>\",\"special\":true}}}";
    struct tok_trees trees = {.json = NULL};
    struct tokenizer *t = tok_alloc();
    if (size % 2)
        trees.config = cJSON_Parse(config);
    if (t) {
        enum status s = tok_load_model(t, &trees, (const char *)data, size, &c);
        if (s && (!err[0] || strchr(err, '\n')))
            abort();
        if (s == OK) {
            check_text(t, text, sizeof(text) - 1, NULL, false);
            check_ids(t, data, size);
        }
    }
    tokenizer_close(t);
    cJSON_Delete(trees.config);
    return 0;
}

#include "tests/fuzz_tokenizer.h"

/* A tokenizer.json, a NUL, a tokenizer_config.json, a NUL, and a text for what they make. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { NODES_MAX = 1 << 16 };

/* Up to the next NUL, with one behind it, as files are read. */
static char *part(const uint8_t **p, const uint8_t *end, size_t *bytes)
{
    const uint8_t *nul = *p < end ? memchr(*p, '\0', (size_t)(end - *p)) : NULL;
    const uint8_t *stop = nul ? nul : end;
    *bytes = (size_t)(stop - *p);
    char *text = malloc(*bytes + 1);
    if (!text)
        abort();
    memcpy(text, *p, *bytes);
    text[*bytes] = '\0';
    *p = nul ? nul + 1 : end;
    return text;
}

static cJSON *parse(const uint8_t **p, const uint8_t *end, const struct complaint *c)
{
    size_t bytes;
    cJSON *tree = NULL;
    char *text = part(p, end, &bytes);
    if (bytes == 0 || json_of_text(&tree, text, bytes, NODES_MAX, c))
        tree = NULL;
    free(text);
    return tree;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *p = data;
    const uint8_t *end = data + size;
    char err[ERR_BYTES] = "";
    const struct complaint c = complaint_in("tokenizer.json", err, sizeof(err));
    struct tok_trees trees = {.json = parse(&p, end, &c)};
    trees.config = parse(&p, end, &c);
    err[0] = '\0';
    struct tokenizer *t = tok_alloc();
    if (trees.json && t) {
        enum status s = tok_load_trees(t, &trees, &c);
        if (s && (!err[0] || strchr(err, '\n')))
            abort();
        if (s == OK) {
            size_t most = (size_t)(end - p) < PIECES_OF_TEXT ? (size_t)(end - p) : PIECES_OF_TEXT;
            check_ids(t, data, size);
            if (utf8_valid((const char *)p, most))
                check_text(t, (const char *)p, most, NULL, false);
        }
    }
    tokenizer_close(t);
    cJSON_Delete(trees.json);
    cJSON_Delete(trees.config);
    return 0;
}

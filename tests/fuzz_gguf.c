#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "models/gguf.h"

/* A file's head, and everything that is made of it: the list of tensors, the configuration,
 * the tokenizer, what the chat template needs. Whatever is accepted must lie inside of the
 * file; whatever is refused is one line that begins with the file's name. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void check_tensors(const struct tensor_list *l, uint64_t file_bytes)
{
    for (size_t i = 0; i < l->n; i++) {
        const struct tensor *t = &l->item[i];
        uint64_t bytes = 0;
        require(t->begin <= file_bytes && t->bytes <= file_bytes - t->begin);
        require(t->name_bytes > 0 && t->type && t->rank >= 1 && t->rank <= GGUF_RANK_MAX);
        if (t->rank <= 2 && t->dtype != DTYPE_OTHER)
            require(dtype_bytes((enum dtype)t->dtype, t->dim[0] * t->dim[1], &bytes) &&
                    bytes == t->bytes);
    }
}

static void check_line(enum status s, const char *err)
{
    if (s)
        require(s != E_AGAIN && strncmp(err, "f.gguf: ", 8) == 0 && !strchr(err, '\n'));
}

static void use(const struct gguf *g, const struct complaint *c)
{
    cJSON *config = NULL;
    cJSON *generation = NULL;
    cJSON *text = NULL;
    struct tokenizer *t = NULL;
    c->text[0] = '\0';
    check_line(gguf_config(&config, &generation, g, c), c->text);
    check_line(gguf_tokenizer_config(&text, g, c), c->text);
    if (gguf_tokenizer(&t, g, c) == OK) {
        int32_t ids[64];
        size_t n = 0;
        (void)!tokenizer_encode(t, "ab \xc3\xa9 1", 7, true, ids, 64, &n);
    }
    (void)gguf_head_rows(g);
    cJSON_Delete(config);
    cJSON_Delete(generation);
    cJSON_Delete(text);
    tokenizer_close(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gguf g = {.head = NULL};
    struct tensor_list l = {.n = 0};
    char err[256] = "";
    const struct complaint c = {.file = "f.gguf", .text = err, .size = sizeof(err)};
    /* The last byte says how much more than what is here the file holds. */
    uint64_t more = size ? (uint64_t)data[size - 1] << 8 : 0;
    enum status s = gguf_parse(&g, data, size, size + more, &l, 0, &c);
    if (s != E_AGAIN)
        check_line(s, err);
    if (s == OK) {
        check_tensors(&l, size + more);
        use(&g, &c);
    }
    gguf_free(&g);
    free(l.item);
    return 0;
}

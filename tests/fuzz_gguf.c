#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/gguf.h"
#include "models/tok_priv.h"

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

/* A tokenizer that was understood can be written as tokenizer.json, and that is understood. */
static void write_again(const struct tokenizer *t, const struct gguf *g, const struct complaint *c)
{
    struct tok_trees trees = {.json = NULL};
    struct tokenizer *again = tok_alloc();
    char *text = NULL;
    size_t bytes = 0;
    enum status s = gguf_tokenizer_json(&text, &bytes, g, c);
    require(again && (s == OK || c->text[0]));
    if (s) {
        tokenizer_close(again);
        return;
    }
    require(json_of_text(&trees.json, text, bytes, TOK_FILE_NODES_MAX, c) == OK);
    if (tok_load_trees(again, &trees, c))
        (void)fprintf(stderr, "%s\n%s\n", c->text, text);
    require(c->text[0] == '\0');
    int32_t bos = tokenizer_bos(t);
    require(tokenizer_bos(again) == (bos >= 0 && t->vocab.length[bos] ? bos : -1));
    cJSON_Delete(trees.json);
    tokenizer_close(again);
    free(text);
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
        c->text[0] = '\0';
        write_again(t, g, c);
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

#include "models/config.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Aim: config.json and generation_config.json of any bytes, a NUL between the two, end in a
 * config whose sizes keep what config.h promises, or in one line that says why not.
 * Negative space: the files themselves (absent, short, large) are jsonfile_test's, and JSON as
 * such is fuzz_json's. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ERR_BYTES = 512 };

/* Up to a NUL or the end; *p moves behind it. NULL: no JSON, and err says why. */
static cJSON *parse(const uint8_t **p, const uint8_t *end, const struct complaint *c)
{
    const uint8_t *nul = *p < end ? memchr(*p, '\0', (size_t)(end - *p)) : NULL;
    size_t bytes = (size_t)((nul ? nul : end) - *p);
    cJSON *tree = NULL;
    char *text = malloc(bytes + 1);
    if (!text)
        abort();
    memcpy(text, *p, bytes);
    text[bytes] = '\0';
    if (json_of_text(&tree, text, bytes, CONFIG_NODES_MAX, c))
        tree = NULL;
    free(text);
    *p = nul ? nul + 1 : end;
    return tree;
}

static void check(const struct config *c)
{
    const struct model_info *f = &c->info;
    bool sane = f->dim >= 1 && f->dim <= DIM_MAX && f->hidden >= 1 && f->hidden <= HIDDEN_MAX &&
                f->n_layers >= 1 && f->n_layers <= LAYERS_MAX && f->n_heads >= 1 &&
                f->n_heads <= HEADS_MAX && f->n_kv_heads >= 1 && f->n_heads % f->n_kv_heads == 0 &&
                f->head_dim >= 2 && f->head_dim <= HEAD_DIM_MAX && f->head_dim % 2 == 0 &&
                f->vocab >= 1 && f->vocab <= VOCAB_MAX && f->context_max >= 1 &&
                f->context_max <= CONTEXT_MAX && f->n_eos >= 0 && f->n_eos <= MODEL_EOS_MAX &&
                c->eps > 0.0f;
    float *freq = malloc((size_t)f->head_dim / 2 * sizeof(*freq));
    if (!sane || !freq)
        abort();
    rope_frequencies(&c->rope, f->head_dim, freq);
    free(freq);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct config made;
    char err[ERR_BYTES] = "";
    const struct complaint c = complaint_in("config.json", err, sizeof(err));
    const uint8_t *p = data;
    const uint8_t *end = data + size;
    cJSON *config = parse(&p, end, &c);
    cJSON *generation = p < end ? parse(&p, end, &c) : NULL;
    if (config) {
        err[0] = '\0';
        if (config_of_trees(&made, config, generation, &c, &c) == OK)
            check(&made);
        else if (!err[0])
            abort();
    }
    if (strchr(err, '\n'))
        abort();
    cJSON_Delete(config);
    cJSON_Delete(generation);
    return 0;
}

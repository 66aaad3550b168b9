#include "models/config.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Aim: config.json and generation_config.json of any bytes, a NUL between the two, end in a
 * config whose sizes keep what config.h promises, or in one line that says why not.
 * Negative space: the files themselves (absent, short, large) are jsonfile_test's. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ERR_BYTES = 512 };

static const char *folder(void)
{
    static char path[] = "/tmp/firstlight-fuzz-XXXXXX";
    static const char *made;
    if (!made)
        made = mkdtemp(path);
    if (!made)
        abort();
    return made;
}

static void put(const char *name, const uint8_t *data, size_t size)
{
    char path[MODEL_PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/%s", folder(), name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0)
        abort();
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
    static struct config c;
    char err[ERR_BYTES] = "";
    const uint8_t *nul = size ? memchr(data, '\0', size) : NULL;
    size_t first = nul ? (size_t)(nul - data) : size;
    put("config.json", data, first);
    put("generation_config.json", nul ? nul + 1 : (const uint8_t *)"{}",
        nul ? size - first - 1 : 2);
    enum status s = config_load(&c, folder(), err, sizeof(err));
    if (s == OK)
        check(&c);
    else if (!err[0] || strchr(err, '\n'))
        abort();
    return 0;
}

#include "models/llama.h"

#include <stdlib.h>

/* A model judged as a whole: the same configuration, the same table of tensors and the same
 * readers as when it is opened, with no backend behind them. */

static enum status check_data(struct llama *l, const struct weights *w,
                              const struct load_report *report, char *err, size_t err_size)
{
    float freq[HEAD_DIM_MAX / 2];
    struct load_item *items = NULL;
    size_t n = 0;
    enum status s = llama_bind(l, w, &items, &n, err, err_size);
    if (s)
        return s;
    const struct complaint c = complaint_in("model", err, err_size);
    s = load_rope(freq, &l->config.rope, l->config.info.head_dim, w, &c);
    if (!s)
        s = load_run(items, n, w, NULL, report, err, err_size);
    free(items);
    return s;
}

enum status model_check(const char *path, model_progress_fn progress, void *arg, char *err,
                        size_t err_size)
{
    const struct complaint c = complaint_in("model", err, err_size);
    const struct load_report report = {.progress = progress, .arg = arg};
    struct config config;
    struct weights *w = NULL;
    struct llama l = {.layer = NULL};
    enum status s = config_load(&config, path, err, err_size);
    /* In f32, so that nothing is quantized only to be forgotten. */
    if (!s && llama_init(&l, &config, true, true))
        s = complain(&c, E_NOMEM, "no memory");
    if (!s)
        s = weights_open(&w, path, err, err_size);
    if (!s)
        s = check_data(&l, w, &report, err, err_size);
    weights_close(w);
    llama_free(&l);
    return s;
}

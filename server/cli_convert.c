/* A conversion has two phases, each with a bar of its own. */
#include "server/cli.h"

#include "kernels/ops.h"
#include "models/convert.h"
#include "models/find.h"
#include "server/progress.h"

#include <stdio.h>

struct bars {
    struct progress progress;
    bool open;
};

static void next_phase(void *arg, const char *name)
{
    struct bars *b = arg;
    if (b->open)
        progress_end(&b->progress);
    progress_start(&b->progress, name);
    b->open = true;
}

static void update(void *arg, uint64_t done, uint64_t total)
{
    struct bars *b = arg;
    progress_update(&b->progress, done, total);
}

static enum status convert(const struct options *o, struct bars *b, char *err, size_t err_size)
{
    struct ops *ops = NULL;
    char src[MODEL_PATH_MAX];
    const struct ops_options how = {.backend = "cpu", .threads = o->threads};
    const struct convert_options opt = {.src = src,
                                        .dst = o->dst,
                                        .acts = (enum model_acts)o->activations,
                                        .phase = next_phase,
                                        .progress = update,
                                        .arg = b};
    enum status s = model_find(src, o->models.item[0], err, err_size);
    if (!s)
        s = ops_open(&ops, &how, err, err_size);
    if (s)
        return s;
    s = convert_model(&opt, ops, err, err_size);
    ops->close(ops);
    return s;
}

int cli_convert(const struct options *o)
{
    char err[512] = "";
    struct bars b = {.open = false};
    enum status s = convert(o, &b, err, sizeof(err));
    if (b.open)
        progress_end(&b.progress);
    if (s)
        return cli_fail(err, s);
    (void)printf("%s is %s in int8\n", o->dst, o->models.item[0]);
    return 0;
}

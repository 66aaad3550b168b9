#ifndef SERVER_REGISTRY_H
#define SERVER_REGISTRY_H

#include "models/chat.h"
#include "models/model.h"
#include "scheduler/sched.h"
#include "server/options.h"

/* The models this process serves, each with its own scheduler, found by name or alias.
 * served_load() may run on any one thread; everything else on the loop. */

enum { REGISTRY_MAX = 4 };

struct served {
    struct served_names names; /* names.name[0] is the one shown */
    char path[MODEL_PATH_MAX];
    uint64_t created; /* unix seconds */
    struct model_info info;
    struct ops *ops;
    const char *backend; /* its name; NULL: not open yet */
    struct model *model;
    struct tokenizer *tokenizer;
    struct chat *chat;
    struct sched_options limits; /* of the scheduler, once loaded */
    struct sched *sched;         /* NULL: not ready */
};

struct registry {
    struct served model[REGISTRY_MAX];
    int32_t n;
};

/* Names and sizes only: fails early on a missing or broken model. o->model NULL, or "demo"
 * where no such folder is, means the bundled one. */
enum status served_inspect(struct served *m, const struct options *o, char *err,
                           size_t err_size) MUST_CHECK;
/* Tokenizer, chat template, weights. */
enum status served_load(struct served *m, const struct options *o, model_progress_fn progress,
                        void *progress_arg, char *err, size_t err_size) MUST_CHECK;
/* What the backend these options ask for has to work with. */
struct machine {
    char backend[MODEL_ARCH_MAX];
    size_t bytes_free;
    size_t bytes_total;
};
enum status machine_look(struct machine *out, const struct options *o, char *err,
                         size_t err_size) MUST_CHECK;
/* The scheduler first, then what it stands on. Zeroed is fine. */
void served_close(struct served *m);

/* name NULL: the first. NULL when there is none. */
struct served *registry_find(struct registry *r, const char *name);

#endif

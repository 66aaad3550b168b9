#ifndef SERVER_REGISTRY_H
#define SERVER_REGISTRY_H

#include "models/chat.h"
#include "models/model.h"
#include "scheduler/sched.h"
#include "server/options.h"

/* The models this process serves, each with its own scheduler and engine thread, found by name
 * or alias. registry_load() may run on any one thread; everything else on the loop. */

enum { REGISTRY_MAX = 8 };

/* What a model may take of the machine, planned before the first is loaded. */
struct share {
    size_t memory_max; /* of the backend's; 0: all that is free */
    size_t kv_bytes;   /* 0: chosen within memory_max */
    int32_t threads;   /* of the cpu backend; 0: every core */
};

struct served {
    struct served_names names; /* names.name[0] is the one shown */
    char path[MODEL_PATH_MAX];
    uint64_t created; /* unix seconds */
    struct share share;
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

/* Names and sizes only: fails early on a missing or broken model. No --model at all, or "demo"
 * where no such folder is, means the bundled one. */
enum status registry_inspect(struct registry *r, const struct options *o, char *err,
                             size_t err_size) MUST_CHECK;
/* Shares, then for each model tokenizer, chat template, weights. */
enum status registry_load(struct registry *r, const struct options *o, model_progress_fn progress,
                          void *progress_arg, char *err, size_t err_size) MUST_CHECK;
/* Puts the name of m in front of err. Files of models have the same names, so where there are
 * several it has to be said whose failure it is. */
void served_failed(const struct served *m, enum status s, char *err, size_t err_size);
/* Schedulers first, then what they stand on. Zeroed is fine. */
void registry_close(struct registry *r);
/* What the backend these options ask for has to work with. */
struct machine {
    char backend[MODEL_ARCH_MAX];
    size_t bytes_free;
    size_t bytes_total;
    size_t own_bytes;      /* what the backend of each further model takes of that */
    size_t own_host_bytes; /* of a device's backend, beside what the device has */
};
/* --assume-memory, less what the backend takes of it for itself. */
void machine_assume(struct machine *out, const struct options *o);
enum status machine_look(struct machine *out, const struct options *o, char *err,
                         size_t err_size) MUST_CHECK;
/* Shares and limits as registry_load() would set them for this machine, after
 * registry_inspect(); and how it would open a model. */
void registry_share(struct registry *r, const struct options *o, const struct machine *has);
struct model_options served_options(const struct served *m, const struct options *o);
/* name NULL: the first. NULL when there is none. */
struct served *registry_find(struct registry *r, const char *name);

#endif

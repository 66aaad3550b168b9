/* The memory plan of `serve`, worked out by the code that a start would run, without reading a
 * weight. After a start nothing is added to it but requests, connections and bodies, whose
 * numbers and sizes have bounds of their own. */
#include "server/cli.h"

#include "server/progress.h"
#include "server/registry.h"

#include <stdio.h>
#include <stdlib.h>

static void bytes_line(const char *name, uint64_t bytes, const char *what)
{
    char text[BYTES_TEXT_MAX];
    bytes_text(text, bytes);
    (void)printf("  %-18s %12s  %s\n", name, text, what);
}

static void print_model(const struct served *m, const struct model_memory *memory)
{
    char what[128];
    const struct sched_options *limits = &m->limits;
    int64_t tokens = (int64_t)m->info.n_blocks * m->info.block_tokens;
    (void)printf("%s: %s\n", m->names.name[0], m->path);
    bytes_line("weights", memory->weights, "");
    (void)snprintf(what, sizeof(what), "a step of %d rows of %d sequences", limits->step_rows_max,
                   limits->step_seqs_max);
    bytes_line("scratch", memory->scratch, what);
    bytes_line("batch", memory->batch, "what goes up with a step, once more on the host");
    (void)snprintf(what, sizeof(what), "%d blocks, %lld tokens, %.1f contexts of %d",
                   m->info.n_blocks, (long long)tokens,
                   (double)tokens / (double)m->info.context_max, m->info.context_max);
    bytes_line("keys and values", memory->cache, what);
    bytes_line("left", memory->free, "");
}

/* Beside the backend's; on the cpu it is the same memory. */
static void print_host(const struct served *m)
{
    char what[128];
    size_t each = sched_request_bytes(&m->info, m->info.context_max);
    bytes_line("host: scheduler", sched_bytes(&m->info, &m->limits), "");
    (void)snprintf(what, sizeof(what), "at most: %d, each %zu bytes at the full context",
                   m->limits.live_max, each);
    bytes_line("host: requests", (uint64_t)each * (uint64_t)m->limits.live_max, what);
}

static enum status assume_or_look(struct machine *out, const struct options *o, char *err,
                                  size_t err_size)
{
    if (!o->assume_memory)
        return machine_look(out, o, err, err_size);
    machine_assume(out, o);
    return OK;
}

static enum status plan(struct registry *r, const struct options *o, struct machine *has,
                        struct model_memory memory[REGISTRY_MAX], char *err, size_t err_size)
{
    enum status s = registry_inspect(r, o, err, err_size);
    if (s == OK)
        s = assume_or_look(has, o, err, err_size);
    if (s)
        return s;
    size_t left = has->bytes_free;
    registry_share(r, o, has);
    for (int32_t i = 0; i < r->n && s == OK; i++) {
        const struct model_options how = served_options(&r->model[i], o);
        s = model_plan(&memory[i], &r->model[i].info, &how, has->backend, left, err, err_size);
        left = memory[i].free > has->own_bytes ? memory[i].free - has->own_bytes : 0;
    }
    return s;
}

static void print_all(const struct registry *r, const struct options *o, const struct machine *has,
                      const struct model_memory memory[REGISTRY_MAX])
{
    char text[BYTES_TEXT_MAX];
    bytes_text(text, o->assume_memory ? o->assume_memory : has->bytes_free);
    (void)printf("%s, %s %s\n", has->backend, text, o->assume_memory ? "assumed" : "free");
    if (o->assume_memory && has->bytes_free < o->assume_memory)
        bytes_line("backend", o->assume_memory - has->bytes_free, "for itself");
    if (has->own_host_bytes > 0)
        bytes_line("host: backend", has->own_host_bytes, "the way up and down");
    for (int32_t i = 0; i < r->n; i++) {
        print_model(&r->model[i], &memory[i]);
        print_host(&r->model[i]);
    }
    bytes_text(text, o->bodies_bytes);
    (void)printf("at most %d connections, %s of request bodies\n", o->max_conns, text);
}

int cli_plan(const struct options *o)
{
    struct model_memory memory[REGISTRY_MAX];
    struct machine has;
    char err[512] = "";
    struct registry *r = calloc(1, sizeof(*r));
    if (!r)
        return cli_fail(err, E_NOMEM);
    enum status s = plan(r, o, &has, memory, err, sizeof(err));
    if (s == OK)
        print_all(r, o, &has, memory);
    registry_close(r);
    free(r);
    return s ? cli_fail(err, s) : 0;
}

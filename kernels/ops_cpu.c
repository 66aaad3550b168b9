/* The cpu backend: memory, steps and the table of operations. The operations are
 * in cpu_*.c; each does its work before it returns, so a step has nothing to
 * launch and nothing to wait for. */

#include "kernels/cpu.h"

#include "kernels/cpu_machine.h"

#include <stdlib.h>
#include <string.h>

enum {
    ALIGN = 64,
    THREADS_MAX = 256,
    /* Rows times dim below which waking another thread costs more than it gives. */
    TASK_WORK_LEAST = 32768,
    TASKS_PER_THREAD = 4,
};

static struct cpu *cpu_of(struct ops *o)
{
    return (struct cpu *)o;
}

static enum status cpu_alloc(struct ops *o, size_t bytes, void **out)
{
    return cpu_memory_take(&cpu_of(o)->memory, bytes, out);
}

static void cpu_release(struct ops *o, void *p)
{
    cpu_memory_give(&cpu_of(o)->memory, p);
}

static void cpu_place_rows(struct ops *o, void *p, size_t bytes)
{
    nodes_place(&cpu_of(o)->nodes, p, bytes);
}

static size_t cpu_bytes_free(struct ops *o)
{
    (void)o;
    size_t total;
    size_t available;
    machine_memory(&total, &available);
    return available;
}

static size_t cpu_bytes_total(struct ops *o)
{
    (void)o;
    size_t total;
    size_t available;
    machine_memory(&total, &available);
    return total;
}

static void cpu_copy(struct ops *o, void *dst, const void *src, size_t bytes)
{
    (void)o;
    if (bytes)
        memcpy(dst, src, bytes);
}

static bool cpu_step_begin(struct ops *o, const struct step_key *key)
{
    (void)o;
    (void)key;
    return true;
}

static bool cpu_step_end(struct ops *o)
{
    (void)o;
    return true;
}

static void cpu_step_launch(struct ops *o)
{
    (void)o;
}

static enum status cpu_step_wait(struct ops *o)
{
    struct cpu *c = cpu_of(o);
    enum status failed = c->failed;
    c->failed = OK;
    return failed;
}

bool cpu_reserve(struct cpu *c, size_t bytes_each)
{
    if (c->failed)
        return false;
    if (bytes_each <= c->scratch_each)
        return true;
    size_t each;
    size_t all;
    if (!size_add(bytes_each, ALIGN - 1, &each))
        goto fail;
    each &= ~(size_t)(ALIGN - 1);
    if (!size_mul(each, (size_t)pool_threads(c->pool), &all))
        goto fail;
    char *grown = aligned_alloc(ALIGN, all);
    if (!grown)
        goto fail;
    free(c->scratch);
    c->scratch = grown;
    c->scratch_each = each;
    return true;
fail:
    c->failed = E_NOMEM;
    return false;
}

void *cpu_common(struct cpu *c, size_t bytes)
{
    if (c->failed)
        return NULL;
    if (bytes > c->common_bytes) {
        free(c->common);
        c->common = malloc(bytes);
        c->common_bytes = c->common ? bytes : 0;
    }
    c->failed = c->common ? OK : E_NOMEM;
    return c->common;
}

void *cpu_scratch(const struct cpu *c, int32_t worker)
{
    return c->scratch + (size_t)worker * c->scratch_each;
}

void cpu_run(struct cpu *c, int32_t n_tasks, pool_fn fn, const void *arg)
{
    if (!c->failed)
        pool_run(c->pool, n_tasks, fn, arg);
}

int32_t cpu_rows_each(const struct cpu *c, int32_t rows, size_t work)
{
    if (work < TASK_WORK_LEAST)
        return rows;
    int32_t n_tasks = pool_threads(c->pool) * TASKS_PER_THREAD;
    return (rows + n_tasks - 1) / n_tasks;
}

static void cpu_close(struct ops *o)
{
    if (!o)
        return;
    struct cpu *c = cpu_of(o);
    pool_close(c->pool);
    nodes_close(&c->nodes);
    free(c->scratch);
    free(c->common);
    free(c->drawn);
    free(c);
}

static const struct ops operations = {
    .name = "cpu",
    .host_memory = true,
    .close = cpu_close,
    .alloc = cpu_alloc,
    .release = cpu_release,
    .place_rows = cpu_place_rows,
    .bytes_free = cpu_bytes_free,
    .bytes_total = cpu_bytes_total,
    .upload = cpu_copy,
    .download = cpu_copy,
    .picks = cpu_picks,
    .step_begin = cpu_step_begin,
    .step_end = cpu_step_end,
    .step_launch = cpu_step_launch,
    .step_wait = cpu_step_wait,
    .embed = cpu_embed,
    .norm = cpu_norm,
    .linear = cpu_linear,
    .rope_store = cpu_rope_store,
    .attention = cpu_attention,
    .convert = cpu_convert,
    .swiglu = cpu_swiglu,
    .gather = cpu_gather,
    .sample = cpu_sample,
};

enum status ops_cpu_open_with(struct ops **out, int32_t threads, const struct cpu_kernels *kern)
{
    struct cpu *c = calloc(1, sizeof(*c));
    if (!c)
        return E_NOMEM;
    c->base = operations;
    c->kern = kern;
    int32_t n = threads > 0 ? threads : machine_cores();
    n = min32(n, THREADS_MAX);
    c->nodes = nodes_one(n);
    c->memory.nodes = &c->nodes;
    enum status err = nodes_chosen() ? OK : nodes_open(&c->nodes, "", n);
    if (!err)
        err = pool_open(&c->pool, &c->nodes);
    if (err) {
        cpu_close(&c->base);
        return err;
    }
    *out = &c->base;
    return OK;
}

enum status ops_cpu_open(struct ops **out, int32_t threads)
{
    return ops_cpu_open_with(out, threads, cpu_kernels_best());
}

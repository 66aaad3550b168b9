#ifndef KERNELS_CPU_MEMORY_H
#define KERNELS_CPU_MEMORY_H

#include "kernels/cpu_nodes.h"

/* Memory of the cpu backend: zeroed, 64-byte aligned, in huge pages where it is much. One
 * thread at a time. */

struct region;

struct cpu_memory {
    const struct nodes *nodes; /* over which memory is spread */
    struct region *regions;    /* the first is the one that pieces are cut from */
};

/* E_NOMEM. */
enum status cpu_memory_take(struct cpu_memory *m, size_t bytes, void **out) MUST_CHECK;
/* NULL: nothing happens. */
void cpu_memory_give(struct cpu_memory *m, void *p);

#endif

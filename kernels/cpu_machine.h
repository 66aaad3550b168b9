#ifndef KERNELS_CPU_MACHINE_H
#define KERNELS_CPU_MACHINE_H

#include "kernels/base.h"

/* What this process may use of the machine: the least of what the machine has and
 * what its control groups grant. 0 when unknown. */
void machine_memory(size_t *total, size_t *available);
int32_t machine_cores(void);

/* The same where /proc and /sys lie below another folder; cores: what may be used without
 * regard to groups. For tests. */
void machine_memory_below(const char *root, size_t *total, size_t *available);
int32_t machine_cores_below(const char *root, int32_t cores);

#endif

#ifndef KERNELS_CPU_POOL_H
#define KERNELS_CPU_POOL_H

#include "kernels/cpu_nodes.h"

/* The threads of the cpu backend. One thread, the owner, calls pool_run(); it
 * works on the tasks itself, so a pool of one has no other threads. */

struct pool;

/* task is 0 .. n_tasks - 1, each exactly once, in any order; worker is
 * 0 .. n_threads - 1 and names scratch memory nobody else uses meanwhile. */
typedef void (*pool_fn)(const void *arg, int32_t task, int32_t worker);

/* As many threads as nodes says, each but the owner bound to its node. A node's threads take its
 * part of the tasks (nodes_part) first. nodes stay valid as long as the pool. */
enum status pool_open(struct pool **out, const struct nodes *nodes) MUST_CHECK;
void pool_close(struct pool *p);
int32_t pool_threads(const struct pool *p);

/* Returns when every task is done. Allocates nothing. */
void pool_run(struct pool *p, int32_t n_tasks, pool_fn fn, const void *arg);

#endif

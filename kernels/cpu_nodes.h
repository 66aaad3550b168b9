#ifndef KERNELS_CPU_NODES_H
#define KERNELS_CPU_NODES_H

#include "kernels/base.h"

/* Nodes of memory: each is near to some processors and far from the others. */

enum { NODES_MAX = 32 };

struct node; /* its number and its processors */

struct nodes {
    int32_t n;                             /* at least 1; 1: nothing is done about nodes */
    int32_t threads_before[NODES_MAX + 1]; /* those on lower nodes; [n] are all */
    struct node *node;                     /* [n] */
};

/* A part of n things. */
struct part {
    int64_t begin;
    int64_t end;
};

/* Whether the process was started with a policy of its own (numactl), which then holds, or may
 * have none: containers often forbid it. */
bool nodes_chosen(void);

struct nodes nodes_one(int32_t threads);
/* The nodes that this process may use, with `threads` spread over them as their processors are.
 * Of one thread, and where nothing can be found out, it is one. root: "" or, in tests, where
 * /proc and /sys lie. E_NOMEM. */
enum status nodes_open(struct nodes *m, const char *root, int32_t threads) MUST_CHECK;
void nodes_close(struct nodes *m);

/* What of n things in order, tasks or bytes, a node's threads take first. */
struct part nodes_part(const struct nodes *m, int32_t node, int64_t n);
int32_t nodes_of_thread(const struct nodes *m, int32_t thread);
/* Of the processor that the caller runs on. */
int32_t nodes_here(const struct nodes *m);

/* The caller stays on the processors of a node. Like what follows it is an advice: where the
 * system refuses, everything works as well, only slower. */
void nodes_bind(const struct nodes *m, int32_t node);

/* Pages not touched yet come from all nodes in turn, */
void nodes_mix(const struct nodes *m, void *p, size_t bytes);
/* or of each node's part from it, as far as huge pages are whole. */
void nodes_place(const struct nodes *m, void *p, size_t bytes);
/* A node's part of these bytes: addresses that are multiples of a huge page. */
struct part nodes_pages(const struct nodes *m, int32_t node, uintptr_t p, size_t bytes);

#endif

/* A product streams all weights past few numbers, so on a machine with several nodes of memory its
 * speed is that of all their memories only where each node reads its own. Rows of a weight and
 * tasks of a product are divided by the same rule, nodes_part(): the pool's threads take the tasks
 * of their own node first and help the others afterwards, and pages lie where the rows are taken.
 * Everything else, the cache above all, is used by whoever comes and lies on all nodes in turn.
 *
 * Results do not depend on any of it. With one node nothing here asks the system for anything. */

#include "kernels/cpu_nodes.h"

#include <linux/mempolicy.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    NODE_IDS = 64, /* those of a mask in one word */
    PATH_BYTES = 256,
    LINE_BYTES = 4096,
    HUGE_PAGE = 2 << 20,
};

struct node {
    int32_t id;
    cpu_set_t cpus;
};

/* ---- what there is ---- */

/* A list as in "0-3,8,10-11". Numbers beyond the set are left out. */
static void read_list(cpu_set_t *out, const char *text)
{
    CPU_ZERO(out);
    while (*text >= '0' && *text <= '9') {
        char *end;
        unsigned long first = strtoul(text, &end, 10);
        unsigned long last = first;
        if (*end == '-')
            last = strtoul(end + 1, &end, 10);
        for (unsigned long i = first; i <= last && i < CPU_SETSIZE; i++)
            CPU_SET(i, out);
        text = *end == ',' ? end + 1 : end;
    }
}

/* The list on the line that begins with key; nothing when there is none. */
static bool read_set(cpu_set_t *out, const char *root, const char *path, const char *key)
{
    char full[PATH_BYTES];
    char line[LINE_BYTES];
    bool found = false;
    (void)snprintf(full, sizeof(full), "%s%s", root, path);
    FILE *f = fopen(full, "re");
    if (!f)
        return false;
    while (!found && fgets(line, sizeof(line), f))
        found = strncmp(line, key, strlen(key)) == 0;
    (void)fclose(f);
    if (found)
        read_list(out, line + strlen(key) + strspn(line + strlen(key), " \t"));
    return found;
}

/* Nodes with memory and processors that this process may use, in order. */
static int32_t find_nodes(struct node out[NODES_MAX], const char *root)
{
    cpu_set_t online;
    cpu_set_t granted;
    cpu_set_t memory;
    int32_t n = 0;
    if (!read_set(&online, root, "/sys/devices/system/node/online", "") ||
        !read_set(&granted, root, "/proc/self/status", "Cpus_allowed_list:") ||
        !read_set(&memory, root, "/proc/self/status", "Mems_allowed_list:"))
        return 0;
    for (size_t id = 0; id < NODE_IDS && n < NODES_MAX; id++) {
        char path[PATH_BYTES];
        cpu_set_t cpus;
        (void)snprintf(path, sizeof(path), "/sys/devices/system/node/node%zu/cpulist", id);
        if (!CPU_ISSET(id, &online) || !CPU_ISSET(id, &memory) || !read_set(&cpus, root, path, ""))
            continue;
        out[n].id = (int32_t)id;
        CPU_AND(&out[n].cpus, &cpus, &granted);
        n += CPU_COUNT(&out[n].cpus) > 0;
    }
    return n;
}

bool nodes_chosen(void)
{
    int mode = MPOL_DEFAULT;
    return syscall(SYS_get_mempolicy, &mode, NULL, 0UL, NULL, 0UL) != 0 || mode != MPOL_DEFAULT;
}

struct nodes nodes_one(int32_t threads)
{
    return (struct nodes){.n = 1, .threads_before = {0, threads < 1 ? 1 : threads}};
}

enum status nodes_open(struct nodes *m, const char *root, int32_t threads)
{
    struct node found[NODES_MAX];
    int32_t n = threads > 1 ? find_nodes(found, root) : 0;
    int64_t cpus = 0;
    int64_t all = 0;
    *m = nodes_one(threads);
    if (n < 2)
        return OK;
    m->node = calloc((size_t)n, sizeof(*m->node));
    if (!m->node)
        return E_NOMEM;
    memcpy(m->node, found, (size_t)n * sizeof(*found));
    m->n = n;
    for (int32_t i = 0; i < n; i++)
        all += CPU_COUNT(&found[i].cpus);
    for (int32_t i = 0; i < n; i++) {
        cpus += CPU_COUNT(&found[i].cpus);
        m->threads_before[i + 1] = (int32_t)(threads * cpus / all);
    }
    return OK;
}

void nodes_close(struct nodes *m)
{
    free(m->node);
    m->node = NULL;
}

/* ---- who takes what ---- */

struct part nodes_part(const struct nodes *m, int32_t node, int64_t n)
{
    const int32_t *before = m->threads_before;
    int64_t all = before[m->n];
    /* By whole and rest, since n may be bytes. */
    int64_t each = n / all;
    int64_t rest = n % all;
    return (struct part){.begin = each * before[node] + rest * before[node] / all,
                         .end = each * before[node + 1] + rest * before[node + 1] / all};
}

int32_t nodes_of_thread(const struct nodes *m, int32_t thread)
{
    int32_t node = 0;
    while (node + 1 < m->n && thread >= m->threads_before[node + 1])
        node++;
    return node;
}

int32_t nodes_here(const struct nodes *m)
{
    unsigned cpu;
    unsigned id;
    if (m->n == 1 || getcpu(&cpu, &id))
        return 0;
    for (int32_t i = 0; i < m->n; i++) {
        if (m->node[i].id == (int32_t)id)
            return i;
    }
    return 0;
}

void nodes_bind(const struct nodes *m, int32_t node)
{
    if (m->n > 1)
        (void)sched_setaffinity(0, sizeof(m->node[node].cpus), &m->node[node].cpus);
}

/* ---- where pages lie ---- */

static uintptr_t to_huge_page(uintptr_t p)
{
    return (p + HUGE_PAGE / 2) & ~(uintptr_t)(HUGE_PAGE - 1);
}

struct part nodes_pages(const struct nodes *m, int32_t node, uintptr_t p, size_t bytes)
{
    struct part part = nodes_part(m, node, (int64_t)bytes);
    return (struct part){.begin = (int64_t)to_huge_page(p + (uintptr_t)part.begin),
                         .end = (int64_t)to_huge_page(p + (uintptr_t)part.end)};
}

static void set_policy(uintptr_t begin, uintptr_t end, int mode, uint64_t ids)
{
    if (begin < end)
        (void)syscall(SYS_mbind, begin, end - begin, mode, &ids, (unsigned long)NODE_IDS + 1, 0U);
}

void nodes_mix(const struct nodes *m, void *p, size_t bytes)
{
    uint64_t ids = 0;
    for (int32_t i = 0; m->n > 1 && i < m->n; i++)
        ids |= (uint64_t)1 << m->node[i].id;
    if (ids)
        set_policy((uintptr_t)p, (uintptr_t)p + bytes, MPOL_INTERLEAVE, ids);
}

void nodes_place(const struct nodes *m, void *p, size_t bytes)
{
    for (int32_t i = 0; m->n > 1 && i < m->n; i++) {
        struct part part = nodes_pages(m, i, (uintptr_t)p, bytes);
        set_policy((uintptr_t)part.begin, (uintptr_t)part.end, MPOL_PREFERRED,
                   (uint64_t)1 << m->node[i].id);
    }
}

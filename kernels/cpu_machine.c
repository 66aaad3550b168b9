/* Limits of control groups lie in small files, in the folder of the group of this
 * process and in those above it; a container often sees its own group as the root.
 * Both layouts are read, the unified one and the older with a tree per resource. A
 * file that is missing or says "max" is no limit. */

#include "kernels/cpu_machine.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 512, PATH_MAX_BYTES = LINE_MAX_BYTES + 64 };

/* Where a layout keeps the limits of memory or of processor time. */
struct layout {
    const char *line; /* what its line in /proc/self/cgroup contains before the path */
    const char *mount;
    const char *limit;
    const char *used; /* processor time: the period the limit refers to */
};

static const struct layout memory_layouts[] = {
    {"0::/", "/sys/fs/cgroup", "memory.max", "memory.current"},
    {":memory:/", "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"},
};

static const struct layout time_layouts[] = {
    {"0::/", "/sys/fs/cgroup", "cpu.max", NULL},
    {":cpu:/", "/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "cpu.cfs_period_us"},
    {":cpu,cpuacct:/", "/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "cpu.cfs_period_us"},
    {":cpuacct,cpu:/", "/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "cpu.cfs_period_us"},
};

/* The number after `key` on the line that begins with it; with "" the first number
 * of the file, and *second the one after it. False when there is none. */
static bool read_numbers(const char *path, const char *key, size_t *out, size_t *second)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    char line[LINE_MAX_BYTES];
    bool found = false;
    while (!found && fgets(line, sizeof(line), f)) {
        if (strncmp(line, key, strlen(key)) != 0)
            continue;
        char *end;
        const char *text = line + strlen(key);
        *out = strtoull(text, &end, 10);
        /* strtoull() takes "-1", which means unlimited here, for a number. */
        found = end != text && !memchr(text, '-', (size_t)(end - text));
        if (found && second)
            *second = strtoull(end, NULL, 10);
    }
    (void)fclose(f);
    return found;
}

/* A group of this process in a layout. */
struct group {
    const char *root;
    const struct layout *layout;
    char dir[LINE_MAX_BYTES]; /* without a final '/' */
};

static bool read_in(const struct group *g, const char *file, const char *key, size_t *out,
                    size_t *second)
{
    char path[PATH_MAX_BYTES + LINE_MAX_BYTES];
    (void)snprintf(path, sizeof(path), "%s%s%s/%s", g->root, g->layout->mount, g->dir, file);
    return read_numbers(path, key, out, second);
}

static bool group_find(struct group *g, const char *root, const struct layout *l)
{
    char line[LINE_MAX_BYTES];
    bool found = false;
    *g = (struct group){.root = root, .layout = l};
    (void)snprintf(line, sizeof(line), "%s/proc/self/cgroup", root);
    FILE *f = fopen(line, "re");
    if (!f)
        return false;
    while (!found && fgets(line, sizeof(line), f)) {
        line[strcspn(line, "\n")] = '\0';
        const char *at = strstr(line, l->line);
        if (!at)
            continue;
        (void)snprintf(g->dir, sizeof(g->dir), "%s", at + strlen(l->line) - 1);
        found = true;
    }
    (void)fclose(f);
    size_t n = found ? strlen(g->dir) : 0;
    if (n > 0 && g->dir[n - 1] == '/')
        g->dir[n - 1] = '\0';
    return found;
}

/* To the group above; false at the root. */
static bool group_up(struct group *g)
{
    char *slash = strrchr(g->dir, '/');
    if (!slash)
        return false;
    *slash = '\0';
    return true;
}

static void memory_of_group(const struct group *g, size_t *total, size_t *available)
{
    const struct layout *l = g->layout;
    size_t limit;
    size_t used;
    if (!read_in(g, l->limit, "", &limit, NULL) || limit == 0 ||
        !read_in(g, l->used, "", &used, NULL))
        return;
    /* Files in the page cache count as used but make room when it is needed; without
     * this a model that was just read would seem to fill its own place twice. */
    static const char *const cached[] = {"inactive_file ", "active_file "};
    for (size_t i = 0; i < ARRAY_LEN(cached); i++) {
        size_t bytes;
        if (read_in(g, "memory.stat", cached[i], &bytes, NULL))
            used -= bytes < used ? bytes : used;
    }
    size_t left = limit > used ? limit - used : 0;
    *total = limit < *total ? limit : *total;
    *available = left < *available ? left : *available;
}

void machine_memory_below(const char *root, size_t *total, size_t *available)
{
    char path[PATH_MAX_BYTES];
    size_t kib;
    (void)snprintf(path, sizeof(path), "%s/proc/meminfo", root);
    *total = read_numbers(path, "MemTotal:", &kib, NULL) ? kib * 1024 : 0;
    *available = read_numbers(path, "MemAvailable:", &kib, NULL) ? kib * 1024 : 0;
    for (size_t i = 0; i < ARRAY_LEN(memory_layouts); i++) {
        struct group g;
        if (!group_find(&g, root, &memory_layouts[i]))
            continue;
        do {
            memory_of_group(&g, total, available);
        } while (group_up(&g));
    }
}

void machine_memory(size_t *total, size_t *available)
{
    machine_memory_below("", total, available);
}

/* Processor time granted, rounded up to whole cores. */
static size_t cores_of_group(const struct group *g, size_t cores)
{
    const struct layout *l = g->layout;
    size_t quota;
    size_t period = 0;
    if (!read_in(g, l->limit, "", &quota, &period))
        return cores;
    if (l->used && !read_in(g, l->used, "", &period, NULL))
        return cores;
    if (quota == 0 || period == 0)
        return cores;
    size_t granted = quota / period + (quota % period != 0);
    return granted < cores ? granted : cores;
}

int32_t machine_cores_below(const char *root, int32_t cores)
{
    size_t n = (size_t)cores;
    for (size_t i = 0; i < ARRAY_LEN(time_layouts); i++) {
        struct group g;
        if (!group_find(&g, root, &time_layouts[i]))
            continue;
        do {
            n = cores_of_group(&g, n);
        } while (group_up(&g));
    }
    return (int32_t)n;
}

int32_t machine_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        return machine_cores_below("", CPU_COUNT(&set));
    /* More processors than the set has room for. */
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return machine_cores_below("", n < 1 ? 1 : n < INT32_MAX ? (int32_t)n : INT32_MAX);
}

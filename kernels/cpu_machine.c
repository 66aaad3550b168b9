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

static bool read_in(const struct layout *l, const char *dir, const char *file, const char *key,
                    size_t *out, size_t *second)
{
    char path[PATH_MAX_BYTES + LINE_MAX_BYTES];
    (void)snprintf(path, sizeof(path), "%s%s/%s", l->mount, dir, file);
    return read_numbers(path, key, out, second);
}

/* The group of this process in a layout, without a final '/'. */
static bool group_of(const struct layout *l, char dir[LINE_MAX_BYTES])
{
    FILE *f = fopen("/proc/self/cgroup", "re");
    if (!f)
        return false;
    char line[LINE_MAX_BYTES];
    bool found = false;
    while (!found && fgets(line, sizeof(line), f)) {
        line[strcspn(line, "\n")] = '\0';
        const char *at = strstr(line, l->line);
        if (!at)
            continue;
        (void)snprintf(dir, LINE_MAX_BYTES, "%s", at + strlen(l->line) - 1);
        found = true;
    }
    (void)fclose(f);
    size_t n = found ? strlen(dir) : 0;
    if (n > 0 && dir[n - 1] == '/')
        dir[n - 1] = '\0';
    return found;
}

/* To the group above; false at the root. */
static bool group_up(char dir[LINE_MAX_BYTES])
{
    char *slash = strrchr(dir, '/');
    if (!slash)
        return false;
    *slash = '\0';
    return true;
}

static void memory_of_group(const struct layout *l, const char *dir, size_t *total,
                            size_t *available)
{
    size_t limit;
    size_t used;
    if (!read_in(l, dir, l->limit, "", &limit, NULL) || limit == 0 ||
        !read_in(l, dir, l->used, "", &used, NULL))
        return;
    /* Files in the page cache count as used but make room when it is needed; without
     * this a model that was just read would seem to fill its own place twice. */
    static const char *const cached[] = {"inactive_file ", "active_file "};
    for (size_t i = 0; i < ARRAY_LEN(cached); i++) {
        size_t bytes;
        if (read_in(l, dir, "memory.stat", cached[i], &bytes, NULL))
            used -= bytes < used ? bytes : used;
    }
    size_t left = limit > used ? limit - used : 0;
    *total = limit < *total ? limit : *total;
    *available = left < *available ? left : *available;
}

void machine_memory(size_t *total, size_t *available)
{
    size_t kib;
    *total = read_numbers("/proc/meminfo", "MemTotal:", &kib, NULL) ? kib * 1024 : 0;
    *available = read_numbers("/proc/meminfo", "MemAvailable:", &kib, NULL) ? kib * 1024 : 0;
    for (size_t i = 0; i < ARRAY_LEN(memory_layouts); i++) {
        char dir[LINE_MAX_BYTES] = "";
        if (!group_of(&memory_layouts[i], dir))
            continue;
        do {
            memory_of_group(&memory_layouts[i], dir, total, available);
        } while (group_up(dir));
    }
}

/* Processor time granted, rounded up to whole cores. */
static size_t cores_of_group(const struct layout *l, const char *dir, size_t cores)
{
    size_t quota;
    size_t period = 0;
    if (!read_in(l, dir, l->limit, "", &quota, &period))
        return cores;
    if (l->used && !read_in(l, dir, l->used, "", &period, NULL))
        return cores;
    if (quota == 0 || period == 0)
        return cores;
    size_t granted = quota / period + (quota % period != 0);
    return granted < cores ? granted : cores;
}

int32_t machine_cores(void)
{
    cpu_set_t set;
    size_t cores = 1;
    if (sched_getaffinity(0, sizeof(set), &set) == 0) {
        cores = (size_t)CPU_COUNT(&set);
    } else {
        /* More processors than the set has room for. */
        long n = sysconf(_SC_NPROCESSORS_ONLN);
        cores = n > 0 ? (size_t)n : 1;
    }
    for (size_t i = 0; i < ARRAY_LEN(time_layouts); i++) {
        char dir[LINE_MAX_BYTES] = "";
        if (!group_of(&time_layouts[i], dir))
            continue;
        do {
            cores = cores_of_group(&time_layouts[i], dir, cores);
        } while (group_up(dir));
    }
    return cores < INT32_MAX ? (int32_t)cores : INT32_MAX;
}

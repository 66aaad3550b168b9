#include "kernels/cpu_machine.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* Aim: a process takes the cores and the memory that its control groups grant, in both layouts,
 * whichever group on the way to the root is the tightest. Each case is a folder with the files of
 * /proc and /sys that such a machine has.
 * Negative space: no groups at all, "max" and -1, a quota below one core and one above the machine,
 * a quota of 0, a period that is missing, files that are empty or no numbers, a container that sees
 * its group as the root while its name says otherwise, files in the page cache that count as used.
 */

enum { FILES_MAX = 8, PATH_BYTES = 512, CORES = 64 };

struct file {
    const char *path;
    const char *text;
};

/* A folder with these files. */
static void lay_out(char root[64], const struct file *file)
{
    (void)snprintf(root, 64, "/tmp/machine-XXXXXX");
    assert_non_null(mkdtemp(root));
    for (size_t i = 0; i < FILES_MAX && file[i].path; i++) {
        char path[PATH_BYTES];
        (void)snprintf(path, sizeof(path), "%s%s", root, file[i].path);
        for (char *at = path + strlen(root) + 1; (at = strchr(at, '/')); at++) {
            *at = '\0';
            assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
            *at = '/';
        }
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        assert_true(fputs(file[i].text, f) >= 0);
        assert_int_equal(fclose(f), 0);
    }
}

/* The files, then the folders they leave empty. */
static void clear(const char *root, const struct file *file)
{
    char path[PATH_BYTES];
    for (size_t i = 0; i < FILES_MAX && file[i].path; i++) {
        (void)snprintf(path, sizeof(path), "%s%s", root, file[i].path);
        assert_int_equal(unlink(path), 0);
    }
    for (size_t i = 0; i < FILES_MAX && file[i].path; i++) {
        (void)snprintf(path, sizeof(path), "%s%s", root, file[i].path);
        while (strlen(path) > strlen(root)) {
            *strrchr(path, '/') = '\0';
            (void)rmdir(path);
        }
    }
    assert_int_equal(access(root, F_OK), -1);
}

#define OWN(path)  "/sys/fs/cgroup" path
#define CPU(path)  "/sys/fs/cgroup/cpu" path
#define GROUP_FILE "/proc/self/cgroup"

static void test_cores(void **state)
{
    static const struct {
        const char *name;
        int32_t want;
        struct file file[FILES_MAX];
    } rows[] = {
        {"no groups", CORES, {{"/proc/meminfo", ""}}},
        {"no limit", CORES, {{GROUP_FILE, "0::/\n"}, {OWN("/cpu.max"), "max 100000\n"}}},
        {"two cores", 2, {{GROUP_FILE, "0::/\n"}, {OWN("/cpu.max"), "200000 100000\n"}}},
        {"rounded up", 3, {{GROUP_FILE, "0::/\n"}, {OWN("/cpu.max"), "250000 100000\n"}}},
        {"below one", 1, {{GROUP_FILE, "0::/\n"}, {OWN("/cpu.max"), "10000 100000\n"}}},
        {"more than there are",
         CORES,
         {{GROUP_FILE, "0::/\n"}, {OWN("/cpu.max"), "99900000 100000\n"}}},
        {"a group below the root",
         4,
         {{GROUP_FILE, "0::/a.slice/b.scope\n"},
          {OWN("/a.slice/b.scope/cpu.max"), "400000 100000\n"},
          {OWN("/a.slice/cpu.max"), "max 100000\n"}}},
        {"the group above is tighter",
         1,
         {{GROUP_FILE, "0::/a.slice/b.scope\n"},
          {OWN("/a.slice/b.scope/cpu.max"), "400000 100000\n"},
          {OWN("/a.slice/cpu.max"), "50000 50000\n"}}},
        {"its group is the root it sees",
         2,
         {{GROUP_FILE, "0::/docker/0123\n"}, {OWN("/cpu.max"), "200000 100000\n"}}},
        {"quota of 0", CORES, {{GROUP_FILE, "0::/\n"}, {OWN("/cpu.max"), "0 100000\n"}}},
        {"no period", CORES, {{GROUP_FILE, "0::/\n"}, {OWN("/cpu.max"), "200000\n"}}},
        {"empty", CORES, {{GROUP_FILE, "0::/\n"}, {OWN("/cpu.max"), ""}}},
        {"no numbers", CORES, {{GROUP_FILE, "0::/\n"}, {OWN("/cpu.max"), "two cores\n"}}},
        {"older layout",
         2,
         {{GROUP_FILE, "5:memory:/x\n4:cpu,cpuacct:/x\n0::/\n"},
          {CPU("/x/cpu.cfs_quota_us"), "200000\n"},
          {CPU("/x/cpu.cfs_period_us"), "100000\n"}}},
        {"older layout, named the other way round",
         2,
         {{GROUP_FILE, "4:cpuacct,cpu:/x\n"},
          {CPU("/x/cpu.cfs_quota_us"), "200000\n"},
          {CPU("/x/cpu.cfs_period_us"), "100000\n"}}},
        {"older layout, cpu alone, seen as the root",
         3,
         {{GROUP_FILE, "4:cpu:/docker/0123\n"},
          {CPU("/cpu.cfs_quota_us"), "150000\n"},
          {CPU("/cpu.cfs_period_us"), "50000\n"}}},
        {"older layout, no limit",
         CORES,
         {{GROUP_FILE, "4:cpu,cpuacct:/x\n"},
          {CPU("/x/cpu.cfs_quota_us"), "-1\n"},
          {CPU("/x/cpu.cfs_period_us"), "100000\n"}}},
        {"older layout, no period",
         CORES,
         {{GROUP_FILE, "4:cpu,cpuacct:/x\n"}, {CPU("/x/cpu.cfs_quota_us"), "200000\n"}}},
        {"a set of processors is no limit of time",
         CORES,
         {{GROUP_FILE, "4:cpuset:/x\n"}, {CPU("/x/cpu.cfs_quota_us"), "200000\n"}}},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char root[64];
        lay_out(root, rows[i].file);
        int32_t cores = machine_cores_below(root, CORES);
        clear(root, rows[i].file);
        if (cores != rows[i].want)
            fail_msg("%s: %d cores, not %d", rows[i].name, cores, rows[i].want);
    }
    assert_true(machine_cores() >= 1);
}

#define MEMINFO                                                                                    \
    {                                                                                              \
        "/proc/meminfo", "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  800 kB\n"              \
    }

static void test_memory(void **state)
{
    static const struct {
        const char *name;
        size_t total;
        size_t available;
        struct file file[FILES_MAX];
    } rows[] = {
        {"nothing to read", 0, 0, {{"/proc/self/status", ""}}},
        {"no groups", 1024000, 819200, {MEMINFO}},
        {"no limit",
         1024000,
         819200,
         {MEMINFO, {GROUP_FILE, "0::/\n"}, {OWN("/memory.max"), "max\n"}}},
        {"a limit",
         500000,
         300000,
         {MEMINFO,
          {GROUP_FILE, "0::/\n"},
          {OWN("/memory.max"), "500000\n"},
          {OWN("/memory.current"), "200000\n"}}},
        {"what files take makes room",
         500000,
         450000,
         {MEMINFO,
          {GROUP_FILE, "0::/\n"},
          {OWN("/memory.max"), "500000\n"},
          {OWN("/memory.current"), "200000\n"},
          {OWN("/memory.stat"), "anon 50000\ninactive_file 100000\nactive_file 50000\n"}}},
        {"more is used than granted",
         500000,
         0,
         {MEMINFO,
          {GROUP_FILE, "0::/\n"},
          {OWN("/memory.max"), "500000\n"},
          {OWN("/memory.current"), "600000\n"}}},
        {"older layout, the group above is tighter",
         400000,
         250000,
         {MEMINFO,
          {GROUP_FILE, "5:memory:/a/b\n"},
          {OWN("/memory/a/b/memory.limit_in_bytes"), "500000\n"},
          {OWN("/memory/a/b/memory.usage_in_bytes"), "100000\n"},
          {OWN("/memory/a/memory.limit_in_bytes"), "400000\n"},
          {OWN("/memory/a/memory.usage_in_bytes"), "150000\n"}}},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char root[64];
        size_t total;
        size_t available;
        lay_out(root, rows[i].file);
        machine_memory_below(root, &total, &available);
        clear(root, rows[i].file);
        if (total != rows[i].total || available != rows[i].available)
            fail_msg("%s: %zu of %zu", rows[i].name, available, total);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cores),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

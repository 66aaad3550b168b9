#include "kernels/cpu_memory.h"
#include "kernels/cpu_pool.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* Aim: which nodes of memory there are, how threads, tasks and pages are divided among them, and
 * that a node's threads take its own tasks first and then those of the others. The nodes are files
 * in a folder: no machine with several is needed.
 * Negative space: a machine without the files, one node, nodes without processors or memory or
 * outside of what the process may use, numbers in gaps and beyond a mask, fewer threads than nodes,
 * one thread, nodes of different size, no tasks, fewer tasks than nodes, bytes that are no whole
 * huge pages. */

enum { NODES = 4, PATH_BYTES = 256, HUGE_PAGE = 2 << 20 };

struct tree {
    const char *name;
    const char *online; /* NULL: no file */
    const char *status;
    const char *cpulist[NODES]; /* NULL: no file */
    int32_t threads;
    int32_t n;
    int32_t threads_before[NODES + 1];
};

#define ALL "Name:\tx\nCpus_allowed_list:\t0-1023\nMems_allowed_list:\t0-63\n"

static const struct tree trees[] = {
    {"no files", NULL, ALL, {NULL}, 4, 1, {0, 4}},
    {"one node", "0\n", ALL, {"0-63\n"}, 64, 1, {0, 64}},
    {"two", "0-1\n", ALL, {"0-15,32-47\n", "16-31,48-63\n"}, 64, 2, {0, 32, 64}},
    {"of different size", "0-1\n", ALL, {"0-2\n", "3\n"}, 8, 2, {0, 6, 8}},
    {"four", "0-3\n", ALL, {"0-1\n", "2-3\n", "4-5\n", "6-7\n"}, 8, 4, {0, 2, 4, 6, 8}},
    {"fewer threads than nodes", "0-3\n", ALL, {"0\n", "1\n", "2\n", "3\n"}, 2, 4, {0, 0, 1, 1, 2}},
    {"one thread", "0-1\n", ALL, {"0\n", "1\n"}, 1, 1, {0, 1}},
    {"memory alone", "0-2\n", ALL, {"0-3\n", "\n", "4-7\n"}, 8, 2, {0, 4, 8}},
    {"a gap", "0,2\n", ALL, {"0-3\n", "9\n", "4-7\n"}, 8, 2, {0, 4, 8}},
    {"a number beyond a mask", "0-1,77\n", ALL, {"0-3\n", "4-7\n"}, 8, 2, {0, 4, 8}},
    {"processors of one node granted",
     "0-1\n",
     "Cpus_allowed_list:\t0-3\nMems_allowed_list:\t0-1\n",
     {"0-3\n", "4-7\n"},
     4,
     1,
     {0, 4}},
    {"memory of one node granted",
     "0-1\n",
     "Cpus_allowed_list:\t0-7\nMems_allowed_list:\t1\n",
     {"0-3\n", "4-7\n"},
     8,
     1,
     {0, 8}},
    {"some processors of each",
     "0-1\n",
     "Cpus_allowed_list:\t3-5\nMems_allowed_list:\t0-1\n",
     {"0-3\n", "4-7\n"},
     3,
     2,
     {0, 1, 3}},
    {"no list of memory", "0-1\n", "Cpus_allowed_list:\t0-7\n", {"0\n", "1\n"}, 2, 1, {0, 2}},
    {"no numbers", "none\n", ALL, {"0\n", "1\n"}, 2, 1, {0, 2}},
};

static void write_file(const char *root, const char *name, const char *text)
{
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof(path), "%.64s%.128s", root, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static const char *const folders[] = {
    "/proc",        "/proc/self",          "/sys",
    "/sys/devices", "/sys/devices/system", "/sys/devices/system/node"};

static void lay_out(char root[64], const struct tree *t)
{
    char path[PATH_BYTES];
    (void)snprintf(root, 64, "/tmp/nodes-XXXXXX");
    assert_non_null(mkdtemp(root));
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        (void)snprintf(path, sizeof(path), "%s%s", root, folders[i]);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    write_file(root, "/proc/self/status", t->status);
    if (t->online)
        write_file(root, "/sys/devices/system/node/online", t->online);
    for (int i = 0; i < NODES && t->cpulist[i]; i++) {
        char name[128];
        (void)snprintf(name, sizeof(name), "/sys/devices/system/node/node%d", i);
        (void)snprintf(path, sizeof(path), "%.64s%s", root, name);
        assert_int_equal(mkdir(path, 0700), 0);
        (void)snprintf(name, sizeof(name), "/sys/devices/system/node/node%d/cpulist", i);
        write_file(root, name, t->cpulist[i]);
    }
}

static void clear(const char *root)
{
    char path[PATH_BYTES];
    for (int i = 0; i < NODES; i++) {
        (void)snprintf(path, sizeof(path), "%s/sys/devices/system/node/node%d/cpulist", root, i);
        (void)unlink(path);
        *strrchr(path, '/') = '\0';
        (void)rmdir(path);
    }
    (void)snprintf(path, sizeof(path), "%s/sys/devices/system/node/online", root);
    (void)unlink(path);
    (void)snprintf(path, sizeof(path), "%s/proc/self/status", root);
    (void)unlink(path);
    for (size_t i = ARRAY_LEN(folders); i-- > 0;) {
        (void)snprintf(path, sizeof(path), "%s%s", root, folders[i]);
        assert_int_equal(rmdir(path), 0);
    }
    assert_int_equal(rmdir(root), 0);
}

static struct nodes nodes_of(const struct tree *t)
{
    char root[64];
    struct nodes m;
    lay_out(root, t);
    assert_int_equal(nodes_open(&m, root, t->threads), OK);
    clear(root);
    return m;
}

static void test_what_there_is(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(trees); i++) {
        const struct tree *t = &trees[i];
        struct nodes m = nodes_of(t);
        if (m.n != t->n || memcmp(m.threads_before, t->threads_before,
                                  (size_t)(t->n + 1) * sizeof(*t->threads_before)) != 0)
            fail_msg("%s: %d nodes", t->name, m.n);
        for (int32_t thread = 0; thread < t->threads; thread++) {
            int32_t node = nodes_of_thread(&m, thread);
            assert_true(m.threads_before[node] <= thread && thread < m.threads_before[node + 1]);
        }
        nodes_close(&m);
    }
}

/* Parts follow each other, are all there is, and as large as the node's share of threads. */
static void test_parts(void **state)
{
    static const int64_t counts[] = {0, 1, 2, 7, 64, 65, 1000, (int64_t)1 << 45};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(trees); i++) {
        struct nodes m = nodes_of(&trees[i]);
        for (size_t c = 0; c < ARRAY_LEN(counts); c++) {
            int64_t at = 0;
            for (int32_t node = 0; node < m.n; node++) {
                struct part part = nodes_part(&m, node, counts[c]);
                int32_t threads = m.threads_before[node + 1] - m.threads_before[node];
                int64_t fair = counts[c] / trees[i].threads * threads;
                assert_int_equal(part.begin, at);
                assert_true(part.end >= part.begin);
                assert_true(part.end - part.begin >= fair - 1);
                assert_true(part.end - part.begin <= fair + threads + 1);
                at = part.end;
            }
            assert_int_equal(at, counts[c]);
        }
        nodes_close(&m);
    }
}

/* Whole huge pages, all of them, next to where the node's rows begin and end. */
static void test_pages(void **state)
{
    static const struct {
        uintptr_t p;
        size_t bytes;
    } rows[] = {
        {HUGE_PAGE, 64 * (size_t)HUGE_PAGE},
        {5 * (uintptr_t)HUGE_PAGE + 4096, 23 * (size_t)HUGE_PAGE + 12345},
        {HUGE_PAGE - 4096, 8192},
        {HUGE_PAGE + 1000000, 1000},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(trees); i++) {
        struct nodes m = nodes_of(&trees[i]);
        for (size_t r = 0; r < ARRAY_LEN(rows); r++) {
            int64_t at = 0;
            for (int32_t node = 0; node < m.n; node++) {
                struct part part = nodes_part(&m, node, (int64_t)rows[r].bytes);
                struct part pages = nodes_pages(&m, node, rows[r].p, rows[r].bytes);
                assert_true(node == 0 || pages.begin == at);
                assert_int_equal(pages.begin % HUGE_PAGE, 0);
                assert_true(llabs(pages.begin - (int64_t)rows[r].p - part.begin) <= HUGE_PAGE / 2);
                assert_true(llabs(pages.end - (int64_t)rows[r].p - part.end) <= HUGE_PAGE / 2);
                at = pages.end;
            }
            assert_int_equal(at % HUGE_PAGE, 0);
        }
        nodes_close(&m);
    }
}

/* ---- the pool ---- */

enum { THREADS = 4, TASKS = 40 };

struct claims {
    const struct nodes *nodes;
    atomic_int *n_done;
    atomic_int *n_started; /* workers with a task */
    atomic_bool *began;    /* [THREADS] */
    atomic_int *first;     /* [THREADS] each worker's first task */
    atomic_int *worker;    /* [TASKS] who did it */
};

static int32_t node_of_task(const struct nodes *m, int32_t task)
{
    int32_t node = 0;
    while (task >= nodes_part(m, node, TASKS).end)
        node++;
    return node;
}

/* Everybody keeps a first task until all have one. Then the workers of node 1 keep theirs until
 * all other tasks are done, so somebody else has to do them. */
static void claim_task(const void *arg, int32_t task, int32_t worker)
{
    const struct claims *c = arg;
    if (!atomic_exchange(&c->began[worker], true)) {
        atomic_store(&c->first[worker], task);
        atomic_fetch_add(c->n_started, 1);
        while (atomic_load(c->n_started) < THREADS)
            sched_yield();
        while (worker > 0 && nodes_of_thread(c->nodes, worker) == 1 &&
               atomic_load(c->n_done) < TASKS - THREADS / 2)
            sched_yield();
    }
    atomic_store(&c->worker[task], worker);
    atomic_fetch_add(c->n_done, 1);
}

static void test_own_tasks_first(void **state)
{
    static const struct tree two = {"two",   "0-1\n", ALL,      {"0-511\n", "512-1023\n"},
                                    THREADS, 2,       {0, 2, 4}};
    struct nodes m = nodes_of(&two);
    struct pool *pool;
    (void)state;
    assert_int_equal(pool_open(&pool, &m), OK);
    for (int run = 0; run < 200; run++) {
        atomic_int n_done = 0;
        atomic_int n_started = 0;
        atomic_bool began[THREADS] = {false};
        atomic_int first[THREADS] = {0};
        atomic_int worker[TASKS];
        const struct claims c = {&m, &n_done, &n_started, began, first, worker};
        int32_t helped = 0;
        for (int i = 0; i < TASKS; i++)
            atomic_init(&worker[i], -1);
        pool_run(pool, TASKS, claim_task, &c);
        assert_int_equal(n_done, TASKS);
        for (int32_t i = 1; i < THREADS; i++)
            assert_int_equal(node_of_task(&m, first[i]), nodes_of_thread(&m, i));
        for (int32_t i = 0; i < TASKS; i++)
            helped += node_of_task(&m, i) == 1 && worker[i] < 2;
        /* All but the two that node 1's own threads sat on. */
        assert_int_equal(helped, TASKS / 2 - 2);
    }
    pool_close(pool);
    nodes_close(&m);
}

/* Where pages may be asked for of a node that is not there, the memory is good all the same. */
static void test_memory_of_no_such_node(void **state)
{
    static const struct tree two = {"two",   "0-1\n", ALL,      {"0-511\n", "512-1023\n"},
                                    THREADS, 2,       {0, 2, 4}};
    struct nodes m = nodes_of(&two);
    struct cpu_memory memory = {.nodes = &m};
    void *p;
    (void)state;
    assert_int_equal(cpu_memory_take(&memory, 5 * (size_t)HUGE_PAGE, &p), OK);
    nodes_place(&m, p, 5 * (size_t)HUGE_PAGE);
    memset(p, 1, 5 * (size_t)HUGE_PAGE);
    cpu_memory_give(&memory, p);
    assert_null(memory.regions);
    nodes_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_there_is),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_own_tasks_first),
        cmocka_unit_test(test_memory_of_no_such_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#ifndef TESTS_ARM_CMOCKA_H
#define TESTS_ARM_CMOCKA_H

/* As much of cmocka as the tests of the kernels use, for tests/arm.sh: a distribution has the real
 * one for its own machine only. A test that fails ends the program with status 1. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*run)(void **state);
};

#define cmocka_unit_test(test)                                                                     \
    {                                                                                              \
#test, test                                                                                \
    }

static inline void cmocka_check(int holds, const char *what, const char *file, int line)
{
    if (holds)
        return;
    (void)fprintf(stderr, "%s:%d: %s\n", file, line, what);
    exit(1);
}

#define fail_msg(...)                                                                              \
    ((void)fprintf(stderr, __VA_ARGS__), cmocka_check(0, "failed", __FILE__, __LINE__))
#define print_message(...)     ((void)printf(__VA_ARGS__))
#define assert_true(c)         cmocka_check(!!(c), #c, __FILE__, __LINE__)
#define assert_non_null(p)     cmocka_check((p) != NULL, #p, __FILE__, __LINE__)
#define assert_int_equal(a, b) cmocka_check((a) == (b), #a " == " #b, __FILE__, __LINE__)
#define assert_memory_equal(a, b, n)                                                               \
    cmocka_check(memcmp(a, b, n) == 0, #a " and " #b " differ", __FILE__, __LINE__)

static inline int cmocka_run(const struct CMUnitTest *tests, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        void *state = NULL;
        tests[i].run(&state);
        (void)printf("passed: %s\n", tests[i].name);
    }
    return 0;
}

#define cmocka_run_group_tests(tests, before, after)                                               \
    ((void)(before), (void)(after), cmocka_run(tests, sizeof(tests) / sizeof((tests)[0])))

#endif

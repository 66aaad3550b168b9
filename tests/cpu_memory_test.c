#include "kernels/cpu_memory.h"
#include "tests/ops_rig.h"

/* Aim: what the cpu backend hands out is aligned, zero and nobody else's, whatever was there
 * before, and nothing is left mapped when all is given back. Negative space: nothing, one byte,
 * around the size where mapping begins, more than a region, sizes that overflow, pieces given
 * back first to last, last to first and in the middle. */

enum { PIECES = 12, ROUNDS = 4 };

static const struct nodes one = {.n = 1, .threads_before = {0, 1}};

static const size_t sizes[PIECES] = {
    0,
    1,
    64,
    (1 << 20) - 65,
    (1 << 20) - 64,
    1 << 20,
    3 << 20,
    (2 << 20) + 1,
    5000000,
    (size_t)300 << 20,
    40 << 20,
    7,
};

static void *take_zeroed(struct cpu_memory *m, size_t bytes)
{
    void *p;
    assert_int_equal(cpu_memory_take(m, bytes, &p), OK);
    assert_int_equal((uintptr_t)p % 64, 0);
    /* Of the largest only the ends and some pages: all of it would be touched otherwise. */
    const char *at = p;
    size_t step = bytes > ((size_t)64 << 20) ? 999983 : 61;
    for (size_t i = 0; i < bytes; i += step)
        assert_int_equal(at[i], 0);
    if (bytes > 0)
        assert_int_equal(at[bytes - 1], 0);
    return p;
}

static void mark(void *p, size_t bytes, int value)
{
    size_t edge = bytes < 100000 ? bytes : 100000;
    memset(p, value, edge);
    memset((char *)p + bytes - edge, value, edge);
}

static void check_mark(const void *p, size_t bytes, int value)
{
    const unsigned char *at = p;
    if (bytes == 0)
        return;
    assert_int_equal(at[0], value);
    assert_int_equal(at[bytes - 1], value);
}

static void test_pieces(void **state)
{
    (void)state;
    struct cpu_memory m = {.nodes = &one};
    void *piece[PIECES];
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < PIECES; i++) {
            piece[i] = take_zeroed(&m, sizes[i]);
            mark(piece[i], sizes[i], (int)i + 1);
        }
        /* Every third one again, while the others live. */
        for (size_t i = (size_t)round % 3; i < PIECES; i += 3) {
            cpu_memory_give(&m, piece[i]);
            piece[i] = take_zeroed(&m, sizes[i]);
            mark(piece[i], sizes[i], (int)i + 1);
        }
        for (size_t i = 0; i < PIECES; i++)
            check_mark(piece[i], sizes[i], (int)i + 1);
        for (size_t i = 0; i < PIECES; i++)
            cpu_memory_give(&m, piece[round % 2 ? i : PIECES - 1 - i]);
        assert_null(m.regions);
    }
    cpu_memory_give(&m, NULL);
}

/* The last piece is cut off and cut again: the same place, and zeros. */
static void test_last(void **state)
{
    (void)state;
    struct cpu_memory m = {.nodes = &one};
    void *first = take_zeroed(&m, 2 << 20);
    for (int i = 0; i < 50; i++) {
        void *last = take_zeroed(&m, 3 << 20);
        assert_true((char *)last > (char *)first && (char *)last < (char *)first + (4 << 20));
        mark(last, 3 << 20, 7);
        cpu_memory_give(&m, last);
    }
    cpu_memory_give(&m, first);
    assert_null(m.regions);
}

static void test_too_much(void **state)
{
    (void)state;
    static const size_t much[] = {SIZE_MAX, SIZE_MAX - 64, SIZE_MAX - 4096, SIZE_MAX / 2 + 1,
                                  (size_t)1 << 60};
    struct cpu_memory m = {.nodes = &one};
    void *p;
    for (size_t i = 0; i < ARRAY_LEN(much); i++)
        assert_int_equal(cpu_memory_take(&m, much[i], &p), E_NOMEM);
    assert_null(m.regions);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_last),
        cmocka_unit_test(test_too_much),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Aim: KV blocks are conserved and the prefix cache never lies. Negative space: taking more
 * than there is, prefixes that differ in an early block only, equal tokens under another
 * salt, a twin sealed while the first is held, eviction in the middle of a chain, blocks
 * that were forgotten. A random walk is compared with a list of prefixes kept by hand. */
#include "scheduler/blocks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BT = 4 };

static struct blocks *open_blocks(int32_t n)
{
    struct blocks *b;
    assert_int_equal(blocks_open(&b, n, BT), OK);
    return b;
}

/* Takes, fills and seals n blocks of tokens; what a request would do. */
static struct prefix fill(struct blocks *b, uint64_t salt, const int32_t *tokens, int32_t n,
                          int32_t *table)
{
    struct prefix at = {.salt = salt};
    assert_true(blocks_take(b, n, table));
    for (int32_t i = 0; i < n; i++)
        blocks_seal(b, &at, tokens + i * BT, &table[i]);
    return at;
}

static int32_t match(struct blocks *b, uint64_t salt, const int32_t *tokens, int32_t n,
                     int32_t *table)
{
    struct prefix at = {.salt = salt};
    return blocks_match(b, &at, tokens, n, table);
}

static void test_open(void **state)
{
    (void)state;
    static const struct {
        int32_t n_blocks;
        int32_t block_tokens;
        enum status want;
    } rows[] = {
        {1, 1, OK},          {7, 16, OK},        {0, 16, E_INVALID},
        {-1, 16, E_INVALID}, {16, 0, E_INVALID}, {INT32_MAX, 16, E_INVALID},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct blocks *b;
        assert_int_equal(blocks_open(&b, rows[i].n_blocks, rows[i].block_tokens), rows[i].want);
        if (rows[i].want == OK)
            assert_int_equal(blocks_available(b), rows[i].n_blocks);
        blocks_close(b);
    }
    blocks_close(NULL);
}

static void test_take_is_all_or_none(void **state)
{
    (void)state;
    struct blocks *b = open_blocks(3);
    int32_t table[4];
    assert_false(blocks_take(b, 4, table));
    assert_int_equal(blocks_available(b), 3);
    assert_true(blocks_take(b, 2, table));
    assert_false(blocks_take(b, 2, table + 2));
    assert_true(blocks_take(b, 1, table + 2));
    assert_true(blocks_take(b, 0, table + 3));
    assert_true(table[0] != table[1] && table[1] != table[2] && table[0] != table[2]);
    assert_int_equal(blocks_held(b), 3);
    assert_true(blocks_check(b, 3));
    assert_false(blocks_check(b, 2));
    blocks_drop(b, table, 3);
    assert_int_equal(blocks_available(b), 3);
    assert_true(blocks_check(b, 0));
    blocks_close(b);
}

static void test_match(void **state)
{
    (void)state;
    static const int32_t kept[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    static const struct {
        uint64_t salt;
        int32_t n;
        int32_t tokens[12];
        int32_t want;
    } rows[] = {
        {0, 12, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, 3},
        {0, 11, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, 2},
        {0, 3, {1, 2, 3, 4}, 0},
        {0, 0, {1}, 0},
        {0, 12, {1, 2, 3, 4, 5, 6, 7, 0, 9, 10, 11, 12}, 1},
        {0, 12, {0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, 0},
        {0, 4, {5, 6, 7, 8}, 0}, /* the second block is not a first one */
        {1, 12, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, 0},
    };
    struct blocks *b = open_blocks(4);
    int32_t table[3];
    fill(b, 0, kept, 3, table);
    blocks_drop(b, table, 3);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int32_t got[3];
        int32_t n = match(b, rows[i].salt, rows[i].tokens, rows[i].n, got);
        assert_int_equal(n, rows[i].want);
        assert_memory_equal(got, table, (size_t)n * sizeof(*got));
        assert_int_equal(blocks_held(b), n);
        assert_true(blocks_check(b, n));
        blocks_drop(b, got, n);
    }
    blocks_close(b);
}

static void test_twin_is_shared(void **state)
{
    (void)state;
    static const int32_t tokens[] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct blocks *b = open_blocks(4);
    int32_t one[2];
    int32_t two[2];
    fill(b, 9, tokens, 2, one);
    assert_true(blocks_take(b, 2, two));
    assert_int_equal(blocks_available(b), 0);
    struct prefix at = {.salt = 9};
    blocks_seal(b, &at, tokens, &two[0]);
    blocks_seal(b, &at, tokens + BT, &two[1]);
    assert_memory_equal(one, two, sizeof(one));
    assert_int_equal(blocks_available(b), 2);
    assert_true(blocks_check(b, 4));
    blocks_drop(b, one, 2);
    assert_int_equal(blocks_held(b), 2);
    blocks_drop(b, two, 2);
    assert_true(blocks_check(b, 0));
    blocks_close(b);
}

static void test_oldest_goes_first(void **state)
{
    (void)state;
    static const int32_t old[] = {1, 2, 3, 4, 5, 6, 7, 8};
    static const int32_t young[] = {21, 22, 23, 24, 25, 26, 27, 28};
    struct blocks *b = open_blocks(4);
    int32_t table[4];
    fill(b, 0, old, 2, table);
    fill(b, 0, young, 2, table + 2);
    blocks_drop(b, table, 2);
    blocks_drop(b, table + 2, 2);
    int32_t got[4];
    assert_true(blocks_take(b, 1, got)); /* the end of the old chain, not its root */
    assert_int_equal(match(b, 0, old, 8, got + 1), 1);
    assert_int_equal(match(b, 0, young, 8, got + 2), 2);
    assert_false(blocks_take(b, 1, table));
    assert_true(blocks_check(b, 4));
    blocks_drop(b, got, 4);
    assert_int_equal(blocks_available(b), 4);
    blocks_close(b);
}

static void test_forgotten_is_not_found(void **state)
{
    (void)state;
    static const int32_t tokens[] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct blocks *b = open_blocks(4);
    int32_t one[2];
    int32_t two[2];
    fill(b, 0, tokens, 2, one);
    assert_int_equal(match(b, 0, tokens, 4, two), 1);
    blocks_forget(b, one, 2);
    blocks_forget(b, one, 2);
    assert_int_equal(match(b, 0, tokens, 8, two + 1), 0);
    blocks_drop(b, one, 2);
    assert_true(blocks_check(b, 1));
    blocks_drop(b, two, 1);
    assert_int_equal(match(b, 0, tokens, 8, two), 0);
    assert_true(blocks_check(b, 0));
    blocks_close(b);
}

/* The random walk: holders of chains over three tokens, so that prefixes meet all the time,
 * in so few blocks that eviction never rests. content[] is what a device would hold. */

enum { WALK_BLOCKS = 24, HOLDERS = 6, CHAIN_MAX = 6, WALK_STEPS = 20000 };

struct holder {
    uint64_t salt;
    int32_t tokens[CHAIN_MAX * BT];
    int32_t table[CHAIN_MAX];
    int32_t n;
};

struct cell {
    uint64_t salt;
    int32_t depth;
    int32_t tokens[CHAIN_MAX * BT];
};

static uint32_t draw(uint32_t *rng, uint32_t below)
{
    *rng = *rng * 1664525u + 1013904223u;
    return (*rng >> 8) % below;
}

static bool holds(const struct cell *c, const struct holder *h, int32_t depth)
{
    return c->salt == h->salt && c->depth == depth &&
           !memcmp(c->tokens, h->tokens, (size_t)(depth + 1) * BT * sizeof(int32_t));
}

static void acquire(struct blocks *b, struct holder *h, struct cell *content, uint32_t *rng)
{
    struct prefix at = {.salt = draw(rng, 2)};
    int32_t want = 1 + (int32_t)draw(rng, CHAIN_MAX);
    h->salt = at.salt;
    for (int32_t i = 0; i < CHAIN_MAX * BT; i++)
        h->tokens[i] = i % BT ? 7 : (int32_t)draw(rng, 3);
    h->n = blocks_match(b, &at, h->tokens, want * BT, h->table);
    for (int32_t i = 0; i < h->n; i++)
        assert_true(holds(&content[h->table[i]], h, i));
    for (; h->n < want && blocks_take(b, 1, &h->table[h->n]); h->n++) {
        struct cell *c = &content[h->table[h->n]];
        c->salt = h->salt;
        c->depth = h->n;
        memcpy(c->tokens, h->tokens, sizeof(c->tokens));
        blocks_seal(b, &at, h->tokens + h->n * BT, &h->table[h->n]);
        assert_true(holds(&content[h->table[h->n]], h, h->n));
    }
}

static void test_random_walk(void **state)
{
    (void)state;
    struct blocks *b = open_blocks(WALK_BLOCKS);
    static struct holder holder[HOLDERS];
    static struct cell content[WALK_BLOCKS];
    uint32_t rng = 1;
    int32_t n_found = 0;
    for (int32_t step = 0; step < WALK_STEPS; step++) {
        struct holder *h = &holder[draw(&rng, HOLDERS)];
        for (int32_t i = 0; i < h->n; i++)
            assert_true(holds(&content[h->table[i]], h, i));
        if (h->n > 0 && draw(&rng, 10) == 0)
            blocks_forget(b, h->table, h->n);
        blocks_drop(b, h->table, h->n);
        n_found += h->n;
        h->n = 0;
        if (draw(&rng, 4))
            acquire(b, h, content, &rng);
        int64_t n_refs = 0;
        for (int32_t i = 0; i < HOLDERS; i++)
            n_refs += holder[i].n;
        assert_true(blocks_check(b, n_refs));
    }
    assert_true(n_found > WALK_STEPS);
    for (int32_t i = 0; i < HOLDERS; i++)
        blocks_drop(b, holder[i].table, holder[i].n);
    assert_int_equal(blocks_held(b), 0);
    blocks_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_take_is_all_or_none),
        cmocka_unit_test(test_match),
        cmocka_unit_test(test_twin_is_shared),
        cmocka_unit_test(test_oldest_goes_first),
        cmocka_unit_test(test_forgotten_is_not_found),
        cmocka_unit_test(test_random_walk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

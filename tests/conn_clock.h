#ifndef TESTS_CONN_CLOCK_H
#define TESTS_CONN_CLOCK_H

/* The clock by which connections are judged, in the hands of the test: it stands until it is moved,
 * so what a busy machine does to the test is no part of a limit. The timer that looks at the clock
 * runs on in real time. The linker puts __wrap_uv_now() in the place of uv_now(); to be included by
 * one file, whose program is linked so (tests/tests.cmake). */
#include "tests/conn_rig.h"

static struct {
    uint64_t ms;
    uint64_t n_asked;
} server_clock = {.ms = 1000000};

uint64_t __wrap_uv_now(const uv_loop_t *loop);

uint64_t __wrap_uv_now(const uv_loop_t *loop)
{
    (void)loop;
    server_clock.n_asked++;
    return server_clock.ms;
}

/* Returns when the server has looked at its clock; it does not while nobody is connected. */
static inline void clock_looked_at(struct rig *g)
{
    uint64_t until = clock_ms() + PATIENCE_MS;
    uint64_t before = server_clock.n_asked;
    while (server_clock.n_asked == before && conn_set_count(g->set)) {
        rig_turn(g);
        usleep(200);
        assert_true(clock_ms() < until);
    }
    rig_turn(g);
}

static inline void clock_move(struct rig *g, uint64_t ms)
{
    server_clock.ms += ms;
    clock_looked_at(g);
}

/* Until the client sees the end; returns how far the clock was moved. */
static inline uint64_t clock_move_to_end(struct rig *g, struct client *c, uint64_t most)
{
    uint64_t start = server_clock.ms;
    for (client_read(c); !c->ended && !c->reset; client_read(c)) {
        assert_true(server_clock.ms - start <= most);
        clock_move(g, 20);
    }
    return server_clock.ms - start;
}

#endif

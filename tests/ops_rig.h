#ifndef TESTS_OPS_RIG_H
#define TESTS_OPS_RIG_H

#include "kernels/ops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* What the tests of the operations share: a backend by name, memory on it, and
 * random numbers. The tests run on "cpu"; FIRSTLIGHT_BACKEND=cuda runs the same
 * cases on the device, with wider bounds where its products are 16 bit. */

struct rig {
    struct ops *o;
    bool cpu;
};

static inline const char *rig_backend(void)
{
    const char *name = getenv("FIRSTLIGHT_BACKEND");
    return name && *name ? name : "cpu";
}

static inline struct rig rig_open(int32_t threads)
{
    struct rig rig = {0};
    char err[256];
    const struct ops_options opt = {.backend = rig_backend(), .threads = threads};
    enum status status = ops_open(&rig.o, &opt, err, sizeof(err));
    if (status)
        fail_msg("%s: %s", rig_backend(), err);
    rig.cpu = strcmp(rig.o->name, "cpu") == 0;
    return rig;
}

static inline void rig_close(struct rig *rig)
{
    rig->o->close(rig->o);
}

static inline void rig_begin(struct rig *rig)
{
    assert_true(rig->o->step_begin(rig->o, NULL));
}

static inline void rig_end(struct rig *rig)
{
    assert_true(rig->o->step_end(rig->o));
    rig->o->step_launch(rig->o);
    assert_int_equal(rig->o->step_wait(rig->o), OK);
}

/* Backend memory holding a copy of src, or zeros when src is NULL. */
static inline void *rig_put(struct rig *rig, const void *src, size_t bytes)
{
    void *p;
    assert_int_equal(rig->o->alloc(rig->o, bytes ? bytes : 1, &p), OK);
    if (src)
        rig->o->upload(rig->o, p, src, bytes);
    return p;
}

/* Host memory with a copy of src, which is released; the caller frees. */
static inline void *rig_take(struct rig *rig, void *src, size_t bytes)
{
    void *dst = malloc(bytes ? bytes : 1);
    assert_non_null(dst);
    rig->o->download(rig->o, dst, src, bytes);
    rig->o->release(rig->o, src);
    return dst;
}

/* xorshift64*: enough for test data. */
static inline uint64_t random_bits(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545F4914F6CDD1Du;
}

/* (-1, 1) */
static inline float random_float(uint64_t *state)
{
    return (float)((int64_t)random_bits(state) >> 40) / 8388608.0f;
}

static inline int32_t random_below(uint64_t *state, int32_t n)
{
    return (int32_t)(random_bits(state) >> 33) % n;
}

static inline float *random_floats(size_t n, uint64_t seed)
{
    uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
    float *x = malloc((n ? n : 1) * sizeof(*x));
    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = random_float(&state);
    return x;
}

/* -127 .. 127, as weights and activations are. */
static inline int8_t *random_q8(size_t n, uint64_t seed)
{
    uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
    int8_t *q = malloc(n ? n : 1);
    assert_non_null(q);
    for (size_t i = 0; i < n; i++)
        q[i] = (int8_t)(random_below(&state, 255) - 127);
    return q;
}

static inline void assert_near(double got, double want, double bound, const char *what, size_t at)
{
    if (!(fabs(got - want) <= bound))
        fail_msg("%s [%zu]: %.9g, expected %.9g within %.3g", what, at, got, want, bound);
}

#endif

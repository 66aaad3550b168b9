/* Aim: opening a scheduler and submitting to it fail cleanly wherever memory or a thread is
 * refused: the right status, nothing leaked, the next try works, and what is taken is what
 * was foretold. The floor's sources are
 * compiled into this program with their allocations counted. Negative space: the n-th
 * allocation for every n up to success; and after the opening the engine asks for none. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static int32_t n_allowed;
static int32_t n_asked;
static size_t bytes_asked;

static void *counted_calloc(size_t n, size_t size)
{
    n_asked++;
    bytes_asked += n * size;
    return n_allowed-- > 0 ? calloc(n, size) : NULL;
}

static int counted_thread(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
                          void *arg)
{
    n_asked++;
    return n_allowed-- > 0 ? pthread_create(thread, attr, run, arg) : 1;
}

#define calloc         counted_calloc
#define pthread_create counted_thread
#include "scheduler/admit.c"
#include "scheduler/blocks.c"
#include "scheduler/cost.c"
#include "scheduler/due.c"
#include "scheduler/plan.c"
#include "scheduler/plan_rows.c"
#include "scheduler/queue.c"
#include "scheduler/request.c"
#include "scheduler/sched.c"
#include "scheduler/step.c"
#undef calloc
#undef pthread_create

#include "tests/fake_model.h"

static const struct sched_options options = {
    .live_max = 4,
    .step_seqs_max = 4,
    .step_rows_max = 8,
    .prefix_cache = true,
};

static void no_wake(void *arg)
{
    (void)arg;
}

static void read_to_the_end(struct sched *s, struct sched_req *r)
{
    struct sched_news news;
    do {
        sched_read(s, r, &news);
        sched_yield();
    } while (news.finish == SCHED_RUNNING);
    assert_int_equal(news.finish, SCHED_LENGTH);
    sched_release(s, r);
}

static void test_nth_allocation(void **state)
{
    (void)state;
    static const int32_t prompt[] = {1, 2, 3, 4, 5};
    const struct sched_params params = {
        .max_new_tokens = 20,
        .sampling = {.top_p = 1, .repetition = 2, .n_logprobs = 1},
    };
    struct model *m = fake_open(32, 4, 64, 8, 4);
    struct sched *s = NULL;
    struct sched_req *r = NULL;
    int32_t n = 0;
    for (;; n++) {
        n_allowed = n;
        bytes_asked = 0;
        if (sched_open(&s, m, &options, no_wake, NULL) == OK)
            break;
        assert_null(s);
        assert_true(n < 100);
    }
    assert_true(n > 10);
    assert_int_equal(bytes_asked, sched_bytes(model_info(m), &options));
    n_allowed = 0;
    assert_int_equal(sched_submit(s, &params, prompt, 5, NULL, &r), E_NOMEM);
    assert_null(r);
    n_allowed = 1;
    n_asked = 0;
    assert_int_equal(sched_submit(s, &params, prompt, 5, NULL, &r), OK);
    read_to_the_end(s, r);
    sched_close(s);
    assert_int_equal(n_asked, 1);
    model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nth_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

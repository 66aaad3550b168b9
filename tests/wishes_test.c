/* Aim: what headers ask for arrives as numbers, and nonsense in them is as if it were not there.
 * Negative space: several deadlines at once, units, infinities, text behind a number, a load
 * report nobody asked for. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/request.h"
#include "server/wishes.h"

#include <stdio.h>
#include <string.h>

#define MS 1000000u

static const struct conn_limits limits = {
    .head_bytes_max = 16384,
    .head_fields_max = 64,
    .target_bytes_max = 2048,
    .body_bytes_max = 1024,
    .bodies_bytes_max = 1024,
};

static struct wishes read_lines(const char *lines)
{
    struct request *r = NULL;
    char text[1024];
    struct exchange x = {.arrived_ns = 0};
    (void)snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", lines);
    assert_int_equal(request_open(&r, &limits), OK);
    (void)request_feed(r, text, strlen(text));
    assert_int_equal(r->state, REQUEST_DONE);
    wishes_read(&x, &r->view);
    request_close(r);
    return x.wish;
}

static void numbers(void **state)
{
    static const struct {
        const char *lines;
        uint64_t budget_ns;
        uint64_t slo_ns;
        uint64_t patience_ns;
    } rows[] = {
        {"", 0, 0, 0},
        {"X-Stainless-Timeout: 600\r\n", 0, 0, 600000u * (uint64_t)MS},
        {"X-Stainless-Timeout: 0.5\r\n", 0, 0, 500 * MS},
        {"x-request-deadline-ms: 250\r\n", 250 * MS, 0, 0},
        {"x-request-deadline-ms: 250\r\nX-Stainless-Timeout: 60\r\n", 250 * MS, 0,
         60000u * (uint64_t)MS},
        {"x-request-deadline-ms: 1e300\r\n", 86400000u * (uint64_t)MS, 0, 0},
        {"x-request-deadline-ms: -5\r\n", 0, 0, 0},
        {"x-request-deadline-ms: 0\r\n", 0, 0, 0},
        {"x-request-deadline-ms: 5s\r\n", 0, 0, 0},
        {"x-request-deadline-ms: nan\r\n", 0, 0, 0},
        {"x-request-deadline-ms: inf\r\n", 0, 0, 0},
        {"x-request-deadline-ms: 1e999\r\n", 0, 0, 0},
        {"x-request-deadline-ms:\r\n", 0, 0, 0},
        {"x-slo-ttft-ms: 200\r\n", 0, 200 * MS, 0},
        {"x-llm-d-slo-ttft-ms: 100\r\nx-slo-ttft-ms: 200\r\n", 0, 100 * MS, 0},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct wishes w = read_lines(rows[i].lines);
        if (w.budget_ns != rows[i].budget_ns || w.ttft_slo_ns != rows[i].slo_ns ||
            w.patience_ns != rows[i].patience_ns)
            fail_msg("%s: %llu %llu %llu", rows[i].lines, (unsigned long long)w.budget_ns,
                     (unsigned long long)w.ttft_slo_ns, (unsigned long long)w.patience_ns);
    }
}

/* Keys, groups and salts keep apart what must be kept apart, and nothing else. */
static void tenants(void **state)
{
    struct exchange x = {.arrived_ns = 1000};
    struct gen_request a = {.priority = 3};
    struct gen_request b = {.salt = 5};
    (void)state;
    wishes_apply(&x, &a, 10);
    assert_true(a.params.client == 0 && a.params.cache_salt == 0 && a.params.priority == -3);
    assert_true(a.params.deadline_ns == 1000 + 10 * MS);
    wishes_apply(&x, &b, 10);
    assert_true(b.params.cache_salt != 0);
    uint64_t salted = b.params.cache_salt;
    x.holder.id = 77;
    x.wish.budget_ns = 3;
    wishes_apply(&x, &a, 10);
    wishes_apply(&x, &b, 10);
    assert_true(a.params.client != 0 && a.params.cache_salt != 0);
    assert_true(b.params.cache_salt != salted && b.params.cache_salt != a.params.cache_salt);
    assert_true(a.params.deadline_ns == 1003);
    x.wish.budget_ns = 0;
    x.wish.patience_ns = 7;
    wishes_apply(&x, &a, 10);
    assert_true(a.params.deadline_ns == 1007);
    a.stream = true;
    wishes_apply(&x, &a, 10);
    assert_true(a.params.deadline_ns == 1000 + 10 * MS);
    assert_true(read_lines("x-llm-d-inference-fairness-id: a\r\n").group !=
                read_lines("x-llm-d-inference-fairness-id: b\r\n").group);
    assert_true(read_lines("x-llm-d-inference-fairness-id:\r\n").group == 0);
}

static void load_lines(void **state)
{
    const struct sched_stats s = {.waiting = 3, .running = 2, .blocks_used = 1, .blocks_total = 4};
    struct exchange x = {.arrived_ns = 0};
    char line[LOAD_LINE_MAX];
    (void)state;
    wishes_load_line(line, &x, &s);
    assert_string_equal(line, "");
    x.wish = read_lines("endpoint-load-metrics-format: TEXT\r\n");
    wishes_load_line(line, &x, &s);
    assert_string_equal(line, "endpoint-load-metrics: TEXT named_metrics.kv_cache_usage_perc=0.25, "
                              "named_metrics.num_requests_waiting=3, "
                              "named_metrics.num_requests_running=2\r\n");
    x.wish = read_lines("endpoint-load-metrics-format: json\r\n");
    wishes_load_line(line, &x, &s);
    assert_string_equal(line, "endpoint-load-metrics: JSON {\"named_metrics\":{"
                              "\"kv_cache_usage_perc\":0.25,\"num_requests_waiting\":3,"
                              "\"num_requests_running\":2}}\r\n");
    x.wish = read_lines("endpoint-load-metrics-format: BIN\r\n");
    assert_int_equal(x.wish.load, LOAD_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers),
        cmocka_unit_test(tenants),
        cmocka_unit_test(load_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "server/metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Aim: what /metrics says is well formed and adds up. Negative space: values on and
 * beyond the bounds of a histogram, a scrape before anything has happened, families
 * written twice, more handlers than there is room for. */

static void write_all(struct buf *out, const struct metrics *m)
{
    const struct metrics_view view = {
        .n_models = 1,
        .model = {{.name = "demo",
                   .sched = {.running = 3,
                             .waiting = 2,
                             .blocks_used = 1,
                             .blocks_total = 4,
                             .block_tokens = 16}}},
        .kv_numbers = "q8",
        .backend = "cpu",
        .prefix_cache = true,
    };
    buf_clear(out);
    metrics_write(out, m, &view);
    buf_add(out, "", 1);
    assert_false(out->failed);
}

/* Value of the line that begins with this series. */
static double value_of(const struct buf *out, const char *series)
{
    size_t n = strlen(series);
    for (const char *line = out->data; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, series, n) == 0 && line[n] == ' ')
            return strtod(line + n + 1, NULL);
    }
    fail_msg("no series %s", series);
    return 0;
}

#define LABELS "{model_name=\"demo\",engine=\"0\"}"
#define OTHER  "{model_name=\"other\",engine=\"0\"}"
#define BUCKET "vllm:time_to_first_token_seconds_bucket{model_name=\"demo\",engine=\"0\",le="

static void gauges_of_routers(void **state)
{
    (void)state;
    static struct metrics m;
    struct buf out = {0};
    metrics_init(&m);
    write_all(&out, &m);
    assert_true(value_of(&out, "vllm:num_requests_running" LABELS) == 3);
    assert_true(value_of(&out, "vllm:num_requests_waiting" LABELS) == 2);
    assert_true(value_of(&out, "vllm:kv_cache_usage_perc" LABELS) == 0.25);
    assert_true(value_of(&out, "vllm:generation_tokens_total" LABELS) == 0);
    assert_non_null(strstr(out.data, "block_size=\"16\",num_gpu_blocks=\"4\""));
    buf_free(&out);
}

static void buckets(void **state)
{
    (void)state;
    static struct metrics m;
    struct buf out = {0};
    metrics_init(&m);
    metrics_add(&m.model[0], HIST_FIRST, 0);
    metrics_add(&m.model[0], HIST_FIRST, 0.001); /* on the bound: inside */
    metrics_add(&m.model[0], HIST_FIRST, 0.0011);
    metrics_add_n(&m.model[0], HIST_FIRST, 5000, 4);
    write_all(&out, &m);
    assert_true(value_of(&out, BUCKET "\"0.001\"}") == 2);
    assert_true(value_of(&out, BUCKET "\"0.005\"}") == 3);
    assert_true(value_of(&out, BUCKET "\"2560\"}") == 3);
    assert_true(value_of(&out, BUCKET "\"+Inf\"}") == 7);
    assert_true(value_of(&out, "vllm:time_to_first_token_seconds_count" LABELS) == 7);
    double sum = value_of(&out, "vllm:time_to_first_token_seconds_sum" LABELS);
    assert_true(sum > 20000.002 && sum < 20000.0022);
    buf_free(&out);
}

static void requests(void **state)
{
    (void)state;
    static struct metrics m;
    struct buf out = {0};
    metrics_init(&m);
    uint64_t now = now_ns();
    const struct sched_timing whole = {.submitted_ns = now - 4000,
                                       .scheduled_ns = now - 3000,
                                       .first_ns = now - 2000,
                                       .last_ns = now - 1000,
                                       .n_cached = 5};
    const struct sched_timing never = {.submitted_ns = now};
    metrics_request(&m.model[0], METRIC_STOP, 5e-6, &whole, 12, 3);
    metrics_request(&m.model[0], METRIC_ABORT, 5e-6, &never, 7, 0);
    write_all(&out, &m);
    assert_true(value_of(&out, "vllm:prompt_tokens_total" LABELS) == 19);
    assert_true(value_of(&out, "vllm:prompt_tokens_cached_total" LABELS) == 5);
    assert_true(value_of(&out, "vllm:request_queue_time_seconds_count" LABELS) == 1);
    assert_true(value_of(&out, "vllm:e2e_request_latency_seconds_count" LABELS) == 2);
    assert_true(value_of(&out, "vllm:request_success_total{model_name=\"demo\",engine=\"0\","
                               "finished_reason=\"abort\"}") == 1);
    assert_true(value_of(&out, "firstlight_cancelled_total{phase=\"waiting\"}") == 1);
    assert_true(value_of(&out, "firstlight_cancelled_total{phase=\"decode\"}") == 0);
    assert_true(value_of(&out, "vllm:request_prefill_kv_computed_tokens_sum" LABELS) == 14);
    assert_true(value_of(&out, "vllm:request_inference_time_seconds_count" LABELS) == 1);
    assert_true(value_of(&out, "vllm:request_time_per_output_token_seconds_count" LABELS) == 1);
    assert_true(value_of(&out, "vllm:prompt_tokens_by_source_total{model_name=\"demo\","
                               "engine=\"0\",source=\"local_cache_hit\"}") == 5);
    buf_free(&out);
}

static void answered(struct metrics *m, const char *handler, const char *method, int code)
{
    metrics_http(m, &(struct metric_http){.handler = handler,
                                          .method = method,
                                          .code = code,
                                          .bytes_in = 10,
                                          .bytes_out = 100,
                                          .seconds = 0.5});
}

static void handlers(void **state)
{
    (void)state;
    static char names[METRIC_HANDLERS_MAX + 8][8];
    static struct metrics m;
    struct buf out = {0};
    metrics_init(&m);
    answered(&m, "/x", "GET", 200);
    answered(&m, "/x", "GET", 204);
    answered(&m, "/x", "POST", 404);
    answered(&m, "/x", "POST", 9999);
    write_all(&out, &m);
    assert_true(value_of(&out, "http_requests_total{handler=\"/x\",method=\"GET\","
                               "status=\"2xx\"}") == 2);
    assert_true(value_of(&out, "http_requests_total{handler=\"/x\",method=\"POST\","
                               "status=\"4xx\"}") == 1);
    assert_true(value_of(&out, "http_request_size_bytes_sum{handler=\"/x\",method=\"GET\"}") == 20);
    assert_true(value_of(&out, "http_response_size_bytes_count{handler=\"/x\",method=\"POST\"}") ==
                2);
    assert_true(value_of(&out, "http_request_duration_seconds_bucket{handler=\"/x\","
                               "method=\"GET\",le=\"0.1\"}") == 0);
    assert_true(value_of(&out, "http_request_duration_seconds_bucket{handler=\"/x\","
                               "method=\"GET\",le=\"0.5\"}") == 2);
    assert_true(value_of(&out, "http_request_duration_highr_seconds_count") == 4);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        (void)snprintf(names[i], sizeof(names[i]), "/%zu", i);
        answered(&m, names[i], "GET", 200);
    }
    assert_int_equal(m.n_handlers, METRIC_HANDLERS_MAX);
    buf_free(&out);
}

/* The names that dashboards and routers look for. */
static void names_of_vllm(void **state)
{
    static const char *const gauges[] = {
        "vllm:num_requests_running", "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",  "vllm:num_requests_waiting_by_reason",
        "vllm:engine_sleep_state",   "vllm:cache_config_info",
        "vllm:lora_requests_info",
    };
    static const char *const counters[] = {
        "vllm:prefix_cache_queries", "vllm:prefix_cache_hits",    "vllm:num_preemptions",
        "vllm:prompt_tokens",        "vllm:prompt_tokens_cached", "vllm:prompt_tokens_by_source",
        "vllm:generation_tokens",    "vllm:request_success",      "vllm:admission_rejections",
    };
    static const char *const histograms[] = {
        "vllm:request_prompt_tokens",
        "vllm:request_generation_tokens",
        "vllm:request_max_num_generation_tokens",
        "vllm:request_params_max_tokens",
        "vllm:request_prefill_kv_computed_tokens",
        "vllm:iteration_tokens_total",
        "vllm:request_params_n",
        "vllm:time_to_first_token_seconds",
        "vllm:inter_token_latency_seconds",
        "vllm:request_time_per_output_token_seconds",
        "vllm:e2e_request_latency_seconds",
        "vllm:request_queue_time_seconds",
        "vllm:request_inference_time_seconds",
        "vllm:request_prefill_time_seconds",
        "vllm:request_decode_time_seconds",
    };
    static struct metrics m;
    struct buf out = {0};
    char line[128];
    (void)state;
    metrics_init(&m);
    write_all(&out, &m);
    for (size_t i = 0; i < ARRAY_LEN(gauges); i++) {
        (void)snprintf(line, sizeof(line), "# TYPE %s gauge\n%s{", gauges[i], gauges[i]);
        if (!strstr(out.data, line))
            fail_msg("no %s", line);
    }
    for (size_t i = 0; i < ARRAY_LEN(counters); i++) {
        (void)snprintf(line, sizeof(line), "# TYPE %s_total counter\n%s_total{", counters[i],
                       counters[i]);
        if (!strstr(out.data, line))
            fail_msg("no %s", line);
    }
    for (size_t i = 0; i < ARRAY_LEN(histograms); i++) {
        (void)snprintf(line, sizeof(line), "# TYPE %s histogram\n%s_bucket{", histograms[i],
                       histograms[i]);
        if (!strstr(out.data, line))
            fail_msg("no %s", line);
    }
    assert_non_null(strstr(out.data, "# TYPE vllm:prompt_tokens_created gauge\n"));
    assert_non_null(strstr(out.data, "# TYPE vllm:e2e_request_latency_seconds_created gauge\n"));
    buf_free(&out);
}

static int32_t count_of(const char *text, const char *what)
{
    int32_t n = 0;
    for (const char *at = strstr(text, what); at; at = strstr(at + 1, what))
        n++;
    return n;
}

/* Two models: every family of theirs once, with the series of both. */
static void two_models(void **state)
{
    (void)state;
    static struct metrics m;
    struct buf out = {0};
    const struct metrics_view view = {
        .n_models = 2,
        .model = {{.name = "demo", .sched = {.running = 3}},
                  {.name = "other", .sched = {.running = 1, .refused = {7}}}},
        .kv_numbers = "q8",
        .backend = "cpu",
    };
    metrics_init(&m);
    m.model[1].generation_tokens = 5;
    metrics_add(&m.model[1], HIST_FIRST, 0.5);
    metrics_write(&out, &m, &view);
    buf_add(&out, "", 1);
    assert_false(out.failed);
    assert_true(value_of(&out, "vllm:num_requests_running" LABELS) == 3);
    assert_true(value_of(&out, "vllm:num_requests_running" OTHER) == 1);
    assert_true(value_of(&out, "vllm:generation_tokens_total" LABELS) == 0);
    assert_true(value_of(&out, "vllm:generation_tokens_total" OTHER) == 5);
    assert_true(value_of(&out, "vllm:time_to_first_token_seconds_count" OTHER) == 1);
    assert_true(value_of(&out, "vllm:admission_rejections_total{model_name=\"other\",engine=\"0\","
                               "reason=\"max_num_queued_reqs\"}") == 7);
    assert_int_equal(count_of(out.data, "# TYPE vllm:num_requests_running gauge"), 1);
    assert_int_equal(count_of(out.data, "# HELP firstlight_steps_total "), 1);
    assert_int_equal(count_of(out.data, "# HELP process_cpu_seconds_total "), 1);
    buf_free(&out);
}

/* A family appears once, before its samples, and every line is a comment or a sample. */
static void form(void **state)
{
    (void)state;
    static struct metrics m;
    struct buf out = {0};
    static char seen[16384] = "";
    metrics_init(&m);
    answered(&m, "/x", "GET", 200);
    write_all(&out, &m);
    assert_int_equal(out.data[out.n - 2], '\n');
    for (char *line = out.data; *line;) {
        char *end = strchr(line, '\n');
        assert_non_null(end);
        *end = '\0';
        if (strncmp(line, "# TYPE ", 7) == 0) {
            char name[128] = " ";
            (void)snprintf(name, sizeof(name), " %.*s ", (int)strcspn(line + 7, " "), line + 7);
            assert_null(strstr(seen, name));
            assert_true(strlen(seen) + strlen(name) < sizeof(seen));
            strncat(seen, name, sizeof(seen) - strlen(seen) - 1);
        } else if (line[0] != '#') {
            char *number = strrchr(line, ' ');
            char *tail = NULL;
            assert_non_null(number);
            (void)strtod(number + 1, &tail);
            assert_int_equal(*tail, '\0');
        }
        line = end + 1;
    }
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gauges_of_routers), cmocka_unit_test(buckets),
        cmocka_unit_test(requests),          cmocka_unit_test(handlers),
        cmocka_unit_test(two_models),        cmocka_unit_test(form),
        cmocka_unit_test(names_of_vllm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
